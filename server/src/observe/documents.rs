//! What is written about the metrics elsewhere, held against what the server gives: the alert rules and the dashboard.

use std::collections::BTreeSet;
use std::time::Instant;

use serde_json::{Value, json};

use super::metrics::FAMILIES;
use super::metrics::tests::{metrics, promtool, skipped, status};

const ALERTS: &str = include_str!("../../../docs/monitoring/alerts.rules.yml");
const DASHBOARD: &str = include_str!("../../../docs/monitoring/grafana-dashboard.json");

/// Words that begin like a metric of ours.
fn names(text: &str) -> BTreeSet<&str> {
    let words = text.split(|c: char| !(c.is_ascii_alphanumeric() || c == '_' || c == ':'));
    words.filter(|word| word.starts_with("tpcore_") || word.starts_with("process_")).collect()
}

/// The queries of every panel.
fn queries() -> Vec<String> {
    let dashboard: Value = serde_json::from_str(DASHBOARD).expect("JSON");
    let panels = dashboard["panels"].as_array().expect("panels");
    let targets = panels.iter().filter_map(|panel| panel["targets"].as_array()).flatten();
    targets.map(|target| target["expr"].as_str().expect("a query").to_owned()).collect()
}

fn check_rules(rules: &str) {
    let file = tempfile::NamedTempFile::new().expect("a file");
    std::fs::write(file.path(), rules).expect("written");
    match promtool(&["check", "rules", file.path().to_str().expect("UTF-8")], "") {
        Some((is_fine, said)) => assert!(is_fine, "{said}"),
        None => skipped("promtool is not on this machine"),
    }
}

#[test]
fn every_metric_named_in_alerts_and_dashboard_is_one_that_the_server_gives() {
    let exposition = metrics().render(&status(), Instant::now());
    let given: BTreeSet<&str> = exposition.lines().filter(|line| !line.starts_with('#')).flat_map(names).collect();
    let queries = queries().join("\n");
    for (document, text) in [("alerts", ALERTS), ("dashboard", queries.as_str())] {
        let named = names(text);
        assert!(named.len() > 20, "{document}: {named:?}");
        for name in named.iter().filter(|name| cfg!(target_os = "linux") || name.starts_with("tpcore_")) {
            assert!(given.contains(name), "{document} names {name}");
        }
    }
}

#[test]
fn the_dashboard_leaves_out_only_what_is_told_here() {
    let queries = queries().join("\n");
    let shown = names(&queries);
    let is_shown = |name: &str| {
        shown.iter().any(|word| word.strip_prefix(name).is_some_and(|rest| matches!(rest, "" | "_bucket")))
    };
    let left_out: Vec<_> = FAMILIES.iter().map(|family| family.name).filter(|name| !is_shown(name)).collect();
    let expected = [
        "tpcore_uptime_seconds",
        "tpcore_engine_last_seq",
        "tpcore_engine_durable_seq",
        "tpcore_partition_inbox_commands",
        "tpcore_partition_waiting_commands_max",
        "tpcore_partition_peer_messages",
        "tpcore_partition_ring_batches",
        "tpcore_partition_turn_events_max",
        "tpcore_exchange_waiting_commands",
        "tpcore_journal_frame_events_max",
        "tpcore_journal_event_bytes_total",
        "tpcore_journal_seals_total",
        "tpcore_checkpoint_generation",
        "tpcore_checkpoint_as_of_seq",
        "tpcore_checkpoint_running",
        "tpcore_catalogue_seq",
        "tpcore_catalogue_stale",
        "tpcore_scrub_passes_total",
        "process_start_time_seconds",
    ];
    assert_eq!(left_out, expected);
}

#[test]
fn promtool_accepts_the_alert_rules() {
    check_rules(ALERTS);
}

#[test]
fn promtool_accepts_every_query_of_the_dashboard() {
    let plain = |query: String| query.replace("$__rate_interval", "1m").replace("$instance", ".*");
    let rule = |(index, query): (usize, String)| json!({"record": format!("panel:{index}"), "expr": plain(query)});
    let rules: Vec<Value> = queries().into_iter().enumerate().map(rule).collect();
    // JSON is YAML.
    check_rules(&json!({"groups": [{"name": "dashboard", "rules": rules}]}).to_string());
}
