//! Read-only views: the state as a fold over a directory's journal, beside a running engine or without one.
//!
//! Owns reading without any write, sync or lock; refuses to show what is not durable. Beside a running engine a view
//! ends at a number that frames show to be durable.

use std::fmt;
use std::ops::ControlFlow;
use std::path::Path;
use std::sync::Arc;

use tp_core::EvolveError;
use tp_core::digest::StateDigest;
use tp_core::event::Event;
use tp_core::ids::{AccountId, AuthorizationId, Seq, SlotIndex, SlotSeed};
use tp_core::reply::{AccountView, AuthorizationView};
use tp_core::rules::Windows;
use tp_core::slot::Slot;
use tp_core::time::Time;
use tp_storage::{
    CheckpointError, CheckpointStore, DataDirectory, Device, DirectoryError, DiskDevice, Floor, Frame, ReadOnlyJournal,
    RecoverError, TailReport, scan_read_only, scan_read_only_with,
};

use crate::config::JournalKind;
use crate::error::{ErrorClass, OpenError, ReplayError, directory_class, recover_class, replay_class};
use crate::fold::{Loaded, Misfit, State, load_and, load_newest};
use crate::parameters::Parameters;
use crate::recovery::parameters_in;
use crate::replay::{each_event, reached, replay, replay_from};
use crate::status::LedgerTotals;

/// Where a view ends.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum UpTo {
    /// At the end of what is durable.
    #[default]
    End,
    /// After this event, or at the end when the journal ends before it.
    Seq(Seq),
    /// Before the first event that is later than this.
    Time(Time),
}

/// How a view is made.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct ViewOptions {
    /// Where it ends.
    pub up_to: UpTo,
    /// Start from the newest checkpoint that fits, instead of the whole journal. Default yes.
    pub use_checkpoint: bool,
}

impl Default for ViewOptions {
    fn default() -> Self {
        Self { up_to: UpTo::End, use_checkpoint: true }
    }
}

/// Why there is no view. Nothing was changed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ViewError {
    /// The data directory: missing, not ours, of a newer format.
    #[error(transparent)]
    Directory(#[from] DirectoryError),
    /// The directory's parameters cannot be read.
    #[error("{what}")]
    Parameters {
        /// What is wrong.
        what: String,
        /// Whether a later release wrote them.
        is_newer: bool,
    },
    /// A checkpoint could not be read for a reason that is no damage.
    #[error(transparent)]
    Checkpoint(#[from] CheckpointError),
    /// The journal: corrupt, ambiguous tail, tail lost.
    #[error(transparent)]
    Recover(#[from] RecoverError),
    /// The events.
    #[error(transparent)]
    Replay(#[from] ReplayError),
    /// The directory's journal is in the embedded store, which has one user at a time.
    #[error("the journal is in the embedded store, which cannot be read beside anything else: open an engine on it")]
    SledJournal,
}

impl Misfit for ViewError {
    fn misfit(&self) -> Option<&EvolveError> {
        match self {
            Self::Replay(ReplayError::Evolve(error)) => Some(error),
            _ => None,
        }
    }
}

impl ViewError {
    /// What kind of trouble it is.
    pub fn class(&self) -> ErrorClass {
        match self {
            Self::Directory(error) => directory_class(error),
            Self::Parameters { is_newer: true, .. } | Self::SledJournal => ErrorClass::Directory,
            Self::Parameters { .. } => ErrorClass::Corruption,
            Self::Checkpoint(CheckpointError::NotOurs { .. } | CheckpointError::NewerFormat { .. }) => {
                ErrorClass::Directory
            }
            Self::Checkpoint(_) => ErrorClass::Disk,
            Self::Recover(error) => recover_class(error),
            Self::Replay(error) => replay_class(error),
        }
    }
}

/// The state at one point of a directory's journal.
pub struct View {
    state: State,
    /// The last durable number of the journal.
    durable_seq: u64,
    tail: TailReport,
    notes: Vec<String>,
    checkpoint: Option<u64>,
}

impl fmt::Debug for View {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("View").field("last_seq", &self.last_seq()).field("tail", &self.tail).finish_non_exhaustive()
    }
}

impl View {
    /// Looks at a directory.
    ///
    /// # Errors
    /// [`ViewError`].
    pub fn open(path: impl AsRef<Path>, options: ViewOptions) -> Result<Self, ViewError> {
        Self::open_on(&(Arc::new(DiskDevice::new(path.as_ref())) as Arc<dyn Device>), options)
    }

    /// As [`View::open`], on another file system.
    ///
    /// # Errors
    /// [`ViewError`].
    pub fn open_on(device: &Arc<dyn Device>, options: ViewOptions) -> Result<Self, ViewError> {
        let ceiling = match options.up_to {
            UpTo::End => u64::MAX,
            UpTo::Seq(seq) => seq.0,
            UpTo::Time(_) => 0,
        };
        let ceiling = if options.use_checkpoint { ceiling } else { 0 };
        let directory = open_directory(Arc::clone(device))?;
        let parameters = read_parameters(&directory)?;
        let store = CheckpointStore::new(&directory);
        let (loaded, journal) = load_and(&store, parameters, ceiling, |loaded| {
            let floor = Floor { seq: loaded.as_of_max, shown_by: "a checkpoint".to_owned() };
            advance(&mut loaded.state, &directory, floor, options.up_to)
        })?;
        Ok(Self::of(loaded, &journal))
    }

    fn of(loaded: Loaded, journal: &ReadOnlyJournal) -> Self {
        let mut notes = loaded.notes;
        notes.extend(journal.notes.iter().map(ToString::to_string));
        let (state, checkpoint) = (loaded.state, loaded.generation);
        Self { state, durable_seq: journal.last_seq, tail: journal.tail.clone(), notes, checkpoint }
    }

    /// Looks at every event in order, each after it was applied to the view that is handed along.
    ///
    /// # Errors
    /// [`ViewError`].
    pub fn replay(
        path: impl AsRef<Path>,
        up_to: UpTo,
        each: &mut dyn FnMut(Seq, &Event, &View) -> ControlFlow<()>,
    ) -> Result<Self, ViewError> {
        let directory = open_directory(Arc::new(DiskDevice::new(path.as_ref())))?;
        let parameters = read_parameters(&directory)?;
        let loaded = load_newest(&CheckpointStore::new(&directory), parameters, 0, &[])?;
        let floor = Floor { seq: loaded.as_of_max, shown_by: "a checkpoint".to_owned() };
        let journal = scan_read_only(&directory, floor, loaded.state.replayed_to + 1)?;
        let mut view = Self::of(loaded, &journal);
        walk(&journal, view.state.replayed_to + 1, up_to, |seq, event| {
            view.state.apply(event, seq)?;
            Ok(each(Seq(seq), event, &view))
        })?;
        Ok(view)
    }

    /// The last event that the view holds.
    pub const fn last_seq(&self) -> Seq {
        Seq(self.state.replayed_to)
    }

    /// The largest event time in it; `None`: it holds no event.
    pub fn last_time(&self) -> Option<Time> {
        (self.state.replayed_to > 0).then_some(Time(self.state.time_max))
    }

    /// The last durable number of the journal.
    pub const fn durable_seq(&self) -> Seq {
        Seq(self.durable_seq)
    }

    /// How the journal ends.
    pub const fn tail(&self) -> &TailReport {
        &self.tail
    }

    /// What else is worth saying.
    pub fn notes(&self) -> &[String] {
        &self.notes
    }

    /// The checkpoint that it starts from; `None`: the whole journal was read.
    pub const fn checkpoint(&self) -> Option<u64> {
        self.checkpoint
    }

    /// The directory's windows.
    pub const fn windows(&self) -> Windows {
        self.state.parameters.windows
    }

    /// The seed of the directory's hash from account to slot.
    pub const fn seed(&self) -> SlotSeed {
        self.state.parameters.seed
    }

    /// A slot.
    pub fn slot(&self, index: SlotIndex) -> &Slot {
        &self.state.slots[index.index()]
    }

    /// All accounts, ascending by id.
    pub fn accounts(&self) -> Vec<AccountView> {
        self.state.accounts()
    }

    /// One account.
    pub fn account(&self, account: AccountId) -> Option<AccountView> {
        self.state.account(account)
    }

    /// One authorization, while it is within its window.
    pub fn authorization(&self, authorization: AuthorizationId) -> Option<AuthorizationView> {
        self.state.authorization(authorization)
    }

    /// The digest at the largest event time.
    pub fn digest(&self) -> StateDigest {
        self.state.digest()
    }

    /// The totals of each ledger, ascending.
    pub fn trial_balance(&self) -> Vec<LedgerTotals> {
        self.state.trial_balance()
    }

    /// Exchanges that are open.
    pub fn open_exchanges(&self) -> usize {
        self.state.slots().map(Slot::open_exchanges).sum()
    }
}

fn open_directory(device: Arc<dyn Device>) -> Result<DataDirectory, ViewError> {
    let directory = DataDirectory::open_read_only(device)?;
    if read_parameters(&directory)?.journal == JournalKind::Sled {
        return Err(ViewError::SledJournal);
    }
    Ok(directory)
}

/// Brings a state to where a view shall end. Returns the journal.
fn advance(
    state: &mut State,
    directory: &DataDirectory,
    floor: Floor,
    up_to: UpTo,
) -> Result<ReadOnlyJournal, ViewError> {
    let from = state.replayed_to + 1;
    let last_seq = match up_to {
        UpTo::End => {
            // One pass: what the scan reads is replayed at once, and thrown away if the scan refuses.
            let journal = replay(state, |sink| {
                let mut each = |frame: &Frame| sink.take(frame);
                scan_read_only_with(directory, floor, from, &mut each).map_err(ViewError::from)
            })?;
            reached(state, journal.last_seq)?;
            return Ok(journal);
        }
        UpTo::Seq(seq) => seq.0,
        UpTo::Time(_) => 0,
    };
    let journal = scan_read_only(directory, floor, from)?;
    if last_seq >= from {
        replay_frames(state, &journal, last_seq.min(journal.last_seq))?;
    }
    // The number lies inside a frame, or it is a time that ends the view: event after event.
    let from = state.replayed_to + 1;
    walk(&journal, from, up_to, |seq, event| {
        state.apply(event, seq)?;
        Ok(ControlFlow::Continue(()))
    })?;
    Ok(journal)
}

/// Applies whole frames up to `last_seq`, on all cores.
fn replay_frames(state: &mut State, journal: &ReadOnlyJournal, last_seq: u64) -> Result<(), ReplayError> {
    let source = journal.source();
    let mut reader = source.read_from(state.replayed_to + 1).map_err(ReplayError::Read)?;
    match replay_from(state, &mut *reader, last_seq) {
        Err(ReplayError::Short { .. }) if last_seq < journal.last_seq => Ok(()), // it lies inside a frame
        other => other.map(|_| ()),
    }
}

/// Hands over event after event, from one on.
fn walk(
    journal: &ReadOnlyJournal,
    from: u64,
    up_to: UpTo,
    mut each: impl FnMut(u64, &Event) -> Result<ControlFlow<()>, ReplayError>,
) -> Result<(), ReplayError> {
    let last_seq = if let UpTo::Seq(last) = up_to { last.0.min(journal.last_seq) } else { journal.last_seq };
    if from > last_seq {
        return Ok(());
    }
    let source = journal.source();
    let mut reader = source.read_from(from).map_err(ReplayError::Read)?;
    let mut is_over = false;
    while !is_over {
        let Some(frame) = reader.next(journal.last_seq).map_err(ReplayError::Read)? else { break };
        each_event(&frame, |seq, event| {
            is_over |= match up_to {
                UpTo::Time(last) => event.time > last,
                UpTo::End | UpTo::Seq(_) => seq > last_seq,
            };
            if !is_over && seq >= from {
                is_over = each(seq, &event)?.is_break();
            }
            Ok(())
        })?;
    }
    Ok(())
}

/// The parameters of a directory.
pub(crate) fn read_parameters(directory: &DataDirectory) -> Result<Parameters, ViewError> {
    parameters_in(directory).map_err(|error| {
        let is_newer = matches!(error, OpenError::Parameters { is_newer: true, .. });
        ViewError::Parameters { what: error.to_string(), is_newer }
    })
}
