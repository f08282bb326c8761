//! A wall clock that tests move under real processes, by libfaketime; the monotonic clock stays what it is.
//!
//! Owns the environment that does it and the proof that it does; refuses to know who runs under it.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

/// The wall clock of the processes that are started with it.
#[derive(Clone, Debug)]
pub struct FakeClock {
    library: PathBuf,
    /// What the library reads at each look at the clock.
    file: PathBuf,
}

impl FakeClock {
    /// One that shows the true time; its file is made in `place`.
    ///
    /// # Errors
    /// Why it cannot be had here.
    pub fn new(place: &Path) -> Result<Self, String> {
        let library = library().ok_or("libfaketime is missing (Debian: libfaketime)")?;
        let clock = Self { library, file: place.join("clock") };
        clock.set("-10y")?;
        let mut date = Command::new("date");
        let moved = clock.of(date.arg("+%Y")).output().ok().and_then(year);
        let real = Command::new("date").arg("+%Y").output().ok().and_then(year);
        if moved.zip(real).is_none_or(|(moved, real)| real - moved != 10) {
            return Err(format!("libfaketime does not move the clock: year {moved:?} instead of {real:?} less 10"));
        }
        clock.set("+0")?;
        Ok(clock)
    }

    /// Moves the clock of all that run under it, at once: `+10y`, `-30d`, `+1` (seconds).
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn set(&self, offset: &str) -> Result<(), String> {
        let new = self.file.with_extension("new"); // nobody may read half of it
        let written = std::fs::write(&new, offset).and_then(|()| std::fs::rename(&new, &self.file));
        written.map_err(|error| format!("{}: {error}", self.file.display()))
    }

    /// Puts a command under it.
    pub fn of<'a>(&self, command: &'a mut Command) -> &'a mut Command {
        command
            .env("LD_PRELOAD", &self.library)
            .env("FAKETIME_TIMESTAMP_FILE", &self.file)
            .env("FAKETIME_NO_CACHE", "1")
            .env("NO_FAKE_STAT", "1")
            // The same under its names of older and newer versions.
            .env("FAKETIME_DONT_FAKE_MONOTONIC", "1")
            .env("DONT_FAKE_MONOTONIC", "1")
    }
}

/// Where Debian has it, whatever the processor.
fn library() -> Option<PathBuf> {
    let entries = std::fs::read_dir("/usr/lib").ok()?;
    let mut found = entries.flatten().map(|entry| entry.path().join("faketime/libfaketimeMT.so.1"));
    found.find(|path| path.exists())
}

fn year(output: Output) -> Option<i32> {
    String::from_utf8(output.stdout).ok()?.trim().parse().ok()
}
