//! A small text language for scenarios: one command a line, the expected reply at the end of it.
//!
//! ```text
//! scenario a hold is captured                               # a new world
//! open alice credit 1000                => approved available 1000
//! authorize alice 100 as A              => approved 100 held 100 available 900
//! capture A shop 40 as C key k          => approved 40 held 60
//! at +8d
//! check A expired held 0
//! ```
//! - `at +8d`: the time since the start of the scenario (`ms`, `s`, `m`, `h`, `d`); it stays until the next `at`.
//! - `as NAME` names the authorization or capture made; `key NAME` names the key (else each line has its own), `NAME@-5m` is a
//!   `uuid_v7` of that time from now. Accounts are their names. A name never bound is an id that nobody made.
//! - after `=>`: the outcome, the amount, `held`, `posted`, `available`, `expires`, and all remarks, `repeated` and `reversed`
//!   included: one that is not written must not be there.
//! - `policy`, right after `scenario`: `lifetime`, `lifetime-max`, `tolerance-max`, `offset` (minutes), `refund-window`.
//!
//! Owns parsing and comparison; refuses to know who answers (see [`Subject`]).

mod parse;

use std::collections::BTreeMap;

use tp_core::amount::Balances;
use tp_core::command::{Command, Status};
use tp_core::ids::{AccountId, AuthorizationId, TransferId};
use tp_core::outcome::Outcome;
use tp_core::reply::{AuthorizationState, Flags};
use tp_core::rules::Rules;
use tp_core::time::{DAY_MS, Time};

pub(crate) use parse::Words;

/// 2024-01-15T00:00:00Z, a day in the middle of a month.
pub(crate) const START: Time = Time(19_737 * DAY_MS);

/// A reply, as far as scenarios compare it.
#[derive(Clone, PartialEq, Debug)]
pub(crate) struct Observed {
    pub(crate) outcome: Outcome,
    pub(crate) repeated: bool,
    pub(crate) reversed: bool,
    pub(crate) flags: Flags,
    pub(crate) amount: i128,
    pub(crate) balances: Option<Balances>,
    pub(crate) authorization: Option<AuthorizationId>,
    pub(crate) transfer: Option<TransferId>,
    pub(crate) expires: Option<Time>,
}

/// An authorization, as far as scenarios compare it.
#[derive(Clone, PartialEq, Debug)]
pub(crate) struct ObservedHold {
    pub(crate) state: AuthorizationState,
    pub(crate) authorized: i128,
    pub(crate) held: i128,
    pub(crate) captured: i128,
    pub(crate) refunded: i128,
}

/// Whoever is asked: the core on some partitions, or the model.
pub(crate) trait Subject {
    fn start(&mut self, rules: Rules);
    fn call(&mut self, now: Time, command: &Command) -> Observed;
    fn account(&mut self, now: Time, id: AccountId) -> Option<(Balances, Status)>;
    fn hold(&mut self, now: Time, id: AuthorizationId) -> Option<ObservedHold>;
}

/// Runs a text. Returns what went wrong, each with its line number, and the outcomes seen.
pub(crate) fn run(text: &str, subject: &mut dyn Subject) -> (Vec<String>, Vec<Outcome>) {
    let mut runner =
        Runner { names: Names::default(), now: START, rules: Rules::default(), started: false, outcomes: Vec::new() };
    let mut failures = Vec::new();
    for (n, line) in text.lines().enumerate() {
        let line = line.split('#').next().unwrap_or_default().trim();
        if line.is_empty() {
            continue;
        }
        if let Err(problem) = runner.line(line, n, subject) {
            failures.push(format!("line {}: {line}\n      {problem}", n + 1));
        }
    }
    (failures, runner.outcomes)
}

/// What names stand for.
#[derive(Default)]
pub(crate) struct Names {
    authorizations: BTreeMap<String, AuthorizationId>,
    transfers: BTreeMap<String, TransferId>,
    accounts: BTreeMap<String, AccountId>,
}

struct Runner {
    names: Names,
    now: Time,
    rules: Rules,
    started: bool,
    outcomes: Vec<Outcome>,
}

impl Runner {
    fn line(&mut self, line: &str, n: usize, subject: &mut dyn Subject) -> Result<(), String> {
        let (asked, expected) = line.split_once("=>").map_or((line, ""), |(a, e)| (a.trim(), e.trim()));
        let mut words = Words::new(asked);
        match words.next()? {
            "scenario" => {
                *self = Self { outcomes: core::mem::take(&mut self.outcomes), ..Self::fresh() };
                return Ok(());
            }
            "policy" => return parse::policy(&mut words, &mut self.rules),
            "at" => {
                self.now = START.plus_ms(parse::duration(words.next()?)?.unsigned_abs());
                return words.end();
            }
            _ if !self.started => {
                self.started = true;
                subject.start(self.rules.clone());
            }
            _ => {}
        }
        let mut words = Words::new(asked);
        if asked.starts_with("check ") {
            return self.check(&mut words, subject);
        }
        let mut line = parse::command(&mut words, &mut self.names, self.now, n)?;
        words.end()?;
        let seen = subject.call(self.now, &line.command);
        self.outcomes.push(seen.outcome);
        if let Some(name) = line.name.take() {
            seen.authorization.map(|id| self.names.authorizations.insert(name.clone(), id));
            seen.transfer.map(|id| self.names.transfers.insert(name, id));
        }
        compare(&seen, expected, START).map_err(|problem| format!("{problem}\n      in {seen:?}"))
    }

    fn fresh() -> Self {
        Self { names: Names::default(), now: START, rules: Rules::default(), started: false, outcomes: Vec::new() }
    }

    fn check(&mut self, words: &mut Words, subject: &mut dyn Subject) -> Result<(), String> {
        words.next()?;
        let name = words.next()?;
        if let Some(id) = self.names.authorizations.get(name) {
            let hold = subject.hold(self.now, *id).ok_or("no such authorization")?;
            return check_hold(&hold, words);
        }
        let id = match name.strip_prefix("suspense-of:") {
            Some(of) => {
                let of = parse::account(&mut self.names, of);
                AccountId::suspense_of(crate::harness::SEED.slot_of(of), parse::ledger("CZK/2")?)
            }
            None => parse::account(&mut self.names, name),
        };
        let Some((balances, status)) = subject.account(self.now, id) else {
            return if words.next()? == "none" { words.end() } else { Err("no such account".into()) };
        };
        check_account(balances, status, words)
    }
}

fn same<T: Copy + PartialEq + core::fmt::Debug>(what: &str, seen: T, expected: T) -> Result<(), String> {
    if seen == expected { Ok(()) } else { Err(format!("{what} is {seen:?}, expected {expected:?}")) }
}

fn check_hold(hold: &ObservedHold, words: &mut Words) -> Result<(), String> {
    while let Some(word) = words.maybe() {
        match word {
            "authorized" => same(word, hold.authorized, words.number()?)?,
            "held" => same(word, hold.held, words.number()?)?,
            "captured" if words.peek_is_number() => same(word, hold.captured, words.number()?)?,
            "refunded" => same(word, hold.refunded, words.number()?)?,
            state => same("state", hold.state.name(), state)?,
        }
    }
    Ok(())
}

fn check_account(balances: Balances, status: Status, words: &mut Words) -> Result<(), String> {
    while let Some(word) = words.maybe() {
        match word {
            "status" => same(word, status, parse::status(words.next()?)?)?,
            _ => check_balance(word, balances, words)?,
        }
    }
    Ok(())
}

fn check_balance(word: &str, balances: Balances, words: &mut Words) -> Result<(), String> {
    match word {
        "posted" => same(word, balances.posted, words.number()?),
        "held" => same(word, i128::try_from(balances.held).unwrap_or(i128::MAX), words.number()?),
        "available" if words.take("unlimited") => same(word, balances.available, None),
        "available" => same(word, balances.available, Some(words.number()?)),
        other => Err(format!("{other:?} is not understood")),
    }
}

fn compare(seen: &Observed, expected: &str, start: Time) -> Result<(), String> {
    let mut words = Words::new(expected);
    same("outcome", seen.outcome.name(), words.next()?)?;
    if words.peek_is_number() {
        same("amount", seen.amount, words.number()?)?;
    } else if !seen.outcome.is_approval() {
        same("amount of a refusal", seen.amount, if seen.repeated { seen.amount } else { 0 })?;
    }
    let (mut repeated, mut reversed, mut flags) = (false, false, Vec::new());
    while let Some(word) = words.maybe() {
        match word {
            "repeated" => repeated = true,
            "reversed" => reversed = true,
            "expires" => same(word, seen.expires, Some(start.plus_ms(parse::duration(words.next()?)?.unsigned_abs())))?,
            "over_hold" | "overdrawn" | "unmatched" | "suspense" | "counter_suspense" => flags.push(word),
            "nobody" => same("balances", seen.balances, None)?,
            _ => check_balance(word, seen.balances.ok_or("no balances")?, &mut words)?,
        }
    }
    flags.sort_unstable();
    let mut seen_flags: Vec<&str> = seen.flags.names().collect();
    seen_flags.sort_unstable();
    same("remarks", seen_flags.join(" ").as_str(), flags.join(" ").as_str())?;
    same("repeated", seen.repeated, repeated)?;
    same("reversed", seen.reversed, reversed)
}
