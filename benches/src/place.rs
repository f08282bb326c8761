//! Where a run writes and how much it does: real sizes under `cargo bench`, tiny ones in the test run.
//!
//! Owns `TPCORE_BENCH_DIR`, temporary directories and the choice of size; refuses to know what is measured.

use std::io;
use std::path::{Path, PathBuf};

use tempfile::TempDir;

/// Names the directory that the benches write in. Without it: the system's temporary directory (`TMPDIR`).
pub const DIRECTORY_VARIABLE: &str = "TPCORE_BENCH_DIR";

/// Whether the benches run to prove that they work and not to measure: criterion runs each once unless cargo passes
/// `--bench`, and so does `--test`.
pub fn is_smoke() -> bool {
    let has = |flag: &str| std::env::args().any(|argument| argument == flag);
    has("--test") || !has("--bench")
}

/// `full` when measuring, `tiny` in the test run.
pub fn scale(full: u64, tiny: u64) -> u64 {
    if is_smoke() { tiny } else { full }
}

/// Where the benches write.
pub fn root() -> PathBuf {
    std::env::var_os(DIRECTORY_VARIABLE).filter(|value| !value.is_empty()).map_or_else(std::env::temp_dir, Into::into)
}

/// A new directory below [`root`], removed when dropped.
///
/// # Errors
/// When the root does not exist or cannot be written in; the message names the variable.
pub fn directory() -> io::Result<TempDir> {
    let root = root();
    tempfile::Builder::new().prefix("tpcore-bench-").tempdir_in(&root).map_err(|error| {
        io::Error::new(error.kind(), format!("{}: {error}; {DIRECTORY_VARIABLE} names another place", root.display()))
    })
}

/// The type of the file system that holds a path, by the longest mount point above it; `None`: the system does not say.
pub fn file_system(path: &Path) -> Option<String> {
    let path = path.canonicalize().ok()?;
    file_system_in(&std::fs::read_to_string("/proc/self/mounts").ok()?, &path)
}

fn file_system_in(mounts: &str, path: &Path) -> Option<String> {
    let mounted = mounts.lines().filter_map(|line| {
        let mut fields = line.split(' ');
        let (at, kind) = (fields.nth(1)?, fields.next()?);
        path.starts_with(at).then(|| (at.len(), kind.to_owned()))
    });
    // The last of equal ones is on top.
    mounted.max_by_key(|(length, _)| *length).map(|(_, kind)| kind)
}

#[cfg(test)]
mod tests {
    use super::*;

    const MOUNTS: &str =
        "/dev/a / ext4 rw 0 0\ntmpfs /tmp tmpfs rw 0 0\n/dev/b /tmp/disk xfs rw 0 0\n/dev/c / btrfs rw 0 0\n";

    #[test]
    fn the_longest_mount_point_above_a_path_names_its_file_system() {
        let check = |path: &str, kind| assert_eq!(file_system_in(MOUNTS, Path::new(path)).as_deref(), kind, "{path}");
        check("/tmp/a", Some("tmpfs"));
        check("/tmp/disk/a", Some("xfs"));
        check("/tmp/diskette", Some("tmpfs"));
        check("/var", Some("btrfs"));
        assert_eq!(file_system_in("nonsense\n", Path::new("/")), None);
    }

    #[test]
    fn a_directory_is_removed_when_dropped() {
        let made = directory().expect("the temporary directory can be written in");
        let path = made.path().to_owned();
        assert!(path.is_dir() && path.starts_with(root()));
        drop(made);
        assert!(!path.exists());
    }
}
