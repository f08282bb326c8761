//! The generator's own books: what the replies say must have become of the money, to be held against the target's sums.
//!
//! Owns sums of what was answered, over all and, where nobody shows sums, of each account; refuses to look at the target. Minor units.

use tpcore::AccountId;

use crate::plan::{WorkloadPlan, place};
use crate::target::Sums;

/// What the answers add to one account, minor units.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Added {
    /// To what is posted.
    pub posted: i128,
    /// To what is held.
    pub held: i128,
}

/// Account by account: for a target whose sums nobody shows.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct AccountBooks {
    /// Payers.
    pub payers: Vec<Added>,
    /// Payees.
    pub payees: Vec<Added>,
}

impl AccountBooks {
    /// Of a workload's accounts, with nothing added.
    pub fn new(plan: &WorkloadPlan) -> Self {
        let empty = |count: u64| vec![Added::default(); usize::try_from(count).unwrap_or(usize::MAX)];
        Self { payers: empty(plan.accounts), payees: empty(plan.payees) }
    }

    fn add(&mut self, account: AccountId, posted: i128, held: i128) {
        let (accounts, n) = match place(account) {
            Some((true, n)) => (&mut self.payers, n),
            Some((false, n)) => (&mut self.payees, n),
            None => return,
        };
        if let Some(added) = usize::try_from(n).ok().and_then(|n| accounts.get_mut(n)) {
            added.posted += posted;
            added.held += held;
        }
    }
}

/// Sums over the answered commands of a run.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Books {
    /// Moved from account to account: captures, refunds, transfers.
    pub moved: u128,
    /// Put on hold by authorizations and increments.
    pub held: u128,
    /// Taken off hold by captures, voids and reversals.
    pub released: u128,
    /// Commands that had their effect.
    pub approvals: u64,
    /// Answers that contradict an earlier one to the same key, or what was asked; each is a bug of the target.
    pub contradictions: u64,
    /// The first of them.
    pub contradiction: Option<String>,
    /// Kept where it is asked for.
    pub accounts: Option<AccountBooks>,
}

impl Books {
    /// Money put on hold on an account.
    pub fn hold(&mut self, account: AccountId, amount: u128) {
        self.held += amount;
        if let Some(accounts) = &mut self.accounts {
            accounts.add(account, 0, amount.cast_signed());
        }
    }

    /// Money taken off hold on an account.
    pub fn release(&mut self, account: AccountId, amount: u128) {
        self.released += amount;
        if let Some(accounts) = &mut self.accounts {
            accounts.add(account, 0, -amount.cast_signed());
        }
    }

    /// Money moved.
    pub fn transfer(&mut self, from: AccountId, to: AccountId, amount: u128) {
        self.moved += amount;
        if let Some(accounts) = &mut self.accounts {
            accounts.add(from, -amount.cast_signed(), 0);
            accounts.add(to, amount.cast_signed(), 0);
        }
    }

    /// Counts an answer that contradicts what is known.
    pub fn contradict(&mut self, what: impl FnOnce() -> String) {
        self.contradictions += 1;
        self.contradiction.get_or_insert_with(what);
    }

    /// The sums that the target must show, from where it stood before the run, once `expired` came off hold by time.
    pub fn expected(&self, before: Sums, expired: u128) -> Option<Sums> {
        let held = before.held.checked_add(self.held)?.checked_sub(self.released)?.checked_sub(expired)?;
        let (debits, credits) = (before.debits.checked_add(self.moved)?, before.credits.checked_add(self.moved)?);
        Some(Sums { debits, credits, held, in_transit: 0 })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::{account, payee};

    #[test]
    fn accounts_are_kept_where_it_is_asked_for() {
        let none = Added::default();
        let accounts = AccountBooks { payers: vec![none; 2], payees: vec![none; 1] };
        let mut books = Books { accounts: Some(accounts), ..Books::default() };
        books.hold(account(1), 70);
        books.release(account(1), 30);
        books.transfer(account(1), payee(0), 30);
        let accounts = books.accounts.expect("kept");
        assert_eq!(accounts.payers, [none, Added { posted: -30, held: 40 }]);
        assert_eq!(accounts.payees, [Added { posted: 30, held: 0 }]);
        assert_eq!((books.moved, books.held, books.released), (30, 70, 30));
    }

    #[test]
    fn what_is_expected_follows_from_the_answers() {
        let before = Sums { debits: 100, credits: 100, held: 7, in_transit: 0 };
        let books = Books { moved: 30, held: 50, released: 40, ..Books::default() };
        assert_eq!(books.expected(before, 10), Some(Sums { debits: 130, credits: 130, held: 7, in_transit: 0 }));
        assert_eq!(books.expected(before, 18), None, "more came off hold than was ever held");
    }
}
