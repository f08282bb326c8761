//! Sealing of secrets that must be read again (those of HMAC signatures) before they are kept. Owns the envelope and the rotation of
//! the master key. Refuses to know where envelopes are kept and what is signed with what they hold.
//!
//! ```text
//!  envelope:  1   version, 1
//!             8   which master key: the first bytes of SHA-256 of it
//!            12   nonce
//!             n   AES-256-GCM of the secret
//!            16   tag
//!  authenticated beside it: domain, version, master key id, purpose, subject (a key's id, a card's token)
//! ```
//!
//! Invariant SEA-1: an envelope opens only under the master key that closed it, for the subject and the purpose that it was closed for.
//!
//! Nonces are random, 96 bits: NIST SP 800-38D, 8.3 bounds them at 2^32 seals of one master key. A seal is made when a key or
//! a card is made or a master is rotated: a million a day reach the bound after eleven years, so it is written here and not counted.

use std::fmt;

use aws_lc_rs::aead::{AES_256_GCM, Aad, Nonce, RandomizedNonceKey};

pub use master::{MasterKey, MasterKeyError, MasterKeyId};
use zeroize::Zeroizing;

mod master;

const VERSION: u8 = 1;
const DOMAIN: &[u8] = b"tpcore sealed secret\0";
const MASTER_ID_BYTES: usize = 8;
const NONCE_BYTES: usize = 12;
const TAG_BYTES: usize = 16;
const HEAD_BYTES: usize = 1 + MASTER_ID_BYTES + NONCE_BYTES;
/// Largest secret that is sealed, in bytes.
pub const SEALED_SECRET_BYTES_MAX: usize = 1024;

/// What a sealed secret is for. The number is part of what is authenticated: it never changes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Purpose {
    /// The shared secret of a client's `hmac-sha256` request signatures; for a key's id.
    RequestSignature,
    /// A card number; for a card's token.
    CardNumber,
}

impl Purpose {
    const fn code(self) -> u8 {
        match self {
            Self::RequestSignature => 1,
            Self::CardNumber => 2,
        }
    }
}

/// Why something was not sealed or not opened.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum SealError {
    /// Nothing, or more than [`SEALED_SECRET_BYTES_MAX`].
    #[error("a sealed secret has 1 to {SEALED_SECRET_BYTES_MAX} bytes")]
    Size,
    /// The cipher refused to seal: the operating system gives no randomness.
    #[error("the cipher refused to seal")]
    Cipher,
    /// Too short, too long, or of a version that is not known.
    #[error("not an envelope of a known version")]
    Envelope,
    /// Sealed under a master key that was not given.
    #[error("sealed under the master key {0}, which was not given")]
    UnknownMaster(MasterKeyId),
    /// Damaged, or sealed for another key or purpose.
    #[error("damaged, or sealed for another key or purpose")]
    DoesNotFit,
}

/// Seals under the current master key, opens under it and the older ones.
pub struct Sealer {
    current: Master,
    older: Vec<Master>,
}

struct Master {
    id: MasterKeyId,
    cipher: RandomizedNonceKey,
}

impl Sealer {
    /// Rotation: give the new master as `current` and the one before in `older`, seal again what [`Sealer::is_current`] denies, then
    /// leave the old one out.
    ///
    /// # Errors
    /// [`SealError::Cipher`] when the cipher takes no key.
    pub fn new(current: &MasterKey, older: &[MasterKey]) -> Result<Self, SealError> {
        Ok(Self { current: Master::new(current)?, older: older.iter().map(Master::new).collect::<Result<_, _>>()? })
    }

    /// Seals `secret` for `subject`, which has the same length for all of one purpose.
    ///
    /// # Errors
    /// [`SealError::Size`], [`SealError::Cipher`].
    pub fn seal(&self, purpose: Purpose, subject: &[u8], secret: &[u8]) -> Result<Vec<u8>, SealError> {
        if secret.is_empty() || secret.len() > SEALED_SECRET_BYTES_MAX {
            return Err(SealError::Size);
        }
        // Room for the tag from the start: growing would leave a copy of the secret behind, unwiped.
        let mut sealed = Zeroizing::new(Vec::with_capacity(secret.len() + TAG_BYTES));
        sealed.extend_from_slice(secret);
        let beside = associated(self.current.id, purpose, subject);
        let nonce = self
            .current
            .cipher
            .seal_in_place_append_tag(Aad::from(beside), &mut *sealed)
            .map_err(|_| SealError::Cipher)?;
        let mut envelope = Vec::with_capacity(HEAD_BYTES + sealed.len());
        envelope.push(VERSION);
        envelope.extend_from_slice(&self.current.id.to_bytes());
        envelope.extend_from_slice(nonce.as_ref());
        envelope.extend_from_slice(&sealed);
        Ok(envelope)
    }

    /// Opens an envelope that was sealed for `key` and `purpose`.
    ///
    /// # Errors
    /// [`SealError::Envelope`], [`SealError::UnknownMaster`], [`SealError::DoesNotFit`].
    pub fn open(&self, purpose: Purpose, subject: &[u8], envelope: &[u8]) -> Result<Zeroizing<Vec<u8>>, SealError> {
        let (id, nonce, sealed) = split(envelope)?;
        let master = self.masters().find(|master| master.id == id).ok_or(SealError::UnknownMaster(id))?;
        let mut in_place = Zeroizing::new(sealed.to_vec());
        let beside = associated(id, purpose, subject);
        let nonce = Nonce::assume_unique_for_key(nonce);
        let length = master
            .cipher
            .open_in_place(nonce, Aad::from(beside), &mut in_place)
            .map_err(|_| SealError::DoesNotFit)?
            .len();
        in_place.truncate(length);
        Ok(in_place)
    }

    /// Is it sealed under the current master key? If not, open it and seal it again.
    pub fn is_current(&self, envelope: &[u8]) -> bool {
        split(envelope).is_ok_and(|(id, ..)| id == self.current.id)
    }

    fn masters(&self) -> impl Iterator<Item = &Master> {
        std::iter::once(&self.current).chain(&self.older)
    }
}

impl fmt::Debug for Sealer {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.debug_list().entries(self.masters().map(|master| master.id)).finish()
    }
}

impl Master {
    fn new(key: &MasterKey) -> Result<Self, SealError> {
        let cipher = RandomizedNonceKey::new(&AES_256_GCM, key.bytes()).map_err(|_| SealError::Cipher)?;
        Ok(Self { id: key.id(), cipher })
    }
}

fn associated(master: MasterKeyId, purpose: Purpose, subject: &[u8]) -> Vec<u8> {
    // Every part but the domain has a fixed length, the subject by its purpose: no two sets of parts give the same bytes.
    [DOMAIN, &[VERSION], &master.to_bytes(), &[purpose.code()], subject].concat()
}

fn split(envelope: &[u8]) -> Result<(MasterKeyId, [u8; NONCE_BYTES], &[u8]), SealError> {
    let (version, rest) = envelope.split_first().ok_or(SealError::Envelope)?;
    let (master, rest) = rest.split_first_chunk::<MASTER_ID_BYTES>().ok_or(SealError::Envelope)?;
    let (nonce, sealed) = rest.split_first_chunk::<NONCE_BYTES>().ok_or(SealError::Envelope)?;
    if *version != VERSION || sealed.len() <= TAG_BYTES || sealed.len() > SEALED_SECRET_BYTES_MAX + TAG_BYTES {
        return Err(SealError::Envelope);
    }
    Ok((MasterKeyId::from_bytes(*master), *nonce, sealed))
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEY: &[u8] = &[1; 8];
    const PURPOSE: Purpose = Purpose::RequestSignature;

    fn master(byte: u8) -> MasterKey {
        MasterKey::from_bytes([byte; 32])
    }

    fn sealer() -> Sealer {
        Sealer::new(&master(7), &[]).unwrap()
    }

    #[test]
    fn what_is_sealed_opens_again() {
        for secret in [b"s".as_slice(), &[9; 32], &[0; SEALED_SECRET_BYTES_MAX]] {
            let envelope = sealer().seal(PURPOSE, KEY, secret).unwrap();
            assert_eq!(*sealer().open(PURPOSE, KEY, &envelope).unwrap(), secret);
            assert_eq!(envelope.len(), HEAD_BYTES + secret.len() + TAG_BYTES);
        }
    }

    #[test]
    fn a_changed_or_shortened_envelope_does_not_open() {
        let envelope = sealer().seal(PURPOSE, KEY, b"a secret").unwrap();
        for at in 0..envelope.len() {
            for bit in 0..8 {
                let mut changed = envelope.clone();
                changed[at] ^= 1 << bit;
                assert!(sealer().open(PURPOSE, KEY, &changed).is_err(), "byte {at}, bit {bit}");
            }
            assert!(sealer().open(PURPOSE, KEY, &envelope[..at]).is_err(), "{at} bytes");
        }
    }

    #[test]
    fn a_sealed_secret_cannot_be_moved_to_another_key() {
        let envelope = sealer().seal(PURPOSE, KEY, b"a secret").unwrap();
        assert_eq!(sealer().open(PURPOSE, &[2; 8], &envelope), Err(SealError::DoesNotFit));
    }

    #[test]
    fn two_seals_of_one_secret_differ() {
        assert_ne!(
            sealer().seal(PURPOSE, KEY, b"a secret").unwrap(),
            sealer().seal(PURPOSE, KEY, b"a secret").unwrap()
        );
    }

    #[test]
    fn an_older_master_opens_and_the_current_one_seals() {
        let before = sealer().seal(PURPOSE, KEY, b"a secret").unwrap();
        let rotated = Sealer::new(&master(8), &[master(7)]).unwrap();
        assert!(!rotated.is_current(&before));
        let secret = rotated.open(PURPOSE, KEY, &before).unwrap();
        let after = rotated.seal(PURPOSE, KEY, &secret).unwrap();
        assert!(rotated.is_current(&after));
        let alone = Sealer::new(&master(8), &[]).unwrap();
        assert_eq!(*alone.open(PURPOSE, KEY, &after).unwrap(), b"a secret");
        assert_eq!(alone.open(PURPOSE, KEY, &before), Err(SealError::UnknownMaster(master(7).id())));
    }

    #[test]
    fn an_envelope_made_by_hand_from_the_drawing_opens() {
        use aws_lc_rs::aead::{LessSafeKey, UnboundKey};

        let cipher = LessSafeKey::new(UnboundKey::new(&AES_256_GCM, &[7; 32]).unwrap());
        let hash = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, &[7; 32]);
        let id = &hash.as_ref()[..8];
        let beside = [b"tpcore sealed secret\0".as_slice(), &[1], id, &[1], &[1; 8]].concat();
        let mut sealed = b"a secret".to_vec();
        let nonce = [9; 12];
        cipher.seal_in_place_append_tag(Nonce::assume_unique_for_key(nonce), Aad::from(beside), &mut sealed).unwrap();
        let envelope = [&[1], id, &nonce, &sealed].concat();
        assert_eq!(*sealer().open(PURPOSE, KEY, &envelope).unwrap(), b"a secret");
    }

    #[test]
    fn nothing_and_too_much_are_not_sealed() {
        assert_eq!(sealer().seal(PURPOSE, KEY, b""), Err(SealError::Size));
        assert_eq!(sealer().seal(PURPOSE, KEY, &[0; SEALED_SECRET_BYTES_MAX + 1]), Err(SealError::Size));
    }
}
