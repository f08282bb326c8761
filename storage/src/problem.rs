//! A finding about stored bytes, in the form every report and error of this crate uses.
//!
//! Owns the words; refuses to decide. A [`Problem`] says which file, where in it, which sequence numbers are concerned,
//! what was found, and what the operator should do next.

use std::fmt;
use std::io;

/// One finding about stored bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// File, as the device shows it.
    pub file: String,
    /// Byte offset in the file.
    pub offset: u64,
    /// First sequence number concerned; 0: none is.
    pub seq_first: u64,
    /// Last sequence number known to be concerned; 0: unknown or none.
    pub seq_last: u64,
    /// What was found.
    pub what: String,
    /// What to do about it.
    pub next_step: String,
}

impl Problem {
    pub(crate) fn new(file: String, offset: u64, what: impl Into<String>, next_step: &str) -> Self {
        Self { file, offset, seq_first: 0, seq_last: 0, what: what.into(), next_step: next_step.to_owned() }
    }

    pub(crate) fn with_seqs(mut self, first: u64, last: u64) -> Self {
        self.seq_first = first;
        self.seq_last = last;
        self
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} at byte {}", self.file, self.offset)?;
        match (self.seq_first, self.seq_last) {
            (0, 0) => {}
            (first, last) if last < first => write!(f, " (sequence numbers from {first})")?,
            (first, last) => write!(f, " (sequence numbers {first} to {last})")?,
        }
        write!(f, ": {}. {}", self.what, self.next_step)
    }
}

/// The next step for damage that nothing but another copy can repair.
pub(crate) const RESTORE: &str = "restore this file from a backup or copy; nothing was changed";

/// Whether an operating-system error means that space ran out (`ENOSPC`, `EDQUOT`).
pub(crate) fn is_disk_full(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded)
}
