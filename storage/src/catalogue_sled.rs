//! The catalogue in the embedded store.
//!
//! Owns three trees: `frames` (first sequence number → place and times), `times` (earliest time and first sequence
//! number → nothing) and `cursors` (name → sequence number). Keys are big-endian, so that they sort as numbers.

use std::collections::BTreeMap;
use std::path::Path;

use zerocopy::little_endian::{U32, U64};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

use crate::catalogue::{Catalogue, CatalogueError, FrameEntry};
use crate::sled_store::{SledStore, StoreError, be_u64};

#[derive(Clone, Copy, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
struct RawEntry {
    segment: U64,
    offset: U64,
    time_min: U64,
    time_max: U64,
    count: U32,
    checksum: U32,
}

const ENTRY_BYTES: usize = size_of::<RawEntry>();
const _: () = assert!(ENTRY_BYTES == 40);

/// A [`Catalogue`] in sled. Losing it loses nothing but time, and the cursors.
pub struct SledCatalogue {
    frames: sled::Tree,
    times: sled::Tree,
    cursors: sled::Tree,
    path: String,
    /// After the trees: see [`crate::sled_store::LastHandle`].
    store: SledStore,
}

fn checksum(first_seq: u64, raw: &RawEntry) -> u32 {
    let bytes = raw.as_bytes();
    crc32c::crc32c_append(crc32c::crc32c(&first_seq.to_be_bytes()), &bytes[..bytes.len() - 4])
}

/// The value of an entry.
pub(crate) fn encode(entry: &FrameEntry) -> [u8; ENTRY_BYTES] {
    let mut raw = RawEntry {
        segment: U64::new(entry.segment),
        offset: U64::new(entry.offset),
        time_min: U64::new(entry.time_min),
        time_max: U64::new(entry.time_max),
        count: U32::new(entry.count),
        checksum: U32::new(0),
    };
    raw.checksum = U32::new(checksum(entry.first_seq, &raw));
    zerocopy::transmute!(raw)
}

/// The entry with this key and value; `None`: not what was noted.
pub(crate) fn decode(key: &[u8], value: &[u8]) -> Option<FrameEntry> {
    let (first_seq, raw) = be_u64(key).zip(RawEntry::read_from_bytes(value).ok())?;
    let count = u64::from(raw.count.get());
    let is_good =
        count > 0 && first_seq.checked_add(count).is_some() && checksum(first_seq, &raw) == raw.checksum.get();
    is_good.then(|| FrameEntry {
        first_seq,
        count: raw.count.get(),
        segment: raw.segment.get(),
        offset: raw.offset.get(),
        time_min: raw.time_min.get(),
        time_max: raw.time_max.get(),
    })
}

fn time_key(time: u64, first_seq: u64) -> [u8; 16] {
    let mut key = [0; 16];
    key[..8].copy_from_slice(&time.to_be_bytes());
    key[8..].copy_from_slice(&first_seq.to_be_bytes());
    key
}

impl SledCatalogue {
    /// Opens or creates the catalogue of this engine in a directory of its own.
    ///
    /// # Errors
    /// [`CatalogueError`].
    pub fn open(path: impl AsRef<Path>, engine_id: u128) -> Result<Self, CatalogueError> {
        let shown = path.as_ref().display().to_string();
        let opened = SledStore::open(path.as_ref(), engine_id).and_then(|store| {
            let (frames, times) = (store.db.open_tree("frames")?, store.db.open_tree("times")?);
            let cursors = store.db.open_tree("cursors")?;
            Ok(Self { frames, times, cursors, path: shown.clone(), store })
        });
        opened.map_err(|error| catalogue_error(&shown, error))
    }

    fn failed(&self, error: impl Into<StoreError>) -> CatalogueError {
        catalogue_error(&self.path, error.into())
    }

    fn corrupt(&self, what: &str) -> CatalogueError {
        CatalogueError::Corrupt { path: self.path.clone(), what: what.to_owned() }
    }

    fn decode(&self, (key, value): (sled::IVec, sled::IVec)) -> Result<FrameEntry, CatalogueError> {
        decode(&key, &value).ok_or_else(|| self.corrupt("the entry of a frame is not what was noted"))
    }

    fn at_or_before(&self, seq: u64) -> Result<Option<FrameEntry>, CatalogueError> {
        let found = self.frames.range(..=seq.to_be_bytes()).next_back().transpose();
        found.map_err(|error| self.failed(error))?.map(|pair| self.decode(pair)).transpose()
    }
}

fn catalogue_error(path: &str, error: StoreError) -> CatalogueError {
    let path = path.to_owned();
    match error {
        StoreError::Store(sled::Error::Io(source)) => CatalogueError::Io { path, source },
        StoreError::Store(other) => CatalogueError::Corrupt { path, what: other.to_string() },
        StoreError::Io(file, source) => CatalogueError::Io { path: file.display().to_string(), source },
        StoreError::NotOurs => CatalogueError::NotOurs { path },
        StoreError::NewerFormat(format) => CatalogueError::NewerFormat { path, format },
        StoreError::Corrupt(what) => CatalogueError::Corrupt { path, what },
    }
}

impl Catalogue for SledCatalogue {
    fn note(&mut self, entries: &[FrameEntry]) -> Result<(), CatalogueError> {
        let (mut frames, mut times) = (sled::Batch::default(), sled::Batch::default());
        for entry in entries {
            frames.insert(&entry.first_seq.to_be_bytes(), encode(entry).as_slice());
            times.insert(&time_key(entry.time_min, entry.first_seq), &[]);
        }
        let noted = self.times.apply_batch(times).and_then(|()| self.frames.apply_batch(frames));
        noted.map_err(|error| self.failed(error))
    }

    fn find(&self, seq: u64) -> Result<Option<FrameEntry>, CatalogueError> {
        Ok(self.at_or_before(seq)?.filter(|entry| entry.last_seq() >= seq))
    }

    fn find_time(&self, time: u64) -> Result<Option<FrameEntry>, CatalogueError> {
        let found = self.times.range(..=time_key(time, u64::MAX)).next_back().transpose();
        let Some((key, _)) = found.map_err(|error| self.failed(error))? else { return Ok(None) };
        let first_seq = key.get(8..).and_then(be_u64).ok_or_else(|| self.corrupt("a time's entry is too short"))?;
        let entry = self.at_or_before(first_seq)?.filter(|entry| entry.first_seq == first_seq);
        entry.map(Some).ok_or_else(|| self.corrupt("a time's entry names a frame that is not there"))
    }

    fn highest(&self) -> Result<Option<FrameEntry>, CatalogueError> {
        self.at_or_before(u64::MAX)
    }

    fn cursor(&self, name: &str) -> Result<Option<u64>, CatalogueError> {
        let found = self.cursors.get(name).map_err(|error| self.failed(error))?;
        found.map(|bytes| be_u64(&bytes).ok_or_else(|| self.corrupt("a cursor has the wrong length"))).transpose()
    }

    fn cursors(&self) -> Result<BTreeMap<String, u64>, CatalogueError> {
        let mut all = BTreeMap::new();
        for pair in &self.cursors {
            let (name, value) = pair.map_err(|error| self.failed(error))?;
            let cursor = std::str::from_utf8(&name).ok().zip(be_u64(&value));
            let (name, seq) = cursor.ok_or_else(|| self.corrupt("a cursor is not what was set"))?;
            all.insert(name.to_owned(), seq);
        }
        Ok(all)
    }

    fn set_cursor(&mut self, name: &str, seq: u64) -> Result<(), CatalogueError> {
        let set = self.cursors.insert(name, &seq.to_be_bytes());
        set.map(|_| ()).map_err(|error| self.failed(error))
    }

    fn clear(&mut self) -> Result<(), CatalogueError> {
        self.frames.clear().and_then(|()| self.times.clear()).map_err(|error| self.failed(error))
    }

    fn sync(&mut self) -> Result<(), CatalogueError> {
        let synced = self.store.sync();
        synced.map_err(|error| self.failed(error))
    }
}
