//! The number of partitions is no part of the data: the same commands, one after the other, come to the same.
#![allow(clippy::cast_possible_truncation, reason = "small numbers of the tests themselves")]

mod common;

use std::collections::BTreeMap;

use common::{Workload, in_memory, open_accounts};
use tp_actors::Engine;
use tp_actors::tp_core::amount::Balances;
use tp_actors::tp_core::ids::{AccountId, SLOTS, SlotIndex};
use tp_actors::tp_core::outcome::Outcome;

type Results = (Vec<(Outcome, u128, Option<Balances>)>, BTreeMap<AccountId, (u128, u128, Balances)>);

fn run_one_by_one(partitions: usize, seed: u64) -> Results {
    let engine = Engine::open(in_memory(partitions)).expect("opens");
    open_accounts(&engine);
    let mut workload = Workload::new(seed);
    let mut outcomes = Vec::new();
    for _ in 0..600 {
        let (tag, command) = workload.next();
        let reply = engine.call_blocking(command);
        workload.learn(tag, &reply);
        outcomes.push((reply.outcome, reply.amount.get(), reply.balances));
    }
    let accounts = engine.accounts().expect("running");
    let accounts =
        accounts.into_iter().map(|view| (view.account, (view.debits, view.credits, view.balances))).collect();
    common::assert_balanced(&engine);
    engine.close_blocking().expect("an orderly close");
    (outcomes, accounts)
}

#[test]
fn the_same_commands_one_by_one_give_equal_outcomes_and_balances_on_any_number_of_partitions() {
    for seed in 0..3 {
        let one = run_one_by_one(1, seed);
        let approved = one.0.iter().filter(|(outcome, ..)| outcome.is_approval()).count();
        assert!((100..600).contains(&approved), "seed {seed}: {approved} approved of 600");
        for partitions in [2, 4, 8] {
            let many = run_one_by_one(partitions, seed);
            for (n, (a, b)) in one.0.iter().zip(&many.0).enumerate() {
                assert_eq!(a, b, "seed {seed}, {partitions} partitions, command {n}");
            }
            assert_eq!(one.1, many.1, "seed {seed}, {partitions} partitions");
        }
    }
}

#[test]
fn accounts_of_slots_are_those_that_are_wanted_each_from_its_own_slot() {
    let engine = Engine::open(in_memory(2)).expect("opens");
    open_accounts(&engine);
    let (all, seed) = (engine.accounts().expect("running"), engine.seed());
    let mut found = Vec::new();
    for first in (0..SLOTS).step_by(100) {
        let from = SlotIndex::new(first).expect("a slot");
        let is_wanted = move |slot: SlotIndex, id: AccountId| seed.slot_of(id) == slot && id.0.is_multiple_of(3);
        let some = engine.accounts_of_slots(from, 100, is_wanted).expect("running");
        assert!(some.iter().all(|view| (first..first + 100).contains(&seed.slot_of(view.account).get())));
        found.extend(some);
    }
    found.sort_unstable_by_key(|view| view.account);
    let expected: Vec<_> = all.into_iter().filter(|view| view.account.0 % 3 == 0).collect();
    assert!(!expected.is_empty() && found == expected, "{found:?}");
}
