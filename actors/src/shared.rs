//! What all threads of one engine share.
//!
//! Owns the sequence counter, the durable watch, the stage, the poison and the partitions' queues; refuses to decide
//! anything. POI-1: a poison is set once and never taken back.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use crossbeam::utils::CachePadded;
use parking_lot::Mutex;
use tp_core::command::Command;
use tp_core::ids::{Seq, SlotIndex, SlotSeed};
use tp_core::outcome::Outcome;
use tp_core::rules::Windows;
use tp_core::turn::Admission;

use crate::clock::EngineClock;
use crate::config::Bounds;
use crate::error::PoisonCause;
use crate::in_flight::InFlight;
use crate::inbound::Inbound;
use crate::lane::{Lane, count};
use crate::placement::Placement;
use crate::status::{CatalogueStatus, CheckpointStatus, ScrubStatus, WriterStatus};
use crate::sync;
use crate::wake::{Durable, WriterWaker};

/// How far the engine's life has come.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
#[repr(u8)]
pub(crate) enum Stage {
    /// Takes commands.
    Serving = 0,
    /// Takes none, finishes what is open.
    Stopping = 1,
    /// Nothing is open, and all is durable.
    Drained = 2,
    /// Ends now.
    Ended = 3,
}

/// Whether all that can be in flight finds space in the journal.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u8)]
pub(crate) enum Room {
    /// Yes.
    Enough = 0,
    /// A spare segment is being made: turns wait for it.
    Awaited = 1,
    /// None could be had, and of the current segment no more is left than its reserve: the disk is full, commands are answered
    /// `no_space`, exchanges already open finish.
    Refused = 2,
}

impl Room {
    pub(crate) const fn of(has_room: bool, was_refused: bool) -> Self {
        match (has_room, was_refused) {
            (true, _) => Self::Enough,
            (false, false) => Self::Awaited,
            (false, true) => Self::Refused,
        }
    }
}

/// Why the engine stopped acknowledging.
#[derive(Default)]
pub(crate) struct Poison {
    cause: sync::OnceLock<PoisonCause>,
}

impl Poison {
    pub(crate) fn is_set(&self) -> bool {
        self.cause.get().is_some()
    }

    pub(crate) fn cause(&self) -> Option<PoisonCause> {
        self.cause.get().cloned()
    }
}

/// What all threads of one engine share.
pub(crate) struct Shared {
    pub(crate) seed: SlotSeed,
    pub(crate) windows: Windows,
    pub(crate) bounds: Bounds,
    pub(crate) deadline_ms_default: u64,
    pub(crate) lanes: Box<[Lane]>,
    pub(crate) clock: EngineClock,
    /// The next sequence number to be given out.
    pub(crate) next_seq: CachePadded<sync::AtomicU64>,
    pub(crate) in_flight: InFlight,
    /// Whether commands were taken since the writer last looked: then engine time was shown to somebody.
    pub(crate) was_used: AtomicBool,
    /// The latest time of any event.
    pub(crate) event_time_max: AtomicU64,
    pub(crate) durable: Durable,
    room: sync::AtomicU8,
    stage: sync::AtomicU8,
    pub(crate) poison: Poison,
    pub(crate) writer: WriterWaker,
    pub(crate) writer_status: Mutex<WriterStatus>,
    pub(crate) checkpoint_status: Mutex<CheckpointStatus>,
    pub(crate) catalogue_status: Mutex<CatalogueStatus>,
    pub(crate) scrub_status: Mutex<ScrubStatus>,
}

/// What a new [`Shared`] starts from.
pub(crate) struct Start {
    pub(crate) seed: SlotSeed,
    pub(crate) windows: Windows,
    pub(crate) bounds: Bounds,
    pub(crate) deadline_ms_default: u64,
    pub(crate) inbox_commands: usize,
    pub(crate) partitions: usize,
    pub(crate) clock: EngineClock,
    pub(crate) last_seq: u64,
    pub(crate) event_time_max: u64,
    pub(crate) has_room: bool,
    pub(crate) writer: WriterWaker,
}

impl Shared {
    pub(crate) fn new(start: Start) -> Self {
        // Opens and answers of all exchanges that can be open between two partitions, and as many notes again.
        let peer_messages = 4 * start.bounds.exchanges as usize + 256;
        let lane = |_| Lane::new(start.partitions, start.inbox_commands, peer_messages);
        let durable = crate::wake::DurablePoint { seq: start.last_seq, time_max: start.event_time_max };
        Self {
            seed: start.seed,
            windows: start.windows,
            bounds: start.bounds,
            deadline_ms_default: start.deadline_ms_default,
            lanes: (0..start.partitions).map(lane).collect(),
            clock: start.clock,
            next_seq: CachePadded::new(sync::AtomicU64::new(start.last_seq + 1)),
            in_flight: InFlight::new(start.bounds.in_flight_blocks, start.bounds.in_flight_events),
            was_used: AtomicBool::new(false),
            event_time_max: AtomicU64::new(start.event_time_max),
            durable: Durable::new(durable),
            room: sync::AtomicU8::new(Room::of(start.has_room, false) as u8),
            stage: sync::AtomicU8::new(Stage::Serving as u8),
            poison: Poison::default(),
            writer: start.writer,
            writer_status: Mutex::new(WriterStatus { has_room: start.has_room, ..WriterStatus::default() }),
            checkpoint_status: Mutex::new(CheckpointStatus::default()),
            catalogue_status: Mutex::new(CatalogueStatus::default()),
            scrub_status: Mutex::new(ScrubStatus::default()),
        }
    }

    /// The partition that owns a slot.
    pub(crate) fn partition_of(&self, slot: SlotIndex) -> usize {
        self.placement().partition_of_slot(slot)
    }

    pub(crate) fn placement(&self) -> Placement {
        Placement::new(self.seed, self.lanes.len())
    }

    fn route(&self, command: &Command) -> usize {
        match (command.slot(&self.seed), command) {
            (Some(slot), _) => self.partition_of(slot),
            (None, Command::Record(record)) => record.stream as usize % self.lanes.len(),
            (None, _) => 0,
        }
    }

    /// Puts a command into its partition's inbox.
    ///
    /// A partition that has ended sets `closed`, then empties its inbox. Whoever pushes after that sees `closed` and
    /// empties it too: no command stays behind unanswered.
    pub(crate) fn submit(&self, inbound: Inbound) -> Result<(), Inbound> {
        let partition = self.enqueue(inbound)?;
        self.lanes[partition].waker.wake();
        Ok(())
    }

    /// As [`Shared::submit`], but the partition, which is returned, has to be woken.
    pub(crate) fn enqueue(&self, inbound: Inbound) -> Result<usize, Inbound> {
        let partition = self.route(&inbound.command);
        let lane = &self.lanes[partition];
        if !lane.enter() {
            lane.counters.busy.fetch_add(1, Ordering::Relaxed);
            return Err(inbound);
        }
        let pushed = lane.inbox.push(inbound);
        assert!(pushed.is_ok(), "what waits fits into the inbox");
        if lane.closed.load(Ordering::SeqCst) {
            self.answer_leftovers(lane);
        }
        Ok(partition)
    }

    /// Answers what is in the inbox of a partition that has ended.
    pub(crate) fn answer_leftovers(&self, lane: &Lane) {
        let outcome = if self.poison.is_set() { Outcome::SystemError } else { Outcome::Stopping };
        while let Some(inbound) = lane.inbox.pop() {
            lane.leave(1);
            inbound.reply_to.answer(outcome);
        }
    }

    pub(crate) fn last_seq(&self) -> Seq {
        Seq(self.next_seq.load(Ordering::SeqCst) - 1)
    }

    pub(crate) fn stage(&self) -> Stage {
        match self.stage.load(Ordering::SeqCst) {
            0 => Stage::Serving,
            1 => Stage::Stopping,
            2 => Stage::Drained,
            _ => Stage::Ended,
        }
    }

    /// Goes to a later stage; an earlier one changes nothing.
    pub(crate) fn enter(&self, stage: Stage) {
        self.stage.fetch_max(stage as u8, Ordering::SeqCst);
        self.wake_all();
    }

    pub(crate) fn admission(&self) -> Admission {
        if self.stage() >= Stage::Stopping {
            Admission::Stopping
        } else if self.room() == Room::Refused {
            Admission::NoSpace
        } else {
            Admission::Open
        }
    }

    pub(crate) fn room(&self) -> Room {
        match self.room.load(Ordering::Acquire) {
            0 => Room::Enough,
            1 => Room::Awaited,
            _ => Room::Refused,
        }
    }

    /// By the writer. Returns whether it changed.
    pub(crate) fn set_room(&self, room: Room) -> bool {
        self.room() != room && self.room.swap(room as u8, Ordering::AcqRel) != room as u8
    }

    /// Stops all acknowledging, with the first cause.
    pub(crate) fn poison(&self, cause: PoisonCause) {
        let _ = self.poison.cause.set(cause); // the first cause stays
        self.wake_all();
    }

    pub(crate) fn wake_partitions(&self) {
        for lane in &self.lanes {
            lane.waker.wake();
        }
    }

    pub(crate) fn wake_all(&self) {
        self.wake_partitions();
        self.writer.wake();
        self.durable.nudge();
    }

    /// Counts a put-off turn.
    pub(crate) fn count_put_off(lane: &Lane) {
        count(&lane.counters.turns_put_off, 1);
    }
}

/// What a panic said.
pub(crate) fn panic_message(panic: &(dyn std::any::Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().map(|text| (*text).to_owned());
    text.or_else(|| panic.downcast_ref::<String>().cloned()).unwrap_or_else(|| "no message".to_owned())
}
