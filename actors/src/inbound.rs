//! Commands on their way in and the way back: where a reply goes, and the tickets by which a partition finds it.
//!
//! Owns the slab of pending destinations; refuses to know what was asked. A ticket is an index into the slab and is used
//! again after its reply left; nothing is allocated once the slab has its size.

use std::sync::Arc;

use tokio::sync::oneshot;
use tp_core::command::Command;
use tp_core::outcome::Outcome;
use tp_core::reply::Reply;
use tp_core::scope::Carried;

use crate::call::CallOptions;
use crate::client::Completions;
use crate::shared::Shared;

/// A command in a partition's inbox.
pub(crate) struct Inbound {
    pub(crate) command: Command,
    /// When it was submitted, on the engine's monotonic clock, ms.
    pub(crate) since_ms: u64,
    /// Likewise.
    pub(crate) deadline_ms: u64,
    pub(crate) scope: Carried,
    pub(crate) reply_to: ReplyTo,
}

impl Inbound {
    /// A command that was submitted at that moment, monotonic.
    pub(crate) fn since(
        since_ms: u64,
        shared: &Shared,
        command: Command,
        options: CallOptions,
        reply_to: ReplyTo,
    ) -> Self {
        let CallOptions { deadline_ms, scope } = options;
        let deadline_ms = since_ms.saturating_add(deadline_ms.unwrap_or(shared.deadline_ms_default));
        Self { command, since_ms, deadline_ms, scope: scope.carried(), reply_to }
    }
}

/// Where a reply goes.
pub(crate) enum ReplyTo {
    /// Into a client's completion ring.
    Client { completions: Arc<Completions>, tag: u64 },
    /// To a single call.
    Call(oneshot::Sender<Reply>),
}

/// Clients that got replies and are still to be woken: once a pass, not once a reply.
#[derive(Default)]
pub(crate) struct Touched {
    clients: Vec<Arc<Completions>>,
}

impl Touched {
    fn note(&mut self, completions: Arc<Completions>) {
        if !self.clients.last().is_some_and(|last| Arc::ptr_eq(last, &completions)) {
            self.clients.push(completions);
        }
    }

    pub(crate) fn wake(&mut self) {
        for client in self.clients.drain(..) {
            client.wake();
        }
    }
}

impl ReplyTo {
    /// Hands the reply over. Never waits: a client's ring has room for all that it has in flight.
    pub(crate) fn deliver(self, reply: Reply, touched: &mut Touched) {
        match self {
            Self::Client { completions, tag } => {
                completions.complete(tag, reply);
                touched.note(completions);
            }
            Self::Call(sender) => {
                let _ = sender.send(reply); // the caller may have gone
            }
        }
    }

    /// As `deliver`, outside a partition.
    pub(crate) fn answer(self, outcome: Outcome) {
        let mut touched = Touched::default();
        self.deliver(Reply::bare(outcome), &mut touched);
        touched.wake();
    }
}

/// The pending destinations of one partition.
#[derive(Default)]
pub(crate) struct Tickets {
    pending: Vec<Option<ReplyTo>>,
    free: Vec<usize>,
}

impl Tickets {
    pub(crate) fn len(&self) -> usize {
        self.pending.len() - self.free.len()
    }

    pub(crate) fn issue(&mut self, reply_to: ReplyTo) -> u64 {
        if let Some(index) = self.free.pop() {
            self.pending[index] = Some(reply_to);
            return index as u64;
        }
        self.pending.push(Some(reply_to));
        self.pending.len() as u64 - 1
    }

    /// The destination; the ticket is free again. `None`: it is not out.
    pub(crate) fn redeem(&mut self, ticket: u64) -> Option<ReplyTo> {
        let index = usize::try_from(ticket).ok()?;
        let reply_to = self.pending.get_mut(index)?.take()?;
        self.free.push(index);
        Some(reply_to)
    }

    /// All that are out.
    pub(crate) fn drain(&mut self) -> impl Iterator<Item = ReplyTo> + '_ {
        self.free.clear();
        self.pending.drain(..).flatten()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn call() -> (ReplyTo, oneshot::Receiver<Reply>) {
        let (sender, receiver) = oneshot::channel();
        (ReplyTo::Call(sender), receiver)
    }

    #[test]
    fn a_ticket_leads_to_its_own_destination_once() {
        let mut tickets = Tickets::default();
        let (first, mut first_rx) = call();
        let (second, mut second_rx) = call();
        let (a, b) = (tickets.issue(first), tickets.issue(second));
        assert_eq!((tickets.len(), a == b), (2, false));
        tickets.redeem(b).expect("out").answer(Outcome::Busy);
        assert!(tickets.redeem(b).is_none(), "redeemed twice");
        assert_eq!(second_rx.try_recv().map(|r| r.outcome), Ok(Outcome::Busy));
        assert!(first_rx.try_recv().is_err());
        let (third, _rx) = call();
        assert_eq!(tickets.issue(third), b, "used again");
        assert!(tickets.redeem(99).is_none());
        assert_eq!((tickets.drain().count(), tickets.len()), (2, 0));
    }
}
