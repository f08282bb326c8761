//! Data elements: what one may hold and how long it is, written in the standard's own notation.
//!
//! ```text
//!   n6       six digits                      an12     letters and digits      b64     64 bits
//!   n..19    up to 19, two digits of length  ans...999  three digits of length  x+n8  C or D, then eight digits
//!   z..37    track 2: digits, `=` and `D`
//! ```
//! Refuses to know numbers and meanings of elements.

/// What an element's value consists of.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Characters {
    /// Letters and spaces.
    Letters,
    /// Digits.
    Digits,
    /// Letters, digits and spaces.
    LettersDigits,
    /// Visible ASCII and spaces.
    Text,
    /// Bytes.
    Binary,
    /// Digits, `=` and `D`.
    Track,
    /// `C` or `D`, then digits.
    SignedDigits,
}

/// What a byte is, one bit each: a value is of a kind when every byte has that bit.
const DIGIT: u8 = 1;
const LETTER: u8 = 2;
const LETTER_DIGIT: u8 = 4;
const TEXT: u8 = 8;
const TRACK: u8 = 16;

/// Of ASCII: no other byte is of any kind.
const KINDS: [u8; 256] = {
    let mut kinds = [0; 256];
    let mut byte = 0_u8;
    while byte < 128 {
        kinds[byte as usize] = kinds_of(byte);
        byte += 1;
    }
    kinds
};

const fn kinds_of(byte: u8) -> u8 {
    let digit = if byte.is_ascii_digit() { DIGIT | LETTER_DIGIT | TEXT | TRACK } else { 0 };
    let letter = if byte.is_ascii_alphabetic() || byte == b' ' { LETTER | LETTER_DIGIT | TEXT } else { 0 };
    let text = if byte.is_ascii_graphic() { TEXT } else { 0 };
    let track = if matches!(byte, b'=' | b'D') { TRACK } else { 0 };
    digit | letter | text | track
}

impl Characters {
    /// Whether a value may consist of these bytes.
    pub(crate) fn allow(self, value: &[u8]) -> bool {
        let (kind, value) = match self {
            Self::Binary => return true,
            Self::SignedDigits => match value {
                [b'C' | b'D', digits @ ..] => (DIGIT, digits),
                _ => return false,
            },
            Self::Digits => (DIGIT, value),
            Self::Letters => (LETTER, value),
            Self::LettersDigits => (LETTER_DIGIT, value),
            Self::Text => (TEXT, value),
            Self::Track => (TRACK, value),
        };
        value.iter().fold(kind, |kinds, byte| kinds & KINDS[usize::from(*byte)]) != 0
    }
}

/// How long a value is, in its characters (bytes, where it is binary).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Extent {
    /// Always so long.
    Fixed(usize),
    /// Up to so long, with a length of so many digits before it.
    Up {
        /// At most.
        max: usize,
        /// Digits of the length: 2 or 3.
        digits: u8,
    },
}

/// What an element may hold and how long it is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Element {
    /// Of what its value consists.
    pub characters: Characters,
    /// How long its value is.
    pub extent: Extent,
}

impl Element {
    /// Reads the standard's notation.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn parse(text: &str) -> Result<Self, &'static str> {
        let split = text.find(|c: char| c == '.' || c.is_ascii_digit()).ok_or("a length is missing")?;
        let (kind, rest) = text.split_at(split);
        let characters = match kind {
            "a" => Characters::Letters,
            "n" => Characters::Digits,
            "an" => Characters::LettersDigits,
            "ans" | "as" | "ns" => Characters::Text,
            "b" => Characters::Binary,
            "z" => Characters::Track,
            "x+n" => Characters::SignedDigits,
            _ => return Err("it starts with a, n, an, ans, as, ns, b, z or x+n"),
        };
        let number = rest.trim_start_matches('.');
        let digits = rest.len() - number.len();
        let number: usize = number.parse().map_err(|_| "a length is a number")?;
        let extent = match digits {
            0 if characters == Characters::Binary && number.is_multiple_of(8) => Extent::Fixed(number / 8),
            0 if characters == Characters::Binary => return Err("bits come in eights"),
            0 if characters == Characters::SignedDigits => Extent::Fixed(number + 1),
            0 => Extent::Fixed(number),
            2 if number <= 99 => Extent::Up { max: number, digits: 2 },
            3 if number <= 999 => Extent::Up { max: number, digits: 3 },
            2 | 3 => return Err("the length's digits cannot say that much"),
            _ => return Err("a variable length has two or three dots"),
        };
        match extent {
            Extent::Fixed(0) | Extent::Up { max: 0, .. } => Err("a length is at least 1"),
            Extent::Fixed(999..) => Err("a fixed length is at most 998"),
            Extent::Up { .. } if characters == Characters::SignedDigits => Err("x+n has a fixed length"),
            _ => Ok(Self { characters, extent }),
        }
    }

    /// The longest value.
    pub const fn max(self) -> usize {
        match self.extent {
            Extent::Fixed(length) => length,
            Extent::Up { max, .. } => max,
        }
    }

    /// Whether a value of that length fits.
    pub(crate) const fn fits(self, length: usize) -> bool {
        match self.extent {
            Extent::Fixed(fixed) => length == fixed,
            Extent::Up { max, .. } => length <= max,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_notation_of_the_standard_is_read() {
        let element = |characters, extent| Ok(Element { characters, extent });
        for (text, wanted) in [
            ("n6", element(Characters::Digits, Extent::Fixed(6))),
            ("n..19", element(Characters::Digits, Extent::Up { max: 19, digits: 2 })),
            ("ans...999", element(Characters::Text, Extent::Up { max: 999, digits: 3 })),
            ("b64", element(Characters::Binary, Extent::Fixed(8))),
            ("x+n8", element(Characters::SignedDigits, Extent::Fixed(9))),
            ("z..37", element(Characters::Track, Extent::Up { max: 37, digits: 2 })),
        ] {
            assert_eq!(Element::parse(text), wanted, "{text}");
        }
    }

    /// By the definitions of the kinds, byte by byte.
    #[test]
    fn each_kind_has_its_bytes_and_no_others() {
        for byte in 0..=u8::MAX {
            let (letter, digit) = (byte.is_ascii_alphabetic() || byte == b' ', byte.is_ascii_digit());
            for (kind, wanted) in [
                (Characters::Letters, letter),
                (Characters::Digits, digit),
                (Characters::LettersDigits, letter || digit),
                (Characters::Text, (0x20..=0x7E).contains(&byte)),
                (Characters::Binary, true),
                (Characters::Track, digit || byte == b'=' || byte == b'D'),
                (Characters::SignedDigits, byte == b'C' || byte == b'D'),
            ] {
                assert_eq!(kind.allow(&[byte]), wanted, "{kind:?} {byte}");
                let (first, last) = if kind == Characters::SignedDigits { (b'C', digit) } else { (byte, wanted) };
                assert_eq!(kind.allow(&[first, byte]), last, "{kind:?} {byte} behind another");
            }
        }
        assert!(Characters::Digits.allow(b"") && !Characters::SignedDigits.allow(b""));
    }

    #[test]
    fn what_is_no_notation_is_refused() {
        for text in ["", "n", "n0", "q6", "n.6", "n....6", "n..100", "ans...1000", "b7", "n-1", "n999", "x+n..8", "n6x"]
        {
            assert!(Element::parse(text).is_err(), "{text}");
        }
    }
}
