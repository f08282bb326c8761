//! One partition's queues: all that goes in and out of its thread.
//!
//! Owns the bounded queues and counters of a partition; refuses to know what a turn does with them.
//!
//! ```text
//!  clients ---> inbox (bounded: busy) -----+
//!  peers  ----> one queue per sender ------+--> partition --> ring --> writer
//!  cold path -> asks ----------------------+        ^--- buffers <------+
//! ```

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use crossbeam::queue::SegQueue;
use crossbeam::utils::CachePadded;
use tp_core::codec::EventBytes;
use tp_core::turn::Message;

use crate::ask::Ask;
use crate::inbound::Inbound;
use crate::sync::{ArrayQueue, AtomicBool};
use crate::wake::PartitionWaker;

/// Batches that a partition may have at the writer.
pub(crate) const RING_BATCHES: usize = 1024;
/// Buffers that come back.
const BUFFERS: usize = 64;

/// The events of one turn, numbered and encoded.
#[derive(Debug)]
pub(crate) struct Batch {
    pub(crate) first_seq: u64,
    pub(crate) count: u32,
    /// Blocks of 4 KiB that it is counted as while in flight.
    pub(crate) blocks: u64,
    pub(crate) time_min: u64,
    pub(crate) time_max: u64,
    pub(crate) bytes: EventBytes,
}

/// Counters of one partition, written by its own thread.
#[derive(Default)]
pub(crate) struct LaneCounters {
    pub(crate) turns: AtomicU64,
    pub(crate) commands: AtomicU64,
    pub(crate) events: AtomicU64,
    pub(crate) turn_events_max: AtomicU64,
    pub(crate) turns_put_off: AtomicU64,
    pub(crate) busy: AtomicU64,
    pub(crate) deadlines_passed: AtomicU64,
    pub(crate) shed: AtomicU64,
    pub(crate) replies_held: AtomicU64,
    /// Submitters that wait for a reply.
    pub(crate) owed: AtomicU64,
}

/// Adds to a counter that one thread writes.
pub(crate) fn count(counter: &AtomicU64, more: u64) {
    counter.store(counter.load(Ordering::Relaxed) + more, Ordering::Relaxed);
}

/// One partition's queues.
pub(crate) struct Lane {
    pub(crate) inbox: ArrayQueue<Inbound>,
    /// Commands in the inbox and those that the partition took out of it without deciding them: never more than the inbox holds,
    /// so that all of them can be watched for their deadlines outside it (BND-1).
    waiting: CachePadded<AtomicUsize>,
    /// Messages by sending partition; each has one producer and one consumer.
    pub(crate) peers: Box<[ArrayQueue<Message>]>,
    pub(crate) ring: ArrayQueue<Batch>,
    /// A pool: whether a buffer comes back is of no account.
    pub(crate) buffers: crossbeam::queue::ArrayQueue<EventBytes>,
    pub(crate) asks: SegQueue<Ask>,
    pub(crate) waker: PartitionWaker,
    /// The partition takes nothing any more: whoever pushes answers what is in the inbox itself.
    pub(crate) closed: AtomicBool,
    pub(crate) counters: LaneCounters,
}

impl Lane {
    pub(crate) fn new(partitions: usize, inbox: usize, peer_messages: usize) -> Self {
        Self {
            inbox: ArrayQueue::new(inbox),
            waiting: CachePadded::new(AtomicUsize::new(0)),
            peers: (0..partitions).map(|_| ArrayQueue::new(peer_messages)).collect(),
            ring: ArrayQueue::new(RING_BATCHES),
            buffers: crossbeam::queue::ArrayQueue::new(BUFFERS),
            asks: SegQueue::new(),
            waker: PartitionWaker::default(),
            closed: AtomicBool::new(false),
            counters: LaneCounters::default(),
        }
    }

    /// Before a command is put into the inbox; `false`: as many wait as may.
    pub(crate) fn enter(&self) -> bool {
        let may = self.waiting.fetch_add(1, Ordering::AcqRel) < self.inbox.capacity();
        if !may {
            self.leave(1);
        }
        may
    }

    /// So many commands that had entered wait no longer.
    pub(crate) fn leave(&self, commands: usize) {
        self.waiting.fetch_sub(commands, Ordering::AcqRel);
    }

    /// How many commands wait.
    pub(crate) fn waiting(&self) -> usize {
        self.waiting.load(Ordering::Acquire).min(self.inbox.capacity())
    }

    pub(crate) fn has_messages(&self) -> bool {
        self.peers.iter().any(|queue| !queue.is_empty())
    }
}

impl Lane {
    pub(crate) fn is_closed(&self) -> bool {
        self.closed.load(Ordering::SeqCst)
    }
}
