//! The engines, each in the states that a reader may find it in.
//!
//! Owns their names and the one shape they are driven through: write all records durably and take the directory; open one and read
//! everything. Refuses to know damages. Every writer commits one record at a time at the engine's strongest documented setting.

mod fjall;
mod okaywal;
mod redb;
mod sqlite;

use std::path::Path;

use crate::image::Image;
use crate::records::Read;
use redb::Commit;

/// An engine in one state.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Engine {
    /// All commits in the write-ahead log; the directory as a crash leaves it.
    SqliteWal,
    /// All commits in the database file; checkpointed and closed.
    SqliteClosed,
    /// All commits in the journal; the directory as a crash leaves it.
    FjallJournal,
    /// All commits in tables; flushed and closed.
    FjallTables,
    /// The file as a crash leaves it.
    RedbCrashed,
    /// The same, with commits of two phases.
    RedbTwoPhase,
    /// Closed in order.
    RedbClosed,
    /// All commits in the log; the directory as a crash leaves it.
    Okaywal,
}

/// Whether a reader asks the engine to check itself before anything is read.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Check {
    Plain,
    Integrity,
}

/// Everything that a reader gets: by scanning, and record by record.
pub(crate) struct Reading {
    pub(crate) scanned: Vec<Read>,
    /// `None`: the engine has no look-up by key.
    pub(crate) looked_up: Option<Vec<Read>>,
}

/// What went wrong, in the engine's words.
pub(crate) type Failure = Box<dyn std::error::Error>;

impl Engine {
    pub(crate) const ALL: [Self; 8] = [
        Self::SqliteWal,
        Self::SqliteClosed,
        Self::FjallJournal,
        Self::FjallTables,
        Self::RedbCrashed,
        Self::RedbTwoPhase,
        Self::RedbClosed,
        Self::Okaywal,
    ];

    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::SqliteWal => "sqlite-wal",
            Self::SqliteClosed => "sqlite-closed",
            Self::FjallJournal => "fjall-journal",
            Self::FjallTables => "fjall-tables",
            Self::RedbCrashed => "redb-crashed",
            Self::RedbTwoPhase => "redb-two-phase",
            Self::RedbClosed => "redb-closed",
            Self::Okaywal => "okaywal",
        }
    }

    /// The engines of a name: one (`redb-closed`), all states of one (`redb`), or `all`.
    pub(crate) fn named(name: &str) -> Vec<Self> {
        let is_named = |engine: &Self| {
            let whole = engine.name();
            name == "all" || name == whole || whole.split('-').next() == Some(name)
        };
        Self::ALL.into_iter().filter(is_named).collect()
    }

    /// The engine and its version.
    pub(crate) fn version(self) -> String {
        match self {
            Self::SqliteWal | Self::SqliteClosed => {
                format!("SQLite {} (rusqlite 0.43.0, bundled)", rusqlite::version())
            }
            Self::FjallJournal | Self::FjallTables => "fjall 3.1.13".into(),
            Self::RedbCrashed | Self::RedbTwoPhase | Self::RedbClosed => "redb 4.6.0".into(),
            Self::Okaywal => "okaywal 0.3.1".into(),
        }
    }

    /// Whether it can check its own files on request.
    pub(crate) const fn has_check(self) -> bool {
        !matches!(self, Self::FjallJournal | Self::FjallTables | Self::Okaywal)
    }

    /// Writes all records below `folder`, each durably, and takes what is stored.
    pub(crate) fn write(self, folder: &Path) -> Result<Image, Failure> {
        match self {
            Self::SqliteWal => sqlite::write_log(folder),
            Self::SqliteClosed => sqlite::write_closed(folder),
            Self::FjallJournal => fjall::write_journal(folder),
            Self::FjallTables => fjall::write_tables(folder),
            Self::RedbCrashed => redb::write_crashed(folder, Commit::OnePhase),
            Self::RedbTwoPhase => redb::write_crashed(folder, Commit::TwoPhase),
            Self::RedbClosed => redb::write_closed(folder),
            Self::Okaywal => okaywal::write(folder),
        }
    }

    /// Opens `folder` as an application would that expects its data there, reads everything, and closes it.
    pub(crate) fn read(self, folder: &Path, check: Check) -> Result<Reading, Failure> {
        match self {
            Self::SqliteWal | Self::SqliteClosed => sqlite::read(folder, check),
            Self::FjallJournal | Self::FjallTables => fjall::read(folder),
            Self::RedbCrashed | Self::RedbTwoPhase | Self::RedbClosed => redb::read(folder, check),
            Self::Okaywal => okaywal::read(folder),
        }
    }
}
