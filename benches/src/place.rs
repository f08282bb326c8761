//! Where a run writes and how much it does: real sizes under `cargo bench`, tiny ones in the test run.
//!
//! Owns `TPCORE_BENCH_DIR`, temporary directories and the choice of size; refuses to know what is measured.

use std::io;
use std::path::PathBuf;

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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_directory_is_removed_when_dropped() {
        let made = directory().expect("the temporary directory can be written in");
        let path = made.path().to_owned();
        assert!(path.is_dir() && path.starts_with(root()));
        drop(made);
        assert!(!path.exists());
    }
}
