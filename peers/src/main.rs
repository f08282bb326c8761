//! The `peers-damage` command: what embedded storage engines do when stored bytes change at rest.
//!
//! Owns the arguments and the folders. Every record is committed durably by an engine, one thing of what it stored is changed, and a reader
//! in a process of its own reads everything. See the README beside it.

mod child;
mod damage;
mod engines;
mod image;
mod records;
mod report;
mod sweep;

use std::ffi::OsString;
use std::io::Write as _;
use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;

use crate::engines::{Check, Engine, Failure};
use crate::sweep::{Options, sweep};

const USAGE: &str = "peers-damage [--engine NAME|all] [--stride N] [--jobs N] [--seconds N] [--json]

  --engine   sqlite-wal, sqlite-closed, fjall-journal, fjall-tables, redb-crashed, redb-two-phase,
             redb-closed, okaywal; sqlite, fjall or redb: all states of it; all [default]
  --stride   every so many bits and lengths [default: so that about 3,000 bits of an engine are flipped]
  --jobs     readers at a time [default: 1]
  --seconds  how long one reader may take before it counts as hung [default: 60]
  --json     for programs";

struct Arguments {
    engines: Vec<Engine>,
    options: Options,
    is_json: bool,
}

fn main() -> ExitCode {
    let arguments: Vec<OsString> = std::env::args_os().skip(1).collect();
    let ended = match arguments.as_slice() {
        [reader, engine, check, folder] if reader == child::READER => read(engine, check, folder.as_ref()),
        _ => run(&arguments),
    };
    match ended {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            drop(writeln!(std::io::stderr(), "{error}"));
            ExitCode::FAILURE
        }
    }
}

fn read(engine: &OsString, check: &OsString, folder: &Path) -> Result<(), Failure> {
    let engines = Engine::named(&engine.to_string_lossy());
    let [engine] = engines.as_slice() else { return Err("a reader reads one engine".into()) };
    child::read(*engine, folder, if check == "integrity" { Check::Integrity } else { Check::Plain })
}

fn run(arguments: &[OsString]) -> Result<(), Failure> {
    let arguments = parse(arguments)?;
    let root = std::env::temp_dir().join(format!("peers-damage-{}", std::process::id()));
    let mut values = Vec::new();
    let mut output = std::io::stdout();
    for engine in arguments.engines {
        let swept = sweep(engine, &root, arguments.options);
        std::fs::remove_dir_all(&root)?;
        let swept = swept?;
        if arguments.is_json {
            values.push(report::value(&swept));
        } else {
            write!(output, "{}", report::table(&swept))?;
        }
    }
    if arguments.is_json {
        writeln!(output, "{}", serde_json::to_string_pretty(&values)?)?;
    }
    Ok(())
}

fn parse(arguments: &[OsString]) -> Result<Arguments, Failure> {
    let options = Options { stride: None, jobs: 1, patience: Duration::from_mins(1) };
    let mut parsed = Arguments { engines: Engine::ALL.to_vec(), options, is_json: false };
    let mut rest = arguments.iter().map(|argument| argument.to_string_lossy());
    while let Some(name) = rest.next() {
        if name == "--json" {
            parsed.is_json = true;
            continue;
        }
        let value = rest.next().ok_or(USAGE)?;
        match name.as_ref() {
            "--engine" => parsed.engines = Engine::named(&value),
            "--stride" => parsed.options.stride = Some(positive(&value)?),
            "--jobs" => parsed.options.jobs = positive(&value)?,
            "--seconds" => parsed.options.patience = Duration::from_secs(positive(&value)? as u64),
            _ => return Err(USAGE.into()),
        }
    }
    if parsed.engines.is_empty() { Err(USAGE.into()) } else { Ok(parsed) }
}

fn positive(value: &str) -> Result<usize, Failure> {
    match value.parse() {
        Ok(number) if number > 0 => Ok(number),
        _ => Err(format!("{value} is not a positive number\n\n{USAGE}").into()),
    }
}
