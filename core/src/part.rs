//! A part of a slot's copy as bytes: what a checkpoint is made of.
//!
//! A checkpoint shows millions of records that differ little from one another, beside the journal's own writes on the same disk. So a
//! record is told by what makes it differ from the one before it in the part. Owns the frame of a part and the order of its records;
//! refuses to know which records belong into it, and whether what was read makes sense.
//!
//! ```text
//! 0         4      8      10     12         16
//! | version | part | slot | last | bytes | archive of what is no record, of so many bytes: the first part only
//! |   3     |      |      | 0, 1 |       |
//! then accounts, authorizations, keys: | how many, u32 | records ... |
//! ```
//! Every part can be read by itself, and one slot's come in order. All numbers of the frame are little-endian.

mod difference;
mod records;

use rkyv::util::AlignedVec;

use crate::image::{AccountImage, AuthorizationImage, HEADER_BYTES, ImageError, SlotImage, archive};
use crate::keys::KeyRecord;
use difference::{Differences, Learns};

/// The version of a part as it is written.
pub(crate) const PART_VERSION: u32 = 3;

/// Records of a part on their way to bytes.
#[derive(Clone, Debug, Default)]
pub(crate) struct PartRecords {
    pub(crate) accounts: Differences<AccountImage>,
    pub(crate) authorizations: Differences<AuthorizationImage>,
    pub(crate) keys: Differences<KeyRecord>,
}

impl PartRecords {
    /// Empties it, and keeps its memory.
    pub(crate) fn clear(&mut self) {
        self.accounts.clear();
        self.authorizations.clear();
        self.keys.clear();
    }
}

/// What stands before the records of a part.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct PartHead {
    pub(crate) number: u32,
    pub(crate) slot: u16,
    pub(crate) is_last: bool,
}

/// Writes a part over `bytes`; the first part has `rest`, what is no record.
pub(crate) fn write(head: PartHead, rest: Option<&SlotImage>, records: &PartRecords, bytes: &mut AlignedVec) {
    bytes.clear();
    bytes.resize(HEADER_BYTES, 0);
    if let Some(rest) = rest {
        archive(rest, bytes);
    }
    let rest_bytes =
        u32::try_from(bytes.len() - HEADER_BYTES).expect("open exchanges and answers: a few megabytes at most");
    bytes[0..4].copy_from_slice(&PART_VERSION.to_le_bytes());
    bytes[4..8].copy_from_slice(&head.number.to_le_bytes());
    bytes[8..10].copy_from_slice(&head.slot.to_le_bytes());
    bytes[10..12].copy_from_slice(&u16::from(head.is_last).to_le_bytes());
    bytes[12..16].copy_from_slice(&rest_bytes.to_le_bytes());
    records.accounts.append_to(bytes);
    records.authorizations.append_to(bytes);
    records.keys.append_to(bytes);
}

/// The head of a part, the archive of what is no record (empty but in the first part), and the records in their order: accounts,
/// authorizations, keys.
///
/// # Errors
/// The bytes are no part.
pub(crate) fn read(bytes: &[u8]) -> Result<(PartHead, &[u8], Learns<'_>), ImageError> {
    let (header, body) = bytes.split_first_chunk::<HEADER_BYTES>().ok_or(ImageError::Invalid("cut short"))?;
    let word = |at: usize| u32::from_le_bytes([header[at], header[at + 1], header[at + 2], header[at + 3]]);
    let slot = u16::from_le_bytes([header[8], header[9]]);
    let is_last = match (header[10], header[11]) {
        (0, 0) => false,
        (1, 0) => true,
        _ => return Err(ImageError::Invalid("neither the last part nor another")),
    };
    let (number, rest_bytes) = (word(4), word(12));
    if (number == 0) != (rest_bytes > 0) {
        return Err(ImageError::Invalid("a first part without counters, or a later one with them"));
    }
    let rest_bytes = usize::try_from(rest_bytes).unwrap_or(usize::MAX);
    let (rest, records) = body.split_at_checked(rest_bytes).ok_or(ImageError::Invalid("cut short"))?;
    Ok((PartHead { number, slot, is_last }, rest, Learns::new(records)))
}
