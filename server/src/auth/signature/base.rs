//! The signature base (RFC 9421, 2.5): the very bytes that are signed. Refuses to know keys and rules about what must be covered.
//!
//! ```text
//!  "@method": POST
//!  "@authority": example.com
//!  "idempotency-key": order-1
//!  "@signature-params": ("@method" "@authority" "idempotency-key");created=1618884473;keyid="…";nonce="…"
//! ```
//!
//! Invariant: one line per component. No value brings a line end or anything else that is not printable ASCII.

use http::HeaderMap;

use super::fields::{self, Parameters};
use super::{AUTHORITY, METHOD, PATH, QUERY, Scheme, SignatureError, SignedParts};

/// Can the component be covered? The four derived ones and every field but the signature's own.
pub fn is_supported(name: &str) -> bool {
    match name {
        METHOD | AUTHORITY | PATH | QUERY => true,
        "signature" | "signature-input" => false,
        _ => !name.is_empty() && name.bytes().all(is_field_name_byte),
    }
}

/// RFC 9110, 5.1, in lower case, as RFC 9421, 2.1 wants it.
fn is_field_name_byte(byte: u8) -> bool {
    byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"!#$%&'*+-.^_`|~".contains(&byte)
}

/// The base of these components, in their order.
///
/// # Errors
/// [`SignatureError::CoveredFieldMissing`], [`SignatureError::CoveredFieldRepeated`], [`SignatureError::NotPrintable`].
pub fn signature_base(
    parts: &SignedParts<'_>,
    components: &[(String, Parameters)],
    parameters: &Parameters,
) -> Result<String, SignatureError> {
    let mut base = String::with_capacity(512);
    for (name, _) in components {
        fields::write_string(&mut base, name);
        base.push_str(": ");
        write_value(&mut base, parts, name)?;
        base.push('\n');
    }
    base.push_str("\"@signature-params\": ");
    fields::write_strings(&mut base, components, parameters);
    Ok(base)
}

fn write_value(base: &mut String, parts: &SignedParts<'_>, name: &str) -> Result<(), SignatureError> {
    match name {
        METHOD => base.push_str(printable(parts.method)?),
        AUTHORITY => base.push_str(&authority(printable(parts.authority)?, parts.scheme)),
        PATH => base.push_str(if parts.path.is_empty() { "/" } else { printable(parts.path)? }),
        QUERY => {
            base.push('?');
            base.push_str(printable(parts.query.unwrap_or_default())?);
        }
        _ => base.push_str(field(parts.headers, name)?),
    }
    Ok(())
}

/// RFC 9421, 2.2.3: lower case, without the scheme's default port.
fn authority(text: &str, scheme: Scheme) -> String {
    let default_port = match scheme {
        Scheme::Http => ":80",
        Scheme::Https => ":443",
    };
    text.strip_suffix(default_port).unwrap_or(text).to_ascii_lowercase()
}

/// The value of a field that has exactly one line, without white space around it.
pub(super) fn field<'a>(headers: &'a HeaderMap, name: &str) -> Result<&'a str, SignatureError> {
    let mut lines = headers.get_all(name).iter();
    let line = lines.next().ok_or(SignatureError::CoveredFieldMissing)?;
    if lines.next().is_some() {
        return Err(SignatureError::CoveredFieldRepeated);
    }
    let text = line.to_str().map_err(|_| SignatureError::NotPrintable)?;
    printable(text.trim_matches([' ', '\t']))
}

fn printable(text: &str) -> Result<&str, SignatureError> {
    if text.bytes().all(|byte| (0x20..=0x7e).contains(&byte)) { Ok(text) } else { Err(SignatureError::NotPrintable) }
}
