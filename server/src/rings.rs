//! Commands of one connection that are with the engine: handed over in their order, taken back as their replies come.
//!
//! Owns their places, their tags and the bound of how many there are. Rings for all of them, and one wake-up for all replies of a
//! commit: a future a command would be an allocation and a wake-up each. Refuses to know where commands come from; what is needed for
//! their answers is kept for them unseen.

use std::sync::Arc;
use std::task::{Context, Poll};

use tp_actors::tp_core::command::Command;
use tp_actors::tp_core::reply::Reply;
use tp_actors::{CallOptions, Client, Engine};

/// Places of the first ring. The next one is made when those before are full, seven times as large as all of them, so that a connection
/// with little under way takes little (a place takes some 240 bytes).
const FIRST: usize = 64;
const GROWTH: usize = 7;

/// Commands with the engine, each with a `T`.
pub(crate) struct Rings<T> {
    engine: Arc<Engine>,
    /// The most commands at once.
    max: usize,
    clients: Vec<Client>,
    /// By tag.
    kept: Vec<Option<T>>,
    free: Vec<u32>,
}

impl<T> Rings<T> {
    pub(crate) const fn new(engine: Arc<Engine>, max: usize) -> Self {
        Self { engine, max, clients: Vec::new(), kept: Vec::new(), free: Vec::new() }
    }

    fn places(&self) -> usize {
        self.clients.iter().map(Client::capacity).sum()
    }

    /// Whether there is no room for one more.
    pub(crate) fn is_full(&self) -> bool {
        self.places() >= self.max && self.clients.iter().all(|ring| ring.in_flight() >= ring.capacity())
    }

    /// Whether there is none.
    pub(crate) fn is_empty(&self) -> bool {
        self.clients.iter().all(|ring| ring.in_flight() == 0)
    }

    /// Gives back what a busy time took, when nothing is under way.
    pub(crate) fn shrink(&mut self) {
        if self.is_empty() && self.clients.len() > 1 {
            self.clients.truncate(1);
            (self.kept, self.free) = (Vec::new(), Vec::new());
        }
    }

    /// A ring with room.
    fn ring(&mut self) -> Option<&mut Client> {
        let with_room = self.clients.iter().position(|ring| ring.in_flight() < ring.capacity());
        let at = with_room.or_else(|| {
            let places = self.places();
            let more = (places * GROWTH).max(FIRST).min(self.max - places);
            (more > 0).then(|| {
                self.clients.push(self.engine.client(more));
                self.clients.len() - 1
            })
        })?;
        self.clients.get_mut(at)
    }

    /// Hands over a command, one of several in a row: where to put what is kept for it. `None`: it was not taken, the engine has no room.
    /// What was handed over is with the engine before anything is taken back or waited for.
    #[must_use]
    pub(crate) fn submit(&mut self, command: &Command, options: CallOptions) -> Option<&mut Option<T>> {
        let tag = self.free.pop().unwrap_or_else(|| {
            self.kept.push(None);
            u32::try_from(self.kept.len() - 1).unwrap_or(u32::MAX)
        });
        if self.ring().is_some_and(|ring| ring.enqueue(tag.into(), command, options).is_ok()) {
            self.kept.get_mut(tag as usize)
        } else {
            self.free.push(tag);
            None
        }
    }

    /// Wakes the engine for what was handed over: at the end of a row of commands.
    pub(crate) fn flush(&mut self) {
        self.clients.iter_mut().for_each(Client::flush);
    }

    /// Takes back what is decided and durable, and returns how many.
    pub(crate) fn poll(&mut self, mut each: impl FnMut(T, Reply)) -> usize {
        let Self { clients, kept, free, .. } = self;
        let mut take = |tag: u64, reply: Reply| {
            let tag = u32::try_from(tag).unwrap_or(u32::MAX);
            free.push(tag);
            if let Some(one) = kept.get_mut(tag as usize).and_then(Option::take) {
                each(one, reply);
            }
        };
        clients.iter_mut().map(|ring| ring.poll(&mut take)).sum()
    }

    /// Ready when something is there to be taken back; otherwise the task is woken when it is.
    pub(crate) fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<()> {
        let is_ready = |ring: &mut Client| ring.in_flight() > 0 && ring.poll_ready(context).is_ready();
        // Each is asked: each wakes the task.
        let ready = self.clients.iter_mut().map(is_ready).filter(|is_ready| *is_ready).count();
        if ready > 0 { Poll::Ready(()) } else { Poll::Pending }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::future::poll_fn;
    use tp_actors::Config;
    use tp_actors::tp_core::command::{Read, ReadTarget};
    use tp_actors::tp_core::ids::AccountId;

    #[tokio::test]
    async fn rings_are_added_up_to_the_bound_and_given_back_and_each_reply_comes_with_its_own() {
        let engine = Arc::new(Engine::open(Config::in_memory()).expect("opened"));
        let command: Command = Read { target: ReadTarget::Account(AccountId(1)) }.into();
        for max in [1, 64, 65, 600, 2_048] {
            let mut rings = Rings::new(Arc::clone(&engine), max);
            assert!(rings.is_empty() && !rings.is_full());
            for n in 0..max {
                assert!(!rings.is_full(), "{n} of {max}");
                *rings.submit(&command, CallOptions::default()).expect("taken") = Some(n);
            }
            assert_eq!((rings.is_full(), rings.places()), (true, max));
            assert!(rings.submit(&command, CallOptions::default()).is_none());
            let mut came = Vec::new();
            while !rings.is_empty() {
                poll_fn(|context| rings.poll_ready(context)).await;
                rings.poll(|n, _| came.push(n));
            }
            came.sort_unstable();
            assert!(came.into_iter().eq(0..max), "each once");
            rings.shrink();
            assert_eq!(rings.places(), max.min(FIRST));
            *rings.submit(&command, CallOptions::default()).expect("taken again") = Some(0);
        }
    }
}
