//! The nonces of signatures that were accepted: a signature is accepted at most once (AUT-3). Owns remembering and forgetting. Refuses
//! to know what was signed.
//!
//! ```text
//!  created:   … | 30 s | 30 s | 30 s | … | 30 s |       buckets by the time in the signature
//!               ^ forgotten as a whole when its last second is out of the window
//! ```
//!
//! Invariants: NON-1 (whatever was forgotten is refused by its time: what is older than anything that was forgotten, and what may be
//! from before this process), NON-2 (memory is bounded: when a key or all keys together have used their share, the next signature is
//! refused and none is forgotten early).
//!
//! After a restart nothing is remembered. A signature of before could have been accepted, also one whose clock was ahead: so everything
//! up to `started + ahead_s_max` is refused with [`NonceRefusal::SignAgain`]. Make this at the start of the process: by the time that
//! recovery is over, those few seconds usually are as well.

use std::collections::{BTreeMap, HashMap, HashSet};

use aws_lc_rs::digest::{self, SHA256};
use parking_lot::Mutex;

use super::key_id::KeyId;
use super::signature::{Limits, Verified};

/// Seconds of one bucket: so much longer than the window a nonce is remembered at most.
const BUCKET_S: u64 = 30;

/// How many nonces are remembered. One takes 24 bytes, and up to 56 in a table that has just grown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NonceBudget {
    /// Of one key. Divided by the window it is the rate that a key can keep up: 200,000 in 300 s are 666 requests a second.
    pub per_key: usize,
    /// Of all keys.
    pub total: usize,
}

impl Default for NonceBudget {
    /// 200,000 of one key, 2,000,000 of all: at most about 110 MB.
    fn default() -> Self {
        Self { per_key: 200_000, total: 2_000_000 }
    }
}

/// Why a verified signature is refused all the same.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum NonceRefusal {
    /// It may be from before this process began, whose nonces nobody remembers. The client signs the request again.
    #[error("the signature may be from before the server started: sign again")]
    SignAgain,
    /// It is older than what is remembered.
    #[error("the signature is older than the nonces that are remembered")]
    TooOld,
    /// The key used the nonce before.
    #[error("the nonce was used before")]
    Replayed,
    /// The key, or all together, used as many as are remembered. The client waits.
    #[error("too many nonces within the window")]
    TooMany,
}

/// The memory. Shared by all requests: one short lock each.
#[derive(Debug)]
pub struct Nonces {
    limits: Limits,
    budget: NonceBudget,
    /// Up to this second signatures are refused as those of an earlier process.
    refused_until_unix_s: u64,
    memory: Mutex<Memory>,
}

#[derive(Debug, Default)]
struct Memory {
    /// By `created / BUCKET_S`.
    buckets: BTreeMap<u64, Bucket>,
    counts: HashMap<KeyId, usize>,
    total: usize,
    /// Buckets below this one were forgotten. It never falls, also when the clock does.
    first_bucket: u64,
}

#[derive(Debug, Default)]
struct Bucket {
    seen: HashSet<(KeyId, NonceHash)>,
    counts: HashMap<KeyId, usize>,
}

/// Of a fixed size, however long the nonce. 128 bits: a client that finds two with one hash has its own request refused.
type NonceHash = [u8; 16];

impl Nonces {
    /// An empty memory of a process that started at `started_unix_s` (seconds since 1970, no earlier than any time that the process
    /// before it may have used).
    pub fn new(started_unix_s: u64, limits: Limits, budget: NonceBudget) -> Self {
        let refused_until_unix_s = started_unix_s.saturating_add(limits.ahead_s_max());
        Self { limits, budget, refused_until_unix_s, memory: Mutex::default() }
    }

    /// Takes the nonce of a signature that verified, body included, with the same [`Limits`]. Only then: nobody fills the memory of a
    /// key without having it.
    ///
    /// # Errors
    /// [`NonceRefusal`]; then nothing was remembered.
    pub fn take(&self, verified: &Verified, now_unix_s: u64) -> Result<(), NonceRefusal> {
        if verified.created_unix_s <= self.refused_until_unix_s {
            return Err(NonceRefusal::SignAgain);
        }
        let entry = (verified.key_id, hash(&verified.nonce));
        let number = verified.created_unix_s / BUCKET_S;
        let mut memory = self.memory.lock();
        memory.forget_before(now_unix_s.saturating_sub(self.limits.age_s_max()) / BUCKET_S);
        if number < memory.first_bucket {
            return Err(NonceRefusal::TooOld);
        }
        // In every bucket: a nonce is used once, also under another time.
        if memory.buckets.values().any(|bucket| bucket.seen.contains(&entry)) {
            return Err(NonceRefusal::Replayed);
        }
        let of_key = memory.counts.get(&verified.key_id).copied().unwrap_or(0);
        if of_key >= self.budget.per_key || memory.total >= self.budget.total {
            return Err(NonceRefusal::TooMany);
        }
        memory.remember(number, entry);
        Ok(())
    }

    /// How many are remembered now: a gauge.
    pub fn remembered(&self) -> usize {
        self.memory.lock().total
    }
}

impl Memory {
    fn remember(&mut self, number: u64, entry: (KeyId, NonceHash)) {
        let bucket = self.buckets.entry(number).or_default();
        bucket.seen.insert(entry);
        *bucket.counts.entry(entry.0).or_default() += 1;
        *self.counts.entry(entry.0).or_default() += 1;
        self.total += 1;
    }

    /// Drops whole buckets, counting by key and not by nonce: the lock is held for as long as there are keys, not nonces.
    fn forget_before(&mut self, number: u64) {
        self.first_bucket = self.first_bucket.max(number);
        while let Some(oldest) = self.buckets.first_entry() {
            if *oldest.key() >= self.first_bucket {
                return;
            }
            let bucket = oldest.remove();
            self.total -= bucket.seen.len();
            for (key, count) in bucket.counts {
                let left = self.counts.get(&key).map_or(0, |all| all - count);
                if left == 0 {
                    self.counts.remove(&key);
                } else {
                    self.counts.insert(key, left);
                }
            }
        }
    }
}

fn hash(nonce: &str) -> NonceHash {
    let mut short = [0; 16];
    short.copy_from_slice(&digest::digest(&SHA256, nonce.as_bytes()).as_ref()[..16]);
    short
}

#[cfg(test)]
mod tests {
    use super::*;

    const START: u64 = 1_000_000;
    /// Long after the start.
    const NOW: u64 = START + 10_000;
    const ONE: KeyId = KeyId::from_bytes([1; 8]);
    const OTHER: KeyId = KeyId::from_bytes([2; 8]);

    fn nonces(per_key: usize, total: usize) -> Nonces {
        Nonces::new(START, Limits::default(), NonceBudget { per_key, total })
    }

    fn used(key_id: KeyId, nonce: &str, created_unix_s: u64) -> Verified {
        Verified { key_id, nonce: nonce.to_owned(), created_unix_s }
    }

    #[test]
    fn a_nonce_is_taken_once_by_each_key() {
        let nonces = nonces(10, 10);
        assert_eq!(nonces.take(&used(ONE, "n", NOW), NOW), Ok(()));
        assert_eq!(nonces.take(&used(ONE, "n", NOW), NOW), Err(NonceRefusal::Replayed));
        assert_eq!(nonces.take(&used(ONE, "n", NOW - 200), NOW), Err(NonceRefusal::Replayed));
        assert_eq!(nonces.take(&used(OTHER, "n", NOW), NOW), Ok(()));
        assert_eq!(nonces.remembered(), 2);
    }

    #[test]
    fn a_signature_is_taken_once_at_whatever_time_it_comes_again() {
        // Every second of its life, and long after: it is refused as replayed or by its time. The window alone would let it pass
        // until `created + 300`.
        for created in NOW..NOW + BUCKET_S {
            for ahead in [0, 5] {
                let nonces = nonces(10, 10);
                assert_eq!(nonces.take(&used(ONE, "n", created), created - ahead), Ok(()));
                for later in created - ahead..created + 400 {
                    let again = nonces.take(&used(ONE, "n", created), later);
                    assert!(matches!(again, Err(NonceRefusal::Replayed | NonceRefusal::TooOld)), "{later}: {again:?}");
                    let in_window = later <= created + 300;
                    assert!(!in_window || again == Err(NonceRefusal::Replayed), "{later}: forgotten within the window");
                }
            }
        }
    }

    #[test]
    fn a_clock_that_falls_back_brings_nothing_back() {
        let nonces = nonces(10, 10);
        assert_eq!(nonces.take(&used(ONE, "n", NOW), NOW), Ok(()));
        assert_eq!(nonces.take(&used(ONE, "later", NOW + 1_000), NOW + 1_000), Ok(()));
        assert_eq!(nonces.remembered(), 1);
        assert_eq!(nonces.take(&used(ONE, "n", NOW), NOW), Err(NonceRefusal::TooOld));
    }

    #[test]
    fn after_a_start_what_an_earlier_process_may_have_taken_is_signed_again() {
        let nonces = nonces(10, 10);
        for created in [0, START - 300, START, START + 5] {
            assert_eq!(nonces.take(&used(ONE, "n", created), START + 6), Err(NonceRefusal::SignAgain));
        }
        assert_eq!(nonces.take(&used(ONE, "n", START + 6), START + 6), Ok(()));
    }

    #[test]
    fn a_full_share_refuses_and_forgets_nothing() {
        let nonces = nonces(2, 3);
        assert_eq!(nonces.take(&used(ONE, "a", NOW), NOW), Ok(()));
        assert_eq!(nonces.take(&used(ONE, "b", NOW), NOW), Ok(()));
        assert_eq!(nonces.take(&used(ONE, "c", NOW), NOW), Err(NonceRefusal::TooMany));
        assert_eq!(nonces.take(&used(OTHER, "a", NOW), NOW), Ok(()));
        assert_eq!(nonces.take(&used(OTHER, "b", NOW), NOW), Err(NonceRefusal::TooMany));
        assert_eq!(nonces.take(&used(ONE, "a", NOW), NOW), Err(NonceRefusal::Replayed));
        assert_eq!(nonces.remembered(), 3);
    }

    #[test]
    fn what_is_out_of_the_window_makes_room() {
        let nonces = nonces(2, 2);
        for round in 0..50 {
            let now = NOW + round * 400;
            for nonce in ["a", "b"] {
                assert_eq!(nonces.take(&used(ONE, nonce, now), now), Ok(()), "round {round}");
            }
        }
        let memory = nonces.memory.lock();
        assert_eq!((memory.total, memory.buckets.len(), memory.counts.len()), (2, 1, 1));
    }

    #[test]
    fn extreme_times_do_no_harm() {
        let nonces = nonces(2, 2);
        assert_eq!(nonces.take(&used(ONE, "a", u64::MAX), u64::MAX), Ok(()));
        assert_eq!(nonces.take(&used(ONE, "a", u64::MAX), u64::MAX), Err(NonceRefusal::Replayed));
        assert_eq!(
            Nonces::new(u64::MAX, Limits::default(), NonceBudget::default()).take(&used(ONE, "a", 5), 0),
            Err(NonceRefusal::SignAgain)
        );
    }
}
