//! Exit codes, and failures that carry cause and cure.
//!
//! A [`Failure`] says what happened, why, and what to do; it knows its exit code. Refuses to know how it is printed.

use std::process::ExitCode;

use super::import::Fault;

/// How the command ends.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Code {
    /// Done. A torn tail that was reported is no failure.
    Ok = 0,
    /// A verdict or check failed.
    Check = 1,
    /// Wrong usage.
    Usage = 2,
    /// Bad input.
    Input = 3,
    /// The directory is in use, not ours, missing, or of a newer format.
    Directory = 4,
    /// Corruption or an ambiguous tail.
    Corrupt = 5,
    /// Disk full, or a write or sync that failed.
    Disk = 6,
}

impl Code {
    /// The stable name, as in JSON.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Check => "check_failed",
            Self::Usage => "usage",
            Self::Input => "bad_input",
            Self::Directory => "directory",
            Self::Corrupt => "corrupt",
            Self::Disk => "disk",
        }
    }

    /// Help and version are no failures.
    pub(crate) fn from_clap(error: &clap::Error) -> Self {
        if error.use_stderr() { Self::Usage } else { Self::Ok }
    }
}

impl From<Code> for ExitCode {
    fn from(code: Code) -> Self {
        Self::from(code as u8)
    }
}

/// Why a command could not do its job.
#[derive(Debug)]
pub(crate) struct Failure {
    /// How the process ends.
    pub(crate) code: Code,
    /// What happened: why; what to do. Empty: there is nobody left to tell (a closed pipe).
    pub(crate) message: String,
    /// The first faults of the input.
    pub(crate) faults: Vec<Fault>,
    /// How many faults there are in all.
    pub(crate) faults_total: u64,
}

impl Failure {
    pub(crate) fn new(code: Code, message: impl Into<String>) -> Self {
        Self { code, message: message.into(), faults: Vec::new(), faults_total: 0 }
    }
    pub(crate) fn input(message: impl Into<String>) -> Self {
        Self::new(Code::Input, message)
    }
    /// Standard output cannot be written. A closed pipe ends the command quietly: the reader has enough.
    pub(crate) fn stdout(error: &std::io::Error) -> Self {
        use std::io::ErrorKind::BrokenPipe;
        if error.kind() == BrokenPipe {
            return Self::new(Code::Ok, "");
        }
        Self::new(
            Code::Disk,
            format!("standard output cannot be written: {error}; nothing in the data was changed by this"),
        )
    }
}
