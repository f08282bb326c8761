//! Coverage marks: what was reached, counted by name.
//!
//! Owns the counts of a run and of many; a run that reached nothing proves nothing.

use std::collections::BTreeMap;

/// How often each thing happened.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Marks(BTreeMap<String, u64>);

impl Marks {
    pub(crate) fn hit(&mut self, name: impl AsRef<str>) {
        self.add(name.as_ref(), 1);
    }

    pub(crate) fn add(&mut self, name: &str, times: u64) {
        match self.0.get_mut(name) {
            Some(count) => *count += times,
            None => drop(self.0.insert(name.to_owned(), times)),
        }
    }

    /// Adds another run's.
    pub fn merge(&mut self, other: &Self) {
        other.0.iter().for_each(|(name, times)| self.add(name, *times));
    }

    /// How often.
    pub fn times(&self, name: &str) -> u64 {
        self.0.get(name).copied().unwrap_or(0)
    }

    /// How often all whose names begin so.
    pub fn sum(&self, prefix: &str) -> u64 {
        self.all().filter(|(name, _)| name.starts_with(prefix)).map(|(_, times)| times).sum()
    }

    /// All, by name.
    pub fn all(&self) -> impl Iterator<Item = (&str, u64)> {
        self.0.iter().map(|(name, times)| (name.as_str(), *times))
    }
}

/// What a run of many seeds must have reached at least once: a gate against a simulation that tests nothing.
pub const MUST: &[&str] = &[
    "fault disk full",
    "fault read error",
    "fault rot",
    "fault write error",
    "open after a clean close",
    "open after a kill",
    "open after a power cut",
    "open cut off by a power cut",
    "open from a checkpoint",
    "open with another number of partitions",
    "room used up",
    "outcome above_captured",
    "outcome above_hold",
    "outcome account_closed",
    "outcome account_exists",
    "outcome account_frozen",
    "outcome account_not_empty",
    "outcome account_not_found",
    "outcome account_valid",
    "outcome advice_accepted",
    "outcome amount_limit",
    "outcome approved",
    "outcome approved_overdrawn",
    "outcome approved_partially",
    "outcome busy",
    "outcome count_limit",
    "outcome deadline_exceeded",
    "outcome fenced",
    "outcome further_activity",
    "outcome hold_expired",
    "outcome hold_not_open",
    "outcome idempotency_conflict",
    "outcome in_progress",
    "outcome insufficient_funds",
    "outcome invalid_amount",
    "outcome key_expired",
    "outcome malformed",
    "outcome no_space",
    "outcome not_reversible",
    "outcome nothing_left",
    "outcome original_not_found",
    "outcome payee_closed",
    "outcome payee_frozen",
    "outcome payee_not_found",
    "outcome refund_window_passed",
    "outcome reversal_accepted",
    "outcome reversed_before",
    "outcome system_error",
    "outcome wrong_ledger",
    "event answered",
    "event authorized",
    "event ended",
    "event expired",
    "event fenced",
    "event forgotten",
    "event incremented",
    "event moved",
    "event noted",
    "event opened",
    "event recorded",
    "event released",
    "event settled",
    "event tombstoned",
    "refused exchange",
    "repeated reply",
    "rot found",
    "rot repaired from the mirror",
    "segments rolled over",
    "tail ambiguous",
    "tail cut",
    "turn put off",
    "checkpoint taken",
    "checkpoint given up",
];
