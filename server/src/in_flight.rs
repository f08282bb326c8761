//! A caller's commands that are with the engine, over gRPC streams and frames: under his tags, answered as batches are.
//!
//! Owns what an answer needs to know of its command. Refuses to know where commands come from and who else has a say.

use std::sync::Arc;
use std::task::{Context, Poll};

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
use crate::rings::Rings;

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
    rings: Rings<Flight>,
}

impl InFlight {
    pub(crate) fn new(serving: &Arc<Serving>) -> Self {
        let rings = Rings::new(Arc::clone(&serving.engine), IN_FLIGHT_MAX);
        Self { serving: Arc::clone(serving), rings }
    }

    /// Whether there is no room for one more.
    pub(crate) fn is_full(&self) -> bool {
        self.rings.is_full()
    }

    /// Whether there is none.
    pub(crate) fn is_empty(&self) -> bool {
        self.rings.is_empty()
    }

    /// Gives back what a busy time took, when nothing is under way.
    pub(crate) fn shrink(&mut self) {
        self.rings.shrink();
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
        let options = options(&self.serving, caller, asked, deadline_ms);
        match self.rings.submit(&asked.command, options) {
            Some(kept) => {
                *kept = Some(flight);
                Ok(())
            }
            None => Err(Done::of(&self.serving, verb, None, Reply::bare(Outcome::Busy))),
        }
    }

    /// Wakes the engine for what was handed over: at the end of a row of commands.
    pub(crate) fn flush(&mut self) {
        self.rings.flush();
    }

    /// Takes back what is decided and durable, and returns how many.
    pub(crate) fn poll(&mut self, mut each: impl FnMut(u64, Done)) -> usize {
        let Self { serving, rings } = self;
        rings.poll(|flight, reply| each(flight.tag, Done::of(serving, flight.verb, flight.named, reply)))
    }

    /// Ready when something is there to be taken back; otherwise the task is woken when it is.
    pub(crate) fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<()> {
        self.rings.poll_ready(context)
    }
}
