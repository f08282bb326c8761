//! A connection that may not wait for ever.
//!
//! ```text
//!   new --first byte--> head --whole--> under way --answer ready--> answer --taken--> idle --a byte--> head ...
//!    first_byte_ms    header_ms       body_ms, command_ms        answer_ms         idle_ms
//! ```
//! Owns that way and its deadlines, but for the two of a request under way, which are the request's own. No byte extends a deadline: a
//! peer that sends or takes a byte now and then is as late as one that does nothing. Refuses to know the protocol above, but for the
//! 24 bytes of HTTP/2's preface: there a byte between requests begins no head, it may be a ping, and a connection that only pings is idle.

use std::collections::VecDeque;
use std::future::Future as _;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use hyper::body::{Body, Frame, SizeHint};
use parking_lot::Mutex;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Instant, Sleep, sleep};

use crate::settings::Settings;

/// How long each part may take.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Waits {
    pub(crate) first_byte: Duration,
    pub(crate) head: Duration,
    pub(crate) answer: Duration,
    pub(crate) idle: Duration,
}

impl Waits {
    /// The settings' waits.
    pub(crate) fn from_settings(settings: &Settings) -> Self {
        Self {
            first_byte: settings.first_byte_ms.ms(),
            head: settings.header_ms.ms(),
            answer: settings.answer_ms.ms(),
            idle: settings.idle_ms.ms(),
        }
    }

    const fn of(&self, phase: Phase) -> Duration {
        match phase {
            Phase::FirstByte => self.first_byte,
            Phase::Head => self.head,
            Phase::Idle => self.idle,
        }
    }
}

/// What the peer is waited for, while no request is under way.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Phase {
    FirstByte,
    Head,
    Idle,
}

const PREFACE: &[u8; 24] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// Which protocol is spoken, from the first bytes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Spoken {
    /// So many bytes of the preface were there.
    Unknown(usize),
    Http1,
    Http2,
}

#[derive(Debug)]
struct State {
    phase: Phase,
    /// When it began.
    since: Instant,
    spoken: Spoken,
    under_way: usize,
    /// Answers that are ready and not taken, the oldest first: their numbers, and since when.
    answers: VecDeque<(u64, Instant)>,
    answers_begun: u64,
}

/// Where a connection stands; shared by its stream and its requests.
#[derive(Debug)]
pub(crate) struct Pace {
    waits: Waits,
    state: Mutex<State>,
}

impl Pace {
    pub(crate) fn new(waits: Waits) -> Arc<Self> {
        let state = State {
            phase: Phase::FirstByte,
            since: Instant::now(),
            spoken: Spoken::Unknown(0),
            under_way: 0,
            answers: VecDeque::new(),
            answers_begun: 0,
        };
        Arc::new(Self { waits, state: Mutex::new(state) })
    }

    /// Bytes came. Gives back whether it is over: a flood of bytes leaves no time at which nothing moves.
    fn read(&self, bytes: &[u8]) -> bool {
        let mut state = self.state.lock();
        if let Spoken::Unknown(before) = state.spoken {
            let wanted = &PREFACE[before..];
            let common = wanted.iter().zip(bytes).take_while(|(wanted, byte)| wanted == byte).count();
            state.spoken = match common {
                _ if common == wanted.len() => Spoken::Http2,
                _ if common == bytes.len() => Spoken::Unknown(before + common),
                _ => Spoken::Http1,
            };
        }
        if state.under_way > 0 {
            return false;
        }
        let next = match (state.phase, state.spoken) {
            (Phase::FirstByte | Phase::Head, Spoken::Http2) => Phase::Idle,
            (Phase::FirstByte, _) | (Phase::Idle, Spoken::Http1 | Spoken::Unknown(_)) => Phase::Head,
            (phase, _) => phase,
        };
        let now = Instant::now();
        if next != state.phase {
            (state.phase, state.since) = (next, now);
        }
        state.since + self.waits.of(state.phase) <= now
    }

    /// A head is whole: its request is under way until what is given back is dropped.
    pub(crate) fn begin(self: &Arc<Self>) -> UnderWay {
        self.state.lock().under_way += 1;
        UnderWay { pace: Arc::clone(self), answer: None }
    }

    /// When the connection is cut off if nothing changes; `None` while a request is under way and no answer waits.
    fn until(&self) -> Option<Instant> {
        let state = self.state.lock();
        if state.under_way > 0 {
            return state.answers.front().map(|(_, since)| *since + self.waits.answer);
        }
        Some(state.since + self.waits.of(state.phase))
    }
}

/// A request under way.
#[derive(Debug)]
pub(crate) struct UnderWay {
    pace: Arc<Pace>,
    answer: Option<u64>,
}

impl UnderWay {
    /// Its answer is ready: from now on the peer is waited for.
    pub(crate) fn answered<B>(mut self, body: B) -> Taken<B> {
        self.is_ready();
        Taken { body, under_way: self, goes_on: false }
    }

    /// Its answer goes on, as long as its caller wants: it is under way until its body ends, and what of it is ready is waited for.
    pub(crate) fn goes_on<B>(self, body: B) -> Taken<B> {
        Taken { body, under_way: self, goes_on: true }
    }

    /// A part of it is ready: from now on the peer is waited for.
    fn is_ready(&mut self) {
        let mut state = self.pace.state.lock();
        let number = state.answers_begun;
        state.answers_begun += 1;
        state.answers.push_back((number, Instant::now()));
        self.answer = Some(number);
    }

    /// The part was taken.
    fn is_taken(&mut self) {
        if let Some(number) = self.answer.take() {
            self.pace.state.lock().answers.retain(|(other, _)| *other != number);
        }
    }
}

impl Drop for UnderWay {
    fn drop(&mut self) {
        let mut state = self.pace.state.lock();
        state.under_way -= 1;
        if let Some(number) = self.answer {
            state.answers.retain(|(other, _)| *other != number);
        }
        if state.under_way == 0 {
            (state.phase, state.since) = (Phase::Idle, Instant::now());
        }
    }
}

/// The body of an answer: when it is dropped, it was taken.
pub(crate) struct Taken<B> {
    body: B,
    under_way: UnderWay,
    goes_on: bool,
}

impl<B: Body + Unpin> Body for Taken<B> {
    type Data = B::Data;
    type Error = B::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Self::Data>, Self::Error>>> {
        if !self.goes_on {
            return Pin::new(&mut self.body).poll_frame(context);
        }
        // Asked for more, it was rid of what it had.
        self.under_way.is_taken();
        let polled = Pin::new(&mut self.body).poll_frame(context);
        if matches!(polled, Poll::Ready(Some(Ok(_)))) {
            self.under_way.is_ready();
        }
        polled
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

fn too_long() -> io::Error {
    io::Error::new(io::ErrorKind::TimedOut, "the peer took too long")
}

/// The stream with its deadlines. One timer a connection; it is moved when it fires early, or would fire late.
pub(crate) struct Deadlines<S> {
    stream: S,
    pace: Arc<Pace>,
    timer: Pin<Box<Sleep>>,
}

impl<S> Deadlines<S> {
    pub(crate) fn new(stream: S, pace: Arc<Pace>) -> Self {
        let timer = Box::pin(sleep(pace.waits.first_byte));
        Self { stream, pace, timer }
    }

    /// Nothing moved now: is it over?
    fn poll_over(&mut self, context: &mut Context<'_>) -> Poll<io::Error> {
        if let Some(until) = self.pace.until()
            && until < self.timer.deadline()
        {
            self.timer.as_mut().reset(until);
        }
        loop {
            ready!(self.timer.as_mut().poll(context));
            let now = Instant::now();
            let until = self.pace.until();
            if until.is_some_and(|until| until <= now) {
                return Poll::Ready(too_long());
            }
            // A request is under way: its answer cannot be late before it was ready for so long.
            self.timer.as_mut().reset(until.unwrap_or(now + self.pace.waits.answer));
        }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Deadlines<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        match Pin::new(&mut self.stream).poll_read(context, buffer) {
            Poll::Ready(read) => {
                let bytes = &buffer.filled()[before..];
                if !bytes.is_empty() && self.pace.read(bytes) {
                    return Poll::Ready(Err(too_long()));
                }
                Poll::Ready(read)
            }
            Poll::Pending => self.poll_over(context).map(Err),
        }
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Deadlines<S> {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        match Pin::new(&mut self.stream).poll_write(context, bytes) {
            Poll::Ready(written) => Poll::Ready(written),
            Poll::Pending => self.poll_over(context).map(Err),
        }
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match Pin::new(&mut self.stream).poll_flush(context) {
            Poll::Ready(flushed) => Poll::Ready(flushed),
            Poll::Pending => self.poll_over(context).map(Err),
        }
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match Pin::new(&mut self.stream).poll_shutdown(context) {
            Poll::Ready(done) => Poll::Ready(done),
            Poll::Pending => self.poll_over(context).map(Err),
        }
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        match Pin::new(&mut self.stream).poll_write_vectored(context, slices) {
            Poll::Ready(written) => Poll::Ready(written),
            Poll::Pending => self.poll_over(context).map(Err),
        }
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const WAITS: Waits = Waits {
        first_byte: Duration::from_secs(1),
        head: Duration::from_secs(2),
        answer: Duration::from_secs(4),
        idle: Duration::from_secs(8),
    };

    /// Which wait runs, by its length in seconds; 0: none.
    fn wait(pace: &Pace) -> u64 {
        let since = pace.state.lock().since;
        pace.until().map_or(0, |until| (until - since).as_secs())
    }

    #[test]
    fn a_connection_goes_from_first_byte_to_head_to_idle_and_a_byte_extends_none_of_them() {
        let pace = Pace::new(WAITS);
        assert_eq!(wait(&pace), 1);
        pace.read(b"P");
        let until = pace.until();
        assert_eq!(wait(&pace), 2);
        pace.read(b"OST");
        assert_eq!(pace.until(), until, "a byte now and then");
        let request = pace.begin();
        assert_eq!(wait(&pace), 0, "a request has its own deadlines");
        pace.read(b"body");
        assert_eq!(wait(&pace), 0);
        let answer = request.answered(());
        assert_eq!(wait(&pace), 4);
        drop(answer);
        assert_eq!(wait(&pace), 8);
        pace.read(b"G");
        assert_eq!(wait(&pace), 2, "the head of the next one");
    }

    #[test]
    fn the_preface_in_pieces_is_a_head_and_pings_after_it_do_not_keep_a_connection() {
        let pace = Pace::new(WAITS);
        pace.read(&PREFACE[..23]);
        assert_eq!(wait(&pace), 2);
        pace.read(&PREFACE[23..]);
        let until = pace.until();
        assert_eq!(wait(&pace), 8);
        pace.read(b"a ping");
        assert_eq!(pace.until(), until);
    }

    #[test]
    fn the_oldest_answer_that_was_not_taken_counts() {
        let pace = Pace::new(WAITS);
        pace.read(PREFACE);
        let (stuck, other, third) = (pace.begin(), pace.begin(), pace.begin());
        let stuck = stuck.answered(());
        let until = pace.until();
        let other = other.answered(());
        drop(other);
        assert_eq!(pace.until(), until, "answers that were taken do not help the one that was not");
        drop(stuck);
        assert_eq!(pace.until(), None);
        drop(third);
        assert_eq!(wait(&pace), 8);
    }
}
