//! The generator's own books: what the replies say must have become of the money, to be held against the target's sums.
//!
//! Owns sums of what was answered; refuses to look at the target. Minor units.

use crate::target::Sums;

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
}

impl Books {
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

    #[test]
    fn what_is_expected_follows_from_the_answers() {
        let before = Sums { debits: 100, credits: 100, held: 7, in_transit: 0 };
        let books = Books { moved: 30, held: 50, released: 40, ..Books::default() };
        assert_eq!(books.expected(before, 10), Some(Sums { debits: 130, credits: 130, held: 7, in_transit: 0 }));
        assert_eq!(books.expected(before, 18), None, "more came off hold than was ever held");
    }
}
