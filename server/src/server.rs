//! The server from start to end: listeners first, then the engine, then service, then the drain.
//!
//! ```text
//!   bind -> listen (alive, not ready) -> engine recovers -> control state -> ready ... SIGTERM -> not ready, no new connections
//!        -> what was accepted is answered -> engine drained, checkpoint, synced -> end
//! ```
//! Owns that order (DRN-1). Refuses to serve before the engine has recovered, and to go on with an engine that stopped.

mod cards;
mod upkeep;

use std::future::Future;
use std::net::SocketAddr;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use axum::Router;
use axum::extract::State;
use axum::response::Response;
use axum::routing::get;
use http::{HeaderValue, StatusCode};
use tokio::net::TcpListener;
use tokio::sync::{Semaphore, watch};
use tonic_health::ServingStatus;
use tp_actors::{CloseError, Closed, Config, Engine, OpenError};

use crate::app::{App, RequestLimits, Serving, is_read, json_response, route_labels, router};
use crate::auth::jwt::{KeySet, KeySetError, TokenVerifier};
use crate::auth::nonces::{NonceBudget, Nonces};
use crate::auth::seal::{MasterKey, MasterKeyError, SealError, Sealer};
use crate::auth::signature::Limits;
use crate::auth::tls::{ClientCertificates as TlsClients, Tls, TlsError, TlsFiles};
use crate::cards::{CardKeyError, Vault, VaultFold};
use crate::control::{Control, ControlError, ControlFold, fold, now};
use crate::demo::{self, Demo};
use crate::frames::FrameDoor;
use crate::gate::{Failures, Gate, Rooms};
use crate::iso8583::{ListenersError, Totals};
use crate::net::connection::Shape;
use crate::net::listener;
use crate::observe::{EngineLimits, METRICS_CONTENT_TYPE, Metrics, MetricsOptions, status_json, status_page};
use crate::settings::{ClientCertificates, SettingError, Settings};
use cards::{CardEdge, card_key_source, card_keys, card_sockets};
use upkeep::{Watched, upkeep};

/// What is served.
#[derive(Clone, Debug)]
pub struct ServeOptions {
    /// Every setting.
    pub settings: Settings,
    /// The data directory, made when missing.
    pub data_dir: PathBuf,
    /// Make a tenant with funded accounts and keys, for trying things out.
    pub dev: bool,
}

/// Why the server did not start or did not end in order.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ServeError {
    /// The settings.
    #[error(transparent)]
    Settings(#[from] SettingError),
    /// An address.
    #[error("{address} cannot be listened on: {error}")]
    Listen {
        /// Which.
        address: SocketAddr,
        /// Why.
        error: std::io::Error,
    },
    /// The certificate files.
    #[error("TLS: {0}")]
    Tls(#[from] TlsError),
    /// The keys of tokens.
    #[error("the keys of tokens: {0}")]
    Tokens(#[from] KeySetError),
    /// The master key.
    #[error("the master key: {0}")]
    MasterKey(#[from] MasterKeyError),
    /// The master key is gone, and secrets are sealed under it.
    #[error("{} is gone, and secrets of HMAC keys are sealed under it: put it back, or name it in `auth.seal_key`", path.display())]
    MasterKeyLost {
        /// Where it was.
        path: PathBuf,
    },
    /// The master key cannot be used.
    #[error("the master key: {0}")]
    Seal(#[from] SealError),
    /// The keys of card numbers.
    #[error("the keys of card numbers: {0}")]
    CardKeys(#[from] CardKeyError),
    /// The keys of card numbers are gone, and cards are kept under them.
    #[error("{} is gone, and card numbers are sealed under its keys: put it back, or name it in `cards.keys`", path.display())]
    CardKeysLost {
        /// Where they were.
        path: PathBuf,
    },
    /// The listeners of card messages.
    #[error(transparent)]
    Listeners(#[from] ListenersError),
    /// The engine did not open.
    #[error(transparent)]
    Open(Box<OpenError>),
    /// The control state could not be built.
    #[error("tenants and keys: {0}")]
    Control(#[from] ControlError),
    /// The demonstration could not be made.
    #[error("the demonstration: {0}")]
    Demo(String),
    /// Traces cannot be sent.
    #[cfg(feature = "otlp")]
    #[error(transparent)]
    Traces(#[from] crate::observe::otlp::TracesError),
    /// It was told to stop before the engine had recovered.
    #[error("told to stop before the engine had recovered: nothing was served and nothing changed")]
    Stopped,
    /// The engine stopped by itself.
    #[error("the engine stopped: {0}")]
    Poisoned(tp_actors::PoisonCause),
    /// The engine did not close in order.
    #[error(transparent)]
    Close(#[from] CloseError),
    /// A thread could not be started or ended early.
    #[error("a bug: {0}")]
    Thread(&'static str),
}

/// What the one who started the server is told.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum Told {
    /// The listeners are there; the engine recovers.
    Listening {
        /// For gateways.
        listen: SocketAddr,
        /// For operators.
        admin: SocketAddr,
        /// Whether gateways speak TLS.
        is_encrypted: bool,
        /// For card messages, by name.
        cards: Vec<(String, SocketAddr)>,
        /// For frames.
        frames: Option<SocketAddr>,
    },
    /// The engine has recovered: requests are served.
    Ready {
        /// The last event that was recovered.
        last_seq: u64,
        /// How long it took.
        took: Duration,
        /// With `dev`: what was made.
        demo: Option<Demo>,
    },
    /// No new connections; what was accepted is answered.
    Draining,
}

/// Serves until `stop` is over.
///
/// # Errors
/// [`ServeError`]. Everything acknowledged is durable all the same.
pub async fn serve(
    options: ServeOptions,
    stop: impl Future<Output = ()>,
    tell: impl Fn(Told),
) -> Result<Closed, ServeError> {
    let mut stop = std::pin::pin!(stop);
    let ServeOptions { settings, data_dir, dev } = options;
    settings.validate()?;
    let (listener, admin) = (bind(settings.listen).await?, bind(settings.admin_listen).await?);
    // Before anything of them is read: what changes from now on is seen.
    let watched = Watched::new(&settings, card_key_source(&settings, &data_dir));
    let parts = Parts::open(&settings)?;
    let sockets = card_sockets(&settings).await?;
    let frames = match settings.frames_listen {
        Some(address) => Some(bind(address).await?),
        None => None,
    };
    let (stopper, stopped) = watch::channel(false);
    let app = parts.app(&settings, &data_dir, stopped.clone())?;
    let (grpc, health) =
        crate::grpc::router(&app).map_err(|_| ServeError::Thread("the description of gRPC cannot be read"))?;
    health.set_service_status("", ServingStatus::NotServing).await;
    let metrics = || Arc::clone(&app.metrics);
    let front = Shape::new(&settings, parts.tls.clone(), router(&app, |_| true).merge(grpc), metrics());
    let back = Shape::new(&settings, None, admin_router(&app), metrics());
    let address = |listener: &TcpListener, asked| listener.local_addr().unwrap_or(asked);
    let (listen_at, admin_at) = (address(&listener, settings.listen), address(&admin, settings.admin_listen));
    let card_links: usize = sockets.iter().map(|(listener, _)| listener.links_max).sum();
    let links = card_links + frames.as_ref().map_or(0, |_| settings.frames_links_max.size());
    let most = connections_with_files(settings.connections_max.size(), links);
    let front = tokio::spawn(listener::run(listener, Arc::new(front), most, metrics(), stopped.clone()));
    let back = tokio::spawn(listener::run(admin, Arc::new(back), 64, metrics(), stopped.clone()));
    let cards =
        sockets.iter().map(|(listener, socket)| (listener.name.clone(), address(socket, listener.listen))).collect();
    let frames_at = frames.as_ref().zip(settings.frames_listen).map(|(socket, asked)| address(socket, asked));
    let door = Arc::new(FrameDoor::new(&app, parts.tls.as_ref(), &settings));
    let door = frames.map(|socket| tokio::spawn(door.run(socket, stopped.clone())));
    let is_encrypted = parts.tls.is_some();
    tell(Told::Listening { listen: listen_at, admin: admin_at, is_encrypted, cards, frames: frames_at });

    let began = Instant::now();
    let serving = {
        let (app, settings, data_dir) = (Arc::clone(&app), settings.clone(), data_dir.clone());
        let opened = tokio::task::spawn_blocking(move || open(&app, &settings, &data_dir));
        tokio::select! {
            opened = opened => Arc::new(opened.map_err(|_| ServeError::Thread("the opening thread panicked"))??),
            // Nothing was served: there is nothing to answer, and recovery starts anew the next time.
            () = &mut stop => return Err(ServeError::Stopped),
        }
    };
    let demo = if dev { Some(demo::make(&serving).await.map_err(ServeError::Demo)?) } else { None };
    let is_first = app.serving.set(Arc::clone(&serving)).is_ok();
    for service in ["", GATEWAY] {
        health.set_service_status(service, ServingStatus::Serving).await;
    }
    debug_assert!(is_first, "set once");
    let edge = CardEdge::start(sockets, &serving, parts.tls.as_ref(), &settings, &data_dir, &stopped)?;
    tell(Told::Ready { last_seq: serving.engine.last_seq().0, took: began.elapsed(), demo });

    // What was approved and perhaps not executed when the process before this one ended, and what cannot be executed at once.
    let finishing = tokio::spawn(crate::api::approvals::finish(Arc::clone(&serving)));
    let upkeep =
        tokio::spawn(upkeep(Arc::clone(&serving), parts.tls.clone(), parts.tokens.clone(), settings.clone(), watched));
    let poisoned = wait(&mut stop, &serving.engine).await;
    app.is_stopping.store(true, Ordering::Release);
    for service in ["", GATEWAY] {
        health.set_service_status(service, ServingStatus::NotServing).await;
    }
    let _ = stopper.send(true); // the listeners hold the other end
    tell(Told::Draining);
    let edge_totals = edge.totals.clone();
    let drained = tokio::time::timeout(settings.drain_ms.ms(), async {
        let _ = front.await; // a panic of the accept loop is in the logs already
        edge.ended().await;
        if let Some(door) = door {
            let _ = door.await; // likewise
        }
    });
    if drained.await.is_err() {
        tracing::warn!("connections were still open at the end of the drain");
    }
    upkeep.abort();
    #[cfg(feature = "otlp")]
    send_last_traces(&app).await;
    finishing.abort();
    back.abort();
    close(&serving, edge_totals, poisoned).await
}

/// The service of gRPC, as health names it.
const GATEWAY: &str = "tpcore.v1.Gateway";

/// Files that stay for the journal, checkpoints, logs and the operators, whatever connections come.
const FILES_KEPT: u64 = 320;

/// As many connections as are wanted and the process may have files for, beside the links of card messages and frames. Without this bound a flood of
/// connections would take the files that the journal needs for its next segment, and stop the engine. The limit is raised as far as it
/// may be first.
fn connections_with_files(wanted: usize, links: usize) -> usize {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let limit = getrlimit(Resource::Nofile);
    if limit.current != limit.maximum {
        let _ = setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, ..limit }); // else with what there is
    }
    let Some(files) = getrlimit(Resource::Nofile).current else { return wanted };
    let room = usize::try_from(files - FILES_KEPT.min(files / 2)).unwrap_or(usize::MAX);
    let room = room.saturating_sub(links).max(1);
    if room < wanted {
        tracing::warn!(
            files,
            wanted,
            room,
            "the limit of open files allows fewer connections than limits.connections_max"
        );
    }
    room.min(wanted)
}

async fn bind(address: SocketAddr) -> Result<TcpListener, ServeError> {
    TcpListener::bind(address).await.map_err(|error| ServeError::Listen { address, error })
}

/// Waits for the end: asked for, or because the engine stopped by itself.
async fn wait(stop: impl Future<Output = ()>, engine: &Engine) -> bool {
    let poisoned = async {
        while !engine.is_poisoned() {
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    };
    tokio::select! {
        () = stop => engine.is_poisoned(),
        () = poisoned => true,
    }
}

/// Sends the traces that wait. It blocks: on another thread.
#[cfg(feature = "otlp")]
async fn send_last_traces(app: &Arc<App>) {
    let app = Arc::clone(app);
    let sent = tokio::task::spawn_blocking(move || {
        if let Some(traces) = &app.traces {
            traces.shutdown(Duration::from_secs(5));
        }
    });
    let _ = sent.await; // a panic in there is nobody's loss but the traces'
}

/// Closes the engine on a thread of its own.
async fn close(serving: &Arc<Serving>, totals: Option<Arc<Totals>>, poisoned: bool) -> Result<Closed, ServeError> {
    let serving = Arc::clone(serving);
    let closing = tokio::task::spawn_blocking(move || {
        if let Err(error) = serving.control.write_image(true) {
            tracing::warn!(%error, "no image of tenants and keys was written: the next start reads their records");
        }
        if let Some(Err(error)) = totals.map(|totals| totals.write(&serving.engine)) {
            tracing::warn!(%error, "the day's totals were not written: the next start reads the journal for them");
        }
        if let Err(error) = serving.vault.write_cache(true) {
            tracing::warn!(%error, "the file of cards was not written: the next start reads their records");
        }
        let cause = serving.engine.status().poison;
        let closed = serving.engine.close_in_place();
        match cause {
            Some(cause) if poisoned => Err(ServeError::Poisoned(cause)),
            _ => Ok(closed?),
        }
    });
    closing.await.map_err(|_| ServeError::Thread("the closing thread panicked"))?
}

/// What is opened before the engine.
struct Parts {
    tls: Option<Arc<Tls>>,
    tokens: Option<Arc<TokenVerifier>>,
}

impl Parts {
    fn open(settings: &Settings) -> Result<Self, ServeError> {
        let tls = match (&settings.tls_certificate, &settings.tls_key) {
            (Some(certificates), Some(key)) => {
                let authorities = settings.tls_client_ca.clone().unwrap_or_default();
                let clients = match settings.tls_client_certificates {
                    ClientCertificates::None => TlsClients::NotAsked,
                    ClientCertificates::Optional => TlsClients::Optional(authorities),
                    ClientCertificates::Required => TlsClients::Required(authorities),
                };
                let files = TlsFiles { certificates: certificates.clone(), key: key.clone(), clients };
                Some(Arc::new(Tls::open(files)?))
            }
            _ => None,
        };
        let tokens = match &settings.jwt_keys {
            Some(path) => {
                let keys = KeySet::from_file(path)?;
                let (issuer, audience) = (settings.jwt_issuer.clone(), settings.jwt_audience.clone());
                Some(Arc::new(TokenVerifier::new(issuer, audience, keys)))
            }
            None => None,
        };
        Ok(Self { tls, tokens })
    }

    #[cfg_attr(not(feature = "otlp"), allow(clippy::unnecessary_wraps, reason = "traces may not start"))]
    fn app(
        &self,
        settings: &Settings,
        data_dir: &std::path::Path,
        stopped: watch::Receiver<bool>,
    ) -> Result<Arc<App>, ServeError> {
        let limits = Limits::new(settings.signature_window_s.get(), 5);
        let total = settings.nonces_max.size();
        let nonces = Nonces::new(now().0 / 1000, limits, NonceBudget { per_key: total / 2, total });
        let metrics = Metrics::new(&MetricsOptions {
            routes: route_labels(),
            version: env!("CARGO_PKG_VERSION"),
            limits: EngineLimits::of(&engine_config(settings, data_dir)),
        });
        let rooms = Rooms::new(
            (settings.tenant_rate.get(), settings.tenant_burst.get()),
            settings.tenant_in_flight_max.size(),
            (settings.history_reads_max.size().div_ceil(2), settings.follows_max.size() / 2),
        );
        Ok(Arc::new(App {
            gate: Gate { tokens: self.tokens.clone(), nonces, limits },
            rooms: Arc::new(rooms),
            failures: Failures::new(settings.failures_per_minute.get()),
            metrics: Arc::new(metrics),
            serving: OnceLock::new(),
            is_stopping: AtomicBool::new(false),
            stopped,
            started: Instant::now(),
            limits: RequestLimits::of(settings),
            #[cfg(feature = "otlp")]
            traces: traces(settings)?,
        }))
    }
}

/// The sender of traces, if they are sent anywhere.
#[cfg(feature = "otlp")]
fn traces(settings: &Settings) -> Result<Option<crate::observe::otlp::Traces>, ServeError> {
    use crate::observe::otlp::{Traces, TracesOptions};
    if settings.otlp_endpoint.is_empty() {
        return Ok(None);
    }
    let options = TracesOptions {
        endpoint: settings.otlp_endpoint.clone(),
        sampled_per_million: u32::try_from(settings.otlp_sampled_per_million.get()).unwrap_or(1_000_000),
        version: env!("CARGO_PKG_VERSION"),
        timeout: Duration::from_secs(5),
    };
    Ok(Some(Traces::start(&options)?))
}

/// The folder of the server's own files.
pub(crate) fn folder(data_dir: &std::path::Path) -> PathBuf {
    data_dir.join("server")
}

/// The master key: the file that is named, or the directory's own, made when it is missing.
///
/// # Errors
/// [`ServeError::MasterKey`].
fn master_key(settings: &Settings, data_dir: &std::path::Path) -> Result<MasterKey, ServeError> {
    if let Some(path) = &settings.seal_key {
        return Ok(MasterKey::from_file(path)?);
    }
    let folder = folder(data_dir);
    let path = folder.join("seal.key");
    if path.exists() {
        return Ok(MasterKey::from_file(&path)?);
    }
    make_folder(data_dir)?;
    Ok(MasterKey::create_file(&path)?)
}

/// Makes the folder of the server's own files, for its owner only.
fn make_folder(data_dir: &std::path::Path) -> Result<(), MasterKeyError> {
    let path = folder(data_dir);
    let made = std::fs::DirBuilder::new().recursive(true).mode(0o700).create(&path);
    made.map_err(|error| MasterKeyError::Io { path, error })
}

/// The sealer of HMAC secrets. A master key that is gone is not replaced while secrets are sealed under it.
///
/// # Errors
/// [`ServeError::MasterKey`], [`ServeError::MasterKeyLost`].
pub(crate) fn sealer(settings: &Settings, data_dir: &std::path::Path, control: &Control) -> Result<Sealer, ServeError> {
    let is_gone = settings.seal_key.is_none() && !folder(data_dir).join("seal.key").exists();
    if is_gone && control.read(crate::control::ControlState::has_sealed_keys) {
        return Err(ServeError::MasterKeyLost { path: folder(data_dir).join("seal.key") });
    }
    Ok(Sealer::new(&master_key(settings, data_dir)?, &[])?)
}

/// The engine's configuration.
pub(crate) fn engine_config(settings: &Settings, data_dir: &std::path::Path) -> Config {
    let mut config = Config::at(data_dir);
    config.prefault_records = settings.engine_prefault_records.get();
    if settings.engine_partitions.get() > 0 {
        config.partitions = settings.engine_partitions.size();
    }
    config.segment_bytes = settings.engine_segment_bytes.get();
    config.mirror.clone_from(&settings.engine_mirror);
    config.accept_clock = settings.engine_accept_clock;
    config.deadline_ms_default = settings.command_ms.get();
    config
}

/// Opens the engine and builds the control state. Blocks.
fn open(app: &App, settings: &Settings, data_dir: &std::path::Path) -> Result<Serving, ServeError> {
    let engine = Engine::open(engine_config(settings, data_dir)).map_err(|error| ServeError::Open(Box::new(error)))?;
    let engine = Arc::new(engine);
    let (mut control, mut vault) =
        (ControlFold::open(&engine, Some(folder(data_dir))), VaultFold::open(&engine, Some(folder(data_dir))));
    fold(&engine, &mut [&mut control, &mut vault])?;
    let control = Arc::new(Control::new(Arc::clone(&engine), control));
    // Only now: a folder of ours would keep the engine from making a new directory.
    let sealer = Arc::new(sealer(settings, data_dir, &control)?);
    let keys = card_keys(settings, data_dir, &vault)?;
    let vault = Arc::new(Vault::new(Arc::clone(&engine), vault, keys));
    Ok(Serving {
        engine,
        control,
        vault,
        sealer,
        rooms: Arc::clone(&app.rooms),
        metrics: Arc::clone(&app.metrics),
        history_permits: Arc::new(Semaphore::new(settings.history_reads_max.size())),
        follow_permits: Arc::new(Semaphore::new(settings.follows_max.size())),
        command_ms: settings.command_ms.get(),
        approval_ms: settings.approval_ms.get(),
        approvals_max: settings.approvals_max.size(),
        batch_commands_max: settings.batch_commands_max.size(),
    })
}

/// The operators' routes: metrics, status, and the tenants' reads with their keys.
fn admin_router(app: &Arc<App>) -> Router {
    let own: Router<Arc<App>> =
        Router::new().route("/", get(page)).route("/metrics", get(metrics)).route("/status.json", get(status));
    router(app, is_read).merge(own.with_state(Arc::clone(app)))
}

async fn page() -> Response {
    let (text, policy) = status_page();
    let mut response = json_response(StatusCode::OK, "text/html; charset=utf-8", text.as_bytes().to_vec());
    if let Ok(policy) = HeaderValue::from_str(&policy) {
        response.headers_mut().insert(http::header::CONTENT_SECURITY_POLICY, policy);
    }
    response
}

async fn metrics(State(app): State<Arc<App>>) -> Response {
    shown(app, METRICS_CONTENT_TYPE, |metrics, status| metrics.render(status, Instant::now())).await
}

async fn status(State(app): State<Arc<App>>) -> Response {
    shown(app, "application/json", |metrics, status| status_json(metrics, status, Instant::now())).await
}

/// What is shown of the engine. Asking its partitions blocks for a turn: on another thread.
async fn shown(
    app: Arc<App>,
    kind: &'static str,
    show: impl FnOnce(&Metrics, &tp_actors::EngineStatus) -> String + Send + 'static,
) -> Response {
    let Some(serving) = app.serving.get().cloned() else {
        return json_response(StatusCode::SERVICE_UNAVAILABLE, "text/plain", b"recovering\n".to_vec());
    };
    let shown = tokio::task::spawn_blocking(move || show(&serving.metrics, &serving.engine.status())).await;
    match shown {
        Ok(text) => json_response(StatusCode::OK, kind, text.into_bytes()),
        Err(_) => json_response(StatusCode::INTERNAL_SERVER_ERROR, "text/plain", b"a bug\n".to_vec()),
    }
}
