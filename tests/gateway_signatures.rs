//! Signed requests and tokens over sockets: what was changed on the way, is old or was there before proves nothing and moves nothing.
#![cfg(feature = "serve")]

#[path = "support/gateway.rs"]
mod support;

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use http::{HeaderMap, HeaderName};
use serde_json::{Value, json};
use support::{ALL_ROLES, Answer, Gateway, add_key, add_tenant};
use tp_server::auth::signature::{Scheme, SignOptions, SignedParts, SigningKey, sign};

const EUR: &str = r#""asset":"EUR","scale":2"#;
const QUIET: [&str; 4] = ["--set", "log.level=error", "--set", "limits.failures_per_minute=100000"];

fn now_s() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970").as_secs()
}

/// A text that no request had before.
fn new_nonce() -> String {
    static NUMBER: AtomicU64 = AtomicU64::new(0);
    format!("nonce-{}-{:08}", std::process::id(), NUMBER.fetch_add(1, Ordering::Relaxed))
}

/// Someone who signs.
struct Signer {
    id: String,
    key: SigningKey,
}

/// A request as it goes over the wire.
#[derive(Clone, PartialEq, Debug)]
struct Wire {
    method: String,
    target: String,
    headers: Vec<(String, String)>,
    body: String,
}

impl Wire {
    fn new(method: &str, target: &str, idempotency_key: &str, body: &str) -> Self {
        let headers = [("host", "localhost"), ("idempotency-key", idempotency_key), ("idempotency-key-kind", "opaque")];
        Self {
            method: method.to_owned(),
            target: target.to_owned(),
            headers: headers.map(|(name, value)| (name.to_owned(), value.to_owned())).into(),
            body: body.to_owned(),
        }
    }

    fn signed(mut self, signer: &Signer, created: u64, nonce: &str) -> Self {
        let mut map = HeaderMap::new();
        for (name, value) in &self.headers {
            map.append(HeaderName::try_from(name.as_str()).expect("a name"), value.parse().expect("a value"));
        }
        let (path, query) =
            self.target.split_once('?').map_or((&*self.target, None), |(path, query)| (path, Some(query)));
        let parts = SignedParts {
            method: &self.method,
            scheme: Scheme::Http,
            authority: "localhost",
            path,
            query,
            headers: &map,
        };
        let options = SignOptions {
            key_id: signer.id.parse().expect("an id"),
            created_unix_s: created,
            expires_unix_s: None,
            nonce,
            label: "sig1",
            also: &[],
        };
        let fields = sign(&parts, self.body.as_bytes(), &signer.key, &options).expect("signed");
        let digest = fields.content_digest.map(|digest| ("content-digest".to_owned(), digest));
        self.headers.extend(digest);
        self.headers.push(("signature-input".to_owned(), fields.signature_input));
        self.headers.push(("signature".to_owned(), fields.signature));
        self
    }

    fn send(&self, gateway: &Gateway) -> Answer {
        let mut head = format!("{} {} HTTP/1.1\r\n", self.method, self.target);
        for (name, value) in &self.headers {
            head.extend([name, ": ", value, "\r\n"]);
        }
        if !self.body.is_empty() {
            head.extend(["content-type: application/json\r\ncontent-length: ", &self.body.len().to_string(), "\r\n"]);
        }
        let mut connection = support::Connection::open(gateway.listen);
        connection.write(format!("{head}\r\n{}", self.body).as_bytes()).expect("sent");
        connection.answer()
    }

    fn header_mut(&mut self, name: &str) -> &mut String {
        &mut self.headers.iter_mut().find(|(found, _)| found == name).expect("a header").1
    }

    /// The same with one header changed; it has to be another one.
    fn with(&self, name: &str, change: impl Fn(&str) -> String) -> Self {
        let mut changed = self.clone();
        let value = changed.header_mut(name);
        *value = change(value);
        assert_ne!(&changed, self, "{name} is changed");
        changed
    }

    fn without(&self, name: &str) -> Self {
        let mut changed = self.clone();
        changed.headers.retain(|(found, _)| found != name);
        assert_ne!(&changed, self, "{name} was there");
        changed
    }
}

/// For a few seconds after a start signatures could be those of before: signs anew until they are taken.
fn send_signed(gateway: &Gateway, signer: &Signer, wire: &Wire) -> (Wire, Answer) {
    for _ in 0..1_200 {
        // As far ahead as clocks may be: the sooner it is taken.
        let signed = wire.clone().signed(signer, now_s() + 5, &new_nonce());
        let answer = signed.send(gateway);
        if answer.status != 401 || answer.outcome() != "sign_again" {
            return (signed, answer);
        }
        std::thread::sleep(Duration::from_millis(25));
    }
    panic!("never taken");
}

struct World {
    _folder: tempfile::TempDir,
    data: PathBuf,
    admin: String,
    signers: Vec<Signer>,
    hmac_secret: String,
}

fn world() -> World {
    let folder = tempfile::tempdir().expect("a folder");
    let data = folder.path().join("data");
    add_tenant(&data, "1", "one");
    let admin = add_key(&data, "1", "ada", ALL_ROLES, &[]).secret;
    let hmac = add_key(&data, "1", "hmac", ALL_ROLES, &["--kind", "hmac"]);
    let secret = STANDARD.decode(&hmac.secret).expect("Base64");
    let ed25519 = SigningKey::ed25519(&[7; 32]).expect("a seed");
    let public = STANDARD.encode(ed25519.public_key().expect("a public key"));
    let ed25519_id = add_key(&data, "1", "ed25519", ALL_ROLES, &["--kind", "ed25519", "--public", &public]).id;
    let signers = vec![
        Signer { id: hmac.id, key: SigningKey::hmac_sha256(&secret).expect("a secret") },
        Signer { id: ed25519_id, key: ed25519 },
    ];
    World { _folder: folder, data, admin, signers, hmac_secret: hmac.secret }
}

fn open_accounts(gateway: &Gateway, admin: &str) {
    for account in ["1", "2"] {
        let body = format!(r#"{{"account":"{account}","credit_limit":"1000000",{EUR}}}"#);
        assert_eq!(gateway.command(admin, "/v1/accounts", &format!("open-{account}"), &body).status, 201);
    }
}

fn posted(gateway: &Gateway, admin: &str) -> String {
    gateway.get(admin, "/v1/accounts/1").json()["balances"]["posted"].as_str().expect("a balance").to_owned()
}

const TRANSFER: &str = r#"{"account":"1","payee":"2","amount":"100","asset":"EUR","scale":2}"#;

/// Every way in which a signed request can be another one.
fn mutations(good: &Wire, signer: &Signer, other: &Signer) -> Vec<(&'static str, Wire)> {
    let target = |target: &str| Wire { target: target.to_owned(), ..good.clone() };
    let flipped = |value: &str| {
        let at = value.find(':').expect("a byte sequence") + 3;
        let byte = if &value[at..=at] == "A" { "B" } else { "A" };
        format!("{}{byte}{}", &value[..at], &value[at + 1..])
    };
    let input =
        |from: &'static str, to: &'static str| good.with("signature-input", move |value| value.replacen(from, to, 1));
    let mut twice = good.clone();
    twice.headers.push(("signature".to_owned(), good.clone().header_mut("signature").clone()));
    let mut labels = good.clone();
    for name in ["signature-input", "signature"] {
        let value = labels.header_mut(name);
        *value = format!("{value}, {}", value.replacen("sig1", "sig2", 1));
    }
    let mut all = vec![
        ("another path", target("/v1/advices?a=b")),
        ("another query", target("/v1/transfers?a=c")),
        ("no query", target("/v1/transfers")),
        ("an empty query more", target("/v1/transfers?a=b&")),
        ("another method", Wire { method: "GET".to_owned(), target: "/v1/accounts?a=b".to_owned(), ..good.clone() }),
        ("another body", Wire { body: good.body.replace("100", "101"), ..good.clone() }),
        ("a body with a space more", Wire { body: format!("{} ", good.body), ..good.clone() }),
        ("no body", Wire { body: String::new(), ..good.clone() }),
        ("another host", good.with("host", |_| "elsewhere".to_owned())),
        ("another port", good.with("host", |_| "localhost:81".to_owned())),
        ("another idempotency key", good.with("idempotency-key", |value| format!("{value}x"))),
        ("no idempotency key", good.without("idempotency-key")),
        ("another kind", good.with("idempotency-key-kind", |_| "uuid_v7".to_owned())),
        ("no kind", good.without("idempotency-key-kind")),
        ("another digest", good.with("content-digest", flipped)),
        ("no digest", good.without("content-digest")),
        ("another signature", good.with("signature", flipped)),
        ("a shorter signature", good.with("signature", |value| format!("{}:", &value[..value.len() - 5]))),
        ("an empty signature", good.with("signature", |_| "sig1=::".to_owned())),
        ("no signature", good.without("signature")),
        ("no input", good.without("signature-input")),
        ("a signature twice", twice),
        ("two labels", labels),
        ("another label", good.with("signature", |value| value.replacen("sig1", "sig2", 1))),
        ("another time", input("created=1", "created=2")),
        ("another nonce", input("nonce=\"nonce", "nonce=\"Nonce")),
        ("another algorithm", input("alg=\"", "alg=\"x")),
        ("a parameter more", good.with("signature-input", |value| format!("{value};tag=\"x\""))),
        ("the method not covered", input("\"@method\" ", "")),
        ("the query not covered", input(" \"@query\"", "")),
        ("the digest not covered", input(" \"content-digest\"", "")),
        ("the idempotency key not covered", input(" \"idempotency-key\"", "")),
        ("covered in another order", input("\"@method\" \"@authority\"", "\"@authority\" \"@method\"")),
    ];
    let other_id = good.with("signature-input", |value| value.replace(&signer.id, &other.id));
    all.push(("another key's id", other_id));
    all.push((
        "an unknown key's id",
        good.with("signature-input", |value| value.replace(&signer.id, "00000000000000aa")),
    ));
    all
}

#[test]
fn a_signed_request_that_was_changed_anywhere_proves_nothing_and_moves_nothing() {
    let world = world();
    let gateway = Gateway::start(&world.data, &QUIET);
    open_accounts(&gateway, &world.admin);
    for (number, signer) in world.signers.iter().enumerate() {
        let other = &world.signers[1 - number];
        let key = format!("key-{number}");
        let plain = Wire::new("POST", "/v1/transfers?a=b", &key, TRANSFER);
        // The good one is the last to be sent: nothing else is wrong with the others.
        send_signed(&gateway, signer, &Wire::new("GET", "/v1/tenant", "k", "")); // until signatures are taken
        let before = posted(&gateway, &world.admin);
        let good = plain.clone().signed(signer, now_s() + 5, &new_nonce());
        for (what, wire) in mutations(&good, signer, other) {
            let answer = wire.send(&gateway);
            assert_eq!((answer.status, answer.outcome().as_str()), (401, "unauthenticated"), "{what}: {}", answer.text);
        }
        for (what, created) in [("too old", now_s() - 301), ("from the future", now_s() + 60)] {
            let answer = plain.clone().signed(signer, created, &new_nonce()).send(&gateway);
            assert_eq!((answer.status, answer.outcome().as_str()), (401, "unauthenticated"), "{what}: {}", answer.text);
        }
        let by_another =
            plain.clone().signed(&Signer { id: signer.id.clone(), key: stranger() }, now_s() + 5, &new_nonce());
        assert_eq!(by_another.send(&gateway).status, 401, "another secret under the same id");
        assert_eq!(posted(&gateway, &world.admin), before, "something moved");
        let answer = good.send(&gateway);
        assert_eq!(answer.status, 201, "{}", answer.text);
        assert_ne!(posted(&gateway, &world.admin), before);
        let replayed = good.send(&gateway);
        assert_eq!((replayed.status, replayed.outcome().as_str()), (401, "unauthenticated"), "{}", replayed.text);
        // The same command signed anew is a repeat, and no replay.
        let repeated = plain.clone().signed(signer, now_s() + 5, &new_nonce()).send(&gateway);
        assert_eq!((repeated.status, repeated.json()["repeated"].as_bool()), (200, Some(true)), "{}", repeated.text);
    }
    assert_eq!(posted(&gateway, &world.admin), "-200");
}

fn stranger() -> SigningKey {
    SigningKey::hmac_sha256(&[9; 32]).expect("a secret")
}

#[test]
fn a_signature_of_before_a_restart_is_not_taken_again() {
    let world = world();
    let gateway = Gateway::start(&world.data, &QUIET);
    open_accounts(&gateway, &world.admin);
    let mut sent = Vec::new();
    for (number, signer) in world.signers.iter().enumerate() {
        let wire = Wire::new("POST", "/v1/transfers", &format!("key-{number}"), TRANSFER);
        let (signed, answer) = send_signed(&gateway, signer, &wire);
        assert_eq!(answer.status, 201, "{}", answer.text);
        sent.push(signed);
    }
    // As far ahead as is allowed at this moment, and never sent: it could have been.
    let kept =
        Wire::new("POST", "/v1/transfers", "kept", TRANSFER).signed(&world.signers[0], now_s() + 5, &new_nonce());
    gateway.kill();
    let gateway = Gateway::start(&world.data, &QUIET);
    for wire in sent.iter().chain([&kept]) {
        let replayed = wire.send(&gateway);
        assert_eq!((replayed.status, replayed.outcome().as_str()), (401, "sign_again"), "{}", replayed.text);
    }
    assert_eq!(posted(&gateway, &world.admin), "-200");
    let (_, answer) = send_signed(&gateway, &world.signers[0], &Wire::new("POST", "/v1/transfers", "key-0", TRANSFER));
    assert_eq!((answer.status, answer.json()["repeated"].as_bool()), (200, Some(true)), "{}", answer.text);
}

#[test]
fn a_signing_key_is_no_bearer_and_a_revoked_one_signs_nothing() {
    let world = world();
    let gateway = Gateway::start(&world.data, &QUIET);
    let signer = &world.signers[0];
    let raw = URL_SAFE_NO_PAD.encode(STANDARD.decode(&world.hmac_secret).expect("Base64"));
    for text in [world.hmac_secret.clone(), format!("tpk_{}_{raw}", signer.id), raw.clone(), signer.id.clone()] {
        let answer = gateway.get(&text, "/v1/tenant");
        assert_eq!((answer.status, answer.outcome().as_str()), (401, "unauthenticated"), "{}", answer.text);
    }
    let wire = Wire::new("GET", "/v1/tenant", "k", "");
    assert_eq!(send_signed(&gateway, signer, &wire).1.status, 200);
    // A bearer key cannot be named by a signature, and a good bearer does not help a bad signature.
    let id = world.admin[4..20].to_owned();
    let named = wire.clone().signed(&Signer { id, key: stranger() }, now_s() + 5, &new_nonce());
    assert_eq!(named.send(&gateway).status, 401);
    let mut both = wire.clone().signed(&Signer { id: signer.id.clone(), key: stranger() }, now_s() + 5, &new_nonce());
    both.headers.push(("authorization".to_owned(), format!("Bearer {}", world.admin)));
    assert_eq!(both.send(&gateway).status, 401);
    assert_eq!(gateway.call(&world.admin, "DELETE", &format!("/v1/keys/{}", signer.id), &[], "").status, 200);
    let revoked = wire.signed(signer, now_s() + 5, &new_nonce()).send(&gateway);
    assert_eq!((revoked.status, revoked.outcome().as_str()), (401, "unauthenticated"), "{}", revoked.text);
}

/// The command line sealed with the directory's own key whatever the server was told to open secrets with.
#[test]
fn a_secret_is_sealed_with_the_master_key_that_the_server_is_told_to_use() {
    let folder = tempfile::tempdir().expect("a folder");
    let (data, master) = (folder.path().join("data"), folder.path().join("master.key"));
    tp_server::auth::seal::MasterKey::create_file(&master).expect("a key");
    let setting = format!("auth.seal_key={}", master.display());
    add_tenant(&data, "1", "one");
    let made = add_key(&data, "1", "hmac", "read", &["--kind", "hmac", "--set", &setting]);
    let secret = STANDARD.decode(&made.secret).expect("Base64");
    let signer = Signer { id: made.id, key: SigningKey::hmac_sha256(&secret).expect("a secret") };
    let wire = Wire::new("GET", "/v1/tenant", "k", "");
    let gateway = Gateway::start(&data, &[&QUIET[..], &["--set", &setting]].concat());
    assert_eq!(send_signed(&gateway, &signer, &wire).1.status, 200);
    drop(gateway);
    let gateway = Gateway::start(&data, &QUIET);
    assert_eq!(send_signed(&gateway, &signer, &wire).1.status, 401, "another master key opens nothing");
}

const ISSUER: &str = "https://id.example";

fn token(key: &SigningKey, header: &Value, claims: &Value) -> String {
    let part = |value: &Value| URL_SAFE_NO_PAD.encode(value.to_string());
    let signed = format!("{}.{}", part(header), part(claims));
    let signature = key.sign(signed.as_bytes());
    format!("{signed}.{}", URL_SAFE_NO_PAD.encode(signature))
}

fn write_keys(path: &Path, kid: &str, public: &[u8]) {
    let x = URL_SAFE_NO_PAD.encode(public);
    let set = json!({"keys": [{"kty": "OKP", "crv": "Ed25519", "kid": kid, "use": "sig", "alg": "EdDSA", "x": x}]});
    std::fs::write(path, set.to_string()).expect("written");
}

#[test]
fn a_token_is_taken_from_its_issuer_for_this_service_in_its_time_and_for_its_tenant_alone() {
    let folder = tempfile::tempdir().expect("a folder");
    let data = folder.path().join("data");
    for tenant in ["1", "2"] {
        add_tenant(&data, tenant, tenant);
    }
    let key = SigningKey::ed25519(&[3; 32]).expect("a seed");
    let public = key.public_key().expect("a public key").to_vec();
    let keys = folder.path().join("keys.json");
    write_keys(&keys, "k1", &public);
    let set = [format!("auth.jwt_keys={}", keys.display()), format!("auth.jwt_issuer={ISSUER}")];
    let arguments = ["--set", &set[0], "--set", &set[1], "--set", "tls.reload_ms=100"];
    let gateway = Gateway::start(&data, &[&QUIET[..], &arguments].concat());
    let header = json!({"alg": "EdDSA", "typ": "JWT", "kid": "k1"});
    let claims = json!({"iss": ISSUER, "aud": "tpcore", "exp": now_s() + 600, "sub": "ada", "tenant": 1,
        "roles": ["read", "authorize", "money_movement", "admin", "of another service"]});
    let but = |name: &str, value: Value| {
        let mut changed = claims.clone();
        changed[name] = value;
        changed
    };
    let without = |name: &str| {
        let mut changed = claims.clone();
        changed.as_object_mut().expect("an object").remove(name);
        changed
    };
    let good = token(&key, &header, &claims);
    open_accounts(&gateway, &good);
    assert_eq!(gateway.command(&good, "/v1/transfers", "t", TRANSFER).status, 201);
    assert_eq!(gateway.get(&good, "/v1/tenant").json()["tenant"], 1);

    let unsigned = |alg: &str| {
        let text = token(&key, &json!({"alg": alg, "typ": "JWT", "kid": "k1"}), &claims);
        text.rsplit_once('.').expect("a signature").0.to_owned() + "."
    };
    let confused = SigningKey::hmac_sha256(&public).expect("32 bytes");
    let other = SigningKey::ed25519(&[4; 32]).expect("a seed");
    let mut other_claims = good.split('.').map(str::to_owned).collect::<Vec<_>>();
    other_claims[1] = URL_SAFE_NO_PAD.encode(but("sub", json!("eve")).to_string());
    let bad = [
        ("expired", token(&key, &header, &but("exp", json!(now_s() - 60)))),
        ("not yet", token(&key, &header, &but("nbf", json!(now_s() + 120)))),
        ("without an end", token(&key, &header, &without("exp"))),
        ("for another audience", token(&key, &header, &but("aud", json!("other")))),
        ("for none", token(&key, &header, &without("aud"))),
        ("of another issuer", token(&key, &header, &but("iss", json!("https://evil.example")))),
        ("of no tenant", token(&key, &header, &without("tenant"))),
        ("of an unknown tenant", token(&key, &header, &but("tenant", json!(7)))),
        ("of a tenant beyond all", token(&key, &header, &but("tenant", json!(4_294_967_297_u64)))),
        ("of nobody", token(&key, &header, &without("sub"))),
        ("unsigned", unsigned("none")),
        ("unsigned, and says otherwise", unsigned("EdDSA")),
        (
            "by the public key as a secret",
            token(&confused, &json!({"alg": "HS256", "typ": "JWT", "kid": "k1"}), &claims),
        ),
        ("by another key", token(&other, &header, &claims)),
        ("by a key that is not there", token(&key, &json!({"alg": "EdDSA", "typ": "JWT", "kid": "k2"}), &claims)),
        ("of another kind", token(&key, &json!({"alg": "EdDSA", "typ": "logout+jwt", "kid": "k1"}), &claims)),
        ("with other claims", other_claims.join(".")),
        ("without end", format!("{good}.{good}")),
    ];
    for (what, text) in &bad {
        let answer = gateway.command(text, "/v1/transfers", "t2", TRANSFER);
        assert_eq!((answer.status, answer.outcome().as_str()), (401, "unauthenticated"), "{what}: {}", answer.text);
    }
    assert_eq!(posted(&gateway, &good), "-100");

    let reader = token(&key, &header, &but("roles", json!(["read"])));
    assert_eq!(gateway.get(&reader, "/v1/accounts/1").status, 200);
    assert_eq!(gateway.command(&reader, "/v1/transfers", "t3", TRANSFER).outcome(), "forbidden");
    let roleless = token(&key, &header, &without("roles"));
    assert_eq!(gateway.get(&roleless, "/v1/accounts/1").outcome(), "forbidden");
    let foreign = token(&key, &header, &but("tenant", json!(2)));
    assert_eq!(gateway.get(&foreign, "/v1/accounts/1").outcome(), "account_not_found");
    assert_eq!(gateway.command(&foreign, "/v1/transfers", "t", TRANSFER).outcome(), "account_not_found");
    assert_eq!(gateway.get(&foreign, "/v1/tenants").outcome(), "forbidden");
    assert_eq!(posted(&gateway, &good), "-100");

    // The issuer changes its key: the new one counts without a restart, and the old one no longer.
    write_keys(&keys, "k3", other.public_key().expect("a public key"));
    let of_new = token(&other, &json!({"alg": "EdDSA", "typ": "JWT", "kid": "k3"}), &claims);
    let is_taken = (0..1_200).any(|_| {
        std::thread::sleep(Duration::from_millis(25));
        gateway.get(&of_new, "/v1/tenant").status == 200
    });
    assert!(is_taken, "the new key is never in use");
    assert_eq!(gateway.get(&good, "/v1/tenant").status, 401);
}
