//! A folder of another device, seen as a device of its own.
//!
//! Owns the prefix of paths, and nothing else: with it a directory and its mirror can lie on one simulated disk, whose power is cut for
//! both at the same instant.

use std::io;
use std::sync::Arc;

use crate::device::{Device, DeviceFile, OpenMode};

/// A [`Device`] whose paths all lie in one folder of another.
pub struct FolderDevice {
    below: Arc<dyn Device>,
    folder: String,
}

impl FolderDevice {
    /// `folder`: as paths of `below` are written, without a `/` at its end.
    pub fn new(below: Arc<dyn Device>, folder: impl Into<String>) -> Self {
        Self { below, folder: folder.into() }
    }

    fn path(&self, path: &str) -> String {
        if path.is_empty() { self.folder.clone() } else { format!("{}/{path}", self.folder) }
    }
}

impl Device for FolderDevice {
    fn open(&self, path: &str, mode: OpenMode) -> io::Result<Arc<dyn DeviceFile>> {
        self.below.open(&self.path(path), mode)
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        self.below.rename(&self.path(from), &self.path(to))
    }

    fn remove(&self, path: &str) -> io::Result<()> {
        self.below.remove(&self.path(path))
    }

    fn list(&self, dir: &str) -> io::Result<Vec<String>> {
        self.below.list(&self.path(dir))
    }

    fn create_dir(&self, dir: &str) -> io::Result<()> {
        self.below.create_dir(&self.path(dir))
    }

    fn sync_dir(&self, dir: &str) -> io::Result<()> {
        self.below.sync_dir(&self.path(dir))
    }

    fn lock_exclusive(&self, path: &str) -> io::Result<Option<Box<dyn Send + Sync>>> {
        self.below.lock_exclusive(&self.path(path))
    }

    fn lock_is_held(&self, path: &str) -> io::Result<bool> {
        self.below.lock_is_held(&self.path(path))
    }

    fn display(&self, path: &str) -> String {
        self.below.display(&self.path(path))
    }
}
