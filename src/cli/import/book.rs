//! Books the rows through an engine, day by day.
//!
//! Owns what is sent in which order, and the count of it. Refuses to know files and the form of the report.
//!
//! ```text
//!   directory not new: look up every row (no event) -> what is booked already -> limits still needed
//!   each day:  clock to the day | open accounts, raise limits | rows: serial within an account, together across accounts
//! ```
//! A new day starts when every command of the day before has its reply. A row whose money has moved before this run is not sent
//! again: its lookup gave the first answer, and is counted as a repeat. What is sent again after an interruption has the same
//! keys, so it has its effect once.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;

use indicatif::ProgressBar;
use tpcore::{AccountId, AccountView, Amount, Command, CreditLimit, Engine, GivenClock, Lookup, Outcome, Reply};

use super::super::exit::{Code, Failure};
use super::pipeline::Pipeline;
use super::plan::{
    Counter, LEDGER, account, capture, first_command, is_authorized, last_key, open_account, open_counter, payer,
    raise_limit,
};
use super::row::Row;

/// What was sent and what came back.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub(crate) struct Tally {
    /// Commands sent, lookups of rows that are booked already included; one sent again because it was not decided counts once.
    pub(crate) commands: u64,
    /// Replies marked repeated, lookups of rows that are booked already included.
    pub(crate) duplicates: u64,
    /// Refusals by outcome.
    pub(crate) refused: BTreeMap<&'static str, u64>,
}

impl Tally {
    fn count(&mut self, reply: &Reply) {
        self.commands += 1;
        self.duplicates += u64::from(reply.repeated);
        if !reply.outcome.is_approval() {
            *self.refused.entry(reply.outcome.name()).or_default() += 1;
        }
    }
}

/// What stood on the accounts and what of the file was booked before this run, then with it.
#[derive(Debug)]
pub(crate) struct Booked {
    /// Of the accounts of the file, before this run.
    pub(crate) accounts: BTreeMap<AccountId, AccountView>,
    /// Row by row: its money had moved before.
    pub(crate) before: Vec<bool>,
    /// Row by row: its money has moved.
    pub(crate) now: Vec<bool>,
    pub(crate) tally: Tally,
}

/// Books all rows.
///
/// # Errors
/// When an account of the directory cannot be the bank's, the disk is full, or the engine stopped.
pub(crate) fn book(
    engine: &Engine,
    clock: &GivenClock,
    rows: &[Row],
    progress: &ProgressBar,
) -> Result<Booked, Failure> {
    let mut pipeline = Pipeline::new(engine);
    let is_new = engine.last_seq() == tpcore::Seq::ZERO;
    let before = if is_new { vec![false; rows.len()] } else { look_up(&mut pipeline, rows)? };
    let accounts = if is_new { BTreeMap::new() } else { standing(engine, rows)? };
    let known = before.iter().filter(|is_booked| **is_booked).count() as u64;
    progress.inc(known);
    let tally = Tally { commands: known, duplicates: known, ..Tally::default() };
    let limits = if known == rows.len() as u64 { BTreeMap::new() } else { limits_needed(rows, &before, &accounts) };
    let mut booked = Booked { accounts, now: before.clone(), before, tally };
    let mut prepared = BTreeSet::new();
    for day in days(rows) {
        let open: Vec<usize> = day.filter(|index| booked.before.get(*index) == Some(&false)).collect();
        let day_rows: Vec<&Row> = open.iter().filter_map(|index| rows.get(*index)).collect();
        let Some(first) = day_rows.first() else { continue };
        clock.set(first.date.start());
        let commands = preparations(&day_rows, &limits, &booked.accounts, &mut prepared);
        prepare(&mut pipeline, &commands, &mut booked.tally)?;
        book_day(&mut pipeline, rows, open, &mut booked, progress)?;
    }
    Ok(booked)
}

/// The rows of each day.
fn days(rows: &[Row]) -> impl Iterator<Item = Range<usize>> {
    let mut start = 0;
    rows.chunk_by(|a, b| a.date == b.date).map(move |day| {
        let range = start..start + day.len();
        start = range.end;
        range
    })
}

/// Row by row whether its money has moved: a lookup of the key of its last step, which waits for an open exchange.
fn look_up(pipeline: &mut Pipeline<'_>, rows: &[Row]) -> Result<Vec<bool>, Failure> {
    let mut known = vec![false; rows.len()];
    pipeline.run(rows.len(), &mut |lane, reply| {
        let row = rows.get(lane)?;
        match (reply, known.get_mut(lane)) {
            (None, _) => Some(Lookup { account: payer(row), key: last_key(row), fence: false }.into()),
            (Some(reply), Some(known)) => {
                *known = reply.outcome.is_approval();
                None
            }
            (Some(_), None) => None,
        }
    })?;
    Ok(known)
}

/// The accounts of the file that exist already.
fn standing(engine: &Engine, rows: &[Row]) -> Result<BTreeMap<AccountId, AccountView>, Failure> {
    let named: BTreeSet<AccountId> = rows.iter().flat_map(|row| [account(row), Counter::of(row).account()]).collect();
    let views = engine.accounts().map_err(|error| {
        Failure::new(Code::Check, format!("the accounts cannot be read: {error}; run the same command again"))
    })?;
    let views: BTreeMap<_, _> =
        views.into_iter().filter(|v| named.contains(&v.account)).map(|v| (v.account, v)).collect();
    match views.values().find(|view| view.settings.ledger != LEDGER) {
        None => Ok(views),
        Some(view) => Err(Failure::input(format!(
            "account {} of the data directory is kept in {}, the file books {LEDGER}: nothing was booked; import into another \
             directory",
            view.account, view.settings.ledger
        ))),
    }
}

/// How far below zero each account must be allowed to go for the rows that are still to be booked: minus the lowest of what
/// stands on it and the running sum of these rows. On a new account that is minus the lowest running sum of its own rows.
fn limits_needed(
    rows: &[Row],
    booked: &[bool],
    accounts: &BTreeMap<AccountId, AccountView>,
) -> BTreeMap<AccountId, Amount> {
    let mut sums: BTreeMap<AccountId, (i128, i128)> = BTreeMap::new();
    for (row, is_booked) in rows.iter().zip(booked) {
        let standing = || accounts.get(&account(row)).map_or(0, |view| view.balances.posted);
        let (sum, lowest) = sums.entry(account(row)).or_insert_with(|| (standing(), 0));
        if !is_booked {
            *sum = sum.saturating_add(row.signed());
            *lowest = (*lowest).min(*sum);
        }
    }
    // An overdraft beyond a single amount (2^96) cannot be allowed: the row is refused and reported.
    let limit = |lowest: i128| Amount::new(lowest.unsigned_abs()).unwrap_or(Amount::MAX);
    sums.into_iter().map(|(account, (_, lowest))| (account, limit(lowest))).collect()
}

/// What must be done before the rows of a day: accounts that are not prepared yet are opened or allowed more.
fn preparations(
    rows: &[&Row],
    limits: &BTreeMap<AccountId, Amount>,
    accounts: &BTreeMap<AccountId, AccountView>,
    prepared: &mut BTreeSet<AccountId>,
) -> Vec<Command> {
    let mut commands = Vec::new();
    for row in rows {
        let counter = Counter::of(row);
        if prepared.insert(counter.account()) {
            commands.push(open_counter(counter));
        }
        let id = account(row);
        if prepared.insert(id) {
            let limit = limits.get(&id).copied().unwrap_or_default();
            match accounts.get(&id).map(|view| view.settings.credit_limit) {
                None => commands.push(open_account(id, limit)),
                Some(CreditLimit::Amount(allowed)) if allowed < limit => commands.push(raise_limit(id, limit)),
                Some(CreditLimit::Amount(_) | CreditLimit::Unlimited) => {}
            }
        }
    }
    commands
}

fn prepare(pipeline: &mut Pipeline<'_>, commands: &[Command], tally: &mut Tally) -> Result<(), Failure> {
    pipeline.run(commands.len(), &mut |lane, reply| match reply {
        None => commands.get(lane).cloned(),
        Some(reply) => {
            tally.count(&reply);
            None
        }
    })
}

/// The rows of one account on one day, in the order of the file.
struct Lane {
    rows: Vec<usize>,
    at: usize,
    is_capturing: bool,
}

fn book_day(
    pipeline: &mut Pipeline<'_>,
    rows: &[Row],
    day: Vec<usize>,
    booked: &mut Booked,
    progress: &ProgressBar,
) -> Result<(), Failure> {
    let mut of_account: BTreeMap<u64, Vec<usize>> = BTreeMap::new();
    for index in day {
        if let Some(row) = rows.get(index) {
            of_account.entry(row.account).or_default().push(index);
        }
    }
    let mut lanes: Vec<Lane> = of_account.into_values().map(|rows| Lane { rows, at: 0, is_capturing: false }).collect();
    pipeline.run(lanes.len(), &mut |lane, reply| {
        let lane = lanes.get_mut(lane)?;
        match reply {
            None => lane.first(rows),
            Some(reply) => {
                booked.tally.count(&reply);
                lane.next(rows, &reply, &mut booked.now, progress)
            }
        }
    })
}

impl Lane {
    fn first(&self, rows: &[Row]) -> Option<Command> {
        rows.get(*self.rows.get(self.at)?).map(first_command)
    }

    /// After the reply to a command: the capture of an authorized row, or the next row.
    fn next(&mut self, rows: &[Row], reply: &Reply, booked: &mut [bool], progress: &ProgressBar) -> Option<Command> {
        let index = *self.rows.get(self.at)?;
        let row = rows.get(index)?;
        let is_first_of_two = is_authorized(row) && !self.is_capturing;
        if is_first_of_two
            && reply.outcome == Outcome::Approved
            && let Some(authorization) = reply.authorization
        {
            self.is_capturing = true;
            return Some(capture(row, authorization));
        }
        if let Some(booked) = booked.get_mut(index) {
            *booked |= reply.outcome.is_approval() && !is_first_of_two;
        }
        (self.at, self.is_capturing) = (self.at + 1, false);
        progress.inc(1);
        self.first(rows)
    }
}
