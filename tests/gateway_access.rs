//! Who may call what, and that no tenant sees or moves anything of another: every route as it is declared in the served description.
#![cfg(feature = "serve")]

#[path = "support/gateway.rs"]
mod support;

use std::collections::BTreeSet;
use std::path::Path;

use serde_json::{Value, json};
use support::{ALL_ROLES, Answer, Connection, Gateway, add_key, add_tenant};
use tp_server::auth::secret::ApiKeyText;

const EUR: &str = r#""asset":"EUR","scale":2"#;
const ROLES: [&str; 5] = ["read", "authorize", "money_movement", "admin", "card_data"];

/// A route as the description declares it.
#[derive(Clone, Debug)]
struct Declared {
    method: String,
    path: String,
    /// `None`: public. `Some("")`: that of each command.
    role: Option<String>,
    is_operators: bool,
}

/// Every route of the served description, so that none can be forgotten here.
fn declared(gateway: &Gateway) -> Vec<Declared> {
    let description = gateway.send("GET", "/openapi.json", &[], "").json();
    let mut routes = Vec::new();
    for (path, methods) in description["paths"].as_object().expect("paths") {
        for (method, operation) in methods.as_object().expect("methods") {
            let text = operation["description"].as_str().unwrap_or_default();
            let role = text.strip_prefix("Role: ").map(|role| role.trim_end_matches('.').to_owned());
            let is_public = operation["security"] == json!([]);
            assert_eq!(role.is_none(), is_public, "{method} {path} says neither a role nor that it is public");
            routes.push(Declared {
                method: method.to_uppercase(),
                path: path.clone(),
                role: role.map(|role| if role == "that of each command" { String::new() } else { role }),
                is_operators: operation["summary"].as_str().expect("a summary").ends_with("(operator)"),
            });
        }
    }
    assert!(routes.len() >= 36, "{} routes", routes.len());
    routes
}

/// A path of that shape that names nothing.
fn of_nothing(path: &str) -> String {
    path.replace("/keys/{key}", "/keys/00000000000000aa")
        .replace("{account}", "999")
        .replace("{key}", "no-such-key")
        .replace("{authorization}", "0190a5d0-1111-8001-8000-000000000001")
        .replace("{approval}", "000000000000000000000000000000aa")
        .replace("{card}", "000000000000000000000000000000cc")
        .replace("{payer}", "7")
        .replace("{payee}", "8")
}

fn call(gateway: &Gateway, key: &str, method: &str, path: &str, body: &str) -> Answer {
    gateway.call(key, method, path, &[("idempotency-key", "some-key")], body)
}

/// The operator, two tenants and a key with every role of each.
struct World {
    _folder: tempfile::TempDir,
    gateway: Gateway,
    operator: String,
    one: String,
    two: String,
}

fn world() -> World {
    world_with(&[])
}

fn world_with(more: &[&str]) -> World {
    let folder = tempfile::tempdir().expect("a folder");
    let data = folder.path().join("data");
    let made = |tenant: &str, name: &str, person: &str| {
        add_tenant(&data, tenant, name);
        add_key(&data, tenant, person, ALL_ROLES, &[]).secret
    };
    let operator = made("0", "operator", "otto");
    let one = made("1", "planted-tenant-name", "planted-ada");
    let two = made("2", "two", "mallory");
    World { gateway: serve(&data, more), _folder: folder, operator, one, two }
}

fn serve(data: &Path, more: &[&str]) -> Gateway {
    let quiet = ["--set", "log.level=warn", "--set", "limits.failures_per_minute=100000"];
    Gateway::start(data, &[&quiet[..], more].concat())
}

fn open_account(gateway: &Gateway, key: &str, account: &str, more: &str) {
    let body = format!(r#"{{"account":"{account}",{EUR}{more}}}"#);
    let opened = gateway.command(key, "/v1/accounts", &format!("open-{account}"), &body);
    assert_eq!(opened.status, 201, "{}", opened.text);
}

fn new_key(gateway: &Gateway, key: &str, person: &str, role: &str) -> (String, String) {
    let body = json!({"person": person, "roles": [role]}).to_string();
    let made = gateway.call(key, "POST", "/v1/keys", &[], &body);
    assert_eq!(made.status, 201, "{}", made.text);
    let text = |name: &str| made.json()[name].as_str().expect("a text").to_owned();
    (text("key"), text("secret"))
}

fn posted(gateway: &Gateway, key: &str, account: &str) -> i64 {
    let shown = gateway.get(key, &format!("/v1/accounts/{account}")).json();
    shown["balances"]["posted"].as_str().expect("a balance").parse().expect("a number")
}

/// An answer without what is its request's alone.
fn alike(answer: &Answer) -> (u16, Vec<(String, String)>, Value) {
    let mut body = answer.json();
    body.as_object_mut().expect("an object").remove("trace_id").expect("a trace id");
    let headers = answer.headers.iter().filter(|(name, _)| name != "date").cloned().collect();
    (answer.status, headers, body)
}

#[test]
fn every_route_is_closed_to_whoever_cannot_prove_who_he_is_and_all_are_told_the_same() {
    let world = world();
    let gateway = &world.gateway;
    let (revoked_id, revoked) = new_key(gateway, &world.one, "rita", "admin");
    assert_eq!(gateway.get(&revoked, "/v1/keys").status, 200, "it was good before");
    assert_eq!(gateway.call(&world.one, "DELETE", &format!("/v1/keys/{revoked_id}"), &[], "").status, 200);
    let unknown = ApiKeyText::generate().expect("random").to_string();
    // The id of a good key with the secret of another.
    let wrong = format!("{}{}", &world.one[..21], &world.two[21..]);
    let malformed = world.one[..world.one.len() - 1].to_owned();
    let mut public = BTreeSet::new();
    for route in declared(gateway) {
        let path = of_nothing(&route.path);
        let anonymous = gateway.send(&route.method, &path, &[("idempotency-key", "k")], "");
        if route.role.is_none() {
            assert_eq!(anonymous.status, 200, "{} {path}", route.method);
            public.insert(route.path);
            continue;
        }
        assert_eq!(
            (anonymous.status, anonymous.outcome().as_str()),
            (401, "unauthenticated"),
            "{} {path}",
            route.method
        );
        for (what, key) in [("unknown", &unknown), ("wrong", &wrong), ("revoked", &revoked), ("malformed", &malformed)]
        {
            let refused = call(gateway, key, &route.method, &path, "");
            assert_eq!(alike(&refused), alike(&anonymous), "{what}: {} {path}", route.method);
        }
        // Operators' reads are served on the other listener as well; nothing else is.
        let mut admin = Connection::open(gateway.admin);
        admin.send(&route.method, &path, &[], "");
        let status = admin.answer().status;
        let is_read = route.role.as_deref() == Some("read") && route.method == "GET";
        assert_eq!(
            status,
            if is_read {
                401
            } else if status == 405 {
                405
            } else {
                404
            },
            "{} {path}",
            route.method
        );
    }
    let expected = ["/health/live", "/health/ready", "/openapi.json", "/version"];
    assert_eq!(public.iter().map(String::as_str).collect::<Vec<_>>(), expected);
    assert_eq!(gateway.get(&world.one, "/v1/tenant").status, 200, "the good key is still good");
}

#[test]
fn every_route_takes_exactly_the_role_that_it_declares() {
    let world = world();
    let gateway = &world.gateway;
    let keys: Vec<_> = ROLES.map(|role| (role, new_key(gateway, &world.one, &format!("only {role}"), role).1)).into();
    let (mut allowed, mut refused) = (0, 0);
    for route in declared(gateway) {
        let Some(declared) = route.role.as_deref() else { continue };
        let path = of_nothing(&route.path);
        for (role, key) in &keys {
            let answer = call(gateway, key, &route.method, &path, "{}");
            let may = (declared == *role || declared.is_empty()) && !route.is_operators;
            assert_eq!(answer.status != 403, may, "{role}: {} {path}: {}", route.method, answer.text);
            assert_eq!(answer.outcome() == "forbidden", !may, "{role}: {} {path}", route.method);
            if may { allowed += 1 } else { refused += 1 }
        }
        // All roles of a tenant do not make an operator; the operator's key does.
        let answer = call(gateway, &world.one, &route.method, &path, "{}");
        assert_eq!(answer.status == 403, route.is_operators, "{} {path}", route.method);
        let answer = call(gateway, &world.operator, &route.method, &path, "{}");
        assert_ne!(answer.status, 403, "{} {path}: {}", route.method, answer.text);
    }
    assert!(allowed >= 28 && refused >= 90, "{allowed} {refused}");
    assert_eq!(gateway.get(&world.operator, "/v1/tenants").json()["tenants"].as_array().map(Vec::len), Some(3));
}

/// A number that the schemes publish for tests, and another one.
const CARD_NUMBER: &str = "4111111111111111";
const OTHER_NUMBER: &str = "5555555555554444";

/// What tenant 1 has, and what nobody else may ever see of it.
struct Planted {
    account: &'static str,
    merchant: &'static str,
    authorization: String,
    capture: String,
    approval: String,
    card: String,
    key: String,
    marks: Vec<String>,
}

fn plant(world: &World) -> Planted {
    let (gateway, one) = (&world.gateway, &world.one);
    let (account, merchant) = ("77700011100", "77700022200");
    open_account(gateway, one, account, r#","credit_limit":"5000000","reference":"planted-reference-0""#);
    open_account(gateway, one, merchant, r#","metadata":{"planted-name":"planted-value"}"#);
    let body = format!(r#"{{"account":"{account}","amount":"120","reference":"planted-reference-1",{EUR}}}"#);
    let authorized = gateway.command(one, "/v1/authorizations", "planted-auth", &body).json();
    let authorization = authorized["authorization"].as_str().expect("an id").to_owned();
    let body = format!(r#"{{"payee":"{merchant}","amount":"50","reference":"planted-reference-2",{EUR}}}"#);
    let path = format!("/v1/authorizations/{authorization}/captures");
    let captured = gateway.command(one, &path, "planted-capture", &body).json();
    let capture = captured["transfer"].as_str().expect("an id").to_owned();
    let threshold = format!(r#"{{"amount":"31415926",{EUR}}}"#);
    assert_eq!(gateway.call(one, "PUT", "/v1/tenant/threshold", &[], &threshold).status, 200);
    let body = format!(r#"{{"account":"{account}","payee":"{merchant}","amount":"31415927",{EUR}}}"#);
    let asked = gateway.command(one, "/v1/transfers", "planted-transfer", &body);
    assert_eq!(asked.status, 202, "{}", asked.text);
    let approval = asked.json()["approval"].as_str().expect("an id").to_owned();
    let body = format!(r#"{{"card_number":"{CARD_NUMBER}","account":"{account}"}}"#);
    let added = gateway.call(one, "POST", "/v1/cards", &[], &body).json();
    let card = added["card"].as_str().expect("a token").to_owned();
    let masked = added["masked"].as_str().expect("a masked number").to_owned();
    let (key, secret) = new_key(gateway, one, "planted-person", "read");
    let mut marks: Vec<String> =
        ["planted", account, merchant, "31415926", "31415927", "5000000"].map(str::to_owned).into();
    marks.extend([authorization.clone(), capture.clone(), approval.clone(), key.clone(), secret, card.clone(), masked]);
    Planted { account, merchant, authorization, capture, approval, card, key, marks }
}

/// Everything that tenant 1 can see of itself.
fn everything_of(world: &World, planted: &Planted) -> Vec<Value> {
    let paths = [
        "/v1/accounts".to_owned(),
        format!("/v1/accounts/{}/statement", planted.account),
        format!("/v1/accounts/{}/statement", planted.merchant),
        format!("/v1/accounts/{}/commands/planted-auth", planted.account),
        format!("/v1/accounts/{}/commands/planted-transfer", planted.account),
        format!("/v1/accounts/{}/commands/not-yet", planted.account),
        format!("/v1/authorizations/{}", planted.authorization),
        format!("/v1/authorizations/{}/history", planted.authorization),
        "/v1/approvals".to_owned(),
        "/v1/cards".to_owned(),
        "/v1/keys".to_owned(),
        "/v1/tenant".to_owned(),
    ];
    let seen = paths.iter().map(|path| world.gateway.get(&world.one, path).json());
    seen.map(|mut value| {
        if let Some(object) = value.as_object_mut() {
            object.remove("trace_id");
        }
        value
    })
    .collect()
}

/// The path and bodies of a route that name what is tenant 1's, wherever something can be named. No route may be missing here.
fn attacks(route: &Declared, planted: &Planted) -> (String, Vec<String>) {
    let Planted { account, merchant, authorization, capture, approval, card, key, .. } = planted;
    let path = route
        .path
        .replace("/keys/{key}", &format!("/keys/{key}"))
        .replace("{account}", account)
        .replace("{key}", "planted-auth")
        .replace("{authorization}", authorization)
        .replace("{approval}", approval)
        .replace("{card}", card)
        .replace("{payer}", "1")
        .replace("{payee}", "2");
    let batch_of = |command: &str| format!(r#"{{"commands":[{command}]}}"#);
    let bodies = match (route.method.as_str(), route.path.as_str()) {
        ("GET" | "DELETE", _)
        | (
            "POST",
            "/v1/accounts/{account}/close"
            | "/v1/accounts/{account}/commands/{key}/fence"
            | "/v1/approvals/{approval}/approve"
            | "/v1/approvals/{approval}/reject"
            | "/v1/cards/{card}/reveal",
        ) => vec![],
        ("POST", "/v1/accounts") => vec![format!(r#"{{"account":"1:{account}",{EUR}}}"#)],
        // The number of another's card on an account of one's own: that is a card of one's own. It is no mark for that reason.
        ("POST", "/v1/cards") => vec![
            format!(r#"{{"card_number":"{OTHER_NUMBER}","account":"1:{account}"}}"#),
            format!(r#"{{"card_number":"{CARD_NUMBER}x","account":"5"}}"#),
        ],
        ("PATCH", "/v1/cards/{card}") => vec![r#"{"status":"closed"}"#.to_owned()],
        ("PATCH", "/v1/accounts/{account}") => vec![r#"{"status":"frozen"}"#.to_owned()],
        ("POST", "/v1/authorizations") => {
            ["", "1:"].map(|whose| format!(r#"{{"account":"{whose}{account}","amount":"1",{EUR}}}"#)).into()
        }
        ("POST", "/v1/authorizations/{authorization}/increments") => vec![format!(r#"{{"amount":"1",{EUR}}}"#)],
        ("POST", "/v1/authorizations/{authorization}/captures") => ["5", &format!("1:{merchant}"), merchant]
            .map(|payee| format!(r#"{{"payee":"{payee}","amount":"1",{EUR}}}"#))
            .into(),
        ("POST", "/v1/authorizations/{authorization}/voids") => vec!["{}".to_owned()],
        ("POST", "/v1/refunds") => vec![
            format!(r#"{{"capture":"{capture}","amount":"1",{EUR}}}"#),
            format!(r#"{{"authorization":"{authorization}","amount":"1",{EUR}}}"#),
        ],
        ("POST", "/v1/reversals") => ["planted-auth", "planted-capture", "not-yet"]
            .map(|original| format!(r#"{{"account":"{account}","original":"{original}"}}"#))
            .into(),
        ("POST", "/v1/advices") => vec![
            format!(
                r#"{{"advice":"post","account":"5","payee":"6","authorization":"{authorization}","amount":"1",{EUR}}}"#
            ),
            format!(r#"{{"advice":"post","account":"{account}","payee":"5","amount":"1",{EUR}}}"#),
            format!(r#"{{"advice":"post","account":"5","payee":"1:{account}","amount":"1",{EUR}}}"#),
            format!(r#"{{"advice":"hold","account":"{account}","amount":"1",{EUR}}}"#),
        ],
        ("POST", "/v1/transfers") => vec![
            format!(r#"{{"account":"{account}","payee":"5","amount":"1",{EUR}}}"#),
            format!(r#"{{"account":"1:{account}","payee":"5","amount":"1",{EUR}}}"#),
            format!(r#"{{"account":"5","payee":"1:{account}","amount":"1",{EUR}}}"#),
        ],
        ("POST", "/v1/batches") => vec![batch_of(&format!(
            r#"{{"command":"capture","key":"b1","authorization":"{authorization}","payee":"5","amount":"1",{EUR}}},
                {{"command":"void","key":"b2","authorization":"{authorization}"}},
                {{"command":"refund","key":"b3","capture":"{capture}","amount":"1",{EUR}}},
                {{"command":"reverse","key":"b4","account":"{account}","original":"planted-auth"}},
                {{"command":"transfer","key":"b5","account":"{account}","payee":"5","amount":"1",{EUR}}},
                {{"command":"lookup","key":"planted-auth","account":"{account}"}},
                {{"command":"lookup","key":"not-yet","account":"{account}","fence":true}},
                {{"command":"increment","key":"b6","authorization":"{authorization}","amount":"1",{EUR}}}"#
        ))],
        ("PUT", "/v1/tenant/threshold") => vec![format!(r#"{{"amount":"1000",{EUR}}}"#)],
        ("POST", "/v1/keys") => vec![r#"{"person":"moe","roles":["read"]}"#.to_owned()],
        ("POST", "/v1/tenants") => vec![r#"{"tenant":1,"name":"mine now"}"#.to_owned()],
        ("POST", "/v1/agreements") => vec![r#"{"payer":1,"payee":2}"#.to_owned()],
        other => panic!("{other:?} is a new route: say here how another tenant would attack it"),
    };
    (path, bodies)
}

#[test]
fn a_tenant_sees_and_moves_nothing_of_another_on_any_route() {
    let world = world();
    let gateway = &world.gateway;
    for (account, more) in [("5", r#","credit_limit":"900""#), ("6", "")] {
        open_account(gateway, &world.two, account, more);
    }
    let planted = plant(&world);
    let before = everything_of(&world, &planted);
    let seen_by_itself = serde_json::to_string(&before).expect("JSON");
    for mark in planted.marks.iter().filter(|mark| !mark.starts_with("tpk_")) {
        assert!(seen_by_itself.contains(mark.as_str()), "{mark} is there to be found");
    }
    let mut reached = 0;
    for route in declared(gateway).iter().filter(|route| route.role.is_some()) {
        let (path, mut bodies) = attacks(route, &planted);
        if bodies.is_empty() {
            bodies.push(String::new());
        }
        for (number, body) in bodies.iter().enumerate() {
            for address in [gateway.listen, gateway.admin] {
                let bearer = format!("Bearer {}", world.two);
                let key = format!("attack-{number}");
                let mut connection = Connection::open(address);
                let headers = [("authorization", bearer.as_str()), ("idempotency-key", &key)];
                connection.send(&route.method, &path, &headers, body);
                let answer = connection.answer();
                reached += 1;
                let whole = format!("{:?} {}", answer.headers, answer.text);
                for mark in &planted.marks {
                    assert!(!whole.contains(mark.as_str()), "{} {path} {body} shows {mark}: {whole}", route.method);
                }
                // The operator sees tenants, and nothing within them.
                if address == gateway.listen && !route.is_operators {
                    let answer =
                        gateway.call(&world.operator, &route.method, &path, &[("idempotency-key", &key)], body);
                    for mark in &planted.marks {
                        assert!(
                            !answer.text.contains(mark.as_str()),
                            "operator: {} {path} {body} shows {mark}",
                            route.method
                        );
                    }
                }
            }
        }
    }
    assert!(reached > 80, "{reached}");
    assert_eq!(everything_of(&world, &planted), before, "something of tenant 1 was changed");
    // An advice that names an authorization which this tenant does not have is booked without one: on its own accounts.
    assert_eq!((posted(gateway, &world.two, "5"), posted(gateway, &world.two, "6")), (-1, 1));
    // What tenant 2 did to its own accounts of the same names is its own: a fence of `planted-auth` forbids nothing of tenant 1's.
    let body = format!(r#"{{"account":"{}","amount":"7",{EUR}}}"#, planted.account);
    assert_eq!(gateway.command(&world.one, "/v1/authorizations", "not-yet", &body).status, 201);
}

#[test]
fn money_goes_to_another_tenant_only_as_long_as_an_agreement_says_so_and_only_one_way() {
    // Payer and payee in one partition, and (nearly always) in two: other events say so.
    for partitions in ["engine.partitions=1", "engine.partitions=8"] {
        let larger = "engine.segment_bytes=8388608"; // more partitions need larger ones
        money_between_tenants(&world_with(&["--set", partitions, "--set", larger]));
    }
}

fn money_between_tenants(world: &World) {
    let (gateway, one, two) = (&world.gateway, &world.one, &world.two);
    for (key, account) in [(one, "1"), (one, "2"), (two, "5"), (two, "6")] {
        open_account(gateway, key, account, r#","credit_limit":"10000""#);
    }
    let pay = |key: &str, name: &str, from: &str, to: &str| {
        let body = format!(r#"{{"account":"{from}","payee":"{to}","amount":"100","reference":"ref-{name}",{EUR}}}"#);
        gateway.command(key, "/v1/transfers", name, &body)
    };
    let refused = |answer: &Answer| {
        assert_eq!((answer.status, answer.outcome().as_str()), (403, "no_agreement"), "{}", answer.text);
    };
    let agree = |method: &str, path: &str, body: &str| gateway.call(&world.operator, method, path, &[], body).status;
    let post = format!(r#"{{"advice":"post","account":"1","payee":"2:5","amount":"100",{EUR}}}"#);
    refused(&pay(one, "t1", "1", "2:5"));
    refused(&gateway.command(one, "/v1/advices", "a1", &post));
    let bound = format!(r#"{{"account":"1","payee":"2:5","amount":"100",{EUR}}}"#);
    refused(&gateway.command(one, "/v1/authorizations", "h1", &bound));
    assert_eq!((posted(gateway, one, "1"), posted(gateway, two, "5")), (0, 0));

    assert_eq!(agree("POST", "/v1/agreements", r#"{"payer":1,"payee":2}"#), 201);
    // The key was not used up by the refusal.
    assert_eq!(pay(one, "t1", "1", "2:5").status, 201);
    assert_eq!((posted(gateway, one, "1"), posted(gateway, two, "5")), (-100, 100));
    refused(&pay(two, "t2", "5", "1:1"));
    assert_eq!(pay(one, "t3", "1", "2:77").outcome(), "payee_not_found");
    let authorized = gateway.command(one, "/v1/authorizations", "h1", &bound);
    assert_eq!(authorized.status, 201, "{}", authorized.text);
    let captures =
        format!("/v1/authorizations/{}/captures", authorized.json()["authorization"].as_str().expect("an id"));
    let capture = |name: &str, amount: &str| {
        let body = format!(r#"{{"payee":"2:5","amount":"{amount}","reference":"ref-{name}",{EUR}}}"#);
        gateway.command(one, &captures, name, &body)
    };
    let captured = capture("c1", "40");
    assert_eq!(captured.status, 201, "{}", captured.text);
    let transfer = captured.json()["transfer"].as_str().expect("an id").to_owned();
    // Money is pushed to another tenant, never pulled out of it: not by a refund, nor by undoing what it was paid.
    let pulls = [
        ("/v1/refunds", "r1", format!(r#"{{"capture":"{transfer}","amount":"15","reference":"ref-r1",{EUR}}}"#)),
        ("/v1/reversals", "u1", r#"{"account":"1","original":"t1"}"#.to_owned()),
        ("/v1/reversals", "u2", r#"{"account":"1","original":"c1"}"#.to_owned()),
    ];
    for (path, name, body) in &pulls {
        let pulled = gateway.command(one, path, name, body);
        assert_eq!((pulled.status, pulled.outcome().as_str()), (422, "not_reversible"), "{}", pulled.text);
    }
    assert_eq!((posted(gateway, one, "1"), posted(gateway, two, "5")), (-140, 140));

    assert_eq!(agree("DELETE", "/v1/agreements/1/2", ""), 200);
    refused(&pay(one, "t4", "1", "2:5"));
    refused(&capture("c2", "40"));
    assert_eq!((posted(gateway, one, "1"), posted(gateway, two, "5")), (-140, 140));
    // What was done under it is still known: its money has moved.
    let again = pay(one, "t1", "1", "2:5");
    assert_eq!((again.status, again.json()["repeated"].as_bool()), (200, Some(true)), "{}", again.text);
    assert_eq!(pay(one, "t1", "1", "2").outcome(), "idempotency_conflict");

    // Whoever is paid sees who paid how much, and not what the payer wrote for itself; the payer sees his own.
    let statement = |key: &str, account: &str| gateway.get(key, &format!("/v1/accounts/{account}/statement")).text;
    let (theirs, ours) = (statement(two, "5"), statement(one, "1"));
    assert!(theirs.contains(r#""counterparty":"1:1""#), "{theirs}");
    for reference in ["ref-t1", "ref-c1"] {
        assert!(!theirs.contains(reference), "{reference}: {theirs}");
        assert!(ours.contains(reference), "{reference}: {ours}");
    }
    // Nor can it work on the authorization and the capture whose ids its statement shows.
    let two_tries = [
        gateway.command(two, &captures, "x1", &format!(r#"{{"payee":"5","amount":"1",{EUR}}}"#)),
        gateway.command(two, "/v1/refunds", "x2", &format!(r#"{{"capture":"{transfer}","amount":"1",{EUR}}}"#)),
        gateway.command(two, &captures.replace("captures", "voids"), "x3", "{}"),
        gateway.get(two, captures.trim_end_matches("/captures")),
        gateway.get(two, &captures.replace("captures", "history")),
        gateway.get(two, &captures.replace("captures", "history?account=5")),
    ];
    for tried in two_tries {
        assert_eq!((tried.status, tried.outcome().as_str()), (404, "original_not_found"), "{}", tried.text);
    }
}

#[test]
fn what_a_key_may_not_do_is_refused_in_its_place_of_a_batch_and_the_others_go_on() {
    let world = world();
    let (gateway, one) = (&world.gateway, &world.one);
    for account in ["1", "2"] {
        open_account(gateway, one, account, r#","credit_limit":"10000""#);
    }
    let commands = [
        ("authorize", "authorize", r#""account":"1","amount":"10""#),
        ("money_movement", "transfer", r#""account":"1","payee":"2","amount":"10""#),
        ("admin", "open_account", r#""account":"3""#),
        ("authorize", "authorize", r#""account":"2","amount":"10""#),
        ("money_movement", "transfer", r#""account":"1","payee":"9:2","amount":"10""#),
        ("money_movement", "advise", r#""advice":"post","account":"1","payee":"2","amount":"10""#),
    ];
    let batch = |role: &str| {
        let list: Vec<String> = commands
            .iter()
            .enumerate()
            .map(|(n, (_, verb, members))| format!(r#"{{"command":"{verb}","key":"{role}-{n}",{members},{EUR}}}"#))
            .chain([r#"{"command":"lookup","key":"open-1","account":"1"}"#.to_owned()])
            .chain([r#"{"command":"lookup","key":"unheard","account":"1","fence":true}"#.to_owned()])
            .collect();
        format!(r#"{{"commands":[{}]}}"#, list.join(","))
    };
    for role in ROLES {
        let key = new_key(gateway, one, role, role).1;
        let before = posted(gateway, one, "1");
        let answer = gateway.call(&key, "POST", "/v1/batches", &[], &batch(role));
        assert_eq!(answer.status, 200, "{}", answer.text);
        let replies = answer.json()["replies"].as_array().expect("replies").clone();
        assert_eq!(replies.len(), commands.len() + 2);
        let needed = commands.iter().map(|(needed, ..)| *needed).chain(["read", "authorize"]);
        for (n, (needed, reply)) in needed.zip(&replies).enumerate() {
            let is_forbidden = (reply["status"] == 403, reply["outcome"] == "forbidden");
            let is_foreign = n == 4 && needed == role;
            assert_eq!(reply["outcome"] == "no_agreement", is_foreign, "{role} {n}: {reply}");
            assert_eq!(
                is_forbidden,
                if is_foreign { (true, false) } else { (needed != role, needed != role) },
                "{role} {n}: {reply}"
            );
            let is_done = needed == role && n != 4 && n < commands.len();
            assert_eq!(reply["status"] == 201, is_done, "{role} {n}: {reply}");
        }
        let moved = if role == "money_movement" { -20 } else { 0 };
        assert_eq!(posted(gateway, one, "1"), before + moved, "{role}");
    }
}
