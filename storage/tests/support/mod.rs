//! Shared by the storage tests: directories, scripted payloads, and reading a whole journal back.
#![allow(dead_code, missing_docs, unreachable_pub, clippy::unwrap_used)] // each test binary uses its own part

pub mod mirrored;

use std::sync::Arc;

use tp_storage::{
    DataDirectory, Device, Floor, Frame, FrameInput, FrameSource, Identity, Journal, JournalError, JournalOptions,
    MemoryDevice, RecoverError, Recovered, SegmentJournal,
};

pub const ENGINE: u128 = 0x0102_0304_0506_0708_090a_0b0c_0d0e_0f10;
pub const SMALL: u64 = 64 * 1024;

pub fn identity() -> Identity {
    Identity { engine_id: ENGINE, parameters: b"parameters".to_vec() }
}

pub fn directory(device: &MemoryDevice) -> DataDirectory {
    DataDirectory::create_or_open(Arc::new(device.clone()), identity).unwrap()
}

pub fn directory_on(device: Arc<dyn Device>) -> DataDirectory {
    DataDirectory::create_or_open(device, identity).unwrap()
}

pub fn options() -> JournalOptions {
    JournalOptions::with_segment_bytes(SMALL)
}

pub fn recover(dir: &DataDirectory) -> Result<Recovered, RecoverError> {
    SegmentJournal::recover(dir, options(), Floor::default(), 0)
}

pub fn open(dir: &DataDirectory) -> SegmentJournal {
    recover(dir).unwrap().open().unwrap()
}

/// The payload of the event with this number: its length varies, its bytes depend on it.
pub fn event(seq: u64) -> Vec<u8> {
    let length = 16 * (1 + usize::try_from(seq * 7 % 23).unwrap());
    (0..length).map(|at| (seq.wrapping_mul(31).wrapping_add(at as u64 * 7) % 251) as u8 | 1).collect()
}

/// Appends `count` events, each a part of its own, at times `1000 + seq`.
pub fn append(journal: &mut dyn Journal, count: u32) -> Result<u64, JournalError> {
    append_sized(journal, count, 0)
}

/// The same, with `extra` bytes more.
pub fn append_sized(journal: &mut dyn Journal, count: u32, extra: usize) -> Result<u64, JournalError> {
    let first_seq = journal.durable_seq() + 1;
    let last = first_seq + u64::from(count) - 1;
    let mut events: Vec<Vec<u8>> = (first_seq..=last).map(event).collect();
    events.push(vec![0x5a; extra]);
    let parts: Vec<&[u8]> = events.iter().map(Vec::as_slice).collect();
    journal.append(&FrameInput { first_seq, count, time_min: 1000 + first_seq, time_max: 1000 + last, parts: &parts })
}

/// Makes room when the journal has no spare, as another thread would.
pub fn make_room(journal: &mut dyn Journal) {
    if let Some(task) = journal.room_task() {
        let done = task();
        journal.room_done(done);
    }
}

/// All frames from `from` to `up_to`.
pub fn read_all(source: &dyn FrameSource, from: u64, up_to: u64) -> Vec<Frame> {
    let mut reader = source.read_from(from).unwrap();
    std::iter::from_fn(|| reader.next(up_to).unwrap()).collect()
}

/// Asserts that the frames hold exactly the scripted events `first..=last`, in order; extra bytes are allowed.
pub fn check_events(frames: &[Frame], first: u64, last: u64) {
    let mut next = first;
    for frame in frames {
        assert_eq!(frame.first_seq, next, "frames are gapless");
        assert_eq!(frame.payload().as_ptr() as usize % 16, 0, "payloads are aligned");
        let mut payload = frame.payload();
        for seq in frame.first_seq..=frame.last_seq() {
            let expected = event(seq);
            assert!(payload.starts_with(&expected), "event {seq} reads back");
            payload = &payload[expected.len()..];
        }
        assert!(payload.iter().all(|byte| *byte == 0x5a));
        next = frame.last_seq() + 1;
    }
    assert_eq!(next, last + 1, "all events read back");
}

/// A journal of one epoch with a boot frame and these groups, each a frame; not sealed, no witness after the boot.
pub fn journal_of(device: &MemoryDevice, groups: &[(u32, usize)]) -> SegmentJournal {
    let mut journal = open(&directory(device));
    for &(count, extra) in groups {
        make_room(&mut journal);
        append_sized(&mut journal, count, extra).unwrap();
    }
    journal
}

/// A copy of the device, as it is.
pub fn copy(device: &MemoryDevice) -> MemoryDevice {
    device.crash(tp_storage::CrashMode::KeepAll)
}

/// A copy of the device with one file changed.
pub fn changed(device: &MemoryDevice, path: &str, change: impl FnOnce(&mut Vec<u8>)) -> MemoryDevice {
    let copy = copy(device);
    let mut bytes = copy.contents(path).unwrap();
    change(&mut bytes);
    copy.plant(path, &bytes);
    copy
}

/// Events of a recovered journal, checked; returns the last sequence number.
pub fn check_recovered(recovered: &Recovered) -> u64 {
    check_events(&read_all(&*recovered.source(), 1, recovered.last_seq), 1, recovered.last_seq);
    recovered.last_seq
}

/// Checks the journal of a directory that another process left, and goes on with it.
pub fn check_goes_on(dir: &DataDirectory, recovered: Recovered) {
    let before = check_recovered(&recovered);
    let mut journal = recovered.open().unwrap();
    make_room(&mut journal);
    append(&mut journal, 5).unwrap();
    drop(journal);
    let again = recover(dir).unwrap();
    assert_eq!(check_recovered(&again), before + 5);
}
