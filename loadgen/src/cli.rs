//! The command line: what can be asked for, and the plan that it makes.
//!
//! Owns options, their checks and the exit code; refuses to run anything before everything was checked.
//!
//! Exit codes: 0 everything was met; 1 an objective was missed, less than 99 % was achieved, commands were busy, the money is
//! wrong, or an audit failed; 2 the command line; 3 the run could not start or end; 6 a write or sync failed while it ran.

mod network;
mod shown;

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use anyhow::{Context as _, Result};
use clap::error::ErrorKind;
use clap::{Args, CommandFactory as _, Parser, Subcommand, ValueEnum};
use tpcore::JournalKind;

use network::{AuditArgs, NetworkArgs, TargetKind, target};

use crate::display::{Display, summary};
use crate::mix::{Kind, Mix};
use crate::payees::Locality;
use crate::plan::{Accept, EmbeddedPlan, NetworkPlan, Plan, Probes, ThrottlePlan, Way, WorkloadPlan};
use crate::report::{Report, Verdict, html};
use crate::schedule::Schedule;
use crate::skew::{Draw, Skew};
use crate::slo::Objective;
use crate::target::TargetStopped;
use crate::{run, schedule, units};

/// Drives tpcore at a stated rate and judges its latency.
///
/// Commands are sent at planned times whatever became of those before (an open loop); latency counts from the planned time, to a
/// reply that is durable. Afterwards the money is checked: the generator's own books against the engine's, and against the
/// directory opened again. Without arguments: 30 seconds in a temporary directory.
#[derive(Parser, Debug)]
#[command(name = "tp-loadgen", version, args_conflicts_with_subcommands = true)]
struct Cli {
    #[command(subcommand)]
    command: Option<Sub>,
    #[command(flatten)]
    run: RunArgs,
}

#[derive(Subcommand, Debug)]
enum Sub {
    /// Proves that every acknowledgement of a file that --record-acks wrote is in a directory's journal, or known to a server.
    Audit(AuditArgs),
}

#[derive(Clone, Copy, PartialEq, Eq, Debug, ValueEnum)]
enum Journal {
    /// Segment files, each group synced.
    Segment,
    /// The embedded store, for comparison.
    Sled,
    /// None: memory only.
    Memory,
}

#[derive(Args, Debug)]
#[allow(clippy::struct_excessive_bools, reason = "flags of a command line")]
struct RunArgs {
    /// Commands a second: 20000, 250k.
    #[arg(long, value_name = "RATE", value_parser = units::rate, default_value = "20k", help_heading = "Load")]
    rate: u64,
    /// How long is measured; with --find-max, each rate [default: 30s, with --find-max 5s].
    #[arg(long, value_name = "TIME", value_parser = units::duration, help_heading = "Load")]
    duration: Option<Duration>,
    /// How long is run before, at the first rate, and not measured.
    #[arg(long, value_name = "TIME", value_parser = units::duration, default_value = "3s", help_heading = "Load")]
    warm_up: Duration,
    /// Look for the highest rate that meets all objectives, from --rate on.
    #[arg(long, conflicts_with = "profile", help_heading = "Load")]
    find_max: bool,
    /// Stages instead of one rate: ramp:1k-50k:10s,spike:100k:2s,soak:20k:1m.
    #[arg(long, value_name = "STAGES", value_parser = Schedule::parse, conflicts_with_all = ["rate", "duration"], help_heading = "Load")]
    profile: Option<Schedule>,
    /// The most commands in flight; what is above is busy [default: a second's worth].
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=16_777_216), help_heading = "Load")]
    in_flight: Option<u32>,

    /// Accounts that pay.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..=1_000_000_000), default_value_t = 100_000, help_heading = "Workload")]
    accounts: u64,
    /// Accounts that are paid.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..=100_000_000), default_value_t = 1_000, help_heading = "Workload")]
    payees: u64,
    /// What each account is given at the start, minor units.
    #[arg(long, value_name = "MINOR", value_parser = clap::value_parser!(u64).range(0..=1_000_000_000_000_000), default_value_t = 1_000_000_000, help_heading = "Workload")]
    opening_balance: u64,
    /// The largest amount of a command, minor units; the smallest is 1.
    #[arg(long, value_name = "MINOR", value_parser = clap::value_parser!(u64).range(1..=1_000_000_000_000_000), default_value_t = 10_000, help_heading = "Workload")]
    amount_max: u64,
    /// Commands and their weights: authorize, increment, capture, void, refund, reverse, transfer, lookup, read.
    #[arg(long, value_name = "MIX", default_value_t = Mix::default(), help_heading = "Workload")]
    mix: Mix,
    /// Which accounts: uniform, zipf:S, hot:N (N accounts get half of all).
    #[arg(long, value_name = "SKEW", default_value_t = Skew::Uniform, help_heading = "Workload")]
    skew: Skew,
    /// Where the payees of captures and transfers live: any, within the payer's partition (one event), across partitions (an
    /// exchange of three).
    #[arg(long, value_name = "WHERE", default_value_t = Locality::Any, help_heading = "Workload")]
    locality: Locality,
    /// Percent of the commands that are sent again as they were.
    #[arg(long, value_name = "PERCENT", value_parser = per_mille, default_value = "0", help_heading = "Workload")]
    duplicates: u32,
    /// Percent of the commands that reverse an earlier authorization.
    #[arg(long, value_name = "PERCENT", value_parser = per_mille, default_value = "0", help_heading = "Workload")]
    late_reversals: u32,
    /// Percent of the authorizations that ask for more than there is and take what they get.
    #[arg(long, value_name = "PERCENT", value_parser = per_mille, default_value = "0", help_heading = "Workload")]
    partials: u32,
    /// How long holds live; a short time makes a run heavy with expiries [default: the ledger's 7 days].
    #[arg(long, value_name = "TIME", value_parser = units::duration, help_heading = "Workload")]
    hold_lifetime: Option<Duration>,
    /// Everything random comes from it.
    #[arg(long, value_name = "N", default_value_t = 1, help_heading = "Workload")]
    seed: u64,

    /// What is driven: embedded, an engine in this process; or http://HOST:PORT, a `tpcore serve`.
    #[arg(long, value_name = "TARGET", value_parser = target, default_value = "embedded", help_heading = "Target")]
    target: TargetKind,
    /// Where the data is; may have been used before [default: a temporary directory, removed afterwards].
    #[arg(long, value_name = "DIR", help_heading = "Target")]
    data_dir: Option<PathBuf>,
    /// A folder for a second copy of the journal; with a temporary data directory a temporary folder in it.
    #[arg(long, value_name = "DIR", help_heading = "Target")]
    mirror: Option<PathBuf>,
    /// Partitions [default: the cores].
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=256), help_heading = "Target")]
    partitions: Option<u16>,
    /// The journal.
    #[arg(long, value_enum, default_value_t = Journal::Segment, help_heading = "Target")]
    journal: Journal,
    /// Time from checkpoint to checkpoint, or off.
    #[arg(long, value_name = "TIME", value_parser = interval, default_value = "10s", help_heading = "Target")]
    checkpoint_interval: Interval,
    /// How long a command may take until it is decided and durable; over the network at most 60s.
    #[arg(long, value_name = "TIME", value_parser = units::duration, default_value = "10s", help_heading = "Target")]
    deadline: Duration,
    /// Commands that may wait at a partition [default: half a second's worth, at least 8192].
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=1_048_576), help_heading = "Target")]
    inbox: Option<u32>,
    /// A slower disk: each sync takes so much longer.
    #[arg(long, value_name = "TIME", value_parser = units::duration, help_heading = "Target")]
    throttle_sync: Option<Duration>,
    /// A slower disk: a sync's bytes are taken at most so fast, bytes a second: 14m.
    #[arg(long, value_name = "BYTES", value_parser = units::rate, help_heading = "Target")]
    throttle_rate: Option<u64>,
    /// How long a new directory remembers keys and closed authorizations; over the network: how long the server does at least.
    #[arg(long, value_name = "TIME", value_parser = units::duration, default_value = "60s", help_heading = "Target")]
    key_window: Duration,
    /// One file of the journal. A small one bounds what can be in flight, and fits on a small disk.
    #[arg(long, value_name = "SIZE", value_parser = units::bytes, default_value = "256MiB", help_heading = "Target")]
    segment: u64,
    /// Take the memory for all keys and authorizations of the run when the engine opens, so that the run measures none of its
    /// first touches. As if the engine had run for longer than the key window before.
    #[arg(long, help_heading = "Target")]
    prefault: bool,
    /// Measure before the run what appends of 4 KiB with their fdatasync take in the data directory.
    #[arg(long, help_heading = "Target")]
    probe_disk: bool,
    /// Measure before the run, for 3 s, how long threads on all cores are not run although they are ready.
    #[arg(long, help_heading = "Target")]
    probe_cpu: bool,
    #[command(flatten)]
    accept: Accept,

    #[command(flatten)]
    network: NetworkArgs,

    /// An objective: p99.9<300ms, max<1s. Repeatable [default: p99.9<300ms].
    #[arg(long, value_name = "OBJECTIVE", help_heading = "Verdict")]
    slo: Vec<Objective>,
    /// Commands that were answered busy are no failure.
    #[arg(long, help_heading = "Verdict")]
    allow_busy: bool,
    /// Write the result as JSON; - is standard output.
    #[arg(long, value_name = "FILE", help_heading = "Verdict")]
    json: Option<PathBuf>,
    /// Write the result as one HTML file.
    #[arg(long, value_name = "FILE", help_heading = "Verdict")]
    report: Option<PathBuf>,
    /// Write every acknowledgement, synced outside the engine, for the audit.
    #[arg(long, value_name = "FILE", help_heading = "Verdict")]
    record_acks: Option<PathBuf>,
    /// Show only the result.
    #[arg(long, short, help_heading = "Verdict")]
    quiet: bool,
}

/// A time between checkpoints.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Interval(Option<Duration>);

fn interval(text: &str) -> Result<Interval, String> {
    if text == "off" {
        return Ok(Interval(None));
    }
    match units::duration(text)? {
        time if time < Duration::from_millis(100) => Err("checkpoints are at least 100ms apart, or off".to_owned()),
        time => Ok(Interval(Some(time))),
    }
}

/// A percentage from 0 to 50 in steps of a tenth, as a number of 1,000.
fn per_mille(text: &str) -> Result<u32, String> {
    let form = "a percentage from 0 to 50, with at most one decimal";
    let (whole, tenth) = text.split_once('.').unwrap_or((text, "0"));
    let digits = |text: &str| !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
    if !digits(whole) || !digits(tenth) || tenth.len() > 1 {
        return Err(form.to_owned());
    }
    let parse = |text: &str| text.parse::<u32>().map_err(|_| form);
    let value = parse(whole)?.checked_mul(10).and_then(|n| n.checked_add(parse(tenth).unwrap_or(0))).ok_or(form)?;
    if value > 500 { Err(form.to_owned()) } else { Ok(value) }
}

impl RunArgs {
    /// The server of the target, if it is one. What belongs to the other target is refused, never ignored.
    fn network(&self) -> Result<Option<NetworkPlan>, String> {
        if self.target == TargetKind::Embedded {
            return self.network.refuse_all().map(|()| None);
        }
        let stray = [
            ("--data-dir", self.data_dir.is_some()),
            ("--mirror", self.mirror.is_some()),
            ("--partitions", self.partitions.is_some()),
            ("--inbox", self.inbox.is_some()),
            ("--journal", self.journal != Journal::Segment),
            ("--throttle-sync", self.throttle_sync.is_some()),
            ("--throttle-rate", self.throttle_rate.is_some()),
            ("--probe-disk", self.probe_disk),
            ("--locality", self.locality != Locality::Any),
            ("--accept-tail", self.accept.accept_tail),
            ("--accept-clock", self.accept.accept_clock),
        ];
        if let Some((name, _)) = stray.iter().find(|(_, is_given)| *is_given) {
            return Err(format!("{name} is the embedded target's: a server has its own configuration"));
        }
        if self.deadline > Duration::from_mins(1) {
            return Err("over the network a command may take at most 60s".to_owned());
        }
        let key_window_ms = ms(self.key_window).min(WINDOW_MS_MAX);
        let plan = self.network.plan(&self.target, ms(self.deadline), key_window_ms)?;
        if matches!(plan.way, Way::Cards(_)) {
            self.check_cards()?;
        }
        Ok(Some(plan))
    }

    /// Card messages carry authorizations, and their answers no ids and no numbers of events.
    fn check_cards(&self) -> Result<(), String> {
        let is_other = |kind: &Kind| *kind != Kind::Authorize && self.mix.weight(*kind) > 0;
        let stray = [
            ("--mix with anything but authorize", Kind::ALL.iter().any(is_other)),
            ("--duplicates", self.duplicates > 0),
            ("--late-reversals", self.late_reversals > 0),
            ("--partials", self.partials > 0),
            ("--hold-lifetime", self.hold_lifetime.is_some()),
            ("--record-acks", self.record_acks.is_some()),
        ];
        let stray = stray.iter().find(|(_, is_given)| *is_given);
        stray.map_or(Ok(()), |(name, _)| Err(format!("{name} does not go with --cards")))
    }

    fn plan(&self) -> Result<Plan, String> {
        let length = self.duration.unwrap_or(Duration::from_secs(if self.find_max { 5 } else { 30 }));
        if length < Duration::from_secs(1) && self.profile.is_none() {
            return Err("a run is measured for at least 1s".to_owned());
        }
        if length > schedule::LENGTH_MAX || self.warm_up > schedule::LENGTH_MAX {
            return Err(format!(
                "a run and its warm-up take at most {} each",
                units::show_duration(schedule::LENGTH_MAX)
            ));
        }
        if self.late_reversals > 0 && self.mix.weight(Kind::Authorize) == 0 {
            return Err("--late-reversals needs authorizations: give authorize a weight in the mix".to_owned());
        }
        if self.key_window < Duration::from_secs(1) {
            return Err("keys are remembered for at least 1s".to_owned());
        }
        if self.hold_lifetime.is_some_and(|life| life < Duration::from_millis(1)) {
            return Err("a hold lives for at least 1ms".to_owned());
        }
        let workload = WorkloadPlan {
            seed: self.seed,
            accounts: self.accounts,
            payees: self.payees,
            opening_balance: self.opening_balance,
            amount_max: self.amount_max,
            skew: self.skew,
            locality: self.locality,
            mix: self.mix,
            duplicates_per_mille: self.duplicates,
            late_reversals_per_mille: self.late_reversals,
            partials_per_mille: self.partials,
            hold_lifetime: self.hold_lifetime,
        };
        Draw::new(self.skew, self.accounts)?;
        let schedule = self.profile.clone().unwrap_or_else(|| Schedule::constant(self.rate, length));
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        let partitions = self.partitions.map_or(cores, usize::from);
        let journal = match self.journal {
            Journal::Segment => JournalKind::Segment,
            Journal::Sled => JournalKind::Sled,
            Journal::Memory => JournalKind::Memory,
        };
        if partitions == 1 && self.locality == Locality::Across {
            return Err("--locality across needs more than one partition: give --partitions 2 or more".to_owned());
        }
        if journal == JournalKind::Memory && self.data_dir.is_some() {
            return Err("--journal memory keeps nothing: it takes no --data-dir".to_owned());
        }
        if journal != JournalKind::Segment && self.mirror.is_some() {
            return Err("--mirror is a second copy of the segment journal: leave --journal out".to_owned());
        }
        let is_throttled = self.throttle_sync.is_some() || self.throttle_rate.is_some();
        if is_throttled && journal != JournalKind::Segment {
            return Err("--throttle-sync and --throttle-rate need --journal segment".to_owned());
        }
        if self.deadline < Duration::from_millis(1) {
            return Err("a command may take at least 1ms".to_owned());
        }
        let mut plan = Plan {
            workload,
            schedule,
            find_max: self.find_max,
            warm_up: self.warm_up,
            objectives: if self.slo.is_empty() { vec![default_objective()] } else { self.slo.clone() },
            allow_busy: self.allow_busy,
            in_flight: 0,
            embedded: EmbeddedPlan {
                partitions,
                journal,
                checkpoint_interval: self.checkpoint_interval.0.filter(|_| journal != JournalKind::Memory),
                inbox_commands: 0,
                deadline_ms: ms(self.deadline),
                queue_wait_ms_max: 0,
                throttle: is_throttled.then(|| ThrottlePlan {
                    sync: self.throttle_sync.unwrap_or_default(),
                    bytes_per_second: self.throttle_rate,
                }),
                key_window_ms: ms(self.key_window).min(WINDOW_MS_MAX),
                key_bytes: 0,
                authorization_bytes: 0,
                prefault_records: 0,
                segment_bytes: self.segment,
                accept: self.accept,
            },
            network: self.network()?,
            data_dir: self.data_dir.clone(),
            mirror: self.mirror.clone(),
            record_acks: self.record_acks.clone(),
            probes: Probes { disk: self.probe_disk, cpu: self.probe_cpu },
        };
        // A stall of half a second must not overflow the inboxes.
        let rate_max = usize::try_from(plan.rate_max()).unwrap_or(usize::MAX);
        plan.in_flight = self.in_flight.map_or(rate_max.clamp(1024, 1 << 22), |n| n as usize);
        plan.embedded.inbox_commands = self.inbox.map_or((rate_max / 2).clamp(8192, 1 << 20), |n| n as usize);
        // What waited longer than the longest objective is of no use any more.
        let bound_ns = plan.objectives.iter().map(Objective::bound_ns).max().unwrap_or(0);
        plan.embedded.queue_wait_ms_max = ms(Duration::from_nanos(bound_ns)).max(QUEUE_WAIT_MS_MIN);
        plan.set_budgets();
        if self.prefault {
            plan.embedded.prefault_records = plan.commands().min(PREFAULT_RECORDS_MAX);
        }
        Ok(plan)
    }
}

fn ms(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

/// What the engine lets commands wait when nobody configures it, ms.
const QUEUE_WAIT_MS_MIN: u64 = 100;
/// The most that an engine takes memory for ahead.
const PREFAULT_RECORDS_MAX: u64 = 1 << 32;
/// The longest window of keys: a year.
const WINDOW_MS_MAX: u64 = 365 * 86_400_000;

fn default_objective() -> Objective {
    "p99.9<300ms".parse().expect("the default is an objective")
}

fn write(path: &Path, text: &str) -> Result<()> {
    if path == Path::new("-") {
        use std::io::Write as _;
        return std::io::stdout().write_all(text.as_bytes()).context("cannot write to standard output");
    }
    std::fs::write(path, text).with_context(|| format!("cannot write {}", path.display()))
}

/// Files are opened before the run, so that nothing is run in vain; what they hold stays until there is something new.
fn check_writable(paths: &[&Option<PathBuf>]) -> Result<()> {
    for path in paths.iter().filter_map(|path| path.as_deref()).filter(|path| *path != Path::new("-")) {
        let opened = std::fs::OpenOptions::new().create(true).append(true).open(path);
        opened.with_context(|| format!("cannot write {}", path.display()))?;
    }
    Ok(())
}

fn start(args: &RunArgs, plan: &Plan) -> Result<Report> {
    check_writable(&[&args.json, &args.report])?;
    let stop = Arc::new(AtomicBool::new(false));
    let flag = Arc::clone(&stop);
    ctrlc::set_handler(move || {
        if flag.swap(true, Ordering::Relaxed) {
            std::process::exit(3); // asked a second time: at once; what was acknowledged is durable
        }
    })
    .context("cannot listen for Ctrl-C")?;
    let mut display = Display::new(args.quiet);
    let report = run::run(plan, &shown::command_line(), &stop, &mut display);
    display.finish();
    let report = report?;
    if let Some(path) = &args.json {
        let json = serde_json::to_string_pretty(&report).context("a report is JSON")?;
        write(path, &format!("{json}\n"))?;
    }
    if let Some(path) = &args.report {
        write(path, &html::render(&report))?;
    }
    if args.json.as_deref() != Some(Path::new("-")) {
        write(Path::new("-"), &format!("{}\n", summary(&report)))?;
    }
    Ok(report)
}

fn failed(error: &anyhow::Error) -> ExitCode {
    use std::io::Write as _;
    let _ = writeln!(std::io::stderr(), "error: {error:#}"); // nobody listens: the exit code says it
    // As the `tpcore` command: the disk failed.
    ExitCode::from(if error.is::<TargetStopped>() { 6 } else { 3 })
}

/// The whole program.
pub fn main() -> ExitCode {
    let cli = Cli::parse();
    if let Some(Sub::Audit(args)) = &cli.command {
        return match args.audit() {
            Ok(audited) => {
                let _ = write(Path::new("-"), &format!("{audited}\n")); // the exit code says it too
                if audited.is_complete() { ExitCode::SUCCESS } else { ExitCode::from(1) }
            }
            Err(error) => failed(&error),
        };
    }
    let plan = match cli.run.plan() {
        Ok(plan) => plan,
        Err(what) => Cli::command().error(ErrorKind::ValueValidation, what).exit(),
    };
    match start(&cli.run, &plan) {
        Ok(report) if report.verdict == Verdict::Pass => ExitCode::SUCCESS,
        Ok(_) => ExitCode::from(1),
        Err(error) => failed(&error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::FramePlan;

    fn plan(arguments: &str) -> Result<Plan, String> {
        let words = std::iter::once("tp-loadgen").chain(arguments.split_whitespace());
        let cli = Cli::try_parse_from(words).map_err(|error| error.to_string())?;
        cli.run.plan()
    }

    #[test]
    fn the_command_line_holds_together() {
        Cli::command().debug_assert();
        let plan = plan("").expect("no arguments are a run");
        assert_eq!((plan.schedule.rate_max(), plan.schedule.length()), (20_000, Duration::from_secs(30)));
        assert_eq!(plan.objectives, [default_objective()]);
    }

    #[test]
    fn bad_arguments_are_refused_before_anything_starts() {
        let bad = [
            "--rate 0",
            "--rate x",
            "--mix pay=1",
            "--mix capture=1",
            "--skew even",
            "--skew hot:9 --accounts 3",
            "--slo p99",
            "--slo p99<0ms",
            "--duration 0s",
            "--duration 5",
            "--profile jump:1:1s",
            "--profile hold:1:1s --rate 5",
            "--accounts 0",
            "--partitions 0",
            "--partitions 257",
            "--journal paper",
            "--duplicates 51",
            "--duplicates 1.25",
            "--duplicates -1",
            "--checkpoint-interval 1ms",
            "--find-max --profile hold:1:1s",
            "--journal memory --data-dir x",
            "--journal sled --mirror x",
            "--in-flight 0",
            "--hold-lifetime 1us",
            "--key-window 1ms",
            "--segment 1KiB",
            "audit",
            "audit --data-dir x",
            "--target mars",
            "--target https://localhost:1",
            "--target http://localhost",
            "--target http://localhost:1 --data-dir x",
            "--target http://localhost:1 --journal memory",
            "--target http://localhost:1 --deadline 61s",
            "--target http://localhost:1 --batch 501",
            "--cards iso8583://localhost:1",
            "--target http://localhost:1 --links 8",
            "--links 8",
            "--frames tcp://localhost:1",
            "--target http://localhost:1 --frames localhost:1",
            "--target grpc://localhost:1 --frames tcp://localhost:1",
            "--target http://localhost:1 --mix authorize --frames tcp://localhost:1 --cards iso8583://localhost:1",
            "--target grpc://localhost",
            "--target grpc://localhost:1 --mix authorize --cards iso8583://localhost:1",
            "--target http://localhost:1 --mix authorize --cards http://localhost:1",
            "--target http://localhost:1 --mix authorize --cards iso8583://localhost",
            "--target http://localhost:1 --mix authorize --cards iso8583://localhost:1 --layout 2003",
            "--target http://localhost:1 --cards iso8583://localhost:1",
            "--target http://localhost:1 --mix authorize --cards iso8583://localhost:1 --duplicates 5",
            "--target http://localhost:1 --key @/does/not/exist",
            "--key x",
            "audit --target http://localhost:1",
            "audit --target http://localhost:1 --data-dir x --acks y",
            "audit --data-dir x --key y --acks z",
            "stray",
        ];
        for arguments in bad {
            assert!(plan(arguments).is_err(), "{arguments}");
        }
    }

    #[test]
    fn a_server_is_a_target() {
        let plan = plan("--target http://localhost:8700 --key secret --pipeline 4").expect("a run");
        let network = plan.network.expect("over the network");
        assert_eq!((network.endpoint.to_string().as_str(), network.connections), ("http://localhost:8700", 64));
        assert_eq!((network.pipeline, network.batch, network.deadline_ms), (4, 1, 10_000));
    }

    #[test]
    fn a_server_may_be_asked_over_streams_and_frames() {
        let network =
            plan("--target grpc://localhost:8700 --links 3").expect("a run").network.expect("over the network");
        assert_eq!((network.endpoint.to_string().as_str(), network.way), ("http://localhost:8700", Way::Streams(3)));
        let network = plan("--target http://localhost:8700 --frames tcp://[::1]:8790").expect("a run").network;
        let frames = FramePlan { listener: "[::1]:8790".to_owned(), links: 8 };
        assert_eq!(network.expect("over the network").way, Way::Frames(frames));
    }

    #[test]
    fn percentages_have_one_decimal() {
        assert_eq!(["0", "0.1", "12.5", "50"].map(per_mille), [Ok(0), Ok(1), Ok(125), Ok(500)]);
    }
}
