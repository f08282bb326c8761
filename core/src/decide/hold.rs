//! authorize, increment, void: what makes, raises and releases a hold.

use super::{Case, Decision, Verdict, leave};
use crate::amount::Amount;
use crate::authorization::Authorization;
use crate::command::{Authorize, Increment, Void};
use crate::event::{Authorized, Body, Incremented, Rare, Released};
use crate::ids::{AuthorizationId, Seq};
use crate::key::KeyKind;
use crate::outcome::Outcome;
use crate::reply::{AuthorizationState, Flags, Reply};
use crate::slot::amount_of;
use crate::time::{Bucket, Time};

impl<'a> Case<'a> {
    pub(super) fn authorize(&self, c: &Authorize) -> Verdict {
        let account = self.existing_account()?;
        self.require(account.ledger == c.ledger, Outcome::WrongLedger, c.amount, 0)?;
        self.require_debitable(account, c.amount, 0)?;
        if c.amount.is_zero() {
            return Ok(self.note(Outcome::AccountValid, c.amount, 0));
        }
        let bucket = self.scene.bucket(c.ledger);
        let allowance = account.allowance(c.amount, bucket);
        let (amount, outcome) = match (allowance.refusal, c.allow_partial) {
            (None, _) => (c.amount, Outcome::Approved),
            (Some(refusal), false) => return Ok(self.note(refusal, c.amount, 0)),
            (Some(_), true) if allowance.amount > 0 => (amount_of(allowance.amount), Outcome::ApprovedPartially),
            (Some(refusal), true) => return Ok(self.note(allowance.refusal_of_any.unwrap_or(refusal), c.amount, 0)),
        };
        self.require_authorization_room()?;
        let rare = Rare {
            payee: c.payee.map_or(0, |payee| payee.0),
            requested: if amount == c.amount { 0 } else { c.amount.get() },
            ..Rare::default()
        };
        Ok(Body::Authorized(Authorized {
            head: self.head(outcome, Flags::NONE, rare),
            authorization: self.new_authorization(),
            amount,
            expires: self.scene.expiry(c.ledger, c.lifetime_ms),
            tolerance_bp: c.tolerance_bp.min(self.scene.policy(c.ledger).tolerance_bp_max),
            bucket,
        }))
    }

    pub(super) fn new_authorization(&self) -> AuthorizationId {
        AuthorizationId::new(self.scene.now, self.slot.index(), self.slot.next_id())
    }

    pub(super) fn require_authorization_room(&self) -> Result<(), Decision> {
        if self.scene.room.authorizations { Ok(()) } else { Err(leave(Reply::bare(Outcome::Busy))) }
    }

    /// The authorization of a later verb, once no exchange works on it.
    pub(super) fn free_authorization(&self, id: AuthorizationId) -> Result<&'a Authorization, Decision> {
        let authorization = self
            .slot
            .visible_authorization(id.0, self.scene.now)
            .ok_or(leave(Reply::bare(Outcome::OriginalNotFound)))?;
        self.wait_unless_free(authorization.exchange())?;
        Ok(authorization)
    }

    /// Expired is tested before not open.
    pub(super) fn require_open(&self, a: &Authorization, amount: Amount) -> Result<(), Decision> {
        let is_past = a.is_open() && self.scene.now >= a.expires;
        let has_expired = a.state == AuthorizationState::Expired || is_past;
        self.require(!has_expired, Outcome::HoldExpired, amount, a.id().0)?;
        self.require(a.is_open(), Outcome::HoldNotOpen, amount, a.id().0)
    }

    pub(super) fn increment(&self, c: &Increment) -> Verdict {
        let a = self.free_authorization(c.authorization)?;
        self.require_open(a, c.amount)?;
        let account = self.account_of(a)?;
        let bucket = self.scene.bucket(account.ledger);
        if !c.amount.is_zero() {
            self.require_debitable(account, c.amount, a.id().0)?;
            if let Some(refusal) = account.allowance(c.amount, bucket).refusal {
                return Ok(self.note(refusal, c.amount, a.id().0));
            }
            let stays_an_amount = a.authorized.get().saturating_add(c.amount.get()) <= Amount::MAX.get();
            self.require(stays_an_amount, Outcome::InvalidAmount, c.amount, a.id().0)?;
        }
        let extended = c.lifetime_ms.map_or(Time(0), |_| self.scene.expiry(account.ledger, c.lifetime_ms));
        Ok(Body::Incremented(Incremented {
            head: self.head_of(a, Outcome::Approved),
            authorization: a.id(),
            amount: c.amount,
            expires: a.expires.max(extended),
            bucket: if c.amount.is_zero() { Bucket::default() } else { bucket },
        }))
    }

    pub(super) fn void(&self, c: &Void) -> Verdict {
        let a = self.free_authorization(c.authorization)?;
        let (asked, hold) = (c.amount.unwrap_or_default(), a.hold.amount());
        self.require_open(a, asked)?;
        self.require(!hold.is_zero(), Outcome::NothingLeft, asked, a.id().0)?;
        self.require(asked <= hold, Outcome::AboveHold, asked, a.id().0)?;
        let amount = c.amount.unwrap_or(hold);
        let state = if amount == hold { AuthorizationState::Voided } else { AuthorizationState::Open };
        Ok(self.released(a, amount, state, Undo::NOTHING, Outcome::Approved))
    }

    pub(super) fn released(
        &self,
        a: &Authorization,
        amount: Amount,
        state: AuthorizationState,
        undo: Undo,
        outcome: Outcome,
    ) -> Body {
        Body::Released(Released {
            head: self.head_of(a, outcome),
            authorization: a.id(),
            amount,
            original: undo.original,
            original_kind: undo.original_kind,
            state,
            bucket: undo.bucket,
            uncounted: undo.uncounted,
        })
    }
}

/// What a release takes back of its original.
#[derive(Clone, Copy)]
pub(super) struct Undo {
    pub(super) original: u128,
    pub(super) original_kind: KeyKind,
    pub(super) bucket: Bucket,
    pub(super) uncounted: u8,
}

impl Undo {
    /// A void undoes nothing.
    pub(super) const NOTHING: Self = Self {
        original: 0,
        original_kind: KeyKind::Opaque,
        bucket: Bucket { day: crate::time::Date(0), month: 0 },
        uncounted: 0,
    };
}

/// The event of a hold's expiry.
pub(crate) fn expiry(a: &Authorization, slot: &crate::slot::Slot) -> Body {
    let (version, previous): (_, Seq) = super::next_leg(slot, a.account());
    Body::Expired(crate::event::Expired {
        account: a.account(),
        authorization: a.id(),
        amount: a.hold.amount(),
        version,
        previous,
        slot: slot.index(),
    })
}
