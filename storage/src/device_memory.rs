//! Files in memory with a page cache, a medium, and faults on demand.
//!
//! Owns a strict model of what a disk may do: writes go to the cache and become durable by a sync of their file, names
//! become durable by a sync of their directory, and a power cut may keep, lose or tear (per 512-byte sector) whatever
//! was not synced. Refuses to know formats. Directories themselves are durable at once.
//!
//! ```text
//!  write ──► cache (what reads show) ── sync_data ──► medium (what a power cut leaves)
//!  create, rename, remove ──► names  ── sync_dir  ──► durable names
//! ```
//!
//! Every call that changes something has a number, counted from 1; faults are planned by number, so that a test can
//! walk through all of them.

use std::io;
use std::sync::Arc;

use parking_lot::Mutex;

use crate::device::{Device, DeviceFile, OpenMode};
use crate::device_memory_state::{
    AfterSyncFailure, CrashMode, EIO, Fault, FileState, NameChange, State, Unsynced, disk_full, parent_of, random,
};

/// Files in memory. Clones share the same files.
#[derive(Clone, Default)]
pub struct MemoryDevice {
    state: Arc<Mutex<State>>,
}

impl MemoryDevice {
    /// An empty device.
    pub fn new() -> Self {
        Self::default()
    }

    /// Plans a fault, beside those already planned.
    pub fn plan(&self, fault: Fault) {
        self.state.lock().faults.push(fault);
    }

    /// Forgets all planned faults: space is free again, the power is on.
    pub fn clear_faults(&self) {
        self.state.lock().faults.clear();
    }

    /// Sets what the page cache does after a failed sync.
    pub fn after_sync_failure(&self, model: AfterSyncFailure) {
        self.state.lock().after_sync_failure = model;
    }

    /// Limits the sum of file sizes; `None`: unlimited.
    pub fn set_capacity(&self, bytes: Option<u64>) {
        self.state.lock().capacity_bytes = bytes;
    }

    /// The sum of file sizes.
    pub fn used_bytes(&self) -> u64 {
        self.state.lock().used_bytes()
    }

    /// Changing calls so far.
    pub fn calls(&self) -> u64 {
        self.state.lock().calls
    }

    /// Reads so far.
    pub fn reads(&self) -> u64 {
        self.state.lock().reads
    }

    /// File syncs asked for so far.
    pub fn syncs(&self) -> u64 {
        self.state.lock().syncs
    }

    /// What a machine finds after a power cut now: a new device, free of faults and locks. This one is unchanged.
    #[must_use]
    pub fn crash(&self, mode: CrashMode) -> Self {
        let state = self.state.lock();
        let mut seed = if let CrashMode::Sectors(seed) = mode { seed } else { 0 };
        let mut names = state.names_durable.clone();
        let kept = match mode {
            CrashMode::DropUnsynced => 0,
            CrashMode::KeepAll => state.names_pending.len(),
            CrashMode::Sectors(_) => {
                usize::try_from(random(&mut seed) % (state.names_pending.len() as u64 + 1)).unwrap_or(0)
            }
        };
        for change in &state.names_pending[..kept] {
            change.apply(&mut names);
        }
        let files = state.files.iter().map(|(number, file)| {
            let bytes = file.crashed(mode, &mut seed);
            (*number, FileState { cache: Arc::clone(&bytes), medium: bytes, pending: Vec::new() })
        });
        let after = State {
            names_durable: names.clone(),
            names,
            directories: state.directories.clone(),
            files: files.collect(),
            file_next: state.file_next,
            ..State::default()
        };
        Self { state: Arc::new(Mutex::new(after)) }
    }

    /// The bytes of a file as reads show them; `None`: no such file.
    pub fn contents(&self, path: &str) -> Option<Vec<u8>> {
        let state = self.state.lock();
        let file = state.names.get(path)?;
        state.files.get(file).map(|file| file.cache.to_vec())
    }

    /// Puts a file with these bytes in place, durable at once: for planting damage.
    pub fn plant(&self, path: &str, bytes: &[u8]) {
        let mut state = self.state.lock();
        state.file_next += 1;
        let number = state.file_next;
        let bytes = Arc::new(bytes.to_vec());
        let file = FileState { cache: Arc::clone(&bytes), medium: bytes, pending: Vec::new() };
        state.files.insert(number, file);
        state.names.insert(path.to_owned(), number);
        state.names_durable.insert(path.to_owned(), number);
    }

    /// Paths of all files, sorted.
    pub fn paths(&self) -> Vec<String> {
        self.state.lock().names.keys().cloned().collect()
    }
}

impl Device for MemoryDevice {
    fn open(&self, path: &str, mode: OpenMode) -> io::Result<Arc<dyn DeviceFile>> {
        let mut state = self.state.lock();
        let found = state.names.get(path).copied();
        let file = match (mode, found) {
            (OpenMode::CreateNew, Some(_)) => return Err(io::ErrorKind::AlreadyExists.into()),
            (OpenMode::CreateNew, None) => {
                state.change(true)?;
                state.file_next += 1;
                let number = state.file_next;
                state.files.insert(number, FileState::default());
                state.names.insert(path.to_owned(), number);
                state.names_pending.push(NameChange::Set(path.to_owned(), number));
                number
            }
            (OpenMode::Read | OpenMode::ReadWrite, Some(file)) => {
                state.check_power()?;
                file
            }
            (OpenMode::Read | OpenMode::ReadWrite, None) => return Err(io::ErrorKind::NotFound.into()),
        };
        Ok(Arc::new(MemoryFile { state: Arc::clone(&self.state), file }))
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        let mut state = self.state.lock();
        state.change(false)?;
        let change = NameChange::Rename(from.to_owned(), to.to_owned());
        if !state.names.contains_key(from) {
            return Err(io::ErrorKind::NotFound.into());
        }
        change.apply(&mut state.names);
        state.names_pending.push(change);
        Ok(())
    }

    fn remove(&self, path: &str) -> io::Result<()> {
        let mut state = self.state.lock();
        state.change(false)?;
        if state.names.remove(path).is_none() {
            return Err(io::ErrorKind::NotFound.into());
        }
        state.names_pending.push(NameChange::Remove(path.to_owned()));
        Ok(())
    }

    fn list(&self, dir: &str) -> io::Result<Vec<String>> {
        let state = self.state.lock();
        state.check_power()?;
        if !state.directories.contains(dir) {
            return Err(io::ErrorKind::NotFound.into());
        }
        let all = state.names.keys().chain(state.directories.iter());
        let mut names: Vec<String> = all
            .filter(|path| !path.is_empty() && parent_of(path) == dir)
            .map(|path| path.rsplit_once('/').map_or(path.as_str(), |(_, name)| name).to_owned())
            .collect();
        names.sort();
        Ok(names)
    }

    fn create_dir(&self, dir: &str) -> io::Result<()> {
        let mut state = self.state.lock();
        if !state.directories.contains(dir) {
            state.change(true)?;
            state.directories.insert(dir.to_owned());
        }
        Ok(())
    }

    fn sync_dir(&self, dir: &str) -> io::Result<()> {
        let mut state = self.state.lock();
        state.change(false)?;
        let (synced, pending): (Vec<_>, Vec<_>) =
            std::mem::take(&mut state.names_pending).into_iter().partition(|change| change.touches(dir));
        state.names_pending = pending;
        for change in synced {
            change.apply(&mut state.names_durable);
        }
        Ok(())
    }

    fn lock_exclusive(&self, path: &str) -> io::Result<Option<Box<dyn Send + Sync>>> {
        let mut state = self.state.lock();
        state.check_power()?;
        if !state.locks.insert(path.to_owned()) {
            return Ok(None);
        }
        Ok(Some(Box::new(MemoryLock { state: Arc::clone(&self.state), path: path.to_owned() })))
    }

    fn lock_is_held(&self, path: &str) -> io::Result<bool> {
        Ok(self.state.lock().locks.contains(path))
    }

    fn display(&self, path: &str) -> String {
        format!("memory:{path}")
    }
}

struct MemoryLock {
    state: Arc<Mutex<State>>,
    path: String,
}

impl Drop for MemoryLock {
    fn drop(&mut self) {
        self.state.lock().locks.remove(&self.path);
    }
}

struct MemoryFile {
    state: Arc<Mutex<State>>,
    file: u64,
}

impl MemoryFile {
    fn write(&self, end: usize, unsynced: Unsynced) -> io::Result<()> {
        let mut state = self.state.lock();
        let grows = end.saturating_sub(state.file(self.file)?.cache.len());
        state.change(grows > 0)?;
        if state.capacity_bytes.is_some_and(|limit| state.used_bytes() + grows as u64 > limit) && grows > 0 {
            return Err(disk_full());
        }
        let file = state.file(self.file)?;
        unsynced.apply(&mut file.cache);
        file.pending.push(unsynced);
        Ok(())
    }
}

impl DeviceFile for MemoryFile {
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        let mut state = self.state.lock();
        state.check_power()?;
        state.reads += 1;
        let read = state.reads;
        if state.faults.contains(&Fault::ReadErrorAt(read)) {
            return Err(io::Error::from_raw_os_error(EIO));
        }
        let file = state.file(self.file)?;
        let start = usize::try_from(offset).unwrap_or(usize::MAX).min(file.cache.len());
        let count = buffer.len().min(file.cache.len() - start);
        buffer[..count].copy_from_slice(&file.cache[start..start + count]);
        Ok(count)
    }

    fn write_all_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        let offset = usize::try_from(offset).map_err(io::Error::other)?;
        self.write(offset + bytes.len(), Unsynced::Bytes(offset, bytes.to_vec()))
    }

    fn size(&self) -> io::Result<u64> {
        Ok(self.state.lock().file(self.file)?.cache.len() as u64)
    }

    fn allocate(&self, len: u64) -> io::Result<()> {
        let bytes = usize::try_from(len).map_err(io::Error::other)?;
        self.write(bytes, Unsynced::Zeros(bytes))
    }

    fn sync_data(&self) -> io::Result<()> {
        self.state.lock().sync(self.file)
    }

    fn sync_all(&self) -> io::Result<()> {
        self.state.lock().sync(self.file)
    }

    /// Clean pages only, as on Linux: what a failed sync marked clean is forgotten, dirty pages stay.
    fn forget_cache(&self) -> io::Result<()> {
        let mut state = self.state.lock();
        state.check_power()?;
        let file = state.file(self.file)?;
        file.cache.clone_from(&file.medium);
        let pending = std::mem::take(&mut file.pending);
        for unsynced in &pending {
            unsynced.apply(&mut file.cache);
        }
        file.pending = pending;
        Ok(())
    }
}
