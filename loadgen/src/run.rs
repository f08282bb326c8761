//! One run from beginning to end: directory, accounts, load, checks, report.
//!
//! Owns the order of the steps and what counts as a failure; refuses to know how figures are shown.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::{Context as _, Result, bail};
use tpcore::Time;

use crate::acks::AckRecorder;
use crate::display::Display;
use crate::driver::{Drive, Driven, drive};
use crate::embedded::{EXCHANGES, Embedded};
use crate::network::Network;
use crate::plan::{NetworkPlan, Plan, ThrottlePlan, Way};
use crate::recorder::latency;
use crate::report::{Machine, MoneyCheck, Report, SloResult, Trial, Verdict};
use crate::schedule::Schedule;
use crate::slo::Objective;
use crate::target::{Progress, Stand, Target};
use crate::units::{self, count, show_duration};
use crate::workload::Workload;
use crate::{machine, money, setup};

/// Of what was offered, so much is to be achieved: 99 %.
const ACHIEVED_PER_CENT: u64 = 99;
/// A search ends when the highest rate that passed and the lowest that failed lie so close together, percent.
const SEARCH_PER_CENT: u64 = 5;

/// What one schedule gave, judged.
struct Judged {
    driven: Driven,
    schedule: Schedule,
    slo: Vec<SloResult>,
    failures: Vec<String>,
}

/// The data directory of a run, removed afterwards when it is temporary.
enum Place {
    Given(PathBuf),
    Temporary(tempfile::TempDir),
}

impl Place {
    fn of(plan: &Plan) -> Result<Self> {
        match &plan.data_dir {
            Some(path) => {
                make(path)?;
                Ok(Self::Given(path.clone()))
            }
            None => Ok(Self::Temporary(tempfile::Builder::new().prefix("tp-loadgen-").tempdir()?)),
        }
    }

    fn of_mirror(plan: &Plan) -> Result<Option<Self>> {
        let Some(path) = &plan.mirror else { return Ok(None) };
        make(path)?;
        Ok(Some(match &plan.data_dir {
            Some(_) => Self::Given(path.clone()),
            None => Self::Temporary(tempfile::Builder::new().prefix("tp-loadgen-mirror-").tempdir_in(path)?),
        }))
    }

    /// Removes it when it is temporary, and waits until the file system is through with that: discarding gigabytes in the
    /// background makes the next run's syncs wait for hundreds of milliseconds.
    fn remove(self) -> Result<()> {
        let Self::Temporary(directory) = self else { return Ok(()) };
        let path = directory.path().to_owned();
        let parent = path.parent().map(std::fs::File::open).transpose()?;
        directory.close().with_context(|| format!("cannot remove {}", path.display()))?;
        parent.map_or(Ok(()), |parent| Ok(rustix::fs::syncfs(parent)?))
    }

    fn path(&self) -> &Path {
        match self {
            Self::Given(path) => path,
            Self::Temporary(directory) => directory.path(),
        }
    }
}

fn make(path: &Path) -> Result<()> {
    std::fs::create_dir_all(path).with_context(|| format!("cannot make {}", path.display()))
}

/// Refuses what cannot end well: too little space or memory.
fn check_room(plan: &Plan, path: &Path) -> Result<()> {
    let gib = |bytes: u64| format!("{}.{} GiB", bytes >> 30, (bytes >> 20) % 1024 * 10 / 1024);
    let (needed, free) = (plan.disk_bytes(), machine::available_space_bytes(path)?);
    if needed > free {
        bail!(
            "the run may need {} of space and {} has {}: use another --data-dir (or TMPDIR), a lower rate or a shorter run",
            gib(needed),
            path.display(),
            gib(free)
        );
    }
    let needed = plan.memory_bytes();
    if let Some(free) = machine::available_memory_bytes().filter(|free| needed > *free) {
        bail!(
            "the run may need {} of memory and {} are left: use a lower rate, a shorter run, fewer accounts or a shorter --key-window",
            gib(needed),
            gib(free)
        );
    }
    Ok(())
}

/// Runs a plan. `stop` ends it early: what was measured until then is reported.
///
/// # Errors
/// When it cannot start or does not come to an end. Missed objectives are no error: they are in the report.
pub fn run(plan: &Plan, command: &str, stop: &AtomicBool, display: &mut Display) -> Result<Report> {
    if let Some(network) = &plan.network {
        let target = Box::new(Network::open(network)?);
        let cpu = plan.probes.cpu.then(machine::probe_cpu);
        let machine = Machine { file_system: String::new(), ..machine::describe(Path::new(".")) };
        return Ok(Report { cpu, ..run_on(target, machine, plan, command, stop, display)? });
    }
    let (place, mirror) = (Place::of(plan)?, Place::of_mirror(plan)?);
    check_room(plan, place.path())?;
    let mirror_path = mirror.as_ref().map(Place::path);
    mirror_path.map_or(Ok(()), |path| check_room(plan, path))?;
    let probe = || machine::probe_disk(place.path()).context("the disk could not be probed");
    let (disk, cpu) = (plan.probes.disk.then(probe).transpose()?, plan.probes.cpu.then(machine::probe_cpu));
    let target = Box::new(Embedded::open(&plan.embedded, place.path(), mirror_path)?);
    let report = run_on(target, machine::describe(place.path()), plan, command, stop, display)?;
    let report = Report { disk, cpu, ..report };
    mirror.map_or(Ok(()), Place::remove)?;
    place.remove()?;
    Ok(report)
}

fn run_on(
    target: Box<dyn Target>,
    machine: Machine,
    plan: &Plan,
    command: &str,
    stop: &AtomicBool,
    display: &mut Display,
) -> Result<Report> {
    let workload =
        Workload::new(plan.workload, target.key_window_ms(), target.placement()).map_err(anyhow::Error::msg)?;
    let acks = plan.record_acks.as_deref().map(AckRecorder::create).transpose()?;
    let acks = acks.map(|acks| acks.of_tenant(target.tenant()));
    let opening = target.opening();
    display.say(&format!("preparing {} accounts", count(plan.workload.accounts)));
    let given = setup::prepare(&*target, &plan.workload, stop, &mut |per_mille| display.preparing(per_mille));
    let given = given.map_err(|error| target.fault().unwrap_or(error))?;
    display.prepared(given);
    let mut running = Running::new(plan, target, workload, acks, stop)?;
    let (judged, trials) = if plan.find_max {
        running.search(display)?
    } else {
        (running.attempt(&plan.schedule, plan.warm_up, display)?, Vec::new())
    };
    let journal_rss = (running.target.progress().journal_bytes, machine::resident_bytes());
    display.say("checking the money");
    let (money, transport) = running.finish()?;
    Ok(Report { transport, opening, ..report(plan, command, machine, judged, trials, money, journal_rss) })
}

/// A target with accounts, between two schedules.
struct Running<'a> {
    plan: &'a Plan,
    target: Box<dyn Target>,
    workload: Workload,
    acks: Option<AckRecorder>,
    stop: &'a AtomicBool,
    /// Where the money stood before the first schedule.
    before: Stand,
}

impl<'a> Running<'a> {
    fn new(
        plan: &'a Plan,
        target: Box<dyn Target>,
        mut workload: Workload,
        acks: Option<AckRecorder>,
        stop: &'a AtomicBool,
    ) -> Result<Self> {
        let before = target.stand(&plan.workload)?;
        if matches!(before, Stand::Accounts(_)) {
            workload.keep_accounts();
        }
        Ok(Self { plan, target, workload, acks, stop, before })
    }

    /// Runs one schedule and judges it.
    fn attempt(&mut self, schedule: &Schedule, warm_up: Duration, display: &mut Display) -> Result<Judged> {
        let Self { plan, target, workload, acks, stop, .. } = self;
        let shown: Mutex<Progress> = Mutex::default();
        let is_over = AtomicBool::new(false);
        display.begin(schedule, warm_up);
        let grace = plan.objectives.iter().map(Objective::bound_ns).max().unwrap_or(0);
        let driven = std::thread::scope(|scope| {
            let _over = Over(&is_over);
            // Asking the target takes it a turn, so the driver does not wait for it.
            scope.spawn(|| {
                while !is_over.load(Ordering::Relaxed) {
                    let progress = target.progress();
                    *shown.lock().unwrap_or_else(PoisonError::into_inner) = progress;
                    std::thread::sleep(SAMPLE);
                }
            });
            drive(
                workload,
                Drive {
                    target: &**target,
                    schedule,
                    warm_up,
                    in_flight: plan.in_flight,
                    stop,
                    progress: &|| *shown.lock().unwrap_or_else(PoisonError::into_inner),
                    each_second: &mut |second| display.second(second),
                    acks: acks.as_mut(),
                    grace: Duration::from_nanos(grace),
                },
            )
        });
        let driven = driven.map_err(|error| target.fault().unwrap_or(error))?;
        Ok(judge(plan, schedule, driven))
    }

    /// Doubles the rate until it fails, then halves the distance between what passed and what failed. What comes back is the
    /// highest that passed, or the first where none did.
    fn search(&mut self, display: &mut Display) -> Result<(Judged, Vec<Trial>)> {
        let (mut passed, mut failed): (Option<Judged>, Option<u64>) = (None, None);
        let (mut rate, mut trials) = (self.plan.schedule.rate_max(), Vec::new());
        let length = self.plan.schedule.length();
        let mut first_failed = None;
        loop {
            let schedule = Schedule::constant(rate, length);
            let judged = self.attempt(&schedule, self.plan.warm_up, display)?;
            let trial = trial(rate, &judged);
            display.trial(&trial);
            let (has_passed, is_stopped) = (trial.passed, judged.driven.ended_early);
            trials.push(trial);
            if has_passed {
                passed = Some(judged);
            } else {
                failed = Some(failed.map_or(rate, |known| known.min(rate)));
                first_failed.get_or_insert(judged);
            }
            let low = passed.as_ref().map(|judged| judged.schedule.rate_max());
            rate = match (low, failed) {
                _ if is_stopped => break,
                (Some(low), None) if low >= units::RATE_MAX / 2 => break,
                (Some(low), None) => low * 2,
                (None, Some(high)) if high / 2 == 0 => break,
                (None, Some(high)) => high / 2,
                (Some(low), Some(high)) if (high - low) * 100 <= high * SEARCH_PER_CENT || high - low <= 1 => break,
                (Some(low), Some(high)) => low.midpoint(high),
                (None, None) => break,
            };
        }
        let mut judged = passed.or(first_failed).context("no rate was tried")?;
        judged.driven.ended_early |= self.stop.load(Ordering::Relaxed);
        Ok((judged, trials))
    }

    /// Checks the money and closes the target. The checks, and what became of connections.
    fn finish(self) -> Result<(Vec<MoneyCheck>, BTreeMap<String, u64>)> {
        let Self { target, workload, acks, before, .. } = self;
        let mut checks = target.compare(&workload, &before)?;
        if let Some(acks) = acks {
            acks.finish()?;
        }
        let transport = target.transport();
        checks.extend(target.close()?.as_ref().and_then(money::compare_closing));
        Ok((checks, transport))
    }
}

/// Ends the sampler with the run, however that ends.
struct Over<'a>(&'a AtomicBool);

impl Drop for Over<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// How often the target is asked what it shows of itself.
const SAMPLE: Duration = Duration::from_millis(250);

#[allow(clippy::cast_precision_loss, reason = "rates for a report")]
fn per_second(count: u64, ns: u64) -> f64 {
    if ns == 0 { 0.0 } else { count as f64 * 1e9 / ns as f64 }
}

fn judge(plan: &Plan, schedule: &Schedule, driven: Driven) -> Judged {
    let recorder = &driven.recorder;
    let slo: Vec<_> = plan.objectives.iter().map(|objective| objective.judge(recorder.latencies())).collect();
    let [sent, _, busy, undecided] = recorder.counts();
    let mut failures = Vec::new();
    for missed in slo.iter().filter(|result| !result.met) {
        failures.push(format!("{} was missed: {}", missed.objective, units::latency(missed.measured_ns)));
    }
    if recorder.timely() * 100 < sent * ACHIEVED_PER_CENT {
        let (achieved, offered) = (count(recorder.timely()), count(sent));
        failures
            .push(format!("less than {ACHIEVED_PER_CENT} % of what was offered was achieved: {achieved} of {offered}"));
    }
    if busy > 0 && !plan.allow_busy {
        failures.push(format!("{} commands were answered busy", count(busy)));
    }
    if undecided > 0 {
        failures.push(format!("{} commands were not decided in time", count(undecided)));
    }
    if sent == 0 {
        failures.push("nothing was measured".to_owned());
    }
    Judged { driven, schedule: schedule.clone(), slo, failures }
}

fn trial(rate_per_s: u64, judged: &Judged) -> Trial {
    let recorder = &judged.driven.recorder;
    Trial {
        rate_per_s,
        achieved_per_s: per_second(recorder.replies_within(), judged.driven.measured_ns),
        latency_ns: latency(recorder.latencies()),
        passed: judged.failures.is_empty() && !judged.driven.ended_early,
        failures: judged.failures.clone(),
    }
}

fn report(
    plan: &Plan,
    command: &str,
    machine: Machine,
    judged: Judged,
    trials: Vec<Trial>,
    money: Vec<MoneyCheck>,
    (journal_bytes, rss_bytes): (u64, u64),
) -> Report {
    let Judged { driven, schedule, slo, mut failures } = judged;
    let Driven { recorder, measured_ns, ended_early, started } = driven;
    let money_ok = money.iter().all(|check| check.ok);
    failures.extend(money.iter().filter(|check| !check.ok).map(|check| format!("the money is wrong: {}", check.name)));
    let [sent, completed, busy, _] = recorder.counts();
    Report {
        tool: concat!("tp-loadgen ", env!("CARGO_PKG_VERSION")).to_owned(),
        started: rfc3339(started),
        command: command.to_owned(),
        machine,
        seed: plan.workload.seed,
        configuration: configuration(plan, &schedule),
        verdict: if failures.is_empty() { Verdict::Pass } else { Verdict::Fail },
        failures,
        ended_early,
        measured_s: per_second(measured_ns, 1_000_000_000) / 1e9,
        offered_per_s: per_second(sent, measured_ns),
        achieved_per_s: per_second(recorder.replies_within(), measured_ns),
        sent,
        completed,
        busy,
        outcomes: recorder.outcomes(),
        latency_ns: latency(recorder.latencies()),
        send_delay_ns: recorder.send_delay(),
        per_command: recorder.per_command(),
        curve: recorder.curve(),
        series: recorder.series().to_vec(),
        slo,
        trials,
        money_ok,
        money,
        transport: BTreeMap::new(),
        rss_bytes,
        journal_bytes,
        opening: None,
        disk: None,
        cpu: None,
    }
}

fn configuration(plan: &Plan, schedule: &Schedule) -> BTreeMap<String, String> {
    let workload = &plan.workload;
    let optional = |duration: Option<Duration>, none: &str| duration.map_or(none.to_owned(), show_duration);
    let per_mille = |n: u32| format!("{}.{} %", n / 10, n % 10);
    let entries = [
        ("schedule", schedule.to_string()),
        ("warm-up", show_duration(plan.warm_up)),
        ("accounts", count(workload.accounts)),
        ("payees", count(workload.payees)),
        ("opening balance", workload.opening_balance.to_string()),
        ("amounts", format!("1 to {}", workload.amount_max)),
        ("skew", workload.skew.to_string()),
        ("locality of payees", workload.locality.to_string()),
        ("mix", workload.mix.to_string()),
        ("duplicates", per_mille(workload.duplicates_per_mille)),
        ("late reversals", per_mille(workload.late_reversals_per_mille)),
        ("partial approvals", per_mille(workload.partials_per_mille)),
        ("hold lifetime", optional(workload.hold_lifetime, "the ledger's")),
        ("in flight at most", count(plan.in_flight as u64)),
    ];
    let target = plan.network.as_ref().map_or_else(|| embedded_entries(plan), network_entries);
    entries.into_iter().chain(target).map(|(name, value)| (name.to_owned(), value)).collect()
}

fn network_entries(network: &NetworkPlan) -> Vec<(&'static str, String)> {
    vec![
        ("target", network.endpoint.to_string()),
        ("connections", count(network.connections as u64)),
        ("pipeline", format!("{} requests a connection", network.pipeline)),
        ("batch", if network.batch == 1 { "no".to_owned() } else { format!("up to {} commands", network.batch) }),
        ("deadline", show_duration(Duration::from_millis(network.deadline_ms))),
        ("key window, at least", show_duration(Duration::from_millis(network.key_window_ms))),
        (
            "commands go",
            match &network.way {
                Way::Http => "as requests".to_owned(),
                Way::Streams(streams) => format!("over {streams} gRPC streams"),
                Way::Cards(cards) => {
                    format!("as card messages to {} over {} links, {}", cards.listener, cards.links, cards.layout)
                }
                Way::Frames(frames) => format!("as frames to {} over {} links", frames.listener, frames.links),
            },
        ),
    ]
}

fn embedded_entries(plan: &Plan) -> Vec<(&'static str, String)> {
    let embedded = &plan.embedded;
    let interval = embedded.checkpoint_interval;
    vec![
        ("target", "embedded".to_owned()),
        ("partitions", embedded.partitions.to_string()),
        ("journal", format!("{:?}", embedded.journal).to_lowercase()),
        ("checkpoint interval", interval.map_or_else(|| "off".to_owned(), show_duration)),
        ("segment", format!("{} MiB", embedded.segment_bytes >> 20)),
        ("records prefaulted", count(embedded.prefault_records)),
        ("exchanges at a time", count(EXCHANGES.into())),
        ("inbox of a partition", count(embedded.inbox_commands as u64)),
        ("deadline", show_duration(Duration::from_millis(embedded.deadline_ms))),
        ("wait of a queue that stands", show_duration(Duration::from_millis(embedded.queue_wait_ms_max))),
        ("throttle", embedded.throttle.map_or_else(|| "none".to_owned(), show_throttle)),
        ("key window", show_duration(Duration::from_millis(embedded.key_window_ms))),
        ("mirror", if plan.mirror.is_some() { "yes" } else { "no" }.to_owned()),
        ("data directory", if plan.data_dir.is_some() { "given" } else { "temporary" }.to_owned()),
    ]
}

fn show_throttle(plan: ThrottlePlan) -> String {
    let rate = plan.bytes_per_second.map_or_else(String::new, |rate| format!(", {} bytes a second", count(rate)));
    format!("{} a sync{rate}", show_duration(plan.sync))
}

fn rfc3339(time: SystemTime) -> String {
    let since = time.duration_since(UNIX_EPOCH).unwrap_or_default();
    Time(u64::try_from(since.as_millis()).unwrap_or(0)).to_string()
}
