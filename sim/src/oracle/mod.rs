//! The oracle: a second opinion on every event, written from the life cycle's rules.
//!
//! Owns one world of plain maps, folded over the journal in the order of sequence numbers. Before an event changes that world the
//! oracle decides the command that asked for it itself ([`judge`]), on what the journal shows up to there, and compares; then it
//! books its own verdict ([`book`]), not the event's. Shares only public types with the core: no slots of memory, no partitions,
//! no eviction. Money is `i128`. Refuses to know who sent what and how it got into the journal.
//!
//! ```text
//! event --> who asked? --> key free? --> judge(command) == what the event says? --> book --> debits = credits + in transit
//! ```

mod book;
mod judge;

use std::collections::BTreeMap;

use tp_core::amount::{Amount, Balances, CreditLimit, Ledger};
use tp_core::command::{Command, PeriodLimit, Settings, Status, Verb};
use tp_core::event::{Body, End, Event, Head, Movement};
use tp_core::ids::{AccountId, SlotIndex, SlotSeed};
use tp_core::key::{Fingerprint, Key, KeyKind};
use tp_core::outcome::Outcome;
use tp_core::reply::{AuthorizationState, Flags};
use tp_core::rules::Rules;
use tp_core::time::{Bucket, Time};

/// What is wrong with an event.
pub(crate) type Wrong = String;

/// An account: sums, limits used, where it stands in the journal.
#[derive(Clone, Debug)]
pub(crate) struct Account {
    pub(crate) settings: Settings,
    pub(crate) debits: i128,
    pub(crate) credits: i128,
    pub(crate) held: i128,
    pub(crate) seq: u64,
    pub(crate) version: u64,
    opened: u64,
    exchanges: u32,
    time: Time,
    /// Count and amount used, per day (`false`) and month (`true`).
    used: BTreeMap<(bool, u16), (i128, i128)>,
}

impl Account {
    fn new(settings: Settings, opened: u64) -> Self {
        let used = BTreeMap::new();
        Self { settings, debits: 0, credits: 0, held: 0, seq: 0, version: 0, opened, exchanges: 0, time: Time(0), used }
    }
    fn available(&self) -> Option<i128> {
        match self.settings.credit_limit {
            CreditLimit::Unlimited => None,
            CreditLimit::Amount(limit) => Some(self.credits - self.debits - self.held + money(limit)),
        }
    }
    pub(crate) fn balances(&self) -> Balances {
        let (posted, held) = (self.credits - self.debits, self.held.unsigned_abs());
        Balances { posted, held, available: self.available() }
    }
    fn count(&mut self, bucket: Bucket, count: i128, amount: i128) {
        for period in [(false, bucket.day.0), (true, bucket.month)] {
            let used = self.used.entry(period).or_default();
            *used = ((used.0 + count).max(0), (used.1 + amount).max(0));
        }
    }
    fn used(&self, bucket: Bucket) -> [(PeriodLimit, (i128, i128)); 2] {
        let used = |period| self.used.get(&period).copied().unwrap_or_default();
        let limits = self.settings.limits;
        [(limits.day, used((false, bucket.day.0))), (limits.month, used((true, bucket.month)))]
    }
}

/// An authorization.
#[derive(Clone, Debug)]
pub(crate) struct Hold {
    /// The account that its keys are scoped to, and the one it stands on.
    pub(crate) payer: AccountId,
    pub(crate) place: AccountId,
    payee: u128,
    tolerance: i128,
    pub(crate) authorized: i128,
    released: i128,
    pub(crate) held: i128,
    pub(crate) captured: i128,
    pub(crate) expires: Time,
    pub(crate) state: AuthorizationState,
    named: Time,
    exchange: bool,
    pub(crate) captures: Vec<Capture>,
}

#[derive(Clone, Debug)]
pub(crate) struct Capture {
    pub(crate) id: u128,
    payee: AccountId,
    on_suspense: bool,
    pub(crate) amount: i128,
    pub(crate) refunded: i128,
    from_hold: i128,
    at: Time,
    is_final: bool,
}

/// What is known of a key.
#[derive(Clone, Debug)]
#[allow(clippy::struct_excessive_bools, reason = "independent facts")]
pub(crate) struct Known {
    kind: KeyKind,
    received: Time,
    /// Not decided but forbidden: by a fence or a tombstone.
    is_barred: bool,
    is_open: bool,
    reversed: bool,
    command: Command,
    ledger: Ledger,
    bucket: Bucket,
    counted: bool,
    /// The capture that a refund or its undoing is about.
    capture: u128,
    told: Told,
}

/// What a reply must say.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Told {
    pub(crate) account: AccountId,
    pub(crate) key: Key,
    /// Of the command that was decided; `None`: none was, the key is barred.
    pub(crate) fingerprint: Option<Fingerprint>,
    pub(crate) outcome: Outcome,
    pub(crate) flags: Flags,
    pub(crate) amount: i128,
    pub(crate) authorization: u128,
    pub(crate) transfer: u128,
    pub(crate) expires: Time,
    pub(crate) seq: u64,
    pub(crate) version: u64,
    /// Of the key's account, after the event.
    pub(crate) balances: Option<Balances>,
}

/// An exchange under way.
#[derive(Clone, Debug)]
struct Exchange {
    movement: Movement,
    account: AccountId,
    key: Key,
    place: AccountId,
    outcome: Outcome,
    flags: Flags,
    answer: Option<(Outcome, Flags)>,
}

/// The whole world.
#[derive(Clone, Debug)]
pub(crate) struct Oracle {
    seed: SlotSeed,
    rules: Rules,
    pub(crate) accounts: BTreeMap<AccountId, Account>,
    pub(crate) holds: BTreeMap<u128, Hold>,
    capture_holds: BTreeMap<u128, u128>,
    keys: BTreeMap<(AccountId, u128), Known>,
    exchanges: BTreeMap<(SlotIndex, u64), Exchange>,
    opaque_since: BTreeMap<SlotIndex, Time>,
    /// What each event told, by its number; several keys where several exchanges ended in one.
    pub(crate) told: BTreeMap<u64, Vec<Told>>,
    /// What each event left of the accounts that it touched.
    pub(crate) seen: BTreeMap<(AccountId, u64), (Balances, u64)>,
    /// Events that are records of layers above.
    pub(crate) recorded: BTreeMap<u64, (u32, Vec<u8>)>,
    /// The last event folded.
    pub(crate) seq: u64,
    pub(crate) time_max: Time,
}

fn money(amount: Amount) -> i128 {
    i128::try_from(amount.get()).expect("an amount is below 2^96")
}

fn ensure(holds: bool, wrong: impl FnOnce() -> Wrong) -> Result<(), Wrong> {
    if holds { Ok(()) } else { Err(wrong()) }
}

impl Oracle {
    pub(crate) fn new(seed: SlotSeed, rules: Rules) -> Self {
        Self {
            seed,
            rules,
            accounts: BTreeMap::new(),
            holds: BTreeMap::new(),
            capture_holds: BTreeMap::new(),
            keys: BTreeMap::new(),
            exchanges: BTreeMap::new(),
            opaque_since: BTreeMap::new(),
            told: BTreeMap::new(),
            seen: BTreeMap::new(),
            recorded: BTreeMap::new(),
            seq: 0,
            time_max: Time(0),
        }
    }

    /// Takes the next event. `asked`: every command ever sent with these key bits.
    pub(crate) fn take(&mut self, seq: u64, event: &Event, asked: &dyn Fn(u128) -> Vec<Command>) -> Result<(), Wrong> {
        ensure(seq == self.seq + 1, || format!("event {seq} follows event {}", self.seq))?;
        (self.seq, self.time_max) = (seq, self.time_max.max(event.time));
        self.check_legs(event)?;
        let (at, body) = (event.time, &event.body);
        match body {
            Body::Forgotten(_) => {}
            Body::Recorded(e) => drop(self.recorded.insert(seq, (e.stream, e.bytes.clone()))),
            Body::Fenced(e) => self.fence(at, e.account, Key { bits: e.key, kind: e.key_kind }, asked)?,
            Body::Expired(e) => self.expire(at, e.authorization.0, e.account, money(e.amount))?,
            Body::Answered(e) => self.answer(e)?,
            Body::Ended(e) => self.ended(at, &e.ends)?,
            _ => self.decided(at, body, asked)?,
        }
        self.check_books()?;
        self.note_seen(event);
        Ok(())
    }

    /// J3: each leg's version and previous number follow; an account's time never falls.
    fn check_legs(&mut self, event: &Event) -> Result<(), Wrong> {
        let (seq, mut result) = (self.seq, Ok(()));
        event.body.each_leg(|leg| {
            let Some(id) = leg.account else { return };
            let suspense = id.suspense().map(|(_, ledger)| suspense_settings(ledger));
            let opening = match &event.body {
                Body::Settled(e) if e.head.verb == Verb::OpenAccount => Some(e.settings),
                _ => None,
            };
            if let Some(settings) = suspense.or(opening) {
                self.accounts.entry(id).or_insert_with(|| Account::new(settings, seq));
            }
            let Some(account) = self.accounts.get_mut(&id) else {
                result = Err(format!("a leg on {id:?}, which was never opened"));
                return;
            };
            let (version, previous, time) = (account.version + 1, account.seq, account.time);
            if (leg.version.0, leg.previous.0) != (version, previous) || event.time < time {
                result = Err(format!("{leg:?} at {}, after version {} at {previous}, {time}", event.time, version - 1));
            }
            (account.version, account.seq, account.time) = (version, seq, event.time);
        });
        result
    }

    /// A decision about a key: the oracle's own must be the same.
    fn decided(&mut self, at: Time, body: &Body, asked: &dyn Fn(u128) -> Vec<Command>) -> Result<(), Wrong> {
        let head = body.head().ok_or("a decision without a head")?;
        let is_it = |c: &Command| c.verb() == head.verb && c.fingerprint() == head.fingerprint;
        let of_key = |c: &Command| c.key() == Some(head.full_key());
        let command = asked(head.key).into_iter().find(|c| is_it(c) && of_key(c));
        let command = command.ok_or_else(|| format!("nobody asked for {head:?}"))?;
        let known = self.visible_key(head.account, head.full_key(), at);
        let barred = known.filter(|known| known.is_barred).map(|known| known.told.outcome);
        ensure(known.is_none() || barred.is_some(), || format!("IDM-1: {head:?} is decided twice: {known:?}"))?;
        ensure(barred.is_some() || !self.is_out_of_window(head.full_key(), at), || format!("a key too old: {head:?}"))?;
        let verdict = match barred {
            Some(outcome) => judge::Verdict::Note(outcome),
            None => self.judge(at, &command, head.account, matches!(body, Body::Opened(_)))?,
        };
        verdict.compare(self, body).map_err(|wrong| format!("{wrong}\n command {command:?}\n event {body:?}"))?;
        self.book(at, &verdict, body, head, command)
    }

    fn fence(
        &mut self,
        at: Time,
        account: AccountId,
        key: Key,
        asked: &dyn Fn(u128) -> Vec<Command>,
    ) -> Result<(), Wrong> {
        let is_it = |c: &Command| matches!(c, Command::Lookup(c) if c.fence && c.account == account && c.key == key);
        let command = asked(key.bits).into_iter().find(is_it).ok_or("nobody asked for this fence")?;
        ensure(self.visible_key(account, key, at).is_none(), || format!("a fence on a known key {key:?}"))?;
        self.bar(at, account, key, Outcome::Fenced, command);
        Ok(())
    }

    /// Forbids a key.
    fn bar(&mut self, at: Time, account: AccountId, key: Key, outcome: Outcome, command: Command) {
        let told = Told {
            account,
            key,
            fingerprint: None,
            outcome,
            flags: Flags::NONE,
            amount: 0,
            authorization: 0,
            transfer: 0,
            expires: Time(0),
            seq: self.seq,
            version: 0,
            balances: self.balances(account),
        };
        self.told.entry(self.seq).or_default().push(told.clone());
        self.remember(Known {
            kind: key.kind,
            received: at,
            is_barred: true,
            is_open: false,
            reversed: false,
            command,
            ledger: Ledger::from_bits(0),
            bucket: Bucket::default(),
            counted: false,
            capture: 0,
            told,
        });
    }

    fn remember(&mut self, known: Known) {
        if known.kind == KeyKind::Opaque {
            let slot = self.seed.slot_of(known.told.account);
            self.opaque_since.entry(slot).or_insert(known.received);
        }
        self.keys.insert((known.told.account, known.told.key.bits), known);
    }

    fn expire(&mut self, at: Time, id: u128, account: AccountId, amount: i128) -> Result<(), Wrong> {
        let hold = self.holds.get_mut(&id).ok_or("the expiry of no authorization")?;
        let is_due = hold.state == AuthorizationState::Open && !hold.exchange && at >= hold.expires;
        ensure(is_due && hold.held == amount && hold.place == account, || format!("not to expire: {hold:?}"))?;
        self.release(id, amount);
        self.close(at, id, AuthorizationState::Expired);
        Ok(())
    }

    /// Several exchanges may end in one event; what is told shows all of them.
    fn ended(&mut self, at: Time, ends: &[End]) -> Result<(), Wrong> {
        ends.iter().try_for_each(|end| self.end(at, end))?;
        let mut told = self.told.remove(&self.seq).unwrap_or_default();
        for told in &mut told {
            told.balances = self.balances(told.account);
        }
        self.told.insert(self.seq, told);
        Ok(())
    }

    // --- what is known ---

    /// Whether an account may have been missing for somebody who knew the journal up to `seq`.
    pub(crate) fn opened_after(&self, id: AccountId, seq: u64) -> bool {
        self.accounts.get(&id).is_none_or(|account| account.opened > seq)
    }

    /// Whether a key may have been unknown to somebody who asked behind `seq`, when it is still not known at `at`.
    pub(crate) fn is_unknown(&self, account: AccountId, key: Key, seq: u64, at: Time) -> bool {
        let known = self.keys.get(&(account, key.bits));
        known.is_none_or(|known| known.told.seq > seq) || self.visible_key(account, key, at).is_none()
    }

    pub(crate) fn hold_of_capture(&self, capture: u128) -> Option<u128> {
        self.capture_holds.get(&capture).copied()
    }

    /// The record of a key, unless its window has passed and nothing that it did is open.
    fn visible_key(&self, account: AccountId, key: Key, at: Time) -> Option<&Known> {
        let known = self.keys.get(&(account, key.bits))?;
        let own = Key { bits: key.bits, kind: known.kind }.own_time();
        let is_young = at < self.rules.windows.key_end(known.kind, known.received, own);
        let lives = self.holds.get(&known.told.authorization).is_some_and(|h| h.state == AuthorizationState::Open);
        (is_young || known.is_open || lives).then_some(known)
    }

    /// Whether a key that is not known can no longer be decided: too old, or from the future.
    pub(crate) fn is_out_of_window(&self, key: Key, at: Time) -> bool {
        let ahead = at.plus_ms(tp_core::rules::KEY_AHEAD_MS);
        key.own_time().is_some_and(|own| own > ahead || at >= self.rules.windows.key_end(key.kind, own, Some(own)))
    }

    pub(crate) fn visible_hold(&self, id: u128, at: Time) -> Option<&Hold> {
        let end = |hold: &Hold| self.rules.windows.authorization_end(hold.named);
        self.holds.get(&id).filter(|h| h.state == AuthorizationState::Open || h.exchange || at <= end(h))
    }

    pub(crate) fn balances(&self, account: AccountId) -> Option<Balances> {
        self.accounts.get(&account).map(Account::balances)
    }

    /// Where forced legs go: the account, or the suspense account of its slot.
    fn forced(&self, account: AccountId, slot: SlotIndex, ledger: Ledger) -> AccountId {
        let takes = |a: &Account| a.settings.ledger == ledger && a.settings.status != Status::Closed;
        if self.accounts.get(&account).is_some_and(takes) { account } else { AccountId::suspense_of(slot, ledger) }
    }

    fn overdraws(&self, account: AccountId, amount: i128) -> bool {
        self.accounts.get(&account).and_then(Account::available).is_some_and(|available| available < amount)
    }

    /// LED-1 and HLD-1 over everything.
    fn check_books(&self) -> Result<(), Wrong> {
        let mut books: BTreeMap<Ledger, i128> = BTreeMap::new();
        for account in self.accounts.values() {
            *books.entry(account.settings.ledger).or_default() += account.debits - account.credits;
        }
        for exchange in self.exchanges.values() {
            let is_answered = exchange.answer.is_some_and(|(outcome, _)| outcome.is_approval());
            // A push has left the owner until it is answered; a pull has left the counter once it is.
            let in_transit = if exchange.movement.purpose.is_push() { !is_answered } else { is_answered };
            let amount = if in_transit { money(exchange.movement.amount) } else { 0 };
            *books.entry(exchange.movement.ledger).or_default() -= amount;
        }
        ensure(books.values().all(|difference| *difference == 0), || format!("LED-1: {books:?}"))?;
        let mut held: BTreeMap<AccountId, i128> = BTreeMap::new();
        for hold in self.holds.values() {
            ensure(hold.held >= 0 && hold.captured >= 0, || format!("HLD-1: {hold:?}"))?;
            let caps = hold.captures.iter().all(|c| 0 <= c.refunded && c.refunded <= c.amount);
            ensure(caps, || format!("refunds exceed captures: {hold:?}"))?;
            *held.entry(hold.place).or_default() += hold.held;
        }
        let adds_up = |(id, account): (&AccountId, &Account)| account.held == held.get(id).copied().unwrap_or(0);
        ensure(self.accounts.iter().all(adds_up), || format!("HLD-1: an account's holds do not add up: {held:?}"))
    }

    fn note_seen(&mut self, event: &Event) {
        let (seq, accounts, seen) = (self.seq, &self.accounts, &mut self.seen);
        event.body.each_leg(|leg| {
            if let Some((id, account)) = leg.account.and_then(|id| accounts.get_key_value(&id)) {
                seen.insert((*id, seq), (account.balances(), account.version));
            }
        });
    }
}

fn suspense_settings(ledger: Ledger) -> Settings {
    Settings { credit_limit: CreditLimit::Unlimited, kind: u16::MAX, ..Settings::new(ledger) }
}
