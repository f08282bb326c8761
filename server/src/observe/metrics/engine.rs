//! The engine's status as metrics. Owns which field has which name; refuses to judge (alerts do).

use tp_actors::{EngineStatus, PartitionStatus};

use super::EngineLimits;
use super::families as f;
use super::scrape::Scrape;

/// Puts everything that the status shows into the exposition. `uptime_ms` stands for the age of a checkpoint that was never taken.
pub(crate) fn record(scrape: &Scrape, status: &EngineStatus, limits: &EngineLimits, uptime_ms: u64) {
    scrape.flag(f::POISONED, status.poison.is_some());
    scrape.count(f::LAST_SEQ, &[], status.last_seq.0);
    scrape.count(f::DURABLE_SEQ, &[], status.durable_seq.0);
    scrape.count(f::DURABLE_LAG, &[], status.durable_lag_events);
    scrape.gauge(f::CLOCK_DIFFERENCE, &[], seconds_of_ms(status.clock.difference_ms));
    scrape.flag(f::CLOCK_ALARM, status.clock.is_alarming);
    for (index, partition) in status.partitions.iter().enumerate() {
        let label = index.to_string();
        record_partition(scrape, partition, &[("partition", &label)]);
    }
    record_limits(scrape, limits);
    record_writer(scrape, status);
    record_checkpoint(scrape, status, uptime_ms);
    record_catalogue_and_scrub(scrape, status);
}

fn record_partition(scrape: &Scrape, partition: &PartitionStatus, label: &[(&'static str, &str)]) {
    let state = &partition.state;
    for (name, value) in [
        (f::PARTITION_WAITING, partition.waiting_commands),
        (f::PARTITION_INBOX, partition.inbox_commands),
        (f::PARTITION_PEERS, partition.peer_messages),
        (f::PARTITION_RING, partition.ring_batches),
        (f::PARTITION_HELD, partition.replies_held),
        (f::PARTITION_TURN_MAX, partition.turn_events_max),
        (f::ACCOUNTS, state.accounts),
        (f::HOLDS, state.holds_open),
        (f::AUTHORIZATIONS, state.authorizations),
        (f::KEYS, state.keys),
        (f::EXCHANGES, state.exchanges_open),
        (f::EXCHANGES_WAITING, state.waiting),
        (f::KEY_BYTES, state.key_bytes),
        (f::AUTHORIZATION_BYTES, state.authorization_bytes),
    ] {
        scrape.count(name, label, value);
    }
    for (name, value) in [
        (f::PARTITION_TURNS, partition.turns),
        (f::PARTITION_COMMANDS, partition.commands),
        (f::PARTITION_EVENTS, partition.events),
        (f::PARTITION_PUT_OFF, partition.turns_put_off),
        (f::PARTITION_BUSY, partition.busy),
        (f::PARTITION_SHED, partition.shed),
        (f::PARTITION_DEADLINES, partition.deadlines_passed),
    ] {
        scrape.counter(name, label, value);
    }
}

fn record_limits(scrape: &Scrape, limits: &EngineLimits) {
    scrape.count(f::KEY_BUDGET, &[], limits.key_bytes);
    scrape.count(f::AUTHORIZATION_BUDGET, &[], limits.authorization_bytes);
    scrape.count(f::QUEUE_MAX, &[], limits.waiting_commands);
}

fn record_writer(scrape: &Scrape, status: &EngineStatus) {
    let writer = &status.writer;
    scrape.count(f::JOURNAL_BYTES, &[], writer.journal_bytes);
    scrape.gauge(f::JOURNAL_APPEND_MAX, &[], seconds_of_us(writer.append_us_max));
    scrape.count(f::JOURNAL_FRAME_MAX, &[], writer.frame_events_max);
    scrape.flag(f::JOURNAL_ROOM, writer.has_room);
    scrape.counter(f::JOURNAL_FRAMES, &[], writer.frames);
    scrape.counter(f::JOURNAL_EVENTS, &[], writer.events);
    scrape.counter(f::JOURNAL_EVENT_BYTES, &[], writer.event_bytes);
    scrape.counter(f::JOURNAL_SEALS, &[], writer.seals);
    scrape.counter(f::JOURNAL_ROOM_FAILURES, &[], writer.room_failures);
}

fn record_checkpoint(scrape: &Scrape, status: &EngineStatus, uptime_ms: u64) {
    let checkpoint = &status.checkpoint;
    let age_ms = checkpoint.time.map_or(uptime_ms, |time| status.now.0.saturating_sub(time.0));
    scrape.count(f::CHECKPOINT_GENERATION, &[], checkpoint.generation);
    scrape.count(f::CHECKPOINT_AS_OF, &[], checkpoint.as_of.0);
    scrape.count(f::CHECKPOINT_LAG, &[], status.durable_seq.0.saturating_sub(checkpoint.as_of.0));
    scrape.gauge(f::CHECKPOINT_AGE, &[], seconds_of_us(age_ms.saturating_mul(1000)));
    scrape.flag(f::CHECKPOINT_RUNNING, checkpoint.is_running);
    scrape.counter(f::CHECKPOINT_FAILURES, &[], checkpoint.failures);
}

fn record_catalogue_and_scrub(scrape: &Scrape, status: &EngineStatus) {
    let (catalogue, scrub) = (&status.catalogue, &status.scrub);
    scrape.count(f::CATALOGUE_SEQ, &[], catalogue.seq.0);
    scrape.count(f::CATALOGUE_LAG, &[], catalogue.lag_events);
    scrape.flag(f::CATALOGUE_STALE, catalogue.is_stale);
    scrape.flag(f::CATALOGUE_FAILED, catalogue.failure.is_some());
    scrape.counter(f::CATALOGUE_REBUILDS, &[], catalogue.rebuilds);
    scrape.counter(f::SCRUB_PASSES, &[], scrub.passes);
    scrape.counter(f::SCRUB_BYTES, &[], scrub.bytes);
    scrape.counter(f::SCRUB_REPAIRED, &[], scrub.repaired);
    scrape.counter(f::SCRUB_DAMAGED, &[], scrub.damaged);
}

#[allow(clippy::cast_precision_loss, reason = "2^53 µs are 285 years")]
pub(super) fn seconds_of_us(us: u64) -> f64 {
    us as f64 / 1e6
}

#[allow(clippy::cast_precision_loss, reason = "2^53 ms are long enough")]
fn seconds_of_ms(ms: i64) -> f64 {
    ms as f64 / 1e3
}
