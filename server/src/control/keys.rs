//! New keys: a change to be recorded, and the secret that is shown once.
//!
//! Owns making them of each kind. Refuses to keep a secret in the clear: what is recorded is a hash, a sealed secret, a public key or a
//! fingerprint.

use aws_lc_rs::rand::{SecureRandom as _, SystemRandom};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use zeroize::Zeroizing;

use super::KeyId;
use super::record::{Change, Credential, Maker, Roles};
use crate::auth::seal::{Purpose, Sealer};
use crate::auth::secret::ApiKeyText;
use crate::auth::signature::VerifyingKey;
use crate::tenancy::TenantId;

/// How a new key shall prove itself.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum KeyKind {
    /// A bearer key.
    Bearer,
    /// Signatures by HMAC-SHA256.
    Hmac,
    /// Signatures by Ed25519, with this public key.
    Ed25519(Vec<u8>),
    /// A client certificate with this SHA-256.
    Certificate(Vec<u8>),
}

impl KeyKind {
    /// The kind of that name.
    ///
    /// # Errors
    /// What is wanted instead.
    pub fn parse(name: &str, public: Option<Vec<u8>>) -> Result<Self, &'static str> {
        match (name, public) {
            ("bearer", None) => Ok(Self::Bearer),
            ("hmac", None) => Ok(Self::Hmac),
            ("ed25519", Some(public)) if VerifyingKey::ed25519(&public).is_ok() => Ok(Self::Ed25519(public)),
            ("certificate", Some(print)) if print.len() == 32 => Ok(Self::Certificate(print)),
            ("bearer" | "hmac", Some(_)) => Err("a `bearer` or `hmac` key is made here: it has no `public`"),
            ("ed25519", _) => Err("an `ed25519` key needs its public key of 32 bytes as `public`"),
            ("certificate", _) => Err("a `certificate` needs the SHA-256 of its DER form, 32 bytes, as `public`"),
            _ => Err("a key's kind is `bearer`, `hmac`, `ed25519` or `certificate`"),
        }
    }
}

/// A key that is not recorded yet.
pub struct NewKey {
    /// Its id.
    pub key: KeyId,
    /// What its holder is shown, once; `None`: the holder has it already.
    pub secret: Option<Zeroizing<String>>,
    pub(crate) change: Change,
}

impl std::fmt::Debug for NewKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("NewKey").field("key", &self.key).finish_non_exhaustive()
    }
}

/// Bytes of an HMAC secret.
const HMAC_SECRET_BYTES: usize = 32;

impl NewKey {
    /// Makes a key.
    ///
    /// # Errors
    /// The operating system gives no random bytes, or nothing can be sealed.
    pub fn make(
        kind: KeyKind,
        tenant: TenantId,
        person: String,
        roles: Roles,
        made_by: Option<Maker>,
        sealer: &Sealer,
    ) -> Result<Self, &'static str> {
        const NO_RANDOMNESS: &str = "the operating system gives no random bytes";
        let (key, credential, secret) = match kind {
            KeyKind::Bearer => {
                let text = ApiKeyText::generate().map_err(|_| NO_RANDOMNESS)?;
                let hash = text.hash().to_bytes().to_vec();
                (text.id(), Credential::Bearer(hash), Some(Zeroizing::new(text.to_string())))
            }
            KeyKind::Hmac => {
                let key = KeyId::random().map_err(|_| NO_RANDOMNESS)?;
                let mut secret = Zeroizing::new([0; HMAC_SECRET_BYTES]);
                SystemRandom::new().fill(secret.as_mut_slice()).map_err(|_| NO_RANDOMNESS)?;
                let sealed = sealer.seal(Purpose::RequestSignature, &key.to_bytes(), secret.as_slice());
                let sealed = sealed.map_err(|_| "the secret could not be sealed")?;
                let shown = Zeroizing::new(STANDARD.encode(secret.as_slice()));
                (key, Credential::Hmac(sealed), Some(shown))
            }
            KeyKind::Ed25519(public) => {
                (KeyId::random().map_err(|_| NO_RANDOMNESS)?, Credential::Ed25519(public), None)
            }
            KeyKind::Certificate(print) => {
                (KeyId::random().map_err(|_| NO_RANDOMNESS)?, Credential::Certificate(print), None)
            }
        };
        let change = Change::KeyAdded { key, tenant, person, roles, credential, made_by };
        Ok(Self { key, secret, change })
    }
}
