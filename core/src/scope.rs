//! The scope of a submission: whose accounts and which ledger it may be decided on.
//!
//! A front binds a call to its caller's tenant with it, in the decision itself: no second command, no race with an opening.
//! Owns what a scope covers; refuses to know commands (`decide/scope.rs` finds the account) and who is paid. Carried beside the
//! command, never in its fingerprint nor in an event: a journal says what was decided, not for whom it could not have been.

use crate::account::Account;
use crate::amount::Ledger;
use crate::ids::AccountId;

/// Accounts from one id to another, both included. Nothing when `from` is above `to`.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct AccountRange {
    /// The lowest id.
    pub from: AccountId,
    /// The highest id.
    pub to: AccountId,
}

impl AccountRange {
    /// Whether the account lies in it.
    pub fn holds(self, account: AccountId) -> bool {
        (self.from..=self.to).contains(&account)
    }
}

/// What a submission may be decided on. Default: everything.
///
/// Tenant and ledger are tested after the command is found well formed and before its key is looked at, so that a repeat reveals
/// nothing either. They bound the account that owns the decision: the one that the command names, or the payer behind its
/// authorization or capture. *Who is paid is not the scope's business*: who submits binds payees by their ids. Whom money is
/// drawn back from is, by `counter`, for no command names that account. Records have no owner, and nothing bounds them.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub struct Scope {
    /// Only accounts of this tenant ([`crate::command::Settings::tenant`]); `None`: of any.
    ///
    /// What belongs to another tenant, or to none (suspense accounts, and holds that stand for accounts that were never opened),
    /// is answered like what does not exist: a bare reply, no event, no key remembered. Three cases differ from that:
    /// - a lookup's fence (`original_not_found`), a reversal (`account_not_found`) and an advice (`account_not_found`), which an
    ///   account that does not exist takes: they leave nothing on another's account, so they do not say that they did;
    /// - `open_account` of an account that is another's: `account_exists`, and nothing else;
    /// - `open_account` with another tenant in its settings: `malformed`.
    ///
    /// An account that does not exist is nobody's yet: what is asked of it is decided as without a tenant.
    pub tenant: Option<u32>,
    /// Only amounts of this ledger; `None`: of any.
    ///
    /// Another ledger of the account (of an authorization: of the account that its hold stands on; of an opening: of its
    /// settings) is answered `wrong_ledger`, bare. That is a condition of this submission, as its deadline is: no event, and the
    /// key is not used up.
    pub ledger: Option<Ledger>,
    /// Only pulls from these accounts; `None`: from any.
    ///
    /// A pull (a refund, or a reversal that takes a transfer, capture or advice back) whose other account lies outside is
    /// answered `not_reversible`, bare. Like the ledger it is a condition of this submission: no event, and the key is not used
    /// up. The other account is the payee that the original named, or the suspense account where the payee's side was booked
    /// there: a range without the suspense accounts keeps them from being drawn on. (A payee in the range that was closed since
    /// is still the one that counts, though a reversal draws on the suspense account that stands for it.)
    ///
    /// It is tested where the pull would begin: after the key, so that a repeat of what was decided is answered as a repeat (the
    /// money has moved), and after what refuses it on the owner's side or leaves nothing to pull; before the other account is
    /// looked at. Pushes (transfer, capture, advice, a refund's reversal) are not restricted.
    pub counter: Option<AccountRange>,
}

/// A scope that goes along with a submission from queue to queue: out of line, since most have none.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Carried(Option<Box<Scope>>);

impl Carried {
    /// The scope.
    pub fn scope(&self) -> Scope {
        self.0.as_deref().copied().unwrap_or_default()
    }
}

impl Scope {
    /// Whether it restricts nothing.
    pub const fn is_open(self) -> bool {
        self.tenant.is_none() && self.ledger.is_none() && self.counter.is_none()
    }
    /// As it goes along with a submission.
    pub fn carried(self) -> Carried {
        Carried((!self.is_open()).then(|| Box::new(self)))
    }
    /// Whether the account is another tenant's, or none's.
    pub(crate) fn hides(self, account: &Account) -> bool {
        self.tenant.is_some_and(|tenant| account.id().suspense().is_some() || account.tenant() != tenant)
    }
    /// Whether amounts of that ledger are outside.
    pub(crate) fn excludes(self, ledger: Ledger) -> bool {
        self.ledger.is_some_and(|only| only != ledger)
    }
    /// Whether money may not be drawn back from that account.
    pub(crate) fn forbids_pull_from(self, counter: AccountId) -> bool {
        self.counter.is_some_and(|range| !range.holds(counter))
    }
}
