//! Whatever happens to the catalogue: no cursor is deleted, the engine serves, and says what is the matter.
#![allow(clippy::cast_possible_truncation, reason = "small numbers of the tests themselves")]

mod common;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use common::{authorize, config_at, open_accounts};
use tp_actors::tp_core::ids::Seq;
use tp_actors::{CatalogueStatus, CursorError, Engine, ErrorClass, OpenError, rebuild_catalogue};
use tp_storage::{CatalogueError, SledCatalogue};

/// A directory whose catalogue holds a cursor, and its last number.
fn directory() -> (tempfile::TempDir, Seq) {
    let dir = tempfile::tempdir().expect("a directory");
    let engine = Engine::open(config_at(dir.path(), 1)).expect("opens");
    open_accounts(&engine);
    engine.set_cursor("feed", Seq(7)).expect("kept");
    let last_seq = engine.close_blocking().expect("an orderly close").last_seq;
    (dir, last_seq)
}

fn catalogue_of(dir: &tempfile::TempDir) -> PathBuf {
    dir.path().join("catalogue")
}

/// Every file below a folder, with its bytes.
fn files(folder: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let mut all = BTreeMap::new();
    for entry in std::fs::read_dir(folder).expect("a folder") {
        let path = entry.expect("an entry").path();
        if path.is_dir() {
            all.extend(files(&path));
        } else {
            all.insert(path.clone(), std::fs::read(&path).expect("a file"));
        }
    }
    all
}

fn wait_until(engine: &Engine, is_so: impl Fn(&CatalogueStatus) -> bool) -> CatalogueStatus {
    let start = Instant::now();
    loop {
        let status = engine.status().catalogue;
        if is_so(&status) {
            return status;
        }
        assert!(start.elapsed() < Duration::from_mins(1), "{status:?}");
        std::thread::yield_now();
    }
}

fn is_settled(status: &CatalogueStatus) -> bool {
    status.failure.is_none() && !status.is_stale && status.lag_events == 0 && status.seq > Seq::ZERO
}

/// Before, any failing open deleted the folder: another engine's cursors were gone.
#[test]
fn a_catalogue_of_another_engine_refuses_the_open_and_nothing_is_changed() {
    let ((ours, _), (theirs, _)) = (directory(), directory());
    std::fs::rename(catalogue_of(&ours), ours.path().join("away")).expect("renamed");
    std::fs::rename(catalogue_of(&theirs), catalogue_of(&ours)).expect("renamed");
    let before = files(ours.path());
    let error = Engine::open(config_at(ours.path(), 1)).expect_err("refused");
    assert!(matches!(&error, OpenError::Catalogue(e) if matches!(**e, CatalogueError::NotOurs { .. })), "{error}");
    assert_eq!(error.class(), ErrorClass::Directory);
    assert!(files(ours.path()) == before, "a byte was changed");
    // It can be put right: each in its place again.
    std::fs::rename(catalogue_of(&ours), catalogue_of(&theirs)).expect("renamed");
    std::fs::rename(ours.path().join("away"), catalogue_of(&ours)).expect("renamed");
    for dir in [&ours, &theirs] {
        let engine = Engine::open(config_at(dir.path(), 1)).expect("opens");
        assert_eq!(engine.cursor("feed").expect("answered"), Some(Seq(7)));
    }
}

#[test]
fn a_catalogue_of_a_newer_format_refuses_the_open_and_nothing_is_changed() {
    let (dir, _) = directory();
    let path = catalogue_of(&dir).join("engine");
    let mut marker = std::fs::read(&path).expect("a marker");
    marker[24] += 1;
    let checksum = crc32c::crc32c(&marker[..28]).to_le_bytes();
    marker[28..].copy_from_slice(&checksum);
    std::fs::write(&path, marker).expect("written");
    let before = files(dir.path());
    let error = Engine::open(config_at(dir.path(), 1)).expect_err("refused");
    assert!(matches!(&error, OpenError::Catalogue(e) if matches!(**e, CatalogueError::NewerFormat { .. })), "{error}");
    assert_eq!(error.class(), ErrorClass::Directory);
    assert!(files(dir.path()) == before, "a byte was changed");
}

#[test]
fn a_catalogue_that_the_system_does_not_open_is_left_alone_and_tried_again() {
    let (dir, _) = directory();
    let (db, away) = (catalogue_of(&dir).join("db"), dir.path().join("db.away"));
    // Opening it fails with EISDIR, which says nothing about what was stored.
    std::fs::rename(&db, &away).expect("renamed");
    std::fs::create_dir(&db).expect("made");
    let engine = Engine::open(config_at(dir.path(), 1)).expect("serves without it");
    assert!(engine.call_blocking(authorize(500, 1, 1)).outcome.is_approval());
    let status = wait_until(&engine, |status| status.failure.is_some());
    assert!(status.is_stale && status.failure.as_ref().is_some_and(|why| why.contains("directory")), "{status:?}");
    assert!(engine.recovery().notes.iter().any(|note| note.contains("left alone")), "{:?}", engine.recovery().notes);
    assert!(matches!(engine.cursor("feed"), Err(CursorError::Catalogue(_))));
    assert!(matches!(engine.set_cursor("feed", Seq(8)), Err(CursorError::Catalogue(_))));
    std::fs::remove_dir(&db).expect("removed");
    std::fs::rename(&away, &db).expect("renamed");
    let status = wait_until(&engine, is_settled);
    assert_eq!(status.rebuilds, 0, "the old one is in use again");
    assert_eq!(engine.cursor("feed").expect("answered"), Some(Seq(7)));
    assert!(!dir.path().join("catalogue.damaged").exists());
}

#[test]
fn a_damaged_catalogue_is_put_aside_whole_and_made_again() {
    let (dir, last_seq) = directory();
    let aside = dir.path().join("catalogue.damaged");
    for round in 0..2 {
        let marker = catalogue_of(&dir).join("engine");
        std::fs::write(&marker, format!("damaged {round}")).expect("written");
        let engine = Engine::open(config_at(dir.path(), 1)).expect("opens");
        let status = wait_until(&engine, |status| status.rebuilds == 1 && is_settled(status));
        let note = status.note.expect("it is said");
        assert!(note.contains("engine") && note.contains("catalogue.damaged"), "{note}");
        assert_eq!(engine.cursor("feed").expect("answered"), None, "the journal does not know it");
        assert_eq!(status.seq, last_seq, "all frames are there again");
        assert!(aside.join("db").exists(), "the old store is not deleted");
        let kept = std::fs::read_to_string(aside.join("engine")).expect("put aside");
        assert_eq!(kept, format!("damaged {round}"), "an older one is replaced");
    }
}

/// sled takes a cut or overwritten file for one that was never filled.
#[test]
fn a_store_that_lost_its_bytes_is_damaged_and_not_new() {
    for damage in ["cut", "zeros", "noise", "deleted", "settings"] {
        let (dir, last_seq) = directory();
        let (db, conf) = (catalogue_of(&dir).join("db"), catalogue_of(&dir).join("conf"));
        let bytes = std::fs::read(&db).expect("a store").len();
        let mut random = common::Random(1);
        match damage {
            "cut" => std::fs::write(&db, []).expect("written"),
            "zeros" => std::fs::write(&db, vec![0; bytes]).expect("written"),
            "noise" => {
                let noise: Vec<u8> = (0..bytes).map(|_| random.next() as u8).collect();
                std::fs::write(&db, noise).expect("written");
            }
            "deleted" => std::fs::remove_file(&db).expect("removed"),
            _ => std::fs::write(&conf, vec![0xFF; 64]).expect("written"),
        }
        let engine = Engine::open(config_at(dir.path(), 1)).unwrap_or_else(|error| panic!("{damage}: {error}"));
        let status = wait_until(&engine, |status| status.rebuilds == 1 && is_settled(status));
        assert_eq!(status.seq, last_seq, "{damage}");
        assert!(dir.path().join("catalogue.damaged").exists(), "{damage}");
    }
}

#[test]
fn cursors_that_the_running_engine_knows_outlive_the_folder() {
    let (dir, _) = directory();
    let engine = Engine::open(config_at(dir.path(), 1)).expect("opens");
    engine.set_cursor("other", Seq(9)).expect("kept");
    std::fs::remove_dir_all(catalogue_of(&dir)).expect("removed");
    let status = wait_until(&engine, |status| status.rebuilds == 1 && is_settled(status));
    assert!(status.note.is_some_and(|note| note.contains("deleted")));
    drop(engine);
    let engine = Engine::open(config_at(dir.path(), 1)).expect("opens again");
    let cursors = [engine.cursor("feed").expect("answered"), engine.cursor("other").expect("answered")];
    assert_eq!(cursors, [Some(Seq(7)), Some(Seq(9))], "the one that nobody asked for too");
}

#[test]
fn a_foreign_catalogue_put_under_a_running_engine_is_not_touched() {
    let ((ours, _), (theirs, _)) = (directory(), directory());
    let engine = Engine::open(config_at(ours.path(), 1)).expect("opens");
    let before: Vec<_> = files(&catalogue_of(&theirs)).into_values().collect();
    std::fs::rename(catalogue_of(&ours), ours.path().join("away")).expect("renamed");
    std::fs::rename(catalogue_of(&theirs), catalogue_of(&ours)).expect("renamed");
    let status = wait_until(&engine, |status| status.failure.is_some());
    assert!(status.failure.is_some_and(|why| why.contains("another engine")));
    assert!(matches!(engine.cursor("feed"), Err(CursorError::Catalogue(_))));
    drop(engine);
    let after: Vec<_> = files(&catalogue_of(&ours)).into_values().collect();
    assert!(after == before, "a byte was changed");
}

#[test]
fn rebuilding_on_request_keeps_what_can_be_read_and_deletes_nothing() {
    let (dir, last_seq) = directory();
    assert_eq!(rebuild_catalogue(dir.path()).expect("rebuilt").last_seq, last_seq);
    let cursor = || {
        let engine = Engine::open(config_at(dir.path(), 1)).expect("opens");
        wait_until(&engine, is_settled);
        engine.cursor("feed").expect("answered")
    };
    assert_eq!(cursor(), Some(Seq(7)), "a store that can be read");
    let aside = dir.path().join("catalogue.damaged");
    assert!(!aside.exists());
    std::fs::remove_dir_all(catalogue_of(&dir)).expect("removed");
    drop(SledCatalogue::open(catalogue_of(&dir), 1).expect("another engine's"));
    assert_eq!(rebuild_catalogue(dir.path()).expect("rebuilt").last_seq, last_seq);
    assert!(aside.join("db").exists(), "the other engine's was put aside");
    assert_eq!(cursor(), None);
    std::fs::remove_dir_all(catalogue_of(&dir)).expect("removed");
    std::fs::write(catalogue_of(&dir), "no folder").expect("written");
    assert_eq!(rebuild_catalogue(dir.path()).expect("rebuilt").last_seq, last_seq);
    assert_eq!(std::fs::read_to_string(&aside).expect("put aside"), "no folder");
}
