//! One damage at a time: the same kinds as `tp-sim corruption` plants in the journal's own directory.
//!
//! Owns the list of damages and what each leaves of a file. Refuses to know engines.
//!
//! Invariant: a damage that changes nothing is no damage, and is not counted.

use std::ops::Range;

use crate::image::{Image, Stored};

/// Bytes that one write of the disk covers.
const SECTOR: usize = 512;

/// One damage to one file.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Damage {
    /// One bit of the written part.
    Flip { bit: usize },
    /// A sector reads as zeros: a lost write to a fresh place.
    Zeros { sector: usize },
    /// Two sectors lie in each other's place.
    Swap { sector: usize, with: usize },
    /// A write to `sector` went to `over`: a misdirected write.
    Copy { sector: usize, over: usize },
    /// The file ends early.
    Cut { length: usize },
    /// The file is missing.
    Delete,
}

/// What a damage leaves of a file.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum Left {
    /// The same bytes: no damage.
    Unchanged,
    /// The file, with other bytes or another length.
    Changed(Stored),
    /// No file.
    Missing,
}

/// The kinds, in the order of the report.
pub(crate) const KINDS: [&str; 6] =
    ["bit flipped", "sector of zeros", "sectors swapped", "sector misdirected", "file cut", "file deleted"];

impl Damage {
    /// Its kind: an index into [`KINDS`].
    pub(crate) const fn kind(self) -> usize {
        match self {
            Self::Flip { .. } => 0,
            Self::Zeros { .. } => 1,
            Self::Swap { .. } => 2,
            Self::Copy { .. } => 3,
            Self::Cut { .. } => 4,
            Self::Delete => 5,
        }
    }

    /// What it leaves of a file.
    pub(crate) fn apply(self, file: &Stored) -> Left {
        let before = &file.written;
        let mut after = file.clone();
        let range = |sector: usize| sector * SECTOR..((sector + 1) * SECTOR).min(before.len());
        match self {
            Self::Flip { bit } => after.written[bit / 8] ^= 1 << (bit % 8),
            Self::Zeros { sector } => after.written[range(sector)].fill(0),
            Self::Swap { sector, with } => {
                copy(before, range(sector), &mut after.written, range(with));
                copy(before, range(with), &mut after.written, range(sector));
            }
            Self::Copy { sector, over } => copy(before, range(sector), &mut after.written, range(over)),
            Self::Cut { length } => {
                after.written.truncate(length);
                after.length = length as u64;
            }
            Self::Delete => return Left::Missing,
        }
        if after == *file { Left::Unchanged } else { Left::Changed(after) }
    }
}

/// Sectors of one length only: the last one of a file may be shorter than the others.
fn copy(from: &[u8], source: Range<usize>, to: &mut [u8], target: Range<usize>) {
    if source.len() == target.len() {
        to[target].copy_from_slice(&from[source]);
    }
}

/// Every damage of an image: every `stride`-th bit and length, every sector, every file. With its file's index.
pub(crate) fn all(image: &Image, stride: usize) -> Vec<(usize, Damage)> {
    image
        .files
        .iter()
        .enumerate()
        .flat_map(|(index, file)| of(file, stride).map(move |damage| (index, damage)))
        .collect()
}

fn of(file: &Stored, stride: usize) -> impl Iterator<Item = Damage> + use<> {
    let written = file.written.len();
    let sectors = written.div_ceil(SECTOR);
    let in_sectors = (0..sectors).flat_map(move |sector| {
        [
            Damage::Zeros { sector },
            Damage::Swap { sector, with: (sector * 7 + 3) % sectors },
            Damage::Copy { sector, over: (sector * 5 + 1) % sectors },
        ]
    });
    std::iter::once(Damage::Delete)
        .chain((0..written * 8).step_by(stride).map(|bit| Damage::Flip { bit }))
        .chain(in_sectors)
        .chain((0..written).step_by(stride).map(|length| Damage::Cut { length }))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(written: Vec<u8>) -> Stored {
        let length = written.len() as u64 + 100;
        Stored { path: "file".into(), written, length }
    }

    #[test]
    fn every_damage_changes_what_it_says_and_nothing_else() {
        let file = file([[1; 512], [2; 512], [3; 512]].concat()[..1_500].to_vec());
        let after = |damage: Damage| match damage.apply(&file) {
            Left::Changed(after) => after,
            left => panic!("{damage:?}: {left:?}"),
        };
        let differing =
            |stored: &Stored| (0..1_500).filter(|at| stored.written[*at] != file.written[*at]).collect::<Vec<_>>();
        assert_eq!(differing(&after(Damage::Flip { bit: 8 * 77 + 3 })), [77]);
        assert_eq!(differing(&after(Damage::Zeros { sector: 1 })), (512..1_024).collect::<Vec<_>>());
        assert_eq!(differing(&after(Damage::Swap { sector: 0, with: 1 })), (0..1_024).collect::<Vec<_>>());
        assert_eq!(differing(&after(Damage::Copy { sector: 1, over: 0 })), (0..512).collect::<Vec<_>>());
        assert_eq!(after(Damage::Cut { length: 9 }).length, 9);
        assert_eq!(Damage::Delete.apply(&file), Left::Missing);
    }

    #[test]
    fn what_changes_nothing_is_no_damage() {
        let file = file(vec![5; 1_100]);
        assert_eq!(Damage::Swap { sector: 0, with: 1 }.apply(&file), Left::Unchanged);
        assert_eq!(Damage::Copy { sector: 1, over: 0 }.apply(&file), Left::Unchanged);
        assert_eq!(Damage::Swap { sector: 0, with: 2 }.apply(&file), Left::Unchanged, "the last sector is shorter");
    }

    #[test]
    fn the_stride_thins_bits_and_lengths_only() {
        let file = file(vec![5; 1_024]);
        let count = |stride: usize, kind: usize| of(&file, stride).filter(|damage| damage.kind() == kind).count();
        assert_eq!((count(1, 0), count(8, 0)), (8_192, 1_024));
        assert_eq!((count(1, 4), count(8, 4)), (1_024, 128));
        assert_eq!((count(1, 1), count(8, 1), count(8, 5)), (2, 2, 1));
    }
}
