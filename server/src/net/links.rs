//! Accepting links: connections that are few and stay, of a listener that is not HTTP's.
//!
//! Owns the accept loop and its bounds. Refuses to know what is spoken, and to let links wait for a place: what is too much is closed at once.

use std::future::Future;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinSet;

use crate::observe::{ConnectionRefusal, Metrics};

/// How long no link is accepted after the system refused one.
const PAUSE: Duration = Duration::from_millis(50);

/// Which links are accepted.
pub(crate) struct Door<'a> {
    /// The listener's name, for the logs.
    pub(crate) name: &'a str,
    pub(crate) links_max: usize,
    /// Addresses that links may come from; empty: any.
    pub(crate) clients: &'a [IpAddr],
    pub(crate) metrics: &'a Arc<Metrics>,
}

/// Accepts links until told to stop. The links that are still open.
pub(crate) async fn accept<F: Future<Output = ()> + Send + 'static>(
    socket: TcpListener,
    door: Door<'_>,
    stop: &mut watch::Receiver<bool>,
    serve: impl Fn(TcpStream, SocketAddr) -> F,
) -> JoinSet<()> {
    let mut links = JoinSet::new();
    loop {
        let accepted = tokio::select! {
            accepted = socket.accept() => accepted,
            Some(_) = links.join_next() => continue,
            _ = stop.wait_for(|is_stopping| *is_stopping) => return links,
        };
        match accepted {
            Err(error) => {
                door.metrics.connection_refused(ConnectionRefusal::Accept);
                tracing::warn!(%error, "a link could not be accepted");
                tokio::time::sleep(PAUSE).await;
            }
            Ok((stream, peer)) => {
                let is_client = door.clients.is_empty() || door.clients.contains(&peer.ip().to_canonical());
                if !is_client || links.len() >= door.links_max {
                    door.metrics.connection_refused(ConnectionRefusal::Limit);
                    tracing::info!(listener = door.name, address = %peer.ip(), is_client, "a link was refused");
                    continue;
                }
                let _ = stream.set_nodelay(true); // a peer that is gone is seen by the first read
                links.spawn(serve(stream, peer));
            }
        }
    }
}
