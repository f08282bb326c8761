//! `verify`: reads every byte and says what it found.
//!
//! Owns the order of the checks and the verdict; changes nothing. The frames and checkpoints that are good are handed to
//! the caller, who replays them and compares digests. Beside a running writer everything up to its durable sequence
//! number is checked.

use std::ops::ControlFlow;

use crate::checkpoint::{Checkpoint, CheckpointError, CheckpointStore};
use crate::directory::DataDirectory;
use crate::journal::Frame;
use crate::problem::{Problem, RESTORE};
use crate::rebuild::{RebuildError, rebuild_all};
use crate::recover::{Floor, RecoverError, read_only_mode};
use crate::scan::{Cut, ScanRequest, TailReport, scan};

/// The verdict on a data directory. The worst finding decides.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum VerifyStatus {
    /// Everything is as it was written. (A witness copy whose write was cut off is reported, and is no damage.)
    Ok,
    /// A copy of the journal is damaged or missing somewhere, and the other copy is good there: a scrub or the next start repairs it.
    OneCopyBad,
    /// The last frame was never completely written; recovery will cut it.
    TornTail,
    /// The last frame is bad, and it cannot be told whether it was acknowledged.
    AmbiguousTail,
    /// Something that was durable is damaged, missing, or not ours.
    Corrupt,
}

/// What `verify` found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VerifyReport {
    /// The verdict.
    pub status: VerifyStatus,
    /// Good event frames, up to the first bad one.
    pub frames: u64,
    /// First sequence number; 0: none.
    pub first_seq: u64,
    /// Last sequence number of the good frames; 0: none.
    pub last_seq: u64,
    /// Highest sequence number shown to be durable by frames, witness or checkpoints.
    pub durable_seq: u64,
    /// Good checkpoints.
    pub checkpoints: u64,
    /// Everything found.
    pub problems: Vec<Problem>,
    /// What was found in one copy of the journal, and rebuilt from the other.
    pub repaired: Vec<Problem>,
}

/// Why a directory could not be verified at all. (Damage is no error here: it is in the report.)
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum VerifyError {
    /// The journal could not be read.
    #[error(transparent)]
    Journal(RecoverError),
    /// The checkpoints could not be read.
    #[error(transparent)]
    Checkpoint(CheckpointError),
    /// A copy of the journal could not be rebuilt.
    #[error(transparent)]
    Rebuild(RebuildError),
}

/// What to do about a copy that is not good beside one that is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mending {
    /// Report it, and change nothing.
    Report,
    /// Rebuild it. The directory was opened for writing.
    Rebuild,
}

impl VerifyReport {
    fn add(&mut self, status: VerifyStatus, problem: Problem) {
        self.status = self.status.max(status);
        self.problems.push(problem);
    }
}

/// Reads everything: checkpoints first (the highest `as_of` of a good one is a floor for the journal), then witness and
/// journal from the first frame on. `on_checkpoint` and `on_frame` get what is good, frames in order; `Break` ends the
/// calls, not the checks.
///
/// # Errors
/// [`VerifyError`] when reading fails; damage is in the report.
pub fn verify(
    dir: &DataDirectory,
    mending: Mending,
    on_frame: &mut dyn FnMut(&Frame) -> ControlFlow<()>,
    on_checkpoint: &mut dyn FnMut(&Checkpoint) -> ControlFlow<()>,
) -> Result<VerifyReport, VerifyError> {
    let mut report = VerifyReport {
        status: VerifyStatus::Ok,
        frames: 0,
        first_seq: 0,
        last_seq: 0,
        durable_seq: 0,
        checkpoints: 0,
        problems: Vec::new(),
        repaired: Vec::new(),
    };
    let floor = verify_checkpoints(dir, on_checkpoint, &mut report)?;
    verify_journal(dir, &floor, mending, on_frame, &mut report)?;
    Ok(report)
}

fn verify_checkpoints(
    dir: &DataDirectory,
    on_checkpoint: &mut dyn FnMut(&Checkpoint) -> ControlFlow<()>,
    report: &mut VerifyReport,
) -> Result<Floor, VerifyError> {
    let store = CheckpointStore::new(dir);
    let (mut floor, mut calling) = (Floor::default(), true);
    for generation in store.generations().map_err(VerifyError::Checkpoint)? {
        let checkpoint = match store.load(generation) {
            Ok(checkpoint) => checkpoint,
            Err(CheckpointError::Missing { .. }) => continue, // a running writer has published a newer one
            Err(error) => {
                report.add(VerifyStatus::Corrupt, checkpoint_problem(error)?);
                continue;
            }
        };
        report.checkpoints += 1;
        if checkpoint.as_of_max > floor.seq {
            floor = Floor { seq: checkpoint.as_of_max, shown_by: format!("checkpoint {generation}") };
        }
        calling = calling && on_checkpoint(&checkpoint).is_continue();
    }
    Ok(floor)
}

fn verify_journal(
    dir: &DataDirectory,
    floor: &Floor,
    mending: Mending,
    on_frame: &mut dyn FnMut(&Frame) -> ControlFlow<()>,
    report: &mut VerifyReport,
) -> Result<(), VerifyError> {
    let mode = read_only_mode(dir);
    let request = ScanRequest { dir, mode, accept_tail: false, floor, replay_from: 0, strict: true };
    let (mut frames, mut first_seq, mut last_seq, mut calling) = (0, 0, 0, true);
    let mut observe = |frame: &Frame| {
        if frames == 0 {
            first_seq = frame.first_seq;
        }
        frames += 1;
        last_seq = frame.last_seq();
        calling = calling && on_frame(frame).is_continue();
        ControlFlow::Continue(())
    };
    let scanned = scan(&request, Some(&mut observe));
    (report.frames, report.first_seq, report.last_seq) = (frames, first_seq, last_seq);
    report.durable_seq = floor.seq;
    match scanned {
        Ok(mut scan) => {
            report.last_seq = scan.last_seq;
            report.durable_seq = scan.watermark;
            match mending {
                Mending::Rebuild => {
                    scan.vouch(dir).map_err(VerifyError::Journal)?;
                    rebuild_all(dir, &scan.differences, scan.extents()).map_err(VerifyError::Rebuild)?;
                    report.repaired.extend(scan.differences.problems().cloned());
                }
                Mending::Report => {
                    for problem in scan.differences.problems() {
                        report.add(VerifyStatus::OneCopyBad, problem.clone());
                    }
                }
            }
            report.problems.extend(scan.notes);
            for problem in scan.strays {
                report.add(VerifyStatus::Corrupt, problem);
            }
            match scan.tail {
                TailReport::Clean => {}
                TailReport::Torn(cut) | TailReport::Accepted(cut) => {
                    report.add(VerifyStatus::TornTail, torn_problem(cut));
                }
            }
        }
        Err(error) => {
            let (status, problem) = journal_problem(error)?;
            report.durable_seq = report.durable_seq.max(problem.seq_first.saturating_sub(1));
            report.add(status, problem);
        }
    }
    Ok(())
}

fn torn_problem(cut: Cut) -> Problem {
    let what = format!("the last frame was never completely written ({} bytes of it were)", cut.bytes);
    let step = "nothing to do: it was never acknowledged, and the next start of the engine cuts it";
    Problem::new(cut.file, cut.offset, what, step).with_seqs(cut.seq_first, cut.seq_last)
}

/// The finding in an error; errors that are none go up.
fn journal_problem(error: RecoverError) -> Result<(VerifyStatus, Problem), VerifyError> {
    match error {
        RecoverError::Corrupt(problem)
        | RecoverError::TailLost(problem)
        | RecoverError::MissingSegment(problem)
        | RecoverError::Diverged(problem) => Ok((VerifyStatus::Corrupt, *problem)),
        RecoverError::Ambiguous(problem) => Ok((VerifyStatus::AmbiguousTail, *problem)),
        RecoverError::NotOurs { file } => {
            Ok((VerifyStatus::Corrupt, Problem::new(file, 0, "this file belongs to another engine", RESTORE)))
        }
        other => Err(VerifyError::Journal(other)),
    }
}

fn checkpoint_problem(error: CheckpointError) -> Result<Problem, VerifyError> {
    match error {
        CheckpointError::Corrupt(problem) => Ok(*problem),
        CheckpointError::NotOurs { file } => Ok(Problem::new(
            file,
            0,
            "this checkpoint belongs to another engine",
            "delete it, or put the right file back",
        )),
        other => Err(VerifyError::Checkpoint(other)),
    }
}
