//! The chain of an account's legs, walked backwards.
//!
//! Owns the steps from one event to the one before it that touched the account (J3: each leg names it, versions are gapless),
//! and the test that they hold; refuses to know what the legs mean. Every step reads one event, and goes to a lower number, so
//! a walk ends.

use tp_core::event::{Event, Leg};
use tp_core::ids::{AccountId, Seq, Version};

use super::error::HistoryError;
use super::reader::Reader;

/// A leg's place: its event and the account's version after it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Place {
    pub(crate) seq: Seq,
    pub(crate) version: Version,
}

/// The legs that one event has in the chain.
pub(crate) struct Step {
    pub(crate) seq: Seq,
    pub(crate) event: Event,
    /// The newest first; at least one.
    pub(crate) legs: Vec<Leg>,
}

/// Walks an account's chain, newest event first.
pub(crate) struct Chain<'a> {
    pub(crate) reader: Reader<'a>,
    pub(crate) account: AccountId,
    next: Option<Place>,
    /// Legs read so far.
    pub(crate) legs: u64,
}

impl<'a> Chain<'a> {
    /// From this leg on; it must be one of the account.
    pub(crate) const fn new(reader: Reader<'a>, account: AccountId, from: Place) -> Self {
        Self { reader, account, next: Some(from), legs: 0 }
    }

    /// Whether the walk begins at a leg of the account.
    pub(crate) fn begins_at_a_leg(&mut self) -> Result<bool, HistoryError> {
        let Some(place) = self.next else { return Ok(false) };
        let event = self.reader.event(place.seq)?;
        let mut is_one = false;
        event.body.each_leg(|leg| is_one |= leg.account == Some(self.account) && leg.version == place.version);
        Ok(is_one)
    }

    /// The next older event; `None`: the one before was the account's first.
    pub(crate) fn next(&mut self) -> Result<Option<Step>, HistoryError> {
        let Some(place) = self.next else { return Ok(None) };
        let event = self.reader.event(place.seq)?;
        let mut legs = Vec::with_capacity(1);
        event.body.each_leg(|leg| {
            if leg.account == Some(self.account) && leg.version <= place.version {
                legs.push(leg);
            }
        });
        legs.reverse();
        self.next = self.before(place, &legs)?;
        self.legs += legs.len() as u64;
        Ok(Some(Step { seq: place.seq, event, legs }))
    }

    /// Where the leg before these is. Legs of one event follow each other: all but its first name the event itself.
    fn before(&self, place: Place, legs: &[Leg]) -> Result<Option<Place>, HistoryError> {
        let damage = |what| HistoryError::Chain { account: self.account, seq: place.seq, what };
        let (Some(newest), Some(oldest)) = (legs.first(), legs.last()) else {
            return Err(damage("it has no leg of the account"));
        };
        if newest.version != place.version {
            return Err(damage("SEQ-1: it has no leg with the version before"));
        }
        let is_gapless = legs
            .windows(2)
            .all(|pair| pair[0].version.0.checked_sub(1) == Some(pair[1].version.0) && pair[0].previous == place.seq);
        if !is_gapless {
            return Err(damage("SEQ-1: its legs do not follow each other"));
        }
        if oldest.version == Version(1) {
            let is_first = oldest.previous == Seq::ZERO;
            return if is_first { Ok(None) } else { Err(damage("SEQ-1: the first leg names an event before it")) };
        }
        if oldest.previous == Seq::ZERO || oldest.previous >= place.seq {
            return Err(damage("SEQ-1: the event that it names as the one before does not lie before it"));
        }
        Ok(Some(Place { seq: oldest.previous, version: Version(oldest.version.0 - 1) }))
    }

    pub(crate) fn damage(&self, seq: Seq, what: &'static str) -> HistoryError {
        HistoryError::Chain { account: self.account, seq, what }
    }

    /// An error when `most` legs were read already.
    pub(crate) fn within(&self, most: u64, seq: Seq) -> Result<(), HistoryError> {
        if self.legs < most {
            return Ok(());
        }
        Err(HistoryError::TooFar { account: self.account, seq, legs: self.legs })
    }
}

#[cfg(test)]
mod tests {
    use tp_core::amount::Amount;
    use tp_core::codec::{EventBytes, encode};
    use tp_core::event::{Body, Expired};
    use tp_core::ids::{AuthorizationId, SlotIndex};
    use tp_core::time::Time;
    use tp_storage::{FrameInput, Journal, MemoryJournal};

    use super::*;

    const ACCOUNT: AccountId = AccountId(7);

    /// A journal of expiries of one account with these versions and previous numbers, walked from the last one on.
    fn walk(legs: &[(u64, u64)]) -> Result<Vec<u64>, HistoryError> {
        let (mut journal, slot) = (MemoryJournal::new(), SlotIndex::new(0).expect("a slot"));
        for (first_seq, (version, previous)) in (1..).zip(legs) {
            let body = Body::Expired(Expired {
                account: ACCOUNT,
                authorization: AuthorizationId::new(Time(1), slot, 1),
                amount: Amount::from(1u64),
                version: Version(*version),
                previous: Seq(*previous),
                slot,
            });
            let mut bytes = EventBytes::new();
            encode(&Event { time: Time(1), body }, &mut bytes);
            let frame = FrameInput { first_seq, count: 1, time_min: 1, time_max: 1, parts: &[&bytes] };
            journal.append(&frame).expect("in memory");
        }
        let (source, last) = (journal.source(), legs.len() as u64);
        let from = Place { seq: Seq(last), version: Version(legs[legs.len() - 1].0) };
        let mut chain = Chain::new(Reader::new(Seq(last), &*source, None), ACCOUNT, from);
        let mut seqs = Vec::new();
        while let Some(step) = chain.next()? {
            seqs.push(step.seq.0);
        }
        Ok(seqs)
    }

    #[test]
    fn a_chain_leads_back_to_the_first_leg() {
        assert_eq!(walk(&[(1, 0), (2, 1), (9, 9), (3, 2)]).expect("whole"), [4, 2, 1]);
    }

    #[test]
    fn a_chain_that_does_not_lead_back_is_damage_and_no_endless_walk() {
        for legs in [
            &[(1, 0), (2, 2)][..], // itself
            &[(1, 0), (2, 3)],     // ahead
            &[(2, 0)],             // a beginning without a first leg
            &[(1, 0), (1, 1)],     // a first leg with one before it
            &[(1, 0), (3, 1)],     // a gap
            &[(2, 2), (2, 1), (3, 2)],
        ] {
            let walked = walk(legs);
            assert!(matches!(walked, Err(HistoryError::Chain { .. })), "{legs:?}: {walked:?}");
        }
    }
}
