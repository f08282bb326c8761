//! Golden bytes: the form of every event and of a slot's image, and what replaying a golden journal comes to, are frozen.
//!
//! A difference is a new version of the format, never a new file here: journals written before must be read for ever. The files
//! are made by `TPCORE_BLESS=1 cargo test -p tp-core --test golden` when there is a new kind or version.

mod harness;
mod script;

use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use harness::{SEED, World, replay};
use tp_core::amount::{Amount, CreditLimit, Ledger};
use tp_core::codec::{EventBytes, Events, decode, encode};
use tp_core::command::{Limits, PeriodLimit, Settings, Status, Verb};
use tp_core::copying::{PartBytes, SlotPart};
use tp_core::event::{
    Answered, Authorized, Body, End, Ended, Event, Expired, Fenced, Forgotten, Head, Incremented, Moved, Movement,
    Noted, Opened, Purpose, Rare, Recorded, Released, Settled, Tombstoned,
};
use tp_core::ids::{AccountId, AuthorizationId, Seq, SlotIndex, TransferId, Version};
use tp_core::key::{Fingerprint, KeyKind};
use tp_core::outcome::Outcome;
use tp_core::reply::{AuthorizationState, Flags};
use tp_core::restore::SlotBuilder;
use tp_core::rules::Rules;
use tp_core::slot::Slot;
use tp_core::time::{Bucket, DAY_MS, Date, Time};

const NOW: Time = Time(19_737 * DAY_MS + 12_345);

fn slot(n: u16) -> SlotIndex {
    SlotIndex::new(n).expect("below 1,024")
}
fn amount(n: u64) -> Amount {
    Amount::from(n)
}
fn ledger() -> Ledger {
    Ledger::new("CZK", 2).expect("valid")
}
fn bucket() -> Bucket {
    Bucket { day: Date(19_737), month: 648 }
}
fn authorization() -> AuthorizationId {
    AuthorizationId::new(NOW, slot(5), 77)
}
fn transfer() -> TransferId {
    TransferId::new(NOW, slot(5), 78)
}

fn head(verb: Verb, outcome: Outcome) -> Head {
    Head {
        account: AccountId(0x0102_0304_0506_0708_090A_0B0C_0D0E_0F10),
        key: 0x1112_1314_1516_1718_191A_1B1C_1D1E_1F20,
        version: Version(9),
        previous: Seq(1_000),
        fingerprint: Fingerprint(0x2122_2324_2526_2728),
        rare: None,
        slot: slot(5),
        value_date: Date(19_700),
        key_kind: KeyKind::Opaque,
        verb,
        outcome,
        flags: Flags::NONE,
    }
}

fn settings() -> Settings {
    let day = PeriodLimit { count: Some(3), amount: Some(amount(500)) };
    let limits = Limits { command_amount: Some(amount(100)), day, month: PeriodLimit::default() };
    let credit_limit = CreditLimit::Amount(amount(1_000));
    Settings { kind: 7, tenant: 8, status: Status::DebitFrozen, credit_limit, limits, ..Settings::new(ledger()) }
}

fn movement(purpose: Purpose) -> Movement {
    Movement {
        transfer: transfer(),
        amount: amount(60),
        counter: AccountId(42),
        authorization: authorization().0,
        capture: 0,
        original: 0,
        hold: amount(50),
        ledger: ledger(),
        bucket: bucket(),
        counter_slot: slot(6),
        purpose,
        original_kind: KeyKind::Opaque,
        is_counted: false,
        is_final: true,
    }
}

/// One event of each kind.
fn events() -> Vec<Event> {
    let rare = Rare { metadata: vec![0, 1, b'x'], payee: 42, requested: 150, ledger: 0 };
    let with_rare = Head { rare: Some(Box::new(rare)), ..head(Verb::Authorize, Outcome::ApprovedPartially) };
    let bodies = vec![
        Body::Settled(Settled { head: head(Verb::OpenAccount, Outcome::Approved), settings: settings() }),
        Body::Noted(Noted {
            head: head(Verb::Transfer, Outcome::InsufficientFunds),
            amount: amount(70),
            target: authorization().0,
        }),
        Body::Tombstoned(Tombstoned {
            head: head(Verb::Reverse, Outcome::ReversalAccepted),
            original: 99,
            original_kind: KeyKind::UuidV7,
        }),
        Body::Fenced(Fenced { account: AccountId(42), key: 98, slot: slot(6), key_kind: KeyKind::UuidV7 }),
        Body::Authorized(Authorized {
            head: with_rare,
            authorization: authorization(),
            amount: amount(100),
            expires: Time(NOW.0 + DAY_MS),
            tolerance_bp: 1_500,
            bucket: bucket(),
        }),
        Body::Incremented(Incremented {
            head: head(Verb::Increment, Outcome::Approved),
            authorization: authorization(),
            amount: amount(25),
            expires: Time(NOW.0 + 2 * DAY_MS),
            bucket: bucket(),
        }),
        Body::Released(Released {
            head: head(Verb::Void, Outcome::Approved),
            authorization: authorization(),
            amount: amount(25),
            original: 0,
            original_kind: KeyKind::Opaque,
            state: AuthorizationState::Voided,
            bucket: bucket(),
            uncounted: 1,
        }),
        Body::Expired(Expired {
            account: AccountId(42),
            authorization: authorization(),
            amount: amount(100),
            version: Version(3),
            previous: Seq(17),
            slot: slot(6),
        }),
        Body::Moved(Box::new(Moved {
            head: head(Verb::Capture, Outcome::ApprovedOverdrawn),
            movement: movement(Purpose::Capture),
            counter: AccountId(42),
            counter_version: Version(4),
            counter_previous: Seq(18),
        })),
        Body::Opened(Box::new(Opened {
            head: head(Verb::Reverse, Outcome::ReversalAccepted),
            movement: Movement { capture: transfer().0, original: 97, ..movement(Purpose::UndoCapture) },
            number: 12,
        })),
        Body::Answered(answered()),
        Body::Ended(Ended { ends: vec![end(12, Outcome::Approved), end(13, Outcome::PayeeFrozen)] }),
        Body::Forgotten(Forgotten { below: 14, opener: slot(5), slot: slot(6) }),
        Body::Recorded(Recorded { stream: 3, bytes: b"opaque".to_vec() }),
    ];
    bodies.into_iter().map(|body| Event { time: NOW, body }).collect()
}

fn answered() -> Answered {
    Answered {
        account: AccountId(42),
        transfer: transfer(),
        amount: amount(60),
        version: Version(5),
        previous: Seq(19),
        number: 12,
        oldest: 11,
        ledger: ledger(),
        opener: slot(5),
        slot: slot(6),
        purpose: Purpose::Refund,
        outcome: Outcome::Approved,
        flags: Flags::COUNTER_SUSPENSE,
    }
}

fn end(number: u64, outcome: Outcome) -> End {
    let (account, flags) = (AccountId(43), Flags::OVER_HOLD);
    End { account, version: Version(6), previous: Seq(20), number, slot: slot(5), outcome, flags }
}

fn path(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden").join(name)
}
fn is_blessing() -> bool {
    std::env::var_os("TPCORE_BLESS").is_some()
}

fn to_hex(bytes: &[u8]) -> String {
    bytes.chunks(32).fold(String::new(), |mut text, line| {
        for byte in line {
            write!(text, "{byte:02x}").expect("a string grows");
        }
        text + "\n"
    })
}

/// Golden bytes, aligned as a frame's payload is.
fn golden(name: &str) -> EventBytes {
    let text = std::fs::read_to_string(path(name)).expect("a golden file: make it with TPCORE_BLESS=1");
    let digits: Vec<u8> = text.bytes().filter(u8::is_ascii_hexdigit).collect();
    let mut bytes = EventBytes::new();
    for pair in digits.chunks(2) {
        let pair = core::str::from_utf8(pair).expect("digits");
        bytes.push(u8::from_str_radix(pair, 16).expect("two hex digits"));
    }
    bytes
}

/// The bytes equal the golden ones; or become them, when blessing.
fn check(name: &str, bytes: &[u8]) {
    if is_blessing() {
        std::fs::write(path(name), to_hex(bytes)).expect("the golden folder can be written");
    }
    assert_eq!(to_hex(&golden(name)), to_hex(bytes), "{name}: left: golden, right: now");
}

#[test]
fn every_event_has_its_golden_bytes_and_is_read_from_them() {
    for event in events() {
        let mut bytes = EventBytes::new();
        encode(&event, &mut bytes);
        let name = format!("{}.hex", event.body.name());
        check(&name, &bytes);
        assert_eq!(decode(&golden(&name)), Ok((event, bytes.len())), "{name}");
    }
}

#[test]
fn every_kind_of_event_has_golden_bytes() {
    let names: std::collections::BTreeSet<_> = events().iter().map(|event| event.body.name()).collect();
    assert_eq!(names.len(), 14, "{names:?}");
    // The kind byte counts from 1 without gaps: kind 15 is not known, so none is missing above.
    let mut bytes = golden("recorded.hex");
    bytes[0] += 1;
    assert!(matches!(decode(&bytes), Err(tp_core::codec::DecodeError::Unknown { kind: 15, .. })));
}

#[test]
fn an_authorize_event_takes_at_most_160_bytes() {
    let plain = Event {
        time: NOW,
        body: Body::Authorized(Authorized {
            head: head(Verb::Authorize, Outcome::Approved),
            authorization: authorization(),
            amount: amount(100),
            expires: Time(NOW.0 + DAY_MS),
            tolerance_bp: 0,
            bucket: bucket(),
        }),
    };
    let mut bytes = EventBytes::new();
    assert!(encode(&plain, &mut bytes) <= 160, "{} bytes", bytes.len());
}

/// A session in which every kind of event occurs, on two partitions.
const SESSION: &str = "
open alice credit 1000 limits each 500 day 20 5000 month - -
open shop credit 10
open other status frozen
authorize alice 100 as A key a tolerance 1000 payee shop
increment A 50 life +9d
capture A shop 40 as C key c
void A 10
refund C 15 key r
reverse alice r
reverse alice c key rc
authorize alice 20 as B key b life +1m
transfer alice other 5
transfer alice shop 5 key t
reverse alice t total 2
reverse alice unknown
lookup alice later fence
advise hold ghost 30
advise post alice nobody 12
authorize alice 99999
record 5
at +2m
capture A shop 99 final
";

struct Quiet(World);

impl script::Subject for Quiet {
    fn start(&mut self, _rules: Rules) {}
    fn call(&mut self, now: Time, command: &tp_core::command::Command) -> script::Observed {
        self.0.now = now;
        self.0.settle();
        let reply = self.0.call(command.clone());
        script::Observed {
            outcome: reply.outcome,
            repeated: reply.repeated,
            reversed: reply.reversed,
            flags: reply.flags,
            amount: 0,
            balances: reply.balances,
            authorization: reply.authorization,
            transfer: reply.transfer,
            expires: reply.expires,
        }
    }
    fn account(&mut self, _now: Time, _id: AccountId) -> Option<(tp_core::amount::Balances, tp_core::command::Status)> {
        None
    }
    fn hold(&mut self, _now: Time, _id: AuthorizationId) -> Option<script::ObservedHold> {
        None
    }
}

/// The journal of [`SESSION`].
fn session() -> EventBytes {
    let mut quiet = Quiet(World::new(2, Rules::default(), script::START));
    script::run(SESSION, &mut quiet);
    quiet.0.idle();
    let kinds = quiet.0.audit.kinds.len();
    assert_eq!(kinds, 14, "every kind of event occurs: {:?}", quiet.0.audit.kinds);
    let mut bytes = EventBytes::new();
    for event in &quiet.0.journal {
        encode(event, &mut bytes);
    }
    bytes
}

/// RPL-1 over releases: a journal written once comes to the same state for ever.
#[test]
fn a_golden_journal_comes_to_its_golden_slots() {
    if is_blessing() {
        std::fs::write(path("journal.hex"), to_hex(&session())).expect("the golden folder can be written");
    }
    let bytes = golden("journal.hex");
    let journal: Vec<Event> = Events::new(&bytes).collect::<Result<_, _>>().expect("golden events can be read");
    let slots = replay::replay(&journal, 1, &Rules::default());
    let at = journal.iter().map(|event| event.time).max().expect("events");
    check("digest.hex", &replay::digest(&slots, at).0);
    let fullest = slots.iter().max_by_key(|slot| slot.image(at).len()).expect("1,024 slots");
    check("slot-image.hex", &fullest.image(at));
    let windows = Rules::default().windows;
    let read = Slot::from_image(&golden("slot-image.hex"), SEED, windows).expect("a golden image can be read");
    assert_eq!((read.index(), read.digest(at)), (fullest.index(), fullest.digest(at)));
    assert_eq!(read.accounts(), fullest.accounts());
    read.validate().expect("a golden slot is valid");
    check("slot-parts.hex", &parts(fullest));
    for name in ["slot-parts-2.hex", "slot-parts.hex"] {
        let image = from_parts(&golden(name), fullest.index()).image(at);
        assert!(image == fullest.image(at), "{name}");
    }
}

/// A copy of a slot in parts of three records, each behind its length (u16).
fn parts(slot: &Slot) -> Vec<u8> {
    let (mut slot, mut all, mut bytes) = (slot.clone(), Vec::new(), PartBytes::new());
    slot.begin_copy();
    while let Some(part) = slot.copy_part(3, SlotPart::default()) {
        part.encode(&mut bytes);
        all.extend(u16::try_from(bytes.len()).expect("a short part").to_le_bytes());
        all.extend_from_slice(&bytes);
    }
    all
}

fn from_parts(mut bytes: &[u8], index: SlotIndex) -> Slot {
    let mut builder = SlotBuilder::new(index, SEED, Rules::default().windows);
    while let Some((length, rest)) = bytes.split_first_chunk::<2>() {
        let (part, rest) = rest.split_at(usize::from(u16::from_le_bytes(*length)));
        builder.add(part).expect("the next part");
        bytes = rest;
    }
    builder.finish().expect("a whole slot")
}

/// A slot read from its image goes on like the one that wrote it, at any point of a session.
#[test]
fn a_slot_read_from_its_image_goes_on_as_if_nothing_happened() {
    let bytes = session();
    let journal: Vec<Event> = Events::new(&bytes).collect::<Result<_, _>>().expect("golden events can be read");
    let rules = Rules::default();
    let at = journal.iter().map(|event| event.time).max().expect("events");
    let straight = replay::digest(&replay::replay(&journal, 1, &rules), at);
    for cut in 0..=journal.len() {
        let then = journal[..cut].iter().map(|event| event.time).max().unwrap_or(Time(0));
        let mut slots = replay::replay(&journal[..cut], 1, &rules);
        for slot in &mut slots {
            *slot = Slot::from_image(&slot.image(then), SEED, rules.windows).expect("an image can be read");
        }
        for (n, event) in journal.iter().enumerate().skip(cut) {
            let seq = Seq(n as u64 + 1);
            event.body.each_leg(|leg| {
                slots[leg.slot.index()].evolve(event, seq, leg.role).expect("J4: a journaled event follows");
            });
        }
        assert_eq!(replay::digest(&slots, at), straight, "J4: cut after {cut} events");
    }
}

/// EXC-1, J3 in evolve itself: whatever wrote an event into a journal twice, no state takes it twice.
#[test]
fn an_event_that_comes_twice_does_not_follow() {
    let bytes = session();
    let journal: Vec<Event> = Events::new(&bytes).collect::<Result<_, _>>().expect("events can be read");
    let rules = Rules::default();
    let mut slots: Vec<Slot> = SlotIndex::all().map(|index| Slot::new(index, SEED, rules.windows)).collect();
    for (n, event) in journal.iter().enumerate() {
        let seq = Seq(n as u64 + 1);
        event.body.each_leg(|leg| {
            let slot = &mut slots[leg.slot.index()];
            slot.evolve(event, seq, leg.role).expect("J4: a journaled event follows");
            let has_effect = leg.account.is_some() || matches!(event.body, Body::Answered(_));
            if has_effect {
                let twice = slot.clone().evolve(event, seq.next(), leg.role);
                assert!(twice.is_err(), "{event:?} is taken twice");
            }
        });
    }
}
