//! A message: its type and its data elements, as text, whatever bytes they had on the wire.
//!
//! Owns the values of one message in one buffer that is used again for the next (no allocation per message once it has grown), and their
//! end: they are wiped (ISO-3). Refuses to know layouts.

use std::fmt;

use zeroize::Zeroize as _;

use crate::mti::Mti;

/// Data elements are numbered from 2 to this; 1 is the second bitmap.
pub const ELEMENTS: usize = 128;

#[derive(Clone, Copy, Default)]
struct Span {
    start: u32,
    length: u16,
}

/// A message. Digits and text are ASCII here; binary elements are their bytes.
pub struct Message {
    mti: Mti,
    /// Bit n: element n is there.
    present: u128,
    spans: [Span; ELEMENTS + 1],
    values: Vec<u8>,
}

impl Message {
    /// A message of that type, without elements.
    pub fn new(mti: Mti) -> Self {
        Self { mti, present: 0, spans: [Span::default(); ELEMENTS + 1], values: Vec::new() }
    }

    /// Starts anew with that type; what was there is wiped, the memory stays.
    pub fn clear(&mut self, mti: Mti) {
        // Only what is there: what it outgrew or took away was wiped then.
        self.values.as_mut_slice().zeroize();
        self.values.clear();
        (self.mti, self.present) = (mti, 0);
    }

    /// Its type.
    pub const fn mti(&self) -> Mti {
        self.mti
    }

    /// Whether it has the element.
    pub const fn has(&self, element: usize) -> bool {
        element >= 2 && element <= ELEMENTS && self.present & bit(element) != 0
    }

    /// The value of an element.
    pub fn get(&self, element: usize) -> Option<&[u8]> {
        if !self.has(element) {
            return None;
        }
        let Span { start, length } = self.spans[element];
        self.values.get(start as usize..start as usize + usize::from(length))
    }

    /// The value of an element as text; `None` also for binary ones that are no text.
    pub fn text(&self, element: usize) -> Option<&str> {
        self.get(element).and_then(|value| std::str::from_utf8(value).ok())
    }

    /// The value of an element of digits as a number.
    pub fn number(&self, element: usize) -> Option<u64> {
        let text = self.text(element)?;
        if text.bytes().all(|byte| byte.is_ascii_digit()) { text.parse().ok() } else { None }
    }

    /// Sets an element. Values above 64 KiB and elements other than 2 to 128 are none: nothing is set.
    pub fn set(&mut self, element: usize, value: &[u8]) {
        let (Ok(start), Ok(length)) = (u32::try_from(self.values.len()), u16::try_from(value.len())) else { return };
        if (2..=ELEMENTS).contains(&element) {
            self.make_room(value.len());
            self.values.extend_from_slice(value);
            self.spans[element] = Span { start, length };
            self.present |= bit(element);
        }
    }

    /// Room for more. What is outgrown is wiped: an allocator would give it to others as it is.
    fn make_room(&mut self, more: usize) {
        let needed = self.values.len() + more;
        if needed > self.values.capacity() {
            let mut larger = Vec::with_capacity(needed.next_power_of_two().max(256));
            larger.extend_from_slice(&self.values);
            std::mem::replace(&mut self.values, larger).zeroize();
        }
    }

    /// Takes an element away; its value is wiped.
    pub fn remove(&mut self, element: usize) {
        if self.has(element) {
            let Span { start, length } = self.spans[element];
            self.values[start as usize..start as usize + usize::from(length)].zeroize();
            self.present &= !bit(element);
        }
    }

    /// Sets an element to that of another message, if it has it.
    pub fn echo(&mut self, from: &Self, element: usize) {
        if let Some(value) = from.get(element) {
            self.set(element, value);
        }
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
        let is_same = |element| self.get(element) == other.get(element);
        self.mti == other.mti && self.present == other.present && self.elements().all(is_same)
    }
}

/// The type, and which elements it has with how many characters: never a value.
impl fmt::Debug for Message {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.mti)?;
        self.elements().try_for_each(|element| write!(f, " {element}:{}", self.spans[element].length))
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
        for (element, value) in [(2, "4111"), (128, "mac"), (11, "000001"), (2, "55")] {
            message.set(element, value.as_bytes());
        }
        assert_eq!((message.text(2), message.number(11), message.text(128)), (Some("55"), Some(1), Some("mac")));
        assert_eq!(message.elements().collect::<Vec<_>>(), [2, 11, 128]);
        message.remove(2);
        assert_eq!((message.get(2), message.has(2), message.has(1), message.has(129)), (None, false, false, false));
        message.set(1, b"x");
        message.set(129, b"x");
        assert_eq!(message.elements().collect::<Vec<_>>(), [11, 128]);
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
        let capacity = message.values.capacity();
        message.clear(mti());
        message.values.resize(capacity, 1);
        message.values.clear();
        assert_eq!((message.get(2), message.elements().count()), (None, 0));
    }
}
