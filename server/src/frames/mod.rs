//! The binary door: fixed little-endian frames over TCP or TLS, for callers that send hundreds of thousands of commands a second.
//!
//! Owns the listener, the greeting and the way of a link. Refuses to know anything about commands that `api` does not: roles, tenants, second
//! persons and keys are tested there; and bytes, which are `tp-protocol`'s.
//!
//! ```text
//!   HELLO (who) -> WELCOME -> COMMAND ... -> engine (one ring a link) -> REPLY ... as they become durable, in any order
//! ```
//!
//! Invariants: FRM-1 (a frame asks for what the same members ask for over HTTP, and is told what HTTP tells), DRN-1 (a link that the
//! server's end finds open answers what it took), and those of the HTTP protocol.

mod convert;
mod link;

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio_rustls::TlsAcceptor;

use crate::app::App;
use crate::auth::signature::Scheme;
use crate::auth::tls::{Tls, client_fingerprint};
use crate::gate::Connection;
use crate::net::links::{Door, LinkPlace, accept};
use crate::observe::TlsFailure;
use crate::settings::Settings;
use link::{Ended, Waits};

/// What all links share.
pub(crate) struct FrameDoor {
    app: Arc<App>,
    tls: Option<Arc<Tls>>,
    waits: Waits,
    links_max: usize,
}

impl FrameDoor {
    pub(crate) fn new(app: &Arc<App>, tls: Option<&Arc<Tls>>, settings: &Settings) -> Self {
        let (tls, waits) = (tls.cloned(), Waits::of(settings));
        Self { app: Arc::clone(app), tls, waits, links_max: settings.frames_links_max.size() }
    }

    /// Accepts links until told to stop, then waits for them to end.
    pub(crate) async fn run(self: Arc<Self>, socket: TcpListener, mut stop: watch::Receiver<bool>) {
        let metrics = &self.app.metrics;
        let door = Door { name: "frames", links_max: self.links_max, clients: &[], metrics };
        let mut links = accept(socket, door, &mut stop, |stream, peer, place| {
            let door = Arc::clone(&self);
            async move { door.link(stream, peer, &place).await }
        })
        .await;
        while links.join_next().await.is_some() {}
    }

    async fn link(&self, stream: TcpStream, peer: SocketAddr, place: &LinkPlace) {
        let _counted = self.app.metrics.connection();
        let address = peer.ip();
        let ended = match &self.tls {
            None => self.speak(stream, (address, None), place).await,
            Some(tls) => {
                let accepted = TlsAcceptor::from(tls.config()).accept(stream);
                match tokio::time::timeout(self.waits.tls, accepted).await {
                    Ok(Ok(stream)) => {
                        let shown = stream.get_ref().1.peer_certificates().unwrap_or_default();
                        let certificate = client_fingerprint(shown);
                        self.speak(stream, (address, certificate), place).await
                    }
                    Ok(Err(error)) => {
                        self.app.metrics.tls_failure(TlsFailure::Protocol);
                        Ended::Broken(error.kind())
                    }
                    Err(_) => {
                        self.app.metrics.tls_failure(TlsFailure::Timeout);
                        Ended::Idle
                    }
                }
            }
        };
        tracing::info!(%address, reason = %ended, "a link of frames was closed");
    }

    async fn speak<S>(&self, stream: S, (address, certificate): (IpAddr, Option<[u8; 32]>), place: &LinkPlace) -> Ended
    where
        S: AsyncRead + AsyncWrite + Unpin + Send,
    {
        let scheme = if self.tls.is_some() { Scheme::Https } else { Scheme::Http };
        link::serve(&self.app, stream, (&Connection { address, scheme, certificate }, place), &self.waits).await
    }
}
