//! A hierarchical timing wheel: which holds may have expired. Four levels of 256 buckets of 1 ms, 256 ms, 65.5 s, 4.7 h.
//!
//! Owns entries of (time, authorization); refuses to know holds: an entry is a hint, looked up when it is due (a hold may be
//! closed or extended by then). Insert is O(1); advancing touches at most 256 buckets a level, however far time jumps.
//!
//! ```text
//! level 3   level 2   level 1   level 0   due
//! [256] --> [256] --> [256] --> [256] --> heap, earliest first
//! ```

#![allow(clippy::cast_possible_truncation)] // only the low byte of a shifted time is used

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use crate::chunks::Chunks;
use crate::ids::AuthorizationId;
use crate::time::Time;

const LEVELS: usize = 4;
const BUCKETS: usize = 256;

type Entry = (u64, u128);

/// The end of a list.
const END: u32 = u32::MAX;

/// An entry in the list of its bucket, or of the free ones. The id lies in two halves: whole, it would be aligned to 16 bytes.
#[derive(Clone)]
struct Node {
    at: u64,
    id: [u64; 2],
    next: u32,
}

impl Node {
    #[allow(clippy::cast_possible_truncation, reason = "the halves of an id")]
    const fn new((at, id): Entry, next: u32) -> Self {
        Self { at, id: [id as u64, (id >> 64) as u64], next }
    }
    fn entry(&self) -> Entry {
        (self.at, u128::from(self.id[1]) << 64 | u128::from(self.id[0]))
    }
}

/// Entries by time, from the earliest. Buckets are lists in one arena, so that nothing is allocated once it has its size.
pub(crate) struct Wheel {
    now: u64,
    nodes: Chunks<Node, 1024>,
    free: u32,
    /// The first node of each bucket; the last list is what lies beyond the last level, more than 49 days ahead.
    heads: Vec<u32>,
    /// No entry of the last list is earlier.
    far_from: u64,
    due: BinaryHeap<Reverse<Entry>>,
    moving: Vec<Entry>,
}

/// The list of what lies beyond the last level.
const FAR: usize = LEVELS * BUCKETS;

impl Wheel {
    /// An empty one at a time.
    pub(crate) fn at(now: Time) -> Self {
        Self {
            now: now.0,
            nodes: Chunks::default(),
            free: END,
            heads: vec![END; FAR + 1],
            far_from: u64::MAX,
            due: BinaryHeap::new(),
            moving: Vec::new(),
        }
    }

    /// Takes memory for so many more entries, and touches it.
    pub(crate) fn set_aside(&mut self, entries: usize) {
        self.nodes.set_aside(entries, &Node::new((0, 0), END));
    }

    pub(crate) fn insert(&mut self, at: Time, authorization: AuthorizationId) {
        self.place((at.0, authorization.0));
    }

    fn place(&mut self, entry: Entry) {
        if entry.0 <= self.now {
            self.due.push(Reverse(entry));
            return;
        }
        // The level of the highest byte in which the time differs from now: within it, the entry lies ahead on this page.
        let level = (63 - (entry.0 ^ self.now).leading_zeros() as usize) / 8;
        if level >= LEVELS {
            self.far_from = self.far_from.min(entry.0);
        }
        let list = if level >= LEVELS { FAR } else { level * BUCKETS + (entry.0 >> (8 * level)) as usize % BUCKETS };
        let node = Node::new(entry, self.heads[list]);
        self.heads[list] = match self.nodes.get_mut(self.free) {
            None => self.nodes.push(node), // `END` is no position
            Some(place) => {
                let next_free = core::mem::replace(place, node).next;
                core::mem::replace(&mut self.free, next_free)
            }
        };
    }

    /// Empties a list into `moving`.
    fn take(&mut self, list: usize, moving: &mut Vec<Entry>) {
        let mut at = core::mem::replace(&mut self.heads[list], END);
        while let Some(node) = self.nodes.get_mut(at) {
            moving.push(node.entry());
            let next = core::mem::replace(&mut node.next, self.free);
            self.free = at;
            at = next;
        }
    }

    /// Moves time on; what is reached becomes due.
    pub(crate) fn advance(&mut self, now: Time) {
        if now.0 <= self.now {
            return;
        }
        let mut moving = core::mem::take(&mut self.moving);
        for level in 0..=LEVELS {
            if level == LEVELS {
                self.far_from = u64::MAX;
                self.take(FAR, &mut moving);
                break;
            }
            let shift = 8 * level;
            let (from, to) = (self.now >> shift, now.0 >> shift);
            if from == to {
                break;
            }
            // All entries of a level lie on the page of `now`, ahead of it.
            let is_same_page = from >> 8 == to >> 8;
            let last = if is_same_page { to as usize % BUCKETS } else { BUCKETS - 1 };
            for bucket in from as usize % BUCKETS..=last {
                self.take(level * BUCKETS + bucket, &mut moving);
            }
            if is_same_page {
                break;
            }
        }
        self.now = now.0;
        for entry in moving.drain(..) {
            self.place(entry);
        }
        self.moving = moving;
    }

    /// The earliest entry that is due.
    pub(crate) fn pop_due(&mut self) -> Option<AuthorizationId> {
        self.due.pop().map(|Reverse((_, id))| AuthorizationId(id))
    }
    pub(crate) fn has_due(&self) -> bool {
        !self.due.is_empty()
    }

    /// A time before which nothing more becomes due; `None`: there are no entries.
    pub(crate) fn next(&self) -> Option<Time> {
        if self.has_due() {
            return Some(Time(self.now));
        }
        for level in 0..LEVELS {
            let shift = 8 * level;
            let at = (self.now >> shift) as usize % BUCKETS;
            let ahead = (at..BUCKETS).find(|bucket| self.heads[level * BUCKETS + bucket] != END);
            if let Some(bucket) = ahead {
                let page = self.now >> (shift + 8) << (shift + 8);
                return Some(Time((page | (bucket as u64) << shift).max(self.now + 1)));
            }
        }
        (self.far_from != u64::MAX).then_some(Time(self.far_from))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn everything_becomes_due_at_its_time_and_in_order(
            start in 0u64..1 << 36,
            set_aside in 0usize..3_000,
            times in prop::collection::vec(0u64..1 << 40, 1..100),
            steps in prop::collection::vec(prop_oneof![0u64..600, 0u64..1 << 20, 0u64..1 << 38], 1..60),
        ) {
            let mut wheel = Wheel::at(Time(start));
            wheel.set_aside(set_aside);
            let mut left: Vec<Entry> = times.iter().enumerate().map(|(n, t)| (*t, n as u128)).collect();
            for (at, id) in &left {
                wheel.insert(Time(*at), AuthorizationId(*id));
            }
            left.sort_unstable();
            let mut now = start;
            for step in steps {
                now += step;
                prop_assert!(wheel.next().is_none_or(|t| left.first().is_some_and(|e| t.0 <= e.0.max(now))));
                wheel.advance(Time(now));
                while let Some(id) = wheel.pop_due() {
                    let (at, expected) = left.remove(0);
                    prop_assert!(at <= now);
                    prop_assert_eq!(id.0, expected);
                }
                prop_assert!(left.first().is_none_or(|e| e.0 > now));
            }
        }
    }
}
