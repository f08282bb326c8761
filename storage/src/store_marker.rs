//! Whose store a folder is, in a small file of ours beside the embedded store's own.
//!
//! Owns the file `engine`. With it another engine's store, or one of a newer format, is refused before the embedded store
//! opens (and so changes) anything; and a store that was set up once and shows nothing now is known to be damaged. Refuses
//! to know what the store holds. A store without it (of an earlier release) gets one once its own identity was checked.
//!
//! ```text
//! 0          8             24       26         28         32
//! | TPCSTORE | engine id   | format | reserved | checksum |    little-endian; CRC-32C of the 28 bytes before
//! ```

use std::fs::File;
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};

use zerocopy::little_endian::{U16, U32, U128};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

use crate::frame::FORMAT;
use crate::sled_store::StoreError;

const NAME: &str = "engine";
const TEMPORARY: &str = "engine.new";
const MAGIC: [u8; 8] = *b"TPCSTORE";

#[derive(Clone, Copy, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
struct RawMarker {
    magic: [u8; 8],
    engine_id: U128,
    format: U16,
    reserved: [u8; 2],
    checksum: U32,
}

const RAW_BYTES: usize = size_of::<RawMarker>();
const _: () = assert!(RAW_BYTES == 32);

pub(crate) fn encode(engine_id: u128) -> [u8; RAW_BYTES] {
    let mut raw = RawMarker {
        magic: MAGIC,
        engine_id: U128::new(engine_id),
        format: U16::new(FORMAT),
        reserved: [0; 2],
        checksum: U32::new(0),
    };
    raw.checksum = U32::new(crc32c::crc32c(&raw.as_bytes()[..RAW_BYTES - 4]));
    zerocopy::transmute!(raw)
}

/// Whether the folder has a marker. Fails when it is not this engine's.
pub(crate) fn check(folder: &Path, engine_id: u128) -> Result<bool, StoreError> {
    let path = folder.join(NAME);
    let bytes = match std::fs::read(&path) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(false),
        Err(error) => return Err(StoreError::Io(path, error)),
    };
    judge(&bytes, engine_id)
}

/// Whether these bytes are this engine's marker.
pub(crate) fn judge(bytes: &[u8], engine_id: u128) -> Result<bool, StoreError> {
    let marker = RawMarker::read_from_bytes(bytes).ok();
    let good = marker
        .filter(|raw| raw.magic == MAGIC && crc32c::crc32c(&raw.as_bytes()[..RAW_BYTES - 4]) == raw.checksum.get());
    let Some(raw) = good else { return Err(StoreError::corrupt("its file `engine` is not readable")) };
    if raw.format.get() > FORMAT {
        return Err(StoreError::NewerFormat(raw.format.get().into()));
    }
    if encode(raw.engine_id.get()) != bytes {
        return Err(StoreError::corrupt("its file `engine` was never written so"));
    }
    if raw.engine_id.get() == engine_id { Ok(true) } else { Err(StoreError::NotOurs) }
}

/// Makes the marker, durable. A cut leaves none, or a whole one.
pub(crate) fn create(folder: &Path, engine_id: u128) -> Result<(), StoreError> {
    let (temporary, path) = (folder.join(TEMPORARY), folder.join(NAME));
    let failed = |path: PathBuf| move |error| StoreError::Io(path, error);
    let write = || {
        let mut file = File::create(&temporary)?;
        file.write_all(&encode(engine_id))?;
        file.sync_all()?;
        std::fs::rename(&temporary, &path)?;
        File::open(folder)?.sync_all()
    };
    write().map_err(failed(path.clone()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_marker_keeps_its_golden_bytes() {
        let bytes = encode(0x0102);
        assert_eq!((&bytes[..8], &bytes[8..11], bytes[24]), (&b"TPCSTORE"[..], &[2, 1, 0][..], 1));
        assert_eq!(bytes[28..], crc32c::crc32c(&bytes[..28]).to_le_bytes());
    }

    #[test]
    fn every_flipped_bit_of_the_marker_is_seen() {
        let folder = tempfile::tempdir().expect("a folder");
        assert!(!check(folder.path(), 7).expect("none yet"));
        create(folder.path(), 7).expect("made");
        assert!(check(folder.path(), 7).expect("ours"));
        assert!(matches!(check(folder.path(), 8), Err(StoreError::NotOurs)));
        let path = folder.path().join(NAME);
        let bytes = std::fs::read(&path).expect("there");
        for bit in 0..bytes.len() * 8 {
            let mut flipped = bytes.clone();
            flipped[bit / 8] ^= 1 << (bit % 8);
            std::fs::write(&path, flipped).expect("written");
            assert!(matches!(check(folder.path(), 7), Err(StoreError::Corrupt(_))), "bit {bit}");
        }
    }
}
