//! A directory and its mirror on one disk in memory, whose power is cut for both at once.

use std::collections::BTreeSet;
use std::ops::ControlFlow;
use std::sync::Arc;

use tp_storage::{
    DataDirectory, Device, DirectoryError, EmptyDirectory, Floor, FolderDevice, Journal, JournalOptions, MemoryDevice,
    Mending, MirrorSync, RecoverError, Recovered, SegmentJournal, VerifyReport, VerifyStatus, verify,
};

use super::{append, append_sized, check_recovered, identity, make_room};

pub const COPIES: [&str; 2] = ["data", "mirror"];
pub const SEGMENT: u64 = 32 * 1024;

pub fn options() -> JournalOptions {
    JournalOptions { mirror_sync: MirrorSync::InTurn, ..JournalOptions::with_segment_bytes(SEGMENT) }
}

pub fn folder(device: &MemoryDevice, copy: &str) -> Arc<dyn Device> {
    Arc::new(FolderDevice::new(Arc::new(device.clone()), copy))
}

pub fn try_directory(device: &MemoryDevice) -> Result<DataDirectory, DirectoryError> {
    DataDirectory::create_or_open_mirrored(
        folder(device, "data"),
        folder(device, "mirror"),
        EmptyDirectory::FromMirror,
        identity,
    )
}

pub fn directory(device: &MemoryDevice) -> DataDirectory {
    try_directory(device).unwrap()
}

/// One of the two by itself.
pub fn alone(device: &MemoryDevice, copy: &str) -> DataDirectory {
    DataDirectory::create_or_open(folder(device, copy), identity).unwrap()
}

pub fn recover(dir: &DataDirectory) -> Result<Recovered, RecoverError> {
    SegmentJournal::recover(dir, options(), Floor::default(), 0)
}

pub fn open(dir: &DataDirectory) -> SegmentJournal {
    recover(dir).unwrap().open().unwrap()
}

/// Two runs over several segments, closed in order.
pub fn history(dir: &DataDirectory) -> u64 {
    let mut last = 0;
    for _ in 0..2 {
        let mut journal = open(dir);
        for group in 0..8 {
            make_room(&mut journal);
            last = append_sized(&mut journal, 3, group * 1500).unwrap();
            if group % 3 == 1 {
                journal.seal(2000).unwrap();
            }
        }
        Box::new(journal).close(3000).unwrap();
    }
    last
}

pub fn mirrored() -> (MemoryDevice, u64) {
    let device = MemoryDevice::new();
    let last = history(&directory(&device));
    (device, last)
}

pub fn look(device: &MemoryDevice, mending: Mending) -> VerifyReport {
    let dir = directory(device);
    verify(&dir, mending, &mut |_| ControlFlow::Continue(()), &mut |_| ControlFlow::Continue(())).unwrap()
}

pub fn segments(device: &MemoryDevice, copy: &str) -> Vec<String> {
    let prefix = format!("{copy}/journal/");
    let paths = device.paths().into_iter().filter_map(|path| path.strip_prefix(&prefix).map(str::to_owned));
    paths.filter(|name| name.ends_with(".segment")).collect()
}

/// All segments with frames hold the same bytes in both copies.
pub fn assert_alike(device: &MemoryDevice, context: &str) {
    let names: BTreeSet<String> = COPIES.iter().flat_map(|copy| segments(device, copy)).collect();
    for name in names {
        let [data, mirror] = COPIES.map(|copy| device.contents(&format!("{copy}/journal/{name}")));
        let is_empty = |bytes: &Option<Vec<u8>>| bytes.as_ref().is_none_or(|bytes| bytes[..64].iter().all(|b| *b == 0));
        assert!(data == mirror || is_empty(&data) && is_empty(&mirror), "{context}: {name}");
    }
}

pub fn change(device: &MemoryDevice, path: &str, change: impl FnOnce(&mut Vec<u8>)) {
    let mut bytes = device.contents(path).unwrap();
    change(&mut bytes);
    device.plant(path, &bytes);
}

/// Recovers with both copies; everything is there, goes on, and the copies are alike.
pub fn assert_whole(device: &MemoryDevice, last: u64, context: &str) {
    let dir = try_directory(device).unwrap_or_else(|error| panic!("{context}: {error}"));
    let recovered = recover(&dir).unwrap_or_else(|error| panic!("{context}: {error}"));
    assert_eq!(recovered.last_seq, last, "{context}");
    check_recovered(&recovered);
    let mut journal = recovered.open().unwrap_or_else(|error| panic!("{context}: {error}"));
    make_room(&mut journal);
    assert_eq!(append(&mut journal, 5).unwrap(), last + 5, "{context}");
    drop((journal, dir));
    // What stands where nothing was ever written, in the middle of the journal, is no business of a start.
    let report = look(device, Mending::Rebuild);
    assert!(report.repaired.iter().all(|problem| problem.what.contains("no event is concerned")), "{context}");
    assert_alike(device, context);
    let report = look(device, Mending::Report);
    assert_eq!((report.status, report.last_seq), (VerifyStatus::Ok, last + 5), "{context}: {:?}", report.problems);
}
