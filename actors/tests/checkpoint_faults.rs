//! Checkpoints that fail, that are off by one, and that the journal ends below.
#![allow(clippy::cast_possible_truncation, reason = "small numbers of the tests themselves")]

mod common;

use std::collections::BTreeSet;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use common::tap::{Call, Tap};
use common::{Workload, authorize, config_at, open_accounts, run};
use parking_lot::Mutex;
use tp_actors::{CheckpointFailed, Config, Engine, ErrorClass, OpenError, VerifyStatus, View, ViewOptions, verify_on};
use tp_storage::{CrashMode, Device, MemoryDevice, RecoverError};

const EIO: i32 = 5;
const ENOSPC: i32 = 28;

/// As many as make a checkpoint longer than what is written in one go, 1 MiB.
const ACCOUNTS: u64 = 20_000;

fn on(device: Arc<dyn Device>, partitions: usize) -> Config {
    let config = config_at(std::path::Path::new("/nowhere"), partitions);
    Config { data_dir: None, device: Some(device), ..config }
}

/// What one checkpoint does with its files, and which of these calls fails with what.
#[derive(Default)]
struct Plan {
    calls: Vec<Call>,
    fails: Option<Fault>,
    /// Whether the call came.
    failed: bool,
}

/// The `nth` call of its kind, from 0. Not the nth of all: how pages of two partitions meet in a buffer decides how many writes, and
/// so how many reads, stand before the calls behind them.
#[derive(Debug, Clone, Copy)]
struct Fault {
    call: Call,
    nth: usize,
    with: i32,
}

/// A device where one call that concerns checkpoints fails.
struct Failing {
    tap: Tap,
    plan: Arc<Mutex<Plan>>,
}

impl Failing {
    fn new() -> Self {
        let plan = Arc::new(Mutex::new(Plan::default()));
        let asked = Arc::clone(&plan);
        let tap = Tap::new(move |call, path| {
            if !path.starts_with("checkpoints") {
                return Ok(());
            }
            let mut plan = asked.lock();
            let nth = plan.calls.iter().filter(|earlier| **earlier == call).count();
            plan.calls.push(call);
            match plan.fails {
                Some(fault) if (fault.call, fault.nth) == (call, nth) => {
                    plan.failed = true;
                    Err(io::Error::from_raw_os_error(fault.with))
                }
                _ => Ok(()),
            }
        });
        Self { tap, plan }
    }

    /// From now on, that call fails.
    fn plan(&self, fails: Option<Fault>) {
        *self.plan.lock() = Plan { fails, ..Plan::default() };
    }

    /// The calls of a checkpoint that are worth a failure: of each kind the first, the middle and the last.
    fn worth(&self) -> BTreeSet<(Call, usize)> {
        let calls = self.plan.lock().calls.clone();
        let of_a_kind = |call: &Call| calls.iter().filter(|other| *other == call).count();
        calls.iter().flat_map(|call| [0, of_a_kind(call) / 2, of_a_kind(call) - 1].map(|nth| (*call, nth))).collect()
    }

    fn unpublished(&self) -> Vec<String> {
        self.tap.inner.paths().into_iter().filter(|path| path.ends_with(".unpublished")).collect()
    }
}

/// Found a file that stayed behind when its renaming failed.
#[test]
fn a_failed_checkpoint_leaves_no_file_the_engine_serves_on_and_the_next_one_succeeds() {
    let failing = Failing::new();
    let device: Arc<dyn Device> = Arc::new(failing.tap.clone());
    let engine = Engine::open(on(Arc::clone(&device), 2)).expect("opens");
    open_accounts(&engine);
    run(&engine, &mut Workload::new(11), 300, 32);
    let (mut client, mut answered) = (engine.client(1_024), 0);
    for n in 0..ACCOUNTS {
        let id = 1 << 100 | u128::from(n.wrapping_mul(0x9E37_79B9_7F4A_7C15)); // far apart: what is near takes few bytes
        while client.submit(n, &common::open_account(id, id, None)).is_err() {
            client.wait(std::time::Duration::from_millis(100));
            answered += client.poll(|_, _| {});
        }
    }
    // All are in before a checkpoint shows how many calls one takes: a smaller file may be read in another number of them.
    while answered < ACCOUNTS as usize {
        client.wait(std::time::Duration::from_millis(100));
        answered += client.poll(|_, _| {});
    }
    for _ in 0..3 {
        failing.plan(None);
        engine.checkpoint().expect("taken"); // the third removes the first
    }
    let writes = failing.plan.lock().calls.iter().filter(|call| **call == Call::Write).count();
    assert!(writes > 1, "pages are written before the end");
    let (mut failures, mut failed) = (0, BTreeSet::new());
    for (call, nth) in failing.worth() {
        for with in [EIO, ENOSPC] {
            failing.plan(Some(Fault { call, nth, with }));
            let taken = engine.checkpoint();
            let has_failed = failing.plan.lock().failed;
            failing.plan(None);
            assert_eq!(failing.unpublished(), [""; 0], "{call:?} {nth}: {taken:?}");
            let key = (1 << 64) + u128::from(engine.last_seq().0);
            assert!(engine.call_blocking(authorize(key, 1, 1)).outcome.is_approval(), "{call:?} {nth}");
            match taken {
                Err(CheckpointFailed::File(_)) if has_failed => (failures, _) = (failures + 1, failed.insert(call)),
                // One write fewer this time, so the last one never came.
                Ok(_) if !has_failed && nth > 0 => {}
                other => panic!("{call:?} {nth}: {other:?}"),
            }
            let next = engine.checkpoint().unwrap_or_else(|error| panic!("the one after {call:?} {nth}: {error}"));
            assert_eq!(engine.status().checkpoint.generation, next.generation);
        }
    }
    let all = [Call::Create, Call::Write, Call::Sync, Call::Read, Call::Rename, Call::SyncDir, Call::List];
    assert!(all.iter().all(|call| failed.contains(call)), "{failed:?}");
    assert_eq!(engine.status().checkpoint.failures, failures);
    let (digest, last_seq) = (engine.digest().expect("running"), engine.last_seq());
    engine.close_blocking().expect("an orderly close");
    let engine = Engine::open(on(Arc::clone(&device), 3)).expect("opens");
    assert!(engine.recovery().checkpoint.is_some());
    assert_eq!((engine.digest().expect("running"), engine.last_seq()), (digest, last_seq));
    drop(engine);
    assert_eq!(verify_on(&device).expect("verifies").status, VerifyStatus::Ok);
}

/// All events are of one slot, so the event behind the page's `as_of` and the one at it are too: taken one too high, the first is
/// missing after the restart; one too low, the other is there twice.
#[test]
fn a_checkpoint_taken_under_load_is_continued_with_exactly_the_events_above_its_pages() {
    let dir = tempfile::tempdir().expect("a directory");
    let engine = Engine::open(config_at(dir.path(), 1)).expect("opens");
    assert!(engine.call_blocking(common::open_account(1, 1, None)).outcome.is_approval());
    let (is_taken, answered) = (AtomicBool::new(false), AtomicU64::new(0));
    let done = std::thread::scope(|scope| {
        scope.spawn(|| {
            let mut client = engine.client(64);
            let (mut key, mut after) = (100, 0);
            while after < 500 || client.in_flight() > 0 {
                while after < 500 && client.submit(0, &authorize(key, 1, 1)).is_ok() {
                    key += 1;
                    after += u64::from(is_taken.load(Ordering::SeqCst));
                }
                client.wait(std::time::Duration::from_millis(100));
                let polled = client.poll(|_, reply| assert!(reply.outcome.is_approval(), "{reply:?}"));
                answered.fetch_add(polled as u64, Ordering::SeqCst);
            }
        });
        while answered.load(Ordering::SeqCst) < 500 {
            std::thread::yield_now();
        }
        let done = engine.checkpoint();
        is_taken.store(true, Ordering::SeqCst);
        done.expect("taken")
    });
    let (digest, last_seq) = (engine.digest().expect("running"), engine.last_seq());
    engine.close_blocking().expect("an orderly close");
    assert!(done.as_of < done.as_of_max && done.as_of_max < last_seq, "it was taken in the middle: {done:?}");
    let view = |use_checkpoint| {
        let view = View::open(dir.path(), ViewOptions { use_checkpoint, ..ViewOptions::default() });
        view.unwrap_or_else(|error| panic!("with the checkpoint: {use_checkpoint}: {error}"))
    };
    assert_eq!((view(false).digest(), view(false).checkpoint()), (digest, None), "the whole journal");
    assert_eq!((view(true).digest(), view(true).checkpoint()), (digest, Some(done.generation)));
    let engine = Engine::open(config_at(dir.path(), 2)).expect("opens");
    assert_eq!(engine.recovery().checkpoint, Some(done.generation));
    assert_eq!(engine.recovery().events_replayed, last_seq.0 - done.as_of.0);
    assert_eq!((engine.digest().expect("running"), engine.last_seq()), (digest, last_seq));
}

/// The journal of an earlier moment, whole, with its own witness: only the checkpoint knows that there was more.
#[test]
fn a_journal_that_ends_below_a_checkpoint_is_refused() {
    let device = MemoryDevice::new();
    let engine = Engine::open(on(Arc::new(device.clone()), 2)).expect("opens");
    open_accounts(&engine);
    let (earlier, shorter) = (device.crash(CrashMode::KeepAll), engine.durable_seq());
    run(&engine, &mut Workload::new(12), 200, 16);
    let done = engine.checkpoint().expect("taken");
    drop(engine);
    let config = on(Arc::new(earlier.clone()), 2);
    let path = format!("checkpoints/{:020}.checkpoint", done.generation);
    let before = device.contents(&path).expect("published");
    {
        let twin = earlier.crash(CrashMode::KeepAll);
        let engine = Engine::open(on(Arc::new(twin), 2)).expect("by itself it is whole");
        assert_eq!(engine.last_seq(), shorter);
    }
    earlier.plant(&path, &before);
    let paths = earlier.paths();
    let contents = |path: &String| earlier.contents(path);
    let files: Vec<_> = paths.iter().map(contents).collect();
    let error = Engine::open(config).expect_err("refused");
    assert_eq!(error.class(), ErrorClass::Corruption);
    match &error {
        OpenError::Recover(RecoverError::TailLost(lost)) => {
            let told = lost.to_string();
            assert!(told.contains("checkpoint") && told.contains(&done.as_of_max.0.to_string()), "{told}");
        }
        other => panic!("{other}"),
    }
    assert_eq!(earlier.paths(), paths);
    assert!(paths.iter().map(contents).collect::<Vec<_>>() == files, "nothing is changed");
}
