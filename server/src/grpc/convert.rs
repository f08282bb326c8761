//! Messages to members, and what was decided to messages.
//!
//! Owns the two mappings. Refuses to test anything but ranges that a message can say and a member cannot.

use std::borrow::Cow;

use http::StatusCode;
use tp_actors::tp_core::amount::{Balances, Ledger};
use tp_actors::tp_core::reply::Reply;

use crate::api::batch::{Done, is_answer};
use crate::api::commands::status_of_approval;
use crate::api::members::{LimitsBody, Members, PeriodBody, Text};
use crate::api::problem::Problem;
use crate::api::recorded::Recorded;
use tp_protocol::grpc as proto;

fn text(value: Option<&String>) -> Option<Text<'_>> {
    value.map(|value| Text(Cow::Borrowed(value.as_str())))
}

/// A number in a narrower type.
fn narrow<T: TryFrom<u32>>(name: &str, value: Option<u32>) -> Result<Option<T>, Problem> {
    value
        .map(|value| T::try_from(value).map_err(|_| Problem::invalid(format!("`{name}` is out of its range"))))
        .transpose()
}

/// The members that a message has.
pub(super) fn members(command: &proto::Command) -> Result<Members<'_>, Problem> {
    let c = command;
    let metadata = c.metadata.iter().map(|(name, value)| (Text(name.as_str().into()), Text(value.as_str().into())));
    Ok(Members {
        command: Some(Text(c.command.as_str().into())),
        key: (!c.key.is_empty()).then(|| Text(c.key.as_str().into())),
        key_kind: text(c.key_kind.as_ref()),
        account: text(c.account.as_ref()),
        payee: text(c.payee.as_ref()),
        amount: text(c.amount.as_ref()),
        asset: text(c.asset.as_ref()),
        scale: narrow("scale", c.scale)?,
        authorization: text(c.authorization.as_ref()),
        capture: text(c.capture.as_ref()),
        lifetime_ms: c.lifetime_ms,
        allow_partial: c.allow_partial,
        tolerance_bp: narrow("tolerance_bp", c.tolerance_bp)?,
        is_final: c.is_final,
        original: text(c.original.as_ref()),
        original_kind: text(c.original_kind.as_ref()),
        new_total: text(c.new_total.as_ref()),
        advice: text(c.advice.as_ref()),
        kind: narrow("kind", c.kind)?,
        status: text(c.status.as_ref()),
        credit_limit: text(c.credit_limit.as_ref()),
        limits: c.limits.as_ref().map(limits),
        fence: c.fence,
        value_date: text(c.value_date.as_ref()),
        reference: text(c.reference.as_ref()),
        metadata: (!c.metadata.is_empty()).then(|| metadata.collect()),
    })
}

fn limits(limits: &proto::Limits) -> LimitsBody<'_> {
    fn period(period: &proto::Period) -> PeriodBody<'_> {
        PeriodBody { count: period.count, amount: text(period.amount.as_ref()) }
    }
    LimitsBody {
        command_amount: text(limits.command_amount.as_ref()),
        day: limits.day.as_ref().map(period),
        month: limits.month.as_ref().map(period),
    }
}

/// The deadline of a command, ms.
pub(super) fn deadline_ms(command: &proto::Command) -> Result<Option<u64>, Problem> {
    match command.deadline_ms {
        None => Ok(None),
        Some(ms @ 1..=60_000) => Ok(Some(u64::from(ms))),
        Some(_) => Err(Problem::invalid("`deadline_ms` is a number from 1 to 60000")),
    }
}

/// The message of what was decided.
pub(super) fn reply(tag: u64, done: Done) -> proto::Reply {
    match done {
        Done::Reply(verb, reply) if is_answer(verb, &reply) => {
            let outcome = reply.outcome.name();
            decision(
                proto::Reply { tag, status: u32::from(status_of_approval(verb, &reply).as_u16()), ..named(outcome) },
                &reply,
            )
        }
        Done::Reply(_, reply) => problem(tag, &Problem::of_reply(reply)),
        Done::Problem(flaw) => problem(tag, &flaw),
        // Over: what came of it, as any other command is answered.
        Done::Second(answer) if answer.status != StatusCode::ACCEPTED => {
            let status = u32::from(answer.status.as_u16());
            let recorded = Recorded::read(&answer.body);
            let message = proto::Reply { tag, status, detail: recorded.detail.clone(), ..named(&recorded.outcome) };
            match recorded.reply() {
                Some(reply) => decision(message, &reply),
                None => message,
            }
        }
        Done::Second(answer) => {
            let approval_json = Some(String::from_utf8_lossy(&answer.body).into_owned());
            proto::Reply { tag, status: u32::from(answer.status.as_u16()), approval_json, ..named("approval_pending") }
        }
    }
}

/// The message of a problem.
pub(super) fn problem(tag: u64, problem: &Problem) -> proto::Reply {
    let status = u32::from(problem.status.as_u16());
    let message = proto::Reply { tag, status, detail: problem.detail.clone().into_owned(), ..named(problem.name) };
    match problem.reply.as_deref().filter(|reply| reply.seq.0 > 0 || reply.balances.is_some()) {
        Some(reply) => decision(message, reply),
        None => message,
    }
}

fn named(outcome: &str) -> proto::Reply {
    proto::Reply { outcome: outcome.to_owned(), amount: "0".to_owned(), ..proto::Reply::default() }
}

/// The message of balances.
pub(super) fn balances(balances: &Balances) -> proto::Balances {
    proto::Balances {
        posted: balances.posted.to_string(),
        held: balances.held.to_string(),
        available: balances.available.map(|available| available.to_string()),
    }
}

fn decision(message: proto::Reply, reply: &Reply) -> proto::Reply {
    let balances = reply.balances.as_ref().map(balances);
    proto::Reply {
        repeated: reply.repeated,
        reversed: reply.reversed,
        flags: reply.flags.names().map(str::to_owned).collect(),
        amount: reply.amount.to_string(),
        asset: reply.ledger.map(Ledger::asset),
        scale: reply.ledger.map(|ledger| u32::from(ledger.scale())),
        balances,
        authorization: reply.authorization.map(|id| id.to_string()),
        transfer: reply.transfer.map(|id| id.to_string()),
        expires: reply.expires.map(|time| time.to_string()),
        seq: reply.seq.0,
        version: reply.version.0,
        ..message
    }
}
