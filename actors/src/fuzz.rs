//! Fuzz target of the small records that the files keep for this crate: a directory's parameters, a checkpoint's extra part.
//!
//! Promised: refused, or read as written. The input is both. How to run a fuzzer on it: `docs/src/fuzzing.md`.

use tp_core::ids::SlotSeed;
use tp_core::rules::Windows;
use tp_fuzz::{Bound, Seed};

use crate::config::JournalKind;
use crate::fold::CheckpointExtra;
use crate::parameters::Parameters;

/// Nothing is allocated.
const BOUND: Bound = Bound { bytes: 0, per_byte: 0, turnover: 1 };

fn seeds() -> Vec<Seed> {
    let parameters = |windows, journal| Parameters { seed: SlotSeed([7; 16]), windows, journal }.encode();
    let forever = Windows { key_uuid_v7_ms: None, key_opaque_ms: None, refund_ms: u64::MAX };
    vec![
        ("parameters".to_owned(), parameters(Windows::default(), JournalKind::Segment)),
        ("forever".to_owned(), parameters(forever, JournalKind::Memory)),
        ("extra".to_owned(), CheckpointExtra { durable_seq: 41, time_max: 1_700_000_000_000 }.encode().to_vec()),
    ]
}

fn check(bytes: &[u8]) {
    if let Ok(parameters) = BOUND.hold(bytes.len(), || Parameters::decode(bytes)) {
        assert_eq!(parameters.encode(), bytes, "parameters have one form");
    }
    if let Some(extra) = BOUND.hold(bytes.len(), || CheckpointExtra::decode(bytes)) {
        assert_eq!(extra.encode(), bytes, "an extra part has one form");
    }
}

#[test]
fn records_of_any_bytes_are_refused_or_read_as_written() {
    tp_fuzz::target!("records", seeds, check);
}
