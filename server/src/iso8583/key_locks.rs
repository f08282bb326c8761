//! One decision of a key at a time, from the message to its answer.
//!
//! Owns who may go on with a key. A repeat that overtook the undoing of its original would be answered 00 and lose its money: it waits until
//! the original's answer is written, or its undoing durable (ISO-5). Refuses to know what is decided.

use std::collections::hash_map::Entry;
use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::time::Instant;

use parking_lot::Mutex;
use tokio::sync::oneshot;
use tp_actors::tp_core::key::Key;

use crate::tenancy::TenantId;

/// The keys of requests that are being decided, each with those that wait for it in the order of asking. Most have none: an empty queue
/// takes no memory of its own.
#[derive(Clone, Default)]
pub(crate) struct KeyLocks(Arc<Mutex<HashMap<Owned, VecDeque<oneshot::Sender<KeyGuard>>>>>);

/// A key of a tenant.
pub(super) type Owned = (TenantId, Key);

/// A key is its holder's until this is dropped.
pub(super) struct KeyGuard {
    locks: Arc<KeyLocks>,
    key: Owned,
}

impl KeyLocks {
    /// A key that is free: taken at once, so that of two messages of a link the first one goes first.
    pub(super) fn try_take(self: &Arc<Self>, key: Owned) -> Option<KeyGuard> {
        match self.0.lock().entry(key) {
            Entry::Occupied(_) => None,
            Entry::Vacant(free) => {
                free.insert(VecDeque::new());
                Some(self.guard(key))
            }
        }
    }

    /// Waits for a key, in the order of asking; `None`: it was not free in time.
    pub(super) async fn take(self: &Arc<Self>, key: Owned, until: Instant) -> Option<KeyGuard> {
        let (give, given) = oneshot::channel();
        match self.0.lock().entry(key) {
            Entry::Occupied(mut held) => {
                // A key may be held for long, while its undoing finds no room: who has gone since is not kept.
                held.get_mut().retain(|waits| !waits.is_closed());
                held.get_mut().push_back(give);
            }
            Entry::Vacant(free) => {
                free.insert(VecDeque::new());
                return Some(self.guard(key));
            }
        }
        // One that is given in the last moment goes on to the next with the channel.
        tokio::time::timeout_at(until.into(), given).await.ok()?.ok()
    }

    fn guard(self: &Arc<Self>, key: Owned) -> KeyGuard {
        KeyGuard { locks: Arc::clone(self), key }
    }
}

impl Drop for KeyGuard {
    fn drop(&mut self) {
        let mut locks = self.locks.0.lock();
        let Entry::Occupied(mut held) = locks.entry(self.key) else { return };
        // Who does not wait any more is passed over here: his guard would be dropped under this lock.
        while let Some(next) = held.get_mut().pop_front() {
            if !next.is_closed() {
                drop(locks);
                // Should he go meanwhile, his guard is dropped where it is, and looks for the next.
                let _ = next.send(self.locks.guard(self.key));
                return;
            }
        }
        held.remove();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::future::poll_fn;
    use std::task::Poll;
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
        // One that has gone meanwhile is passed over, and one that goes with the key in its hands hands it on.
        let gone = tokio::spawn({
            let locks = Arc::clone(&locks);
            async move { locks.take(key, later).await.is_some() }
        });
        tokio::task::yield_now().await;
        let mut last = std::pin::pin!(locks.take(key, later));
        assert!(poll_fn(|context| Poll::Ready(last.as_mut().poll(context).is_pending())).await);
        gone.abort();
        assert!(gone.await.expect_err("aborted").is_cancelled());
        drop(held);
        assert!(waiting.await.expect("no panic"));
        assert!(last.await.is_some());
        assert!(locks.0.lock().is_empty());
    }
}
