//! What the generator drives: one small seam, so that the same run can go to an embedded engine or over a network.
//!
//! Owns the traits; refuses to know engines and protocols. A session belongs to one thread; everything else may be asked from
//! another one while it runs.

use std::collections::BTreeMap;
use std::time::Duration;

use tpcore::{Command, Placement, Reply, Seq, StateDigest, Time};

use crate::network::Standing;
use crate::plan::WorkloadPlan;
use crate::report::{MoneyCheck, Opening};
use crate::workload::Workload;

/// Submits commands and hands back their replies, in any order.
pub trait Session {
    /// Sends a command. `false`: refused at once for want of room, nothing was taken (`busy`).
    fn submit(&mut self, tag: u64, command: &Command) -> bool;
    /// Hands over the replies that are there, and returns how many.
    fn poll(&mut self, each: &mut dyn FnMut(u64, Reply)) -> usize;
    /// Waits until a reply is there, at most so long.
    fn wait(&mut self, timeout: Duration);
}

/// Sums over all accounts of the generator's ledger, minor units.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Sums {
    /// All debits.
    pub debits: u128,
    /// All credits.
    pub credits: u128,
    /// All open holds.
    pub held: u128,
    /// Debited and not yet credited.
    pub in_transit: i128,
}

/// What a target recorded of a run, event by event.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Activity {
    /// Up to this event.
    pub seq: Seq,
    /// Commands that had their effect.
    pub approvals: u64,
    /// Holds that expired.
    pub expiries: u64,
    /// What they came to, minor units.
    pub expired: u128,
}

/// What a target shows of itself while it runs.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Progress {
    /// Events decided and not yet durable.
    pub durable_lag_events: u64,
    /// Bytes of the journal in use.
    pub journal_bytes: u64,
    /// Whether a checkpoint is being taken.
    pub checkpoint_running: bool,
}

/// What is left of a target when it is closed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Closing {
    /// Digest of the state before the close.
    pub before: StateDigest,
    /// Digest of the state that the directory gives afterwards; `None`: nothing is kept.
    pub after: Option<StateDigest>,
}

/// The target stopped for good: what it answers from now on says nothing.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct TargetStopped {
    /// Why.
    pub cause: String,
}

impl std::fmt::Display for TargetStopped {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "the engine stopped: {}; what it acknowledged is durable, start again to recover", self.cause)
    }
}

impl std::error::Error for TargetStopped {}

/// Where a target's money stood: what a comparison begins with.
#[derive(Clone, Debug)]
pub enum Stand {
    /// The sums of an engine in this process, and its last event.
    Engine(Sums, Seq),
    /// Every account of the generator, as a server shows them.
    Accounts(Standing),
}

/// A system that decides commands.
pub trait Target: Send + Sync {
    /// A session with up to so many commands in flight.
    ///
    /// # Errors
    /// When the system has no room for one.
    fn session(&self, in_flight: usize) -> anyhow::Result<Box<dyn Session>>;
    /// One for many commands at a time whose latency does not matter.
    ///
    /// # Errors
    /// As [`Target::session`].
    fn bulk_session(&self, in_flight: usize) -> anyhow::Result<Box<dyn Session>> {
        self.session(in_flight)
    }
    /// The target's time, for the keys.
    fn now(&self) -> Time;
    /// How long keys are remembered, ms.
    fn key_window_ms(&self) -> u64;
    /// Where the money stands, with nothing under way.
    ///
    /// # Errors
    /// When the target does not say, or does not come to rest.
    fn stand(&self, plan: &WorkloadPlan) -> anyhow::Result<Stand>;
    /// Compares the money with what the answers come to.
    ///
    /// # Errors
    /// When the target does not say.
    fn compare(&self, workload: &Workload, before: &Stand) -> anyhow::Result<Vec<MoneyCheck>>;
    /// What it shows of itself.
    fn progress(&self) -> Progress;
    /// Why it says nothing more, if so: the reason for whatever else went wrong.
    fn fault(&self) -> Option<anyhow::Error>;
    /// How it came up on what its directory held; nothing where that was nothing, or is not this process's.
    fn opening(&self) -> Option<Opening> {
        None
    }
    /// How it places accounts in partitions; `None`: that is not the generator's to see.
    fn placement(&self) -> Option<Placement> {
        None
    }
    /// What became of connections, by name; nothing where there are none.
    fn transport(&self) -> BTreeMap<String, u64> {
        BTreeMap::new()
    }
    /// The tenant that owns the accounts, where they have names of their own in records (see [`crate::acks`]).
    fn tenant(&self) -> Option<u32> {
        None
    }
    /// Ends it in good order, and looks at what it leaves; `None`: that is not the generator's to see.
    ///
    /// # Errors
    /// When it does not end well, or what it left cannot be read.
    fn close(self: Box<Self>) -> anyhow::Result<Option<Closing>>;
}

/// What an engine in this process shows beyond that.
pub trait Inspect {
    /// The last event made, and the last one that is durable.
    fn seqs(&self) -> (Seq, Seq);
    /// The sums of the generator's ledger. Consistent only while nothing is in flight.
    ///
    /// # Errors
    /// When the target does not say.
    fn sums(&self) -> anyhow::Result<Sums>;
    /// Adds what the target recorded behind `activity.seq`, up to what is durable.
    ///
    /// # Errors
    /// When the target does not say.
    fn follow(&self, activity: &mut Activity) -> anyhow::Result<()>;
}
