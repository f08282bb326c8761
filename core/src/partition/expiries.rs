//! Holds whose time has come: a few at a time, before any command of the turn.
//!
//! Owns what an entry of the timing wheel means when it is due; refuses to know the wheel's form and what an expiry books.

use tp_planted::{Bug, has};

use super::{LOOK_AHEAD, Partition};
use crate::decide;
use crate::evolve::EvolveError;
use crate::ids::AuthorizationId;
use crate::turn::{Output, Turn};

impl Partition {
    /// Holds that are due, a few at a time: what their expiry will touch is looked up before the first of them.
    pub(super) fn expire(&mut self, turn: Turn, out: &mut Output) -> Result<(), EvolveError> {
        let mut due = core::mem::take(&mut self.due);
        let mut left = turn.expiries_max; // entries of holds closed or extended since are work too
        while left > 0 && self.wheel.has_due() {
            due.extend(core::iter::from_fn(|| self.wheel.pop_due()).take(left.min(LOOK_AHEAD)));
            left -= due.len();
            for (id, looked) in due.iter().zip(self.look_at_due(&due)) {
                self.hint(id.slot(), looked);
                self.expire_one(turn, *id, out)?;
            }
            due.clear();
        }
        self.due = due;
        Ok(())
    }

    fn expire_one(&mut self, turn: Turn, id: AuthorizationId, out: &mut Output) -> Result<(), EvolveError> {
        let Some(slot) = self.slot(id.slot()) else { return Ok(()) };
        let Some(a) = slot.find_authorization(id.0).filter(|a| a.is_open()) else { return Ok(()) };
        let early_ms = if has(Bug::ExpireEarly) { 2_000 } else { 0 };
        if a.expires > turn.now.plus_ms(early_ms) {
            let (at, id) = (a.expires, a.id());
            self.wheel.insert(at, id);
        } else if a.exchange() == 0 {
            let body = decide::expiry(a, slot);
            self.apply(turn, body, out)?;
        }
        // Else an exchange works on it: its end puts the entry back.
        Ok(())
    }
}
