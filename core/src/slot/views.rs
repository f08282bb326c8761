//! What a slot shows of itself: accounts, authorizations, counts. Copies only.

use super::Slot;
use crate::account::Account;
use crate::amount::Ledger;
use crate::authorization::{Authorization, Capture};
use crate::ids::{AccountId, AuthorizationId, TransferId};
use crate::key::Key;
use crate::keys::Standing;
use crate::reply::{AccountView, AuthorizationView, CaptureView};

impl Slot {
    /// All accounts, ascending by id.
    pub fn accounts(&self) -> Vec<AccountView> {
        let mut all: Vec<_> = self.accounts.iter().map(Account::view).collect();
        all.sort_unstable_by_key(|a| a.account);
        all
    }
    /// The accounts whose ids are wanted, in no order.
    pub fn accounts_where(&self, is_wanted: impl Fn(AccountId) -> bool) -> impl Iterator<Item = AccountView> {
        self.accounts.iter().filter(move |account| is_wanted(account.id())).map(Account::view)
    }
    /// One account.
    pub fn account(&self, id: AccountId) -> Option<AccountView> {
        self.find_account(id).map(Account::view)
    }
    /// One authorization, while it is in memory.
    pub fn authorization(&self, id: AuthorizationId) -> Option<AuthorizationView> {
        let a = self.find_authorization(id.0)?;
        let captures: Vec<_> = self.captures_of(a).map(capture_view).collect();
        Some(AuthorizationView {
            authorization: a.id(),
            account: a.payer(),
            payee: (a.payee() != 0).then_some(AccountId(a.payee())),
            state: a.state,
            authorized: a.authorized.get(),
            held: a.hold.get(),
            captured: a.course().captured,
            refunded: captures.iter().map(|c| c.refunded).sum(),
            expires: a.expires,
            exchange_open: a.exchange() != 0,
            captures,
        })
    }
    /// The authorization that a capture belongs to, while it is in memory.
    pub fn authorization_of_capture(&self, id: TransferId) -> Option<AuthorizationId> {
        self.authorization_of(self.find_capture(id.0)?).map(Authorization::id)
    }
    /// What is on its way to or from other slots, by ledger. Zero only summed over all slots when no exchange is open.
    pub fn in_transit(&self) -> &[(Ledger, i128)] {
        &self.in_transit
    }
    /// Exchanges that this slot opened and has not ended.
    pub const fn open_exchanges(&self) -> usize {
        self.exchanges.len()
    }
    /// Fences and tombstones whose command has not come.
    pub fn is_forbidden(&self, account: AccountId, key: Key) -> bool {
        let record = self.find_key(account, key);
        record.is_some_and(|r| r.standing != Standing::Decided)
    }
}

const fn capture_view(c: &Capture) -> CaptureView {
    CaptureView {
        transfer: c.id,
        payee: c.payee,
        amount: c.amount,
        refunded: c.refunded,
        at: c.at,
        is_final: c.is_final,
    }
}
