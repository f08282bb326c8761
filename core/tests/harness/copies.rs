//! Copies of slots, taken in parts while the world goes on: each must show its slot as it was when the copy began.

use std::collections::BTreeMap;

use tp_core::copying::{PartBytes, SlotPart};
use tp_core::ids::SlotIndex;
use tp_core::partition::Partition;
use tp_core::restore::SlotBuilder;
use tp_core::time::Time;

/// So many are under way at once in a partition.
const COPIES_MAX: usize = 3;

struct Copy {
    begun: Time,
    expected: Vec<u8>,
    builder: SlotBuilder,
    /// Records a part.
    most: usize,
}

/// The copies under way in one partition.
#[derive(Default)]
pub(crate) struct Copies {
    under_way: BTreeMap<SlotIndex, Copy>,
    begun: usize,
}

impl Copies {
    /// Between two turns: each copy goes on by a part, and one of a slot that the turn touched begins.
    pub(crate) fn go_on(&mut self, partition: &mut Partition, touched: impl Iterator<Item = SlotIndex>, now: Time) {
        self.under_way.retain(|index, copy| {
            let part = partition.copy_on(*index, copy.most, SlotPart::default()).expect("a copy is under way");
            !take(copy, &part, partition)
        });
        let fresh = touched.filter(|index| !self.under_way.contains_key(index)).last();
        let Some(index) = fresh.filter(|_| self.under_way.len() < COPIES_MAX) else { return };
        let slot = partition.slot(index).expect("touched by this partition");
        let builder = SlotBuilder::new(index, super::SEED, slot.windows());
        self.begun += 1;
        let most = 1 + self.begun % 4;
        let mut copy = Copy { begun: now, expected: slot.image(now), builder, most };
        let part = partition.begin_copy(index, most, SlotPart::default()).expect("its slot");
        if !take(&mut copy, &part, partition) {
            self.under_way.insert(index, copy);
        }
    }
}

/// Adds a part; whether it was the last, and then all was as it was.
fn take(copy: &mut Copy, part: &SlotPart, partition: &mut Partition) -> bool {
    let mut bytes = PartBytes::new();
    part.encode(&mut bytes);
    copy.builder.add(&bytes).expect("the next part");
    if !part.is_last() {
        return false;
    }
    let index = copy.builder.index();
    assert!(partition.copy_on(index, 1, SlotPart::default()).is_none(), "nothing follows the last part");
    let windows = partition.slot(index).expect("its slot").windows();
    let done = core::mem::replace(&mut copy.builder, SlotBuilder::new(index, super::SEED, windows));
    let read = done.finish().expect("a whole slot");
    assert!(read.image(copy.begun) == copy.expected, "a copy of {index:?} does not show it as it was when it began");
    true
}
