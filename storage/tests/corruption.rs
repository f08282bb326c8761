//! Damage anywhere: reported or refused, never silently lost, never a wrong value, never a panic.
#![allow(clippy::unwrap_used)]

mod support;

use std::ops::ControlFlow;
use std::sync::Arc;

use proptest::prelude::*;
use support::{append_sized, changed, copy, directory, make_room, open, options};
use tp_storage::{
    CheckpointError, CheckpointStore, DataDirectory, DirectoryError, Floor, Frame, Journal, MemoryDevice, Mending,
    RecoverError, SegmentJournal, TailReport, VerifyStatus, verify,
};

const LAST: u64 = 65;

/// Two lives, several segments, two checkpoints, closed in order.
fn whole() -> MemoryDevice {
    let device = MemoryDevice::new();
    for _ in 0..2 {
        let dir = directory(&device);
        let mut journal = open(&dir);
        for group in 0..7 {
            make_room(&mut journal);
            append_sized(&mut journal, 4 + group % 2, usize::try_from(group).unwrap() * 6000).unwrap();
        }
        let mut writer = CheckpointStore::new(&dir).begin(journal.epoch()).unwrap();
        for slot in 0..3 {
            writer
                .page(slot, journal.durable_seq(), &vec![u8::try_from(slot).unwrap() + 1; 300 + usize::from(slot)])
                .unwrap();
        }
        writer.finish(1500, b"digest").unwrap().publish().unwrap();
        let count = if journal.durable_seq() < 40 { 1 } else { 2 };
        append_sized(&mut journal, count, 10).unwrap();
        Box::new(journal).close(2000).unwrap();
    }
    device
}

/// How the damage showed; panics when it did not, or when something was lost.
fn judge(device: &MemoryDevice, context: &str) -> &'static str {
    let dir = match DataDirectory::open_read_only(Arc::new(device.clone())) {
        Ok(dir) => dir,
        Err(DirectoryError::Io { path, source }) => panic!("{context}: {path} {source}"),
        Err(_) => return "directory refused",
    };
    let mut next = 1;
    let mut on_frame = |frame: &Frame| {
        support::check_events(std::slice::from_ref(frame), next, frame.last_seq());
        next = frame.last_seq() + 1;
        ControlFlow::Continue(())
    };
    let mut on_checkpoint = |checkpoint: &tp_storage::Checkpoint| {
        for page in &checkpoint.pages {
            assert!(page.bytes.iter().all(|byte| u16::from(*byte) == page.slot + 1), "{context}: wrong page");
        }
        ControlFlow::Continue(())
    };
    let report = match verify(&dir, Mending::Report, &mut on_frame, &mut on_checkpoint) {
        Ok(report) => report,
        Err(error) => panic!("{context}: {error}"),
    };
    assert!(!report.problems.is_empty(), "{context}: not reported by verify");
    drop(dir);
    match recover_of(device) {
        Ok(recovered) => {
            assert_eq!(support::check_recovered(&recovered), LAST, "{context}: silently lost");
            if recovered.tail != TailReport::Clean || !recovered.notes.is_empty() {
                return "reported by recovery";
            }
            assert!(report.status >= VerifyStatus::TornTail, "{context}");
            "reported by verify" // a checkpoint, or bytes that recovery has no reason to read
        }
        Err(_) => "refused",
    }
}

fn recover_of(device: &MemoryDevice) -> Result<tp_storage::Recovered, RecoverError> {
    SegmentJournal::recover(&directory(device), options(), Floor::default(), 0)
}

fn files(device: &MemoryDevice) -> Vec<String> {
    device.paths().into_iter().filter(|path| path != "LOCK").collect()
}

/// Segments that a later epoch declared dead as a whole: nobody reads them, so damage there shows nowhere.
fn is_dead(device: &MemoryDevice, path: &str) -> bool {
    let segments: Vec<String> = files(device).into_iter().filter(|path| path.ends_with(".segment")).collect();
    segments.iter().any(|boot| {
        let bytes = device.contents(boot).unwrap();
        let number = |range: std::ops::Range<usize>| u64::from_le_bytes(bytes[range].try_into().unwrap());
        let is_boot = bytes[10] == 1 && number(112..120) != 0;
        let cut = format!("journal/{:012}.segment", number(112..120));
        is_boot && path > cut.as_str() && path < boot.as_str()
    })
}

#[test]
fn an_undamaged_directory_verifies() {
    let device = whole();
    let dir = DataDirectory::open_read_only(Arc::new(device.clone())).unwrap();
    let (mut frames, mut checkpoints) = (0, 0);
    let report = verify(
        &dir,
        Mending::Report,
        &mut |_| {
            frames += 1;
            ControlFlow::Continue(())
        },
        &mut |_| {
            checkpoints += 1;
            ControlFlow::Continue(())
        },
    )
    .unwrap();
    assert_eq!((report.status, report.problems), (VerifyStatus::Ok, Vec::new()));
    assert_eq!((report.frames, report.first_seq, report.last_seq, report.durable_seq), (16, 1, LAST, LAST));
    assert_eq!((frames, checkpoints, report.checkpoints), (16, 2, 2));
}

#[test]
fn a_flipped_bit_anywhere_is_reported_or_refused() {
    let device = whole();
    let mut seen = std::collections::BTreeMap::new();
    for path in files(&device) {
        let bytes = device.contents(&path).unwrap();
        let bits = bytes.len() * 8;
        // Every bit of the first 192 bytes of a block with data now and then, and a coarse walk through all the rest.
        let dense = (0..bits).step_by(8 * 4096).flat_map(|block| (block..block + 1536).step_by(61));
        let coarse = (0..bits).step_by(4099);
        for bit in dense.chain(coarse).filter(|bit| *bit < bits && !is_dead(&device, &path)) {
            let image = changed(&device, &path, |bytes| bytes[bit / 8] ^= 1 << (bit % 8));
            let how = judge(&image, &format!("bit {bit} of {path}"));
            *seen.entry(how).or_insert(0_u32) += 1;
        }
    }
    assert_eq!(seen.len(), 4, "every way of showing was seen: {seen:?}");
}

#[test]
fn zeroed_swapped_and_duplicated_blocks_are_reported_or_refused() {
    let device = whole();
    for path in files(&device) {
        let bytes = device.contents(&path).unwrap();
        let blocks = bytes.len() / 4096;
        for block in 0..blocks {
            let at = block * 4096;
            let other = (block + 1) % blocks * 4096;
            let (this, that) = (bytes[at..at + 4096].to_vec(), bytes[other..other + 4096].to_vec());
            if is_dead(&device, &path) {
                continue;
            }
            if this.iter().any(|byte| *byte != 0) {
                let image = changed(&device, &path, |bytes| bytes[at..at + 4096].fill(0));
                judge(&image, &format!("zeroed block {block} of {path}"));
            }
            if this != that {
                let image = changed(&device, &path, |bytes| {
                    bytes[at..at + 4096].copy_from_slice(&that);
                    bytes[other..other + 4096].copy_from_slice(&this);
                });
                judge(&image, &format!("swapped block {block} of {path}"));
                let image = changed(&device, &path, |bytes| bytes[other..other + 4096].copy_from_slice(&this));
                judge(&image, &format!("duplicated block {block} of {path}"));
            }
        }
    }
}

#[test]
fn a_truncated_or_lengthened_file_is_reported_or_refused() {
    let device = whole();
    for path in files(&device) {
        let bytes = device.contents(&path).unwrap();
        let spare = path.ends_with(".segment") && bytes.iter().all(|byte| *byte == 0);
        if spare || is_dead(&device, &path) {
            continue; // an unused spare of another length is simply not used
        }
        for length in (0..bytes.len()).step_by(509) {
            let image = changed(&device, &path, |bytes| bytes.truncate(length));
            judge(&image, &format!("{path} cut to {length}"));
        }
        let image = changed(&device, &path, |bytes| bytes.extend_from_slice(&[1; 16]));
        judge(&image, &format!("{path} lengthened"));
    }
}

#[test]
fn a_deleted_file_is_refused_unless_nothing_stands_on_it() {
    let device = whole();
    for path in files(&device) {
        let image = copy(&device);
        tp_storage::Device::remove(&image, &path).unwrap();
        let opened = DataDirectory::create_or_open(Arc::new(image.clone()), support::identity);
        let spare = device.contents(&path).unwrap().iter().all(|byte| *byte == 0);
        match opened {
            Err(DirectoryError::NotOurs { .. }) => assert_eq!(path, "identity"),
            Err(error) => panic!("{path}: {error}"),
            Ok(dir) => match SegmentJournal::recover(&dir, options(), Floor::default(), 0) {
                Ok(recovered) => {
                    assert_eq!(support::check_recovered(&recovered), LAST, "{path}");
                    assert!(spare || path.starts_with("checkpoints/"), "{path}");
                }
                Err(error) => {
                    let witness = matches!(error, RecoverError::Corrupt(_)) && path == "witness";
                    let segment = matches!(error, RecoverError::MissingSegment(_) | RecoverError::TailLost(_));
                    assert!(witness || segment, "{path}: {error}");
                }
            },
        }
    }
}

#[test]
fn a_damaged_checkpoint_is_refused_and_the_one_before_serves() {
    let device = whole();
    let names: Vec<String> = files(&device).into_iter().filter(|path| path.ends_with(".checkpoint")).collect();
    let newest = names.last().unwrap();
    let length = device.contents(newest).unwrap().len();
    for bit in (0..length * 8).step_by(101) {
        let image = changed(&device, newest, |bytes| bytes[bit / 8] ^= 1 << (bit % 8));
        let store = CheckpointStore::new(&directory(&image));
        let generations = store.generations().unwrap();
        let refused = store.load(generations[1]);
        assert!(
            matches!(refused, Err(CheckpointError::Corrupt(_))),
            "bit {bit}: {:?}",
            refused.map(|checkpoint| checkpoint.pages.len())
        );
        assert_eq!(store.load(generations[0]).unwrap().pages.len(), 3);
    }
}

#[test]
fn a_reader_of_a_damaged_segment_never_hands_out_wrong_bytes() {
    let device = whole();
    for path in files(&device).into_iter().filter(|path| path.ends_with(".segment")) {
        let bytes = device.contents(&path).unwrap();
        for at in (0..bytes.len()).step_by(1021).filter(|_| !is_dead(&device, &path)) {
            // Damage that comes after the scan: the reader meets it first.
            let image = copy(&device);
            let dir = directory(&image);
            let recovered = SegmentJournal::recover(&dir, options(), Floor::default(), 0).unwrap();
            let mut damaged = bytes.clone();
            damaged[at] ^= 0x10;
            image.plant(&path, &damaged);
            let mut reader = recovered.frames(1).unwrap();
            let mut next = 1;
            while let Ok(Some(frame)) = reader.next(LAST) {
                support::check_events(std::slice::from_ref(&frame), next, frame.last_seq());
                next = frame.last_seq() + 1;
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn random_bytes_in_any_file_never_panic(seed in any::<u64>(), at in 0_usize..40_000, noise in prop::collection::vec(any::<u8>(), 1..700)) {
        let device = whole();
        let paths = files(&device);
        let path = &paths[usize::try_from(seed % paths.len() as u64).unwrap()];
        let image = changed(&device, path, |bytes| {
            let at = at % bytes.len();
            let end = bytes.len().min(at + noise.len());
            bytes[at..end].copy_from_slice(&noise[..end - at]);
        });
        if let Ok(dir) = DataDirectory::open_read_only(Arc::new(image.clone())) {
            let _ = verify(&dir, Mending::Report, &mut |_| ControlFlow::Continue(()), &mut |_| ControlFlow::Continue(()));
            if let Ok(dir) = DataDirectory::create_or_open(Arc::new(image), support::identity)
                && let Ok(recovered) = SegmentJournal::recover(&dir, options(), Floor::default(), 0)
            {
                prop_assert_eq!(support::check_recovered(&recovered), LAST);
            }
        }
    }
}
