//! What goes wrong: full disks, failing calls, kills, power cuts; and orderly closes.

use tp_actors::{CallOptions, CloseError, PoisonCause};
use tp_core::command::{RECORD_BYTES_MAX, Record};
use tp_storage::{AfterSyncFailure, CrashMode, Device as _, Fault};

use super::{World, Wrong};
use crate::machine::segment_bytes;
use crate::plan::Feature;

impl World {
    pub(super) fn plan_fault(&mut self) {
        let call = self.device.calls() + self.faults.between(1, 60);
        match self.faults.below(5) {
            0 if self.plan.has(Feature::WriteErrors) && self.faults.one_in(3) => {
                let models = [AfterSyncFailure::StaysDirty, AfterSyncFailure::MarkedClean, AfterSyncFailure::Reverted];
                self.device.after_sync_failure(self.faults.pick(&models).copied().unwrap_or_default());
                self.device.plan(Fault::IoErrorAt(call));
                (self.has_write_fault, self.had_no_space) = (true, true); // it may hit a new segment
                self.marks.hit("fault write error");
            }
            1 if self.plan.has(Feature::ReadErrors) => {
                self.device.plan(Fault::ReadErrorAt(self.device.reads() + self.faults.between(1, 40)));
                self.marks.hit("fault read error");
            }
            2 | 3 if self.plan.has(Feature::FullDisk) => {
                if self.is_full {
                    self.device.clear_faults();
                    self.has_write_fault = false;
                } else {
                    self.device.plan(Fault::DiskFullFrom(call));
                    self.had_no_space = true;
                    self.marks.hit("fault disk full");
                    if self.plan.has(Feature::Records) {
                        self.use_up_room();
                    }
                }
                self.is_full = !self.is_full;
            }
            _ => {}
        }
    }

    /// Callers go on with large records until the journal has no more than its reserve: a spare segment and a quarter of one at most.
    fn use_up_room(&mut self) {
        let records = segment_bytes(self.partitions) / 4 * 5 / RECORD_BYTES_MAX as u64 + 1;
        for _ in 0..records {
            if !self.engine().writer_status().has_room {
                return self.marks.hit("room used up");
            }
            let number = self.clients.add(Record { stream: 9, bytes: vec![7; RECORD_BYTES_MAX].into() }.into());
            self.call(number, CallOptions::default());
            self.engine().turn_all();
            self.engine().make_room();
            self.engine().write();
        }
    }

    /// A kill, a power cut or an orderly close, and the next start.
    pub(super) fn interrupt(&mut self) -> Result<(), Wrong> {
        match self.faults.below(9) {
            0 | 1 if self.plan.has(Feature::Kills) => self.kill(),
            2..=4 if self.plan.has(Feature::PowerCuts) => self.cut_power(),
            5 if self.plan.has(Feature::PowerCuts) => {
                // In the midst of whatever comes next; it may hit a new segment.
                self.had_no_space = true;
                self.device.plan(Fault::PowerOffAt(self.device.calls() + self.faults.between(1, 12)));
                for _ in 0..self.faults.between(1, 6) {
                    self.engine().turn_all();
                }
                self.check_poison()?;
                self.cut_power()
            }
            6 if self.plan.has(Feature::Closes) => self.close(),
            _ => Ok(()),
        }
    }

    pub(super) fn stop(&mut self) -> u64 {
        // What was published as durable is promised, whether it was read or not.
        let durable = self.engine().durable_seq().0;
        self.was_poisoned |= self.engine().poison().is_some();
        let put_off = self.put_off();
        self.marks.add("turn put off", put_off);
        self.reader = None;
        self.engine = None;
        durable
    }

    pub(super) fn put_off(&mut self) -> u64 {
        let engine = self.engine();
        (0..engine.partitions()).map(|index| engine.partition_status(index).turns_put_off).sum()
    }

    /// The process dies; the page cache stays.
    pub(super) fn kill(&mut self) -> Result<(), Wrong> {
        self.look_if_on()?;
        let promised = self.stop();
        self.device.clear_faults();
        self.start_again("a kill", promised)
    }

    /// The machine goes off: what was not synced is kept, lost, or torn.
    pub(super) fn cut_power(&mut self) -> Result<(), Wrong> {
        self.look_if_on()?;
        let promised = self.stop();
        self.lose_cache();
        self.start_again("a power cut", promised)
    }

    pub(super) fn lose_cache(&mut self) {
        let mode = match self.faults.below(5) {
            0 => CrashMode::DropUnsynced,
            1 => CrashMode::KeepAll,
            _ => CrashMode::Sectors(self.faults.bits()),
        };
        self.device = self.device.crash(mode);
    }

    /// Replies that are there are taken before a crash, unless the machine is off already.
    pub(super) fn look_if_on(&mut self) -> Result<(), Wrong> {
        if self.device_is_off() {
            return Ok(());
        }
        self.look()?;
        self.check_order()
    }

    pub(super) fn device_is_off(&self) -> bool {
        self.device.list("").is_err()
    }

    /// Whether the engine is poisoned; the disk must be to blame.
    pub(super) fn check_poison(&mut self) -> Result<bool, Wrong> {
        let Some(cause) = self.engine().poison() else { return Ok(false) };
        let is_disk = matches!(cause, PoisonCause::Journal(_));
        if !is_disk || !self.has_write_fault && !self.device_is_off() {
            return Err(format!("the engine is poisoned without a fault: {cause}"));
        }
        Ok(true)
    }

    pub(super) fn note_poison(&mut self) -> Result<(), Wrong> {
        if !self.check_poison()? {
            return Ok(());
        }
        self.was_poisoned = true;
        self.marks.hit("poisoned");
        // Everybody is answered, and nothing more is acknowledged.
        for partition in 0..self.partitions {
            self.engine().partition(partition);
        }
        if self.faults.one_in(2) { self.kill() } else { self.cut_power() }
    }

    pub(super) fn close(&mut self) -> Result<(), Wrong> {
        self.check_order()?;
        if self.is_full || self.has_write_fault {
            return Ok(());
        }
        self.look()?;
        let Some(engine) = self.engine.take() else { return Ok(()) };
        self.reader = None;
        let (clocks, last) = (self.clocks.clone(), engine.last_seq().0);
        self.is_closing = true;
        let closed = engine.close(|| clocks.pass(500));
        match closed {
            Ok(closed) if closed.last_seq.0 >= last => self.start_again("a clean close", closed.last_seq.0),
            Ok(closed) => Err(format!("closed at {} of {last}", closed.last_seq.0)),
            // A read that fails spoils the checkpoint's test of itself.
            Err(CloseError::Checkpoint(_)) if self.plan.has(Feature::ReadErrors) => {
                self.marks.hit("close failed");
                self.start_again("a failed close", last)
            }
            Err(error) => Err(format!("an orderly close fails: {error}")),
        }
    }
}
