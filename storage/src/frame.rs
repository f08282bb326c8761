//! The frame: one group commit on disk. Building, parsing, checking.
//!
//! Owns the byte layout (drawn in `docs/src/journal-format.md`) and the checksums; refuses to know files. A frame
//! starts and ends on 4 KiB. Its header, block checksums included, always lies in its first block, so that one block
//! decides what a frame is.
//!
//! ```text
//!  0        144            header_bytes                       144 + payload ..      blocks × 4096
//!  ├ header ┼ crc per block ┼ zeros to 16 ┼ payload ───────────────────────┼ zeros ┤
//!  └──────── header checksum ─────────────┘└──── block checksums ──────────────────┘
//! ```
//!
//! The header checksum covers the header and the block checksums, and these cover everything else: one number stands
//! for the whole frame, and the next frame repeats it (CHN-1).

use zerocopy::little_endian::{U16, U32, U64, U128};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

use crate::block::{BLOCK, BLOCK_BYTES, Block, bytes_of, bytes_of_mut, is_zero};

/// Version of every file format of this crate.
pub const FORMAT: u16 = 1;

/// Bytes of the fixed header.
const FIXED_BYTES: usize = size_of::<RawHeader>();

/// Blocks in the largest frame: its checksums still fit into the first block.
pub(crate) const BLOCKS_MAX: usize = 960;

/// Largest payload of one frame, in bytes.
pub const PAYLOAD_BYTES_MAX: usize = BLOCKS_MAX * BLOCK_BYTES - header_bytes(BLOCKS_MAX);

/// No counter in a file is above this: no engine lives so long, and what is added to one stays in 64 bits.
pub(crate) const NUMBER_MAX: u64 = 1 << 62;

pub(crate) const FRAME_MAGIC: [u8; 8] = *b"TPCFRAME";

/// Offset of the header checksum in the header; it is left out of what it covers.
const CHECKSUM_AT: usize = 132;

#[derive(Clone, Copy, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
struct RawHeader {
    magic: [u8; 8],
    format: U16,
    kind: u8,
    reserved_a: u8,
    header_bytes: U32,
    engine_id: U128,
    epoch: U64,
    segment: U64,
    offset: U64,
    segment_bytes: U64,
    first_seq: U64,
    durable_seq: U64,
    time_min: U64,
    time_max: U64,
    payload_bytes: U64,
    count: U32,
    blocks: U32,
    cut_segment: U64,
    cut_offset: U64,
    chain: U32,
    checksum: U32,
    rest_checksum: U32,
    reserved_b: [u8; 4],
}

const _: () = assert!(FIXED_BYTES == 144);

/// What a frame is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum FrameKind {
    /// First frame of an epoch: says where the epoch before it was cut.
    Boot,
    /// Events.
    Events,
    /// No events: shows the durable sequence number.
    Seal,
}

impl FrameKind {
    const fn code(self) -> u8 {
        match self {
            Self::Boot => 1,
            Self::Events => 2,
            Self::Seal => 3,
            // 4 is reserved for packed frames.
        }
    }

    const fn from_code(code: u8) -> Option<Self> {
        match code {
            1 => Some(Self::Boot),
            2 => Some(Self::Events),
            3 => Some(Self::Seal),
            _ => None,
        }
    }
}

/// A place in the journal: a segment and a byte offset in it. Ordered.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Position {
    pub(crate) segment: u64,
    pub(crate) offset: u64,
}

/// A frame header, decoded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct FrameHeader {
    pub(crate) kind: FrameKind,
    pub(crate) engine_id: u128,
    pub(crate) epoch: u64,
    pub(crate) at: Position,
    pub(crate) segment_bytes: u64,
    pub(crate) first_seq: u64,
    pub(crate) count: u32,
    pub(crate) durable_seq: u64,
    pub(crate) time_min: u64,
    pub(crate) time_max: u64,
    pub(crate) payload_bytes: u64,
    pub(crate) blocks: u32,
    pub(crate) cut: Position,
    pub(crate) chain: u32,
    pub(crate) checksum: u32,
    /// Of a boot frame: CRC-32C of what lies behind the cut, to the end of its segment. Recovery never reads those bytes; verify
    /// does, so that a bit that flips there is not missed.
    pub(crate) rest_checksum: u32,
}

impl FrameHeader {
    /// Last sequence number in the frame; `first_seq - 1` when it holds no events.
    pub(crate) fn last_seq(&self) -> u64 {
        self.first_seq + u64::from(self.count) - 1
    }

    /// Length on disk, in bytes.
    pub(crate) fn bytes(&self) -> u64 {
        u64::from(self.blocks) * BLOCK
    }

    /// Where the next frame starts.
    pub(crate) fn end(&self) -> Position {
        Position { segment: self.at.segment, offset: self.at.offset + self.bytes() }
    }

    /// Where the payload starts in the frame.
    pub(crate) fn payload_start(&self) -> usize {
        header_bytes(self.blocks as usize)
    }
}

/// What one block says when read as the first block of a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum HeaderState {
    /// All zero: never written.
    Zero,
    /// Neither zero nor a header whose checksum holds.
    Garbage,
    /// A good header of a later format version.
    Newer(u16),
    /// A good header.
    Valid(FrameHeader),
}

/// Header and block checksums of a frame of `blocks` blocks, padded to 16.
pub(crate) const fn header_bytes(blocks: usize) -> usize {
    (FIXED_BYTES + 4 * blocks).next_multiple_of(16)
}

/// Blocks of a frame with this payload; `None`: larger than [`PAYLOAD_BYTES_MAX`].
pub(crate) fn blocks_for(payload_bytes: usize) -> Option<usize> {
    if payload_bytes > PAYLOAD_BYTES_MAX {
        return None;
    }
    let mut blocks = (FIXED_BYTES + payload_bytes).div_ceil(BLOCK_BYTES).max(1);
    while header_bytes(blocks) + payload_bytes > blocks * BLOCK_BYTES {
        blocks += 1;
    }
    Some(blocks)
}

/// Largest payload of a frame in segments of this size.
pub(crate) fn payload_bytes_max(segment_bytes: u64) -> usize {
    let blocks = usize::try_from(segment_bytes / BLOCK).unwrap_or(BLOCKS_MAX).min(BLOCKS_MAX);
    blocks * BLOCK_BYTES - header_bytes(blocks)
}

fn header_checksum(header: &[u8]) -> u32 {
    crc32c::crc32c_append(crc32c::crc32c(&header[..CHECKSUM_AT]), &header[CHECKSUM_AT + 4..])
}

/// Reads a block as the first block of a frame. Total: any bytes have an answer.
pub(crate) fn parse_header(block: &Block) -> HeaderState {
    if block.is_zero() {
        return HeaderState::Zero;
    }
    let Ok((raw, _)) = RawHeader::read_from_prefix(&block.0) else { return HeaderState::Garbage };
    let length = raw.header_bytes.get() as usize;
    if raw.magic != FRAME_MAGIC || !(FIXED_BYTES..=BLOCK_BYTES).contains(&length) {
        return HeaderState::Garbage;
    }
    if header_checksum(&block.0[..length]) != raw.checksum.get() {
        return HeaderState::Garbage;
    }
    if raw.format.get() > FORMAT {
        return HeaderState::Newer(raw.format.get());
    }
    decode(&raw).map_or(HeaderState::Garbage, HeaderState::Valid)
}

/// The header in native types, when its fields agree with each other.
fn decode(raw: &RawHeader) -> Option<FrameHeader> {
    let kind = FrameKind::from_code(raw.kind)?;
    let blocks = raw.blocks.get() as usize;
    let payload = usize::try_from(raw.payload_bytes.get()).ok()?;
    let holds_events = kind == FrameKind::Events;
    let agree = raw.format.get() == FORMAT
        && raw.reserved_a == 0
        && is_zero(&raw.reserved_b)
        && blocks_for(payload) == Some(blocks)
        && raw.header_bytes.get() as usize == header_bytes(blocks)
        && (raw.count.get() > 0) == holds_events
        && (payload > 0) == holds_events
        && (kind == FrameKind::Boot
            || (raw.cut_segment.get() == 0 && raw.cut_offset.get() == 0 && raw.rest_checksum.get() == 0))
        && raw.time_min.get() <= raw.time_max.get()
        && raw.first_seq.get() >= 1
        && [raw.epoch, raw.segment, raw.first_seq, raw.durable_seq, raw.segment_bytes]
            .iter()
            .all(|number| number.get() <= NUMBER_MAX)
        && raw.offset.get().checked_add(blocks as u64 * BLOCK).is_some_and(|end| end <= raw.segment_bytes.get());
    agree.then(|| FrameHeader {
        kind,
        engine_id: raw.engine_id.get(),
        epoch: raw.epoch.get(),
        at: Position { segment: raw.segment.get(), offset: raw.offset.get() },
        segment_bytes: raw.segment_bytes.get(),
        first_seq: raw.first_seq.get(),
        count: raw.count.get(),
        durable_seq: raw.durable_seq.get(),
        time_min: raw.time_min.get(),
        time_max: raw.time_max.get(),
        payload_bytes: raw.payload_bytes.get(),
        blocks: raw.blocks.get(),
        cut: Position { segment: raw.cut_segment.get(), offset: raw.cut_offset.get() },
        chain: raw.chain.get(),
        checksum: raw.checksum.get(),
        rest_checksum: raw.rest_checksum.get(),
    })
}

/// The part of block `index` that its block checksum covers.
fn covered(frame: &[u8], header_len: usize, index: usize) -> &[u8] {
    let start = if index == 0 { header_len } else { index * BLOCK_BYTES };
    &frame[start..(index + 1) * BLOCK_BYTES]
}

/// Indices of the blocks whose checksum does not hold. `blocks` is a whole frame whose header is valid.
pub(crate) fn bad_blocks(blocks: &[Block]) -> Vec<usize> {
    let frame = bytes_of(blocks);
    let header_len = header_bytes(blocks.len());
    let stored = |index: usize| {
        let at = FIXED_BYTES + 4 * index;
        u32::from_le_bytes([frame[at], frame[at + 1], frame[at + 2], frame[at + 3]])
    };
    (0..blocks.len()).filter(|&index| crc32c::crc32c(covered(frame, header_len, index)) != stored(index)).collect()
}

/// The reusable buffer in which frames are built. Grows to the largest frame seen, then allocates no more.
#[derive(Default)]
pub(crate) struct FrameBuffer {
    blocks: Vec<Block>,
}

impl FrameBuffer {
    /// Builds a frame. `header.payload_bytes`, `.blocks` and `.checksum` are filled in here.
    ///
    /// The payload is the concatenation of `parts`, at most [`PAYLOAD_BYTES_MAX`] bytes: the caller has asked
    /// [`blocks_for`].
    pub(crate) fn build(&mut self, header: &mut FrameHeader, blocks: usize, parts: &[&[u8]]) -> &[u8] {
        if self.blocks.len() < blocks {
            self.blocks.resize(blocks, Block::ZERO);
        }
        let frame = bytes_of_mut(&mut self.blocks[..blocks]);
        let header_len = header_bytes(blocks);
        let mut at = header_len;
        for part in parts {
            frame[at..at + part.len()].copy_from_slice(part);
            at += part.len();
        }
        frame[at..].fill(0);
        header.payload_bytes = (at - header_len) as u64;
        header.blocks = u32::try_from(blocks).expect("a frame has at most BLOCKS_MAX blocks");
        seal_header(frame, header, header_len);
        frame
    }
}

/// Writes block checksums, header and header checksum into a frame whose payload is in place.
fn seal_header(frame: &mut [u8], header: &mut FrameHeader, header_len: usize) {
    frame[FIXED_BYTES..header_len].fill(0);
    for index in 0..header.blocks as usize {
        let checksum = crc32c::crc32c(covered(frame, header_len, index));
        let at = FIXED_BYTES + 4 * index;
        frame[at..at + 4].copy_from_slice(&checksum.to_le_bytes());
    }
    let raw = RawHeader {
        magic: FRAME_MAGIC,
        format: U16::new(FORMAT),
        kind: header.kind.code(),
        reserved_a: 0,
        header_bytes: U32::new(u32::try_from(header_len).expect("a header fits into a block")),
        engine_id: U128::new(header.engine_id),
        epoch: U64::new(header.epoch),
        segment: U64::new(header.at.segment),
        offset: U64::new(header.at.offset),
        segment_bytes: U64::new(header.segment_bytes),
        first_seq: U64::new(header.first_seq),
        durable_seq: U64::new(header.durable_seq),
        time_min: U64::new(header.time_min),
        time_max: U64::new(header.time_max),
        payload_bytes: U64::new(header.payload_bytes),
        count: U32::new(header.count),
        blocks: U32::new(header.blocks),
        cut_segment: U64::new(header.cut.segment),
        cut_offset: U64::new(header.cut.offset),
        chain: U32::new(header.chain),
        checksum: U32::new(0),
        rest_checksum: U32::new(header.rest_checksum),
        reserved_b: [0; 4],
    };
    frame[..FIXED_BYTES].copy_from_slice(raw.as_bytes());
    header.checksum = header_checksum(&frame[..header_len]);
    frame[CHECKSUM_AT..CHECKSUM_AT + 4].copy_from_slice(&header.checksum.to_le_bytes());
}

#[cfg(test)]
pub(crate) mod tests {
    use proptest::prelude::*;

    use super::*;

    fn header(first_seq: u64, count: u32) -> FrameHeader {
        FrameHeader {
            kind: FrameKind::Events,
            engine_id: 77,
            epoch: 3,
            at: Position { segment: 5, offset: 8192 },
            segment_bytes: 64 << 20,
            first_seq,
            count,
            durable_seq: first_seq - 1,
            time_min: 10,
            time_max: 20,
            payload_bytes: 0,
            blocks: 0,
            cut: Position::default(),
            chain: 99,
            checksum: 0,
            rest_checksum: 0,
        }
    }

    pub(crate) fn build(payload: &[u8]) -> (FrameHeader, Vec<Block>) {
        let mut buffer = FrameBuffer { blocks: vec![Block([0xee; BLOCK_BYTES]); 2] };
        let mut made = header(41, 2);
        let blocks = blocks_for(payload.len()).expect("small enough");
        buffer.build(&mut made, blocks, &[&payload[..payload.len() / 2], &payload[payload.len() / 2..]]);
        buffer.blocks.truncate(blocks);
        (made, buffer.blocks)
    }

    #[test]
    fn block_counts_leave_room_for_exactly_what_they_must() {
        for payload in (1..20_000).chain(PAYLOAD_BYTES_MAX - 5000..=PAYLOAD_BYTES_MAX) {
            let blocks = blocks_for(payload).expect("within the limit");
            assert!(header_bytes(blocks) + payload <= blocks * BLOCK_BYTES, "{payload} fits");
            let fewer = blocks - 1;
            assert!(fewer == 0 || header_bytes(fewer) + payload > fewer * BLOCK_BYTES, "{payload} needs {blocks}");
        }
        assert_eq!(blocks_for(PAYLOAD_BYTES_MAX), Some(BLOCKS_MAX));
        assert_eq!(blocks_for(PAYLOAD_BYTES_MAX + 1), None);
        assert!(header_bytes(BLOCKS_MAX) <= BLOCK_BYTES, "a header lies in the first block");
    }

    #[test]
    fn a_newer_version_is_told_from_damage() {
        let (made, mut blocks) = build(b"payload");
        blocks[0].0[8] = 2;
        assert_eq!(parse_header(&blocks[0]), HeaderState::Garbage, "the checksum does not hold");
        let sum = header_checksum(&blocks[0].0[..made.payload_start()]);
        blocks[0].0[CHECKSUM_AT..CHECKSUM_AT + 4].copy_from_slice(&sum.to_le_bytes());
        assert_eq!(parse_header(&blocks[0]), HeaderState::Newer(2));
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(200))]

        #[test]
        fn what_is_built_is_parsed_and_a_flipped_bit_is_seen(
            payload in prop::collection::vec(any::<u8>(), 1..20_000),
            flip in any::<prop::sample::Index>(),
        ) {
            let (made, mut blocks) = build(&payload);
            prop_assert_eq!(parse_header(&blocks[0]), HeaderState::Valid(made));
            prop_assert!(bad_blocks(&blocks).is_empty());
            let start = made.payload_start();
            prop_assert_eq!(&bytes_of(&blocks)[start..start + payload.len()], &payload[..]);
            let bit = flip.index(blocks.len() * BLOCK_BYTES * 8);
            bytes_of_mut(&mut blocks)[bit / 8] ^= 1 << (bit % 8);
            prop_assert!(parse_header(&blocks[0]) == HeaderState::Garbage || bad_blocks(&blocks) == [bit / 8 / BLOCK_BYTES]);
        }
    }
}
