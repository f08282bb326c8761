//! Waking: the partitions' one-in-flight wake-up, the writer's parking, the watch on the durable sequence number.
//!
//! Owns the three protocols by which a thread that sleeps learns that there is work; refuses to know what the work is.
//! None can lose a wake-up:
//!
//! - [`PartitionWaker`]: `Notify` keeps one permit, so a wake-up before the wait makes the wait return at once, and many
//!   are one. It allocates nothing, where a message into the actor's mailbox allocates twice.
//! - [`Sleeper`]/[`WriterWaker`]: `Parker` keeps a token, so an unpark before the park makes the park return at once.
//! - [`Durable`]: the number is changed under the lock under which waiters test it.

use std::future::Future as _;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task;
use std::time::{Duration, Instant};

use tp_core::ids::Seq;
use tp_planted::{Bug, has};

use crate::sync::{AtomicU64, Condvar, Mutex, Notify, OwnedNotified, Parker, Unparker};

/// Wakes a partition's actor. Wake-ups that come before it looks are one.
#[derive(Clone, Default)]
pub(crate) struct PartitionWaker {
    notify: Arc<Notify>,
}

impl PartitionWaker {
    /// After a push.
    pub(crate) fn wake(&self) {
        self.notify.notify_one();
    }

    /// Ready once there was a wake-up since the last one that was ready.
    pub(crate) fn woken(&self) -> OwnedNotified {
        Arc::clone(&self.notify).notified_owned()
    }
}

/// Follows the wake-ups of one partition: whoever polls it runs the partition after each, and once more for those that came
/// meanwhile.
pub(crate) struct WakeLoop {
    waker: PartitionWaker,
    woken: Pin<Box<OwnedNotified>>,
    /// There was a wake-up that was not followed yet.
    is_woken: bool,
}

impl WakeLoop {
    pub(crate) fn new(waker: PartitionWaker) -> Self {
        let woken = Box::pin(waker.woken());
        Self { waker, woken, is_woken: false }
    }

    fn wait_anew(&mut self) {
        let next = self.waker.woken();
        self.woken.set(next);
    }

    /// Runs the partition if it was woken. `task` is woken at the next wake-up.
    pub(crate) fn poll(&mut self, task: &mut task::Context<'_>, run: impl FnOnce()) {
        if !self.is_woken {
            if self.woken.as_mut().poll(task).is_pending() {
                return;
            }
            self.wait_anew();
        }
        run();
        // One run a poll, so that the arbiter's timers have their turn. A wake-up during the run asks for another.
        self.is_woken = self.woken.as_mut().poll(task).is_ready();
        if self.is_woken {
            self.wait_anew();
            task.waker().wake_by_ref();
        }
    }
}

/// Wakes the journal writer. Clones wake the same one.
#[derive(Clone)]
pub(crate) struct WriterWaker {
    unparker: Unparker,
}

impl WriterWaker {
    /// After a push.
    pub(crate) fn wake(&self) {
        self.unparker.unpark();
    }
}

/// The sleeping side of a [`WriterWaker`].
pub(crate) struct Sleeper {
    parker: Parker,
}

impl Sleeper {
    pub(crate) fn new() -> (Self, WriterWaker) {
        let parker = Parker::new();
        let unparker = parker.unparker().clone();
        (Self { parker }, WriterWaker { unparker })
    }

    /// Until woken, or for so long.
    pub(crate) fn sleep(&self, at_most: Duration) {
        self.parker.park_timeout(at_most);
    }
}

/// A durable prefix of the journal and the latest event time in it.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(crate) struct DurablePoint {
    pub(crate) seq: u64,
    pub(crate) time_max: u64,
}

/// What is durable, and those who wait for it.
pub(crate) struct Durable {
    /// Copy of the point's number, for those who do not wait.
    seq: AtomicU64,
    point: Mutex<DurablePoint>,
    changed: Condvar,
}

impl Durable {
    pub(crate) fn new(point: DurablePoint) -> Self {
        Self { seq: AtomicU64::new(point.seq), point: Mutex::new(point), changed: Condvar::new() }
    }

    pub(crate) fn seq(&self) -> Seq {
        Seq(self.seq.load(Ordering::Acquire))
    }

    pub(crate) fn point(&self) -> DurablePoint {
        *self.point.lock()
    }

    /// By the writer, after the sync returned (DUR-1).
    pub(crate) fn publish(&self, seq: u64, time_max: u64) {
        let mut point = self.point.lock();
        point.seq = seq;
        point.time_max = point.time_max.max(time_max);
        self.seq.store(seq, Ordering::Release);
        drop(point);
        self.changed.notify_all();
    }

    /// Wakes all waiters so that they look at their other conditions.
    pub(crate) fn nudge(&self) {
        if !has(Bug::NudgeUnlocked) {
            drop(self.point.lock());
        }
        self.changed.notify_all();
    }

    /// Waits until `seq` is durable, `is_over` says so, or the time is up. Returns whether `seq` is durable.
    pub(crate) fn wait(&self, seq: Seq, until: Option<Instant>, is_over: impl Fn() -> bool) -> bool {
        if self.seq() >= seq {
            return true;
        }
        let mut point = self.point.lock();
        loop {
            if point.seq >= seq.0 {
                return true;
            }
            if is_over() {
                return false;
            }
            match until {
                None => self.changed.wait(&mut point),
                Some(until) => {
                    if self.changed.wait_until(&mut point, until).timed_out() {
                        return point.seq >= seq.0;
                    }
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whoever_waits_for_a_number_sees_it_published() {
        let durable = Arc::new(Durable::new(DurablePoint::default()));
        let waiter = {
            let durable = Arc::clone(&durable);
            std::thread::spawn(move || durable.wait(Seq(1000), None, || false))
        };
        for seq in 1..=1000 {
            durable.publish(seq, seq * 2);
        }
        assert!(waiter.join().expect("no panic"));
        assert_eq!(durable.point(), DurablePoint { seq: 1000, time_max: 2000 });
        assert!(!durable.wait(Seq(1001), Some(Instant::now()), || false), "not published");
        assert!(!durable.wait(Seq(1001), None, || true), "over");
    }

    #[test]
    fn many_wake_ups_before_the_wait_are_one() {
        let waker = PartitionWaker::default();
        (0..3).for_each(|_| waker.wake());
        let is_ready = |woken: OwnedNotified| {
            let mut context = std::task::Context::from_waker(std::task::Waker::noop());
            std::pin::pin!(woken).poll(&mut context).is_ready()
        };
        assert!(is_ready(waker.woken()));
        assert!(!is_ready(waker.woken()), "taken already");
    }

    #[test]
    fn a_wake_up_before_the_sleep_is_not_lost() {
        let (sleeper, waker) = Sleeper::new();
        waker.wake();
        let start = Instant::now();
        sleeper.sleep(Duration::from_mins(1));
        assert!(start.elapsed() < Duration::from_secs(30), "the token made it return at once");
    }
}
