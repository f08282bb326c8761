//! What is remembered of decided keys, fences and tombstones: records in the order of their receipt, forgotten by time.
//!
//! IDM-1: one outcome per (account, key). A record past its window is invisible to decide whether it is still in memory or
//! not, so that eviction changes nothing; it stays visible while its hold or exchange is open.

mod kept;
mod packed;
mod records;

use std::collections::BTreeSet;

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
use crate::rules::Windows;
use crate::time::{Bucket, Time};
use kept::{Bunch, Kept};
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
    since: Short,
}

impl Queued {
    const fn new(position: u32, aim: Aim, since: Time) -> Self {
        Self { position: Pair::new(position), aim: Pair::new(aim.bits()), since: Short::of_time(since) }
    }
    const fn position(self) -> u32 {
        self.position.get()
    }
    const fn aim(self) -> Aim {
        Aim::of_bits(self.aim.get())
    }
    const fn since(self) -> Time {
        Time(self.since.get())
    }
}

/// What the age of a record depends on.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Span {
    kind: KeyKind,
    /// From when its window counts.
    since: Time,
    /// The authorization made or named; zero: none.
    authorization: u128,
    /// The exchange that decides it; 0: it is decided.
    exchange: u64,
}

impl Span {
    fn new(key: Key, received: Time, authorization: u128, exchange: u64) -> Self {
        Self { kind: key.kind, since: since(key, received), authorization, exchange }
    }
    pub(crate) fn of(r: &KeyRecord) -> Self {
        Self::new(r.key, r.received, r.authorization, r.exchange)
    }
    pub(crate) fn age(&self, clock: Clock, is_hold_open: impl Fn(u128) -> bool) -> Age {
        if !clock.is_past(self.kind, self.since) {
            Age::Young
        } else if self.exchange != 0 {
            Age::InExchange
        } else if is_hold_open(self.authorization) {
            Age::Held
        } else {
            // A hold never opens again, so a key that became invisible stays so, evicted or not (J4).
            Age::Past
        }
    }
}

/// From when a key's window counts: a key may claim to be made later than it came.
fn since(key: Key, received: Time) -> Time {
    key.own_time().map_or(received, |own| own.max(received))
}

/// A time, and how long keys are remembered.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Clock {
    pub(crate) at: Time,
    pub(crate) windows: Windows,
}

impl Clock {
    fn is_past(self, kind: KeyKind, since: Time) -> bool {
        self.at >= self.windows.key_end(kind, since, None)
    }
}

const KINDS: [KeyKind; 2] = [KeyKind::UuidV7, KeyKind::Opaque];
const _: () = assert!(KINDS[0] as usize == 0 && KINDS[1] as usize == 1, "a kind's queue is found by its number");

/// All keys of a slot.
#[derive(Clone, Debug)]
pub(crate) struct KeyMemory {
    records: Records,
    index: Index,
    /// One for each kind of key, since their windows differ, by the beginning of the window.
    queues: [Fifo<Queued, 64>; 2],
    /// Past their window, while the hold of their authorization is open. They are in no queue: a hold that lives for a week would have
    /// its keys looked at again and again.
    kept: Kept,
    /// What was kept by holds that have closed: to be looked at next. It closes later than the windows of these end.
    freed: Fifo<Bunch, 64>,
    /// When the last of them closed. Nothing of a time before, as that of a partition that has made no event yet, says how old they are.
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
    /// Takes memory for so many in all, and touches it.
    pub(crate) fn set_aside(&mut self, records: usize) {
        let more = records.saturating_sub(self.records.len());
        self.records.set_aside(more);
        self.index.set_aside(self.records.len() + more);
        for queue in &mut self.queues {
            queue.set_aside(more, Queued::new(0, Aim::of_bits(0), Time(0)));
        }
        self.kept.set_aside(records);
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
        self.queue(position, aim, record.key, record.received);
        position
    }
    fn queue(&mut self, position: u32, aim: Aim, key: Key, received: Time) {
        self.queues[key.kind as usize].push_back(Queued::new(position, aim, since(key, received)));
    }
    pub(crate) fn positions(&self) -> u32 {
        self.records.positions()
    }
    /// Puts the order of the forgetting right after records were inserted in any order, and nothing else was done yet.
    pub(crate) fn order_by_age(&mut self) {
        debug_assert!(self.freed.front().is_none(), "a new slot");
        for queue in &mut self.queues {
            let mut all: Vec<_> = core::iter::from_fn(|| queue.pop_front()).collect();
            all.sort_unstable_by_key(|queued| (queued.since(), queued.position()));
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
    /// An authorization's hold has closed at `at`, the time of the event: what it kept is to be looked at next.
    pub(crate) fn free(&mut self, authorization: u128, at: Time) {
        if let Some(bunch) = self.kept.take(authorization) {
            self.freed.push_back(bunch);
            self.freed_at = self.freed_at.max(at);
        }
    }
    /// What is kept by the hold of the authorization that is aimed at lies here too: see [`Index::approach`], [`Index::guess`].
    pub(crate) fn approach_kept(&self, hold: Aim) -> usize {
        self.kept.approach(hold)
    }
    pub(crate) fn guess_kept(&self, hold: Aim) -> Option<u32> {
        self.kept.guess(hold)
    }
    /// Looks at the heads of the order, and gives something that depends on it.
    pub(crate) fn touch_heads(&self) -> u64 {
        let heads = self.queues.iter().filter_map(Fifo::front);
        heads.fold(u64::from(self.freed.front().is_some()), |seen, head| seen ^ head.since().0)
    }
    fn has_freed(&self, clock: Clock) -> bool {
        self.freed.front().is_some() && clock.at >= self.freed_at
    }
    /// Whether there is something to be looked at. Looks at no record: most calls end here.
    pub(crate) fn has_due_head(&self, clock: Clock) -> bool {
        let is_past = |kind| self.due_head(kind, 0, clock).is_some();
        KINDS.into_iter().any(is_past) || self.has_freed(clock)
    }
    /// The place behind `at` others in a kind's queue, if its window has passed.
    fn due_head(&self, kind: KeyKind, at: usize, clock: Clock) -> Option<Queued> {
        let queue = &self.queues[kind as usize];
        let queued = if at == 0 { queue.front() } else { queue.get(at) };
        queued.copied().filter(|queued| clock.is_past(kind, queued.since()))
    }
    /// The positions of those freed, the first one first.
    fn freed_positions(&self) -> impl Iterator<Item = u32> {
        (0..).map_while(|at| self.freed.get(at)).flat_map(|bunch| self.kept.positions(*bunch))
    }
    /// Up to `most` positions of each queue that are to be looked at, with their ways into the index if they are known.
    pub(crate) fn each_due_head(&self, most: usize, clock: Clock, mut each: impl FnMut(u32, Option<Aim>)) {
        for kind in KINDS {
            let due = (0..most).map_while(|at| self.due_head(kind, at, clock));
            due.for_each(|queued| each(queued.position(), Some(queued.aim())));
        }
        if self.has_freed(clock) {
            self.freed_positions().take(most).for_each(|position| each(position, None));
        }
    }
    /// A key's way into the index, by its record.
    pub(crate) fn aim_of(&self, position: u32, home: Home<'_>) -> Option<Aim> {
        self.records.owner_and_key(position, home).map(|(account, key)| self.aim(account, key))
    }
    /// The authorization that a record made or names; zero: none.
    pub(crate) fn authorization_of(&self, position: u32, home: Home<'_>) -> Option<u128> {
        self.records.span(position, home).map(|span| span.authorization)
    }
    /// What stands at a place in a kind's queue; `None`: it is left over.
    fn span_of(&self, kind: KeyKind, queued: Queued, home: Home<'_>) -> Option<Span> {
        let span = self.records.span(queued.position(), home)?;
        (span.kind == kind && span.since == queued.since()).then_some(span)
    }
    /// How many records at the heads of the queues are past their window, up to `most` of each; other heads go where they belong.
    pub(crate) fn count_past(
        &mut self,
        most: usize,
        clock: Clock,
        home: Home<'_>,
        is_hold_open: impl Fn(u128) -> bool,
    ) -> usize {
        let mut past = 0;
        for kind in KINDS {
            let mut at = 0;
            for _ in 0..most {
                let Some(queued) = self.due_head(kind, at, clock) else { break };
                let aged = self.span_of(kind, queued, home).map(|span| (span, span.age(clock, &is_hold_open)));
                if matches!(aged, Some((_, Age::Past))) {
                    at += 1;
                } else {
                    self.queues[kind as usize].remove(at);
                    self.set_apart(queued.position(), aged);
                }
            }
            past += at;
        }
        let is_past = |span: Span| span.age(clock, &is_hold_open) == Age::Past;
        let freed = self.freed_positions().take(if self.has_freed(clock) { most } else { 0 });
        past + freed.take_while(|position| self.records.span(*position, home).is_some_and(is_past)).count()
    }
    /// A record that left the order and is not forgotten: its hold keeps it, or an exchange does, whose end renews it. Otherwise the
    /// place was left over.
    fn set_apart(&mut self, position: u32, aged: Option<(Span, Age)>) {
        if let Some((span, Age::Held)) = aged {
            self.kept.keep(span.authorization, position);
        }
    }
    /// Looks at up to `most` heads of each queue and forgets those past their window. `leaves` is told of each before it goes.
    pub(crate) fn forget(
        &mut self,
        most: usize,
        clock: Clock,
        home: Home<'_>,
        is_hold_open: impl Fn(u128) -> bool,
        mut leaves: impl FnMut(&Self, u32),
    ) {
        for kind in KINDS {
            for _ in 0..most {
                let Some(queued) = self.due_head(kind, 0, clock) else { break };
                self.queues[kind as usize].pop_front();
                let aged = self.span_of(kind, queued, home).map(|span| (span, span.age(clock, &is_hold_open)));
                if matches!(aged, Some((_, Age::Past))) {
                    leaves(self, queued.position());
                    self.remove(queued.position(), Some(queued.aim()), home);
                } else {
                    self.set_apart(queued.position(), aged);
                }
            }
        }
        for _ in 0..most {
            let Some(bunch) = self.freed.front().copied().filter(|_| self.has_freed(clock)) else { break };
            let (position, rest) = self.kept.split(bunch);
            match rest {
                Some(rest) => self.freed.set_front(rest),
                None => drop(self.freed.pop_front()),
            }
            let aged = self.records.span(position, home).map(|span| (span, span.age(clock, &is_hold_open)));
            if matches!(aged, Some((_, Age::Past))) {
                leaves(self, position);
                self.remove(position, None, home);
            } else {
                self.set_apart(position, aged);
            }
        }
    }
    /// Removes a record. Where the way into the index is another's that had this position before, its own is worked out.
    fn remove(&mut self, position: u32, aim: Option<Aim>, home: Home<'_>) {
        let is_out = aim.is_some_and(|aim| self.index.remove_at(aim, position));
        if !is_out && let Some(aim) = self.aim_of(position, home) {
            let _ = self.index.remove_at(aim, position);
        }
        self.records.remove(position);
    }

    /// A record that will never leave: one in no order, though no hold or exchange keeps it. Or there are entries in the index without
    /// a record. For tests.
    pub(crate) fn stranded(&self, home: Home<'_>, is_hold_open: impl Fn(u128) -> bool) -> Option<u32> {
        let queued = |kind: KeyKind| (0..).map_while(move |at| self.queues[kind as usize].get(at).copied());
        let ordered = KINDS
            .into_iter()
            .flat_map(|kind| queued(kind).filter_map(move |q| self.span_of(kind, q, home).map(|_| q.position())));
        let waiting: BTreeSet<u32> = ordered.chain(self.freed_positions()).collect();
        let is_kept = |position, span: Span| {
            let hold = self.kept.bunch(span.authorization).filter(|_| is_hold_open(span.authorization));
            hold.is_some_and(|bunch| self.kept.positions(bunch).any(|kept| kept == position))
        };
        let is_reached = |position: u32| {
            let span = self.records.span(position, home)?;
            Some(waiting.contains(&position) || span.exchange != 0 || is_kept(position, span))
        };
        let stranded =
            self.records.lines().map(|(position, _)| position).find(|position| is_reached(*position) != Some(true));
        stranded.or_else(|| (self.index.len() != self.records.len()).then_some(u32::MAX))
    }
}

/// How a record stands to its window.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Age {
    /// Within.
    Young,
    /// Past it, but its authorization's hold is open.
    Held,
    /// Past it, but its exchange is open.
    InExchange,
    /// Past it.
    Past,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ids::SlotIndex;
    use crate::slab::Slab;
    use proptest::prelude::*;
    use std::cell::Cell;
    use std::collections::BTreeMap;

    const WINDOWS: Windows = Windows { key_uuid_v7_ms: Some(100), key_opaque_ms: Some(300), refund_ms: 0 };

    fn clock(at: u64) -> Clock {
        Clock { at: Time(at), windows: WINDOWS }
    }

    fn record(n: u128, kind: KeyKind, received: u64) -> KeyRecord {
        KeyRecord::bare(AccountId(1), Key { bits: n, kind }, Standing::Decided, Seq(1), Time(received))
    }

    /// What may leave, in the words of the life cycle.
    fn is_past(r: &KeyRecord, at: u64, is_open: impl Fn(u128) -> bool) -> bool {
        let (window, own) = match r.key.kind {
            KeyKind::UuidV7 => (100, r.key.bits >> 80),
            KeyKind::Opaque => (300, 0),
        };
        let is_over = u128::from(at) >= own.max(u128::from(r.received.0)) + window;
        is_over && r.exchange == 0 && !is_open(r.authorization)
    }

    /// Of a slot without accounts: every record is an odd one.
    fn home(accounts: &Slab<crate::account::Account>) -> Home<'_> {
        Home { slot: SlotIndex::new(0).expect("one of them"), accounts }
    }

    /// With millions of open holds older than the window, every command looked at four of their keys again, each a wait for
    /// memory: a run of 250,000 a second stood still once its first keys were past the window. Then it was once a window.
    #[test]
    fn a_key_that_its_hold_keeps_is_looked_at_once_and_again_when_the_hold_closes() {
        let accounts = Slab::default();
        let home = home(&accounts);
        let mut keys = KeyMemory::new(0, 1);
        for n in 0..10_u128 {
            let of_hold = KeyRecord { authorization: n / 2 + 1, ..record(n, KeyKind::UuidV7, 1_000) }; // two of each
            keys.insert(&of_hold, None, home);
        }
        let (looks, is_open) = (Cell::new(0), Cell::new(true));
        let forget_at = |keys: &mut KeyMemory, at: u64| {
            let look = |_| {
                looks.set(looks.get() + 1);
                is_open.get()
            };
            if keys.has_due_head(clock(at)) {
                keys.forget(1, clock(at), home, look, |_, _| {});
            }
            keys.len()
        };
        assert!((1_000..5_000).all(|at| forget_at(&mut keys, at) == 10));
        assert_eq!(looks.take(), 10, "each once, from 1100 on");
        is_open.set(false);
        keys.free(3, Time(5_000));
        keys.free(7, Time(5_000)); // keeps none
        (5_000..5_010).for_each(|at| _ = forget_at(&mut keys, at));
        assert_eq!((keys.len(), looks.take()), (8, 2), "those of the third hold");
        let is_there = |n| keys.position(AccountId(1), Key { bits: n, kind: KeyKind::UuidV7 }, home).is_some();
        assert!((0..10).all(|n| is_there(n) == (n / 2 + 1 != 3)));
    }

    /// A partition that has made no event yet forgets as of the beginning of time, at which every key is young.
    #[test]
    fn what_a_hold_freed_stays_in_the_order_until_time_has_come_to_it() {
        let accounts = Slab::default();
        let home = home(&accounts);
        let mut keys = KeyMemory::new(0, 1);
        keys.insert(&KeyRecord { authorization: 1, ..record(7, KeyKind::UuidV7, 1_000) }, None, home);
        keys.forget(4, clock(1_100), home, |_| true, |_, _| {});
        keys.free(1, Time(1_200));
        for at in [0, 1_199] {
            assert!(!keys.has_due_head(clock(at)));
            keys.forget(4, clock(at), home, |_| false, |_, _| {});
            assert_eq!((keys.len(), keys.stranded(home, |_| false)), (1, None));
        }
        keys.forget(4, clock(1_200), home, |_| false, |_, _| {});
        assert_eq!((keys.len(), keys.has_due_head(clock(9_999))), (0, false));
    }

    proptest! {
        /// Whatever commands, holds, exchanges and time do: no key is forgotten that is young or kept, each is in the order or comes
        /// back to it, and in the end all leave.
        #[test]
        fn no_key_leaves_early_and_all_leave(
            steps in prop::collection::vec((0..9_u8, 0..12_u128, 0..4_u128, any::<bool>(), 0..90_u64), 1..160),
        ) {
            let accounts = Slab::default();
            let home = home(&accounts);
            let (mut keys, mut at, mut closed) = (KeyMemory::new(0, 1), 1_000_u64, Vec::new());
            let mut model: BTreeMap<u128, KeyRecord> = BTreeMap::new();
            for (step, n, hold, is_uuid, ms) in steps {
                let kind = if is_uuid { KeyKind::UuidV7 } else { KeyKind::Opaque };
                let is_open = |id: u128| id != 0 && !closed.contains(&id);
                let position = |keys: &KeyMemory| model.get(&n).and_then(|r| keys.position(r.account, r.key, home));
                match step {
                    0 | 1 => at += ms,
                    2 | 3 if !model.contains_key(&n) => {
                        // A client's clock may be ahead.
                        let bits = if is_uuid { u128::from(at + ms / 3) << 80 | n } else { n };
                        let exchange = if hold == 3 { 5 } else { 0 };
                        let authorization = if is_open(hold) { hold } else { 0 };
                        let new = KeyRecord { authorization, exchange, ..record(bits, kind, at) };
                        keys.insert(&new, None, home);
                        model.insert(n, new);
                    }
                    4 => {
                        keys.free(hold, Time(at));
                        if hold != 0 && !closed.contains(&hold) {
                            closed.push(hold);
                        }
                    }
                    5 => {
                        // An exchange ends.
                        if let (Some(position), Some(known)) = (position(&keys), model.get_mut(&n)) {
                            keys.renew(position, Time(at), home);
                            keys.change(position, home, |record| record.exchange = 0);
                            (known.received, known.exchange) = (Time(at), 0);
                        }
                    }
                    6 => {
                        // A key past its window is used again.
                        let past = model.get(&n).filter(|r| is_past(r, at, is_open)).cloned();
                        if let (Some(position), Some(past)) = (position(&keys), past) {
                            let again = KeyRecord { received: Time(at), authorization: 0, ..past };
                            keys.replace(position, &again, None, home);
                            model.insert(n, again);
                        }
                    }
                    7 => _ = keys.count_past(4, clock(at), home, is_open),
                    _ => {
                        let mut left = Vec::new();
                        let seen_at = if ms == 0 { 0 } else { at }; // 0: no event was made yet
                        keys.forget(2, clock(seen_at), home, is_open, |keys, at| left.extend(keys.get(at, home)));
                        for gone in left {
                            prop_assert!(is_past(&gone, at, is_open), "{:?} at {}", gone, at);
                            model.retain(|_, r| r.key != gone.key);
                        }
                    }
                }
                let is_open = |id: u128| id != 0 && !closed.contains(&id);
                prop_assert_eq!(keys.len(), model.len());
                prop_assert_eq!(keys.stranded(home, is_open), None);
                for r in model.values() {
                    let found = keys.position(r.account, r.key, home).and_then(|position| keys.get(position, home));
                    prop_assert_eq!(found.as_ref(), Some(r));
                }
            }
            // The exchanges end, the holds close, time passes.
            let open: Vec<Key> = model.values().filter(|r| r.exchange != 0).map(|r| r.key).collect();
            for key in open {
                let position = keys.position(AccountId(1), key, home).expect("it is there");
                keys.renew(position, Time(at), home);
                keys.change(position, home, |record| record.exchange = 0);
            }
            (1..4).for_each(|hold| keys.free(hold, Time(at)));
            (0..60).for_each(|_| keys.forget(2, clock(at + 10_000), home, |_| false, |_, _| {}));
            prop_assert_eq!((keys.len(), keys.index.len()), (0, 0));
            prop_assert!(!keys.has_due_head(clock(at + 20_000)));
        }
    }
}
