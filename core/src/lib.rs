//! The domain of tpcore.
#![forbid(unsafe_code)]

pub mod amount;
pub mod codec;
pub mod command;
pub mod event;
pub mod ids;
pub mod key;
pub mod metadata;
pub mod outcome;
pub mod reply;
pub mod rules;
pub mod time;
pub mod turn;
