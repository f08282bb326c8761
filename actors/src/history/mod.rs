//! Old facts on a running engine: statements, accounts as they stood, histories of authorizations.
//!
//! Owns walking an account's chain of legs backwards (J3) and what its events mean to the account; refuses to decide, to scan
//! the journal, to show what is not durable, and to hold anything up: it reads on the asking thread. All functions block it.
//! What a question costs goes by the legs between the present and the answer, not by the size of the journal: one event
//! a leg, and neighbours often share a frame.
//!
//! ```text
//!  account now: last event, version, balances
//!     |  previous      previous        previous
//!     v                                                 Moved, Authorized, .. say what they did
//!   leg n  ------->  leg n-1 ------->  ..  ---> leg 1   Ended: what its Opened says, further back in the chain
//!                                                       Answered: the payer is in its Opened, shortly before it in the journal
//! ```

mod at;
mod authorization;
mod chain;
mod error;
mod legs;
mod names;
pub(crate) mod reader;
mod statement;

pub use at::{ACCOUNT_AT_LEGS_MAX, AccountAt};
pub use authorization::{AUTHORIZATION_LEGS_MAX, AuthorizationHistory};
pub use error::HistoryError;
pub use legs::{Legs, Line};
pub use names::Names;
pub use reader::OPENING_FRAMES_MAX;
pub use statement::{
    OPENING_LEGS_MAX, STATEMENT_LINES_MAX, StatementCursor, StatementLine, StatementPage, StatementQuery,
};
