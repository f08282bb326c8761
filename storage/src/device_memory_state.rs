//! What is behind [`crate::MemoryDevice`]: names, files, faults, and what a power cut leaves of them.
//!
//! Owns the model; refuses to know formats and the device's interface.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::sync::Arc;

/// Bytes that a device writes as a whole or not at all.
const SECTOR_BYTES: usize = 512;

/// A planned misbehaviour.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// From this call on, whatever needs new space fails with `ENOSPC`, until [`MemoryDevice::clear_faults`].
    DiskFullFrom(u64),
    /// This call fails with `EIO`, once.
    IoErrorAt(u64),
    /// The n-th read fails with `EIO`, once.
    ReadErrorAt(u64),
    /// From this call on the machine is off: every call fails.
    PowerOffAt(u64),
}

/// What the page cache does with dirty pages whose sync failed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum AfterSyncFailure {
    /// They stay dirty; a later sync may write them.
    #[default]
    StaysDirty,
    /// They count as clean: reads show them, the medium never gets them.
    MarkedClean,
    /// They are dropped: reads show the medium.
    Reverted,
}

/// Which unsynced work survives a power cut.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CrashMode {
    /// Nothing.
    DropUnsynced,
    /// Everything.
    KeepAll,
    /// Each 512-byte sector by itself, and a prefix of the unsynced names, by this seed.
    Sectors(u64),
}

#[derive(Default)]
pub(crate) struct State {
    pub(crate) names: BTreeMap<String, u64>,
    pub(crate) names_durable: BTreeMap<String, u64>,
    pub(crate) names_pending: Vec<NameChange>,
    pub(crate) directories: BTreeSet<String>,
    pub(crate) files: BTreeMap<u64, FileState>,
    pub(crate) file_next: u64,
    pub(crate) locks: BTreeSet<String>,
    pub(crate) calls: u64,
    pub(crate) reads: u64,
    pub(crate) faults: Vec<Fault>,
    pub(crate) after_sync_failure: AfterSyncFailure,
    pub(crate) capacity_bytes: Option<u64>,
    pub(crate) syncs: u64,
}

#[derive(Clone)]
pub(crate) enum NameChange {
    Set(String, u64),
    Rename(String, String),
    Remove(String),
}

impl NameChange {
    pub(crate) fn touches(&self, dir: &str) -> bool {
        match self {
            Self::Set(path, _) | Self::Remove(path) | Self::Rename(path, _) => parent_of(path) == dir,
        }
    }

    pub(crate) fn apply(&self, names: &mut BTreeMap<String, u64>) {
        match self {
            Self::Set(path, file) => {
                names.insert(path.clone(), *file);
            }
            Self::Remove(path) => {
                names.remove(path);
            }
            Self::Rename(from, to) => {
                if let Some(file) = names.remove(from) {
                    names.insert(to.clone(), file);
                }
            }
        }
    }
}

/// A write that was not synced yet.
#[derive(Clone)]
pub(crate) enum Unsynced {
    Bytes(usize, Vec<u8>),
    /// An empty file grew to so many zeros.
    Zeros(usize),
}

impl Unsynced {
    pub(crate) fn apply(&self, bytes: &mut Arc<Vec<u8>>) {
        match self {
            Self::Bytes(offset, new) => write_into(bytes, *offset, new),
            Self::Zeros(length) if bytes.is_empty() => *bytes = Arc::new(vec![0; *length]),
            Self::Zeros(length) => write_into(bytes, 0, &vec![0; *length]),
        }
    }

    /// Some of its sectors.
    fn apply_torn(&self, bytes: &mut Arc<Vec<u8>>, seed: &mut u64) {
        let keep_of_four = random(seed) % 5; // sometimes almost nothing, sometimes all
        let mut is_kept = || random(seed) % 4 < keep_of_four;
        match self {
            Self::Bytes(offset, new) => {
                for (index, sector) in new.chunks(SECTOR_BYTES).enumerate() {
                    if is_kept() {
                        write_into(bytes, offset + index * SECTOR_BYTES, sector);
                    }
                }
            }
            // Zeros are zeros, written or not: only how far the file reaches is in doubt.
            Self::Zeros(length) => {
                let sectors = (0..length / SECTOR_BYTES).rev().take(16).position(|_| is_kept());
                let reached = sectors.map_or(0, |lost| length - lost * SECTOR_BYTES);
                Self::Zeros(reached).apply(bytes);
            }
        }
    }
}

/// Bytes are shared until they are written: a crash image costs what is torn, not what the disk holds.
#[derive(Clone, Default)]
pub(crate) struct FileState {
    pub(crate) cache: Arc<Vec<u8>>,
    pub(crate) medium: Arc<Vec<u8>>,
    /// What the medium lacks, in order.
    pub(crate) pending: Vec<Unsynced>,
}

pub(crate) fn parent_of(path: &str) -> &str {
    path.rsplit_once('/').map_or("", |(parent, _)| parent)
}

pub(crate) fn write_into(bytes: &mut Arc<Vec<u8>>, offset: usize, new: &[u8]) {
    let bytes = Arc::make_mut(bytes);
    let end = offset + new.len();
    if bytes.len() < end {
        bytes.resize(end, 0);
    }
    bytes[offset..end].copy_from_slice(new);
}

/// `SplitMix64` (Steele, Lea, Flood 2014): enough for choosing sectors, and reproducible.
pub(crate) fn random(state: &mut u64) -> u64 {
    *state = state.wrapping_add(0x9E37_79B9_7F4A_7C15);
    let mut z = *state;
    z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    z ^ (z >> 31)
}

impl FileState {
    pub(crate) fn crashed(&self, mode: CrashMode, seed: &mut u64) -> Arc<Vec<u8>> {
        let mut bytes = Arc::clone(&self.medium);
        for unsynced in &self.pending {
            match mode {
                CrashMode::DropUnsynced => {}
                CrashMode::KeepAll => unsynced.apply(&mut bytes),
                CrashMode::Sectors(_) => unsynced.apply_torn(&mut bytes, seed),
            }
        }
        bytes
    }
}

impl State {
    /// Counts a changing call and answers with its planned fault.
    pub(crate) fn change(&mut self, needs_space: bool) -> io::Result<()> {
        self.calls += 1;
        let call = self.calls;
        for fault in &self.faults {
            match *fault {
                Fault::PowerOffAt(at) if call >= at => return Err(power_is_off()),
                Fault::IoErrorAt(at) if call == at => return Err(io::Error::from_raw_os_error(EIO)),
                Fault::DiskFullFrom(at) if call >= at && needs_space => return Err(disk_full()),
                _ => {}
            }
        }
        Ok(())
    }

    pub(crate) fn check_power(&self) -> io::Result<()> {
        let off = self.faults.iter().any(|fault| matches!(*fault, Fault::PowerOffAt(at) if self.calls >= at));
        if off { Err(power_is_off()) } else { Ok(()) }
    }

    pub(crate) fn used_bytes(&self) -> u64 {
        let live: BTreeSet<u64> = self.names.values().copied().collect();
        live.iter().filter_map(|file| self.files.get(file)).map(|file| file.cache.len() as u64).sum()
    }

    pub(crate) fn file(&mut self, file: u64) -> io::Result<&mut FileState> {
        self.files.get_mut(&file).ok_or_else(|| io::Error::from(io::ErrorKind::NotFound))
    }

    pub(crate) fn sync(&mut self, file: u64) -> io::Result<()> {
        self.syncs += 1;
        let planned = self.change(false);
        let after = self.after_sync_failure;
        let state = self.file(file)?;
        match (planned, after) {
            (Ok(()), _) => {
                let pending = std::mem::take(&mut state.pending);
                for unsynced in pending {
                    unsynced.apply(&mut state.medium);
                }
                Ok(())
            }
            (Err(error), AfterSyncFailure::StaysDirty) => Err(error),
            (Err(error), AfterSyncFailure::MarkedClean) => {
                state.pending.clear();
                Err(error)
            }
            (Err(error), AfterSyncFailure::Reverted) => {
                state.pending.clear();
                state.cache.clone_from(&state.medium);
                Err(error)
            }
        }
    }
}

pub(crate) const EIO: i32 = 5;
pub(crate) const ENOSPC: i32 = 28;

pub(crate) fn power_is_off() -> io::Error {
    io::Error::other("the simulated machine is off")
}

pub(crate) fn disk_full() -> io::Error {
    io::Error::from_raw_os_error(ENOSPC)
}
