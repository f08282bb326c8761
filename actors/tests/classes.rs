//! What kind of trouble an error is: it decides the exit code, and so what an operator does next.
#![allow(clippy::cast_possible_truncation, reason = "small numbers of the tests themselves")]

mod common;

use common::{config_at, open_accounts};
use tp_actors::{CheckpointPolicy, Config, Engine, ErrorClass, JournalKind, OpenError, View, ViewOptions, verify};
use tp_storage::SledJournalError;

fn sled_config(dir: &tempfile::TempDir) -> Config {
    Config { journal: JournalKind::Sled, ..config_at(dir.path(), 1) }
}

fn filled(make: impl Fn(&tempfile::TempDir) -> Config) -> tempfile::TempDir {
    let dir = tempfile::tempdir().expect("a directory");
    let engine = Engine::open(make(&dir)).expect("opens");
    open_accounts(&engine);
    engine.close_blocking().expect("an orderly close");
    dir
}

fn sled_error(dir: &tempfile::TempDir) -> (SledJournalError, ErrorClass) {
    let error = Engine::open(sled_config(dir)).expect_err("refused");
    let class = error.class();
    match error {
        OpenError::Sled(error) => (*error, class),
        other => panic!("{other}"),
    }
}

/// All of these were of the class of disk errors before: "free space or replace the disk".
#[test]
fn a_sled_journal_that_is_not_ours_is_about_the_directory_and_a_damaged_one_about_corruption() {
    let (ours, theirs) = (filled(sled_config), filled(sled_config));
    let journal = |dir: &tempfile::TempDir| dir.path().join("journal-sled");
    std::fs::rename(journal(&ours), ours.path().join("away")).expect("renamed");
    std::fs::rename(journal(&theirs), journal(&ours)).expect("renamed");
    let (error, class) = sled_error(&ours);
    assert!(matches!(error, SledJournalError::NotOurs { .. }), "{error}");
    assert_eq!(class, ErrorClass::Directory);

    let marker = journal(&ours).join("engine");
    let mut newer = std::fs::read(&marker).expect("a marker");
    newer[24] += 1;
    let checksum = crc32c::crc32c(&newer[..28]).to_le_bytes();
    newer[28..].copy_from_slice(&checksum);
    std::fs::write(&marker, newer).expect("written");
    let (error, class) = sled_error(&ours);
    assert!(matches!(error, SledJournalError::NewerFormat { .. }), "{error}");
    assert_eq!(class, ErrorClass::Directory);
}

/// sled took a store without its bytes for a new one, and the engine began at 1 again.
#[test]
fn a_sled_journal_that_lost_its_bytes_is_corrupt_and_not_new() {
    let dir = filled(sled_config);
    let db = dir.path().join("journal-sled/db");
    let bytes = std::fs::read(&db).expect("a store").len();
    std::fs::write(&db, vec![0; bytes]).expect("written");
    let (error, class) = sled_error(&dir);
    assert!(matches!(error, SledJournalError::Corrupt(_)), "{error}");
    assert_eq!(class, ErrorClass::Corruption);
}

fn checkpoint_of(dir: &tempfile::TempDir) -> std::path::PathBuf {
    dir.path().join(format!("checkpoints/{:020}.checkpoint", 1))
}

fn checkpointed(dir: &tempfile::TempDir) -> Config {
    let checkpoint = CheckpointPolicy { at_close: true, ..CheckpointPolicy::off() };
    Config { checkpoint, ..config_at(dir.path(), 1) }
}

#[test]
fn a_checkpoint_of_another_engine_is_about_the_directory() {
    let (ours, theirs) = (filled(checkpointed), filled(checkpointed));
    std::fs::copy(checkpoint_of(&theirs), checkpoint_of(&ours)).expect("copied");
    assert_eq!(Engine::open(checkpointed(&ours)).expect_err("refused").class(), ErrorClass::Directory);
    assert_eq!(View::open(ours.path(), ViewOptions::default()).expect_err("refused").class(), ErrorClass::Directory);
    let report = verify(ours.path()).expect("it goes on without it");
    assert!(report.problems.iter().any(|problem| problem.what.contains("another engine")), "{:?}", report.problems);
}

/// `verify` called it a disk error.
#[test]
fn a_checkpoint_of_a_newer_format_is_about_the_directory_whoever_reads_it() {
    let dir = filled(checkpointed);
    let mut bytes = std::fs::read(checkpoint_of(&dir)).expect("a checkpoint");
    bytes[8] += 1;
    let checksum = crc32c::crc32c_append(crc32c::crc32c(&bytes[..12]), &bytes[16..4096]).to_le_bytes();
    bytes[12..16].copy_from_slice(&checksum);
    std::fs::write(checkpoint_of(&dir), bytes).expect("written");
    assert_eq!(Engine::open(checkpointed(&dir)).expect_err("refused").class(), ErrorClass::Directory);
    assert_eq!(View::open(dir.path(), ViewOptions::default()).expect_err("refused").class(), ErrorClass::Directory);
    assert_eq!(verify(dir.path()).expect_err("refused").class(), ErrorClass::Directory);
}
