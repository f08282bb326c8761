//! At most 0.01 allocations per authorization through `client()` in steady state, counted over all threads of the process.
//!
//! Alone in its binary: the counting allocator is global.
#![allow(unsafe_code, reason = "a global allocator that counts; it passes everything on to the system's")]

mod common;

use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use common::{authorize, config_at, open_account};
use tp_actors::tp_core::outcome::Outcome;
use tp_actors::{Client, Engine};

struct Counting;

static ALLOCATIONS: AtomicU64 = AtomicU64::new(0);

// SAFETY: every call is passed on unchanged to the system's allocator, which upholds the contract.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        ALLOCATIONS.fetch_add(1, Ordering::Relaxed);
        // SAFETY: the caller's promise about `layout` is passed on.
        unsafe { System.alloc(layout) }
    }
    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        // SAFETY: `pointer` came from `alloc` above, hence from the system's allocator, with this layout.
        unsafe { System.dealloc(pointer, layout) }
    }
    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, bytes: usize) -> *mut u8 {
        ALLOCATIONS.fetch_add(1, Ordering::Relaxed);
        // SAFETY: as for `dealloc`, and the caller's promise about `bytes` is passed on.
        unsafe { System.realloc(pointer, layout, bytes) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

const ACCOUNTS: u64 = 2_000;

/// Authorizes so many times with at most the client's capacity in flight; returns how many were approved.
fn drive(client: &mut Client, first: u64, commands: u64) -> u64 {
    let (mut submitted, mut answered, mut approved) = (0, 0, 0);
    while answered < commands {
        while submitted < commands {
            let key = u128::from(first + submitted) + (1 << 64);
            let account = u128::from((first + submitted).wrapping_mul(7919) % ACCOUNTS) + 1;
            if client.submit(submitted, &authorize(key, account, 1)).is_err() {
                break;
            }
            submitted += 1;
        }
        client.wait(Duration::from_millis(100));
        answered += client.poll(|_, reply| approved += u64::from(reply.outcome == Outcome::Approved)) as u64;
    }
    approved
}

#[test]
fn an_authorization_allocates_nothing_in_steady_state() {
    let dir = tempfile::tempdir().expect("a directory");
    let engine = Engine::open(config_at(dir.path(), 2)).expect("opens");
    for account in 1..=u128::from(ACCOUNTS) {
        drop(engine.call(open_account(account, account, None)));
        if account % 500 == 0 {
            assert!(engine.account(tp_actors::tp_core::ids::AccountId(account)).expect("running").is_some());
        }
    }
    let mut client = engine.client(4096);
    let warm = 200_000;
    assert_eq!(drive(&mut client, 0, warm), warm);
    let (before, frames) = (ALLOCATIONS.load(Ordering::Relaxed), engine.status().writer.frames);
    let commands = 200_000;
    assert_eq!(drive(&mut client, warm, commands), commands);
    let allocations = ALLOCATIONS.load(Ordering::Relaxed) - before;
    let frames = engine.status().writer.frames - frames;
    println!("{allocations} allocations, {frames} frames, {commands} authorizations");
    assert!(allocations * 100 <= commands, "{allocations} allocations for {commands} authorizations in {frames} frames");
    engine.close_blocking().expect("an orderly close");
}
