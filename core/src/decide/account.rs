//! `open_account`, `update_account`, `close_account`.

use tp_planted::{Bug, has};

use super::{Case, Decision, Verdict};
use crate::amount::Amount;
use crate::command::{OpenAccount, Settings, Status, UpdateAccount};
use crate::event::{Body, Rare, Settled};
use crate::ids::Version;
use crate::outcome::Outcome;
use crate::reply::Flags;

impl Case<'_> {
    #[allow(clippy::unnecessary_wraps)] // the shape of every verb
    pub(super) fn open_account(&self, c: &OpenAccount) -> Verdict {
        if let Some(account) = self.owner {
            // The same once more is approved, whatever status was set since.
            let outcome = if account.settings() == c.settings { Outcome::Approved } else { Outcome::AccountExists };
            return Ok(self.note(outcome, Amount::ZERO, 0));
        }
        let mut body = self.settled(c.settings);
        if let Body::Settled(e) = &mut body {
            e.head.version = Version(1);
        }
        Ok(body)
    }

    pub(super) fn update_account(&self, c: &UpdateAccount) -> Verdict {
        let account = self.existing_account()?;
        self.require(account.status != Status::Closed, Outcome::AccountClosed, Amount::ZERO, 0)?;
        let now = account.settings();
        Ok(self.settled(Settings {
            status: c.status.unwrap_or(now.status),
            credit_limit: c.credit_limit.unwrap_or(now.credit_limit),
            limits: c.limits.unwrap_or(now.limits),
            ..now
        }))
    }

    pub(super) fn close_account(&self) -> Verdict {
        let account = self.existing_account()?;
        self.require(account.status != Status::Closed, Outcome::AccountClosed, Amount::ZERO, 0)?;
        let is_empty =
            account.posted() == 0 && account.held.get() == 0 && account.holds_open == 0 && account.exchanges_open == 0;
        self.require(is_empty, Outcome::AccountNotEmpty, Amount::ZERO, 0)?;
        Ok(self.settled(Settings { status: Status::Closed, ..account.settings() }))
    }

    fn settled(&self, settings: Settings) -> Body {
        Body::Settled(Settled { head: self.head(Outcome::Approved, Flags::NONE, Rare::default()), settings })
    }

    /// The guards that every new debit of the payer passes before limits and funds.
    pub(super) fn require_debitable(
        &self,
        account: &crate::account::Account,
        amount: Amount,
        target: u128,
    ) -> Result<(), Decision> {
        self.require(account.status != Status::Closed, Outcome::AccountClosed, amount, target)?;
        let is_frozen =
            account.status == Status::Frozen || account.status == Status::DebitFrozen && !has(Bug::FrozenPays);
        self.require(!is_frozen, Outcome::AccountFrozen, amount, target)
    }
}
