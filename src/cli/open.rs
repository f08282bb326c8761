//! Opens data directories for the commands, and turns what goes wrong into failures with cause, cure and exit code.
//!
//! Read-only commands go through [`open_view`]: no lock, no write, beside a running engine.

use std::error::Error;
use std::io;
use std::ops::ControlFlow;
use std::path::Path;

use tpcore::event::Event;
use tpcore::{
    BadConfig, CloseError, Config, Cut, Engine, ErrorClass, OpenError, Seq, TailReport, UpTo, View, ViewError,
    ViewOptions,
};

use super::exit::{Code, Failure};
use super::output::remark;

/// Opens an engine: takes the lock, recovers, serves. What recovery found and repaired is said.
pub(crate) fn open_engine(config: Config) -> Result<Engine, Failure> {
    let engine = Engine::open(config)
        .map_err(|error| Failure::new(open_code(&error), format!("the data directory cannot be opened: {error}")))?;
    engine.recovery().notes.iter().for_each(|note| remark(note));
    Ok(engine)
}

/// Closes it: drains, checkpoints, syncs.
pub(crate) fn close(engine: Engine) -> Result<(), Failure> {
    let failed = |error: CloseError| {
        let code = class_code(error.class(), &error);
        Failure::new(
            code,
            format!(
                "the engine did not close in order: {error}; what was acknowledged is durable, run the command again"
            ),
        )
    };
    engine.close_blocking().map(|_| ()).map_err(failed)
}

/// Opens a directory read-only and tells a torn tail.
pub(crate) fn open_view(path: &Path, options: ViewOptions) -> Result<View, Failure> {
    let view = View::open(path, options).map_err(|error| view_failure(&error))?;
    report(&view);
    Ok(view)
}

/// Calls back with every event up to a point, in order, and the state after it.
pub(crate) fn replay(
    path: &Path,
    up_to: UpTo,
    each: &mut dyn FnMut(Seq, &Event, &View) -> ControlFlow<()>,
) -> Result<View, Failure> {
    let view = View::replay(path, up_to, each).map_err(|error| view_failure(&error))?;
    report(&view);
    Ok(view)
}

fn report(view: &View) {
    if let TailReport::Torn(cut) | TailReport::Accepted(cut) = view.tail() {
        let Cut { file, offset, bytes, .. } = cut;
        remark(&format!(
            "a torn tail was left out: {bytes} bytes from byte {offset} of {file}, of which nothing was acknowledged; the next \
             command that writes cuts it"
        ));
    }
    view.notes().iter().for_each(|note| remark(note));
}

fn view_failure(error: &ViewError) -> Failure {
    Failure::new(class_code(error.class(), error), format!("the data directory cannot be read: {error}"))
}

fn open_code(error: &OpenError) -> Code {
    match error {
        OpenError::Config(BadConfig::OtherWindows { .. } | BadConfig::OtherJournal { .. }) => Code::Directory,
        _ => class_code(error.class(), error),
    }
}

/// The exit code of an error's class. What the system reports about a path that is not there or may not be written is about
/// the directory, not the disk.
pub(crate) fn class_code(class: ErrorClass, error: &(dyn Error + 'static)) -> Code {
    match class {
        ErrorClass::Usage => Code::Usage,
        ErrorClass::Directory => Code::Directory,
        ErrorClass::Corruption => Code::Corrupt,
        ErrorClass::Disk if is_about_the_path(error) => Code::Directory,
        ErrorClass::Disk => Code::Disk,
        _ => Code::Check,
    }
}

fn is_about_the_path(error: &(dyn Error + 'static)) -> bool {
    use io::ErrorKind::{AlreadyExists, NotADirectory, NotFound, PermissionDenied, ReadOnlyFilesystem};
    let mut cause = Some(error);
    while let Some(error) = cause {
        if let Some(io) = error.downcast_ref::<io::Error>() {
            return matches!(
                io.kind(),
                PermissionDenied | ReadOnlyFilesystem | NotFound | NotADirectory | AlreadyExists
            );
        }
        cause = error.source();
    }
    false
}
