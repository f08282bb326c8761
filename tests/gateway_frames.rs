//! The binary door from outside: the real binary, the client crate, and bytes that no client sends.
#![cfg(feature = "serve")]

#[path = "support/gateway.rs"]
mod support;

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::time::Duration;

use support::Gateway;
use tp_protocol::client::{Client, ClientError};
use tp_protocol::frames::{
    Command, Frame, Goodbye, Reply, advice, code, flag, goodbye, hello, reason, told, verb, welcome,
};
use zerocopy::IntoBytes as _;

/// A server with the door and its folder.
struct Place {
    _folder: tempfile::TempDir,
    gateway: Gateway,
}

fn place(more: &[&str]) -> Place {
    let folder = tempfile::tempdir().expect("a folder");
    let more = [&["--set", "frames.listen=127.0.0.1:0"], more].concat();
    let gateway = Gateway::dev(&folder.path().join("data"), &more);
    Place { _folder: folder, gateway }
}

impl Place {
    fn dial(&self) -> TcpStream {
        let stream = TcpStream::connect(self.gateway.frames.expect("the door")).expect("connected");
        stream.set_read_timeout(Some(Duration::from_mins(1))).expect("a timeout");
        stream
    }
    fn client(&self, key: &str) -> Client {
        Client::greet(self.dial(), key).expect("welcome")
    }
    /// Posted and held of an account.
    fn stands(&self, account: &str) -> (String, String) {
        let shown = self.gateway.get(&self.gateway.key, &format!("/v1/accounts/{account}")).json();
        let of = |name: &str| shown["balances"][name].as_str().expect("an amount").to_owned();
        (of("posted"), of("held"))
    }
}

fn call(client: &mut Client, command: &Command) -> Reply {
    client.send(command).expect("sent");
    let reply = client.receive().expect("a reply");
    assert_eq!(reply.tag, command.tag);
    reply
}

/// What is made for a try-out has the smallest keys.
const KEYS: u128 = 1 << 96;

fn new(verb: u8, tag: u64, key: u128) -> Command {
    Command::new(verb, tag, KEYS + key)
}

fn authorize(tag: u64, key: u128, account: u128, amount: u128) -> Command {
    let mut command = new(verb::AUTHORIZE, tag, key).with_amount(amount, "EUR", 2);
    command.account = account.into();
    command
}

/// With the flags of what is set.
fn flagged(mut command: Command, flags: u16) -> Command {
    command.flags = (command.flags.get() | flags).into();
    command
}

#[test]
fn the_same_authorization_by_frames_and_http_has_one_effect_and_one_answer() {
    let place = place(&[]);
    let mut client = place.client(&place.gateway.key);
    assert_eq!(client.tenant(), 1);
    let first = call(&mut client, &authorize(1, 0xFF, 1, 2500));
    assert_eq!((first.code, first.status.get(), first.amount.get()), (0, 201, 2500));
    assert!(first.has(told::AUTHORIZATION | told::BALANCES | told::AVAILABLE | told::EXPIRES | told::SEQ));
    assert_eq!((first.posted.get(), first.held.get(), first.available.get()), (1_000_000, 2500, 997_500));
    assert_eq!((first.asset_code(), first.scale), (Some("EUR"), 2));
    let body = r#"{"account":"1","amount":"2500","asset":"EUR","scale":2}"#;
    let key = "00000001-0000-0000-0000-0000000000ff";
    let http = place.gateway.command(&place.gateway.key, "/v1/authorizations", key, body).json();
    assert_eq!((http["repeated"].as_bool(), http["seq"].as_u64()), (Some(true), Some(first.seq.get())));
    let again = call(&mut client, &authorize(2, 0xFF, 1, 2500));
    assert_eq!((again.authorization, again.status.get()), (first.authorization, 200));
    assert!(again.has(told::REPEATED));
    let conflict = call(&mut client, &authorize(3, 0xFF, 1, 2501));
    assert_eq!((conflict.code, conflict.status.get()), (38, 409));
    assert_eq!(place.stands("1"), ("1000000".to_owned(), "2500".to_owned()));
}

#[test]
fn every_verb_works_on_what_the_one_before_it_made() {
    let place = place(&[]);
    let mut client = place.client(&place.gateway.key);
    let hold = call(&mut client, &flagged(authorize(1, 1, 1, 1000), flag::ALLOW_PARTIAL));
    let on = |verb, key: u128, amount: Option<u128>| {
        let mut command = new(verb, 9, key);
        if let Some(amount) = amount {
            command = command.with_amount(amount, "EUR", 2);
        }
        command.subject = hold.authorization;
        flagged(command, flag::SUBJECT)
    };
    let more = call(&mut client, &on(verb::INCREMENT, 2, Some(500)));
    assert_eq!((more.status.get(), more.held.get()), (200, 1500));
    let mut capture = flagged(on(verb::CAPTURE, 3, Some(700)), flag::PAYEE);
    capture.payee = 100.into();
    let capture = call(&mut client, &capture);
    assert_eq!((capture.status.get(), capture.posted.get(), capture.held.get()), (201, 999_300, 800));
    assert!(capture.has(told::TRANSFER));
    let mut refund = flagged(new(verb::REFUND, 9, 4).with_amount(200, "EUR", 2), flag::SUBJECT | flag::CAPTURE);
    refund.subject = capture.transfer;
    assert_eq!(call(&mut client, &refund).posted.get(), 999_500);
    assert_eq!(call(&mut client, &on(verb::VOID, 5, Some(100))).held.get(), 700);
    assert_eq!(call(&mut client, &on(verb::VOID, 6, None)).held.get(), 0, "the rest");
    let mut transfer = flagged(new(verb::TRANSFER, 9, 7).with_amount(50, "EUR", 2), flag::PAYEE);
    (transfer.account, transfer.payee) = (1.into(), 2.into());
    assert_eq!(call(&mut client, &transfer).posted.get(), 999_450);
    let mut reverse = flagged(new(verb::REVERSE, 9, 8), flag::SUBJECT);
    (reverse.account, reverse.subject) = (1.into(), (KEYS + 7).into());
    assert_eq!(call(&mut client, &reverse).posted.get(), 999_500);
    let mut advise = flagged(new(verb::ADVISE, 9, 9).with_amount(25, "EUR", 2), flag::PAYEE);
    (advise.account, advise.payee, advise.advice) = (1.into(), 100.into(), advice::POST);
    assert_eq!(call(&mut client, &advise).posted.get(), 999_475);
    let mut lookup = new(verb::LOOKUP, 9, 1);
    lookup.account = 1.into();
    let found = call(&mut client, &lookup);
    assert_eq!((found.code, found.authorization, found.status.get()), (0, hold.authorization, 200));
    lookup.key = (KEYS + 77).into();
    assert_eq!(call(&mut client, &lookup).status.get(), 404);
    assert_eq!(call(&mut client, &flagged(lookup, flag::FENCE)).status.get(), 200, "fenced");
    assert_eq!(call(&mut client, &authorize(9, 77, 1, 1)).code, 40, "and never decided");
    assert_eq!(place.stands("1"), ("999475".to_owned(), "0".to_owned()));
}

/// More than may be under way, before the first reply is taken: all are answered, those of an account in their order.
#[test]
fn commands_sent_ahead_are_all_answered_and_those_of_one_account_in_their_order() {
    let place = place(&[]);
    let mut client = place.client(&place.gateway.key);
    let mut seqs = vec![0; 10_000];
    for tag in 0..10_000_u64 {
        client.send(&authorize(tag, u128::from(tag) + 1, 1, 1)).expect("sent");
    }
    for _ in 0..10_000 {
        let reply = client.receive().expect("a reply");
        assert_eq!(reply.code, 0);
        seqs[usize::try_from(reply.tag.get()).expect("small")] = reply.seq.get();
    }
    assert!(seqs[0] > 0 && seqs.is_sorted());
    assert_eq!(place.stands("1").1, "10000");
}

fn refused(place: &Place, key: &str) -> u8 {
    match Client::greet(place.dial(), key) {
        Err(ClientError::Goodbye(reason)) => reason,
        other => panic!("{other:?}"),
    }
}

#[test]
fn nobody_gets_in_without_a_key_and_a_revoked_one_ends_its_link() {
    let place = place(&["--set", "limits.failures_per_minute=5"]);
    let gateway = &place.gateway;
    let made = gateway.call(&gateway.key, "POST", "/v1/keys", &[], r#"{"person":"eve","roles":["authorize"]}"#).json();
    let (id, secret) = (made["key"].as_str().expect("an id"), made["secret"].as_str().expect("a secret"));
    let mut client = place.client(secret);
    assert_eq!(call(&mut client, &authorize(1, 1, 1, 1)).code, 0);
    let mut transfer = flagged(new(verb::TRANSFER, 2, 2).with_amount(1, "EUR", 2), flag::PAYEE);
    (transfer.account, transfer.payee) = (1.into(), 2.into());
    let forbidden = call(&mut client, &transfer);
    assert_eq!((forbidden.code, forbidden.status.get()), (code::FORBIDDEN, 403));
    assert_eq!(gateway.call(&gateway.key, "DELETE", &format!("/v1/keys/{id}"), &[], "").status, 200);
    assert!(matches!(client.receive(), Err(ClientError::Goodbye(reason::UNAUTHENTICATED))));
    for key in ["", "tpk_no", secret, "a b\r\nc"] {
        assert_eq!(refused(&place, key), reason::UNAUTHENTICATED, "{key:?}");
    }
    let reasons: Vec<u8> = (0..5).map(|_| refused(&place, "tpk_no")).collect();
    assert!(reasons.contains(&reason::RATE_LIMITED), "{reasons:?}");
    assert_eq!(
        call(&mut place.client(&gateway.key), &authorize(3, 3, 1, 1)).code,
        0,
        "who has one gets in all the same"
    );
}

/// Everything that is said until the end, after some bytes.
fn said_to(mut stream: TcpStream, bytes: &[u8]) -> Vec<u8> {
    let _ = stream.write_all(bytes); // it may have ended already
    let mut said = Vec::new();
    let _ = stream.read_to_end(&mut said); // a reset is an end
    said
}

#[test]
fn what_is_no_frame_or_comes_at_the_wrong_time_ends_the_link_and_says_so() {
    let place = place(&["--set", "deadlines.first_byte_ms=300", "--set", "deadlines.idle_ms=300"]);
    let last = |reason: u8| {
        let mut bytes = Vec::new();
        goodbye(&mut bytes, reason);
        bytes
    };
    let command = authorize(1, 1, 1, 1);
    let mut other_version = Vec::new();
    hello(&mut other_version, place.gateway.key.as_bytes());
    other_version[6] = 9;
    for (bytes, reason) in [
        (&b"GET / HTTP/1.1\r\n\r\n"[..], reason::FRAME),
        (&[0; 64][..], reason::FRAME),
        (&[0xFF; 64][..], reason::FRAME),
        (command.as_bytes(), reason::FRAME),
        (&other_version, reason::VERSION),
        (&[], reason::IDLE),
        (&[12, 0, 0], reason::IDLE),
    ] {
        assert_eq!(said_to(place.dial(), bytes), last(reason), "{bytes:?}");
    }
    let mut greeting = Vec::new();
    hello(&mut greeting, place.gateway.key.as_bytes());
    let mut welcomed = Vec::new();
    welcome(&mut welcomed, 1, 2048);
    for (bytes, reason) in [
        (&greeting[..], reason::FRAME),
        (&[124, 0, 0, 0, 99][..], reason::FRAME),
        (&command.as_bytes()[..100], reason::IDLE),
        (&[], reason::IDLE),
    ] {
        let said = said_to(place.dial(), &[&greeting, bytes].concat());
        assert_eq!(said, [&*welcomed, &last(reason)].concat(), "{bytes:?}");
    }
    // What is a frame and no command that makes sense is answered.
    let mut client = place.client(&place.gateway.key);
    let mut odd = command;
    odd.reserved[0] = 1;
    assert_eq!(call(&mut client, &odd).code, code::INVALID);
    odd = Command { verb: 200, ..command };
    assert_eq!((call(&mut client, &odd).code, place.stands("1").1), (code::INVALID, "0".to_owned()));
}

#[test]
fn a_stop_answers_what_was_taken_and_says_goodbye_and_so_does_the_end_of_the_callers_side() {
    let place = place(&[]);
    let stream = place.dial();
    let mut client = Client::greet(stream.try_clone().expect("a clone"), &place.gateway.key).expect("welcome");
    for tag in 0..500 {
        client.send(&authorize(tag, u128::from(tag) + 1, 1, 1)).expect("sent");
    }
    client.flush().expect("written");
    stream.shutdown(std::net::Shutdown::Write).expect("half closed");
    for _ in 0..500 {
        assert_eq!(client.receive().expect("all are answered").code, 0);
    }
    assert!(matches!(client.receive(), Err(ClientError::Io(_))));

    let mut client = place.client(&place.gateway.key);
    assert_eq!(call(&mut client, &authorize(1, 1000, 1, 1)).code, 0);
    place.gateway.terminate();
    assert!(matches!(client.receive(), Err(ClientError::Goodbye(reason::STOPPING))));
    drop(client);
    assert_eq!(place.gateway.wait(), Some(0));
}

#[test]
fn what_a_second_person_has_a_say_in_waits_and_is_told_as_what_came_of_it() {
    let place = place(&[]);
    let gateway = &place.gateway;
    let threshold = r#"{"asset":"EUR","scale":2,"amount":"1000"}"#;
    assert_eq!(gateway.call(&gateway.key, "PUT", "/v1/tenant/threshold", &[], threshold).status, 200);
    let mut client = place.client(&gateway.key);
    let transfer = |tag: u64, amount| {
        let key = u128::from(tag);
        let mut command = flagged(new(verb::TRANSFER, tag, key).with_amount(amount, "EUR", 2), flag::PAYEE);
        (command.account, command.payee) = (1.into(), 100.into());
        command
    };
    for (tag, amount) in [(1, 5), (2, 5000), (3, 7)] {
        client.send(&transfer(tag, amount)).expect("sent");
    }
    let mut codes: Vec<_> = (0..3).map(|_| client.receive().expect("a reply")).map(|r| (r.tag.get(), r.code)).collect();
    codes.sort_unstable();
    assert_eq!(codes, [(1, 0), (2, code::WAITS), (3, 0)]);
    let pending = gateway.get(&gateway.key, "/v1/approvals").json();
    let approval = pending["approvals"][0]["approval"].as_str().expect("an id").to_owned();
    let waits = call(&mut client, &transfer(2, 5000));
    assert!(waits.code == code::WAITS && waits.has(told::APPROVAL));
    assert_eq!(format!("{:032x}", waits.transfer.get()), approval.replace('-', ""));
    let approved = gateway.call(&gateway.second_key, "POST", &format!("/v1/approvals/{approval}/approve"), &[], "");
    assert_eq!(approved.status, 200);
    let told_again = call(&mut client, &transfer(2, 5000));
    assert_eq!((told_again.code, told_again.amount.get()), (0, 5000));
    assert!(told_again.has(told::TRANSFER | told::SEQ | told::BALANCES));
    assert_eq!(told_again.asset_code(), Some("EUR"));
}

/// Whoever only connects keeps nobody out; who has a key and no place is turned away at once.
#[test]
fn silent_links_make_room_for_those_that_say_who_they_are() {
    let place = place(&["--set", "frames.links_max=4"]);
    let silent: Vec<TcpStream> = (0..20).map(|_| place.dial()).collect();
    let mut clients: Vec<Client> = (0..4).map(|_| place.client(&place.gateway.key)).collect();
    for (number, client) in clients.iter_mut().enumerate() {
        assert_eq!(call(client, &authorize(1, number as u128 + 1, 1, 1)).code, 0);
    }
    assert!(matches!(Client::greet(place.dial(), &place.gateway.key), Err(ClientError::Io(_))), "there are four");
    drop(silent);
    drop(clients.pop());
    let again = (0..600).find_map(|_| {
        std::thread::sleep(Duration::from_millis(50));
        Client::greet(place.dial(), &place.gateway.key).ok()
    });
    assert_eq!(call(&mut again.expect("a place is free"), &authorize(1, 9, 1, 1)).code, 0);
}

/// A caller that sends and never takes a reply is cut, and its tenant's places are free again.
#[test]
fn a_caller_that_takes_no_replies_is_cut_and_holds_up_nobody() {
    let place = place(&["--set", "deadlines.answer_ms=500", "--set", "limits.tenant_in_flight_max=4096"]);
    let mut stream = place.dial();
    stream.set_write_timeout(Some(Duration::from_secs(20))).expect("a timeout");
    let mut bytes = Vec::new();
    hello(&mut bytes, place.gateway.key.as_bytes());
    for key in 1..=1000 {
        bytes.extend_from_slice(authorize(0, key, 404, 1).as_bytes());
    }
    let mut sent = 0_u64;
    let ended = loop {
        if let Err(error) = stream.write_all(&bytes[usize::from(sent > 0) * (bytes.len() - 128_000)..]) {
            break error;
        }
        sent += 1;
        assert!(sent < 100_000, "nothing holds it up");
    };
    assert_ne!(ended.kind(), std::io::ErrorKind::WouldBlock, "it is cut, not left waiting");
    assert_eq!(call(&mut place.client(&place.gateway.key), &authorize(3, 3, 1, 1)).code, 0, "others are served");
}

#[test]
fn the_last_frame_is_read_by_its_reason() {
    let mut bytes = Vec::new();
    goodbye(&mut bytes, reason::IDLE);
    assert_eq!(bytes.len(), size_of::<Goodbye>());
    assert!(matches!(Frame::read(&bytes), Ok(Some((Frame::Goodbye(reason::IDLE), 8)))));
}
