//! The gRPC door from outside: the real binary, a client of the checked-in code.
#![cfg(feature = "serve")]

#[path = "support/gateway.rs"]
mod support;

use std::time::Duration;

use support::Gateway;
use tokio::sync::mpsc;
use tokio_stream::StreamExt as _;
use tokio_stream::wrappers::ReceiverStream;
use tonic::transport::Channel;
use tonic::{Code, Request, Status, Streaming};
use tp_protocol::grpc::gateway_client::GatewayClient;
use tp_protocol::grpc::{
    AccountRequest, Command, CommandBatch, Cursor, CursorRequest, Event, FollowRequest, Leg, Reply,
};

type Client = GatewayClient<Channel>;

async fn client(gateway: &Gateway) -> Client {
    let channel = Channel::from_shared(format!("http://{}", gateway.listen)).expect("an address");
    GatewayClient::new(channel.connect().await.expect("a connection"))
}

fn with_key<T>(key: &str, message: T) -> Request<T> {
    let mut request = Request::new(message);
    request.metadata_mut().insert("authorization", format!("Bearer {key}").parse().expect("visible"));
    request
}

fn authorize(tag: u64, account: &str, amount: &str) -> Command {
    let text = |text: &str| Some(text.to_owned());
    Command {
        tag,
        command: "authorize".to_owned(),
        key: format!("k{tag}"),
        account: text(account),
        amount: text(amount),
        asset: text("EUR"),
        scale: Some(2),
        ..Command::default()
    }
}

/// An open stream.
struct Open {
    commands: mpsc::Sender<Command>,
    replies: Streaming<Reply>,
}

impl Open {
    async fn new(client: &mut Client, key: &str) -> Result<Self, Status> {
        let (commands, receiver) = mpsc::channel(4096);
        let replies = client.stream(with_key(key, ReceiverStream::new(receiver))).await?.into_inner();
        Ok(Self { commands, replies })
    }
    async fn send(&self, command: Command) {
        self.commands.send(command).await.expect("the stream is open");
    }
    async fn next(&mut self) -> Option<Result<Reply, Status>> {
        tokio::time::timeout(Duration::from_mins(1), self.replies.next()).await.expect("an answer")
    }
    async fn reply(&mut self) -> Reply {
        self.next().await.expect("not the end").expect("a reply")
    }
}

#[tokio::test]
async fn the_same_authorization_by_every_door_has_one_effect_and_one_answer() {
    let folder = tempfile::tempdir().expect("a folder");
    let gateway = Gateway::dev(&folder.path().join("data"), &[]);
    let mut client = client(&gateway).await;
    let first = client.execute(with_key(&gateway.key, authorize(1, "1", "2500"))).await.expect("answered").into_inner();
    assert_eq!((first.outcome.as_str(), first.status, first.repeated), ("approved", 201, false));
    let body = r#"{"account":"1","amount":"2500","asset":"EUR","scale":2}"#;
    let http = gateway.command(&gateway.key, "/v1/authorizations", "k1", body).json();
    assert_eq!(
        (http["repeated"].as_bool(), http["authorization"].as_str()),
        (Some(true), first.authorization.as_deref())
    );
    let mut stream = Open::new(&mut client, &gateway.key).await.expect("a stream");
    stream.send(Command { tag: 9, ..authorize(1, "1", "2500") }).await;
    let again = stream.reply().await;
    assert_eq!((again.tag, again.repeated, again.seq, again.status), (9, true, first.seq, 200));
    stream.send(Command { tag: 10, ..authorize(1, "1", "2501") }).await;
    assert_eq!(stream.reply().await.outcome, "idempotency_conflict");
    let batch = CommandBatch { commands: vec![authorize(1, "1", "2500"), authorize(2, "404", "1")] };
    let replies = client.execute_batch(with_key(&gateway.key, batch)).await.expect("answered").into_inner().replies;
    let seen: Vec<_> = replies.iter().map(|reply| (reply.outcome.as_str(), reply.status, reply.repeated)).collect();
    assert_eq!(seen, [("approved", 200, true), ("account_not_found", 404, false)]);
    let account = gateway.get(&gateway.key, "/v1/accounts/1").json();
    assert_eq!(account["balances"]["held"], "2500");
    // Calls are counted by their method, with the status of HTTP.
    let refused = client.execute(Request::new(authorize(1, "1", "1"))).await.expect_err("no key");
    assert_eq!(refused.code(), Code::Unauthenticated);
    let metrics = gateway.admin("/metrics").text;
    for (method, status) in [("Execute", 201), ("Execute", 401), ("ExecuteBatch", 200), ("Stream", 200)] {
        let wanted = |line: &&str| {
            line.contains(&format!("route=\"POST /tpcore.v1.Gateway/{method}\""))
                && line.contains(&format!("\"{status}\""))
                && line.ends_with(" 1")
        };
        assert!(metrics.lines().any(|line| wanted(&line)), "{method} {status}");
    }
}

#[tokio::test]
async fn commands_of_one_account_are_decided_in_the_order_of_the_stream() {
    let folder = tempfile::tempdir().expect("a folder");
    let gateway = Gateway::dev(&folder.path().join("data"), &[]);
    let mut client = client(&gateway).await;
    let mut stream = Open::new(&mut client, &gateway.key).await.expect("a stream");
    let mut seqs = vec![0; 3000];
    for tag in 0..3000 {
        stream.send(authorize(tag, "1", "1")).await;
    }
    for _ in 0..3000 {
        let reply = stream.reply().await;
        seqs[usize::try_from(reply.tag).expect("small")] = reply.seq;
    }
    assert!(seqs[0] > 0 && seqs.is_sorted());
    drop(stream.commands);
    assert!(stream.replies.next().await.is_none(), "it ends when all is said and answered");
}

#[tokio::test]
async fn a_stream_may_stay_longer_than_an_answer_and_a_slow_one_is_not_cut() {
    let folder = tempfile::tempdir().expect("a folder");
    let more = ["--set", "deadlines.answer_ms=200", "--set", "deadlines.idle_ms=200", "--set", "tls.reload_ms=100"];
    let gateway = Gateway::dev(&folder.path().join("data"), &more);
    let mut client = client(&gateway).await;
    let mut stream = Open::new(&mut client, &gateway.key).await.expect("a stream");
    for tag in 0..3 {
        tokio::time::sleep(Duration::from_millis(400)).await;
        stream.send(authorize(tag, "1", "1")).await;
        assert_eq!(stream.reply().await.outcome, "approved");
    }
}

#[tokio::test]
async fn nobody_gets_in_without_a_key_and_a_revoked_one_ends_its_stream() {
    let folder = tempfile::tempdir().expect("a folder");
    let gateway = Gateway::dev(&folder.path().join("data"), &[]);
    let mut client = client(&gateway).await;
    let refused = client.execute(Request::new(authorize(1, "1", "1"))).await.expect_err("no key");
    assert_eq!(refused.code(), Code::Unauthenticated);
    assert_eq!(Open::new(&mut client, "tpk_no").await.err().map(|status| status.code()), Some(Code::Unauthenticated));
    let made = gateway.call(&gateway.key, "POST", "/v1/keys", &[], r#"{"person":"eve","roles":["authorize"]}"#).json();
    let (key, secret) = (made["key"].as_str().expect("an id"), made["secret"].as_str().expect("a secret"));
    let mut stream = Open::new(&mut client, secret).await.expect("a stream");
    stream.send(authorize(2, "1", "1")).await;
    assert_eq!(stream.reply().await.outcome, "approved");
    stream
        .send(Command { command: "transfer".to_owned(), payee: Some("2".to_owned()), ..authorize(3, "1", "1") })
        .await;
    assert_eq!(stream.reply().await.outcome, "forbidden", "each command needs its role");
    assert_eq!(gateway.call(&gateway.key, "DELETE", &format!("/v1/keys/{key}"), &[], "").status, 200);
    stream.send(authorize(4, "1", "1")).await;
    let ended = stream.next().await.expect("a status").expect_err("it ends");
    assert_eq!(ended.code(), Code::Unauthenticated);
    let held = gateway.get(&gateway.key, "/v1/accounts/1").json()["balances"]["held"].clone();
    assert_eq!(held, "1");
}

#[tokio::test]
async fn a_stop_answers_what_a_stream_has_taken_and_ends_it() {
    let folder = tempfile::tempdir().expect("a folder");
    let gateway = Gateway::dev(&folder.path().join("data"), &[]);
    let mut client = client(&gateway).await;
    let mut stream = Open::new(&mut client, &gateway.key).await.expect("a stream");
    stream.send(authorize(1, "1", "1")).await;
    assert_eq!(stream.reply().await.outcome, "approved");
    gateway.terminate();
    let ended = stream.next().await.expect("a status").expect_err("it ends");
    assert_eq!(ended.code(), Code::Unavailable);
    drop((stream, client));
    assert_eq!(tokio::task::spawn_blocking(move || gateway.wait()).await.expect("no panic"), Some(0));
}

#[tokio::test]
async fn what_is_too_long_or_no_grpc_is_refused() {
    let folder = tempfile::tempdir().expect("a folder");
    let gateway = Gateway::dev(&folder.path().join("data"), &[]);
    let mut client = client(&gateway).await;
    let long = Command { reference: Some("x".repeat(100_000)), ..authorize(1, "1", "1") };
    assert_eq!(client.execute(with_key(&gateway.key, long)).await.expect_err("too long").code(), Code::OutOfRange);
    let empty = client.execute_batch(with_key(&gateway.key, CommandBatch::default())).await.expect_err("empty");
    assert_eq!(empty.code(), Code::InvalidArgument);
    let plain = gateway.call(&gateway.key, "POST", "/tpcore.v1.Gateway/Execute", &[], "{}");
    assert_eq!(plain.status, 415, "HTTP/1.1 is no gRPC");
    let wide = Command { scale: Some(300), ..authorize(1, "1", "1") };
    let reply = client.execute(with_key(&gateway.key, wide)).await.expect("a reply").into_inner();
    assert_eq!((reply.status, reply.outcome.as_str()), (400, "invalid_request"));
}

#[tokio::test]
async fn what_waits_for_a_second_person_keeps_its_place_and_is_told_as_what_came_of_it() {
    let folder = tempfile::tempdir().expect("a folder");
    let gateway = Gateway::dev(&folder.path().join("data"), &[]);
    let threshold = r#"{"asset":"EUR","scale":2,"amount":"1000"}"#;
    assert_eq!(gateway.call(&gateway.key, "PUT", "/v1/tenant/threshold", &[], threshold).status, 200);
    let mut client = client(&gateway).await;
    let mut stream = Open::new(&mut client, &gateway.key).await.expect("a stream");
    let transfer = |tag, amount: &str| {
        let payee = Some("100".to_owned());
        Command { command: "transfer".to_owned(), payee, ..authorize(tag, "1", amount) }
    };
    // Between two that go at once one that asks: all in their order.
    for (tag, amount) in [(1, "5"), (2, "5000"), (3, "7")] {
        stream.send(transfer(tag, amount)).await;
    }
    let mut replies = Vec::new();
    for _ in 0..3 {
        replies.push(stream.reply().await);
    }
    replies.sort_by_key(|reply| reply.tag);
    let seen: Vec<_> = replies.iter().map(|reply| (reply.status, reply.outcome.as_str())).collect();
    assert_eq!(seen, [(201, "approved"), (202, "approval_pending"), (201, "approved")]);
    let pending: serde_json::Value =
        serde_json::from_str(replies[1].approval_json.as_deref().expect("an approval")).expect("JSON");
    let path = format!("/v1/approvals/{}/approve", pending["approval"].as_str().expect("an id"));
    assert_eq!(gateway.call(&gateway.second_key, "POST", &path, &[], "").status, 200);
    // The same command again: what came of it, as a reply.
    let told = client.execute(with_key(&gateway.key, transfer(2, "5000"))).await.expect("a reply").into_inner();
    assert_eq!((told.outcome.as_str(), told.amount.as_str(), told.approval_json), ("approved", "5000", None));
    assert!(told.transfer.is_some() && told.seq > 0, "{}", told.seq);
}

#[tokio::test]
async fn nobody_unknown_makes_the_server_read_or_keep_a_message() {
    let folder = tempfile::tempdir().expect("a folder");
    let gateway = Gateway::dev(&folder.path().join("data"), &["--set", "deadlines.body_ms=300"]);
    let mut client = client(&gateway).await;
    // Told before anything of the message is there: this one never comes.
    let (_commands, receiver) = mpsc::channel::<Command>(1);
    let refused = client.stream(Request::new(ReceiverStream::new(receiver))).await.expect_err("no key");
    assert_eq!(refused.code(), Code::Unauthenticated);
    let many = CommandBatch { commands: vec![Command::default(); 20_000] };
    let refused = client.execute_batch(with_key(&gateway.key, many)).await.expect_err("too many");
    assert_eq!((refused.code(), refused.message()), (Code::InvalidArgument, "a batch has 1 to 500 commands"));
}

/// A caller that sends and never takes a reply is cut, and its tenant's places are free again.
#[tokio::test]
async fn a_caller_that_takes_no_replies_is_cut() {
    let folder = tempfile::tempdir().expect("a folder");
    let more = ["--set", "deadlines.answer_ms=500", "--set", "limits.tenant_in_flight_max=4096"];
    let gateway = Gateway::dev(&folder.path().join("data"), &more);
    let channel = Channel::from_shared(format!("http://{}", gateway.listen)).expect("an address");
    // A window that a few hundred replies fill.
    let channel = channel.initial_stream_window_size(65_535).initial_connection_window_size(65_535);
    let mut client = GatewayClient::new(channel.connect().await.expect("a connection"));
    let mut stream = Open::new(&mut client, &gateway.key).await.expect("a stream");
    let mut sent = 0;
    while let Ok(Ok(())) =
        tokio::time::timeout(Duration::from_secs(20), stream.commands.send(authorize(sent, "1", "1"))).await
    {
        sent += 1;
        assert!(sent < 10_000_000, "nothing holds it up");
    }
    // It ends: some replies are still in the window, then the connection's end.
    let mut ended = None;
    while let Some(next) = stream.next().await {
        if let Err(status) = next {
            ended = Some(status);
            break;
        }
    }
    assert!(ended.is_some(), "the connection was cut");
    assert_eq!(gateway.get(&gateway.key, "/v1/tenant").status, 200, "others are served");
}

/// The next event that is not only a sign of life.
async fn event(events: &mut Streaming<Event>) -> Event {
    loop {
        let next = tokio::time::timeout(Duration::from_mins(1), events.message()).await.expect("in time");
        let event = next.expect("an event").expect("not the end");
        if !event.legs.is_empty() {
            return event;
        }
    }
}

fn transfer(key: &str, payee: &str, amount: &str) -> Command {
    let (command, payee) = ("transfer".to_owned(), Some(payee.to_owned()));
    Command { command, key: key.to_owned(), payee, ..authorize(0, "1", amount) }
}

#[tokio::test]
async fn a_follower_sees_each_event_of_its_tenant_once_in_order_and_goes_on_at_its_cursor_after_a_restart() {
    let folder = tempfile::tempdir().expect("a folder");
    let data = folder.path().join("data");
    let gateway = Gateway::dev(&data, &[]);
    let mut client = client(&gateway).await;
    let mut execute = async |command: Command| {
        let reply = client.execute(with_key(&gateway.key, command)).await.expect("answered").into_inner();
        assert_eq!(reply.outcome, "approved");
        reply
    };
    let hold = execute(authorize(1, "1", "2500")).await;
    let moved = execute(Command { reference: Some("order 7".to_owned()), ..transfer("t1", "2", "70") }).await;
    let refused = Command { amount: Some("99999999".to_owned()), ..authorize(3, "1", "1") };
    let refused = client.execute(with_key(&gateway.key, refused)).await.expect("answered").into_inner();
    assert_eq!(refused.outcome, "insufficient_funds");
    let from_start = FollowRequest { with_balances: true, ..FollowRequest::default() };
    let mut events = client.follow(with_key(&gateway.key, from_start)).await.expect("a stream").into_inner();
    let mut seen: Vec<Event> = Vec::new();
    while seen.last().is_none_or(|event| event.seq < refused.seq) {
        seen.push(event(&mut events).await);
    }
    assert!(seen.is_sorted_by(|a, b| a.seq < b.seq), "each once, in order");
    // The legs come to what stands.
    for account in ["1", "2"] {
        let legs = seen.iter().flat_map(|event| &event.legs).filter(|leg| leg.account == account);
        let sum: i64 = legs.map(|leg| leg.posted.parse::<i64>().expect("a number")).sum();
        let request = with_key(&gateway.key, AccountRequest { account: account.to_owned() });
        let stands = client.get_account(request).await.expect("an account").into_inner();
        assert_eq!(sum.to_string(), stands.balances.expect("balances").posted, "account {account}");
        assert_eq!((stands.asset.as_str(), stands.scale, stands.status.as_str()), ("EUR", 2, "open"));
    }
    let of = |seq| seen.iter().find(|event| event.seq == seq).expect("it was followed");
    let held = &of(hold.seq).legs[0];
    assert_eq!((held.what.as_str(), held.amount.as_deref(), held.posted.as_str()), ("authorize", Some("2500"), "0"));
    assert_eq!((held.authorization.clone(), held.expires.clone()), (hold.authorization, hold.expires));
    assert_eq!(held.standing.as_ref().expect("with balances").balances.as_ref().expect("some").held, "2500");
    // One event, or the three of an exchange between two partitions.
    let is_paid = |leg: &&Leg| leg.account == "1" && leg.transfer == moved.transfer;
    let paid: Vec<_> = seen.iter().flat_map(|event| &event.legs).filter(is_paid).collect();
    assert_eq!(paid.iter().map(|leg| leg.posted.parse::<i64>().expect("a number")).sum::<i64>(), -70);
    for leg in paid {
        assert_eq!((leg.counterparty.as_deref(), leg.reference.as_deref()), (Some("2"), Some("order 7")));
        assert!(leg.is_complete);
    }
    let noted = &of(refused.seq).legs[0];
    assert_eq!((noted.outcome.as_deref(), noted.amount.as_deref()), (Some("insufficient_funds"), Some("99999999")));

    let done = Cursor { cursor: 3, seq: moved.seq };
    client.set_cursor(with_key(&gateway.key, done)).await.expect("it is moved");
    let stop = events; // it is open while the server stops
    gateway.terminate();
    drop(client);
    let mut stop = stop;
    let ended = loop {
        match stop.message().await {
            Ok(Some(_)) => {}
            Ok(None) => panic!("it ends with a status"),
            Err(status) => break status,
        }
    };
    assert_eq!(ended.code(), Code::Unavailable);
    drop(stop);
    assert_eq!(tokio::task::spawn_blocking(move || gateway.wait()).await.expect("no panic"), Some(0));

    let gateway = Gateway::dev(&data, &[]);
    let mut client = self::client(&gateway).await;
    let stands = client.get_cursor(with_key(&gateway.key, CursorRequest { cursor: 3 })).await.expect("a cursor");
    assert_eq!(stands.into_inner(), done);
    let go_on = FollowRequest { cursor: Some(3), ..FollowRequest::default() };
    let mut events = client.follow(with_key(&gateway.key, go_on)).await.expect("a stream").into_inner();
    assert_eq!(event(&mut events).await.seq, refused.seq, "the one after the cursor");
    // What happens from now on.
    let live = client.execute(with_key(&gateway.key, transfer("t2", "100", "9"))).await.expect("answered").into_inner();
    let mut seqs = Vec::new();
    while seqs.last().is_none_or(|seq| *seq < live.seq) {
        seqs.push(event(&mut events).await.seq);
    }
    assert!(seqs.contains(&live.seq) && seqs.is_sorted());
}

#[tokio::test]
async fn a_follower_sees_nothing_of_other_tenants_and_is_told_that_there_was_nothing() {
    let folder = tempfile::tempdir().expect("a folder");
    let data = folder.path().join("data");
    support::add_tenant(&data, "2", "two");
    let two = support::add_key(&data, "2", "ann", "read,authorize", &[]);
    let blind = support::add_key(&data, "2", "bob", "authorize", &[]);
    let gateway = Gateway::dev(&data, &["--set", "limits.follows_max=4"]);
    let mut client = client(&gateway).await;
    let all = FollowRequest { from_seq: Some(1), ..FollowRequest::default() };
    let mut events = client.follow(with_key(&two.secret, all)).await.expect("a stream").into_inner();
    let mut quiet = Vec::new();
    for number in 0..100 {
        let paid = transfer(&format!("t{number}"), "2", "1");
        client.execute(with_key(&gateway.key, paid)).await.expect("answered");
        if let Ok(next) = tokio::time::timeout(Duration::from_millis(50), events.message()).await {
            let event = next.expect("an event").expect("not the end");
            assert!(event.legs.is_empty(), "{event:?}");
            quiet.push(event.seq);
        }
    }
    assert!(!quiet.is_empty() && quiet.is_sorted(), "it is told how far the journal is");
    let refused = client.follow(with_key(&blind.secret, all)).await.expect_err("no role");
    assert_eq!(refused.code(), Code::PermissionDenied);
    let own = with_key(&two.secret, AccountRequest { account: "1".to_owned() });
    assert_eq!(client.get_account(own).await.expect_err("another tenant's").code(), Code::NotFound);
    let beyond = FollowRequest { from_seq: Some(1_000_000), ..FollowRequest::default() };
    assert_eq!(client.follow(with_key(&two.secret, beyond)).await.expect_err("not yet").code(), Code::OutOfRange);
    for (cursor, seq, code) in [(64, 1, Code::InvalidArgument), (0, 1_000_000, Code::OutOfRange)] {
        let moved = client.set_cursor(with_key(&two.secret, Cursor { cursor, seq })).await.expect_err("refused");
        assert_eq!(moved.code(), code);
    }
    client.set_cursor(with_key(&two.secret, Cursor { cursor: 0, seq: 5 })).await.expect("its own");
    let others = client.get_cursor(with_key(&gateway.key, CursorRequest { cursor: 0 })).await.expect("a cursor");
    assert_eq!(others.into_inner().seq, 0, "each tenant has its own");
    // Of four at once a tenant has two; one that is left is free again.
    let second = client.follow(with_key(&two.secret, all)).await.expect("a second");
    let third = client.follow(with_key(&two.secret, all)).await.expect_err("no third");
    assert_eq!(third.code(), Code::ResourceExhausted);
    drop(second);
    let mut again = client.follow(with_key(&two.secret, all)).await;
    for _ in 0..600 {
        if again.is_ok() {
            break;
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
        again = client.follow(with_key(&two.secret, all)).await;
    }
    assert!(again.is_ok(), "its place is free again");
}
