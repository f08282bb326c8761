//! A frame's payload: events, back to back.
//!
//! Promised: an error or events in range. What was read has one canonical form, which reads back as the same event, and any slot
//! can be shown it.

use tp_core::codec::{EventBytes, Events, decode, encode};
use tp_core::event::Event;
use tp_core::ids::{Seq, SlotIndex, SlotSeed};
use tp_core::rules::Windows;
use tp_core::slot::Slot;
use tp_core::time::Time;
use tp_fuzz::{Bound, Seed};

use crate::golden::{KINDS, aligned, bytes, seed};

/// An event in memory is several times as large as its bytes.
const BOUND: Bound = Bound { bytes: 8 << 10, per_byte: 48, turnover: 4 };

fn seeds() -> Vec<Seed> {
    let two = [bytes("authorized"), bytes("settled")].concat();
    KINDS.iter().map(|kind| seed(kind)).chain([("two-events".to_owned(), two)]).collect()
}

fn check(bytes: &[u8]) {
    let payload = aligned(bytes);
    let events: Vec<Event> = BOUND.hold(bytes.len(), || Events::new(&payload).map_while(Result::ok).collect());
    for event in &events {
        let mut again = EventBytes::new();
        let length = encode(event, &mut again);
        assert_eq!(decode(&again), Ok((event.clone(), length)), "what was read survives its bytes");
        assert!(event.time <= Time::MAX, "{event:?}");
        event.body.each_leg(|leg| {
            assert!(SlotIndex::new(leg.slot.get()).is_some(), "{event:?}");
            let mut slot = Slot::new(leg.slot, SlotSeed([7; 16]), Windows::default());
            if slot.evolve(event, Seq(1), leg.role).is_ok() {
                slot.validate().unwrap_or_else(|violation| panic!("{violation:?} after {event:?}"));
            }
        });
    }
}

#[test]
fn a_payload_of_any_bytes_is_an_error_or_valid_events() {
    tp_fuzz::target!("event", seeds, check);
}

#[test]
fn every_single_byte_of_every_kind_may_be_anything() {
    for kind in KINDS {
        let whole = bytes(kind);
        for at in 0..whole.len() {
            for to in [0, 1, 0x7F, 0x80, 0xFF] {
                let mut bytes = whole.clone();
                bytes[at] = to;
                check(&bytes);
            }
        }
    }
}

#[test]
fn an_event_cut_anywhere_is_an_error() {
    for kind in KINDS {
        let bytes = bytes(kind);
        let body = u32::from_le_bytes([bytes[4], bytes[5], bytes[6], bytes[7]]) as usize;
        for length in 0..16 + body {
            assert!(decode(&aligned(&bytes[..length])).is_err(), "{kind} cut to {length}");
        }
    }
}
