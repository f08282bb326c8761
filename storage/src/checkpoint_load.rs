//! Reading a checkpoint file back: every byte checked, nothing handed out that does not hold.
//!
//! Owns the walk through header, pages and footer; refuses to know names and generations kept. It reads from the medium: the
//! file's pages are dropped from the page cache first, and it is read past the cache where the device can, a window at a time.

use std::io;

use crate::block::{AlignedBytes, BLOCK, Block, bytes_of, bytes_of_mut};
use crate::checkpoint::{Checkpoint, CheckpointError, CheckpointStore, CheckpointSummary, Page, io_error};
use crate::checkpoint_format::{
    self as format, CheckpointHeader, FOOTER_BYTES, Footer, HEADER_BYTES, HeaderRead, PAGE_HEADER_BYTES, PageHeader,
    PartRead, UNIT,
};
use crate::device::DeviceFile;
use crate::frame::FORMAT;
use crate::problem::Problem;

const FALL_BACK: &str = "the checkpoint before it, or the whole journal, serves instead; delete this file once it does";

/// The end of a file, in which [`Loader::summary`] looks for the footer.
pub(crate) const SUMMARY_BYTES: usize = 4096;

/// Blocks read at once, at most: 1 MiB.
const WINDOW_BLOCKS: usize = 256;

/// The part of the file that is in memory: whole blocks from `start`, of which `bytes` are the file's.
struct Window {
    blocks: Vec<Block>,
    start: u64,
    bytes: usize,
}

impl Window {
    /// The file's bytes from `offset` on, as far as they are in memory after one read at most; empty at its end.
    fn from(&mut self, file: &dyn DeviceFile, offset: u64) -> io::Result<&[u8]> {
        if offset < self.start || offset >= self.start + self.bytes as u64 {
            self.start = offset / BLOCK * BLOCK;
            self.bytes = 0; // nothing, should the read fail
            self.bytes = file.read_at(bytes_of_mut(&mut self.blocks), self.start)?;
        }
        let skip = usize::try_from(offset - self.start).map_err(io::Error::other)?;
        Ok(bytes_of(&self.blocks)[..self.bytes].get(skip..).unwrap_or_default())
    }
}

/// Reads a checkpoint file from the medium.
pub(crate) struct Loader<'a> {
    store: &'a CheckpointStore,
    path: &'a str,
    file: &'a dyn DeviceFile,
    size: u64,
    at: u64,
    window: Window,
}

impl<'a> Loader<'a> {
    pub(crate) fn new(
        store: &'a CheckpointStore,
        path: &'a str,
        file: &'a dyn DeviceFile,
    ) -> Result<Self, CheckpointError> {
        file.forget_cache().map_err(io_error(store.device(), path, 0))?;
        file.pass_cache();
        let size = file.size().map_err(io_error(store.device(), path, 0))?;
        // A file shorter than a window is read at once, and takes no more memory than it is long.
        let blocks = usize::try_from(size.div_ceil(BLOCK)).unwrap_or(usize::MAX).clamp(1, WINDOW_BLOCKS);
        let window = Window { blocks: vec![Block::ZERO; blocks], start: 0, bytes: 0 };
        Ok(Self { store, path, file, size, at: 0, window })
    }

    fn corrupt(&self, what: &str) -> CheckpointError {
        let file = self.store.device().display(self.path);
        CheckpointError::Corrupt(Box::new(Problem::new(file, self.at, what, FALL_BACK)))
    }

    /// Hands over `bytes` bytes of the file from `offset` on, in pieces, or fewer at its end; says how many.
    fn pieces(&mut self, offset: u64, bytes: usize, mut each: impl FnMut(&[u8])) -> Result<usize, CheckpointError> {
        let mut done = 0;
        while done < bytes {
            let at = offset + done as u64;
            let piece = self.window.from(self.file, at).map_err(io_error(self.store.device(), self.path, at))?;
            if piece.is_empty() {
                break;
            }
            let piece = &piece[..piece.len().min(bytes - done)];
            each(piece);
            done += piece.len();
        }
        Ok(done)
    }

    /// Reads up to `buffer.len()` bytes at the position, which stays.
    fn peek(&mut self, buffer: &mut [u8]) -> Result<usize, CheckpointError> {
        let mut filled = 0;
        self.pieces(self.at, buffer.len(), |piece| {
            buffer[filled..filled + piece.len()].copy_from_slice(piece);
            filled += piece.len();
        })
    }

    /// Passes the bytes behind a page header or footer of `header_bytes` on to `keep`, checks the part's checksum, then goes on
    /// behind them and their padding.
    fn body(
        &mut self,
        header: &[u8],
        bytes: u64,
        checksum: u32,
        mut keep: impl FnMut(&[u8]),
    ) -> Result<(), CheckpointError> {
        let start = self.at + header.len() as u64;
        let left = self.size.saturating_sub(start);
        let Some(length) = usize::try_from(bytes).ok().filter(|_| bytes <= left) else {
            return Err(self.corrupt("the file is shorter than it says"));
        };
        let padded = format::padded(length);
        let (mut sum, mut kept) = (format::part_checksum_begin(header), 0);
        let read = self.pieces(start, padded, |piece| {
            sum = format::part_checksum_add(sum, piece);
            keep(&piece[..piece.len().min(length - kept)]);
            kept += piece.len().min(length - kept);
        })?;
        if read != padded || sum != checksum {
            return Err(self.corrupt("a checksum does not hold"));
        }
        self.at = start + padded as u64;
        Ok(())
    }

    fn header(&mut self, generation: u64) -> Result<CheckpointHeader, CheckpointError> {
        let mut block = Block::ZERO;
        let read = self.peek(&mut block.0)?;
        let file = self.store.device().display(self.path);
        match format::decode_header(&block) {
            HeaderRead::Newer(format) => Err(CheckpointError::NewerFormat { file, format, known: FORMAT }),
            HeaderRead::Good(header) if read == HEADER_BYTES => {
                if header.engine_id != self.store.engine_id() {
                    return Err(CheckpointError::NotOurs { file });
                }
                if header.generation != generation {
                    return Err(self.corrupt("this file holds another generation"));
                }
                self.at = HEADER_BYTES as u64;
                Ok(header)
            }
            HeaderRead::Good(_) | HeaderRead::Bad => Err(self.corrupt("the header is damaged")),
        }
    }

    /// Reads and checks everything. The bytes of a page are handed to `keep` in pieces, and then the page to `take`.
    fn walk(
        &mut self,
        generation: u64,
        sink: &mut dyn PageSink,
    ) -> Result<(CheckpointHeader, Footer, Vec<u8>), CheckpointError> {
        let header = self.header(generation)?;
        let (mut pages, mut chain, mut as_of_max) = (0, 0, 0);
        loop {
            let mut part = [0; FOOTER_BYTES];
            let read = self.peek(&mut part)?;
            match format::decode_part(&part[..read]) {
                PartRead::Page(page) if page.index == pages => {
                    self.body(&part[..PAGE_HEADER_BYTES], page.bytes, page.checksum, |piece| sink.keep(page, piece))?;
                    pages += 1;
                    chain = format::chain(chain, page.checksum);
                    as_of_max = as_of_max.max(page.as_of);
                    sink.take(page);
                }
                PartRead::Footer(footer) => {
                    let mut extra = Vec::new();
                    self.body(&part, footer.extra_bytes, footer.checksum, |piece| extra.extend_from_slice(piece))?;
                    let agree = (footer.pages, footer.chain, footer.as_of_max) == (pages, chain, as_of_max)
                        && footer.file_bytes == self.at
                        && self.size == self.at;
                    let footer = agree.then_some(footer).ok_or_else(|| self.corrupt("the footer does not fit"))?;
                    return Ok((header, footer, extra));
                }
                PartRead::Page(_) | PartRead::Bad => return Err(self.corrupt("this is neither a page nor the end")),
            }
        }
    }

    /// Reads and checks everything; `pace` is told how many bytes were read.
    pub(crate) fn check(mut self, generation: u64, pace: &mut dyn FnMut(u64)) -> Result<(), CheckpointError> {
        self.walk(generation, &mut Checked { read: HEADER_BYTES as u64, pace }).map(|_| ())
    }

    pub(crate) fn load(mut self, generation: u64, each: impl FnMut(Page)) -> Result<Checkpoint, CheckpointError> {
        let mut kept = Kept { bytes: AlignedBytes::zeroed(0), filled: 0, as_of_min: None, each };
        let (header, footer, extra) = self.walk(generation, &mut kept)?;
        Ok(Checkpoint {
            generation,
            epoch: header.epoch,
            time: footer.time,
            as_of_max: footer.as_of_max,
            as_of_min: kept.as_of_min.unwrap_or(0),
            extra,
            pages: Vec::new(),
        })
    }

    /// The footer is the last part of the file: the one whose length is what the file has left, and whose checksum holds.
    pub(crate) fn summary(mut self, generation: u64) -> Result<CheckpointSummary, CheckpointError> {
        self.header(generation)?;
        let mut last = [0; SUMMARY_BYTES];
        let start = (self.size.saturating_sub(last.len() as u64)).max(self.at);
        self.at = start;
        let read = self.peek(&mut last)?;
        let last = &last[..read];
        for offset in (0..read.saturating_sub(FOOTER_BYTES - 1)).rev().filter(|at| at.is_multiple_of(UNIT)) {
            let (head, rest) = last[offset..].split_at(FOOTER_BYTES);
            let PartRead::Footer(footer) = format::decode_part(head) else { continue };
            let length = usize::try_from(footer.extra_bytes).ok().filter(|length| *length <= rest.len());
            let holds = length.is_some_and(|length| {
                format::padded(length) == rest.len() && format::part_checksum(head, &rest[..length]) == footer.checksum
            });
            if holds && footer.file_bytes == self.size {
                let (time, as_of_max, bytes) = (footer.time, footer.as_of_max, footer.file_bytes);
                return Ok(CheckpointSummary { generation, time, as_of_max, bytes });
            }
        }
        Err(self.corrupt("it has no end"))
    }
}

/// What becomes of pages that are read.
trait PageSink {
    /// The next bytes of the page; its checksum is not known to hold yet.
    fn keep(&mut self, page: PageHeader, piece: &[u8]);
    /// The page is complete and its checksum holds.
    fn take(&mut self, page: PageHeader);
}

/// Nothing is kept.
struct Checked<'a> {
    read: u64,
    pace: &'a mut dyn FnMut(u64),
}

impl PageSink for Checked<'_> {
    fn keep(&mut self, _: PageHeader, piece: &[u8]) {
        self.read += piece.len() as u64;
        (self.pace)(self.read);
    }
    fn take(&mut self, _: PageHeader) {}
}

/// Pages are put together and handed on.
struct Kept<F> {
    bytes: AlignedBytes,
    filled: usize,
    as_of_min: Option<u64>,
    each: F,
}

impl<F: FnMut(Page)> PageSink for Kept<F> {
    fn keep(&mut self, page: PageHeader, piece: &[u8]) {
        if self.filled == 0 {
            // The page's length was found to fit into the file.
            self.bytes = AlignedBytes::zeroed(usize::try_from(page.bytes).unwrap_or(usize::MAX));
        }
        self.bytes.as_mut_slice()[self.filled..self.filled + piece.len()].copy_from_slice(piece);
        self.filled += piece.len();
    }
    fn take(&mut self, page: PageHeader) {
        let bytes = std::mem::replace(&mut self.bytes, AlignedBytes::zeroed(0));
        self.filled = 0;
        self.as_of_min = Some(self.as_of_min.map_or(page.as_of, |min| min.min(page.as_of)));
        (self.each)(Page { slot: page.slot, as_of: page.as_of, bytes });
    }
}
