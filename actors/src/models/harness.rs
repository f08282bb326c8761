//! What the models share: an engine's parts without threads of its own, a journal that remembers, and the checker's bounds.
//!
//! Owns the putting together; refuses to decide what a model asserts.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Wake, Waker};
use std::time::Duration;

use crossbeam::channel::{Receiver, Sender, bounded};
use tp_core::amount::{CreditLimit, Ledger};
use tp_core::codec;
use tp_core::command::{Command, Note, OpenAccount, Record, Settings};
use tp_core::event::Event;
use tp_core::ids::{AccountId, Seq, SlotIndex, SlotSeed};
use tp_core::key::Key;
use tp_core::partition::Partition;
use tp_core::rules::{Rules, Windows};
use tp_core::scope::Carried;
use tp_core::slot::Slot;
use tp_core::time::Time;
use tp_core::turn::{Admission, Output, Submission, Turn};
use tp_planted::{Bug, plant};
use tp_storage::{FrameInput, FrameSource, Journal, JournalError, MemoryJournal, RoomDone, RoomTask};

use super::queues::Queues;
use super::stand_in::{Parker, Unparker};
use crate::clock::{Clock, EngineClock, MachineClocks};
use crate::config::{Bounds, Config};
use crate::crank::{PartitionCrank, Ran};
use crate::shared::{Shared, Stage, Start};
use crate::step::Step;
use crate::wake::{Sleeper, WakeLoop};
use crate::writer::WriterStep;
use crate::writer_thread::{WriterCrank, WriterOrder};

pub(super) const SEED: SlotSeed = SlotSeed([7; 16]);
const NOW: Time = Time(1_000);

/// A model's name for the planted bugs' tests: the process that looks for a bug gets its name in here.
pub(super) const PLANTED: &str = "TP_MODEL_BUG";

/// How far a model is explored.
pub(super) struct Explore {
    pub(super) queues: Queues,
    /// Switches away from a thread that could go on, in one execution; `None`: all schedules.
    pub(super) preemptions: Option<usize>,
}

/// Runs a model in every execution within the bounds, and says how many there were.
pub(super) fn explore(name: &str, explore: &Explore, model: impl Fn() + Send + Sync + 'static) {
    let bug = std::env::var(PLANTED).ok();
    if let Some(bug) = bug.and_then(|name| Bug::INTERLEAVED.iter().chain(Bug::ALL).find(|bug| bug.name() == name)) {
        plant(*bug);
    }
    let executions = Arc::new(AtomicU64::new(0));
    let counted = Arc::clone(&executions);
    let queues = explore.queues;
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound = builder.preemption_bound.or(explore.preemptions);
    builder.max_branches = 20_000;
    builder.check(move || {
        counted.fetch_add(1, Ordering::Relaxed);
        queues.choose();
        model();
    });
    let bound = builder.preemption_bound.map_or("all schedules".into(), |most| format!("{most} preemptions"));
    let executions = executions.load(Ordering::Relaxed);
    let mut out = std::io::stderr().lock();
    let _ = std::io::Write::write_fmt(&mut out, format_args!("{name}: {executions} executions, {bound}, {queues:?}\n"));
}

/// What becomes of the journal's appends, seen from outside. Invisible to the checker: it is what really happened.
#[derive(Clone, Default)]
pub(super) struct Disk {
    inside: Arc<Mutex<Inside>>,
}

#[derive(Default)]
struct Inside {
    /// Synced.
    seq: u64,
    events: Vec<(u64, Event)>,
    frames: usize,
    /// The append that fails; 0: none does.
    fails_at_frame: usize,
    /// After so many appends no more is left than the reserve, and no spare can be had; 0: there is always room.
    frames_max: usize,
}

impl Disk {
    /// That already holds so many events.
    pub(super) fn holding(seq: u64) -> Self {
        let disk = Self::default();
        disk.inside().seq = seq;
        disk
    }

    /// Whose n-th append fails, counted from 1.
    pub(super) fn failing_at(frame: usize) -> Self {
        let disk = Self::default();
        disk.inside().fails_at_frame = frame;
        disk
    }

    /// That has room for so many frames.
    pub(super) fn with_room_for(frames: usize) -> Self {
        let disk = Self::default();
        disk.inside().frames_max = frames;
        disk
    }

    fn inside(&self) -> std::sync::MutexGuard<'_, Inside> {
        self.inside.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn seq(&self) -> Seq {
        Seq(self.inside().seq)
    }

    pub(super) fn events(&self) -> Vec<(u64, Event)> {
        self.inside().events.clone()
    }
}

/// A [`Journal`] on a [`Disk`].
struct ModelJournal(Disk);

impl Journal for ModelJournal {
    fn append(&mut self, frame: &FrameInput<'_>) -> Result<u64, JournalError> {
        let mut disk = self.0.inside();
        disk.frames += 1;
        if disk.frames == disk.fails_at_frame {
            return Err(JournalError::Poisoned { cause: "the model says so".into() });
        }
        assert_eq!(frame.first_seq, disk.seq + 1, "the frame follows the last one");
        let (mut seq, mut events) = (disk.seq, Vec::new());
        for part in frame.parts {
            let mut rest = *part;
            while !rest.is_empty() {
                let (event, taken) = codec::decode(rest).expect("an event");
                seq += 1;
                events.push((seq, event));
                rest = &rest[taken..];
            }
        }
        assert_eq!(seq, disk.seq + u64::from(frame.count), "every number has its event (SEQ-1)");
        disk.events.append(&mut events);
        disk.seq = seq;
        Ok(seq)
    }

    fn seal(&mut self, _: u64) -> Result<(), JournalError> {
        Ok(())
    }
    fn durable_seq(&self) -> u64 {
        self.0.inside().seq
    }
    fn last_time(&self) -> u64 {
        0
    }
    fn epoch(&self) -> u64 {
        1
    }
    fn has_room(&self) -> bool {
        let disk = self.0.inside();
        disk.frames_max == 0 || disk.frames < disk.frames_max
    }
    fn room_task(&mut self) -> Option<RoomTask> {
        None
    }
    fn room_done(&mut self, _: RoomDone) {}
    fn witness(&mut self, _: u64) -> Result<(), JournalError> {
        Ok(())
    }
    fn source(&self) -> Arc<dyn FrameSource> {
        MemoryJournal::new().source()
    }
    fn close(self: Box<Self>, _: u64) -> Result<(), JournalError> {
        Ok(())
    }
    fn bytes(&self) -> u64 {
        0
    }
}

/// An engine's parts, each to be turned by a thread of the model.
pub(super) struct Parts {
    pub(super) shared: Arc<Shared>,
    pub(super) cranks: Vec<PartitionCrank>,
    pub(super) writer: WriterCrank,
    pub(super) sleeper: Sleeper,
    pub(super) orders: Sender<WriterOrder>,
    /// The writer's helper never has work.
    pub(super) helper: (Receiver<crate::writer_thread::Task>, Sender<RoomDone>),
}

/// What differs between models.
pub(super) struct Shape {
    pub(super) partitions: usize,
    /// Accounts that are there, each with a number of its own.
    pub(super) accounts: Vec<AccountId>,
    /// Events in flight at which no turn starts.
    pub(super) in_flight: u64,
    /// Commands of one turn.
    pub(super) turn_commands: usize,
    pub(super) disk: Disk,
}

impl Shape {
    /// No accounts and nothing that puts a turn off.
    pub(super) fn of(partitions: usize, disk: &Disk) -> Self {
        Self { partitions, accounts: Vec::new(), in_flight: 1_000, turn_commands: 512, disk: disk.clone() }
    }
}

/// Puts an engine together, as the open does.
pub(super) fn parts(shape: &Shape) -> Parts {
    let partitions = shape.partitions;
    let (sleeper, waker) = Sleeper::new();
    let (in_flight_events, turn_commands_max) = (Some(shape.in_flight), shape.turn_commands);
    let config = Config { partitions, in_flight_events, turn_commands_max, ..Config::in_memory() };
    let last_seq = shape.disk.seq().0;
    let shared = Arc::new(Shared::new(Start {
        seed: SEED,
        windows: Windows::default(),
        bounds: Bounds::of(&config),
        deadline_ms_default: 10_000,
        inbox_commands: 2,
        partitions,
        clock: EngineClock::start(&Clock::Machine(MachineClocks::new(NOW)), Time(0)),
        last_seq,
        event_time_max: 0,
        has_room: true,
        writer: waker,
    }));
    let crank = |index| {
        let step = Step::new(index, partitions, partition(&shared, index, &shape.accounts));
        PartitionCrank::new(index, Arc::clone(&shared), step)
    };
    let cranks = (0..partitions).map(crank).collect();
    let (orders, inbox) = bounded(1);
    let (tasks, task_inbox) = bounded(1);
    let (done, results) = bounded(1);
    let mut step = WriterStep::new(Box::new(ModelJournal(shape.disk.clone())), partitions);
    step.was_room_refused = shape.disk.inside().frames_max > 0;
    let writer = WriterCrank::new(Arc::clone(&shared), step, inbox, tasks, results);
    Parts { shared, cranks, writer, sleeper, orders, helper: (task_inbox, done) }
}

/// A partition with its accounts, opened under the numbers of their places in the list.
fn partition(shared: &Shared, index: usize, accounts: &[AccountId]) -> Partition {
    let is_mine = |slot: &SlotIndex| shared.partition_of(*slot) == index;
    let slots = accounts.iter().map(|account| SEED.slot_of(*account)).filter(is_mine);
    let slots = slots.map(|slot| Slot::new(slot, SEED, Windows::default()));
    let mut partition = Partition::new(SEED, Arc::new(Rules::default()), slots);
    for (place, account) in accounts.iter().enumerate().filter(|(_, account)| is_mine(&SEED.slot_of(**account))) {
        let settings = Settings { credit_limit: CreditLimit::Unlimited, ..Settings::new(ledger()) };
        let key = Key::opaque(1 + place as u128);
        let command = Command::from(OpenAccount { key, account: *account, settings, note: Note::default() });
        let submission = Submission { ticket: 0, deadline_ms: u64::MAX, scope: Carried::default(), command };
        let turn = Turn { now: NOW, monotonic_ms: 0, expiries_max: 1, admission: Admission::Open };
        let mut out = Output::default();
        let turned = partition.turn(turn, &mut std::iter::empty(), &mut std::iter::once(submission), &mut out);
        turned.expect("no bug");
        partition.stamp(Seq(1 + place as u64), &mut out);
    }
    partition.set_last_seq(Seq(accounts.len() as u64));
    partition
}

pub(super) fn ledger() -> Ledger {
    Ledger::new("EUR", 2).expect("valid")
}

/// The record of a stream: an event that needs no account. The stream's number decides its partition.
pub(super) fn record(stream: u32) -> Command {
    Record { stream, bytes: [7].into() }.into()
}

struct ThreadWaker(Unparker);

impl Wake for ThreadWaker {
    fn wake(self: Arc<Self>) {
        self.0.unpark();
    }
}

/// What a partition's arbiter and actor do, without their timer: follows the wake-ups until the engine has ended.
pub(super) fn run_partition(crank: PartitionCrank) {
    run_partition_until(crank, |_| false);
}

/// As [`run_partition`], or until `is_done` says so after a run.
pub(super) fn run_partition_until(mut crank: PartitionCrank, is_done: impl Fn(&Shared) -> bool) {
    let parker = Parker::new();
    let waker = Waker::from(Arc::new(ThreadWaker(parker.unparker().clone())));
    let mut context = Context::from_waker(&waker);
    let lane_waker = crank.shared().lanes[crank.index()].waker.clone();
    let mut wakes = WakeLoop::new(lane_waker.clone());
    lane_waker.wake(); // for what came before, as the actor does
    let mut is_over = false;
    while !is_over {
        wakes.poll(&mut context, || match crank.run(64) {
            Ran::More => lane_waker.wake(),
            Ran::Rests => {}
            Ran::Ended => is_over = true,
        });
        is_over |= is_done(crank.shared());
        if !is_over {
            parker.park();
        }
    }
}

/// The threads of an engine in a model; the model's own thread is the client's.
pub(super) struct Running {
    pub(super) shared: Arc<Shared>,
    partitions: Vec<loom::thread::JoinHandle<()>>,
    writer: loom::thread::JoinHandle<Result<(), JournalError>>,
    orders: Sender<WriterOrder>,
    helper: (Receiver<crate::writer_thread::Task>, Sender<RoomDone>),
}

pub(super) fn start(parts: Parts) -> Running {
    let Parts { shared, cranks, writer, sleeper, orders, helper } = parts;
    let partitions = cranks.into_iter().map(|crank| loom::thread::spawn(move || run_partition(crank))).collect();
    let writer = loom::thread::spawn(move || writer.run(&sleeper));
    Running { shared, partitions, writer, orders, helper }
}

impl Running {
    /// Ends partitions, then writer, as the close does. That it returns says that everybody saw it.
    pub(super) fn stop(self) {
        self.shared.enter(Stage::Ended);
        for partition in self.partitions {
            partition.join().expect("no panic");
        }
        let _ = self.orders.send(WriterOrder::Close);
        self.shared.writer.wake();
        self.writer.join().expect("no panic").expect("closed");
        drop(self.helper);
    }
}

/// For ever: nothing times out in a model.
pub(super) const FOREVER: Duration = Duration::MAX;
