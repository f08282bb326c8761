//! All doors at once: HTTP, gRPC, frames and card messages on one directory, and `kill -9` while all of them run.
#![cfg(feature = "serve")]

#[path = "support/cards.rs"]
mod cards;
#[path = "support/gateway.rs"]
mod support;

use std::net::SocketAddr;
use std::sync::mpsc::Sender;
use std::time::Duration;

use cards::{Link, listeners, pay_until_the_end, setting, transaction};
use support::{Connection, Gateway};
use tokio_stream::StreamExt as _;
use tokio_stream::wrappers::UnboundedReceiverStream;
use tonic::Request;
use tonic::transport::Channel;
use tp_protocol::client::Client;
use tp_protocol::frames::{self, told, verb};
use tp_protocol::grpc;
use tp_protocol::grpc::gateway_client::GatewayClient;

/// Commands ahead of their answers, on each door.
const AHEAD: u64 = 16;

/// An authorization that was sent, and the id that was heard for it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Sent {
    number: u64,
    authorization: Option<u128>,
}

/// Each door pays from an account of its own, so that no order between doors matters.
const HTTP_ACCOUNT: u128 = 2;
const GRPC_ACCOUNT: u128 = 3;
const FRAMES_ACCOUNT: u128 = 4;

/// The key of an authorization of an account.
fn key(account: u128, number: u64) -> u128 {
    account << 64 | u128::from(number)
}

fn uuid(bits: u128) -> String {
    let hex = format!("{bits:032x}");
    [&hex[..8], &hex[8..12], &hex[12..16], &hex[16..20], &hex[20..]].join("-")
}

fn bits(uuid: &str) -> u128 {
    u128::from_str_radix(&uuid.replace('-', ""), 16).expect("a UUID")
}

fn amount(number: u64) -> u64 {
    number % 97 + 1
}

/// The state of one door's caller.
struct Caller {
    sent: Vec<Sent>,
    first: u64,
    open: u64,
    heard: Sender<()>,
}

impl Caller {
    fn new(round: u64, heard: Sender<()>) -> Self {
        Self { sent: Vec::new(), first: round * 1_000_000, open: 0, heard }
    }
    fn next(&mut self) -> Option<u64> {
        if self.open == AHEAD {
            return None;
        }
        self.open += 1;
        let number = self.first + self.sent.len() as u64;
        self.sent.push(Sent { number, authorization: None });
        Some(number)
    }
    /// `None`: it was turned away, and nothing was done.
    fn answered(&mut self, number: u64, authorization: Option<u128>) {
        self.open -= 1;
        self.sent[usize::try_from(number - self.first).expect("small")].authorization = authorization;
        if authorization.is_some() {
            let _ = self.heard.send(()); // nobody counts any more
        }
    }
}

fn over_http(at: SocketAddr, bearer: &str, mut caller: Caller) -> Vec<Sent> {
    let mut connection = Connection::open(at);
    let (bearer, mut order) = (format!("Bearer {bearer}"), std::collections::VecDeque::new());
    loop {
        while let Some(number) = caller.next() {
            let key = uuid(key(HTTP_ACCOUNT, number));
            let headers = [("authorization", &*bearer), ("idempotency-key", &*key)];
            let body =
                format!(r#"{{"account":"{HTTP_ACCOUNT}","amount":"{}","asset":"EUR","scale":2}}"#, amount(number));
            if connection.try_send("POST", "/v1/authorizations", &headers, &body).is_err() {
                return caller.sent;
            }
            order.push_back(number);
        }
        let Ok(Some(answer)) = connection.try_answer() else { return caller.sent };
        let authorization = answer.json()["authorization"].as_str().map(bits);
        assert!(authorization.is_some() || answer.status == 503, "{}", answer.text);
        caller.answered(order.pop_front().expect("it was asked for"), authorization);
    }
}

fn grpc_command(number: u64, account: u128) -> grpc::Command {
    grpc::Command {
        tag: number,
        command: "authorize".to_owned(),
        key: uuid(key(account, number)),
        account: Some(account.to_string()),
        amount: Some(amount(number).to_string()),
        asset: Some("EUR".to_owned()),
        scale: Some(2),
        ..grpc::Command::default()
    }
}

fn with_key<T>(key: &str, message: T) -> Request<T> {
    let mut request = Request::new(message);
    request.metadata_mut().insert("authorization", format!("Bearer {key}").parse().expect("visible"));
    request
}

async fn grpc_client(at: SocketAddr) -> GatewayClient<Channel> {
    let channel = Channel::from_shared(format!("http://{at}")).expect("an address");
    GatewayClient::new(channel.connect().await.expect("a connection"))
}

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime")
}

fn over_grpc(at: SocketAddr, bearer: &str, mut caller: Caller) -> Vec<Sent> {
    runtime().block_on(async {
        let (commands, receiver) = tokio::sync::mpsc::unbounded_channel();
        let request = with_key(bearer, UnboundedReceiverStream::new(receiver));
        let Ok(response) = grpc_client(at).await.stream(request).await else { return caller.sent };
        let mut replies = response.into_inner();
        loop {
            while let Some(number) = caller.next() {
                if commands.send(grpc_command(number, GRPC_ACCOUNT)).is_err() {
                    return caller.sent;
                }
            }
            let Some(Ok(reply)) = replies.next().await else { return caller.sent };
            assert!(reply.authorization.is_some() || reply.outcome == "busy", "{reply:?}");
            caller.answered(reply.tag, reply.authorization.as_deref().map(bits));
        }
    })
}

fn frame(number: u64, account: u128) -> frames::Command {
    let command = frames::Command::new(verb::AUTHORIZE, number, key(account, number));
    let mut command = command.with_amount(amount(number).into(), "EUR", 2);
    command.account = account.into();
    command
}

fn over_frames(at: SocketAddr, bearer: &str, mut caller: Caller) -> Vec<Sent> {
    let mut client = Client::connect(at, bearer).expect("welcome");
    loop {
        while let Some(number) = caller.next() {
            if client.send(&frame(number, FRAMES_ACCOUNT)).is_err() {
                return caller.sent;
            }
        }
        let Ok(reply) = client.receive() else { return caller.sent };
        let authorization = reply.has(told::AUTHORIZATION).then(|| reply.authorization.get());
        assert!(authorization.is_some() || reply.status.get() == 503, "{reply:?}");
        caller.answered(reply.tag.get(), authorization);
    }
}

/// What each authorization is answered by another door than the one that it was sent by.
fn again_by_frames(gateway: &Gateway, sent: &[Sent]) -> Vec<(u128, bool)> {
    let mut client = Client::connect(gateway.frames.expect("the door"), &gateway.key).expect("welcome");
    let mut one = |sent: &Sent| loop {
        client.send(&frame(sent.number, HTTP_ACCOUNT)).expect("sent");
        let reply = client.receive().expect("a reply");
        if reply.code == 0 {
            return (reply.authorization.get(), reply.has(told::REPEATED));
        }
        assert_eq!(reply.status.get(), 503, "{reply:?}");
    };
    sent.iter().map(&mut one).collect()
}

fn again_by_http(gateway: &Gateway, sent: &[Sent]) -> Vec<(u128, bool)> {
    let mut connection = Connection::open(gateway.listen);
    let bearer = format!("Bearer {}", gateway.key);
    let mut one = |sent: &Sent| {
        let key = uuid(key(GRPC_ACCOUNT, sent.number));
        let headers = [("authorization", &*bearer), ("idempotency-key", &*key)];
        let amount = amount(sent.number);
        let body = format!(r#"{{"account":"{GRPC_ACCOUNT}","amount":"{amount}","asset":"EUR","scale":2}}"#);
        connection.send("POST", "/v1/authorizations", &headers, &body);
        let reply = connection.answer().json();
        (bits(reply["authorization"].as_str().expect("approved")), reply["repeated"].as_bool() == Some(true))
    };
    sent.iter().map(&mut one).collect()
}

fn again_by_grpc(gateway: &Gateway, sent: &[Sent]) -> Vec<(u128, bool)> {
    runtime().block_on(async {
        let mut client = grpc_client(gateway.listen).await;
        let mut told = Vec::new();
        for chunk in sent.chunks(100) {
            let commands = chunk.iter().map(|sent| grpc_command(sent.number, FRAMES_ACCOUNT)).collect();
            let batch = with_key(&gateway.key, grpc::CommandBatch { commands });
            let replies = client.execute_batch(batch).await.expect("answered").into_inner().replies;
            told.extend(
                replies.iter().map(|reply| (bits(reply.authorization.as_deref().expect("approved")), reply.repeated)),
            );
        }
        told
    })
}

/// One command, by every door in turn under one key: a card message makes it (its key is a hash, drawn in `docs/src/card-messages.md`; these
/// are its bits, by Python's `hashlib`), the others are told the same.
#[test]
fn one_key_has_one_effect_and_one_answer_by_every_door() {
    const KEY: &str = "a7f26a4f-14ae-217c-a864-11638d9253f6";
    let folder = tempfile::tempdir().expect("a folder");
    let file = listeners(folder.path(), "");
    let more = ["--set", &setting(&file), "--set", "frames.listen=127.0.0.1:0"];
    let gateway = Gateway::dev(&folder.path().join("data"), &more);
    let mut link = Link::open(gateway.cards[0].1, "1987-ascii");
    let first = link.call(&transaction("0100", &gateway.first_card, 77, 4200, &[]));
    assert_eq!(first.text(39), Some("00"));

    let body = r#"{"account":"1","amount":"4200","asset":"EUR","scale":2}"#;
    let http = gateway.command(&gateway.key, "/v1/authorizations", KEY, body).json();
    let by_http = (bits(http["authorization"].as_str().expect("approved")), http["seq"].as_u64());
    assert_eq!(http["repeated"], true);

    let command = grpc::Command { key: KEY.to_owned(), amount: Some("4200".to_owned()), ..grpc_command(0, 1) };
    let reply = runtime().block_on(async {
        let mut client = grpc_client(gateway.listen).await;
        client.execute(with_key(&gateway.key, command)).await.expect("answered").into_inner()
    });
    let by_grpc = (bits(reply.authorization.as_deref().expect("approved")), Some(reply.seq));
    assert!(reply.repeated);

    let mut client = Client::connect(gateway.frames.expect("the door"), &gateway.key).expect("welcome");
    let mut command = frames::Command::new(verb::AUTHORIZE, 1, bits(KEY)).with_amount(4200, "EUR", 2);
    command.account = 1.into();
    client.send(&command).expect("sent");
    let reply = client.receive().expect("a reply");
    let by_frame = (reply.authorization.get(), Some(reply.seq.get()));
    assert!(reply.code == 0 && reply.has(told::REPEATED));

    assert_eq!((by_http, by_grpc), (by_grpc, by_frame));
    let again = link.call(&transaction("0101", &gateway.first_card, 77, 4200, &[]));
    assert_eq!((again.text(39), again.text(38)), (first.text(39), first.text(38)));
    let stands = gateway.get(&gateway.key, "/v1/accounts/1").json();
    assert_eq!(stands["balances"]["held"], "4200", "once");
}

/// `kill -9` while all doors are used at once: what any of them was told is what every other one is told of the same key, and everything that
/// was sent has its effect once when it is sent again.
#[test]
fn nothing_that_any_door_acknowledged_is_lost_by_a_kill_under_the_load_of_all() {
    let folder = tempfile::tempdir().expect("a folder");
    let file = listeners(folder.path(), "");
    let more = ["--set", &setting(&file), "--set", "frames.listen=127.0.0.1:0"];
    let start = || Gateway::dev(&folder.path().join("data"), &more);
    let (mut held, mut paid) = ([0_u64; 3], 0_u64);
    let mut gateway = start();
    for round in 1..=4 {
        let (told, heard) = std::sync::mpsc::channel();
        let key = gateway.key.clone();
        let (at, frames_at, cards_at) = (gateway.listen, gateway.frames.expect("the door"), gateway.cards[1].1);
        let spawn = |door: fn(SocketAddr, &str, Caller) -> Vec<Sent>, at| {
            let (key, caller) = (key.clone(), Caller::new(round, told.clone()));
            std::thread::spawn(move || door(at, &key, caller))
        };
        let doors = [spawn(over_http, at), spawn(over_grpc, at), spawn(over_frames, frames_at)];
        let (card, card_heard) = (gateway.first_card.clone(), told.clone());
        let stans = u32::try_from(round).expect("small");
        let terminal = std::thread::spawn(move || pay_until_the_end(cards_at, &card, "TERM0001", stans, &card_heard));
        drop(told);
        // So many answers were heard, on whatever door; then it ends in the middle.
        let wanted = 400 * usize::try_from(round).expect("small");
        let heard = (0..wanted).map_while(|_| heard.recv_timeout(Duration::from_mins(1)).ok()).count();
        assert_eq!(heard, wanted, "all doors are served");
        gateway.kill();
        gateway = start();
        let sent = doors.map(|door| door.join().expect("no panic"));
        let told =
            [again_by_frames(&gateway, &sent[0]), again_by_http(&gateway, &sent[1]), again_by_grpc(&gateway, &sent[2])];
        for (door, (sent, told)) in sent.iter().zip(&told).enumerate() {
            assert!(sent.iter().any(|sent| sent.authorization.is_some()), "door {door} was served before the kill");
            for (sent, (authorization, repeated)) in sent.iter().zip(told) {
                if let Some(acknowledged) = sent.authorization {
                    assert_eq!((acknowledged, true), (*authorization, *repeated), "door {door}, {}", sent.number);
                }
                held[door] += amount(sent.number);
            }
        }
        for (account, held) in [HTTP_ACCOUNT, GRPC_ACCOUNT, FRAMES_ACCOUNT].into_iter().zip(held) {
            let shown = gateway.get(&gateway.key, &format!("/v1/accounts/{account}")).json();
            assert_eq!(shown["balances"]["held"], held.to_string(), "account {account}: each once");
        }
        let mut link = Link::open(gateway.cards[0].1, "1987-ascii");
        for (stan, approval) in terminal.join().expect("no panic") {
            let amount = u64::from(stan % 97 + 1);
            let repeat = link.call(&transaction("0201", &gateway.first_card, stan, amount, &[(41, "TERM0001")]));
            assert_eq!(repeat.text(39), Some("00"), "{stan}");
            if let Some(approval) = approval {
                assert_eq!(repeat.text(38), Some(approval.as_str()), "{stan}");
            }
            paid += amount;
        }
        let posted = gateway.get(&gateway.key, "/v1/accounts/900").json()["balances"]["posted"].clone();
        assert_eq!(posted, paid.to_string(), "every purchase once");
    }
}
