//! Outcomes: stable names, and their mapping to the codes of card messages.
//!
//! The names are what counts; numbers are a mapping. Four digits: ISO 8583:2003/2023 action codes, where the edition has one;
//! two digits: data element 39 of ISO 8583:1987. `None`: no standard code; an edge chooses one of its private range.

use rkyv::{Archive, Deserialize, Serialize};

macro_rules! outcomes {
    ($($(#[$doc:meta])* $name:ident = $number:literal, $text:literal, $four:expr, $two:expr;)*) => {
        /// What was decided, or why not. The discriminant is its number in journals and never changes.
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Archive, Serialize, Deserialize)]
        #[repr(u8)]
        #[non_exhaustive]
        pub enum Outcome { $($(#[$doc])* $name = $number,)* }

        impl Outcome {
            /// Every outcome, in the order of their numbers.
            pub const ALL: &'static [Self] = &[$(Self::$name),*];
            /// The stable name.
            pub const fn name(self) -> &'static str { match self { $(Self::$name => $text),* } }
            /// The action code of ISO 8583:2003.
            pub const fn action_code(self) -> Option<&'static str> { match self { $(Self::$name => $four),* } }
            /// Data element 39 of ISO 8583:1987.
            pub const fn response_code(self) -> Option<&'static str> { match self { $(Self::$name => $two),* } }
        }
    };
}

outcomes! {
    /// Done as asked.
    Approved = 0, "approved", Some("0000"), Some("00");
    /// Done for less than asked.
    ApprovedPartially = 1, "approved_partially", Some("0002"), Some("10");
    /// Done, and the account is below its limit: a capture above its hold, within the tolerance.
    ApprovedOverdrawn = 2, "approved_overdrawn", Some("0009"), Some("00");
    /// Amount 0: the account exists and may be debited.
    AccountValid = 3, "account_valid", Some("0085"), Some("85");
    /// The original is undone, was without effect, or can no longer execute.
    ReversalAccepted = 4, "reversal_accepted", Some("4000"), Some("00");
    /// What someone else decided is booked.
    AdviceAccepted = 5, "advice_accepted", None, Some("00");

    /// Above what is available.
    InsufficientFunds = 16, "insufficient_funds", Some("1016"), Some("51");
    /// Above the limit of a single command, of the day or of the month.
    AmountLimit = 17, "amount_limit", Some("1021"), Some("61");
    /// Too many commands this day or month, or too many captures of one authorization.
    CountLimit = 18, "count_limit", Some("1023"), Some("65");
    /// A sum would leave the range of balances.
    InvalidAmount = 19, "invalid_amount", Some("1010"), Some("13");
    /// The account, or the payee, is kept in another ledger.
    WrongLedger = 20, "wrong_ledger", Some("9102"), Some("12");
    /// No such account. Not an event.
    AccountNotFound = 21, "account_not_found", Some("1011"), Some("14");
    /// The account is closed.
    AccountClosed = 22, "account_closed", Some("1035"), Some("62");
    /// The account refuses this debit or credit.
    AccountFrozen = 23, "account_frozen", Some("1004"), Some("62");
    /// No such payee, or not the one fixed when the authorization was made.
    PayeeNotFound = 24, "payee_not_found", Some("1042"), Some("62");
    /// The payee is closed.
    PayeeClosed = 25, "payee_closed", Some("1042"), Some("62");
    /// The payee refuses this debit or credit.
    PayeeFrozen = 26, "payee_frozen", Some("1042"), Some("62");
    /// The hold's time has passed.
    HoldExpired = 27, "hold_expired", Some("1034"), Some("84");
    /// The hold was closed by a final capture, a void or a reversal.
    HoldNotOpen = 28, "hold_not_open", Some("1033"), Some("12");
    /// Nothing is left to void.
    NothingLeft = 29, "nothing_left", None, Some("12");
    /// Above what is left of the hold and its tolerance.
    AboveHold = 30, "above_hold", Some("1074"), Some("61");
    /// Above what was captured and is not yet refunded.
    AboveCaptured = 31, "above_captured", None, Some("61");
    /// An account of that id exists, with other fields.
    AccountExists = 32, "account_exists", None, None;
    /// Money, holds or open exchanges stand on the account.
    AccountNotEmpty = 33, "account_not_empty", None, None;
    /// Nothing known of the command, authorization, capture or transfer that is named.
    OriginalNotFound = 34, "original_not_found", Some("9114"), Some("25");
    /// Later commands used what the reversal would take back.
    FurtherActivity = 35, "further_activity", Some("1821"), Some("21");
    /// The original is of a kind that is never reversed.
    NotReversible = 36, "not_reversible", Some("1822"), Some("21");
    /// Too long after the capture.
    RefundWindowPassed = 37, "refund_window_passed", Some("1823"), Some("21");
    /// The key was used with another body. Not an event.
    IdempotencyConflict = 38, "idempotency_conflict", Some("9113"), Some("94");
    /// The key's own time is outside the window. Not an event.
    KeyExpired = 39, "key_expired", None, Some("94");
    /// A lookup fenced the key before the command came.
    Fenced = 40, "fenced", None, Some("94");
    /// A reversal of this key came before the command.
    ReversedBefore = 41, "reversed_before", None, Some("94");

    /// This submission's outcome is not known yet: repeat or look up. Not an event.
    InProgress = 64, "in_progress", Some("9123"), Some("09");
    /// No room: nothing was done. Not an event.
    Busy = 65, "busy", Some("9107"), Some("91");
    /// The deadline passed before the command was decided: nothing was done. Not an event.
    DeadlineExceeded = 66, "deadline_exceeded", Some("9111"), Some("68");
    /// The disk is full: nothing was done. Not an event.
    NoSpace = 67, "no_space", Some("9109"), Some("96");
    /// The engine is closing: nothing was done. Not an event.
    Stopping = 68, "stopping", Some("9112"), Some("91");
    /// A bug was caught: nothing was done.
    SystemError = 69, "system_error", Some("9109"), Some("96");
    /// The command is not well formed. Not an event.
    Malformed = 70, "malformed", Some("9100"), Some("30");
}

impl Outcome {
    /// Whether the command had its effect.
    pub const fn is_approval(self) -> bool {
        (self as u8) < 16
    }
    /// Whether this submission left at once, without looking at state (J2).
    pub const fn leaves_at_once(self) -> bool {
        matches!(
            self,
            Self::Busy | Self::DeadlineExceeded | Self::NoSpace | Self::Stopping | Self::Malformed | Self::InProgress
        )
    }
    /// The outcome of that number in journals.
    pub fn from_number(number: u8) -> Option<Self> {
        Self::ALL.iter().copied().find(|o| *o as u8 == number)
    }
}

impl core::fmt::Display for Outcome {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str(self.name())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn names_and_numbers_are_unique_and_codes_have_their_width() {
        let names: BTreeSet<_> = Outcome::ALL.iter().map(|o| o.name()).collect();
        let numbers: BTreeSet<_> = Outcome::ALL.iter().map(|o| *o as u8).collect();
        assert_eq!((names.len(), numbers.len()), (Outcome::ALL.len(), Outcome::ALL.len()));
        for outcome in Outcome::ALL {
            assert!(outcome.action_code().is_none_or(|c| c.len() == 4));
            assert!(outcome.response_code().is_none_or(|c| c.len() == 2));
            assert_eq!(Outcome::from_number(*outcome as u8), Some(*outcome));
        }
    }
}
