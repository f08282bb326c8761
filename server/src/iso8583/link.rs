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
use tp_actors::tp_core::amount::Ledger;
use tp_actors::tp_core::command::{Advice, Command, Lookup, Read, ReadTarget, Reverse};
use tp_actors::tp_core::ids::AccountId;
use tp_actors::tp_core::key::Key;
use tp_actors::tp_core::outcome::Outcome;
use tp_actors::tp_core::reply::Reply;
use tp_iso8583::{FRAME_HEAD_BYTES, MESSAGE_BYTES_MAX, Message, Mti, frame_into, frame_length};
use zeroize::Zeroize as _;

use super::answer::{begun, filled, put, refused};
use super::ask::{Ask, Planned, Reader, Refused};
use super::codes::Code;
use super::key_locks::KeyGuard;
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
    held: Held,
}

/// What a message holds until it is answered.
struct Held {
    /// Its place among those in flight.
    _place: OwnedSemaphorePermit,
    /// Its key: a repeat waits for its answer.
    _key: Option<KeyGuard>,
}

/// How long a peer may leave answers untaken.
const TAKE_WITHIN: Duration = Duration::from_secs(30);
/// Bytes read at once: a whole frame fits.
const READ_BYTES: usize = FRAME_HEAD_BYTES + MESSAGE_BYTES_MAX;
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
    let late = answers.downgrade();
    let mut link = Link { edge: Arc::clone(&edge), in_flight, answers, is_signed_on: !edge.listener.sign_on };
    let mut writer = tokio::spawn(Writer { edge, late }.run(output, outgoing));
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
                let remembered_ms = edge.serving.engine.windows().key_opaque_ms.unwrap_or(u64::MAX);
                Reader { listener: &edge.listener, vault: &edge.serving.vault, now: Time(now().0), remembered_ms }
                    .ask(message)
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
                let key = match &ask {
                    Ask::Command(planned) if planned.undo.is_some() => self.edge.keys.try_take(planned.key),
                    _ => None,
                };
                let edge = Arc::clone(&self.edge);
                let decided = Decided { edge, answer, began, is_repeat: mti.is_repeat(), key };
                let answers = self.answers.clone();
                tokio::spawn(async move {
                    let stats = Arc::clone(&decided.edge.stats);
                    let Some(Answered { answer, undo, key }) = decided.run(ask).await else {
                        // The peer's time-out says the right thing: it repeats or reverses.
                        return stats.answer("", "");
                    };
                    let held = Held { _place: place, _key: key };
                    // The writer is gone with the connection: the peer repeats or reverses.
                    let _ = answers.send(Outgoing { answer, began, undo, held }).await;
                });
                return Ok(());
            }
        };
        refused(&self.edge.listener.layout, &mut answer, code);
        let held = Held { _place: place, _key: None };
        let outgoing = Outgoing { answer, began, undo: None, held };
        self.answers.send(outgoing).await.map_err(|_| Ended::Stuck)
    }
}

/// A message that the engine is asked about.
struct Decided {
    edge: Arc<Edge>,
    answer: Box<Message>,
    began: Instant,
    /// It may have been decided before: what says that nothing was done now does not say that nothing was done.
    is_repeat: bool,
    key: Option<KeyGuard>,
}

/// What a message is answered, and what undoes that.
struct Answered {
    answer: Box<Message>,
    undo: Option<Reverse>,
    key: Option<KeyGuard>,
}

impl Decided {
    /// `None`: nothing true can be said in time.
    async fn run(mut self, ask: Ask) -> Option<Answered> {
        let Ok(_room) = self.edge.serving.rooms.enter(self.edge.listener.tenant) else {
            return if self.is_repeat { None } else { Some(self.coded(Code::INOPERATIVE)) };
        };
        match ask {
            Ask::Command(planned) => {
                if planned.undo.is_some() && self.key.is_none() {
                    let (guard, has_waited) = self.edge.keys.take(planned.key, self.until()).await?;
                    self.key = Some(guard);
                    self.is_repeat |= has_waited;
                }
                match self.decide(*planned).await {
                    (reply, undo) if reply.outcome.leaves_at_once() => self.not_known(&reply, undo).await,
                    (reply, undo) => Some(self.replied(&reply, undo)),
                }
            }
            Ask::IfKnown(accounts, key, code) => {
                let reply = match self.first_known(accounts, key).await {
                    Ok(Some((_, reply))) => reply,
                    Ok(None) => return Some(self.coded(code)),
                    Err(_) => return None,
                };
                Some(self.replied(&reply, None))
            }
            Ask::Balances(account) => {
                let read = Read { target: ReadTarget::Account(account) };
                let reply = self.call(read.into(), None).await;
                Some(self.replied(&reply, None))
            }
            Ask::CutOver => {
                let code = self.edge.cut_over(&self.answer, self.left()).await;
                Some(self.coded(code))
            }
            Ask::Totals => {
                let until = self.until();
                let code = self.edge.totals(&mut self.answer, until).await;
                Some(self.coded(code))
            }
            Ask::Refused(_) | Ask::SignOn | Ask::SignOff | Ask::Echo => Some(self.coded(Code::MALFUNCTION)),
        }
    }

    /// The engine's reply to a command, after what has to be asked first.
    async fn decide(&self, planned: Planned) -> (Reply, Option<Reverse>) {
        let planned = if planned.owners.is_empty() {
            planned
        } else {
            // Where it was decided before, if it was; else where the authorization is that it completes.
            let accounts: Vec<AccountId> = planned.owner().into_iter().chain(planned.owners.iter().copied()).collect();
            let mut keys = std::iter::once(planned.key).chain(planned.completes);
            let mut owner = None;
            while let (None, Some(key)) = (owner, keys.next()) {
                match self.first_known(accounts.clone(), key).await {
                    Ok(found) => owner = found.map(|(account, _)| account),
                    Err(reply) => return (reply, planned.undo),
                }
            }
            match owner {
                Some(account) => planned.owned_by(account),
                None => planned,
            }
        };
        let reply = match (planned.completes, planned.owner()) {
            (Some(original), Some(account)) => self.complete(&planned, account, original).await,
            _ => self.call(planned.command.clone(), planned.ledger).await,
        };
        (reply, planned.undo)
    }

    /// The first of these accounts on which a key was decided, and what.
    ///
    /// # Errors
    /// A reply that does not say.
    async fn first_known(&self, accounts: Vec<AccountId>, key: Key) -> Result<Option<(AccountId, Reply)>, Reply> {
        for account in accounts {
            let reply = self.call(Lookup { account, key, fence: false }.into(), None).await;
            if reply.outcome.leaves_at_once() {
                return Err(reply);
            }
            if reply.repeated {
                return Ok(Some((account, reply)));
            }
        }
        Ok(None)
    }

    /// A posting that completes an authorization: its id is asked for first. The posting of a repeat whose original was not known the
    /// first time stays the one it was.
    async fn complete(&self, planned: &Planned, account: AccountId, original: Key) -> Reply {
        let found = self.call(Lookup { account, key: original, fence: false }.into(), None).await;
        if found.outcome.leaves_at_once() {
            return found;
        }
        let mut command = planned.command.clone();
        if let Command::Advise(advise) = &mut command
            && let Advice::Post { authorization, .. } = &mut advise.advice
        {
            *authorization = found.authorization;
        }
        let reply = self.call(command, planned.ledger).await;
        if reply.outcome == Outcome::IdempotencyConflict && found.authorization.is_some() {
            return self.call(planned.command.clone(), planned.ledger).await;
        }
        reply
    }

    fn until(&self) -> Instant {
        self.began + self.edge.listener.deadline
    }

    /// What is left of the deadline, ms.
    fn left(&self) -> u64 {
        let left = self.edge.listener.deadline.saturating_sub(self.began.elapsed());
        u64::try_from(left.as_millis()).unwrap_or(u64::MAX).max(1)
    }

    async fn call(&self, command: Command, ledger: Option<Ledger>) -> Reply {
        let verb = command.verb();
        let reply = self.edge.call(command, ledger, self.left()).await;
        self.edge.serving.count(verb, reply.outcome);
        reply
    }

    /// An outcome that says nothing of what was or will be decided.
    async fn not_known(self, reply: &Reply, undo: Option<Reverse>) -> Option<Answered> {
        match undo {
            // An advice: it comes again until it is accepted.
            None => Some(self.replied(reply, None)),
            // It may be approved yet. It is told that it is not, once that is so.
            Some(undo) if reply.outcome == Outcome::InProgress && !self.is_repeat => {
                let is_undone = self.edge.undo(undo).await;
                is_undone.then(|| self.coded(Code::LATE))
            }
            // The original may have been approved: only its own answer says.
            Some(_) if self.is_repeat => None,
            // Nothing was done.
            Some(_) => Some(self.coded(Code::of(reply))),
        }
    }

    fn replied(mut self, reply: &Reply, undo: Option<Reverse>) -> Answered {
        filled(&self.edge.listener.layout, &mut self.answer, reply);
        let undo = undo.filter(|_| reply.outcome.is_approval() && !reply.repeated);
        Answered { answer: self.answer, undo, key: self.key }
    }

    fn coded(mut self, code: Code) -> Answered {
        put(&self.edge.listener.layout, &mut self.answer, 39, code.0);
        Answered { answer: self.answer, undo: None, key: self.key }
    }
}

/// Writes answers as they come, many at once when many are there.
struct Writer {
    edge: Arc<Edge>,
    /// The way for what was late and is undone. It does not keep the link open.
    late: mpsc::WeakSender<Outgoing>,
}

impl Writer {
    async fn run(self, mut output: impl AsyncWrite + Unpin, mut outgoing: mpsc::Receiver<Outgoing>) -> Ended {
        // Never outgrown: the last answer that goes in is no longer than a frame.
        let mut frames = Wiped(Vec::with_capacity(WRITE_BYTES + READ_BYTES));
        while let Some(first) = outgoing.recv().await {
            let (mut next, mut held) = (Some(first), Vec::new());
            while let Some(one) = next {
                held.extend(self.put(one, &mut frames.0));
                next = if frames.0.len() < WRITE_BYTES { outgoing.try_recv().ok() } else { None };
            }
            let written = tokio::time::timeout(TAKE_WITHIN, output.write_all(&frames.0)).await;
            frames.0.zeroize();
            drop(held);
            match written {
                Err(_) => return Ended::Stuck,
                Ok(Err(error)) => return Ended::Broken(error.kind()),
                Ok(Ok(())) => {}
            }
        }
        let _ = output.shutdown().await; // the peer may be gone
        Ended::Peer
    }

    /// Puts one answer's frame in. One that is late comes again as a refusal when what it approved is undone.
    fn put(&self, outgoing: Outgoing, frames: &mut Vec<u8>) -> Option<Held> {
        let Outgoing { answer, began, undo, held } = outgoing;
        let layout = &self.edge.listener.layout;
        if began.elapsed() <= self.edge.listener.deadline || undo.is_none() {
            match frame_into(frames, |out| layout.encode(&answer, out)) {
                Ok(()) => {
                    self.edge.stats.answer(answer.mti().text(), answer.text(39).unwrap_or_default());
                    return Some(held);
                }
                // What came by the layout goes by the layout, and what is put in was tested when it was read: a bug.
                Err(error) => {
                    tracing::error!(listener = self.edge.listener.name, %error, "an answer does not fit the layout");
                }
            }
        }
        if let Some(undo) = undo {
            self.undo(Outgoing { answer, began, undo: None, held }, undo);
        }
        None
    }

    fn undo(&self, mut outgoing: Outgoing, undo: Reverse) {
        let (edge, late) = (Arc::clone(&self.edge), self.late.clone());
        tokio::spawn(async move {
            if edge.undo(undo).await
                && let Some(answers) = late.upgrade()
            {
                refused(&edge.listener.layout, &mut outgoing.answer, Code::LATE);
                let _ = answers.send(outgoing).await; // the connection may be gone: the peer reverses
            }
        });
    }
}

/// A buffer that had card data in it.
struct Wiped(Vec<u8>);

impl Drop for Wiped {
    fn drop(&mut self) {
        self.0.zeroize();
    }
}
