//! The journal writer's thread, and its helper that makes room.
//!
//! Owns the crank of [`WriterStep`] ([`WriterCrank`], which a [`crate::ManualEngine`] turns without a thread): it waits for nothing but the disk and the next number. Refuses to retry after a
//! failure. The replies are not its work: it publishes the durable number and wakes the partitions.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use crossbeam::channel::{Receiver, Sender, bounded};
use tp_planted::{Bug, has};
use tp_storage::{JournalError, RoomDone};

use crate::error::PoisonCause;
use crate::in_flight::Pace;
use crate::shared::{Room, Shared, panic_message};
use crate::wake::Sleeper;
use crate::writer::{Committed, WriterStep};

/// How long a close waits for space for what is in the rings.
const CLOSE_WAIT: Duration = Duration::from_secs(10);

pub(crate) type Task = Box<dyn FnOnce() -> RoomDone + Send>;

/// Orders to the writer.
pub(crate) enum WriterOrder {
    /// A witness now; the sender is dropped when it is done.
    Witness(Sender<()>),
    /// Write what is in the rings, then close the journal.
    Close,
}

/// The running writer.
pub(crate) struct WriterHandle {
    pub(crate) thread: JoinHandle<Result<(), JournalError>>,
    pub(crate) orders: Sender<WriterOrder>,
}

/// Starts the writer and its helper.
pub(crate) fn start(shared: Arc<Shared>, step: WriterStep, sleeper: Sleeper) -> std::io::Result<WriterHandle> {
    let (orders, inbox) = bounded(16);
    let (tasks, task_inbox) = bounded::<Task>(1);
    let (done, results) = bounded(1);
    let waker = shared.writer.clone();
    let helper = std::thread::Builder::new().name("tp-room".into()).spawn(move || {
        for task in task_inbox {
            if done.send(task()).is_err() {
                break;
            }
            waker.wake();
        }
    })?;
    let thread = std::thread::Builder::new().name("tp-writer".into()).spawn(move || {
        let crank = WriterCrank::new(Arc::clone(&shared), step, inbox, tasks, results);
        let ended = catch_unwind(AssertUnwindSafe(|| crank.run(&sleeper)));
        // The crank is gone, and with it the task channel: the helper ends.
        let _ = helper.join();
        ended.unwrap_or_else(|panic| {
            let message = panic_message(&*panic);
            shared.poison(PoisonCause::Panicked { thread: "journal writer".into(), message });
            Ok(())
        })
    })?;
    Ok(WriterHandle { thread, orders })
}

/// The writer between its sleeps.
pub(crate) struct WriterCrank {
    shared: Arc<Shared>,
    step: WriterStep,
    inbox: Receiver<WriterOrder>,
    tasks: Sender<Task>,
    results: Receiver<RoomDone>,
    pace: Pace,
    steered_ms: u64,
}

impl WriterCrank {
    pub(crate) fn new(
        shared: Arc<Shared>,
        step: WriterStep,
        inbox: Receiver<WriterOrder>,
        tasks: Sender<Task>,
        results: Receiver<RoomDone>,
    ) -> Self {
        Self { shared, step, inbox, tasks, results, pace: Pace::default(), steered_ms: 0 }
    }

    /// Until closed or poisoned. Returns the journal's report on its close.
    pub(crate) fn run(mut self, sleeper: &Sleeper) -> Result<(), JournalError> {
        let mut is_closing = false;
        let mut closing_since = Instant::now();
        loop {
            if self.shared.poison.is_set() {
                return Ok(());
            }
            match self.turn(is_closing) {
                Ok(Some(_)) if is_closing && closing_since.elapsed() > CLOSE_WAIT => {
                    return Err(JournalError::NoSpace { seq: self.shared.durable.seq().0 + 1 });
                }
                Ok(Some(wait_ms)) => sleeper.sleep(Duration::from_millis(wait_ms)),
                Ok(None) if is_closing && self.is_drained() => break,
                Ok(None) => {}
                Err(error) => {
                    self.shared.poison(PoisonCause::Journal(Arc::new(error)));
                    return Ok(());
                }
            }
            if self.obey() {
                (is_closing, closing_since) = (true, Instant::now());
            }
        }
        self.close()
    }

    /// Seals, writes the witness and closes the journal.
    pub(crate) fn close(self) -> Result<(), JournalError> {
        let time = self.shared.clock.now().0;
        self.step.into_journal().close(time)
    }

    pub(crate) fn is_drained(&mut self) -> bool {
        !self.step.collect(&self.shared.lanes)
    }

    /// Takes orders; `true`: to close.
    pub(crate) fn obey(&mut self) -> bool {
        let mut close = false;
        while let Ok(order) = self.inbox.try_recv() {
            match order {
                WriterOrder::Close => close = true,
                WriterOrder::Witness(done) => {
                    let time = self.shared.clock.now().0;
                    if let Err(error) = self.step.witness(time) {
                        self.shared.poison(PoisonCause::Journal(Arc::new(error)));
                    }
                    drop(done);
                }
            }
        }
        close
    }

    /// One group, or housekeeping. `None`: look again at once; else how long to wait at most, ms.
    ///
    /// # Errors
    /// The journal's: final.
    pub(crate) fn turn(&mut self, is_closing: bool) -> Result<Option<u64>, JournalError> {
        self.make_room();
        self.keep_time()?;
        if self.step.collect(&self.shared.lanes) {
            let start = Instant::now();
            let committed = self.step.commit(self.shared.clock.monotonic_ms())?;
            let Some(committed) = committed else {
                self.make_room();
                return Ok(Some(20)); // no space: the run stays until there is room
            };
            self.publish(committed, start.elapsed());
            return Ok(None);
        }
        let monotonic_ms = self.shared.clock.monotonic_ms();
        let wait_ms = self.step.housekeep(self.shared.clock.now().0, monotonic_ms)?;
        self.show();
        // A refused spare is asked for again, also while there is room without it.
        let is_well = self.step.journal().has_room() && !self.step.was_room_refused;
        Ok((!is_closing).then_some(wait_ms.clamp(1, if is_well { 1_000 } else { 50 })))
    }

    /// Steers the clock and writes the witness when they are due, however busy the rings are.
    fn keep_time(&mut self) -> Result<(), JournalError> {
        let monotonic_ms = self.shared.clock.monotonic_ms();
        if monotonic_ms >= self.steered_ms + 1_000 {
            self.steered_ms = monotonic_ms;
            self.shared.clock.steer();
        }
        if self.shared.was_used.swap(false, Ordering::AcqRel) {
            self.step.note_use();
        }
        self.step.witness_if_due(self.shared.clock.now().0, monotonic_ms)
    }

    /// Publishes what is durable, then wakes those whose replies wait for it (DUR-1).
    fn publish(&mut self, committed: Committed, took: Duration) {
        let Self { shared, step, pace, .. } = self;
        shared.durable.publish(committed.seq + u64::from(has(Bug::PublishEarly)), committed.time_max);
        if !has(Bug::RoomLate) {
            // Before what was in flight counts as free: who then starts a turn must see what the frame has left of the segment.
            show_room(shared, step);
        }
        let pace = pace.durable(committed.events, shared.clock.monotonic_ms());
        let was_full = pace.is_some_and(|pace| shared.in_flight.follow(pace));
        let (blocks, events) = if has(Bug::RoomAfterWake) { (0, 0) } else { (committed.blocks, committed.events) };
        let was_full = shared.in_flight.remove(blocks, events) || was_full;
        step.recycle(&shared.lanes, |ring| shared.lanes[ring].waker.wake());
        if was_full {
            shared.wake_partitions(); // who was put off for what others had in flight has nothing in the group
        }
        if has(Bug::RoomAfterWake) {
            shared.in_flight.remove(committed.blocks, committed.events);
        }
        let mut status = shared.writer_status.lock();
        status.frames += 1;
        status.events += committed.events;
        status.event_bytes += committed.bytes;
        status.frame_events_max = status.frame_events_max.max(committed.events);
        status.append_us_max = status.append_us_max.max(u64::try_from(took.as_micros()).unwrap_or(u64::MAX));
    }

    fn show(&self) {
        let mut status = self.shared.writer_status.lock();
        status.seals = self.step.seals;
        status.room_failures = self.step.room_failures;
        status.room_failure.clone_from(&self.step.room_failure);
        status.journal_bytes = self.step.journal().bytes();
    }

    /// Keeps a spare segment at hand, through the helper, and shows whether there is one.
    fn make_room(&mut self) {
        let monotonic_ms = self.shared.clock.monotonic_ms();
        while let Ok(done) = self.results.try_recv() {
            self.step.room_done(done, monotonic_ms);
            self.show();
        }
        if let Some(task) = self.step.room_task(monotonic_ms) {
            let _ = self.tasks.try_send(task); // at most one is under way: the journal gives no second one
        }
        show_room(&self.shared, &self.step);
    }
}

/// Shows the partitions whether the journal has room, and wakes them when that has changed.
fn show_room(shared: &Shared, step: &WriterStep) {
    let has_room = step.journal().has_room();
    if shared.set_room(Room::of(has_room, step.was_room_refused)) {
        shared.writer_status.lock().has_room = has_room;
        shared.wake_partitions();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::AtomicU64;
    use tp_core::codec::EventBytes;
    use tp_core::rules::Windows;
    use tp_core::time::Time;
    use tp_storage::{FrameInput, FrameSource, Journal, MemoryJournal, RoomTask};

    use crate::clock::{Clock, EngineClock, GivenClock};
    use crate::config::{Bounds, Config};
    use crate::lane::Batch;
    use crate::shared::Start;

    /// A journal in memory that shows the time of its last witness.
    struct Witnessed(MemoryJournal, Arc<AtomicU64>);

    impl Journal for Witnessed {
        fn append(&mut self, frame: &FrameInput<'_>) -> Result<u64, JournalError> {
            self.0.append(frame)
        }
        fn seal(&mut self, time: u64) -> Result<(), JournalError> {
            self.0.seal(time)
        }
        fn durable_seq(&self) -> u64 {
            self.0.durable_seq()
        }
        fn last_time(&self) -> u64 {
            self.0.last_time()
        }
        fn epoch(&self) -> u64 {
            self.0.epoch()
        }
        fn has_room(&self) -> bool {
            self.0.has_room()
        }
        fn room_task(&mut self) -> Option<RoomTask> {
            self.0.room_task()
        }
        fn room_done(&mut self, done: RoomDone) {
            self.0.room_done(done);
        }
        fn witness(&mut self, time: u64) -> Result<(), JournalError> {
            self.1.store(time, Ordering::SeqCst);
            Ok(())
        }
        fn source(&self) -> Arc<dyn FrameSource> {
            self.0.source()
        }
        fn close(self: Box<Self>, time: u64) -> Result<(), JournalError> {
            Box::new(self.0).close(time)
        }
        fn bytes(&self) -> u64 {
            self.0.bytes()
        }
    }

    fn crank(clock: &GivenClock, witness: &Arc<AtomicU64>) -> WriterCrank {
        let (_, writer) = Sleeper::new();
        let shared = Arc::new(Shared::new(Start {
            seed: tp_core::ids::SlotSeed([7; 16]),
            windows: Windows::default(),
            bounds: Bounds::of(&Config { partitions: 1, ..Config::in_memory() }),
            deadline_ms_default: 10_000,
            inbox_commands: 1,
            partitions: 1,
            clock: EngineClock::start(&Clock::given(clock.clone()), Time(0)),
            last_seq: 0,
            event_time_max: 0,
            has_room: true,
            writer,
        }));
        let step = WriterStep::new(Box::new(Witnessed(MemoryJournal::new(), Arc::clone(witness))), 1);
        let (_, inbox) = bounded(1);
        let (tasks, _) = bounded(1);
        let (_, results) = bounded(1);
        WriterCrank::new(shared, step, inbox, tasks, results)
    }

    /// The writer's rings are never empty, so it never gets to the work of its leisure.
    #[test]
    fn the_witness_advances_while_the_rings_are_never_empty() {
        let (clock, witness) = (GivenClock::new(Time(1)), Arc::new(AtomicU64::new(0)));
        let mut crank = crank(&clock, &witness);
        let mut seq = 0;
        let mut saturated = |crank: &mut WriterCrank| {
            seq += 1;
            let mut bytes = EventBytes::new();
            bytes.extend_from_slice(&[7; 16]);
            let batch = Batch { first_seq: seq, count: 1, blocks: 0, time_min: seq, time_max: seq, bytes };
            crank.shared.in_flight.add(0, 1);
            assert!(crank.shared.lanes[0].ring.push(batch).is_ok());
            assert_eq!(crank.turn(false).expect("no fault"), None, "there was a group to commit");
        };
        for round in 1..=2u64 {
            clock.set(Time(round * 100));
            // On the engine's own clock; the turn after it suffices.
            let due_ms = crank.shared.clock.monotonic_ms() + 1_000;
            while witness.load(Ordering::SeqCst) < round * 100 && crank.shared.clock.monotonic_ms() < due_ms {
                saturated(&mut crank);
            }
            saturated(&mut crank);
            assert_eq!(witness.load(Ordering::SeqCst), round * 100, "round {round}");
        }
        assert_eq!(crank.step.seals, 0, "it was never idle");
    }
}
