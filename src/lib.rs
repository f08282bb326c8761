//! tpcore: a transaction-processing core for payments, embedded.
//!
//! It decides authorizations and moves money between accounts, in memory, and loses nothing: no reply leaves before what it
//! reveals is durable. Open an [`Engine`], hand it commands ([`Engine::call`], [`Engine::call_blocking`], or a [`Client`] for
//! hot loops), read [`Reply`]s, follow durable events ([`Engine::events`]), close it.
//!
//! This crate is the front door: it re-exports what an embedder needs and owns nothing. `examples/embed.rs` is a whole program.
//!
//! ```
//! use tpcore::{AccountId, Amount, Config, CreditLimit, Engine, Key, Ledger, Note, OpenAccount, Outcome, Settings, Transfer};
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let engine = Engine::open(Config::in_memory())?;
//! let ledger: Ledger = "EUR/2".parse()?;
//! let open = |id: u128, limit| OpenAccount {
//!     key: Key::opaque(id),
//!     account: AccountId(id),
//!     settings: Settings { credit_limit: limit, ..Settings::new(ledger) },
//!     note: Note::default(),
//! };
//! engine.call_blocking(open(1, CreditLimit::Unlimited));
//! engine.call_blocking(open(2, CreditLimit::default()));
//! let reply = engine.call_blocking(Transfer {
//!     key: Key::opaque(3),
//!     account: AccountId(1),
//!     payee: AccountId(2),
//!     ledger,
//!     amount: Amount::from(12_50),
//!     note: Note::default(),
//! });
//! assert_eq!(reply.outcome, Outcome::Approved);
//! engine.close_blocking()?;
//! # Ok(())
//! # }
//! ```
//!
//! Features: `cli` (default) builds the `tpcore` command; an embedder turns it off with `default-features = false`.
#![forbid(unsafe_code)]

// The engine: opening, commands in, replies out, reading, checking.
pub use tp_actors::device;
/// Statements, accounts as they stood, and histories of authorizations; on an [`Engine`] and for folds over a journal.
pub use tp_actors::history;
pub use tp_actors::{
    BadConfig, Busy, CallOptions, CatalogueRebuilt, CatalogueStatus, CheckpointDone, CheckpointFailed,
    CheckpointPolicy, CheckpointStatus, Client, Clock, ClockStatus, CloseError, Closed, Config, CursorError, Cut,
    EmptyDirectory, Engine, EngineStatus, ErrorClass, EventFeed, FeedError, GivenClock, JournalKind, LedgerTotals,
    NotAnswered, OpenError, PARTITIONS_MAX, PartitionStatus, Pending, Placement, PoisonCause, Problem, RebuildError,
    RecoveryReport, ReplayError, ScrubPolicy, ScrubStatus, StateDigest, TailReport, UpTo, VerifyFailed, VerifyReport,
    VerifyStatus, View, ViewError, ViewOptions, WriterStatus, rebuild_catalogue, scrub, verify, verify_mirrored,
};
// The words of commands and replies.
pub use tp_actors::tp_core::amount::{Amount, Balances, CreditLimit, Ledger, NotALedger};
pub use tp_actors::tp_core::command::{
    Advice, Advise, Authorize, Capture, CloseAccount, Command, Increment, Limits, Lookup, Note, OpenAccount,
    PeriodLimit, Read, ReadTarget, Record, Refund, RefundTarget, Reverse, Settings, Status, Transfer, UpdateAccount,
    Verb, Void,
};
/// The recorded facts, as feeds and views give them.
pub use tp_actors::tp_core::event;
pub use tp_actors::tp_core::ids::{AccountId, AuthorizationId, NotAnId, Seq, SlotIndex, TransferId, Version};
pub use tp_actors::tp_core::key::{Fingerprint, Key, KeyKind};
pub use tp_actors::tp_core::metadata::{METADATA_BYTES_MAX, Metadata, MetadataError};
pub use tp_actors::tp_core::outcome::Outcome;
pub use tp_actors::tp_core::reply::{
    AccountView, AuthorizationState, AuthorizationView, CaptureView, Detail, Flags, Reply,
};
pub use tp_actors::tp_core::rules::{Budgets, LedgerPolicy, Windows};
pub use tp_actors::tp_core::scope::{AccountRange, Scope};
pub use tp_actors::tp_core::time::{Bucket, DAY_MS, Date, NotADate, Time};
