//! Accepting links: connections that are few and stay, of a listener that is not HTTP's.
//!
//! Owns the accept loop and its bounds. Refuses to know what is spoken, and to let links wait for a place: what is too much is closed at once.
//! Who has not said yet who he is has no place of his own: such links are as many as the others at most, and the oldest of them makes room.

use std::collections::VecDeque;
use std::future::Future;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::{AbortHandle, JoinSet};

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

/// A link's own place, once it is known whose it is.
#[derive(Clone, Default)]
pub(crate) struct LinkPlace(Arc<AtomicBool>);

impl LinkPlace {
    /// It is known who is there.
    pub(crate) fn greeted(&self) {
        self.0.store(true, Ordering::Relaxed);
    }

    fn is_greeted(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }
}

/// Links that are open.
#[derive(Default)]
struct Open {
    links: JoinSet<()>,
    /// Of which it is known who is there.
    known: Vec<AbortHandle>,
    /// Of which it is not, oldest first.
    new: VecDeque<(LinkPlace, AbortHandle)>,
}

impl Open {
    /// Whether one more may come: the oldest that has not greeted goes for it.
    fn make_room(&mut self, links_max: usize) -> bool {
        let known = &mut self.known;
        self.new.retain(|(place, link)| {
            if place.is_greeted() {
                known.push(link.clone());
            }
            !place.is_greeted() && !link.is_finished()
        });
        known.retain(|link| !link.is_finished());
        if known.len() >= links_max {
            return false;
        }
        if self.new.len() >= links_max
            && let Some((_, oldest)) = self.new.pop_front()
        {
            oldest.abort();
        }
        true
    }
}

/// Accepts links until told to stop. The links that are still open.
pub(crate) async fn accept<F: Future<Output = ()> + Send + 'static>(
    socket: TcpListener,
    door: Door<'_>,
    stop: &mut watch::Receiver<bool>,
    serve: impl Fn(TcpStream, SocketAddr, LinkPlace) -> F,
) -> JoinSet<()> {
    let mut open = Open::default();
    loop {
        let accepted = tokio::select! {
            accepted = socket.accept() => accepted,
            Some(_) = open.links.join_next() => continue,
            _ = stop.wait_for(|is_stopping| *is_stopping) => return open.links,
        };
        match accepted {
            Err(error) => {
                door.metrics.connection_refused(ConnectionRefusal::Accept);
                tracing::warn!(%error, "a link could not be accepted");
                tokio::time::sleep(PAUSE).await;
            }
            Ok((stream, peer)) => {
                let is_client = door.clients.is_empty() || door.clients.contains(&peer.ip().to_canonical());
                if !is_client || !open.make_room(door.links_max) {
                    door.metrics.connection_refused(ConnectionRefusal::Limit);
                    tracing::info!(listener = door.name, address = %peer.ip(), is_client, "a link was refused");
                    continue;
                }
                let _ = stream.set_nodelay(true); // a peer that is gone is seen by the first read
                let place = LinkPlace::default();
                let link = open.links.spawn(serve(stream, peer, place.clone()));
                open.new.push_back((place, link));
            }
        }
    }
}
