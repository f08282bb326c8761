//! okaywal, one entry of one chunk a commit.
//!
//! Owns one state: all entries in one segment, copied while open. It is a log and nothing else: a reader gets the entries in
//! `LogManager::recover`, here with their checksums checked, and ignores an aborted one as its documentation asks.

use std::path::Path;
use std::sync::{Arc, Mutex};

use okaywal::{Entry, EntryId, LogManager, SegmentReader, WriteAheadLog};

use super::{Failure, Reading};
use crate::image::Image;
use crate::records::{Read, numbers, value};

/// Collects what recovery hands out.
#[derive(Clone, Debug, Default)]
struct Collected(Arc<Mutex<Vec<Read>>>);

impl LogManager for Collected {
    fn recover(&mut self, entry: &mut Entry<'_>) -> std::io::Result<()> {
        if let Some(chunks) = entry.read_all_chunks()? {
            let value = chunks.concat();
            let number = value.first_chunk().map(|bytes| u64::from_le_bytes(*bytes));
            self.0.lock().map_err(|_| std::io::Error::other("a panic before"))?.push(Read { number, value });
        }
        Ok(())
    }

    fn checkpoint_to(&mut self, _: EntryId, _: &mut SegmentReader, _: &WriteAheadLog) -> std::io::Result<()> {
        Ok(())
    }
}

pub(super) fn write(folder: &Path) -> Result<Image, Failure> {
    let log = WriteAheadLog::recover(folder, Collected::default())?;
    for number in numbers() {
        let mut entry = log.begin_entry()?;
        entry.write_chunk(&value(number))?;
        entry.commit()?;
    }
    let image = Image::take(folder, &[])?;
    log.shutdown()?;
    Ok(image)
}

pub(super) fn read(folder: &Path) -> Result<Reading, Failure> {
    let collected = Collected::default();
    WriteAheadLog::recover(folder, collected.clone())?.shutdown()?;
    let scanned = collected.0.lock().map_err(|_| "a panic before")?.clone();
    Ok(Reading { scanned, looked_up: None })
}
