//! The corpus of a target: files of inputs, committed.
//!
//! Owns reading it, and writing seeds that are missing when `TPCORE_BLESS=1` says so; refuses to change a file that is there. What
//! a fuzzer found lies beside the seeds, under names that begin with `found-`.

use std::path::Path;

/// An input that the target can make by itself: a name and its bytes.
pub type Seed = (String, Vec<u8>);

/// The inputs of a corpus, by name; the seeds must be among them, as they are made today.
pub(crate) fn read(dir: &Path, seeds: Vec<Seed>) -> Vec<Seed> {
    for (name, bytes) in seeds {
        let path = dir.join(&name);
        if std::env::var_os("TPCORE_BLESS").is_some() && !path.exists() {
            std::fs::create_dir_all(dir).and_then(|()| std::fs::write(&path, &bytes)).expect("the seed is written");
        }
        let kept = std::fs::read(&path)
            .unwrap_or_else(|error| panic!("{}: {error}; write missing seeds with TPCORE_BLESS=1", path.display()));
        assert!(kept == bytes, "{} is not what is made today: a change of a format gets a new seed", path.display());
    }
    let entries = std::fs::read_dir(dir).unwrap_or_else(|error| panic!("{}: {error}", dir.display()));
    let mut inputs: Vec<Seed> = entries
        .map(|entry| {
            let path = entry.expect("a file of the corpus").path();
            let name = path.file_name().expect("a file has a name").to_string_lossy().into_owned();
            (name, std::fs::read(&path).expect("a readable file"))
        })
        .collect();
    inputs.sort_unstable();
    inputs
}
