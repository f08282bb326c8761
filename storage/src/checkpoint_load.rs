//! Reading a checkpoint file back: every byte checked, nothing handed out that does not hold.
//!
//! Owns the walk through header, pages and footer; refuses to know names and generations kept. It reads from the medium:
//! the file's pages are dropped from the page cache first.

use crate::block::{AlignedBytes, Block};
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

/// Reads a checkpoint file from the medium.
pub(crate) struct Loader<'a> {
    store: &'a CheckpointStore,
    path: &'a str,
    file: &'a dyn DeviceFile,
    size: u64,
    at: u64,
}

impl<'a> Loader<'a> {
    pub(crate) fn new(
        store: &'a CheckpointStore,
        path: &'a str,
        file: &'a dyn DeviceFile,
    ) -> Result<Self, CheckpointError> {
        file.forget_cache().map_err(io_error(store.device(), path, 0))?;
        let size = file.size().map_err(io_error(store.device(), path, 0))?;
        Ok(Self { store, path, file, size, at: 0 })
    }

    fn corrupt(&self, what: &str) -> CheckpointError {
        let file = self.store.device().display(self.path);
        CheckpointError::Corrupt(Box::new(Problem::new(file, self.at, what, FALL_BACK)))
    }

    /// Reads up to `buffer.len()` bytes at the position, which stays.
    fn peek(&self, buffer: &mut [u8]) -> Result<usize, CheckpointError> {
        self.file.read_at(buffer, self.at).map_err(io_error(self.store.device(), self.path, self.at))
    }

    /// The bytes behind a page header or footer of `header_bytes`, and their padding; checks the part's checksum.
    fn body(&mut self, header: &[u8], bytes: u64, checksum: u32) -> Result<AlignedBytes, CheckpointError> {
        let left = self.size.saturating_sub(self.at + header.len() as u64);
        let Some(length) = usize::try_from(bytes).ok().filter(|_| bytes <= left) else {
            return Err(self.corrupt("the file is shorter than it says"));
        };
        let mut body = AlignedBytes::zeroed(format::padded(length));
        let start = self.at + header.len() as u64;
        let read = self.file.read_at(body.as_mut_slice(), start);
        let read = read.map_err(io_error(self.store.device(), self.path, start))?;
        let whole = read == body.len() && body[length..].iter().all(|byte| *byte == 0);
        if !whole || format::part_checksum(header, &body[..length]) != checksum {
            return Err(self.corrupt("a checksum does not hold"));
        }
        self.at = start + body.len() as u64;
        body.truncate(length);
        Ok(body)
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

    /// Reads and checks everything; hands out the pages.
    fn walk(
        &mut self,
        generation: u64,
        mut take: impl FnMut(PageHeader, AlignedBytes),
    ) -> Result<(CheckpointHeader, Footer, Vec<u8>), CheckpointError> {
        let header = self.header(generation)?;
        let (mut pages, mut chain, mut as_of_max) = (0, 0, 0);
        loop {
            let mut part = [0; FOOTER_BYTES];
            let read = self.peek(&mut part)?;
            match format::decode_part(&part[..read]) {
                PartRead::Page(page) if page.index == pages => {
                    let bytes = self.body(&part[..PAGE_HEADER_BYTES], page.bytes, page.checksum)?;
                    pages += 1;
                    chain = format::chain(chain, page.checksum);
                    as_of_max = as_of_max.max(page.as_of);
                    take(page, bytes);
                }
                PartRead::Footer(footer) => {
                    let extra = self.body(&part, footer.extra_bytes, footer.checksum)?;
                    let agree = (footer.pages, footer.chain, footer.as_of_max) == (pages, chain, as_of_max)
                        && footer.file_bytes == self.at
                        && self.size == self.at;
                    let footer = agree.then_some(footer).ok_or_else(|| self.corrupt("the footer does not fit"))?;
                    return Ok((header, footer, extra.to_vec()));
                }
                PartRead::Page(_) | PartRead::Bad => return Err(self.corrupt("this is neither a page nor the end")),
            }
        }
    }

    /// Reads and checks everything; `pace` is told how many bytes were read.
    pub(crate) fn check(mut self, generation: u64, pace: &mut dyn FnMut(u64)) -> Result<(), CheckpointError> {
        let mut read = HEADER_BYTES as u64;
        let each = |_: PageHeader, bytes: AlignedBytes| {
            read += (PAGE_HEADER_BYTES + format::padded(bytes.len())) as u64;
            pace(read);
        };
        self.walk(generation, each).map(|_| ())
    }

    pub(crate) fn load(mut self, generation: u64, mut each: impl FnMut(Page)) -> Result<Checkpoint, CheckpointError> {
        let mut as_of_min = None;
        let (header, footer, extra) = self.walk(generation, |page, bytes| {
            as_of_min = Some(as_of_min.map_or(page.as_of, |min: u64| min.min(page.as_of)));
            each(Page { slot: page.slot, as_of: page.as_of, bytes });
        })?;
        Ok(Checkpoint {
            generation,
            epoch: header.epoch,
            time: footer.time,
            as_of_max: footer.as_of_max,
            as_of_min: as_of_min.unwrap_or(0),
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
