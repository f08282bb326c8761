//! `tpcore catalogue rebuild`: makes the catalogue again from the journal. It is an index and never the only copy of anything.

use serde_json::json;
use tpcore::rebuild_catalogue;

use super::args::Directory;
use super::exit::{Code, Failure};
use super::open::class_code;
use super::output::{Output, object};

/// Runs the command.
pub(crate) fn run(arguments: &Directory, output: &mut Output) -> Result<Code, Failure> {
    let rebuilt = rebuild_catalogue(&arguments.data_dir).map_err(|error| {
        let code = class_code(error.class(), &error);
        Failure::new(
            code,
            format!("the catalogue was not rebuilt: {error}; the journal is untouched, run the command again"),
        )
    })?;
    if output.is_json() {
        output.object(&object([("frames", json!(rebuilt.frames)), ("last_seq", json!(rebuilt.last_seq.0))]))?;
    } else {
        output.line(&format!(
            "catalogue rebuilt: {} frames, up to sequence number {}",
            rebuilt.frames, rebuilt.last_seq
        ))?;
    }
    Ok(Code::Ok)
}
