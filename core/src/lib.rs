//! The domain of tpcore: what an authorization's life is, and nothing of where it runs.
//!
//! ```text
//! Command --decide(state, now)--> Event --evolve--> state        decide reads, evolve writes; both are pure and total
//!            (decide/)          (event)   (evolve)  (slot)
//! a partition's turn: messages, expiries, commands in; events, answers, messages out        (partition, turn)
//! ```
//!
//! Owns: ids, amounts, accounts, holds, commands, events, outcomes; `decide`, `evolve`; the partition as a plain state machine;
//! the invariants. Refuses to know: clocks, threads, files, sockets, randomness, async, hash order, floats.
#![forbid(unsafe_code)]

mod account;
pub mod amount;
pub mod authorization;
mod chunks;
pub mod codec;
pub mod command;
pub mod copying;
mod decide;
pub mod digest;
pub mod event;
mod evolve;
mod exchange;
mod gapless;
pub mod ids;
pub mod image;
mod index;
pub mod invariants;
pub mod key;
mod keys;
mod look;
pub mod metadata;
pub mod outcome;
mod part;
pub mod partition;
pub mod reply;
pub mod restore;
pub mod rules;
pub mod scope;
mod slab;
pub mod slot;
mod stats;
pub mod time;
pub mod turn;
mod wheel;

pub use evolve::EvolveError;
pub use look::Looked;
