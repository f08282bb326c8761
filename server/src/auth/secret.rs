//! API keys: `tpk_<key id>_<secret>`. Owns their text, what is kept of them and the comparison. Refuses to know whose they are.
//!
//! ```text
//!  tpk_ 00017f80abcdefff _ <43 characters of base64url: 32 random bytes>
//!       key id, public     secret, never kept: kept is SHA-256(domain, key id, secret)
//! ```
//!
//! Invariant AUT-2: the secret is compared in constant time, shown by no `Debug` and wiped when dropped.

use std::fmt;

use aws_lc_rs::constant_time;
use aws_lc_rs::digest::{self, SHA256};
use aws_lc_rs::rand::{SecureRandom, SystemRandom};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use zeroize::{Zeroize as _, Zeroizing};

use super::key_id::{KEY_ID_CHARS, KeyId};

/// What every API key begins with, so that scanners for leaked secrets know one when they see it.
pub const API_KEY_PREFIX: &str = "tpk_";
const SECRET_BYTES: usize = 32;
const SECRET_CHARS: usize = 43;
/// Number of characters of an API key.
pub const API_KEY_CHARS: usize = API_KEY_PREFIX.len() + KEY_ID_CHARS + 1 + SECRET_CHARS;
/// Keeps these hashes apart from every other use of SHA-256 over the same bytes.
const HASH_DOMAIN: &[u8] = b"tpcore api key, version 1\0";

/// The operating system gave no random bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the operating system gives no random bytes")]
pub struct NoRandomness;

/// The text is not an API key. It says no more, because the text may be a secret with a slip in it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not an API key")]
pub struct NotAnApiKey;

/// An API key with its secret: from a client's header, or new and about to be shown once.
pub struct ApiKeyText {
    id: KeyId,
    secret: Zeroizing<[u8; SECRET_BYTES]>,
}

/// What the server keeps of an API key.
///
/// A plain SHA-256 and no slow password hash: slow hashes make guessing dear where people choose the secret. This one has 256 bits of
/// entropy, which nobody guesses at any speed; a slow hash would only cost the server time at every request.
#[derive(Clone)]
pub struct ApiKeyHash([u8; 32]);

/// 32 random bytes: the shared secret of a new `hmac-sha256` key. Keep it sealed ([`super::seal`]).
///
/// # Errors
/// [`NoRandomness`] when the operating system gives none.
pub fn random_secret() -> Result<Zeroizing<[u8; SECRET_BYTES]>, NoRandomness> {
    let mut secret = Zeroizing::new([0; SECRET_BYTES]);
    SystemRandom::new().fill(secret.as_mut_slice()).map_err(|_| NoRandomness)?;
    Ok(secret)
}

impl ApiKeyText {
    /// Makes a new key with a random id and a random secret.
    ///
    /// # Errors
    /// [`NoRandomness`] when the operating system gives none.
    pub fn generate() -> Result<Self, NoRandomness> {
        Ok(Self { id: KeyId::random()?, secret: random_secret()? })
    }

    /// Reads `tpk_<16 hex>_<43 base64url>`. Each key has exactly one text: no padding, no spare bits, no white space.
    ///
    /// # Errors
    /// [`NotAnApiKey`] for any other text.
    pub fn parse(text: &str) -> Result<Self, NotAnApiKey> {
        let rest = text.strip_prefix(API_KEY_PREFIX).ok_or(NotAnApiKey)?;
        let (id, secret_text) = rest.split_once('_').ok_or(NotAnApiKey)?;
        let id = id.parse().map_err(|_| NotAnApiKey)?;
        if secret_text.len() != SECRET_CHARS {
            return Err(NotAnApiKey);
        }
        let mut secret = Zeroizing::new([0; SECRET_BYTES]);
        let written = URL_SAFE_NO_PAD.decode_slice(secret_text, secret.as_mut_slice()).map_err(|_| NotAnApiKey)?;
        if written != SECRET_BYTES {
            return Err(NotAnApiKey);
        }
        Ok(Self { id, secret })
    }

    /// The public part.
    pub fn id(&self) -> KeyId {
        self.id
    }

    /// What to keep. The id goes into it: a hash that is copied to another key's record fits nothing.
    pub fn hash(&self) -> ApiKeyHash {
        let mut hashing = digest::Context::new(&SHA256);
        hashing.update(HASH_DOMAIN);
        hashing.update(&self.id.to_bytes());
        hashing.update(self.secret.as_slice());
        let mut hash = [0; 32];
        hash.copy_from_slice(hashing.finish().as_ref());
        ApiKeyHash(hash)
    }

    /// Is it the key that `kept` was made of? In constant time.
    pub fn verify(&self, kept: &ApiKeyHash) -> bool {
        self.hash() == *kept
    }
}

/// The whole key, secret included: to show it once to the one who asked for it, nowhere else.
impl fmt::Display for ApiKeyText {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut text = [0; SECRET_CHARS];
        let written = URL_SAFE_NO_PAD.encode_slice(self.secret.as_slice(), &mut text).map_err(|_| fmt::Error)?;
        let shown = std::str::from_utf8(&text[..written])
            .map_err(|_| fmt::Error)
            .and_then(|secret| write!(out, "{API_KEY_PREFIX}{}_{secret}", self.id));
        text.zeroize();
        shown
    }
}

impl fmt::Debug for ApiKeyText {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "ApiKeyText({}, secret redacted)", self.id)
    }
}

impl ApiKeyHash {
    /// A hash as it was kept.
    pub const fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// The bytes to keep.
    pub const fn to_bytes(&self) -> [u8; 32] {
        self.0
    }
}

/// In constant time, so that nobody compares hashes in another way.
impl PartialEq for ApiKeyHash {
    fn eq(&self, other: &Self) -> bool {
        constant_time::verify_slices_are_equal(&self.0, &other.0).is_ok()
    }
}

impl Eq for ApiKeyHash {}

impl fmt::Debug for ApiKeyHash {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str("ApiKeyHash(redacted)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn made() -> ApiKeyText {
        ApiKeyText::generate().unwrap()
    }

    #[test]
    fn a_key_comes_back_from_its_text_and_fits_its_hash() {
        let key = made();
        let text = key.to_string();
        assert_eq!(text.len(), API_KEY_CHARS);
        let again = ApiKeyText::parse(&text).unwrap();
        assert_eq!(again.id(), key.id());
        assert!(again.verify(&key.hash()));
        assert!(again.verify(&ApiKeyHash::from_bytes(key.hash().to_bytes())));
    }

    #[test]
    fn every_other_character_of_a_key_is_refused_or_does_not_fit() {
        let key = made();
        let (text, kept) = (key.to_string(), key.hash());
        for at in 0..text.len() {
            for replacement in [b'A', b'b', b'0', b'_', b'-', b'=', b' ', b'/'] {
                let mut bytes = text.clone().into_bytes();
                if bytes[at] == replacement {
                    continue;
                }
                bytes[at] = replacement;
                let changed = String::from_utf8(bytes).unwrap();
                assert!(!ApiKeyText::parse(&changed).is_ok_and(|other| other.verify(&kept)), "byte {at}: {changed}");
            }
        }
    }

    #[test]
    fn text_that_is_no_key_is_refused() {
        let text = made().to_string();
        let longer = format!("{text}A");
        let padded = format!("{text}=");
        let spare_bits = format!("tpk_0000000000000000_{}B", "A".repeat(42));
        let spaced = format!(" {text}");
        for other in ["", "tpk_", "tpk__", "tpk_é", &text[..text.len() - 1], &longer, &padded, &spare_bits, &spaced] {
            assert!(ApiKeyText::parse(other).is_err(), "{other}");
        }
    }

    #[test]
    fn two_keys_share_neither_id_nor_hash() {
        let (one, other) = (made(), made());
        assert_ne!(one.id(), other.id());
        assert!(!one.verify(&other.hash()));
    }

    #[test]
    fn the_same_secret_under_another_id_does_not_fit() {
        let key = made();
        let text = key.to_string();
        let moved = format!("tpk_0123456789abcdef_{}", &text[text.len() - SECRET_CHARS..]);
        assert!(!ApiKeyText::parse(&moved).unwrap().verify(&key.hash()));
    }

    #[test]
    fn the_hash_stays_what_it_was() {
        // A golden value: a change would lock out every key that was ever given.
        let key = ApiKeyText::parse(&format!("tpk_0001020304050607_{}", "A".repeat(43))).unwrap();
        let expected = digest::digest(
            &SHA256,
            &[b"tpcore api key, version 1\0".as_slice(), &[0, 1, 2, 3, 4, 5, 6, 7], &[0; 32]].concat(),
        );
        assert_eq!(key.hash().to_bytes(), expected.as_ref());
    }

    #[test]
    fn debug_shows_no_secret() {
        let key = made();
        let text = key.to_string();
        let shown = format!("{key:?} {:?}", key.hash());
        assert!(!shown.contains(&text[text.len() - SECRET_CHARS..]));
        assert!(shown.contains("redacted"));
    }
}
