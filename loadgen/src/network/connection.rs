//! One connection: a socket that never blocks, what is still to be written, what was read, and the requests that wait for their
//! responses.
//!
//! Owns bytes and their order: responses come in the order of the requests (RFC 9112, section 9.3.2). Refuses to know commands:
//! a request is a list of flight numbers.

use std::collections::VecDeque;
use std::io::{ErrorKind, Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::ops::Range;
use std::os::fd::OwnedFd;

use rustix::event::epoll::{self, EventData, EventFlags};
use rustix::net::{AddressFamily, SocketFlags, SocketType};

use super::response::{self, Head};

/// What is read at once, bytes, until a response needs more.
const READ_BYTES: usize = 16 * 1024;

/// A request that was written.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Request {
    /// How many commands it holds.
    pub(crate) commands: usize,
    /// Whether it is a batch (of one, too).
    pub(crate) is_batch: bool,
}

/// A connection.
#[derive(Debug, Default)]
pub(crate) struct Connection {
    socket: Option<TcpStream>,
    is_up: bool,
    can_write: bool,
    /// To be written, from `written` on.
    pub(crate) out: Vec<u8>,
    written: usize,
    input: Vec<u8>,
    /// Bytes of `input` that are taken, and that are there.
    taken: usize,
    filled: usize,
    head: Option<Head>,
    requests: VecDeque<Request>,
    /// The flights of all requests, oldest first.
    flights: VecDeque<u32>,
}

/// How a socket stands after something was done with it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Stand {
    /// It goes on.
    Open,
    /// It ended: the other side closed or reset it, or it cannot be reached.
    Ended,
}

impl Connection {
    /// Begins to connect. What becomes of it is an event.
    ///
    /// # Errors
    /// When it cannot even begin.
    pub(crate) fn connect(&mut self, epoll: &OwnedFd, number: u64, address: SocketAddr) -> std::io::Result<()> {
        let family = if address.is_ipv4() { AddressFamily::INET } else { AddressFamily::INET6 };
        let flags = SocketFlags::NONBLOCK | SocketFlags::CLOEXEC;
        let socket = rustix::net::socket_with(family, SocketType::STREAM, flags, None)?;
        match rustix::net::connect(&socket, &address) {
            Ok(()) | Err(rustix::io::Errno::INPROGRESS) => {}
            Err(error) => return Err(error.into()),
        }
        let socket = TcpStream::from(socket);
        socket.set_nodelay(true)?;
        let wanted = EventFlags::IN | EventFlags::OUT | EventFlags::RDHUP | EventFlags::ET;
        epoll::add(epoll, &socket, EventData::new_u64(number), wanted)?;
        self.socket = Some(socket);
        Ok(())
    }

    /// Whether it is connected.
    pub(crate) const fn is_up(&self) -> bool {
        self.is_up
    }

    /// Requests that wait for their response.
    pub(crate) fn in_flight(&self) -> usize {
        self.requests.len()
    }

    /// Notes a request that was put into `out`.
    pub(crate) fn requested(&mut self, request: Request) {
        self.requests.push_back(request);
    }

    /// Notes a flight of the request that is being written.
    pub(crate) fn carries(&mut self, flight: u32) {
        self.flights.push_back(flight);
    }

    /// The kernel has room, or the connection stands.
    pub(crate) fn writable(&mut self) -> Stand {
        let Some(socket) = &self.socket else { return Stand::Ended };
        if !self.is_up && !matches!(rustix::net::sockopt::socket_error(socket), Ok(Ok(()))) {
            return Stand::Ended;
        }
        (self.is_up, self.can_write) = (true, true);
        self.write()
    }

    /// Writes what the kernel takes.
    pub(crate) fn write(&mut self) -> Stand {
        let Some(socket) = &mut self.socket else { return Stand::Ended };
        while self.can_write && self.written < self.out.len() {
            match socket.write(&self.out[self.written..]) {
                Ok(0) => return Stand::Ended,
                Ok(written) => self.written += written,
                Err(error) if error.kind() == ErrorKind::WouldBlock => self.can_write = false,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(_) => return Stand::Ended,
            }
        }
        if self.written == self.out.len() {
            self.out.clear();
            self.written = 0;
        }
        Stand::Open
    }

    /// Reads once. How many bytes came, and whether more may be there already; `None`: it ended.
    pub(crate) fn read(&mut self) -> Option<(usize, bool)> {
        let socket = self.socket.as_mut()?;
        if self.taken == self.filled {
            (self.taken, self.filled) = (0, 0);
        }
        let wanted = self.head.map_or(READ_BYTES, |head| (head.own_bytes + head.body_bytes).max(READ_BYTES));
        if self.input.len() < self.taken + wanted || self.filled == self.input.len() {
            self.input.copy_within(self.taken..self.filled, 0);
            (self.filled, self.taken) = (self.filled - self.taken, 0);
            // A head without an end is refused before this grows far.
            let size = wanted.max(self.filled + READ_BYTES);
            if self.input.len() < size {
                self.input.resize(size, 0);
            }
        }
        loop {
            match socket.read(&mut self.input[self.filled..]) {
                Ok(0) => return None,
                Ok(read) => {
                    self.filled += read;
                    return Some((read, self.filled == self.input.len()));
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Some((0, false)),
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(_) => return None,
            }
        }
    }

    /// The next response that is whole: its head, where its body lies, and the request that it answers.
    ///
    /// # Errors
    /// When what came is no response, or nobody asked for it.
    pub(crate) fn response(&mut self) -> Result<Option<(Head, Range<usize>, Request)>, String> {
        if self.head.is_none() {
            if self.taken == self.filled {
                return Ok(None);
            }
            self.head = response::head(&self.input[self.taken..self.filled])?;
        }
        let Some(head) = self.head else { return Ok(None) };
        if self.filled - self.taken < head.own_bytes + head.body_bytes {
            return Ok(None);
        }
        let request = self.requests.pop_front().ok_or("a response came that nobody asked for")?;
        let from = self.taken + head.own_bytes;
        self.taken = from + head.body_bytes;
        self.head = None;
        Ok(Some((head, from..self.taken, request)))
    }

    /// Bytes that were read.
    pub(crate) fn bytes(&self, range: Range<usize>) -> &[u8] {
        &self.input[range]
    }

    /// The oldest flight: that of the response just taken.
    pub(crate) fn landed(&mut self) -> Option<u32> {
        self.flights.pop_front()
    }

    /// Ends it. What was in flight, oldest first, is in doubt: nobody knows how much of it the other side has read.
    pub(crate) fn end(&mut self) -> VecDeque<u32> {
        let (flights, out, input) =
            (std::mem::take(&mut self.flights), std::mem::take(&mut self.out), std::mem::take(&mut self.input));
        *self = Self { out, input, ..Self::default() };
        self.out.clear();
        flights
    }
}
