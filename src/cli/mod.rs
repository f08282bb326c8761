//! The `tpcore` command: from arguments to an exit code.
//!
//! Owns what a person or a script at a terminal sees: arguments, text, JSON, exit codes. Refuses to know anything below the
//! facade: it decides nothing about money and touches no file of a data directory by itself.
//!
//! ```text
//!   arguments --> args --> accounts, statement, authorization, state, dump, verify    read-only, beside a running engine
//!                     |--> serve, tenant, key (feature `serve`)                       take the lock and write
//!                     \--> import, checkpoint, scrub, catalogue rebuild               take the directory's lock and write
//!   every one returns Result<Code, Failure>; `exit` turns it into the process's exit code, `output` into text or JSON
//! ```

mod accounts;
mod args;
mod authorization;
mod catalogue;
mod checkpoint;
mod dump;
mod event_json;
mod exit;
#[cfg(test)]
mod fuzz;
mod import;
mod open;
mod output;
mod point;
#[cfg(feature = "serve")]
mod serve;
mod statement;
#[cfg(feature = "serve")]
mod tenants;
mod verify;

use std::process::ExitCode;

use clap::Parser as _;

use args::{Arguments, CatalogueVerb, Verb};
use exit::{Code, Failure};
use output::Output;

/// Runs the command that the process was started with.
pub(crate) fn main() -> ExitCode {
    let arguments = match Arguments::try_parse() {
        Ok(arguments) => arguments,
        Err(error) => {
            // A closed pipe is no reason to fail: whoever asked for help has read enough.
            let _ = error.print();
            return Code::from_clap(&error).into();
        }
    };
    let mut output = Output::new(arguments.json);
    let result = run(&arguments.verb, &mut output);
    output.finish(result).into()
}

fn run(verb: &Verb, output: &mut Output) -> Result<Code, Failure> {
    match verb {
        #[cfg(feature = "serve")]
        Verb::Serve(a) => serve::run(a, output),
        #[cfg(feature = "serve")]
        Verb::Tenant { verb } => tenants::run_tenant(verb, output),
        #[cfg(feature = "serve")]
        Verb::Key { verb } => tenants::run_key(verb, output),
        #[cfg(feature = "serve")]
        Verb::Config { verb } => serve::run_config(verb, output),
        Verb::Import(a) => import::run(a, output),
        Verb::Accounts(a) => accounts::run(a, output),
        Verb::State(a) => accounts::run_state(a, output),
        Verb::Statement(a) => statement::run(a, output),
        Verb::Authorization(a) => authorization::run(a, output),
        Verb::Dump(a) => dump::run(a, output),
        Verb::Verify(a) => verify::run(a, output),
        Verb::Scrub(a) => verify::scrub(a, output),
        Verb::Checkpoint(a) => checkpoint::run(a, output),
        Verb::Catalogue { verb: CatalogueVerb::Rebuild(a) } => catalogue::run(a, output),
    }
}
