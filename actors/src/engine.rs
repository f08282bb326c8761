//! The engine: what an embedder holds.
//!
//! Owns the surface; refuses to decide and to keep anything that the threads below it own. See the crate's page for the
//! topology.

use std::fmt;
use std::future::Future;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crossbeam::channel::{Receiver, Sender, bounded};
use parking_lot::Mutex;
use tokio::sync::oneshot;
use tp_core::command::{Command, Read, ReadTarget, Record};
use tp_core::digest::StateDigest;
use tp_core::ids::{AccountId, AuthorizationId, Seq, SlotIndex, SlotSeed};
use tp_core::outcome::Outcome;
use tp_core::partition::Partition;
use tp_core::reply::{AccountView, AuthorizationView, Detail, Reply};
use tp_core::rules::Windows;
use tp_core::slot::Slot;
use tp_core::time::Time;
use tp_storage::FrameSource;

use crate::ask::ask_all;
use crate::call::{CallOptions, Pending};
use crate::catalogue::{CURSOR_WAIT, CatalogueOrder};
use crate::checkpointer::CheckpointDone;
use crate::checkpointer_thread::CheckpointOrder;
use crate::client::Client;
use crate::close::{self, Closed};
use crate::config::Config;
use crate::error::{CheckpointFailed, CloseError, CursorError, NotAnswered, OpenError};
use crate::feed::EventFeed;
use crate::history::reader::Reader;
use crate::open::{self, Opened, Threads};
use crate::placement::Placement;
use crate::recovery::RecoveryReport;
use crate::shared::Shared;
use crate::status::{ClockStatus, EngineStatus, LedgerTotals, PartitionStatus, digest_of, slot_digests};

/// A running engine. Share it by reference or `Arc`; [`Client`]s and feeds live on their own.
///
/// Dropped without a close it stops at once: no checkpoint is taken, callers that wait are told `in_progress`, and the
/// next open resolves what was open. Everything acknowledged is durable either way.
///
/// ```
/// use tp_actors::{Config, Engine};
/// use tp_core::{amount::{Amount, Ledger}, command::{OpenAccount, Note, Settings}, ids::AccountId, key::Key};
///
/// let engine = Engine::open(Config::in_memory())?;
/// let ledger = Ledger::new("EUR", 2).ok_or("a ledger")?;
/// let open = OpenAccount { key: Key::opaque(1), account: AccountId(1), settings: Settings::new(ledger), note: Note::default() };
/// assert!(engine.call_blocking(open).outcome.is_approval());
/// engine.close_blocking()?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct Engine {
    shared: Arc<Shared>,
    source: Arc<dyn FrameSource>,
    report: RecoveryReport,
    threads: Mutex<Option<Threads>>,
    takes_checkpoint_at_close: bool,
}

impl fmt::Debug for Engine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Engine").field("last_seq", &self.last_seq()).finish_non_exhaustive()
    }
}

impl Engine {
    /// Recovers on all cores, then serves. Blocks until it does.
    ///
    /// # Errors
    /// [`OpenError`]; nothing was served.
    #[allow(clippy::needless_pass_by_value, reason = "an engine takes its configuration over")]
    pub fn open(config: Config) -> Result<Self, OpenError> {
        let Opened { shared, source, report, threads } = open::open(&config)?;
        let takes_checkpoint_at_close = config.checkpoint.at_close;
        Ok(Self { shared, source, report, threads: Mutex::new(Some(threads)), takes_checkpoint_at_close })
    }

    /// What recovery found and did.
    pub const fn recovery(&self) -> &RecoveryReport {
        &self.report
    }

    /// Submits one command. The command is on its way when this returns; dropping the future does not take it back.
    pub fn call(&self, command: impl Into<Command>) -> Pending {
        self.call_with(command, CallOptions::default())
    }

    /// As [`Engine::call`], with options.
    pub fn call_with(&self, command: impl Into<Command>, options: CallOptions) -> Pending {
        Pending::submit(&self.shared, command.into(), options)
    }

    /// Submits one command and blocks this thread until its reply is there.
    pub fn call_blocking(&self, command: impl Into<Command>) -> Reply {
        self.call(command).wait()
    }

    /// Puts opaque bytes (up to 64 KiB) of a layer above into the journal. [`Reply::seq`] is its number. Records of one
    /// stream keep their order.
    pub fn record(&self, stream: u32, bytes: impl Into<Box<[u8]>>) -> Pending {
        self.call(Record { stream, bytes: bytes.into() })
    }

    /// A client for hot loops with up to `capacity` commands in flight (1 to 16,777,216, clamped).
    pub fn client(&self, capacity: usize) -> Client {
        Client::new(Arc::clone(&self.shared), capacity)
    }

    /// Durable events from that number on, for ever.
    pub fn events(&self, from: Seq) -> EventFeed {
        EventFeed::new(Arc::clone(&self.shared), Arc::clone(&self.source), from)
    }

    /// How far the consumer of this name is; `None`: it never said.
    ///
    /// # Errors
    /// [`CursorError`].
    pub fn cursor(&self, name: &str) -> Result<Option<Seq>, CursorError> {
        let (reply, wait) = bounded(1);
        self.ask_catalogue(CatalogueOrder::Get { name: name.to_owned(), reply }, &wait).map(|seq| seq.map(Seq))
    }

    /// Moves the cursor of the consumer of this name. When this returns, it survives a restart (in memory it lives as
    /// long as the engine).
    ///
    /// # Errors
    /// [`CursorError`].
    pub fn set_cursor(&self, name: &str, seq: Seq) -> Result<(), CursorError> {
        let (reply, wait) = bounded(1);
        self.ask_catalogue(CatalogueOrder::Set { name: name.to_owned(), seq: seq.0, reply }, &wait)
    }

    fn catalogue_orders(&self) -> Option<Sender<CatalogueOrder>> {
        self.threads.lock().as_ref().and_then(|t| t.catalogue.as_ref().map(|c| c.orders.clone()))
    }

    /// For one question about the past.
    pub(crate) fn journal(&self) -> Reader<'_> {
        Reader::new(self.durable_seq(), &*self.source, self.catalogue_orders())
    }

    fn ask_catalogue<T>(
        &self,
        order: CatalogueOrder,
        wait: &Receiver<Result<T, CursorError>>,
    ) -> Result<T, CursorError> {
        let orders = self.catalogue_orders().ok_or(CursorError::Closed)?;
        let waited_ms = u64::try_from(CURSOR_WAIT.as_millis()).unwrap_or(u64::MAX);
        let stalled = CursorError::Stalled { waited_ms };
        orders.send_timeout(order, CURSOR_WAIT).map_err(|_| stalled.clone())?;
        wait.recv_timeout(CURSOR_WAIT).unwrap_or(Err(stalled))
    }

    /// An account as it stands, once that is durable; `None`: there is none.
    ///
    /// # Errors
    /// [`NotAnswered`]: the engine stops, is poisoned, or did not answer in time.
    pub fn account(&self, account: AccountId) -> Result<Option<AccountView>, NotAnswered> {
        Ok(self.read(ReadTarget::Account(account))?.and_then(|detail| match detail {
            Detail::Account(view) => Some(view),
            Detail::Authorization(_) => None,
        }))
    }

    /// An authorization as it stands, once that is durable; `None`: there is none in memory.
    ///
    /// # Errors
    /// As [`Engine::account`].
    pub fn authorization(&self, authorization: AuthorizationId) -> Result<Option<AuthorizationView>, NotAnswered> {
        Ok(self.read(ReadTarget::Authorization(authorization))?.and_then(|detail| match detail {
            Detail::Authorization(view) => Some(view),
            Detail::Account(_) => None,
        }))
    }

    fn read(&self, target: ReadTarget) -> Result<Option<Detail>, NotAnswered> {
        let until = Instant::now() + Duration::from_millis(self.shared.deadline_ms_default.min(60_000));
        loop {
            let reply = self.call_blocking(Read { target });
            match reply.outcome {
                _ if reply.detail.is_some() => return Ok(reply.detail.map(|detail| *detail)),
                Outcome::AccountNotFound | Outcome::OriginalNotFound => return Ok(None),
                Outcome::Busy if Instant::now() < until => std::thread::sleep(Duration::from_millis(1)),
                outcome => return Err(NotAnswered { outcome }),
            }
        }
    }

    /// Asks all partitions between turns, then waits until what they showed is durable.
    fn look<T: Send + 'static>(
        &self,
        look: impl Fn(&Partition) -> T + Clone + Send + 'static,
    ) -> Result<Vec<T>, NotAnswered> {
        let stopped = || {
            let outcome = if self.shared.poison.is_set() { Outcome::SystemError } else { Outcome::Stopping };
            NotAnswered { outcome }
        };
        let (as_of, shown) = ask_all(&self.shared, look).ok_or_else(stopped)?;
        let is_durable = self.shared.durable.wait(as_of, None, || self.shared.poison.is_set());
        if is_durable { Ok(shown) } else { Err(stopped()) }
    }

    /// All accounts, ascending by id. Consistent over partitions only while nothing is under way.
    ///
    /// # Errors
    /// [`NotAnswered`]: the engine stops or is poisoned.
    pub fn accounts(&self) -> Result<Vec<AccountView>, NotAnswered> {
        let shown = self.look(|partition| partition.slots().flat_map(Slot::accounts).collect::<Vec<_>>())?;
        let mut all: Vec<_> = shown.into_iter().flatten().collect();
        all.sort_unstable_by_key(|view| view.account);
        Ok(all)
    }

    /// The accounts of `count` slots from one on that are wanted, in no order. Each partition is held up for as long as it takes to
    /// look through its part of them: ask for few slots at once.
    ///
    /// # Errors
    /// As [`Engine::accounts`].
    pub fn accounts_of_slots(
        &self,
        first: SlotIndex,
        count: u16,
        is_wanted: impl Fn(SlotIndex, AccountId) -> bool + Clone + Send + 'static,
    ) -> Result<Vec<AccountView>, NotAnswered> {
        let slots = first.get()..first.get().saturating_add(count);
        let shown = self.look(move |partition| {
            let wanted = partition.slots().filter(|slot| slots.contains(&slot.index().get()));
            wanted.flat_map(|slot| slot.accounts_where(|id| is_wanted(slot.index(), id))).collect::<Vec<_>>()
        })?;
        Ok(shown.into_iter().flatten().collect())
    }

    /// The totals of each ledger, ascending. Consistent over partitions only while nothing is under way.
    ///
    /// # Errors
    /// As [`Engine::accounts`].
    pub fn trial_balance(&self) -> Result<Vec<LedgerTotals>, NotAnswered> {
        let shown = self.look(|partition| partition.slots().flat_map(Slot::totals).collect::<Vec<_>>())?;
        Ok(LedgerTotals::of(shown.into_iter().flatten()))
    }

    /// The digest of the state at the largest event time. Means something only while nothing is under way.
    ///
    /// # Errors
    /// As [`Engine::accounts`].
    pub fn digest(&self) -> Result<StateDigest, NotAnswered> {
        let at = Time(self.shared.event_time_max.load(std::sync::atomic::Ordering::Acquire));
        Ok(digest_of(self.look(move |partition| slot_digests(partition, at))?))
    }

    /// Whether it stopped acknowledging: [`EngineStatus::poison`] says why.
    pub fn is_poisoned(&self) -> bool {
        self.shared.poison.is_set()
    }

    /// The last sequence number given out; it may not be durable yet.
    pub fn last_seq(&self) -> Seq {
        self.shared.last_seq()
    }

    /// The last durable sequence number.
    pub fn durable_seq(&self) -> Seq {
        self.shared.durable.seq()
    }

    /// Engine time.
    pub fn now(&self) -> Time {
        self.shared.clock.now()
    }

    /// The directory's windows.
    pub fn windows(&self) -> Windows {
        self.shared.windows
    }

    /// The seed of the directory's hash from account to slot.
    pub fn seed(&self) -> SlotSeed {
        self.shared.seed
    }

    /// Where accounts live.
    pub fn placement(&self) -> Placement {
        self.shared.placement()
    }

    /// What every actor shows of itself.
    pub fn status(&self) -> EngineStatus {
        let shared = &self.shared;
        let (last_seq, durable_seq) = (shared.last_seq(), shared.durable.seq());
        let states = ask_all(shared, Partition::stats).map_or_else(Vec::new, |(_, stats)| stats);
        let partition = |(index, lane)| {
            let state = states.get(index).copied().unwrap_or_default();
            PartitionStatus::of(lane, state)
        };
        let (difference_ms, is_alarming) = shared.clock.difference();
        EngineStatus {
            now: shared.clock.now(),
            last_seq,
            durable_seq,
            durable_lag_events: last_seq.0.saturating_sub(durable_seq.0),
            poison: shared.poison.cause(),
            partitions: shared.lanes.iter().enumerate().map(partition).collect(),
            writer: shared.writer_status.lock().clone(),
            checkpoint: *shared.checkpoint_status.lock(),
            catalogue: shared.catalogue_status.lock().clone(),
            scrub: shared.scrub_status.lock().clone(),
            clock: ClockStatus { difference_ms, is_alarming },
        }
    }

    /// Takes a checkpoint now and waits for it. Partitions go on meanwhile.
    ///
    /// # Errors
    /// [`CheckpointFailed`]; older checkpoints are untouched.
    pub fn checkpoint(&self) -> Result<CheckpointDone, CheckpointFailed> {
        let orders = {
            let threads = self.threads.lock();
            let threads = threads.as_ref().ok_or(CheckpointFailed::Stopped)?;
            threads.checkpointer.as_ref().ok_or(CheckpointFailed::NotKept)?.orders.clone()
        };
        let (reply, wait) = bounded(1);
        orders.send(CheckpointOrder::Take(reply)).map_err(|_| CheckpointFailed::Stopped)?;
        wait.recv().unwrap_or(Err(CheckpointFailed::Stopped))
    }

    /// Drains, checkpoints, writes the witness, syncs, joins every thread. The work is done on a thread of its own.
    ///
    /// # Errors
    /// [`CloseError`]. Everything acknowledged is durable all the same.
    pub fn close(self) -> impl Future<Output = Result<Closed, CloseError>> + Send + use<> {
        let (sender, receiver) = oneshot::channel();
        let spawned = std::thread::Builder::new().name("tp-close".into()).spawn({
            move || {
                let _ = sender.send(self.close_blocking()); // the caller may have gone
            }
        });
        async move {
            match (spawned, receiver.await) {
                (Ok(_), Ok(closed)) => closed,
                // No thread could be had, or it panicked: the engine was dropped, which stops it.
                _ => Err(CloseError::NotDrained { open: 0, waited_ms: 0 }),
            }
        }
    }

    /// As [`Engine::close`], on this thread.
    ///
    /// # Errors
    /// As [`Engine::close`].
    pub fn close_blocking(self) -> Result<Closed, CloseError> {
        self.close_in_place()
    }

    /// As [`Engine::close_blocking`], of an engine that others share: what they submit from now on is answered `stopping`.
    ///
    /// # Errors
    /// As [`Engine::close`].
    pub fn close_in_place(&self) -> Result<Closed, CloseError> {
        let threads = self.threads.lock().take();
        match threads {
            Some(threads) => close::close(&self.shared, threads, self.takes_checkpoint_at_close),
            None => Ok(Closed { last_seq: self.shared.last_seq(), checkpoint: None }),
        }
    }
}

impl Drop for Engine {
    fn drop(&mut self) {
        if let Some(threads) = self.threads.lock().take() {
            let _ = close::stop(&self.shared, threads); // what was acknowledged is durable
        }
    }
}
