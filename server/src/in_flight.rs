//! Commands of one connection that are with the engine: handed over in their order, taken back as their replies come.
//!
//! Owns their places, their tags and the bound of how many there are. Rings for all of them, and one wake-up for all replies of a
//! commit: a future a command would be an allocation and a wake-up each. Refuses to know where commands come from and who else has a say.

use std::sync::Arc;
use std::task::{Context, Poll};

use tp_actors::Client;
use tp_actors::tp_core::command::Verb;
use tp_actors::tp_core::ids::AccountId;
use tp_actors::tp_core::key::Key;
use tp_actors::tp_core::outcome::Outcome;
use tp_actors::tp_core::reply::Reply;

use crate::api::batch::{Done, named};
use crate::api::command::Asked;
use crate::api::commands::options;
use crate::api::request::Caller;
use crate::app::Serving;
use crate::gate::Place;

/// Commands of one connection with the engine.
pub(crate) const IN_FLIGHT_MAX: usize = 2_048;

/// Rings of one connection: the next one is made when the ones before are full, so that a connection with little under way takes little
/// (a place takes some 240 bytes).
const RINGS: [usize; 3] = [64, 448, 1_536];

const _: () = assert!(RINGS[0] + RINGS[1] + RINGS[2] == IN_FLIGHT_MAX);

struct Flight {
    tag: u64,
    verb: Verb,
    named: Option<(AccountId, Key)>,
    _until_answered: Place,
}

/// Commands with the engine.
pub(crate) struct InFlight {
    serving: Arc<Serving>,
    /// The first of [`RINGS`], as many as were needed.
    rings: Vec<Client>,
    flights: Vec<Option<Flight>>,
    free: Vec<u32>,
}

impl InFlight {
    pub(crate) fn new(serving: &Arc<Serving>) -> Self {
        Self { serving: Arc::clone(serving), rings: Vec::new(), flights: Vec::new(), free: Vec::new() }
    }

    /// Whether there is no room for one more.
    pub(crate) fn is_full(&self) -> bool {
        self.rings.len() == RINGS.len() && self.rings.iter().all(|ring| ring.in_flight() >= ring.capacity())
    }

    /// Whether there is none.
    pub(crate) fn is_empty(&self) -> bool {
        self.rings.iter().all(|ring| ring.in_flight() == 0)
    }

    /// Gives back what a busy time took, when nothing is under way.
    pub(crate) fn shrink(&mut self) {
        if self.is_empty() && self.rings.len() > 1 {
            self.rings.truncate(1);
            (self.flights, self.free) = (Vec::new(), Vec::new());
        }
    }

    /// A ring with room.
    fn ring(&mut self) -> Option<&mut Client> {
        let with_room = self.rings.iter().position(|ring| ring.in_flight() < ring.capacity());
        let at = with_room.or_else(|| {
            let capacity = RINGS.get(self.rings.len())?;
            self.rings.push(self.serving.engine.client(*capacity));
            Some(self.rings.len() - 1)
        })?;
        self.rings.get_mut(at)
    }

    /// Hands a command over. What comes back was not taken: the engine has no room.
    pub(crate) fn submit(
        &mut self,
        caller: &Caller,
        (tag, place): (u64, Place),
        (verb, asked): (Verb, &Asked),
        deadline_ms: Option<u64>,
    ) -> Result<(), Done> {
        let flight = Flight { tag, verb, named: named(&asked.command), _until_answered: place };
        let at = self.free.pop().unwrap_or_else(|| {
            self.flights.push(None);
            u32::try_from(self.flights.len() - 1).unwrap_or(u32::MAX)
        });
        let options = options(&self.serving, caller, asked, deadline_ms);
        let taken = self.ring().is_some_and(|ring| ring.submit_with(at.into(), &asked.command, options).is_ok());
        if !taken {
            self.free.push(at);
            return Err(Done::of(&self.serving, verb, None, Reply::bare(Outcome::Busy)));
        }
        self.flights[at as usize] = Some(flight);
        Ok(())
    }

    /// Takes back what is decided and durable, and returns how many.
    pub(crate) fn poll(&mut self, mut each: impl FnMut(u64, Done)) -> usize {
        let Self { serving, rings, flights, free } = self;
        let mut take = |at: u64, reply: Reply| {
            let at = u32::try_from(at).unwrap_or(u32::MAX);
            let Some(flight) = flights.get_mut(at as usize).and_then(Option::take) else { return };
            free.push(at);
            each(flight.tag, Done::of(serving, flight.verb, flight.named, reply));
        };
        rings.iter_mut().map(|ring| ring.poll(&mut take)).sum()
    }

    /// Ready when something is there to be taken back; otherwise the task is woken when it is.
    pub(crate) fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<()> {
        let is_ready = |ring: &mut Client| ring.in_flight() > 0 && ring.poll_ready(context).is_ready();
        // Each is asked: each wakes the task.
        let ready = self.rings.iter_mut().map(is_ready).filter(|is_ready| *is_ready).count();
        if ready > 0 { Poll::Ready(()) } else { Poll::Pending }
    }
}
