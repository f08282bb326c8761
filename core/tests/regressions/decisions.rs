//! Single commands that were decided wrongly: reserved ids, replies that showed too much, refusals without a reason, money
//! drawn from the wrong account.

use tp_core::amount::Ledger;
use tp_core::command::{Limits, PeriodLimit, Settings};
use tp_core::ids::{AccountId, SlotIndex};
use tp_core::key::Key;
use tp_core::outcome::Outcome;
use tp_core::reply::Flags;
use tp_core::rules::{Budgets, Rules};
use tp_core::slot::ORPHAN_KEYS_MAX;
use tp_core::turn::Admission;

use crate::bank::{
    Bank, account, advise_post, authorize, capture, eur, fence, increment, lookup, open_account, refund, reverse,
    settings, transfer,
};
use crate::harness::SEED;

/// A tombstone's owner leg makes the account where it is a suspense account. Reversals on ids of that form, with any bits for
/// a ledger, made as many accounts as a client liked, past the bound for keys of accounts that do not exist.
#[test]
fn reversals_and_lookups_on_reserved_accounts_are_malformed() {
    let slot = SlotIndex::new(3).expect("below 1,024");
    let ledgers = [eur(), Ledger::from_bits(0), Ledger::from_bits(u64::MAX)];
    let reserved = ledgers.map(|ledger| AccountId::suspense_of(slot, ledger));
    let mut bank = Bank::new(1, Rules::default());
    for id in reserved.into_iter().chain([AccountId(0), AccountId(u128::MAX)]) {
        let (key, original) = (bank.key(), bank.key());
        for command in [reverse(key, id, original), lookup(id, key), fence(id, key), authorize(key, id, 1)] {
            assert_eq!(bank.outcome(command.clone()), Outcome::Malformed, "{command:?}");
        }
    }
    assert!(bank.world.journal.is_empty() && bank.world.accounts().is_empty(), "nothing is made of them");
}

/// `no_space` leaves before anything is durable; the balances in it showed payments that a power cut could still take back (J2).
#[test]
fn a_fence_refused_for_space_shows_no_balances_and_leaves_at_once() {
    let mut bank = Bank::new(1, Rules::default());
    let (payer, payee) = (account(0, 0), account(0, 1));
    bank.open(payer);
    bank.open(payee);
    let paid = bank.start(transfer(Key::opaque(5), payer, payee, 70));
    bank.world.admission = Admission::NoSpace;
    let refused = bank.start(fence(payee, Key::opaque(99)));
    let unknown = bank.start(lookup(payee, Key::opaque(99)));
    let reply = bank.reply(refused).expect("it leaves at once");
    assert_eq!((reply.outcome, reply.balances), (Outcome::NoSpace, None));
    assert_eq!(bank.reply(paid), None, "the payment is not durable");
    assert_eq!(bank.reply(unknown), None, "what shows balances waits for it");
    bank.world.settle();
    let balances = bank.reply(unknown).and_then(|reply| reply.balances);
    assert_eq!(balances.map(|b| b.posted), Some(70));
}

/// The same of `busy`, at the end of the budget for keys.
#[test]
fn a_fence_refused_for_memory_shows_no_balances_and_leaves_at_once() {
    let budgets = Budgets { key_bytes: 8 * 1024, ..Budgets::default() };
    let mut bank = Bank::new(1, Rules { budgets, ..Rules::default() });
    let payer = account(0, 0);
    bank.open(payer);
    let tickets: Vec<u64> = (0..100).map(|n| bank.start(fence(payer, Key::opaque(100 + n)))).collect();
    let left: Vec<_> = tickets.iter().filter_map(|ticket| bank.reply(*ticket)).collect();
    assert!(!left.is_empty() && left.len() < 100, "{} of 100 fences have no room", left.len());
    assert!(left.iter().all(|reply| (reply.outcome, reply.balances) == (Outcome::Busy, None)), "{left:?}");
    bank.world.settle();
    let fenced = tickets.iter().filter(|ticket| bank.reply(**ticket).map(|r| r.outcome) == Some(Outcome::Fenced));
    assert_eq!(fenced.count(), 100 - bank.world.replies.values().filter(|r| r.outcome == Outcome::Busy).count());
}

/// Keys of accounts that do not exist are few in a slot. A stranger who used them up kept everyone else from opening an account
/// there, for an account that is being opened does not exist yet.
#[test]
fn an_account_is_opened_where_orphan_keys_are_used_up() {
    let mut bank = Bank::new(1, Rules::default());
    let opened = account(0, 0);
    let slot = SEED.slot_of(opened);
    let stranger =
        (1_000_000..1_100_000).map(AccountId).find(|id| SEED.slot_of(*id) == slot).expect("1 of 1,024 accounts");
    for _ in 0..ORPHAN_KEYS_MAX {
        let key = bank.key();
        bank.start(fence(stranger, key));
    }
    let key = bank.key();
    assert_eq!(bank.outcome(fence(stranger, key)), Outcome::Busy, "the bound is kept");
    bank.open(opened);
    let key = bank.key();
    assert_eq!(bank.outcome(authorize(key, opened, 1)), Outcome::Approved);
}

/// One approved hold or increment counts once a day. Reversing an increment that was captured meanwhile releases nothing, but
/// gave its count back: with a limit of two a client went on for ever.
#[test]
fn the_reversal_of_a_captured_increment_gives_no_count_back() {
    let (mut bank, payer, payee) = counted_twice_a_day();
    let id = bank.hold(Key::opaque(10), payer, 1);
    bank.approved(increment(Key::opaque(11), id, 50));
    bank.approved(capture(Key::opaque(12), id, payee, 51));
    let reversal = bank.approved(reverse(Key::opaque(13), payer, Key::opaque(11)));
    assert!(reversal.amount.is_zero(), "all of it is captured: {reversal:?}");
    assert_eq!(bank.outcome(increment(Key::opaque(14), id, 50)), Outcome::CountLimit);
}

/// The other side: an increment that comes back whole is as if it had never been.
#[test]
fn the_reversal_of_a_whole_increment_gives_its_count_back() {
    let (mut bank, payer, _) = counted_twice_a_day();
    let id = bank.hold(Key::opaque(10), payer, 1);
    bank.approved(increment(Key::opaque(11), id, 50));
    assert_eq!(bank.outcome(increment(Key::opaque(12), id, 50)), Outcome::CountLimit);
    bank.approved(reverse(Key::opaque(13), payer, Key::opaque(11)));
    assert_eq!(bank.outcome(increment(Key::opaque(14), id, 50)), Outcome::Approved);
    assert_eq!(bank.outcome(increment(Key::opaque(15), id, 50)), Outcome::CountLimit);
}

fn counted_twice_a_day() -> (Bank, AccountId, AccountId) {
    let mut bank = Bank::new(1, Rules::default());
    let (payer, payee) = (account(0, 0), account(0, 1));
    let day = PeriodLimit { count: Some(2), ..PeriodLimit::default() };
    let limited = Settings { limits: Limits { day, ..Limits::default() }, ..settings() };
    bank.approved(open_account(Key::opaque(1), payer, limited));
    bank.open(payee);
    (bank, payer, payee)
}

/// An advice to a payee that does not exist is booked on the suspense account of the payee's slot. Its refund, and its
/// reversal, took the money from the payee once it had been opened, who had never been paid; the suspense account kept it.
#[test]
fn what_an_advice_booked_on_suspense_is_refunded_and_reversed_from_there() {
    // With two partitions the payee's side is an exchange.
    for (partitions, parity) in [(1, 0), (2, 1)] {
        let mut bank = Bank::new(partitions, Rules::default());
        let (payer, payee) = (account(0, 0), account(parity, 1));
        let suspense = AccountId::suspense_of(SEED.slot_of(payee), eur());
        bank.open(payer);
        let id = bank.hold(Key::opaque(10), payer, 100);
        let advice = bank.approved(advise_post(Key::opaque(11), payer, payee, Some(id), 100));
        assert!(advice.flags.has(Flags::COUNTER_SUSPENSE), "{advice:?}");
        bank.open(payee);
        let books = |bank: &Bank| [payer, payee, suspense].map(|id| bank.posted(id));
        assert_eq!(books(&bank), [-100, 0, 100], "{partitions} partitions");
        bank.approved(refund(Key::opaque(12), id, 40));
        assert_eq!(books(&bank), [-60, 0, 60], "{partitions} partitions: refunded from where it was booked");
        bank.approved(reverse(Key::opaque(13), payer, Key::opaque(12)));
        assert_eq!(books(&bank), [-100, 0, 100], "{partitions} partitions: an undone refund returns there");
        bank.approved(reverse(Key::opaque(14), payer, Key::opaque(11)));
        assert_eq!(books(&bank), [0, 0, 0], "{partitions} partitions: reversed from where it was booked");
        bank.world.check_replay(&[1, 2, 4]);
    }
}

/// The same of an advice without an authorization, which only its reversal undoes.
#[test]
fn an_unmatched_advice_booked_on_suspense_is_reversed_from_there() {
    for (partitions, parity) in [(1, 0), (2, 1)] {
        let mut bank = Bank::new(partitions, Rules::default());
        let (payer, payee) = (account(0, 0), account(parity, 1));
        bank.open(payer);
        bank.approved(advise_post(Key::opaque(11), payer, payee, None, 100));
        bank.open(payee);
        bank.approved(reverse(Key::opaque(12), payer, Key::opaque(11)));
        let books = [payer, payee, AccountId::suspense_of(SEED.slot_of(payee), eur())].map(|id| bank.posted(id));
        assert_eq!(books, [0, 0, 0], "{partitions} partitions");
        bank.world.check_replay(&[1, 2, 4]);
    }
}
