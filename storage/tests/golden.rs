//! The bytes of every file, frozen: what is written today must not change, and what was written must stay readable.
//!
//! The files in `tests/golden/` hold the bytes as hexadecimal lines of 16, without trailing zeros. A format change makes
//! a new version and a new file; it never edits an old one. To write files that do not exist yet: `TPCORE_BLESS=1`.
#![allow(clippy::unwrap_used)]

mod support;

use std::fmt::Write as _;
use std::path::PathBuf;
use std::sync::Arc;

use support::{append_sized, directory, make_room};
use tp_storage::{
    CheckpointStore, DataDirectory, Floor, Journal, JournalOptions, MemoryDevice, SegmentJournal, TailReport,
};

const FILES: [(&str, &str); 5] = [
    ("identity", "identity.v1.hex"),
    ("witness", "witness.v1.hex"),
    ("journal/000000000001.segment", "segment.v1.hex"),
    ("journal/000000000003.segment", "segment-second-epoch.v1.hex"),
    ("checkpoints/00000000000000000001.checkpoint", "checkpoint.v1.hex"),
];

fn golden_path(name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/golden").join(name)
}

fn hex(bytes: &[u8]) -> String {
    let used = bytes.iter().rposition(|byte| *byte != 0).map_or(0, |last| last + 1);
    let mut text = format!("{} bytes\n", bytes.len());
    for (row, line) in bytes[..used].chunks(16).enumerate() {
        if line.iter().any(|byte| *byte != 0) {
            write!(text, "{:06x}:", row * 16).unwrap();
            for byte in line {
                write!(text, " {byte:02x}").unwrap();
            }
            text.push('\n');
        }
    }
    text
}

fn unhex(text: &str) -> Vec<u8> {
    let (length, rows) = text.split_once(" bytes\n").unwrap();
    let mut bytes = vec![0; length.parse().unwrap()];
    for row in rows.lines() {
        let (offset, values) = row.split_once(':').unwrap();
        let offset = usize::from_str_radix(offset, 16).unwrap();
        for (index, value) in values.split_whitespace().enumerate() {
            bytes[offset + index] = u8::from_str_radix(value, 16).unwrap();
        }
    }
    bytes
}

fn options() -> JournalOptions {
    JournalOptions::with_segment_bytes(32 * 1024)
}

/// The scripted directory: two frames and a seal, a checkpoint, a second life.
fn script() -> MemoryDevice {
    let device = MemoryDevice::new();
    let dir = directory(&device);
    let mut journal = SegmentJournal::recover(&dir, options(), Floor::default(), 0).unwrap().open().unwrap();
    append_sized(&mut journal, 2, 0).unwrap();
    append_sized(&mut journal, 1, 5000).unwrap();
    make_room(&mut journal);
    let mut writer = CheckpointStore::new(&dir).begin(journal.epoch()).unwrap();
    writer.page(7, 3, b"a page of slot 7").unwrap();
    writer.page(9, 2, b"odd").unwrap();
    writer.finish(1234, b"extra").unwrap().publish().unwrap();
    Box::new(journal).close(1500).unwrap();
    let again = SegmentJournal::recover(&dir, options(), Floor::default(), 0).unwrap().open().unwrap();
    drop(again);
    device
}

#[test]
fn every_file_is_written_as_its_golden_bytes_say() {
    let device = script();
    for (path, name) in FILES {
        let written = hex(&device.contents(path).unwrap());
        let golden = golden_path(name);
        if std::env::var_os("TPCORE_BLESS").is_some() && !golden.exists() {
            std::fs::write(&golden, &written).unwrap();
        }
        assert_eq!(written, std::fs::read_to_string(&golden).unwrap(), "{path} differs from {name}");
    }
}

#[test]
fn the_golden_bytes_of_version_one_stay_readable() {
    let device = MemoryDevice::new();
    for dir in ["", "journal", "checkpoints"] {
        tp_storage::Device::create_dir(&device, dir).unwrap();
    }
    for (path, name) in FILES {
        device.plant(path, &unhex(&std::fs::read_to_string(golden_path(name)).unwrap()));
    }
    let dir = DataDirectory::create_or_open(Arc::new(device), || unreachable!("the identity is there")).unwrap();
    assert_eq!((dir.engine_id(), dir.parameters()), (support::ENGINE, b"parameters".as_slice()));
    let recovered = SegmentJournal::recover(&dir, options(), Floor::default(), 0).unwrap();
    assert_eq!((recovered.last_seq, recovered.last_time, recovered.epoch_last()), (3, 1500, 2));
    assert_eq!((&recovered.tail, recovered.notes.len()), (&TailReport::Clean, 0));
    assert_eq!(support::check_recovered(&recovered), 3);
    let checkpoint = CheckpointStore::new(&dir).load(1).unwrap();
    assert_eq!((checkpoint.time, checkpoint.epoch, checkpoint.extra.as_slice()), (1234, 1, b"extra".as_slice()));
    assert_eq!((checkpoint.as_of_min, checkpoint.as_of_max), (2, 3));
    assert_eq!((checkpoint.pages[1].slot, &*checkpoint.pages[1].bytes), (9, b"odd".as_slice()));
}
