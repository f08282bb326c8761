//! A disk that stands still, or is slow throughout (P16): an open loop goes on, everybody is answered by his deadline.
//!
//! Owns the run around one long sync and what is shown of it. In the middle of the stall the power is cut (on a copy of the disk): what
//! was acknowledged must be there. Refuses to say what is good enough: that is for the test.

use tp_actors::{MachineClocks, ManualEngine};
use tp_core::time::Time;
use tp_storage::CrashMode;

use super::{Machine, Part, Speed, Wrong, config};
use crate::machine::START;

/// How long clients wait, in turn, ms: some give up soon, some would wait for nearly any disk.
const DEADLINES_MS: [u64; 4] = [100, 500, 2_000, 10_000];
/// Before the stall, and after it, µs.
const AROUND_US: u64 = 1_500_000;
/// After the last command, µs.
const DRAIN_US: u64 = 120_000_000;
/// Longer than any stall: what waited for it still finds its key.
const WINDOW_MS: u64 = 600_000;

/// A run around a stall.
#[derive(Clone, Debug)]
pub struct Stalled {
    /// What each sync takes.
    pub sync_us: u64,
    /// What one sync takes longer.
    pub stall_us: u64,
    /// Before the stall, while it lasts, and after it.
    pub parts: [Part; 3],
    /// The latest that a reply came after its deadline, µs.
    pub overdue_us_max: u64,
    /// The most commands inside the engine.
    pub queued_max: u64,
    /// The last event that was acknowledged when the power was cut in the middle of the stall, and the last one that was found.
    pub cut: (u64, u64),
}

/// Runs `rate` commands a second at a disk whose syncs take `speed`, and one of them `stall_us` longer.
///
/// # Errors
/// The first reply that is not true, early, doubled or missing; an acknowledged event that a power cut loses.
pub fn stalled(speed: Speed, stall_us: u64, rate: u64) -> Result<Stalled, Wrong> {
    let commands = usize::try_from((2 * AROUND_US + stall_us) * rate / 1_000_000).unwrap_or(0) + 1_000;
    let mut machine = Machine::new(speed, WINDOW_MS, &DEADLINES_MS, commands)?;
    let ends_us = [AROUND_US, AROUND_US + stall_us, 2 * AROUND_US + stall_us];
    for (n, to_us) in ends_us.into_iter().enumerate() {
        machine.load.add_part(rate, machine.now_us, to_us, rate);
        if n == 1 {
            machine.disk.stall(stall_us);
            machine.pass(machine.now_us.midpoint(to_us), rate)?;
            machine.cut = Some(power_cut(&machine)?);
        }
        machine.pass(to_us, rate)?;
    }
    machine.drain(DRAIN_US)?;
    let (cut, queued_max) = (machine.cut.unwrap_or_default(), machine.queued_max);
    let load = machine.end()?;
    let parts = <[Part; 3]>::try_from(load.parts).map_err(|_| "three parts were run")?;
    Ok(Stalled { sync_us: speed.latency_us, stall_us, parts, overdue_us_max: load.overdue_us_max, queued_max, cut })
}

/// What a machine finds whose power goes now: the last event acknowledged so far, and the last one there is.
fn power_cut(machine: &Machine) -> Result<(u64, u64), Wrong> {
    let device = machine.device.crash(CrashMode::DropUnsynced);
    let clocks = MachineClocks::new(Time(START.0 + machine.now_us / 1_000));
    let found = ManualEngine::open(&config(&device, &clocks, WINDOW_MS)).map_err(|error| error.to_string())?;
    let (acknowledged, last) = (machine.load.acknowledged, found.last_seq().0);
    if last < acknowledged {
        return Err(format!("event {acknowledged} was acknowledged, the disk had {last} when its power went"));
    }
    Ok((acknowledged, last))
}
