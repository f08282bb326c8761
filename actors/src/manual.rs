//! An engine without threads: its owner turns every crank, one step at a time.
//!
//! Owns the same partitions, writer, checkpointer and recovery as [`crate::Engine`], put together by the same code; refuses to
//! decide what runs next. For deterministic simulation: with [`crate::Clock::Machine`], a device in memory and
//! [`crate::Config::identity_seed`] a run depends on nothing but its owner's choices. There is no catalogue.
//!
//! ```text
//!  owner --> partition(n) | tick(n) | write | make_room | checkpoint     each does one thing and returns
//! ```

use std::sync::Arc;

use crossbeam::channel::{Receiver, Sender, bounded};
use tp_core::command::Command;
use tp_core::digest::StateDigest;
use tp_core::ids::{Seq, SlotSeed};
use tp_core::partition::Partition;
use tp_core::slot::Slot;
use tp_core::time::Time;
use tp_storage::{CheckpointStore, DataDirectory, FrameSource, JournalError, RoomDone, Scrubbed, Scrubber};

use crate::call::{CallOptions, Pending};
use crate::checkpointer::{Advance, CheckpointDone, CheckpointStep};
use crate::client::Client;
use crate::close::Closed;
use crate::config::Config;
use crate::crank::{PartitionCrank, Ran};
use crate::error::{CheckpointFailed, CloseError, OpenError, PoisonCause};
use crate::open::{Prepared, prepare};
use crate::recovery::RecoveryReport;
use crate::shared::{Shared, Stage};
use crate::status::{CheckpointStatus, LedgerTotals, PartitionStatus, WriterStatus, digest_of, slot_digests};
use crate::writer_thread::{Task, WriterCrank};

/// Steps of a close before it is given up: many more than any drain takes.
const CLOSE_STEPS: usize = 1_000_000;

/// What a step came to.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Work {
    /// Something was done, or may have been: there may be more.
    Made,
    /// There was nothing to do.
    Rests,
}

/// An engine whose owner turns the cranks.
pub struct ManualEngine {
    shared: Arc<Shared>,
    partitions: Vec<PartitionCrank>,
    writer: Option<WriterCrank>,
    tasks: Receiver<Task>,
    done: Sender<RoomDone>,
    checkpointer: Option<CheckpointStep>,
    scrubber: Option<Scrubber>,
    source: Arc<dyn FrameSource>,
    report: RecoveryReport,
    takes_checkpoint_at_close: bool,
    /// Keeps the directory's lock.
    _directory: Option<DataDirectory>,
}

/// The writer of a [`ManualEngine`], handed out.
pub struct ManualWriter {
    shared: Arc<Shared>,
    crank: WriterCrank,
}

impl std::fmt::Debug for ManualWriter {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ManualWriter").finish_non_exhaustive()
    }
}

impl ManualWriter {
    /// As [`ManualEngine::write`].
    pub fn write(&mut self) -> Work {
        turn_writer(&self.shared, &mut self.crank)
    }
}

fn turn_writer(shared: &Shared, writer: &mut WriterCrank) -> Work {
    if shared.poison.is_set() {
        return Work::Rests;
    }
    writer.obey();
    match writer.turn(false) {
        Ok(None) => Work::Made,
        Ok(Some(_)) => Work::Rests,
        Err(error) => {
            shared.poison(PoisonCause::Journal(Arc::new(error)));
            Work::Rests
        }
    }
}

impl std::fmt::Debug for ManualEngine {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ManualEngine").field("last_seq", &self.last_seq()).finish_non_exhaustive()
    }
}

impl ManualEngine {
    /// Recovers. (Replay uses all cores; its result does not depend on them.)
    ///
    /// # Errors
    /// [`OpenError`].
    pub fn open(config: &Config) -> Result<Self, OpenError> {
        let Prepared { shared, steps, writer, source, scrubber, epoch, directory, report, .. } = prepare(config)?;
        let (orders, inbox) = bounded(16);
        let (task_sender, tasks) = bounded(1);
        let (done, results) = bounded(1);
        let writer = WriterCrank::new(Arc::clone(&shared), writer, inbox, task_sender, results);
        let crank = |(index, step)| PartitionCrank::new(index, Arc::clone(&shared), step);
        let partitions = steps.into_iter().enumerate().map(crank).collect();
        let checkpointer = directory.as_ref().map(|directory| {
            let store = CheckpointStore::new(directory);
            CheckpointStep::new(Arc::clone(&shared), store, config.checkpoint, epoch, orders)
        });
        let takes_checkpoint_at_close = config.checkpoint.at_close;
        Ok(Self {
            shared,
            partitions,
            writer: Some(writer),
            tasks,
            done,
            checkpointer,
            scrubber,
            source,
            report,
            takes_checkpoint_at_close,
            _directory: directory,
        })
    }

    /// What recovery found and did.
    pub const fn recovery(&self) -> &RecoveryReport {
        &self.report
    }

    /// How many partitions there are.
    pub fn partitions(&self) -> usize {
        self.partitions.len()
    }

    /// Submits one command.
    pub fn call(&self, command: impl Into<Command>, options: CallOptions) -> Pending {
        Pending::submit(&self.shared, command.into(), options)
    }

    /// A client with room for so many commands in flight, as [`crate::Engine::client`] gives. Its waiting takes real time.
    pub fn client(&self, capacity: usize) -> Client {
        Client::new(Arc::clone(&self.shared), capacity)
    }

    /// At most one question and one turn of a partition.
    pub fn partition(&mut self, index: usize) -> Work {
        match self.partitions[index].run(1) {
            Ran::More => Work::Made,
            Ran::Rests | Ran::Ended => Work::Rests,
        }
    }

    /// The timer of a partition rings.
    pub fn tick(&mut self, index: usize) {
        self.partitions[index].tick();
    }

    /// The writer commits one group, or does its housekeeping.
    pub fn write(&mut self) -> Work {
        self.writer.as_mut().map_or(Work::Rests, |writer| turn_writer(&self.shared, writer))
    }

    /// Hands the writer out, to be turned elsewhere while partitions run: by a disk that takes its time. Until it is given back
    /// [`ManualEngine::write`] has nothing to do. `None`: it is out already.
    pub fn take_writer(&mut self) -> Option<ManualWriter> {
        let shared = Arc::clone(&self.shared);
        self.writer.take().map(|crank| ManualWriter { shared, crank })
    }

    /// Takes this engine's writer back.
    pub fn give_writer(&mut self, writer: ManualWriter) {
        debug_assert!(Arc::ptr_eq(&self.shared, &writer.shared), "each engine has its own");
        self.writer = Some(writer.crank);
    }

    /// The writer's helper makes a spare segment, if the writer asked for one.
    pub fn make_room(&mut self) -> Work {
        let Ok(task) = self.tasks.try_recv() else { return Work::Rests };
        let _ = self.done.send(task()); // the writer takes it before it asks again
        Work::Made
    }

    /// Begins a checkpoint if none is being taken, whatever the policy says.
    ///
    /// # Errors
    /// [`CheckpointFailed`].
    pub fn begin_checkpoint(&mut self) -> Result<(), CheckpointFailed> {
        match &mut self.checkpointer {
            Some(step) if step.rests() => step.begin(),
            Some(_) => Ok(()),
            None => Err(CheckpointFailed::NotKept),
        }
    }

    /// The checkpointer does its next thing; begins one when the policy asks for it. `Some`: one ended.
    pub fn checkpoint(&mut self) -> (Work, Option<Result<CheckpointDone, CheckpointFailed>>) {
        let Some(step) = &mut self.checkpointer else { return (Work::Rests, None) };
        if step.rests() {
            return match step.is_due().then(|| step.begin()) {
                None => (Work::Rests, None),
                Some(Ok(())) => (Work::Made, None),
                Some(Err(error)) => (Work::Made, Some(Err(error))),
            };
        }
        match step.advance(&mut |_| {}) {
            Advance::Made => (Work::Made, None),
            Advance::Waits(_) => (Work::Rests, None),
            Advance::Ended(taken) => (Work::Made, Some(taken)),
        }
    }

    /// The scrubber reads about so many bytes of each copy of a sealed segment. `None`: this journal has none.
    pub fn scrub(&mut self, bytes: u64) -> Option<Scrubbed> {
        let scrubbed = self.scrubber.as_mut()?.step(bytes);
        self.shared.scrub_status.lock().add(&scrubbed);
        Some(scrubbed)
    }

    /// Looks at each partition. What is seen may not be durable.
    pub fn look<T>(&mut self, look: impl FnMut(&Partition) -> T) -> Vec<T> {
        let mut look = look;
        self.partitions.iter_mut().map(|crank| look(crank.partition())).collect()
    }

    /// The digest of the state at the largest event time. Means something only while nothing is under way.
    pub fn digest(&mut self) -> StateDigest {
        let at = Time(self.shared.event_time_max.load(std::sync::atomic::Ordering::Acquire));
        digest_of(self.look(|partition| slot_digests(partition, at)))
    }

    /// The totals of each ledger, ascending.
    pub fn trial_balance(&mut self) -> Vec<LedgerTotals> {
        let totals = |p: &Partition| p.slots().flat_map(Slot::totals).collect::<Vec<_>>();
        LedgerTotals::of(self.look(totals).into_iter().flatten())
    }

    /// The journal, for readers.
    pub fn source(&self) -> Arc<dyn FrameSource> {
        Arc::clone(&self.source)
    }

    /// The last sequence number given out; it may not be durable yet.
    pub fn last_seq(&self) -> Seq {
        self.shared.last_seq()
    }

    /// The last durable sequence number.
    pub fn durable_seq(&self) -> Seq {
        self.shared.durable.seq()
    }

    /// Engine time.
    pub fn now(&self) -> Time {
        self.shared.clock.now()
    }

    /// The seed of the directory's hash from account to slot.
    pub fn seed(&self) -> SlotSeed {
        self.shared.seed
    }

    /// Why the engine stopped acknowledging, if it did.
    pub fn poison(&self) -> Option<PoisonCause> {
        self.shared.poison.cause()
    }

    /// What a partition shows of itself.
    pub fn partition_status(&mut self, index: usize) -> PartitionStatus {
        let stats = self.partitions[index].partition().stats();
        PartitionStatus::of(&self.shared.lanes[index], stats)
    }

    /// What the writer shows of itself.
    pub fn writer_status(&self) -> WriterStatus {
        self.shared.writer_status.lock().clone()
    }

    /// What the checkpointer shows of itself.
    pub fn checkpoint_status(&self) -> CheckpointStatus {
        *self.shared.checkpoint_status.lock()
    }

    /// Whether nothing is under way: no command, message, exchange, undurable event.
    pub fn is_drained(&mut self) -> bool {
        let is_durable = self.durable_seq() == self.last_seq();
        let lanes = &self.shared.lanes;
        let queued = lanes.iter().any(|lane| !lane.inbox.is_empty() || lane.has_messages());
        let owed = lanes.iter().any(|lane| lane.counters.owed.load(std::sync::atomic::Ordering::Acquire) > 0);
        let is_open = |p: &Partition| p.stats().exchanges_open + p.stats().waiting > 0;
        is_durable && !queued && !owed && !self.look(is_open).contains(&true)
    }

    fn partition_each(&mut self) -> bool {
        let made = (0..self.partitions.len()).filter(|index| self.partition(*index) == Work::Made);
        made.count() > 0
    }

    /// Every crank once, in order. Returns whether any of them did something.
    pub fn turn_all(&mut self) -> Work {
        let mut made = self.partition_each();
        made |= self.write() == Work::Made;
        made |= self.make_room() == Work::Made;
        made |= self.checkpoint().0 == Work::Made;
        made |= self.partition_each();
        if made { Work::Made } else { Work::Rests }
    }

    /// Drains, checkpoints, seals, as [`crate::Engine::close`] does. Time does not pass meanwhile but by `each`, which is called
    /// after every round.
    ///
    /// # Errors
    /// [`CloseError`].
    pub fn close(mut self, mut each: impl FnMut()) -> Result<Closed, CloseError> {
        self.shared.enter(Stage::Stopping);
        let mut rounds = 0;
        while !self.is_drained() && self.shared.poison.cause().is_none() {
            self.turn_all();
            (0..self.partitions.len()).for_each(|index| self.tick(index));
            each();
            rounds += 1;
            if rounds > CLOSE_STEPS {
                return Err(CloseError::NotDrained { open: 0, waited_ms: 0 });
            }
        }
        let checkpoint = self.last_checkpoint(&mut each);
        self.shared.enter(Stage::Ended);
        self.partition_each();
        self.shared.lanes.iter().for_each(|lane| self.shared.answer_leftovers(lane));
        if let Some(cause) = self.shared.poison.cause() {
            return Err(cause.into());
        }
        self.close_journal().map_err(CloseError::Journal)?;
        let last_seq = self.shared.last_seq();
        match checkpoint {
            Ok(done) => Ok(Closed { last_seq, checkpoint: Some(done.generation) }),
            Err(CheckpointFailed::NotKept) => Ok(Closed { last_seq, checkpoint: None }),
            Err(error) => Err(CloseError::Checkpoint(error)),
        }
    }

    fn last_checkpoint(&mut self, each: &mut impl FnMut()) -> Result<CheckpointDone, CheckpointFailed> {
        if !self.takes_checkpoint_at_close || self.shared.poison.is_set() {
            return Err(CheckpointFailed::NotKept);
        }
        // One that is under way comes first.
        for _ in 0..CLOSE_STEPS {
            if self.checkpointer.as_ref().is_none_or(CheckpointStep::rests) {
                break;
            }
            self.turn_all();
            each();
        }
        self.begin_checkpoint()?;
        for _ in 0..CLOSE_STEPS {
            let ended = self.checkpoint().1;
            if let Some(taken) = ended {
                return taken;
            }
            self.partition_each();
            self.write();
            self.make_room();
            each();
        }
        Err(CheckpointFailed::Stopped)
    }

    fn close_journal(&mut self) -> Result<(), JournalError> {
        let Some(mut writer) = self.writer.take() else { return Ok(()) };
        while !writer.is_drained() {
            if writer.turn(true)?.is_some() {
                return Err(JournalError::NoSpace { seq: self.durable_seq().0 + 1 });
            }
        }
        writer.close()
    }
}
