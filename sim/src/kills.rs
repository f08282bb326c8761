//! Real processes, killed: the load generator runs on a real directory with `--record-acks`, is killed at any instant, also while it
//! recovers, and every acknowledgement that its recorder wrote down must be in the journal (P1).
//!
//! Owns the loop and its moments; refuses to know the process ([`crate::generator`]).

use std::path::Path;
use std::time::Duration;

use crate::chance::Chance;
use crate::generator::{Generator, Life, MIXED};

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
    let generator = Generator::new(loadgen, place);
    let mut done = Kills::default();
    for kill in 0..count {
        let told = |wrong: String| format!("kill {kill} of seed {seed}: {wrong}");
        let mut life = start(&generator, kill, seed).map_err(told)?;
        // While it starts, or some time after it was first heard of: the machine may be as slow as it likes.
        let lives = if kill > 0 && chance.one_in(5) {
            life.lives(Duration::from_millis(chance.between(1, 80)))
        } else {
            life.records(0, 1).and_then(|_| life.lives(Duration::from_millis(chance.between(0, 1_200))))
        };
        lives.and_then(|()| life.kill()).map_err(told)?;
        let acknowledged = generator.audit_clear(kill).map_err(told)?;
        done.kills += 1;
        done.acknowledged += acknowledged;
        done.before_service += u64::from(acknowledged == 0);
    }
    for kill in 0..count {
        generator.audit_clear(kill).map_err(|wrong| format!("at the end, kill {kill} of seed {seed}: {wrong}"))?;
    }
    Ok(done)
}

fn start(generator: &Generator, kill: u64, seed: u64) -> Result<Life, String> {
    let seed = (seed + kill).to_string();
    let mut command =
        generator.command(kill, &["--rate", "3k", "--duration", "10m", "--segment", "32MiB", "--seed", &seed]);
    command.args(MIXED);
    generator.start(kill, command)
}
