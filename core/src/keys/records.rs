//! The records of a slot's keys at rest, by position.
//!
//! Owns where the parts of a record lie: its line, what a movement has beside it, and a whole record whose fields the line does not hold.
//! Refuses to know keys and ages. A line leans on the slot that it is in: it says where its account is, not who it is.

use crate::account::Account;
use crate::ids::{AccountId, Seq, SlotIndex};
use crate::key::Key;
use crate::slab::Slab;

use super::packed::{Form, Moved, Owner, Packed};
use super::{KeyRecord, Span};

/// What the records of a slot lean on. Accounts stay where they are, for good.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Home<'a> {
    pub(crate) slot: SlotIndex,
    pub(crate) accounts: &'a Slab<Account>,
}

impl Home<'_> {
    fn owner(self, position: u32) -> Option<Owner> {
        let account = self.accounts.get(position)?;
        Some(Owner { position, id: account.id(), ledger: account.ledger, slot: self.slot })
    }
}

/// Approximate memory of a record: its line, its place in an index and in a queue.
pub(crate) const KEY_BYTES: u64 = size_of::<Option<Packed>>() as u64 + 24;
const MOVED_BYTES: u64 = size_of::<Option<Moved>>() as u64;
const ODD_BYTES: u64 = size_of::<Option<KeyRecord>>() as u64;

/// All records of a slot.
#[derive(Clone, Debug, Default)]
pub(super) struct Records {
    lines: Slab<Packed>,
    /// What movements have, and commands that name an authorization.
    moved: Slab<Moved>,
    /// Those that do not fit into a line: of an account that did not exist, of an amount from 2^48 up, and the like.
    odd: Slab<KeyRecord>,
}

impl Records {
    pub(super) const fn len(&self) -> usize {
        self.lines.len()
    }
    pub(super) fn positions(&self) -> u32 {
        self.lines.positions()
    }
    /// Approximate memory of all of them.
    pub(super) fn bytes(&self) -> u64 {
        let beside = self.moved.len() as u64 * MOVED_BYTES + self.odd.len() as u64 * ODD_BYTES;
        self.len() as u64 * KEY_BYTES + beside
    }
    /// Takes memory for so many more, and touches it.
    pub(super) fn set_aside(&mut self, more: usize) {
        self.lines.set_aside(more);
    }
    pub(super) fn line(&self, position: u32) -> Option<&Packed> {
        self.lines.get(position)
    }
    /// The lines, with their positions.
    pub(super) fn lines(&self) -> impl Iterator<Item = (u32, &Packed)> {
        self.lines.entries()
    }
    /// Looks at the place behind which the next record is added.
    pub(super) fn look_at_end(&self) -> bool {
        self.lines.look_at_end()
    }
    pub(super) fn get(&self, position: u32, home: Home<'_>) -> Option<KeyRecord> {
        let line = self.lines.get(position)?;
        let moved = match line.form() {
            Form::Odd(place) => return self.odd.get(place).cloned(),
            Form::Moved(place) => Some(self.moved.get(place)?),
            Form::Bare | Form::Made(_) => None,
        };
        Some(line.record(&home.owner(line.account())?, moved))
    }
    /// Whether the record is of this account.
    pub(super) fn is_of(&self, line: &Packed, account: AccountId, home: Home<'_>) -> bool {
        match line.form() {
            Form::Odd(place) => self.odd.get(place).is_some_and(|r| r.account == account),
            _ => home.accounts.get(line.account()).is_some_and(|a| a.id() == account),
        }
    }
    /// Whether the record is of an account that did not exist when it came.
    pub(super) fn is_orphan(&self, position: u32) -> bool {
        match self.lines.get(position).map(Packed::form) {
            Some(Form::Odd(place)) => self.odd.get(place).is_some_and(|r| r.is_orphan),
            _ => false,
        }
    }
    /// Adds a record; `account`: where its account is, if it is there.
    pub(super) fn insert(&mut self, record: &KeyRecord, account: Option<u32>, home: Home<'_>) -> u32 {
        let line = self.parts(record, account, home);
        self.lines.insert(line)
    }
    /// Overwrites a record.
    pub(super) fn put(&mut self, position: u32, record: &KeyRecord, account: Option<u32>, home: Home<'_>) {
        let Some(form) = self.lines.get(position).map(Packed::form) else { return };
        self.drop_beside(form);
        let line = self.parts(record, account, home);
        if let Some(place) = self.lines.get_mut(position) {
            *place = line;
        }
    }
    /// Changes a record, whose account and key stay.
    pub(super) fn change(&mut self, position: u32, home: Home<'_>, change: impl FnOnce(&mut KeyRecord)) {
        let Some(mut record) = self.get(position, home) else { return };
        change(&mut record);
        let in_line = self.lines.get(position).filter(|line| !matches!(line.form(), Form::Odd(_)));
        self.put(position, &record, in_line.map(Packed::account), home);
    }
    pub(super) fn remove(&mut self, position: u32) {
        if let Some(line) = self.lines.remove(position) {
            self.drop_beside(line.form());
        }
    }
    /// Whose record it is, and of which key.
    pub(super) fn owner_and_key(&self, position: u32, home: Home<'_>) -> Option<(AccountId, Key)> {
        let line = self.lines.get(position)?;
        let account = match line.form() {
            Form::Odd(place) => self.odd.get(place)?.account,
            _ => home.accounts.get(line.account())?.id(),
        };
        Some((account, line.key()))
    }
    /// What the record's age depends on. Looks at no account.
    pub(super) fn span(&self, position: u32, home: Home<'_>) -> Option<Span> {
        let line = self.lines.get(position)?;
        let (authorization, exchange) = match line.form() {
            Form::Bare => (0, 0),
            Form::Made(counter) => (line.made(counter, home.slot), 0),
            Form::Moved(place) => self.moved.get(place).map(|moved| (moved.authorization.get(), moved.exchange))?,
            Form::Odd(place) => self.odd.get(place).map(|record| (record.authorization, record.exchange))?,
        };
        Some(Span::new(line.key(), line.received(), authorization, exchange))
    }
    /// Turns a provisional number into a real one.
    pub(super) fn stamp(&mut self, position: u32, first: Seq, home: Home<'_>) {
        let Some(line) = self.lines.get_mut(position) else { return };
        if let Form::Odd(place) = line.form() {
            if let Some(record) = self.odd.get_mut(place) {
                record.seq = record.seq.stamped(first);
            }
        } else if !line.stamp(first) {
            self.change(position, home, |record| record.seq = record.seq.stamped(first));
        }
    }
    /// The line of a record, once what it does not hold is in its place.
    fn parts(&mut self, record: &KeyRecord, account: Option<u32>, home: Home<'_>) -> Packed {
        let owner = account.and_then(|position| home.owner(position));
        let Some((mut line, moved)) = owner.and_then(|owner| Packed::new(record, &owner)) else {
            return Packed::odd(record, self.odd.insert(record.clone()));
        };
        if let Some(moved) = moved {
            line.set_place(self.moved.insert(moved));
        }
        line
    }
    fn drop_beside(&mut self, form: Form) {
        match form {
            Form::Moved(place) => drop(self.moved.remove(place)),
            Form::Odd(place) => drop(self.odd.remove(place)),
            Form::Bare | Form::Made(_) => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::packed::tests::{OWNER, record};
    use super::*;
    use crate::command::Settings;
    use proptest::prelude::*;
    use std::collections::BTreeMap;

    /// Accounts, [`OWNER`] at its position.
    fn accounts() -> Slab<Account> {
        let mut accounts = Slab::default();
        for position in 0..=OWNER.position {
            let id = if position == OWNER.position { OWNER.id } else { AccountId(1 << 100 | u128::from(position)) };
            assert_eq!(accounts.insert(Account::new(id, &Settings::new(OWNER.ledger))), position);
        }
        accounts
    }

    proptest! {
        /// Whatever form a record has and takes, it is there as it was put, and nothing beside it is left behind.
        #[test]
        fn records_are_what_was_put_and_leave_nothing_behind(
            steps in prop::collection::vec((0..5_u8, any::<prop::sample::Index>(), record(), any::<bool>()), 1..60),
        ) {
            let accounts = accounts();
            let home = Home { slot: OWNER.slot, accounts: &accounts };
            let (mut records, mut model) = (Records::default(), BTreeMap::<u32, KeyRecord>::new());
            for (step, which, record, is_known) in steps {
                let account = (is_known && record.account == OWNER.id).then_some(OWNER.position);
                let positions: Vec<u32> = model.keys().copied().collect();
                if step == 0 || positions.is_empty() {
                    model.insert(records.insert(&record, account, home), record);
                } else {
                    let position = *which.get(&positions);
                    let known = model.get_mut(&position).expect("one of them");
                    match step {
                        1 => {
                            records.put(position, &record, account, home);
                            *known = record;
                        }
                        2 => {
                            let changed = KeyRecord { account: known.account, key: known.key, ..record };
                            records.change(position, home, |record| *record = changed.clone());
                            *known = changed;
                        }
                        3 => {
                            records.put(position, &KeyRecord { seq: Seq::provisional(3), ..known.clone() }, account, home);
                            records.stamp(position, record.seq, home);
                            known.seq = Seq::provisional(3).stamped(record.seq);
                        }
                        _ => {
                            records.remove(position);
                            prop_assert_eq!(records.get(position, home), None);
                            model.remove(&position);
                        }
                    }
                }
                for (&position, record) in &model {
                    prop_assert_eq!(records.get(position, home), Some(record.clone()));
                    prop_assert_eq!(records.is_orphan(position), record.is_orphan);
                    prop_assert_eq!(records.span(position, home), Some(Span::of(record)));
                    prop_assert_eq!(records.owner_and_key(position, home), Some((record.account, record.key)));
                    let line = records.line(position).expect("it is there");
                    prop_assert!(records.is_of(line, record.account, home) && !records.is_of(line, AccountId(3), home));
                    prop_assert_eq!((line.key(), line.received()), (record.key, record.received));
                }
                let forms: Vec<Form> = records.lines().map(|(_, line)| line.form()).collect();
                let count = |is_it: fn(&Form) -> bool| forms.iter().filter(|form| is_it(form)).count();
                prop_assert_eq!(records.moved.len(), count(|form| matches!(form, Form::Moved(_))));
                prop_assert_eq!(records.odd.len(), count(|form| matches!(form, Form::Odd(_))));
                prop_assert_eq!(records.len(), model.len());
            }
        }
    }
}
