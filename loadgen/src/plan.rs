//! What a run is to do, checked: the result of reading the command line.
//!
//! Owns the numbers that follow from others (budgets, space, ring sizes); refuses to know how they were written.

use std::path::PathBuf;
use std::time::Duration;

use tpcore::{AccountId, CheckpointPolicy, JournalKind, Ledger};

use crate::mix::Mix;
use crate::network::{BearerKey, Endpoint};
use crate::payees::Locality;
use crate::schedule::Schedule;
use crate::skew::Skew;
use crate::slo::Objective;

/// One run.
#[derive(Clone, Debug)]
pub struct Plan {
    /// What commands are made.
    pub workload: WorkloadPlan,
    /// When they are sent, the measured part only.
    pub schedule: Schedule,
    /// Look for the highest rate that meets the objectives, instead of one run.
    pub find_max: bool,
    /// At the first rate of the schedule, before the measured part.
    pub warm_up: Duration,
    /// Objectives.
    pub objectives: Vec<Objective>,
    /// Whether `busy` is no failure.
    pub allow_busy: bool,
    /// The most commands in flight.
    pub in_flight: usize,
    /// The engine, for the embedded target.
    pub embedded: EmbeddedPlan,
    /// A server instead.
    pub network: Option<NetworkPlan>,
    /// Where the data is; `None`: a temporary directory, removed afterwards.
    pub data_dir: Option<PathBuf>,
    /// Where the second copy of the journal is, if there shall be one; with a temporary data directory in a temporary folder there.
    pub mirror: Option<PathBuf>,
    /// Where acknowledgements are written.
    pub record_acks: Option<PathBuf>,
    /// What is measured before.
    pub probes: Probes,
}

/// What the machine does by itself, measured before a run.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Probes {
    /// Appends and syncs of the disk.
    pub disk: bool,
    /// Pauses of the cores.
    pub cpu: bool,
}

/// What commands are made.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct WorkloadPlan {
    /// Everything random comes from it.
    pub seed: u64,
    /// How many accounts pay.
    pub accounts: u64,
    /// How many are paid.
    pub payees: u64,
    /// What each account is given at the start, minor units.
    pub opening_balance: u64,
    /// The largest amount of an authorization or transfer, minor units; the smallest is 1.
    pub amount_max: u64,
    /// Which account.
    pub skew: Skew,
    /// Where payees live, seen from their payers.
    pub locality: Locality,
    /// Which command.
    pub mix: Mix,
    /// Of 1,000 commands so many are sent again as they were.
    pub duplicates_per_mille: u32,
    /// Of 1,000 authorizations so many are reversed, whatever the mix says.
    pub late_reversals_per_mille: u32,
    /// Of 1,000 authorizations so many ask for far more than there is, and take what they get.
    pub partials_per_mille: u32,
    /// How long a hold lives; `None`: as the ledger says.
    pub hold_lifetime: Option<Duration>,
}

/// The engine of the embedded target.
#[derive(Clone, PartialEq, Debug)]
pub struct EmbeddedPlan {
    /// Partitions.
    pub partitions: usize,
    /// Journal.
    pub journal: JournalKind,
    /// Time from checkpoint to checkpoint; `None`: none.
    pub checkpoint_interval: Option<Duration>,
    /// Commands that may wait at a partition.
    pub inbox_commands: usize,
    /// How long a command may take until it is decided and durable, ms.
    pub deadline_ms: u64,
    /// How long a command may wait at a partition under a load that stays, ms.
    pub queue_wait_ms_max: u64,
    /// A slower disk than there is.
    pub throttle: Option<ThrottlePlan>,
    /// How long a new directory remembers keys and closed authorizations, ms.
    pub key_window_ms: u64,
    /// Memory for keys, bytes.
    pub key_bytes: u64,
    /// Memory for authorizations, bytes.
    pub authorization_bytes: u64,
    /// Keys and authorizations whose memory is taken when the engine opens.
    pub prefault_records: u64,
    /// One file of the journal, bytes.
    pub segment_bytes: u64,
    /// What a used directory is opened in spite of.
    pub accept: Accept,
}

/// A server, and how it is spoken to.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct NetworkPlan {
    /// Where it is.
    pub endpoint: Endpoint,
    /// Who asks.
    pub key: Option<BearerKey>,
    /// Connections, 1 or more.
    pub connections: usize,
    /// Requests in flight a connection, 1 or more.
    pub pipeline: usize,
    /// Commands a request, 1 to 500; above 1 they are batches.
    pub batch: usize,
    /// How long a command may take until it is decided and durable, 1 to 60,000 ms.
    pub deadline_ms: u64,
    /// How long the server remembers keys at least, ms.
    pub key_window_ms: u64,
    /// How commands go there.
    pub way: Way,
}

/// How commands go to a server. What a way does not carry goes over HTTP.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Way {
    /// As requests.
    Http,
    /// Over so many gRPC streams, 1 or more; reads as requests.
    Streams(usize),
    /// Authorizations as card messages.
    Cards(CardPlan),
    /// As frames of the binary door; reads and the opening of accounts as requests.
    Frames(FramePlan),
}

/// The binary door of the same server.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct FramePlan {
    /// As `HOST:PORT`.
    pub listener: String,
    /// Links, 1 or more.
    pub links: usize,
}

/// A listener for card messages of the same server.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct CardPlan {
    /// As `HOST:PORT`.
    pub listener: String,
    /// Links, 1 or more.
    pub links: usize,
    /// The layout's name.
    pub layout: String,
}

/// What a used directory is opened in spite of, because somebody looked and said so.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, clap::Args)]
pub struct Accept {
    /// Cut an ambiguous tail off and go on. Only when no other copy of the file is left: what is cut may have been acknowledged.
    #[arg(long, help_heading = "Target")]
    pub accept_tail: bool,
    /// Start although the wall clock is more than 7 days from the last recorded time.
    #[arg(long, help_heading = "Target")]
    pub accept_clock: bool,
}

/// What a slower disk costs.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct ThrottlePlan {
    /// Each sync takes so much longer.
    pub sync: Duration,
    /// Its bytes are taken at most so fast; `None`: as fast as they are.
    pub bytes_per_second: Option<u64>,
}

/// The ledger of everything that the generator does: code `EUR`, two decimals.
pub fn ledger() -> Ledger {
    Ledger::new("EUR", 2).expect("three capital letters and two decimals are a ledger")
}

const ACCOUNTS_FROM: u128 = 1 << 96;
const PAYEES_FROM: u128 = 2 << 96;
const FUNDING_FROM: u128 = 3 << 96;

/// How many accounts give the opening balances: one alone would take them one after the other.
pub const FUNDING: u64 = 64;

/// The n-th account that pays.
pub const fn account(n: u64) -> AccountId {
    AccountId(ACCOUNTS_FROM + n as u128)
}

/// The number of an account's card: issuer 400001, the account's number in nine digits, a check digit (Luhn).
pub fn card_number(account: AccountId) -> [u8; 16] {
    let mut digits = *b"4000010000000000";
    let mut number = account.0.wrapping_sub(ACCOUNTS_FROM);
    for digit in digits[6..15].iter_mut().rev() {
        *digit = b'0' + u8::try_from(number % 10).unwrap_or(0);
        number /= 10;
    }
    let doubled = |at: usize, digit: u8| if at.is_multiple_of(2) { digit * 2 / 10 + digit * 2 % 10 } else { digit };
    let sum: u32 = (0..15).map(|at| u32::from(doubled(at, digits[at] - b'0'))).sum();
    digits[15] = b'0' + u8::try_from((10 - sum % 10) % 10).unwrap_or(0);
    digits
}

/// The n-th account that is paid.
pub const fn payee(n: u64) -> AccountId {
    AccountId(PAYEES_FROM + n as u128)
}

/// The n-th account that gives opening balances; it may go below zero without limit.
pub const fn funding(n: u64) -> AccountId {
    AccountId(FUNDING_FROM + n as u128)
}

/// Whether an account pays (or is paid), and which it is; `None`: another one.
pub const fn place(account: AccountId) -> Option<(bool, u128)> {
    let (kind, n) = (account.0 >> 96, account.0 & (ACCOUNTS_FROM - 1));
    match kind {
        1 => Some((true, n)),
        2 => Some((false, n)),
        _ => None,
    }
}

/// Bytes of memory that one remembered key takes, with its place in index and queue; rounded up.
const KEY_BYTES: u64 = 128;
/// Likewise an authorization.
const AUTHORIZATION_BYTES: u64 = 160;
/// A hold's place among those that expire, which only `--prefault` takes for holds that are not there yet.
const EXPIRY_BYTES: u64 = 32;
/// What a key has beside that where money moves, and an authorization that is worked on, with one capture.
const MOVED_KEY_BYTES: u64 = 64;
const MOVED_AUTHORIZATION_BYTES: u64 = 256;
/// Bytes of the journal that a command comes to, rounded up: two or three events of an exchange, and their frames.
const JOURNAL_BYTES: u64 = 640;
/// Where no money moves: one event.
const HELD_JOURNAL_BYTES: u64 = 224;
/// Checkpoints may be written for so much longer than the schedule takes: setup, the last replies.
const CHECKPOINTS_S: u64 = 60;
/// Bytes of a checkpoint that a key and an authorization come to, an account's share, captures and a movement with it, rounded up.
const IMAGE_BYTES: u64 = 192;
/// Segments that a run has beside what it writes: one in use, one spare, and the same again while old ones are given back.
const SEGMENTS: u64 = 4;
/// Partitions are never loaded quite alike, so each needs some more than its share.
const UNEVEN: u64 = 2;

/// A search is prepared for this rate, commands a second, even where it begins far below.
const SEARCH_RATE_MAX: u64 = 500_000;
/// What all trials of a search come to, in trials at the highest rate: doubling adds up to one, halving the distance takes at
/// most a few more.
const TRIALS: u64 = 4;

impl Plan {
    /// About how many commands the whole run makes: setup, warm-up, measured part. A search is taken for [`TRIALS`] times the
    /// rate that it is prepared for.
    pub fn commands(&self) -> u64 {
        let setup = self.workload.accounts * 2 + self.workload.payees + FUNDING;
        let schedule = self.schedule.with_warm_up(self.warm_up);
        let trial_s = schedule.length().as_secs() + 1;
        let search = TRIALS.saturating_mul(trial_s).saturating_mul(self.rate_max());
        setup.saturating_add(if self.find_max { search } else { schedule.commands() })
    }

    /// The highest rate that the run is prepared for, commands a second.
    pub fn rate_max(&self) -> u64 {
        let asked = self.schedule.rate_max();
        if self.find_max { asked.max(SEARCH_RATE_MAX) } else { asked }
    }

    /// Whether no money moves once the accounts have their opening balances.
    fn only_holds(&self) -> bool {
        self.workload.mix.only_holds() && self.workload.late_reversals_per_mille == 0
    }

    /// Sets the engine's budgets so that the run fits into them.
    pub fn set_budgets(&mut self) {
        let commands = self.commands();
        let window_s = self.embedded.key_window_ms / 1000 + 2;
        let keys = commands.min(self.rate_max().saturating_mul(window_s) + self.workload.accounts * 2);
        let (mut key, mut authorization) = (KEY_BYTES, AUTHORIZATION_BYTES);
        if !self.only_holds() {
            (key, authorization) = (key + MOVED_KEY_BYTES, authorization + MOVED_AUTHORIZATION_BYTES);
        }
        self.embedded.key_bytes = keys.saturating_mul(key * UNEVEN).max(256 << 20);
        self.embedded.authorization_bytes = commands.saturating_mul(authorization * UNEVEN).max(256 << 20);
    }

    /// About how much memory the run takes at most, bytes.
    pub fn memory_bytes(&self) -> u64 {
        let journal = if self.embedded.journal == JournalKind::Memory {
            self.commands().saturating_mul(JOURNAL_BYTES)
        } else {
            0
        };
        let records = self.embedded.key_bytes / UNEVEN + self.embedded.authorization_bytes / UNEVEN;
        let record = KEY_BYTES + AUTHORIZATION_BYTES + EXPIRY_BYTES;
        let records = records.max(self.embedded.prefault_records.saturating_mul(record));
        (self.workload.accounts * 256).saturating_add(records).saturating_add(journal)
    }

    /// About how much space the run takes at most, bytes: the journal and three checkpoints (two, and one being written).
    pub fn disk_bytes(&self) -> u64 {
        let commands = self.commands();
        let takes_checkpoints = self.embedded.checkpoint_interval.is_some();
        // They are written at most so fast.
        let seconds = self.schedule.with_warm_up(self.warm_up).length().as_secs() + CHECKPOINTS_S;
        let written = CheckpointPolicy::default().bytes_per_second.saturating_mul(seconds);
        let checkpoints = commands.saturating_mul(3 * IMAGE_BYTES).min(if self.find_max { u64::MAX } else { written });
        let checkpoints = if takes_checkpoints { checkpoints } else { 0 };
        let journal = if self.only_holds() { HELD_JOURNAL_BYTES } else { JOURNAL_BYTES };
        let acks = if self.record_acks.is_some() { commands.saturating_mul(80) } else { 0 };
        match self.embedded.journal {
            JournalKind::Memory => acks,
            JournalKind::Segment | JournalKind::Sled => commands
                .saturating_mul(journal)
                .saturating_add(checkpoints)
                .saturating_add(acks)
                .saturating_add(SEGMENTS * self.embedded.segment_bytes),
        }
    }
}
