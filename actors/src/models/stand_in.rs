//! Stand-ins, made of `loom`'s types, for the synchronisation that `loom` does not have itself.
//!
//! Owns what [`crate::sync`] gives out in a model. Refuses time: nothing that waits "for so long" ever times out in here, so
//! that a lost wake-up is a deadlock and not a delay. Where a stand-in promises more or less than the real thing, it says so:
//!
//! - atomics: `loom` takes `SeqCst` for `AcqRel`; a `SeqCst` fence before each such access gives the order back (it orders
//!   the relaxed accesses around it too, which is a little more than the real one promises)
//! - queues: see `queues.rs`
//! - `Notify`: the permit, each change one step, for one waiter
//! - `Parker`, `Mutex`, `Condvar`: `loom`'s lock and condition

use std::future::Future;
use std::pin::Pin;
use std::sync::atomic::Ordering;
use std::sync::{Arc, PoisonError};
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

use loom::sync::atomic::{AtomicUsize, fence};

/// `SeqCst`, as `loom` can have it.
fn order(order: Ordering) {
    if order == Ordering::SeqCst {
        fence(Ordering::SeqCst);
    }
}

macro_rules! atomics {
    ($($name:ident: $value:ty, $($change:ident)*;)*) => {$(
        pub(crate) struct $name(loom::sync::atomic::$name);

        #[allow(dead_code, reason = "the same for all")]
        impl $name {
            pub(crate) fn new(value: $value) -> Self {
                Self(loom::sync::atomic::$name::new(value))
            }

            pub(crate) fn load(&self, o: Ordering) -> $value {
                order(o);
                self.0.load(o)
            }

            pub(crate) fn store(&self, value: $value, o: Ordering) {
                order(o);
                self.0.store(value, o);
            }

            $(pub(crate) fn $change(&self, value: $value, o: Ordering) -> $value {
                order(o);
                self.0.$change(value, o)
            })*
        }
    )*};
}

atomics! {
    AtomicBool: bool, swap;
    AtomicU8: u8, swap fetch_max;
    AtomicU64: u64, swap fetch_add fetch_sub fetch_max;
}

/// Something that is done in one step, all of them in one order.
pub(super) struct Gated<T> {
    gate: AtomicUsize,
    inside: std::sync::Mutex<T>,
}

impl<T> Gated<T> {
    pub(super) fn new(inside: T) -> Self {
        Self { gate: AtomicUsize::new(0), inside: std::sync::Mutex::new(inside) }
    }

    pub(super) fn step<R>(&self, step: impl FnOnce(&mut T) -> R) -> R {
        self.gate.fetch_add(1, Ordering::AcqRel);
        step(&mut self.inside.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// `std`'s cell that is set once.
pub(crate) struct OnceLock<T> {
    is_set: loom::sync::atomic::AtomicBool,
    value: std::sync::OnceLock<T>,
}

impl<T> Default for OnceLock<T> {
    fn default() -> Self {
        Self { is_set: loom::sync::atomic::AtomicBool::new(false), value: std::sync::OnceLock::new() }
    }
}

impl<T> OnceLock<T> {
    pub(crate) fn get(&self) -> Option<&T> {
        self.is_set.load(Ordering::Acquire).then(|| self.value.get()).flatten()
    }

    pub(crate) fn set(&self, value: T) -> Result<(), T> {
        self.value.set(value)?;
        self.is_set.store(true, Ordering::Release);
        Ok(())
    }
}

/// `parking_lot`'s lock.
pub(crate) struct Mutex<T>(loom::sync::Mutex<T>);

/// The guard of a [`Mutex`]; empty only while it waits.
pub(crate) struct Guard<'a, T>(Option<loom::sync::MutexGuard<'a, T>>);

impl<T> Mutex<T> {
    pub(crate) fn new(value: T) -> Self {
        Self(loom::sync::Mutex::new(value))
    }

    pub(crate) fn lock(&self) -> Guard<'_, T> {
        Guard(Some(self.0.lock().unwrap_or_else(PoisonError::into_inner)))
    }
}

impl<T> std::ops::Deref for Guard<'_, T> {
    type Target = T;

    fn deref(&self) -> &T {
        self.0.as_ref().expect("not waiting")
    }
}

impl<T> std::ops::DerefMut for Guard<'_, T> {
    fn deref_mut(&mut self) -> &mut T {
        self.0.as_mut().expect("not waiting")
    }
}

/// `parking_lot`'s condition.
pub(crate) struct Condvar(loom::sync::Condvar);

/// It never does.
pub(crate) struct TimedOut;

impl TimedOut {
    #[allow(clippy::unused_self, reason = "as the real one")]
    pub(crate) fn timed_out(&self) -> bool {
        false
    }
}

impl Condvar {
    pub(crate) fn new() -> Self {
        Self(loom::sync::Condvar::new())
    }

    pub(crate) fn wait<T>(&self, guard: &mut Guard<'_, T>) {
        let inner = guard.0.take().expect("not waiting");
        guard.0 = Some(self.0.wait(inner).unwrap_or_else(PoisonError::into_inner));
    }

    pub(crate) fn wait_until<T>(&self, guard: &mut Guard<'_, T>, _: Instant) -> TimedOut {
        self.wait(guard);
        TimedOut
    }

    pub(crate) fn notify_all(&self) {
        self.0.notify_all();
    }
}

/// `crossbeam`'s parker.
pub(crate) struct Parker {
    unparker: Unparker,
}

/// Its other side.
#[derive(Clone)]
pub(crate) struct Unparker {
    token: Arc<(loom::sync::Mutex<bool>, loom::sync::Condvar)>,
}

impl Parker {
    pub(crate) fn new() -> Self {
        let token = Arc::new((loom::sync::Mutex::new(false), loom::sync::Condvar::new()));
        Self { unparker: Unparker { token } }
    }

    pub(crate) fn unparker(&self) -> &Unparker {
        &self.unparker
    }

    pub(crate) fn park(&self) {
        let (token, changed) = &*self.unparker.token;
        let mut is_there = token.lock().unwrap_or_else(PoisonError::into_inner);
        while !*is_there {
            is_there = changed.wait(is_there).unwrap_or_else(PoisonError::into_inner);
        }
        *is_there = false;
    }

    pub(crate) fn park_timeout(&self, _: Duration) {
        self.park();
    }

    pub(crate) fn park_deadline(&self, _: Instant) {
        self.park();
    }
}

impl Unparker {
    pub(crate) fn unpark(&self) {
        let (token, changed) = &*self.token;
        *token.lock().unwrap_or_else(PoisonError::into_inner) = true;
        changed.notify_one();
    }
}

/// `tokio`'s permit, for one waiter.
pub(crate) struct Notify {
    state: Gated<Permit>,
}

#[derive(Default)]
struct Permit {
    is_there: bool,
    waiter: Option<Waker>,
}

impl Default for Notify {
    fn default() -> Self {
        Self { state: Gated::new(Permit::default()) }
    }
}

impl Notify {
    pub(crate) fn notify_one(&self) {
        let waiter = self.state.step(|permit| {
            permit.is_there = true;
            permit.waiter.take()
        });
        if let Some(waiter) = waiter {
            waiter.wake();
        }
    }

    pub(crate) fn notified_owned(self: Arc<Self>) -> OwnedNotified {
        OwnedNotified(self)
    }
}

/// Ready when the permit was there.
pub(crate) struct OwnedNotified(Arc<Notify>);

impl Future for OwnedNotified {
    type Output = ();

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        let is_there = self.0.state.step(|permit| {
            let is_there = std::mem::take(&mut permit.is_there);
            permit.waiter = (!is_there).then(|| context.waker().clone());
            is_there
        });
        if is_there { Poll::Ready(()) } else { Poll::Pending }
    }
}
