//! What engine time does to an engine: backlogs of expiries, keys that age during a checkpoint, crashes with the clock set back.
#![allow(clippy::cast_possible_truncation, reason = "small numbers of the tests themselves")]

mod common;

use std::sync::Arc;
use std::time::Duration;

use common::{amount, authorize, ledger, open_account, void};
use tp_actors::tp_core::command::{Authorize, Command};
use tp_actors::tp_core::ids::AccountId;
use tp_actors::tp_core::key::Key;
use tp_actors::tp_core::outcome::Outcome;
use tp_actors::tp_core::reply::Reply;
use tp_actors::tp_core::time::{DAY_MS, Time};
use tp_actors::{CheckpointPolicy, Clock, Config, Engine, GivenClock, VerifyStatus, verify_on};
use tp_storage::{CrashMode, Device, MemoryDevice};

const START: Time = Time(1_704_067_200_000);

fn config(device: &MemoryDevice, clock: &GivenClock) -> Config {
    Config {
        data_dir: None,
        device: Some(Arc::new(device.clone())),
        partitions: 2,
        segment_bytes: 4 << 20,
        clock: Clock::given(clock.clone()),
        checkpoint: CheckpointPolicy::off(),
        ..Config::at("")
    }
}

/// Submits all, as many at a time as the client takes; every reply is handed to `each`.
fn drive(engine: &Engine, commands: u64, mut make: impl FnMut(u128) -> Command, mut each: impl FnMut(u64, Reply)) {
    let mut client = engine.client(2048);
    let (mut submitted, mut answered) = (0, 0);
    while answered < commands {
        while submitted < commands && client.submit(submitted, &make(submitted.into())).is_ok() {
            submitted += 1;
        }
        client.wait(Duration::from_millis(100));
        answered += client.poll(&mut each) as u64;
    }
}

/// Voided holds leave their entries in the timing wheel. A jump past their expiry made a backlog whose turns took nothing and made
/// no event, so the partition slept until its timer after each of them: commands waited past their deadlines.
#[test]
fn a_backlog_of_stale_expiries_is_worked_off_without_sleeping() {
    let clock = GivenClock::new(START);
    let config = Config { partitions: 1, clock: Clock::given(clock.clone()), ..common::in_memory(1) };
    let engine = Engine::open(config).expect("opens");
    assert!(engine.call_blocking(open_account(1, 1, None)).outcome.is_approval());
    let holds: u64 = 20_000;
    let mut ids = vec![None; holds as usize];
    drive(&engine, holds, |n| authorize(1_000 + n, 1, 1), |tag, reply| ids[tag as usize] = reply.authorization);
    drive(&engine, holds, |n| void(1_000_000 + n, ids[n as usize].expect("approved")), |_, _| {});
    let turns = |engine: &Engine| engine.status().partitions[0].turns;
    let before = turns(&engine);
    clock.set(START.plus_ms(8 * DAY_MS));
    assert_eq!(engine.call_blocking(authorize(5, 1, 1)).outcome, Outcome::Approved);
    assert!(turns(&engine) - before >= holds / 512, "the backlog was worked off in turns");
    engine.close_blocking().expect("an orderly close");
}

/// A page shows its slot at the moment of its copy. Keys that aged out while the other slots were copied were still in the replayed
/// state and no longer in the page: verify called a healthy directory corrupt.
#[test]
fn keys_that_age_out_while_a_checkpoint_is_copied_are_no_damage() {
    let (device, clock) = (MemoryDevice::new(), GivenClock::new(START));
    let mut config = config(&device, &clock);
    config.checkpoint.bytes_per_second = 1 << 20;
    let engine = Engine::open(config).expect("opens");
    for step in 0..60u128 {
        clock.set(START.plus_ms(step as u64 * 10));
        drive(&engine, 50, |n| open_account(step * 50 + n + 1, step * 50 + n + 1, None), |_, _| {});
    }
    let day = START.plus_ms(DAY_MS - 1_000);
    clock.set(day);
    drive(&engine, 100, |n| authorize(10_000_000 + n, n + 1, 1), |_, _| {});
    std::thread::scope(|scope| {
        let checkpoint = scope.spawn(|| engine.checkpoint());
        let mut step = 0u128;
        while !checkpoint.is_finished() {
            if step == 200 {
                std::thread::yield_now(); // enough has aged; let the copy end
                continue;
            }
            step += 1;
            clock.set(day.plus_ms(step as u64 * 10));
            let first = 20_000_000 + 10_000 * step;
            drive(&engine, 20, |n| authorize(first + n, n + 1, 1), |_, _| {});
        }
        assert!(checkpoint.join().expect("no panic").is_ok());
    });
    engine.close_blocking().expect("an orderly close");
    let device: Arc<dyn Device> = Arc::new(device);
    let report = verify_on(&device).expect("it can be read");
    assert_eq!((report.status, report.problems.len()), (VerifyStatus::Ok, 0));
    assert!(report.checkpoints > 0);
}

/// A refusal for an old key is no event. After it, a crash and a clock set back, engine time was lower than what the refusal had
/// shown, and the same key executed.
#[test]
fn engine_time_that_a_refusal_showed_survives_a_crash() {
    let (device, clock) = (MemoryDevice::new(), GivenClock::new(START));
    let engine = Engine::open(config(&device, &clock)).expect("opens");
    assert!(engine.call_blocking(open_account(1, 1, None)).outcome.is_approval());
    let later = START.plus_ms(3_600_000);
    clock.set(later);
    let old = Authorize::new(Key::uuid_v7_from_parts(START, 99), AccountId(1), ledger(), amount(5));
    assert_eq!(engine.call_blocking(old.clone()).outcome, Outcome::KeyExpired);
    // The witness follows within a second of use; each look is at a copy of what a power cut would leave.
    let recovered = loop {
        let after = device.crash(CrashMode::DropUnsynced);
        let recovered = Engine::open(config(&after, &GivenClock::new(START))).expect("recovers");
        if recovered.now() >= later {
            break recovered;
        }
    };
    drop(engine);
    let engine = recovered;
    assert!(engine.now() >= later);
    assert_eq!(engine.call_blocking(old).outcome, Outcome::KeyExpired);
}
