//! Many runs: on all cores, each twice if asked, and what they came to.
//!
//! Owns the counting, the gate on what was reached, and the shrinking of a failing case; refuses to know what a run does.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use crate::marks::{MUST, Marks};
use crate::plan::{Case, Feature};
use crate::world::{Report, Violation, run};

/// So many seeds reach everything in [`MUST`]: fewer are not held against it.
pub const GATE_SEEDS: u64 = 500;

/// Which runs.
#[derive(Clone, Debug)]
pub struct Runs {
    /// The first seed.
    pub first: u64,
    /// Seeds at most; `None`: until the time is up.
    pub count: Option<u64>,
    /// How long at most.
    pub time: Option<Duration>,
    /// What all cases have in common.
    pub like: Case,
    /// Threads.
    pub jobs: usize,
    /// Whether each case is run twice and must be the same.
    pub twice: bool,
}

/// What many runs came to.
#[derive(Clone, Debug, Default)]
pub struct Summary {
    /// Runs.
    pub seeds: u64,
    /// What was reached in all.
    pub marks: Marks,
    /// Cases that failed; the first few.
    pub failures: Vec<(Case, Violation)>,
}

impl Summary {
    /// What should have been reached and was not; empty for few seeds, or with features off.
    pub fn missing(&self, like: &Case) -> Vec<&'static str> {
        if self.seeds < GATE_SEEDS || !like.without.is_empty() || like.steps.is_some() {
            return Vec::new();
        }
        MUST.iter().copied().filter(|name| self.marks.times(name) == 0).collect()
    }
}

/// One run, with panics as violations; twice, if asked.
///
/// # Errors
/// The [`Violation`].
pub fn run_case(case: &Case, twice: bool) -> Result<Report, Violation> {
    let once = || {
        catch_unwind(AssertUnwindSafe(|| run(case))).unwrap_or_else(|panic| {
            let text = panic.downcast_ref::<&str>().map(|text| (*text).to_owned());
            let what = text.or_else(|| panic.downcast_ref::<String>().cloned()).unwrap_or_default();
            Err(Violation { step: 0, what: format!("a panic: {what}") })
        })
    };
    let report = once()?;
    if twice && once()?.trace != report.trace {
        return Err(Violation { step: 0, what: "two runs of one case differ".into() });
    }
    Ok(report)
}

/// All runs. Stops at the first few failures.
pub fn run_many(runs: &Runs) -> Summary {
    let (next, start) = (AtomicU64::new(0), Instant::now());
    let summary = Mutex::new(Summary::default());
    let worker = || {
        loop {
            let number = next.fetch_add(1, Ordering::Relaxed);
            let is_over = runs.count.is_some_and(|count| number >= count)
                || runs.time.is_some_and(|time| start.elapsed() >= time);
            if is_over {
                return;
            }
            let case = Case { seed: runs.first + number, ..runs.like.clone() };
            let result = run_case(&case, runs.twice);
            let Ok(mut summary) = summary.lock() else { return };
            summary.seeds += 1;
            match result {
                Ok(report) => summary.marks.merge(&report.marks),
                Err(violation) => summary.failures.push((case, violation)),
            }
            if summary.failures.len() >= 3 {
                next.store(u64::MAX / 2, Ordering::Relaxed);
                return;
            }
        }
    };
    std::thread::scope(|scope| {
        for _ in 0..runs.jobs.max(1) {
            scope.spawn(worker);
        }
    });
    summary.into_inner().unwrap_or_default()
}

/// A smaller case that still fails: fewer steps, fewer features.
pub fn shrink(case: &Case, violation: &Violation) -> (Case, Violation) {
    let mut best = (case.clone(), violation.clone());
    let attempt = |candidate: Case, best: &mut (Case, Violation)| {
        if let Err(violation) = run_case(&candidate, false) {
            *best = (candidate, violation);
        }
    };
    for _ in 0..2 {
        for feature in Feature::ALL.iter().copied() {
            let mut candidate = best.0.clone();
            if candidate.without.insert(feature) {
                attempt(candidate, &mut best);
            }
        }
        let most = best.0.steps.unwrap_or(best.1.step.max(1));
        let mut cut = most / 2;
        while cut > 0 {
            let steps = best.0.steps.unwrap_or(most);
            if steps > cut {
                attempt(Case { steps: Some(steps - cut), ..best.0.clone() }, &mut best);
            }
            cut = if best.0.steps.unwrap_or(most) == steps { cut / 2 } else { cut };
        }
    }
    best
}
