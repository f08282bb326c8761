//! Operator mistakes and the life of a data directory: refused with nothing changed, and a message that helps.
#![allow(clippy::unwrap_used)]

mod support;

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use support::{identity, options};
use tp_storage::{
    CheckpointError, CheckpointStore, DataDirectory, DirectoryError, DiskDevice, EXTRA_BYTES_MAX, Floor, Identity,
    MemoryDevice, RecoverError, SegmentJournal,
};

fn open(path: &Path) -> Result<DataDirectory, DirectoryError> {
    DataDirectory::create_or_open(Arc::new(DiskDevice::new(path)), identity)
}

/// Every file below a directory, with its bytes.
fn everything(path: &Path) -> BTreeMap<String, Vec<u8>> {
    let mut all = BTreeMap::new();
    for entry in std::fs::read_dir(path).unwrap() {
        let entry = entry.unwrap().path();
        if entry.is_dir() {
            all.extend(everything(&entry));
        } else {
            all.insert(entry.display().to_string(), std::fs::read(&entry).unwrap());
        }
    }
    all
}

#[test]
fn a_second_writer_is_refused_until_the_first_is_gone_and_a_reader_is_not() {
    let place = tempfile::tempdir().unwrap();
    let path = place.path().join("deep/data");
    let first = open(&path).unwrap();
    assert!(matches!(open(&path), Err(DirectoryError::InUse { .. })));
    let reader = DataDirectory::open_read_only(Arc::new(DiskDevice::new(&path))).unwrap();
    assert!(reader.writer_is_running());
    assert_eq!((reader.engine_id(), reader.parameters()), (support::ENGINE, b"parameters".as_slice()));
    let clone = first.clone();
    drop(first);
    assert!(matches!(open(&path), Err(DirectoryError::InUse { .. })), "a clone keeps the lock");
    drop(clone);
    assert!(!reader.writer_is_running());
    drop(open(&path).unwrap());
}

#[test]
fn a_directory_with_other_files_is_refused_and_left_as_it_was() {
    let place = tempfile::tempdir().unwrap();
    std::fs::write(place.path().join("letter.txt"), b"dear").unwrap();
    let before = everything(place.path());
    let error = open(place.path()).unwrap_err();
    assert!(matches!(&error, DirectoryError::NotOurs { found, .. } if found.contains("letter.txt")), "{error}");
    let reader = DataDirectory::open_read_only(Arc::new(DiskDevice::new(place.path())));
    assert!(matches!(reader, Err(DirectoryError::NotOurs { .. })));
    assert_eq!(everything(place.path()), before);
}

#[test]
fn reading_where_nothing_is_says_so_and_creates_nothing() {
    let place = tempfile::tempdir().unwrap();
    for path in [place.path().join("nowhere"), place.path().to_owned()] {
        let missing = DataDirectory::open_read_only(Arc::new(DiskDevice::new(&path)));
        assert!(matches!(missing, Err(DirectoryError::Missing { .. })));
    }
    assert!(everything(place.path()).is_empty());
}

#[test]
fn a_read_only_handle_can_neither_recover_nor_checkpoint() {
    let device = MemoryDevice::new();
    drop(support::journal_of(&device, &[(3, 0)]));
    let reader = DataDirectory::open_read_only(Arc::new(device.clone())).unwrap();
    let calls = device.calls();
    let recovered = SegmentJournal::recover(&reader, options(), Floor::default(), 0);
    assert!(matches!(recovered, Err(RecoverError::ReadOnlyDirectory)));
    let store = CheckpointStore::new(&reader);
    assert!(matches!(store.begin(1).err(), Some(CheckpointError::ReadOnlyDirectory)));
    assert!(matches!(store.delete_unpublished(), Err(CheckpointError::ReadOnlyDirectory)));
    assert_eq!(device.calls(), calls);
}

#[test]
fn parameters_have_a_limit_and_the_identity_keeps_them() {
    let device = MemoryDevice::new();
    let of = |bytes: usize| move || Identity { engine_id: 1, parameters: vec![3; bytes] };
    let refused = DataDirectory::create_or_open(Arc::new(device.clone()), of(3001));
    assert!(matches!(refused, Err(DirectoryError::ParametersTooLarge { bytes: 3001 })));
    drop(DataDirectory::create_or_open(Arc::new(device.clone()), of(3000)).unwrap());
    let again = DataDirectory::create_or_open(Arc::new(device), of(1)).unwrap();
    assert_eq!(again.parameters(), vec![3; 3000]);
}

#[test]
fn options_out_of_range_are_refused() {
    let dir = support::directory(&MemoryDevice::new());
    for bytes in [0, 4096, 100_000] {
        let refused = SegmentJournal::recover(
            &dir,
            tp_storage::JournalOptions { segment_bytes: bytes, ..options() },
            Floor::default(),
            0,
        );
        assert!(matches!(refused, Err(RecoverError::Options(_))), "{bytes}");
    }
}

#[test]
fn checkpoints_keep_two_generations_and_only_published_ones_count() {
    let device = MemoryDevice::new();
    let dir = support::directory(&device);
    let store = CheckpointStore::new(&dir);
    assert!(matches!(store.load(1), Err(CheckpointError::Missing { generation: 1 })));
    for expected in 1..=4 {
        let mut writer = store.begin(9).unwrap();
        for slot in 0..100 {
            writer.page(slot, 50 + u64::from(slot), &vec![u8::try_from(slot).unwrap(); 10_000]).unwrap();
        }
        let finished = writer.finish(77, b"").unwrap();
        assert_eq!((finished.as_of_max(), finished.generation()), (149, expected));
        assert!(finished.bytes() > 1_000_000);
        assert_eq!(finished.publish().unwrap(), expected);
    }
    assert_eq!(store.generations().unwrap(), [3, 4]);
    let loaded = store.load(4).unwrap();
    assert_eq!((loaded.epoch, loaded.as_of_min, loaded.as_of_max, loaded.pages.len()), (9, 50, 149, 100));
    assert!(loaded.pages.iter().all(|page| (page.bytes.as_ptr() as usize).is_multiple_of(16)));
    drop(store.begin(9).unwrap().finish(78, b"").unwrap());
    store.begin(9).unwrap().finish(79, b"").unwrap().discard().unwrap();
    assert_eq!(store.generations().unwrap(), [3, 4]);
    store.delete_unpublished().unwrap();
    assert!(!device.paths().iter().any(|path| path.ends_with(".unpublished")), "{:?}", device.paths());
}

#[test]
fn the_summary_of_a_checkpoint_needs_no_page_and_believes_no_damaged_end() {
    let device = MemoryDevice::new();
    let store = CheckpointStore::new(&support::directory(&device));
    assert!(matches!(store.summary(1), Err(CheckpointError::Missing { generation: 1 })));
    let mut extra_max = vec![7; EXTRA_BYTES_MAX];
    for (index, extra) in [&b""[..], b"sixteen bytes ..", &extra_max].into_iter().enumerate() {
        let mut writer = store.begin(9).unwrap();
        writer.page(3, 40, &[1; 5_000]).unwrap();
        writer.page(4, 41, &vec![2; 50_000 + index]).unwrap();
        let generation = writer.finish(77, extra).unwrap().publish().unwrap();
        let path = format!("checkpoints/{generation:020}.checkpoint");
        let bytes = device.contents(&path).unwrap();
        let summary = store.summary(generation).unwrap();
        assert_eq!((summary.as_of_max, summary.time, summary.bytes), (41, 77, bytes.len() as u64));

        let mut damaged = bytes.clone();
        damaged[4096 + 100] ^= 1;
        device.plant(&path, &damaged);
        assert_eq!(store.summary(generation).unwrap(), summary, "a page is not its business");
        assert!(matches!(store.load(generation), Err(CheckpointError::Corrupt(_))));

        let footer = bytes.len() - 64 - extra.len().next_multiple_of(16);
        for at in (0..64).chain(4000..4096).chain(footer..bytes.len()) {
            let mut damaged = bytes.clone();
            damaged[at] ^= 0x10;
            device.plant(&path, &damaged);
            let found = store.summary(generation);
            assert!(matches!(found, Err(CheckpointError::Corrupt(_))), "byte {at}: {found:?}");
        }
        for length in [0, 1, 4095, 4096, 4100, footer, bytes.len() - 16, bytes.len() - 1] {
            device.plant(&path, &bytes[..length]);
            assert!(store.summary(generation).is_err(), "cut to {length} bytes");
        }
        device.plant(&path, &bytes);
    }
    extra_max.push(0);
    assert!(matches!(store.begin(9).unwrap().finish(1, &extra_max).err(), Some(CheckpointError::ExtraTooLong { .. })));
}

#[test]
fn a_checkpoint_that_reads_back_wrong_gets_no_name() {
    let device = MemoryDevice::new();
    let dir = support::directory(&device);
    let store = CheckpointStore::new(&dir);
    let mut writer = store.begin(1).unwrap();
    writer.page(1, 1, &[1; 100]).unwrap();
    device.after_sync_failure(tp_storage::AfterSyncFailure::MarkedClean);
    device.plan(tp_storage::Fault::IoErrorAt(device.calls() + 2)); // 1: the write, 2: the sync
    assert!(matches!(writer.finish(1, b"").err(), Some(CheckpointError::Io { .. })));
    device.clear_faults();
    device.plan(tp_storage::Fault::ReadErrorAt(device.reads() + 1));
    assert!(matches!(store.begin(1).unwrap().finish(1, b"").err(), Some(CheckpointError::Io { .. })));
    assert!(store.generations().unwrap().is_empty());
}

/// Removing gigabytes in one call made the journal's syncs wait for hundreds of milliseconds.
#[test]
fn a_large_old_generation_is_given_back_by_and_by_and_what_stays_is_whole() {
    let place = tempfile::tempdir().unwrap();
    let store = CheckpointStore::new(&open(place.path()).unwrap());
    let mut given_back = Vec::new();
    for generation in 1..=3_u8 {
        let mut writer = store.begin(1).unwrap();
        let page = vec![generation; (150 << 20) + 7]; // no whole number of blocks
        writer.page(5, 10, &page).unwrap();
        let finished = writer.finish(1, b"extra").unwrap();
        given_back.clear();
        finished.publish_paced(&mut |bytes| given_back.push(bytes)).unwrap();
    }
    assert_eq!(given_back, [64 << 20, 128 << 20], "of the first generation, the rest with its name");
    assert_eq!(store.generations().unwrap(), [2, 3]);
    assert_eq!(std::fs::read_dir(place.path().join("checkpoints")).unwrap().count(), 2);
    for generation in store.generations().unwrap() {
        let loaded = store.load(generation).unwrap();
        let [page] = &loaded.pages[..] else { panic!("one page was written") };
        assert_eq!((page.bytes.len(), loaded.extra.as_slice()), ((150 << 20) + 7, &b"extra"[..]));
        assert!(page.bytes.iter().all(|byte| u64::from(*byte) == generation));
    }
}
