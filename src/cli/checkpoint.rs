//! `tpcore checkpoint`: writes a checkpoint, at the last recorded time.

use std::path::Path;

use serde_json::json;
use tpcore::{CheckpointPolicy, Clock, Config, GivenClock, Seq, Time, UpTo, ViewOptions};

use super::args::Checkpoint;
use super::exit::{Code, Failure};
use super::open::{close, open_engine, open_view};
use super::output::{Output, object};

/// Runs the command.
pub(crate) fn run(arguments: &Checkpoint, output: &mut Output) -> Result<Code, Failure> {
    let directory = &arguments.directory.data_dir;
    let mirror = arguments.writing.mirror.as_ref();
    // What is damaged here may be whole there.
    let is_there = mirror.is_some_and(|mirror| must_exist(mirror).is_ok());
    if !is_there && (!arguments.writing.accept_tail || !directory.exists()) {
        must_exist(directory)?;
    }
    let mut config = Config::at(directory);
    config.accept_tail = arguments.writing.accept_tail;
    config.mirror = mirror.cloned();
    config.empty_directory = arguments.writing.empty_directory();
    config.forget_when_idle = false;
    // A clock that stands at zero: the engine starts, and stays, at the last recorded time.
    config.clock = Clock::given(GivenClock::new(Time(0)));
    config.checkpoint = CheckpointPolicy::off();
    let engine = open_engine(config)?;
    let done = engine.checkpoint();
    close(engine)?;
    let done = done.map_err(|error| {
        Failure::new(
            Code::Disk,
            format!("no checkpoint was written: {error}; the older ones and the journal are untouched"),
        )
    })?;
    if output.is_json() {
        output.object(&object([("generation", json!(done.generation)), ("as_of", json!(done.as_of.0))]))?;
    } else {
        output.line(&format!("checkpoint {} written, as of sequence number {}", done.generation, done.as_of))?;
    }
    Ok(Code::Ok)
}

/// A command that works on a directory does not make one.
fn must_exist(path: &Path) -> Result<(), Failure> {
    open_view(path, ViewOptions { up_to: UpTo::Seq(Seq::ZERO), ..ViewOptions::default() }).map(drop)
}
