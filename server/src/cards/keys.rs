//! The keys of card numbers: what looks them up and what seals them.
//!
//! Owns the seam ([`CardKeys`]: operations and never key bytes, so that a security module can stand behind it) and the keys of a file or
//! the environment. Rotation: a new key comes first in the ring, cards are sealed again under it while the server runs, then the old one
//! may go. Refuses to know where cards are kept.
//!
//! ```text
//!   ring: one key of 64 hexadecimal digits a line, the current one first
//!   each: HKDF-SHA256 --"tpcore card lookup"--> HMAC-SHA256 key        --"tpcore card seal"--> AES-256-GCM key
//! ```

use std::fmt;
use std::path::{Path, PathBuf};

use aws_lc_rs::hkdf::{self, HKDF_SHA256, KeyType};
use aws_lc_rs::hmac;
use zeroize::{Zeroize as _, Zeroizing};

use super::pan::{Pan, PanError};
use super::record::Token;
use crate::auth::seal::{MasterKey, MasterKeyError, MasterKeyId, Purpose, SealError, Sealer};
use crate::tenancy::TenantId;

/// Which key of a ring: the first 8 bytes of its SHA-256. No secret.
pub type CardKeyId = MasterKeyId;

/// What a lookup finds a card by: HMAC-SHA256 of tenant and number.
pub(crate) type Lookup = [u8; 32];

/// Why a key did not do what it was asked for.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CardKeyError {
    /// The ring has no such key.
    #[error("there is no card key {0}")]
    Unknown(CardKeyId),
    /// It could not be sealed or opened.
    #[error(transparent)]
    Seal(#[from] SealError),
    /// What was sealed is no card number.
    #[error("what was sealed is no card number")]
    NoNumber(#[from] PanError),
    /// The file of keys.
    #[error(transparent)]
    File(#[from] MasterKeyError),
    /// The keys' text.
    #[error(
        "{place}: card keys are 1 to {KEYS_MAX} different keys of 64 hexadecimal digits, one a line (in a variable: with commas)"
    )]
    Form {
        /// Where it stood.
        place: String,
    },
}

/// What can be done with the keys of card numbers.
pub trait CardKeys: Send + Sync + fmt::Debug {
    /// The keys, the current one first.
    fn ids(&self) -> Vec<CardKeyId>;

    /// HMAC-SHA256 of a message under a key.
    ///
    /// # Errors
    /// [`CardKeyError::Unknown`].
    fn mac(&self, key: CardKeyId, message: &[u8]) -> Result<[u8; 32], CardKeyError>;

    /// Seals a secret for a token, under a key.
    ///
    /// # Errors
    /// [`CardKeyError::Unknown`], [`CardKeyError::Seal`].
    fn seal(&self, key: CardKeyId, token: Token, secret: &[u8]) -> Result<Vec<u8>, CardKeyError>;

    /// Opens what was sealed for a token under a key.
    ///
    /// # Errors
    /// [`CardKeyError::Unknown`], [`CardKeyError::Seal`].
    fn open(&self, key: CardKeyId, token: Token, sealed: &[u8]) -> Result<Zeroizing<Vec<u8>>, CardKeyError>;
}

/// What a card is found by, under a key.
pub(crate) fn lookup(keys: &dyn CardKeys, key: CardKeyId, tenant: TenantId, pan: &Pan) -> Result<Lookup, CardKeyError> {
    let mut message = Zeroizing::new([0; 4 + 19]);
    message[..4].copy_from_slice(&tenant.get().to_be_bytes());
    let end = 4 + pan.digits().len();
    message[4..end].copy_from_slice(pan.digits());
    keys.mac(key, &message[..end])
}

/// Keys of a ring.
const KEYS_MAX: usize = 16;

/// Keys of a file or the environment, in the memory of the process.
pub struct LocalCardKeys(Vec<LocalKey>);

struct LocalKey {
    id: CardKeyId,
    lookup: hmac::Key,
    sealer: Sealer,
}

impl LocalCardKeys {
    /// The keys of a ring's text. `place` names it in errors.
    ///
    /// # Errors
    /// [`CardKeyError::Form`].
    pub fn parse(text: &str, place: &str) -> Result<Self, CardKeyError> {
        let form = || CardKeyError::Form { place: place.to_owned() };
        let lines = text.split([',', '\n']).map(str::trim).filter(|line| !line.is_empty());
        let keys: Vec<MasterKey> =
            lines.map(|line| MasterKey::from_digits(line.as_bytes()).ok_or_else(form)).collect::<Result<_, _>>()?;
        let mut ids: Vec<_> = keys.iter().map(|key| key.id().to_bytes()).collect();
        ids.sort_unstable();
        ids.dedup();
        if ids.len() != keys.len() || !(1..=KEYS_MAX).contains(&keys.len()) {
            return Err(form());
        }
        Ok(Self(keys.iter().map(LocalKey::new).collect::<Result<_, _>>()?))
    }

    /// The keys of a file that only its owner may read.
    ///
    /// # Errors
    /// [`CardKeyError::File`], [`CardKeyError::Form`].
    pub fn from_file(path: &Path) -> Result<Self, CardKeyError> {
        let bytes = MasterKey::private_content(path, KEYS_MAX * 66)?;
        let text = std::str::from_utf8(&bytes).unwrap_or_default();
        Self::parse(text, &path.display().to_string())
    }

    fn key(&self, id: CardKeyId) -> Result<&LocalKey, CardKeyError> {
        self.0.iter().find(|key| key.id == id).ok_or(CardKeyError::Unknown(id))
    }
}

/// Where the keys come from.
#[derive(Clone, Debug)]
pub(crate) enum KeySource {
    /// A file.
    File(PathBuf),
    /// An environment variable.
    Environment,
}

/// The variable with card keys.
pub(crate) const KEYS_VARIABLE: &str = "TPCORE_CARD_KEYS";

impl KeySource {
    pub(crate) fn read(&self) -> Result<LocalCardKeys, CardKeyError> {
        match self {
            Self::File(path) => LocalCardKeys::from_file(path),
            Self::Environment => {
                let text = Zeroizing::new(std::env::var(KEYS_VARIABLE).unwrap_or_default());
                LocalCardKeys::parse(&text, KEYS_VARIABLE)
            }
        }
    }
}

impl LocalKey {
    fn new(key: &MasterKey) -> Result<Self, CardKeyError> {
        let mut bytes = derived(key, b"tpcore card lookup")?;
        let lookup = hmac::Key::new(hmac::HMAC_SHA256, &bytes);
        bytes.zeroize();
        let seal = MasterKey::from_bytes(derived(key, b"tpcore card seal")?);
        Ok(Self { id: key.id(), lookup, sealer: Sealer::new(&seal, &[])? })
    }
}

struct Bytes32;

impl KeyType for Bytes32 {
    fn len(&self) -> usize {
        32
    }
}

/// 32 bytes of a key for one purpose (HKDF, RFC 5869).
fn derived(key: &MasterKey, purpose: &[u8]) -> Result<[u8; 32], SealError> {
    let mut bytes = [0; 32];
    let extracted = hkdf::Salt::new(HKDF_SHA256, b"tpcore card keys").extract(key.bytes());
    let expanded = extracted.expand(&[purpose], Bytes32).and_then(|okm| okm.fill(&mut bytes));
    expanded.map(|()| bytes).map_err(|_| SealError::Cipher)
}

/// Writes zeros where the calls before had their frames: the hash keeps its block, the message in the clear, on the stack (seen 1,200
/// bytes below the caller's frame with aws-lc-rs 1.19).
#[inline(never)]
fn wipe_stack() {
    let mut frames = [0_u8; 4096];
    std::hint::black_box(&mut frames);
}

impl CardKeys for LocalCardKeys {
    fn ids(&self) -> Vec<CardKeyId> {
        self.0.iter().map(|key| key.id).collect()
    }

    fn mac(&self, key: CardKeyId, message: &[u8]) -> Result<[u8; 32], CardKeyError> {
        let tag = hmac::sign(&self.key(key)?.lookup, message);
        wipe_stack();
        let mut bytes = [0; 32];
        bytes.copy_from_slice(tag.as_ref());
        Ok(bytes)
    }

    fn seal(&self, key: CardKeyId, token: Token, secret: &[u8]) -> Result<Vec<u8>, CardKeyError> {
        Ok(self.key(key)?.sealer.seal(Purpose::CardNumber, &token.to_bytes(), secret)?)
    }

    fn open(&self, key: CardKeyId, token: Token, sealed: &[u8]) -> Result<Zeroizing<Vec<u8>>, CardKeyError> {
        Ok(self.key(key)?.sealer.open(Purpose::CardNumber, &token.to_bytes(), sealed)?)
    }
}

impl fmt::Debug for LocalCardKeys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.0.iter().map(|key| key.id)).finish()
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    pub(crate) fn ring(bytes: &[u8]) -> LocalCardKeys {
        let text: Vec<String> = bytes.iter().map(|byte| format!("{byte:02x}").repeat(32)).collect();
        LocalCardKeys::parse(&text.join("\n"), "a test").expect("a ring")
    }

    fn pan() -> Pan {
        Pan::parse(b"4111111111111111").expect("a number")
    }

    #[test]
    fn a_lookup_depends_on_key_tenant_and_number_and_on_nothing_else() {
        let (keys, again) = (ring(&[1, 2]), ring(&[2, 1]));
        let of = |keys: &LocalCardKeys, at: usize, tenant: u32, number: &[u8]| {
            let (tenant, pan) = (TenantId::new(tenant).expect("a tenant"), Pan::parse(number).expect("a number"));
            lookup(keys, keys.ids()[at], tenant, &pan).expect("a key")
        };
        let one = of(&keys, 0, 1, b"4111111111111111");
        assert_eq!(one, of(&again, 1, 1, b"4111111111111111"));
        for other in [
            of(&keys, 1, 1, b"4111111111111111"),
            of(&keys, 0, 2, b"4111111111111111"),
            of(&keys, 0, 1, b"5555555555554444"),
        ] {
            assert_ne!(one, other);
        }
        assert!(matches!(keys.mac(ring(&[3]).ids()[0], b""), Err(CardKeyError::Unknown(_))));
    }

    #[test]
    fn a_sealed_number_opens_for_its_token_and_key_only() {
        let (keys, token) = (ring(&[1, 2]), Token(7));
        let [first, second] = keys.ids()[..] else { panic!("two keys") };
        let sealed = keys.seal(first, token, pan().digits()).expect("sealed");
        assert_eq!(*keys.open(first, token, &sealed).expect("opened"), pan().digits());
        assert!(keys.open(second, token, &sealed).is_err() && keys.open(first, Token(8), &sealed).is_err());
        assert!(!sealed.windows(4).any(|four| four == b"1111"));
    }

    #[test]
    fn what_is_no_ring_is_refused_and_not_shown() {
        let key = "ab".repeat(32);
        for text in ["", "ab", &format!("{key},{key}"), &format!("{key}x"), &key[1..]] {
            let error = LocalCardKeys::parse(text, "a test").expect_err("no ring").to_string();
            assert!(error.starts_with("a test: card keys are") && !error.contains("abab"), "{error}");
        }
        assert!(!format!("{:?}", ring(&[0xab])).contains("abab"));
    }
}
