//! A cache in a file of its own: one JSON text, and the SHA-256 of it in a line behind.
//!
//! Owns how such a file is written (whole or not at all, for the server's user alone) and when it is worth nothing: missing, cut short or
//! damaged. Refuses to know what is in it, and whether that fits the directory: its readers compare.

use std::fs::{self, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;

use aws_lc_rs::digest::{SHA256, digest};
use serde::Serialize;
use serde::de::DeserializeOwned;

/// The SHA-256 of bytes, as hex digits.
pub(crate) fn hash(bytes: &[u8]) -> String {
    use std::fmt::Write as _;
    digest(&SHA256, bytes).as_ref().iter().fold(String::with_capacity(64), |mut text, byte| {
        let _ = write!(text, "{byte:02x}"); // into memory
        text
    })
}

/// What is in the file; `None`: nothing that can be relied on.
pub(crate) fn read<T: DeserializeOwned>(path: &Path) -> Option<T> {
    let text = fs::read_to_string(path).ok()?;
    let (body, sum) = text.trim_end().rsplit_once('\n')?;
    if sum != hash(body.as_bytes()) {
        return None;
    }
    serde_json::from_str(body).ok()
}

/// Puts the contents in the file's place. Blocks.
pub(crate) fn write<T: Serialize>(path: &Path, contents: &T) -> io::Result<()> {
    let body = serde_json::to_string(contents)?;
    let sum = hash(body.as_bytes());
    if let Some(folder) = path.parent() {
        fs::create_dir_all(folder)?;
    }
    let beside = path.with_extension("new");
    // It may have hashes of secrets and commands that wait.
    let mut file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&beside)?;
    write!(file, "{body}\n{sum}\n")?;
    file.sync_all()?;
    fs::rename(&beside, path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_written_is_read_and_what_is_missing_cut_short_or_damaged_is_not() {
        let folder = tempfile::tempdir().expect("a temporary file");
        let path = folder.path().join("server/cache.json");
        assert_eq!(read::<Vec<u64>>(&path), None, "missing");
        write(&path, &[1_u64]).expect("a temporary file");
        write(&path, &[12_u64, 34]).expect("a temporary file");
        assert_eq!(read(&path), Some(vec![12_u64, 34]));
        let whole = fs::read(&path).expect("a temporary file");
        for at in 0..whole.len() - 1 {
            fs::write(&path, &whole[..at]).expect("a temporary file");
            assert_eq!(read::<Vec<u64>>(&path), None, "cut short at {at}");
            let mut damaged = whole.clone();
            damaged[at] ^= 1;
            fs::write(&path, damaged).expect("a temporary file");
            assert_eq!(read::<Vec<u64>>(&path), None, "damaged at {at}");
        }
    }
}
