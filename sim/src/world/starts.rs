//! Starts after a stop, and bytes that changed at rest.

use tp_actors::{Config, ErrorClass, ManualEngine, OpenError, TailReport};
use tp_storage::{CrashMode, Fault, MemoryDevice, RecoverError};

use super::{World, Wrong, is_lost_write};
use crate::oracle::Oracle;
use crate::plan::Feature;

impl World {
    pub(super) fn start(&mut self, after: &str) -> Result<(), Wrong> {
        let engine =
            ManualEngine::open(&self.config(&self.device, self.partitions)).map_err(|error| error.to_string())?;
        self.oracle = Some(Oracle::new(engine.seed(), self.plan.rules.clone()));
        self.engine = Some(engine);
        self.marks.hit(format!("open {after}"));
        Ok(())
    }

    /// Everything up to `promised` was acknowledged, or could have been.
    pub(super) fn start_again(&mut self, after: &str, promised: u64) -> Result<(), Wrong> {
        self.marks.hit(format!("open after {after}"));
        if self.plan.has(Feature::Repartition) && self.faults.one_in(2) {
            self.partitions = self.faults.index(4) + 1;
            self.marks.hit("open with another number of partitions");
        }
        let engine = self.open(after, promised)?;
        let (last, report) = (engine.last_seq().0, engine.recovery().clone());
        if last < promised {
            return Err(format!("event {promised} was durable, the journal ends at {last} after {after}: {report:?}"));
        }
        if report.checkpoint.is_some() {
            self.marks.hit("open from a checkpoint");
        }
        if !matches!(report.tail, TailReport::Clean) {
            self.marks.hit("tail cut");
        }
        self.engine = Some(engine);
        self.device.clear_faults();
        (self.has_write_fault, self.is_full) = (false, false);
        self.check_log()?;
        self.look()?; // the others are told that their outcome is open
        (self.was_poisoned, self.is_closing, self.had_no_space) = (false, false, false);
        self.check_state()
    }

    /// Opens until it opens: the power may go again, the tail may be in doubt, bytes may have changed at rest.
    pub(super) fn open(&mut self, after: &str, promised: u64) -> Result<ManualEngine, Wrong> {
        self.try_rotten(promised)?;
        let mut accept_tail = false;
        loop {
            let cuts = self.plan.has(Feature::CutRecoveries) && self.faults.one_in(5);
            if cuts {
                self.device.plan(Fault::PowerOffAt(self.device.calls() + self.faults.between(1, 25)));
            }
            let config = Config { accept_tail, ..self.config(&self.device, self.partitions) };
            let opened = ManualEngine::open(&config);
            match opened {
                Ok(engine) => {
                    // One that was still to come is taken back.
                    if cuts && !self.device_is_off() {
                        self.device.clear_faults();
                    } else if cuts {
                        drop(engine);
                        self.lose_cache();
                        continue;
                    }
                    return Ok(engine);
                }
                Err(_) if cuts && self.device_is_off() => {
                    self.marks.hit("open cut off by a power cut");
                    self.lose_cache();
                }
                Err(OpenError::Recover(RecoverError::Ambiguous(_))) if !accept_tail && after != "a clean close" => {
                    self.marks.hit("tail ambiguous");
                    accept_tail = true;
                }
                Err(error) if self.plan.has(Feature::ReadErrors) && error.class() == ErrorClass::Disk => {
                    self.marks.hit("open met a read error");
                }
                Err(error) => return Err(format!("no start after {after}: {error}")),
            }
            self.device.clear_faults();
        }
    }

    /// A copy of the disk with changed bytes must be refused, or make no difference. (Of a last frame that reads as zeros, in part
    /// or as a whole, one copy cannot tell that it was written, unless the witness or a seal shows it: in part it is cut and
    /// reported.) With a mirror nothing that was promised may be missing, and nothing is refused but what may be a tail.
    pub(super) fn try_rotten(&mut self, promised: u64) -> Result<(), Wrong> {
        if !self.plan.has(Feature::Rot) || !self.faults.one_in(3) {
            return Ok(());
        }
        let sound = self.device.crash(CrashMode::KeepAll);
        let rotten = sound.crash(CrashMode::KeepAll);
        let Some(what) = self.rot(&rotten) else { return Ok(()) };
        self.marks.hit("fault rot");
        let open = |device: &MemoryDevice| ManualEngine::open(&self.config(device, self.partitions));
        let Ok(mut sound) = open(&sound) else { return Ok(()) };
        match open(&rotten) {
            Ok(mut rotten) => {
                let (a, b) = (sound.last_seq(), rotten.last_seq());
                if (a, sound.digest()) == (b, rotten.digest()) {
                    let is_noted = !rotten.recovery().notes.is_empty();
                    if self.plan.has(Feature::Mirror) && is_noted {
                        self.marks.hit("rot repaired from the mirror");
                    }
                    return Ok(());
                }
                if self.plan.has(Feature::Mirror) && b.0 < promised {
                    return Err(format!("{what} took what was promised up to {promised}: it opens at {b:?}"));
                }
                let is_reported = !matches!(rotten.recovery().tail, TailReport::Clean);
                if !is_lost_write(&sound, b.0)? {
                    return Err(format!("{what} changed the state at {a:?} to another at {b:?}, and nobody noticed"));
                }
                self.marks.hit(if is_reported { "rot cut as a tail" } else { "rot as a lost last write" });
                Ok(())
            }
            Err(OpenError::Recover(RecoverError::Ambiguous(_))) if self.plan.has(Feature::Mirror) => {
                self.marks.hit("rot of a tail in doubt, beside a mirror");
                Ok(())
            }
            Err(error)
                if !self.plan.has(Feature::Mirror)
                    && matches!(error.class(), ErrorClass::Corruption | ErrorClass::Directory) =>
            {
                self.marks.hit("rot found");
                Ok(())
            }
            Err(error) => Err(format!("{what} is not called what it is: {error}")),
        }
    }

    /// Changes bytes of one file.
    pub(super) fn rot(&mut self, device: &MemoryDevice) -> Option<String> {
        let paths = device.paths();
        let path = self.faults.pick(&paths)?.clone();
        let mut bytes = device.contents(&path)?;
        // Where something is written, mostly.
        let written = bytes.iter().rposition(|byte| *byte != 0).map_or(bytes.len(), |last| last + 1);
        let at = self.faults.index(written.max(1));
        let what = match self.faults.below(3) {
            0 => {
                *bytes.get_mut(at)? ^= 1 << self.faults.below(8);
                "a flipped bit"
            }
            1 => {
                let from = at / 512 * 512;
                let to = (from + 512).min(bytes.len());
                bytes[from..to].fill(0);
                "a sector of zeros"
            }
            _ => {
                let (from, to) = (at / 4096 * 4096, self.faults.index(written.max(1)) / 4096 * 4096);
                let block = bytes.get(from..from + 4096)?.to_vec();
                bytes.get_mut(to..to + 4096)?.copy_from_slice(&block);
                "a misdirected block"
            }
        };
        if device.contents(&path)? == bytes {
            return None;
        }
        device.plant(&path, &bytes);
        Some(format!("{what} at byte {at} of {path}"))
    }
}
