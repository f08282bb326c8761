//! Replays a journal into slots, as recovery does: each partition takes the legs of its own slots, in order.

use tp_core::digest::StateDigest;
use tp_core::event::Event;
use tp_core::ids::{Seq, SlotIndex};
use tp_core::rules::Rules;
use tp_core::slot::Slot;
use tp_core::time::Time;

use super::SEED;

/// The slots after the journal, each partition's legs replayed on their own.
pub(crate) fn replay(journal: &[Event], partitions: usize, rules: &Rules) -> Vec<Slot> {
    let mut slots: Vec<Slot> = SlotIndex::all().map(|index| Slot::new(index, SEED, rules.windows)).collect();
    for p in 0..partitions {
        for (n, event) in journal.iter().enumerate() {
            let seq = Seq(n as u64 + 1);
            event.body.each_leg(|leg| {
                if leg.slot.index() % partitions == p {
                    let slot = &mut slots[leg.slot.index()];
                    slot.evolve(event, seq, leg.role).expect("J4: a journaled event follows from the state before it");
                }
            });
        }
    }
    slots
}

/// The digest of a state at a time.
pub(crate) fn digest<'a>(slots: impl IntoIterator<Item = &'a Slot>, at: Time) -> StateDigest {
    StateDigest::of_slots(slots.into_iter().map(|slot| slot.digest(at)))
}

/// Says which slot differs, before the digest only says that one does.
pub(crate) fn check_same<'a>(live: impl IntoIterator<Item = &'a Slot>, replayed: &[Slot], at: Time) {
    for (live, replayed) in live.into_iter().zip(replayed) {
        assert_eq!(live.index(), replayed.index());
        if live.digest(at) != replayed.digest(at) {
            let (a, b) = (live.accounts(), replayed.accounts());
            assert_eq!(a, b, "J4: accounts of slot {:?}", live.index());
            panic!(
                "J4: slot {:?} differs in its replay although its accounts do not:\n live {live:?}\n replayed {replayed:?}",
                live.index()
            );
        }
    }
}
