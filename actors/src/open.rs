//! Opening: from a configuration to running threads.
//!
//! Owns the order of the start: recover, then re-send open exchanges, then serve. Refuses to leave threads behind when
//! a step fails.

use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Instant;

use actix::{Actor as _, Arbiter, System};
use crossbeam::channel::{Receiver, Sender, bounded};
use tp_core::ids::Seq;
use tp_core::partition::Partition;
use tp_core::rules::{Budgets, Rules};
use tp_core::time::Time;
use tp_storage::{CheckpointStore, DataDirectory, FrameSource, Scrubber};

use crate::actor::PartitionActor;
use crate::catalogue::{self, CatalogueHandle};
use crate::catalogue_place::Place;
use crate::checkpointer_thread::{self, CheckpointerHandle};
use crate::clock::EngineClock;
use crate::config::{Bounds, Config};
use crate::crank::PartitionCrank;
use crate::error::OpenError;
use crate::fold::Slots;
use crate::parameters::Parameters;
use crate::recovery::{Recovered, RecoveryReport, place_of, recover};
use crate::scrubber_thread::{self, ScrubberHandle};
use crate::shared::{Shared, Start};
use crate::step::Step;
use crate::wake::Sleeper;
use crate::writer::WriterStep;
use crate::writer_thread::{self, WriterHandle};

/// All threads of a running engine, in the order in which they are stopped.
pub(crate) struct Threads {
    pub(crate) checkpointer: Option<CheckpointerHandle>,
    pub(crate) system: SystemHandle,
    pub(crate) writer: Option<WriterHandle>,
    pub(crate) catalogue: Option<CatalogueHandle>,
    pub(crate) scrubber: Option<ScrubberHandle>,
    /// Keeps the directory's lock until everything else has ended.
    pub(crate) directory: Option<DataDirectory>,
}

/// The actix system's thread.
pub(crate) struct SystemHandle {
    pub(crate) system: System,
    pub(crate) thread: Option<JoinHandle<()>>,
}

/// A started engine's parts.
pub(crate) struct Opened {
    pub(crate) shared: Arc<Shared>,
    pub(crate) source: Arc<dyn FrameSource>,
    pub(crate) report: RecoveryReport,
    pub(crate) threads: Threads,
}

/// Everything recovered and put together, before any thread runs.
pub(crate) struct Prepared {
    pub(crate) shared: Arc<Shared>,
    pub(crate) steps: Vec<Step>,
    pub(crate) writer: WriterStep,
    pub(crate) sleeper: Sleeper,
    pub(crate) source: Arc<dyn FrameSource>,
    pub(crate) scrubber: Option<Scrubber>,
    pub(crate) epoch: u64,
    pub(crate) directory: Option<DataDirectory>,
    pub(crate) catalogue: Option<Box<dyn tp_storage::Catalogue>>,
    pub(crate) report: RecoveryReport,
}

/// Recovers, and puts an engine together.
pub(crate) fn prepare(config: &Config) -> Result<Prepared, OpenError> {
    config.validate()?;
    let Recovered { state, journal, directory, catalogue, recorded_time, report } = recover(config)?;
    let (sleeper, waker) = Sleeper::new();
    let bounds = Bounds::of(config);
    let shared = Arc::new(Shared::new(Start {
        seed: state.parameters.seed,
        windows: state.parameters.windows,
        bounds,
        deadline_ms_default: config.deadline_ms_default,
        inbox_commands: config.inbox_commands,
        partitions: config.partitions,
        clock: EngineClock::start(&config.clock, Time(recorded_time)),
        last_seq: report.last_seq.0,
        event_time_max: state.time_max,
        has_room: journal.has_room(),
        writer: waker,
    }));
    let rules = Arc::new(rules_of(config, &state.parameters, bounds));
    let mut steps = steps_of(&shared, &rules, state.parameters, state.slots, report.last_seq);
    if config.prefault_records > 0 {
        set_aside(&mut steps, config.prefault_records.div_ceil(config.partitions as u64));
    }
    let (source, scrubber, epoch) = (journal.source(), journal.scrubber(), journal.epoch());
    let writer = WriterStep::new(journal, config.partitions);
    Ok(Prepared { shared, steps, writer, sleeper, source, scrubber, epoch, directory, catalogue, report })
}

/// Opens an engine.
pub(crate) fn open(config: &Config) -> Result<Opened, OpenError> {
    let start = Instant::now();
    let system_error = |source| OpenError::System { what: "a thread", source };
    let prepared = prepare(config)?;
    let Prepared { shared, steps, writer, sleeper, source, scrubber, epoch, directory, catalogue, mut report } =
        prepared;
    let system = start_system(&shared, steps)?;
    let mut threads = Threads { checkpointer: None, system, writer: None, catalogue: None, scrubber: None, directory };
    let started = start_others(config, &shared, &source, epoch, (writer, sleeper), catalogue, &mut threads)
        .and_then(|()| start_scrubber(config, &shared, scrubber, &mut threads));
    if let Err(error) = started {
        crate::close::stop(&shared, threads);
        return Err(system_error(error));
    }
    report.took_ms = u64::try_from(start.elapsed().as_millis()).unwrap_or(u64::MAX);
    Ok(Opened { shared, source, report, threads })
}

fn start_others(
    config: &Config,
    shared: &Arc<Shared>,
    source: &Arc<dyn FrameSource>,
    epoch: u64,
    (writer, sleeper): (WriterStep, Sleeper),
    store: Option<Box<dyn tp_storage::Catalogue>>,
    threads: &mut Threads,
) -> std::io::Result<()> {
    let writer = writer_thread::start(Arc::clone(shared), writer, sleeper)?;
    let orders = writer.orders.clone();
    threads.writer = Some(writer);
    let directory = threads.directory.clone();
    let place = directory.as_ref().and_then(|directory| Some(Place::new(place_of(config)?, directory.engine_id())));
    threads.catalogue = Some(catalogue::start(Arc::clone(shared), Arc::clone(source), place, store)?);
    if let Some(directory) = directory {
        let store = CheckpointStore::new(&directory);
        threads.checkpointer =
            Some(checkpointer_thread::start(Arc::clone(shared), store, config.checkpoint, epoch, orders)?);
    }
    Ok(())
}

fn start_scrubber(
    config: &Config,
    shared: &Arc<Shared>,
    scrubber: Option<Scrubber>,
    threads: &mut Threads,
) -> std::io::Result<()> {
    if let Some((scrubber, policy)) = scrubber.zip(config.scrub) {
        threads.scrubber = Some(scrubber_thread::start(Arc::clone(shared), scrubber, policy)?);
    }
    Ok(())
}

/// The rules of one partition: budgets are divided.
fn rules_of(config: &Config, parameters: &Parameters, bounds: Bounds) -> Rules {
    let partitions = config.partitions as u64;
    Rules {
        windows: parameters.windows,
        policies: config.policies.clone(),
        policy_default: config.policy_default,
        budgets: Budgets {
            key_bytes: config.budgets.key_bytes / partitions,
            authorization_bytes: config.budgets.authorization_bytes / partitions,
            exchanges: bounds.exchanges,
        },
    }
}

/// The partitions with their slots, with everything re-sent that was open.
fn steps_of(shared: &Shared, rules: &Arc<Rules>, parameters: Parameters, slots: Slots, last_seq: Seq) -> Vec<Step> {
    let partitions = shared.lanes.len();
    let mut shares: Vec<Slots> = (0..partitions).map(|_| Vec::new()).collect();
    for slot in slots {
        shares[shared.partition_of(slot.index())].push(slot);
    }
    let step = |(index, share): (usize, Slots)| {
        let mut partition = Partition::recovered(parameters.seed, Arc::clone(rules), shared.clock.now(), share);
        partition.set_last_seq(last_seq);
        Step::new(index, partitions, partition)
    };
    let mut steps: Vec<Step> = shares.into_iter().enumerate().map(step).collect();
    for step in &mut steps {
        step.resend(shared);
    }
    steps
}

/// Takes memory for so many records of each partition, side by side: touching it is all of the work. Where there is no thread to be
/// had, the partition takes its memory when it needs it.
fn set_aside(steps: &mut [Step], records: u64) {
    std::thread::scope(|scope| {
        for step in steps {
            let partition = step.partition();
            let _ = std::thread::Builder::new().spawn_scoped(scope, move || partition.set_aside(records));
        }
    });
}

/// Starts the actix system and one arbiter with one actor for each partition.
fn start_system(shared: &Arc<Shared>, steps: Vec<Step>) -> Result<SystemHandle, OpenError> {
    let (ready, wait): (Sender<std::io::Result<System>>, Receiver<_>) = bounded(1);
    let shared = Arc::clone(shared);
    let failed = |source| OpenError::System { what: "the actor system", source };
    let thread = std::thread::Builder::new()
        .name("tp-system".into())
        .spawn(move || run_system(&shared, steps, &ready))
        .map_err(failed)?;
    // A runtime that cannot be made panics inside actix: the channel then closes.
    let started = wait.recv().unwrap_or_else(|_| Err(std::io::Error::other("the runtime could not be started")));
    match started {
        Ok(system) => Ok(SystemHandle { system, thread: Some(thread) }),
        Err(source) => {
            let _ = thread.join();
            Err(failed(source))
        }
    }
}

fn run_system(shared: &Arc<Shared>, steps: Vec<Step>, ready: &Sender<std::io::Result<System>>) {
    let runner = System::new();
    let arbiters = runner.block_on(async { start_actors(shared, steps) });
    let (arbiters, result) = match arbiters {
        Ok(arbiters) => (arbiters, Ok(System::current())),
        Err(error) => (Vec::new(), Err(error)),
    };
    let is_ok = result.is_ok();
    if ready.send(result).is_err() || !is_ok {
        return;
    }
    let _ = runner.run();
    for arbiter in arbiters {
        let _ = arbiter.join(); // a panic in it has poisoned the engine already
    }
}

fn start_actors(shared: &Arc<Shared>, steps: Vec<Step>) -> std::io::Result<Vec<Arbiter>> {
    let mut arbiters = Vec::with_capacity(steps.len());
    for (index, step) in steps.into_iter().enumerate() {
        let arbiter = Arbiter::try_new()?;
        let shared = Arc::clone(shared);
        let _ = PartitionActor::start_in_arbiter(&arbiter.handle(), move |_| {
            PartitionActor::new(PartitionCrank::new(index, shared, step))
        });
        arbiters.push(arbiter);
    }
    Ok(arbiters)
}
