//! How an engine is opened: every option with its unit, range and default.
//!
//! Owns the options and their checks; refuses to know threads and files. Plain public fields, no builder: start from
//! [`Config::at`] or [`Config::in_memory`] and change what differs.

use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use tp_core::amount::Ledger;
use tp_core::partition::WAITING_MAX;
use tp_core::rules::{Budgets, LedgerPolicy, Windows};
use tp_storage::{Device, EmptyDirectory};

use crate::clock::Clock;

/// Bytes of one journal block: what an event in flight is counted as.
pub(crate) const BLOCK_BYTES: u64 = 4096;

/// Largest part of a turn. The events of a turn are one batch, which fits into one frame: 512 commands of up to 4 KiB (a larger
/// record counts as several), as many expiries, and the ends of 128 exchanges with all that waited for them, come to less than
/// the 3.9 MB that a frame takes.
const TURN_MAX: u64 = 512;
/// Most messages of peers in one turn.
const TURN_MESSAGES_MAX: usize = 128;

/// Largest number of partitions.
pub const PARTITIONS_MAX: usize = 256;

/// Which journal keeps the events.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum JournalKind {
    /// Segments of 4 KiB frames, each group synced. The journal to use.
    #[default]
    Segment,
    /// The embedded store: one entry per frame, its files synced after each. For comparison.
    Sled,
    /// None: memory only, everything is gone after the close. For tests.
    Memory,
}

/// When checkpoints are taken.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct CheckpointPolicy {
    /// At most so long after the one before, if anything happened since. `None`: not by time. Default 60 s.
    pub interval: Option<Duration>,
    /// After so many events since the one before. `None`: not by events. Range from 1. Default 1,000,000, since that
    /// bounds the replay at start.
    pub events: Option<u64>,
    /// Whether closing takes one. Default yes.
    pub at_close: bool,
    /// Upper bound of the checkpoint's own writing, bytes a second, so that it stays below the journal's. Range from
    /// 1 MiB. Default 128 MiB. Once a closing engine is drained it has none: nothing else
    /// writes then.
    pub bytes_per_second: u64,
}

impl CheckpointPolicy {
    /// No checkpoint unless [`crate::Engine::checkpoint`] asks for one.
    pub const fn off() -> Self {
        Self { interval: None, events: None, at_close: false, bytes_per_second: 128 << 20 }
    }
}

impl Default for CheckpointPolicy {
    fn default() -> Self {
        Self {
            interval: Some(Duration::from_mins(1)),
            events: Some(1_000_000),
            at_close: true,
            bytes_per_second: 128 << 20,
        }
    }
}

/// How the journal is read through for damage while the engine runs: sealed segments, every copy, past the page cache.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct ScrubPolicy {
    /// Upper bound of its reading, bytes a second, of all copies together. Range from 64 KiB. Default 4 MiB, a few per cent of what
    /// a disk gives.
    pub bytes_per_second: u64,
    /// From the start of one pass to the start of the next; the first begins after a minute at the latest. Default 24 hours.
    pub interval: Duration,
}

impl Default for ScrubPolicy {
    fn default() -> Self {
        Self { bytes_per_second: 4 << 20, interval: Duration::from_hours(24) }
    }
}

/// How an engine is opened.
#[derive(Clone)]
pub struct Config {
    /// The data directory, made when missing. `None`: nothing is kept, and `journal` is [`JournalKind::Memory`].
    pub data_dir: Option<PathBuf>,
    /// Another file system than the operating system's below the data directory: fault injection and simulation. With
    /// it the catalogue lives in memory. Default none.
    pub device: Option<Arc<dyn Device>>,
    /// A folder for a second copy of the journal, on another disk in production; made when missing. Each event is durable in both
    /// before anyone hears of it, and what one copy loses is repaired from the other. Needs [`JournalKind::Segment`]. Default none.
    pub mirror: Option<PathBuf>,
    /// What is to be done when the data directory is empty and its mirror holds a journal: a disk may not be mounted, or was replaced.
    /// Default [`EmptyDirectory::Refuse`].
    pub empty_directory: EmptyDirectory,
    /// As `device`, of the mirror: with a `device` of its own only.
    pub mirror_device: Option<Arc<dyn Device>>,
    /// Whether and how fast the journal is read through for damage while the engine runs. Default [`ScrubPolicy::default`].
    pub scrub: Option<ScrubPolicy>,
    /// Partitions, each with a thread of its own: 1 to 256, never part of the data. Default: the cores.
    pub partitions: usize,
    /// Which journal. A directory keeps the kind it was made with. Default [`JournalKind::Segment`].
    pub journal: JournalKind,
    /// Bytes of a journal segment: a multiple of 4,096 from 1 MiB up. Larger than all that may be in flight at once,
    /// counted as 4 KiB an event. Default 64 MiB.
    pub segment_bytes: u64,
    /// What a new directory's id and the seed of its hash from account to slot are made of. `None`: drawn from the operating
    /// system, so that clients cannot aim at one slot. For simulation, which must repeat itself. Default `None`.
    pub identity_seed: Option<u128>,
    /// How long keys and closed authorizations are remembered. Fixed when the directory is made: `None` takes the
    /// directory's own (a new one gets [`Windows::default`]); others than the directory's are refused. Default `None`.
    pub windows: Option<Windows>,
    /// Policies of the ledgers that differ from `policy_default`. Default none.
    pub policies: BTreeMap<Ledger, LedgerPolicy>,
    /// The policy of all other ledgers.
    pub policy_default: LedgerPolicy,
    /// Memory budgets of the whole engine, divided evenly by the partitions. Of the exchanges no more are used than a
    /// quarter of what the spare segment holds at 4 KiB each. Default 2 GiB of keys, 2 GiB of authorizations, 4,096
    /// exchanges.
    pub budgets: Budgets,
    /// Remembered keys and authorizations, so many of each in all, of the whole engine and within its budgets, whose memory is taken and
    /// touched when the engine opens: the first touch of a page makes a turn wait, on some virtual machines 8 µs for 4 KiB. About 310
    /// bytes for one of each, and 70 MiB in any case; captures, and what movements add, are not among it. What is beyond is taken
    /// when it is needed. Range up to 2^32. Default 0: none.
    pub prefault_records: u64,
    /// Where engine time comes from. Default the steered system clock.
    pub clock: Clock,
    /// When checkpoints are taken.
    pub checkpoint: CheckpointPolicy,
    /// Commands that may wait at one partition before `busy`: 1 to 1,048,576. Default 8,192.
    pub inbox_commands: usize,
    /// How long a command may wait at a partition under a load that stays (its queue was more than half full or held more than 4,096,
    /// and turns have left some in it for a second since): what waited longer, and longer than twice what the disk takes, is
    /// answered `busy`, so that those behind it are answered in time, and soon after the load falls. Milliseconds from 1.
    /// Default 100.
    pub queue_wait_ms_max: u64,
    /// Events decided and not yet durable, of the whole engine, above which no partition starts a turn. `None`: what the disk took in
    /// 25 ms of late, and at least as many as the spare segment takes in a block each (3,072 with the defaults); a number above
    /// that is refused.
    pub in_flight_events: Option<u64>,
    /// Commands of one turn: 1 to 512. Less is used when the spare segment asks for it. Default 512.
    pub turn_commands_max: usize,
    /// Expiries of one turn: 1 to 512. Less is used when the spare segment asks for it. Default 128.
    pub turn_expiries_max: usize,
    /// How long a command may take until it is decided and durable, when its caller does not say: milliseconds from 1.
    /// Default 10,000.
    pub deadline_ms_default: u64,
    /// Whether a partition at rest asks its peers which answers to old exchanges may be forgotten, and logs what they say. Without
    /// it an engine that is given nothing to do adds nothing to its journal. Default yes.
    pub forget_when_idle: bool,
    /// Cut a journal's end of which it cannot be told whether it was acknowledged, instead of refusing. Default no.
    pub accept_tail: bool,
    /// Start although the wall clock is more than 7 days from the last recorded time. Default no.
    pub accept_clock: bool,
}

impl Config {
    /// The defaults, in that directory.
    pub fn at(path: impl Into<PathBuf>) -> Self {
        Self {
            data_dir: Some(path.into()),
            device: None,
            mirror: None,
            empty_directory: EmptyDirectory::Refuse,
            mirror_device: None,
            scrub: Some(ScrubPolicy::default()),
            partitions: std::thread::available_parallelism().map_or(1, usize::from).min(PARTITIONS_MAX),
            journal: JournalKind::Segment,
            segment_bytes: 64 << 20,
            identity_seed: None,
            windows: None,
            policies: BTreeMap::new(),
            policy_default: LedgerPolicy::default(),
            budgets: Budgets::default(),
            prefault_records: 0,
            clock: Clock::system(),
            checkpoint: CheckpointPolicy::default(),
            inbox_commands: 8192,
            queue_wait_ms_max: 100,
            in_flight_events: None,
            turn_commands_max: 512,
            turn_expiries_max: 128,
            deadline_ms_default: 10_000,
            forget_when_idle: true,
            accept_tail: false,
            accept_clock: false,
        }
    }

    /// The same engine without files: for tests and trials.
    pub fn in_memory() -> Self {
        let mut config = Self::at(PathBuf::new());
        (config.data_dir, config.journal) = (None, JournalKind::Memory);
        config.checkpoint = CheckpointPolicy::off();
        config
    }

    /// Whether nothing is kept.
    pub fn is_in_memory(&self) -> bool {
        self.data_dir.is_none() && self.device.is_none()
    }

    /// The flat list of what makes a configuration bad.
    ///
    /// # Errors
    /// [`BadConfig`], naming the field, its value and its range.
    pub fn validate(&self) -> Result<(), BadConfig> {
        let range = |field, value: u64, from: u64, to: u64| {
            if (from..=to).contains(&value) { Ok(()) } else { Err(BadConfig::OutOfRange { field, value, from, to }) }
        };
        range("partitions", self.partitions as u64, 1, PARTITIONS_MAX as u64)?;
        range("segment_bytes", self.segment_bytes, 1 << 20, 1 << 40)?;
        if !self.segment_bytes.is_multiple_of(BLOCK_BYTES) {
            return Err(BadConfig::NotBlocks { value: self.segment_bytes });
        }
        range("inbox_commands", self.inbox_commands as u64, 1, 1 << 20)?;
        range("queue_wait_ms_max", self.queue_wait_ms_max, 1, u64::MAX)?;
        range("turn_commands_max", self.turn_commands_max as u64, 1, TURN_MAX)?;
        range("turn_expiries_max", self.turn_expiries_max as u64, 1, TURN_MAX)?;
        range("deadline_ms_default", self.deadline_ms_default, 1, u64::MAX)?;
        range("prefault_records", self.prefault_records, 0, 1 << 32)?;
        range("budgets.exchanges", u64::from(self.budgets.exchanges), 1, u64::from(u32::MAX))?;
        range("checkpoint.events", self.checkpoint.events.unwrap_or(1), 1, u64::MAX)?;
        range("checkpoint.bytes_per_second", self.checkpoint.bytes_per_second, 1 << 20, u64::MAX)?;
        range(
            "scrub.bytes_per_second",
            self.scrub.map_or(1 << 20, |scrub| scrub.bytes_per_second),
            64 << 10,
            u64::MAX,
        )?;
        if (self.journal == JournalKind::Memory) != self.is_in_memory() {
            return Err(BadConfig::JournalAndDirectory);
        }
        self.validate_mirror()?;
        let bounds = Bounds::of(self);
        if bounds.turn_messages < 1 || bounds.exchanges < 1 {
            return Err(BadConfig::SegmentTooSmall { segment_bytes: self.segment_bytes, partitions: self.partitions });
        }
        let most = bounds.in_flight_blocks;
        self.in_flight_events.map_or(Ok(()), |value| range("in_flight_events", value, 1, most))
    }
}

impl Config {
    /// Whether there is a second copy of the journal.
    pub fn is_mirrored(&self) -> bool {
        self.mirror.is_some() || self.mirror_device.is_some()
    }

    fn validate_mirror(&self) -> Result<(), BadConfig> {
        if self.is_mirrored() && self.journal != JournalKind::Segment {
            return Err(BadConfig::MirrorNeedsSegments { journal: self.journal });
        }
        if self.mirror.is_some() && self.mirror == self.data_dir {
            return Err(BadConfig::MirrorIsDirectory);
        }
        if self.mirror_device.is_some() != (self.device.is_some() && self.is_mirrored()) {
            return Err(BadConfig::MirrorDevice);
        }
        Ok(())
    }
}

impl fmt::Debug for Config {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Config")
            .field("data_dir", &self.data_dir)
            .field("mirror", &self.mirror)
            .field("partitions", &self.partitions)
            .field("journal", &self.journal)
            .field("segment_bytes", &self.segment_bytes)
            .field("windows", &self.windows)
            .finish_non_exhaustive()
    }
}

/// Why a configuration was not taken. Nothing was touched.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum BadConfig {
    /// A field is out of its range.
    #[error("{field} is {value}, from {from} to {to} is allowed")]
    OutOfRange {
        /// The field.
        field: &'static str,
        /// Its value.
        value: u64,
        /// The smallest allowed.
        from: u64,
        /// The largest allowed.
        to: u64,
    },
    /// A segment is not made of blocks.
    #[error("segment_bytes is {value}, a multiple of 4096 is needed")]
    NotBlocks {
        /// Its value.
        value: u64,
    },
    /// A journal in memory with a directory, or one in files without.
    #[error("the journal kind does not fit: in memory means no data directory, the others need one")]
    JournalAndDirectory,
    /// Only the segment journal has a second copy.
    #[error("a mirror is a second copy of the segment journal, the journal asked for is {journal:?}")]
    MirrorNeedsSegments {
        /// The journal asked for.
        journal: JournalKind,
    },
    /// The mirror is the data directory.
    #[error("the mirror is the data directory itself: name a folder on another disk")]
    MirrorIsDirectory,
    /// Two kinds of devices.
    #[error("device and mirror_device go together: both lie on the operating system's files, or neither does")]
    MirrorDevice,
    /// What may be in flight at once does not fit into a segment.
    #[error("segments of {segment_bytes} bytes are too small for {partitions} partitions: use larger ones or fewer")]
    SegmentTooSmall {
        /// The segment size.
        segment_bytes: u64,
        /// The partitions.
        partitions: usize,
    },
    /// The directory was made with other windows, which are part of its data.
    #[error(
        "the directory's windows are {directory:?}, the configuration asks for {asked:?}: leave them out, or use another directory"
    )]
    OtherWindows {
        /// The directory's.
        directory: Windows,
        /// The configuration's.
        asked: Windows,
    },
    /// The directory holds another kind of journal.
    #[error("the directory's journal is {directory:?}, the configuration asks for {asked:?}: use the directory's")]
    OtherJournal {
        /// The directory's.
        directory: JournalKind,
        /// The configuration's.
        asked: JournalKind,
    },
}

/// What follows from the spare segment: all that can be in flight fits into it, in as many frames as can be; what is not decided yet is
/// counted as 4 KiB an event.
///
/// ```text
/// blocks held in reserve  >=  2 x open exchanges (answer and end)  +  in flight  +  partitions x one turn's worst case
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Bounds {
    /// Bytes that must be free for `has_room`.
    pub(crate) reserve_bytes: u64,
    /// Exchanges open at once, of each partition.
    pub(crate) exchanges: u32,
    /// Blocks decided and not durable, above which no turn starts.
    pub(crate) in_flight_blocks: u64,
    /// Events, likewise, as asked for.
    pub(crate) in_flight_events: Option<u64>,
    /// Commands, expiries and peers' messages of one turn.
    pub(crate) turn_commands: usize,
    pub(crate) turn_expiries: usize,
    pub(crate) turn_messages: usize,
    /// How long a command may wait once the queue stands, ms.
    pub(crate) queue_wait_ms_max: u64,
    /// Whether a partition at rest asks what may be forgotten.
    pub(crate) forget_when_idle: bool,
}

impl Bounds {
    pub(crate) fn of(config: &Config) -> Self {
        let partitions = config.partitions.max(1) as u64;
        let reserve_bytes = config.segment_bytes / 4 * 3 / BLOCK_BYTES * BLOCK_BYTES;
        let blocks = reserve_bytes / BLOCK_BYTES;
        let exchanges = u64::from(config.budgets.exchanges).min(blocks / 4) / partitions;
        let half = (blocks - 2 * exchanges * partitions) / 2;
        let share = usize::try_from(half / partitions / 4).unwrap_or(usize::MAX);
        // An end may set free all commands that waited for it.
        let turn_messages = (2 * share / (1 + WAITING_MAX)).min(TURN_MESSAGES_MAX);
        Self {
            queue_wait_ms_max: config.queue_wait_ms_max,
            forget_when_idle: config.forget_when_idle,
            reserve_bytes,
            exchanges: u32::try_from(exchanges).unwrap_or(u32::MAX),
            in_flight_blocks: half,
            in_flight_events: config.in_flight_events,
            turn_commands: config.turn_commands_max.min(share),
            turn_expiries: config.turn_expiries_max.min(share),
            turn_messages,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_that_can_be_in_flight_fits_into_the_reserve_for_any_number_of_partitions() {
        for segment_mib in [1, 2, 8, 64, 1024] {
            for partitions in [1, 2, 3, 8, 32, 64] {
                let config = Config { segment_bytes: segment_mib << 20, partitions, ..Config::at("/nowhere") };
                if config.validate().is_err() {
                    continue;
                }
                let b = Bounds::of(&config);
                let turn = (b.turn_commands + b.turn_expiries + (1 + WAITING_MAX) * b.turn_messages) as u64;
                let p = partitions as u64;
                let most = 2 * u64::from(b.exchanges) * p + b.in_flight_blocks + p * turn;
                assert!(most * BLOCK_BYTES <= b.reserve_bytes, "{segment_mib} MiB, {partitions}: {b:?}");
                assert!(b.turn_commands > 0 && b.turn_expiries > 0 && b.exchanges > 0, "{b:?}");
            }
        }
        assert_eq!(Config::at("/nowhere").validate(), Ok(()));
    }

    #[test]
    fn fields_out_of_range_are_named() {
        let bad = |config: Config, field: &str| match config.validate() {
            Err(BadConfig::OutOfRange { field: named, .. }) => assert_eq!(named, field),
            other => panic!("{field}: {other:?}"),
        };
        bad(Config { partitions: 0, ..Config::in_memory() }, "partitions");
        bad(Config { inbox_commands: 0, ..Config::in_memory() }, "inbox_commands");
        bad(Config { in_flight_events: Some(u64::MAX), ..Config::in_memory() }, "in_flight_events");
        assert_eq!(
            Config { journal: JournalKind::Segment, ..Config::in_memory() }.validate(),
            Err(BadConfig::JournalAndDirectory)
        );
        let small = Config { segment_bytes: 1 << 20, partitions: 64, ..Config::at("/nowhere") };
        assert!(matches!(small.validate(), Err(BadConfig::SegmentTooSmall { .. })));
    }
}
