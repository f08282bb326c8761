//! `tpcore authorization`: how an authorization stands, and every event that names it.
//!
//! The history is read from the journal's beginning, so it is whole however long ago the authorization closed. An event names
//! it by its id, by a capture or refund of it, by the key of a command on it, or by the number of an exchange of it.

use std::ops::ControlFlow;

use serde_json::{Map, Value, json};
use tpcore::history::Names;
use tpcore::{AuthorizationId, AuthorizationView, UpTo};

use super::args::Authorization;
use super::event_json::event_json;
use super::exit::{Code, Failure};
use super::open::replay;
use super::output::{Output, decimal, decimal_or_null, object};

/// Runs the command.
pub(crate) fn run(arguments: &Authorization, output: &mut Output) -> Result<Code, Failure> {
    let mut names = Names::new(arguments.id);
    let mut history = Vec::new();
    let view = replay(&arguments.directory.data_dir, UpTo::End, &mut |seq, event, _| {
        if names.take(event) {
            history.push(event_json(seq, event));
        }
        ControlFlow::Continue(())
    })?;
    if history.is_empty() {
        return Err(Failure::input(format!(
            "authorization {} does not exist in {}: `tpcore statement ACCOUNT --json` shows those of an account",
            arguments.id,
            arguments.directory.data_dir.display()
        )));
    }
    let state = view.authorization(arguments.id);
    if output.is_json() {
        output.object(&object([
            ("authorization", json!(arguments.id.to_string())),
            ("state", state.as_ref().map_or(Value::Null, state_json)),
            ("history", history.into_iter().map(Value::Object).collect()),
        ]))?;
    } else {
        text(arguments.id, state.as_ref(), &history, output)?;
    }
    Ok(Code::Ok)
}

fn state_json(a: &AuthorizationView) -> Value {
    let capture = |c: &tpcore::CaptureView| {
        json!({
            "transfer": c.transfer.to_string(),
            "payee": decimal(c.payee),
            "amount": decimal(c.amount),
            "refunded": decimal(c.refunded),
            "at": c.at.to_string(),
            "is_final": c.is_final,
        })
    };
    json!({
        "account": decimal(a.account),
        "payee": decimal_or_null(a.payee),
        "state": a.state.name(),
        "authorized": decimal(a.authorized),
        "held": decimal(a.held),
        "captured": decimal(a.captured),
        "refunded": decimal(a.refunded),
        "expires": a.expires.to_string(),
        "exchange_open": a.exchange_open,
        "captures": a.captures.iter().map(capture).collect::<Vec<_>>(),
    })
}

fn text(
    id: AuthorizationId,
    state: Option<&AuthorizationView>,
    history: &[Map<String, Value>],
    output: &mut Output,
) -> Result<(), Failure> {
    output.line(&format!("authorization {id}"))?;
    match state {
        None => output.line("closed so long ago that it has left memory; amounts in minor units")?,
        Some(a) => {
            output.line(&format!(
                "account {}, {}, expires {}; amounts in minor units",
                a.account,
                a.state.name(),
                a.expires
            ))?;
            let (authorized, held, captured, refunded) = (a.authorized, a.held, a.captured, a.refunded);
            output.line(&format!("authorized {authorized}, held {held}, captured {captured}, refunded {refunded}"))?;
        }
    }
    for event in history {
        let field = |name: &str| event.get(name).and_then(Value::as_str).unwrap_or_default();
        let what = if field("purpose").is_empty() { field("verb") } else { field("purpose") };
        let line = format!(
            "{:>10}  {}  {} {what} {} {}",
            event["seq"],
            field("time"),
            field("event"),
            field("outcome"),
            field("amount")
        );
        output.line(line.trim_end())?;
    }
    Ok(())
}
