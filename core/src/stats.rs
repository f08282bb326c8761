//! Counts of a partition: a sum over its slots, kept up to date by the difference that each event makes.

use crate::slot::Slot;

/// Counts of a partition, for observation and budgets.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PartitionStats {
    /// Accounts, suspense accounts included.
    pub accounts: u64,
    /// Holds that are open.
    pub holds_open: u64,
    /// Authorizations in memory, closed ones included.
    pub authorizations: u64,
    /// Remembered keys.
    pub keys: u64,
    /// Exchanges opened and not ended.
    pub exchanges_open: u64,
    /// Commands that wait for an exchange.
    pub waiting: u64,
    /// Bytes of remembered keys.
    pub key_bytes: u64,
    /// Bytes of authorizations and captures.
    pub authorization_bytes: u64,
}

impl PartitionStats {
    pub(crate) fn of(slot: &Slot) -> Self {
        let [accounts, holds_open, authorizations, keys] = slot.counts().map(|n| n as u64);
        Self {
            accounts,
            holds_open,
            authorizations,
            keys,
            exchanges_open: slot.open_exchanges() as u64,
            waiting: 0,
            key_bytes: slot.key_bytes(),
            authorization_bytes: slot.authorization_bytes(),
        }
    }
    /// Replaces a slot's share by its new one.
    pub(crate) fn shift(&mut self, before: &Self, after: &Self) {
        let shift = |sum: &mut u64, before: u64, after: u64| *sum = *sum + after - before;
        shift(&mut self.accounts, before.accounts, after.accounts);
        shift(&mut self.holds_open, before.holds_open, after.holds_open);
        shift(&mut self.authorizations, before.authorizations, after.authorizations);
        shift(&mut self.keys, before.keys, after.keys);
        shift(&mut self.exchanges_open, before.exchanges_open, after.exchanges_open);
        shift(&mut self.key_bytes, before.key_bytes, after.key_bytes);
        shift(&mut self.authorization_bytes, before.authorization_bytes, after.authorization_bytes);
    }
}
