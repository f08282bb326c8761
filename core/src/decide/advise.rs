//! advise: someone else's decision, booked whatever funds, limits and status say.

use super::movement::OwnerSide;
use super::{Case, Decision, Verdict};
use crate::amount::Amount;
use crate::authorization::Authorization;
use crate::command::{Advice, Advise};
use crate::event::{Authorized, Body, Movement, Purpose, Rare};
use crate::ids::{AccountId, AuthorizationId};
use crate::outcome::Outcome;
use crate::reply::Flags;

impl<'a> Case<'a> {
    pub(super) fn advise(&self, c: &Advise) -> Verdict {
        match c.advice {
            Advice::Hold { lifetime_ms, payee } => self.advise_hold(c, lifetime_ms, payee),
            Advice::Post { payee, authorization } => self.advise_post(c, payee, authorization),
            Advice::Declined => Ok(self.note(Outcome::AdviceAccepted, c.amount, 0)),
        }
    }

    fn advise_hold(&self, c: &Advise, lifetime_ms: Option<u64>, payee: Option<AccountId>) -> Verdict {
        self.require_authorization_room()?;
        let owner = self.forced_owner(self.account, c.ledger);
        let suspense = owner != self.account;
        let flags = Flags::SUSPENSE.when(suspense).with(Flags::OVERDRAWN.when(self.overdraws(owner, c.amount.get())));
        let rare = Rare {
            payee: payee.map_or(0, |payee| payee.0),
            ledger: if suspense { c.ledger.bits() } else { 0 },
            ..Rare::default()
        };
        Ok(Body::Authorized(Authorized {
            head: self.head_on(owner, Outcome::AdviceAccepted, flags, rare),
            authorization: self.new_authorization(),
            amount: c.amount,
            expires: self.scene.expiry(c.ledger, lifetime_ms),
            tolerance_bp: 0,
            bucket: self.scene.bucket(c.ledger),
        }))
    }

    fn advise_post(&self, c: &Advise, payee: AccountId, authorization: Option<AuthorizationId>) -> Verdict {
        let plain = self.scene.plain_movement(self, Purpose::Advice, payee, c.ledger, c.amount);
        let Some(a) = self.matched(c, authorization)? else {
            let owner = self.forced_owner(self.account, c.ledger);
            let flags = Flags::UNMATCHED.with(Flags::OVERDRAWN.when(self.overdraws(owner, c.amount.get())));
            let movement = Movement { bucket: self.scene.bucket(c.ledger), is_counted: true, ..plain };
            return self.movement(movement, OwnerSide { account: owner, outcome: Outcome::AdviceAccepted, flags });
        };
        self.require_authorization_room()?;
        let hold = if a.is_open() { a.taken_from_hold(c.amount) } else { Amount::ZERO };
        let owner = self.forced_owner(a.account(), c.ledger);
        // The rest of the hold is released with it; a closed one holds nothing.
        let available = self.slot.find_account(owner).and_then(|account| account.balances().available);
        let is_overdrawn =
            available.is_some_and(|sum| sum.saturating_add_unsigned(a.hold.get()) < c.amount.get().cast_signed());
        let flags = Flags::UNMATCHED.when(!a.is_open()).with(Flags::OVERDRAWN.when(is_overdrawn));
        let movement = Movement { authorization: a.id().0, hold, is_final: true, ..plain };
        self.movement(movement, OwnerSide { account: owner, outcome: Outcome::AdviceAccepted, flags })
    }

    /// The authorization that the advice names, when it is this account's, in the advice's ledger.
    fn matched(&self, c: &Advise, named: Option<AuthorizationId>) -> Result<Option<&'a Authorization>, Decision> {
        let found = named.and_then(|id| self.slot.visible_authorization(id.0, self.scene.now));
        let Some(a) = found.filter(|a| a.payer() == self.account) else { return Ok(None) };
        let ledger = self.slot.find_account(a.account()).map(|account| account.ledger);
        if ledger != Some(c.ledger) {
            return Ok(None);
        }
        self.wait_unless_free(a.exchange())?;
        Ok(Some(a))
    }
}
