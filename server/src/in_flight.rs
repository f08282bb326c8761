//! Commands of one connection that are with the engine: handed over in their order, taken back as their replies come.
//!
//! Owns their places, their tags and the bound of how many there are. One ring for all of them, and one wake-up for all replies of a
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

struct Flight {
    tag: u64,
    verb: Verb,
    named: Option<(AccountId, Key)>,
    _until_answered: Place,
}

/// Commands with the engine.
pub(crate) struct InFlight {
    serving: Arc<Serving>,
    client: Client,
    flights: Vec<Option<Flight>>,
    free: Vec<u32>,
}

impl InFlight {
    pub(crate) fn new(serving: &Arc<Serving>) -> Self {
        let client = serving.engine.client(IN_FLIGHT_MAX);
        Self { serving: Arc::clone(serving), client, flights: Vec::new(), free: Vec::new() }
    }

    /// Whether there is no room for one more.
    pub(crate) fn is_full(&self) -> bool {
        self.client.in_flight() >= IN_FLIGHT_MAX
    }

    /// Whether there is none.
    pub(crate) fn is_empty(&self) -> bool {
        self.client.in_flight() == 0
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
        if self.client.submit_with(at.into(), &asked.command, options).is_err() {
            self.free.push(at);
            return Err(Done::of(&self.serving, verb, None, Reply::bare(Outcome::Busy)));
        }
        self.flights[at as usize] = Some(flight);
        Ok(())
    }

    /// Takes back what is decided and durable, and returns how many.
    pub(crate) fn poll(&mut self, mut each: impl FnMut(u64, Done)) -> usize {
        let Self { serving, client, flights, free } = self;
        client.poll(|at, reply| {
            let at = u32::try_from(at).unwrap_or(u32::MAX);
            let Some(flight) = flights.get_mut(at as usize).and_then(Option::take) else { return };
            free.push(at);
            each(flight.tag, Done::of(serving, flight.verb, flight.named, reply));
        })
    }

    /// Ready when something is there to be taken back; otherwise the task is woken when it is.
    pub(crate) fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<()> {
        self.client.poll_ready(context)
    }
}
