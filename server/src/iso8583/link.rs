//! One link: a connection of an acquirer, from its first frame to its end.
//!
//! Owns the bytes of both ways, the bounds (above them nothing more is read: the peer's window fills up) and the end: what was taken is
//! answered first, also to a peer that has shut down its sending half. One task, no channel on the way of a plain command: answers of one
//! commit go out in one write. Refuses to know messages: that is the [`Desk`]. Bytes that had card data in them are wiped when used.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant};

use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt as _, ReadBuf};
use tokio::sync::watch;
use tokio::time::Interval;
use tp_iso8583::{FRAME_HEAD_BYTES, MESSAGE_BYTES_MAX, frame_length};
use zeroize::{Zeroize as _, Zeroizing};

use super::desk::Desk;
use super::flight::Held;
use super::listener::Edge;

/// Why a link ended.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub(super) enum Ended {
    /// The peer closed it.
    #[error("the peer closed it")]
    Peer,
    /// Nothing came for too long.
    #[error("nothing came for too long")]
    Idle,
    /// The peer takes no answers.
    #[error("the peer does not take its answers")]
    Stuck,
    /// A frame is longer than allowed.
    #[error("a frame of {0} bytes: more than allowed")]
    TooLong(usize),
    /// What came is no message that could be answered.
    #[error("no message that could be answered: {0}")]
    NoMessage(String),
    /// The server stops.
    #[error("the server stops")]
    Stopping,
    /// The connection broke.
    #[error("{0}")]
    Broken(std::io::ErrorKind),
}

/// How long a peer may leave answers untaken.
const TAKE_WITHIN: Duration = Duration::from_secs(30);
/// Bytes read at once, and room for one frame: a whole one fits.
pub(super) const FRAME_BYTES_MAX: usize = FRAME_HEAD_BYTES + MESSAGE_BYTES_MAX;
/// So many bytes of answers wait to be taken, and nothing more is read or answered.
const OUT_BYTES: usize = 64 * 1024;
/// Turns before another link has one.
const TURNS: usize = 8;
/// How often it is looked whether the peer is there, at most.
const LOOK_EVERY: Duration = Duration::from_millis(500);

/// How long a link is quiet before it gives back what a busy time took.
const SHRINK_AFTER: Duration = Duration::from_secs(10);

/// Serves a link to its end.
pub(super) async fn serve<S>(edge: Arc<Edge>, mut stream: S, mut stop: watch::Receiver<bool>) -> Ended
where
    S: AsyncRead + AsyncWrite + Unpin + Send,
{
    let idle = edge.listener.idle;
    let stopped = async move {
        let _ = stop.wait_for(|is_stopping| *is_stopping).await; // the sender is gone: it stops
    };
    let ended = Link {
        stream: &mut stream,
        input: Input { bytes: Zeroizing::new(vec![0; FRAME_BYTES_MAX]), taken: 0, filled: 0 },
        desk: Desk::new(edge),
        out: Out::default(),
        ended: None,
        heard: Instant::now(),
        look: tokio::time::interval(LOOK_EVERY.min(idle / 4)),
        stopped: Box::pin(stopped),
        idle,
    }
    .await;
    if !matches!(ended, Ended::Stuck | Ended::Broken(_)) {
        let _ = tokio::time::timeout(TAKE_WITHIN, stream.shutdown()).await; // the peer may be gone
    }
    ended
}

struct Link<'a, S> {
    stream: &'a mut S,
    input: Input,
    desk: Desk,
    out: Out,
    /// Nothing more is read, and why.
    ended: Option<Ended>,
    /// When something came last, or could not be read.
    heard: Instant,
    look: Interval,
    stopped: Pin<Box<dyn Future<Output = ()> + Send>>,
    idle: Duration,
}

impl<S: AsyncRead + AsyncWrite + Unpin + Send> Future for Link<'_, S> {
    type Output = Ended;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Ended> {
        let this = &mut *self;
        if this.ended.is_none() && this.stopped.as_mut().poll(context).is_ready() {
            this.ended = Some(Ended::Stopping);
        }
        let mut is_due = false;
        while this.look.poll_tick(context).is_ready() {
            is_due = true;
        }
        for _ in 0..TURNS {
            // Whether an answer is late is seen when it can be written: while the peer takes nothing, answers wait where they are.
            let mut is_moving = !this.out.is_writing() && this.desk.answer(context, &mut this.out);
            match this.out.poll_write(this.stream, context) {
                Poll::Ready(Ok(wrote)) => is_moving |= wrote,
                // Why it ended before is why it ended.
                Poll::Ready(Err(error)) => {
                    return Poll::Ready(this.ended.take().unwrap_or(Ended::Broken(error.kind())));
                }
                Poll::Pending => {}
            }
            is_moving |= this.take();
            match this.read(context) {
                Poll::Ready(Ok(())) => is_moving = true,
                Poll::Ready(Err(ended)) => this.ended = Some(ended),
                Poll::Pending => {}
            }
            // After the connection had its turn: a task that was not run for long finds there what it missed.
            if std::mem::take(&mut is_due)
                && let Some(ended) = this.looked()
            {
                return Poll::Ready(ended);
            }
            if this.ended.is_some() && this.desk.is_answered() && this.out.is_out() {
                return Poll::Ready(this.ended.take().unwrap_or(Ended::Peer));
            }
            // Answers wake the task: when some are there already, it goes on. While it writes, the peer has to take some first.
            if !is_moving && (this.out.is_writing() || this.desk.poll_ready(context).is_pending()) {
                return Poll::Pending;
            }
        }
        context.waker().wake_by_ref();
        Poll::Pending
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin + Send> Link<'_, S> {
    /// What is seen from time to time. What comes back ends the link at once.
    fn looked(&mut self) -> Option<Ended> {
        if self.out.is_stuck() {
            return Some(Ended::Stuck);
        }
        if !self.has_room() {
            self.heard = Instant::now();
        }
        if self.ended.is_none() && self.heard.elapsed() > self.idle {
            self.ended = Some(Ended::Idle);
        }
        if self.heard.elapsed() > SHRINK_AFTER && self.desk.is_answered() && self.out.is_out() {
            self.desk.shrink();
            self.out = Out::default();
        }
        None
    }

    /// Whether there is room for one message more and its answer.
    fn has_room(&self) -> bool {
        self.desk.has_room() && self.out.has_room()
    }

    /// Takes the messages that were read, as far as there is room. Whether there were any. A server that stops takes what it has read.
    fn take(&mut self) -> bool {
        let before = self.input.taken;
        self.desk.begin_turn();
        while matches!(self.ended, None | Some(Ended::Stopping)) && self.has_room() {
            match self.input.next(self.desk.message_bytes_max()) {
                Ok(None) => break,
                // An empty frame says that the peer is there.
                Ok(Some([])) => {}
                Ok(Some(body)) => {
                    if let Err(ended) = self.desk.take(body, &mut self.out) {
                        self.ended = Some(ended);
                    }
                }
                Err(length) => self.ended = Some(Ended::TooLong(length)),
            }
        }
        self.input.wipe_from(before);
        self.desk.flush();
        self.input.taken > before
    }

    /// Reads once. Ready: something came.
    fn read(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Ended>> {
        if self.ended.is_some() || !self.has_room() {
            return Poll::Pending;
        }
        match ready!(self.input.poll_read(self.stream, context)) {
            Ok(0) => Poll::Ready(Err(Ended::Peer)),
            Ok(_) => {
                self.heard = Instant::now();
                Poll::Ready(Ok(()))
            }
            Err(error) => Poll::Ready(Err(Ended::Broken(error.kind()))),
        }
    }
}

/// Bytes that came.
struct Input {
    bytes: Zeroizing<Vec<u8>>,
    taken: usize,
    filled: usize,
}

impl Input {
    /// The next message that is whole.
    ///
    /// # Errors
    /// The length of one that is longer than allowed.
    fn next(&mut self, message_bytes_max: usize) -> Result<Option<&[u8]>, usize> {
        let Some((head, rest)) = self.bytes[self.taken..self.filled].split_first_chunk::<FRAME_HEAD_BYTES>() else {
            return Ok(None);
        };
        let length = frame_length(*head);
        if length > message_bytes_max {
            return Err(length);
        }
        let Some(body) = rest.get(..length) else { return Ok(None) };
        self.taken += FRAME_HEAD_BYTES + length;
        Ok(Some(body))
    }

    /// Wipes what was taken from there on.
    fn wipe_from(&mut self, from: usize) {
        self.bytes[from..self.taken].zeroize();
    }

    /// Reads behind what is there. Called when no whole message is.
    fn poll_read<S: AsyncRead + Unpin>(
        &mut self,
        stream: &mut S,
        context: &mut Context<'_>,
    ) -> Poll<std::io::Result<usize>> {
        let Self { bytes, taken, filled } = self;
        if *taken > 0 {
            bytes.copy_within(*taken..*filled, 0);
            bytes[(*filled - *taken).max(*taken)..*filled].zeroize();
            (*filled, *taken) = (*filled - *taken, 0);
        }
        let mut buffer = ReadBuf::new(&mut bytes[*filled..]);
        ready!(Pin::new(stream).poll_read(context, &mut buffer))?;
        let read = buffer.filled().len();
        *filled += read;
        Poll::Ready(Ok(read))
    }
}

/// Bytes that go: frames that are being written, and those that come next. What their messages hold is held until they are out.
#[derive(Default)]
pub(super) struct Out {
    writing: Frames,
    /// Of what is being written.
    written: usize,
    /// Since when.
    since: Option<Instant>,
    next: Frames,
}

/// Frames, and what their messages hold.
#[derive(Default)]
struct Frames {
    bytes: Wiped,
    held: Vec<Held>,
}

impl Out {
    /// Puts in a frame that `write` appends; what is held is given up once it is out.
    ///
    /// # Errors
    /// What `write` gives, and what was held. Nothing was put in.
    pub(super) fn put<E>(
        &mut self,
        held: Held,
        write: impl FnOnce(&mut Vec<u8>) -> Result<(), E>,
    ) -> Result<(), (E, Held)> {
        self.next.bytes.make_room();
        match write(&mut self.next.bytes.0) {
            Ok(()) => {
                self.next.held.push(held);
                Ok(())
            }
            Err(error) => Err((error, held)),
        }
    }

    /// Whether there is room for one frame more.
    pub(super) fn has_room(&self) -> bool {
        self.next.bytes.0.len() < OUT_BYTES
    }

    /// Whether the peer has not taken yet what it was sent last.
    const fn is_writing(&self) -> bool {
        self.since.is_some()
    }

    /// Whether nothing waits to be taken.
    fn is_out(&self) -> bool {
        self.since.is_none() && self.next.bytes.0.is_empty()
    }

    /// Whether the peer does not take what is there.
    fn is_stuck(&self) -> bool {
        self.since.is_some_and(|since| since.elapsed() > TAKE_WITHIN)
    }

    /// Writes what is there, as far as that goes without waiting. Ready: that is out, and whether there was any.
    fn poll_write<S: AsyncWrite + Unpin>(
        &mut self,
        stream: &mut S,
        context: &mut Context<'_>,
    ) -> Poll<std::io::Result<bool>> {
        if self.since.is_none() {
            if self.next.bytes.0.is_empty() {
                return Poll::Ready(Ok(false));
            }
            std::mem::swap(&mut self.writing, &mut self.next);
            self.since = Some(Instant::now());
        }
        while let Some(rest) = self.writing.bytes.0.get(self.written..).filter(|rest| !rest.is_empty()) {
            match ready!(Pin::new(&mut *stream).poll_write(context, rest))? {
                0 => return Poll::Ready(Err(std::io::ErrorKind::WriteZero.into())),
                count => self.written += count,
            }
        }
        // TLS keeps what the socket did not take: only what was flushed is out.
        ready!(Pin::new(&mut *stream).poll_flush(context))?;
        self.writing.bytes.clear();
        self.writing.held.clear();
        (self.written, self.since) = (0, None);
        Poll::Ready(Ok(true))
    }
}

/// A buffer that had card data in it.
#[derive(Default)]
struct Wiped(Vec<u8>);

impl Wiped {
    /// Room for a frame. What is outgrown is wiped.
    fn make_room(&mut self) {
        if self.0.capacity() - self.0.len() < FRAME_BYTES_MAX {
            let mut larger = Vec::with_capacity(2 * self.0.capacity() + FRAME_BYTES_MAX);
            larger.extend_from_slice(&self.0);
            std::mem::replace(&mut self.0, larger).zeroize();
        }
    }

    /// Wipes what is there, and only that.
    fn clear(&mut self) {
        self.0.as_mut_slice().zeroize();
        self.0.clear();
    }
}

impl Drop for Wiped {
    fn drop(&mut self) {
        self.0.zeroize();
    }
}
