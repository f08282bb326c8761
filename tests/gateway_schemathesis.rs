//! The live description against the live server: requests made from `/openapi.json`, right and wrong ones, and every answer held against
//! it: no 5xx, a status, a content type and a body that it names.

#[path = "support/gateway.rs"]
mod support;

use std::process::Command;

use support::{Gateway, has_tool};

const CHECKS: &str = "not_a_server_error,status_code_conformance,content_type_conformance,response_schema_conformance";

/// Runs it with a key on the paths that match.
fn run(gateway: &Gateway, key: &str, paths: &[&str]) {
    let output = Command::new("schemathesis")
        .args(["run", &format!("http://{}/openapi.json", gateway.listen), "--checks", CHECKS])
        .args(["--header", &format!("Authorization: Bearer {key}")])
        // Otherwise 1 ms is tried, and 503 is the right answer.
        .args(["--header", "Tpcore-Deadline-Ms: 60000"])
        // One worker: Python before 3.11.5 fails when two threads parse at once (python/cpython#106905).
        .args(["--phases", "coverage,fuzzing", "--max-examples", "8", "--seed", "1", "--workers", "1"])
        .args(["--suppress-health-check", "all", "--continue-on-failure", "--warnings", "off", "--no-color"])
        .args(paths)
        .current_dir(tempfile::tempdir().expect("a folder").keep()) // it keeps what it found there
        .output()
        .expect("it runs");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stdout));
}

#[test]
fn every_answer_is_one_that_the_description_names() {
    if !has_tool("schemathesis") {
        return;
    }
    let folder = tempfile::tempdir().expect("a folder");
    let gateway = Gateway::dev(&folder.path().join("data"), &[]);
    let operators = "^/v1/(tenants|agreements)";
    run(&gateway, &gateway.operator_key, &["--include-path-regex", operators]);
    run(&gateway, &gateway.key, &["--exclude-path-regex", operators]);
    assert_eq!(gateway.send("GET", "/health/ready", &[], "").status, 200);
    assert_eq!(gateway.stop(), Some(0));
}
