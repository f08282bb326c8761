//! Every metric: its name, kind and help. Owns the names, which dashboards and alerts cite; refuses to know values.
//!
//! Rules (checked with `promtool` by a test): base units (seconds, bytes) at the end of a name, `_total` for counters and nothing else,
//! a help for each.

/// What a metric may do.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Kind {
    /// It only grows, from 0 at the start.
    Counter,
    /// Any number.
    Gauge,
    /// Durations by bucket.
    Histogram,
}

/// One metric, with all its labels' series.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Family {
    pub(crate) name: &'static str,
    pub(crate) kind: Kind,
    pub(crate) help: &'static str,
}

macro_rules! families {
    ($($kind:ident $name:ident, $text:literal, $help:literal;)*) => {
        $(pub(crate) const $name: &str = $text;)*
        /// Every metric.
        pub(crate) const FAMILIES: &[Family] = &[$(Family { name: $text, kind: Kind::$kind, help: $help }),*];
    };
}

families! {
    Gauge BUILD, "tpcore_build_info", "1; the label says which release runs.";
    Gauge UPTIME, "tpcore_uptime_seconds", "Time since this server was made.";
    // The front.
    Counter HTTP_REQUESTS, "tpcore_http_requests_total", "HTTP requests answered, by route template and status code.";
    Counter COMMANDS, "tpcore_commands_total", "Commands answered, by verb and outcome; each of a batch counts.";
    Histogram REQUEST_DURATION, "tpcore_request_duration_seconds", "From a request's head to its encoded answer, by route template.";
    Histogram STAGE_DURATION, "tpcore_stage_duration_seconds",
        "Parts of that time: read (head to body), gate (who, limits), engine (submission to durable reply), write (encoding).";
    Gauge IN_FLIGHT, "tpcore_http_requests_in_flight", "HTTP requests that wait for their answer.";
    Gauge CONNECTIONS_OPEN, "tpcore_connections_open", "Connections that are open.";
    Counter CONNECTIONS_ACCEPTED, "tpcore_connections_accepted_total", "Connections accepted.";
    Counter CONNECTIONS_REFUSED, "tpcore_connections_refused_total", "Connections closed before they were served, by reason.";
    Counter TLS_FAILURES, "tpcore_tls_handshake_failures_total", "TLS handshakes that failed, by reason.";
    Counter AUTHENTICATION_FAILURES, "tpcore_authentication_failures_total", "Requests of callers not believed or not allowed, by reason.";
    Counter RATE_LIMITED, "tpcore_rate_limited_total", "Requests answered 429, by the limit that they met.";
    Counter LOG_SUPPRESSED, "tpcore_log_lines_suppressed_total", "Log lines of this process left out because their kind came too often.";
    Counter CARD_MESSAGES, "tpcore_card_messages_total", "Card messages answered, by listener, type of the answer and response code.";
    Gauge CARD_LINKS, "tpcore_card_links_open", "Links of acquirers that are open, by listener.";
    Counter CARD_LATE, "tpcore_card_late_undone_total", "Approvals undone because their answer was late, by listener.";
    // The engine.
    Gauge POISONED, "tpcore_engine_poisoned", "1 when the engine has stopped acknowledging: a failed write, or a bug.";
    Gauge LAST_SEQ, "tpcore_engine_last_seq", "The last sequence number given out.";
    Gauge DURABLE_SEQ, "tpcore_engine_durable_seq", "The last sequence number that is durable.";
    Gauge DURABLE_LAG, "tpcore_engine_durable_lag_events", "Events decided and not yet durable.";
    Gauge PARTITION_WAITING, "tpcore_partition_waiting_commands", "Commands that wait to be taken by a turn.";
    Gauge PARTITION_INBOX, "tpcore_partition_inbox_commands", "Of these, in the inbox.";
    Gauge QUEUE_MAX, "tpcore_partition_waiting_commands_max", "Commands that may wait at a partition before it answers busy.";
    Gauge PARTITION_PEERS, "tpcore_partition_peer_messages", "Messages of other partitions not yet taken.";
    Gauge PARTITION_RING, "tpcore_partition_ring_batches", "Batches not yet taken by the journal writer.";
    Gauge PARTITION_HELD, "tpcore_partition_replies_held", "Replies that wait for their events to be durable.";
    Gauge PARTITION_TURN_MAX, "tpcore_partition_turn_events_max", "Events of the largest turn.";
    Counter PARTITION_TURNS, "tpcore_partition_turns_total", "Turns.";
    Counter PARTITION_COMMANDS, "tpcore_partition_commands_total", "Commands taken by turns.";
    Counter PARTITION_EVENTS, "tpcore_partition_events_total", "Events made.";
    Counter PARTITION_PUT_OFF, "tpcore_partition_turns_put_off_total", "Turns put off because too much was in flight.";
    Counter PARTITION_BUSY, "tpcore_partition_busy_total", "Commands answered busy because as many waited as may.";
    Counter PARTITION_SHED, "tpcore_partition_shed_total", "Commands answered busy because they had waited too long under a load that stays.";
    Counter PARTITION_DEADLINES, "tpcore_partition_deadlines_passed_total", "Commands answered deadline_exceeded.";
    // What it remembers.
    Gauge ACCOUNTS, "tpcore_accounts", "Accounts, suspense accounts included.";
    Gauge HOLDS, "tpcore_holds_open", "Holds that are open.";
    Gauge AUTHORIZATIONS, "tpcore_authorizations", "Authorizations in memory, closed ones included.";
    Gauge KEYS, "tpcore_keys_remembered", "Idempotency keys in memory.";
    Gauge EXCHANGES, "tpcore_exchanges_open", "Exchanges between partitions opened and not ended.";
    Gauge EXCHANGES_WAITING, "tpcore_exchange_waiting_commands", "Commands that wait for an exchange.";
    Gauge KEY_BYTES, "tpcore_key_memory_bytes", "Memory of idempotency keys.";
    Gauge KEY_BUDGET, "tpcore_key_memory_budget_bytes", "Memory that keys may take in each partition; above seven eighths new commands are answered busy.";
    Gauge AUTHORIZATION_BYTES, "tpcore_authorization_memory_bytes", "Memory of authorizations and captures.";
    Gauge AUTHORIZATION_BUDGET, "tpcore_authorization_memory_budget_bytes",
        "Memory that authorizations may take in each partition; above seven eighths new commands are answered busy.";
    // The disk.
    Gauge JOURNAL_BYTES, "tpcore_journal_bytes", "Bytes of the journal in use.";
    Gauge JOURNAL_APPEND_MAX, "tpcore_journal_append_max_seconds", "The longest append with its sync since the start.";
    Gauge JOURNAL_FRAME_MAX, "tpcore_journal_frame_events_max", "Events of the largest frame.";
    Gauge JOURNAL_ROOM, "tpcore_journal_has_room", "1 while there is room for all that may be in flight.";
    Counter JOURNAL_FRAMES, "tpcore_journal_frames_total", "Frames with events: group commits.";
    Counter JOURNAL_EVENTS, "tpcore_journal_events_total", "Events written.";
    Counter JOURNAL_EVENT_BYTES, "tpcore_journal_event_bytes_total", "Bytes of events, before frames.";
    Counter JOURNAL_SEALS, "tpcore_journal_seals_total", "Seal frames.";
    Counter JOURNAL_ROOM_FAILURES, "tpcore_journal_room_failures_total", "Attempts to get a spare segment that failed: a full disk, or a failing one.";
    Gauge CHECKPOINT_GENERATION, "tpcore_checkpoint_generation", "The newest generation taken by this process; 0: none yet.";
    Gauge CHECKPOINT_AS_OF, "tpcore_checkpoint_as_of_seq", "The sequence number that replay would start behind.";
    Gauge CHECKPOINT_LAG, "tpcore_checkpoint_lag_events", "Durable events since: what a restart replays.";
    Gauge CHECKPOINT_AGE, "tpcore_checkpoint_age_seconds", "Time since the newest checkpoint of this process, or since its start when it has taken none.";
    Gauge CHECKPOINT_RUNNING, "tpcore_checkpoint_running", "1 while one is being taken.";
    Counter CHECKPOINT_FAILURES, "tpcore_checkpoint_failures_total", "Checkpoints that failed.";
    Gauge CATALOGUE_SEQ, "tpcore_catalogue_seq", "The last sequence number in the catalogue.";
    Gauge CATALOGUE_LAG, "tpcore_catalogue_lag_events", "Durable events that the catalogue does not have yet.";
    Gauge CATALOGUE_STALE, "tpcore_catalogue_stale", "1 while it cannot be used, or is catching up.";
    Gauge CATALOGUE_FAILED, "tpcore_catalogue_failed", "1 while it cannot be used.";
    Counter CATALOGUE_REBUILDS, "tpcore_catalogue_rebuilds_total", "How often it had to be replaced.";
    Counter SCRUB_PASSES, "tpcore_scrub_passes_total", "Passes over all sealed segments in search of damage.";
    Counter SCRUB_BYTES, "tpcore_scrub_read_bytes_total", "Bytes read in search of damage.";
    Counter SCRUB_REPAIRED, "tpcore_scrub_repaired_segments_total", "Segments of one copy rebuilt from the other.";
    Counter SCRUB_DAMAGED, "tpcore_scrub_damaged_total", "Findings that could not be repaired.";
    Gauge CLOCK_DIFFERENCE, "tpcore_clock_difference_seconds", "Wall clock minus engine time.";
    Gauge CLOCK_ALARM, "tpcore_clock_alarm", "1 when that is more than the steering is meant for.";
    // The process.
    Gauge RESIDENT, "process_resident_memory_bytes", "Resident memory.";
    Gauge OPEN_FDS, "process_open_fds", "Open file descriptors.";
    Gauge MAX_FDS, "process_max_fds", "File descriptors that may be open.";
    Gauge START_TIME, "process_start_time_seconds", "Start of the process since 1970.";
    Counter CPU, "process_cpu_seconds_total", "Processor time of all threads, whole seconds.";
}
