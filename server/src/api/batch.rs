//! Batches: many commands in one request, each for itself.
//!
//! Owns the order: all are handed to the engine in their order before the first is waited for, so that those of one account are decided
//! in it and all share the disk's syncs. A batch is no transaction. Refuses to let a command do in a batch what it may not do alone.

use http::StatusCode;
use serde::ser::{Error as _, SerializeMap, SerializeSeq, Serializer};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use serde_json::{Map, Value};
use tp_actors::Pending;
use tp_actors::tp_core::command::{Command, Verb};
use tp_actors::tp_core::ids::AccountId;
use tp_actors::tp_core::key::Key;
use tp_actors::tp_core::outcome::Outcome;
use tp_actors::tp_core::reply::Reply;

use super::approvals;
use super::command::{Asked, command, parse_verb};
use super::commands::{Admitted, admit, is_free, status_of_approval, submit};
use super::key::{parse_key, parse_kind};
use super::members::{Members, Place};
use super::problem::{Problem, Refusal};
use super::reply::{ProblemJson, ReplyJson};
use super::request::{Answer, Answered, Caller, Request};
use super::routes::role_of;
use crate::app::Serving;
use crate::observe::AuthenticationFailure;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Batch<'a> {
    #[serde(borrow)]
    commands: Vec<Members<'a>>,
}

/// One command on its way.
pub(crate) enum Sent {
    /// To the engine.
    Engine(Verb, Pending),
    /// A question to the engine, and after it to those who decide second.
    Lookup(AccountId, Key, Pending),
    /// Answered without it.
    Problem(Problem),
    /// It waits for a second person.
    Second(Answer),
}

/// One command's end.
pub(crate) enum Done {
    Reply(Verb, Reply),
    Problem(Problem),
    Second(Answer),
}

/// `POST /v1/batches`
pub(crate) async fn run(serving: &Serving, request: &Request) -> Answered {
    let batch: Batch<'_> = request.json()?;
    let most = serving.batch_commands_max;
    if batch.commands.is_empty() || batch.commands.len() > most {
        return Err(Problem::invalid(format!("a batch has 1 to {most} commands")));
    }
    let deadline_ms = request.deadline_ms()?;
    // The request itself was counted by the gate.
    if !serving.may_send(request.caller.tenant, batch.commands.len() - 1) {
        return Err(Problem::new(Refusal::RateLimited, "each command of a batch counts"));
    }
    let mut sent = Vec::with_capacity(batch.commands.len());
    for members in &batch.commands {
        sent.push(send(serving, &request.caller, members, deadline_ms).await);
    }
    let mut done = Vec::with_capacity(sent.len());
    for one in sent {
        done.push(one.end(serving).await);
    }
    Ok(Answer::ok(&Replies(&done)))
}

impl Sent {
    /// Waits for what comes of it.
    pub(crate) async fn end(self, serving: &Serving) -> Done {
        match self {
            Self::Engine(verb, pending) => Done::of(serving, verb, None, pending.await),
            Self::Lookup(account, key, pending) => Done::of(serving, Verb::Lookup, Some((account, key)), pending.await),
            Self::Problem(problem) => Done::Problem(problem),
            Self::Second(answer) => Done::Second(answer),
        }
    }
}

impl Done {
    /// What the engine's reply comes to. A lookup, which names a command, is a question to those who decide second too.
    pub(crate) fn of(serving: &Serving, verb: Verb, named: Option<(AccountId, Key)>, reply: Reply) -> Self {
        serving.count(verb, reply.outcome);
        let waits = match (reply.outcome, named) {
            (Outcome::OriginalNotFound, Some((account, key))) => approvals::found(serving, account, key),
            _ => None,
        };
        match waits {
            Some(Ok(answer)) => Self::Second(answer),
            Some(Err(problem)) => Self::Problem(problem),
            None => Self::Reply(verb, reply),
        }
    }
}

/// How a command begins.
pub(crate) enum Begun {
    /// It is the engine's to decide.
    Free(Verb, Asked),
    /// Somebody else has a say first.
    Asks(Box<(Verb, Asked)>),
}

/// Begins a command. As on its own route: most need nobody's leave but the engine's, and their way makes no future.
pub(crate) fn begin(serving: &Serving, caller: &Caller, members: &Members<'_>) -> Result<Begun, Problem> {
    let (verb, asked) = read(serving, caller, members)?;
    Ok(begun(serving, caller, verb, asked))
}

/// The same for a command that was read otherwise.
pub(crate) fn begun(serving: &Serving, caller: &Caller, verb: Verb, asked: Asked) -> Begun {
    if is_free(serving, caller, &asked) { Begun::Free(verb, asked) } else { Begun::Asks(Box::new((verb, asked))) }
}

/// Hands a command to whoever has a say in it and to the engine.
pub(crate) async fn send(serving: &Serving, caller: &Caller, members: &Members<'_>, deadline_ms: Option<u64>) -> Sent {
    match begin(serving, caller, members) {
        Ok(Begun::Free(verb, asked)) => submitted(serving, caller, verb, asked, deadline_ms),
        Ok(Begun::Asks(asks)) => Box::pin(ask(serving, caller, *asks, (members, deadline_ms))).await,
        Err(problem) => Sent::Problem(problem),
    }
}

/// Asks those who have a say, then the engine.
pub(crate) async fn ask(
    serving: &Serving,
    caller: &Caller,
    (verb, asked): (Verb, Asked),
    (members, deadline_ms): (&Members<'_>, Option<u64>),
) -> Sent {
    match admit(serving, caller, asked, members).await {
        Ok(Admitted::Engine(asked)) => submitted(serving, caller, verb, asked, deadline_ms),
        Ok(Admitted::Second(answer)) => Sent::Second(answer),
        Err(problem) => Sent::Problem(problem),
    }
}

fn submitted(serving: &Serving, caller: &Caller, verb: Verb, asked: Asked, deadline_ms: Option<u64>) -> Sent {
    let named = named(&asked.command);
    let pending = submit(serving, caller, asked, deadline_ms);
    match named {
        Some((account, key)) => Sent::Lookup(account, key, pending),
        None => Sent::Engine(verb, pending),
    }
}

/// The command that a lookup asks for.
pub(crate) const fn named(command: &Command) -> Option<(AccountId, Key)> {
    match command {
        Command::Lookup(lookup) => Some((lookup.account, lookup.key)),
        _ => None,
    }
}

/// Whether the caller may ask for such a command.
pub(crate) fn check_role(serving: &Serving, caller: &Caller, verb: Verb, fences: bool) -> Result<(), Problem> {
    let role = if fences { crate::control::Role::Authorize } else { role_of(verb) };
    if caller.roles.has(role) {
        return Ok(());
    }
    serving.metrics.authentication_failure(AuthenticationFailure::Role);
    Err(Problem::new(Refusal::Forbidden, format!("it needs the role {}", role.name())))
}

fn read(serving: &Serving, caller: &Caller, members: &Members<'_>) -> Result<(Verb, Asked), Problem> {
    let verb = members.command.as_deref().and_then(parse_verb);
    let verb = verb.ok_or_else(|| Problem::invalid("`command` is the name of a command"))?;
    check_role(serving, caller, verb, verb == Verb::Lookup && members.fence == Some(true))?;
    members.check(verb, Place::Batch)?;
    let kind = parse_kind(members.key_kind.as_deref())?;
    let text = members.key.as_deref().ok_or_else(|| Problem::new(Refusal::KeyMissing, "`key` is missing"))?;
    let key = parse_key(text, kind)?;
    Ok((verb, command(verb, members, key, caller.tenant)?))
}

struct Replies<'a>(&'a [Done]);

impl Serialize for Replies<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(Some(1))?;
        map.serialize_entry("replies", &List(self.0))?;
        map.end()
    }
}

struct List<'a>(&'a [Done]);

impl Serialize for List<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut list = serializer.serialize_seq(Some(self.0.len()))?;
        for done in self.0 {
            match done {
                Done::Reply(verb, reply) if is_answer(*verb, reply) => {
                    let status = Some(status_of_approval(*verb, reply).as_u16());
                    list.serialize_element(&ReplyJson { reply, status })?;
                }
                Done::Reply(_, reply) => {
                    let problem = Problem::of_reply(reply.clone());
                    list.serialize_element(&ProblemJson { problem: &problem, trace_id: None })?;
                }
                Done::Problem(problem) => list.serialize_element(&ProblemJson { problem, trace_id: None })?,
                Done::Second(answer) => list.serialize_element(&SecondJson(answer))?,
            }
        }
        list.end()
    }
}

/// What answers a lookup is no problem, whatever it found.
pub(crate) fn is_answer(verb: Verb, reply: &Reply) -> bool {
    let found = verb == Verb::Lookup && (reply.repeated || reply.outcome == Outcome::Fenced);
    found || reply.outcome.is_approval()
}

/// An approval within a batch's answer, with its status; or what came of it.
struct SecondJson<'a>(&'a Answer);

impl Serialize for SecondJson<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let status = self.0.status;
        // Over: what came of it, as any other command is answered.
        if status != StatusCode::ACCEPTED {
            let mut members: Map<String, Value> = serde_json::from_slice(&self.0.body).map_err(S::Error::custom)?;
            members.insert("status".to_owned(), status.as_u16().into());
            return members.serialize(serializer);
        }
        let mut map = serializer.serialize_map(Some(2))?;
        map.serialize_entry("status", &status.as_u16())?;
        let text = std::str::from_utf8(&self.0.body).unwrap_or("null");
        let raw = RawValue::from_string(text.to_owned()).map_err(S::Error::custom)?;
        map.serialize_entry("approval", &raw)?;
        map.end()
    }
}
