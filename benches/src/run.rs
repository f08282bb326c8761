//! The record of a run as `run.json` keeps it, and where records lie.
//!
//! ```text
//! benches/runs/<date>-<topic>/
//!     run.json         machine, commit, command, every value of every figure
//!     summary.md       the same for people
//!     run-1.stdout.txt, run-1.stderr.txt, run-1.estimates.json or run-1.report.json, run-2...   raw
//! ```

use std::path::{Path, PathBuf};

use serde_json::{Map, Value, json};

use crate::collect::read_json;
use crate::error::RunsError;
use crate::figures::{Figure, Figures, Unit, Work};
use tp_loadgen::report::Machine;

/// The version of `run.json` written.
pub const FORMAT: u64 = 1;

/// Everything that `run.json` says.
#[derive(Clone, PartialEq, Debug, Default)]
pub struct Run {
    /// What it is about.
    pub topic: String,
    /// The day it began, UTC: `2026-11-22`.
    pub date: String,
    /// The commit of the sources; empty: not known.
    pub commit: String,
    /// Whether the sources differed from it.
    pub is_dirty: bool,
    /// The command and its arguments.
    pub command: Vec<String>,
    /// Where it was made.
    pub machine: Machine,
    /// How each repetition went.
    pub attempts: Vec<Attempt>,
    /// What was measured.
    pub figures: Figures,
}

/// One repetition of the command.
#[derive(Clone, PartialEq, Debug, Default)]
pub struct Attempt {
    /// Exit code; `None`: ended by a signal.
    pub exit_code: Option<i64>,
    /// How long it took.
    pub seconds: f64,
    /// The run queue's average length when it began.
    pub load_average: Option<f64>,
    /// The load generator's verdict.
    pub verdict: Option<String>,
}

impl Run {
    /// How many repetitions began while more was ready to run than there are cores: other work ran beside them.
    pub fn crowded(&self) -> usize {
        #[allow(clippy::cast_precision_loss, reason = "a number of cores")]
        let cores = self.machine.cores as f64;
        self.attempts.iter().filter(|attempt| attempt.load_average.is_some_and(|load| load > cores)).count()
    }

    /// As JSON.
    pub fn to_json(&self) -> Value {
        let attempt = |a: &Attempt| {
            json!({
                "exit_code": a.exit_code,
                "seconds": a.seconds,
                "load_average": a.load_average,
                "verdict": a.verdict,
            })
        };
        let figures: Map<String, Value> =
            self.figures.iter().map(|(name, figure)| (name.clone(), figure_to_json(figure))).collect();
        json!({
            "format": FORMAT,
            "topic": self.topic,
            "date": self.date,
            "commit": self.commit,
            "dirty": self.is_dirty,
            "command": self.command,
            "machine": self.machine,
            "runs": self.attempts.iter().map(attempt).collect::<Vec<_>>(),
            "figures": figures,
        })
    }

    /// From [`Run::to_json`].
    ///
    /// # Errors
    /// What is missing or wrong.
    pub fn from_json(value: &Value) -> Result<Self, String> {
        match value["format"].as_u64() {
            Some(FORMAT) => {}
            Some(other) => return Err(format!("format {other} is not known, only {FORMAT} is")),
            None => return Err("it has no format: not the record of a run".to_owned()),
        }
        let text = |name: &str| value[name].as_str().map(str::to_owned).ok_or(format!("it has no {name}"));
        let list = |name: &str| value[name].as_array().ok_or(format!("it has no list of {name}"));
        let word = |word: &Value| word.as_str().map(str::to_owned).ok_or("a word of the command is no text".to_owned());
        let figures = value["figures"].as_object().ok_or("it has no figures")?;
        let figure = |(name, figure): (&String, &Value)| {
            Ok((name.clone(), figure_from_json(figure).ok_or(format!("figure {name:?} is malformed"))?))
        };
        Ok(Self {
            topic: text("topic")?,
            date: text("date")?,
            commit: text("commit")?,
            is_dirty: value["dirty"].as_bool().ok_or("it does not say whether it is dirty")?,
            command: list("command")?.iter().map(word).collect::<Result<_, _>>()?,
            machine: serde_json::from_value(value["machine"].clone()).unwrap_or_default(),
            attempts: list("runs")?.iter().map(attempt_from_json).collect(),
            figures: figures.iter().map(figure).collect::<Result<_, String>>()?,
        })
    }

    /// Reads the record of a folder.
    ///
    /// # Errors
    /// When it is not there or malformed.
    pub fn load(folder: &Path) -> Result<Self, RunsError> {
        let file = folder.join("run.json");
        Self::from_json(&read_json(&file)?).map_err(|what| RunsError::form(file.display().to_string(), what))
    }
}

fn figure_to_json(figure: &Figure) -> Value {
    let work = figure.work.map(|work| match work {
        Work::Elements(n) => json!({ "elements": n }),
        Work::Bytes(n) => json!({ "bytes": n }),
    });
    json!({ "unit": figure.unit.name(), "work": work, "values": figure.values })
}

fn figure_from_json(value: &Value) -> Option<Figure> {
    let unit = Unit::from_name(value["unit"].as_str()?)?;
    let elements = value["work"]["elements"].as_u64().map(Work::Elements);
    let work = elements.or(value["work"]["bytes"].as_u64().map(Work::Bytes));
    let values: Vec<f64> = value["values"].as_array()?.iter().map(Value::as_f64).collect::<Option<_>>()?;
    (!values.is_empty()).then_some(Figure { unit, work, values })
}

fn attempt_from_json(value: &Value) -> Attempt {
    Attempt {
        exit_code: value["exit_code"].as_i64(),
        seconds: value["seconds"].as_f64().unwrap_or_default(),
        load_average: value["load_average"].as_f64(),
        verdict: value["verdict"].as_str().map(str::to_owned),
    }
}

/// The records below a folder, by name; a missing folder has none. What is no record is left out.
///
/// # Errors
/// When the folder cannot be read.
pub fn list(folder: &Path) -> Result<Vec<String>, RunsError> {
    let mut names = Vec::new();
    if folder.is_dir() {
        for entry in std::fs::read_dir(folder).map_err(RunsError::io(folder))? {
            let entry = entry.map_err(RunsError::io(folder))?;
            if entry.path().join("run.json").is_file() {
                names.push(entry.file_name().to_string_lossy().into_owned());
            }
        }
    }
    names.sort();
    Ok(names)
}

/// The folder of a record, by its name or its path.
///
/// # Errors
/// When there is none.
pub fn find(folder: &Path, name: &str) -> Result<PathBuf, RunsError> {
    let places = [folder.join(name), PathBuf::from(name)];
    let found = places.into_iter().find(|place| place.join("run.json").is_file());
    found.ok_or_else(|| RunsError::Unknown { name: name.to_owned(), folder: folder.display().to_string() })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run() -> Run {
        let figure = |unit, work, values: &[f64]| Figure { unit, work, values: values.to_vec() };
        let figures = [
            ("a/1".to_owned(), figure(Unit::Ns, Some(Work::Elements(1)), &[1.5, 2.0])),
            ("b".to_owned(), figure(Unit::PerSecond, None, &[3.0])),
            ("c".to_owned(), figure(Unit::Ns, Some(Work::Bytes(4096)), &[3.0])),
        ];
        let attempt =
            Attempt { exit_code: Some(0), seconds: 1.0, load_average: None, verdict: Some("pass".to_owned()) };
        Run {
            topic: "micro".to_owned(),
            date: "2026-11-22".to_owned(),
            commit: "abc".to_owned(),
            is_dirty: true,
            command: vec!["cargo".to_owned(), "bench".to_owned()],
            machine: Machine { cores: 2, ..Machine::default() },
            attempts: vec![attempt, Attempt::default()],
            figures: figures.into(),
        }
    }

    #[test]
    fn a_record_survives_its_json() {
        let json = run().to_json().to_string();
        let read: Value = serde_json::from_str(&json).expect("valid");
        assert_eq!(Run::from_json(&read), Ok(run()));
    }

    #[test]
    fn malformed_records_say_what_is_wrong() {
        let check = |change: fn(&mut Value), what: &str| {
            let mut json = run().to_json();
            change(&mut json);
            let error = Run::from_json(&json).expect_err(what);
            assert!(error.contains(what), "{error}");
        };
        check(|json| json["format"] = json!(2), "format 2");
        check(|json| *json = json!([]), "no format");
        check(|json| json["figures"]["b"]["unit"] = json!("miles"), "figure \"b\"");
        check(|json| json["figures"]["b"]["values"] = json!([]), "figure \"b\"");
        check(|json| json["figures"] = Value::Null, "no figures");
        check(|json| json["command"] = json!([1]), "command");
        check(|json| json["commit"] = Value::Null, "no commit");
    }

    #[test]
    fn records_are_found_by_name_or_path() {
        let place = tempfile::tempdir().expect("a directory");
        let folder = place.path().join("2026-11-22-micro");
        std::fs::create_dir(&folder).expect("writable");
        std::fs::create_dir(place.path().join("no-record")).expect("writable");
        std::fs::write(folder.join("run.json"), run().to_json().to_string()).expect("writable");
        assert_eq!(list(place.path()).expect("readable"), ["2026-11-22-micro"]);
        assert!(list(&place.path().join("nowhere")).expect("none").is_empty());
        assert_eq!(find(place.path(), "2026-11-22-micro").expect("by name"), folder);
        assert_eq!(find(Path::new("nowhere"), &folder.display().to_string()).expect("by path"), folder);
        assert_eq!(Run::load(&folder).expect("readable"), run());
        let error = find(place.path(), "other").expect_err("there is none").to_string();
        assert!(error.contains("other") && error.contains("runs list"), "{error}");
    }
}
