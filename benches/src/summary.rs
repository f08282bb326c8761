//! `summary.md`: a record for people.

use std::fmt::Write as _;

use crate::figures::{Figure, Unit, Work, in_order};
use crate::machine::line;
use crate::run::Run;

/// The record as Markdown: what, where, how each repetition went, and a table of the figures.
pub fn summary(run: &Run) -> String {
    let mut out = String::new();
    let commit = if run.commit.is_empty() { "unknown" } else { &run.commit };
    let dirty = if run.is_dirty { ", with changes that are not in it" } else { "" };
    let lines = [
        format!("# {}, {}\n", run.topic, run.date),
        format!("- command: `{}`", run.command.join(" ")),
        format!("- commit: `{commit}`{dirty}"),
        format!("- machine: {}", line(&run.machine)),
    ];
    for line in lines {
        push(&mut out, &line);
    }
    for (n, attempt) in run.attempts.iter().enumerate() {
        let code = attempt.exit_code.map_or("ended by a signal".to_owned(), |code| format!("exit code {code}"));
        let load = attempt.load_average.map_or(String::new(), |load| format!(", load average {load:.2} at its start"));
        let verdict = attempt.verdict.as_ref().map_or(String::new(), |verdict| format!(", verdict {verdict}"));
        push(&mut out, &format!("- run {}: {:.0} s, {code}{load}{verdict}", n + 1, attempt.seconds));
    }
    if run.crowded() > 0 {
        let (crowded, all) = (run.crowded(), run.attempts.len());
        let what = "began while more was ready to run than there are cores: expect wide ranges and high medians";
        push(&mut out, &format!("\nBeware: {crowded} of {all} runs {what}."));
    }
    push(&mut out, "\nSpread: how far the greatest value lies above the least.\n");
    push(&mut out, "| figure | median | least | greatest | spread | at the median | runs |");
    push(&mut out, "|---|---:|---:|---:|---:|---:|---:|");
    for name in in_order(run.figures.keys()) {
        out.extend(row(name, &run.figures[name]));
    }
    out
}

fn push(out: &mut String, line: &str) {
    // Writing to a string cannot fail.
    _ = writeln!(out, "{line}");
}

fn row(name: &str, figure: &Figure) -> Option<String> {
    let range = figure.range()?;
    let show = |value| figure.unit.show(value);
    let spread =
        if range.min > 0.0 { format!("{:.1} %", (range.max / range.min - 1.0) * 100.0) } else { "-".to_owned() };
    let rate = figure.rate(range.median).unwrap_or_default();
    let per = match (figure.unit, figure.work) {
        (Unit::Ns, Some(Work::Elements(n))) if n > 1 => format!(" of {n}"),
        _ => String::new(),
    };
    let (median, min, max) = (show(range.median), show(range.min), show(range.max));
    Some(format!("| {name}{per} | {median} | {min} | {max} | {spread} | {rate} | {} |\n", figure.values.len()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::figures::Figures;
    use crate::run::Attempt;

    #[test]
    fn a_summary_names_command_commit_machine_and_every_figure() {
        let turn = Figure { unit: Unit::Ns, work: Some(Work::Elements(16)), values: vec![8_000.0, 10_000.0, 9_000.0] };
        let achieved = Figure { unit: Unit::PerSecond, work: None, values: vec![250_000.0] };
        let attempt =
            Attempt { exit_code: Some(1), seconds: 31.0, load_average: Some(0.5), verdict: Some("fail".to_owned()) };
        let run = Run {
            topic: "micro".to_owned(),
            command: vec!["cargo".to_owned(), "bench".to_owned()],
            is_dirty: true,
            attempts: vec![attempt, Attempt::default()],
            figures: Figures::from([("turn".to_owned(), turn), ("achieved".to_owned(), achieved)]),
            ..Run::default()
        };
        let text = summary(&run);
        let lines = [
            "- command: `cargo bench`",
            "- commit: `unknown`, with changes that are not in it",
            "- run 1: 31 s, exit code 1, load average 0.50 at its start, verdict fail",
            "- run 2: 0 s, ended by a signal",
            "Beware: 1 of 2 runs began while more was ready to run than there are cores: expect wide ranges and high medians.",
            "| achieved | 250.0 k/s | 250.0 k/s | 250.0 k/s | 0.0 % |  | 1 |",
            "| turn of 16 | 9.000 µs | 8.000 µs | 10.00 µs | 25.0 % | 1.778 M/s | 3 |",
        ];
        for line in lines {
            assert!(text.lines().any(|got| got == line), "{line} in\n{text}");
        }
    }
}
