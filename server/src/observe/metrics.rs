//! The numbers that the server shows: counters of its own, and the engine's status at the moment of a scrape.
//!
//! Owns the counters. A request touches atomic numbers in arrays made at the start, and a lock of a shard of the last minute's window: nothing
//! is allocated, no text is made, no map is searched. All of that happens at a scrape, in the exporter, which is ours alone: a process
//! may hold several servers.
//!
//! LIM-1: the labels are closed sets (routes, status codes, verbs, outcomes, reasons), so the number of series is known at the start.

mod cards;
mod engine;
mod families;
mod histogram;
mod process;
mod reasons;
mod scrape;
#[cfg(test)]
pub(crate) mod tests;
mod window;

use std::fmt::Write as _;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Instant;

use tp_actors::tp_core::command::Verb;
use tp_actors::tp_core::outcome::Outcome;
use tp_actors::{Config, EngineStatus};

pub use cards::CardStats;
pub use reasons::{AuthenticationFailure, ConnectionRefusal, RateLimit, TlsFailure};
pub use window::{Latencies, SecondCounts};

use super::stages::{Stage, Stopwatch};
use histogram::Histogram;
use process::ProcessStatus;
use scrape::Scrape;
use window::{Class, Window};

#[cfg(test)]
pub(crate) use families::FAMILIES;
pub(crate) use window::Seen;

/// What `GET /metrics` is answered as.
pub const METRICS_CONTENT_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

/// The route label of requests that no route of the table took.
const UNMATCHED: &str = "unmatched";

/// Status codes with a label of their own: those of the protocol page and of HTTP errors below it. Any other is counted as `other`.
const STATUSES: [(u16, &str); 26] = [
    (200, "200"),
    (201, "201"),
    (202, "202"),
    (204, "204"),
    (304, "304"),
    (400, "400"),
    (401, "401"),
    (402, "402"),
    (403, "403"),
    (404, "404"),
    (405, "405"),
    (406, "406"),
    (408, "408"),
    (409, "409"),
    (410, "410"),
    (413, "413"),
    (414, "414"),
    (415, "415"),
    (422, "422"),
    (429, "429"),
    (431, "431"),
    (499, "499"),
    (500, "500"),
    (501, "501"),
    (503, "503"),
    (504, "504"),
];

const VERBS: usize = largest_verb() + 1;
const OUTCOMES: usize = largest_outcome() + 1;

const fn largest_verb() -> usize {
    let (mut largest, mut index) = (0, 0);
    while index < Verb::ALL.len() {
        let number = Verb::ALL[index] as usize;
        largest = if number > largest { number } else { largest };
        index += 1;
    }
    largest
}

const fn largest_outcome() -> usize {
    let (mut largest, mut index) = (0, 0);
    while index < Outcome::ALL.len() {
        let number = Outcome::ALL[index] as usize;
        largest = if number > largest { number } else { largest };
        index += 1;
    }
    largest
}

/// What the engine may hold at most: shown beside what it holds, so that an alert is a quotient.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct EngineLimits {
    /// Memory for keys of one partition, bytes.
    pub key_bytes: u64,
    /// Memory for authorizations of one partition, bytes.
    pub authorization_bytes: u64,
    /// Commands that may wait at one partition.
    pub waiting_commands: u64,
}

impl EngineLimits {
    /// Those of an engine opened with that configuration: budgets are divided evenly by the partitions.
    pub fn of(config: &Config) -> Self {
        let partitions = config.partitions.max(1) as u64;
        Self {
            key_bytes: config.budgets.key_bytes / partitions,
            authorization_bytes: config.budgets.authorization_bytes / partitions,
            waiting_commands: config.inbox_commands as u64,
        }
    }
}

struct Route {
    template: &'static str,
    statuses: [AtomicU64; STATUSES.len() + 1],
    duration: Histogram,
}

/// A counter for each member of a closed set.
struct Reasons<const N: usize>([AtomicU64; N]);

impl<const N: usize> Reasons<N> {
    fn new() -> Self {
        Self(std::array::from_fn(|_| AtomicU64::new(0)))
    }
    fn add(&self, index: usize) {
        self.0[index].fetch_add(1, Ordering::Relaxed);
    }
    fn sum(&self) -> u64 {
        self.0.iter().map(|counter| counter.load(Ordering::Relaxed)).sum()
    }
}

/// The numbers of one server.
pub struct Metrics {
    epoch: Instant,
    version: &'static str,
    limits: EngineLimits,
    routes: Box<[Route]>,
    stages: [Histogram; Stage::ALL.len()],
    commands: Box<[[AtomicU64; OUTCOMES]; VERBS]>,
    window: Window,
    in_flight: AtomicU64,
    connections_open: AtomicU64,
    connections_accepted: AtomicU64,
    connections_refused: Reasons<{ ConnectionRefusal::ALL.len() }>,
    tls_failures: Reasons<{ TlsFailure::ALL.len() }>,
    authentication_failures: Reasons<{ AuthenticationFailure::ALL.len() }>,
    rate_limited: Reasons<{ RateLimit::ALL.len() }>,
    cards: OnceLock<Vec<Arc<CardStats>>>,
    scrape: Scrape,
}

/// What a server counts, fixed at its start.
#[derive(Clone, Copy, Debug)]
pub struct MetricsOptions<'a> {
    /// The route labels: method and template, as `POST /v1/accounts`. A route's index here is what [`Metrics::request`] is given.
    pub routes: &'a [&'static str],
    /// The release.
    pub version: &'static str,
    /// The engine's bounds.
    pub limits: EngineLimits,
}

impl Metrics {
    /// Everything zero; the last minute begins now.
    pub fn new(options: &MetricsOptions<'_>) -> Self {
        let route = |template| Route {
            template,
            statuses: std::array::from_fn(|_| AtomicU64::new(0)),
            duration: Histogram::default(),
        };
        let epoch = Instant::now();
        Self {
            epoch,
            version: options.version,
            limits: options.limits,
            routes: options.routes.iter().copied().chain([UNMATCHED]).map(route).collect(),
            stages: Default::default(),
            commands: Box::new(std::array::from_fn(|_| std::array::from_fn(|_| AtomicU64::new(0)))),
            window: Window::new(epoch),
            in_flight: AtomicU64::new(0),
            connections_open: AtomicU64::new(0),
            connections_accepted: AtomicU64::new(0),
            connections_refused: Reasons::new(),
            tls_failures: Reasons::new(),
            authentication_failures: Reasons::new(),
            rate_limited: Reasons::new(),
            cards: OnceLock::new(),
            scrape: Scrape::new(),
        }
    }

    /// One request was answered, by the route of that index (any index beyond the table: none took it). The stopwatch's last lap is the end.
    pub fn request(&self, route: usize, status: u16, watch: &Stopwatch) {
        let route = &self.routes[route.min(self.routes.len() - 1)];
        let status = STATUSES.iter().position(|(code, _)| *code == status).unwrap_or(STATUSES.len());
        route.statuses[status].fetch_add(1, Ordering::Relaxed);
        let total = watch.total();
        route.duration.record(total);
        for stage in Stage::ALL {
            if let Some(spent) = watch.spent(stage) {
                self.stages[stage as usize].record(spent.time);
            }
        }
        self.window.request(watch.ended(), watch.spent(Stage::Engine).map(|_| total));
    }

    /// One command was answered at that moment; each of a batch counts.
    pub fn command(&self, verb: Verb, outcome: Outcome, at: Instant) {
        self.commands[verb as usize][outcome as usize].fetch_add(1, Ordering::Relaxed);
        self.window.command(at, Class::of(outcome));
    }

    /// A request waits for its answer until the value is dropped.
    pub fn in_flight(self: &Arc<Self>) -> Counted {
        Counted::new(self, Open::Request)
    }

    /// A connection was accepted; it is open until the value is dropped.
    pub fn connection(self: &Arc<Self>) -> Counted {
        self.connections_accepted.fetch_add(1, Ordering::Relaxed);
        Counted::new(self, Open::Connection)
    }

    const fn gauge(&self, open: Open) -> &AtomicU64 {
        match open {
            Open::Connection => &self.connections_open,
            Open::Request => &self.in_flight,
        }
    }

    /// A connection was not served.
    pub fn connection_refused(&self, reason: ConnectionRefusal) {
        self.connections_refused.add(reason as usize);
    }

    /// A TLS handshake failed.
    pub fn tls_failure(&self, reason: TlsFailure) {
        self.tls_failures.add(reason as usize);
    }

    /// A caller was not believed, or not allowed.
    pub fn authentication_failure(&self, reason: AuthenticationFailure) {
        self.authentication_failures.add(reason as usize);
    }

    /// A request met a limit.
    pub fn rate_limited(&self, limit: RateLimit) {
        self.rate_limited.add(limit as usize);
    }

    /// Shows the numbers of card listeners from now on. Once.
    pub fn show_cards(&self, listeners: Vec<Arc<CardStats>>) {
        let is_first = self.cards.set(listeners).is_ok();
        debug_assert!(is_first, "set once");
    }

    /// Everything in the text format 0.0.4 of Prometheus ([`METRICS_CONTENT_TYPE`]). For one scraper at a time; costs about a millisecond.
    pub fn render(&self, status: &EngineStatus, now: Instant) -> String {
        let uptime = now.saturating_duration_since(self.epoch);
        let uptime_ms = u64::try_from(uptime.as_millis()).unwrap_or(u64::MAX);
        self.record_front();
        self.scrape.gauge(families::UPTIME, &[], uptime.as_secs_f64());
        engine::record(&self.scrape, status, &self.limits, uptime_ms);
        self.record_process(&ProcessStatus::read());
        let mut text = self.scrape.text();
        self.write_histograms(&mut text);
        text
    }

    fn record_front(&self) {
        let (scrape, load) = (&self.scrape, |counter: &AtomicU64| counter.load(Ordering::Relaxed));
        scrape.count(families::BUILD, &[("version", self.version)], 1);
        for route in &self.routes {
            let statuses = STATUSES.iter().map(|(_, text)| *text).chain(["other"]);
            for (counter, status) in route.statuses.iter().zip(statuses) {
                // Rates need a series before its first event; one for each route is enough for that.
                if load(counter) > 0 || status == "200" {
                    scrape.counter(
                        families::HTTP_REQUESTS,
                        &[("route", route.template), ("status", status)],
                        load(counter),
                    );
                }
            }
        }
        for verb in Verb::ALL {
            for outcome in Outcome::ALL {
                let count = load(&self.commands[*verb as usize][*outcome as usize]);
                if count > 0 || *outcome == Outcome::Approved {
                    scrape.counter(families::COMMANDS, &[("command", verb.name()), ("outcome", outcome.name())], count);
                }
            }
        }
        scrape.count(families::IN_FLIGHT, &[], load(&self.in_flight));
        scrape.count(families::CONNECTIONS_OPEN, &[], load(&self.connections_open));
        scrape.counter(families::CONNECTIONS_ACCEPTED, &[], load(&self.connections_accepted));
        scrape.counter(families::LOG_SUPPRESSED, &[], super::log::lines_suppressed());
        self.record_reasons();
        self.cards.get().into_iter().flatten().for_each(|listener| listener.record(&self.scrape));
    }

    fn record_reasons(&self) {
        let record = |name, counters: &[AtomicU64], reason_of: &dyn Fn(usize) -> &'static str| {
            for (index, counter) in counters.iter().enumerate() {
                self.scrape.counter(name, &[("reason", reason_of(index))], counter.load(Ordering::Relaxed));
            }
        };
        record(families::CONNECTIONS_REFUSED, &self.connections_refused.0, &|i| ConnectionRefusal::ALL[i].name());
        record(families::TLS_FAILURES, &self.tls_failures.0, &|i| TlsFailure::ALL[i].name());
        record(families::AUTHENTICATION_FAILURES, &self.authentication_failures.0, &|i| {
            AuthenticationFailure::ALL[i].name()
        });
        record(families::RATE_LIMITED, &self.rate_limited.0, &|i| RateLimit::ALL[i].name());
    }

    fn record_process(&self, process: &ProcessStatus) {
        let seconds = |ms: u64| engine::seconds_of_us(ms.saturating_mul(1000));
        for (name, value) in [
            (families::RESIDENT, process.resident_bytes),
            (families::OPEN_FDS, process.open_fds),
            (families::MAX_FDS, process.max_fds),
        ] {
            if let Some(value) = value {
                self.scrape.count(name, &[], value);
            }
        }
        if let Some(start) = process.start_ms {
            self.scrape.gauge(families::START_TIME, &[], seconds(start));
        }
        if let Some(cpu) = process.cpu_ms {
            self.scrape.counter(families::CPU, &[], cpu / 1000);
        }
    }

    fn write_histograms(&self, text: &mut String) {
        let head = |text: &mut String, name: &str| {
            let help = families::FAMILIES.iter().find(|family| family.name == name).map_or("", |family| family.help);
            let _ = writeln!(text, "# HELP {name} {help}\n# TYPE {name} histogram");
        };
        head(text, families::REQUEST_DURATION);
        for route in &self.routes {
            route.duration.write(text, families::REQUEST_DURATION, &format!("route=\"{}\"", route.template));
        }
        head(text, families::STAGE_DURATION);
        for stage in Stage::ALL {
            self.stages[stage as usize].write(text, families::STAGE_DURATION, &format!("stage=\"{}\"", stage.name()));
        }
    }

    /// What the last minute saw.
    pub(crate) fn seen(&self, now: Instant) -> Seen {
        self.window.seen(now)
    }

    /// Totals since the start, for the status page: outcomes that occurred, by name.
    pub(crate) fn outcome_totals(&self) -> Vec<(&'static str, u64)> {
        let total =
            |outcome: &Outcome| self.commands.iter().map(|of| of[*outcome as usize].load(Ordering::Relaxed)).sum();
        let all = Outcome::ALL.iter().map(|outcome| (outcome.name(), total(outcome)));
        all.filter(|(_, count)| *count > 0).collect()
    }

    /// Totals since the start, for the status page: what the front turned away.
    pub(crate) fn front_totals(&self) -> [(&'static str, u64); 4] {
        [
            ("authentication_failures", self.authentication_failures.sum()),
            ("rate_limited", self.rate_limited.sum()),
            ("connections_refused", self.connections_refused.sum()),
            ("tls_handshake_failures", self.tls_failures.sum()),
        ]
    }

    /// Open connections and requests in flight.
    pub(crate) fn open(&self) -> (u64, u64) {
        (self.connections_open.load(Ordering::Relaxed), self.in_flight.load(Ordering::Relaxed))
    }

    /// Since when it counts.
    pub(crate) const fn epoch(&self) -> Instant {
        self.epoch
    }

    /// The engine's bounds.
    pub(crate) const fn limits(&self) -> &EngineLimits {
        &self.limits
    }

    /// The release.
    pub(crate) const fn version(&self) -> &'static str {
        self.version
    }
}

#[derive(Clone, Copy)]
enum Open {
    Connection,
    Request,
}

/// One open connection or request, until it is dropped. Goes along with a task.
#[must_use = "it counts until it is dropped"]
pub struct Counted(Arc<Metrics>, Open);

impl Counted {
    fn new(metrics: &Arc<Metrics>, open: Open) -> Self {
        metrics.gauge(open).fetch_add(1, Ordering::Relaxed);
        Self(Arc::clone(metrics), open)
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.gauge(self.1).fetch_sub(1, Ordering::Relaxed);
    }
}
