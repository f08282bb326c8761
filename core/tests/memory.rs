//! What an account at rest, a remembered key and an open hold cost, by a counting allocator: 1,000,000 of each over all slots, with
//! their places in indexes and queues, and nothing else.
#![allow(clippy::print_stdout)] // the figure measured
#![allow(unsafe_code)] // the counting allocator forwards to the system's

use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};

use tp_core::amount::{Amount, Ledger};
use tp_core::command::{Settings, Verb};
use tp_core::event::{Authorized, Body, Event, Head, Noted, Role, Settled};
use tp_core::ids::{AccountId, AuthorizationId, Seq, SlotIndex, SlotSeed, Version};
use tp_core::key::{Fingerprint, KeyKind};
use tp_core::outcome::Outcome;
use tp_core::reply::Flags;
use tp_core::rules::Windows;
use tp_core::slot::Slot;
use tp_core::time::{Bucket, Date, Time};

static LIVE: AtomicUsize = AtomicUsize::new(0);

struct Counting;

// SAFETY: every call is forwarded unchanged to the system's allocator; only a counter is kept beside it.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        LIVE.fetch_add(layout.size(), Ordering::Relaxed);
        // SAFETY: the caller's promise, passed on.
        unsafe { System.alloc(layout) }
    }
    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        LIVE.fetch_sub(layout.size(), Ordering::Relaxed);
        // SAFETY: the caller's promise, passed on.
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

const ACCOUNTS: usize = 1_000_000;
/// Keys and holds, some hundred on each of these accounts.
const RECORDS: usize = 1_000_000;
const HOLDERS: usize = 10_240;
/// The tests share one counter.
static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());

fn head(slot: SlotIndex, account: u128, key: u128, verb: Verb) -> Head {
    Head {
        account: AccountId(account),
        key,
        version: Version(1),
        previous: Seq::ZERO,
        fingerprint: Fingerprint(0),
        rare: None,
        slot,
        value_date: Date(0),
        key_kind: KeyKind::Opaque,
        verb,
        outcome: Outcome::Approved,
        flags: Flags::NONE,
    }
}

fn opened(slot: SlotIndex, account: u128) -> Event {
    let settings = Settings::new(Ledger::new("EUR", 2).expect("a ledger"));
    let head = head(slot, account, 1 << 76 | account, Verb::OpenAccount);
    Event { time: Time(1), body: Body::Settled(Settled { head, settings }) }
}

/// A decision that moves nothing: a key and nothing else.
fn noted(head: Head, _: u64) -> Body {
    Body::Noted(Noted { head, amount: Amount::from(100), target: 0 })
}

/// A key and a hold.
fn authorized(head: Head, counter: u64) -> Body {
    Body::Authorized(Authorized {
        authorization: AuthorizationId::new(Time(2), head.slot, counter),
        head,
        amount: Amount::from(100),
        expires: Time(1_000_000),
        tolerance_bp: 0,
        bucket: Bucket::default(),
    })
}

/// The slot with the keys of its openings past their window.
fn at_rest(slot: &Slot, seed: SlotSeed, windows: Windows) -> Slot {
    Slot::from_image(&slot.image(Time::MAX), seed, windows).expect("an image")
}

/// Live bytes that a record of such an event adds.
fn bytes_each(body: fn(Head, u64) -> Body) -> usize {
    let seed = SlotSeed([3; 16]);
    let mut slots: Vec<Slot> = SlotIndex::all().map(|index| Slot::new(index, seed, Windows::default())).collect();
    // Each account by the number of its last event and its version.
    let mut holders: Vec<(u128, Seq, u64)> = Vec::with_capacity(HOLDERS);
    let mut counters = vec![0_u64; slots.len()];
    for n in 1..=HOLDERS {
        let (account, seq) = (n as u128 * 0x9E37_79B9_7F4A_7C15, Seq(n as u64));
        let slot = seed.slot_of(AccountId(account));
        slots[slot.index()].evolve(&opened(slot, account), seq, Role::Owner).expect("a new account");
        holders.push((account, seq, 1));
    }
    // No key of an opening has taken the first chunks already.
    let mut slots: Vec<Slot> = slots.iter().map(|slot| at_rest(slot, seed, Windows::default())).collect();
    let before = LIVE.load(Ordering::Relaxed);
    for n in 0..RECORDS {
        let (account, last, version) = &mut holders[n % HOLDERS];
        let slot = seed.slot_of(AccountId(*account));
        let seq = Seq((HOLDERS + n + 1) as u64);
        let head = head(slot, *account, 1 << 100 | n as u128, Verb::Authorize);
        counters[slot.index()] += 1;
        *version += 1;
        let head = Head { version: Version(*version), previous: *last, ..head };
        let event = Event { time: Time(2), body: body(head, counters[slot.index()]) };
        slots[slot.index()].evolve(&event, seq, Role::Owner).expect("it follows");
        *last = seq;
    }
    (LIVE.load(Ordering::Relaxed) - before).div_ceil(RECORDS)
}

#[test]
fn a_remembered_key_costs_at_most_100_bytes_and_an_open_hold_at_most_128() {
    let _alone = ONE_AT_A_TIME.lock().unwrap_or_else(PoisonError::into_inner);
    let (key, both) = (bytes_each(noted), bytes_each(authorized));
    let hold = both - key;
    println!("{key} bytes a remembered key, {hold} bytes an open hold");
    assert!((80..=100).contains(&key), "{key} bytes a key");
    assert!((104..=128).contains(&hold), "{hold} bytes a hold");
}

#[test]
fn an_account_at_rest_costs_at_most_192_bytes() {
    let _alone = ONE_AT_A_TIME.lock().unwrap_or_else(PoisonError::into_inner);
    let (seed, windows) = (SlotSeed([3; 16]), Windows::default());
    let mut slots: Vec<Slot> = SlotIndex::all().map(|index| Slot::new(index, seed, windows)).collect();
    for n in 1..=ACCOUNTS {
        let account = n as u128 * 0x9E37_79B9_7F4A_7C15;
        let slot = seed.slot_of(AccountId(account));
        slots[slot.index()].evolve(&opened(slot, account), Seq(n as u64), Role::Owner).expect("a new account");
    }
    let mut rested: Vec<Slot> = Vec::with_capacity(slots.len());
    let mut bytes = 0;
    for slot in slots.drain(..) {
        let before = LIVE.load(Ordering::Relaxed);
        rested.push(at_rest(&slot, seed, windows));
        bytes += LIVE.load(Ordering::Relaxed) - before;
    }
    assert_eq!(rested.iter().map(|slot| slot.counts()[0]).sum::<usize>(), ACCOUNTS);
    let per_account = bytes.div_ceil(ACCOUNTS);
    println!("{per_account} bytes an account at rest");
    assert!(per_account <= 192, "{per_account} bytes an account");
    assert!(per_account >= 168, "{per_account} bytes an account: the count is broken");
}
