//! How much memory a parser may take for its input.
//!
//! Owns the measure; refuses to know parsers. What is allocated in all bounds the work too: a parser that reads a length and
//! believes it, or that does everything again for each byte, shows here without a clock.

use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};

/// A bound on memory: `bytes` and `per_byte` for each byte of the input.
#[derive(Clone, Copy, Debug)]
pub struct Bound {
    /// Bytes held at one time, for an input of no bytes.
    pub bytes: usize,
    /// Bytes held at one time, more for each byte of the input.
    pub per_byte: usize,
    /// How many times as much may be allocated in all.
    pub turnover: usize,
}

impl Bound {
    /// Runs `parse`, which reads an input of `length` bytes.
    ///
    /// # Panics
    /// When it takes more memory than the bound allows, or panics itself.
    pub fn hold<T>(self, length: usize, parse: impl FnOnce() -> T) -> T {
        let mut parsed = None;
        // A panic is caught and passed on, so that the counter of the next run starts where it should.
        let taken = allocation_counter::measure(|| parsed = Some(catch_unwind(AssertUnwindSafe(parse))));
        let value = match parsed.expect("the closure ran") {
            Ok(value) => value,
            Err(panic) => resume_unwind(panic),
        };
        let held = (self.bytes + self.per_byte * length) as u64;
        assert!(
            taken.bytes_max <= held,
            "bloat: {} bytes held for {length} bytes of input, bound {held}",
            taken.bytes_max
        );
        let all = held * self.turnover as u64;
        assert!(
            taken.bytes_total <= all,
            "bloat: {} bytes taken for {length} bytes of input, bound {all}",
            taken.bytes_total
        );
        value
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TIGHT: Bound = Bound { bytes: 100, per_byte: 2, turnover: 3 };

    #[test]
    fn memory_in_proportion_passes_and_its_value_comes_back() {
        assert_eq!(TIGHT.hold(50, || vec![7_u8; 200].len()), 200);
    }

    #[test]
    #[should_panic(expected = "bloat: 201 bytes held for 50 bytes of input, bound 200")]
    fn one_byte_too_many_at_once_is_bloat() {
        TIGHT.hold(50, || vec![7_u8; 201].len());
    }

    #[test]
    #[should_panic(expected = "bloat: 602 bytes taken")]
    fn the_same_memory_again_and_again_is_bloat() {
        TIGHT.hold(50, || (0..7).map(|_| vec![7_u8; 86].len()).sum::<usize>());
    }
}
