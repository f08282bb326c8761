//! Keys past their window that open holds keep, by the authorization.
//!
//! Nearly every hold keeps one key, its own: that one is its entry in the index. A hold that keeps more has a list of them there, so that
//! adding a key and taking one away cost the same however many commands a client sends on one hold. Owns the lists; refuses to
//! know why a key is kept, and whether it still is.

use crate::gapless::Pair;
use crate::index::{Aim, Index};
use crate::slab::Slab;

/// Some records of a hold, at least one: a position, or with [`LIST`] the first node of a list of them.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Bunch(u32);

/// No slot has so many records.
const LIST: u32 = 1 << 31;
/// The end of a list.
const END: u32 = u32::MAX;

#[derive(Clone, Copy, Debug)]
struct Node {
    position: Pair,
    next: Pair,
}

/// All of a slot.
#[derive(Clone, Debug)]
pub(super) struct Kept {
    /// By authorization. Two whose tags are the same share an entry: what one of them frees of the other is looked at and kept again.
    index: Index,
    nodes: Slab<Node>,
}

impl Kept {
    /// `seed` is that of the slot's authorizations: what finds one of them finds its keys here.
    pub(super) fn new(seed: u64) -> Self {
        Self { index: Index::of_counted(seed), nodes: Slab::default() }
    }
    /// See [`Index::approach`].
    pub(super) fn approach(&self, hold: Aim) -> usize {
        self.index.approach(hold)
    }
    /// The first record that this hold keeps, nearly always.
    pub(super) fn guess(&self, hold: Aim) -> Option<u32> {
        self.positions(Bunch(self.index.guess(hold)?)).next()
    }
    /// The authorization's hold keeps this record.
    pub(super) fn keep(&mut self, authorization: u128, position: u32) {
        debug_assert!(position < LIST, "a slot has fewer records");
        let hold = self.index.aim(authorization, 0);
        match self.index.guess(hold) {
            None => self.index.insert_at(hold, position),
            Some(rest) => {
                let longer = self.add(position, Bunch(rest));
                self.index.replace_at(hold, longer.0);
            }
        }
    }
    fn add(&mut self, position: u32, rest: Bunch) -> Bunch {
        let next = match rest.list() {
            Some(first) => first,
            None => self.nodes.insert(Node { position: Pair::new(rest.0), next: Pair::new(END) }),
        };
        Bunch(LIST | self.nodes.insert(Node { position: Pair::new(position), next: Pair::new(next) }))
    }
    /// What the authorization's hold keeps.
    pub(super) fn bunch(&self, authorization: u128) -> Option<Bunch> {
        self.index.guess(self.index.aim(authorization, 0)).map(Bunch)
    }
    /// All that the authorization's hold kept. It is the caller's to take apart with [`Kept::split`].
    pub(super) fn take(&mut self, authorization: u128) -> Option<Bunch> {
        self.index.take(authorization, 0).map(Bunch)
    }
    /// The first record, and the others.
    pub(super) fn split(&mut self, bunch: Bunch) -> (u32, Option<Bunch>) {
        let Some(node) = bunch.list().and_then(|first| self.nodes.remove(first)) else { return (bunch.0, None) };
        let next = node.next.get();
        (node.position.get(), (next != END).then_some(Bunch(LIST | next)))
    }
    /// All of them, the first one first.
    pub(super) fn positions(&self, bunch: Bunch) -> impl Iterator<Item = u32> {
        let (mut one, mut next) = (bunch.list().is_none().then_some(bunch.0), bunch.list());
        core::iter::from_fn(move || {
            if let Some(position) = one.take() {
                return Some(position);
            }
            let node = self.nodes.get(next?)?;
            next = Some(node.next.get());
            Some(node.position.get())
        })
    }
}

impl Bunch {
    /// The first node of the list that it is.
    const fn list(self) -> Option<u32> {
        if self.0 & LIST == 0 { None } else { Some(self.0 & !LIST) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeMap;

    impl Kept {
        fn take_all(&mut self, authorization: u128) -> Vec<u32> {
            let mut left = self.take(authorization);
            let mut all = Vec::new();
            while let Some(bunch) = left {
                let (position, rest) = self.split(bunch);
                all.push(position);
                left = rest;
            }
            all
        }
    }

    proptest! {
        #[test]
        fn a_hold_frees_what_it_kept_and_no_other(steps in prop::collection::vec((1..6_u128, any::<bool>()), 1..200)) {
            let (mut kept, mut model) = (Kept::new(3), BTreeMap::<u128, Vec<u32>>::new());
            for (position, (hold, is_kept)) in (0..).zip(steps) {
                if is_kept {
                    kept.keep(hold, position);
                    model.entry(hold).or_default().push(position);
                }
                for (hold, positions) in &model {
                    let there: Vec<u32> = kept.bunch(*hold).map(|bunch| kept.positions(bunch).collect()).unwrap_or_default();
                    prop_assert!(there.iter().rev().eq(positions), "the newest first");
                    prop_assert_eq!(kept.guess(kept.index.aim(*hold, 0)), positions.last().copied());
                }
                if !is_kept {
                    let taken = kept.take_all(hold);
                    prop_assert!(taken.iter().rev().eq(model.remove(&hold).iter().flatten()));
                }
            }
            let listed = model.values().map(Vec::len).filter(|len| *len > 1).sum::<usize>();
            prop_assert_eq!(kept.nodes.len(), listed, "no node is left behind");
        }
    }

    /// One entry each made the entries of one hold collide: a hold with a million refused commands would have stopped its partition for a minute.
    #[test]
    fn a_hold_of_a_hundred_thousand_keys_has_one_entry() {
        let mut kept = Kept::new(3);
        (0..100_000).for_each(|position| kept.keep(7, position));
        assert_eq!((kept.index.len(), kept.nodes.len()), (1, 100_000));
        assert!(kept.take_all(7).into_iter().eq((0..100_000).rev()));
        assert_eq!((kept.index.len(), kept.nodes.len()), (0, 0));
        assert_eq!(kept.take(7), None);
    }
}
