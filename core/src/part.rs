//! A part of a slot's copy as bytes: what a checkpoint is made of.
//!
//! A checkpoint shows millions of records that differ little from one another, beside the journal's own writes on the same disk. So a
//! record is told by what makes it differ from the one before it in the part. Owns the frame of a part and the order of its records;
//! refuses to know which records belong into it, and whether what was read makes sense.
//!
//! ```text
//! 0         4      8      10     12         16
//! | version | part | slot | last | bytes    | archive of what is no record, of so many bytes: the first part only
//! |   3     |      |      | 0, 1 |          |
//! then accounts, authorizations, keys: | how many, u32 | records ... |
//! ```
//! Every part can be read by itself, and one slot's come in order. All numbers of the frame are little-endian.

mod difference;
mod records;

use rkyv::util::AlignedVec;

use crate::ids::SlotIndex;
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
#[derive(Clone, Copy, Debug)]
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

/// A part being read: its head first, then its records in their order.
pub(crate) struct PartReader<'a> {
    pub(crate) head: PartHead,
    /// The archive of what is no record; empty but in the first part.
    pub(crate) rest: &'a [u8],
    /// Accounts, then authorizations, then keys.
    pub(crate) records: Learns<'a>,
}

impl<'a> PartReader<'a> {
    /// # Errors
    /// The bytes are no part.
    pub(crate) fn new(bytes: &'a [u8]) -> Result<Self, ImageError> {
        let (header, body) = bytes.split_first_chunk::<HEADER_BYTES>().ok_or(ImageError::Invalid("cut short"))?;
        let [_, _, _, _, number @ .., _, _, _, _, _, _, _, _] = *header;
        let [.., s0, s1, l0, l1, b0, b1, b2, b3] = *header;
        let is_last = match u16::from_le_bytes([l0, l1]) {
            0 => false,
            1 => true,
            _ => return Err(ImageError::Invalid("neither the last part nor another")),
        };
        let slot = SlotIndex::new(u16::from_le_bytes([s0, s1])).ok_or(ImageError::Invalid("no such slot"))?;
        let head = PartHead { number: u32::from_le_bytes(number), slot: slot.get(), is_last };
        let rest_bytes = usize::try_from(u32::from_le_bytes([b0, b1, b2, b3])).unwrap_or(usize::MAX);
        if (head.number == 0) != (rest_bytes > 0) {
            return Err(ImageError::Invalid("a first part without counters, or a later one with them"));
        }
        let (rest, records) = body.split_at_checked(rest_bytes).ok_or(ImageError::Invalid("cut short"))?;
        Ok(Self { head, rest, records: Learns::new(records) })
    }
}
