//! One request from its head to its answer.
//!
//! ```text
//!   route -> recovered? -> who -> role -> room -> body (bounded, in time) -> signature's rest -> operation -> answer
//! ```
//! Owns that order, which is the same for every route of the table. Refuses to know sockets. Nothing that a caller sends is looked at
//! before its size is bounded, and nothing of a tenant before it is known who is calling.

use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use axum::Router;
use axum::extract::rejection::RawPathParamsRejection;
use axum::extract::{Extension, RawPathParams, State};
use axum::response::Response;
use axum::routing::MethodRouter;
use bytes::Bytes;
use http::header::{CONTENT_TYPE, RETRY_AFTER, WWW_AUTHENTICATE};
use http::request::Parts;
use http::{HeaderValue, StatusCode};
use http_body_util::{BodyExt as _, LengthLimitError, Limited};
use tokio::sync::Semaphore;
use tp_actors::Engine;
use tp_actors::tp_core::command::Verb;
use tp_actors::tp_core::outcome::Outcome;

use crate::api::problem::{Problem, Refusal};
use crate::api::reply::ProblemJson;
use crate::api::request::{Answer, Answered, Caller, Request, depth_exceeds};
use crate::api::routes::{Access, Operation, ROUTES, Route, is_operators};
use crate::api::{admin, approvals, batch, cards, commands, openapi, reads};
use crate::auth::seal::Sealer;
use crate::cards::Vault;
use crate::control::{Control, NO_KEY, Role, now};
use crate::gate::{Again, Connection, Failed, Failures, Gate, Place, Room, Rooms};
use crate::grpc::{METHODS, SERVICE};
use crate::observe::{AuthenticationFailure, Metrics, RateLimit, Stage, Stopwatch, TraceContext, log};
use crate::settings::Settings;
use crate::tenancy::TenantId;

/// What serves once the engine has recovered.
pub(crate) struct Serving {
    pub(crate) engine: Arc<Engine>,
    pub(crate) control: Arc<Control>,
    pub(crate) vault: Arc<Vault>,
    pub(crate) sealer: Arc<Sealer>,
    pub(crate) rooms: Arc<Rooms>,
    pub(crate) metrics: Arc<Metrics>,
    pub(crate) history_permits: Arc<Semaphore>,
    pub(crate) follow_permits: Arc<Semaphore>,
    pub(crate) command_ms: u64,
    pub(crate) approval_ms: u64,
    pub(crate) approvals_max: usize,
    pub(crate) batch_commands_max: usize,
}

impl Serving {
    /// Whether the tenant's rate allows so many commands more.
    pub(crate) fn may_send(&self, tenant: TenantId, more: usize) -> bool {
        self.rooms.may_send(tenant, more)
    }

    /// Whether what proved who began something is still worth something: a key that is not revoked, a token that is not over.
    pub(crate) fn is_live(&self, caller: &Caller) -> bool {
        if caller.key == NO_KEY {
            return !caller.is_over(now().0 / 1000);
        }
        self.control.read(|state| state.live_key(caller.key).is_some())
    }

    /// A place among a tenant's requests under way.
    pub(crate) fn enter(&self, room: &Arc<Room>) -> Result<Place, Problem> {
        room.enter().map_err(|refusal| {
            let limit = if refusal == Refusal::RateLimited { RateLimit::Tenant } else { RateLimit::TenantInFlight };
            self.metrics.rate_limited(limit);
            Problem::new(refusal, "")
        })
    }

    /// Counts a command.
    pub(crate) fn count(&self, verb: Verb, outcome: Outcome) {
        self.metrics.command(verb, outcome, Instant::now());
    }
}

/// Everything that requests share.
pub(crate) struct App {
    pub(crate) gate: Gate,
    pub(crate) rooms: Arc<Rooms>,
    pub(crate) failures: Failures,
    pub(crate) metrics: Arc<Metrics>,
    pub(crate) serving: OnceLock<Arc<Serving>>,
    /// Set when the server is told to stop: not ready any more.
    pub(crate) is_stopping: std::sync::atomic::AtomicBool,
    /// The same, for what waits for it.
    pub(crate) stopped: tokio::sync::watch::Receiver<bool>,
    pub(crate) started: Instant,
    pub(crate) limits: RequestLimits,
    #[cfg(feature = "otlp")]
    pub(crate) traces: Option<crate::observe::otlp::Traces>,
}

/// The bounds of one request.
pub(crate) struct RequestLimits {
    pub(crate) body_bytes_max: usize,
    pub(crate) json_depth_max: usize,
    pub(crate) batch_commands_max: usize,
    pub(crate) body: Duration,
    pub(crate) slow: Duration,
}

impl RequestLimits {
    pub(crate) fn of(settings: &Settings) -> Self {
        Self {
            body_bytes_max: settings.body_bytes_max.size(),
            json_depth_max: settings.json_depth_max.size(),
            batch_commands_max: settings.batch_commands_max.size(),
            body: settings.body_ms.ms(),
            slow: settings.log_slow_ms.ms(),
        }
    }
}

/// The labels of the routes in metrics and logs: those of the table, then the methods of gRPC.
pub(crate) fn route_labels() -> &'static [&'static str] {
    static LABELS: OnceLock<Vec<&'static str>> = OnceLock::new();
    LABELS.get_or_init(|| {
        let label = |text: String| &*Box::leak(text.into_boxed_str());
        let routes = ROUTES.iter().map(|route| label(format!("{} {}", route.method, route.path)));
        routes.chain(METHODS.iter().map(|method| label(format!("POST {SERVICE}{method}")))).collect()
    })
}

/// The index of a gRPC method's label; beyond the labels: there is no such method.
pub(crate) fn method_label(path: &str) -> usize {
    let method = path.strip_prefix(SERVICE).and_then(|name| METHODS.iter().position(|method| *method == name));
    method.map_or(usize::MAX, |at| ROUTES.len() + at)
}

/// The router of the table. `wanted` chooses its routes.
pub(crate) fn router(app: &Arc<App>, wanted: impl Fn(&Route) -> bool) -> Router {
    let mut router: Router<Arc<App>> = Router::new();
    let mut paths: Vec<(&'static str, MethodRouter<Arc<App>>)> = Vec::new();
    for (index, route) in ROUTES.iter().enumerate().filter(|(_, route)| wanted(route)) {
        let handler = move |State(app): State<Arc<App>>,
                            Extension(connection): Extension<Arc<Connection>>,
                            path: Result<RawPathParams, RawPathParamsRejection>,
                            request: axum::extract::Request| async move {
            let Ok(path) = path else {
                return unrouted(&app.metrics, &Problem::invalid("the path is not percent-encoded UTF-8"));
            };
            let path = path.iter().map(|(_, value)| value.to_owned()).collect();
            app.answer(index, &connection, path, request).await
        };
        let filter = axum::routing::MethodFilter::try_from(route.method.clone());
        let Ok(filter) = filter else { continue };
        let methods = match paths.iter_mut().find(|(path, _)| *path == route.path) {
            Some((_, methods)) => std::mem::take(methods),
            None => MethodRouter::new(),
        };
        let methods = methods.on(filter, handler);
        match paths.iter_mut().find(|(path, _)| *path == route.path) {
            Some(found) => found.1 = methods,
            None => paths.push((route.path, methods)),
        }
    }
    for (path, methods) in paths {
        router = router.route(path, methods);
    }
    router
        .method_not_allowed_fallback(|State(app): State<Arc<App>>| async move {
            unrouted(&app.metrics, &Problem::new(Refusal::MethodNotAllowed, ""))
        })
        .fallback(|State(app): State<Arc<App>>| async move {
            let detail = "there is no such route: /openapi.json describes them";
            unrouted(&app.metrics, &Problem::new(Refusal::NotFound, detail))
        })
        .with_state(Arc::clone(app))
}

/// What is known of a request when it is answered, for logs and metrics.
pub(crate) struct Seen {
    pub(crate) caller: Option<Caller>,
    pub(crate) watch: Stopwatch,
    pub(crate) trace: TraceContext,
}

impl Seen {
    /// A request whose head is there.
    pub(crate) fn new(parts: &Parts) -> Self {
        Self { caller: None, watch: Stopwatch::start(Instant::now()), trace: trace_of(parts) }
    }
}

impl App {
    /// Answers one request of a route.
    async fn answer(
        &self,
        index: usize,
        connection: &Connection,
        path: Vec<String>,
        request: axum::extract::Request,
    ) -> Response {
        let route: &'static Route = &ROUTES[index];
        let (parts, body) = request.into_parts();
        let mut seen = Seen::new(&parts);
        let _counted = self.metrics.in_flight();
        let answered = self.run(route, connection, path, parts, body, &mut seen).await;
        let (response, status, outcome) = match answered {
            Ok(answer) => {
                let status = answer.status;
                // What came of an approval is answered as it would have been without one.
                let is_problem = status.is_client_error() || status.is_server_error();
                let kind = if is_problem { "application/problem+json" } else { "application/json" };
                (json_response(status, kind, answer.body), status, "")
            }
            Err(problem) => (problem_response(&problem, &seen.trace), problem.status, problem.name),
        };
        self.answered(index, status.as_u16(), outcome, seen);
        response
    }

    /// Counts a request that was answered, by the index of its label, and says so.
    pub(crate) fn answered(&self, index: usize, status: u16, outcome: &str, mut seen: Seen) {
        seen.watch.lap(Stage::Write, Instant::now());
        self.metrics.request(index, status, &seen.watch);
        let key_id = seen.caller.as_ref().filter(|caller| caller.key != NO_KEY).map(|caller| caller.key.to_string());
        let access = log::Access {
            route: route_labels().get(index).copied().unwrap_or_default(),
            status,
            outcome,
            tenant: seen.caller.as_ref().map(|caller| caller.tenant.get()),
            key_id: key_id.as_deref().unwrap_or_default(),
            trace: &seen.trace,
            watch: &seen.watch,
        };
        log::access(&access, self.limits.slow);
        #[cfg(feature = "otlp")]
        if let Some(traces) = &self.traces {
            traces.request(&access);
        }
    }

    async fn run(
        &self,
        route: &'static Route,
        connection: &Connection,
        path: Vec<String>,
        parts: Parts,
        body: axum::body::Body,
        seen: &mut Seen,
    ) -> Answered {
        if let Some(answered) = self.public(route) {
            return answered;
        }
        let serving = self.serving.get().ok_or_else(|| Problem::new(Refusal::Recovering, "see /health/ready"))?;
        let known = self.identify(serving, connection, &parts)?;
        seen.caller = Some(known.caller.clone());
        self.authorize(route, &known.caller)?;
        let _place = serving.enter(&serving.rooms.room(known.caller.tenant))?;
        seen.watch.lap(Stage::Gate, Instant::now());
        let body = self.read_body(&parts, body).await?;
        seen.watch.lap(Stage::Read, Instant::now());
        if let Some(head) = known.head {
            self.gate.finish(head, &body).map_err(|failed| self.refuse(connection, &failed))?;
        }
        if !body.is_empty() {
            check_content_type(&parts)?;
            if depth_exceeds(&body, self.limits.json_depth_max) {
                return Err(Problem::invalid("the body nests deeper than allowed"));
            }
        }
        seen.watch.lap(Stage::Gate, Instant::now());
        let query = parts.uri.query().unwrap_or_default().to_owned();
        let request = Request { caller: known.caller, headers: parts.headers, query, path, body };
        // A caller may break off here: the engine goes on with what it was handed, and the control state ends the changes it began.
        let answered = operate(serving, route, &request).await;
        seen.watch.lap(Stage::Engine, Instant::now());
        answered
    }

    /// What needs no caller.
    fn public(&self, route: &Route) -> Option<Answered> {
        Some(Ok(match route.operation {
            Operation::Live => Answer::ok(&serde_json::json!({"live": true})),
            Operation::Ready => return Some(self.ready()),
            Operation::Version => Answer::ok(
                &serde_json::json!({"name": "tpcore", "version": env!("CARGO_PKG_VERSION"), "protocol": "v1"}),
            ),
            Operation::OpenApi => {
                Answer { status: StatusCode::OK, body: Bytes::from_static(openapi::text().as_bytes()) }
            }
            _ => return None,
        }))
    }

    /// Ready: recovered, not poisoned, not stopping.
    fn ready(&self) -> Answered {
        let not = |refusal, detail: &'static str| Err(Problem::new(refusal, detail));
        if self.is_stopping.load(std::sync::atomic::Ordering::Acquire) {
            return Err(Problem::of_outcome(Outcome::Stopping));
        }
        match self.serving.get() {
            None => not(Refusal::Recovering, "the journal is being read"),
            Some(serving) if serving.engine.is_poisoned() => Err(Problem {
                status: StatusCode::SERVICE_UNAVAILABLE,
                detail: "the engine stopped: a write failed, or a bug; the logs say why".into(),
                ..Problem::of_outcome(Outcome::SystemError)
            }),
            Some(_) => Ok(Answer::ok(&serde_json::json!({"ready": true}))),
        }
    }

    pub(crate) fn identify(
        &self,
        serving: &Serving,
        connection: &Connection,
        parts: &Parts,
    ) -> Result<crate::gate::Known, Problem> {
        self.gate
            .identify(&serving.control, &serving.sealer, connection, parts)
            .map_err(|failed| self.refuse(connection, &failed))
    }

    /// A proof failed.
    fn refuse(&self, connection: &Connection, failed: &Failed) -> Problem {
        self.metrics.authentication_failure(failed.reason);
        // Who may only have to try again is no attacker.
        if failed.again != Again::No {
            return failed.problem();
        }
        // Others behind the same address are served all the same: only what fails is turned away.
        if self.failures.is_shut(connection.address, self.minute()) {
            self.metrics.rate_limited(RateLimit::Address);
            return Problem::new(Refusal::RateLimited, "too many failed proofs of identity from this address");
        }
        self.failures.add(connection.address, self.minute());
        tracing::info!(reason = ?failed.reason, detail = failed.detail, address = %connection.address, "not believed");
        failed.problem()
    }

    fn minute(&self) -> u64 {
        self.started.elapsed().as_secs() / 60
    }

    fn authorize(&self, route: &Route, caller: &Caller) -> Result<(), Problem> {
        let forbidden = |detail: String| {
            self.metrics.authentication_failure(AuthenticationFailure::Role);
            Err(Problem::new(Refusal::Forbidden, detail))
        };
        match route.access {
            Access::Public | Access::EachCommand => {}
            Access::Role(role) if caller.roles.has(role) => {}
            Access::Role(role) => return forbidden(format!("it needs the role {}", role.name())),
        }
        if is_operators(route.operation) && caller.tenant != TenantId::OPERATOR {
            return forbidden("it is the operator's".to_owned());
        }
        Ok(())
    }

    async fn read_body(&self, parts: &Parts, body: axum::body::Body) -> Result<Bytes, Problem> {
        let most = self.limits.body_bytes_max;
        let too_large = || Problem::new(Refusal::BodyTooLarge, format!("at most {most} bytes"));
        let said = parts.headers.get(http::header::CONTENT_LENGTH).and_then(|value| value.to_str().ok()?.parse().ok());
        if said.is_some_and(|said: u64| said > most as u64) {
            return Err(too_large());
        }
        match tokio::time::timeout(self.limits.body, Limited::new(body, most).collect()).await {
            Ok(Ok(collected)) => Ok(collected.to_bytes()),
            Ok(Err(error)) if error.downcast_ref::<LengthLimitError>().is_some() => Err(too_large()),
            Ok(Err(_)) => Err(Problem::invalid("the body ended early")),
            Err(_) => Err(Problem::new(Refusal::BodyTimeout, "")),
        }
    }
}

/// What no route took.
pub(crate) fn unrouted(metrics: &Metrics, problem: &Problem) -> Response {
    let trace = TraceContext::of(None);
    let mut watch = Stopwatch::start(Instant::now());
    let response = problem_response(problem, &trace);
    watch.lap(Stage::Write, Instant::now());
    metrics.request(usize::MAX, problem.status.as_u16(), &watch);
    response
}

/// The operation of a route. Commands come by the hundred thousand: their way is not made as large as the largest of all the others.
async fn operate(serving: &Serving, route: &Route, request: &Request) -> Answered {
    match route.operation {
        Operation::Command(verb) => commands::run(serving, route, verb, request).await,
        _ => Box::pin(operate_other(serving, route, request)).await,
    }
}

/// One arm each, all of them.
async fn operate_other(serving: &Serving, route: &Route, request: &Request) -> Answered {
    match route.operation {
        Operation::Batch => batch::run(serving, request).await,
        Operation::Accounts => reads::accounts(serving, request).await,
        Operation::Account => reads::account(serving, request).await,
        Operation::Statement => reads::statement(serving, request).await,
        Operation::Authorization => reads::authorization(serving, request).await,
        Operation::History => reads::authorization_history(serving, request).await,
        Operation::Approvals => approvals::list(serving, request),
        Operation::Approval => approvals::get(serving, request),
        Operation::Approve => approvals::approve(serving, request).await,
        Operation::Reject => approvals::reject(serving, request).await,
        Operation::Tenant => admin::tenant(serving, request),
        Operation::SetThreshold => admin::set_threshold(serving, request).await,
        Operation::Keys => Ok(admin::keys(serving, request)),
        Operation::AddKey => admin::add_key(serving, request).await,
        Operation::RevokeKey => admin::revoke_key(serving, request).await,
        Operation::Tenants => Ok(admin::tenants(serving)),
        Operation::AddTenant => admin::add_tenant(serving, request).await,
        Operation::AddAgreement => admin::add_agreement(serving, request).await,
        Operation::EndAgreement => admin::end_agreement(serving, request).await,
        Operation::AddCard => cards::add(serving, request).await,
        Operation::Cards => cards::list(serving, request),
        Operation::Card => cards::get(serving, request),
        Operation::UpdateCard => cards::update(serving, request).await,
        Operation::RevealCard => cards::reveal(serving, request).await,
        Operation::CardKeys => Ok(cards::keys(serving)),
        // Commands have their own way; the others were answered before anybody was asked who he is.
        Operation::Command(_) | Operation::Live | Operation::Ready | Operation::Version | Operation::OpenApi => {
            Err(Problem::new(Refusal::NotFound, ""))
        }
    }
}

fn trace_of(parts: &Parts) -> TraceContext {
    let mut values = parts.headers.get_all("traceparent").iter();
    let only = values.next().filter(|_| values.next().is_none());
    TraceContext::of(only.map(HeaderValue::as_bytes))
}

fn check_content_type(parts: &Parts) -> Result<(), Problem> {
    let text = parts.headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let kind = text.split(';').next().unwrap_or_default().trim();
    if kind.eq_ignore_ascii_case("application/json") {
        Ok(())
    } else {
        Err(Problem::new(Refusal::UnsupportedMediaType, ""))
    }
}

/// A response with a JSON body.
pub(crate) fn json_response(status: StatusCode, kind: &'static str, body: impl Into<Bytes>) -> Response {
    let mut response = Response::new(axum::body::Body::from(body.into()));
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(kind));
    headers.insert(http::header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert(http::header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    response
}

/// A problem as a response.
pub(crate) fn problem_response(problem: &Problem, trace: &TraceContext) -> Response {
    let trace_id = trace.trace.to_string();
    let body = serde_json::to_vec(&ProblemJson { problem, trace_id: Some(&trace_id) }).unwrap_or_default();
    let mut response = json_response(problem.status, "application/problem+json", body);
    if problem.is_temporary() {
        response.headers_mut().insert(RETRY_AFTER, HeaderValue::from_static("1"));
    }
    if problem.status == StatusCode::UNAUTHORIZED {
        response.headers_mut().insert(WWW_AUTHENTICATE, HeaderValue::from_static("Bearer realm=\"tpcore\""));
    }
    response
}

/// Roles that the status page's look-ups need: reads only.
pub(crate) fn is_read(route: &Route) -> bool {
    matches!(route.access, Access::Public | Access::Role(Role::Read)) && route.method == http::Method::GET
}
