//! Identifiers: accounts, authorizations, transfers, slots, sequence numbers, versions.
//!
//! Owns their bit layouts and the hash that puts an account into its slot. Refuses to know who holds what.
//!
//! An authorization's or transfer's id is a `UUIDv8` (RFC 9562, section 5.8), so that ids sort by time and any later verb
//! is routed by the id alone:
//!
//! ```text
//! bit 127                80 79  76 75           64 63 62 61                                     0
//!     | Unix ms (48 bits)  | 8    | 0 0 slot (10) | 1 0  | counter of the slot (62 bits)        |
//! ```

#![allow(clippy::cast_possible_truncation)] // bit layouts: every narrowing cast takes a field that fits

use core::fmt;
use core::hash::Hasher as _;

use rkyv::{Archive, Deserialize, Serialize};
use siphasher::sip::SipHasher13;

use crate::amount::Ledger;
use crate::time::Time;

/// How many slots the accounts of a data directory are hashed into. Part of the data: it never changes.
pub const SLOTS: u16 = 1024;

/// A slot: 1/1024 of the accounts. Range 0 to 1,023.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Archive, Serialize, Deserialize)]
pub struct SlotIndex(u16);

impl SlotIndex {
    /// The slot of that number; `None` from 1,024 up.
    pub const fn new(index: u16) -> Option<Self> {
        if index < SLOTS { Some(Self(index)) } else { None }
    }
    /// The slot's number, 0 to 1,023.
    pub const fn get(self) -> u16 {
        self.0
    }
    /// The slot's number as an index.
    pub const fn index(self) -> usize {
        self.0 as usize
    }
    /// All slots, ascending.
    pub fn all() -> impl Iterator<Item = Self> {
        (0..SLOTS).map(Self)
    }
}

/// The seed of the hash from account to slot: drawn once per data directory.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct SlotSeed(pub [u8; 16]);

impl SlotSeed {
    /// The slot of an account: SipHash-1-3 of its id (little-endian) under the seed, modulo 1,024. A suspense account
    /// names its slot in its id.
    pub fn slot_of(&self, account: AccountId) -> SlotIndex {
        if let Some((slot, _)) = account.suspense() {
            return slot;
        }
        let mut hasher = SipHasher13::new_with_key(&self.0);
        hasher.write(&account.0.to_le_bytes());
        SlotIndex((hasher.finish() & u64::from(SLOTS - 1)) as u16)
    }
}

/// An account, 128 bits chosen by the client. Zero and the ids whose top 32 bits are all ones (the suspense accounts) are
/// not the client's to use: a command that names one is `malformed`.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Archive, Serialize, Deserialize)]
pub struct AccountId(pub u128);

const SUSPENSE_PREFIX: u128 = 0xFFFF_FFFF << 96;

impl AccountId {
    /// The suspense account of a slot and ledger: `FFFFFFFF`, slot (16 bits), zero (16 bits), ledger (64 bits).
    pub const fn suspense_of(slot: SlotIndex, ledger: Ledger) -> Self {
        Self(SUSPENSE_PREFIX | (slot.0 as u128) << 80 | ledger.bits() as u128)
    }
    /// Slot and ledger of a suspense account; `None` for a client's account.
    pub const fn suspense(self) -> Option<(SlotIndex, Ledger)> {
        if self.0 & SUSPENSE_PREFIX != SUSPENSE_PREFIX {
            return None;
        }
        Some((SlotIndex((self.0 >> 80) as u16 & (SLOTS - 1)), Ledger::from_bits(self.0 as u64)))
    }
    /// Whether a client may name this account in a command.
    pub const fn is_clients(self) -> bool {
        self.0 != 0 && self.0 & SUSPENSE_PREFIX != SUSPENSE_PREFIX
    }
}

impl fmt::Display for AccountId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)
    }
}
impl fmt::Debug for AccountId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "AccountId({})", self.0)
    }
}

/// The layout shared by [`AuthorizationId`] and [`TransferId`].
const fn uuid_v8(time: Time, slot: SlotIndex, counter: u64) -> u128 {
    let ms = (time.0 & 0xFFFF_FFFF_FFFF) as u128;
    ms << 80 | 8 << 76 | (slot.0 as u128) << 64 | 0b10 << 62 | (counter & (u64::MAX >> 2)) as u128
}

fn write_uuid(id: u128, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    let hex = |shift: u32, digits: usize| (id >> shift) & ((1 << (4 * digits)) - 1);
    write!(f, "{:08x}-{:04x}-{:04x}-{:04x}-{:012x}", hex(96, 8), hex(80, 4), hex(64, 4), hex(48, 4), hex(0, 12))
}

/// The number behind a UUID in its usual text form (with or without hyphens, any case); `None` when it is not one.
pub fn parse_uuid(text: &str) -> Option<u128> {
    let digits: String = text.chars().filter(|c| *c != '-').collect();
    let hyphens = text.len() - digits.len();
    if digits.len() != 32 || !(hyphens == 0 || hyphens == 4) || !digits.bytes().all(|b| b.is_ascii_hexdigit()) {
        return None;
    }
    u128::from_str_radix(&digits, 16).ok()
}

macro_rules! engine_id {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Archive, Serialize, Deserialize)]
        pub struct $name(pub u128);

        impl $name {
            /// Made of the time of the decision, the slot and the slot's counter.
            pub const fn new(time: Time, slot: SlotIndex, counter: u64) -> Self {
                Self(uuid_v8(time, slot, counter))
            }
            /// The id with these bits; `None` unless it has the engine's form.
            pub const fn from_bits(bits: u128) -> Option<Self> {
                let slot = (bits >> 64) as u16 & 0xFFF;
                if (bits >> 76) & 0xF != 8 || (bits >> 62) & 0b11 != 0b10 || slot >= SLOTS { None } else { Some(Self(bits)) }
            }
            /// The slot that made it and owns it.
            pub const fn slot(self) -> SlotIndex {
                SlotIndex((self.0 >> 64) as u16 & (SLOTS - 1))
            }
            /// The slot's counter in it (62 bits).
            pub const fn counter(self) -> u64 {
                self.0 as u64 & (u64::MAX >> 2)
            }
            /// When it was made (48 bits of Unix milliseconds).
            pub const fn time(self) -> Time {
                Time((self.0 >> 80) as u64)
            }
        }
        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write_uuid(self.0, f)
            }
        }
        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write_uuid(self.0, f)
            }
        }
        impl core::str::FromStr for $name {
            type Err = NotAnId;
            fn from_str(text: &str) -> Result<Self, NotAnId> {
                parse_uuid(text).and_then(Self::from_bits).ok_or(NotAnId)
            }
        }
    };
}

/// The text is not an id made by an engine.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[error("not an id made by an engine (a UUID of version 8 with the engine's layout)")]
pub struct NotAnId;

engine_id! {
    /// An authorization, made by the engine when it approves one.
    AuthorizationId
}
engine_id! {
    /// A transfer (of a transfer, capture, refund, reversal or advice), made by the engine.
    TransferId
}

/// The position of an event in the journal, from 1. Zero: before the first event.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default, Archive, Serialize, Deserialize)]
pub struct Seq(pub u64);

const PROVISIONAL: u64 = 1 << 63;

impl Seq {
    /// Before the first event.
    pub const ZERO: Self = Self(0);
    /// The k-th event of the running turn, before its number is drawn.
    pub const fn provisional(k: u64) -> Self {
        Self(PROVISIONAL | k)
    }
    /// Whether its number is still to be drawn.
    pub const fn is_provisional(self) -> bool {
        self.0 & PROVISIONAL != 0
    }
    /// The real number, once the turn's first number is known.
    #[must_use]
    pub const fn stamped(self, first: Self) -> Self {
        if self.is_provisional() { Self((self.0 & !PROVISIONAL) + first.0) } else { self }
    }
    /// The number after this one.
    #[must_use]
    pub const fn next(self) -> Self {
        Self(self.0 + 1)
    }
}

impl fmt::Display for Seq {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)
    }
}

/// The gapless count of the events that touched an account, from 1.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default, Archive, Serialize, Deserialize)]
pub struct Version(pub u64);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_carries_its_time_and_slot_and_survives_its_text_form() {
        for (ms, slot, counter) in [(0, 0, 0), (1, 1023, 1), (0xFFFF_FFFF_FFFF, 512, u64::MAX >> 2)] {
            let slot = SlotIndex::new(slot).expect("below 1,024");
            let id = AuthorizationId::new(Time(ms), slot, counter);
            assert_eq!((id.time(), id.slot()), (Time(ms), slot));
            assert_eq!(id.to_string().parse::<AuthorizationId>(), Ok(id));
            assert_eq!(&id.to_string()[14..15], "8", "UUID version");
        }
    }

    #[test]
    fn ids_of_other_makers_are_not_taken_for_ours() {
        for text in ["", "1", "00000000-0000-0000-0000-000000000000", "018f3c4e-9d2a-7bcd-8e1f-0123456789ab", "-----"] {
            assert_eq!(text.parse::<TransferId>(), Err(NotAnId), "{text}");
        }
    }

    #[test]
    fn a_suspense_account_names_its_slot_and_ledger() {
        let (slot, ledger) = (SlotIndex::new(777).expect("below 1,024"), Ledger::new("CZK", 2).expect("valid"));
        let id = AccountId::suspense_of(slot, ledger);
        assert_eq!(id.suspense(), Some((slot, ledger)));
        assert_eq!(SlotSeed([9; 16]).slot_of(id), slot);
        assert!(!id.is_clients() && !AccountId(0).is_clients() && AccountId(u128::MAX >> 32).is_clients());
    }

    #[test]
    fn slots_are_spread_evenly_by_the_hash() {
        let seed = SlotSeed([7; 16]);
        let mut counts = vec![0u32; usize::from(SLOTS)];
        for id in 1..=102_400u128 {
            counts[seed.slot_of(AccountId(id)).index()] += 1;
        }
        // 100 expected in each; 6 standard deviations are 60.
        assert!(counts.iter().all(|c| (40..160).contains(c)), "{counts:?}");
    }
}
