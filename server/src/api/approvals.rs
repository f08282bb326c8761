//! Commands that need a second person.
//!
//! Owns the way of such a command: asked, decided by another person, executed under its own key (APR-1). Refuses to execute anything
//! that is not approved by a durable record. After a crash between approval and execution it is executed again: its idempotency key
//! makes that the same command.

use std::sync::Arc;
use std::time::Duration;

use aws_lc_rs::rand::{SecureRandom as _, SystemRandom};
use http::StatusCode;
use serde_json::{Map, Value, json};
use tp_actors::CallOptions;
use tp_actors::tp_core::command::{Command, Lookup, Read, ReadTarget, RefundTarget};
use tp_actors::tp_core::ids::AccountId;
use tp_actors::tp_core::key::{Key, KeyKind};
use tp_actors::tp_core::outcome::Outcome;
use tp_actors::tp_core::reply::Detail;
use tp_actors::tp_core::scope::Scope;

use super::command::{Asked, command, parse_verb};
use super::commands;
use super::key::{parse_key, parse_kind};
use super::members::{Members, Place};
use super::problem::{Problem, Refusal, status_of};
use super::reply::{ProblemJson, ReplyJson};
use super::request::{Answer, Answered, Caller, PageQuery, Request, limit_of};
use crate::app::Serving;
use crate::control::{
    Approval, ApprovalId, ApprovalState, AskedFor, Change, ControlError, ControlState, NO_KEY, Refused, Role, Roles,
    Tenant, UnixMs, now,
};

/// How a command stands with its second person.
pub(crate) enum Stand {
    /// None is needed.
    NotNeeded,
    /// It waits, or was decided: this is the answer.
    Answer(Answer),
}

/// Whether a command is above its tenant's threshold, and whether the tenant has an approval under its key: it may be this command's.
fn say(serving: &Serving, caller: &Caller, asked: &Asked) -> (bool, bool) {
    let (Some(amount), Some(ledger)) = (asked.moved, asked.ledger) else { return (false, false) };
    serving.control.read(|state| {
        let needs = |t: &Tenant| !t.thresholds.is_empty() && t.needs_second_person(&ledger.to_string(), amount.get());
        let has_one = state.approvals_of(caller.tenant, None).next().is_some()
            && asked.command.key().is_some_and(|key| state.has_asked(caller.tenant, &key_text(key)));
        (state.tenant(caller.tenant).is_some_and(needs), has_one)
    })
}

/// Whether a second person may have a say in a command; which one is [`stand`]'s to find out.
pub(crate) fn may_have_a_say(serving: &Serving, caller: &Caller, asked: &Asked) -> bool {
    let (needs, has_one) = say(serving, caller, asked);
    needs || has_one
}

/// Whether a command needs a second person, and if so, how that stands. `members` are the command as a batch has it.
///
/// A command that the engine has decided before is its matter, whatever was set since: it is answered as a repeat.
pub(crate) async fn stand(
    serving: &Serving,
    caller: &Caller,
    asked: &Asked,
    members: &Members<'_>,
) -> Result<Stand, Problem> {
    let (needs, has_one) = say(serving, caller, asked);
    if !needs && !has_one {
        return Ok(Stand::NotNeeded);
    }
    // Nothing of the tenant has that id: the engine says so.
    let Some(account) = owner(serving, caller, &asked.command).await? else { return Ok(Stand::NotNeeded) };
    let Some(key) = asked.command.key() else { return Ok(Stand::NotNeeded) };
    let (account_text, engine_key) = (account.0.to_string(), key_text(key));
    let fingerprint = format!("{:016x}", asked.command.fingerprint().0);
    let known = serving.control.read(|state| state.asked(&account_text, &engine_key).cloned());
    if let Some(approval) = known {
        return repeat(&approval, &fingerprint);
    }
    if !needs || is_decided(serving, caller, account, key).await? {
        return Ok(Stand::NotNeeded);
    }
    if key.kind == KeyKind::UuidV7 {
        return Err(Problem::invalid(
            "a command that waits for a second person needs an opaque key: another kind expires first",
        ));
    }
    let asked_for = AskedFor {
        approval: ApprovalId(random_bits()?),
        tenant: caller.tenant,
        person: caller.person.to_string(),
        key: caller.key,
        expires: UnixMs(now().0.saturating_add(serving.approval_ms)),
        // Plain data into memory: it cannot fail.
        command: serde_json::to_string(members).unwrap_or_default(),
        account: account_text.clone(),
        engine_key: engine_key.clone(),
        fingerprint: fingerprint.clone(),
    };
    let (tenant, pending_max) = (caller.tenant, serving.approvals_max);
    let by = by(caller);
    let made = serving.control.change_if(&by, |state| {
        if state.asked(&asked_for.account, &asked_for.engine_key).is_some() {
            return Ok(None); // another request with the same key came first
        }
        if state.pending_of(tenant, now()) >= pending_max {
            return Err(Refused::TooManyPending);
        }
        Ok(Some(Change::ApprovalAsked(asked_for)))
    });
    made.await.map_err(problem_of)?;
    let approval = serving.control.read(|state| state.asked(&account_text, &engine_key).cloned());
    let lost = || Problem::new(Refusal::ControlFailed, "the approval is gone already");
    repeat(&approval.ok_or_else(lost)?, &fingerprint)
}

/// The answer to a command that made an approval before.
fn repeat(approval: &Approval, fingerprint: &str) -> Result<Stand, Problem> {
    if approval.asked_for.fingerprint != fingerprint {
        return Err(Problem::of_outcome(Outcome::IdempotencyConflict));
    }
    answer_of(approval).map(Stand::Answer)
}

/// What a command with an approval is answered: 202 while it is open, then what came of it, with the status of that.
fn answer_of(approval: &Approval) -> Answered {
    match (&approval.state, approval.state_name(now())) {
        (ApprovalState::Executed { outcome, reply, .. }, _) => {
            let decided = Outcome::ALL.iter().copied().find(|known| known.name() == outcome.as_str());
            let status = decided.map_or(StatusCode::CONFLICT, |decided| {
                StatusCode::from_u16(status_of(decided)).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR)
            });
            Ok(Answer { status, body: reply.clone().into() })
        }
        (_, "rejected") => {
            Err(Problem::new(Refusal::ApprovalRejected, "a second person rejected it: nothing was done"))
        }
        (_, "expired") => {
            Err(Problem::new(Refusal::ApprovalExpired, "no second person decided in time: nothing was done"))
        }
        _ => Ok(show(StatusCode::ACCEPTED, approval)),
    }
}

/// The account that owns the decision of a command that may need a second person; `None`: there is none of the caller's.
pub(crate) async fn owner(serving: &Serving, caller: &Caller, command: &Command) -> Result<Option<AccountId>, Problem> {
    let target = match command {
        Command::Transfer(c) => return Ok(Some(c.account)),
        Command::Advise(c) => return Ok(Some(c.account)),
        Command::Authorize(c) => return Ok(Some(c.account)),
        Command::Capture(c) => ReadTarget::Authorization(c.authorization),
        Command::Refund(c) => match c.target {
            RefundTarget::Authorization(id) => ReadTarget::Authorization(id),
            RefundTarget::Capture(id) => ReadTarget::Capture(id),
        },
        _ => return Ok(None),
    };
    let reply = serving.engine.call_with(Read { target }, options(serving, caller)).await;
    match reply.detail.as_deref() {
        Some(Detail::Authorization(view)) => Ok(Some(view.account)),
        _ if reply.outcome == Outcome::OriginalNotFound => Ok(None),
        _ => Err(Problem::of_reply(reply)),
    }
}

/// Whether the engine has decided a command of this account with this key.
pub(crate) async fn is_decided(
    serving: &Serving,
    caller: &Caller,
    account: AccountId,
    key: Key,
) -> Result<bool, Problem> {
    let reply = serving.engine.call_with(Lookup { account, key, fence: false }, options(serving, caller)).await;
    match reply.outcome {
        _ if reply.repeated => Ok(true),
        // Another kind, or a fence: the engine's matter too.
        Outcome::IdempotencyConflict | Outcome::Fenced => Ok(true),
        Outcome::OriginalNotFound | Outcome::AccountNotFound | Outcome::KeyExpired => Ok(false),
        _ => Err(Problem::of_reply(reply)),
    }
}

fn options(serving: &Serving, caller: &Caller) -> CallOptions {
    let scope = Scope { tenant: Some(caller.tenant.get()), ..Scope::default() };
    CallOptions { deadline_ms: Some(serving.command_ms), scope }
}

/// A key as the records have it.
fn key_text(key: Key) -> String {
    let kind = match key.kind {
        KeyKind::Opaque => "opaque",
        KeyKind::UuidV7 => "uuid_v7",
    };
    format!("{kind}:{:032x}", key.bits)
}

/// The approval of a command that the engine does not know.
pub(crate) fn found(serving: &Serving, account: AccountId, key: Key) -> Option<Answered> {
    let approval = serving.control.read(|state| state.asked(&account.0.to_string(), &key_text(key)).cloned())?;
    Some(answer_of(&approval))
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
        body.insert("next".to_owned(), json!(last.id().to_string()));
    }
    Ok(Answer::ok(&body))
}

/// `GET /v1/approvals/{approval}`
pub(crate) fn get(serving: &Serving, request: &Request) -> Answered {
    let approval = named(serving, request)?;
    Ok(show(StatusCode::OK, &approval))
}

/// `POST /v1/approvals/{approval}/approve`
///
/// A caller may break off between the record and the execution: [`finish`] executes what is approved.
pub(crate) async fn approve(serving: &Serving, request: &Request) -> Answered {
    let approval = named(serving, request)?;
    let (person, key) = (request.caller.person.to_string(), request.caller.key);
    let change = Change::ApprovalGiven { tenant: request.caller.tenant, approval: approval.id(), person, key };
    serving.control.change(&by(&request.caller), change).await.map_err(problem_of)?;
    execute_now(serving, &approval).await;
    let approval = named(serving, request)?;
    let is_over = matches!(approval.state, ApprovalState::Executed { .. });
    Ok(show(if is_over { StatusCode::OK } else { StatusCode::ACCEPTED }, &approval))
}

/// `POST /v1/approvals/{approval}/reject`
pub(crate) async fn reject(serving: &Serving, request: &Request) -> Answered {
    let approval = named(serving, request)?;
    let (person, key) = (request.caller.person.to_string(), request.caller.key);
    let change = Change::ApprovalRejected { tenant: request.caller.tenant, approval: approval.id(), person, key };
    serving.control.change(&by(&request.caller), change).await.map_err(problem_of)?;
    let approval = named(serving, request)?;
    Ok(show(StatusCode::OK, &approval))
}

/// Executes what was approved and is not known to be executed, until it is.
pub(crate) async fn finish(serving: Arc<Serving>) {
    loop {
        tokio::time::sleep(Duration::from_secs(1)).await;
        for approval in serving.control.read(ControlState::unfinished) {
            execute_again(&serving, &approval).await;
        }
    }
}

/// Executes a command that was approved, and records what came of it. When it is not known what came of it, nothing is recorded: it is
/// executed again, as the same command, for as long as the engine is sure to remember its key. After that it is recorded as unknown:
/// executing it again could pay twice.
async fn execute_again(serving: &Serving, approval: &Approval) {
    let ApprovalState::Approved { at, .. } = approval.state else { return };
    let remembered_ms = serving.engine.windows().key_opaque_ms.unwrap_or(u64::MAX);
    if now().0.saturating_sub(at.0) > remembered_ms / 2 {
        let detail = "it is not known whether it was executed: compare the account's statement";
        let problem = Problem::new(Refusal::ApprovalUnknown, detail);
        tracing::error!(approval = %approval.id(), "an approved command is left: it is not known whether it was executed");
        return record(serving, approval, problem.name, json_text(&ProblemJson { problem: &problem, trace_id: None }))
            .await;
    }
    execute_now(serving, approval).await;
}

async fn execute_now(serving: &Serving, approval: &Approval) {
    let asked_for = &approval.asked_for;
    let caller = Caller {
        tenant: asked_for.tenant,
        person: asked_for.person.as_str().into(),
        key: asked_for.key,
        roles: [Role::MoneyMovement].into_iter().collect::<Roles>(),
        until_unix_s: None,
    };
    let problem = match recorded_command(approval) {
        Err(problem) => problem,
        Ok(asked) => match commands::agreed(serving, &caller, &asked).await {
            // An agreement that ended, or the engine cannot say: the latter is tried again.
            Err(problem) if problem.name != Refusal::NoAgreement.name() => return,
            Err(problem) => problem,
            Ok(()) => {
                let verb = asked.command.verb();
                let reply = commands::submit(serving, &caller, asked, None).await;
                serving.count(verb, reply.outcome);
                let name = reply.outcome.name();
                if reply.outcome.leaves_at_once() && reply.outcome != Outcome::Malformed {
                    return; // nothing was done, or it is not known
                }
                if reply.outcome.is_approval() {
                    return record(serving, approval, name, json_text(&ReplyJson { reply: &reply, status: None }))
                        .await;
                }
                Problem::of_reply(reply)
            }
        },
    };
    record(serving, approval, problem.name, json_text(&ProblemJson { problem: &problem, trace_id: None })).await;
}

/// Records what came of an approved command. Not recorded: it is executed again.
async fn record(serving: &Serving, approval: &Approval, outcome: &str, reply: String) {
    let (tenant, id) = (approval.asked_for.tenant, approval.id());
    let change = Change::ApprovalExecuted { tenant, approval: id, outcome: outcome.to_owned(), reply };
    match serving.control.change("execution", change).await {
        // Somebody else recorded it first.
        Ok(()) | Err(ControlError::Refused(_)) => {}
        Err(error) => tracing::warn!(approval = %id, %error, "the execution of an approval was not recorded"),
    }
}

/// The command of an approval, as it was asked for.
fn recorded_command(approval: &Approval) -> Result<Asked, Problem> {
    let members: Members<'_> = serde_json::from_str(&approval.asked_for.command)
        .map_err(|error| Problem::invalid(format!("the recorded command: {error}")))?;
    let verb = members.command.as_deref().and_then(parse_verb).ok_or_else(|| Problem::invalid("no such command"))?;
    let kind = parse_kind(members.key_kind.as_deref())?;
    let key = parse_key(members.key.as_deref().unwrap_or_default(), kind)?;
    members.check(verb, Place::Batch)?;
    command(verb, &members, key, approval.asked_for.tenant)
}

fn named(serving: &Serving, request: &Request) -> Result<Approval, Problem> {
    let missing = || Problem::new(Refusal::NotFound, "there is no such approval");
    let approval: ApprovalId = request.path(0).parse().map_err(|_| missing())?;
    serving.control.read(|state| state.approval(request.caller.tenant, approval).cloned()).ok_or_else(missing)
}

fn show(status: StatusCode, approval: &Approval) -> Answer {
    Answer::json(status, &json_of(approval, now()))
}

fn json_of(approval: &Approval, at: UnixMs) -> Value {
    let parsed = |text: &str| serde_json::from_str::<Value>(text).unwrap_or(Value::Null);
    let time = |at: UnixMs| tp_actors::tp_core::time::Time(at.0).to_string();
    let asked_for = &approval.asked_for;
    let mut body = json!({
        "approval": approval.id().to_string(),
        "state": approval.state_name(at),
        "asked_by": asked_for.person,
        "asked": time(approval.asked),
        "expires": time(asked_for.expires),
        "command": parsed(&asked_for.command),
    });
    match &approval.state {
        ApprovalState::Pending => {}
        ApprovalState::Approved { person, .. } | ApprovalState::Rejected { person } => {
            body["decided_by"] = json!(person);
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
    if caller.key == NO_KEY { format!("token of {}", caller.person) } else { format!("key {}", caller.key) }
}

/// 128 random bits.
fn random_bits() -> Result<u128, Problem> {
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
                Refused::OnlyOperator => Refusal::Forbidden,
                Refused::TooManyPending | Refused::TooManyKeys => Refusal::TooManyInFlight,
                Refused::BadName | Refused::BadThreshold | Refused::SameTenant => Refusal::InvalidRequest,
            };
            Problem::new(refusal, refused.to_string())
        }
        error @ ControlError::InDoubt => {
            Problem { detail: error.to_string().into(), ..Problem::of_outcome(Outcome::InProgress) }
        }
        error => Problem::new(Refusal::ControlFailed, error.to_string()),
    }
}
