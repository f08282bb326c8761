//! A directory held in memory: taken once, damaged and laid out again thousands of times.
//!
//! Owns files, names and lengths. Refuses to know engines and damages. What engines reserve ahead is zeros behind the written part of a
//! file: it is kept as a length only.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

/// One file.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Stored {
    /// Below the directory.
    pub(crate) path: PathBuf,
    /// Up to the last byte that is not zero.
    pub(crate) written: Vec<u8>,
    /// Bytes of the file, with the zeros behind what is written.
    pub(crate) length: u64,
}

/// All files of a directory.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub(crate) struct Image {
    pub(crate) files: Vec<Stored>,
    folders: Vec<PathBuf>,
}

impl Image {
    /// Reads a directory, without the files whose names end in one of `skipped`.
    pub(crate) fn take(root: &Path, skipped: &[&str]) -> io::Result<Self> {
        let mut image = Self::default();
        image.take_folder(root, Path::new(""), skipped)?;
        image.files.sort_by(|a, b| a.path.cmp(&b.path));
        Ok(image)
    }

    fn take_folder(&mut self, root: &Path, folder: &Path, skipped: &[&str]) -> io::Result<()> {
        for entry in fs::read_dir(root.join(folder))? {
            let entry = entry?;
            let path = folder.join(entry.file_name());
            if entry.file_type()?.is_dir() {
                self.folders.push(path.clone());
                self.take_folder(root, &path, skipped)?;
            } else if !skipped.iter().any(|end| path.to_string_lossy().ends_with(end)) {
                let mut written = fs::read(entry.path())?;
                let length = written.len() as u64;
                written.truncate(written.iter().rposition(|byte| *byte != 0).map_or(0, |last| last + 1));
                self.files.push(Stored { path, written, length });
            }
        }
        Ok(())
    }

    /// Lays the directory out anew, with `changed` in the place of file `index`; `None` in its place: that file is missing.
    pub(crate) fn lay(&self, root: &Path, index: usize, changed: Option<&Stored>) -> io::Result<()> {
        if root.exists() {
            fs::remove_dir_all(root)?;
        }
        fs::create_dir_all(root)?;
        for folder in &self.folders {
            fs::create_dir_all(root.join(folder))?;
        }
        for (at, file) in self.files.iter().enumerate() {
            let Some(file) = (if at == index { changed } else { Some(file) }) else { continue };
            fs::write(root.join(&file.path), &file.written)?;
            fs::OpenOptions::new().write(true).open(root.join(&file.path))?.set_len(file.length)?;
        }
        Ok(())
    }

    /// Bytes up to the last written one, of all files.
    pub(crate) fn written(&self) -> usize {
        self.files.iter().map(|file| file.written.len()).sum()
    }
}
