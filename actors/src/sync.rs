//! The synchronisation that the cross-thread protocols stand on, from one place.
//!
//! Owns the choice between the real types and those of a model checker, and refuses to add anything to them: a normal build
//! has the types of `std`, `crossbeam`, `parking_lot` and `tokio` and nothing else. In a test build with `--cfg tp_loom` they
//! are `loom`'s, or stand-ins made of them (`models/stand_in.rs`, `models/queues.rs`), and the models in `models/` run this
//! crate's own code on them (docs/src/models.md).
//!
//! What carries no protocol (counters, clocks, the pool of buffers, questions) takes its types from where they are: each
//! operation that the checker sees multiplies what it has to try.

#[cfg(not(all(test, tp_loom)))]
pub(crate) use {
    crossbeam::{
        queue::ArrayQueue,
        sync::{Parker, Unparker},
    },
    parking_lot::{Condvar, Mutex},
    std::sync::OnceLock,
    std::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, fence},
    tokio::sync::{Notify, futures::OwnedNotified},
};

#[cfg(all(test, tp_loom))]
pub(crate) use {
    crate::models::queues::ArrayQueue,
    crate::models::stand_in::{
        AtomicBool, AtomicU8, AtomicU64, Condvar, Mutex, Notify, OnceLock, OwnedNotified, Parker, Unparker,
    },
    loom::sync::atomic::fence,
};
