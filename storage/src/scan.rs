//! The scan: what a journal on disk holds, and whether its end was cut off, is in doubt, or is damaged.
//!
//! Owns the judgement; writes nothing (its one side effect, in recovery, is to sync the tail files and to drop them from
//! the page cache, so that what it reads is what the medium holds). The rules, argued case by case in
//! `docs/src/journal-format.md`:
//!
//! ```text
//!  heads of all segments ─► live path (back along numbers and boot cuts) ─► walk frames ─► judge what follows
//!
//!   valid ─ valid ─ valid ─┬─ nothing but zeros .......................................... clean
//!                          ├─ first bad frame, its bad blocks never written (zero) ....... torn: cut, reported
//!                          ├─ any other bad frame ........................................ ambiguous: refused
//!                          └─ bad, but a valid frame, watermark, witness or floor above .. corrupt or tail lost
//! ```
//!
//! With a second copy (mirror) this same scan runs once per device; the longer valid tail wins.

use std::collections::BTreeMap;
use std::io;
use std::ops::ControlFlow;

use crate::block::BLOCK;
use crate::device::OpenMode;
use crate::directory::DataDirectory;
use crate::frame::{FORMAT, FrameHeader, FrameKind, HeaderState, Position, parse_header};
use crate::journal::Frame;
use crate::problem::{Problem, RESTORE};
use crate::reader::{LiveSegment, frame_of};
use crate::recover::{Floor, RecoverError};
use crate::segment::{self, FrameRead, Segment};
use crate::witness::{self, Witness, WitnessFailure};

/// Segments at the end of the list that recovery always syncs and reads in full.
const TAIL_SEGMENTS: usize = 3;

/// A part of the tail that was cut off.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cut {
    /// File, as the device shows it.
    pub file: String,
    /// Byte offset of the first bad frame.
    pub offset: u64,
    /// Bytes that hold something, from there on.
    pub bytes: u64,
    /// First sequence number that the bad frame may have held.
    pub seq_first: u64,
    /// Last sequence number of the bad frame, when its header could be read; else 0.
    pub seq_last: u64,
}

/// How the journal ends.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TailReport {
    /// With a whole frame.
    Clean,
    /// With a frame that was never completely written, as a crash leaves it. It was never acknowledged, and is cut.
    Torn(Cut),
    /// With a bad frame of which it cannot be told whether it was acknowledged; cut because the operator said so.
    Accepted(Cut),
}

/// What may be touched.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ScanMode {
    /// Sync the tail files, read past the cache.
    Recover,
    /// Read only, nobody writes.
    ReadOnly,
    /// Read only beside a running writer: the highest watermark bounds what counts.
    BesideWriter,
}

pub(crate) struct ScanRequest<'a> {
    pub(crate) dir: &'a DataDirectory,
    pub(crate) mode: ScanMode,
    pub(crate) accept_tail: bool,
    pub(crate) floor: &'a Floor,
    /// Segments that end below this are read only by their first frame; 0: read everything.
    pub(crate) replay_from: u64,
    /// Look for bytes where nothing was ever written, too.
    pub(crate) strict: bool,
}

/// What the scan found.
#[derive(Debug)]
pub(crate) struct Scan {
    pub(crate) live: Vec<LiveSegment>,
    /// End of the last valid frame; segment 0: there is none.
    pub(crate) end: Position,
    pub(crate) last_seq: u64,
    pub(crate) last_time: u64,
    pub(crate) epoch: u64,
    /// Checksum of the last valid frame.
    pub(crate) chain: u32,
    /// Highest sequence number shown to be durable.
    pub(crate) watermark: u64,
    pub(crate) witness: Witness,
    pub(crate) tail: TailReport,
    pub(crate) notes: Vec<Problem>,
    pub(crate) segment_highest: u64,
    /// Segments behind the end that hold nothing but zeros.
    pub(crate) spares: Vec<(u64, u64)>,
    pub(crate) bytes: u64,
    /// Frames read in full, of every kind.
    pub(crate) frames: u64,
}

struct Head {
    segment: Segment,
    state: HeaderState,
}

type Heads = BTreeMap<u64, Head>;

/// Called with each event frame in order; `Break`: no more calls, the scan goes on.
pub(crate) type Observer<'a> = dyn FnMut(&Frame) -> ControlFlow<()> + 'a;

/// Scans the journal of a directory.
pub(crate) fn scan(request: &ScanRequest<'_>, observer: Option<&mut Observer<'_>>) -> Result<Scan, RecoverError> {
    let (witness, note) = read_witness(request)?;
    let heads = read_heads(request, &witness)?;
    let path = live_path(request.dir, &heads)?;
    let mut walker = Walker::new(request, &heads, observer);
    walker.watermark = witness.durable_seq.max(request.floor.seq);
    walker.last_time = witness.time;
    walker.notes.extend(note);
    let stop = walker.walk(&path)?;
    let judged = walker.judge(&path, stop, &witness)?;
    Ok(walker.finish(path, judged, witness))
}

fn read_witness(request: &ScanRequest<'_>) -> Result<(Witness, Option<Problem>), RecoverError> {
    let device = &**request.dir.device();
    let file = device.display(witness::WITNESS_PATH);
    match witness::read(device, request.dir.engine_id(), request.mode == ScanMode::Recover) {
        Ok(read) => Ok((read.witness, read.problem)),
        Err(WitnessFailure::Io(source)) => Err(RecoverError::Io { file, offset: 0, source }),
        Err(WitnessFailure::Newer(format)) => Err(RecoverError::NewerFormat { file, offset: 0, format, known: FORMAT }),
        Err(WitnessFailure::NotOurs) => Err(RecoverError::NotOurs { file }),
        Err(WitnessFailure::Damaged(problem)) => Err(RecoverError::Corrupt(Box::new(problem))),
    }
}

/// Opens every segment and reads its first header. In recovery the tail files are synced and read past the cache.
fn read_heads(request: &ScanRequest<'_>, witness: &Witness) -> Result<Heads, RecoverError> {
    let device = &**request.dir.device();
    let numbers = segment::list(device).map_err(|source| RecoverError::Io {
        file: device.display(segment::JOURNAL_DIR),
        offset: 0,
        source,
    })?;
    let tail_from = numbers.len().saturating_sub(TAIL_SEGMENTS);
    let mut heads = Heads::new();
    for (index, &number) in numbers.iter().enumerate() {
        let sync = request.mode == ScanMode::Recover && (index >= tail_from || number >= witness.end.segment);
        match read_head(request, number, sync) {
            Ok(head) => {
                heads.insert(number, head);
            }
            // An unused spare that the writer beside us has just renamed.
            Err(error) if error.kind() == io::ErrorKind::NotFound && request.mode == ScanMode::BesideWriter => {}
            Err(source) => {
                return Err(RecoverError::Io { file: device.display(&segment::path(number)), offset: 0, source });
            }
        }
    }
    Ok(heads)
}

fn read_head(request: &ScanRequest<'_>, number: u64, sync: bool) -> io::Result<Head> {
    let mode = if sync { OpenMode::ReadWrite } else { OpenMode::Read };
    let segment = Segment::open(&**request.dir.device(), number, mode)?;
    if sync {
        segment.file.sync_data()?;
        segment.file.forget_cache()?;
    }
    let state = segment.read_header(0)?;
    Ok(Head { segment, state })
}

/// The segments with live frames, oldest first: back from the newest one whose first header is good, along the numbers
/// and along the cuts of boot frames.
fn live_path(dir: &DataDirectory, heads: &Heads) -> Result<Vec<LiveSegment>, RecoverError> {
    let newest = heads.iter().rev().find(|(_, head)| matches!(head.state, HeaderState::Valid(_)));
    let Some((&newest, _)) = newest else { return Ok(Vec::new()) };
    let mut path: Vec<LiveSegment> = Vec::new();
    let (mut number, mut cut) = (newest, None);
    loop {
        let header = path_header(dir, heads, number, path.last())?;
        path.push(LiveSegment { number, first_seq: header.first_seq, cut });
        (number, cut) = match header.kind {
            FrameKind::Boot if header.cut.segment == 0 => break,
            FrameKind::Boot => (header.cut.segment, Some(header.cut.offset)),
            FrameKind::Events | FrameKind::Seal => (number - 1, None),
        };
        if path.last().is_some_and(|later| number >= later.number) || cut == Some(0) {
            let what = "the boot frame names a cut that cannot be";
            return Err(corrupt(dir, newest, 0, what, (header.first_seq, 0)));
        }
    }
    path.reverse();
    Ok(path)
}

/// The first header of a segment on the live path; `later` is the segment after it there.
fn path_header(
    dir: &DataDirectory,
    heads: &Heads,
    number: u64,
    later: Option<&LiveSegment>,
) -> Result<FrameHeader, RecoverError> {
    let device = dir.device();
    let file = device.display(&segment::path(number));
    let seq_last = later.map_or(0, |later| later.first_seq.saturating_sub(1));
    let Some(head) = heads.get(&number) else {
        let what = "this segment is missing: the one after it continues it";
        let problem = Problem::new(file, 0, what, "put the file back, or restore the directory from a backup");
        return Err(RecoverError::MissingSegment(Box::new(problem.with_seqs(0, seq_last))));
    };
    match head.state {
        HeaderState::Newer(format) => Err(RecoverError::NewerFormat { file, offset: 0, format, known: FORMAT }),
        HeaderState::Zero | HeaderState::Garbage => {
            let what = "the first frame of this segment is damaged, and later segments follow";
            Err(corrupt(dir, number, 0, what, (0, seq_last)))
        }
        HeaderState::Valid(header) if header.engine_id != dir.engine_id() => Err(RecoverError::NotOurs { file }),
        HeaderState::Valid(header) if !head.segment.holds(&header, 0) => {
            let what = if header.at == (Position { segment: number, offset: 0 }) {
                format!("this segment is {} bytes long, it was {}", head.segment.bytes, header.segment_bytes)
            } else {
                format!("this file holds segment {}", header.at.segment)
            };
            Err(corrupt(dir, number, 0, &what, (header.first_seq, 0)))
        }
        HeaderState::Valid(header) if later.is_some_and(|later| later.first_seq < header.first_seq) => {
            Err(corrupt(dir, number, 0, "sequence numbers fall from this segment to the next", (header.first_seq, 0)))
        }
        HeaderState::Valid(header) => Ok(header),
    }
}

fn corrupt(dir: &DataDirectory, number: u64, offset: u64, what: &str, seqs: (u64, u64)) -> RecoverError {
    let file = dir.device().display(&segment::path(number));
    RecoverError::Corrupt(Box::new(Problem::new(file, offset, what, RESTORE).with_seqs(seqs.0, seqs.1)))
}

/// Why the walk through a segment stopped.
#[derive(Clone, Debug)]
enum Stop {
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
struct Stopped {
    at: Position,
    stop: Stop,
}

/// What lies behind the stop.
struct Remains {
    first: Option<Position>,
    blocks: u64,
    valid_later: Option<(Position, FrameHeader)>,
    newer: Option<(Position, u16)>,
}

struct Walker<'a, 'o> {
    request: &'a ScanRequest<'a>,
    heads: &'a Heads,
    observer: Option<&'a mut Observer<'o>>,
    next_seq: u64,
    chain: u32,
    epoch: u64,
    end: Position,
    last_time: u64,
    watermark: u64,
    notes: Vec<Problem>,
    spares: Vec<(u64, u64)>,
    bytes: u64,
    frames: u64,
}

impl<'a, 'o> Walker<'a, 'o> {
    fn new(request: &'a ScanRequest<'a>, heads: &'a Heads, observer: Option<&'a mut Observer<'o>>) -> Self {
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
            frames: 0,
        }
    }

    fn io_error(&self, at: Position) -> impl FnOnce(io::Error) -> RecoverError + use<> {
        let file = self.request.dir.device().display(&segment::path(at.segment));
        move |source| RecoverError::Io { file, offset: at.offset, source }
    }

    fn corrupt(&self, at: Position, what: &str, seqs: (u64, u64)) -> RecoverError {
        corrupt(self.request.dir, at.segment, at.offset, what, seqs)
    }

    fn header_of(&self, number: u64) -> Option<FrameHeader> {
        match self.heads.get(&number)?.state {
            HeaderState::Valid(header) => Some(header),
            _ => None,
        }
    }

    /// Walks the live segments that must be read; returns where and why the last one stopped.
    fn walk(&mut self, path: &[LiveSegment]) -> Result<Stopped, RecoverError> {
        let Some(newest) = path.len().checked_sub(1) else {
            return Ok(Stopped { at: Position::default(), stop: Stop::End });
        };
        let wanted = path.partition_point(|live| live.first_seq <= self.request.replay_from).saturating_sub(1);
        let start = wanted.min(newest.saturating_sub(1));
        for live in &path[..start] {
            self.skip(live);
        }
        if let Some(header) = self.header_of(path[start].number) {
            (self.next_seq, self.chain) = (header.first_seq, header.chain);
            self.epoch = if header.kind == FrameKind::Boot { header.epoch.saturating_sub(1) } else { header.epoch };
        }
        for (index, live) in path.iter().enumerate().skip(start) {
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
        if let Some(header) = self.header_of(live.number) {
            self.watermark = self.watermark.max(header.durable_seq);
            self.last_time = self.last_time.max(header.time_max);
        }
        self.bytes += live.cut.or_else(|| self.heads.get(&live.number).map(|head| head.segment.bytes)).unwrap_or(0);
    }

    fn walk_segment(&mut self, live: &LiveSegment) -> Result<Stopped, RecoverError> {
        let heads = self.heads;
        let Some(head) = heads.get(&live.number) else {
            return Ok(Stopped { at: Position { segment: live.number, offset: 0 }, stop: Stop::Hole });
        };
        if self.request.mode == ScanMode::Recover {
            let at = Position { segment: live.number, offset: 0 };
            head.segment.file.forget_cache().map_err(self.io_error(at))?;
        }
        let limit = live.cut.unwrap_or(head.segment.bytes).min(head.segment.bytes);
        let mut at = Position { segment: live.number, offset: 0 };
        while at.offset < limit {
            let read = head.segment.read_frame(at.offset).map_err(self.io_error(at))?;
            match self.accept(&head.segment, at, read)? {
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
            FrameRead::BadBlocks { header, first_bad, never_written } => {
                return Ok(Err(self.judge_bad_blocks(segment, at, &header, first_bad, never_written)));
            }
        };
        if let Some(what) = self.why_stranger(segment, at, &header) {
            return Ok(Err(Stop::Stranger { what, seq_last: header.first_seq.saturating_sub(1) }));
        }
        self.next_seq = header.last_seq() + 1;
        self.chain = header.checksum;
        self.epoch = header.epoch;
        self.end = header.end();
        self.last_time = self.last_time.max(header.time_max);
        self.watermark = self.watermark.max(header.durable_seq);
        self.bytes += header.bytes();
        self.frames += 1;
        if header.kind == FrameKind::Events {
            self.observe(&header, blocks);
        }
        Ok(Ok(header.end()))
    }

    fn observe(&mut self, header: &FrameHeader, blocks: Vec<crate::block::Block>) {
        let Some(observer) = self.observer.as_mut() else { return };
        if observer(&frame_of(header, blocks)).is_break() {
            self.observer = None;
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
    fn why_stranger(&self, segment: &Segment, at: Position, header: &FrameHeader) -> Option<String> {
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

    /// A segment that is not the last one must end where the next one says or shows that it did.
    fn check_joint(&mut self, live: &LiveSegment, stopped: &Stopped, next: &LiveSegment) -> Result<(), RecoverError> {
        let what = match (&stopped.stop, live.cut) {
            (Stop::End, Some(cut)) if stopped.at.offset == cut => return Ok(()),
            (Stop::End | Stop::Hole, None) => {
                let header = self.header_of(next.number);
                let joined = header.is_some_and(|h| h.first_seq == self.next_seq && h.chain == self.chain);
                if joined {
                    return self.check_rest(stopped);
                }
                "frames are missing here: the next segment does not continue this one".to_owned()
            }
            (Stop::Bad { what, .. } | Stop::Stranger { what, .. }, _) => what.clone(),
            (Stop::NeverWritten { .. }, _) => "blocks of this frame are zero, and later segments follow".to_owned(),
            (Stop::End | Stop::Hole, Some(_)) => "frames are missing here, before a known cut".to_owned(),
        };
        let seq_last = next.first_seq.saturating_sub(1).max(self.next_seq);
        Err(self.corrupt(stopped.at, &what, (self.next_seq, seq_last)))
    }

    /// In a strict scan: nothing may stand behind the last frame of a full segment.
    fn check_rest(&mut self, stopped: &Stopped) -> Result<(), RecoverError> {
        if !self.request.strict {
            return Ok(());
        }
        let remains = self.remains_in(stopped.at)?;
        if let Some(first) = remains.first {
            let file = self.request.dir.device().display(&segment::path(first.segment));
            let what = "bytes where nothing was ever written; no event is concerned";
            self.notes.push(Problem::new(file, first.offset, what, "check the disk; the data is whole"));
        }
        Ok(())
    }

    /// Looks at everything from `at` to the end of its segment.
    fn remains_in(&self, at: Position) -> Result<Remains, RecoverError> {
        let mut remains = Remains { first: None, blocks: 0, valid_later: None, newer: None };
        let Some(head) = self.heads.get(&at.segment) else { return Ok(remains) };
        let engine_id = self.request.dir.engine_id();
        let walked = head.segment.run_on(at.offset, |offset, block| {
            let here = Position { segment: at.segment, offset };
            remains.first.get_or_insert(here);
            remains.blocks += 1;
            match parse_header(block) {
                HeaderState::Valid(header) if header.at == here && header.engine_id == engine_id && here != at => {
                    remains.valid_later.get_or_insert((here, header));
                }
                HeaderState::Newer(format) => {
                    remains.newer.get_or_insert((here, format));
                }
                _ => {}
            }
            true
        });
        walked.map_err(self.io_error(at))?;
        Ok(remains)
    }

    /// Looks at everything behind the stop: the rest of its segment, and all later segments.
    fn remains(&mut self, stopped: &Stopped) -> Result<Remains, RecoverError> {
        let mut all = self.remains_in(stopped.at)?;
        let later: Vec<(u64, u64)> =
            self.heads.range(stopped.at.segment + 1..).map(|(&number, head)| (number, head.segment.bytes)).collect();
        for (number, bytes) in later {
            let remains = self.remains_in(Position { segment: number, offset: 0 })?;
            if remains.first.is_none() {
                self.spares.push((number, bytes));
            }
            all.first = all.first.or(remains.first);
            all.blocks += remains.blocks;
            all.valid_later = all.valid_later.or(remains.valid_later);
            all.newer = all.newer.or(remains.newer);
        }
        Ok(all)
    }

    /// Judges the end of the journal.
    fn judge(&mut self, path: &[LiveSegment], stopped: Stopped, witness: &Witness) -> Result<TailReport, RecoverError> {
        if self.request.mode == ScanMode::BesideWriter {
            return self.judge_beside_writer(&stopped, witness);
        }
        let remains = self.remains(&stopped)?;
        if let Some((at, format)) = remains.newer {
            let file = self.request.dir.device().display(&segment::path(at.segment));
            return Err(RecoverError::NewerFormat { file, offset: at.offset, format, known: FORMAT });
        }
        if let Some((at, header)) = remains.valid_later {
            let what = format!(
                "a frame is missing or damaged here, while a good one follows at byte {} of segment {}",
                at.offset, at.segment
            );
            return Err(self.corrupt(stopped.at, &what, (self.next_seq, header.first_seq.saturating_sub(1))));
        }
        if let Stop::Stranger { what, seq_last } = &stopped.stop {
            return Err(self.corrupt(stopped.at, what, (self.next_seq, *seq_last)));
        }
        self.check_durable(&stopped, &remains, witness)?;
        self.judge_tail(path, &stopped, &remains)
    }

    /// Beside a writer everything above the watermark may be in the middle of being written: only what is below counts.
    fn judge_beside_writer(&self, stopped: &Stopped, witness: &Witness) -> Result<TailReport, RecoverError> {
        let remains = Remains { first: Some(stopped.at), blocks: 0, valid_later: None, newer: None };
        self.check_durable(stopped, &remains, witness)?;
        Ok(TailReport::Clean)
    }

    /// Nothing that was shown to be durable may be missing.
    fn check_durable(&self, stopped: &Stopped, remains: &Remains, witness: &Witness) -> Result<(), RecoverError> {
        let seq_lost = self.watermark >= self.next_seq;
        if !seq_lost && self.end >= witness.end {
            return Ok(());
        }
        let at = if stopped.at.segment == 0 { witness.end } else { stopped.at };
        let file = self.request.dir.device().display(&segment::path(at.segment));
        let seqs = if seq_lost { (self.next_seq, self.watermark) } else { (0, 0) };
        let shown_by = if self.request.floor.seq > witness.durable_seq && self.request.floor.seq == self.watermark {
            self.request.floor.shown_by.as_str()
        } else if witness.durable_seq >= self.next_seq || !seq_lost {
            "the witness"
        } else {
            "a later watermark"
        };
        let damaged =
            remains.first.is_some_and(|first| first == stopped.at) || !matches!(stopped.stop, Stop::Hole | Stop::End);
        let what = format!(
            "the journal {} here, but {shown_by} shows that it was durable up to sequence number {}, byte {} of segment {}",
            if damaged { "is damaged" } else { "ends" },
            self.watermark,
            witness.end.offset,
            witness.end.segment,
        );
        let problem = Box::new(Problem::new(file, at.offset, what, RESTORE).with_seqs(seqs.0, seqs.1));
        Err(if damaged { RecoverError::Corrupt(problem) } else { RecoverError::TailLost(problem) })
    }

    /// The tail proper: clean, torn or ambiguous.
    fn judge_tail(
        &self,
        path: &[LiveSegment],
        stopped: &Stopped,
        remains: &Remains,
    ) -> Result<TailReport, RecoverError> {
        let Some(first) = remains.first else { return Ok(TailReport::Clean) };
        let in_segment = path.last().is_some_and(|live| live.number == first.segment);
        let (at, seq_last, doubt) = match &stopped.stop {
            Stop::NeverWritten { seq_last } => (stopped.at, *seq_last, None),
            Stop::Bad { what, seq_last } => (stopped.at, *seq_last, Some(what.clone())),
            Stop::Stranger { what, .. } => (stopped.at, 0, Some(what.clone())),
            Stop::End | Stop::Hole if in_segment => (stopped.at, 0, None),
            Stop::End | Stop::Hole if first.offset == 0 => {
                (first, 0, Some("these bytes are not a frame header".to_owned()))
            }
            Stop::End | Stop::Hole => (Position { segment: first.segment, offset: 0 }, 0, None),
        };
        let file = self.request.dir.device().display(&segment::path(at.segment));
        let bytes = remains.blocks * BLOCK;
        let cut = Cut { file: file.clone(), offset: at.offset, bytes, seq_first: self.next_seq, seq_last };
        let Some(what) = doubt else { return Ok(TailReport::Torn(cut)) };
        if self.request.accept_tail {
            return Ok(TailReport::Accepted(cut));
        }
        let what = format!(
            "{what}. It is the last frame and may or may not have been acknowledged (a write that was torn in the middle \
             of a block, or damage)"
        );
        let step = "look for another copy of this file; else continue with --accept-tail, which cuts it off";
        let problem = Problem::new(file, at.offset, what, step).with_seqs(self.next_seq, seq_last);
        Err(RecoverError::Ambiguous(Box::new(problem)))
    }

    fn finish(self, path: Vec<LiveSegment>, tail: TailReport, witness: Witness) -> Scan {
        let beside_writer = self.request.mode == ScanMode::BesideWriter;
        let mut live = path;
        if !beside_writer {
            live.retain(|live| live.number <= self.end.segment);
            if let Some(last) = live.last_mut() {
                last.cut = Some(self.end.offset);
            }
        }
        let read_to = self.next_seq - 1;
        let segment_highest = self.heads.keys().next_back().copied().unwrap_or(0).max(witness.end.segment);
        Scan {
            live,
            end: self.end,
            last_seq: if beside_writer { read_to.min(self.watermark) } else { read_to },
            last_time: self.last_time,
            epoch: self.epoch,
            chain: self.chain,
            watermark: self.watermark,
            witness,
            tail,
            notes: self.notes,
            segment_highest,
            spares: self.spares,
            bytes: self.bytes,
            frames: self.frames,
        }
    }
}
