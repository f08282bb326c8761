//! Authorizations with their holds, and their captures.

use tp_planted::{Bug, has};

use crate::amount::Amount;
use crate::ids::{AccountId, AuthorizationId, TransferId};
use crate::reply::AuthorizationState;
use crate::time::{Bucket, Time};

/// The most captures of one authorization.
pub const CAPTURES_MAX: u32 = 150;

/// No position.
pub(crate) const NOWHERE: u32 = u32::MAX;

#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Authorization {
    pub(crate) id: AuthorizationId,
    /// The payer as it was named: keys of later verbs belong to it.
    pub(crate) payer: AccountId,
    /// Where the hold stands: the payer's account, or the slot's suspense account.
    pub(crate) account: AccountId,
    /// The only payee; zero: any.
    pub(crate) payee: u128,
    /// Approved in all, increments included.
    pub(crate) authorized: u128,
    /// Voided, undone or expired.
    pub(crate) released: u128,
    /// Still held.
    pub(crate) hold: u128,
    /// Captured in all, less what reversals took back.
    pub(crate) captured: u128,
    pub(crate) expires: Time,
    /// When it was closed, or named by a command, whichever was last.
    pub(crate) named_at: Time,
    /// The open exchange that works on it; 0: none.
    pub(crate) exchange: u64,
    pub(crate) bucket: Bucket,
    /// Position of its first and last capture in the slot's slab.
    pub(crate) capture_first: u32,
    pub(crate) capture_last: u32,
    pub(crate) captures: u32,
    pub(crate) tolerance_bp: u16,
    pub(crate) state: AuthorizationState,
}

impl Authorization {
    pub(crate) const fn is_open(&self) -> bool {
        matches!(self.state, AuthorizationState::Open)
    }

    /// The most that captures may come to: what was authorized and not released, and the tolerance, rounded down.
    pub(crate) fn capture_ceiling(&self) -> u128 {
        let net = self.authorized - self.released;
        // net x tolerance / 10,000 without leaving 128 bits.
        let (whole, rest) = (net / 10_000, net % 10_000);
        net.saturating_add(
            whole * u128::from(self.tolerance_bp)
                + (rest * u128::from(self.tolerance_bp) + if has(Bug::CeilingUp) { 9_999 } else { 0 }) / 10_000,
        )
    }

    /// How much could still be captured.
    pub(crate) fn capturable(&self) -> u128 {
        self.capture_ceiling().saturating_sub(self.captured)
    }

    /// What a capture of `amount` takes from the hold.
    pub(crate) fn taken_from_hold(&self, amount: Amount) -> Amount {
        Amount::new(amount.get().min(self.hold)).unwrap_or(amount)
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
    fn the_ceiling_is_rounded_down_and_never_overflows() {
        let slot = SlotIndex::new(1).expect("below 1,024");
        let mut a = Authorization {
            id: AuthorizationId::new(Time(1), slot, 1),
            payer: AccountId(1),
            account: AccountId(1),
            payee: 0,
            authorized: 999,
            released: 0,
            hold: 999,
            captured: 0,
            expires: Time(2),
            named_at: Time(0),
            exchange: 0,
            bucket: Bucket::default(),
            capture_first: NOWHERE,
            capture_last: NOWHERE,
            captures: 0,
            tolerance_bp: 2_000,
            state: AuthorizationState::Open,
        };
        assert_eq!(a.capture_ceiling(), 999 * 12_000 / 10_000);
        a.tolerance_bp = 10_000;
        a.authorized = u128::MAX / 3;
        assert_eq!(a.capture_ceiling(), u128::MAX / 3 * 2);
    }
}
