//! The power of a real file system is cut under the real binary (P1): ext4 in an image file, by the kernel's own shutdown call. `tp-sim
//! cuts` takes more. Skipped where there is no root, no loop device, no `mkfs.ext4`.
#![allow(clippy::print_stdout, reason = "the figures are worth seeing")]

use std::path::Path;

use tp_sim::generator::{Audit, Generator, Life, MIXED, skipped};

#[test]
fn six_power_cuts_lose_nothing_that_was_acknowledged() {
    let place = tempfile::tempdir().expect("a directory");
    if let Err(reason) = tp_sim::cuts::possible(place.path()) {
        return skipped(&format!("the power of a file system cannot be cut here: {reason}"));
    }
    let done =
        tp_sim::cuts::run(Path::new(env!("CARGO_BIN_EXE_tp-loadgen")), place.path(), 6, 1).expect("nothing lost");
    println!("{done:?}");
    assert_eq!((done.cuts, done.file_systems), (6, 1));
    assert!(done.acknowledged > 500, "most of them served for a while: {done:?}");
}

/// What a torn block leaves behind. The cuts above make none: the loop never tears one.
#[test]
fn an_ambiguous_end_is_refused_until_it_is_accepted_and_then_holds_everything_acknowledged() {
    let place = tempfile::tempdir().expect("a directory");
    let generator = Generator::new(Path::new(env!("CARGO_BIN_EXE_tp-loadgen")), place.path());
    let run = |life, options: &[&str]| {
        let mut command = generator.command(life, &["--rate", "500", "--duration", "1s", "--slo", "max<10m"]);
        command.args(MIXED).args(["--segment", "8MiB", "--partitions", "2"]).args(options);
        generator.start(life, command).and_then(Life::end).expect("ends")
    };
    assert_eq!(run(0, &[]).0, Some(0));
    let keys = generator.audit_clear(0).expect("nothing lost");
    let journal = std::fs::read_dir(generator.data().join("journal")).expect("a journal");
    let mut segments: Vec<_> = journal.map(|entry| entry.expect("an entry").path()).collect();
    segments.retain(|path| path.extension().is_some_and(|extension| extension == "segment"));
    let last = segments.iter().max().expect("a segment");
    let mut bytes = std::fs::read(last).expect("a segment");
    let used = bytes.iter().rposition(|byte| *byte != 0).map_or(0, |at| at + 1).next_multiple_of(4096);
    bytes[used + 100] = 0x10;
    std::fs::write(last, &bytes).expect("written");
    assert_eq!(generator.audit(0), Ok(Audit::Ambiguous));
    let (code, said) = run(1, &[]);
    assert!(code == Some(3) && said.contains("--accept-tail"), "{code:?}: {said}");
    let (code, said) = run(2, &["--accept-tail"]);
    assert_eq!(code, Some(0), "{said}");
    assert_eq!(generator.audit_clear(0), Ok(keys));
    assert!(generator.audit_clear(2).expect("nothing lost") > 0);
}
