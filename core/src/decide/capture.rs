//! capture and refund: from the hold to the payee, and back.

use tp_planted::{Bug, has};

use super::movement::OwnerSide;
use super::{Case, Scene, Verdict, leave};
use crate::authorization::{Authorization, CAPTURES_MAX, Capture as Captured};
use crate::command::{self, Command, Refund, RefundTarget, Status};
use crate::event::{Movement, Purpose};
use crate::ids::TransferId;
use crate::outcome::Outcome;
use crate::reply::{Flags, Reply};
use crate::slot::Slot;
use crate::time::Time;

impl Case<'_> {
    pub(super) fn capture(&self, c: &command::Capture) -> Verdict {
        let a = self.free_authorization(c.authorization)?;
        if c.payee == a.payer() {
            return Err(leave(Reply::bare(Outcome::Malformed)));
        }
        self.require_open(a, c.amount)?;
        self.require(a.payee() == 0 || a.payee() == c.payee.0, Outcome::PayeeNotFound, c.amount, a.id().0)?;
        self.require(a.course().captures < CAPTURES_MAX, Outcome::CountLimit, c.amount, a.id().0)?;
        self.require(c.amount.get() <= a.capturable(), Outcome::AboveHold, c.amount, a.id().0)?;
        self.require_authorization_room()?;
        let account = self.account_of(a)?;
        let hold = a.taken_from_hold(c.amount);
        let excess = c.amount.get() - hold.get();
        let is_overdrawn = excess > 0 && self.overdraws(a.account(), excess);
        let movement = Movement {
            authorization: a.id().0,
            hold,
            is_final: c.is_final,
            ..self.scene.plain_movement(self, Purpose::Capture, c.payee, account.ledger, c.amount)
        };
        let outcome = if is_overdrawn { Outcome::ApprovedOverdrawn } else { Outcome::Approved };
        let flags = Flags::OVER_HOLD.when(excess > 0).with(Flags::OVERDRAWN.when(is_overdrawn));
        self.movement(movement, OwnerSide { account: a.account(), outcome, flags })
    }

    fn refund(&self, c: &Refund, a: &Authorization, capture: &Captured) -> Verdict {
        let target = capture.id.0;
        let window_ends = capture.at.plus_ms(self.slot.windows.refund_ms);
        self.require(self.scene.now <= window_ends, Outcome::RefundWindowPassed, c.amount, target)?;
        self.require(
            c.amount.get() <= capture.amount - if has(Bug::RefundUncapped) { 0 } else { capture.refunded },
            Outcome::AboveCaptured,
            c.amount,
            target,
        )?;
        let account = self.account_of(a)?;
        self.require(account.status != Status::Frozen, Outcome::AccountFrozen, c.amount, target)?;
        self.require(account.takes_credit(c.amount), Outcome::InvalidAmount, c.amount, target)?;
        let payee = self.paid(capture.payee, account.ledger, capture.is_on_suspense);
        let movement = Movement {
            authorization: a.id().0,
            capture: capture.id.0,
            ..self.scene.plain_movement(self, Purpose::Refund, payee, account.ledger, c.amount)
        };
        let owner = self.forced_owner(a.account(), account.ledger);
        self.movement(movement, OwnerSide { account: owner, outcome: Outcome::Approved, flags: Flags::NONE })
    }
}

/// A refund finds its authorization by a capture, or its only capture by the authorization.
pub(super) fn refund(scene: &Scene<'_>, slot: &Slot, command: &Command, c: &Refund) -> Verdict {
    let authorization = match c.target {
        RefundTarget::Authorization(id) => slot.visible_authorization(id.0, scene.now),
        RefundTarget::Capture(id) => visible_authorization_of(slot, id, scene.now),
    };
    let Some(a) = authorization else { return Err(leave(Reply::bare(unknown(scene, slot, c.target)))) };
    let case = Case::of_authorization(scene, slot, command, a.id(), c.key)?;
    case.wait_unless_free(a.exchange())?;
    match named_capture(slot, a, c.target) {
        Some(capture) => case.refund(c, a, capture),
        None => Ok(case.note(Outcome::OriginalNotFound, c.amount, a.id().0)),
    }
}

/// The authorization that a capture was taken from.
pub(super) fn visible_authorization_of(slot: &Slot, capture: TransferId, now: Time) -> Option<&Authorization> {
    let authorization = slot.authorization_of(slot.find_capture(capture.0)?)?;
    slot.is_authorization_visible(authorization, now).then_some(authorization)
}

/// What is said of a target that is not in memory: what was forgotten is past its window; an id says when it was made.
pub(super) fn unknown(scene: &Scene<'_>, slot: &Slot, target: RefundTarget) -> Outcome {
    let made = match target {
        RefundTarget::Authorization(id) => id.time(),
        RefundTarget::Capture(id) => id.time(),
    };
    let has_passed = made.plus_ms(slot.windows.refund_ms) < scene.now;
    if has_passed { Outcome::RefundWindowPassed } else { Outcome::OriginalNotFound }
}

fn named_capture<'a>(slot: &'a Slot, a: &Authorization, target: RefundTarget) -> Option<&'a Captured> {
    match target {
        RefundTarget::Capture(TransferId(id)) => slot.find_capture(id),
        RefundTarget::Authorization(_) if a.course().captures == 1 => slot.captures_of(a).next(),
        RefundTarget::Authorization(_) => None,
    }
}
