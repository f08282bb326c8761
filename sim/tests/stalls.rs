//! A disk that stands still, and slow disks, in the test run (P16), in virtual time. `tp-sim overload` prints the same.
//!
//! The stories: while no turn could start, as many commands again as may wait were taken out of the inbox, and those behind them
//! were answered six seconds after their deadlines; on a disk of 100 ms a sync, turns of single commands filled the
//! rings, of which a frame took 128, so that a third of what the disk could take was done.
#![allow(clippy::print_stdout, reason = "the figures are worth seeing")]

/// Images of disks come and go by the megabyte.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

use tp_sim::overload::{Speed, Stalled, stalled};

const BYTES_PER_SECOND: u64 = 14_000_000;
const RATE: u64 = 5_000;

fn run(latency_us: u64, stall_us: u64, rate: u64) -> Stalled {
    let speed = Speed { latency_us, bytes_per_second: BYTES_PER_SECOND };
    let stalled = stalled(speed, stall_us, rate).unwrap_or_else(|wrong| panic!("{latency_us} {stall_us}: {wrong}"));
    println!("{stalled}");
    // Between two looks at the deadlines.
    assert!(stalled.overdue_us_max <= 5_000, "answered {} us after the deadline", stalled.overdue_us_max);
    assert!(stalled.queued_max <= 2 * 8_192 + 3_072 + 1_024, "{} inside", stalled.queued_max);
    stalled
}

#[test]
fn whoever_waits_for_a_stalled_disk_is_answered_at_his_deadline_and_nobody_early() {
    for stall_us in [10_000, 100_000, 1_000_000, 3_000_000, 30_000_000] {
        let stalled = run(200, stall_us, RATE);
        let [before, during, after] = &stalled.parts;
        assert!(before.decided() + 5 >= before.sent, "{stall_us}: before it all is well: {before:?}");
        let quarter = during.sent / 4;
        match stall_us {
            10_000 => assert_eq!(during.decided(), during.sent, "nobody waits for less than 100 ms"),
            100_000 => assert!(during.decided() * 10 > during.sent * 9, "{during:?}"),
            // A quarter each waits for 0.1, 0.5, 2 and 10 s: of them those are told who were sent so late that the stall ended in time.
            1_000_000 => assert!((2 * quarter..3 * quarter).contains(&during.decided()), "{during:?}"),
            3_000_000 => assert!((quarter - 2..2 * quarter).contains(&during.decided()), "{during:?}"),
            _ => assert!(during.decided() * 10 < during.sent, "{during:?}"),
        }
        if stall_us >= 1_000_000 {
            assert!(during.in_progress > 0 && during.late > 0, "some were decided, some not: {during:?}");
        }
        assert!(after.refused_us_last < 100_000, "{stall_us}: soon after it all is well: {after:?}");
        let p99_us = |part: &tp_sim::overload::Part| part.latency_us(990, (500_000, part.length_us()));
        assert!(p99_us(after) <= p99_us(before) * 5 / 4, "{stall_us}: {} {}", p99_us(before), p99_us(after));
    }
}

#[test]
fn deadlines_are_kept_when_as_many_wait_as_may() {
    let stalled = run(200, 12_000_000, 20_000);
    let during = &stalled.parts[1];
    assert!(during.busy > 0 && during.late > 0 && during.in_progress > 0, "{during:?}");
}

#[test]
fn a_slow_disk_serves_all_who_wait_long_enough() {
    for (latency_us, of_four) in [(10_000, 4), (100_000, 3), (1_000_000, 1)] {
        let stalled = run(latency_us, 0, RATE);
        // Those who wait for as long as two syncs take, at least.
        let after = &stalled.parts[2];
        assert!(after.decided() * 100 >= after.sent / 4 * of_four * 99, "{latency_us}: {after:?}");
        assert_eq!(after.busy, 0, "{latency_us}: there is room: {after:?}");
    }
}
