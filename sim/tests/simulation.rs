//! The simulation in the test run: new seeds, each twice, and every case that ever failed.
#![allow(clippy::print_stdout, reason = "the figures are worth seeing")]

use std::collections::BTreeSet;
use std::path::Path;

use tp_sim::{Case, Feature, Runs, Violation, run_case, run_many};

/// Images of disks come and go by the megabyte.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn shown(failures: &[(Case, Violation)]) -> String {
    let lines: Vec<_> = failures.iter().map(|(case, v)| format!("{case}, step {}: {}", v.step, v.what)).collect();
    lines.join("\n")
}

/// The gate is on: all that must be reached is reached.
#[test]
fn no_seed_violates_a_promise_and_all_that_must_be_reached_is() {
    let jobs = std::thread::available_parallelism().map_or(1, usize::from);
    let runs = Runs { first: 0, count: Some(SEEDS), time: None, like: Case::of(0), jobs, twice: false };
    let summary = run_many(&runs);
    assert!(summary.failures.is_empty(), "{}", shown(&summary.failures));
    assert_eq!(summary.seeds, SEEDS);
    assert_eq!(summary.missing(&runs.like), Vec::<&str>::new(), "never reached");
    println!("{SEEDS} seeds, {} events by the simulation", summary.marks.sum("event "));
}

/// What must be reached needs so many.
const SEEDS: u64 = 500;

#[test]
fn two_runs_of_a_case_are_the_same() {
    for seed in 0..20 {
        let case = Case::of(1_000_000 + seed);
        assert_eq!(run_case(&case, true).map(|_| ()), Ok(()), "{case}");
    }
}

#[test]
fn every_case_that_ever_failed_passes() {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("seeds");
    let mut cases = 0;
    for entry in std::fs::read_dir(dir).expect("the folder of seeds") {
        let path = entry.expect("an entry").path();
        if path.extension().is_none_or(|extension| extension != "txt") {
            continue;
        }
        let text = std::fs::read_to_string(&path).expect("a text");
        for line in text.lines().filter(|line| line.starts_with("--seed")) {
            let case = parse(line);
            assert_eq!(case.to_string(), line, "{}", path.display());
            assert_eq!(run_case(&case, false).map(|_| ()), Ok(()), "{}: {case}", path.display());
            cases += 1;
        }
    }
    println!("{cases} cases of old replayed");
}

fn parse(line: &str) -> Case {
    let mut case = Case::of(0);
    let words: Vec<_> = line.split(' ').collect();
    for pair in words.chunks(2) {
        match pair {
            ["--seed", seed] => case.seed = seed.parse().expect("a seed"),
            ["--steps", steps] => case.steps = Some(steps.parse().expect("steps")),
            ["--without", names] => {
                let features: Result<BTreeSet<Feature>, _> = names.split(',').map(str::parse).collect();
                case.without = features.expect("features");
            }
            other => panic!("{other:?}"),
        }
    }
    case
}
