//! A device that writes down what it is asked for, so that the disk of any moment can be made again.
//!
//! Owns the record of every changing call and its replay on another device; refuses to know what the bytes mean.

use std::collections::BTreeMap;
use std::io;
use std::sync::{Arc, Mutex, PoisonError};

use tp_storage::{Device, DeviceFile, MemoryDevice, OpenMode};

/// A changing call.
#[derive(Clone, Debug)]
pub(crate) enum Call {
    Create { path: String, file: usize },
    Write { file: usize, offset: u64, bytes: Arc<[u8]> },
    Allocate { file: usize, bytes: u64 },
    Sync { file: usize },
    Rename { from: String, to: String },
    Remove { path: String },
    CreateDir { path: String },
    SyncDir { path: String },
}

#[derive(Debug, Default)]
struct Record {
    calls: Vec<Call>,
    files: usize,
    /// Which file a name leads to.
    names: BTreeMap<String, usize>,
}

/// A device in memory with a record.
#[derive(Clone, Default)]
pub(crate) struct Recording {
    device: MemoryDevice,
    record: Arc<Mutex<Record>>,
}

impl Recording {
    fn with<T>(&self, work: impl FnOnce(&mut Record) -> T) -> T {
        work(&mut self.record.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// The disk as it is.
    pub(crate) const fn memory(&self) -> &MemoryDevice {
        &self.device
    }

    /// Changing calls so far.
    pub(crate) fn calls(&self) -> usize {
        self.with(|record| record.calls.len())
    }

    /// All of them.
    pub(crate) fn into_calls(self) -> Vec<Call> {
        self.with(|record| std::mem::take(&mut record.calls))
    }
}

/// Makes a disk again, one call after the other.
#[derive(Default)]
pub(crate) struct Replay {
    pub(crate) device: MemoryDevice,
    files: BTreeMap<usize, Arc<dyn DeviceFile>>,
}

impl Replay {
    /// Does what was recorded.
    pub(crate) fn follow(&mut self, call: &Call) -> io::Result<()> {
        let unknown = || io::Error::from(io::ErrorKind::NotFound);
        match call {
            Call::Create { path, file } => {
                let opened = self.device.open(path, OpenMode::CreateNew)?;
                self.files.insert(*file, opened);
                Ok(())
            }
            Call::Write { file, offset, bytes } => {
                self.files.get(file).ok_or_else(unknown)?.write_all_at(bytes, *offset)
            }
            Call::Allocate { file, bytes } => self.files.get(file).ok_or_else(unknown)?.allocate(*bytes),
            Call::Sync { file } => self.files.get(file).ok_or_else(unknown)?.sync_data(),
            Call::Rename { from, to } => self.device.rename(from, to),
            Call::Remove { path } => self.device.remove(path),
            Call::CreateDir { path } => self.device.create_dir(path),
            Call::SyncDir { path } => self.device.sync_dir(path),
        }
    }
}

impl Device for Recording {
    fn open(&self, path: &str, mode: OpenMode) -> io::Result<Arc<dyn DeviceFile>> {
        let inner = self.device.open(path, mode)?;
        let file = self.with(|record| {
            if mode == OpenMode::CreateNew {
                record.files += 1;
                let file = record.files;
                record.names.insert(path.to_owned(), file);
                record.calls.push(Call::Create { path: path.to_owned(), file });
            }
            record.names.get(path).copied()
        });
        let file = file.ok_or_else(|| io::Error::from(io::ErrorKind::NotFound))?;
        Ok(Arc::new(RecordedFile { inner, file, recording: self.clone() }))
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        self.device.rename(from, to)?;
        self.with(|record| {
            if let Some(file) = record.names.remove(from) {
                record.names.insert(to.to_owned(), file);
            }
            record.calls.push(Call::Rename { from: from.to_owned(), to: to.to_owned() });
        });
        Ok(())
    }

    fn remove(&self, path: &str) -> io::Result<()> {
        self.device.remove(path)?;
        self.with(|record| {
            record.names.remove(path);
            record.calls.push(Call::Remove { path: path.to_owned() });
        });
        Ok(())
    }

    fn list(&self, dir: &str) -> io::Result<Vec<String>> {
        self.device.list(dir)
    }

    fn create_dir(&self, dir: &str) -> io::Result<()> {
        self.device.create_dir(dir)?;
        self.with(|record| record.calls.push(Call::CreateDir { path: dir.to_owned() }));
        Ok(())
    }

    fn sync_dir(&self, dir: &str) -> io::Result<()> {
        self.device.sync_dir(dir)?;
        self.with(|record| record.calls.push(Call::SyncDir { path: dir.to_owned() }));
        Ok(())
    }

    fn lock_exclusive(&self, path: &str) -> io::Result<Option<Box<dyn Send + Sync>>> {
        self.device.lock_exclusive(path)
    }

    fn lock_is_held(&self, path: &str) -> io::Result<bool> {
        self.device.lock_is_held(path)
    }

    fn display(&self, path: &str) -> String {
        self.device.display(path)
    }
}

struct RecordedFile {
    inner: Arc<dyn DeviceFile>,
    file: usize,
    recording: Recording,
}

impl RecordedFile {
    fn note(&self, call: Call) {
        self.recording.with(|record| record.calls.push(call));
    }
}

impl DeviceFile for RecordedFile {
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        self.inner.read_at(buffer, offset)
    }

    fn write_all_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        self.inner.write_all_at(bytes, offset)?;
        self.note(Call::Write { file: self.file, offset, bytes: bytes.into() });
        Ok(())
    }

    fn size(&self) -> io::Result<u64> {
        self.inner.size()
    }

    fn allocate(&self, len: u64) -> io::Result<()> {
        self.inner.allocate(len)?;
        self.note(Call::Allocate { file: self.file, bytes: len });
        Ok(())
    }

    fn sync_data(&self) -> io::Result<()> {
        self.inner.sync_data()?;
        self.note(Call::Sync { file: self.file });
        Ok(())
    }

    fn sync_all(&self) -> io::Result<()> {
        self.inner.sync_all()?;
        self.note(Call::Sync { file: self.file });
        Ok(())
    }

    fn forget_cache(&self) -> io::Result<()> {
        self.inner.forget_cache()
    }
}
