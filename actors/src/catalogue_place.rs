//! Where the catalogue's store lies: a folder below the data directory.
//!
//! Owns opening it, telling whether the folder is still the one that was opened, and putting a damaged one aside. Refuses
//! to delete a store: the cursors in it are nowhere else. Only an older folder that was put aside is replaced.

use std::io::{self, ErrorKind};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use tp_storage::{CatalogueError, SledCatalogue};

/// What a look at the folder shows.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Seen {
    /// The one that was opened.
    Same,
    /// None.
    Gone,
    /// Another one.
    Replaced,
    /// The system did not say.
    Unclear,
}

/// The folder, and whose store it is.
pub(crate) struct Place {
    path: PathBuf,
    engine_id: u128,
    /// The number of the file in use: another one after the folder was deleted or replaced.
    file: Option<u64>,
}

impl Place {
    /// Of a store that is open already, or is opened next.
    pub(crate) fn new(path: PathBuf, engine_id: u128) -> Self {
        let file = number_of(&path).ok();
        Self { path, engine_id, file }
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Opens what lies there; makes it when nothing does.
    pub(crate) fn open(&mut self) -> Result<SledCatalogue, CatalogueError> {
        let store = SledCatalogue::open(&self.path, self.engine_id)?;
        self.file = number_of(&self.path).ok();
        Ok(store)
    }

    pub(crate) fn look(&mut self) -> Seen {
        match (number_of(&self.path), self.file) {
            (Ok(number), None) => {
                self.file = Some(number); // it was not seen at the open
                Seen::Same
            }
            (Ok(number), Some(opened)) if number == opened => Seen::Same,
            (Ok(_), Some(_)) => Seen::Replaced,
            (Err(error), _) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) => Seen::Gone,
            (Err(_), _) => Seen::Unclear,
        }
    }

    /// Renames the folder, in the place of one that was put aside before. Returns its new path. Nothing there: nothing is
    /// done.
    pub(crate) fn put_aside(&self) -> Result<PathBuf, CatalogueError> {
        let aside = aside_of(&self.path);
        let failed = |source| CatalogueError::Io { path: self.path.display().to_string(), source };
        if !self.path.try_exists().map_err(failed)? {
            return Ok(aside);
        }
        remove(&aside).and_then(|()| std::fs::rename(&self.path, &aside)).map_err(failed)?;
        Ok(aside)
    }
}

fn aside_of(path: &Path) -> PathBuf {
    path.with_extension("damaged")
}

fn remove(path: &Path) -> io::Result<()> {
    let removed = match std::fs::symlink_metadata(path) {
        Ok(metadata) if metadata.is_dir() => std::fs::remove_dir_all(path),
        Ok(_) => std::fs::remove_file(path),
        Err(error) => Err(error),
    };
    removed.or_else(|error| if error.kind() == ErrorKind::NotFound { Ok(()) } else { Err(error) })
}

fn number_of(path: &Path) -> io::Result<u64> {
    std::fs::metadata(path.join("db")).map(|metadata| metadata.ino())
}
