//! The journal's seam: append frames in order, learn what is durable, read from anywhere.
//!
//! Owns the traits and their contract; refuses to know any implementation. The conformance suite
//! (`tests/conformance.rs`) holds every implementation to what is written here.
//!
//! One writer owns a [`Journal`]; any number of threads read through its [`FrameSource`]. Appending is synchronous:
//! `append` returns when its frame is durable (DUR-1), so groups form in the caller while the disk is busy.

use std::io;
use std::sync::Arc;

use crate::block::AlignedBytes;
use crate::catalogue::FrameEntry;
use crate::problem::Problem;
use crate::scrub::Scrubber;

/// A frame to append: one group of events.
#[derive(Clone, Copy, Debug)]
pub struct FrameInput<'a> {
    /// Sequence number of the first event: the last one plus one.
    pub first_seq: u64,
    /// Number of events, at least 1.
    pub count: u32,
    /// Earliest event time, Unix milliseconds.
    pub time_min: u64,
    /// Latest event time, Unix milliseconds.
    pub time_max: u64,
    /// The payload, in parts that are written one after the other; at most [`crate::PAYLOAD_BYTES_MAX`] bytes, and not
    /// empty.
    pub parts: &'a [&'a [u8]],
}

/// Where a frame lies. For journals without segments `segment` is 0 and `offset` the first sequence number.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct FrameLocation {
    /// Segment number.
    pub segment: u64,
    /// Byte offset in the segment.
    pub offset: u64,
}

/// A durable group of events, read back. Clones share the bytes.
#[derive(Clone, Debug)]
pub struct Frame {
    /// Sequence number of the first event.
    pub first_seq: u64,
    /// Number of events.
    pub count: u32,
    /// Earliest event time, Unix milliseconds.
    pub time_min: u64,
    /// Latest event time, Unix milliseconds.
    pub time_max: u64,
    /// Where it lies.
    pub location: FrameLocation,
    pub(crate) bytes: Arc<AlignedBytes>,
}

impl Frame {
    /// The payload; it starts on a 16-byte boundary in memory.
    pub fn payload(&self) -> &[u8] {
        &self.bytes
    }

    /// Sequence number of the last event.
    pub fn last_seq(&self) -> u64 {
        self.first_seq + u64::from(self.count) - 1
    }
}

/// Why an append, seal or witness failed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum JournalError {
    /// The frame does not follow the last one. Nothing was written.
    #[error("frame starts at sequence number {got}, the journal continues at {expected}")]
    NotNext {
        /// The next sequence number.
        expected: u64,
        /// What the frame starts with.
        got: u64,
    },
    /// The frame is empty, or its times or numbers are out of range. Nothing was written.
    #[error("frame at sequence number {seq} is malformed: {what}")]
    Malformed {
        /// Its first sequence number.
        seq: u64,
        /// What is wrong.
        what: &'static str,
    },
    /// The payload is larger than a frame can be. Nothing was written.
    #[error("frame at sequence number {seq} has {bytes} payload bytes, a frame takes {limit}: split the group")]
    TooLarge {
        /// Its first sequence number.
        seq: u64,
        /// Its payload, in bytes.
        bytes: usize,
        /// The largest payload, in bytes.
        limit: usize,
    },
    /// There is no segment to write to. Nothing was written, and the journal goes on when there is space again.
    #[error("no space for sequence number {seq}: free space on the disk; appending resumes by itself")]
    NoSpace {
        /// The first sequence number that found no space.
        seq: u64,
    },
    /// A write or sync failed. It is not known whether these events are durable; the journal is poisoned.
    #[error("{file} at byte {offset}: writing sequence numbers {seq_first} to {seq_last} failed: {source}")]
    Failed {
        /// The file.
        file: String,
        /// Byte offset.
        offset: u64,
        /// First sequence number in doubt.
        seq_first: u64,
        /// Last sequence number in doubt.
        seq_last: u64,
        /// The system's report.
        source: io::Error,
    },
    /// An earlier write or sync failed, which is final: nothing more is acknowledged. Restart to recover.
    #[error("the journal stopped after a failed write: {cause}; restart to recover")]
    Poisoned {
        /// The first failure.
        cause: Arc<str>,
    },
}

/// Why reading failed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ReadError {
    /// The bytes are not what was written.
    #[error("{0}")]
    Corrupt(Box<Problem>),
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

/// Why a spare segment could not be had.
#[derive(Debug, thiserror::Error)]
#[error("{file}: {source}")]
pub struct RoomError {
    /// The file.
    pub file: String,
    /// The system's report.
    pub source: io::Error,
}

impl RoomError {
    /// Whether space ran out (and not something worse).
    pub fn is_disk_full(&self) -> bool {
        crate::problem::is_disk_full(&self.source)
    }
}

/// Result of a room task, to be handed to [`Journal::room_done`].
pub struct RoomDone {
    pub(crate) result: Result<crate::segment::Segment, RoomError>,
}

impl RoomDone {
    /// Why no room could be made, if so.
    pub fn error(&self) -> Option<&RoomError> {
        self.result.as_ref().err()
    }
}

/// Work that makes room, for a thread that may wait for the disk.
pub type RoomTask = Box<dyn FnOnce() -> RoomDone + Send>;

/// The durable log of decided events: one writer.
pub trait Journal: Send {
    /// Appends a frame and waits until it is durable; returns the durable sequence number.
    ///
    /// # Errors
    /// [`JournalError`]. After `Failed` the journal is poisoned.
    fn append(&mut self, frame: &FrameInput<'_>) -> Result<u64, JournalError>;

    /// Writes an empty frame that shows the durable sequence number, unless the last frame shows it already or there is
    /// no room for it.
    ///
    /// # Errors
    /// [`JournalError`]. After `Failed` the journal is poisoned.
    fn seal(&mut self, time: u64) -> Result<(), JournalError>;

    /// Last durable sequence number; 0: none.
    fn durable_seq(&self) -> u64;

    /// Latest time in any frame, seal or witness, Unix milliseconds.
    fn last_time(&self) -> u64;

    /// Number of this run of the journal, from 1 on.
    fn epoch(&self) -> u64;

    /// Whether all that may be in flight still finds space. `false` is for the callers' `no_space`.
    fn has_room(&self) -> bool;

    /// Work to be done by another thread to make room; `None`: nothing is missing, or the work is under way.
    fn room_task(&mut self) -> Option<RoomTask>;

    /// Takes back the result of a room task. After a failure a later `room_task` tries again: service resumes by itself.
    fn room_done(&mut self, done: RoomDone);

    /// Records the durable sequence number outside the journal: once a second, at checkpoints and before the close.
    ///
    /// # Errors
    /// [`JournalError`]. After `Failed` the journal is poisoned.
    fn witness(&mut self, time: u64) -> Result<(), JournalError>;

    /// A reader factory for other threads.
    fn source(&self) -> Arc<dyn FrameSource>;

    /// What reads the journal through for damage beside the writer, for another thread; `None`: this kind of journal has no such.
    fn scrubber(&self) -> Option<Scrubber> {
        None
    }

    /// Seals, writes the witness and closes.
    ///
    /// # Errors
    /// [`JournalError`].
    fn close(self: Box<Self>, time: u64) -> Result<(), JournalError>;

    /// Bytes of journal in use. (Segments that were not read at recovery count in full.)
    fn bytes(&self) -> u64;
}

/// Opens readers; shared by threads.
pub trait FrameSource: Send + Sync {
    /// A reader positioned at the frame that holds `seq` (0 counts as 1), which may not exist yet.
    ///
    /// # Errors
    /// [`ReadError`].
    fn read_from(&self, seq: u64) -> Result<Box<dyn FrameReader>, ReadError>;

    /// The frame at a location that a catalogue remembered, if an event frame starts there.
    ///
    /// # Errors
    /// [`ReadError`].
    fn frame_at(&self, location: FrameLocation) -> Result<Option<Frame>, ReadError>;
}

/// Reads event frames in order.
pub trait FrameReader: Send {
    /// The next event frame whose last sequence number is at most `up_to`, which the caller knows to be durable.
    /// `None`: there is none yet; call again later.
    ///
    /// # Errors
    /// [`ReadError`].
    fn next(&mut self, up_to: u64) -> Result<Option<Frame>, ReadError>;

    /// As [`FrameReader::next`], but only what the catalogue notes of it: the events are neither read nor checked.
    ///
    /// # Errors
    /// [`ReadError`].
    fn next_entry(&mut self, up_to: u64) -> Result<Option<FrameEntry>, ReadError> {
        Ok(self.next(up_to)?.as_ref().map(FrameEntry::from))
    }
}

/// The rules every implementation applies before it writes. Returns the payload's size.
pub(crate) fn check_input(frame: &FrameInput<'_>, last_seq: u64, limit: usize) -> Result<usize, JournalError> {
    let seq = frame.first_seq;
    if last_seq.checked_add(1) != Some(seq) {
        return Err(JournalError::NotNext { expected: last_seq.saturating_add(1), got: seq });
    }
    let malformed = |what| JournalError::Malformed { seq, what };
    if frame.count == 0 {
        return Err(malformed("it has no events"));
    }
    if seq.checked_add(u64::from(frame.count)).is_none() {
        return Err(malformed("its sequence numbers overflow"));
    }
    if frame.time_min > frame.time_max {
        return Err(malformed("its earliest time is after its latest"));
    }
    let bytes = frame.parts.iter().map(|part| part.len()).sum();
    if bytes == 0 {
        return Err(malformed("its payload is empty"));
    }
    if bytes > limit {
        return Err(JournalError::TooLarge { seq, bytes, limit });
    }
    Ok(bytes)
}
