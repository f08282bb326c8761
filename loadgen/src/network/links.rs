//! A session whose commands go over a few links in frames of some kind; what these do not carry goes over HTTP.
//!
//! Owns the links and what becomes of a command when one breaks. Refuses to know what is in a frame (that is the codec's), and to interpret
//! silence: a command that is not answered for long ends the run. What is due together goes over one link, the next over the next: a write
//! for each of them was a third of what the generator did.
//!
//! Invariants: a command is answered exactly once; it is sent again only after its link ended, with its key, [`REPEATS_MAX`] times; then it
//! is `in_progress`.

use std::io::{ErrorKind, Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use rustix::event::{PollFd, PollFlags};
use tpcore::{Command, Outcome, Reply};

use super::aside::Aside;
use super::decode::{Answer, turned_away};
use super::flights::Flights;
use super::session::{GIVE_UP, REPEATS_MAX};
use super::transport::{Transport, again_after};
use crate::target::Session;

/// What is read at once, bytes.
const READ_BYTES: usize = 64 * 1024;
/// While something goes over HTTP, links are looked at so often.
const HTTP_WAIT: Duration = Duration::from_millis(1);
/// The most commands that go over one link in a row.
const ROW_MAX: usize = 16;
/// It is looked for silence so often: all that is in flight is gone through.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// What a frame of the server's says.
pub(super) enum Taken {
    /// Of the command with that tag.
    Answer(u64, Answer),
    /// Nothing of a command.
    Nothing,
    /// The link ends here, and why.
    End(String),
}

/// What is in the frames of a link.
pub(super) trait Codec {
    /// The most commands in flight that it can tell apart.
    const PLACES_MAX: usize;
    /// Whether its tags name a place only, and not the command that stands there.
    const NAMES_PLACES: bool;
    /// Whether a command whose outcome is open may be asked for by its key.
    const CAN_LOOK_UP: bool;
    /// A command that is not answered for so long, since it was sent last, never is.
    fn answers_within(&self) -> Duration;
    /// Whether frames carry such a command.
    fn carries(command: &Command) -> bool;
    /// What is said first on a link.
    fn greet(&self, out: &mut Vec<u8>);
    /// Puts a command's frame behind some bytes.
    ///
    /// # Errors
    /// It does not fit: the run ends.
    fn put(&mut self, out: &mut Vec<u8>, tag: u64, command: &Command, is_repeat: bool) -> Result<(), String>;
    /// The frame that begins some bytes, and how many it takes; `None`: it is not whole yet.
    ///
    /// # Errors
    /// It is none: the run ends.
    fn take(&mut self, input: &[u8]) -> Result<Option<(usize, Taken)>, String>;
}

/// One link.
struct Link {
    /// `None`: it is to be made again.
    stream: Option<TcpStream>,
    again: Instant,
    /// Failures since the last answer.
    failures: u32,
    /// To be written, from `written` on.
    out: Vec<u8>,
    written: usize,
    input: Vec<u8>,
    filled: usize,
    /// Whether the server has said anything on it.
    has_heard: bool,
}

/// A session over links.
pub(super) struct LinkSession<C> {
    aside: Aside,
    address: SocketAddr,
    codec: C,
    links: Vec<Link>,
    next: usize,
    /// Commands in a row that the next link has got since the last turn.
    row: usize,
    flights: Flights,
    /// Links with something to read; kept for its room.
    readable: Vec<usize>,
    /// When it was looked last whether something is not answered for too long.
    looked: Instant,
    transport: Arc<Transport>,
    /// Since when nothing but trouble came.
    trouble: Option<Instant>,
    has_failed: bool,
}

fn connect(address: SocketAddr) -> std::io::Result<TcpStream> {
    let stream = TcpStream::connect_timeout(&address, Duration::from_secs(10))?;
    stream.set_nodelay(true)?;
    stream.set_nonblocking(true)?;
    Ok(stream)
}

impl<C: Codec> LinkSession<C> {
    /// Connects.
    ///
    /// # Errors
    /// When a link cannot be made.
    pub(super) fn new(
        http: Box<dyn Session>,
        (address, links): (SocketAddr, usize),
        codec: C,
        in_flight: usize,
        transport: Arc<Transport>,
    ) -> Result<Self> {
        let mut session = Self {
            aside: Aside::new(http),
            address,
            codec,
            links: Vec::with_capacity(links),
            next: 0,
            row: 0,
            flights: Flights::new(in_flight.min(C::PLACES_MAX)),
            readable: Vec::new(),
            looked: Instant::now(),
            transport,
            trouble: None,
            has_failed: false,
        };
        for _ in 0..links {
            let stream = connect(address).with_context(|| format!("no link to {address}"))?;
            let mut out = Vec::new();
            session.codec.greet(&mut out);
            session.links.push(Link {
                stream: Some(stream),
                again: Instant::now(),
                failures: 0,
                out,
                written: 0,
                input: vec![0; READ_BYTES],
                filled: 0,
                has_heard: false,
            });
        }
        Ok(session)
    }

    /// Puts a command behind what is to be written on its link.
    fn put(&mut self, wire: u64, is_repeat: bool) {
        let Some(flight) = self.flights.at(wire) else { return };
        let out = &mut self.links[flight.line].out;
        if let Err(what) = self.codec.put(out, wire, &flight.command, is_repeat) {
            self.fail(&what);
        }
    }

    /// Ends everything: what is in flight is answered with `system_error`, and so is what comes.
    fn fail(&mut self, what: &str) {
        self.has_failed = true;
        self.transport.fail(what);
        self.flights.land_all();
    }

    fn next_link(&mut self) {
        (self.next, self.row) = ((self.next + 1) % self.links.len(), 0);
    }

    /// Writes what is there, waits until something comes, at most so long, and reads it.
    fn turn(&mut self, timeout: Duration) {
        if self.row > 0 {
            self.next_link();
        }
        for at in 0..self.links.len() {
            if self.links[at].stream.is_none() {
                self.make_again(at);
            }
            let wrote = self.write(at);
            self.look(at, wrote);
        }
        let mut readable = std::mem::take(&mut self.readable);
        readable.clear();
        let mut fds: Vec<PollFd<'_>> = Vec::with_capacity(self.links.len());
        for (at, link) in self.links.iter().enumerate() {
            let Some(stream) = &link.stream else { continue };
            let writes = if link.out.is_empty() { PollFlags::empty() } else { PollFlags::OUT };
            fds.push(PollFd::new(stream, PollFlags::IN | writes));
            readable.push(at);
        }
        let timeout = rustix::event::Timespec {
            tv_sec: i64::try_from(timeout.as_secs()).unwrap_or(i64::MAX),
            tv_nsec: timeout.subsec_nanos().into(),
        };
        // One question for all of them: most have nothing to read. An interruption is an empty answer: the caller comes again.
        let _ = rustix::event::poll(&mut fds, Some(&timeout));
        let mut has_some = fds.iter().map(|fd| !(fd.revents() & !PollFlags::OUT).is_empty());
        readable.retain(|_| has_some.next() == Some(true));
        drop(has_some);
        for at in &readable {
            let read = self.read(*at);
            self.look(*at, read);
        }
        self.readable = readable;
    }

    fn look(&mut self, at: usize, stood: Result<(), String>) {
        if let Err(why) = stood
            && !self.has_failed
        {
            self.broken(at, &why);
        }
    }

    /// The link has ended: an error, and why.
    fn write(&mut self, at: usize) -> Result<(), String> {
        let link = &mut self.links[at];
        let Some(stream) = &mut link.stream else { return Ok(()) };
        while link.written < link.out.len() {
            match stream.write(&link.out[link.written..]) {
                Ok(0) => return Err("nothing could be written".to_owned()),
                Ok(written) => link.written += written,
                Err(error) if error.kind() == ErrorKind::WouldBlock => {
                    // What is written is not kept, though there is always more.
                    if link.written >= READ_BYTES {
                        link.out.drain(..link.written);
                        link.written = 0;
                    }
                    return Ok(());
                }
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(error.to_string()),
            }
        }
        link.out.clear();
        link.written = 0;
        Ok(())
    }

    fn read(&mut self, at: usize) -> Result<(), String> {
        loop {
            let link = &mut self.links[at];
            let Some(stream) = &mut link.stream else { return Ok(()) };
            let read = match stream.read(&mut link.input[link.filled..]) {
                Ok(0) => return Err("the server closed the link".to_owned()),
                Ok(read) => read,
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
                Err(error) if error.kind() == ErrorKind::Interrupted => continue,
                Err(error) => return Err(error.to_string()),
            };
            link.filled += read;
            link.has_heard = true;
            let is_all = link.filled < link.input.len();
            self.take(at)?;
            if is_all || self.has_failed {
                return Ok(());
            }
        }
    }

    /// Takes the whole frames of a link's input.
    fn take(&mut self, at: usize) -> Result<(), String> {
        let mut taken = 0;
        loop {
            let link = &self.links[at];
            match self.codec.take(&link.input[taken..link.filled]) {
                Ok(None) => break,
                Ok(Some((bytes, Taken::Answer(wire, answer)))) => {
                    taken += bytes;
                    self.answered(at, wire, answer);
                }
                Ok(Some((bytes, Taken::Nothing))) => taken += bytes,
                Ok(Some((_, Taken::End(why)))) => return Err(why),
                Err(what) => self.fail(&what),
            }
            if self.has_failed {
                return Ok(());
            }
        }
        let link = &mut self.links[at];
        link.input.copy_within(taken..link.filled, 0);
        link.filled -= taken;
        Ok(())
    }

    fn answered(&mut self, on: usize, wire: u64, answer: Answer) {
        let flight = if C::NAMES_PLACES { self.flights.at_place(wire) } else { self.flights.at(wire) };
        let Some(flight) = flight.filter(|flight| flight.line == on) else {
            return self.fail("an answer came that nobody asked for, or a second one");
        };
        let repeats = flight.repeats;
        self.links[on].failures = 0;
        self.trouble = None;
        match answer.decided(repeats) {
            Ok(reply) => self.flights.land(wire, reply),
            Err(Some(what)) => self.fail(&what),
            Err(None) => {
                self.transport.turned_away();
                self.flights.land(wire, turned_away(repeats));
            }
        }
    }

    /// A link ended: it is made again, and what was in flight on it goes out once more.
    fn broken(&mut self, on: usize, why: &str) {
        let link = &mut self.links[on];
        // One on which nothing was heard was never there: before the greeting nothing is taken.
        let was_up = std::mem::take(&mut link.has_heard);
        let delay = again_after(was_up, link.failures);
        link.failures += 1;
        (link.stream, link.again, link.written, link.filled) = (None, Instant::now() + delay, 0, 0);
        link.out.clear();
        self.codec.greet(&mut link.out);
        let in_doubt = self.flights.of_line(on);
        self.transport.broke(was_up, if was_up { in_doubt.len() } else { 0 });
        // That an idle link ends is no trouble.
        let is_idle = was_up && in_doubt.is_empty();
        if !is_idle && self.trouble.get_or_insert_with(Instant::now).elapsed() > GIVE_UP {
            return self.fail(&format!("nothing was heard from it for {} s: {why}", GIVE_UP.as_secs()));
        }
        for wire in in_doubt {
            match self.flights.again(wire, was_up) > REPEATS_MAX {
                false => self.put(wire, true),
                true if C::CAN_LOOK_UP => self.flights.land(wire, Reply::bare(Outcome::InProgress)),
                true => return self.fail("a command was sent again and again and never answered"),
            }
        }
    }

    fn make_again(&mut self, at: usize) {
        if Instant::now() < self.links[at].again {
            return;
        }
        match connect(self.address) {
            Ok(stream) => self.links[at].stream = Some(stream),
            Err(error) => self.broken(at, &error.to_string()),
        }
    }

    /// Whether something is not answered for too long.
    fn look_for_silence(&mut self) {
        if self.looked.elapsed() < LOOK_EVERY {
            return;
        }
        self.looked = Instant::now();
        let within = self.codec.answers_within();
        if self.flights.oldest().is_some_and(|sent| sent.elapsed() > within) {
            self.fail(&format!("a command was not answered for {} s", within.as_secs()));
        }
    }
}

impl<C: Codec> Session for LinkSession<C> {
    fn submit(&mut self, tag: u64, command: &Command) -> bool {
        if !C::carries(command) {
            return self.aside.submit(tag, command);
        }
        if self.has_failed {
            self.flights.refuse(tag, Reply::bare(Outcome::SystemError));
            return true;
        }
        if self.row >= ROW_MAX {
            self.next_link();
        }
        let Some(wire) = self.flights.take(tag, self.next, command) else { return false };
        self.row += 1;
        self.put(wire, false);
        true
    }

    fn poll(&mut self, each: &mut dyn FnMut(u64, Reply)) -> usize {
        self.turn(Duration::ZERO);
        self.flights.poll(each) + self.aside.poll(each)
    }

    fn wait(&mut self, timeout: Duration) {
        self.look_for_silence();
        if !self.flights.has_replies() {
            // What goes over HTTP has its own sockets: neither waits for the other.
            let is_alone = !self.aside.is_open();
            self.turn(if is_alone { timeout } else { Duration::ZERO });
            if !is_alone && !self.flights.has_replies() {
                self.aside.wait(timeout.min(HTTP_WAIT));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;
    use std::thread::JoinHandle;

    use super::super::frame_codec::FrameCodec;
    use super::*;
    use crate::plan::{account, ledger};
    use tp_protocol::frames::{self, Frame, goodbye, reason, welcome};
    use tpcore::{Amount, Authorize, Key};
    use zerocopy::IntoBytes as _;

    /// Nothing goes over HTTP here.
    struct NoHttp;

    impl Session for NoHttp {
        fn submit(&mut self, _: u64, _: &Command) -> bool {
            panic!("a command that frames carry went over HTTP")
        }
        fn poll(&mut self, _: &mut dyn FnMut(u64, Reply)) -> usize {
            0
        }
        fn wait(&mut self, _: Duration) {}
    }

    /// What a server does with a link, after it has welcomed it.
    type Serve = fn(&mut Peer);

    /// A server's end of a link.
    struct Peer {
        stream: TcpStream,
        input: Vec<u8>,
        /// Keys of the commands that came, on this link and those before it.
        keys: Vec<u128>,
    }

    impl Peer {
        fn command(&mut self) -> frames::Command {
            loop {
                match Frame::read(&self.input) {
                    Ok(Some((Frame::Command(command), total))) => {
                        let command = *command;
                        self.input.drain(..total);
                        self.keys.push(command.key.get());
                        return command;
                    }
                    Ok(Some((_, total))) => drop(self.input.drain(..total)),
                    _ => {
                        let mut bytes = [0; 4096];
                        let read = self.stream.read(&mut bytes).expect("readable");
                        assert!(read > 0, "the generator closed the link");
                        self.input.extend_from_slice(&bytes[..read]);
                    }
                }
            }
        }
        fn reply(&mut self, to: &frames::Command, outcome: Outcome) {
            let reply = frames::Reply::new(to.tag.get(), outcome as u8, 200);
            self.stream.write_all(reply.as_bytes()).expect("written");
        }
        fn say(&mut self, what: impl FnOnce(&mut Vec<u8>)) {
            let mut bytes = Vec::new();
            what(&mut bytes);
            self.stream.write_all(&bytes).expect("written");
        }
    }

    /// A server that serves one link after the other, each as it is told; gives back the keys that came.
    fn server(links: Vec<Serve>) -> (SocketAddr, JoinHandle<Vec<u128>>) {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let at = listener.local_addr().expect("its address");
        let served = std::thread::spawn(move || {
            let mut keys = Vec::new();
            for serve in links {
                let (stream, _) = listener.accept().expect("a link");
                let mut peer = Peer { stream, input: Vec::new(), keys };
                peer.say(|out| welcome(out, 1, 16));
                serve(&mut peer);
                keys = peer.keys;
            }
            keys
        });
        (at, served)
    }

    fn session(at: SocketAddr) -> (LinkSession<FrameCodec>, Arc<Transport>) {
        let transport = Arc::<Transport>::default();
        let codec = FrameCodec::new(None, 1_000);
        let session = LinkSession::new(Box::new(NoHttp), (at, 1), codec, 4, Arc::clone(&transport));
        (session.expect("a link"), transport)
    }

    fn submit(session: &mut LinkSession<FrameCodec>, tag: u64) {
        let authorize = Authorize::new(Key::opaque(tag.into()), account(1), ledger(), Amount::from(1));
        assert!(session.submit(tag, &authorize.into()), "there is room");
    }

    /// So many answers, or what was answered until the run failed.
    fn answers(session: &mut LinkSession<FrameCodec>, count: usize) -> Vec<(u64, Outcome)> {
        let (mut told, since) = (Vec::new(), Instant::now());
        while told.len() < count {
            assert!(since.elapsed() < Duration::from_mins(1), "{told:?}");
            session.wait(Duration::from_millis(10));
            session.poll(&mut |tag, reply| told.push((tag, reply.outcome)));
        }
        told
    }

    #[test]
    fn what_is_due_together_shares_a_link_and_a_burst_goes_over_all_of_them() {
        let listener = TcpListener::bind("127.0.0.1:0").expect("bound");
        let at = listener.local_addr().expect("an address");
        let codec = FrameCodec::new(None, 1_000);
        let mut session = LinkSession::new(Box::new(NoHttp), (at, 3), codec, 100, Arc::default()).expect("links");
        let on = |session: &LinkSession<FrameCodec>| [0, 1, 2].map(|link| session.flights.of_line(link).len());
        (0..5).for_each(|tag| submit(&mut session, tag));
        assert_eq!(on(&session), [5, 0, 0]);
        session.turn(Duration::ZERO);
        session.turn(Duration::ZERO);
        (0..3).for_each(|tag| submit(&mut session, tag));
        assert_eq!(on(&session), [5, 3, 0]);
        session.turn(Duration::ZERO);
        (0..40).for_each(|tag| submit(&mut session, tag));
        assert_eq!(on(&session), [21, 11, 16], "the third, the first, the second");
    }

    #[test]
    fn what_is_in_doubt_goes_out_again_with_its_key_and_is_answered_once() {
        let (at, served) = server(vec![
            |peer| {
                let commands = [peer.command(), peer.command()];
                peer.reply(&commands[1], Outcome::Approved);
            },
            |_| {}, // it ends before anything is taken
            |peer| {
                let again = peer.command();
                peer.reply(&again, Outcome::Approved);
            },
        ]);
        let (mut session, transport) = session(at);
        submit(&mut session, 1);
        submit(&mut session, 2);
        assert_eq!(answers(&mut session, 2), [(2, Outcome::Approved), (1, Outcome::Approved)]);
        assert_eq!(served.join().expect("served"), [1, 2, 1]);
        assert_eq!(transport.fault(), None);
    }

    /// That the repeat did nothing says nothing of the first time.
    #[test]
    fn a_repeat_that_is_answered_busy_leaves_its_outcome_open() {
        let (at, served) = server(vec![|peer| _ = peer.command(), |peer| {
            let again = peer.command();
            peer.reply(&again, Outcome::Busy);
            let first = peer.command();
            peer.reply(&first, Outcome::Busy);
        }]);
        let (mut session, _) = session(at);
        submit(&mut session, 1);
        assert_eq!(answers(&mut session, 1), [(1, Outcome::InProgress)]);
        submit(&mut session, 2);
        assert_eq!(answers(&mut session, 1), [(2, Outcome::Busy)], "one that was never in doubt");
        assert_eq!(served.join().expect("served"), [1, 1, 2]);
    }

    #[test]
    fn a_second_answer_is_nobodys_and_ends_the_run() {
        let (at, served) = server(vec![|peer| {
            let first = peer.command();
            peer.reply(&first, Outcome::Approved);
            let second = peer.command();
            peer.reply(&first, Outcome::Approved);
            peer.reply(&second, Outcome::Approved);
        }]);
        let (mut session, transport) = session(at);
        submit(&mut session, 1);
        assert_eq!(answers(&mut session, 1), [(1, Outcome::Approved)]);
        submit(&mut session, 2);
        assert_eq!(answers(&mut session, 1), [(2, Outcome::SystemError)]);
        assert!(transport.fault().expect("a fault").contains("a second one"));
        served.join().expect("served");
    }

    #[test]
    fn an_idle_link_that_ends_is_no_trouble_and_one_that_is_not_believed_is() {
        let (at, served) = server(vec![|peer| peer.say(|out| goodbye(out, reason::IDLE)), |peer| {
            let command = peer.command();
            peer.reply(&command, Outcome::Approved);
            peer.say(|out| goodbye(out, reason::UNAUTHENTICATED));
        }]);
        let (mut session, transport) = session(at);
        for _ in 0..20 {
            session.wait(Duration::from_millis(10));
        }
        assert_eq!(transport.fault(), None);
        submit(&mut session, 1);
        assert_eq!(answers(&mut session, 1), [(1, Outcome::Approved)]);
        served.join().expect("served");
        while transport.fault().is_none() {
            session.wait(Duration::from_millis(10));
        }
        assert!(transport.fault().expect("a fault").contains("reason 2"));
    }
}
