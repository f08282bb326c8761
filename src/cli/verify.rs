//! `tpcore verify` and `tpcore scrub`: every byte read, everything replayed, digests and invariants compared; and one copy of the
//! journal repaired from the other.

use std::path::Path;

use serde_json::{Map, Value, json};
use tpcore::{Problem, VerifyFailed, VerifyReport, VerifyStatus};

use super::args::Copies;
use super::exit::{Code, Failure};
use super::open::class_code;
use super::output::{Output, object};

/// Runs `verify`.
pub(crate) fn run(arguments: &Copies, output: &mut Output) -> Result<Code, Failure> {
    let data_dir = &arguments.directory.data_dir;
    let report = match &arguments.mirror {
        Some(mirror) => tpcore::verify_mirrored(data_dir, mirror),
        None => tpcore::verify(data_dir),
    };
    finish(data_dir, report, output)
}

/// Runs `scrub`.
pub(crate) fn scrub(arguments: &Copies, output: &mut Output) -> Result<Code, Failure> {
    let data_dir = &arguments.directory.data_dir;
    finish(data_dir, tpcore::scrub(data_dir, arguments.mirror.as_deref()), output)
}

fn finish(data_dir: &Path, report: Result<VerifyReport, VerifyFailed>, output: &mut Output) -> Result<Code, Failure> {
    let report = match report {
        Ok(report) => report,
        Err(error) => {
            let code = class_code(error.class(), &error);
            let message = format!("the data directory cannot be verified: {error}");
            if code == Code::Corrupt && output.is_json() {
                output.object(&unreadable(data_dir, &error.to_string()))?;
                return Ok(code);
            }
            return Err(Failure::new(code, message));
        }
    };
    if output.is_json() {
        output.object(&report_json(&report))?;
    } else {
        text(&report, output)?;
    }
    Ok(match report.status {
        VerifyStatus::Ok | VerifyStatus::TornTail => Code::Ok,
        _ => Code::Corrupt,
    })
}

const fn status(status: VerifyStatus) -> &'static str {
    match status {
        VerifyStatus::Ok => "ok",
        VerifyStatus::OneCopyBad => "one_copy_bad",
        VerifyStatus::TornTail => "torn_tail",
        VerifyStatus::AmbiguousTail => "ambiguous_tail",
        VerifyStatus::Corrupt => "corrupt",
    }
}

fn report_json(report: &VerifyReport) -> Map<String, Value> {
    object([
        ("status", json!(status(report.status))),
        ("frames", json!(report.frames)),
        ("events", json!(report.events)),
        ("first_seq", json!(report.first_seq)),
        ("last_seq", json!(report.last_seq)),
        ("durable_seq", json!(report.durable_seq)),
        ("digest", json!(report.digest.map(|digest| digest.to_string()))),
        ("problems", report.problems.iter().map(problem_json).collect()),
        ("repaired", report.repaired.iter().map(problem_json).collect()),
    ])
}

/// The report on a directory so damaged that nothing of the journal could be read: its identity.
fn unreadable(data_dir: &Path, what: &str) -> Map<String, Value> {
    let problem = json!({
        "file": data_dir.display().to_string(),
        "offset": 0,
        "seq_first": 0,
        "seq_last": 0,
        "what": what,
        "next_step": "restore the file named from a backup; nothing was changed",
    });
    object([
        ("status", json!(status(VerifyStatus::Corrupt))),
        ("frames", json!(0)),
        ("events", json!(0)),
        ("first_seq", json!(0)),
        ("last_seq", json!(0)),
        ("durable_seq", json!(0)),
        ("digest", Value::Null),
        ("problems", json!([problem])),
        ("repaired", json!([])),
    ])
}

fn problem_json(problem: &Problem) -> Value {
    json!({
        "file": problem.file,
        "offset": problem.offset,
        "seq_first": problem.seq_first,
        "seq_last": problem.seq_last,
        "what": problem.what,
        "next_step": problem.next_step,
    })
}

fn text(report: &VerifyReport, output: &mut Output) -> Result<(), Failure> {
    output.line(&format!("status       {}", status(report.status)))?;
    output.line(&format!("frames       {}", report.frames))?;
    output.line(&format!(
        "events       {}, sequence numbers {} to {}",
        report.events, report.first_seq, report.last_seq
    ))?;
    output.line(&format!("durable      {}", report.durable_seq))?;
    if let Some(digest) = report.digest {
        output.line(&format!("digest       {digest}"))?;
    }
    for problem in &report.problems {
        output.line(&format!("problem      {problem}"))?;
    }
    for Problem { file, offset, what, .. } in &report.repaired {
        output.line(&format!("repaired     {file} at byte {offset}: {what}; rebuilt from the other copy"))?;
    }
    Ok(())
}
