//! `tpcore import`: a bank's rows, from the file to a report.
//!
//! ```text
//!   file --csv, row--> Sheet --plan--> commands --book, pipeline--> engine --close--> journal --View--> report
//! ```
//! Nothing is created or opened before the whole file is checked. Killed anywhere and run again, it continues: every command
//! carries a key that depends on the row alone, and the directory remembers keys for ever.

mod book;
mod csv;
mod pipeline;
mod plan;
mod report;
mod row;

use std::time::Instant;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use tpcore::{Clock, Config, Engine, GivenClock, Time, Windows};

use super::args::Import;
use super::exit::{Code, Failure};
use super::open::{close, open_engine, open_view};
use super::output::Output;
pub(crate) use report::{print_totals, totals_json};
pub(crate) use row::Fault;

/// Runs the command.
pub(crate) fn run(arguments: &Import, output: &mut Output) -> Result<Code, Failure> {
    let sheet = csv::read(&arguments.input)?;
    let first = sheet.rows.first().map_or(Time(0), |row| row.date.start());
    let clock = GivenClock::new(first);
    let engine = open_engine(config(arguments, &clock))?;
    let seq_before = engine.last_seq().0;
    let progress = progress_bar(sheet.rows.len() as u64);
    let started = Instant::now();
    let booked = book(&engine, &clock, &sheet, &progress);
    let elapsed = started.elapsed();
    progress.finish_and_clear();
    let booked = match booked {
        Ok(booked) => booked,
        Err(failure) => {
            drop(engine); // stops without a checkpoint: the next start replays
            return Err(failure);
        }
    };
    close(engine)?;
    let view = open_view(&arguments.data_dir, tpcore::ViewOptions { use_checkpoint: false, ..Default::default() })?;
    report::Report::new(&sheet, booked, &report::Span { seq_before, elapsed }, &view).print(output)
}

fn book(
    engine: &Engine,
    clock: &GivenClock,
    sheet: &csv::Sheet,
    progress: &ProgressBar,
) -> Result<book::Booked, Failure> {
    book::book(engine, clock, &sheet.rows, progress)
}

/// The rows' dates drive the clock; keys are remembered for ever, so that a second run changes nothing however late.
fn config(arguments: &Import, clock: &GivenClock) -> Config {
    let mut config = Config::at(&arguments.data_dir);
    config.clock = Clock::given(clock.clone());
    config.windows = Some(Windows { key_opaque_ms: None, ..Windows::default() });
    config
}

/// Drawn on standard error, and only when that is a terminal.
fn progress_bar(rows: u64) -> ProgressBar {
    let bar = ProgressBar::with_draw_target(Some(rows), ProgressDrawTarget::stderr());
    let style = ProgressStyle::with_template("{bar:40} {pos}/{len} rows  {per_sec}  {eta}");
    bar.with_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()))
}
