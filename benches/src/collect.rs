//! Reads figures out of what a command left: criterion's estimates, the load generator's JSON report.
//!
//! Owns the two forms; refuses to know how the command was run. Criterion's typical value is taken, as criterion prints it:
//! the slope where it fitted one, else the mean.

use std::path::{Path, PathBuf};

use serde_json::{Map, Value, json};
use tp_loadgen::report::{Report, Verdict};

use crate::error::RunsError;
use crate::figures::{Figure, Figures, Unit, Work};

/// Figures of one run, and the raw data that they come from.
#[derive(Debug, Default)]
pub struct Collected {
    /// The figures.
    pub figures: Figures,
    /// Criterion's estimates by bench, as it wrote them but without the error estimates; `Null` when there are none.
    pub estimates: Value,
    /// The load generator's report; `Null` when there is none.
    pub report: Value,
    /// Its verdict.
    pub verdict: Option<String>,
}

/// The estimates below criterion's folder. An empty or missing folder has none.
///
/// # Errors
/// When a file cannot be read or does not have criterion's form.
pub fn criterion(folder: &Path) -> Result<Collected, RunsError> {
    let mut found = Vec::new();
    find_estimates(folder, &mut found)?;
    found.sort();
    let mut collected = Collected::default();
    let mut estimates = Map::new();
    for file in found {
        let (estimate, bench) = (read_json(&file)?, read_json(&file.with_file_name("benchmark.json"))?);
        let (name, figure, raw) = bench_figure(&estimate, &bench).map_err(|what| {
            // Named from criterion's folder on: the rest is the machine's.
            RunsError::form(file.strip_prefix(folder).unwrap_or(&file).display().to_string(), what)
        })?;
        estimates.insert(name.clone(), raw);
        collected.figures.insert(name, figure);
    }
    if !estimates.is_empty() {
        collected.estimates = Value::Object(estimates);
    }
    Ok(collected)
}

/// All `new/estimates.json` below a folder.
fn find_estimates(folder: &Path, found: &mut Vec<PathBuf>) -> Result<(), RunsError> {
    if !folder.is_dir() {
        return Ok(());
    }
    for entry in std::fs::read_dir(folder).map_err(RunsError::io(folder))? {
        let path = entry.map_err(RunsError::io(folder))?.path();
        if path.is_dir() {
            find_estimates(&path, found)?;
        } else if path.ends_with("new/estimates.json") {
            found.push(path);
        }
    }
    Ok(())
}

/// A JSON file.
///
/// # Errors
/// When it cannot be read or is no JSON.
pub fn read_json(file: &Path) -> Result<Value, RunsError> {
    let text = std::fs::read_to_string(file).map_err(RunsError::io(file))?;
    serde_json::from_str(&text).map_err(|error| RunsError::form(file.display().to_string(), error.to_string()))
}

fn bench_figure(estimates: &Value, bench: &Value) -> Result<(String, Figure, Value), String> {
    let name = bench["full_id"].as_str().ok_or("benchmark.json has no full_id")?.to_owned();
    let typical = if estimates["slope"].is_null() { &estimates["mean"] } else { &estimates["slope"] };
    let value = typical["point_estimate"].as_f64().ok_or("it has neither slope nor mean")?;
    let elements = bench["throughput"]["Elements"].as_u64().map(Work::Elements);
    let work = elements.or(bench["throughput"]["Bytes"].as_u64().map(Work::Bytes));
    let raw = json!({
        "mean": brief(&estimates["mean"]),
        "median": brief(&estimates["median"]),
        "slope": brief(&estimates["slope"]),
        "std_dev": brief(&estimates["std_dev"]),
        "throughput": bench["throughput"],
    });
    Ok((name, Figure { unit: Unit::Ns, work, values: vec![value] }, raw))
}

/// Point and interval of an estimate, to a thousandth of a nanosecond.
fn brief(estimate: &Value) -> Value {
    let round = |value: &Value| value.as_f64().map(|value| (value * 1e3).round() / 1e3);
    let interval = &estimate["confidence_interval"];
    match round(&estimate["point_estimate"]) {
        Some(point) => json!([point, round(&interval["lower_bound"]), round(&interval["upper_bound"])]),
        None => Value::Null,
    }
}

/// The load generator's report on standard output, if there is one: the whole text, or what begins at a line with a brace.
///
/// # Errors
/// When there is a report without its figures.
pub fn load_report(output: &str) -> Result<Option<Collected>, String> {
    let Some(report) = find_report(output) else { return Ok(None) };
    let read: Report = serde_json::from_value(report.clone())
        .map_err(|error| format!("the JSON report is not one of this load generator: {error}"))?;
    let mut figures = Figures::new();
    let mut add =
        |name: &str, unit, value| figures.insert(name.to_owned(), Figure { unit, work: None, values: vec![value] });
    add("achieved", Unit::PerSecond, read.achieved_per_s);
    add("offered", Unit::PerSecond, read.offered_per_s);
    let l = read.latency_ns;
    for (name, ns) in [("p50", l.p50), ("p99", l.p99), ("p99.9", l.p99_9), ("max", l.max)] {
        #[allow(clippy::cast_precision_loss, reason = "a figure to compare")]
        add(&format!("latency {name}"), Unit::Ns, ns as f64);
    }
    #[allow(clippy::cast_precision_loss, reason = "figures to compare")]
    if let Some(opening) = read.opening {
        add("opening", Unit::Ns, opening.took_ms as f64 * 1e6);
        add(
            "opening, events replayed",
            Unit::PerSecond,
            opening.events_replayed as f64 * 1e3 / opening.took_ms.max(1) as f64,
        );
    }
    #[allow(clippy::cast_precision_loss, reason = "a figure to compare")]
    if let Some(disk) = read.disk {
        add("disk p50", Unit::Ns, disk.p50_ns as f64);
    }
    #[allow(clippy::cast_precision_loss, reason = "figures to compare")]
    if let Some(cpu) = read.cpu {
        add("cores' longest pause", Unit::Ns, cpu.longest_ns as f64);
        add("cores' pauses in all", Unit::Ns, cpu.paused_ns as f64);
    }
    let verdict = match read.verdict {
        Verdict::Pass => "pass",
        Verdict::Fail => "fail",
    };
    Ok(Some(Collected { figures, estimates: Value::Null, report, verdict: Some(verdict.to_owned()) }))
}

fn find_report(output: &str) -> Option<Value> {
    let starts = output.match_indices('{').map(|(at, _)| at).filter(|at| *at == 0 || output[..*at].ends_with('\n'));
    let mut reports = starts.filter_map(|at| {
        // Only the first value is read: lines may follow.
        let value = serde_json::Deserializer::from_str(&output[at..]).into_iter::<Value>().next()?.ok()?;
        value.get("achieved_per_s").or(value.get("latency_ns")).is_some().then_some(value)
    });
    reports.next()
}

#[cfg(test)]
mod tests {
    use super::*;
    use tp_loadgen::report::Latency;

    const ESTIMATES: &str = r#"{"mean":{"confidence_interval":{"confidence_level":0.95,"lower_bound":9.0,"upper_bound":11.0},
        "point_estimate":10.00049,"standard_error":0.1},"median":{"point_estimate":9.5},"slope":null,"std_dev":{"point_estimate":1.0}}"#;
    const BENCH: &str = r#"{"group_id":"turn","full_id":"turn/authorize/16","throughput":{"Elements":16}}"#;

    fn folder(estimates: &str, bench: &str) -> tempfile::TempDir {
        let place = tempfile::tempdir().expect("a directory");
        for (kind, text) in [("new", estimates), ("base", "not looked at")] {
            let folder = place.path().join("turn/authorize/16").join(kind);
            std::fs::create_dir_all(&folder).expect("writable");
            std::fs::write(folder.join("estimates.json"), text).expect("writable");
            std::fs::write(folder.join("benchmark.json"), bench).expect("writable");
        }
        place
    }

    #[test]
    fn criterions_typical_value_is_taken_and_the_estimates_are_kept_in_brief() {
        let place = folder(ESTIMATES, BENCH);
        let collected = criterion(place.path()).expect("criterion's form");
        let figure = Figure { unit: Unit::Ns, work: Some(Work::Elements(16)), values: vec![10.00049] };
        assert_eq!(collected.figures, Figures::from([("turn/authorize/16".to_owned(), figure)]));
        let kept = &collected.estimates["turn/authorize/16"];
        assert_eq!(kept["mean"], json!([10.0, 9.0, 11.0]));
        assert_eq!((&kept["slope"], &kept["median"]), (&Value::Null, &json!([9.5, null, null])));
        let slope = ESTIMATES.replace("\"slope\":null", "\"slope\":{\"point_estimate\":8.0}");
        let place = folder(&slope, BENCH);
        assert_eq!(criterion(place.path()).expect("criterion's form").figures["turn/authorize/16"].values, [8.0]);
    }

    #[test]
    fn estimates_of_another_form_are_refused_with_their_file() {
        let check = |estimates: &str, bench: &str, what: &str| {
            let place = folder(estimates, bench);
            let error = criterion(place.path()).expect_err(what).to_string();
            assert!(error.contains(what) && error.contains("estimates.json"), "{error}");
        };
        check("{}", BENCH, "neither slope nor mean");
        check(ESTIMATES, "{}", "no full_id");
        check("{", BENCH, "EOF");
        let nowhere = criterion(Path::new("no-such-folder")).expect("nothing is found");
        assert!(nowhere.figures.is_empty() && nowhere.estimates.is_null());
    }

    fn report() -> String {
        let latency_ns = Latency { p50: 1000, p99: 2000, p99_9: 3000, max: 4000, ..Latency::default() };
        let (offered_per_s, achieved_per_s, verdict) = (1000.0, 999.5, Verdict::Pass);
        let report = Report { offered_per_s, achieved_per_s, verdict, latency_ns, ..Report::default() };
        serde_json::to_string_pretty(&report).expect("a report is JSON")
    }

    #[test]
    fn the_load_generators_report_is_found_among_other_lines() {
        let report = report();
        for text in [report.clone(), format!("warming up {{\n{{\"note\": 1}}\n{report}\nthanks\n")] {
            let collected = load_report(&text).expect("a good report").expect("there is one");
            assert_eq!(collected.verdict.as_deref(), Some("pass"));
            assert_eq!(collected.figures["achieved"].values, [999.5]);
            assert_eq!(collected.figures["latency p99.9"].values, [3000.0]);
            assert_eq!(collected.figures.len(), 6);
        }
    }

    #[test]
    fn output_without_a_report_has_none_and_a_report_without_figures_is_refused() {
        assert!(load_report("").expect("no report").is_none());
        assert!(load_report("{\"a\": 1}\n{ not json").expect("no report").is_none());
        let check = |from: &str, to: &str, what: &str| {
            let error = load_report(&report().replace(from, to)).expect_err(what);
            assert!(error.contains(what), "{error}");
        };
        check("\"p99_9\"", "\"p99_8\"", "p99_9");
        check("999.5", "\"fast\"", "invalid type");
        check("\"verdict\"", "\"judgement\"", "verdict");
    }
}
