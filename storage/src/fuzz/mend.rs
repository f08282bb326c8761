//! Checksums made to hold, after the byte rows of `docs/src/journal-format.md` and not by the code under test.
//!
//! Owns offsets of checksums; refuses to judge what they cover.

use crate::block::BLOCK_BYTES;

fn word(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_le_bytes(*bytes.get(at..)?.first_chunk()?))
}

fn put(bytes: &mut [u8], at: usize, word: u32) {
    if let Some(place) = bytes.get_mut(at..at + 4) {
        place.copy_from_slice(&word.to_le_bytes());
    }
}

/// CRC-32C of everything but the four bytes at `hole`.
fn around(bytes: &[u8], hole: usize) -> u32 {
    crc32c::crc32c_append(crc32c::crc32c(&bytes[..hole]), &bytes[hole + 4..])
}

/// A frame at the front of whole blocks: block checksums as far as there are blocks, then the header's. Returns it.
pub(crate) fn frame(bytes: &mut [u8]) -> Option<u32> {
    let header_bytes = word(bytes, 12).filter(|length| (144..=4096).contains(length))? as usize;
    let blocks = word(bytes, 108)?.min(u32::try_from(bytes.len() / BLOCK_BYTES).ok()?) as usize;
    for index in 0..blocks.min((header_bytes - 144) / 4) {
        let start = if index == 0 { header_bytes } else { index * BLOCK_BYTES };
        let checksum = crc32c::crc32c(&bytes[start..(index + 1) * BLOCK_BYTES]);
        put(bytes, 144 + 4 * index, checksum);
    }
    let checksum = around(&bytes[..header_bytes], 132);
    put(bytes, 132, checksum);
    Some(checksum)
}

/// The checksum of the frame before it, in a frame's header.
pub(crate) fn chain(bytes: &mut [u8], before: u32) {
    put(bytes, 128, before);
}

/// One copy of the witness.
pub(crate) fn witness(block: &mut [u8]) {
    let checksum = crc32c::crc32c(&block[..92]);
    put(block, 92, checksum);
}

/// A whole block with its checksum at byte 12: the identity, and the header of a checkpoint.
pub(crate) fn block(block: &mut [u8]) {
    let checksum = around(block, 12);
    put(block, 12, checksum);
}

/// A checkpoint file: header, pages and footer as far as they can be followed, with the chain of the pages.
pub(crate) fn checkpoint(bytes: &mut [u8]) {
    if bytes.len() < BLOCK_BYTES {
        return;
    }
    block(&mut bytes[..BLOCK_BYTES]);
    let (mut at, mut chain) = (BLOCK_BYTES, 0);
    while let Some(rest) = bytes.get_mut(at..).filter(|rest| rest.len() >= 32) {
        let is_footer = rest.starts_with(b"TPCE") && rest.len() >= 64;
        let (header, length_at) = if is_footer { (64, 32) } else { (32, 24) };
        let length = word(rest, length_at).map_or(0, |length| length as usize).next_multiple_of(16);
        let Some(part) = rest.get_mut(..header + length) else { return };
        if is_footer {
            put(part, 12, chain);
        }
        let checksum = crc32c::crc32c(&part[8..]);
        put(part, 4, checksum);
        chain = crc32c::crc32c_append(chain, &checksum.to_le_bytes());
        at += part.len();
    }
}

/// Something whose last four bytes are the checksum of all before them.
pub(crate) fn last(bytes: &mut [u8]) {
    if let Some(end) = bytes.len().checked_sub(4) {
        let checksum = crc32c::crc32c(&bytes[..end]);
        put(bytes, end, checksum);
    }
}
