//! Records of cards: what is written into the journal, and its bytes.
//!
//! Owns the format: fixed little-endian structs with a version. Refuses to hold a number in the clear: what is there is the keyed hash,
//! the sealed number, and the six and four digits that may be shown.
//!
//! ```text
//!   0  version, 1      1  kind      2  token (16)     18  when, Unix ms (8)     26  then, by kind:
//!   1 added     tenant 4, account 16, key 8, lookup 32, issuer 4, last four 2, digits 1, expiry 2, sealed 1 + n, by: the rest
//!   2 sealed    key 8, lookup 32, sealed 1 + n                     (again, under another key)
//!   3 status    status 1, by: the rest
//!   4 revealed  by: the rest
//! ```

use std::fmt;
use std::str::FromStr;

use zerocopy::little_endian::{U16, U32, U64, U128};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

use super::keys::{CardKeyId, Lookup};

/// What stands for a card: 128 random bits, written as 32 hexadecimal digits.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Token(pub u128);

impl Token {
    pub(crate) const fn to_bytes(self) -> [u8; 16] {
        self.0.to_le_bytes()
    }
}

impl fmt::Display for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:032x}", self.0)
    }
}

impl FromStr for Token {
    type Err = &'static str;
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let is_hex = text.len() == 32 && text.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'));
        let number = is_hex.then(|| u128::from_str_radix(text, 16).ok()).flatten();
        number.map(Self).ok_or("a card's token is 32 hex digits in lower case")
    }
}

/// The month at whose end a card expires, as on the card: YYMM.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct Expiry {
    /// Years since 2000.
    year: u8,
    /// 1 to 12.
    month: u8,
}

impl Expiry {
    /// Reads YYMM.
    pub fn parse(text: &[u8]) -> Option<Self> {
        let &[a, b, c, d] = text else { return None };
        let pair = |tens: u8, ones: u8| {
            (tens.is_ascii_digit() && ones.is_ascii_digit()).then(|| (tens - b'0') * 10 + ones - b'0')
        };
        let (year, month) = (pair(a, b)?, pair(c, d)?);
        (1..=12).contains(&month).then_some(Self { year, month })
    }

    /// Whether its last month lies before that year (since 2000) and month.
    pub const fn is_before(self, year: u16, month: u8) -> bool {
        (self.year as u16) < year || (self.year as u16 == year && self.month < month)
    }

    const fn to_number(this: Option<Self>) -> u16 {
        match this {
            Some(Self { year, month }) => year as u16 * 12 + month as u16,
            None => 0,
        }
    }

    fn from_number(number: u16) -> Result<Option<Self>, &'static str> {
        if number == 0 {
            return Ok(None);
        }
        let year = u8::try_from((number - 1) / 12).ok().filter(|year| *year <= 99).ok_or("no month")?;
        let month = u8::try_from((number - 1) % 12 + 1).unwrap_or(1);
        Ok(Some(Self { year, month }))
    }
}

impl fmt::Display for Expiry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:02}{:02}", self.year, self.month)
    }
}

/// What a card may be used for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u8)]
pub enum CardStatus {
    /// Everything.
    Active = 0,
    /// Nothing for now: answered as a restricted card.
    Blocked = 1,
    /// Nothing any more.
    Closed = 2,
}

impl CardStatus {
    const ALL: [Self; 3] = [Self::Active, Self::Blocked, Self::Closed];

    /// The stable name.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Active => "active",
            Self::Blocked => "blocked",
            Self::Closed => "closed",
        }
    }

    /// The status of that name.
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|status| status.name() == name)
    }
}

/// A change of a card, or a look at its number.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct CardRecord {
    pub(crate) token: Token,
    /// Unix milliseconds of the writer's clock.
    pub(crate) at: u64,
    pub(crate) change: CardChange,
}

/// What.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum CardChange {
    /// It comes.
    Added {
        tenant: u32,
        account: u128,
        sealed: Sealed,
        issuer: u32,
        last_four: u16,
        digits: u8,
        expiry: Option<Expiry>,
        by: String,
    },
    /// It is sealed again, under another key.
    Sealed(Sealed),
    /// It may be used, or not.
    Status { status: CardStatus, by: String },
    /// Its number was shown.
    Revealed { by: String },
}

/// A number as it is kept, all under one key.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Sealed {
    pub(crate) key: CardKeyId,
    pub(crate) lookup: Lookup,
    pub(crate) envelope: Box<[u8]>,
}

#[derive(FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
struct Head {
    version: u8,
    kind: u8,
    token: U128,
    at: U64,
}

#[derive(FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
struct AddedHead {
    tenant: U32,
    account: U128,
    issuer: U32,
    last_four: U16,
    digits: u8,
    expiry: U16,
    sealed: SealedHead,
}

#[derive(FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
struct SealedHead {
    key: [u8; 8],
    lookup: [u8; 32],
    length: u8,
}

/// The version that is written.
const VERSION: u8 = 1;

impl CardRecord {
    pub(crate) fn to_bytes(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(192);
        let mut put = |part: &[u8]| bytes.extend_from_slice(part);
        let kind = match self.change {
            CardChange::Added { .. } => 1,
            CardChange::Sealed(_) => 2,
            CardChange::Status { .. } => 3,
            CardChange::Revealed { .. } => 4,
        };
        put(Head { version: VERSION, kind, token: self.token.0.into(), at: self.at.into() }.as_bytes());
        let head_of = |sealed: &Sealed| SealedHead {
            key: sealed.key.to_bytes(),
            lookup: sealed.lookup,
            // 56 bytes at most: a number of 19 digits in its envelope.
            length: u8::try_from(sealed.envelope.len()).unwrap_or(u8::MAX),
        };
        match &self.change {
            CardChange::Added { tenant, account, sealed, issuer, last_four, digits, expiry, by } => {
                let head = AddedHead {
                    tenant: (*tenant).into(),
                    account: (*account).into(),
                    issuer: (*issuer).into(),
                    last_four: (*last_four).into(),
                    digits: *digits,
                    expiry: Expiry::to_number(*expiry).into(),
                    sealed: head_of(sealed),
                };
                put(head.as_bytes());
                put(&sealed.envelope);
                put(by.as_bytes());
            }
            CardChange::Sealed(sealed) => {
                put(head_of(sealed).as_bytes());
                put(&sealed.envelope);
            }
            CardChange::Status { status, by } => {
                put(&[*status as u8]);
                put(by.as_bytes());
            }
            CardChange::Revealed { by } => put(by.as_bytes()),
        }
        bytes
    }

    pub(crate) fn from_bytes(bytes: &[u8]) -> Result<Self, &'static str> {
        const SHORT: &str = "a card record ends early";
        let (head, rest) = Head::read_from_prefix(bytes).map_err(|_| SHORT)?;
        if head.version != VERSION {
            return Err("a card record of another version: a later release wrote it");
        }
        let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).map_err(|_| "a name that is no UTF-8");
        let sealed_of = |head: &SealedHead, rest: &[u8]| {
            let (envelope, rest) = rest.split_at_checked(usize::from(head.length)).ok_or(SHORT)?;
            let key = CardKeyId::from_bytes(head.key);
            Ok::<_, &'static str>((Sealed { key, lookup: head.lookup, envelope: envelope.into() }, rest.to_vec()))
        };
        let change = match head.kind {
            1 => {
                let (added, rest) = AddedHead::read_from_prefix(rest).map_err(|_| SHORT)?;
                let (sealed, rest) = sealed_of(&added.sealed, rest)?;
                CardChange::Added {
                    tenant: added.tenant.get(),
                    account: added.account.get(),
                    sealed,
                    issuer: added.issuer.get(),
                    last_four: added.last_four.get(),
                    digits: added.digits,
                    expiry: Expiry::from_number(added.expiry.get())?,
                    by: text(&rest)?,
                }
            }
            2 => {
                let (sealed, rest) = SealedHead::read_from_prefix(rest).map_err(|_| SHORT)?;
                let (sealed, rest) = sealed_of(&sealed, rest)?;
                if !rest.is_empty() {
                    return Err("a card record has bytes behind its end");
                }
                CardChange::Sealed(sealed)
            }
            3 => {
                let (status, by) = rest.split_first().ok_or(SHORT)?;
                let status = CardStatus::ALL.into_iter().find(|one| *one as u8 == *status).ok_or("no status")?;
                CardChange::Status { status, by: text(by)? }
            }
            4 => CardChange::Revealed { by: text(rest)? },
            _ => return Err("a card record of an unknown kind"),
        };
        Ok(Self { token: Token(head.token.get()), at: head.at.get(), change })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn records() -> Vec<CardRecord> {
        let sealed = || Sealed { key: CardKeyId::from_bytes([3; 8]), lookup: [4; 32], envelope: Box::new([5; 53]) };
        let added = CardChange::Added {
            tenant: 1,
            account: 1 << 96 | 7,
            sealed: sealed(),
            issuer: 411_111,
            last_four: 1111,
            digits: 16,
            expiry: Expiry::parse(b"2912"),
            by: "key 0123".to_owned(),
        };
        [
            added,
            CardChange::Sealed(sealed()),
            CardChange::Status { status: CardStatus::Blocked, by: "key 1".to_owned() },
            CardChange::Revealed { by: "é".to_owned() },
        ]
        .into_iter()
        .map(|change| CardRecord { token: Token(u128::MAX - 1), at: 1_700_000_000_000, change })
        .collect()
    }

    #[test]
    fn a_record_is_read_as_it_was_written_and_no_shorter_one_is() {
        for record in records() {
            let bytes = record.to_bytes();
            assert_eq!(CardRecord::from_bytes(&bytes).as_ref(), Ok(&record));
            for end in 0..bytes.len() {
                assert_ne!(CardRecord::from_bytes(&bytes[..end]).as_ref(), Ok(&record), "{end} bytes");
            }
        }
    }

    /// The form in journals never changes: these bytes are of the first release that wrote cards.
    #[test]
    fn the_bytes_of_a_status_are_the_drawn_ones() {
        let record = &records()[2];
        let drawn = [&[1, 3][..], &(u128::MAX - 1).to_le_bytes(), &1_700_000_000_000u64.to_le_bytes(), &[1], b"key 1"];
        assert_eq!(record.to_bytes(), drawn.concat());
        assert_eq!(records()[0].to_bytes().len(), 26 + 29 + 41 + 53 + 8);
    }

    #[test]
    fn an_expiry_is_a_month_and_over_at_its_end() {
        let expiry = Expiry::parse(b"2611").expect("a month");
        assert!(!expiry.is_before(26, 11) && expiry.is_before(26, 12) && expiry.is_before(27, 1));
        assert_eq!(expiry.to_string(), "2611");
        for text in [&b"2600"[..], b"2613", b"261", b"26111", b"2a11", b""] {
            assert_eq!(Expiry::parse(text), None);
        }
        for text in [b"0001", b"9912", b"2611"] {
            let expiry = Expiry::parse(text);
            assert_eq!(Expiry::from_number(Expiry::to_number(expiry)), Ok(expiry));
        }
    }
}
