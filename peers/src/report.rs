//! What is shown of a sweep: a table for people, JSON for programs.
//!
//! Owns the words and the order. Refuses to know how anything was measured. Percentages are integers of a tenth, never floats.

use serde_json::{Value, json};

use crate::child::Outcome;
use crate::damage::KINDS;
use crate::records::RECORDS;
use crate::sweep::{Counts, Example, Swept};

/// What the table's columns are.
const HEAD: &str = "\
| damage | damages | refused | same | lost | wrong | panicked | hung | checked: lost, wrong | checked: panicked, hung |
|---|--:|--:|--:|--:|--:|--:|--:|--:|--:|";

/// In both columns of an engine that has none.
const NO_CHECK: &str = "no check | no check";

/// The lines of one engine: its kinds of damage, all of them, and a few examples.
pub(crate) fn table(swept: &Swept) -> String {
    let bytes: usize = swept.files.iter().map(|(_, bytes)| bytes).sum();
    let (name, version, files) = (swept.engine.name(), swept.engine.version(), swept.files.len());
    let mut lines = vec![
        format!("### {name}\n"),
        format!("{version}; {files} files, {bytes} bytes written, every {}th bit and length.\n", swept.stride),
        HEAD.into(),
    ];
    let kinds = KINDS.iter().zip(&swept.counts).filter(|(_, counts)| counts.damages() > 0);
    lines.extend(kinds.map(|(kind, counts)| line(kind, counts, swept)));
    let sum = sum(swept);
    lines.push(line("all", &sum, swept));
    let share = |count: u64| percent(count, sum.damages());
    let after = if swept.engine.has_check() { checked(&sum).map(share).join(" | ") } else { NO_CHECK.into() };
    lines.push(format!("| of all | | {} | {after} |\n", sum.plain.map(share).join(" | ")));
    lines.push(format!("More warnings logged than of a sound one, of those lost or wrong: {}.", sum.warned));
    lines.extend(
        swept.missing().map(|(median, most)| {
            format!("Records missing when some were, of {RECORDS}: median {median}, most {most}.")
        }),
    );
    lines.push(String::new());
    lines.extend(swept.examples.iter().map(example));
    lines.join("\n") + "\n\n"
}

fn example(example: &Example) -> String {
    let said = if example.said.is_empty() { String::new() } else { format!(": {}", example.said) };
    format!("- {}: `{}` {}{said}", example.outcome.name(), example.file, example.damage)
}

fn line(kind: &str, counts: &Counts, swept: &Swept) -> String {
    let numbers = counts.plain.map(|count| count.to_string()).join(" | ");
    let after = if swept.engine.has_check() {
        checked(counts).map(|count| count.to_string()).join(" | ")
    } else {
        NO_CHECK.into()
    };
    format!("| {kind} | {} | {numbers} | {after} |", counts.damages())
}

fn sum(swept: &Swept) -> Counts {
    let mut sum = Counts::default();
    swept.counts.iter().for_each(|counts| sum.add(counts));
    sum
}

/// After the check: what nobody was told of, and what ended the process.
fn checked(counts: &Counts) -> [u64; 2] {
    let count = |outcome: Outcome| counts.checked[outcome as usize];
    [count(Outcome::Lost) + count(Outcome::Wrong), count(Outcome::Panicked) + count(Outcome::Hung)]
}

/// In tenths, to the nearest; what is not nothing never shows as nothing, nor what is not all as all.
fn percent(count: u64, of: u64) -> String {
    let tenths = (count * 2_000 + of).checked_div(of * 2).unwrap_or(0);
    let tenths = if count == 0 || count == of { tenths } else { tenths.clamp(1, 999) };
    format!("{}.{} %", tenths / 10, tenths % 10)
}

/// The same for programs.
pub(crate) fn value(swept: &Swept) -> Value {
    let named = |counts: &[u64; 6]| {
        Outcome::ALL.into_iter().map(|outcome| (outcome.name().to_owned(), counts[outcome as usize].into())).collect()
    };
    let counts = |counts: &Counts| {
        let (plain, checked): (Value, Value) =
            (Value::Object(named(&counts.plain)), Value::Object(named(&counts.checked)));
        let checked = if swept.engine.has_check() { checked } else { Value::Null };
        json!({ "damages": counts.damages(), "read": plain, "read_after_check": checked, "warned": counts.warned })
    };
    let kinds: serde_json::Map<_, _> =
        KINDS.iter().zip(&swept.counts).map(|(kind, of)| ((*kind).to_owned(), counts(of))).collect();
    json!({
        "engine": swept.engine.name(),
        "version": swept.engine.version(),
        "stride": swept.stride,
        "files": swept.files.iter().map(|(path, bytes)| json!({ "path": path, "bytes_written": bytes })).collect::<Vec<_>>(),
        "kinds": kinds,
        "all": counts(&sum(swept)),
        "records_missing_when_lost": swept.missing().map(|(median, most)| json!({ "median": median, "most": most })),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_share_is_rounded_but_never_to_none_or_all() {
        assert_eq!(percent(0, 3_000), "0.0 %");
        assert_eq!(percent(1, 30_000), "0.1 %");
        assert_eq!(percent(29_999, 30_000), "99.9 %");
        assert_eq!(percent(1, 3), "33.3 %");
        assert_eq!(percent(2, 3), "66.7 %");
        assert_eq!(percent(7, 7), "100.0 %");
        assert_eq!(percent(0, 0), "0.0 %");
    }
}
