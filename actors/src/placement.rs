//! Where accounts live: account to slot by the directory's hash, slot to partition by its number.
//!
//! Owns that rule, for those who lay work out by partition: the engine, load generators.

use tp_core::ids::{AccountId, SlotIndex, SlotSeed};

/// How an engine places accounts in its partitions. The slot of an account is the directory's for good; partitions are as many as
/// the engine was opened with.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Placement {
    seed: SlotSeed,
    partitions: usize,
}

impl Placement {
    pub(crate) const fn new(seed: SlotSeed, partitions: usize) -> Self {
        Self { seed, partitions }
    }

    /// How many partitions there are, 1 to 256.
    pub const fn partitions(&self) -> usize {
        self.partitions
    }

    /// The partition that decides for an account, from 0 on. Two accounts in one partition need one event to pay each other, in two
    /// they need an exchange.
    pub fn partition_of(&self, account: AccountId) -> usize {
        self.partition_of_slot(self.seed.slot_of(account))
    }

    pub(crate) const fn partition_of_slot(&self, slot: SlotIndex) -> usize {
        slot.index() % self.partitions
    }
}
