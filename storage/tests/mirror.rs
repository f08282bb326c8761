//! The mirror: two copies of the journal, each able to give back what the other lost.
#![allow(clippy::unwrap_used)]

mod support;

use std::collections::BTreeSet;
use std::ops::ControlFlow;
use std::sync::Arc;

use support::{append, append_sized, check_goes_on, check_recovered, identity, make_room};
use tp_storage::{
    BLOCK_BYTES, CrashMode, DataDirectory, Device, DirectoryError, EmptyDirectory, Fault, Floor, FolderDevice,
    Identity, Journal, JournalError, JournalOptions, MemoryDevice, Mending, MirrorSync, RecoverError, Recovered,
    Scrubbed, SegmentJournal, VerifyReport, VerifyStatus, verify,
};

const COPIES: [&str; 2] = ["data", "mirror"];
const SEGMENT: u64 = 32 * 1024;

fn options() -> JournalOptions {
    JournalOptions { mirror_sync: MirrorSync::InTurn, ..JournalOptions::with_segment_bytes(SEGMENT) }
}

fn folder(device: &MemoryDevice, copy: &str) -> Arc<dyn Device> {
    Arc::new(FolderDevice::new(Arc::new(device.clone()), copy))
}

fn try_directory(device: &MemoryDevice) -> Result<DataDirectory, DirectoryError> {
    DataDirectory::create_or_open_mirrored(
        folder(device, "data"),
        folder(device, "mirror"),
        EmptyDirectory::FromMirror,
        identity,
    )
}

fn directory(device: &MemoryDevice) -> DataDirectory {
    try_directory(device).unwrap()
}

/// One of the two by itself.
fn alone(device: &MemoryDevice, copy: &str) -> DataDirectory {
    DataDirectory::create_or_open(folder(device, copy), identity).unwrap()
}

fn recover(dir: &DataDirectory) -> Result<Recovered, RecoverError> {
    SegmentJournal::recover(dir, options(), Floor::default(), 0)
}

fn open(dir: &DataDirectory) -> SegmentJournal {
    recover(dir).unwrap().open().unwrap()
}

/// Two runs over several segments, closed in order.
fn history(dir: &DataDirectory) -> u64 {
    let mut last = 0;
    for _ in 0..2 {
        let mut journal = open(dir);
        for group in 0..8 {
            make_room(&mut journal);
            last = append_sized(&mut journal, 3, group * 1500).unwrap();
            if group % 3 == 1 {
                journal.seal(2000).unwrap();
            }
        }
        Box::new(journal).close(3000).unwrap();
    }
    last
}

fn mirrored() -> (MemoryDevice, u64) {
    let device = MemoryDevice::new();
    let last = history(&directory(&device));
    (device, last)
}

fn look(device: &MemoryDevice, mending: Mending) -> VerifyReport {
    let dir = directory(device);
    verify(&dir, mending, &mut |_| ControlFlow::Continue(()), &mut |_| ControlFlow::Continue(())).unwrap()
}

fn segments(device: &MemoryDevice, copy: &str) -> Vec<String> {
    let prefix = format!("{copy}/journal/");
    let paths = device.paths().into_iter().filter_map(|path| path.strip_prefix(&prefix).map(str::to_owned));
    paths.filter(|name| name.ends_with(".segment")).collect()
}

/// All segments with frames hold the same bytes in both copies.
fn assert_alike(device: &MemoryDevice, context: &str) {
    let names: BTreeSet<String> = COPIES.iter().flat_map(|copy| segments(device, copy)).collect();
    for name in names {
        let [data, mirror] = COPIES.map(|copy| device.contents(&format!("{copy}/journal/{name}")));
        let is_empty = |bytes: &Option<Vec<u8>>| bytes.as_ref().is_none_or(|bytes| bytes[..64].iter().all(|b| *b == 0));
        assert!(data == mirror || is_empty(&data) && is_empty(&mirror), "{context}: {name}");
    }
}

fn change(device: &MemoryDevice, path: &str, change: impl FnOnce(&mut Vec<u8>)) {
    let mut bytes = device.contents(path).unwrap();
    change(&mut bytes);
    device.plant(path, &bytes);
}

/// Recovers with both copies; everything is there, goes on, and the copies are alike.
fn assert_whole(device: &MemoryDevice, last: u64, context: &str) {
    let dir = try_directory(device).unwrap_or_else(|error| panic!("{context}: {error}"));
    let recovered = recover(&dir).unwrap_or_else(|error| panic!("{context}: {error}"));
    assert_eq!(recovered.last_seq, last, "{context}");
    check_recovered(&recovered);
    let mut journal = recovered.open().unwrap_or_else(|error| panic!("{context}: {error}"));
    make_room(&mut journal);
    assert_eq!(append(&mut journal, 5).unwrap(), last + 5, "{context}");
    drop((journal, dir));
    // What stands where nothing was ever written, in the middle of the journal, is no business of a start.
    let report = look(device, Mending::Rebuild);
    assert!(report.repaired.iter().all(|problem| problem.what.contains("no event is concerned")), "{context}");
    assert_alike(device, context);
    let report = look(device, Mending::Report);
    assert_eq!((report.status, report.last_seq), (VerifyStatus::Ok, last + 5), "{context}: {:?}", report.problems);
}

#[test]
fn both_copies_hold_the_same_and_each_is_a_data_directory_by_itself() {
    let (device, last) = mirrored();
    assert_alike(&device, "after two runs");
    assert!(segments(&device, "data").len() > 3, "several segments");
    for copy in COPIES {
        let image = support::copy(&device);
        let dir = alone(&image, copy);
        let recovered = recover(&dir).unwrap();
        assert_eq!(recovered.last_seq, last, "{copy}");
        check_recovered(&recovered);
    }
}

#[test]
fn an_empty_folder_becomes_a_copy_before_anything_is_served() {
    for (made, lost) in [("data", "mirror"), ("mirror", "data")] {
        let device = MemoryDevice::new();
        let last = history(&alone(&device, made));
        assert!(!device.paths().iter().any(|path| path.starts_with(lost)));
        assert_whole(&device, last, lost);
    }
}

#[test]
fn a_mirror_that_was_left_behind_catches_up_and_so_does_the_directory() {
    for copy in COPIES {
        let (device, _) = mirrored();
        let last = history(&alone(&device, copy));
        assert_whole(&device, last, copy);
    }
}

type Damage = Box<dyn Fn(&mut Vec<u8>)>;

/// What may happen to one copy of a file.
fn damages(length: usize) -> Vec<(String, Damage)> {
    let mut all: Vec<(String, Damage)> = Vec::new();
    for start in (0..length).step_by(BLOCK_BYTES) {
        let block = start..(start + BLOCK_BYTES).min(length);
        let at = block.clone();
        all.push((format!("zeros at {start}"), Box::new(move |bytes| bytes[at.clone()].fill(0))));
        let at = block.clone();
        all.push((format!("noise at {start}"), Box::new(move |bytes| bytes[at.clone()].fill(0xa5))));
        let bit = start / BLOCK_BYTES * 4567 % (8 * BLOCK_BYTES);
        let byte = start + bit / 8;
        let flip = move |bytes: &mut Vec<u8>| bytes[byte] ^= 1 << (bit % 8);
        all.push((format!("bit {bit} of {start}"), Box::new(flip)));
        let from = (start + 2 * BLOCK_BYTES) % length;
        let misdirect = move |bytes: &mut Vec<u8>| bytes.copy_within(from..from + BLOCK_BYTES, start);
        all.push((format!("block {from} at {start}"), Box::new(misdirect)));
        all.push((format!("cut at {start}"), Box::new(move |bytes| bytes.truncate(start + 100))));
    }
    all
}

#[test]
fn whatever_one_copy_of_the_journal_loses_the_other_gives_back() {
    let (device, last) = mirrored();
    let (mut checked, mut doubted) = (0, 0);
    for copy in COPIES {
        let files = segments(&device, copy).into_iter().map(|name| format!("{copy}/journal/{name}"));
        for path in files.chain([format!("{copy}/witness"), format!("{copy}/identity")]) {
            let length = device.contents(&path).unwrap().len();
            for (what, damage) in damages(length) {
                let image = support::changed(&device, &path, |bytes| damage(bytes));
                if image.contents(&path) == device.contents(&path) {
                    continue;
                }
                // Where no frame ever stood both copies must say so: one that does not is in doubt, and refused.
                let doubtful =
                    try_directory(&image).is_ok_and(|dir| matches!(recover(&dir), Err(RecoverError::Ambiguous(_))));
                if doubtful {
                    assert!(is_behind_the_end(&device, &path, &what), "{path}: {what}");
                    doubted += 1;
                    continue;
                }
                assert_whole(&image, last, &format!("{path}: {what}"));
                checked += 1;
            }
            let image = support::copy(&device);
            image.remove(&path).unwrap();
            assert_whole(&image, last, &format!("{path} deleted"));
        }
    }
    assert!(checked > 500, "{checked} damages were repaired");
    assert!(doubted > 0, "CPY-2: the more doubtful copy speaks");
}

/// Whether a damage lies in the last segment, behind its last frame.
fn is_behind_the_end(device: &MemoryDevice, path: &str, what: &str) -> bool {
    let copy = path.split('/').next().unwrap();
    let newest = segments(device, copy).pop().unwrap();
    let bytes = device.contents(path).unwrap();
    let at: usize = what.rsplit(' ').next().unwrap().parse().unwrap();
    // A spare, or the zeros of the last segment with frames.
    bytes[at..at + BLOCK_BYTES].iter().all(|byte| *byte == 0) && path.ends_with(&newest)
        || bytes.iter().all(|byte| *byte == 0)
        || bytes[at..].iter().all(|byte| *byte == 0)
}

#[test]
fn copies_that_are_bad_in_different_blocks_of_one_frame_give_it_back_together() {
    let device = MemoryDevice::new();
    let dir = directory(&device);
    let mut journal = open(&dir);
    let last = append_sized(&mut journal, 2, 3 * BLOCK_BYTES).unwrap();
    append(&mut journal, 1).unwrap();
    drop((journal, dir));
    let name = segments(&device, "data").remove(0);
    // The boot frame is block 0; the frame has blocks 1 to 4.
    change(&device, &format!("data/journal/{name}"), |bytes| bytes[2 * BLOCK_BYTES + 5] ^= 1);
    change(&device, &format!("mirror/journal/{name}"), |bytes| bytes[3 * BLOCK_BYTES + 5] ^= 1);
    assert_whole(&device, last + 1, "one block each");
}

#[test]
fn what_both_copies_lost_is_refused_and_nothing_is_changed() {
    let (device, _) = mirrored();
    let name = segments(&device, "data").remove(0);
    for copy in COPIES {
        change(&device, &format!("{copy}/journal/{name}"), |bytes| bytes[BLOCK_BYTES + 200] ^= 1);
    }
    let before: Vec<_> = device.paths().iter().map(|path| device.contents(path)).collect();
    let refused = recover(&directory(&device));
    let Err(RecoverError::Corrupt(problem)) = refused else { panic!("{refused:?}") };
    assert_eq!(problem.offset, BLOCK_BYTES as u64);
    let after: Vec<_> = device.paths().iter().map(|path| device.contents(path)).collect();
    assert!(before == after);
}

#[test]
fn copies_that_went_different_ways_are_refused() {
    let (device, last) = mirrored();
    for copy in COPIES {
        let mut journal = open(&alone(&device, copy));
        append_sized(&mut journal, 2, if copy == "data" { 0 } else { 16 }).unwrap();
    }
    let refused = recover(&directory(&device));
    assert!(matches!(refused, Err(RecoverError::Diverged(_))), "{refused:?}");
    // The same, where the mirror's extra frame is behind the place where the directory, alone, went on.
    let device = MemoryDevice::new();
    let dir = directory(&device);
    let mut journal = open(&dir);
    append(&mut journal, 3).unwrap();
    let before = support::copy(&device);
    append(&mut journal, 2).unwrap();
    drop((journal, dir));
    for (path, bytes) in before.paths().into_iter().map(|path| (path.clone(), before.contents(&path).unwrap())) {
        if path.starts_with("data/") {
            device.plant(&path, &bytes);
        }
    }
    assert_whole(&support::copy(&device), 5, "the mirror's tail is longer");
    drop(open(&alone(&device, "data")));
    let refused = recover(&directory(&device));
    assert!(matches!(refused, Err(RecoverError::Diverged(_))), "{refused:?}");
    assert!(last > 5);
}

#[test]
fn the_mirror_of_another_directory_is_refused() {
    let device = MemoryDevice::new();
    drop(alone(&device, "data"));
    let other = || Identity { engine_id: 99, ..identity() };
    drop(DataDirectory::create_or_open(folder(&device, "mirror"), other).unwrap());
    let refused = try_directory(&device);
    assert!(matches!(refused, Err(DirectoryError::OtherMirror { .. })), "{refused:?}");
    let same = DataDirectory::create_or_open_mirrored(
        folder(&device, "data"),
        folder(&device, "data"),
        EmptyDirectory::Refuse,
        identity,
    );
    assert!(matches!(same, Err(DirectoryError::InUse { .. })), "{same:?}");
}

/// What was promised when the power went.
struct Promised {
    acked: u64,
    tried: u64,
}

fn run(device: &MemoryDevice) -> (Promised, Result<(), String>) {
    let mut promised = Promised { acked: 0, tried: 0 };
    let result = life(device, &mut promised);
    (promised, result)
}

fn life(device: &MemoryDevice, promised: &mut Promised) -> Result<(), String> {
    let dir = try_directory(device).map_err(|error| error.to_string())?;
    let mut journal = recover(&dir).and_then(Recovered::open).map_err(|error| error.to_string())?;
    for group in 0..6 {
        make_room(&mut journal);
        promised.tried = journal.durable_seq() + 3;
        promised.acked = append_sized(&mut journal, 3, group * 1500).map_err(|error| error.to_string())?;
    }
    Box::new(journal).close(3000).map_err(|error| error.to_string())
}

/// Recovers an image; with `first_cut` the power goes again at that call of the recovery.
fn check_image(image: &MemoryDevice, promised: &Promised, context: &str) {
    let dir = try_directory(image).unwrap_or_else(|error| panic!("{context}: {error}"));
    let recovered = match recover(&dir) {
        Err(RecoverError::Ambiguous(_)) => {
            let options = JournalOptions { accept_tail: true, ..options() };
            SegmentJournal::recover(&dir, options, Floor::default(), 0).unwrap()
        }
        other => other.unwrap_or_else(|error| panic!("{context}: {error}")),
    };
    let last = check_recovered(&recovered);
    assert!((promised.acked..=promised.tried).contains(&last), "{context}: {last} of {}", promised.acked);
    drop(recovered.open().unwrap_or_else(|error| panic!("{context}: {error}")));
    drop(dir);
    let report = look(image, Mending::Report);
    assert_eq!((report.status, report.last_seq), (VerifyStatus::Ok, last), "{context}: {:?}", report.problems);
}

#[test]
fn nothing_acknowledged_is_lost_whenever_the_power_goes_nor_when_it_goes_again_while_a_copy_is_rebuilt() {
    let whole = MemoryDevice::new();
    run(&whole).1.unwrap();
    let (calls, mut images) = (whole.calls(), 0);
    for call in 1..=calls {
        let device = MemoryDevice::new();
        device.plan(Fault::PowerOffAt(call));
        let (promised, result) = run(&device);
        assert!(result.is_err(), "call {call}");
        for mode in
            [CrashMode::DropUnsynced, CrashMode::KeepAll, CrashMode::Sectors(call), CrashMode::Sectors(call + 7_000)]
        {
            let image = device.crash(mode);
            check_image(&support::copy(&image), &promised, &format!("call {call}, {mode:?}"));
            images += 1;
            // Again, somewhere in the recovery.
            let again = support::copy(&image);
            again.plan(Fault::PowerOffAt(1 + call * 13 % 60));
            let cut = try_directory(&again)
                .map_err(drop)
                .and_then(|dir| recover(&dir).and_then(Recovered::open).map_err(drop));
            drop(cut);
            check_image(&again.crash(CrashMode::Sectors(call)), &promised, &format!("call {call}, {mode:?}, again"));
            images += 1;
        }
    }
    assert!(images > 500, "{images}");
}

#[test]
fn a_rebuilding_that_is_cut_off_anywhere_is_done_again() {
    let (device, last) = mirrored();
    let name = segments(&device, "data").remove(1);
    change(&device, &format!("mirror/journal/{name}"), |bytes| bytes[9] ^= 1);
    change(&device, &format!("data/journal/{name}"), |bytes| bytes[BLOCK_BYTES + 9] ^= 1);
    for call in 1.. {
        let image = support::copy(&device);
        image.plan(Fault::PowerOffAt(call));
        let opened =
            try_directory(&image).map_err(drop).and_then(|dir| recover(&dir).and_then(Recovered::open).map_err(drop));
        let is_done = opened.is_ok();
        drop(opened);
        for mode in [CrashMode::DropUnsynced, CrashMode::KeepAll, CrashMode::Sectors(call)] {
            assert_whole(&image.crash(mode), last, &format!("call {call}, {mode:?}"));
        }
        if is_done {
            assert!(call > 20, "the rebuilding was reached");
            return;
        }
    }
}

#[test]
fn a_failed_write_or_sync_of_either_copy_is_final() {
    for how in [MirrorSync::InTurn, MirrorSync::Together] {
        for copy in 0..2 {
            let devices = [MemoryDevice::new(), MemoryDevice::new()];
            let [data, mirror] = [0, 1].map(|at| Arc::new(devices[at].clone()) as Arc<dyn Device>);
            let dir = DataDirectory::create_or_open_mirrored(data, mirror, EmptyDirectory::Refuse, identity).unwrap();
            let options = JournalOptions { mirror_sync: how, ..options() };
            let mut journal = SegmentJournal::recover(&dir, options, Floor::default(), 0).unwrap().open().unwrap();
            assert_eq!(append(&mut journal, 2).unwrap(), 2);
            for at in 1..3 {
                devices[copy].plan(Fault::IoErrorAt(devices[copy].calls() + at));
            }
            assert!(
                matches!(append(&mut journal, 2), Err(JournalError::Failed { seq_first: 3, .. })),
                "{how:?} {copy}"
            );
            assert!(matches!(append(&mut journal, 2), Err(JournalError::Poisoned { .. })), "{how:?} {copy}");
            assert_eq!(journal.durable_seq(), 2);
        }
    }
}

#[test]
fn readers_and_the_scrub_find_and_mend_damage_while_the_journal_is_written() {
    let (device, last) = mirrored();
    let dir = directory(&device);
    let mut journal = open(&dir);
    let mut scrubber = journal.scrubber().unwrap();
    let pass = |scrubber: &mut tp_storage::Scrubber| {
        let (mut repaired, mut found, mut read) = (Vec::new(), Vec::new(), 0);
        loop {
            match scrubber.step(8192) {
                Scrubbed::Read(bytes) => read += bytes,
                Scrubbed::Repaired(problems) => repaired.extend(problems),
                Scrubbed::Found(problem) => found.push(*problem),
                Scrubbed::PassEnded => return (repaired, found, read),
                other => panic!("{other:?}"),
            }
        }
    };
    let (repaired, found, read) = pass(&mut scrubber);
    assert!(repaired.is_empty() && found.is_empty() && read > 2 * 60_000, "{read}");
    let name = segments(&device, "data").remove(0);
    let damaged = format!("data/journal/{name}");
    change(&device, &damaged, |bytes| bytes[BLOCK_BYTES..].fill(0));
    let frames = support::read_all(&*journal.source(), 1, last);
    support::check_events(&frames, 1, last);
    let (repaired, found, _) = pass(&mut scrubber);
    assert_eq!((repaired.len(), found.len()), (1, 0));
    assert!(repaired[0].file.ends_with(&damaged), "{}", repaired[0]);
    assert_alike(&device, "after the scrub");
    // Both bad: reported, and the rest of the journal is still read.
    for copy in COPIES {
        change(&device, &format!("{copy}/journal/{name}"), |bytes| bytes[BLOCK_BYTES + 300] ^= 1);
    }
    let (repaired, found, read) = pass(&mut scrubber);
    assert_eq!((repaired.len(), found.len()), (0, 1));
    assert!(found[0].offset == BLOCK_BYTES as u64 && found[0].seq_first == 1 && read > 2 * 30_000, "{}", found[0]);
    append(&mut journal, 1).unwrap();
}

#[test]
fn verify_reports_a_bad_copy_and_a_scrub_mends_it() {
    let (device, last) = mirrored();
    let name = segments(&device, "mirror").remove(1);
    change(&device, &format!("mirror/journal/{name}"), |bytes| bytes[BLOCK_BYTES + 3] ^= 4);
    let report = look(&device, Mending::Report);
    assert_eq!((report.status, report.last_seq, report.problems.len()), (VerifyStatus::OneCopyBad, last, 1));
    let report = look(&device, Mending::Rebuild);
    assert_eq!((report.status, report.problems.len(), report.repaired.len()), (VerifyStatus::Ok, 0, 1));
    assert_alike(&device, "after the scrub");
    assert_eq!(look(&device, Mending::Report).status, VerifyStatus::Ok);
}

#[test]
fn a_single_copy_goes_on_as_ever() {
    let device = MemoryDevice::new();
    let last = history(&alone(&device, "data"));
    let dir = alone(&device, "data");
    let recovered = recover(&dir).unwrap();
    assert_eq!((recovered.last_seq, recovered.segments_to_rebuild()), (last, 0));
    drop(recovered);
    let plain = support::directory(&MemoryDevice::new());
    check_goes_on(&plain, support::recover(&plain).unwrap());
}

/// P7: the last sixteen frames of one copy, cut at each of their blocks, with bits flipped before the cut, or without their segment.
#[test]
fn whatever_the_end_of_one_copy_lost_nothing_acknowledged_is_dropped() {
    let device = MemoryDevice::new();
    let dir = directory(&device);
    let mut journal = open(&dir);
    let mut last = 0;
    for group in 0..24 {
        make_room(&mut journal);
        last = append_sized(&mut journal, 2, group % 3 * 5000).unwrap();
    }
    let mut frames = support::read_all(&*journal.source(), 1, last);
    drop((journal, dir));
    let tail = frames.split_off(frames.len() - 16);
    let mut checked = 0;
    for copy in COPIES {
        let path = |segment: u64| format!("{copy}/journal/{segment:012}.segment");
        let later = |from: u64| (from + 1..).map(path).take_while(|path| device.contents(path).is_some());
        for frame in &tail {
            let start = usize::try_from(frame.location.offset).unwrap();
            let end = start + (frame.payload().len() + 200).next_multiple_of(BLOCK_BYTES);
            for cut in (start..end).step_by(BLOCK_BYTES) {
                for flipped in [None, Some(start + 7), Some(cut + 99)] {
                    let image = support::copy(&device);
                    change(&image, &path(frame.location.segment), |bytes| {
                        bytes[cut..].fill(0);
                        if let Some(byte) = flipped {
                            bytes[byte] ^= 0x20;
                        }
                    });
                    later(frame.location.segment).for_each(|path| image.remove(&path).unwrap());
                    let dir = directory(&image);
                    let recovered = recover(&dir).unwrap_or_else(|error| panic!("{copy}, {cut}, {flipped:?}: {error}"));
                    assert_eq!(recovered.last_seq, last, "{copy}, cut at {cut}, {flipped:?}");
                    check_recovered(&recovered);
                    checked += 1;
                }
            }
        }
    }
    assert!(checked > 150, "{checked}");
}

/// A start behind a checkpoint reads the segments below it by their first frame only.
fn recover_behind(dir: &DataDirectory, checkpoint: u64) -> Result<Recovered, RecoverError> {
    SegmentJournal::recover(dir, options(), Floor::default(), checkpoint + 1)
}

/// Runs on one copy, so often.
fn run_alone(device: &MemoryDevice, copy: &str, runs: usize, extra: usize) -> u64 {
    let mut last = 0;
    for _ in 0..runs {
        let mut journal = open(&alone(device, copy));
        make_room(&mut journal);
        last = append_sized(&mut journal, 2, extra).unwrap();
        Box::new(journal).close(4000).unwrap();
    }
    last
}

/// Segments of one length with one first frame were taken for equal when they lay below the checkpoint: a mirror whose last sync failed
/// kept its hole when the engine had run on without it.
#[test]
fn a_copy_that_was_left_behind_in_the_middle_of_a_segment_is_filled_even_below_a_checkpoint() {
    for (behind, ahead) in [("mirror", "data"), ("data", "mirror")] {
        let device = MemoryDevice::new();
        let mut journal = open(&directory(&device));
        append(&mut journal, 3).unwrap();
        let before = support::copy(&device);
        append(&mut journal, 2).unwrap();
        drop(journal);
        for path in before.paths().into_iter().filter(|path| path.starts_with(behind)) {
            device.plant(&path, &before.contents(&path).unwrap());
        }
        let last = run_alone(&device, ahead, 3, 0);
        let dir = directory(&device);
        drop(recover_behind(&dir, last).unwrap().open().unwrap());
        drop(dir);
        let recovered = recover(&alone(&device, behind)).unwrap();
        assert_eq!(recovered.last_seq, last, "{behind} has all of it");
        check_recovered(&recovered);
    }
}

/// Likewise two folders that went different ways were taken for one journal when both had gone on for some segments.
#[test]
fn copies_that_went_different_ways_are_refused_even_below_a_checkpoint() {
    let (device, _) = mirrored();
    run_alone(&device, "mirror", 1, 16);
    let last = run_alone(&device, "data", 3, 0);
    let refused = recover_behind(&directory(&device), last);
    assert!(matches!(refused, Err(RecoverError::Diverged(_))), "{refused:?}");
}

/// A mirror that was half made had an identity and a witness of nothing: alone, it was an empty journal of the same engine.
#[test]
fn a_copy_that_is_half_made_is_refused_when_it_is_opened_alone() {
    for (made, empty) in [("data", "mirror"), ("mirror", "data")] {
        let device = MemoryDevice::new();
        let last = history(&alone(&device, made));
        let mut refusals = 0;
        for call in 1.. {
            let image = support::copy(&device);
            image.plan(Fault::PowerOffAt(image.calls() + call));
            let opened = try_directory(&image)
                .map_err(drop)
                .and_then(|dir| recover(&dir).and_then(Recovered::open).map_err(drop));
            let is_done = opened.is_ok();
            drop(opened);
            let image = image.crash(CrashMode::KeepAll);
            let is_there = image.contents(&format!("{empty}/identity")).is_some();
            let judged = is_there.then(|| recover(&alone(&image, empty)));
            match judged {
                None => {}
                Some(Ok(recovered)) => assert_eq!(recovered.last_seq, last, "{empty}, call {call}"),
                Some(Err(RecoverError::TailLost(_) | RecoverError::Corrupt(_))) => refusals += 1,
                Some(Err(error)) => panic!("{empty}, call {call}: {error}"),
            }
            assert_whole(&image, last, &format!("{empty}, call {call}"));
            if is_done {
                break;
            }
        }
        assert!(refusals > 10, "{refusals}");
    }
}

/// A mirror that was catching up had the witness of where it had stood: alone, what it had got so far was a whole journal.
#[test]
fn a_copy_that_is_half_caught_up_is_refused_when_it_is_opened_alone() {
    let (device, _) = mirrored();
    let last = run_alone(&device, "data", 3, 0);
    let mut refusals = 0;
    for call in 1.. {
        let image = support::copy(&device);
        image.plan(Fault::PowerOffAt(image.calls() + call));
        let opened = recover(&directory(&image)).and_then(Recovered::open);
        let is_done = opened.is_ok();
        drop(opened);
        let image = image.crash(CrashMode::KeepAll);
        let has_begun = segments(&image, "mirror") != segments(&device, "mirror");
        match recover(&alone(&image, "mirror")) {
            Ok(recovered) => assert!(recovered.last_seq == last || !has_begun, "call {call}: {recovered:?}"),
            Err(RecoverError::TailLost(_) | RecoverError::Corrupt(_)) => refusals += 1,
            Err(error) => panic!("call {call}: {error}"),
        }
        assert_whole(&image, last, &format!("call {call}"));
        if is_done {
            break;
        }
    }
    assert!(refusals > 10, "{refusals}");
}

#[test]
fn an_empty_directory_beside_a_mirror_with_a_journal_is_refused_unasked() {
    let device = MemoryDevice::new();
    let last = history(&alone(&device, "mirror"));
    let [data, mirror] = COPIES.map(|copy| folder(&device, copy));
    let refused = DataDirectory::create_or_open_mirrored(data, mirror, EmptyDirectory::Refuse, identity);
    assert!(matches!(refused, Err(DirectoryError::OnlyMirror { seq, .. }) if seq == last), "{refused:?}");
    assert!(!device.paths().iter().any(|path| path.starts_with("data")), "nothing was made");
}

/// A frame that strayed behind the end of one copy, where the other has zeros, was called corruption, which nothing could repair.
#[test]
fn a_frame_that_strayed_behind_the_end_of_one_copy_is_a_tail_in_doubt() {
    for copy in COPIES {
        let device = MemoryDevice::new();
        let dir = directory(&device);
        let mut journal = open(&dir);
        let last = append(&mut journal, 3).unwrap();
        make_room(&mut journal);
        drop((journal, dir));
        let names = segments(&device, copy);
        for (name, to) in [(&names[0], 2), (&names[1], 0)] {
            let image = support::copy(&device);
            let frame = image.contents(&format!("{copy}/journal/{}", names[0])).unwrap();
            change(&image, &format!("{copy}/journal/{name}"), |bytes| {
                bytes[to * BLOCK_BYTES..][..BLOCK_BYTES].copy_from_slice(&frame[BLOCK_BYTES..2 * BLOCK_BYTES]);
            });
            let dir = directory(&image);
            let refused = recover(&dir);
            assert!(matches!(refused, Err(RecoverError::Ambiguous(_))), "{copy}/{name}: {refused:?}");
            let accepted = JournalOptions { accept_tail: true, ..options() };
            let recovered = SegmentJournal::recover(&dir, accepted, Floor::default(), 0).unwrap();
            assert_eq!(recovered.last_seq, last);
            recovered.open().unwrap();
        }
    }
}

/// The directory got a segment that its full mirror did not get: it took the space of each further attempt.
#[test]
fn a_segment_that_only_one_copy_got_is_given_back() {
    let devices = [MemoryDevice::new(), MemoryDevice::new()];
    let [data, mirror] = [0, 1].map(|at| Arc::new(devices[at].clone()) as Arc<dyn Device>);
    let dir = DataDirectory::create_or_open_mirrored(data, mirror, EmptyDirectory::Refuse, identity).unwrap();
    let mut journal = SegmentJournal::recover(&dir, options(), Floor::default(), 0).unwrap().open().unwrap();
    append(&mut journal, 2).unwrap();
    let before = devices[0].paths();
    devices[1].plan(Fault::DiskFullFrom(devices[1].calls() + 1));
    make_room(&mut journal);
    assert_eq!(devices[0].paths(), before);
    devices[1].clear_faults();
    make_room(&mut journal);
    assert!(journal.has_room() && devices[0].paths().len() == before.len() + 1);
}
