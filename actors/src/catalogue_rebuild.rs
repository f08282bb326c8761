//! Making a stopped engine's catalogue again, on request.
//!
//! Owns the order: the journal is read before the old store is touched; cursors that can be read stay. Refuses to delete:
//! a store that cannot be used is put aside.

use std::collections::BTreeMap;
use std::io::ErrorKind;
use std::path::Path;
use std::sync::Arc;

use tp_core::ids::Seq;
use tp_storage::{
    Catalogue as _, CatalogueError, CatalogueTrouble, DataDirectory, DirectoryError, DiskDevice, Floor, ReadError,
    RecoverError, SledCatalogue, scan_read_only,
};

use crate::catalogue::FRAMES;
use crate::catalogue_place::Place;
use crate::error::{ErrorClass, catalogue_class, directory_class, recover_class};
use crate::recovery::CATALOGUE_DIR;

/// What a rebuild of the catalogue wrote.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub struct CatalogueRebuilt {
    /// Frames noted.
    pub frames: u64,
    /// The last sequence number noted.
    pub last_seq: Seq,
}

/// Why the catalogue was not rebuilt. The journal is untouched.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RebuildError {
    /// The data directory.
    #[error(transparent)]
    Directory(#[from] DirectoryError),
    /// The journal.
    #[error(transparent)]
    Recover(#[from] RecoverError),
    /// The journal could not be read.
    #[error(transparent)]
    Read(#[from] ReadError),
    /// The store, or its folder.
    #[error(transparent)]
    Catalogue(#[from] CatalogueError),
}

impl RebuildError {
    /// What kind of trouble it is.
    pub fn class(&self) -> ErrorClass {
        match self {
            Self::Directory(error) => directory_class(error),
            Self::Recover(error) => recover_class(error),
            Self::Read(ReadError::Io { .. }) => ErrorClass::Disk,
            Self::Read(_) => ErrorClass::Corruption,
            Self::Catalogue(error) => catalogue_class(error),
        }
    }
}

/// Makes a stopped engine's catalogue again from the journal. Cursors that can still be read stay. A store that is
/// damaged, of another engine or of a newer format is put aside as `catalogue.damaged`. The journal is only read; the
/// directory's lock is held meanwhile.
///
/// # Errors
/// [`RebuildError`]. When the system did not let the store be read, nothing was done.
pub fn rebuild_catalogue(path: impl AsRef<Path>) -> Result<CatalogueRebuilt, RebuildError> {
    let device = Arc::new(DiskDevice::new(path.as_ref()));
    let looked = DataDirectory::open_read_only(device.clone())?;
    let identity = tp_storage::Identity { engine_id: looked.engine_id(), parameters: looked.parameters().to_vec() };
    let directory = DataDirectory::create_or_open(device, || identity)?;
    let journal = scan_read_only(&directory, Floor::default(), 1)?;
    let mut store = open_empty(Place::new(path.as_ref().join(CATALOGUE_DIR), directory.engine_id()))?;
    let mut reader = journal.source().read_from(1)?;
    let (mut frames, mut entries) = (0, Vec::with_capacity(FRAMES));
    while let Some(entry) = reader.next_entry(journal.last_seq)? {
        entries.push(entry);
        frames += 1;
        if entries.len() == FRAMES {
            store.note(&entries)?;
            entries.clear();
        }
    }
    store.note(&entries)?;
    store.sync()?;
    Ok(CatalogueRebuilt { frames, last_seq: Seq(journal.last_seq) })
}

/// A store without frames, with all cursors that could be read.
fn open_empty(mut place: Place) -> Result<SledCatalogue, CatalogueError> {
    let cursors = match place.open() {
        Ok(mut store) => {
            let cursors = store.cursors();
            if cursors.is_ok() && store.clear().is_ok() {
                return Ok(store);
            }
            cursors.unwrap_or_default()
        }
        Err(error) if is_to_stay(&error) => return Err(error),
        Err(_) => BTreeMap::new(),
    };
    place.put_aside()?;
    let mut store = place.open()?;
    for (name, seq) in &cursors {
        store.set_cursor(name, *seq)?;
    }
    store.sync()?;
    Ok(store)
}

/// Nothing is known about what lies there. Something that is no store at all, or no folder, is another matter.
fn is_to_stay(error: &CatalogueError) -> bool {
    use ErrorKind::{AlreadyExists, IsADirectory, NotADirectory};
    let kind = match error {
        CatalogueError::Io { source, .. } => source.kind(),
        _ => ErrorKind::Other,
    };
    let is_no_store = matches!(kind, AlreadyExists | IsADirectory | NotADirectory);
    error.trouble() == CatalogueTrouble::Unavailable && !is_no_store
}
