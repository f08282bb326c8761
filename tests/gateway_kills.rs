//! `kill -9` under load from the network: what a client was told is so after every restart, and what it was not told is so once or not
//! at all, and then once.
#![cfg(feature = "serve")]

#[path = "support/gateway.rs"]
mod support;

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::mpsc::{Sender, channel};
use std::thread;

use serde_json::Value;
use support::{ALL_ROLES, Answer, Connection, Gateway, add_key, add_tenant, text_of, tpcore};

const ROUNDS: u64 = 10;
const CONNECTIONS: u64 = 4;
/// Commands of one connection in flight.
const WINDOW: usize = 16;
const ACCOUNTS: u64 = 8;
/// More than any round can use up.
const FUNDS: i64 = 1_000_000_000;

/// A command as a client keeps it until it knows what became of it.
#[derive(Clone, Debug)]
struct Sent {
    key: String,
    path: &'static str,
    account: u64,
    payee: Option<u64>,
    amount: i64,
    body: String,
}

impl Sent {
    /// Command `number` of a connection: every third only holds.
    fn new(round: u64, connection: u64, number: u64) -> Self {
        let mixed = number.wrapping_mul(2_654_435_761).wrapping_add(connection * 40_503 + round * 97);
        let (account, step) = (mixed % ACCOUNTS + 1, mixed / ACCOUNTS % (ACCOUNTS - 1) + 1);
        let payee = (!number.is_multiple_of(3)).then_some((account - 1 + step) % ACCOUNTS + 1);
        let amount = i64::try_from(number % 97 + 1).expect("small");
        let to = payee.map_or_else(String::new, |payee| format!(r#""payee":"{payee}","#));
        Self {
            key: format!("r{round}-c{connection}-n{number}"),
            path: if payee.is_some() { "/v1/transfers" } else { "/v1/authorizations" },
            account,
            payee,
            amount,
            body: format!(r#"{{"account":"{account}",{to}"amount":"{amount}","asset":"EUR","scale":2}}"#),
        }
    }
}

/// What a client learned of a command.
enum Heard {
    Acknowledged(Sent, Answer),
    /// It was sent, and the connection ended.
    InDoubt(Sent),
}

/// Keeps [`WINDOW`] commands in flight until the server is gone.
fn load(mut wire: Connection, bearer: &str, round: u64, connection: u64, told: &Sender<Heard>) {
    let mut in_flight = std::collections::VecDeque::new();
    for number in 0.. {
        let sent = Sent::new(round, connection, number);
        let headers = [("authorization", bearer), ("idempotency-key", &*sent.key)];
        let is_sent = wire.try_send("POST", sent.path, &headers, &sent.body).is_ok();
        in_flight.push_back(sent);
        if !is_sent {
            break;
        }
        if in_flight.len() < WINDOW {
            continue;
        }
        let Ok(Some(answer)) = wire.try_answer() else { break };
        let sent = in_flight.pop_front().expect("what was answered");
        told.send(Heard::Acknowledged(sent, answer)).expect("somebody listens");
    }
    // Answers that were on their way when it died are acknowledgements like any other.
    while let Ok(Some(answer)) = wire.try_answer() {
        let Some(sent) = in_flight.pop_front() else { break };
        told.send(Heard::Acknowledged(sent, answer)).expect("somebody listens");
    }
    for sent in in_flight {
        told.send(Heard::InDoubt(sent)).expect("somebody listens");
    }
}

/// What was decided, once.
const DECISION: [&str; 6] = ["outcome", "amount", "seq", "version", "transfer", "authorization"];

fn decision(reply: &Value) -> Vec<Value> {
    DECISION.map(|name| reply[name].clone()).into()
}

/// What the client believes.
#[derive(Default)]
struct Ledger {
    posted: BTreeMap<u64, i64>,
    held: BTreeMap<u64, i64>,
    known: Vec<(Sent, Value)>,
}

impl Ledger {
    fn add(&mut self, sent: Sent, reply: Value) {
        assert_eq!(reply["outcome"], "approved", "{sent:?}: {reply}");
        match sent.payee {
            None => *self.held.entry(sent.account).or_default() += sent.amount,
            Some(payee) => {
                *self.posted.entry(sent.account).or_default() -= sent.amount;
                *self.posted.entry(payee).or_default() += sent.amount;
            }
        }
        self.known.push((sent, reply));
    }
}

/// A connection that asks one thing after another.
struct Asker {
    wire: Connection,
    bearer: String,
}

impl Asker {
    fn new(gateway: &Gateway, bearer: &str) -> Self {
        Self { wire: Connection::open(gateway.listen), bearer: bearer.to_owned() }
    }

    fn get(&mut self, path: &str) -> Answer {
        self.wire.send("GET", path, &[("authorization", &self.bearer)], "");
        self.wire.answer()
    }

    fn command(&mut self, path: &str, key: &str, body: &str) -> Answer {
        self.wire.send("POST", path, &[("authorization", &self.bearer), ("idempotency-key", key)], body);
        self.wire.answer()
    }

    fn find(&mut self, sent: &Sent, reply: &Value) {
        let found = self.get(&format!("/v1/accounts/{}/commands/{}", sent.account, sent.key));
        assert_eq!(found.status, 200, "{sent:?} was acknowledged with {reply}: {}", found.text);
        assert_eq!(decision(&found.json()), decision(reply), "{sent:?}");
    }

    /// What stands on every account is what the client believes.
    fn compare(&mut self, ledger: &Ledger) {
        let mut sum = 0;
        for account in 1..=ACCOUNTS {
            let balances = self.get(&format!("/v1/accounts/{account}")).json()["balances"].clone();
            let number = |name: &str| balances[name].as_str().expect("a balance").parse::<i64>().expect("a number");
            let believed = |of: &BTreeMap<u64, i64>| of.get(&account).copied().unwrap_or(0);
            assert_eq!(number("posted"), believed(&ledger.posted), "account {account}");
            assert_eq!(number("held"), believed(&ledger.held), "account {account}");
            sum += number("posted");
        }
        assert_eq!(sum, 0, "money was made or lost");
    }
}

/// Load on all connections, killed after so many acknowledgements.
fn round(gateway: Gateway, bearer: &str, number: u64, until: usize) -> (Vec<(Sent, Answer)>, Vec<Sent>) {
    let (told, heard) = channel();
    let threads: Vec<_> = (0..CONNECTIONS)
        .map(|connection| {
            let (told, bearer, wire) = (told.clone(), bearer.to_owned(), Connection::open(gateway.listen));
            thread::spawn(move || load(wire, &bearer, number, connection, &told))
        })
        .collect();
    drop(told);
    let (mut acknowledged, mut in_doubt) = (Vec::new(), Vec::new());
    let mut running = Some(gateway);
    while let Ok(one) = heard.recv() {
        match one {
            Heard::Acknowledged(sent, answer) => acknowledged.push((sent, answer)),
            Heard::InDoubt(sent) => in_doubt.push(sent),
        }
        if acknowledged.len() >= until
            && let Some(gateway) = running.take()
        {
            gateway.kill();
        }
    }
    for thread in threads {
        thread.join().expect("no panic");
    }
    (acknowledged, in_doubt)
}

fn open_accounts(asker: &mut Asker) {
    for account in 1..=ACCOUNTS {
        let body = format!(r#"{{"account":"{account}","credit_limit":"{FUNDS}","asset":"EUR","scale":2}}"#);
        let opened = asker.command("/v1/accounts", &format!("open-{account}"), &body);
        assert_eq!(opened.status, 201, "{}", opened.text);
    }
}

fn serve(data: &Path) -> Gateway {
    // A checkpoint is nothing special to be killed in.
    Gateway::start(data, &["--set", "log.level=warn", "--set", "engine.segment_bytes=1048576"])
}

#[test]
fn what_was_acknowledged_survives_every_kill_and_what_was_not_happens_at_most_once() {
    let folder = tempfile::tempdir().expect("a folder");
    let data = folder.path().join("data");
    add_tenant(&data, "1", "one");
    let bearer = format!("Bearer {}", add_key(&data, "1", "ada", ALL_ROLES, &[]).secret);
    let mut gateway = serve(&data);
    open_accounts(&mut Asker::new(&gateway, &bearer));
    let mut ledger = Ledger::default();
    let mut doubts = 0;
    for number in 0..ROUNDS {
        let until = usize::try_from(20 + number * 13).expect("small");
        let (acknowledged, in_doubt) = round(gateway, &bearer, number, until);
        assert!(acknowledged.len() >= until);
        doubts += in_doubt.len();
        gateway = serve(&data);
        let mut asker = Asker::new(&gateway, &bearer);
        for (sent, answer) in acknowledged {
            assert_eq!(answer.status, 201, "{sent:?}: {}", answer.text);
            asker.find(&sent, &answer.json());
            ledger.add(sent, answer.json());
        }
        for sent in in_doubt {
            let first = asker.command(sent.path, &sent.key, &sent.body);
            let is_known = first.json()["repeated"] == true;
            assert_eq!(first.status, if is_known { 200 } else { 201 }, "{sent:?}: {}", first.text);
            let again = asker.command(sent.path, &sent.key, &sent.body);
            assert_eq!((again.status, again.json()["repeated"].as_bool()), (200, Some(true)), "{sent:?}");
            assert_eq!(decision(&again.json()), decision(&first.json()), "{sent:?}");
            ledger.add(sent, first.json());
        }
        asker.compare(&ledger);
    }
    assert!(doubts > 0, "nothing was in flight at any kill");
    let mut asker = Asker::new(&gateway, &bearer);
    for (sent, reply) in &ledger.known {
        asker.find(sent, reply);
    }
    drop(asker);
    assert_eq!(gateway.stop(), Some(0));
    tpcore(&["verify", "--data-dir", text_of(&data)]);
}
