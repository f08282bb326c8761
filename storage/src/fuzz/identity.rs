//! The identity of a data directory, and the marker of an embedded store's folder.
//!
//! Promised: refused, or read as it was written: the same identity makes the same bytes. The first byte of the input says which of
//! the two files the others are.

use std::sync::Arc;

use tp_fuzz::{Bound, Seed};

use super::{ENGINE, mend, trimmed};
use crate::block::BLOCK_BYTES;
use crate::{DataDirectory, Device as _, DirectoryError, Identity, MemoryDevice, store_marker};

/// The device copies the file, and an error names it.
const BOUND: Bound = Bound { bytes: 8 << 10, per_byte: 4, turnover: 2 };

const IDENTITY: u8 = 0;
const MARKER: u8 = 1;

fn written(identity: Identity) -> Vec<u8> {
    let device = MemoryDevice::new();
    drop(DataDirectory::create_or_open(Arc::new(device.clone()), || identity).expect("a directory"));
    device.contents("identity").expect("an identity")
}

fn seeds() -> Vec<Seed> {
    let identity = |parameters: &[u8]| {
        let bytes = written(Identity { engine_id: ENGINE, parameters: parameters.to_vec() });
        [vec![IDENTITY], trimmed(&bytes)].concat()
    };
    vec![
        ("bare".to_owned(), identity(b"")),
        ("parameters".to_owned(), identity(&[7; 42])),
        ("longest".to_owned(), identity(&[9; crate::PARAMETERS_BYTES_MAX])),
        ("marker".to_owned(), [vec![MARKER], store_marker::encode(ENGINE).to_vec()].concat()),
    ]
}

fn check(input: &[u8]) {
    let Some((kind, bytes)) = input.split_first() else { return };
    if *kind == MARKER {
        return check_marker(bytes);
    }
    // A block, filled up with zeros; or longer, and then too long.
    let mut file = bytes.to_vec();
    if *kind == IDENTITY {
        file.resize(bytes.len().max(BLOCK_BYTES), 0);
    }
    check_identity(&file);
    if let Some(block) = file.get_mut(..BLOCK_BYTES) {
        mend::block(block);
        check_identity(&file);
    }
}

fn with_identity(file: &[u8]) -> MemoryDevice {
    let device = MemoryDevice::new();
    for dir in ["", "journal", "checkpoints"] {
        device.create_dir(dir).expect("a directory");
    }
    device.plant("identity", file);
    device
}

fn check_identity(file: &[u8]) {
    let device = with_identity(file);
    match BOUND.hold(file.len(), || DataDirectory::open_read_only(Arc::new(device))) {
        Ok(dir) => {
            let identity = Identity { engine_id: dir.engine_id(), parameters: dir.parameters().to_vec() };
            assert!(written(identity) == file, "an identity has one form");
        }
        Err(DirectoryError::NewerFormat { .. } | DirectoryError::Corrupt { .. }) => {}
        Err(error) => panic!("{error}"),
    }
}

fn check_marker(bytes: &[u8]) {
    let mut bytes = bytes.to_vec();
    for _ in 0..2 {
        if let Ok(is_there) = BOUND.hold(bytes.len(), || store_marker::judge(&bytes, ENGINE)) {
            assert!(is_there && bytes == store_marker::encode(ENGINE), "a marker has one form");
        }
        mend::last(&mut bytes);
    }
}

#[test]
fn an_identity_of_any_bytes_is_refused_or_read_as_written() {
    tp_fuzz::target!("identity", seeds, check);
}

#[test]
fn the_seeds_are_taken_in() {
    for (name, bytes) in seeds() {
        let mut file = bytes[1..].to_vec();
        if bytes[0] == MARKER {
            assert!(matches!(store_marker::judge(&file, ENGINE), Ok(true)));
            continue;
        }
        file.resize(BLOCK_BYTES, 0);
        let whole = file.clone();
        mend::block(&mut file);
        assert!(file == whole, "{name}");
        let device = with_identity(&file);
        assert_eq!(DataDirectory::open_read_only(Arc::new(device)).expect("ours").engine_id(), ENGINE, "{name}");
    }
}
