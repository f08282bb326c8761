//! One reading in a process of its own: an engine that panics, aborts or hangs takes nobody with it.
//!
//! Owns both ends: the reader, which says in one line what it got, and the parent, which waits for that line or ends the process. Refuses
//! to know damages.
//!
//! Invariants: an error anywhere makes it `Refused`, whatever was read before (in the engine's favour); a panic in any thread makes it
//! `Panicked`, even if all was read.

use std::io::{Read as _, Write as _};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use crate::engines::{Check, Engine, Failure};
use crate::records::{Got, RECORDS, judge};

/// The hidden argument that makes a process the reader.
pub(crate) const READER: &str = "--reader";

/// What a reader gets after a damage.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Outcome {
    /// An error at open or read.
    Refused,
    /// Every committed record, right, and no error.
    Same,
    /// Fewer records, and no error.
    Lost,
    /// A record or value that was never written, and no error.
    Wrong,
    /// A panic in any thread, or an abort.
    Panicked,
    /// No answer in time.
    Hung,
}

impl Outcome {
    pub(crate) const ALL: [Self; 6] = [Self::Refused, Self::Same, Self::Lost, Self::Wrong, Self::Panicked, Self::Hung];

    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Refused => "refused",
            Self::Same => "same",
            Self::Lost => "lost",
            Self::Wrong => "wrong",
            Self::Panicked => "panicked",
            Self::Hung => "hung",
        }
    }
}

/// The answer of one reader.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Answer {
    pub(crate) outcome: Outcome,
    /// Lines that the engine logged as a warning or worse.
    pub(crate) warnings: u64,
    /// Committed records that did not come back, when `Lost`.
    pub(crate) missing: u64,
    /// The error or the panic, in its own words.
    pub(crate) said: String,
}

static WARNINGS: AtomicU64 = AtomicU64::new(0);
static PANIC: Mutex<Option<String>> = Mutex::new(None);

struct Count;

impl log::Log for Count {
    fn enabled(&self, metadata: &log::Metadata<'_>) -> bool {
        metadata.level() <= log::Level::Warn
    }

    fn log(&self, record: &log::Record<'_>) {
        if self.enabled(record.metadata()) {
            WARNINGS.fetch_add(1, Ordering::Relaxed);
        }
    }

    fn flush(&self) {}
}

/// The reader's end: reads, and says what it got in one line on standard output.
pub(crate) fn read(engine: Engine, folder: &Path, check: Check) -> Result<(), Failure> {
    log::set_logger(&Count).map_err(|error| error.to_string())?;
    log::set_max_level(log::LevelFilter::Warn);
    std::panic::set_hook(Box::new(|panic| {
        if let Ok(mut first) = PANIC.lock() {
            let place = panic.location().map(|at| format!("{}:{}", below_registry(at.file()), at.line()));
            let why = panic.payload_as_str().unwrap_or_default();
            first.get_or_insert_with(|| format!("{}: {why}", place.unwrap_or_default()));
        }
    }));
    let reading = catch_unwind(AssertUnwindSafe(|| engine.read(folder, check)));
    let panic = PANIC.lock().map_err(|_| "a panic in the hook")?.clone();
    let mut missing = 0;
    let (outcome, said) = match (panic, reading) {
        (Some(panic), _) => (Outcome::Panicked, panic),
        (None, Err(_)) => (Outcome::Panicked, String::new()),
        (None, Ok(Err(error))) => (Outcome::Refused, error.to_string()),
        (None, Ok(Ok(reading))) => {
            let looked_up = reading.looked_up.as_deref().map_or(Got::Same, judge);
            let outcome = match (judge(&reading.scanned), looked_up) {
                (Got::Wrong, _) | (_, Got::Wrong) => Outcome::Wrong,
                (Got::Lost, _) | (_, Got::Lost) => Outcome::Lost,
                (Got::Same, Got::Same) => Outcome::Same,
            };
            let fewest = reading.looked_up.iter().map(Vec::len).chain([reading.scanned.len()]).min().unwrap_or(0);
            missing = RECORDS.saturating_sub(fewest as u64);
            (outcome, String::new())
        }
    };
    let said = said.replace('\n', " ").replace(&format!("{}/", folder.display()), "");
    writeln!(std::io::stdout(), "{} {} {missing} {said}", outcome.name(), WARNINGS.load(Ordering::Relaxed))?;
    Ok(())
}

/// A source file without the folders of this machine: `redb-4.6.0/src/db.rs`.
fn below_registry(file: &str) -> &str {
    let below = file.split_once("/registry/src/").and_then(|(_, below)| below.split_once('/'));
    below.map_or(file, |(_, below)| below)
}

/// The parent's end: starts a reader on `folder` and waits for its answer, at most `patience`.
pub(crate) fn ask(engine: Engine, folder: &Path, check: Check, patience: Duration) -> std::io::Result<Answer> {
    let check = if check == Check::Integrity { "integrity" } else { "plain" };
    let mut reader = Command::new(std::env::current_exe()?);
    reader.args([READER, engine.name(), check]).arg(folder);
    wait(&mut reader, patience)
}

fn wait(command: &mut Command, patience: Duration) -> std::io::Result<Answer> {
    let mut reader = command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null()).spawn()?;
    let start = Instant::now();
    let status = loop {
        if let Some(status) = reader.try_wait()? {
            break status;
        }
        if start.elapsed() > patience {
            reader.kill()?;
            reader.wait()?;
            return Ok(Answer { outcome: Outcome::Hung, warnings: 0, missing: 0, said: String::new() });
        }
        std::thread::sleep(Duration::from_millis(1));
    };
    let mut line = String::new();
    if let Some(mut output) = reader.stdout.take() {
        output.read_to_string(&mut line)?;
    }
    let answer = if status.success() { parse(&line) } else { None };
    Ok(answer.unwrap_or_else(|| Answer {
        outcome: Outcome::Panicked,
        warnings: 0,
        missing: 0,
        said: status.to_string(),
    }))
}

fn parse(line: &str) -> Option<Answer> {
    let mut words = line.trim_end().splitn(4, ' ');
    let name = words.next()?;
    let outcome = Outcome::ALL.into_iter().find(|outcome| outcome.name() == name)?;
    let warnings = words.next()?.parse().ok()?;
    let missing = words.next()?.parse().ok()?;
    Some(Answer { outcome, warnings, missing, said: words.next().unwrap_or_default().into() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reader_that_hangs_is_ended_and_one_that_dies_is_told_apart() {
        let outcome = |script: &str, patience| {
            let answer = wait(Command::new("sh").args(["-c", script]), patience).expect("a shell");
            (answer.outcome, answer.missing)
        };
        let long = Duration::from_mins(10);
        assert_eq!(outcome("exec sleep 600", Duration::from_millis(10)), (Outcome::Hung, 0));
        assert_eq!(outcome("kill -ABRT $$", long), (Outcome::Panicked, 0));
        assert_eq!(outcome("echo same 0 0; exit 1", long), (Outcome::Panicked, 0));
        assert_eq!(outcome("echo lost 0 7", long), (Outcome::Lost, 7));
        assert_eq!(outcome("true", long), (Outcome::Panicked, 0));
    }

    #[test]
    fn the_folders_of_a_machine_are_not_shown() {
        assert_eq!(below_registry("/home/a/.cargo/registry/src/host-1/redb-4.6.0/src/db.rs"), "redb-4.6.0/src/db.rs");
        assert_eq!(below_registry("src/main.rs"), "src/main.rs");
    }

    #[test]
    fn a_readers_line_is_understood_and_noise_is_not() {
        let answer =
            |outcome, warnings, missing, said: &str| Some(Answer { outcome, warnings, missing, said: said.into() });
        assert_eq!(parse("lost 2 199 \n"), answer(Outcome::Lost, 2, 199, ""));
        assert_eq!(parse("refused 0 0 no database here\n"), answer(Outcome::Refused, 0, 0, "no database here"));
        assert_eq!(parse("fine 0 0 \n"), None);
        assert_eq!(parse(""), None);
    }
}
