//! The state digest: BLAKE3 over the digests of all slots in order.

use core::fmt;

/// The digest of a state: 256 bits, written as 64 hex digits.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct StateDigest(pub [u8; 32]);

impl StateDigest {
    /// Of the digests of all slots, in the order of their numbers.
    pub fn of_slots(slots: impl IntoIterator<Item = [u8; 32]>) -> Self {
        let mut hasher = blake3::Hasher::new_derive_key("tpcore state digest 1");
        for slot in slots {
            hasher.update(&slot);
        }
        Self(*hasher.finalize().as_bytes())
    }
}

impl fmt::Display for StateDigest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}
impl fmt::Debug for StateDigest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self}")
    }
}
