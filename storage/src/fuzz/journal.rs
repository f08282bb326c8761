//! Whole journals: segments with their boot, event and seal frames, and the witness beside them.
//!
//! Promised: refused, or sound: the events that are handed out are gapless, the journal goes on, and what was read is still there
//! at the next start. What `verify` finds nothing wrong with, recovery opens.
//!
//! ```text
//! input:  | place u8 | mend u8 | length u16 LE | bytes ... |  again and again
//!   place: bits 0-1 file (0: witness, 1 to 3: segment), bits 2-4 block.  mend: bit 0 checksums, bit 1 chain to the one before
//! ```

use std::ops::ControlFlow;
use std::sync::Arc;

use tp_fuzz::{Bound, Seed};

use super::{append, directory, mend, trimmed};
use crate::block::BLOCK_BYTES;
use crate::frame::NUMBER_MAX;
use crate::{
    DataDirectory, Floor, Frame, Journal, JournalOptions, MemoryDevice, Mending, RecoverError, Recovered,
    SegmentJournal, TailReport, VerifyStatus, segment, verify,
};

/// Blocks of a segment.
const BLOCKS: usize = 4;

/// Walks read 1 MiB at a time, and a header may name up to 960 blocks.
const BOUND: Bound = Bound { bytes: 8 << 20, per_byte: 0, turnover: 4 };

fn options() -> JournalOptions {
    JournalOptions::with_segment_bytes((BLOCKS * BLOCK_BYTES) as u64)
}

fn record(place: u8, mend: u8, bytes: &[u8]) -> Vec<u8> {
    let length = u16::try_from(bytes.len()).expect("a short record");
    [&[place, mend][..], &length.to_le_bytes(), bytes].concat()
}

/// The frames of a device as records, each at its place.
fn input_of(device: &MemoryDevice, mending: u8) -> Vec<u8> {
    let mut input = Vec::new();
    for file in 0..4_u8 {
        let Some(bytes) = device.contents(&path(file)) else { continue };
        let starts: Vec<usize> = (0..bytes.len() / BLOCK_BYTES)
            .filter(|block| file == 0 || bytes[block * BLOCK_BYTES..].starts_with(b"TPCFRAME"))
            .collect();
        for (index, block) in starts.iter().enumerate() {
            let end = starts.get(index + 1).map_or(bytes.len(), |next| next * BLOCK_BYTES);
            let place = file | u8::try_from(*block).expect("few blocks") << 2;
            input.extend(record(place, mending, &trimmed(&bytes[block * BLOCK_BYTES..end])));
        }
    }
    input
}

/// Closed in order; cut off; two lives; a roll-over; nothing at all.
fn seeds() -> Vec<Seed> {
    let live = |device: &MemoryDevice, frames: &[(u32, usize)], closes: bool| {
        let recovered = SegmentJournal::recover(&directory(device), options(), Floor::default(), 0);
        let mut journal = recovered.expect("sound").open().expect("opens");
        for (count, bytes) in frames {
            append(&mut journal, *count, *bytes);
        }
        if closes {
            Box::new(journal).close(2_000).expect("closes");
        }
    };
    let mut seeds = Vec::new();
    let mut seed = |name: &str, lives: &[(&[(u32, usize)], bool)]| {
        let device = MemoryDevice::new();
        for (frames, closes) in lives {
            live(&device, frames, *closes);
        }
        seeds.push((name.to_owned(), input_of(&device, 3)));
    };
    seed("closed", &[(&[(2, 48), (1, 96)], true)]);
    seed("cut-off", &[(&[(2, 48), (1, 4200)], false)]);
    seed("two-lives", &[(&[(2, 48)], false), (&[(3, 64)], true)]);
    seed("rolled-over", &[(&[(2, 48), (1, 4200), (4, 64)], true)]);
    let unmended = input_of(&device_of(&seeds[0].1), 0);
    seeds.push(("closed-unmended".to_owned(), unmended));
    seeds.push(("nothing".to_owned(), Vec::new()));
    seeds
}

fn path(file: u8) -> String {
    if file == 0 { "witness".to_owned() } else { segment::path(file.into()) }
}

/// The directory that the input stands for.
fn device_of(mut input: &[u8]) -> MemoryDevice {
    let device = MemoryDevice::new();
    drop(directory(&device));
    let mut files: [Option<Vec<u8>>; 4] = [device.contents("witness"), None, None, None];
    let mut before = 0;
    while let Some((head, rest)) = input.split_first_chunk::<4>() {
        let length = usize::from(u16::from_le_bytes([head[2], head[3]])).min(rest.len());
        place(&mut files, &mut before, (head[0], head[1]), &rest[..length]);
        input = &rest[length..];
    }
    for (file, bytes) in (0..).zip(&files) {
        if let Some(bytes) = bytes {
            device.plant(&path(file), bytes);
        }
    }
    device
}

fn place(files: &mut [Option<Vec<u8>>; 4], before: &mut u32, (place, mending): (u8, u8), bytes: &[u8]) {
    let number = usize::from(place & 3);
    let file = files[number].get_or_insert_with(|| vec![0; BLOCKS * BLOCK_BYTES]);
    let blocks = file.len() / BLOCK_BYTES;
    let start = usize::from(place >> 2) % blocks * BLOCK_BYTES;
    let end = start + bytes.len().next_multiple_of(BLOCK_BYTES).max(BLOCK_BYTES).min(file.len() - start);
    let part = &mut file[start..end];
    let length = bytes.len().min(part.len());
    part.fill(0);
    part[..length].copy_from_slice(&bytes[..length]);
    match (number, mending & 1) {
        (_, 0) => {}
        (0, _) => mend::witness(part),
        _ => {
            if mending & 2 > 0 {
                mend::chain(part, *before);
            }
            *before = mend::frame(part).unwrap_or(0);
        }
    }
}

/// The first and last sequence number handed out; panics at a gap.
#[derive(Default)]
struct Read(Option<(u64, u64)>);

impl Read {
    fn frame(&mut self, frame: &Frame) -> ControlFlow<()> {
        assert!(frame.count > 0 && !frame.payload().is_empty(), "an event frame holds events");
        if let Some((_, last)) = self.0 {
            assert_eq!(frame.first_seq, last + 1, "gapless");
        }
        self.0 = Some((self.0.map_or(frame.first_seq, |(first, _)| first), frame.last_seq()));
        ControlFlow::Continue(())
    }
}

fn recover(dir: &DataDirectory) -> (Result<Recovered, RecoverError>, Read) {
    let mut read = Read::default();
    let recovered = SegmentJournal::recover_with(dir, options(), Floor::default(), 0, &mut |frame| read.frame(frame));
    (recovered, read)
}

fn check(input: &[u8]) {
    let device = device_of(input);
    let verified = {
        let dir = DataDirectory::open_read_only(Arc::new(device.clone())).expect("the identity is good");
        let mut read = Read::default();
        BOUND.hold(0, || {
            verify(&dir, Mending::Report, &mut |frame| read.frame(frame), &mut |_| ControlFlow::Continue(()))
        })
    };
    let dir = directory(&device);
    let (recovered, read) = BOUND.hold(0, || recover(&dir));
    let is_sound = verified.is_ok_and(|report| report.status == VerifyStatus::Ok);
    match recovered {
        Ok(recovered) => check_goes_on(&dir, recovered, &read),
        Err(RecoverError::Io { source, .. }) => panic!("a memory device reads: {source}"),
        Err(error) => assert!(!is_sound, "verify found nothing, and recovery says: {error}"),
    }
}

/// Whether some counters are left to go on with: only forged bytes come to their end, and the next start refuses what is beyond.
fn is_far_from_the_end(recovered: &Recovered) -> bool {
    let scan = &recovered.scan;
    [scan.epoch, scan.witness.writes, scan.segment_highest, scan.last_seq]
        .iter()
        .all(|counter| *counter < NUMBER_MAX - 9)
}

/// One frame more, and everything is there at the next start.
fn check_goes_on(dir: &DataDirectory, recovered: Recovered, read: &Read) {
    let last = recovered.last_seq;
    let is_far = is_far_from_the_end(&recovered);
    assert!(read.0.is_none_or(|(_, read)| read == last), "the last event was handed out");
    let mut journal = recovered.open().expect("a sound journal opens");
    append(&mut journal, 2, 32);
    Box::new(journal).close(0).expect("closes");
    if !is_far {
        return;
    }
    let (again, read_again) = recover(dir);
    let again = again.expect("what was written is sound");
    assert_eq!((again.last_seq, &again.tail), (last + 2, &TailReport::Clean));
    assert_eq!(read_again.0, Some((read.0.map_or(last + 1, |(first, _)| first), last + 2)), "nothing is lost");
}

#[test]
fn a_journal_of_any_bytes_is_refused_or_goes_on() {
    tp_fuzz::target!("journal", seeds, check);
}

#[test]
fn the_seeds_are_recovered_as_they_were_mended_or_not() {
    let last = |bytes: &[u8]| recover(&directory(&device_of(bytes))).0.expect("sound").last_seq;
    let seeds = seeds();
    let found: Vec<_> = seeds.iter().map(|(_, bytes)| last(bytes)).collect();
    assert_eq!(found, [3, 3, 5, 7, 3, 0]);
}
