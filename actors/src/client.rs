//! The client: submission and completion rings for hot loops.
//!
//! Owns the completion ring and its bound; refuses to know what the replies mean. What is in flight and not yet polled
//! never exceeds the ring, so completing never waits for a client (BND-1). No allocation per command. Whoever waits has woken the
//! partitions that he waits for.
//!
//! ```text
//!  submit, or enqueue .. flush --> partition's inbox ... partition --> completion ring --> poll
//!  in flight = submitted - polled <= capacity
//! ```

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

use tp_core::command::Command;
use tp_core::reply::Reply;
use tp_planted::{Bug, has};

use crate::call::CallOptions;
use crate::config::PARTITIONS_MAX;
use crate::error::Busy;
use crate::inbound::{Inbound, ReplyTo};
use crate::shared::Shared;
use crate::sync::{ArrayQueue, AtomicBool, Mutex, Parker, Unparker, fence};

/// The completing side of a client's ring.
pub(crate) struct Completions {
    ring: ArrayQueue<(u64, Reply)>,
    is_waiting: AtomicBool,
    unparker: Unparker,
    /// The task that asked for one wake-up, and whether it has had it.
    is_task_waiting: AtomicBool,
    task: Mutex<Option<Waker>>,
}

impl Completions {
    pub(crate) fn complete(&self, tag: u64, reply: Reply) {
        let pushed = self.ring.push((tag, reply));
        debug_assert!(pushed.is_ok(), "in flight is bounded by the ring");
    }

    /// After pushes. The fence orders the pushes before the look at `is_waiting`; the client's fence orders its
    /// `is_waiting` before its look at the ring: one of the two sees the other.
    pub(crate) fn wake(&self) {
        if !has(Bug::WaitUnfenced) {
            fence(Ordering::SeqCst);
        }
        if self.is_waiting.load(Ordering::Relaxed) {
            self.unparker.unpark();
        }
        // Whoever takes the flag sees the task that was noted before it was set.
        if self.is_task_waiting.load(Ordering::Relaxed) && self.is_task_waiting.swap(false, Ordering::AcqRel) {
            let waker = self.task.lock().clone();
            waker.iter().for_each(Waker::wake_by_ref); // not under the lock: it runs code of the executor
        }
    }
}

/// A submission and a completion ring with one owner. It may be sent to another thread.
///
/// Dropping it drops the replies that it did not poll; the commands are executed all the same.
pub struct Client {
    shared: Arc<Shared>,
    completions: Arc<Completions>,
    parker: Parker,
    in_flight: usize,
    unwoken: Unwoken,
}

/// Partitions with commands of this client that they were not woken for.
#[derive(Default)]
struct Unwoken {
    /// A bit each.
    partitions: [u64; PARTITIONS_MAX.div_ceil(64)],
    commands: usize,
    /// When the first of them came, monotonic.
    since_ms: u64,
}

impl Unwoken {
    /// When what comes next is submitted: with the first of its row.
    fn since_ms(&mut self, shared: &Shared) -> u64 {
        if self.commands == 0 {
            self.since_ms = shared.clock.monotonic_ms();
        }
        self.since_ms
    }

    fn note(&mut self, partition: usize) {
        self.partitions[partition / 64] |= 1 << (partition % 64);
        self.commands += 1;
    }

    fn wake(&mut self, shared: &Shared) {
        if self.commands == 0 {
            return;
        }
        self.commands = 0;
        for (word, bits) in self.partitions.iter_mut().enumerate() {
            while *bits != 0 {
                shared.lanes[word * 64 + bits.trailing_zeros() as usize].waker.wake();
                *bits &= *bits - 1;
            }
        }
    }
}

/// So many commands at most wait for their partitions to be woken: no partition idles beside a long row of them.
const ENQUEUED_MAX: usize = 64;

impl fmt::Debug for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Client")
            .field("in_flight", &self.in_flight)
            .field("capacity", &self.capacity())
            .finish_non_exhaustive()
    }
}

impl Client {
    pub(crate) fn new(shared: Arc<Shared>, capacity: usize) -> Self {
        let parker = Parker::new();
        let completions = Completions {
            ring: ArrayQueue::new(capacity.clamp(1, 1 << 24)),
            is_waiting: AtomicBool::new(false),
            unparker: parker.unparker().clone(),
            is_task_waiting: AtomicBool::new(false),
            task: Mutex::new(None),
        };
        Self { shared, completions: Arc::new(completions), parker, in_flight: 0, unwoken: Unwoken::default() }
    }

    /// Submits a command with the default deadline. `tag` comes back with its reply; it need not be unique.
    ///
    /// # Errors
    /// [`Busy`]: `capacity` commands are in flight or not polled, or as many as may wait at the partition. Nothing was taken.
    pub fn submit(&mut self, tag: u64, command: &Command) -> Result<(), Busy> {
        self.submit_with(tag, command, CallOptions::default())
    }

    /// As [`Client::submit`], with options.
    ///
    /// # Errors
    /// As [`Client::submit`].
    pub fn submit_with(&mut self, tag: u64, command: &Command, options: CallOptions) -> Result<(), Busy> {
        let taken = self.enqueue(tag, command, options);
        self.flush();
        taken
    }

    /// As [`Client::submit_with`], for one of several in a row: its partition is woken by the next [`Client::flush`], [`Client::poll`],
    /// [`Client::wait`] or [`Client::poll_ready`], after 64 commands, or when the client is dropped. Waking a thread that sleeps
    /// is a system call. Deadlines of a row count from its first command on: reading the clock is not for nothing either.
    ///
    /// # Errors
    /// As [`Client::submit`].
    pub fn enqueue(&mut self, tag: u64, command: &Command, options: CallOptions) -> Result<(), Busy> {
        if self.in_flight >= self.completions.ring.capacity() {
            return Err(Busy);
        }
        let reply_to = ReplyTo::Client { completions: Arc::clone(&self.completions), tag };
        let since_ms = self.unwoken.since_ms(&self.shared);
        let inbound = Inbound::since(since_ms, &self.shared, command.clone(), options, reply_to);
        let partition = self.shared.enqueue(inbound).map_err(|_| Busy)?;
        self.in_flight += 1;
        self.unwoken.note(partition);
        if self.unwoken.commands >= ENQUEUED_MAX {
            self.flush();
        }
        Ok(())
    }

    /// Wakes the partitions of what was enqueued.
    pub fn flush(&mut self) {
        self.unwoken.wake(&self.shared);
    }

    /// Hands over the replies that are there and returns how many. Never blocks.
    pub fn poll(&mut self, mut each: impl FnMut(u64, Reply)) -> usize {
        self.flush();
        let mut polled = 0;
        while let Some((tag, reply)) = self.completions.ring.pop() {
            self.in_flight -= 1;
            polled += 1;
            each(tag, reply);
        }
        polled
    }

    /// Waits until a reply is there to be polled, at most so long; `false`: there is none. Returns at once when nothing
    /// is in flight.
    pub fn wait(&mut self, timeout: Duration) -> bool {
        self.flush();
        let has_some = |client: &Self| !client.completions.ring.is_empty();
        if has_some(self) || self.in_flight == 0 {
            return has_some(self);
        }
        let until = Instant::now().checked_add(timeout);
        self.completions.is_waiting.store(true, Ordering::Relaxed);
        fence(Ordering::SeqCst);
        while !has_some(self) {
            match until {
                None => self.parker.park(),
                Some(until) if Instant::now() >= until => break,
                Some(until) => self.parker.park_deadline(until),
            }
        }
        self.completions.is_waiting.store(false, Ordering::Relaxed);
        has_some(self)
    }

    /// As [`Client::wait`], for a task: ready when a reply is there to be polled. Otherwise the task is woken once when the next one comes;
    /// the task that asked last.
    pub fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<()> {
        self.flush();
        let completions = &*self.completions;
        if !completions.ring.is_empty() {
            return Poll::Ready(());
        }
        let mut task = completions.task.lock();
        if !task.as_ref().is_some_and(|known| known.will_wake(context.waker())) {
            *task = Some(context.waker().clone());
        }
        drop(task);
        completions.is_task_waiting.store(true, Ordering::Release);
        fence(Ordering::SeqCst);
        if completions.ring.is_empty() { Poll::Pending } else { Poll::Ready(()) }
    }

    /// Submitted and not yet polled.
    pub const fn in_flight(&self) -> usize {
        self.in_flight
    }

    /// The most that can be in flight.
    pub fn capacity(&self) -> usize {
        self.completions.ring.capacity()
    }
}

impl Drop for Client {
    fn drop(&mut self) {
        self.flush(); // what was taken is executed
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::step::tests::shared_of;
    use tp_core::command::{Read, ReadTarget};
    use tp_core::ids::AccountId;

    fn was_woken(shared: &Shared, partition: usize) -> bool {
        let mut context = Context::from_waker(Waker::noop());
        std::pin::pin!(shared.lanes[partition].waker.woken()).as_mut().poll(&mut context).is_ready()
    }

    /// One command to each partition.
    fn enqueue(client: &mut Client) {
        let mut is_there = [false; 2];
        for n in 1.. {
            let command: Command = Read { target: ReadTarget::Account(AccountId(n)) }.into();
            let partition = client.shared.partition_of(command.slot(&client.shared.seed).expect("an account"));
            if !std::mem::replace(&mut is_there[partition], true) {
                client.enqueue(0, &command, CallOptions::default()).expect("room");
            }
            if is_there == [true; 2] {
                return;
            }
        }
    }

    #[test]
    fn whoever_waits_has_woken_the_partitions_that_he_waits_for() {
        let shared = Arc::new(shared_of(2));
        let mut client = Client::new(Arc::clone(&shared), 1_000);
        let ways: [fn(&mut Client); 5] = [
            Client::flush,
            |client| assert_eq!(client.poll(|_, _| {}), 0),
            |client| assert!(!client.wait(Duration::ZERO)),
            |client| assert!(client.poll_ready(&mut Context::from_waker(Waker::noop())).is_pending()),
            |client| (0..ENQUEUED_MAX / 2 - 1).for_each(|_| enqueue(client)),
        ];
        for (n, way) in ways.into_iter().enumerate() {
            enqueue(&mut client);
            assert!(!was_woken(&shared, 0) && !was_woken(&shared, 1), "{n}: it is enqueued");
            way(&mut client);
            assert!(was_woken(&shared, 0) && was_woken(&shared, 1), "{n}");
            client.flush();
            assert!(!was_woken(&shared, 0), "{n}: once");
        }
        enqueue(&mut client);
        drop(client);
        assert!(was_woken(&shared, 0) && was_woken(&shared, 1), "what was taken is executed");
    }
}
