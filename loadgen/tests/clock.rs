//! The real binary under a wall clock that somebody moves (P11), by libfaketime: engine time is steered, never jumps and never falls,
//! and a clock that cannot be believed is refused. Skipped where libfaketime is missing.

mod common;

use std::path::Path;
use std::process::Command;

use common::{LOADGEN, report, times, wall};
use rustix::process::Signal;
use tp_sim::fake_clock::FakeClock;
use tp_sim::generator::{Generator, skipped};
use tpcore::{Seq, Time};

const DAY_MS: u64 = 86_400_000;
/// Acknowledgements of more than a second: the clock is steered once a second, and each jump must be seen.
const SOME: u64 = 110_000;
/// Between the clock of a test and that of a run that it starts.
const SLACK_MS: u64 = 2_000;

const LOAD: [&str; 16] = [
    "--rate",
    "1k",
    "--warm-up",
    "0s",
    "--accounts",
    "100",
    "--segment",
    "16MiB",
    "--mix",
    "authorize=70,capture=10,transfer=20",
    "--hold-lifetime",
    "1s",
    "--slo",
    "max<10m",
    "--checkpoint-interval",
    "1s",
];

struct Machine {
    place: tempfile::TempDir,
    clock: FakeClock,
    generator: Generator,
    lives: u64,
}

impl Machine {
    fn new() -> Option<Self> {
        let place = tempfile::tempdir().expect("a directory");
        let clock = FakeClock::new(place.path()).map_err(|reason| skipped(&reason)).ok()?;
        let generator = Generator::new(Path::new(LOADGEN), place.path());
        Some(Self { place, clock, generator, lives: 0 })
    }

    fn command(&mut self, options: &[&str]) -> (u64, Command) {
        self.lives += 1;
        let mut command = self.generator.command(self.lives, options);
        command.args(LOAD).arg("--json").arg(self.place.path().join("report"));
        self.clock.of(&mut command);
        (self.lives, command)
    }

    /// A second of load, and how it ends.
    fn run(&mut self, options: &[&str]) -> (Option<i32>, String) {
        let (life, mut command) = self.command(options);
        let life = self
            .generator
            .start(life, {
                command.args(["--duration", "1s"]);
                command
            })
            .expect("starts");
        life.end().expect("ends")
    }

    #[track_caller]
    fn runs(&mut self, options: &[&str]) {
        let (code, said) = self.run(options);
        assert_eq!(code, Some(0), "{said}");
        report(&self.place.path().join("report"));
    }

    /// A start that is refused for its clock, and changes nothing.
    #[track_caller]
    fn is_refused(&mut self) {
        let before = times(self.generator.data(), Seq::ZERO).last_seq;
        let (code, said) = self.run(&[]);
        assert_eq!(code, Some(3), "{said}");
        assert!(said.contains("is more than 7 days from the last recorded time"), "{said}");
        assert_eq!(times(self.generator.data(), Seq::ZERO).last_seq, before);
    }

    /// Everything that any life was told is there.
    #[track_caller]
    fn audit(&self) {
        for life in 1..=self.lives {
            self.generator.audit_clear(life).expect("nothing lost");
        }
    }
}

#[test]
fn a_clock_that_jumps_by_years_during_a_run_moves_no_event_and_lets_no_hold_expire() {
    let Some(mut machine) = Machine::new() else { return };
    let (life, mut command) = machine.command(&[]);
    let began = wall();
    let mut life = machine
        .generator
        .start(life, {
            command.args(["--duration", "5m"]);
            command
        })
        .expect("starts");
    let mut recorded = life.records(0, SOME / 10).expect("serves");
    for jump in ["+10y", "-10y", "+6d", "-30d", "+0"] {
        machine.clock.set(jump).expect("set");
        recorded = life.records(recorded, SOME).unwrap_or_else(|wrong| panic!("after {jump}: {wrong}"));
    }
    life.signal(Signal::INT).expect("asked to end");
    let (code, said) = life.end().expect("ends");
    let ended = wall();
    assert_eq!(code, Some(0), "{said}");
    report(&machine.place.path().join("report"));
    machine.audit();
    let times = times(machine.generator.data(), Seq::ZERO);
    assert!(times.expiries > 100, "holds expired, each in its time: {times:?}");
    // Not even by the millisecond a second that steering allows is engine time beyond the true one.
    let steered = (ended.0 - began.0) / 1_000 + 1;
    let (earliest, latest) = (times.earliest.expect("events"), times.latest.expect("events"));
    assert!(earliest.0 + SLACK_MS >= began.0 && latest.0 <= ended.0 + steered, "{began} {times:?} {ended}");
}

#[test]
fn across_restarts_time_never_falls_and_more_than_seven_days_are_refused() {
    let Some(mut machine) = Machine::new() else { return };
    machine.runs(&[]);
    // Six days ahead are believed: the machine may have stood still. Engine time begins there.
    machine.clock.set("+6d").expect("set");
    let began = wall();
    let before = times(machine.generator.data(), Seq::ZERO).last_seq;
    machine.runs(&[]);
    let ahead = times(machine.generator.data(), before);
    assert!(ahead.earliest >= Some(Time(began.0 + 6 * DAY_MS - SLACK_MS)), "{ahead:?}");
    // Back at the true time, engine time goes on where it was.
    machine.clock.set("+0").expect("set");
    machine.runs(&[]);
    let back = times(machine.generator.data(), ahead.last_seq);
    assert!(back.earliest >= Some(Time(began.0 + 6 * DAY_MS - SLACK_MS)), "{back:?}");
    assert!(back.latest <= Some(Time(wall().0 + 6 * DAY_MS + SLACK_MS)), "{back:?}");
    // Further than a week from what is recorded nothing is believed, in either direction.
    for offset in ["+20d", "-2d", "-10y", "+10y"] {
        machine.clock.set(offset).expect("set");
        machine.is_refused();
    }
    // Somebody looked, and the machine really stood: time begins at the wall clock, or, where that is behind, where it was.
    machine.runs(&["--accept-clock"]);
    let years = times(machine.generator.data(), back.last_seq);
    assert!(years.earliest >= Some(Time(began.0 + 3_600 * DAY_MS)), "{years:?}");
    machine.clock.set("+0").expect("set");
    machine.is_refused();
    machine.runs(&["--accept-clock"]);
    let last = times(machine.generator.data(), years.last_seq);
    assert!(last.earliest >= years.earliest, "{last:?}");
    machine.audit();
}

#[test]
fn a_new_directory_takes_the_clock_as_it_is() {
    let Some(mut machine) = Machine::new() else { return };
    machine.clock.set("-10y").expect("set");
    machine.runs(&[]);
    let past = times(machine.generator.data(), Seq::ZERO);
    assert!(past.latest <= Some(Time(wall().0 - 3_600 * DAY_MS)), "{past:?}");
    machine.runs(&[]);
    machine.clock.set("+0").expect("set");
    machine.is_refused();
    machine.audit();
}
