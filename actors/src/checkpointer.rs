//! The checkpointer's step: images of all slots, one part at a time between turns, into a file of its own.
//!
//! Owns when a checkpoint is due and the order in which one comes about; refuses to stop a partition for longer than a part
//! takes. A checkpoint gets its name only once everything it shows is durable in this epoch (P15). No threads in here: what
//! has to be waited for is said, and how is the caller's affair.
//!
//! ```text
//!  begin -> slot 0 .. 1,023, part by part (between turns) -> pages -> finish -> max(as_of) durable -> publish -> witness
//! ```

use std::sync::Arc;

use crossbeam::channel::{Receiver, Sender, bounded};
use tp_core::copying::{PartBytes, SlotPart};
use tp_core::ids::{Seq, SlotIndex};
use tp_core::partition::Partition;
use tp_planted::{Bug, has};
use tp_storage::{CheckpointError, CheckpointStore, CheckpointWriter, FinishedCheckpoint};

use crate::ask::ask;
use crate::config::CheckpointPolicy;
use crate::error::CheckpointFailed;
use crate::fold::CheckpointExtra;
use crate::shared::{Shared, Stage as Life};
use crate::writer_thread::WriterOrder;

/// Records that a partition tells between two turns.
const PART_RECORDS: usize = 4_096;
/// How long the witness after a checkpoint is waited for, ms.
const WITNESS_WAIT_MS: u64 = 5_000;

/// A checkpoint that was taken.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub struct CheckpointDone {
    /// Which one.
    pub generation: u64,
    /// Replay from it starts behind this number.
    pub as_of: Seq,
    /// The highest number that it shows.
    pub as_of_max: Seq,
    /// Size of its file.
    pub bytes: u64,
}

pub(crate) type CheckpointResult = Result<CheckpointDone, CheckpointFailed>;

/// What a step came to.
pub(crate) enum Advance {
    /// Something was done: go on.
    Made,
    /// Nothing can be done before this comes.
    Waits(Waits),
    /// The checkpoint is taken, or was given up.
    Ended(CheckpointResult),
}

/// What a checkpoint waits for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Waits {
    /// A partition's answer.
    Part,
    /// That this number is durable.
    Durable(Seq),
    /// The writer's witness.
    Witness,
}

/// An answer of a partition: its last number and a part, unless it has no such slot.
type PartAnswer = (Seq, Option<SlotPart>);

enum Stage {
    Rests,
    Pages { pages: Pages, asked: Receiver<PartAnswer>, answered: Option<PartAnswer> },
    Finished { finished: FinishedCheckpoint, as_of: Seq, as_of_max: Seq },
    Witnessing { done: CheckpointDone, witnessed: Receiver<()>, until_ms: u64 },
}

/// A checkpoint whose pages are being written.
struct Pages {
    writer: CheckpointWriter,
    extra: CheckpointExtra,
    slot: SlotIndex,
    /// Of the slot, once its first part is there.
    as_of: Option<Seq>,
}

/// The checkpoints of a running engine.
pub(crate) struct CheckpointStep {
    shared: Arc<Shared>,
    store: CheckpointStore,
    policy: CheckpointPolicy,
    epoch: u64,
    writer: Sender<WriterOrder>,
    /// Of the last one, or of the start.
    last_seq: Seq,
    last_ms: u64,
    stage: Stage,
    bytes: PartBytes,
}

impl CheckpointStep {
    pub(crate) fn new(
        shared: Arc<Shared>,
        store: CheckpointStore,
        policy: CheckpointPolicy,
        epoch: u64,
        writer: Sender<WriterOrder>,
    ) -> Self {
        let (last_seq, last_ms) = (shared.last_seq(), shared.clock.monotonic_ms());
        let (stage, bytes) = (Stage::Rests, PartBytes::new());
        Self { shared, store, policy, epoch, writer, last_seq, last_ms, stage, bytes }
    }

    pub(crate) const fn policy(&self) -> &CheckpointPolicy {
        &self.policy
    }

    /// Whether none is being taken.
    pub(crate) const fn rests(&self) -> bool {
        matches!(self.stage, Stage::Rests)
    }

    /// Whether the policy asks for one now.
    pub(crate) fn is_due(&self) -> bool {
        let new = self.shared.last_seq().0.saturating_sub(self.last_seq.0);
        let since_ms = u128::from(self.shared.clock.monotonic_ms().saturating_sub(self.last_ms));
        let by_events = self.policy.events.is_some_and(|events| new >= events);
        let by_time = self.policy.interval.is_some_and(|interval| new > 0 && since_ms >= interval.as_millis());
        (by_events || by_time) && !self.shared.poison.is_set()
    }

    /// Begins one. [`CheckpointStep::advance`] takes it on.
    ///
    /// # Errors
    /// [`CheckpointFailed`]: it ended at once.
    pub(crate) fn begin(&mut self) -> Result<(), CheckpointFailed> {
        self.shared.checkpoint_status.lock().is_running = true;
        let durable = self.shared.durable.point();
        let extra = CheckpointExtra { durable_seq: durable.seq, time_max: durable.time_max };
        match self.store.begin(self.epoch) {
            Ok(writer) => {
                let Some(slot) = SlotIndex::new(0) else { unreachable!("there are slots") };
                let asked = self.ask(slot, SlotPart::default(), Partition::begin_copy);
                let pages = Pages { writer, extra, slot, as_of: None };
                self.stage = Stage::Pages { pages, asked, answered: None };
                Ok(())
            }
            Err(error) => {
                let error = failed(error);
                self.note(&Err(error.clone()));
                Err(error)
            }
        }
    }

    /// Does the next thing. `pace` is told how many bytes were written, or read back, since the stage began.
    pub(crate) fn advance(&mut self, pace: &mut dyn FnMut(u64)) -> Advance {
        let advanced = match std::mem::replace(&mut self.stage, Stage::Rests) {
            Stage::Rests => Err(CheckpointFailed::Stopped),
            Stage::Pages { pages, asked, answered } => self.take_part(pages, asked, answered, pace),
            Stage::Finished { finished, as_of, as_of_max } => self.publish(finished, as_of, as_of_max, pace),
            Stage::Witnessing { done, witnessed, until_ms } => Ok(self.await_witness(done, witnessed, until_ms)),
        };
        let advanced = advanced.unwrap_or_else(|error| Advance::Ended(Err(error)));
        if let Advance::Ended(taken) = &advanced {
            self.note(taken);
        }
        advanced
    }

    /// Lets a thread wait for a partition's answer, for so long at most.
    pub(crate) fn wait_for_part(&mut self, at_most: std::time::Duration) {
        if let Stage::Pages { asked, answered, .. } = &mut self.stage
            && answered.is_none()
        {
            *answered = asked.recv_timeout(at_most).ok();
        }
    }

    /// Shows how one ended.
    fn note(&mut self, taken: &CheckpointResult) {
        (self.last_ms, self.last_seq) = (self.shared.clock.monotonic_ms(), self.shared.last_seq());
        let mut status = self.shared.checkpoint_status.lock();
        status.is_running = false;
        match taken {
            Ok(done) => {
                (status.generation, status.as_of) = (done.generation, done.as_of);
                status.time = Some(self.shared.clock.now());
            }
            Err(_) => status.failures += 1,
        }
    }

    fn ask(
        &self,
        slot: SlotIndex,
        old: SlotPart,
        take: fn(&mut Partition, SlotIndex, usize, SlotPart) -> Option<SlotPart>,
    ) -> Receiver<PartAnswer> {
        let partition = self.shared.partition_of(slot);
        ask(&self.shared, partition, move |partition, _| take(partition, slot, PART_RECORDS, old))
    }

    /// The next part as a page, once it is there. The partition tells its records, into memory that goes back and forth.
    fn take_part(
        &mut self,
        mut pages: Pages,
        asked: Receiver<PartAnswer>,
        answered: Option<PartAnswer>,
        pace: &mut dyn FnMut(u64),
    ) -> Result<Advance, CheckpointFailed> {
        let slot = pages.slot;
        let is_over = self.shared.poison.is_set()
            || (self.shared.lanes[self.shared.partition_of(slot)].is_closed() && asked.is_empty());
        let part = match answered.or_else(|| asked.try_recv().ok()) {
            // A poisoned partition's state may be ahead of the journal for ever.
            Some((as_of, Some(part))) if !self.shared.poison.is_set() => Some((as_of, part)),
            None if !is_over => {
                self.stage = Stage::Pages { pages, asked, answered: None };
                return Ok(Advance::Waits(Waits::Part));
            }
            Some(_) | None => None,
        };
        let Some((as_of, part)) = part else {
            let _ = pages.writer.discard(); // what is left of it is deleted at the next start
            return Err(CheckpointFailed::Stopped);
        };
        let as_of = *pages.as_of.get_or_insert(as_of);
        part.encode(&mut self.bytes);
        if let Err(error) = pages.writer.page(slot.get(), as_of.0 + u64::from(has(Bug::WatermarkOff)), &self.bytes) {
            drop(ask(&self.shared, self.shared.partition_of(slot), move |p, _| p.end_copy(slot)));
            let _ = pages.writer.discard(); // as above
            return Err(failed(error));
        }
        pace(pages.writer.bytes());
        let (next, asked) = if part.is_last() {
            let Some(next) = SlotIndex::new(slot.get() + 1) else { return self.finish(pages, pace) };
            pages.as_of = None;
            (next, self.ask(next, part, Partition::begin_copy))
        } else {
            (slot, self.ask(slot, part, Partition::copy_on))
        };
        pages.slot = next;
        self.stage = Stage::Pages { pages, asked, answered: None };
        Ok(Advance::Made)
    }

    fn finish(&mut self, pages: Pages, pace: &mut dyn FnMut(u64)) -> Result<Advance, CheckpointFailed> {
        let time = self.shared.clock.now().0;
        let finished = pages.writer.finish_paced(time, &pages.extra.encode(), pace).map_err(failed)?;
        let as_of_max = Seq(finished.as_of_max());
        self.stage = Stage::Finished { finished, as_of: Seq(pages.extra.durable_seq), as_of_max };
        Ok(Advance::Made)
    }

    /// Gives it its name, once all that it shows is durable.
    fn publish(
        &mut self,
        finished: FinishedCheckpoint,
        as_of: Seq,
        as_of_max: Seq,
        pace: &mut dyn FnMut(u64),
    ) -> Result<Advance, CheckpointFailed> {
        // An engine that ends without having made it durable never will.
        let is_over = self.shared.stage() == Life::Ended && self.shared.durable.seq() < as_of_max;
        if is_over || self.shared.poison.is_set() {
            finished.discard().map_err(failed)?;
            return Err(CheckpointFailed::Stopped);
        }
        if self.shared.durable.seq() < as_of_max && !has(Bug::CheckpointEarly) {
            self.stage = Stage::Finished { finished, as_of, as_of_max };
            return Ok(Advance::Waits(Waits::Durable(as_of_max)));
        }
        let bytes = finished.bytes();
        let generation = finished.publish_paced(pace).map_err(|error| {
            let _ = self.store.delete_unpublished(); // if this fails too, the next start does it
            failed(error)
        })?;
        let done = CheckpointDone { generation, as_of, as_of_max, bytes };
        let (sender, witnessed) = bounded(1); // dropped when it is done
        if self.writer.try_send(WriterOrder::Witness(sender)).is_err() {
            return Ok(Advance::Ended(Ok(done)));
        }
        self.shared.writer.wake();
        let until_ms = self.shared.clock.monotonic_ms() + WITNESS_WAIT_MS;
        self.stage = Stage::Witnessing { done, witnessed, until_ms };
        Ok(Advance::Made)
    }

    /// A checkpoint comes with a witness; it is taken without one all the same.
    fn await_witness(&mut self, done: CheckpointDone, witnessed: Receiver<()>, until_ms: u64) -> Advance {
        let is_waiting = witnessed.try_recv() == Err(crossbeam::channel::TryRecvError::Empty);
        if !is_waiting || self.shared.clock.monotonic_ms() >= until_ms || self.shared.poison.is_set() {
            return Advance::Ended(Ok(done));
        }
        self.stage = Stage::Witnessing { done, witnessed, until_ms };
        Advance::Waits(Waits::Witness)
    }
}

fn failed(error: CheckpointError) -> CheckpointFailed {
    CheckpointFailed::File(Arc::new(error))
}
