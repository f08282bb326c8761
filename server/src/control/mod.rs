//! Tenants, keys, agreements, approvals: what the operator and the tenants' people decide about who may do what.
//!
//! Owns the records of one stream in the engine's journal ([`CONTROL_STREAM`]) and the state that is their fold, so that it is as
//! durable and as auditable as the money. Refuses to know how a caller proves who it is, and what a command means.
//!
//! ```text
//!   change --> validate against the state --> engine.record (durable) --> apply --> answer         one at a time
//!   start  --> newest image that fits (a cache) --> records after it from the journal --> state
//! ```
//!
//! Invariants: CTL-1 (a change is answered only when its record is durable, and applied in the order of the records), CTL-2 (the state is
//! the fold of the records: the image is only a cache), APR-1 (an approval is decided once, by another person, before it expires;
//! its command executes under its own idempotency key, so at most once).

mod image;
mod keys;
mod record;
mod state;
mod store;

pub use keys::{KeyKind, NewKey};
pub(crate) use record::Change;
pub use record::{ApprovalId, AskedFor, Credential, Maker, Role, Roles, UnixMs};
pub use state::{Approval, ApprovalState, ControlState, KeyEntry, Refused, Tenant};
pub use store::{Control, ControlError};
pub(crate) use store::{ControlFold, Fold, fold, is_recorded, now};

pub use crate::auth::key_id::KeyId;

/// What stands for the key of a caller who showed a token: no key has this id.
pub const NO_KEY: KeyId = KeyId::from_bytes([0; 8]);

/// The stream of the engine's records that this state is folded from.
pub const CONTROL_STREAM: u32 = 1;
