//! The checkpointer's thread: images of all slots, one at a time between turns, into a file of its own.
//!
//! Owns when a checkpoint is taken and its pace; refuses to stop a partition for longer than a part takes. A checkpoint
//! gets its name only once everything it shows is durable in this epoch (P15).
//!
//! ```text
//!  begin -> slot 0 .. 1,023, part by part (between turns) -> pages, throttled -> finish -> max(as_of) durable -> publish
//! ```

use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use crossbeam::channel::{Receiver, RecvTimeoutError, Sender, bounded};
use tp_core::copying::{PartBytes, SlotPart};
use tp_core::ids::{Seq, SlotIndex};
use tp_core::partition::Partition;
use tp_storage::{CheckpointError, CheckpointStore, CheckpointWriter};

use crate::ask::{answer, ask};
use crate::config::CheckpointPolicy;
use crate::error::CheckpointFailed;
use crate::fold::CheckpointExtra;
use crate::shared::Shared;
use crate::writer_thread::WriterOrder;

/// Records that a partition copies between two turns: about a megabyte, a fraction of a millisecond.
const PART_RECORDS: usize = 4_096;

/// Between two looks at whether one is due.
const POLL: Duration = Duration::from_millis(100);

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

/// Orders to the checkpointer.
pub(crate) enum CheckpointOrder {
    Take(Sender<CheckpointResult>),
    Stop,
}

/// The running checkpointer.
pub(crate) struct CheckpointerHandle {
    pub(crate) thread: JoinHandle<()>,
    pub(crate) orders: Sender<CheckpointOrder>,
}

/// Starts the checkpointer.
pub(crate) fn start(
    shared: Arc<Shared>,
    store: CheckpointStore,
    policy: CheckpointPolicy,
    epoch: u64,
    writer: Sender<WriterOrder>,
) -> std::io::Result<CheckpointerHandle> {
    let (orders, inbox) = bounded(16);
    let last_seq = shared.last_seq();
    let thread = std::thread::Builder::new().name("tp-checkpoint".into()).spawn(move || {
        let mut crank = Crank { shared, store, policy, epoch, writer, last_seq, last: Instant::now() };
        crank.run(&inbox);
    })?;
    Ok(CheckpointerHandle { thread, orders })
}

struct Crank {
    shared: Arc<Shared>,
    store: CheckpointStore,
    policy: CheckpointPolicy,
    epoch: u64,
    writer: Sender<WriterOrder>,
    /// Of the last one, or of the start.
    last_seq: Seq,
    last: Instant,
}

impl Crank {
    fn run(&mut self, inbox: &Receiver<CheckpointOrder>) {
        loop {
            match inbox.recv_timeout(POLL) {
                Ok(CheckpointOrder::Stop) | Err(RecvTimeoutError::Disconnected) => return,
                Ok(CheckpointOrder::Take(reply)) => {
                    let _ = reply.send(self.take()); // the caller may have given up
                }
                Err(RecvTimeoutError::Timeout) if self.is_due() => {
                    let _ = self.take(); // counted; tried again when it is due again
                }
                Err(RecvTimeoutError::Timeout) => {}
            }
        }
    }

    fn is_due(&self) -> bool {
        let new = self.shared.last_seq().0.saturating_sub(self.last_seq.0);
        let by_events = self.policy.events.is_some_and(|events| new >= events);
        let by_time = self.policy.interval.is_some_and(|interval| new > 0 && self.last.elapsed() >= interval);
        (by_events || by_time) && !self.shared.poison.is_set()
    }

    /// Takes one and shows it.
    fn take(&mut self) -> CheckpointResult {
        self.shared.checkpoint_status.lock().is_running = true;
        let taken = self.write();
        (self.last, self.last_seq) = (Instant::now(), self.shared.last_seq());
        let mut status = self.shared.checkpoint_status.lock();
        status.is_running = false;
        match &taken {
            Ok(done) => {
                (status.generation, status.as_of) = (done.generation, done.as_of);
                status.time = Some(self.shared.clock.now());
            }
            Err(_) => status.failures += 1,
        }
        taken
    }

    fn write(&self) -> CheckpointResult {
        let durable = self.shared.durable.point();
        let extra = CheckpointExtra { durable_seq: durable.seq, time_max: durable.time_max };
        let mut writer = self.store.begin(self.epoch).map_err(failed)?;
        if let Err(error) = self.write_pages(&mut writer) {
            let _ = writer.discard(); // what is left of it is deleted at the next start
            return Err(error);
        }
        let time = self.shared.clock.now().0;
        let mut pace = self.pace();
        let finished = writer.finish_paced(time, &extra.encode(), &mut pace).map_err(failed)?;
        let as_of_max = Seq(finished.as_of_max());
        if !self.shared.durable.wait(as_of_max, None, || self.shared.poison.is_set()) {
            finished.discard().map_err(failed)?;
            return Err(CheckpointFailed::Stopped);
        }
        if self.shared.poison.is_set() {
            finished.discard().map_err(failed)?;
            return Err(CheckpointFailed::Stopped);
        }
        let bytes = finished.bytes();
        let generation = finished.publish_paced(&mut self.pace()).map_err(|error| {
            let _ = self.store.delete_unpublished(); // if this fails too, the next start does it
            failed(error)
        })?;
        self.witness();
        Ok(CheckpointDone { generation, as_of: Seq(extra.durable_seq), as_of_max, bytes })
    }

    /// Slot by slot, each as it stands between two turns, in parts that are taken between turns too, at the policy's pace. The
    /// partition only copies records, into memory that goes back and forth.
    fn write_pages(&self, writer: &mut CheckpointWriter) -> Result<(), CheckpointFailed> {
        let mut pace = self.pace();
        let (mut part, mut bytes) = (SlotPart::default(), PartBytes::new());
        for slot in SlotIndex::all() {
            let as_of;
            (as_of, part) = self.part(slot, part, Partition::begin_copy)?;
            loop {
                part.encode(&mut bytes);
                if let Err(error) = writer.page(slot.get(), as_of.0, &bytes) {
                    drop(ask(&self.shared, self.shared.partition_of(slot), move |p, _| p.end_copy(slot)));
                    return Err(failed(error));
                }
                pace(writer.bytes());
                if part.is_last() {
                    break;
                }
                (_, part) = self.part(slot, part, Partition::copy_on)?;
            }
        }
        Ok(())
    }

    fn part(
        &self,
        slot: SlotIndex,
        old: SlotPart,
        take: fn(&mut Partition, SlotIndex, usize, SlotPart) -> Option<SlotPart>,
    ) -> Result<(Seq, SlotPart), CheckpointFailed> {
        let partition = self.shared.partition_of(slot);
        let taken = ask(&self.shared, partition, move |partition, _| take(partition, slot, PART_RECORDS, old));
        let (as_of, part) = answer(&self.shared, partition, &taken).ok_or(CheckpointFailed::Stopped)?;
        Ok((as_of, part.ok_or(CheckpointFailed::Stopped)?))
    }

    /// Sleeps whenever more bytes have passed than the policy's rate allows, writing or reading back: the journal's disk is the
    /// same one.
    fn pace(&self) -> impl FnMut(u64) + use<> {
        let (start, per_second) = (Instant::now(), u128::from(self.policy.bytes_per_second));
        move |bytes| {
            let due_us = u128::from(bytes) * 1_000_000 / per_second;
            let ahead_us = due_us.saturating_sub(start.elapsed().as_micros());
            if ahead_us > 1_000 {
                std::thread::sleep(Duration::from_micros(u64::try_from(ahead_us).unwrap_or(1_000).min(1_000_000)));
            }
        }
    }

    /// A checkpoint comes with a witness.
    fn witness(&self) {
        let (done, wait) = bounded(1);
        if self.writer.try_send(WriterOrder::Witness(done)).is_ok() {
            self.shared.writer.wake();
            let _ = wait.recv_timeout(Duration::from_secs(5)); // dropped when it is done
        }
    }
}

fn failed(error: CheckpointError) -> CheckpointFailed {
    CheckpointFailed::File(Arc::new(error))
}
