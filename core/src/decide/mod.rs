//! The decision: pure, total, and never writing. Guards run flat, in the order of the outcomes.
//!
//! ```text
//! command --> well formed? --> in scope? --> key: repeat, conflict, fence, tombstone, window --> verb's guards --> event | reply | wait
//! ```
//! Reads the slots of one partition that the command touches, the time and the rules; gives a [`Decision`]. What comes out
//! carries results only, so that evolve needs no rule.

mod account;
mod advise;
mod capture;
mod hold;
mod lookup;
mod movement;
mod reverse;
mod scope;
mod transfer;

pub(crate) use hold::expiry;
pub(crate) use movement::{answer, end, open_message, refuse_for_system_error};

use tp_planted::{Bug, has};

use crate::account::Account;
use crate::amount::{Amount, Ledger};
use crate::authorization::Authorization;
use crate::command::Command;
use crate::event::{Body, Head, Noted, Rare};
use crate::ids::{AccountId, AuthorizationId, Seq, SlotIndex, SlotSeed, TransferId, Version};
use crate::key::{Fingerprint, Key};
use crate::keys::{KeyRecord, Standing};
use crate::outcome::Outcome;
use crate::reply::{Flags, Reply};
use crate::rules::{KEY_AHEAD_MS, LedgerPolicy, Rules};
use crate::scope::Scope;
use crate::slot::{ORPHAN_KEYS_MAX, Slot};
use crate::time::{Bucket, Date, Time};

/// What comes of a command.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum Decision {
    /// An answer, and no event.
    Reply(Reply),
    /// One event; the answer follows from the state after it.
    Event(Body),
    /// To be decided again when this exchange of the slot has ended.
    Wait(SlotIndex, u64),
}

/// Room left in the memory budgets, for this command.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Room {
    pub(crate) keys: bool,
    pub(crate) authorizations: bool,
    pub(crate) exchanges: bool,
    /// Whether anything that changes state is refused at once, and how (`no_space`).
    pub(crate) closed: Option<Outcome>,
}

/// What a command adds to the memory of keys.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Adds {
    /// A key of an account.
    Key,
    /// A key of an account that does not exist: such keys are few in a slot.
    OrphanKey,
}

/// All that a decision may look at.
pub(crate) struct Scene<'a> {
    pub(crate) slots: &'a [Option<Box<Slot>>],
    pub(crate) seed: SlotSeed,
    pub(crate) rules: &'a Rules,
    pub(crate) now: Time,
    /// Day and month of now in the default calendar.
    pub(crate) today: Bucket,
    /// The number that the event will have.
    pub(crate) seq: Seq,
    pub(crate) room: Room,
    /// What the submission may be decided on.
    pub(crate) scope: Scope,
}

impl<'a> Scene<'a> {
    pub(crate) fn slot(&self, index: SlotIndex) -> Option<&'a Slot> {
        self.slots.get(index.index())?.as_deref()
    }
    pub(crate) fn bucket(&self, ledger: Ledger) -> Bucket {
        let offset_minutes = if has(Bug::BucketOff) { 0 } else { self.policy(ledger).utc_offset_minutes };
        Bucket::of_near(self.now, offset_minutes, self.today)
    }
    pub(crate) fn policy(&self, ledger: Ledger) -> &'a LedgerPolicy {
        self.rules.policy(ledger)
    }
    /// Why a command that changes state is refused for want of room, if it is.
    fn room_refusal(&self, slot: &Slot, adds: Adds) -> Option<Outcome> {
        let is_full = !self.room.keys || adds == Adds::OrphanKey && slot.orphan_keys >= ORPHAN_KEYS_MAX;
        self.room.closed.or(is_full.then_some(Outcome::Busy))
    }
    /// When a hold made now expires.
    pub(crate) fn expiry(&self, ledger: Ledger, lifetime_ms: Option<u64>) -> Time {
        let policy = self.policy(ledger);
        let lifetime = lifetime_ms.unwrap_or(policy.hold_lifetime_ms_default).min(policy.hold_lifetime_ms_max);
        self.now.plus_ms(lifetime)
    }
}

/// One command before its slot: what all verbs share.
#[derive(Clone, Copy)]
pub(crate) struct Case<'a> {
    pub(crate) scene: &'a Scene<'a>,
    pub(crate) slot: &'a Slot,
    pub(crate) command: &'a Command,
    /// The account that the key is scoped to.
    pub(crate) account: AccountId,
    pub(crate) key: Key,
    pub(crate) fingerprint: Fingerprint,
    /// The account, where there is one.
    pub(crate) owner: Option<&'a Account>,
}

/// A verb's guards end in a body, or leave early with a decision.
pub(crate) type Verdict = Result<Body, Decision>;

/// Decides a command that belongs to one of the scene's slots.
pub(crate) fn decide(scene: &Scene<'_>, slot: &Slot, command: &Command) -> Decision {
    if !command.is_well_formed() {
        return Decision::Reply(Reply::bare(Outcome::Malformed));
    }
    if let Err(outside) = scope::require(scene, slot, command) {
        return outside;
    }
    let verdict = match command {
        Command::OpenAccount(c) => {
            Case::new(scene, slot, command, c.account, c.key).and_then(|case| case.open_account(c))
        }
        Command::UpdateAccount(c) => {
            Case::new(scene, slot, command, c.account, c.key).and_then(|case| case.update_account(c))
        }
        Command::CloseAccount(c) => {
            Case::new(scene, slot, command, c.account, c.key).and_then(|case| case.close_account())
        }
        Command::Authorize(c) => Case::new(scene, slot, command, c.account, c.key).and_then(|case| case.authorize(c)),
        Command::Transfer(c) => Case::new(scene, slot, command, c.account, c.key).and_then(|case| case.transfer(c)),
        Command::Advise(c) => Case::new(scene, slot, command, c.account, c.key).and_then(|case| case.advise(c)),
        Command::Reverse(c) => Case::new(scene, slot, command, c.account, c.key).and_then(|case| case.reverse(c)),
        Command::Increment(c) => {
            Case::of_authorization(scene, slot, command, c.authorization, c.key).and_then(|case| case.increment(c))
        }
        Command::Capture(c) => {
            Case::of_authorization(scene, slot, command, c.authorization, c.key).and_then(|case| case.capture(c))
        }
        Command::Void(c) => {
            Case::of_authorization(scene, slot, command, c.authorization, c.key).and_then(|case| case.void(c))
        }
        Command::Refund(c) => capture::refund(scene, slot, command, c),
        Command::Lookup(c) => lookup::lookup(scene, slot, c),
        Command::Read(c) => Err(Decision::Reply(lookup::read(slot, scene.now, c))),
        Command::Record(_) => Err(Decision::Reply(Reply::bare(Outcome::Malformed))),
    };
    verdict.map_or_else(|early| early, Decision::Event)
}

pub(crate) fn leave(reply: Reply) -> Decision {
    Decision::Reply(reply)
}

impl<'a> Case<'a> {
    /// Tests the key: what was decided already is answered again, what is forbidden is refused.
    fn new(
        scene: &'a Scene<'a>,
        slot: &'a Slot,
        command: &'a Command,
        account: AccountId,
        key: Key,
    ) -> Result<Self, Decision> {
        let owner = slot.find_account(account);
        let case = Self { scene, slot, command, account, key, fingerprint: command.fingerprint(), owner };
        let forbidden = match slot.visible_key(account, key, scene.now) {
            Some(record) => case.known_key(&record)?,
            None if is_key_outside_window(slot, key, scene.now) => return Err(leave(Reply::bare(Outcome::KeyExpired))),
            None => None,
        };
        // An account that is being opened is about to exist.
        let is_opening = matches!(command, Command::OpenAccount(_));
        let is_orphan = !is_opening && owner.is_none();
        if let Some(outcome) = scene.room_refusal(slot, if is_orphan { Adds::OrphanKey } else { Adds::Key }) {
            return Err(leave(Reply::bare(outcome)));
        }
        match forbidden {
            Some(outcome) => Err(Decision::Event(case.note(outcome, Amount::ZERO, 0))),
            None => Ok(case),
        }
    }

    /// A later verb: its key belongs to the authorization's payer.
    fn of_authorization(
        scene: &'a Scene<'a>,
        slot: &'a Slot,
        command: &'a Command,
        id: AuthorizationId,
        key: Key,
    ) -> Result<Self, Decision> {
        match slot.visible_authorization(id.0, scene.now) {
            Some(authorization) => Self::new(scene, slot, command, authorization.payer(), key),
            None => Err(leave(Reply::bare(Outcome::OriginalNotFound))),
        }
    }

    fn known_key(&self, record: &KeyRecord) -> Result<Option<Outcome>, Decision> {
        let is_same_kind = record.key.kind == self.key.kind;
        if !is_same_kind
            || record.standing == Standing::Decided && record.fingerprint != self.fingerprint && !has(Bug::NoConflict)
        {
            return Err(leave(Reply::bare(Outcome::IdempotencyConflict)));
        }
        match record.standing {
            Standing::Decided if record.exchange != 0 => Err(Decision::Wait(self.slot.index(), record.exchange)),
            Standing::Decided => Err(leave(repeat(self.slot, record))),
            Standing::Fence if has(Bug::FenceIgnored) => Ok(None),
            Standing::Tombstone if has(Bug::TombstoneIgnored) => Ok(None),
            Standing::Fence | Standing::Tombstone => Ok(Some(record.outcome)),
        }
    }

    /// The account that the key is scoped to, or the reply that there is none.
    pub(crate) fn existing_account(&self) -> Result<&'a Account, Decision> {
        self.owner.ok_or(leave(Reply::bare(Outcome::AccountNotFound)))
    }

    /// The account that an authorization's hold stands on.
    pub(crate) fn account_of(&self, a: &Authorization) -> Result<&'a Account, Decision> {
        self.slot.find_account(a.account()).ok_or(leave(Reply::bare(Outcome::AccountNotFound)))
    }

    /// The owner's leg where an authorization's hold stands.
    pub(crate) fn head_of(&self, a: &Authorization, outcome: Outcome) -> Head {
        let ledger = a.account().suspense().map_or(0, |(_, ledger)| ledger.bits());
        let is_suspense = a.account() != a.payer();
        let rare = Rare { ledger: if is_suspense { ledger } else { 0 }, ..Rare::default() };
        self.head_on(a.account(), outcome, Flags::SUSPENSE.when(is_suspense), rare)
    }

    /// A guard: refuses with an event.
    pub(crate) fn require(&self, holds: bool, outcome: Outcome, amount: Amount, target: u128) -> Result<(), Decision> {
        if holds { Ok(()) } else { Err(Decision::Event(self.note(outcome, amount, target))) }
    }

    /// A decision that moves nothing.
    pub(crate) fn note(&self, outcome: Outcome, amount: Amount, target: u128) -> Body {
        Body::Noted(Noted { head: self.head(outcome, Flags::NONE, Rare::default()), amount, target })
    }

    /// The owner's leg on the key's account (or on the suspense account when `flags` say so) and the key.
    pub(crate) fn head(&self, outcome: Outcome, flags: Flags, rare: Rare) -> Head {
        self.head_on(self.account, outcome, flags, rare)
    }

    /// The owner's leg on that account.
    pub(crate) fn head_on(&self, leg: AccountId, outcome: Outcome, flags: Flags, mut rare: Rare) -> Head {
        let owner = self.owner.filter(|owner| owner.id() == leg);
        let (version, previous) = owner.map_or_else(|| next_leg(self.slot, leg), next_leg_on);
        let note = self.command.note();
        if let Some(note) = note {
            rare.metadata = note.metadata.as_bytes().to_vec();
        }
        Head {
            account: self.account,
            key: self.key.bits,
            version,
            previous,
            fingerprint: self.fingerprint,
            rare: (rare != Rare::default()).then(|| Box::new(rare)),
            slot: self.slot.index(),
            value_date: note.and_then(|note| note.value_date).unwrap_or(Date(0)),
            key_kind: self.key.kind,
            verb: self.command.verb(),
            outcome,
            flags,
        }
    }

    /// The id of the transfer that this event makes.
    pub(crate) fn new_transfer(&self) -> TransferId {
        TransferId::new(self.scene.now, self.slot.index(), self.slot.next_id())
    }

    /// To be decided again when the exchange that works on the authorization has ended.
    pub(crate) fn wait_unless_free(&self, exchange: u64) -> Result<(), Decision> {
        if exchange == 0 { Ok(()) } else { Err(Decision::Wait(self.slot.index(), exchange)) }
    }
}

/// A `uuid_v7` key that is older than the window, or more than five minutes ahead.
fn is_key_outside_window(slot: &Slot, key: Key, now: Time) -> bool {
    is_too_far_ahead(key, now) || is_too_old(slot, key, now) && !has(Bug::KeyTooOld)
}

/// Whether a `uuid_v7` key is older than the window.
fn is_too_old(slot: &Slot, key: Key, now: Time) -> bool {
    key.own_time().is_some_and(|own| now >= slot.windows.key_end(key.kind, own, Some(own)))
}

/// Whether a `uuid_v7` key claims to be made more than five minutes from now.
pub(crate) fn is_too_far_ahead(key: Key, now: Time) -> bool {
    key.own_time().is_some_and(|own| own > now.plus_ms(KEY_AHEAD_MS))
}

/// Version and previous event of the next leg on an account; zero where there is none (a suspense account is made on use).
pub(crate) fn next_leg(slot: &Slot, account: AccountId) -> (Version, Seq) {
    match slot.find_account(account) {
        Some(a) => next_leg_on(a),
        None if account.suspense().is_some() => (Version(1), Seq::ZERO),
        None => (Version(0), Seq::ZERO),
    }
}

const fn next_leg_on(account: &Account) -> (Version, Seq) {
    (Version(account.version.0 + 1), account.seq)
}

/// The reply that a record gives.
pub(crate) fn reply_of(slot: &Slot, record: &KeyRecord) -> Reply {
    let reply = Reply {
        reversed: record.is_reversed,
        flags: record.flags,
        amount: record.amount,
        authorization: AuthorizationId::from_bits(record.authorization),
        transfer: TransferId::from_bits(record.transfer),
        expires: (record.expires != Time(0)).then_some(record.expires),
        seq: record.seq,
        version: record.version,
        ..Reply::bare(record.outcome)
    };
    reply.standing_on(slot.find_account(record.account))
}

/// The same at the end of an exchange: the account may have been opened since it was submitted, as another tenant's.
pub(crate) fn owed_reply(slot: &Slot, record: &KeyRecord, scope: Scope) -> Reply {
    let account = slot.find_account(record.account).filter(|account| !scope.hides(account));
    reply_of(slot, record).standing_on(account)
}

/// The first outcome again, with what stands now.
pub(crate) fn repeat(slot: &Slot, record: &KeyRecord) -> Reply {
    Reply { repeated: true, ..reply_of(slot, record) }
}
