//! The keys of an identity provider: a JWK set (RFC 7517) from a file. Owns which keys are taken and for which algorithms. Refuses to
//! know tokens.
//!
//! Taken are `EC` on P-256 (`ES256`), `OKP` Ed25519 (`EdDSA`), and `RSA` of 2,048 to 8,192 bits (`RS256`, `PS256`, or the one that its
//! `alg` names). Keys for encryption, of other curves or algorithms are passed over. A symmetric key (`oct`) spoils the set: it would be
//! a secret in a file of public keys.

use std::fs::File;
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jsonwebtoken::jwk::{
    AlgorithmParameters, EllipticCurve, Jwk, JwkSet, KeyAlgorithm, KeyOperations, PublicKeyUse, RSAKeyParameters,
};
use jsonwebtoken::{Algorithm, DecodingKey};

/// Largest file, in bytes.
const FILE_BYTES_MAX: u64 = 1024 * 1024;
/// Most keys of a set.
const KEYS_MAX: usize = 100;
/// Of P-256's coordinates and of Ed25519's point.
const POINT_BYTES: usize = 32;
const RSA_MODULUS_BYTES: std::ops::RangeInclusive<usize> = 256..=1024;

/// Keys that tokens may be signed with: at least one.
#[derive(Debug)]
pub struct KeySet(Vec<TokenKey>);

/// Why there is no key set.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum KeySetError {
    /// The file could not be read.
    #[error("{}: {error}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// What went wrong.
        error: io::Error,
    },
    /// More than 1 MiB or more than 100 keys.
    #[error("the key set is too large")]
    TooLarge,
    /// Not a JWK set.
    #[error("not a JWK set: {0}")]
    Malformed(String),
    /// A symmetric key.
    #[error("a symmetric key in a set of public keys")]
    Symmetric,
    /// A key whose numbers have the wrong size.
    #[error("the key {0} has numbers of the wrong size")]
    BadKey(String),
    /// Two keys with one `kid`, or several keys and one without.
    #[error("the keys have no kid each of their own")]
    Kids,
    /// No key that can be used.
    #[error("no key that can be used")]
    Empty,
}

#[derive(Debug)]
pub(super) struct TokenKey {
    kid: Option<String>,
    algorithms: &'static [Algorithm],
    key: DecodingKey,
}

impl TokenKey {
    pub(super) fn allows(&self, algorithm: Algorithm) -> bool {
        self.algorithms.contains(&algorithm)
    }

    pub(super) fn decoding(&self) -> &DecodingKey {
        &self.key
    }
}

impl KeySet {
    /// Reads a file.
    ///
    /// # Errors
    /// [`KeySetError`].
    pub fn from_file(path: &Path) -> Result<Self, KeySetError> {
        let io = |error| KeySetError::Io { path: path.to_owned(), error };
        let mut content = Vec::new();
        File::open(path).map_err(io)?.take(FILE_BYTES_MAX + 1).read_to_end(&mut content).map_err(io)?;
        Self::from_json(&content)
    }

    /// Reads a JWK set.
    ///
    /// # Errors
    /// [`KeySetError`].
    pub fn from_json(json: &[u8]) -> Result<Self, KeySetError> {
        if json.len() as u64 > FILE_BYTES_MAX {
            return Err(KeySetError::TooLarge);
        }
        let set: JwkSet = serde_json::from_slice(json).map_err(|error| KeySetError::Malformed(error.to_string()))?;
        if set.keys.len() > KEYS_MAX {
            return Err(KeySetError::TooLarge);
        }
        let mut keys: Vec<TokenKey> = Vec::new();
        for jwk in set.keys {
            keys.extend(usable(jwk)?);
        }
        let alone = keys.len() == 1;
        let own_kid = |at: usize, key: &TokenKey| match &key.kid {
            Some(kid) => keys[..at].iter().all(|other| other.kid.as_ref() != Some(kid)),
            None => alone,
        };
        if !keys.iter().enumerate().all(|(at, key)| own_kid(at, key)) {
            return Err(KeySetError::Kids);
        }
        if keys.is_empty() {
            return Err(KeySetError::Empty);
        }
        Ok(Self(keys))
    }

    /// The key of this name. Without a name, or when the key has none, the only one there is.
    pub(super) fn find(&self, kid: Option<&str>) -> Option<&TokenKey> {
        match (kid, self.0.as_slice()) {
            (None, [only]) => Some(only),
            (Some(_), [only]) if only.kid.is_none() => Some(only),
            (None, _) => None,
            (Some(kid), keys) => keys.iter().find(|key| key.kid.as_deref() == Some(kid)),
        }
    }
}

/// `None` for a key that is for something else.
fn usable(jwk: Jwk) -> Result<Option<TokenKey>, KeySetError> {
    let common = &jwk.common;
    let for_verifying = common.public_key_use.as_ref().is_none_or(|purpose| *purpose == PublicKeyUse::Signature)
        && common.key_operations.as_ref().is_none_or(|all| all.contains(&KeyOperations::Verify));
    let bad = || KeySetError::BadKey(common.key_id.clone().unwrap_or_default());
    let (algorithms, sound): (&'static [Algorithm], bool) = match &jwk.algorithm {
        AlgorithmParameters::OctetKey(_) => return Err(KeySetError::Symmetric),
        _ if !for_verifying => return Ok(None),
        AlgorithmParameters::EllipticCurve(key) if key.curve == EllipticCurve::P256 => {
            (&[Algorithm::ES256], length(&key.x) == Some(POINT_BYTES) && length(&key.y) == Some(POINT_BYTES))
        }
        AlgorithmParameters::OctetKeyPair(key) if key.curve == EllipticCurve::Ed25519 => {
            (&[Algorithm::EdDSA], length(&key.x) == Some(POINT_BYTES))
        }
        AlgorithmParameters::RSA(key) => (&[Algorithm::RS256, Algorithm::PS256], is_sound_rsa(key)),
        _ => return Ok(None),
    };
    let algorithms = match common.key_algorithm {
        None => algorithms,
        Some(named) => match algorithms.iter().position(|algorithm| KeyAlgorithm::from(*algorithm) == named) {
            Some(at) => &algorithms[at..=at],
            None => return Ok(None),
        },
    };
    if !sound {
        return Err(bad());
    }
    let key = DecodingKey::from_jwk(&jwk).map_err(|_| bad())?;
    Ok(Some(TokenKey { kid: jwk.common.key_id, algorithms, key }))
}

fn is_sound_rsa(key: &RSAKeyParameters) -> bool {
    length(&key.n).is_some_and(|bytes| RSA_MODULUS_BYTES.contains(&bytes))
        && length(&key.e).is_some_and(|bytes| bytes <= 8)
}

fn length(base64url: &str) -> Option<usize> {
    URL_SAFE_NO_PAD.decode(base64url).ok().map(|bytes| bytes.len())
}
