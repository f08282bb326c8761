//! One frame of the journal.
//!
//! Promised: any block has an answer; a header that is taken in agrees with itself, so that arithmetic on it cannot overflow; a
//! frame whose checksums hold is built again from its header and payload, and reads back alike.

use tp_fuzz::{Bound, Seed};

use super::{ENGINE, append, directory, mend, trimmed};
use crate::block::{BLOCK_BYTES, Block, bytes_of, bytes_of_mut};
use crate::frame::{
    BLOCKS_MAX, FrameBuffer, FrameHeader, FrameKind, HeaderState, NUMBER_MAX, bad_blocks, header_bytes, parse_header,
};
use crate::{Floor, Journal, JournalOptions, MemoryDevice, SegmentJournal};

/// A frame of a few blocks: its header is a value, its bad blocks a list.
const BOUND: Bound = Bound { bytes: 1 << 10, per_byte: 1, turnover: 2 };

/// Blocks that are looked at.
const BLOCKS: usize = 4;

/// Each frame of a real journal: boot, events in one block and in several, seal.
fn seeds() -> Vec<Seed> {
    let device = MemoryDevice::new();
    let recovered =
        SegmentJournal::recover(&directory(&device), JournalOptions::with_segment_bytes(64 << 10), Floor::default(), 0);
    let mut journal = recovered.expect("an empty journal").open().expect("opens");
    append(&mut journal, 3, 200);
    append(&mut journal, 1, 5000);
    Box::new(journal).close(2000).expect("closes");
    let segment = device.contents("journal/000000000001.segment").expect("the segment");
    let (mut at, mut frames) = (0, Vec::new());
    for name in ["boot", "events", "two-blocks", "seal"] {
        let HeaderState::Valid(header) = parse_header(&blocks_of(&segment[at..])[0]) else { panic!("{name}") };
        let end = at + usize::try_from(header.bytes()).expect("short");
        frames.push((name.to_owned(), trimmed(&segment[at..end])));
        at = end;
    }
    frames
}

fn blocks_of(input: &[u8]) -> Vec<Block> {
    let mut blocks = vec![Block::ZERO; input.len().div_ceil(BLOCK_BYTES).clamp(1, BLOCKS)];
    let length = input.len().min(blocks.len() * BLOCK_BYTES);
    bytes_of_mut(&mut blocks)[..length].copy_from_slice(&input[..length]);
    blocks
}

fn check(input: &[u8]) {
    let mut blocks = blocks_of(input);
    check_blocks(&blocks);
    mend::frame(bytes_of_mut(&mut blocks));
    check_blocks(&blocks);
}

fn check_blocks(blocks: &[Block]) {
    let state = BOUND.hold(blocks.len() * BLOCK_BYTES, || parse_header(&blocks[0]));
    let HeaderState::Valid(header) = state else { return };
    check_header(&header);
    let Some(whole) = blocks.get(..header.blocks as usize) else { return };
    let bad = BOUND.hold(blocks.len() * BLOCK_BYTES, || bad_blocks(whole));
    if bad.is_empty() {
        check_rebuilt(&header, whole);
    }
}

/// Everything that the rest of the crate takes for granted.
fn check_header(header: &FrameHeader) {
    assert!((1..=BLOCKS_MAX).contains(&(header.blocks as usize)), "{header:?}");
    let end = header_bytes(header.blocks as usize) as u64 + header.payload_bytes;
    assert!(end <= header.bytes() && header.end().offset <= header.segment_bytes, "{header:?}");
    assert!(header.first_seq >= 1 && header.last_seq() + 1 >= header.first_seq, "{header:?}");
    assert_eq!(header.count > 0, header.kind == FrameKind::Events, "{header:?}");
    assert!(header.time_min <= header.time_max, "{header:?}");
    assert_eq!(header.payload_bytes > 0, header.kind == FrameKind::Events, "{header:?}");
    let counters = [header.epoch, header.at.segment, header.first_seq, header.durable_seq];
    assert!(counters.iter().all(|counter| *counter <= NUMBER_MAX), "{header:?}");
}

/// What was read is what the writer writes, but for bytes that nothing reads: padding.
fn check_rebuilt(header: &FrameHeader, whole: &[Block]) {
    let start = header.payload_start();
    let end = start + usize::try_from(header.payload_bytes).expect("checked");
    let frame = bytes_of(whole);
    let mut again = FrameBuffer::default();
    let mut made = *header;
    let rebuilt = again.build(&mut made, whole.len(), &[&frame[start..end]]);
    let is_padded = frame[end..].iter().chain(&frame[144 + 4 * whole.len()..start]).all(|byte| *byte == 0);
    assert!(!is_padded || rebuilt == frame, "a frame has one form: {header:?}");
    assert_eq!(parse_header(&blocks_of(rebuilt)[0]), HeaderState::Valid(made));
    assert_eq!(FrameHeader { checksum: header.checksum, ..made }, *header);
}

#[test]
fn a_frame_of_any_bytes_is_refused_or_agrees_with_itself() {
    tp_fuzz::target!("frame", seeds, check);
}

#[test]
fn the_seeds_are_good_frames() {
    for (name, bytes) in seeds() {
        let blocks = blocks_of(&bytes);
        let HeaderState::Valid(header) = parse_header(&blocks[0]) else { panic!("{name}") };
        assert_eq!((header.engine_id, bad_blocks(&blocks)), (ENGINE, Vec::new()), "{name}");
        let mut mended = blocks.clone();
        mend::frame(bytes_of_mut(&mut mended));
        assert!(bytes_of(&mended) == bytes_of(&blocks), "{name}: mending changes nothing that holds");
    }
}

#[test]
fn a_counter_near_the_end_of_its_type_is_refused() {
    // A frame of the highest sequence number or epoch, with checksums that hold, made recovery add beyond 64 bits.
    let (_, events) = seeds().swap_remove(1);
    for at in [32, 40, 64, 72] {
        let mut blocks = blocks_of(&events);
        let bytes = bytes_of_mut(&mut blocks);
        bytes[at..at + 8].copy_from_slice(&(u64::MAX - 5).to_le_bytes());
        mend::frame(bytes);
        assert_eq!(parse_header(&blocks[0]), HeaderState::Garbage, "byte {at}");
    }
}

#[test]
fn an_event_frame_without_events_is_refused() {
    // Its last sequence number was the one before its first, and readers that look for it skipped its payload.
    let (_, events) = seeds().swap_remove(1);
    let mut blocks = blocks_of(&events);
    let bytes = bytes_of_mut(&mut blocks);
    bytes[104..108].fill(0);
    mend::frame(bytes);
    assert_eq!(parse_header(&blocks[0]), HeaderState::Garbage);
}
