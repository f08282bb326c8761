//! The running control state: changes in, durable before they count.
//!
//! Owns the order of changes (one at a time) and building the state at start. Refuses to apply what is not durable (CTL-1); when it is
//! not known whether a record is durable, no further change is taken until the next start has read the journal.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use parking_lot::RwLock;
use tokio::sync::Mutex;
use tp_actors::tp_core::command::Record;
use tp_actors::tp_core::event::Body;
use tp_actors::tp_core::ids::Seq;
use tp_actors::tp_core::outcome::Outcome;
use tp_actors::{CallOptions, Engine, FeedError};

use super::CONTROL_STREAM;
use super::image::{Image, LastRecord, Read};
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
    /// The journal did not give all its events.
    #[error("the journal was read up to event {reached} of {end} only")]
    Short {
        /// The last one read.
        reached: u64,
        /// The last one.
        end: u64,
    },
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
    engine: Arc<Engine>,
    state: RwLock<ControlState>,
    /// One change at a time.
    writer: Arc<Mutex<()>>,
    is_in_doubt: AtomicBool,
    last: RwLock<Option<LastRecord>>,
    image: Option<Image>,
    image_as_of: AtomicU64,
}

impl std::fmt::Debug for Control {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Control").finish_non_exhaustive()
    }
}

/// As good as no deadline: a week.
const RECORD_MS_MAX: u64 = 7 * 86_400_000;

/// An image is written again when so many events lie behind the one before.
const IMAGE_EVENTS: u64 = 1_000_000;

/// What is folded from a stream of records while a server starts.
pub(crate) trait Fold {
    /// Which stream.
    fn stream(&self) -> u32;
    /// Up to which event it has been folded.
    fn as_of(&self) -> Seq;
    /// Takes a record of the stream.
    fn take(&mut self, seq: Seq, bytes: &[u8]) -> Result<(), String>;
    /// Everything up to that event was given.
    fn pass(&mut self, seq: Seq);
}

/// Gives all folds what they lack, in one reading of the journal. Blocks.
pub(crate) fn fold(engine: &Engine, folds: &mut [&mut dyn Fold]) -> Result<(), ControlError> {
    let end = engine.durable_seq();
    let Some(mut reached) = folds.iter().map(|fold| fold.as_of()).min().filter(|from| *from < end) else {
        return Ok(());
    };
    let mut feed = engine.events(Seq(reached.0 + 1));
    while feed.position() <= end {
        let next = feed.next_timeout(Duration::from_mins(1))?;
        let (seq, event) = next.ok_or(ControlError::Short { reached: reached.0, end: end.0 })?;
        for fold in folds.iter_mut().filter(|fold| fold.as_of() < seq) {
            if let Body::Recorded(recorded) = &event.body
                && recorded.stream == fold.stream()
            {
                fold.take(seq, &recorded.bytes).map_err(|what| ControlError::Record { seq: seq.0, what })?;
            }
            fold.pass(seq);
        }
        reached = seq;
    }
    Ok(())
}

/// The control state while a start folds it: the newest image that fits, then the records after it.
pub(crate) struct ControlFold {
    image: Option<Image>,
    as_of: Seq,
    last: Option<LastRecord>,
    state: ControlState,
}

impl ControlFold {
    pub(crate) fn open(engine: &Engine, folder: Option<PathBuf>) -> Self {
        let image = folder.map(|folder| Image::new(&folder, engine.seed()));
        let kept = image.as_ref().and_then(|image| image.read(engine.durable_seq())).filter(|kept| fits(engine, kept));
        if let (Some(image), None) = (&image, &kept) {
            // Of a journal that was put back: what goes on from here must not come to look like what it stands for.
            image.remove();
        }
        let (as_of, last, state) =
            kept.map_or_else(Default::default, |Read { as_of, last, state }| (as_of, last, state));
        Self { image, as_of, last, state }
    }
}

impl Fold for ControlFold {
    fn stream(&self) -> u32 {
        CONTROL_STREAM
    }

    fn as_of(&self) -> Seq {
        self.as_of
    }

    fn take(&mut self, seq: Seq, bytes: &[u8]) -> Result<(), String> {
        let record = ControlRecord::from_bytes(bytes).map_err(|error: RecordError| error.to_string())?;
        // What was written was checked then; a check that fails now means that the records do not fit.
        let checked = self.state.check(&record.change, record.at);
        checked.map_err(|refused| format!("it does not follow from the records before it: {refused}"))?;
        self.state.apply(record.change, record.at);
        self.last = Some(LastRecord::new(seq, bytes));
        Ok(())
    }

    fn pass(&mut self, seq: Seq) {
        self.as_of = seq;
    }
}

impl Control {
    /// Builds the state from the newest image that fits and the records after it. Blocks.
    ///
    /// # Errors
    /// [`ControlError`].
    pub fn open(engine: Arc<Engine>, folder: Option<PathBuf>) -> Result<Self, ControlError> {
        let mut own = ControlFold::open(&engine, folder);
        fold(&engine, &mut [&mut own])?;
        Ok(Self::new(engine, own))
    }

    /// Goes on with a state that was folded.
    pub(crate) fn new(engine: Arc<Engine>, fold: ControlFold) -> Self {
        let ControlFold { image, as_of, last, state } = fold;
        Self {
            engine,
            state: RwLock::new(state),
            writer: Arc::default(),
            is_in_doubt: AtomicBool::new(false),
            last: RwLock::new(last),
            image,
            image_as_of: AtomicU64::new(as_of.0),
        }
    }

    /// Looks at the state. Be short: changes wait meanwhile.
    pub fn read<T>(&self, look: impl FnOnce(&ControlState) -> T) -> T {
        look(&self.state.read())
    }

    /// Makes a change; when this returns, it is durable and in force. Whoever asked may go meanwhile (a client that hangs up): what was
    /// begun is ended all the same.
    ///
    /// # Errors
    /// [`ControlError`].
    pub(crate) async fn change(self: &Arc<Self>, by: &str, change: Change) -> Result<(), ControlError> {
        self.change_if(by, |_| Ok(Some(change))).await.map(|_| ())
    }

    /// As [`Control::change`], with a change that depends on the state: nothing else changes between the look and the change. `None`:
    /// nothing has to be done. Gives back whether something was.
    pub(crate) async fn change_if(
        self: &Arc<Self>,
        by: &str,
        make: impl FnOnce(&ControlState) -> Result<Option<Change>, Refused>,
    ) -> Result<bool, ControlError> {
        let one_at_a_time = Arc::clone(&self.writer).lock_owned().await;
        if self.is_in_doubt.load(Ordering::Acquire) {
            return Err(ControlError::InDoubt);
        }
        let at = now();
        let change = {
            let state = self.state.read();
            let Some(change) = make(&state)? else { return Ok(false) };
            state.check(&change, at)?;
            change
        };
        let record = ControlRecord { v: RECORD_VERSION, at, by: by.to_owned(), change };
        let control = Arc::clone(self);
        // On a task of its own: a future that is dropped between the record and its effect would leave the two apart.
        let written = tokio::spawn(async move {
            let _one_at_a_time = one_at_a_time;
            control.write(record).await
        });
        written.await.unwrap_or(Err(ControlError::InDoubt)).map(|()| true)
    }

    /// Writes a record and applies it. It is not known whether it is durable until the reply is there.
    async fn write(&self, record: ControlRecord) -> Result<(), ControlError> {
        self.is_in_doubt.store(true, Ordering::Release);
        let bytes = record.to_bytes();
        // However long the disk takes: a record that is given up at a deadline would leave it open whether it counts.
        let options = CallOptions { deadline_ms: Some(RECORD_MS_MAX), ..CallOptions::default() };
        let record_bytes = bytes.clone().into_boxed_slice();
        let reply = self.engine.call_with(Record { stream: CONTROL_STREAM, bytes: record_bytes }, options).await;
        match reply.outcome {
            outcome if outcome.is_approval() => {
                self.state.write().apply(record.change, record.at);
                *self.last.write() = Some(LastRecord::new(reply.seq, &bytes));
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

    /// Writes an image when there is enough behind the last one, or at once. Blocks. An image that cannot be written costs time at
    /// the next start, and nothing else.
    ///
    /// # Errors
    /// The file's.
    pub fn write_image(&self, at_once: bool) -> std::io::Result<()> {
        let Some(image) = &self.image else { return Ok(()) };
        // What is durable now and was applied: a change under way would be above it, or in doubt.
        let Ok(_no_change_under_way) = self.writer.try_lock() else { return Ok(()) };
        let as_of = self.engine.durable_seq();
        let behind = as_of.0.saturating_sub(self.image_as_of.load(Ordering::Relaxed));
        if self.is_in_doubt.load(Ordering::Acquire) || behind < if at_once { 1 } else { IMAGE_EVENTS } {
            return Ok(());
        }
        image.write(as_of, self.last.read().clone(), &self.state.read())?;
        self.image_as_of.store(as_of.0, Ordering::Relaxed);
        Ok(())
    }
}

/// Whether the journal has the image's last record where the image says.
fn fits(engine: &Engine, kept: &Read) -> bool {
    let Some(last) = &kept.last else { return true };
    recorded_at(engine, Seq(last.seq), CONTROL_STREAM, |seq, bytes| LastRecord::new(seq, bytes) == *last)
}

/// Whether the journal has that record of that stream there.
pub(crate) fn is_recorded(engine: &Engine, at: Seq, stream: u32, record: &[u8]) -> bool {
    recorded_at(engine, at, stream, |_, bytes| bytes == record)
}

fn recorded_at(engine: &Engine, at: Seq, stream: u32, is_it: impl FnOnce(Seq, &[u8]) -> bool) -> bool {
    match engine.events(at).next_timeout(Duration::from_mins(1)) {
        Ok(Some((seq, event))) => match &event.body {
            Body::Recorded(recorded) => seq == at && recorded.stream == stream && is_it(seq, &recorded.bytes),
            _ => false,
        },
        _ => false,
    }
}

/// The wall clock.
pub(crate) fn now() -> UnixMs {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    UnixMs(u64::try_from(since.as_millis()).unwrap_or(u64::MAX))
}
