//! Commands that need a second person.
//!
//! Owns the way of such a command: asked, decided by another person, executed under its own key (APR-1). Refuses to execute anything
//! that is not approved by a durable record. After a crash between approval and execution it is executed again: its idempotency key
//! makes that the same command.

use std::sync::Arc;

use aws_lc_rs::rand::{SecureRandom as _, SystemRandom};
use http::StatusCode;
use serde_json::{Map, Value, json};
use tp_actors::tp_core::command::{Command, Lookup, Read, ReadTarget, RefundTarget};
use tp_actors::tp_core::ids::{AccountId, AuthorizationId};
use tp_actors::tp_core::outcome::Outcome;
use tp_actors::tp_core::reply::Detail;
use tp_actors::tp_core::rules::Windows;

use super::command::{Asked, command, parse_verb};
use super::commands;
use super::key::{parse_key, parse_kind};
use super::members::{Members, NOTE, Place};
use super::problem::{Problem, Refusal};
use super::reply::{ProblemJson, ReplyJson};
use super::request::{Answer, Answered, Caller, PageQuery, Request, limit_of};
use crate::app::Serving;
use crate::control::{
    Approval, ApprovalId, ApprovalState, Change, ControlError, Maker, NO_KEY, Refused, Role, Roles, UnixMs,
    identity_of, now,
};

/// How a command stands with its second person.
pub(crate) enum Stand {
    /// None is needed.
    NotNeeded,
    /// It waits, or was decided: this is the answer.
    Answer(Answer),
}

/// Whether a command needs a second person, and if so, how that stands. `members` are the command as a batch has it.
pub(crate) async fn stand(
    serving: &Serving,
    caller: &Caller,
    asked: &Asked,
    members: &Members<'_>,
) -> Result<Stand, Problem> {
    let (Some(amount), Some(ledger)) = (asked.moved, asked.ledger) else { return Ok(Stand::NotNeeded) };
    if !serving.control.read(|state| state.has_second_persons(caller.tenant)) {
        return Ok(Stand::NotNeeded);
    }
    // Plain data into memory: it cannot fail.
    let text = serde_json::to_string(members).unwrap_or_default();
    let identity = identity_of(&text);
    let (known, needs) = serving.control.read(|state| {
        let tenant = state.tenant(caller.tenant);
        let needs = tenant.is_some_and(|tenant| tenant.needs_second_person(&ledger.to_string(), amount.get()));
        (state.asked(caller.tenant, &identity).cloned(), needs)
    });
    let at = now();
    if let Some(approval) = known {
        return stands(&approval, &text, at);
    }
    // What was decided before the threshold came is only repeated.
    if !needs || is_decided(serving, caller, &asked.command).await? {
        return Ok(Stand::NotNeeded);
    }
    let approval = ApprovalId(random_bits()?);
    let expires = UnixMs(at.0.saturating_add(serving.approval_ms));
    let change = Change::ApprovalAsked {
        approval,
        tenant: caller.tenant,
        person: caller.person.to_string(),
        key: caller.key,
        expires,
        command: text.clone(),
    };
    let (tenant, pending_max) = (caller.tenant, serving.approvals_max);
    let made = serving
        .control
        .change_if(&by(caller), |state| {
            if state.asked(tenant, &identity).is_some() {
                return Ok(None); // another request with the same key came first
            }
            if state.pending_of(tenant, at) >= pending_max {
                return Err(Refused::TooManyPending);
            }
            Ok(Some(change))
        })
        .await;
    made.map_err(problem_of)?;
    let approval = serving.control.read(|state| state.asked(caller.tenant, &identity).cloned());
    let missing = || Problem::new(Refusal::ControlFailed, "the approval is not there");
    stands(&approval.ok_or_else(missing)?, &text, at)
}

/// How a command stands that was asked for before, perhaps with another body.
fn stands(approval: &Approval, text: &str, at: UnixMs) -> Result<Stand, Problem> {
    if is_same_command(&approval.command, text) {
        Ok(Stand::Answer(show(StatusCode::ACCEPTED, approval, at)))
    } else {
        Err(Problem::of_outcome(Outcome::IdempotencyConflict))
    }
}

/// Whether two texts say one command: what the engine does not compare is not compared here either.
fn is_same_command(one: &str, other: &str) -> bool {
    let compared = |text: &str| -> Option<Map<String, Value>> {
        let mut members: Map<String, Value> = serde_json::from_str(text).ok()?;
        members.retain(|name, _| !NOTE.contains(&name.as_str()));
        Some(members)
    };
    one == other || compared(one).is_some_and(|one| Some(one) == compared(other))
}

/// Whether the engine knows the command's key already. Where its account cannot be told, it is taken for new.
async fn is_decided(serving: &Serving, caller: &Caller, command: &Command) -> Result<bool, Problem> {
    let (account, key) = match command {
        Command::Transfer(c) => (Some(c.account), c.key),
        Command::Advise(c) => (Some(c.account), c.key),
        Command::Capture(c) => (account_of(serving, caller, c.authorization).await?, c.key),
        Command::Refund(c) => match c.target {
            RefundTarget::Authorization(id) => (account_of(serving, caller, id).await?, c.key),
            RefundTarget::Capture(_) => (None, c.key),
        },
        _ => return Ok(false),
    };
    let Some(account) = account else { return Ok(false) };
    let reply = commands::ask(serving, caller, Lookup { account, key, fence: false }).await;
    match reply.outcome {
        Outcome::OriginalNotFound => Ok(false),
        outcome if outcome.leaves_at_once() && !reply.repeated => Err(Problem::of_reply(reply)),
        _ => Ok(true),
    }
}

/// The account of an authorization, if there is one.
async fn account_of(serving: &Serving, caller: &Caller, id: AuthorizationId) -> Result<Option<AccountId>, Problem> {
    let reply = commands::ask(serving, caller, Read { target: ReadTarget::Authorization(id) }).await;
    match reply.detail.as_deref() {
        Some(Detail::Authorization(view)) => Ok(Some(view.account)),
        _ if reply.outcome.leaves_at_once() => Err(Problem::of_reply(reply)),
        _ => Ok(None),
    }
}

/// The approval of a command that the engine does not know.
pub(crate) fn found(serving: &Serving, caller: &Caller, account: &str, key: &str) -> Option<Answer> {
    let identity = format!("{account} {key}");
    let approval = serving.control.read(|state| state.asked(caller.tenant, &identity).cloned())?;
    Some(show(StatusCode::ACCEPTED, &approval, now()))
}

/// `GET /v1/approvals`
pub(crate) fn list(serving: &Serving, request: &Request) -> Answered {
    let page: PageQuery = request.query()?;
    let limit = limit_of(page.limit.as_deref())?;
    let after = page.cursor.as_deref().map(str::parse).transpose();
    let after = after.map_err(|_| Problem::invalid("`cursor` is what a page gave as `next`"))?;
    let at = now();
    let tenant = request.caller.tenant;
    let mut found: Vec<Approval> =
        serving.control.read(|state| state.approvals_of(tenant, after).take(limit + 1).cloned().collect());
    let has_more = found.len() > limit;
    found.truncate(limit);
    let mut body = Map::new();
    body.insert("approvals".to_owned(), found.iter().map(|approval| json_of(approval, at)).collect());
    if let Some(last) = found.last().filter(|_| has_more) {
        body.insert("next".to_owned(), json!(last.approval.to_string()));
    }
    Ok(Answer::ok(&body))
}

/// `GET /v1/approvals/{approval}`
pub(crate) fn get(serving: &Serving, request: &Request) -> Answered {
    let approval = named(serving, request)?;
    Ok(show(StatusCode::OK, &approval, now()))
}

/// `POST /v1/approvals/{approval}/approve`
pub(crate) async fn approve(serving: &Arc<Serving>, request: &Request) -> Answered {
    let approval = named(serving, request)?;
    let (person, key) = (request.caller.person.to_string(), request.caller.key);
    let change = Change::ApprovalGiven { approval: approval.approval, person, key };
    let by = by(&request.caller);
    // On its own: a client that breaks off drops its request, and what it approved is executed all the same.
    let approved = {
        let (serving, approval) = (Arc::clone(serving), approval.clone());
        tokio::spawn(async move {
            serving.control.change(&by, change).await?;
            execute(&serving, &approval).await;
            Ok(())
        })
    };
    let approved =
        approved.await.map_err(|_| Problem::new(Refusal::ControlFailed, "a bug: the execution ended early"))?;
    approved.map_err(problem_of)?;
    let approval = named(serving, request)?;
    Ok(show(StatusCode::OK, &approval, now()))
}

/// `POST /v1/approvals/{approval}/reject`
pub(crate) async fn reject(serving: &Serving, request: &Request) -> Answered {
    let approval = named(serving, request)?;
    let (person, key) = (request.caller.person.to_string(), request.caller.key);
    let change = Change::ApprovalRejected { approval: approval.approval, person, key };
    serving.control.change(&by(&request.caller), change).await.map_err(problem_of)?;
    let approval = named(serving, request)?;
    Ok(show(StatusCode::OK, &approval, now()))
}

/// Executes a command that was approved, and records what came of it. When it is not known what came of it, nothing is recorded: it is
/// executed again at the next start, as the same command.
pub(crate) async fn execute(serving: &Serving, approval: &Approval) {
    let caller = Caller {
        tenant: approval.tenant,
        person: approval.person.as_str().into(),
        key: approval.key,
        roles: [Role::MoneyMovement].into_iter().collect::<Roles>(),
    };
    let (outcome, reply) = match recorded_command(approval) {
        // It may have been executed, and its key forgotten since: whoever looks the command up knows, and a new key is at hand.
        Ok(_) if is_beyond_its_key(approval, now()) => {
            let problem = Problem::of_outcome(Outcome::KeyExpired);
            (problem.name, json_text(&ProblemJson { problem: &problem, trace_id: None }))
        }
        Err(problem) => (problem.name, json_text(&ProblemJson { problem: &problem, trace_id: None })),
        Ok(asked) if !may_pay(serving, &caller, &asked) => {
            let problem = Problem::new(Refusal::NoAgreement, "");
            (problem.name, json_text(&ProblemJson { problem: &problem, trace_id: None }))
        }
        Ok(asked) => {
            let verb = asked.command.verb();
            let reply = commands::submit(serving, &caller, asked, None).await;
            serving.count(verb, reply.outcome);
            let name = reply.outcome.name();
            if reply.outcome.leaves_at_once() && reply.outcome != Outcome::Malformed {
                return; // nothing was done, or it is not known
            }
            if reply.outcome.is_approval() {
                (name, json_text(&ReplyJson { reply: &reply, status: None }))
            } else {
                let problem = Problem::of_reply(reply);
                (name, json_text(&ProblemJson { problem: &problem, trace_id: None }))
            }
        }
    };
    let change = Change::ApprovalExecuted { approval: approval.approval, outcome: outcome.to_owned(), reply };
    if let Err(error) = serving.control.change("execution", change).await {
        tracing::warn!(approval = %approval.approval, %error, "the execution of an approval was not recorded");
    }
}

/// How long before the end of a key's window an approved command is no longer executed: for the way to the engine.
const MARGIN_MS: u64 = 60_000;

/// Whether a command was approved so long ago that the engine may have executed it and forgotten its key.
fn is_beyond_its_key(approval: &Approval, at: UnixMs) -> bool {
    let ApprovalState::Approved { given, .. } = &approval.state else { return false };
    let window_ms = Windows::default().key_opaque_ms; // the engine's, which is opened with the defaults
    window_ms.is_some_and(|window_ms| at.0 >= given.0.saturating_add(window_ms).saturating_sub(MARGIN_MS))
}

fn may_pay(serving: &Serving, caller: &Caller, asked: &Asked) -> bool {
    asked.payee_tenant.is_none_or(|payee| serving.control.read(|state| state.may_pay(caller.tenant, payee)))
}

/// The command of an approval, as it was asked for.
fn recorded_command(approval: &Approval) -> Result<Asked, Problem> {
    let members: Members<'_> = serde_json::from_str(&approval.command)
        .map_err(|error| Problem::invalid(format!("the recorded command: {error}")))?;
    let verb = members.command.as_deref().and_then(parse_verb).ok_or_else(|| Problem::invalid("no such command"))?;
    let kind = parse_kind(members.key_kind.as_deref())?;
    let key = parse_key(members.key.as_deref().unwrap_or_default(), kind)?;
    members.check(verb, Place::Batch)?;
    command(verb, &members, key, approval.tenant)
}

fn named(serving: &Serving, request: &Request) -> Result<Approval, Problem> {
    let missing = || Problem::new(Refusal::NotFound, "there is no such approval");
    let approval: ApprovalId = request.path(0).parse().map_err(|_| missing())?;
    serving.control.read(|state| state.approval(request.caller.tenant, approval).cloned()).ok_or_else(missing)
}

fn show(status: StatusCode, approval: &Approval, at: UnixMs) -> Answer {
    // Executed: there is an answer now, so it is no longer only accepted.
    let is_over = matches!(approval.state, ApprovalState::Executed { .. } | ApprovalState::Rejected { .. });
    let status = if is_over { StatusCode::OK } else { status };
    Answer::json(status, &json_of(approval, at))
}

fn json_of(approval: &Approval, at: UnixMs) -> Value {
    let parsed = |text: &str| serde_json::from_str::<Value>(text).unwrap_or(Value::Null);
    let time = |at: UnixMs| tp_actors::tp_core::time::Time(at.0).to_string();
    let mut body = json!({
        "approval": approval.approval.to_string(),
        "state": approval.state_name(at),
        "asked_by": approval.person,
        "asked": time(approval.asked),
        "expires": time(approval.expires),
        "command": parsed(&approval.command),
    });
    match &approval.state {
        ApprovalState::Pending => {}
        ApprovalState::Approved { person, .. } | ApprovalState::Rejected { person } => {
            body["decided_by"] = json!(person)
        }
        ApprovalState::Executed { person, outcome, reply } => {
            body["decided_by"] = json!(person);
            body["outcome"] = json!(outcome);
            body["reply"] = parsed(reply);
        }
    }
    body
}

fn json_text(value: &impl serde::Serialize) -> String {
    serde_json::to_string(value).unwrap_or_default()
}

/// Who changes something, as the records name it.
pub(crate) fn by(caller: &Caller) -> String {
    if caller.key == NO_KEY { Maker::Token(&caller.person) } else { Maker::Key(caller.key) }.to_string()
}

/// 128 random bits.
pub(crate) fn random_bits() -> Result<u128, Problem> {
    let mut bytes = [0; 16];
    SystemRandom::new()
        .fill(&mut bytes)
        .map_err(|_| Problem::new(Refusal::ControlFailed, "the system gave no random bytes"))?;
    Ok(u128::from_be_bytes(bytes))
}

/// What a caller is told of a change that was not made.
pub(crate) fn problem_of(error: ControlError) -> Problem {
    match error {
        ControlError::Refused(refused) => {
            let refusal = match refused {
                Refused::NoTenant | Refused::NoKey | Refused::NoAgreement | Refused::NoApproval => Refusal::NotFound,
                Refused::TenantExists | Refused::KeyExists | Refused::CertificateTaken => Refusal::AlreadyExists,
                Refused::NotOpen => Refusal::ApprovalNotOpen,
                Refused::SamePerson => Refusal::SamePerson,
                Refused::TooManyPending => Refusal::TooManyInFlight,
                Refused::BadName | Refused::BadThreshold | Refused::SameTenant => Refusal::InvalidRequest,
            };
            Problem::new(refusal, refused.to_string())
        }
        error => Problem::new(Refusal::ControlFailed, error.to_string()),
    }
}
