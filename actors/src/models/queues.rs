//! The stand-ins for `crossbeam`'s bounded queue, in two strengths.
//!
//! Owns the choice between them, one for each model: [`Queues::Stamped`] is `crossbeam`'s algorithm with its orderings, but for
//! `SeqCst` exchanges that are `AcqRel`: it promises less. [`Queues::Gated`] is one step per operation, all in one order: it
//! promises more, and is for the models of a whole engine, where the steps of the queues would hide those between them. Refuses
//! more than a few values at once: a model that has more in a queue fails.

use std::cell::Cell;
use std::collections::VecDeque;
use std::sync::PoisonError;
use std::sync::atomic::Ordering;

use loom::sync::atomic::{AtomicUsize, fence};

use super::stand_in::Gated;

/// Which queues a model is made of.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Queues {
    Stamped,
    Gated,
}

thread_local! {
    // All threads of a model run on the thread of its test.
    static QUEUES: Cell<Queues> = const { Cell::new(Queues::Stamped) };
}

impl Queues {
    /// For all queues made from now on by this test.
    pub(crate) fn choose(self) {
        QUEUES.set(self);
    }
}

/// `crossbeam`'s bounded queue.
pub(crate) enum ArrayQueue<T> {
    Stamped(Stamped<T>),
    Gated(Gate<T>),
}

/// See [`Queues::Gated`].
pub(crate) struct Gate<T> {
    capacity: usize,
    values: Gated<VecDeque<T>>,
}

impl<T> ArrayQueue<T> {
    pub(crate) fn new(capacity: usize) -> Self {
        match QUEUES.get() {
            Queues::Stamped => Self::Stamped(Stamped::new(capacity)),
            Queues::Gated => Self::Gated(Gate { capacity, values: Gated::new(VecDeque::new()) }),
        }
    }

    pub(crate) fn push(&self, value: T) -> Result<(), T> {
        match self {
            Self::Stamped(queue) => queue.push(value),
            Self::Gated(queue) => queue.values.step(|values| {
                if values.len() == queue.capacity {
                    return Err(value);
                }
                values.push_back(value);
                Ok(())
            }),
        }
    }

    pub(crate) fn pop(&self) -> Option<T> {
        match self {
            Self::Stamped(queue) => queue.pop(),
            Self::Gated(queue) => queue.values.step(VecDeque::pop_front),
        }
    }

    pub(crate) fn len(&self) -> usize {
        match self {
            Self::Stamped(queue) => queue.len(),
            Self::Gated(queue) => queue.values.step(|values| values.len()),
        }
    }

    pub(crate) fn capacity(&self) -> usize {
        match self {
            Self::Stamped(queue) => queue.capacity,
            Self::Gated(queue) => queue.capacity,
        }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.len() == 0
    }

    pub(crate) fn is_full(&self) -> bool {
        self.len() == self.capacity()
    }
}

/// Slots of a [`Stamped`]: as many as a model has in a queue at once.
const SLOTS: usize = 3;

/// See [`Queues::Stamped`]. Head, tail and stamps only count up, so that a slot's lap needs no bits of its own.
pub(crate) struct Stamped<T> {
    head: AtomicUsize,
    tail: AtomicUsize,
    slots: Vec<Slot<T>>,
    capacity: usize,
}

struct Slot<T> {
    /// Position that may be pushed, or that position and one when it was.
    stamp: AtomicUsize,
    /// Not seen by the checker: the stamps order it, and a value that is not there is a failure.
    value: std::sync::Mutex<Option<T>>,
}

impl<T> Stamped<T> {
    fn new(capacity: usize) -> Self {
        let slot = |stamp| Slot { stamp: AtomicUsize::new(stamp), value: std::sync::Mutex::new(None) };
        let slots = (0..capacity.min(SLOTS)).map(|index| slot(index * 2)).collect();
        Self { head: AtomicUsize::new(0), tail: AtomicUsize::new(0), slots, capacity }
    }

    /// The slot of a position, and the stamp with which it may be pushed.
    fn slot(&self, position: usize) -> (&Slot<T>, usize) {
        (&self.slots[position % self.slots.len()], position * 2)
    }

    fn push(&self, value: T) -> Result<(), T> {
        let mut tail = self.tail.load(Ordering::Relaxed);
        loop {
            let (slot, free) = self.slot(tail);
            let stamp = slot.stamp.load(Ordering::Acquire);
            if stamp == free {
                match self.tail.compare_exchange(tail, tail + 1, Ordering::AcqRel, Ordering::Relaxed) {
                    Ok(_) => {
                        *slot.value.lock().unwrap_or_else(PoisonError::into_inner) = Some(value);
                        slot.stamp.store(free + 1, Ordering::Release);
                        return Ok(());
                    }
                    Err(now) => tail = now,
                }
                continue;
            }
            if stamp < free {
                fence(Ordering::SeqCst);
                if self.head.load(Ordering::Relaxed) + self.slots.len() == tail {
                    assert_eq!(self.slots.len(), self.capacity, "the model has more in a queue than {SLOTS}");
                    return Err(value);
                }
            }
            loom::thread::yield_now();
            tail = self.tail.load(Ordering::Relaxed);
        }
    }

    fn pop(&self) -> Option<T> {
        let mut head = self.head.load(Ordering::Relaxed);
        loop {
            let (slot, free) = self.slot(head);
            let stamp = slot.stamp.load(Ordering::Acquire);
            if stamp == free + 1 {
                match self.head.compare_exchange(head, head + 1, Ordering::AcqRel, Ordering::Relaxed) {
                    Ok(_) => {
                        let value = slot.value.lock().unwrap_or_else(PoisonError::into_inner).take();
                        assert!(value.is_some(), "the stamp came before the value");
                        slot.stamp.store(free + 2 * self.slots.len(), Ordering::Release);
                        return value;
                    }
                    Err(now) => head = now,
                }
                continue;
            }
            if stamp == free {
                fence(Ordering::SeqCst);
                if self.tail.load(Ordering::Relaxed) == head {
                    return None;
                }
            }
            loom::thread::yield_now();
            head = self.head.load(Ordering::Relaxed);
        }
    }

    fn len(&self) -> usize {
        loop {
            let tail = self.tail.load(Ordering::Acquire);
            let head = self.head.load(Ordering::Acquire);
            if let Some(len) = tail.checked_sub(head) {
                return len;
            }
            loom::thread::yield_now(); // the tail is older than the head
        }
    }
}
