//! The load generator of tpcore.
//!
//! ```text
//!  Cli ─► Plan ─► Setup (accounts, balances) ─► Driver (open loop) ─► money checks ─► Report ─► lines, JSON, HTML
//!                                   Schedule ─►│planned times│
//!                                   Workload ─►│commands     │─► Target ─► replies ─► Recorder, Books, Acks
//! ```
#![forbid(unsafe_code)]

pub mod acks;
pub mod audit;
pub mod books;
pub mod cli;
pub mod display;
pub mod driver;
pub mod embedded;
#[cfg(test)]
mod fuzz;
pub mod machine;
pub mod mix;
pub mod money;
pub mod network;
pub mod payees;
pub mod plan;
pub mod recorder;
pub mod report;
pub mod run;
pub mod schedule;
pub mod setup;
pub mod skew;
pub mod slo;
pub mod target;
pub mod units;
pub mod workload;
