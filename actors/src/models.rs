//! Models: the cross-thread protocols of this crate under a checker that tries every schedule.
//!
//! Owns the checks (docs/src/models.md has the list, and the mutations that each was seen to find); refuses to copy what it
//! checks: partitions, rings, writer, wake-ups and clients are the production code, on the types of [`crate::sync`]. Only built
//! by a test build with `--cfg tp_loom`.
//!
//! ```text
//!  client (main) --submit--> inbox --> PartitionCrank --ring--> WriterCrank --> ModelJournal
//!       ^------- completions <---- released <----- durable number <----+
//! ```
//!
//! Nothing in here times out and no timer rings, so whatever is only found by the next tick is a deadlock here.

mod client_ring;
mod commit;
mod durable_watch;
mod exchange;
mod harness;
mod lanes;
mod planted;
pub(crate) mod queues;
pub(crate) mod stand_in;
