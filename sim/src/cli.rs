//! The command line of `tp-sim`.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};
use clap::{Args, Parser, Subcommand};

use tp_planted::Bug;

use crate::corruption;
use crate::cuts;
use crate::images;
use crate::kills;
use crate::machine::Copies;
use crate::many::{Runs, Summary, run_many, shrink};
use crate::night;
use crate::overload::{self, Ladder, Speed};
use crate::plan::{Case, Feature};
use crate::planted::hunt;

/// Attacks tpcore on a simulated machine.
#[derive(Debug, Parser)]
#[command(
    name = "tp-sim",
    version,
    after_help = "Examples:
  tp-sim run --seeds 0..1000
  tp-sim run --minutes 10
  tp-sim run --seed 4711 --twice
  tp-sim run --seed 4711 --steps 320 --without rot,leaps"
)]
struct Cli {
    #[command(subcommand)]
    command: Sub,
}

#[derive(Debug, Subcommand)]
enum Sub {
    /// Runs seeds: the engine's own code under one schedule each, held against the oracle
    Run(RunArgs),
    /// Recovers every crash image of recorded runs
    Images(ImagesArgs),
    /// Damages every bit, sector, length and file of a data directory
    Corruption(CorruptionArgs),
    /// Kills real processes of the load generator and audits what they acknowledged
    Kills(RealArgs),
    /// Cuts the power of a real file system (ext4 in an image file; root only) under the load generator, and audits
    Cuts(RealArgs),
    /// Loads a disk of a stated speed beyond what it takes, then lets it stand still, in virtual time
    Overload(OverloadArgs),
    /// Runs the long figures in turn, and adds them to a file of results; goes on where it stopped
    Night(NightArgs),
    /// Plants known bugs, one after the other, and looks for each (needs a build with --features planted)
    Planted(PlantedArgs),
}

#[derive(Debug, Args)]
struct ImagesArgs {
    /// Recorded runs from A up to, but without, B; each has a few thousand images
    #[arg(long, value_name = "A..B", value_parser = parse_range, default_value = "0..10")]
    seeds: (u64, u64),
    /// Threads; the cores by default
    #[arg(long)]
    jobs: Option<usize>,
}

#[derive(Debug, Args)]
struct CorruptionArgs {
    /// Only every so many bits and lengths
    #[arg(long, default_value_t = 1)]
    stride: usize,
    /// With a second copy of the journal, one copy damaged at a time
    #[arg(long)]
    mirror: bool,
    /// Threads; the cores by default
    #[arg(long)]
    jobs: Option<usize>,
}

#[derive(Debug, Args)]
struct RealArgs {
    /// How many
    #[arg(long, default_value_t = 50)]
    count: u64,
    /// Moments and workloads are drawn from it
    #[arg(long, default_value_t = 0)]
    seed: u64,
    /// The load generator; by default the one beside this program
    #[arg(long, value_name = "FILE")]
    loadgen: Option<PathBuf>,
    /// Where its files are made; they stay there when something is wrong
    #[arg(long, value_name = "DIR")]
    place: Option<PathBuf>,
}

#[derive(Debug, Args)]
struct OverloadArgs {
    /// What each sync of the disk costs, µs
    #[arg(long, value_name = "US", default_value_t = 200)]
    sync_us: u64,
    /// How fast it takes the bytes of a sync
    #[arg(long, value_name = "BYTES", default_value_t = 14_000_000, value_parser = clap::value_parser!(u64).range(1..))]
    bytes_per_second: u64,
    /// Loads in percent of what the disk takes
    #[arg(long, value_name = "PERCENT", value_delimiter = ',', default_value = "150,200,500,1000", value_parser = clap::value_parser!(u64).range(1..=10_000))]
    percents: Vec<u64>,
    /// How long each load lasts, and the calm after it, ms
    #[arg(long, value_name = "MS", default_value_t = 1_500, value_parser = clap::value_parser!(u64).range(100..=600_000))]
    length_ms: u64,
    /// How long clients wait, in turn, ms
    #[arg(long, value_name = "MS", value_delimiter = ',', default_value = "10000", value_parser = clap::value_parser!(u64).range(1..=3_600_000))]
    deadlines_ms: Vec<u64>,
    /// Stalls of one sync, ms, each with 5,000 commands a second
    #[arg(long, value_name = "MS", value_delimiter = ',', default_value = "10,100,1000,10000,30000", value_parser = clap::value_parser!(u64).range(1..=3_600_000))]
    stalls_ms: Vec<u64>,
}

#[derive(Debug, Args)]
struct NightArgs {
    /// How long
    #[arg(long)]
    minutes: f64,
    /// The file of results
    #[arg(long, value_name = "FILE", default_value = "sim/results.jsonl")]
    results: PathBuf,
    /// The load generator; by default the one beside this program
    #[arg(long, value_name = "FILE")]
    loadgen: Option<PathBuf>,
    /// No kills of real processes and no power cuts under them
    #[arg(long)]
    no_kills: bool,
    /// Threads; the cores by default
    #[arg(long)]
    jobs: Option<usize>,
}

#[derive(Debug, Args)]
struct PlantedArgs {
    /// Seeds to look in
    #[arg(long, default_value_t = 1_000)]
    seeds: u64,
    /// Only this bug
    #[arg(long)]
    bug: Option<String>,
    /// Threads; the cores by default
    #[arg(long)]
    jobs: Option<usize>,
}

#[derive(Debug, Args)]
struct RunArgs {
    /// One seed
    #[arg(long, conflicts_with_all = ["seeds", "minutes"])]
    seed: Option<u64>,
    /// Seeds from A up to, but without, B
    #[arg(long, value_name = "A..B", value_parser = parse_range, conflicts_with = "minutes")]
    seeds: Option<(u64, u64)>,
    /// As many seeds as so many minutes allow
    #[arg(long)]
    minutes: Option<f64>,
    /// The first seed, with --minutes
    #[arg(long, default_value_t = 0)]
    from: u64,
    /// Steps of each schedule, instead of those drawn
    #[arg(long)]
    steps: Option<u64>,
    /// Features that are off
    #[arg(long, value_delimiter = ',')]
    without: Vec<Feature>,
    /// Threads; the cores by default
    #[arg(long)]
    jobs: Option<usize>,
    /// Run each case twice: both must be the same
    #[arg(long)]
    twice: bool,
    /// Leave a failing case as it is
    #[arg(long)]
    no_shrink: bool,
    /// Show how often each thing was reached
    #[arg(long)]
    marks: bool,
}

fn parse_range(text: &str) -> Result<(u64, u64), String> {
    let (from, to) = text.split_once("..").ok_or("A..B is needed, as in 0..1000")?;
    let number = |text: &str| text.parse::<u64>().map_err(|error| format!("`{text}`: {error}"));
    let (from, to) = (number(from)?, number(to)?);
    if from < to { Ok((from, to)) } else { Err(format!("{from}..{to} holds no seed")) }
}

/// Runs the command line.
#[allow(clippy::print_stderr, reason = "a command line")]
pub fn main() -> ExitCode {
    let cli = Cli::parse();
    let result = match cli.command {
        Sub::Run(args) => run_seeds(&args),
        Sub::Images(args) => Ok(run_images(&args)),
        Sub::Corruption(args) => run_corruption(&args),
        Sub::Kills(args) => run_kills(&args),
        Sub::Cuts(args) => run_cuts(&args),
        Sub::Overload(args) => Ok(run_overload(&args)),
        Sub::Night(args) => run_night(&args),
        Sub::Planted(args) => run_planted(&args),
    };
    result.unwrap_or_else(|error| {
        eprintln!("tp-sim: {error:#}");
        ExitCode::from(2)
    })
}

fn time_of(minutes: f64) -> anyhow::Result<Duration> {
    if minutes > 0.0 && minutes <= 100_000.0 {
        return Ok(Duration::from_secs_f64(minutes * 60.0));
    }
    bail!("--minutes {minutes}: more than 0 is needed, and at most 100,000");
}

#[allow(clippy::print_stdout, reason = "a command line")]
fn run_seeds(args: &RunArgs) -> anyhow::Result<ExitCode> {
    let time = args.minutes.map(time_of).transpose()?;
    let (first, count) = match (args.seed, args.seeds) {
        (Some(seed), _) => (seed, Some(1)),
        (None, Some((from, to))) => (from, Some(to - from)),
        (None, None) if time.is_some() => (args.from, None),
        (None, None) => bail!("--seed, --seeds or --minutes is needed"),
    };
    let jobs = args.jobs.unwrap_or_else(cores);
    let without: BTreeSet<Feature> = args.without.iter().copied().collect();
    let like = Case { seed: 0, steps: args.steps, without };
    let runs = Runs { first, count, time, like, jobs, twice: args.twice };
    let start = Instant::now();
    std::panic::set_hook(Box::new(|_| {})); // a panic is a violation, and shown as one
    let summary = run_many(&runs);
    for (case, violation) in &summary.failures {
        println!("violated by {case}, step {}: {}", violation.step, violation.what);
    }
    if let Some((case, violation)) = summary.failures.first().filter(|_| !args.no_shrink) {
        let (case, violation) = shrink(case, violation);
        println!("smaller: {case}, step {}: {}", violation.step, violation.what);
    }
    if args.marks {
        summary.marks.all().for_each(|(name, times)| println!("{times:>12}  {name}"));
    }
    let missing = summary.missing(&runs.like);
    for name in &missing {
        println!("never reached: {name}");
    }
    println!("{}", last_line(&summary, missing.len(), start.elapsed()));
    let is_good = summary.failures.is_empty() && missing.is_empty();
    Ok(if is_good { ExitCode::SUCCESS } else { ExitCode::from(1) })
}

fn cores() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from)
}

#[allow(clippy::print_stdout, reason = "a command line")]
fn run_images(args: &ImagesArgs) -> ExitCode {
    let start = Instant::now();
    let (done, wrong) = images::recover_many(args.seeds.0..args.seeds.1, args.jobs.unwrap_or_else(cores));
    for wrong in &wrong {
        println!("violated: {wrong}");
    }
    println!(
        "{} images, {} violations: {} crashed again inside recovery, {} ambiguous, {} tails cut, {} from a checkpoint, in {:.1} s",
        done.images,
        wrong.len(),
        done.cut_again,
        done.ambiguous,
        done.tails,
        done.from_checkpoint,
        start.elapsed().as_secs_f64()
    );
    if wrong.is_empty() { ExitCode::SUCCESS } else { ExitCode::from(1) }
}

#[allow(clippy::print_stdout, reason = "a command line")]
fn run_corruption(args: &CorruptionArgs) -> anyhow::Result<ExitCode> {
    if args.stride == 0 {
        bail!("--stride 0: at least 1 is needed");
    }
    std::panic::set_hook(Box::new(|_| {})); // a panic is a violation, and shown as one
    let start = Instant::now();
    let copies = if args.mirror { Copies::Two } else { Copies::One };
    let sweep = corruption::sweep(copies, args.stride, args.jobs.unwrap_or_else(cores)).map_err(anyhow::Error::msg)?;
    for wrong in &sweep.wrong {
        println!("violated: {wrong}");
    }
    let mut sum = corruption::Shown::default();
    println!(
        "{:<11} {:<19} {:>9} {:>9} {:>9} {:>9} {:>9}",
        "file", "damage", "refused", "reported", "repaired", "unneeded", "wrong"
    );
    for ((file, damage), shown) in &sweep.shown {
        let corruption::Shown { refused, reported, repaired, unneeded, wrong } = *shown;
        println!("{file:<11} {damage:<19} {refused:>9} {reported:>9} {repaired:>9} {unneeded:>9} {wrong:>9}");
        sum.repaired += repaired;
        sum.refused += refused;
        sum.reported += reported;
        sum.unneeded += unneeded;
        sum.wrong += wrong;
    }
    println!(
        "{} damages: {} refused, {} reported with the same state, {} repaired from the other copy, {} of a missing file that is not needed, {} wrong, in {:.1} s",
        sum.refused + sum.reported + sum.repaired + sum.unneeded + sum.wrong,
        sum.refused,
        sum.reported,
        sum.repaired,
        sum.unneeded,
        sum.wrong,
        start.elapsed().as_secs_f64()
    );
    Ok(if sum.wrong == 0 { ExitCode::SUCCESS } else { ExitCode::from(1) })
}

/// The load generator beside this program.
fn beside() -> std::io::Result<PathBuf> {
    Ok(std::env::current_exe()?.with_file_name("tp-loadgen"))
}

/// The first line that a program prints.
fn first_line(program: &str, args: &[&str]) -> anyhow::Result<String> {
    let output = std::process::Command::new(program).args(args).output().with_context(|| program.to_owned())?;
    let text = String::from_utf8_lossy(&output.stdout);
    text.lines().next().map(str::to_owned).with_context(|| format!("{program} says nothing"))
}

#[allow(clippy::print_stdout, reason = "a command line")]
fn run_night(args: &NightArgs) -> anyhow::Result<ExitCode> {
    let time = time_of(args.minutes)?;
    let commit = first_line("git", &["describe", "--always", "--dirty", "--abbrev=12"])?;
    let date = first_line("date", &["+%F"])?;
    let loadgen = args.loadgen.clone().map_or_else(beside, Ok).context("where this program is")?;
    if !args.no_kills && !loadgen.exists() {
        bail!("{} is not there: build it (cargo build --release -p tp-loadgen), or use --no-kills", loadgen.display());
    }
    std::panic::set_hook(Box::new(|_| {})); // a panic is a violation, and shown as one
    let jobs = args.jobs.unwrap_or_else(cores);
    let loadgen = (!args.no_kills).then_some(loadgen);
    let can_cut = loadgen.as_ref().is_some_and(|_| match can_cut() {
        Ok(()) => true,
        Err(reason) => {
            println!("no power cuts: {reason}");
            false
        }
    });
    let night = night::Night { time, results: args.results.clone(), commit, date, loadgen, can_cut, jobs };
    let sum = night::run(&night, |line| println!("{line}")).with_context(|| args.results.display().to_string())?;
    println!(
        "commit {}: {} seeds, {} events, {} replies ({} repeated), {} images, {} kills, {} power cuts ({} acknowledged keys), {} violations",
        night.commit,
        sum.seeds,
        sum.events,
        sum.replies,
        sum.repeated,
        sum.images,
        sum.kills,
        sum.cuts,
        sum.acknowledged,
        sum.violations
    );
    Ok(if sum.violations == 0 { ExitCode::SUCCESS } else { ExitCode::from(1) })
}

#[allow(clippy::print_stdout, reason = "a command line")]
fn run_overload(args: &OverloadArgs) -> ExitCode {
    let speed = Speed { latency_us: args.sync_us, bytes_per_second: args.bytes_per_second };
    let plan = Ladder {
        speed,
        percents: args.percents.clone(),
        length_us: args.length_ms * 1_000,
        deadlines_ms: args.deadlines_ms.clone(),
        heap: None,
    };
    let climbed = overload::ladder(&plan).map(|climbed| println!("{}", overload::table(&climbed)));
    let mut wrong: Vec<_> = climbed.err().into_iter().collect();
    for stall_ms in &args.stalls_ms {
        let stalled = overload::stalled(speed, stall_ms * 1_000, STALL_RATE).map(|stalled| println!("{stalled}"));
        wrong.extend(stalled.err().map(|wrong| format!("a stall of {stall_ms} ms: {wrong}")));
    }
    for wrong in &wrong {
        println!("violated: {wrong}");
    }
    if wrong.is_empty() { ExitCode::SUCCESS } else { ExitCode::from(1) }
}

/// Commands a second around a stall.
const STALL_RATE: u64 = 5_000;

/// Runs a loop of real processes in a folder of its own, and says in `line` what it came to.
#[allow(clippy::print_stdout, reason = "a command line")]
fn run_real<T>(
    args: &RealArgs,
    folder: &str,
    run: impl FnOnce(&Path, &Path) -> Result<T, String>,
    line: impl FnOnce(&T) -> String,
) -> anyhow::Result<ExitCode> {
    let loadgen = args.loadgen.clone().map_or_else(beside, Ok).context("where this program is")?;
    let place = args.place.clone().unwrap_or_else(std::env::temp_dir).join(format!("{folder}-{}", std::process::id()));
    std::fs::create_dir_all(&place).with_context(|| place.display().to_string())?;
    let start = Instant::now();
    match run(&loadgen, &place) {
        Ok(done) => {
            std::fs::remove_dir_all(&place).with_context(|| place.display().to_string())?;
            println!("{}, in {:.1} s", line(&done), start.elapsed().as_secs_f64());
            Ok(ExitCode::SUCCESS)
        }
        Err(wrong) => {
            println!("violated, see {}: {wrong}", place.display());
            Ok(ExitCode::from(1))
        }
    }
}

fn run_kills(args: &RealArgs) -> anyhow::Result<ExitCode> {
    let run = |loadgen: &Path, place: &Path| kills::run(loadgen, place, args.count, args.seed);
    run_real(args, "tp-kills", run, |done| {
        let kills::Kills { kills, before_service, acknowledged } = done;
        format!(
            "{kills} kills, 0 lost: {acknowledged} acknowledged keys in the journal, {before_service} kills before anything was acknowledged"
        )
    })
}

/// Whether the power of a file system can be cut on this machine; if not, why.
fn can_cut() -> Result<(), String> {
    let place = std::env::temp_dir().join(format!("tp-probe-{}", std::process::id()));
    let possible = cuts::possible(&place);
    let _ = std::fs::remove_dir_all(&place); // only a temporary folder
    possible
}

fn run_cuts(args: &RealArgs) -> anyhow::Result<ExitCode> {
    can_cut().map_err(|reason| anyhow::anyhow!("the power of a file system cannot be cut here: {reason}"))?;
    let run = |loadgen: &Path, place: &Path| cuts::run(loadgen, place, args.count, args.seed);
    run_real(args, "tp-cuts", run, |done| {
        let cuts::Cuts { cuts, before_service, acknowledged, torn, ambiguous, file_systems } = done;
        format!(
            "{cuts} cuts, 0 lost: {acknowledged} acknowledged keys in the journal, {before_service} cuts before anything was acknowledged, {torn} torn ends cut, {ambiguous} ambiguous ends accepted, {file_systems} file systems"
        )
    })
}

#[allow(clippy::print_stdout, reason = "a command line")]
fn run_planted(args: &PlantedArgs) -> anyhow::Result<ExitCode> {
    if !cfg!(feature = "planted") {
        bail!("no bug is compiled in: cargo run --release -p tp-sim --features planted -- planted");
    }
    std::panic::set_hook(Box::new(|_| {})); // a panic is a violation, and shown as one
    let chosen = |bug: &&Bug| args.bug.as_ref().is_none_or(|name| name == bug.name());
    let bugs: Vec<Bug> = Bug::ALL.iter().filter(chosen).copied().collect();
    if bugs.is_empty() {
        bail!(
            "no bug of that name; there are {}",
            Bug::ALL.iter().map(|bug| bug.name()).collect::<Vec<_>>().join(", ")
        );
    }
    let (start, mut missed) = (Instant::now(), 0);
    for bug in &bugs {
        let found = hunt(*bug, args.seeds, args.jobs.unwrap_or_else(cores));
        let seeds = found.seeds.map_or_else(|| "NOT FOUND".to_owned(), |seeds| format!("seed {}", seeds - 1));
        missed += usize::from(found.seeds.is_none());
        println!("{:<24} {seeds:<10} {}\n{:<35} {:.160}", bug.name(), bug.story(), "", found.what);
    }
    println!("{} bugs planted, {missed} not found, in {:.1} s", bugs.len(), start.elapsed().as_secs_f64());
    Ok(if missed == 0 { ExitCode::SUCCESS } else { ExitCode::from(1) })
}

fn last_line(summary: &Summary, missing: usize, took: Duration) -> String {
    let sum = |prefix: &str| summary.marks.sum(prefix);
    format!(
        "{} seeds, {} violations, {missing} marks missing: {} events, {} replies ({} repeated), {} starts, {} faults, in {:.1} s",
        summary.seeds,
        summary.failures.len(),
        sum("event "),
        sum("outcome "),
        summary.marks.times("repeated reply"),
        sum("open after"),
        sum("fault "),
        took.as_secs_f64(),
    )
}
