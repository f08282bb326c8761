//! What leaves memory: keys past their window, whatever else is under way, and in a replay as in the live engine.

use tp_core::ids::{AccountId, AuthorizationId};
use tp_core::key::Key;
use tp_core::outcome::Outcome;
use tp_core::rules::{KEY_AHEAD_MS, Rules};
use tp_core::time::{DAY_MS, Time};

use crate::bank::{
    Bank, MINUTE_MS, START, account, advise_post, authorize, capture, capture_all, fence, increment, inquire, lookup,
    refund, reverse, transfer, void,
};
use crate::harness::SEED;

const PAYER: usize = 0;
const PAYEE: usize = 1;
/// The key of the story.
const FIRST: Key = Key::opaque(1_000);
/// So many keys are older than it: more than one event forgets.
const OLDER: u128 = 40;

/// A payer whose hold was captured in full three days ago, with all keys of that day past their window.
struct Captured {
    bank: Bank,
    payer: AccountId,
    hold: AuthorizationId,
}

impl Captured {
    /// Afterwards `events` events pass: each forgets a few keys, so that the first key is still in memory after none.
    fn three_days_ago(events: u128) -> Self {
        let mut bank = Bank::new(2, Rules::default());
        let (payer, payee) = (account(PAYER, 0), account(PAYEE, 0));
        bank.open(payer);
        bank.open(payee);
        for n in 0..OLDER {
            bank.approved(inquire(Key::opaque(n + 1), payer));
        }
        let hold = bank.hold(FIRST, payer, 100);
        bank.approved(capture_all(Key::opaque(1_001), hold, payee, 100));
        bank.at(START.plus_ms(3 * DAY_MS));
        for n in 0..events {
            bank.approved(inquire(Key::opaque(2_000 + n), payer));
        }
        Self { bank, payer, hold }
    }

    fn open_refund(&mut self) {
        let ticket = self.bank.start(refund(Key::opaque(3_000), self.hold, 10));
        let view = self.bank.world.authorization(self.hold).expect("within the refund window");
        assert!(view.exchange_open && self.bank.reply(ticket).is_none(), "the refund waits for the payee's partition");
    }

    fn keys(&self) -> usize {
        self.bank.world.slot(SEED.slot_of(self.payer)).expect("a slot").counts()[3]
    }
}

/// A refund opens an exchange on a captured authorization. That made the keys of its hold visible again after their window,
/// but only those that had not been evicted yet: the digest depended on how many events had passed (J4).
#[test]
fn a_forgotten_key_stays_forgotten_while_its_closed_authorization_has_an_exchange() {
    for events in [0, OLDER] {
        let mut story = Captured::three_days_ago(events);
        story.open_refund();
        if events == 0 {
            assert!(story.keys() > 30, "the first key is still in memory, behind the older ones");
        }
        let known = lookup(story.payer, FIRST);
        let ticket = story.bank.start(known);
        story.bank.world.sync(story.bank.world.journal.len());
        let outcome = story.bank.reply(ticket).map(|reply| reply.outcome);
        assert_eq!(outcome, Some(Outcome::OriginalNotFound), "after {events} events");
        story.bank.world.check_replay(&[1, 2, 4]);
        story.bank.world.settle();
        story.bank.world.check_replay(&[1, 2, 4]);
    }
}

/// The same resurrected key made a journal that could not be replayed: live it was free, since it had been evicted, and a
/// second command used it; in the replay it was still there, and visible by the open exchange (IDM-1).
#[test]
fn a_key_used_again_during_an_exchange_leaves_a_journal_that_replays() {
    for events in [0, OLDER] {
        let mut story = Captured::three_days_ago(events);
        story.open_refund();
        let again = authorize(FIRST, story.payer, 5);
        let ticket = story.bank.start(again);
        story.bank.world.check_replay(&[1, 2, 4]);
        story.bank.world.settle();
        let reply = story.bank.reply(ticket).expect("at rest");
        assert_eq!((reply.outcome, reply.repeated), (Outcome::Approved, false), "after {events} events");
        story.bank.world.check_replay(&[1, 2, 4]);
    }
}

/// An opaque key is free after its window, also while its record waits for its eviction: neither a repeat nor a conflict.
#[test]
fn a_key_past_its_window_is_free_whether_it_was_evicted_or_not() {
    for events in [0, OLDER] {
        let mut story = Captured::three_days_ago(events);
        assert_eq!(story.bank.outcome(lookup(story.payer, FIRST)), Outcome::OriginalNotFound);
        let reply = story.bank.call(authorize(FIRST, story.payer, 101));
        assert_eq!((reply.outcome, reply.repeated), (Outcome::Approved, false), "after {events} events");
        story.bank.world.check_replay(&[1, 2, 4]);
    }
}

/// An account inquired once a minute for two hundred minutes, under `uuid_v7` keys with their window of ten minutes. How many
/// keys its slot holds in the end.
fn keys_after_two_hundred_minutes(bank: &mut Bank, payer: AccountId) -> usize {
    for n in 1..=200 {
        bank.at(START.plus_ms(n * MINUTE_MS));
        let key = bank.key();
        bank.approved(inquire(key, payer));
    }
    bank.world.slot(SEED.slot_of(payer)).expect("a slot").counts()[3]
}

/// The end of a key's window counts from its own time. A fence, or the tombstone of a reversal, of a key from the year 10889
/// stood at the head of the slot's queue for ever, and every later key behind it. A command under such a key is refused
/// anyway.
#[test]
fn a_key_from_far_ahead_is_key_expired_and_blocks_no_forgetting() {
    let far = [Time::MAX, START.plus_ms(KEY_AHEAD_MS + 1)].map(|time| Key::uuid_v7_from_parts(time, 1));
    for (key, is_fence) in far.into_iter().flat_map(|key| [(key, true), (key, false)]) {
        let mut bank = Bank::new(1, Rules::default());
        let payer = account(0, 0);
        bank.open(payer);
        let before = bank.world.journal.len();
        let own = bank.key();
        let command = if is_fence { fence(payer, key) } else { reverse(own, payer, key) };
        assert_eq!(bank.outcome(command), Outcome::KeyExpired, "{key:?}");
        assert_eq!(bank.world.journal.len(), before, "what is not remembered is no event");
        let keys = keys_after_two_hundred_minutes(&mut bank, payer);
        assert!(keys <= 20, "{keys} keys in memory, of which ten minutes are within their window");
    }
}

/// The other side of that bound: five minutes ahead a clock may be, and what it made can be forbidden.
#[test]
fn a_key_five_minutes_ahead_can_be_fenced_and_reversed() {
    let mut bank = Bank::new(1, Rules::default());
    let payer = account(0, 0);
    bank.open(payer);
    let [fenced, reversed] = [1, 2].map(|n| Key::uuid_v7_from_parts(START.plus_ms(KEY_AHEAD_MS), n));
    let own = bank.key();
    assert_eq!(bank.outcome(fence(payer, fenced)), Outcome::Fenced);
    assert_eq!(bank.outcome(reverse(own, payer, reversed)), Outcome::ReversalAccepted);
    assert_eq!(bank.outcome(authorize(fenced, payer, 1)), Outcome::Fenced);
    assert_eq!(bank.outcome(authorize(reversed, payer, 1)), Outcome::ReversedBefore);
    let keys = keys_after_two_hundred_minutes(&mut bank, payer);
    assert!(keys <= 20, "{keys} keys in memory, of which ten minutes are within their window");
    bank.world.check_replay(&[1, 3]);
}

/// Opaque keys live for a day, `uuid_v7` keys for ten minutes. In one queue for both, a single opaque key kept a day of the
/// others in memory.
#[test]
fn one_opaque_key_does_not_hold_uuid_keys() {
    let mut bank = Bank::new(1, Rules::default());
    let payer = account(0, 0);
    bank.open(payer);
    bank.approved(inquire(FIRST, payer));
    let keys = keys_after_two_hundred_minutes(&mut bank, payer);
    assert!(keys <= 20, "{keys} keys in memory, of which ten minutes are within their window");
    let repeat = bank.call(inquire(FIRST, payer));
    assert!(repeat.repeated, "the opaque key is remembered for its day: {repeat:?}");
}

fn keys_of(bank: &Bank, payer: AccountId) -> usize {
    bank.world.slot(SEED.slot_of(payer)).expect("a slot").counts()[3]
}

/// Events of the payer, each under a key of its own.
fn pass(bank: &mut Bank, payer: AccountId, events: u64) {
    for _ in 0..events {
        let key = bank.key();
        bank.approved(inquire(key, payer));
    }
}

/// Keys past their window that open holds keep are in no order of forgetting, for as long as those are open. Each must come back to it
/// when its hold closes, however that closes, and whichever command of the hold was sent under it.
#[test]
fn keys_that_open_holds_kept_are_known_until_those_close_and_then_leave() {
    let mut bank = Bank::new(2, Rules::default());
    let (payer, payee) = (account(PAYER, 0), account(PAYEE, 0));
    bank.open(payer);
    bank.open(payee);
    let key = |n: u128, step: u128| Key::opaque(1_000 * (step + 1) + n);
    let holds: Vec<AuthorizationId> = (0..60).map(|n| bank.hold(key(n, 0), payer, 100)).collect();
    for (n, hold) in (0..).zip(&holds) {
        bank.approved(increment(key(n, 1), *hold, 10));
        bank.approved(capture(key(n, 2), *hold, payee, 5));
    }
    bank.at(START.plus_ms(3 * DAY_MS));
    pass(&mut bank, payer, 200);
    for (n, hold) in (0..).zip(&holds) {
        let repeats = [
            bank.call(authorize(key(n, 0), payer, 100)),
            bank.call(increment(key(n, 1), *hold, 10)),
            bank.call(capture(key(n, 2), *hold, payee, 5)),
        ];
        assert!(repeats.iter().all(|reply| reply.repeated && reply.outcome == Outcome::Approved), "{repeats:?}");
    }
    bank.world.check_replay(&[1, 2, 4]);
    for (n, hold) in (0..).zip(&holds) {
        let own = key(n, 3);
        match n % 5 {
            0 => drop(bank.approved(void(own, *hold))),
            1 => drop(bank.approved(capture_all(own, *hold, payee, 10))),
            2 => assert_eq!(bank.outcome(reverse(own, payer, key(n, 0))), Outcome::ReversalAccepted),
            3 => {
                let advice = advise_post(own, payer, payee, Some(*hold), 20);
                assert_eq!(bank.outcome(advice), Outcome::AdviceAccepted);
            }
            _ => continue, // it expires
        }
        assert!(bank.world.authorization(*hold).is_some_and(|view| view.held == 0), "the hold is closed");
    }
    bank.world.check_replay(&[1, 2, 4]);
    bank.at(START.plus_ms(20 * DAY_MS));
    pass(&mut bank, payer, 400);
    assert_eq!(keys_of(&bank, payer), 400, "the young ones");
    bank.world.crash(3);
    bank.at(START.plus_ms(21 * DAY_MS));
    pass(&mut bank, payer, 300);
    assert_eq!(keys_of(&bank, payer), 300, "after a replay too");
}

/// Each touch of a slot pays for what it adds: of one that a turn touches twenty times, eighty keys leave.
#[test]
fn a_slot_touched_often_in_a_turn_forgets_as_often() {
    let mut bank = Bank::new(1, Rules::default());
    let payer = account(0, 0);
    bank.open(payer);
    pass(&mut bank, payer, 200);
    bank.at(START.plus_ms(20 * MINUTE_MS));
    let before = keys_of(&bank, payer);
    for _ in 0..20 {
        let key = bank.key();
        bank.world.submit(inquire(key, payer));
    }
    bank.world.decide(0, usize::MAX, usize::MAX, usize::MAX);
    bank.world.ticket(0);
    let left = before + 20 - keys_of(&bank, payer);
    assert!((80..=84).contains(&left), "{left}: the slot may have been among those visited in turn");
}

/// A hold that kept many keys closes, and the engine stops before they have left. A start has no time of a last event; the turns
/// before the first one took the keys out of the order, and none of them left any more.
#[test]
fn keys_that_a_closed_hold_freed_leave_after_a_restart() {
    let mut bank = Bank::new(1, Rules::default());
    let payer = account(0, 0);
    bank.open(payer);
    let hold = bank.hold(Key::opaque(1), payer, 100);
    for n in 2..=40 {
        bank.approved(increment(Key::opaque(n), hold, 1));
    }
    bank.at(START.plus_ms(2 * DAY_MS));
    pass(&mut bank, payer, 40);
    bank.approved(void(Key::opaque(100), hold));
    let left = keys_of(&bank, payer);
    assert!(left > 60, "most of the forty are still there: {left}");
    bank.world.crash(1);
    for _ in 0..2 * 1_024 / 8 {
        let known = bank.call(lookup(payer, Key::opaque(100)));
        assert!(known.repeated, "no event, but a turn");
    }
    bank.at(START.plus_ms(5 * DAY_MS));
    pass(&mut bank, payer, 60);
    assert_eq!(keys_of(&bank, payer), 60, "the young ones");
}

/// Only the turns of a running engine forgot. After a replay all keys of the journal were in memory: a directory that had run
/// for a month within its budget came back beyond it.
#[test]
fn a_replay_forgets_what_the_live_engine_forgot() {
    let mut bank = Bank::new(1, Rules::default());
    let (payer, payee) = (account(0, 0), account(0, 1));
    bank.open(payer);
    bank.open(payee);
    for n in 1..=500 {
        bank.at(START.plus_ms(n * MINUTE_MS));
        let key = bank.key();
        bank.approved(transfer(key, payer, payee, 1));
    }
    let live = bank.world.keys_in_memory();
    for partitions in [1, 3] {
        bank.world.crash(partitions);
        let replayed = bank.world.keys_in_memory();
        assert!((10..=20).contains(&replayed), "{replayed} of 502 keys after a replay, {live} before it");
        bank.world.check_replay(&[1, 3]);
    }
}
