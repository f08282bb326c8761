//! Damage at rest in the test run (P6): every file, every sector, every 997th bit and length. `tp-sim corruption` takes all.
#![allow(clippy::print_stdout, reason = "the figures are worth seeing")]

use tp_sim::Copies;
use tp_sim::corruption::Shown;

/// Images of disks come and go by the megabyte.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn sweep(copies: Copies, stride: usize) -> Shown {
    let jobs = std::thread::available_parallelism().map_or(1, usize::from);
    let sweep = tp_sim::corruption::sweep(copies, stride, jobs).expect("a sound directory");
    assert!(sweep.wrong.is_empty(), "{}", sweep.wrong.join("\n"));
    let mut sum = Shown::default();
    for ((file, damage), shown) in &sweep.shown {
        println!("{copies:?}, {file} {damage}: {shown:?}");
        assert!(shown.unneeded == 0 || *damage == "file deleted", "{file} {damage}");
        sum.refused += shown.refused;
        sum.reported += shown.reported;
        sum.repaired += shown.repaired;
    }
    sum
}

#[test]
fn no_damage_is_silent() {
    let Shown { refused, reported, .. } = sweep(Copies::One, 997);
    assert!(refused > 500 && reported > 1_000, "{refused} {reported}");
}

#[test]
fn what_one_copy_loses_the_other_repairs() {
    let Shown { refused, repaired, .. } = sweep(Copies::Two, 1_499);
    assert!(repaired > 1_000 && refused * 10 < repaired, "{refused} {repaired}");
}
