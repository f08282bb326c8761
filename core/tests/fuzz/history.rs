//! A journal's events, replayed: each is followed, or is refused and changes nothing that can be seen.
//!
//! Promised: slots stay readable whatever events they followed, and a slot whose invariants hold goes into an image and comes back
//! from it as the same slot.

use std::collections::BTreeMap;

use tp_core::amount::Amount;
use tp_core::codec::Events;
use tp_core::event::{Body, Event};
use tp_core::ids::{AuthorizationId, Seq, SlotIndex, SlotSeed};
use tp_core::rules::Windows;
use tp_core::slot::Slot;
use tp_core::time::Time;
use tp_fuzz::{Bound, Seed};

use crate::golden::{aligned, journal};

const SEED: SlotSeed = SlotSeed([7; 16]);

/// A slot in memory begins with tables of its own; each event names up to some slots.
const BOUND: Bound = Bound { bytes: 64 << 10, per_byte: 256, turnover: 8 };

fn seeds() -> Vec<Seed> {
    let events = journal();
    let part = |length: usize| (format!("journal-{length}"), events[..length].concat());
    (1..=events.len()).filter(|length| length % 5 == 0 || *length == events.len()).map(part).collect()
}

type Slots = BTreeMap<SlotIndex, Slot>;

/// Replays up to the first event that does not follow; the largest time among those that did.
fn replay(payload: &[u8]) -> (Slots, Time) {
    let (mut slots, mut time) = (Slots::new(), Time(0));
    for (number, event) in Events::new(payload).map_while(Result::ok).enumerate() {
        if !follow(&mut slots, &event, Seq(number as u64 + 1)) {
            break;
        }
        time = time.max(event.time);
    }
    (slots, time)
}

fn follow(slots: &mut Slots, event: &Event, seq: Seq) -> bool {
    let mut is_followed = true;
    event.body.each_leg(|leg| {
        let slot = slots.entry(leg.slot).or_insert_with(|| Slot::new(leg.slot, SEED, Windows::default()));
        is_followed &= slot.evolve(event, seq, leg.role).is_ok();
    });
    is_followed
}

fn check(bytes: &[u8]) {
    let payload = aligned(bytes);
    let (slots, time) = BOUND.hold(bytes.len(), || replay(&payload));
    for slot in slots.values() {
        let image = slot.image(time);
        _ = slot.accounts();
        if slot.validate().is_ok() {
            let again = Slot::from_image(&image, SEED, Windows::default()).expect("a valid slot's image is one");
            assert!(again.image(time) == image, "a slot comes back from its image as it was");
        }
    }
}

#[test]
fn any_events_are_followed_or_refused() {
    tp_fuzz::target!("history", seeds, check);
}

#[test]
fn the_golden_journal_follows_to_its_end() {
    let events = journal();
    let payload = aligned(&events.concat());
    let mut slots = Slots::new();
    for (number, event) in Events::new(&payload).enumerate() {
        let event = event.expect("a golden event");
        assert!(follow(&mut slots, &event, Seq(number as u64 + 1)), "{event:?}");
    }
    for slot in slots.values() {
        slot.validate().expect("valid");
    }
}

/// The golden journal up to the first event that `change` changes; whether that one is followed.
fn follows_changed(change: impl Fn(&mut Body) -> bool) -> bool {
    let payload = aligned(&journal().concat());
    let mut slots = Slots::new();
    for (event, number) in Events::new(&payload).zip(1..) {
        let mut event = event.expect("a golden event");
        let is_changed = change(&mut event.body);
        let is_followed = follow(&mut slots, &event, Seq(number));
        if is_changed {
            return is_followed;
        }
        assert!(is_followed, "{event:?}");
    }
    panic!("nothing was changed");
}

#[test]
fn an_id_after_which_there_is_none_is_refused() {
    // A slot that followed it was valid, and had an image that could not be read back: a checkpoint for nothing.
    let with_counter = |counter: u64| {
        follows_changed(|body| {
            let Body::Authorized(e) = body else { return false };
            e.authorization = AuthorizationId::new(e.authorization.time(), e.authorization.slot(), counter);
            true
        })
    };
    assert!(with_counter((1 << 62) - 2));
    assert!(!with_counter((1 << 62) - 1));
}

#[test]
fn an_authorization_incremented_beyond_an_amount_is_refused() {
    // As above: its image holds amounts, and this was none.
    let with_amount = |amount: Amount| {
        follows_changed(|body| {
            let Body::Incremented(e) = body else { return false };
            e.amount = amount;
            true
        })
    };
    assert!(with_amount(Amount::from(7)));
    assert!(!with_amount(Amount::MAX));
}
