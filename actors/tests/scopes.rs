//! Scopes at the engine's doors: what a call or a client says of its scope arrives at the decision.
#![allow(clippy::cast_possible_truncation, reason = "small numbers of the tests themselves")]

mod common;

use std::collections::BTreeMap;
use std::time::Duration;

use common::{amount, authorize, capture, in_memory, ledger};
use tp_actors::tp_core::amount::{CreditLimit, Ledger};
use tp_actors::tp_core::command::{Command, Note, OpenAccount, Settings};
use tp_actors::tp_core::ids::AccountId;
use tp_actors::tp_core::key::Key;
use tp_actors::tp_core::outcome::Outcome;
use tp_actors::tp_core::reply::Reply;
use tp_actors::tp_core::scope::Scope;
use tp_actors::{CallOptions, Engine};

const OURS: u32 = 1;
const THEIRS: u32 = 2;

fn of(tenant: u32) -> CallOptions {
    CallOptions { scope: Scope { tenant: Some(tenant), ..Scope::default() }, ..CallOptions::default() }
}

fn in_ledger(ledger: Ledger) -> CallOptions {
    CallOptions { scope: Scope { ledger: Some(ledger), ..Scope::default() }, ..CallOptions::default() }
}

fn open(account: u128) -> Command {
    let credit_limit = CreditLimit::Amount(amount(1_000));
    let settings = Settings { tenant: OURS, credit_limit, ..Settings::new(ledger()) };
    OpenAccount { key: Key::opaque(account), account: AccountId(account), settings, note: Note::default() }.into()
}

#[test]
fn a_call_is_decided_within_its_scope() {
    let engine = Engine::open(in_memory(2)).expect("opens");
    for account in [1, 2] {
        assert_eq!(engine.call_with(open(account), of(THEIRS)).wait().outcome, Outcome::Malformed);
        assert_eq!(engine.call_with(open(account), of(OURS)).wait().outcome, Outcome::Approved);
    }
    let before = engine.last_seq();
    let call = |command: Command, options| engine.call_with(command, options).wait();
    let dollars = Ledger::new("USD", 2).expect("valid");
    assert_eq!(call(authorize(10, 1, 100), of(THEIRS)), Reply::bare(Outcome::AccountNotFound));
    assert_eq!(call(authorize(10, 1, 100), in_ledger(dollars)), Reply::bare(Outcome::WrongLedger));
    assert_eq!(engine.last_seq(), before, "no event came of it");

    let held = call(authorize(10, 1, 100), of(OURS));
    assert_eq!((held.outcome, held.repeated, held.ledger), (Outcome::Approved, false, Some(ledger())));
    let hold = held.authorization.expect("a hold");
    let refused = call(capture(11, hold, 2, 40, true), of(THEIRS));
    assert_eq!(refused, Reply::bare(Outcome::OriginalNotFound));
    let captured = call(capture(11, hold, 2, 40, true), in_ledger(ledger()));
    assert_eq!((captured.outcome, captured.repeated, captured.ledger), (Outcome::Approved, false, Some(ledger())));
    engine.close_blocking().expect("an orderly close");
}

#[test]
fn a_client_submits_each_command_within_its_own_scope() {
    let engine = Engine::open(in_memory(2)).expect("opens");
    assert_eq!(engine.call_blocking(open(1)).outcome, Outcome::Approved);
    let mut client = engine.client(8);
    client.submit_with(1, &authorize(10, 1, 100), of(THEIRS)).expect("room");
    client.submit_with(2, &authorize(10, 1, 100), of(OURS)).expect("room");
    client.submit_with(3, &authorize(10, 1, 100), of(THEIRS)).expect("room");
    client.submit(4, &authorize(10, 1, 100)).expect("room");
    let mut replies = BTreeMap::new();
    while client.in_flight() > 0 {
        client.wait(Duration::from_secs(1));
        client.poll(|tag, reply| _ = replies.insert(tag, (reply.outcome, reply.repeated, reply.ledger)));
    }
    let hidden = (Outcome::AccountNotFound, false, None);
    let shown = |repeated| (Outcome::Approved, repeated, Some(ledger()));
    assert_eq!(replies.into_values().collect::<Vec<_>>(), [hidden, shown(false), hidden, shown(true)]);
    engine.close_blocking().expect("an orderly close");
}
