//! An acquirer for tests: links, messages, and the fields that all of them have.
//!
//! Owns a blocking client of one link. Its bytes are made by `tp-iso8583`, whose own tests hold it against another implementation.
#![allow(dead_code, reason = "each test binary uses its part")]

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::time::Duration;

use tp_iso8583::{EncodeError, Layout, Message, Mti, frame_into, frame_length};

/// A file of listeners: `more` is added to each.
pub(crate) fn listeners(folder: &Path, more: &str) -> PathBuf {
    let path = folder.join("listeners.toml");
    let one = |name: &str, layout: &str| {
        format!(
            "[[listener]]\nname = '{name}'\nlisten = '127.0.0.1:0'\nlayout = '{layout}'\ntenant = 1\n{more}\n[listener.settlement]\nEUR = '900'\n"
        )
    };
    std::fs::write(&path, one("ascii", "1987-ascii") + &one("bcd", "1987-bcd")).expect("written");
    path
}

/// The setting that names it.
pub(crate) fn setting(path: &Path) -> String {
    format!("cards.listeners={}", path.display())
}

/// One link.
pub(crate) struct Link {
    stream: TcpStream,
    layout: Layout,
}

/// A message of that type with these elements.
pub(crate) fn message(mti: &str, elements: &[(usize, &str)]) -> Message {
    let digits: [u8; 4] = mti.as_bytes().try_into().expect("four digits");
    let mut message = Message::new(Mti::from_digits(digits).expect("digits"));
    for (element, value) in elements {
        message.set(*element, value.as_bytes());
    }
    message
}

/// A transaction of that STAN with what every one has; `more` comes on top.
pub(crate) fn transaction(mti: &str, card: &str, stan: u32, amount: u64, more: &[(usize, &str)]) -> Message {
    let mut message = message(
        mti,
        &[
            (2, card),
            (3, "000000"),
            (4, &format!("{amount:012}")),
            (7, "1127101010"),
            (11, &format!("{stan:06}")),
            (13, "1127"),
            (32, "12345"),
            (37, &format!("RRN{stan:09}")),
            (41, "TERM0001"),
            (49, "978"),
        ],
    );
    for (element, value) in more {
        message.set(*element, value.as_bytes());
    }
    message
}

/// Element 90 of what [`transaction`] makes.
pub(crate) fn original(mti: &str, stan: u32) -> String {
    format!("{mti}{stan:06}11271010100000001234500000000000")
}

impl Link {
    pub(crate) fn open(at: SocketAddr, layout: &str) -> Self {
        let stream = TcpStream::connect(at).expect("a link");
        stream.set_read_timeout(Some(Duration::from_mins(1))).expect("a time-out");
        stream.set_nodelay(true).expect("set");
        Self { stream, layout: Layout::named(layout).expect("it comes along") }
    }

    pub(crate) fn send(&mut self, message: &Message) {
        let mut frame = Vec::new();
        frame_into(&mut frame, |out| self.layout.encode(message, out))
            .unwrap_or_else(|error: EncodeError| panic!("{error}"));
        self.send_bytes(&frame);
    }

    /// Sends; `false`: the link has ended.
    pub(crate) fn try_send(&mut self, message: &Message) -> bool {
        let mut frame = Vec::new();
        let layout = &self.layout;
        frame_into(&mut frame, |out| layout.encode(message, out))
            .unwrap_or_else(|error: EncodeError| panic!("{error}"));
        self.stream.write_all(&frame).is_ok()
    }

    pub(crate) fn send_bytes(&mut self, bytes: &[u8]) {
        self.stream.write_all(bytes).expect("sent");
    }

    /// The next answer; `None`: the link was closed.
    pub(crate) fn answer(&mut self) -> Option<Message> {
        let mut head = [0; 2];
        self.stream.read_exact(&mut head).ok()?;
        let mut body = vec![0; frame_length(head)];
        self.stream.read_exact(&mut body).ok()?;
        let mut message = Message::new(Mti::NONE);
        self.layout.decode(&body, &mut message).unwrap_or_else(|error| panic!("an answer: {error}"));
        Some(message)
    }

    /// Sends and waits for the answer.
    pub(crate) fn call(&mut self, message: &Message) -> Message {
        self.send(message);
        let answer = self.answer().expect("an answer");
        assert_eq!(answer.text(11), message.text(11), "another one's answer");
        answer
    }

    /// Sends and waits for the answer's code.
    pub(crate) fn code(&mut self, message: &Message) -> String {
        self.call(message).text(39).expect("a code").to_owned()
    }

    /// Says that nothing more comes.
    pub(crate) fn shut(&self) {
        self.stream.shutdown(std::net::Shutdown::Write).expect("shut");
    }
}

/// Purchases of one terminal, many in flight, until the server is gone: what was answered, by STAN.
pub(crate) fn pay_until_the_end(
    at: std::net::SocketAddr,
    card: &str,
    terminal: &str,
    round: u32,
    heard: &std::sync::mpsc::Sender<()>,
) -> Vec<(u32, Option<String>)> {
    let mut link = Link::open(at, "1987-bcd");
    let mut sent: Vec<(u32, Option<String>)> = Vec::new();
    let (mut next, mut in_flight) = (round * 10_000, 0);
    loop {
        while in_flight < 16 {
            next += 1;
            sent.push((next, None));
            if !link.try_send(&transaction("0200", card, next, u64::from(next % 97 + 1), &[(41, terminal)])) {
                return sent;
            }
            in_flight += 1;
        }
        let Some(answer) = link.answer() else { return sent };
        in_flight -= 1;
        // Busy: nothing was done. It is sent again after the restart, as what was not answered is.
        if answer.text(39) == Some("91") {
            continue;
        }
        assert_eq!(answer.text(39), Some("00"));
        let stan = u32::try_from(answer.number(11).expect("a STAN")).expect("six digits");
        let approval = answer.text(38).expect("an approval code").to_owned();
        let place = sent.iter_mut().find(|(sent, _)| *sent == stan).expect("it was sent");
        place.1 = Some(approval);
        let _ = heard.send(());
    }
}
