//! Scenario tables: every row and notable refusal of the life cycle, run on 1 and 3 partitions and on the model.
//!
//! The language: `script/mod.rs`. The tables: `scenarios/*.txt`.

mod harness;
mod model;
mod script;

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use harness::World;
use model::{Made, Model};
use script::{Observed, ObservedHold, START, Subject};
use tp_core::amount::Balances;
use tp_core::command::{Command, Status};
use tp_core::ids::{AccountId, AuthorizationId};
use tp_core::key::Key;
use tp_core::outcome::Outcome;
use tp_core::reply::Reply;
use tp_core::rules::Rules;
use tp_core::time::Time;

/// The core on some partitions.
struct Core(World);

impl Core {
    fn on(partitions: usize) -> Self {
        Self(World::new(partitions, Rules::default(), START))
    }
    fn settle_at(&mut self, now: Time) {
        self.0.now = now;
        self.0.settle();
    }
}

impl Subject for Core {
    fn start(&mut self, rules: Rules) {
        self.0 = World::new(self.0.partitions(), rules, START);
    }
    fn call(&mut self, now: Time, command: &Command) -> Observed {
        self.settle_at(now);
        observed(&self.0.call(command.clone()))
    }
    fn account(&mut self, now: Time, id: AccountId) -> Option<(Balances, Status)> {
        self.settle_at(now);
        self.0.account(id).map(|view| (view.balances, view.settings.status))
    }
    fn hold(&mut self, now: Time, id: AuthorizationId) -> Option<ObservedHold> {
        self.settle_at(now);
        let view = self.0.authorization(id)?;
        let signed = |n: u128| i128::try_from(n).expect("a balance");
        Some(ObservedHold {
            state: view.state,
            authorized: signed(view.authorized),
            held: signed(view.held),
            captured: signed(view.captured),
            refunded: signed(view.refunded),
        })
    }
}

fn observed(reply: &Reply) -> Observed {
    Observed {
        outcome: reply.outcome,
        repeated: reply.repeated,
        reversed: reply.reversed,
        flags: reply.flags,
        amount: i128::try_from(reply.amount.get()).expect("below 2^96"),
        balances: reply.balances,
        authorization: reply.authorization,
        transfer: reply.transfer,
        expires: reply.expires,
    }
}

/// The model; it makes ids of its own.
struct Naive {
    model: Model,
    made: u64,
}

impl Naive {
    fn new() -> Self {
        Self { model: Model::new(harness::SEED, Rules::default()), made: 0 }
    }
}

impl Subject for Naive {
    fn start(&mut self, rules: Rules) {
        self.model = Model::new(harness::SEED, rules);
    }
    fn call(&mut self, now: Time, command: &Command) -> Observed {
        self.made += 1;
        let slot = command.slot(&harness::SEED).unwrap_or(harness::SEED.slot_of(AccountId(1)));
        let authorization = Some(AuthorizationId::new(now, slot, self.made));
        let transfer = Some(tp_core::ids::TransferId::new(now, slot, self.made));
        let e = self.model.apply(now, command, Made { authorization, transfer });
        Observed {
            outcome: e.outcome,
            repeated: e.repeated,
            reversed: e.reversed,
            flags: e.flags,
            amount: e.amount,
            balances: e.balances,
            authorization: e.authorization,
            transfer: e.transfer,
            expires: e.expires,
        }
    }
    fn account(&mut self, now: Time, id: AccountId) -> Option<(Balances, Status)> {
        self.model.expire(now);
        self.model.accounts.get(&id).map(|account| (account.balances(), account.settings.status))
    }
    fn hold(&mut self, now: Time, id: AuthorizationId) -> Option<ObservedHold> {
        self.model.expire(now);
        let hold = &self.model.holds[self.model.hold_of(id)?];
        Some(ObservedHold {
            state: hold.state,
            authorized: hold.authorized,
            held: hold.held,
            captured: hold.captured(),
            refunded: hold.captures.iter().map(|c| c.refunded).sum(),
        })
    }
}

fn tables() -> Vec<(PathBuf, String)> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/scenarios");
    let entries = std::fs::read_dir(&folder).expect("the folder of tables");
    let mut paths: Vec<PathBuf> = entries.map(|entry| entry.expect("an entry").path()).collect();
    paths.sort();
    paths.into_iter().map(|path| (path.clone(), std::fs::read_to_string(&path).expect("a table"))).collect()
}

/// The scenarios of a table, each with the number of its first line.
fn blocks(text: &str) -> Vec<(usize, String)> {
    let mut blocks = Vec::new();
    for (n, line) in text.lines().enumerate() {
        if line.starts_with("scenario ") {
            blocks.push((n, String::new()));
        }
        if let Some((_, block)) = blocks.last_mut() {
            block.push_str(line);
            block.push('\n');
        }
    }
    blocks
}

/// Runs every scenario, each in its own world, so that one failure hides no other. Returns the outcomes seen.
fn check(subject: impl Fn() -> Box<dyn Subject>) -> BTreeSet<Outcome> {
    let (mut failures, mut seen) = (Vec::new(), BTreeSet::new());
    for (path, text) in tables() {
        let name = path.file_name().expect("a file").to_string_lossy().into_owned();
        for (first, block) in blocks(&text) {
            let title = block.lines().next().unwrap_or_default().to_owned();
            let run = || script::run(&block, subject().as_mut());
            match std::panic::catch_unwind(std::panic::AssertUnwindSafe(run)) {
                Err(panic) => failures.push(format!("{name}:{}: {title}: {}", first + 1, said(panic.as_ref()))),
                Ok((problems, outcomes)) => {
                    failures.extend(problems.into_iter().map(|p| format!("{name}:{}: {title}: {p}", first + 1)));
                    seen.extend(outcomes);
                }
            }
        }
    }
    assert!(failures.is_empty(), "{} failures:\n{}", failures.len(), failures.join("\n"));
    seen
}

fn said(panic: &(dyn std::any::Any + Send)) -> String {
    let owned = panic.downcast_ref::<String>().cloned();
    owned.or_else(|| panic.downcast_ref::<&str>().map(|s| (*s).to_owned())).unwrap_or_default()
}

#[test]
fn every_scenario_holds_on_one_partition() {
    check(|| Box::new(Core::on(1)));
}

#[test]
fn every_scenario_holds_on_three_partitions() {
    check(|| Box::new(Core::on(3)));
}

#[test]
fn every_scenario_holds_in_the_model() {
    check(|| Box::new(Naive::new()));
}

#[test]
fn every_outcome_that_is_decided_is_produced_by_a_scenario() {
    let seen = check(|| Box::new(Naive::new()));
    let decided = |outcome: &&Outcome| (**outcome as u8) < Outcome::InProgress as u8;
    let missing: Vec<&Outcome> = Outcome::ALL.iter().filter(decided).filter(|o| !seen.contains(o)).collect();
    assert!(missing.is_empty(), "no scenario produces {missing:?}");
}

#[test]
fn a_table_with_a_wrong_expectation_fails() {
    let text = "scenario s\nopen alice => account_exists\nopen bob credit 5 => approved available 6\nfly";
    let (failures, _) = script::run(text, &mut Naive::new());
    assert_eq!(failures.len(), 3, "{failures:?}");
}

#[test]
fn a_key_of_the_language_is_well_formed() {
    assert!(Key::uuid_v7_from_parts(START, 7).is_well_formed());
}
