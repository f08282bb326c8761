//! The service: who calls, and one command, many, or a stream of them.
//!
//! Owns the order of a call: recovered? who, room, commands. Refuses request signatures: they sign a body, and a stream has none.

use std::pin::Pin;
use std::sync::Arc;

use http::request::Parts;
use tokio::sync::watch;
use tokio_stream::Stream;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status, Streaming};
use tp_actors::tp_core::command::Verb;

use super::convert::{deadline_ms, members, reply};
use super::stream::Replies;
use super::{GoesOn, Told, follow};
use crate::api::batch::{self, Begun, Sent};
use crate::api::command::Asked;
use crate::api::problem::{Problem, Refusal};
use crate::api::request::Caller;
use crate::app::{App, Serving};
use crate::control::Role;
use crate::gate::{Connection, Place, Room};
use tp_protocol::grpc::gateway_server::Gateway;
use tp_protocol::grpc::{
    Account, AccountRequest, Command, CommandBatch, Cursor, CursorRequest, Event, FollowRequest, Reply, ReplyBatch,
};

/// The service of a server. Who calls was told before (`guard`).
pub(super) struct Door {
    stopped: watch::Receiver<bool>,
}

/// Who calls, and what serves him.
#[derive(Clone)]
pub(super) struct Known {
    pub(super) serving: Arc<Serving>,
    room: Arc<Room>,
    pub(super) caller: Caller,
}

impl Door {
    pub(super) const fn new(stopped: watch::Receiver<bool>) -> Self {
        Self { stopped }
    }
}

/// Who calls.
fn known<T>(request: &Request<T>) -> Result<Known, Status> {
    request.extensions().get::<Known>().cloned().ok_or_else(|| Status::internal("a bug: nobody asked who is calling"))
}

/// A problem that is no reply: nothing was asked.
pub(super) fn status(problem: &Problem) -> Status {
    let text =
        format!("{}: {}", problem.name, if problem.detail.is_empty() { &problem.title } else { &problem.detail });
    match problem.status.as_u16() {
        401 => Status::unauthenticated(text),
        403 => Status::permission_denied(text),
        429 => Status::resource_exhausted(text),
        503 => Status::unavailable(text),
        400..500 => Status::invalid_argument(text),
        _ => Status::internal(text),
    }
}

impl Known {
    /// Who calls, by the head of a request.
    pub(super) fn identify(app: &App, parts: &Parts) -> Result<Self, Status> {
        let serving = app.serving.get().ok_or_else(|| Status::unavailable("recovering"))?;
        let connection = parts.extensions.get::<Arc<Connection>>().ok_or_else(|| Status::internal("no connection"))?;
        let known = app.identify(serving, connection, parts).map_err(|problem| status(&problem))?;
        if known.head.is_some() {
            return Err(Status::unauthenticated(
                "request signatures are for HTTP: use a key, a token or a certificate",
            ));
        }
        let room = serving.rooms.room(known.caller.tenant);
        Ok(Self { serving: Arc::clone(serving), room, caller: known.caller })
    }

    /// Whether the caller has a role.
    pub(super) fn needs(&self, role: Role) -> Result<(), Status> {
        let has = self.caller.roles.has(role);
        has.then_some(())
            .ok_or_else(|| Status::permission_denied(format!("forbidden: it needs the role {}", role.name())))
    }

    /// A place among the tenant's requests under way.
    pub(super) fn enter(&self) -> Result<Place, Problem> {
        self.serving.enter(&self.room)
    }

    /// What a command asks for, its deadline, and whether anybody but the engine has a say.
    pub(super) fn begin(&self, command: &Command) -> Result<(Begun, Option<u64>), Problem> {
        let (members, deadline_ms) = (members(command)?, deadline_ms(command)?);
        Ok((batch::begin(&self.serving, &self.caller, &members)?, deadline_ms))
    }

    /// Asks those who have a say, then the engine.
    pub(super) async fn ask(&self, asks: Box<(Verb, Asked)>, command: &Command) -> Sent {
        match (members(command), deadline_ms(command)) {
            (Ok(members), Ok(deadline_ms)) => {
                Box::pin(batch::ask(&self.serving, &self.caller, *asks, (&members, deadline_ms))).await
            }
            (Err(problem), _) | (_, Err(problem)) => Sent::Problem(problem),
        }
    }

    /// Hands a command to whoever has a say in it and to the engine.
    async fn send(&self, command: &Command) -> Sent {
        match (members(command), deadline_ms(command)) {
            (Ok(members), Ok(deadline_ms)) => batch::send(&self.serving, &self.caller, &members, deadline_ms).await,
            (Err(problem), _) | (_, Err(problem)) => Sent::Problem(problem),
        }
    }
}

/// A stream of replies.
type BoxStream = Pin<Box<dyn Stream<Item = Result<Reply, Status>> + Send>>;

#[tonic::async_trait]
impl Gateway for Door {
    async fn execute(&self, request: Request<Command>) -> Result<Response<Reply>, Status> {
        let known = known(&request)?;
        let command = request.into_inner();
        let done = known.send(&command).await.end(&known.serving).await;
        let reply = reply(command.tag, done);
        let told = Told { status: u16::try_from(reply.status).unwrap_or(0), outcome: reply.outcome.clone().into() };
        let mut response = Response::new(reply);
        response.extensions_mut().insert(told);
        Ok(response)
    }

    async fn execute_batch(&self, request: Request<CommandBatch>) -> Result<Response<ReplyBatch>, Status> {
        let known = known(&request)?;
        let (commands, most) = (request.into_inner().commands, known.serving.batch_commands_max);
        if commands.is_empty() || commands.len() > most {
            return Err(Status::invalid_argument(format!("a batch has 1 to {most} commands")));
        }
        if !known.serving.may_send(known.caller.tenant, commands.len() - 1) {
            return Err(status(&Problem::new(Refusal::RateLimited, "each command of a batch counts")));
        }
        // All are handed over before the first is waited for: they share the disk's syncs.
        let mut sent = Vec::with_capacity(commands.len());
        for command in &commands {
            sent.push(known.send(command).await);
        }
        let mut replies = Vec::with_capacity(commands.len());
        for (sent, command) in sent.into_iter().zip(&commands) {
            replies.push(reply(command.tag, sent.end(&known.serving).await));
        }
        Ok(Response::new(ReplyBatch { replies }))
    }

    type StreamStream = BoxStream;

    async fn stream(&self, request: Request<Streaming<Command>>) -> Result<Response<BoxStream>, Status> {
        let known = known(&request)?;
        let replies = Replies::new(known, request.into_inner(), self.stopped.clone());
        let mut response: Response<BoxStream> = Response::new(Box::pin(replies));
        response.extensions_mut().insert(GoesOn);
        Ok(response)
    }

    type FollowStream = ReceiverStream<Result<Event, Status>>;

    async fn follow(&self, request: Request<FollowRequest>) -> Result<Response<Self::FollowStream>, Status> {
        let known = known(&request)?;
        let events = follow::follow(&known, request.into_inner(), self.stopped.clone()).await?;
        let mut response = Response::new(ReceiverStream::new(events));
        response.extensions_mut().insert(GoesOn);
        Ok(response)
    }

    async fn set_cursor(&self, request: Request<Cursor>) -> Result<Response<Cursor>, Status> {
        let known = known(&request)?;
        follow::set_cursor(&known, request.into_inner()).await.map(Response::new)
    }

    async fn get_cursor(&self, request: Request<CursorRequest>) -> Result<Response<Cursor>, Status> {
        let known = known(&request)?;
        follow::get_cursor(&known, request.into_inner()).await.map(Response::new)
    }

    async fn get_account(&self, request: Request<AccountRequest>) -> Result<Response<Account>, Status> {
        let known = known(&request)?;
        follow::get_account(&known, &request.into_inner()).await.map(Response::new)
    }
}
