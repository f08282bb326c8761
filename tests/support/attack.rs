//! What stands around an attack: honest callers meanwhile, and the server's state before and after. And HTTP/2 frames by hand.
//!
//! Owns both. Refuses to judge what the attack itself got.
#![allow(dead_code, reason = "each test binary uses its part")]

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use super::support::{Connection, Gateway};

/// An honest caller that pays one cent after the other while something else goes on. Half of its requests go over one connection that
/// is kept, half over new ones.
pub(crate) struct Honest {
    stop: Arc<AtomicBool>,
    thread: JoinHandle<u64>,
}

impl Honest {
    pub(crate) fn start(gateway: &Gateway) -> Self {
        Self::of(gateway, true)
    }

    /// Over new connections only: for deadlines that a kept one would not survive on a busy machine.
    pub(crate) fn start_anew(gateway: &Gateway) -> Self {
        Self::of(gateway, false)
    }

    fn of(gateway: &Gateway, has_kept: bool) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let (listen, bearer, is_over) = (gateway.listen, format!("Bearer {}", gateway.key), Arc::clone(&stop));
        let thread = std::thread::spawn(move || {
            let mut kept = Connection::open(listen);
            let mut paid = 0u64;
            while !is_over.load(Ordering::Relaxed) || paid < 20 {
                let key = format!("honest-{paid}");
                let headers = [("authorization", bearer.as_str()), ("idempotency-key", key.as_str())];
                let body = r#"{"account":"3","payee":"4","amount":"1","asset":"EUR","scale":2}"#;
                let answer = if has_kept && paid.is_multiple_of(2) {
                    kept.send("POST", "/v1/transfers", &headers, body);
                    kept.answer()
                } else {
                    let mut fresh = Connection::open(listen);
                    fresh.send("POST", "/v1/transfers", &headers, body);
                    fresh.answer()
                };
                assert_eq!(answer.status, 201, "an honest request was not served: {}", answer.text);
                paid += 1;
                std::thread::sleep(Duration::from_millis(2)); // callers think; the attack needs the processor too
            }
            paid
        });
        Self { stop, thread }
    }

    /// Ends it: every payment is in the books, and no other.
    pub(crate) fn end(self, gateway: &Gateway) {
        self.stop.store(true, Ordering::Relaxed);
        let paid = self.thread.join().expect("every honest request was served");
        let account = gateway.get(&gateway.key, "/v1/accounts/4").json();
        assert_eq!(account["balances"]["posted"].as_str(), Some((1_000_000 + paid).to_string().as_str()));
    }
}

/// What the server holds.
pub(crate) struct Held {
    files: usize,
    resident_kib: u64,
}

impl Held {
    pub(crate) fn of(gateway: &Gateway) -> Self {
        Self { files: gateway.open_files(), resident_kib: gateway.resident_kib() }
    }

    /// What it holds once it has given back what it can: the least, when nothing less was seen for two seconds.
    pub(crate) fn settled(gateway: &Gateway) -> Self {
        let (mut least, mut since) = (Self::of(gateway), Instant::now());
        while since.elapsed() < Duration::from_secs(2) {
            std::thread::sleep(Duration::from_millis(20));
            let now = Self::of(gateway);
            if now.resident_kib < least.resident_kib {
                (least, since) = (now, Instant::now());
            }
        }
        least
    }

    /// The server is ready, has let go of every socket, and its memory has grown by no more than `kib`.
    pub(crate) fn is_back(&self, gateway: &Gateway, kib: u64) {
        assert_eq!(gateway.send("GET", "/health/ready", &[], "").status, 200);
        let mut now = Self::of(gateway);
        // The server sees the end of a connection after the peer does. A file of the journal may have been added.
        for _ in 0..1_000 {
            if now.files <= self.files + 2 {
                break;
            }
            std::thread::sleep(Duration::from_millis(10));
            now = Self::of(gateway);
        }
        assert!(now.files <= self.files + 2, "{} files are open, {} before", now.files, self.files);
        let grown = now.resident_kib.saturating_sub(self.resident_kib);
        assert!(grown <= kib, "{grown} KiB more than before");
    }
}

/// The beginning of every HTTP/2 connection.
pub(crate) const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// Frame types and flags (RFC 9113 section 6).
pub(crate) mod h2 {
    pub(crate) const DATA: u8 = 0;
    pub(crate) const HEADERS: u8 = 1;
    pub(crate) const RST_STREAM: u8 = 3;
    pub(crate) const SETTINGS: u8 = 4;
    pub(crate) const PING: u8 = 6;
    pub(crate) const GOAWAY: u8 = 7;
    pub(crate) const WINDOW_UPDATE: u8 = 8;
    pub(crate) const CONTINUATION: u8 = 9;
    pub(crate) const END_STREAM: u8 = 1;
    pub(crate) const END_HEADERS: u8 = 4;
}

/// A frame.
pub(crate) fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).expect("short").to_be_bytes();
    let mut frame = vec![length[1], length[2], length[3], kind, flags];
    frame.extend_from_slice(&stream.to_be_bytes());
    frame.extend_from_slice(payload);
    frame
}

/// A header field of HPACK, written out: not indexed, not compressed.
pub(crate) fn field(name: &str, value: &str) -> Vec<u8> {
    let mut field = vec![0];
    for text in [name, value] {
        assert!(text.len() < 127, "one byte of length");
        field.push(u8::try_from(text.len()).expect("short"));
        field.extend_from_slice(text.as_bytes());
    }
    field
}

/// The fields of a GET.
pub(crate) fn get(path: &str) -> Vec<u8> {
    let fields = [(":method", "GET"), (":scheme", "http"), (":path", path), (":authority", "localhost")];
    fields.iter().flat_map(|(name, value)| field(name, value)).collect()
}

/// The frames of what an HTTP/2 server said: type, flags, stream, payload.
pub(crate) fn frames(mut bytes: &[u8]) -> Vec<(u8, u8, u32, &[u8])> {
    let mut frames = Vec::new();
    while let Some((head, rest)) = bytes.split_at_checked(9) {
        let length = usize::from(head[0]) << 16 | usize::from(head[1]) << 8 | usize::from(head[2]);
        let stream = u32::from_be_bytes([head[5], head[6], head[7], head[8]]);
        let Some((payload, rest)) = rest.split_at_checked(length) else { break };
        frames.push((head[3], head[4], stream, payload));
        bytes = rest;
    }
    frames
}
