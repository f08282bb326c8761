//! What a run found, as data: the one source of the JSON file, the HTML page and the lines on the terminal.
//!
//! Owns the names in the JSON, which are stable; refuses to measure and to judge. Times are nanoseconds, rates per second.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

pub mod html;

/// One run.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Report {
    /// The tool and its version.
    pub tool: String,
    /// When the measured part began, RFC 3339 in UTC.
    pub started: String,
    /// The command line.
    pub command: String,
    /// Where it ran.
    pub machine: Machine,
    /// The seed of the workload: the same seed and arguments give the same commands at the same planned times.
    pub seed: u64,
    /// What was run, option by option, with the defaults filled in.
    pub configuration: BTreeMap<String, String>,
    /// `pass` or `fail`.
    pub verdict: Verdict,
    /// Why it failed; empty when it passed.
    pub failures: Vec<String>,
    /// Whether it was ended early (Ctrl-C): what was measured until then is shown.
    pub ended_early: bool,
    /// Length of the measured part, s.
    pub measured_s: f64,
    /// Planned commands a second over the measured part.
    pub offered_per_s: f64,
    /// Commands answered with an outcome other than `busy` a second over the measured part.
    pub achieved_per_s: f64,
    /// Commands whose planned time lies in the measured part.
    pub sent: u64,
    /// Those of them that were answered with an outcome other than `busy`.
    pub completed: u64,
    /// Those of them that were answered `busy`, or could not be submitted within their deadline.
    pub busy: u64,
    /// Outcome name to count.
    pub outcomes: BTreeMap<String, u64>,
    /// From planned send time to reply, all commands.
    pub latency_ns: Latency,
    /// From planned send time to sending: what the generator itself added. Part of every latency.
    pub send_delay_ns: Latency,
    /// Each kind of command by name.
    pub per_command: BTreeMap<String, PerCommand>,
    /// The distribution for the chart: ascending percentiles, 0 to 100, each with its latency.
    pub curve: Vec<CurvePoint>,
    /// Each second of the measured part.
    pub series: Vec<Second>,
    /// Each objective.
    pub slo: Vec<SloResult>,
    /// The rates tried, in order; empty but for a search. What else is shown is the run at the highest that passed.
    pub trials: Vec<Trial>,
    /// Whether every check of the money held.
    pub money_ok: bool,
    /// Each check of the money.
    pub money: Vec<MoneyCheck>,
    /// What became of connections over the whole run, by name; empty for the embedded target.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub transport: BTreeMap<String, u64>,
    /// Resident memory at the end of the measured part, bytes; 0: not known.
    pub rss_bytes: u64,
    /// Bytes of the journal in use at the end of the measured part.
    pub journal_bytes: u64,
    /// How the target came up on what its directory held; nothing of a new one's or a server's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub opening: Option<Opening>,
    /// What the disk does by itself, where it was asked (`--probe-disk`).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub disk: Option<DiskProbe>,
    /// How long the machine's cores stand still by themselves, where it was asked (`--probe-cpu`).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cpu: Option<CpuProbe>,
}

/// How an engine came up on its directory.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct Opening {
    /// From the call to the engine that serves, with whatever memory it takes ahead, ms.
    pub took_ms: u64,
    /// Events replayed from the journal.
    pub events_replayed: u64,
    /// Whether a checkpoint was loaded before.
    pub from_checkpoint: bool,
}

/// Appends of 4 KiB, each followed by `fdatasync`, to a file of the run's own beside the data, before the run.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct DiskProbe {
    /// How many.
    pub appends: u64,
    /// The median of one, ns.
    pub p50_ns: u64,
    /// 99 of 100 took no longer, ns.
    pub p99_ns: u64,
}

/// How long threads that did nothing but look at the clock, one on each core, were not run, before the run: what a host takes
/// from a virtual machine no latency can be below.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct CpuProbe {
    /// How long each looked, ms.
    pub looked_ms: u64,
    /// Pauses of 1 ms or more, of all cores.
    pub pauses: u64,
    /// What they come to, of all cores, ns.
    pub paused_ns: u64,
    /// The longest, ns.
    pub longest_ns: u64,
}

/// Whether a run met everything asked of it.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    /// It did.
    Pass,
    /// It did not.
    #[default]
    Fail,
}

/// The machine, as far as it tells.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Machine {
    /// Processor.
    pub cpu: String,
    /// Cores that this process may use.
    pub cores: usize,
    /// Memory, bytes; 0: not known.
    pub memory_bytes: u64,
    /// Operating system and its version.
    #[serde(alias = "kernel")]
    pub os: String,
    /// File system of the data directory.
    pub file_system: String,
}

/// Percentiles of latencies, ns.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[allow(missing_docs, reason = "the names say it")]
pub struct Latency {
    pub p50: u64,
    pub p90: u64,
    pub p99: u64,
    pub p99_9: u64,
    pub p99_99: u64,
    pub max: u64,
}

/// One kind of command.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct PerCommand {
    /// Answered with an outcome other than `busy`.
    pub completed: u64,
    /// Outcome name to count.
    pub outcomes: BTreeMap<String, u64>,
    /// From planned send time to reply.
    pub latency_ns: Latency,
}

/// A point of the distribution.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub struct CurvePoint {
    /// 0 to 100.
    pub percentile: f64,
    /// Latency at it.
    pub latency_ns: u64,
}

/// One second.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Second {
    /// Seconds since the measured part began.
    pub t_s: u64,
    /// Commands planned in it.
    pub offered: u64,
    /// Replies in it other than `busy`.
    pub completed: u64,
    /// `busy` in it.
    pub busy: u64,
    /// Latencies of the replies in it.
    pub latency_ns: Latency,
    /// Events decided and not yet durable at its end.
    pub durable_lag_events: u64,
    /// Whether a checkpoint was being taken at its end.
    pub checkpoint_running: bool,
    /// Memory of the process at its end, bytes; 0 where a report has none.
    #[serde(default)]
    pub rss_bytes: u64,
}

/// One objective and what was measured.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct SloResult {
    /// As given: `p99.9<300ms`.
    pub objective: String,
    /// The measured value.
    pub measured_ns: u64,
    /// Whether it was met.
    pub met: bool,
}

/// One rate of a search.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Trial {
    /// Offered, commands a second.
    pub rate_per_s: u64,
    /// Achieved, commands a second.
    pub achieved_per_s: f64,
    /// Latencies.
    pub latency_ns: Latency,
    /// Whether everything was met.
    pub passed: bool,
    /// Why not.
    pub failures: Vec<String>,
}

/// One check of the money.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct MoneyCheck {
    /// What was checked.
    pub name: String,
    /// Whether it held.
    pub ok: bool,
    /// The figures.
    pub detail: String,
}
