//! Idempotency keys of card messages: a hash of the fields that stay the same over repeats.
//!
//! Owns the fields and their order, which are part of the protocol: a gateway that moves from one door to another can make the same key.
//! Refuses card data: no number is hashed.
//!
//! ```text
//!   key = the first 128 bits, highest first, of SHA-256 of
//!         "tpcore iso8583 key" | kind | acquirer (32) | terminal (41) | STAN (11) | local date (13) | RRN (37)
//!         each part behind its length, one byte; numbers without leading zeros, text without spaces at its end; what is missing: empty
//!   kind: A 0100   a 0120   F 0200   f 0220   R 0400, 0420      of repeats (0101 ...) that of their originals
//!   undoing an approval whose answer was late: the first 128 bits of SHA-256 of "tpcore iso8583 late" | its key, highest byte first
//! ```
//! The class is in it because a reversal carries its original's STAN; request and advice are apart, because an advice that follows a
//! request which was declined for a time-out is another decision.

use aws_lc_rs::digest::{SHA256, digest};
use tp_actors::tp_core::key::Key;
use tp_iso8583::{Message, Mti};

/// What a message is to its key.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Kind {
    /// 0100.
    Authorization,
    /// 0120.
    AuthorizationAdvice,
    /// 0200.
    Financial,
    /// 0220.
    FinancialAdvice,
    /// 0400 and 0420: the same undoing, asked for or reported.
    Reversal,
}

impl Kind {
    /// The kind of a message type; `None`: it has no key.
    pub(crate) const fn of(mti: Mti) -> Option<Self> {
        Some(match (mti.class(), mti.function()) {
            (1, 0) => Self::Authorization,
            (1, 2) => Self::AuthorizationAdvice,
            (2, 0) => Self::Financial,
            (2, 2) => Self::FinancialAdvice,
            (4, 0 | 2) => Self::Reversal,
            _ => return None,
        })
    }

    const fn letter(self) -> u8 {
        match self {
            Self::Authorization => b'A',
            Self::AuthorizationAdvice => b'a',
            Self::Financial => b'F',
            Self::FinancialAdvice => b'f',
            Self::Reversal => b'R',
        }
    }
}

/// The fields that name a transaction.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Matching<'a> {
    pub(crate) acquirer: &'a str,
    pub(crate) terminal: &'a str,
    pub(crate) stan: &'a str,
    pub(crate) date: &'a str,
    pub(crate) reference: &'a str,
}

/// The original of a message, as its element 90 names it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Original<'a> {
    pub(crate) mti: Mti,
    pub(crate) fields: Matching<'a>,
}

fn without_zeros(text: &str) -> &str {
    text.trim_start_matches('0')
}

impl<'a> Matching<'a> {
    /// The fields of a message. The STAN and the local date must be there.
    ///
    /// # Errors
    /// The number of the element that is missing.
    pub(crate) fn of(message: &'a Message) -> Result<Self, usize> {
        let text = |element| message.text(element).unwrap_or_default().trim_end();
        // Not the time of transmission: a repeat has another.
        let date = message.text(13).ok_or(13usize)?;
        Ok(Self {
            acquirer: without_zeros(text(32)),
            terminal: text(41),
            stan: without_zeros(message.text(11).ok_or(11usize)?),
            date,
            reference: text(37),
        })
    }

    pub(crate) fn key(&self, kind: Kind) -> Key {
        let parts = [self.acquirer, self.terminal, self.stan, self.date, self.reference];
        let kind = [kind.letter()];
        let mut bytes = Vec::with_capacity(128);
        for part in [b"tpcore iso8583 key".as_slice(), &kind].into_iter().chain(parts.map(str::as_bytes)) {
            bytes.push(u8::try_from(part.len()).unwrap_or(u8::MAX));
            bytes.extend_from_slice(part);
        }
        hashed(&bytes)
    }
}

/// The key under which an approval is undone whose answer was late.
pub(crate) fn late(approval: Key) -> Key {
    hashed(&[b"tpcore iso8583 late".as_slice(), &approval.bits.to_be_bytes()].concat())
}

/// The key that is the first half of a hash.
fn hashed(bytes: &[u8]) -> Key {
    let bits = digest(&SHA256, bytes).as_ref().first_chunk().copied().map_or(0, u128::from_be_bytes);
    Key::opaque(bits)
}

impl<'a> Original<'a> {
    /// What element 90 names; `None`: it is missing or no original data elements, or element 13 is missing.
    /// Terminal and reference stay over a transaction's life, and so does the local date; the rest is there.
    pub(crate) fn of(message: &'a Message) -> Option<Self> {
        let text = message.text(90).filter(|text| text.len() == 42 && text.is_ascii())?;
        let mti = Mti::from_digits(text.as_bytes()[..4].try_into().ok()?)?;
        let own = |element| message.text(element).unwrap_or_default().trim_end();
        let acquirer = without_zeros(&text[20..31]);
        let fields = Matching {
            acquirer: if acquirer.is_empty() { without_zeros(own(32)) } else { acquirer },
            terminal: own(41),
            stan: without_zeros(&text[4..10]),
            date: message.text(13)?,
            reference: own(37),
        };
        Some(Self { mti, fields })
    }

    /// The original's key; `None`: messages of its type have none.
    pub(crate) fn key(&self) -> Option<Key> {
        Kind::of(self.mti).map(|kind| self.fields.key(kind))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(mti: [u8; 4], elements: &[(usize, &str)]) -> Message {
        let mut message = Message::new(Mti::from_digits(mti).expect("digits"));
        for (element, value) in elements {
            message.set(*element, value.as_bytes());
        }
        message
    }

    const FIELDS: [(usize, &str); 6] =
        [(7, "1127101010"), (11, "000042"), (13, "1127"), (32, "00000012345"), (37, "RRN000000001"), (41, "TERM0001")];

    /// Part of the protocol: another program made this number from the drawing above, with Python's `hashlib`.
    #[test]
    fn the_key_is_the_drawn_hash() {
        let message = message(*b"0100", &FIELDS);
        let key = Matching::of(&message).expect("fields").key(Kind::Authorization);
        assert_eq!(format!("{:032x}", key.bits), "c6505a8467e9475ad18f2ac5c33ba094");
        assert_eq!(format!("{:032x}", late(key).bits), "2439fd3a47bc17ca454f5cf4df1a0a4c");
        // An 0100 and an 0200 of the same fields are undone apart.
        let other = Matching::of(&message).expect("fields").key(Kind::Financial);
        assert_ne!(late(other), late(key));
    }

    #[test]
    fn a_reversal_finds_its_original_by_element_90_and_is_none_of_its_repeats() {
        let original = message(*b"0100", &FIELDS);
        let mut fields = FIELDS.to_vec();
        fields[0] = (7, "1127101515");
        fields.push((90, "010000004211271010100000001234500000000000"));
        let reversal = message(*b"0400", &fields);
        let named = Original::of(&reversal).expect("an original");
        let key = Matching::of(&original).expect("fields").key(Kind::Authorization);
        assert_eq!(named.key(), Some(key));
        assert_ne!(Matching::of(&reversal).expect("fields").key(Kind::Reversal), key);
        // Without an acquirer in element 90 the message's own stands in.
        if let Some(last) = fields.last_mut() {
            last.1 = "010000004211271010100000000000000000000000";
        }
        let reversal = message(*b"0400", &fields);
        assert_eq!(Original::of(&reversal).and_then(|named| named.key()), Some(key));
    }

    #[test]
    fn every_field_and_the_kind_make_another_key() {
        let of = |fields: &[(usize, &str)], kind| Matching::of(&message(*b"0100", fields)).expect("fields").key(kind);
        let one = of(&FIELDS, Kind::Authorization);
        for (at, other) in [(1, "000043"), (2, "1128"), (3, "12346"), (4, "RRN000000002"), (5, "TERM0002")] {
            let mut fields = FIELDS.to_vec();
            fields[at].1 = other;
            assert_ne!(of(&fields, Kind::Authorization), one, "{other}");
        }
        for kind in [Kind::AuthorizationAdvice, Kind::Financial, Kind::FinancialAdvice, Kind::Reversal] {
            assert_ne!(of(&FIELDS, kind), one);
        }
        let mut fields = FIELDS.to_vec();
        (fields[0].1, fields[3].1, fields[5].1) = ("1127235959", "12345", "TERM0001  ");
        assert_eq!(of(&fields, Kind::Authorization), one, "sent again, written in another form");
        assert_eq!(Matching::of(&message(*b"0100", &FIELDS[..2])), Err(13));
        assert_eq!(Matching::of(&message(*b"0100", &FIELDS[2..])), Err(11));
    }
}
