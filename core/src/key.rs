//! Idempotency keys and the fingerprints of command bodies.
//!
//! A key belongs to the account that owns the decision (IDM-1: one outcome per key). Its kind is said by the client and never
//! guessed from its bits: the same bits under the other kind are another body, so a conflict.

use core::hash::Hasher as _;

use rkyv::{Archive, Deserialize, Serialize};
use siphasher::sip::SipHasher13;

use crate::time::Time;

/// What the bits of a key mean.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Archive, Serialize, Deserialize)]
#[repr(u8)]
pub enum KeyKind {
    /// A `UUIDv7` (RFC 9562, section 5.7): its first 48 bits are the Unix milliseconds at which the client made it. Exactly once
    /// for ever in bounded memory: a key older than the window is refused.
    UuidV7,
    /// Any bits. Exactly once within the window.
    Opaque,
}

/// An idempotency key: 128 bits and their kind.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Archive, Serialize, Deserialize)]
pub struct Key {
    /// The bits.
    pub bits: u128,
    /// What they mean.
    pub kind: KeyKind,
}

impl Key {
    /// A key without meaning.
    pub const fn opaque(bits: u128) -> Self {
        Self { bits, kind: KeyKind::Opaque }
    }
    /// A `UUIDv7`.
    pub const fn uuid_v7(bits: u128) -> Self {
        Self { bits, kind: KeyKind::UuidV7 }
    }
    /// A `UUIDv7` made of a time and 74 bits that the client draws (12 from the top of `random`, 62 from its bottom).
    pub const fn uuid_v7_from_parts(time: Time, random: u128) -> Self {
        let (a, b) = ((random >> 62) & 0xFFF, random & ((1 << 62) - 1));
        Self::uuid_v7((time.0 as u128 & 0xFFFF_FFFF_FFFF) << 80 | 7 << 76 | a << 64 | 0b10 << 62 | b)
    }
    /// Whether the bits have the form that the kind says.
    pub const fn is_well_formed(self) -> bool {
        match self.kind {
            KeyKind::Opaque => true,
            KeyKind::UuidV7 => (self.bits >> 76) & 0xF == 7 && (self.bits >> 62) & 0b11 == 0b10,
        }
    }
    /// The time inside a `UUIDv7`.
    pub const fn own_time(self) -> Option<Time> {
        match self.kind {
            KeyKind::UuidV7 => Some(Time((self.bits >> 80) as u64)),
            KeyKind::Opaque => None,
        }
    }
}

/// What a command's body was: 64 bits of SipHash-1-3 over verb, ids, ledger, amounts and flags. Same key and another
/// fingerprint: a conflict. (A client can only deceive itself with a collision.)
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default, Archive, Serialize, Deserialize)]
pub struct Fingerprint(pub u64);

/// Collects the fields of a body in a fixed order; every field has a fixed width. They are hashed in one go: the hash takes eight bytes
/// at a time, and gathering them from fields one by one costs more than the hash itself.
pub(crate) struct FingerprintBuilder {
    bytes: [u8; BODY_BYTES_MAX],
    len: usize,
}

/// More than the longest body: an update, 201 bytes.
const BODY_BYTES_MAX: usize = 208;

impl FingerprintBuilder {
    #[inline]
    pub(crate) fn new(verb: u8) -> Self {
        let mut bytes = [0; BODY_BYTES_MAX];
        bytes[0] = verb;
        Self { bytes, len: 1 }
    }
    #[inline]
    fn put<const N: usize>(&mut self, field: [u8; N]) -> &mut Self {
        self.bytes[self.len..self.len + N].copy_from_slice(&field);
        self.len += N;
        self
    }
    #[inline]
    pub(crate) fn wide(&mut self, value: u128) -> &mut Self {
        self.put(value.to_le_bytes())
    }
    #[inline]
    pub(crate) fn narrow(&mut self, value: u64) -> &mut Self {
        self.put(value.to_le_bytes())
    }
    /// An optional field: its presence, then its value.
    #[inline]
    pub(crate) fn optional(&mut self, value: Option<u128>) -> &mut Self {
        self.narrow(u64::from(value.is_some())).wide(value.unwrap_or(0))
    }
    pub(crate) fn finish(&self) -> Fingerprint {
        let mut hasher = SipHasher13::new_with_keys(0x7470_636f_7265_2d66, 0x696e_6765_7270_7231);
        hasher.write(&self.bytes[..self.len]);
        Fingerprint(hasher.finish())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_uuid_v7_gives_its_time_back() {
        let key = Key::uuid_v7_from_parts(Time(1_700_000_000_123), u128::MAX);
        assert!(key.is_well_formed());
        assert_eq!(key.own_time(), Some(Time(1_700_000_000_123)));
        assert!(!Key::uuid_v7(7).is_well_formed());
        assert_eq!(Key::opaque(key.bits).own_time(), None);
    }

    #[test]
    fn an_absent_field_is_not_a_zero_field() {
        let print = |value| FingerprintBuilder::new(1).optional(value).finish();
        assert_ne!(print(None), print(Some(0)));
    }
}
