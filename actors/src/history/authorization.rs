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
        self.authorization_history_within(AUTHORIZATION_LEGS_MAX, id, account)
    }

    fn authorization_history_within(
        &self,
        legs_max: u64,
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
            if chain.legs >= legs_max {
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

#[cfg(test)]
mod tests {
    use tp_core::amount::{Amount, CreditLimit, Ledger};
    use tp_core::command::{Authorize, Increment, Note, OpenAccount, Settings};
    use tp_core::key::Key;

    use super::*;
    use crate::config::Config;

    #[test]
    fn a_history_that_reaches_too_far_back_says_that_it_is_not_whole() {
        let engine = Engine::open(Config::in_memory()).expect("opens");
        let (ledger, account, note) = (Ledger::new("EUR", 2).expect("valid"), AccountId(1), Note::default());
        let settings = Settings { credit_limit: CreditLimit::Unlimited, ..Settings::new(ledger) };
        engine.call_blocking(OpenAccount { key: Key::opaque(1), account, settings, note: note.clone() });
        let made = engine.call_blocking(Authorize::new(Key::opaque(2), account, ledger, Amount::from(5_u64)));
        let id = made.authorization.expect("it was made");
        for n in 3..=12 {
            let (key, note, amount) = (Key::opaque(n), note.clone(), Amount::from(1_u64));
            engine.call_blocking(Increment { key, authorization: id, amount, lifetime_ms: None, note });
        }
        let within = |legs| {
            let found = engine.authorization_history_within(legs, id, account).expect("readable").expect("it is named");
            (found.events.first().map(|(seq, _)| seq.0), found.events.len(), found.is_complete)
        };
        assert_eq!(within(4), (Some(9), 4, false), "the last four of twelve legs");
        assert_eq!(within(10), (Some(3), 10, false));
        assert_eq!(within(11), (Some(2), 11, true), "up to where it was made, not to the account's opening");
        assert_eq!(within(AUTHORIZATION_LEGS_MAX), (Some(2), 11, true));
    }
}
