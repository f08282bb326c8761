//! `Content-Digest` (RFC 9530): what the body must hash to. Owns reading, checking and making it. Refuses to know who signed it.
//!
//! `sha-256` and `sha-512` are checked, every one that is there; other algorithms are skipped, as the RFC says, but one of these two
//! must be there.

use aws_lc_rs::constant_time;
use aws_lc_rs::digest::{self, SHA256, SHA512};

use super::signature::fields::{self, Member};

/// Longest field that is read, in bytes.
pub const CONTENT_DIGEST_BYTES_MAX: usize = 512;

/// What a body must hash to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ContentDigest {
    sha256: Option<Vec<u8>>,
    sha512: Option<Vec<u8>>,
}

/// Why a digest was not taken, or the body not found to be that one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum DigestError {
    /// Longer than [`CONTENT_DIGEST_BYTES_MAX`], or no dictionary of byte sequences.
    #[error("content-digest is malformed")]
    Malformed,
    /// Neither sha-256 nor sha-512.
    #[error("content-digest has neither sha-256 nor sha-512")]
    UnknownAlgorithms,
    /// The body is another one.
    #[error("the body does not fit its content-digest")]
    OtherBody,
}

impl ContentDigest {
    /// Reads the value of the field.
    ///
    /// # Errors
    /// [`DigestError::Malformed`], [`DigestError::UnknownAlgorithms`].
    pub fn parse(text: &str) -> Result<Self, DigestError> {
        if text.len() > CONTENT_DIGEST_BYTES_MAX {
            return Err(DigestError::Malformed);
        }
        let mut found = Self { sha256: None, sha512: None };
        for entry in fields::dictionary(text).map_err(|_| DigestError::Malformed)? {
            let Member::Bytes(bytes) = entry.member else { return Err(DigestError::Malformed) };
            match entry.key.as_str() {
                "sha-256" => found.sha256 = Some(bytes),
                "sha-512" => found.sha512 = Some(bytes),
                _ => {}
            }
        }
        if found.sha256.is_none() && found.sha512.is_none() {
            return Err(DigestError::UnknownAlgorithms);
        }
        Ok(found)
    }

    /// Is it the digest of `body`?
    ///
    /// # Errors
    /// [`DigestError::OtherBody`] unless every digest that is there fits.
    pub fn check(&self, body: &[u8]) -> Result<(), DigestError> {
        for (expected, algorithm) in [(&self.sha256, &SHA256), (&self.sha512, &SHA512)] {
            let Some(expected) = expected else { continue };
            constant_time::verify_slices_are_equal(digest::digest(algorithm, body).as_ref(), expected)
                .map_err(|_| DigestError::OtherBody)?;
        }
        Ok(())
    }
}

/// The value of the field for `body`, with sha-256.
pub fn content_digest(body: &[u8]) -> String {
    let mut text = "sha-256=".to_owned();
    fields::write_bytes(&mut text, digest::digest(&SHA256, body).as_ref());
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    const BODY: &[u8] = br#"{"hello": "world"}"#;
    // RFC 9530, appendix D, and RFC 9421, appendix B.2: of the body above.
    const SHA_256: &str = "sha-256=:X48E9qOokqqrvdts8nOJRJN3OWDUoyWxBf7kbu9DBPE=:";
    const SHA_512: &str =
        "sha-512=:WZDPaVn/7XgHaAy8pmojAkGWoRx2UFChF41A2svX+TaPm+AbwAgBWnrIiYllu7BNNyealdVLvRwEmTHWXvJwew==:";

    #[test]
    fn the_digests_of_the_standard_fit_their_body() {
        for text in [SHA_256, SHA_512, &format!("{SHA_256}, {SHA_512}"), &format!("md5=:AAAA:, {SHA_256}")] {
            let digest = ContentDigest::parse(text).unwrap();
            assert_eq!(digest.check(BODY), Ok(()), "{text}");
            assert_eq!(digest.check(b"other"), Err(DigestError::OtherBody), "{text}");
        }
        assert_eq!(content_digest(BODY), SHA_256);
    }

    #[test]
    fn one_digest_that_does_not_fit_is_enough_to_refuse() {
        let text = format!("{SHA_256}, sha-512=:AAAA:");
        assert_eq!(ContentDigest::parse(&text).unwrap().check(BODY), Err(DigestError::OtherBody));
        assert_eq!(ContentDigest::parse("sha-256=::").unwrap().check(BODY), Err(DigestError::OtherBody));
    }

    #[test]
    fn what_is_no_digest_is_refused() {
        let long = format!("{SHA_256}{}", " ".repeat(CONTENT_DIGEST_BYTES_MAX));
        for text in ["sha-256=(\"a\")", "sha-256", "sha-256=:A:", &long, "sha-256=1"] {
            assert_eq!(ContentDigest::parse(text), Err(DigestError::Malformed), "{text}");
        }
        for text in ["", "md5=:AAAA:"] {
            assert_eq!(ContentDigest::parse(text), Err(DigestError::UnknownAlgorithms), "{text}");
        }
    }
}
