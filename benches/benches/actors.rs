//! What a message between two actix actors on two arbiters costs, by batch size; and a bare wake-up.
//!
//! One iteration is one round: there and back, one batch under way, so both arbiters sleep and are woken in turn. This is
//! the floor of every hop between partitions, and the reason why messages travel in batches.
//!
//! A round has two speeds: about 5 µs, as always when the process is pinned to one core (`taskset -c 0`), and about 50 µs,
//! seen in some runs on two. It changes between runs, so medians of few runs are a matter of luck: read both ends of the range.
//!
//! - `wakeup/mailbox`: `try_send` of an empty message into the mailbox.
//! - `wakeup/notify`: a `tokio::sync::Notify` awaited in the actor's context, as the engine's partitions are woken.
//! - `batch/N`: `try_send` of a vector of N numbers of 128 bits; per number in the report's throughput.
//!
//! Verified: the rounds are counted on both sides, and every batch comes back with each number one larger.

mod common;

use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::{Duration, Instant};

use actix::{Actor, Addr, Arbiter, AsyncContext as _, Context, Handler, Message, System, WrapFuture as _};
use criterion::{BenchmarkId, Criterion, SamplingMode, Throughput};
use tokio::sync::Notify;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() {
    let mut criterion = common::criterion(Duration::from_millis(1500), 20);
    let system = System::new();
    let (there, back) = (Arbiter::new(), Arbiter::new());
    wakeups(&mut criterion, &there, &back);
    batches(&mut criterion, &there, &back);
    criterion.final_summary();
    for arbiter in [there, back] {
        arbiter.stop();
        arbiter.join().expect("no actor panicked");
    }
    drop(system);
}

/// Numbers on their way, and how many rounds are left.
struct Batch {
    numbers: Vec<u128>,
    rounds_left: u64,
    home: Addr<Asker>,
}

impl Message for Batch {
    type Result = ();
}

/// Adds one to each number and sends them back.
struct Answerer;

impl Actor for Answerer {
    type Context = Context<Self>;
}

impl Handler<Batch> for Answerer {
    type Result = ();

    fn handle(&mut self, mut batch: Batch, _: &mut Self::Context) {
        batch.numbers.iter_mut().for_each(|number| *number += 1);
        let home = batch.home.clone();
        home.try_send(batch).expect("one batch is under way");
    }
}

/// Sends until no round is left, then says how long it took and what the numbers are.
struct Asker {
    peer: Addr<Answerer>,
    start: Instant,
    done: Sender<(Duration, Vec<u128>)>,
}

impl Actor for Asker {
    type Context = Context<Self>;
}

impl Handler<Batch> for Asker {
    type Result = ();

    fn handle(&mut self, mut batch: Batch, _: &mut Self::Context) {
        if batch.rounds_left == 0 {
            _ = self.done.send((self.start.elapsed(), batch.numbers));
            return;
        }
        batch.rounds_left -= 1;
        self.peer.try_send(batch).expect("one batch is under way");
    }
}

/// So many rounds with that many numbers.
fn rounds(there: &Arbiter, back: &Arbiter, iters: u64, size: usize) -> Duration {
    let peer = Answerer::start_in_arbiter(&there.handle(), |_| Answerer);
    let (done, finished) = channel();
    let asker = Asker::start_in_arbiter(&back.handle(), move |_| Asker { peer, start: Instant::now(), done });
    // The first message is a round of its own towards the asker, before it counts.
    asker.do_send(Batch { numbers: vec![0; size], rounds_left: iters, home: asker.clone() });
    let (took, numbers) = finished.recv().expect("the last round comes back");
    assert_eq!(numbers, vec![u128::from(iters); size], "every number went there and back in every round");
    took
}

fn wakeups(criterion: &mut Criterion, there: &Arbiter, back: &Arbiter) {
    let mut group = criterion.benchmark_group("wakeup");
    group.throughput(Throughput::Elements(1)).sampling_mode(SamplingMode::Flat);
    group.bench_function("mailbox", |b| b.iter_custom(|iters| rounds(there, back, iters, 0)));
    group.bench_function("notify", |b| b.iter_custom(|iters| notified(there, back, iters)));
    group.finish();
}

fn batches(criterion: &mut Criterion, there: &Arbiter, back: &Arbiter) {
    let mut group = criterion.benchmark_group("batch");
    group.sampling_mode(SamplingMode::Flat);
    for size in [1, 16, 128, 512] {
        group.throughput(Throughput::Elements(size as u64));
        group.bench_function(BenchmarkId::new("mailbox", size), |b| {
            b.iter_custom(|iters| rounds(there, back, iters, size));
        });
    }
    group.finish();
}

// --- wake-ups without a message ---

/// An actor that is woken so many times, and wakes its peer each time.
struct Woken {
    wakeups: u64,
    mine: Arc<Notify>,
    peer: Arc<Notify>,
    done: Sender<u64>,
}

impl Actor for Woken {
    type Context = Context<Self>;

    fn started(&mut self, context: &mut Self::Context) {
        let (wakeups, mine, peer) = (self.wakeups, Arc::clone(&self.mine), Arc::clone(&self.peer));
        let done = self.done.clone();
        let turns = async move {
            for _ in 0..wakeups {
                mine.notified().await;
                peer.notify_one();
            }
            _ = done.send(wakeups);
        };
        context.spawn(turns.into_actor(self));
    }
}

/// So many rounds between two actors that only wake each other.
fn notified(there: &Arbiter, back: &Arbiter, iters: u64) -> Duration {
    let (left, right) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
    let (done, finished): (_, Receiver<u64>) = channel();
    let arbiters = [(there, &left, &right), (back, &right, &left)];
    for (arbiter, mine, peer) in arbiters {
        let (mine, peer, done) = (Arc::clone(mine), Arc::clone(peer), done.clone());
        Woken::start_in_arbiter(&arbiter.handle(), move |_| Woken { wakeups: iters, mine, peer, done });
    }
    let start = Instant::now();
    left.notify_one();
    let woken: u64 = (0..2).map(|_| finished.recv().expect("both come to their end")).sum();
    let took = start.elapsed();
    assert_eq!(woken, 2 * iters, "every wake-up was followed");
    took
}
