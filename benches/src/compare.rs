//! Compares two records: the ratio of medians, the spreads, and whether the ranges overlap.
//!
//! Owns the judgement and its words. Refuses to call a difference real where a value of one run lies within the range of the
//! other's: with as few repetitions as these no finer test is honest.

use std::fmt::Write as _;

use crate::error::RunsError;
use crate::figures::{Figure, Range, Unit, in_order};
use crate::machine::line;
use crate::run::Run;

/// Below so many repetitions a range says little.
const RUNS_MIN: usize = 3;

/// What two values of a figure say.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Difference {
    /// The ranges overlap.
    None,
    /// All of the second's values are better.
    Better,
    /// All of the second's values are worse.
    Worse,
}

/// One figure in both records.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Row {
    /// In the first.
    pub a: Range,
    /// In the second.
    pub b: Range,
    /// Median of the second over that of the first.
    pub ratio: f64,
    /// What that says.
    pub difference: Difference,
}

/// Compares one figure.
///
/// # Errors
/// When units or work of the two differ.
pub fn compare_figure(name: &str, a: &Figure, b: &Figure) -> Result<Row, RunsError> {
    if (a.unit, a.work) != (b.unit, b.work) {
        let what = format!("{name}: {:?} of {:?} here and {:?} of {:?} there", a.unit, a.work, b.unit, b.work);
        return Err(RunsError::Incomparable(what));
    }
    let empty = || RunsError::Incomparable(format!("{name}: it has no values"));
    let (range_a, range_b) = (a.range().ok_or_else(empty)?, b.range().ok_or_else(empty)?);
    let is_less = range_b.median < range_a.median;
    let difference = match a.unit {
        _ if range_a.overlaps(&range_b) => Difference::None,
        Unit::Ns | Unit::Seconds if is_less => Difference::Better,
        Unit::PerSecond if !is_less => Difference::Better,
        _ => Difference::Worse,
    };
    Ok(Row { a: range_a, b: range_b, ratio: range_b.median / range_a.median, difference })
}

/// Both records side by side, for people: Markdown.
///
/// # Errors
/// When no figure is in both, or one is in both with different units.
pub fn compare(name_a: &str, a: &Run, name_b: &str, b: &Run) -> Result<String, RunsError> {
    let mut out = String::new();
    let mut push = |line: String| _ = writeln!(out, "{line}"); // writing to a string cannot fail
    push(format!("A: {name_a}, {} runs, commit {}{}", a.attempts.len(), a.commit, dirty(a)));
    push(format!("B: {name_b}, {} runs, commit {}{}", b.attempts.len(), b.commit, dirty(b)));
    for warning in warnings(a, b) {
        push(format!("Beware: {warning}"));
    }
    push("\n| figure | A: median (least to greatest) | B: median (least to greatest) | B / A | |".to_owned());
    push("|---|---:|---:|---:|---|".to_owned());
    let mut compared = 0;
    for name in in_order(a.figures.keys()) {
        let figure_a = &a.figures[name];
        let Some(figure_b) = b.figures.get(name) else {
            push(format!("| {name} | | | | only in A |"));
            continue;
        };
        let row = compare_figure(name, figure_a, figure_b)?;
        let show = |r: Range| {
            let [median, min, max] = [r.median, r.min, r.max].map(|value| figure_a.unit.show(value));
            format!("{median} ({min} to {max})")
        };
        push(format!("| {name} | {} | {} | {:.3} | {} |", show(row.a), show(row.b), row.ratio, words(row.difference)));
        compared += 1;
    }
    for name in in_order(b.figures.keys().filter(|name| !a.figures.contains_key(*name))) {
        push(format!("| {name} | | | | only in B |"));
    }
    if compared == 0 {
        return Err(RunsError::Incomparable(format!("{name_a} and {name_b} have no figure in common")));
    }
    Ok(out)
}

const fn words(difference: Difference) -> &'static str {
    match difference {
        Difference::None => "ranges overlap: no difference shown",
        Difference::Better => "better",
        Difference::Worse => "worse",
    }
}

const fn dirty(run: &Run) -> &'static str {
    if run.is_dirty { " with changes" } else { "" }
}

fn warnings(a: &Run, b: &Run) -> Vec<String> {
    let mut warnings = Vec::new();
    if a.machine != b.machine {
        warnings.push(format!("the machines differ: {} and {}", line(&a.machine), line(&b.machine)));
    }
    if a.command != b.command {
        warnings.push(format!("the commands differ: `{}` and `{}`", a.command.join(" "), b.command.join(" ")));
    }
    for (name, run) in [("A", a), ("B", b)].into_iter().filter(|(_, run)| run.crowded() > 0) {
        let (crowded, all) = (run.crowded(), run.attempts.len());
        warnings
            .push(format!("{crowded} of {all} runs of {name} began while more was ready to run than there are cores"));
    }
    let fewest = a.attempts.len().min(b.attempts.len());
    if fewest < RUNS_MIN {
        warnings.push(format!("with {fewest} runs the ranges say little: record at least {RUNS_MIN}"));
    }
    warnings
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::figures::{Figures, Work};
    use crate::run::Attempt;

    fn figure(unit: Unit, values: &[f64]) -> Figure {
        Figure { unit, work: Some(Work::Elements(1)), values: values.to_vec() }
    }

    fn run(figures: &[(&str, Figure)]) -> Run {
        let figures: Figures = figures.iter().map(|(name, figure)| ((*name).to_owned(), figure.clone())).collect();
        Run { attempts: vec![Attempt::default(); 3], figures, ..Run::default() }
    }

    #[test]
    fn a_difference_is_called_one_only_when_the_ranges_are_apart() {
        let check = |unit, a: &[f64], b: &[f64], ratio, difference| {
            let row = compare_figure("x", &figure(unit, a), &figure(unit, b)).expect("comparable");
            assert_eq!((row.ratio, row.difference), (ratio, difference), "{unit:?} {a:?} {b:?}");
        };
        check(Unit::Ns, &[10.0, 11.0, 12.0], &[5.0, 5.5, 6.0], 0.5, Difference::Better);
        check(Unit::Ns, &[5.0, 5.5, 6.0], &[10.0, 11.0, 12.0], 2.0, Difference::Worse);
        check(Unit::PerSecond, &[5.0, 5.5, 6.0], &[10.0, 11.0, 12.0], 2.0, Difference::Better);
        check(Unit::PerSecond, &[10.0], &[5.0], 0.5, Difference::Worse);
        check(Unit::Ns, &[10.0, 20.0, 30.0], &[5.0, 10.0, 15.0], 0.5, Difference::None);
        check(Unit::Ns, &[10.0, 10.0, 20.0], &[20.0, 20.0, 30.0], 2.0, Difference::None);
    }

    #[test]
    fn the_table_has_every_figure_of_either() {
        let same = ("same", figure(Unit::Ns, &[100.0, 101.0, 102.0]));
        let a = run(&[
            same.clone(),
            ("faster", figure(Unit::Ns, &[100.0, 100.0, 100.0])),
            ("old", figure(Unit::Ns, &[1.0])),
        ]);
        let b = run(&[same, ("faster", figure(Unit::Ns, &[50.0, 50.0, 50.0])), ("new", figure(Unit::Ns, &[1.0]))]);
        let table = compare("one", &a, "two", &b).expect("comparable");
        for line in [
            "| same | 101.0 ns (100.0 ns to 102.0 ns) | 101.0 ns (100.0 ns to 102.0 ns) | 1.000 | ranges overlap: no difference shown |",
            "| faster | 100.0 ns (100.0 ns to 100.0 ns) | 50.00 ns (50.00 ns to 50.00 ns) | 0.500 | better |",
            "| old | | | | only in A |",
            "| new | | | | only in B |",
        ] {
            assert!(table.lines().any(|got| got == line), "{line} in\n{table}");
        }
        assert!(!table.contains("Beware"), "{table}");
    }

    #[test]
    fn what_makes_a_comparison_doubtful_is_said() {
        let a = run(&[("x", figure(Unit::Ns, &[1.0]))]);
        let mut b = a.clone();
        (b.machine.cores, b.command) = (4, vec!["other".to_owned()]);
        b.attempts.truncate(1);
        b.attempts[0].load_average = Some(4.5);
        let table = compare("one", &a, "two", &b).expect("comparable");
        for what in ["machines differ", "commands differ", "with 1 runs", "1 of 1 runs of B"] {
            assert!(table.contains(what), "{what} in\n{table}");
        }
    }

    #[test]
    fn records_without_a_common_figure_or_with_other_units_are_refused() {
        let check = |a: &Run, b: &Run, what: &str| {
            let error = compare("one", a, "two", b).expect_err(what).to_string();
            assert!(error.contains(what), "{error}");
        };
        let ns = run(&[("x", figure(Unit::Ns, &[1.0]))]);
        check(&ns, &run(&[("y", figure(Unit::Ns, &[1.0]))]), "no figure in common");
        check(&ns, &run(&[("x", figure(Unit::PerSecond, &[1.0]))]), "x: Ns");
    }
}
