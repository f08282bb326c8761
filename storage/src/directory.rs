//! The data directory: its identity and its lock.
//!
//! Owns the files `LOCK` and `identity` and the creation of everything else that must exist from the start (`journal/`,
//! `checkpoints/`, `witness`). Refuses to know frames and pages. `identity` gets its name last, so a directory with an
//! identity is complete, and one without was never used: a half-made directory is simply made again.
//!
//! ```text
//!  LOCK   identity   witness   journal/000000000001.segment ..   checkpoints/00000000000000000001.checkpoint ..
//! ```

use std::io;
use std::sync::Arc;
use std::time::Duration;

use zerocopy::little_endian::{U16, U32, U128};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

use crate::block::{BLOCK_BYTES, Block, is_zero};
use crate::device::{Device, OpenMode};
use crate::frame::FORMAT;
use crate::problem::{Problem, is_disk_full};
use crate::witness::Witness;
use crate::{checkpoint, segment, witness};

pub(crate) const IDENTITY_PATH: &str = "identity";
const IDENTITY_TEMPORARY: &str = "identity.new";
const LOCK_PATH: &str = "LOCK";
const MAGIC: [u8; 8] = *b"TPCIDENT";

/// Largest `parameters` of an [`Identity`], in bytes.
pub const PARAMETERS_BYTES_MAX: usize = 3000;

/// How often, and how long apart, a held lock is tried again: a read-only command that asks whether a writer runs
/// holds it for an instant.
const LOCK_TRIES: u32 = 5;
const LOCK_PAUSE: Duration = Duration::from_millis(20);

#[derive(Clone, Copy, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
struct RawIdentity {
    magic: [u8; 8],
    format: U16,
    parameters_bytes: U16,
    checksum: U32,
    engine_id: U128,
}

const RAW_BYTES: usize = size_of::<RawIdentity>();
const _: () = assert!(RAW_BYTES == 32);

/// Who a data directory belongs to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identity {
    /// Repeated in every file of the directory, so that files of two engines are never mixed.
    pub engine_id: u128,
    /// Fixed at creation, opaque, at most [`PARAMETERS_BYTES_MAX`] bytes.
    pub parameters: Vec<u8>,
}

/// Why a data directory could not be opened.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DirectoryError {
    /// Another process (or another engine of this one) writes here.
    #[error("{directory} is in use by another writer: stop it first, or choose another directory")]
    InUse {
        /// The data directory.
        directory: String,
    },
    /// The directory holds files but no identity of ours. Nothing was changed.
    #[error("{directory} is not a data directory of tpcore (it holds {found}): choose an empty or a new one")]
    NotOurs {
        /// The data directory.
        directory: String,
        /// One of the files found.
        found: String,
    },
    /// There is no data directory here.
    #[error("{directory} holds no data: nothing was ever written here, or the path is wrong")]
    Missing {
        /// The data directory.
        directory: String,
    },
    /// Written by a later version of this software. Nothing was changed.
    #[error("{file} has format version {format}, this software knows up to {known}: use the newer software")]
    NewerFormat {
        /// The file.
        file: String,
        /// Its format version.
        format: u16,
        /// The highest version known here.
        known: u16,
    },
    /// The identity is damaged.
    #[error("{file} is damaged ({what}): restore it from a backup; nothing was changed")]
    Corrupt {
        /// The file.
        file: String,
        /// What is wrong with it.
        what: String,
    },
    /// `parameters` is too large.
    #[error("the directory's parameters take {bytes} bytes, {PARAMETERS_BYTES_MAX} are allowed")]
    ParametersTooLarge {
        /// Their size.
        bytes: usize,
    },
    /// The data directory is empty and its mirror is not. Nothing was changed.
    #[error(
        "{directory} is empty, and its mirror {mirror} holds a journal (durable up to sequence number {seq} at {time} ms since 1970): if a \
         disk is not mounted, mount it; if it was replaced, continue with --from-mirror, which makes the directory from the mirror"
    )]
    OnlyMirror {
        /// The data directory.
        directory: String,
        /// The mirror.
        mirror: String,
        /// What the mirror's witness shows to be durable; 0: nothing, or it cannot be read.
        seq: u64,
        /// When, Unix milliseconds.
        time: u64,
    },
    /// The mirror belongs to another engine. Nothing was changed.
    #[error("{mirror} is the mirror of another data directory than {directory}: name its own, or an empty folder")]
    OtherMirror {
        /// The data directory.
        directory: String,
        /// The mirror.
        mirror: String,
    },
    /// Space ran out.
    #[error("no space left while creating {path}")]
    DiskFull {
        /// What was being created.
        path: String,
    },
    /// The system reported something else.
    #[error("{path}: {source}")]
    Io {
        /// What was being used.
        path: String,
        /// The system's report.
        source: io::Error,
    },
}

impl DirectoryError {
    fn io(device: &dyn Device, path: &str) -> impl FnOnce(io::Error) -> Self {
        let path = device.display(path);
        move |source| if is_disk_full(&source) { Self::DiskFull { path } } else { Self::Io { path, source } }
    }
}

/// An open data directory. Clones share the lock, which is released when the last one is dropped.
#[derive(Clone)]
pub struct DataDirectory {
    inner: Arc<Inner>,
}

struct Inner {
    /// The directory's own, then its mirror's.
    devices: Vec<Arc<dyn Device>>,
    identity: Identity,
    /// One a device; none: opened for reading only.
    locks: Vec<Box<dyn Send + Sync>>,
    /// What was found at the opening and was no reason to refuse.
    notes: Vec<Problem>,
}

impl std::fmt::Debug for DataDirectory {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let shown = self.device().display("");
        f.debug_struct("DataDirectory").field("path", &shown).field("writable", &self.is_writable()).finish()
    }
}

impl DataDirectory {
    /// Takes the lock; creates the directory when it is new (`make` is then asked who it belongs to), durably.
    ///
    /// # Errors
    /// [`DirectoryError`]; on `InUse`, `NotOurs`, `NewerFormat` and `Corrupt` nothing was changed.
    pub fn create_or_open(device: Arc<dyn Device>, make: impl FnOnce() -> Identity) -> Result<Self, DirectoryError> {
        prepare(&*device)?;
        let lock = take_lock(&*device)?;
        let identity = match read_identity(&*device)? {
            Some(identity) => identity,
            None => create(&*device, make(), None)?,
        };
        Ok(Self { inner: Arc::new(Inner { devices: vec![device], identity, locks: vec![lock], notes: Vec::new() }) })
    }

    /// Opens without the lock and without writing anything: works beside a running writer.
    ///
    /// # Errors
    /// [`DirectoryError`]; `Missing` when there is nothing here.
    pub fn open_read_only(device: Arc<dyn Device>) -> Result<Self, DirectoryError> {
        let missing = || DirectoryError::Missing { directory: device.display("") };
        let identity = look(&*device)?.ok_or_else(missing)?;
        Ok(Self { inner: Arc::new(Inner { devices: vec![device], identity, locks: Vec::new(), notes: Vec::new() }) })
    }

    /// From parts that were opened together; see `mirror.rs`.
    pub(crate) fn of_parts(
        devices: Vec<Arc<dyn Device>>,
        identity: Identity,
        locks: Vec<Box<dyn Send + Sync>>,
        notes: Vec<Problem>,
    ) -> Self {
        Self { inner: Arc::new(Inner { devices, identity, locks, notes }) }
    }

    /// What was found at the opening and was no reason to refuse.
    pub(crate) fn notes(&self) -> &[Problem] {
        &self.inner.notes
    }

    /// The engine's id, as in every file.
    pub fn engine_id(&self) -> u128 {
        self.inner.identity.engine_id
    }

    /// What was fixed at creation.
    pub fn parameters(&self) -> &[u8] {
        &self.inner.identity.parameters
    }

    /// The device below: of everything but the mirror.
    pub fn device(&self) -> &Arc<dyn Device> {
        &self.inner.devices[0]
    }

    /// The devices of all copies of the journal: the directory's own first.
    pub(crate) fn devices(&self) -> &[Arc<dyn Device>] {
        &self.inner.devices
    }

    /// Whether there is a second copy of the journal.
    pub fn is_mirrored(&self) -> bool {
        self.inner.devices.len() > 1
    }

    /// Whether this handle holds the lock.
    pub fn is_writable(&self) -> bool {
        !self.inner.locks.is_empty()
    }

    /// Whether somebody writes here now (this handle included). An unreadable lock counts as "yes": the cautious
    /// answer, since it bounds what is read to what is known to be durable.
    pub fn writer_is_running(&self) -> bool {
        self.is_writable() || self.devices().iter().any(|device| device.lock_is_held(LOCK_PATH).unwrap_or(true))
    }
}

/// Refuses what is not ours; makes the folder when there is none.
pub(crate) fn prepare(device: &dyn Device) -> Result<(), DirectoryError> {
    let started = match device.list("") {
        Ok(names) => !names.is_empty(),
        Err(error) if error.kind() == io::ErrorKind::NotFound => false,
        Err(error) => return Err(DirectoryError::io(device, "")(error)),
    };
    if started { refuse_foreign(device) } else { device.create_dir("").map_err(DirectoryError::io(device, "")) }
}

/// Who it belongs to, without touching anything; `None`: there is nothing, or what a cut-off creation leaves.
pub(crate) fn look(device: &dyn Device) -> Result<Option<Identity>, DirectoryError> {
    match device.list("") {
        Ok(names) if names.is_empty() => return Ok(None),
        Ok(_) => refuse_foreign(device)?,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(DirectoryError::io(device, "")(error)),
    }
    read_identity(device)
}

pub(crate) fn take_lock(device: &dyn Device) -> Result<Box<dyn Send + Sync>, DirectoryError> {
    for attempt in 0..LOCK_TRIES {
        if attempt > 0 {
            std::thread::sleep(LOCK_PAUSE);
        }
        if let Some(lock) = device.lock_exclusive(LOCK_PATH).map_err(DirectoryError::io(device, LOCK_PATH))? {
            return Ok(lock);
        }
    }
    Err(DirectoryError::InUse { directory: device.display("") })
}

/// Refuses a directory that has files but no identity, unless all of it is what a cut-off creation leaves.
fn refuse_foreign(device: &dyn Device) -> Result<(), DirectoryError> {
    let names = device.list("").map_err(DirectoryError::io(device, ""))?;
    if names.iter().any(|name| name == IDENTITY_PATH) {
        return Ok(());
    }
    let not_ours = |found: &str| DirectoryError::NotOurs { directory: device.display(""), found: found.to_owned() };
    for name in &names {
        match name.as_str() {
            LOCK_PATH | IDENTITY_TEMPORARY | witness::WITNESS_PATH => {}
            segment::JOURNAL_DIR | checkpoint::CHECKPOINTS_DIR => {
                let inside = device.list(name).map_err(DirectoryError::io(device, name))?;
                if !inside.is_empty() {
                    return Err(not_ours(&format!("`{name}` with files, but no `{IDENTITY_PATH}`")));
                }
            }
            other => return Err(not_ours(&format!("`{other}`"))),
        }
    }
    Ok(())
}

pub(crate) fn read_identity(device: &dyn Device) -> Result<Option<Identity>, DirectoryError> {
    let file = match device.open(IDENTITY_PATH, OpenMode::Read) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(DirectoryError::io(device, IDENTITY_PATH)(error)),
    };
    let mut block = Block::ZERO;
    let io = |error| DirectoryError::io(device, IDENTITY_PATH)(error);
    let read = file.read_at(&mut block.0, 0).map_err(io)?;
    let size = file.size().map_err(io)?;
    decode(device, &block, read == BLOCK_BYTES && size == BLOCK_BYTES as u64).map(Some)
}

fn decode(device: &dyn Device, block: &Block, whole: bool) -> Result<Identity, DirectoryError> {
    let file = device.display(IDENTITY_PATH);
    let corrupt = |what: &str| DirectoryError::Corrupt { file: file.clone(), what: what.to_owned() };
    let Ok((raw, rest)) = RawIdentity::read_from_prefix(&block.0) else { return Err(corrupt("too short")) };
    if raw.magic != MAGIC {
        return Err(corrupt("it does not start as an identity does"));
    }
    if identity_checksum(block) != raw.checksum.get() {
        return Err(corrupt("its checksum does not hold"));
    }
    if raw.format.get() > FORMAT {
        return Err(DirectoryError::NewerFormat { file, format: raw.format.get(), known: FORMAT });
    }
    let length = usize::from(raw.parameters_bytes.get());
    if !whole || length > PARAMETERS_BYTES_MAX || !is_zero(&rest[length..]) {
        return Err(corrupt("its length is wrong"));
    }
    if raw.format.get() != FORMAT {
        return Err(corrupt("its format was never written"));
    }
    Ok(Identity { engine_id: raw.engine_id.get(), parameters: rest[..length].to_vec() })
}

/// Of the whole block, without the checksum itself.
fn identity_checksum(block: &Block) -> u32 {
    crc32c::crc32c_append(crc32c::crc32c(&block.0[..12]), &block.0[16..])
}

fn encode(identity: &Identity) -> Result<Block, DirectoryError> {
    let bytes = identity.parameters.len();
    let too_large = DirectoryError::ParametersTooLarge { bytes };
    let (Ok(length), true) = (u16::try_from(bytes), bytes <= PARAMETERS_BYTES_MAX) else { return Err(too_large) };
    let mut raw = RawIdentity {
        magic: MAGIC,
        format: U16::new(FORMAT),
        parameters_bytes: U16::new(length),
        checksum: U32::new(0),
        engine_id: U128::new(identity.engine_id),
    };
    let mut block = Block::ZERO;
    block.0[..RAW_BYTES].copy_from_slice(raw.as_bytes());
    block.0[RAW_BYTES..RAW_BYTES + bytes].copy_from_slice(&identity.parameters);
    raw.checksum = U32::new(identity_checksum(&block));
    block.0[..RAW_BYTES].copy_from_slice(raw.as_bytes());
    Ok(block)
}

/// Makes everything, `identity` last. Whatever a cut-off creation left is made again.
///
/// `other`: the copy that this one is made beside. Its witness is taken over before the identity gets its name, so that a copy that is
/// not yet filled is not taken for an empty journal.
pub(crate) fn create(
    device: &dyn Device,
    identity: Identity,
    other: Option<&dyn Device>,
) -> Result<Identity, DirectoryError> {
    let block = encode(&identity)?;
    make_folders(device)?;
    for left in [witness::WITNESS_PATH, IDENTITY_TEMPORARY] {
        remove_if_there(device, left).map_err(DirectoryError::io(device, left))?;
    }
    let like = other.and_then(|other| witness::read(other, identity.engine_id, false).ok()).map(|read| read.witness);
    let first = like.unwrap_or(Witness { engine_id: identity.engine_id, ..Witness::default() });
    witness::create(device, &first).map_err(DirectoryError::io(device, witness::WITNESS_PATH))?;
    put_identity(device, &block).map_err(DirectoryError::io(device, IDENTITY_PATH))?;
    Ok(identity)
}

/// Makes the folders inside; no error when they are there.
pub(crate) fn make_folders(device: &dyn Device) -> Result<(), DirectoryError> {
    for dir in [segment::JOURNAL_DIR, checkpoint::CHECKPOINTS_DIR] {
        device.create_dir(dir).map_err(DirectoryError::io(device, dir))?;
    }
    Ok(())
}

/// Writes the identity of a folder that lost it.
pub(crate) fn write_identity(device: &dyn Device, identity: &Identity) -> Result<(), DirectoryError> {
    let block = encode(identity)?;
    let written = remove_if_there(device, IDENTITY_TEMPORARY).and_then(|()| put_identity(device, &block));
    written.map_err(DirectoryError::io(device, IDENTITY_PATH))
}

fn put_identity(device: &dyn Device, block: &Block) -> io::Result<()> {
    let file = device.open(IDENTITY_TEMPORARY, OpenMode::CreateNew)?;
    file.write_all_at(&block.0, 0)?;
    file.sync_all()?;
    device.sync_dir("")?; // the witness and the directories are durable before the identity can be
    device.rename(IDENTITY_TEMPORARY, IDENTITY_PATH)?;
    device.sync_dir("")
}

pub(crate) fn remove_if_there(device: &dyn Device, path: &str) -> io::Result<()> {
    match device.remove(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        other => other,
    }
}
