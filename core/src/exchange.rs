//! What a slot remembers of exchanges: those it opened and has not ended, and the answers it gave.
//!
//! EXC-1: an exchange ends once. An answered exchange keeps its answer until its opener says that nothing below a number is
//! open any more, so that one re-sent after a crash gets the same answer without an event.

use std::collections::{BTreeMap, VecDeque};

use rkyv::{Archive, Deserialize, Serialize};

use crate::event::Movement;
use crate::ids::{AccountId, SLOTS, SlotIndex};
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
///
/// An opener says with each exchange below which number it has nothing open any more, so most have one answer here. The last answer to
/// each lies in a row of all openers, 16 KiB, and is found without a search; what came before it lies apart.
#[derive(Clone, Default)]
pub(crate) struct Answers {
    /// By the opener's number; empty until there is an answer.
    last: Vec<Last>,
    /// How many openers have a last answer.
    openers: usize,
    /// The answers before the last, ascending by number; of openers that have some.
    earlier: BTreeMap<SlotIndex, VecDeque<GivenAnswer>>,
}

/// The last answer to an opener.
#[derive(Clone, Copy)]
struct Last {
    /// 0: there is none.
    number: u64,
    outcome: Outcome,
    flags: Flags,
    has_earlier: bool,
}

impl Last {
    const NONE: Self = Self { number: 0, outcome: Outcome::Approved, flags: Flags::NONE, has_earlier: false };

    const fn new(GivenAnswer { number, outcome, flags }: GivenAnswer, has_earlier: bool) -> Self {
        Self { number, outcome, flags, has_earlier }
    }
    const fn answer(&self) -> GivenAnswer {
        GivenAnswer { number: self.number, outcome: self.outcome, flags: self.flags }
    }
}

const _: () = assert!(size_of::<Last>() == 16);

impl Answers {
    fn last(&self, opener: SlotIndex) -> Option<Last> {
        self.last.get(opener.index()).copied().filter(|last| last.number != 0)
    }
    pub(crate) fn get(&self, opener: SlotIndex, number: u64) -> Option<GivenAnswer> {
        let last = self.last(opener)?;
        if last.number == number {
            return Some(last.answer());
        }
        let earlier = self.earlier.get(&opener).filter(|_| last.has_earlier)?;
        earlier.binary_search_by_key(&number, |a| a.number).ok().and_then(|at| earlier.get(at).copied())
    }
    /// Looks at the place of an opener's last answer, and gives something that depends on it.
    pub(crate) fn touch(&self, opener: SlotIndex) -> u64 {
        self.last.get(opener.index()).map_or(0, |last| last.number)
    }
    /// False when it was there already, or has no number.
    pub(crate) fn insert(&mut self, opener: SlotIndex, answer: GivenAnswer) -> bool {
        if answer.number == 0 {
            return false;
        }
        if self.last.is_empty() {
            self.last = vec![Last::NONE; usize::from(SLOTS)];
        }
        let Some(last) = self.last.get_mut(opener.index()) else { return false };
        if last.number == answer.number {
            return false;
        }
        if last.number == 0 {
            *last = Last::new(answer, false);
            self.openers += 1;
            return true;
        }
        let (greater, lesser) =
            if answer.number > last.number { (answer, last.answer()) } else { (last.answer(), answer) };
        *last = Last::new(greater, true);
        let earlier = self.earlier.entry(opener).or_default();
        match earlier.binary_search_by_key(&lesser.number, |a| a.number) {
            Ok(_) => false,
            Err(at) => {
                earlier.insert(at, lesser);
                true
            }
        }
    }
    pub(crate) fn forget_below(&mut self, opener: SlotIndex, below: u64) {
        let Some(last) = self.last.get_mut(opener.index()).filter(|last| last.number != 0) else { return };
        if last.has_earlier
            && let Some(earlier) = self.earlier.get_mut(&opener)
        {
            while earlier.front().is_some_and(|a| a.number < below) {
                earlier.pop_front();
            }
            if earlier.is_empty() {
                self.earlier.remove(&opener);
                last.has_earlier = false;
            }
        }
        if last.number < below {
            *last = Last::NONE;
            self.openers -= 1;
        }
    }
    /// Whether anything would be forgotten.
    pub(crate) fn has_below(&self, opener: SlotIndex, below: u64) -> bool {
        let Some(last) = self.last(opener) else { return false };
        let earlier = self.earlier.get(&opener).filter(|_| last.has_earlier);
        earlier.and_then(VecDeque::front).map_or(last.number, |first| first.number) < below
    }
    pub(crate) fn iter(&self) -> impl Iterator<Item = (SlotIndex, GivenAnswer)> {
        let row = if self.openers == 0 { &[][..] } else { &self.last };
        let answered = SlotIndex::all().zip(row).filter(|(_, last)| last.number != 0);
        answered.flat_map(|(opener, last)| {
            let earlier = self.earlier.get(&opener).filter(|_| last.has_earlier);
            earlier.into_iter().flatten().copied().chain([last.answer()]).map(move |answer| (opener, answer))
        })
    }
}

impl core::fmt::Debug for Answers {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_list().entries(self.iter()).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// What answers are, told the long way.
    type Model = BTreeMap<(SlotIndex, u64), GivenAnswer>;

    #[derive(Clone, Debug)]
    enum Step {
        Insert(u64),
        Forget(u64),
    }

    fn steps() -> impl Strategy<Value = Vec<(usize, Step)>> {
        let step = prop_oneof![(0_u64..12).prop_map(Step::Insert), (0_u64..14).prop_map(Step::Forget)];
        prop::collection::vec((0_usize..3, step), 0..60)
    }

    proptest! {
        #[test]
        fn answers_are_a_map_from_opener_and_number(steps in steps()) {
            let openers: Vec<SlotIndex> = SlotIndex::all().step_by(500).collect();
            let (mut answers, mut model) = (Answers::default(), Model::new());
            for (which, step) in steps {
                let opener = openers[which];
                match step {
                    Step::Insert(number) => {
                        let answer = GivenAnswer { number, outcome: Outcome::Approved, flags: Flags(number.to_le_bytes()[0]) };
                        let is_new = number != 0 && !model.contains_key(&(opener, number));
                        prop_assert_eq!(answers.insert(opener, answer), is_new);
                        if is_new {
                            model.insert((opener, number), answer);
                        }
                    }
                    Step::Forget(below) => {
                        let goes = |at: &(SlotIndex, u64)| at.0 == opener && at.1 < below;
                        prop_assert_eq!(answers.has_below(opener, below), model.keys().any(goes));
                        answers.forget_below(opener, below);
                        model.retain(|at, _| !goes(at));
                    }
                }
                let (all, told): (Vec<_>, Vec<_>) = (answers.iter().collect(), model.iter().map(|(at, a)| (at.0, *a)).collect());
                prop_assert_eq!(all, told);
                for number in 0..12 {
                    prop_assert_eq!(answers.get(opener, number), model.get(&(opener, number)).copied());
                }
            }
            answers.forget_below(openers[0], u64::MAX);
            prop_assert!(answers.openers <= 2 && answers.earlier.values().all(|earlier| !earlier.is_empty()));
        }
    }
}
