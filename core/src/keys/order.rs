//! The order in which records are looked at to be forgotten, by time alone, and how old a record is.
//!
//! ```text
//! by kind, in the order of arrival:           queue --past--> gone
//!                                               |
//!                                               +--its hold is open--> kept, by authorization --the hold closes--> freed --> gone
//!                                               +--its exchange is open--> in no order --the exchange ends--> queue
//! ```
//!
//! FGT-1: a record is in one of these, and comes to its end. A key whose own time is ahead is due by that, and those behind it wait for it, for no
//! longer than a clock may be ahead. Owns the verdict on a key's age; refuses to know budgets and slots.

use std::collections::BTreeSet;

use tp_planted::{Bug, has};

use super::{Home, KeyMemory, KeyRecord};
use crate::chunks::Fifo;
use crate::gapless::{Pair, Short};
use crate::index::Aim;
use crate::key::{Key, KeyKind};
use crate::rules::Windows;
use crate::time::Time;

/// A record's place in the order of the forgetting. One whose time is not its record's is left over from a record overwritten or
/// renewed since. A record may have two places: one whose window counts from its key's own time, still ahead, when it is overwritten or renewed.
#[derive(Clone, Copy, Debug)]
pub(super) struct Queued {
    position: Pair,
    /// Its key's way into the index: to forget it, nobody needs to know whose it is.
    aim: Pair,
    since: Short,
}

impl Queued {
    pub(super) const fn new(position: u32, aim: Aim, since: Time) -> Self {
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
    pub(super) fn new(key: Key, received: Time, authorization: u128, exchange: u64) -> Self {
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

/// What stands at a place, if anything does, and its age.
fn aged(span: Option<Span>, clock: Clock, is_hold_open: impl Fn(u128) -> bool) -> Option<(Span, Age)> {
    span.map(|span| (span, span.age(clock, is_hold_open)))
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

impl KeyMemory {
    /// From now on its age decides.
    pub(super) fn queue(&mut self, position: u32, aim: Aim, key: Key, received: Time) {
        self.queues[key.kind as usize].push_back(Queued::new(position, aim, since(key, received)));
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
    /// An authorization's hold has closed at `at`, the time of the event: what it kept is to be looked at next.
    pub(crate) fn free(&mut self, authorization: u128, at: Time) {
        if let Some(bunch) = self.kept.take(authorization).filter(|_| !has(Bug::FreedLost)) {
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
    /// How many records at the heads of the queues are past their window, up to `most` of each; other heads go where they belong. No more
    /// than as many looks of [`KeyMemory::forget`] then find: one that has two places counts once.
    pub(crate) fn count_past(
        &mut self,
        most: usize,
        clock: Clock,
        home: Home<'_>,
        is_hold_open: impl Fn(u128) -> bool,
    ) -> usize {
        let mut past: Vec<u32> = Vec::new();
        for kind in KINDS {
            let mut at = 0;
            for _ in 0..most {
                let Some(queued) = self.due_head(kind, at, clock) else { break };
                let aged = aged(self.span_of(kind, queued, home), clock, &is_hold_open);
                if matches!(aged, Some((_, Age::Past))) {
                    past.push(queued.position());
                    at += 1;
                } else {
                    self.queues[kind as usize].remove(at);
                    self.set_apart(queued.position(), aged);
                }
            }
        }
        let is_past = |span: Span| span.age(clock, &is_hold_open) == Age::Past;
        let freed = self.freed_positions().take(if self.has_freed(clock) { most } else { 0 });
        past.extend(freed.filter(|position| self.records.span(*position, home).is_some_and(is_past)));
        past.sort_unstable();
        past.dedup();
        past.len()
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
                let span = self.span_of(kind, queued, home);
                self.settle(queued.position(), Some(queued.aim()), aged(span, clock, &is_hold_open), home, &mut leaves);
            }
        }
        for _ in 0..most {
            let Some(bunch) = self.freed.front().copied().filter(|_| self.has_freed(clock)) else { break };
            let (position, rest) = self.kept.split(bunch);
            match rest {
                Some(rest) => self.freed.set_front(rest),
                None => drop(self.freed.pop_front()),
            }
            let span = self.records.span(position, home);
            self.settle(position, None, aged(span, clock, &is_hold_open), home, &mut leaves);
        }
    }
    /// A record that left the order is past its window and goes, or is set apart. Where the way into the index is another's that had
    /// this position before, its own is worked out.
    fn settle(
        &mut self,
        position: u32,
        aim: Option<Aim>,
        aged: Option<(Span, Age)>,
        home: Home<'_>,
        leaves: &mut impl FnMut(&Self, u32),
    ) {
        let Some((_, Age::Past)) = aged else { return self.set_apart(position, aged) };
        leaves(self, position);
        let is_out = aim.is_some_and(|aim| self.index.remove_at(aim, position));
        if !is_out && let Some(aim) = self.aim_of(position, home) {
            let _ = self.index.remove_at(aim, position);
        }
        self.records.remove(position);
    }

    /// FGT-1: what is wrong with the order of the forgetting, if anything is. A record is in it, or the hold or exchange that keeps it will
    /// bring it back; and the index has an entry for each. Looks at all of them: for tests.
    pub(crate) fn what_is_stranded(
        &self,
        home: Home<'_>,
        is_hold_open: impl Fn(u128) -> bool,
        is_exchange_of: impl Fn(u64, Key) -> bool,
    ) -> Option<String> {
        let freed: BTreeSet<u32> = self.freed_positions().collect();
        let mut waiting = BTreeSet::new();
        for kind in KINDS {
            let queued = (0..).map_while(|at| self.queues[kind as usize].get(at).copied());
            waiting.extend(queued.filter(|queued| self.span_of(kind, *queued, home).is_some()).map(Queued::position));
        }
        let is_reached = |position: u32, key: Key, span: Span| {
            let is_kept = || {
                let bunch = self.kept.bunch(span.authorization).filter(|_| is_hold_open(span.authorization));
                bunch.is_some_and(|bunch| self.kept.positions(bunch).any(|kept| kept == position))
            };
            let is_freed = span.authorization != 0 && freed.contains(&position);
            let is_deciding = span.exchange != 0 && is_exchange_of(span.exchange, key);
            waiting.contains(&position) || is_freed || is_deciding || is_kept()
        };
        for (position, line) in self.records.lines() {
            if !self.records.span(position, home).is_some_and(|span| is_reached(position, line.key(), span)) {
                return Some(format!("{:?} is in no order, and nothing brings it back", line.key()));
            }
        }
        let (indexed, records) = (self.index.len(), self.records.len());
        (indexed != records).then(|| format!("{indexed} keys in the index, {records} records"))
    }
}

#[cfg(test)]
mod tests {
    use super::super::Standing;
    use super::*;
    use crate::ids::{AccountId, Seq, SlotIndex};
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
            assert_eq!((keys.len(), keys.what_is_stranded(home, |_| false, |_, _| false)), (1, None));
        }
        keys.forget(4, clock(1_200), home, |_| false, |_, _| {});
        assert_eq!((keys.len(), keys.has_due_head(clock(9_999))), (0, false));
    }

    /// A partition that is full to its last key counts on it.
    #[test]
    fn what_a_hold_freed_counts_as_past_whatever_stands_before_it() {
        let accounts = Slab::default();
        let home = home(&accounts);
        let mut keys = KeyMemory::new(0, 1);
        let (closed, open) = (1, 1 << 80 | 1); // of one tag
        for (n, authorization) in [(1, closed), (2, closed), (3, closed), (4, open)] {
            keys.insert(&KeyRecord { authorization, ..record(n, KeyKind::UuidV7, 1_000) }, None, home);
        }
        keys.forget(4, clock(1_100), home, |_| true, |_, _| {});
        assert_eq!(keys.count_past(4, clock(1_200), home, |_| true), 0);
        keys.free(closed, Time(1_200));
        let is_open = |id| id == open;
        let counts = [1, 2, 4].map(|most| keys.count_past(most, clock(1_200), home, is_open));
        assert_eq!(counts, [0, 1, 3], "the newest first, and that is of the open hold");
        keys.forget(4, clock(1_200), home, is_open, |_, _| {});
        assert_eq!((keys.len(), keys.what_is_stranded(home, is_open, |_, _| false)), (1, None), "kept again");
    }

    proptest! {
        /// Whatever commands, holds, exchanges and time do: no key is forgotten that is young or kept, each is in the order or comes
        /// back to it, and in the end all leave.
        #[test]
        fn no_key_leaves_early_and_all_leave(
            steps in prop::collection::vec((0..9_u8, 0..12_u128, 0..4_usize, any::<bool>(), 0..90_u64), 1..160),
        ) {
            let accounts = Slab::default();
            let home = home(&accounts);
            let (mut keys, mut at, mut closed) = (KeyMemory::new(0, 1), 1_000_u64, Vec::new());
            let mut model: BTreeMap<u128, KeyRecord> = BTreeMap::new();
            // Two of them have one tag.
            let holds = [0, 1, 1 << 80 | 1, 3];
            for (step, n, hold, is_uuid, ms) in steps {
                let hold = holds[hold];
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
                    7 => {
                        let (past, before) = (keys.count_past(2, clock(at), home, is_open), keys.len());
                        let mut after = keys.clone();
                        after.forget(2, clock(at), home, is_open, |_, _| {});
                        prop_assert!(past <= before - after.len(), "{} counted, {} left", past, before - after.len());
                    }
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
                prop_assert_eq!(keys.what_is_stranded(home, is_open, |number, _| number == 5), None);
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
            for hold in holds {
                keys.free(hold, Time(at));
            }
            (0..60).for_each(|_| keys.forget(2, clock(at + 10_000), home, |_| false, |_, _| {}));
            prop_assert_eq!((keys.len(), keys.index.len()), (0, 0));
            prop_assert!(!keys.has_due_head(clock(at + 20_000)));
        }
    }
}
