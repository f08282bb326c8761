//! Sequences that grow by a chunk at a time and never move what they hold.
//!
//! A doubling vector copies all it has at once: with millions of entries that stops a partition for a tenth of a second, and
//! tables of equal size all double in the same moment. Here an insertion costs at most one chunk, whatever is there already.
//! Owns chunking; refuses to know what the values are.

use std::collections::VecDeque;

/// Values by position, added at the end only.
#[derive(Clone, Debug)]
pub(crate) struct Chunks<T, const N: usize> {
    /// All but the last.
    full: Vec<Vec<T>>,
    /// The last one, at hand: what is added to thousands of sequences in turn waits for memory at each step on the way.
    last: Vec<T>,
    /// Empty chunks that were set aside.
    spare: Vec<Vec<T>>,
}

impl<T, const N: usize> Default for Chunks<T, N> {
    fn default() -> Self {
        Self { full: Vec::new(), last: Vec::new(), spare: Vec::new() }
    }
}

impl<T, const N: usize> Chunks<T, N> {
    pub(crate) fn get(&self, position: u32) -> Option<&T> {
        let position = position as usize;
        self.full.get(position / N).unwrap_or(&self.last).get(self.place(position))
    }
    pub(crate) fn get_mut(&mut self, position: u32) -> Option<&mut T> {
        let position = position as usize;
        let place = self.place(position);
        self.full.get_mut(position / N).unwrap_or(&mut self.last).get_mut(place)
    }
    /// The place in its chunk; beyond the last chunk, no place.
    const fn place(&self, position: usize) -> usize {
        if position / N > self.full.len() { usize::MAX } else { position % N }
    }
    /// How many positions there are.
    pub(crate) fn len(&self) -> u32 {
        let len = self.full.len() * N + self.last.len();
        u32::try_from(len).expect("budgets end far below 2^32 records a slot")
    }
    /// Adds a value; its position never changes.
    pub(crate) fn push(&mut self, value: T) -> u32 {
        if self.last.len() == N || self.last.capacity() == 0 {
            self.begin_chunk();
        }
        self.last.push(value);
        self.len() - 1
    }
    #[cold]
    fn begin_chunk(&mut self) {
        let chunk = self.spare.pop().unwrap_or_else(|| Vec::with_capacity(N));
        let before = core::mem::replace(&mut self.last, chunk);
        if !before.is_empty() {
            self.full.push(before);
        }
    }
    /// What was added last.
    pub(crate) fn newest(&self) -> Option<&T> {
        self.last.last()
    }
    pub(crate) fn iter(&self) -> impl Iterator<Item = &T> {
        self.full.iter().flatten().chain(&self.last)
    }
}

impl<T: Clone, const N: usize> Chunks<T, N> {
    /// Takes memory for so many more values and touches it, so that adding them waits for no page. `filler` is any value.
    pub(crate) fn set_aside(&mut self, values: usize, filler: &T) {
        set_aside::<T, N>(&mut self.spare, values, filler);
        self.full.reserve(values.div_ceil(N));
    }
}

fn set_aside<T: Clone, const N: usize>(spare: &mut Vec<Vec<T>>, values: usize, filler: &T) {
    let touched = || {
        let mut chunk = vec![filler.clone(); N];
        chunk.clear();
        chunk
    };
    let chunks = values.div_ceil(N);
    spare.extend(std::iter::repeat_with(touched).take(chunks.saturating_sub(spare.len())));
}

/// A queue: first in, first out. Both ends are at hand, as the end of [`Chunks`] is.
#[derive(Clone, Debug)]
pub(crate) struct Fifo<T, const N: usize> {
    /// The one that leaves next.
    front: Option<T>,
    /// All chunks but the last.
    full: VecDeque<Vec<T>>,
    last: Vec<T>,
    /// How many of the first chunk have left.
    left: usize,
    /// Empty chunks: a queue of a steady length allocates nothing.
    spare: Vec<Vec<T>>,
    /// So many are kept.
    spare_max: usize,
}

/// Empty chunks kept, if no more were set aside: the length of a queue in a steady state wavers by no more.
const SPARE_MAX: usize = 2;

impl<T, const N: usize> Default for Fifo<T, N> {
    fn default() -> Self {
        let (full, last, spare) = (VecDeque::new(), Vec::new(), Vec::new());
        Self { front: None, full, last, left: 0, spare, spare_max: SPARE_MAX }
    }
}

impl<T: Copy, const N: usize> Fifo<T, N> {
    /// Takes memory for so many more values and touches it, so that adding them waits for no page. `filler` is any value.
    pub(crate) fn set_aside(&mut self, values: usize, filler: T) {
        set_aside::<T, N>(&mut self.spare, values, &filler);
        self.spare_max = self.spare_max.max(self.spare.len());
        self.full.reserve(values.div_ceil(N));
    }
    pub(crate) fn push_back(&mut self, value: T) {
        if self.last.len() == N || self.last.capacity() == 0 {
            self.begin_chunk();
        }
        self.last.push(value);
        self.front.get_or_insert(value);
    }
    #[cold]
    fn begin_chunk(&mut self) {
        let chunk = self.spare.pop().unwrap_or_else(|| Vec::with_capacity(N));
        let before = core::mem::replace(&mut self.last, chunk);
        if !before.is_empty() {
            self.full.push_back(before);
        }
    }
    /// The one that leaves after `at` others.
    pub(crate) fn get(&self, at: usize) -> Option<&T> {
        let at = at + self.left;
        self.full.get(at / N).map_or_else(|| self.last.get(at - self.full.len() * N), |chunk| chunk.get(at % N))
    }
    fn get_mut(&mut self, at: usize) -> Option<&mut T> {
        let (at, full) = (at + self.left, self.full.len() * N);
        if at < full { self.full.get_mut(at / N)?.get_mut(at % N) } else { self.last.get_mut(at - full) }
    }
    pub(crate) const fn front(&self) -> Option<&T> {
        self.front.as_ref()
    }
    /// Puts another value in the place of the one that leaves next.
    pub(crate) fn set_front(&mut self, value: T) {
        if let Some(place) = self.get_mut(0) {
            *place = value;
            self.front = Some(value);
        }
    }
    pub(crate) fn pop_front(&mut self) -> Option<T> {
        let value = self.front?;
        self.left += 1;
        if self.left == N {
            self.left = 0;
            match self.full.pop_front() {
                Some(mut chunk) if self.spare.len() < self.spare_max => {
                    chunk.clear();
                    self.spare.push(chunk);
                }
                Some(_) => {}
                None => self.last.clear(),
            }
        }
        self.front = self.get(0).copied();
        Some(value)
    }
    /// Takes the one out that would leave after `at` others. Meant for a few of the first.
    pub(crate) fn remove(&mut self, at: usize) {
        for at in (0..at).rev() {
            let Some(value) = self.get(at).copied() else { return };
            if let Some(place) = self.get_mut(at + 1) {
                *place = value;
            }
        }
        self.pop_front();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn positions_count_up_and_stay() {
        let mut chunks = Chunks::<u32, 4>::default();
        assert!((0..100).all(|n| chunks.push(n) == n));
        *chunks.get_mut(7).expect("there") = 700;
        assert_eq!(
            (chunks.get(6), chunks.get(7), chunks.get(99), chunks.get(100)),
            (Some(&6), Some(&700), Some(&99), None)
        );
        assert_eq!(chunks.iter().count(), 100);
    }

    #[test]
    fn what_was_set_aside_is_used_before_anything_is_allocated() {
        let (mut chunks, mut fifo) = (Chunks::<u32, 4>::default(), Fifo::<u32, 4>::default());
        chunks.set_aside(9, &0);
        fifo.set_aside(9, 0);
        assert!(chunks.len() == 0 && fifo.front().is_none(), "nothing is in it");
        assert!(chunks.spare.iter().chain(&fifo.spare).all(|chunk| chunk.capacity() == 4 && chunk.is_empty()));
        for n in 0..12 {
            assert_eq!((chunks.push(n), chunks.spare.len()), (n, 2 - n as usize / 4));
            fifo.push_back(n);
        }
        assert!(fifo.spare.is_empty());
        assert!((0..12).all(|n| fifo.pop_front() == Some(n)));
        assert_eq!((fifo.spare.len(), fifo.last.capacity()), (2, 4), "they come back, or stay the last");
    }

    proptest! {
        #[test]
        fn a_fifo_does_what_a_deque_does(steps in prop::collection::vec((0u8..5, 0usize..6), 0..300)) {
            let (mut fifo, mut deque) = (Fifo::<usize, 4>::default(), VecDeque::new());
            for (n, (step, at)) in steps.into_iter().enumerate() {
                match step {
                    0 | 1 => {
                        fifo.push_back(n);
                        deque.push_back(n);
                    }
                    2 => prop_assert_eq!(fifo.pop_front(), deque.pop_front()),
                    3 if at < deque.len() => {
                        fifo.remove(at);
                        deque.remove(at);
                    }
                    4 => {
                        fifo.set_front(n);
                        deque.front_mut().into_iter().for_each(|front| *front = n);
                        prop_assert_eq!(fifo.front(), deque.front());
                    }
                    _ => {}
                }
                prop_assert!((0..8).all(|at| fifo.get(at) == deque.get(at)));
            }
        }
    }
}
