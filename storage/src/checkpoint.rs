//! Checkpoint files: images of all slots, two generations of them.
//!
//! Owns names, order of steps and damage reports of `checkpoints/`; refuses to know what a page holds and when its
//! `as_of` is durable (the caller publishes only then).
//!
//! ```text
//!  begin ─► page, page, .. ─► finish: footer, sync, read back past the cache ─► publish: rename, sync directory,
//!    <generation>.unpublished                                                   delete all but two generations,
//!                                                                               under their old name and by and by
//! ```

use std::io;
use std::sync::Arc;

use crate::block::{AlignedBytes, BLOCK_BYTES, Block, bytes_of, bytes_of_mut};
use crate::checkpoint_format::{self as format, CheckpointHeader, FOOTER_BYTES, Footer, HEADER_BYTES};
use crate::checkpoint_load::{Loader, SUMMARY_BYTES};
use crate::device::{Device, DeviceFile, OpenMode};
use crate::directory::{DataDirectory, remove_if_there};
use crate::problem::{Problem, is_disk_full};

pub(crate) const CHECKPOINTS_DIR: &str = "checkpoints";
const SUFFIX: &str = ".checkpoint";
const SUFFIX_UNPUBLISHED: &str = ".unpublished";

/// Generations kept.
const GENERATIONS: usize = 2;

/// The longest extra part, in bytes: footer and extra part are found by one read of the file's last 4 KiB.
pub const EXTRA_BYTES_MAX: usize = SUMMARY_BYTES - FOOTER_BYTES;

/// Bytes written before they are synced: a disk that has to take a whole checkpoint at once makes the journal wait.
const SYNC_BYTES: u64 = 8 << 20;

/// Bytes of an old generation given back at a time.
const RETIRE_BYTES: u64 = 64 << 20;

/// Blocks gathered before a write: 1 MiB.
const WRITE_BLOCKS: usize = 256;

/// Why a checkpoint could not be written or read.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CheckpointError {
    /// The bytes are not what was written.
    #[error("{0}")]
    Corrupt(Box<Problem>),
    /// The file belongs to another engine.
    #[error("{file} belongs to another engine: put the right file back, or delete it")]
    NotOurs {
        /// The file.
        file: String,
    },
    /// Written by a later version of this software.
    #[error("{file} has format version {format}, this software knows up to {known}: use the newer software")]
    NewerFormat {
        /// The file.
        file: String,
        /// Its format version.
        format: u16,
        /// The highest version known here.
        known: u16,
    },
    /// There is no such generation.
    #[error("there is no checkpoint {generation}")]
    Missing {
        /// The generation asked for.
        generation: u64,
    },
    /// The data directory was opened read-only.
    #[error("the data directory was opened read-only")]
    ReadOnlyDirectory,
    /// What the caller adds must fit into the end of the file.
    #[error("the extra part of a checkpoint has {bytes} bytes, it may have {EXTRA_BYTES_MAX}")]
    ExtraTooLong {
        /// Its length.
        bytes: usize,
    },
    /// Space ran out; what was written of this checkpoint can be deleted.
    #[error("no space left for {file}")]
    DiskFull {
        /// The file.
        file: String,
    },
    /// The system reported something.
    #[error("{file} at byte {offset}: {source}")]
    Io {
        /// The file.
        file: String,
        /// Byte offset.
        offset: u64,
        /// The system's report.
        source: io::Error,
    },
}

pub(crate) fn io_error(
    device: &dyn Device,
    path: &str,
    offset: u64,
) -> impl FnOnce(io::Error) -> CheckpointError + use<> {
    let file = device.display(path);
    move |source| {
        if is_disk_full(&source) {
            CheckpointError::DiskFull { file }
        } else {
            CheckpointError::Io { file, offset, source }
        }
    }
}

fn path(generation: u64, suffix: &str) -> String {
    format!("{CHECKPOINTS_DIR}/{generation:020}{suffix}")
}

/// One slot, as it was.
#[derive(Clone, Debug)]
pub struct Page {
    /// The slot.
    pub slot: u16,
    /// The page holds all events up to this sequence number, and none above.
    pub as_of: u64,
    /// Its bytes; they start on 16 bytes in memory.
    pub bytes: AlignedBytes,
}

/// A checkpoint, read and checked in full.
#[derive(Clone, Debug)]
pub struct Checkpoint {
    /// Which one.
    pub generation: u64,
    /// Epoch of the journal in which it was taken.
    pub epoch: u64,
    /// Engine time when it was finished, Unix milliseconds.
    pub time: u64,
    /// Highest `as_of` of all pages: what the journal must hold at least.
    pub as_of_max: u64,
    /// Lowest `as_of` of all pages: replay starts behind it. 0 without pages.
    pub as_of_min: u64,
    /// What the caller added.
    pub extra: Vec<u8>,
    /// The pages, in the order in which they were written.
    pub pages: Vec<Page>,
}

/// What a checkpoint's header and footer say, without its pages.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct CheckpointSummary {
    /// Which one.
    pub generation: u64,
    /// Engine time when it was finished, Unix milliseconds.
    pub time: u64,
    /// Highest `as_of` of all pages: what the journal must hold at least.
    pub as_of_max: u64,
    /// Size of the file.
    pub bytes: u64,
}

/// The checkpoints of a data directory.
#[derive(Clone, Debug)]
pub struct CheckpointStore {
    dir: DataDirectory,
}

impl CheckpointStore {
    /// The checkpoints of this directory. Touches nothing.
    pub fn new(dir: &DataDirectory) -> Self {
        Self { dir: dir.clone() }
    }

    pub(crate) fn device(&self) -> &dyn Device {
        &**self.dir.device()
    }

    pub(crate) fn engine_id(&self) -> u128 {
        self.dir.engine_id()
    }

    fn list(&self, suffix: &str) -> Result<Vec<u64>, CheckpointError> {
        let names = self.device().list(CHECKPOINTS_DIR).map_err(io_error(self.device(), CHECKPOINTS_DIR, 0))?;
        let generations = names.iter().filter_map(|name| name.strip_suffix(suffix)?.parse().ok());
        let mut generations: Vec<u64> = generations.collect();
        generations.sort_unstable();
        Ok(generations)
    }

    fn check_writable(&self) -> Result<(), CheckpointError> {
        if self.dir.is_writable() { Ok(()) } else { Err(CheckpointError::ReadOnlyDirectory) }
    }

    /// Published generations, oldest first.
    ///
    /// # Errors
    /// [`CheckpointError`].
    pub fn generations(&self) -> Result<Vec<u64>, CheckpointError> {
        self.list(SUFFIX)
    }

    /// Deletes what was never published: for recovery, since sequence numbers above a cut are used again.
    ///
    /// # Errors
    /// [`CheckpointError`].
    pub fn delete_unpublished(&self) -> Result<(), CheckpointError> {
        self.check_writable()?;
        let unpublished = self.list(SUFFIX_UNPUBLISHED)?;
        for generation in &unpublished {
            let path = path(*generation, SUFFIX_UNPUBLISHED);
            self.device().remove(&path).map_err(io_error(self.device(), &path, 0))?;
        }
        if unpublished.is_empty() { Ok(()) } else { self.sync_names() }
    }

    /// Deletes a generation: its name first, so that nobody takes it for a damaged checkpoint, then its bytes by and by.
    fn retire(&self, generation: u64, pace: &mut dyn FnMut(u64)) -> Result<(), CheckpointError> {
        let device = self.device();
        let (from, to) = (path(generation, SUFFIX), path(generation, SUFFIX_UNPUBLISHED));
        device.rename(&from, &to).map_err(io_error(device, &to, 0))?;
        self.sync_names()?;
        let file = device.open(&to, OpenMode::ReadWrite).map_err(io_error(device, &to, 0))?;
        let bytes = file.size().map_err(io_error(device, &to, 0))?;
        let mut left = bytes;
        while left > RETIRE_BYTES {
            left -= RETIRE_BYTES;
            file.shrink(left).and_then(|()| file.sync_data()).map_err(io_error(device, &to, left))?;
            pace(bytes - left);
        }
        remove_if_there(device, &to).map_err(io_error(device, &to, 0))
    }

    fn sync_names(&self) -> Result<(), CheckpointError> {
        self.device().sync_dir(CHECKPOINTS_DIR).map_err(io_error(self.device(), CHECKPOINTS_DIR, 0))
    }

    /// Begins a checkpoint in this epoch of the journal.
    ///
    /// # Errors
    /// [`CheckpointError`].
    pub fn begin(&self, epoch: u64) -> Result<CheckpointWriter, CheckpointError> {
        self.check_writable()?;
        let taken = self.list(SUFFIX)?.into_iter().chain(self.list(SUFFIX_UNPUBLISHED)?);
        let generation = taken.max().unwrap_or(0) + 1;
        let path = path(generation, SUFFIX_UNPUBLISHED);
        let file = self.device().open(&path, OpenMode::CreateNew).map_err(io_error(self.device(), &path, 0))?;
        file.pass_cache();
        let header = CheckpointHeader { engine_id: self.dir.engine_id(), generation, epoch };
        let mut buffer = vec![Block::ZERO; WRITE_BLOCKS];
        buffer[0] = format::encode_header(&header);
        Ok(CheckpointWriter {
            store: self.clone(),
            file,
            path,
            header,
            buffer,
            filled: HEADER_BYTES,
            written: 0,
            synced: 0,
            pages: 0,
            chain: 0,
            as_of_max: 0,
        })
    }

    /// Reads a published checkpoint from the medium and checks every byte.
    ///
    /// # Errors
    /// [`CheckpointError`]; `Corrupt`: fall back to the generation before, then to the whole journal.
    pub fn load(&self, generation: u64) -> Result<Checkpoint, CheckpointError> {
        let mut pages = Vec::new();
        let loaded = self.load_pages(generation, |page| pages.push(page))?;
        Ok(Checkpoint { pages, ..loaded })
    }

    /// As [`CheckpointStore::load`], but hands each page over as soon as its own checksum holds, and keeps none: what comes back
    /// has no pages. An error may come after some of them.
    ///
    /// # Errors
    /// As [`CheckpointStore::load`].
    pub fn load_pages(&self, generation: u64, each: impl FnMut(Page)) -> Result<Checkpoint, CheckpointError> {
        let (path, file) = self.open(generation)?;
        Loader::new(self, &path, &*file)?.load(generation, each)
    }

    /// Reads only header and footer: cheap, whatever the checkpoint holds. The pages may still be damaged.
    ///
    /// # Errors
    /// [`CheckpointError`].
    pub fn summary(&self, generation: u64) -> Result<CheckpointSummary, CheckpointError> {
        let (path, file) = self.open(generation)?;
        Loader::new(self, &path, &*file)?.summary(generation)
    }

    fn open(&self, generation: u64) -> Result<(String, Arc<dyn DeviceFile>), CheckpointError> {
        let path = path(generation, SUFFIX);
        match self.device().open(&path, OpenMode::Read) {
            Ok(file) => Ok((path, file)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Err(CheckpointError::Missing { generation }),
            Err(error) => Err(io_error(self.device(), &path, 0)(error)),
        }
    }
}

/// A checkpoint being written.
pub struct CheckpointWriter {
    store: CheckpointStore,
    file: Arc<dyn DeviceFile>,
    path: String,
    header: CheckpointHeader,
    /// What is not written yet: whole blocks, so that they may pass the page cache.
    buffer: Vec<Block>,
    /// Bytes of it.
    filled: usize,
    written: u64,
    synced: u64,
    pages: u32,
    chain: u32,
    as_of_max: u64,
}

impl CheckpointWriter {
    /// Adds a page: slot `slot` with all events up to `as_of`. Writes at most the page and 1 MiB more, so that the
    /// caller can throttle between pages.
    ///
    /// # Errors
    /// [`CheckpointError`]; the checkpoint is then to be given up.
    pub fn page(&mut self, slot: u16, as_of: u64, bytes: &[u8]) -> Result<(), CheckpointError> {
        let (header, checksum) = format::encode_page(slot, self.pages, as_of, bytes);
        self.add(&header)?;
        self.add(bytes)?;
        self.add(format::padding(bytes.len()))?;
        self.pages += 1;
        self.chain = format::chain(self.chain, checksum);
        self.as_of_max = self.as_of_max.max(as_of);
        Ok(())
    }

    fn add(&mut self, mut bytes: &[u8]) -> Result<(), CheckpointError> {
        while !bytes.is_empty() {
            let free = &mut bytes_of_mut(&mut self.buffer)[self.filled..];
            let step = free.len().min(bytes.len());
            free[..step].copy_from_slice(&bytes[..step]);
            self.filled += step;
            bytes = &bytes[step..];
            if self.filled == self.buffer.len() * BLOCK_BYTES {
                self.write()?;
            }
        }
        Ok(())
    }

    fn write(&mut self) -> Result<(), CheckpointError> {
        let device = self.store.device();
        let written = self.file.write_all_at(&bytes_of(&self.buffer)[..self.filled], self.written);
        written.map_err(io_error(device, &self.path, self.written))?;
        self.written += self.filled as u64;
        self.filled = 0;
        if self.written - self.synced >= SYNC_BYTES {
            self.file.sync_data().map_err(io_error(device, &self.path, self.written))?;
            self.synced = self.written;
        }
        Ok(())
    }

    /// Bytes given so far.
    pub fn bytes(&self) -> u64 {
        self.written + self.filled as u64
    }

    /// Removes what was written: the checkpoint is given up.
    ///
    /// # Errors
    /// [`CheckpointError::Io`]; the rest is deleted at the next start.
    pub fn discard(self) -> Result<(), CheckpointError> {
        let device = self.store.device();
        remove_if_there(device, &self.path).map_err(io_error(device, &self.path, 0))
    }

    /// Writes the footer, syncs, and reads everything back from the medium. `extra` is opaque, of at most [`EXTRA_BYTES_MAX`].
    ///
    /// # Errors
    /// [`CheckpointError`]; the checkpoint is then given up and its file removed.
    pub fn finish(self, time: u64, extra: &[u8]) -> Result<FinishedCheckpoint, CheckpointError> {
        self.finish_paced(time, extra, &mut |_| {})
    }

    /// As [`CheckpointWriter::finish`]; `pace` is told while reading back how many bytes were read, and may sleep.
    ///
    /// # Errors
    /// As [`CheckpointWriter::finish`].
    pub fn finish_paced(
        mut self,
        time: u64,
        extra: &[u8],
        pace: &mut dyn FnMut(u64),
    ) -> Result<FinishedCheckpoint, CheckpointError> {
        if let Err(error) = self.complete(time, extra, pace) {
            let _ = self.discard(); // what is left of it is deleted at the next start
            return Err(error);
        }
        Ok(FinishedCheckpoint {
            store: self.store,
            generation: self.header.generation,
            as_of_max: self.as_of_max,
            bytes: self.written,
        })
    }

    fn complete(&mut self, time: u64, extra: &[u8], pace: &mut dyn FnMut(u64)) -> Result<(), CheckpointError> {
        if extra.len() > EXTRA_BYTES_MAX {
            return Err(CheckpointError::ExtraTooLong { bytes: extra.len() });
        }
        let footer = Footer {
            pages: self.pages,
            chain: self.chain,
            time,
            as_of_max: self.as_of_max,
            extra_bytes: extra.len() as u64,
            file_bytes: self.bytes() + (FOOTER_BYTES + format::padded(extra.len())) as u64,
            checksum: 0,
        };
        self.add(&format::encode_footer(&footer, extra))?;
        self.add(extra)?;
        self.add(format::padding(extra.len()))?;
        self.write()?;
        let device = self.store.device();
        self.file.sync_all().map_err(io_error(device, &self.path, 0))?;
        Loader::new(&self.store, &self.path, &*self.file)?.check(self.header.generation, pace)?;
        Ok(())
    }
}

/// A checkpoint whose bytes are durable and were read back, but that has no name yet.
pub struct FinishedCheckpoint {
    store: CheckpointStore,
    generation: u64,
    as_of_max: u64,
    bytes: u64,
}

impl FinishedCheckpoint {
    /// Which one it will be.
    pub fn generation(&self) -> u64 {
        self.generation
    }

    /// Highest `as_of` of its pages: publish once this is durable in the same epoch.
    pub fn as_of_max(&self) -> u64 {
        self.as_of_max
    }

    /// Size of the file.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Gives it its name, durably, and deletes all but the last two generations. The caller knows that
    /// [`FinishedCheckpoint::as_of_max`] is durable in the epoch in which the checkpoint began.
    ///
    /// # Errors
    /// [`CheckpointError`].
    pub fn publish(self) -> Result<u64, CheckpointError> {
        self.publish_paced(&mut |_| {})
    }

    /// As [`FinishedCheckpoint::publish`]; `pace` is told while deleting how many bytes were given back, and may sleep.
    ///
    /// # Errors
    /// As [`FinishedCheckpoint::publish`].
    pub fn publish_paced(self, pace: &mut dyn FnMut(u64)) -> Result<u64, CheckpointError> {
        let device = self.store.device();
        let (from, to) = (path(self.generation, SUFFIX_UNPUBLISHED), path(self.generation, SUFFIX));
        device.rename(&from, &to).map_err(io_error(device, &to, 0))?;
        self.store.sync_names()?;
        let generations = self.store.generations()?;
        let old = generations.len().saturating_sub(GENERATIONS);
        for generation in &generations[..old] {
            self.store.retire(*generation, pace)?;
        }
        if old > 0 {
            self.store.sync_names()?;
        }
        Ok(self.generation)
    }

    /// Gives it up.
    ///
    /// # Errors
    /// [`CheckpointError`].
    pub fn discard(self) -> Result<(), CheckpointError> {
        let path = path(self.generation, SUFFIX_UNPUBLISHED);
        remove_if_there(self.store.device(), &path).map_err(io_error(self.store.device(), &path, 0))
    }
}
