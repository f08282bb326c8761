//! `tp-benches`: what the benches of tpcore share, and what the tool that records their runs is made of.
//!
//! Owns the workloads ([`bank`], [`make`]), the places and sizes of a run ([`place`]), and the record of a run:
//! figures, machine, comparison. Refuses to know engine internals: everything is driven through public interfaces.
//!
//! ```text
//! cargo bench  --> benches/{commands,events,journal,actors,engine}.rs --> criterion's estimates
//! cargo test   --> the same, each once on tiny inputs (smoke): they cannot rot
//! runs record  --> a command, N times --> benches/runs/<date>-<topic>/ --> runs compare
//! ```
//!
//! Invariants: every bench verifies its answer, and panics when it is wrong: a figure of a wrong answer is worth nothing.
//! A record names no host, no user and no absolute path of the machine.

pub mod bank;
pub mod clean;
pub mod collect;
pub mod compare;
pub mod error;
pub mod figures;
pub mod machine;
pub mod make;
pub mod place;
pub mod record;
pub mod run;
pub mod summary;
