//! Marked card data in every field of every protocol, valid and broken, and then a search for it wherever something is kept or shown: every
//! file of the data directory and its mirror, logs, metrics, error bodies, and the memory of the process (what a core dump would have).
#![cfg(feature = "serve")]

#[path = "support/cards.rs"]
mod cards;
#[path = "support/gateway.rs"]
mod support;

use std::fs;
use std::io::{Read as _, Seek as _, SeekFrom, Write as _};
use std::path::Path;

use cards::{Link, listeners, message, setting, transaction};
use support::{Gateway, Start};
use tp_iso8583::{Layout, Message};
use tp_protocol::client::Client;
use tp_protocol::grpc;
use tp_protocol::grpc::gateway_client::GatewayClient;

/// Marked numbers with right check digits, of issuers' ranges: one for each way in.
const ADDED: &str = "4539148803436467";
const SENT: &str = "5424180279791732";
const TYPED: &str = "6011601160116611";
const ALL: [&str; 3] = [ADDED, SENT, TYPED];
/// What else must not be kept: a security code and PIN data, marked so that they are found.
const SECURITY_CODE: &str = "CVV-7391-CVV";
const PIN_DATA: [u8; 8] = [0xC5, 0x3A, 0x9E, 0x71, 0xD4, 0x0B, 0x8F, 0x26];

/// A number as text, packed, and as an integer of this machine and of the network.
fn forms(number: &str) -> Vec<Vec<u8>> {
    let pairs = number.as_bytes().chunks(2);
    let packed: Vec<u8> =
        pairs.map(|pair| (pair[0] - b'0') << 4 | pair.get(1).map_or(15, |digit| digit - b'0')).collect();
    let integer: u64 = number.parse().expect("digits");
    vec![number.as_bytes().to_vec(), packed, integer.to_le_bytes().to_vec(), integer.to_be_bytes().to_vec()]
}

fn contains(bytes: &[u8], part: &[u8]) -> bool {
    bytes.windows(part.len()).any(|window| window == part)
}

/// What of the marks is in these bytes. They are gone through once: a memory has hundreds of megabytes.
fn found(bytes: &[u8]) -> Vec<String> {
    let numbers = ALL.into_iter().flat_map(forms);
    let marks: Vec<Vec<u8>> = numbers.chain([SECURITY_CODE.as_bytes().to_vec(), PIN_DATA.to_vec()]).collect();
    let pair = |bytes: &[u8]| usize::from(bytes[0]) << 8 | usize::from(bytes[1]);
    let mut begins = vec![false; 1 << 16];
    for mark in &marks {
        begins[pair(mark)] = true;
    }
    let mut found = Vec::new();
    for at in 0..bytes.len().saturating_sub(1) {
        if begins[pair(&bytes[at..])] {
            for mark in marks.iter().filter(|mark| bytes[at..].starts_with(mark)) {
                let around = &bytes[at.saturating_sub(48)..bytes.len().min(at + mark.len() + 48)];
                found.push(format!("{mark:02x?} in {:?}", String::from_utf8_lossy(around)));
            }
        }
    }
    found
}

fn assert_clean(what: &str, bytes: &[u8]) {
    let found = found(bytes);
    assert!(found.is_empty(), "{what}: {found:?}");
}

fn assert_folder_is_clean(folder: &Path) -> usize {
    let mut files = 0;
    for entry in fs::read_dir(folder).expect("a folder") {
        let path = entry.expect("an entry").path();
        if path.is_dir() {
            files += assert_folder_is_clean(&path);
        } else {
            assert_clean(&path.display().to_string(), &fs::read(&path).expect("readable"));
            files += 1;
        }
    }
    files
}

/// Every element that a message may have, with marks where they fit.
fn marked(number: &str) -> Message {
    let layout = Layout::named("1987-ascii").expect("it comes along");
    let mut message = transaction("0100", number, 1, 100, &[]);
    let track = format!("{number}=30121010000000000");
    message.set(35, track.as_bytes());
    message.set(36, format!("{number}0000000000").as_bytes());
    message.set(45, format!("B{number} CARDHOLDER {SECURITY_CODE}").as_bytes());
    message.set(52, &PIN_DATA);
    for element in (43..=128).filter(|element| ![45, 49, 50, 51, 52, 65].contains(element)) {
        let Some(shape) = layout.element(element) else { continue };
        let text = format!("{number} {SECURITY_CODE}");
        let is_variable = matches!(shape.extent, tp_iso8583::Extent::Up { .. });
        let takes_text = matches!(shape.characters, tp_iso8583::Characters::Text | tp_iso8583::Characters::Binary);
        if is_variable && takes_text && shape.max() >= text.len() {
            message.set(element, text.as_bytes());
        } else if is_variable && takes_text && shape.max() >= number.len() {
            message.set(element, number.as_bytes());
        }
    }
    message
}

/// Card messages with marks in every element, whole and broken at every place.
fn send_messages(gateway: &Gateway) {
    for ((_, at), name) in gateway.cards.iter().zip(["1987-ascii", "1987-bcd"]) {
        let layout = Layout::named(name).expect("it comes along");
        for number in [ADDED, SENT] {
            let mut link = Link::open(*at, name);
            for (stan, mti) in
                ["0100", "0120", "0200", "0220", "0400", "0420", "0500", "0800", "0600"].iter().enumerate()
            {
                let mut asked = Message::new(
                    tp_iso8583::Mti::from_digits(mti.as_bytes().try_into().expect("four")).expect("digits"),
                );
                let marked = marked(number);
                for (element, value) in marked.iter() {
                    asked.set(element, value);
                }
                asked.set(11, format!("{:06}", stan + 10).as_bytes());
                asked.set(42, format!("{number:15.15}").as_bytes());
                let answer = link.call(&asked);
                for element in answer.elements().filter(|element| *element != 2) {
                    assert!(
                        answer.get(element).is_none_or(|value| found(value).is_empty()),
                        "{mti}: element {element} of the answer"
                    );
                }
            }
            let mut whole = Vec::new();
            layout.encode(&marked(number), &mut whole).expect("it fits");
            for cut in (20..whole.len()).step_by(37) {
                let mut link = Link::open(*at, name);
                let mut broken = whole[..cut].to_vec();
                if let Some(last) = broken.last_mut() {
                    *last ^= 0x15;
                }
                link.send_bytes(&u16::try_from(broken.len()).expect("short").to_be_bytes());
                link.send_bytes(&broken);
                link.shut();
                while let Some(answer) = link.answer() {
                    assert!(
                        answer
                            .elements()
                            .filter(|element| *element != 2)
                            .all(|element| found(answer.get(element).unwrap_or_default()).is_empty())
                    );
                }
            }
        }
    }
}

/// Requests with a mark in every member, header and part of the path.
fn send_requests(gateway: &Gateway) {
    let key = &gateway.key;
    let bodies = [
        format!(r#"{{"account":"1","amount":"1","asset":"EUR","scale":2,"reference":"{TYPED}"}}"#),
        r#"{"account":"1","amount":"1","asset":"EUR","scale":2,"reference":"6011 6011 6011 6611"}"#.to_owned(),
        format!(r#"{{"account":"1","amount":"1","asset":"EUR","scale":2,"metadata":{{"note":"{TYPED}"}}}}"#),
        format!(r#"{{"account":"1","amount":"1","asset":"EUR","scale":2,"metadata":{{"{TYPED}":"x"}}}}"#),
        format!(r#"{{"account":"1","amount":"1","asset":"{TYPED}","scale":2}}"#),
        format!(r#"{{"account":"1","amount":1,"asset":"EUR","scale":"{TYPED}"}}"#),
        format!(r#"{{"account":"{TYPED}x","amount":"1","asset":"EUR","scale":2}}"#),
        format!(r#"{{"{TYPED}":"1"}}"#),
        format!(r#"{{"account":"1","lifetime_ms":"{TYPED}"}}"#),
        format!(r#"{{"account":"1" {TYPED}"#),
        format!(r#""{TYPED}""#),
    ];
    let mut answers = Vec::new();
    for (number, body) in bodies.iter().enumerate() {
        for path in [
            "/v1/authorizations",
            "/v1/transfers",
            "/v1/advices",
            "/v1/reversals",
            "/v1/cards",
            "/v1/keys",
            "/v1/batches",
        ] {
            let answer = gateway.command(key, path, &format!("k{number}"), body);
            assert!(answer.status >= 400 && answer.status < 500, "{path} {body}: {}", answer.text);
            answers.push(answer.text);
        }
    }
    let good = r#"{"account":"1","amount":"1","asset":"EUR","scale":2}"#;
    for name in
        ["idempotency-key", "idempotency-key-kind", "tpcore-deadline-ms", "content-type", "traceparent", "x-other"]
    {
        let headers = [("idempotency-key", "h1"), (name, TYPED)];
        let headers = if name == "idempotency-key" { &headers[1..] } else { &headers[..] };
        answers.push(gateway.call(key, "POST", "/v1/authorizations", headers, good).text);
    }
    for path in [
        "/v1/accounts/{}",
        "/v1/authorizations/{}",
        "/v1/accounts/1/commands/{}",
        "/v1/cards/{}",
        "/{}",
        "/v1/accounts?cursor={}",
        "/v1/accounts?{}=1",
    ] {
        answers.push(gateway.get(key, &path.replace("{}", TYPED)).text);
    }
    answers
        .push(gateway.call(key, "POST", "/v1/keys", &[], &format!(r#"{{"person":"{TYPED}","roles":["read"]}}"#)).text);
    answers.push(gateway.get(TYPED, "/v1/tenant").text);
    for answer in &answers {
        assert_clean(answer, answer.as_bytes());
    }
    let refused = gateway.command(key, "/v1/authorizations", "k", &bodies[0]);
    assert_eq!((refused.status, refused.outcome().as_str()), (400, "card_number_refused"));
}

/// gRPC messages with a mark in every text, and in the metadata of a call.
fn send_grpc(gateway: &Gateway) {
    let good = grpc::Command {
        command: "authorize".to_owned(),
        key: "g1".to_owned(),
        account: Some("1".to_owned()),
        amount: Some("1".to_owned()),
        asset: Some("EUR".to_owned()),
        scale: Some(2),
        ..grpc::Command::default()
    };
    let mark = || Some(TYPED.to_owned());
    // A number may be an account or an amount: with a letter behind it, it is neither.
    let no_number = || Some(format!("{TYPED}x"));
    let with = |change: &dyn Fn(&mut grpc::Command)| {
        let mut command = good.clone();
        change(&mut command);
        command
    };
    let commands = vec![
        with(&|c| TYPED.clone_into(&mut c.command)),
        with(&|c| TYPED.clone_into(&mut c.key)),
        with(&|c| c.key_kind = mark()),
        with(&|c| c.account = no_number()),
        with(&|c| c.payee = no_number()),
        with(&|c| c.amount = no_number()),
        with(&|c| c.asset = mark()),
        with(&|c| c.authorization = mark()),
        with(&|c| c.capture = mark()),
        with(&|c| c.original = mark()),
        with(&|c| c.original_kind = mark()),
        with(&|c| c.new_total = no_number()),
        with(&|c| c.advice = mark()),
        with(&|c| c.status = mark()),
        with(&|c| c.credit_limit = no_number()),
        with(&|c| c.limits = Some(grpc::Limits { command_amount: no_number(), ..grpc::Limits::default() })),
        with(&|c| c.value_date = mark()),
        with(&|c| c.reference = mark()),
        with(&|c| drop(c.metadata.insert("note".to_owned(), TYPED.to_owned()))),
        with(&|c| drop(c.metadata.insert(TYPED.to_owned(), "x".to_owned()))),
    ];
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    runtime.block_on(async {
        let channel = tonic::transport::Channel::from_shared(format!("http://{}", gateway.listen)).expect("an address");
        let mut client = GatewayClient::new(channel.connect().await.expect("a connection"));
        let bearer = |key: &str| format!("Bearer {key}").parse().expect("visible");
        let mut batch = tonic::Request::new(grpc::CommandBatch { commands });
        batch.metadata_mut().insert("authorization", bearer(&gateway.key));
        batch.metadata_mut().insert("traceparent", TYPED.parse().expect("visible"));
        let replies = client.execute_batch(batch).await.expect("answered").into_inner().replies;
        assert!(replies.iter().all(|reply| reply.status == 400), "{replies:?}");
        for reply in replies {
            let text = format!("{reply:?}");
            assert_clean(&text, text.as_bytes());
        }
        let mut account = tonic::Request::new(grpc::AccountRequest { account: format!("{TYPED}x") });
        account.metadata_mut().insert("authorization", bearer(&gateway.key));
        let refused = client.get_account(account).await.expect_err("no account").to_string();
        assert_clean(&refused, refused.as_bytes());
        let mut unknown = tonic::Request::new(good.clone());
        unknown.metadata_mut().insert("authorization", bearer(TYPED));
        let refused = client.execute(unknown).await.expect_err("nobody").to_string();
        assert_clean(&refused, refused.as_bytes());
    });
}

/// The binary door has one text: who calls. What is no frame may be anything.
fn send_frames(gateway: &Gateway) {
    let at = gateway.frames.expect("the door");
    assert!(Client::connect(at, TYPED).is_err());
    for broken in [TYPED.as_bytes().to_vec(), [&[200, 0, 0, 0, 1, 0, 1, 0][..], TYPED.as_bytes()].concat()] {
        let mut stream = std::net::TcpStream::connect(at).expect("connected");
        stream.write_all(&broken).expect("written");
        stream.shutdown(std::net::Shutdown::Write).expect("half closed");
        let mut said = Vec::new();
        let _ = stream.read_to_end(&mut said); // a reset is an end
        assert_clean("what a link is told", &said);
    }
}

const PAGE: usize = 4096;

/// The writable memory of a process.
fn memory(id: u32) -> Vec<u8> {
    let maps = fs::read_to_string(format!("/proc/{id}/maps")).expect("its maps");
    let mut file = fs::File::open(format!("/proc/{id}/mem")).expect("its memory");
    let mut all = Vec::new();
    for line in maps.lines().filter(|line| line.split(' ').nth(1).is_some_and(|rights| rights.starts_with("rw"))) {
        let (from, to) = line.split(' ').next().and_then(|range| range.split_once('-')).expect("a range");
        let address = |text| u64::from_str_radix(text, 16).expect("an address");
        let (from, to) = (address(from), address(to));
        let mut part = vec![0; usize::try_from(to - from).expect("it fits")];
        if file.seek(SeekFrom::Start(from)).is_ok() && file.read_exact(&mut part).is_ok() {
            // Most of it was never touched.
            all.extend(part.chunks(PAGE).filter(|page| **page != [0; PAGE][..page.len()]).flatten());
        }
    }
    all
}

#[test]
fn marked_card_data_is_found_nowhere() {
    let folder = tempfile::tempdir().expect("a folder");
    let (data, mirror, log) = (folder.path().join("data"), folder.path().join("mirror"), folder.path().join("log"));
    let file = listeners(folder.path(), "");
    let (setting, mirrored) = (setting(&file), format!("engine.mirror={}", mirror.display()));
    let frames = "frames.listen=127.0.0.1:0";
    let arguments = ["--dev", "--set", &setting, "--set", &mirrored, "--set", "log.level=trace", "--set", frames];
    let start = || Gateway::start_as(&data, &Start { arguments: &arguments, log: Some(&log) });
    {
        let gateway = start();
        let added = gateway.call(
            &gateway.key,
            "POST",
            "/v1/cards",
            &[],
            &format!(r#"{{"card_number":"{ADDED}","account":"2"}}"#),
        );
        assert_eq!(added.status, 201, "{}", added.text);
        assert_clean("the answer to an added card", added.text.as_bytes());
        let card = added.json()["card"].as_str().expect("a token").to_owned();
        for body in [
            format!(r#"{{"card_number":"{TYPED}x","account":"2"}}"#),
            format!(r#"{{"card_number":{TYPED},"account":"2"}}"#),
            format!(r#"{{"account":"2","{TYPED}":1}}"#),
        ] {
            let refused = gateway.call(&gateway.key, "POST", "/v1/cards", &[], &body);
            assert_eq!(refused.status, 400);
            assert_clean("a refused card", refused.text.as_bytes());
        }
        send_messages(&gateway);
        send_requests(&gateway);
        send_grpc(&gateway);
        send_frames(&gateway);
        // The marks do come out where they may.
        let shown = gateway.call(&gateway.key, "POST", &format!("/v1/cards/{card}/reveal"), &[], "");
        assert_eq!(shown.json()["card_number"], ADDED);
        for path in ["/metrics", "/status.json", "/"] {
            assert_clean(path, gateway.admin(path).text.as_bytes());
        }
        assert_eq!(gateway.stop(), Some(0), "with a checkpoint, and the files of a close");
    }
    // Journal, mirror, checkpoints, sled, the server's own files.
    assert!(assert_folder_is_clean(&data) > 5 && assert_folder_is_clean(&mirror) > 0);
    let log_text = fs::read(&log).expect("a log");
    assert!(contains(&log_text, b"a message was answered 30"), "what is searched has what happened");
    assert_clean("the log", &log_text);

    // Memory: card messages and frames. What HTTP was sent is in buffers of its library until they are used again (docs/src/known-limits.md).
    let gateway = start();
    send_messages(&gateway);
    send_frames(&gateway);
    let mut link = Link::open(gateway.cards[0].1, "1987-ascii");
    assert_eq!(link.code(&message("0800", &[(7, "1127101010"), (11, "000001"), (70, "301")])), "00");
    let memory = memory(gateway.id());
    assert!(contains(&memory, b"1987-ascii"), "the memory that is searched is the server's");
    assert_clean("memory", &memory);
}
