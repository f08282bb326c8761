//! The commands under a wall clock that is ten years off and moved between runs (P11): what they write has the times of the rows, and
//! what they read does not depend on the clock. Skipped where libfaketime is missing.

mod common;

use std::collections::HashMap;
use std::path::Path;

use common::{Run, bank_accounts, command, first_rows, sums_of_accounts, sums_of_rows, text};
use serde_json::Value;
use tp_sim::fake_clock::FakeClock;

/// Runs the command with the clock so far off.
#[track_caller]
fn under(clock: &FakeClock, offset: &str, arguments: &[&str]) -> Run {
    clock.set(offset).expect("set");
    let output = clock.of(&mut command(arguments)).output().expect("the binary runs");
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).expect("UTF-8");
    let code = output.status.code().unwrap_or(-1);
    Run { code, stdout: text(output.stdout), stderr: text(output.stderr) }.expect(0)
}

#[test]
fn an_import_over_runs_with_clocks_ten_years_apart_has_the_times_of_its_rows() {
    let place = tempfile::tempdir().expect("a directory");
    let clock = match FakeClock::new(place.path()) {
        Ok(clock) => clock,
        Err(reason) => return tp_sim::generator::skipped(&reason),
    };
    let data = place.path().join("data");
    let directory = ["--data-dir", text(&data)];
    for (offset, rows) in [("-10y", 400), ("+10y", 800), ("+0", 1_200)] {
        let input = first_rows(place.path(), rows);
        under(&clock, offset, &[&["import", "--input", text(&input)], &directory[..]].concat());
        under(&clock, "-30y", &[&["checkpoint"], &directory[..]].concat());
        assert_eq!(bank_accounts(sums_of_accounts(&data)), sums_of_rows(&input), "{offset}");
    }
    let verify = |offset| under(&clock, offset, &[&["verify", "--json"], &directory[..]].concat()).json();
    let (now, later) = (verify("+0"), verify("+10y"));
    assert_eq!((&now["status"], &now), (&Value::from("ok"), &later));
    let dump = under(&clock, "-10y", &[&["dump"], &directory[..]].concat()).stdout;
    times_are_of_the_rows(&dump, &first_rows(place.path(), 1_200));
}

/// No event of an account comes before an earlier one of it, and all of them lie between the first day and the last.
#[track_caller]
fn times_are_of_the_rows(dump: &str, input: &Path) {
    let mut reader = csv::Reader::from_path(input).expect("the file");
    let mut days: Vec<String> = reader.records().map(|record| record.expect("a row")[2].to_owned()).collect();
    days.sort();
    let (first, last) = (days.first().expect("rows"), days.last().expect("rows"));
    let mut accounts: HashMap<String, String> = HashMap::new();
    let (mut seen, mut on_last) = (0, 0);
    for line in dump.lines() {
        let event: Value = serde_json::from_str(line).expect("JSON");
        let time = event["time"].as_str().expect("a time").to_owned();
        assert!((first.as_str()..=last.as_str()).contains(&&time[..10]), "{line}");
        on_last += u32::from(time.starts_with(last.as_str()));
        if let Some(account) = event["account"].as_str() {
            let before = accounts.insert(account.to_owned(), time.clone());
            assert!(before.is_none_or(|before| before <= time), "{line}");
        }
        seen += 1;
    }
    assert!(seen > 1_200 && on_last > 0, "{seen} events, {on_last} on the last day");
}
