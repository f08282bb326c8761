//! The master key: 32 bytes in a file that only its owner may read. Refuses to know what is sealed with it.

use std::fmt;
use std::fs::{File, OpenOptions};
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use aws_lc_rs::digest::{self, SHA256};
use aws_lc_rs::rand::{SecureRandom, SystemRandom};
use zeroize::Zeroizing;

const KEY_BYTES: usize = 32;
/// 64 hexadecimal digits and a line end; one byte more tells a longer file.
const FILE_BYTES_MAX: usize = 2 * KEY_BYTES + 2;
/// Any right of the group or of others.
const FOREIGN_RIGHTS: u32 = 0o077;

/// The key that seals other secrets.
pub struct MasterKey(Zeroizing<[u8; KEY_BYTES]>);

/// Tells master keys apart: the first 8 bytes of SHA-256 of one. No secret.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct MasterKeyId([u8; 8]);

/// Why a file gave no master key.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum MasterKeyError {
    /// The file could not be read or made (it is never overwritten).
    #[error("{}: {error}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// What went wrong.
        error: io::Error,
    },
    /// Not a regular file.
    #[error("{}: not a regular file", path.display())]
    NotAFile {
        /// The file.
        path: PathBuf,
    },
    /// The group or others have rights on it.
    #[error("{}: its mode is {mode:o}, but only its owner may have rights on it (chmod 600)", path.display())]
    TooOpen {
        /// The file.
        path: PathBuf,
        /// Its permission bits.
        mode: u32,
    },
    /// Neither 32 bytes nor 64 hexadecimal digits.
    #[error("{}: neither 32 bytes nor 64 hexadecimal digits", path.display())]
    Form {
        /// The file.
        path: PathBuf,
    },
    /// The operating system gave no random bytes.
    #[error("the operating system gives no random bytes")]
    NoRandomness,
}

impl MasterKey {
    /// The key of these bytes.
    pub fn from_bytes(bytes: [u8; KEY_BYTES]) -> Self {
        Self(Zeroizing::new(bytes))
    }

    /// Reads a file of 32 bytes, or of 64 hexadecimal digits and perhaps a line end.
    ///
    /// # Errors
    /// [`MasterKeyError`]: also when anyone but the owner has any right on the file.
    pub fn from_file(path: &Path) -> Result<Self, MasterKeyError> {
        let content = Self::private_content(path, FILE_BYTES_MAX)?;
        Self::from_content(&content).ok_or_else(|| MasterKeyError::Form { path: path.to_owned() })
    }

    /// What a file has that nobody but its owner may use, up to `bytes_max` and one byte more, which tells that it is longer.
    ///
    /// # Errors
    /// [`MasterKeyError`].
    pub(crate) fn private_content(path: &Path, bytes_max: usize) -> Result<Zeroizing<Vec<u8>>, MasterKeyError> {
        let io = |error| MasterKeyError::Io { path: path.to_owned(), error };
        let mut file = File::open(path).map_err(io)?;
        // Of the file that was opened, so that it cannot be exchanged between the look and the read.
        let meta = file.metadata().map_err(io)?;
        if !meta.is_file() {
            return Err(MasterKeyError::NotAFile { path: path.to_owned() });
        }
        if meta.mode() & FOREIGN_RIGHTS != 0 {
            return Err(MasterKeyError::TooOpen { path: path.to_owned(), mode: meta.mode() & 0o7777 });
        }
        let mut content = Zeroizing::new(vec![0; bytes_max + 1]);
        let mut length = 0;
        while length < content.len() {
            match file.read(&mut content[length..]) {
                Ok(0) => break,
                Ok(more) => length += more,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(io(error)),
            }
        }
        content.truncate(length);
        Ok(content)
    }

    /// Makes a random key and writes it to a new file with mode 0600, as hexadecimal digits. Durable when it returns.
    ///
    /// # Errors
    /// [`MasterKeyError::Io`], also when the file exists: a master key is never overwritten.
    pub fn create_file(path: &Path) -> Result<Self, MasterKeyError> {
        let io = |error| MasterKeyError::Io { path: path.to_owned(), error };
        let mut key = Self::from_bytes([0; KEY_BYTES]);
        SystemRandom::new().fill(key.0.as_mut_slice()).map_err(|_| MasterKeyError::NoRandomness)?;
        let mut text = Zeroizing::new([b'\n'; 2 * KEY_BYTES + 1]);
        for (pair, byte) in text.chunks_exact_mut(2).zip(key.0.iter()) {
            pair.copy_from_slice(&[digit(byte >> 4), digit(byte & 15)]);
        }
        let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path).map_err(io)?;
        file.write_all(text.as_slice()).and_then(|()| file.sync_all()).map_err(io)?;
        let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
        File::open(folder).and_then(|folder| folder.sync_all()).map_err(io)?;
        Ok(key)
    }

    /// Which key it is.
    pub fn id(&self) -> MasterKeyId {
        let mut id = [0; 8];
        id.copy_from_slice(&digest::digest(&SHA256, self.0.as_slice()).as_ref()[..8]);
        MasterKeyId(id)
    }

    pub(crate) fn bytes(&self) -> &[u8] {
        self.0.as_slice()
    }

    fn from_content(content: &[u8]) -> Option<Self> {
        if let Ok(raw) = <[u8; KEY_BYTES]>::try_from(content) {
            return Some(Self::from_bytes(raw));
        }
        let text = content.strip_suffix(b"\n").unwrap_or(content);
        Self::from_digits(text.strip_suffix(b"\r").unwrap_or(text))
    }

    /// The key of 64 hexadecimal digits.
    pub(crate) fn from_digits(digits: &[u8]) -> Option<Self> {
        if digits.len() != 2 * KEY_BYTES {
            return None;
        }
        let mut key = Self::from_bytes([0; KEY_BYTES]);
        for (byte, pair) in key.0.iter_mut().zip(digits.chunks_exact(2)) {
            *byte = value(pair[0])? << 4 | value(pair[1])?;
        }
        Some(key)
    }
}

fn digit(value: u8) -> u8 {
    match value {
        0..=9 => b'0' + value,
        _ => b'a' + value - 10,
    }
}

fn value(digit: u8) -> Option<u8> {
    char::from(digit).to_digit(16).and_then(|value| u8::try_from(value).ok())
}

impl fmt::Debug for MasterKey {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "MasterKey({}, redacted)", self.id())
    }
}

impl MasterKeyId {
    pub(crate) const fn from_bytes(bytes: [u8; 8]) -> Self {
        Self(bytes)
    }

    pub(crate) const fn to_bytes(self) -> [u8; 8] {
        self.0
    }
}

impl fmt::Display for MasterKeyId {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(out, "{byte:02x}"))
    }
}

impl fmt::Debug for MasterKeyId {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "MasterKeyId({self})")
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    fn file_with(content: &[u8], mode: u32) -> (tempfile::TempDir, PathBuf) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("master");
        fs::write(&path, content).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
        (folder, path)
    }

    #[test]
    fn a_made_key_is_private_and_comes_back() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("master");
        let made = MasterKey::create_file(&path).unwrap();
        assert_eq!(fs::metadata(&path).unwrap().mode() & 0o777, 0o600);
        assert_eq!(MasterKey::from_file(&path).unwrap().bytes(), made.bytes());
        assert_ne!(made.bytes(), [0; 32]);
    }

    #[test]
    fn a_master_key_is_never_overwritten() {
        let (_folder, path) = file_with(&[5; 32], 0o600);
        assert!(matches!(MasterKey::create_file(&path), Err(MasterKeyError::Io { .. })));
        assert_eq!(MasterKey::from_file(&path).unwrap().bytes(), [5; 32]);
    }

    #[test]
    fn bytes_and_digits_give_the_same_key() {
        let digits = "aB".repeat(32);
        for content in [
            vec![0xab; 32],
            digits.clone().into_bytes(),
            format!("{digits}\n").into_bytes(),
            format!("{digits}\r\n").into_bytes(),
        ] {
            let (_folder, path) = file_with(&content, 0o400);
            assert_eq!(MasterKey::from_file(&path).unwrap().bytes(), [0xab; 32]);
        }
    }

    #[test]
    fn a_file_that_others_may_read_is_refused() {
        for mode in [0o640, 0o604, 0o610, 0o660, 0o666, 0o620] {
            let (_folder, path) = file_with(&[5; 32], mode);
            assert!(
                matches!(MasterKey::from_file(&path), Err(MasterKeyError::TooOpen { mode: seen, .. }) if seen == mode)
            );
        }
    }

    #[test]
    fn anything_else_is_no_master_key() {
        for content in [
            vec![],
            vec![1; 31],
            vec![1; 33],
            "z".repeat(64).into_bytes(),
            "a".repeat(63).into_bytes(),
            vec![b'a'; 4096],
        ] {
            let (_folder, path) = file_with(&content, 0o600);
            assert!(matches!(MasterKey::from_file(&path), Err(MasterKeyError::Form { .. })), "{} bytes", content.len());
        }
        let folder = tempfile::tempdir().unwrap();
        assert!(matches!(MasterKey::from_file(folder.path()), Err(MasterKeyError::NotAFile { .. })));
    }

    #[test]
    fn debug_shows_no_key() {
        let shown = format!("{:?}", MasterKey::from_bytes([0xab; 32]));
        assert!(!shown.contains("abab") && shown.contains("redacted"), "{shown}");
    }
}
