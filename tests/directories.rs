//! Directories that are in use, not ours, newer, damaged, read-only or full: a clear error, the right code, nothing changed.

mod common;

use std::path::{Path, PathBuf};
use std::process::Command;

use common::{Random, file, first_rows, import, on, sums_of_accounts, text};
use serde_json::json;
use tpcore::{Clock, Config, Engine, GivenClock, Time};

const ROW: &str = "1,7,1993-01-01,credit,cash_deposit,500,500,,,";
const READ_ONLY: [&[&str]; 5] =
    [&["accounts"], &["statement", "7"], &["state", "--at", "1993-01-01"], &["dump"], &["verify"]];

struct Place {
    temporary: tempfile::TempDir,
    data: PathBuf,
    input: PathBuf,
}

/// A temporary directory with an input of one row; `data` is not made yet.
fn place() -> Place {
    let temporary = tempfile::tempdir().expect("a temporary directory");
    let (data, input) = (temporary.path().join("data"), file(temporary.path(), "one.csv", &[ROW]));
    Place { temporary, data, input }
}

#[test]
fn a_directory_in_use_is_refused_with_code_4() {
    let p = place();
    import(&p.input, &p.data).expect(0);
    let mut config = Config::at(&p.data);
    config.clock = Clock::given(GivenClock::new(Time(0)));
    let engine = Engine::open(config).expect("it opens");
    for run in [import(&p.input, &p.data), on(&p.data, &["checkpoint"]), on(&p.data, &["catalogue", "rebuild"])] {
        let run = run.expect(4);
        assert!(run.stderr.contains("in use"), "{}", run.stderr);
    }
    engine.close_blocking().expect("it closes");
    import(&p.input, &p.data).expect(0);
}

/// It was deleted, with the cursors of its consumers.
#[test]
fn a_catalogue_of_another_directory_is_refused_with_code_4_and_left_alone() {
    let (ours, theirs) = (place(), place());
    for p in [&ours, &theirs] {
        import(&p.input, &p.data).expect(0);
    }
    let catalogue = ours.data.join("catalogue");
    std::fs::remove_dir_all(&catalogue).expect("removed");
    std::fs::rename(theirs.data.join("catalogue"), &catalogue).expect("renamed");
    let bytes = || std::fs::read(catalogue.join("db")).expect("a store");
    let before = bytes();
    for run in [import(&ours.input, &ours.data), on(&ours.data, &["checkpoint"])] {
        let run = run.expect(4);
        assert!(run.stderr.contains("another engine") && run.stderr.contains("catalogue rebuild"), "{}", run.stderr);
    }
    assert!(bytes() == before, "a byte was changed");
    on(&ours.data, &["accounts"]).expect(0);
    on(&ours.data, &["catalogue", "rebuild"]).expect(0);
    assert!(ours.data.join("catalogue.damaged/db").exists(), "put aside");
    on(&ours.data, &["checkpoint"]).expect(0);
}

#[test]
fn a_directory_that_is_missing_or_not_ours_is_refused_with_code_4_and_left_alone() {
    let p = place();
    for arguments in READ_ONLY.iter().chain(&[&["checkpoint"][..], &["catalogue", "rebuild"]]) {
        on(&p.data, arguments).expect(4);
        assert!(!p.data.exists(), "{arguments:?} must not make a directory");
    }
    std::fs::create_dir(&p.data).expect("made");
    std::fs::write(p.data.join("letter.txt"), "not ours").expect("written");
    for run in [import(&p.input, &p.data), on(&p.data, &["accounts"]), on(&p.data, &["checkpoint"])] {
        let run = run.expect(4);
        assert!(run.stderr.contains("letter.txt"), "{}", run.stderr);
    }
    let names: Vec<_> =
        std::fs::read_dir(&p.data).expect("a directory").filter_map(Result::ok).map(|e| e.file_name()).collect();
    assert_eq!(names, ["letter.txt"]);
    on(&p.input, &["accounts"]).expect(4);
    import(&p.input, &p.input).expect(4);
}

#[test]
fn a_directory_of_a_newer_format_is_refused_with_code_4() {
    let p = place();
    import(&p.input, &p.data).expect(0);
    let path = p.data.join("identity");
    let mut bytes = std::fs::read(&path).expect("an identity");
    bytes[8..10].copy_from_slice(&99u16.to_le_bytes());
    let checksum = crc32c::crc32c_append(crc32c::crc32c(&bytes[..12]), &bytes[16..]);
    bytes[12..16].copy_from_slice(&checksum.to_le_bytes());
    std::fs::write(&path, &bytes).expect("written");
    for run in [import(&p.input, &p.data), on(&p.data, &["accounts"]), on(&p.data, &["verify"])] {
        let run = run.expect(4);
        assert!(run.stderr.contains("format version 99"), "{}", run.stderr);
    }
    assert_eq!(std::fs::read(&path).expect("an identity"), bytes);
}

#[test]
fn a_file_of_another_engine_is_refused() {
    let (p, other) = (place(), place());
    import(&p.input, &p.data).expect(0);
    import(&other.input, &other.data).expect(0);
    for file in ["journal/000000000001.segment", "witness"] {
        std::fs::copy(other.data.join(file), p.data.join(file)).expect("copied");
    }
    std::fs::remove_dir_all(p.data.join("checkpoints")).expect("removed");
    std::fs::create_dir(p.data.join("checkpoints")).expect("made");
    for run in [import(&p.input, &p.data), on(&p.data, &["accounts"])] {
        assert!(run.code == 4 || run.code == 5, "{run:?}");
        assert!(run.stderr.contains("engine"), "{}", run.stderr);
    }
}

#[test]
fn a_directory_with_other_windows_is_refused_with_code_4() {
    let p = place();
    let mut config = Config::at(&p.data);
    config.clock = Clock::given(GivenClock::new(Time(0)));
    Engine::open(config).expect("it opens").close_blocking().expect("it closes");
    let run = import(&p.input, &p.data).expect(4);
    assert!(run.stderr.contains("windows"), "{}", run.stderr);
}

/// Segment files with data, in order.
fn segments(data: &Path) -> Vec<PathBuf> {
    let mut files: Vec<PathBuf> =
        std::fs::read_dir(data.join("journal")).expect("a journal").filter_map(Result::ok).map(|e| e.path()).collect();
    files.sort();
    files.retain(|file| std::fs::read(file).is_ok_and(|bytes| bytes.iter().any(|b| *b != 0)));
    files
}

#[test]
fn a_bit_flipped_anywhere_in_the_journal_is_reported_with_code_5() {
    let p = place();
    import(&first_rows(p.temporary.path(), 200), &p.data).expect(0);
    let mut random = Random::new();
    for file in segments(&p.data) {
        let good = std::fs::read(&file).expect("a segment");
        let used = good.iter().rposition(|b| *b != 0).map_or(0, |last| last + 1).next_multiple_of(4096) as u64;
        for _ in 0..15 {
            let (offset, bit) = (random.below(used), random.below(8));
            let mut bad = good.clone();
            bad[usize::try_from(offset).expect("an offset")] ^= 1 << bit;
            std::fs::write(&file, &bad).expect("written");
            let run = on(&p.data, &["verify"]);
            assert_eq!(run.code, 5, "{} byte {offset} bit {bit}: {run:?}", file.display());
            let report = run.json();
            assert!(report["status"] == json!("corrupt") || report["status"] == json!("ambiguous_tail"), "{report}");
            let problems = report["problems"].as_array().cloned().unwrap_or_default();
            assert!(!problems.is_empty());
            for field in ["file", "offset", "seq_first", "seq_last", "what", "next_step"] {
                assert!(problems[0].get(field).is_some(), "{field}");
            }
        }
        std::fs::write(&file, &good).expect("written");
    }
    assert_eq!(on(&p.data, &["verify"]).expect(0).json()["status"], json!("ok"));
}

#[test]
fn a_damaged_identity_is_reported_with_code_5() {
    let p = place();
    import(&p.input, &p.data).expect(0);
    let path = p.data.join("identity");
    let mut bytes = std::fs::read(&path).expect("an identity");
    bytes[20] ^= 1;
    std::fs::write(&path, &bytes).expect("written");
    let report = on(&p.data, &["verify"]).expect(5).json();
    assert_eq!(report["status"], json!("corrupt"));
    assert!(report["problems"][0]["what"].as_str().is_some_and(|what| what.contains("identity")), "{report}");
    for run in [import(&p.input, &p.data), on(&p.data, &["accounts"])] {
        run.expect(5);
    }
}

/// What a write leaves that was cut off before anybody was told: bytes above all that any frame, witness or checkpoint shows,
/// whose beginning was never written.
#[test]
fn a_torn_tail_is_reported_with_code_0_and_the_next_run_goes_on() {
    let p = place();
    let input = first_rows(p.temporary.path(), 100);
    import(&input, &p.data).expect(0);
    let accounts = sums_of_accounts(&p.data);
    let last = segments(&p.data).pop().expect("a segment");
    let mut bytes = std::fs::read(&last).expect("a segment");
    let used = bytes.iter().rposition(|b| *b != 0).map_or(0, |at| at + 1).next_multiple_of(4096);
    bytes[used + 3 * 4096] = 0x10;
    std::fs::write(&last, &bytes).expect("written");
    let report = on(&p.data, &["verify"]).expect(0).json();
    assert_eq!(report["status"], json!("torn_tail"));
    assert!(report["problems"].as_array().is_some_and(|problems| !problems.is_empty()), "{report}");
    let run = on(&p.data, &["accounts"]).expect(0);
    assert!(run.stderr.contains("torn tail"), "{}", run.stderr);
    let report = import(&input, &p.data).expect(0).json();
    assert_eq!((&report["events"], &report["refused"]), (&json!(0), &json!({})));
    assert_eq!(sums_of_accounts(&p.data), accounts);
}

/// Bytes that could be a frame torn in the middle of a block, or damage: nobody can say whether they were acknowledged.
#[test]
fn an_ambiguous_tail_is_refused_until_it_is_accepted() {
    let p = place();
    let input = first_rows(p.temporary.path(), 100);
    import(&input, &p.data).expect(0);
    let accounts = sums_of_accounts(&p.data);
    let last = segments(&p.data).pop().expect("a segment");
    let mut bytes = std::fs::read(&last).expect("a segment");
    let used = bytes.iter().rposition(|b| *b != 0).map_or(0, |at| at + 1).next_multiple_of(4096);
    bytes[used + 100] = 0x10;
    std::fs::write(&last, &bytes).expect("written");
    assert_eq!(on(&p.data, &["verify"]).expect(5).json()["status"], json!("ambiguous_tail"));
    for run in [import(&input, &p.data), on(&p.data, &["checkpoint"])] {
        assert!(run.expect(5).stderr.contains("--accept-tail"));
    }
    assert_eq!(std::fs::read(&last).expect("a segment"), bytes, "a refusal changes nothing");
    on(&p.data, &["checkpoint", "--accept-tail"]).expect(0);
    assert_eq!(import(&input, &p.data).expect(0).json()["events"], json!(0));
    assert_eq!(sums_of_accounts(&p.data), accounts);
}

#[test]
fn a_damaged_journal_is_not_opened_and_not_changed() {
    let p = place();
    import(&first_rows(p.temporary.path(), 200), &p.data).expect(0);
    let first = segments(&p.data).into_iter().next().expect("a segment");
    let mut bytes = std::fs::read(&first).expect("a segment");
    bytes[3 * 4096 + 100] ^= 1;
    std::fs::write(&first, &bytes).expect("written");
    for arguments in [&["dump"][..], &["statement", "7"]] {
        let run = on(&p.data, arguments).expect(5);
        assert!(run.stderr.contains(".segment"), "{}", run.stderr);
    }
    assert_eq!(std::fs::read(&first).expect("a segment"), bytes);
}

/// A file system in memory, mounted for one test.
struct Mounted(PathBuf);

impl Mounted {
    /// `None`, with the reason printed, where mounting is not allowed.
    fn new(at: &Path, size: &str) -> Option<Self> {
        std::fs::create_dir_all(at).expect("a mount point");
        let run = Command::new("mount").args(["-t", "tmpfs", "-o", &format!("size={size}"), "none", text(at)]).output();
        match run {
            Ok(output) if output.status.success() => Some(Self(at.to_owned())),
            Ok(output) => {
                skipped(&format!("mounting needs root: {}", String::from_utf8_lossy(&output.stderr).trim()));
                None
            }
            Err(error) => {
                skipped(&format!("there is no mount command: {error}"));
                None
            }
        }
    }

    fn again(&self, options: &str) {
        let status = Command::new("mount").args(["-o", &format!("remount,{options}"), text(&self.0)]).status();
        assert!(status.is_ok_and(|status| status.success()), "remount {options}");
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(&self.0).status();
    }
}

/// Says why a test saw nothing; where every test must see something, that is a failure.
#[allow(clippy::print_stdout)]
fn skipped(reason: &str) {
    println!("SKIPPED: {reason}");
    assert!(std::env::var_os("TPCORE_NO_SKIP").is_none(), "SKIPPED: {reason}");
}

#[test]
fn a_full_disk_ends_with_code_6_and_the_run_continues_when_there_is_space() {
    let p = place();
    let Some(disk) = Mounted::new(&p.temporary.path().join("disk"), "1m") else { return };
    let data = disk.0.join("data");
    // One account's rows are serial, so each is a frame of 4 KiB or more: together more than a segment holds beside its reserve.
    let rows: Vec<String> = (1..=6000).map(|id| format!("{id},7,1993-01-01,credit,cash_deposit,1,{id},,,")).collect();
    let input = file(p.temporary.path(), "many.csv", &rows.iter().map(String::as_str).collect::<Vec<_>>());
    let run = import(&input, &data).expect(6);
    assert!(run.stderr.contains("space"), "{}", run.stderr);
    // Room for the first segment of 64 MiB, not for the one that must stand ready before it is full.
    disk.again("size=100m");
    let run = import(&input, &data).expect(6);
    assert!(run.stderr.contains("the disk is full"), "{}", run.stderr);
    let booked = sums_of_accounts(&data).get("7").map_or(0, |sums| sums.1);
    assert!(booked > 0 && booked < 6000, "{booked}: what was acknowledged stays, and reading goes on");
    disk.again("size=600m");
    import(&input, &data).expect(0);
    assert_eq!(common::bank_accounts(sums_of_accounts(&data)), common::sums_of_rows(&input));
}

#[test]
fn a_read_only_directory_can_be_read_and_is_refused_for_writing_with_code_4() {
    let p = place();
    let Some(disk) = Mounted::new(&p.temporary.path().join("disk"), "600m") else { return };
    let data = disk.0.join("data");
    import(&p.input, &data).expect(0);
    disk.again("ro");
    for arguments in READ_ONLY {
        on(&data, arguments).expect(0);
    }
    for run in [import(&p.input, &data), on(&data, &["checkpoint"]), import(&p.input, &disk.0.join("new"))] {
        let run = run.expect(4);
        assert!(run.stderr.to_lowercase().contains("read-only"), "{}", run.stderr);
    }
}
