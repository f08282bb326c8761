//! Commands on their own routes, and the one way a command goes to the engine.
//!
//! Owns the order: members, agreement, second person, engine. Refuses to know which route it came from.

use http::StatusCode;
use tp_actors::tp_core::command::{Command, Verb};
use tp_actors::tp_core::outcome::Outcome;
use tp_actors::tp_core::reply::Reply;
use tp_actors::tp_core::scope::Scope;
use tp_actors::{CallOptions, Pending};

use super::approvals::{self, Stand};
use super::command::{Asked, command};
use super::key::{parse_key, parse_kind};
use super::members::{Members, Place, Text};
use super::problem::{Problem, Refusal};
use super::reply::ReplyJson;
use super::request::{Answer, Answered, Caller, Request, header};
use super::routes::Route;
use crate::app::Serving;

/// A command on its own route.
///
/// Most commands need nobody's leave but the engine's. Their way is kept apart from the others', so that what waits for the engine is
/// small: it is made and moved once a request.
pub(crate) async fn run(serving: &Serving, route: &Route, verb: Verb, request: &Request) -> Answered {
    match submit_if_free(serving, route, verb, request)? {
        Way::Free(pending) => {
            let reply = pending.await;
            serving.count(verb, reply.outcome);
            answer(verb, reply)
        }
        Way::Asks(read) => Box::pin(run_admitted(serving, verb, request, read)).await,
    }
}

/// The way of a command.
enum Way<'a> {
    /// Nobody but the engine was to be asked: it has been handed over.
    Free(Pending),
    /// Somebody else is, or it is a look-up.
    Asks(Box<(Members<'a>, Asked)>),
}

fn submit_if_free<'a>(serving: &Serving, route: &Route, verb: Verb, request: &'a Request) -> Result<Way<'a>, Problem> {
    let (members, asked) = read(route, verb, request)?;
    if verb == Verb::Lookup || !is_free(serving, &request.caller, &asked) {
        return Ok(Way::Asks(Box::new((members, asked))));
    }
    Ok(Way::Free(submit(serving, &request.caller, asked, request.deadline_ms()?)))
}

/// The way of a command that is not only the engine's.
async fn run_admitted(serving: &Serving, verb: Verb, request: &Request, read: Box<(Members<'_>, Asked)>) -> Answered {
    let (mut members, asked) = *read;
    if verb == Verb::Lookup {
        return lookup(serving, request, asked).await;
    }
    let (key_text, kind_text) =
        (header(&request.headers, "idempotency-key")?, header(&request.headers, "idempotency-key-kind")?);
    members.key = key_text.map(|text| Text(text.into()));
    members.key_kind = kind_text.map(|text| Text(text.into()));
    members.command = Some(Text(verb.name().into()));
    match admit(serving, &request.caller, asked, &members).await? {
        Admitted::Engine(asked) => {
            let reply = submit(serving, &request.caller, asked, request.deadline_ms()?).await;
            serving.count(verb, reply.outcome);
            answer(verb, reply)
        }
        Admitted::Second(answer) => Ok(answer),
    }
}

/// What a request says, and what it asks for.
fn read<'a>(route: &Route, verb: Verb, request: &'a Request) -> Result<(Members<'a>, Asked), Problem> {
    let mut members: Members<'_> = request.json()?;
    let key = if verb == Verb::Lookup {
        let kind = parse_kind(header(&request.headers, "idempotency-key-kind")?)?;
        parse_key(request.path(1), kind)?
    } else {
        request.key()?
    };
    members.check(verb, Place::Route)?;
    // What the path says, in its place among the members.
    match verb {
        Verb::UpdateAccount | Verb::CloseAccount | Verb::Lookup => {
            members.account = Some(Text(request.path(0).into()));
        }
        Verb::Increment | Verb::Capture | Verb::Void => members.authorization = Some(Text(request.path(0).into())),
        _ => {}
    }
    if verb == Verb::Lookup {
        if members.fence.is_some() {
            return Err(Problem::invalid("a lookup has no body: to fence, call …/fence"));
        }
        members.fence = Some(route.path.ends_with("/fence"));
    }
    let asked = command(verb, &members, key, request.caller.tenant)?;
    Ok((members, asked))
}

/// Whether a command needs nobody's leave but the engine's: it pays no other tenant, and no second person may have a say.
pub(crate) fn is_free(serving: &Serving, caller: &Caller, asked: &Asked) -> bool {
    asked.payee_tenant.is_none() && !approvals::may_have_a_say(serving, caller, asked)
}

/// What becomes of a command before the engine sees it.
pub(crate) enum Admitted {
    /// It may be decided.
    Engine(Asked),
    /// It waits for a second person, or was decided by one.
    Second(Answer),
}

/// Tests agreement and threshold. `members` are the command as a batch has it.
pub(crate) async fn admit(
    serving: &Serving,
    caller: &Caller,
    asked: Asked,
    members: &Members<'_>,
) -> Result<Admitted, Problem> {
    agreed(serving, caller, &asked).await?;
    match approvals::stand(serving, caller, &asked, members).await? {
        Stand::NotNeeded => Ok(Admitted::Engine(asked)),
        Stand::Answer(answer) => Ok(Admitted::Second(answer)),
    }
}

/// Whether the tenant of the payee may be paid. A command that was decided before is answered as a repeat though the agreement has ended
/// since: its money has moved.
pub(crate) async fn agreed(serving: &Serving, caller: &Caller, asked: &Asked) -> Result<(), Problem> {
    let Some(payee) = asked.payee_tenant else { return Ok(()) };
    if serving.control.read(|state| state.may_pay(caller.tenant, payee)) {
        return Ok(());
    }
    let owner = approvals::owner(serving, caller, &asked.command).await?;
    if let (Some(account), Some(key)) = (owner, asked.command.key())
        && approvals::is_decided(serving, caller, account, key).await?
    {
        return Ok(());
    }
    Err(Problem::new(Refusal::NoAgreement, ""))
}

/// Hands a command to the engine, bound to the caller's tenant.
pub(crate) fn submit(serving: &Serving, caller: &Caller, asked: Asked, deadline_ms: Option<u64>) -> Pending {
    let options = options(serving, caller, &asked, deadline_ms);
    serving.engine.call_with(asked.command, options)
}

/// How a command is bound to the caller's tenant, and its deadline.
pub(crate) fn options(serving: &Serving, caller: &Caller, asked: &Asked, deadline_ms: Option<u64>) -> CallOptions {
    // Money is never pulled across tenants: neither back from a payee of another, nor by undoing what it was paid.
    let counter = Some(caller.tenant.accounts());
    let scope = Scope { tenant: Some(caller.tenant.get()), ledger: asked.ledger, counter };
    CallOptions { deadline_ms: Some(deadline_ms.unwrap_or(serving.command_ms)), scope }
}

/// What became of a command; a second person's matter is looked up too.
async fn lookup(serving: &Serving, request: &Request, asked: Asked) -> Answered {
    let named = match &asked.command {
        Command::Lookup(lookup) => Some((lookup.account, lookup.key)),
        _ => None,
    };
    let reply = submit(serving, &request.caller, asked, request.deadline_ms()?).await;
    serving.count(Verb::Lookup, reply.outcome);
    if reply.outcome == Outcome::OriginalNotFound
        && let Some(answered) = named.and_then(|(account, key)| approvals::found(serving, account, key))
    {
        return answered;
    }
    // A stored refusal is an answer to the question that was asked.
    if reply.repeated || reply.outcome == Outcome::Fenced || reply.outcome.is_approval() {
        return Ok(Answer::ok(&ReplyJson { reply: &reply, status: None }));
    }
    Err(Problem::of_reply(reply))
}

/// The status of an approval: 201 when it made something for the first time.
pub(crate) fn status_of_approval(verb: Verb, reply: &Reply) -> StatusCode {
    let makes = matches!(
        verb,
        Verb::OpenAccount | Verb::Authorize | Verb::Capture | Verb::Refund | Verb::Advise | Verb::Transfer
    );
    let is_new = makes && !reply.repeated && reply.outcome != Outcome::AccountValid;
    if is_new { StatusCode::CREATED } else { StatusCode::OK }
}

/// The answer to a command.
pub(crate) fn answer(verb: Verb, reply: Reply) -> Answered {
    if reply.outcome.is_approval() {
        Ok(Answer::json(status_of_approval(verb, &reply), &ReplyJson { reply: &reply, status: None }))
    } else {
        Err(Problem::of_reply(reply))
    }
}
