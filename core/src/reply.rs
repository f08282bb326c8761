//! Replies: what the caller gets.

use crate::account::Account;
use crate::amount::{Amount, Balances, Ledger};
use crate::command::Settings;
use crate::ids::{AccountId, AuthorizationId, Seq, TransferId, Version};
use crate::outcome::Outcome;
use crate::time::Time;
use rkyv::{Archive, Deserialize, Serialize};

/// Remarks on an outcome.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default, Archive, Serialize, Deserialize)]
pub struct Flags(pub u8);

impl Flags {
    /// Nothing to remark.
    pub const NONE: Self = Self(0);
    /// Part of a capture exceeded its hold, within the tolerance, and posted without a test of funds.
    pub const OVER_HOLD: Self = Self(1);
    /// The account is below its credit limit after a forced debit.
    pub const OVERDRAWN: Self = Self(2);
    /// A posted advice without an open hold of its own.
    pub const UNMATCHED: Self = Self(4);
    /// The owner's side was booked on the suspense account of the slot and ledger.
    pub const SUSPENSE: Self = Self(8);
    /// The other side was booked on the suspense account of its slot and ledger.
    pub const COUNTER_SUSPENSE: Self = Self(16);

    /// Both.
    #[must_use]
    pub const fn with(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }
    /// These, or none.
    #[must_use]
    pub const fn when(self, condition: bool) -> Self {
        if condition { self } else { Self::NONE }
    }
    /// Whether it has all of `other`.
    pub const fn has(self, other: Self) -> bool {
        self.0 & other.0 == other.0
    }
    /// The stable names of the remarks.
    pub fn names(self) -> impl Iterator<Item = &'static str> {
        [
            (Self::OVER_HOLD, "over_hold"),
            (Self::OVERDRAWN, "overdrawn"),
            (Self::UNMATCHED, "unmatched"),
            (Self::SUSPENSE, "suspense"),
            (Self::COUNTER_SUSPENSE, "counter_suspense"),
        ]
        .into_iter()
        .filter_map(move |(flag, name)| self.has(flag).then_some(name))
    }
}

/// The answer to a command. All that it reveals is durable when the caller has it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Reply {
    /// What was decided.
    pub outcome: Outcome,
    /// The first outcome of this key, given again.
    pub repeated: bool,
    /// The original was undone since.
    pub reversed: bool,
    /// Remarks.
    pub flags: Flags,
    /// What was approved, released, moved or given back; zero for a refusal.
    pub amount: Amount,
    /// What stands on the owner's account after it (now, for a repeat); `None` when there is no such account.
    pub balances: Option<Balances>,
    /// The ledger that the owner's account and so its balances are in; there exactly when `balances` is.
    pub ledger: Option<Ledger>,
    /// The authorization made or named.
    pub authorization: Option<AuthorizationId>,
    /// The transfer made.
    pub transfer: Option<TransferId>,
    /// When the hold expires.
    pub expires: Option<Time>,
    /// The event; [`Seq::ZERO`] where there is none.
    pub seq: Seq,
    /// The owner account's version after the event (now, for reads).
    pub version: Version,
    /// What a read asked for.
    pub detail: Option<Box<Detail>>,
}

impl Reply {
    /// An outcome and nothing else.
    pub const fn bare(outcome: Outcome) -> Self {
        Self {
            outcome,
            repeated: false,
            reversed: false,
            flags: Flags::NONE,
            amount: Amount::ZERO,
            balances: None,
            ledger: None,
            authorization: None,
            transfer: None,
            expires: None,
            seq: Seq::ZERO,
            version: Version(0),
            detail: None,
        }
    }

    /// With what stands on the owner's account, in its ledger; nothing when there is no such account.
    #[must_use]
    pub(crate) fn standing_on(self, account: Option<&Account>) -> Self {
        Self { balances: account.map(Account::balances), ledger: account.map(|account| account.ledger), ..self }
    }
}

/// What a read shows.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Detail {
    /// An account.
    Account(AccountView),
    /// An authorization.
    Authorization(AuthorizationView),
}

/// An account as it stands.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct AccountView {
    /// Whose.
    pub account: AccountId,
    /// What it is.
    pub settings: Settings,
    /// Sum of all debits.
    pub debits: u128,
    /// Sum of all credits.
    pub credits: u128,
    /// Posted, held, available.
    pub balances: Balances,
    /// The last event that touched it.
    pub seq: Seq,
    /// How many did.
    pub version: Version,
}

/// How an authorization stands.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Archive, Serialize, Deserialize)]
#[repr(u8)]
pub enum AuthorizationState {
    /// Its hold is open.
    Open = 0,
    /// Closed by a final capture.
    Captured = 1,
    /// Closed by a void.
    Voided = 2,
    /// Closed by a reversal.
    Reversed = 3,
    /// Closed by time.
    Expired = 4,
}

impl AuthorizationState {
    /// The stable name.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Open => "open",
            Self::Captured => "captured",
            Self::Voided => "voided",
            Self::Reversed => "reversed",
            Self::Expired => "expired",
        }
    }
}

/// An authorization as it stands. Minor units.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct AuthorizationView {
    /// Which.
    pub authorization: AuthorizationId,
    /// The payer.
    pub account: AccountId,
    /// The only account that may be paid, if it was fixed.
    pub payee: Option<AccountId>,
    /// How it stands.
    pub state: AuthorizationState,
    /// Approved in all, increments included.
    pub authorized: u128,
    /// Still held.
    pub held: u128,
    /// Captured, less what reversals took back.
    pub captured: u128,
    /// Refunded.
    pub refunded: u128,
    /// When the hold expires or would have expired.
    pub expires: Time,
    /// Whether an exchange with another partition is under way.
    pub exchange_open: bool,
    /// Its captures in their order.
    pub captures: Vec<CaptureView>,
}

/// One capture.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct CaptureView {
    /// Which.
    pub transfer: TransferId,
    /// Who was paid.
    pub payee: AccountId,
    /// How much, less what a reversal took back.
    pub amount: u128,
    /// Refunded of it.
    pub refunded: u128,
    /// When.
    pub at: Time,
    /// Whether it was the final one.
    pub is_final: bool,
}
