//! Damage at rest in the test run (P6): every file, every sector, every 997th bit and length. `tp-sim corruption` takes all.
#![allow(clippy::print_stdout, reason = "the figures are worth seeing")]

/// Images of disks come and go by the megabyte.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

#[test]
fn no_damage_is_silent() {
    let jobs = std::thread::available_parallelism().map_or(1, usize::from);
    let sweep = tp_sim::corruption::sweep(997, jobs).expect("a sound directory");
    assert!(sweep.wrong.is_empty(), "{}", sweep.wrong.join("\n"));
    for ((file, damage), shown) in &sweep.shown {
        println!("{file} {damage}: {shown:?}");
        assert!(shown.unneeded == 0 || *damage == "file deleted", "{file} {damage}");
    }
    let refused: u64 = sweep.shown.values().map(|shown| shown.refused).sum();
    let reported: u64 = sweep.shown.values().map(|shown| shown.reported).sum();
    assert!(refused > 500 && reported > 1_000, "{refused} {reported}");
}
