//! What a partition remembers, and for how long: memory taken ahead, forgetting by time, budgets, and the answers that peers no longer need.
//!
//! Owns the room that commands find; refuses to decide them.

use super::{ASKS_MAX, LOOK_AHEAD, Partition, PartitionStats};
use crate::command::Command;
use crate::decide::Room;
use crate::event::{Body, Forgotten};
use crate::evolve::EvolveError;
use crate::keys::KEY_BYTES;
use crate::outcome::Outcome;
use crate::slot::{AUTHORIZATION_BYTES, FORGET_STEPS, Old, Slot};
use crate::time::Time;
use crate::turn::{Admission, Message, Output, Turn};

/// So many other slots are looked at in each turn for what may be forgotten.
const FORGET_SLOTS: usize = 8;

impl Partition {
    /// Takes memory for so many authorizations and as many keys in all, evenly over its slots and within their budgets, and touches it: a
    /// page that is touched for the first time makes a turn wait.
    pub fn set_aside(&mut self, records: u64) {
        let slots = self.slots().count().max(1) as u64;
        let share = |bytes: u64, bytes_each: u64| {
            let share = records.min(bytes / bytes_each).div_ceil(slots);
            // Slots never get quite the same.
            usize::try_from(share + share / 32).unwrap_or(usize::MAX)
        };
        let budgets = self.rules.budgets;
        let keys = share(budgets.key_bytes, KEY_BYTES);
        let authorizations = share(budgets.authorization_bytes, AUTHORIZATION_BYTES);
        let there = usize::try_from(self.stats.holds_open).unwrap_or(usize::MAX);
        self.wheel.set_aside(authorizations.saturating_mul(self.slots().count()).saturating_sub(there));
        for slot in self.slots.iter_mut().flatten() {
            slot.set_aside(authorizations, keys);
        }
    }

    /// Forgetting goes by the time of the last event. Slots that a turn added to pay for it; a few others are visited in turn, so
    /// that what is past its window leaves quiet slots too.
    pub(super) fn forget(&mut self) {
        let mut old = core::mem::take(&mut self.old);
        let (from, slots) = (self.forget_from, self.slots.len());
        self.forget_from = (from + FORGET_SLOTS) % slots;
        let others = (0..FORGET_SLOTS).map(|n| (from + n) % slots);
        let heads = others.clone().filter_map(|index| self.slots[index].as_deref().map(Slot::touch_order));
        core::hint::black_box(heads.fold(0, |seen, head| seen ^ head));
        let mut visited = core::mem::take(&mut self.visited);
        let all = self.touched.iter().map(|slot| slot.index()).chain(others);
        visited.extend(all.filter(|index| self.may_forget(*index)));
        visited.sort_unstable();
        old.extend(visited.chunk_by(|a, b| a == b).map(|row| (row[0], row.len())));
        visited.clear();
        while !old.is_empty() {
            self.forget_in_each(&old);
            old.retain_mut(|(index, times)| {
                *times -= 1;
                *times > 0 && self.may_forget(*index)
            });
        }
        (self.visited, self.old) = (visited, old);
    }

    /// In each slot once.
    fn forget_in_each(&mut self, slots: &[(usize, usize)]) {
        let mut left = slots;
        while !left.is_empty() {
            let (few, others) = left.split_at(self.look_at_few(left));
            for (index, _) in few {
                self.forget_in(*index);
            }
            left = others;
        }
    }

    /// Looks ahead for the first of these slots, at least one; for how many.
    fn look_at_few(&self, slots: &[(usize, usize)]) -> usize {
        let mut old = [(0, Old::Closed(0)); LOOK_AHEAD];
        let (mut found, mut few) = (0, 0);
        while found < LOOK_AHEAD
            && let Some(&(index, _)) = slots.get(few)
        {
            let Some(slot) = self.slots[index].as_deref() else { return few + 1 };
            let before = found;
            slot.each_old(self.last_event, FORGET_STEPS, |one| {
                if let Some(place) = old.get_mut(found) {
                    *place = (index, one);
                }
                found += 1;
            });
            if found > LOOK_AHEAD && few > 0 {
                found = before; // it is the first of the next
                break;
            }
            few += 1;
        }
        self.look_at_old(&old[..found.min(LOOK_AHEAD)]);
        few
    }

    fn may_forget(&self, index: usize) -> bool {
        self.slots[index].as_deref().is_some_and(|slot| slot.may_forget(self.last_event))
    }

    fn forget_in(&mut self, index: usize) {
        let due = self.slots[index].as_deref_mut().filter(|slot| slot.may_forget(self.last_event));
        let Some(slot) = due else { return };
        let before = PartitionStats::of(slot);
        slot.forget(self.last_event, FORGET_STEPS);
        self.stats.shift(&before, &PartitionStats::of(slot));
    }

    /// Near a budget everything that may be forgotten is; at it, as many commands are admitted as time alone frees records. Their
    /// events move the time of the last event on, so that these are freed; without this a full partition, which makes no
    /// events, would stay full for ever.
    pub(super) fn make_room(&mut self, now: Time) {
        let budgets = self.rules.budgets;
        let is_tight = |used: u64, budget: u64| used >= budget - budget / 8;
        (self.key_credit, self.authorization_credit) = (0, 0);
        let is_key_tight = is_tight(self.stats.key_bytes, budgets.key_bytes);
        if !is_key_tight && !is_tight(self.stats.authorization_bytes, budgets.authorization_bytes) {
            return;
        }
        for index in 0..self.slots.len() {
            self.forget_in(index);
        }
        for slot in self.slots.iter_mut().flatten() {
            let (keys, authorizations) = slot.count_past(now, FORGET_STEPS);
            self.key_credit += keys;
            self.authorization_credit += authorizations;
        }
    }

    /// An event that was admitted at a budget uses up what let it in.
    pub(super) fn spend_credit(&mut self, before: &PartitionStats) {
        let spent = |after: u64, before: u64| usize::from(after > before);
        self.key_credit = self.key_credit.saturating_sub(spent(self.stats.keys, before.keys));
        let authorizations = spent(self.stats.authorization_bytes, before.authorization_bytes);
        self.authorization_credit = self.authorization_credit.saturating_sub(authorizations);
    }

    /// What a command finds.
    pub(super) fn room(&self, turn: Turn, command: &Command) -> Room {
        let budgets = &self.rules.budgets;
        let share = |bytes: u64| if command.draws_on_reserve() { bytes } else { bytes - bytes / 8 };
        Room {
            keys: self.key_credit > 0 || self.stats.key_bytes < share(budgets.key_bytes),
            authorizations: self.authorization_credit > 0
                || self.stats.authorization_bytes < share(budgets.authorization_bytes),
            exchanges: self.stats.exchanges_open < u64::from(budgets.exchanges),
            closed: (turn.admission == Admission::NoSpace).then_some(Outcome::NoSpace),
        }
    }

    pub(super) fn forget_answers(&mut self, turn: Turn, message: Message, out: &mut Output) -> Result<(), EvolveError> {
        match message {
            Message::Ask { from, to } => {
                if let Some(slot) = self.slot(to) {
                    out.messages.push(Message::Forget { from: to, to: from, below: slot.exchanges.oldest() });
                }
                Ok(())
            }
            Message::Forget { from, to, below } => {
                let has_some = self.slot(to).is_some_and(|slot| slot.answers.has_below(from, below));
                if has_some && turn.admission == Admission::Open {
                    self.apply(turn, Body::Forgotten(Forgotten { below, opener: from, slot: to }), out)?;
                }
                Ok(())
            }
            Message::Open(_) | Message::Answer(_) => Ok(()),
        }
    }

    /// At rest: asks openers which of the answers still remembered may be forgotten. At most [`ASKS_MAX`] messages a call.
    pub fn idle(&mut self, out: &mut Output) {
        let mut asked = 0;
        for step in 0..self.slots.len() {
            let at = (self.ask_from + step) % self.slots.len();
            let Some(slot) = self.slots[at].as_deref() else { continue };
            let mut last = None;
            for (opener, _) in slot.answers.iter() {
                if last != Some(opener) {
                    out.messages.push(Message::Ask { from: slot.index(), to: opener });
                    asked += 1;
                }
                last = Some(opener);
                if asked == ASKS_MAX {
                    self.ask_from = at + 1;
                    return;
                }
            }
        }
    }
}
