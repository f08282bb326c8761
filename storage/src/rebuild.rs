//! Making the copies of the journal alike again: what differs, and the rebuilding of a segment in one copy from the others.
//!
//! Owns the list of differences and the way a file is replaced: written beside it, synced, read back past the cache, renamed. Refuses
//! to find differences by itself (the scan and the scrub do), and to touch a copy that nothing is wrong with.
//!
//! Invariants:
//!
//! - **RBD-1** a file is replaced only by one that was read back and holds, frame by frame, what the journal holds.
//! - **RBD-2** the old file stays until the new one has its name, so a crash at any point leaves no copy worse than it was.

use std::collections::BTreeMap;
use std::io;
use std::sync::Arc;

use crate::block::{AlignedBytes, Block, bytes_of};
use crate::copies::{BadCopies, COPIES_MAX, Check, FrameRead};
use crate::device::{Device, DeviceFile, OpenMode};
use crate::directory::{DataDirectory, remove_if_there};
use crate::frame::FrameHeader;
use crate::problem::{Problem, RESTORE, is_disk_full};
use crate::reader::LiveSegment;
use crate::segment::{self, JOURNAL_DIR, REBUILT_TEMPORARY, Segment};

const NEXT_STEP: &str = "the other copy is good, and this one is rebuilt from it at the next start or scrub";

/// A segment in one copy.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct CopyOf {
    pub(crate) segment: u64,
    pub(crate) copy: usize,
}

/// The segments that a copy does not hold as the journal does, each with the first finding.
#[derive(Clone, Debug, Default)]
pub(crate) struct Differences(BTreeMap<CopyOf, Problem>);

impl Differences {
    /// Notes what is wrong with a copy; the first finding of a file counts.
    pub(crate) fn note(&mut self, dir: &DataDirectory, of: CopyOf, offset: u64, seqs: (u64, u64), what: &str) {
        let device = &dir.devices()[of.copy];
        let found = || Problem::new(device.display(&segment::path(of.segment)), offset, what, NEXT_STEP);
        self.0.entry(of).or_insert_with(|| found().with_seqs(seqs.0, seqs.1));
    }

    /// Notes the copies in which a frame is bad.
    pub(crate) fn note_frame(&mut self, dir: &DataDirectory, header: &FrameHeader, bad: BadCopies) {
        for copy in (0..dir.devices().len()).filter(|&copy| bad.0[copy]) {
            let of = CopyOf { segment: header.at.segment, copy };
            let seqs = if header.count == 0 { (0, 0) } else { (header.first_seq, header.last_seq()) };
            self.note(dir, of, header.at.offset, seqs, "this copy does not hold the frame that belongs here");
        }
    }

    /// Notes the copies that miss the file, or have it in another length.
    pub(crate) fn note_files(&mut self, dir: &DataDirectory, segment: u64, whole: [bool; COPIES_MAX]) {
        for copy in (0..dir.devices().len()).filter(|&copy| !whole[copy]) {
            let of = CopyOf { segment, copy };
            self.note(dir, of, 0, (0, 0), "this copy of the segment is missing, or has another length than the other");
        }
    }

    /// Without those of one segment.
    pub(crate) fn forget(&mut self, segment: u64) {
        self.0.retain(|of, _| of.segment != segment);
    }

    pub(crate) fn problems(&self) -> impl Iterator<Item = &Problem> {
        self.0.values()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(crate) fn is_in(&self, of: CopyOf) -> bool {
        self.0.contains_key(&of)
    }

    /// The segments, each with the copies to rebuild.
    pub(crate) fn segments(&self) -> BTreeMap<u64, Vec<usize>> {
        let mut segments: BTreeMap<u64, Vec<usize>> = BTreeMap::new();
        for of in self.0.keys() {
            segments.entry(of.segment).or_default().push(of.copy);
        }
        segments
    }
}

/// Why a copy could not be rebuilt. The old file is as it was.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RebuildError {
    /// No copy holds this place.
    #[error("{0}")]
    Lost(Box<Problem>),
    /// What was written reads back differently.
    #[error(
        "{file} at byte {offset}: what was just written here reads back differently: the disk is not to be trusted"
    )]
    ReadBack {
        /// The file.
        file: String,
        /// Byte offset.
        offset: u64,
    },
    /// There is no space for the new file.
    #[error("no space left for {file}, which is rebuilt from the other copy: free space on its disk, then start again")]
    DiskFull {
        /// The file.
        file: String,
    },
    /// The system reported something.
    #[error("{file}: {source}")]
    Io {
        /// The file.
        file: String,
        /// The system's report.
        source: io::Error,
    },
}

/// What a segment holds that counts, and how to tell that all of it was read.
pub(crate) struct Extent {
    pub(crate) live: LiveSegment,
    /// The sequence number that follows its last one.
    next_seq: u64,
    /// Checksum of its last frame.
    last_checksum: u32,
}

impl Extent {
    /// Of all live segments; `after`: sequence number and chain of what follows the last one.
    pub(crate) fn all(live: &[LiveSegment], after: (u64, u32)) -> impl Iterator<Item = Self> {
        let following = live.iter().skip(1).map(|next| (next.first_seq, next.chain)).chain([after]);
        live.iter().zip(following).map(|(&live, (next_seq, last_checksum))| Self { live, next_seq, last_checksum })
    }

    /// The place of the first frame.
    pub(crate) fn start(&self) -> Next {
        Next { offset: 0, seq: self.live.first_seq, chain: self.live.chain }
    }

    /// Whether `next` is behind the last frame.
    pub(crate) fn is_end(&self, next: Next) -> bool {
        next.seq == self.next_seq
            && next.chain == self.last_checksum
            && self.live.cut.is_none_or(|cut| cut == next.offset)
    }

    /// Sequence numbers from there to the end.
    pub(crate) fn seqs(&self, next: Next) -> (u64, u64) {
        (next.seq, self.next_seq.saturating_sub(1))
    }
}

/// Where the next frame stands, and how it continues the one before.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Next {
    pub(crate) offset: u64,
    seq: u64,
    chain: u32,
}

impl Next {
    /// Reads the frame here; `None`: no copy holds it.
    ///
    /// # Errors
    /// No copy can be read.
    pub(crate) fn read(self, segment: &Segment, check: Check) -> io::Result<Option<FrameOf>> {
        let (read, bad) = segment.read_frame(self.offset, check)?;
        if matches!(read, FrameRead::Split) {
            return Err(io::Error::other("the two copies hold different frames here: they went different ways"));
        }
        let FrameRead::Good(header, blocks) = read else { return Ok(None) };
        let is_next = segment.holds(&header, self.offset) && header.first_seq == self.seq && header.chain == self.chain;
        Ok(is_next.then(|| {
            let behind = Next { offset: header.end().offset, seq: header.last_seq() + 1, chain: header.checksum };
            FrameOf { header, blocks, bad, behind }
        }))
    }
}

/// A good frame of a segment.
pub(crate) struct FrameOf {
    pub(crate) header: FrameHeader,
    blocks: Vec<Block>,
    pub(crate) bad: BadCopies,
    pub(crate) behind: Next,
}

/// Rebuilds everything that differs.
///
/// # Errors
/// [`RebuildError`]; what was rebuilt before it stays so.
pub(crate) fn rebuild_all(
    dir: &DataDirectory,
    differences: &Differences,
    extents: impl Iterator<Item = Extent>,
) -> Result<(), RebuildError> {
    let mut segments = differences.segments();
    for extent in extents {
        if let Some(copies) = segments.remove(&extent.live.number) {
            rebuild(dir, &extent, &copies)?;
        }
    }
    Ok(())
}

/// Rebuilds a segment in these copies.
///
/// # Errors
/// [`RebuildError`].
pub(crate) fn rebuild(dir: &DataDirectory, extent: &Extent, copies: &[usize]) -> Result<(), RebuildError> {
    let own = dir.device();
    let path = segment::path(extent.live.number);
    let reading = |source| RebuildError::Io { file: own.display(&path), source };
    let from = Segment::open(dir, extent.live.number, OpenMode::Read).map_err(reading)?;
    let rest_of = rest_of(&from, extent, copies);
    for &copy in copies {
        Rebuilding { dir, from: &from, extent, rest_of, device: &dir.devices()[copy] }.run()?;
    }
    Ok(())
}

/// The copy whose bytes behind the end are taken: one that has what the boot frame noted, else one that is not rebuilt.
fn rest_of(from: &Segment, extent: &Extent, rebuilt: &[usize]) -> usize {
    let there: Vec<usize> = from.files().map(|(copy, _)| copy).collect();
    if let (Some(end), Some(checksum)) = (extent.live.cut, extent.live.rest_checksum) {
        // One that cannot be read has not.
        let has = |copy: usize| from.is_whole(copy) && from.rest_from(copy, end).is_ok_and(|rest| rest.0 == checksum);
        if let Some(copy) = there.iter().copied().find(|copy| has(*copy)) {
            return copy;
        }
    }
    there.iter().find(|copy| !rebuilt.contains(copy)).or(there.first()).copied().unwrap_or(0)
}

struct Rebuilding<'a> {
    dir: &'a DataDirectory,
    from: &'a Segment,
    extent: &'a Extent,
    rest_of: usize,
    device: &'a Arc<dyn Device>,
}

impl Rebuilding<'_> {
    fn file(&self) -> String {
        self.device.display(&segment::path(self.extent.live.number))
    }

    fn io(&self) -> impl Fn(io::Error) -> RebuildError + use<'_> {
        |source| {
            let file = self.file();
            if is_disk_full(&source) { RebuildError::DiskFull { file } } else { RebuildError::Io { file, source } }
        }
    }

    fn run(&self) -> Result<(), RebuildError> {
        remove_if_there(&**self.device, REBUILT_TEMPORARY).map_err(self.io())?;
        let replaced = self.replace();
        if replaced.is_err() {
            // Give back what was taken; the first failure is the one to report.
            let _ = remove_if_there(&**self.device, REBUILT_TEMPORARY);
        }
        replaced
    }

    fn replace(&self) -> Result<(), RebuildError> {
        let end = self.write()?;
        self.check(end)?;
        self.device.rename(REBUILT_TEMPORARY, &segment::path(self.extent.live.number)).map_err(self.io())?;
        self.device.sync_dir(JOURNAL_DIR).map_err(self.io())
    }

    /// Writes the new file; returns where its frames end.
    fn write(&self) -> Result<u64, RebuildError> {
        let file = segment::fill(&**self.device, REBUILT_TEMPORARY, self.from.bytes).map_err(self.io())?;
        let end = self.each_frame(|offset, bytes| file.write_all_at(bytes, offset).map_err(self.io()))?;
        // Behind a cut lies what never counted and must not change; without one, zeros.
        if self.extent.live.cut.is_some() {
            let copied = self.from.run_on(self.rest_of, end, |at, block| file.write_all_at(&block.0, at));
            copied.map_err(self.io())?;
        }
        file.sync_all().map_err(self.io())?;
        Ok(end)
    }

    /// Walks the good frames of either copy; returns where they end.
    fn each_frame(&self, mut each: impl FnMut(u64, &[u8]) -> Result<(), RebuildError>) -> Result<u64, RebuildError> {
        let mut next = self.extent.start();
        while !self.extent.is_end(next) {
            let read = next.read(self.from, Check::Enough).map_err(self.io())?;
            let frame = read.ok_or_else(|| self.lost(next))?;
            each(next.offset, bytes_of(&frame.blocks))?;
            next = frame.behind;
        }
        Ok(next.offset)
    }

    fn lost(&self, next: Next) -> RebuildError {
        let file = self.dir.device().display(&segment::path(self.extent.live.number));
        let (first, last) = self.extent.seqs(next);
        let problem = Problem::new(file, next.offset, "no copy holds the frame that belongs here", RESTORE);
        RebuildError::Lost(Box::new(problem.with_seqs(first, last)))
    }

    /// RBD-1: reads the new file back from the medium.
    fn check(&self, end: u64) -> Result<(), RebuildError> {
        let file = self.device.open(REBUILT_TEMPORARY, OpenMode::Read).map_err(self.io())?;
        file.forget_cache().map_err(self.io())?;
        let differs = |offset| RebuildError::ReadBack { file: self.file(), offset };
        self.each_frame(|offset, bytes| {
            if reads_back(&*file, offset, bytes).map_err(self.io())? { Ok(()) } else { Err(differs(offset)) }
        })?;
        let new = Segment::of(self.dir, self.extent.live.number, self.from.bytes, vec![file]);
        let (checksum, is_zero) = new.rest_from(0, end).map_err(self.io())?;
        let is_same = match self.extent.live.cut {
            None => is_zero,
            Some(_) => checksum == self.from.rest_from(self.rest_of, end).map_err(self.io())?.0,
        };
        if is_same { Ok(()) } else { Err(differs(end)) }
    }
}

/// Whether the file holds these bytes there.
fn reads_back(file: &dyn DeviceFile, offset: u64, bytes: &[u8]) -> io::Result<bool> {
    let mut buffer = AlignedBytes::zeroed(bytes.len());
    let read = file.read_at(buffer.as_mut_slice(), offset)?;
    Ok(read == bytes.len() && *buffer == *bytes)
}
