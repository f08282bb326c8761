//! Bearer tokens of an identity provider: JWT (RFC 7519), checked as a resource server. Owns the checks and what they yield. Refuses to
//! fetch anything: keys come from a file ([`KeySet`]), and `jku`, `jwk`, `x5u` and `x5c` of a token are not looked at.
//!
//! Rules, after RFC 8725 (best current practices) and RFC 9068 (tokens for access): the algorithm is one of `ES256`, `EdDSA`, `RS256`,
//! `PS256` and fits the key (`none` and `HS*` do not exist here); `crit` is refused; `typ`, when given, is `JWT` or `at+jwt`; `iss`,
//! `aud`, `exp`, `sub` and `tenant` must be there and fit; 30 seconds of leeway for clocks.
//!
//! Invariants: AUT-1, AUT-4 (a token has at most 8 KiB).

use std::path::Path;
use std::sync::Arc;

use jsonwebtoken::{Algorithm, Header, Validation};
use parking_lot::RwLock;
use serde::Deserialize;

pub use keys::{KeySet, KeySetError};

mod keys;
#[cfg(test)]
mod tests;

/// Longest token that is looked at, in bytes.
pub const TOKEN_BYTES_MAX: usize = 8 * 1024;
/// How far the clocks of the issuer and of this server may differ, in seconds.
pub const LEEWAY_S: u64 = 30;
/// Most roles of a token.
pub const ROLES_MAX: usize = 32;
/// Longest name of a role, in bytes.
pub const ROLE_BYTES_MAX: usize = 64;
/// Longest `sub`, in bytes (RFC 9068 has no bound; `OpenID` Connect Core, 2 has this one).
pub const SUBJECT_BYTES_MAX: usize = 255;
/// What a token's `typ` may be, in lower case (RFC 8725, 3.11: other kinds of JWT of the same issuer are not for access).
const TYPES: [&str; 4] = ["jwt", "at+jwt", "application/jwt", "application/at+jwt"];

/// What a token says of its bearer. Whether the tenant exists and knows the roles is for others to say.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Bearer {
    /// The claim `tenant`.
    pub tenant: u64,
    /// The claim `roles` (a list), or else `scope` (words).
    pub roles: Vec<String>,
    /// The claim `sub`: the person or program.
    pub subject: String,
    /// The claim `exp`, in seconds since 1970: a long-lived connection asks again at each request.
    pub expires_unix_s: u64,
}

/// Why a token is refused: for logs and metrics. The client hears the same whichever it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum TokenError {
    /// Longer than [`TOKEN_BYTES_MAX`].
    #[error("the token is too long")]
    TooLong,
    /// Not a JWT, or of an algorithm that is unknown.
    #[error("the token is malformed or of an unknown algorithm")]
    Malformed,
    /// An algorithm that is not allowed, or not the key's.
    #[error("the token's algorithm is not allowed")]
    Algorithm,
    /// `typ` is of another kind of token, or `crit` asks for something.
    #[error("the token is of another kind")]
    Kind,
    /// No key of the set has the token's `kid`, or the token has none and the set has several.
    #[error("the token's key is not known")]
    UnknownKey,
    /// The signature does not verify.
    #[error("the token's signature does not verify")]
    DoesNotVerify,
    /// A claim is missing or beyond its bounds.
    #[error("the claim {0} is missing or out of its bounds")]
    Claim(&'static str),
    /// A claim is of the wrong type.
    #[error("a claim is of the wrong type")]
    ClaimType,
    /// Of another issuer.
    #[error("the token is of another issuer")]
    Issuer,
    /// For another audience.
    #[error("the token is for another audience")]
    Audience,
    /// Past `exp`.
    #[error("the token has expired")]
    Expired,
    /// Before `nbf`.
    #[error("the token is not valid yet")]
    NotYet,
}

/// Checks the tokens of one issuer for one audience.
#[derive(Debug)]
pub struct TokenVerifier {
    issuer: String,
    audience: String,
    keys: RwLock<Arc<KeySet>>,
}

/// Only what is looked at. Numbers are whole (RFC 7519 allows fractions of seconds; no issuer of note sends them).
#[derive(Deserialize)]
struct Claims {
    iss: String,
    aud: OneOrMore,
    exp: u64,
    nbf: Option<u64>,
    sub: String,
    tenant: u64,
    roles: Option<Vec<String>>,
    scope: Option<String>,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum OneOrMore {
    One(String),
    More(Vec<String>),
}

impl TokenVerifier {
    /// Checks that `iss` is `issuer` and that `audience` is in `aud`, to the letter.
    pub fn new(issuer: String, audience: String, keys: KeySet) -> Self {
        Self { issuer, audience, keys: RwLock::new(Arc::new(keys)) }
    }

    /// Reads the keys again. The next token is checked with the new ones; after an error the old ones stay.
    ///
    /// # Errors
    /// [`KeySetError`].
    pub fn reload(&self, path: &Path) -> Result<(), KeySetError> {
        let keys = Arc::new(KeySet::from_file(path)?);
        *self.keys.write() = keys;
        Ok(())
    }

    /// Checks a token at a time, in seconds since 1970.
    ///
    /// # Errors
    /// [`TokenError`].
    pub fn verify(&self, token: &str, now_unix_s: u64) -> Result<Bearer, TokenError> {
        if token.len() > TOKEN_BYTES_MAX {
            return Err(TokenError::TooLong);
        }
        let header = jsonwebtoken::decode_header(token).map_err(|_| TokenError::Malformed)?;
        check_kind(&header)?;
        let keys = Arc::clone(&self.keys.read());
        let key = keys.find(header.kid.as_deref()).ok_or(TokenError::UnknownKey)?;
        if !key.allows(header.alg) {
            return Err(TokenError::Algorithm);
        }
        // The library's `decode` checks the signature before it reads a claim. The claims are checked here, against the time that was
        // given and not a clock, so they are read raw first: their errors would come out as those of the signature.
        let raw = jsonwebtoken::decode::<serde_json::Value>(token, key.decoding(), &signature_only(header.alg))
            .map_err(|_| TokenError::DoesNotVerify)?;
        let claims = read_claims(raw.claims)?;
        self.check_claims(&claims, now_unix_s)?;
        bearer(claims)
    }

    fn check_claims(&self, claims: &Claims, now_unix_s: u64) -> Result<(), TokenError> {
        if claims.iss != self.issuer {
            return Err(TokenError::Issuer);
        }
        let ours = match &claims.aud {
            OneOrMore::One(audience) => *audience == self.audience,
            OneOrMore::More(audiences) => audiences.contains(&self.audience),
        };
        if !ours {
            return Err(TokenError::Audience);
        }
        if now_unix_s >= claims.exp.saturating_add(LEEWAY_S) {
            return Err(TokenError::Expired);
        }
        if claims.nbf.is_some_and(|not_before| now_unix_s.saturating_add(LEEWAY_S) < not_before) {
            return Err(TokenError::NotYet);
        }
        Ok(())
    }
}

fn check_kind(header: &Header) -> Result<(), TokenError> {
    let known = |kind: &str| TYPES.contains(&kind.to_ascii_lowercase().as_str());
    // `b64: false` (RFC 7797) would need `crit` as well; encrypted and packed tokens are no JWS.
    if header.crit.is_some() || header.zip.is_some() || header.enc.is_some() || !header.typ.as_deref().is_none_or(known)
    {
        return Err(TokenError::Kind);
    }
    Ok(())
}

fn signature_only(algorithm: Algorithm) -> Validation {
    let mut validation = Validation::new(algorithm);
    validation.required_spec_claims.clear();
    validation.validate_exp = false;
    validation.validate_nbf = false;
    validation.validate_aud = false;
    validation
}

/// First what is missing, for a precise reason; then all.
fn read_claims(raw: serde_json::Value) -> Result<Claims, TokenError> {
    for required in ["iss", "aud", "exp", "sub", "tenant"] {
        if raw.get(required).is_none() {
            return Err(TokenError::Claim(required));
        }
    }
    serde_json::from_value(raw).map_err(|_| TokenError::ClaimType)
}

fn bearer(claims: Claims) -> Result<Bearer, TokenError> {
    if claims.sub.is_empty() || claims.sub.len() > SUBJECT_BYTES_MAX {
        return Err(TokenError::Claim("sub"));
    }
    let roles = claims
        .roles
        .or_else(|| claims.scope.map(|scope| scope.split_ascii_whitespace().map(str::to_owned).collect()))
        .unwrap_or_default();
    if roles.len() > ROLES_MAX || roles.iter().any(|role| role.is_empty() || role.len() > ROLE_BYTES_MAX) {
        return Err(TokenError::Claim("roles"));
    }
    Ok(Bearer { tenant: claims.tenant, roles, subject: claims.sub, expires_unix_s: claims.exp })
}
