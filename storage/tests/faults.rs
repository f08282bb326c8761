//! Faults at every call: power cuts (and again during recovery), full disks, failing writes and syncs.
#![allow(clippy::unwrap_used)]

mod support;

use std::io::ErrorKind;
use std::sync::Arc;

use support::{append_sized, check_goes_on, check_recovered, identity, make_room, options};
use tp_storage::{
    AfterSyncFailure, CheckpointError, CheckpointStore, CrashMode, DataDirectory, DirectoryError, Fault, Floor,
    Journal, JournalError, JournalOptions, MemoryDevice, RecoverError, SegmentJournal,
};

/// What the scripted run had been promised when it ended.
#[derive(Clone, Copy, Debug, Default)]
struct Promised {
    /// Last acknowledged sequence number.
    acked: u64,
    /// Last one handed to `append`.
    tried: u64,
    /// Generation of the last published checkpoint.
    checkpoint: u64,
}

/// Lives, groups a life, and bytes of each group: several segments, seals, witnesses and checkpoints.
const LIVES: usize = 2;
const GROUPS: usize = 9;

fn small() -> JournalOptions {
    JournalOptions::with_segment_bytes(32 * 1024)
}

/// Runs the script until it ends or a fault ends it.
fn run(device: &MemoryDevice) -> (Promised, Result<(), String>) {
    let mut promised = Promised::default();
    let result = (0..LIVES).try_for_each(|_| life(device, &mut promised));
    (promised, result)
}

fn life(device: &MemoryDevice, promised: &mut Promised) -> Result<(), String> {
    let text = |error: &dyn std::fmt::Display| error.to_string();
    let dir = DataDirectory::create_or_open(Arc::new(device.clone()), identity).map_err(|e| text(&e))?;
    let store = CheckpointStore::new(&dir);
    store.delete_unpublished().map_err(|e| text(&e))?;
    let recovered = SegmentJournal::recover(&dir, small(), Floor::default(), 0).map_err(|e| text(&e))?;
    assert!(recovered.last_seq >= promised.acked);
    let mut journal = recovered.open().map_err(|e| text(&e))?;
    for group in 0..GROUPS {
        make_room(&mut journal);
        promised.tried = journal.durable_seq() + 3;
        promised.acked = append_sized(&mut journal, 3, group * 1500).map_err(|e| text(&e))?;
        match group {
            2 => journal.seal(2000).map_err(|e| text(&e))?,
            4 => journal.witness(2000).map_err(|e| text(&e))?,
            6 => promised.checkpoint = checkpoint(&store, &journal).map_err(|e| text(&e))?,
            _ => {}
        }
    }
    Box::new(journal).close(3000).map_err(|e| text(&e))
}

fn checkpoint(store: &CheckpointStore, journal: &dyn Journal) -> Result<u64, CheckpointError> {
    let mut writer = store.begin(journal.epoch())?;
    for slot in 0..4 {
        writer.page(slot, journal.durable_seq(), &[7; 1000])?;
    }
    writer.finish(2000, b"extra")?.publish()
}

/// Recovers what a fault left, accepting an ambiguous tail when there is one, and checks every promise.
fn check_image(device: &MemoryDevice, promised: Promised, ambiguous_is_right: bool, context: &str) {
    let dir = match DataDirectory::create_or_open(Arc::new(device.clone()), identity) {
        Ok(dir) => dir,
        Err(error) => panic!("{context}: {error}"),
    };
    let store = CheckpointStore::new(&dir);
    let generations = store.generations().unwrap();
    assert!(generations.last().copied().unwrap_or(0) >= promised.checkpoint, "{context}: checkpoint lost");
    let mut floor = Floor::default();
    for generation in generations {
        let checkpoint = store.load(generation).unwrap_or_else(|error| panic!("{context}: {error}"));
        floor = Floor { seq: floor.seq.max(checkpoint.as_of_max), shown_by: "checkpoint".to_owned() };
    }
    let found = SegmentJournal::recover(&dir, small(), floor.clone(), 0);
    let recovered = match found {
        Ok(recovered) => recovered,
        Err(RecoverError::Ambiguous(_)) if ambiguous_is_right => {
            let options = JournalOptions { accept_tail: true, ..small() };
            SegmentJournal::recover(&dir, options, floor, 0).unwrap()
        }
        Err(error) => panic!("{context}: {error}"),
    };
    let last_seq = check_recovered(&recovered);
    assert!(last_seq >= promised.acked, "{context}: acknowledged {} of {last_seq}", promised.acked);
    assert!(last_seq <= promised.tried, "{context}: {last_seq} was never tried");
    check_goes_on(&dir, recovered);
}

fn modes(call: u64) -> [CrashMode; 5] {
    [
        CrashMode::DropUnsynced,
        CrashMode::KeepAll,
        CrashMode::Sectors(call * 3),
        CrashMode::Sectors(call * 3 + 1),
        CrashMode::Sectors(call * 3 + 2),
    ]
}

fn calls_of_script() -> u64 {
    let device = MemoryDevice::new();
    let (promised, result) = run(&device);
    assert_eq!((result, promised.acked), (Ok(()), (3 * GROUPS * LIVES) as u64));
    device.calls()
}

#[test]
fn a_power_cut_at_any_call_loses_nothing_acknowledged() {
    let calls = calls_of_script();
    assert!(calls > 100, "{calls}");
    for call in 1..=calls {
        let device = MemoryDevice::new();
        device.plan(Fault::PowerOffAt(call));
        let (promised, result) = run(&device);
        assert!(result.is_err(), "call {call} ends the run");
        for mode in modes(call) {
            let torn = matches!(mode, CrashMode::Sectors(_));
            check_image(&device.crash(mode), promised, torn, &format!("call {call}, {mode:?}"));
        }
    }
}

#[test]
fn a_power_cut_during_recovery_loses_nothing_acknowledged() {
    let calls = calls_of_script();
    for call in (1..=calls).step_by(3) {
        let device = MemoryDevice::new();
        device.plan(Fault::PowerOffAt(call));
        let (promised, _) = run(&device);
        for mode in [CrashMode::DropUnsynced, CrashMode::KeepAll, CrashMode::Sectors(call)] {
            for again in 1..20 {
                let image = device.crash(mode);
                image.plan(Fault::PowerOffAt(again));
                let finished = reopen_accepting(&image);
                for second in [CrashMode::DropUnsynced, CrashMode::Sectors(call * 100 + again)] {
                    let context = format!("call {call}, {mode:?}, then call {again} of recovery, {second:?}");
                    check_image(&image.crash(second), promised, true, &context);
                }
                if finished {
                    break;
                }
            }
        }
    }
}

/// Recovers and opens, an ambiguous tail accepted; whether that was reached before the power went.
fn reopen_accepting(device: &MemoryDevice) -> bool {
    let Ok(dir) = DataDirectory::create_or_open(Arc::new(device.clone()), identity) else { return false };
    let options = JournalOptions { accept_tail: true, ..small() };
    let recovered = SegmentJournal::recover(&dir, options, Floor::default(), 0);
    recovered.is_ok_and(|recovered| recovered.open().is_ok())
}

#[test]
fn a_failed_write_or_sync_acknowledges_nothing_more_and_a_restart_finds_what_was_acknowledged() {
    let calls = calls_of_script();
    let mut poisoned = 0;
    for model in [AfterSyncFailure::StaysDirty, AfterSyncFailure::MarkedClean, AfterSyncFailure::Reverted] {
        for call in 1..=calls {
            let device = MemoryDevice::new();
            device.after_sync_failure(model);
            device.plan(Fault::IoErrorAt(call));
            let (promised, result) = run(&device);
            poisoned += usize::from(result.is_err());
            device.clear_faults();
            let context = format!("EIO at call {call}, {model:?}");
            check_image(&device.crash(CrashMode::DropUnsynced), promised, false, &context);
            // The process alone restarts: the page cache lives on, and recovery must not believe it.
            check_image(&device, promised, false, &context);
        }
    }
    assert!(poisoned > 200, "{poisoned}");
}

#[test]
fn what_recovery_reveals_after_a_failed_sync_survives_a_later_power_cut() {
    let models = [
        (AfterSyncFailure::StaysDirty, 6),
        (AfterSyncFailure::MarkedClean, 3), // only the page cache shows the frame: not to be believed
        (AfterSyncFailure::Reverted, 3),
    ];
    for (model, found) in models {
        let device = MemoryDevice::new();
        device.after_sync_failure(model);
        let mut journal = support::journal_of(&device, &[(3, 0)]);
        device.plan(Fault::IoErrorAt(device.calls() + 2)); // the write arrives in the cache, the sync fails
        append_sized(&mut journal, 3, 0).unwrap_err();
        drop(journal);
        device.clear_faults();
        // The process restarts, the machine does not.
        let recovered = support::recover(&support::directory(&device)).unwrap();
        assert_eq!(recovered.last_seq, found, "{model:?}");
        drop(recovered.open().unwrap());
        let after = device.crash(CrashMode::DropUnsynced);
        let recovered = support::recover(&support::directory(&after)).unwrap();
        assert_eq!(check_recovered(&recovered), found, "{model:?}");
    }
}

#[test]
fn after_a_failed_sync_every_append_seal_and_witness_says_poisoned() {
    let device = MemoryDevice::new();
    let mut journal = support::journal_of(&device, &[(3, 0)]);
    device.plan(Fault::IoErrorAt(device.calls() + 2)); // 1: the write, 2: the sync
    let failed = append_sized(&mut journal, 3, 0);
    assert!(matches!(failed, Err(JournalError::Failed { seq_first: 4, seq_last: 6, .. })), "{failed:?}");
    device.clear_faults();
    let syncs = device.syncs();
    assert!(matches!(append_sized(&mut journal, 3, 0), Err(JournalError::Poisoned { .. })));
    assert!(matches!(journal.seal(1), Err(JournalError::Poisoned { .. })));
    assert!(matches!(journal.witness(1), Err(JournalError::Poisoned { .. })));
    assert!(!journal.has_room() && journal.room_task().is_none());
    assert_eq!((journal.durable_seq(), device.syncs()), (3, syncs), "nothing was tried again");
    assert!(matches!(Box::new(journal).close(1), Err(JournalError::Poisoned { .. })));
}

#[test]
fn a_full_disk_is_seen_before_appending_and_service_resumes_by_itself() {
    let calls = calls_of_script();
    let mut refusals = 0;
    for call in 1..=calls {
        let device = MemoryDevice::new();
        device.plan(Fault::DiskFullFrom(call));
        refusals += run_with_full_disk(&device);
        let promised = Promised { acked: 40, tried: 40, checkpoint: 0 };
        check_image(&device.crash(CrashMode::DropUnsynced), promised, false, &format!("full from call {call}"));
    }
    assert!(refusals > 20, "{refusals}");
}

/// Forty events, one a frame; whenever space is missing it is freed, and the run goes on. Returns how often it was.
fn run_with_full_disk(device: &MemoryDevice) -> usize {
    let mut freed = 0;
    let dir = loop {
        match DataDirectory::create_or_open(Arc::new(device.clone()), identity) {
            Ok(dir) => break dir,
            Err(DirectoryError::DiskFull { .. }) => device.clear_faults(),
            Err(error) => panic!("{error}"),
        }
        freed += 1;
    };
    let mut journal = loop {
        match SegmentJournal::recover(&dir, small(), Floor::default(), 0).unwrap().open() {
            Ok(journal) => break journal,
            Err(RecoverError::DiskFull { .. }) => device.clear_faults(),
            Err(error) => panic!("{error}"),
        }
        freed += 1;
    };
    while journal.durable_seq() < 40 {
        make_room(&mut journal);
        if journal.has_room() {
            append_sized(&mut journal, 1, 5000).expect("with room an append succeeds");
        } else {
            let durable = journal.durable_seq();
            let read = journal.source().read_from(1).unwrap().next(durable).unwrap();
            assert_eq!(read.is_some(), durable > 0, "reads go on");
            device.clear_faults();
            freed += 1;
        }
    }
    freed
}

#[test]
fn with_no_spare_everything_in_flight_still_fits_and_then_appends_are_refused_unharmed() {
    let device = MemoryDevice::new();
    let mut journal = support::journal_of(&device, &[]);
    device.plan(Fault::DiskFullFrom(device.calls() + 1));
    let mut accepted = 0;
    while journal.has_room() {
        append_sized(&mut journal, 1, 0).unwrap();
        accepted += 1;
        make_room(&mut journal);
    }
    // 16 blocks, one of them the boot frame's; half of them in reserve.
    assert_eq!(accepted, 8, "the current segment counts, down to its reserve, however often a spare is refused");
    let error = journal.room_task().unwrap()();
    assert!(error.error().is_some_and(tp_storage::RoomError::is_disk_full));
    journal.room_done(error);
    // What was in flight goes into the rest of the segment; then nothing is harmed by one append too many.
    for _ in 0..7 {
        append_sized(&mut journal, 1, 0).unwrap();
    }
    assert!(matches!(append_sized(&mut journal, 1, 0), Err(JournalError::NoSpace { seq: 16 })));
    device.clear_faults();
    make_room(&mut journal);
    assert!(journal.has_room());
    assert_eq!(append_sized(&mut journal, 1, 0).unwrap(), 16);
}

#[test]
fn a_device_of_limited_size_runs_full_cleanly_and_goes_on_when_it_grows() {
    let device = MemoryDevice::new();
    device.set_capacity(Some(400 * 1024));
    let mut journal = support::journal_of(&device, &[]);
    loop {
        make_room(&mut journal);
        if !journal.has_room() {
            break;
        }
        append_sized(&mut journal, 2, 3000).unwrap();
    }
    let full_at = journal.durable_seq();
    assert!(full_at > 40);
    device.set_capacity(None);
    make_room(&mut journal);
    assert_eq!(append_sized(&mut journal, 2, 3000).unwrap(), full_at + 2);
}

#[test]
fn a_failed_read_is_an_error_with_its_place_and_never_an_empty_journal() {
    let device = MemoryDevice::new();
    drop(support::journal_of(&device, &[(3, 0), (3, 9000)]));
    let dir = support::directory(&device);
    let before = device.reads();
    drop(SegmentJournal::recover(&dir, options(), Floor::default(), 0).unwrap());
    let reads = device.reads() - before;
    for read in 1..=reads {
        device.clear_faults();
        device.plan(Fault::ReadErrorAt(device.reads() + read));
        match SegmentJournal::recover(&dir, options(), Floor::default(), 0) {
            Err(RecoverError::Io { file, source, .. }) => {
                assert!(!file.is_empty() && source.kind() != ErrorKind::NotFound);
            }
            other => panic!("read {read} of {reads}: {other:?}"),
        }
    }
}
