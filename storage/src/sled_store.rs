//! An embedded store that can be made durable: sled, plus the syncs it does not do.
//!
//! Owns opening, the identity entry (engine id, format) and durability; refuses to know what is stored. A panic of sled
//! over what it reads is an error here, and one over a last sync while it is dropped is none ([`LastHandle`]).
//!
//! sled 0.34's `flush()` writes its buffers with `pwrite` and then calls `sync_file_range`, which makes nothing durable
//! (no metadata, no device cache): spacejam/sled#1452. So after it every file that changed is synced here, through
//! descriptors of our own: an `fsync` concerns the file, whichever descriptor it comes through.

use std::collections::BTreeSet;
use std::fs::File;
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::frame::FORMAT;
use crate::store_marker;

const META: &[u8] = b"meta";
const ENGINE: &[u8] = b"engine_id";
const FORMAT_KEY: &[u8] = b"format";

/// Page cache of one store, in bytes.
const CACHE_BYTES: u64 = 64 << 20;

/// Why a store failed; the callers give it their own words.
#[derive(Debug)]
pub(crate) enum StoreError {
    Store(sled::Error),
    Io(PathBuf, io::Error),
    NotOurs,
    NewerFormat(u64),
    Corrupt(String),
}

impl StoreError {
    pub(crate) fn corrupt(what: &str) -> Self {
        Self::Corrupt(what.to_owned())
    }
}

/// What sled says about its bytes is told from what the system says about a call.
impl From<sled::Error> for StoreError {
    fn from(error: sled::Error) -> Self {
        if is_damage(&error) { Self::Corrupt(format!("sled: {error}")) } else { Self::Store(error) }
    }
}

/// Whether the error is about what the store holds. sled reports torn segments and short reads as I/O errors that no
/// system call returned, and a damaged `conf` as one that it does not support.
fn is_damage(error: &sled::Error) -> bool {
    match error {
        sled::Error::Io(io) => {
            let is_contents =
                matches!(io.kind(), io::ErrorKind::UnexpectedEof | io::ErrorKind::InvalidData | io::ErrorKind::Other);
            io.raw_os_error().is_none() && is_contents && !is_locked(error)
        }
        _ => true,
    }
}

fn is_locked(error: &sled::Error) -> bool {
    matches!(error, sled::Error::Io(io) if io.to_string().contains("acquire lock"))
}

/// How often, and how long apart, an open is tried while the store is still locked.
const LOCK_TRIES: u32 = 200;
const LOCK_PAUSE: Duration = Duration::from_millis(10);

/// Opens a store. One that was just dropped keeps its lock until sled's own threads have let go of it, a moment later; the data
/// directory's lock has already made sure that nobody else has it.
fn open_unlocked(config: &sled::Config) -> Result<sled::Db, StoreError> {
    let open = || {
        let opened = catch_unwind(AssertUnwindSafe(|| config.open()));
        opened.unwrap_or_else(|_| Err(sled::Error::ReportableBug("it panicked over what it read".into())))
    };
    for _ in 1..LOCK_TRIES {
        match open() {
            Err(error) if is_locked(&error) => std::thread::sleep(LOCK_PAUSE),
            done => return Ok(done?),
        }
    }
    Ok(open()?)
}

/// A handle on the store for owners of trees: declared after them, so that it is dropped after them. The last handle of all syncs
/// sled's file and panics when that fails, as it does where the file system is gone. What must be durable was synced by
/// [`SledStore::sync`] before, and whoever drops the store goes on with the error that they have.
#[derive(Clone)]
pub(crate) struct LastHandle(Option<sled::Db>);

impl LastHandle {
    pub(crate) const fn new(db: sled::Db) -> Self {
        Self(Some(db))
    }
}

impl Drop for LastHandle {
    fn drop(&mut self) {
        let db = self.0.take();
        let _ = catch_unwind(AssertUnwindSafe(|| drop(db))); // see above
    }
}

pub(crate) struct SledStore {
    pub(crate) db: sled::Db,
    pub(crate) meta: sled::Tree,
    path: PathBuf,
    /// Files that are written once and were synced.
    synced: BTreeSet<PathBuf>,
    pub(crate) last: LastHandle,
}

impl SledStore {
    /// Opens or creates the store of this engine.
    pub(crate) fn open(path: &Path, engine_id: u128) -> Result<Self, StoreError> {
        let is_marked = store_marker::check(path, engine_id)?;
        // No background flushing: what is durable is decided by `sync` alone.
        let config = sled::Config::new().path(path).cache_capacity(CACHE_BYTES).flush_every_ms(None);
        let opened = open_unlocked(&config)?;
        let last = LastHandle::new(opened.clone());
        let db = opened; // after `last`: values are dropped in the opposite order
        let meta = db.open_tree(META)?;
        let mut store = Self { db, meta, path: path.to_owned(), synced: BTreeSet::new(), last };
        store.check_identity(engine_id, is_marked)?;
        if !is_marked {
            store_marker::create(path, engine_id)?;
        }
        Ok(store)
    }

    fn check_identity(&mut self, engine_id: u128, is_marked: bool) -> Result<(), StoreError> {
        let Some(found) = self.meta.get(ENGINE)? else {
            if is_marked {
                return Err(StoreError::corrupt("it was set up once and is empty now"));
            }
            if !self.db.was_recovered() || self.is_empty()? {
                self.meta.insert(FORMAT_KEY, &u64::from(FORMAT).to_be_bytes())?;
                self.meta.insert(ENGINE, &engine_id.to_be_bytes())?;
                return self.sync();
            }
            return Err(StoreError::corrupt("it has entries but no engine id"));
        };
        let format = self.number(FORMAT_KEY)?.ok_or_else(|| StoreError::corrupt("it has no format version"))?;
        if format > u64::from(FORMAT) {
            return Err(StoreError::NewerFormat(format));
        }
        if found.as_ref() == engine_id.to_be_bytes() { Ok(()) } else { Err(StoreError::NotOurs) }
    }

    fn is_empty(&self) -> Result<bool, StoreError> {
        for name in self.db.tree_names() {
            if !self.db.open_tree(name)?.is_empty() {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// A number in the meta tree.
    pub(crate) fn number(&self, key: &[u8]) -> Result<Option<u64>, StoreError> {
        match self.meta.get(key)? {
            Some(bytes) => {
                Ok(Some(be_u64(&bytes).ok_or_else(|| StoreError::corrupt("a number has the wrong length"))?))
            }
            None => Ok(None),
        }
    }

    /// Writes out sled's buffers and syncs every file that may have changed, and the directories.
    pub(crate) fn sync(&mut self) -> Result<(), StoreError> {
        self.db.flush()?;
        self.sync_files().map_err(|(path, error)| StoreError::Io(path, error))
    }

    fn sync_files(&mut self) -> Result<(), (PathBuf, io::Error)> {
        sync(&self.path.join("db"))?;
        let mut new = false;
        for dir in [self.path.clone(), self.path.join("blobs")] {
            for file in files_in(&dir)? {
                if file.ends_with("db") || self.synced.contains(&file) {
                    continue;
                }
                match sync(&file) {
                    // sled removes old snapshots and blobs by itself.
                    Err((_, error)) if error.kind() == io::ErrorKind::NotFound => continue,
                    other => other?,
                }
                self.synced.insert(file);
                new = true;
            }
        }
        if new {
            sync(&self.path)?;
            sync(&self.path.join("blobs"))?;
            sync(self.path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new(".")))?;
        }
        Ok(())
    }
}

fn files_in(dir: &Path) -> Result<Vec<PathBuf>, (PathBuf, io::Error)> {
    let failed = |error| (dir.to_owned(), error);
    let mut files = Vec::new();
    for entry in std::fs::read_dir(dir).map_err(failed)? {
        let entry = entry.map_err(failed)?;
        if entry.file_type().map_err(failed)?.is_file() {
            files.push(entry.path());
        }
    }
    Ok(files)
}

fn sync(path: &Path) -> Result<(), (PathBuf, io::Error)> {
    File::open(path).and_then(|file| file.sync_all()).map_err(|error| (path.to_owned(), error))
}

/// A big-endian number that fills the slice.
pub(crate) fn be_u64(bytes: &[u8]) -> Option<u64> {
    bytes.try_into().ok().map(u64::from_be_bytes)
}
