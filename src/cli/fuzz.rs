//! Fuzz target of what a person writes in an argument: points, dates, ids, ledgers.
//!
//! Promised: refused, or read; and what was read, shown and read again is the same. How to run a fuzzer on it:
//! `docs/src/fuzzing.md`.

use std::fmt::{Debug, Display};
use std::str::FromStr;

use tp_fuzz::{Bound, Seed};
use tpcore::{AuthorizationId, Date, Ledger, TransferId};

use super::point::{Point, parse_account, parse_authorization};

/// A copy without hyphens, and a message.
const BOUND: Bound = Bound { bytes: 1 << 10, per_byte: 4, turnover: 2 };

fn seeds() -> Vec<Seed> {
    let texts = [
        ("date", "1993-06-30"),
        ("date-last", "2149-06-06"),
        ("moment", "1993-06-30T12:34:56Z"),
        ("moment-fraction", "2024-02-29t23:59:59.999+00:00"),
        ("moment-none", "1993-06-30T24:00:00Z"),
        ("seq", "18446744073709551615"),
        ("account", "340282366920938463463374607431768211455"),
        ("id", "0190163d-8694-8123-8abc-0123456789ab"),
        ("id-bare", "0190163D869481238ABC0123456789AB"),
        ("ledger", "EUR/2"),
        ("ledger-longest", "ABC1234/38"),
    ];
    texts.map(|(name, text)| (name.to_owned(), text.as_bytes().to_vec())).to_vec()
}

fn read<T>(text: &str, parse: impl FnOnce(&str) -> Option<T>) -> Option<T> {
    BOUND.hold(text.len(), || parse(text))
}

fn survives<T: FromStr + Display + PartialEq + Debug>(text: &str) {
    if let Some(value) = read(text, |text| text.parse::<T>().ok()) {
        assert_eq!(value.to_string().parse::<T>().ok().as_ref(), Some(&value), "{text:?}");
    }
}

fn check(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    survives::<Date>(text);
    survives::<Ledger>(text);
    survives::<AuthorizationId>(text);
    survives::<TransferId>(text);
    if let Some(id) = read(text, |text| parse_authorization(text).ok()) {
        assert_eq!(parse_authorization(&id.to_string()), Ok(id), "{text:?}");
    }
    if let Some(account) = read(text, |text| parse_account(text).ok()) {
        assert_eq!(parse_account(&account.0.to_string()), Ok(account), "{text:?}");
    }
    match read(text, |text| text.parse::<Point>().ok()) {
        Some(Point::Day(date)) => assert_eq!(date.to_string(), text, "a date has one form"),
        Some(Point::Seq(seq)) => assert_eq!(text.trim_start_matches('0'), seq.0.to_string().trim_start_matches('0')),
        Some(Point::Moment(time)) => {
            assert_eq!(time.date().to_string(), text[..10], "a moment lies in its day");
            let clock = [time.0 / 3_600_000 % 24, time.0 / 60_000 % 60, time.0 / 1000 % 60];
            assert_eq!(clock.map(|part| format!("{part:02}")).join(":"), text[11..19], "and has its clock");
        }
        None => {}
    }
}

#[test]
fn an_argument_of_any_text_is_refused_or_survives_its_own() {
    tp_fuzz::target!("arguments", seeds, check);
}
