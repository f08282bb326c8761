//! Random traffic over a few accounts: what clients do, as small numbers that shrink well, and what they know from replies.
//!
//! Owns the translation of an [`Action`] into a command by what was learned so far, and the clients' own books, added up from
//! replies alone. Refuses to know how a command is decided.

mod actions;
mod books;

use std::collections::BTreeMap;

use tp_core::amount::{Amount, CreditLimit, Ledger};
use tp_core::command::{
    Advice, Advise, Authorize, Capture, CloseAccount, Command, Increment, Limits, Lookup, Note, OpenAccount,
    PeriodLimit, Read, ReadTarget, Refund, RefundTarget, Reverse, Settings, Status, Transfer, UpdateAccount, Void,
};
use tp_core::ids::{AccountId, AuthorizationId, TransferId};
use tp_core::key::Key;
use tp_core::reply::Reply;

use crate::harness::SEED;
pub(crate) use actions::{Action, actions};
pub(crate) use books::{Books, check_repeat};

/// Accounts 0 to 4 are opened in the ledger of most commands, 5 in another one, 6 never.
pub(crate) const ACCOUNTS: usize = 7;

/// What clients sent and learned.
pub(crate) struct Clients {
    ids: [AccountId; ACCOUNTS],
    /// Every command sent, by its number; repeats are not counted again.
    pub(crate) sent: Vec<Command>,
    /// Authorizations and their owners, in the order learned.
    pub(crate) authorizations: Vec<(AuthorizationId, AccountId)>,
    captures: Vec<(TransferId, AuthorizationId)>,
    owners: BTreeMap<AuthorizationId, AccountId>,
}

pub(crate) fn czk() -> Ledger {
    Ledger::new("CZK", 2).expect("valid")
}
pub(crate) fn eur() -> Ledger {
    Ledger::new("EUR", 2).expect("valid")
}
fn minor(amount: u16) -> Amount {
    Amount::from(u64::from(amount))
}

impl Clients {
    /// Seven accounts; the first and the fourth share a slot, so that both kinds of neighbours occur.
    pub(crate) fn new() -> Self {
        let mut ids = [1u128, 2, 3, 4, 5, 6, 7].map(AccountId);
        let slot = SEED.slot_of(ids[0]);
        ids[3] =
            (100..1_000_000).map(AccountId).find(|id| SEED.slot_of(*id) == slot).expect("a slot has many accounts");
        Self { ids, sent: Vec::new(), authorizations: Vec::new(), captures: Vec::new(), owners: BTreeMap::new() }
    }

    /// Opens the accounts: payers with credit, limits or both, payees, one in another ledger.
    pub(crate) fn opening(&mut self) -> Vec<Command> {
        let plain = Settings::new(czk());
        let credit = |n: u16| CreditLimit::Amount(minor(n));
        let day = PeriodLimit { count: Some(6), amount: Some(minor(250)) };
        let month = PeriodLimit { count: Some(9), amount: Some(minor(400)) };
        let limits = Limits { command_amount: Some(minor(90)), day, month };
        let settings = [
            Settings { credit_limit: credit(300), ..plain },
            Settings { credit_limit: CreditLimit::Unlimited, limits, ..plain },
            Settings { credit_limit: credit(120), ..plain },
            plain,
            Settings { credit_limit: CreditLimit::Unlimited, ..plain },
            Settings { credit_limit: credit(100), ..Settings::new(eur()) },
        ];
        let ids = self.ids;
        let open = |(n, settings): (usize, Settings)| {
            let key = self.fresh();
            let open = Command::from(OpenAccount { key, account: ids[n], settings, note: Note::default() });
            self.sent.push(open.clone());
            open
        };
        settings.into_iter().enumerate().map(open).collect()
    }

    /// The key of the n-th command, sent or not.
    fn key(n: usize) -> Key {
        Key::opaque(0xA000 + n as u128)
    }
    fn fresh(&self) -> Key {
        Self::key(self.sent.len())
    }
    fn account(&self, n: u8) -> AccountId {
        self.ids[usize::from(n) % ACCOUNTS]
    }
    fn authorization(&self, n: u8) -> Option<AuthorizationId> {
        let last = self.authorizations.len().checked_sub(1)?;
        // Small numbers name the latest ones: most traffic is about a few open holds.
        Some(self.authorizations[last - usize::from(n) % (last + 1).min(4)].0)
    }
    fn capture(&self, n: u8) -> Option<(TransferId, AuthorizationId)> {
        let last = self.captures.len().checked_sub(1)?;
        Some(self.captures[last - usize::from(n) % (last + 1).min(4)])
    }
    /// A command sent before: 0 is the latest.
    fn before(&self, n: u8) -> Option<&Command> {
        let last = self.sent.len().checked_sub(1)?;
        self.sent.get(last - usize::from(n) % (last + 1))
    }

    /// The account that owns a command's key, as far as clients know.
    pub(crate) fn owner(&self, command: &Command) -> Option<AccountId> {
        let of = |id: &AuthorizationId| self.owners.get(id).copied();
        match command {
            Command::OpenAccount(c) => Some(c.account),
            Command::UpdateAccount(c) => Some(c.account),
            Command::CloseAccount(c) => Some(c.account),
            Command::Authorize(c) => Some(c.account),
            Command::Increment(c) => of(&c.authorization),
            Command::Capture(c) => of(&c.authorization),
            Command::Void(c) => of(&c.authorization),
            Command::Refund(c) => match c.target {
                RefundTarget::Authorization(id) => of(&id),
                RefundTarget::Capture(id) => self.captures.iter().find(|(c, _)| *c == id).and_then(|(_, a)| of(a)),
            },
            Command::Reverse(c) => Some(c.account),
            Command::Advise(c) => Some(c.account),
            Command::Transfer(c) => Some(c.account),
            Command::Lookup(_) | Command::Read(_) | Command::Record(_) => None,
        }
    }

    /// Takes what a reply tells.
    pub(crate) fn learn(&mut self, command: &Command, reply: &Reply) {
        if !reply.outcome.is_approval() {
            return;
        }
        let makes_hold = matches!(command, Command::Authorize(_))
            || matches!(command, Command::Advise(c) if matches!(c.advice, Advice::Hold { .. }));
        if let (true, Some(id), Some(owner)) = (makes_hold, reply.authorization, self.owner(command))
            && self.owners.insert(id, owner).is_none()
        {
            self.authorizations.push((id, owner));
        }
        let captured = match command {
            Command::Capture(c) => Some(c.authorization),
            Command::Advise(Advise { advice: Advice::Post { authorization, .. }, .. }) => *authorization,
            _ => None,
        };
        if let (Some(transfer), Some(authorization)) = (reply.transfer, captured)
            && self.captures.iter().all(|(id, _)| *id != transfer)
        {
            self.captures.push((transfer, authorization));
        }
    }

    /// The command of an action; `None` when it names what nobody has learned yet, or is no command.
    pub(crate) fn command(&mut self, action: &Action) -> Option<Command> {
        let command = self.translate(action)?;
        if !matches!(action, Action::Again { .. }) && command.key().is_some() {
            self.sent.push(command.clone());
        }
        Some(command)
    }

    fn translate(&self, action: &Action) -> Option<Command> {
        let (key, note) = (self.fresh(), Note::default());
        Some(match *action {
            Action::Wait { .. } => return None,
            Action::Again { nth } => self.before(nth)?.clone(),
            Action::Conflict { nth, amount } => {
                let other = self.before(nth)?;
                let (account, key) = (self.owner(other)?, other.key()?);
                let payee = self.ids.into_iter().find(|id| *id != account)?;
                Transfer { key, account, payee, ledger: czk(), amount: minor(amount), note }.into()
            }
            Action::Update { account, what } => self.update(self.account(account), what),
            Action::Close { account } => CloseAccount { key, account: self.account(account), note }.into(),
            Action::Authorize { account, amount, partial, payee, tolerance, life } => Authorize {
                allow_partial: partial,
                payee: payee.map(|n| self.account(n)).filter(|id| *id != self.account(account)),
                tolerance_bp: tolerance,
                lifetime_ms: life,
                ..Authorize::new(key, self.account(account), czk(), minor(amount))
            }
            .into(),
            Action::Increment { hold, amount, life } => {
                let lifetime_ms = if amount == 0 { life.or(Some(3_600_000)) } else { life };
                Increment { key, authorization: self.authorization(hold)?, amount: minor(amount), lifetime_ms, note }
                    .into()
            }
            Action::Capture { hold, payee, amount, is_final } => {
                let (authorization, payee) = (self.authorization(hold)?, self.account(payee));
                Capture { key, authorization, payee, amount: minor(amount), is_final, note }.into()
            }
            Action::Void { hold, amount } => {
                Void { key, authorization: self.authorization(hold)?, amount: amount.map(minor), note }.into()
            }
            Action::Refund { capture, amount, by_authorization } => {
                let (capture, authorization) = self.capture(capture)?;
                let by_capture = RefundTarget::Capture(capture);
                let target = if by_authorization { RefundTarget::Authorization(authorization) } else { by_capture };
                Refund { key, target, amount: minor(amount), note }.into()
            }
            Action::Reverse { nth, total } => {
                let original = self.before(nth)?;
                let (account, original) = (self.owner(original)?, original.key()?);
                Reverse { key, account, original, new_total: total.map(minor), note }.into()
            }
            Action::ReverseEarly { account, ahead } => {
                let original = Self::key(self.sent.len() + 1 + usize::from(ahead));
                Reverse { key, account: self.account(account), original, new_total: None, note }.into()
            }
            Action::Lookup { nth, fence } => {
                let of = self.before(nth)?;
                Lookup { account: self.owner(of)?, key: of.key()?, fence }.into()
            }
            Action::LookupEarly { account, ahead, fence } => {
                let key = Self::key(self.sent.len() + usize::from(ahead));
                Lookup { account: self.account(account), key, fence }.into()
            }
            Action::AdviseHold { account, amount, life } => {
                let advice = Advice::Hold { lifetime_ms: life, payee: None };
                self.advise(account, amount, advice)
            }
            Action::AdvisePost { account, payee, amount } => {
                let payee = Some(self.account(payee)).filter(|id| *id != self.account(account))?;
                self.advise(account, amount, Advice::Post { payee, authorization: None })
            }
            Action::AdviseMatched { hold, payee, amount } => {
                let authorization = self.authorization(hold)?;
                let (owner, payee) = (*self.owners.get(&authorization)?, self.account(payee));
                let account = u8::try_from(self.ids.iter().position(|id| *id == owner)?).ok()?;
                let payee = Some(payee).filter(|id| *id != owner)?;
                self.advise(account, amount, Advice::Post { payee, authorization: Some(authorization) })
            }
            Action::Declined { account } => self.advise(account, 5, Advice::Declined),
            Action::Transfer { account, payee, amount } => {
                let (account, payee) = (self.account(account), self.account(payee));
                Transfer { key, account, payee, ledger: czk(), amount: minor(amount), note }.into()
            }
            Action::ReadAccount { account } => Read { target: ReadTarget::Account(self.account(account)) }.into(),
            Action::ReadHold { hold } => Read { target: ReadTarget::Authorization(self.authorization(hold)?) }.into(),
            Action::ReadCapture { capture } => Read { target: ReadTarget::Capture(self.capture(capture)?.0) }.into(),
        })
    }

    fn advise(&self, account: u8, amount: u16, advice: Advice) -> Command {
        let (key, account, amount) = (self.fresh(), self.account(account), minor(amount.max(1)));
        Advise { key, account, ledger: czk(), amount, advice, note: Note::default() }.into()
    }

    fn update(&self, account: AccountId, what: u8) -> Command {
        let credit = |n: u16| Some(CreditLimit::Amount(minor(n)));
        let (status, credit_limit) = match what % 6 {
            0 => (Some(Status::Frozen), None),
            1 => (Some(Status::DebitFrozen), None),
            2 => (None, credit(50)),
            3 => (None, credit(400)),
            _ => (Some(Status::Open), None),
        };
        UpdateAccount { key: self.fresh(), account, status, credit_limit, limits: None, note: Note::default() }.into()
    }
}
