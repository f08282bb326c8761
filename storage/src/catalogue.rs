//! The catalogue: where each frame lies, and how far each consumer is.
//!
//! Owns a sparse index, one entry per frame, and named cursors. Refuses to be the truth: the frames' entries can be
//! rebuilt from the journal at any time, nothing that is acknowledged depends on it, and it is off the acknowledge path.
//! Entries are noted only for durable frames, so the highest one is a floor for recovery.

use std::collections::BTreeMap;
use std::io;

use crate::journal::{Frame, FrameLocation};

/// Where a frame lies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FrameEntry {
    /// Sequence number of its first event.
    pub first_seq: u64,
    /// Number of events.
    pub count: u32,
    /// Segment number.
    pub segment: u64,
    /// Byte offset in the segment.
    pub offset: u64,
    /// Earliest event time, Unix milliseconds.
    pub time_min: u64,
    /// Latest event time, Unix milliseconds.
    pub time_max: u64,
}

impl FrameEntry {
    /// Sequence number of its last event.
    pub fn last_seq(&self) -> u64 {
        self.first_seq + u64::from(self.count) - 1
    }

    /// Where it lies, for [`crate::FrameSource::frame_at`].
    pub fn location(&self) -> FrameLocation {
        FrameLocation { segment: self.segment, offset: self.offset }
    }
}

impl From<&Frame> for FrameEntry {
    fn from(frame: &Frame) -> Self {
        Self {
            first_seq: frame.first_seq,
            count: frame.count,
            segment: frame.location.segment,
            offset: frame.location.offset,
            time_min: frame.time_min,
            time_max: frame.time_max,
        }
    }
}

/// Why the catalogue failed. It can be deleted and rebuilt; the journal is whole.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CatalogueError {
    /// Made by another engine.
    #[error(
        "the catalogue {path} belongs to another engine: put the right one in its place, or let `catalogue rebuild` put this one aside"
    )]
    NotOurs {
        /// Its directory.
        path: String,
    },
    /// Made by a later version of this software.
    #[error(
        "the catalogue {path} has format version {format}: use the newer software, or let `catalogue rebuild` put this one aside"
    )]
    NewerFormat {
        /// Its directory.
        path: String,
        /// Its format version.
        format: u64,
    },
    /// An entry is not what was noted.
    #[error("the catalogue {path} is damaged: {what}")]
    Corrupt {
        /// Its directory.
        path: String,
        /// What is wrong.
        what: String,
    },
    /// The system reported something. It says nothing about what was stored.
    #[error("the catalogue {path} failed: {source}")]
    Io {
        /// The file or directory.
        path: String,
        /// The system's report.
        source: io::Error,
    },
}

/// What an error says about the store, and so what may be done with it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum CatalogueTrouble {
    /// It is somebody else's, or of newer software: hands off.
    Foreign,
    /// Its contents are not what was written: put it aside and make another.
    Damaged,
    /// It could not be read or written at the moment: nothing is known about its contents. Try again.
    Unavailable,
}

impl CatalogueError {
    /// What it says about the store.
    pub const fn trouble(&self) -> CatalogueTrouble {
        match self {
            Self::NotOurs { .. } | Self::NewerFormat { .. } => CatalogueTrouble::Foreign,
            Self::Corrupt { .. } => CatalogueTrouble::Damaged,
            Self::Io { .. } => CatalogueTrouble::Unavailable,
        }
    }
}

/// A sparse index of frames, and named cursors.
pub trait Catalogue: Send {
    /// Notes frames that are durable, in any order. Noting one again changes nothing.
    ///
    /// # Errors
    /// [`CatalogueError`].
    fn note(&mut self, entries: &[FrameEntry]) -> Result<(), CatalogueError>;

    /// The frame that holds `seq`.
    ///
    /// # Errors
    /// [`CatalogueError`].
    fn find(&self, seq: u64) -> Result<Option<FrameEntry>, CatalogueError>;

    /// The last frame with an event at or before `time` (Unix milliseconds). Recorded time never falls, so the last
    /// event at or before `time` is in it.
    ///
    /// # Errors
    /// [`CatalogueError`].
    fn find_time(&self, time: u64) -> Result<Option<FrameEntry>, CatalogueError>;

    /// The entry with the highest sequence number.
    ///
    /// # Errors
    /// [`CatalogueError`].
    fn highest(&self) -> Result<Option<FrameEntry>, CatalogueError>;

    /// How far the consumer of this name is.
    ///
    /// # Errors
    /// [`CatalogueError`].
    fn cursor(&self, name: &str) -> Result<Option<u64>, CatalogueError>;

    /// All cursors.
    ///
    /// # Errors
    /// [`CatalogueError`].
    fn cursors(&self) -> Result<BTreeMap<String, u64>, CatalogueError>;

    /// Moves the cursor of a consumer. Durable after [`Catalogue::sync`].
    ///
    /// # Errors
    /// [`CatalogueError`].
    fn set_cursor(&mut self, name: &str, seq: u64) -> Result<(), CatalogueError>;

    /// Forgets all frames, for a rebuild. Cursors stay: the journal does not know them.
    ///
    /// # Errors
    /// [`CatalogueError`].
    fn clear(&mut self) -> Result<(), CatalogueError>;

    /// Makes everything noted so far durable.
    ///
    /// # Errors
    /// [`CatalogueError`].
    fn sync(&mut self) -> Result<(), CatalogueError>;
}

/// A [`Catalogue`] in memory.
#[derive(Debug, Default)]
pub struct MemoryCatalogue {
    frames: BTreeMap<u64, FrameEntry>,
    cursors: BTreeMap<String, u64>,
}

impl MemoryCatalogue {
    /// An empty catalogue.
    pub fn new() -> Self {
        Self::default()
    }
}

impl Catalogue for MemoryCatalogue {
    fn note(&mut self, entries: &[FrameEntry]) -> Result<(), CatalogueError> {
        self.frames.extend(entries.iter().map(|entry| (entry.first_seq, *entry)));
        Ok(())
    }

    fn find(&self, seq: u64) -> Result<Option<FrameEntry>, CatalogueError> {
        let found = self.frames.range(..=seq).next_back().map(|(_, entry)| *entry);
        Ok(found.filter(|entry| entry.last_seq() >= seq))
    }

    fn find_time(&self, time: u64) -> Result<Option<FrameEntry>, CatalogueError> {
        Ok(self.frames.values().rev().find(|entry| entry.time_min <= time).copied())
    }

    fn highest(&self) -> Result<Option<FrameEntry>, CatalogueError> {
        Ok(self.frames.values().next_back().copied())
    }

    fn cursor(&self, name: &str) -> Result<Option<u64>, CatalogueError> {
        Ok(self.cursors.get(name).copied())
    }

    fn cursors(&self) -> Result<BTreeMap<String, u64>, CatalogueError> {
        Ok(self.cursors.clone())
    }

    fn set_cursor(&mut self, name: &str, seq: u64) -> Result<(), CatalogueError> {
        self.cursors.insert(name.to_owned(), seq);
        Ok(())
    }

    fn clear(&mut self) -> Result<(), CatalogueError> {
        self.frames.clear();
        Ok(())
    }

    fn sync(&mut self) -> Result<(), CatalogueError> {
        Ok(())
    }
}
