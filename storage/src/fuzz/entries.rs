//! Entries in the embedded store: of the catalogue, and of the journal in it.
//!
//! Promised: refused, or exactly the entry that was put in under this key. The input is a key of eight bytes and a value.

use tp_fuzz::{Bound, Seed};

use crate::block::BLOCK_BYTES;
use crate::{FrameEntry, catalogue_sled, journal_sled};

/// A journal entry's payload is copied into blocks.
const BOUND: Bound = Bound { bytes: BLOCK_BYTES + 1024, per_byte: 1, turnover: 2 };

const ENTRY: FrameEntry =
    FrameEntry { first_seq: 41, count: 3, segment: 5, offset: 8192, time_min: 1_000, time_max: 2_000 };

fn journal_entry(payload: &[u8]) -> Vec<u8> {
    let mut value = vec![0; 4];
    value.extend(3_u32.to_le_bytes());
    for number in [1_000, 2_000, payload.len() as u64] {
        value.extend(number.to_le_bytes());
    }
    value.extend(payload);
    let mut input = [&41_u64.to_be_bytes(), &value[..]].concat();
    mend_journal(&mut input);
    input
}

fn seeds() -> Vec<Seed> {
    let catalogue = [&ENTRY.first_seq.to_be_bytes()[..], &catalogue_sled::encode(&ENTRY)].concat();
    vec![
        ("catalogue".to_owned(), catalogue),
        ("journal".to_owned(), journal_entry(&[0x5a; 48])),
        ("journal-empty".to_owned(), journal_entry(&[])),
    ]
}

/// The checksum covers the key, and the value without its first four bytes, where it stands.
fn mend_journal(input: &mut [u8]) {
    if input.len() >= 12 {
        let checksum = crc32c::crc32c_append(crc32c::crc32c(&input[..8]), &input[12..]);
        input[8..12].copy_from_slice(&checksum.to_le_bytes());
    }
}

fn check(input: &[u8]) {
    check_catalogue(input);
    check_journal(input);
    let mut mended = input.to_vec();
    super::mend::last(&mut mended);
    check_catalogue(&mended);
    mended.copy_from_slice(input);
    mend_journal(&mut mended);
    check_journal(&mended);
}

fn check_catalogue(input: &[u8]) {
    let (key, value) = input.split_at(input.len().min(8));
    let Some(entry) = BOUND.hold(input.len(), || catalogue_sled::decode(key, value)) else { return };
    assert!(entry.count > 0 && entry.last_seq() >= entry.first_seq, "{entry:?}");
    assert_eq!(entry.first_seq.to_be_bytes(), key);
    assert_eq!(catalogue_sled::encode(&entry), value, "an entry has one form");
}

fn check_journal(input: &[u8]) {
    let (key, value) = input.split_at(input.len().min(8));
    let Ok(frame) = BOUND.hold(input.len(), || journal_sled::decode(key, value)) else { return };
    assert!(frame.first_seq > 0 && frame.count > 0 && frame.last_seq() >= frame.first_seq);
    assert_eq!(frame.first_seq.to_be_bytes(), key);
    let numbers = [frame.time_min, frame.time_max, frame.payload().len() as u64].map(u64::to_le_bytes).concat();
    assert_eq!(
        [&frame.count.to_le_bytes(), &numbers[..], frame.payload()].concat(),
        value[4..],
        "an entry has one form"
    );
}

#[test]
fn an_entry_of_any_bytes_is_refused_or_read_as_written() {
    tp_fuzz::target!("entries", seeds, check);
}

#[test]
fn the_seeds_are_taken_in() {
    let seeds = seeds();
    let halves = |index: usize| seeds[index].1.split_at(8);
    let (key, value) = halves(0);
    assert_eq!(catalogue_sled::decode(key, value), Some(ENTRY));
    for index in [1, 2] {
        let (key, value) = halves(index);
        assert_eq!(journal_sled::decode(key, value).expect("an entry").first_seq, 41);
    }
}
