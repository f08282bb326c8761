//! What is decided and not durable yet, and how much of it there may be before partitions wait for the writer.
//!
//! Owns the two bounds: of *blocks*, so that all of it fits into the spare segment, or the reserve of the current one, however the writer
//! groups it (BND-1), and of *events*, so that what waits for the disk is no more than the disk takes in [`AHEAD_MS`] by its pace of
//! late. A disk of 600,000 events a second that stands still for 50 ms must not stop the decisions, or its next groups are small; one of
//! 60,000 must not be sent ten times what it takes in that time. Refuses to know queues, threads and clocks: time is passed in.
//!
//! Both counts are one word, so that whoever takes away learns whether somebody may have found it full before.

use std::sync::atomic::Ordering;

use crossbeam::utils::CachePadded;

use crate::sync::AtomicU64;

/// So long may what is on its way take the disk, ms, where that is more than the bound that always holds. Clients that wait for 100 ms
/// must not find all of them used up on the way.
const AHEAD_MS: u64 = 25;

/// The pace is taken over so long, ms.
const SPAN_MS: u64 = 100;

const EVENT_BITS: u32 = 32;
const EVENTS: u64 = (1 << EVENT_BITS) - 1;

/// The count and its bounds.
pub(crate) struct InFlight {
    /// Blocks in the high half, events in the low one.
    packed: CachePadded<AtomicU64>,
    blocks_max: u64,
    events_max: AtomicU64,
    /// What `events_max` never falls below.
    events_least: u64,
    follows_pace: bool,
}

impl InFlight {
    /// `events`: asked for; `None`: what the disk's pace allows.
    pub(crate) fn new(blocks_max: u64, events: Option<u64>) -> Self {
        let events_least = events.unwrap_or(blocks_max);
        Self {
            packed: CachePadded::new(AtomicU64::new(0)),
            blocks_max,
            events_max: AtomicU64::new(events_least),
            events_least,
            follows_pace: events.is_none(),
        }
    }

    fn is_above(&self, packed: u64) -> bool {
        packed >> EVENT_BITS >= self.blocks_max || packed & EVENTS >= self.events_max.load(Ordering::Acquire)
    }

    /// Whether no turn may start.
    pub(crate) fn is_full(&self) -> bool {
        self.is_above(self.packed.load(Ordering::Acquire))
    }

    /// A partition has decided.
    pub(crate) fn add(&self, blocks: u64, events: u64) {
        self.packed.fetch_add(blocks << EVENT_BITS | events, Ordering::AcqRel);
    }

    /// They are durable. Whether somebody may have found it full before: nobody else takes away.
    pub(crate) fn remove(&self, blocks: u64, events: u64) -> bool {
        let before = self.packed.fetch_sub(blocks << EVENT_BITS | events, Ordering::AcqRel);
        debug_assert!(before >> EVENT_BITS >= blocks && before & EVENTS >= events, "what was not added is taken away");
        self.is_above(before)
    }

    /// The disk takes so many events a second. Whether somebody may have found it full before who no longer would: whenever the bound
    /// rises, for a partition may look at it and at the count while this changes it.
    pub(crate) fn follow(&self, events_per_s: u64) -> bool {
        if !self.follows_pace {
            return false;
        }
        let most = (events_per_s / 1_000 * AHEAD_MS).clamp(self.events_least, EVENTS / 2);
        self.events_max.swap(most, Ordering::AcqRel) < most
    }
}

/// How many events a second became durable of late.
#[derive(Default)]
pub(crate) struct Pace {
    since_ms: u64,
    events: u64,
    /// Of the last span and the one before: one stall is not the disk's pace.
    last: [u64; 2],
}

impl Pace {
    /// So many are durable. `Some`: a span is over, and this is the pace.
    pub(crate) fn durable(&mut self, events: u64, now_ms: u64) -> Option<u64> {
        self.events += events;
        let span_ms = now_ms.saturating_sub(self.since_ms);
        if span_ms < SPAN_MS {
            return None;
        }
        self.last = [self.events.saturating_mul(1_000) / span_ms, self.last[0]];
        (self.since_ms, self.events) = (now_ms, 0);
        Some(self.last[0].max(self.last[1]))
    }
}

#[cfg(all(test, not(tp_loom)))]
mod tests {
    use super::*;

    #[test]
    fn it_is_full_of_blocks_or_of_events_and_whoever_takes_away_learns_it() {
        let in_flight = InFlight::new(10, Some(100));
        in_flight.add(9, 99);
        assert!(!in_flight.is_full());
        in_flight.add(1, 0);
        assert!(in_flight.is_full() && in_flight.remove(1, 0) && !in_flight.is_full());
        in_flight.add(0, 1);
        assert!(in_flight.is_full() && in_flight.remove(0, 1) && !in_flight.is_full());
        assert!(!in_flight.remove(9, 99));
    }

    #[test]
    fn events_follow_the_disk_s_pace_and_never_fall_below_what_always_fits() {
        let in_flight = InFlight::new(1_000, None);
        in_flight.add(10, 1_000);
        assert!(in_flight.is_full() && in_flight.follow(2_400_000) && !in_flight.is_full());
        assert!(!in_flight.follow(2_400_000), "it has not risen");
        in_flight.add(10, 58_999);
        assert!(!in_flight.is_full());
        in_flight.add(10, 1);
        assert!(in_flight.is_full());
        assert!(!in_flight.follow(0), "it falls");
        in_flight.remove(20, 59_001);
        assert!(!in_flight.is_full());
        in_flight.add(1, 1_000 - 999);
        assert!(in_flight.is_full(), "1,000 of blocks, and of events");
        let asked = InFlight::new(1_000, Some(1));
        asked.add(1, 1);
        assert!(!asked.follow(600_000) && asked.is_full(), "what was asked for stays");
    }

    #[test]
    fn the_pace_is_the_better_of_the_last_two_spans() {
        let mut pace = Pace::default();
        assert_eq!(pace.durable(5_000, 50), None);
        assert_eq!(pace.durable(5_000, 100), Some(100_000));
        assert_eq!(pace.durable(10_000, 300), Some(100_000), "it stood still in this one");
        assert_eq!(pace.durable(10_000, 500), Some(50_000));
    }
}
