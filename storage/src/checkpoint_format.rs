//! The bytes of a checkpoint file: header, pages, footer.
//!
//! Owns encoding, decoding and the checksums; refuses to know what pages mean and how files get their names. Every byte
//! of the file is covered by some checksum, padding included, and the footer's chain ties the pages together.
//!
//! ```text
//!  0         4096                                                          file_bytes
//!  ├ header ─┼ page 0: header 32, bytes, zeros to 16 ┼ page 1 ┼ … ┼ footer 64, extra, zeros to 16 ┤
//! ```

use zerocopy::little_endian::{U16, U32, U64, U128};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

use crate::block::{BLOCK_BYTES, Block, is_zero};
use crate::frame::FORMAT;

const HEADER_MAGIC: [u8; 8] = *b"TPCCHKPT";
const PAGE_MAGIC: [u8; 4] = *b"TPCP";
const FOOTER_MAGIC: [u8; 4] = *b"TPCE";

/// Padding unit: pages start on it in memory too.
pub(crate) const UNIT: usize = 16;

#[derive(Clone, Copy, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
struct RawHeader {
    magic: [u8; 8],
    format: U16,
    reserved: U16,
    checksum: U32,
    engine_id: U128,
    generation: U64,
    epoch: U64,
}

#[derive(Clone, Copy, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
struct RawPage {
    magic: [u8; 4],
    checksum: U32,
    slot: U16,
    reserved: U16,
    index: U32,
    as_of: U64,
    bytes: U64,
}

#[derive(Clone, Copy, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
struct RawFooter {
    magic: [u8; 4],
    checksum: U32,
    pages: U32,
    chain: U32,
    time: U64,
    as_of_max: U64,
    extra_bytes: U64,
    file_bytes: U64,
    reserved: [u8; 16],
}

pub(crate) const PAGE_HEADER_BYTES: usize = size_of::<RawPage>();
pub(crate) const FOOTER_BYTES: usize = size_of::<RawFooter>();
const _: () = assert!(size_of::<RawHeader>() == 48 && PAGE_HEADER_BYTES == 32 && FOOTER_BYTES == 64);

/// Identity of a checkpoint file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct CheckpointHeader {
    pub(crate) engine_id: u128,
    pub(crate) generation: u64,
    pub(crate) epoch: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct PageHeader {
    pub(crate) slot: u16,
    pub(crate) index: u32,
    pub(crate) as_of: u64,
    pub(crate) bytes: u64,
    pub(crate) checksum: u32,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Footer {
    pub(crate) pages: u32,
    pub(crate) chain: u32,
    pub(crate) time: u64,
    pub(crate) as_of_max: u64,
    pub(crate) extra_bytes: u64,
    pub(crate) file_bytes: u64,
    pub(crate) checksum: u32,
}

/// What the first block says.
pub(crate) enum HeaderRead {
    Good(CheckpointHeader),
    Newer(u16),
    Bad,
}

/// What follows the last page read.
pub(crate) enum PartRead {
    Page(PageHeader),
    Footer(Footer),
    Bad,
}

/// `bytes` with its padding.
pub(crate) const fn padded(bytes: usize) -> usize {
    bytes.next_multiple_of(UNIT)
}

/// Zeros that pad `bytes`.
pub(crate) fn padding(bytes: usize) -> &'static [u8] {
    &[0; UNIT][..padded(bytes) - bytes]
}

fn header_checksum(block: &Block) -> u32 {
    crc32c::crc32c_append(crc32c::crc32c(&block.0[..12]), &block.0[16..])
}

pub(crate) fn encode_header(header: &CheckpointHeader) -> Block {
    let mut raw = RawHeader {
        magic: HEADER_MAGIC,
        format: U16::new(FORMAT),
        reserved: U16::new(0),
        checksum: U32::new(0),
        engine_id: U128::new(header.engine_id),
        generation: U64::new(header.generation),
        epoch: U64::new(header.epoch),
    };
    let mut block = Block::ZERO;
    block.0[..size_of::<RawHeader>()].copy_from_slice(raw.as_bytes());
    raw.checksum = U32::new(header_checksum(&block));
    block.0[..size_of::<RawHeader>()].copy_from_slice(raw.as_bytes());
    block
}

pub(crate) fn decode_header(block: &Block) -> HeaderRead {
    let Ok((raw, _)) = RawHeader::read_from_prefix(&block.0) else { return HeaderRead::Bad };
    if raw.magic != HEADER_MAGIC || header_checksum(block) != raw.checksum.get() {
        return HeaderRead::Bad;
    }
    if raw.format.get() > FORMAT {
        return HeaderRead::Newer(raw.format.get());
    }
    let (engine_id, generation, epoch) = (raw.engine_id.get(), raw.generation.get(), raw.epoch.get());
    let header = CheckpointHeader { engine_id, generation, epoch };
    // A header has one form: what is reserved, and the rest of the block, are zeros.
    if encode_header(&header).0 == block.0 { HeaderRead::Good(header) } else { HeaderRead::Bad }
}

/// Of a page or footer: everything behind the checksum field, the bytes that follow it and their padding.
pub(crate) fn part_checksum(header: &[u8], bytes: &[u8]) -> u32 {
    let checksum = part_checksum_add(part_checksum_begin(header), bytes);
    part_checksum_add(checksum, padding(bytes.len()))
}

/// A part's checksum before the bytes that follow its header.
pub(crate) fn part_checksum_begin(header: &[u8]) -> u32 {
    crc32c::crc32c(&header[8..])
}

/// The checksum after more of them, padding included.
pub(crate) fn part_checksum_add(checksum: u32, bytes: &[u8]) -> u32 {
    crc32c::crc32c_append(checksum, bytes)
}

pub(crate) fn encode_page(slot: u16, index: u32, as_of: u64, bytes: &[u8]) -> ([u8; PAGE_HEADER_BYTES], u32) {
    let mut raw = RawPage {
        magic: PAGE_MAGIC,
        checksum: U32::new(0),
        slot: U16::new(slot),
        reserved: U16::new(0),
        index: U32::new(index),
        as_of: U64::new(as_of),
        bytes: U64::new(bytes.len() as u64),
    };
    let checksum = part_checksum(raw.as_bytes(), bytes);
    raw.checksum = U32::new(checksum);
    (zerocopy::transmute!(raw), checksum)
}

/// `footer.checksum` is filled in here.
pub(crate) fn encode_footer(footer: &Footer, extra: &[u8]) -> [u8; FOOTER_BYTES] {
    let mut raw = RawFooter {
        magic: FOOTER_MAGIC,
        checksum: U32::new(0),
        pages: U32::new(footer.pages),
        chain: U32::new(footer.chain),
        time: U64::new(footer.time),
        as_of_max: U64::new(footer.as_of_max),
        extra_bytes: U64::new(footer.extra_bytes),
        file_bytes: U64::new(footer.file_bytes),
        reserved: [0; 16],
    };
    raw.checksum = U32::new(part_checksum(raw.as_bytes(), extra));
    zerocopy::transmute!(raw)
}

/// Reads the header of a page, or the footer. `bytes` holds up to [`FOOTER_BYTES`].
pub(crate) fn decode_part(bytes: &[u8]) -> PartRead {
    if let Ok((raw, _)) = RawPage::read_from_prefix(bytes)
        && raw.magic == PAGE_MAGIC
        && raw.reserved.get() == 0
    {
        return PartRead::Page(PageHeader {
            slot: raw.slot.get(),
            index: raw.index.get(),
            as_of: raw.as_of.get(),
            bytes: raw.bytes.get(),
            checksum: raw.checksum.get(),
        });
    }
    if let Ok((raw, _)) = RawFooter::read_from_prefix(bytes)
        && raw.magic == FOOTER_MAGIC
        && is_zero(&raw.reserved)
    {
        return PartRead::Footer(Footer {
            pages: raw.pages.get(),
            chain: raw.chain.get(),
            time: raw.time.get(),
            as_of_max: raw.as_of_max.get(),
            extra_bytes: raw.extra_bytes.get(),
            file_bytes: raw.file_bytes.get(),
            checksum: raw.checksum.get(),
        });
    }
    PartRead::Bad
}

/// The chain after one more page.
pub(crate) fn chain(before: u32, page_checksum: u32) -> u32 {
    crc32c::crc32c_append(before, &page_checksum.to_le_bytes())
}

/// Blocks of the header.
pub(crate) const HEADER_BYTES: usize = BLOCK_BYTES;
