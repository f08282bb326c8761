//! One run: the engine's own code on a simulated machine, under one schedule.
//!
//! Owns the machine (disk, clocks), the engine that runs on it, its crashes and starts, and what must hold after each step. Refuses
//! to know rules of money: those are the oracle's. Everything is single-threaded and drawn from the case's seed.
//!
//! ```text
//! safety:    draw a step --> partition | writer | checkpointer | room | clients | clocks | faults | crash and start --> test
//! liveness:  faults end --> all are answered --> what is open is looked up with a fence --> close --> starts on 1, 2, 4 partitions
//! ```

mod checks;
mod ending;
mod faults;
mod schedule;
mod starts;

use std::sync::Arc;
use std::time::Duration;

use tp_actors::{CheckpointPolicy, Config, MachineClocks, ManualEngine};
use tp_storage::{FrameReader, MemoryDevice};

use crate::chance::Chance;
use crate::clients::Clients;
use crate::machine::START;
use crate::marks::Marks;
use crate::oracle::{Oracle, Wrong};
use crate::plan::{Case, Feature, Plan};
use crate::traffic::Traffic;

/// Rounds of everything that bring any run to rest.
const ROUNDS_MAX: usize = 200_000;

/// What a run was.
#[derive(Clone, Debug)]
pub struct Report {
    /// What was reached.
    pub marks: Marks,
    /// Of all that happened: two runs of a case have the same.
    pub trace: [u8; 32],
}

/// A violated promise.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Violation {
    /// The step of the schedule.
    pub step: u64,
    /// What is wrong.
    pub what: String,
}

/// Runs a case.
///
/// # Errors
/// The first [`Violation`].
pub fn run(case: &Case) -> Result<Report, Violation> {
    let mut world = World::new(case);
    let done = world.live();
    let (step, what) = (world.step, done.err());
    what.map_or_else(|| Ok(world.report()), |what| Err(Violation { step, what }))
}

#[allow(clippy::struct_excessive_bools, reason = "independent facts")]
pub(crate) struct World {
    plan: Plan,
    schedule: Chance,
    faults: Chance,
    step: u64,
    device: MemoryDevice,
    clocks: MachineClocks,
    engine: Option<ManualEngine>,
    reader: Option<Box<dyn FrameReader>>,
    oracle: Option<Oracle>,
    /// A running digest of all events, by number: what was durable stays what it was.
    log: Vec<[u8; 32]>,
    clients: Clients,
    traffic: Traffic,
    partitions: usize,
    has_write_fault: bool,
    had_no_space: bool,
    is_full: bool,
    is_closing: bool,
    was_poisoned: bool,
    marks: Marks,
    trace: blake3::Hasher,
}

impl World {
    fn new(case: &Case) -> Self {
        let plan = Plan::draw(case);
        let partitions = plan.partitions;
        Self {
            schedule: Chance::of(case.seed, "schedule"),
            faults: Chance::of(case.seed, "faults"),
            step: 0,
            device: MemoryDevice::new(),
            clocks: MachineClocks::new(START),
            engine: None,
            reader: None,
            oracle: None,
            log: Vec::new(),
            clients: Clients::default(),
            traffic: Traffic::new(case.seed),
            partitions,
            has_write_fault: false,
            had_no_space: false,
            is_full: false,
            is_closing: false,
            was_poisoned: false,
            marks: Marks::default(),
            trace: blake3::Hasher::new(),
            plan,
        }
    }

    fn report(self) -> Report {
        Report { marks: self.marks, trace: *self.trace.finalize().as_bytes() }
    }

    fn config(&self, device: &MemoryDevice, partitions: usize) -> Config {
        let plan = &self.plan;
        Config {
            windows: Some(plan.rules.windows),
            policy_default: plan.rules.policy_default,
            budgets: plan.rules.budgets,
            checkpoint: CheckpointPolicy {
                interval: plan.has(Feature::Checkpoints).then_some(Duration::from_secs(5)),
                events: plan.checkpoint_events,
                at_close: plan.has(Feature::Checkpoints),
                bytes_per_second: u64::MAX,
            },
            inbox_commands: plan.inbox_commands,
            in_flight_events: plan.in_flight_events,
            turn_commands_max: plan.turn_commands,
            turn_expiries_max: plan.turn_expiries,
            ..plan.copies().config(Arc::new(device.clone()), &self.clocks, partitions)
        }
    }

    fn live(&mut self) -> Result<(), Wrong> {
        self.start("made")?;
        while self.step < self.plan.steps {
            self.step += 1;
            self.one_step()?;
        }
        self.come_to_an_end()
    }

    fn engine(&mut self) -> &mut ManualEngine {
        self.engine.as_mut().expect("it runs between starts")
    }
}

/// Whether the journal of `sound` without its last frame ends at `last`.
fn is_lost_write(sound: &ManualEngine, last: u64) -> Result<bool, Wrong> {
    let mut reader = sound.source().read_from(last + 1).map_err(|error| error.to_string())?;
    let frame = reader.next(sound.last_seq().0).map_err(|error| error.to_string())?;
    Ok(frame.is_some_and(|frame| frame.first_seq == last + 1 && frame.last_seq() == sound.last_seq().0))
}

fn allow_read_error(plan: &Plan, error: &str) -> Result<(), Wrong> {
    if plan.has(Feature::ReadErrors) { Ok(()) } else { Err(format!("the journal cannot be read: {error}")) }
}
