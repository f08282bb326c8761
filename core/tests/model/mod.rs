//! A naive model of the life cycle: the second opinion that the core is held against.
//!
//! Owns one global world in plain maps and lists: no slots, partitions, exchanges, windows of memory or events. Shares only the
//! public command and reply types with the core. Money is `i128`. A command is applied at once and as a whole.
//!
//! ```text
//! apply: due holds expire --> well formed? --> key known? --> key's time --> barred? --> account? --> the verb's own guards
//! ```
//! Ids are made by the engine, so the caller passes those of the core's reply; the model uses them only where it makes one.
#![allow(dead_code, reason = "each test binary uses its own part")]

mod undo;
mod verbs;

use std::collections::BTreeMap;

use tp_core::amount::{Amount, Balances, CreditLimit, Ledger};
use tp_core::command::{Command, Lookup, PeriodLimit, ReadTarget, RefundTarget, Settings, Status};
use tp_core::ids::{AccountId, AuthorizationId, SlotSeed, TransferId};
use tp_core::key::{Fingerprint, Key};
use tp_core::outcome::Outcome;
use tp_core::reply::{AuthorizationState, Flags};
use tp_core::rules::{KEY_AHEAD_MS, Rules};
use tp_core::time::{Bucket, Time};

/// What the reply must say.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Expected {
    pub(crate) outcome: Outcome,
    pub(crate) repeated: bool,
    pub(crate) reversed: bool,
    pub(crate) flags: Flags,
    pub(crate) amount: i128,
    pub(crate) balances: Option<Balances>,
    pub(crate) authorization: Option<AuthorizationId>,
    pub(crate) transfer: Option<TransferId>,
    pub(crate) expires: Option<Time>,
    /// Whether it was decided and is remembered: only then balances are compared.
    pub(crate) is_event: bool,
}

impl Expected {
    fn bare(outcome: Outcome) -> Self {
        Self {
            outcome,
            repeated: false,
            reversed: false,
            flags: Flags::NONE,
            amount: 0,
            balances: None,
            authorization: None,
            transfer: None,
            expires: None,
            is_event: false,
        }
    }
}

/// The ids that the engine made.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Made {
    pub(crate) authorization: Option<AuthorizationId>,
    pub(crate) transfer: Option<TransferId>,
}

/// An account: sums, limits used.
#[derive(Clone, Debug)]
pub(crate) struct Account {
    pub(crate) settings: Settings,
    pub(crate) debits: i128,
    pub(crate) credits: i128,
    pub(crate) held: i128,
    /// Count and amount used per day and per month (the second kind of key has `true`).
    used: BTreeMap<(bool, u16), (i128, i128)>,
}

impl Account {
    fn new(settings: Settings) -> Self {
        Self { settings, debits: 0, credits: 0, held: 0, used: BTreeMap::new() }
    }
    pub(crate) fn posted(&self) -> i128 {
        self.credits - self.debits
    }
    pub(crate) fn available(&self) -> Option<i128> {
        match self.settings.credit_limit {
            CreditLimit::Unlimited => None,
            CreditLimit::Amount(limit) => Some(self.posted() - self.held + money(limit)),
        }
    }
    pub(crate) fn balances(&self) -> Balances {
        Balances { posted: self.posted(), held: self.held.unsigned_abs(), available: self.available() }
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
    pub(crate) id: AuthorizationId,
    /// The account that its keys are scoped to.
    pub(crate) account: AccountId,
    /// Where it stands: the account, or a suspense account.
    pub(crate) place: AccountId,
    pub(crate) ledger: Ledger,
    pub(crate) payee: Option<AccountId>,
    pub(crate) tolerance: i128,
    pub(crate) authorized: i128,
    pub(crate) released: i128,
    pub(crate) held: i128,
    pub(crate) expires: Time,
    pub(crate) state: AuthorizationState,
    pub(crate) bucket: Bucket,
    pub(crate) captures: Vec<Capture>,
}

impl Hold {
    pub(crate) fn captured(&self) -> i128 {
        self.captures.iter().map(|c| c.amount).sum()
    }
    fn is_open(&self) -> bool {
        self.state == AuthorizationState::Open
    }
}

/// A capture, less what reversals took back.
#[derive(Clone, Debug)]
pub(crate) struct Capture {
    pub(crate) id: TransferId,
    pub(crate) payee: AccountId,
    /// Where the payee's side was booked: the payee, or a suspense account.
    pub(crate) paid: AccountId,
    pub(crate) amount: i128,
    pub(crate) refunded: i128,
    /// Taken from the hold and not returned into it.
    pub(crate) from_hold: i128,
    pub(crate) at: Time,
    pub(crate) is_final: bool,
}

/// What a remembered command did: what its reversal has to know.
#[derive(Clone, Copy, Debug)]
enum Effect {
    Nothing,
    NeverReversible,
    Authorized { hold: usize },
    Incremented { hold: usize, amount: i128, bucket: Bucket },
    Captured { hold: usize, capture: usize },
    Refunded { hold: usize, capture: usize, amount: i128 },
    Paid { payee: AccountId, ledger: Ledger, amount: i128, bucket: Bucket },
}

/// A remembered key.
#[derive(Clone, Debug)]
struct Done {
    fingerprint: Fingerprint,
    first: Expected,
    /// The account whose balances its replies carry.
    owner: AccountId,
    effect: Effect,
    reversed: bool,
}

/// What a verb decided.
#[derive(Clone, Copy)]
struct Decision {
    outcome: Outcome,
    amount: i128,
    flags: Flags,
    authorization: Option<AuthorizationId>,
    transfer: Option<TransferId>,
    expires: Option<Time>,
    effect: Effect,
}

impl Decision {
    fn new(outcome: Outcome, amount: i128, effect: Effect) -> Self {
        let (authorization, transfer, expires) = (None, None, None);
        Self { outcome, amount, flags: Flags::NONE, authorization, transfer, expires, effect }
    }
}

/// Done, or why not.
type Verdict = Result<Decision, Outcome>;

fn money(amount: Amount) -> i128 {
    i128::try_from(amount.get()).expect("an amount is below 2^96")
}

/// The whole world.
#[derive(Clone, Debug)]
pub(crate) struct Model {
    seed: SlotSeed,
    rules: Rules,
    pub(crate) accounts: BTreeMap<AccountId, Account>,
    pub(crate) holds: Vec<Hold>,
    keys: BTreeMap<(AccountId, u128), Done>,
    /// Keys that can no longer execute, and the outcome that tells why.
    barred: BTreeMap<(AccountId, u128), Outcome>,
}

impl Model {
    pub(crate) fn new(seed: SlotSeed, rules: Rules) -> Self {
        let (accounts, keys, barred) = (BTreeMap::new(), BTreeMap::new(), BTreeMap::new());
        Self { seed, rules, accounts, holds: Vec::new(), keys, barred }
    }

    /// Applies one command at `now`, which never falls.
    pub(crate) fn apply(&mut self, now: Time, command: &Command, made: Made) -> Expected {
        self.expire(now);
        if !command.is_well_formed() {
            return Expected::bare(Outcome::Malformed);
        }
        match command {
            Command::Lookup(lookup) => self.lookup(lookup),
            Command::Read(read) => self.read(read.target),
            Command::Record(_) => Expected::bare(Outcome::Approved),
            _ => self.keyed(now, command, made),
        }
    }

    /// Releases every open hold whose time has come.
    pub(crate) fn expire(&mut self, now: Time) {
        for hold in &mut self.holds {
            if hold.is_open() && hold.expires <= now {
                hold.state = AuthorizationState::Expired;
                let account = self.accounts.get_mut(&hold.place).expect("a hold stands on an account");
                account.held -= hold.held;
                hold.held = 0;
            }
        }
    }

    fn keyed(&mut self, now: Time, command: &Command, made: Made) -> Expected {
        let key = command.key().expect("lookups, reads and records were taken before");
        let owner = self.owner(command);
        if let Some(done) = owner.and_then(|owner| self.keys.get(&(owner, key.bits))) {
            return self.repeat(done, Some(command.fingerprint()));
        }
        if self.is_out_of_window(key, now) {
            return Expected::bare(Outcome::KeyExpired);
        }
        let Some(owner) = owner else { return Expected::bare(Outcome::OriginalNotFound) };
        let verdict = match self.barred.get(&(owner, key.bits)) {
            Some(outcome) => Err(*outcome),
            None if self.lacks_account(command, owner) => return Expected::bare(Outcome::AccountNotFound),
            None => self.decide(now, command, made),
        };
        if matches!(verdict, Err(Outcome::Malformed)) {
            return Expected::bare(Outcome::Malformed);
        }
        self.remember((owner, key.bits), command.fingerprint(), verdict)
    }

    fn remember(&mut self, key: (AccountId, u128), fingerprint: Fingerprint, verdict: Verdict) -> Expected {
        let decision = verdict.unwrap_or_else(|outcome| Decision::new(outcome, 0, Effect::Nothing));
        let first = Expected {
            flags: decision.flags,
            amount: decision.amount,
            balances: self.balances(key.0),
            authorization: decision.authorization,
            transfer: decision.transfer,
            expires: decision.expires,
            is_event: true,
            ..Expected::bare(decision.outcome)
        };
        let effect = decision.effect;
        self.keys.insert(key, Done { fingerprint, first: first.clone(), owner: key.0, effect, reversed: false });
        first
    }

    fn repeat(&self, done: &Done, fingerprint: Option<Fingerprint>) -> Expected {
        if fingerprint.is_some_and(|f| f != done.fingerprint) {
            return Expected::bare(Outcome::IdempotencyConflict);
        }
        Expected { repeated: true, reversed: done.reversed, balances: self.balances(done.owner), ..done.first.clone() }
    }

    /// The account that owns the decision; `None`: the authorization or capture named is unknown.
    fn owner(&self, command: &Command) -> Option<AccountId> {
        let of = |id: AuthorizationId| self.hold_of(id).map(|hold| self.holds[hold].account);
        match command {
            Command::OpenAccount(c) => Some(c.account),
            Command::UpdateAccount(c) => Some(c.account),
            Command::CloseAccount(c) => Some(c.account),
            Command::Authorize(c) => Some(c.account),
            Command::Increment(c) => of(c.authorization),
            Command::Capture(c) => of(c.authorization),
            Command::Void(c) => of(c.authorization),
            Command::Refund(c) => match c.target {
                RefundTarget::Authorization(id) => of(id),
                RefundTarget::Capture(id) => self.capture_of(id).map(|(hold, _)| self.holds[hold].account),
            },
            Command::Reverse(c) => Some(c.account),
            Command::Advise(c) => Some(c.account),
            Command::Transfer(c) => Some(c.account),
            Command::Lookup(_) | Command::Read(_) | Command::Record(_) => None,
        }
    }

    fn lacks_account(&self, command: &Command, owner: AccountId) -> bool {
        let needs = matches!(
            command,
            Command::UpdateAccount(_) | Command::CloseAccount(_) | Command::Authorize(_) | Command::Transfer(_)
        );
        needs && !self.accounts.contains_key(&owner)
    }

    /// Whether a key that is not known may have been forgotten.
    fn is_too_old(&self, key: Key, now: Time) -> bool {
        let window = self.rules.windows.key_uuid_v7_ms;
        key.own_time().zip(window).is_some_and(|(own, window)| own.plus_ms(window) < now)
    }
    fn is_out_of_window(&self, key: Key, now: Time) -> bool {
        self.is_too_old(key, now) || key.own_time().is_some_and(|own| own > now.plus_ms(KEY_AHEAD_MS))
    }

    fn lookup(&mut self, lookup: &Lookup) -> Expected {
        let key = (lookup.account, lookup.key.bits);
        if let Some(done) = self.keys.get(&key) {
            return self.repeat(done, None);
        }
        if let Some(outcome) = self.barred.get(&key) {
            return Expected { repeated: true, ..Expected::bare(*outcome) };
        }
        if !lookup.fence {
            return Expected::bare(Outcome::OriginalNotFound);
        }
        self.barred.insert(key, Outcome::Fenced);
        Expected::bare(Outcome::Fenced)
    }

    fn read(&self, target: ReadTarget) -> Expected {
        let (place, unknown) = match target {
            ReadTarget::Account(id) => (Some(id), Outcome::AccountNotFound),
            ReadTarget::Authorization(id) => {
                (self.hold_of(id).map(|hold| self.holds[hold].place), Outcome::OriginalNotFound)
            }
            ReadTarget::Capture(id) => {
                (self.capture_of(id).map(|(hold, _)| self.holds[hold].place), Outcome::OriginalNotFound)
            }
        };
        match place.and_then(|place| self.balances(place)) {
            None => Expected::bare(unknown),
            balances => Expected { balances, ..Expected::bare(Outcome::Approved) },
        }
    }

    pub(crate) fn balances(&self, account: AccountId) -> Option<Balances> {
        self.accounts.get(&account).map(Account::balances)
    }
    pub(crate) fn hold_of(&self, id: AuthorizationId) -> Option<usize> {
        self.holds.iter().position(|hold| hold.id == id)
    }
    fn capture_of(&self, id: TransferId) -> Option<(usize, usize)> {
        self.holds
            .iter()
            .enumerate()
            .find_map(|(h, hold)| hold.captures.iter().position(|c| c.id == id).map(|c| (h, c)))
    }

    /// Where a forced leg is booked: the account, or its slot's suspense account of the ledger, made on first use.
    fn place(&mut self, account: AccountId, ledger: Ledger) -> AccountId {
        let takes = |a: &Account| a.settings.ledger == ledger && a.settings.status != Status::Closed;
        if self.accounts.get(&account).is_some_and(takes) {
            return account;
        }
        let suspense = AccountId::suspense_of(self.seed.slot_of(account), ledger);
        let settings = Settings { credit_limit: CreditLimit::Unlimited, ..Settings::new(ledger) };
        self.accounts.entry(suspense).or_insert_with(|| Account::new(settings));
        suspense
    }
    fn account(&mut self, id: AccountId) -> &mut Account {
        self.accounts.get_mut(&id).expect("looked up or made before")
    }
    /// Moves money, forced.
    fn pay(&mut self, from: AccountId, to: AccountId, amount: i128) {
        self.account(from).debits += amount;
        self.account(to).credits += amount;
    }
    fn is_overdrawn(&self, id: AccountId) -> bool {
        self.accounts[&id].available().is_some_and(|available| available < 0)
    }
}
