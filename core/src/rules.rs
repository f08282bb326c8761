//! What decide is told beside state, time and command: policies, windows, budgets. Never read by evolve.

use std::collections::BTreeMap;

use crate::amount::Ledger;
use crate::key::KeyKind;
use crate::time::{DAY_MS, Time};

/// What is fixed for a data directory, since what is past a window is absent from the state.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Windows {
    /// How long a `uuid_v7` key is remembered after the later of its receipt and its own time, ms; `None`: for ever.
    /// Default 10 minutes.
    pub key_uuid_v7_ms: Option<u64>,
    /// How long an opaque key is remembered after its receipt, ms; `None`: for ever. Default 24 hours.
    pub key_opaque_ms: Option<u64>,
    /// How long after a capture it can be refunded, ms. Default 180 days. A closed authorization stays in memory so long after
    /// the last command that named it, or for the longest key window where that is longer: a repeat of a later verb finds its
    /// key through the authorization.
    pub refund_ms: u64,
}

impl Default for Windows {
    fn default() -> Self {
        Self { key_uuid_v7_ms: Some(600_000), key_opaque_ms: Some(DAY_MS), refund_ms: 180 * DAY_MS }
    }
}

/// How far ahead of engine time a `uuid_v7` key may be, ms: 5 minutes.
pub const KEY_AHEAD_MS: u64 = 300_000;

impl Windows {
    /// The end of a closed authorization's window, so long after the last command that named it.
    pub fn authorization_end(&self, named: Time) -> Time {
        let keys = self.key_uuid_v7_ms.zip(self.key_opaque_ms).map(|(a, b)| a.max(b));
        keys.map_or(Time::MAX, |ms| named.plus_ms(ms.max(self.refund_ms)))
    }

    /// The end of a key's window when it was received at `received`; [`Time::MAX`]: never.
    pub fn key_end(&self, kind: KeyKind, received: Time, own: Option<Time>) -> Time {
        self.key_ms(kind).map_or(Time::MAX, |ms| received.max(own.unwrap_or(received)).plus_ms(ms))
    }

    const fn key_ms(&self, kind: KeyKind) -> Option<u64> {
        match kind {
            KeyKind::UuidV7 => self.key_uuid_v7_ms,
            KeyKind::Opaque => self.key_opaque_ms,
        }
    }
}

/// What a ledger's operator allows. Changes take effect for the next command; events carry results.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct LedgerPolicy {
    /// How far the ledger's calendar is ahead of UTC, minutes. Default 0.
    pub utc_offset_minutes: i16,
    /// The largest capture tolerance, 1/10,000. Default 10,000 (all of it again).
    pub tolerance_bp_max: u16,
    /// A hold's lifetime when none is asked for, ms. Default 7 days.
    pub hold_lifetime_ms_default: u64,
    /// The longest lifetime of a hold, ms. Default 31 days.
    pub hold_lifetime_ms_max: u64,
}

impl Default for LedgerPolicy {
    fn default() -> Self {
        Self {
            utc_offset_minutes: 0,
            tolerance_bp_max: 10_000,
            hold_lifetime_ms_default: 7 * DAY_MS,
            hold_lifetime_ms_max: 31 * DAY_MS,
        }
    }
}

/// Bytes of memory that a partition may use for each kind of record. At the budget new commands are answered `busy`; an eighth
/// is kept for void, refund, reversal, advice and fence.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Budgets {
    /// Remembered keys.
    pub key_bytes: u64,
    /// Open holds, closed authorizations and their captures.
    pub authorization_bytes: u64,
    /// Exchanges open at one time, a number.
    pub exchanges: u32,
}

impl Default for Budgets {
    fn default() -> Self {
        Self { key_bytes: 2 << 30, authorization_bytes: 2 << 30, exchanges: 4096 }
    }
}

/// Everything decide is told beside state, time and command.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Rules {
    /// Fixed for the directory.
    pub windows: Windows,
    /// Policies of ledgers that differ from the default.
    pub policies: BTreeMap<Ledger, LedgerPolicy>,
    /// The policy of all other ledgers.
    pub policy_default: LedgerPolicy,
    /// Of each partition.
    pub budgets: Budgets,
}

impl Rules {
    /// The policy of a ledger.
    pub fn policy(&self, ledger: Ledger) -> &LedgerPolicy {
        self.policies.get(&ledger).unwrap_or(&self.policy_default)
    }
}
