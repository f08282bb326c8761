//! A device in memory that asks the test before every call.
//!
//! Owns the asking; refuses to know what is wanted. The answer of the test is the answer of the call.

use std::io;
use std::sync::Arc;

use tp_storage::{Device, DeviceFile, MemoryDevice, OpenMode};

/// What is about to be done to a file or directory.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Call {
    Create,
    Open,
    Read,
    Write,
    Sync,
    Forget,
    Rename,
    Remove,
    List,
    SyncDir,
}

type Ask = dyn Fn(Call, &str) -> io::Result<()> + Send + Sync;

/// The device.
#[derive(Clone)]
pub struct Tap {
    pub inner: MemoryDevice,
    ask: Arc<Ask>,
}

impl Tap {
    pub fn new(ask: impl Fn(Call, &str) -> io::Result<()> + Send + Sync + 'static) -> Self {
        Self { inner: MemoryDevice::new(), ask: Arc::new(ask) }
    }
}

struct TapFile {
    inner: Arc<dyn DeviceFile>,
    path: String,
    ask: Arc<Ask>,
}

impl Device for Tap {
    fn open(&self, path: &str, mode: OpenMode) -> io::Result<Arc<dyn DeviceFile>> {
        (self.ask)(if matches!(mode, OpenMode::CreateNew) { Call::Create } else { Call::Open }, path)?;
        let inner = self.inner.open(path, mode)?;
        Ok(Arc::new(TapFile { inner, path: path.to_owned(), ask: Arc::clone(&self.ask) }))
    }
    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        (self.ask)(Call::Rename, from)?;
        self.inner.rename(from, to)
    }
    fn remove(&self, path: &str) -> io::Result<()> {
        (self.ask)(Call::Remove, path)?;
        self.inner.remove(path)
    }
    fn list(&self, dir: &str) -> io::Result<Vec<String>> {
        (self.ask)(Call::List, dir)?;
        self.inner.list(dir)
    }
    fn create_dir(&self, dir: &str) -> io::Result<()> {
        self.inner.create_dir(dir)
    }
    fn sync_dir(&self, dir: &str) -> io::Result<()> {
        (self.ask)(Call::SyncDir, dir)?;
        self.inner.sync_dir(dir)
    }
    fn lock_exclusive(&self, path: &str) -> io::Result<Option<Box<dyn Send + Sync>>> {
        self.inner.lock_exclusive(path)
    }
    fn lock_is_held(&self, path: &str) -> io::Result<bool> {
        self.inner.lock_is_held(path)
    }
    fn display(&self, path: &str) -> String {
        self.inner.display(path)
    }
}

impl DeviceFile for TapFile {
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        (self.ask)(Call::Read, &self.path)?;
        self.inner.read_at(buffer, offset)
    }
    fn write_all_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        (self.ask)(Call::Write, &self.path)?;
        self.inner.write_all_at(bytes, offset)
    }
    fn size(&self) -> io::Result<u64> {
        self.inner.size()
    }
    fn allocate(&self, len: u64) -> io::Result<()> {
        self.inner.allocate(len)
    }
    fn sync_data(&self) -> io::Result<()> {
        (self.ask)(Call::Sync, &self.path)?;
        self.inner.sync_data()
    }
    fn sync_all(&self) -> io::Result<()> {
        (self.ask)(Call::Sync, &self.path)?;
        self.inner.sync_all()
    }
    fn forget_cache(&self) -> io::Result<()> {
        (self.ask)(Call::Forget, &self.path)?;
        self.inner.forget_cache()
    }
}
