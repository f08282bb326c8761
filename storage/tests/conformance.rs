//! What every `Journal` must do, run on each implementation; and what only durable ones must do.
#![allow(clippy::unwrap_used)]

mod support;

use std::path::Path;
use std::sync::Arc;

use support::{append, check_events, directory, directory_on, make_room, open, read_all};
use tp_storage::{
    DiskDevice, Floor, FrameInput, FrameLocation, Journal, JournalError, MemoryDevice, MemoryJournal, SledJournal,
    SledJournalError,
};

/// An implementation under test: how to open it (again), with a place that lives as long as the test.
struct Subject {
    name: &'static str,
    durable: bool,
    open: Box<dyn Fn() -> Box<dyn Journal>>,
    _place: Option<tempfile::TempDir>,
}

fn subjects() -> Vec<Subject> {
    let memory = MemoryDevice::new();
    let disk_place = tempfile::tempdir().unwrap();
    let disk = disk_place.path().join("data");
    let sled_place = tempfile::tempdir().unwrap();
    let sled = sled_place.path().join("journal");
    vec![
        Subject { name: "memory", durable: false, open: Box::new(|| Box::new(MemoryJournal::new())), _place: None },
        Subject {
            name: "segments in memory",
            durable: true,
            open: Box::new(move || Box::new(open(&directory(&memory)))),
            _place: None,
        },
        Subject {
            name: "segments on disk",
            durable: true,
            open: Box::new(move || Box::new(open(&directory_on(Arc::new(DiskDevice::new(&disk)))))),
            _place: Some(disk_place),
        },
        Subject {
            name: "sled",
            durable: true,
            open: Box::new(move || Box::new(open_sled(&sled, &Floor::default()).unwrap())),
            _place: Some(sled_place),
        },
    ]
}

fn open_sled(path: &Path, floor: &Floor) -> Result<SledJournal, SledJournalError> {
    SledJournal::open(path, support::ENGINE, floor)
}

fn each(check: impl Fn(&str, Box<dyn Journal>)) {
    for subject in subjects() {
        let journal = (subject.open)();
        check(subject.name, journal);
    }
}

#[test]
fn a_new_journal_is_empty_and_starts_at_one() {
    each(|name, journal| {
        assert_eq!((journal.durable_seq(), journal.epoch()), (0, 1), "{name}");
        assert!(journal.has_room());
        assert!(read_all(&*journal.source(), 0, 0).is_empty());
    });
}

#[test]
fn appended_frames_are_durable_in_order_and_read_back_whole() {
    each(|name, mut journal| {
        for group in 1..=40 {
            make_room(&mut *journal);
            let before = journal.durable_seq();
            assert_eq!(append(&mut *journal, group).unwrap(), before + u64::from(group));
        }
        let frames = read_all(&*journal.source(), 1, journal.durable_seq());
        assert_eq!(frames.len(), 40, "{name}");
        check_events(&frames, 1, journal.durable_seq());
        assert_eq!((frames[3].time_min, frames[3].time_max), (1007, 1010));
        assert_eq!(journal.last_time(), 1000 + journal.durable_seq());
    });
}

#[test]
fn a_frame_that_does_not_follow_or_is_malformed_is_refused_and_nothing_is_written() {
    each(|name, mut journal| {
        append(&mut *journal, 3).unwrap();
        let good = FrameInput { first_seq: 4, count: 1, time_min: 1, time_max: 2, parts: &[b"x"] };
        for bad in [
            FrameInput { first_seq: 3, ..good },
            FrameInput { first_seq: 5, ..good },
            FrameInput { first_seq: 0, ..good },
        ] {
            assert!(matches!(journal.append(&bad), Err(JournalError::NotNext { expected: 4, .. })));
        }
        for bad in
            [FrameInput { count: 0, ..good }, FrameInput { time_min: 3, ..good }, FrameInput { parts: &[], ..good }]
        {
            assert!(matches!(journal.append(&bad), Err(JournalError::Malformed { seq: 4, .. })));
        }
        let large = vec![1; tp_storage::PAYLOAD_BYTES_MAX + 1];
        let too_large = FrameInput { parts: &[&large], ..good };
        assert!(matches!(journal.append(&too_large), Err(JournalError::TooLarge { seq: 4, .. })));
        assert_eq!(journal.durable_seq(), 3, "{name}");
        assert_eq!(journal.append(&good).unwrap(), 4);
    });
}

#[test]
fn a_reader_starts_at_the_frame_that_holds_its_number_and_waits_at_the_end() {
    each(|name, mut journal| {
        for _ in 0..30 {
            make_room(&mut *journal);
            append(&mut *journal, 4).unwrap();
            journal.seal(9).unwrap();
        }
        let source = journal.source();
        for from in 1..=120 {
            let mut reader = source.read_from(from).unwrap();
            let frame = reader.next(120).unwrap().unwrap();
            assert!(frame.first_seq <= from && from <= frame.last_seq(), "{name}");
        }
        let mut reader = source.read_from(119).unwrap();
        assert!(reader.next(119).unwrap().is_none(), "a frame above the durable number is not handed out");
        assert_eq!(reader.next(120).unwrap().unwrap().first_seq, 117);
        assert!(reader.next(120).unwrap().is_none());
        append(&mut *journal, 2).unwrap();
        assert_eq!(reader.next(122).unwrap().unwrap().first_seq, 121, "it goes on when there is more");
        let mut ahead = source.read_from(123).unwrap();
        assert!(ahead.next(122).unwrap().is_none());
        append(&mut *journal, 1).unwrap();
        assert_eq!(ahead.next(123).unwrap().unwrap().last_seq(), 123);
    });
}

#[test]
fn a_frame_is_found_by_the_location_it_had() {
    each(|name, mut journal| {
        append(&mut *journal, 4).unwrap();
        append(&mut *journal, 2).unwrap();
        let source = journal.source();
        for frame in read_all(&*source, 1, 6) {
            let found = source.frame_at(frame.location).unwrap().unwrap();
            assert_eq!((found.first_seq, found.payload()), (frame.first_seq, frame.payload()), "{name}");
        }
        let nowhere = FrameLocation { segment: 77, offset: 4096 };
        assert!(source.frame_at(nowhere).unwrap().is_none());
    });
}

#[test]
fn durable_journals_keep_everything_over_many_lives_and_count_epochs() {
    for subject in subjects().into_iter().filter(|subject| subject.durable) {
        for life in 0..6_u64 {
            let mut journal = (subject.open)();
            assert_eq!((journal.epoch(), journal.durable_seq()), (life + 1, life * 60), "{}", subject.name);
            check_events(&read_all(&*journal.source(), 1, life * 60), 1, life * 60);
            for _ in 0..20 {
                make_room(&mut *journal);
                append(&mut *journal, 3).unwrap();
            }
            match life % 3 {
                0 => journal.close(5_000 + life).unwrap(),
                1 => journal.witness(6_000 + life).unwrap(),
                _ => {}
            }
        }
        assert!((subject.open)().last_time() >= 6_004, "witnessed time is kept: {}", subject.name);
    }
}

#[test]
fn sled_refuses_another_engine_and_a_journal_below_the_floor() {
    let place = tempfile::tempdir().unwrap();
    let path = place.path().join("journal");
    append(&mut open_sled(&path, &Floor::default()).unwrap(), 3).unwrap();
    let foreign = SledJournal::open(&path, 5, &Floor::default());
    assert!(matches!(foreign, Err(SledJournalError::NotOurs { .. })));
    let floor = Floor { seq: 4, shown_by: "checkpoint 1".to_owned() };
    let lost = open_sled(&path, &floor);
    assert!(matches!(lost, Err(SledJournalError::TailLost { last_seq: 3, durable_seq: 4, .. })));
    assert!(SledJournal::guarantee().contains("fsync"));
}

#[test]
fn a_group_larger_than_a_leaf_goes_through_sled_too() {
    let place = tempfile::tempdir().unwrap();
    let path = place.path().join("journal");
    let mut journal = open_sled(&path, &Floor::default()).unwrap();
    support::append_sized(&mut journal, 2, 2 << 20).unwrap();
    support::append_sized(&mut journal, 2, 10).unwrap();
    drop(journal);
    let journal = open_sled(&path, &Floor::default()).unwrap();
    check_events(&read_all(&*journal.source(), 1, 4), 1, 4);
}
