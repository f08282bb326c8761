//! Accepting connections, up to a number, until told to stop.
//!
//! Owns the accept loop. Refuses to let one failed accept end it, and to let connections wait for a place: what is too much is closed at
//! once, so that the peer knows.

use std::sync::Arc;
use std::time::Duration;

use hyper_util::server::graceful::GracefulShutdown;
use tokio::net::TcpListener;
use tokio::sync::watch;

use super::connection::Shape;
use super::count::Count;
use crate::observe::{ConnectionRefusal, Metrics};

/// How long no connection is accepted after the system refused one (no descriptors): others may end meanwhile.
const PAUSE: Duration = Duration::from_millis(50);

/// Accepts until `stop` says so, then waits for the connections to end.
pub(crate) async fn run(
    listener: TcpListener,
    shape: Arc<Shape>,
    connections_max: usize,
    metrics: Arc<Metrics>,
    mut stop: watch::Receiver<bool>,
) {
    let graceful = GracefulShutdown::new();
    let open = Count::default();
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            _ = stop.wait_for(|is_stopping| *is_stopping) => break,
        };
        match accepted {
            Err(error) => {
                metrics.connection_refused(ConnectionRefusal::Accept);
                tracing::warn!(%error, "a connection could not be accepted");
                tokio::time::sleep(PAUSE).await;
            }
            Ok((stream, _)) if open.get() >= connections_max => {
                metrics.connection_refused(ConnectionRefusal::Limit);
                drop(stream);
            }
            Ok((stream, peer)) => {
                let (shape, watcher) = (Arc::clone(&shape), graceful.watcher());
                let (place, counted) = (open.one(), metrics.connection());
                tokio::spawn(async move {
                    let _until_the_end = (place, counted);
                    shape.serve(stream, peer, watcher).await;
                });
            }
        }
    }
    drop(listener);
    graceful.shutdown().await;
}
