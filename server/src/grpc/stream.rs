//! A stream: commands in, replies out, so many under way.
//!
//! Owns the bound of what is under way (above it nothing more is read, so the peer's window fills up), and the end: when the caller has
//! said all, when the server stops, when the key is worth nothing any more. Reads, hands over and answers in one place without a task or
//! a channel, so that replies of one commit go out in one piece. Refuses an order of replies.

use std::future::{Future, ready};
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use futures_util::stream::FuturesUnordered;
use tokio::sync::watch;
use tokio::time::Interval;
use tokio_stream::Stream;
use tonic::{Status, Streaming};

use super::convert::{problem, reply};
use super::door::Known;
use crate::api::batch::{Begun, Sent};
use crate::control::NO_KEY;
use crate::gate::Place;
use tp_protocol::grpc::{Command, Reply};

/// Commands of a stream under way.
const UNDER_WAY_MAX: usize = 4_096;
/// Commands read before replies are looked for again.
const READ_AT_ONCE: usize = 128;

/// How often it is looked whether the key is still worth something.
const LOOK_EVERY: Duration = Duration::from_secs(1);

type Answering = Pin<Box<dyn Future<Output = Reply> + Send>>;
/// A command that was handed over: its tag, its place, and what is waited for.
type HandedOver = (u64, Place, Sent);
/// Somebody has a say in a command before it is handed over.
type Asking = Pin<Box<dyn Future<Output = HandedOver> + Send>>;

/// The replies of a stream.
pub(super) struct Replies {
    known: Known,
    inbound: Streaming<Command>,
    /// Nothing more is read.
    is_ended: bool,
    /// Why, when that was no end.
    failed: Option<Status>,
    under_way: FuturesUnordered<Answering>,
    /// Nothing behind it is read: those of one account are decided in their order.
    asking: Option<Asking>,
    look: Interval,
    stopped: Pin<Box<dyn Future<Output = ()> + Send>>,
}

impl Replies {
    pub(super) fn new(known: Known, inbound: Streaming<Command>, mut stopped: watch::Receiver<bool>) -> Self {
        let stopped = Box::pin(async move {
            let _ = stopped.wait_for(|is_stopping| *is_stopping).await; // the sender is gone: it stops
        });
        let (under_way, look) = (FuturesUnordered::new(), tokio::time::interval(LOOK_EVERY));
        Self { known, inbound, is_ended: false, failed: None, under_way, asking: None, look, stopped }
    }

    /// Whether the key that opened the stream is still worth something.
    fn is_live(&self) -> bool {
        let key = self.known.caller.key;
        key == NO_KEY || self.known.serving.control.read(|state| state.live_key(key).is_some())
    }

    fn take(&mut self, command: Command) {
        let (known, tag) = (self.known.clone(), command.tag);
        let place = match known.enter() {
            Ok(place) => place,
            Err(refusal) => return self.under_way.push(Box::pin(ready(problem(tag, &refusal)))),
        };
        // Handed over here, in the order of the stream.
        match known.begin(&command) {
            Ok(Begun::Sent(sent)) => self.wait_for((tag, place, sent)),
            Err(problem) => self.wait_for((tag, place, Sent::Problem(problem))),
            Ok(Begun::Asks(asks)) => {
                self.asking = Some(Box::pin(async move { (tag, place, known.ask(asks, &command).await) }));
            }
        }
    }

    fn wait_for(&self, (tag, place, sent): HandedOver) {
        let known = self.known.clone();
        self.under_way.push(Box::pin(async move {
            let _until_answered = place;
            reply(tag, sent.end(&known.serving).await)
        }));
    }

    /// Reads what is there, up to the bound. Gives back whether there may be more at once.
    fn read(&mut self, context: &mut Context<'_>) -> bool {
        for _ in 0..READ_AT_ONCE {
            if let Some(asking) = &mut self.asking {
                let Poll::Ready(handed_over) = asking.as_mut().poll(context) else { return false };
                self.asking = None;
                self.wait_for(handed_over);
            }
            if self.is_ended || self.under_way.len() >= UNDER_WAY_MAX {
                return false;
            }
            match Pin::new(&mut self.inbound).poll_next(context) {
                Poll::Pending => return false,
                Poll::Ready(None) => self.is_ended = true,
                Poll::Ready(Some(Err(status))) => (self.is_ended, self.failed) = (true, Some(status)),
                Poll::Ready(Some(Ok(_))) if !self.is_live() => {
                    (self.is_ended, self.failed) = (true, Some(Status::unauthenticated("the key was revoked")));
                }
                Poll::Ready(Some(Ok(command))) => self.take(command),
            }
        }
        true
    }
}

impl Stream for Replies {
    type Item = Result<Reply, Status>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let this = &mut *self;
        if !this.is_ended && this.stopped.as_mut().poll(context).is_ready() {
            (this.is_ended, this.failed) = (true, Some(Status::unavailable("stopping")));
        }
        while this.look.poll_tick(context).is_ready() {
            if !this.is_ended && !this.is_live() {
                (this.is_ended, this.failed) = (true, Some(Status::unauthenticated("the key was revoked")));
            }
        }
        let may_have_more = this.read(context);
        match Pin::new(&mut this.under_way).poll_next(context) {
            Poll::Ready(Some(reply)) => return Poll::Ready(Some(Ok(reply))),
            Poll::Ready(None) if this.is_ended && this.asking.is_none() => {
                return Poll::Ready(this.failed.take().map(Err));
            }
            Poll::Ready(None) | Poll::Pending => {}
        }
        if may_have_more {
            context.waker().wake_by_ref();
        }
        Poll::Pending
    }
}
