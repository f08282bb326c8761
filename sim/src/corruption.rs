//! Damage at rest: every bit, every sector, every length, every file of a small data directory (P6).
//!
//! Owns the list of damages and what must follow from each: the engine refuses to open and says that stored bytes are damaged, or it
//! opens with the same state to the last event, and `verify` reports the damage. Anything else is a violation. With a mirror one copy is
//! damaged at a time, and the engine refuses nothing but what may be an unfinished write behind the end: it opens with the same state, and
//! a scrub leaves both copies sound. The directory is a real one: a run of the engine with two checkpoints, closed in order. Refuses to
//! know formats.

use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use tp_actors::{
    CallOptions, CheckpointPolicy, Config, ErrorClass, MachineClocks, ManualEngine, OpenError, StateDigest,
    VerifyStatus,
};
use tp_storage::{CrashMode, Device as _, MemoryDevice, RecoverError};

use crate::images::learn;
use crate::machine::{Copies, START};
use crate::oracle::Wrong;
use crate::plan::{Case, Plan};
use crate::traffic::Traffic;

/// Bytes that one write of the disk covers.
const SECTOR: usize = 512;
/// The journal is at least this long, bytes.
const JOURNAL: usize = 64 << 10;

/// How the damages of one kind of file showed.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Shown {
    /// The engine refused to open and named the damage.
    pub refused: u64,
    /// The engine opened with the same state; `verify` reports the damage.
    pub reported: u64,
    /// With a mirror: the same, and the scrub repaired it.
    pub repaired: u64,
    /// The engine opened with the same state, and does not need the file that is missing.
    pub unneeded: u64,
    /// Something was lost or changed, or the error is another one.
    pub wrong: u64,
}

/// Every damage of a sweep, by kind of file and of damage.
#[derive(Clone, Debug, Default)]
pub struct Sweep {
    /// Counts.
    pub shown: BTreeMap<(&'static str, &'static str), Shown>,
    /// The first violations.
    pub wrong: Vec<String>,
}

/// One damage.
#[derive(Clone, Copy, Debug)]
enum Damage {
    Flip { bit: usize },
    Zeros { sector: usize },
    Swap { sector: usize, with: usize },
    Copy { sector: usize, over: usize },
    Truncate { length: usize },
    Delete,
}

impl Damage {
    const fn name(self) -> &'static str {
        match self {
            Self::Flip { .. } => "bit flipped",
            Self::Zeros { .. } => "sector of zeros",
            Self::Swap { .. } => "sectors swapped",
            Self::Copy { .. } => "sector misdirected",
            Self::Truncate { .. } => "file cut",
            Self::Delete => "file deleted",
        }
    }

    /// The bytes after it; `None`: no file any more, or nothing changed.
    fn apply(self, before: &[u8]) -> Option<Vec<u8>> {
        let mut bytes = before.to_vec();
        let range = |sector: usize| sector * SECTOR..((sector + 1) * SECTOR).min(before.len());
        // The last sector of a file may be shorter than the others.
        let are_alike = |a: usize, b: usize| range(a).len() == range(b).len();
        match self {
            Self::Flip { bit } => *bytes.get_mut(bit / 8)? ^= 1 << (bit % 8),
            Self::Zeros { sector } => bytes[range(sector)].fill(0),
            Self::Swap { sector, with: other } | Self::Copy { sector, over: other } if !are_alike(sector, other) => {}
            Self::Swap { sector, with } => {
                let (a, b) = (before[range(sector)].to_vec(), before[range(with)].to_vec());
                bytes[range(sector)].copy_from_slice(&b);
                bytes[range(with)].copy_from_slice(&a);
            }
            Self::Copy { sector, over } => bytes[range(over)].copy_from_slice(&before[range(sector)]),
            Self::Truncate { length } => bytes.truncate(length),
            Self::Delete => return None,
        }
        (bytes != before).then_some(bytes)
    }
}

/// A sound directory and what it holds.
struct Sound {
    copies: Copies,
    device: MemoryDevice,
    clocks: MachineClocks,
    plan: Plan,
    last: u64,
    digest: StateDigest,
}

/// Damages everything, every `stride`-th bit and length.
///
/// # Errors
/// When no sound directory could be made.
pub fn sweep(copies: Copies, stride: usize, jobs: usize) -> Result<Sweep, String> {
    let sound = Sound::make(copies)?;
    let mut all = Vec::new();
    // Checkpoints have no second copy: what is said of them does not depend on a mirror.
    let is_swept = |path: &String| copies == Copies::One || kind(path) != "checkpoint";
    for path in sound.device.paths().into_iter().filter(is_swept) {
        let bytes = sound.device.contents(&path).unwrap_or_default();
        all.extend(damages(&bytes, stride).into_iter().map(|damage| (path.clone(), damage)));
    }
    let (next, sum) = (AtomicU64::new(0), Mutex::new(Sweep::default()));
    let work = || {
        loop {
            let number = usize::try_from(next.fetch_add(1, Ordering::Relaxed)).unwrap_or(usize::MAX);
            let Some((path, damage)) = all.get(number) else { return };
            let Some(judged) = sound.try_damage(path, *damage) else { continue };
            let Ok(mut sum) = sum.lock() else { return };
            let shown = sum.shown.entry((kind(path), damage.name())).or_default();
            match judged {
                Ok(Judged::Refused) => shown.refused += 1,
                Ok(Judged::Reported) => shown.reported += 1,
                Ok(Judged::Repaired) => shown.repaired += 1,
                Ok(Judged::Unneeded) => shown.unneeded += 1,
                Err(wrong) => {
                    shown.wrong += 1;
                    if sum.wrong.len() < 20 {
                        sum.wrong.push(format!("{path}, {damage:?}: {wrong}"));
                    }
                }
            }
        }
    };
    std::thread::scope(|scope| {
        (0..jobs.max(1)).for_each(|_| drop(scope.spawn(work)));
    });
    Ok(sum.into_inner().unwrap_or_default())
}

/// Which kind of file it is.
fn kind(path: &str) -> &'static str {
    let path = path.strip_prefix("data/").or_else(|| path.strip_prefix("mirror/")).unwrap_or(path);
    match path.split('/').next() {
        Some("journal") => "journal",
        Some("checkpoints") => "checkpoint",
        Some("witness") => "witness",
        Some("identity") => "identity",
        _ => "other",
    }
}

fn damages(bytes: &[u8], stride: usize) -> Vec<Damage> {
    let written = bytes.iter().rposition(|byte| *byte != 0).map_or(0, |last| last + 1);
    let sectors = written.div_ceil(SECTOR);
    let mut all = vec![Damage::Delete];
    all.extend((0..written * 8).step_by(stride).map(|bit| Damage::Flip { bit }));
    // Behind what is written, a few.
    all.extend((written * 8..bytes.len() * 8).step_by((bytes.len() * 8 / 64).max(1)).map(|bit| Damage::Flip { bit }));
    for sector in 0..sectors {
        all.push(Damage::Zeros { sector });
        all.push(Damage::Swap { sector, with: (sector * 7 + 3) % sectors });
        all.push(Damage::Copy { sector, over: (sector * 5 + 1) % sectors });
    }
    all.extend((0..written).step_by(stride).map(|length| Damage::Truncate { length }));
    all
}

enum Judged {
    Refused,
    Reported,
    Repaired,
    Unneeded,
}

impl Sound {
    fn make(copies: Copies) -> Result<Self, Wrong> {
        let plan = Plan::draw(&Case::of(3));
        let (clocks, device) = (MachineClocks::new(START), MemoryDevice::new());
        let mut sound = Self { copies, device, clocks, plan, last: 0, digest: StateDigest::of_slots([]) };
        let (mut traffic, mut open) = (Traffic::new(3), Vec::new());
        for _ in 0..2 {
            let mut engine = sound.open(&sound.device).map_err(|error| error.to_string())?;
            while sound.written("journal/") < JOURNAL * sound.copies.count() {
                for _ in 0..4 {
                    let command = traffic.draw(&sound.plan, engine.now());
                    open.push((engine.call(command.clone(), CallOptions::default()), command));
                }
                learn(&mut traffic, &mut open);
                engine.turn_all();
                sound.clocks.pass(2_000);
            }
            engine.close(|| sound.clocks.pass(1_000)).map_err(|error| error.to_string())?;
        }
        let mut engine = sound.open(&sound.device.crash(CrashMode::KeepAll)).map_err(|error| error.to_string())?;
        (sound.last, sound.digest) = (engine.last_seq().0, engine.digest());
        // Else every damage would count as reported.
        let looked_at = sound.device.crash(CrashMode::KeepAll);
        let report = copies.verify(&looked_at).map_err(|error| error.to_string())?;
        if report.status != VerifyStatus::Ok || !report.problems.is_empty() {
            return Err(format!("a sound directory does not verify: {report:?}"));
        }
        Ok(sound)
    }

    /// Bytes written below a folder.
    fn written(&self, folder: &str) -> usize {
        let files = self.device.paths().into_iter().filter(|path| path.contains(folder));
        let written = |bytes: Vec<u8>| bytes.iter().rposition(|byte| *byte != 0).map_or(0, |last| last + 1);
        files.filter_map(|path| self.device.contents(&path)).map(written).sum()
    }

    fn open(&self, device: &MemoryDevice) -> Result<ManualEngine, tp_actors::OpenError> {
        let config = self.copies.config(Arc::new(device.clone()), &self.clocks, 1);
        let checkpoint = CheckpointPolicy { at_close: true, ..config.checkpoint };
        ManualEngine::open(&Config { checkpoint, ..config })
    }

    /// `None`: the damage changes nothing.
    fn try_damage(&self, path: &str, damage: Damage) -> Option<Result<Judged, Wrong>> {
        let before = self.device.contents(path)?;
        let after = damage.apply(&before);
        if after.is_none() && !matches!(damage, Damage::Delete) {
            return None;
        }
        let damaged = self.device.crash(CrashMode::KeepAll);
        match after {
            Some(bytes) => damaged.plant(path, &bytes),
            None => damaged.remove(path).ok()?,
        }
        let judged = catch_unwind(AssertUnwindSafe(|| self.judge(&damaged, damage)));
        Some(judged.unwrap_or_else(|_| Err("it panics".into())))
    }

    fn judge(&self, damaged: &MemoryDevice, damage: Damage) -> Result<Judged, Wrong> {
        let looked_at = damaged.crash(CrashMode::KeepAll);
        match self.open(damaged) {
            Err(error) if !matches!(error.class(), ErrorClass::Corruption | ErrorClass::Directory) => {
                Err(format!("it is not called what it is: {error}"))
            }
            Err(error) if !error.to_string().contains("memory:") => Err(format!("no file is named: {error}")),
            Err(OpenError::Recover(RecoverError::Ambiguous(_))) => Ok(Judged::Refused),
            Err(error) if self.copies == Copies::Two => Err(format!("the other copy is good, and yet: {error}")),
            Err(_) => Ok(Judged::Refused),
            Ok(mut engine) => {
                if (engine.last_seq().0, engine.digest()) != (self.last, self.digest) {
                    let (last, tail) = (engine.last_seq(), &engine.recovery().tail);
                    return Err(format!("it opens at event {last} of {}, {tail:?}", self.last));
                }
                let is_reported = match self.copies.verify(&looked_at) {
                    Ok(report) => report.status != VerifyStatus::Ok || !report.problems.is_empty(),
                    Err(_) => true,
                };
                match (is_reported, damage) {
                    (true, _) if self.copies == Copies::Two => self.judge_repair(&looked_at),
                    (true, _) => Ok(Judged::Reported),
                    // A missing checkpoint costs a longer replay, a missing spare segment nothing.
                    (false, Damage::Delete) => Ok(Judged::Unneeded),
                    (false, _) => Err("nobody notices".into()),
                }
            }
        }
    }

    /// A scrub makes both copies sound again. (Checkpoints and witnesses have one copy each, and are written anew by an engine.)
    fn judge_repair(&self, damaged: &MemoryDevice) -> Result<Judged, Wrong> {
        let report = self.copies.scrub(damaged).map_err(|error| format!("the scrub fails: {error}"))?;
        if report.repaired.is_empty() {
            return Ok(Judged::Reported);
        }
        let again = self.copies.verify(damaged).map_err(|error| format!("after the scrub: {error}"))?;
        if again.status == VerifyStatus::Ok { Ok(Judged::Repaired) } else { Err(format!("after the scrub: {again:?}")) }
    }
}
