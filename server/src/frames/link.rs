//! One link: the greeting, then commands in and replies out until one side ends.
//!
//! Owns the two buffers, the bounds (above them nothing more is read: the peer's window fills up), and the end: what was taken is answered,
//! then GOODBYE says why. One task, no channel: replies of one commit go out in one write. Refuses to know what a command does.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant};

use futures_util::stream::{FuturesUnordered, Stream as _};
use http::request::Parts;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _, ReadBuf};
use tokio::time::Interval;
use tp_protocol::frames::{Command, FRAME_BYTES_MAX, Frame, Reply, VERSION, goodbye, reason, welcome};
use zerocopy::IntoBytes as _;
use zeroize::{Zeroize as _, Zeroizing};

use super::convert::{asked, deadline_ms, members, refusal, reply, verb_of};
use crate::api::batch::{Begun, Done, Sent, ask, begun, check_role};
use crate::api::problem::{Problem, Refusal};
use crate::api::request::Caller;
use crate::app::{App, Serving};
use crate::gate::{Connection, Place, Room};
use crate::in_flight::{IN_FLIGHT_MAX, InFlight};
use crate::net::links::LinkPlace;
use crate::settings::Settings;

/// What is read at once, bytes; a whole frame fits.
const READ_BYTES: usize = 64 * 1024;
/// So many bytes of replies wait to be taken, and nothing more is read.
const OUT_BYTES: usize = 256 * 1024;
/// Turns before another link has one.
const TURNS: usize = 8;
/// How often it is looked whether the key is still worth something, and whether anything comes.
const LOOK_EVERY: Duration = Duration::from_millis(500);

/// How long a peer that was told goodbye may take to close.
const LINGER: Duration = Duration::from_secs(1);

const _: () = assert!(READ_BYTES > FRAME_BYTES_MAX);

/// How long what may take.
pub(super) struct Waits {
    pub(super) tls: Duration,
    greeting: Duration,
    idle: Duration,
    answer: Duration,
}

impl Waits {
    pub(super) fn of(settings: &Settings) -> Self {
        let (tls, greeting) = (settings.tls_ms.ms(), settings.first_byte_ms.ms());
        Self { tls, greeting, idle: settings.idle_ms.ms(), answer: settings.answer_ms.ms() }
    }
}

/// Why a link ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub(super) enum Ended {
    #[error("the peer closed it")]
    Peer,
    #[error("nothing came for too long")]
    Idle,
    #[error("the peer does not take its replies")]
    Stuck,
    #[error("no frame that is allowed there")]
    Frame,
    #[error("another version")]
    Version,
    #[error("it is not known who is calling")]
    Unauthenticated,
    #[error("too many failed proofs from its address")]
    RateLimited,
    #[error("recovering")]
    Recovering,
    #[error("the server stops")]
    Stopping,
    #[error("{0}")]
    Broken(std::io::ErrorKind),
}

impl Ended {
    /// What the peer is told, if it can be told anything.
    const fn reason(self) -> Option<u8> {
        Some(match self {
            Self::Idle => reason::IDLE,
            Self::Frame => reason::FRAME,
            Self::Version => reason::VERSION,
            Self::Unauthenticated => reason::UNAUTHENTICATED,
            Self::RateLimited => reason::RATE_LIMITED,
            Self::Recovering => reason::RECOVERING,
            Self::Stopping => reason::STOPPING,
            Self::Peer | Self::Stuck | Self::Broken(_) => return None,
        })
    }
}

/// Serves a link to its end.
pub(super) async fn serve<S>(
    app: &App,
    mut stream: S,
    (connection, place): (&Connection, &LinkPlace),
    waits: &Waits,
) -> Ended
where
    S: AsyncRead + AsyncWrite + Unpin + Send,
{
    let mut stopped = app.stopped.clone();
    // What comes may be a secret, or what nobody should have sent.
    let mut input = Zeroizing::new(vec![0; READ_BYTES]);
    let greeted = tokio::select! {
        greeted = tokio::time::timeout(waits.greeting, greet(app, &mut stream, connection, &mut input)) => greeted,
        _ = stopped.wait_for(|is_stopping| *is_stopping) => Ok(Err(Ended::Stopping)),
    };
    let greeted = greeted.unwrap_or(Err(Ended::Idle));
    let is_believed = greeted.is_ok();
    let ended = match greeted {
        Ok((serving, caller, filled)) => {
            place.greeted();
            let stopped = async move {
                let _ = stopped.wait_for(|is_stopping| *is_stopping).await; // the sender is gone: it stops
            };
            let mut out = Vec::with_capacity(OUT_BYTES / 4);
            welcome(&mut out, caller.tenant.get(), u32::try_from(IN_FLIGHT_MAX).unwrap_or(u32::MAX));
            Link {
                stream: &mut stream,
                in_flight: InFlight::new(&serving),
                room: serving.rooms.room(caller.tenant),
                serving,
                caller,
                input: Input { bytes: input, taken: 0, filled },
                out: Out { bytes: out, ..Out::default() },
                asking: None,
                others: FuturesUnordered::new(),
                ended: None,
                heard: Instant::now(),
                look: tokio::time::interval(LOOK_EVERY),
                stopped: Box::pin(stopped),
                waits,
            }
            .await
        }
        Err(ended) => ended,
    };
    let (mut last, mut last_input) = (Vec::new(), [0; 4096]);
    if let Some(reason) = ended.reason() {
        goodbye(&mut last, reason);
    }
    let said = async {
        stream.write_all(&last).await?;
        stream.shutdown().await?;
        // What is closed with bytes unread is reset, and the peer may lose its last replies: until it has closed too.
        while is_believed && stream.read(&mut last_input).await? > 0 {}
        Ok::<_, std::io::Error>(())
    };
    if !matches!(ended, Ended::Stuck | Ended::Broken(_)) {
        let _ = tokio::time::timeout(LINGER, said).await; // the peer may be gone
    }
    ended
}

/// Who calls, and how much of the input is filled behind the greeting.
async fn greet<S>(
    app: &App,
    stream: &mut S,
    connection: &Connection,
    input: &mut [u8],
) -> Result<(Arc<Serving>, Caller, usize), Ended>
where
    S: AsyncRead + Unpin,
{
    let mut filled = 0;
    let (parts, taken) = loop {
        match Frame::read(&input[..filled]).map_err(|_| Ended::Frame)? {
            Some((Frame::Hello(VERSION, credential), total)) => break (parts_of(credential)?, total),
            Some((Frame::Hello(..), _)) => return Err(Ended::Version),
            Some(_) => return Err(Ended::Frame),
            // Before anybody is known no other frame is waited for.
            None if filled > 4 && input[4] != tp_protocol::frames::kind::HELLO => return Err(Ended::Frame),
            None => {}
        }
        match stream.read(&mut input[filled..]).await {
            Ok(0) => return Err(Ended::Peer),
            Ok(read) => filled += read,
            Err(error) => return Err(Ended::Broken(error.kind())),
        }
    };
    let serving = app.serving.get().ok_or(Ended::Recovering)?;
    let known = app.identify(serving, connection, &parts);
    input[..taken].zeroize();
    input.copy_within(taken..filled, 0);
    match known {
        Ok(known) => Ok((Arc::clone(serving), known.caller, filled - taken)),
        Err(problem) if problem.name == Refusal::RateLimited.name() => Err(Ended::RateLimited),
        Err(_) => Err(Ended::Unauthenticated),
    }
}

/// A credential as the head of a request has it.
fn parts_of(credential: &[u8]) -> Result<Parts, Ended> {
    let mut request = http::Request::new(());
    if !credential.is_empty() {
        let value = http::HeaderValue::from_bytes(&[b"Bearer ", credential].concat());
        let mut value = value.map_err(|_| Ended::Unauthenticated)?;
        value.set_sensitive(true);
        request.headers_mut().insert(http::header::AUTHORIZATION, value);
    }
    Ok(request.into_parts().0)
}

/// Bytes that came.
struct Input {
    bytes: Zeroizing<Vec<u8>>,
    taken: usize,
    filled: usize,
}

/// Bytes that go.
#[derive(Default)]
struct Out {
    bytes: Vec<u8>,
    /// Of `bytes`.
    written: usize,
    /// TLS keeps what the socket did not take: only what was flushed is out.
    is_flushed: bool,
    /// Ever written.
    total: u64,
    /// What was ready at a time: it has so long to be taken, whatever comes behind it.
    mark: Option<(u64, Instant)>,
}

/// A command that was handed over: its tag, its place, and what is waited for.
type HandedOver = (u64, Place, Sent);
/// A command's tag, and what comes of it.
type Answering = Pin<Box<dyn Future<Output = (u64, Done)> + Send>>;

/// A link that was greeted.
struct Link<'a, S> {
    stream: &'a mut S,
    serving: Arc<Serving>,
    room: Arc<Room>,
    caller: Caller,
    input: Input,
    out: Out,
    in_flight: InFlight,
    /// Somebody has a say in a command: nothing behind it is read until it is recorded.
    asking: Option<Pin<Box<dyn Future<Output = HandedOver> + Send>>>,
    /// What others than the engine answer, or had a say in.
    others: FuturesUnordered<Answering>,
    /// Nothing more is read, and why.
    ended: Option<Ended>,
    /// When something came last.
    heard: Instant,
    look: Interval,
    stopped: Pin<Box<dyn Future<Output = ()> + Send>>,
    waits: &'a Waits,
}

impl<S: AsyncRead + AsyncWrite + Unpin + Send> Future for Link<'_, S> {
    type Output = Ended;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Ended> {
        let this = &mut *self;
        if this.ended.is_none() && this.stopped.as_mut().poll(context).is_ready() {
            this.ended = Some(Ended::Stopping);
        }
        while this.look.poll_tick(context).is_ready() {
            if let Some(ended) = this.looked() {
                return Poll::Ready(ended);
            }
        }
        for _ in 0..TURNS {
            let mut is_moving = this.reply(context);
            match this.write(context) {
                Poll::Ready(Ok(wrote)) => is_moving |= wrote,
                Poll::Ready(Err(error)) => return Poll::Ready(Ended::Broken(error.kind())),
                Poll::Pending => {}
            }
            is_moving |= this.take(context);
            match this.read(context) {
                Poll::Ready(Ok(())) => is_moving = true,
                Poll::Ready(Err(ended)) => this.ended = Some(ended),
                Poll::Pending => {}
            }
            if let Some(ended) = this.ended
                && this.is_answered()
            {
                return Poll::Ready(ended);
            }
            // Replies wake the task: when some are there already, it goes on.
            if !is_moving && (this.in_flight.is_empty() || this.in_flight.poll_ready(context).is_pending()) {
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
        if self.out.is_stuck(self.waits.answer) {
            return Some(Ended::Stuck);
        }
        self.check_caller();
        self.in_flight.shrink();
        let is_out = self.out.is_out();
        let is_idle = self.in_flight.is_empty() && self.others.is_empty() && self.asking.is_none() && is_out;
        if self.ended.is_none() && is_idle && self.heard.elapsed() > self.waits.idle {
            self.ended = Some(Ended::Idle);
        }
        None
    }

    /// Whether who calls is still known: looked at before commands are handed over, too.
    fn check_caller(&mut self) {
        if self.ended.is_none() && !self.serving.is_live(&self.caller) {
            self.ended = Some(Ended::Unauthenticated);
        }
    }

    /// Whether everything that was taken is answered and out.
    fn is_answered(&self) -> bool {
        let waits_for_others = self.asking.is_some() || !self.others.is_empty();
        self.in_flight.is_empty() && !waits_for_others && self.out.is_out()
    }

    /// Whether there is room for one command more and its reply.
    fn has_room(&self) -> bool {
        self.asking.is_none()
            && !self.in_flight.is_full()
            && self.others.len() < IN_FLIGHT_MAX
            && self.out.bytes.len() - self.out.written < OUT_BYTES
    }

    /// Puts the replies that are there into the way out.
    fn reply(&mut self, context: &mut Context<'_>) -> bool {
        let Self { in_flight, out, .. } = self;
        let mut replies = in_flight.poll(|tag, done| out.put(&reply(tag, done)));
        replies += usize::from(self.ask(context));
        while let Poll::Ready(Some((tag, done))) = Pin::new(&mut self.others).poll_next(context) {
            self.out.put(&reply(tag, done));
            replies += 1;
        }
        replies > 0
    }

    /// Whether those who have a say in a command have had it.
    fn ask(&mut self, context: &mut Context<'_>) -> bool {
        let Some(asking) = &mut self.asking else { return false };
        let Poll::Ready((tag, place, sent)) = asking.as_mut().poll(context) else { return false };
        self.asking = None;
        let serving = Arc::clone(&self.serving);
        self.others.push(Box::pin(async move {
            let _until_answered = place;
            (tag, sent.end(&serving).await)
        }));
        true
    }

    /// Writes what can be without waiting. Whether anything went.
    fn write(&mut self, context: &mut Context<'_>) -> Poll<std::io::Result<bool>> {
        let mut wrote = false;
        while self.out.written < self.out.bytes.len() {
            let bytes = &self.out.bytes[self.out.written..];
            let count = ready!(Pin::new(&mut *self.stream).poll_write(context, bytes))?;
            if count == 0 {
                return Poll::Ready(Err(std::io::ErrorKind::WriteZero.into()));
            }
            self.out.took(count);
            wrote = true;
        }
        if !self.out.is_flushed {
            ready!(Pin::new(&mut *self.stream).poll_flush(context))?;
            self.out.is_flushed = true;
        }
        Poll::Ready(Ok(wrote))
    }

    /// Takes the commands that were read, as far as there is room. Whether there were any.
    fn take(&mut self, context: &mut Context<'_>) -> bool {
        let mut commands = 0;
        while self.ended.is_none() && self.has_room() {
            match Frame::read(&self.input.bytes[self.input.taken..self.input.filled]) {
                Ok(Some((Frame::Command(command), total))) => {
                    let command = *command;
                    if commands == 0 {
                        self.check_caller();
                        if self.ended.is_some() {
                            break;
                        }
                    }
                    self.input.taken += total;
                    self.command(&command);
                    commands += 1;
                    self.ask(context);
                }
                Ok(None) => break,
                Ok(Some(_)) | Err(_) => self.ended = Some(Ended::Frame),
            }
        }
        self.in_flight.flush();
        commands > 0
    }

    /// Reads once. Ready: something came.
    fn read(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Ended>> {
        if self.ended.is_some() || !self.has_room() {
            return Poll::Pending;
        }
        let Input { bytes, taken, filled } = &mut self.input;
        if *taken == *filled {
            (*taken, *filled) = (0, 0);
        } else if bytes.len() - *filled < FRAME_BYTES_MAX {
            bytes.copy_within(*taken..*filled, 0);
            (*filled, *taken) = (*filled - *taken, 0);
        }
        let mut buffer = ReadBuf::new(&mut bytes[*filled..]);
        match ready!(Pin::new(&mut *self.stream).poll_read(context, &mut buffer)) {
            Ok(()) if buffer.filled().is_empty() => Poll::Ready(Err(Ended::Peer)),
            Ok(()) => {
                *filled += buffer.filled().len();
                self.heard = Instant::now();
                Poll::Ready(Ok(()))
            }
            Err(error) => Poll::Ready(Err(Ended::Broken(error.kind()))),
        }
    }

    /// Hands a command to the engine, or to those who have a say in it first.
    fn command(&mut self, f: &Command) {
        if let Err(problem) = self.begin(f) {
            self.out.put(&refusal(f.tag.get(), &problem));
        }
    }

    fn begin(&mut self, f: &Command) -> Result<(), Problem> {
        let tag = f.tag.get();
        let place = self.serving.enter(&self.room)?;
        let (verb, fences) = verb_of(f)?;
        check_role(&self.serving, &self.caller, verb, fences)?;
        let ((verb, asked), deadline_ms) = (asked(f, self.caller.tenant)?, deadline_ms(f)?);
        match begun(&self.serving, &self.caller, verb, asked) {
            Begun::Free(verb, asked) => {
                let sent = self.in_flight.submit(&self.caller, (tag, place), (verb, &asked), deadline_ms);
                if let Err(done) = sent {
                    self.out.put(&reply(tag, done));
                }
            }
            Begun::Asks(asks) => {
                let (serving, caller, f) = (Arc::clone(&self.serving), self.caller.clone(), *f);
                self.asking = Some(Box::pin(async move {
                    let members = members(&f);
                    (tag, place, Box::pin(ask(&serving, &caller, *asks, (&members, deadline_ms))).await)
                }));
            }
        }
        Ok(())
    }
}

impl Out {
    fn put(&mut self, reply: &Reply) {
        self.bytes.extend_from_slice(reply.as_bytes());
        self.is_flushed = false;
    }

    /// The peer took some.
    fn took(&mut self, count: usize) {
        self.written += count;
        self.total += count as u64;
        if self.written == self.bytes.len() {
            self.bytes.clear();
            self.written = 0;
        } else if self.written >= OUT_BYTES / 4 {
            // A peer that is always a little behind: what it has taken is not kept.
            self.bytes.drain(..self.written);
            self.written = 0;
        }
    }

    /// Whether nothing waits to be taken.
    const fn is_out(&self) -> bool {
        self.bytes.is_empty() && self.is_flushed
    }

    /// Whether the peer has left something untaken for so long. A byte now and then is as late as none.
    fn is_stuck(&mut self, at_most: Duration) -> bool {
        if self.is_out() {
            self.mark = None;
            return false;
        }
        let ready = self.total + (self.bytes.len() - self.written) as u64;
        match self.mark {
            Some((marked, since)) if self.total < marked => since.elapsed() > at_most,
            _ => {
                self.mark = Some((ready, Instant::now()));
                false
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A peer that is always a reply behind: what it has taken was kept until it caught up.
    #[test]
    fn what_was_taken_is_not_kept_though_the_peer_never_catches_up() {
        let mut out = Out::default();
        let reply = Reply::new(1, 0, 200);
        out.put(&reply);
        for _ in 0..100_000 {
            out.put(&reply);
            out.took(size_of::<Reply>());
            assert!(out.bytes.len() <= OUT_BYTES, "{}", out.bytes.len());
        }
        assert_eq!(out.bytes.len() - out.written, size_of::<Reply>());
        out.took(size_of::<Reply>());
        assert!(out.bytes.is_empty() && out.written == 0 && !out.is_out(), "not flushed");
    }

    #[test]
    fn a_byte_now_and_then_is_as_late_as_none() {
        let mut out = Out::default();
        out.put(&Reply::new(1, 0, 200));
        let at_most = Duration::from_millis(20);
        assert!(!out.is_stuck(at_most));
        for _ in 0..3 {
            std::thread::sleep(Duration::from_millis(10));
            out.took(1);
        }
        assert!(out.is_stuck(at_most));
        // Who takes what was there is not late, though more came meanwhile.
        let mut out = Out::default();
        out.put(&Reply::new(1, 0, 200));
        for _ in 0..5 {
            assert!(!out.is_stuck(at_most));
            out.put(&Reply::new(1, 0, 200));
            std::thread::sleep(Duration::from_millis(30));
            out.took(size_of::<Reply>());
        }
    }
}
