//! The walk: from frame to frame through the live segments, for as long as each belongs where it stands.
//!
//! Owns the state that is carried from one frame to the next (sequence number, chain, epoch, watermark) and the list of
//! reasons why a frame does not belong; refuses to judge what a stop means (`scan_judge.rs` does).

use std::collections::VecDeque;
use std::io;

use tp_planted::{Bug, has};

use crate::block::Block;
use crate::copies::{BadCopies, Check, FrameRead};
use crate::frame::{FORMAT, FrameHeader, FrameKind, HeaderState, Position};
use crate::journal::Frame;
use crate::problem::Problem;
use crate::reader::{LiveSegment, frame_of};
use crate::rebuild::Differences;
use crate::recover::{EachFrame, RecoverError};
use crate::scan::{Heads, ScanMode, ScanRequest, Spare, corrupt, split};
use crate::segment::{self, Segment};

/// Why the walk through a segment stopped.
#[derive(Clone, Debug)]
pub(crate) enum Stop {
    /// At the end of the segment or at its cut.
    End,
    /// At a block of zeros.
    Hole,
    /// At a frame whose header is good and whose bad blocks are zeros.
    NeverWritten { seq_last: u64 },
    /// At bytes that are not a good frame.
    Bad { what: String, seq_last: u64 },
    /// At a good frame that does not belong here.
    Stranger { what: String, seq_last: u64 },
}

/// A stop, with its place.
pub(crate) struct Stopped {
    pub(crate) at: Position,
    pub(crate) stop: Stop,
}

pub(crate) struct Walker<'a, 'o> {
    pub(crate) request: &'a ScanRequest<'a>,
    pub(crate) heads: &'a Heads,
    pub(crate) observer: Option<&'a mut EachFrame<'o>>,
    pub(crate) next_seq: u64,
    pub(crate) chain: u32,
    pub(crate) epoch: u64,
    pub(crate) end: Position,
    pub(crate) last_time: u64,
    pub(crate) watermark: u64,
    pub(crate) notes: Vec<Problem>,
    pub(crate) spares: Vec<Spare>,
    pub(crate) bytes: u64,
    pub(crate) strays: Vec<Problem>,
    pub(crate) differences: Differences,
    /// The copies may have parted in this segment, and not before.
    pub(crate) alike_to: u64,
    waiting: VecDeque<Waiting>,
    /// What is read is for the observer too.
    is_wanted: bool,
    /// The last number of the last frame that counts.
    pub(crate) counted: u64,
}

/// An event frame that was read and is not yet known to count.
struct Waiting {
    first_seq: u64,
    last_seq: u64,
    /// For the observer, if there is one.
    frame: Option<Frame>,
}

impl<'a, 'o> Walker<'a, 'o> {
    pub(crate) fn new(request: &'a ScanRequest<'a>, heads: &'a Heads, observer: Option<&'a mut EachFrame<'o>>) -> Self {
        Self {
            request,
            heads,
            observer,
            next_seq: 1,
            chain: 0,
            epoch: 0,
            end: Position::default(),
            last_time: 0,
            watermark: 0,
            notes: Vec::new(),
            spares: Vec::new(),
            bytes: 0,
            strays: Vec::new(),
            differences: Differences::default(),
            alike_to: u64::MAX,
            waiting: VecDeque::new(),
            is_wanted: true,
            counted: 0,
        }
    }

    pub(crate) fn io_error(&self, at: Position) -> impl FnOnce(io::Error) -> RecoverError + use<> {
        let file = self.request.dir.device().display(&segment::path(at.segment));
        move |source| RecoverError::Io { file, offset: at.offset, source }
    }

    pub(crate) fn corrupt(&self, at: Position, what: &str, seqs: (u64, u64)) -> RecoverError {
        corrupt(self.request.dir, at.segment, at.offset, what, seqs)
    }

    pub(crate) fn header_of(&self, number: u64) -> Option<FrameHeader> {
        match self.heads.get(&number)?.state {
            HeaderState::Valid(header) => Some(header),
            _ => None,
        }
    }

    /// Walks the live segments that must be read; returns where and why the last one stopped.
    pub(crate) fn walk(&mut self, path: &[LiveSegment]) -> Result<Stopped, RecoverError> {
        let Some(newest) = path.len().checked_sub(1) else {
            return Ok(Stopped { at: Position::default(), stop: Stop::End });
        };
        let wanted = path.partition_point(|live| live.first_seq <= self.request.replay_from).saturating_sub(1);
        let alike = path.partition_point(|live| live.number <= self.alike_to).saturating_sub(1);
        let start = wanted.min(newest.saturating_sub(1)).min(alike);
        for live in &path[..start] {
            self.skip(live);
        }
        if let Some(header) = self.header_of(path[start].number) {
            (self.next_seq, self.chain) = (header.first_seq, header.chain);
            self.counted = header.first_seq.saturating_sub(1);
            self.epoch = if header.kind == FrameKind::Boot { header.epoch.saturating_sub(1) } else { header.epoch };
        }
        for (index, live) in path.iter().enumerate().skip(start) {
            self.is_wanted = index >= wanted;
            let stopped = self.walk_segment(live)?;
            if index == newest {
                return Ok(stopped);
            }
            self.check_joint(live, &stopped, &path[index + 1])?;
        }
        Ok(Stopped { at: self.end, stop: Stop::End })
    }

    /// Counts a segment that is known by its first frame only.
    fn skip(&mut self, live: &LiveSegment) {
        if let Some(head) = self.heads.get(&live.number) {
            self.differences.note_files(self.request.dir, live.number, head.whole);
        }
        if let Some(header) = self.header_of(live.number) {
            let bad = self.heads.get(&live.number).map_or_else(BadCopies::default, |head| head.bad);
            self.differences.note_frame(self.request.dir, &header, bad);
            self.watermark = self.watermark.max(header.durable_seq);
            self.last_time = self.last_time.max(header.time_max);
        }
        self.bytes += live.cut.or_else(|| self.heads.get(&live.number).map(|head| head.bytes)).unwrap_or(0);
    }

    fn walk_segment(&mut self, live: &LiveSegment) -> Result<Stopped, RecoverError> {
        let heads = self.heads;
        let Some(head) = heads.get(&live.number) else {
            return Ok(Stopped { at: Position { segment: live.number, offset: 0 }, stop: Stop::Hole });
        };
        let mut at = Position { segment: live.number, offset: 0 };
        let segment = head.open(self.request.dir).map_err(self.io_error(at))?;
        if (self.request.mode == ScanMode::Recover || self.request.strict) && !has(Bug::TrustCache) {
            segment.forget_cache().map_err(self.io_error(at))?;
        }
        self.differences.note_files(self.request.dir, live.number, head.whole);
        let limit = live.cut.unwrap_or(segment.bytes).min(segment.bytes);
        while at.offset < limit {
            let (read, bad) = segment.read_frame(at.offset, Check::All).map_err(self.io_error(at))?;
            match self.accept(&segment, at, read, bad)? {
                Ok(end) => at = end,
                Err(stop) => return Ok(Stopped { at, stop }),
            }
        }
        Ok(Stopped { at, stop: Stop::End })
    }

    /// Takes in one frame if it belongs at `at`; else says why not.
    fn accept(
        &mut self,
        segment: &Segment,
        at: Position,
        read: FrameRead,
        bad: BadCopies,
    ) -> Result<Result<Position, Stop>, RecoverError> {
        let (header, blocks) = match read {
            FrameRead::Good(header, blocks) => (header, blocks),
            FrameRead::NoFrame(HeaderState::Zero) => return Ok(Err(Stop::Hole)),
            FrameRead::NoFrame(HeaderState::Newer(format)) => {
                let file = self.request.dir.device().display(&segment::path(at.segment));
                return Err(RecoverError::NewerFormat { file, offset: at.offset, format, known: FORMAT });
            }
            FrameRead::NoFrame(_) => {
                return Ok(Err(Stop::Bad { what: "these bytes are not a frame header".to_owned(), seq_last: 0 }));
            }
            FrameRead::Split => return Err(split(self.request.dir, at, self.next_seq)),
            FrameRead::BadBlocks { header, first_bad, never_written } => {
                return Ok(Err(self.judge_bad_blocks(segment, at, &header, first_bad, never_written)));
            }
        };
        if let Some(what) = self.why_stranger(segment, at, &header) {
            return Ok(Err(Stop::Stranger { what, seq_last: header.first_seq.saturating_sub(1) }));
        }
        if bad.any() {
            self.differences.note_frame(self.request.dir, &header, bad);
        }
        self.next_seq = header.last_seq() + 1;
        self.chain = header.checksum;
        self.epoch = header.epoch;
        self.end = header.end();
        self.last_time = self.last_time.max(header.time_max);
        self.watermark = self.watermark.max(header.durable_seq);
        self.bytes += header.bytes();
        if header.kind == FrameKind::Events {
            self.observe(&header, blocks);
        }
        self.hand_out();
        Ok(Ok(header.end()))
    }

    /// Takes in an event frame.
    fn observe(&mut self, header: &FrameHeader, blocks: Vec<Block>) {
        let frame = (self.observer.is_some() && self.is_wanted).then(|| frame_of(header, blocks));
        self.waiting.push_back(Waiting { first_seq: header.first_seq, last_seq: header.last_seq(), frame });
    }

    /// Counts frames and hands them out; beside a writer only once they are shown to be durable. A frame is durable as a whole,
    /// so one that holds the watermark is.
    fn hand_out(&mut self) {
        let beside_writer = self.request.mode == ScanMode::BesideWriter;
        while let Some(next) = self.waiting.pop_front_if(|next| !beside_writer || next.first_seq <= self.watermark) {
            self.counted = next.last_seq;
            let (Some(frame), Some(observer)) = (next.frame, self.observer.as_mut()) else { continue };
            if observer(&frame).is_break() {
                self.observer = None;
            }
        }
    }

    fn judge_bad_blocks(
        &self,
        segment: &Segment,
        at: Position,
        header: &FrameHeader,
        first_bad: usize,
        never_written: bool,
    ) -> Stop {
        if let Some(what) = self.why_stranger(segment, at, header) {
            return Stop::Stranger { what, seq_last: header.first_seq.saturating_sub(1) };
        }
        let seq_last = header.last_seq();
        if never_written {
            return Stop::NeverWritten { seq_last };
        }
        Stop::Bad { what: format!("the checksum of block {first_bad} of this frame does not hold"), seq_last }
    }

    /// Why a frame with a good header cannot stand here; `None`: it can.
    pub(crate) fn why_stranger(&self, segment: &Segment, at: Position, header: &FrameHeader) -> Option<String> {
        if header.engine_id != self.request.dir.engine_id() {
            return Some("this frame belongs to another engine".to_owned());
        }
        if !segment.holds(header, at.offset) {
            let Position { segment, offset } = header.at;
            return Some(format!("this frame belongs at byte {offset} of segment {segment}"));
        }
        if header.first_seq != self.next_seq {
            return Some(format!("this frame starts at {}, expected {}", header.first_seq, self.next_seq));
        }
        if header.chain != self.chain {
            return Some("this frame does not continue the one before it".to_owned());
        }
        let boot = header.kind == FrameKind::Boot;
        let epoch_fits = if boot { header.epoch > self.epoch } else { header.epoch == self.epoch };
        if !epoch_fits || (boot && at.offset != 0) || header.durable_seq >= header.first_seq {
            return Some("this frame contradicts the one before it".to_owned());
        }
        None
    }

    /// Whether the next segment continues with what would follow here.
    fn is_joined(&self, next: &LiveSegment) -> bool {
        self.header_of(next.number).is_some_and(|head| head.first_seq == self.next_seq && head.chain == self.chain)
    }

    /// A segment that is not the last one must end where the next one says or shows that it did.
    fn check_joint(&mut self, live: &LiveSegment, stopped: &Stopped, next: &LiveSegment) -> Result<(), RecoverError> {
        let what = match (&stopped.stop, live.cut) {
            (Stop::End, Some(cut)) if stopped.at.offset == cut => {
                self.check_fork(stopped.at, next)?;
                return self.check_behind_cut(stopped, live);
            }
            // The next segment repeats the checksum of the last frame of this one, so nothing that counted can be missing between.
            (_, None) if self.is_joined(next) => return self.check_rest(stopped),
            (Stop::End | Stop::Hole, None) => {
                "frames are missing here: the next segment does not continue this one".to_owned()
            }
            (Stop::Bad { what, .. } | Stop::Stranger { what, .. }, _) => what.clone(),
            (Stop::NeverWritten { .. }, _) => "blocks of this frame are zero, and later segments follow".to_owned(),
            (Stop::End | Stop::Hole, Some(_)) => "frames are missing here, before a known cut".to_owned(),
        };
        let seq_last = next.first_seq.saturating_sub(1).max(self.next_seq);
        Err(self.corrupt(stopped.at, &what, (self.next_seq, seq_last)))
    }
}
