//! Whole runs of the real program: small, on real directories. Whether a machine is fast enough is never asserted; that the
//! money is right, that figures agree with each other, and how it ends, always.
#![allow(missing_docs)]

use std::ops::ControlFlow;
use std::path::Path;
use std::process::{Command, Output, Stdio};

use serde_json::Value;
use tpcore::{AccountId, UpTo, View, event};

/// A small load with an objective that any machine meets.
const SMALL: &str = "--rate 500 --duration 1s --warm-up 0s --accounts 50 --payees 5 --slo max<10m -q";

fn program(arguments: &str) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_tp-loadgen"));
    command.args(arguments.split_whitespace()).stdin(Stdio::null());
    command
}

fn run(arguments: &str) -> Output {
    program(arguments).output().expect("the program starts")
}

fn text(output: &Output) -> String {
    format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}

/// Runs with `--json -` and gives the report; the run may have been slow, but never wrong.
fn report(arguments: &str) -> Value {
    let output = run(&format!("{arguments} --json -"));
    let report: Value = serde_json::from_slice(&output.stdout).unwrap_or_else(|e| panic!("{e}: {}", text(&output)));
    assert_eq!(report["money_ok"], true, "{:#}", report["money"]);
    let passed = report["verdict"] == "pass";
    assert_eq!(output.status.code(), Some(i32::from(!passed)), "{:#}", report["failures"]);
    report
}

fn number(report: &Value, name: &str) -> u64 {
    report[name].as_u64().unwrap_or_else(|| panic!("{name} in {report:#}"))
}

fn sum(counts: &Value) -> u64 {
    counts.as_object().expect("counts by name").values().filter_map(Value::as_u64).sum()
}

#[test]
fn the_figures_of_a_report_agree_with_each_other() {
    let report = report(SMALL);
    assert_eq!(number(&report, "sent"), 500);
    assert_eq!(sum(&report["outcomes"]), 500, "every command has an outcome");
    assert!(number(&report, "completed") + number(&report, "busy") <= 500);
    let per_command = report["per_command"].as_object().expect("by name");
    let completed: u64 = per_command.values().filter_map(|per| per["completed"].as_u64()).sum();
    assert_eq!(completed, number(&report, "completed"));
    let l = &report["latency_ns"];
    let ascending: Vec<_> = ["p50", "p90", "p99", "p99_9", "p99_99", "max"].iter().map(|p| l[p].as_u64()).collect();
    assert!(ascending.is_sorted() && ascending[0] > Some(0), "{l}");
    assert_eq!(report["series"].as_array().map(Vec::len), Some(1), "one second, one line");
    assert_eq!(report["slo"][0]["objective"], "max<10m");
    for name in ["offered_per_s", "achieved_per_s", "seed", "rss_bytes", "journal_bytes", "machine", "command"] {
        assert!(!report[name].is_null(), "{name}");
    }
}

#[test]
fn every_kind_of_trouble_leaves_the_money_right() {
    let all = "authorize=50,increment=5,capture=20,void=5,refund=5,reverse=3,transfer=5,lookup=5,read=2";
    let runs = [
        format!("--mix {all} --duplicates 20 --late-reversals 5 --partials 10 --skew zipf:0.99"),
        format!("--mix {all} --hold-lifetime 300ms --skew hot:1"),
        "--mix authorize --opening-balance 2000 --partials 50".to_owned(),
        "--profile ramp:100-900:0.5s,spike:2k:0.2s,soak:100:0.3s --checkpoint-interval 100ms".to_owned(),
        "--journal memory".to_owned(),
        "--journal sled".to_owned(),
        "--partitions 3 --key-window 1s --checkpoint-interval off".to_owned(),
    ];
    for run in runs {
        let small =
            if run.contains("--profile") { SMALL.replace("--rate 500 --duration 1s", "") } else { SMALL.to_owned() };
        let report = report(&format!("{small} {run}"));
        assert!(number(&report, "completed") > 0, "{run}");
    }
}

#[test]
fn a_hold_that_time_took_is_in_the_books() {
    let report = report(&format!("{SMALL} --mix authorize=80,capture=10,reverse=10 --hold-lifetime 200ms"));
    let held = &report["money"][2];
    assert_eq!((held["name"].as_str(), held["ok"].as_bool()), (Some("money held"), Some(true)));
    assert!(!held["detail"].as_str().expect("a text").contains("(0 holds)"), "some expired: {held}");
}

#[test]
fn a_used_directory_is_used_again() {
    let dir = tempfile::tempdir().expect("a directory");
    let data = dir.path().join("data");
    let arguments = format!("{SMALL} --data-dir {}", data.display());
    let (first, second) = (report(&arguments), report(&arguments));
    let journal = |report: &Value| number(report, "journal_bytes");
    assert!(journal(&second) > journal(&first), "the second run adds to the first");
    assert!(first["opening"].is_null(), "there was nothing to open: {}", first["opening"]);
    let replayed = second["opening"]["events_replayed"].as_u64();
    assert!(replayed > first["completed"].as_u64(), "{replayed:?}: the commands, and the accounts' opening");
    let wider = report(&format!("{} --seed 2", arguments.replace("--accounts 50", "--accounts 80")));
    assert!(number(&wider, "completed") > 0);
}

/// A transfer within a partition is one event; one across is an exchange: opened, answered, and an end that may be one of several.
#[test]
fn transfers_stay_within_a_partition_or_go_across_as_they_are_told_to() {
    // Not the opening balances, which are transfers too.
    let is_payee = |account: AccountId| account.0 >> 96 == 2;
    let dir = tempfile::tempdir().expect("a directory");
    let [within, across] = ["within", "across"].map(|locality| {
        let data = dir.path().join(locality);
        let load =
            format!("{SMALL} --mix transfer=1 --partitions 2 --locality {locality} --data-dir {}", data.display());
        let report = report(&load);
        assert_eq!(report["configuration"]["locality of payees"], locality);
        assert_eq!(report["outcomes"]["approved"], 500);
        let (mut at_once, mut exchanges) = (0, 0);
        let mut count = |_, event: &event::Event, _: &_| {
            match &event.body {
                event::Body::Moved(e) if is_payee(e.movement.counter) => at_once += 1,
                event::Body::Opened(e) if is_payee(e.movement.counter) => exchanges += 1,
                _ => {}
            }
            ControlFlow::Continue(())
        };
        View::replay(&data, UpTo::End, &mut count).expect("the journal is read");
        (at_once, exchanges)
    });
    assert_eq!((within, across), ((500, 0), (0, 500)), "at once, and exchanges");
    let one = run(&format!("{SMALL} --mix transfer=1 --partitions 1 --locality across"));
    assert_eq!(one.status.code(), Some(2), "{}", text(&one));
    assert!(text(&one).contains("one partition"), "{}", text(&one));
}

#[test]
fn the_disk_is_probed_where_it_is_asked_for() {
    let probed = report(&format!("{SMALL} --probe-disk"));
    assert!(number(&probed["disk"], "appends") > 0 && number(&probed["disk"], "p50_ns") > 0, "{}", probed["disk"]);
    assert!(report(SMALL)["disk"].is_null());
}

#[test]
fn the_cores_are_watched_where_it_is_asked_for() {
    let probed = report(&format!("{SMALL} --probe-cpu"));
    assert_eq!(number(&probed["cpu"], "looked_ms"), 3_000, "{}", probed["cpu"]);
    assert!(number(&probed["cpu"], "longest_ns") <= number(&probed["cpu"], "paused_ns"), "{}", probed["cpu"]);
    assert!(report(SMALL)["cpu"].is_null());
}

#[test]
fn what_is_missed_is_exit_code_1() {
    let slow = run(&format!("{SMALL} --slo p50<1ns"));
    assert_eq!(slow.status.code(), Some(1), "{}", text(&slow));
    assert!(text(&slow).contains("p50<1ns was missed"), "{}", text(&slow));
    // One command in flight, and 2,000 planned at once: the rest is busy.
    let busy = run(&format!("{} --in-flight 1", SMALL.replace("500", "2000000")));
    assert_eq!(busy.status.code(), Some(1), "{}", text(&busy));
    assert!(
        text(&busy).contains("were answered busy") && !text(&busy).contains("the money is wrong"),
        "{}",
        text(&busy)
    );
}

#[test]
fn a_search_that_nothing_passes_ends() {
    let output = run("--find-max --rate 4 --duration 1s --warm-up 0s --accounts 5 --slo max<1ns -q");
    assert_eq!(output.status.code(), Some(1), "{}", text(&output));
}

#[test]
fn bad_input_is_refused_before_anything_starts() {
    for (arguments, says) in [
        ("--mix pay=1", "not a command of a mix"),
        ("--skew even", "a skew is"),
        ("--rate 0", "above 0"),
        ("--slo fast", "an objective is"),
        ("--profile up:1:1s", "write ramp"),
        ("--duration 0s", "at least 1s"),
        ("--locality near", "a locality is any, within or across"),
    ] {
        let output = run(arguments);
        assert_eq!(output.status.code(), Some(2), "{arguments}: {}", text(&output));
        assert!(text(&output).contains(says), "{arguments}: {}", text(&output));
    }
    let dir = tempfile::tempdir().expect("a directory");
    let data = dir.path().join("data");
    let huge = run(&format!("--rate 10m --duration 24h --data-dir {}", data.display()));
    assert_eq!(huge.status.code(), Some(3), "{}", text(&huge));
    assert!(text(&huge).contains("of space") || text(&huge).contains("of memory"), "{}", text(&huge));
    assert!(!data.join("identity").exists(), "nothing was made in the directory");
    let nowhere = run(&format!("{SMALL} --json {}", dir.path().join("no/such/file").display()));
    assert_eq!(nowhere.status.code(), Some(3), "{}", text(&nowhere));
}

#[test]
fn a_directory_in_use_is_refused_and_ctrl_c_leaves_a_good_one() {
    let dir = tempfile::tempdir().expect("a directory");
    let (data, acks) = (dir.path().join("data"), dir.path().join("acks"));
    let arguments =
        format!("--rate 300 --duration 10m --warm-up 0s --accounts 20 --slo max<10m --data-dir {}", data.display());
    let mut child = program(&format!("{arguments} --record-acks {}", acks.display()))
        .stderr(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("starts");
    wait_for_seconds(&mut child);
    let second = run(&format!("{SMALL} --data-dir {}", data.display()));
    assert_eq!(second.status.code(), Some(3), "{}", text(&second));
    assert!(text(&second).contains("use"), "{}", text(&second));
    signal(child.id(), "INT");
    let output = child.wait_with_output().expect("ends");
    let shown = String::from_utf8_lossy(&output.stdout);
    assert!(shown.contains("ended early") && !shown.contains("WRONG"), "{shown}");
    assert_audit(&data, &acks, 0);
}

#[test]
fn every_acknowledgement_of_a_killed_run_is_in_the_journal() {
    let dir = tempfile::tempdir().expect("a directory");
    let (data, acks) = (dir.path().join("data"), dir.path().join("acks"));
    let arguments =
        format!("--rate 2k --duration 10m --warm-up 0s --accounts 100 --duplicates 10 --data-dir {}", data.display());
    let mut child = program(&format!("{arguments} --record-acks {}", acks.display()))
        .stderr(Stdio::piped())
        .stdout(Stdio::null())
        .spawn()
        .expect("starts");
    wait_for_seconds(&mut child);
    child.kill().expect("killed");
    child.wait().expect("ended");
    let shown = assert_audit(&data, &acks, 0);
    assert!(!shown.contains("acknowledged  0 keys"), "{shown}");
    // An acknowledgement that the journal does not hold is found.
    let text = std::fs::read_to_string(&acks).expect("acknowledgements");
    std::fs::write(&acks, text.replacen(",approved,", ",insufficient_funds,", 1)).expect("written");
    assert_audit(&data, &acks, 1);
    std::fs::write(&acks, "not a line\n").expect("written");
    assert_audit(&data, &acks, 3);
    assert_audit(&dir.path().join("elsewhere"), &acks, 3);
}

fn assert_audit(data: &Path, acks: &Path, code: i32) -> String {
    let output = run(&format!("audit --data-dir {} --acks {}", data.display(), acks.display()));
    assert_eq!(output.status.code(), Some(code), "{}", text(&output));
    text(&output)
}

/// Waits until two seconds of the measured part were shown.
fn wait_for_seconds(child: &mut std::process::Child) {
    use std::io::{BufRead as _, BufReader};
    let mut lines = BufReader::new(child.stderr.take().expect("piped")).lines().map_while(Result::ok);
    assert!(lines.any(|line| line.trim_start().starts_with("2 s")), "two seconds are shown");
    // What comes later goes nowhere; the pipe must not fill.
    std::thread::spawn(move || lines.for_each(drop));
}

fn signal(process: u32, name: &str) {
    let sent = Command::new("kill").args([format!("-{name}"), process.to_string()]).status();
    assert!(sent.is_ok_and(|status| status.success()), "the process is there");
}
