//! A client of the binary door over any stream of bytes: commands sent ahead, replies in any order, matched by their tags.
//!
//! Owns the greeting, the two buffers and their order: what was sent goes out at the latest when a reply is asked for. Refuses to repeat:
//! when a connection ends, what was not answered is in doubt, and the caller sends it again with its key, or looks it up.

use std::io::{ErrorKind, Read, Write};
use std::net::{TcpStream, ToSocketAddrs};

use zerocopy::IntoBytes as _;

use crate::frames::{CREDENTIAL_BYTES_MAX, Command, FRAME_BYTES_MAX, Frame, NoFrame, Reply, VERSION, hello};

/// What is read at once, bytes.
const READ_BYTES: usize = 64 * 1024;
/// What is gathered before it is written, bytes.
const WRITE_BYTES: usize = 64 * 1024;

/// Why nothing more comes.
#[derive(Debug)]
#[non_exhaustive]
pub enum ClientError {
    /// The connection.
    Io(std::io::Error),
    /// The server ended it: one of [`crate::frames::reason`].
    Goodbye(u8),
    /// The server speaks another version.
    Version(u16),
    /// The server sent something that it does not send there.
    Protocol,
    /// The credential is longer than any is ([`CREDENTIAL_BYTES_MAX`]).
    Credential,
}

impl std::fmt::Display for ClientError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Io(error) => write!(f, "the connection: {error}"),
            Self::Goodbye(reason) => write!(f, "the server ended the connection, reason {reason}"),
            Self::Version(version) => write!(f, "the server speaks version {version} of the frames, not {VERSION}"),
            Self::Credential => f.write_str("the credential is too long"),
            Self::Protocol => f.write_str("the server sent what it does not send there"),
        }
    }
}

impl std::error::Error for ClientError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Io(error) => Some(error),
            _ => None,
        }
    }
}

impl From<std::io::Error> for ClientError {
    fn from(error: std::io::Error) -> Self {
        Self::Io(error)
    }
}

impl From<NoFrame> for ClientError {
    fn from(_: NoFrame) -> Self {
        Self::Protocol
    }
}

/// A connection that was greeted.
#[derive(Debug)]
pub struct Client<S = TcpStream> {
    stream: S,
    /// To be written, from `written` on.
    out: Vec<u8>,
    written: usize,
    /// Why nothing more can be written. What the server said before can still be received.
    broken: Option<ErrorKind>,
    input: Vec<u8>,
    taken: usize,
    filled: usize,
    tenant: u32,
    in_flight_max: usize,
}

impl Client<TcpStream> {
    /// Connects in plain text and says who calls. For TLS make the stream and use [`Client::greet`].
    ///
    /// # Errors
    /// [`ClientError`].
    pub fn connect(address: impl ToSocketAddrs, credential: &str) -> Result<Self, ClientError> {
        let stream = TcpStream::connect(address)?;
        stream.set_nodelay(true)?;
        Self::greet(stream, credential)
    }
}

impl<S: Read + Write> Client<S> {
    /// Says who calls on a stream that is open: with a key or a token, or with nothing where a client certificate said it.
    ///
    /// # Errors
    /// [`ClientError`].
    pub fn greet(stream: S, credential: &str) -> Result<Self, ClientError> {
        let (out, input) = (Vec::with_capacity(WRITE_BYTES), vec![0; READ_BYTES]);
        if credential.len() > CREDENTIAL_BYTES_MAX {
            return Err(ClientError::Credential);
        }
        let (written, broken, taken, filled) = (0, None, 0, 0);
        let mut client = Self { stream, out, written, broken, input, taken, filled, tenant: 0, in_flight_max: 0 };
        hello(&mut client.out, credential.as_bytes());
        client.flush()?;
        loop {
            if let Some((frame, total)) = Frame::read(&client.input[client.taken..client.filled])? {
                let Frame::Welcome(welcome) = frame else { return Err(unexpected(frame)) };
                if welcome.version.get() != VERSION {
                    return Err(ClientError::Version(welcome.version.get()));
                }
                (client.tenant, client.in_flight_max) =
                    (welcome.tenant.get(), usize::try_from(welcome.in_flight_max.get()).unwrap_or(usize::MAX));
                client.taken += total;
                return Ok(client);
            }
            client.fill()?;
        }
    }

    /// The caller's tenant.
    pub const fn tenant(&self) -> u32 {
        self.tenant
    }

    /// Commands that may be under way. Who sends more without receiving may wait for ever: the server reads nothing more then.
    pub const fn in_flight_max(&self) -> usize {
        self.in_flight_max
    }

    /// Sends a command; at the latest with [`Client::flush`] or [`Client::receive`]. Who sends more than [`Client::in_flight_max`] ahead and
    /// receives nothing meanwhile may wait for ever.
    ///
    /// # Errors
    /// [`ClientError::Io`]. Whether a command that was sent before it arrived is not known: it is looked up, or sent again with its key.
    pub fn send(&mut self, command: &Command) -> Result<(), ClientError> {
        self.out.extend_from_slice(command.as_bytes());
        if self.out.len() >= WRITE_BYTES { self.flush() } else { Ok(()) }
    }

    /// Writes what was sent.
    ///
    /// # Errors
    /// [`ClientError::Io`].
    pub fn flush(&mut self) -> Result<(), ClientError> {
        if let Some(kind) = self.broken {
            return Err(ClientError::Io(kind.into()));
        }
        self.write().map_err(|error| {
            // A stream that may wait no longer goes on where it stopped; any other end is the end.
            if !matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) {
                self.broken = Some(error.kind());
            }
            ClientError::Io(error)
        })
    }

    fn write(&mut self) -> std::io::Result<()> {
        while self.written < self.out.len() {
            match self.stream.write(&self.out[self.written..]) {
                Ok(0) => return Err(ErrorKind::WriteZero.into()),
                Ok(count) => self.written += count,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        self.out.clear();
        self.written = 0;
        self.stream.flush()
    }

    /// The next reply; waits for it.
    ///
    /// # Errors
    /// [`ClientError`].
    pub fn receive(&mut self) -> Result<Reply, ClientError> {
        // What cannot be written says nothing of what was said before.
        if !self.out.is_empty()
            && let Err(error) = self.flush()
            && self.broken.is_none()
        {
            return Err(error);
        }
        loop {
            if let Some((frame, total)) = Frame::read(&self.input[self.taken..self.filled])? {
                let Frame::Reply(reply) = frame else { return Err(unexpected(frame)) };
                let reply = *reply;
                self.taken += total;
                return Ok(reply);
            }
            self.fill()?;
        }
    }

    fn fill(&mut self) -> Result<(), ClientError> {
        if self.input.len() - self.filled < FRAME_BYTES_MAX {
            self.input.copy_within(self.taken..self.filled, 0);
            (self.filled, self.taken) = (self.filled - self.taken, 0);
        }
        let read = loop {
            match self.stream.read(&mut self.input[self.filled..]) {
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                read => break read?,
            }
        };
        if read == 0 {
            return Err(ClientError::Io(ErrorKind::UnexpectedEof.into()));
        }
        self.filled += read;
        Ok(())
    }
}

fn unexpected(frame: Frame<'_>) -> ClientError {
    match frame {
        Frame::Goodbye(reason) => ClientError::Goodbye(reason),
        _ => ClientError::Protocol,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::frames::{goodbye, reason, verb, welcome};

    /// What a server says, in pieces, and what was said to it.
    struct Told(Vec<Vec<u8>>, Vec<u8>);

    impl Read for Told {
        fn read(&mut self, out: &mut [u8]) -> std::io::Result<usize> {
            if self.0.is_empty() {
                return Ok(0);
            }
            let piece = self.0.remove(0);
            out[..piece.len()].copy_from_slice(&piece);
            Ok(piece.len())
        }
    }

    impl Write for Told {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.1.extend_from_slice(bytes);
            Ok(bytes.len())
        }
        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }

    fn pieces(of: usize, says: impl FnOnce(&mut Vec<u8>)) -> Vec<Vec<u8>> {
        let mut bytes = Vec::new();
        says(&mut bytes);
        bytes.chunks(of).map(<[u8]>::to_vec).collect()
    }

    #[test]
    fn replies_come_in_pieces_of_any_size_and_commands_go_before_they_are_waited_for() {
        for of in [1, 7, 151, 152, 1000] {
            let said = pieces(of, |bytes| {
                welcome(bytes, 9, 16);
                for tag in 0..3 {
                    bytes.extend_from_slice(Reply::new(tag, 0, 201).as_bytes());
                }
                goodbye(bytes, reason::STOPPING);
            });
            let mut client = Client::greet(Told(said, Vec::new()), "key").expect("welcome");
            assert_eq!((client.tenant(), client.in_flight_max()), (9, 16));
            client.send(&Command::new(verb::LOOKUP, 1, 1)).expect("room");
            for tag in 0..3 {
                assert_eq!(client.receive().expect("a reply").tag.get(), tag);
            }
            assert!(matches!(client.receive(), Err(ClientError::Goodbye(reason::STOPPING))));
            let mut expected = Vec::new();
            hello(&mut expected, b"key");
            assert_eq!(client.stream.1.len(), expected.len() + size_of::<Command>());
        }
    }

    /// A peer that takes so many bytes and then lets wait, or is gone.
    struct Slow {
        said: Told,
        takes: usize,
        then: ErrorKind,
    }

    impl Read for Slow {
        fn read(&mut self, out: &mut [u8]) -> std::io::Result<usize> {
            self.said.read(out)
        }
    }

    impl Write for Slow {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            if self.takes == 0 {
                return Err(self.then.into());
            }
            let count = bytes.len().min(self.takes);
            self.takes -= count;
            self.said.write(&bytes[..count])
        }
        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }

    /// A command that is cut and begun anew would be read as another one.
    #[test]
    fn a_write_that_stops_in_a_command_goes_on_where_it_stopped() {
        let said = pieces(1000, |bytes| welcome(bytes, 1, 16));
        let slow = Slow { said: Told(said, Vec::new()), takes: 100, then: ErrorKind::TimedOut };
        let mut client = Client::greet(slow, "key").expect("welcome");
        client.send(&Command::new(verb::LOOKUP, 1, 1)).expect("room");
        assert!(matches!(client.flush(), Err(ClientError::Io(error)) if error.kind() == ErrorKind::TimedOut));
        client.stream.takes = 1000;
        client.send(&Command::new(verb::LOOKUP, 2, 2)).expect("room");
        client.flush().expect("written");
        let mut expected = Vec::new();
        hello(&mut expected, b"key");
        for tag in 1..=2 {
            expected.extend_from_slice(Command::new(verb::LOOKUP, tag, tag.into()).as_bytes());
        }
        assert_eq!(client.stream.said.1, expected);
    }

    #[test]
    fn what_was_said_before_the_connection_broke_is_received() {
        let said = pieces(1000, |bytes| {
            welcome(bytes, 1, 16);
            bytes.extend_from_slice(Reply::new(7, 0, 201).as_bytes());
            goodbye(bytes, reason::STOPPING);
        });
        let slow = Slow { said: Told(said, Vec::new()), takes: 11, then: ErrorKind::BrokenPipe };
        let mut client = Client::greet(slow, "key").expect("welcome");
        client.send(&Command::new(verb::LOOKUP, 1, 1)).expect("room");
        assert_eq!(client.receive().expect("a reply").tag.get(), 7);
        assert!(matches!(client.receive(), Err(ClientError::Goodbye(reason::STOPPING))));
        assert!(matches!(client.flush(), Err(ClientError::Io(_))));
    }

    #[test]
    fn a_server_that_does_not_welcome_is_an_error() {
        let refused = pieces(3, |bytes| goodbye(bytes, reason::UNAUTHENTICATED));
        let refused = Client::greet(Told(refused, Vec::new()), "x");
        assert!(matches!(refused, Err(ClientError::Goodbye(reason::UNAUTHENTICATED))));
        let other = Client::greet(Told(vec![b"HTTP/1.1 400 Bad Request".to_vec()], Vec::new()), "x");
        assert!(matches!(other, Err(ClientError::Protocol)));
        let long = Client::greet(Told(Vec::new(), Vec::new()), &"x".repeat(CREDENTIAL_BYTES_MAX + 1));
        assert!(matches!(long, Err(ClientError::Credential)));
        let ended = Client::greet(Told(Vec::new(), Vec::new()), "x");
        assert!(matches!(ended, Err(ClientError::Io(_))));
    }
}
