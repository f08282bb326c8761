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
//! With a second copy (mirror) each place is read in both (`copies.rs`): what one of them holds is there, so the longer valid tail wins
//! by itself. What the other lacks is noted, to be rebuilt before the boot frame is written. Two copies that went on differently after a
//! point are told from each other and refused (**FRK-1**): neither may be thrown away unasked.

use std::collections::BTreeMap;
use std::io;
use tp_planted::{Bug, has};

use crate::copies::{BadCopies, COPIES_MAX, Check, HeaderRead};
use crate::device::OpenMode;
use crate::directory::DataDirectory;
use crate::frame::{FORMAT, FrameHeader, FrameKind, HeaderState, Position};
use crate::problem::{Problem, RESTORE};
use crate::reader::LiveSegment;
use crate::rebuild::{Differences, Extent};
use crate::recover::{EachFrame, Floor, RecoverError};
use crate::scan_walk::Walker;
use crate::segment::{self, Segment};
use crate::syncs::Syncs;
use crate::witness::{self, Witness, WitnessFailure, WitnessWriter};

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
    pub(crate) spares: Vec<Spare>,
    pub(crate) bytes: u64,
    /// In a strict scan: bytes where nothing was ever written.
    pub(crate) strays: Vec<Problem>,
    /// What one copy does not hold and the other does.
    pub(crate) differences: Differences,
    /// Where the oldest witness stands: before it the copies are alike.
    parted: Position,
}

impl Scan {
    /// Before a copy is rebuilt: every copy's witness says how far the journal is durable, so that one that is only half rebuilt is not
    /// taken for a whole journal when it is opened alone. Its place stays where the copies parted: a start after this one was cut off
    /// reads from there again.
    pub(crate) fn vouch(&mut self, dir: &DataDirectory) -> Result<(), RecoverError> {
        if self.differences.is_empty() {
            return Ok(());
        }
        let witness = Witness {
            engine_id: dir.engine_id(),
            epoch: self.epoch,
            durable_seq: self.last_seq,
            time: self.last_time,
            segment_first: self.live.first().map_or(0, |live| live.number),
            end: self.parted,
            ..self.witness
        };
        let failed = |(file, source)| RecoverError::writing(file, 0)(source);
        let mut writer = WitnessWriter::open(dir, &self.witness).map_err(failed)?;
        let named = |(copy, source): (usize, io::Error)| (dir.devices()[copy].display(witness::WITNESS_PATH), source);
        // Both slots of each file, so that an older one does not speak of another end.
        for _ in 0..2 {
            writer.write(witness, &mut Syncs::in_turn()).map_err(|error| failed(named(error)))?;
        }
        self.witness.writes += 2;
        Ok(())
    }

    /// All findings that were no reason to refuse.
    pub(crate) fn all_notes(&self) -> Vec<Problem> {
        self.notes.iter().chain(&self.strays).chain(self.differences.problems()).cloned().collect()
    }

    /// What each live segment holds. (Not beside a writer: the last one goes on there.)
    pub(crate) fn extents(&self) -> impl Iterator<Item = Extent> {
        Extent::all(&self.live, (self.last_seq + 1, self.chain))
    }
}

/// A segment behind the end.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Spare {
    pub(crate) number: u64,
    /// Its length, if every copy has it whole.
    pub(crate) bytes: Option<u64>,
}

/// What is known of a segment by its first frame. The files are not kept open: a journal has more of them than a process may open.
pub(crate) struct Head {
    number: u64,
    /// Length of its file.
    pub(crate) bytes: u64,
    /// The copies that have it, as long as it should be.
    pub(crate) whole: [bool; COPIES_MAX],
    pub(crate) state: HeaderState,
    pub(crate) bad: BadCopies,
}

impl Head {
    pub(crate) fn open(&self, dir: &DataDirectory) -> io::Result<Segment> {
        Segment::open(dir, self.number, OpenMode::Read)
    }
}

pub(crate) type Heads = BTreeMap<u64, Head>;

/// Scans the journal of a directory.
pub(crate) fn scan(request: &ScanRequest<'_>, observer: Option<&mut EachFrame<'_>>) -> Result<Scan, RecoverError> {
    let (witnesses, notes) = read_witnesses(request)?;
    let witness = newest(&witnesses);
    let heads = read_heads(request, &witness)?;
    let path = live_path(request.dir, &heads)?;
    let mut walker = Walker::new(request, &heads, observer);
    let parted = parted(request.dir, &witnesses);
    walker.alike_to = if request.dir.is_mirrored() { parted.segment } else { u64::MAX };
    walker.watermark = witness.durable_seq.max(request.floor.seq);
    walker.last_time = witness.time;
    walker.notes.extend(request.dir.notes().iter().cloned().chain(notes));
    let stop = walker.walk(&path)?;
    let judged = walker.judge(&path, &stop, &witness)?;
    walker.check_witnesses(&path, &witnesses)?;
    walker.compare_rest()?;
    Ok(walker.finish(path, judged, (witness, parted)))
}

/// The witness of each copy that has a good one: at least one. With a mirror a bad one beside a good one is only noted.
fn read_witnesses(request: &ScanRequest<'_>) -> Result<(Vec<Witness>, Vec<Problem>), RecoverError> {
    let (mut good, mut notes, mut damaged) = (Vec::new(), Vec::new(), None);
    for device in request.dir.devices() {
        let file = device.display(witness::WITNESS_PATH);
        match witness::read(&**device, request.dir.engine_id(), request.mode == ScanMode::Recover) {
            Ok(read) => {
                good.push(read.witness);
                notes.extend(read.problem);
            }
            Err(WitnessFailure::Io(source)) if request.dir.is_mirrored() => {
                let what = format!("the witness cannot be read: {source}");
                damaged = Some(Problem::new(file, 0, what, RESTORE));
            }
            Err(WitnessFailure::Io(source)) => return Err(RecoverError::Io { file, offset: 0, source }),
            Err(WitnessFailure::Newer(format)) => {
                return Err(RecoverError::NewerFormat { file, offset: 0, format, known: FORMAT });
            }
            Err(WitnessFailure::NotOurs) => return Err(RecoverError::NotOurs { file }),
            Err(WitnessFailure::Damaged(problem)) => damaged = Some(problem),
        }
    }
    match (good.is_empty(), damaged) {
        (true, Some(problem)) => Err(RecoverError::Corrupt(Box::new(problem))),
        (_, damaged) => {
            notes.extend(damaged.map(|mut problem| {
                "the other copy's witness is used, and this one is written again when the engine runs"
                    .clone_into(&mut problem.next_step);
                problem
            }));
            Ok((good, notes))
        }
    }
}

/// The earliest place at which the copies may have parted: a copy that was left behind has a hole, or another end, no earlier than where
/// its witness stands. Everything from that segment on is read in full, whatever checkpoints show.
fn parted(dir: &DataDirectory, witnesses: &[Witness]) -> Position {
    let oldest = witnesses.iter().map(|witness| witness.end).min();
    oldest.filter(|_| witnesses.len() == dir.devices().len()).unwrap_or_default()
}

/// The one that saw most of the journal.
fn newest(witnesses: &[Witness]) -> Witness {
    let by_age = witnesses.iter().max_by_key(|witness| (witness.epoch, witness.end, witness.durable_seq));
    let mut newest = by_age.copied().unwrap_or_default();
    newest.writes = witnesses.iter().map(|witness| witness.writes).max().unwrap_or(0);
    newest
}

/// Opens every segment and reads its first header. In recovery the tail files are synced and read past the cache.
fn read_heads(request: &ScanRequest<'_>, witness: &Witness) -> Result<Heads, RecoverError> {
    let mut numbers = std::collections::BTreeSet::new();
    for device in request.dir.devices() {
        match segment::list(&**device) {
            Ok(listed) => numbers.extend(listed),
            // A copy whose folder is gone has no segments.
            Err(error) if error.kind() == io::ErrorKind::NotFound && request.dir.is_mirrored() => {}
            Err(source) => {
                return Err(RecoverError::Io { file: device.display(segment::JOURNAL_DIR), offset: 0, source });
            }
        }
    }
    let tail_from = numbers.len().saturating_sub(TAIL_SEGMENTS);
    let mut heads = Heads::new();
    for (index, &number) in numbers.iter().enumerate() {
        let sync = request.mode == ScanMode::Recover && (index >= tail_from || number >= witness.end.segment);
        let file = || request.dir.device().display(&segment::path(number));
        match read_head(request, number, sync) {
            Ok(Some(head)) => {
                heads.insert(number, head);
            }
            Ok(None) => return Err(split(request.dir, Position { segment: number, offset: 0 }, 0)),
            // An unused spare that a writer has just renamed; a live segment would be missed on the live path.
            Err(error) if error.kind() == io::ErrorKind::NotFound && request.mode != ScanMode::Recover => {}
            Err(source) => return Err(RecoverError::Io { file: file(), offset: 0, source }),
        }
    }
    Ok(heads)
}

/// `None`: the copies hold two good frames that differ.
fn read_head(request: &ScanRequest<'_>, number: u64, sync: bool) -> io::Result<Option<Head>> {
    let mode = if sync { OpenMode::ReadWrite } else { OpenMode::Read };
    let segment = Segment::open(request.dir, number, mode)?;
    if sync {
        if !has(Bug::SkipOpenSync) {
            segment.files().try_for_each(|(_, file)| file.sync_data())?;
        }
        if !has(Bug::TrustCache) {
            segment.forget_cache()?;
        }
    }
    let (read, bad) = segment.read_header(0, Check::All)?;
    let HeaderRead::State(state) = read else { return Ok(None) };
    let whole = std::array::from_fn(|copy| copy < request.dir.devices().len() && segment.is_whole(copy));
    Ok(Some(Head { number, bytes: segment.bytes, whole, state, bad }))
}

/// The copies hold different good frames.
pub(crate) fn split(dir: &DataDirectory, at: Position, seq: u64) -> RecoverError {
    let file = dir.devices().last().map_or_else(String::new, |mirror| mirror.display(&segment::path(at.segment)));
    let what =
        "the mirror goes another way from here on than the data directory does: each was written to without the other";
    let step =
        "find out which of the two is right; then start on that one alone, and give it an empty folder as its mirror";
    RecoverError::Diverged(Box::new(Problem::new(file, at.offset, what, step).with_seqs(seq, 0)))
}

/// The segments with live frames, oldest first: back from the newest one whose first header is good, along the numbers
/// and along the cuts of boot frames.
fn live_path(dir: &DataDirectory, heads: &Heads) -> Result<Vec<LiveSegment>, RecoverError> {
    let newest = heads.iter().rev().find(|(_, head)| matches!(head.state, HeaderState::Valid(_)));
    let Some((&newest, _)) = newest else { return Ok(Vec::new()) };
    let mut path: Vec<LiveSegment> = Vec::new();
    let (mut number, mut cut, mut rest_checksum) = (newest, None, None);
    loop {
        let header = path_header(dir, heads, number, path.last())?;
        path.push(LiveSegment { number, first_seq: header.first_seq, chain: header.chain, cut, rest_checksum });
        (number, cut, rest_checksum) = match header.kind {
            FrameKind::Boot if header.cut.segment == 0 => break,
            FrameKind::Boot => (header.cut.segment, Some(header.cut.offset), Some(header.rest_checksum)),
            FrameKind::Events | FrameKind::Seal => (number - 1, None, None),
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
        HeaderState::Valid(header)
            if header.at != (Position { segment: number, offset: 0 }) || header.segment_bytes != head.bytes =>
        {
            let what = if header.at == (Position { segment: number, offset: 0 }) {
                format!("this segment is {} bytes long, it was {}", head.bytes, header.segment_bytes)
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

pub(crate) fn corrupt(dir: &DataDirectory, number: u64, offset: u64, what: &str, seqs: (u64, u64)) -> RecoverError {
    let file = dir.device().display(&segment::path(number));
    let what = if dir.is_mirrored() { format!("{what}, and its mirror has nothing better") } else { what.to_owned() };
    RecoverError::Corrupt(Box::new(Problem::new(file, offset, what, RESTORE).with_seqs(seqs.0, seqs.1)))
}

impl Walker<'_, '_> {
    /// What the scan found, when nothing speaks against it.
    fn finish(mut self, path: Vec<LiveSegment>, tail: TailReport, (witness, parted): (Witness, Position)) -> Scan {
        let beside_writer = self.request.mode == ScanMode::BesideWriter;
        let mut live = path;
        if let Some(newest) = live.last().filter(|_| beside_writer) {
            // It is being written: one copy after the other.
            self.differences.forget(newest.number);
        }
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
            last_seq: if beside_writer { self.counted } else { read_to },
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
            strays: self.strays,
            differences: self.differences,
            parted,
        }
    }
}
