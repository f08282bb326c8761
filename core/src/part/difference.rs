//! Records as differences: each field against what it is expected to be.
//!
//! Owns numbers and masks as bytes; refuses to know what fields mean. A record's fields are passed once, in one order, by one function
//! for both ways ([`Recorded::pass`]): what tells and what learns cannot drift apart.
//!
//! ```text
//! record      | mask: bit i says that field i is not as expected | difference of each such field, in order |
//! difference  zigzag of (value - expected), in 64 or 128 bits by the field: 0, -1, 1, -2, ... are 0, 1, 2, 3, ...
//! number      below 240: one byte; else 239 + n, and n bytes, little-endian, the last of them not zero
//! ```

use core::convert::Infallible;

use crate::image::ImageError;

/// The bytes are no records.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Unreadable;

/// Records of a kind, of which each has this many fields, in the same order.
pub(crate) trait Recorded {
    /// How many fields.
    const FIELDS: u32;
    /// What stands before the first record.
    fn none() -> Self;
    /// Passes every field once, with what it is expected to be after `before` and after the fields before it.
    ///
    /// # Errors
    /// What was learned is no record.
    fn pass<W: Way>(&mut self, before: &Self, way: &mut W) -> Result<(), W::Error>;
}

/// The two ways: to bytes, where a field comes back as it was given, and from bytes, where it comes back as it was once.
pub(crate) trait Way {
    /// Whatever a record holds can be told; not all bytes are records.
    type Error;

    /// A field of 64 bits or fewer.
    ///
    /// # Errors
    /// The bytes are at their end, or no number.
    fn word(&mut self, value: u64, expected: u64) -> Result<u64, Self::Error>;
    /// A field of 128 bits.
    ///
    /// # Errors
    /// As above.
    fn wide(&mut self, value: u128, expected: u128) -> Result<u128, Self::Error>;
    /// A record that stands within this one.
    ///
    /// # Errors
    /// As above.
    fn inner<R: Recorded>(&mut self, record: &mut R, before: &R) -> Result<(), Self::Error>;
    /// What a number that was learned stands for; `own`: what the record has that is told.
    ///
    /// # Errors
    /// It stands for nothing.
    fn sense<T>(&self, own: T, learned: impl FnOnce() -> Option<T>) -> Result<T, Self::Error>;

    /// A field of 32 bits.
    ///
    /// # Errors
    /// As above, and where it has more.
    fn small(&mut self, value: u32, expected: u32) -> Result<u32, Self::Error> {
        let word = self.word(u64::from(value), u64::from(expected))?;
        self.sense(value, || u32::try_from(word).ok())
    }
}

const fn mask_bytes<R: Recorded>() -> usize {
    R::FIELDS.div_ceil(8) as usize
}

/// Numbers below it are bytes by themselves.
const SINGLE_END: u8 = 240;
/// The longest number.
const NUMBER_BYTES: usize = 1 + size_of::<u128>();

const fn zigzag_word(difference: u64) -> u64 {
    difference << 1 ^ (difference.cast_signed() >> 63).cast_unsigned()
}
const fn word_of_zigzag(zigzag: u64) -> u64 {
    zigzag >> 1 ^ (zigzag & 1).wrapping_neg()
}
const fn zigzag_wide(difference: u128) -> u128 {
    difference << 1 ^ (difference.cast_signed() >> 127).cast_unsigned()
}
const fn wide_of_zigzag(zigzag: u128) -> u128 {
    zigzag >> 1 ^ (zigzag & 1).wrapping_neg()
}

/// Records of one kind as bytes.
#[derive(Clone, Debug)]
pub(crate) struct Differences<R> {
    bytes: Vec<u8>,
    count: u32,
    before: R,
}

impl<R: Recorded> Default for Differences<R> {
    fn default() -> Self {
        Self { bytes: Vec::new(), count: 0, before: R::none() }
    }
}

impl<R: Recorded> Differences<R> {
    pub(crate) fn clear(&mut self) {
        self.bytes.clear();
        (self.count, self.before) = (0, R::none());
    }
    fn push(&mut self, mut record: R) {
        let Ok(()) = tell(&mut self.bytes, &mut record, &self.before);
        self.count += 1;
        self.before = record;
    }
    /// Appends how many there are, and them.
    pub(crate) fn append_to(&self, bytes: &mut rkyv::util::AlignedVec) {
        bytes.extend_from_slice(&self.count.to_le_bytes());
        bytes.extend_from_slice(&self.bytes);
    }
}

impl<R: Recorded> Extend<R> for Differences<R> {
    fn extend<T: IntoIterator<Item = R>>(&mut self, records: T) {
        for record in records {
            self.push(record);
        }
    }
}

/// Tells the fields of one record.
struct TellsFields<'a> {
    bytes: &'a mut Vec<u8>,
    mask: u32,
    field: u32,
}

fn tell<R: Recorded>(bytes: &mut Vec<u8>, record: &mut R, before: &R) -> Result<(), Infallible> {
    let at = bytes.len();
    bytes.resize(at + mask_bytes::<R>(), 0);
    let mut fields = TellsFields { bytes, mask: 0, field: 0 };
    record.pass(before, &mut fields)?;
    debug_assert_eq!(fields.field, R::FIELDS, "every field is passed once");
    let mask = fields.mask.to_le_bytes();
    bytes[at..at + mask_bytes::<R>()].copy_from_slice(&mask[..mask_bytes::<R>()]);
    Ok(())
}

impl TellsFields<'_> {
    fn number(&mut self, number: u128) {
        self.mask |= 1 << self.field;
        if number < u128::from(SINGLE_END) {
            self.bytes.push(number.to_le_bytes()[0]);
            return;
        }
        let length = (u128::BITS - number.leading_zeros()).div_ceil(8);
        let mut bytes = [0; NUMBER_BYTES];
        bytes[0] = SINGLE_END - 1 + length.to_le_bytes()[0];
        bytes[1..].copy_from_slice(&number.to_le_bytes());
        self.bytes.extend_from_slice(&bytes[..=length as usize]);
    }
}

impl Way for TellsFields<'_> {
    type Error = Infallible;

    fn word(&mut self, value: u64, expected: u64) -> Result<u64, Infallible> {
        if value != expected {
            self.number(u128::from(zigzag_word(value.wrapping_sub(expected))));
        }
        self.field += 1;
        Ok(value)
    }
    fn wide(&mut self, value: u128, expected: u128) -> Result<u128, Infallible> {
        if value != expected {
            self.number(zigzag_wide(value.wrapping_sub(expected)));
        }
        self.field += 1;
        Ok(value)
    }
    fn inner<R: Recorded>(&mut self, record: &mut R, before: &R) -> Result<(), Infallible> {
        tell(self.bytes, record, before)
    }
    fn sense<T>(&self, own: T, _: impl FnOnce() -> Option<T>) -> Result<T, Infallible> {
        Ok(own)
    }
}

/// Learns records from bytes.
pub(crate) struct Learns<'a> {
    bytes: &'a [u8],
}

/// Learns the fields of one record.
struct LearnsFields<'a, 'b> {
    bytes: &'b mut &'a [u8],
    mask: u32,
}

impl<'a> Learns<'a> {
    pub(crate) const fn new(bytes: &'a [u8]) -> Self {
        Self { bytes }
    }

    /// How many records of this kind follow.
    ///
    /// # Errors
    /// The bytes end, or are too few for so many.
    pub(crate) fn count<R: Recorded>(&mut self) -> Result<u32, ImageError> {
        let (count, rest) = self.bytes.split_first_chunk::<4>().ok_or(ImageError::Invalid("cut short"))?;
        self.bytes = rest;
        let count = u32::from_le_bytes(*count);
        // No record is shorter than its mask.
        let fits = count as usize <= self.bytes.len() / mask_bytes::<R>();
        if fits { Ok(count) } else { Err(ImageError::Invalid("more records than bytes")) }
    }

    /// Hands over so many records.
    ///
    /// # Errors
    /// The bytes are no records, or `each`'s own.
    pub(crate) fn each<R: Recorded>(
        &mut self,
        count: u32,
        mut each: impl FnMut(&R) -> Result<(), ImageError>,
    ) -> Result<(), ImageError> {
        // Two that take turns: passing a record from bytes sets every field of it.
        let (mut before, mut record) = (R::none(), R::none());
        for _ in 0..count {
            learn(&mut self.bytes, &mut record, &before).map_err(|Unreadable| ImageError::Invalid("not a record"))?;
            each(&record)?;
            core::mem::swap(&mut before, &mut record);
        }
        Ok(())
    }

    /// # Errors
    /// Something follows.
    pub(crate) const fn end(self) -> Result<(), ImageError> {
        if self.bytes.is_empty() { Ok(()) } else { Err(ImageError::Invalid("more bytes than records")) }
    }
}

fn learn<R: Recorded>(bytes: &mut &[u8], record: &mut R, before: &R) -> Result<(), Unreadable> {
    let (said, rest) = bytes.split_at_checked(mask_bytes::<R>()).ok_or(Unreadable)?;
    *bytes = rest;
    let mut mask = [0; 4];
    mask[..said.len()].copy_from_slice(said);
    let mask = u32::from_le_bytes(mask);
    if u64::from(mask) >> R::FIELDS != 0 {
        return Err(Unreadable);
    }
    record.pass(before, &mut LearnsFields { bytes, mask })
}

impl LearnsFields<'_, '_> {
    /// The difference of the next field, where it has one.
    fn number(&mut self) -> Result<Option<u128>, Unreadable> {
        let is_told = self.mask & 1 != 0;
        self.mask >>= 1;
        if !is_told {
            return Ok(None);
        }
        let (&first, rest) = self.bytes.split_first().ok_or(Unreadable)?;
        let Some(length) = first.checked_sub(SINGLE_END) else {
            *self.bytes = rest;
            // What is as expected is not told.
            return if first == 0 { Err(Unreadable) } else { Ok(Some(u128::from(first))) };
        };
        let length = usize::from(length) + 1;
        let (said, rest) = rest.split_at_checked(length).ok_or(Unreadable)?;
        let mut number = [0; size_of::<u128>()];
        number[..length].copy_from_slice(said);
        *self.bytes = rest;
        let number = u128::from_le_bytes(number);
        // A number has one form.
        let is_shortest = said.last() != Some(&0) && number >= u128::from(SINGLE_END);
        is_shortest.then_some(Some(number)).ok_or(Unreadable)
    }
}

impl Way for LearnsFields<'_, '_> {
    type Error = Unreadable;

    fn word(&mut self, _: u64, expected: u64) -> Result<u64, Unreadable> {
        let Some(number) = self.number()? else { return Ok(expected) };
        let number = u64::try_from(number).map_err(|_| Unreadable)?;
        Ok(expected.wrapping_add(word_of_zigzag(number)))
    }
    fn wide(&mut self, _: u128, expected: u128) -> Result<u128, Unreadable> {
        Ok(self.number()?.map_or(expected, |number| expected.wrapping_add(wide_of_zigzag(number))))
    }
    fn inner<R: Recorded>(&mut self, record: &mut R, before: &R) -> Result<(), Unreadable> {
        learn(self.bytes, record, before)
    }
    fn sense<T>(&self, _: T, learned: impl FnOnce() -> Option<T>) -> Result<T, Unreadable> {
        learned().ok_or(Unreadable)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// A record with a field of each width, and one within it.
    #[derive(Clone, PartialEq, Eq, Debug, Default)]
    struct Sample {
        wide: u128,
        word: u64,
        small: u32,
        inner: Option<Box<Sample>>,
    }

    impl Recorded for Sample {
        const FIELDS: u32 = 4;
        fn none() -> Self {
            Self::default()
        }
        fn pass<W: Way>(&mut self, before: &Self, way: &mut W) -> Result<(), W::Error> {
            self.wide = way.wide(self.wide, before.wide)?;
            self.word = way.word(self.word, before.word)?;
            self.small = way.small(self.small, before.small)?;
            let is_there = way.word(u64::from(self.inner.is_some()), 0)?;
            if way.sense(is_there == 1, || [false, true].get(usize::try_from(is_there).ok()?).copied())? {
                return way.inner(self.inner.get_or_insert_default().as_mut(), before);
            }
            self.inner = None;
            Ok(())
        }
    }

    fn told(samples: &[Sample]) -> Vec<u8> {
        let mut differences = Differences::default();
        differences.extend(samples.iter().cloned());
        let mut bytes = rkyv::util::AlignedVec::new();
        differences.append_to(&mut bytes);
        bytes.to_vec()
    }

    fn learned(bytes: &[u8]) -> Result<Vec<Sample>, ImageError> {
        let (mut learns, mut samples) = (Learns::new(bytes), Vec::new());
        let count = learns.count::<Sample>()?;
        learns.each(count, |sample: &Sample| {
            samples.push(sample.clone());
            Ok(())
        })?;
        learns.end()?;
        Ok(samples)
    }

    /// One sample whose mask and differences are these.
    fn one(record: &[u8]) -> Vec<u8> {
        [&1_u32.to_le_bytes(), record].concat()
    }

    #[test]
    fn what_is_as_expected_takes_its_bit_only_and_what_is_near_takes_a_byte() {
        let sample = |wide, word| Sample { wide, word, ..Sample::default() };
        assert_eq!(told(&[sample(0, 0)]), one(&[0]));
        assert_eq!(told(&[sample(119, u64::MAX)]), one(&[0b11, 238, 1]), "119, -1");
        assert_eq!(told(&[sample(120, 0)]), one(&[0b01, 240, 240]));
        assert_eq!(told(&[sample(128, 0)]), one(&[0b01, 241, 0, 1]));
        let (first, second) = (sample(1 << 100, 5), sample((1 << 100) - 1, 5));
        assert_eq!(told(&[first.clone(), second.clone()])[4 + 1 + 14 + 1..], [0b01, 1], "the same but one less");
        assert_eq!(learned(&told(&[first.clone(), second.clone()])), Ok(vec![first, second]));
        let furthest = sample(1 << 127, 1 << 63);
        assert_eq!(told(&[furthest]).len(), 4 + 1 + 17 + 9, "the longest numbers");
    }

    #[test]
    fn a_record_has_one_form() {
        assert_eq!(learned(&one(&[0b11, 238, 1])).map(|samples| samples.len()), Ok(1));
        let cases: [(&str, &[u8]); 8] = [
            ("a difference of nothing", &[0b01, 0]),
            ("a number in two bytes that is below 240", &[0b01, 240, 239]),
            ("a number with a zero at its end", &[0b01, 241, 255, 0]),
            ("a field that there is not", &[0b1_0000, 1]),
            ("a word of nine bytes", &[0b10, 248, 0, 0, 0, 0, 0, 0, 0, 0, 1]),
            ("a field of 32 bits with more", &[0b100, 244, 0, 0, 0, 0, 2]),
            ("neither something nor nothing", &[0b1000, 4]),
            ("a number without its bytes", &[0b01, 255, 1, 1]),
        ];
        for (what, record) in cases {
            assert_eq!(learned(&one(record)), Err(ImageError::Invalid("not a record")), "{what}");
        }
        assert_eq!(learned(&one(&[0, 0])), Err(ImageError::Invalid("more bytes than records")));
        assert_eq!(learned(&[2, 0, 0, 0, 0]), Err(ImageError::Invalid("more records than bytes")));
        assert_eq!(learned(&[0; 3]), Err(ImageError::Invalid("cut short")));
    }

    fn sample() -> impl Strategy<Value = Sample> {
        let leaf = (any::<u128>(), 0..129_u32, any::<u64>(), 0..65_u32, any::<u32>());
        let leaf = leaf.prop_map(|(wide, wide_by, word, word_by, small)| Sample {
            wide: wide.checked_shr(wide_by).unwrap_or(0),
            word: word.checked_shr(word_by).unwrap_or(0),
            small,
            inner: None,
        });
        leaf.prop_recursive(3, 8, 1, |inner| {
            (inner.clone(), inner).prop_map(|(outer, inner)| Sample { inner: Some(Box::new(inner)), ..outer })
        })
    }

    proptest! {
        #[test]
        fn records_come_back_as_they_were_and_no_cut_is_records(samples in prop::collection::vec(sample(), 0..12)) {
            let bytes = told(&samples);
            prop_assert_eq!(learned(&bytes), Ok(samples));
            for cut in 0..bytes.len() {
                prop_assert!(learned(&bytes[..cut]).is_err(), "{} of {}", cut, bytes.len());
            }
        }

        /// Whatever bytes are taken for records are the bytes of these records.
        #[test]
        fn bytes_that_are_records_are_their_own(bytes in prop::collection::vec(any::<u8>(), 0..24), count in 0..3_u32) {
            let bytes = [&count.to_le_bytes()[..], &bytes].concat();
            if let Ok(samples) = learned(&bytes) {
                prop_assert_eq!(told(&samples), bytes);
            }
        }
    }
}
