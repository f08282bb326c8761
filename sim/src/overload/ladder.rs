//! More than the disk can take (P10): an open loop at multiples of the capacity, with 0.8 of it before, between and after.
//!
//! Owns how the capacity is found (a closed loop that never lets the disk rest), the steps, and what is shown of each. Refuses to
//! say what is good enough: that is for the test.

use super::{Load, Machine, Part, Speed, Wrong};

/// More than what may be on the way to the disk, so that it never rests; not so much that a command waits long enough to be refused.
const CLOSED_IN_FLIGHT: usize = 4_096;
/// Before anything is measured: what is remembered for a second has begun to go.
const WARM_US: u64 = 1_500_000;
/// How long the closed loop is measured.
const CAPACITY_US: u64 = 1_000_000;
/// Between overloads, in percent of the capacity.
const CALM_PERCENT: u64 = 80;
/// A calm second looks like the first one when no window has a 99th percentile above this, in percent of the first one's.
const BACK_PERCENT: u64 = 200;
/// What is remembered goes after a second, so that memory stands still at a steady rate.
const REMEMBERED_MS: u64 = 1_000;
/// How finely is looked when it is back.
const WINDOW_US: u64 = 100_000;

/// What is run.
#[derive(Clone, Debug)]
pub struct Ladder {
    /// The disk.
    pub speed: Speed,
    /// The loads, in percent of the capacity.
    pub percents: Vec<u64>,
    /// How long each load lasts, and how long the calm after it, µs.
    pub length_us: u64,
    /// How long clients wait, in turn, ms.
    pub deadlines_ms: Vec<u64>,
    /// Bytes of memory in use; `None`: nobody counts.
    pub heap: Option<fn() -> u64>,
}

/// One load and the calm after it.
#[derive(Clone, Debug)]
pub struct Row {
    /// In percent of the capacity.
    pub percent: u64,
    /// While it lasted.
    pub load: Part,
    /// 0.8 of the capacity, directly after it.
    pub calm: Part,
    /// How long after its end commands were answered as before it, µs; `None`: not until the next load.
    pub back_us: Option<u64>,
    /// The most commands inside the engine so far.
    pub queued_max: u64,
    /// Memory in use at its end, without the disk's contents and the clients' notes.
    pub heap_bytes: u64,
}

/// What a ladder gave.
#[derive(Clone, Debug)]
pub struct Climbed {
    /// Commands a second that the disk takes.
    pub capacity: u64,
    /// At 0.8 of it, before anything else.
    pub calm: Part,
    /// Memory in use at its end, likewise.
    pub calm_heap_bytes: u64,
    /// Each load.
    pub rows: Vec<Row>,
    /// The latest that a reply came after its deadline, µs.
    pub overdue_us_max: u64,
    /// The most commands that the clients had in flight.
    pub in_flight_max: usize,
    /// Commands sent.
    pub sent: u64,
}

/// Runs a ladder.
///
/// # Errors
/// The first reply that is not true, early, doubled or missing.
pub fn ladder(plan: &Ladder) -> Result<Climbed, Wrong> {
    let capacity = capacity(plan)?;
    let rate = |percent: u64| capacity * percent / 100;
    let sum: u64 = plan.percents.iter().map(|percent| percent + CALM_PERCENT).sum();
    let seconds_us = sum * plan.length_us + CALM_PERCENT * (WARM_US + plan.length_us);
    let commands = usize::try_from(capacity * seconds_us / 100 / 1_000_000).unwrap_or(0) + 1_000;
    let mut machine = Machine::new(plan.speed, REMEMBERED_MS, &plan.deadlines_ms, commands)?;
    // The disk keeps everything twice: as the cache shows it, and as the medium has it.
    let others = |machine: &Machine| 2 * machine.device.used_bytes() + machine.load.bytes();
    let heap = |machine: &Machine| plan.heap.map_or(0, |heap| heap().saturating_sub(others(machine)));
    machine.pass(WARM_US, rate(CALM_PERCENT))?;
    let part = |machine: &mut Machine, percent: u64| {
        let (from_us, to_us) = (machine.now_us, machine.now_us + plan.length_us);
        machine.load.add_part(rate(percent), from_us, to_us, capacity);
        machine.pass(to_us, rate(percent))
    };
    part(&mut machine, CALM_PERCENT)?;
    let calm_heap_bytes = heap(&machine);
    let mut shown = Vec::new();
    for percent in &plan.percents {
        part(&mut machine, *percent)?;
        shown.push((*percent, machine.queued_max, heap(&machine)));
        part(&mut machine, CALM_PERCENT)?;
    }
    let longest_ms = plan.deadlines_ms.iter().max().copied().unwrap_or(0);
    machine.drain((longest_ms + 1_000) * 1_000)?;
    let load = machine.end()?;
    Ok(climbed(&load, capacity, calm_heap_bytes, &shown))
}

fn climbed(load: &Load, capacity: u64, calm_heap_bytes: u64, shown: &[(u64, u64, u64)]) -> Climbed {
    let calm = load.parts[0].clone();
    let most_us = calm.latency_us(990, (0, calm.length_us())) * BACK_PERCENT / 100;
    let row = |((percent, queued_max, heap_bytes), parts): (&(u64, u64, u64), &[Part])| Row {
        percent: *percent,
        load: parts[0].clone(),
        calm: parts[1].clone(),
        back_us: back_us(&parts[1], most_us),
        queued_max: *queued_max,
        heap_bytes: *heap_bytes,
    };
    Climbed {
        capacity,
        rows: shown.iter().zip(load.parts[1..].chunks_exact(2)).map(row).collect(),
        calm,
        calm_heap_bytes,
        overdue_us_max: load.overdue_us_max,
        in_flight_max: load.in_flight_max,
        sent: load.parts.iter().map(|part| part.sent).sum(),
    }
}

/// From when on everything is answered, and no window is slower than that; `None`: not within the part.
fn back_us(part: &Part, most_us: u64) -> Option<u64> {
    let windows = part.length_us() / WINDOW_US;
    let is_slow = |window: &u64| part.latency_us(990, (window * WINDOW_US, (window + 1) * WINDOW_US)) > most_us;
    let slow = (0..windows).rev().find(is_slow).map_or(0, |window| (window + 1) * WINDOW_US);
    let back_us = slow.max(part.refused_us_last.next_multiple_of(WINDOW_US));
    (back_us < part.length_us()).then_some(back_us)
}

/// What the disk takes when it never rests.
fn capacity(plan: &Ladder) -> Result<u64, Wrong> {
    let mut machine = Machine::new(plan.speed, REMEMBERED_MS, &[60_000], 0)?;
    let (from_us, to_us) = (WARM_US, WARM_US + CAPACITY_US);
    machine.load.add_part(0, from_us, to_us, 0);
    while machine.now_us < to_us {
        machine.pass_some(to_us);
        while machine.load.in_flight() < CLOSED_IN_FLIGHT {
            machine.load.send(&machine.engine, machine.now_us, machine.now_us);
        }
        machine.work()?;
    }
    machine.drain(10_000_000)?;
    let load = machine.end()?;
    let part = &load.parts[0];
    if part.busy + part.late + part.in_progress > 0 {
        return Err(format!("{} commands were refused while the capacity was measured", part.busy + part.late));
    }
    Ok(part.goodput())
}
