//! Disks that fill and fail, full queues, passed deadlines, second openers: nothing is acknowledged that is not durable.
#![allow(clippy::cast_possible_truncation, reason = "small numbers of the tests themselves")]

mod common;

use std::sync::Arc;
use std::time::{Duration, Instant};

use common::{Workload, authorize, config_at, in_memory, open_account, open_accounts, run};
use tp_actors::tp_core::outcome::Outcome;
use tp_actors::tp_core::rules::Windows;
use tp_actors::{
    BadConfig, CallOptions, CheckpointFailed, CloseError, Config, Engine, ErrorClass, FeedError, JournalKind,
    OpenError, PoisonCause, VerifyStatus, View, ViewOptions, verify_on,
};
use tp_storage::{CrashMode, Device, DeviceFile, MemoryDevice, OpenMode};

fn on(device: &MemoryDevice, partitions: usize) -> Config {
    let config = config_at(std::path::Path::new("/nowhere"), partitions);
    Config { data_dir: None, device: Some(Arc::new(device.clone())), ..config }
}

/// A device whose syncs fail or wait while the test says so.
#[derive(Clone)]
struct Gate {
    inner: MemoryDevice,
    shut: Arc<(parking_lot::Mutex<Shut>, parking_lot::Condvar)>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Shut {
    Open,
    Waiting,
    Failing,
    /// Files are not allocated meanwhile.
    Crowded,
}

struct GateFile(Arc<dyn DeviceFile>, Gate);

impl Gate {
    fn new() -> Self {
        let shut = Arc::new((parking_lot::Mutex::new(Shut::Open), parking_lot::Condvar::new()));
        Self { inner: MemoryDevice::new(), shut }
    }
    fn set(&self, shut: Shut) {
        *self.shut.0.lock() = shut;
        self.shut.1.notify_all();
    }
    fn config(&self, partitions: usize) -> Config {
        let device: Arc<dyn Device> = Arc::new(self.clone());
        Config { device: Some(device), ..on(&self.inner, partitions) }
    }
}

impl Device for Gate {
    fn open(&self, path: &str, mode: OpenMode) -> std::io::Result<Arc<dyn DeviceFile>> {
        Ok(Arc::new(GateFile(self.inner.open(path, mode)?, self.clone())))
    }
    fn rename(&self, from: &str, to: &str) -> std::io::Result<()> {
        self.inner.rename(from, to)
    }
    fn remove(&self, path: &str) -> std::io::Result<()> {
        self.inner.remove(path)
    }
    fn list(&self, dir: &str) -> std::io::Result<Vec<String>> {
        self.inner.list(dir)
    }
    fn create_dir(&self, dir: &str) -> std::io::Result<()> {
        self.inner.create_dir(dir)
    }
    fn sync_dir(&self, dir: &str) -> std::io::Result<()> {
        self.inner.sync_dir(dir)
    }
    fn lock_exclusive(&self, path: &str) -> std::io::Result<Option<Box<dyn Send + Sync>>> {
        self.inner.lock_exclusive(path)
    }
    fn lock_is_held(&self, path: &str) -> std::io::Result<bool> {
        self.inner.lock_is_held(path)
    }
    fn display(&self, path: &str) -> String {
        self.inner.display(path)
    }
}

impl DeviceFile for GateFile {
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> std::io::Result<usize> {
        self.0.read_at(buffer, offset)
    }
    fn write_all_at(&self, bytes: &[u8], offset: u64) -> std::io::Result<()> {
        self.0.write_all_at(bytes, offset)
    }
    fn size(&self) -> std::io::Result<u64> {
        self.0.size()
    }
    fn allocate(&self, len: u64) -> std::io::Result<()> {
        let mut shut = self.1.shut.0.lock();
        while *shut == Shut::Crowded {
            self.1.shut.1.wait(&mut shut);
        }
        drop(shut);
        self.0.allocate(len)
    }
    fn sync_data(&self) -> std::io::Result<()> {
        let mut shut = self.1.shut.0.lock();
        while *shut == Shut::Waiting {
            self.1.shut.1.wait(&mut shut);
        }
        let fails = *shut == Shut::Failing;
        drop(shut);
        if fails { Err(std::io::Error::other("injected")) } else { self.0.sync_data() }
    }
    fn sync_all(&self) -> std::io::Result<()> {
        self.sync_data()
    }
    fn forget_cache(&self) -> std::io::Result<()> {
        self.0.forget_cache()
    }
}

#[test]
fn a_failed_sync_is_final_nothing_more_is_acknowledged_and_the_cause_is_typed() {
    let gate = Gate::new();
    let engine = Engine::open(gate.config(2)).expect("opens");
    open_accounts(&engine);
    let durable = engine.durable_seq();
    gate.set(Shut::Waiting);
    let pending: Vec<_> = (1..=10).map(|n| engine.call(authorize(500 + n, n, 1))).collect();
    let start = Instant::now();
    while engine.last_seq().0 < durable.0 + 10 {
        assert!(start.elapsed() < Duration::from_secs(30), "all are decided while the disk stalls");
        std::thread::yield_now();
    }
    gate.set(Shut::Failing);
    for pending in pending {
        assert_eq!(pending.wait().outcome, Outcome::InProgress, "decided, and never durable");
    }
    gate.set(Shut::Open);
    assert_eq!(engine.call_blocking(authorize(600, 1, 1)).outcome, Outcome::SystemError, "no retry");
    assert_eq!(engine.durable_seq(), durable);
    let cause = engine.status().poison.expect("poisoned");
    assert!(matches!(&cause, PoisonCause::Journal(_)), "{cause}");
    match engine.close_blocking() {
        Err(CloseError::Poisoned(cause)) => assert_eq!(cause.class(), ErrorClass::Disk),
        other => panic!("{other:?}"),
    }
    let engine = Engine::open(gate.config(2)).expect("recovers");
    assert!(engine.last_seq() >= durable);
    common::assert_balanced(&engine);
}

/// A poisoned engine still has everything in memory, also what it approved and wrote before: it shows nobody any of it.
#[test]
fn a_poisoned_engine_approves_nothing_more_not_even_what_it_had_approved() {
    let gate = Gate::new();
    let engine = Engine::open(gate.config(2)).expect("opens");
    open_accounts(&engine);
    assert_eq!(engine.call_blocking(authorize(500, 1, 1)).outcome, Outcome::Approved);
    let (known, durable) = (common::lookup(&engine, 1, 500), engine.durable_seq());
    assert!(known.outcome.is_approval() && known.repeated, "{known:?}");
    gate.set(Shut::Waiting);
    let (mut workload, mut client) = (Workload::new(21), engine.client(512));
    for _ in 0..512 {
        let (tag, command) = workload.next();
        assert!(client.submit(tag, &command).is_ok());
    }
    let start = Instant::now();
    while engine.last_seq().0 < durable.0 + 100 {
        assert!(start.elapsed() < Duration::from_secs(30), "decided while the disk stalls");
        std::thread::yield_now();
    }
    gate.set(Shut::Failing);
    let mut outcomes = Vec::new();
    while client.in_flight() > 0 {
        assert!(start.elapsed() < Duration::from_mins(1), "everybody is answered");
        client.wait(Duration::from_millis(100));
        client.poll(|_, reply| outcomes.push(reply.outcome));
    }
    assert!(outcomes.iter().all(|outcome| !outcome.is_approval()), "{outcomes:?}");
    gate.set(Shut::Open); // the disk is well again: that changes nothing
    for command in [authorize(500, 1, 1), authorize(501, 1, 1), common::transfer(502, 1, 2, 1)] {
        assert_eq!(engine.call_blocking(command).outcome, Outcome::SystemError);
    }
    assert_eq!(common::lookup(&engine, 1, 500).outcome, Outcome::SystemError);
    assert_eq!(engine.record(1, *b"a fact").wait().outcome, Outcome::SystemError);
    assert!(client.submit(1, &authorize(503, 1, 1)).is_ok() && client.wait(Duration::from_secs(30)));
    client.poll(|_, reply| assert_eq!(reply.outcome, Outcome::SystemError));
    let refusal = Some(Outcome::SystemError);
    let account = engine.account(tp_actors::tp_core::ids::AccountId(1));
    assert_eq!(account.err().map(|not| not.outcome), refusal);
    assert_eq!(engine.accounts().err().map(|not| not.outcome), refusal);
    assert_eq!(engine.trial_balance().err().map(|not| not.outcome), refusal);
    assert_eq!(engine.digest().err().map(|not| not.outcome), refusal);
    assert!(matches!(engine.checkpoint(), Err(CheckpointFailed::Stopped)));
    let fed: Vec<_> = engine.events(tp_actors::tp_core::ids::Seq(1)).collect();
    let (last, durable_events) = fed.split_last().expect("not nothing");
    assert!(matches!(last, Err(FeedError::Poisoned(PoisonCause::Journal(_)))), "{last:?}");
    assert_eq!((durable_events.len() as u64, engine.durable_seq()), (durable.0, durable), "what is durable is given");
    assert!(matches!(engine.close_blocking(), Err(CloseError::Poisoned(PoisonCause::Journal(_)))));
}

#[test]
fn a_poisoned_engine_refuses_what_it_had_kept_back_while_the_disk_stalled() {
    let gate = Gate::new();
    let engine = Engine::open(Config { in_flight_events: Some(1), ..gate.config(1) }).expect("opens");
    open_accounts(&engine);
    gate.set(Shut::Waiting);
    let first = engine.call(authorize(800, 1, 1));
    let start = Instant::now();
    while engine.last_seq() == engine.durable_seq() {
        assert!(start.elapsed() < Duration::from_secs(30));
        std::thread::yield_now();
    }
    let kept_back: Vec<_> = (2..=20).map(|n| engine.call(authorize(800 + n, n, 1))).collect();
    while engine.status().partitions[0].inbox_commands > 0 {
        assert!(start.elapsed() < Duration::from_secs(30), "they are taken out of the inbox, to watch their deadlines");
        std::thread::yield_now();
    }
    gate.set(Shut::Failing);
    assert_eq!(first.wait().outcome, Outcome::InProgress);
    for pending in kept_back {
        assert_eq!(pending.wait().outcome, Outcome::SystemError);
    }
}

#[test]
fn no_reply_leaves_while_the_disk_stalls_and_deadlines_are_kept() {
    let gate = Gate::new();
    let engine = Engine::open(gate.config(2)).expect("opens");
    open_accounts(&engine);
    gate.set(Shut::Waiting);
    let soon = CallOptions { deadline_ms: Some(30), ..CallOptions::default() };
    let decided = engine.call_with(authorize(700, 1, 1), soon).wait();
    assert_eq!(decided.outcome, Outcome::InProgress, "decided, not durable at its deadline");
    let read = engine.call_with(authorize(700, 1, 1), soon).wait();
    assert_eq!(read.outcome, Outcome::InProgress, "its repeat reveals what is not durable");
    gate.set(Shut::Open);
    let known = common::lookup(&engine, 1, 700);
    assert_eq!((known.outcome, known.repeated), (Outcome::Approved, true), "the lookup resolves it");
    engine.close_blocking().expect("an orderly close");
}

#[test]
fn commands_that_no_turn_can_take_are_answered_at_their_deadline_and_never_executed() {
    let gate = Gate::new();
    let config = Config { in_flight_events: Some(1), ..gate.config(1) };
    let engine = Engine::open(config).expect("opens");
    open_accounts(&engine);
    gate.set(Shut::Waiting);
    let first = engine.call(authorize(800, 1, 1));
    let start = Instant::now();
    while engine.last_seq() == engine.durable_seq() {
        assert!(start.elapsed() < Duration::from_secs(30));
        std::thread::yield_now();
    }
    let soon = CallOptions { deadline_ms: Some(20), ..CallOptions::default() };
    let late = engine.call_with(authorize(801, 2, 1), soon).wait();
    assert_eq!(late.outcome, Outcome::DeadlineExceeded);
    gate.set(Shut::Open);
    assert_eq!(first.wait().outcome, Outcome::Approved);
    assert_eq!(common::lookup(&engine, 2, 801).outcome, Outcome::OriginalNotFound, "it did nothing");
}

#[test]
fn a_full_inbox_answers_busy_at_once_and_everything_taken_is_answered() {
    let gate = Gate::new();
    let config = Config { inbox_commands: 4, in_flight_events: Some(1), ..gate.config(1) };
    let engine = Engine::open(config).expect("opens");
    open_accounts(&engine);
    gate.set(Shut::Waiting);
    let pending: Vec<_> = (1..=40).map(|n| engine.call(authorize(900 + n, n, 1))).collect();
    gate.set(Shut::Open);
    let outcomes: Vec<_> = pending.into_iter().map(|pending| pending.wait().outcome).collect();
    let busy = outcomes.iter().filter(|outcome| **outcome == Outcome::Busy).count();
    let approved = outcomes.iter().filter(|outcome| **outcome == Outcome::Approved).count();
    assert!(busy > 0 && approved > 0 && busy + approved == 40, "{outcomes:?}");
    assert_eq!(engine.status().partitions[0].busy as usize, busy);
    let mut client = engine.client(2);
    assert!(client.submit(1, &authorize(990, 1, 1)).is_ok() && client.submit(2, &authorize(991, 2, 1)).is_ok());
    assert!(client.submit(3, &authorize(992, 3, 1)).is_err(), "the client's ring bounds what is in flight");
}

#[test]
fn a_full_disk_is_seen_before_deciding_and_service_resumes_by_itself() {
    let device = MemoryDevice::new();
    let config = Config { segment_bytes: 1 << 20, ..on(&device, 1) };
    let engine = Engine::open(config).expect("opens");
    open_accounts(&engine);
    let start = Instant::now();
    while !engine.status().writer.has_room {
        assert!(start.elapsed() < Duration::from_secs(30), "a spare segment is made");
    }
    // What is there may stay; nothing can be added.
    device.set_capacity(Some(0));
    let mut workload = Workload::new(5);
    let mut refused = 0;
    while refused == 0 {
        let replies = run(&engine, &mut workload, 100, 16);
        refused = replies.values().filter(|reply| reply.outcome == Outcome::NoSpace).count();
        assert!(replies.values().all(|reply| !matches!(reply.outcome, Outcome::SystemError | Outcome::InProgress)));
        assert!(start.elapsed() < Duration::from_mins(2), "{:?}", engine.status().writer);
    }
    assert!(engine.account(tp_actors::tp_core::ids::AccountId(1)).expect("reads go on").is_some());
    let writer = engine.status().writer;
    assert!(!writer.has_room && writer.room_failures > 0);
    assert!(writer.room_failure.is_some_and(|reason| reason.contains("journal/")), "which file, and why");
    device.set_capacity(None);
    while engine.call_blocking(authorize(1, 1, 1)).outcome == Outcome::NoSpace {
        assert!(start.elapsed() < Duration::from_mins(3), "it resumes without a restart");
    }
    common::assert_balanced(&engine);
    engine.close_blocking().expect("an orderly close");
    assert_eq!(verify_on(&(Arc::new(device) as Arc<dyn Device>)).expect("verifies").status, VerifyStatus::Ok);
}

/// Found by the throughput example: at 280,000 events a second a segment was full before the next spare was made, and
/// commands were answered `no_space` on a disk with space.
#[test]
fn commands_wait_for_a_spare_segment_that_is_being_made() {
    let gate = Gate::new();
    let engine = Engine::open(Config { segment_bytes: 1 << 20, ..gate.config(1) }).expect("opens");
    open_accounts(&engine);
    let start = Instant::now();
    while !engine.status().writer.has_room {
        assert!(start.elapsed() < Duration::from_secs(30), "a spare segment is made");
    }
    gate.set(Shut::Crowded);
    let mut client = engine.client(1);
    let approved =
        |client: &mut tp_actors::Client| client.poll(|_, reply| assert_eq!(reply.outcome, Outcome::Approved));
    let mut key = 5_000;
    // One command a frame, until none is answered for want of a spare.
    let is_put_off = || !engine.status().writer.has_room && engine.status().partitions[0].turns_put_off > 0;
    while client.in_flight() == 0 || !is_put_off() {
        if client.in_flight() == 0 {
            key += 1;
            let patient = CallOptions { deadline_ms: Some(600_000), ..CallOptions::default() };
            client.submit_with(0, &authorize(key, 1, 1), patient).expect("there is room in the ring");
        }
        client.wait(Duration::from_millis(10));
        approved(&mut client);
        assert!(start.elapsed() < Duration::from_mins(2), "the spare is used up");
    }
    assert_eq!(engine.status().writer.room_failures, 0);
    gate.set(Shut::Open);
    while client.in_flight() > 0 {
        client.wait(Duration::from_secs(1));
        approved(&mut client);
    }
    engine.close_blocking().expect("an orderly close");
}

#[test]
fn what_was_acknowledged_survives_a_power_cut_at_any_moment_of_a_run() {
    for seed in 0..12 {
        let device = MemoryDevice::new();
        let engine = Engine::open(on(&device, 2)).expect("opens");
        open_accounts(&engine);
        let mut workload = Workload::new(seed);
        let said = run(&engine, &mut workload, 100 + 60 * seed as usize, 32);
        let mut client = engine.client(64);
        for _ in 0..50 {
            let (tag, command) = workload.next();
            assert!(client.submit(tag, &command).is_ok());
        }
        let cut = device.crash(CrashMode::Sectors(seed));
        drop(engine);
        let opened = Engine::open(Config { accept_tail: true, ..on(&cut, 3) }).expect("recovers");
        let mut compared = 0;
        for (tag, reply) in said.iter().filter(|(_, reply)| reply.seq.0 > 0) {
            let Some(owner) = workload.owners.get(tag) else { continue };
            let known = common::lookup(&opened, *owner, *tag);
            assert_eq!((known.outcome, known.seq), (reply.outcome, reply.seq), "seed {seed}, key {tag}");
            compared += 1;
        }
        assert!(compared > 20, "seed {seed}");
        common::assert_balanced(&opened);
        opened.close_blocking().expect("an orderly close");
        assert_eq!(
            verify_on(&(Arc::new(cut) as Arc<dyn Device>)).expect("verifies").status,
            VerifyStatus::Ok,
            "seed {seed}"
        );
    }
}

#[test]
fn a_second_engine_on_a_directory_is_refused_and_a_view_is_not() {
    let dir = tempfile::tempdir().expect("a directory");
    let engine = Engine::open(config_at(dir.path(), 1)).expect("opens");
    open_accounts(&engine);
    let second = Engine::open(config_at(dir.path(), 1)).expect_err("in use");
    assert_eq!(second.class(), ErrorClass::Directory, "{second}");
    let view = View::open(dir.path(), ViewOptions::default()).expect("beside the engine");
    assert!(view.last_seq() <= engine.durable_seq());
    drop(engine);
    Engine::open(config_at(dir.path(), 1)).expect("free again");
}

#[test]
fn windows_and_journal_kind_belong_to_the_directory() {
    let dir = tempfile::tempdir().expect("a directory");
    let windows = Windows { key_opaque_ms: None, ..Windows::default() };
    let first = Config { windows: Some(windows), ..config_at(dir.path(), 1) };
    drop(Engine::open(first.clone()).expect("opens"));
    let engine = Engine::open(config_at(dir.path(), 1)).expect("the directory's own are taken");
    assert_eq!(engine.windows(), windows);
    drop(engine);
    drop(Engine::open(first).expect("the same are no contradiction"));
    let other = Config { windows: Some(Windows::default()), ..config_at(dir.path(), 1) };
    match Engine::open(other).expect_err("others are") {
        OpenError::Config(BadConfig::OtherWindows { directory, asked }) => {
            assert_eq!((directory, asked), (windows, Windows::default()));
        }
        error => panic!("{error}"),
    }
    let sled = Config { journal: JournalKind::Sled, ..config_at(dir.path(), 1) };
    assert!(matches!(Engine::open(sled), Err(OpenError::Config(BadConfig::OtherJournal { .. }))));
}

#[test]
fn the_sled_journal_keeps_what_it_acknowledged() {
    let dir = tempfile::tempdir().expect("a directory");
    let config = || Config { journal: JournalKind::Sled, ..config_at(dir.path(), 2) };
    let engine = Engine::open(config()).expect("opens");
    open_accounts(&engine);
    run(&engine, &mut Workload::new(6), 300, 32);
    let (digest, last_seq) = (engine.digest().expect("running"), engine.last_seq());
    engine.close_blocking().expect("an orderly close");
    let engine = Engine::open(config()).expect("opens again");
    assert_eq!((engine.digest().expect("running"), engine.last_seq()), (digest, last_seq));
}

#[test]
fn a_closed_engine_answers_everything_that_was_under_way() {
    let engine = Engine::open(in_memory(2)).expect("opens");
    open_accounts(&engine);
    let mut client = engine.client(512);
    for n in 0..500u64 {
        let command = authorize(10_000 + u128::from(n), 1 + u128::from(n) % common::ACCOUNTS, 1);
        assert!(client.submit(n, &command).is_ok());
    }
    engine.close_blocking().expect("an orderly close");
    let mut outcomes = Vec::new();
    client.poll(|_, reply| outcomes.push(reply.outcome));
    assert_eq!(outcomes.len(), 500);
    assert!(outcomes.iter().all(|outcome| matches!(outcome, Outcome::Approved | Outcome::Stopping)), "{outcomes:?}");
    assert!(client.submit(1, &open_account(1, 1, None)).is_ok(), "taken");
    assert!(client.wait(Duration::from_secs(30)));
    client.poll(|_, reply| assert_eq!(reply.outcome, Outcome::Stopping));
}
