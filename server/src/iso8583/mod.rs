//! The card edge: ISO 8583 over TCP, each listener with its layout, tenant and acquirer.
//!
//! Owns what a card message asks for and how its answer looks, links and their order, deadlines and late answers, network management and
//! the day's totals. Refuses to know bytes (that is `tp-iso8583`), money (the engine) and card numbers beyond the vault's answer: what a
//! message has of a card is wiped with it.
//!
//! ```text
//!  socket -> frame -> layout -> message -> ask (what is meant: a command, a question, network management)
//!                                           |            |
//!                                           |          vault: number -> account
//!                                           v
//!  socket <- frame <- layout <- answer <- durable reply <- engine        late: 68, and the approval is reversed
//! ```
//!
//! Invariants: ISO-4 (a message and its repeats have one effect and one answer: the key is a hash of the fields that stay), ISO-5 (what is
//! answered as declined because it was late is undone), PAN-1 (no card data passes this edge: not into commands, notes, logs or answers to
//! others).

mod answer;
mod ask;
mod codes;
mod desk;
mod flight;
mod key;
mod key_locks;
mod link;
mod listener;
mod listeners;
#[cfg(test)]
mod tests;
mod totals;

/// What names in notes begin with that a card message made: the day's totals are counted by them, so nobody else writes such.
pub(crate) const CARD_PREFIX: &str = "card.";

pub(crate) use key_locks::KeyLocks;
pub(crate) use listener::{Edge, bind, run};
pub(crate) use listeners::Listener as CardListener;
pub use listeners::{Listeners, ListenersError};
pub(crate) use totals::Totals;
