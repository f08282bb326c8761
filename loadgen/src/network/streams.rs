//! A session whose commands go over gRPC streams; reads go over HTTP.
//!
//! Owns the streams, each on a connection of its own, and what becomes of a command when one breaks. The client is the generated one on
//! tonic, in the session's own thread: its tasks run when the session is polled or waits. Refuses to know what commands mean.
//!
//! Invariants: as those of the HTTP session. A command is answered exactly once; it is sent again only after its stream ended, as it was,
//! with its key, [`REPEATS_MAX`] times; then it is `in_progress`.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use tokio::runtime::Runtime;
use tokio::sync::{Notify, mpsc};
use tokio_stream::wrappers::UnboundedReceiverStream;
use tonic::metadata::{Ascii, MetadataValue};
use tonic::transport::Endpoint as Remote;
use tonic::{Request, Status};
use tp_protocol::grpc;
use tp_protocol::grpc::gateway_client::GatewayClient;
use tpcore::{Command, Outcome, Reply};

use super::aside::Aside;
use super::decode::{self, turned_away};
use super::flights::Flights;
use super::message;
use super::session::{GIVE_UP, REPEATS_MAX};
use super::transport::{Transport, again_after};
use crate::plan::NetworkPlan;
use crate::target::Session;

/// Room for what is under way, bytes: of a stream, and of its connection.
const WINDOW_BYTES: u32 = 1 << 20;
/// The runtime's clock has no finer step.
const STEP: Duration = Duration::from_millis(1);

/// What a stream's task has to say.
enum Said {
    Reply {
        line: usize,
        reply: Box<grpc::Reply>,
    },
    /// The stream of that number ended.
    Ended {
        line: usize,
        was_up: bool,
        why: String,
    },
}

/// What the tasks have said.
#[derive(Default)]
struct Heard {
    said: Mutex<Vec<Said>>,
    notify: Notify,
}

impl Heard {
    fn say(&self, said: Said) {
        self.said.lock().unwrap_or_else(PoisonError::into_inner).push(said);
        self.notify.notify_one();
    }
}

/// A stream.
struct Line {
    commands: mpsc::UnboundedSender<grpc::Command>,
    /// Failures since the last reply.
    failures: u32,
}

/// A session over streams.
pub(super) struct StreamSession {
    aside: Aside,
    runtime: Runtime,
    remote: Remote,
    authorization: Option<MetadataValue<Ascii>>,
    deadline_ms: u32,
    heard: Arc<Heard>,
    /// Taken out of `heard`, kept for its room.
    said: Vec<Said>,
    lines: Vec<Line>,
    next: usize,
    flights: Flights,
    transport: Arc<Transport>,
    /// Since when nothing but trouble came.
    trouble: Option<Instant>,
    has_failed: bool,
}

/// One stream from its connection to its end.
async fn run(
    remote: Remote,
    authorization: Option<MetadataValue<Ascii>>,
    delay: Duration,
    (line, commands): (usize, mpsc::UnboundedReceiver<grpc::Command>),
    heard: &Heard,
) -> (bool, Status) {
    tokio::time::sleep(delay).await;
    let channel = match remote.connect().await {
        Ok(channel) => channel,
        Err(error) => return (false, Status::unavailable(error.to_string())),
    };
    let mut request = Request::new(UnboundedReceiverStream::new(commands));
    if let Some(authorization) = authorization {
        request.metadata_mut().insert("authorization", authorization);
    }
    let mut replies = match GatewayClient::new(channel).stream(request).await {
        Ok(response) => response.into_inner(),
        Err(status) => return (true, status),
    };
    loop {
        match replies.message().await {
            Ok(Some(reply)) => heard.say(Said::Reply { line, reply: Box::new(reply) }),
            Ok(None) => return (true, Status::unavailable("the server ended the stream")),
            Err(status) => return (true, status),
        }
    }
}

impl StreamSession {
    /// Begins to connect.
    ///
    /// # Errors
    /// When the system has no room for it.
    pub(super) fn new(
        http: Box<dyn Session>,
        plan: &NetworkPlan,
        streams: usize,
        in_flight: usize,
        transport: Arc<Transport>,
    ) -> Result<Self> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().context("no runtime")?;
        let remote = Remote::from_shared(plan.endpoint.to_string())?
            .tcp_nodelay(true)
            .connect_timeout(Duration::from_secs(10))
            .initial_stream_window_size(WINDOW_BYTES)
            .initial_connection_window_size(WINDOW_BYTES);
        let authorization = plan.key.as_ref().map(|key| format!("Bearer {}", key.expose()).parse()).transpose();
        let mut session = Self {
            aside: Aside::new(http),
            runtime,
            remote,
            authorization: authorization.context("the key cannot be sent")?,
            deadline_ms: u32::try_from(plan.deadline_ms).unwrap_or(u32::MAX),
            heard: Arc::default(),
            said: Vec::new(),
            lines: Vec::with_capacity(streams),
            next: 0,
            flights: Flights::new(in_flight),
            transport,
            trouble: None,
            has_failed: false,
        };
        for number in 0..streams {
            let line = session.line(number, Duration::ZERO, 0);
            session.lines.push(line);
        }
        Ok(session)
    }

    fn line(&self, number: usize, delay: Duration, failures: u32) -> Line {
        let (commands, receiver) = mpsc::unbounded_channel();
        let (remote, authorization) = (self.remote.clone(), self.authorization.clone());
        let heard = Arc::clone(&self.heard);
        self.runtime.spawn(async move {
            let (was_up, status) = run(remote, authorization, delay, (number, receiver), &heard).await;
            let why = format!("{:?}: {}", status.code(), status.message());
            heard.say(Said::Ended { line: number, was_up, why });
        });
        Line { commands, failures }
    }

    /// Sends a command on its line. One that has ended says so itself, and what is in flight on it goes out again then.
    fn put(&mut self, wire: u64) {
        let Some(flight) = self.flights.at(wire) else { return };
        match message::of(wire, &flight.command, self.deadline_ms) {
            Some(message) => _ = self.lines[flight.line].commands.send(message),
            None => self.flights.land(wire, Reply::bare(Outcome::Malformed)),
        }
    }

    /// Ends everything: what is in flight is answered with `system_error`, and so is what comes.
    fn fail(&mut self, what: &str) {
        self.has_failed = true;
        self.transport.fail(what);
        self.flights.land_all();
    }

    /// Lets the tasks run that can, and takes what they say.
    fn turn(&mut self) {
        self.runtime.block_on(tokio::task::yield_now());
        std::mem::swap(&mut self.said, &mut *self.heard.said.lock().unwrap_or_else(PoisonError::into_inner));
        let mut said = std::mem::take(&mut self.said);
        for said in said.drain(..) {
            match said {
                Said::Reply { line, reply } => self.take(line, &reply),
                Said::Ended { line, was_up, why } => self.renew(line, was_up, &why),
            }
        }
        self.said = said;
    }

    fn take(&mut self, on: usize, message: &grpc::Reply) {
        let Some(flight) = self.flights.at(message.tag).filter(|flight| flight.line == on) else {
            return self.fail("a reply came that nobody asked for, or a second one");
        };
        let repeats = flight.repeats;
        self.lines[on].failures = 0;
        self.trouble = None;
        match decode::message(message).map_err(Some).and_then(|answer| answer.decided(repeats)) {
            Ok(reply) => self.flights.land(message.tag, reply),
            Err(Some(what)) => self.fail(&what),
            Err(None) => {
                self.transport.turned_away();
                self.flights.land(message.tag, turned_away(repeats));
            }
        }
    }

    /// Makes a stream again, and sends what was in flight on it once more.
    fn renew(&mut self, number: usize, was_up: bool, why: &str) {
        if self.has_failed {
            return;
        }
        let failures = self.lines[number].failures;
        self.lines[number] = self.line(number, again_after(was_up, failures), failures + 1);
        let in_doubt = self.flights.of_line(number);
        self.transport.broke(was_up, if was_up { in_doubt.len() } else { 0 });
        let is_idle = was_up && in_doubt.is_empty();
        if !is_idle && self.trouble.get_or_insert_with(Instant::now).elapsed() > GIVE_UP {
            return self.fail(&format!("nothing was heard from it for {} s: {why}", GIVE_UP.as_secs()));
        }
        for wire in in_doubt {
            if self.flights.again(wire, was_up) > REPEATS_MAX {
                self.flights.land(wire, Reply::bare(Outcome::InProgress));
            } else {
                self.put(wire);
            }
        }
    }
}

impl Session for StreamSession {
    fn submit(&mut self, tag: u64, command: &Command) -> bool {
        if matches!(command, Command::Read(_)) {
            return self.aside.submit(tag, command);
        }
        if self.has_failed {
            self.flights.refuse(tag, Reply::bare(Outcome::SystemError));
            return true;
        }
        let next = (self.next + 1) % self.lines.len();
        let Some(wire) = self.flights.take(tag, next, command) else { return false };
        self.next = next;
        self.put(wire);
        true
    }

    fn poll(&mut self, each: &mut dyn FnMut(u64, Reply)) -> usize {
        self.turn();
        self.flights.poll(each) + self.aside.poll(each)
    }

    fn wait(&mut self, timeout: Duration) {
        self.turn();
        if self.flights.has_replies() {
            return;
        }
        if self.aside.is_open() {
            self.aside.wait(timeout.min(STEP));
        } else if timeout < STEP {
            std::thread::sleep(timeout);
        } else {
            let heard = Arc::clone(&self.heard);
            // Nothing within the time is an empty answer: the caller comes again.
            self.runtime.block_on(async { _ = tokio::time::timeout(timeout, heard.notify.notified()).await });
        }
    }
}
