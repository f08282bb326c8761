//! What is remembered of decided keys, fences and tombstones: records in the order in which they came, forgotten by time.
//!
//! IDM-1: one outcome per (account, key). A record past its window is invisible to decide whether it is still in memory or
//! not, so that eviction changes nothing; it stays visible while its hold or exchange is open.

mod kept;
mod order;
mod packed;
mod records;

use rkyv::{Archive, Deserialize, Serialize};

use crate::amount::{Amount, Ledger};
use crate::chunks::Fifo;
use crate::command::Verb;
use crate::ids::{AccountId, Seq, Version};
use crate::index::{Aim, Index};
use crate::key::{Fingerprint, Key};
use crate::outcome::Outcome;
use crate::reply::Flags;
use crate::time::{Bucket, Time};
use kept::{Bunch, Kept};
use order::Queued;
pub(crate) use order::{Age, Clock, Span};
use packed::Packed;
use records::Records;
pub(crate) use records::{Home, KEY_BYTES};

#[cfg(test)]
pub(crate) use packed::tests::record as any_record;

/// What a record stands for.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Archive, Serialize, Deserialize)]
#[repr(u8)]
pub(crate) enum Standing {
    /// A decided command.
    Decided = 0,
    /// Nothing was decided: a lookup forbade it.
    Fence = 1,
    /// Nothing was decided: a reversal came first.
    Tombstone = 2,
}

/// What is remembered of a key: as it is worked with, and as images have it. At rest it is packed.
#[derive(Clone, PartialEq, Eq, Debug, Archive, Serialize, Deserialize)]
pub(crate) struct KeyRecord {
    pub(crate) account: AccountId,
    pub(crate) key: Key,
    /// Approved, released, moved or given back.
    pub(crate) amount: Amount,
    /// The authorization made or named; zero: none.
    pub(crate) authorization: u128,
    /// The transfer made; zero: none.
    pub(crate) transfer: u128,
    /// The payee of a transfer or unmatched advice; the capture of a refund; zero: none.
    pub(crate) other: u128,
    pub(crate) fingerprint: Fingerprint,
    pub(crate) ledger: Ledger,
    /// As first answered; zero: none.
    pub(crate) expires: Time,
    pub(crate) seq: Seq,
    pub(crate) version: Version,
    pub(crate) received: Time,
    /// The exchange that decides it; 0: it is decided.
    pub(crate) exchange: u64,
    pub(crate) bucket: Bucket,
    pub(crate) verb: Verb,
    pub(crate) outcome: Outcome,
    pub(crate) flags: Flags,
    pub(crate) standing: Standing,
    pub(crate) is_reversed: bool,
    /// Whether an amount was counted in the bucket.
    pub(crate) is_counted: bool,
    /// Whether its account did not exist when it came: such records are few in a slot.
    pub(crate) is_orphan: bool,
}

impl KeyRecord {
    /// Only the key and its standing: fences and tombstones.
    pub(crate) fn bare(account: AccountId, key: Key, standing: Standing, seq: Seq, received: Time) -> Self {
        let outcome = if standing == Standing::Fence { Outcome::Fenced } else { Outcome::ReversedBefore };
        Self {
            account,
            key,
            amount: Amount::ZERO,
            authorization: 0,
            transfer: 0,
            other: 0,
            fingerprint: Fingerprint::default(),
            ledger: Ledger::from_bits(0),
            expires: Time(0),
            seq,
            version: Version(0),
            received,
            exchange: 0,
            bucket: Bucket::default(),
            verb: Verb::Lookup,
            outcome,
            flags: Flags::NONE,
            standing,
            is_reversed: false,
            is_counted: false,
            is_orphan: false,
        }
    }
}

const fn hash_parts(account: AccountId, key: Key) -> (u128, u128) {
    // The kind is no part: the same bits under the other kind must be found, and are a conflict.
    (key.bits, account.0)
}

/// All keys of a slot.
#[derive(Clone, Debug)]
pub(crate) struct KeyMemory {
    records: Records,
    index: Index,
    /// One for each kind of key, since their windows differ, in the order of arrival.
    queues: [Fifo<Queued, 64>; 2],
    /// Past their window, while the hold of their authorization is open. They are in no queue: a hold that lives for a week would have
    /// its keys looked at again and again.
    kept: Kept,
    /// What was kept by holds that have closed: to be looked at next. Their windows had passed when these closed.
    freed: Fifo<Bunch, 64>,
    /// When the last of those holds closed. A time before it, as that of a partition that has made no event yet, does not say how old
    /// their keys are.
    freed_at: Time,
}

impl KeyMemory {
    /// `seed` is that of the keys, `holds_seed` that of the slot's authorizations.
    pub(crate) fn new(seed: u64, holds_seed: u64) -> Self {
        Self {
            records: Records::default(),
            index: Index::new(seed),
            queues: Default::default(),
            kept: Kept::new(holds_seed),
            freed: Fifo::default(),
            freed_at: Time(0),
        }
    }
    /// Makes room for so many more.
    pub(crate) fn reserve(&mut self, more: usize) {
        self.index.reserve(more);
    }
    /// Approximate memory of all records.
    pub(crate) fn bytes(&self) -> u64 {
        self.records.bytes()
    }
    /// Takes memory for so many in all, and touches it. (Not for those that holds keep: hundreds of them share a page.)
    pub(crate) fn set_aside(&mut self, records: usize) {
        let more = records.saturating_sub(self.records.len());
        self.records.set_aside(more);
        self.index.set_aside(self.records.len() + more);
        for queue in &mut self.queues {
            queue.set_aside(more, Queued::new(0, Aim::of_bits(0), Time(0)));
        }
    }
    pub(crate) const fn len(&self) -> usize {
        self.records.len()
    }
    pub(crate) fn position(&self, account: AccountId, key: Key, home: Home<'_>) -> Option<u32> {
        let (id, salt) = hash_parts(account, key);
        let is_it = |line: &Packed| line.key().bits == key.bits && self.records.is_of(line, account, home);
        self.index.find(id, salt, |p| self.records.line(p).is_some_and(is_it))
    }
    /// Looks at a record's line.
    pub(crate) fn touch(&self, position: u32) -> u128 {
        self.records.line(position).map_or(0, |line| line.key().bits)
    }
    /// Looks at the place behind which the next record is added.
    pub(crate) fn look_at_end(&self) -> bool {
        self.records.look_at_end()
    }
    /// The key's way into the index, and what lies on it: see [`Index::aim`], [`Index::approach`], [`Index::guess`].
    pub(crate) fn aim(&self, account: AccountId, key: Key) -> Aim {
        let (id, salt) = hash_parts(account, key);
        self.index.aim(id, salt)
    }
    pub(crate) fn approach(&self, aim: Aim) -> usize {
        self.index.approach(aim)
    }
    pub(crate) fn guess(&self, aim: Aim) -> Option<u32> {
        self.index.guess(aim)
    }
    pub(crate) fn get(&self, position: u32, home: Home<'_>) -> Option<KeyRecord> {
        self.records.get(position, home)
    }
    /// Changes a record; its account, key, authorization and time of receipt stay.
    pub(crate) fn change(&mut self, position: u32, home: Home<'_>, change: impl FnOnce(&mut KeyRecord)) {
        self.records.change(position, home, change);
    }
    /// Turns a provisional number into a real one.
    pub(crate) fn stamp(&mut self, position: u32, first: Seq, home: Home<'_>) {
        self.records.stamp(position, first, home);
    }
    /// Whether the record is of an account that did not exist.
    pub(crate) fn is_orphan(&self, position: u32) -> bool {
        self.records.is_orphan(position)
    }
    /// Adds a record whose key is not there; `account`: where its account is, if it is there.
    pub(crate) fn insert(&mut self, record: &KeyRecord, account: Option<u32>, home: Home<'_>) -> u32 {
        let aim = self.aim(record.account, record.key);
        let position = self.records.insert(record, account, home);
        self.index.insert_at(aim, position);
        self.queue(position, aim, record.key, record.received);
        position
    }
    pub(crate) fn positions(&self) -> u32 {
        self.records.positions()
    }
    /// The records, with their positions.
    pub(crate) fn entries<'a>(&'a self, home: Home<'a>) -> impl Iterator<Item = (u32, KeyRecord)> + 'a {
        self.records.lines().filter_map(move |(position, _)| Some((position, self.records.get(position, home)?)))
    }
    /// Overwrites the record of the same key: a fence or tombstone met by its command, or a record past its window. `account` as for
    /// [`KeyMemory::insert`].
    pub(crate) fn replace(&mut self, position: u32, record: &KeyRecord, account: Option<u32>, home: Home<'_>) {
        let aim = self.aim(record.account, record.key);
        self.queue(position, aim, record.key, record.received);
        self.records.put(position, record, account, home);
    }
    /// Its window runs on from now.
    pub(crate) fn renew(&mut self, position: u32, received: Time, home: Home<'_>) {
        if let Some((account, key)) = self.records.owner_and_key(position, home) {
            self.records.change(position, home, |record| record.received = received);
            let aim = self.aim(account, key);
            self.queue(position, aim, key, received);
        }
    }
}
