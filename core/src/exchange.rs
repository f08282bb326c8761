//! What a slot remembers of exchanges: those it opened and has not ended, and the answers it gave.
//!
//! EXC-1: an exchange ends once. An answered exchange keeps its answer until its opener says that nothing below a number is
//! open any more, so that one re-sent after a crash gets the same answer without an event.

use std::collections::{BTreeMap, VecDeque};

use rkyv::{Archive, Deserialize, Serialize};

use crate::event::Movement;
use crate::ids::{AccountId, SlotIndex};
use crate::key::Key;
use crate::outcome::Outcome;
use crate::reply::Flags;

/// An exchange that this slot opened.
#[derive(Clone, PartialEq, Eq, Debug, Archive, Serialize, Deserialize)]
pub(crate) struct Exchange {
    pub(crate) movement: Movement,
    /// The account that the key is scoped to.
    pub(crate) account: AccountId,
    pub(crate) key: Key,
    /// The account that the legs touch: `account`, or the slot's suspense account.
    pub(crate) owner: AccountId,
    /// The reply's outcome when it is answered with approval.
    pub(crate) outcome: Outcome,
    pub(crate) flags: Flags,
}

/// An image whose oldest open exchange lies further back than this is not one of ours: exchanges end within seconds, and a
/// partition opens a few thousand at most before it is `busy`.
const SPAN_MAX: u64 = 1 << 20;

/// Exchanges opened by a slot: numbers are consecutive, from 1.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct OpenExchanges {
    /// From the oldest open one on; ended ones leave a gap until they are the oldest.
    entries: VecDeque<Option<Exchange>>,
    /// The number of the first entry, and of the next exchange where there is none.
    first: u64,
    open: usize,
}

impl OpenExchanges {
    pub(crate) const fn new() -> Self {
        Self { entries: VecDeque::new(), first: 1, open: 0 }
    }
    pub(crate) fn from_parts(next: u64, open: impl IntoIterator<Item = (u64, Exchange)>) -> Option<Self> {
        let mut all = Self { entries: VecDeque::new(), first: next, open: 0 };
        for (number, exchange) in open {
            if all.open == 0 {
                all.first = number;
            }
            let at = usize::try_from(number.checked_sub(all.first)?).ok()?;
            if number >= next || at < all.entries.len() || next - all.first > SPAN_MAX {
                return None;
            }
            all.entries.resize(at, None);
            all.entries.push_back(Some(exchange));
            all.open += 1;
        }
        if all.open > 0 {
            all.entries.resize(usize::try_from(next - all.first).ok()?, None);
        }
        Some(all)
    }
    /// The number of the next exchange.
    pub(crate) fn next(&self) -> u64 {
        self.first + self.entries.len() as u64
    }
    /// The oldest open number, or the next one where nothing is open.
    pub(crate) const fn oldest(&self) -> u64 {
        self.first
    }
    pub(crate) const fn len(&self) -> usize {
        self.open
    }
    fn at(&self, number: u64) -> Option<usize> {
        usize::try_from(number.checked_sub(self.first)?).ok()
    }
    pub(crate) fn get(&self, number: u64) -> Option<&Exchange> {
        self.entries.get(self.at(number)?)?.as_ref()
    }
    /// Adds the exchange with the next number.
    pub(crate) fn open(&mut self, exchange: Exchange) {
        self.entries.push_back(Some(exchange));
        self.open += 1;
    }
    pub(crate) fn end(&mut self, number: u64) -> Option<Exchange> {
        let at = self.at(number)?;
        let exchange = self.entries.get_mut(at)?.take()?;
        self.open -= 1;
        while self.entries.front().is_some_and(Option::is_none) {
            self.entries.pop_front();
            self.first += 1;
        }
        Some(exchange)
    }
    pub(crate) fn iter(&self) -> impl Iterator<Item = (u64, &Exchange)> {
        let numbered = self.entries.iter().enumerate();
        numbered.filter_map(|(at, exchange)| Some((self.first + at as u64, exchange.as_ref()?)))
    }
}

/// One answer given.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Archive, Serialize, Deserialize)]
pub(crate) struct GivenAnswer {
    pub(crate) number: u64,
    pub(crate) outcome: Outcome,
    pub(crate) flags: Flags,
}

/// Answers given by a slot, by opener slot, ascending by number.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub(crate) struct Answers {
    by_opener: BTreeMap<SlotIndex, VecDeque<GivenAnswer>>,
}

impl Answers {
    pub(crate) fn get(&self, opener: SlotIndex, number: u64) -> Option<GivenAnswer> {
        let given = self.by_opener.get(&opener)?;
        given.binary_search_by_key(&number, |a| a.number).ok().and_then(|at| given.get(at).copied())
    }
    /// False when it was there already.
    pub(crate) fn insert(&mut self, opener: SlotIndex, answer: GivenAnswer) -> bool {
        let given = self.by_opener.entry(opener).or_default();
        match given.binary_search_by_key(&answer.number, |a| a.number) {
            Ok(_) => false,
            Err(at) => {
                given.insert(at, answer);
                true
            }
        }
    }
    pub(crate) fn forget_below(&mut self, opener: SlotIndex, below: u64) {
        if let Some(given) = self.by_opener.get_mut(&opener) {
            while given.front().is_some_and(|a| a.number < below) {
                given.pop_front();
            }
            if given.is_empty() {
                self.by_opener.remove(&opener);
            }
        }
    }
    /// Whether anything would be forgotten.
    pub(crate) fn has_below(&self, opener: SlotIndex, below: u64) -> bool {
        self.by_opener.get(&opener).and_then(VecDeque::front).is_some_and(|a| a.number < below)
    }
    pub(crate) fn iter(&self) -> impl Iterator<Item = (SlotIndex, &GivenAnswer)> {
        self.by_opener.iter().flat_map(|(opener, given)| given.iter().map(|answer| (*opener, answer)))
    }
}
