//! An objective as it was given, read again so that it can be drawn: `p99.9<300ms`.
//!
//! Refuses to judge: whether it was met is in the report. Invariant: text that it cannot read is no line on a chart, never a wrong one.

use super::super::SloResult;
use crate::slo::Objective;

/// A limit on a percentile.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Limit<'a> {
    /// As given.
    pub(super) text: &'a str,
    /// 0 to 100; the maximum is 100.
    pub(super) percentile: f64,
    /// What it has to stay under, ns.
    pub(super) under_ns: u64,
    /// Whether it was met.
    pub(super) met: bool,
}

/// The limits among the objectives, each once.
pub(super) fn limits(objectives: &[SloResult]) -> Vec<Limit<'_>> {
    let mut limits: Vec<Limit<'_>> = Vec::new();
    for limit in objectives.iter().filter_map(read) {
        if !limits.contains(&limit) {
            limits.push(limit);
        }
    }
    limits
}

fn read(objective: &SloResult) -> Option<Limit<'_>> {
    let read: Objective = objective.objective.parse().ok()?;
    let (percentile, under_ns) = (read.percentile(), read.bound_ns());
    Some(Limit { text: &objective.objective, percentile, under_ns, met: objective.met })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str, expect: Option<(f64, u64)>) {
        let objectives = [SloResult { objective: text.to_owned(), measured_ns: 0, met: true }];
        let found = limits(&objectives).first().map(|limit| (limit.percentile, limit.under_ns));
        assert_eq!(found, expect, "{text}");
    }

    #[test]
    fn objectives_are_read_as_they_are_given() {
        check("p99.9<300ms", Some((99.9, 300_000_000)));
        check("p50 < 1.5s", Some((50.0, 1_500_000_000)));
        check("max<2m", Some((100.0, 120_000_000_000)));
        check("p99<250us", Some((99.0, 250_000)));
    }

    #[test]
    fn what_is_no_limit_on_a_percentile_is_not_drawn() {
        for text in [
            "",
            "p99",
            "p101<1s",
            "pNaN<1s",
            "p99<1",
            "p99<-1s",
            "p99<0s",
            "p99<NaNs",
            "p99<infs",
            "q<1s",
            "p99<1e300s",
            "<",
        ] {
            check(text, None);
        }
    }
}
