//! One connection: TLS, protocol, bounds, the end.
//!
//! Owns the settings of HTTP/1.1 and HTTP/2 that bound what a peer can make the server hold. Refuses to know routes.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use http::header::CONNECTION;
use http::{HeaderValue, Version};
use hyper::service::Service as _;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto::Builder;
use hyper_util::server::graceful::Watcher;
use hyper_util::service::TowerToHyperService;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio_rustls::TlsAcceptor;

use super::deadlines::{Deadlines, Pace, Waits};
use super::head;
use crate::api::problem::Problem;
use crate::app::unrouted;
use crate::auth::signature::Scheme;
use crate::auth::tls::{Tls, client_fingerprint};
use crate::gate::Connection;
use crate::grpc::GoesOn;
use crate::observe::{Metrics, TlsFailure};
use crate::settings::Settings;

/// What all connections of a listener share.
pub(crate) struct Shape {
    builder: Builder<TokioExecutor>,
    waits: Waits,
    tls_handshake: Duration,
    pub(crate) tls: Option<Arc<Tls>>,
    router: Router,
    metrics: Arc<Metrics>,
}

/// Streams that a peer reset before they were answered, above which an HTTP/2 connection is ended (rapid reset, CVE-2023-44487).
const RESETS_MAX: usize = 20;
/// How often an HTTP/2 peer is asked whether it is still there, and how long it has to answer.
const PING_EVERY: Duration = Duration::from_secs(20);
const PING_WITHIN: Duration = Duration::from_secs(10);

impl Shape {
    pub(crate) fn new(settings: &Settings, tls: Option<Arc<Tls>>, router: Router, metrics: Arc<Metrics>) -> Self {
        let head = settings.header_bytes_max.size();
        let mut builder = Builder::new(TokioExecutor::new());
        builder
            .http1()
            .timer(TokioTimer::new())
            // Its clock would run between requests too: `Deadlines` has the connection's clocks.
            .header_read_timeout(None)
            // A caller that has said all it wants to say may still hear the answer.
            .half_close(true)
            // Answers are not gathered while requests that were sent ahead are there to be read (`pipeline_flush`): they would be gathered
            // without a bound, 100 KiB for each 50 bytes of a peer that takes none.
            .max_buf_size(head);
        builder
            .http2()
            .timer(TokioTimer::new())
            .max_header_list_size(u32::try_from(head).unwrap_or(u32::MAX))
            .max_concurrent_streams(u32::try_from(settings.streams_max.get()).unwrap_or(u32::MAX))
            .max_pending_accept_reset_streams(RESETS_MAX)
            .max_local_error_reset_streams(RESETS_MAX)
            .max_send_buf_size(1 << 20)
            // The connection's window is larger than a stream's: one that is not read holds up no other.
            .initial_stream_window_size(1 << 20)
            .initial_connection_window_size(4 << 20)
            .keep_alive_interval(PING_EVERY)
            .keep_alive_timeout(PING_WITHIN);
        Self {
            builder,
            waits: Waits::from_settings(settings),
            tls_handshake: settings.tls_ms.ms(),
            tls,
            router,
            metrics,
        }
    }

    /// Serves a connection to its end.
    pub(crate) async fn serve(&self, stream: TcpStream, peer: SocketAddr, watcher: Watcher) {
        // Replies are small and waited for: they are not held back to fill a packet.
        let _ = stream.set_nodelay(true); // a peer that is gone is seen by the first read
        let Some(tls) = &self.tls else {
            let connection = Connection { address: peer.ip(), scheme: Scheme::Http, certificate: None };
            return self.speak(stream, connection, watcher).await;
        };
        let acceptor = TlsAcceptor::from(tls.config());
        match tokio::time::timeout(self.tls_handshake, acceptor.accept(stream)).await {
            Err(_) => self.metrics.tls_failure(TlsFailure::Timeout),
            Ok(Err(error)) => {
                let is_certificate = error.get_ref().is_some_and(|inner| {
                    let inner = inner.downcast_ref::<rustls::Error>();
                    matches!(inner, Some(rustls::Error::InvalidCertificate(_) | rustls::Error::NoCertificatesPresented))
                });
                let reason = if is_certificate { TlsFailure::Certificate } else { TlsFailure::Protocol };
                self.metrics.tls_failure(reason);
                tracing::info!(address = %peer.ip(), %error, "no TLS session");
            }
            Ok(Ok(stream)) => {
                let shown = stream.get_ref().1.peer_certificates().unwrap_or_default();
                let certificate = client_fingerprint(shown);
                let connection = Connection { address: peer.ip(), scheme: Scheme::Https, certificate };
                self.speak(stream, connection, watcher).await;
            }
        }
    }

    async fn speak<S>(&self, stream: S, connection: Connection, watcher: Watcher)
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let (connection, pace) = (Arc::new(connection), Pace::new(self.waits));
        let stream = Deadlines::new(stream, Arc::clone(&pace));
        let (service, metrics) = (TowerToHyperService::new(self.router.clone()), Arc::clone(&self.metrics));
        let service = hyper::service::service_fn(move |mut request: hyper::Request<hyper::body::Incoming>| {
            let under_way = pace.begin();
            let flaw = head::flaw(&request);
            let is_last = request.version() < Version::HTTP_2 && (flaw.is_some() || head::is_last(&request));
            request.extensions_mut().insert(Arc::clone(&connection));
            let answered = match flaw {
                None => Ok(service.call(request)),
                Some(flaw) => Err(unrouted(&metrics, &Problem::invalid(flaw))),
            };
            async move {
                let mut response = match answered {
                    Ok(answered) => answered.await?,
                    Err(refused) => refused,
                };
                if is_last {
                    response.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
                }
                let goes_on = response.extensions().get::<GoesOn>().is_some();
                Ok::<_, Infallible>(
                    response.map(|body| if goes_on { under_way.goes_on(body) } else { under_way.answered(body) }),
                )
            }
        });
        let served = self.builder.serve_connection(TokioIo::new(stream), service);
        if let Err(error) = watcher.watch(served).await {
            // A peer that broke off, was too slow or spoke something else: its own matter.
            tracing::debug!(%error, "a connection ended early");
        }
    }
}
