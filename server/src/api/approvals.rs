//! Commands that need a second person.
//!
//! Owns the way of such a command: asked, decided by another person, executed under its own key (APR-1). Refuses to execute anything
//! that is not approved by a durable record. After a crash between approval and execution it is executed again: its idempotency key
//! makes that the same command.

use aws_lc_rs::rand::{SecureRandom as _, SystemRandom};
use http::StatusCode;
use serde_json::{Map, Value, json};

use super::command::{Asked, command, parse_verb};
use super::commands;
use super::key::{parse_key, parse_kind};
use super::members::{Members, Place};
use super::problem::{Problem, Refusal};
use super::reply::{ProblemJson, ReplyJson};
use super::request::{Answer, Answered, Caller, PageQuery, Request, limit_of};
use crate::app::Serving;
use crate::control::{
    Approval, ApprovalId, ApprovalState, Change, ControlError, NO_KEY, Refused, Role, Roles, UnixMs, identity_of, now,
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
    let has_thresholds =
        serving.control.read(|state| state.tenant(caller.tenant).is_some_and(|tenant| !tenant.thresholds.is_empty()));
    if !has_thresholds {
        return Ok(Stand::NotNeeded);
    }
    // Plain data into memory: it cannot fail.
    let text = serde_json::to_string(members).unwrap_or_default();
    let identity = identity_of(&text);
    let needs = serving.control.read(|state| {
        state.tenant(caller.tenant).is_some_and(|t| t.needs_second_person(&ledger.to_string(), amount.get()))
    });
    let at = now();
    let known = serving.control.read(|state| state.asked(caller.tenant, &identity).cloned());
    match known {
        Some(approval) if approval.command != text => {
            return Err(Problem::of_outcome(tp_actors::tp_core::outcome::Outcome::IdempotencyConflict));
        }
        Some(approval) => return Ok(Stand::Answer(show(StatusCode::ACCEPTED, &approval, at))),
        None if !needs => return Ok(Stand::NotNeeded),
        None => {}
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
    match approval {
        Some(approval) if approval.command == text => Ok(Stand::Answer(show(StatusCode::ACCEPTED, &approval, at))),
        _ => Err(Problem::of_outcome(tp_actors::tp_core::outcome::Outcome::IdempotencyConflict)),
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
pub(crate) async fn approve(serving: &Serving, request: &Request) -> Answered {
    let approval = named(serving, request)?;
    let (person, key) = (request.caller.person.to_string(), request.caller.key);
    let change = Change::ApprovalGiven { approval: approval.approval, person, key };
    serving.control.change(&by(&request.caller), change).await.map_err(problem_of)?;
    execute(serving, &approval).await;
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
            if reply.outcome.leaves_at_once() && reply.outcome != tp_actors::tp_core::outcome::Outcome::Malformed {
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
        ApprovalState::Approved { person } | ApprovalState::Rejected { person } => body["decided_by"] = json!(person),
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
    if caller.key == NO_KEY { format!("token of {}", caller.person) } else { format!("key {}", caller.key) }
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
