//! The mirror: copies that were left behind, went different ways, are half made, or stand beside an empty folder.
#![allow(clippy::unwrap_used)]

mod support;

use std::sync::Arc;

use support::mirrored::*;
use support::{append, append_sized, check_recovered, identity, make_room};
use tp_storage::{
    BLOCK_BYTES, CrashMode, DataDirectory, Device, DirectoryError, EmptyDirectory, Fault, Floor, Identity, Journal,
    JournalOptions, MemoryDevice, RecoverError, Recovered, SegmentJournal,
};

#[test]
fn a_mirror_that_was_left_behind_catches_up_and_so_does_the_directory() {
    for copy in COPIES {
        let (device, _) = mirrored();
        let last = history(&alone(&device, copy));
        assert_whole(&device, last, copy);
    }
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

/// The first mend of the above said in the mirror's witness that it was whole before it was: a start after that was cut off skipped the
/// segment with the hole, since it lay below the checkpoint.
#[test]
fn a_copy_whose_catching_up_was_cut_off_is_caught_up_by_the_next_start_even_below_a_checkpoint() {
    let device = MemoryDevice::new();
    let mut journal = open(&directory(&device));
    append(&mut journal, 3).unwrap();
    let before = support::copy(&device);
    append(&mut journal, 2).unwrap();
    drop(journal);
    for path in before.paths().into_iter().filter(|path| path.starts_with("mirror")) {
        device.plant(&path, &before.contents(&path).unwrap());
    }
    let last = run_alone(&device, "data", 3, 0);
    for call in 1.. {
        let image = support::copy(&device);
        image.plan(Fault::PowerOffAt(image.calls() + call));
        let is_done = recover_behind(&directory(&image), last).and_then(Recovered::open).is_ok();
        let image = image.crash(CrashMode::KeepAll);
        drop(recover_behind(&directory(&image), last).unwrap().open().unwrap());
        let recovered = recover(&alone(&image, "mirror")).unwrap_or_else(|error| panic!("call {call}: {error}"));
        assert_eq!(recovered.last_seq, last, "call {call}");
        if is_done {
            return;
        }
    }
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
