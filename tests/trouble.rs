//! The page for operators (`docs/src/trouble.md`) against the commands: each damage is made, and says what the page says it says.

mod common;

use std::path::{Path, PathBuf};

use common::{import, text, tpcore};

/// The quoted lines of a section.
fn quoted(section: &str) -> Vec<String> {
    let page = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/src/trouble.md");
    let page = std::fs::read_to_string(page).expect("the page");
    let (_, rest) = page.split_once(&format!("\n## {section}\n")).unwrap_or_else(|| panic!("no section {section}"));
    let section = rest.split("\n## ").next().expect("a section");
    let (_, block) = section.split_once("```text\n").expect("a quoted block");
    block.split("```").next().expect("its end").lines().map(str::to_owned).collect()
}

/// Every part of every quoted line is in the output, in order.
#[track_caller]
fn says(output: &str, section: &str) {
    for line in quoted(section) {
        let mut rest = output;
        for part in line.split('…') {
            let at = rest.find(part).unwrap_or_else(|| panic!("{section}: `{part}` is not in:\n{output}"));
            rest = &rest[at + part.len()..];
        }
    }
}

struct Place {
    _temporary: tempfile::TempDir,
    data: PathBuf,
}

/// A file with so many of the bank's rows, from one on.
fn rows(folder: &Path, first: usize, count: usize) -> PathBuf {
    let all = Path::new(env!("CARGO_MANIFEST_DIR")).join("data/pkdd99/transactions-1993.csv");
    let all = std::fs::read_to_string(all).expect("the bank's rows");
    let (header, rows) = all.split_once('\n').expect("a header");
    let chosen: Vec<_> = std::iter::once(header).chain(rows.lines().skip(first - 1).take(count)).collect();
    let input = folder.join("rows.csv");
    std::fs::write(&input, chosen.join("\n")).expect("written");
    input
}

/// A directory with a thousand rows, closed in order.
fn place() -> Place {
    let temporary = tempfile::tempdir().expect("a directory");
    let input = rows(temporary.path(), 1, 1_000);
    let data = temporary.path().join("data");
    import(&input, &data).expect(0);
    Place { _temporary: temporary, data }
}

impl Place {
    fn file(&self, name: &str) -> PathBuf {
        self.data.join(name)
    }

    fn change(&self, name: &str, change: impl FnOnce(&mut Vec<u8>, usize)) {
        let mut bytes = std::fs::read(self.file(name)).expect("a file");
        let used = bytes.iter().rposition(|byte| *byte != 0).map_or(0, |at| at + 1);
        change(&mut bytes, used);
        std::fs::write(self.file(name), bytes).expect("written");
    }

    /// What a command says in all, with its exit code tested.
    #[track_caller]
    fn run(&self, command: &[&str], code: i32) -> String {
        let arguments: Vec<&str> = command.iter().copied().chain(["--data-dir", text(&self.data)]).collect();
        let run = tpcore(&arguments).expect(code);
        run.stdout + &run.stderr
    }
}

const SEGMENT: &str = "journal/000000000001.segment";
const CHECKPOINT: &str = "checkpoints/00000000000000000001.checkpoint";

#[test]
fn a_torn_and_an_ambiguous_tail_say_what_the_page_says() {
    let torn = place();
    torn.change(SEGMENT, |bytes, used| bytes[used.next_multiple_of(4096) + 3 * 4096] = 0x10);
    says(&torn.run(&["accounts"], 0), "Torn tail");
    let ambiguous = place();
    ambiguous.change(SEGMENT, |bytes, used| bytes[used.next_multiple_of(4096) + 100] = 0x10);
    says(&ambiguous.run(&["verify"], 5), "Ambiguous tail");
    says(&ambiguous.run(&["checkpoint"], 5), "Ambiguous tail");
    ambiguous.run(&["checkpoint", "--accept-tail"], 0);
}

#[test]
fn damage_and_loss_say_what_the_page_says() {
    let corrupt = place();
    corrupt.change(SEGMENT, |bytes, used| bytes[used / 2] ^= 1);
    says(&corrupt.run(&["verify"], 5), "Corruption");
    says(&corrupt.run(&["checkpoint"], 5), "Corruption");
    let lost = place();
    lost.change(SEGMENT, |bytes, used| bytes[used / 4096 * 4096 - 8 * 4096..].fill(0));
    says(&lost.run(&["checkpoint"], 5), "Lost tail");
    let missing = place();
    std::fs::remove_file(missing.file(SEGMENT)).expect("removed");
    says(&missing.run(&["checkpoint"], 5), "Missing segment");
    let witness = place();
    std::fs::remove_file(witness.file("witness")).expect("removed");
    says(&witness.run(&["checkpoint"], 5), "Witness missing");
    let identity = place();
    identity.change("identity", |bytes, _| bytes[20] ^= 1);
    says(&identity.run(&["checkpoint"], 5), "Damaged identity");
}

#[test]
fn damage_beside_a_mirror_says_what_the_page_says_and_is_repaired() {
    let place = place();
    let mirror = place.data.with_file_name("mirror");
    let with_mirror = |command: &str| [command, "--mirror", text(&mirror)].map(str::to_owned);
    let run = |command: &str, code| place.run(&with_mirror(command).each_ref().map(String::as_str), code);
    run("checkpoint", 0);
    place.change(SEGMENT, |bytes, used| bytes[used / 2] ^= 1);
    place.run(&["verify"], 5);
    says(&run("verify", 5), "Corruption with a mirror");
    let scrubbed = run("scrub", 0);
    assert!(scrubbed.contains("repaired     ") && scrubbed.contains("rebuilt from the other copy"), "{scrubbed}");
    place.run(&["verify"], 0);
    // A start repairs too, and makes again what is gone.
    place.change(SEGMENT, |bytes, used| bytes[used / 2] ^= 1);
    let said = run("checkpoint", 0);
    assert!(said.contains("this copy does not hold the frame that belongs here"), "{said}");
    let accounts = place.run(&["accounts"], 0);
    std::fs::remove_dir_all(&place.data).expect("removed");
    says(&run("checkpoint", 4), "A disk that is gone");
    assert!(!place.data.exists(), "nothing was changed");
    let replaced = ["checkpoint", "--mirror", text(&mirror), "--from-mirror"];
    place.run(&replaced, 0);
    assert_eq!(place.run(&["accounts"], 0), accounts);
    std::fs::remove_dir_all(&mirror).expect("removed");
    run("scrub", 0);
    let alone = tpcore(&["verify", "--data-dir", text(&mirror)]).expect(0);
    assert!(alone.stdout.contains("status       ok"), "{alone:?}");
    for gone in ["journal", "checkpoints", "witness", "identity"] {
        let path = place.file(gone);
        let removed = if path.is_dir() { std::fs::remove_dir_all(&path) } else { std::fs::remove_file(&path) };
        removed.expect("removed");
        run("checkpoint", 0);
        assert_eq!(place.run(&["accounts"], 0), accounts, "{gone}");
    }
    // Each written to without the other.
    for (data_dir, first) in [(&place.data, 1_001), (&mirror, 1_101)] {
        let input = rows(place.data.parent().expect("a folder"), first, 50);
        import(&input, data_dir).expect(0);
    }
    says(&run("checkpoint", 5), "Copies that went different ways");
}

#[test]
fn a_broken_checkpoint_is_passed_over_and_replaced() {
    let broken = place();
    broken.change(CHECKPOINT, |bytes, used| bytes[used / 2] ^= 1);
    says(&broken.run(&["verify"], 5), "Broken checkpoint");
    broken.run(&["checkpoint"], 0);
    std::fs::remove_file(broken.file(CHECKPOINT)).expect("removed");
    broken.run(&["verify"], 0);
}

#[test]
fn a_directory_in_use_says_what_the_page_says() {
    let used = place();
    let engine =
        tpcore::Engine::open(tpcore::Config { accept_clock: true, windows: None, ..tpcore::Config::at(&used.data) })
            .expect("opens");
    says(&used.run(&["checkpoint"], 4), "Directory in use");
    used.run(&["verify"], 0);
    drop(engine);
}
