//! The segment journal: one frame per group commit, one write, one sync.
//!
//! Owns the current segment, the spare, the chain and the witness; refuses to know what the events mean, to retry a
//! failed write or sync (POI-1), and to read a clock.
//!
//! ```text
//!  append ─► build in the reusable buffer ─► write ─► fdatasync ─► durable_seq      (commit(): the only place that writes)
//!               │ does not fit                  in every copy   │ error
//!               ▼                                               ▼
//!            roll over to the spare, then witness            poisoned, for ever
//! ```
//!
//! With a mirror each frame is written to both copies and synced in both before it counts; a copy that fails poisons like the only one
//! would.

use std::io;
use std::sync::Arc;
use tp_planted::{Bug, has};

use crate::block::BLOCK;
use crate::directory::{DataDirectory, remove_if_there};
use crate::frame::{self, FrameBuffer, FrameHeader, FrameKind, Position};
use crate::journal::{FrameInput, FrameSource, Journal, JournalError, RoomDone, RoomError, RoomTask, check_input};
use crate::reader::{Index, LiveSegment};
use crate::recover::{EachFrame, Floor, JournalOptions, RecoverError, Recovered, source_of};
use crate::scrub::Scrubber;
use crate::segment::{self, Rest, Segment};
use crate::syncs::Syncs;
use crate::witness::{WITNESS_PATH, Witness, WitnessWriter};

/// A [`Journal`] in segment files. Made by [`SegmentJournal::recover`].
pub struct SegmentJournal {
    dir: DataDirectory,
    options: JournalOptions,
    epoch: u64,
    current: Segment,
    end: Position,
    spare: Option<Segment>,
    /// A spare is being allocated.
    is_spare_asked: bool,
    /// Number of the first segment of the journal.
    segment_first: u64,
    last_seq: u64,
    last_time: u64,
    chain: u32,
    /// What the last frame shows to be durable.
    shown_seq: u64,
    buffer: FrameBuffer,
    witness: WitnessWriter,
    syncs: Syncs,
    index: Index,
    poison: Option<Arc<str>>,
    bytes: u64,
}

impl std::fmt::Debug for SegmentJournal {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SegmentJournal")
            .field("epoch", &self.epoch)
            .field("end", &self.end)
            .field("last_seq", &self.last_seq)
            .finish_non_exhaustive()
    }
}

/// Sequence numbers and times of the frame to commit.
struct Group {
    kind: FrameKind,
    count: u32,
    time_min: u64,
    time_max: u64,
    cut: Position,
    rest_checksum: u32,
}

impl SegmentJournal {
    /// Scans the journal of a directory (an empty one is a journal too). `floor`: what checkpoints and catalogue show
    /// to be durable. `replay_from`: the first sequence number that the caller will replay; segments below it are only
    /// looked at by their first frame, so that a restart is bounded by the checkpoint.
    ///
    /// # Errors
    /// [`RecoverError`]; nothing was changed.
    pub fn recover(
        dir: &DataDirectory,
        options: JournalOptions,
        floor: Floor,
        replay_from: u64,
    ) -> Result<Recovered, RecoverError> {
        Recovered::run(dir, options, floor, replay_from, None)
    }

    /// As [`SegmentJournal::recover`], and hands each event frame over on the way, from the segment that holds `replay_from`, in
    /// order: one pass over the journal serves both the scan and a replay.
    ///
    /// # Errors
    /// [`RecoverError`]; what was handed over is then worth nothing.
    pub fn recover_with(
        dir: &DataDirectory,
        options: JournalOptions,
        floor: Floor,
        replay_from: u64,
        each: &mut EachFrame<'_>,
    ) -> Result<Recovered, RecoverError> {
        Recovered::run(dir, options, floor, replay_from, Some(each))
    }

    /// Opens the new epoch; see [`Recovered::open`].
    pub(crate) fn begin(recovered: Recovered) -> Result<Self, RecoverError> {
        let Recovered { last_seq, last_time, dir, options, scan, index, .. } = recovered;
        let number = scan.segment_highest + 1;
        let failed = |(file, source)| RecoverError::writing(file, 0)(source);
        for device in dir.devices() {
            let removed = segment::remove_temporary(&**device);
            removed.map_err(|source| failed((device.display(segment::JOURNAL_DIR), source)))?;
        }
        // What only one copy has may take the space that a new segment needs.
        for spare in scan.spares.iter().filter(|spare| spare.bytes.is_none()) {
            remove_spare(&dir, spare.number)?;
        }
        // An unused spare of the last run serves under a new number; the others are given back.
        let reusable = scan.spares.iter().position(|spare| spare.bytes == Some(options.segment_bytes));
        let current = match reusable {
            Some(at) => segment::renumber(&dir, scan.spares[at].number, number),
            None => segment::allocate(&dir, number, options.segment_bytes),
        };
        let current = current.map_err(failed)?;
        let witness = WitnessWriter::open(&dir, &scan.witness).map_err(failed)?;
        let syncs = Syncs::new(dir.devices().len(), options.mirror_sync)
            .map_err(|source| failed(("the thread that syncs the mirror".to_owned(), source)))?;
        let mut journal = Self {
            options,
            epoch: scan.epoch + 1,
            end: Position { segment: number, offset: 0 },
            current,
            spare: None,
            is_spare_asked: false,
            segment_first: scan.live.first().map_or(number, |live| live.number),
            last_seq,
            last_time,
            chain: scan.chain,
            shown_seq: last_seq,
            buffer: FrameBuffer::default(),
            witness,
            syncs,
            index,
            poison: None,
            bytes: scan.bytes,
            dir,
        };
        let device = Arc::clone(journal.dir.device());
        let rest = segment::rest(&journal.dir, scan.end)
            .map_err(RecoverError::writing(device.display(&segment::path(scan.end.segment)), scan.end.offset))?;
        journal.boot(scan.end, &rest).map_err(into_recover)?;
        // Only space: a failure changes nothing.
        let _ = rest.give_back();
        for (_, spare) in scan.spares.iter().enumerate().filter(|&(at, _)| Some(at) != reusable) {
            remove_spare(&journal.dir, spare.number)?;
        }
        Ok(journal)
    }

    /// Writes the boot frame and the witness.
    fn boot(&mut self, cut: Position, rest: &Rest) -> Result<(), JournalError> {
        let time = self.last_time;
        let rest_checksum = rest.checksum;
        let group = Group { kind: FrameKind::Boot, count: 0, time_min: time, time_max: time, cut, rest_checksum };
        let chain = self.chain;
        self.commit(&group, 1, &[])?;
        if let Some(before) = self.index.write().last_mut() {
            before.rest_checksum = Some(rest_checksum);
        }
        self.list_segment(self.current.number, chain);
        self.witness(time)
    }

    /// Shows a new segment to readers.
    fn list_segment(&self, number: u64, chain: u32) {
        let live = LiveSegment { number, first_seq: self.last_seq + 1, chain, cut: None, rest_checksum: None };
        self.index.write().push(live);
    }

    fn check_poison(&self) -> Result<(), JournalError> {
        match &self.poison {
            Some(cause) => Err(JournalError::Poisoned { cause: Arc::clone(cause) }),
            None => Ok(()),
        }
    }

    /// Poisons the journal and says what is in doubt.
    fn fail(&mut self, path: &str, offset: u64, seqs: (u64, u64), (copy, source): (usize, io::Error)) -> JournalError {
        let file = self.dir.devices()[copy].display(path);
        self.poison = Some(format!("{file} at byte {offset}: {source}").into());
        JournalError::Failed { file, offset, seq_first: seqs.0, seq_last: seqs.1, source }
    }

    /// Free bytes in the current segment.
    fn free(&self) -> u64 {
        self.current.bytes - self.end.offset
    }

    /// The only place that writes frames: builds, writes, syncs, and moves on. The frame fits.
    fn commit(&mut self, group: &Group, blocks: usize, parts: &[&[u8]]) -> Result<(), JournalError> {
        let mut header = FrameHeader {
            kind: group.kind,
            engine_id: self.dir.engine_id(),
            epoch: self.epoch,
            at: self.end,
            segment_bytes: self.current.bytes,
            first_seq: self.last_seq + 1,
            count: group.count,
            durable_seq: self.last_seq,
            time_min: group.time_min,
            time_max: group.time_max,
            payload_bytes: 0,
            blocks: 0,
            cut: group.cut,
            chain: self.chain,
            checksum: 0,
            rest_checksum: group.rest_checksum,
        };
        let frame = self.buffer.build(&mut header, blocks, parts);
        let offset = self.end.offset;
        let written = self
            .current
            .files()
            .try_for_each(|(copy, file)| file.write_all_at(frame, offset).map_err(|source| (copy, source)))
            .and_then(|()| {
                if has(Bug::SkipSync) { Ok(()) } else { self.syncs.sync(self.current.files().map(|(_, file)| file)) }
            });
        if let Err(source) = written {
            let path = segment::path(self.current.number);
            return Err(self.fail(&path, header.at.offset, (header.first_seq, header.last_seq()), source));
        }
        self.shown_seq = self.last_seq;
        self.last_seq = header.last_seq();
        self.last_time = self.last_time.max(header.time_max);
        self.chain = header.checksum;
        self.end = header.end();
        self.bytes += header.bytes();
        Ok(())
    }

    /// Makes the spare the current segment.
    fn roll_over(&mut self) -> Result<(), JournalError> {
        let Some(spare) = self.spare.take() else {
            return Err(JournalError::NoSpace { seq: self.last_seq + 1 });
        };
        self.list_segment(spare.number, self.chain);
        self.end = Position { segment: spare.number, offset: 0 };
        self.current = spare;
        Ok(())
    }

    /// Commits where there is space: in the current segment, or first in the spare.
    fn commit_anywhere(&mut self, group: &Group, blocks: usize, parts: &[&[u8]]) -> Result<(), JournalError> {
        if blocks as u64 * BLOCK <= self.free() {
            return self.commit(group, blocks, parts);
        }
        self.roll_over()?;
        self.commit(group, blocks, parts)?;
        self.witness(group.time_max)
    }
}

fn remove_spare(dir: &DataDirectory, number: u64) -> Result<(), RecoverError> {
    let path = segment::path(number);
    dir.devices().iter().try_for_each(|device| {
        remove_if_there(&**device, &path).map_err(RecoverError::writing(device.display(&path), 0))
    })
}

fn into_recover(error: JournalError) -> RecoverError {
    match error {
        JournalError::Failed { file, offset, source, .. } => RecoverError::writing(file, offset)(source),
        other => RecoverError::Io { file: String::new(), offset: 0, source: io::Error::other(other.to_string()) },
    }
}

impl Journal for SegmentJournal {
    fn append(&mut self, frame: &FrameInput<'_>) -> Result<u64, JournalError> {
        self.check_poison()?;
        // What fits into a new segment fits somewhere.
        let limit =
            frame::payload_bytes_max(self.spare.as_ref().map_or(self.options.segment_bytes, |spare| spare.bytes));
        let payload_bytes = check_input(frame, self.last_seq, limit)?;
        let Some(blocks) = frame::blocks_for(payload_bytes) else {
            return Err(JournalError::TooLarge { seq: frame.first_seq, bytes: payload_bytes, limit });
        };
        let FrameInput { count, time_min, time_max, .. } = *frame;
        let group =
            Group { kind: FrameKind::Events, count, time_min, time_max, cut: Position::default(), rest_checksum: 0 };
        self.commit_anywhere(&group, blocks, frame.parts)?;
        Ok(self.last_seq)
    }

    fn seal(&mut self, time: u64) -> Result<(), JournalError> {
        self.check_poison()?;
        if self.shown_seq == self.last_seq || (self.free() < BLOCK && self.spare.is_none()) {
            return Ok(());
        }
        let time = time.max(self.last_time);
        let group = Group {
            kind: FrameKind::Seal,
            count: 0,
            time_min: time,
            time_max: time,
            cut: Position::default(),
            rest_checksum: 0,
        };
        self.commit_anywhere(&group, 1, &[])
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
        let is_enough = self.spare.is_some() || self.free() >= self.options.reserve_bytes;
        is_enough && self.poison.is_none()
    }

    fn room_task(&mut self) -> Option<RoomTask> {
        if self.spare.is_some() || self.is_spare_asked || self.poison.is_some() {
            return None;
        }
        self.is_spare_asked = true;
        // The task holds the directory, and so its lock: no other writer starts while it runs.
        let dir = self.dir.clone();
        let (number, bytes) = (self.current.number + 1, self.options.segment_bytes);
        Some(Box::new(move || {
            let result = segment::allocate(&dir, number, bytes);
            RoomDone { result: result.map_err(|(file, source)| RoomError { file, source }) }
        }))
    }

    fn room_done(&mut self, done: RoomDone) {
        self.is_spare_asked = false;
        if let Ok(segment) = done.result {
            self.spare = Some(segment);
        }
    }

    fn witness(&mut self, time: u64) -> Result<(), JournalError> {
        self.check_poison()?;
        self.last_time = self.last_time.max(time);
        let witness = Witness {
            engine_id: self.dir.engine_id(),
            writes: 0,
            epoch: self.epoch,
            durable_seq: self.last_seq,
            time: self.last_time,
            segment_first: self.segment_first,
            end: self.end,
        };
        match self.witness.write(witness, &mut self.syncs) {
            Ok(()) => Ok(()),
            Err(source) => Err(self.fail(WITNESS_PATH, 0, (self.last_seq, self.last_seq), source)),
        }
    }

    fn source(&self) -> Arc<dyn FrameSource> {
        source_of(&self.dir, &self.index)
    }

    fn scrubber(&self) -> Option<Scrubber> {
        Some(Scrubber::new(self.dir.clone(), Arc::clone(&self.index)))
    }

    fn close(mut self: Box<Self>, time: u64) -> Result<(), JournalError> {
        self.seal(time)?;
        self.witness(time)
    }

    fn bytes(&self) -> u64 {
        self.bytes
    }
}
