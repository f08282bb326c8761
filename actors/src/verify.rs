//! `verify`: every byte, every event, every invariant.
//!
//! Owns the joining of storage's findings (bytes) with the domain's (events, invariants, checkpoints against the
//! replay); changes nothing, but for what a scrub repairs. One report; the worst finding decides.
//!
//! ```text
//!  storage: checkpoints, witness, segments --frames--> decode --> evolve --> at as_of(slot): image = page?
//!                                                                       +--> at the end: invariants, ledgers, digest
//! ```

use std::ops::ControlFlow;
use std::path::Path;
use std::sync::Arc;

use tp_core::digest::StateDigest;
use tp_core::slot::Slot;
use tp_core::time::Time;
use tp_storage::{
    Checkpoint, CheckpointError, DataDirectory, Device, DirectoryError, DiskDevice, EmptyDirectory, Frame, Identity,
    Mending, Page, Problem, VerifyError, VerifyStatus,
};

use crate::config::JournalKind;
use crate::error::{ErrorClass, ReplayError, directory_class, rebuild_class, recover_class};
use crate::fold::{State, read_slot};
use crate::replay::each_event;
use crate::view::{ViewError, read_parameters};

/// What `verify` found.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct VerifyReport {
    /// The verdict; the worst finding decides.
    pub status: VerifyStatus,
    /// Good frames with events, up to the first bad one.
    pub frames: u64,
    /// Good events in them.
    pub events: u64,
    /// First sequence number; 0: none.
    pub first_seq: u64,
    /// Last good sequence number; 0: none.
    pub last_seq: u64,
    /// The highest number shown to be durable by frames, witness or checkpoints.
    pub durable_seq: u64,
    /// Good checkpoint files.
    pub checkpoints: u64,
    /// Of the state after the last good event; `None`: the events could not all be applied.
    pub digest: Option<StateDigest>,
    /// Everything found.
    pub problems: Vec<Problem>,
    /// What a scrub found in one copy of the journal, and rebuilt from the other.
    pub repaired: Vec<Problem>,
}

/// Why a directory could not be verified at all. Damage is no error here: it is in the report.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum VerifyFailed {
    /// The data directory or its parameters.
    #[error(transparent)]
    View(#[from] ViewError),
    /// The files.
    #[error(transparent)]
    Storage(#[from] VerifyError),
}

impl VerifyFailed {
    /// What kind of trouble it is.
    pub fn class(&self) -> ErrorClass {
        match self {
            Self::View(error) => error.class(),
            Self::Storage(VerifyError::Journal(error)) => recover_class(error),
            Self::Storage(VerifyError::Checkpoint(
                CheckpointError::NotOurs { .. } | CheckpointError::NewerFormat { .. },
            )) => ErrorClass::Directory,
            Self::Storage(VerifyError::Rebuild(error)) => rebuild_class(error),
            Self::Storage(_) => ErrorClass::Disk,
        }
    }
}

impl From<DirectoryError> for VerifyFailed {
    fn from(error: DirectoryError) -> Self {
        debug_assert!(matches!(
            directory_class(&error),
            ErrorClass::Directory | ErrorClass::Corruption | ErrorClass::Disk
        ));
        Self::View(ViewError::Directory(error))
    }
}

/// Reads and checks everything. Works beside a running engine, up to what is durable.
///
/// # Errors
/// [`VerifyFailed`] when there is nothing to verify or it cannot be read.
pub fn verify(path: impl AsRef<Path>) -> Result<VerifyReport, VerifyFailed> {
    verify_on(&disk(path.as_ref()))
}

/// As [`verify`], with the second copy of the journal: both are read in full.
///
/// # Errors
/// As [`verify`].
pub fn verify_mirrored(path: impl AsRef<Path>, mirror: impl AsRef<Path>) -> Result<VerifyReport, VerifyFailed> {
    verify_mirrored_on(&disk(path.as_ref()), &disk(mirror.as_ref()))
}

/// As [`verify`], on another file system.
///
/// # Errors
/// As [`verify`].
pub fn verify_on(device: &Arc<dyn Device>) -> Result<VerifyReport, VerifyFailed> {
    check(&DataDirectory::open_read_only(Arc::clone(device))?, Mending::Report)
}

/// As [`verify_mirrored`], on another file system.
///
/// # Errors
/// As [`verify`].
pub fn verify_mirrored_on(device: &Arc<dyn Device>, mirror: &Arc<dyn Device>) -> Result<VerifyReport, VerifyFailed> {
    check(&DataDirectory::open_read_only_mirrored(Arc::clone(device), Arc::clone(mirror))?, Mending::Report)
}

/// As [`verify`] of a stopped engine, and repairs whatever one copy of the journal lacks and the other has. Holds the locks meanwhile.
/// Without a mirror there is nothing to repair from.
///
/// # Errors
/// [`VerifyFailed`]; also when an engine runs, or a copy could not be rebuilt. No copy is then worse than it was.
pub fn scrub(path: impl AsRef<Path>, mirror: Option<&Path>) -> Result<VerifyReport, VerifyFailed> {
    scrub_on(disk(path.as_ref()), mirror.map(disk))
}

/// As [`scrub`], on other file systems.
///
/// # Errors
/// As [`scrub`].
pub fn scrub_on(device: Arc<dyn Device>, mirror: Option<Arc<dyn Device>>) -> Result<VerifyReport, VerifyFailed> {
    let identity =
        |looked: &DataDirectory| Identity { engine_id: looked.engine_id(), parameters: looked.parameters().to_vec() };
    let directory = match mirror {
        None => {
            let looked = DataDirectory::open_read_only(Arc::clone(&device))?;
            DataDirectory::create_or_open(device, || identity(&looked))?
        }
        Some(mirror) => {
            let looked = DataDirectory::open_read_only_mirrored(Arc::clone(&device), Arc::clone(&mirror))?;
            DataDirectory::create_or_open_mirrored(device, mirror, EmptyDirectory::Refuse, || identity(&looked))?
        }
    };
    check(&directory, Mending::Rebuild)
}

fn disk(path: &Path) -> Arc<dyn Device> {
    Arc::new(DiskDevice::new(path))
}

fn check(directory: &DataDirectory, mending: Mending) -> Result<VerifyReport, VerifyFailed> {
    let parameters = read_parameters(directory)?;
    if parameters.journal == JournalKind::Sled {
        return Err(ViewError::SledJournal.into());
    }
    let mut pages: Vec<PageCheck> = Vec::new();
    let mut replaying = Replaying::new(State::empty(parameters), directory.device().display("journal"));
    // Storage hands over all checkpoints before the first frame.
    let pages_cell = std::cell::RefCell::new(&mut pages);
    let bytes = tp_storage::verify(
        directory,
        mending,
        &mut |frame| replaying.frame(frame, &mut pages_cell.borrow_mut()),
        &mut |checkpoint| {
            note_pages(checkpoint, &mut pages_cell.borrow_mut());
            ControlFlow::Continue(())
        },
    )?;
    let (events, digest, mut found) = replaying.finish(&mut pages, bytes.last_seq);
    let mut problems = bytes.problems;
    let status = if found.is_empty() { bytes.status } else { VerifyStatus::Corrupt };
    problems.append(&mut found);
    Ok(VerifyReport {
        status,
        frames: bytes.frames,
        events,
        first_seq: bytes.first_seq,
        last_seq: bytes.last_seq,
        durable_seq: bytes.durable_seq,
        checkpoints: bytes.checkpoints,
        digest,
        problems,
        repaired: bytes.repaired,
    })
}

/// What a slot must look like after a number, by a checkpoint.
struct PageCheck {
    as_of: u64,
    slot: usize,
    pages: Vec<Page>,
    generation: u64,
}

fn note_pages(checkpoint: &Checkpoint, pages: &mut Vec<PageCheck>) {
    let generation = checkpoint.generation;
    for page in &checkpoint.pages {
        let (slot, as_of) = (usize::from(page.slot), page.as_of);
        match pages.last_mut().filter(|last| (last.slot, last.generation) == (slot, generation)) {
            Some(last) => last.pages.push(page.clone()),
            None => pages.push(PageCheck { as_of, slot, pages: vec![page.clone()], generation }),
        }
    }
    // The next to be checked is the last.
    pages.sort_by_key(|page| std::cmp::Reverse(page.as_of));
}

struct Replaying {
    state: State,
    events: u64,
    is_broken: bool,
    file: String,
    problems: Vec<Problem>,
}

impl Replaying {
    const fn new(state: State, file: String) -> Self {
        Self { state, events: 0, is_broken: false, file, problems: Vec::new() }
    }

    fn problem(&mut self, (file, offset): (String, u64), (seq_first, seq_last): (u64, u64), what: String) {
        let next_step = "restore the directory from a backup, or report a bug with this output".to_owned();
        self.problems.push(Problem { file, offset, seq_first, seq_last, what, next_step });
    }

    fn frame(&mut self, frame: &Frame, pages: &mut Vec<PageCheck>) -> ControlFlow<()> {
        let applied = each_event(frame, |seq, event| {
            self.check_pages(pages, seq - 1);
            self.state.apply(&event, seq)?;
            self.events += 1;
            Ok(())
        });
        let Err(error) = applied else { return ControlFlow::Continue(()) };
        let seq = match &error {
            ReplayError::Evolve(evolve) => evolve.seq,
            ReplayError::Decode { seq, .. } => *seq,
            _ => frame.first_seq,
        };
        let file = format!("{}/{:012}.segment", self.file, frame.location.segment);
        self.problem((file, frame.location.offset), (seq, frame.last_seq()), error.to_string());
        self.is_broken = true;
        ControlFlow::Break(())
    }

    /// Compares the pages that show the state after `seq` or before.
    fn check_pages(&mut self, pages: &mut Vec<PageCheck>, seq: u64) {
        while let Some(page) = pages.pop_if(|page| page.as_of <= seq) {
            // What is past its window by now may be in one and not in the other: it is in neither at this time.
            let at = Time(self.state.time_max);
            let shown = read_slot(self.state.parameters, &page.pages).ok();
            let given = self.state.slots.get(page.slot);
            let holds =
                given.zip(shown.as_ref()).is_some_and(|(given, (_, shown, _))| given.image(at) == shown.image(at));
            if !holds {
                let what =
                    format!("slot {} of checkpoint {} is not what the journal gives", page.slot, page.generation);
                let file = format!("checkpoint {}", page.generation);
                self.problem((file, 0), (page.as_of, page.as_of), what);
            }
        }
    }

    fn finish(mut self, pages: &mut Vec<PageCheck>, last_seq: u64) -> (u64, Option<StateDigest>, Vec<Problem>) {
        if self.is_broken {
            return (self.events, None, self.problems);
        }
        self.check_pages(pages, last_seq);
        let violations: Vec<_> = self.state.slots.iter().filter_map(|slot| slot.validate().err()).collect();
        for violation in violations {
            self.problem((self.file.clone(), 0), (0, last_seq), violation.to_string());
        }
        let open: usize = self.state.slots().map(Slot::open_exchanges).sum();
        for totals in self.state.trial_balance() {
            if !totals.is_balanced() {
                let what = format!("LED-1 violated: ledger {} does not balance: {totals:?}", totals.ledger);
                self.problem((self.file.clone(), 0), (0, last_seq), what);
            } else if open == 0 && totals.in_transit != 0 {
                let what =
                    format!("ledger {}: {} in transit without an open exchange", totals.ledger, totals.in_transit);
                self.problem((self.file.clone(), 0), (0, last_seq), what);
            }
        }
        (self.events, Some(self.state.digest()), self.problems)
    }
}
