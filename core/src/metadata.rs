//! What a caller attaches to a command: a reference and key-value pairs, at most 256 bytes, kept in the event and not in memory.
//!
//! Encoded as entries of (name length, name, value length, value), lengths one byte each; the reference is the entry with
//! the empty name. Not part of the fingerprint: a repeat may carry other metadata; the first one's stays.

use std::sync::Arc;

/// At most 256 encoded bytes.
pub const METADATA_BYTES_MAX: usize = 256;

/// A caller's reference and key-values; empty by default, which costs nothing. A copy shares the bytes.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Metadata(Option<Arc<[u8]>>);

/// Why metadata was not taken.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum MetadataError {
    /// Encoded, it would exceed 256 bytes (two bytes of lengths for each entry).
    #[error("metadata of more than 256 bytes")]
    TooLong,
    /// The bytes are not entries of names and UTF-8 values.
    #[error("metadata that is not a list of names and values")]
    Malformed,
}

impl Metadata {
    /// None.
    pub const EMPTY: Self = Self(None);

    /// This one with one more entry.
    ///
    /// # Errors
    /// [`MetadataError::TooLong`] above 256 encoded bytes.
    pub fn with(self, name: &str, value: &str) -> Result<Self, MetadataError> {
        let (Ok(name_bytes), Ok(value_bytes)) = (u8::try_from(name.len()), u8::try_from(value.len())) else {
            return Err(MetadataError::TooLong);
        };
        let mut bytes = self.as_bytes().to_vec();
        bytes.push(name_bytes);
        bytes.extend_from_slice(name.as_bytes());
        bytes.push(value_bytes);
        bytes.extend_from_slice(value.as_bytes());
        if bytes.len() > METADATA_BYTES_MAX { Err(MetadataError::TooLong) } else { Ok(Self(Some(bytes.into()))) }
    }

    /// Metadata with a caller's reference.
    ///
    /// # Errors
    /// [`MetadataError::TooLong`] above 253 bytes.
    pub fn reference(reference: &str) -> Result<Self, MetadataError> {
        Self::EMPTY.with("", reference)
    }

    /// Metadata of these names and values.
    ///
    /// # Errors
    /// [`MetadataError::TooLong`] above 256 encoded bytes.
    pub fn of<'a>(entries: impl IntoIterator<Item = (&'a str, &'a str)>) -> Result<Self, MetadataError> {
        let mut bytes = Vec::with_capacity(METADATA_BYTES_MAX);
        for text in entries.into_iter().flat_map(|(name, value)| [name, value]) {
            if bytes.len() + text.len() >= METADATA_BYTES_MAX {
                return Err(MetadataError::TooLong);
            }
            bytes.push(u8::try_from(text.len()).map_err(|_| MetadataError::TooLong)?);
            bytes.extend_from_slice(text.as_bytes());
        }
        Ok(if bytes.is_empty() { Self::EMPTY } else { Self(Some(bytes.as_slice().into())) })
    }

    /// Metadata from its encoded form.
    ///
    /// # Errors
    /// When it is too long or not entries of names and UTF-8 values.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, MetadataError> {
        if bytes.len() > METADATA_BYTES_MAX {
            return Err(MetadataError::TooLong);
        }
        let mut rest = bytes;
        while !rest.is_empty() {
            rest = take(take(rest).ok_or(MetadataError::Malformed)?.1).ok_or(MetadataError::Malformed)?.1;
        }
        Ok(if bytes.is_empty() { Self::EMPTY } else { Self(Some(bytes.into())) })
    }

    /// The encoded form.
    pub fn as_bytes(&self) -> &[u8] {
        self.0.as_deref().unwrap_or_default()
    }

    /// Whether there is none.
    pub const fn is_empty(&self) -> bool {
        self.0.is_none()
    }

    /// Names and values in the order given; the reference has the empty name.
    pub fn entries(&self) -> impl Iterator<Item = (&str, &str)> {
        let mut rest = self.as_bytes();
        core::iter::from_fn(move || {
            let (name, after_name) = take(rest)?;
            let (value, after_value) = take(after_name)?;
            rest = after_value;
            Some((name, value))
        })
    }
}

/// Names and values of encoded metadata, as the bytes they are; nothing behind what is no entry. For whoever looks for a few of them.
pub fn entries_in(mut bytes: &[u8]) -> impl Iterator<Item = (&[u8], &[u8])> {
    core::iter::from_fn(move || {
        let (name, after_name) = take_bytes(bytes)?;
        let (value, after_value) = take_bytes(after_name)?;
        bytes = after_value;
        Some((name, value))
    })
}

/// One length-prefixed piece off the front.
fn take_bytes(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let (length, rest) = bytes.split_first()?;
    rest.split_at_checked(usize::from(*length))
}

/// One length-prefixed text off the front.
fn take(bytes: &[u8]) -> Option<(&str, &[u8])> {
    let (text, rest) = take_bytes(bytes)?;
    Some((core::str::from_utf8(text).ok()?, rest))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entries_come_back_in_order() {
        let data = Metadata::reference("order 7").and_then(|m| m.with("mcc", "5411")).expect("short");
        assert_eq!(data.entries().collect::<Vec<_>>(), [("", "order 7"), ("mcc", "5411")]);
        let raw: [(&[u8], &[u8]); 2] = [(b"", b"order 7"), (b"mcc", b"5411")];
        assert!(entries_in(data.as_bytes()).eq(raw));
        assert!(entries_in(&data.as_bytes()[..12]).eq([raw[0]]), "a cut one ends before the cut");
        assert_eq!(Metadata::of(data.entries()).as_ref(), Ok(&data));
        assert_eq!(Metadata::from_bytes(data.as_bytes()), Ok(data));
        assert_eq!(Metadata::of([]), Ok(Metadata::EMPTY));
    }

    #[test]
    fn more_than_256_bytes_are_refused() {
        let long = "x".repeat(254);
        assert!(Metadata::reference(&long).is_ok(), "254 + 2 bytes of lengths");
        assert_eq!(Metadata::of([("", long.as_str())]), Metadata::reference(&long));
        assert_eq!(Metadata::reference(&"x".repeat(255)), Err(MetadataError::TooLong));
        assert_eq!(Metadata::of([("", &*"x".repeat(255))]), Err(MetadataError::TooLong));
        assert_eq!(Metadata::of([("", &*long), ("", "")]), Err(MetadataError::TooLong));
        assert_eq!(Metadata::from_bytes(&[0; 257]), Err(MetadataError::TooLong));
        assert_eq!(Metadata::from_bytes(&[3, 65]), Err(MetadataError::Malformed));
        assert_eq!(Metadata::from_bytes(&[1, 0xFF, 0]), Err(MetadataError::Malformed));
    }
}
