//! Overload and gray disks in virtual time (P10, P16): the engine's own code at a disk of a stated speed, under an open loop.
//!
//! Owns the machine that turns the cranks while syncs are under way, and the two campaigns: [`ladder()`], more than the disk can
//! take, and [`stalled`], a disk that stands still. Refuses to know rules of money. Time passes only for the disk: partitions
//! decide in no time, so figures are the disk's and the queues', and are the same wherever they are made.
//!
//! ```text
//!  every 250 µs: what is due is sent --> partitions --> ring --> writer --> sync (takes its time) --> replies are tested
//! ```

mod disk;
mod ladder;
mod load;
mod shown;
mod stall;

use std::sync::Arc;

use tp_actors::{CallOptions, Config, MachineClocks, ManualEngine, Work};
use tp_core::rules::Windows;
use tp_storage::{MemoryDevice, PacedDevice};

use crate::machine::{self, START};
use crate::oracle::Wrong;
use disk::{Disk, Gate};
use load::{Load, TICK_US};

pub use disk::Speed;
pub use ladder::{Climbed, Ladder, Row, ladder};
pub use load::Part;
pub use shown::table;
pub use stall::{Stalled, stalled};

/// How finely time passes, µs.
const QUANTUM_US: u64 = 250;
/// Partitions of the machine.
const PARTITIONS: usize = 2;
/// What a client may have in flight: far more than the engine takes.
const IN_FLIGHT: usize = 1 << 16;
/// As engines have it that nobody configured.
const SEGMENT_BYTES: u64 = 64 << 20;

/// The machine: an engine at a disk that takes its time.
struct Machine {
    clocks: MachineClocks,
    device: MemoryDevice,
    engine: ManualEngine,
    disk: Disk,
    load: Load,
    now_us: u64,
    /// Which partition is turned first.
    first: usize,
    /// What a power cut in the middle found: acknowledged, and there.
    cut: Option<(u64, u64)>,
    /// The most commands that waited anywhere in the engine, as it shows it.
    queued_max: u64,
}

/// An engine at the disk's gate, with the options of one that nobody configured. `window_ms`: how long keys and authorizations are
/// remembered.
fn config(device: &MemoryDevice, clocks: &MachineClocks, window_ms: u64) -> Config {
    let paced = PacedDevice::new(Arc::new(device.clone()), Arc::new(Gate));
    Config {
        segment_bytes: SEGMENT_BYTES,
        windows: Some(Windows {
            key_uuid_v7_ms: Some(window_ms),
            key_opaque_ms: Some(window_ms),
            refund_ms: window_ms,
        }),
        forget_when_idle: false,
        ..machine::config(Arc::new(paced), clocks, PARTITIONS)
    }
}

impl Machine {
    /// A new engine with all accounts, everything at rest.
    fn new(speed: Speed, window_ms: u64, deadlines_ms: &[u64], commands: usize) -> Result<Self, Wrong> {
        let clocks = MachineClocks::new(START);
        let device = MemoryDevice::new();
        let config = config(&device, &clocks, window_ms);
        let mut engine = ManualEngine::open(&config).map_err(|error| error.to_string())?;
        let load = Load::new(&engine, IN_FLIGHT, deadlines_ms, commands);
        let openings = load.openings().map(|opening| engine.call(opening, CallOptions::default()));
        let mut waiting: Vec<_> = openings.collect();
        while engine.turn_all() == Work::Made {}
        let are_open = waiting.iter_mut().all(|p| p.try_take().is_some_and(|reply| reply.outcome.is_approval()));
        if !are_open {
            return Err("an account could not be opened".into());
        }
        let disk = Disk::new(&mut engine, speed);
        Ok(Self { clocks, device, engine, disk, load, now_us: 0, first: 0, cut: None, queued_max: 0 })
    }

    /// Time passes to `until_us` while `rate` commands a second are sent, evenly.
    fn pass(&mut self, until_us: u64, rate: u64) -> Result<(), Wrong> {
        let from_us = self.now_us;
        let mut sent = 0;
        while self.now_us < until_us {
            self.pass_some(until_us);
            let due = (self.now_us - from_us).saturating_mul(rate) / 1_000_000;
            while sent < due {
                let planned_us = from_us + sent * 1_000_000 / rate;
                self.load.send(&self.engine, self.now_us, planned_us);
                sent += 1;
            }
            self.work()?;
        }
        Ok(())
    }

    /// To the next quantum, or to the end of the sync under way.
    fn pass_some(&mut self, until_us: u64) {
        let next_us = ((self.now_us / QUANTUM_US + 1) * QUANTUM_US).min(until_us);
        let next_us = self.disk.due_us().map_or(next_us, |due_us| next_us.min(due_us.max(self.now_us)));
        self.clocks.pass(next_us - self.now_us);
        self.now_us = next_us;
    }

    /// Everybody does what there is to do at this time.
    fn work(&mut self) -> Result<(), Wrong> {
        if self.now_us.is_multiple_of(TICK_US) {
            (0..PARTITIONS).for_each(|index| self.engine.tick(index));
            self.look();
        }
        self.turn_partitions();
        self.disk.turn(&self.engine, self.now_us);
        self.turn_partitions();
        self.engine.make_room();
        self.load.poll(self.now_us, self.disk.reach())?;
        self.engine.poison().map_or(Ok(()), |cause| Err(format!("poisoned: {cause}")))
    }

    /// Until all rest, turn by turn as they run side by side: what one sends another may take at once. Each is the first at times.
    fn turn_partitions(&mut self) {
        let mut has_more = true;
        while has_more {
            has_more = false;
            self.first = (self.first + 1) % PARTITIONS;
            for index in (0..PARTITIONS).map(|n| (self.first + n) % PARTITIONS) {
                has_more |= self.engine.partition(index) == Work::Made;
            }
        }
    }

    fn look(&mut self) {
        let queued = |index| {
            let status = self.engine.partition_status(index);
            status.waiting_commands + status.replies_held + status.peer_messages
        };
        let queued = (0..PARTITIONS).map(queued).sum();
        self.queued_max = self.queued_max.max(queued);
    }

    /// Nothing more is sent; everybody is answered, at the latest by the longest deadline.
    fn drain(&mut self, within_us: u64) -> Result<(), Wrong> {
        let until_us = self.now_us + within_us;
        while self.load.in_flight() > 0 && self.now_us < until_us {
            self.pass_some(until_us);
            self.work()?;
        }
        match self.load.in_flight() {
            0 => Ok(()),
            open => Err(format!("{open} commands were not answered within {within_us} µs of the last one")),
        }
    }

    /// All syncs return, all is durable; the journal is held against what was said.
    fn end(self) -> Result<Load, Wrong> {
        let Self { mut engine, disk, load, .. } = self;
        disk.end(&mut engine);
        while engine.turn_all() == Work::Made {}
        if engine.durable_seq() != engine.last_seq() {
            return Err(format!("{} is not durable at the end", engine.last_seq()));
        }
        if let Some(wrong) = engine.trial_balance().iter().find(|totals| !totals.is_balanced()) {
            return Err(format!("the ledger does not balance: {wrong:?}"));
        }
        load.audit(&engine)?;
        Ok(load)
    }
}
