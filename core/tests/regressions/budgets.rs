//! Memory budgets: a full one refuses with `busy`, and what time lets go of is free again.

use tp_core::command::Command;
use tp_core::ids::AccountId;
use tp_core::key::Key;
use tp_core::outcome::Outcome;
use tp_core::rules::{Budgets, Rules};
use tp_core::slot::Slot;
use tp_core::time::DAY_MS;

use crate::bank::{Bank, START, account, authorize, fence, inquire, transfer, void};
use crate::harness::SEED;

const BUDGET_BYTES: u64 = 64 * 1024;
/// More than any budget here takes.
const CALLS_MAX: usize = 2_000;

fn few_keys() -> Rules {
    Rules { budgets: Budgets { key_bytes: BUDGET_BYTES, ..Budgets::default() }, ..Rules::default() }
}

/// Calls until the first `busy`. How many were taken.
fn fill(bank: &mut Bank, mut next: impl FnMut(&mut Bank) -> Command) -> usize {
    for taken in 0..CALLS_MAX {
        let command = next(bank);
        match bank.outcome(command) {
            Outcome::Busy => return taken,
            outcome => assert!(outcome.is_approval() || outcome == Outcome::Fenced, "{outcome}"),
        }
    }
    panic!("the budget is not kept: {CALLS_MAX} calls are taken");
}

/// Forgetting goes by the time of the last event. A partition at its budget answered everything with `busy`, which is no
/// event, so its time stood still: it stayed full for ever, years after every window had passed.
#[test]
fn a_full_key_budget_is_free_again_after_the_window() {
    let mut bank = Bank::new(1, few_keys());
    let (payer, payee) = (account(0, 0), account(0, 1));
    bank.open(payer);
    bank.open(payee);
    let pay = |bank: &mut Bank| transfer(bank.key(), payer, payee, 1);
    let first = fill(&mut bank, pay);
    assert!(first > 200, "{first} payments fill the budget");
    bank.at(START.plus_ms(300_000));
    let within = pay(&mut bank);
    assert_eq!(bank.outcome(within), Outcome::Busy, "within the window nothing is free");
    for day in 1..=3 {
        bank.at(START.plus_ms(day * DAY_MS));
        let again = fill(&mut bank, pay);
        assert!(again >= first, "on day {day} {again} payments are taken, of {first} on an empty budget");
        assert!(bank.world.slot(SEED.slot_of(payer)).expect("a slot").key_bytes() <= BUDGET_BYTES);
    }
    bank.world.check_replay(&[1, 2]);
}

/// The eighth that is kept for fences and the like was no way out either.
#[test]
fn a_key_budget_full_to_the_last_of_its_reserve_is_free_again_after_the_window() {
    let mut bank = Bank::new(1, few_keys());
    let (payer, payee) = (account(0, 0), account(0, 1));
    bank.open(payer);
    bank.open(payee);
    let pay = |bank: &mut Bank| transfer(bank.key(), payer, payee, 1);
    let payments = fill(&mut bank, pay);
    let fences = fill(&mut bank, |bank| fence(payer, bank.key()));
    assert!(fences > payments / 10, "{fences} fences in the reserve behind {payments} payments");
    bank.at(START.plus_ms(DAY_MS));
    assert!(fill(&mut bank, pay) >= payments);
}

/// Accounts in slots of their own, none of them the slot of `others`.
fn quiet_accounts(others: [AccountId; 2], count: usize) -> Vec<AccountId> {
    let mut slots = others.map(|id| SEED.slot_of(id)).to_vec();
    let mut quiet = Vec::new();
    for id in (5_000..).map(AccountId) {
        if !slots.contains(&SEED.slot_of(id)) {
            slots.push(SEED.slot_of(id));
            quiet.push(id);
        }
        if quiet.len() == count {
            break;
        }
    }
    quiet
}

/// A slot was forgotten in only when an event touched it. Keys of slots that had fallen quiet held the budget of all others.
#[test]
fn past_keys_in_quiet_slots_free_the_budget_for_busy_ones() {
    let mut bank = Bank::new(1, few_keys());
    let (payer, payee) = (account(0, 0), account(0, 1));
    bank.open(payer);
    bank.open(payee);
    let quiet = quiet_accounts([payer, payee], 100);
    for id in &quiet {
        bank.open(*id);
    }
    let mut turns = quiet.iter().cycle();
    fill(&mut bank, |bank| inquire(bank.key(), *turns.next().expect("a cycle has no end")));
    let full = bank.world.keys_in_memory();
    for day in 1..=300 {
        bank.at(START.plus_ms(day * DAY_MS));
        let key = bank.key();
        assert_eq!(bank.outcome(transfer(key, payer, payee, 1)), Outcome::Approved, "on day {day}");
    }
    let keys = bank.world.keys_in_memory();
    assert!(keys <= 10, "{keys} keys in memory of {full}, all but a day's past their window");
    bank.world.check_replay(&[1, 2]);
}

/// The same standstill as of keys: closed authorizations past the refund window stayed, since no event could come.
#[test]
fn a_full_authorization_budget_is_free_again_after_the_refund_window() {
    let budgets = Budgets { authorization_bytes: BUDGET_BYTES, ..Budgets::default() };
    let mut bank = Bank::new(1, Rules { budgets, ..Rules::default() });
    let payer = account(0, 0);
    bank.open(payer);
    let hold_and_void = |bank: &mut Bank| {
        let key = bank.key();
        let reply = bank.call(authorize(key, payer, 10));
        if let Some(id) = reply.authorization {
            let key = bank.key();
            bank.approved(void(key, id));
        }
        // The void closed the hold, the repeat tells what became of it.
        authorize(key, payer, 10)
    };
    let first = fill(&mut bank, hold_and_void);
    assert!(first > 100, "{first} authorizations fill the budget");
    bank.at(START.plus_ms(300_000));
    let key = bank.key();
    assert_eq!(bank.outcome(authorize(key, payer, 10)), Outcome::Busy, "within the refund window nothing is free");
    bank.at(START.plus_ms(300 * DAY_MS));
    let again = fill(&mut bank, hold_and_void);
    assert!(again >= first, "{again} authorizations are taken, of {first} on an empty budget");
    bank.world.check_replay(&[1, 2]);
}

/// The admission at a full budget asked whether time alone would free *any* record. Under steady traffic some key is always past
/// its window, so the budget of authorizations was never kept.
#[test]
fn past_keys_do_not_open_the_budget_of_authorizations() {
    let budgets = Budgets { authorization_bytes: BUDGET_BYTES, ..Budgets::default() };
    let mut bank = Bank::new(1, Rules { budgets, ..Rules::default() });
    let payers: Vec<_> = (0..50).map(|n| account(0, n)).collect();
    for payer in &payers {
        bank.open(*payer);
    }
    for n in 1..=1_000u64 {
        bank.at(START.plus_ms(n * 60_000)); // a hold of seven days every minute for 17 hours: none may leave
        let key = bank.key();
        bank.outcome(authorize(key, payers[usize::try_from(n).expect("small") % payers.len()], 1));
    }
    let bytes: u64 = bank.world.slots().map(Slot::authorization_bytes).sum();
    assert!(bytes <= BUDGET_BYTES + BUDGET_BYTES / 8, "{bytes} bytes");
}

/// Keys past their window that an open hold keeps counted as if time would free them: the budget of keys was off.
#[test]
fn keys_that_a_hold_keeps_do_not_open_the_budget_of_keys() {
    let mut bank = Bank::new(1, few_keys());
    let (payer, payee, quiet) = (account(0, 0), account(0, 1), account(0, 2));
    for account in [payer, payee, quiet] {
        bank.open(account);
    }
    for n in 0..200 {
        bank.hold(Key::opaque(1_000 + n), quiet, 1);
    }
    bank.at(START.plus_ms(DAY_MS + 60_000));
    let mut next = 10_000;
    fill(&mut bank, |_| {
        next += 1;
        transfer(Key::opaque(next), payer, payee, 1)
    });
    let bytes: u64 = bank.world.slots().map(Slot::key_bytes).sum();
    assert!(bytes <= BUDGET_BYTES + BUDGET_BYTES / 8, "{bytes} bytes");
}
