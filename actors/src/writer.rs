//! The journal writer's step: the contiguous run of numbers over all rings becomes one frame, written and synced.
//!
//! Owns group commit, seals, witness and room; refuses to know events. DUR-1: the durable number is published after the
//! append returned. POI-1: an error other than missing space is final. No threads and no clock in here: time is passed in.
//!
//! ```text
//!  ring 0: 1-4   9-9            run: 1-4 5-8 9-9 10-12, one frame      13 is still missing: 14-20 waits
//!  ring 1: 5-8  10-12  14-20
//! ```

use std::sync::Arc;

use tp_storage::{FrameInput, Journal, JournalError, PAYLOAD_BYTES_MAX, RoomDone};

use crate::lane::{Batch, Lane};

/// Batches of one frame: as many as fit on the stack of `append`. All that one partition's ring holds: on a disk of 100 ms a sync,
/// turns of a single command would otherwise fill the rings long before the disk is used.
const GROUP_BATCHES: usize = 1_024;
/// A frame's payload is not filled further than this, bytes: a larger group only makes its first command wait longer.
const GROUP_BYTES: usize = 1 << 20;
/// Idleness after which a seal follows, ms.
const SEAL_AFTER_MS: u64 = 5;
/// Between two witnesses, ms.
const WITNESS_EVERY_MS: u64 = 1_000;
/// Before a spare segment is tried for again, ms.
const ROOM_RETRY_MS: u64 = 200;

/// A committed group.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Committed {
    /// Durable now.
    pub(crate) seq: u64,
    /// The latest event time of the group.
    pub(crate) time_max: u64,
    pub(crate) events: u64,
    pub(crate) bytes: u64,
    pub(crate) blocks: u64,
}

/// The writer's state.
pub(crate) struct WriterStep {
    journal: Box<dyn Journal>,
    /// The next number to be written.
    next: u64,
    /// Taken from each ring, not yet in the run.
    heads: Vec<Option<Batch>>,
    /// The run, with the ring that each batch came from.
    group: Vec<(usize, Batch)>,
    group_bytes: usize,
    last_append_ms: u64,
    is_sealed: bool,
    last_witness_ms: u64,
    is_witnessed: bool,
    room_retry_ms: u64,
    pub(crate) room_failures: u64,
    /// What the last of them reported.
    pub(crate) room_failure: Option<Arc<str>>,
    /// The last attempt to get a spare segment failed.
    pub(crate) was_room_refused: bool,
    pub(crate) seals: u64,
}

impl WriterStep {
    pub(crate) fn new(journal: Box<dyn Journal>, partitions: usize) -> Self {
        Self {
            next: journal.durable_seq() + 1,
            journal,
            heads: (0..partitions).map(|_| None).collect(),
            group: Vec::with_capacity(GROUP_BATCHES),
            group_bytes: 0,
            last_append_ms: 0,
            is_sealed: true,
            last_witness_ms: 0,
            is_witnessed: true,
            room_retry_ms: 0,
            room_failures: 0,
            room_failure: None,
            was_room_refused: false,
            seals: 0,
        }
    }

    pub(crate) fn journal(&self) -> &dyn Journal {
        &*self.journal
    }

    pub(crate) fn into_journal(self) -> Box<dyn Journal> {
        self.journal
    }

    /// Adds what follows to the run. Returns whether there is a run to commit.
    pub(crate) fn collect(&mut self, lanes: &[Lane]) -> bool {
        while self.group.len() < GROUP_BATCHES && self.group_bytes < GROUP_BYTES {
            let Some((ring, batch)) = self.take_next(lanes) else { break };
            self.next += u64::from(batch.count);
            self.group_bytes += batch.bytes.len();
            self.group.push((ring, batch));
        }
        !self.group.is_empty()
    }

    /// The batch that starts with the next number, if it is in a ring and fits into the frame.
    fn take_next(&mut self, lanes: &[Lane]) -> Option<(usize, Batch)> {
        for (ring, head) in self.heads.iter_mut().enumerate() {
            if head.is_none() {
                *head = lanes[ring].ring.pop();
            }
            let fits =
                |batch: &Batch| self.group.is_empty() || self.group_bytes + batch.bytes.len() <= PAYLOAD_BYTES_MAX;
            if head.as_ref().is_some_and(|batch| batch.first_seq == self.next && fits(batch)) {
                return head.take().map(|batch| (ring, batch));
            }
        }
        None
    }

    /// Writes and syncs the run. `None`: there is no space for it; it stays, and is to be committed again later.
    ///
    /// # Errors
    /// The journal's: final.
    pub(crate) fn commit(&mut self, monotonic_ms: u64) -> Result<Option<Committed>, JournalError> {
        let Some((_, first)) = self.group.first() else { return Ok(None) };
        let first_seq = first.first_seq;
        let mut parts: [&[u8]; GROUP_BATCHES] = [&[]; GROUP_BATCHES];
        let (mut count, mut bytes, mut blocks, mut time_min, mut time_max) = (0u32, 0u64, 0u64, u64::MAX, 0u64);
        for (part, (_, batch)) in parts.iter_mut().zip(&self.group) {
            *part = batch.bytes.as_slice();
            count += batch.count;
            bytes += batch.bytes.len() as u64;
            blocks += batch.blocks;
            time_min = time_min.min(batch.time_min);
            time_max = time_max.max(batch.time_max);
        }
        let frame = FrameInput { first_seq, count, time_min, time_max, parts: &parts[..self.group.len()] };
        match self.journal.append(&frame) {
            Ok(seq) => {
                (self.last_append_ms, self.is_sealed, self.is_witnessed) = (monotonic_ms, false, false);
                Ok(Some(Committed { seq, time_max, events: u64::from(count), bytes, blocks }))
            }
            Err(JournalError::NoSpace { .. }) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Gives the buffers of the committed run back, and names the rings that it came from.
    pub(crate) fn recycle(&mut self, lanes: &[Lane], mut each_ring: impl FnMut(usize)) {
        for (ring, mut batch) in self.group.drain(..) {
            batch.bytes.clear();
            let _ = lanes[ring].buffers.push(batch.bytes); // more than it keeps: freed
            each_ring(ring);
        }
        self.group_bytes = 0;
    }

    /// Seal and witness, when they are due. Returns how long nothing is due, ms.
    ///
    /// # Errors
    /// The journal's: final.
    pub(crate) fn housekeep(&mut self, time: u64, monotonic_ms: u64) -> Result<u64, JournalError> {
        let seal_at = self.last_append_ms + SEAL_AFTER_MS;
        if !self.is_sealed && monotonic_ms >= seal_at {
            self.journal.seal(time)?;
            (self.is_sealed, self.seals) = (true, self.seals + 1);
        }
        self.witness_if_due(time, monotonic_ms)?;
        let witness_at = self.last_witness_ms + WITNESS_EVERY_MS;
        let due = |is_done: bool, at: u64| if is_done { WITNESS_EVERY_MS } else { at.saturating_sub(monotonic_ms) };
        Ok(due(self.is_sealed, seal_at).min(due(self.is_witnessed, witness_at)))
    }

    /// A witness at most once a second, when there is something new to say.
    ///
    /// # Errors
    /// The journal's: final.
    pub(crate) fn witness_if_due(&mut self, time: u64, monotonic_ms: u64) -> Result<(), JournalError> {
        if !self.is_witnessed && monotonic_ms >= self.last_witness_ms + WITNESS_EVERY_MS {
            self.journal.witness(time)?;
            (self.is_witnessed, self.last_witness_ms) = (true, monotonic_ms);
        }
        Ok(())
    }

    /// Commands were answered: engine time was shown, and must not fall behind it after a crash.
    pub(crate) const fn note_use(&mut self) {
        self.is_witnessed = false;
    }

    /// Work for another thread, if a spare segment is missing and it is time to try.
    pub(crate) fn room_task(&mut self, monotonic_ms: u64) -> Option<Box<dyn FnOnce() -> RoomDone + Send>> {
        if monotonic_ms < self.room_retry_ms { None } else { self.journal.room_task() }
    }

    pub(crate) fn room_done(&mut self, done: RoomDone, monotonic_ms: u64) {
        self.was_room_refused = done.error().is_some();
        if let Some(error) = done.error() {
            self.room_failures += 1;
            self.room_failure = Some(error.to_string().into());
            self.room_retry_ms = monotonic_ms + ROOM_RETRY_MS;
        }
        self.journal.room_done(done);
    }

    /// A witness now: for checkpoints and the close.
    ///
    /// # Errors
    /// The journal's: final.
    pub(crate) fn witness(&mut self, time: u64) -> Result<(), JournalError> {
        self.journal.witness(time)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tp_core::codec::EventBytes;
    use tp_storage::MemoryJournal;

    fn batch(first_seq: u64, count: u32) -> Batch {
        let mut bytes = EventBytes::new();
        bytes.extend_from_slice(&first_seq.to_le_bytes().repeat(2));
        Batch { first_seq, count, blocks: u64::from(count), time_min: first_seq, time_max: first_seq + 1, bytes }
    }

    fn lanes(batches: &[&[(u64, u32)]]) -> Vec<Lane> {
        let lanes: Vec<_> = batches.iter().map(|_| Lane::new(batches.len(), 1, 1)).collect();
        for (lane, ring) in lanes.iter().zip(batches) {
            for &(first_seq, count) in *ring {
                assert!(lane.ring.push(batch(first_seq, count)).is_ok());
            }
        }
        lanes
    }

    #[test]
    fn the_contiguous_run_over_all_rings_is_one_frame_and_a_gap_ends_it() {
        let lanes = lanes(&[&[(1, 4), (9, 1)], &[(5, 4), (10, 3), (14, 7)]]);
        let mut writer = WriterStep::new(Box::new(MemoryJournal::new()), 2);
        assert!(writer.collect(&lanes));
        let committed = writer.commit(0).expect("no fault").expect("room");
        assert_eq!(committed, Committed { seq: 12, time_max: 11, events: 12, bytes: 64, blocks: 12 });
        let mut rings = Vec::new();
        writer.recycle(&lanes, |ring| rings.push(ring));
        assert_eq!(rings, [0, 1, 0, 1]);
        assert!(!writer.collect(&lanes), "13 is missing");
        assert!(lanes[0].ring.push(batch(13, 1)).is_ok());
        assert!(writer.collect(&lanes));
        assert_eq!(writer.commit(0).expect("no fault").map(|c| c.seq), Some(20));
    }

    #[test]
    fn housekeeping_falls_due_only_after_events() {
        let lanes = lanes(&[&[(1, 1)]]);
        let mut writer = WriterStep::new(Box::new(MemoryJournal::new()), 1);
        assert_eq!(writer.housekeep(0, 10).expect("no fault"), WITNESS_EVERY_MS);
        assert!(writer.collect(&lanes) && writer.commit(10).is_ok());
        writer.recycle(&lanes, |_| {});
        assert_eq!(writer.housekeep(0, 12).expect("no fault"), 3, "the seal is next");
        assert_eq!((writer.housekeep(0, 15).expect("no fault"), writer.seals), (985, 1));
        assert_eq!(writer.housekeep(0, 1000).expect("no fault"), WITNESS_EVERY_MS);
        assert_eq!(writer.seals, 1);
    }
}
