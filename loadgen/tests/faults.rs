//! Failing syncs and writes in the real binary (P9), injected by strace: the run ends with its own exit code and names the cause, and
//! everything acknowledged is in the journal. Skipped where strace is missing or may not trace.
#![allow(clippy::print_stdout, reason = "a skip must say why")]

use std::path::Path;
use std::process::{Command, Stdio};

/// Says why a test saw nothing; where every test must see something, that is a failure.
fn skipped(reason: &str) {
    println!("SKIPPED: {reason}");
    assert!(std::env::var_os("TPCORE_NO_SKIP").is_none(), "SKIPPED: {reason}");
}

fn can_trace() -> bool {
    let traced = Command::new("strace").args(["-f", "-e", "trace=fdatasync", "true"]).stderr(Stdio::null()).status();
    traced.is_ok_and(|status| status.success())
}

const LOADGEN: &str = env!("CARGO_BIN_EXE_tp-loadgen");

/// The n-th call of this kind fails; what the run says, and what the audit finds.
fn run_with(place: &Path, call: &str, error: &str, nth: u32) -> (Option<i32>, String, String) {
    let (data, acks) = (place.join(format!("{call}-{error}-{nth}")), place.join(format!("{call}-{error}-{nth}.acks")));
    let output = Command::new("strace")
        .args(["-f", "--seccomp-bpf", "-o", "/dev/null", "-e", &format!("trace={call}"), "-e"])
        .arg(format!("inject={call}:error={error}:when={nth}"))
        .arg(LOADGEN)
        .args(["--rate", "2k", "--duration", "60s", "--warm-up", "0s", "--accounts", "100", "--duplicates", "10", "-q"])
        .arg("--data-dir")
        .arg(&data)
        .arg("--record-acks")
        .arg(&acks)
        .output()
        .expect("strace runs");
    let audit = Command::new(LOADGEN).arg("audit").arg("--data-dir").arg(&data).arg("--acks").arg(&acks).output();
    let audit = audit.expect("the audit runs");
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    (output.status.code(), text(&output.stderr), text(&audit.stdout) + &text(&audit.stderr))
}

#[test]
fn a_failed_sync_ends_the_run_with_code_6_and_nothing_acknowledged_is_lost() {
    if !can_trace() {
        return skipped("strace is missing or may not trace");
    }
    let place = tempfile::tempdir().expect("a directory");
    // The journal's syncs begin after those of the new directory; witness and checkpoint have their own.
    for (call, error, nth) in
        [("fdatasync", "EIO", 200), ("fdatasync", "ENOSPC", 311), ("fdatasync", "EIO", 502), ("pwrite64", "EIO", 700)]
    {
        let (code, said, audit) = run_with(place.path(), call, error, nth);
        assert_eq!(code, Some(6), "{call} {error} {nth}: {said}");
        assert!(said.contains("the engine stopped") && said.contains("os error"), "{call} {error} {nth}: {said}");
        assert!(audit.contains("verdict       pass"), "{call} {error} {nth}: {audit}");
        assert!(!audit.contains("acknowledged  0 keys"), "{call} {error} {nth}: {audit}");
    }
}
