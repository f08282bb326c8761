//! One place of the journal in one or two copies: what stands there, and which copies do not hold it.
//!
//! Owns the reading of a frame out of the files of a segment and the choice between them. Refuses to know devices, to write, and to
//! judge what a bad frame means for the journal (the scan does).
//!
//! ```text
//!   copy 0 ──► standing ─┐      good and good ............ the frame; two that differ: split, nobody may choose
//!                        ├─►    good and anything else ... the frame; the other copy is bad here
//!   copy 1 ──► standing ─┘      neither .................. block by block, if one has the header; else the more doubtful of the two
//! ```
//!
//! Invariants:
//!
//! - **CPY-1** a frame is good only where it says it is, in a file of the size it says, of this engine; so a frame that was
//!   misdirected in one copy never hides the right one of the other.
//! - **CPY-2** what no copy holds is as doubtful as the more doubtful of them says: a tail is cut only if both were never written.

use std::cell::Cell;
use std::io;
use std::sync::Arc;

use crate::block::{BLOCK, Block, bytes_of_mut};
use crate::device::DeviceFile;
use crate::frame::{self, FrameHeader, HeaderState, Position};

/// Most copies of a journal.
pub(crate) const COPIES_MAX: usize = 2;

/// Copies that do not hold what the journal holds at a place.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct BadCopies(pub(crate) [bool; COPIES_MAX]);

impl BadCopies {
    pub(crate) fn any(self) -> bool {
        self.0.contains(&true)
    }
}

/// How much is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Check {
    /// Until one copy is good: for readers.
    Enough,
    /// Every copy, so that each bad one is known: for the scan and the scrub.
    All,
}

/// A frame, read in full.
pub(crate) enum FrameRead {
    /// Header and blocks are good; the blocks are the whole frame. Whether it belongs here is the caller's question.
    Good(FrameHeader, Vec<Block>),
    /// The header is good, these blocks are not; `never_written`: all of them are zero.
    BadBlocks { header: FrameHeader, first_bad: usize, never_written: bool },
    /// No good header here.
    NoFrame(HeaderState),
    /// Both copies hold a good frame that belongs here, and not the same one.
    Split,
}

/// A file of a segment, in one copy.
#[derive(Clone)]
pub(crate) struct CopyFile {
    pub(crate) file: Arc<dyn DeviceFile>,
    /// Its length when it was opened.
    pub(crate) bytes: u64,
    /// As its device shows it: an error of one copy must not be looked for on the other's disk.
    name: Arc<str>,
}

impl CopyFile {
    pub(crate) fn new(file: Arc<dyn DeviceFile>, bytes: u64, name: String) -> Self {
        Self { file, bytes, name: name.into() }
    }

    /// Reads, and names the file when that fails.
    pub(crate) fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        let named = |error: io::Error| io::Error::new(error.kind(), format!("{}: {error}", self.name));
        self.file.read_at(buffer, offset).map_err(named)
    }

    /// Reads one block; what lies after the end of the file reads as zero.
    fn read_block(&self, offset: u64) -> io::Result<Block> {
        let mut block = Block::ZERO;
        self.read_at(&mut block.0, offset)?;
        Ok(block)
    }

    pub(crate) fn read_header(&self, offset: u64) -> io::Result<HeaderState> {
        Ok(frame::parse_header(&self.read_block(offset)?))
    }

    /// Reads a frame into memory of one before, or new memory.
    fn read_frame(&self, offset: u64, mut blocks: Vec<Block>) -> io::Result<CopyRead> {
        let first = self.read_block(offset)?;
        let state = frame::parse_header(&first);
        let HeaderState::Valid(header) = state else { return Ok(CopyRead::headless(state)) };
        blocks.resize(header.blocks as usize, Block::ZERO);
        blocks[0] = first;
        let rest = bytes_of_mut(&mut blocks[1..]);
        let read = self.read_at(rest, offset + BLOCK)?;
        rest[read..].fill(0); // what lies after the end of the file reads as zero
        let bad = frame::bad_blocks(&blocks);
        Ok(CopyRead { state, blocks, bad })
    }
}

/// What one copy holds at a place.
struct CopyRead {
    state: HeaderState,
    /// The whole frame, if there is a header.
    blocks: Vec<Block>,
    bad: Vec<usize>,
}

/// From the least to the most telling; see CPY-2 for those that are not good.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Standing {
    /// Zeros, or no file.
    Nothing,
    /// A header, and blocks that were never written.
    Torn,
    /// Damaged, or half a write.
    Doubtful,
    /// A header that does not belong here.
    Stranger,
    /// A header of a later format.
    Newer,
    /// The frame of this place.
    Good,
}

impl CopyRead {
    fn headless(state: HeaderState) -> Self {
        Self { state, blocks: Vec::new(), bad: Vec::new() }
    }

    fn never_written(&self) -> bool {
        self.bad.iter().all(|&index| self.blocks[index].is_zero())
    }

    fn standing(&self, belongs: impl Fn(&FrameHeader) -> bool) -> Standing {
        match &self.state {
            HeaderState::Zero => Standing::Nothing,
            HeaderState::Newer(_) => Standing::Newer,
            HeaderState::Valid(header) if !belongs(header) => Standing::Stranger,
            HeaderState::Valid(_) if self.bad.is_empty() => Standing::Good,
            HeaderState::Valid(_) if self.never_written() => Standing::Torn,
            HeaderState::Valid(_) | HeaderState::Garbage => Standing::Doubtful,
        }
    }

    fn into_frame(self) -> FrameRead {
        match (self.state, self.bad.first()) {
            (HeaderState::Valid(header), None) => FrameRead::Good(header, self.blocks),
            (HeaderState::Valid(header), Some(&first_bad)) => {
                FrameRead::BadBlocks { header, first_bad, never_written: self.never_written() }
            }
            (state, _) => FrameRead::NoFrame(state),
        }
    }

    /// Whether a frame that belongs here was found, with bad blocks.
    fn is_partly(&self, standing: Standing) -> bool {
        !self.bad.is_empty() && matches!(standing, Standing::Torn | Standing::Doubtful)
    }

    /// Takes the other copy's bytes for the bad blocks, where they are what the header says.
    fn mend(&mut self, other: &CopyFile, offset: u64) -> io::Result<()> {
        for index in std::mem::take(&mut self.bad) {
            let own = self.blocks[index];
            self.blocks[index] = other.read_block(offset + index as u64 * BLOCK)?;
            if frame::bad_blocks(&self.blocks).contains(&index) {
                self.blocks[index] = own;
                self.bad.push(index);
            }
        }
        Ok(())
    }
}

/// The place of a frame, in the files of its segment.
pub(crate) struct Place<'a> {
    pub(crate) copies: &'a [Option<CopyFile>],
    pub(crate) engine_id: u128,
    pub(crate) at: Position,
}

impl Place<'_> {
    /// CPY-1.
    fn belongs(&self, copy: Option<&CopyFile>, header: &FrameHeader) -> bool {
        header.at == self.at
            && header.engine_id == self.engine_id
            && copy.is_some_and(|copy| copy.bytes == header.segment_bytes)
    }

    /// Reads the frame, into `spare` where that is large enough.
    pub(crate) fn read_frame(&self, check: Check, spare: Vec<Block>) -> io::Result<(FrameRead, BadCopies)> {
        let spare = Cell::new(spare);
        self.merge(check, |copy| copy.read_frame(self.at.offset, spare.take()))
    }

    /// Reads the header only.
    pub(crate) fn read_header(&self, check: Check) -> io::Result<(HeaderRead, BadCopies)> {
        let (read, bad) = self.merge(check, |copy| Ok(CopyRead::headless(copy.read_header(self.at.offset)?)))?;
        let state = match read {
            FrameRead::Good(header, _) | FrameRead::BadBlocks { header, .. } => HeaderState::Valid(header),
            FrameRead::NoFrame(state) => state,
            FrameRead::Split => return Ok((HeaderRead::Split, bad)),
        };
        Ok((HeaderRead::State(state), bad))
    }

    fn merge(
        &self,
        check: Check,
        read: impl Fn(&CopyFile) -> io::Result<CopyRead>,
    ) -> io::Result<(FrameRead, BadCopies)> {
        let read_copy = |copy: &Option<CopyFile>| {
            let read = copy.as_ref().map_or_else(|| Ok(CopyRead::headless(HeaderState::Zero)), &read)?;
            let standing = read.standing(|header| self.belongs(copy.as_ref(), header));
            Ok::<_, io::Error>((standing, read))
        };
        let first = read_copy(&self.copies[0]);
        let first_is_good = matches!(first, Ok((Standing::Good, _)));
        let Some(second) = self.copies.get(1).filter(|_| check == Check::All || !first_is_good) else {
            return Ok((first?.1.into_frame(), BadCopies::default()));
        };
        let second = read_copy(second);
        match (first, second) {
            (Ok((Standing::Good, first)), Ok((Standing::Good, second))) if first.state == second.state => {
                Ok((first.into_frame(), BadCopies::default()))
            }
            (Ok((Standing::Good, _)), Ok((Standing::Good, _))) => Ok((FrameRead::Split, BadCopies::default())),
            // Never written over by older software.
            (Ok((Standing::Newer, newer)), _) | (_, Ok((Standing::Newer, newer))) => {
                Ok((newer.into_frame(), BadCopies::default()))
            }
            (Ok((Standing::Good, first)), _) => Ok((first.into_frame(), BadCopies([false, true]))),
            (_, Ok((Standing::Good, second))) => Ok((second.into_frame(), BadCopies([true, false]))),
            // A medium that cannot be read may hold anything.
            (Err(error), _) | (_, Err(error)) => Err(error),
            (Ok(first), Ok(second)) => self.neither(first, second),
        }
    }

    /// No copy is good: together they may be, and else the more doubtful one speaks.
    fn neither(
        &self,
        (first_standing, mut first): (Standing, CopyRead),
        (second_standing, mut second): (Standing, CopyRead),
    ) -> io::Result<(FrameRead, BadCopies)> {
        let [Some(first_file), Some(second_file)] = self.copies else {
            let worse = if second_standing > first_standing { second } else { first };
            return Ok((worse.into_frame(), BadCopies::default()));
        };
        for (read, standing, other) in
            [(&mut first, first_standing, second_file), (&mut second, second_standing, first_file)]
        {
            if read.is_partly(standing) {
                read.mend(other, self.at.offset)?;
                if read.bad.is_empty() {
                    return Ok((
                        std::mem::replace(read, CopyRead::headless(HeaderState::Zero)).into_frame(),
                        BadCopies([true; COPIES_MAX]),
                    ));
                }
            }
        }
        // One that strayed into one copy only says nothing of this place but that its bytes are wrong.
        if (first_standing == Standing::Stranger) != (second_standing == Standing::Stranger) {
            return Ok((FrameRead::NoFrame(HeaderState::Garbage), BadCopies::default()));
        }
        let worse = if second_standing > first_standing { second } else { first };
        Ok((worse.into_frame(), BadCopies::default()))
    }
}

/// What a header alone says.
pub(crate) enum HeaderRead {
    State(HeaderState),
    /// As [`FrameRead::Split`].
    Split,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::block::bytes_of;
    use crate::device::{Device as _, OpenMode};
    use crate::device_memory::MemoryDevice;

    /// Memory of a frame before has that one's bytes in it: none of them may be taken for this one's.
    #[test]
    fn what_lies_after_the_end_of_the_file_reads_as_zero_whatever_memory_it_is_read_into() {
        let (_, blocks) = frame::tests::build(&[7; 9_000]);
        assert_eq!(blocks.len(), 3);
        let device = MemoryDevice::new();
        let file = device.open("a", OpenMode::CreateNew).expect("created");
        file.write_all_at(bytes_of(&blocks[..2]), 0).expect("written");
        let copy = CopyFile::new(file, 2 * BLOCK, "a".to_owned());
        for spare in [0, 2, 9] {
            let read = copy.read_frame(0, vec![Block([0xEE; _]); spare]).expect("read");
            assert_eq!((read.blocks.len(), &read.bad[..], read.never_written()), (3, &[2][..], true), "{spare}");
            assert_eq!(bytes_of(&read.blocks[..2]), bytes_of(&blocks[..2]));
        }
    }
}
