//! One link: a connection of an acquirer, from its first frame to its end.
//!
//! Owns the order of a link (frames in, answers out as they become durable, in any order: the STAN matches them), its bounds, sign-on, the
//! deadline of each message and the undoing of what was answered too late (ISO-5). Refuses to know where the bytes come from. Buffers that
//! had card data in them are wiped when they have been used.
//!
//! ```text
//!   reader: frame -> message -> ask --+--> answered at once ------------------> channel -> writer: late? -> frame
//!                      (one of so many in flight)                                  ^
//!                                     +--> task: engine, durable reply ------------+
//! ```

use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, watch};
use tp_actors::tp_core::command::{Command, Read, ReadTarget, Reverse};
use tp_actors::tp_core::outcome::Outcome;
use tp_actors::tp_core::reply::Reply;
use tp_iso8583::{FRAME_HEAD_BYTES, Message, Mti, frame_into, frame_length};
use zeroize::Zeroize as _;

use super::answer::{begun, filled, refused};
use super::ask::{Ask, Planned, Reader, Refused};
use super::codes::Code;
use super::listener::Edge;
use crate::control::now;
use tp_actors::tp_core::time::Time;

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

/// An answer on its way out.
struct Outgoing {
    answer: Box<Message>,
    began: Instant,
    /// What undoes it, should it be too late.
    undo: Option<Reverse>,
    /// Its place among those in flight.
    _place: OwnedSemaphorePermit,
}

/// How long a peer may leave answers untaken.
const TAKE_WITHIN: Duration = Duration::from_secs(30);
/// Bytes read at once.
const READ_BYTES: usize = 64 * 1024;
/// Bytes of answers written at once, about.
const WRITE_BYTES: usize = 64 * 1024;

/// Serves a link to its end.
pub(super) async fn serve<S>(edge: Arc<Edge>, stream: S, mut stop: watch::Receiver<bool>) -> Ended
where
    S: AsyncRead + AsyncWrite + Send + 'static,
{
    let (input, output) = tokio::io::split(stream);
    let in_flight = Arc::new(Semaphore::new(edge.listener.in_flight_max));
    let (answers, outgoing) = mpsc::channel(edge.listener.in_flight_max);
    let mut link = Link { edge: Arc::clone(&edge), in_flight, answers, is_signed_on: !edge.listener.sign_on };
    let mut writer = tokio::spawn(write(edge, output, outgoing));
    let ended = tokio::select! {
        ended = link.read(input, &mut stop) => ended,
        written = &mut writer => return written.unwrap_or(Ended::Stuck),
    };
    // What was taken is answered, also to a peer that has shut down its sending half.
    drop(link);
    let _ = writer.await; // it ends when every answer is out, or with the connection
    ended
}

struct Link {
    edge: Arc<Edge>,
    in_flight: Arc<Semaphore>,
    answers: mpsc::Sender<Outgoing>,
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
            buffer.0.copy_within(taken..filled, 0);
            let left = filled - taken;
            buffer.0[left..filled].zeroize();
            filled = left;
        }
    }

    /// Takes one message.
    async fn take(&mut self, body: &[u8], message: &mut Message) -> Result<(), Ended> {
        let began = Instant::now();
        // At the bound nothing more is read: the peer's window fills up.
        let Ok(place) = Arc::clone(&self.in_flight).acquire_owned().await else { return Err(Ended::Stopping) };
        let decoded = self.edge.listener.layout.decode(body, message);
        // Without a type and a bitmap there is nothing that could be answered.
        if let Err(error) = decoded
            && error.element < 2
        {
            return Err(Ended::NoMessage(error.to_string()));
        }
        let Some(mut answer) = begun(message) else {
            message.clear(Mti::NONE);
            return match decoded {
                // Answers to what was never asked, and notices: nobody waits for anything.
                Ok(()) => {
                    self.edge.stats.answer("", "");
                    Ok(())
                }
                Err(error) => Err(Ended::NoMessage(error.to_string())),
            };
        };
        let mti = message.mti();
        let ask = match decoded {
            Err(error) => {
                tracing::info!(listener = self.edge.listener.name, %mti, %error, "a message was answered 30");
                Ask::Refused(Refused { code: Code::FORMAT, reason: super::ask::Reason::Text("it cannot be read") })
            }
            Ok(()) if !self.is_signed_on && mti.class() != 8 => Ask::Refused(Refused {
                code: Code::INOPERATIVE,
                reason: super::ask::Reason::Text("the link has not signed on"),
            }),
            Ok(()) => {
                let edge = &*self.edge;
                Reader { listener: &edge.listener, vault: &edge.serving.vault, now: Time(now().0) }.ask(message)
            }
        };
        if let Ask::CutOver | Ask::Totals = ask {
            // Their elements are few and no card's.
            for element in (66..=89).chain([97]) {
                answer.echo(message, element);
            }
        }
        message.clear(Mti::NONE);
        let code = match ask {
            Ask::Refused(Refused { code, reason }) => {
                tracing::debug!(listener = self.edge.listener.name, %mti, code = code.0, %reason, "a message was refused");
                code
            }
            Ask::SignOn | Ask::SignOff => {
                self.is_signed_on = matches!(ask, Ask::SignOn) || !self.edge.listener.sign_on;
                Code::APPROVED
            }
            Ask::Echo => Code::APPROVED,
            ask => {
                let decided = Decided { edge: Arc::clone(&self.edge), answer, began };
                let answers = self.answers.clone();
                tokio::spawn(async move {
                    let (answer, undo) = decided.run(ask).await;
                    // The writer is gone with the connection: the peer repeats or reverses.
                    let _ = answers.send(Outgoing { answer, began, undo, _place: place }).await;
                });
                return Ok(());
            }
        };
        refused(&self.edge.listener.layout, &mut answer, code);
        self.edge.stats.answer(answer.mti().text(), code.0);
        let outgoing = Outgoing { answer, began, undo: None, _place: place };
        self.answers.send(outgoing).await.map_err(|_| Ended::Stuck)
    }
}

/// A message that the engine is asked about.
struct Decided {
    edge: Arc<Edge>,
    answer: Box<Message>,
    began: Instant,
}

impl Decided {
    async fn run(mut self, ask: Ask) -> (Box<Message>, Option<Reverse>) {
        let room = self.edge.serving.rooms.enter(self.edge.listener.tenant);
        if room.is_err() {
            return self.refused(Code::INOPERATIVE);
        }
        match ask {
            Ask::Command(planned) => {
                let Planned { command, ledger, undo } = *planned;
                let reply = self.call(command, ledger).await;
                self.replied(&reply, undo)
            }
            Ask::Completion(planned, lookup) => {
                let reply = self.complete(*planned, lookup).await;
                self.replied(&reply, None)
            }
            Ask::IfKnown(lookup, code) => {
                let reply = self.call(lookup.into(), None).await;
                if reply.repeated { self.replied(&reply, None) } else { self.refused(code) }
            }
            Ask::Balances(account) => {
                let read = Read { target: ReadTarget::Account(account) };
                let reply = self.call(read.into(), None).await;
                self.replied(&reply, None)
            }
            Ask::CutOver => {
                let code = self.edge.cut_over(&self.answer, self.left()).await;
                self.refused(code)
            }
            Ask::Totals => {
                let code = self.edge.totals(&mut self.answer, self.began + self.edge.listener.deadline).await;
                self.coded(code)
            }
            Ask::Refused(_) | Ask::SignOn | Ask::SignOff | Ask::Echo => self.refused(Code::MALFUNCTION),
        }
    }

    /// A posting that completes an authorization: its id is asked for first. The posting of a repeat whose original was not known the
    /// first time stays the one it was.
    async fn complete(&self, planned: Planned, lookup: tp_actors::tp_core::command::Lookup) -> Reply {
        let found = self.call(lookup.into(), None).await;
        let named = match planned.command.clone() {
            Command::Advise(mut advise) => {
                if let tp_actors::tp_core::command::Advice::Post { authorization, .. } = &mut advise.advice {
                    *authorization = found.authorization;
                }
                Command::Advise(advise)
            }
            other => other,
        };
        let reply = self.call(named, planned.ledger).await;
        if reply.outcome == Outcome::IdempotencyConflict && found.authorization.is_some() {
            return self.call(planned.command, planned.ledger).await;
        }
        reply
    }

    /// What is left of the deadline, ms.
    fn left(&self) -> u64 {
        let left = self.edge.listener.deadline.saturating_sub(self.began.elapsed());
        u64::try_from(left.as_millis()).unwrap_or(u64::MAX).max(1)
    }

    async fn call(&self, command: Command, ledger: Option<tp_actors::tp_core::amount::Ledger>) -> Reply {
        let verb = command.verb();
        let reply = self.edge.call(command, ledger, self.left()).await;
        self.edge.serving.count(verb, reply.outcome);
        reply
    }

    fn replied(mut self, reply: &Reply, undo: Option<Reverse>) -> (Box<Message>, Option<Reverse>) {
        if reply.outcome == Outcome::InProgress {
            // It may be approved yet: whoever asked is told that it is not, so it must not be.
            return match undo {
                Some(undo) => {
                    self.edge.undo(undo);
                    self.refused(Code::LATE)
                }
                None => self.refused(Code::of(reply)),
            };
        }
        let code = filled(&self.edge.listener.layout, &mut self.answer, reply);
        self.edge.stats.answer(self.answer.mti().text(), code.0);
        (self.answer, undo.filter(|_| reply.outcome.is_approval() && !reply.repeated))
    }

    fn refused(mut self, code: Code) -> (Box<Message>, Option<Reverse>) {
        refused(&self.edge.listener.layout, &mut self.answer, code);
        self.coded(code)
    }

    fn coded(mut self, code: Code) -> (Box<Message>, Option<Reverse>) {
        super::answer::put(&self.edge.listener.layout, &mut self.answer, 39, code.0);
        self.edge.stats.answer(self.answer.mti().text(), code.0);
        (self.answer, None)
    }
}

/// Writes answers as they come, many at once when many are there.
async fn write(edge: Arc<Edge>, mut output: impl AsyncWrite + Unpin, mut outgoing: mpsc::Receiver<Outgoing>) -> Ended {
    let mut frames = Wiped(Vec::with_capacity(WRITE_BYTES));
    while let Some(first) = outgoing.recv().await {
        let mut next = Some(first);
        while let Some(one) = next {
            put(&edge, one, &mut frames.0);
            next = if frames.0.len() < WRITE_BYTES { outgoing.try_recv().ok() } else { None };
        }
        let written = tokio::time::timeout(TAKE_WITHIN, output.write_all(&frames.0)).await;
        frames.0.zeroize();
        match written {
            Err(_) => return Ended::Stuck,
            Ok(Err(error)) => return Ended::Broken(error.kind()),
            Ok(Ok(())) => {}
        }
    }
    let _ = output.shutdown().await; // the peer may be gone
    Ended::Peer
}

/// Puts one answer's frame in; one that is late says so, and what it had approved is undone.
fn put(edge: &Arc<Edge>, outgoing: Outgoing, frames: &mut Vec<u8>) {
    let Outgoing { mut answer, began, undo, _place } = outgoing;
    if let Some(undo) = undo.filter(|_| began.elapsed() > edge.listener.deadline) {
        edge.undo(undo);
        refused(&edge.listener.layout, &mut answer, Code::LATE);
    }
    let layout = &edge.listener.layout;
    if let Err(error) = frame_into(frames, |out| layout.encode(&answer, out)) {
        // What came by the layout goes by the layout: a bug.
        edge.stats.answer("", "");
        tracing::error!(listener = edge.listener.name, %error, "an answer does not fit the layout");
    }
}

/// A buffer that had card data in it.
struct Wiped(Vec<u8>);

impl Drop for Wiped {
    fn drop(&mut self) {
        self.0.zeroize();
    }
}
