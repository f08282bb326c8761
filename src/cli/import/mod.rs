//! `tpcore import`: a bank's rows, from the file to a report.
//!
//! ```text
//!   file --csv, row--> Sheet --plan--> commands --book, pipeline--> engine --close--> journal --View--> report
//! ```
//! Nothing is created or opened before the whole file is checked. Killed anywhere and run again, it continues: every command
//! carries a key that depends on the row alone, and the directory remembers keys for ever.

mod book;
mod csv;
#[cfg(test)]
mod fuzz;
mod pipeline;
mod plan;
mod report;
mod row;

use std::ops::ControlFlow;
use std::time::Instant;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use tpcore::{CheckpointPolicy, Clock, Config, GivenClock, Time, UpTo, Windows};

use super::args::Import;
use super::exit::{Code, Failure};
use super::open::{close, open_engine, replay};
use super::output::{Output, remark};
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
    let booked = book::book(&engine, &clock, &sheet.rows, &progress);
    let elapsed = started.elapsed();
    progress.finish_and_clear();
    // On a failure the engine is dropped: it stops without a checkpoint, and the next start replays.
    let booked = booked?;
    if engine.last_seq().0 > seq_before {
        // Without it the next start replays more, and that is all: the report does not depend on it.
        if let Err(error) = engine.checkpoint() {
            remark(&format!("no checkpoint was written: {error}"));
        }
    }
    close(engine)?;
    let mut running = report::Running::new(&sheet);
    let view = replay(&arguments.data_dir, UpTo::End, &mut |_, event, _| {
        running.take(event);
        ControlFlow::Continue(())
    })?;
    report::Report::new(&sheet, booked, &report::Span { seq_before, elapsed }, &running, &view).print(output)
}

/// The rows' dates drive the clock; keys are remembered for ever, so that a second run changes nothing however late; nor does it
/// write a checkpoint.
fn config(arguments: &Import, clock: &GivenClock) -> Config {
    let mut config = Config::at(&arguments.data_dir);
    config.accept_tail = arguments.writing.accept_tail;
    config.mirror.clone_from(&arguments.writing.mirror);
    config.empty_directory = arguments.writing.empty_directory();
    // Time that passes while nothing is to be booked shall change nothing.
    config.forget_when_idle = false;
    config.clock = Clock::given(clock.clone());
    config.checkpoint = CheckpointPolicy { at_close: false, ..CheckpointPolicy::default() };
    config.windows = Some(Windows { key_opaque_ms: None, ..Windows::default() });
    config
}

/// Drawn on standard error, and only when that is a terminal.
fn progress_bar(rows: u64) -> ProgressBar {
    let bar = ProgressBar::with_draw_target(Some(rows), ProgressDrawTarget::stderr());
    let style = ProgressStyle::with_template("{bar:40} {pos}/{len} rows  {per_sec}  {eta}");
    bar.with_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()))
}
