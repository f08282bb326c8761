//! The gRPC door: the commands of the HTTP protocol as messages, on the same listener.
//!
//! Owns the service of `protocol/proto/tpcore.proto`, its mapping to the members of a command and back, streams of commands and of events,
//! cursors, health and reflection. Refuses
//! to know anything about commands that `api` does not: roles, tenants, second persons and keys are tested there, in one place.
//!
//! ```text
//!   POST, HTTP/2, application/grpc -> guard (who, as HTTP) -> tonic -> members -> api::batch -> engine
//!   stream: commands in, so many under way; replies out as they become durable, in any order
//! ```
//!
//! Invariants: those of the HTTP protocol; GRP-1 (a reply says what HTTP would say, status code and outcome), DRN-1 (a stream that the
//! server's end finds open answers what it took).

mod convert;
mod door;
mod follow;
mod stream;

use std::borrow::Cow;
use std::sync::Arc;
use std::time::Instant;

use axum::Router;
use axum::extract::{Request, State};
use axum::middleware::{Next, from_fn_with_state};
use axum::response::{IntoResponse as _, Response};
use http::{HeaderMap, Method, StatusCode, Version};
use http_body_util::{BodyExt as _, Limited};
use tonic::{Code, Status};
use tonic_health::pb::health_server::HealthServer;
use tonic_health::server::HealthService;

use crate::app::{App, Seen, method_label};
use crate::observe::Stage;
use door::{Door, Known};
use proto::gateway_server::GatewayServer;
use tp_protocol::grpc as proto;

/// An answer that goes on: only what of it waits to be taken has a deadline. Marked by who knows its caller.
#[derive(Clone, Copy)]
pub(crate) struct GoesOn;

/// The routes of the services, and what reports their health.
///
/// # Errors
/// The descriptor set cannot be read: a bug.
pub(crate) fn router(app: &Arc<App>) -> Result<(Router, tonic_health::server::HealthReporter), String> {
    let most = app.limits.body_bytes_max;
    let gateway = GatewayServer::new(Door::new(app.stopped.clone()));
    let gateway = gateway.max_decoding_message_size(most).max_encoding_message_size(MESSAGE_BYTES_MAX);
    let (reporter, _) = tonic_health::server::health_reporter();
    let health = HealthServer::new(HealthService::from_health_reporter(reporter.clone()));
    let reflection = tonic_reflection::server::Builder::configure()
        .register_encoded_file_descriptor_set(proto::DESCRIPTOR)
        .register_encoded_file_descriptor_set(tonic_health::pb::FILE_DESCRIPTOR_SET)
        .build_v1()
        .map_err(|error| error.to_string())?;
    // Not `Routes::default()`: that has a fallback, and so has ours.
    let routes = tonic::service::Routes::from(Router::new());
    let routes = routes.add_service(gateway).add_service(health).add_service(reflection);
    Ok((routes.into_axum_router().layer(from_fn_with_state(Arc::clone(app), guard)), reporter))
}

/// Where the methods are.
pub(crate) const SERVICE: &str = "/tpcore.v1.Gateway/";

/// Its methods, for metrics and logs.
pub(crate) const METHODS: [&str; 7] =
    ["Execute", "ExecuteBatch", "Stream", "Follow", "SetCursor", "GetCursor", "GetAccount"];

/// What a method with one reply told: the status code that HTTP has for it, and the outcome's name.
#[derive(Clone)]
pub(crate) struct Told {
    pub(crate) status: u16,
    pub(crate) outcome: Cow<'static, str>,
}

/// The status code that HTTP has for the end of a call.
fn status_of(response: &Response) -> u16 {
    let code = response.headers().get("grpc-status").map_or(Code::Ok, |code| Code::from_bytes(code.as_bytes()));
    match code {
        Code::Ok => 200,
        Code::Unauthenticated => 401,
        Code::PermissionDenied => 403,
        Code::NotFound => 404,
        Code::ResourceExhausted => 429,
        Code::Unavailable => 503,
        Code::DeadlineExceeded => 408,
        Code::InvalidArgument | Code::OutOfRange | Code::Unimplemented => 400,
        _ => 500,
    }
}

/// The longest message out: a batch of replies.
const MESSAGE_BYTES_MAX: usize = 8 << 20;

/// Before tonic: its code looks at the path only, and reads a message before anybody asks whose it is. So who is calling is told here, by the
/// head of the request, and a call with one message is read here, within its bounds.
async fn guard(State(app): State<Arc<App>>, request: Request, next: Next) -> Response {
    let is_grpc =
        request.version() == Version::HTTP_2 && request.method() == Method::POST && is_grpc(request.headers());
    if !is_grpc {
        return StatusCode::UNSUPPORTED_MEDIA_TYPE.into_response();
    }
    if !request.uri().path().starts_with(SERVICE) {
        return admit(&app, request, next, None).await;
    }
    let (label, _counted) = (method_label(request.uri().path()), app.metrics.in_flight());
    let (parts, body) = request.into_parts();
    let mut seen = Seen::new(&parts);
    let response = admit(&app, Request::from_parts(parts, body), next, Some(&mut seen)).await;
    // Of a stream: that it was opened.
    let told = response.extensions().get::<Told>().cloned();
    let told = told.unwrap_or_else(|| Told { status: status_of(&response), outcome: "".into() });
    app.answered(label, told.status, &told.outcome, seen);
    response
}

/// Reads what may be read, and lets tonic go on. `seen`: it is a call of the gateway.
async fn admit(app: &Arc<App>, request: Request, next: Next, mut seen: Option<&mut Seen>) -> Response {
    let path = request.uri().path();
    if path == "/grpc.health.v1.Health/Watch" {
        // Anybody could keep it open for ever.
        return Status::unimplemented("call Check").into_http();
    }
    let is_stream = path.strip_prefix(SERVICE) == Some("Stream");
    let (mut parts, body) = request.into_parts();
    let mut _place = None;
    if let Some(seen) = seen.as_mut() {
        let known = match Known::identify(app, &parts) {
            Ok(known) => known,
            Err(status) => return status.into_http(),
        };
        seen.caller = Some(known.caller.clone());
        if !is_stream {
            match known.enter() {
                Ok(place) => _place = Some(place),
                Err(problem) => return door::status(&problem).into_http(),
            }
        }
        parts.extensions.insert(known);
        seen.watch.lap(Stage::Gate, Instant::now());
    }
    if is_stream {
        return next.run(Request::from_parts(parts, body)).await;
    }
    let whole = Limited::new(body, app.limits.body_bytes_max + HEAD_BYTES).collect();
    let body = match tokio::time::timeout(app.limits.body, whole).await {
        Ok(Ok(collected)) => collected.to_bytes(),
        Ok(Err(_)) => return Status::out_of_range("a message that is too long, or ended early").into_http(),
        Err(_) => return Status::deadline_exceeded("the message did not come in time").into_http(),
    };
    if let Some(seen) = seen.as_mut() {
        seen.watch.lap(Stage::Read, Instant::now());
    }
    let is_batch = parts.uri.path().strip_prefix(SERVICE) == Some("ExecuteBatch");
    if is_batch && commands_of(body.get(HEAD_BYTES..).unwrap_or_default()) > app.limits.batch_commands_max {
        return Status::invalid_argument(format!("a batch has 1 to {} commands", app.limits.batch_commands_max))
            .into_http();
    }
    let response = next.run(Request::from_parts(parts, body.into())).await;
    if let Some(seen) = seen {
        seen.watch.lap(Stage::Engine, Instant::now());
    }
    response
}

/// Of a message on the wire: whether it is compressed, and its length.
const HEAD_BYTES: usize = 5;

/// How many commands a batch has, from its bytes: read, each takes three hundred times the two bytes that an empty one has.
fn commands_of(mut bytes: &[u8]) -> usize {
    let mut count = 0;
    while let Some((b'\x0A', rest)) = bytes.split_first() {
        let Ok(length) = prost::decode_length_delimiter(rest) else { break };
        let Some(next) = rest.get(prost::length_delimiter_len(length) + length..) else { break };
        bytes = next;
        count += 1;
    }
    count
}

fn is_grpc(headers: &HeaderMap) -> bool {
    headers.get(http::header::CONTENT_TYPE).is_some_and(|kind| {
        let rest = kind.as_bytes().strip_prefix(b"application/grpc");
        matches!(rest, Some([] | [b'+' | b';', ..]))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use prost::Message as _;

    #[test]
    fn every_method_of_the_service_has_a_label_and_no_other() {
        let proto = include_str!("../../../protocol/proto/tpcore.proto");
        let methods: Vec<&str> =
            proto.lines().filter_map(|line| line.trim().strip_prefix("rpc ")?.split('(').next()).collect();
        assert_eq!(methods, METHODS);
        assert!(method_label("/tpcore.v1.Gateway/Drop") == usize::MAX && method_label("/x") == usize::MAX);
    }

    #[test]
    fn the_commands_of_a_batch_are_counted_without_reading_them() {
        for count in [0, 1, 3, 1000] {
            let command = proto::Command { tag: 7, reference: Some("x".repeat(count)), ..proto::Command::default() };
            let batch = proto::CommandBatch { commands: vec![command; count] };
            assert_eq!(commands_of(&batch.encode_to_vec()), count);
        }
        assert_eq!(commands_of(&[0x0A, 0].repeat(500)), 500, "empty ones");
        for broken in [&[0x0A][..], &[0x0A, 5, 1], &[0x0A, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0x7F], &[1]]
        {
            assert_eq!(commands_of(broken), 0);
        }
    }
}
