//! The long figures: simulation, crash images, kills and power cuts in turn, until the time is up.
//!
//! Owns the order of the chunks and the file of results: one line of JSON a chunk, with the commit and what was run, so that a night that
//! was broken off goes on where it stopped, and nothing is run twice for a commit. Refuses to know what a chunk tests.

use std::fs::OpenOptions;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use crate::plan::Case;
use crate::{Runs, cuts, images, kills, run_many};

/// Seeds of one chunk of simulation.
const SEEDS: u64 = 1_000;
/// Recorded runs of one chunk of images.
const RECORDED: u64 = 8;
/// Kills of one chunk.
const KILLS: u64 = 25;
/// Power cuts of one chunk: those of one file system.
const CUTS: u64 = 20;
/// Where the night's seeds begin: the test run has those below.
const FIRST: u64 = 1_000_000;

/// What to run, and where to write it down.
#[derive(Clone, Debug)]
pub struct Night {
    /// How long.
    pub time: Duration,
    /// The file of results; it is added to.
    pub results: PathBuf,
    /// The commit that is tested, as the file names it.
    pub commit: String,
    /// The date, as the file names it.
    pub date: String,
    /// The load generator, for kills and power cuts; `None`: neither.
    pub loadgen: Option<PathBuf>,
    /// Whether the power of a file system can be cut here.
    pub can_cut: bool,
    /// Threads.
    pub jobs: usize,
}

/// What all chunks of a commit came to.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Sum {
    /// Seeds simulated, events in them, faults, starts.
    pub seeds: u64,
    /// Events decided in them.
    pub events: u64,
    /// Replies compared.
    pub replies: u64,
    /// Of these, repeats.
    pub repeated: u64,
    /// Crash images recovered.
    pub images: u64,
    /// Processes killed.
    pub kills: u64,
    /// Times that the power of a real file system was cut.
    pub cuts: u64,
    /// Acknowledged keys audited after kills and cuts.
    pub acknowledged: u64,
    /// Violations.
    pub violations: u64,
}

const FIELDS: [&str; 9] =
    ["seeds", "events", "replies", "repeated", "images", "kills", "cuts", "acknowledged", "violations"];

impl Sum {
    const fn values(&self) -> [u64; 9] {
        let Self { seeds, events, replies, repeated, images, kills, cuts, acknowledged, violations } = *self;
        [seeds, events, replies, repeated, images, kills, cuts, acknowledged, violations]
    }

    fn of(values: [u64; 9]) -> Self {
        let [seeds, events, replies, repeated, images, kills, cuts, acknowledged, violations] = values;
        Self { seeds, events, replies, repeated, images, kills, cuts, acknowledged, violations }
    }

    fn add(&mut self, other: &Self) {
        let mut values = self.values();
        values.iter_mut().zip(other.values()).for_each(|(sum, more)| *sum += more);
        *self = Self::of(values);
    }

    /// As `"seeds":1000,"events":..`.
    fn to_json(self) -> String {
        let fields: Vec<_> =
            FIELDS.iter().zip(self.values()).map(|(name, value)| format!("\"{name}\":{value}")).collect();
        fields.join(",")
    }

    fn from_json(line: &str) -> Self {
        let value = |name: &str| {
            let after = line.split_once(&format!("\"{name}\":"))?.1;
            after[..after.find([',', '}'])?].parse().ok()
        };
        Self::of(FIELDS.map(|name| value(name).unwrap_or(0)))
    }
}

/// What the file says of a commit.
///
/// # Errors
/// The file cannot be read.
pub fn sum_of(results: &Path, commit: &str) -> std::io::Result<Sum> {
    let text = match std::fs::read_to_string(results) {
        Ok(text) => text,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => String::new(),
        Err(error) => return Err(error),
    };
    let mut sum = Sum::default();
    let of_commit = text.lines().filter(|line| line.contains(&format!("\"commit\":\"{commit}\"")));
    of_commit.for_each(|line| sum.add(&Sum::from_json(line)));
    Ok(sum)
}

/// Runs until the time is up, or something is wrong. `say` is told each line.
///
/// # Errors
/// The file of results cannot be read or written.
pub fn run(night: &Night, mut say: impl FnMut(&str)) -> std::io::Result<Sum> {
    let start = Instant::now();
    let mut sum = sum_of(&night.results, &night.commit)?;
    for chunk in 0.. {
        if start.elapsed() >= night.time || sum.violations > 0 {
            break;
        }
        let (what, done, wrong) = match chunk % 5 {
            0 | 2 => simulate(night, FIRST + sum.seeds),
            1 => recover(night, FIRST + sum.images / 2_000),
            3 => kill(night, FIRST + sum.kills),
            _ => cut(night, FIRST + sum.cuts),
        };
        sum.add(&done);
        let line = format!(
            "{{\"date\":\"{}\",\"commit\":\"{}\",\"what\":\"{what}\",{}}}",
            night.date,
            night.commit,
            done.to_json()
        );
        let mut file = OpenOptions::new().create(true).append(true).open(&night.results)?;
        writeln!(file, "{line}")?;
        say(&line);
        for wrong in &wrong {
            say(wrong);
        }
    }
    Ok(sum)
}

type Chunk = (String, Sum, Vec<String>);

fn simulate(night: &Night, first: u64) -> Chunk {
    let like = Case::of(0);
    let runs = Runs { first, count: Some(SEEDS), time: None, like: like.clone(), jobs: night.jobs, twice: false };
    let summary = run_many(&runs);
    let mut wrong: Vec<_> =
        summary.failures.iter().map(|(case, v)| format!("{case}, step {}: {}", v.step, v.what)).collect();
    wrong.extend(summary.missing(&like).iter().map(|name| format!("never reached: {name}")));
    let done = Sum {
        seeds: summary.seeds,
        events: summary.marks.sum("event "),
        replies: summary.marks.sum("outcome "),
        repeated: summary.marks.times("repeated reply"),
        violations: wrong.len() as u64,
        ..Sum::default()
    };
    (format!("seeds {first}..{}", first + SEEDS), done, wrong)
}

fn recover(night: &Night, first: u64) -> Chunk {
    let (images, wrong) = images::recover_many(first..first + RECORDED, night.jobs);
    let done = Sum { images: images.images, violations: wrong.len() as u64, ..Sum::default() };
    (format!("images of runs {first}..{}", first + RECORDED), done, wrong)
}

fn kill(night: &Night, seed: u64) -> Chunk {
    let Some(loadgen) = &night.loadgen else { return ("no kills".into(), Sum::default(), Vec::new()) };
    in_place(format!("kills of seed {seed}"), |place| {
        let done = kills::run(loadgen, place, KILLS, seed)?;
        Ok(Sum { kills: done.kills, acknowledged: done.acknowledged, ..Sum::default() })
    })
}

fn cut(night: &Night, seed: u64) -> Chunk {
    let Some(loadgen) = night.loadgen.as_ref().filter(|_| night.can_cut) else {
        return ("no cuts".into(), Sum::default(), Vec::new());
    };
    in_place(format!("cuts of seed {seed}"), |place| {
        let done = cuts::run(loadgen, place, CUTS, seed)?;
        Ok(Sum { cuts: done.cuts, acknowledged: done.acknowledged, ..Sum::default() })
    })
}

/// Runs in a temporary folder, which stays when something is wrong.
fn in_place(what: String, run: impl FnOnce(&Path) -> Result<Sum, String>) -> Chunk {
    let place = std::env::temp_dir().join(format!("tp-night-{}", std::process::id()));
    let result = std::fs::create_dir_all(&place).map_err(|error| error.to_string()).and_then(|()| run(&place));
    match result {
        Ok(done) => {
            let _ = std::fs::remove_dir_all(&place); // only a temporary folder
            (what, done, Vec::new())
        }
        Err(wrong) => {
            (what, Sum { violations: 1, ..Sum::default() }, vec![format!("see {}: {wrong}", place.display())])
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_run_for_a_commit_is_summed_and_goes_on() {
        let dir = std::env::temp_dir().join(format!("tp-night-test-{}", std::process::id()));
        std::fs::create_dir_all(&dir).expect("a folder");
        let results = dir.join("results.jsonl");
        assert_eq!(sum_of(&results, "abc").expect("no file is no results"), Sum::default());
        let done = Sum { seeds: 1_000, events: 7, kills: 3, cuts: 2, ..Sum::default() };
        let line =
            |commit: &str| format!("{{\"date\":\"d\",\"commit\":\"{commit}\",\"what\":\"w\",{}}}\n", done.to_json());
        std::fs::write(&results, line("abc") + &line("def") + &line("abc")).expect("written");
        let sum = sum_of(&results, "abc").expect("read");
        assert_eq!((sum.seeds, sum.events, sum.kills, sum.cuts, sum.violations), (2_000, 14, 6, 4, 0));
        std::fs::remove_dir_all(&dir).expect("removed");
    }
}
