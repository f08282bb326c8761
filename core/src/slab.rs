//! A slab: values in chunks that never move, found by a 32-bit position, and an index from a 128-bit id to a position.
//!
//! Positions are private to one
//! process: they never reach an event, an image or a digest. Nothing iterates over the index, so its order shows nowhere.

use core::hash::{BuildHasher as _, Hasher as _};

use foldhash::fast::FixedState;
use hashbrown::HashTable;

use crate::chunks::Chunks;

/// Values in a chunk: their cost of growth, and what a slot with few of them wastes at most.
const CHUNK: usize = 64;

/// Values at stable positions.
#[derive(Clone, Debug)]
pub(crate) struct Slab<T> {
    values: Chunks<Option<T>, CHUNK>,
    free: Vec<u32>,
    len: usize,
}

impl<T> Default for Slab<T> {
    fn default() -> Self {
        Self { values: Chunks::default(), free: Vec::new(), len: 0 }
    }
}

impl<T> Slab<T> {
    pub(crate) const fn len(&self) -> usize {
        self.len
    }
    pub(crate) fn get(&self, position: u32) -> Option<&T> {
        self.values.get(position)?.as_ref()
    }
    pub(crate) fn get_mut(&mut self, position: u32) -> Option<&mut T> {
        self.values.get_mut(position)?.as_mut()
    }
    pub(crate) fn insert(&mut self, value: T) -> u32 {
        self.len += 1;
        let Some(position) = self.free.pop() else { return self.values.push(Some(value)) };
        if let Some(place) = self.values.get_mut(position) {
            *place = Some(value);
        }
        position
    }
    pub(crate) fn remove(&mut self, position: u32) -> Option<T> {
        let value = self.values.get_mut(position)?.take()?;
        self.free.push(position);
        self.len -= 1;
        Some(value)
    }
    /// How many positions there are, with and without values.
    pub(crate) fn positions(&self) -> u32 {
        self.values.len()
    }
    pub(crate) fn iter(&self) -> impl Iterator<Item = &T> {
        self.values.iter().flatten()
    }
    /// The values, with their positions.
    pub(crate) fn entries(&self) -> impl Iterator<Item = (u32, &T)> {
        (0..).zip(self.values.iter()).filter_map(|(position, value)| Some((position, value.as_ref()?)))
    }
}

/// From an id to a position in a slab.
///
/// Each entry keeps 32 bits of its id's hash beside the position, so that neither a miss nor the growth of the table looks at
/// a value: values lie anywhere in memory, and each look at one is a wait.
#[derive(Clone, Debug)]
pub(crate) struct Index {
    table: HashTable<Entry>,
    state: FixedState,
}

#[derive(Clone, Copy, Debug)]
struct Entry {
    tag: u32,
    position: u32,
}

/// What the table places an entry by: all of it follows from the tag.
const fn spread(tag: u32) -> u64 {
    (tag as u64).wrapping_mul(0x9E37_79B9_7F4A_7C15) // odd, so the low bits stay as well spread as the tag's
}

impl Index {
    /// `seed` keeps clients who choose their ids from choosing collisions.
    pub(crate) const fn new(seed: u64) -> Self {
        Self { table: HashTable::new(), state: FixedState::with_seed(seed) }
    }
    fn tag(&self, id: u128, salt: u128) -> u32 {
        let mut hasher = self.state.build_hasher();
        hasher.write_u128(id);
        if salt != 0 {
            hasher.write_u128(salt);
        }
        (hasher.finish() >> 32) as u32
    }
    /// The position whose value is the one sought.
    pub(crate) fn find(&self, id: u128, salt: u128, mut is_it: impl FnMut(u32) -> bool) -> Option<u32> {
        let tag = self.tag(id, salt);
        self.table.find(spread(tag), |entry| entry.tag == tag && is_it(entry.position)).map(|entry| entry.position)
    }
    /// A guess at [`Index::find`] that looks at no value; nearly always right.
    pub(crate) fn guess(&self, id: u128, salt: u128) -> Option<u32> {
        let tag = self.tag(id, salt);
        self.table.find(spread(tag), |entry| entry.tag == tag).map(|entry| entry.position)
    }
    /// Adds a position whose id is not there.
    pub(crate) fn insert(&mut self, id: u128, salt: u128, position: u32) {
        let tag = self.tag(id, salt);
        self.table.insert_unique(spread(tag), Entry { tag, position }, |entry| spread(entry.tag));
    }
    /// Makes room for so many more.
    pub(crate) fn reserve(&mut self, more: usize) {
        self.table.reserve(more, |entry| spread(entry.tag));
    }
    pub(crate) fn remove(&mut self, id: u128, salt: u128, position: u32) {
        let tag = self.tag(id, salt);
        if let Ok(entry) = self.table.find_entry(spread(tag), |entry| entry.position == position) {
            entry.remove();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn positions_stay_and_are_used_again() {
        let mut slab = Slab::default();
        let positions: Vec<u32> = (0..1000).map(|n| slab.insert(n)).collect();
        assert_eq!(slab.remove(positions[500]), Some(500));
        assert_eq!((slab.get(positions[500]), slab.len()), (None, 999));
        assert_eq!(slab.insert(7), positions[500]);
        assert_eq!(slab.iter().count(), 1000);
        assert_eq!(slab.get(positions[999]), Some(&999));
    }

    #[test]
    fn an_index_finds_what_was_put_in_and_forgets_what_was_removed() {
        let mut index = Index::new(5);
        for n in 0..1000u32 {
            index.insert(u128::from(n) * 3, 0, n);
        }
        assert!((0..1000u32).all(|n| index.find(u128::from(n) * 3, 0, |p| p == n) == Some(n)));
        index.remove(30, 0, 10);
        assert_eq!(index.find(30, 0, |p| p == 10), None);
    }
}
