//! `tp-storage`: durable bytes for tpcore.
//!
//! Owns the data directory: identity and lock, journal segments and frames, the witness, checkpoint files, the
//! catalogue in the embedded store, the recovery scan, and `verify`. Refuses to know what the bytes mean: payloads and
//! checkpoint pages are opaque, sequence numbers are bare `u64` (the first event is 1, 0 means "none"), times are Unix
//! milliseconds handed in by the caller (no clock is read here).
//!
//! ```text
//!            append / seal / witness                 read_from / frame_at
//!  writer ───────────► Journal ◄──── source() ──────────── FrameSource ───► other threads
//!                        │  segment | sled | memory
//!                        ▼
//!                  Device (disk | memory with faults)        catalogue (sled | memory): rebuildable, never the only copy
//! ```
//!
//! Invariants, by name:
//!
//! - **DUR-1** `append` returns a sequence number only after the sync of its frame returned.
//! - **SEQ-1** frames follow each other without gap: `first_seq` is the last sequence number plus one.
//! - **CHN-1** each frame carries the checksum of the frame before it, across segments and boots.
//! - **SEG-1** no sector with data is written twice; a segment is never written by a later epoch, and never recycled.
//! - **POI-1** after a failed write or sync nothing is ever acknowledged again by that journal.
//! - **CUT-1** only a tail frame whose bad blocks were never written is cut, and every cut is reported.
#![forbid(unsafe_code)]

mod block;
mod catalogue;
mod catalogue_sled;
mod checkpoint;
mod checkpoint_format;
mod checkpoint_load;
mod copies;
mod device;
mod device_disk;
mod device_folder;
mod device_memory;
mod device_memory_state;
mod device_paced;
mod directory;
mod frame;
#[cfg(test)]
mod fuzz;
mod journal;
mod journal_memory;
mod journal_segment;
mod journal_sled;
mod mirror;
mod problem;
mod reader;
mod rebuild;
mod recover;
mod scan;
mod scan_judge;
mod scan_walk;
mod scrub;
mod segment;
mod sled_store;
mod store_marker;
mod syncs;
mod verify;
mod witness;

pub use block::{AlignedBytes, BLOCK_BYTES};
pub use catalogue::{Catalogue, CatalogueError, CatalogueTrouble, FrameEntry, MemoryCatalogue};
pub use catalogue_sled::SledCatalogue;
pub use checkpoint::{
    Checkpoint, CheckpointError, CheckpointStore, CheckpointSummary, CheckpointWriter, EXTRA_BYTES_MAX,
    FinishedCheckpoint, Page,
};
pub use device::{Device, DeviceFile, OpenMode};
pub use device_disk::DiskDevice;
pub use device_folder::FolderDevice;
pub use device_memory::MemoryDevice;
pub use device_memory_state::{AfterSyncFailure, CrashMode, Fault};
pub use device_paced::{Pace, PacedDevice, Throttle};
pub use directory::{DataDirectory, DirectoryError, Identity, PARAMETERS_BYTES_MAX};
pub use frame::{FORMAT, PAYLOAD_BYTES_MAX};
pub use journal::{
    Frame, FrameInput, FrameLocation, FrameReader, FrameSource, Journal, JournalError, ReadError, RoomDone, RoomError,
    RoomTask,
};
pub use journal_memory::MemoryJournal;
pub use journal_segment::SegmentJournal;
pub use journal_sled::{SledJournal, SledJournalError};
pub use mirror::EmptyDirectory;
pub use problem::Problem;
pub use rebuild::RebuildError;
pub use recover::{
    EachFrame, Floor, JournalOptions, ReadOnlyJournal, RecoverError, Recovered, scan_read_only, scan_read_only_with,
};
pub use scan::{Cut, TailReport};
pub use scrub::{Scrubbed, Scrubber};
pub use syncs::MirrorSync;
pub use verify::{Mending, VerifyError, VerifyReport, VerifyStatus, verify};
