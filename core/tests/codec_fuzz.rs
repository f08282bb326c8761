//! Bytes from outside: damaged events and images never panic; what is read from them is an error or something valid.
//!
//! The starting points are the golden files, so that damage falls on every field of every kind.

use std::path::Path;

use proptest::collection::vec;
use proptest::prelude::*;
use proptest::test_runner::FileFailurePersistence;
use tp_core::codec::{EventBytes, Events, decode, encode};
use tp_core::ids::{Seq, SlotIndex, SlotSeed};
use tp_core::rules::Windows;
use tp_core::slot::Slot;
use tp_core::time::Time;

const SEED: SlotSeed = SlotSeed([7; 16]);

/// One damage.
#[derive(Clone, Debug)]
enum Damage {
    Flip {
        at: usize,
        bit: u8,
    },
    Set {
        at: usize,
        to: u8,
    },
    /// Eight bytes: lengths and offsets are hit as a whole.
    Word {
        at: usize,
        to: u64,
    },
    Cut {
        at: usize,
    },
    Repeat {
        from: usize,
        bytes: usize,
    },
    Swap {
        a: usize,
        b: usize,
    },
}

fn damage() -> impl Strategy<Value = Damage> {
    let at = any::<usize>();
    prop_oneof![
        4 => (at, 0u8..8).prop_map(|(at, bit)| Damage::Flip { at, bit }),
        3 => (at, prop_oneof![Just(0u8), Just(0xFF), any::<u8>()]).prop_map(|(at, to)| Damage::Set { at, to }),
        2 => (at, prop_oneof![Just(0u64), Just(u64::MAX), any::<u64>(), 0u64..512]).prop_map(|(at, to)| Damage::Word { at, to }),
        1 => at.prop_map(|at| Damage::Cut { at }),
        1 => (at, 1usize..64).prop_map(|(from, bytes)| Damage::Repeat { from, bytes }),
        1 => (at, any::<usize>()).prop_map(|(a, b)| Damage::Swap { a, b }),
    ]
}

fn apply(bytes: &mut Vec<u8>, damage: &Damage) {
    let length = bytes.len();
    if length == 0 {
        return;
    }
    match *damage {
        Damage::Flip { at, bit } => bytes[at % length] ^= 1 << bit,
        Damage::Set { at, to } => bytes[at % length] = to,
        Damage::Word { at, to } => {
            let at = at % length / 8 * 8;
            let end = length.min(at + 8);
            bytes[at..end].copy_from_slice(&to.to_le_bytes()[..end - at]);
        }
        Damage::Cut { at } => bytes.truncate(at % length),
        Damage::Repeat { from, bytes: count } => {
            let from = from % length;
            let again = bytes[from..length.min(from + count)].to_vec();
            bytes.extend(again);
        }
        Damage::Swap { a, b } => bytes.swap(a % length, b % length),
    }
}

fn damage_all(bytes: &mut Vec<u8>, damages: &[Damage]) {
    for damage in damages {
        apply(bytes, damage);
    }
}

/// Aligned as a frame's payload is.
fn aligned(bytes: &[u8]) -> EventBytes {
    let mut aligned = EventBytes::new();
    aligned.extend_from_slice(bytes);
    aligned
}

fn golden(name: &str) -> Vec<u8> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden").join(name);
    let text = std::fs::read_to_string(path).expect("a golden file");
    let digits: Vec<u8> = text.bytes().filter(u8::is_ascii_hexdigit).collect();
    let byte = |pair: &[u8]| core::str::from_utf8(pair).ok().and_then(|pair| u8::from_str_radix(pair, 16).ok());
    digits.chunks(2).map(|pair| byte(pair).expect("two hex digits")).collect()
}

/// What was read is valid: it can be written, read back, and shown to a slot.
fn check_read(bytes: &[u8]) {
    let payload = aligned(bytes);
    for event in Events::new(&payload).map_while(Result::ok) {
        let mut again = EventBytes::new();
        let length = encode(&event, &mut again);
        assert_eq!(decode(&again).as_ref(), Ok(&(event.clone(), length)), "what was read survives its bytes");
        event.body.each_leg(|leg| {
            assert!(SlotIndex::new(leg.slot.get()).is_some(), "{event:?}");
            let mut slot = Slot::new(leg.slot, SEED, Windows::default());
            _ = slot.evolve(&event, Seq(1), leg.role);
        });
    }
}

fn config() -> ProptestConfig {
    let failure_persistence = Some(Box::new(FileFailurePersistence::WithSource("regressions")) as Box<_>);
    ProptestConfig { failure_persistence, ..ProptestConfig::with_cases(2_000) }
}

const KINDS: [&str; 14] = [
    "settled",
    "noted",
    "tombstoned",
    "fenced",
    "authorized",
    "incremented",
    "released",
    "expired",
    "moved",
    "opened",
    "answered",
    "ended",
    "forgotten",
    "recorded",
];

/// The golden journal's events, each with its own bytes.
fn journal() -> Vec<Vec<u8>> {
    let payload = aligned(&golden("journal.hex"));
    let mut rest = &payload[..];
    let mut events = Vec::new();
    while let Ok((_, length)) = decode(rest) {
        events.push(rest[..length].to_vec());
        rest = &rest[length..];
    }
    events
}

/// Replays the journal up to its n-th event, which comes damaged: it does not follow, or leaves slots that can be read.
fn check_evolve(n: usize, damages: &[Damage]) {
    let events = journal();
    let n = n % events.len();
    let mut slots: std::collections::BTreeMap<SlotIndex, Slot> = std::collections::BTreeMap::new();
    for (k, bytes) in events.into_iter().take(n + 1).enumerate() {
        let mut bytes = bytes;
        if k == n {
            damage_all(&mut bytes, damages);
        }
        let Ok((event, _)) = decode(&aligned(&bytes)) else { return };
        event.body.each_leg(|leg| {
            let slot = slots.entry(leg.slot).or_insert_with(|| Slot::new(leg.slot, SEED, Windows::default()));
            let evolved = slot.evolve(&event, Seq(k as u64 + 1), leg.role);
            assert!(k == n || evolved.is_ok(), "the golden journal follows: {evolved:?}");
            if evolved.is_ok() {
                _ = slot.validate();
                _ = slot.digest(event.time);
                _ = slot.accounts();
            }
        });
    }
}

proptest! {
    #![proptest_config(config())]

    #[test]
    fn a_damaged_event_does_not_follow_or_leaves_a_readable_slot(n in any::<usize>(), damages in vec(damage(), 1..4)) {
        check_evolve(n, &damages);
    }

    #[test]
    fn a_damaged_event_is_an_error_or_a_valid_event(kind in 0usize..KINDS.len(), damages in vec(damage(), 1..6)) {
        let mut bytes = golden(&format!("{}.hex", KINDS[kind]));
        damage_all(&mut bytes, &damages);
        check_read(&bytes);
    }

    #[test]
    fn a_damaged_image_is_an_error_or_a_slot(damages in vec(damage(), 1..6)) {
        let mut bytes = golden("slot-image.hex");
        damage_all(&mut bytes, &damages);
        if let Ok(slot) = Slot::from_image(&bytes, SEED, Windows::default()) {
            _ = slot.validate();
            _ = slot.accounts();
            _ = slot.digest(Time(0));
            _ = slot.image(Time(0));
        }
    }

    #[test]
    fn any_bytes_are_read_without_panic(bytes in vec(any::<u8>(), 0..400)) {
        check_read(&bytes);
        assert!(Slot::from_image(&bytes, SEED, Windows::default()).is_err(), "noise is no image");
    }
}

#[test]
fn every_single_byte_of_every_kind_may_be_anything() {
    for kind in KINDS {
        let whole = golden(&format!("{kind}.hex"));
        for at in 0..whole.len() {
            for to in [0, 1, 0x7F, 0x80, 0xFF] {
                let mut bytes = whole.clone();
                bytes[at] = to;
                check_read(&bytes);
            }
        }
    }
}

#[test]
fn an_event_cut_anywhere_is_an_error() {
    for kind in KINDS {
        let bytes = golden(&format!("{kind}.hex"));
        let body = u32::from_le_bytes([bytes[4], bytes[5], bytes[6], bytes[7]]) as usize;
        for length in 0..16 + body {
            assert!(decode(&aligned(&bytes[..length])).is_err(), "{kind} cut to {length}");
        }
    }
}
