//! Deciding and evolving, command by command, through a partition's turn; turns by batch size; an exchange in three turns.
//!
//! One iteration is one command. Timed: the turn (decide, evolve, reply), the stamping of its numbers, a look at every
//! outcome, and the dropping of what the turn before made. Not timed: making the commands, and what they need (a void
//! needs a hold). Not included: queues, encoding, the journal, threads. The bank has 100,000 accounts in one partition and
//! is made anew after 400,000 commands, so that memory stays bounded and is larger than the caches.
//!
//! The group `steady` is of authorizations in a bank that has run for longer than its windows: as many holds expire, and as many keys and
//! authorizations are forgotten, as are added. With `held_shorter` a hold lives for half of its key's window and one million keys are
//! remembered; with `held_longer` it lives eight times as long, and two million holds are open.

mod common;

use std::hint::black_box;
use std::iter::empty;
use std::time::{Duration, Instant};

use criterion::{BenchmarkId, Criterion, SamplingMode, Throughput};
use tp_benches::bank::{BATCH, Bank, COMMANDS_PER_MS};
use tp_benches::make;
use tp_benches::place::scale;
use tp_core::command::Command;
use tp_core::ids::{AccountId, AuthorizationId};
use tp_core::key::Key;
use tp_core::outcome::Outcome;
use tp_core::reply::Reply;
use tp_core::rules::{LedgerPolicy, Rules, Windows};
use tp_core::turn::Submission;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Commands prepared at once.
const CHUNK: u64 = 8192;
/// Commands after which the bank is made anew.
const COMMANDS_MAX: u64 = 400_000;

fn main() {
    let mut criterion = common::criterion(Duration::from_millis(1500), 20);
    verbs(&mut criterion);
    batches(&mut criterion);
    steady(&mut criterion);
    exchange(&mut criterion);
    criterion.final_summary();
}

/// The bank kept, unless it has grown too large. Also called before criterion's clock runs: making a bank takes as long as very
/// many commands, and criterion plans its samples by the first ones.
fn grown_anew(kept: &mut Option<Bank>, partitions: usize) -> &mut Bank {
    if kept.as_ref().is_none_or(|bank| bank.commands() >= COMMANDS_MAX) {
        *kept = None; // its memory goes first
    }
    kept.get_or_insert_with(|| Bank::new(partitions, scale(100_000, 100)))
}

/// What a command needs, and the command.
type Prepare = fn(&mut Bank, u64) -> Vec<Command>;
/// Whether a reply is the one that a bench expects.
type IsGood = fn(&Reply) -> bool;

fn verbs(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("command");
    group.throughput(Throughput::Elements(1)).sampling_mode(SamplingMode::Flat);
    let verbs: [(&str, Prepare, IsGood); 9] = [
        ("authorize", authorizations, is_approved),
        ("increment", increments, is_approved),
        ("capture", captures, is_approved),
        ("void", voids, is_approved),
        ("refund", refunds, is_approved),
        ("reverse", reversals, |reply| reply.outcome == Outcome::ReversalAccepted),
        ("advise", advices, |reply| reply.outcome == Outcome::AdviceAccepted),
        ("transfer", transfers, is_approved),
        ("lookup", lookups, |reply| is_approved(reply) && reply.repeated),
    ];
    for (name, prepare, is_good) in verbs {
        let mut bank = None;
        group.bench_function(name, |b| {
            grown_anew(&mut bank, 1);
            b.iter_custom(|iters| measure(&mut bank, iters, BATCH, prepare, is_good));
        });
        bank.iter().for_each(Bank::check);
    }
    group.finish();
}

fn batches(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("turn");
    group.throughput(Throughput::Elements(1)).sampling_mode(SamplingMode::Flat);
    for size in [1_usize, 16, 128, 512] {
        let mut bank = None;
        group.bench_function(BenchmarkId::new("authorize", size), |b| {
            grown_anew(&mut bank, 1);
            b.iter_custom(|iters| measure(&mut bank, iters, size, authorizations, is_approved));
        });
        bank.iter().for_each(Bank::check);
    }
    group.finish();
}

fn steady(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("steady");
    group.throughput(Throughput::Elements(1)).sampling_mode(SamplingMode::Flat);
    for (name, lifetime_ms, window_ms) in [("held_shorter", 1_000, 2_000), ("held_longer", 4_000, 500)] {
        let (lifetime_ms, window_ms) = (scale(lifetime_ms, lifetime_ms / 100), scale(window_ms, window_ms / 100));
        let mut bank = None;
        group.bench_function(name, |b| {
            let bank = bank.get_or_insert_with(|| bank_in_steady_state(lifetime_ms, window_ms));
            b.iter_custom(|iters| {
                let (mut took, mut left) = (Duration::ZERO, iters.max(scale(0, 2 * BATCH as u64)));
                while left > 0 {
                    let commands = authorizations(bank, left.min(CHUNK));
                    left -= commands.len() as u64;
                    took += measure_chunk(bank, commands, BATCH, is_approved);
                }
                took
            });
        });
        if let Some(bank) = &bank {
            assert_steady(bank, lifetime_ms, window_ms);
            bank.check();
        }
    }
    group.finish();
}

/// It has run for as long as a hold lives and all windows, and a half more.
fn bank_in_steady_state(lifetime_ms: u64, window_ms: u64) -> Bank {
    let windows = Windows { key_uuid_v7_ms: Some(window_ms), key_opaque_ms: Some(window_ms), refund_ms: window_ms };
    let policy_default = LedgerPolicy { hold_lifetime_ms_default: lifetime_ms, ..LedgerPolicy::default() };
    let rules = Rules { windows, policy_default, ..Rules::default() };
    let mut bank = Bank::with_rules(1, (0..scale(100_000, 100)).map(make::account).collect(), rules);
    let end = bank.now().plus_ms((lifetime_ms + window_ms) * 3 / 2);
    while bank.now() < end {
        let commands = authorizations(&mut bank, CHUNK.min(COMMANDS_PER_MS));
        measure_chunk(&mut bank, commands, BATCH, is_approved);
    }
    assert_steady(&bank, lifetime_ms, window_ms);
    bank
}

/// Of holds, keys and authorizations there are about as many as are made in the time that each stays: a key for the longer of its window
/// and its hold, an authorization for both.
fn assert_steady(bank: &Bank, lifetime_ms: u64, window_ms: u64) {
    let stats = bank.partition(0).stats();
    let is_about = |count: u64, ms: u64| (COMMANDS_PER_MS * ms * 9 / 10..COMMANDS_PER_MS * ms * 3 / 2).contains(&count);
    assert!(is_about(stats.holds_open, lifetime_ms), "{stats:?}");
    assert!(is_about(stats.keys, lifetime_ms.max(window_ms)), "{stats:?}");
    assert!(is_about(stats.authorizations, lifetime_ms + window_ms), "{stats:?}");
}

/// The time that so many commands take in turns of `batch`; every reply is tested.
fn measure(kept: &mut Option<Bank>, iters: u64, batch: usize, prepare: Prepare, is_good: IsGood) -> Duration {
    let (mut took, mut left) = (Duration::ZERO, iters.max(scale(0, 2 * batch as u64)));
    while left > 0 {
        let bank = grown_anew(kept, 1);
        let commands = prepare(bank, left.min(CHUNK));
        left -= commands.len() as u64;
        took += measure_chunk(bank, commands, batch, is_good);
    }
    took
}

fn measure_chunk(bank: &mut Bank, commands: Vec<Command>, batch: usize, is_good: IsGood) -> Duration {
    let count = commands.len() as u64;
    let submissions: Vec<Submission> = commands.into_iter().map(|command| Bank::submission(0, command)).collect();
    let (mut queue, mut good) = (submissions.into_iter(), 0);
    let start = Instant::now();
    while queue.len() > 0 {
        bank.turn(0, &mut empty(), &mut queue.by_ref().take(batch));
        good += bank.out.answers.iter().filter(|answer| is_good(&answer.reply)).count() as u64;
    }
    let took = start.elapsed();
    assert_eq!(good, count, "every command has the outcome that its bench expects");
    took
}

fn is_approved(reply: &Reply) -> bool {
    reply.outcome == Outcome::Approved && !reply.seq.is_provisional()
}

// --- the commands, and what they need ---

/// Open holds of 10,000 minor units: payer, key, id.
fn holds(bank: &mut Bank, count: u64) -> Vec<(AccountId, Key, AuthorizationId)> {
    let payers: Vec<AccountId> = (0..count).map(|_| bank.account()).collect();
    let mut keys = Vec::with_capacity(payers.len());
    let replies = bank.run(payers, |_, key, payer| {
        keys.push(key);
        make::authorize(key, payer, 10_000)
    });
    let made = replies.into_iter().zip(keys);
    made.map(|((payer, reply), key)| (payer, key, reply.authorization.expect("approved"))).collect()
}

fn authorizations(bank: &mut Bank, count: u64) -> Vec<Command> {
    let make = |_| make::authorize(bank.key(), bank.account(), bank.minor());
    (0..count).map(make).collect()
}

fn increments(bank: &mut Bank, count: u64) -> Vec<Command> {
    let holds = holds(bank, count);
    holds.into_iter().map(|(_, _, id)| make::increment(bank.key(), id, bank.minor())).collect()
}

fn captures(bank: &mut Bank, count: u64) -> Vec<Command> {
    let holds = holds(bank, count);
    holds.into_iter().map(|(payer, _, id)| make::capture(bank.key(), id, bank.other(payer), bank.minor())).collect()
}

fn voids(bank: &mut Bank, count: u64) -> Vec<Command> {
    let holds = holds(bank, count);
    holds.into_iter().map(|(_, _, id)| make::void(bank.key(), id)).collect()
}

fn refunds(bank: &mut Bank, count: u64) -> Vec<Command> {
    let holds = holds(bank, count).into_iter().map(|(payer, _, id)| (payer, id));
    let captured = bank.run(holds, |bank, key, (payer, id)| make::capture(key, id, bank.other(payer), 10_000));
    let transfers = captured.into_iter().map(|(_, reply)| reply.transfer.expect("approved"));
    transfers.map(|id| make::refund(bank.key(), id, bank.minor())).collect()
}

/// Of authorizations: the hold is released.
fn reversals(bank: &mut Bank, count: u64) -> Vec<Command> {
    let holds = holds(bank, count);
    holds.into_iter().map(|(payer, original, _)| make::reverse(bank.key(), payer, original)).collect()
}

/// Of someone else's completions, posted without a hold.
fn advices(bank: &mut Bank, count: u64) -> Vec<Command> {
    let payers: Vec<AccountId> = (0..count).map(|_| bank.account()).collect();
    payers.into_iter().map(|payer| make::advise(bank.key(), payer, bank.other(payer), bank.minor())).collect()
}

fn transfers(bank: &mut Bank, count: u64) -> Vec<Command> {
    let payers: Vec<AccountId> = (0..count).map(|_| bank.account()).collect();
    payers.into_iter().map(|payer| make::transfer(bank.key(), payer, bank.other(payer), bank.minor())).collect()
}

/// Of authorizations that were approved.
fn lookups(bank: &mut Bank, count: u64) -> Vec<Command> {
    holds(bank, count).into_iter().map(|(payer, key, _)| make::lookup(payer, key)).collect()
}

// --- exchanges ---

/// One iteration is a transfer between two partitions of one thread: open, answer and end, in turns of 128 each. What the
/// exchange costs in the core; hops between threads are in the `engine` bench.
fn exchange(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("exchange");
    group.throughput(Throughput::Elements(1)).sampling_mode(SamplingMode::Flat);
    let mut kept = None;
    group.bench_function("open_answer_end", |b| {
        grown_anew(&mut kept, 2);
        b.iter_custom(|iters| {
            let (mut took, mut left) = (Duration::ZERO, iters.max(scale(0, 20)));
            while left > 0 {
                let bank = grown_anew(&mut kept, 2);
                let count = left.min(BATCH as u64);
                took += exchanges(bank, count);
                left -= count;
            }
            took
        });
    });
    kept.iter().for_each(Bank::check);
    group.finish();
}

/// So many transfers from partition 0 to partition 1, in three turns.
fn exchanges(bank: &mut Bank, count: u64) -> Duration {
    let make = |_| {
        let (payer, payee) = (bank.account_of(0), bank.account_of(1));
        Bank::submission(0, make::transfer(bank.key(), payer, payee, bank.minor()))
    };
    let submissions: Vec<Submission> = (0..count).map(make).collect();
    let before = bank.last_seq().0;
    let start = Instant::now();
    bank.turn(0, &mut empty(), &mut submissions.into_iter());
    for to in [1, 0] {
        let messages = std::mem::take(&mut bank.out.messages);
        bank.turn(to, &mut black_box(messages).into_iter(), &mut empty());
    }
    let took = start.elapsed();
    let good = bank.out.answers.iter().filter(|answer| is_approved(&answer.reply)).count() as u64;
    assert_eq!(good, count, "EXC-1: every exchange ends, and its submitter is answered");
    assert_eq!(bank.last_seq().0 - before, 2 * count + 1, "an open and an answer for each, and one event of all ends");
    took
}
