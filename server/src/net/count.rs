//! How many of something there are, each counted by what it holds: gone with it, also when what it serves panics.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// The number of those that are there.
#[derive(Clone, Default)]
pub(crate) struct Count(Arc<AtomicUsize>);

/// One of them, until it is dropped.
pub(crate) struct Counted(Count);

impl Count {
    /// One more.
    pub(crate) fn one(&self) -> Counted {
        self.0.fetch_add(1, Ordering::AcqRel);
        Counted(self.clone())
    }

    /// How many there are.
    pub(crate) fn get(&self) -> usize {
        self.0.load(Ordering::Acquire)
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.0.fetch_sub(1, Ordering::AcqRel);
    }
}
