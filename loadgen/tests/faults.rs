//! Failing syncs and writes in the real binary (P9), injected by strace: the run ends with its own exit code and names the cause, and
//! everything acknowledged is in the journal. Skipped where strace is missing or may not trace.

use std::path::Path;
use std::process::{Command, Stdio};

use tp_sim::generator::{Audit, Generator, skipped};

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

/// The setup ended with code 3 and the advice to use another directory.
#[test]
fn a_sync_that_fails_while_accounts_are_opened_has_code_6_and_its_cause_too() {
    if !can_trace() {
        return skipped("strace is missing or may not trace");
    }
    let place = tempfile::tempdir().expect("a directory");
    for nth in [4, 8, 12] {
        let (code, said, audit) = run_with(place.path(), "fdatasync", "EIO", nth);
        assert_eq!(code, Some(6), "fdatasync {nth}: {said}");
        assert!(said.contains("the engine stopped") && said.contains("os error 5"), "fdatasync {nth}: {said}");
        assert!(audit.contains("verdict       pass"), "fdatasync {nth}: {audit}");
    }
}

/// A disk that is gone from the n-th `fsync` of a start on. sled syncs its file once more when the catalogue is dropped, and panics when
/// that fails: a start that failed for another reason ended with the code of a panic, on the thread of whoever opened the engine. Found by
/// a power cut of a real file system in the midst of a recovery.
#[test]
fn a_start_on_a_disk_that_fails_ends_with_its_cause_and_never_with_a_panic() {
    if !can_trace() {
        return skipped("strace is missing or may not trace");
    }
    let place = tempfile::tempdir().expect("a directory");
    let mut failed = 0;
    for nth in (1..26).step_by(2) {
        let at = place.path().join(nth.to_string());
        std::fs::create_dir(&at).expect("a directory");
        let generator = Generator::new(Path::new(LOADGEN), &at);
        let mut command = Command::new("strace");
        command.args(["-f", "--seccomp-bpf", "-o", "/dev/null", "-e", "trace=fsync", "-e"]);
        command.arg(format!("inject=fsync:error=EIO:when={nth}+"));
        command.arg(LOADGEN).args(["--rate", "500", "--duration", "1s", "--warm-up", "0s", "--accounts", "20", "-q"]);
        command.args(["--segment", "8MiB", "--partitions", "2", "--slo", "max<10m", "--data-dir"]);
        command.arg(generator.data()).arg("--record-acks").arg(generator.acks(0));
        let (code, said) = generator.start(0, command).and_then(tp_sim::generator::Life::end).expect("ends");
        // Late ones concern the catalogue alone, which is no reason to stop.
        assert!(matches!(code, Some(0 | 3 | 6)), "fsync {nth}: {code:?}: {said}");
        assert!(code == Some(0) || said.contains("os error 5"), "fsync {nth}: {said}");
        failed += u32::from(code != Some(0));
        let audit = generator.audit(0);
        assert!(code == Some(3) || matches!(audit, Ok(Audit::Complete { .. })), "fsync {nth}: {audit:?}");
    }
    assert!(failed > 5, "a start needs more than a few of them");
}
