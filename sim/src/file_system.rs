//! File systems of their own, for a test: one in memory, or ext4 in an image file whose power can be cut. Root only.
//!
//! Owns mounting, the cut and the cleaning up (a mount goes away with its value, its loop device with the mount); refuses to know what
//! is stored. The cut is the kernel's own shutdown of a mounted ext4: from that instant on nothing reaches the image, every call fails
//! with `EIO`, and the pages in memory are never written. What the image was handed before is kept: it has no write cache to lose.
//! (That is what the images of `tp-sim images` are for.)

use std::path::{Path, PathBuf};
use std::process::Command;

/// What a cut does about ext4's own journal.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Cut {
    /// The power goes: what was not committed is gone (`EXT4_GOING_FLAGS_NOLOGFLUSH`).
    Power = 2,
    /// The journal is committed first: the newest names and sizes, with data that never came (`EXT4_GOING_FLAGS_LOGFLUSH`).
    Committed = 1,
    /// Everything is written first, then nothing more: as when a disk is pulled (`EXT4_GOING_FLAGS_DEFAULT`).
    Synced = 0,
}

impl Cut {
    /// Each of them, the hardest first.
    pub const ALL: [Self; 3] = [Self::Power, Self::Committed, Self::Synced];
}

/// `EXT4_IOC_SHUTDOWN`, `_IOR('X', 125, __u32)`, by Perl, which every Debian has: `xfs_io -c shutdown` lacks one of the three cuts.
const SHUTDOWN: &str = r#"
open(my $place, "<", $ARGV[0]) or die "$ARGV[0]: $!\n";
ioctl($place, 0x8004587d, pack("L", $ARGV[1])) or die "EXT4_IOC_SHUTDOWN: $!\n";
"#;

/// A mounted file system.
#[derive(Debug)]
pub struct FileSystem {
    at: PathBuf,
    /// `None`: in memory.
    image: Option<PathBuf>,
}

impl FileSystem {
    /// An empty one in memory, mounted at a path that is made.
    ///
    /// # Errors
    /// Why not: no root, no `mount`.
    pub fn in_memory(at: &Path, bytes: u64) -> Result<Self, String> {
        make(at)?;
        run(Command::new("mount").args(["-t", "tmpfs", "-o", &format!("size={bytes}"), "none"]).arg(at))?;
        Ok(Self { at: at.to_owned(), image: None })
    }

    /// An empty ext4 of so many bytes in the (sparse) file `image`, mounted at a path that is made.
    ///
    /// # Errors
    /// Why not: no root, no loop devices, no `mkfs.ext4`.
    pub fn ext4(at: &Path, image: &Path, bytes: u64) -> Result<Self, String> {
        make(at)?;
        let file = std::fs::File::create(image).and_then(|file| file.set_len(bytes));
        file.map_err(|error| format!("{}: {error}", image.display()))?;
        run(Command::new("mkfs.ext4").args(["-q", "-F"]).arg(image))?;
        let new = Self { at: at.to_owned(), image: Some(image.to_owned()) };
        new.mount()?;
        Ok(new)
    }

    /// Where it is mounted.
    pub fn at(&self) -> &Path {
        &self.at
    }

    /// Cuts it off from its image.
    ///
    /// # Errors
    /// Why not: no ext4, no Perl.
    pub fn cut(&self, how: Cut) -> Result<(), String> {
        run(Command::new("perl").arg("-e").arg(SHUTDOWN).arg(&self.at).arg((how as u32).to_string()))
    }

    /// Mounts what the image holds anew, as after a reboot: ext4 replays its journal.
    ///
    /// # Errors
    /// Somebody still uses it, or it cannot be mounted.
    pub fn mount_again(&self) -> Result<(), String> {
        run(Command::new("umount").arg(&self.at))?;
        self.mount()?;
        // Another mount namespace that was made meanwhile holds on to what was cut, and would be given back here.
        let probe = self.at.join("probe");
        let written = std::fs::write(&probe, "").and_then(|()| std::fs::remove_file(&probe));
        written.map_err(|error| format!("{}: {error}: is it still mounted elsewhere?", self.at.display()))
    }

    fn mount(&self) -> Result<(), String> {
        let image = self.image.as_ref().ok_or("what is in memory is mounted once")?;
        // The loop device is given back with the last mount.
        run(Command::new("mount").args(["-t", "ext4", "-o", "loop"]).arg(image).arg(&self.at))
    }
}

impl Drop for FileSystem {
    fn drop(&mut self) {
        // Also under a process that still uses it; it goes with the last one.
        let _ = run(Command::new("umount").arg("-l").arg(&self.at));
    }
}

fn make(at: &Path) -> Result<(), String> {
    std::fs::create_dir_all(at).map_err(|error| format!("{}: {error}", at.display()))
}

fn run(command: &mut Command) -> Result<(), String> {
    let name = command.get_program().to_string_lossy().into_owned();
    let output = command.output().map_err(|error| format!("{name}: {error}"))?;
    if output.status.success() {
        return Ok(());
    }
    Err(format!("{name} fails ({}): {}", output.status, String::from_utf8_lossy(&output.stderr).trim()))
}
