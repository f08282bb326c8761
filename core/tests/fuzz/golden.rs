//! The golden files as seeds.

use std::path::Path;

use tp_core::codec::{EventBytes, decode};
use tp_fuzz::Seed;

/// All kinds of events.
pub(crate) const KINDS: [&str; 14] = [
    "settled",
    "noted",
    "tombstoned",
    "fenced",
    "authorized",
    "incremented",
    "released",
    "expired",
    "moved",
    "opened",
    "answered",
    "ended",
    "forgotten",
    "recorded",
];

/// The bytes of a golden file.
pub(crate) fn bytes(name: &str) -> Vec<u8> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden").join(format!("{name}.hex"));
    let text = std::fs::read_to_string(path).expect("a golden file");
    let digits: Vec<u8> = text.bytes().filter(u8::is_ascii_hexdigit).collect();
    let byte = |pair: &[u8]| core::str::from_utf8(pair).ok().and_then(|pair| u8::from_str_radix(pair, 16).ok());
    digits.chunks(2).map(|pair| byte(pair).expect("two hex digits")).collect()
}

/// A golden file as a seed.
pub(crate) fn seed(name: &str) -> Seed {
    (name.to_owned(), bytes(name))
}

/// Aligned as a frame's payload is.
pub(crate) fn aligned(bytes: &[u8]) -> EventBytes {
    let mut aligned = EventBytes::new();
    aligned.extend_from_slice(bytes);
    aligned
}

/// The golden journal's events, each with its own bytes.
pub(crate) fn journal() -> Vec<Vec<u8>> {
    let payload = aligned(&bytes("journal"));
    let mut rest = &payload[..];
    let mut events = Vec::new();
    while let Ok((_, length)) = decode(rest) {
        events.push(rest[..length].to_vec());
        rest = &rest[length..];
    }
    events
}
