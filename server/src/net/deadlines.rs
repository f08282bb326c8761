//! A stream that may not be silent for ever.
//!
//! Owns two deadlines of a connection: to its first bytes, and between any two bytes in either direction. A peer that sends or takes
//! nothing for so long is cut off, whatever the protocol above waits for. Refuses to know that protocol, but for one number: until
//! 24 bytes are there (HTTP/2's preface, by which the two protocols are told apart) no byte extends the first deadline.

use std::future::Future as _;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Instant, Sleep, sleep};

/// The stream with its deadlines. One timer a connection; moving it costs a store, not a wake-up.
pub(crate) struct Deadlines<S> {
    stream: S,
    idle: Duration,
    timer: Pin<Box<Sleep>>,
    /// When the connection is cut off if nothing moves until then.
    until: Instant,
    /// Bytes read, up to [`FIRST_BYTES`].
    read: usize,
}

/// So many bytes have to come within the first deadline.
const FIRST_BYTES: usize = 24;

impl<S> Deadlines<S> {
    pub(crate) fn new(stream: S, first_byte: Duration, idle: Duration) -> Self {
        let until = Instant::now() + first_byte;
        Self { stream, idle, timer: Box::pin(sleep(first_byte)), until, read: 0 }
    }

    /// Something moved.
    fn moved(&mut self) {
        self.until = Instant::now() + self.idle;
    }

    /// Nothing moved now: is it over? The timer is set anew only when it fires early.
    fn poll_over(&mut self, context: &mut Context<'_>) -> Poll<io::Error> {
        while self.timer.as_mut().poll(context).is_ready() {
            if Instant::now() >= self.until {
                return Poll::Ready(io::Error::new(io::ErrorKind::TimedOut, "the peer was silent for too long"));
            }
            let until = self.until;
            self.timer.as_mut().reset(until);
        }
        Poll::Pending
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
                self.read = (self.read + buffer.filled().len() - before).min(FIRST_BYTES);
                if buffer.filled().len() > before && self.read == FIRST_BYTES {
                    self.moved();
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
            Poll::Ready(written) => {
                self.moved();
                Poll::Ready(written)
            }
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
            Poll::Ready(written) => {
                self.moved();
                Poll::Ready(written)
            }
            Poll::Pending => self.poll_over(context).map(Err),
        }
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }
}
