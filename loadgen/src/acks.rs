//! A record of everything that was acknowledged, kept outside the engine, to audit a directory by afterwards.
//!
//! Owns the file and its thread; refuses to know commands. One line an acknowledgement: key kind, key, owning account,
//! outcome, sequence number; comma-separated, ids in hexadecimal. A line counts once its newline is there.
//!
//! ```text
//!  driver ── batches ──► thread: write ── fdatasync every 50 ms ──► FILE
//! ```

use std::fmt::Write as _;
use std::fs::File;
use std::io::Write as _;
use std::path::Path;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, anyhow};
use crossbeam::channel::{Receiver, RecvTimeoutError, Sender, bounded};
use tpcore::{AccountId, Key, KeyKind, Reply, Seq};

use crate::network::api_account;

/// Bytes handed to the thread at once.
const BATCH_BYTES: usize = 64 * 1024;
/// The longest that acknowledgements stay unwritten or unsynced.
const SYNC: Duration = Duration::from_millis(50);
/// Batches on their way: beyond that the driver waits, rather than lose any.
const BATCHES: usize = 256;

/// Records acknowledgements.
pub struct AckRecorder {
    batch: String,
    began: Instant,
    /// `None`: all was handed over.
    sender: Option<Sender<String>>,
    thread: Option<JoinHandle<std::io::Result<()>>>,
    tenant: Option<u32>,
}

impl AckRecorder {
    /// Into a new file.
    ///
    /// # Errors
    /// When the file exists, or cannot be made.
    pub fn create(path: &Path) -> Result<Self> {
        let file = File::create_new(path).with_context(|| format!("cannot make {}", path.display()))?;
        let (sender, receiver) = bounded(BATCHES);
        let thread = std::thread::Builder::new().name("acks".into()).spawn(move || write(file, &receiver))?;
        Ok(Self {
            batch: String::with_capacity(2 * BATCH_BYTES),
            began: Instant::now(),
            sender: Some(sender),
            thread: Some(thread),
            tenant: None,
        })
    }

    /// Accounts are those of a server's tenant: they are written as its engine names them, the tenant's number in the upper 32 bits
    /// and the API's id in the lower 96. So the audit can be of the server or of its directory.
    #[must_use]
    pub fn of_tenant(mut self, tenant: Option<u32>) -> Self {
        self.tenant = tenant;
        self
    }

    /// Records a reply. What is no event cannot be audited and is left out.
    pub fn record(&mut self, owner: AccountId, key: Key, reply: &Reply) {
        if reply.seq != Seq::ZERO {
            if self.batch.is_empty() {
                self.began = Instant::now();
            }
            let kind = match key.kind {
                KeyKind::UuidV7 => "uuid_v7",
                KeyKind::Opaque => "opaque",
            };
            let owner = self.tenant.map_or(owner.0, |tenant| u128::from(tenant) << 96 | api_account(owner));
            let (bits, outcome, seq) = (key.bits, reply.outcome, reply.seq.0);
            let _ = writeln!(self.batch, "{kind},{bits:032x},{owner:032x},{outcome},{seq}"); // into a string: never fails
        }
        if self.batch.len() >= BATCH_BYTES {
            self.flush();
        }
    }

    /// To be called often: hands over what has waited long enough.
    pub fn tick(&mut self) {
        if !self.batch.is_empty() && self.began.elapsed() >= SYNC {
            self.flush();
        }
    }

    fn flush(&mut self) {
        let batch = std::mem::replace(&mut self.batch, String::with_capacity(2 * BATCH_BYTES));
        if let Some(sender) = &self.sender {
            let _ = sender.send(batch); // the thread has ended with an error that `end` reports
        }
    }

    /// Writes and syncs the rest.
    ///
    /// # Errors
    /// What writing or syncing failed with, at any time.
    pub fn finish(mut self) -> Result<()> {
        self.end()
    }

    fn end(&mut self) -> Result<()> {
        self.flush();
        self.sender = None;
        let Some(thread) = self.thread.take() else { return Ok(()) };
        let written = thread.join().map_err(|_| anyhow!("a bug: writing acknowledgements panicked"))?;
        written.context("writing the acknowledgements")
    }
}

/// A run that ends with an error was told something too, and what it was told just before its disk failed matters most.
impl Drop for AckRecorder {
    fn drop(&mut self) {
        let _ = self.end(); // the run ends with another error
    }
}

/// The thread: writes what it is handed, until there is nobody left to hand it anything.
fn write(mut file: File, batches: &Receiver<String>) -> std::io::Result<()> {
    let mut is_dirty = false;
    let mut synced = Instant::now();
    loop {
        let received = batches.recv_timeout(SYNC);
        if let Ok(batch) = &received {
            file.write_all(batch.as_bytes())?;
            is_dirty = true;
        }
        let is_over = matches!(received, Err(RecvTimeoutError::Disconnected));
        if is_dirty && (is_over || synced.elapsed() >= SYNC) {
            file.sync_data()?;
            (is_dirty, synced) = (false, Instant::now());
        }
        if is_over {
            return file.sync_all();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tpcore::Outcome;

    /// A run whose disk failed left its last 50 ms unrecorded, and these are the acknowledgements that an audit after a power cut is
    /// for.
    #[test]
    fn a_recorder_that_is_dropped_by_an_error_has_written_everything() {
        let place = tempfile::tempdir().expect("a directory");
        let path = place.path().join("acks");
        let mut acks = AckRecorder::create(&path).expect("a new file");
        let reply = Reply { seq: Seq(7), ..Reply::bare(Outcome::Approved) };
        acks.record(AccountId(1), Key { bits: 255, kind: KeyKind::UuidV7 }, &reply);
        drop(acks);
        let written = std::fs::read_to_string(&path).expect("the record");
        assert_eq!(written, format!("uuid_v7,{:032x},{:032x},approved,7\n", 255, 1));
    }
}
