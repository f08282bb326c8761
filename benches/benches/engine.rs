//! The whole engine: commands in through a client's ring, replies out after they are durable.
//!
//! Closed loop: at most 1, 64 or 4,096 are in flight. With one in flight an iteration is one command, and its time the latency;
//! with more it is eight times as many commands as are in flight, and its time means throughput. (Latency at a stated rate needs an open loop: that is the load generator's.)
//! Generator, partitions and journal writer share the machine's cores. Checkpoints are off.
//!
//! - `authorize/segment`: to the `fdatasync`, below `TPCORE_BENCH_DIR` or the temporary directory. `authorize/memory`: all
//!   of that without a disk.
//! - `transfer/same`, `transfer/across`: transfers, in memory, in one partition or across two: the round trip of an exchange
//!   between two arbiters is what `across/1` takes more than `same/1`.
//!
//! Verified: every reply is approved, what was answered is durable, each transfer made the events that it must (one, or open
//! and answer and its part of an end), and the books balance.

mod common;

use std::time::{Duration, Instant};

use criterion::{BenchmarkId, Criterion, SamplingMode, Throughput};
use tempfile::TempDir;
use tp_actors::{CheckpointPolicy, Client, Config, Engine, JournalKind};
use tp_benches::make::{self, Random};
use tp_benches::place::{self, is_smoke, scale};
use tp_core::command::Command;
use tp_core::ids::AccountId;
use tp_core::outcome::Outcome;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

const PARTITIONS: usize = 2;
/// Commands after which the engine is made anew.
const COMMANDS_MAX: u64 = 1_000_000;

fn main() {
    let mut criterion = common::criterion(Duration::from_millis(2500), 15);
    authorize(&mut criterion);
    exchange(&mut criterion);
    criterion.final_summary();
}

/// An engine with its accounts open, and the ring to it.
struct Bench {
    engine: Engine,
    client: Client,
    accounts: u64,
    commands: u64,
    random: Random,
    _directory: Option<TempDir>,
}

impl Bench {
    fn open(journal: JournalKind, in_flight: usize, accounts: u64) -> Self {
        let directory = (journal != JournalKind::Memory).then(|| place::directory().expect("a place to write"));
        let mut config = directory.as_ref().map_or_else(Config::in_memory, |place| Config::at(place.path()));
        config.journal = journal;
        config.partitions = PARTITIONS;
        config.checkpoint = CheckpointPolicy::off();
        config.forget_when_idle = false;
        if is_smoke() && directory.is_some() {
            config.segment_bytes = 4 << 20;
        }
        let engine = Engine::open(config).expect("a directory of our own");
        let client = engine.client(in_flight);
        let mut bench = Self { engine, client, accounts, commands: 0, random: Random(1), _directory: directory };
        let mut opener = bench.engine.client(4096);
        let now = bench.engine.now();
        drive(&mut opener, accounts, |n| make::open(make::key(now, u64::MAX / 2 + n), make::account(n)));
        bench.commands = 0;
        bench
    }

    fn account(&mut self) -> AccountId {
        make::account(self.random.below(self.accounts))
    }

    /// An account whose partition is `home`.
    fn account_of(&mut self, home: usize) -> AccountId {
        let placement = self.engine.placement();
        loop {
            let account = self.account();
            if placement.partition_of(account) == home {
                return account;
            }
        }
    }

    /// The time that these commands take, from the first submission to the last reply.
    fn run(&mut self, commands: &[Command]) -> Duration {
        let took =
            drive(&mut self.client, commands.len() as u64, |n| commands[usize::try_from(n).expect("an index")].clone());
        self.commands += commands.len() as u64;
        took
    }

    /// Asserts what must hold when nothing is in flight.
    fn check(&self) {
        assert_eq!(self.engine.durable_seq(), self.engine.last_seq(), "DUR-1: no reply before its event is durable");
        for totals in self.engine.trial_balance().expect("the engine runs") {
            assert!(totals.is_balanced() && totals.in_transit == 0, "LED-1: {totals:?}");
        }
    }
}

/// Submits as fast as the ring takes them; every reply must be an approval.
fn drive(client: &mut Client, commands: u64, mut make: impl FnMut(u64) -> Command) -> Duration {
    let (mut submitted, mut answered, mut approved) = (0, 0, 0);
    let start = Instant::now();
    while answered < commands {
        while submitted < commands && client.submit(submitted, &make(submitted)).is_ok() {
            submitted += 1;
        }
        client.wait(Duration::from_millis(100));
        answered += client.poll(|_, reply| approved += u64::from(reply.outcome == Outcome::Approved)) as u64;
    }
    let took = start.elapsed();
    assert_eq!(approved, commands, "every command is approved");
    took
}

/// The bench kept, unless it has grown too large. Called before criterion's clock runs.
fn grown_anew(kept: &mut Option<Bench>, open: impl FnOnce() -> Bench) -> &mut Bench {
    if kept.as_ref().is_none_or(|bench| bench.commands >= COMMANDS_MAX) {
        *kept = None; // its memory and directory go first
    }
    kept.get_or_insert_with(open)
}

/// Commands of one iteration: the ring is full for most of it.
const fn commands_each(in_flight: usize) -> u64 {
    if in_flight == 1 { 1 } else { 8 * in_flight as u64 }
}

fn authorize(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("authorize");
    group.sampling_mode(SamplingMode::Flat);
    let kinds = [("segment", JournalKind::Segment), ("memory", JournalKind::Memory)];
    for (name, kind) in kinds {
        for in_flight in [1_usize, 64, 4096] {
            let mut kept = None;
            let open = || Bench::open(kind, in_flight, scale(100_000, 100));
            group.throughput(Throughput::Elements(commands_each(in_flight)));
            group.bench_function(BenchmarkId::new(name, in_flight), |b| {
                let bench = grown_anew(&mut kept, open);
                b.iter_custom(|iters| authorizations(bench, iters * commands_each(in_flight)));
            });
        }
    }
    group.finish();
}

fn authorizations(bench: &mut Bench, count: u64) -> Duration {
    let (now, done) = (bench.engine.now(), bench.commands);
    let make = |n| make::authorize(make::key(now, done + n), bench.account(), 1 + bench.random.below(10_000));
    let commands: Vec<Command> = (0..count).map(make).collect();
    let before = bench.engine.last_seq().0;
    let took = bench.run(&commands);
    assert_eq!(bench.engine.last_seq().0 - before, count, "an event for each");
    bench.check();
    took
}

fn exchange(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("transfer");
    group.sampling_mode(SamplingMode::Flat);
    for (name, payee_home) in [("same", 0), ("across", 1)] {
        for in_flight in [1_usize, 64, 1024] {
            let mut kept = None;
            let open = || Bench::open(JournalKind::Memory, in_flight, scale(10_000, 100));
            group.throughput(Throughput::Elements(commands_each(in_flight)));
            group.bench_function(BenchmarkId::new(name, in_flight), |b| {
                let bench = grown_anew(&mut kept, open);
                b.iter_custom(|iters| transfers(bench, iters * commands_each(in_flight), payee_home));
            });
        }
    }
    group.finish();
}

fn transfers(bench: &mut Bench, count: u64, payee_home: usize) -> Duration {
    let (now, done) = (bench.engine.now(), bench.commands);
    let make = |n| {
        let payer = bench.account_of(0);
        let payee = loop {
            let payee = bench.account_of(payee_home);
            if payee != payer {
                break payee;
            }
        };
        make::transfer(make::key(now, done + n), payer, payee, 1 + bench.random.below(10_000))
    };
    let commands: Vec<Command> = (0..count).map(make).collect();
    let before = bench.engine.last_seq().0;
    let took = bench.run(&commands);
    let events = bench.engine.last_seq().0 - before;
    let expected = if payee_home == 0 { count..=count } else { 2 * count + 1..=3 * count };
    assert!(expected.contains(&events), "{events} events of {count} transfers, {expected:?} expected");
    bench.check();
    took
}
