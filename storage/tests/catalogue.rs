//! Both catalogues give the same answers, and the one in sled survives, is refused when foreign, and is rebuilt.
#![allow(clippy::unwrap_used)]

mod support;

use proptest::prelude::*;
use tp_storage::{Catalogue, CatalogueError, FrameEntry, Journal, MemoryCatalogue, MemoryDevice, SledCatalogue};

fn entry(first_seq: u64, count: u32, time_min: u64) -> FrameEntry {
    let time_max = time_min + u64::from(count);
    FrameEntry { first_seq, count, segment: first_seq / 7, offset: first_seq * 4096, time_min, time_max }
}

fn entries() -> Vec<FrameEntry> {
    // Frames 1..=3, 4..=4, 5..=9 and so on; some share their time.
    let mut first_seq = 1;
    let mut made = Vec::new();
    for index in 0..50_u32 {
        made.push(entry(first_seq, 1 + index % 5, 1000 + u64::from(index / 3) * 10));
        first_seq += u64::from(1 + index % 5);
    }
    made
}

fn check_answers(catalogue: &dyn Catalogue, noted: &[FrameEntry]) {
    let last = noted.last().map_or(0, FrameEntry::last_seq);
    assert_eq!(catalogue.highest().unwrap().as_ref(), noted.last());
    for seq in 0..=last + 2 {
        let expected = noted.iter().find(|entry| entry.first_seq <= seq && seq <= entry.last_seq());
        assert_eq!(catalogue.find(seq).unwrap().as_ref(), expected, "seq {seq}");
    }
    for time in 990..1200 {
        let expected = noted.iter().rev().find(|entry| entry.time_min <= time);
        assert_eq!(catalogue.find_time(time).unwrap().as_ref(), expected, "time {time}");
    }
}

#[test]
fn frames_are_found_by_number_and_by_time() {
    let place = tempfile::tempdir().unwrap();
    let noted = entries();
    let sled = SledCatalogue::open(place.path().join("catalogue"), 7).unwrap();
    for mut catalogue in [Box::new(MemoryCatalogue::new()) as Box<dyn Catalogue>, Box::new(sled)] {
        check_answers(&*catalogue, &[]);
        catalogue.note(&noted[..20]).unwrap();
        catalogue.note(&noted[18..]).unwrap();
        check_answers(&*catalogue, &noted);
        catalogue.set_cursor("feed", 12).unwrap();
        catalogue.set_cursor("feed", 13).unwrap();
        catalogue.clear().unwrap();
        check_answers(&*catalogue, &[]);
        let cursors = (catalogue.cursor("feed").unwrap(), catalogue.cursor("other").unwrap());
        assert_eq!(cursors, (Some(13), None), "the journal cannot give cursors back");
    }
}

#[test]
fn what_was_synced_is_there_again_and_another_engine_is_refused() {
    let place = tempfile::tempdir().unwrap();
    let path = place.path().join("catalogue");
    let mut catalogue = SledCatalogue::open(&path, 7).unwrap();
    catalogue.note(&entries()).unwrap();
    catalogue.set_cursor("feed", 5).unwrap();
    catalogue.sync().unwrap();
    drop(catalogue);
    assert!(matches!(SledCatalogue::open(&path, 8).err(), Some(CatalogueError::NotOurs { .. })));
    let again = SledCatalogue::open(&path, 7).unwrap();
    check_answers(&again, &entries());
    assert_eq!(again.cursor("feed").unwrap(), Some(5));
}

#[test]
fn a_deleted_catalogue_is_rebuilt_from_the_journal_and_leads_to_every_frame() {
    let place = tempfile::tempdir().unwrap();
    let device = MemoryDevice::new();
    let journal = support::journal_of(&device, &[(3, 0), (5, 9000), (1, 30_000), (2, 40_000), (4, 100)]);
    let source = journal.source();
    let frames = support::read_all(&*source, 1, journal.durable_seq());
    let rebuilt = || {
        let mut catalogue = SledCatalogue::open(place.path().join("catalogue"), 7).unwrap();
        let entries: Vec<FrameEntry> = frames.iter().map(FrameEntry::from).collect();
        catalogue.note(&entries).unwrap();
        catalogue
    };
    drop(rebuilt());
    std::fs::remove_dir_all(place.path().join("catalogue")).unwrap();
    let catalogue = rebuilt();
    for seq in 1..=15 {
        let entry = catalogue.find(seq).unwrap().unwrap();
        let frame = source.frame_at(entry.location()).unwrap().unwrap();
        assert!(frame.first_seq <= seq && seq <= frame.last_seq());
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(12))]

    #[test]
    fn both_catalogues_agree_whatever_is_noted(counts in prop::collection::vec((1_u32..9, 0_u64..4), 1..60)) {
        let place = tempfile::tempdir().unwrap();
        let mut sled = SledCatalogue::open(place.path().join("catalogue"), 7).unwrap();
        let (mut noted, mut first_seq, mut time) = (Vec::new(), 1, 1000);
        for (count, step) in counts {
            noted.push(entry(first_seq, count, time));
            first_seq += u64::from(count);
            time += step;
        }
        sled.note(&noted).unwrap();
        check_answers(&sled, &noted);
    }
}
