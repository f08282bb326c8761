//! The HTTP/JSON protocol: routes, bodies, commands, replies, problems.
//!
//! Owns what is on the wire and its mapping to the engine's commands. Refuses to know sockets and how a caller proved who it is.

pub(crate) mod admin;
pub(crate) mod approvals;
pub(crate) mod batch;
pub(crate) mod cards;
pub(crate) mod command;
pub(crate) mod commands;
pub(crate) mod key;
pub(crate) mod members;
pub(crate) mod openapi;
pub(crate) mod problem;
pub(crate) mod reads;
pub(crate) mod recorded;
pub(crate) mod reply;
pub(crate) mod request;
pub(crate) mod routes;
