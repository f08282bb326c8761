//! Gray disks at the real binary (P16): a sync that stands still for three seconds, injected by strace, and a disk that is too slow
//! for the load (P10). Whoever waits is answered, the run goes on, and everything acknowledged is in the journal. Counts and codes only:
//! how long anything takes is the machine's. The stall is skipped where strace is missing or may not trace.
#![allow(clippy::print_stdout, reason = "a skip must say why")]

use std::path::Path;
use std::process::{Command, Output, Stdio};

use serde_json::Value;

const LOADGEN: &str = env!("CARGO_BIN_EXE_tp-loadgen");

/// Says why a test saw nothing; where every test must see something, that is a failure.
fn skipped(reason: &str) {
    println!("SKIPPED: {reason}");
    assert!(std::env::var_os("TPCORE_NO_SKIP").is_none(), "SKIPPED: {reason}");
}

fn can_trace() -> bool {
    let traced = Command::new("strace").args(["-f", "-e", "trace=fdatasync", "true"]).stderr(Stdio::null()).status();
    traced.is_ok_and(|status| status.success())
}

/// Runs with a report and an audit. The verdict may be a failure: not everybody was served in time.
fn run(mut command: Command, place: &Path, load: &str) -> Value {
    let (data, acks) = (place.join("data"), place.join("acks"));
    let said = |output: &Output| {
        format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
    };
    command.args(load.split_whitespace()).args(["--accounts", "100", "--warm-up", "0s", "-q", "--json", "-"]);
    command.arg("--data-dir").arg(&data).arg("--record-acks").arg(&acks);
    let output = command.output().expect("the program starts");
    assert!(matches!(output.status.code(), Some(0 | 1)), "it came to its end: {}", said(&output));
    let report: Value = serde_json::from_slice(&output.stdout).unwrap_or_else(|e| panic!("{e}: {}", said(&output)));
    assert_eq!(report["money_ok"], true, "{:#}", report["money"]);
    let answered: u64 = report["outcomes"].as_object().expect("by name").values().filter_map(Value::as_u64).sum();
    assert_eq!(report["sent"].as_u64(), Some(answered), "everybody is answered: {:#}", report["outcomes"]);
    let mut audit = Command::new(LOADGEN);
    audit.arg("audit").arg("--data-dir").arg(&data).arg("--acks").arg(&acks);
    let audit = audit.output().expect("the audit runs");
    assert!(audit.status.success() && said(&audit).contains("verdict       pass"), "{}", said(&audit));
    report
}

fn outcome(report: &Value, name: &str) -> u64 {
    report["outcomes"][name].as_u64().unwrap_or(0)
}

#[test]
fn everybody_is_answered_while_a_sync_stands_still_and_then_the_run_goes_on() {
    if !can_trace() {
        return skipped("strace is missing or may not trace");
    }
    let place = tempfile::tempdir().expect("a directory");
    let mut traced = Command::new("strace");
    // Each thread counts its own calls: only the journal's writer makes so many.
    traced.args(["-f", "--seccomp-bpf", "-o", "/dev/null", "-e", "trace=fdatasync"]);
    traced.args(["-e", "inject=fdatasync:delay_enter=3000000:when=400", LOADGEN]);
    let report = run(traced, place.path(), "--rate 10k --duration 10s --in-flight 100000 --deadline 500ms");
    // Decided before or in the first moments of the stall, told at their deadline that it is not known yet.
    assert!(outcome(&report, "in_progress") > 0, "{:#}", report["outcomes"]);
    // Those that no turn could take any more.
    assert!(outcome(&report, "deadline_exceeded") > 0, "{:#}", report["outcomes"]);
    let last = report["series"].as_array().and_then(|series| series.last());
    assert!(last.is_some_and(|second| second["completed"].as_u64() > Some(0)), "{:#}", report["series"]);
}

#[test]
fn a_disk_that_is_too_slow_sheds_what_it_cannot_take_and_serves_the_rest() {
    let place = tempfile::tempdir().expect("a directory");
    let slow =
        "--throttle-sync 20ms --throttle-rate 200k --rate 5k --duration 4s --deadline 1s --checkpoint-interval off";
    let report = run(Command::new(LOADGEN), place.path(), slow);
    let refused = ["busy", "deadline_exceeded", "in_progress"].map(|name| outcome(&report, name));
    assert!(refused.iter().sum::<u64>() > 0, "200,000 bytes a second are less than 5,000 commands: {report:#}");
    assert!(outcome(&report, "approved") > 0, "{:#}", report["outcomes"]);
    assert_eq!(report["configuration"]["throttle"], "20ms a sync, 200,000 bytes a second");
}
