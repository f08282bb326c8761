//! A slab: values in chunks that never move, found by a 32-bit position.
//!
//! Positions are private to one process: they never reach an event, an image or a digest.

use crate::chunks::Chunks;

/// Values in a chunk: their cost of growth, and what a slot with few of them wastes at most.
const CHUNK: usize = 32;

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
    /// Takes memory for so many more values, and touches it.
    pub(crate) fn set_aside(&mut self, values: usize)
    where
        T: Clone,
    {
        self.values.set_aside(values, &None);
    }
    /// Looks at the place behind which the next value is added.
    pub(crate) fn look_at_end(&self) -> bool {
        self.values.newest().is_some_and(Option::is_some)
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
}
