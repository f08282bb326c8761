//! A session whose authorizations go as card messages (ISO 8583), over a few links; everything else goes over HTTP.
//!
//! Owns the links, the way from a command to a message and from an answer to a reply. An answer has no event's number and no authorization's
//! id, so what needs those is not sent here (the command line refuses it). Refuses to interpret silence: a message that is not
//! answered ends the run.
//!
//! ```text
//!   key (128 bits) ─► reference (37): 60 bits, terminal (41): 40 bits     STAN (11): the place among those in flight, which matches answers
//! ```
//! A link that breaks is made again, and what was in flight on it goes out again as 0101.

use std::collections::VecDeque;
use std::io::{ErrorKind, Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use rustix::event::{PollFd, PollFlags};
use tp_iso8583::{EncodeError, FRAME_HEAD_BYTES, Layout, Message, Mti, frame_into, frame_length};
use tpcore::{Amount, Authorize, Command, Outcome, Reply};

use super::session::GIVE_UP;
use super::transport::Transport;
use crate::plan::card_number;
use crate::target::Session;

/// What is read at once, bytes.
const READ_BYTES: usize = 64 * 1024;

/// A message that was sent and not answered.
struct Flight {
    tag: u64,
    link: usize,
    sent: Instant,
    command: Authorize,
}

/// One link.
struct Link {
    stream: TcpStream,
    /// To be written, from `written` on.
    out: Vec<u8>,
    written: usize,
    input: Vec<u8>,
    filled: usize,
    /// In the order of sending; answered ones are left in until they come to the front.
    order: VecDeque<u32>,
}

/// A session over links.
pub(super) struct CardSession {
    http: Box<dyn Session>,
    address: SocketAddr,
    layout: Layout,
    links: Vec<Link>,
    next: usize,
    flights: Vec<Option<Flight>>,
    free: Vec<u32>,
    replies: Vec<(u64, Reply)>,
    message: Message,
    transport: Arc<Transport>,
    has_failed: bool,
}

fn connect(address: SocketAddr) -> std::io::Result<Link> {
    let stream = TcpStream::connect_timeout(&address, Duration::from_secs(10))?;
    stream.set_nodelay(true)?;
    stream.set_nonblocking(true)?;
    Ok(Link { stream, out: Vec::new(), written: 0, input: vec![0; READ_BYTES], filled: 0, order: VecDeque::new() })
}

impl CardSession {
    /// Connects.
    ///
    /// # Errors
    /// When a link cannot be made.
    pub(super) fn new(
        http: Box<dyn Session>,
        (address, links): (SocketAddr, usize),
        layout: Layout,
        in_flight: usize,
        transport: Arc<Transport>,
    ) -> Result<Self> {
        let links = (0..links).map(|_| connect(address)).collect::<std::io::Result<_>>();
        let places = in_flight.min(STANS);
        Ok(Self {
            http,
            address,
            layout,
            links: links.with_context(|| format!("no link to {address}"))?,
            next: 0,
            flights: (0..places).map(|_| None).collect(),
            free: (0..u32::try_from(places).unwrap_or(u32::MAX)).rev().collect(),
            replies: Vec::new(),
            message: Message::new(Mti::NONE),
            transport,
            has_failed: false,
        })
    }

    /// Puts a message behind what is to be written on a link.
    fn put(&mut self, place: u32, mti: [u8; 4]) {
        let Some(flight) = &self.flights[place as usize] else { return };
        fill(&mut self.message, Mti::from_digits(mti).unwrap_or(Mti::NONE), place, &flight.command);
        let link = &mut self.links[flight.link];
        link.order.push_back(place);
        let (layout, message) = (&self.layout, &self.message);
        let put = frame_into(&mut link.out, |out| layout.encode(message, out));
        if let Err(error) = put.map_err(|error: EncodeError| error.to_string()) {
            self.fail(&format!("a card message does not fit the layout: {error}"));
        }
    }

    fn land(&mut self, place: u32, reply: Reply) {
        if let Some(flight) = self.flights.get_mut(place as usize).and_then(Option::take) {
            self.replies.push((flight.tag, reply));
            self.free.push(place);
        }
    }

    /// Ends everything: what is in flight is answered with `system_error`, and so is what comes.
    fn fail(&mut self, what: &str) {
        self.has_failed = true;
        self.transport.fail(what);
        for place in 0..self.flights.len() {
            self.land(u32::try_from(place).unwrap_or(u32::MAX), Reply::bare(Outcome::SystemError));
        }
    }

    /// Writes and reads what can be without waiting.
    fn turn(&mut self) {
        for at in 0..self.links.len() {
            if self.has_failed {
                return;
            }
            let stands = self.write(at) && self.read(at);
            if !stands && !self.has_failed {
                self.renew(at);
            }
        }
    }

    /// `false`: the link has ended.
    fn write(&mut self, at: usize) -> bool {
        let link = &mut self.links[at];
        while link.written < link.out.len() {
            match link.stream.write(&link.out[link.written..]) {
                Ok(0) => return false,
                Ok(written) => link.written += written,
                Err(error) if error.kind() == ErrorKind::WouldBlock => return true,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(_) => return false,
            }
        }
        link.out.clear();
        link.written = 0;
        true
    }

    fn read(&mut self, at: usize) -> bool {
        loop {
            let link = &mut self.links[at];
            let read = match link.stream.read(&mut link.input[link.filled..]) {
                Ok(0) => return false,
                Ok(read) => read,
                Err(error) if error.kind() == ErrorKind::WouldBlock => return true,
                Err(error) if error.kind() == ErrorKind::Interrupted => continue,
                Err(_) => return false,
            };
            link.filled += read;
            let is_all = link.filled < link.input.len();
            self.take(at);
            if is_all || self.has_failed {
                return true;
            }
        }
    }

    /// Takes the whole frames of a link's input.
    fn take(&mut self, at: usize) {
        let mut taken = 0;
        loop {
            let link = &self.links[at];
            let Some((head, rest)) = link.input[taken..link.filled].split_first_chunk::<FRAME_HEAD_BYTES>() else {
                break;
            };
            let Some(body) = rest.get(..frame_length(*head)) else { break };
            taken += FRAME_HEAD_BYTES + body.len();
            if let Err(error) = self.layout.decode(body, &mut self.message) {
                return self.fail(&format!("an answer cannot be read: {error}"));
            }
            match answered(&self.message) {
                Ok((place, reply)) => self.land(place, reply),
                Err(what) => return self.fail(&what),
            }
        }
        let link = &mut self.links[at];
        link.input.copy_within(taken..link.filled, 0);
        link.filled -= taken;
    }

    /// Makes a link again, and sends what was in flight on it once more.
    fn renew(&mut self, at: usize) {
        let flights = &self.flights;
        let is_open = |place: &u32| flights[*place as usize].as_ref().is_some_and(|flight| flight.link == at);
        let mut in_doubt: Vec<u32> = self.links[at].order.iter().copied().filter(is_open).collect();
        in_doubt.sort_unstable();
        in_doubt.dedup();
        self.transport.broke(true, in_doubt.len());
        match connect(self.address) {
            Ok(link) => self.links[at] = link,
            Err(error) => return self.fail(&format!("a link ended and cannot be made again: {error}")),
        }
        for place in in_doubt {
            self.put(place, *b"0101");
        }
    }

    /// Whether something is not answered for too long.
    fn look_for_silence(&mut self) {
        for at in 0..self.links.len() {
            let link = &mut self.links[at];
            let flights = &self.flights;
            while let Some(place) = link.order.front().copied() {
                match &flights[place as usize] {
                    Some(flight) if flight.link == at && flight.sent.elapsed() > GIVE_UP => {
                        return self.fail(&format!("a card message was not answered for {} s", GIVE_UP.as_secs()));
                    }
                    Some(flight) if flight.link == at => break,
                    _ => _ = link.order.pop_front(),
                }
            }
        }
    }
}

/// Places in flight at most: STANs are six digits.
const STANS: usize = 999_999;

/// An authorization as a card message.
fn fill(message: &mut Message, mti: Mti, place: u32, command: &Authorize) {
    message.clear(mti);
    let bits = command.key.bits;
    let (mut reference, mut terminal) = ([0; 12], [0; 8]);
    base32(bits, &mut reference);
    base32(bits >> 60, &mut terminal);
    message.set(2, &card_number(command.account));
    message.set(3, b"000000");
    message.set(4, &digits::<12>(command.amount.get()));
    message.set(7, b"0101000000");
    message.set(11, &digits::<6>(u128::from(place) + 1));
    message.set(13, b"0101");
    message.set(32, b"12345");
    message.set(37, &reference);
    message.set(41, &terminal);
    message.set(49, b"978");
}

/// Five bits a character, the lowest first.
fn base32(mut bits: u128, out: &mut [u8]) {
    for place in out {
        *place = b"0123456789ABCDEFGHIJKLMNOPQRSTUV"[usize::try_from(bits & 31).unwrap_or(0)];
        bits >>= 5;
    }
}

fn digits<const N: usize>(mut number: u128) -> [u8; N] {
    let mut digits = [b'0'; N];
    for digit in digits.iter_mut().rev() {
        *digit += u8::try_from(number % 10).unwrap_or(0);
        number /= 10;
    }
    digits
}

/// Whose answer it is, and what it says.
fn answered(message: &Message) -> Result<(u32, Reply), String> {
    let stan = message.number(11).and_then(|stan| u32::try_from(stan).ok()).filter(|stan| *stan > 0);
    let place = stan.ok_or("an answer has no STAN")? - 1;
    let outcome = match message.text(39).unwrap_or_default() {
        "00" => Outcome::Approved,
        "10" => Outcome::ApprovedPartially,
        "51" => Outcome::InsufficientFunds,
        "61" => Outcome::AmountLimit,
        "65" => Outcome::CountLimit,
        // Declined because it was late, and undone.
        "68" => Outcome::DeadlineExceeded,
        "91" => Outcome::Busy,
        other => return Err(format!("a card message was answered {other}")),
    };
    let amount = message.number(4).and_then(|amount| Amount::new(u128::from(amount))).unwrap_or(Amount::ZERO);
    let amount = if outcome.is_approval() { amount } else { Amount::ZERO };
    Ok((place, Reply { amount, ..Reply::bare(outcome) }))
}

impl Session for CardSession {
    fn submit(&mut self, tag: u64, command: &Command) -> bool {
        let Command::Authorize(authorize) = command else { return self.http.submit(tag, command) };
        if self.has_failed {
            self.replies.push((tag, Reply::bare(Outcome::SystemError)));
            return true;
        }
        let Some(place) = self.free.pop() else { return false };
        self.next = (self.next + 1) % self.links.len();
        let flight = Flight { tag, link: self.next, sent: Instant::now(), command: authorize.clone() };
        self.flights[place as usize] = Some(flight);
        self.put(place, *b"0100");
        true
    }

    fn poll(&mut self, each: &mut dyn FnMut(u64, Reply)) -> usize {
        self.turn();
        let count = self.replies.len();
        for (tag, reply) in self.replies.drain(..) {
            each(tag, reply);
        }
        count + self.http.poll(each)
    }

    fn wait(&mut self, timeout: Duration) {
        self.turn();
        self.look_for_silence();
        if !self.replies.is_empty() {
            return;
        }
        let mut fds: Vec<PollFd<'_>> = self
            .links
            .iter()
            .map(|link| {
                let writes = if link.out.is_empty() { PollFlags::empty() } else { PollFlags::OUT };
                PollFd::new(&link.stream, PollFlags::IN | writes)
            })
            .collect();
        let timeout = rustix::event::Timespec {
            tv_sec: i64::try_from(timeout.as_secs()).unwrap_or(i64::MAX),
            tv_nsec: timeout.subsec_nanos().into(),
        };
        let _ = rustix::event::poll(&mut fds, Some(&timeout)); // an interruption is an empty answer: the caller comes again
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::{account, ledger};
    use tpcore::Key;

    fn authorize(bits: u128, amount: u64) -> Authorize {
        Authorize::new(Key::opaque(bits), account(7), ledger(), Amount::from(amount))
    }

    #[test]
    fn an_authorization_is_a_message_that_its_answer_leads_back_from() {
        let mut message = Message::new(Mti::NONE);
        fill(&mut message, Mti::from_digits(*b"0100").expect("digits"), 41, &authorize(u128::MAX, 1250));
        assert_eq!(message.text(2), Some("4000010000000076"));
        assert_eq!((message.text(4), message.text(11)), (Some("000000001250"), Some("000042")));
        assert_eq!((message.text(37), message.text(41)), (Some("VVVVVVVVVVVV"), Some("VVVVVVVV")));
        message.set(39, b"00");
        let (place, reply) = answered(&message).expect("an answer");
        assert_eq!((place, reply.outcome, reply.amount), (41, Outcome::Approved, Amount::from(1250)));
        message.set(39, b"30");
        assert_eq!(answered(&message).expect_err("no outcome"), "a card message was answered 30");
    }

    #[test]
    fn keys_that_differ_in_any_of_their_low_hundred_bits_differ_in_a_field() {
        let fields = |bits| {
            let mut message = Message::new(Mti::NONE);
            fill(&mut message, Mti::NONE, 0, &authorize(bits, 1));
            (message.text(37).map(str::to_owned), message.text(41).map(str::to_owned))
        };
        for bit in 0..100 {
            assert_ne!(fields(0), fields(1 << bit), "bit {bit}");
        }
    }
}
