//! Segment files: names, reading frames out of them, allocating new ones.
//!
//! Owns `journal/<number>.segment`; refuses to judge what a bad frame means (the scan does). A segment has a fixed size,
//! gets its name only when its zeros are durable, and is never recycled, so a segment that is shorter than its frames
//! say was damaged and not merely cut off.

use std::io;
use std::sync::Arc;
use tp_planted::{Bug, has};

use crate::block::{BLOCK, BLOCK_BYTES, Block, bytes_of_mut};
use crate::device::{Device, DeviceFile, OpenMode};
use crate::directory::remove_if_there;
use crate::frame::{self, FrameHeader, HeaderState, Position};

pub(crate) const JOURNAL_DIR: &str = "journal";
const SPARE_TEMPORARY: &str = "journal/spare.new";
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

/// An open segment.
#[derive(Clone)]
pub(crate) struct Segment {
    pub(crate) number: u64,
    pub(crate) file: Arc<dyn DeviceFile>,
    /// Length of the file when it was opened.
    pub(crate) bytes: u64,
}

/// A frame, read in full.
pub(crate) enum FrameRead {
    /// Header and blocks are good; the blocks are the whole frame.
    Good(FrameHeader, Vec<Block>),
    /// The header is good, these blocks are not; `never_written`: all of them are zero.
    BadBlocks { header: FrameHeader, first_bad: usize, never_written: bool },
    /// No good header here.
    NoFrame(HeaderState),
}

impl Segment {
    pub(crate) fn open(device: &dyn Device, number: u64, mode: OpenMode) -> io::Result<Self> {
        let file = device.open(&path(number), mode)?;
        let bytes = file.size()?;
        Ok(Self { number, file, bytes })
    }

    /// Reads one block; what lies after the end of the file reads as zero.
    fn read_block(&self, offset: u64) -> io::Result<Block> {
        let mut block = Block::ZERO;
        self.file.read_at(&mut block.0, offset)?;
        Ok(block)
    }

    /// Reads the header at `offset`.
    pub(crate) fn read_header(&self, offset: u64) -> io::Result<HeaderState> {
        Ok(frame::parse_header(&self.read_block(offset)?))
    }

    /// Whether a header is where it says it is, and fits into this file.
    pub(crate) fn holds(&self, header: &FrameHeader, offset: u64) -> bool {
        header.at == Position { segment: self.number, offset } && header.segment_bytes == self.bytes
    }

    /// Reads the frame at `offset` and checks every checksum. Whether it belongs there is the caller's question.
    pub(crate) fn read_frame(&self, offset: u64) -> io::Result<FrameRead> {
        let first = self.read_block(offset)?;
        let state = frame::parse_header(&first);
        let HeaderState::Valid(header) = state else { return Ok(FrameRead::NoFrame(state)) };
        let mut blocks = vec![Block::ZERO; header.blocks as usize];
        blocks[0] = first;
        self.file.read_at(bytes_of_mut(&mut blocks[1..]), offset + BLOCK)?;
        let bad = frame::bad_blocks(&blocks);
        match bad.first() {
            None => Ok(FrameRead::Good(header, blocks)),
            Some(&first_bad) => {
                let never_written = bad.iter().all(|&index| blocks[index].is_zero());
                Ok(FrameRead::BadBlocks { header, first_bad, never_written })
            }
        }
    }

    /// CRC-32C of the bytes from `offset` to the end of the file, and whether all are zero.
    pub(crate) fn rest_from(&self, offset: u64) -> io::Result<(u32, bool)> {
        const STEP: usize = 256;
        let mut blocks = vec![Block::ZERO; STEP];
        let (mut at, mut checksum, mut is_zero) = (offset, 0, true);
        while at < self.bytes {
            let bytes = bytes_of_mut(&mut blocks);
            let wanted = usize::try_from((self.bytes - at).min(bytes.len() as u64)).map_err(io::Error::other)?;
            let read = self.file.read_at(&mut bytes[..wanted], at)?;
            bytes[read..].fill(0);
            checksum = crc32c::crc32c_append(checksum, &bytes[..wanted]);
            is_zero &= blocks.iter().all(Block::is_zero);
            at += wanted as u64;
        }
        Ok((checksum, is_zero))
    }

    /// Walks the blocks from `offset` to the end of the file and hands those that are not zero to `found`, with their
    /// offset, until it answers `false`.
    pub(crate) fn run_on(&self, offset: u64, mut found: impl FnMut(u64, &Block) -> bool) -> io::Result<()> {
        const STEP: usize = 64;
        let mut blocks = vec![Block::ZERO; STEP];
        let mut at = offset;
        while at < self.bytes {
            let bytes = bytes_of_mut(&mut blocks);
            let wanted = usize::try_from((self.bytes - at).min(bytes.len() as u64)).map_err(io::Error::other)?;
            let read = self.file.read_at(&mut bytes[..wanted], at)?;
            bytes[read..].fill(0);
            for (index, block) in blocks.iter().take(wanted.div_ceil(BLOCK_BYTES)).enumerate() {
                if !block.is_zero() && !found(at + index as u64 * BLOCK, block) {
                    return Ok(());
                }
            }
            at += wanted as u64;
        }
        Ok(())
    }
}

/// What lies behind a cut, to the end of its segment.
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
        match &self.segment {
            Some(segment) if self.is_zero && segment.bytes > self.offset => {
                segment.file.give_back(self.offset, segment.bytes - self.offset)
            }
            _ => Ok(()),
        }
    }
}

/// Reads what lies behind a cut. Segment 0: there is no cut.
pub(crate) fn rest(device: &dyn Device, cut: Position) -> io::Result<Rest> {
    let mut rest = Rest { segment: None, offset: cut.offset, checksum: 0, is_zero: true };
    if cut.segment == 0 {
        return Ok(rest);
    }
    let segment = Segment::open(device, cut.segment, OpenMode::ReadWrite)?;
    (rest.checksum, rest.is_zero) = segment.rest_from(cut.offset)?;
    rest.segment = Some(segment);
    Ok(rest)
}

/// Allocates a segment: zeros under a temporary name, synced, renamed, and its directory synced.
///
/// A file of that name may only be left from an attempt whose last sync failed: it never held a frame.
pub(crate) fn allocate(device: &dyn Device, number: u64, bytes: u64) -> io::Result<Segment> {
    remove_if_there(device, SPARE_TEMPORARY)?;
    let written = fill(device, bytes);
    if written.is_err() {
        // Give back what was taken; the first failure is the one to report.
        let _ = remove_if_there(device, SPARE_TEMPORARY);
    }
    let file = written?;
    device.rename(SPARE_TEMPORARY, &path(number))?;
    if !has(Bug::SkipNameSync) {
        device.sync_dir(JOURNAL_DIR)?;
    }
    Ok(Segment { number, file, bytes })
}

fn fill(device: &dyn Device, bytes: u64) -> io::Result<Arc<dyn DeviceFile>> {
    let file = device.open(SPARE_TEMPORARY, OpenMode::CreateNew)?;
    file.allocate(bytes)?;
    file.sync_all()?;
    Ok(file)
}

/// Gives an unused segment, known to be all zeros on the medium, a new number.
pub(crate) fn renumber(device: &dyn Device, from: u64, to: u64) -> io::Result<Segment> {
    device.rename(&path(from), &path(to))?;
    device.sync_dir(JOURNAL_DIR)?;
    Segment::open(device, to, OpenMode::ReadWrite)
}

/// Removes what a cut-off allocation left.
pub(crate) fn remove_temporary(device: &dyn Device) -> io::Result<()> {
    remove_if_there(device, SPARE_TEMPORARY)
}
