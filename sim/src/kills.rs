//! Real processes, killed: the load generator runs on a real directory with `--record-acks`, is killed at any instant, also while it
//! recovers, and every acknowledgement that its recorder wrote down must be in the journal (P1).
//!
//! Owns the loop and its moments; refuses to know what the audit tests: that is `tp-loadgen audit`.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use crate::chance::Chance;

/// What a loop came to.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Kills {
    /// Processes killed.
    pub kills: u64,
    /// Of these, before anything was acknowledged: in the midst of a recovery or a start.
    pub before_service: u64,
    /// Acknowledged keys audited.
    pub acknowledged: u64,
}

/// Kills `count` processes on one directory below `place`, and audits after each, and all of them at the end.
///
/// # Errors
/// What the audit found missing or changed, or what could not be run.
pub fn run(loadgen: &Path, place: &Path, count: u64, seed: u64) -> Result<Kills, String> {
    let mut chance = Chance::of(seed, "kills");
    let data = place.join("data");
    let mut done = Kills::default();
    let mut records: Vec<PathBuf> = Vec::new();
    for kill in 0..count {
        let acks = place.join(format!("acks-{kill}"));
        let mut child = start(loadgen, &data, &acks, seed + kill)?;
        let lives = if kill > 0 && chance.one_in(5) { chance.between(1, 80) } else { chance.between(400, 1_800) };
        let until = Instant::now() + Duration::from_millis(lives);
        while Instant::now() < until {
            if let Some(status) = child.try_wait().map_err(|error| error.to_string())? {
                return Err(format!("kill {kill}: it ended by itself: {status}"));
            }
            std::thread::sleep(Duration::from_millis(chance.between(1, 10)));
        }
        child.kill().and_then(|()| child.wait()).map_err(|error| error.to_string())?;
        done.kills += 1;
        let acknowledged = if acks.exists() && data.join("identity").exists() {
            audit(loadgen, &data, &acks).map_err(|wrong| format!("after kill {kill} of seed {seed}: {wrong}"))?
        } else {
            0
        };
        done.acknowledged += acknowledged;
        done.before_service += u64::from(acknowledged == 0);
        if acknowledged > 0 {
            records.push(acks);
        }
    }
    for acks in records {
        audit(loadgen, &data, &acks).map_err(|wrong| format!("at the end, {}: {wrong}", acks.display()))?;
    }
    Ok(done)
}

fn start(loadgen: &Path, data: &Path, acks: &Path, seed: u64) -> Result<Child, String> {
    let mut command = Command::new(loadgen);
    command
        .args(["--rate", "3k", "--duration", "10m", "--warm-up", "0s", "--accounts", "200", "--duplicates", "10"])
        .args(["--late-reversals", "5", "--checkpoint-interval", "1s", "--mix"])
        .args(["authorize=50,capture=25,void=5,refund=5,transfer=5,lookup=10", "--seed", &seed.to_string()])
        .arg("--data-dir")
        .arg(data)
        .arg("--record-acks")
        .arg(acks)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null());
    command.spawn().map_err(|error| format!("{}: {error}", loadgen.display()))
}

/// Returns how many acknowledged keys the journal holds: all of them.
fn audit(loadgen: &Path, data: &Path, acks: &Path) -> Result<u64, String> {
    let output = Command::new(loadgen)
        .arg("audit")
        .arg("--data-dir")
        .arg(data)
        .arg("--acks")
        .arg(acks)
        .output()
        .map_err(|error| format!("{}: {error}", loadgen.display()))?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
    if !output.status.success() {
        return Err(format!("the audit fails ({}): {text}", output.status));
    }
    let words: Vec<&str> = text.split_whitespace().collect();
    let count = words.iter().position(|word| *word == "acknowledged").and_then(|at| words.get(at + 1));
    count.and_then(|count| count.replace(',', "").parse().ok()).ok_or_else(|| format!("the audit says: {text}"))
}
