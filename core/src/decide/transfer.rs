//! transfer: one account pays another at once.

use super::movement::OwnerSide;
use super::{Case, Verdict};
use crate::command::Transfer;
use crate::event::{Movement, Purpose};
use crate::outcome::Outcome;
use crate::reply::Flags;

impl Case<'_> {
    pub(super) fn transfer(&self, c: &Transfer) -> Verdict {
        let account = self.existing_account()?;
        self.require(account.ledger == c.ledger, Outcome::WrongLedger, c.amount, c.payee.0)?;
        self.require_debitable(account, c.amount, c.payee.0)?;
        let bucket = self.scene.bucket(c.ledger);
        if let Some(refusal) = account.allowance(c.amount, bucket).refusal {
            return Ok(self.note(refusal, c.amount, c.payee.0));
        }
        let plain = self.scene.plain_movement(self, Purpose::Transfer, c.payee, c.ledger, c.amount);
        let movement = Movement { bucket, is_counted: true, ..plain };
        let owner = OwnerSide { account: self.account, outcome: Outcome::Approved, flags: Flags::NONE };
        self.movement(movement, owner)
    }
}
