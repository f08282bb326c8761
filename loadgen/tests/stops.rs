//! The real binary, stopped (`SIGSTOP`) under load and let go on, or killed while it stands still: as a debugger, a frozen container
//! or a suspended machine do it (P1, P11).

mod common;

use std::path::Path;
use std::time::Duration;

use common::{LOADGEN, report, times, wall};
use rustix::process::Signal;
use tp_sim::generator::{Audit, Generator, Life, MIXED};
use tpcore::Seq;

/// How long it stands still. Longer than the objective of its run, and than the holds live.
const STOP: Duration = Duration::from_millis(2_500);
/// A tenth of a second's acknowledgements, about.
const SOME: u64 = 20_000;

fn start(generator: &Generator, place: &Path) -> Life {
    let mut command =
        generator.command(0, &["--rate", "2k", "--duration", "5m", "--segment", "16MiB", "--slo", "max<1s"]);
    command.args(MIXED).args(["--hold-lifetime", "1s", "--allow-busy", "--json"]).arg(place.join("report"));
    generator.start(0, command).expect("starts")
}

/// Stops it, and waits until it stands still: what it records no longer grows.
fn stop(life: &Life) -> u64 {
    life.signal(Signal::STOP).expect("stopped");
    while !life.is_stopped() {
        std::thread::sleep(Duration::from_millis(1));
    }
    life.recorded_bytes()
}

#[test]
fn a_stopped_process_goes_on_with_everything_and_says_how_long_everybody_waited() {
    let place = tempfile::tempdir().expect("a directory");
    let generator = Generator::new(Path::new(LOADGEN), place.path());
    let mut life = start(&generator, place.path());
    life.records(0, SOME).expect("serves");
    let stopped_at = stop(&life);
    // Readers work beside it, another writer does not.
    assert!(matches!(generator.audit(0), Ok(Audit::Complete { keys, .. }) if keys > 0));
    let second = generator.start(1, generator.command(1, &["--duration", "1s"])).expect("starts");
    let (code, said) = second.end().expect("ends");
    assert!(code == Some(3) && said.contains("is in use by another writer"), "{code:?}: {said}");
    std::thread::sleep(STOP);
    assert_eq!(life.recorded_bytes(), stopped_at, "it stood still");

    let went_on = wall();
    life.signal(Signal::CONT).expect("goes on");
    life.records(stopped_at, 5 * SOME).expect("serves again");
    life.signal(Signal::INT).expect("asked to end");
    let (code, said) = life.end().expect("ends");
    let ended = wall();
    // Latency counts from the planned time: the stop is in it, and the objective is missed by that, and by nothing else.
    assert_eq!(code, Some(1), "{said}");
    let report = report(&place.path().join("report"));
    assert!(report["latency_ns"]["max"].as_u64() >= Some(2_400_000_000), "{}", report["latency_ns"]);
    let failures = report["failures"].as_array().expect("a list");
    assert!(
        failures.iter().any(|failure| failure.as_str().is_some_and(|f| f.contains("max<1s was missed"))),
        "{failures:?}"
    );
    assert_eq!(report["ended_early"], true);

    generator.audit_clear(0).expect("nothing lost");
    // Engine time went on with the monotonic clock: no jump was left to steer away, none was made.
    let times = times(generator.data(), Seq::ZERO);
    assert!(times.expiries > 0, "holds became due meanwhile");
    let latest = times.latest.expect("there are events");
    assert!((went_on.0 - 1_000..=ended.0 + 1_000).contains(&latest.0), "{went_on} {latest} {ended}");
}

#[test]
fn a_process_killed_while_it_stands_still_has_lost_nothing() {
    let place = tempfile::tempdir().expect("a directory");
    let generator = Generator::new(Path::new(LOADGEN), place.path());
    let mut life = start(&generator, place.path());
    life.records(0, SOME).expect("serves");
    stop(&life);
    life.kill().expect("killed");
    assert!(generator.audit_clear(0).expect("nothing lost") > 100);
    // The lock is gone with the process, and the next one goes on.
    let mut command =
        generator.command(1, &["--rate", "500", "--duration", "1s", "--segment", "16MiB", "--slo", "max<10m"]);
    let life = generator
        .start(1, {
            command.args(MIXED);
            command
        })
        .expect("starts");
    let (code, said) = life.end().expect("ends");
    assert_eq!(code, Some(0), "{said}");
    for life in [0, 1] {
        generator.audit_clear(life).expect("nothing lost");
    }
}
