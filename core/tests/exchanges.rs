//! Exchanges step by step: what waits, what is refused, what a crash between two of its events leaves.
//!
//! Two partitions under a hand-written schedule. Partition numbers are the slots' parity here, so the accounts are chosen by it.

mod harness;

use harness::{SEED, World};
use tp_core::amount::{Amount, CreditLimit, Ledger};
use tp_core::command::{
    Authorize, Capture, CloseAccount, Command, Lookup, Note, OpenAccount, Reverse, Settings, Transfer, Void,
};
use tp_core::ids::{AccountId, AuthorizationId};
use tp_core::key::Key;
use tp_core::outcome::Outcome;
use tp_core::reply::{AuthorizationState, Reply};
use tp_core::rules::Rules;
use tp_core::time::{DAY_MS, Time};
use tp_core::turn::Admission;

const START: Time = Time(19_737 * DAY_MS);

fn czk() -> Ledger {
    Ledger::new("CZK", 2).expect("valid")
}
/// The first account whose slot is of that partition.
fn account_in(partition: usize) -> AccountId {
    (1..1_000).map(AccountId).find(|id| SEED.slot_of(*id).index() % 2 == partition).expect("half of all accounts")
}

/// A payer in partition 0 with a hold of 100, a payee in partition 1.
struct Pair {
    world: World,
    payer: AccountId,
    payee: AccountId,
    hold: AuthorizationId,
}

const PAYER: usize = 0;
const PAYEE: usize = 1;

impl Pair {
    fn new() -> Self {
        let (payer, payee) = (account_in(PAYER), account_in(PAYEE));
        let mut world = World::new(2, Rules::default(), START);
        for (key, account) in [(1, payer), (2, payee)] {
            let settings = Settings { credit_limit: CreditLimit::Amount(Amount::from(1_000)), ..Settings::new(czk()) };
            let (key, note) = (Key::opaque(key), Note::default());
            world.call(OpenAccount { key, account, settings, note }.into());
        }
        let authorize = Authorize::new(Key::opaque(3), payer, czk(), Amount::from(100));
        let hold = world.call(Authorize { lifetime_ms: Some(60_000), ..authorize }.into()).authorization;
        Self { world, payer, payee, hold: hold.expect("approved") }
    }
    fn capture(&self, key: u128, amount: u64, is_final: bool) -> Command {
        let (authorization, payee, amount) = (self.hold, self.payee, Amount::from(amount));
        Capture { key: Key::opaque(key), authorization, payee, amount, is_final, note: Note::default() }.into()
    }
    fn void(&self, key: u128, amount: u64) -> Command {
        let amount = Some(Amount::from(amount));
        Void { key: Key::opaque(key), authorization: self.hold, amount, note: Note::default() }.into()
    }
    fn transfer(&self, key: u128, amount: u64) -> Command {
        let (account, payee, amount) = (self.payer, self.payee, Amount::from(amount));
        Transfer { key: Key::opaque(key), account, payee, ledger: czk(), amount, note: Note::default() }.into()
    }
    /// One whole turn of a partition: takes all there is, numbers it, sends.
    fn turn(&mut self, p: usize) {
        self.world.decide(p, usize::MAX, usize::MAX, usize::MAX);
        self.world.ticket(p);
        self.world.send(p);
        let end = self.world.journal.len();
        self.world.sync(end);
        self.world.check_books();
    }
    fn reply(&self, ticket: u64) -> Option<&Reply> {
        self.world.replies.get(&ticket)
    }
    fn kinds(&self, from: usize) -> Vec<&'static str> {
        self.world.journal[from..].iter().map(|event| event.body.name()).collect()
    }
}

#[test]
fn a_capture_across_partitions_is_three_events_and_one_reply() {
    let mut pair = Pair::new();
    let before = pair.world.journal.len();
    let ticket = pair.world.submit(pair.capture(10, 40, false));
    pair.turn(PAYER);
    assert_eq!(pair.reply(ticket), None, "no reply before the end");
    pair.turn(PAYEE);
    assert_eq!(pair.reply(ticket), None, "no reply before the end");
    pair.turn(PAYER);
    assert_eq!(pair.kinds(before), ["opened", "answered", "ended"]);
    let reply = pair.reply(ticket).expect("ended");
    assert_eq!((reply.outcome, reply.amount), (Outcome::Approved, Amount::from(40)));
    assert_eq!(reply.balances.map(|b| (b.posted, b.held)), Some((-40, 60)));
}

/// Released money that could still have to go back into the hold would let the account spend it twice.
#[test]
fn what_a_final_capture_releases_stays_held_until_the_end() {
    let mut pair = Pair::new();
    pair.world.submit(pair.capture(10, 40, true));
    pair.turn(PAYER);
    let held = |pair: &Pair| pair.world.account(pair.payer).expect("opened").balances.held;
    assert_eq!(held(&pair), 60, "the rest waits for the end");
    pair.turn(PAYEE);
    pair.turn(PAYER);
    assert_eq!(held(&pair), 0);
}

#[test]
fn eight_later_verbs_wait_for_the_exchange_and_a_ninth_is_busy() {
    let mut pair = Pair::new();
    pair.world.submit(pair.capture(10, 40, false));
    pair.turn(PAYER);
    let before = pair.world.journal.len();
    let waiting: Vec<u64> = (0..8).map(|n| pair.world.submit(pair.void(20 + n, 1))).collect();
    pair.turn(PAYER);
    let ninth = pair.world.submit(pair.void(30, 1));
    pair.turn(PAYER);
    assert_eq!(pair.reply(ninth).map(|r| r.outcome), Some(Outcome::Busy));
    assert!(waiting.iter().all(|ticket| pair.reply(*ticket).is_none()), "they wait");
    assert_eq!(pair.world.journal.len(), before, "nothing is decided meanwhile");
    pair.world.settle();
    for ticket in waiting {
        assert_eq!(pair.reply(ticket).map(|r| r.outcome), Some(Outcome::Approved));
    }
    let view = pair.world.authorization(pair.hold).expect("in memory");
    assert_eq!((view.held, view.captured), (52, 40));
    let again = pair.world.call(pair.void(30, 1));
    assert_eq!((again.outcome, again.repeated), (Outcome::Approved, false), "busy is not remembered");
}

#[test]
fn a_repeat_a_lookup_and_a_reversal_wait_for_the_end() {
    let mut pair = Pair::new();
    let first = pair.world.submit(pair.capture(10, 40, false));
    pair.turn(PAYER);
    let repeat = pair.world.submit(pair.capture(10, 40, false));
    let lookup = pair.world.submit(Lookup { account: pair.payer, key: Key::opaque(10), fence: true }.into());
    let (account, original, note) = (pair.payer, Key::opaque(10), Note::default());
    let reverse = pair.world.submit(Reverse { key: Key::opaque(11), account, original, new_total: None, note }.into());
    pair.turn(PAYER);
    for ticket in [first, repeat, lookup, reverse] {
        assert_eq!(pair.reply(ticket), None);
    }
    pair.world.settle();
    let said = |ticket| pair.reply(ticket).map(|r| (r.outcome, r.amount.get(), r.repeated));
    assert_eq!(said(first), Some((Outcome::Approved, 40, false)));
    assert_eq!(said(repeat), Some((Outcome::Approved, 40, true)));
    assert_eq!(said(lookup), Some((Outcome::Approved, 40, true)));
    assert_eq!(said(reverse), Some((Outcome::ReversalAccepted, 40, false)));
    let view = pair.world.authorization(pair.hold).expect("in memory");
    assert_eq!((view.held, view.captured, view.exchange_open), (100, 0, false));
}

#[test]
fn an_expiry_waits_for_the_exchange_and_then_comes_once() {
    let mut pair = Pair::new();
    pair.world.submit(pair.capture(10, 40, false));
    pair.turn(PAYER);
    pair.world.now = pair.world.now.plus_ms(60_000);
    pair.turn(PAYER);
    let state = |pair: &Pair| pair.world.authorization(pair.hold).expect("in memory").state;
    assert_eq!(state(&pair), AuthorizationState::Open, "the exchange is open");
    pair.world.settle();
    assert_eq!(state(&pair), AuthorizationState::Expired);
    let expiries = pair.kinds(0).iter().filter(|kind| **kind == "expired").count();
    assert_eq!(expiries, 1);
    let view = pair.world.authorization(pair.hold).expect("in memory");
    assert_eq!((view.held, view.captured), (0, 40), "the capture came in time");
}

#[test]
fn an_account_with_an_open_exchange_does_not_close() {
    let mut pair = Pair::new();
    pair.world.call(pair.void(9, 100));
    pair.world.submit(pair.transfer(10, 40));
    pair.turn(PAYER);
    let close = CloseAccount { key: Key::opaque(11), account: pair.payer, note: Note::default() };
    let ticket = pair.world.submit(close.into());
    pair.turn(PAYER);
    assert_eq!(pair.reply(ticket).map(|r| r.outcome), Some(Outcome::AccountNotEmpty));
    pair.world.settle();
}

/// The payee closes between open and answer: all that the payer gave comes back.
#[test]
fn a_refused_exchange_gives_everything_back() {
    let mut pair = Pair::new();
    let ticket = pair.world.submit(pair.capture(10, 40, true));
    pair.turn(PAYER);
    let close = CloseAccount { key: Key::opaque(11), account: pair.payee, note: Note::default() };
    let closed = pair.world.submit(close.into());
    pair.world.decide(PAYEE, 0, 1, 0);
    pair.world.ticket(PAYEE);
    pair.world.settle();
    assert_eq!(pair.reply(closed).map(|r| r.outcome), Some(Outcome::Approved));
    assert_eq!(pair.reply(ticket).map(|r| (r.outcome, r.amount)), Some((Outcome::PayeeClosed, Amount::ZERO)));
    let view = pair.world.authorization(pair.hold).expect("in memory");
    assert_eq!((view.state, view.held, view.captured), (AuthorizationState::Open, 100, 0));
}

/// Recovery after each event of an exchange, with each number of partitions: it ends, once, with the answer first given.
#[test]
fn an_exchange_cut_by_a_crash_ends_once() {
    for events in 0..=3 {
        for partitions in [1, 2, 3, 4, 8] {
            let mut pair = Pair::new();
            let before = pair.world.journal.len();
            pair.world.submit(pair.capture(10, 40, false));
            let turns = [PAYER, PAYEE, PAYER];
            for p in turns.into_iter().take(events) {
                pair.turn(p);
            }
            assert_eq!(pair.world.journal.len(), before + events);
            pair.world.crash(partitions);
            let repeat = pair.world.call(pair.capture(10, 40, false));
            assert_eq!((repeat.outcome, repeat.amount.get(), repeat.repeated), (Outcome::Approved, 40, events > 0));
            let posted = |id| pair.world.account(id).expect("opened").balances.posted;
            assert_eq!((posted(pair.payer), posted(pair.payee)), (-40, 40), "{events} events, {partitions} partitions");
            pair.world.check_replay(&[1, 2, 4, 8]);
        }
    }
}

/// An answered exchange is sent again after a crash that lost the end: the same answer, and no second event.
#[test]
fn an_answer_is_remembered_until_the_opener_forgets() {
    let mut pair = Pair::new();
    pair.world.submit(pair.transfer(10, 40));
    pair.turn(PAYER);
    pair.turn(PAYEE);
    for _ in 0..3 {
        pair.world.crash(2);
        // The opener sends again; the answer comes, and is lost with the power before it is taken.
        pair.world.send(PAYER);
        let before = pair.world.journal.len();
        pair.turn(PAYEE);
        assert_eq!(pair.world.journal.len(), before, "a re-sent exchange makes no event");
    }
    pair.world.settle();
    assert_eq!(pair.world.account(pair.payee).map(|a| a.balances.posted), Some(40));
    let before = pair.world.journal.len();
    pair.world.idle();
    assert!(pair.kinds(before).contains(&"forgotten"), "an idle opener lets its peer forget: {:?}", pair.kinds(before));
    pair.world.idle();
    let quiet = pair.world.journal.len();
    pair.world.idle();
    assert_eq!(pair.world.journal.len(), quiet, "once is enough");
    pair.world.check_replay(&[1, 2, 4, 8]);
}

#[test]
fn a_full_disk_refuses_what_would_change_state_and_finishes_what_is_open() {
    let mut pair = Pair::new();
    let first = pair.world.submit(pair.capture(10, 40, false));
    pair.turn(PAYER);
    pair.world.admission = Admission::NoSpace;
    pair.world.now = pair.world.now.plus_ms(60_000);
    let transfer = pair.world.submit(pair.transfer(11, 5));
    let fence = pair.world.submit(Lookup { account: pair.payer, key: Key::opaque(99), fence: true }.into());
    let lookup = pair.world.submit(Lookup { account: pair.payer, key: Key::opaque(3), fence: false }.into());
    for p in [PAYER, PAYEE, PAYER, PAYER] {
        pair.turn(p);
    }
    let said = |pair: &Pair, ticket| pair.reply(ticket).map(|r| (r.outcome, r.repeated));
    assert_eq!(said(&pair, first), Some((Outcome::Approved, false)), "an open exchange finishes");
    assert_eq!(said(&pair, transfer), Some((Outcome::NoSpace, false)));
    assert_eq!(said(&pair, fence), Some((Outcome::NoSpace, false)));
    assert_eq!(said(&pair, lookup), Some((Outcome::Approved, true)), "repeats and lookups are answered");
    assert!(!pair.kinds(0).contains(&"expired"), "expiries wait");
    pair.world.admission = Admission::Open;
    pair.world.settle();
    assert!(pair.kinds(0).contains(&"expired"), "service resumes by itself");
    assert_eq!(pair.world.call(pair.transfer(11, 5)).outcome, Outcome::Approved, "no_space is not remembered");
}

#[test]
fn a_closing_engine_answers_stopping_and_finishes_what_is_open() {
    let mut pair = Pair::new();
    let first = pair.world.submit(pair.capture(10, 40, false));
    pair.turn(PAYER);
    pair.world.admission = Admission::Stopping;
    let late = pair.world.submit(pair.transfer(11, 5));
    pair.world.settle();
    assert_eq!(pair.reply(first).map(|r| r.outcome), Some(Outcome::Approved));
    assert_eq!(pair.reply(late).map(|r| r.outcome), Some(Outcome::Stopping));
}

/// An undecided command whose deadline passed is never executed; a decided one is told to be in progress, and goes on.
#[test]
fn deadlines_are_swept_without_a_turn() {
    let mut pair = Pair::new();
    let decided = pair.world.submit_until(pair.capture(10, 40, false), 100);
    pair.turn(PAYER);
    let waiting = pair.world.submit_until(pair.void(11, 5), 100);
    let patient = pair.world.submit_until(pair.void(12, 7), 1_000);
    pair.turn(PAYER);
    pair.world.monotonic_ms = 99;
    pair.world.sweep();
    assert!(pair.world.replies.values().all(|r| !r.outcome.leaves_at_once()), "not yet");
    pair.world.monotonic_ms = 101;
    pair.world.sweep();
    assert_eq!(pair.reply(decided).map(|r| r.outcome), Some(Outcome::InProgress));
    assert_eq!(pair.reply(waiting).map(|r| r.outcome), Some(Outcome::DeadlineExceeded));
    assert_eq!(pair.reply(patient), None);
    pair.world.settle();
    assert_eq!(pair.reply(patient).map(|r| r.outcome), Some(Outcome::Approved));
    let view = pair.world.authorization(pair.hold).expect("in memory");
    assert_eq!((view.captured, view.held), (40, 53), "the swept void did nothing, the capture went on");
    let repeat = pair.world.call(pair.capture(10, 40, false));
    assert_eq!((repeat.outcome, repeat.repeated), (Outcome::Approved, true), "a repeat resolves what was in progress");
}

#[test]
fn a_command_that_arrives_too_late_is_not_decided() {
    let mut pair = Pair::new();
    let before = pair.world.journal.len();
    let late = pair.world.submit_until(pair.transfer(10, 5), 100);
    pair.world.monotonic_ms = 101;
    pair.world.settle();
    assert_eq!(pair.reply(late).map(|r| r.outcome), Some(Outcome::DeadlineExceeded));
    assert_eq!(pair.world.journal.len(), before);
}

#[test]
fn an_abandoned_partition_answers_everyone_who_waits() {
    let mut pair = Pair::new();
    let owed = pair.world.submit(pair.capture(10, 40, false));
    pair.turn(PAYER);
    let waiting = pair.world.submit(pair.void(11, 5));
    pair.turn(PAYER);
    pair.world.abandon();
    assert_eq!(pair.reply(owed).map(|r| r.outcome), Some(Outcome::InProgress), "its outcome is not known");
    assert_eq!(pair.reply(waiting).map(|r| r.outcome), Some(Outcome::Stopping), "it did nothing");
    assert!(pair.world.owed.is_empty());
}
