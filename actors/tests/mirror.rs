//! The engine with a second copy of its journal.
#![allow(clippy::cast_possible_truncation, reason = "small numbers of the tests themselves")]

mod common;

use std::ops::ControlFlow;
use std::sync::Arc;
use std::time::{Duration, Instant};

use common::{config_at, open_account, open_accounts, transfer};
use tp_actors::tp_core::outcome::Outcome;
use tp_actors::{
    BadConfig, CallOptions, Config, Engine, JournalKind, ManualEngine, PoisonCause, ScrubPolicy, VerifyStatus, verify,
    verify_mirrored,
};
use tp_storage::{DataDirectory, Device, DiskDevice, Fault, Floor, Frame, MemoryDevice, scan_read_only_with};

struct Place(tempfile::TempDir);

impl Place {
    fn config(&self) -> Config {
        let data = self.0.path().join("data");
        // Small segments: some are sealed soon.
        let segment_bytes = 1 << 20;
        Config { mirror: Some(self.0.path().join("mirror")), segment_bytes, ..config_at(&data, 1) }
    }

    /// Changes a byte of a frame of events in the middle of a segment. (A seal, which an engine writes when it has been idle for a while,
    /// holds no sequence numbers that a note could name.)
    fn damage(&self, copy: &str, segment: u64) {
        let directory = DataDirectory::open_read_only(Arc::new(DiskDevice::new(self.0.path().join("data"))));
        let mut frames = Vec::new();
        let mut each = |frame: &Frame| {
            frames.extend((frame.location.segment == segment).then_some(frame.location.offset));
            ControlFlow::Continue(())
        };
        let floor = Floor { seq: 0, shown_by: String::new() };
        scan_read_only_with(&directory.expect("a directory"), floor, 0, &mut each).expect("a journal");
        let path = self.0.path().join(copy).join(file_of(segment));
        let mut bytes = std::fs::read(&path).expect("a file");
        bytes[frames[frames.len() / 2] as usize + 200] ^= 1;
        std::fs::write(&path, bytes).expect("written");
    }

    fn verified(&self) -> VerifyStatus {
        verify_mirrored(self.0.path().join("data"), self.0.path().join("mirror")).expect("verifies").status
    }
}

fn file_of(segment: u64) -> String {
    format!("journal/{segment:012}.segment")
}

fn work(engine: &Engine, keys: std::ops::Range<u128>) {
    for key in keys {
        assert_eq!(engine.call_blocking(transfer(key, 1 + key % 40, 1 + (key + 7) % 40, 1)).outcome, Outcome::Approved);
    }
}

#[test]
fn damage_of_either_copy_is_repaired_at_the_next_start_and_told() {
    let place = Place(tempfile::tempdir().expect("a directory"));
    let engine = Engine::open(place.config()).expect("opens");
    open_accounts(&engine);
    work(&engine, 1_000..1_300);
    let (last, digest) = (engine.last_seq(), engine.digest().expect("it runs"));
    engine.close_blocking().expect("closes");
    assert_eq!(place.verified(), VerifyStatus::Ok);
    for (copy, segment) in [("data", 1), ("mirror", 2)] {
        let file = format!("{copy}/{}", file_of(segment));
        place.damage(copy, segment);
        assert_eq!(place.verified(), VerifyStatus::OneCopyBad);
        let engine = Engine::open(place.config()).expect("opens");
        assert_eq!((engine.last_seq(), engine.digest().expect("it runs")), (last, digest));
        let notes = &engine.recovery().notes;
        assert!(notes.iter().any(|note| note.contains(&file) && note.contains("sequence numbers")), "{notes:?}");
        engine.close_blocking().expect("closes");
        assert_eq!(place.verified(), VerifyStatus::Ok);
    }
    assert_eq!(verify(place.0.path().join("mirror")).expect("verifies").digest, Some(digest));
}

#[test]
fn a_running_engine_finds_and_repairs_what_nobody_reads() {
    let place = Place(tempfile::tempdir().expect("a directory"));
    let engine = Engine::open(place.config()).expect("opens");
    open_accounts(&engine);
    work(&engine, 1_000..1_300);
    engine.close_blocking().expect("closes");
    let scrub = Some(ScrubPolicy { bytes_per_second: u64::MAX, interval: Duration::from_millis(1) });
    let engine = Engine::open(Config { scrub, ..place.config() }).expect("opens");
    place.damage("mirror", 1);
    let give_up = Instant::now() + Duration::from_mins(2);
    while engine.status().scrub.repaired == 0 {
        assert!(Instant::now() < give_up, "never repaired: {:?}", engine.status().scrub);
        std::thread::sleep(Duration::from_millis(1));
    }
    let status = engine.status().scrub;
    assert!(status.note.is_some_and(|note| note.contains("mirror/journal/000000000001.segment")));
    assert_eq!(status.damaged, 0);
    engine.close_blocking().expect("closes");
    assert_eq!(place.verified(), VerifyStatus::Ok);
}

#[test]
fn a_failed_sync_of_the_mirror_stops_the_engine_and_nothing_acknowledged_is_lost() {
    let devices = [MemoryDevice::new(), MemoryDevice::new()];
    let of = |at: usize| Some(Arc::new(devices[at].clone()) as Arc<dyn Device>);
    let config = Config { data_dir: None, device: of(0), mirror_device: of(1), ..config_at("".as_ref(), 1) };
    let mut engine = ManualEngine::open(&config).expect("opens");
    let drive = |engine: &mut ManualEngine| {
        for _ in 0..20 {
            engine.turn_all();
        }
    };
    let mut first = engine.call(open_account(1, 1, None), CallOptions::default());
    drive(&mut engine);
    assert_eq!(first.try_take().expect("answered").outcome, Outcome::Approved);
    devices[1].plan(Fault::IoErrorAt(devices[1].calls() + 2));
    let mut second = engine.call(open_account(2, 2, None), CallOptions::default());
    drive(&mut engine);
    assert!(matches!(engine.poison(), Some(PoisonCause::Journal(_))), "{:?}", engine.poison());
    assert_eq!(second.try_take().expect("answered").outcome, Outcome::InProgress);
    drop(engine);
    devices[1].clear_faults();
    let mut engine = ManualEngine::open(&config).expect("opens");
    let mut again = engine.call(open_account(1, 1, None), CallOptions::default());
    drive(&mut engine);
    assert!(again.try_take().expect("answered").repeated);
}

#[test]
fn a_mirror_that_cannot_be_one_is_refused_before_anything_is_touched() {
    let place = Place(tempfile::tempdir().expect("a directory"));
    let config = place.config();
    let sled = Config { journal: JournalKind::Sled, ..config.clone() };
    assert_eq!(sled.validate(), Err(BadConfig::MirrorNeedsSegments { journal: JournalKind::Sled }));
    let same = Config { mirror: config.data_dir.clone(), ..config.clone() };
    assert_eq!(same.validate(), Err(BadConfig::MirrorIsDirectory));
    let half = Config { mirror_device: Some(Arc::new(MemoryDevice::new())), ..config.clone() };
    assert_eq!(half.validate(), Err(BadConfig::MirrorDevice));
    let slow = Config { scrub: Some(ScrubPolicy { bytes_per_second: 1, ..ScrubPolicy::default() }), ..config };
    assert!(matches!(slow.validate(), Err(BadConfig::OutOfRange { field: "scrub.bytes_per_second", .. })));
}
