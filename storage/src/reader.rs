//! Reading event frames back out of segments, beside the writer.
//!
//! Owns the index of live segments and the readers on it; refuses to decide what is durable (the caller says up to
//! where) and never reads dead bytes (behind a cut). A frame is handed out only when every checksum holds and its
//! sequence numbers continue the last one's (SEQ-1).

use std::io;
use std::sync::Arc;

use parking_lot::RwLock;

use crate::block::{AlignedBytes, BLOCK, Block};
use crate::catalogue::FrameEntry;
use crate::copies::{Check, FrameRead, HeaderRead};
use crate::device::OpenMode;
use crate::directory::DataDirectory;
use crate::frame::{FrameHeader, FrameKind, HeaderState};
use crate::journal::{Frame, FrameLocation, FrameReader, FrameSource, ReadError};
use crate::problem::{Problem, RESTORE};
use crate::segment::{self, Segment};

/// A segment that holds live frames.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct LiveSegment {
    pub(crate) number: u64,
    /// First sequence number in it, or the next one when it holds none.
    pub(crate) first_seq: u64,
    /// Checksum of the frame before its first one.
    pub(crate) chain: u32,
    /// Where its live frames end, once a later epoch has said so.
    pub(crate) cut: Option<u64>,
    /// CRC-32C of what lies behind the cut, as the later epoch noted it.
    pub(crate) rest_checksum: Option<u32>,
}

/// Live segments in order, shared by the writer and all readers.
pub(crate) type Index = Arc<RwLock<Vec<LiveSegment>>>;

/// A frame handed out: the payload part of its blocks.
pub(crate) fn frame_of(header: &FrameHeader, blocks: Vec<Block>) -> Frame {
    let length = usize::try_from(header.payload_bytes).expect("a parsed header's payload fits into its blocks");
    Frame {
        first_seq: header.first_seq,
        count: header.count,
        time_min: header.time_min,
        time_max: header.time_max,
        location: FrameLocation { segment: header.at.segment, offset: header.at.offset },
        bytes: Arc::new(AlignedBytes::from_blocks(blocks, header.payload_start(), length)),
    }
}

/// The [`FrameSource`] of segments.
pub(crate) struct SegmentSource {
    pub(crate) dir: DataDirectory,
    pub(crate) index: Index,
}

impl SegmentSource {
    fn io_error(&self, number: u64, offset: u64, source: io::Error) -> ReadError {
        ReadError::Io { file: self.dir.device().display(&segment::path(number)), offset, source }
    }

    fn corrupt(&self, number: u64, offset: u64, seq: u64, what: &str) -> ReadError {
        let file = self.dir.device().display(&segment::path(number));
        ReadError::Corrupt(Box::new(Problem::new(file, offset, what, RESTORE).with_seqs(seq, 0)))
    }

    fn open(&self, number: u64) -> Result<Segment, ReadError> {
        Segment::open(&self.dir, number, OpenMode::Read).map_err(|source| self.io_error(number, 0, source))
    }

    /// The live segment that holds `seq`, or will.
    fn segment_of(&self, seq: u64) -> Option<LiveSegment> {
        let index = self.index.read();
        let after = index.partition_point(|live| live.first_seq <= seq);
        index.get(after.saturating_sub(1)).copied()
    }

    /// The live segment after this one.
    fn segment_after(&self, number: u64) -> Option<LiveSegment> {
        let index = self.index.read();
        let after = index.partition_point(|live| live.number <= number);
        index.get(after).copied()
    }

    /// Where the live frames of an open segment end.
    fn limit(&self, open: &Segment) -> u64 {
        let index = self.index.read();
        let at = index.partition_point(|live| live.number < open.number);
        index.get(at).filter(|live| live.number == open.number).and_then(|live| live.cut).unwrap_or(open.bytes)
    }
}

impl FrameSource for Arc<SegmentSource> {
    fn read_from(&self, seq: u64) -> Result<Box<dyn FrameReader>, ReadError> {
        Ok(Box::new(SegmentReader { source: Arc::clone(self), target: seq.max(1), open: None, offset: 0, last: None }))
    }

    fn frame_at(&self, location: FrameLocation) -> Result<Option<Frame>, ReadError> {
        let known = self.index.read().iter().any(|live| live.number == location.segment);
        if !known || !location.offset.is_multiple_of(BLOCK) {
            return Ok(None);
        }
        let open = self.open(location.segment)?;
        if location.offset >= self.limit(&open) {
            return Ok(None);
        }
        let read = open.read_frame(location.offset, Check::Enough);
        match read.map_err(|source| self.io_error(location.segment, location.offset, source))?.0 {
            FrameRead::Good(header, blocks)
                if header.kind == FrameKind::Events
                    && header.engine_id == self.dir.engine_id()
                    && open.holds(&header, location.offset) =>
            {
                Ok(Some(frame_of(&header, blocks)))
            }
            FrameRead::BadBlocks { header, .. } => {
                let what = "a block checksum does not hold";
                Err(self.corrupt(location.segment, location.offset, header.first_seq, what))
            }
            FrameRead::Good(..) | FrameRead::NoFrame(_) | FrameRead::Split => Ok(None),
        }
    }
}

struct SegmentReader {
    source: Arc<SegmentSource>,
    /// The next sequence number to hand out.
    target: u64,
    open: Option<Segment>,
    offset: u64,
    /// Those of the frame handed out last: its memory is used again when nobody has it any more. New memory for each frame is touched for
    /// the first time each time.
    last: Option<Arc<AlignedBytes>>,
}

/// What stands at the reader's position.
enum Step {
    /// Not for this reader: go on behind it.
    Skip(u64),
    /// The event frame that holds the target.
    Take(FrameHeader),
    /// The segment ends here.
    End,
}

impl SegmentReader {
    fn corrupt(&self, number: u64, what: &str) -> ReadError {
        self.source.corrupt(number, self.offset, self.target, what)
    }

    /// The open segment, opening the one that holds the target at first.
    fn current(&mut self) -> Result<Segment, ReadError> {
        if let Some(open) = &self.open {
            return Ok(open.clone());
        }
        let live = self.source.segment_of(self.target);
        let Some(live) = live.filter(|live| live.first_seq <= self.target) else {
            return Err(self.corrupt(0, "no segment holds this sequence number"));
        };
        let open = self.source.open(live.number)?;
        self.open = Some(open.clone());
        Ok(open)
    }

    fn step(&self, open: &Segment) -> Result<Step, ReadError> {
        if self.offset + BLOCK > self.source.limit(open) {
            return Ok(Step::End);
        }
        let read = open.read_header(self.offset, Check::Enough);
        let (read, _) = read.map_err(|source| self.source.io_error(open.number, self.offset, source))?;
        let HeaderRead::State(state) = read else {
            return Err(self.corrupt(open.number, "the copies hold two different frames here"));
        };
        match state {
            HeaderState::Valid(header)
                if open.holds(&header, self.offset) && header.engine_id == self.source.dir.engine_id() =>
            {
                if header.kind != FrameKind::Events || header.last_seq() < self.target {
                    return Ok(Step::Skip(header.bytes()));
                }
                if header.first_seq > self.target {
                    return Err(self.corrupt(open.number, "frames are missing before this one"));
                }
                Ok(Step::Take(header))
            }
            HeaderState::Zero => Ok(Step::End),
            // Bytes where nothing was ever written: the next segment continues with what would follow here.
            _ if self.source.segment_after(open.number).is_some_and(|next| next.first_seq <= self.target) => {
                Ok(Step::End)
            }
            HeaderState::Valid(_) => Err(self.corrupt(open.number, "this frame belongs elsewhere")),
            HeaderState::Garbage => Err(self.corrupt(open.number, "the frame header is damaged")),
            HeaderState::Newer(_) => Err(self.corrupt(open.number, "this frame was written by newer software")),
        }
    }

    /// Goes to the next live segment.
    fn advance(&mut self, from: &Segment) -> Result<(), ReadError> {
        let Some(next) = self.source.segment_after(from.number) else {
            return Err(self.corrupt(from.number, "the journal ends before a sequence number that was durable"));
        };
        self.open = Some(self.source.open(next.number)?);
        self.offset = 0;
        Ok(())
    }
}

impl SegmentReader {
    /// Goes to the next event frame up to `up_to`, and stays before it.
    fn seek(&mut self, up_to: u64) -> Result<Option<(Segment, FrameHeader)>, ReadError> {
        while self.target <= up_to {
            let open = self.current()?;
            match self.step(&open)? {
                Step::Skip(bytes) => self.offset += bytes,
                Step::End => self.advance(&open)?,
                Step::Take(header) if header.last_seq() > up_to => return Ok(None),
                Step::Take(header) => return Ok(Some((open, header))),
            }
        }
        Ok(None)
    }

    /// Goes behind a frame.
    fn pass(&mut self, header: &FrameHeader) {
        self.target = header.last_seq() + 1;
        self.offset += header.bytes();
    }
}

impl FrameReader for SegmentReader {
    fn next(&mut self, up_to: u64) -> Result<Option<Frame>, ReadError> {
        let Some((open, header)) = self.seek(up_to)? else { return Ok(None) };
        let spare = self.last.take().and_then(Arc::into_inner).map(AlignedBytes::into_blocks).unwrap_or_default();
        let read = open.read_frame_into(self.offset, Check::Enough, spare);
        match read.map_err(|source| self.source.io_error(open.number, self.offset, source))?.0 {
            FrameRead::Good(again, blocks) if again == header => {
                self.pass(&header);
                let frame = frame_of(&header, blocks);
                self.last = Some(Arc::clone(&frame.bytes));
                Ok(Some(frame))
            }
            _ => Err(self.corrupt(open.number, "a block checksum does not hold")),
        }
    }

    fn next_entry(&mut self, up_to: u64) -> Result<Option<FrameEntry>, ReadError> {
        let Some((_, header)) = self.seek(up_to)? else { return Ok(None) };
        self.pass(&header);
        Ok(Some(FrameEntry {
            first_seq: header.first_seq,
            count: header.count,
            segment: header.at.segment,
            offset: header.at.offset,
            time_min: header.time_min,
            time_max: header.time_max,
        }))
    }
}
