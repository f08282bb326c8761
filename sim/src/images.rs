//! Crash images: the disk after every prefix of a real run's I/O, with any part of what was not synced, recovered and compared.
//!
//! Owns a recorded run, the enumeration of its images (P1) and what each recovery must come to: no event lost that was durable when
//! the power went, the journal a prefix of what was decided, the same state whatever the partitions. One in five crashes again
//! inside its recovery. Refuses to know the oracle: what the events mean is tested by the simulation.

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use tp_actors::{CallOptions, Config, MachineClocks, ManualEngine, OpenError, Pending, StateDigest};
use tp_core::command::Command;
use tp_core::rules::Budgets;
use tp_storage::{CrashMode, Device, Fault, MemoryDevice, RecoverError};

use crate::chance::Chance;
use crate::machine::{START, log_of};
use crate::oracle::Wrong;
use crate::plan::{Case, Plan};
use crate::recording::{Call, Recording, Replay};
use crate::traffic::Traffic;

/// What the images of one or more runs came to.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Images {
    /// Images recovered.
    pub images: u64,
    /// Of these, with a second crash inside the recovery.
    pub cut_again: u64,
    /// Refused as ambiguous first, and recovered with `accept_tail`.
    pub ambiguous: u64,
    /// With a tail that was cut.
    pub tails: u64,
    /// From a checkpoint.
    pub from_checkpoint: u64,
}

impl Images {
    /// Adds another run's.
    pub const fn merge(&mut self, other: Self) {
        self.images += other.images;
        self.cut_again += other.cut_again;
        self.ambiguous += other.ambiguous;
        self.tails += other.tails;
        self.from_checkpoint += other.from_checkpoint;
    }
}

/// A run's I/O, and what was promised when.
struct Recorded {
    plan: Plan,
    clocks: MachineClocks,
    calls: Vec<Call>,
    /// After so many calls, this number was durable.
    promises: Vec<(usize, u64)>,
    /// A running digest of the events.
    log: Vec<[u8; 32]>,
}

/// Records the run of a seed, and recovers all its images.
///
/// # Errors
/// What the first wrong recovery lost or changed.
pub fn recover_all(seed: u64) -> Result<Images, String> {
    let recorded = record(seed)?;
    let mut chance = Chance::of(seed, "images");
    let mut replay = Replay::default();
    let (mut done, mut states) = (Images::default(), BTreeMap::new());
    for (number, call) in recorded.calls.iter().enumerate() {
        replay.follow(call).map_err(|error| format!("call {number} cannot be repeated: {error}"))?;
        let promised =
            recorded.promises.iter().rev().find(|(calls, _)| *calls <= number + 1).map_or(0, |(_, seq)| *seq);
        let modes = [
            CrashMode::DropUnsynced,
            CrashMode::KeepAll,
            CrashMode::Sectors(chance.bits()),
            CrashMode::Sectors(chance.bits()),
        ];
        for mode in modes {
            let image = replay.device.crash(mode);
            recorded
                .recover((image, matches!(mode, CrashMode::Sectors(_))), promised, &mut chance, &mut states, &mut done)
                .map_err(|wrong| format!("seed {seed}, after call {number} ({}), {mode:?}: {wrong}", name(call)))?;
        }
    }
    Ok(done)
}

/// The images of many runs, on so many threads; and what was wrong.
pub fn recover_many(seeds: Range<u64>, jobs: usize) -> (Images, Vec<String>) {
    let next = AtomicU64::new(seeds.start);
    let sum = Mutex::new((Images::default(), Vec::new()));
    let work = || {
        loop {
            let seed = next.fetch_add(1, Ordering::Relaxed);
            if seed >= seeds.end {
                return;
            }
            let result = recover_all(seed);
            let Ok(mut sum) = sum.lock() else { return };
            match result {
                Ok(images) => sum.0.merge(images),
                Err(wrong) => sum.1.push(wrong),
            }
        }
    };
    std::thread::scope(|scope| {
        (0..jobs.max(1)).for_each(|_| drop(scope.spawn(work)));
    });
    sum.into_inner().unwrap_or_default()
}

fn name(call: &Call) -> String {
    match call {
        Call::Create { path, .. } => format!("create {path}"),
        Call::Write { file, offset, bytes } => format!("write {} bytes at {offset} of file {file}", bytes.len()),
        Call::Allocate { file, .. } => format!("allocate file {file}"),
        Call::Sync { file } => format!("sync file {file}"),
        Call::Rename { from, to } => format!("rename {from} to {to}"),
        Call::Remove { path } => format!("remove {path}"),
        Call::CreateDir { path } => format!("make {path}"),
        Call::SyncDir { path } => format!("sync the names in `{path}`"),
    }
}

fn config(plan: &Plan, clocks: &MachineClocks, device: Arc<dyn Device>, partitions: usize) -> Config {
    Config {
        windows: Some(plan.rules.windows),
        policy_default: plan.rules.policy_default,
        budgets: Budgets { exchanges: 32, ..Budgets::default() },
        ..plan.copies().config(device, clocks, partitions)
    }
}

/// A run of a few hundred commands with checkpoints, closes and starts in between.
fn record(seed: u64) -> Result<Recorded, Wrong> {
    let plan = Plan::draw(&Case::of(seed));
    let (mut chance, mut traffic) = (Chance::of(seed, "record"), Traffic::new(seed));
    let (device, clocks) = (Recording::default(), MachineClocks::new(START));
    let (mut promises, mut open) = (Vec::new(), Vec::new());
    for round in 0..3 {
        let config = config(&plan, &clocks, Arc::new(device.clone()), plan.partitions);
        let mut engine = ManualEngine::open(&config).map_err(|error| format!("the recorded run: {error}"))?;
        promises.push((device.calls(), engine.last_seq().0));
        for step in 0..chance.between(40, 120) {
            for _ in 0..chance.between(1, 6) {
                let command = traffic.draw(&plan, engine.now());
                open.push((engine.call(command.clone(), CallOptions::default()), command));
            }
            learn(&mut traffic, &mut open);
            if step == 30 && round > 0 {
                let _ = engine.begin_checkpoint();
            }
            if chance.one_in(3) {
                engine.turn_all();
                promises.push((device.calls(), engine.durable_seq().0));
            }
            for _ in 0..200 {
                drop(engine.checkpoint());
                for partition in 0..plan.partitions {
                    engine.partition(partition);
                }
            }
            engine.write();
            promises.push((device.calls(), engine.durable_seq().0));
            engine.make_room();
            clocks.pass(chance.below(40_000));
        }
        let last = engine.last_seq();
        engine.close(|| clocks.pass(1_000)).map_err(|error| format!("the recorded run: {error}"))?;
        promises.push((device.calls(), last.0));
    }
    let log = read_log(&plan, &clocks, &device)?;
    Ok(Recorded { plan, clocks, calls: device.into_calls(), promises, log })
}

/// Later commands work on what earlier ones made.
pub(crate) fn learn(traffic: &mut Traffic, open: &mut Vec<(Pending, Command)>) {
    open.retain_mut(|(pending, command)| {
        let reply = pending.try_take();
        if let Some(reply) = &reply {
            traffic.learn(command, reply);
        }
        reply.is_none()
    });
}

fn read_log(plan: &Plan, clocks: &MachineClocks, device: &Recording) -> Result<Vec<[u8; 32]>, Wrong> {
    let copy = device.memory().crash(CrashMode::KeepAll);
    let engine = ManualEngine::open(&config(plan, clocks, Arc::new(copy), 1)).map_err(|error| error.to_string())?;
    log_of(&engine)
}

impl Recorded {
    fn recover(
        &self,
        (mut image, mut is_torn): (MemoryDevice, bool),
        promised: u64,
        chance: &mut Chance,
        states: &mut BTreeMap<u64, StateDigest>,
        done: &mut Images,
    ) -> Result<(), Wrong> {
        done.images += 1;
        let partitions = chance.index(4) + 1;
        let mut accept_tail = false;
        if chance.one_in(5) {
            image.plan(Fault::PowerOffAt(image.calls() + chance.between(1, 20)));
            drop(ManualEngine::open(&config(&self.plan, &self.clocks, Arc::new(image.clone()), partitions)));
            image = image.crash(CrashMode::Sectors(chance.bits()));
            is_torn = true;
            done.cut_again += 1;
        }
        let mut engine = loop {
            let config = config(&self.plan, &self.clocks, Arc::new(image.clone()), partitions);
            match ManualEngine::open(&Config { accept_tail, ..config }) {
                Ok(engine) => break engine,
                Err(OpenError::Recover(RecoverError::Ambiguous(_))) if !accept_tail && is_torn => {
                    accept_tail = true;
                    done.ambiguous += 1;
                }
                Err(error) => return Err(format!("it does not open: {error}")),
            }
        };
        let last = engine.last_seq().0;
        if last < promised {
            return Err(format!("event {promised} was durable, the journal ends at {last}"));
        }
        let events = log_of(&engine)?;
        if self.log.get(..events.len()) != Some(&events[..]) || events.len() as u64 != last {
            return Err("its events are not those that were decided".into());
        }
        let digest = engine.digest();
        if *states.entry(last).or_insert(digest) != digest {
            return Err(format!("its state at event {last} is another one than another image's"));
        }
        done.tails += u64::from(!matches!(engine.recovery().tail, tp_actors::TailReport::Clean));
        done.from_checkpoint += u64::from(engine.recovery().checkpoint.is_some());
        Ok(())
    }
}
