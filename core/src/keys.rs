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
    /// Its key's way into the index: to forget it, nobody needs to know whose it is.
    aim: Pair,
    /// Of no account among the freed: they are due whenever they came.
    received: Short,
}

impl Queued {
    const fn new(position: u32, aim: Aim, received: Time) -> Self {
        Self { position: Pair::new(position), aim: Pair::new(aim.bits()), received: Short::of_time(received) }
    }
    const fn position(self) -> u32 {
        self.position.get()
    }
    const fn aim(self) -> Aim {
        Aim::of_bits(self.aim.get())
    }
    const fn received(self) -> Time {
        Time(self.received.get())
    }
}

/// What the age of a record depends on.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Span {
    pub(crate) kind: KeyKind,
    pub(crate) received: Time,
    /// The key's own.
    pub(crate) own: Option<Time>,
    /// The authorization made or named; zero: none.
    pub(crate) authorization: u128,
    /// The exchange that decides it; 0: it is decided.
    pub(crate) exchange: u64,
}

impl Span {
    pub(crate) const fn new(key: Key, received: Time, authorization: u128, exchange: u64) -> Self {
        Self { kind: key.kind, received, own: key.own_time(), authorization, exchange }
    }
    pub(crate) const fn of(r: &KeyRecord) -> Self {
        Self::new(r.key, r.received, r.authorization, r.exchange)
    }
}

/// The queue of those that nothing keeps any more, behind those of the kinds.
const FREED: usize = 2;

/// What the queues are of; `None`: of those freed.
const KINDS: [Option<KeyKind>; 3] = [Some(KeyKind::UuidV7), Some(KeyKind::Opaque), None];

/// Whether a place in a queue of this kind is to be looked at.
fn is_due_in(kind: Option<KeyKind>, queued: &Queued, is_due: impl Fn(KeyKind, Time) -> bool) -> bool {
    kind.is_none_or(|kind| is_due(kind, queued.received()))
}

/// All keys of a slot.
#[derive(Clone, Debug)]
pub(crate) struct KeyMemory {
    records: Records,
    index: Index,
    /// One for each kind of key, since their windows differ, in the order of receipt; and those freed by the end of a hold.
    queues: [Fifo<Queued, 64>; 3],
    /// Records past their window, by the authorization whose open hold keeps them. They are in no queue: a hold that lives for a
    /// week would have its keys looked at again and again.
    kept: Index,
}

impl KeyMemory {
    /// `seed` is that of the keys, `holds_seed` that of the slot's authorizations: what finds one of them finds its keys here.
    pub(crate) fn new(seed: u64, holds_seed: u64) -> Self {
        Self {
            records: Records::default(),
            index: Index::new(seed),
            queues: Default::default(),
            kept: Index::of_counted(holds_seed),
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
    /// Takes memory for so many in all, and touches it.
    pub(crate) fn set_aside(&mut self, records: usize) {
        let more = records.saturating_sub(self.records.len());
        self.records.set_aside(more);
        self.index.set_aside(self.records.len() + more);
        for queue in &mut self.queues[..FREED] {
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
        let aim = self.aim(record.account, record.key);
        let position = self.records.insert(record, account, home);
        self.index.insert_at(aim, position);
        self.queues[record.key.kind as usize].push_back(Queued::new(position, aim, record.received));
        position
    }
    pub(crate) fn positions(&self) -> u32 {
        self.records.positions()
    }
    /// Puts the order of the forgetting right after records came in any order.
    pub(crate) fn order_by_age(&mut self) {
        for queue in &mut self.queues {
            let mut all: Vec<_> = core::iter::from_fn(|| queue.pop_front()).collect();
            all.sort_unstable_by_key(|queued| (queued.received(), queued.position()));
            *queue = Fifo::default();
            for queued in all {
                queue.push_back(queued);
            }
        }
    }
    /// The records, with their positions.
    pub(crate) fn entries<'a>(&'a self, home: Home<'a>) -> impl Iterator<Item = (u32, KeyRecord)> + 'a {
        self.records.lines().filter_map(move |(position, _)| Some((position, self.records.get(position, home)?)))
    }
    /// Overwrites the record of the same key: a fence or tombstone met by its command, or a record past its window. `account` as for
    /// [`KeyMemory::insert`].
    pub(crate) fn replace(&mut self, position: u32, record: &KeyRecord, account: Option<u32>, home: Home<'_>) {
        let aim = self.aim(record.account, record.key);
        self.queues[record.key.kind as usize].push_back(Queued::new(position, aim, record.received));
        self.records.put(position, record, account, home);
    }
    /// Its window runs on from now.
    pub(crate) fn renew(&mut self, position: u32, received: Time, home: Home<'_>) {
        if let Some((account, key)) = self.records.owner_and_key(position, home) {
            self.records.change(position, home, |record| record.received = received);
            let aim = self.aim(account, key);
            self.queues[key.kind as usize].push_back(Queued::new(position, aim, received));
        }
    }
    /// An authorization's hold has closed: what it kept is to be looked at next.
    pub(crate) fn free(&mut self, authorization: u128, home: Home<'_>) {
        while let Some(position) = self.kept.take(authorization, 0) {
            if let Some((account, key)) = self.records.owner_and_key(position, home) {
                let aim = self.aim(account, key);
                self.queues[FREED].push_back(Queued::new(position, aim, Time(0)));
            }
        }
    }
    /// What is kept by the hold of the authorization that is aimed at lies here too: see [`Index::approach`], [`Index::guess`].
    pub(crate) fn approach_kept(&self, hold: Aim) -> usize {
        self.kept.approach(hold)
    }
    pub(crate) fn guess_kept(&self, hold: Aim) -> Option<u32> {
        self.kept.guess(hold)
    }
    /// Looks at the heads of the queues, and gives something that depends on it.
    pub(crate) fn touch_heads(&self) -> u64 {
        self.queues.iter().filter_map(Fifo::front).fold(0, |seen, head| seen ^ head.received.get())
    }
    /// Whether a head is to be looked at, by its kind and time of receipt. Looks at no record: most calls end here.
    pub(crate) fn has_due_head(&self, is_due: impl Fn(KeyKind, Time) -> bool) -> bool {
        let is_head_due =
            |(kind, queue): (_, &Fifo<_, 64>)| queue.front().is_some_and(|head| is_due_in(kind, head, &is_due));
        KINDS.into_iter().zip(&self.queues).any(is_head_due)
    }
    /// The positions of up to `most` heads of each queue that are to be looked at, and their ways into the index.
    pub(crate) fn each_due_head(
        &self,
        most: usize,
        is_due: impl Fn(KeyKind, Time) -> bool,
        mut each: impl FnMut(u32, Aim),
    ) {
        for (kind, queue) in KINDS.into_iter().zip(&self.queues) {
            let due = |at| queue.get(at).filter(|queued| is_due_in(kind, queued, &is_due));
            (0..most).map_while(due).for_each(|queued| each(queued.position(), queued.aim()));
        }
    }
    /// What the age of a record depends on.
    pub(crate) fn span(&self, position: u32, home: Home<'_>) -> Option<Span> {
        self.records.span(position, home)
    }
    /// The age of what a place in a queue is of; `None`: it is left over.
    fn age_of(&self, queue: usize, queued: Queued, home: Home<'_>, verdict: impl Fn(&Span) -> Age) -> Option<Age> {
        let span = self.records.span(queued.position(), home)?;
        let is_its = queue == FREED || span.received == queued.received() && span.kind as usize == queue;
        is_its.then(|| verdict(&span))
    }
    /// How many records at the heads of the queues are past their window, up to `most` of each queue; other heads go where they
    /// belong.
    pub(crate) fn count_past(&mut self, most: usize, home: Home<'_>, verdict: impl Fn(&Span) -> Age) -> usize {
        let mut past = 0;
        for queue in 0..self.queues.len() {
            let mut at = 0;
            for _ in 0..most {
                let Some(queued) = self.queues[queue].get(at).copied() else { break };
                match self.age_of(queue, queued, home, &verdict) {
                    Some(Age::Past) => at += 1,
                    Some(Age::Young) if queue != FREED => break,
                    age => {
                        self.queues[queue].remove(at);
                        self.set_apart(queued, age);
                    }
                }
            }
            past += at;
        }
        past
    }
    /// A record that left the order and stays: its hold keeps it; or an exchange does, whose end renews it; or it is young, and in
    /// another queue. Or there is none.
    fn set_apart(&mut self, queued: Queued, age: Option<Age>) {
        if let Some(Age::Held(authorization)) = age {
            self.kept.insert(authorization, 0, queued.position());
        }
    }
    /// Looks at up to `most` heads of each queue and forgets those past their window. `leaves` is told of each before it goes.
    pub(crate) fn forget(
        &mut self,
        most: usize,
        home: Home<'_>,
        verdict: impl Fn(&Span) -> Age,
        mut leaves: impl FnMut(&Self, u32),
    ) {
        for queue in 0..self.queues.len() {
            for _ in 0..most {
                if !self.forget_one(queue, home, &verdict, &mut leaves) {
                    break;
                }
            }
        }
    }

    /// Whether there may be more.
    fn forget_one(
        &mut self,
        queue: usize,
        home: Home<'_>,
        verdict: impl Fn(&Span) -> Age,
        mut leaves: impl FnMut(&Self, u32),
    ) -> bool {
        let Some(queued) = self.queues[queue].front().copied() else { return false };
        let age = self.age_of(queue, queued, home, verdict);
        if age == Some(Age::Young) && queue != FREED {
            return false;
        }
        self.queues[queue].pop_front();
        if age == Some(Age::Past) {
            leaves(self, queued.position());
            self.records.remove(queued.position());
            self.index.remove_at(queued.aim(), queued.position());
        } else {
            self.set_apart(queued, age);
        }
        true
    }
}

/// How a record stands to its window.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Age {
    /// Within.
    Young,
    /// Past it, but this authorization's hold is open.
    Held(u128),
    /// Past it, but its exchange is open.
    InExchange,
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
    /// memory: a run of 250,000 a second stood still once its first keys were past the window. Then once a window: more than
    /// a hundred thousand looks a second for each hundred windows of open holds.
    #[test]
    fn a_key_that_its_hold_keeps_is_looked_at_once_and_again_when_the_hold_closes() {
        let windows = Windows { key_uuid_v7_ms: Some(100), ..Windows::default() };
        let accounts = Slab::default();
        let home = Home { slot: SlotIndex::new(0).expect("one of them"), accounts: &accounts };
        let mut keys = KeyMemory::new(0, 1);
        for n in 0..10_u128 {
            let key = Key { bits: n, kind: KeyKind::UuidV7 };
            let record = KeyRecord::bare(AccountId(1), key, Standing::Decided, Seq(1), Time(1_000));
            keys.insert(&KeyRecord { authorization: n / 2 + 1, ..record }, None, home); // two of each hold
        }
        let (looks, is_open) = (Cell::new(0), Cell::new(true));
        let forget_at = |keys: &mut KeyMemory, at: u64| {
            let is_due = |kind, received| Time(at) >= windows.key_end(kind, received, None);
            if keys.has_due_head(is_due) {
                let verdict = |key: &Span| {
                    looks.set(looks.get() + 1);
                    if is_open.get() { Age::Held(key.authorization) } else { Age::Past }
                };
                keys.forget(1, home, verdict, |_, _| {});
            }
            keys.len()
        };
        assert!((1_000..5_000).all(|at| forget_at(&mut keys, at) == 10));
        assert_eq!(looks.take(), 10, "each once, from 1100 on");
        is_open.set(false);
        keys.free(3, home);
        keys.free(7, home); // keeps none
        for at in 5_000..5_010 {
            forget_at(&mut keys, at);
        }
        assert_eq!((keys.len(), looks.take()), (8, 2), "those of the third hold");
        let is_there = |n: u128| keys.position(AccountId(1), Key { bits: n, kind: KeyKind::UuidV7 }, home).is_some();
        assert!((0..10).all(|n| is_there(n) == (n / 2 + 1 != 3)));
    }

    /// An exchange keeps its key for as long as it is open, and renews it when it ends.
    #[test]
    fn a_key_of_an_exchange_comes_back_to_the_order_when_it_is_renewed() {
        let accounts = Slab::default();
        let home = Home { slot: SlotIndex::new(0).expect("one of them"), accounts: &accounts };
        let mut keys = KeyMemory::new(0, 1);
        let key = Key { bits: 7, kind: KeyKind::Opaque };
        let record = KeyRecord::bare(AccountId(1), key, Standing::Decided, Seq(1), Time(1_000));
        let position = keys.insert(&KeyRecord { exchange: 5, ..record }, None, home);
        let is_due = |_, received: Time| received < Time(3_000);
        let mut told = 0;
        keys.forget(4, home, |_| Age::InExchange, |_, _| {});
        assert!(!keys.has_due_head(is_due) && keys.len() == 1, "nobody looks at it");
        keys.renew(position, Time(2_000), home);
        keys.change(position, home, |record| record.exchange = 0);
        assert!(keys.has_due_head(is_due));
        let looked = Cell::new(0);
        let past = |_: &Span| {
            looked.set(looked.get() + 1);
            Age::Past
        };
        keys.forget(4, home, past, |keys, at| told += usize::from(keys.get(at, home).is_some()));
        assert_eq!((keys.len(), told, looked.get()), (0, 1, 1), "told of before it goes");
    }
}
