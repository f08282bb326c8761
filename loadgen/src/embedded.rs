//! The embedded target: an engine in this process.
//!
//! Owns how a plan becomes an engine's configuration, and what is asked of the engine; refuses to generate or to judge.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use tpcore::device::{Device, DiskDevice, PacedDevice, Throttle};
use tpcore::event::Body;
use tpcore::{
    Budgets, CheckpointPolicy, Client, Command, Config, Engine, JournalKind, Placement, Reply, Seq, Time, UpTo, View,
    ViewOptions, Windows,
};

use crate::money;
use crate::plan::{EmbeddedPlan, ThrottlePlan, WorkloadPlan, ledger};
use crate::report::{MoneyCheck, Opening};
use crate::target::{Activity, Closing, Inspect, Progress, Session, Stand, Sums, Target, TargetStopped};
use crate::workload::Workload;

/// Exchanges under way at a time, where the spare segment has room for them.
pub(crate) const EXCHANGES: u32 = 16_384;

/// No event of the journal that makes a key or an authorization is shorter, bytes; what a checkpoint shows, such events have made.
const RECORD_BYTES_LEAST: u64 = 64;
/// What one record that lies in a directory may take of a budget, bytes: more than any does, whatever became of it.
const HELD_BYTES: u64 = 1024;

/// An engine in this process.
#[derive(Debug)]
pub struct Embedded {
    engine: Engine,
    journal: JournalKind,
    /// `None`: nothing is kept.
    path: Option<PathBuf>,
}

impl Embedded {
    /// Opens the engine of a plan; `path`: its data directory; `mirror`: that of the second copy of its journal.
    ///
    /// # Errors
    /// When it cannot be opened: in use, damaged, of another kind.
    pub fn open(plan: &EmbeddedPlan, path: &Path, mirror: Option<&Path>) -> Result<Self> {
        let keeps = plan.journal != JournalKind::Memory;
        let is_new = std::iter::once(path).chain(mirror).all(|folder| !folder.join("identity").exists());
        let mut config = if keeps { Config::at(path) } else { Config::in_memory() };
        config.journal = plan.journal;
        config.partitions = plan.partitions;
        config.inbox_commands = plan.inbox_commands;
        config.deadline_ms_default = plan.deadline_ms;
        config.queue_wait_ms_max = plan.queue_wait_ms_max;
        match plan.throttle {
            Some(throttle) => {
                config.device = Some(slower(path, throttle));
                config.mirror_device = mirror.map(|mirror| slower(mirror, throttle));
            }
            None => config.mirror = mirror.map(Path::to_owned),
        }
        // A directory keeps the windows that it was made with.
        config.windows = (is_new || !keeps).then_some(Windows {
            key_uuid_v7_ms: Some(plan.key_window_ms),
            refund_ms: plan.key_window_ms,
            key_opaque_ms: Some(plan.key_window_ms),
        });
        // A stall of 100 ms at high rates has many thousand exchanges open; the spare segment must hold what they may still need.
        config.prefault_records = plan.prefault_records;
        config.segment_bytes = plan.segment_bytes;
        config.accept_tail = plan.accept.accept_tail;
        config.accept_clock = plan.accept.accept_clock;
        // The plan's are for what the run makes; what lies in the directory already comes on top.
        let held = held_records(path);
        config.budgets = Budgets {
            key_bytes: plan.key_bytes.saturating_add(held.saturating_mul(HELD_BYTES)),
            authorization_bytes: plan.authorization_bytes.saturating_add(held.saturating_mul(HELD_BYTES)),
            exchanges: EXCHANGES,
        };
        config.checkpoint = CheckpointPolicy {
            interval: plan.checkpoint_interval,
            events: None,
            at_close: false,
            // Below the journal's, on a slower disk too.
            bytes_per_second: plan
                .throttle
                .and_then(|throttle| throttle.bytes_per_second)
                .map_or(CheckpointPolicy::default().bytes_per_second, |rate| (rate / 4).max(1 << 20)),
        };
        let engine = Engine::open(config).with_context(|| format!("cannot open the engine on {}", path.display()))?;
        Ok(Self { engine, journal: plan.journal, path: keeps.then(|| path.to_owned()) })
    }
}

/// As many keys, and as many authorizations, as a directory may hold at most: a budget is a limit and takes no memory by itself, so the
/// count may be far too high.
fn held_records(path: &Path) -> u64 {
    bytes_below(path) / RECORD_BYTES_LEAST
}

/// What the files in a folder and its folders come to; what cannot be read counts nothing, and is refused when the engine opens it.
fn bytes_below(folder: &Path) -> u64 {
    let files = std::fs::read_dir(folder).into_iter().flatten().flatten();
    let bytes = files.map(|file| match file.metadata() {
        Ok(metadata) if metadata.is_dir() => bytes_below(&file.path()),
        Ok(metadata) => metadata.len(),
        Err(_) => 0,
    });
    bytes.sum()
}

/// The directory on a slower disk. (With a device of its own an engine keeps the catalogue in memory.)
fn slower(path: &Path, plan: ThrottlePlan) -> Arc<dyn Device> {
    let throttle = Throttle::new(plan.sync, plan.bytes_per_second);
    Arc::new(PacedDevice::new(Arc::new(DiskDevice::new(path)), Arc::new(throttle)))
}

/// A poisoned engine is the reason for whatever else failed.
fn stopped(engine: &Engine, error: anyhow::Error) -> anyhow::Error {
    engine.status().poison.map_or(error, |cause| TargetStopped { cause: cause.to_string() }.into())
}

struct EmbeddedSession(Client);

impl Session for EmbeddedSession {
    fn submit(&mut self, tag: u64, command: &Command) -> bool {
        self.0.submit(tag, command).is_ok()
    }
    fn poll(&mut self, each: &mut dyn FnMut(u64, Reply)) -> usize {
        self.0.poll(each)
    }
    fn wait(&mut self, timeout: Duration) {
        if self.0.in_flight() == 0 {
            std::thread::sleep(timeout);
        } else {
            self.0.wait(timeout);
        }
    }
}

impl Target for Embedded {
    fn session(&self, in_flight: usize) -> Result<Box<dyn Session>> {
        Ok(Box::new(EmbeddedSession(self.engine.client(in_flight))))
    }

    fn now(&self) -> Time {
        self.engine.now()
    }

    fn key_window_ms(&self) -> u64 {
        self.engine.windows().key_uuid_v7_ms.unwrap_or(u64::MAX)
    }

    fn stand(&self, _: &WorkloadPlan) -> Result<Stand> {
        let (sums, seq) = money::stand(self)?;
        Ok(Stand::Engine(sums, seq))
    }

    fn compare(&self, workload: &Workload, before: &Stand) -> Result<Vec<MoneyCheck>> {
        let Stand::Engine(sums, seq) = before else { bail!("a bug: the sums before the run are another target's") };
        money::compare(self, workload.books(), (*sums, *seq), workload.plan().hold_lifetime)
    }

    fn fault(&self) -> Option<anyhow::Error> {
        self.sums().err().filter(anyhow::Error::is::<TargetStopped>)
    }

    fn opening(&self) -> Option<Opening> {
        let recovery = self.engine.recovery();
        let (events_replayed, from_checkpoint) = (recovery.events_replayed, recovery.checkpoint.is_some());
        let found_something = events_replayed > 0 || from_checkpoint;
        found_something.then_some(Opening { took_ms: recovery.took_ms, events_replayed, from_checkpoint })
    }

    fn placement(&self) -> Option<Placement> {
        Some(self.engine.placement())
    }

    fn progress(&self) -> Progress {
        let status = self.engine.status();
        Progress {
            durable_lag_events: status.durable_lag_events,
            journal_bytes: status.writer.journal_bytes,
            checkpoint_running: status.checkpoint.is_running,
        }
    }

    fn close(self: Box<Self>) -> Result<Option<Closing>> {
        let Self { engine, journal, path } = *self;
        // Timers make events of their own: the digest counts for the state in which none came meanwhile.
        let (before, seq) = loop {
            let seq = engine.last_seq();
            let digest = engine.digest().context("the engine did not show its digest");
            let digest = digest.map_err(|error| stopped(&engine, error))?;
            if engine.last_seq() == seq {
                break (digest, seq);
            }
        };
        let closed = engine.close_blocking().context("the engine did not close in good order")?;
        let Some(path) = path else { return Ok(Some(Closing { before, after: None })) };
        if journal != JournalKind::Sled {
            let options = ViewOptions { up_to: UpTo::Seq(seq), ..ViewOptions::default() };
            let view = View::open(&path, options).context("the directory cannot be read again")?;
            return Ok(Some(Closing { before, after: Some(view.digest()) }));
        }
        let config = Config { journal, checkpoint: CheckpointPolicy::off(), ..Config::at(&path) };
        let again = Engine::open(config).context("the directory cannot be opened again")?;
        // No view reads a sled journal up to a number: where the close itself made events there is nothing to compare.
        let is_same_point = closed.last_seq == seq && again.last_seq() == seq;
        let after = is_same_point.then(|| again.digest()).transpose().context("the engine did not show its digest")?;
        again.close_blocking().context("the engine did not close in good order")?;
        Ok(Some(Closing { before, after }))
    }
}

impl Inspect for Embedded {
    fn seqs(&self) -> (Seq, Seq) {
        (self.engine.last_seq(), self.engine.durable_seq())
    }

    fn sums(&self) -> Result<Sums> {
        let totals = self.engine.trial_balance().context("the engine did not show its balances");
        let totals = totals.map_err(|error| stopped(&self.engine, error))?;
        let ours = totals.into_iter().find(|totals| totals.ledger == ledger());
        Ok(ours.map_or(Sums::default(), |t| Sums {
            debits: t.debits,
            credits: t.credits,
            held: t.held,
            in_transit: t.in_transit,
        }))
    }

    fn follow(&self, activity: &mut Activity) -> Result<()> {
        let last = self.engine.durable_seq();
        let mut feed = self.engine.events(activity.seq.next());
        while activity.seq < last {
            let next = feed.next_timeout(Duration::from_secs(30)).context("reading the events of the run");
            let next = next.map_err(|error| stopped(&self.engine, error))?;
            let Some((seq, event)) = next else {
                bail!("the engine's feed of events stands still at {}, before {last}", activity.seq);
            };
            match &event.body {
                Body::Expired(expired) => {
                    activity.expiries += 1;
                    activity.expired += expired.amount.get();
                }
                // An exchange is answered when it ends.
                Body::Opened(_) => {}
                Body::Ended(ended) => {
                    activity.approvals += ended.ends.iter().filter(|end| end.outcome.is_approval()).count() as u64;
                }
                body => activity.approvals += u64::from(body.head().is_some_and(|head| head.outcome.is_approval())),
            }
            activity.seq = seq;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::{Accept, account};
    use tpcore::{Key, OpenAccount, Outcome, Settings};

    /// Budgets that one key fills.
    fn tight(journal: JournalKind) -> EmbeddedPlan {
        EmbeddedPlan {
            partitions: 1,
            journal,
            checkpoint_interval: None,
            inbox_commands: 64,
            deadline_ms: 10_000,
            queue_wait_ms_max: 10_000,
            throttle: None,
            key_window_ms: 60_000,
            key_bytes: 1,
            authorization_bytes: 1,
            prefault_records: 0,
            segment_bytes: 4 << 20,
            accept: Accept::default(),
        }
    }

    fn open_account(target: &Embedded, n: u64) -> Outcome {
        let mut session = target.session(1).expect("a session");
        let settings = Settings::new(ledger());
        let key = Key::uuid_v7_from_parts(target.now(), u128::from(n));
        let command = OpenAccount { key, account: account(n), settings, note: tpcore::Note::default() }.into();
        assert!(session.submit(n, &command));
        let mut outcome = None;
        while outcome.is_none() {
            session.wait(Duration::from_millis(100));
            session.poll(&mut |_, reply| outcome = Some(reply.outcome));
        }
        outcome.expect("answered")
    }

    /// A run on a directory of millions of keys was answered `busy` throughout: its budgets were for its own commands only.
    #[test]
    fn what_a_used_directory_holds_comes_on_top_of_a_runs_budgets() {
        for plan in [JournalKind::Segment, JournalKind::Sled].map(tight) {
            let directory = tempfile::tempdir().expect("a directory");
            let target = Embedded::open(&plan, directory.path(), None).expect("a new directory");
            assert_eq!([1, 2].map(|n| open_account(&target, n)), [Outcome::Approved, Outcome::Busy]);
            Box::new(target).close().expect("closed");
            let target = Embedded::open(&plan, directory.path(), None).expect("the same");
            assert_eq!(open_account(&target, 2), Outcome::Approved, "{:?}", plan.journal);
            Box::new(target).close().expect("closed");
        }
    }
}
