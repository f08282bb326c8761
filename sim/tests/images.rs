//! Crash images in the test run (P1): fifty thousand, each recovered and compared.
#![allow(clippy::print_stdout, reason = "the figures are worth seeing")]

/// Images of disks come and go by the megabyte.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Recorded runs; each has some 3,100 images, those with a mirror more.
const RUNS: u64 = 17;

#[test]
fn every_crash_image_of_recorded_runs_is_recovered_with_all_that_was_durable() {
    let jobs = std::thread::available_parallelism().map_or(1, usize::from);
    let (done, wrong) = tp_sim::images::recover_many(0..RUNS, jobs);
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    println!("{done:?}");
    assert!(done.images >= 50_000, "{done:?}");
    // What the images are to show was there.
    assert!(done.cut_again > done.images / 6 && done.ambiguous > 0 && done.tails > 0, "{done:?}");
    assert!(done.from_checkpoint > done.images / 10, "{done:?}");
}
