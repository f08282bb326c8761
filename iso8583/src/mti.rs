//! The message type indicator: four digits that say edition, class, function and origin.
//!
//! ```text
//!   0    1 2 4 5 8                       0 1 2 3                        0 1 ...
//!   1987 authorization, financial,       request, its response,         acquirer, the same once more
//!        reversal, reconciliation,       advice, its response
//!        network management
//! ```

use std::fmt;

/// A message type: four decimal digits.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Mti([u8; 4]);

impl Mti {
    /// No type: of a message that was not read.
    pub const NONE: Self = Self(*b"0000");

    /// The type of these four characters; `None` unless they are digits.
    pub fn from_digits(digits: [u8; 4]) -> Option<Self> {
        digits.iter().all(u8::is_ascii_digit).then_some(Self(digits))
    }

    /// Its four digits.
    pub const fn digits(&self) -> &[u8; 4] {
        &self.0
    }

    /// Its four digits as text.
    pub fn text(&self) -> &str {
        // Digits are ASCII.
        std::str::from_utf8(&self.0).unwrap_or_default()
    }

    /// The edition: `0` is that of 1987.
    pub const fn edition(&self) -> u8 {
        self.0[0] - b'0'
    }

    /// The class: 1 authorization, 2 financial, 4 reversal, 5 reconciliation, 8 network management.
    pub const fn class(&self) -> u8 {
        self.0[1] - b'0'
    }

    /// The function: 0 request, 1 its response, 2 advice, 3 its response.
    pub const fn function(&self) -> u8 {
        self.0[2] - b'0'
    }

    /// Whether it asks for a response.
    pub const fn is_request(&self) -> bool {
        matches!(self.function(), 0 | 2)
    }

    /// Whether it says of itself that it was sent before: 0101, 0121, 0401, 0421.
    pub const fn is_repeat(&self) -> bool {
        self.0[3] % 2 == 1
    }

    /// The type of the response to it: 0100 and 0101 give 0110. `None` when it asks for none.
    #[must_use]
    pub fn response(self) -> Option<Self> {
        let Self([edition, class, function, _]) = self;
        self.is_request().then_some(Self([edition, class, function + 1, b'0']))
    }
}

impl fmt::Display for Mti {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.text())
    }
}

impl fmt::Debug for Mti {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Mti({self})")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_response_has_the_next_function_and_no_repeat() {
        let response = |digits: &[u8; 4]| Mti::from_digits(*digits).and_then(Mti::response).map(|mti| mti.to_string());
        for (request, wanted) in [
            (b"0100", Some("0110")),
            (b"0101", Some("0110")),
            (b"0121", Some("0130")),
            (b"0220", Some("0230")),
            (b"0401", Some("0410")),
            (b"0421", Some("0430")),
            (b"0500", Some("0510")),
            (b"0800", Some("0810")),
            (b"0110", None),
            (b"0140", None),
        ] {
            assert_eq!(response(request).as_deref(), wanted, "{}", String::from_utf8_lossy(request));
        }
        assert!(Mti::from_digits(*b"01a0").is_none());
    }
}
