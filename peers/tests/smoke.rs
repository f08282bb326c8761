//! The command from end to end, on the smallest of the engines.

use std::process::{Command, Output};

fn run(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_peers-damage")).args(arguments).output().expect("the command")
}

#[test]
fn a_sweep_counts_every_damage_once_and_sees_a_deleted_log() {
    let output = run(&["--engine", "okaywal", "--stride", "100003", "--json"]);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let json: serde_json::Value = serde_json::from_slice(&output.stdout).expect("JSON");
    let (kinds, all) = (json[0]["kinds"].as_object().expect("kinds"), &json[0]["all"]);
    let damages: u64 = kinds.values().filter_map(|kind| kind["damages"].as_u64()).sum();
    let outcomes: u64 = all["read"].as_object().expect("outcomes").values().filter_map(serde_json::Value::as_u64).sum();
    let written = json[0]["files"][0]["bytes_written"].as_u64().expect("one file");
    assert_eq!(kinds["bit flipped"]["damages"], (written * 8).div_ceil(100_003));
    assert_eq!(kinds["file cut"]["damages"], written.div_ceil(100_003));
    assert!(damages > 100);
    assert_eq!((all["damages"].as_u64(), outcomes), (Some(damages), damages));
    // Nobody can know that there was a log: the one outcome that no engine of its kind can avoid.
    assert_eq!(kinds["file deleted"]["read"]["lost"], 1);
    assert_eq!(json[0]["records_missing_when_lost"]["most"], 200);
}

#[test]
fn an_engine_that_is_not_there_is_refused_with_the_usage() {
    let output = run(&["--engine", "oracle"]);
    assert!(!output.status.success() && output.stdout.is_empty());
    assert!(String::from_utf8_lossy(&output.stderr).contains("--engine"));
}
