//! Idempotency keys as they are written in headers, paths and batches.
//!
//! Owns the mapping from text to the engine's 128 bits and kind. Refuses to guess a kind from bits.

use aws_lc_rs::digest::{SHA256, digest};
use tp_actors::tp_core::ids::{AuthorizationId, parse_uuid};
use tp_actors::tp_core::key::{Key, KeyKind};

use super::problem::{Problem, Refusal};
use crate::cards::names_card;

/// Longest text of a key, bytes.
const KEY_BYTES_MAX: usize = 255;

/// The kind that a client said; nothing said: opaque.
pub(crate) fn parse_kind(text: Option<&str>) -> Result<KeyKind, Problem> {
    match text {
        None | Some("opaque") => Ok(KeyKind::Opaque),
        Some("uuid_v7") => Ok(KeyKind::UuidV7),
        Some(_) => Err(Problem::invalid("the kind of an idempotency key is `opaque` or `uuid_v7`")),
    }
}

/// The key behind a text: a UUID's bits, or the first 128 bits of the SHA-256 of any other text.
pub(crate) fn parse_key(text: &str, kind: KeyKind) -> Result<Key, Problem> {
    let text = unquoted(text);
    let is_visible = text.bytes().all(|byte| (0x20..0x7F).contains(&byte));
    if text.is_empty() || text.len() > KEY_BYTES_MAX || !is_visible {
        return Err(Problem::invalid("an idempotency key is 1 to 255 visible ASCII characters"));
    }
    match (is_canonical_uuid(text).then(|| parse_uuid(text)).flatten(), kind) {
        (Some(bits), kind) => key_of(bits, kind),
        // What the journal keeps of it is a hash that anybody could make of every card number.
        (None, _) if names_card(text) => Err(Problem::new(Refusal::CardNumber, "the idempotency key")),
        (None, KeyKind::Opaque) => Ok(Key::opaque(hashed(text))),
        (None, KeyKind::UuidV7) => Err(Problem::invalid("a key of kind `uuid_v7` is written as a UUID")),
    }
}

/// The key of 128 bits. Those that have no UUID's version and variant are a number that somebody chose, and looked at as one: of random
/// UUIDs one in 100,000 has sixteen digits that look like a card's.
pub(crate) fn key_of(bits: u128, kind: KeyKind) -> Result<Key, Problem> {
    let is_made = matches!(bits >> 76 & 0xF, 1..=8) && bits >> 62 & 0b11 == 0b10;
    if !is_made && names_card(&AuthorizationId(bits).to_string()) {
        return Err(Problem::new(Refusal::CardNumber, "the idempotency key"));
    }
    let key = Key { bits, kind };
    if key.is_well_formed() {
        Ok(key)
    } else {
        Err(Problem::invalid("the key is said to be a `uuid_v7`, and has another version or variant"))
    }
}

/// RFC 8941 writes a string with quotes; a key with and without them is the same.
fn unquoted(text: &str) -> &str {
    text.strip_prefix('"').and_then(|text| text.strip_suffix('"')).unwrap_or(text)
}

fn is_canonical_uuid(text: &str) -> bool {
    let hyphens = text.bytes().enumerate().filter(|(_, byte)| *byte == b'-').map(|(at, _)| at);
    text.len() == 36 && hyphens.eq([8, 13, 18, 23])
}

fn hashed(text: &str) -> u128 {
    let hash = digest(&SHA256, text.as_bytes());
    hash.as_ref().iter().take(16).fold(0, |bits, byte| bits << 8 | u128::from(*byte))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_uuid_stands_for_its_bits_and_any_other_text_for_its_hash() {
        let opaque = |text: &str| parse_key(text, KeyKind::Opaque).expect("a key");
        let uuid = "018f3c4e-9d2a-7bcd-8e1f-0123456789ab";
        assert_eq!(opaque(uuid), Key::opaque(0x018f_3c4e_9d2a_7bcd_8e1f_0123_4567_89ab));
        assert_eq!(opaque(&uuid.to_uppercase()), opaque(uuid));
        assert_eq!(opaque("\"order-1\""), opaque("order-1"));
        // SHA-256 of "order-1" begins so: `printf order-1 | sha256sum`.
        assert_eq!(opaque("order-1").bits >> 96, 0x0baf_e221);
        assert_ne!(opaque(&uuid.replace('-', "")), opaque(uuid), "32 digits are a text like any other");
    }

    #[test]
    fn the_kind_is_said_and_never_guessed() {
        let uuid = "018f3c4e-9d2a-7bcd-8e1f-0123456789ab";
        assert_eq!(parse_key(uuid, KeyKind::UuidV7).expect("a key").kind, KeyKind::UuidV7);
        assert_eq!(parse_key(uuid, KeyKind::Opaque).expect("a key").kind, KeyKind::Opaque);
        for text in ["order-1", "018f3c4e-9d2a-4bcd-8e1f-0123456789ab", "018f3c4e-9d2a-7bcd-ce1f-0123456789ab"] {
            assert!(parse_key(text, KeyKind::UuidV7).is_err(), "{text}");
        }
        assert!(parse_kind(Some("UUID")).is_err());
    }

    /// Found by comparing the doors on random keys: one in 100,000 was refused over HTTP.
    #[test]
    fn a_uuid_is_a_key_also_when_its_digits_look_like_a_card_number() {
        let (mut taken, mut looked) = (0, 0);
        for last in 0..10 {
            let text = format!("65246524-6524-452{last}-aa00-a1b2c3d4e5f6");
            looked += u32::from(names_card(&text));
            taken += u32::from(parse_key(&text, KeyKind::Opaque).is_ok());
        }
        assert_eq!((taken, looked), (10, 1));
        let chosen = parse_key("40000000-0000-0002-aabc-000000000000", KeyKind::Opaque);
        assert_eq!(chosen.map_err(|problem| problem.name), Err("card_number_refused"), "no UUID that a machine makes");
    }

    #[test]
    fn keys_that_are_empty_long_or_not_visible_are_refused() {
        for text in ["", "\"\"", "a\nb", "é", &"x".repeat(256)] {
            assert!(parse_key(text, KeyKind::Opaque).is_err(), "{text:?}");
        }
    }
}
