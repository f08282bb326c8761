//! A file system of the real kind that fills up under the real binary, and is given space again (P8): no acknowledgement without
//! space, reading goes on, service resumes by itself within one run. Skipped without root.

mod common;

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use common::{LOADGEN, report};
use rustix::process::Signal;
use tp_sim::file_system::FileSystem;
use tp_sim::generator::{Generator, Life, PATIENCE, skipped};

const MIB: u64 = 1 << 20;
/// What a segment takes: with less than that free there is no spare one.
const SEGMENT: u64 = 8 * MIB;
/// So long without an acknowledgement, and without the space for a segment: full. The segment in use may have room yet, so a disk that
/// only stands still must not be taken for it.
const STILL: Duration = Duration::from_secs(3);

fn free_bytes(at: &Path) -> u64 {
    let stat = rustix::fs::statvfs(at).expect("a file system");
    stat.f_bavail * stat.f_frsize
}

/// Takes all space but so much.
fn fill(at: &Path, but: u64) -> PathBuf {
    let ballast = at.join("ballast");
    let bytes = free_bytes(at).saturating_sub(but);
    std::fs::write(&ballast, vec![1; usize::try_from(bytes).expect("fits")]).expect("there is so much space");
    std::fs::File::open(&ballast)
        .and_then(|file| file.sync_all())
        .expect("it is on the disk: nobody waits for it later");
    ballast
}

/// Waits until nothing is acknowledged and nothing fits; how much was recorded until then.
fn is_full(life: &mut Life, at: &Path) -> u64 {
    let until = Instant::now() + PATIENCE;
    loop {
        let before = life.recorded_bytes();
        life.lives(STILL).expect("it does not end");
        if life.recorded_bytes() == before && free_bytes(at) < SEGMENT {
            return before;
        }
        assert!(Instant::now() < until, "it never gets full: {} bytes free, {}", free_bytes(at), life.said());
    }
}

/// Runs on a file system that is filled twice and freed twice.
fn fills_and_resumes(disk: &FileSystem, place: &Path, options: &[&str]) {
    let generator = Generator::new(Path::new(LOADGEN), place).with_data(disk.at().join("data"));
    let mut command =
        generator.command(0, &["--rate", "500", "--duration", "60s", "--warm-up", "0s", "--accounts", "100"]);
    command.args(["--mix", "authorize=70,transfer=20,read=10", "--segment", "8MiB", "--partitions", "2", "--json"]);
    command.arg(place.join("report")).args(options);
    let mut life = generator.start(0, command).expect("starts");
    let mut recorded = life.records(0, 10_000).expect("serves");
    for _ in 0..2 {
        let ballast = fill(disk.at(), SEGMENT / 2);
        recorded = is_full(&mut life, disk.at());
        assert!(recorded > 0);
        std::fs::remove_file(ballast).expect("space is made");
        recorded = life.records(recorded, 10_000).expect("service resumes by itself");
    }
    assert!(recorded > 0);
    life.signal(Signal::INT).expect("asked to end");
    let (code, said) = life.end().expect("ends");
    // Commands were refused, and the verdict says so; nothing else is wrong.
    assert_eq!(code, Some(1), "{said}");
    let report = report(&place.join("report"));
    assert!(report["outcomes"]["no_space"].as_u64() > Some(0), "{}", report["outcomes"]);
    assert!(said.contains("were not decided in time"), "{said}");
    let read = report["per_command"]["read"]["outcomes"].as_object().expect("reads");
    assert!(!read.contains_key("no_space") && !read.is_empty(), "reading went on: {read:?}");
    assert!(generator.audit_clear(0).expect("nothing lost") > 100);
}

#[test]
fn a_full_file_system_in_memory_refuses_until_there_is_space_and_goes_on() {
    let place = tempfile::tempdir().expect("a directory");
    match FileSystem::in_memory(&place.path().join("disk"), 64 * MIB) {
        Ok(disk) => fills_and_resumes(&disk, place.path(), &["--checkpoint-interval", "off"]),
        Err(reason) => skipped(&reason),
    }
}

/// With checkpoints, which find no space either: that is no reason to stop.
#[test]
fn a_full_ext4_refuses_until_there_is_space_and_goes_on() {
    let place = tempfile::tempdir().expect("a directory");
    match FileSystem::ext4(&place.path().join("disk"), &place.path().join("image"), 128 * MIB) {
        Ok(disk) => fills_and_resumes(&disk, place.path(), &["--checkpoint-interval", "1s"]),
        Err(reason) => skipped(&reason),
    }
}
