//! The campaigns' figures as text.

use std::fmt::{self, Write as _};

use super::{Climbed, Part, Stalled};

/// Times of a part: median and 99th percentile, ms.
fn times(part: &Part) -> String {
    let ms = |us: u64| format!("{}.{}", us / 1_000, us % 1_000 / 100);
    let whole = (0, part.length_us());
    format!("{:>8} {:>8}", ms(part.latency_us(500, whole)), ms(part.latency_us(990, whole)))
}

fn fates(part: &Part) -> String {
    let Part { sent, busy, late, in_progress, .. } = part;
    format!("{sent:>8} {:>8} {busy:>8} {late:>8} {in_progress:>8}", part.decided())
}

/// Nothing where nobody counted.
fn kib(bytes: u64) -> String {
    if bytes == 0 { String::new() } else { (bytes >> 10).to_string() }
}

/// One line a load, and one for the calm before.
pub fn table(climbed: &Climbed) -> String {
    let mut text = format!(
        "{:>6} {:>9} {:>4} {:>8} {:>8} {:>8} {:>8} {:>8} {:>8} {:>8} {:>8} {:>8} {:>8}\n",
        "load",
        "goodput/s",
        "%",
        "sent",
        "told",
        "busy",
        "deadline",
        "progress",
        "p50 ms",
        "p99 ms",
        "back ms",
        "inside",
        "KiB"
    );
    let percent = |part: &Part| part.goodput() * 100 / climbed.capacity.max(1);
    let mut line = |load: String, part: &Part, rest: String| {
        let (goodput, percent) = (part.goodput(), percent(part));
        // Into a string: never fails.
        let _ = writeln!(text, "{load:>6} {goodput:>9} {percent:>4} {} {} {rest}", fates(part), times(part));
    };
    line("calm".into(), &climbed.calm, format!("{:>8} {:>8} {:>8}", "", "", kib(climbed.calm_heap_bytes)));
    for row in &climbed.rows {
        let back = row.back_us.map_or_else(|| "never".into(), |us| (us / 1_000).to_string());
        let load = format!("{}.{}x", row.percent / 100, row.percent % 100 / 10);
        line(load, &row.load, format!("{back:>8} {:>8} {:>8}", row.queued_max, kib(row.heap_bytes)));
        line("calm".into(), &row.calm, String::new());
    }
    let _ = write!(text, "capacity {}/s, {} commands", climbed.capacity, climbed.sent);
    text
}

impl fmt::Display for Stalled {
    /// One line for each part of the run.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [before, during, after] = &self.parts;
        let [sync, stall, part] = ["sync ms", "stalls", "part"];
        let [sent, told, busy, deadline, progress] = ["sent", "told", "busy", "deadline", "progress"];
        write!(f, "{sync:>7} {stall:>7} {part:<6} {sent:>8} {told:>8} {busy:>8} {deadline:>8} {progress:>8}")?;
        writeln!(f, " {:>8} {:>8}", "p50 ms", "p99 ms")?;
        for (name, part) in [("before", before), ("during", during), ("after", after)] {
            if part.sent > 0 {
                let (sync_ms, stall_ms) = (self.sync_us / 1_000, self.stall_us / 1_000);
                writeln!(f, "{sync_ms:>7} {stall_ms:>7} {name:<6} {} {}", fates(part), times(part))?;
            }
        }
        let (acknowledged, found) = self.cut;
        let overdue_ms = self.overdue_us_max / 1_000;
        write!(
            f,
            "at most {overdue_ms} ms after the deadline; acknowledged to event {acknowledged}, {found} on the disk"
        )
    }
}
