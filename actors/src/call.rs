//! Single calls: a future for one reply, and waiting for it without an executor.
//!
//! Owns [`Pending`]; refuses to know who decides. Waiting blockingly works on any thread, inside a runtime too (where it
//! blocks that runtime's thread, which is the caller's choice).

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Wake, Waker};
use std::thread::Thread;

use tokio::sync::oneshot;
use tp_core::command::Command;
use tp_core::outcome::Outcome;
use tp_core::reply::Reply;
use tp_core::scope::Scope;

use crate::inbound::{Inbound, ReplyTo};
use crate::shared::Shared;

/// What a caller may choose for one command.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct CallOptions {
    /// How long it may take until it is decided and durable, ms from now. `None`: the configuration's default.
    pub deadline_ms: Option<u64>,
    /// What it may be decided on. Default: everything.
    pub scope: Scope,
}

/// A reply that is on its way. Dropping it does not take the command back.
#[must_use = "the reply says whether the command was approved"]
#[derive(Debug)]
pub struct Pending {
    state: State,
}

#[derive(Debug)]
enum State {
    Ready(Option<Reply>),
    Waiting(oneshot::Receiver<Reply>),
}

impl Pending {
    /// Submits a command to its partition.
    pub(crate) fn submit(shared: &Shared, command: Command, options: CallOptions) -> Self {
        let (sender, receiver) = oneshot::channel();
        let since_ms = shared.clock.monotonic_ms();
        let state = match shared.submit(Inbound::since(since_ms, shared, command, options, ReplyTo::Call(sender))) {
            Ok(()) => State::Waiting(receiver),
            Err(_) => State::Ready(Some(Reply::bare(Outcome::Busy))),
        };
        Self { state }
    }

    /// The reply, if it is there: for owners of a [`crate::ManualEngine`]. Once it was given, it is gone.
    pub fn try_take(&mut self) -> Option<Reply> {
        match &mut self.state {
            State::Ready(reply) => reply.take(),
            State::Waiting(receiver) => match receiver.try_recv() {
                Ok(reply) => {
                    self.state = State::Ready(None);
                    Some(reply)
                }
                Err(oneshot::error::TryRecvError::Empty) => None,
                // A partition that ends without an answer leaves the outcome open.
                Err(oneshot::error::TryRecvError::Closed) => {
                    self.state = State::Ready(None);
                    Some(Reply::bare(Outcome::InProgress))
                }
            },
        }
    }

    /// Blocks this thread until the reply is there.
    pub fn wait(self) -> Reply {
        block_on(self)
    }
}

impl Future for Pending {
    type Output = Reply;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Reply> {
        // A partition that ends without an answer leaves the outcome open.
        match &mut self.state {
            State::Ready(reply) => Poll::Ready(reply.take().unwrap_or(Reply::bare(Outcome::InProgress))),
            State::Waiting(receiver) => {
                Pin::new(receiver).poll(context).map(|got| got.unwrap_or(Reply::bare(Outcome::InProgress)))
            }
        }
    }
}

struct ThreadWaker(Thread);

impl Wake for ThreadWaker {
    fn wake(self: Arc<Self>) {
        self.0.unpark();
    }
}

/// Runs a future on this thread.
pub(crate) fn block_on<F: Future>(future: F) -> F::Output {
    let mut future = std::pin::pin!(future);
    let waker = Waker::from(Arc::new(ThreadWaker(std::thread::current())));
    let mut context = Context::from_waker(&waker);
    loop {
        match future.as_mut().poll(&mut context) {
            Poll::Ready(output) => return output,
            Poll::Pending => std::thread::park(), // a wake-up before it leaves a token; a spurious one polls again
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reply_given_on_another_thread_is_awaited() {
        let (sender, receiver) = oneshot::channel();
        let giver = std::thread::spawn(move || sender.send(Reply::bare(Outcome::Busy)));
        assert_eq!(Pending { state: State::Waiting(receiver) }.wait().outcome, Outcome::Busy);
        assert!(giver.join().expect("no panic").is_ok());
    }

    #[test]
    fn a_reply_that_was_taken_is_gone() {
        let (sender, receiver) = oneshot::channel();
        let mut pending = Pending { state: State::Waiting(receiver) };
        assert_eq!(pending.try_take(), None);
        assert!(sender.send(Reply::bare(Outcome::Approved)).is_ok());
        assert_eq!(pending.try_take().map(|reply| reply.outcome), Some(Outcome::Approved));
        assert_eq!(pending.try_take(), None, "not a second time, and not another one");
        assert_eq!(pending.wait().outcome, Outcome::InProgress, "and nobody waits for it");
    }

    #[test]
    fn a_call_whose_partition_is_gone_is_told_that_its_outcome_is_open() {
        let (sender, receiver) = oneshot::channel::<Reply>();
        drop(sender);
        assert_eq!(Pending { state: State::Waiting(receiver) }.wait().outcome, Outcome::InProgress);
    }
}
