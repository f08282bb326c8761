//! A partition's crank: what is done when it is woken or its timer rings, around [`Step`]. No threads in here.
//!
//! Owns the order of questions, turns, ticks and the end, and what a panic becomes: a panic in a step, or an event that does not
//! follow, poisons the engine; the partition stays and answers. Refuses to know who wakes it: an actor on its own thread, or
//! the owner of a [`crate::ManualEngine`].

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::Ordering;

use tp_core::partition::Partition;
use tp_planted::{Bug, has};

use crate::error::PoisonCause;
use crate::shared::{Shared, Stage, panic_message};
use crate::step::{Moment, Progress, Step};

/// Between two looks at deadlines, expiries and engine time, ms.
pub(crate) const TICK_MS: u64 = 5;

/// What a run came to.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Ran {
    /// There may be more to do at once.
    More,
    /// Nothing to do until it is woken.
    Rests,
    /// The engine ended: everybody was answered, and it must not run again.
    Ended,
}

/// One partition between its wake-ups.
pub(crate) struct PartitionCrank {
    index: usize,
    shared: Arc<Shared>,
    step: Step,
    ticked_ms: u64,
}

impl PartitionCrank {
    pub(crate) fn new(index: usize, shared: Arc<Shared>, step: Step) -> Self {
        Self { index, shared, step, ticked_ms: 0 }
    }

    pub(crate) const fn index(&self) -> usize {
        self.index
    }

    pub(crate) fn shared(&self) -> &Arc<Shared> {
        &self.shared
    }

    /// Between two turns.
    pub(crate) const fn partition(&mut self) -> &mut Partition {
        self.step.partition()
    }

    fn moment(&self) -> Moment {
        Moment { now: self.shared.clock.now(), monotonic_ms: self.shared.clock.monotonic_ms() }
    }

    /// One question and at most so many turns.
    pub(crate) fn run(&mut self, turns_max: usize) -> Ran {
        if self.shared.stage() == Stage::Ended {
            return self.end();
        }
        if self.shared.poison.is_set() {
            self.abandon();
            return Ran::Rests;
        }
        let has_more_asks = self.answer_one();
        for _ in 0..turns_max {
            match self.turn() {
                Some(Progress::Made) => {}
                Some(Progress::Idle | Progress::PutOff) => {
                    let at = self.moment();
                    self.guarded("release", |this| this.step.release(&this.shared, at.monotonic_ms));
                    return if has_more_asks { Ran::More } else { Ran::Rests };
                }
                None => {
                    self.abandon();
                    return Ran::Rests;
                }
            }
            if self.shared.clock.monotonic_ms() >= self.ticked_ms + 4 * TICK_MS {
                self.tick();
            }
        }
        Ran::More
    }

    /// The timer's work.
    pub(crate) fn tick(&mut self) {
        if self.shared.poison.is_set() {
            return;
        }
        let at = self.moment();
        self.ticked_ms = at.monotonic_ms;
        self.guarded("tick", |this| this.step.tick(&this.shared, at));
    }

    /// Poisoned: state may be ahead of the journal by half a turn, so nobody is shown it any more.
    fn abandon(&mut self) {
        while self.shared.lanes[self.index].asks.pop().is_some() {}
        self.guarded("abandon", |this| this.step.abandon(&this.shared));
    }

    /// One turn; `None`: the engine is poisoned now.
    fn turn(&mut self) -> Option<Progress> {
        let at = self.moment();
        let turned = catch_unwind(AssertUnwindSafe(|| self.step.turn(&self.shared, at)));
        let cause = match turned {
            Ok(Ok(progress)) => return (!self.shared.poison.is_set()).then_some(progress),
            Ok(Err(evolve)) => PoisonCause::Evolve(evolve),
            Err(panic) => self.panicked(&*panic),
        };
        self.shared.poison(cause);
        None
    }

    fn panicked(&self, panic: &(dyn std::any::Any + Send)) -> PoisonCause {
        PoisonCause::Panicked { thread: format!("partition {}", self.index), message: panic_message(panic) }
    }

    fn guarded(&mut self, what: &str, work: impl FnOnce(&mut Self)) {
        if let Err(panic) = catch_unwind(AssertUnwindSafe(|| work(self))) {
            let thread = format!("partition {} ({what})", self.index);
            self.shared.poison(PoisonCause::Panicked { thread, message: panic_message(&*panic) });
        }
    }

    /// Answers one question, so that copies of many slots leave room for turns between them. Returns whether there are more.
    fn answer_one(&mut self) -> bool {
        let lane = &self.shared.lanes[self.index];
        let Some(look) = lane.asks.pop() else { return false };
        let has_more = !lane.asks.is_empty();
        let as_of = self.shared.last_seq();
        self.guarded("ask", |this| look(this.step.partition(), as_of));
        has_more
    }

    fn end(&mut self) -> Ran {
        if has(Bug::ClosedLate) {
            self.guarded("end", |this| this.step.abandon(&this.shared));
        }
        self.shared.lanes[self.index].closed.store(true, Ordering::SeqCst);
        if !has(Bug::ClosedLate) {
            self.guarded("end", |this| this.step.abandon(&this.shared));
        }
        Ran::Ended
    }
}
