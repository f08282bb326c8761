//! The running control state: changes in, durable before they count.
//!
//! Owns the order of changes (one at a time) and building the state at start. Refuses to apply what is not durable (CTL-1); when it is
//! not known whether a record is durable, no further change is taken until the next start has read the journal.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use parking_lot::RwLock;
use serde::Deserialize;
use tokio::sync::Mutex;
use tp_actors::tp_core::event::Body;
use tp_actors::tp_core::ids::Seq;
use tp_actors::tp_core::outcome::Outcome;
use tp_actors::{Engine, FeedError};

use super::CONTROL_STREAM;
use super::image::Image;
use super::record::{Change, ControlRecord, RECORD_VERSION, RecordError, UnixMs};
use super::state::{ControlState, Refused};

/// Why a change was not made, or the state not built.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ControlError {
    /// The rules of the state.
    #[error(transparent)]
    Refused(#[from] Refused),
    /// The record was not made durable: nothing changed.
    #[error("the engine answered `{0}`: nothing was changed, try again")]
    NotRecorded(Outcome),
    /// It is not known whether a record is durable: the next start will know.
    #[error(
        "it is not known whether the change is durable: nothing more is changed until the next start has read the journal"
    )]
    InDoubt,
    /// The journal could not be read.
    #[error(transparent)]
    Feed(#[from] FeedError),
    /// A record in it could not be read.
    #[error("event {seq}: {what}")]
    Record {
        /// Its sequence number.
        seq: u64,
        /// Why.
        what: String,
    },
}

/// The control state of a running engine.
pub struct Control {
    shared: Arc<Shared>,
    /// One change at a time.
    writer: Arc<Mutex<()>>,
    image: Option<Image>,
    image_as_of: AtomicU64,
}

/// What a change under way needs: it goes on when whoever asked for it goes away.
struct Shared {
    engine: Arc<Engine>,
    state: RwLock<ControlState>,
    is_in_doubt: AtomicBool,
}

impl std::fmt::Debug for Control {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Control").finish_non_exhaustive()
    }
}

/// An image is written again when so many events lie behind the one before.
const IMAGE_EVENTS: u64 = 1_000_000;

impl Control {
    /// Builds the state from the newest image that fits and the records after it. Blocks.
    ///
    /// # Errors
    /// [`ControlError`].
    pub fn open(engine: Arc<Engine>, folder: Option<PathBuf>) -> Result<Self, ControlError> {
        let image = folder.map(|folder| Image::new(folder, engine.seed()));
        let end = engine.durable_seq();
        let (mut as_of, mut state) = image.as_ref().and_then(|image| image.read(end)).unwrap_or_default();
        let from = Seq(as_of.0 + 1);
        if from <= end {
            let mut feed = engine.events(from);
            while feed.position() <= end {
                let Some((seq, event)) = feed.next_timeout(Duration::from_secs(60))? else { break };
                if let Body::Recorded(recorded) = &event.body
                    && recorded.stream == CONTROL_STREAM
                {
                    let record = ControlRecord::from_bytes(&recorded.bytes)
                        .map_err(|error: RecordError| ControlError::Record { seq: seq.0, what: error.to_string() })?;
                    // What was written was checked then; a check that fails now means that the records do not fit.
                    state.check(&record.change, record.at).map_err(|refused| ControlError::Record {
                        seq: seq.0,
                        what: format!("it does not follow from the records before it: {refused}"),
                    })?;
                    state.apply(record.change, record.at, &record.by);
                }
                as_of = seq;
            }
        }
        let shared = Shared { engine, state: RwLock::new(state), is_in_doubt: AtomicBool::new(false) };
        Ok(Self { shared: Arc::new(shared), writer: Arc::default(), image, image_as_of: AtomicU64::new(as_of.0) })
    }

    /// Looks at the state. Be short: changes wait meanwhile.
    pub fn read<T>(&self, look: impl FnOnce(&ControlState) -> T) -> T {
        look(&self.shared.state.read())
    }

    /// Makes a change; when this returns, it is durable and in force.
    ///
    /// # Errors
    /// [`ControlError`].
    pub(crate) async fn change(&self, by: &str, change: Change) -> Result<(), ControlError> {
        self.change_if(by, |_| Ok(Some(change))).await.map(|_| ())
    }

    /// As [`Control::change`], with a change that depends on the state: nothing else changes between the look and the change. `None`:
    /// nothing has to be done. Gives back whether something was.
    pub(crate) async fn change_if(
        &self,
        by: &str,
        make: impl FnOnce(&ControlState) -> Result<Option<Change>, Refused>,
    ) -> Result<bool, ControlError> {
        let one_at_a_time = Arc::clone(&self.writer).lock_owned().await;
        if self.shared.is_in_doubt.load(Ordering::Acquire) {
            return Err(ControlError::InDoubt);
        }
        let at = now();
        let change = {
            let state = self.shared.state.read();
            let Some(change) = make(&state)? else { return Ok(false) };
            state.check(&change, at)?;
            change
        };
        let record = ControlRecord { v: RECORD_VERSION, at, by: by.to_owned(), change };
        // On its own: a client that breaks off drops its request, and half a change would leave all others in doubt.
        let shared = Arc::clone(&self.shared);
        let made = tokio::spawn(async move {
            let made = shared.make(record).await;
            drop(one_at_a_time);
            made
        });
        made.await.map_err(|_| ControlError::InDoubt)?.map(|()| true)
    }

    /// Writes an image when there is enough behind the last one, or at once. Blocks. An image that cannot be written costs time at
    /// the next start, and nothing else.
    pub fn write_image(&self, at_once: bool) -> std::io::Result<()> {
        let Some(image) = &self.image else { return Ok(()) };
        // What is durable now and was applied: a change under way would be above it, or in doubt.
        let Ok(_no_change_under_way) = self.writer.try_lock() else { return Ok(()) };
        let as_of = self.shared.engine.durable_seq();
        let behind = as_of.0.saturating_sub(self.image_as_of.load(Ordering::Relaxed));
        if self.shared.is_in_doubt.load(Ordering::Acquire) || behind < if at_once { 1 } else { IMAGE_EVENTS } {
            return Ok(());
        }
        image.write(as_of, &self.shared.state.read())?;
        self.image_as_of.store(as_of.0, Ordering::Relaxed);
        Ok(())
    }
}

impl Shared {
    /// Makes a change that was checked: recorded first, then in force.
    async fn make(&self, record: ControlRecord) -> Result<(), ControlError> {
        self.is_in_doubt.store(true, Ordering::Release); // until the reply is there
        let reply = self.engine.record(CONTROL_STREAM, record.to_bytes()).await;
        match reply.outcome {
            outcome if outcome.is_approval() => {
                self.state.write().apply(record.change, record.at, &record.by);
                self.is_in_doubt.store(false, Ordering::Release);
                Ok(())
            }
            Outcome::InProgress | Outcome::SystemError => Err(ControlError::InDoubt),
            outcome => {
                self.is_in_doubt.store(false, Ordering::Release);
                Err(ControlError::NotRecorded(outcome))
            }
        }
    }
}

/// The wall clock.
pub(crate) fn now() -> UnixMs {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    UnixMs(u64::try_from(since.as_millis()).unwrap_or(u64::MAX))
}

/// What makes two commands the same one for a repeat: whose key, and the key. From the command's text as it is recorded.
pub(crate) fn identity_of(command: &str) -> String {
    #[derive(Deserialize, Default)]
    #[serde(default)]
    struct Named<'a> {
        account: Option<&'a str>,
        authorization: Option<&'a str>,
        capture: Option<&'a str>,
        #[serde(borrow)]
        key: Option<std::borrow::Cow<'a, str>>,
    }
    let named: Named<'_> = serde_json::from_str(command).unwrap_or_default();
    // An advice that names both belongs to the account.
    let owner = named.account.or(named.authorization).or(named.capture).unwrap_or_default();
    format!("{owner} {}", named.key.unwrap_or_default())
}
