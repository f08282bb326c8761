//! A checkpoint that is whole but wrong: what recovery, views and `verify` make of it.
#![allow(clippy::cast_possible_truncation, reason = "small numbers of the tests themselves")]

mod common;

use std::path::Path;
use std::sync::Arc;

use common::{Workload, config_at, open_accounts, run};
use tp_actors::{Engine, VerifyStatus, View, ViewOptions, verify};
use tp_storage::{CheckpointStore, DataDirectory, Device, DiskDevice, Identity};

/// An orderly run with two checkpoints; the last events lie behind both.
fn fill(path: &Path) {
    let engine = Engine::open(config_at(path, 2)).expect("opens");
    open_accounts(&engine);
    let mut workload = Workload::new(11);
    for _ in 0..2 {
        run(&engine, &mut workload, 500, 64);
        engine.checkpoint().expect("taken");
    }
    run(&engine, &mut workload, 500, 64);
    engine.close_blocking().expect("an orderly close");
}

/// Writes the newest checkpoint again, its checksums good, with other claims of where its pages stand. Returns its generation.
fn forge(path: &Path, as_of: impl Fn(u64) -> u64) -> u64 {
    let device: Arc<dyn Device> = Arc::new(DiskDevice::new(path));
    let there = || Identity { engine_id: 0, parameters: Vec::new() };
    let directory = DataDirectory::create_or_open(device, there).expect("it is there, and nobody uses it");
    let store = CheckpointStore::new(&directory);
    let newest = *store.generations().expect("listed").last().expect("two were taken");
    let good = store.load(newest).expect("good");
    let mut writer = store.begin(good.epoch).expect("begun");
    for page in &good.pages {
        writer.page(page.slot, as_of(page.as_of), &page.bytes).expect("written");
    }
    let mut extra = good.extra.clone();
    let from = as_of(good.as_of_min).min(u64::from_le_bytes(extra[..8].try_into().expect("eight bytes")));
    extra[..8].copy_from_slice(&from.to_le_bytes());
    writer.finish(good.time, &extra).expect("finished").publish().expect("published")
}

#[test]
fn a_whole_checkpoint_that_the_journal_does_not_follow_from_falls_back_and_says_so() {
    for shift in [-20_i64, 20] {
        let dir = tempfile::tempdir().expect("a directory");
        fill(dir.path());
        let journal = ViewOptions { use_checkpoint: false, ..ViewOptions::default() };
        let expected = View::open(dir.path(), journal).expect("a good directory").digest();
        let forged = forge(dir.path(), |as_of| as_of.saturating_add_signed(shift));

        let view = View::open(dir.path(), ViewOptions::default()).expect("falls back");
        assert_eq!((view.digest(), view.checkpoint()), (expected, Some(forged - 1)), "shift {shift}");
        let says_so = |notes: &[String]| notes.iter().any(|note| note.contains(&format!("checkpoint {forged} is not")));
        assert!(says_so(view.notes()), "{:?}", view.notes());
        assert_eq!(verify(dir.path()).expect("verifies").status, VerifyStatus::Corrupt, "verify names the wrong file");

        let engine = Engine::open(config_at(dir.path(), 3)).expect("falls back");
        assert_eq!(engine.recovery().checkpoint, Some(forged - 1));
        assert!(says_so(&engine.recovery().notes), "{:?}", engine.recovery().notes);
        assert_eq!(engine.digest().expect("answers"), expected);
        common::assert_balanced(&engine);
    }
}
