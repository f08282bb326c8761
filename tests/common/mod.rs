//! What the tests of the command share: running the real binary, the bank's rows, seeds.
#![allow(dead_code)] // each test binary uses its part
#![allow(clippy::missing_errors_doc, clippy::print_stderr, clippy::unwrap_used)]

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use serde_json::Value;

pub(crate) const HEADER: &str = "transaction_id,account_id,date,type,operation,amount_minor,balance_after_minor,category,partner_bank,partner_account";

/// What a run of the binary gave.
#[derive(Debug)]
pub(crate) struct Run {
    pub(crate) code: i32,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

impl Run {
    /// The one JSON object on standard output.
    pub(crate) fn json(&self) -> Value {
        serde_json::from_str(&self.stdout).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }

    /// Fails the test unless the exit code is this one.
    #[track_caller]
    pub(crate) fn expect(self, code: i32) -> Self {
        assert_eq!(self.code, code, "{}\n{}", self.stdout, self.stderr);
        assert!(!self.stderr.contains("panicked"), "{}", self.stderr);
        self
    }
}

/// Runs the binary with these arguments.
pub(crate) fn tpcore(arguments: &[&str]) -> Run {
    let output = command(arguments).output().expect("the binary runs");
    Run {
        code: output.status.code().unwrap_or(-1),
        stdout: String::from_utf8(output.stdout).expect("UTF-8"),
        stderr: String::from_utf8(output.stderr).expect("UTF-8"),
    }
}

/// The binary, to be spawned.
pub(crate) fn command(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_tpcore"));
    command.args(arguments).stdin(Stdio::null());
    command
}

pub(crate) fn text(path: &Path) -> &str {
    path.to_str().expect("a UTF-8 path")
}

/// `tpcore import --json`.
pub(crate) fn import(input: &Path, data_dir: &Path) -> Run {
    tpcore(&["import", "--json", "--input", text(input), "--data-dir", text(data_dir)])
}

/// A command on a directory, with `--json`.
pub(crate) fn on(data_dir: &Path, arguments: &[&str]) -> Run {
    let mut all = arguments.to_vec();
    all.extend(["--json", "--data-dir", text(data_dir)]);
    tpcore(&all)
}

/// The bank's whole year.
pub(crate) fn year() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("data/pkdd99/transactions-1993.csv")
}

/// A file with the year's first rows.
pub(crate) fn first_rows(directory: &Path, rows: usize) -> PathBuf {
    let all = std::fs::read_to_string(year()).expect("the year's file");
    let path = directory.join(format!("first-{rows}.csv"));
    let lines: Vec<&str> = all.lines().take(rows + 1).collect();
    std::fs::write(&path, lines.join("\n") + "\n").expect("written");
    path
}

/// A file of these rows under the right header.
pub(crate) fn file(directory: &Path, name: &str, rows: &[&str]) -> PathBuf {
    let path = directory.join(name);
    std::fs::write(&path, format!("{HEADER}\n{}\n", rows.join("\n"))).expect("written");
    path
}

/// Account → sums of its debits and credits, minor units.
pub(crate) type Sums = BTreeMap<String, (u128, u128)>;

/// The sums of the file's rows by account, read by other means than the command's.
pub(crate) fn sums_of_rows(input: &Path) -> Sums {
    let mut sums = Sums::new();
    let mut reader = csv::Reader::from_path(input).expect("the file");
    for record in reader.records() {
        let record = record.expect("a row");
        let (debits, credits) = sums.entry(record[1].to_owned()).or_default();
        let amount: u128 = record[5].parse().expect("an amount");
        *(if &record[3] == "debit" { debits } else { credits }) += amount;
    }
    sums
}

/// What the directory's accounts say, by `accounts --csv`.
pub(crate) fn sums_of_accounts(data_dir: &Path) -> Sums {
    let run = tpcore(&["accounts", "--csv", "--data-dir", text(data_dir)]).expect(0);
    let mut reader = csv::Reader::from_reader(run.stdout.as_bytes());
    let header = reader.headers().expect("a header").iter().collect::<Vec<_>>().join(",");
    assert_eq!(header, "id,ledger,kind,status,debits,credits,held,available,version");
    reader
        .records()
        .map(|record| {
            let record = record.expect("a row");
            assert_eq!(&record[6], "0", "nothing is held at rest: {record:?}");
            (record[0].to_owned(), (record[4].parse().expect("debits"), record[5].parse().expect("credits")))
        })
        .collect()
}

/// The bank's own accounts: those below 2^64.
pub(crate) fn bank_accounts(mut sums: Sums) -> Sums {
    sums.retain(|id, _| id.parse::<u128>().expect("an id") < 1 << 64);
    sums
}

/// A small generator (splitmix64); its seed is printed, and taken from `TPCORE_TEST_SEED` to repeat a failure.
pub(crate) struct Random(u64);

impl Random {
    pub(crate) fn new() -> Self {
        let drawn = || std::time::UNIX_EPOCH.elapsed().map_or(1, |d| d.subsec_nanos().into());
        let seed = std::env::var("TPCORE_TEST_SEED").ok().and_then(|text| text.parse().ok()).unwrap_or_else(drawn);
        eprintln!("TPCORE_TEST_SEED={seed}");
        Self(seed)
    }

    /// Below `bound`.
    pub(crate) fn below(&mut self, bound: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        (z ^ (z >> 31)) % bound
    }
}
