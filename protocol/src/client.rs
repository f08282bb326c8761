//! A client of the binary door over any stream of bytes: commands sent ahead, replies in any order, matched by their tags.
//!
//! Owns the greeting, the two buffers and their order: what was sent goes out at the latest when a reply is asked for. Refuses to repeat:
//! when a connection ends, what was not answered is in doubt, and the caller sends it again with its key, or looks it up.

use std::io::{Read, Write};
use std::net::{TcpStream, ToSocketAddrs};

use zerocopy::IntoBytes as _;

use crate::frames::{Command, FRAME_BYTES_MAX, Frame, NoFrame, Reply, VERSION, hello};

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
}

impl std::fmt::Display for ClientError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Io(error) => write!(f, "the connection: {error}"),
            Self::Goodbye(reason) => write!(f, "the server ended the connection, reason {reason}"),
            Self::Version(version) => write!(f, "the server speaks version {version} of the frames, not {VERSION}"),
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
    out: Vec<u8>,
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
        let mut client = Self { stream, out, input, taken: 0, filled: 0, tenant: 0, in_flight_max: 0 };
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

    /// Sends a command; at the latest with [`Client::flush`] or [`Client::receive`].
    ///
    /// # Errors
    /// [`ClientError::Io`].
    pub fn send(&mut self, command: &Command) -> Result<(), ClientError> {
        self.out.extend_from_slice(command.as_bytes());
        if self.out.len() >= WRITE_BYTES { self.flush() } else { Ok(()) }
    }

    /// Writes what was sent.
    ///
    /// # Errors
    /// [`ClientError::Io`].
    pub fn flush(&mut self) -> Result<(), ClientError> {
        self.stream.write_all(&self.out)?;
        self.out.clear();
        Ok(self.stream.flush()?)
    }

    /// The next reply; waits for it.
    ///
    /// # Errors
    /// [`ClientError`].
    pub fn receive(&mut self) -> Result<Reply, ClientError> {
        if !self.out.is_empty() {
            self.flush()?;
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
        let read = self.stream.read(&mut self.input[self.filled..])?;
        if read == 0 {
            return Err(ClientError::Io(std::io::ErrorKind::UnexpectedEof.into()));
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

    #[test]
    fn a_server_that_does_not_welcome_is_an_error() {
        let refused = pieces(3, |bytes| goodbye(bytes, reason::UNAUTHENTICATED));
        let refused = Client::greet(Told(refused, Vec::new()), "x");
        assert!(matches!(refused, Err(ClientError::Goodbye(reason::UNAUTHENTICATED))));
        let other = Client::greet(Told(vec![b"HTTP/1.1 400 Bad Request".to_vec()], Vec::new()), "x");
        assert!(matches!(other, Err(ClientError::Protocol)));
        let ended = Client::greet(Told(Vec::new(), Vec::new()), "x");
        assert!(matches!(ended, Err(ClientError::Io(_))));
    }
}
