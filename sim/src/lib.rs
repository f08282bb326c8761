//! `tp-sim`: the promises of tpcore under attack, on a simulated machine.
//!
//! Owns the simulated clients, clocks and schedule, the oracle, and what must hold. The partitions, exchanges, journal writer,
//! checkpointer and recovery are the production code, driven step by step through [`tp_actors::ManualEngine`]. What a simulated machine
//! cannot show, real processes do: [`kills`], and power [`cuts`] of a real file system. Refuses to know sockets.
#![forbid(unsafe_code)]

mod chance;
pub mod cli;
mod clients;
pub mod corruption;
pub mod cuts;
pub mod fake_clock;
pub mod file_system;
pub mod generator;
pub mod images;
pub mod kills;
mod machine;
mod many;
mod marks;
pub mod night;
mod oracle;
pub mod overload;
mod plan;
pub mod planted;
mod recording;
mod traffic;
mod world;

pub use machine::Copies;
pub use many::{GATE_SEEDS, Runs, Summary, run_case, run_many, shrink};
pub use marks::{MUST, Marks};
pub use plan::{Case, Feature};
pub use world::{Report, Violation, run};
