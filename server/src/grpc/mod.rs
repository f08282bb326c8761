//! The gRPC door: the commands of the HTTP protocol as messages, on the same listener.
//!
//! Owns the service of `server/proto/tpcore.proto`, its mapping to the members of a command and back, streams, health and reflection. Refuses
//! to know anything about commands that `api` does not: roles, tenants, second persons and keys are tested there, in one place.
//!
//! ```text
//!   POST, HTTP/2, application/grpc -> guard -> tonic -> who (as HTTP) -> members -> api::batch -> engine
//!   stream: commands in, so many under way; replies out as they become durable, in any order
//! ```
//!
//! Invariants: those of the HTTP protocol; GRP-1 (a reply says what HTTP would say, status code and outcome), DRN-1 (a stream that the
//! server's end finds open answers what it took).

mod convert;
mod door;
mod stream;

use std::sync::Arc;

use axum::Router;
use axum::extract::Request;
use axum::middleware::{Next, from_fn};
use axum::response::{IntoResponse as _, Response};
use http::{HeaderMap, Method, StatusCode, Version};
use tonic_health::pb::health_server::HealthServer;
use tonic_health::server::HealthService;

use crate::app::App;
use door::Door;
use proto::gateway_server::GatewayServer;

/// The messages and the client of the service, generated from `server/proto/tpcore.proto` (see `server/proto/generate`).
#[allow(clippy::all, clippy::pedantic, missing_docs, unreachable_pub, reason = "generated")]
pub mod proto {
    include!("generated/tpcore.v1.rs");

    /// The descriptor set, for reflection.
    pub const DESCRIPTOR: &[u8] = include_bytes!("generated/descriptor.bin");
}

/// An answer that goes on: it has no deadline for being taken. Marked by who knows its caller, and for health.
#[derive(Clone, Copy)]
pub(crate) struct GoesOn;

/// The routes of the services, and what reports their health.
///
/// # Errors
/// The descriptor set cannot be read: a bug.
pub(crate) fn router(app: &Arc<App>) -> Result<(Router, tonic_health::server::HealthReporter), String> {
    let most = app.limits.body_bytes_max;
    let gateway = GatewayServer::new(Door::new(Arc::clone(app)));
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
    Ok((routes.into_axum_router().layer(from_fn(guard)), reporter))
}

/// The longest message out: a batch of replies.
const MESSAGE_BYTES_MAX: usize = 8 << 20;

/// What is no gRPC is not tonic's: its code looks at the path only.
async fn guard(request: Request, next: Next) -> Response {
    let is_grpc =
        request.version() == Version::HTTP_2 && request.method() == Method::POST && is_grpc(request.headers());
    if !is_grpc {
        return StatusCode::UNSUPPORTED_MEDIA_TYPE.into_response();
    }
    let goes_on = request.uri().path() == "/grpc.health.v1.Health/Watch";
    let mut response = next.run(request).await;
    if goes_on {
        response.extensions_mut().insert(GoesOn);
    }
    response
}

fn is_grpc(headers: &HeaderMap) -> bool {
    headers.get(http::header::CONTENT_TYPE).is_some_and(|kind| {
        let rest = kind.as_bytes().strip_prefix(b"application/grpc");
        matches!(rest, Some([] | [b'+' | b';', ..]))
    })
}
