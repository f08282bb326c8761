//! `tp-actors`: who runs, in what order, who waits for whom. The [`Engine`] of tpcore.
//!
//! Owns the partitions' threads, the journal writer, the release of replies, timers, checkpoints, recovery,
//! back-pressure and engine time. Refuses to know protocols and file layouts. Everything that decides is a step function
//! with time, room and I/O passed in; actix and threads only turn the crank.
//!
//! ```text
//!  Client / call                                      one actix actor on its own arbiter each
//!   submit --> inbox (bounded) ----------------------> partition: turn --+--> ring --> journal writer --> disk
//!                     peers <-- one queue per pair <-------------------- | (after the ring)      |
//!   poll <-- completion ring <-- held replies, in order <---------------- +     durable seq  <---+
//!                                                                               |       |      |
//!                                                                             feeds  catalogue  checkpointer
//! ```
//!
//! Invariants: J1 (whatever depends on an event has a higher number: ring before messages), J2/DUR-1 (no reply before
//! what it reveals is durable), CLK-1 (time never falls), BND-1 (every queue is bounded by admission; nobody waits for a
//! peer), POI-1 (a failed write or sync is final).
#![forbid(unsafe_code)]

mod actor;
mod ask;
mod call;
mod catalogue;
mod catalogue_place;
mod catalogue_rebuild;
mod checkpointer;
mod checkpointer_thread;
mod client;
mod clock;
mod close;
mod config;
mod crank;
mod engine;
mod error;
mod feed;
mod fold;
#[cfg(test)]
mod fuzz;
pub mod history;
mod in_flight;
mod inbound;
mod lane;
mod manual;
#[cfg(all(test, tp_loom))]
mod models;
mod open;
mod parameters;
mod placement;
mod recovery;
mod release;
mod replay;
mod scrubber_thread;
mod shared;
mod shed;
mod status;
mod step;
mod sync;
mod verify;
mod view;
mod wake;
mod writer;
mod writer_thread;

pub use tp_core;
/// The seam to the operating system, for [`Config::device`]: slower disks, faults, simulation.
pub mod device {
    pub use tp_storage::{Device, DeviceFile, DiskDevice, OpenMode, Pace, PacedDevice, Throttle};
}

pub use call::{CallOptions, Pending};
pub use catalogue_rebuild::{CatalogueRebuilt, RebuildError, rebuild_catalogue};
pub use checkpointer::CheckpointDone;
pub use client::Client;
pub use clock::{Clock, GivenClock, MachineClocks};
pub use close::Closed;
pub use config::{BadConfig, CheckpointPolicy, Config, JournalKind, PARTITIONS_MAX, ScrubPolicy};
pub use engine::Engine;
pub use error::{
    Busy, CheckpointFailed, CloseError, CursorError, ErrorClass, FeedError, NotAnswered, OpenError, PoisonCause,
    ReplayError,
};
pub use feed::EventFeed;
pub use manual::{ManualEngine, ManualWriter, Work};
pub use placement::Placement;
pub use recovery::RecoveryReport;
pub use status::{
    CatalogueStatus, CheckpointStatus, ClockStatus, EngineStatus, LedgerTotals, PartitionStatus, ScrubStatus,
    WriterStatus,
};
pub use tp_core::digest::StateDigest;
pub use tp_storage::{Cut, EmptyDirectory, Problem, Scrubbed, TailReport, VerifyStatus};
pub use verify::{VerifyFailed, VerifyReport, scrub, scrub_on, verify, verify_mirrored, verify_mirrored_on, verify_on};
pub use view::{UpTo, View, ViewError, ViewOptions};
