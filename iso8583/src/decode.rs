//! From bytes to a message.
//!
//! Owns every test of what came. An error names the element and what is wrong with it, never its value (ISO-2). What was read before the
//! error stays in the message, so that it can be answered.

use std::fmt;

use crate::element::{Characters, Extent};
use crate::layout::{BitmapForm, Form, Layout, Placed};
use crate::message::Message;
use crate::mti::Mti;

/// What is wrong with a message's bytes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum Flaw {
    /// They end before it does.
    Short,
    /// It is not of the characters that belong there.
    Characters,
    /// The layout has no such element.
    Unknown,
    /// It is longer than the layout allows.
    Long,
    /// So many bytes stand behind the last element.
    Behind(usize),
}

/// Why bytes are no message of a layout.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub struct DecodeError {
    /// The element; 0: the type; 1: the bitmap.
    pub element: usize,
    /// What is wrong with it.
    pub flaw: Flaw,
}

impl fmt::Display for DecodeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.element {
            0 => f.write_str("the type")?,
            1 => f.write_str("the bitmap")?,
            element => write!(f, "element {element}")?,
        }
        match self.flaw {
            Flaw::Short => f.write_str(": the message ends before it does"),
            Flaw::Characters => f.write_str(": it has characters that do not belong there"),
            Flaw::Unknown => f.write_str(": the layout has no such element"),
            Flaw::Long => f.write_str(": it is longer than the layout allows"),
            Flaw::Behind(bytes) => write!(f, ": {bytes} bytes stand behind it, the last one"),
        }
    }
}

/// The bytes that are still to be read.
struct Rest<'a> {
    bytes: &'a [u8],
    element: usize,
}

impl<'a> Rest<'a> {
    fn error(&self, flaw: Flaw) -> DecodeError {
        DecodeError { element: self.element, flaw }
    }

    fn take(&mut self, count: usize) -> Result<&'a [u8], DecodeError> {
        let (taken, rest) = self.bytes.split_at_checked(count).ok_or_else(|| self.error(Flaw::Short))?;
        self.bytes = rest;
        Ok(taken)
    }

    /// A number of so many digits.
    fn number(&mut self, form: Form, digits: usize) -> Result<usize, DecodeError> {
        let bytes = self.take(if form == Form::Bcd { digits.div_ceil(2) } else { digits })?;
        let mut number = 0;
        let mut add = |digit: u8| {
            number = number * 10 + usize::from(digit);
            digit <= 9
        };
        let are_digits = match form {
            Form::Ascii => bytes.iter().all(|byte| add(byte.wrapping_sub(b'0'))),
            Form::Bcd => bytes.iter().all(|byte| add(byte >> 4) && add(byte & 15)),
        };
        if are_digits { Ok(number) } else { Err(self.error(Flaw::Characters)) }
    }
}

impl Layout {
    /// Reads a message. What it held before is wiped.
    ///
    /// # Errors
    /// [`DecodeError`]; the elements before the one that is named are in the message then.
    pub fn decode(&self, bytes: &[u8], message: &mut Message) -> Result<(), DecodeError> {
        let mut rest = Rest { bytes, element: 0 };
        message.clear(Mti::NONE);
        message.retype(self.read_mti(&mut rest)?);
        let present = self.read_bitmaps(&mut rest)?;
        let mut left = present & !1;
        while left != 0 {
            let element = left.trailing_zeros() as usize + 1;
            left &= left - 1;
            rest.element = element;
            let placed = self.placed(element).ok_or_else(|| rest.error(Flaw::Unknown))?;
            self.read_element(&mut rest, placed, message)?;
        }
        match rest.bytes.len() {
            0 => Ok(()),
            behind => Err(rest.error(Flaw::Behind(behind))),
        }
    }

    fn read_mti(&self, rest: &mut Rest<'_>) -> Result<Mti, DecodeError> {
        let digits = match self.mti {
            Form::Ascii => rest.take(4)?.try_into().unwrap_or_default(),
            Form::Bcd => {
                let packed = rest.take(2)?;
                [packed[0] >> 4, packed[0] & 15, packed[1] >> 4, packed[1] & 15].map(|digit| b'0' + digit)
            }
        };
        Mti::from_digits(digits).ok_or_else(|| rest.error(Flaw::Characters))
    }

    /// Bit n - 1 for element n.
    fn read_bitmaps(&self, rest: &mut Rest<'_>) -> Result<u128, DecodeError> {
        rest.element = 1;
        let first = self.read_bitmap(rest)?;
        let second = if first & 1 == 0 { 0 } else { self.read_bitmap(rest)? };
        Ok(u128::from(first) | u128::from(second) << 64)
    }

    /// 64 bits, the lowest one first.
    fn read_bitmap(&self, rest: &mut Rest<'_>) -> Result<u64, DecodeError> {
        let bits = match self.bitmap {
            BitmapForm::Binary => u64::from_be_bytes(rest.take(8)?.try_into().unwrap_or_default()),
            BitmapForm::Hex => {
                let mut bits = 0;
                for byte in rest.take(16)? {
                    let digit = char::from(*byte).to_digit(16).ok_or_else(|| rest.error(Flaw::Characters))?;
                    bits = bits << 4 | u64::from(digit);
                }
                bits
            }
        };
        Ok(bits.reverse_bits())
    }

    fn read_element(&self, rest: &mut Rest<'_>, placed: &Placed, message: &mut Message) -> Result<(), DecodeError> {
        let number = rest.element;
        let length = match placed.element.extent {
            Extent::Fixed(length) => length,
            Extent::Up { max, digits } => {
                let length = rest.number(self.lengths, usize::from(digits))?;
                if length > max {
                    return Err(rest.error(Flaw::Long));
                }
                length
            }
        };
        let characters = placed.element.characters;
        let is_good = if placed.is_packed() {
            let packed = rest.take(length.div_ceil(2))?;
            message.set_with(number, length, |digits| unpack(packed, characters, digits))
        } else if let (Characters::SignedDigits, Form::Bcd) = (characters, placed.form) {
            let (sign, packed) = (rest.take(1)?, rest.take((length - 1).div_ceil(2))?);
            message.set_with(number, length, |value| {
                let (first, digits) = value.split_at_mut(1);
                first.copy_from_slice(sign);
                matches!(sign, b"C" | b"D") && unpack(packed, Characters::Digits, digits)
            })
        } else {
            let value = rest.take(length)?;
            let is_good = characters.allow(value);
            if is_good {
                message.set(number, value);
            }
            is_good
        };
        if is_good { Ok(()) } else { Err(rest.error(Flaw::Characters)) }
    }
}

/// Unpacks two digits a byte. Digits stand at the right, behind a zero where there is one nibble too many; a track at the left, before
/// an `F`. Whether all of them are.
fn unpack(packed: &[u8], characters: Characters, digits: &mut [u8]) -> bool {
    let is_odd = digits.len() % 2 == 1;
    if characters == Characters::Track {
        let nibbles = packed.iter().flat_map(|byte| [byte >> 4, byte & 15]);
        let is_filled = !is_odd || packed.last().is_some_and(|last| last & 15 == 15);
        let set = digits.iter_mut().zip(nibbles).all(|(digit, nibble)| {
            // The separator stands as D; another one than that and digits is none.
            *digit = if nibble == 13 { b'=' } else { b'0' + nibble };
            nibble <= 9 || nibble == 13
        });
        return is_filled && set;
    }
    let (first, pairs) = digits.split_at_mut(usize::from(is_odd));
    let (alone, packed) = packed.split_at(first.len());
    let mut is_good = true;
    for (digit, byte) in first.iter_mut().zip(alone) {
        is_good &= *byte <= 9;
        *digit = b'0' | (byte & 15);
    }
    // Without a way out in between: every byte costs the same.
    for (pair, byte) in pairs.as_chunks_mut::<2>().0.iter_mut().zip(packed) {
        let (high, low) = (byte >> 4, byte & 15);
        is_good &= high.max(low) <= 9;
        *pair = [b'0' | high, b'0' | low];
    }
    is_good
}
