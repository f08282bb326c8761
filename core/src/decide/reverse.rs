//! reverse: undoes an earlier command for technical reasons; never refused for funds or status.
//!
//! | original | undone |
//! |---|---|
//! | unknown | accepted; a tombstone refuses the late original |
//! | refused, without effect, reversed before | accepted, nothing happens |
//! | authorize, advise hold | the rest of the hold is released, captures stay |
//! | increment | what is left of the delta is released |
//! | capture, matched advice post | what is not refunded comes back: into the hold what it took from there, while that is open and the capture was not final; the rest to available |
//! | transfer, unmatched advice post, refund | the opposite movement |

use super::hold::Undo;
use super::movement::OwnerSide;
use super::{Case, Decision, Verdict, is_too_far_ahead, leave};
use crate::amount::{Amount, Ledger};
use crate::authorization::Authorization;
use crate::command::{Reverse, Verb};
use crate::event::{Body, Movement, Purpose, Rare, Tombstoned};
use crate::ids::AccountId;
use crate::keys::{KeyRecord, Standing};
use crate::outcome::Outcome;
use crate::reply::{AuthorizationState, Flags, Reply};
use crate::slot::amount_of;

impl<'a> Case<'a> {
    pub(super) fn reverse(&self, c: &Reverse) -> Verdict {
        let Some(original) = self.slot.visible_key(self.account, c.original, self.scene.now) else {
            return self.reverse_unknown(c);
        };
        self.wait_unless_free(original.exchange)?;
        let had_effect =
            original.standing == Standing::Decided && original.outcome.is_approval() && !original.is_reversed;
        if !had_effect {
            return Ok(self.without_effect(c));
        }
        match original.verb {
            Verb::Authorize => self.undo_hold(c, &original),
            Verb::Increment => self.undo_increment(c, &original),
            Verb::Capture => self.undo_capture(c, &original),
            Verb::Refund => self.undo_refund(c, &original),
            Verb::Advise if original.transfer == 0 => self.undo_hold(c, &original),
            Verb::Advise if original.authorization != 0 => self.undo_capture(c, &original),
            Verb::Transfer | Verb::Advise => self.undo_transfer(c, &original),
            _ => Ok(self.note(Outcome::NotReversible, Amount::ZERO, c.original.bits)),
        }
    }

    fn reverse_unknown(&self, c: &Reverse) -> Verdict {
        if !self.slot.is_surely_unknown(c.original, self.scene.now) {
            self.existing_account()?;
            return Ok(self.note(Outcome::OriginalNotFound, Amount::ZERO, c.original.bits));
        }
        if is_too_far_ahead(c.original, self.scene.now) {
            // Such a command is refused anyway; its tombstone would outlive every window.
            return Err(leave(Reply::bare(Outcome::KeyExpired)));
        }
        Ok(Body::Tombstoned(Tombstoned {
            head: self.head(Outcome::ReversalAccepted, Flags::NONE, Rare::default()),
            original: c.original.bits,
            original_kind: c.original.kind,
        }))
    }

    fn without_effect(&self, c: &Reverse) -> Body {
        self.note(Outcome::ReversalAccepted, Amount::ZERO, c.original.bits)
    }

    /// The authorization that the original made or worked on, once it is free.
    fn authorization_of(&self, original: &KeyRecord) -> Result<Option<&'a Authorization>, Decision> {
        let Some(a) = self.slot.visible_authorization(original.authorization, self.scene.now) else { return Ok(None) };
        self.wait_unless_free(a.exchange())?;
        Ok(Some(a))
    }

    /// A new total below what later commands used cannot be reached.
    fn require_reachable(&self, c: &Reverse, used: u128) -> Result<u128, Decision> {
        let total = c.new_total.map_or(0, Amount::get);
        let is_reachable = c.new_total.is_none_or(|t: Amount| t.is_zero()) || total >= used;
        self.require(is_reachable, Outcome::FurtherActivity, c.new_total.unwrap_or_default(), c.original.bits)?;
        Ok(total)
    }

    fn undo_hold(&self, c: &Reverse, original: &KeyRecord) -> Verdict {
        let Some(a) = self.authorization_of(original)? else { return Ok(self.without_effect(c)) };
        let total = self.require_reachable(c, a.course().captured)?;
        let stands = a.stands();
        if !a.is_open() || total >= stands {
            return Ok(self.without_effect(c));
        }
        let is_whole = total == 0;
        let amount = amount_of(if is_whole { a.hold.get() } else { a.hold.get().min(stands - total) });
        let state = if is_whole { AuthorizationState::Reversed } else { AuthorizationState::Open };
        let uncounted = u8::from(is_whole && a.course().captured == 0);
        Ok(self.released(a, amount, state, undo(c, original, uncounted), Outcome::ReversalAccepted))
    }

    fn undo_increment(&self, c: &Reverse, original: &KeyRecord) -> Verdict {
        let Some(a) = self.authorization_of(original)?.filter(|a| a.is_open()) else {
            return Ok(self.without_effect(c));
        };
        let total = c.new_total.map_or(0, Amount::get);
        if total >= original.amount.get() {
            return Ok(self.without_effect(c));
        }
        let amount = amount_of(a.hold.get().min(original.amount.get() - total));
        let uncounted = u8::from(amount == original.amount);
        Ok(self.released(a, amount, AuthorizationState::Open, undo(c, original, uncounted), Outcome::ReversalAccepted))
    }

    fn undo_capture(&self, c: &Reverse, original: &KeyRecord) -> Verdict {
        let capture = self.slot.find_capture(original.transfer);
        let (Some(a), Some(capture)) = (self.authorization_of(original)?, capture) else {
            return Ok(self.without_effect(c));
        };
        let total = self.require_reachable(c, capture.refunded)?;
        let undone = capture.amount - capture.amount.min(total.max(capture.refunded));
        if undone == 0 {
            return Ok(self.without_effect(c));
        }
        let returns = if a.is_open() && !capture.is_final { undone.min(capture.from_hold) } else { 0 };
        let movement = Movement {
            authorization: a.id().0,
            capture: capture.id.0,
            hold: amount_of(returns),
            ..self.undoing(
                c,
                Purpose::UndoCapture,
                self.paid(capture.payee, original.ledger, capture.is_on_suspense),
                original.ledger,
                undone,
            )
        };
        self.movement(movement, self.credited_owner(a.account(), original.ledger))
    }

    fn undo_transfer(&self, c: &Reverse, original: &KeyRecord) -> Verdict {
        let total = c.new_total.map_or(0, Amount::get);
        let undone = original.amount.get().saturating_sub(total);
        if undone == 0 {
            return Ok(self.without_effect(c));
        }
        let is_on_suspense = original.flags.has(Flags::COUNTER_SUSPENSE);
        let counter = self.paid(AccountId(original.other), original.ledger, is_on_suspense);
        let movement = Movement {
            bucket: original.bucket,
            is_counted: original.is_counted,
            // All of it: the command is given back too.
            is_final: total == 0,
            ..self.undoing(c, Purpose::UndoTransfer, counter, original.ledger, undone)
        };
        self.movement(movement, self.credited_owner(self.booked(original), original.ledger))
    }

    fn undo_refund(&self, c: &Reverse, original: &KeyRecord) -> Verdict {
        let capture = self.slot.find_capture(original.other);
        let (Some(a), Some(capture)) = (self.authorization_of(original)?, capture) else {
            return Ok(self.without_effect(c));
        };
        let undone = original.amount.get().saturating_sub(c.new_total.map_or(0, Amount::get));
        if undone == 0 {
            return Ok(self.without_effect(c));
        }
        let movement = Movement {
            authorization: a.id().0,
            capture: capture.id.0,
            ..self.undoing(
                c,
                Purpose::UndoRefund,
                self.paid(capture.payee, original.ledger, capture.is_on_suspense),
                original.ledger,
                undone,
            )
        };
        let owner = self.forced_owner(self.booked(original), original.ledger);
        let flags = Flags::OVERDRAWN.when(self.overdraws(owner, undone));
        self.movement(movement, OwnerSide { account: owner, outcome: Outcome::ReversalAccepted, flags })
    }

    fn undoing(&self, c: &Reverse, purpose: Purpose, counter: AccountId, ledger: Ledger, amount: u128) -> Movement {
        Movement {
            original: c.original.bits,
            original_kind: c.original.kind,
            ..self.scene.plain_movement(self, purpose, counter, ledger, amount_of(amount))
        }
    }

    /// The owner's account that the original was booked on.
    fn booked(&self, original: &KeyRecord) -> AccountId {
        if original.flags.has(Flags::SUSPENSE) {
            AccountId::suspense_of(self.slot.index(), original.ledger)
        } else {
            self.account
        }
    }

    fn credited_owner(&self, account: AccountId, ledger: Ledger) -> OwnerSide {
        let account = self.forced_owner(account, ledger);
        OwnerSide { account, outcome: Outcome::ReversalAccepted, flags: Flags::NONE }
    }
}

fn undo(c: &Reverse, original: &KeyRecord, uncounted: u8) -> Undo {
    Undo { original: c.original.bits, original_kind: c.original.kind, bucket: original.bucket, uncounted }
}
