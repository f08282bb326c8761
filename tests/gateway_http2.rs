//! Hostile HTTP/2 peers, frame by frame, while honest callers are served.
//!
//! Each connection is ended by the server: at once, or at a deadline. None makes it answer 5xx, hold memory or keep anybody else.

#[path = "support/gateway.rs"]
mod support;

#[path = "support/attack.rs"]
mod attack;

use std::time::Duration;

use attack::{Held, Honest, PREFACE, field, frame, frames, get, h2};
use support::{Connection, Gateway};

const GROWTH_KIB: u64 = 64 << 10;

/// Sends the preface, empty settings and then `bytes`, until the server closes; gives back what it said.
fn blast(gateway: &Gateway, settings: &[u8], bytes: impl IntoIterator<Item = Vec<u8>>) -> Vec<u8> {
    let mut connection = Connection::open(gateway.listen);
    connection.socket().set_write_timeout(Some(Duration::from_mins(2))).expect("a timeout");
    let mut begin = PREFACE.to_vec();
    begin.extend(frame(h2::SETTINGS, 0, 0, settings));
    let mut failed = connection.write(&begin).err();
    for part in bytes {
        if failed.is_some() {
            break;
        }
        failed = connection.write(&part).err();
    }
    let is_late = |kind| matches!(kind, std::io::ErrorKind::WouldBlock | std::io::ErrorKind::TimedOut);
    assert!(!failed.is_some_and(|error| is_late(error.kind())), "the server took nothing and did not close");
    connection.until_the_end()
}

fn served(attack: impl FnOnce(&Gateway)) {
    let folder = tempfile::tempdir().expect("a folder");
    let deadlines = ["--set", "deadlines.idle_ms=1500", "--set", "deadlines.answer_ms=1500"];
    let gateway = Gateway::dev(&folder.path().join("data"), &deadlines);
    let honest = Honest::start_anew(&gateway);
    let before = Held::of(&gateway);
    attack(&gateway);
    honest.end(&gateway);
    before.is_back(&gateway, GROWTH_KIB);
    assert_eq!(gateway.stop(), Some(0));
}

/// The error code of the first GOAWAY.
fn goaway(said: &[u8]) -> Option<u8> {
    frames(said).iter().find(|(kind, ..)| *kind == h2::GOAWAY).map(|(.., payload)| payload[7])
}

/// RFC 9113, section 7.
const ENHANCE_YOUR_CALM: u8 = 11;

#[test]
fn a_request_over_http2_is_answered() {
    served(|gateway| {
        let said = blast(gateway, &[], [frame(h2::HEADERS, h2::END_HEADERS | h2::END_STREAM, 1, &get("/health/live"))]);
        let data = frames(&said).into_iter().find(|(kind, ..)| *kind == h2::DATA).expect("a body").3;
        assert_eq!(data, br#"{"live":true}"#);
    });
}

#[test]
fn streams_opened_and_reset_at_once_end_the_connection() {
    // Rapid reset (CVE-2023-44487).
    served(|gateway| {
        let streams = (0..5_000).map(|number| {
            let stream = 2 * number + 1;
            let mut pair = frame(h2::HEADERS, h2::END_HEADERS | h2::END_STREAM, stream, &get("/openapi.json"));
            pair.extend(frame(h2::RST_STREAM, 0, stream, &8_u32.to_be_bytes()));
            pair
        });
        // In large packets, so that resets arrive with what they reset.
        let all: Vec<u8> = streams.flatten().collect();
        let said = blast(gateway, &[], all.chunks(60_000).map(<[u8]>::to_vec));
        assert!(said.is_empty() || goaway(&said) == Some(ENHANCE_YOUR_CALM), "{:?}", goaway(&said));
    });
}

#[test]
fn floods_of_pings_and_settings_end_at_the_idle_deadline_at_the_latest() {
    served(|gateway| {
        for flood in [
            frame(h2::PING, 0, 0, &[7; 8]),
            frame(h2::SETTINGS, 0, 0, &[0, 3, 0, 0, 0, 9]),
            frame(h2::WINDOW_UPDATE, 0, 0, &1_u32.to_be_bytes()),
            // A kind that nobody knows has to be ignored.
            frame(0xf0, 0, 0, &[0; 64]),
        ] {
            let many = flood.repeat(1_000);
            blast(gateway, &[], std::iter::repeat_n(many, 100_000));
        }
    });
}

#[test]
fn header_bombs_are_refused_without_being_unpacked() {
    served(|gateway| {
        // One field of 4,000 bytes goes into the table, then stands in one byte each: 16 MB.
        let mut bomb = get("/health/live");
        bomb.extend([0x40, 1, b'x', 0x7f, 0xa1, 0x1e]); // a length of 127 + 33 + 30 * 128 = 4,000
        bomb.extend([b'y'; 4_000]);
        bomb.extend([0x80 | 0x3e; 4_000]);
        let said = blast(gateway, &[], [frame(h2::HEADERS, h2::END_HEADERS | h2::END_STREAM, 1, &bomb)]);
        let has_data =
            frames(&said).iter().any(|(kind, _, _, payload)| *kind == h2::DATA && payload.starts_with(b"{\"live"));
        assert!(!has_data, "it was unpacked and answered");
        // A head without an end.
        let piece = frame(h2::CONTINUATION, 0, 1, &field("x", "y").repeat(1_000));
        let begin = frame(h2::HEADERS, h2::END_STREAM, 1, &get("/health/live"));
        let said = blast(gateway, &[], std::iter::once(begin).chain(std::iter::repeat_n(piece, 100_000)));
        assert!(!frames(&said).iter().any(|(kind, ..)| *kind == h2::HEADERS), "no answer");
    });
}

#[test]
fn answers_that_no_window_lets_through_end_the_connection_at_the_deadline() {
    served(|gateway| {
        // SETTINGS_INITIAL_WINDOW_SIZE = 0: no byte of a body may be sent.
        let streams = (0..200)
            .map(|number| frame(h2::HEADERS, h2::END_HEADERS | h2::END_STREAM, 2 * number + 1, &get("/openapi.json")));
        let said = blast(gateway, &[0, 4, 0, 0, 0, 0], streams);
        assert!(frames(&said).iter().all(|(kind, _, _, payload)| *kind != h2::DATA || payload.is_empty()));
    });
}

#[test]
fn frames_that_break_the_protocol_end_the_connection() {
    served(|gateway| {
        let head = || frame(h2::HEADERS, h2::END_HEADERS | h2::END_STREAM, 1, &get("/health/live"));
        let broken = [
            frame(h2::DATA, 0, 0, b"on no stream"),
            frame(h2::DATA, 0, 7, b"on an idle stream"),
            frame(h2::HEADERS, h2::END_HEADERS | h2::END_STREAM, 2, &get("/health/live")),
            [head(), head()].concat(),
            frame(h2::HEADERS, h2::END_HEADERS | h2::END_STREAM, 1, &[0xff; 100]),
            frame(h2::SETTINGS, 0, 0, &[0; 5]),
            frame(h2::PING, 0, 0, &[0; 7]),
            frame(h2::WINDOW_UPDATE, 0, 0, &[0; 4]),
            frame(h2::CONTINUATION, h2::END_HEADERS, 1, b""),
            [[0xff, 0xff, 0xff, h2::DATA, 0].as_slice(), &[0; 4], &vec![0; 100_000]].concat(),
            // Two hosts.
            frame(
                h2::HEADERS,
                h2::END_HEADERS | h2::END_STREAM,
                1,
                &[get("/health/live"), field("host", "other")].concat(),
            ),
        ];
        for bytes in broken {
            let said = blast(gateway, &[], [bytes.clone()]);
            let has_answer = frames(&said).iter().filter(|(kind, ..)| *kind == h2::DATA).count();
            assert!(has_answer <= 1, "{bytes:?}");
        }
    });
}
