//! The scope of a submission: whose accounts and which ledger it may be decided on.
//!
//! A front binds a call to its caller's tenant with it, in the decision itself: no second command, no race with an opening.
//! Owns what a scope covers; refuses to know commands (`decide/scope.rs` finds the account) and payees. Carried beside the
//! command, never in its fingerprint nor in an event: a journal says what was decided, not for whom it could not have been.

use crate::account::Account;
use crate::amount::Ledger;

/// What a submission may be decided on. Default: everything.
///
/// It is tested after the command is found well formed and before its key is looked at, so that a repeat reveals nothing
/// either. It bounds the account that owns the decision: the one that the command names, or the payer behind its authorization
/// or capture. *Payees are not the scope's business*: who submits binds them by their ids. Nor are records, which have no owner.
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
}

impl Scope {
    /// Whether it restricts nothing.
    pub const fn is_open(self) -> bool {
        self.tenant.is_none() && self.ledger.is_none()
    }
    /// Whether the account is another tenant's, or none's.
    pub(crate) fn hides(self, account: &Account) -> bool {
        self.tenant.is_some_and(|tenant| account.id.suspense().is_some() || account.tenant() != tenant)
    }
    /// Whether amounts of that ledger are outside.
    pub(crate) fn excludes(self, ledger: Ledger) -> bool {
        self.ledger.is_some_and(|only| only != ledger)
    }
}
