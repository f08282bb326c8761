//! The actix side of a partition: one actor on its own arbiter, and nothing else there.
//!
//! Owns the crank that turns [`Step`]: wake-ups, the timer, the end. Refuses to know what a step does. Wake-ups come
//! through a future in the actor's context and not through the mailbox, which would allocate twice for each. A panic in a step, or an event that does not follow, poisons the
//! engine; the actor stays and answers.

use std::future::Future as _;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::{self, Poll};
use std::time::Duration;

use actix::fut::ActorFuture;
use actix::{Actor, ActorContext as _, AsyncContext as _, Context};
use tokio::sync::futures::OwnedNotified;

use crate::error::PoisonCause;
use crate::shared::{Shared, Stage, panic_message};
use crate::step::{Moment, Progress, Step};
use crate::wake::PartitionWaker;

/// Between two looks at deadlines, expiries and engine time.
const TICK: Duration = Duration::from_millis(5);
/// Turns before the arbiter may look at its timers.
const TURNS_MAX: usize = 64;

/// One partition's actor.
pub(crate) struct PartitionActor {
    index: usize,
    shared: Arc<Shared>,
    step: Step,
    ticked_ms: u64,
}

impl PartitionActor {
    pub(crate) fn new(index: usize, shared: Arc<Shared>, step: Step) -> Self {
        Self { index, shared, step, ticked_ms: 0 }
    }

    fn moment(&self) -> Moment {
        Moment { now: self.shared.clock.now(), monotonic_ms: self.shared.clock.monotonic_ms() }
    }

    /// Works until there is nothing to do, or the others on this thread (timers) must have their turn.
    fn run(&mut self, context: &mut Context<Self>) {
        if self.shared.stage() == Stage::Ended {
            return self.end(context);
        }
        if self.shared.poison.is_set() {
            return self.abandon();
        }
        self.answer_one();
        for _ in 0..TURNS_MAX {
            match self.turn() {
                Some(Progress::Made) => {}
                Some(Progress::Idle | Progress::PutOff) => {
                    return self.guarded("release", |this| this.step.release(&this.shared));
                }
                None => return self.abandon(),
            }
            if self.shared.clock.monotonic_ms() >= self.ticked_ms + 4 * 5 {
                self.tick();
            }
        }
        self.shared.lanes[self.index].waker.wake(); // there may be more
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

    fn tick(&mut self) {
        let at = self.moment();
        self.ticked_ms = at.monotonic_ms;
        self.guarded("tick", |this| this.step.tick(&this.shared, at));
    }

    /// Answers one question, so that copies of many slots leave room for turns between them.
    fn answer_one(&mut self) {
        let lane = &self.shared.lanes[self.index];
        let Some(look) = lane.asks.pop() else { return };
        if !lane.asks.is_empty() {
            lane.waker.wake();
        }
        let as_of = self.shared.last_seq();
        self.guarded("ask", |this| look(this.step.partition(), as_of));
    }

    fn end(&mut self, context: &mut Context<Self>) {
        self.shared.lanes[self.index].closed.store(true, Ordering::SeqCst);
        self.guarded("end", |this| this.step.abandon(&this.shared));
        context.stop();
    }
}

impl Actor for PartitionActor {
    type Context = Context<Self>;

    fn started(&mut self, context: &mut Self::Context) {
        context.run_interval(TICK, |this, context| {
            if !this.shared.poison.is_set() {
                this.tick();
            }
            this.run(context);
        });
        let waker = self.shared.lanes[self.index].waker.clone();
        let woken = Box::pin(waker.woken());
        context.spawn(WakeLoop { waker, woken, is_woken: false });
        self.shared.lanes[self.index].waker.wake(); // for what came before
    }
}

/// Runs the partition whenever it was woken, for as long as the actor lives.
struct WakeLoop {
    waker: PartitionWaker,
    woken: Pin<Box<OwnedNotified>>,
    /// There was a wake-up that was not followed yet.
    is_woken: bool,
}

impl WakeLoop {
    fn wait_anew(&mut self) {
        let next = self.waker.woken();
        self.woken.set(next);
    }
}

impl ActorFuture<PartitionActor> for WakeLoop {
    type Output = ();

    fn poll(
        mut self: Pin<&mut Self>,
        actor: &mut PartitionActor,
        context: &mut Context<PartitionActor>,
        task: &mut task::Context<'_>,
    ) -> Poll<()> {
        if !self.is_woken {
            if self.woken.as_mut().poll(task).is_pending() {
                return Poll::Pending;
            }
            self.wait_anew();
        }
        actor.run(context);
        // One run a poll, so that the arbiter's timers have their turn. A wake-up during the run asks for another.
        self.is_woken = self.woken.as_mut().poll(task).is_ready();
        if self.is_woken {
            self.wait_anew();
            task.waker().wake_by_ref();
        }
        Poll::Pending
    }
}
