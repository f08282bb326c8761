//! Runs a command several times and keeps what it left.
//!
//! Owns the repetition and the folder of a record; refuses to judge figures. A record appears whole or not at all: it is
//! written beside its place and renamed.
//!
//! ```text
//! command --stdout, stderr, criterion's estimates or a JSON report--> figures --> .<name>.part/ --rename--> <name>/
//! ```

use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use serde_json::Value;
use tp_core::time::Time;

use crate::clean::Cleaner;
use crate::collect::{self, Collected};
use crate::error::RunsError;
use crate::figures::{Figure, Figures, Unit, add};
use crate::machine::load_average;
use crate::place;
use crate::run::{Attempt, Run};
use crate::summary::summary;

/// Most repetitions.
pub const RUNS_MAX: usize = 100;
/// Bytes of one stream that are kept, half of its start and half of its end.
const STREAM_BYTES_MAX: usize = 48 * 1024;
/// Lines of a failed command that are shown.
const TAIL_LINES: usize = 15;

/// What to record.
#[derive(Clone, Debug)]
pub struct Request {
    /// The record's topic.
    pub topic: String,
    /// How often.
    pub runs: usize,
    /// The program and its arguments; not empty.
    pub command: Vec<String>,
    /// The folder of all records.
    pub folder: PathBuf,
    /// A place on the file system that the command writes on; `None`: where the benches write.
    pub written: Option<PathBuf>,
}

/// Runs the command and writes the record; returns its folder. `progress` is told before each repetition.
///
/// # Errors
/// [`RunsError`]; nothing was recorded.
pub fn record(request: &Request, progress: &mut dyn FnMut(usize)) -> Result<PathBuf, RunsError> {
    check(request)?;
    let date = today();
    let name = format!("{date}-{}", request.topic);
    let target = request.folder.join(&name);
    if target.exists() {
        return Err(RunsError::Exists(name));
    }
    std::fs::create_dir_all(&request.folder).map_err(RunsError::io(&request.folder))?;
    let part = tempfile::Builder::new()
        .prefix(&format!(".{name}."))
        .tempdir_in(&request.folder)
        .map_err(RunsError::io(&request.folder))?;
    let sources = Sources::here();
    let cleaner = sources.cleaner();
    let mut run = Run {
        topic: request.topic.clone(),
        date,
        commit: sources.commit.clone(),
        is_dirty: sources.is_dirty,
        command: request.command.iter().map(|word| cleaner.clean(word)).collect(),
        machine: tp_loadgen::machine::describe(request.written.as_deref().unwrap_or(&place::root())),
        attempts: Vec::new(),
        figures: Figures::new(),
    };
    for n in 1..=request.runs {
        progress(n);
        let (attempt, collected) = repeat(request, n, part.path(), &cleaner)?;
        run.attempts.push(attempt);
        add(&mut run.figures, collected.figures);
    }
    write_json(&part.path().join("run.json"), &run.to_json())?;
    write(&part.path().join("summary.md"), &summary(&run))?;
    std::fs::rename(part.keep(), &target).map_err(RunsError::io(&target))?;
    Ok(target)
}

fn check(request: &Request) -> Result<(), RunsError> {
    let topic = &request.topic;
    let is_allowed = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
    let has_hyphens_inside = !topic.starts_with('-') && !topic.ends_with('-') && !topic.contains("--");
    if !(1..=60).contains(&topic.len()) || !topic.chars().all(is_allowed) || !has_hyphens_inside {
        return Err(RunsError::Topic(topic.clone()));
    }
    if !(1..=RUNS_MAX).contains(&request.runs) {
        return Err(RunsError::Runs(request.runs));
    }
    Ok(())
}

/// The day, UTC.
fn today() -> String {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let (year, month, day) = Time(u64::try_from(since.as_millis()).unwrap_or(u64::MAX)).date().civil();
    format!("{year:04}-{month:02}-{day:02}")
}

/// One repetition; its raw data goes into `part`.
fn repeat(request: &Request, n: usize, part: &Path, cleaner: &Cleaner) -> Result<(Attempt, Collected), RunsError> {
    let estimates = tempfile::tempdir().map_err(RunsError::io(std::env::temp_dir()))?;
    let (program, arguments) = request.command.split_first().map_or(("", [].as_slice()), |(p, a)| (p.as_str(), a));
    let (load_average, start) = (load_average(), Instant::now());
    let output = Command::new(program)
        .args(arguments)
        .env("CRITERION_HOME", estimates.path())
        .env("CARGO_TERM_COLOR", "never")
        .stdin(Stdio::null())
        .output()
        .map_err(|source| RunsError::Start { command: program.to_owned(), source })?;
    let seconds = start.elapsed().as_secs_f64();
    let mut collected = collect(request, n, &output, estimates.path())?;
    let value = Figure { unit: Unit::Seconds, work: None, values: vec![seconds] };
    if collected.figures.is_empty() {
        collected.figures.insert("the whole command".to_owned(), value);
    }
    for (name, bytes) in [("stdout", &output.stdout), ("stderr", &output.stderr)] {
        let text = cleaner.clean(&String::from_utf8_lossy(bytes));
        // A report on standard output is kept as JSON beside.
        if !text.trim().is_empty() && (name == "stderr" || collected.report.is_null()) {
            write(&part.join(format!("run-{n}.{name}.txt")), &shortened(&text))?;
        }
    }
    for (name, value) in [("estimates", &collected.estimates), ("report", &collected.report)] {
        if !value.is_null() {
            write(&part.join(format!("run-{n}.{name}.json")), &cleaner.clean(&one_line_each(value)))?;
        }
    }
    let exit_code = output.status.code().map(i64::from);
    let attempt = Attempt { exit_code, seconds, load_average, verdict: collected.verdict.clone() };
    Ok((attempt, collected))
}

/// The figures that a repetition left. A command that should have left some and did not is an error, and so is one that ended
/// badly without any; a load generator that missed its objective ends with code 1 and is a result.
fn collect(request: &Request, n: usize, output: &Output, estimates: &Path) -> Result<Collected, RunsError> {
    let no_figures = |what: &str| RunsError::NoFigures { run: n, what: what.to_owned() };
    let report = collect::load_report(&String::from_utf8_lossy(&output.stdout)).map_err(|what| no_figures(&what))?;
    let collected = match report {
        Some(report) => report,
        None => collect::criterion(estimates)?,
    };
    let words: Vec<&str> = request.command.iter().map(String::as_str).collect();
    let is_bench = words.first().is_some_and(|program| program.ends_with("cargo")) && words.contains(&"bench");
    let asks_report = words.windows(2).any(|pair| pair == ["--json", "-"]) || words.contains(&"--json=-");
    let (is_empty, has_failed) = (collected.figures.is_empty(), !output.status.success());
    if has_failed && (is_empty || is_bench) {
        return Err(RunsError::Failed { run: n, status: output.status.to_string(), tail: tail(&output.stderr) });
    }
    if is_empty && is_bench {
        return Err(no_figures("the benches left no estimates: did a filter leave none?"));
    }
    if is_empty && asks_report {
        return Err(no_figures("standard output holds no JSON report with achieved_per_s"));
    }
    Ok(collected)
}

fn tail(stderr: &[u8]) -> String {
    let text = String::from_utf8_lossy(stderr);
    let lines: Vec<&str> = text.lines().collect();
    lines[lines.len().saturating_sub(TAIL_LINES)..].join("\n")
}

/// Start and end of a text that is too long.
fn shortened(text: &str) -> String {
    if text.len() <= STREAM_BYTES_MAX {
        return text.to_owned();
    }
    let from = text.floor_char_boundary(STREAM_BYTES_MAX / 2);
    let to = text.ceil_char_boundary(text.len() - STREAM_BYTES_MAX / 2);
    format!("{}\n[... {} bytes left out ...]\n{}", &text[..from], to - from, &text[to..])
}

/// JSON with each member of the outermost object on a line of its own: small, and fit to be read by people and diffs.
fn one_line_each(value: &Value) -> String {
    let Some(members) = value.as_object() else { return format!("{value}\n") };
    let line = |(name, value): (&String, &Value)| format!("{}: {value}", Value::String(name.clone()));
    format!("{{\n{}\n}}\n", members.iter().map(line).collect::<Vec<_>>().join(",\n"))
}

fn write(file: &Path, text: &str) -> Result<(), RunsError> {
    std::fs::write(file, text).map_err(RunsError::io(file))
}

fn write_json(file: &Path, value: &Value) -> Result<(), RunsError> {
    write(file, &format!("{value:#}\n"))
}

/// The sources that the command is made from, as git knows them.
struct Sources {
    root: PathBuf,
    commit: String,
    is_dirty: bool,
}

impl Sources {
    fn here() -> Self {
        let root = PathBuf::from(git(&["rev-parse", "--show-toplevel"]).unwrap_or_default());
        let commit = git(&["rev-parse", "--short=12", "HEAD"]).unwrap_or_default();
        // Records themselves are no change of the sources.
        let changes = git(&["status", "--porcelain", "--", ":/", ":(top,exclude)benches/runs"]);
        Self { root, commit, is_dirty: changes.is_none_or(|changes| !changes.is_empty()) }
    }

    fn cleaner(&self) -> Cleaner {
        let here = std::env::current_dir().unwrap_or_default();
        let written = place::root();
        Cleaner::of_this_machine(&[(&self.root, "<repository>"), (&here, "<here>"), (&written, "<written>")])
    }
}

fn git(arguments: &[&str]) -> Option<String> {
    let output = Command::new("git").args(arguments).stdin(Stdio::null()).output().ok()?;
    let text = String::from_utf8(output.stdout).ok()?;
    output.status.success().then(|| text.trim().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use tp_loadgen::report::{Latency, Report};

    fn report() -> String {
        let latency_ns = Latency { p50: 1, p99: 2, p99_9: 3, max: 4, ..Latency::default() };
        serde_json::to_string(&Report { latency_ns, ..Report::default() }).expect("a report is JSON")
    }

    struct Desk {
        place: tempfile::TempDir,
    }

    impl Desk {
        fn new() -> Self {
            Self { place: tempfile::tempdir().expect("a directory") }
        }
        fn request(&self, command: &[&str]) -> Request {
            Request {
                topic: "try-1".to_owned(),
                runs: 2,
                command: command.iter().map(|word| (*word).to_owned()).collect(),
                folder: self.place.path().join("runs"),
                written: None,
            }
        }
        fn record(&self, script: &str) -> Result<PathBuf, RunsError> {
            record(&self.request(&["sh", "-c", script]), &mut |_| ())
        }
        /// The request is refused with these words, and leaves nothing.
        fn refuses(request: &Request, what: &str) {
            let error = record(request, &mut |_| ()).expect_err(what).to_string();
            assert!(error.contains(what), "{error}");
            let left = std::fs::read_dir(&request.folder).map_or(0, Iterator::count);
            assert_eq!(left, 0, "nothing is recorded");
        }
    }

    #[test]
    fn every_repetition_is_kept_whatever_the_verdict() {
        let desk = Desk::new();
        let folder = desk.record(&format!("echo '{}'; exit 1", report())).expect("an objective missed is a result");
        let run = Run::load(&folder).expect("readable");
        assert_eq!(run.figures["latency p99.9"].values, [3.0, 3.0]);
        let verdicts: Vec<_> = run.attempts.iter().map(|a| (a.exit_code, a.verdict.as_deref())).collect();
        assert_eq!(verdicts, [(Some(1), Some("fail")); 2]);
        let names: Vec<_> = ["run.json", "summary.md", "run-1.report.json", "run-2.report.json"].into();
        assert!(names.iter().all(|name| folder.join(name).is_file()));
        assert!(folder.file_name().is_some_and(|name| name.to_string_lossy().ends_with("-try-1")));
        let again = desk.record("true").expect_err("there is one").to_string();
        assert!(again.contains("is there already"), "{again}");
    }

    #[test]
    fn estimates_are_collected_anew_in_every_repetition() {
        let script = r#"
            bench="$CRITERION_HOME/a/new"; mkdir -p "$bench" && test ! -e "$bench/estimates.json" || exit 9
            echo '{"full_id": "a", "throughput": null}' > "$bench/benchmark.json"
            echo '{"mean": {"point_estimate": 5.5}, "slope": null}' > "$bench/estimates.json""#;
        let folder = Desk::new();
        let run = Run::load(&folder.record(script).expect("figures")).expect("readable");
        assert_eq!(run.figures["a"].values, [5.5, 5.5]);
    }

    #[test]
    fn a_command_without_figures_is_timed() {
        let run = Desk::new();
        let run = Run::load(&run.record("true").expect("it ended well")).expect("readable");
        assert_eq!(run.figures["the whole command"].values.len(), 2);
    }

    #[test]
    fn a_record_names_neither_paths_nor_user_nor_host() {
        let desk = Desk::new();
        let folder =
            desk.record("pwd; echo at:$HOME/x; cat /proc/sys/kernel/hostname; echo /srv/x >&2").expect("ends well");
        let mut text = String::new();
        for entry in std::fs::read_dir(&folder).expect("readable") {
            text += &std::fs::read_to_string(entry.expect("readable").path()).expect("text");
        }
        let here = std::env::current_dir().expect("known").display().to_string();
        let host = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
        let home = std::env::var("HOME").unwrap_or_default();
        for private in [here.as_str(), "/srv", home.as_str()].into_iter().filter(|text| text.len() > 1) {
            assert!(!text.contains(private), "{private} in {text}");
        }
        let has_host = |line: &str| host.trim().len() > 1 && line == host.trim();
        assert!(!text.lines().any(has_host) && text.contains("<path>"), "{text}");
    }

    #[test]
    fn what_cannot_be_recorded_is_refused_and_leaves_nothing() {
        let desk = Desk::new();
        let good = desk.request(&["true"]);
        for topic in ["", "A", "a b", "../a", "-a", "a--b", "a-"] {
            Desk::refuses(&Request { topic: topic.to_owned(), ..good.clone() }, "lower-case");
        }
        Desk::refuses(&Request { runs: 0, ..good.clone() }, "0 runs");
        Desk::refuses(&Request { runs: 101, ..good }, "from 1 to 100");
        Desk::refuses(&desk.request(&["no-such-program-anywhere"]), "no-such-program-anywhere");
        Desk::refuses(&desk.request(&["sh", "-c", "echo the cause >&2; exit 3"]), "the cause");
        Desk::refuses(&desk.request(&["sh", "-c", "echo 5", "--json", "-"]), "no JSON report");
        Desk::refuses(&desk.request(&["sh", "-c", "echo '{\"achieved_per_s\": 5}'"]), "missing field");
    }

    #[test]
    fn long_output_is_kept_at_both_ends() {
        let text = format!("start{}end", "µ".repeat(STREAM_BYTES_MAX));
        let short = shortened(&text);
        assert!(short.starts_with("start") && short.ends_with("end") && short.contains("bytes left out"));
        assert!(short.len() < STREAM_BYTES_MAX + 100);
        assert_eq!(shortened("short"), "short");
    }
}
