//! An image of the control state, so that a start need not read the whole journal for its records.
//!
//! Owns one file, `server/control.json` in the data directory. It is a cache (CTL-2): what is missing, damaged, of another directory
//! or ahead of the journal is passed over, and the records are read from the beginning.

use std::fs::{self, File};
use std::io::{self, Write as _};
use std::path::PathBuf;

use aws_lc_rs::digest::{SHA256, digest};
use serde::{Deserialize, Serialize};
use tp_actors::tp_core::ids::{Seq, SlotSeed};

use super::state::{ControlState, StateImage};

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
    state: StateImage,
}

/// 2: who is behind a key, when an approval was given.
const VERSION: u32 = 2;

impl Image {
    pub(crate) fn new(folder: PathBuf, seed: SlotSeed) -> Self {
        let directory = hex(digest(&SHA256, &seed.0).as_ref());
        Self { path: folder.join("control.json"), directory }
    }

    /// The state of the image and the event it stands at; `None`: there is none that fits.
    pub(crate) fn read(&self, end: Seq) -> Option<(Seq, ControlState)> {
        let text = fs::read_to_string(&self.path).ok()?;
        let (body, sum) = text.trim_end().rsplit_once('\n')?;
        if sum != hex(digest(&SHA256, body.as_bytes()).as_ref()) {
            return None;
        }
        let contents: Contents = serde_json::from_str(body).ok()?;
        let fits = contents.v == VERSION && contents.directory == self.directory && contents.as_of <= end.0;
        fits.then(|| (Seq(contents.as_of), ControlState::from_image(contents.state)))
    }

    pub(crate) fn write(&self, as_of: Seq, state: &ControlState) -> io::Result<()> {
        let contents =
            Contents { v: VERSION, directory: self.directory.clone(), as_of: as_of.0, state: state.to_image() };
        let body = serde_json::to_string(&contents)?;
        let sum = hex(digest(&SHA256, body.as_bytes()).as_ref());
        if let Some(folder) = self.path.parent() {
            fs::create_dir_all(folder)?;
        }
        let beside = self.path.with_extension("new");
        let mut file = File::create(&beside)?;
        write!(file, "{body}\n{sum}\n")?;
        file.sync_all()?;
        fs::rename(&beside, &self.path)
    }
}

fn hex(bytes: &[u8]) -> String {
    use std::fmt::Write as _;
    bytes.iter().fold(String::with_capacity(2 * bytes.len()), |mut text, byte| {
        let _ = write!(text, "{byte:02x}"); // into memory
        text
    })
}
