//! Events as bytes and back, replay, and a slot's checkpoint image.
//!
//! - `event`: one iteration is a group of 128 events: `encode` as at the end of a turn, `decode` with validation as in a replay.
//! - `replay`: one iteration is a whole journal of 50,000 events, into empty slots: `evolve` from events in memory, `decode`
//!   from bytes as recovery does (one thread, no reading from disk, no look-ahead). Verified by the digest of the state.
//! - `checkpoint`: one iteration is a slot of 1,000 accounts, each with an open hold and its keys: `image` to bytes, `restore` back.

mod common;

use std::borrow::Borrow;
use std::hint::black_box;
use std::time::{Duration, Instant};

use criterion::{BenchmarkId, Criterion, SamplingMode, Throughput};
use tp_benches::bank::{BATCH, Bank, SEED};
use tp_benches::make;
use tp_benches::place::scale;
use tp_core::codec::{EventBytes, Events, decode, encode};
use tp_core::digest::StateDigest;
use tp_core::event::Event;
use tp_core::ids::{AccountId, Seq, SlotIndex};
use tp_core::rules::Windows;
use tp_core::slot::Slot;
use tp_core::time::Time;
use tp_core::turn::Submission;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Events of one frame of the replayed journal.
const FRAME: usize = 512;

fn main() {
    let mut criterion = common::criterion(Duration::from_secs(1), 20);
    bytes(&mut criterion);
    replay(&mut criterion);
    checkpoint(&mut criterion);
    criterion.final_summary();
}

// --- bytes ---

/// The events of one turn over as many commands of one kind.
fn turn(bank: &mut Bank, make: impl FnMut(&mut Bank) -> Submission) -> Vec<Event> {
    let mut make = make;
    let submissions: Vec<Submission> = (0..BATCH).map(|_| make(bank)).collect();
    bank.turn(0, &mut std::iter::empty(), &mut submissions.into_iter());
    assert_eq!(bank.out.events.len(), BATCH, "an event for each command");
    bank.out.events.clone()
}

fn bytes(criterion: &mut Criterion) {
    let mut bank = Bank::new(1, 1000);
    let authorized =
        turn(&mut bank, |bank| Bank::submission(0, make::authorize(bank.key(), bank.account(), bank.minor())));
    let moved = turn(&mut bank, |bank| {
        let payer = bank.account();
        Bank::submission(0, make::transfer(bank.key(), payer, bank.other(payer), bank.minor()))
    });
    let mut group = criterion.benchmark_group("event");
    group.throughput(Throughput::Elements(BATCH as u64));
    for (name, events) in [("authorized", authorized), ("moved", moved)] {
        let mut written = EventBytes::new();
        for event in &events {
            encode(event, &mut written);
        }
        let read: Result<Vec<Event>, _> = Events::new(&written).collect();
        assert_eq!(read.as_ref(), Ok(&events), "what is decoded is what was encoded");
        group.bench_function(BenchmarkId::new("encode", name), |b| {
            let mut out = EventBytes::with_capacity(written.len());
            b.iter(|| {
                out.clear();
                events.iter().map(|event| encode(black_box(event), &mut out)).sum::<usize>()
            });
            assert_eq!(out.as_slice(), written.as_slice(), "the same bytes every time");
        });
        group.bench_function(BenchmarkId::new("decode", name), |b| {
            b.iter(|| {
                let mut rest = black_box(written.as_slice());
                let mut count = 0;
                while !rest.is_empty() {
                    let (event, length) = decode(rest).expect("what was encoded is valid");
                    black_box(&event);
                    (rest, count) = (&rest[length..], count + 1);
                }
                assert_eq!(count, BATCH);
            });
        });
    }
    group.finish();
}

// --- replay ---

/// A journal as events and as payloads of frames, and the state it leads to.
struct Journal {
    events: Vec<Event>,
    frames: Vec<EventBytes>,
    digest: StateDigest,
}

/// Accounts are opened; then holds, of which half are captured and a quarter voided.
fn journal(accounts: u64, events: u64) -> Journal {
    let mut bank = Bank::with_accounts(1, Vec::new());
    let mut journal = Journal { events: Vec::new(), frames: Vec::new(), digest: StateDigest([0; 32]) };
    let mut turn = |bank: &mut Bank, commands: Vec<Submission>| {
        bank.turn(0, &mut std::iter::empty(), &mut commands.into_iter());
        assert!(bank.out.answers.iter().all(|answer| answer.reply.outcome.is_approval()));
        journal.events.extend(bank.out.events.iter().cloned());
    };
    let opened: Vec<AccountId> = (0..accounts).map(make::account).collect();
    for chunk in opened.chunks(BATCH) {
        let commands = chunk.iter().map(|account| Bank::submission(0, make::open(bank.key(), *account))).collect();
        turn(&mut bank, commands);
    }
    bank.adopt(opened);
    while bank.last_seq().0 < events {
        let payers: Vec<AccountId> = (0..BATCH).map(|_| bank.account()).collect();
        let holds =
            payers.iter().map(|payer| Bank::submission(0, make::authorize(bank.key(), *payer, 10_000))).collect();
        turn(&mut bank, holds);
        let ids: Vec<_> = bank.out.answers.iter().filter_map(|answer| answer.reply.authorization).collect();
        let later = payers.iter().zip(ids).enumerate().filter(|(n, _)| n % 4 != 3).map(|(n, (payer, id))| {
            let key = bank.key();
            let command =
                if n % 4 == 2 { make::void(key, id) } else { make::capture(key, id, bank.other(*payer), 5_000) };
            Bank::submission(0, command)
        });
        let later = later.collect();
        turn(&mut bank, later);
    }
    bank.check();
    journal.digest = digest(bank.partition(0).slots(), bank.now());
    for frame in journal.events.chunks(FRAME) {
        let mut bytes = EventBytes::new();
        for event in frame {
            encode(event, &mut bytes);
        }
        journal.frames.push(bytes);
    }
    journal
}

/// At the time of the last event.
fn digest<'a>(slots: impl IntoIterator<Item = &'a Slot>, at: Time) -> StateDigest {
    StateDigest::of_slots(slots.into_iter().map(|slot| slot.digest(at)))
}

fn replay(criterion: &mut Criterion) {
    let journal = journal(scale(10_000, 50), scale(50_000, 500));
    let mut group = criterion.benchmark_group("replay");
    group.throughput(Throughput::Elements(journal.events.len() as u64)).sampling_mode(SamplingMode::Flat);
    group.sample_size(10);
    group.bench_function("evolve", |b| {
        b.iter_custom(|iters| replayed(&journal, iters, |slots| apply(slots, &journal.events)));
    });
    group.bench_function("decode", |b| {
        b.iter_custom(|iters| {
            replayed(&journal, iters, |slots| {
                let events = journal.frames.iter().flat_map(|frame| Events::new(frame));
                apply(slots, events.map(|event| event.expect("what was encoded is valid")));
            })
        });
    });
    group.finish();
}

fn apply<E: Borrow<Event>>(slots: &mut [Slot], events: impl IntoIterator<Item = E>) {
    for (n, event) in events.into_iter().enumerate() {
        let event = event.borrow();
        event.body.each_leg(|leg| {
            let slot = &mut slots[leg.slot.index()];
            slot.evolve(event, Seq(n as u64 + 1), leg.role).expect("RPL-1: a journaled event follows");
        });
    }
}

/// So many replays, each into slots of its own; the last one's state is compared with the live one's.
fn replayed(journal: &Journal, iters: u64, mut replay: impl FnMut(&mut [Slot])) -> Duration {
    let (mut took, mut slots) = (Duration::ZERO, Vec::new());
    for _ in 0..iters {
        slots = SlotIndex::all().map(|index| Slot::new(index, SEED, Windows::default())).collect();
        let start = Instant::now();
        replay(&mut slots);
        took += start.elapsed();
    }
    let at = journal.events.last().expect("some events").time;
    assert_eq!(digest(&slots, at), journal.digest, "J4: the replayed state is the live one");
    took
}

// --- checkpoint ---

fn checkpoint(criterion: &mut Criterion) {
    let index = SlotIndex::new(7).expect("below 1,024");
    let in_slot = (0..).map(make::account).filter(|account| SEED.slot_of(*account) == index);
    let accounts: Vec<AccountId> = in_slot.take(usize::try_from(scale(1000, 10)).expect("small")).collect();
    let mut bank = Bank::with_accounts(1, accounts.clone());
    let holds = bank.run(accounts, |bank, key, account| make::authorize(key, account, bank.minor()));
    assert!(holds.iter().all(|(_, reply)| reply.outcome.is_approval()));
    let (at, slot) = (bank.now(), bank.partition(0).slot(index).expect("it has all slots"));
    let image = slot.image(at);
    let restore = |bytes: &[u8]| Slot::from_image(bytes, SEED, Windows::default()).expect("an image of a valid slot");
    assert_eq!(restore(&image).digest(at), slot.digest(at), "J4: the restored slot is the one that was copied");
    let mut group = criterion.benchmark_group("checkpoint");
    group.throughput(Throughput::Bytes(image.len() as u64));
    group.bench_function("image", |b| {
        b.iter(|| black_box(slot).image(at));
    });
    group.bench_function("restore", |b| {
        b.iter_with_large_drop(|| restore(black_box(&image)));
    });
    group.finish();
}
