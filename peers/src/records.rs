//! The records that are written, and the judgement of what a reader gets back.
//!
//! Owns what record `n` holds: every value follows from its number alone, so that a reader needs no copy to tell a right value from a
//! wrong one. Refuses to know engines.
//!
//! Invariant: a reading is `Same` only if every committed record came back, once, in order, byte for byte.

use std::ops::RangeInclusive;

/// Committed records, each in a commit of its own.
pub(crate) const RECORDS: u64 = 200;
/// Bytes of a value; about what a small payment event takes.
const VALUE_BYTES: usize = 128;

/// The numbers of all committed records.
pub(crate) const fn numbers() -> RangeInclusive<u64> {
    1..=RECORDS
}

/// The value of record `number`: its number, then noise that follows from it (`SplitMix64`), so that nothing compresses or repeats.
pub(crate) fn value(number: u64) -> Vec<u8> {
    let mut bytes = number.to_le_bytes().to_vec();
    let mut state = number;
    while bytes.len() < VALUE_BYTES {
        state = state.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut noise = (state ^ (state >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        noise = (noise ^ (noise >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        bytes.extend((noise ^ (noise >> 31)).to_le_bytes());
    }
    bytes
}

/// A record as an engine hands it out.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Read {
    /// `None`: the engine handed out a key that no writer can have written.
    pub(crate) number: Option<u64>,
    pub(crate) value: Vec<u8>,
}

/// What a reader got who met no error.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Got {
    /// Every committed record, right.
    Same,
    /// Right ones only, but not all.
    Lost,
    /// A record or value that was never written, or one twice, or in another order.
    Wrong,
}

/// Judges one reading, in the engine's order.
pub(crate) fn judge(reading: &[Read]) -> Got {
    let mut last = 0;
    for read in reading {
        match read.number {
            Some(number) if number > last && number <= RECORDS && read.value == value(number) => last = number,
            _ => return Got::Wrong,
        }
    }
    if reading.len() as u64 == RECORDS { Got::Same } else { Got::Lost }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn all() -> Vec<Read> {
        numbers().map(|number| Read { number: Some(number), value: value(number) }).collect()
    }

    #[test]
    fn only_all_records_in_order_are_the_same() {
        assert_eq!(judge(&all()), Got::Same);
        assert_eq!(judge(&all()[..199]), Got::Lost);
        assert_eq!(judge(&all()[1..]), Got::Lost);
        assert_eq!(judge(&[]), Got::Lost);
    }

    #[test]
    fn what_was_never_written_is_wrong() {
        let altered = |change: &dyn Fn(&mut Vec<Read>)| {
            let mut reading = all();
            change(&mut reading);
            judge(&reading)
        };
        assert_eq!(altered(&|reading| reading[7].value[100] ^= 1), Got::Wrong);
        assert_eq!(altered(&|reading| reading[7].number = Some(9)), Got::Wrong);
        assert_eq!(altered(&|reading| reading[7].number = None), Got::Wrong);
        assert_eq!(altered(&|reading| reading.swap(7, 8)), Got::Wrong);
        assert_eq!(altered(&|reading| reading[8] = reading[7].clone()), Got::Wrong);
        let beyond = Read { number: Some(RECORDS + 1), value: value(RECORDS + 1) };
        assert_eq!(altered(&|reading| reading.push(beyond.clone())), Got::Wrong);
    }
}
