//! The tables below the charts: outcomes, commands, every second, what was run and where.
//!
//! Refuses to add anything to the report but sums and shares of its counts. Invariants: shares are of the sum of what is listed;
//! a figure's exact value is in the `value` of its `<data>`.

use std::collections::BTreeMap;

use super::super::{Latency, Report};
use super::columns::{columns, seconds_per_column};
use super::markup::{Escaped, Html};
use super::summary::mark;
use super::units::{NOT_KNOWN, bytes, count, latency, rate, seconds, share};

/// Outcomes by count, the most frequent first.
pub(super) fn outcomes(report: &Report, html: &mut Html) {
    html.raw("<section>\n<h2>Outcomes</h2>\n");
    if report.outcomes.is_empty() {
        html.raw("<p class=\"none\">No command was answered.</p>\n</section>\n");
        return;
    }
    html.raw(
        "<div class=\"scroll\"><table class=\"outcomes\">\n<caption>What the commands of the measured part were answered</caption>\n\
         <thead><tr><th scope=\"col\">Outcome</th><th scope=\"col\" class=\"n\">Count</th><th scope=\"col\" class=\"n\">Share</th>\
         <td></td></tr></thead>\n<tbody>\n",
    );
    let total = total(&report.outcomes);
    for (name, n) in by_count(&report.outcomes) {
        html.put(format_args!(
            "<tr><th scope=\"row\"><code>{}</code></th><td class=\"n\">{}</td><td class=\"n\">{}</td>\
             <td class=\"barcell\"><span class=\"bar\" style=\"width:{}%\"></span></td></tr>\n",
            Escaped(name),
            exact_count(n),
            share(n, total),
            tenths_of_percent(n, total)
        ));
    }
    html.raw("</tbody>\n</table></div>\n</section>\n");
}

/// Each kind of command, and all of them.
pub(super) fn commands(report: &Report, html: &mut Html) {
    html.raw(
        "<section>\n<h2>Commands</h2>\n<div class=\"scroll\" tabindex=\"0\" role=\"region\" aria-label=\"Commands\">\
         <table class=\"commands\">\n<caption>Each kind of command, and what it was answered</caption>\n\
         <thead><tr><th scope=\"col\">Command</th><th scope=\"col\" class=\"n\">Completed</th>",
    );
    for name in ["p50", "p90", "p99", "p99.9", "p99.99", "max"] {
        html.put(format_args!("<th scope=\"col\" class=\"n\">{name}</th>"));
    }
    html.raw("</tr></thead>\n");
    for (name, command) in &report.per_command {
        html.raw("<tbody>\n");
        command_row(html, name, command.completed, command.latency_ns);
        html.raw("<tr class=\"sub\"><td colspan=\"8\"><div>");
        let total = total(&command.outcomes);
        for (outcome, n) in by_count(&command.outcomes) {
            html.put(format_args!(
                "<span class=\"outcome\"><code>{}</code> {} ({})</span> ",
                Escaped(outcome),
                exact_count(n),
                share(n, total)
            ));
        }
        html.raw("</div></td></tr>\n</tbody>\n");
    }
    html.raw("<tbody class=\"all\">\n");
    command_row(html, "all commands", report.completed, report.latency_ns);
    html.raw("<tr class=\"sub\"><th scope=\"row\">send delay (included)</th><td></td>");
    latency_cells(html, report.send_delay_ns);
    html.raw("</tr>\n</tbody>\n</table></div>\n</section>\n");
}

fn command_row(html: &mut Html, name: &str, completed: u64, of: Latency) {
    html.put(format_args!(
        "<tr><th scope=\"row\">{}</th><td class=\"n\">{}</td>",
        Escaped(name),
        exact_count(completed)
    ));
    latency_cells(html, of);
    html.raw("</tr>\n");
}

fn latency_cells(html: &mut Html, of: Latency) {
    for ns in [of.p50, of.p90, of.p99, of.p99_9, of.p99_99, of.max] {
        html.put(format_args!("<td class=\"n\"><data value=\"{ns}\">{}</data></td>", latency(ns)));
    }
}

/// The rates of a search, in the order in which they were tried; nothing when there was none.
pub(super) fn trials(report: &Report, html: &mut Html) {
    if report.trials.is_empty() {
        return;
    }
    html.raw(
        "<section>\n<h2>Search</h2>\n<div class=\"scroll\" tabindex=\"0\" role=\"region\" aria-label=\"Rates tried\"><table>\n\
         <caption>The rates tried, in order; the rest of this page is the run at the highest that passed</caption>\n<thead><tr>",
    );
    for name in ["Offered/s", "Achieved/s", "p50", "p99", "p99.9", "max"] {
        html.put(format_args!("<th scope=\"col\" class=\"n\">{name}</th>"));
    }
    html.raw("<th scope=\"col\">Verdict</th><th scope=\"col\">Why</th></tr></thead>\n<tbody>\n");
    for trial in &report.trials {
        let of = trial.latency_ns;
        html.put(format_args!("<tr><th scope=\"row\" class=\"n\">{}</th>", exact_count(trial.rate_per_s)));
        html.put(format_args!("<td class=\"n\">{}</td>", rate(trial.achieved_per_s)));
        for ns in [of.p50, of.p99, of.p99_9, of.max] {
            html.put(format_args!("<td class=\"n\"><data value=\"{ns}\">{}</data></td>", latency(ns)));
        }
        let why = trial.failures.join("; ");
        html.put(format_args!("<td>{}</td><td>{}</td></tr>\n", mark(trial.passed, "passed", "failed"), Escaped(&why)));
    }
    html.raw("</tbody>\n</table></div>\n</section>\n");
}

/// The data of the charts over time, folded away.
pub(super) fn every_second(report: &Report, html: &mut Html) {
    let columns = columns(&report.series);
    if columns.is_empty() {
        return;
    }
    html.raw("<details>\n<summary>The charts over time as a table</summary>\n");
    html.raw(
        "<div class=\"scroll\" tabindex=\"0\" role=\"region\" aria-label=\"The charts over time as a table\"><table>\n",
    );
    match seconds_per_column(report.series.len()) {
        1 => html.raw("<caption>Each second of the measured part</caption>\n"),
        n => {
            html.put(format_args!("<caption>Each {n} seconds: rates are means, latency and lag the worst</caption>\n"));
        }
    }
    html.raw("<thead><tr>");
    for name in ["Second", "Offered/s", "Completed/s", "Busy/s", "p50", "p99", "p99.9", "max", "Durable lag"] {
        html.put(format_args!("<th scope=\"col\" class=\"n\">{name}</th>"));
    }
    html.raw("<th scope=\"col\">Checkpoint</th></tr></thead>\n<tbody>\n");
    for c in &columns {
        html.put(format_args!("<tr><th scope=\"row\" class=\"n\">{}</th>", c.first_s));
        let of = |figure: fn(Latency) -> u64| c.latency_ns.map_or("–".to_owned(), |l| latency(figure(l)));
        let rates = [c.offered, c.completed, c.busy].map(rate);
        let latencies = [of(|l| l.p50), of(|l| l.p99), of(|l| l.p99_9), of(|l| l.max)];
        for figure in rates.into_iter().chain(latencies).chain([count(c.lag)]) {
            html.put(format_args!("<td class=\"n\">{figure}</td>"));
        }
        html.put(format_args!("<td>{}</td></tr>\n", c.checkpoint_text()));
    }
    html.raw("</tbody>\n</table></div>\n</details>\n");
}

/// The command, the configuration and the machine.
pub(super) fn what_was_run(report: &Report, html: &mut Html) {
    html.put(format_args!(
        "<section>\n<h2>What was run</h2>\n<pre tabindex=\"0\" aria-label=\"Command line\"><code>{}</code></pre>\n<div class=\"pair\">\n",
        Escaped(&report.command)
    ));
    let run = [
        ("tool", report.tool.clone()),
        ("started", report.started.clone()),
        ("seed", report.seed.to_string()),
        ("measured", seconds(report.measured_s)),
    ];
    let configuration = report.configuration.iter().map(|(name, value)| (name.as_str(), value.clone()));
    name_value(html, "Configuration", run.into_iter().chain(configuration));
    let machine = &report.machine;
    let rows = [
        ("processor", known(&machine.cpu)),
        ("cores", if machine.cores == 0 { NOT_KNOWN.to_owned() } else { machine.cores.to_string() }),
        ("memory", bytes(machine.memory_bytes)),
        ("operating system", known(&machine.os)),
        ("file system", known(&machine.file_system)),
        ("resident at the end", bytes(report.rss_bytes)),
        ("journal at the end", if report.journal_bytes == 0 { "0 B".to_owned() } else { bytes(report.journal_bytes) }),
    ];
    let opened = report.opening.map(|opening| {
        let from = if opening.from_checkpoint { "a checkpoint and " } else { "" };
        let events = count(opening.events_replayed);
        ("opened in", format!("{} from {from}{events} events", latency(opening.took_ms.saturating_mul(1_000_000))))
    });
    let disk = report.disk.map(|disk| {
        let (p50, p99) = (latency(disk.p50_ns), latency(disk.p99_ns));
        ("append of 4 KiB with its fdatasync", format!("p50 {p50}, p99 {p99} of {}", count(disk.appends)))
    });
    let cpu = report.cpu.map(|cpu| {
        let (all, longest) = (latency(cpu.paused_ns), latency(cpu.longest_ns));
        let pauses = format!("{} in {} ms, {all} in all, longest {longest}", count(cpu.pauses), count(cpu.looked_ms));
        ("pauses of its cores from 1 ms on, before the run", pauses)
    });
    name_value(html, "Machine", rows.into_iter().chain(opened).chain(disk).chain(cpu));
    if !report.transport.is_empty() {
        let counts = report.transport.iter().map(|(name, n)| (name.as_str(), count(*n)));
        name_value(html, "Connections", counts);
    }
    html.raw("</div>\n</section>\n");
}

fn name_value<'a>(html: &mut Html, caption: &'static str, rows: impl Iterator<Item = (&'a str, String)>) {
    html.put(format_args!("<table class=\"facts\">\n<caption>{caption}</caption>\n<tbody>\n"));
    for (name, value) in rows {
        html.put(format_args!("<tr><th scope=\"row\">{}</th><td>", Escaped(name)));
        for (at, part) in value.split_inclusive(',').enumerate() {
            html.raw(if at == 0 { "" } else { "<wbr>" });
            html.put(format_args!("{}", Escaped(part)));
        }
        html.raw("</td></tr>\n");
    }
    html.raw("</tbody>\n</table>\n");
}

fn known(text: &str) -> String {
    if text.is_empty() { NOT_KNOWN.to_owned() } else { text.to_owned() }
}

fn exact_count(n: u64) -> String {
    format!("<data value=\"{n}\">{}</data>", count(n))
}

fn total(outcomes: &BTreeMap<String, u64>) -> u128 {
    outcomes.values().map(|n| u128::from(*n)).sum()
}

fn by_count(outcomes: &BTreeMap<String, u64>) -> Vec<(&String, u64)> {
    let mut sorted: Vec<(&String, u64)> = outcomes.iter().map(|(name, n)| (name, *n)).collect();
    sorted.sort_by(|a, b| b.1.cmp(&a.1).then(a.0.cmp(b.0)));
    sorted
}

/// The width of a bar in percent.
fn tenths_of_percent(n: u64, total: u128) -> String {
    let tenths = u128::from(n) * 1000 / total.max(1);
    format!("{}.{}", tenths / 10, tenths % 10)
}
