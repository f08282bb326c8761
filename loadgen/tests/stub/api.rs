//! Routes: a request becomes a command of the engine, its reply a body. Whatever the protocol does not have is a panic of the
//! connection's thread, so that a misspelt member is never overlooked.

use serde_json::{Map, Value, json};
use tpcore::{
    AccountId, Amount, AuthorizationId, Authorize, Capture, Command, CreditLimit, Increment, Key, Ledger, Lookup, Note,
    OpenAccount, Outcome, Read, ReadTarget, Refund, RefundTarget, Reply, Reverse, Seq, Settings, Transfer, TransferId,
    Void,
};

use super::wire::Request;
use super::{KEY, Shared, TENANT};

/// Accounts a page, whatever is asked for: small, so that there are several.
const PAGE: usize = 17;

fn account(api: u128) -> AccountId {
    AccountId(u128::from(TENANT) << 96 | api)
}

pub(super) fn problem(status: u16, outcome: &str) -> Value {
    json!({"type": format!("urn:tpcore:outcome:{outcome}"), "title": format!("\"{outcome}\""), "status": status, "outcome": outcome})
}

pub(super) fn handle(shared: &Shared, request: &Request) -> (u16, Value) {
    if request.header("authorization") != Some(&format!("Bearer {KEY}")) {
        return (401, problem(401, "unauthenticated"));
    }
    let (path, query) = request.path.split_once('?').unwrap_or((&request.path, ""));
    let parts: Vec<&str> = path.trim_start_matches("/v1/").split('/').collect();
    match (request.method.as_str(), &parts[..]) {
        ("GET", ["tenant"]) => (200, json!({"tenant": TENANT, "name": "stub"})),
        ("GET", ["accounts"]) => (200, page(shared, query)),
        ("GET", ["accounts", id]) => {
            let target = ReadTarget::Account(account(decimal(id)));
            told(&shared.engine.call_blocking(Read { target }), Verb::Read)
        }
        ("GET", ["accounts", id, "commands", key]) => lookup(shared, request, id, key, false),
        ("POST", ["accounts", id, "commands", key, "fence"]) => lookup(shared, request, id, key, true),
        ("POST", ["batches"]) => (200, batch(shared, request)),
        ("POST", parts) => {
            let mut members = members(&request.body);
            let key = key_of(
                request.header("idempotency-key").expect("a key"),
                request.header("idempotency-key-kind").unwrap_or("opaque"),
            );
            assert!(request.header("tpcore-deadline-ms").is_some_and(|ms| ms.parse::<u64>().is_ok()));
            let verb = match parts {
                ["accounts"] => "open_account",
                ["authorizations"] => "authorize",
                ["authorizations", id, verb] => {
                    members.insert("authorization".into(), json!(id));
                    verb.strip_suffix('s').expect("a plural")
                }
                ["refunds"] => "refund",
                ["reversals"] => "reverse",
                ["transfers"] => "transfer",
                _ => panic!("no route: {request:?}"),
            };
            execute(shared, verb, key, members)
        }
        _ => panic!("no route: {request:?}"),
    }
}

fn lookup(shared: &Shared, request: &Request, id: &str, key: &str, fence: bool) -> (u16, Value) {
    let key = key_of(key, request.header("idempotency-key-kind").unwrap_or("opaque"));
    told(&shared.engine.call_blocking(Lookup { account: account(decimal(id)), key, fence }), Verb::Other)
}

fn batch(shared: &Shared, request: &Request) -> Value {
    let mut body = members(&request.body);
    let Some(Value::Array(commands)) = body.remove("commands") else { panic!("no commands: {body:?}") };
    assert!((1..=500).contains(&commands.len()) && body.is_empty());
    let replies = commands.into_iter().map(|command| {
        let Value::Object(mut members) = command else { panic!("no command: {command}") };
        let mut text = |name: &str| members.remove(name).and_then(|value| value.as_str().map(str::to_owned));
        let (verb, key, kind) = (text("command"), text("key").expect("a key"), text("key_kind"));
        let key = key_of(&key, kind.as_deref().unwrap_or("opaque"));
        let (status, mut reply) = execute(shared, &verb.expect("a verb"), key, members);
        reply["status"] = json!(status);
        reply
    });
    json!({"replies": replies.collect::<Vec<_>>()})
}

/// Members of a body, each taken once; what is left over is unknown.
struct Members(Map<String, Value>);

impl Members {
    fn text(&mut self, name: &str) -> Option<String> {
        self.0.remove(name).map(|value| value.as_str().unwrap_or_else(|| panic!("{name} is no text")).to_owned())
    }
    fn account(&mut self, name: &str) -> AccountId {
        account(decimal(&self.text(name).unwrap_or_else(|| panic!("no {name}"))))
    }
    fn authorization(&mut self) -> AuthorizationId {
        self.text("authorization").expect("an authorization").parse().expect("an id")
    }
    fn ledger(&mut self) -> Ledger {
        let scale = self.0.remove("scale").and_then(|scale| scale.as_u64()).expect("a scale");
        Ledger::new(&self.text("asset").expect("an asset"), u8::try_from(scale).expect("small")).expect("a ledger")
    }
    fn amount(&mut self) -> (Amount, Ledger) {
        let amount = Amount::new(decimal(&self.text("amount").expect("an amount"))).expect("below 2^96");
        let ledger = self.ledger();
        assert_eq!(ledger.to_string(), "EUR/2");
        (amount, ledger)
    }
    fn number(&mut self, name: &str) -> Option<u64> {
        self.0.remove(name).map(|value| value.as_u64().expect("a number"))
    }
    fn is(&mut self, name: &str) -> bool {
        self.0.remove(name).is_some_and(|value| value.as_bool().expect("true or false"))
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Verb {
    Read,
    Other,
}

fn execute(shared: &Shared, verb: &str, key: Key, members: Map<String, Value>) -> (u16, Value) {
    let mut m = Members(members);
    let note = Note::default();
    let command: Command = match verb {
        "open_account" => {
            let account = m.account("account");
            let api = account.0 & ((1 << 96) - 1);
            shared.accounts.lock().expect("sound").insert(api);
            let credit_limit = match m.text("credit_limit").as_deref() {
                Some("unlimited") => CreditLimit::Unlimited,
                Some(amount) => CreditLimit::Amount(Amount::new(decimal(amount)).expect("an amount")),
                None => CreditLimit::default(),
            };
            let settings = Settings { credit_limit, tenant: TENANT, ..Settings::new(m.ledger()) };
            OpenAccount { key, account, settings, note }.into()
        }
        "authorize" => {
            let account = m.account("account");
            let (amount, ledger) = m.amount();
            let (lifetime_ms, allow_partial) = (m.number("lifetime_ms"), m.is("allow_partial"));
            Authorize { lifetime_ms, allow_partial, ..Authorize::new(key, account, ledger, amount) }.into()
        }
        "increment" => {
            let (authorization, lifetime_ms) = (m.authorization(), m.number("lifetime_ms"));
            Increment { key, authorization, amount: m.amount().0, lifetime_ms, note }.into()
        }
        "capture" => {
            let (authorization, payee, is_final) = (m.authorization(), m.account("payee"), m.is("is_final"));
            Capture { key, authorization, payee, amount: m.amount().0, is_final, note }.into()
        }
        "void" => Void { key, authorization: m.authorization(), amount: None, note }.into(),
        "refund" => {
            let capture: TransferId = m.text("capture").expect("a capture").parse().expect("an id");
            Refund { key, target: RefundTarget::Capture(capture), amount: m.amount().0, note }.into()
        }
        "reverse" => {
            let account = m.account("account");
            let (original, kind) = (m.text("original").expect("a key"), m.text("original_kind").expect("a kind"));
            Reverse { key, account, original: key_of(&original, &kind), new_total: None, note }.into()
        }
        "transfer" => {
            let (account, payee) = (m.account("account"), m.account("payee"));
            let (amount, ledger) = m.amount();
            Transfer { key, account, payee, ledger, amount, note }.into()
        }
        "lookup" => Lookup { account: m.account("account"), key, fence: false }.into(),
        _ => panic!("no verb: {verb}"),
    };
    assert!(m.0.is_empty(), "unknown members of {verb}: {:?}", m.0);
    told(&shared.engine.call_blocking(command), Verb::Other)
}

fn told(reply: &Reply, verb: Verb) -> (u16, Value) {
    let status = match reply.outcome {
        outcome if outcome.is_approval() => 200 + u16::from(reply.authorization.is_some()),
        Outcome::InsufficientFunds => 402,
        Outcome::AccountNotFound | Outcome::OriginalNotFound | Outcome::PayeeNotFound => 404,
        Outcome::Busy | Outcome::NoSpace | Outcome::DeadlineExceeded => 503,
        Outcome::InProgress => 504,
        Outcome::InvalidAmount | Outcome::AboveHold | Outcome::AboveCaptured => 422,
        _ => 409,
    };
    let is_good = status < 300;
    let mut body =
        if is_good { json!({"outcome": reply.outcome.name()}) } else { problem(status, reply.outcome.name()) };
    if verb == Verb::Read && is_good {
        body = json!({"account": "1", "status": "open"}); // an account, and no decision
    } else {
        body["repeated"] = json!(reply.repeated);
        body["flags"] = json!(reply.flags.names().collect::<Vec<_>>());
        body["amount"] = json!(reply.amount.to_string());
    }
    if let Some(balances) = reply.balances {
        let available = balances.available.map(|available| available.to_string());
        body["balances"] =
            json!({"posted": balances.posted.to_string(), "held": balances.held.to_string(), "available": available});
    }
    let texts = [
        ("authorization", reply.authorization.map(|id| id.to_string())),
        ("transfer", reply.transfer.map(|id| id.to_string())),
        ("expires", reply.expires.map(|time| time.to_string())),
    ];
    for (name, text) in texts {
        if let Some(text) = text {
            body[name] = json!(text);
        }
    }
    if reply.seq != Seq::ZERO {
        body["seq"] = json!(reply.seq.0);
    }
    body["version"] = json!(reply.version.0);
    (status, body)
}

fn page(shared: &Shared, query: &str) -> Value {
    let value = |name: &str| query.split('&').find_map(|pair| pair.strip_prefix(name));
    assert!(value("limit=").is_some_and(|limit| limit.parse::<usize>().is_ok_and(|limit| limit <= 1000)));
    let from = value("cursor=").map_or(0, |cursor| decimal(cursor.strip_prefix("%3D").expect("escaped")));
    let accounts = shared.accounts.lock().expect("sound");
    let mut ids = accounts.range(from..).copied();
    let shown: Vec<Value> = ids
        .by_ref()
        .take(PAGE)
        .filter_map(|id| {
            let view = shared.engine.account(account(id)).expect("answered")?;
            let balances = view.balances;
            Some(json!({
                "account": id.to_string(), "asset": "EUR", "scale": 2,
                "balances": {"posted": balances.posted.to_string(), "held": balances.held.to_string(), "available": null},
            }))
        })
        .collect();
    let mut page = json!({"accounts": shown});
    if let Some(next) = ids.next() {
        page["next"] = json!(format!("={next}"));
    }
    page
}

fn members(body: &[u8]) -> Map<String, Value> {
    match serde_json::from_slice(body) {
        Ok(Value::Object(members)) => members,
        other => panic!("no body: {other:?}"),
    }
}

fn decimal(text: &str) -> u128 {
    text.parse().unwrap_or_else(|_| panic!("'{text}' is no number"))
}

fn key_of(text: &str, kind: &str) -> Key {
    let digits: String = text.chars().filter(|c| *c != '-').collect();
    let bits = u128::from_str_radix(&digits, 16).expect("a UUID");
    match kind {
        "uuid_v7" => Key::uuid_v7(bits),
        "opaque" => Key::opaque(bits),
        _ => panic!("no kind of key: {kind}"),
    }
}
