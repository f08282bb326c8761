//! What an import did, checked against the journal: the state is built again from it, after the engine was closed.
//!
//! Owns the comparison of accounts with the sums of their rows, the deviation from the bank's balances, and the report's
//! form. Refuses to correct anything.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::time::Duration;

use serde_json::{Map, Value, json};
use tpcore::event::Event;
use tpcore::history::Legs;
use tpcore::{AccountId, LedgerTotals, View};

use super::super::exit::{Code, Failure};
use super::super::output::{Output, Table, decimal, object, units, units_unsigned};
use super::book::Booked;
use super::csv::Sheet;
use super::plan::{LEDGER, account};
use super::row::Direction;

/// What is reported.
pub(crate) struct Report {
    rows: u64,
    rows_identical: u64,
    /// Bank accounts in the file.
    accounts: u64,
    booked: Booked,
    events: u64,
    elapsed: Duration,
    deviation: u128,
    /// Accounts whose debits or credits are not what stood before plus the sums of their rows.
    differing: Vec<AccountId>,
    totals: Vec<LedgerTotals>,
    digest: String,
    last_seq: u64,
}

/// How far the run came in the journal, and how long it took.
pub(crate) struct Span {
    pub(crate) seq_before: u64,
    pub(crate) elapsed: Duration,
}

impl Report {
    pub(crate) fn new(sheet: &Sheet, booked: Booked, span: &Span, running: &Running, view: &View) -> Self {
        let last_seq = view.last_seq().0;
        Self {
            rows: sheet.rows.len() as u64,
            rows_identical: sheet.rows_identical,
            accounts: sheet.rows.iter().map(account).collect::<BTreeSet<_>>().len() as u64,
            events: last_seq.saturating_sub(span.seq_before),
            elapsed: span.elapsed,
            deviation: running.deviation(sheet, &booked),
            differing: differing(sheet, &booked, view),
            totals: view.trial_balance(),
            digest: view.digest().to_string(),
            last_seq,
            booked,
        }
    }

    /// Whether everything is as it should be.
    fn code(&self) -> Code {
        let balanced = self.totals.iter().all(LedgerTotals::is_balanced);
        let good = balanced && self.booked.tally.refused.is_empty() && self.differing.is_empty();
        if good { Code::Ok } else { Code::Check }
    }

    fn events_per_second(&self) -> u64 {
        let us = self.elapsed.as_micros().max(1);
        u64::try_from(u128::from(self.events) * 1_000_000 / us).unwrap_or(u64::MAX)
    }

    fn json(&self) -> Map<String, Value> {
        let refused: Map<String, Value> =
            self.booked.tally.refused.iter().map(|(name, count)| ((*name).to_owned(), json!(count))).collect();
        object([
            ("rows", json!(self.rows)),
            ("rows_identical", json!(self.rows_identical)),
            ("accounts", json!(self.accounts)),
            ("commands", json!(self.booked.tally.commands)),
            ("events", json!(self.events)),
            ("duplicates", json!(self.booked.tally.duplicates)),
            ("refused", Value::Object(refused)),
            ("accounts_differing", self.differing.iter().map(decimal).collect()),
            ("max_deviation_minor", decimal(self.deviation)),
            ("trial_balance", self.totals.iter().map(totals_json).collect()),
            ("digest", json!(self.digest)),
            ("last_seq", json!(self.last_seq)),
            ("events_per_second", json!(self.events_per_second())),
        ])
    }

    /// Prints it and says how the command ends.
    pub(crate) fn print(&self, output: &mut Output) -> Result<Code, Failure> {
        if output.is_json() {
            output.object(&self.json())?;
        } else {
            self.text(output)?;
        }
        Ok(self.code())
    }

    fn text(&self, output: &mut Output) -> Result<(), Failure> {
        let identical = match self.rows_identical {
            0 => String::new(),
            n => format!(" ({n} identical rows left out)"),
        };
        let tally = &self.booked.tally;
        output.line(&format!("rows           {}{identical}", self.rows))?;
        output.line(&format!("accounts       {}", self.accounts))?;
        output.line(&format!("commands       {}, of them {} booked before", tally.commands, tally.duplicates))?;
        output.line(&format!("events         {} ({} a second)", self.events, self.events_per_second()))?;
        let refused: Vec<String> = tally.refused.iter().map(|(name, count)| format!("{count} {name}")).collect();
        let refused = if refused.is_empty() { "nothing".to_owned() } else { refused.join(", ") };
        output.line(&format!("refused        {refused}"))?;
        for account in &self.differing {
            output.line(&format!("DIFFERS        account {account}: its balance is not the sum of its rows"))?;
        }
        let deviation = units_unsigned(self.deviation, LEDGER.scale());
        output.line(&format!("deviation      at most {deviation} {} from the bank's balances", LEDGER.asset()))?;
        output.line(&format!("last sequence  {}", self.last_seq))?;
        output.line(&format!("digest         {}", self.digest))?;
        print_totals(&self.totals, output)
    }
}

/// One ledger of the trial balance as JSON.
pub(crate) fn totals_json(totals: &LedgerTotals) -> Value {
    json!({
        "ledger": totals.ledger.to_string(),
        "debits": decimal(totals.debits),
        "credits": decimal(totals.credits),
        "balanced": totals.is_balanced(),
    })
}

/// The trial balance for people.
pub(crate) fn print_totals(totals: &[LedgerTotals], output: &mut Output) -> Result<(), Failure> {
    let mut table = Table::new(&["ledger", "debits", "credits", "in transit", "balanced"], 1);
    for t in totals {
        let scale = t.ledger.scale();
        let balanced = if t.is_balanced() { "yes" } else { "NO" };
        let sums = [units_unsigned(t.debits, scale), units_unsigned(t.credits, scale), units(t.in_transit, scale)];
        let cells = std::iter::once(t.ledger.to_string()).chain(sums).chain([balanced.to_owned()]);
        table.row(cells.collect());
    }
    table.print(output)
}

/// The accounts' running balances, as the journal has them: after each row's money moved.
#[derive(Default)]
pub(crate) struct Running {
    legs: Legs,
    /// The bank accounts of the file and what stands on them.
    posted: HashMap<AccountId, i128>,
    /// Transaction → its account's balance after it.
    after: HashMap<u64, i128>,
}

impl Running {
    pub(crate) fn new(sheet: &Sheet) -> Self {
        Self { posted: sheet.rows.iter().map(|row| (account(row), 0)).collect(), ..Self::default() }
    }

    /// Takes the next event; it must see every one from the first on. A row's events carry its transaction as reference.
    pub(crate) fn take(&mut self, event: &Event) {
        let Self { legs, posted, after } = self;
        let mut moved = Vec::new();
        legs.each(event, |account| posted.contains_key(&account), |account, line| moved.push((account, line)));
        for (account, line) in moved {
            let Some(posted) = posted.get_mut(&account) else { continue };
            *posted += line.amount;
            if line.amount != 0
                && let Some(transaction) = line.reference.and_then(|reference| reference.parse().ok())
            {
                after.insert(transaction, *posted);
            }
        }
    }

    /// The largest difference from the bank's balances, over all rows that are booked.
    fn deviation(&self, sheet: &Sheet, booked: &Booked) -> u128 {
        let rows = sheet.rows.iter().zip(&booked.now).filter(|(_, now)| **now);
        rows.filter_map(|(row, _)| self.after.get(&row.id).map(|after| after.abs_diff(row.balance_after)))
            .max()
            .unwrap_or(0)
    }
}

/// The bank accounts whose debits or credits are not what they were plus the rows of this run.
fn differing(sheet: &Sheet, booked: &Booked, view: &View) -> Vec<AccountId> {
    let mut expected: BTreeMap<AccountId, (u128, u128)> = BTreeMap::new();
    for ((row, before), now) in sheet.rows.iter().zip(&booked.before).zip(&booked.now) {
        let id = account(row);
        let stood = || booked.accounts.get(&id).map_or((0, 0), |view| (view.debits, view.credits));
        let (debits, credits) = expected.entry(id).or_insert_with(stood);
        let amount = if *now && !*before { row.amount.get() } else { 0 };
        match row.direction {
            Direction::Debit => *debits += amount,
            Direction::Credit => *credits += amount,
        }
    }
    let is_as_expected =
        |id: &AccountId, sums: &(u128, u128)| view.account(*id).is_some_and(|v| (v.debits, v.credits) == *sums);
    expected.into_iter().filter(|(id, sums)| !is_as_expected(id, sums)).map(|(id, _)| id).collect()
}
