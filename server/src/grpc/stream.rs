//! A stream: commands in, replies out, so many under way.
//!
//! Owns the bound of what is under way (above it nothing more is read, so the peer's window fills up), and the end: when the caller has
//! said all, when the server stops, when the key is worth nothing any more. Reads, hands over and answers in one place without a task or
//! a channel, so that replies of one commit go out in one piece. Refuses an order of replies.

use std::collections::VecDeque;
use std::future::Future;
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
use crate::gate::Place;
use crate::in_flight::{IN_FLIGHT_MAX, InFlight};
use tp_protocol::grpc::{Command, Reply};

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
    in_flight: InFlight,
    /// What others than the engine answer, or had a say in.
    others: FuturesUnordered<Answering>,
    /// Replies that are to be given out.
    told: VecDeque<Reply>,
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
        Self {
            in_flight: InFlight::new(&known.serving),
            known,
            inbound,
            is_ended: false,
            failed: None,
            others: FuturesUnordered::new(),
            told: VecDeque::new(),
            asking: None,
            look: tokio::time::interval(LOOK_EVERY),
            stopped,
        }
    }

    fn is_live(&self) -> bool {
        self.known.serving.is_live(&self.known.caller)
    }

    fn take(&mut self, command: Command) {
        let tag = command.tag;
        let place = match self.known.enter() {
            Ok(place) => place,
            Err(refusal) => return self.told.push_back(problem(tag, &refusal)),
        };
        // Handed over here, in the order of the stream.
        match self.known.begin(&command) {
            Ok((Begun::Free(verb, asked), deadline_ms)) => {
                let sent = self.in_flight.submit(&self.known.caller, (tag, place), (verb, &asked), deadline_ms);
                if let Err(done) = sent {
                    self.told.push_back(reply(tag, done));
                }
            }
            Ok((Begun::Asks(asks), _)) => {
                let known = self.known.clone();
                self.asking = Some(Box::pin(async move { (tag, place, known.ask(asks, &command).await) }));
            }
            Err(flaw) => self.told.push_back(problem(tag, &flaw)),
        }
    }

    /// Above it nothing more is read.
    fn is_full(&self) -> bool {
        self.in_flight.is_full() || self.others.len() + self.told.len() >= IN_FLIGHT_MAX
    }

    fn wait_for(&self, (tag, place, sent): HandedOver) {
        let known = self.known.clone();
        self.others.push(Box::pin(async move {
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
            if self.is_ended || self.is_full() {
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
            this.in_flight.shrink();
            if !this.is_ended && !this.is_live() {
                (this.is_ended, this.failed) = (true, Some(Status::unauthenticated("the key was revoked")));
            }
        }
        // What is there is given out first: reading is what may wait.
        if let Some(reply) = this.told.pop_front() {
            return Poll::Ready(Some(Ok(reply)));
        }
        let may_have_more = this.read(context);
        let Self { in_flight, told, .. } = this;
        in_flight.poll(|tag, done| told.push_back(reply(tag, done)));
        if let Some(reply) = this.told.pop_front() {
            return Poll::Ready(Some(Ok(reply)));
        }
        let is_over = match Pin::new(&mut this.others).poll_next(context) {
            Poll::Ready(Some(reply)) => return Poll::Ready(Some(Ok(reply))),
            Poll::Ready(None) => this.in_flight.is_empty(),
            Poll::Pending => false,
        };
        if is_over && this.is_ended && this.asking.is_none() {
            return Poll::Ready(this.failed.take().map(Err));
        }
        if may_have_more || !this.in_flight.is_empty() && this.in_flight.poll_ready(context).is_ready() {
            context.waker().wake_by_ref();
        }
        Poll::Pending
    }
}
