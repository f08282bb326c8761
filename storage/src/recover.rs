//! Recovery: from a scan to a journal that can be written again.
//!
//! Owns the options, the errors and the two-step opening: `recover` looks and changes nothing that was written before;
//! [`Recovered::open`] starts a new epoch. In between the caller replays. Refuses to write into an old segment (SEG-1).
//!
//! ```text
//!  recover ─► Recovered ── frames(from) ──► caller replays ──► open ─► copies alike ─► new segment: boot frame, synced ─► witness
//! ```

use std::io;
use std::ops::ControlFlow;
use std::sync::Arc;

use parking_lot::RwLock;
use tp_planted::{Bug, has};

use crate::block::BLOCK;
use crate::directory::DataDirectory;
use crate::journal::{Frame, FrameReader, FrameSource, ReadError};
use crate::journal_segment::SegmentJournal;
use crate::problem::{Problem, is_disk_full};
use crate::reader::{Index, SegmentSource};
use crate::rebuild::{RebuildError, rebuild_all};
use crate::scan::{Scan, ScanMode, ScanRequest, TailReport, scan};
use crate::syncs::MirrorSync;

/// How a segment journal is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct JournalOptions {
    /// Size of new segments, in bytes: a multiple of 4096, at least 8192. Larger than all that can be in flight at once,
    /// counted as one 4 KiB frame per event. Segments of other sizes are read as they are. Default: 64 MiB.
    pub segment_bytes: u64,
    /// While there is no spare segment, `has_room` holds as long as this much is free in the current one, in bytes.
    /// Default: half a segment.
    pub reserve_bytes: u64,
    /// Cut an ambiguous tail instead of refusing to open. Default: no.
    pub accept_tail: bool,
    /// How the copies of a mirrored journal are synced. Default: together.
    pub mirror_sync: MirrorSync,
}

impl JournalOptions {
    /// Options with segments of this size, and half of it in reserve.
    pub fn with_segment_bytes(segment_bytes: u64) -> Self {
        Self { segment_bytes, reserve_bytes: segment_bytes / 2, accept_tail: false, mirror_sync: MirrorSync::default() }
    }
}

impl Default for JournalOptions {
    fn default() -> Self {
        Self::with_segment_bytes(64 << 20)
    }
}

/// The highest sequence number that something outside the journal shows to be durable.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Floor {
    /// The sequence number; 0: nothing is known.
    pub seq: u64,
    /// What shows it, for messages: "checkpoint 12", "the catalogue".
    pub shown_by: String,
}

/// Why a journal could not be recovered or read.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RecoverError {
    /// The directory was opened read-only.
    #[error("the data directory was opened read-only")]
    ReadOnlyDirectory,
    /// An option is out of range.
    #[error("journal option out of range: {0}")]
    Options(&'static str),
    /// Bytes that were durable are damaged. Nothing was changed.
    #[error("{0}")]
    Corrupt(Box<Problem>),
    /// The last frame is damaged, and it cannot be told whether it was acknowledged. Nothing was changed.
    #[error("{0}")]
    Ambiguous(Box<Problem>),
    /// The journal ends below what witness, checkpoint or catalogue show to have been durable. Nothing was changed.
    #[error("{0}")]
    TailLost(Box<Problem>),
    /// A segment in the middle, or the first one, is not there. Nothing was changed.
    #[error("{0}")]
    MissingSegment(Box<Problem>),
    /// The directory and its mirror were each written to without the other. Nothing was changed.
    #[error("{0}")]
    Diverged(Box<Problem>),
    /// A copy of the journal could not be made like the other. No copy is worse than it was.
    #[error(transparent)]
    Rebuild(#[from] RebuildError),
    /// A file of another engine. Nothing was changed.
    #[error("{file} belongs to another engine: put the right file back")]
    NotOurs {
        /// The file.
        file: String,
    },
    /// Written by a later version of this software. Nothing was changed.
    #[error(
        "{file} at byte {offset} has format version {format}, this software knows up to {known}: use the newer software"
    )]
    NewerFormat {
        /// The file.
        file: String,
        /// Byte offset.
        offset: u64,
        /// Its format version.
        format: u16,
        /// The highest version known here.
        known: u16,
    },
    /// There is no space for a new segment.
    #[error("no space left for {file}: free space on the disk, then start again")]
    DiskFull {
        /// The file.
        file: String,
    },
    /// The system reported something.
    #[error("{file} at byte {offset}: {source}")]
    Io {
        /// The file.
        file: String,
        /// Byte offset.
        offset: u64,
        /// The system's report.
        source: io::Error,
    },
}

impl RecoverError {
    pub(crate) fn writing(file: String, offset: u64) -> impl FnOnce(io::Error) -> Self {
        move |source| {
            if is_disk_full(&source) { Self::DiskFull { file } } else { Self::Io { file, offset, source } }
        }
    }
}

/// Called with each event frame of a scan, in order; `Break`: no more calls, the scan goes on.
pub type EachFrame<'a> = dyn FnMut(&Frame) -> ControlFlow<()> + 'a;

/// A journal that was scanned and judged good, before its new epoch begins.
pub struct Recovered {
    /// Last sequence number of the journal; 0: it is empty.
    pub last_seq: u64,
    /// Latest time in any frame or in the witness, Unix milliseconds.
    pub last_time: u64,
    /// How the journal ended.
    pub tail: TailReport,
    /// Findings that were no reason to refuse.
    pub notes: Vec<Problem>,
    pub(crate) dir: DataDirectory,
    pub(crate) options: JournalOptions,
    floor: Floor,
    pub(crate) scan: Scan,
    pub(crate) index: Index,
}

impl std::fmt::Debug for Recovered {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Recovered").field("last_seq", &self.last_seq).field("tail", &self.tail).finish_non_exhaustive()
    }
}

impl Recovered {
    pub(crate) fn run(
        dir: &DataDirectory,
        options: JournalOptions,
        floor: Floor,
        replay_from: u64,
        each: Option<&mut EachFrame<'_>>,
    ) -> Result<Self, RecoverError> {
        if !dir.is_writable() {
            return Err(RecoverError::ReadOnlyDirectory);
        }
        if options.segment_bytes < 2 * BLOCK || !options.segment_bytes.is_multiple_of(BLOCK) {
            return Err(RecoverError::Options("segment_bytes is a multiple of 4096 and at least 8192"));
        }
        if options.reserve_bytes > options.segment_bytes - BLOCK {
            return Err(RecoverError::Options("reserve_bytes leaves at least one block of a segment"));
        }
        let accept_tail = options.accept_tail;
        let request =
            ScanRequest { dir, mode: ScanMode::Recover, accept_tail, floor: &floor, replay_from, strict: false };
        let scan = scan(&request, each)?;
        Ok(Self {
            last_seq: scan.last_seq,
            last_time: scan.last_time,
            tail: scan.tail.clone(),
            notes: scan.all_notes(),
            dir: dir.clone(),
            options,
            floor,
            index: Arc::new(RwLock::new(scan.live.clone())),
            scan,
        })
    }

    /// A reader for the replay, from the frame that holds `from_seq`; pass [`Recovered::last_seq`] as `up_to`.
    ///
    /// # Errors
    /// [`ReadError`].
    pub fn frames(&self, from_seq: u64) -> Result<Box<dyn FrameReader>, ReadError> {
        self.source().read_from(from_seq)
    }

    /// Readers for several threads.
    pub fn source(&self) -> Arc<dyn FrameSource> {
        source_of(&self.dir, &self.index)
    }

    /// What the caller said to be durable.
    pub fn floor(&self) -> &Floor {
        &self.floor
    }

    /// Highest sequence number that frames, witness or floor show to be durable: at most `last_seq`.
    pub fn watermark(&self) -> u64 {
        self.scan.watermark
    }

    /// Highest epoch seen; the new one is this plus one.
    pub fn epoch_last(&self) -> u64 {
        self.scan.epoch
    }

    /// Segments that were found bad or missing in one copy: [`Recovered::open`] rebuilds them from the other.
    pub fn segments_to_rebuild(&self) -> usize {
        self.scan.differences.segments().values().map(Vec::len).sum()
    }

    /// Makes the copies alike, and begins the new epoch: a new segment whose first frame says where the old one was cut, synced; then
    /// the witness.
    ///
    /// # Errors
    /// [`RecoverError`]; opening may be tried again from the start.
    pub fn open(mut self) -> Result<SegmentJournal, RecoverError> {
        self.scan.vouch(&self.dir)?;
        if !has(Bug::RebuildSkipped) {
            rebuild_all(&self.dir, &self.scan.differences, self.scan.extents())?;
        }
        SegmentJournal::begin(self)
    }
}

pub(crate) fn source_of(dir: &DataDirectory, index: &Index) -> Arc<dyn FrameSource> {
    Arc::new(Arc::new(SegmentSource { dir: dir.clone(), index: Arc::clone(index) }))
}

/// A journal scanned without writing, for commands that only look.
pub struct ReadOnlyJournal {
    /// Last sequence number that counts: beside a running writer the highest one shown to be durable.
    pub last_seq: u64,
    /// Latest time in any frame or in the witness, Unix milliseconds.
    pub last_time: u64,
    /// How the journal ends; always clean beside a running writer.
    pub tail: TailReport,
    /// Findings that were no reason to refuse.
    pub notes: Vec<Problem>,
    /// Highest epoch seen.
    pub epoch_last: u64,
    floor: Floor,
    dir: DataDirectory,
    index: Index,
}

impl ReadOnlyJournal {
    /// What the caller said to be durable.
    pub fn floor(&self) -> &Floor {
        &self.floor
    }

    /// Readers; pass at most [`ReadOnlyJournal::last_seq`] as `up_to`.
    pub fn source(&self) -> Arc<dyn FrameSource> {
        source_of(&self.dir, &self.index)
    }
}

/// Scans like recovery does, without any write or sync. Works beside a running writer.
///
/// Segments that end below `replay_from` are read only by their first frame.
///
/// # Errors
/// [`RecoverError`].
pub fn scan_read_only(dir: &DataDirectory, floor: Floor, replay_from: u64) -> Result<ReadOnlyJournal, RecoverError> {
    look(dir, floor, replay_from, None)
}

/// As [`scan_read_only`], and hands each event frame over on the way, in order, as [`SegmentJournal::recover_with`] does.
///
/// # Errors
/// [`RecoverError`]; what was handed over is then worth nothing.
pub fn scan_read_only_with(
    dir: &DataDirectory,
    floor: Floor,
    replay_from: u64,
    each: &mut EachFrame<'_>,
) -> Result<ReadOnlyJournal, RecoverError> {
    look(dir, floor, replay_from, Some(each))
}

fn look(
    dir: &DataDirectory,
    floor: Floor,
    replay_from: u64,
    each: Option<&mut EachFrame<'_>>,
) -> Result<ReadOnlyJournal, RecoverError> {
    let mode = read_only_mode(dir);
    let request = ScanRequest { dir, mode, accept_tail: false, floor: &floor, replay_from, strict: false };
    let scan = scan(&request, each)?;
    Ok(ReadOnlyJournal {
        floor,
        last_seq: scan.last_seq,
        last_time: scan.last_time,
        tail: scan.tail.clone(),
        notes: scan.all_notes(),
        epoch_last: scan.epoch,
        dir: dir.clone(),
        index: Arc::new(RwLock::new(scan.live)),
    })
}

/// How to look at a directory without changing it. A handle that holds the lock but asks for this is its own writer.
pub(crate) fn read_only_mode(dir: &DataDirectory) -> ScanMode {
    if !dir.is_writable() && dir.writer_is_running() { ScanMode::BesideWriter } else { ScanMode::ReadOnly }
}
