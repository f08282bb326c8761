//! What a link works with: messages, from their reading to the frames of their answers.
//!
//! Owns the order of a link's commands, sign-on, which messages go to the engine at once and which need more questions, and the undoing of
//! what would be answered too late (ISO-5). Answers go out as they become durable, in any order: the STAN matches them. Refuses to know
//! the connection.
//!
//! ```text
//!   message -> ask --+--> answered at once ------------------------------------+
//!                    +--> a plain command: with the engine (Rings) --> reply --+--> late? --> frame
//!                    +--> a task: several questions, undoing ------------------+
//! ```

use std::collections::VecDeque;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Instant;

use tokio::sync::mpsc;
use tp_actors::tp_core::command::Reverse;
use tp_actors::tp_core::outcome::Outcome;
use tp_actors::tp_core::reply::Reply;
use tp_actors::tp_core::time::Time;
use tp_iso8583::{Elements, Message, Mti, frame_into};

use super::answer::{begin, refused};
use super::ask::{Ask, Planned, Reader, Reason, Refused};
use super::codes::Code;
use super::flight::{Flight, Held, Outgoing};
use super::link::{Ended, Out};
use super::listener::Edge;
use crate::control::now;
use crate::net::count::Count;
use crate::rings::Rings;

/// Answers that are kept for messages to come, half a kilobyte each: as many as a link has under way by default.
const POOLED: usize = 1_024;

/// Elements that come back besides, where totals are asked for (ISO 8583:1987, reconciliation).
const OF_TOTALS: Elements =
    Elements::of(&[66, 67, 68, 69, 70, 71, 72, 73, 74, 75, 76, 77, 78, 79, 80, 81, 82, 83, 84, 85, 86, 87, 88, 89, 97]);

/// A command that needs nothing else, with the engine.
type Plain = (Flight, Box<Planned>);

/// What a link works with.
pub(super) struct Desk {
    edge: Arc<Edge>,
    in_flight: Count,
    plain: Rings<Plain>,
    /// From tasks. `None`: one has ended without anything to say.
    late: (mpsc::UnboundedSender<Option<Outgoing>>, mpsc::UnboundedReceiver<Option<Outgoing>>),
    /// The message that is being read.
    message: Message,
    /// Replies that wait for the way out to have room.
    replies: VecDeque<(Plain, Reply)>,
    /// Answers that are kept for messages to come.
    pool: Vec<Message>,
    is_signed_on: bool,
    /// When this turn began: one for all messages that came, or go, together.
    now: Moment,
}

/// One look at both clocks.
#[derive(Clone, Copy)]
struct Moment {
    instant: Instant,
    time: Time,
}

impl Moment {
    fn now() -> Self {
        Self { instant: Instant::now(), time: Time(now().0) }
    }
}

impl Desk {
    pub(super) fn new(edge: Arc<Edge>) -> Self {
        let in_flight_max = edge.listener.in_flight_max;
        Self {
            in_flight: Count::default(),
            plain: Rings::new(Arc::clone(&edge.serving.engine), in_flight_max),
            // Each that is sent has a place.
            late: mpsc::unbounded_channel(),
            message: Message::new(Mti::NONE),
            replies: VecDeque::new(),
            pool: Vec::new(),
            is_signed_on: !edge.listener.sign_on,
            now: Moment::now(),
            edge,
        }
    }

    pub(super) fn message_bytes_max(&self) -> usize {
        self.edge.listener.message_bytes_max
    }

    /// Whether there is a place for one message more.
    pub(super) fn has_room(&self) -> bool {
        self.in_flight.get() < self.edge.listener.in_flight_max
    }

    /// Whether everything that was taken is answered, and the answers are out.
    pub(super) fn is_answered(&self) -> bool {
        self.in_flight.get() == 0
    }

    /// Gives back what a busy time took.
    pub(super) fn shrink(&mut self) {
        self.plain.shrink();
        (self.replies, self.pool) = (VecDeque::new(), Vec::new());
    }

    /// Looks at the clocks: before messages are taken that came together.
    pub(super) fn begin_turn(&mut self) {
        self.now = Moment::now();
    }

    /// Takes one message. There is a place for it.
    pub(super) fn take(&mut self, body: &[u8], out: &mut Out) -> Result<(), Ended> {
        let Moment { instant: began, time } = self.now;
        let held = Held { _place: self.in_flight.one(), key: None, room: None };
        let message = &mut self.message;
        let decoded = self.edge.listener.layout.decode(body, message);
        // Without a type and a bitmap there is nothing that could be answered.
        if let Err(error) = decoded
            && error.element < 2
        {
            message.clear(Mti::NONE);
            return Err(Ended::NoMessage(error.to_string()));
        }
        let mut answer = self.pool.pop().unwrap_or(const { Message::new(Mti::NONE) });
        if !begin(message, &mut answer) {
            message.clear(Mti::NONE);
            self.give_back(answer);
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
            Ok(()) => ask(&self.edge, message, time),
        };
        if let Ask::CutOver | Ask::Totals = ask {
            // Their elements are few and no card's.
            answer.echo(message, OF_TOTALS);
        }
        message.clear(Mti::NONE);
        let (edge, seq_before) = (Arc::clone(&self.edge), self.edge.serving.engine.last_seq());
        let flight = Flight { edge, answer, began, is_repeat: mti.is_repeat(), seq_before, held };
        self.begin(flight, ask, out);
        Ok(())
    }

    /// Answers a message, hands it to the engine, or has it asked about by a task.
    fn begin(&mut self, mut flight: Flight, ask: Ask, out: &mut Out) {
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
                        Some(outgoing) => self.put(outgoing, out),
                        None => self.edge.stats.answer("", ""),
                    };
                }
                return self.begin_asking(flight, ask, out);
            }
        };
        self.put(flight.coded(code), out);
    }

    fn begin_asking(&mut self, mut flight: Flight, ask: Ask, out: &mut Out) {
        let take = |key| self.edge.keys.try_take((self.edge.listener.tenant, key));
        if let Ask::Command(planned) = ask {
            let needs_key = planned.undo.is_some();
            if needs_key {
                flight.held.key = take(planned.key);
            }
            if planned.is_plain() && (!needs_key || flight.held.key.is_some()) {
                return self.submit(flight, planned, out);
            }
            return self.spawn(flight.run(Ask::Command(planned)));
        }
        if let Ask::IfKnown(_, key, _) = &ask {
            flight.held.key = take(*key);
        }
        self.spawn(flight.run(ask));
    }

    /// Hands over a command that needs nothing else.
    fn submit(&mut self, flight: Flight, planned: Box<Planned>, out: &mut Out) {
        let options = self.edge.options(planned.ledger, flight.left_at(self.now.instant));
        match self.plain.submit(&planned.command, options) {
            Some(kept) => *kept = Some((flight, planned)),
            None => self.replied((flight, planned), &Reply::bare(Outcome::Busy), out),
        }
    }

    /// What a task says goes out when it comes. The peer's time-out says the right thing of what does not: it repeats or reverses.
    fn spawn(&self, says: impl Future<Output = Option<Outgoing>> + Send + 'static) {
        let (late, stats) = (self.late.0.clone(), Arc::clone(&self.edge.stats));
        let busy = self.edge.busy();
        tokio::spawn(async move {
            let _until_said = busy;
            let outgoing = says.await;
            if outgoing.is_none() {
                stats.answer("", "");
            }
            // The connection may be gone, and with it whoever would say it.
            if late.send(outgoing).is_err_and(|unsent| unsent.0.is_some()) {
                stats.answer("", "");
            }
        });
    }

    /// Puts what is there into the way out, as far as there is room. Whether there was any.
    pub(super) fn answer(&mut self, context: &mut Context<'_>, out: &mut Out) -> bool {
        let mut is_moving = false;
        self.begin_turn();
        while out.has_room()
            && let Poll::Ready(Some(outgoing)) = self.late.1.poll_recv(context)
        {
            is_moving = true;
            if let Some(outgoing) = outgoing {
                self.put(outgoing, out);
            }
        }
        let Self { plain, replies, .. } = self;
        plain.poll(|plain, reply| replies.push_back((plain, reply)));
        while out.has_room()
            && let Some((plain, reply)) = self.replies.pop_front()
        {
            is_moving = true;
            self.replied(plain, &reply, out);
        }
        is_moving
    }

    /// Wakes the engine for what was handed over.
    pub(super) fn flush(&mut self) {
        self.plain.flush();
    }

    /// Ready when the engine has replied; otherwise the task is woken when it has.
    pub(super) fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<()> {
        self.plain.poll_ready(context)
    }

    /// The engine has replied.
    fn replied(&mut self, (flight, planned): Plain, reply: &Reply, out: &mut Out) {
        flight.count(planned.command.verb(), reply);
        match flight.said(reply, planned) {
            Ok(Some(outgoing)) => self.put(outgoing, out),
            Ok(None) => self.edge.stats.answer("", ""),
            Err(open) => self.spawn(open.settled()),
        }
    }

    /// Puts one answer's frame in. One that is late comes again as a refusal when what it approved is undone.
    fn put(&mut self, outgoing: Outgoing, out: &mut Out) {
        let Outgoing { answer, began, approved, mut held } = outgoing;
        let layout = &self.edge.listener.layout;
        if self.now.instant.saturating_duration_since(began) <= self.edge.listener.deadline || approved.is_none() {
            match out.put(held, |bytes| frame_into(bytes, |bytes| layout.encode(&answer, bytes))) {
                Ok(()) => {
                    self.edge.stats.answer(answer.mti().text(), answer.text(39).unwrap_or_default());
                    return self.give_back(answer);
                }
                // What came by the layout goes by the layout, and what is put in was tested when it was read: a bug.
                Err((error, back)) => {
                    tracing::error!(listener = self.edge.listener.name, %error, "an answer does not fit the layout");
                    held = back;
                }
            }
        }
        if let Some(undo) = approved.and_then(|planned| planned.reverse()) {
            self.undo(Outgoing { answer, began, approved: None, held }, undo);
        }
    }

    fn give_back(&mut self, mut answer: Message) {
        answer.clear(Mti::NONE);
        if self.pool.len() < POOLED {
            self.pool.push(answer);
        }
    }

    fn undo(&self, mut outgoing: Outgoing, undo: Reverse) {
        let edge = Arc::clone(&self.edge);
        self.spawn(async move {
            edge.undo(undo).await.then(|| {
                refused(&edge.listener.layout, &mut outgoing.answer, Code::LATE);
                outgoing
            })
        });
    }
}

/// What a message asks for.
fn ask(edge: &Edge, message: &Message, now: Time) -> Ask {
    let windows = edge.serving.engine.windows();
    let remembered_ms = windows.key_opaque_ms.unwrap_or(u64::MAX).max(windows.refund_ms);
    let (listener, vault) = (&*edge.listener, &*edge.serving.vault);
    Reader { listener, vault, now, remembered_ms }.ask(message)
}
