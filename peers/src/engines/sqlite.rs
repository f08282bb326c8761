//! `SQLite` in WAL mode with `synchronous=FULL`.
//!
//! Owns two states: all commits in the WAL (no checkpoint, copied while open), and all in the database file (checkpointed, closed). The
//! `-shm` file is left out: a power cut leaves none that counts, the first one who opens rebuilds it from the WAL.

use std::path::Path;

use rusqlite::types::ValueRef;
use rusqlite::{Connection, OpenFlags, OptionalExtension as _};

use super::{Check, Failure, Reading};
use crate::image::Image;
use crate::records::{Read, numbers, value};

const FILE: &str = "records.sqlite";
/// The index of the WAL.
const REBUILT: &[&str] = &["-shm"];

pub(super) fn write_log(folder: &Path) -> Result<Image, Failure> {
    let database = write(folder)?;
    let image = Image::take(folder, REBUILT)?;
    drop(database);
    Ok(image)
}

pub(super) fn write_closed(folder: &Path) -> Result<Image, Failure> {
    let database = write(folder)?;
    checkpoint(&database)?;
    database.close().map_err(|(_, error)| error)?;
    Ok(Image::take(folder, REBUILT)?)
}

fn write(folder: &Path) -> Result<Connection, Failure> {
    let database = Connection::open(folder.join(FILE))?;
    let mode: String = database.query_row("PRAGMA journal_mode = WAL", [], |row| row.get(0))?;
    if mode != "wal" {
        return Err(format!("the journal mode is {mode}").into());
    }
    let _: i64 = database.query_row("PRAGMA wal_autocheckpoint = 0", [], |row| row.get(0))?;
    database.execute_batch("PRAGMA synchronous = FULL")?;
    database.execute_batch("CREATE TABLE records (number INTEGER PRIMARY KEY, value BLOB NOT NULL)")?;
    // The table itself is not what is lost.
    checkpoint(&database)?;
    for number in numbers() {
        database.execute("INSERT INTO records VALUES (?1, ?2)", (number.cast_signed(), value(number)))?;
    }
    Ok(database)
}

fn checkpoint(database: &Connection) -> Result<(), Failure> {
    let is_busy: bool = database.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |row| row.get(0))?;
    if is_busy { Err("the checkpoint is busy".into()) } else { Ok(()) }
}

pub(super) fn read(folder: &Path, check: Check) -> Result<Reading, Failure> {
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let database = Connection::open_with_flags(folder.join(FILE), flags)?;
    if check == Check::Integrity {
        let said: String = database.query_row("PRAGMA integrity_check", [], |row| row.get(0))?;
        if said != "ok" {
            return Err(said.into());
        }
    }
    let scanned = scan(&database)?;
    let looked_up = look_up(&database)?;
    database.close().map_err(|(_, error)| error)?;
    Ok(Reading { scanned, looked_up: Some(looked_up) })
}

fn scan(database: &Connection) -> Result<Vec<Read>, Failure> {
    let mut statement = database.prepare("SELECT number, value FROM records ORDER BY number")?;
    let mut rows = statement.query([])?;
    let mut scanned = Vec::new();
    while let Some(row) = rows.next()? {
        let number = match row.get_ref(0)? {
            ValueRef::Integer(number) => u64::try_from(number).ok(),
            _ => None,
        };
        scanned.push(Read { number, value: bytes(row.get_ref(1)?) });
    }
    Ok(scanned)
}

fn look_up(database: &Connection) -> Result<Vec<Read>, Failure> {
    let mut statement = database.prepare("SELECT value FROM records WHERE number = ?1")?;
    let mut found = Vec::new();
    for number in numbers() {
        let value = statement.query_row([number.cast_signed()], |row| Ok(bytes(row.get_ref(0)?))).optional()?;
        found.extend(value.map(|value| Read { number: Some(number), value }));
    }
    Ok(found)
}

/// A value of another type than was written is not an error of the engine; it is a wrong value.
fn bytes(value: ValueRef<'_>) -> Vec<u8> {
    match value {
        ValueRef::Blob(bytes) => bytes.to_vec(),
        _ => Vec::new(),
    }
}
