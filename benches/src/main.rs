//! `runs`: records, compares and lists runs of the benches and of the load generator.
//!
//! ```text
//! cargo run -p tp-benches --bin runs -- record TOPIC [--runs N] -- COMMAND...
//! cargo run -p tp-benches --bin runs -- compare A B
//! cargo run -p tp-benches --bin runs -- show NAME
//! cargo run -p tp-benches --bin runs -- list
//! ```
//!
//! Owns the words of the command line; refuses to know what a record is made of. Exit codes: 0 done, 1 an error, 2 wrong usage.

use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{Parser, Subcommand};
use tp_benches::compare::compare;
use tp_benches::error::RunsError;
use tp_benches::record::{Request, record};
use tp_benches::run::{Run, find, list};
use tp_benches::summary::summary;

/// Where the records lie unless said otherwise.
const FOLDER: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/runs");

const AFTER_HELP: &str = "\
Examples:
  runs record micro -- cargo bench -p tp-benches
  runs record mix-250k --runs 5 -- cargo run --release -p tp-loadgen -- --rate 250000 --json -
  runs compare 2026-11-22-micro 2026-12-01-micro

A record keeps machine, commit, command, raw output and figures. It names no host, no user
and no absolute path of the machine.";

/// Records, compares and lists runs of benches.
#[derive(Parser, Debug)]
#[command(name = "runs", version, after_help = AFTER_HELP, max_term_width = 100)]
struct Arguments {
    /// The folder of all records.
    #[arg(long, global = true, default_value = FOLDER, hide_default_value = true)]
    folder: PathBuf,
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Subcommand, Debug)]
enum Verb {
    /// Run a command several times and keep what it measured, as `<date>-<topic>`.
    Record {
        /// Lower-case letters, digits and hyphens.
        topic: String,
        /// How often, 1 to 100.
        #[arg(long, default_value_t = 5)]
        runs: usize,
        /// A place on the file system that the command writes on; by default where the benches write.
        #[arg(long, value_name = "DIRECTORY")]
        written: Option<PathBuf>,
        /// The program and its arguments.
        #[arg(last = true, required = true)]
        command: Vec<String>,
    },
    /// Show the ratio of the medians of two records, and whether their ranges overlap.
    Compare {
        /// Name or path of the first.
        a: String,
        /// Name or path of the second.
        b: String,
    },
    /// Show a record's summary, made anew from its `run.json`.
    Show {
        /// Name or path.
        name: String,
    },
    /// Show the records there are.
    List,
}

fn main() -> ExitCode {
    match run(Arguments::parse()) {
        Ok(text) => {
            _ = io::stdout().write_all(text.as_bytes()); // whoever closed the pipe has read enough
            ExitCode::SUCCESS
        }
        Err(error) => {
            _ = writeln!(io::stderr(), "error: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run(arguments: Arguments) -> Result<String, RunsError> {
    let folder = arguments.folder;
    match arguments.verb {
        Verb::Record { topic, runs, written, command } => {
            let request = Request { topic, runs, command, folder, written };
            let target = record(&request, &mut |n| _ = writeln!(io::stderr(), "run {n} of {runs}"))?;
            Ok(format!("{}\n", target.display()))
        }
        Verb::Compare { a, b } => {
            let load = |name: &str| Run::load(&find(&folder, name)?);
            compare(&a, &load(&a)?, &b, &load(&b)?)
        }
        Verb::Show { name } => Ok(summary(&Run::load(&find(&folder, &name)?)?)),
        Verb::List => list(&folder)?.iter().map(|name| line(&folder, name)).collect(),
    }
}

/// A record in one line.
fn line(folder: &Path, name: &str) -> Result<String, RunsError> {
    let run = Run::load(&folder.join(name))?;
    let (runs, figures, command) = (run.attempts.len(), run.figures.len(), run.command.join(" "));
    Ok(format!("{name}  {runs} runs, {figures} figures, commit {}: {command}\n", run.commit))
}
