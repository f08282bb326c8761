//! The fold: the only code that changes money. Adds and stores what events carry; decides nothing, and is total.
//!
//! LED-1 every event balances by itself together with in-transit; HLD-1 hold + released + captured from the hold is what was
//! authorized; SEQ-1 an account's version is gapless (J3); EXC-1 an exchange ends once. An event that does not follow from
//! the state is an error: in a running engine a bug that poisons it, in a replay a corrupt journal.

mod movement;

use tp_planted::{Bug, has};

use crate::account::Account;
use crate::amount::Ledger;
use crate::authorization::{Authorization, Made};
use crate::command::Verb;
use crate::event::{Authorized, Body, End, Event, Expired, Head, Incremented, Noted, Released, Role, Settled};
use crate::gapless::Tally;
use crate::ids::{AccountId, Seq, Version};
use crate::key::Key;
use crate::keys::{KeyRecord, Standing};
use crate::reply::AuthorizationState;
use crate::slot::{FORGET_STEPS, ID_COUNTER_END, Slot};
use crate::time::Time;

/// An event does not follow from the state that it is applied to.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error("event {seq} does not follow from the state of slot {slot}: {what}")]
pub struct EvolveError {
    /// The event; above 2^63: the n-th of a running turn.
    pub seq: u64,
    /// The slot.
    pub slot: u16,
    /// What does not fit.
    pub what: &'static str,
}

/// What does not fit.
type Misfit = &'static str;
type Fold = Result<(), Misfit>;

fn add<T: Tally>(sum: &mut T, amount: u128) -> Fold {
    *sum = sum.value().checked_add(amount).and_then(T::of).ok_or("a sum leaves its range")?;
    Ok(())
}

fn take<T: Tally>(sum: &mut T, amount: u128) -> Fold {
    *sum = sum.value().checked_sub(amount).and_then(T::of).ok_or("a sum falls below zero")?;
    Ok(())
}

/// The account that a leg touches, and what the leg says of it.
#[derive(Clone, Copy)]
struct Mark {
    account: AccountId,
    version: Version,
    previous: Seq,
}

/// When and where in the journal.
#[derive(Clone, Copy)]
struct Moment {
    seq: Seq,
    time: Time,
}

impl Slot {
    /// Applies one leg of an event to this slot.
    ///
    /// # Errors
    /// When the event does not follow from the state. The slot is then no longer to be used.
    pub fn evolve(&mut self, event: &Event, seq: Seq, role: Role) -> Result<(), EvolveError> {
        let at = Moment { seq, time: event.time };
        self.fold(&event.body, at, role).map_err(|what| EvolveError { seq: seq.0, slot: self.index.get(), what })?;
        if !seq.is_provisional() {
            // A replay pays for what it adds, as a turn does.
            self.forget(event.time, FORGET_STEPS);
        }
        Ok(())
    }

    /// Applies one end of a running turn, whose event is still being put together.
    pub(crate) fn evolve_end(&mut self, end: &End, time: Time, seq: Seq) -> Result<(), EvolveError> {
        self.ended(end, Moment { seq, time }).map_err(|what| EvolveError { seq: seq.0, slot: self.index.get(), what })
    }

    fn fold(&mut self, body: &Body, at: Moment, role: Role) -> Fold {
        match (body, role) {
            (Body::Settled(e), Role::Owner) => self.settled(e, at),
            (Body::Noted(e), Role::Owner) => {
                self.touch_owner(body, &e.head, at)?;
                let target = KeyRecord { authorization: self.noted_authorization(e, at), ..record(&e.head, at) };
                self.remember_decided(target)
            }
            (Body::Tombstoned(e), Role::Owner) => {
                self.touch_owner(body, &e.head, at)?;
                let original = Key { bits: e.original, kind: e.original_kind };
                let tombstone = KeyRecord::bare(e.head.account, original, Standing::Tombstone, at.seq, at.time);
                let position = self.remember(tombstone);
                self.note_key(position, at);
                self.remember_decided(record(&e.head, at))
            }
            (Body::Fenced(e), Role::Owner) => {
                let key = Key { bits: e.key, kind: e.key_kind };
                let position = self.remember(KeyRecord::bare(e.account, key, Standing::Fence, at.seq, at.time));
                self.note_key(position, at);
                Ok(())
            }
            (Body::Authorized(e), Role::Owner) => self.authorized(body, e, at),
            (Body::Incremented(e), Role::Owner) => self.incremented(e, at),
            (Body::Released(e), Role::Owner) => self.released(e, at),
            (Body::Expired(e), Role::Owner) => self.expired(e, at),
            (Body::Moved(e), Role::Owner) => self.moved(body, e, at),
            (Body::Moved(e), Role::Counter) => self.moved_counter(e, at),
            (Body::Opened(e), Role::Owner) => self.opened(body, e, at),
            (Body::Answered(e), Role::Owner) => self.answered(e, at),
            (Body::Ended(e), Role::End(n)) => self.ended(e.ends.get(n).ok_or("an end that is not there")?, at),
            (Body::Forgotten(e), Role::Owner) => {
                self.answers.forget_below(e.opener, e.below);
                Ok(())
            }
            _ => Err("an event of this kind has no such leg"),
        }
    }

    // --- what every leg does ---

    /// J3: the version follows, the previous number is the account's; the account now stands at this event.
    fn touch(&mut self, mark: Mark, at: Moment) -> Result<u32, Misfit> {
        let position = match (self.account_position(mark.account), mark.account.suspense()) {
            (Some(position), _) => position,
            (None, Some((_, ledger)))
                if ledger.is_valid() && mark.account == AccountId::suspense_of(self.index, ledger) =>
            {
                self.insert_account(Account::suspense(mark.account, ledger))
            }
            _ => return Err("an account that does not exist"),
        };
        self.hint_account(position);
        let account = self.account_at(position).ok_or("an account that is not there")?;
        if account.version.0 + 1 != mark.version.0 {
            return Err("SEQ-1: the account's version does not follow");
        }
        if account.seq != mark.previous {
            return Err("SEQ-1: the account's previous event is another one");
        }
        account.version = mark.version;
        account.seq = at.seq;
        if at.seq.is_provisional() {
            self.unstamped_accounts.push(position);
        }
        Ok(position)
    }

    fn touch_owner(&mut self, body: &Body, head: &Head, at: Moment) -> Result<Option<u32>, Misfit> {
        if head.version == Version(0) {
            return Ok(None);
        }
        let account = body.owner_account(head);
        self.touch(Mark { account, version: head.version, previous: head.previous }, at).map(Some)
    }

    /// The next id follows this one; an image of a slot whose ids are used up could not be read.
    fn count_id(&mut self, counter: u64) -> Fold {
        if counter >= ID_COUNTER_END {
            return Err("the slot's ids are used up");
        }
        self.id_counter = counter;
        Ok(())
    }

    fn account_mut(&mut self, position: u32) -> Result<&mut Account, Misfit> {
        self.account_at(position).ok_or("an account that is not there")
    }

    fn note_key(&mut self, position: u32, at: Moment) {
        if at.seq.is_provisional() {
            self.unstamped_keys.push(position);
        }
    }

    /// IDM-1: the key must be free, forbidden, or past its window.
    fn remember_decided(&mut self, record: KeyRecord) -> Fold {
        let at = Moment { seq: record.seq, time: record.received };
        self.name_authorization(record.authorization, record.key, at);
        self.remember_named(record)
    }

    /// As `remember_decided`, where the authorization knows already that the key named it.
    fn remember_named(&mut self, mut record: KeyRecord) -> Fold {
        let position = self.key_position(record.account, record.key);
        if let Some(old) = position.and_then(|position| self.key_at(position))
            && old.standing == Standing::Decided
            && self.is_key_visible(&old, record.received)
        {
            return Err("IDM-1: the key is decided already");
        }
        let seq = record.seq;
        let position = self.remember_at(position, &mut record);
        if seq.is_provisional() {
            self.unstamped_keys.push(position);
        }
        Ok(())
    }

    /// A closed authorization's window runs on from the last command that named it.
    fn name_authorization(&mut self, id: u128, key: Key, at: Moment) {
        if let Some(position) = self.authorization_position(id)
            && let Some(authorization) = self.authorization_at(position)
        {
            authorization.named_at = authorization.named_at.max(named_at(key, at));
        }
    }

    fn transit(&mut self, ledger: Ledger, amount: i128) -> Fold {
        let at = self.in_transit.partition_point(|(l, _)| *l < ledger);
        match self.in_transit.get_mut(at) {
            Some((l, sum)) if *l == ledger => {
                *sum = sum.checked_add(amount).ok_or("in-transit leaves its range")?;
                if *sum == 0 {
                    self.in_transit.remove(at);
                }
            }
            _ => self.in_transit.insert(at, (ledger, amount)),
        }
        Ok(())
    }

    /// A refusal of a later verb still names its authorization, within that one's window.
    fn noted_authorization(&self, e: &Noted, at: Moment) -> u128 {
        let names_one = matches!(e.head.verb, Verb::Increment | Verb::Capture | Verb::Void | Verb::Refund);
        if names_one && self.visible_authorization(e.target, at.time).is_some() { e.target } else { 0 }
    }

    // --- accounts ---

    fn settled(&mut self, e: &Settled, at: Moment) -> Fold {
        match (e.head.verb, self.account_position(e.head.account)) {
            (Verb::OpenAccount, None) => {
                self.insert_account(Account::new(e.head.account, &e.settings));
            }
            (Verb::UpdateAccount | Verb::CloseAccount, Some(position)) => {
                self.account_mut(position)?.settle(&e.settings);
            }

            _ => return Err("an account opened twice or settled before it exists"),
        }
        self.touch(Mark { account: e.head.account, version: e.head.version, previous: e.head.previous }, at)?;
        self.remember_decided(record(&e.head, at))
    }

    // --- holds ---

    fn authorized(&mut self, body: &Body, e: &Authorized, at: Moment) -> Fold {
        let position = self.touch_owner(body, &e.head, at)?.ok_or("a hold on no account")?;
        let account = self.account_mut(position)?;
        add(&mut account.held, e.amount.get())?;
        account.count(e.bucket, e.amount);
        account.holds_open += 1;
        let (owner, ledger) = (account.id(), account.ledger);
        if self.has_authorization(e.authorization.0) {
            return Err("an authorization made twice");
        }
        self.count_id(e.authorization.counter())?;
        self.insert_authorization(Authorization::new(Made {
            id: e.authorization,
            payer: e.head.account,
            account: owner,
            payee: e.head.rare.as_ref().map_or(0, |rare| rare.payee),
            amount: e.amount,
            expires: e.expires,
            named_at: named_at(e.head.full_key(), at),
            bucket: e.bucket,
            tolerance_bp: e.tolerance_bp,
        }));
        self.remember_named(KeyRecord {
            amount: e.amount,
            authorization: e.authorization.0,
            expires: e.expires,
            bucket: e.bucket,
            is_counted: true,
            ledger,
            ..record(&e.head, at)
        })
    }

    fn open_authorization(&mut self, id: u128) -> Result<&mut Authorization, Misfit> {
        let position = self.authorization_position(id).ok_or("an authorization that is not in memory")?;
        let authorization = self.authorization_at(position).ok_or("an authorization that is not there")?;
        if authorization.is_open() { Ok(authorization) } else { Err("HLD-1: the hold is closed already") }
    }

    fn incremented(&mut self, e: &Incremented, at: Moment) -> Fold {
        let authorization = self.open_authorization(e.authorization.0)?;
        add(&mut authorization.authorized, e.amount.get())?; // stays an amount
        add(&mut authorization.hold, e.amount.get())?;
        authorization.expires = e.expires;
        let owner = authorization.account();
        let position = self.touch(Mark { account: owner, version: e.head.version, previous: e.head.previous }, at)?;
        let account = self.account_mut(position)?;
        add(&mut account.held, e.amount.get())?;
        let is_counted = !e.amount.is_zero();
        if is_counted {
            account.count(e.bucket, e.amount);
        }
        let ledger = account.ledger;
        self.remember_decided(KeyRecord {
            amount: e.amount,
            authorization: e.authorization.0,
            expires: e.expires,
            bucket: e.bucket,
            is_counted,
            ledger,
            ..record(&e.head, at)
        })
    }

    /// Closes a hold from which nothing is left to release.
    fn close_hold(&mut self, id: u128, state: AuthorizationState, time: Time) -> Fold {
        let position = self.authorization_position(id).ok_or("an authorization that is not in memory")?;
        let authorization = self.authorization_at(position).ok_or("an authorization that is not there")?;
        authorization.state = state;
        authorization.named_at = authorization.named_at.max(time);
        let owner = authorization.account();
        self.note_closed(time, position);
        let account = self.account_position(owner).ok_or("a hold on no account")?;
        let account = self.account_mut(account)?;
        account.holds_open = account.holds_open.checked_sub(1).ok_or("HLD-1: more holds closed than opened")?;
        Ok(())
    }

    fn release(&mut self, id: u128, amount: u128, account: u32) -> Fold {
        let authorization = self.open_authorization(id)?;
        take(&mut authorization.hold, amount)?; // what no longer stands is released
        take(&mut self.account_mut(account)?.held, amount)
    }

    fn released(&mut self, e: &Released, at: Moment) -> Fold {
        let authorization = self.open_authorization(e.authorization.0)?;
        let (owner, expires) = (authorization.account(), authorization.expires);
        let position = self.touch(Mark { account: owner, version: e.head.version, previous: e.head.previous }, at)?;
        self.release(e.authorization.0, e.amount.get(), position)?;
        if e.state != AuthorizationState::Open {
            self.close_hold(e.authorization.0, e.state, at.time)?;
        }
        if e.head.verb == Verb::Reverse {
            self.mark_reversed(e.head.account, Key { bits: e.original, kind: e.original_kind })?;
            self.account_mut(position)?.uncount(e.bucket, e.amount, u32::from(e.uncounted));
        }
        self.remember_decided(KeyRecord {
            amount: e.amount,
            authorization: e.authorization.0,
            expires,
            ..record(&e.head, at)
        })
    }

    fn expired(&mut self, e: &Expired, at: Moment) -> Fold {
        let position = self.touch(Mark { account: e.account, version: e.version, previous: e.previous }, at)?;
        let authorization = self.open_authorization(e.authorization.0)?;
        if authorization.hold.amount() != e.amount {
            return Err("HLD-1: the expired amount is not what was held");
        }
        self.release(e.authorization.0, e.amount.get(), position)?;
        self.close_hold(e.authorization.0, AuthorizationState::Expired, at.time)
    }

    /// A reversal marks its original, so that a second one has no effect.
    fn mark_reversed(&mut self, account: AccountId, original: Key) -> Fold {
        let position = self.key_position(account, original).ok_or("the original's key is not in memory")?;
        let mut was_reversed = false;
        self.change_key(position, |record| {
            was_reversed = core::mem::replace(&mut record.is_reversed, !has(Bug::ReversedTwice));
        });
        if was_reversed { Err("the original is reversed already") } else { Ok(()) }
    }
}

/// From when a key counts as received: it may claim to be made later than it came.
fn named_at(key: Key, at: Moment) -> Time {
    key.own_time().map_or(at.time, |own| own.max(at.time))
}

/// What is remembered of a decided key whatever was decided.
fn record(head: &Head, at: Moment) -> KeyRecord {
    KeyRecord {
        fingerprint: head.fingerprint,
        version: head.version,
        verb: head.verb,
        outcome: head.outcome,
        flags: head.flags,
        ..KeyRecord::bare(head.account, head.full_key(), Standing::Decided, at.seq, at.time)
    }
}
