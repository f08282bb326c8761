//! The mirror: two copies of the journal, each able to give back what the other lost.
#![allow(clippy::unwrap_used)]

mod support;

use std::sync::Arc;

use support::mirrored::*;
use support::{append, append_sized, check_goes_on, check_recovered, identity, make_room};
use tp_storage::{
    BLOCK_BYTES, CrashMode, DataDirectory, Device, EmptyDirectory, Fault, Floor, Journal, JournalError, JournalOptions,
    MemoryDevice, Mending, MirrorSync, RecoverError, Recovered, Scrubbed, SegmentJournal, VerifyStatus,
};

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
