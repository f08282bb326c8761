//! The clients: what they sent, whom they wait for, and whether what they are told is true.
//!
//! Owns every command ever sent with its attempts, and the tests of a reply: it says what the journal says (the oracle's record of
//! that sequence number), it came no earlier than the event was durable, nothing is told twice in two ways, what was read is
//! not older than what was known before it was asked. Refuses to know faults and schedules.

use std::collections::BTreeMap;

use tp_actors::Pending;
use tp_core::command::{Command, ReadTarget, RefundTarget};
use tp_core::ids::AccountId;
use tp_core::key::Key;
use tp_core::outcome::Outcome;
use tp_core::reply::{Detail, Reply};
use tp_core::time::Time;

use crate::oracle::{Hold, Oracle, Told, Wrong};

/// One submission of a command.
#[derive(Debug)]
pub(crate) struct Attempt {
    pending: Pending,
    /// The durable number when it was submitted.
    durable: u64,
    /// The account that it reads stood at this event.
    floor: u64,
    at: Time,
}

/// A command.
#[derive(Debug)]
pub(crate) struct Sent {
    pub(crate) command: Command,
    /// A reply said what became of it for good.
    pub(crate) is_resolved: bool,
}

/// What is going on around a reply.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Around {
    pub(crate) durable: u64,
    pub(crate) now: Time,
    /// Writes failed at some time, the engine is closing, was poisoned.
    pub(crate) had_no_space: bool,
    pub(crate) is_closing: bool,
    pub(crate) was_poisoned: bool,
}

/// All commands ever sent.
#[derive(Debug, Default)]
pub(crate) struct Clients {
    pub(crate) sent: Vec<Sent>,
    by_bits: BTreeMap<u128, Vec<usize>>,
    waiting: Vec<(usize, Attempt)>,
}

/// The key bits that a command decides, or asks about.
fn bits_of(command: &Command) -> Option<u128> {
    match command {
        Command::Lookup(c) => Some(c.key.bits),
        _ => command.key().map(|key| key.bits),
    }
}

impl Clients {
    /// A new command.
    pub(crate) fn add(&mut self, command: Command) -> usize {
        let number = self.sent.len();
        if let Some(bits) = bits_of(&command) {
            self.by_bits.entry(bits).or_default().push(number);
        }
        self.sent.push(Sent { command, is_resolved: false });
        number
    }

    /// One submission more.
    pub(crate) fn submitted(&mut self, number: usize, pending: Pending, oracle: &Oracle, durable: u64, at: Time) {
        let floor = match &self.sent[number].command {
            Command::Read(c) => match c.target {
                ReadTarget::Account(id) => oracle.accounts.get(&id).map_or(0, |account| account.seq),
                ReadTarget::Authorization(_) | ReadTarget::Capture(_) => 0,
            },
            _ => 0,
        };
        self.waiting.push((number, Attempt { pending, durable, floor, at }));
    }

    /// Every command ever sent with these key bits.
    pub(crate) fn asked(&self, bits: u128) -> Vec<Command> {
        let numbers = self.by_bits.get(&bits).into_iter().flatten();
        numbers.map(|number| self.sent[*number].command.clone()).collect()
    }

    /// How many submissions wait for a reply.
    pub(crate) fn waiting(&self) -> usize {
        self.waiting.len()
    }

    /// A client goes away: its reply is never looked at.
    pub(crate) fn disappear(&mut self, which: usize) {
        if !self.waiting.is_empty() {
            drop(self.waiting.swap_remove(which % self.waiting.len()));
        }
    }

    /// Takes the replies that are there. Each is tested, then handed over.
    ///
    /// # Errors
    /// A reply that is not true.
    pub(crate) fn poll(
        &mut self,
        oracle: &Oracle,
        around: Around,
        mut each: impl FnMut(&Command, &Reply),
    ) -> Result<(), Wrong> {
        for (number, mut attempt) in std::mem::take(&mut self.waiting) {
            let Some(reply) = attempt.pending.try_take() else {
                self.waiting.push((number, attempt));
                continue;
            };
            let command = &self.sent[number].command;
            self.check(oracle, command, &attempt, &reply, around).map_err(|wrong| {
                let Attempt { at, durable, .. } = attempt;
                format!(
                    "{wrong}\n command {command:?}\n submitted at {at} behind event {durable}\n {reply:?}\n {around:?}"
                )
            })?;
            each(command, &reply);
            self.sent[number].is_resolved |= !is_open(reply.outcome);
        }
        Ok(())
    }

    fn check(
        &self,
        oracle: &Oracle,
        command: &Command,
        attempt: &Attempt,
        reply: &Reply,
        around: Around,
    ) -> Result<(), Wrong> {
        let allow = |holds: bool| if holds { Ok(()) } else { Err(format!("`{}` is not true", reply.outcome)) };
        match reply.outcome {
            Outcome::Busy | Outcome::DeadlineExceeded | Outcome::InProgress => Ok(()),
            Outcome::NoSpace => allow(around.had_no_space),
            Outcome::Stopping => allow(around.is_closing),
            Outcome::SystemError => allow(around.was_poisoned),
            Outcome::Malformed => allow(!command.is_well_formed() || matches!(command, Command::Capture(_))),
            _ if reply.seq.0 > around.durable => Err("it is acknowledged and not durable".into()),
            _ => match command {
                Command::Read(read) => check_read(oracle, read.target, attempt, reply, around.now),
                Command::Record(record) => {
                    let written = oracle.recorded.get(&reply.seq.0);
                    let is_it =
                        written.is_some_and(|(stream, bytes)| (*stream, &bytes[..]) == (record.stream, &record.bytes));
                    allow(reply.outcome == Outcome::Approved && is_it)
                }
                _ if reply.seq.0 == 0 => self.check_undecided(oracle, command, attempt, reply, around),
                _ => check_decided(oracle, command, attempt, reply),
            },
        }
    }

    /// Nothing was decided: the reason must hold.
    fn check_undecided(
        &self,
        oracle: &Oracle,
        command: &Command,
        attempt: &Attempt,
        reply: &Reply,
        around: Around,
    ) -> Result<(), Wrong> {
        let holds = match reply.outcome {
            Outcome::KeyExpired => keys_of(command)
                .into_iter()
                .flatten()
                .any(|key| oracle.is_out_of_window(key, attempt.at) || oracle.is_out_of_window(key, around.now)),
            Outcome::IdempotencyConflict => {
                let own = (command.key().map(|key| key.kind), command.fingerprint());
                let others = bits_of(command).map(|bits| self.asked(bits)).unwrap_or_default();
                others.iter().any(|c| (c.key().map(|key| key.kind), c.fingerprint()) != own)
            }
            Outcome::AccountNotFound => account_of(command).is_some_and(|id| oracle.opened_after(id, attempt.durable)),
            Outcome::OriginalNotFound => match command {
                Command::Lookup(c) => oracle.is_unknown(c.account, c.key, attempt.durable, around.now),
                _ => hold_of(oracle, command).is_none_or(|id| oracle.visible_hold(id, around.now).is_none()),
            },
            Outcome::RefundWindowPassed => {
                hold_of(oracle, command).is_none_or(|id| oracle.visible_hold(id, around.now).is_none())
            }
            _ => false,
        };
        if holds { Ok(()) } else { Err(format!("`{}` without an event is not true", reply.outcome)) }
    }
}

/// Whether the reply leaves open what became of the command.
fn is_open(outcome: Outcome) -> bool {
    matches!(
        outcome,
        Outcome::Busy
            | Outcome::DeadlineExceeded
            | Outcome::InProgress
            | Outcome::NoSpace
            | Outcome::Stopping
            | Outcome::SystemError
    )
}

fn keys_of(command: &Command) -> [Option<Key>; 2] {
    match command {
        Command::Lookup(c) => [Some(c.key), None],
        Command::Reverse(c) => [Some(c.key), Some(c.original)],
        _ => [command.key(), None],
    }
}

fn account_of(command: &Command) -> Option<AccountId> {
    match command {
        Command::UpdateAccount(c) => Some(c.account),
        Command::CloseAccount(c) => Some(c.account),
        Command::Authorize(c) => Some(c.account),
        Command::Transfer(c) => Some(c.account),
        Command::Reverse(c) => Some(c.account),
        _ => None,
    }
}

/// The account that a command says owns its key.
fn named_account(command: &Command) -> Option<AccountId> {
    match command {
        Command::OpenAccount(c) => Some(c.account),
        Command::Advise(c) => Some(c.account),
        Command::Lookup(c) => Some(c.account),
        _ => account_of(command),
    }
}

/// The authorization that a later verb names.
fn hold_of(oracle: &Oracle, command: &Command) -> Option<u128> {
    match command {
        Command::Increment(c) => Some(c.authorization.0),
        Command::Capture(c) => Some(c.authorization.0),
        Command::Void(c) => Some(c.authorization.0),
        Command::Refund(c) => match c.target {
            RefundTarget::Authorization(id) => Some(id.0),
            RefundTarget::Capture(id) => oracle.hold_of_capture(id.0),
        },
        _ => None,
    }
}

fn check_decided(oracle: &Oracle, command: &Command, attempt: &Attempt, reply: &Reply) -> Result<(), Wrong> {
    let bits = bits_of(command).ok_or("a decision about no key")?;
    let told = oracle.told.get(&reply.seq.0).into_iter().flatten().find(|told| told.key.bits == bits);
    let told = told.ok_or_else(|| format!("event {} tells nothing of this key", reply.seq.0))?;
    let said = Told {
        account: told.account,
        key: told.key,
        // The answer of another command with the same key is a conflict, not an answer.
        fingerprint: told.fingerprint.map(|first| command.key().map_or(first, |_| command.fingerprint())),
        outcome: reply.outcome,
        flags: reply.flags,
        amount: i128::try_from(reply.amount.get()).map_err(|_| "an amount out of range")?,
        authorization: reply.authorization.map_or(0, |id| id.0),
        transfer: reply.transfer.map_or(0, |id| id.0),
        expires: reply.expires.unwrap_or(Time(0)),
        seq: reply.seq.0,
        version: reply.version.0,
        balances: if reply.repeated { told.balances } else { reply.balances },
    };
    let is_own_key = command.key().is_none_or(|key| key == told.key);
    if !is_own_key || named_account(command).is_some_and(|account| account != told.account) {
        return Err(format!("it is about another key: {told:?}"));
    }
    if said != *told {
        return Err(format!("the journal tells {told:?}"));
    }
    if !reply.repeated && reply.seq.0 <= attempt.durable {
        return Err("it is decided before it was asked for".into());
    }
    Ok(())
}

fn check_read(oracle: &Oracle, target: ReadTarget, attempt: &Attempt, reply: &Reply, now: Time) -> Result<(), Wrong> {
    match (target, reply.detail.as_deref()) {
        (ReadTarget::Account(id), Some(Detail::Account(view))) if view.account == id => {
            let seen = oracle.seen.get(&(view.account, view.seq.0));
            if seen != Some(&(view.balances, view.version.0)) {
                return Err(format!("the account was {seen:?} at event {}", view.seq.0));
            }
            if view.seq.0 < attempt.floor {
                return Err(format!("it is older than event {}, known before it was asked", attempt.floor));
            }
            Ok(())
        }
        (ReadTarget::Authorization(id), Some(Detail::Authorization(view))) if view.authorization == id => {
            match oracle.holds.get(&view.authorization.0) {
                Some(hold) if hold.place == view.account || hold.payer == view.account => Ok(()),
                hold => Err(format!("the authorization is {hold:?}")),
            }
        }
        (ReadTarget::Capture(id), Some(Detail::Authorization(view))) => {
            let names = |hold: &Hold| hold.captures.iter().any(|capture| capture.id == id.0);
            match oracle.holds.get(&view.authorization.0) {
                Some(hold) if names(hold) && view.captures.iter().any(|capture| capture.transfer == id) => Ok(()),
                hold => Err(format!("the authorization is {hold:?}")),
            }
        }
        (ReadTarget::Account(id), None)
            if reply.outcome == Outcome::AccountNotFound && oracle.opened_after(id, attempt.durable) =>
        {
            Ok(())
        }
        (ReadTarget::Authorization(id), None)
            if reply.outcome == Outcome::OriginalNotFound && oracle.visible_hold(id.0, now).is_none() =>
        {
            Ok(())
        }
        (ReadTarget::Capture(id), None) if reply.outcome == Outcome::OriginalNotFound => {
            let names = |hold: &Hold| hold.captures.iter().any(|capture| capture.id == id.0);
            let mut named = oracle.holds.iter().filter(|(_, hold)| names(hold));
            match named.find(|(hold, _)| oracle.visible_hold(**hold, now).is_some()) {
                None => Ok(()),
                Some((_, hold)) => Err(format!("the authorization is {hold:?}")),
            }
        }
        _ => Err("it is not what was asked for".into()),
    }
}
