//! What a slot forgets, and when: by time alone, however much or little it is looked at.
//!
//! Keys and closed authorizations past their windows are invisible at once and leave memory later, the oldest first and a few at a time:
//! that they leave shows nowhere (J4). A key that an open hold or exchange keeps leaves the order of the forgetting, and comes back to it
//! when that ends. Owns the verdicts, that order, and the look ahead for it; refuses to know budgets and turns.

use super::{Slot, search};
use crate::authorization::Authorization;
use crate::chunks::Fifo;
use crate::ids::AccountId;
use crate::index::{Aim, Index};
use crate::invariants::Violation;
use crate::key::{Key, KeyKind};
use crate::keys::{Age, Clock, Home, KeyRecord, Span};
use crate::look::Aims;
use crate::slab::Slab;
use crate::time::Time;

/// So many of the oldest keys of each kind, of those that holds kept, and of closed authorizations are looked at for each time that
/// something was added to a slot.
pub(crate) const FORGET_STEPS: usize = 4;

/// What is looked at next, by its position.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Old {
    /// A key's record, and the key's way into its index where that is known.
    Key(u32, Option<Aim>),
    /// A closed authorization.
    Closed(u32),
}

/// Whether the authorization is there and its hold is open; zero names none.
fn is_hold_open(authorizations: &Slab<Authorization>, index: &Index, id: u128) -> bool {
    let position = if id == 0 { None } else { search(authorizations, index, id) };
    position.and_then(|position| authorizations.get(position)).is_some_and(Authorization::is_open)
}

impl Slot {
    // --- what is past its window ---

    pub(crate) fn is_authorization_visible(&self, a: &Authorization, at: Time) -> bool {
        a.is_open() || a.exchange() != 0 || at <= self.windows.authorization_end(a.named_at)
    }
    /// The authorization, unless it is past its window.
    pub(crate) fn visible_authorization(&self, id: u128, at: Time) -> Option<&Authorization> {
        self.find_authorization(id).filter(|a| self.is_authorization_visible(a, at))
    }
    const fn clock(&self, at: Time) -> Clock {
        Clock { at, windows: self.windows }
    }
    fn is_hold_open(&self, id: u128) -> bool {
        is_hold_open(&self.authorizations, &self.authorization_index, id)
    }
    pub(crate) fn is_key_visible(&self, r: &KeyRecord, at: Time) -> bool {
        Span::of(r).age(self.clock(at), |id| self.is_hold_open(id)) != Age::Past
    }
    /// The record of a key, unless it is past its window.
    pub(crate) fn visible_key(&self, account: AccountId, key: Key, at: Time) -> Option<KeyRecord> {
        let record = self.find_key(account, key)?;
        self.is_key_visible(&record, at).then_some(record)
    }
    /// Whether a key that is not remembered can only be one that never came: its window cannot have passed.
    pub(crate) fn is_surely_unknown(&self, key: Key, at: Time) -> bool {
        match key.kind {
            KeyKind::UuidV7 => at < self.windows.key_end(key.kind, Time(0), key.own_time()),
            KeyKind::Opaque => self.opaque_since.is_none_or(|since| at < self.windows.key_end(key.kind, since, None)),
        }
    }

    // --- the order ---

    /// A hold has closed: its authorization's window begins, and keys that it kept are free to leave.
    pub(crate) fn note_closed(&mut self, at: Time, position: u32) {
        self.holds_open -= 1;
        self.closed.push_back((at, position));
        if let Some(id) = self.authorizations.get(position).map(|a| a.id().0) {
            self.keys.free(id, at);
        }
    }
    /// Puts the order right after records came in any order.
    pub(crate) fn order_by_age(&mut self) {
        self.keys.order_by_age();
        let closed = self.authorizations.entries().filter(|(_, a)| !a.is_open());
        let mut closed: Vec<_> = closed.map(|(position, a)| (a.named_at, position)).collect();
        closed.sort_unstable();
        self.closed = Fifo::default();
        for entry in closed {
            self.closed.push_back(entry);
        }
    }
    /// Looks at the heads of the order, and gives something that depends on it.
    pub(crate) fn touch_order(&self) -> u64 {
        self.keys.touch_heads() ^ self.closed.front().map_or(0, |(named_at, _)| named_at.0)
    }
    /// Whether a look at the oldest keys and authorizations may find one to forget.
    pub(crate) fn may_forget(&self, at: Time) -> bool {
        let has_past = || self.closed.front().is_some_and(|(named_at, _)| self.is_closed_past(*named_at, at));
        self.keys.has_due_head(self.clock(at)) || has_past()
    }
    fn is_closed_past(&self, named_at: Time, at: Time) -> bool {
        at > self.windows.authorization_end(named_at)
    }

    // --- the forgetting ---

    /// Forgets a few of the oldest keys and authorizations that are past their windows at `at`, the time of the partition's
    /// last event or before: `most` of each kind are looked at. What is past its window is invisible either way.
    pub(crate) fn forget(&mut self, at: Time, most: usize) {
        if self.keys.has_due_head(self.clock(at)) {
            self.forget_keys(at, most);
        }
        for _ in 0..most {
            let Some((named_at, position)) = self.closed.front().copied() else { return };
            if !self.is_closed_past(named_at, at) {
                return;
            }
            self.closed.pop_front();
            let Some(a) = self.authorizations.get(position) else { continue };
            if self.is_authorization_visible(a, at) {
                // Named again since, or an exchange works on it: later.
                self.closed.push_back((a.named_at, position));
                continue;
            }
            let mut at = a.course().capture_first;
            self.save_authorization(position);
            while let Some(next) = self.captures.get(at).map(|c| c.next) {
                self.drop_capture(at);
                at = next;
            }
            if let Some(a) = self.authorizations.remove(position) {
                self.authorization_index.remove(a.id().0, 0, position);
            }
        }
    }

    fn forget_keys(&mut self, at: Time, most: usize) {
        let (clock, home) = (self.clock(at), Home { slot: self.index, accounts: &self.accounts });
        let Self { authorizations, authorization_index, copying, orphan_keys, .. } = self;
        let is_open = |id| is_hold_open(authorizations, authorization_index, id);
        self.keys.forget(most, clock, home, is_open, |keys, position| {
            *orphan_keys = orphan_keys.saturating_sub(usize::from(keys.is_orphan(position)));
            if let Some(copying) = copying {
                copying.save_key(position, || keys.get(position, home));
            }
        });
    }

    /// How many of the oldest keys, and of the oldest closed authorizations, time alone would free at `now`: up to `most` of
    /// each kind. Looks at heads only, and moves on those that something open keeps.
    pub(crate) fn count_past(&mut self, now: Time, most: usize) -> (usize, usize) {
        let (clock, home) = (self.clock(now), Home { slot: self.index, accounts: &self.accounts });
        let is_open = |id| is_hold_open(&self.authorizations, &self.authorization_index, id);
        let past_keys = self.keys.count_past(most, clock, home, is_open);
        let is_past = |(_, position): &&(Time, u32)| {
            self.authorizations.get(*position).is_none_or(|a| !self.is_authorization_visible(a, now))
        };
        let oldest = (0..most).map_while(|at| self.closed.get(at));
        (past_keys, oldest.take_while(is_past).count())
    }

    // --- the look ahead ---

    /// What [`Slot::forget`] will look at.
    pub(crate) fn each_old(&self, at: Time, most: usize, mut each: impl FnMut(Old)) {
        self.keys.each_due_head(most, self.clock(at), |position, aim| each(Old::Key(position, aim)));
        let past = |n| self.closed.get(n).filter(|(named_at, _)| self.is_closed_past(*named_at, at));
        (0..most).map_while(past).for_each(|&(_, position)| each(Old::Closed(position)));
    }
    /// Looks at it, and gives something that depends on it.
    pub(crate) fn touch_old(&self, old: Old) -> u128 {
        match old {
            Old::Key(position, _) => self.keys.touch(position),
            Old::Closed(position) => self.touch_authorization(position),
        }
    }
    /// The ways to its entry in the index and to what keeps it. Looks at it, and at what lies beside it.
    pub(crate) fn aim_at_old(&self, old: Old) -> Option<Aims> {
        let home = self.home();
        let (key, authorization) = match old {
            Old::Key(position, aim) => {
                (aim.or_else(|| self.keys.aim_of(position, home)), self.keys.authorization_of(position, home)?)
            }
            Old::Closed(position) => (None, self.authorizations.get(position)?.id().0),
        };
        Some(Aims { key, ..self.aim_at(None, authorization, None) })
    }

    /// FGT-1: every remembered key is in the order, or comes back to it when its hold or exchange ends. Looks at all of them: for tests.
    ///
    /// # Errors
    /// What was found first.
    pub fn validate_order(&self) -> Result<(), Violation> {
        let is_exchange_of = |number, key| self.exchanges.get(number).is_some_and(|exchange| exchange.key == key);
        match self.keys.what_is_stranded(self.home(), |id| self.is_hold_open(id), is_exchange_of) {
            None => Ok(()),
            Some(what) => Err(Violation { invariant: "FGT-1", slot: self.index.get(), what }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::amount::Amount;
    use crate::authorization::Made;
    use crate::ids::{AuthorizationId, Seq, SlotIndex, SlotSeed};
    use crate::keys::Standing;
    use crate::reply::AuthorizationState;
    use crate::rules::Windows;
    use crate::time::Bucket;

    /// Seven keys and six closed authorizations past their windows, one more of each within.
    fn slot_of_old() -> Slot {
        let index = SlotIndex::new(3).expect("below 1,024");
        let windows = Windows { key_uuid_v7_ms: Some(100), key_opaque_ms: Some(50), refund_ms: 100 };
        let mut slot = Slot::new(index, SlotSeed([5; 16]), windows);
        for n in 0..8_u64 {
            let kind = if n < 2 { KeyKind::Opaque } else { KeyKind::UuidV7 };
            let (key, received) = (Key { bits: u128::from(n), kind }, Time(if n == 7 { 960 } else { n }));
            slot.remember(KeyRecord::bare(AccountId(1), key, Standing::Fence, Seq(1), received));
        }
        for n in 1..8_u64 {
            let at = Time(if n == 7 { 960 } else { n });
            let mut authorization = Authorization::new(Made {
                id: AuthorizationId::new(at, index, n),
                payer: AccountId(1),
                account: AccountId(1),
                payee: 0,
                amount: Amount::from(10),
                expires: Time(2),
                named_at: at,
                bucket: Bucket::default(),
                tolerance_bp: 0,
            });
            authorization.state = AuthorizationState::Voided;
            slot.insert_authorization(authorization);
        }
        slot
    }

    /// What is looked at ahead is what goes then, in either of two steps.
    #[test]
    fn the_look_ahead_is_at_what_is_forgotten_next() {
        let mut slot = slot_of_old();
        let at = Time(1_000);
        for (keys, closed) in [(2 + 4, 4), (1, 2), (0, 0)] {
            let (mut old_keys, mut old_closed) = (Vec::new(), Vec::new());
            slot.each_old(at, FORGET_STEPS, |old| match old {
                Old::Key(position, _) => old_keys.push(position),
                Old::Closed(position) => old_closed.push(position),
            });
            assert_eq!((old_keys.len(), old_closed.len()), (keys, closed));
            assert!(old_keys.iter().all(|p| slot.key_at(*p).is_some()));
            let before = slot.counts();
            assert_eq!(slot.may_forget(at), keys + closed > 0);
            slot.forget(at, FORGET_STEPS);
            let [_, _, authorizations, left] = slot.counts();
            assert_eq!((before[3] - left, before[2] - authorizations), (keys, closed));
            assert!(old_keys.iter().all(|p| slot.key_at(*p).is_none()));
            assert!(old_closed.iter().all(|p| slot.authorization_ref(*p).is_none()));
        }
        assert_eq!(slot.counts(), [0, 0, 1, 1], "the young ones stay");
    }

    /// What a hold keeps is found with the hold, and what it freed by its own account and key.
    #[test]
    fn the_look_ahead_finds_what_a_hold_keeps_and_has_freed() {
        let mut slot = slot_of_old();
        slot.forget(Time(1_000), 100);
        let id = AuthorizationId::new(Time(960), slot.index, 7); // within its window
        let position = slot.authorization_position(id.0).expect("it is there");
        slot.authorization_at(position).expect("it is there").state = AuthorizationState::Open;
        let key = Key { bits: 99, kind: KeyKind::Opaque };
        let fence = KeyRecord::bare(AccountId(1), key, Standing::Fence, Seq(1), Time(900));
        let kept = slot.remember(KeyRecord { authorization: id.0, ..fence });
        slot.forget(Time(1_000), 4);
        let looked = slot.look(slot.aim_for_expiry(id));
        assert_eq!((looked.authorization, looked.kept), (Some(position), Some(kept)));
        slot.authorization_at(position).expect("it is there").state = AuthorizationState::Voided;
        slot.holds_open += 1; // which closing takes back
        slot.note_closed(Time(1_000), position);
        let mut seen = Vec::new();
        slot.each_old(Time(1_000), 4, |old| seen.push(old));
        let [Old::Key(found, None)] = seen[..] else { panic!("{seen:?}") };
        assert_eq!((found, slot.look(slot.aim_at_old(seen[0]).expect("a key")).key), (kept, Some(kept)));
        assert_eq!(slot.look(slot.aim_for_expiry(id)).kept, None);
    }

    #[test]
    fn the_ways_to_what_is_old_lead_to_it() {
        let slot = slot_of_old();
        let mut seen = 0;
        slot.each_old(Time(1_000), FORGET_STEPS, |old| {
            let looked = slot.look(slot.aim_at_old(old).expect("it is there"));
            match old {
                Old::Key(position, _) => assert_eq!(looked.key, Some(position)),
                Old::Closed(position) => assert_eq!(looked.authorization, Some(position)),
            }
            seen += 1;
        });
        assert_eq!(seen, 10);
    }
}
