//! What is remembered of decided keys, fences and tombstones: records in the order of their receipt, forgotten by time.
//!
//! IDM-1: one outcome per (account, key). A record past its window is invisible to decide whether it is still in memory or
//! not, so that eviction changes nothing; it stays visible while its hold or exchange is open.

mod packed;
mod records;

use rkyv::{Archive, Deserialize, Serialize};

use crate::amount::{Amount, Ledger};
use crate::chunks::Fifo;
use crate::command::Verb;
use crate::gapless::{Pair, Short};
use crate::ids::{AccountId, Seq, Version};
use crate::index::{Aim, Index};
use crate::key::{Fingerprint, Key, KeyKind};
use crate::outcome::Outcome;
use crate::reply::Flags;
use crate::time::{Bucket, Time};
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

/// A record's place in the order of the forgetting. One whose time is not its record's is left over from a record overwritten or
/// renewed since.
#[derive(Clone, Copy, Debug)]
struct Queued {
    position: Pair,
    /// How many windows it was kept beyond: it is looked at again one window later, not at every forgetting.
    rounds: Pair,
    received: Short,
}

impl Queued {
    const fn new(position: u32, received: Time) -> Self {
        Self { position: Pair::new(position), rounds: Pair::new(0), received: Short::of_time(received) }
    }
    const fn received(self) -> Time {
        Time(self.received.get())
    }
}

/// All keys of a slot.
#[derive(Clone, Debug)]
pub(crate) struct KeyMemory {
    records: Records,
    index: Index,
    /// One for each kind of key, since their windows differ, in the order of receipt; those kept alive by a hold go round again.
    queues: [Fifo<Queued, 64>; 2],
}

impl KeyMemory {
    pub(crate) fn new(seed: u64) -> Self {
        Self { records: Records::default(), index: Index::new(seed), queues: [Fifo::default(), Fifo::default()] }
    }
    /// Makes room for so many more.
    pub(crate) fn reserve(&mut self, more: usize) {
        self.index.reserve(more);
    }
    /// Approximate memory of all records.
    pub(crate) fn bytes(&self) -> u64 {
        self.records.bytes()
    }
    /// Takes memory for so many in all, and touches it.
    pub(crate) fn set_aside(&mut self, records: usize) {
        let more = records.saturating_sub(self.records.len());
        self.records.set_aside(more);
        self.index.set_aside(self.records.len() + more);
        for queue in &mut self.queues {
            queue.set_aside(more, Queued::new(0, Time(0)));
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
    /// Changes a record; its account, key and time of receipt stay.
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
        let (id, salt) = hash_parts(record.account, record.key);
        let position = self.records.insert(record, account, home);
        self.index.insert(id, salt, position);
        self.queues[record.key.kind as usize].push_back(Queued::new(position, record.received));
        position
    }
    pub(crate) fn positions(&self) -> u32 {
        self.records.positions()
    }
    /// Puts the order of the forgetting right after records came in any order.
    pub(crate) fn order_by_age(&mut self) {
        self.queues = [Fifo::default(), Fifo::default()];
        let queued = |(position, line): (u32, &Packed)| (line.received(), position, line.key().kind);
        let mut all_queued: Vec<_> = self.records.lines().map(queued).collect();
        all_queued.sort_unstable_by_key(|&(received, position, _)| (received, position));
        for (received, position, kind) in all_queued {
            self.queues[kind as usize].push_back(Queued::new(position, received));
        }
    }
    /// The records, with their positions.
    pub(crate) fn entries<'a>(&'a self, home: Home<'a>) -> impl Iterator<Item = (u32, KeyRecord)> + 'a {
        self.records.lines().filter_map(move |(position, _)| Some((position, self.records.get(position, home)?)))
    }
    /// Overwrites the record of the same key: a fence or tombstone met by its command, or a record past its window. `account` as for
    /// [`KeyMemory::insert`].
    pub(crate) fn replace(&mut self, position: u32, record: &KeyRecord, account: Option<u32>, home: Home<'_>) {
        self.queues[record.key.kind as usize].push_back(Queued::new(position, record.received));
        self.records.put(position, record, account, home);
    }
    /// Its window runs on from now.
    pub(crate) fn renew(&mut self, position: u32, received: Time, home: Home<'_>) {
        if let Some(kind) = self.records.line(position).map(|line| line.key().kind) {
            self.records.change(position, home, |record| record.received = received);
            self.queues[kind as usize].push_back(Queued::new(position, received));
        }
    }
    /// Whether a head is to be looked at, by its time of receipt and the windows it was kept beyond. Looks at no record: most calls
    /// end here.
    pub(crate) fn has_due_head(&self, is_due: impl Fn(KeyKind, Time, u32) -> bool) -> bool {
        let kinds = [KeyKind::UuidV7, KeyKind::Opaque];
        let due = |kind, head: &Queued| is_due(kind, head.received(), head.rounds.get());
        kinds.into_iter().any(|kind| self.queues[kind as usize].front().is_some_and(|head| due(kind, head)))
    }
    fn record_of(&self, kind: usize, queued: Queued, home: Home<'_>) -> Option<KeyRecord> {
        let line = self.records.line(queued.position.get())?;
        let is_its = line.received() == queued.received() && line.key().kind as usize == kind;
        self.records.get(queued.position.get(), home).filter(|_| is_its)
    }
    /// How many records at the heads of the queues are past their window, up to `most` of each kind; heads that are only left
    /// over go, and those that a hold keeps go to the back.
    pub(crate) fn count_past(&mut self, most: usize, home: Home<'_>, verdict: impl Fn(&KeyRecord) -> Age) -> usize {
        let mut past = 0;
        for kind in 0..self.queues.len() {
            let mut at = 0;
            for _ in 0..most {
                let Some(queued) = self.queues[kind].get(at).copied() else { break };
                match self.record_of(kind, queued, home).as_ref().map(&verdict) {
                    Some(Age::Past) => at += 1,
                    Some(Age::Kept { rounds }) if at == 0 => self.keep_head(kind, rounds),
                    Some(Age::Young | Age::Kept { .. }) => break,
                    None => self.queues[kind].remove(at),
                }
            }
            past += at;
        }
        past
    }
    fn keep_head(&mut self, kind: usize, rounds: u32) {
        if let Some(queued) = self.queues[kind].pop_front() {
            self.queues[kind].push_back(Queued { rounds: Pair::new(rounds), ..queued });
        }
    }
    /// Looks at up to `most` of the oldest records of each kind and forgets those past their window; what only an open hold
    /// keeps goes to the back.
    pub(crate) fn forget(
        &mut self,
        most: usize,
        home: Home<'_>,
        verdict: impl Fn(&KeyRecord) -> Age,
        mut gone: impl FnMut(u32, &KeyRecord),
    ) {
        for kind in 0..self.queues.len() {
            for _ in 0..most {
                if !self.forget_one(kind, home, &verdict, &mut gone) {
                    break;
                }
            }
        }
    }

    /// Whether there may be more.
    fn forget_one(
        &mut self,
        kind: usize,
        home: Home<'_>,
        verdict: impl Fn(&KeyRecord) -> Age,
        mut gone: impl FnMut(u32, &KeyRecord),
    ) -> bool {
        let Some(queued) = self.queues[kind].front().copied() else { return false };
        match self.record_of(kind, queued, home).as_ref().map(verdict) {
            Some(Age::Young) => return false,
            Some(Age::Kept { rounds }) => self.keep_head(kind, rounds),
            Some(Age::Past) => {
                self.queues[kind].pop_front();
                if let Some(record) = self.records.remove(queued.position.get(), home) {
                    let (id, salt) = hash_parts(record.account, record.key);
                    gone(queued.position.get(), &record);
                    self.index.remove(id, salt, queued.position.get());
                }
            }
            None => drop(self.queues[kind].pop_front()),
        }
        true
    }
}

/// How a record stands to its window.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Age {
    /// Within.
    Young,
    /// Past it, so many times over, but its hold or exchange is open.
    Kept {
        /// How many windows have passed.
        rounds: u32,
    },
    /// Past it.
    Past,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ids::SlotIndex;
    use crate::rules::Windows;
    use crate::slab::Slab;
    use std::cell::Cell;

    /// With millions of open holds older than the window, every command looked at four of their keys again, each a wait for
    /// memory: a run of 250,000 a second stood still once its first keys were past the window.
    #[test]
    fn a_key_that_its_hold_keeps_is_looked_at_once_a_window() {
        let windows = Windows { key_uuid_v7_ms: Some(100), ..Windows::default() };
        let key = Key { bits: 7, kind: KeyKind::UuidV7 };
        let mut keys = KeyMemory::new(0);
        let accounts = Slab::default();
        let home = Home { slot: SlotIndex::new(0).expect("one of them"), accounts: &accounts };
        keys.insert(&KeyRecord::bare(AccountId(1), key, Standing::Fence, Seq(1), Time(1_000)), None, home);
        let (looks, is_open) = (Cell::new(0), Cell::new(true));
        let mut forget_at = |at: Time| {
            let is_due = |kind, received, rounds| at >= windows.key_round_end(kind, received, rounds);
            if keys.has_due_head(is_due) {
                let verdict = |r: &KeyRecord| {
                    looks.set(looks.get() + 1);
                    let rounds = windows.key_rounds(r.key.kind, r.received, at);
                    if is_open.get() { Age::Kept { rounds } } else { Age::Past }
                };
                keys.forget(1, home, verdict, |_, _| {});
            }
            keys.len()
        };
        for at in 1_000..2_000 {
            assert_eq!(forget_at(Time(at)), 1);
        }
        assert_eq!(looks.get(), 9, "at 1100, 1200, .. 1900");
        is_open.set(false);
        assert_eq!((forget_at(Time(2_000)), looks.get()), (0, 10));
    }
}
