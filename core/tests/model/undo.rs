//! The model's reversals: what each kind of original gives back. Never refused for funds or status.

use tp_core::command::Reverse;
use tp_core::ids::AccountId;
use tp_core::outcome::Outcome;
use tp_core::reply::{AuthorizationState, Flags};
use tp_core::time::{Bucket, Time};

use super::verbs::{counter_suspense, suspense};
use super::{Decision, Effect, Model, Verdict, money};

/// What an undo did: how much, remarks.
#[derive(Clone, Copy)]
struct Undone {
    amount: i128,
    /// Whether an authorization was closed by it, be it with nothing left.
    closes: bool,
    flags: Flags,
}

impl Model {
    pub(super) fn reverse(&mut self, now: Time, c: &Reverse) -> Verdict {
        let key = (c.account, c.original.bits);
        let nothing = Undone { amount: 0, closes: false, flags: Flags::NONE };
        let Some(done) = self.keys.get(&key) else {
            if self.is_too_old(c.original, now) {
                return Err(Outcome::OriginalNotFound);
            }
            // A tombstone, unless a fence or another tombstone already stands there.
            self.barred.entry(key).or_insert(Outcome::ReversedBefore);
            return Ok(accepted(nothing));
        };
        if !done.first.outcome.is_approval() || done.reversed {
            return Ok(accepted(nothing));
        }
        // A new total of nothing is what a reversal without one comes to.
        let left = c.new_total.map(money).filter(|left| *left > 0);
        let undone = match done.effect {
            Effect::NeverReversible => return Err(Outcome::NotReversible),
            Effect::Nothing => nothing,
            Effect::Authorized { hold } => self.undo_authorize(hold, left)?,
            Effect::Incremented { hold, amount, bucket } => self.undo_increment(hold, amount, bucket, left),
            Effect::Captured { hold, capture } => self.undo_capture(hold, capture, left)?,
            Effect::Refunded { hold, capture, amount } => self.undo_refund(hold, capture, amount, left),
            Effect::Paid { payee, ledger, amount, bucket } => {
                let back = (amount - left.unwrap_or(0)).max(0);
                if back == 0 {
                    nothing
                } else {
                    let (to, from) = (self.place(c.account, ledger), self.place(payee, ledger));
                    self.pay(from, to, back);
                    self.give_back(to, bucket, back, back == amount);
                    let flags = suspense(to).with(counter_suspense(from)).with(self.overdrawn(from));
                    Undone { amount: back, closes: false, flags }
                }
            }
        };
        let is_undone = undone.amount > 0 || undone.closes;
        self.keys.get_mut(&key).expect("found above").reversed |= is_undone;
        Ok(accepted(undone))
    }

    fn overdrawn(&self, debited: AccountId) -> Flags {
        Flags::OVERDRAWN.when(self.is_overdrawn(debited))
    }

    fn give_back(&mut self, account: AccountId, bucket: Bucket, amount: i128, is_all: bool) {
        self.account(account).count(bucket, -i128::from(is_all), -amount);
    }

    fn undo_authorize(&mut self, hold: usize, left: Option<i128>) -> Result<Undone, Outcome> {
        let h = &self.holds[hold];
        let (place, bucket) = (h.place, h.bucket);
        if left.is_some_and(|left| left < h.captured()) {
            return Err(Outcome::FurtherActivity);
        }
        let stands = h.authorized - h.released;
        let amount = h.held.min((stands - left.unwrap_or(0)).max(0));
        // All of it: nothing of what was approved stands any more, whatever was voided before.
        let is_all = amount > 0 && amount == h.held && h.captured() == 0;
        self.release(hold, amount);
        let closes = self.holds[hold].is_open() && left.is_none();
        if closes {
            self.holds[hold].state = AuthorizationState::Reversed;
        }
        self.give_back(place, bucket, amount, is_all);
        Ok(Undone { amount, closes, flags: booked(place, amount) })
    }

    fn undo_increment(&mut self, hold: usize, delta: i128, bucket: Bucket, left: Option<i128>) -> Undone {
        let place = self.holds[hold].place;
        let amount = (delta - left.unwrap_or(0)).max(0).min(self.holds[hold].held);
        self.release(hold, amount);
        self.give_back(place, bucket, amount, amount == delta);
        Undone { amount, closes: false, flags: booked(place, amount) }
    }

    fn undo_capture(&mut self, hold: usize, capture: usize, left: Option<i128>) -> Result<Undone, Outcome> {
        let (h, taken) = (&self.holds[hold], &self.holds[hold].captures[capture]);
        if left.is_some_and(|left| left < taken.refunded) {
            return Err(Outcome::FurtherActivity);
        }
        let first = taken.amount;
        let amount = (first - left.unwrap_or(0).max(taken.refunded)).max(0);
        let into_hold = if h.is_open() && !taken.is_final { amount.min(taken.from_hold) } else { 0 };
        if amount == 0 {
            return Ok(Undone { amount, closes: false, flags: Flags::NONE });
        }
        let (to, from) = (self.payer_place(hold), self.paid_place(hold, capture));
        self.pay(from, to, amount);
        self.account(to).held += into_hold;
        self.holds[hold].held += into_hold;
        let taken = &mut self.holds[hold].captures[capture];
        taken.amount -= amount;
        taken.from_hold -= into_hold;
        let flags = suspense(to).with(counter_suspense(from)).with(self.overdrawn(from));
        Ok(Undone { amount, closes: false, flags })
    }

    fn undo_refund(&mut self, hold: usize, capture: usize, refunded: i128, left: Option<i128>) -> Undone {
        let amount = (refunded - left.unwrap_or(0)).max(0);
        if amount == 0 {
            return Undone { amount, closes: false, flags: Flags::NONE };
        }
        let (from, to) = (self.payer_place(hold), self.paid_place(hold, capture));
        self.pay(from, to, amount);
        self.holds[hold].captures[capture].refunded -= amount;
        let flags = suspense(from).with(counter_suspense(to)).with(self.overdrawn(from));
        Undone { amount, closes: false, flags }
    }
}

/// Where nothing moves, nothing is booked.
fn booked(place: AccountId, amount: i128) -> Flags {
    if amount == 0 { Flags::NONE } else { suspense(place) }
}

fn accepted(undone: Undone) -> Decision {
    let decision = Decision::new(Outcome::ReversalAccepted, undone.amount, Effect::NeverReversible);
    Decision { flags: undone.flags, ..decision }
}
