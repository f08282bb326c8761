//! What `/status.json` says: the last minute of the server, and the engine's status in short.
//!
//! Owns the names of the members, which the status page reads; refuses to say anything of an account, a key or a caller.

use std::collections::BTreeMap;
use std::time::Instant;

use serde::Serialize;
use tp_actors::{EngineStatus, PartitionStatus};

use super::metrics::{Latencies, Metrics, SecondCounts};

/// The server's own view.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct StatusSnapshot {
    /// The release.
    pub version: &'static str,
    /// Since the server was made, seconds.
    pub uptime_seconds: u64,
    /// Connections that are open.
    pub connections_open: u64,
    /// HTTP requests that wait for their answer.
    pub requests_in_flight: u64,
    /// The last complete seconds, oldest first, at most 60.
    pub seconds: Vec<SecondCounts>,
    /// Latencies of the last ten seconds.
    pub latency_10s: Latencies,
    /// Latencies of the last minute.
    pub latency_60s: Latencies,
    /// Commands since the start, by outcome; those that occurred.
    pub outcomes: BTreeMap<&'static str, u64>,
    /// What the front turned away since the start.
    pub front: BTreeMap<&'static str, u64>,
}

/// The engine in short.
#[derive(Clone, PartialEq, Debug, Serialize)]
pub struct EngineSummary {
    /// Engine time, RFC 3339.
    pub time: String,
    /// Why it has stopped acknowledging; `null`: it has not.
    pub poison: Option<String>,
    /// The last sequence number given out.
    pub last_seq: u64,
    /// The last one that is durable.
    pub durable_seq: u64,
    /// Events decided and not yet durable.
    pub durable_lag_events: u64,
    /// Sums over all partitions.
    pub memory: MemorySummary,
    /// Commands that wait at each partition, in order.
    pub waiting_commands: Vec<u64>,
    /// As many may wait at one.
    pub waiting_commands_max: u64,
    /// Replies that wait for their events to be durable.
    pub replies_held: u64,
    /// Since the start: answered busy at the door, shed, answered too late.
    pub turned_away: TurnedAwaySummary,
    /// The journal.
    pub journal: JournalSummary,
    /// The checkpointer.
    pub checkpoint: CheckpointSummary,
    /// The catalogue.
    pub catalogue: CatalogueSummary,
    /// The search for damage.
    pub scrub: ScrubSummary,
    /// The clock.
    pub clock: ClockSummary,
}

/// What the engine remembers.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize)]
#[allow(missing_docs, reason = "the words of the glossary")]
pub struct MemorySummary {
    pub accounts: u64,
    pub holds_open: u64,
    pub authorizations: u64,
    pub keys: u64,
    pub exchanges_open: u64,
    /// Of all partitions.
    pub key_bytes: u64,
    pub key_budget_bytes: u64,
    pub authorization_bytes: u64,
    pub authorization_budget_bytes: u64,
}

/// Commands that were not looked at.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize)]
#[allow(missing_docs, reason = "the words of the engine's status")]
pub struct TurnedAwaySummary {
    pub busy: u64,
    pub shed: u64,
    pub deadlines_passed: u64,
}

/// The journal writer.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
#[allow(missing_docs, reason = "the words of the engine's status")]
pub struct JournalSummary {
    pub bytes: u64,
    pub frames: u64,
    pub append_us_max: u64,
    pub has_room: bool,
    pub room_failures: u64,
    pub room_failure: Option<String>,
}

/// The checkpointer.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
#[allow(missing_docs, reason = "the words of the engine's status")]
pub struct CheckpointSummary {
    pub generation: u64,
    pub as_of: u64,
    /// Durable events since: what a restart replays.
    pub lag_events: u64,
    /// When the newest of this process was taken, RFC 3339.
    pub time: Option<String>,
    pub age_seconds: Option<u64>,
    pub failures: u64,
    pub is_running: bool,
}

/// The catalogue.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
#[allow(missing_docs, reason = "the words of the engine's status")]
pub struct CatalogueSummary {
    pub lag_events: u64,
    pub is_stale: bool,
    pub rebuilds: u64,
    pub failure: Option<String>,
    pub note: Option<String>,
}

/// The search for damage.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
#[allow(missing_docs, reason = "the words of the engine's status")]
pub struct ScrubSummary {
    pub passes: u64,
    pub bytes: u64,
    pub repaired: u64,
    pub damaged: u64,
    pub note: Option<String>,
}

/// The clock.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize)]
#[allow(missing_docs, reason = "the words of the engine's status")]
pub struct ClockSummary {
    pub difference_ms: i64,
    pub is_alarming: bool,
}

#[derive(Serialize)]
struct Report {
    #[serde(flatten)]
    server: StatusSnapshot,
    engine: EngineSummary,
}

/// What `/status.json` is answered with: the members of [`StatusSnapshot`], and `engine`. Costs some milliseconds: for a page that asks
/// once a second.
pub fn status_json(metrics: &Metrics, status: &EngineStatus, now: Instant) -> String {
    let report = Report { server: metrics.snapshot(now), engine: EngineSummary::of(metrics, status) };
    serde_json::to_string(&report).expect("texts, numbers and maps by text")
}

impl Metrics {
    /// The last minute, and totals.
    pub fn snapshot(&self, now: Instant) -> StatusSnapshot {
        let seen = self.seen(now);
        let (connections_open, requests_in_flight) = self.open();
        StatusSnapshot {
            version: self.version(),
            uptime_seconds: now.saturating_duration_since(self.epoch()).as_secs(),
            connections_open,
            requests_in_flight,
            seconds: seen.seconds,
            latency_10s: seen.latency_10s,
            latency_60s: seen.latency_60s,
            outcomes: self.outcome_totals().into_iter().collect(),
            front: self.front_totals().into_iter().collect(),
        }
    }
}

impl EngineSummary {
    /// Of a status, beside the bounds that the server knows.
    pub fn of(metrics: &Metrics, status: &EngineStatus) -> Self {
        let sum = |part: fn(&PartitionStatus) -> u64| status.partitions.iter().map(part).sum::<u64>();
        let text = |text: &Option<std::sync::Arc<str>>| text.as_deref().map(str::to_owned);
        let (writer, checkpoint, catalogue, scrub) =
            (&status.writer, &status.checkpoint, &status.catalogue, &status.scrub);
        Self {
            time: status.now.to_string(),
            poison: status.poison.as_ref().map(ToString::to_string),
            last_seq: status.last_seq.0,
            durable_seq: status.durable_seq.0,
            durable_lag_events: status.durable_lag_events,
            memory: MemorySummary::of(metrics, status),
            waiting_commands: status.partitions.iter().map(|partition| partition.waiting_commands).collect(),
            waiting_commands_max: metrics.limits().waiting_commands,
            replies_held: sum(|partition| partition.replies_held),
            turned_away: TurnedAwaySummary {
                busy: sum(|partition| partition.busy),
                shed: sum(|partition| partition.shed),
                deadlines_passed: sum(|partition| partition.deadlines_passed),
            },
            journal: JournalSummary {
                bytes: writer.journal_bytes,
                frames: writer.frames,
                append_us_max: writer.append_us_max,
                has_room: writer.has_room,
                room_failures: writer.room_failures,
                room_failure: text(&writer.room_failure),
            },
            checkpoint: CheckpointSummary {
                generation: checkpoint.generation,
                as_of: checkpoint.as_of.0,
                lag_events: status.durable_seq.0.saturating_sub(checkpoint.as_of.0),
                time: checkpoint.time.map(|time| time.to_string()),
                age_seconds: checkpoint.time.map(|time| status.now.0.saturating_sub(time.0) / 1000),
                failures: checkpoint.failures,
                is_running: checkpoint.is_running,
            },
            catalogue: CatalogueSummary {
                lag_events: catalogue.lag_events,
                is_stale: catalogue.is_stale,
                rebuilds: catalogue.rebuilds,
                failure: text(&catalogue.failure),
                note: text(&catalogue.note),
            },
            scrub: ScrubSummary {
                passes: scrub.passes,
                bytes: scrub.bytes,
                repaired: scrub.repaired,
                damaged: scrub.damaged,
                note: text(&scrub.note),
            },
            clock: ClockSummary { difference_ms: status.clock.difference_ms, is_alarming: status.clock.is_alarming },
        }
    }
}

impl MemorySummary {
    fn of(metrics: &Metrics, status: &EngineStatus) -> Self {
        let partitions = status.partitions.len() as u64;
        let mut all = Self {
            key_budget_bytes: metrics.limits().key_bytes * partitions,
            authorization_budget_bytes: metrics.limits().authorization_bytes * partitions,
            ..Self::default()
        };
        for state in status.partitions.iter().map(|partition| &partition.state) {
            all.accounts += state.accounts;
            all.holds_open += state.holds_open;
            all.authorizations += state.authorizations;
            all.keys += state.keys;
            all.exchanges_open += state.exchanges_open;
            all.key_bytes += state.key_bytes;
            all.authorization_bytes += state.authorization_bytes;
        }
        all
    }
}
