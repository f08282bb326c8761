//! Fuzz targets: the file of acknowledgements, and what a person writes in an argument.
//!
//! Promised: refused, or read; lines of acknowledgements are exactly what the recorder writes; and an argument that was read,
//! shown and read again is the same. How to run a fuzzer on them: `docs/src/fuzzing.md`.

use std::collections::BTreeSet;
use std::fmt::{Debug, Display};
use std::str::FromStr;

use tp_fuzz::{Bound, Seed};
use tpcore::{KeyKind, Outcome};

use crate::audit::{Audited, read};
use crate::mix::Mix;
use crate::schedule::Schedule;
use crate::skew::Skew;
use crate::slo::Objective;
use crate::units;

/// A line of 80 bytes becomes an entry of 64 in a table that doubles, and may be quoted in a finding or an error.
const ACKS: Bound = Bound { bytes: 16 << 10, per_byte: 8, turnover: 4 };

/// A stage for each few bytes; messages quote the text.
const ARGUMENTS: Bound = Bound { bytes: 4 << 10, per_byte: 32, turnover: 8 };

fn seed(name: &str, text: &str) -> Seed {
    (name.to_owned(), text.as_bytes().to_vec())
}

fn acks_line(kind: &str, outcome: Outcome, number: u128) -> String {
    format!("{kind},{number:032x},{:032x},{outcome},{}\n", number + 1, number % 99 + 1)
}

fn acks_seeds() -> Vec<Seed> {
    let lines: Vec<String> =
        Outcome::ALL.iter().zip(1..).map(|(outcome, number)| acks_line("uuid_v7", *outcome, number)).collect();
    let opaque = acks_line("opaque", Outcome::ALL[0], u128::MAX - 1);
    vec![
        seed("every-outcome", &lines.concat()),
        seed("opaque", &opaque),
        seed("torn", &format!("{}{}", lines[0], &lines[1][..40])),
        seed("twice", &format!("{0}{0}", lines[0])),
        seed("contradiction", &format!("{}{}", lines[0], lines[0].replace(",2\n", ",3\n"))),
    ]
}

fn check_acks(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    let mut audited = Audited::default();
    let Ok(wanted) = ACKS.hold(bytes.len(), || read(text, &mut audited)) else { return };
    let whole: Vec<&str> = text.split_inclusive('\n').filter(|line| line.ends_with('\n')).collect();
    assert_eq!(audited.lines, whole.len() as u64, "every whole line counts");
    assert_eq!(audited.torn_line, !text.is_empty() && !text.ends_with('\n'));
    let lines: BTreeSet<String> = wanted
        .iter()
        .map(|((owner, key), ack)| {
            let kind = if key.kind == KeyKind::Opaque { "opaque" } else { "uuid_v7" };
            format!("{kind},{:032x},{:032x},{},{}\n", key.bits, owner.0, ack.outcome, ack.seq)
        })
        .collect();
    let different: BTreeSet<String> = whole.iter().map(|line| (*line).to_owned()).collect();
    assert!(lines.is_subset(&different), "a line has one form");
    assert!(audited.wrong > 0 || lines == different, "only a contradiction takes the place of another line");
    assert!(!audited.is_complete() || wanted.is_empty() || audited.keys == 0, "nothing was found yet");
}

fn arguments_seeds() -> Vec<Seed> {
    vec![
        seed("duration", "0.5s"),
        seed("duration-longest", "5124095h"),
        seed("rate", "1.5m/s"),
        seed("rate-grouped", "20_000"),
        seed("schedule", "ramp:1k-50k:10s,spike:100k:2s,soak:20k:168h"),
        seed("objective", "p99.9<300ms"),
        seed("objective-max", "max < 1m"),
        seed("skew-zipf", "zipf:0.99"),
        seed("skew-hot", "hot:1"),
        seed("mix", "authorize=60,capture=25,void=5,refund=3,lookup=7"),
    ]
}

fn survives<T: FromStr + Display + PartialEq + Debug>(text: &str) {
    let value = ARGUMENTS.hold(text.len(), || text.parse::<T>().ok());
    if let Some(value) = value {
        assert_eq!(value.to_string().parse::<T>().ok().as_ref(), Some(&value), "{text:?}");
    }
}

fn check_arguments(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    survives::<Objective>(text);
    survives::<Skew>(text);
    survives::<Mix>(text);
    if let Ok(duration) = units::duration(text) {
        assert_eq!(units::duration(&units::show_duration(duration)), Ok(duration), "{text:?}");
    }
    if let Ok(rate) = units::rate(text) {
        assert!((1..=units::RATE_MAX).contains(&rate), "{text:?}");
    }
    if let Ok(schedule) = ARGUMENTS.hold(text.len(), || Schedule::parse(text)) {
        assert_eq!(Schedule::parse(&schedule.to_string()).as_ref(), Ok(&schedule), "{text:?}");
        let end = u64::try_from(schedule.length().as_nanos()).unwrap_or(u64::MAX);
        let times: Vec<u64> = schedule.times().take(50).collect();
        assert!(times.is_sorted() && times.iter().all(|time| *time <= end), "{text:?}: {times:?}");
        assert!((1..=units::RATE_MAX).contains(&schedule.rate_max()), "{text:?}");
    }
}

#[test]
fn a_file_of_acknowledgements_of_any_bytes_is_refused_or_read() {
    tp_fuzz::target!("acknowledgements", acks_seeds, check_acks);
}

#[test]
fn an_argument_of_any_text_is_refused_or_survives_its_own() {
    tp_fuzz::target!("load-arguments", arguments_seeds, check_arguments);
}
