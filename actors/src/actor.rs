//! The actix side of a partition: one actor on its own arbiter, and nothing else there.
//!
//! Owns the wake-ups and the timer of a [`PartitionCrank`]; refuses to know what it does. Wake-ups come through a future in the
//! actor's context and not through the mailbox, which would allocate twice for each.

use std::future::Future as _;
use std::pin::Pin;
use std::task::{self, Poll};
use std::time::Duration;

use actix::fut::ActorFuture;
use actix::{Actor, ActorContext as _, AsyncContext as _, Context};
use tokio::sync::futures::OwnedNotified;

use crate::crank::{PartitionCrank, Ran, TICK_MS};
use crate::wake::PartitionWaker;

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
        let waker = self.waker().clone();
        let woken = Box::pin(waker.woken());
        context.spawn(WakeLoop { waker, woken, is_woken: false });
        self.waker().wake(); // for what came before
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
