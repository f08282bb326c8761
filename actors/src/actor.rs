//! The actix side of a partition: one actor on its own arbiter, and nothing else there.
//!
//! Owns the wake-ups and the timer of a [`PartitionCrank`]; refuses to know what it does. Wake-ups come through a future in the
//! actor's context and not through the mailbox, which would allocate twice for each.

use std::pin::Pin;
use std::task::{self, Poll};
use std::time::Duration;

use actix::fut::ActorFuture;
use actix::{Actor, ActorContext as _, AsyncContext as _, Context};

use crate::crank::{PartitionCrank, Ran, TICK_MS};
use crate::wake::{PartitionWaker, WakeLoop};

/// Turns before the arbiter may look at its timers.
const TURNS_MAX: usize = 64;

/// One partition's actor.
pub(crate) struct PartitionActor {
    crank: PartitionCrank,
}

impl PartitionActor {
    pub(crate) const fn new(crank: PartitionCrank) -> Self {
        Self { crank }
    }

    fn waker(&self) -> &PartitionWaker {
        &self.crank.shared().lanes[self.crank.index()].waker
    }

    /// Works until there is nothing to do, or the others on this thread (timers) must have their turn.
    fn run(&mut self, context: &mut Context<Self>) {
        match self.crank.run(TURNS_MAX) {
            Ran::More => self.waker().wake(),
            Ran::Rests => {}
            Ran::Ended => context.stop(),
        }
    }
}

impl Actor for PartitionActor {
    type Context = Context<Self>;

    fn started(&mut self, context: &mut Self::Context) {
        context.run_interval(Duration::from_millis(TICK_MS), |this, context| {
            this.crank.tick();
            this.run(context);
        });
        context.spawn(Wakes(WakeLoop::new(self.waker().clone())));
        self.waker().wake(); // for what came before
    }
}

/// Runs the partition whenever it was woken, for as long as the actor lives.
struct Wakes(WakeLoop);

impl ActorFuture<PartitionActor> for Wakes {
    type Output = ();

    fn poll(
        mut self: Pin<&mut Self>,
        actor: &mut PartitionActor,
        context: &mut Context<PartitionActor>,
        task: &mut task::Context<'_>,
    ) -> Poll<()> {
        self.0.poll(task, || actor.run(context));
        Poll::Pending
    }
}
