//! `tp-iso8583`: the bytes of card messages (ISO 8583), by layouts that are data.
//!
//! Owns what a message is (its type, its data elements), how a layout puts it into bytes and takes it out again, the frames of a
//! connection, and the currencies that the messages name. Refuses to know sockets, accounts and what a message asks for: that is the
//! server's and the load generator's.
//!
//! ```text
//!   layouts/*.toml --> Layout --+
//!                               v
//!   bytes -- frame --> body -- decode --> Message (type, elements as text) -- encode --> body -- frame --> bytes
//! ```
//!
//! Invariants: ISO-1 (a message that was encoded is decoded to the same message, by every layout that has its elements), ISO-2 (no bytes panic, and what is
//! refused names the element, never its value), ISO-3 (a message's values are wiped when it is cleared or dropped, and its debug form
//! has none of them).
#![forbid(unsafe_code)]

mod currency;
mod decode;
mod element;
mod encode;
mod frame;
#[cfg(test)]
mod fuzz;
mod layout;
mod message;
mod mti;

pub use currency::{Currency, currency_of};
pub use decode::{DecodeError, Flaw};
pub use element::{Characters, Element, Extent};
pub use encode::EncodeError;
pub use frame::{FRAME_HEAD_BYTES, FrameTooLong, MESSAGE_BYTES_MAX, frame_into, frame_length};
pub use layout::{BitmapForm, Form, Layout, LayoutError};
pub use message::{ELEMENTS, Elements, Message};
pub use mti::Mti;
