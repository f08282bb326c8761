//! A card number (PAN).
//!
//! Owns its form (ISO/IEC 7812-1: 8 to 19 digits, the last one a check digit by Luhn's formula; 12 to 19 are taken here) and finding what
//! looks like one in text. Refuses to be shown: it has no `Display`, and its debug form is masked as PCI DSS 3.4.1 allows: the first six
//! and the last four digits.

use std::fmt;

use zeroize::Zeroizing;

/// Fewest and most digits.
const DIGITS: std::ops::RangeInclusive<usize> = 12..=19;

/// A card number. Wiped when it is dropped.
#[derive(Clone, PartialEq, Eq)]
pub struct Pan {
    /// On the heap: a value that is moved leaves no copies behind.
    digits: Box<Zeroizing<[u8; 19]>>,
    length: u8,
}

/// What is no card number. It does not say what it was.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[error("a card number is 12 to 19 digits, the last one the check digit")]
pub struct PanError;

impl Pan {
    /// Reads digits.
    ///
    /// # Errors
    /// [`PanError`].
    pub fn parse(text: &[u8]) -> Result<Self, PanError> {
        let is_one = DIGITS.contains(&text.len()) && text.iter().all(u8::is_ascii_digit) && has_check_digit(text);
        let length = u8::try_from(text.len()).ok().filter(|_| is_one).ok_or(PanError)?;
        let mut digits = Box::new(Zeroizing::new([0; 19]));
        digits[..text.len()].copy_from_slice(text);
        Ok(Self { digits, length })
    }

    /// The number of an issuer's six digits and the card's nine, with its check digit.
    pub(crate) fn of_parts(issuer: u32, number: u32) -> Result<Self, PanError> {
        let digits = Zeroizing::new(format!("{issuer:06}{number:09}"));
        let numbers = (0..=9).map(|check| Zeroizing::new(format!("{}{check}", *digits)));
        numbers.map(|number| Self::parse(number.as_bytes())).find(Result::is_ok).unwrap_or(Err(PanError))
    }

    /// Its digits. Whoever asks keeps them no longer than it must.
    pub(crate) fn digits(&self) -> &[u8] {
        &self.digits[..usize::from(self.length)]
    }

    /// How many digits.
    pub const fn length(&self) -> u8 {
        self.length
    }

    /// The first six digits: the issuer.
    pub fn issuer(&self) -> u32 {
        number(&self.digits()[..6])
    }

    /// The last four.
    pub fn last_four(&self) -> u16 {
        u16::try_from(number(&self.digits()[usize::from(self.length) - 4..])).unwrap_or(0)
    }
}

fn number(digits: &[u8]) -> u32 {
    digits.iter().fold(0, |number, digit| number * 10 + u32::from(digit - b'0'))
}

/// A number as it may be shown.
pub(crate) fn masked(issuer: u32, last_four: u16, length: u8) -> String {
    let hidden = usize::from(length).saturating_sub(10);
    format!("{issuer:06}{}{last_four:04}", "*".repeat(hidden))
}

impl fmt::Debug for Pan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&masked(self.issuer(), self.last_four(), self.length))
    }
}

/// Luhn's formula: every second digit from the right is doubled, nines are cast out, and the sum ends in 0.
fn has_check_digit(digits: &[u8]) -> bool {
    let sum: u32 = digits
        .iter()
        .rev()
        .enumerate()
        .map(|(at, digit)| {
            let digit = u32::from(digit - b'0');
            if at % 2 == 1 { digit * 2 / 10 + digit * 2 % 10 } else { digit }
        })
        .sum();
    sum.is_multiple_of(10)
}

/// Whether a run of digits begins like a card number of its length: the ranges that the payment schemes publish.
fn is_of_a_scheme(digits: &[u8]) -> bool {
    let first = |count: usize| number(&digits[..count]);
    match digits.len() {
        13 if first(1) == 4 => true,                                                  // Visa
        14 if matches!(first(3), 300..=305 | 309 | 360..=369 | 380..=399) => true,    // Diners Club
        15 if matches!(first(2), 34 | 37) => true,                                    // American Express
        16 if matches!(first(2), 51..=55) || matches!(first(4), 2221..=2720) => true, // Mastercard
        16 if matches!(first(3), 300..=305 | 309 | 360..=369 | 380..=399) => true,
        // Visa; JCB; Maestro, Discover and UnionPay.
        16..=19 => first(1) == 4 || matches!(first(4), 3528..=3589) || matches!(first(2), 50 | 56..=69),
        13..=15 => matches!(first(2), 50 | 56..=69), // Maestro
        _ => false,
    }
}

/// Whether a text has a run of digits in it that looks like a card number: 13 to 19 digits, alone or in groups with one space or hyphen
/// between, that begin as one of that length does and have a right check digit, with no letter or digit beside it. One in ten
/// such runs is taken for one though it is none: for texts that people choose, not ids that machines make.
pub fn names_card(text: &str) -> bool {
    let bytes = text.as_bytes();
    let mut at = 0;
    while at < bytes.len() {
        if !bytes[at].is_ascii_digit() {
            at += 1;
            continue;
        }
        let (run, end) = run_of_digits(bytes, at);
        let is_beside = |byte: Option<&u8>| byte.is_some_and(u8::is_ascii_alphanumeric);
        let stands_alone =
            !is_beside(at.checked_sub(1).and_then(|before| bytes.get(before))) && !is_beside(bytes.get(end));
        if stands_alone && is_of_a_scheme(&run) && has_check_digit(&run) {
            return true;
        }
        at = end;
    }
    false
}

/// The digits from `at` on, over single spaces and hyphens between groups of four or more (a card's groups), and where they end.
fn run_of_digits(bytes: &[u8], at: usize) -> (Zeroizing<Vec<u8>>, usize) {
    let mut digits = Zeroizing::new(Vec::with_capacity(20));
    let mut end = at;
    while let Some(byte) = bytes.get(end) {
        let is_joint = matches!(byte, b' ' | b'-') && bytes.get(end + 1).is_some_and(u8::is_ascii_digit);
        if byte.is_ascii_digit() {
            // Longer than any card: the rest is counted, not kept.
            if digits.len() < 20 {
                digits.push(*byte);
            }
        } else if !is_joint {
            break;
        }
        end += 1;
    }
    (digits, end)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Numbers that the schemes publish for tests.
    const TEST_NUMBERS: [&str; 5] =
        ["4111111111111111", "5555555555554444", "378282246310005", "6011111111111117", "30569309025904"];

    #[test]
    fn published_test_numbers_are_read_and_one_digit_off_is_not() {
        for text in TEST_NUMBERS {
            let pan = Pan::parse(text.as_bytes()).expect(text);
            assert_eq!(pan.digits(), text.as_bytes());
            for at in 0..text.len() {
                let mut other = text.as_bytes().to_vec();
                other[at] = b'0' + (other[at] - b'0' + 1) % 10;
                assert_eq!(Pan::parse(&other), Err(PanError), "{text} at {at}");
            }
        }
        for text in ["", "0", "41111111111", "41111111111111111111", "411111111111111a", "4111 1111 1111 1111"] {
            assert_eq!(Pan::parse(text.as_bytes()), Err(PanError), "{text}");
        }
    }

    #[test]
    fn a_number_is_shown_with_its_first_six_and_last_four_digits() {
        let shown = |text: &str| format!("{:?}", Pan::parse(text.as_bytes()).expect(text));
        assert_eq!(shown("4111111111111111"), "411111******1111");
        assert_eq!(shown("378282246310005"), "378282*****0005");
        assert_eq!(shown("000000000000"), "000000**0000");
    }

    #[test]
    fn a_card_number_in_a_text_is_found_in_every_dress() {
        for text in [
            "4111111111111111",
            "paid with 4111 1111 1111 1111, thanks",
            "card:4111-1111-1111-1111.",
            "x 378282246310005 y",
            "é5555555555554444é",
        ] {
            assert!(names_card(text), "{text}");
        }
    }

    #[test]
    fn ids_and_long_numbers_are_no_cards() {
        for text in [
            "",
            "order-1",
            "4111111111111112",
            "1111111111111117",
            "2000000000003",
            "3000000000002",
            "a4111111111111111",
            "4111111111111111b",
            "41111111111111111111111111111111",
            "019f1c2e-4111-8111-9111-111111111111",
            "4111  1111 1111 1111",
        ] {
            assert!(!names_card(text), "{text}");
        }
    }
}
