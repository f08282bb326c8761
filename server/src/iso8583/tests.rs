//! Links on an engine whose disk stands still when it is told to: what is answered late, and what becomes of it.

use std::sync::Arc;
use std::time::Duration;

use parking_lot::{Condvar, Mutex};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, DuplexStream};
use tokio::sync::{Semaphore, watch};
use tp_actors::device::{DiskDevice, Pace, PacedDevice};
use tp_actors::tp_core::amount::{Amount, Ledger};
use tp_actors::tp_core::command::{Note, OpenAccount, Settings, Transfer};
use tp_actors::tp_core::event::Body;
use tp_actors::tp_core::ids::{AccountId, Seq};
use tp_actors::tp_core::key::Key;
use tp_actors::{Config, Engine};
use tp_iso8583::{Message, Mti, frame_into, frame_length};

use super::link;
use super::listener::Edge;
use super::listeners::tests::{ONE, parsed};
use super::totals::Totals;
use crate::app::Serving;
use crate::auth::seal::{MasterKey, Sealer};
use crate::cards::{LocalCardKeys, NewCard, Pan, Vault, VaultFold};
use crate::control::{Control, ControlFold, fold};
use crate::gate::Rooms;
use crate::observe::{EngineLimits, Metrics, MetricsOptions};
use crate::tenancy::TenantId;

/// A disk whose syncs end when the gate is open.
#[derive(Default)]
struct Gate {
    is_shut: Mutex<bool>,
    opened: Condvar,
}

impl Gate {
    fn set(&self, is_shut: bool) {
        *self.is_shut.lock() = is_shut;
        self.opened.notify_all();
    }
}

impl Pace for Gate {
    fn wait(&self, _bytes: u64) {
        self.opened.wait_while(&mut self.is_shut.lock(), |is_shut| *is_shut);
    }
}

struct Place {
    _folder: tempfile::TempDir,
    gate: Arc<Gate>,
    engine: Arc<Engine>,
    edge: Arc<Edge>,
}

const CARD: &[u8] = b"4111111111111111";

fn tenant() -> TenantId {
    TenantId::new(1).expect("a tenant")
}

fn account(name: &str) -> AccountId {
    tenant().account(name).expect("an account")
}

fn ledger() -> Ledger {
    Ledger::new("EUR", 2).expect("a ledger")
}

fn config(folder: &std::path::Path, gate: &Arc<Gate>) -> Config {
    let below = Arc::new(DiskDevice::new(folder));
    let mut config = Config::at(folder);
    config.device = Some(Arc::new(PacedDevice::new(below, Arc::clone(gate) as Arc<dyn Pace>)));
    config.partitions = 2;
    config
}

/// Account 7 with 1,000.00, its card, a settlement account 900, and a listener with that deadline.
async fn place(more: &str) -> Place {
    let (folder, gate) = (tempfile::tempdir().expect("a folder"), Arc::new(Gate::default()));
    let config = config(&folder.path().join("data"), &gate);
    let limits = EngineLimits::of(&config);
    let engine = Arc::new(Engine::open(config).expect("opened"));
    let (mut control, mut vault) = (ControlFold::open(&engine, None), VaultFold::open(&engine, None));
    fold(&engine, &mut [&mut control, &mut vault]).expect("folded");
    let keys = LocalCardKeys::parse(&"07".repeat(32), "a test").expect("a ring");
    let vault = Arc::new(Vault::new(Arc::clone(&engine), vault, keys));
    let serving = Arc::new(Serving {
        control: Arc::new(Control::new(Arc::clone(&engine), control)),
        engine: Arc::clone(&engine),
        vault,
        sealer: Arc::new(Sealer::new(&MasterKey::from_bytes([1; 32]), &[]).expect("a key")),
        rooms: Arc::new(Rooms::new((1_000_000, 1_000_000), 10_000, (1, 1))),
        metrics: Arc::new(Metrics::new(&MetricsOptions { routes: &[], version: "0", limits })),
        history_permits: Arc::new(Semaphore::new(1)),
        follow_permits: Arc::new(Semaphore::new(1)),
        command_ms: 10_000,
        approval_ms: 1,
        approvals_max: 1,
        batch_commands_max: 1,
    });
    for (number, name) in [(1, "7"), (2, "900"), (3, "1000")] {
        let settings = Settings {
            tenant: 1,
            credit_limit: tp_actors::tp_core::amount::CreditLimit::Amount(Amount::from(if number == 3 {
                100_000
            } else {
                0
            })),
            ..Settings::new(ledger())
        };
        let open = OpenAccount { key: Key::opaque(number), account: account(name), settings, note: Note::default() };
        assert!(engine.call(open).await.outcome.is_approval());
    }
    let (key, amount) = (Key::opaque(9), Amount::from(100_000));
    let fund = Transfer {
        key,
        account: account("1000"),
        payee: account("7"),
        ledger: ledger(),
        amount,
        note: Note::default(),
    };
    assert!(engine.call(fund).await.outcome.is_approval());
    let new =
        NewCard { tenant: tenant(), pan: Pan::parse(CARD).expect("a number"), account: account("7"), expiry: None };
    serving.vault.add(new, "a test").await.expect("added");
    let text = format!("{ONE}{more}\n[listener.settlement]\nEUR = '900'\n");
    let listener = Arc::clone(&parsed(&text).expect("a listener").0[0]);
    let totals = Totals::start(Arc::clone(&engine), folder.path()).expect("a thread");
    let edge = Arc::new(Edge::new(serving, listener, (totals, Arc::default()), None, Duration::from_secs(1)));
    Place { _folder: folder, gate, engine, edge }
}

/// A link's other end, and how it is told to stop.
fn link(edge: &Arc<Edge>) -> (DuplexStream, watch::Sender<bool>) {
    let (ours, theirs) = tokio::io::duplex(1 << 16);
    let (stop, stopped) = watch::channel(false);
    tokio::spawn(link::serve(edge.of_link(), theirs, stopped));
    (ours, stop)
}

fn request(mti: [u8; 4], stan: u32) -> Message {
    let mut message = Message::new(Mti::from_digits(mti).expect("digits"));
    let stan = format!("{stan:06}");
    for (element, value) in [
        (2, std::str::from_utf8(CARD).expect("digits")),
        (3, "000000"),
        (4, "000000002500"),
        (7, "1127101010"),
        (11, &stan),
        (13, "1127"),
        (41, "TERM0001"),
        (49, "978"),
    ] {
        message.set(element, value.as_bytes());
    }
    message
}

async fn send(edge: &Edge, link: &mut DuplexStream, message: &Message) {
    let mut frame = Vec::new();
    let layout = &edge.listener.layout;
    frame_into(&mut frame, |out| layout.encode(message, out))
        .unwrap_or_else(|error: tp_iso8583::EncodeError| panic!("{error}"));
    link.write_all(&frame).await.expect("sent");
}

async fn code(edge: &Edge, link: &mut DuplexStream) -> String {
    let mut head = [0; 2];
    link.read_exact(&mut head).await.expect("an answer");
    let mut body = vec![0; frame_length(head)];
    link.read_exact(&mut body).await.expect("an answer");
    let mut answer = Message::new(Mti::NONE);
    edge.listener.layout.decode(&body, &mut answer).expect("an answer");
    answer.text(39).expect("a code").to_owned()
}

/// Nothing is answered while the disk stands still, however long the deadline is over. Then it goes on.
async fn assert_silent_until_open(place: &Place, link: &mut DuplexStream) {
    let early = tokio::time::timeout(Duration::from_millis(300), code(&place.edge, link)).await;
    assert!(early.is_err(), "answered {early:?} before it was durable");
    place.gate.set(false);
}

/// The bodies of the events from behind a number on, until one is what is looked for.
fn until(engine: &Engine, after: Seq, is_it: impl Fn(&Body) -> bool) -> Vec<Body> {
    let mut feed = engine.events(after.next());
    let mut bodies = Vec::new();
    loop {
        let next = feed.next_timeout(Duration::from_mins(1)).expect("readable").expect("it comes");
        bodies.push(next.1.body);
        if bodies.last().is_some_and(&is_it) {
            return bodies;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_authorization_that_is_durable_too_late_is_answered_68_and_undone() {
    let place = place("deadline_ms = 50").await;
    let (mut link, _stop) = link(&place.edge);
    let before = place.engine.durable_seq();
    place.gate.set(true);
    send(&place.edge, &mut link, &request(*b"0100", 1)).await;
    // A repeat that overtook the undoing would be approved.
    send(&place.edge, &mut link, &request(*b"0101", 1)).await;
    assert_silent_until_open(&place, &mut link).await;
    assert_eq!(code(&place.edge, &mut link).await, "68");
    let (engine, after) = (Arc::clone(&place.engine), before);
    let bodies = tokio::task::spawn_blocking(move || until(&engine, after, |body| matches!(body, Body::Released(_))));
    let bodies = bodies.await.expect("no panic");
    assert!(matches!(&bodies[..], [Body::Authorized(_), Body::Released(_)]), "{bodies:?}");
    // What was answered 68 stays declined.
    send(&place.edge, &mut link, &request(*b"0101", 1)).await;
    assert_eq!(code(&place.edge, &mut link).await, "68");
    let view = place.engine.account(account("7")).expect("answered").expect("there");
    assert_eq!(view.balances.held, 0);
    // With a disk that goes, the same link is served as before.
    send(&place.edge, &mut link, &request(*b"0100", 2)).await;
    assert_eq!(code(&place.edge, &mut link).await, "00");
}

/// A peer that takes nothing for longer than the deadline: what was decided meanwhile is told as what it is then, too late.
#[tokio::test(flavor = "multi_thread")]
async fn an_approval_that_the_peer_left_untaken_too_long_is_answered_68_and_undone() {
    let place = place("deadline_ms = 1000").await;
    // An answer does not fit into what the connection holds.
    let (mut link, theirs) = tokio::io::duplex(32);
    let (_stop, stopped) = watch::channel(false);
    tokio::spawn(link::serve(place.edge.of_link(), theirs, stopped));
    let seq = place.engine.durable_seq();
    for stan in 1..=3 {
        send(&place.edge, &mut link, &request(*b"0100", stan)).await;
        // The next one comes when this one's answer is on its way, or waits behind the first.
        while place.engine.durable_seq() < Seq(seq.0 + u64::from(stan)) {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    tokio::time::sleep(Duration::from_millis(1_500)).await;
    let mut codes = Vec::new();
    for _ in 0..3 {
        codes.push(code(&place.edge, &mut link).await);
    }
    assert_eq!(codes, ["00", "68", "68"], "the first was sent in time, whenever it was taken");
    let view = place.engine.account(account("7")).expect("answered").expect("there");
    assert_eq!(view.balances.held, 2_500, "two of three are undone");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_purchase_that_is_durable_too_late_is_paid_back() {
    let place = place("deadline_ms = 50").await;
    let (mut link, _stop) = link(&place.edge);
    let after = place.engine.durable_seq();
    place.gate.set(true);
    send(&place.edge, &mut link, &request(*b"0200", 1)).await;
    assert_silent_until_open(&place, &mut link).await;
    assert_eq!(code(&place.edge, &mut link).await, "68");
    let engine = Arc::clone(&place.engine);
    let paid_back = tokio::task::spawn_blocking(move || {
        until(&engine, after, |body| match body {
            Body::Moved(moved) => moved.movement.purpose.is_undo(),
            Body::Ended(_) => {
                engine.account(account("7")).is_ok_and(|view| view.is_some_and(|view| view.balances.posted == 100_000))
            }
            _ => false,
        })
    });
    paid_back.await.expect("no panic");
    let posted = |name| place.engine.account(account(name)).expect("answered").expect("there").balances.posted;
    assert_eq!((posted("7"), posted("900")), (100_000, 0));
}

/// An advice says what was decided elsewhere: however late its answer, it stays.
#[tokio::test(flavor = "multi_thread")]
async fn an_advice_that_is_durable_too_late_is_not_undone_and_its_repeat_is_accepted() {
    let place = place("deadline_ms = 50").await;
    let (mut link, _stop) = link(&place.edge);
    place.gate.set(true);
    send(&place.edge, &mut link, &request(*b"0220", 1)).await;
    assert_ne!(code(&place.edge, &mut link).await, "00");
    place.gate.set(false);
    let mut answer = String::new();
    // The repeats of a peer that was not told yet.
    for _ in 0..1_000 {
        send(&place.edge, &mut link, &request(*b"0221", 1)).await;
        answer = code(&place.edge, &mut link).await;
        if answer == "00" {
            break;
        }
    }
    assert_eq!(answer, "00");
    let posted = |name| place.engine.account(account(name)).expect("answered").expect("there").balances.posted;
    assert_eq!((posted("7"), posted("900")), (97_500, 2_500));
}
