//! Authorizations with their holds, and their captures.

use tp_planted::{Bug, has};

use crate::amount::Amount;
use crate::gapless::{Single, Wide};
use crate::ids::{AccountId, AuthorizationId, TransferId};
use crate::reply::AuthorizationState;
use crate::time::{Bucket, Time};

/// The most captures of one authorization.
pub const CAPTURES_MAX: u32 = 150;

/// No position.
pub(crate) const NOWHERE: u32 = u32::MAX;

/// An authorization at rest: 104 bytes, as most are that were made and nothing more.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Authorization {
    id: Wide,
    payer: Wide,
    payee: Wide,
    pub(crate) expires: Time,
    /// When it was closed, or named by a command, whichever was last.
    pub(crate) named_at: Time,
    course: Option<Box<Course>>,
    /// Approved in all, increments included.
    pub(crate) authorized: Single,
    /// Still held.
    pub(crate) hold: Single,
    pub(crate) bucket: Bucket,
    pub(crate) tolerance_bp: u16,
    pub(crate) state: AuthorizationState,
}

/// What came of an authorization after it was made, out of line.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Course {
    /// The account that the hold stands on where that is not the payer's: the slot's suspense account. Zero: the payer's.
    suspense: u128,
    /// Captured in all, less what reversals took back.
    pub(crate) captured: u128,
    /// What of it came from the hold and has not returned there, or was released since.
    pub(crate) from_hold: u128,
    /// The open exchange that works on it; 0: none.
    pub(crate) exchange: u64,
    /// Position of its first and last capture in the slot's slab.
    pub(crate) capture_first: u32,
    pub(crate) capture_last: u32,
    pub(crate) captures: u32,
}

/// What a course takes.
pub(crate) const COURSE_BYTES: usize = core::mem::size_of::<Course>();

impl Course {
    /// Nothing came of it yet.
    const NONE: Self = Self {
        suspense: 0,
        captured: 0,
        from_hold: 0,
        exchange: 0,
        capture_first: NOWHERE,
        capture_last: NOWHERE,
        captures: 0,
    };
}

/// How an authorization is made.
#[derive(Clone, Copy)]
pub(crate) struct Made {
    pub(crate) id: AuthorizationId,
    pub(crate) payer: AccountId,
    /// Where the hold stands: the payer's account, or the slot's suspense account.
    pub(crate) account: AccountId,
    pub(crate) payee: u128,
    pub(crate) amount: Amount,
    pub(crate) expires: Time,
    pub(crate) named_at: Time,
    pub(crate) bucket: Bucket,
    pub(crate) tolerance_bp: u16,
}

impl Authorization {
    pub(crate) fn new(made: Made) -> Self {
        let Made { id, payer, account, payee, amount, expires, named_at, bucket, tolerance_bp } = made;
        let course = (account != payer).then(|| Box::new(Course { suspense: account.0, ..Course::NONE }));
        Self {
            id: Wide::new(id.0),
            payer: Wide::new(payer.0),
            payee: Wide::new(payee),
            expires,
            named_at,
            course,
            authorized: Single::new(amount),
            hold: Single::new(amount),
            bucket,
            tolerance_bp,
            state: AuthorizationState::Open,
        }
    }

    pub(crate) const fn id(&self) -> AuthorizationId {
        AuthorizationId(self.id.get())
    }

    /// The payer as it was named: keys of later verbs belong to it.
    pub(crate) const fn payer(&self) -> AccountId {
        AccountId(self.payer.get())
    }

    /// The only payee; zero: any.
    pub(crate) const fn payee(&self) -> u128 {
        self.payee.get()
    }

    pub(crate) fn course(&self) -> &Course {
        self.course.as_deref().unwrap_or(&Course::NONE)
    }

    pub(crate) fn course_mut(&mut self) -> &mut Course {
        self.course.get_or_insert_with(|| Box::new(Course::NONE))
    }

    /// Whether an open exchange works on it.
    pub(crate) fn exchange(&self) -> u64 {
        self.course().exchange
    }

    /// Where the hold stands: the payer's account, or the slot's suspense account.
    pub(crate) fn account(&self) -> AccountId {
        match self.course().suspense {
            0 => self.payer(),
            suspense => AccountId(suspense),
        }
    }

    /// Held, or captured from the hold: what was authorized and not released.
    pub(crate) fn stands(&self) -> u128 {
        self.hold.get() + self.course().from_hold
    }

    /// Voided, undone or expired (HLD-1).
    pub(crate) fn released(&self) -> u128 {
        self.authorized.get().saturating_sub(self.stands())
    }

    pub(crate) const fn is_open(&self) -> bool {
        matches!(self.state, AuthorizationState::Open)
    }

    /// The most that captures may come to: what was authorized and not released, and the tolerance, rounded down.
    pub(crate) fn capture_ceiling(&self) -> u128 {
        let net = self.stands();
        // net x tolerance / 10,000 without leaving 128 bits.
        let (whole, rest) = (net / 10_000, net % 10_000);
        net.saturating_add(
            whole * u128::from(self.tolerance_bp)
                + (rest * u128::from(self.tolerance_bp) + if has(Bug::CeilingUp) { 9_999 } else { 0 }) / 10_000,
        )
    }

    /// How much could still be captured.
    pub(crate) fn capturable(&self) -> u128 {
        self.capture_ceiling().saturating_sub(self.course().captured)
    }

    /// What a capture of `amount` takes from the hold.
    pub(crate) fn taken_from_hold(&self, amount: Amount) -> Amount {
        amount.min(self.hold.amount())
    }
}

#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Capture {
    pub(crate) id: TransferId,
    pub(crate) payee: AccountId,
    /// What was captured, less what a reversal took back.
    pub(crate) amount: u128,
    /// What of it came from the hold and has not returned there.
    pub(crate) from_hold: u128,
    pub(crate) refunded: u128,
    pub(crate) at: Time,
    /// Position of its authorization.
    pub(crate) authorization: u32,
    /// Position of the authorization's next capture.
    pub(crate) next: u32,
    pub(crate) is_final: bool,
    /// Whether the payee's side was booked on the suspense account of the payee's slot.
    pub(crate) is_on_suspense: bool,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ids::SlotIndex;

    #[test]
    fn an_authorization_at_rest_takes_104_bytes() {
        assert_eq!(size_of::<Option<Authorization>>(), 104);
    }

    #[test]
    fn the_ceiling_is_rounded_down_and_never_overflows() {
        let slot = SlotIndex::new(1).expect("below 1,024");
        let mut a = Authorization::new(Made {
            id: AuthorizationId::new(Time(1), slot, 1),
            payer: AccountId(1),
            account: AccountId(1),
            payee: 0,
            amount: Amount::from(999),
            expires: Time(2),
            named_at: Time(0),
            bucket: Bucket::default(),
            tolerance_bp: 2_000,
        });
        assert_eq!(a.capture_ceiling(), 999 * 12_000 / 10_000);
        a.tolerance_bp = 10_000;
        (a.authorized, a.hold) = (Single::new(Amount::MAX), Single::new(Amount::MAX));
        a.course_mut().from_hold = u128::MAX / 3;
        assert_eq!(a.capture_ceiling(), (u128::MAX / 3 + Amount::MAX.get()) * 2);
    }
}
