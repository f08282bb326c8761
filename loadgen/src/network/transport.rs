//! What became of connections, counted, and the fault that ended them all.
//!
//! Owns the counters that sessions add to; refuses to decide anything.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

/// Before a connection is tried again after its second failure in a row; doubled each time.
const AGAIN: Duration = Duration::from_millis(10);
/// At most.
const AGAIN_DOUBLINGS: u32 = 7;

/// How long it is waited before a connection is made again that ended after so many failures in a row before.
pub(super) fn again_after(was_up: bool, failures: u32) -> Duration {
    match failures {
        0 if was_up => Duration::ZERO,
        failures => AGAIN * (1 << failures.saturating_sub(1).min(AGAIN_DOUBLINGS)),
    }
}

/// Counters of all sessions of a target.
#[derive(Debug, Default)]
pub(crate) struct Transport {
    broken: AtomicU64,
    unreachable: AtomicU64,
    in_doubt: AtomicU64,
    turned_away: AtomicU64,
    fault: Mutex<Option<String>>,
}

impl Transport {
    /// A connection ended, with so many commands in flight; or it never stood.
    pub(crate) fn broke(&self, was_up: bool, in_doubt: usize) {
        if was_up { &self.broken } else { &self.unreachable }.fetch_add(1, Ordering::Relaxed);
        self.in_doubt.fetch_add(in_doubt as u64, Ordering::Relaxed);
    }

    /// The server's front turned a command away.
    pub(crate) fn turned_away(&self) {
        self.turned_away.fetch_add(1, Ordering::Relaxed);
    }

    /// Nothing more can be learned from the server; the first reason counts.
    pub(crate) fn fail(&self, what: &str) {
        let mut fault = self.fault.lock().unwrap_or_else(PoisonError::into_inner);
        fault.get_or_insert_with(|| what.to_owned());
    }

    /// Why nothing more can be learned, if so.
    pub(crate) fn fault(&self) -> Option<String> {
        self.fault.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// By name, for the report.
    pub(crate) fn counts(&self) -> BTreeMap<String, u64> {
        let counts = [
            ("connections ended by the server", &self.broken),
            ("connections not made", &self.unreachable),
            ("commands in doubt, repeated", &self.in_doubt),
            ("turned away (429, recovering)", &self.turned_away),
        ];
        counts.into_iter().map(|(name, count)| (name.to_owned(), count.load(Ordering::Relaxed))).collect()
    }
}
