//! Real power cuts: the load generator runs on an ext4 of its own, with its acknowledgements recorded elsewhere; the file system is cut
//! off from its image at any instant, also while the engine recovers; then it is mounted again, and every acknowledgement must be in
//! the journal (P1, P9).
//!
//! Owns the loop and its moments; refuses to know the process ([`crate::generator`]) and the file system ([`crate::file_system`]).
//!
//! ```text
//!  start ── some time ── cut ── ends by itself, code 6 ── mount again ── audit ──┬── complete ──────────────────────────► next
//!                                                                                └── ambiguous ── --accept-tail ── audit ─► next
//! ```
//! After [`CUTS`] of them the records of all are audited once more, a run to its own end compares the money and the digest, and a new
//! file system takes over: some cuts fall into the making of a directory.

use std::path::Path;
use std::time::Duration;

use crate::chance::Chance;
use crate::file_system::{Cut, FileSystem};
use crate::generator::{Audit, Generator, MIXED};

/// Cuts of one file system.
const CUTS: u64 = 20;
/// Bytes of the image, which is sparse.
const IMAGE_BYTES: u64 = 2 << 30;
/// Groups of one event, and groups of many blocks.
const RATES: [&str; 3] = ["1k", "3k", "10k"];
/// Small segments: a start writes its zeros within milliseconds, and the journal moves on to the next one under load.
const SMALL: [&str; 4] = ["--segment", "8MiB", "--partitions", "2"];

/// What a loop came to.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Cuts {
    /// Times that the power was cut.
    pub cuts: u64,
    /// Of these, before anything was acknowledged: in the midst of a recovery or a start.
    pub before_service: u64,
    /// Acknowledged keys audited.
    pub acknowledged: u64,
    /// Ends of the journal that were torn: a group that was being written, and was never acknowledged.
    pub torn: u64,
    /// Ends of the journal that were ambiguous, and were then accepted with nothing lost.
    pub ambiguous: u64,
    /// File systems used.
    pub file_systems: u64,
}

/// Whether this machine can: root, loop devices, the tools. `Err`: why not.
///
/// # Errors
/// The reason.
pub fn possible(place: &Path) -> Result<(), String> {
    let probe = FileSystem::ext4(&place.join("probe"), &place.join("probe.image"), 16 << 20)?;
    probe.cut(Cut::Power)?;
    probe.mount_again()
}

/// Cuts the power `count` times below `place`, and audits after each.
///
/// # Errors
/// What the audit found missing or changed, a process that did not end as it should, or what could not be run.
pub fn run(loadgen: &Path, place: &Path, count: u64, seed: u64) -> Result<Cuts, String> {
    let mut chance = Chance::of(seed, "cuts");
    let mut done = Cuts::default();
    for first in (0..count).step_by(usize::try_from(CUTS).unwrap_or(usize::MAX)) {
        let disk = FileSystem::ext4(&place.join("disk"), &place.join("image"), IMAGE_BYTES)?;
        let generator = Generator::new(loadgen, place).with_data(disk.at().join("data"));
        let lives = first..count.min(first + CUTS);
        for cut in lives.clone() {
            let told = |wrong: String| format!("cut {cut} of seed {seed}: {wrong}");
            one(&generator, &disk, &mut chance, cut, seed, &mut done).map_err(told)?;
        }
        let told = |wrong: String| format!("after cut {} of seed {seed}: {wrong}", lives.end - 1);
        clean_run(&generator, &[]).map_err(told)?;
        for cut in lives.clone() {
            generator.audit_clear(cut).map_err(|wrong| told(format!("what cut {cut} had left: {wrong}")))?;
        }
        done.file_systems += 1;
    }
    Ok(done)
}

fn one(
    generator: &Generator,
    disk: &FileSystem,
    chance: &mut Chance,
    cut: u64,
    seed: u64,
    done: &mut Cuts,
) -> Result<(), String> {
    let seed = (seed + cut).to_string();
    let rate = chance.pick(&RATES).copied().unwrap_or("3k");
    let mut command = generator.command(cut, &["--rate", rate, "--duration", "10s", "--seed", &seed]);
    let mut life = generator.start(cut, {
        command.args(MIXED).args(SMALL);
        command
    })?;
    // While it starts, or some time after it was first heard of: the machine may be as slow as it likes.
    if chance.one_in(4) {
        life.lives(Duration::from_millis(chance.between(1, 120)))?;
    } else {
        life.records(0, 1)?;
        life.lives(Duration::from_millis(chance.between(0, 1_200)))?;
    }
    let how = Cut::ALL[usize::try_from(cut).unwrap_or(0) % Cut::ALL.len()];
    disk.cut(how)?;
    let (code, said) = life.end()?;
    disk.mount_again()?;
    let acknowledged = match generator.audit(cut)? {
        Audit::Complete { keys, has_torn_tail } => {
            done.torn += u64::from(has_torn_tail);
            keys
        }
        Audit::Ambiguous => {
            done.ambiguous += 1;
            clean_run(generator, &["--accept-tail"])?;
            generator.audit_clear(cut)?
        }
    };
    // What cannot start has another code than what cannot go on; both name the cause.
    let is_said = said.contains("os error 5");
    if !is_said || !(code == Some(6) || code == Some(3) && acknowledged == 0) {
        return Err(format!("after a cut ({how:?}) it ended with code {code:?}: {said}"));
    }
    done.cuts += 1;
    done.acknowledged += acknowledged;
    done.before_service += u64::from(acknowledged == 0);
    Ok(())
}

/// A run to its own end on what the cuts have left: it opens, the money is right, and the directory gives the digest that the engine
/// had.
fn clean_run(generator: &Generator, options: &[&str]) -> Result<(), String> {
    let acks = generator.acks(u64::MAX);
    if acks.exists() {
        std::fs::remove_file(&acks).map_err(|error| error.to_string())?;
    }
    let mut command = generator.command(u64::MAX, options);
    command.args(["--rate", "500", "--duration", "1s", "--slo", "max<10m", "--allow-busy", "-q"]);
    let life = generator.start(u64::MAX, {
        command.args(MIXED).args(SMALL);
        command
    })?;
    let (code, said) = life.end()?;
    if code == Some(0) { Ok(()) } else { Err(format!("the run after it ended with code {code:?}: {said}")) }
}
