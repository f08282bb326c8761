//! The catalogue's thread: the sparse index of frames and the consumers' cursors, off the acknowledge path.
//!
//! Owns following the journal, the watchdog over the store's folder, and making it again; refuses to hold anything up:
//! it reads what is durable, at its own pace. When the store fails, or its folder is deleted, it is thrown away and made
//! again from the journal in the background. Cursors that this engine has seen are kept over that.
//!
//! ```text
//!  durable watch --> frames of the journal --> entries --> store      fails --> remove, open, from the first frame
//! ```

use std::collections::BTreeMap;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use crossbeam::channel::{Receiver, RecvTimeoutError, Sender, bounded};
use tp_core::ids::Seq;
use tp_storage::{
    Catalogue, CatalogueError, DataDirectory, DirectoryError, DiskDevice, Floor, FrameEntry, FrameReader, FrameSource,
    MemoryCatalogue, ReadError, RecoverError, SledCatalogue, scan_read_only,
};

use crate::error::{CursorError, ErrorClass, directory_class, recover_class};
use crate::recovery::CATALOGUE_DIR;
use crate::shared::Shared;

/// Between two looks at the durable number.
const POLL: Duration = Duration::from_millis(20);
/// Between two syncs and looks at the folder.
const WATCH: Duration = Duration::from_secs(1);
/// Frames noted in one go.
const FRAMES: usize = 256;
/// How long a cursor's caller waits.
pub(crate) const CURSOR_WAIT: Duration = Duration::from_secs(5);

/// Orders to the catalogue.
pub(crate) enum CatalogueOrder {
    Get { name: String, reply: Sender<Result<Option<u64>, CursorError>> },
    Set { name: String, seq: u64, reply: Sender<Result<(), CursorError>> },
    Stop,
}

/// The running catalogue.
pub(crate) struct CatalogueHandle {
    pub(crate) thread: JoinHandle<()>,
    pub(crate) orders: Sender<CatalogueOrder>,
}

/// Where the store is: a folder and the engine's id; `None`: in memory.
pub(crate) type Place = Option<(PathBuf, u128)>;

/// Starts the catalogue over an opened store, or makes one.
pub(crate) fn start(
    shared: Arc<Shared>,
    source: Arc<dyn FrameSource>,
    place: Place,
    store: Option<Box<dyn Catalogue>>,
) -> std::io::Result<CatalogueHandle> {
    let (orders, inbox) = bounded(64);
    let thread = std::thread::Builder::new().name("tp-catalogue".into()).spawn(move || {
        let mut keeper = Keeper {
            shared,
            source,
            identity: place.as_ref().and_then(|(path, _)| identity_of(path)),
            place,
            store: None,
            reader: None,
            noted: 0,
            cursors: BTreeMap::new(),
            watched: Instant::now(),
            is_dirty: false,
        };
        keeper.adopt(store);
        keeper.run(&inbox);
    })?;
    Ok(CatalogueHandle { thread, orders })
}

/// Which files the store's folder holds now: another number after it was deleted or replaced.
fn identity_of(path: &Path) -> Option<u64> {
    std::fs::metadata(path.join("db")).ok().map(|metadata| metadata.ino())
}

struct Keeper {
    shared: Arc<Shared>,
    source: Arc<dyn FrameSource>,
    place: Place,
    identity: Option<u64>,
    store: Option<Box<dyn Catalogue>>,
    reader: Option<Box<dyn FrameReader>>,
    /// The last number in the store.
    noted: u64,
    /// Seen by this engine.
    cursors: BTreeMap<String, u64>,
    watched: Instant,
    is_dirty: bool,
}

impl Keeper {
    fn run(&mut self, inbox: &Receiver<CatalogueOrder>) {
        let mut is_behind = false;
        loop {
            match inbox.recv_timeout(if is_behind { Duration::ZERO } else { POLL }) {
                Ok(CatalogueOrder::Stop) | Err(RecvTimeoutError::Disconnected) => break,
                Ok(CatalogueOrder::Get { name, reply }) => {
                    let _ = reply.send(self.cursor(&name)); // the caller may have given up
                }
                Ok(CatalogueOrder::Set { name, seq, reply }) => {
                    let _ = reply.send(self.set_cursor(&name, seq));
                }
                Err(RecvTimeoutError::Timeout) => {}
            }
            is_behind = self.step();
        }
        while self.step() {}
        let _ = self.guard(|store| store.sync()); // rebuildable: a failure costs a rebuild
    }

    /// Takes over a store, or makes one; finds out how far it is.
    fn adopt(&mut self, store: Option<Box<dyn Catalogue>>) {
        self.reader = None;
        self.store = store.or_else(|| self.make());
        let durable = self.shared.durable.seq().0;
        let highest = self.store.as_ref().map(|store| store.highest());
        self.noted = match highest {
            Some(Ok(entry)) => entry.map_or(0, |entry| entry.last_seq()),
            _ => 0,
        };
        if self.noted > durable {
            self.rebuild("it knows more than the journal");
        }
    }

    fn make(&mut self) -> Option<Box<dyn Catalogue>> {
        let Some((path, engine_id)) = &self.place else { return Some(Box::new(MemoryCatalogue::new())) };
        let mut opened = SledCatalogue::open(path, *engine_id);
        if opened.is_err() {
            let _ = std::fs::remove_dir_all(path); // if this fails, so does the next open
            opened = SledCatalogue::open(path, *engine_id);
        }
        self.identity = identity_of(path);
        opened.ok().map(|store| Box::new(store) as Box<dyn Catalogue>)
    }

    /// Throws the store away and begins again.
    fn rebuild(&mut self, _why: &str) {
        self.store = None;
        if let Some((path, _)) = &self.place {
            let _ = std::fs::remove_dir_all(path); // gone already, or the open will say so
        }
        (self.noted, self.reader) = (0, None);
        self.store = self.make();
        let cursors = self.cursors.clone();
        if let Some(store) = &mut self.store {
            for (name, seq) in &cursors {
                let _ = store.set_cursor(name, *seq);
            }
        }
        let mut status = self.shared.catalogue_status.lock();
        status.rebuilds += 1;
        status.is_stale = true;
    }

    /// Uses the store; a failure throws it away.
    fn guard<T>(
        &mut self,
        work: impl FnOnce(&mut dyn Catalogue) -> Result<T, CatalogueError>,
    ) -> Result<T, Arc<CatalogueError>> {
        let Some(store) = &mut self.store else {
            let path = self.place.as_ref().map_or(String::new(), |(path, _)| path.display().to_string());
            return Err(Arc::new(CatalogueError::Corrupt { path, what: "it could not be opened".into() }));
        };
        work(&mut **store).map_err(|error| {
            let error = Arc::new(error);
            self.rebuild(&error.to_string());
            error
        })
    }

    /// Notes some of what became durable. Returns whether there is more.
    fn step(&mut self) -> bool {
        self.watch();
        let durable = self.shared.durable.seq().0;
        let entries = self.read_entries(durable).unwrap_or_else(|_| {
            self.reader = None; // tried again at the next look
            Vec::new()
        });
        let is_full = entries.len() == FRAMES;
        if let Some(last) = entries.last().map(FrameEntry::last_seq)
            && self.guard(|store| store.note(&entries)).is_ok()
        {
            (self.noted, self.is_dirty) = (last, true);
        }
        let mut status = self.shared.catalogue_status.lock();
        status.seq = Seq(self.noted);
        status.lag_events = durable.saturating_sub(self.noted);
        status.is_stale &= self.noted < durable;
        is_full && self.store.is_some()
    }

    fn read_entries(&mut self, durable: u64) -> Result<Vec<FrameEntry>, ReadError> {
        let mut entries = Vec::new();
        if self.noted >= durable || self.store.is_none() {
            return Ok(entries);
        }
        let mut reader = match self.reader.take() {
            Some(reader) => reader,
            None => self.source.read_from(self.noted + 1)?,
        };
        while entries.len() < FRAMES {
            let Some(frame) = reader.next(durable)? else { break };
            entries.push(FrameEntry::from(&frame));
        }
        self.reader = Some(reader);
        Ok(entries)
    }

    /// Once a second: sync what was noted, and see whether the folder is still the one that was opened.
    fn watch(&mut self) {
        if self.watched.elapsed() < WATCH {
            return;
        }
        self.watched = Instant::now();
        let is_there = self.place.as_ref().is_none_or(|(path, _)| identity_of(path) == self.identity);
        if self.store.is_none() || !is_there || self.identity.is_none() && self.place.is_some() {
            self.rebuild("its folder is gone");
        } else if std::mem::take(&mut self.is_dirty) {
            let _ = self.guard(|store| store.sync()); // a failure has thrown it away
        }
    }

    fn cursor(&mut self, name: &str) -> Result<Option<u64>, CursorError> {
        if let Some(seq) = self.cursors.get(name) {
            return Ok(Some(*seq));
        }
        let found = self.guard(|store| store.cursor(name)).map_err(CursorError::Catalogue)?;
        if let Some(seq) = found {
            self.cursors.insert(name.to_owned(), seq);
        }
        Ok(found)
    }

    fn set_cursor(&mut self, name: &str, seq: u64) -> Result<(), CursorError> {
        self.cursors.insert(name.to_owned(), seq);
        let set = |store: &mut dyn Catalogue| store.set_cursor(name, seq).and_then(|()| store.sync());
        self.guard(set).map_err(CursorError::Catalogue)
    }
}

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
    /// The store.
    #[error(transparent)]
    Catalogue(#[from] CatalogueError),
    /// The old folder could not be removed.
    #[error("{path}: {source}")]
    Remove {
        /// The folder.
        path: String,
        /// The system's report.
        source: std::io::Error,
    },
}

impl RebuildError {
    /// What kind of trouble it is.
    pub fn class(&self) -> ErrorClass {
        match self {
            Self::Directory(error) => directory_class(error),
            Self::Recover(error) => recover_class(error),
            Self::Read(ReadError::Io { .. }) | Self::Catalogue(_) | Self::Remove { .. } => ErrorClass::Disk,
            Self::Read(_) => ErrorClass::Corruption,
        }
    }
}

/// Throws a stopped engine's catalogue away and makes it again from the journal. Cursors that can still be read stay.
/// The journal is only read; the directory's lock is held meanwhile.
///
/// # Errors
/// [`RebuildError`].
pub fn rebuild_catalogue(path: impl AsRef<Path>) -> Result<CatalogueRebuilt, RebuildError> {
    let device = Arc::new(DiskDevice::new(path.as_ref()));
    let looked = DataDirectory::open_read_only(device.clone())?;
    let identity = tp_storage::Identity { engine_id: looked.engine_id(), parameters: looked.parameters().to_vec() };
    let directory = DataDirectory::create_or_open(device, || identity)?;
    let journal = scan_read_only(&directory, Floor::default(), 1)?;
    let place = path.as_ref().join(CATALOGUE_DIR);
    let mut store = open_empty(&place, directory.engine_id())?;
    let mut reader = journal.source().read_from(1)?;
    let (mut frames, mut entries) = (0, Vec::with_capacity(FRAMES));
    while let Some(frame) = reader.next(journal.last_seq)? {
        entries.push(FrameEntry::from(&frame));
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

fn open_empty(place: &Path, engine_id: u128) -> Result<SledCatalogue, RebuildError> {
    let remove = |source| RebuildError::Remove { path: place.display().to_string(), source };
    if let Ok(mut store) = SledCatalogue::open(place, engine_id)
        && store.clear().is_ok()
    {
        return Ok(store);
    }
    if place.exists() {
        std::fs::remove_dir_all(place).map_err(remove)?;
    }
    Ok(SledCatalogue::open(place, engine_id)?)
}
