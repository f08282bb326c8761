//! `tp-server`: the network front of tpcore. HTTP/JSON over one engine.
//!
//! Owns listeners, sessions, who may do what, limits, metrics and shutdown. Refuses to know balances and file layouts: what a
//! command means is the engine's, and everything that must survive is an event or a record in its journal.
//!
//! ```text
//!  socket -> connection (deadlines, TLS) -> route table -> gate (who, role, rate, in flight) -> body -> command
//!                                                                                                   |
//!  socket <- reply or problem <- durable reply <- engine <------------------------------------------+
//! ```
//!
//! Invariants: TEN-1 (a tenant names only its own accounts, and sees and moves nothing of another without an agreement), RTE-1 (there
//! is no route without a role in the one table), LIM-1 (every size, count and wait has a bound), DRN-1 (what was accepted is
//! answered before the process ends).
#![forbid(unsafe_code)]

mod api;
mod app;
pub mod auth;
mod cache_file;
pub mod cards;
pub mod control;
mod demo;
mod frames;
mod gate;
mod grpc;
mod in_flight;
pub mod iso8583;
mod net;
pub mod observe;
pub mod offline;
mod rings;
pub mod server;
pub mod settings;
pub mod tenancy;
