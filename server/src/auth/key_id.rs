//! The public name of a key: 64 bits, written as 16 hexadecimal digits. Refuses to know what the key proves or whose it is.

use std::fmt;
use std::str::FromStr;

use aws_lc_rs::rand::{SecureRandom, SystemRandom};

use super::secret::NoRandomness;

/// Number of characters of the text form.
pub const KEY_ID_CHARS: usize = 16;

/// The name of a key: no secret. The text form is 16 lower-case hexadecimal digits.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct KeyId([u8; 8]);

/// The text is not a key id: 16 digits out of `0-9a-f`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a key id is 16 lower-case hexadecimal digits")]
pub struct NotAKeyId;

impl KeyId {
    /// Draws one at random. 64 bits do not exclude that it is taken: whoever keeps the keys looks and draws again.
    ///
    /// # Errors
    /// [`NoRandomness`] when the operating system gives none.
    pub fn random() -> Result<Self, NoRandomness> {
        let mut bytes = [0; 8];
        SystemRandom::new().fill(&mut bytes).map_err(|_| NoRandomness)?;
        Ok(Self(bytes))
    }

    /// The id with these bytes.
    pub const fn from_bytes(bytes: [u8; 8]) -> Self {
        Self(bytes)
    }

    /// Its bytes, as in [`KeyId::from_bytes`].
    pub const fn to_bytes(self) -> [u8; 8] {
        self.0
    }
}

impl FromStr for KeyId {
    type Err = NotAKeyId;

    fn from_str(text: &str) -> Result<Self, NotAKeyId> {
        let digits: &[u8; KEY_ID_CHARS] = text.as_bytes().try_into().map_err(|_| NotAKeyId)?;
        let mut bytes = [0; 8];
        for (byte, pair) in bytes.iter_mut().zip(digits.chunks_exact(2)) {
            *byte = nibble(pair[0])? << 4 | nibble(pair[1])?;
        }
        Ok(Self(bytes))
    }
}

/// One form only: upper case is refused, so that a key has one name in logs and in signatures.
fn nibble(digit: u8) -> Result<u8, NotAKeyId> {
    match digit {
        b'0'..=b'9' => Ok(digit - b'0'),
        b'a'..=b'f' => Ok(digit - b'a' + 10),
        _ => Err(NotAKeyId),
    }
}

impl fmt::Display for KeyId {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(out, "{byte:02x}"))
    }
}

impl fmt::Debug for KeyId {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "KeyId({self})")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_id_has_one_text_and_comes_back_from_it() {
        let id = KeyId::from_bytes([0, 1, 0x7f, 0x80, 0xab, 0xcd, 0xef, 0xff]);
        assert_eq!(id.to_string(), "00017f80abcdefff");
        assert_eq!("00017f80abcdefff".parse(), Ok(id));
        for other in
            ["00017F80abcdefff", "00017f80abcdeff", "00017f80abcdefff0", "00017f80abcdefg0", "", "+0017f80abcdefff"]
        {
            assert_eq!(other.parse::<KeyId>(), Err(NotAKeyId), "{other}");
        }
    }
}
