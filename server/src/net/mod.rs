//! Sockets: listeners, connections, their deadlines, and the end of both.
//!
//! Owns how a connection is accepted, encrypted, bounded and closed. Refuses to know what is said over it.

pub(crate) mod connection;
pub(crate) mod count;
pub(crate) mod deadlines;
pub(crate) mod head;
pub(crate) mod links;
pub(crate) mod listener;
