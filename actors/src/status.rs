//! What every actor shows of itself: queue depths, turn sizes, progress, alarms.
//!
//! Owns plain data copied at one moment; refuses to interpret it. Numbers of different actors are read one after the
//! other and need not fit each other exactly.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use tp_core::amount::Ledger;
use tp_core::digest::StateDigest;
use tp_core::ids::{Seq, SlotIndex};
use tp_core::invariants::Totals;
use tp_core::partition::{Partition, PartitionStats};
use tp_core::time::Time;
use tp_storage::Scrubbed;

use crate::error::PoisonCause;
use crate::lane::Lane;

/// The whole engine at about one moment.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct EngineStatus {
    /// Engine time.
    pub now: Time,
    /// The last sequence number given out.
    pub last_seq: Seq,
    /// The last one that is durable.
    pub durable_seq: Seq,
    /// Events decided and not yet durable.
    pub durable_lag_events: u64,
    /// Why the engine stopped acknowledging, if it did.
    pub poison: Option<PoisonCause>,
    /// Each partition, in order.
    pub partitions: Vec<PartitionStatus>,
    /// The journal writer.
    pub writer: WriterStatus,
    /// The checkpointer.
    pub checkpoint: CheckpointStatus,
    /// The catalogue.
    pub catalogue: CatalogueStatus,
    /// The reading of the journal for damage.
    pub scrub: ScrubStatus,
    /// The clock.
    pub clock: ClockStatus,
}

/// One partition.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
#[non_exhaustive]
pub struct PartitionStatus {
    /// Commands that wait to be taken by a turn: in the inbox, and those taken out of it to watch their deadlines.
    pub waiting_commands: u64,
    /// Of these, in the inbox.
    pub inbox_commands: u64,
    /// Messages of peers not yet taken.
    pub peer_messages: u64,
    /// Batches not yet taken by the writer.
    pub ring_batches: u64,
    /// Replies that wait for their events to be durable.
    pub replies_held: u64,
    /// Turns so far.
    pub turns: u64,
    /// Commands taken so far.
    pub commands: u64,
    /// Events made so far.
    pub events: u64,
    /// Events of the largest turn.
    pub turn_events_max: u64,
    /// Turns put off because too much was in flight.
    pub turns_put_off: u64,
    /// Submissions answered `busy` because as many waited as may.
    pub busy: u64,
    /// Commands that were answered `deadline_exceeded` while they waited: it had passed, or came before they could be durable.
    pub deadlines_passed: u64,
    /// Commands that were answered `busy` because they had waited too long in a queue that stood.
    pub shed: u64,
    /// Accounts, holds, keys, exchanges, as of the last timer tick.
    pub state: PartitionStats,
}

impl PartitionStatus {
    pub(crate) fn of(lane: &Lane, state: PartitionStats) -> Self {
        let shown = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        let counters = &lane.counters;
        Self {
            waiting_commands: lane.waiting() as u64,
            inbox_commands: lane.inbox.len() as u64,
            peer_messages: lane.peers.iter().map(|queue| queue.len() as u64).sum(),
            ring_batches: lane.ring.len() as u64,
            replies_held: shown(&counters.replies_held),
            turns: shown(&counters.turns),
            commands: shown(&counters.commands),
            events: shown(&counters.events),
            turn_events_max: shown(&counters.turn_events_max),
            turns_put_off: shown(&counters.turns_put_off),
            busy: shown(&counters.busy),
            deadlines_passed: shown(&counters.deadlines_passed),
            shed: shown(&counters.shed),
            state,
        }
    }
}

/// The journal writer.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
#[non_exhaustive]
pub struct WriterStatus {
    /// Frames with events so far.
    pub frames: u64,
    /// Events so far.
    pub events: u64,
    /// Bytes of events so far, before frames.
    pub event_bytes: u64,
    /// Events of the largest frame.
    pub frame_events_max: u64,
    /// Longest append with its sync, µs.
    pub append_us_max: u64,
    /// Seal frames so far.
    pub seals: u64,
    /// Bytes of the journal in use.
    pub journal_bytes: u64,
    /// Whether there is room for all that may be in flight, in a spare segment or the current one. `false`: turns wait for a spare
    /// segment; after one that was refused (`room_failures` has grown), commands are answered `no_space`.
    pub has_room: bool,
    /// Attempts to get a spare segment that failed so far.
    pub room_failures: u64,
    /// What the last of these attempts reported: a full disk, or a failing one.
    pub room_failure: Option<Arc<str>>,
}

/// The checkpointer.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
#[non_exhaustive]
pub struct CheckpointStatus {
    /// The newest generation taken by this engine; 0: none yet.
    pub generation: u64,
    /// The sequence number that replay would start behind.
    pub as_of: Seq,
    /// When it was taken, engine time.
    pub time: Option<Time>,
    /// Attempts that failed.
    pub failures: u64,
    /// Whether one is being taken.
    pub is_running: bool,
}

/// The catalogue.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
#[non_exhaustive]
pub struct CatalogueStatus {
    /// The last sequence number in it.
    pub seq: Seq,
    /// Durable events that it does not have yet.
    pub lag_events: u64,
    /// How often it had to be replaced while this engine ran.
    pub rebuilds: u64,
    /// Whether it cannot be used, or is catching up.
    pub is_stale: bool,
    /// Why it cannot be used now; cursors are answered with this error, and it is tried again once a second.
    pub failure: Option<Arc<str>>,
    /// Why it was replaced the last time, and where the old one is.
    pub note: Option<Arc<str>>,
}

/// The reading of the journal for damage.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
#[non_exhaustive]
pub struct ScrubStatus {
    /// Passes over all sealed segments so far.
    pub passes: u64,
    /// Bytes read so far, of all copies.
    pub bytes: u64,
    /// Segments of one copy that were rebuilt from the other.
    pub repaired: u64,
    /// Findings that could not be repaired. Anything but 0 wants an operator before the next start.
    pub damaged: u64,
    /// The last finding.
    pub note: Option<Arc<str>>,
}

impl ScrubStatus {
    pub(crate) fn add(&mut self, scrubbed: &Scrubbed) {
        match scrubbed {
            Scrubbed::Read(bytes) => self.bytes += bytes,
            Scrubbed::Repaired(problems) => {
                self.repaired += problems.len() as u64;
                self.note = problems.last().map(|problem| format!("repaired: {problem}").into());
            }
            Scrubbed::Found(problem) => {
                self.damaged += 1;
                self.note = Some(problem.to_string().into());
            }
            Scrubbed::PassEnded => self.passes += 1,
            _ => {}
        }
    }
}

/// The clock.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
#[non_exhaustive]
pub struct ClockStatus {
    /// Wall clock minus engine time, ms. Zero for a given clock.
    pub difference_ms: i64,
    /// Whether it is more than the steering is meant for (1 s).
    pub is_alarming: bool,
}

/// The totals of one ledger over all accounts.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct LedgerTotals {
    /// Which.
    pub ledger: Ledger,
    /// Sum of all debits, minor units.
    pub debits: u128,
    /// Sum of all credits, minor units.
    pub credits: u128,
    /// Money of open exchanges that has left one account and not reached the other: debits minus credits.
    pub in_transit: i128,
    /// Sum of all open holds, minor units.
    pub held: u128,
}

impl LedgerTotals {
    /// LED-1: what was debited was credited or is in transit.
    pub fn is_balanced(&self) -> bool {
        let Self { debits, credits, held, in_transit, .. } = *self;
        Totals { debits, credits, held, in_transit }.is_balanced()
    }

    /// Of the sums of all slots.
    pub(crate) fn of(sums: impl IntoIterator<Item = (Ledger, Totals)>) -> Vec<Self> {
        let mut all: BTreeMap<Ledger, Totals> = BTreeMap::new();
        for (ledger, totals) in sums {
            all.entry(ledger).or_default().add(&totals);
        }
        let totals_of = |(ledger, t): (Ledger, Totals)| {
            let Totals { debits, credits, held, in_transit } = t;
            Self { ledger, debits, credits, in_transit, held }
        };
        all.into_iter().map(totals_of).collect()
    }
}

/// The digests of a partition's slots at a time.
pub(crate) fn slot_digests(partition: &Partition, at: Time) -> Vec<(SlotIndex, [u8; 32])> {
    partition.slots().map(|slot| (slot.index(), slot.digest(at))).collect()
}

/// The digest of a state, from those of its partitions.
pub(crate) fn digest_of(partitions: Vec<Vec<(SlotIndex, [u8; 32])>>) -> StateDigest {
    let mut all: Vec<_> = partitions.into_iter().flatten().collect();
    all.sort_unstable_by_key(|(index, _)| *index);
    StateDigest::of_slots(all.into_iter().map(|(_, digest)| digest))
}
