//! The keys of signatures: `hmac-sha256` and `ed25519`. The algorithm belongs to the key. Refuses to know whose they are.

use std::fmt;

use aws_lc_rs::hmac;
use aws_lc_rs::signature::{ED25519, Ed25519KeyPair, KeyPair as _, ParsedPublicKey};

const HMAC_SHA256: &str = "hmac-sha256";
const ED25519_NAME: &str = "ed25519";
/// RFC 2104, 3: less than the length of the hash would weaken it.
const HMAC_SECRET_BYTES_MIN: usize = 32;
/// As many as [`super::super::seal`] seals.
const HMAC_SECRET_BYTES_MAX: usize = super::super::seal::SEALED_SECRET_BYTES_MAX;

/// The bytes are no such key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum KeyError {
    /// Fewer than 32 or more than 1,024 bytes.
    #[error("the secret of an hmac-sha256 key has {HMAC_SECRET_BYTES_MIN} to {HMAC_SECRET_BYTES_MAX} bytes")]
    HmacSecretSize,
    /// Not 32 bytes, or not a point of the curve.
    #[error("not an ed25519 key")]
    NotEd25519,
}

/// What a signature is checked with.
pub struct VerifyingKey(Verifying);

enum Verifying {
    HmacSha256(hmac::Key),
    Ed25519(ParsedPublicKey),
}

/// What a client signs with.
pub struct SigningKey(Signing);

enum Signing {
    HmacSha256(hmac::Key),
    Ed25519(Box<Ed25519KeyPair>),
}

fn hmac_key(secret: &[u8]) -> Result<hmac::Key, KeyError> {
    if !(HMAC_SECRET_BYTES_MIN..=HMAC_SECRET_BYTES_MAX).contains(&secret.len()) {
        return Err(KeyError::HmacSecretSize);
    }
    Ok(hmac::Key::new(hmac::HMAC_SHA256, secret))
}

impl VerifyingKey {
    /// A shared secret of 32 to 1,024 bytes.
    ///
    /// # Errors
    /// [`KeyError::HmacSecretSize`].
    pub fn hmac_sha256(secret: &[u8]) -> Result<Self, KeyError> {
        hmac_key(secret).map(|key| Self(Verifying::HmacSha256(key)))
    }

    /// A public key of 32 bytes (RFC 8032).
    ///
    /// # Errors
    /// [`KeyError::NotEd25519`].
    pub fn ed25519(public_key: &[u8]) -> Result<Self, KeyError> {
        // The parser would take the DER form as well: one form only.
        if public_key.len() != 32 {
            return Err(KeyError::NotEd25519);
        }
        let parsed = ParsedPublicKey::new(&ED25519, public_key).map_err(|_| KeyError::NotEd25519)?;
        Ok(Self(Verifying::Ed25519(parsed)))
    }

    /// The name that `alg` has for it (RFC 9421, 6.2).
    pub fn algorithm(&self) -> &'static str {
        match self.0 {
            Verifying::HmacSha256(_) => HMAC_SHA256,
            Verifying::Ed25519(_) => ED25519_NAME,
        }
    }

    /// Is `signature` one of `base`? HMACs are compared in constant time.
    pub fn verify(&self, base: &[u8], signature: &[u8]) -> bool {
        match &self.0 {
            Verifying::HmacSha256(key) => hmac::verify(key, base, signature).is_ok(),
            Verifying::Ed25519(key) => key.verify_sig(base, signature).is_ok(),
        }
    }
}

impl fmt::Debug for VerifyingKey {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "VerifyingKey({}, redacted)", self.algorithm())
    }
}

impl SigningKey {
    /// A shared secret of 32 to 1,024 bytes.
    ///
    /// # Errors
    /// [`KeyError::HmacSecretSize`].
    pub fn hmac_sha256(secret: &[u8]) -> Result<Self, KeyError> {
        hmac_key(secret).map(|key| Self(Signing::HmacSha256(key)))
    }

    /// A private key: its seed of 32 bytes (RFC 8032).
    ///
    /// # Errors
    /// [`KeyError::NotEd25519`].
    pub fn ed25519(seed: &[u8]) -> Result<Self, KeyError> {
        let pair = Ed25519KeyPair::from_seed_unchecked(seed).map_err(|_| KeyError::NotEd25519)?;
        Ok(Self(Signing::Ed25519(Box::new(pair))))
    }

    /// The public key that belongs to an ed25519 key; `None` for a shared secret.
    pub fn public_key(&self) -> Option<&[u8]> {
        match &self.0 {
            Signing::HmacSha256(_) => None,
            Signing::Ed25519(pair) => Some(pair.public_key().as_ref()),
        }
    }

    /// The name that `alg` has for it.
    pub fn algorithm(&self) -> &'static str {
        match self.0 {
            Signing::HmacSha256(_) => HMAC_SHA256,
            Signing::Ed25519(_) => ED25519_NAME,
        }
    }

    /// Signs a base.
    pub fn sign(&self, base: &[u8]) -> Vec<u8> {
        match &self.0 {
            Signing::HmacSha256(key) => hmac::sign(key, base).as_ref().to_vec(),
            Signing::Ed25519(pair) => pair.sign(base).as_ref().to_vec(),
        }
    }
}

impl fmt::Debug for SigningKey {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "SigningKey({}, redacted)", self.algorithm())
    }
}
