//! Syncing the copies of a file at the same time.
//!
//! Owns the thread that syncs the mirror's file while the caller syncs its own, so that two disks take as long as the slower one, not
//! as long as both. Refuses to retry, and to know what was written.
//!
//! Without a mirror there is no thread. Under simulation the files are synced one after the other by the caller, so that a run repeats
//! itself.

use std::io;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};

use tp_planted::{Bug, has};

use crate::device::DeviceFile;

/// How the copies of a frame are synced.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum MirrorSync {
    /// At the same time, the mirror's by a thread of its own.
    #[default]
    Together,
    /// One after the other, by the caller.
    InTurn,
}

/// Syncs files; made for as many as there are copies.
pub(crate) struct Syncs {
    helper: Option<Helper>,
}

struct Helper {
    files: SyncSender<Arc<dyn DeviceFile>>,
    results: Receiver<io::Result<()>>,
}

impl Syncs {
    /// Without a thread.
    pub(crate) fn in_turn() -> Self {
        Self { helper: None }
    }

    /// # Errors
    /// The thread cannot be started.
    pub(crate) fn new(copies: usize, how: MirrorSync) -> io::Result<Self> {
        let helper = (copies > 1 && how == MirrorSync::Together).then(Helper::start).transpose()?;
        Ok(Self { helper })
    }

    /// Returns when all are synced.
    ///
    /// # Errors
    /// The number of the first that failed, and what the system reports. Every sync has ended by then.
    pub(crate) fn sync<'a>(
        &mut self,
        files: impl Iterator<Item = &'a Arc<dyn DeviceFile>>,
    ) -> Result<(), (usize, io::Error)> {
        let mut files = files.enumerate();
        let Some((_, first)) = files.next() else { return Ok(()) };
        if has(Bug::MirrorUnsynced) {
            return first.sync_data().map_err(|error| (0, error));
        }
        let Some(helper) = &self.helper else {
            first.sync_data().map_err(|error| (0, error))?;
            return files.try_for_each(|(copy, file)| file.sync_data().map_err(|error| (copy, error)));
        };
        let asked: Vec<usize> = files.map(|(copy, file)| helper.ask(file).map(|()| copy)).collect::<Result<_, _>>()?;
        let own = first.sync_data().map_err(|error| (0, error));
        let others = asked.into_iter().map(|copy| helper.wait().map_err(|error| (copy, error)));
        others.fold(own, Result::and)
    }
}

/// The thread ended, which it does only when it panicked: nothing is known of its sync.
fn gone() -> io::Error {
    io::Error::other("the thread that syncs the mirror ended")
}

impl Helper {
    fn start() -> io::Result<Self> {
        let (files, asked) = sync_channel::<Arc<dyn DeviceFile>>(1);
        let (done, results) = sync_channel(1);
        std::thread::Builder::new().name("tp-mirror".into()).spawn(move || {
            while let Ok(file) = asked.recv() {
                if done.send(file.sync_data()).is_err() {
                    return;
                }
            }
        })?;
        Ok(Self { files, results })
    }

    fn ask(&self, file: &Arc<dyn DeviceFile>) -> Result<(), (usize, io::Error)> {
        self.files.send(Arc::clone(file)).map_err(|_| (1, gone()))
    }

    fn wait(&self) -> io::Result<()> {
        self.results.recv().unwrap_or_else(|_| Err(gone()))
    }
}
