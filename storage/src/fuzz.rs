//! Fuzz targets of every parser of this crate: no bytes panic, hang or bloat, and what is taken in is valid (P12).
//!
//! One file a target; how to run a fuzzer on them: `docs/src/fuzzing.md`. Every format ends with checksums that a mutated input
//! never meets, so that targets read each input twice: as it is, and with its checksums mended (`mend.rs`).

mod checkpoint;
mod entries;
mod frame;
mod identity;
mod journal;
mod mend;
mod witness;

use std::sync::Arc;

use crate::{DataDirectory, FrameInput, Identity, Journal, MemoryDevice};

const ENGINE: u128 = 0x0102_0304_0506_0708_090a_0b0c_0d0e_0f10;

fn directory(device: &MemoryDevice) -> DataDirectory {
    let identity = || Identity { engine_id: ENGINE, parameters: b"parameters".to_vec() };
    DataDirectory::create_or_open(Arc::new(device.clone()), identity).expect("a directory")
}

/// Appends one frame of `count` events with a payload of so many bytes, at times from 1000 on.
fn append(journal: &mut dyn Journal, count: u32, bytes: usize) {
    if let Some(task) = journal.room_task() {
        journal.room_done(task());
    }
    let first_seq = journal.durable_seq() + 1;
    let payload: Vec<u8> = (0..bytes).map(|at| u8::try_from(at % 251).expect("below 251") | 1).collect();
    let time = journal.last_time().max(1000);
    let parts: [&[u8]; 1] = [&payload];
    let time_max = time.saturating_add(u64::from(count));
    let frame = FrameInput { first_seq, count, time_min: time, time_max, parts: &parts };
    journal.append(&frame).expect("a frame is appended");
}

/// Without the zeros at the end: targets fill up to whole blocks.
fn trimmed(bytes: &[u8]) -> Vec<u8> {
    bytes[..bytes.iter().rposition(|byte| *byte != 0).map_or(0, |last| last + 1)].to_vec()
}
