//! The load generator as a real process: started, watched through what it records, signalled, awaited, audited.
//!
//! Owns its options, its files and its end (nobody stays behind a test that fails); refuses to know what is done to it meanwhile, and
//! what the audit tests: that is `tp-loadgen audit`.
//!
//! ```text
//!  place/data      the data directory, or one on another file system
//!  place/acks-N    what life N acknowledged; outside of the data directory
//!  place/said-N    what it said
//! ```

use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

/// Long enough for a machine under any load; reaching it is a failure, and no figure.
pub const PATIENCE: Duration = Duration::from_mins(1);
/// Between two looks.
const LOOK: Duration = Duration::from_millis(5);

/// A little of every verb, to be attacked: options of the load generator.
pub const MIXED: [&str; 12] = [
    "--warm-up",
    "0s",
    "--accounts",
    "200",
    "--duplicates",
    "10",
    "--late-reversals",
    "5",
    "--checkpoint-interval",
    "1s",
    "--mix",
    "authorize=50,capture=25,void=5,refund=5,transfer=5,lookup=10",
];

/// Says why nothing was seen; where everything must be seen, that is a failure.
///
/// # Panics
/// With `TPCORE_NO_SKIP` set.
#[allow(clippy::print_stdout, reason = "a skip must say why")]
pub fn skipped(reason: &str) {
    println!("SKIPPED: {reason}");
    assert!(std::env::var_os("TPCORE_NO_SKIP").is_none(), "SKIPPED: {reason}");
}

/// What an audit found that was no failure.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Audit {
    /// Every acknowledged key is in the journal as it was answered.
    Complete {
        /// So many.
        keys: u64,
        /// Whether a group that was never acknowledged was cut off the journal's end.
        has_torn_tail: bool,
    },
    /// The journal's end is ambiguous: nothing was compared.
    Ambiguous,
}

/// The load generator's program and the data directory that its lives have in common.
#[derive(Clone, Debug)]
pub struct Generator {
    program: PathBuf,
    place: PathBuf,
    data: PathBuf,
}

impl Generator {
    /// Keeps its files in `place`, the data directory included.
    pub fn new(program: &Path, place: &Path) -> Self {
        Self { program: program.to_owned(), place: place.to_owned(), data: place.join("data") }
    }

    /// The data directory elsewhere.
    #[must_use]
    pub fn with_data(self, data: PathBuf) -> Self {
        Self { data, ..self }
    }

    /// The data directory.
    pub fn data(&self) -> &Path {
        &self.data
    }

    /// The record of acknowledgements of that life.
    pub fn acks(&self, life: u64) -> PathBuf {
        self.place.join(format!("acks-{life}"))
    }

    /// The command of that life, to be changed before it is started.
    pub fn command(&self, life: u64, options: &[&str]) -> Command {
        let mut command = Command::new(&self.program);
        command.args(options).arg("--data-dir").arg(&self.data).arg("--record-acks").arg(self.acks(life));
        command
    }

    /// Starts a life.
    ///
    /// # Errors
    /// It could not be started.
    pub fn start(&self, life: u64, mut command: Command) -> Result<Life, String> {
        let told = |error: std::io::Error| format!("{}: {error}", self.program.display());
        let said = self.place.join(format!("said-{life}"));
        let file = std::fs::File::create(&said).map_err(told)?;
        let other = file.try_clone().map_err(told)?;
        let child = command.stdin(Stdio::null()).stdout(file).stderr(other).spawn().map_err(told)?;
        Ok(Life { child, acks: self.acks(life), said })
    }

    /// Looks for everything that a life acknowledged. A life that acknowledged nothing is audited too: its directory must be
    /// readable.
    ///
    /// # Errors
    /// What is missing, what is wrong, or why it cannot be read.
    pub fn audit(&self, life: u64) -> Result<Audit, String> {
        let acks = self.acks(life);
        if acks.metadata().map_or(0, |file| file.len()) == 0 {
            if !self.data.join("identity").exists() {
                return Ok(Audit::Complete { keys: 0, has_torn_tail: false }); // it ended while it made the directory, and nobody was told anything
            }
            std::fs::write(&acks, "").map_err(|error| format!("{}: {error}", acks.display()))?;
        }
        let output = Command::new(&self.program)
            .arg("audit")
            .arg("--data-dir")
            .arg(&self.data)
            .arg("--acks")
            .arg(acks)
            .output()
            .map_err(|error| format!("{}: {error}", self.program.display()))?;
        let text = String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
        if output.status.code() == Some(3) && text.contains("--accept-tail") {
            return Ok(Audit::Ambiguous);
        }
        if !output.status.success() {
            return Err(format!("the audit fails ({}): {text}", output.status));
        }
        let words: Vec<&str> = text.split_whitespace().collect();
        let count = words.iter().position(|word| *word == "acknowledged").and_then(|at| words.get(at + 1));
        let keys = count.and_then(|count| count.replace(',', "").parse().ok());
        let has_torn_tail = text.contains("a torn tail cut");
        keys.map(|keys| Audit::Complete { keys, has_torn_tail }).ok_or_else(|| format!("the audit says: {text}"))
    }

    /// Looks for everything that a life acknowledged, where the journal's end must be clear.
    ///
    /// # Errors
    /// As [`Self::audit`], and an ambiguous end.
    pub fn audit_clear(&self, life: u64) -> Result<u64, String> {
        match self.audit(life)? {
            Audit::Complete { keys, .. } => Ok(keys),
            Audit::Ambiguous => Err("the journal's end is ambiguous, though no power was cut".into()),
        }
    }
}

/// One process of it.
#[derive(Debug)]
pub struct Life {
    child: Child,
    acks: PathBuf,
    said: PathBuf,
}

impl Life {
    /// What it said so far.
    pub fn said(&self) -> String {
        std::fs::read(&self.said).map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).unwrap_or_default()
    }

    /// Bytes of acknowledgements that it recorded so far.
    pub fn recorded_bytes(&self) -> u64 {
        self.acks.metadata().map_or(0, |file| file.len())
    }

    /// Waits until it has recorded `more` bytes beyond `from`.
    ///
    /// # Errors
    /// It ended by itself, or recorded too little within [`PATIENCE`].
    pub fn records(&mut self, from: u64, more: u64) -> Result<u64, String> {
        let until = Instant::now() + PATIENCE;
        while self.recorded_bytes() < from + more {
            if let Some(status) = self.ended()? {
                return Err(format!("it ended by itself ({status}): {}", self.said()));
            }
            if Instant::now() >= until {
                let recorded = self.recorded_bytes() - from;
                return Err(format!(
                    "{recorded} bytes of acknowledgements in {} s: {}",
                    PATIENCE.as_secs(),
                    self.said()
                ));
            }
            std::thread::sleep(LOOK);
        }
        Ok(self.recorded_bytes())
    }

    /// Lets it live so long.
    ///
    /// # Errors
    /// It ended by itself.
    pub fn lives(&mut self, time: Duration) -> Result<(), String> {
        let until = Instant::now() + time;
        loop {
            if let Some(status) = self.ended()? {
                return Err(format!("it ended by itself ({status}): {}", self.said()));
            }
            let Some(left) = until.checked_duration_since(Instant::now()) else { return Ok(()) };
            std::thread::sleep(left.min(LOOK));
        }
    }

    /// Sends it a signal.
    ///
    /// # Errors
    /// What the system reports.
    pub fn signal(&self, signal: Signal) -> Result<(), String> {
        let pid = i32::try_from(self.child.id()).ok().and_then(Pid::from_raw).ok_or("a process has a number")?;
        kill_process(pid, signal).map_err(|error| format!("signal {signal:?}: {error}"))
    }

    /// Whether all of it stands still after [`Signal::STOP`], as `/proc` shows.
    pub fn is_stopped(&self) -> bool {
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", self.child.id())).unwrap_or_default();
        // The name before it may hold anything, parentheses too.
        stat.rsplit_once(") ").is_some_and(|(_, rest)| rest.starts_with('T'))
    }

    /// How it ended, if it did.
    ///
    /// # Errors
    /// What the system reports.
    pub fn ended(&mut self) -> Result<Option<ExitStatus>, String> {
        self.child.try_wait().map_err(|error| error.to_string())
    }

    /// Waits for its own end: the exit code (`None`: a signal), and what it said.
    ///
    /// # Errors
    /// It does not end within [`PATIENCE`].
    pub fn end(mut self) -> Result<(Option<i32>, String), String> {
        let until = Instant::now() + PATIENCE;
        loop {
            if let Some(status) = self.ended()? {
                return Ok((status.code(), self.said()));
            }
            if Instant::now() >= until {
                return Err(format!("it does not end within {} s: {}", PATIENCE.as_secs(), self.said()));
            }
            std::thread::sleep(LOOK);
        }
    }

    /// Kills it.
    ///
    /// # Errors
    /// What the system reports.
    pub fn kill(mut self) -> Result<(), String> {
        self.child.kill().and_then(|()| self.child.wait()).map_err(|error| error.to_string())?;
        Ok(())
    }
}

impl Drop for Life {
    fn drop(&mut self) {
        let _ = self.child.kill(); // it has ended
        let _ = self.child.wait();
    }
}
