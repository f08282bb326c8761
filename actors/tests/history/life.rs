//! Random commands over the whole life cycle, many in flight, and what the whole journal says of every account after them.
//!
//! The truth is made by other means than what is tested: a view replays the journal from its first event.

use std::collections::BTreeMap;
use std::ops::ControlFlow;
use std::path::Path;
use std::time::Duration;

use tp_actors::history::{Legs, Line, Names};
use tp_actors::tp_core::amount::CreditLimit;
use tp_actors::tp_core::command::{
    Advice, Advise, Authorize, Capture, CloseAccount, Command, Increment, Note, OpenAccount, Refund, RefundTarget,
    Reverse, Settings, Status, Transfer, UpdateAccount, Void,
};
use tp_actors::tp_core::event::Event;
use tp_actors::tp_core::ids::{AccountId, AuthorizationId, Seq, TransferId, Version};
use tp_actors::tp_core::key::Key;
use tp_actors::tp_core::metadata::Metadata;
use tp_actors::tp_core::reply::Reply;
use tp_actors::tp_core::time::{Date, Time};
use tp_actors::{Engine, GivenClock, UpTo, View};

use crate::common::{Random, START, amount, ledger};

/// Accounts that are opened; commands name two more that do not exist.
pub(crate) const ACCOUNTS: u64 = 12;

/// Commands of every kind, and what earlier ones made.
pub(crate) struct Life {
    random: Random,
    clock: GivenClock,
    now: u64,
    next_key: u64,
    keys: Vec<(AccountId, Key)>,
    pub(crate) authorizations: Vec<(AccountId, AuthorizationId)>,
    transfers: Vec<(AccountId, TransferId)>,
    sent: BTreeMap<u64, (AccountId, Command)>,
}

impl Life {
    pub(crate) fn new(seed: u64, clock: GivenClock) -> Self {
        let (keys, authorizations, transfers) = (Vec::new(), Vec::new(), Vec::new());
        Self {
            random: Random(seed),
            clock,
            now: START.0,
            next_key: 1_000,
            keys,
            authorizations,
            transfers,
            sent: BTreeMap::new(),
        }
    }

    fn account(&mut self) -> AccountId {
        // One in two is a busy one.
        let below = if self.random.below(2) == 0 { 6 } else { ACCOUNTS + 2 };
        AccountId(u128::from(self.random.below(below) + 1))
    }

    fn pick<T: Copy>(&mut self, from: impl Fn(&Self) -> &Vec<T>) -> Option<T> {
        let count = from(self).len() as u64;
        let at = self.random.below(count.max(1));
        // The newest ones are named most.
        let at = if self.random.below(3) == 0 { at } else { count.saturating_sub(1 + at % 12) };
        from(self).get(usize::try_from(at).expect("small")).copied()
    }

    fn note(&mut self) -> Note {
        let text = format!("ref {}", self.next_key);
        let metadata = Metadata::reference(&text).expect("short");
        let value_date = (self.random.below(2) == 0).then_some(Date(19_000));
        if self.random.below(3) == 0 { Note { value_date, metadata } } else { Note::default() }
    }

    fn command(&mut self) -> (AccountId, Command) {
        let (key, account, payee, note) =
            (Key::opaque(self.next_key.into()), self.account(), self.account(), self.note());
        let (ledger, sum) = (ledger(), amount(self.random.below(900) + 1));
        let known = self.pick(|life| &life.authorizations);
        let choice = self.random.below(100);
        let Some((payer, id)) = known.filter(|_| choice >= 25) else {
            let lifetime_ms = Some(1_000 + self.random.below(60_000));
            let allow_partial = self.random.below(4) == 0;
            let authorize = Authorize::new(key, account, ledger, sum);
            let tolerance_bp = 2_000;
            return (account, Authorize { lifetime_ms, allow_partial, tolerance_bp, note, ..authorize }.into());
        };
        match choice {
            25..33 => {
                (payer, Increment { key, authorization: id, amount: sum, lifetime_ms: Some(50_000), note }.into())
            }
            33..52 => {
                let is_final = self.random.below(3) == 0;
                (
                    payer,
                    Capture { key, authorization: id, payee, amount: amount(sum.get() as u64 / 3 + 1), is_final, note }
                        .into(),
                )
            }
            52..58 => {
                let part = (self.random.below(2) == 0).then_some(sum);
                (payer, Void { key, authorization: id, amount: part, note }.into())
            }
            58..66 => {
                let capture = self.pick(|life| &life.transfers);
                let (payer, target) = capture.map_or((payer, RefundTarget::Authorization(id)), |(payer, capture)| {
                    (payer, RefundTarget::Capture(capture))
                });
                (payer, Refund { key, target, amount: amount(sum.get() as u64 / 6 + 1), note }.into())
            }
            66..78 => {
                let (account, original) = self.pick(|life| &life.keys).unwrap_or((account, Key::opaque(1 << 100)));
                let new_total = (self.random.below(3) == 0).then_some(amount(sum.get() as u64 / 6));
                (account, Reverse { key, account, original, new_total, note }.into())
            }
            78..82 => {
                let advice = Advice::Hold { lifetime_ms: Some(20_000), payee: None };
                (account, Advise { key, account, ledger, amount: sum, advice, note }.into())
            }
            82..90 => {
                let matched = (self.random.below(3) > 0).then_some(id);
                let account = if matched.is_some() { payer } else { account };
                let advice = Advice::Post { payee, authorization: matched };
                (account, Advise { key, account, ledger, amount: sum, advice, note }.into())
            }
            90..93 => {
                let status =
                    Some([Status::Frozen, Status::DebitFrozen, Status::Open][self.random.below(8).min(2) as usize]);
                (account, UpdateAccount { key, account, status, credit_limit: None, limits: None, note }.into())
            }
            93 => (account, CloseAccount { key, account, note }.into()),
            _ => (account, Transfer { key, account, payee, ledger, amount: sum, note }.into()),
        }
    }

    fn next(&mut self) -> (u64, Command) {
        self.next_key += 1;
        self.now += self.random.below(200);
        self.clock.set(Time(self.now));
        let (owner, command) = self.command();
        self.sent.insert(self.next_key, (owner, command.clone()));
        (self.next_key, command)
    }

    fn learn(&mut self, tag: u64, reply: &Reply) {
        let Some((owner, command)) = self.sent.remove(&tag) else { return };
        if !reply.outcome.is_approval() {
            return;
        }
        self.keys.push((owner, Key::opaque(tag.into())));
        match (&command, reply.authorization) {
            (Command::Authorize(_), Some(id)) => self.authorizations.push((owner, id)),
            (Command::Advise(c), Some(id)) if matches!(c.advice, Advice::Hold { .. }) => {
                self.authorizations.push((owner, id));
            }
            (Command::Capture(_) | Command::Advise(_), _) => {
                self.transfers.extend(reply.transfer.map(|id| (owner, id)));
            }
            _ => {}
        }
    }

    pub(crate) fn open_accounts(engine: &Engine) {
        for id in 1..=ACCOUNTS {
            let limit = if id == 2 { CreditLimit::Unlimited } else { CreditLimit::Amount(amount(3_000)) };
            let settings = Settings { credit_limit: limit, ..Settings::new(ledger()) };
            let account = AccountId(id.into());
            let open = OpenAccount { key: Key::opaque(1), account, settings, note: Note::default() };
            assert!(engine.call_blocking(open).outcome.is_approval());
        }
    }

    /// Sends `commands` with up to `in_flight` at once.
    pub(crate) fn live(&mut self, engine: &Engine, commands: usize, in_flight: usize) {
        let mut client = engine.client(in_flight);
        let mut left = commands;
        while left > 0 || client.in_flight() > 0 {
            while left > 0 && client.in_flight() < in_flight {
                let (tag, command) = self.next();
                while client.submit(tag, &command).is_err() {
                    client.wait(Duration::from_millis(10));
                    client.poll(|tag, reply| self.learn(tag, &reply));
                }
                left -= 1;
            }
            client.wait(Duration::from_millis(100));
            client.poll(|tag, reply| self.learn(tag, &reply));
        }
    }
}

/// An account after one of its events.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Stood {
    pub(crate) seq: Seq,
    pub(crate) time: Time,
    pub(crate) version: Version,
    pub(crate) posted: i128,
    pub(crate) held: u128,
}

/// What the whole journal says of one account, oldest first.
#[derive(Default)]
pub(crate) struct Known {
    pub(crate) lines: Vec<(Seq, Time, Line)>,
    pub(crate) stood: Vec<Stood>,
}

/// What the whole journal says.
#[derive(Default)]
pub(crate) struct Truth {
    pub(crate) accounts: BTreeMap<AccountId, Known>,
    /// The account that each authorization is booked on, and its events there.
    pub(crate) authorizations: BTreeMap<AuthorizationId, (AccountId, Vec<(Seq, Event)>)>,
    /// The last event that it knows; later ones (holds that expire) are none of its business.
    pub(crate) last: Seq,
    /// How often each kind of line was met.
    pub(crate) kinds: BTreeMap<String, usize>,
}

impl Truth {
    pub(crate) fn of(data: &Path) -> Self {
        let (mut truth, mut legs, mut names) = (Self::default(), Legs::default(), BTreeMap::new());
        View::replay(data, UpTo::End, &mut |seq, event, view| {
            truth.last = seq;
            let mut touched = Vec::new();
            legs.each(event, |_| true, |account, line| touched.push((account, line)));
            for (account, line) in &touched {
                let outcome = line.outcome.map_or("", |outcome| outcome.name());
                *truth.kinds.entry(format!("{} {} {outcome}", line.event, line.what)).or_default() += 1;
                truth.accounts.entry(*account).or_default().lines.push((seq, event.time, line.clone()));
                if line.event == "authorized"
                    && let Some(id) = line.authorization
                {
                    names.insert(id, Names::new(id));
                    truth.authorizations.insert(id, (*account, Vec::new()));
                }
            }
            touched.dedup_by_key(|(account, _)| *account);
            for (account, _) in &touched {
                let now = view.account(*account).expect("it was touched");
                let known = truth.accounts.entry(*account).or_default();
                if known.stood.last().is_none_or(|last| last.seq < seq) {
                    let (posted, held) = (now.balances.posted, now.balances.held);
                    known.stood.push(Stood { seq, time: event.time, version: now.version, posted, held });
                }
            }
            for (id, names) in &mut names {
                let (account, events) = truth.authorizations.get_mut(id).expect("it was made");
                if names.take(event) && touched.iter().any(|(touched, _)| touched == account) {
                    events.push((seq, event.clone()));
                }
            }
            ControlFlow::Continue(())
        })
        .expect("a good directory");
        truth
    }

    pub(crate) fn count(&self, kind: &str) -> usize {
        self.kinds.iter().filter(|(name, _)| name.starts_with(kind)).map(|(_, count)| count).sum()
    }
}
