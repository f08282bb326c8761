//! The journal in the embedded store: one entry per frame.
//!
//! Owns the tree `journal` (first sequence number, big-endian → header and payload) and its durability by syncs of our
//! own ([`crate::sled_store`]). Refuses to claim more than it gives; see [`SledJournal::guarantee`]. It is held to the
//! order and durability part of the conformance suite.

use std::io;
use std::path::Path;
use std::sync::Arc;

use zerocopy::little_endian::{U32, U64};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

use crate::block::AlignedBytes;
use crate::frame::PAYLOAD_BYTES_MAX;
use crate::journal::{
    Frame, FrameInput, FrameLocation, FrameReader, FrameSource, Journal, JournalError, ReadError, RoomDone, RoomTask,
    check_input,
};
use crate::problem::{Problem, RESTORE};
use crate::recover::Floor;
use crate::sled_store::{LastHandle, SledStore, StoreError, be_u64};

const EPOCH: &[u8] = b"epoch";
const TIME: &[u8] = b"time";

#[derive(Clone, Copy, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
struct RawEntry {
    checksum: U32,
    count: U32,
    time_min: U64,
    time_max: U64,
    payload_bytes: U64,
}

const ENTRY_BYTES: usize = size_of::<RawEntry>();
const _: () = assert!(ENTRY_BYTES == 32);

/// Why a journal in the embedded store could not be opened.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SledJournalError {
    /// Made by another engine.
    #[error("the journal in {path} belongs to another engine")]
    NotOurs {
        /// Its directory.
        path: String,
    },
    /// Made by a later version of this software.
    #[error("the journal in {path} has format version {format}: use the newer software")]
    NewerFormat {
        /// Its directory.
        path: String,
        /// Its format version.
        format: u64,
    },
    /// Entries are not what was written.
    #[error("{0}")]
    Corrupt(Box<Problem>),
    /// It ends below what is known to have been durable.
    #[error(
        "the journal in {path} ends at sequence number {last_seq}, but {shown_by} shows that it was durable up to {durable_seq}"
    )]
    TailLost {
        /// Its directory.
        path: String,
        /// Its last sequence number.
        last_seq: u64,
        /// What it should reach at least.
        durable_seq: u64,
        /// What shows that.
        shown_by: String,
    },
    /// The embedded store failed.
    #[error("the journal in {path} failed: {source}")]
    Store {
        /// Its directory.
        path: String,
        /// The store's report.
        source: sled::Error,
    },
    /// The system reported something.
    #[error("the journal in {path} failed: {source}")]
    Io {
        /// The file.
        path: String,
        /// The system's report.
        source: io::Error,
    },
}

/// A [`Journal`] in sled.
pub struct SledJournal {
    tree: sled::Tree,
    path: Arc<str>,
    epoch: u64,
    last_seq: u64,
    last_time: u64,
    bytes: u64,
    buffer: Vec<u8>,
    poison: Option<Arc<str>>,
    /// After the tree: see [`LastHandle`].
    store: SledStore,
}

fn entry_checksum(first_seq: u64, value: &[u8]) -> u32 {
    crc32c::crc32c_append(crc32c::crc32c(&first_seq.to_be_bytes()), &value[4..])
}

/// One entry, checked.
pub(crate) fn decode(key: &[u8], value: &[u8]) -> Result<Frame, &'static str> {
    let first_seq = be_u64(key).ok_or("the key is not a sequence number")?;
    let (raw, payload) = RawEntry::read_from_prefix(value).map_err(|_| "the entry is too short")?;
    if entry_checksum(first_seq, value) != raw.checksum.get() {
        return Err("the checksum of the entry does not hold");
    }
    let count = raw.count.get();
    let in_range = first_seq > 0 && count > 0 && first_seq.checked_add(u64::from(count)).is_some();
    if !in_range || raw.payload_bytes.get() != payload.len() as u64 {
        return Err("the entry contradicts itself");
    }
    Ok(Frame {
        first_seq,
        count,
        time_min: raw.time_min.get(),
        time_max: raw.time_max.get(),
        location: FrameLocation { segment: 0, offset: first_seq },
        bytes: Arc::new(AlignedBytes::copy_of(payload)),
    })
}

impl SledJournal {
    /// Opens or creates the journal of this engine in a directory of its own, and begins a new epoch.
    ///
    /// # Errors
    /// [`SledJournalError`].
    pub fn open(path: impl AsRef<Path>, engine_id: u128, floor: &Floor) -> Result<Self, SledJournalError> {
        let shown: Arc<str> = path.as_ref().display().to_string().into();
        let opened = SledStore::open(path.as_ref(), engine_id).and_then(|store| {
            let tree = store.db.open_tree("journal")?;
            let epoch = store.number(EPOCH)?.unwrap_or(0) + 1;
            let time = store.number(TIME)?.unwrap_or(0);
            let last = tree.last()?;
            let bytes = store.db.size_on_disk()?;
            Ok((Self::assemble(store, tree, &shown, epoch, time, bytes), last))
        });
        let (mut journal, last) = opened.map_err(|error| open_error(&shown, error))?;
        if let Some((key, value)) = last {
            let frame = decode(&key, &value).map_err(|what| {
                let seq = be_u64(&key).unwrap_or(0);
                SledJournalError::Corrupt(Box::new(Problem::new(shown.to_string(), 0, what, RESTORE).with_seqs(seq, 0)))
            })?;
            journal.last_seq = frame.last_seq();
            journal.last_time = journal.last_time.max(frame.time_max);
        }
        if journal.last_seq < floor.seq {
            let (last_seq, durable_seq, shown_by) = (journal.last_seq, floor.seq, floor.shown_by.clone());
            return Err(SledJournalError::TailLost { path: shown.to_string(), last_seq, durable_seq, shown_by });
        }
        let begun = journal.store.meta.insert(EPOCH, &journal.epoch.to_be_bytes()).map_err(StoreError::from);
        begun.and_then(|_| journal.store.sync()).map_err(|error| open_error(&shown, error))?;
        Ok(journal)
    }

    fn assemble(store: SledStore, tree: sled::Tree, path: &Arc<str>, epoch: u64, last_time: u64, bytes: u64) -> Self {
        let (path, buffer) = (Arc::clone(path), Vec::new());
        Self { tree, path, epoch, last_seq: 0, last_time, bytes, buffer, poison: None, store }
    }

    /// What this journal promises, for the operator to read at start.
    pub fn guarantee() -> &'static str {
        "journal in sled: acknowledged events survive a kill and a power cut (each group is flushed and then synced with \
         fsync by tpcore, since sled's own flush syncs nothing). Weaker than the segment journal: a damaged or lost tail \
         is noticed only below a checkpoint or the catalogue, for sled cuts its log at the first bad byte without saying \
         so; disk full is seen only while writing, and stops the engine; there is no witness, no second copy, and the \
         commands that only read cannot run beside the engine"
    }

    fn fail(&mut self, seqs: (u64, u64), error: StoreError) -> JournalError {
        let (file, source) = match error {
            StoreError::Io(file, source) => (file.display().to_string(), source),
            StoreError::Store(sled::Error::Io(source)) => (self.path.to_string(), source),
            StoreError::Store(error) => (self.path.to_string(), io::Error::other(error)),
            StoreError::NotOurs | StoreError::NewerFormat(_) | StoreError::Corrupt(_) => {
                (self.path.to_string(), io::Error::other("the store is not the one that was opened"))
            }
        };
        self.poison = Some(format!("{file}: {source}").into());
        JournalError::Failed { file, offset: 0, seq_first: seqs.0, seq_last: seqs.1, source }
    }

    fn check_poison(&self) -> Result<(), JournalError> {
        match &self.poison {
            Some(cause) => Err(JournalError::Poisoned { cause: Arc::clone(cause) }),
            None => Ok(()),
        }
    }

    fn fill_buffer(&mut self, frame: &FrameInput<'_>, payload_bytes: usize) {
        let mut raw = RawEntry {
            checksum: U32::new(0),
            count: U32::new(frame.count),
            time_min: U64::new(frame.time_min),
            time_max: U64::new(frame.time_max),
            payload_bytes: U64::new(payload_bytes as u64),
        };
        self.buffer.clear();
        self.buffer.extend_from_slice(raw.as_bytes());
        for part in frame.parts {
            self.buffer.extend_from_slice(part);
        }
        raw.checksum = U32::new(entry_checksum(frame.first_seq, &self.buffer));
        self.buffer[..ENTRY_BYTES].copy_from_slice(raw.as_bytes());
    }
}

fn open_error(path: &str, error: StoreError) -> SledJournalError {
    let path = path.to_owned();
    match error {
        StoreError::Store(source) => SledJournalError::Store { path, source },
        StoreError::Io(file, source) => SledJournalError::Io { path: file.display().to_string(), source },
        StoreError::NotOurs => SledJournalError::NotOurs { path },
        StoreError::NewerFormat(format) => SledJournalError::NewerFormat { path, format },
        StoreError::Corrupt(what) => SledJournalError::Corrupt(Box::new(Problem::new(path, 0, what, RESTORE))),
    }
}

impl Journal for SledJournal {
    fn append(&mut self, frame: &FrameInput<'_>) -> Result<u64, JournalError> {
        self.check_poison()?;
        let payload_bytes = check_input(frame, self.last_seq, PAYLOAD_BYTES_MAX)?;
        self.fill_buffer(frame, payload_bytes);
        let last_seq = self.last_seq + u64::from(frame.count);
        let key = frame.first_seq.to_be_bytes();
        let inserted = self.tree.insert(key, self.buffer.as_slice()).map_err(StoreError::from);
        if let Err(error) = inserted.and_then(|_| self.store.sync()) {
            return Err(self.fail((frame.first_seq, last_seq), error));
        }
        self.last_seq = last_seq;
        self.last_time = self.last_time.max(frame.time_max);
        self.bytes += self.buffer.len() as u64;
        Ok(last_seq)
    }

    fn seal(&mut self, _time: u64) -> Result<(), JournalError> {
        self.check_poison()
    }

    fn durable_seq(&self) -> u64 {
        self.last_seq
    }

    fn last_time(&self) -> u64 {
        self.last_time
    }

    fn epoch(&self) -> u64 {
        self.epoch
    }

    fn has_room(&self) -> bool {
        self.poison.is_none()
    }

    fn room_task(&mut self) -> Option<RoomTask> {
        None
    }

    fn room_done(&mut self, _done: RoomDone) {}

    fn witness(&mut self, time: u64) -> Result<(), JournalError> {
        self.check_poison()?;
        self.last_time = self.last_time.max(time);
        let noted = self.store.meta.insert(TIME, &self.last_time.to_be_bytes()).map_err(StoreError::from);
        match noted.and_then(|_| self.store.sync()) {
            Ok(()) => Ok(()),
            Err(error) => Err(self.fail((self.last_seq, self.last_seq), error)),
        }
    }

    fn source(&self) -> Arc<dyn FrameSource> {
        let (tree, path, last) = (self.tree.clone(), Arc::clone(&self.path), self.store.last.clone());
        Arc::new(SledSource { tree, path, last })
    }

    fn close(mut self: Box<Self>, time: u64) -> Result<(), JournalError> {
        self.witness(time)
    }

    fn bytes(&self) -> u64 {
        self.bytes
    }
}

struct SledSource {
    tree: sled::Tree,
    path: Arc<str>,
    last: LastHandle,
}

/// The frame that holds `seq`, or the one before it.
fn at_or_before(tree: &sled::Tree, path: &Arc<str>, seq: u64) -> Result<Option<Frame>, ReadError> {
    let found = tree.range(..=seq.to_be_bytes()).next_back().transpose();
    let io = |error| ReadError::Io { file: path.to_string(), offset: 0, source: io::Error::other(error) };
    let Some((key, value)) = found.map_err(io)? else { return Ok(None) };
    decode(&key, &value).map(Some).map_err(|what| corrupt(path, seq, what))
}

fn corrupt(path: &Arc<str>, seq: u64, what: &str) -> ReadError {
    ReadError::Corrupt(Box::new(Problem::new(path.to_string(), 0, what, RESTORE).with_seqs(seq, 0)))
}

impl FrameSource for SledSource {
    fn read_from(&self, seq: u64) -> Result<Box<dyn FrameReader>, ReadError> {
        let (tree, path, last) = (self.tree.clone(), Arc::clone(&self.path), self.last.clone());
        Ok(Box::new(SledReader { tree, path, target: seq.max(1), _last: last }))
    }

    fn frame_at(&self, location: FrameLocation) -> Result<Option<Frame>, ReadError> {
        let found = at_or_before(&self.tree, &self.path, location.offset)?;
        Ok(found.filter(|frame| location.segment == 0 && frame.first_seq == location.offset))
    }
}

struct SledReader {
    tree: sled::Tree,
    path: Arc<str>,
    target: u64,
    _last: LastHandle,
}

impl FrameReader for SledReader {
    fn next(&mut self, up_to: u64) -> Result<Option<Frame>, ReadError> {
        if self.target > up_to {
            return Ok(None);
        }
        let found = at_or_before(&self.tree, &self.path, self.target)?;
        let Some(frame) = found.filter(|frame| frame.last_seq() >= self.target) else {
            return Err(corrupt(&self.path, self.target, "frames are missing here"));
        };
        if frame.last_seq() > up_to {
            return Ok(None);
        }
        self.target = frame.last_seq() + 1;
        Ok(Some(frame))
    }
}
