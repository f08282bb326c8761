//! Commands that were taken and not yet answered, of a session that matches answers by tags.
//!
//! Owns their places and tags. A tag on the wire is a place, and above it how often places were taken: so a late or second answer is not
//! taken for that of the next command at its place. Refuses to know how commands travel.

use std::collections::VecDeque;
use std::time::Instant;

use tpcore::{Command, Outcome, Reply};

/// Of a tag on the wire: the place.
const PLACE: u64 = u32::MAX as u64;

/// A command that was sent and not answered.
pub(super) struct Flight {
    tag: u64,
    wire: u64,
    /// The link or stream that it is on.
    pub(super) line: usize,
    /// The last time.
    sent: Instant,
    pub(super) repeats: u8,
    pub(super) command: Command,
}

/// All of them.
pub(super) struct Flights {
    places: Vec<Option<Flight>>,
    /// The one that rested longest first.
    free: VecDeque<u32>,
    taken: u32,
    replies: Vec<(u64, Reply)>,
}

impl Flights {
    pub(super) fn new(places: usize) -> Self {
        let free = (0..u32::try_from(places).unwrap_or(u32::MAX)).collect();
        Self { places: (0..places).map(|_| None).collect(), free, taken: 0, replies: Vec::new() }
    }

    /// Takes a place for a command on a line; its tag on the wire. `None`: there is none.
    pub(super) fn take(&mut self, tag: u64, line: usize, command: &Command) -> Option<u64> {
        let place = self.free.pop_front()?;
        self.taken = self.taken.wrapping_add(1);
        let wire = u64::from(self.taken) << 32 | u64::from(place);
        let flight = Flight { tag, wire, line, sent: Instant::now(), repeats: 0, command: command.clone() };
        self.places[place as usize] = Some(flight);
        Some(wire)
    }

    /// The command of a tag on the wire, if it is still there.
    pub(super) fn at(&self, wire: u64) -> Option<&Flight> {
        self.at_place(wire).filter(|flight| flight.wire == wire)
    }

    /// The command at a tag's place: for answers that name no more.
    pub(super) fn at_place(&self, wire: u64) -> Option<&Flight> {
        self.places.get(usize::try_from(wire & PLACE).ok()?)?.as_ref()
    }

    /// It is sent once more. How often it has been by now, not counting lines that were never up: they carried nothing.
    pub(super) fn again(&mut self, wire: u64, was_up: bool) -> u8 {
        let flight = usize::try_from(wire & PLACE).ok().and_then(|place| self.places.get_mut(place)?.as_mut());
        flight.map_or(0, |flight| {
            flight.sent = Instant::now();
            flight.repeats = flight.repeats.saturating_add(u8::from(was_up));
            flight.repeats
        })
    }

    /// It is answered.
    pub(super) fn land(&mut self, wire: u64, reply: Reply) {
        let place = u32::try_from(wire & PLACE).unwrap_or(u32::MAX);
        if let Some(flight) = self.places.get_mut(place as usize).and_then(Option::take) {
            self.replies.push((flight.tag, reply));
            self.free.push_back(place);
        }
    }

    /// Everything is answered with `system_error`.
    pub(super) fn land_all(&mut self) {
        for place in 0..self.places.len() {
            self.land(place as u64, Reply::bare(Outcome::SystemError));
        }
    }

    /// A command that was not even sent is answered.
    pub(super) fn refuse(&mut self, tag: u64, reply: Reply) {
        self.replies.push((tag, reply));
    }

    /// The tags of a line, in the order of sending.
    pub(super) fn of_line(&self, line: usize) -> Vec<u64> {
        let here = self.places.iter().flatten().filter(|flight| flight.line == line);
        let mut wires: Vec<u64> = here.map(|flight| flight.wire).collect();
        wires.sort_unstable();
        wires
    }

    /// When the one was sent that was sent last the longest ago.
    pub(super) fn oldest(&self) -> Option<Instant> {
        self.places.iter().flatten().map(|flight| flight.sent).min()
    }

    /// Whether some are answered.
    pub(super) fn has_replies(&self) -> bool {
        !self.replies.is_empty()
    }

    /// Hands over what is answered, and returns how many.
    pub(super) fn poll(&mut self, each: &mut dyn FnMut(u64, Reply)) -> usize {
        let count = self.replies.len();
        for (tag, reply) in self.replies.drain(..) {
            each(tag, reply);
        }
        count
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::account;
    use tpcore::{Key, Lookup};

    #[test]
    fn a_place_has_another_tag_each_time_and_is_free_again_once() {
        let lookup: Command = Lookup { account: account(1), key: Key::opaque(1), fence: false }.into();
        let mut flights = Flights::new(2);
        let (first, second) = (flights.take(10, 0, &lookup).expect("a place"), flights.take(11, 1, &lookup));
        let second = second.expect("a second place");
        assert_eq!(flights.take(12, 0, &lookup), None);
        flights.land(first, Reply::bare(Outcome::Approved));
        flights.land(first, Reply::bare(Outcome::Approved));
        let again = flights.take(13, 1, &lookup).expect("a place");
        assert_ne!(again, first);
        assert!(flights.at(first).is_none() && flights.at_place(first).is_some(), "the tag says which");
        assert_eq!(flights.of_line(1), [second, again]);
        let times = [true, false, true].map(|was_up| flights.again(again, was_up));
        assert_eq!(times, [1, 1, 2], "a line that was never up carried nothing");
        flights.land_all();
        let mut told = Vec::new();
        assert_eq!(flights.poll(&mut |tag, reply| told.push((tag, reply.outcome))), 3);
        assert_eq!(told[0], (10, Outcome::Approved));
        assert!(told[1..].iter().all(|(tag, outcome)| [11, 13].contains(tag) && *outcome == Outcome::SystemError));
    }
}
