//! Integers as they lie at rest: a 128-bit one on eight bytes, a 96-bit one on four, smaller ones on two. In a struct of millions the
//! gaps that alignment makes, and bits that an amount never has, are memory to be touched for the first time and caches filled with nothing.
//!
//! Owns the forms and the checked sums in them; refuses to know what they count.

use crate::amount::Amount;
use crate::time::Time;

/// 128 bits on eight bytes: an id or a sum.
#[derive(Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Wide([u64; 2]);

impl Wide {
    #[allow(clippy::cast_possible_truncation, reason = "the lower half, and the upper one")]
    pub(crate) const fn new(value: u128) -> Self {
        Self([value as u64, (value >> 64) as u64])
    }
    pub(crate) const fn get(self) -> u128 {
        (self.0[1] as u128) << 64 | self.0[0] as u128
    }
}

/// A single amount, below 2^96, on four bytes.
#[derive(Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Single([u32; 3]);

impl Single {
    #[allow(clippy::cast_possible_truncation, reason = "an amount has three words")]
    pub(crate) const fn new(amount: Amount) -> Self {
        let value = amount.get();
        Self([value as u32, (value >> 32) as u32, (value >> 64) as u32])
    }
    pub(crate) const fn get(self) -> u128 {
        (self.0[2] as u128) << 64 | (self.0[1] as u128) << 32 | self.0[0] as u128
    }
    pub(crate) fn amount(self) -> Amount {
        // Three words are below 2^96.
        Amount::new(self.get()).unwrap_or(Amount::MAX)
    }
}

/// 48 bits on two bytes: a time, or what nearly always is below 2^48.
#[derive(Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Short([u16; 3]);

impl Short {
    /// `None` from 2^48 up.
    pub(crate) const fn new(value: u64) -> Option<Self> {
        if value >> 48 == 0 { Some(Self::of_low(value)) } else { None }
    }
    /// Times have 48 bits.
    pub(crate) const fn of_time(time: Time) -> Self {
        debug_assert!(time.0 <= Time::MAX.0, "no time is later");
        Self::of_low(time.0)
    }
    #[allow(clippy::cast_possible_truncation, reason = "three words, and what is above is not meant")]
    const fn of_low(value: u64) -> Self {
        Self([value as u16, (value >> 16) as u16, (value >> 32) as u16])
    }
    pub(crate) const fn get(self) -> u64 {
        (self.0[2] as u64) << 32 | (self.0[1] as u64) << 16 | self.0[0] as u64
    }
}

/// 32 bits on two bytes: a count or a position.
#[derive(Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Pair([u16; 2]);

impl Pair {
    #[allow(clippy::cast_possible_truncation, reason = "the lower half, and the upper one")]
    pub(crate) const fn new(value: u32) -> Self {
        Self([value as u16, (value >> 16) as u16])
    }
    pub(crate) const fn get(self) -> u32 {
        (self.0[1] as u32) << 16 | self.0[0] as u32
    }
}

/// What may be added to and taken from, within its range.
pub(crate) trait Tally: Copy {
    fn value(self) -> u128;
    /// `None` beyond its range.
    fn of(value: u128) -> Option<Self>;
}

/// Sums of a slot stay below 2^127, so that differences of two have a sign.
const SUM_END: u128 = 1 << 127;

impl Tally for u128 {
    fn value(self) -> u128 {
        self
    }
    fn of(value: u128) -> Option<Self> {
        (value < SUM_END).then_some(value)
    }
}

impl Tally for Wide {
    fn value(self) -> u128 {
        self.get()
    }
    fn of(value: u128) -> Option<Self> {
        (value < SUM_END).then_some(Self::new(value))
    }
}

impl Tally for Single {
    fn value(self) -> u128 {
        self.get()
    }
    fn of(value: u128) -> Option<Self> {
        Amount::new(value).map(Self::new)
    }
}

impl core::fmt::Debug for Wide {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        self.get().fmt(f)
    }
}

impl core::fmt::Debug for Single {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        self.get().fmt(f)
    }
}

impl core::fmt::Debug for Pair {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        self.get().fmt(f)
    }
}

impl core::fmt::Debug for Short {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        self.get().fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn they_lie_without_gaps() {
        assert_eq!((size_of::<Wide>(), align_of::<Wide>()), (16, 8));
        assert_eq!((size_of::<Single>(), align_of::<Single>()), (12, 4));
        assert_eq!((size_of::<Short>(), align_of::<Short>()), (6, 2));
        assert_eq!((size_of::<Pair>(), align_of::<Pair>()), (4, 2));
    }

    #[test]
    fn nothing_beyond_its_range_is_taken() {
        assert_eq!((Wide::of(SUM_END), <u128 as Tally>::of(SUM_END)), (None, None));
        assert_eq!(Wide::of(SUM_END - 1).map(Wide::get), Some(SUM_END - 1));
        assert_eq!(Single::of(Amount::MAX.get() + 1), None);
        assert_eq!(Single::of(Amount::MAX.get()).map(Single::amount), Some(Amount::MAX));
        assert_eq!((Short::new(1 << 48), Short::new((1 << 48) - 1).map(Short::get)), (None, Some((1 << 48) - 1)));
    }

    proptest! {
        #[test]
        fn each_comes_back_as_it_was(value in any::<u128>()) {
            prop_assert_eq!(Wide::new(value).get(), value);
            let amount = Amount::new(value >> 32).expect("96 bits");
            prop_assert_eq!((Single::new(amount).get(), Single::new(amount).amount()), (value >> 32, amount));
            let short = u64::try_from(value >> 80).expect("48 bits");
            prop_assert_eq!(Short::new(short).map(Short::get), Some(short));
            prop_assert_eq!(Short::of_time(Time(short)).get(), short);
            let pair = u32::try_from(value >> 96).expect("32 bits");
            prop_assert_eq!(Pair::new(pair).get(), pair);
        }
    }
}
