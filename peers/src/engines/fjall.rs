//! fjall with `PersistMode::SyncAll` after every write.
//!
//! Owns two states: all commits in the journal (copied while open), and all in tables (flushed, dropped in order). It has no check of its
//! own files on request; the blocks of tables are checked when they are read.

use std::path::Path;

use fjall::{Database, Keyspace, KeyspaceCreateOptions, PersistMode};

use super::{Failure, Reading};
use crate::image::Image;
use crate::records::{Read, numbers, value};

const KEYSPACE: &str = "records";

pub(super) fn write_journal(folder: &Path) -> Result<Image, Failure> {
    let (database, _keyspace) = write(folder)?;
    let image = Image::take(folder, &[])?;
    drop(database);
    Ok(image)
}

pub(super) fn write_tables(folder: &Path) -> Result<Image, Failure> {
    let (database, keyspace) = write(folder)?;
    // Public, though not in its documentation: else tables are written from 64 MiB on.
    keyspace.rotate_memtable_and_wait()?;
    drop((keyspace, database));
    Ok(Image::take(folder, &[])?)
}

fn write(folder: &Path) -> Result<(Database, Keyspace), Failure> {
    let database = open(folder)?;
    let keyspace = database.keyspace(KEYSPACE, KeyspaceCreateOptions::default)?;
    for number in numbers() {
        keyspace.insert(number.to_be_bytes(), value(number))?;
        database.persist(PersistMode::SyncAll)?;
    }
    Ok((database, keyspace))
}

fn open(folder: &Path) -> Result<Database, Failure> {
    Ok(Database::builder(folder).worker_threads(1).open()?)
}

pub(super) fn read(folder: &Path) -> Result<Reading, Failure> {
    let database = open(folder)?;
    // It makes a database where there is none; who expects one asks first.
    if !database.keyspace_exists(KEYSPACE) {
        return Err("no such keyspace".into());
    }
    let keyspace = database.keyspace(KEYSPACE, KeyspaceCreateOptions::default)?;
    let mut scanned = Vec::new();
    for guard in keyspace.iter() {
        let (key, value) = guard.into_inner()?;
        let number = <[u8; 8]>::try_from(&*key).ok().map(u64::from_be_bytes);
        scanned.push(Read { number, value: value.to_vec() });
    }
    let mut looked_up = Vec::new();
    for number in numbers() {
        let found = keyspace.get(number.to_be_bytes())?;
        looked_up.extend(found.map(|value| Read { number: Some(number), value: value.to_vec() }));
    }
    Ok(Reading { scanned, looked_up: Some(looked_up) })
}
