//! An image of the control state, so that a start need not read the whole journal for its records.
//!
//! Owns one file, `server/control.json` in the data directory. It is a cache (CTL-2): what is missing, damaged, of another directory,
//! ahead of the journal, or folded from another last record than the journal has there (an older journal was put back and went on)
//! is passed over, and the records are read from the beginning.

use std::path::{Path, PathBuf};
use std::{fs, io};

use serde::{Deserialize, Serialize};
use tp_actors::tp_core::ids::{Seq, SlotSeed};

use super::state::{ControlState, StateImage};
use crate::cache_file::{self, hash};

/// Where the image is, and of which directory.
pub(crate) struct Image {
    path: PathBuf,
    /// The directory's own seed: an image of another directory does not fit.
    directory: String,
}

#[derive(Serialize, Deserialize)]
struct Contents {
    v: u32,
    directory: String,
    as_of: u64,
    /// The last record that is in the state: its number and the SHA-256 of its bytes.
    last: Option<LastRecord>,
    state: StateImage,
}

/// A record as an image remembers it.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub(crate) struct LastRecord {
    pub(crate) seq: u64,
    pub(crate) hash: String,
}

impl LastRecord {
    pub(crate) fn new(seq: Seq, bytes: &[u8]) -> Self {
        Self { seq: seq.0, hash: hash(bytes) }
    }
}

/// What an image gives.
pub(crate) struct Read {
    pub(crate) as_of: Seq,
    pub(crate) last: Option<LastRecord>,
    pub(crate) state: ControlState,
}

const VERSION: u32 = 1;

impl Image {
    pub(crate) fn new(folder: &Path, seed: SlotSeed) -> Self {
        let directory = hash(&seed.0);
        Self { path: folder.join("control.json"), directory }
    }

    /// The state of the image and the event it stands at; `None`: there is none that can fit. Its last record is still to be compared.
    pub(crate) fn read(&self, end: Seq) -> Option<Read> {
        let contents: Contents = cache_file::read(&self.path)?;
        let fits = contents.v == VERSION && contents.directory == self.directory && contents.as_of <= end.0;
        fits.then(|| Read {
            as_of: Seq(contents.as_of),
            last: contents.last,
            state: ControlState::from_image(contents.state),
        })
    }

    /// Takes the image away.
    pub(crate) fn remove(&self) {
        let _ = fs::remove_file(&self.path); // mostly there is none
    }

    pub(crate) fn write(&self, as_of: Seq, last: Option<LastRecord>, state: &ControlState) -> io::Result<()> {
        let (directory, state) = (self.directory.clone(), state.to_image());
        let contents = Contents { v: VERSION, directory, as_of: as_of.0, last, state };
        cache_file::write(&self.path, &contents)
    }
}
