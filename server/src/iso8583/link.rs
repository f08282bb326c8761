//! One link: a connection of an acquirer, from its first frame to its end.
//!
//! Owns the order of a link (frames in, answers out as they become durable, in any order: the STAN matches them), its bounds, sign-on, and
//! the undoing of what would be answered too late (ISO-5). Refuses to know where the bytes come from. Buffers that had card data in
//! them are wiped when they have been used.
//!
//! ```text
//!   reader: frame -> message -> ask --+--> answered at once ----------+
//!                      (one of so    +--> with the engine (InFlight) -+--> channel, a read's messages at once --> writer:
//!                       many)        +--> task: several questions ----+       waits for what is with the engine, late? -> frames
//! ```

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use futures_util::FutureExt as _;
use futures_util::stream::{FuturesUnordered, StreamExt as _};
use parking_lot::Mutex;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::sync::{Semaphore, mpsc, watch};
use tp_actors::tp_core::command::Reverse;
use tp_actors::tp_core::reply::Reply;
use tp_actors::tp_core::time::Time;
use tp_iso8583::{FRAME_HEAD_BYTES, MESSAGE_BYTES_MAX, Message, Mti, frame_into, frame_length};
use zeroize::Zeroize as _;

use super::answer::{begin, refused};
use super::ask::{Ask, Reader, Reason, Refused};
use super::codes::Code;
use super::flight::{Flight, Held, InFlight, Outgoing};
use super::listener::Edge;
use crate::control::now;

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

/// What the reader hands to the writer.
enum Item {
    /// An answer.
    Answer(Outgoing),
    /// A command that is with the engine.
    InFlight(Box<InFlight>),
}

/// Answers that are done with, for those to come.
#[derive(Default)]
#[allow(clippy::vec_box, reason = "they are moved from task to task: by a pointer, not by a kilobyte")]
struct Pool(Mutex<Vec<Box<Message>>>);

impl Pool {
    fn take(&self) -> Box<Message> {
        self.0.lock().pop().unwrap_or_else(|| Box::new(Message::new(Mti::NONE)))
    }

    fn give(&self, mut message: Box<Message>) {
        message.clear(Mti::NONE);
        let mut kept = self.0.lock();
        if kept.len() < POOLED {
            kept.push(message);
        }
    }
}

/// How long a peer may leave answers untaken.
const TAKE_WITHIN: Duration = Duration::from_secs(30);
/// Bytes read at once: a whole frame fits.
const READ_BYTES: usize = FRAME_HEAD_BYTES + MESSAGE_BYTES_MAX;
/// Bytes of answers written at once, about.
const WRITE_BYTES: usize = 64 * 1024;
/// Messages kept by a link.
const POOLED: usize = 256;

/// Serves a link to its end.
pub(super) async fn serve<S>(edge: Arc<Edge>, stream: S, mut stop: watch::Receiver<bool>) -> Ended
where
    S: AsyncRead + AsyncWrite + Send + 'static,
{
    let (input, output) = tokio::io::split(stream);
    let in_flight = Arc::new(Semaphore::new(edge.listener.in_flight_max));
    let (items, waiting) = mpsc::channel(edge.listener.in_flight_max);
    let (late, pool, is_signed_on) = (items.downgrade(), Arc::<Pool>::default(), !edge.listener.sign_on);
    let writer = Writer {
        edge: Arc::clone(&edge),
        late,
        pool: Arc::clone(&pool),
        flights: FuturesUnordered::new(),
        held: Vec::new(),
    };
    let mut writer = tokio::spawn(writer.run(output, waiting));
    let mut link = Link { edge, in_flight, items, batch: Vec::new(), pool, is_signed_on };
    let ended = tokio::select! {
        ended = link.read(input, &mut stop) => ended,
        written = &mut writer => return written.unwrap_or(Ended::Stuck),
    };
    // What was taken is answered, also to a peer that has shut down its sending half: every message that is not answered yet has a place.
    let _ = link.hand_over().await;
    let all = u32::try_from(link.edge.listener.in_flight_max).unwrap_or(u32::MAX);
    let places = Arc::clone(&link.in_flight);
    tokio::select! {
        _ = places.acquire_many(all) => {}
        _ = &mut writer => return ended,
    }
    drop(link);
    let _ = writer.await; // it ends with the connection at the latest
    ended
}

struct Link {
    edge: Arc<Edge>,
    in_flight: Arc<Semaphore>,
    items: mpsc::Sender<Vec<Item>>,
    /// What was read and not handed over yet.
    batch: Vec<Item>,
    pool: Arc<Pool>,
    is_signed_on: bool,
}

impl Link {
    async fn read(&mut self, mut input: impl AsyncRead + Unpin, stop: &mut watch::Receiver<bool>) -> Ended {
        let mut buffer = Wiped(vec![0; READ_BYTES]);
        let (mut filled, mut message) = (0, Message::new(Mti::NONE));
        loop {
            let read = tokio::select! {
                read = tokio::time::timeout(self.edge.listener.idle, input.read(&mut buffer.0[filled..])) => read,
                _ = stop.wait_for(|is_stopping| *is_stopping) => return Ended::Stopping,
            };
            match read {
                Err(_) => return Ended::Idle,
                Ok(Ok(0)) => return Ended::Peer,
                Ok(Err(error)) => return Ended::Broken(error.kind()),
                Ok(Ok(count)) => filled += count,
            }
            let mut taken = 0;
            while let Some((head, rest)) = buffer.0[taken..filled].split_first_chunk::<FRAME_HEAD_BYTES>() {
                let length = frame_length(*head);
                if length > self.edge.listener.message_bytes_max {
                    return Ended::TooLong(length);
                }
                let Some(body) = rest.get(..length) else { break };
                taken += FRAME_HEAD_BYTES + length;
                // An empty frame says that the peer is there.
                if length > 0
                    && let Err(ended) = self.take(body, &mut message).await
                {
                    return ended;
                }
            }
            if let Err(ended) = self.hand_over().await {
                return ended;
            }
            buffer.0.copy_within(taken..filled, 0);
            let left = filled - taken;
            buffer.0[left..filled].zeroize();
            filled = left;
        }
    }

    /// Gives the writer what was read.
    async fn hand_over(&mut self) -> Result<(), Ended> {
        if self.batch.is_empty() {
            return Ok(());
        }
        self.items.send(std::mem::take(&mut self.batch)).await.map_err(|_| Ended::Stuck)
    }

    /// A place among those in flight. At the bound nothing more is read: the peer's window fills up.
    async fn place(&mut self) -> Result<Held, Ended> {
        let place = if let Ok(place) = Arc::clone(&self.in_flight).try_acquire_owned() {
            place
        } else {
            // The places come back from what the writer has.
            self.hand_over().await?;
            Arc::clone(&self.in_flight).acquire_owned().await.map_err(|_| Ended::Stopping)?
        };
        Ok(Held { _place: place, key: None, room: None, _busy: self.edge.busy() })
    }

    /// Takes one message.
    async fn take(&mut self, body: &[u8], message: &mut Message) -> Result<(), Ended> {
        let began = Instant::now();
        let held = self.place().await?;
        let decoded = self.edge.listener.layout.decode(body, message);
        // Without a type and a bitmap there is nothing that could be answered.
        if let Err(error) = decoded
            && error.element < 2
        {
            return Err(Ended::NoMessage(error.to_string()));
        }
        let mut answer = self.pool.take();
        if !begin(message, &mut answer) {
            message.clear(Mti::NONE);
            // Answers to what was never asked, and notices: nobody waits for anything.
            self.edge.stats.answer("", "");
            return decoded.map_err(|error| Ended::NoMessage(error.to_string()));
        }
        let mti = message.mti();
        let ask = match decoded {
            Err(error) => {
                tracing::info!(listener = self.edge.listener.name, %mti, %error, "a message was answered 30");
                Ask::Refused(Refused { code: Code::FORMAT, reason: Reason::Text("it cannot be read") })
            }
            Ok(()) if !self.is_signed_on && (mti.class() != 8 || message.number(70) == Some(201)) => {
                Ask::Refused(Refused { code: Code::INOPERATIVE, reason: Reason::Text("the link has not signed on") })
            }
            Ok(()) => self.ask(message),
        };
        if let Ask::CutOver | Ask::Totals = ask {
            // Their elements are few and no card's.
            for element in (66..=89).chain([97]) {
                answer.echo(message, element);
            }
        }
        message.clear(Mti::NONE);
        let (edge, seq_before) = (Arc::clone(&self.edge), self.edge.serving.engine.last_seq());
        let flight = Flight { edge, answer, began, is_repeat: mti.is_repeat(), seq_before, held };
        self.begin(flight, ask);
        Ok(())
    }

    fn ask(&self, message: &Message) -> Ask {
        let edge = &*self.edge;
        let windows = edge.serving.engine.windows();
        let remembered_ms = windows.key_opaque_ms.unwrap_or(u64::MAX).max(windows.refund_ms);
        let (listener, vault) = (&*edge.listener, &*edge.serving.vault);
        Reader { listener, vault, now: Time(now().0), remembered_ms }.ask(message)
    }

    /// Answers a message, hands it to the engine, or has it asked about by a task.
    fn begin(&mut self, mut flight: Flight, ask: Ask) {
        let code = match ask {
            Ask::Refused(Refused { code, reason }) => {
                let mti = flight.answer.mti();
                tracing::debug!(listener = self.edge.listener.name, answer = %mti, code = code.0, %reason, "a message was refused");
                code
            }
            Ask::SignOn | Ask::SignOff => {
                self.is_signed_on = matches!(ask, Ask::SignOn) || !self.edge.listener.sign_on;
                Code::APPROVED
            }
            Ask::Echo => Code::APPROVED,
            ask => {
                if !flight.enter() {
                    return match flight.turned_away() {
                        Some(outgoing) => self.batch.push(Item::Answer(outgoing)),
                        None => self.edge.stats.answer("", ""),
                    };
                }
                return self.begin_asking(flight, ask);
            }
        };
        self.batch.push(Item::Answer(flight.coded(code)));
    }

    fn begin_asking(&mut self, mut flight: Flight, ask: Ask) {
        let take = |key| self.edge.keys.try_take((self.edge.listener.tenant, key));
        if let Ask::Command(planned) = ask {
            let needs_key = planned.undo.is_some();
            if needs_key {
                flight.held.key = take(planned.key);
            }
            if planned.is_plain() && (!needs_key || flight.held.key.is_some()) {
                return self.batch.push(Item::InFlight(Box::new(flight.submit(planned))));
            }
            return self.spawn(flight, Ask::Command(planned));
        }
        if let Ask::IfKnown(_, key, _) = &ask {
            flight.held.key = take(*key);
        }
        self.spawn(flight, ask);
    }

    fn spawn(&self, flight: Flight, ask: Ask) {
        let items = self.items.clone();
        tokio::spawn(async move {
            let stats = Arc::clone(&flight.edge.stats);
            match flight.run(ask).await {
                // The writer is gone with the connection: the peer repeats or reverses.
                Some(outgoing) => _ = items.send(vec![Item::Answer(outgoing)]).await,
                // The peer's time-out says the right thing: it repeats or reverses.
                None => stats.answer("", ""),
            }
        });
    }
}

/// A command that is with the engine: its reply, and all that is needed for its answer.
struct Waiting(Option<Box<InFlight>>);

impl Future for Waiting {
    type Output = (Reply, Box<InFlight>);

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let Some(mut in_flight) = self.0.take() else { return Poll::Pending };
        match Pin::new(&mut in_flight.pending).poll(context) {
            Poll::Ready(reply) => Poll::Ready((reply, in_flight)),
            Poll::Pending => {
                self.0 = Some(in_flight);
                Poll::Pending
            }
        }
    }
}

/// Waits for what is with the engine, and writes answers as they come, many at once when many are there.
struct Writer {
    edge: Arc<Edge>,
    /// The way for what takes longer. It does not keep the link open.
    late: mpsc::WeakSender<Vec<Item>>,
    pool: Arc<Pool>,
    flights: FuturesUnordered<Waiting>,
    /// Answers that are being written, until they are.
    held: Vec<Held>,
}

impl Writer {
    async fn run(mut self, mut output: impl AsyncWrite + Unpin, mut waiting: mpsc::Receiver<Vec<Item>>) -> Ended {
        let mut frames = Wiped(Vec::with_capacity(WRITE_BYTES + READ_BYTES));
        let mut is_open = true;
        while is_open || !self.flights.is_empty() {
            tokio::select! {
                Some(replied) = self.flights.next(), if !self.flights.is_empty() => self.answer(replied, &mut frames),
                items = waiting.recv(), if is_open => match items {
                    Some(items) => self.accept(items, &mut frames),
                    None => is_open = false,
                },
            }
            // What else is there goes along.
            while frames.0.len() < WRITE_BYTES {
                if let Some(Some(replied)) = self.flights.next().now_or_never() {
                    self.answer(replied, &mut frames);
                } else if let Ok(items) = waiting.try_recv() {
                    self.accept(items, &mut frames);
                } else {
                    break;
                }
            }
            if frames.0.is_empty() {
                continue;
            }
            // TLS keeps what the socket did not take: only what was flushed is out.
            let write = async {
                output.write_all(&frames.0).await?;
                output.flush().await
            };
            let written = tokio::time::timeout(TAKE_WITHIN, write).await;
            frames.clear();
            self.held.clear();
            match written {
                Err(_) => return Ended::Stuck,
                Ok(Err(error)) => return Ended::Broken(error.kind()),
                Ok(Ok(())) => {}
            }
        }
        let _ = tokio::time::timeout(TAKE_WITHIN, output.shutdown()).await; // the peer may be gone
        Ended::Peer
    }

    fn accept(&mut self, items: Vec<Item>, frames: &mut Wiped) {
        for item in items {
            match item {
                Item::Answer(outgoing) => self.put(outgoing, frames),
                Item::InFlight(in_flight) => self.flights.push(Waiting(Some(in_flight))),
            }
        }
    }

    /// The engine has replied.
    fn answer(&mut self, (reply, in_flight): (Reply, Box<InFlight>), frames: &mut Wiped) {
        let InFlight { flight, planned, .. } = *in_flight;
        flight.count(planned.command.verb(), &reply);
        if reply.outcome.leaves_at_once() {
            // It may have to be undone first.
            let (late, stats) = (self.late.clone(), Arc::clone(&self.edge.stats));
            tokio::spawn(async move {
                match (flight.decided(&reply, planned).await, late.upgrade()) {
                    (Some(outgoing), Some(items)) => _ = items.send(vec![Item::Answer(outgoing)]).await,
                    _ => stats.answer("", ""),
                }
            });
            return;
        }
        self.put(flight.replied(&reply, Some(planned)), frames);
    }

    /// Puts one answer's frame in. One that is late comes again as a refusal when what it approved is undone.
    fn put(&mut self, outgoing: Outgoing, frames: &mut Wiped) {
        let Outgoing { answer, began, approved, held } = outgoing;
        let layout = &self.edge.listener.layout;
        if began.elapsed() <= self.edge.listener.deadline || approved.is_none() {
            frames.make_room();
            match frame_into(&mut frames.0, |out| layout.encode(&answer, out)) {
                Ok(()) => {
                    self.edge.stats.answer(answer.mti().text(), answer.text(39).unwrap_or_default());
                    self.held.push(held);
                    return self.pool.give(answer);
                }
                // What came by the layout goes by the layout, and what is put in was tested when it was read: a bug.
                Err(error) => {
                    tracing::error!(listener = self.edge.listener.name, %error, "an answer does not fit the layout");
                }
            }
        }
        if let Some(undo) = approved.and_then(|planned| planned.reverse()) {
            self.undo(Outgoing { answer, began, approved: None, held }, undo);
        }
    }

    fn undo(&self, mut outgoing: Outgoing, undo: Reverse) {
        let (edge, late) = (Arc::clone(&self.edge), self.late.clone());
        tokio::spawn(async move {
            if edge.undo(undo).await
                && let Some(items) = late.upgrade()
            {
                refused(&edge.listener.layout, &mut outgoing.answer, Code::LATE);
                let _ = items.send(vec![Item::Answer(outgoing)]).await; // the connection may be gone: the peer reverses
            }
        });
    }
}

/// A buffer that had card data in it.
struct Wiped(Vec<u8>);

impl Wiped {
    /// Room for a frame. What is outgrown is wiped.
    fn make_room(&mut self) {
        if self.0.capacity() - self.0.len() < READ_BYTES {
            let mut larger = Vec::with_capacity(2 * self.0.capacity() + READ_BYTES);
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
