//! A statement in pages, newest line first.
//!
//! Owns the order of the lines, the balance after each, and where the next page begins; refuses to know what a leg means
//! ([`Line`]). Balances run back from what stands now; at the account's first leg they must come to zero.

use std::collections::HashMap;

use tp_core::event::{Body, Event, Leg};
use tp_core::ids::{AccountId, Seq, Version};
use tp_core::time::Time;

use super::chain::{Chain, Place, Step};
use super::error::HistoryError;
use super::legs::{ExchangeKey, Line, Opening, exchange_of};
use crate::engine::Engine;

/// Lines on one page at most.
pub const STATEMENT_LINES_MAX: usize = 1_000;
/// How many legs beyond a page the openings of the exchanges that end on it may lie.
pub const OPENING_LEGS_MAX: u64 = 1_000_000;

/// Which page of a statement.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct StatementQuery {
    /// Where it begins: [`StatementPage::next`] of the page before. `None`: at the account's last leg.
    pub before: Option<StatementCursor>,
    /// Leave out lines recorded earlier than this. `None`: down to the account's first leg.
    pub from: Option<Time>,
    /// Lines at most: 1 to [`STATEMENT_LINES_MAX`].
    pub limit: usize,
}

impl Default for StatementQuery {
    fn default() -> Self {
        Self { before: None, from: None, limit: 100 }
    }
}

/// Where the next page of a statement begins. A statement gives it and takes it back unchanged; its fields are open so that
/// it can travel. Event and version are tested against the journal; `posted` is taken as given, and only the account's first
/// leg shows that it was wrong.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct StatementCursor {
    /// Whose statement.
    pub account: AccountId,
    /// The event of the first leg on the next page.
    pub seq: Seq,
    /// The account's version after that leg (an event may have several of one account).
    pub version: Version,
    /// The posted balance after that leg, minor units.
    pub posted: i128,
}

/// One line.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct StatementLine {
    /// Its event.
    pub seq: Seq,
    /// When that was recorded.
    pub time: Time,
    /// What it means to the account.
    pub line: Line,
    /// The posted balance after it, minor units.
    pub posted: i128,
}

/// A page of a statement.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct StatementPage {
    /// Newest first.
    pub lines: Vec<StatementLine>,
    /// The next page; `None`: this one ends with the account's first leg, or the rest is earlier than was asked for.
    pub next: Option<StatementCursor>,
}

impl Engine {
    /// A page of an account's statement, newest line first; `None`: there is no such account. A line of an exchange that the
    /// account only answered has no counterparty, reference and value date when its opening lies too far back
    /// ([`super::OPENING_FRAMES_MAX`]).
    ///
    /// # Errors
    /// [`HistoryError`].
    pub fn statement(&self, account: AccountId, query: StatementQuery) -> Result<Option<StatementPage>, HistoryError> {
        if !(1..=STATEMENT_LINES_MAX).contains(&query.limit) {
            return Err(HistoryError::Limit { got: query.limit, most: STATEMENT_LINES_MAX });
        }
        let Some(now) = self.account(account)? else { return Ok(None) };
        let last = StatementCursor { account, seq: now.seq, version: now.version, posted: now.balances.posted };
        let cursor = query.before.unwrap_or(last);
        let is_possible = cursor.account == account
            && (Version(1)..=now.version).contains(&cursor.version)
            && (Seq(1)..=now.seq).contains(&cursor.seq);
        if !is_possible {
            return Err(HistoryError::Cursor { account, seq: cursor.seq });
        }
        let mut chain = Chain::new(self.journal(), account, Place { seq: cursor.seq, version: cursor.version });
        if query.before.is_some() && !chain.begins_at_a_leg()? {
            return Err(HistoryError::Cursor { account, seq: cursor.seq });
        }
        let page = Page { chain, query, lines: Vec::new(), open: HashMap::new(), next: None, is_full: false };
        page.read(cursor).map(Some)
    }
}

/// An end on the page whose opening was not found yet.
struct OpenEnd {
    line: usize,
    event: Event,
    leg: Leg,
}

struct Page<'a> {
    chain: Chain<'a>,
    query: StatementQuery,
    lines: Vec<StatementLine>,
    /// At most one for each line.
    open: HashMap<ExchangeKey, OpenEnd>,
    /// The first leg that is not on the page.
    next: Option<Place>,
    /// Nothing more goes on it.
    is_full: bool,
}

impl Page<'_> {
    fn read(mut self, from: StatementCursor) -> Result<StatementPage, HistoryError> {
        let mut last = from.seq;
        while !self.is_full || !self.open.is_empty() {
            self.chain.within(OPENING_LEGS_MAX + STATEMENT_LINES_MAX as u64, last)?;
            let Some(step) = self.chain.next()? else { break };
            last = step.seq;
            self.take(&step)?;
        }
        if !self.open.is_empty() {
            return Err(self.chain.damage(last, "EXC-1: an exchange ends that the account never opened"));
        }
        self.balance(from, last)
    }

    fn take(&mut self, step: &Step) -> Result<(), HistoryError> {
        if let Body::Opened(e) = &step.event.body
            && let Some(end) = self.open.remove(&(e.head.slot, e.number))
        {
            self.lines[end.line].line = Line::of(&end.event, end.leg, Some(&Opening::of(e)));
        }
        for leg in &step.legs {
            if self.is_full {
                return Ok(());
            }
            if self.query.from.is_some_and(|from| step.event.time < from) {
                self.is_full = true;
            } else if self.lines.len() == self.query.limit {
                self.is_full = true;
                self.next = Some(Place { seq: step.seq, version: leg.version });
            } else {
                self.add(step, *leg)?;
            }
        }
        Ok(())
    }

    fn add(&mut self, step: &Step, leg: Leg) -> Result<(), HistoryError> {
        let opening = match &step.event.body {
            Body::Answered(e) => self.chain.reader.opening(step.seq, (e.opener, e.number), e.transfer.time())?,
            _ => None,
        };
        if let (Body::Ended(_), Some(exchange)) = (&step.event.body, exchange_of(&step.event, leg.role)) {
            let event = step.event.clone();
            self.open.insert(exchange, OpenEnd { line: self.lines.len(), event, leg });
        }
        let line = Line::of(&step.event, leg, opening.as_ref());
        self.lines.push(StatementLine { seq: step.seq, time: step.event.time, line, posted: 0 });
        Ok(())
    }

    /// The balance after each line, once the amount of each is known.
    fn balance(mut self, from: StatementCursor, last: Seq) -> Result<StatementPage, HistoryError> {
        let mut posted = from.posted;
        for line in &mut self.lines {
            line.posted = posted;
            let before = posted.checked_sub(line.line.amount);
            posted = before.ok_or_else(|| self.chain.damage(line.seq, "a sum leaves its range"))?;
        }
        let is_first = self.lines.last().is_some_and(|line| line.line.version == Version(1));
        if is_first && posted != 0 {
            return Err(self.chain.damage(last, "the account's legs do not sum to its balance"));
        }
        let account = self.chain.account;
        let next = self.next.map(|Place { seq, version }| StatementCursor { account, seq, version, posted });
        Ok(StatementPage { lines: self.lines, next })
    }
}
