//! `tpcore dump`: every event as one JSON object a line.

use std::ops::ControlFlow;

use tpcore::UpTo;

use super::args::Dump;
use super::event_json::event_json;
use super::exit::{Code, Failure};
use super::open::replay;
use super::output::Output;

/// Runs the command.
pub(crate) fn run(arguments: &Dump, output: &mut Output) -> Result<Code, Failure> {
    let mut lines = Ok(());
    replay(&arguments.directory.data_dir, UpTo::End, &mut |seq, event, _| {
        if seq.0 < arguments.from {
            return ControlFlow::Continue(());
        }
        lines = output.object(&event_json(seq, event));
        if lines.is_ok() { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
    })?;
    lines.map(|()| Code::Ok)
}
