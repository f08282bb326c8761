//! What clients ask for: the next command, drawn from what replies taught them.
//!
//! Owns the choice; refuses to know how a command is decided and whether it was answered.

use tp_core::amount::{Amount, CreditLimit, Ledger};
use tp_core::command::{
    Advice, Advise, Authorize, Capture, CloseAccount, Command, Increment, Limits, Lookup, Note, OpenAccount,
    PeriodLimit, Read, ReadTarget, Record, Refund, RefundTarget, Reverse, Settings, Status, Transfer, UpdateAccount,
    Void,
};
use tp_core::ids::{AccountId, AuthorizationId, TransferId};
use tp_core::key::Key;
use tp_core::metadata::Metadata;
use tp_core::reply::Reply;
use tp_core::time::Time;

use crate::chance::Chance;
use crate::plan::{CZK, EUR, Feature, Plan};

/// Accounts 1 to 8 are opened at the start, the others now and then or never.
const ACCOUNTS: u128 = 8;

/// What clients know and draw from.
#[derive(Clone, Debug)]
pub(crate) struct Traffic {
    chance: Chance,
    /// Keys that may be asked about, with the account that owns their decision.
    keys: Vec<(AccountId, Key)>,
    /// Keys that were looked up or reversed before any command came with them.
    promised: Vec<(AccountId, Key)>,
    authorizations: Vec<(AuthorizationId, AccountId, Amount)>,
    captures: Vec<(TransferId, AccountId)>,
    /// Keys of commands that made holds or captures.
    held: Vec<(AccountId, Key)>,
    opened: u128,
}

fn amount(minor: u64) -> Amount {
    Amount::from(minor)
}

impl Traffic {
    pub(crate) fn new(seed: u64) -> Self {
        let chance = Chance::of(seed, "traffic");
        Self {
            chance,
            keys: Vec::new(),
            promised: Vec::new(),
            authorizations: Vec::new(),
            captures: Vec::new(),
            held: Vec::new(),
            opened: 0,
        }
    }

    /// Takes what a reply tells.
    pub(crate) fn learn(&mut self, command: &Command, reply: &Reply) {
        if !reply.outcome.is_approval() || reply.repeated {
            return;
        }
        let owner = match command {
            Command::Authorize(c) => Some(c.account),
            Command::Advise(c) => Some(c.account),
            _ => None,
        };
        if let (Some(owner), Some(id), None) = (owner, reply.authorization, reply.transfer) {
            self.authorizations.push((id, owner, reply.amount));
            self.held.extend(command.key().map(|key| (owner, key)));
        }
        if let (Command::Capture(c), Some(id)) = (command, reply.transfer)
            && let Some((_, owner, _)) = self.authorizations.iter().find(|(a, ..)| *a == c.authorization)
        {
            self.captures.push((id, *owner));
            self.held.push((*owner, c.key));
        }
    }

    fn account(&mut self) -> AccountId {
        // The first is hot; a few are never opened.
        match self.chance.below(10) {
            0..=3 => AccountId(1),
            4..=8 => AccountId(1 + u128::from(self.chance.below(8))),
            _ if self.chance.one_in(3) => AccountId(ACCOUNTS + 1 + u128::from(self.chance.below(3))),
            _ => AccountId(2),
        }
    }

    fn amount(&mut self, plan: &Plan) -> Amount {
        if plan.has(Feature::Edges) && self.chance.one_in(12) {
            let edges = [Amount::ZERO, Amount::MAX, amount(u64::MAX), amount(1)];
            return *self.chance.pick(&edges).unwrap_or(&Amount::ZERO);
        }
        amount(self.chance.between(1, 120))
    }

    fn key(&mut self, plan: &Plan, now: Time) -> Key {
        let random = u128::from(self.chance.bits()) << 64 | u128::from(self.chance.bits());
        if !plan.has(Feature::Uuids) || self.chance.one_in(3) {
            return Key::opaque(random);
        }
        let made = match self.chance.below(20) {
            0 => Time(now.0.saturating_sub(self.chance.below(100_000))),
            1 => now.plus_ms(self.chance.below(400_000)),
            _ => Time(now.0.saturating_sub(self.chance.below(50))),
        };
        Key::uuid_v7_from_parts(made, random)
    }

    fn ledger(&mut self) -> Ledger {
        if self.chance.one_in(25) { CZK } else { EUR }
    }

    fn note(&mut self) -> Note {
        if !self.chance.one_in(8) {
            return Note::default();
        }
        let length = self.chance.index(200);
        let metadata = Metadata::reference(&"m".repeat(length)).unwrap_or_default();
        Note { metadata, ..Note::default() }
    }

    fn lifetime(&mut self) -> Option<u64> {
        // From a few milliseconds to half a minute, short ones as often as long ones.
        let most_ms = 2 << self.chance.below(15);
        let lifetime_ms = 1 + self.chance.below(most_ms);
        self.chance.one_in(2).then_some(lifetime_ms)
    }

    /// The next command.
    pub(crate) fn draw(&mut self, plan: &Plan, now: Time) -> Command {
        if self.opened < ACCOUNTS {
            self.opened += 1;
            return self.open(plan, now, AccountId(self.opened));
        }
        if plan.has(Feature::Conflicts)
            && self.chance.one_in(25)
            && let Some((account, key)) = self.chance.pick_recent(&self.keys).copied()
        {
            let amount = self.amount(plan);
            return Authorize::new(key, account, EUR, amount).into();
        }
        if self.chance.one_in(10)
            && let Some((account, key)) = self.promised.pop()
        {
            let amount = self.amount(plan);
            return Authorize::new(key, account, EUR, amount).into();
        }
        let command = self.verb(plan, now);
        if let (Some(key), Some(owner)) = (command.key(), self.owner(&command)) {
            self.keys.push((owner, key));
        }
        command
    }

    fn owner(&self, command: &Command) -> Option<AccountId> {
        let of = |id: &AuthorizationId| self.authorizations.iter().find(|(a, ..)| a == id).map(|(_, owner, _)| *owner);
        Some(match command {
            Command::Authorize(c) => c.account,
            Command::Transfer(c) => c.account,
            Command::Advise(c) => c.account,
            Command::Reverse(c) => c.account,
            Command::Increment(c) => return of(&c.authorization),
            Command::Capture(c) => return of(&c.authorization),
            Command::Void(c) => return of(&c.authorization),
            Command::Refund(c) => match c.target {
                RefundTarget::Authorization(id) => return of(&id),
                RefundTarget::Capture(id) => return self.captures.iter().find(|(c, _)| *c == id).map(|(_, o)| *o),
            },
            _ => return None,
        })
    }

    fn open(&mut self, plan: &Plan, now: Time, account: AccountId) -> Command {
        let mut settings = Settings::new(if account.0 == 7 { CZK } else { EUR });
        settings.credit_limit = match account.0 % 4 {
            0 => CreditLimit::Unlimited,
            1 => CreditLimit::Amount(amount(self.chance.between(500, 20_000))),
            _ => CreditLimit::Amount(amount(self.chance.between(0, 2_000))),
        };
        if plan.has(Feature::Limits) && self.chance.one_in(2) {
            settings.limits = self.limits();
        }
        OpenAccount { key: self.key(plan, now), account, settings, note: self.note() }.into()
    }

    fn limits(&mut self) -> Limits {
        let mut period = |times: u64| PeriodLimit {
            count: self.chance.one_in(2).then(|| u32::try_from(self.chance.between(1, 12 * times)).unwrap_or(1)),
            amount: self.chance.one_in(2).then(|| amount(self.chance.between(50, 900 * times))),
        };
        let (day, month) = (period(1), period(3));
        Limits { command_amount: self.chance.one_in(3).then(|| amount(self.chance.between(20, 150))), day, month }
    }

    fn verb(&mut self, plan: &Plan, now: Time) -> Command {
        let recent = self.chance.pick_recent(&self.authorizations).copied();
        let (key, note) = (self.key(plan, now), self.note());
        let Some((authorization, _, held)) = recent.filter(|_| !self.chance.one_in(3)) else {
            return self.fresh(plan, now, key, note);
        };
        let amount = self.amount(plan);
        match self.chance.below(12) {
            0 => {
                let lifetime_ms = self.lifetime();
                let amount = if lifetime_ms.is_some() && self.chance.one_in(2) { Amount::ZERO } else { amount };
                Increment { key, authorization, amount, lifetime_ms, note }.into()
            }
            1..=5 => {
                let (payee, is_final) = (self.account(), self.chance.one_in(3));
                // Often about all of the hold, or a little more: within the tolerance, or not.
                let more = u128::from(self.chance.below(20));
                let all = Amount::new(held.get() + more).filter(|_| self.chance.one_in(3));
                let amount = all.unwrap_or(amount);
                Capture { key, authorization, payee, amount, is_final, note }.into()
            }
            6 | 7 => Void { key, authorization, amount: self.chance.one_in(2).then_some(amount), note }.into(),
            8 | 9 => {
                let capture = self.chance.pick_recent(&self.captures).map(|(id, _)| RefundTarget::Capture(*id));
                let target = capture.filter(|_| !self.chance.one_in(4));
                let target = target.unwrap_or(RefundTarget::Authorization(authorization));
                Refund { key, target, amount, note }.into()
            }
            10 => Read { target: ReadTarget::Authorization(authorization) }.into(),
            _ => self.fresh(plan, now, key, note),
        }
    }

    fn fresh(&mut self, plan: &Plan, now: Time, key: Key, note: Note) -> Command {
        let (account, ledger, amount) = (self.account(), self.ledger(), self.amount(plan));
        let authorize = |this: &mut Self, note| {
            let payee = this.chance.one_in(4).then(|| this.account());
            let (lifetime_ms, tolerance_bp) = (this.lifetime(), u16::try_from(this.chance.below(3_000)).unwrap_or(0));
            let allow_partial = this.chance.one_in(3);
            Authorize { key, account, ledger, amount, lifetime_ms, allow_partial, payee, tolerance_bp, note }.into()
        };
        match self.chance.below(14) {
            0 if plan.has(Feature::Records) => {
                let bytes = self.chance.bits().to_le_bytes().repeat(1 + self.chance.index(40)).into();
                Record { stream: u32::try_from(self.chance.below(4)).unwrap_or(0), bytes }.into()
            }
            1 | 2 if plan.has(Feature::Advices) => self.advice(account, ledger, amount, key, note),
            3 | 4 if plan.has(Feature::Transfers) => {
                Transfer { key, account, payee: self.account(), ledger, amount, note }.into()
            }
            5 if plan.has(Feature::Settings) => self.settings(plan, now, account, key, note),
            6 | 7 if plan.has(Feature::Reversals) => self.reversal(plan, now, account, key, note),
            8 if plan.has(Feature::Lookups) => self.lookup(plan, now, account),
            9 => Read { target: ReadTarget::Account(account) }.into(),
            _ => authorize(self, note),
        }
    }

    fn advice(&mut self, account: AccountId, ledger: Ledger, amount: Amount, key: Key, note: Note) -> Command {
        let advice = match self.chance.below(5) {
            0 => Advice::Declined,
            1 | 2 => Advice::Hold { lifetime_ms: self.lifetime(), payee: None },
            _ => Advice::Post {
                payee: self.account(),
                authorization: self.chance.pick_recent(&self.authorizations).map(|(id, ..)| *id),
            },
        };
        // Mostly about the account that the authorization belongs to.
        let owner = match advice {
            Advice::Post { authorization: Some(id), .. } if !self.chance.one_in(4) => {
                self.authorizations.iter().find(|(a, ..)| *a == id).map_or(account, |(_, owner, _)| *owner)
            }
            _ => account,
        };
        Advise { key, account: owner, ledger, amount, advice, note }.into()
    }

    fn settings(&mut self, plan: &Plan, now: Time, account: AccountId, key: Key, note: Note) -> Command {
        match self.chance.below(6) {
            0 => CloseAccount { key, account, note }.into(),
            1 => self.open(plan, now, account),
            _ => {
                let statuses = [Status::Open, Status::Open, Status::Open, Status::DebitFrozen, Status::Frozen];
                let status = self.chance.pick(&statuses).copied();
                let credit = CreditLimit::Amount(amount(self.chance.between(0, 3_000)));
                let credit_limit = self.chance.one_in(2).then_some(credit);
                let limits = (plan.has(Feature::Limits) && self.chance.one_in(2)).then(|| self.limits());
                UpdateAccount { key, account, status, credit_limit, limits, note }.into()
            }
        }
    }

    fn reversal(&mut self, plan: &Plan, now: Time, account: AccountId, key: Key, note: Note) -> Command {
        // Mostly of a command that others build upon.
        let known = if self.chance.one_in(2) {
            self.chance.pick_recent(&self.held).copied()
        } else {
            self.chance.pick_recent(&self.keys).copied().filter(|_| !self.chance.one_in(6))
        };
        // One that was never seen may come later.
        let (account, original) = known.unwrap_or_else(|| (account, self.key(plan, now)));
        if known.is_none() {
            self.promised.push((account, original));
        }
        // Often less than what later commands used of it.
        let new_total = self.chance.one_in(2).then(|| amount(self.chance.below(25)));
        Reverse { key, account, original, new_total, note }.into()
    }

    fn lookup(&mut self, plan: &Plan, now: Time, account: AccountId) -> Command {
        let known = self.chance.pick_recent(&self.keys).copied().filter(|_| !self.chance.one_in(3));
        let (account, key) = known.unwrap_or_else(|| (account, self.key(plan, now)));
        if known.is_none() {
            self.promised.push((account, key));
        }
        Lookup { account, key, fence: self.chance.one_in(2) }.into()
    }
}
