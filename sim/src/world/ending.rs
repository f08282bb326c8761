//! The end of a run: faults are over, everybody is answered, what is open is resolved, the files are sound.

use tp_actors::{CallOptions, ManualEngine, StateDigest, VerifyStatus};
use tp_core::command::{Command, Lookup};
use tp_core::reply::AuthorizationState;
use tp_storage::CrashMode;

use crate::oracle::Hold;
use crate::plan::Feature;

use super::{ROUNDS_MAX, World, Wrong};

impl World {
    pub(super) fn come_to_an_end(&mut self) -> Result<(), Wrong> {
        self.device.clear_faults();
        (self.has_write_fault, self.is_full) = (false, false);
        self.settle()?;
        self.resolve_open_commands()?;
        self.check_state()?;
        let balanced =
            self.engine().trial_balance().iter().all(|totals| totals.is_balanced() && totals.in_transit == 0);
        if !balanced {
            return Err("the trial balance does not hold".into());
        }
        let put_off = self.put_off();
        self.marks.add("turn put off", put_off);
        let rolled = self.device.paths().iter().filter(|path| path.contains("journal/")).count() > 3;
        self.marks.add("segments rolled over", u64::from(rolled));
        let digest = self.engine().digest();
        let last = self.engine().last_seq().0;
        let Some(engine) = self.engine.take() else { return Ok(()) };
        self.reader = None;
        self.is_closing = true;
        let clocks = self.clocks.clone();
        engine.close(|| clocks.pass(500)).map_err(|error| format!("the last close fails: {error}"))?;
        self.check_starts(digest, last)
    }

    /// J4: however many partitions, the same state; and the files are sound.
    pub(super) fn check_starts(&mut self, digest: StateDigest, last: u64) -> Result<(), Wrong> {
        for partitions in [1, 2, 4] {
            let copy = self.device.crash(CrashMode::DropUnsynced);
            let opened = ManualEngine::open(&self.config(&copy, partitions));
            let mut engine = opened.map_err(|error| format!("no start after the last close: {error}"))?;
            if (engine.last_seq().0, engine.digest()) != (last, digest) {
                return Err(format!("on {partitions} partitions the state is another one"));
            }
        }
        let report = self.plan.copies().verify(&self.device.crash(CrashMode::DropUnsynced));
        let report = report.map_err(|error| format!("`verify` fails: {error}"))?;
        if report.status != VerifyStatus::Ok {
            return Err(format!("`verify` says {report:?}"));
        }
        self.trace.update(&last.to_le_bytes());
        Ok(())
    }

    /// Everything goes on until nobody waits any more.
    pub(super) fn settle(&mut self) -> Result<(), Wrong> {
        for _ in 0..ROUNDS_MAX {
            self.engine().turn_all();
            for partition in 0..self.partitions {
                self.engine().tick(partition);
            }
            self.clocks.pass(700);
            self.look()?;
            self.note_poison()?;
            if self.clients.waiting() == 0 && self.engine().is_drained() && !self.has_due_expiries() {
                return self.check_expiries();
            }
        }
        Err(format!("{} clients wait for ever", self.clients.waiting()))
    }

    fn has_due_expiries(&mut self) -> bool {
        let now = self.engine().now();
        self.engine().look(|partition| partition.has_work(now)).contains(&true)
    }

    /// At rest no hold is open beyond its time.
    pub(super) fn check_expiries(&mut self) -> Result<(), Wrong> {
        let (Some(engine), Some(oracle)) = (&self.engine, &self.oracle) else { return Ok(()) };
        let now = engine.now();
        let is_late = |hold: &&Hold| hold.state == AuthorizationState::Open && hold.expires.plus_ms(1_000) < now;
        let late = oracle.holds.values().find(is_late);
        late.map_or(Ok(()), |hold| Err(format!("at {now} it should have expired: {hold:?}")))
    }

    /// P3: what is open is looked up with a fence; then the late original comes after all.
    pub(super) fn resolve_open_commands(&mut self) -> Result<(), Wrong> {
        let open: Vec<usize> = (0..self.clients.sent.len()).filter(|n| !self.clients.sent[*n].is_resolved).collect();
        let mut originals = Vec::new();
        for number in open {
            let command = &self.clients.sent[number].command;
            let account = match command {
                Command::Authorize(c) => c.account,
                Command::Transfer(c) => c.account,
                Command::Advise(c) => c.account,
                Command::Reverse(c) => c.account,
                _ => continue,
            };
            let Some(key) = command.key().filter(|_| command.is_well_formed()) else { continue };
            originals.push(number);
            let lookup = self.clients.add(Lookup { account, key, fence: true }.into());
            self.send_until_taken(lookup)?;
        }
        self.settle()?;
        self.marks.add("in doubt, then resolved", originals.len() as u64);
        for number in originals {
            self.send_until_taken(number)?;
        }
        self.settle()
    }

    pub(super) fn send_until_taken(&mut self, number: usize) -> Result<(), Wrong> {
        for attempt in 0..24 {
            self.call(number, CallOptions::default());
            self.settle()?;
            if self.clients.sent[number].is_resolved {
                return Ok(());
            }
            self.clocks.pass(1_000 << attempt);
        }
        if !self.plan.has(Feature::SmallBudgets) {
            return Err(format!("never answered for good: {:?}", self.clients.sent[number].command));
        }
        // Budgets may be full of what lives for ever.
        self.marks.hit("never taken");
        Ok(())
    }
}
