//! Signed requests: HTTP message signatures (RFC 9421) in one strict profile. Owns what must be covered, the window and the check.
//! Refuses to know where keys are kept, whether a nonce was seen before ([`super::nonces`]) and what the key's owner may do.
//!
//! ```text
//!  headers -> ParsedSignature -> key id -> (caller finds the key) -> verify_head -> HeadVerified -> finish(body) -> Verified
//!             bounded, strict                                        window, base,                  content-digest    nonce: ask
//!                                                                    signature                                        the memory
//! ```
//!
//! The profile:
//! - exactly one signature, under a label of the client's choice. More are refused: which one counts would be a matter of taste.
//! - covered: `"@method"`, `"@authority"`, `"@path"`, `"@query"`; `"content-digest"` when there is a body; `"idempotency-key"` and
//!   `"idempotency-key-kind"` when the request has them. Any other field may be covered too. Component parameters (`;sf`, `;bs`, …)
//!   and other derived components are refused.
//! - parameters: `created`, `keyid` (a [`KeyId`]), `nonce` (8 to 64 characters); optional `expires`, `tag`, and `alg`, which only
//!   confirms: the algorithm is the key's, never the message's choice.
//! - the window: [`Limits`].
//!
//! Invariants: AUT-1, AUT-4. What a valid signature does not cover is not what was meant: a body without a covered digest is refused.

use http::HeaderMap;

use super::content_digest::{ContentDigest, DigestError};
use super::key_id::KeyId;
use fields::{Bare, Entry, Member, Parameters};
pub use keys::{KeyError, SigningKey, VerifyingKey};
pub use sign::{SignOptions, SignatureFields, sign};

pub mod base;
pub mod fields;
mod keys;
mod sign;
#[cfg(test)]
mod tests;

/// Longest `Signature-Input` that is read, in bytes.
pub const SIGNATURE_INPUT_BYTES_MAX: usize = 2048;
/// Longest `Signature` that is read, in bytes.
pub const SIGNATURE_BYTES_MAX: usize = 512;
/// How many characters a nonce has: fewest and most.
pub const NONCE_CHARS: std::ops::RangeInclusive<usize> = 8..=64;

const METHOD: &str = "@method";
const AUTHORITY: &str = "@authority";
const PATH: &str = "@path";
const QUERY: &str = "@query";
const CONTENT_DIGEST: &str = "content-digest";
/// Covered in every request.
const ALWAYS_COVERED: [&str; 4] = [METHOD, AUTHORITY, PATH, QUERY];
/// Covered when the request has the field.
const COVERED_IF_PRESENT: [&str; 2] = ["idempotency-key", "idempotency-key-kind"];

/// How the client names the server's scheme: it decides which port is the default one and left out of `@authority`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scheme {
    /// Default port 80.
    Http,
    /// Default port 443. Also when something in front of this server ends TLS.
    Https,
}

/// The request but its body, as it was received.
#[derive(Debug, Clone, Copy)]
pub struct SignedParts<'a> {
    /// The method, in the case in which it came.
    pub method: &'a str,
    /// The scheme that the client used.
    pub scheme: Scheme,
    /// `Host`, or `:authority` of HTTP/2.
    pub authority: &'a str,
    /// The path, still percent-encoded.
    pub path: &'a str,
    /// What follows the first `?`, still percent-encoded.
    pub query: Option<&'a str>,
    /// All header fields.
    pub headers: &'a HeaderMap,
}

/// How old or how far ahead `created` may be, in seconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    age_s_max: u64,
    ahead_s_max: u64,
}

/// Five minutes: slow networks and retries by hand, and as many nonces to remember.
const AGE_S_MAX: u64 = 300;
/// Five seconds: clocks that are kept by NTP differ by far less, and for so long after a start every signature is refused
/// ([`super::nonces`]).
const AHEAD_S_MAX: u64 = 5;
const AHEAD_S_MOST: u64 = 30;

impl Limits {
    /// `age_s_max`: 1 to 300; `ahead_s_max`: 0 to 30. What is outside is brought to the nearest bound.
    pub fn new(age_s_max: u64, ahead_s_max: u64) -> Self {
        Self { age_s_max: age_s_max.clamp(1, AGE_S_MAX), ahead_s_max: ahead_s_max.min(AHEAD_S_MOST) }
    }

    /// Oldest signature that is accepted, in seconds.
    pub fn age_s_max(self) -> u64 {
        self.age_s_max
    }

    /// How far ahead of this server's clock a signature may be, in seconds.
    pub fn ahead_s_max(self) -> u64 {
        self.ahead_s_max
    }
}

impl Default for Limits {
    /// 300 s old, 5 s ahead.
    fn default() -> Self {
        Self { age_s_max: AGE_S_MAX, ahead_s_max: AHEAD_S_MAX }
    }
}

/// Why a signed request is refused: for logs and metrics. The client hears the same whichever it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum SignatureError {
    /// `Signature-Input` or `Signature` is missing.
    #[error("signature-input or signature is missing")]
    NotSigned,
    /// `Signature-Input` or `Signature` is there twice.
    #[error("signature-input or signature is there twice")]
    FieldRepeated,
    /// Longer than [`SIGNATURE_INPUT_BYTES_MAX`], [`SIGNATURE_BYTES_MAX`].
    #[error("signature-input or signature is too long")]
    FieldTooLong,
    /// Not the structured field that it must be.
    #[error("signature-input or signature is malformed")]
    Malformed,
    /// None, or more than one label.
    #[error("there must be exactly one signature")]
    NotOneSignature,
    /// The two fields have different labels.
    #[error("signature-input and signature have different labels")]
    LabelsDiffer,
    /// A parameter is missing.
    #[error("the parameter {0} is missing")]
    ParameterMissing(&'static str),
    /// A parameter is of the wrong type or out of its range.
    #[error("the parameter {0} is of the wrong type or out of its range")]
    ParameterWrong(&'static str),
    /// A parameter that RFC 9421 does not have.
    #[error("there is an unknown parameter")]
    ParameterUnknown,
    /// A component that cannot be covered here: another derived one, one with parameters, or no field name.
    #[error("a covered component is not supported")]
    ComponentUnsupported,
    /// A component is covered twice.
    #[error("a component is covered twice")]
    ComponentRepeated,
    /// Something that must be covered is not.
    #[error("{0} is not covered")]
    NotCovered(&'static str),
    /// A covered field is not in the request.
    #[error("a covered field is not in the request")]
    CoveredFieldMissing,
    /// A covered field has several lines. Joined they look like one line with commas, so readers could disagree about them.
    #[error("a covered field has several lines")]
    CoveredFieldRepeated,
    /// A covered value has characters that are not printable ASCII: it could look like a line of the signature base.
    #[error("a covered value is not printable")]
    NotPrintable,
    /// `alg` is not the key's algorithm.
    #[error("alg is not the algorithm of the key")]
    AlgorithmOfAnotherKey,
    /// Older than the window.
    #[error("the signature is too old")]
    TooOld,
    /// Further ahead than the window.
    #[error("the signature is from the future")]
    FromTheFuture,
    /// Past its own `expires`.
    #[error("the signature has expired")]
    Expired,
    /// The signature does not verify.
    #[error("the signature does not verify")]
    DoesNotVerify,
    /// The digest is malformed or of another body.
    #[error(transparent)]
    Digest(#[from] DigestError),
}

/// A signature as it was sent: well-formed, nothing verified.
#[derive(Debug, Clone)]
pub struct ParsedSignature {
    components: Vec<(String, Parameters)>,
    parameters: Parameters,
    signature: Vec<u8>,
    key_id: KeyId,
    nonce: String,
    created_unix_s: u64,
    expires_unix_s: Option<u64>,
    algorithm: Option<String>,
}

/// The head verified; the body is still to come.
#[derive(Debug)]
#[must_use = "the body is not verified yet"]
pub struct HeadVerified {
    verified: Verified,
    digest: Option<ContentDigest>,
}

/// What a verified signature says. Whether it was used before is for [`super::nonces::Nonces`] to say.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Verified {
    /// Whose signature.
    pub key_id: KeyId,
    /// Its nonce.
    pub nonce: String,
    /// When it says that it was made, in seconds since 1970.
    pub created_unix_s: u64,
}

/// Is the request signed at all (rightly or wrongly)? If so, nothing else may identify its sender.
pub fn is_signed(headers: &HeaderMap) -> bool {
    headers.contains_key("signature-input") || headers.contains_key("signature")
}

/// Which key the request says it is signed with. For callers that need nothing else of [`ParsedSignature::from_headers`].
///
/// # Errors
/// As [`ParsedSignature::from_headers`].
pub fn parse_key_id(headers: &HeaderMap) -> Result<KeyId, SignatureError> {
    ParsedSignature::from_headers(headers).map(|parsed| parsed.key_id)
}

/// Parses, verifies the head and the body in one step.
///
/// # Errors
/// [`SignatureError`].
pub fn verify(
    parts: &SignedParts<'_>,
    body: &[u8],
    key: &VerifyingKey,
    now_unix_s: u64,
    limits: Limits,
) -> Result<Verified, SignatureError> {
    ParsedSignature::from_headers(parts.headers)?.verify_head(parts, key, now_unix_s, limits)?.finish(body)
}

impl ParsedSignature {
    /// Reads the two fields.
    ///
    /// # Errors
    /// The reasons of [`SignatureError`] up to [`SignatureError::ComponentRepeated`].
    pub fn from_headers(headers: &HeaderMap) -> Result<Self, SignatureError> {
        let input = only_entry(single(headers, "signature-input", SIGNATURE_INPUT_BYTES_MAX)?)?;
        let signature = only_entry(single(headers, "signature", SIGNATURE_BYTES_MAX)?)?;
        if input.key != signature.key {
            return Err(SignatureError::LabelsDiffer);
        }
        let Member::Strings(components) = input.member else { return Err(SignatureError::Malformed) };
        let Member::Bytes(bytes) = signature.member else { return Err(SignatureError::Malformed) };
        if !signature.parameters.is_empty() {
            return Err(SignatureError::Malformed);
        }
        check_components(&components)?;
        Self::from_parts(components, input.parameters, bytes)
    }

    fn from_parts(
        components: Vec<(String, Parameters)>,
        parameters: Parameters,
        signature: Vec<u8>,
    ) -> Result<Self, SignatureError> {
        let known = ["created", "expires", "nonce", "alg", "keyid", "tag"];
        if parameters.iter().any(|(name, _)| !known.contains(&name.as_str())) {
            return Err(SignatureError::ParameterUnknown);
        }
        text_parameter(&parameters, "tag")?;
        let key_id = required(text_parameter(&parameters, "keyid")?, "keyid")?;
        let nonce = required(text_parameter(&parameters, "nonce")?, "nonce")?;
        if !NONCE_CHARS.contains(&nonce.len()) {
            return Err(SignatureError::ParameterWrong("nonce"));
        }
        Ok(Self {
            key_id: key_id.parse().map_err(|_| SignatureError::ParameterWrong("keyid"))?,
            nonce: nonce.to_owned(),
            created_unix_s: required(time_parameter(&parameters, "created")?, "created")?,
            expires_unix_s: time_parameter(&parameters, "expires")?,
            algorithm: text_parameter(&parameters, "alg")?.map(str::to_owned),
            components,
            parameters,
            signature,
        })
    }

    /// Which key it says it was made with.
    pub fn key_id(&self) -> KeyId {
        self.key_id
    }

    /// Verifies everything but the body. Cheap rules first; the cryptography last.
    ///
    /// # Errors
    /// The reasons of [`SignatureError`] from [`SignatureError::NotCovered`] on.
    pub fn verify_head(
        self,
        parts: &SignedParts<'_>,
        key: &VerifyingKey,
        now_unix_s: u64,
        limits: Limits,
    ) -> Result<HeadVerified, SignatureError> {
        self.check_covered(parts.headers)?;
        self.check_time(now_unix_s, limits)?;
        if self.algorithm.as_deref().is_some_and(|named| named != key.algorithm()) {
            return Err(SignatureError::AlgorithmOfAnotherKey);
        }
        let base = base::signature_base(parts, &self.components, &self.parameters)?;
        if !key.verify(base.as_bytes(), &self.signature) {
            return Err(SignatureError::DoesNotVerify);
        }
        let digest = if self.covers(CONTENT_DIGEST) {
            Some(ContentDigest::parse(base::field(parts.headers, CONTENT_DIGEST)?)?)
        } else {
            None
        };
        let verified = Verified { key_id: self.key_id, nonce: self.nonce, created_unix_s: self.created_unix_s };
        Ok(HeadVerified { verified, digest })
    }

    fn covers(&self, name: &str) -> bool {
        self.components.iter().any(|(covered, _)| covered == name)
    }

    fn check_covered(&self, headers: &HeaderMap) -> Result<(), SignatureError> {
        let present = COVERED_IF_PRESENT.into_iter().filter(|name| headers.contains_key(*name));
        match ALWAYS_COVERED.into_iter().chain(present).find(|name| !self.covers(name)) {
            Some(name) => Err(SignatureError::NotCovered(name)),
            None => Ok(()),
        }
    }

    fn check_time(&self, now_unix_s: u64, limits: Limits) -> Result<(), SignatureError> {
        if self.created_unix_s > now_unix_s.saturating_add(limits.ahead_s_max) {
            return Err(SignatureError::FromTheFuture);
        }
        if now_unix_s.saturating_sub(self.created_unix_s) > limits.age_s_max {
            return Err(SignatureError::TooOld);
        }
        if self.expires_unix_s.is_some_and(|expires| now_unix_s >= expires) {
            return Err(SignatureError::Expired);
        }
        Ok(())
    }
}

impl HeadVerified {
    /// Verifies the body: it is the one of the covered digest; without one there is none.
    ///
    /// # Errors
    /// [`SignatureError::NotCovered`], [`SignatureError::Digest`].
    pub fn finish(self, body: &[u8]) -> Result<Verified, SignatureError> {
        match self.digest {
            Some(digest) => digest.check(body)?,
            None if body.is_empty() => {}
            None => return Err(SignatureError::NotCovered(CONTENT_DIGEST)),
        }
        Ok(self.verified)
    }
}

fn single<'a>(headers: &'a HeaderMap, name: &str, bytes_max: usize) -> Result<&'a str, SignatureError> {
    let mut lines = headers.get_all(name).iter();
    let line = lines.next().ok_or(SignatureError::NotSigned)?;
    if lines.next().is_some() {
        return Err(SignatureError::FieldRepeated);
    }
    if line.len() > bytes_max {
        return Err(SignatureError::FieldTooLong);
    }
    line.to_str().map_err(|_| SignatureError::Malformed)
}

fn only_entry(text: &str) -> Result<Entry, SignatureError> {
    let mut entries = fields::dictionary(text).map_err(|_| SignatureError::Malformed)?;
    match (entries.pop(), entries.is_empty()) {
        (Some(entry), true) => Ok(entry),
        _ => Err(SignatureError::NotOneSignature),
    }
}

fn check_components(components: &[(String, Parameters)]) -> Result<(), SignatureError> {
    for (at, (name, parameters)) in components.iter().enumerate() {
        if !parameters.is_empty() || !base::is_supported(name) {
            return Err(SignatureError::ComponentUnsupported);
        }
        if components[..at].iter().any(|(other, _)| other == name) {
            return Err(SignatureError::ComponentRepeated);
        }
    }
    Ok(())
}

fn required<T>(value: Option<T>, name: &'static str) -> Result<T, SignatureError> {
    value.ok_or(SignatureError::ParameterMissing(name))
}

fn text_parameter<'a>(parameters: &'a Parameters, name: &'static str) -> Result<Option<&'a str>, SignatureError> {
    match parameters.iter().find(|(other, _)| other == name) {
        None => Ok(None),
        Some((_, Bare::String(text))) => Ok(Some(text)),
        Some(_) => Err(SignatureError::ParameterWrong(name)),
    }
}

fn time_parameter(parameters: &Parameters, name: &'static str) -> Result<Option<u64>, SignatureError> {
    match parameters.iter().find(|(other, _)| other == name) {
        None => Ok(None),
        Some((_, Bare::Integer(seconds))) => {
            u64::try_from(*seconds).map(Some).map_err(|_| SignatureError::ParameterWrong(name))
        }
        Some(_) => Err(SignatureError::ParameterWrong(name)),
    }
}
