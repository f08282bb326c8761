//! A checkpoint file.
//!
//! Promised: refused, or read as it was written: the writer makes the same bytes of what was read. Loading, and reading only the
//! end, say the same.
//!
//! ```text
//! input:  | header as far as it is not zero: 48 | pages, footer, extra ... |
//! ```

use tp_fuzz::{Bound, Seed};

use super::{ENGINE, directory, mend};
use crate::block::BLOCK_BYTES;
use crate::{Checkpoint, CheckpointError, CheckpointStore, MemoryDevice};

const PATH: &str = "checkpoints/00000000000000000001.checkpoint";
/// Bytes of the header that are not zero.
const HEADER: usize = 48;

/// A short file is read at once; a page of a byte takes a block.
const BOUND: Bound = Bound { bytes: 16 << 10, per_byte: 2, turnover: 64 };

fn written(epoch: u64, time: u64, extra: &[u8], pages: &[(u16, u64, &[u8])]) -> Option<Vec<u8>> {
    let device = MemoryDevice::new();
    let mut writer = CheckpointStore::new(&directory(&device)).begin(epoch).expect("begins");
    for (slot, as_of, bytes) in pages {
        writer.page(*slot, *as_of, bytes).expect("a page");
    }
    writer.finish(time, extra).ok()?.publish().expect("published");
    device.contents(PATH)
}

fn seeds() -> Vec<Seed> {
    let seed = |name: &str, extra: &[u8], pages: &[(u16, u64, &[u8])]| {
        let file = written(3, 1_234, extra, pages).expect("a checkpoint");
        (name.to_owned(), [&file[..HEADER], &file[BLOCK_BYTES..]].concat())
    };
    vec![
        seed("empty", b"", &[]),
        seed("pages", b"an extra part, ", &[(7, 3, b"a page of slot 7"), (9, 2, b"odd"), (9, 4, b"")]),
        seed("longer", &[1; 16], &[(0, 1 << 40, &[0x5a; 700]), (1023, 5, &[0xa5; 300])]),
    ]
}

fn check(input: &[u8]) {
    let (header, rest) = input.split_at(input.len().min(HEADER));
    let mut file = header.to_vec();
    file.resize(BLOCK_BYTES, 0);
    file.extend_from_slice(rest);
    check_file(&file);
    mend::checkpoint(&mut file);
    check_file(&file);
}

fn check_file(file: &[u8]) {
    let device = MemoryDevice::new();
    let store = CheckpointStore::new(&directory(&device));
    device.plant(PATH, file);
    let summary = BOUND.hold(file.len(), || store.summary(1));
    let mut handed = 0;
    match BOUND.hold(file.len(), || store.load_pages(1, |_| handed += 1)) {
        Ok(loaded) => {
            let checkpoint = store.load(1).expect("loaded just now");
            assert_eq!(checkpoint.pages.len(), handed);
            check_loaded(file, &loaded, &checkpoint);
            // One whose end does not fit into the last block could be read in full only.
            if let Ok(summary) = summary {
                assert_eq!(
                    (summary.time, summary.as_of_max, summary.bytes),
                    (checkpoint.time, checkpoint.as_of_max, file.len() as u64)
                );
            }
        }
        Err(CheckpointError::Io { source, .. }) => panic!("a memory device reads: {source}"),
        Err(_) => {}
    }
}

fn check_loaded(file: &[u8], loaded: &Checkpoint, checkpoint: &Checkpoint) {
    let pages: Vec<_> = checkpoint.pages.iter().map(|page| (page.slot, page.as_of, &page.bytes[..])).collect();
    assert_eq!(checkpoint.as_of_max, pages.iter().map(|page| page.1).max().unwrap_or(0));
    assert_eq!(checkpoint.as_of_min, pages.iter().map(|page| page.1).min().unwrap_or(0));
    assert_eq!((loaded.epoch, loaded.time, &loaded.extra), (checkpoint.epoch, checkpoint.time, &checkpoint.extra));
    let Some(again) = written(checkpoint.epoch, checkpoint.time, &checkpoint.extra, &pages) else {
        return assert!(checkpoint.extra.len() > crate::EXTRA_BYTES_MAX, "only a longer extra part is not written");
    };
    assert!(again.len() == file.len(), "a checkpoint has one length");
    if is_plain(file) {
        assert!(again == file, "a checkpoint has one form");
    }
}

/// Whether padding, which no reader looks at, is zero.
fn is_plain(file: &[u8]) -> bool {
    let (mut at, mut is_zero) = (BLOCK_BYTES, true);
    while let Some(part) = file.get(at..).filter(|part| part.len() >= 32) {
        let (header, length_at) = if part.starts_with(b"TPCE") { (64, 32) } else { (32, 24) };
        let length = part[length_at..].first_chunk().map_or(0, |length| u32::from_le_bytes(*length) as usize);
        let (end, padded) = (header + length, header + length.next_multiple_of(16));
        is_zero &= part.get(end..padded).is_some_and(|padding| padding.iter().all(|byte| *byte == 0));
        at += padded;
    }
    is_zero
}

#[test]
fn a_checkpoint_of_any_bytes_is_refused_or_read_as_written() {
    tp_fuzz::target!("checkpoint", seeds, check);
}

#[test]
fn the_seeds_are_taken_in() {
    for (name, bytes) in seeds() {
        let mut file = bytes[..HEADER].to_vec();
        file.resize(BLOCK_BYTES, 0);
        file.extend_from_slice(&bytes[HEADER..]);
        let whole = file.clone();
        mend::checkpoint(&mut file);
        assert!(file == whole && is_plain(&file), "{name}");
        let device = MemoryDevice::new();
        let dir = directory(&device);
        device.plant(PATH, &file);
        assert_eq!(dir.engine_id(), ENGINE);
        CheckpointStore::new(&dir).load(1).unwrap_or_else(|error| panic!("{name}: {error}"));
    }
}
