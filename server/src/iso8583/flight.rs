//! A message between its reading and its answer.
//!
//! Owns the questions to the engine that a message needs, what its replies mean for the answer, and when nothing true can be said. Refuses
//! to know frames and the order of a link.

use std::sync::Arc;
use std::time::Instant;

use tp_actors::tp_core::amount::Ledger;
use tp_actors::tp_core::command::{Advice, Command, Lookup, Read, ReadTarget, Reverse, Verb};
use tp_actors::tp_core::ids::{AccountId, Seq};
use tp_actors::tp_core::key::Key;
use tp_actors::tp_core::outcome::Outcome;
use tp_actors::tp_core::reply::Reply;
use tp_iso8583::Message;

use super::answer::{filled, put};
use super::ask::{Ask, Planned};
use super::codes::Code;
use super::key_locks::KeyGuard;
use super::listener::Edge;
use crate::gate::Place;
use crate::net::count::Counted;

/// What a message holds until it is answered.
pub(super) struct Held {
    /// Its place among those in flight.
    pub(super) _place: Counted,
    /// Its key: a repeat waits for its answer.
    pub(super) key: Option<KeyGuard>,
    /// Its tenant's place.
    pub(super) room: Option<Place>,
}

/// An answer on its way out.
pub(super) struct Outgoing {
    pub(super) answer: Message,
    pub(super) began: Instant,
    /// What was approved for the first time: undone, should the answer be too late.
    pub(super) approved: Option<Box<Planned>>,
    pub(super) held: Held,
}

/// A message whose command was not decided durably in time.
pub(super) struct Open {
    flight: Flight,
    planned: Box<Planned>,
    undo: Reverse,
}

impl Open {
    /// What came of it. A message that was sent twice without saying so is answered by the first one.
    pub(super) async fn settled(self) -> Option<Outgoing> {
        let Self { flight, planned, undo } = self;
        let reply = flight.edge.outcome_of(&planned).await?;
        if !reply.outcome.is_approval() {
            return Some(flight.coded(Code::of(&reply)));
        }
        // It is told that it is not approved, once that is so.
        let is_own = reply.seq > flight.seq_before;
        (is_own && flight.edge.undo(undo).await).then(|| flight.coded(Code::LATE))
    }
}

/// A message that the engine is asked about.
pub(super) struct Flight {
    pub(super) edge: Arc<Edge>,
    pub(super) answer: Message,
    pub(super) began: Instant,
    /// It may have been decided before: what says that nothing was done now does not say that nothing was done.
    pub(super) is_repeat: bool,
    /// The last event that there was before: what was decided up to it, this message did not decide.
    pub(super) seq_before: Seq,
    pub(super) held: Held,
}

impl Flight {
    /// Takes a place among the tenant's commands under way; `false`: there is none, or they come too fast.
    pub(super) fn enter(&mut self) -> bool {
        self.held.room = self.edge.room.enter().ok();
        self.held.room.is_some()
    }

    /// There was no place. `None`: that says nothing of what was decided before.
    pub(super) fn turned_away(self) -> Option<Outgoing> {
        if self.is_repeat { None } else { Some(self.coded(Code::INOPERATIVE)) }
    }

    /// Asks the engine all that has to be asked. `None`: nothing true can be said in time.
    pub(super) async fn run(mut self, ask: Ask) -> Option<Outgoing> {
        match ask {
            Ask::Command(planned) => {
                if planned.undo.is_some() {
                    self.take_key(planned.key).await?;
                }
                match self.decide(planned).await {
                    Ok((reply, planned)) => match self.said(&reply, planned) {
                        Ok(outgoing) => outgoing,
                        Err(open) => open.settled().await,
                    },
                    // A question was not answered, and nothing was asked for yet. An advice comes again.
                    Err((_, planned)) if planned.undo.is_some() => None,
                    Err((reply, _)) => Some(self.replied(&reply, None)),
                }
            }
            Ask::IfKnown(accounts, key, code) => {
                // Not before its original's undoing, if it is being undone.
                self.take_key(key).await?;
                let reply = match self.first_known(accounts, key).await {
                    Ok(Some((_, reply))) => reply,
                    Err(_) if self.is_repeat => return None,
                    Ok(None) | Err(_) => return Some(self.coded(code)),
                };
                Some(self.replied(&reply, None))
            }
            Ask::Balances(account) => {
                let read = Read { target: ReadTarget::Account(account) };
                let reply = self.call(read.into(), None).await;
                Some(self.replied(&reply, None))
            }
            Ask::CutOver => {
                let code = self.edge.cut_over(&self.answer, self.left()).await;
                Some(self.coded(code))
            }
            Ask::Totals => {
                let until = self.until();
                let code = self.edge.totals(&mut self.answer, until).await;
                Some(self.coded(code))
            }
            Ask::Refused(_) | Ask::SignOn | Ask::SignOff | Ask::Echo => Some(self.coded(Code::MALFUNCTION)),
        }
    }

    /// Waits for a key. `None`: it was not free in time, so another message's answer says what is to be said.
    async fn take_key(&mut self, key: Key) -> Option<()> {
        if self.held.key.is_none() {
            let owned = (self.edge.listener.tenant, key);
            // Another message had it just now.
            self.is_repeat = true;
            self.held.key = Some(self.edge.keys.take(owned, self.until()).await?);
        }
        Some(())
    }

    /// The engine's reply to a command, after what has to be asked first, and the command as it was submitted.
    ///
    /// # Errors
    /// A question's reply that says nothing.
    async fn decide(&self, planned: Box<Planned>) -> Result<(Reply, Box<Planned>), (Reply, Box<Planned>)> {
        let planned = if planned.owners.is_empty() {
            planned
        } else {
            // Where it was decided before, if it was; else where the authorization is that it completes.
            let accounts: Vec<AccountId> = planned.owner().into_iter().chain(planned.owners.iter().copied()).collect();
            let mut keys = std::iter::once(planned.key).chain(planned.completes);
            let mut owner = None;
            while let (None, Some(key)) = (owner, keys.next()) {
                match self.first_known(accounts.clone(), key).await {
                    Ok(found) => owner = found.map(|(account, _)| account),
                    Err(reply) => return Err((reply, planned)),
                }
            }
            match owner {
                Some(account) => Box::new(planned.owned_by(account)),
                None => planned,
            }
        };
        let reply = match (planned.completes, planned.owner()) {
            (Some(original), Some(account)) => self.complete(&planned, account, original).await,
            _ => self.call(planned.command.clone(), planned.ledger).await,
        };
        if reply.outcome == Outcome::IdempotencyConflict {
            // The card was another one, or not known, when it was paid to.
            for payee in &planned.payees.clone() {
                let command = planned.paid_to(*payee);
                let again = self.call(command.clone(), planned.ledger).await;
                if again.outcome != Outcome::IdempotencyConflict {
                    return Ok((again, Box::new(Planned { command, ..*planned })));
                }
            }
        }
        Ok((reply, planned))
    }

    /// The first of these accounts on which a key was decided, and what.
    ///
    /// # Errors
    /// A reply that does not say.
    async fn first_known(&self, accounts: Vec<AccountId>, key: Key) -> Result<Option<(AccountId, Reply)>, Reply> {
        for account in accounts {
            let reply = self.call(Lookup { account, key, fence: false }.into(), None).await;
            if reply.outcome.leaves_at_once() {
                return Err(reply);
            }
            if reply.repeated {
                return Ok(Some((account, reply)));
            }
        }
        Ok(None)
    }

    /// A posting that completes an authorization: its id is asked for first. The posting of a repeat whose original was not known the
    /// first time stays the one it was.
    async fn complete(&self, planned: &Planned, account: AccountId, original: Key) -> Reply {
        let found = self.call(Lookup { account, key: original, fence: false }.into(), None).await;
        if found.outcome.leaves_at_once() {
            return found;
        }
        let mut command = planned.command.clone();
        if let Command::Advise(advise) = &mut command
            && let Advice::Post { authorization, .. } = &mut advise.advice
        {
            *authorization = found.authorization;
        }
        let reply = self.call(command, planned.ledger).await;
        if reply.outcome == Outcome::IdempotencyConflict && found.authorization.is_some() {
            return self.call(planned.command.clone(), planned.ledger).await;
        }
        reply
    }

    fn until(&self) -> Instant {
        self.began + self.edge.listener.deadline
    }

    /// What is left of the deadline, ms.
    fn left(&self) -> u64 {
        self.left_at(Instant::now())
    }

    /// What is left of the deadline at that moment, ms.
    pub(super) fn left_at(&self, now: Instant) -> u64 {
        let left = self.edge.listener.deadline.saturating_sub(now.saturating_duration_since(self.began));
        u64::try_from(left.as_millis()).unwrap_or(u64::MAX).max(1)
    }

    async fn call(&self, command: Command, ledger: Option<Ledger>) -> Reply {
        let verb = command.verb();
        let reply = self.edge.submit(command, ledger, self.left()).await;
        self.count(verb, &reply);
        reply
    }

    pub(super) fn count(&self, verb: Verb, reply: &Reply) {
        self.edge.serving.count(verb, reply.outcome);
    }

    /// What the engine's reply to what was asked for says. `None`: nothing true can be said in time.
    ///
    /// # Errors
    /// What came of it has to be found out first.
    pub(super) fn said(self, reply: &Reply, planned: Box<Planned>) -> Result<Option<Outgoing>, Open> {
        if !reply.outcome.leaves_at_once() {
            return Ok(Some(self.replied(reply, Some(planned))));
        }
        // It says nothing of what was or will be decided.
        match planned.reverse() {
            // An advice: it comes again until it is accepted.
            None => Ok(Some(self.replied(reply, None))),
            // The original may have been approved: only its own answer says.
            Some(_) if self.is_repeat => Ok(None),
            Some(undo) if reply.outcome == Outcome::InProgress => Err(Open { flight: self, planned, undo }),
            // Nothing was done.
            Some(_) => Ok(Some(self.coded(Code::of(reply)))),
        }
    }

    /// The answer that a reply makes.
    pub(super) fn replied(mut self, reply: &Reply, planned: Option<Box<Planned>>) -> Outgoing {
        filled(&self.edge.listener.layout, &mut self.answer, reply);
        let approved =
            planned.filter(|planned| reply.outcome.is_approval() && !reply.repeated && planned.undo.is_some());
        Outgoing { answer: self.answer, began: self.began, approved, held: self.held }
    }

    /// The answer of a code.
    pub(super) fn coded(mut self, code: Code) -> Outgoing {
        put(&self.edge.listener.layout, &mut self.answer, 39, code.0);
        Outgoing { answer: self.answer, began: self.began, approved: None, held: self.held }
    }
}
