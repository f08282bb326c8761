//! A server that speaks as much of `docs/src/protocol.md` as the generator needs, over an engine in memory, and can be told to
//! misbehave. It shares nothing with the generator's client: requests are taken apart and replies put together here, with
//! `serde_json` values, from the protocol's text.
#![allow(dead_code, reason = "each test binary uses its part")]

mod api;
mod wire;

use std::collections::BTreeSet;
use std::io::{BufReader, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use serde_json::Value;
use tpcore::{Config, Engine};

pub(crate) use wire::Request;

/// The tenant that every caller is.
pub(crate) const TENANT: u32 = 3;
/// The key that it wants.
pub(crate) const KEY: &str = "tp_stub_key";

/// How it misbehaves; nothing by default. "Every n-th" counts requests that are no page and no tenant, all connections together.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Manners {
    /// Responses leave in pieces of so many bytes.
    pub(crate) piece_bytes: Option<usize>,
    /// Responses to what came together leave together.
    pub(crate) coalesces: bool,
    /// After every n-th request the connection ends: in turn before it is executed, after it, and in the middle of its response.
    pub(crate) closes_every: Option<u64>,
    /// Every n-th is not executed: 503 `busy`, 429 `rate_limited`, 503 `deadline_exceeded` in turn.
    pub(crate) refuses_every: Option<u64>,
    /// Every n-th is executed, and answered 504 `in_progress`.
    pub(crate) hides_every: Option<u64>,
    /// What the answers are changed by, told the path and the answer.
    pub(crate) lie: Option<fn(&str, &mut Value)>,
}

/// A server in this process; its threads end with the test.
pub(crate) struct Stub {
    shared: Arc<Shared>,
    address: SocketAddr,
}

pub(crate) struct Shared {
    engine: Engine,
    manners: Manners,
    /// The accounts that were opened, by their id in the API.
    accounts: Mutex<BTreeSet<u128>>,
    requests: AtomicU64,
    batches: AtomicU64,
    connections: AtomicU64,
    /// The most requests that came together on a connection.
    together: AtomicU64,
    /// The misbehaviour begins: the setup is over.
    is_loaded: AtomicBool,
    refused: AtomicU64,
    closed: AtomicU64,
    hidden: AtomicU64,
}

impl Stub {
    pub(crate) fn start(manners: Manners) -> Self {
        let engine = Engine::open(Config { partitions: 2, ..Config::in_memory() }).expect("an engine in memory");
        let zero = AtomicU64::default;
        let shared = Arc::new(Shared {
            engine,
            manners,
            accounts: Mutex::default(),
            requests: zero(),
            batches: zero(),
            connections: zero(),
            together: zero(),
            is_loaded: AtomicBool::new(false),
            refused: zero(),
            closed: zero(),
            hidden: zero(),
        });
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let address = listener.local_addr().expect("bound");
        let serving = Arc::clone(&shared);
        std::thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                let serving = Arc::clone(&serving);
                serving.connections.fetch_add(1, Ordering::Relaxed);
                std::thread::spawn(move || serve(&serving, stream));
            }
        });
        Self { shared, address }
    }

    pub(crate) fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Requests, batches among them, connections, and the most requests that came together on one.
    pub(crate) fn counts(&self) -> [u64; 4] {
        let Shared { requests, batches, connections, together, .. } = &*self.shared;
        [requests, batches, connections, together].map(|count| count.load(Ordering::Relaxed))
    }

    /// How often it refused, closed, and hid an outcome.
    pub(crate) fn misdeeds(&self) -> [u64; 3] {
        let Shared { refused, closed, hidden, .. } = &*self.shared;
        [refused, closed, hidden].map(|count| count.load(Ordering::Relaxed))
    }
}

/// What is done with a connection after a request.
enum After {
    GoOn,
    Close,
}

fn serve(shared: &Shared, stream: TcpStream) {
    let _ = stream.set_nodelay(true); // the connection may be gone already
    let mut writer = stream.try_clone().expect("a handle");
    let mut reader = BufReader::with_capacity(1 << 20, stream);
    let (mut out, mut together) = (Vec::new(), 0);
    while let Some(request) = wire::read(&mut reader) {
        together += 1;
        shared.together.fetch_max(together, Ordering::Relaxed);
        let after = answer(shared, &request, &mut out);
        let waits_for_more = shared.manners.coalesces && !reader.buffer().is_empty();
        if matches!(after, After::GoOn) && waits_for_more {
            continue;
        }
        if !send(&mut writer, &out, shared.manners.piece_bytes) || matches!(after, After::Close) {
            let _ = writer.shutdown(std::net::Shutdown::Both);
            return;
        }
        out.clear();
        if reader.buffer().is_empty() {
            together = 0;
        }
    }
}

fn send(writer: &mut TcpStream, bytes: &[u8], piece: Option<usize>) -> bool {
    let piece = piece.unwrap_or(usize::MAX).min(bytes.len().max(1));
    bytes.chunks(piece).all(|piece| writer.write_all(piece).and_then(|()| writer.flush()).is_ok())
}

fn answer(shared: &Shared, request: &Request, out: &mut Vec<u8>) -> After {
    let is_load = request.is_command();
    let n = if is_load { shared.requests.fetch_add(1, Ordering::Relaxed) + 1 } else { 0 };
    shared.batches.fetch_add(u64::from(request.path == "/v1/batches"), Ordering::Relaxed);
    let is_loaded = is_load && shared.is_loaded.load(Ordering::Relaxed);
    let is_due = |every: Option<u64>| every.is_some_and(|every| is_loaded && n.is_multiple_of(every));
    let manners = shared.manners;
    if request.path.starts_with("/v1/accounts?") {
        shared.is_loaded.store(true, Ordering::Relaxed); // the generator looks at the accounts when the setup is over
    }
    if is_due(manners.closes_every) {
        let closed = shared.closed.fetch_add(1, Ordering::Relaxed);
        if !closed.is_multiple_of(3) {
            let (status, body) = api::handle(shared, request);
            wire::write(out, status, &body);
            out.truncate(if closed % 3 == 1 { 0 } else { out.len() - 9 });
        }
        return After::Close;
    }
    if is_due(manners.refuses_every) {
        let (status, outcome) = [(503, "busy"), (429, "rate_limited"), (503, "deadline_exceeded")]
            [usize::try_from(shared.refused.fetch_add(1, Ordering::Relaxed) % 3).expect("small")];
        wire::write(out, status, &api::problem(status, outcome));
        return After::GoOn;
    }
    let (status, mut body) = api::handle(shared, request);
    if is_due(manners.hides_every) {
        shared.hidden.fetch_add(1, Ordering::Relaxed);
        wire::write(out, 504, &api::problem(504, "in_progress"));
        return After::GoOn;
    }
    if let (Some(lie), true) = (manners.lie, shared.is_loaded.load(Ordering::Relaxed)) {
        lie(&request.path, &mut body);
    }
    wire::write(out, status, &body);
    After::GoOn
}
