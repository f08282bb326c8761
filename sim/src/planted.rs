//! The simulation's own proof: known bugs, switched on one after the other, and each found.
//!
//! Owns the table; refuses to know where the bugs are. Without the feature `planted` none is compiled in, and the command says so.

use tp_planted::{Bug, plant};

use crate::many::{Runs, run_many};
use crate::plan::Case;

/// A bug and where it was found.
#[derive(Clone, Debug)]
pub struct Found {
    /// Which.
    pub bug: Bug,
    /// How many seeds it took; `None`: it was not found.
    pub seeds: Option<u64>,
    /// What the violation said, its first line.
    pub what: String,
}

/// Looks for a bug in seeds from 0 on.
pub fn hunt(bug: Bug, seeds: u64, jobs: usize) -> Found {
    plant(bug);
    let runs = Runs { first: 0, count: Some(seeds), time: None, like: Case::of(0), jobs, twice: false };
    let summary = run_many(&runs);
    plant(Bug::None);
    let first = summary.failures.iter().min_by_key(|(case, _)| case.seed);
    let what = first.map(|(_, violation)| violation.what.lines().next().unwrap_or_default().to_owned());
    Found { bug, seeds: first.map(|(case, _)| case.seed + 1), what: what.unwrap_or_default() }
}
