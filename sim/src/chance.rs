//! Chance: every choice of a run comes from its seed.
//!
//! Owns the child generators: schedule, traffic, faults and sizes each draw from their own, so that a change of one leaves the
//! others' choices as they were.

use rand::{Rng as _, SeedableRng as _};
use rand_pcg::Pcg64Mcg;

/// A generator for one purpose.
#[derive(Clone, Debug)]
pub(crate) struct Chance(Pcg64Mcg);

impl Chance {
    /// The child of a run's seed for that purpose.
    pub(crate) fn of(seed: u64, purpose: &str) -> Self {
        let mut hasher = blake3::Hasher::new();
        hasher.update(&seed.to_le_bytes()).update(purpose.as_bytes());
        let mut child = [0; 16];
        child.copy_from_slice(&hasher.finalize().as_bytes()[..16]);
        Self(Pcg64Mcg::from_seed(child))
    }

    pub(crate) fn bits(&mut self) -> u64 {
        self.0.next_u64()
    }

    /// Below `bound`; 0 for 0.
    pub(crate) fn below(&mut self, bound: u64) -> u64 {
        u64::try_from((u128::from(self.bits()) * u128::from(bound)) >> 64).unwrap_or(0)
    }

    /// From `from` to `to`, both included.
    pub(crate) fn between(&mut self, from: u64, to: u64) -> u64 {
        from + self.below(to - from + 1)
    }

    pub(crate) fn index(&mut self, length: usize) -> usize {
        usize::try_from(self.below(length as u64)).unwrap_or(0)
    }

    /// True once in so many times.
    pub(crate) fn one_in(&mut self, times: u64) -> bool {
        self.below(times) == 0
    }

    pub(crate) fn pick<'a, T>(&mut self, from: &'a [T]) -> Option<&'a T> {
        from.get(self.index(from.len()))
    }

    /// One of the recent ones more often than one of the old ones.
    pub(crate) fn pick_recent<'a, T>(&mut self, from: &'a [T]) -> Option<&'a T> {
        let reach = if self.one_in(3) { from.len() } else { from.len().min(5) };
        from.get(from.len().checked_sub(1 + self.index(reach))?)
    }
}
