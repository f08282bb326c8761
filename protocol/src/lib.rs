//! What travels between a server and its callers, and a small client.
//!
//! Owns the forms: the frames of the binary door and, with the feature `grpc`, the messages, service and client of the gRPC door. Refuses
//! to know what a command does, and the engine: a caller needs this crate and no other.
//!
//! ```no_run
//! use tp_protocol::client::Client;
//! use tp_protocol::frames::{Command, verb};
//!
//! let mut client = Client::connect("127.0.0.1:8790", "tpk_…")?;
//! let mut command = Command::new(verb::AUTHORIZE, 1, 0x0190_a5d0_1111_7001_8000_0000_0000_0001).with_amount(2500, "EUR", 2);
//! command.account = 42.into();
//! client.send(&command)?;
//! let reply = client.receive()?;
//! println!("{} {}", reply.tag, reply.code);
//! # Ok::<(), tp_protocol::client::ClientError>(())
//! ```

pub mod client;
pub mod frames;
#[cfg(test)]
mod fuzz;
#[cfg(feature = "grpc")]
pub mod grpc;
