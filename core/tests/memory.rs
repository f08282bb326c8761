//! What an account at rest costs, by a counting allocator: 1,000,000 accounts over all slots, index included, nothing else.
#![allow(clippy::print_stdout)] // the figure measured
#![allow(unsafe_code)] // the counting allocator forwards to the system's

use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::atomic::{AtomicUsize, Ordering};

use tp_core::amount::Ledger;
use tp_core::command::{Settings, Verb};
use tp_core::event::{Body, Event, Head, Role, Settled};
use tp_core::ids::{AccountId, Seq, SlotIndex, SlotSeed, Version};
use tp_core::key::{Fingerprint, KeyKind};
use tp_core::outcome::Outcome;
use tp_core::reply::Flags;
use tp_core::rules::Windows;
use tp_core::slot::Slot;
use tp_core::time::{Date, Time};

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

fn opened(slot: SlotIndex, account: u128) -> Event {
    let settings = Settings::new(Ledger::new("EUR", 2).expect("a ledger"));
    let head = Head {
        account: AccountId(account),
        key: 1 << 76 | account,
        version: Version(1),
        previous: Seq::ZERO,
        fingerprint: Fingerprint(0),
        rare: None,
        slot,
        value_date: Date(0),
        key_kind: KeyKind::Opaque,
        verb: Verb::OpenAccount,
        outcome: Outcome::Approved,
        flags: Flags::NONE,
    };
    Event { time: Time(1), body: Body::Settled(Settled { head, settings }) }
}

#[test]
fn an_account_at_rest_costs_at_most_256_bytes() {
    let (seed, windows) = (SlotSeed([3; 16]), Windows::default());
    let mut slots: Vec<Slot> = SlotIndex::all().map(|index| Slot::new(index, seed, windows)).collect();
    for n in 1..=ACCOUNTS {
        let account = n as u128 * 0x9E37_79B9_7F4A_7C15;
        let slot = seed.slot_of(AccountId(account));
        slots[slot.index()].evolve(&opened(slot, account), Seq(n as u64), Role::Owner).expect("a new account");
    }
    // At rest: the keys of the openings are past their window.
    let mut images: Vec<Vec<u8>> = slots.iter().map(|slot| slot.image(Time::MAX)).collect();
    drop(slots);
    let mut at_rest: Vec<Slot> = Vec::with_capacity(images.len());
    let mut bytes = 0;
    for image in images.drain(..) {
        let before = LIVE.load(Ordering::Relaxed);
        at_rest.push(Slot::from_image(&image, seed, windows).expect("an image"));
        bytes += LIVE.load(Ordering::Relaxed) - before;
    }
    assert_eq!(at_rest.iter().map(|slot| slot.counts()[0]).sum::<usize>(), ACCOUNTS);
    let per_account = bytes.div_ceil(ACCOUNTS);
    println!("{per_account} bytes an account at rest");
    assert!(per_account <= 256, "{per_account} bytes an account");
    assert!(per_account >= 176, "{per_account} bytes an account: the count is broken");
}
