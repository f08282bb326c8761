//! The one seam to the operating system.
//!
//! Owns the list of everything this crate ever asks of a file system, so that every fault can be injected by another
//! implementation. Refuses to know formats. Paths are relative to the data directory, separated by `/`; the empty path
//! is the data directory itself.
//!
//! Contract, relied upon by the durability argument in `docs/src/journal-format.md`:
//!
//! - only a sync that returned `Ok` makes bytes durable; `sync_dir` makes names durable (creation, rename, removal);
//! - `rename` replaces atomically;
//! - `allocate` leaves the file `len` bytes long, reading as zeros, with its space really taken: later writes inside it
//!   do not fail for want of space.

use std::io;
use std::sync::Arc;

/// How to open a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OpenMode {
    /// For reading; the file exists.
    Read,
    /// For reading and writing; the file exists.
    ReadWrite,
    /// For reading and writing; the file does not exist yet.
    CreateNew,
}

/// Names and files below one data directory.
pub trait Device: Send + Sync {
    /// Opens a file.
    ///
    /// # Errors
    /// What the system reports; `NotFound` and `AlreadyExists` are told apart by kind.
    fn open(&self, path: &str, mode: OpenMode) -> io::Result<Arc<dyn DeviceFile>>;

    /// Renames within one directory, replacing the target atomically. Durable after [`Device::sync_dir`].
    ///
    /// # Errors
    /// What the system reports.
    fn rename(&self, from: &str, to: &str) -> io::Result<()>;

    /// Removes a file. Durable after [`Device::sync_dir`].
    ///
    /// # Errors
    /// What the system reports.
    fn remove(&self, path: &str) -> io::Result<()>;

    /// Names of the entries of a directory, sorted.
    ///
    /// # Errors
    /// What the system reports; `NotFound` when the directory does not exist.
    fn list(&self, dir: &str) -> io::Result<Vec<String>>;

    /// Creates a directory (the data directory itself with its parents), durably; no error when it exists.
    ///
    /// # Errors
    /// What the system reports.
    fn create_dir(&self, dir: &str) -> io::Result<()>;

    /// Makes the names in a directory durable.
    ///
    /// # Errors
    /// What the system reports.
    fn sync_dir(&self, dir: &str) -> io::Result<()>;

    /// Takes the exclusive lock named by `path` (created when missing) until the guard is dropped, or until the process
    /// ends. `None`: somebody else holds it.
    ///
    /// # Errors
    /// What the system reports.
    fn lock_exclusive(&self, path: &str) -> io::Result<Option<Box<dyn Send + Sync>>>;

    /// Whether somebody holds the exclusive lock; writes nothing.
    ///
    /// # Errors
    /// What the system reports.
    fn lock_is_held(&self, path: &str) -> io::Result<bool>;

    /// The path as messages show it.
    fn display(&self, path: &str) -> String;
}

/// One open file.
pub trait DeviceFile: Send + Sync {
    /// Reads until `buffer` is full or the file ends; returns the bytes read.
    ///
    /// # Errors
    /// What the system reports.
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize>;

    /// Writes all bytes.
    ///
    /// # Errors
    /// What the system reports; some of the bytes may then have been written.
    fn write_all_at(&self, bytes: &[u8], offset: u64) -> io::Result<()>;

    /// Length in bytes.
    ///
    /// # Errors
    /// What the system reports.
    fn size(&self) -> io::Result<u64>;

    /// Makes an empty file `len` bytes long, all zeros, its space really taken.
    ///
    /// # Errors
    /// What the system reports; `StorageFull` shows here and not at a later write.
    fn allocate(&self, len: u64) -> io::Result<()>;

    /// Makes the contents durable (`fdatasync`).
    ///
    /// # Errors
    /// What the system reports. After an error the state of the contents is unknown.
    fn sync_data(&self) -> io::Result<()>;

    /// Makes contents and metadata durable (`fsync`).
    ///
    /// # Errors
    /// What the system reports. After an error the state of the contents is unknown.
    fn sync_all(&self) -> io::Result<()>;

    /// Gives the space of a range back that reads as zeros and goes on reading as zeros (a hole). A hint: where the file system has
    /// no holes, nothing happens.
    ///
    /// # Errors
    /// What the system reports; the contents are as before.
    fn give_back(&self, offset: u64, bytes: u64) -> io::Result<()> {
        let _ = (offset, bytes);
        Ok(())
    }

    /// Cuts the file to `len` bytes: what lies beyond is no longer needed. A hint, for large files that will be removed: removing
    /// gigabytes at once makes the file system busy, and everybody's syncs wait.
    ///
    /// # Errors
    /// What the system reports; the file may then be as long as before.
    fn shrink(&self, len: u64) -> io::Result<()> {
        let _ = len;
        Ok(())
    }

    /// Asks that from now on reads and writes go past the page cache where memory, offset and length are multiples of 4 KiB. For
    /// large transfers that nobody reads again soon: through the cache each byte is copied, and takes a page that the system must
    /// find, clear and write back, which on two cores is felt by everybody else. A hint: what the contract says holds either way.
    fn pass_cache(&self) {}

    /// Drops the file's clean pages from the page cache, so that the next read comes from the medium.
    ///
    /// # Errors
    /// What the system reports.
    fn forget_cache(&self) -> io::Result<()>;
}
