//! The journal in memory: for engines without files, and for tests.
//!
//! Owns the frames of one process; nothing survives it. Refuses nothing that the segment journal accepts, so that tests
//! on it mean something.

use std::sync::Arc;

use parking_lot::RwLock;

use crate::block::AlignedBytes;
use crate::frame::PAYLOAD_BYTES_MAX;
use crate::journal::{
    Frame, FrameInput, FrameLocation, FrameReader, FrameSource, Journal, JournalError, ReadError, RoomDone, RoomTask,
    check_input,
};

type Frames = Arc<RwLock<Vec<Frame>>>;

/// A [`Journal`] in memory. It grows for as long as it lives.
#[derive(Default)]
pub struct MemoryJournal {
    frames: Frames,
    last_seq: u64,
    last_time: u64,
    bytes: u64,
}

impl MemoryJournal {
    /// An empty journal.
    pub fn new() -> Self {
        Self::default()
    }
}

impl Journal for MemoryJournal {
    fn append(&mut self, frame: &FrameInput<'_>) -> Result<u64, JournalError> {
        let payload_bytes = check_input(frame, self.last_seq, PAYLOAD_BYTES_MAX)?;
        let mut bytes = AlignedBytes::zeroed(payload_bytes);
        let mut at = 0;
        for part in frame.parts {
            bytes.as_mut_slice()[at..at + part.len()].copy_from_slice(part);
            at += part.len();
        }
        self.frames.write().push(Frame {
            first_seq: frame.first_seq,
            count: frame.count,
            time_min: frame.time_min,
            time_max: frame.time_max,
            location: FrameLocation { segment: 0, offset: frame.first_seq },
            bytes: Arc::new(bytes),
        });
        self.last_seq += u64::from(frame.count);
        self.last_time = self.last_time.max(frame.time_max);
        self.bytes += payload_bytes as u64;
        Ok(self.last_seq)
    }

    fn seal(&mut self, _time: u64) -> Result<(), JournalError> {
        Ok(())
    }

    fn durable_seq(&self) -> u64 {
        self.last_seq
    }

    fn last_time(&self) -> u64 {
        self.last_time
    }

    fn epoch(&self) -> u64 {
        1
    }

    fn has_room(&self) -> bool {
        true
    }

    fn room_task(&mut self) -> Option<RoomTask> {
        None
    }

    fn room_done(&mut self, _done: RoomDone) {}

    fn witness(&mut self, time: u64) -> Result<(), JournalError> {
        self.last_time = self.last_time.max(time);
        Ok(())
    }

    fn source(&self) -> Arc<dyn FrameSource> {
        Arc::new(MemorySource { frames: Arc::clone(&self.frames) })
    }

    fn close(self: Box<Self>, _time: u64) -> Result<(), JournalError> {
        Ok(())
    }

    fn bytes(&self) -> u64 {
        self.bytes
    }
}

struct MemorySource {
    frames: Frames,
}

impl FrameSource for MemorySource {
    fn read_from(&self, seq: u64) -> Result<Box<dyn FrameReader>, ReadError> {
        Ok(Box::new(MemoryReader { frames: Arc::clone(&self.frames), target: seq.max(1) }))
    }

    fn frame_at(&self, location: FrameLocation) -> Result<Option<Frame>, ReadError> {
        let frames = self.frames.read();
        let found = frames.binary_search_by_key(&location.offset, |frame| frame.first_seq);
        Ok(found.ok().filter(|_| location.segment == 0).map(|at| frames[at].clone()))
    }
}

struct MemoryReader {
    frames: Frames,
    target: u64,
}

impl FrameReader for MemoryReader {
    fn next(&mut self, up_to: u64) -> Result<Option<Frame>, ReadError> {
        let frames = self.frames.read();
        let at = frames.partition_point(|frame| frame.last_seq() < self.target);
        let found = frames.get(at).filter(|frame| frame.last_seq() <= up_to).cloned();
        if let Some(frame) = &found {
            self.target = frame.last_seq() + 1;
        }
        Ok(found)
    }
}
