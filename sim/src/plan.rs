//! A run's plan: which features and faults are on, and how small everything is (swarm testing).
//!
//! Owns what is drawn once for a run. Each seed turns about half of the features off, so that those that are on meet each other
//! more often, and makes windows, budgets and queues so small that what takes days in production happens all the time.

use std::collections::BTreeSet;
use std::str::FromStr;

use tp_core::amount::Ledger;
use tp_core::rules::{Budgets, LedgerPolicy, Rules, Windows};
use tp_core::time::DAY_MS;

use crate::chance::Chance;
use crate::machine::Copies;

macro_rules! features {
    ($($(#[$doc:meta])* $name:ident = $text:literal;)*) => {
        /// What a run may have.
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
        pub enum Feature { $($(#[$doc])* $name,)* }
        impl Feature {
            /// Every feature.
            pub const ALL: &'static [Self] = &[$(Self::$name),*];
            /// Its name on the command line.
            pub const fn name(self) -> &'static str { match self { $(Self::$name => $text),* } }
        }
    };
}

features! {
    /// The process is killed; the machine goes on.
    Kills = "kills";
    /// The machine loses its power.
    PowerCuts = "power-cuts";
    /// Both also inside a recovery.
    CutRecoveries = "cut-recoveries";
    /// A write or sync fails.
    WriteErrors = "write-errors";
    /// A read fails.
    ReadErrors = "read-errors";
    /// The disk fills and is freed again.
    FullDisk = "full-disk";
    /// Bytes at rest change before an open.
    Rot = "rot";
    /// Orderly closes.
    Closes = "closes";
    /// Another number of partitions after a restart.
    Repartition = "repartition";
    /// Checkpoints.
    Checkpoints = "checkpoints";
    /// The wall clock jumps and stands.
    Clocks = "clocks";
    /// Time passes in leaps: holds expire, keys are forgotten.
    Leaps = "leaps";
    /// Keys and authorizations are forgotten soon.
    ShortWindows = "short-windows";
    /// Budgets of a few records.
    SmallBudgets = "small-budgets";
    /// Queues and turns of a few commands.
    SmallQueues = "small-queues";
    /// Commands are sent again.
    Repeats = "repeats";
    /// Other commands with a key already used.
    Conflicts = "conflicts";
    /// Lookups, with and without fence.
    Lookups = "lookups";
    /// Reversals, also before their originals.
    Reversals = "reversals";
    /// Short deadlines.
    Deadlines = "deadlines";
    /// Advices.
    Advices = "advices";
    /// Transfers.
    Transfers = "transfers";
    /// Accounts change and close.
    Settings = "settings";
    /// Limits of days and months.
    Limits = "limits";
    /// Records of layers above.
    Records = "records";
    /// Amounts at the edges of their range.
    Edges = "edges";
    /// Keys that say when they were made.
    Uuids = "uuids";
    /// Slow disk: the writer gets its turn seldom.
    SlowDisk = "slow-disk";
    /// A second copy of the journal; damage at rest is repaired from it.
    Mirror = "mirror";
}

impl FromStr for Feature {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        Self::ALL.iter().copied().find(|f| f.name() == text).ok_or_else(|| {
            let names: Vec<_> = Self::ALL.iter().map(|f| f.name()).collect();
            format!("no feature of that name; there are {}", names.join(", "))
        })
    }
}

/// A run, as it can be written down and replayed.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Case {
    /// Everything is drawn from it.
    pub seed: u64,
    /// Steps of the schedule before the end begins; `None`: as drawn.
    pub steps: Option<u64>,
    /// Features that are off whatever the seed says.
    pub without: BTreeSet<Feature>,
}

impl Case {
    /// The run of a seed as it is.
    pub const fn of(seed: u64) -> Self {
        Self { seed, steps: None, without: BTreeSet::new() }
    }
}

impl std::fmt::Display for Case {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "--seed {}", self.seed)?;
        if let Some(steps) = self.steps {
            write!(f, " --steps {steps}")?;
        }
        if !self.without.is_empty() {
            let names: Vec<_> = self.without.iter().map(|f| f.name()).collect();
            write!(f, " --without {}", names.join(","))?;
        }
        Ok(())
    }
}

/// What is drawn once for a run.
#[derive(Clone, Debug)]
pub(crate) struct Plan {
    pub(crate) features: BTreeSet<Feature>,
    pub(crate) steps: u64,
    pub(crate) partitions: usize,
    pub(crate) rules: Rules,
    pub(crate) inbox_commands: usize,
    pub(crate) in_flight_events: Option<u64>,
    pub(crate) turn_commands: usize,
    pub(crate) turn_expiries: usize,
    pub(crate) checkpoint_events: Option<u64>,
}

pub(crate) const EUR: Ledger = match Ledger::new("EUR", 2) {
    Some(ledger) => ledger,
    None => panic!("a ledger"),
};
pub(crate) const CZK: Ledger = match Ledger::new("CZK", 2) {
    Some(ledger) => ledger,
    None => panic!("a ledger"),
};

impl Plan {
    pub(crate) fn draw(case: &Case) -> Self {
        let mut chance = Chance::of(case.seed, "plan");
        let all = Feature::ALL.iter().copied().filter(|feature| *feature != Feature::Mirror);
        let mut features: BTreeSet<Feature> = all.filter(|_| chance.below(100) < 55).collect();
        features.retain(|feature| !case.without.contains(feature));
        let has = |feature| features.contains(&feature);
        // Drawn whatever is on, so that turning one feature off changes nothing else.
        let steps = case.steps.unwrap_or_else(|| chance.between(500, 2_500));
        let partitions = chance.between(1, 4);
        let window = |chance: &mut Chance| if chance.one_in(4) { None } else { Some(chance.between(500, 60_000)) };
        let short = Windows {
            key_uuid_v7_ms: window(&mut chance),
            key_opaque_ms: window(&mut chance),
            refund_ms: chance.between(1_000, 120_000),
        };
        let lifetime = chance.between(1_000, 3_600_000);
        let policy = LedgerPolicy {
            utc_offset_minutes: if chance.one_in(2) { 0 } else { 90 },
            tolerance_bp_max: u16::try_from(chance.below(3) * 1_500).unwrap_or(0),
            hold_lifetime_ms_default: lifetime,
            hold_lifetime_ms_max: lifetime * 4,
        };
        let budgets = Budgets {
            key_bytes: chance.between(8, 64) * 224 * partitions,
            authorization_bytes: chance.between(4, 24) * 320 * partitions,
            exchanges: u32::try_from(4 * chance.between(1, 3)).unwrap_or(4),
        };
        let inbox = chance.between(1, 12);
        let (in_flight, turn) = (chance.between(1, 24), chance.between(1, 8));
        let checkpoint_events = chance.one_in(2).then(|| chance.between(50, 400));
        let is_mirrored = chance.one_in(3) && !case.without.contains(&Feature::Mirror);
        let windows = if has(Feature::ShortWindows) {
            short
        } else {
            Windows { key_uuid_v7_ms: Some(DAY_MS), key_opaque_ms: None, refund_ms: 365 * DAY_MS }
        };
        let is_small = has(Feature::SmallQueues);
        let size = |n: u64| usize::try_from(n).unwrap_or(1);
        Self {
            rules: Rules {
                windows,
                policy_default: policy,
                budgets: if has(Feature::SmallBudgets) {
                    budgets
                } else {
                    Budgets { exchanges: 32, ..Budgets::default() }
                },
                ..Rules::default()
            },
            steps,
            partitions: size(partitions),
            inbox_commands: if is_small { size(inbox) } else { 256 },
            in_flight_events: is_small.then_some(in_flight),
            turn_commands: if is_small { size(turn) } else { 512 },
            turn_expiries: if is_small { size(turn) } else { 128 },
            checkpoint_events: checkpoint_events.filter(|_| has(Feature::Checkpoints)),
            features: {
                features.extend(is_mirrored.then_some(Feature::Mirror));
                features
            },
        }
    }

    pub(crate) fn copies(&self) -> Copies {
        if self.has(Feature::Mirror) { Copies::Two } else { Copies::One }
    }

    pub(crate) fn has(&self, feature: Feature) -> bool {
        self.features.contains(&feature)
    }
}
