//! The service: who calls, and one command, many, or a stream of them.
//!
//! Owns the order of a call: recovered? who, room, commands. Refuses request signatures: they sign a body, and a stream has none.

use std::pin::Pin;
use std::sync::Arc;

use http::Method;
use tokio_stream::Stream;
use tonic::metadata::MetadataMap;
use tonic::{Request, Response, Status, Streaming};

use super::GoesOn;
use super::convert::{deadline_ms, members, problem, reply};
use super::proto::gateway_server::Gateway;
use super::proto::{Command, CommandBatch, Reply, ReplyBatch};
use super::stream::Replies;
use crate::api::batch::{self, Begun, Done, Sent};
use crate::api::problem::{Problem, Refusal};
use crate::api::request::Caller;
use crate::app::{App, Serving};
use crate::gate::{Connection, Place};

/// The service of a server.
pub(super) struct Door {
    app: Arc<App>,
}

/// Who calls, and what serves him.
#[derive(Clone)]
pub(super) struct Known {
    pub(super) serving: Arc<Serving>,
    pub(super) caller: Caller,
}

impl Door {
    pub(super) const fn new(app: Arc<App>) -> Self {
        Self { app }
    }

    /// Who calls.
    fn known<T>(&self, request: &Request<T>, path: &'static str) -> Result<Known, Status> {
        let serving = self.app.serving.get().ok_or_else(|| Status::unavailable("recovering"))?;
        let connection =
            request.extensions().get::<Arc<Connection>>().ok_or_else(|| Status::internal("no connection"))?;
        let parts = parts(request.metadata(), path)?;
        let known = self.app.identify(serving, connection, &parts).map_err(|problem| status(&problem))?;
        if known.head.is_some() {
            return Err(Status::unauthenticated(
                "request signatures are for HTTP: use a key, a token or a certificate",
            ));
        }
        Ok(Known { serving: Arc::clone(serving), caller: known.caller })
    }
}

/// What HTTP would have of a call.
fn parts(metadata: &MetadataMap, path: &'static str) -> Result<http::request::Parts, Status> {
    let request = http::Request::builder().method(Method::POST).uri(path).body(());
    let (mut parts, ()) = request.map_err(|_| Status::internal("a path"))?.into_parts();
    parts.headers = metadata.clone().into_headers();
    Ok(parts)
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
    /// A place among the tenant's requests under way.
    pub(super) fn enter(&self) -> Result<Place, Problem> {
        self.serving.rooms.enter(self.caller.tenant).map_err(|refusal| Problem::new(refusal, ""))
    }

    /// Hands a command to the engine, when nobody else has a say. Not a future: so the order of commands is that of the calls.
    pub(super) fn begin(&self, command: &Command) -> Result<Begun, Problem> {
        let (members, deadline_ms) = (members(command)?, deadline_ms(command)?);
        Ok(batch::begin(&self.serving, &self.caller, &members, deadline_ms))
    }

    /// What comes of a command.
    pub(super) async fn end(&self, begun: Result<Begun, Problem>, command: &Command) -> Done {
        match begun {
            Ok(Begun::Sent(sent)) => sent.end(&self.serving).await,
            Ok(Begun::Asks(asked)) => match members(command) {
                Ok(members) => {
                    let deadline_ms = deadline_ms(command).unwrap_or(None);
                    let sent = Box::pin(batch::ask(&self.serving, &self.caller, *asked, (&members, deadline_ms))).await;
                    sent.end(&self.serving).await
                }
                Err(problem) => Done::Problem(problem),
            },
            Err(problem) => Done::Problem(problem),
        }
    }
}

/// A stream of replies.
type BoxStream = Pin<Box<dyn Stream<Item = Result<Reply, Status>> + Send>>;

#[tonic::async_trait]
impl Gateway for Door {
    async fn execute(&self, request: Request<Command>) -> Result<Response<Reply>, Status> {
        let known = self.known(&request, "/tpcore.v1.Gateway/Execute")?;
        let _place = known.enter().map_err(|problem| status(&problem))?;
        let command = request.into_inner();
        let begun = known.begin(&command);
        let done = known.end(begun, &command).await;
        Ok(Response::new(reply(command.tag, done)))
    }

    async fn execute_batch(&self, request: Request<CommandBatch>) -> Result<Response<ReplyBatch>, Status> {
        let known = self.known(&request, "/tpcore.v1.Gateway/ExecuteBatch")?;
        let _place = known.enter().map_err(|problem| status(&problem))?;
        let (commands, most) = (request.into_inner().commands, known.serving.batch_commands_max);
        if commands.is_empty() || commands.len() > most {
            return Err(Status::invalid_argument(format!("a batch has 1 to {most} commands")));
        }
        if !known.serving.may_send(known.caller.tenant, commands.len() - 1) {
            return Err(status(&Problem::new(Refusal::RateLimited, "each command of a batch counts")));
        }
        // All are handed over before the first is waited for: they share the disk's syncs.
        let mut begun = Vec::with_capacity(commands.len());
        for command in &commands {
            begun.push(match known.begin(command) {
                // In its place: those of one account are decided in their order.
                Ok(Begun::Asks(_)) => {
                    Ok(Begun::Sent(Sent::Done(Box::new(known.end(known.begin(command), command).await))))
                }
                begun => begun,
            });
        }
        let mut replies = Vec::with_capacity(commands.len());
        for (begun, command) in begun.into_iter().zip(&commands) {
            replies.push(reply(command.tag, known.end(begun, command).await));
        }
        Ok(Response::new(ReplyBatch { replies }))
    }

    type StreamStream = BoxStream;

    async fn stream(&self, request: Request<Streaming<Command>>) -> Result<Response<BoxStream>, Status> {
        let known = self.known(&request, "/tpcore.v1.Gateway/Stream")?;
        let replies = Replies::new(known, request.into_inner(), self.app.stopped.clone());
        let mut response: Response<BoxStream> = Response::new(Box::pin(replies));
        response.extensions_mut().insert(GoesOn);
        Ok(response)
    }
}

/// A command that was refused before it was asked, as a reply.
pub(super) fn refused(tag: u64, refusal: &Problem) -> Reply {
    problem(tag, refusal)
}
