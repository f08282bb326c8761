//! One decision of a key at a time, from the message to its answer.
//!
//! Owns who may go on with a key. A repeat that overtook the undoing of its original would be answered 00 and lose its money: it waits until
//! the original's answer is written, or its undoing durable (ISO-5). Refuses to know what is decided.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Instant;

use parking_lot::Mutex;
use tokio::sync::{Mutex as Lock, OwnedMutexGuard};
use tp_actors::tp_core::key::Key;

use crate::tenancy::TenantId;

/// The keys of requests that are being decided.
#[derive(Default)]
pub(crate) struct KeyLocks(Mutex<HashMap<Owned, Arc<Lock<()>>>>);

/// A key of a tenant.
pub(super) type Owned = (TenantId, Key);

/// A key is its holder's until this is dropped.
pub(super) struct KeyGuard {
    locks: Arc<KeyLocks>,
    key: Owned,
    lock: Option<OwnedMutexGuard<()>>,
}

impl KeyLocks {
    /// A key that is free: taken at once, so that of two messages of a link the first one goes first.
    pub(super) fn try_take(self: &Arc<Self>, key: Owned) -> Option<KeyGuard> {
        let lock = Arc::clone(self.0.lock().entry(key).or_default());
        lock.try_lock_owned().ok().map(|guard| self.guard(key, guard))
    }

    /// Waits for a key, in the order of asking; `None`: it was not free in time.
    pub(super) async fn take(self: &Arc<Self>, key: Owned, until: Instant) -> Option<KeyGuard> {
        let lock = Arc::clone(self.0.lock().entry(key).or_default());
        if let Ok(guard) = tokio::time::timeout_at(until.into(), lock.lock_owned()).await {
            return Some(self.guard(key, guard));
        }
        self.forget(key);
        None
    }

    fn guard(self: &Arc<Self>, key: Owned, lock: OwnedMutexGuard<()>) -> KeyGuard {
        KeyGuard { locks: Arc::clone(self), key, lock: Some(lock) }
    }

    /// Forgets a key that nobody holds or waits for.
    fn forget(&self, key: Owned) {
        let mut locks = self.0.lock();
        // Whoever takes it has a reference of its own, got under this lock.
        if locks.get(&key).is_some_and(|lock| Arc::strong_count(lock) == 1) {
            locks.remove(&key);
        }
    }
}

impl Drop for KeyGuard {
    fn drop(&mut self) {
        self.lock.take();
        self.locks.forget(self.key);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[tokio::test]
    async fn a_key_has_one_holder_at_a_time_and_is_forgotten_after_the_last() {
        let locks = Arc::new(KeyLocks::default());
        let (key, other) = ((TenantId::OPERATOR, Key::opaque(1)), (TenantId::OPERATOR, Key::opaque(2)));
        let soon = || Instant::now() + Duration::from_millis(20);
        let later = Instant::now() + Duration::from_mins(1);
        let held = locks.try_take(key).expect("free");
        assert!(locks.take(other, later).await.is_some());
        assert!(locks.try_take(key).is_none() && locks.take(key, soon()).await.is_none());
        let waiting = tokio::spawn({
            let locks = Arc::clone(&locks);
            async move { locks.take(key, later).await.is_some() }
        });
        tokio::task::yield_now().await;
        drop(held);
        assert!(waiting.await.expect("no panic"));
        assert!(locks.0.lock().is_empty());
    }
}
