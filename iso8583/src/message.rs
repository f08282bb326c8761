//! A message: its type and its data elements, as text, whatever bytes they had on the wire.
//!
//! Owns the values of one message in one buffer that is used again for the next (no allocation per message once it has grown), and their
//! end: they are wiped (ISO-3). Refuses to know layouts.

use std::fmt;
use std::ops::Range;

use zeroize::Zeroize as _;

use crate::mti::Mti;

/// Data elements are numbered from 2 to this; 1 is the second bitmap.
pub const ELEMENTS: usize = 128;

#[derive(Clone, Copy)]
struct Span {
    start: u32,
    length: u16,
}

/// A message. Digits and text are ASCII here; binary elements are their bytes.
pub struct Message {
    mti: Mti,
    /// Bit n - 1: element n is there.
    present: u128,
    /// Where the value of each element that is there lies, ascending by its number. A table of all 128 would be a kilobyte, of which a
    /// message uses a tenth.
    spans: Vec<Span>,
    /// Values up to `filled`, zeros from there on.
    values: Vec<u8>,
    filled: usize,
}

impl Message {
    /// A message of that type, without elements.
    pub const fn new(mti: Mti) -> Self {
        Self { mti, present: 0, spans: Vec::new(), values: Vec::new(), filled: 0 }
    }

    /// Starts anew with that type; what was there is wiped, the memory stays.
    pub fn clear(&mut self, mti: Mti) {
        // Only what is there: what it outgrew or took away was wiped then.
        self.values[..self.filled].zeroize();
        self.spans.clear();
        (self.mti, self.present, self.filled) = (mti, 0, 0);
    }

    /// Gives it another type.
    pub(crate) const fn retype(&mut self, mti: Mti) {
        self.mti = mti;
    }

    /// Its type.
    pub const fn mti(&self) -> Mti {
        self.mti
    }

    /// Whether it has the element.
    pub const fn has(&self, element: usize) -> bool {
        element >= 2 && element <= ELEMENTS && self.present & bit(element) != 0
    }

    /// The place of an element among those that are there: as many lie before it.
    const fn place(&self, element: usize) -> usize {
        (self.present & (bit(element) - 1)).count_ones() as usize
    }

    /// Where the value of an element lies.
    fn span(&self, element: usize) -> Option<Span> {
        if self.has(element) { self.spans.get(self.place(element)).copied() } else { None }
    }

    /// The value of an element.
    pub fn get(&self, element: usize) -> Option<&[u8]> {
        self.span(element).map(|span| &self.values[span.range()])
    }

    /// The value of an element as text; `None` also for binary ones that are no text.
    pub fn text(&self, element: usize) -> Option<&str> {
        self.get(element).and_then(|value| std::str::from_utf8(value).ok())
    }

    /// The value of an element of digits as a number.
    pub fn number(&self, element: usize) -> Option<u64> {
        let digits = self.get(element).filter(|value| !value.is_empty())?;
        digits.iter().try_fold(0_u64, |number, byte| {
            let digit = byte.wrapping_sub(b'0');
            if digit > 9 { None } else { number.checked_mul(10)?.checked_add(u64::from(digit)) }
        })
    }

    /// Sets an element. Values above 64 KiB and elements other than 2 to 128 are none: nothing is set.
    pub fn set(&mut self, element: usize, value: &[u8]) {
        self.set_with(element, value.len(), |place| {
            place.copy_from_slice(value);
            true
        });
    }

    /// Sets an element to so many characters, zeros, that `write` writes over. `false`: it did not, and nothing is set.
    pub(crate) fn set_with(&mut self, element: usize, length: usize, write: impl FnOnce(&mut [u8]) -> bool) -> bool {
        let (Ok(start), Ok(short)) = (u32::try_from(self.filled), u16::try_from(length)) else { return false };
        if !(2..=ELEMENTS).contains(&element) {
            return false;
        }
        let (from, end) = (self.filled, self.filled + length);
        self.make_room(end);
        let is_written = write(&mut self.values[from..end]);
        if is_written {
            self.filled = end;
            self.put(element, Span { start, length: short });
        } else {
            self.values[from..end].zeroize();
        }
        is_written
    }

    fn put(&mut self, element: usize, span: Span) {
        // Most are set in their order.
        if self.present >> (element - 1) == 0 {
            self.spans.push(span);
        } else {
            let place = self.place(element);
            if self.has(element) {
                self.spans[place] = span;
                return;
            }
            self.spans.insert(place, span);
        }
        self.present |= bit(element);
    }

    /// Room for so many bytes. What is outgrown is wiped: an allocator would give it to others as it is.
    fn make_room(&mut self, needed: usize) {
        if needed > self.values.len() {
            let mut larger = vec![0; needed.next_power_of_two().max(256)];
            larger[..self.filled].copy_from_slice(&self.values[..self.filled]);
            std::mem::replace(&mut self.values, larger).zeroize();
        }
    }

    /// Takes an element away; its value is wiped.
    pub fn remove(&mut self, element: usize) {
        if let Some(span) = self.span(element) {
            self.values[span.range()].zeroize();
            self.spans.remove(self.place(element));
            self.present &= !bit(element);
        }
    }

    /// Sets those of some elements that another message has to what they are there.
    pub fn echo(&mut self, from: &Self, elements: Elements) {
        for (element, value) in from.iter() {
            if elements.has(element) {
                self.set(element, value);
            }
        }
    }

    /// Its elements, ascending by their numbers, with their values.
    pub fn iter(&self) -> impl Iterator<Item = (usize, &[u8])> {
        self.elements().zip(&self.spans).map(|(element, span)| (element, &self.values[span.range()]))
    }

    /// The numbers of its elements, ascending.
    pub fn elements(&self) -> impl Iterator<Item = usize> {
        let mut left = self.present;
        std::iter::from_fn(move || {
            let next = left.trailing_zeros();
            (left != 0).then(|| {
                left &= left - 1;
                next as usize + 1
            })
        })
    }

    /// Bit n - 1 for element n.
    pub(crate) const fn present(&self) -> u128 {
        self.present
    }
}

impl Span {
    fn range(self) -> Range<usize> {
        self.start as usize..self.start as usize + usize::from(self.length)
    }
}

/// Some of the elements.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Elements(u128);

impl Elements {
    /// These ones.
    ///
    /// # Panics
    /// When one is not from 2 to 128: meant for constants.
    pub const fn of(elements: &[usize]) -> Self {
        let (mut bits, mut at) = (0, 0);
        while at < elements.len() {
            assert!(elements[at] >= 2 && elements[at] <= ELEMENTS, "elements are numbered from 2 to 128");
            bits |= bit(elements[at]);
            at += 1;
        }
        Self(bits)
    }

    /// Whether one of them has that number.
    pub const fn has(self, element: usize) -> bool {
        element >= 2 && element <= ELEMENTS && self.0 & bit(element) != 0
    }
}

/// The bit of an element from 1 to 128.
const fn bit(element: usize) -> u128 {
    1 << (element - 1)
}

impl Drop for Message {
    fn drop(&mut self) {
        self.values.zeroize();
    }
}

impl PartialEq for Message {
    fn eq(&self, other: &Self) -> bool {
        self.mti == other.mti && self.present == other.present && self.iter().eq(other.iter())
    }
}

/// The type, and which elements it has with how many characters: never a value.
impl fmt::Debug for Message {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.mti)?;
        self.iter().try_for_each(|(element, value)| write!(f, " {element}:{}", value.len()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mti() -> Mti {
        Mti::from_digits(*b"0100").expect("digits")
    }

    #[test]
    fn elements_are_set_replaced_and_taken_away() {
        let mut message = Message::new(mti());
        for (element, value) in [(2, "4111"), (128, "mac"), (11, "000001"), (2, "55"), (64, "x1"), (65, "")] {
            message.set(element, value.as_bytes());
        }
        assert_eq!((message.text(2), message.number(11), message.text(128)), (Some("55"), Some(1), Some("mac")));
        assert_eq!(message.elements().collect::<Vec<_>>(), [2, 11, 64, 65, 128]);
        message.remove(2);
        assert_eq!((message.get(2), message.has(2), message.has(1), message.has(129)), (None, false, false, false));
        assert_eq!((message.text(11), message.text(65), message.text(128)), (Some("000001"), Some(""), Some("mac")));
        assert_eq!((message.number(11), message.number(64), message.number(65)), (Some(1), None, None));
        for element in [64, 65] {
            message.remove(element);
        }
        message.set(1, b"x");
        message.set(129, b"x");
        assert_eq!(message.elements().collect::<Vec<_>>(), [11, 128]);
    }

    #[test]
    fn a_message_that_outgrows_its_memory_keeps_what_it_has() {
        let mut message = Message::new(mti());
        let value = |element: usize| vec![u8::try_from(element).expect("small"); element * 3];
        for element in (2..=128).rev() {
            message.set(element, &value(element));
        }
        assert_eq!(message.iter().count(), 127);
        assert!(message.iter().all(|(element, bytes)| bytes == value(element) && message.get(element) == Some(bytes)));
    }

    #[test]
    fn elements_come_back_as_they_are_and_only_those_that_are_meant() {
        let (mut message, mut echo) = (Message::new(mti()), Message::new(mti()));
        for element in [2, 11, 39, 128] {
            message.set(element, element.to_string().as_bytes());
        }
        echo.set(39, b"00");
        echo.echo(&message, Elements::of(&[3, 11, 39, 128]));
        assert!(echo.iter().eq([(11, b"11".as_slice()), (39, b"39"), (128, b"128")]));
        assert!(!Elements::of(&[2]).has(3) && !Elements::of(&[]).has(0) && !Elements::of(&[128]).has(129));
    }

    #[test]
    fn a_number_is_one_that_64_bits_hold() {
        let mut message = Message::new(mti());
        for (text, wanted) in [
            ("18446744073709551615", Some(u64::MAX)),
            ("18446744073709551616", None),
            ("0000000000000000000000007", Some(7)),
            ("+1", None),
            ("-1", None),
            ("", None),
        ] {
            message.set(4, text.as_bytes());
            assert_eq!(message.number(4), wanted, "{text}");
        }
    }

    #[test]
    fn a_value_that_was_not_written_to_its_end_is_not_there_and_leaves_nothing() {
        let mut message = Message::new(mti());
        message.set(3, b"000000");
        let is_set = message.set_with(2, 4, |value| {
            value.copy_from_slice(b"4111");
            false
        });
        assert_eq!((is_set, message.get(2), message.filled), (false, None, 6));
        assert!(message.values[6..].iter().all(|byte| *byte == 0));
        assert!(message.set_with(2, 2, |value| value == [0, 0]), "room is given wiped");
        assert_eq!(message.elements().collect::<Vec<_>>(), [2, 3]);
    }

    #[test]
    fn nothing_of_a_value_is_left_after_a_clear_and_none_is_shown() {
        let mut message = Message::new(mti());
        message.set(2, b"4111111111111111");
        message.set(35, b"4111111111111111=2512");
        message.remove(35);
        let shown = format!("{message:?}");
        assert_eq!(shown, "0100 2:16");
        assert!(!message.values.windows(4).skip(16).any(|four| four == b"4111"), "a removed value is wiped");
        message.clear(mti());
        assert_eq!((message.get(2), message.elements().count(), message.filled), (None, 0, 0));
        assert!(message.values.len() >= 256 && message.values.iter().all(|byte| *byte == 0), "all is wiped");
    }
}
