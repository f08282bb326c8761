//! The catalogue's thread: the sparse index of frames and the consumers' cursors, off the acknowledge path.
//!
//! Owns following the journal, the watchdog over the store, and making it again; refuses to hold anything up: it reads
//! what is durable, at its own pace. The journal can give the index again, but not the cursors, so no store is ever
//! deleted here. Cursors that this engine has seen go into every store that it uses.
//!
//! ```text
//!  durable watch --> frames of the journal --> entries --> store
//!     it is damaged, or ahead of the journal --> put aside as catalogue.damaged, a new one from the first frame
//!     its folder is gone or another one      --> what lies there now, or a new one
//!     it cannot be opened, read or written   --> left alone; status says why; tried again once a second
//! ```

use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use crossbeam::channel::{Receiver, RecvTimeoutError, Sender, bounded};
use tp_core::ids::Seq;
use tp_storage::{
    Catalogue, CatalogueError, CatalogueTrouble, FrameEntry, FrameReader, FrameSource, MemoryCatalogue, ReadError,
};

use crate::catalogue_place::{Place, Seen};
use crate::error::CursorError;
use crate::shared::{Shared, panic_message};

/// Between two looks at the durable number.
const POLL: Duration = Duration::from_millis(20);
/// Between two syncs and looks at the folder.
const WATCH: Duration = Duration::from_secs(1);
/// Frames noted in one go.
pub(crate) const FRAMES: usize = 256;
/// How many times [`FRAMES`] are noted at most before a frame is looked for.
const FIND_STEPS: usize = 4;
/// How long a cursor's caller waits.
pub(crate) const CURSOR_WAIT: Duration = Duration::from_secs(5);

/// Orders to the catalogue.
pub(crate) enum CatalogueOrder {
    Get {
        name: String,
        reply: Sender<Result<Option<u64>, CursorError>>,
    },
    Set {
        name: String,
        seq: u64,
        reply: Sender<Result<(), CursorError>>,
    },
    /// The frame that holds a durable event; `None`: not noted yet, or no store.
    Find {
        seq: u64,
        reply: Sender<Option<FrameEntry>>,
    },
    Stop,
}

/// The running catalogue.
pub(crate) struct CatalogueHandle {
    pub(crate) thread: JoinHandle<()>,
    pub(crate) orders: Sender<CatalogueOrder>,
}

/// Starts the catalogue over an opened store, or over what lies at its place (`None`: in memory).
pub(crate) fn start(
    shared: Arc<Shared>,
    source: Arc<dyn FrameSource>,
    place: Option<Place>,
    store: Option<Box<dyn Catalogue>>,
) -> std::io::Result<CatalogueHandle> {
    let (orders, inbox) = bounded(64);
    let thread = std::thread::Builder::new().name("tp-catalogue".into()).spawn(move || {
        let mut keeper = Keeper {
            shared,
            source,
            place,
            store: Err(Arc::new(not_open())),
            reader: None,
            entries: Vec::with_capacity(FRAMES),
            noted: 0,
            cursors: BTreeMap::new(),
            watched: Instant::now(),
            is_dirty: false,
        };
        match store {
            Some(store) => keeper.take_over(Ok(store)),
            None => keeper.reopen(),
        }
        keeper.run(&inbox);
    })?;
    Ok(CatalogueHandle { thread, orders })
}

/// What is said before the first look.
fn not_open() -> CatalogueError {
    CatalogueError::Io { path: "catalogue".to_owned(), source: std::io::ErrorKind::NotConnected.into() }
}

type Store = Box<dyn Catalogue>;

struct Keeper {
    shared: Arc<Shared>,
    source: Arc<dyn FrameSource>,
    place: Option<Place>,
    /// `Err`: why there is none now.
    store: Result<Store, Arc<CatalogueError>>,
    reader: Option<Box<dyn FrameReader>>,
    /// Room for what is noted at once.
    entries: Vec<FrameEntry>,
    /// The last number in the store.
    noted: u64,
    /// All that any store of this engine's life showed to be set.
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
                Ok(CatalogueOrder::Find { seq, reply }) => {
                    let _ = reply.send(self.find(seq));
                }
                Err(RecvTimeoutError::Timeout) => {}
            }
            is_behind = self.step();
        }
        while self.step() {}
        let _ = self.guard(|store| store.sync()); // the index can be made again, and cursors were synced when set
    }

    /// Opens what lies there; a new store when nothing does.
    fn reopen(&mut self) {
        let opened = self.open();
        self.take_over(opened);
    }

    fn open(&mut self) -> Result<Store, CatalogueError> {
        match &mut self.place {
            Some(place) => Ok(Box::new(place.open()?)),
            None => Ok(Box::new(MemoryCatalogue::new())),
        }
    }

    fn take_over(&mut self, opened: Result<Store, CatalogueError>) {
        if let Err(error) = opened.and_then(|store| self.adopt(store)) {
            self.fail(&Arc::new(error));
        }
    }

    /// Uses a store, once it is known how far it is and it has the cursors that this engine has seen.
    fn adopt(&mut self, mut store: Store) -> Result<(), CatalogueError> {
        let noted = store.highest()?.map_or(0, |entry| entry.last_seq());
        let held = store.cursors()?;
        if noted > self.shared.durable.seq().0 {
            return Err(self.corrupt("it knows more than the journal".to_owned()));
        }
        let mut is_changed = false;
        for (name, seq) in self.cursors.iter().filter(|(name, seq)| held.get(*name) != Some(*seq)) {
            store.set_cursor(name, *seq)?;
            is_changed = true;
        }
        if is_changed {
            store.sync()?;
        }
        for (name, seq) in held {
            self.cursors.entry(name).or_insert(seq);
        }
        (self.noted, self.reader, self.is_dirty, self.store) = (noted, None, false, Ok(store));
        self.show(None);
        Ok(())
    }

    /// No store any more, or none yet. What happens to it goes by what the error says about it.
    fn fail(&mut self, error: &Arc<CatalogueError>) {
        self.let_go(error);
        if error.trouble() == CatalogueTrouble::Damaged {
            self.replace(error);
        }
    }

    fn let_go(&mut self, error: &Arc<CatalogueError>) {
        self.close(Arc::clone(error));
        self.show(Some(error.to_string().into()));
    }

    fn close(&mut self, why: Arc<CatalogueError>) {
        (self.store, self.reader, self.noted) = (Err(why), None, 0);
    }

    /// Puts the folder aside and begins a new store. What fails here is tried again at the next look.
    fn replace(&mut self, why: &CatalogueError) {
        let note = match &self.place {
            Some(place) => match place.put_aside() {
                Ok(aside) => format!("{why}; it was put aside as {} and made again from the journal", aside.display()),
                Err(error) => return self.let_go(&Arc::new(error)),
            },
            None => format!("{why}; it was made again from the journal"),
        };
        self.count_rebuild(note);
        if let Err(error) = self.open().and_then(|store| self.adopt(store)) {
            self.let_go(&Arc::new(error));
        }
    }

    fn count_rebuild(&mut self, note: String) {
        let mut status = self.shared.catalogue_status.lock();
        status.rebuilds += 1;
        status.note = Some(note.into());
    }

    fn show(&self, failure: Option<Arc<str>>) {
        let mut status = self.shared.catalogue_status.lock();
        (status.failure, status.is_stale) = (failure, true); // a look at what is missing follows
    }

    fn corrupt(&self, what: String) -> CatalogueError {
        let path =
            self.place.as_ref().map_or_else(|| "in memory".to_owned(), |place| place.path().display().to_string());
        CatalogueError::Corrupt { path, what }
    }

    /// Uses the store. A panic of the embedded store is damage.
    fn guard<T>(
        &mut self,
        work: impl FnOnce(&mut dyn Catalogue) -> Result<T, CatalogueError>,
    ) -> Result<T, Arc<CatalogueError>> {
        let store = self.store.as_mut().map_err(|error| Arc::clone(error))?;
        let done = catch_unwind(AssertUnwindSafe(|| work(&mut **store)));
        let done = done.unwrap_or_else(|panic| Err(self.corrupt(format!("it panicked: {}", panic_message(&*panic)))));
        done.map_err(|error| {
            let error = Arc::new(error);
            self.fail(&error);
            error
        })
    }

    /// Notes some of what became durable. Returns whether there is more.
    fn step(&mut self) -> bool {
        self.watch();
        let durable = self.shared.durable.seq().0;
        let mut entries = std::mem::take(&mut self.entries);
        entries.clear();
        if self.read_entries(durable, &mut entries).is_err() {
            self.reader = None; // tried again at the next look
            entries.clear();
        }
        let is_full = entries.len() == FRAMES;
        if let Some(last) = entries.last().map(FrameEntry::last_seq)
            && self.guard(|store| store.note(&entries)).is_ok()
        {
            (self.noted, self.is_dirty) = (last, true);
        }
        self.entries = entries;
        let mut status = self.shared.catalogue_status.lock();
        status.seq = Seq(self.noted);
        status.lag_events = durable.saturating_sub(self.noted);
        status.is_stale = self.store.is_err() || status.is_stale && self.noted < durable;
        is_full && self.store.is_ok()
    }

    fn read_entries(&mut self, durable: u64, entries: &mut Vec<FrameEntry>) -> Result<(), ReadError> {
        if self.noted >= durable || self.store.is_err() {
            return Ok(());
        }
        let mut reader = match self.reader.take() {
            Some(reader) => reader,
            None => self.source.read_from(self.noted + 1)?,
        };
        while entries.len() < FRAMES {
            let Some(entry) = reader.next_entry(durable)? else { break };
            entries.push(entry);
        }
        self.reader = Some(reader);
        Ok(())
    }

    /// Once a second: sync what was noted, and see whether the folder is still the one that was opened.
    fn watch(&mut self) {
        if self.watched.elapsed() < WATCH {
            return;
        }
        self.watched = Instant::now();
        let seen = self.place.as_mut().map_or(Seen::Same, Place::look);
        match seen {
            _ if self.store.is_err() => self.reopen(),
            Seen::Gone | Seen::Replaced => {
                self.close(Arc::new(not_open()));
                self.count_rebuild("its folder was deleted or replaced under the running engine".to_owned());
                self.reopen();
            }
            Seen::Same | Seen::Unclear => {
                if std::mem::take(&mut self.is_dirty) {
                    let _ = self.guard(|store| store.sync()); // a failure is shown and tried again
                }
            }
        }
    }

    /// What just became durable is noted first, a few steps of it: to look for it by other means costs more.
    fn find(&mut self, seq: u64) -> Option<FrameEntry> {
        for _ in 0..FIND_STEPS {
            if self.noted >= seq || !self.step() {
                break;
            }
        }
        self.guard(|store| store.find(seq)).ok().flatten()
    }

    fn cursor(&mut self, name: &str) -> Result<Option<u64>, CursorError> {
        self.guard(|store| store.cursor(name)).map_err(CursorError::Catalogue)
    }

    fn set_cursor(&mut self, name: &str, seq: u64) -> Result<(), CursorError> {
        let set = |store: &mut dyn Catalogue| store.set_cursor(name, seq).and_then(|()| store.sync());
        self.guard(set).map_err(CursorError::Catalogue)?;
        self.cursors.insert(name.to_owned(), seq);
        Ok(())
    }
}
