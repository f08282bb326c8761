//! Checkpoints taken under load, and what recovery makes of them.
#![allow(clippy::cast_possible_truncation, reason = "small numbers of the tests themselves")]

mod common;

use common::{Workload, config_at, open_accounts, run};
use tp_actors::{CheckpointFailed, CheckpointPolicy, Config, Engine, VerifyStatus, View, ViewOptions, verify};

fn digest(path: &std::path::Path, use_checkpoint: bool) -> (tp_actors::StateDigest, Option<u64>) {
    let view = View::open(path, ViewOptions { use_checkpoint, ..ViewOptions::default() }).expect("a good directory");
    (view.digest(), view.checkpoint())
}

/// Runs a workload with checkpoints under it; ends at once, with exchanges open.
fn fill(path: &std::path::Path, checkpoints: usize) {
    let engine = Engine::open(config_at(path, 3)).expect("opens");
    open_accounts(&engine);
    std::thread::scope(|scope| {
        let load = scope.spawn(|| run(&engine, &mut Workload::new(7), 4_000, 128).len());
        for _ in 0..checkpoints {
            let done = engine.checkpoint().expect("taken");
            assert!(done.as_of <= done.as_of_max && done.as_of_max <= engine.durable_seq());
        }
        assert_eq!(load.join().expect("no panic"), 4_000);
    });
    assert_eq!(engine.status().checkpoint.failures, 0);
    drop(engine);
}

#[test]
fn a_checkpoint_taken_during_exchanges_recovers_to_what_the_journal_says() {
    let dir = tempfile::tempdir().expect("a directory");
    fill(dir.path(), 4);
    let (from_journal, none) = digest(dir.path(), false);
    let (from_checkpoint, generation) = digest(dir.path(), true);
    assert_eq!((none, from_checkpoint), (None, from_journal));
    assert!(generation.is_some(), "the checkpoint was used");
    let report = verify(dir.path()).expect("verifies");
    assert_eq!((report.status, report.checkpoints), (VerifyStatus::Ok, 2), "{:?}", report.problems);
    let engine = Engine::open(config_at(dir.path(), 2)).expect("opens");
    assert_eq!(engine.recovery().checkpoint, generation);
    assert!(engine.recovery().events_replayed < engine.last_seq().0, "not the whole journal was read");
    common::assert_balanced(&engine);
}

#[test]
fn a_broken_checkpoint_falls_back_to_the_one_before_then_to_the_journal_and_says_so() {
    let dir = tempfile::tempdir().expect("a directory");
    fill(dir.path(), 2);
    let (expected, newest) = digest(dir.path(), true);
    let newest = newest.expect("two were taken");
    let file = |generation: u64| dir.path().join(format!("checkpoints/{generation:020}.checkpoint"));
    for (broken, serves) in [(newest, Some(newest - 1)), (newest - 1, None)] {
        let mut bytes = std::fs::read(file(broken)).expect("a checkpoint");
        let middle = bytes.len() / 2;
        bytes[middle] ^= 4;
        std::fs::write(file(broken), bytes).expect("written");
        let view = View::open(dir.path(), ViewOptions::default()).expect("falls back");
        assert_eq!((view.digest(), view.checkpoint()), (expected, serves));
        assert!(view.notes().iter().any(|note| note.contains(&format!("checkpoint {broken}"))), "{:?}", view.notes());
    }
    let engine = Engine::open(config_at(dir.path(), 2)).expect("falls back");
    assert_eq!((engine.recovery().checkpoint, engine.recovery().notes.len() >= 2), (None, true));
    drop(engine);
    assert_eq!(verify(dir.path()).expect("verifies").status, VerifyStatus::Corrupt, "verify names the broken files");
}

#[test]
fn closing_takes_a_checkpoint_when_the_policy_says_so() {
    let dir = tempfile::tempdir().expect("a directory");
    let checkpoint = CheckpointPolicy { at_close: true, ..CheckpointPolicy::off() };
    let engine = Engine::open(Config { checkpoint, ..config_at(dir.path(), 2) }).expect("opens");
    open_accounts(&engine);
    let closed = engine.close_blocking().expect("an orderly close");
    assert_eq!(closed.checkpoint, Some(1));
    let engine = Engine::open(config_at(dir.path(), 2)).expect("opens");
    assert_eq!(engine.recovery().events_replayed, 0, "everything is in the checkpoint");
    assert_eq!(engine.close_blocking().expect("an orderly close").checkpoint, None);
}

#[test]
fn checkpoints_are_taken_after_so_many_events() {
    let dir = tempfile::tempdir().expect("a directory");
    let checkpoint = CheckpointPolicy { events: Some(500), ..CheckpointPolicy::off() };
    let engine = Engine::open(Config { checkpoint, ..config_at(dir.path(), 2) }).expect("opens");
    open_accounts(&engine);
    let mut workload = Workload::new(9);
    for _ in 0..200 {
        run(&engine, &mut workload, 100, 64);
        if engine.status().checkpoint.generation > 0 {
            return;
        }
    }
    panic!("none was taken within 20,000 commands");
}

#[test]
fn an_engine_in_memory_keeps_no_checkpoints() {
    let engine = Engine::open(common::in_memory(1)).expect("opens");
    assert!(matches!(engine.checkpoint(), Err(CheckpointFailed::NotKept)));
}
