//! Why a question about the past was not answered.

use tp_core::ids::{AccountId, Seq};
use tp_storage::ReadError;

use crate::error::{ErrorClass, NotAnswered, ReplayError, replay_class};

/// Why a question about the past was not answered. Nothing was changed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum HistoryError {
    /// The engine did not say how the account stands: it stops, is poisoned or too busy.
    #[error(transparent)]
    NotAnswered(#[from] NotAnswered),
    /// The journal could not be read at an event: damage, a file that is gone, a disk that fails.
    #[error("event {seq} cannot be read: {source}")]
    Read {
        /// Which event.
        seq: Seq,
        /// Why.
        source: ReplayError,
    },
    /// The events do not make up the account's chain (J3): damage, or a bug.
    #[error(
        "the chain of account {account} does not hold at event {seq}: {what}; run `verify` on a copy of the journal"
    )]
    Chain {
        /// Whose chain.
        account: AccountId,
        /// Where.
        seq: Seq,
        /// What does not hold.
        what: &'static str,
    },
    /// A page cannot have that many lines.
    #[error("a page of {got} lines: 1 to {most} are possible")]
    Limit {
        /// What was asked for.
        got: usize,
        /// The most.
        most: usize,
    },
    /// The cursor is none that a statement of this account gave.
    #[error("the cursor at event {seq} is none of a statement of account {account}")]
    Cursor {
        /// Whose statement.
        account: AccountId,
        /// Where the cursor stands.
        seq: Seq,
    },
    /// The answer lies more legs back than one question may go.
    #[error(
        "account {account}: {legs} legs were read back to event {seq}, and the answer lies before them: ask a view"
    )]
    TooFar {
        /// Whose chain.
        account: AccountId,
        /// The last event read.
        seq: Seq,
        /// How many legs were read.
        legs: u64,
    },
}

impl HistoryError {
    pub(crate) fn read(seq: u64, source: ReadError) -> Self {
        Self::Read { seq: Seq(seq), source: ReplayError::Read(source) }
    }

    /// What kind of trouble it is.
    pub fn class(&self) -> ErrorClass {
        match self {
            Self::NotAnswered(_) => ErrorClass::Other,
            Self::Read { source, .. } => replay_class(source),
            Self::Chain { .. } => ErrorClass::Corruption,
            Self::Limit { .. } | Self::Cursor { .. } | Self::TooFar { .. } => ErrorClass::Usage,
        }
    }
}
