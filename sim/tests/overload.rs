//! Overload in the test run (P10): up to ten times what the disk takes, in virtual time. `tp-sim overload` prints the same.
//!
//! The story: a queue bounded by a number of commands alone is 0.6 s long on a disk of 50,000/s, and still there three seconds
//! after the load fell; and where clients wait for 100 ms only, nine of ten decisions came too late for their clients, so that an
//! engine that could decide 50,000 commands a second told 6,000 (`actors/src/shed.rs`).
#![allow(unsafe_code, reason = "a global allocator that counts; it passes everything on to the system's")]
#![allow(clippy::print_stdout, reason = "the figures are worth seeing")]

use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};

use tp_sim::overload::{Climbed, Ladder, Speed, ladder, table};

static IN_USE: AtomicU64 = AtomicU64::new(0);

/// Counts the bytes in use.
struct Counting;

// SAFETY: every call goes to the system's allocator as it came; beside it only a number changes.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        IN_USE.fetch_add(layout.size() as u64, Ordering::Relaxed);
        // SAFETY: as above.
        unsafe { System.alloc(layout) }
    }
    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, bytes: usize) -> *mut u8 {
        IN_USE.fetch_add(bytes as u64, Ordering::Relaxed);
        IN_USE.fetch_sub(layout.size() as u64, Ordering::Relaxed);
        // SAFETY: as above.
        unsafe { System.realloc(pointer, layout, bytes) }
    }
    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        IN_USE.fetch_add(layout.size() as u64, Ordering::Relaxed);
        // SAFETY: as above.
        unsafe { System.alloc_zeroed(layout) }
    }
    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        IN_USE.fetch_sub(layout.size() as u64, Ordering::Relaxed);
        // SAFETY: as above.
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// The count is the whole process's.
static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());

/// About 50,000 commands a second.
const SPEED: Speed = Speed { latency_us: 200, bytes_per_second: 14_000_000 };

fn climb(percents: &[u64], deadline_ms: u64) -> Climbed {
    let climbed = ladder(&Ladder {
        speed: SPEED,
        percents: percents.to_vec(),
        length_us: 1_500_000,
        deadlines_ms: vec![deadline_ms],
        heap: Some(|| IN_USE.load(Ordering::Relaxed)),
    });
    let climbed = climbed.unwrap_or_else(|wrong| panic!("{wrong}"));
    println!("{}", table(&climbed));
    climbed
}

/// What holds for every load, however long clients wait.
fn assert_served(climbed: &Climbed) {
    let capacity = climbed.capacity;
    assert!((45_000..60_000).contains(&capacity), "{capacity}");
    assert_eq!(climbed.calm.decided(), climbed.calm.sent, "nothing is refused while there is room for all");
    for row in &climbed.rows {
        let percent = row.percent;
        assert!(row.load.goodput() * 100 >= capacity * 90, "{percent} %: {} of {capacity}", row.load.goodput());
        assert!(row.load.decided() < row.load.sent, "{percent} %: more was taken than there is room for");
        assert!(row.back_us.is_some_and(|us| us <= 1_000_000), "{percent} %: back after {:?} us", row.back_us);
    }
    assert!(
        climbed.in_flight_max < 1 << 15,
        "{}: it is the engine that refuses, not the client",
        climbed.in_flight_max
    );
    assert!(climbed.overdue_us_max <= 5_000, "answered {} us after the deadline", climbed.overdue_us_max);
}

#[test]
fn at_ten_times_the_capacity_nine_tenths_of_it_are_told_and_a_second_later_all_is_as_before() {
    let _alone = ONE_AT_A_TIME.lock();
    let climbed = climb(&[150, 200, 500, 1_000], 10_000);
    assert_served(&climbed);
    for row in &climbed.rows {
        // Queues of 8,192 on each of two partitions, and what is on its way to the disk.
        assert!(row.queued_max <= 2 * 8_192 + 3_072 + 1_024, "{} %: {} inside", row.percent, row.queued_max);
        assert_eq!(
            row.load.late + row.load.in_progress,
            0,
            "{} %: those that wait for 10 s are told or `busy`",
            row.percent
        );
        // Queues and buffers are as large as they were when they were full for the first time.
        let first = climbed.rows[0].heap_bytes;
        assert!(row.heap_bytes <= first / 10 * 11, "{} %: {} bytes, {first} before", row.percent, row.heap_bytes);
    }
}

#[test]
fn clients_that_wait_for_a_tenth_of_a_second_are_told_as_much() {
    let _alone = ONE_AT_A_TIME.lock();
    let climbed = climb(&[1_000], 100);
    assert_served(&climbed);
    for row in &climbed.rows {
        let (told, open) = (row.load.decided(), row.load.in_progress);
        assert!(open * 20 < told, "{} %: {open} were decided for nobody, {told} told", row.percent);
        assert!(row.load.late > open, "{} %: the others know that nothing was done", row.percent);
    }
}
