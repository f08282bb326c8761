//! Logs: one JSON object a line, on standard error.
//!
//! Owns the form of a line (`time`, `level`, `target`, `message`, `trace_id` where there is one, and the fields of the event) and its bound:
//! every place in the code may write so many lines a second; what is above is counted, and reported before the next line of
//! its kind (and in `tpcore_log_lines_suppressed_total`), so a flood of failures cannot fill a disk. Refuses secrets and bodies: [`Access`] has no member for either, and what a library logs about
//! HTTP below us is let through from `warn` on only.

mod bound;
mod line;

use std::io::Write;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use tracing::level_filters::LevelFilter;
use tracing::{Event, Level, Metadata, Subscriber, debug, info};
use tracing_subscriber::Registry;
use tracing_subscriber::layer::{Context, Layer, SubscriberExt as _};

use super::stages::{Stage, Stopwatch};
use super::trace_context::TraceContext;
use bound::{Bound, Verdict};

/// How the process logs.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct LogOptions {
    /// The lowest level that is written: of tpcore's own targets. Of others nothing below `warn`.
    pub level: LevelFilter,
    /// Lines a second from one place in the code. From 1.
    pub lines_per_second: u32,
}

impl Default for LogOptions {
    /// `info`, 50 lines a second: at 300 bytes a line and a dozen places that could be flooded at once, 15 GB a day at the very worst.
    fn default() -> Self {
        Self { level: LevelFilter::INFO, lines_per_second: 50 }
    }
}

/// The process logs already.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[error("the process has a log already")]
pub struct AlreadyLogging;

/// Logs from now on, for the whole process.
///
/// # Errors
///
/// Something else was installed before.
pub fn init(options: LogOptions) -> Result<(), AlreadyLogging> {
    let subscriber = Registry::default().with(Lines::new(options, Box::new(std::io::stderr())));
    tracing::subscriber::set_global_default(subscriber).map_err(|_| AlreadyLogging)
}

/// Lines of this process that were left out because their kind came too often.
pub(crate) fn lines_suppressed() -> u64 {
    SUPPRESSED.load(Ordering::Relaxed)
}

static SUPPRESSED: AtomicU64 = AtomicU64::new(0);

/// What is said of a request. No header, no body, no query, no account.
#[derive(Clone, Copy, Debug)]
pub struct Access<'a> {
    /// Method and template, never the path itself: ids of accounts are customers' data.
    pub route: &'static str,
    /// The status code.
    pub status: u16,
    /// The outcome's stable name; empty: the request was no command.
    pub outcome: &'a str,
    /// The caller's tenant, when it is known.
    pub tenant: Option<u32>,
    /// The public half of the caller's key; empty: not known.
    pub key_id: &'a str,
    /// The trace.
    pub trace: &'a TraceContext,
    /// Where its time went.
    pub watch: &'a Stopwatch,
}

/// One request was answered: at `info` when it failed (5xx, or what is denied: 401, 403, 429) or took longer than `slow`; at `debug` otherwise.
pub fn access(access: &Access<'_>, slow: Duration) {
    let is_notable = access.status >= 500 || matches!(access.status, 401 | 403 | 429) || access.watch.total() > slow;
    let us = |stage| access.watch.spent(stage).map(|spent| micros(spent.time));
    let Access { route, status, outcome, tenant, key_id, trace, watch } = *access;
    let (trace_id, total_us) = (trace.trace, micros(watch.total()));
    let [read_us, gate_us, engine_us, write_us] = Stage::ALL.map(us);
    macro_rules! say {
        ($level:ident, $message:literal) => {
            $level!(target: "tpcore::access", trace_id = %trace_id, route, status, outcome, tenant, key_id, total_us, read_us, gate_us,
                engine_us, write_us, $message)
        };
    }
    if is_notable {
        say!(info, "request failed or slow");
    } else {
        say!(debug, "request");
    }
}

fn micros(time: Duration) -> u64 {
    u64::try_from(time.as_micros()).unwrap_or(u64::MAX)
}

/// The subscriber's layer: filters, bounds, writes.
struct Lines {
    level: LevelFilter,
    epoch: Instant,
    bound: Bound,
    out: Mutex<Box<dyn Write + Send>>,
}

impl Lines {
    fn new(options: LogOptions, out: Box<dyn Write + Send>) -> Self {
        Self {
            level: options.level,
            epoch: Instant::now(),
            bound: Bound::new(options.lines_per_second),
            out: Mutex::new(out),
        }
    }

    fn write(&self, line: &[u8]) {
        // Standard error that is gone is no reason to stop serving.
        let _ = self.out.lock().write_all(line);
    }
}

/// Ours by module path, as it is set by the macros: `tpcore`, `tp_server`, `tp_actors` and so on.
fn is_ours(target: &str) -> bool {
    target.starts_with("tp_") || target == "tpcore" || target.starts_with("tpcore::")
}

impl<S: Subscriber> Layer<S> for Lines {
    fn enabled(&self, metadata: &Metadata<'_>, _: Context<'_, S>) -> bool {
        let level = if is_ours(metadata.target()) { self.level } else { self.level.min(LevelFilter::WARN) };
        metadata.is_event() && *metadata.level() <= level
    }

    fn max_level_hint(&self) -> Option<LevelFilter> {
        Some(self.level)
    }

    fn on_event(&self, event: &Event<'_>, _: Context<'_, S>) {
        let metadata = event.metadata();
        let second = self.epoch.elapsed().as_secs();
        match self.bound.ask(metadata.callsite(), second) {
            Verdict::Write { suppressed: 0 } => {}
            Verdict::Write { suppressed } => self.write(&line::suppressed(metadata, suppressed)),
            Verdict::Suppress => {
                SUPPRESSED.fetch_add(1, Ordering::Relaxed);
                return;
            }
        }
        self.write(&line::of_event(event));
    }
}

/// The level of a setting: `off`, `error`, `warn`, `info`, `debug` or `trace`.
pub fn level_named(name: &str) -> Option<LevelFilter> {
    Some(match name {
        "off" => LevelFilter::OFF,
        "error" => LevelFilter::from_level(Level::ERROR),
        "warn" => LevelFilter::from_level(Level::WARN),
        "info" => LevelFilter::from_level(Level::INFO),
        "debug" => LevelFilter::from_level(Level::DEBUG),
        "trace" => LevelFilter::from_level(Level::TRACE),
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use serde_json::Value;

    use super::*;

    #[derive(Clone, Default)]
    struct Kept(Arc<Mutex<Vec<u8>>>);

    impl Write for Kept {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.0.lock().extend_from_slice(bytes);
            Ok(bytes.len())
        }
        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }

    fn logged(options: LogOptions, what: impl FnOnce()) -> Vec<Value> {
        let kept = Kept::default();
        let subscriber = Registry::default().with(Lines::new(options, Box::new(kept.clone())));
        tracing::subscriber::with_default(subscriber, what);
        let bytes = kept.0.lock().clone();
        let text = String::from_utf8(bytes).expect("UTF-8");
        text.lines().map(|line| serde_json::from_str(line).expect(line)).collect()
    }

    fn a_request(status: u16, ms: u64) {
        let start = Instant::now();
        let (mut watch, trace) = (Stopwatch::start(start), TraceContext::of(None));
        watch.lap(Stage::Engine, start + Duration::from_millis(ms));
        let line = Access {
            route: "POST /v1/transfers",
            status,
            outcome: "approved",
            tenant: Some(3),
            key_id: "k",
            trace: &trace,
            watch: &watch,
        };
        access(&line, Duration::from_millis(100));
    }

    #[test]
    fn a_line_is_one_object_with_its_fields_and_nothing_breaks_out_of_it() {
        let lines = logged(LogOptions::default(), || {
            info!(target: "tpcore::test", trace_id = "t1", text = "a \"quoted\"\nline", count = 7_u64, ok = true, minus = -1, "hello");
        });
        assert_eq!(lines.len(), 1);
        let line = &lines[0];
        assert_eq!(
            (&line["level"], &line["target"], &line["message"]),
            (&"info".into(), &"tpcore::test".into(), &"hello".into())
        );
        assert_eq!(
            (&line["text"], &line["count"], &line["ok"], &line["minus"]),
            (&"a \"quoted\"\nline".into(), &7.into(), &true.into(), &(-1).into())
        );
        assert_eq!(line["trace_id"], "t1");
        let time = line["time"].as_str().expect("a text");
        assert!(time.len() == 24 && time.ends_with('Z'), "{time}");
    }

    #[test]
    fn only_failures_and_slow_requests_are_at_info() {
        let all = || {
            for (status, ms) in [(200, 1), (402, 1), (200, 101), (503, 1), (429, 1), (401, 1)] {
                a_request(status, ms);
            }
        };
        let statuses = |lines: Vec<Value>| lines.iter().map(|line| line["status"].as_u64()).collect::<Vec<_>>();
        assert_eq!(statuses(logged(LogOptions::default(), all)), [Some(200), Some(503), Some(429), Some(401)]);
        let debug = LogOptions { level: LevelFilter::DEBUG, ..LogOptions::default() };
        let lines = logged(debug, all);
        assert_eq!(
            (lines[0]["engine_us"].as_u64(), lines[0]["tenant"].as_u64(), lines.len()),
            (Some(1000), Some(3), 6)
        );
        assert!(lines[0].get("gate_us").is_none(), "a stage that never was has no time");
    }

    #[test]
    fn a_flood_writes_so_many_lines_and_others_are_not_drowned() {
        let options = LogOptions { lines_per_second: 3, ..LogOptions::default() };
        let before = lines_suppressed();
        let lines = logged(options, || {
            (0..1000).for_each(|_| a_request(503, 1));
            info!(target: "tpcore::test", "another kind");
        });
        // The test may run over the end of a second, or several.
        let access = lines.iter().filter(|line| line["target"] == "tpcore::access" && line["status"] == 503).count();
        assert!((3..1000).contains(&access), "{access}");
        assert!(lines_suppressed() - before >= 1000 - access as u64);
        assert!(lines.iter().any(|line| line["message"] == "another kind"));
    }

    #[test]
    fn what_libraries_say_is_heard_from_warn_on_only() {
        let trace = LogOptions { level: LevelFilter::TRACE, ..LogOptions::default() };
        let lines = logged(trace, || {
            tracing::debug!(target: "hyper::proto", "a header");
            tracing::warn!(target: "rustls", "odd");
            tracing::trace!(target: "tp_server::net", "ours");
            tracing::trace!(target: "tpcoreish", "not ours");
        });
        let targets: Vec<_> = lines.iter().map(|line| line["target"].as_str()).collect();
        assert_eq!(targets, [Some("rustls"), Some("tp_server::net")]);
    }

    #[test]
    fn every_level_of_the_settings_has_its_name() {
        for name in ["off", "error", "warn", "info", "debug", "trace"] {
            assert_eq!(level_named(name).map(|level| level.to_string()).as_deref(), Some(name));
        }
        assert_eq!(level_named("loud"), None);
    }
}
