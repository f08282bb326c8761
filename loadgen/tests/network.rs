//! Runs over the network, against a server that keeps the protocol and against ones that do not. That the money is right, that
//! nothing counts twice and that a lie is found; never how fast.
#![allow(missing_docs)]

mod stub;

use std::path::Path;
use std::process::{Command, Output, Stdio};

use serde_json::{Value, json};
use stub::{KEY, Manners, Stub};

/// A small load with an objective that any machine meets.
const SMALL: &str = "--duration 1s --warm-up 0s --accounts 50 --payees 5 --slo max<10m -q";
const ALL: &str = "--mix authorize=50,increment=5,capture=20,void=5,refund=5,reverse=3,transfer=5,lookup=5,read=2";

fn program(stub: &Stub, arguments: &str) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_tp-loadgen"));
    let (connections, rate) = (arguments.contains("--connections"), arguments.contains("--rate"));
    command.args(arguments.split_whitespace());
    command.args(if connections { &[][..] } else { &["--connections", "4"] });
    command.args(if rate { &[][..] } else { &["--rate", "500"] });
    command.args(["--target", &stub.url()]).env("TPCORE_KEY", KEY).stdin(Stdio::null());
    command
}

fn run(stub: &Stub, arguments: &str) -> Output {
    program(stub, &format!("{SMALL} {arguments}")).output().expect("the program starts")
}

fn text(output: &Output) -> String {
    format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}

#[track_caller]
fn any_report(stub: &Stub, arguments: &str) -> (Option<i32>, Value) {
    let output = run(stub, &format!("{arguments} --json -"));
    let report = serde_json::from_slice(&output.stdout).unwrap_or_else(|e| panic!("{e}: {}", text(&output)));
    (output.status.code(), report)
}

/// A run whose money is right.
#[track_caller]
fn report(stub: &Stub, arguments: &str) -> Value {
    let (code, report) = any_report(stub, arguments);
    assert_eq!(report["money_ok"], true, "{:#}", report["money"]);
    assert_eq!(code, Some(i32::from(report["verdict"] != "pass")), "{:#}", report["failures"]);
    report
}

#[track_caller]
fn passes(stub: &Stub, arguments: &str) -> Value {
    let report = report(stub, arguments);
    assert_eq!(report["verdict"], "pass", "{:#}", report["failures"]);
    assert!(number(&report["completed"]) > 0);
    report
}

#[track_caller]
fn number(value: &Value) -> u64 {
    value.as_u64().unwrap_or_else(|| panic!("a number: {value}"))
}

#[test]
fn a_run_over_the_network_is_judged_as_an_embedded_one() {
    let stub = Stub::start(Manners::default());
    let place = tempfile::tempdir().expect("a directory");
    let html = place.path().join("report.html");
    let arguments = format!("{ALL} --duplicates 10 --late-reversals 5 --partials 5 --report {}", html.display());
    let report = passes(&stub, &arguments);
    assert_eq!((number(&report["sent"]), number(&report["completed"])), (500, 500));
    let checks: Vec<_> = report["money"].as_array().expect("checks").iter().map(|check| &check["name"]).collect();
    assert_eq!(checks, ["accounts of the tenant", "money moved", "money held", "approvals", "one key, one answer"]);
    let configuration = &report["configuration"];
    assert_eq!(configuration["target"], json!(stub.url()));
    assert_eq!((&configuration["connections"], &configuration["batch"]), (&json!("4"), &json!("no")));
    assert!(configuration["journal"].is_null() && !report.to_string().contains(KEY));
    let page = std::fs::read_to_string(&html).expect("a page");
    assert!(page.contains(&stub.url()) && page.contains("commands in doubt, repeated") && !page.contains(KEY));
    // The tenant's accounts stay: the next run goes on with them.
    passes(&stub, &format!("{ALL} --seed 2"));
}

#[test]
fn what_comes_in_pieces_or_together_is_the_same() {
    for piece_bytes in [1, 7] {
        passes(&Stub::start(Manners { piece_bytes: Some(piece_bytes), ..Manners::default() }), ALL);
    }
    let together = Stub::start(Manners { coalesces: true, ..Manners::default() });
    passes(&together, &format!("{ALL} --pipeline 16 --connections 1 --rate 3k"));
}

#[test]
fn pipelined_answers_belong_to_their_commands() {
    let stub = Stub::start(Manners::default());
    passes(&stub, &format!("{ALL} --pipeline 8 --connections 2 --rate 3k --duplicates 5"));
    let [_, _, connections, together] = stub.counts();
    assert!((2..=8).contains(&together), "requests were sent before the answers came, at most eight: {together}");
    assert!(connections <= 12, "two for the setup, two for the load, the checks': {connections}");
}

#[test]
fn batches_hold_what_they_may_and_the_rest_goes_alone() {
    let stub = Stub::start(Manners::default());
    let report = passes(&stub, &format!("{ALL} --batch 20 --rate 3k --hold-lifetime 10m"));
    let [requests, batches, ..] = stub.counts();
    let commands = number(&report["sent"]) + 64 + 5 + 2 * 50;
    assert!(batches > 0 && requests < commands / 2, "{requests} requests, {batches} batches, {commands} commands");
    assert_eq!(report["configuration"]["batch"], "up to 20 commands");
}

#[test]
fn a_connection_that_breaks_leaves_nothing_lost_and_nothing_twice() {
    for extra in ["", "--pipeline 4", "--batch 10"] {
        let stub = Stub::start(Manners { closes_every: Some(13), ..Manners::default() });
        let report = passes(&stub, &format!("{ALL} {extra}"));
        let [_, closed, _] = stub.misdeeds();
        let transport = &report["transport"];
        assert!(closed > 2, "it was closed before, after and in the middle: {closed}");
        assert!(number(&transport["commands in doubt, repeated"]) >= closed, "{extra}: {closed} {transport}");
        assert!(number(&transport["connections ended by the server"]) >= closed, "{extra}: {closed} {transport}");
    }
}

/// Once the `busy` that a repeat was told was taken for the whole truth, while the first submission had moved the money.
#[test]
fn a_command_in_doubt_whose_repeat_is_turned_away_is_looked_up() {
    let manners = Manners { closes_every: Some(5), refuses_every: Some(3), ..Manners::default() };
    let stub = Stub::start(manners);
    let report = report(&stub, &format!("{ALL} --allow-busy"));
    assert!(number(&report["outcomes"]["in_progress"]) > 10, "{}", report["outcomes"]);
}

#[test]
fn what_the_server_has_no_room_for_is_busy_and_did_nothing() {
    let stub = Stub::start(Manners { refuses_every: Some(10), ..Manners::default() });
    let report = report(&stub, &format!("{ALL} --allow-busy"));
    let outcomes = &report["outcomes"];
    let [refused, ..] = stub.misdeeds();
    let told = number(&outcomes["busy"]) + number(&outcomes["deadline_exceeded"]);
    assert!(told > 30 && told <= refused, "{told} of {refused}: {outcomes}");
    assert!(number(&report["transport"]["turned away (429, recovering)"]) > 10);
    assert_eq!(report["verdict"], "fail", "what was not decided in time is no success");
}

#[test]
fn an_outcome_that_was_hidden_is_looked_up() {
    let stub = Stub::start(Manners { hides_every: Some(9), ..Manners::default() });
    let report = report(&stub, ALL);
    let [_, _, hidden] = stub.misdeeds();
    assert!(hidden > 20 && number(&report["outcomes"]["in_progress"]) > 20, "{hidden} {}", report["outcomes"]);
}

/// A lie, and the check that finds it.
#[track_caller]
fn is_found(lie: fn(&str, &mut Value), check: &str, extra: &str) {
    let stub = Stub::start(Manners { lie: Some(lie), ..Manners::default() });
    let (code, report) = any_report(&stub, &format!("{ALL} {extra}"));
    let wrong: Vec<_> =
        report["money"].as_array().expect("checks").iter().filter(|check| check["ok"] == false).collect();
    assert_eq!((code, &report["verdict"]), (Some(1), &json!("fail")), "{:#}", report["money"]);
    assert!(wrong.iter().any(|wrong| wrong["name"] == check), "{check}: {wrong:#?}");
}

#[test]
fn a_server_that_lies_is_found_out() {
    // Another amount than was asked for.
    is_found(
        |path, body| {
            if path == "/v1/transfers" && body["outcome"] == "approved" {
                body["amount"] = json!("1");
            }
        },
        "one key, one answer",
        "",
    );
    // An approval that never was.
    is_found(
        |path, body| {
            if path == "/v1/authorizations" && body["outcome"] == "insufficient_funds" {
                *body = json!({"outcome": "approved", "amount": body["amount"], "seq": 1, "version": 1});
            }
        },
        "one key, one answer",
        "--opening-balance 3000",
    );
    // A second answer that is not the first.
    is_found(
        |path, body| {
            if path.contains("/commands/") && body["outcome"] == "approved" {
                body["outcome"] = json!("insufficient_funds");
            }
        },
        "one key, one answer",
        "",
    );
    // Money that is on another account than it was sent to.
    let shifted: fn(&str, &mut Value) = |path, body| {
        if path.starts_with("/v1/accounts?") {
            for account in body["accounts"].as_array_mut().into_iter().flatten() {
                let by: i128 = match account["account"].as_str() {
                    Some("2000000000000") => -1,
                    Some("2000000000001") => 1,
                    _ => continue,
                };
                let posted: i128 =
                    account["balances"]["posted"].as_str().and_then(|n| n.parse().ok()).expect("a number");
                if posted > 0 {
                    account["balances"]["posted"] = json!((posted + by).to_string());
                }
            }
        }
    };
    is_found(shifted, "money moved", "");
    // A hold that is not there.
    is_found(
        |path, body| {
            if path.starts_with("/v1/accounts?") {
                for account in body["accounts"].as_array_mut().into_iter().flatten() {
                    account["balances"]["held"] = json!("0");
                }
            }
        },
        "money held",
        "",
    );
    // Money out of nothing.
    is_found(
        |path, body| {
            if path.starts_with("/v1/accounts?")
                && let Some(first) = body["accounts"].get_mut(0)
            {
                first["balances"]["posted"] = json!("5");
            }
        },
        "accounts of the tenant",
        "",
    );
}

#[test]
fn holds_that_expire_are_waited_for() {
    let stub = Stub::start(Manners::default());
    let report = passes(&stub, "--mix authorize=80,capture=10,reverse=10 --hold-lifetime 200ms");
    let held = &report["money"][2]["detail"];
    assert!(held.as_str().is_some_and(|held| held.contains("have expired")), "{held}");
}

#[test]
fn what_makes_no_sense_ends_the_run_and_says_why() {
    let stub = Stub::start(Manners::default());
    let output = program(&stub, SMALL).env("TPCORE_KEY", "another").output().expect("the program starts");
    assert_eq!(output.status.code(), Some(3), "{}", text(&output));
    assert!(text(&output).contains("unauthenticated") && text(&output).contains("--key"), "{}", text(&output));
    let forbids: fn(&str, &mut Value) = |path, body| {
        if path == "/v1/authorizations" {
            *body = json!({"outcome": "forbidden", "title": "Forbidden"});
        }
    };
    let garbles: fn(&str, &mut Value) = |path, body| {
        if path == "/v1/authorizations" {
            body["amount"] = json!("01");
        }
    };
    for (lie, says) in [(forbids, "forbidden"), (garbles, "amount")] {
        let output = run(&Stub::start(Manners { lie: Some(lie), ..Manners::default() }), "");
        assert_eq!(output.status.code(), Some(3), "{}", text(&output));
        assert!(text(&output).contains(says), "{says}: {}", text(&output));
    }
    let nobody = std::net::TcpListener::bind("127.0.0.1:0").expect("a port").local_addr().expect("bound");
    let words = SMALL.split_whitespace();
    let output = Command::new(env!("CARGO_BIN_EXE_tp-loadgen"))
        .args(words)
        .args(["--target", &format!("http://{nobody}")])
        .output();
    let output = output.expect("the program starts");
    assert_eq!(output.status.code(), Some(3), "{}", text(&output));
    assert!(text(&output).contains("cannot reach"), "{}", text(&output));
}

#[track_caller]
fn audit(stub: &Stub, acks: &Path, code: i32) -> String {
    let mut command = Command::new(env!("CARGO_BIN_EXE_tp-loadgen"));
    let output = command.args(["audit", "--key", KEY, "--target", &stub.url(), "--acks"]).arg(acks).output();
    let output = output.expect("the program starts");
    assert_eq!(output.status.code(), Some(code), "{}", text(&output));
    text(&output)
}

#[test]
fn acknowledgements_are_looked_up_one_by_one() {
    let stub = Stub::start(Manners { closes_every: Some(40), hides_every: Some(31), ..Manners::default() });
    let place = tempfile::tempdir().expect("a directory");
    let acks = place.path().join("acks");
    report(&stub, &format!("{ALL} --record-acks {}", acks.display()));
    let shown = audit(&stub, &acks, 0);
    assert!(shown.contains("verdict       pass") && shown.contains(&stub.url()), "{shown}");
    assert!(!shown.contains("acknowledged  0 keys"), "{shown}");
    let recorded = std::fs::read_to_string(&acks).expect("acknowledgements");
    // As the engine names accounts: the tenant's number, then the API's id.
    assert!(recorded.lines().all(|line| line.contains(",00000003")), "{}", recorded.lines().next().unwrap_or_default());
    std::fs::write(&acks, recorded.replacen(",approved,", ",insufficient_funds,", 1)).expect("written");
    assert!(audit(&stub, &acks, 1).contains("the server says approved"));
    // A key that the server never heard of.
    let line = recorded.lines().next().expect("a line");
    let (kind, rest) = line.split_once(',').expect("fields");
    let lost = format!("{kind},{}f{}\n", &rest[..31], &rest[32..]);
    let lost = if lost.trim_end() == line { lost.replacen("f,", "e,", 1) } else { lost };
    std::fs::write(&acks, format!("{recorded}{lost}")).expect("written");
    assert!(audit(&stub, &acks, 1).contains("the server does not know it"));
    std::fs::write(&acks, "not a line\n").expect("written");
    audit(&stub, &acks, 3);
}

#[test]
fn ctrl_c_over_the_network_ends_with_a_report() {
    use std::io::{BufRead as _, BufReader};
    let stub = Stub::start(Manners::default());
    let arguments = "--rate 300 --duration 10m --warm-up 0s --accounts 20 --payees 5 --slo max<10m --connections 2";
    let mut child = program(&stub, arguments).stderr(Stdio::piped()).stdout(Stdio::piped()).spawn().expect("starts");
    let mut lines = BufReader::new(child.stderr.take().expect("piped")).lines().map_while(Result::ok);
    assert!(lines.any(|line| line.trim_start().starts_with("2 s")), "two seconds are shown");
    std::thread::spawn(move || lines.for_each(drop)); // the pipe must not fill
    let sent = Command::new("kill").args(["-INT", &child.id().to_string()]).status();
    assert!(sent.is_ok_and(|status| status.success()), "the process is there");
    let output = child.wait_with_output().expect("ends");
    let shown = text(&output);
    assert!(shown.contains("ended early") && !shown.contains("WRONG") && shown.contains("network"), "{shown}");
}
