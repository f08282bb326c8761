//! Four eyes: what is above the threshold moves when a second person says so, once, and whatever happens in between.
#![cfg(feature = "serve")]

#[path = "support/gateway.rs"]
mod support;

use std::path::PathBuf;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde_json::{Value, json};
use support::{ALL_ROLES, Answer, Connection, Gateway, Key, add_key, add_tenant};

const EUR: &str = r#""asset":"EUR","scale":2"#;

/// One tenant, three persons with every role, accounts 1 to 4 that may go below zero, a threshold of 10.00 EUR.
struct World {
    _folder: tempfile::TempDir,
    data: PathBuf,
    gateway: Option<Gateway>,
    ada: Key,
    bob: Key,
    cyd: Key,
    /// Of tenant 0: raises and removes thresholds.
    operator: Key,
}

impl World {
    fn new(more: &[&str]) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let data = folder.path().join("data");
        add_tenant(&data, "1", "one");
        let [ada, bob, cyd] = ["ada", "bob", "cyd"].map(|person| add_key(&data, "1", person, ALL_ROLES, &[]));
        add_tenant(&data, "0", "operator");
        let operator = add_key(&data, "0", "olga", ALL_ROLES, &[]);
        let mut world = Self { _folder: folder, data, gateway: None, ada, bob, cyd, operator };
        world.start(more);
        for account in 1..=4 {
            let body = format!(r#"{{"account":"{account}","credit_limit":"1000000",{EUR}}}"#);
            let opened = world.gateway().command(&world.ada.secret, "/v1/accounts", &format!("open-{account}"), &body);
            assert_eq!(opened.status, 201, "{}", opened.text);
        }
        assert_eq!(world.set_threshold("1000").status, 200);
        world
    }

    fn start(&mut self, more: &[&str]) {
        self.gateway = Some(Gateway::start(&self.data, &[&["--set", "log.level=warn"], more].concat()));
    }

    fn gateway(&self) -> &Gateway {
        self.gateway.as_ref().expect("it runs")
    }

    fn kill(&mut self) {
        self.gateway.take().expect("it runs").kill();
    }

    fn stop(&mut self) {
        assert_eq!(self.gateway.take().expect("it runs").stop(), Some(0));
    }

    fn set_threshold(&self, amount: &str) -> Answer {
        let body = format!(r#"{{"amount":"{amount}","tenant":1,{EUR}}}"#);
        self.gateway().call(&self.operator.secret, "PUT", "/v1/tenant/threshold", &[], &body)
    }

    /// `who` transfers from account 1 to 2.
    fn transfer(&self, who: &Key, key: &str, amount: u32) -> Answer {
        self.gateway().command(&who.secret, "/v1/transfers", key, &transfer_of(amount))
    }

    /// `who` asks for a transfer that has to wait; gives back its approval.
    fn ask(&self, who: &Key, key: &str, amount: u32) -> String {
        let asked = self.transfer(who, key, amount);
        assert_eq!((asked.status, state_of(&asked).as_str()), (202, "pending"), "{}", asked.text);
        asked.json()["approval"].as_str().expect("an id").to_owned()
    }

    /// Writes the record of bob's approval into the journal that nobody serves, made so long ago.
    fn record_approval(&self, approval: &str, ago_ms: u64) {
        let engine = tpcore::Engine::open(tpcore::Config::at(&self.data)).expect("it opens");
        let now = SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970").as_millis();
        let at = u64::try_from(now).expect("a time") - ago_ms;
        let change =
            json!({"approval_given": {"tenant": 1, "approval": approval, "person": "bob", "key": self.bob.id}});
        let record = json!({"v": 1, "at": at, "by": format!("key {}", self.bob.id), "change": change});
        assert!(engine.record(1, record.to_string().into_bytes()).wait().outcome.is_approval());
        engine.close_blocking().expect("it closes");
    }

    fn decide(&self, who: &str, approval: &str, what: &str) -> Answer {
        self.gateway().call(who, "POST", &format!("/v1/approvals/{approval}/{what}"), &[], "")
    }

    fn shown(&self, approval: &str) -> Value {
        self.gateway().get(&self.bob.secret, &format!("/v1/approvals/{approval}")).json()
    }

    fn posted(&self, account: u32) -> i64 {
        let shown = self.gateway().get(&self.ada.secret, &format!("/v1/accounts/{account}")).json();
        shown["balances"]["posted"].as_str().expect("a balance").parse().expect("a number")
    }

    /// Asks again until the approval stands so.
    fn wait_for(&self, approval: &str, state: &str) -> Value {
        for _ in 0..2_400 {
            let shown = self.shown(approval);
            if shown["state"] == state {
                return shown;
            }
            std::thread::sleep(Duration::from_millis(25));
        }
        panic!("never {state}: {}", self.shown(approval));
    }
}

fn transfer_of(amount: u32) -> String {
    format!(r#"{{"account":"1","payee":"2","amount":"{amount}",{EUR}}}"#)
}

fn state_of(answer: &Answer) -> String {
    answer.json()["state"].as_str().unwrap_or_default().to_owned()
}

fn refused(answer: &Answer, status: u16, outcome: &str) {
    assert_eq!((answer.status, answer.outcome().as_str()), (status, outcome), "{}", answer.text);
}

#[test]
fn what_is_above_the_threshold_waits_for_a_second_person_and_moves_exactly_once() {
    let world = World::new(&[]);
    assert_eq!(world.transfer(&world.ada, "small", 1000).status, 201, "not above it");
    let approval = world.ask(&world.ada, "large", 1001);
    assert_eq!(world.ask(&world.ada, "large", 1001), approval, "a repeat shows the same one");
    assert_eq!(world.ask(&world.bob, "large", 1001), approval, "whoever repeats it");
    refused(&world.transfer(&world.ada, "large", 1002), 409, "idempotency_conflict");
    // What the engine does not compare is not compared here.
    let noted = transfer_of(1001).replace("{\"account\"", "{\"reference\":\"other\",\"account\"");
    let repeated = world.gateway().command(&world.ada.secret, "/v1/transfers", "large", &noted);
    assert_eq!((repeated.status, repeated.json()["approval"].as_str()), (202, Some(&*approval)), "{}", repeated.text);
    let looked_up = world.gateway().get(&world.ada.secret, "/v1/accounts/1/commands/large");
    assert_eq!((looked_up.status, state_of(&looked_up).as_str()), (202, "pending"));
    for what in ["approve", "reject"] {
        refused(&world.decide(&world.ada.secret, &approval, what), 403, "same_person");
    }
    assert_eq!((world.posted(1), world.posted(2)), (-1000, 1000));

    let executed = world.decide(&world.bob.secret, &approval, "approve");
    assert_eq!((executed.status, state_of(&executed).as_str()), (200, "executed"), "{}", executed.text);
    let shown = executed.json();
    assert_eq!((shown["asked_by"].as_str(), shown["decided_by"].as_str()), (Some("ada"), Some("bob")));
    assert_eq!((shown["outcome"].as_str(), shown["reply"]["amount"].as_str()), (Some("approved"), Some("1001")));
    assert_eq!((world.posted(1), world.posted(2)), (-2001, 2001));
    for who in [&world.bob, &world.cyd] {
        refused(&world.decide(&who.secret, &approval, "approve"), 409, "approval_not_open");
        refused(&world.decide(&who.secret, &approval, "reject"), 409, "approval_not_open");
    }
    let repeated = world.transfer(&world.ada, "large", 1001);
    assert_eq!((repeated.status, &repeated.json()), (200, &shown["reply"]), "what came of it");
    let looked_up = world.gateway().get(&world.ada.secret, "/v1/accounts/1/commands/large").json();
    assert_eq!(looked_up["transfer"], shown["reply"]["transfer"]);
    assert_eq!((world.posted(1), world.posted(2)), (-2001, 2001));
}

#[test]
fn what_was_rejected_or_came_too_late_never_moves() {
    let world = World::new(&["--set", "approvals.lifetime_ms=1000"]);
    let rejected = world.ask(&world.ada, "no", 5000);
    let answer = world.decide(&world.cyd.secret, &rejected, "reject");
    assert_eq!((answer.status, state_of(&answer).as_str()), (200, "rejected"), "{}", answer.text);
    refused(&world.decide(&world.bob.secret, &rejected, "approve"), 409, "approval_not_open");
    refused(&world.transfer(&world.ada, "no", 5000), 409, "approval_rejected");
    let late = world.ask(&world.ada, "late", 5000);
    world.wait_for(&late, "expired");
    refused(&world.decide(&world.bob.secret, &late, "approve"), 409, "approval_not_open");
    refused(&world.transfer(&world.ada, "late", 5000), 409, "approval_expired");
    assert_eq!((world.posted(1), world.posted(2)), (0, 0));
    // A threshold that is lifted lets new commands go, not those that a second person did not let go.
    let lifted = format!(r#"{{"amount":null,{EUR}}}"#);
    let by_tenant = world.gateway().call(&world.ada.secret, "PUT", "/v1/tenant/threshold", &[], &lifted);
    refused(&by_tenant, 403, "forbidden"); // whoever is bound by it does not loosen it
    let lifted = format!(r#"{{"amount":null,"tenant":1,{EUR}}}"#);
    assert_eq!(world.gateway().call(&world.operator.secret, "PUT", "/v1/tenant/threshold", &[], &lifted).status, 200);
    refused(&world.transfer(&world.ada, "no", 5000), 409, "approval_rejected");
    assert_eq!(world.posted(1), 0);
    assert_eq!(world.transfer(&world.ada, "new", 5000).status, 201);
}

#[test]
fn of_two_who_approve_at_once_one_does_and_the_money_moves_once() {
    let world = World::new(&[]);
    for round in 0..8 {
        let approval = world.ask(&world.ada, &format!("race-{round}"), 2000);
        let path = format!("/v1/approvals/{approval}/approve");
        // Both requests are on their way before either is answered.
        let mut racers = [&world.bob, &world.cyd].map(|who| {
            let mut connection = Connection::open(world.gateway().listen);
            let bearer = format!("Bearer {}", who.secret);
            connection.send("POST", &path, &[("authorization", &bearer)], "");
            connection
        });
        let mut statuses = racers.each_mut().map(|racer| racer.answer().status);
        statuses.sort_unstable();
        assert_eq!(statuses, [200, 409]);
        world.wait_for(&approval, "executed");
        assert_eq!(world.posted(2), 2000 * (round + 1));
    }
}

/// She could hold both keys: her own, and one in the name of somebody who does not exist.
#[test]
fn a_key_that_the_asking_person_added_is_no_second_person() {
    let mut world = World::new(&[]);
    let add = |world: &World, by: &str, person: &str| -> Key {
        let body = json!({"person": person, "roles": ["money_movement", "admin"]}).to_string();
        let made = world.gateway().call(by, "POST", "/v1/keys", &[], &body);
        assert_eq!(made.status, 201, "{}", made.text);
        let text = |name: &str| made.json()[name].as_str().expect("a text").to_owned();
        Key { id: text("key"), secret: text("secret") }
    };
    let puppet = add(&world, &world.ada.secret, "zoe");
    let puppets_puppet = add(&world, &puppet.secret, "yan");
    let of_bob = add(&world, &world.bob.secret, "xia");
    let asked_by_her = world.ask(&world.ada, "hers", 3000);
    let asked_by_puppet = world.ask(&puppets_puppet, "puppets", 3000);
    // The first time the records are folded anew, the second time they come from an image.
    for restart in [World::kill as fn(&mut World), World::stop, World::kill] {
        for what in ["approve", "reject"] {
            refused(&world.decide(&puppet.secret, &asked_by_her, what), 403, "same_person");
            refused(&world.decide(&puppets_puppet.secret, &asked_by_her, what), 403, "same_person");
            refused(&world.decide(&world.ada.secret, &asked_by_puppet, what), 403, "same_person");
        }
        assert_eq!(world.posted(2), 0);
        restart(&mut world);
        world.start(&[]);
    }
    assert_eq!(state_of(&world.decide(&of_bob.secret, &asked_by_her, "approve")), "executed");
    assert_eq!(state_of(&world.decide(&world.bob.secret, &asked_by_puppet, "approve")), "executed");
    assert_eq!(world.posted(2), 6000);
}

#[test]
fn what_waits_is_as_it_was_after_a_kill_and_what_was_approved_is_executed_once() {
    let mut world = World::new(&[]);
    let waits = world.ask(&world.ada, "waits", 4000);
    let before = world.shown(&waits);
    world.kill();
    world.start(&[]);
    assert_eq!(world.shown(&waits), before);
    assert_eq!(world.ask(&world.ada, "waits", 4000), waits);

    // Killed anywhere between the request and its answer: approved and executed, or neither.
    let mut moved = 0;
    for round in 0..4 {
        let approval = world.ask(&world.ada, &format!("killed-{round}"), 2000);
        let mut connection = Connection::open(world.gateway().listen);
        let bearer = format!("Bearer {}", world.bob.secret);
        connection.send("POST", &format!("/v1/approvals/{approval}/approve"), &[("authorization", &bearer)], "");
        if round == 0 {
            assert_eq!(connection.answer().status, 200);
        }
        (0..round).for_each(|_| _ = world.shown(&approval)); // a little later each time
        world.kill();
        world.start(&[]);
        let state = world.shown(&approval)["state"].as_str().expect("a state").to_owned();
        // Approved and not yet known to be executed: that is done within a second or two.
        let state = if state == "approved" { "executed".to_owned() } else { state };
        if state == "executed" {
            world.wait_for(&approval, "executed");
        }
        match state.as_str() {
            "executed" => moved += 2000,
            "pending" => assert_ne!(round, 0, "what was answered is forgotten"),
            other => panic!("{other}"),
        }
        assert_eq!((world.posted(1), world.posted(2)), (-moved, moved), "{state}");
    }
    world.kill();

    // Exactly between the two: the record of the approval is there, its execution is not.
    world.record_approval(&waits, 0);
    for _ in 0..2 {
        world.start(&[]);
        let shown = world.wait_for(&waits, "executed");
        assert_eq!((shown["state"].as_str(), shown["decided_by"].as_str()), (Some("executed"), Some("bob")), "{shown}");
        assert_eq!((world.posted(1), world.posted(2)), (-moved - 4000, moved + 4000));
        world.kill();
    }
}

/// The engine forgets keys after a day. A process that ended between execution and its record, and was not started for so long, would
/// move the money again.
#[test]
fn what_was_approved_longer_ago_than_keys_are_remembered_is_not_executed_by_a_start() {
    let mut world = World::new(&[]);
    let approval = world.ask(&world.ada, "old", 4000);
    world.kill();
    world.record_approval(&approval, 25 * 3_600_000);
    world.start(&[]);
    let shown = world.wait_for(&approval, "executed");
    assert_eq!(shown["outcome"].as_str(), Some("approval_unknown"), "{shown}");
    refused(&world.transfer(&world.ada, "old", 4000), 409, "approval_unknown");
    assert_eq!(world.posted(1), 0);
}

#[test]
fn every_command_that_moves_money_waits_in_batches_as_on_its_route() {
    let world = World::new(&[]);
    let gateway = world.gateway();
    let hold = format!(r#"{{"account":"1","amount":"9000",{EUR}}}"#);
    let authorized = gateway.command(&world.ada.secret, "/v1/authorizations", "hold", &hold);
    assert_eq!(authorized.status, 201, "a hold moves nothing: {}", authorized.text);
    let authorization = authorized.json()["authorization"].as_str().expect("an id").to_owned();
    let captures = format!("/v1/authorizations/{authorization}/captures");
    let small = format!(r#"{{"payee":"2","amount":"900",{EUR}}}"#);
    assert_eq!(gateway.command(&world.ada.secret, &captures, "small", &small).status, 201);

    let large = r#""amount":"1500","asset":"EUR","scale":2"#;
    let commands = [
        (captures, "c", "capture", r#""payee":"2""#.to_owned(), format!(r#""authorization":"{authorization}","#)),
        ("/v1/transfers".to_owned(), "t", "transfer", r#""account":"1","payee":"2""#.to_owned(), String::new()),
        (
            "/v1/advices".to_owned(),
            "a",
            "advise",
            r#""advice":"post","account":"3","payee":"2""#.to_owned(),
            String::new(),
        ),
    ];
    let list: Vec<String> = commands
        .iter()
        .map(|(_, key, verb, members, path)| format!(r#"{{"command":"{verb}","key":"{key}",{path}{members},{large}}}"#))
        .chain([format!(r#"{{"command":"transfer","key":"s","account":"1","payee":"2","amount":"1000",{EUR}}}"#)])
        .chain([r#"{"command":"lookup","key":"t","account":"1"}"#.to_owned()])
        .collect();
    let batch = format!(r#"{{"commands":[{}]}}"#, list.join(","));
    let answer = gateway.call(&world.ada.secret, "POST", "/v1/batches", &[], &batch);
    let replies = answer.json()["replies"].as_array().expect("replies").clone();
    let statuses: Vec<_> = replies.iter().map(|reply| reply["status"].as_u64().expect("a status")).collect();
    assert_eq!(statuses, [202, 202, 202, 201, 202], "{}", answer.text);
    assert_eq!(replies[1]["approval"], replies[4]["approval"], "the lookup finds what waits");
    assert_eq!(world.posted(2), 1900);
    // On their own routes they are the same commands.
    for ((path, key, _, members, _), reply) in commands.iter().zip(&replies) {
        let asked = gateway.command(&world.bob.secret, path, key, &format!("{{{members},{large}}}"));
        assert_eq!((asked.status, &asked.json()), (202, &reply["approval"]), "{}", asked.text);
        let id = asked.json()["approval"].as_str().expect("an id").to_owned();
        let executed = world.decide(&world.cyd.secret, &id, "approve");
        assert_eq!(executed.json()["reply"]["amount"], "1500", "{}", executed.text);
    }
    assert_eq!(world.posted(2), 1900 + 3 * 1500);
    // What came of them is answered as if they had not waited, in a batch and alone.
    let again = gateway.call(&world.ada.secret, "POST", "/v1/batches", &[], &batch).json();
    for reply in again["replies"].as_array().expect("replies") {
        assert_eq!((reply["status"].as_u64(), reply["outcome"].is_string()), (Some(200), true), "{reply}");
    }
    let poor = format!(r#"{{"account":"4","payee":"2","amount":"2000000",{EUR}}}"#);
    let asked = gateway.command(&world.ada.secret, "/v1/transfers", "poor", &poor);
    let id = asked.json()["approval"].as_str().expect("an id").to_owned();
    assert_eq!(world.decide(&world.bob.secret, &id, "approve").json()["outcome"], "insufficient_funds");
    let told = gateway.command(&world.ada.secret, "/v1/transfers", "poor", &poor);
    refused(&told, 402, "insufficient_funds");
    assert_eq!(told.header("content-type"), Some("application/problem+json"));
    let refund = format!(r#"{{"authorization":"{authorization}","amount":"1200",{EUR}}}"#);
    let asked = gateway.command(&world.ada.secret, "/v1/refunds", "r", &refund);
    assert_eq!((asked.status, state_of(&asked).as_str()), (202, "pending"), "{}", asked.text);
}

/// It was told that it waits, could be told that it was rejected, and had been done all the while.
#[test]
fn a_repeat_of_what_was_done_before_the_threshold_came_is_a_repeat() {
    let world = World::new(&[]);
    assert_eq!(world.set_threshold("1000000").status, 200);
    let first = world.transfer(&world.ada, "before", 7000);
    assert_eq!(first.status, 201);
    let hold = format!(r#"{{"account":"1","amount":"9000",{EUR}}}"#);
    let authorized = world.gateway().command(&world.ada.secret, "/v1/authorizations", "hold", &hold).json();
    let captures = format!("/v1/authorizations/{}/captures", authorized["authorization"].as_str().expect("an id"));
    let capture = format!(r#"{{"payee":"2","amount":"5000",{EUR}}}"#);
    assert_eq!(world.gateway().command(&world.ada.secret, &captures, "c", &capture).status, 201);
    assert_eq!(world.set_threshold("1000").status, 200);
    let again = world.transfer(&world.ada, "before", 7000);
    assert_eq!((again.status, again.json()["repeated"].as_bool()), (200, Some(true)), "{}", again.text);
    assert_eq!(again.json()["transfer"], first.json()["transfer"]);
    let again = world.gateway().command(&world.ada.secret, &captures, "c", &capture);
    assert_eq!((again.status, again.json()["repeated"].as_bool()), (200, Some(true)), "{}", again.text);
    assert_eq!(world.posted(2), 12_000);
}

/// A request is dropped when its client breaks off; a change that was dropped between its record and its effect left all tenants
/// without changes until the next start.
#[test]
fn clients_that_break_off_leave_no_change_half_made() {
    let world = World::new(&[]);
    let bearer = |key: &Key| format!("Bearer {}", key.secret);
    for round in 0..40 {
        let mut connection = Connection::open(world.gateway().listen);
        let body = format!(r#"{{"amount":"{}","tenant":1,{EUR}}}"#, 2000 + round);
        connection.send("PUT", "/v1/tenant/threshold", &[("authorization", &bearer(&world.operator))], &body);
        drop(connection);
    }
    let changed = world.set_threshold("1000");
    assert_eq!(changed.status, 200, "{}", changed.text);
    for round in 0..10 {
        let approval = world.ask(&world.ada, &format!("broken-{round}"), 5000);
        let mut connection = Connection::open(world.gateway().listen);
        let path = format!("/v1/approvals/{approval}/approve");
        connection.send("POST", &path, &[("authorization", &bearer(&world.bob))], "");
        drop(connection);
        // It may have been dropped before anything came of it. What was approved is executed, though nobody waits for it.
        let decided = world.decide(&world.cyd.secret, &approval, "approve");
        assert!([200, 409].contains(&decided.status), "{}", decided.text);
        world.wait_for(&approval, "executed");
    }
    assert_eq!(world.posted(2), 50_000);
}
