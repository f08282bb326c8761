//! From a message to bytes.
//!
//! Owns the writing. Refuses what a layout has no place for: nothing is cut, padded or guessed to make it fit.

use crate::decode::Flaw;
use crate::element::{Characters, Extent};
use crate::frame::FrameTooLong;
use crate::layout::{BitmapForm, Form, Layout, Placed};
use crate::message::Message;

/// Why a message cannot be written by a layout.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum EncodeError {
    /// An element does not fit: the layout has none of that number, or the value has another length or other characters.
    #[error("element {element} does not fit the layout: {flaw:?}")]
    Element {
        /// Which.
        element: usize,
        /// Why.
        flaw: Flaw,
    },
    /// It is longer than a frame.
    #[error(transparent)]
    TooLong(#[from] FrameTooLong),
}

impl Layout {
    /// Appends a message.
    ///
    /// # Errors
    /// [`EncodeError`]; part of it may have been appended then.
    pub fn encode(&self, message: &Message, out: &mut Vec<u8>) -> Result<(), EncodeError> {
        digits_into(self.mti, message.mti().digits(), out);
        let present = message.present();
        let has_second = present >> 64 != 0;
        // The first bit of the first bitmap says that there is a second one; bits stand the highest first.
        let bitmaps = (present | u128::from(has_second)).reverse_bits().to_be_bytes();
        let bitmaps = if has_second { &bitmaps[..] } else { &bitmaps[..8] };
        match self.bitmap {
            BitmapForm::Binary => out.extend_from_slice(bitmaps),
            BitmapForm::Hex => out.extend(bitmaps.iter().flat_map(|byte| {
                [byte >> 4, byte & 15].map(|nibble| if nibble < 10 { b'0' + nibble } else { b'A' + nibble - 10 })
            })),
        }
        message.iter().try_for_each(|(element, value)| self.write_element(element, value, out))
    }

    fn write_element(&self, number: usize, value: &[u8], out: &mut Vec<u8>) -> Result<(), EncodeError> {
        let error = |flaw| EncodeError::Element { element: number, flaw };
        let placed = self.placed(number).ok_or_else(|| error(Flaw::Unknown))?;
        if !placed.element.fits(value.len()) {
            return Err(error(if value.len() > placed.element.max() { Flaw::Long } else { Flaw::Short }));
        }
        if !placed.element.characters.allow(value) {
            return Err(error(Flaw::Characters));
        }
        if let Extent::Up { digits, .. } = placed.element.extent {
            let length = [value.len() / 100, value.len() / 10 % 10, value.len() % 10];
            let length = length.map(|digit| b'0' + u8::try_from(digit).unwrap_or(0));
            digits_into(self.lengths, &length[3 - usize::from(digits)..], out);
        }
        value_into(placed, value, out);
        Ok(())
    }
}

fn value_into(placed: &Placed, value: &[u8], out: &mut Vec<u8>) {
    match placed.element.characters {
        Characters::Track if placed.is_packed() => {
            let nibble = |byte: &u8| if byte.is_ascii_digit() { byte - b'0' } else { 13 };
            out.extend(value.chunks(2).map(|pair| nibble(&pair[0]) << 4 | pair.get(1).map_or(15, nibble)));
        }
        Characters::Digits => digits_into(placed.form, value, out),
        Characters::SignedDigits => {
            out.push(value[0]);
            digits_into(placed.form, &value[1..], out);
        }
        _ => out.extend_from_slice(value),
    }
}

/// Digits as they are, or two a byte: an odd first one stands alone behind a zero.
fn digits_into(form: Form, digits: &[u8], out: &mut Vec<u8>) {
    match form {
        Form::Ascii => out.extend_from_slice(digits),
        Form::Bcd => {
            let (first, pairs) = digits.split_at(digits.len() % 2);
            // The low half of a digit's byte is its number.
            out.extend(first.iter().map(|digit| digit & 15));
            out.extend(pairs.as_chunks::<2>().0.iter().map(|[high, low]| high << 4 | low & 15));
        }
    }
}
