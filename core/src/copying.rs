//! A copy of a slot taken in parts, between turns, that shows the slot as it was when the copy began.
//!
//! A slot may hold millions of records (half of all the world's commands may name one account), and its partition must not stand
//! still while they are copied. So each part takes a bounded number, and whatever is about to change before its turn came is
//! saved first: save before write. Owns how far a copy has come; refuses to know where the parts go.
//!
//! ```text
//! positions   0 ........ next ............... end ........
//!             copied     | saved when changed | made since: not part of the copy
//! ```

use std::collections::BTreeSet;

use rkyv::util::AlignedVec;
use tp_planted::{Bug, has};

use crate::account::Account;
use crate::authorization::Authorization;
use crate::image::{SlotImage, account_image};
use crate::keys::KeyRecord;
use crate::part::{self, PartHead, PartRecords};
use crate::slot::Slot;

/// How far a copy has come over the positions of one kind of record.
#[derive(Clone, Debug)]
struct Reach {
    next: u32,
    end: u32,
    /// Not to be copied any more: changed since, or not there when the copy began.
    settled: BTreeSet<u32>,
}

impl Reach {
    const fn to(end: u32) -> Self {
        Self { next: 0, end, settled: BTreeSet::new() }
    }
    /// Whether what is at `position` belongs into the copy and is not in it: it is to be saved now. Says so once.
    fn claim(&mut self, position: u32) -> bool {
        (self.next..self.end).contains(&position) && self.settled.insert(position)
    }
    /// The next position to copy.
    fn advance(&mut self) -> Option<u32> {
        while self.next < self.end {
            let at = self.next;
            self.next += 1;
            if !self.settled.remove(&at) {
                return Some(at);
            }
        }
        None
    }
}

/// A copy under way.
#[derive(Clone, Debug)]
pub(crate) struct Copying {
    accounts: Reach,
    authorizations: Reach,
    keys: Reach,
    /// For the first part: what is no record.
    rest: Option<SlotImage>,
    /// For the next part: what changed since the last one, as it was.
    saved: PartRecords,
    parts: u32,
}

impl Copying {
    pub(crate) fn save_account(&mut self, position: u32, account: Option<&Account>) {
        if self.accounts.claim(position) {
            self.saved.accounts.extend(account.map(account_image));
        }
    }
    pub(crate) fn save_authorization(&mut self, position: u32, slot: &Slot, authorization: Option<&Authorization>) {
        if self.authorizations.claim(position) {
            self.saved.authorizations.extend(authorization.map(|a| slot.authorization_image(a)));
        }
    }
    /// What was made at this position is not part of the copy, though the position may be older.
    pub(crate) fn skip_authorization(&mut self, position: u32) {
        self.authorizations.claim(position);
    }
    /// Likewise.
    pub(crate) fn skip_key(&mut self, position: u32) {
        self.keys.claim(position);
    }
    pub(crate) fn save_key(&mut self, position: u32, record: impl FnOnce() -> Option<KeyRecord>) {
        if self.keys.claim(position) {
            self.saved.keys.extend(record());
        }
    }
}

/// The bytes of a part.
pub type PartBytes = AlignedVec;

/// A part of a slot's copy.
#[derive(Debug, Default)]
pub struct SlotPart {
    head: PartHead,
    rest: Option<SlotImage>,
    records: PartRecords,
}

impl SlotPart {
    /// Whether no other part follows.
    pub const fn is_last(&self) -> bool {
        self.head.is_last
    }

    /// The part as bytes, for [`crate::restore::SlotBuilder`]; `bytes` is written over.
    pub fn encode(&self, bytes: &mut PartBytes) {
        part::write(self.head, self.rest.as_ref(), &self.records, bytes);
    }
}

impl Slot {
    /// Begins a copy that shows the slot as it is now; one under way is given up.
    pub fn begin_copy(&mut self) {
        let [accounts, authorizations, keys] = self.positions();
        let (rest, saved) = (Some(self.image_without_records()), PartRecords::default());
        let (accounts, authorizations, keys) = (Reach::to(accounts), Reach::to(authorizations), Reach::to(keys));
        self.copying = Some(Box::new(Copying { accounts, authorizations, keys, rest, saved, parts: 0 }));
    }

    /// Gives up a copy under way.
    pub fn end_copy(&mut self) {
        self.copying = None;
    }

    /// Takes the next part into the memory of an old one: what was saved, and up to `most` records more. `None`: no copy is under
    /// way.
    pub fn copy_part(&mut self, most: usize, mut part: SlotPart) -> Option<SlotPart> {
        let mut copying = self.copying.take()?;
        part.records.clear();
        core::mem::swap(&mut part.records, &mut copying.saved);
        let Copying { accounts, authorizations, keys, rest, parts, .. } = &mut *copying;
        let number = *parts;
        part.rest = rest.take();
        *parts += 1;
        let mut left = most;
        while let Some(position) = take(&mut left, accounts) {
            part.records.accounts.extend(self.account_ref(position).map(account_image));
        }
        while let Some(position) = take(&mut left, authorizations) {
            let image = self.authorization_ref(position).map(|a| self.authorization_image(a));
            part.records.authorizations.extend(image);
        }
        if has(Bug::KeyLostAtCheckpoint) {
            keys.advance();
        }
        while let Some(position) = take(&mut left, keys) {
            part.records.keys.extend(self.key_at(position));
        }
        part.head = PartHead { number, slot: self.index().get(), is_last: left > 0 };
        if !part.is_last() {
            self.copying = Some(copying);
        }
        Some(part)
    }
}

fn take(left: &mut usize, reach: &mut Reach) -> Option<u32> {
    if *left == 0 {
        return None;
    }
    let position = reach.advance()?;
    *left -= 1;
    Some(position)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::amount::Amount;
    use crate::authorization::{Capture, Made, NOWHERE};
    use crate::gapless::Single;
    use crate::ids::{AccountId, AuthorizationId, SlotIndex, SlotSeed, TransferId};
    use crate::reply::AuthorizationState;
    use crate::restore::SlotBuilder;
    use crate::rules::Windows;
    use crate::time::{Bucket, Time};

    const INDEX: SlotIndex = SlotIndex::new(0).expect("below 1,024");
    const SEED: SlotSeed = SlotSeed([3; 16]);

    fn closed(n: u64) -> Authorization {
        let mut authorization = Authorization::new(Made {
            id: AuthorizationId::new(Time(n), INDEX, n),
            payer: AccountId(1),
            account: AccountId(1),
            payee: 0,
            amount: Amount::from(10),
            expires: Time(n + 1),
            named_at: Time(n),
            bucket: Bucket::default(),
            tolerance_bp: 0,
        });
        (authorization.hold, authorization.state) = (Single::default(), AuthorizationState::Captured);
        (authorization.course_mut().captured, authorization.course_mut().from_hold) = (10, 10);
        authorization
    }

    fn with_closed(slot: &mut Slot, n: u64) {
        let position = slot.insert_authorization(closed(n));
        slot.insert_capture(Capture {
            id: TransferId::new(Time(n), INDEX, n + 1_000),
            payee: AccountId(2),
            amount: 10,
            from_hold: 10,
            refunded: 0,
            at: Time(n),
            authorization: position,
            next: NOWHERE,
            is_final: true,
            is_on_suspense: false,
        });
    }

    /// Authorizations leave memory while a copy is under way, and others take their positions.
    #[test]
    fn what_is_forgotten_and_made_meanwhile_does_not_show_in_a_copy() {
        let windows = Windows { key_uuid_v7_ms: Some(100), key_opaque_ms: Some(100), refund_ms: 100 };
        let mut slot = Slot::new(INDEX, SEED, windows);
        (1..=24).for_each(|n| with_closed(&mut slot, n));
        slot.forget(Time(105), 4); // their positions are free from the start
        let expected = slot.image(Time(50));
        slot.begin_copy();
        let mut builder = SlotBuilder::new(INDEX, SEED, windows);
        let (mut parts, mut bytes) = (0, PartBytes::new());
        while let Some(part) = slot.copy_part(3, SlotPart::default()) {
            part.encode(&mut bytes);
            builder.add(&bytes).expect("the next part");
            // The windows of eight more pass, ahead of the copy; others take their positions.
            slot.forget(Time(105 + 8 * (parts + 1)), 8);
            (0..10).for_each(|more| with_closed(&mut slot, 100 + 10 * parts + more));
            parts += 1;
        }
        assert!(parts > 3 && slot.find_authorization(closed(1).id().0).is_none(), "some left meanwhile: {parts}");
        assert!(builder.finish().expect("a slot").image(Time(50)) == expected);
    }

    /// Found a limit that held for captures and not for advices, which may make any number.
    #[test]
    fn an_authorization_with_any_number_of_captures_is_in_a_copy_with_all_of_them() {
        let windows = Windows { key_uuid_v7_ms: Some(100), key_opaque_ms: Some(100), refund_ms: 100 };
        for captures in [0, 1, 150, 151, 1_000] {
            let mut slot = Slot::new(INDEX, SEED, windows);
            let mut authorization = closed(1);
            let course = authorization.course_mut();
            (course.captured, course.from_hold) = (u128::from(captures), u128::from(captures.min(10)));
            let position = slot.insert_authorization(authorization);
            for n in 0..captures {
                slot.insert_capture(Capture {
                    id: TransferId::new(Time(1), INDEX, n + 1_000),
                    payee: AccountId(2),
                    amount: 1,
                    from_hold: u128::from(n < 10),
                    refunded: 0,
                    at: Time(1),
                    authorization: position,
                    next: NOWHERE,
                    is_final: n == 3,
                    is_on_suspense: n == 5,
                });
            }
            let expected = slot.image(Time(50));
            slot.begin_copy();
            let part = slot.copy_part(10, SlotPart::default()).expect("one part");
            let (mut builder, mut bytes) = (SlotBuilder::new(INDEX, SEED, windows), PartBytes::new());
            part.encode(&mut bytes);
            builder.add(&bytes).expect("a part");
            assert!(builder.finish().is_ok_and(|slot| slot.image(Time(50)) == expected), "{captures} captures");
        }
    }

    #[test]
    fn parts_are_taken_in_order_once_and_all() {
        let windows = Windows::default();
        let mut slot = Slot::new(INDEX, SEED, windows);
        (1..=9).for_each(|n| with_closed(&mut slot, n));
        slot.begin_copy();
        let mut parts = Vec::new();
        while let Some(part) = slot.copy_part(4, SlotPart::default()) {
            let mut bytes = PartBytes::new();
            part.encode(&mut bytes);
            parts.push(bytes.to_vec());
        }
        let built = |order: &[usize]| {
            let mut builder = SlotBuilder::new(INDEX, SEED, windows);
            order.iter().try_for_each(|part| builder.add(&parts[*part])).and_then(|()| builder.finish())
        };
        assert_eq!(parts.len(), 3);
        assert!(built(&[0, 1, 2]).is_ok());
        for order in [&[][..], &[0], &[0, 1], &[1, 0, 2], &[0, 2], &[0, 1, 1], &[0, 1, 2, 2], &[0, 0, 1, 2]] {
            assert!(built(order).is_err(), "{order:?}");
        }
        let other = SlotIndex::new(1).expect("below 1,024");
        assert!(SlotBuilder::new(other, SEED, windows).add(&parts[0]).is_err(), "another slot's");
        let fields =
            [("version", 0, 0, 1), ("number", 1, 4, 1), ("slot", 1, 8, 1), ("last", 1, 10, 2), ("last", 1, 11, 1)];
        // The head of a first part names the slot of its counters.
        let mut of_other = parts[0].clone();
        of_other[8] += 1;
        let next = SlotIndex::new(INDEX.get() + 1).expect("below 1,024");
        assert!(SlotBuilder::new(next, SEED, windows).add(&of_other).is_err(), "counters of another slot");
        let lengths = [("length of the rest", 0, 12, 16), ("a rest in a later part", 1, 12, 1)];
        for (what, part, at, change) in fields.into_iter().chain(lengths) {
            let mut changed = parts.clone();
            changed[part][at] += change;
            let mut builder = SlotBuilder::new(INDEX, SEED, windows);
            let added = changed.iter().try_for_each(|part| builder.add(part)).and_then(|()| builder.finish());
            assert!(added.is_err(), "{what} of part {part}");
        }
    }
}
