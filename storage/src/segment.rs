//! Segment files: names, reading frames out of them, allocating new ones.
//!
//! Owns `journal/<number>.segment` in every copy of the journal; refuses to judge what a bad frame means (the scan does). A segment has a fixed size,
//! gets its name only when its zeros are durable, and is never recycled, so a segment that is shorter than its frames
//! say was damaged and not merely cut off.

use std::io;
use std::sync::Arc;
use tp_planted::{Bug, has};

use crate::block::{BLOCK, BLOCK_BYTES, Block, bytes_of, bytes_of_mut};
use crate::copies::{BadCopies, Check, CopyFile, FrameRead, HeaderRead, Place};
use crate::device::{Device, DeviceFile, OpenMode};
use crate::directory::{DataDirectory, remove_if_there};
use crate::frame::{FrameHeader, HeaderState, Position};

pub(crate) const JOURNAL_DIR: &str = "journal";
const SPARE_TEMPORARY: &str = "journal/spare.new";
pub(crate) const REBUILT_TEMPORARY: &str = "journal/rebuilt.new";
const SUFFIX: &str = ".segment";

/// Path of a segment.
pub(crate) fn path(number: u64) -> String {
    format!("{JOURNAL_DIR}/{number:012}{SUFFIX}")
}

/// The number in a segment's file name; `None`: not a segment's name.
fn number(name: &str) -> Option<u64> {
    let digits = name.strip_suffix(SUFFIX)?;
    let number = digits.parse().ok()?;
    (path(number).strip_prefix(JOURNAL_DIR)?.strip_prefix('/')? == name && number > 0).then_some(number)
}

/// Numbers of all segments, ascending.
pub(crate) fn list(device: &dyn Device) -> io::Result<Vec<u64>> {
    let mut numbers: Vec<u64> = device.list(JOURNAL_DIR)?.iter().filter_map(|name| number(name)).collect();
    numbers.sort_unstable();
    Ok(numbers)
}

/// An open segment: its file in each copy of the journal that has it.
#[derive(Clone)]
pub(crate) struct Segment {
    pub(crate) number: u64,
    /// Length of the file when it was opened; where the copies differ, of the one that is as long as its first frame says.
    pub(crate) bytes: u64,
    engine_id: u128,
    copies: Vec<Option<CopyFile>>,
}

impl Segment {
    /// Opens the files of all copies.
    ///
    /// # Errors
    /// `NotFound` when no copy has it; what the system reports for any of them.
    pub(crate) fn open(dir: &DataDirectory, number: u64, mode: OpenMode) -> io::Result<Self> {
        let copies = dir.devices().iter().map(|device| match device.open(&path(number), mode) {
            Ok(file) => file.size().map(|bytes| Some(CopyFile::new(file, bytes, device.display(&path(number))))),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        });
        let copies: Vec<Option<CopyFile>> = copies.collect::<io::Result<_>>()?;
        let bytes = bytes_of_copies(&copies, number)?.ok_or(io::ErrorKind::NotFound)?;
        Ok(Self { number, bytes, engine_id: dir.engine_id(), copies })
    }

    pub(crate) fn of(dir: &DataDirectory, number: u64, bytes: u64, files: Vec<Arc<dyn DeviceFile>>) -> Self {
        let named =
            |(copy, file): (usize, _)| Some(CopyFile::new(file, bytes, dir.devices()[copy].display(&path(number))));
        let copies = files.into_iter().enumerate().map(named).collect();
        Self { number, bytes, engine_id: dir.engine_id(), copies }
    }

    /// The files there are, each with the number of its copy.
    pub(crate) fn files(&self) -> impl Iterator<Item = (usize, &Arc<dyn DeviceFile>)> {
        self.copies.iter().enumerate().filter_map(|(copy, file)| Some((copy, &file.as_ref()?.file)))
    }

    /// Whether a copy has the file, as long as it should be.
    pub(crate) fn is_whole(&self, copy: usize) -> bool {
        self.copies[copy].as_ref().is_some_and(|file| file.bytes == self.bytes)
    }

    fn place(&self, offset: u64) -> Place<'_> {
        let at = Position { segment: self.number, offset };
        Place { copies: &self.copies, engine_id: self.engine_id, at }
    }

    /// Reads the header at `offset`.
    pub(crate) fn read_header(&self, offset: u64, check: Check) -> io::Result<(HeaderRead, BadCopies)> {
        self.place(offset).read_header(check)
    }

    /// Whether a header is where it says it is, and fits into this file.
    pub(crate) fn holds(&self, header: &FrameHeader, offset: u64) -> bool {
        header.at == Position { segment: self.number, offset } && header.segment_bytes == self.bytes
    }

    /// Reads the frame at `offset` and checks every checksum. Whether it belongs there is the caller's question.
    pub(crate) fn read_frame(&self, offset: u64, check: Check) -> io::Result<(FrameRead, BadCopies)> {
        self.read_frame_into(offset, check, Vec::new())
    }

    /// As [`Segment::read_frame`], into memory of a frame before where that is large enough.
    pub(crate) fn read_frame_into(
        &self,
        offset: u64,
        check: Check,
        spare: Vec<Block>,
    ) -> io::Result<(FrameRead, BadCopies)> {
        self.place(offset).read_frame(check, spare)
    }

    /// Asks that the next reads come from the medium, in every copy.
    pub(crate) fn forget_cache(&self) -> io::Result<()> {
        self.files().try_for_each(|(_, file)| file.forget_cache())
    }

    /// One copy by itself; `None`: it does not have the file.
    pub(crate) fn only(&self, copy: usize) -> Option<Self> {
        let file = self.copies[copy].clone()?;
        Some(Self { number: self.number, bytes: file.bytes, engine_id: self.engine_id, copies: vec![Some(file)] })
    }

    /// Of one copy: CRC-32C of the bytes from `offset` to the end of the file, and whether all are zero.
    pub(crate) fn rest_from(&self, copy: usize, offset: u64) -> io::Result<(u32, bool)> {
        let (mut checksum, mut is_zero) = (0, true);
        self.each_run(copy, offset, |_, blocks| {
            checksum = crc32c::crc32c_append(checksum, bytes_of(blocks));
            is_zero &= blocks.iter().all(Block::is_zero);
            Ok(())
        })?;
        Ok((checksum, is_zero))
    }

    /// Of one copy: walks the blocks from `offset` to the end of the file and hands those that are not zero to `found`, with their
    /// offset.
    pub(crate) fn run_on(
        &self,
        copy: usize,
        offset: u64,
        mut found: impl FnMut(u64, &Block) -> io::Result<()>,
    ) -> io::Result<()> {
        self.each_run(copy, offset, |at, blocks| {
            let used = blocks.iter().enumerate().filter(|(_, block)| !block.is_zero());
            used.map(|(index, block)| (at + index as u64 * BLOCK, block)).try_for_each(|(at, block)| found(at, block))
        })
    }

    /// Hands over the blocks of a copy in runs; what lies after the end of a file that is too short reads as zero.
    fn each_run(
        &self,
        copy: usize,
        offset: u64,
        mut each: impl FnMut(u64, &[Block]) -> io::Result<()>,
    ) -> io::Result<()> {
        const STEP: usize = 256;
        let Some(file) = &self.copies[copy] else { return Ok(()) };
        let mut blocks = vec![Block::ZERO; STEP];
        let mut at = offset;
        while at < self.bytes {
            let bytes = bytes_of_mut(&mut blocks);
            let wanted = usize::try_from((self.bytes - at).min(bytes.len() as u64)).map_err(io::Error::other)?;
            let read = file.read_at(&mut bytes[..wanted], at)?;
            bytes[read..].fill(0);
            each(at, &blocks[..wanted.div_ceil(BLOCK_BYTES)])?;
            at += wanted as u64;
        }
        Ok(())
    }
}

/// The length that counts; `None`: no copy has the file.
fn bytes_of_copies(copies: &[Option<CopyFile>], number: u64) -> io::Result<Option<u64>> {
    let lengths = copies.iter().flatten().map(|copy| copy.bytes);
    let (shortest, longest) = (lengths.clone().min(), lengths.max());
    if shortest == longest {
        return Ok(longest);
    }
    for copy in copies.iter().flatten() {
        let HeaderState::Valid(header) = copy.read_header(0)? else { continue };
        if header.at == (Position { segment: number, offset: 0 }) && header.segment_bytes == copy.bytes {
            return Ok(Some(copy.bytes));
        }
    }
    Ok(longest)
}

/// What lies behind a cut, to the end of its segment; the same in every copy.
pub(crate) struct Rest {
    segment: Option<Segment>,
    offset: u64,
    /// CRC-32C of the bytes.
    pub(crate) checksum: u32,
    is_zero: bool,
}

impl Rest {
    /// Gives the space back, if all of it reads as zeros. The bytes stay as they are, so no rule of recovery can tell; without
    /// this every start would cost the rest of a segment.
    pub(crate) fn give_back(&self) -> io::Result<()> {
        let Some(segment) = self.segment.as_ref().filter(|segment| self.is_zero && segment.bytes > self.offset) else {
            return Ok(());
        };
        segment.files().try_for_each(|(_, file)| file.give_back(self.offset, segment.bytes - self.offset))
    }
}

/// Reads what lies behind a cut. Segment 0: there is no cut.
pub(crate) fn rest(dir: &DataDirectory, cut: Position) -> io::Result<Rest> {
    let mut rest = Rest { segment: None, offset: cut.offset, checksum: 0, is_zero: true };
    if cut.segment == 0 {
        return Ok(rest);
    }
    let segment = Segment::open(dir, cut.segment, OpenMode::ReadWrite)?;
    (rest.checksum, rest.is_zero) = segment.rest_from(0, cut.offset)?;
    rest.segment = Some(segment);
    Ok(rest)
}

/// Allocates a segment in every copy: zeros under a temporary name, synced, renamed, and its directory synced.
///
/// A file of that name may only be left from an attempt whose last sync failed: it never held a frame.
///
/// # Errors
/// The path as its device shows it, and what the system reports.
pub(crate) fn allocate(dir: &DataDirectory, number: u64, bytes: u64) -> Result<Segment, (String, io::Error)> {
    let mut files = Vec::with_capacity(dir.devices().len());
    for device in dir.devices() {
        match allocate_on(&**device, number, bytes) {
            Ok(file) => files.push(file),
            Err(error) => {
                // One copy alone is of no use, and would take the space that the next attempt needs.
                for made in &dir.devices()[..files.len()] {
                    let _ = remove_if_there(&**made, &path(number));
                }
                return Err((device.display(&path(number)), error));
            }
        }
    }
    Ok(Segment::of(dir, number, bytes, files))
}

fn allocate_on(device: &dyn Device, number: u64, bytes: u64) -> io::Result<Arc<dyn DeviceFile>> {
    remove_if_there(device, SPARE_TEMPORARY)?;
    let written = fill(device, SPARE_TEMPORARY, bytes);
    if written.is_err() {
        // Give back what was taken; the first failure is the one to report.
        let _ = remove_if_there(device, SPARE_TEMPORARY);
    }
    let file = written?;
    device.rename(SPARE_TEMPORARY, &path(number))?;
    if !has(Bug::SkipNameSync) {
        device.sync_dir(JOURNAL_DIR)?;
    }
    Ok(file)
}

/// Makes a file of zeros, synced.
pub(crate) fn fill(device: &dyn Device, path: &str, bytes: u64) -> io::Result<Arc<dyn DeviceFile>> {
    let file = device.open(path, OpenMode::CreateNew)?;
    file.allocate(bytes)?;
    file.sync_all()?;
    Ok(file)
}

/// Gives an unused segment, known to be all zeros on the medium of every copy, a new number.
pub(crate) fn renumber(dir: &DataDirectory, from: u64, to: u64) -> Result<Segment, (String, io::Error)> {
    for device in dir.devices() {
        let renamed = device.rename(&path(from), &path(to)).and_then(|()| device.sync_dir(JOURNAL_DIR));
        renamed.map_err(|error| (device.display(&path(to)), error))?;
    }
    Segment::open(dir, to, OpenMode::ReadWrite).map_err(|error| (dir.device().display(&path(to)), error))
}

/// Removes what a cut-off allocation or rebuilding left.
pub(crate) fn remove_temporary(device: &dyn Device) -> io::Result<()> {
    remove_if_there(device, SPARE_TEMPORARY)?;
    remove_if_there(device, REBUILT_TEMPORARY)
}
