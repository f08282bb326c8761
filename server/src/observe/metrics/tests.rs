//! The exposition as a whole: names, labels, values, and what `promtool` says of it.

use std::io::Write as _;
use std::process::{Command, Stdio};
use std::time::Duration;

use serde_json::Value;
use tp_actors::{Config, Engine};

use super::super::status_json;
use super::*;

pub(crate) fn metrics() -> Arc<Metrics> {
    let mut config = Config::in_memory();
    config.partitions = 2;
    let routes = ["POST /v1/authorizations", "GET /v1/accounts/{account}"];
    let options = MetricsOptions { routes: &routes, version: "1.2.3", limits: EngineLimits::of(&config) };
    let metrics = Metrics::new(&options);
    metrics.show_cards(vec![Arc::new(CardStats::new("north"))]);
    Arc::new(metrics)
}

pub(crate) fn status() -> EngineStatus {
    let mut config = Config::in_memory();
    config.partitions = 2;
    let engine = Engine::open(config).expect("in memory");
    let status = engine.status();
    engine.close_blocking().expect("nothing to write");
    status
}

pub(crate) fn status_of_a_fresh_engine() -> Value {
    let metrics = metrics();
    serde_json::from_str(&status_json(&metrics, &status(), Instant::now())).expect("JSON")
}

/// Says why a test saw nothing; where every test must see something, that is a failure.
#[allow(clippy::print_stdout, reason = "a skip must say why")]
pub(crate) fn skipped(reason: &str) {
    println!("SKIPPED: {reason}");
    assert!(std::env::var_os("TPCORE_NO_SKIP").is_none(), "SKIPPED: {reason}");
}

/// Runs it on a text; `None`: it is not on this machine.
pub(crate) fn promtool(arguments: &[&str], input: &str) -> Option<(bool, String)> {
    let piped = Command::new("promtool")
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn();
    let mut child = piped.ok()?;
    child.stdin.take().expect("piped").write_all(input.as_bytes()).expect("it reads");
    let output = child.wait_with_output().expect("it ends");
    let said = [output.stdout, output.stderr].map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).concat();
    Some((output.status.success(), said))
}

fn has(text: &str, line: &str) {
    assert!(text.lines().any(|l| l == line), "{line}\n{text}");
}

fn watch(laps: &[(Stage, u64)]) -> Stopwatch {
    let start = Instant::now();
    let mut watch = Stopwatch::start(start);
    for (stage, ms) in laps {
        watch.lap(*stage, start + Duration::from_millis(*ms));
    }
    watch
}

#[test]
fn what_is_counted_is_shown_with_its_labels() {
    let metrics = metrics();
    let answered = watch(&[(Stage::Gate, 1), (Stage::Read, 2), (Stage::Engine, 12), (Stage::Write, 12)]);
    metrics.request(0, 201, &answered);
    metrics.request(1, 418, &watch(&[(Stage::Gate, 1)]));
    metrics.request(99, 404, &watch(&[]));
    metrics.command(Verb::Authorize, Outcome::Approved, Instant::now());
    metrics.command(Verb::Transfer, Outcome::InsufficientFunds, Instant::now());
    metrics.connection_refused(ConnectionRefusal::AddressLimit);
    metrics.tls_failure(TlsFailure::Timeout);
    metrics.authentication_failure(AuthenticationFailure::Secret);
    metrics.rate_limited(RateLimit::TenantInFlight);
    let (_one, _other, _request) = (metrics.connection(), metrics.connection(), metrics.in_flight());
    drop(metrics.connection());
    let text = metrics.render(&status(), Instant::now());
    for line in [
        "tpcore_build_info{version=\"1.2.3\"} 1",
        "tpcore_http_requests_total{route=\"POST /v1/authorizations\",status=\"201\"} 1",
        "tpcore_http_requests_total{route=\"GET /v1/accounts/{account}\",status=\"other\"} 1",
        "tpcore_http_requests_total{route=\"unmatched\",status=\"404\"} 1",
        "tpcore_commands_total{command=\"authorize\",outcome=\"approved\"} 1",
        "tpcore_commands_total{command=\"transfer\",outcome=\"insufficient_funds\"} 1",
        "tpcore_commands_total{command=\"void\",outcome=\"approved\"} 0",
        "tpcore_request_duration_seconds_bucket{route=\"POST /v1/authorizations\",le=\"0.01\"} 0",
        "tpcore_request_duration_seconds_bucket{route=\"POST /v1/authorizations\",le=\"0.02\"} 1",
        "tpcore_stage_duration_seconds_sum{stage=\"engine\"} 0.010000000",
        "tpcore_stage_duration_seconds_count{stage=\"gate\"} 2",
        "tpcore_stage_duration_seconds_count{stage=\"engine\"} 1",
        "tpcore_connections_refused_total{reason=\"address_limit\"} 1",
        "tpcore_connections_refused_total{reason=\"limit\"} 0",
        "tpcore_tls_handshake_failures_total{reason=\"timeout\"} 1",
        "tpcore_authentication_failures_total{reason=\"secret\"} 1",
        "tpcore_rate_limited_total{reason=\"tenant_in_flight\"} 1",
        "tpcore_connections_accepted_total 3",
        "tpcore_connections_open 2",
        "tpcore_http_requests_in_flight 1",
    ] {
        has(&text, line);
    }
}

#[test]
fn the_engines_status_is_shown_as_it_is_at_the_scrape() {
    let (metrics, mut status) = (metrics(), status());
    status.writer.append_us_max = 1500;
    status.writer.frames = 7;
    status.writer.has_room = false;
    status.clock.difference_ms = -2500;
    status.clock.is_alarming = true;
    status.scrub.damaged = 2;
    status.catalogue.lag_events = 9;
    status.partitions[1].state.keys = 5;
    status.partitions[1].shed = 4;
    status.durable_seq.0 = 1000;
    status.checkpoint.as_of.0 = 400;
    status.checkpoint.time = Some(tp_actors::tp_core::time::Time(status.now.0 - 90_500));
    let text = metrics.render(&status, Instant::now());
    for line in [
        "tpcore_journal_append_max_seconds 0.0015",
        "tpcore_journal_frames_total 7",
        "tpcore_journal_has_room 0",
        "tpcore_engine_poisoned 0",
        "tpcore_clock_difference_seconds -2.5",
        "tpcore_clock_alarm 1",
        "tpcore_scrub_damaged_total 2",
        "tpcore_catalogue_lag_events 9",
        "tpcore_keys_remembered{partition=\"0\"} 0",
        "tpcore_keys_remembered{partition=\"1\"} 5",
        "tpcore_partition_shed_total{partition=\"1\"} 4",
        "tpcore_checkpoint_lag_events 600",
        "tpcore_checkpoint_age_seconds 90.5",
        "tpcore_key_memory_budget_bytes 1073741824",
        "tpcore_partition_waiting_commands_max 8192",
    ] {
        has(&text, line);
    }
    (status.checkpoint.time, status.clock.is_alarming) = (None, false);
    let text = metrics.render(&status, metrics.epoch() + Duration::from_secs(77));
    has(&text, "tpcore_checkpoint_age_seconds 77");
    has(&text, "tpcore_clock_alarm 0");
}

#[test]
fn two_servers_of_one_process_count_apart() {
    let (one, other) = (metrics(), metrics());
    one.command(Verb::Void, Outcome::Approved, Instant::now());
    has(&one.render(&status(), Instant::now()), "tpcore_commands_total{command=\"void\",outcome=\"approved\"} 1");
    has(&other.render(&status(), Instant::now()), "tpcore_commands_total{command=\"void\",outcome=\"approved\"} 0");
}

#[test]
fn every_metric_has_one_help_and_one_type_and_is_shown_from_the_start() {
    let text = metrics().render(&status(), Instant::now());
    for family in FAMILIES {
        if family.name.starts_with("process_") && !cfg!(target_os = "linux") {
            continue;
        }
        let count =
            |what: &str| text.lines().filter(|line| line.starts_with(&format!("# {what} {} ", family.name))).count();
        assert_eq!((count("HELP"), count("TYPE")), (1, 1), "{}", family.name);
        let kind = match family.kind {
            families::Kind::Counter => "counter",
            families::Kind::Gauge => "gauge",
            families::Kind::Histogram => "histogram",
        };
        has(&text, &format!("# TYPE {} {kind}", family.name));
    }
    let series = |line: &&str| !line.starts_with('#') && !line.is_empty();
    let mut names: Vec<_> = text.lines().filter(series).map(|line| line.rsplit_once(' ').expect("a value").0).collect();
    let all = names.len();
    names.sort_unstable();
    names.dedup();
    assert_eq!(names.len(), all, "a series is there once");
}

#[test]
fn promtool_finds_nothing_to_say() {
    let metrics = metrics();
    metrics.request(0, 200, &watch(&[(Stage::Engine, 3)]));
    match promtool(&["check", "metrics"], &metrics.render(&status(), Instant::now())) {
        Some((is_fine, said)) => assert!(is_fine && said.trim().is_empty(), "{said}"),
        None => skipped("promtool is not on this machine"),
    }
}

#[test]
fn the_snapshot_has_the_last_minute_and_the_totals() {
    let metrics = metrics();
    let (epoch, ms) = (metrics.epoch(), Duration::from_millis);
    let mut watch = Stopwatch::start(epoch);
    watch.lap(Stage::Engine, epoch + ms(8));
    metrics.request(0, 402, &watch);
    let mut denied = Stopwatch::start(epoch);
    denied.lap(Stage::Gate, epoch + ms(900));
    metrics.request(0, 401, &denied);
    metrics.command(Verb::Authorize, Outcome::InsufficientFunds, epoch + ms(8));
    metrics.command(Verb::Authorize, Outcome::Busy, epoch + ms(8));
    metrics.authentication_failure(AuthenticationFailure::Missing);
    let snapshot = metrics.snapshot(epoch + ms(1000));
    let second = SecondCounts { requests: 2, refused: 1, turned_away: 1, ..SecondCounts::default() };
    assert_eq!(snapshot.seconds, [second]);
    assert_eq!(snapshot.latency_10s.count, 1, "who was denied at the door says nothing of the engine");
    assert!(snapshot.latency_10s.p999_us.abs_diff(8000) <= 80, "{:?}", snapshot.latency_10s);
    assert_eq!(snapshot.outcomes, [("busy", 1), ("insufficient_funds", 1)].into());
    assert_eq!(snapshot.front["authentication_failures"], 1);
}

#[test]
fn the_status_says_what_the_page_needs_of_the_engine() {
    let (metrics, mut status) = (metrics(), status());
    status.partitions[0].state.accounts = 3;
    status.partitions[1].state.accounts = 4;
    status.partitions[1].waiting_commands = 6;
    status.scrub.note = Some("segment 4".into());
    let said: Value = serde_json::from_str(&status_json(&metrics, &status, Instant::now())).expect("JSON");
    assert_eq!(said["engine"]["memory"]["accounts"], 7);
    assert_eq!(said["engine"]["memory"]["key_budget_bytes"], 2_u64 << 30);
    assert_eq!(said["engine"]["waiting_commands"], serde_json::json!([0, 6]));
    assert_eq!(said["engine"]["scrub"]["note"], "segment 4");
    assert_eq!((&said["engine"]["poison"], &said["version"]), (&Value::Null, &"1.2.3".into()));
}
