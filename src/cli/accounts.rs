//! `tpcore accounts` and `tpcore state`: all accounts with their balances, now or as they stood then.

use std::path::Path;

use serde_json::{Value, json};
use tpcore::{AccountView, CreditLimit, UpTo, View, ViewOptions};

use super::args::{Accounts, State};
use super::event_json::{settings_json, status};
use super::exit::{Code, Failure};
use super::import::{print_totals, totals_json};
use super::open::open_view;
use super::output::{Output, Table, decimal, decimal_or_null, object, units, units_unsigned};
use super::point::Bound;

const CSV_HEADER: &str = "id,ledger,kind,status,debits,credits,held,available,version";

/// Runs `tpcore accounts`.
pub(crate) fn run(arguments: &Accounts, output: &mut Output) -> Result<Code, Failure> {
    let view = open_view(&arguments.directory.data_dir, ViewOptions::default())?;
    if arguments.csv {
        output.line(CSV_HEADER)?;
        for account in view.accounts() {
            output.line(&csv_line(&account))?;
        }
        return Ok(Code::Ok);
    }
    print(&view, output)
}

/// Runs `tpcore state`.
pub(crate) fn run_state(arguments: &State, output: &mut Output) -> Result<Code, Failure> {
    let view = view_at(&arguments.directory.data_dir, arguments.at.end())?;
    print(&view, output)
}

fn view_at(path: &Path, bound: Bound) -> Result<View, Failure> {
    let up_to = match bound {
        Bound::Time(time) => UpTo::Time(time),
        Bound::Seq(seq) => UpTo::Seq(seq),
    };
    open_view(path, ViewOptions { up_to, ..ViewOptions::default() })
}

fn print(view: &View, output: &mut Output) -> Result<Code, Failure> {
    let accounts = view.accounts();
    if output.is_json() {
        output.object(&object([
            ("last_seq", json!(view.last_seq().0)),
            ("last_time", json!(view.last_time().map(|time| time.to_string()))),
            ("accounts", accounts.iter().map(account_json).collect()),
            ("trial_balance", view.trial_balance().iter().map(totals_json).collect()),
            ("digest", json!(view.digest().to_string())),
        ]))?;
        return Ok(Code::Ok);
    }
    let header = ["account", "ledger", "status", "kind", "debits", "credits", "posted", "held", "available", "version"];
    let mut table = Table::new(&header, 3);
    for account in &accounts {
        table.row(cells(account));
    }
    table.print(output)?;
    output.line("")?;
    print_totals(&view.trial_balance(), output)?;
    let time = view.last_time().map_or_else(String::new, |time| format!(", {time}"));
    output.line(&format!("\nas of sequence number {}{time}", view.last_seq()))?;
    Ok(Code::Ok)
}

/// An account as JSON.
pub(crate) fn account_json(a: &AccountView) -> Value {
    json!({
        "id": decimal(a.account),
        "settings": settings_json(&a.settings),
        "debits": decimal(a.debits),
        "credits": decimal(a.credits),
        "posted": decimal(a.balances.posted),
        "held": decimal(a.balances.held),
        "available": decimal_or_null(a.balances.available),
        "version": a.version.0,
        "seq": a.seq.0,
    })
}

fn csv_line(a: &AccountView) -> String {
    let available = a.balances.available.map_or_else(String::new, |available| available.to_string());
    let (ledger, kind, status) = (a.settings.ledger, a.settings.kind, status(a.settings.status));
    let (id, held, version) = (a.account, a.balances.held, a.version.0);
    format!("{id},{ledger},{kind},{status},{},{},{held},{available},{version}", a.debits, a.credits)
}

fn cells(a: &AccountView) -> Vec<String> {
    let scale = a.settings.ledger.scale();
    let available = match (a.balances.available, a.settings.credit_limit) {
        (Some(available), CreditLimit::Amount(_)) => units(available, scale),
        _ => "unlimited".to_owned(),
    };
    vec![
        a.account.to_string(),
        a.settings.ledger.to_string(),
        status(a.settings.status).to_owned(),
        a.settings.kind.to_string(),
        units_unsigned(a.debits, scale),
        units_unsigned(a.credits, scale),
        units(a.balances.posted, scale),
        units_unsigned(a.balances.held, scale),
        available,
        a.version.0.to_string(),
    ]
}
