//! What is remembered of decided keys, fences and tombstones: records in the order of their receipt, forgotten by time.
//!
//! IDM-1: one outcome per (account, key). A record past its window is invisible to decide whether it is still in memory or
//! not, so that eviction changes nothing; it stays visible while its hold or exchange is open.

use rkyv::{Archive, Deserialize, Serialize};

use crate::amount::{Amount, Ledger};
use crate::chunks::Fifo;
use crate::command::Verb;
use crate::ids::{AccountId, Seq, Version};
use crate::key::{Fingerprint, Key, KeyKind};
use crate::outcome::Outcome;
use crate::reply::Flags;
use crate::slab::{Index, Slab};
use crate::time::{Bucket, Time};

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
    fn hash_parts(&self) -> (u128, u128) {
        hash_parts(self.account, self.key)
    }
}

const fn hash_parts(account: AccountId, key: Key) -> (u128, u128) {
    // The kind is no part: the same bits under the other kind must be found, and are a conflict.
    (key.bits, account.0)
}

/// Approximate memory of one record: itself, its place in the index and in the queue.
pub(crate) const KEY_BYTES: u64 = core::mem::size_of::<Option<KeyRecord>>() as u64 + 16;

/// All records of a slot.
#[derive(Clone, Debug)]
pub(crate) struct KeyMemory {
    records: Slab<KeyRecord>,
    index: Index,
    /// One for each kind of key, since their windows differ. Positions in the order of receipt; those kept alive by a hold go round again. An entry whose time is not its record's
    /// is left over from a record overwritten or renewed since.
    queues: [Fifo<(u32, Time), 64>; 2],
}

impl KeyMemory {
    pub(crate) fn new(seed: u64) -> Self {
        Self { records: Slab::default(), index: Index::new(seed), queues: [Fifo::default(), Fifo::default()] }
    }
    /// Makes room for so many more.
    pub(crate) fn reserve(&mut self, more: usize) {
        self.index.reserve(more);
    }
    pub(crate) const fn len(&self) -> usize {
        self.records.len()
    }
    pub(crate) fn position(&self, account: AccountId, key: Key) -> Option<u32> {
        let (id, salt) = hash_parts(account, key);
        self.index
            .find(id, salt, |p| self.records.get(p).is_some_and(|r| r.account == account && r.key.bits == key.bits))
    }
    /// Where the key probably is, without a look at its record.
    pub(crate) fn guess(&self, account: AccountId, key: Key) -> Option<u32> {
        let (id, salt) = hash_parts(account, key);
        self.index.guess(id, salt)
    }
    pub(crate) fn get(&self, position: u32) -> Option<&KeyRecord> {
        self.records.get(position)
    }
    pub(crate) fn get_mut(&mut self, position: u32) -> Option<&mut KeyRecord> {
        self.records.get_mut(position)
    }
    /// Adds a record whose key is not there.
    pub(crate) fn insert(&mut self, record: KeyRecord) -> u32 {
        let (id, salt) = record.hash_parts();
        let (kind, received) = (record.key.kind, record.received);
        let position = self.records.insert(record);
        self.index.insert(id, salt, position);
        self.queues[kind as usize].push_back((position, received));
        position
    }
    pub(crate) fn iter(&self) -> impl Iterator<Item = &KeyRecord> {
        self.records.iter()
    }
    /// Overwrites the record of the same key: a fence or tombstone met by its command, or a record past its window.
    pub(crate) fn replace(&mut self, position: u32, record: KeyRecord) {
        self.queues[record.key.kind as usize].push_back((position, record.received));
        if let Some(old) = self.records.get_mut(position) {
            *old = record;
        }
    }
    /// Its window runs on from now.
    pub(crate) fn renew(&mut self, position: u32, received: Time) {
        if let Some(record) = self.records.get_mut(position) {
            record.received = received;
            self.queues[record.key.kind as usize].push_back((position, received));
        }
    }
    /// Whether a head was received so long ago that it may be past its window. Looks at no record: most calls end here.
    pub(crate) fn has_old_head(&self, is_old: impl Fn(KeyKind, Time) -> bool) -> bool {
        let kinds = [KeyKind::UuidV7, KeyKind::Opaque];
        kinds
            .into_iter()
            .any(|kind| self.queues[kind as usize].front().is_some_and(|(_, received)| is_old(kind, *received)))
    }
    /// How many records at the heads of the queues are past their window, up to `most` of each kind; heads that are only left
    /// over go, and those that a hold keeps go to the back.
    pub(crate) fn count_past(&mut self, most: usize, verdict: impl Fn(&KeyRecord) -> Age) -> usize {
        let mut past = 0;
        for (kind, queue) in self.queues.iter_mut().enumerate() {
            let mut at = 0;
            for _ in 0..most {
                let Some((position, received)) = queue.get(at).copied() else { break };
                let record =
                    self.records.get(position).filter(|r| r.received == received && r.key.kind as usize == kind);
                match record.map(&verdict) {
                    Some(Age::Past) => at += 1,
                    Some(Age::Kept) if at == 0 => queue.rotate(),
                    Some(Age::Young | Age::Kept) => break,
                    None => queue.remove(at),
                }
            }
            past += at;
        }
        past
    }
    /// Looks at up to `most` of the oldest records of each kind and forgets those past their window; what only an open hold
    /// keeps goes to the back.
    pub(crate) fn forget(
        &mut self,
        most: usize,
        verdict: impl Fn(&KeyRecord) -> Age,
        mut gone: impl FnMut(&KeyRecord),
    ) {
        for kind in 0..self.queues.len() {
            for _ in 0..most {
                if !self.forget_one(kind, &verdict, &mut gone) {
                    break;
                }
            }
        }
    }

    /// Whether there may be more.
    fn forget_one(
        &mut self,
        kind: usize,
        verdict: impl Fn(&KeyRecord) -> Age,
        mut gone: impl FnMut(&KeyRecord),
    ) -> bool {
        let queue = &mut self.queues[kind];
        let Some((position, received)) = queue.front().copied() else { return false };
        let record = self.records.get(position).filter(|r| r.received == received && r.key.kind as usize == kind);
        let Some(record) = record else {
            queue.pop_front();
            return true;
        };
        match verdict(record) {
            Age::Young => return false,
            Age::Kept => queue.rotate(),
            Age::Past => {
                queue.pop_front();
                let (id, salt) = record.hash_parts();
                gone(record);
                self.index.remove(id, salt, position);
                self.records.remove(position);
            }
        }
        true
    }
}

/// How a record stands to its window.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Age {
    /// Within.
    Young,
    /// Past it, but its hold or exchange is open.
    Kept,
    /// Past it.
    Past,
}
