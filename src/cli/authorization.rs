//! `tpcore authorization`: how an authorization stands, and every event that names it.
//!
//! The history is read from the journal's beginning, so it is whole however long ago the authorization closed. An event names
//! it by its id, by a capture or refund of it, by the key of a command on it, or by the number of an exchange of it.

use std::collections::HashSet;
use std::ops::ControlFlow;

use serde_json::{Map, Value, json};
use tpcore::event::{Body, Event, Head, Movement};
use tpcore::{AuthorizationId, AuthorizationView, SlotIndex, UpTo};

use super::args::Authorization;
use super::event_json::event_json;
use super::exit::{Code, Failure};
use super::open::replay;
use super::output::{Output, decimal, decimal_or_null, object};

/// What names the authorization, as far as the journal was read.
struct Names {
    id: AuthorizationId,
    /// Transfers of it.
    transfers: HashSet<u128>,
    /// Keys of commands on it, with their owner's slot.
    keys: HashSet<(SlotIndex, u128)>,
    /// Open exchanges of it: opener slot, number.
    exchanges: HashSet<(SlotIndex, u64)>,
}

impl Names {
    fn new(id: AuthorizationId) -> Self {
        Self { id, transfers: HashSet::new(), keys: HashSet::new(), exchanges: HashSet::new() }
    }

    /// Whether the event names it. What the event adds to the names is remembered.
    fn take(&mut self, event: &Event) -> bool {
        let is_named = self.is_named_by(event);
        if !is_named {
            return false;
        }
        if let Some(head) = event.body.head() {
            self.keys.insert((head.slot, head.key));
        }
        match &event.body {
            Body::Moved(e) => _ = self.transfers.insert(e.movement.transfer.0),
            Body::Opened(e) => {
                self.transfers.insert(e.movement.transfer.0);
                self.exchanges.insert((e.head.slot, e.number));
            }
            Body::Ended(e) => e.ends.iter().for_each(|end| _ = self.exchanges.remove(&(end.slot, end.number))),
            _ => {}
        }
        true
    }

    fn is_named_by(&self, event: &Event) -> bool {
        match &event.body {
            Body::Authorized(e) => e.authorization == self.id,
            Body::Incremented(e) => e.authorization == self.id,
            Body::Released(e) => e.authorization == self.id,
            Body::Expired(e) => e.authorization == self.id,
            Body::Moved(e) => self.is_moved(&e.movement),
            Body::Opened(e) => self.is_moved(&e.movement),
            Body::Answered(e) => self.exchanges.contains(&(e.opener, e.number)),
            Body::Ended(e) => e.ends.iter().any(|end| self.exchanges.contains(&(end.slot, end.number))),
            Body::Noted(e) => self.is_target(&e.head, e.target),
            Body::Tombstoned(e) => self.keys.contains(&(e.head.slot, e.original)),
            Body::Settled(_) | Body::Fenced(_) | Body::Forgotten(_) | Body::Recorded(_) => false,
        }
    }

    fn is_moved(&self, movement: &Movement) -> bool {
        movement.authorization == self.id.0 || (movement.capture != 0 && self.transfers.contains(&movement.capture))
    }

    fn is_target(&self, head: &Head, target: u128) -> bool {
        target != 0
            && (target == self.id.0 || self.transfers.contains(&target) || self.keys.contains(&(head.slot, target)))
    }
}

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
