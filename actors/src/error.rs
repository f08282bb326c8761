//! Errors of the engine's operations: one enum per operation, and the class that the command line maps to exit codes.

use std::sync::Arc;

use tp_core::EvolveError;
use tp_storage::{
    CatalogueError, CatalogueTrouble, CheckpointError, DirectoryError, JournalError, ReadError, RebuildError,
    RecoverError, SledJournalError,
};

use crate::config::BadConfig;
use crate::fold::Misfit;

/// What kind of trouble an error is, for exit codes and alarms.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum ErrorClass {
    /// The caller asked for something impossible: change the call.
    Usage,
    /// The directory is in use, missing, not ours, or of a newer format.
    Directory,
    /// Stored bytes are damaged, lost or in doubt.
    Corruption,
    /// Space ran out, or a write or sync failed.
    Disk,
    /// The wall clock is not believable.
    Clock,
    /// Something else: a thread could not be started, a bug.
    Other,
}

/// Why the state could not be built from the journal and checkpoints.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ReplayError {
    /// The journal could not be read.
    #[error(transparent)]
    Read(#[from] ReadError),
    /// An event's bytes are not an event.
    #[error("event {seq} (frame at byte {offset} of segment {segment}) cannot be read: {source}")]
    Decode {
        /// Its sequence number.
        seq: u64,
        /// The frame's segment.
        segment: u64,
        /// The frame's byte offset.
        offset: u64,
        /// Why.
        source: tp_core::codec::DecodeError,
    },
    /// An event does not follow from the state before it.
    #[error("{0}: the journal and the checkpoint do not fit, or one is damaged; `verify` says more")]
    Evolve(#[from] tp_core::EvolveError),
    /// A frame holds another number of events than it says.
    #[error("the frame at byte {offset} of segment {segment} says {said} events and holds {held}")]
    Count {
        /// The frame's segment.
        segment: u64,
        /// The frame's byte offset.
        offset: u64,
        /// What its header says.
        said: u32,
        /// What it holds.
        held: u32,
    },
    /// The replay ended before the last sequence number.
    #[error("the journal could be read only up to {reached}, it should reach {last_seq}")]
    Short {
        /// The last one read.
        reached: u64,
        /// The last one expected.
        last_seq: u64,
    },
    /// A bug: a replaying thread panicked.
    #[error("a bug: replaying panicked; please report it with the output of `verify`")]
    Panicked,
}

/// Why an engine could not be opened. Nothing was served.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum OpenError {
    /// The configuration.
    #[error(transparent)]
    Config(#[from] BadConfig),
    /// The data directory: in use, not ours, of a newer format, damaged.
    #[error(transparent)]
    Directory(#[from] DirectoryError),
    /// The directory's parameters cannot be read.
    #[error("the parameters in {directory}'s identity cannot be read: {what}")]
    Parameters {
        /// The data directory.
        directory: String,
        /// Why.
        what: &'static str,
        /// Whether a later release wrote them.
        is_newer: bool,
    },
    /// The journal: corrupt, ambiguous tail, tail lost, a segment missing, disk full.
    #[error(transparent)]
    Recover(#[from] RecoverError),
    /// The state could not be rebuilt.
    #[error(transparent)]
    Replay(#[from] ReplayError),
    /// A checkpoint could not be listed or removed.
    #[error(transparent)]
    Checkpoint(#[from] CheckpointError),
    /// The sled journal.
    #[error("the sled journal: {0}")]
    Sled(Box<SledJournalError>),
    /// The catalogue belongs to another engine, or is of a newer format. Any other trouble with it does not keep an engine
    /// from opening.
    #[error(transparent)]
    Catalogue(Box<CatalogueError>),
    /// The wall clock is more than 7 days from the last recorded time.
    #[error(
        "the wall clock ({wall}) is more than 7 days from the last recorded time ({recorded}): set it right, or accept it with accept_clock"
    )]
    ClockRefused {
        /// The wall clock.
        wall: tp_core::time::Time,
        /// The last recorded time.
        recorded: tp_core::time::Time,
    },
    /// The operating system gave no thread or no random bytes.
    #[error("{what}: {source}")]
    System {
        /// What was asked for.
        what: &'static str,
        /// The system's report.
        source: std::io::Error,
    },
}

/// The class of a recovery error.
pub(crate) fn recover_class(error: &RecoverError) -> ErrorClass {
    match error {
        RecoverError::Corrupt(_)
        | RecoverError::Ambiguous(_)
        | RecoverError::TailLost(_)
        | RecoverError::MissingSegment(_)
        | RecoverError::Diverged(_) => ErrorClass::Corruption,
        RecoverError::Rebuild(error) => rebuild_class(error),
        RecoverError::NotOurs { .. } | RecoverError::NewerFormat { .. } | RecoverError::ReadOnlyDirectory => {
            ErrorClass::Directory
        }
        RecoverError::Options(_) => ErrorClass::Usage,
        RecoverError::DiskFull { .. } | RecoverError::Io { .. } => ErrorClass::Disk,
        _ => ErrorClass::Other,
    }
}

/// The class of the error of a rebuilding.
pub(crate) fn rebuild_class(error: &RebuildError) -> ErrorClass {
    match error {
        RebuildError::Lost(_) => ErrorClass::Corruption,
        _ => ErrorClass::Disk,
    }
}

/// The class of a directory error.
pub(crate) fn directory_class(error: &DirectoryError) -> ErrorClass {
    match error {
        DirectoryError::Corrupt { .. } => ErrorClass::Corruption,
        DirectoryError::DiskFull { .. } | DirectoryError::Io { .. } => ErrorClass::Disk,
        DirectoryError::ParametersTooLarge { .. } => ErrorClass::Usage,
        _ => ErrorClass::Directory,
    }
}

/// The class of a replay error.
pub(crate) fn replay_class(error: &ReplayError) -> ErrorClass {
    match error {
        ReplayError::Read(ReadError::Io { .. }) => ErrorClass::Disk,
        ReplayError::Decode { source: tp_core::codec::DecodeError::Unknown { .. }, .. } => ErrorClass::Directory,
        ReplayError::Panicked => ErrorClass::Other,
        _ => ErrorClass::Corruption,
    }
}

/// The class of an error of the journal in sled.
fn sled_journal_class(error: &SledJournalError) -> ErrorClass {
    match error {
        SledJournalError::NotOurs { .. } | SledJournalError::NewerFormat { .. } => ErrorClass::Directory,
        SledJournalError::Corrupt(_) | SledJournalError::TailLost { .. } => ErrorClass::Corruption,
        _ => ErrorClass::Disk,
    }
}

/// The class of the catalogue's error.
pub(crate) fn catalogue_class(error: &CatalogueError) -> ErrorClass {
    match error.trouble() {
        CatalogueTrouble::Foreign => ErrorClass::Directory,
        CatalogueTrouble::Damaged => ErrorClass::Corruption,
        CatalogueTrouble::Unavailable => ErrorClass::Disk,
    }
}

impl Misfit for OpenError {
    fn misfit(&self) -> Option<&EvolveError> {
        match self {
            Self::Replay(ReplayError::Evolve(error)) => Some(error),
            _ => None,
        }
    }
}

impl OpenError {
    /// What kind of trouble it is.
    pub fn class(&self) -> ErrorClass {
        match self {
            Self::Config(_) => ErrorClass::Usage,
            Self::Directory(error) => directory_class(error),
            Self::Parameters { is_newer: true, .. } => ErrorClass::Directory,
            Self::Parameters { .. } => ErrorClass::Corruption,
            Self::Recover(error) => recover_class(error),
            Self::Replay(error) => replay_class(error),
            Self::Checkpoint(CheckpointError::NotOurs { .. } | CheckpointError::NewerFormat { .. }) => {
                ErrorClass::Directory
            }
            Self::Checkpoint(_) => ErrorClass::Disk,
            Self::Sled(error) => sled_journal_class(error),
            Self::Catalogue(error) => catalogue_class(error),
            Self::ClockRefused { .. } => ErrorClass::Clock,
            Self::System { .. } => ErrorClass::Other,
        }
    }
}

/// Why the engine stopped acknowledging. Final: close it, and open again to recover.
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PoisonCause {
    /// A write or sync of the journal failed: it is not known what of the last group is durable.
    #[error("the journal failed: {0}")]
    Journal(Arc<JournalError>),
    /// A bug: an event did not follow from the state it was decided on.
    #[error("a bug: {0}")]
    Evolve(tp_core::EvolveError),
    /// A bug: a thread of the engine panicked.
    #[error("a bug: {thread} panicked: {message}")]
    Panicked {
        /// Which.
        thread: String,
        /// What it said.
        message: String,
    },
}

impl PoisonCause {
    /// What kind of trouble it is.
    pub fn class(&self) -> ErrorClass {
        match self {
            Self::Journal(_) => ErrorClass::Disk,
            Self::Evolve(_) | Self::Panicked { .. } => ErrorClass::Other,
        }
    }
}

/// Why a close was not orderly. Everything acknowledged before is durable all the same.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CloseError {
    /// The engine had been poisoned.
    #[error(transparent)]
    Poisoned(#[from] PoisonCause),
    /// The last seal or witness could not be written.
    #[error("closing the journal: {0}")]
    Journal(JournalError),
    /// The last checkpoint could not be taken; the journal was closed.
    #[error("the checkpoint at close: {0}")]
    Checkpoint(CheckpointFailed),
    /// Commands or exchanges did not come to an end in time (a disk that stalls or is full).
    #[error(
        "{open} commands and exchanges were still open after {waited_ms} ms; they are resolved after the next start"
    )]
    NotDrained {
        /// How many.
        open: u64,
        /// How long it was waited for.
        waited_ms: u64,
    },
}

impl CloseError {
    /// What kind of trouble it is.
    pub fn class(&self) -> ErrorClass {
        match self {
            Self::Poisoned(cause) => cause.class(),
            Self::Journal(_) | Self::Checkpoint(_) | Self::NotDrained { .. } => ErrorClass::Disk,
        }
    }
}

/// Why a checkpoint was not taken. The older ones are untouched.
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CheckpointFailed {
    /// The engine keeps nothing, or not in segments.
    #[error("this engine keeps no checkpoints")]
    NotKept,
    /// Its file.
    #[error(transparent)]
    File(Arc<CheckpointError>),
    /// The engine stopped before what it shows was durable.
    #[error("the engine stopped before the checkpoint was durable")]
    Stopped,
}

/// Why the catalogue did not answer.
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CursorError {
    /// The store failed or cannot be used: [`crate::CatalogueStatus`] says what is done about it.
    #[error("the catalogue does not answer: {0}")]
    Catalogue(Arc<CatalogueError>),
    /// It did not answer in time; the journal is not concerned.
    #[error("the catalogue did not answer within {waited_ms} ms")]
    Stalled {
        /// How long it was waited for.
        waited_ms: u64,
    },
    /// The engine is closed.
    #[error("the engine is closed")]
    Closed,
}

/// Why a read was not answered.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[error("the engine answered `{}`", outcome.name())]
pub struct NotAnswered {
    /// What the engine said instead.
    pub outcome: tp_core::outcome::Outcome,
}

/// The client's ring or the partition's inbox is full: nothing was taken, try again later.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[error("busy: poll replies, then try again")]
pub struct Busy;

/// Why a feed ended before the engine was closed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum FeedError {
    /// The journal could not be read.
    #[error(transparent)]
    Replay(#[from] ReplayError),
    /// The engine was poisoned; all durable events were given.
    #[error(transparent)]
    Poisoned(PoisonCause),
}
