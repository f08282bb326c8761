//! The client's side: signs a request in the profile of this server. For tests, examples and load; the server never signs.

use http::{HeaderMap, HeaderValue};

use super::super::content_digest::content_digest;
use super::super::key_id::KeyId;
use super::fields::{self, Bare, Parameters};
use super::{ALWAYS_COVERED, CONTENT_DIGEST, COVERED_IF_PRESENT, SignatureError, SignedParts, SigningKey, base};

/// What a client chooses.
#[derive(Debug, Clone, Copy)]
pub struct SignOptions<'a> {
    /// The name of the key.
    pub key_id: KeyId,
    /// Now, in seconds since 1970.
    pub created_unix_s: u64,
    /// When it ends, in seconds since 1970.
    pub expires_unix_s: Option<u64>,
    /// Never used before: 8 to 64 printable characters.
    pub nonce: &'a str,
    /// The label: a key of a dictionary, such as `sig1`.
    pub label: &'a str,
    /// Fields to cover that need not be.
    pub also: &'a [&'a str],
}

/// The fields to add to the request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SignatureFields {
    /// `Content-Digest`, when there is a body.
    pub content_digest: Option<String>,
    /// `Signature-Input`.
    pub signature_input: String,
    /// `Signature`.
    pub signature: String,
}

/// Signs the request. `parts.headers` has every field that is to be covered, but the ones that are made here.
///
/// # Errors
/// As [`base::signature_base`]; [`SignatureError::ParameterWrong`] for times of more than 15 digits (RFC 9651 writes no others).
pub fn sign(
    parts: &SignedParts<'_>,
    body: &[u8],
    key: &SigningKey,
    options: &SignOptions<'_>,
) -> Result<SignatureFields, SignatureError> {
    let digest = (!body.is_empty()).then(|| content_digest(body));
    let mut headers: HeaderMap = parts.headers.clone();
    let mut components: Vec<(String, Parameters)> = Vec::new();
    let mut cover = |name: &str| components.push((name.to_owned(), Parameters::new()));
    ALWAYS_COVERED.into_iter().for_each(&mut cover);
    if let Some(text) = &digest {
        headers.insert(CONTENT_DIGEST, HeaderValue::from_str(text).map_err(|_| SignatureError::NotPrintable)?);
        cover(CONTENT_DIGEST);
    }
    COVERED_IF_PRESENT.into_iter().filter(|name| parts.headers.contains_key(*name)).for_each(&mut cover);
    options.also.iter().copied().for_each(&mut cover);

    let parameters = parameters(key, options)?;
    let base = base::signature_base(&SignedParts { headers: &headers, ..*parts }, &components, &parameters)?;
    let mut signature_input = format!("{}=", options.label);
    fields::write_strings(&mut signature_input, &components, &parameters);
    let mut signature = format!("{}=", options.label);
    fields::write_bytes(&mut signature, &key.sign(base.as_bytes()));
    Ok(SignatureFields { content_digest: digest, signature_input, signature })
}

fn parameters(key: &SigningKey, options: &SignOptions<'_>) -> Result<Parameters, SignatureError> {
    let time = |name, seconds| match i64::try_from(seconds) {
        Ok(number) if number <= fields::INTEGER_MAX => Ok(Bare::Integer(number)),
        _ => Err(SignatureError::ParameterWrong(name)),
    };
    let mut parameters = vec![("created".to_owned(), time("created", options.created_unix_s)?)];
    if let Some(expires) = options.expires_unix_s {
        parameters.push(("expires".to_owned(), time("expires", expires)?));
    }
    for (name, text) in [("nonce", options.nonce), ("alg", key.algorithm()), ("keyid", &options.key_id.to_string())] {
        parameters.push((name.to_owned(), Bare::String(text.to_owned())));
    }
    Ok(parameters)
}
