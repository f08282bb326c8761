//! Damage to bytes: what a disk, a wire or an editor does to them.
//!
//! Owns the kinds of damage and the generator that draws them; refuses to know formats. The same seed gives the same damage.

/// A stream of numbers from a seed (`SplitMix64`, Steele, Lea and Flood 2014).
pub(crate) struct Numbers(pub(crate) u64);

impl Numbers {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        mixed ^ (mixed >> 31)
    }

    /// Below `end`, which is above 0.
    fn below(&mut self, end: usize) -> usize {
        usize::try_from(self.next() % end as u64).expect("below a usize")
    }

    /// A number that parsers stumble over, or any.
    fn number(&mut self) -> u64 {
        match self.below(8) {
            0 => 0,
            1 => u64::MAX,
            2 => 1 << self.below(64),
            3 => (1_u64 << self.below(64)).wrapping_sub(1),
            4 | 5 => self.next() % 512,
            _ => self.next(),
        }
    }
}

/// Damages the bytes one to five times, by this seed. `other`: bytes of the same kind, to splice in.
pub fn damage(bytes: &mut Vec<u8>, other: &[u8], seed: u64) {
    let mut numbers = Numbers(seed);
    for _ in 0..=numbers.below(5) {
        once(bytes, other, &mut numbers);
    }
}

fn once(bytes: &mut Vec<u8>, other: &[u8], numbers: &mut Numbers) {
    if bytes.is_empty() {
        return bytes.extend_from_slice(&numbers.next().to_le_bytes());
    }
    let at = numbers.below(bytes.len());
    let end = bytes.len().min(at + 1 + numbers.below(32));
    match numbers.below(12) {
        0..=2 => bytes[at] ^= 1 << numbers.below(8),
        3 => bytes[at] = [0, 1, 0x7F, 0x80, 0xFF, b'0', b',', b'\n'][numbers.below(8)],
        4 => bytes[at] = bytes[at].wrapping_add(1),
        5 | 6 => number(bytes, at, numbers),
        7 => bytes.truncate(at),
        8 => drop(bytes.drain(at..end)),
        9 => {
            let again = bytes[at..end].to_vec();
            bytes.splice(at..at, again).for_each(drop);
        }
        10 => {
            let swapped = numbers.below(bytes.len());
            bytes.swap(at, swapped);
        }
        _ => splice(bytes, at, other, numbers),
    }
}

/// Lengths, offsets and counts are hit as a whole.
fn number(bytes: &mut [u8], at: usize, numbers: &mut Numbers) {
    let width = 1 << numbers.below(5);
    let at = at / width * width;
    let end = bytes.len().min(at + width);
    let wide = u128::from(numbers.number()) | u128::from(numbers.number()) << 64;
    bytes[at..end].copy_from_slice(&wide.to_le_bytes()[..end - at]);
}

/// The end of another input at the end of this one.
fn splice(bytes: &mut Vec<u8>, at: usize, other: &[u8], numbers: &mut Numbers) {
    bytes.truncate(at);
    let from = numbers.below(other.len() + 1);
    bytes.extend_from_slice(&other[from..]);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_seed_damages_alike_and_others_otherwise() {
        let damaged = |seed| {
            let mut bytes = (0..200).collect::<Vec<u8>>();
            damage(&mut bytes, b"other", seed);
            bytes
        };
        let all: std::collections::BTreeSet<_> = (0..1000).map(damaged).collect();
        assert_eq!(damaged(7), damaged(7));
        assert!(all.len() > 900, "{} different of 1000", all.len());
    }

    #[test]
    fn bytes_of_any_length_can_be_damaged() {
        for length in 0..40_u8 {
            for seed in 0..500 {
                damage(&mut (0..length).collect(), &[], seed);
            }
        }
    }
}
