//! The end of a journal: clean, torn, ambiguous, corrupt, lost. Every cut point of the last frames, and bit flips there.
#![allow(clippy::unwrap_used)]

mod support;

use support::{
    ENGINE, SMALL, append, changed, check_goes_on, check_recovered, copy, directory, journal_of, make_room, open,
    options, recover,
};
use tp_storage::{
    DataDirectory, DirectoryError, Floor, Identity, Journal, JournalOptions, MemoryDevice, RecoverError,
    SegmentJournal, TailReport, scan_read_only,
};

const FIRST: &str = "journal/000000000001.segment";

/// Sixteen frames of one to five blocks in the first segment of a directory, and where each ends.
fn sixteen_frames() -> (MemoryDevice, Vec<(usize, u64)>) {
    let device = MemoryDevice::new();
    let mut journal = open_large(&directory(&device));
    let mut ends = vec![(4096, 0)];
    for group in 0..16_u32 {
        let seq = support::append_sized(&mut journal, 1 + group % 7, (group as usize * 1777) % 17_000).unwrap();
        ends.push((4096 + usize::try_from(journal.bytes()).unwrap() - 4096, seq));
    }
    (device, ends)
}

fn large() -> JournalOptions {
    JournalOptions::with_segment_bytes(256 * 1024)
}

fn open_large(dir: &DataDirectory) -> SegmentJournal {
    SegmentJournal::recover(dir, large(), Floor::default(), 0).unwrap().open().unwrap()
}

fn recover_large(device: &MemoryDevice, accept_tail: bool) -> Result<tp_storage::Recovered, RecoverError> {
    let options = JournalOptions { accept_tail, ..large() };
    SegmentJournal::recover(&directory(device), options, Floor::default(), 0)
}

#[test]
fn a_cut_at_any_block_of_the_last_sixteen_frames_is_torn_and_at_any_sector_torn_or_ambiguous() {
    let (device, ends) = sixteen_frames();
    let whole = device.contents(FIRST).unwrap();
    let last = ends[16].0;
    let (mut torn, mut ambiguous) = (0, 0);
    for cut in (4096..last).step_by(512) {
        let image = changed(&device, FIRST, |bytes| bytes[cut..].fill(0));
        // A frame that ends in zeros is whole although its last sectors were never written.
        let is_whole = |end: usize| end <= cut || whole[cut..end].iter().all(|byte| *byte == 0);
        let (end, seq) = *ends.iter().rfind(|(end, _)| is_whole(*end)).unwrap();
        // Was anything of the frame written, and is the block at the cut as it was, zeros included?
        let nothing = end >= cut || whole[end..cut].iter().all(|byte| *byte == 0);
        let block_end = cut.next_multiple_of(4096);
        let block_whole = whole[cut..block_end].iter().all(|byte| *byte == 0);
        match recover_large(&image, false) {
            Ok(recovered) => {
                assert_eq!(recovered.last_seq, seq, "cut at {cut}");
                assert!(block_whole, "cut at {cut} leaves half a block");
                assert_eq!(recovered.tail == TailReport::Clean, nothing, "cut at {cut}");
                torn += 1;
            }
            Err(RecoverError::Ambiguous(problem)) => {
                assert!(!block_whole, "cut at {cut} is between blocks: {problem}");
                assert_eq!((problem.offset, problem.seq_first), (end as u64, seq + 1));
                let accepted = recover_large(&image, true).unwrap();
                assert!(matches!(accepted.tail, TailReport::Accepted(_)));
                assert_eq!(check_recovered(&accepted), seq);
                ambiguous += 1;
            }
            Err(other) => panic!("cut at {cut}: {other}"),
        }
    }
    assert!(torn > 20 && ambiguous > 100, "{torn} torn, {ambiguous} ambiguous");
}

#[test]
fn a_flip_in_the_frames_before_a_cut_is_never_taken_for_the_cut() {
    let (device, ends) = sixteen_frames();
    for (number, window) in ends.windows(3).enumerate().skip(3) {
        let (before, end, cut) = (window[0].0, window[1].0, window[1].0 + 4096);
        for at in (before..end).step_by(211) {
            let image = changed(&device, FIRST, |bytes| {
                bytes[cut.min(window[2].0)..].fill(0);
                bytes[at] ^= 1 << (at % 8);
            });
            let refused = recover_large(&image, false);
            let single = window[2].0 == cut; // the frame behind has one block and is whole: it shows ours as durable
            match refused {
                Err(RecoverError::Corrupt(problem)) => assert_eq!(problem.offset, before as u64, "{number}"),
                Err(RecoverError::Ambiguous(_)) => assert!(!single, "frame {number}, byte {at}"),
                other => panic!("frame {number}, byte {at}: {:?}", other.map(|recovered| recovered.tail)),
            }
        }
    }
}

#[test]
fn a_frame_whose_blocks_are_zero_below_a_good_frame_is_corrupt_not_torn() {
    let (device, ends) = sixteen_frames();
    let (start, end) = (ends[14].0, ends[15].0);
    let image = changed(&device, FIRST, |bytes| bytes[start..end].fill(0));
    let Err(RecoverError::Corrupt(problem)) = recover_large(&image, true) else { panic!("a hole must be corrupt") };
    assert_eq!((problem.offset, problem.seq_first, problem.seq_last), (start as u64, ends[14].1 + 1, ends[15].1));
}

#[test]
fn a_torn_tail_is_cut_reported_dead_afterwards_and_its_numbers_are_used_again() {
    let (device, ends) = sixteen_frames();
    let (start, seq) = ends[15];
    let image = changed(&device, FIRST, |bytes| bytes[start + 4096..].fill(0));
    assert!(ends[16].0 - start > 4096, "the last frame has several blocks");
    let dir = directory(&image);
    let recovered = SegmentJournal::recover(&dir, options(), Floor::default(), 0).unwrap();
    let TailReport::Torn(cut) = &recovered.tail else { panic!("torn") };
    assert_eq!((cut.offset, cut.bytes, cut.seq_first, cut.seq_last), (start as u64, 4096, seq + 1, ends[16].1));
    check_goes_on(&dir, recovered);
    drop(dir);
    // What lies behind the cut is dead: damage there changes nothing.
    let scribbled = changed(&image, FIRST, |bytes| bytes[start..].fill(0xee));
    let dir = directory(&scribbled);
    check_goes_on(&dir, recover(&dir).unwrap());
}

#[test]
fn a_sealed_frame_that_vanishes_is_lost_not_torn() {
    let device = MemoryDevice::new();
    let mut journal = journal_of(&device, &[(3, 0), (3, 0)]);
    journal.seal(2000).unwrap();
    drop(journal);
    // The seal remains and shows that sequence number 6 was durable.
    let hole = changed(&device, FIRST, |bytes| bytes[8192..12288].fill(0));
    assert!(matches!(recover(&directory(&hole)), Err(RecoverError::Corrupt(_))));
}

#[test]
fn a_journal_that_ends_below_witness_or_floor_is_refused() {
    let device = MemoryDevice::new();
    let mut journal = journal_of(&device, &[(3, 0), (3, 0)]);
    journal.witness(2000).unwrap();
    drop(journal);
    let lost = changed(&device, FIRST, |bytes| bytes[8192..].fill(0));
    let Err(RecoverError::TailLost(problem)) = recover(&directory(&lost)) else { panic!("the witness shows more") };
    assert_eq!((problem.seq_first, problem.seq_last), (4, 6));
    let damaged = changed(&device, FIRST, |bytes| bytes[8192 + 200] ^= 1);
    assert!(matches!(recover(&directory(&damaged)), Err(RecoverError::Corrupt(_))));
    let floor = Floor { seq: 7, shown_by: "checkpoint 3".to_owned() };
    let dir = directory(&device);
    let below = SegmentJournal::recover(&dir, options(), floor, 0).unwrap_err();
    assert!(matches!(below, RecoverError::TailLost(_)) && below.to_string().contains("checkpoint 3"), "{below}");
    assert_eq!(recover(&dir).unwrap().last_seq, 6, "nothing was changed");
}

#[test]
fn a_missing_first_middle_or_last_segment_is_refused() {
    let device = MemoryDevice::new();
    let mut journal = journal_of(&device, &[(10, 9000); 24]);
    journal.close_in_place();
    let segments: Vec<String> = device.paths().into_iter().filter(|path| path.ends_with(".segment")).collect();
    assert!(segments.len() >= 4, "{segments:?}");
    for (index, path) in segments.iter().enumerate() {
        let image = copy(&device);
        tp_storage::Device::remove(&image, path).unwrap();
        let found = recover(&directory(&image));
        let spare = device.contents(path).unwrap().iter().all(|byte| *byte == 0);
        match found {
            Err(RecoverError::MissingSegment(problem)) => assert!(problem.file.ends_with(path.as_str())),
            Err(RecoverError::TailLost(_)) => assert!(index > 0),
            Ok(recovered) => assert!(spare && recovered.last_seq == 240, "{path} was lost silently"),
            Err(other) => panic!("{path}: {other}"),
        }
    }
}

/// Closes a journal that is still borrowed.
trait CloseInPlace {
    fn close_in_place(&mut self);
}

impl CloseInPlace for SegmentJournal {
    fn close_in_place(&mut self) {
        self.seal(3000).unwrap();
        self.witness(3000).unwrap();
    }
}

#[test]
fn a_segment_of_another_engine_or_of_a_newer_format_is_refused() {
    let device = MemoryDevice::new();
    drop(journal_of(&device, &[(3, 0)]));
    let other = MemoryDevice::new();
    let foreign = || Identity { engine_id: ENGINE + 1, parameters: Vec::new() };
    let foreign_dir = DataDirectory::create_or_open(std::sync::Arc::new(other.clone()), foreign).unwrap();
    drop(open(&foreign_dir));
    let mixed = copy(&device);
    mixed.plant(FIRST, &other.contents(FIRST).unwrap());
    assert!(matches!(recover(&directory(&mixed)), Err(RecoverError::NotOurs { .. })));
    mixed.plant(FIRST, &device.contents(FIRST).unwrap());
    mixed.plant("witness", &other.contents("witness").unwrap());
    assert!(matches!(recover(&directory(&mixed)), Err(RecoverError::NotOurs { .. })));

    let newer = changed(&device, FIRST, |bytes| {
        bytes[8] = 9;
        let header = u32::from_le_bytes(bytes[12..16].try_into().unwrap()) as usize;
        let sum = crc32c::crc32c_append(crc32c::crc32c(&bytes[..132]), &bytes[136..header]);
        bytes[132..136].copy_from_slice(&sum.to_le_bytes());
    });
    assert!(matches!(recover(&directory(&newer)), Err(RecoverError::NewerFormat { format: 9, .. })));
    let newer = changed(&device, "identity", |bytes| {
        bytes[8] = 9;
        let sum = crc32c::crc32c_append(crc32c::crc32c(&bytes[..12]), &bytes[16..]);
        bytes[12..16].copy_from_slice(&sum.to_le_bytes());
    });
    let refused = DataDirectory::create_or_open(std::sync::Arc::new(newer), support::identity);
    assert!(matches!(refused, Err(DirectoryError::NewerFormat { format: 9, .. })));
}

#[test]
fn a_restart_reads_only_the_segments_that_the_replay_needs() {
    let device = MemoryDevice::new();
    drop(journal_of(&device, &[(10, 9000); 100]));
    let dir = directory(&device);
    let before = device.reads();
    let all = recover(&dir).unwrap();
    let reads_all = device.reads() - before;
    let recovered = SegmentJournal::recover(&dir, options(), Floor::default(), 985).unwrap();
    let reads_few = device.reads() - before - reads_all;
    assert_eq!((all.last_seq, recovered.last_seq), (1000, 1000));
    assert!(reads_few * 3 < reads_all, "{reads_few} of {reads_all}");
    let frames = support::read_all(&*recovered.source(), 985, 1000);
    support::check_events(&frames, 981, 1000);
    // The whole journal stays readable, the part that was not scanned too.
    assert_eq!(check_recovered(&recovered), 1000);
}

#[test]
fn a_read_only_scan_beside_a_writer_sees_what_is_shown_to_be_durable() {
    let device = MemoryDevice::new();
    let mut journal = journal_of(&device, &[(3, 0), (4, 0)]);
    let reader = DataDirectory::open_read_only(std::sync::Arc::new(device.clone())).unwrap();
    assert!(reader.writer_is_running() && !reader.is_writable());
    let calls = device.calls();
    assert_eq!(scan_read_only(&reader, Floor::default(), 0).unwrap().last_seq, 3, "nothing shows the last group yet");
    assert_eq!(device.calls(), calls, "a read-only scan changes nothing");
    journal.seal(2000).unwrap();
    let scan = scan_read_only(&reader, Floor::default(), 0).unwrap();
    assert_eq!(scan.last_seq, 7);
    support::check_events(&support::read_all(&*scan.source(), 1, 7), 1, 7);
    // A frame in the middle of being written is not judged.
    let mut bytes = device.contents(FIRST).unwrap();
    bytes[4 * 4096..4 * 4096 + 300].fill(7);
    device.plant(FIRST, &bytes);
    assert_eq!(scan_read_only(&reader, Floor::default(), 0).unwrap().last_seq, 7);
    drop(journal);
    assert!(matches!(scan_read_only(&reader, Floor::default(), 0), Err(RecoverError::Ambiguous(_))));
}

#[test]
fn an_unused_spare_serves_the_next_life_under_a_new_number() {
    let device = MemoryDevice::new();
    let mut journal = journal_of(&device, &[(3, 0)]);
    make_room(&mut journal);
    drop(journal);
    let before = device.paths();
    let mut journal = open(&directory(&device));
    append(&mut journal, 2).unwrap();
    assert_eq!(device.paths().len(), before.len(), "{:?}", device.paths());
    assert_eq!(device.contents("journal/000000000003.segment").map(|bytes| bytes.len() as u64), Some(SMALL));
    drop(journal);
    assert_eq!(check_recovered(&recover(&directory(&device)).unwrap()), 5);
}

/// A history of the same engine with the same numbers and times, whose payloads differ from `journal_of`'s in one frame.
fn other_history(frames: u32, different: u32) -> MemoryDevice {
    let device = MemoryDevice::new();
    let mut journal = journal_of(&device, &[]);
    for frame in 0..frames {
        make_room(&mut journal);
        support::append_sized(&mut journal, 3, if frame == different { 8999 } else { 9000 }).unwrap();
    }
    journal.close_in_place();
    device
}

#[test]
fn a_good_frame_of_another_history_is_refused() {
    let ours = other_history(6, 99);
    let theirs = other_history(6, 2);
    let (length, at) = (12_288, 4096 + 2 * 12_288);
    let frame = theirs.contents(FIRST).unwrap()[at..at + length].to_vec();
    let image = changed(&ours, FIRST, |bytes| bytes[at..at + length].copy_from_slice(&frame));
    let Err(RecoverError::Corrupt(problem)) = recover(&directory(&image)) else { panic!("the chain is broken") };
    assert_eq!(problem.offset, (at + length) as u64, "the frame behind it does not continue it");
}

#[test]
fn a_whole_segment_of_another_history_is_refused() {
    let ours = other_history(12, 99);
    let theirs = other_history(12, 2);
    let image = copy(&ours);
    image.plant(FIRST, &theirs.contents(FIRST).unwrap());
    assert!(matches!(recover(&directory(&image)), Err(RecoverError::Corrupt(_))));
}

#[test]
fn a_witness_is_durable_when_it_returns() {
    let device = MemoryDevice::new();
    let mut journal = journal_of(&device, &[(3, 0), (3, 0)]);
    journal.witness(2000).unwrap();
    let after = device.crash(tp_storage::CrashMode::DropUnsynced);
    let lost = changed(&after, FIRST, |bytes| bytes[8192..].fill(0));
    assert!(matches!(recover(&directory(&lost)), Err(RecoverError::TailLost(_))));
}

#[test]
fn a_segment_lost_after_roll_over_is_missed_without_any_later_witness() {
    let device = MemoryDevice::new();
    drop(journal_of(&device, &[(3, 20_000); 4])); // two fit into the first segment
    let second = "journal/000000000002.segment";
    assert!(device.contents(second).unwrap().iter().any(|byte| *byte != 0));
    tp_storage::Device::remove(&device, second).unwrap();
    assert!(matches!(recover(&directory(&device)), Err(RecoverError::TailLost(_))));
}

#[test]
fn a_reader_stops_at_a_frame_that_vanished_and_does_not_skip_it() {
    let device = MemoryDevice::new();
    drop(journal_of(&device, &[(3, 20_000); 9]));
    let dir = directory(&device);
    let recovered = recover(&dir).unwrap();
    let mut bytes = device.contents(FIRST).unwrap();
    bytes[4096 + 24_576..].fill(0); // the second frame of two
    device.plant(FIRST, &bytes);
    let mut reader = recovered.frames(1).unwrap();
    assert_eq!(reader.next(27).unwrap().unwrap().last_seq(), 3);
    assert!(matches!(reader.next(27), Err(tp_storage::ReadError::Corrupt(problem)) if problem.seq_first == 4));
}
