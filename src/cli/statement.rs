//! `tpcore statement`: every leg of one account, with the balance after each.

use std::ops::ControlFlow;

use serde_json::{Value, json};
use tpcore::history::{Legs, Line};
use tpcore::{AccountView, Ledger, Seq, Time, UpTo};

use super::args::Statement;
use super::exit::{Code, Failure};
use super::open::replay;
use super::output::{Output, Table, decimal, decimal_or_null, object, units, units_unsigned};
use super::point::{Bound, Point};

/// A line with its place and the balances after it.
struct Entry {
    seq: Seq,
    time: Time,
    line: Line,
    posted: i128,
    held: u128,
}

/// Runs the command.
pub(crate) fn run(arguments: &Statement, output: &mut Output) -> Result<Code, Failure> {
    let from = arguments.from.map_or(Bound::Seq(Seq::ZERO), Point::start);
    let up_to = match arguments.to.map(Point::end) {
        None => UpTo::End,
        Some(Bound::Seq(seq)) => UpTo::Seq(seq),
        Some(Bound::Time(time)) => UpTo::Time(time),
    };
    let (mut legs, mut entries, mut opening, mut posted, mut wrong) = (Legs::default(), Vec::new(), 0, 0, None);
    let view = replay(&arguments.directory.data_dir, up_to, &mut |seq, event, view| {
        let mut lines = Vec::new();
        legs.each(event, |account| account == arguments.account, |_, line| lines.push(line));
        if lines.is_empty() {
            return ControlFlow::Continue(());
        }
        let Some(account) = view.account(arguments.account) else { return ControlFlow::Continue(()) };
        for line in lines {
            posted += line.amount;
            if from.is_reached_by(seq, event.time) {
                entries.push(Entry { seq, time: event.time, line, posted, held: account.balances.held });
            } else {
                opening = posted;
            }
        }
        if posted != account.balances.posted {
            wrong = wrong.or(Some(seq));
        }
        ControlFlow::Continue(())
    })?;
    if let Some(seq) = wrong {
        let what = format!("the legs of account {} do not sum to its balance at event {seq}", arguments.account);
        return Err(Failure::new(
            Code::Check,
            format!("{what}: a bug or damage; run `tpcore verify` and report its output"),
        ));
    }
    let Some(account) = view.account(arguments.account) else { return Err(unknown(arguments)) };
    print(&account, opening, &entries, output)
}

fn unknown(arguments: &Statement) -> Failure {
    let when = if arguments.to.is_some() { " at that point" } else { "" };
    Failure::input(format!(
        "account {} does not exist{when} in {}: `tpcore accounts` lists those that do",
        arguments.account,
        arguments.directory.data_dir.display()
    ))
}

fn print(account: &AccountView, opening: i128, entries: &[Entry], output: &mut Output) -> Result<Code, Failure> {
    if output.is_json() {
        output.object(&object([
            ("account", decimal(account.account)),
            ("ledger", json!(account.settings.ledger.to_string())),
            ("opening_balance", decimal(opening)),
            ("legs", entries.iter().map(entry_json).collect()),
            ("closing_balance", decimal(account.balances.posted)),
            ("held", decimal(account.balances.held)),
            ("available", decimal_or_null(account.balances.available)),
        ]))?;
        return Ok(Code::Ok);
    }
    let ledger = account.settings.ledger;
    output.line(&format!(
        "account {}, {}, opening balance {}",
        account.account,
        ledger,
        units(opening, ledger.scale())
    ))?;
    let header = [
        "time",
        "value date",
        "what",
        "outcome",
        "counterparty",
        "reference",
        "version",
        "seq",
        "amount",
        "balance",
        "held",
    ];
    let mut table = Table::new(&header, 6);
    for entry in entries {
        table.row(cells(entry, ledger));
    }
    table.print(output)?;
    output.line(&format!("closing balance {}", units(account.balances.posted, ledger.scale())))?;
    Ok(Code::Ok)
}

fn entry_json(entry: &Entry) -> Value {
    let line = &entry.line;
    json!({
        "version": line.version.0,
        "seq": entry.seq.0,
        "time": entry.time.to_string(),
        "value_date": line.value_date.map(|date| date.to_string()),
        "event": line.event,
        "what": line.what,
        "outcome": line.outcome.map(tpcore::Outcome::name),
        "counterparty": decimal_or_null(line.counterparty),
        "reference": line.reference,
        "authorization": line.authorization.map(|id| id.to_string()),
        "transfer": line.transfer.map(|id| id.to_string()),
        "amount": decimal(line.amount),
        "balance_after": decimal(entry.posted),
        "held_after": decimal(entry.held),
    })
}

fn cells(entry: &Entry, ledger: Ledger) -> Vec<String> {
    let line = &entry.line;
    let scale = ledger.scale();
    vec![
        entry.time.to_string(),
        line.value_date.map_or_else(String::new, |date| date.to_string()),
        format!("{} {}", line.event, line.what),
        line.outcome.map_or_else(String::new, |outcome| outcome.to_string()),
        line.counterparty.map_or_else(String::new, |id| id.to_string()),
        line.reference.clone().unwrap_or_default(),
        line.version.0.to_string(),
        entry.seq.to_string(),
        units(line.amount, scale),
        units(entry.posted, scale),
        units_unsigned(entry.held, scale),
    ]
}
