//! redb with `Durability::Immediate`, its default.
//!
//! Owns three states: copied while open, so that the next open verifies and repairs, with its default commit of one phase and with
//! `set_two_phase_commit`; and closed in order, so that the next open verifies nothing. Its own check is `set_check_integrity_on_open`.

use std::path::Path;

use redb::{Builder, Database, Durability, ReadableDatabase as _, ReadableTable as _, TableDefinition};

use super::{Check, Failure, Reading};
use crate::image::Image;
use crate::records::{Read, numbers, value};

const FILE: &str = "records.redb";
const TABLE: TableDefinition<'_, u64, &[u8]> = TableDefinition::new("records");

/// How a transaction becomes the one that counts.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Commit {
    /// One sync; recovery falls back to the commit before if checksums do not match.
    OnePhase,
    /// Two syncs; recovery need not fall back.
    TwoPhase,
}

pub(super) fn write_crashed(folder: &Path, commit: Commit) -> Result<Image, Failure> {
    let database = write(folder, commit)?;
    let image = Image::take(folder, &[])?;
    drop(database);
    Ok(image)
}

pub(super) fn write_closed(folder: &Path) -> Result<Image, Failure> {
    drop(write(folder, Commit::OnePhase)?);
    Ok(Image::take(folder, &[])?)
}

fn write(folder: &Path, commit: Commit) -> Result<Database, Failure> {
    let database = Database::create(folder.join(FILE))?;
    for number in numbers() {
        let mut transaction = database.begin_write()?;
        transaction.set_durability(Durability::Immediate)?;
        transaction.set_two_phase_commit(commit == Commit::TwoPhase);
        transaction.open_table(TABLE)?.insert(number, value(number).as_slice())?;
        transaction.commit()?;
    }
    Ok(database)
}

pub(super) fn read(folder: &Path, check: Check) -> Result<Reading, Failure> {
    let database = Builder::new().set_check_integrity_on_open(check == Check::Integrity).open(folder.join(FILE))?;
    let table = database.begin_read()?.open_table(TABLE)?;
    let mut scanned = Vec::new();
    for entry in table.iter()? {
        let (number, value) = entry?;
        scanned.push(Read { number: Some(number.value()), value: value.value().to_vec() });
    }
    let mut looked_up = Vec::new();
    for number in numbers() {
        looked_up.extend(table.get(number)?.map(|value| Read { number: Some(number), value: value.value().to_vec() }));
    }
    Ok(Reading { scanned, looked_up: Some(looked_up) })
}
