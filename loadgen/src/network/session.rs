//! The session: commands over a few connections, in one thread, without ever waiting for one of them.
//!
//! Owns which command goes where and what becomes of it when a connection breaks; refuses to know what commands mean.
//!
//! ```text
//!  submit ─► queue ─► a connection with room ─► bytes ──► server
//!              ▲          │ breaks: in doubt                │
//!              └──────────┘ again, with the same key        │
//!  poll ◄──────────────── replies ◄── responses ◄───────────┘
//! ```
//!
//! Invariants: a command is answered exactly once; it is sent again only after its connection ended, and as it was, with its key;
//! after [`REPEATS_MAX`] of these it is `in_progress`, and so it is when a repeat was turned away: the caller looks it up, or fences
//! it. What cannot be understood ends
//! everything, with a fault that says what it was.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use rustix::event::epoll::{self, Event, EventFlags};
use tpcore::{Command, Outcome, Reply};

use super::connection::{Connection, Request, Stand};
use super::decode::{self, Answer, turned_away};
use super::encode::{Encoder, fits_batch};
use super::transport::{Transport, again_after};
use crate::target::Session;

/// A command is sent again at most so often; then it is `in_progress`.
pub const REPEATS_MAX: u8 = 8;
/// A batch that is not full is sent when its first command has waited so long.
pub const BATCH_WAIT: Duration = Duration::from_millis(5);
/// So long without a single response, while connections fail, and the server is given up.
pub const GIVE_UP: Duration = Duration::from_secs(30);
/// Events taken at once.
const EVENTS: usize = 256;

/// How a session is made.
#[derive(Clone, Copy, Debug)]
pub(crate) struct SessionPlan {
    pub(crate) address: SocketAddr,
    pub(crate) connections: usize,
    /// Requests in flight a connection.
    pub(crate) pipeline: usize,
    /// Commands a request; 1: each on its own route.
    pub(crate) batch: usize,
    /// Commands taken at a time.
    pub(crate) in_flight: usize,
}

/// A command that was taken and not yet answered.
#[derive(Debug)]
struct Flight {
    tag: u64,
    command: Command,
    repeats: u8,
}

/// A connection, and when it is tried again.
#[derive(Debug, Default)]
struct Line {
    connection: Connection,
    /// It is in `ready`.
    is_ready: bool,
    /// It has bytes to write.
    is_dirty: bool,
    /// Failures since the last whole response.
    failures: u32,
    /// `None`: it is up, or on its way.
    again: Option<Instant>,
}

/// A session over HTTP.
pub(crate) struct NetworkSession {
    plan: SessionPlan,
    transport: Arc<Transport>,
    encoder: Encoder,
    epoll: OwnedFd,
    events: Vec<Event>,
    lines: Vec<Line>,
    /// Lines that are up and have room, the one that rested longest first.
    ready: VecDeque<usize>,
    dirty: Vec<usize>,
    /// How many lines are to be tried again.
    down: usize,
    flights: Vec<Option<Flight>>,
    free: Vec<u32>,
    /// Flights that wait for a line.
    queue: VecDeque<u32>,
    /// Since when the first of them waits, about; kept for batches only.
    waiting_since: Option<Instant>,
    replies: Vec<(u64, Reply)>,
    /// Of the response that is being taken; kept for its room.
    answers: Vec<Answer>,
    /// Since when nothing but trouble came.
    trouble: Option<Instant>,
    has_failed: bool,
}

impl NetworkSession {
    /// Begins to connect.
    ///
    /// # Errors
    /// When the system has no room for it.
    pub(crate) fn new(plan: SessionPlan, encoder: Encoder, transport: Arc<Transport>) -> Result<Self> {
        let epoll = epoll::create(epoll::CreateFlags::CLOEXEC).context("cannot wait for sockets")?;
        let mut session = Self {
            plan,
            transport,
            encoder,
            epoll,
            events: Vec::with_capacity(EVENTS),
            lines: (0..plan.connections).map(|_| Line::default()).collect(),
            ready: VecDeque::with_capacity(plan.connections),
            dirty: Vec::with_capacity(plan.connections),
            down: 0,
            flights: (0..plan.in_flight).map(|_| None).collect(),
            free: (0..u32::try_from(plan.in_flight).unwrap_or(u32::MAX)).rev().collect(),
            queue: VecDeque::new(),
            waiting_since: None,
            replies: Vec::new(),
            answers: Vec::new(),
            trouble: None,
            has_failed: false,
        };
        for at in 0..plan.connections {
            session.connect(at);
        }
        Ok(session)
    }

    fn connect(&mut self, at: usize) {
        let line = &mut self.lines[at];
        if line.again.take().is_some() {
            self.down -= 1;
        }
        if let Err(error) = line.connection.connect(&self.epoll, at as u64, self.plan.address) {
            self.broken(at, &format!("cannot connect: {error}"));
        }
    }

    /// A line ended: what was in flight on it goes out again on another.
    fn broken(&mut self, at: usize, why: &str) {
        let line = &mut self.lines[at];
        let was_up = line.connection.is_up();
        let in_doubt = line.connection.end();
        let delay = again_after(was_up, line.failures);
        line.failures += 1;
        if line.again.replace(Instant::now() + delay).is_none() {
            self.down += 1;
        }
        if std::mem::take(&mut line.is_ready) {
            self.ready.retain(|ready| *ready != at);
        }
        self.transport.broke(was_up, in_doubt.len());
        let is_idle = was_up && in_doubt.is_empty();
        for flight in in_doubt.into_iter().rev() {
            self.repeat(flight);
        }
        // That an idle connection ends is no trouble.
        if !is_idle && self.trouble.get_or_insert_with(Instant::now).elapsed() > GIVE_UP {
            self.fail(&format!("nothing was heard from it for {} s: {why}", GIVE_UP.as_secs()));
        }
    }

    /// Sends a command again that is in doubt, before all that wait; or leaves it to the caller.
    fn repeat(&mut self, flight: u32) {
        let Some(known) = self.flights[flight as usize].as_mut() else { return };
        if known.repeats >= REPEATS_MAX {
            return self.land(flight, Reply::bare(Outcome::InProgress));
        }
        known.repeats += 1;
        self.queue.push_front(flight);
    }

    fn land(&mut self, flight: u32, reply: Reply) {
        if let Some(known) = self.flights[flight as usize].take() {
            self.replies.push((known.tag, reply));
            self.free.push(flight);
        }
    }

    /// Ends everything: what is in flight is answered with `system_error`, and so is what comes.
    fn fail(&mut self, what: &str) {
        self.has_failed = true;
        self.transport.fail(what);
        self.queue.clear();
        for flight in 0..self.plan.in_flight {
            self.land(u32::try_from(flight).unwrap_or(u32::MAX), Reply::bare(Outcome::SystemError));
        }
    }

    /// Hands what waits to lines with room, and writes.
    fn dispatch(&mut self) {
        while let Some(first) = self.queue.front().copied() {
            let Some(at) = self.ready.front().copied() else { break };
            let commands = self.batched(first);
            if commands == Some(0) {
                break; // a batch that still fills
            }
            self.ready.pop_front();
            self.lines[at].is_ready = false;
            match commands {
                Some(commands) => self.send_batch(at, commands),
                None => self.send_single(at, first),
            }
            self.touch(at);
            let line = &mut self.lines[at];
            if !std::mem::replace(&mut line.is_dirty, true) {
                self.dirty.push(at);
            }
        }
        while let Some(at) = self.dirty.pop() {
            self.lines[at].is_dirty = false;
            if self.lines[at].connection.is_up() && self.lines[at].connection.write() == Stand::Ended {
                self.broken(at, "the connection broke while a request was written");
            }
        }
    }

    /// How many commands from the front of the queue make the next batch, 0: none yet; `None`: the first goes alone.
    fn batched(&mut self, first: u32) -> Option<usize> {
        if self.plan.batch == 1 || !self.fits(first) {
            return None;
        }
        let most = self.queue.iter().take(self.plan.batch);
        let fitting = most.take_while(|flight| self.fits(**flight)).count();
        let is_cut = fitting < self.queue.len(); // full, or what follows goes alone
        let is_due = self.waiting_since.is_none_or(|since| since.elapsed() >= BATCH_WAIT);
        Some(if is_cut || is_due || fitting == self.plan.batch { fitting } else { 0 })
    }

    fn fits(&self, flight: u32) -> bool {
        self.flights[flight as usize].as_ref().is_some_and(|flight| fits_batch(&flight.command))
    }

    fn send_single(&mut self, at: usize, flight: u32) {
        self.queue.pop_front();
        let connection = &mut self.lines[at].connection;
        let Some(known) = &self.flights[flight as usize] else { return };
        if self.encoder.single(&mut connection.out, &known.command) {
            connection.carries(flight);
            connection.requested(Request { commands: 1, is_batch: false });
        } else {
            self.land(flight, Reply::bare(Outcome::Malformed));
        }
    }

    fn send_batch(&mut self, at: usize, commands: usize) {
        let connection = &mut self.lines[at].connection;
        let flights = &self.flights;
        let chosen = self.queue.iter().take(commands).filter_map(|flight| flights[*flight as usize].as_ref());
        self.encoder.batch(&mut connection.out, chosen.map(|flight| &flight.command));
        self.queue.drain(..commands).for_each(|flight| connection.carries(flight));
        connection.requested(Request { commands, is_batch: true });
        self.waiting_since = (!self.queue.is_empty()).then(Instant::now);
    }

    /// Puts a line among those with room, when it has some.
    fn touch(&mut self, at: usize) {
        let line = &mut self.lines[at];
        let has_room = line.connection.is_up() && line.connection.in_flight() < self.plan.pipeline;
        if has_room && !std::mem::replace(&mut line.is_ready, true) {
            self.ready.push_back(at);
        }
    }

    /// Waits for events, at most so long, and handles them.
    fn turn(&mut self, timeout: Duration) {
        if self.down > 0 {
            let now = Instant::now();
            for at in 0..self.lines.len() {
                if self.lines[at].again.is_some_and(|again| again <= now) && !self.has_failed {
                    self.connect(at);
                }
            }
        }
        let timeout = rustix::event::Timespec {
            tv_sec: i64::try_from(timeout.as_secs()).unwrap_or(i64::MAX),
            tv_nsec: timeout.subsec_nanos().into(),
        };
        let mut events = std::mem::take(&mut self.events);
        events.clear();
        // An interruption is an empty answer: the caller comes again.
        let _ = epoll::wait(&self.epoll, rustix::buffer::spare_capacity(&mut events), Some(&timeout));
        for event in &events {
            let at = usize::try_from(event.data.u64()).unwrap_or(usize::MAX);
            if at < self.lines.len() {
                self.happened(at, event.flags);
            }
        }
        self.events = events;
    }

    fn happened(&mut self, at: usize, flags: EventFlags) {
        let was_up = self.lines[at].connection.is_up();
        let ends = EventFlags::RDHUP | EventFlags::HUP | EventFlags::ERR;
        if flags.contains(EventFlags::OUT) || !was_up && flags.intersects(ends) {
            if self.lines[at].connection.writable() == Stand::Ended {
                return self.broken(at, "the connection was refused or reset");
            }
            if !was_up {
                self.touch(at);
            }
        }
        if flags.intersects(EventFlags::IN | ends) {
            self.receive(at, flags.intersects(ends));
        }
    }

    /// Reads what is there and takes the whole responses; `until_end`: the other side has ended, so read up to that.
    fn receive(&mut self, at: usize, until_end: bool) {
        loop {
            let Some((read, may_have_more)) = self.lines[at].connection.read() else {
                return self.broken(at, "the server closed the connection");
            };
            loop {
                match self.take(at) {
                    Ok(Took::Response) => {}
                    Ok(Took::Nothing) => break,
                    Ok(Took::Last) => return self.broken(at, "the server closed the connection"),
                    Err(what) => return self.fail(&what),
                }
            }
            // Less than there was room for: the kernel has no more, and says so when it has.
            if !(may_have_more || until_end && read > 0) {
                return;
            }
        }
    }

    /// Takes one response.
    fn take(&mut self, at: usize) -> Result<Took, String> {
        let line = &mut self.lines[at];
        let Some((head, body, request)) = line.connection.response()? else { return Ok(Took::Nothing) };
        let bytes = line.connection.bytes(body);
        let mut answers = std::mem::take(&mut self.answers);
        if request.is_batch {
            decode::batch(head.status, bytes, request.commands, &mut |answer| answers.push(answer))?;
        } else {
            answers.push(decode::single(head.status, bytes)?);
        }
        for answer in answers.drain(..) {
            let flight = self.lines[at].connection.landed().ok_or("a response came that nobody asked for")?;
            self.answered(flight, answer)?;
        }
        self.answers = answers;
        (self.lines[at].failures, self.trouble) = (0, None);
        if head.is_last {
            return Ok(Took::Last);
        }
        self.touch(at);
        Ok(Took::Response)
    }

    fn answered(&mut self, flight: u32, answer: Answer) -> Result<(), String> {
        let known = self.flights[flight as usize].as_ref();
        let (repeats, verb) = known.map_or((0, "command"), |known| (known.repeats, known.command.verb().name()));
        match answer.decided(repeats) {
            Ok(reply) => self.land(flight, reply),
            Err(Some(what)) => return Err(format!("it answered a {verb} with {what}")),
            Err(None) => {
                self.transport.turned_away();
                self.land(flight, turned_away(repeats));
            }
        }
        Ok(())
    }
}

/// What was taken from a line.
enum Took {
    Nothing,
    Response,
    /// A response after which the connection ends.
    Last,
}

impl Session for NetworkSession {
    fn submit(&mut self, tag: u64, command: &Command) -> bool {
        if self.has_failed {
            self.replies.push((tag, Reply::bare(Outcome::SystemError)));
            return true;
        }
        let Some(flight) = self.free.pop() else { return false };
        self.flights[flight as usize] = Some(Flight { tag, command: command.clone(), repeats: 0 });
        if self.plan.batch > 1 && self.queue.is_empty() {
            self.waiting_since = Some(Instant::now());
        }
        self.queue.push_back(flight);
        true
    }

    fn poll(&mut self, each: &mut dyn FnMut(u64, Reply)) -> usize {
        self.dispatch();
        if self.replies.is_empty() {
            self.turn(Duration::ZERO);
            self.dispatch(); // what came made room
        }
        let count = self.replies.len();
        for (tag, reply) in self.replies.drain(..) {
            each(tag, reply);
        }
        count
    }

    fn wait(&mut self, timeout: Duration) {
        self.dispatch();
        if !self.replies.is_empty() {
            return;
        }
        let fills = self.waiting_since.filter(|_| !self.queue.is_empty() && !self.ready.is_empty());
        let timeout = fills.map_or(timeout, |since| timeout.min(BATCH_WAIT.saturating_sub(since.elapsed())));
        self.turn(timeout);
        self.dispatch();
    }
}
