//! The history of an authorization, from the chain of the account that it holds money of.
//!
//! Owns how far back it is looked for; refuses to know what names an authorization ([`Names`]). Memory: eight bytes a leg
//! walked, and the events found.

use tp_core::event::{Body, Event};
use tp_core::ids::{AccountId, AuthorizationId, Seq};

use super::chain::{Chain, Place};
use super::error::HistoryError;
use super::names::Names;
use crate::engine::Engine;

/// Legs of the account walked back at most.
pub const AUTHORIZATION_LEGS_MAX: u64 = 100_000;

/// What happened to an authorization.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct AuthorizationHistory {
    /// The account's events that name it, oldest first.
    pub events: Vec<(Seq, Event)>,
    /// Whether they are all. Not when it was made more than [`AUTHORIZATION_LEGS_MAX`] of the account's legs ago: earlier events
    /// are missing then, and later ones that name it only by an earlier one (a capture's refund, a key's reversal).
    pub is_complete: bool,
}

impl Engine {
    /// The events of an account that name an authorization: the payer's, or the suspense account that an advice was booked on.
    /// The payees' sides of exchanges are not among them. `None`: no event of this account names it, or there is no such
    /// account.
    ///
    /// # Errors
    /// [`HistoryError`].
    pub fn authorization_history(
        &self,
        id: AuthorizationId,
        account: AccountId,
    ) -> Result<Option<AuthorizationHistory>, HistoryError> {
        let Some(now) = self.account(account)? else { return Ok(None) };
        let mut chain = Chain::new(self.journal(), account, Place { seq: now.seq, version: now.version });
        let (mut seqs, mut is_complete) = (Vec::new(), true);
        while let Some(step) = chain.next()? {
            if step.event.time < id.time() {
                break; // before it was made: recorded time never falls along a chain
            }
            seqs.push(step.seq);
            if matches!(&step.event.body, Body::Authorized(e) if e.authorization == id) {
                break;
            }
            if chain.legs >= AUTHORIZATION_LEGS_MAX {
                is_complete = false;
                break;
            }
        }
        // What names it is learned from its earlier events.
        let (mut names, mut events) = (Names::new(id), Vec::new());
        for seq in seqs.into_iter().rev() {
            let event = chain.reader.event(seq)?;
            if names.take(&event) {
                events.push((seq, event));
            }
        }
        Ok((!events.is_empty() || !is_complete).then_some(AuthorizationHistory { events, is_complete }))
    }
}
