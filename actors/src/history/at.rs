//! An account as it stood: from the present, each leg's effect is taken back.
//!
//! Owns the inverse of the fold on posted and held; refuses to decide anything. All of it stands in the events but one thing:
//! a final capture (or an advice on an open hold) releases what is left of its hold, and does not say how much. That is what
//! the authorization's earlier events made of it, and they lie in the same chain, so the walk goes on until it has met them.
//!
//! ```text
//!   now  <-- taken back --  final capture of A  <-- taken back --  the point  <-- only read --  A was made
//!                           rest of A unknown                                   rest = A's changes up to here
//! ```

use std::collections::HashMap;

use tp_core::event::{Answered, Body, Event, Leg, Movement, Purpose, Role};
use tp_core::ids::{AccountId, Seq, Version};
use tp_core::outcome::Outcome;
use tp_core::reply::Flags;
use tp_core::time::Time;

use super::chain::{Chain, Place};
use super::error::HistoryError;
use super::legs::ExchangeKey;
use crate::engine::Engine;
use crate::view::UpTo;

/// Legs walked back at most. A walk keeps something only for exchanges and holds that were open between two of its legs.
pub const ACCOUNT_AT_LEGS_MAX: u64 = 1_000_000;

/// An account as it stood.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct AccountAt {
    /// Credits less debits, minor units.
    pub posted: i128,
    /// Reserved by holds, minor units.
    pub held: u128,
    /// Legs up to then.
    pub version: Version,
    /// The last event that had touched it.
    pub seq: Seq,
    /// When that was recorded.
    pub time: Time,
}

impl Engine {
    /// An account as it stood after its last event up to a point: [`UpTo::Seq`] includes that event, [`UpTo::Time`] the
    /// events recorded at that time. `None`: it did not exist then, or there is no such account.
    ///
    /// # Errors
    /// [`HistoryError`].
    pub fn account_at(&self, account: AccountId, up_to: UpTo) -> Result<Option<AccountAt>, HistoryError> {
        self.account_at_within(ACCOUNT_AT_LEGS_MAX, account, up_to)
    }

    fn account_at_within(
        &self,
        legs_max: u64,
        account: AccountId,
        up_to: UpTo,
    ) -> Result<Option<AccountAt>, HistoryError> {
        let Some(now) = self.account(account)? else { return Ok(None) };
        let mut chain = Chain::new(self.journal(), account, Place { seq: now.seq, version: now.version });
        let mut back = Back::new(now.balances.posted, now.balances.held);
        let (mut stood, mut last) = (None, now.seq);
        while stood.is_none() || back.is_owed() {
            chain.within(legs_max, last)?;
            let Some(step) = chain.next()? else { break };
            last = step.seq;
            let is_after = match up_to {
                UpTo::End => false,
                UpTo::Seq(seq) => step.seq > seq,
                UpTo::Time(time) => step.event.time > time,
            };
            // Once the point is reached, older legs lie before it too.
            back.is_taken = is_after && stood.is_none();
            if !back.is_taken && stood.is_none() {
                stood = step.legs.first().map(|leg| (leg.version, step.seq, step.event.time));
            }
            for leg in &step.legs {
                back.leg(&step.event, *leg).map_err(|what| chain.damage(step.seq, what))?;
            }
        }
        let Some((version, seq, time)) = stood else { return Ok(None) };
        if back.is_owed() {
            return Err(chain.damage(last, "HLD-1, EXC-1: what ended later was never begun"));
        }
        let held = u128::try_from(back.held).map_err(|_| chain.damage(seq, "HLD-1: less than nothing is held"))?;
        Ok(Some(AccountAt { posted: back.posted, held, version, seq, time }))
    }
}

type Done = Result<(), &'static str>;

/// An end whose opening was not met yet.
#[derive(Clone, Copy)]
struct OpenEnd {
    outcome: Outcome,
    flags: Flags,
    is_taken: bool,
}

/// The account on its way back.
struct Back {
    posted: i128,
    held: i128,
    /// Whether the leg lies behind the point, and is taken back.
    is_taken: bool,
    ends: HashMap<ExchangeKey, OpenEnd>,
    /// Of them, those that are taken back.
    ends_owed: usize,
    /// Authorization → how its hold changed from here to its final capture, which was taken back without what it released.
    finals: HashMap<u128, i128>,
}

impl Back {
    fn new(posted: i128, held: u128) -> Self {
        // A sum of an account is below 2^127.
        let held = held.cast_signed();
        Self { posted, held, is_taken: false, ends: HashMap::new(), ends_owed: 0, finals: HashMap::new() }
    }

    /// Whether something that was taken back is known only in part.
    fn is_owed(&self) -> bool {
        self.ends_owed > 0 || !self.finals.is_empty()
    }

    fn leg(&mut self, event: &Event, leg: Leg) -> Done {
        match (&event.body, leg.role) {
            (Body::Authorized(e), Role::Owner) => {
                self.hold(e.authorization.0, signed(e.amount.get()))?;
                self.nothing_held(e.authorization.0)
            }
            (Body::Incremented(e), Role::Owner) => self.hold(e.authorization.0, signed(e.amount.get())),
            (Body::Released(e), Role::Owner) => self.hold(e.authorization.0, -signed(e.amount.get())),
            (Body::Expired(e), Role::Owner) => self.hold(e.authorization.0, -signed(e.amount.get())),
            (Body::Moved(e), Role::Owner) => {
                self.end(&e.movement, e.head.outcome, e.head.flags)?;
                self.open(&e.movement)
            }
            (Body::Moved(e), Role::Counter) => self.post(counters_share(&e.movement)),
            (Body::Opened(e), Role::Owner) => {
                if let Some(end) = self.ends.remove(&(e.head.slot, e.number)) {
                    self.ended(&e.movement, end)?;
                }
                self.open(&e.movement)
            }
            (Body::Answered(e), Role::Owner) => self.post(answered(e)),
            (Body::Ended(e), Role::End(n)) => {
                let end = e.ends.get(n).ok_or("an end that is not there")?;
                let open = OpenEnd { outcome: end.outcome, flags: end.flags, is_taken: self.is_taken };
                self.ends_owed += usize::from(self.is_taken);
                match self.ends.insert((end.slot, end.number), open) {
                    None => Ok(()),
                    Some(_) => Err("EXC-1: an exchange ends twice"),
                }
            }
            _ => Ok(()), // settings and notes move nothing
        }
    }

    /// An end at its opening. Nothing else touches the authorization between the two (EXC-1).
    fn ended(&mut self, m: &Movement, end: OpenEnd) -> Done {
        let is_taken = std::mem::replace(&mut self.is_taken, end.is_taken);
        self.ends_owed -= usize::from(end.is_taken);
        let done = self.end(m, end.outcome, end.flags);
        self.is_taken = is_taken;
        done
    }

    /// The owner's side when it ends, as `Slot::end_movement`.
    fn end(&mut self, m: &Movement, outcome: Outcome, flags: Flags) -> Done {
        let amount = signed(m.amount.get());
        let (is_push, is_done) = (m.purpose.is_push(), outcome.is_approval());
        if is_push != is_done {
            // A refused push is given back, into the hold what came from there; a pull that was done credits.
            self.post(amount)?;
            return self.hold(m.authorization, signed(m.hold.get()));
        }
        let is_capture = matches!(m.purpose, Purpose::Capture | Purpose::Advice) && m.authorization != 0;
        // An advice that matches a closed hold finds nothing to release.
        if is_done && is_capture && m.is_final && !flags.has(Flags::UNMATCHED) {
            if self.finals.contains_key(&m.authorization) {
                return Err("HLD-1: one hold was released twice by final captures");
            }
            if self.is_taken {
                self.finals.insert(m.authorization, 0);
            }
        }
        Ok(())
    }

    /// The owner's side when it opens, as `Slot::open_movement`.
    fn open(&mut self, m: &Movement) -> Done {
        if !m.purpose.is_push() {
            return Ok(());
        }
        self.post(-signed(m.amount.get()))?;
        self.hold(m.authorization, -signed(m.hold.get()))
    }

    /// Takes back a change of posted.
    fn post(&mut self, change: i128) -> Done {
        if self.is_taken { add(&mut self.posted, -change) } else { Ok(()) }
    }

    /// Takes back a change of an authorization's hold.
    fn hold(&mut self, authorization: u128, change: i128) -> Done {
        if self.is_taken {
            add(&mut self.held, -change)?;
        }
        self.finals.get_mut(&authorization).map_or(Ok(()), |changed| add(changed, change))
    }

    /// Nothing is held here: what a later final capture released is what changed since.
    fn nothing_held(&mut self, authorization: u128) -> Done {
        self.finals.remove(&authorization).map_or(Ok(()), |rest| add(&mut self.held, rest))
    }
}

fn add(sum: &mut i128, change: i128) -> Done {
    *sum = sum.checked_add(change).ok_or("a sum leaves its range")?;
    Ok(())
}

/// An amount is below 2^96.
const fn signed(amount: u128) -> i128 {
    amount.cast_signed()
}

/// What the counter's side gains.
const fn counters_share(m: &Movement) -> i128 {
    if m.purpose.is_push() { signed(m.amount.get()) } else { -signed(m.amount.get()) }
}

const fn answered(e: &Answered) -> i128 {
    if e.purpose.is_push() { signed(e.amount.get()) } else { -signed(e.amount.get()) }
}

#[cfg(test)]
mod tests {
    use tp_core::amount::{Amount, CreditLimit, Ledger};
    use tp_core::command::{Authorize, Capture, Note, OpenAccount, Settings};
    use tp_core::key::Key;

    use super::*;
    use crate::config::Config;

    #[test]
    fn what_a_final_capture_released_is_looked_for_behind_the_point_but_not_without_end() {
        let engine = Engine::open(Config { partitions: 1, ..Config::in_memory() }).expect("opens");
        let (ledger, account, note) = (Ledger::new("EUR", 2).expect("valid"), AccountId(1), Note::default());
        let settings = Settings { credit_limit: CreditLimit::Unlimited, ..Settings::new(ledger) };
        for account in [account, AccountId(2)] {
            engine.call_blocking(OpenAccount { key: Key::opaque(1), account, settings, note: note.clone() });
        }
        let made = engine.call_blocking(Authorize::new(Key::opaque(2), account, ledger, Amount::from(70)));
        let authorization = made.authorization.expect("it was made");
        for n in 3..=8 {
            engine.call_blocking(Authorize::new(Key::opaque(n), account, ledger, Amount::ZERO)); // legs, no money
        }
        let (key, payee, amount) = (Key::opaque(9), AccountId(2), Amount::from(50));
        engine.call_blocking(Capture { key, authorization, payee, amount, is_final: true, note });
        // Legs: opened, authorized, six checks, captured. The point lies before the capture.
        let before = UpTo::Seq(Seq(9));
        let within = |legs, up_to| engine.account_at_within(legs, account, up_to);
        for legs in [8, ACCOUNT_AT_LEGS_MAX] {
            let at = within(legs, before).expect("readable").expect("it existed");
            assert_eq!((at.posted, at.held, at.version, at.seq), (0, 70, Version(8), Seq(9)));
        }
        for legs in 1..8 {
            let refused = within(legs, before);
            assert!(matches!(refused, Err(HistoryError::TooFar { .. })), "{legs}: {refused:?}");
        }
        let now = within(1, UpTo::End).expect("readable").expect("it exists");
        assert_eq!((now.posted, now.held, now.version), (-50, 0, Version(9)), "one leg is enough for the present");
    }
}
