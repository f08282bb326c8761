//! What is shown while a run goes on: one line that is kept up to date on a terminal, a line a second elsewhere.
//!
//! Owns standard error while the run lasts; the result goes to standard output. Refuses to measure.

use std::io::{IsTerminal as _, Write as _};
use std::time::Duration;

use indicatif::{ProgressBar, ProgressStyle};

use crate::report::{Report, Second, Trial, Verdict};
use crate::schedule::Schedule;
use crate::units::{count, latency, show_duration};

/// Shows a run.
pub struct Display {
    bar: Option<ProgressBar>,
    is_quiet: bool,
}

impl Display {
    /// On standard error; `is_quiet`: only the result.
    pub fn new(is_quiet: bool) -> Self {
        let is_live = !is_quiet && std::io::stderr().is_terminal();
        let style = || ProgressStyle::with_template("{spinner} {elapsed_precise} [{bar:24}] {msg}");
        let bar = is_live.then(|| match style() {
            Ok(style) => ProgressBar::new(1000).with_style(style.progress_chars("=> ")),
            Err(_) => ProgressBar::new(1000),
        });
        Self { bar, is_quiet }
    }

    /// A line that stays.
    pub fn say(&self, line: &str) {
        match &self.bar {
            Some(bar) => bar.println(line),
            None if self.is_quiet => {}
            None => drop(writeln!(std::io::stderr(), "{line}")), // nobody listens: the run goes on
        }
    }

    /// So much of the setup is done, of 1000.
    pub fn preparing(&self, per_mille: u64) {
        if let Some(bar) = &self.bar {
            bar.set_message("preparing accounts");
            bar.set_position(per_mille);
        }
    }

    /// The setup is done.
    pub fn prepared(&self, given: u64) {
        self.say(&format!("{} accounts were given their opening balance", count(given)));
    }

    /// A schedule begins.
    pub fn begin(&self, schedule: &Schedule, warm_up: Duration) {
        let length = schedule.length();
        self.say(&format!("{schedule}, after {} of warm-up", show_duration(warm_up)));
        if let Some(bar) = &self.bar {
            bar.set_length(length.as_secs().max(1));
            bar.set_position(0);
            bar.set_message("warm-up");
        }
    }

    /// A second of the measured part has passed.
    pub fn second(&self, second: &Second) {
        let Second { t_s, completed, busy, latency_ns, durable_lag_events, checkpoint_running, .. } = second;
        let checkpoint = if *checkpoint_running { ", checkpoint" } else { "" };
        let busy = if *busy > 0 { format!(", {} busy", count(*busy)) } else { String::new() };
        let line = format!(
            "{}/s  p50 {}  p99 {}  p99.9 {}  max {}  lag {durable_lag_events}{busy}{checkpoint}",
            count(*completed),
            latency(latency_ns.p50),
            latency(latency_ns.p99),
            latency(latency_ns.p99_9),
            latency(latency_ns.max)
        );
        match &self.bar {
            Some(bar) => {
                bar.set_position(t_s + 1);
                bar.set_message(line);
            }
            None => self.say(&format!("{:>5} s  {line}", t_s + 1)),
        }
    }

    /// One rate of a search was tried.
    pub fn trial(&self, trial: &Trial) {
        let verdict = if trial.passed { "passed".to_owned() } else { trial.failures.join("; ") };
        self.say(&format!("{}/s: {verdict}", count(trial.rate_per_s)));
    }

    /// The end of the live part.
    pub fn finish(&self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }
}

/// The result as lines for a reader.
#[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "rates for a reader")]
pub fn summary(report: &Report) -> String {
    let mut lines = Vec::new();
    let rate = |per_s: f64| count(per_s.round() as u64);
    let l = &report.latency_ns;
    lines.push(format!(
        "rate       {}/s achieved of {}/s offered over {:.1} s{}",
        rate(report.achieved_per_s),
        rate(report.offered_per_s),
        report.measured_s,
        if report.ended_early { " (ended early)" } else { "" }
    ));
    lines.push(format!(
        "latency    p50 {}  p90 {}  p99 {}  p99.9 {}  p99.99 {}  max {}",
        latency(l.p50),
        latency(l.p90),
        latency(l.p99),
        latency(l.p99_9),
        latency(l.p99_99),
        latency(l.max)
    ));
    for (name, per) in &report.per_command {
        let l = &per.latency_ns;
        let outcomes: Vec<_> = per.outcomes.iter().map(|(name, n)| format!("{name} {}", count(*n))).collect();
        lines.push(format!(
            "  {name:<9}{:>12}  p50 {:>8}  p99 {:>8}  p99.9 {:>8}  {}",
            count(per.completed),
            latency(l.p50),
            latency(l.p99),
            latency(l.p99_9),
            outcomes.join(", ")
        ));
    }
    lines.push(format!(
        "generator  sent late by p50 {}, p99.9 {} (included above)",
        latency(report.send_delay_ns.p50),
        latency(report.send_delay_ns.p99_9)
    ));
    if !report.transport.is_empty() {
        let counts: Vec<_> = report.transport.iter().map(|(name, n)| format!("{name} {}", count(*n))).collect();
        lines.push(format!("network    {}", counts.join("; ")));
    }
    for check in &report.money {
        lines.push(format!("money      {} {}: {}", if check.ok { "ok   " } else { "WRONG" }, check.name, check.detail));
    }
    for slo in &report.slo {
        let met = if slo.met { "met  " } else { "MISSED" };
        lines.push(format!("objective  {met} {} (measured {})", slo.objective, latency(slo.measured_ns)));
    }
    let mib = |bytes: u64| count(bytes >> 20);
    if report.transport.is_empty() {
        lines.push(format!(
            "memory     {} MiB resident, journal {} MiB",
            mib(report.rss_bytes),
            mib(report.journal_bytes)
        ));
    } else {
        lines.push(format!("memory     {} MiB resident (the generator)", mib(report.rss_bytes)));
    }
    if let Some(opening) = report.opening {
        let from = if opening.from_checkpoint { "a checkpoint and " } else { "" };
        let (took, events) = (latency(opening.took_ms.saturating_mul(1_000_000)), count(opening.events_replayed));
        let pace = count(opening.events_replayed.saturating_mul(1_000) / opening.took_ms.max(1));
        lines.push(format!("opening    {took} from {from}{events} events of the journal ({pace}/s)"));
    }
    if let Some(cpu) = report.cpu {
        let (all, longest) = (latency(cpu.paused_ns), latency(cpu.longest_ns));
        lines.push(format!(
            "cores      {} pauses from 1 ms on in {} ms before the run, {all} in all, longest {longest}",
            count(cpu.pauses),
            count(cpu.looked_ms)
        ));
    }
    if let Some(disk) = report.disk {
        let (p50, p99) = (latency(disk.p50_ns), latency(disk.p99_ns));
        lines.push(format!(
            "disk       p50 {p50}  p99 {p99} an append of 4 KiB with its fdatasync ({})",
            count(disk.appends)
        ));
    }
    match report.verdict {
        Verdict::Pass => lines.push("verdict    pass".to_owned()),
        Verdict::Fail => lines.push(format!("verdict    FAIL: {}", report.failures.join("; "))),
    }
    lines.join("\n")
}
