//! Measures the journal: CPU of appending (on a device that keeps nothing), durable appends and recovery on a real disk.
//!
//! `cargo run --release -p tp-storage --example measure -- DIRECTORY` (an empty or new one; it is left in place).
#![allow(clippy::print_stdout, clippy::cast_precision_loss)]

use std::error::Error;
use std::io;
use std::sync::Arc;
use std::time::Instant;

use tp_storage::{
    DataDirectory, Device, DeviceFile, DiskDevice, Floor, FrameInput, Identity, Journal, JournalOptions, MemoryDevice,
    OpenMode, Recovered, SegmentJournal,
};

const GROUP: u32 = 300;
const EVENT: [u8; 152] = [0x5a; 152];

fn main() -> Result<(), Box<dyn Error>> {
    let place = std::env::args().nth(1).ok_or("usage: measure DIRECTORY")?;
    let nowhere = directory(Arc::new(NowhereDevice { memory: MemoryDevice::new() }))?;
    report("append, CPU only", &mut open(&nowhere)?, 1_300)?; // within the first segment: nothing is rolled over
    let disk = directory(Arc::new(DiskDevice::new(place)))?;
    report("append, durable on disk", &mut open(&disk)?, 4_000)?;
    let started = Instant::now();
    let recovered = recover(&disk)?;
    let scan = started.elapsed();
    let started = Instant::now();
    let (mut reader, mut frames, mut bytes) = (recovered.frames(1)?, 0_u64, 0_usize);
    while let Some(frame) = reader.next(recovered.last_seq)? {
        frames += 1;
        bytes += frame.payload().len();
    }
    let replay = started.elapsed();
    assert_eq!(frames, recovered.last_seq / u64::from(GROUP), "every frame came back");
    let megabytes = bytes as f64 / 1e6;
    println!("recovery scan, past the cache: {:.0} MB/s", megabytes / scan.as_secs_f64());
    println!(
        "replay read: {:.0} MB/s, {:.1} M events/s",
        megabytes / replay.as_secs_f64(),
        recovered.last_seq as f64 / 1e6 / replay.as_secs_f64()
    );
    let started = Instant::now();
    drop(recovered.open()?);
    println!("new epoch (segment of 64 MiB, boot frame, witness): {:.0} ms", started.elapsed().as_secs_f64() * 1e3);
    Ok(())
}

fn directory(device: Arc<dyn Device>) -> Result<DataDirectory, Box<dyn Error>> {
    Ok(DataDirectory::create_or_open(device, || Identity { engine_id: 1, parameters: Vec::new() })?)
}

fn recover(dir: &DataDirectory) -> Result<Recovered, Box<dyn Error>> {
    Ok(SegmentJournal::recover(dir, JournalOptions::default(), Floor::default(), 0)?)
}

fn open(dir: &DataDirectory) -> Result<SegmentJournal, Box<dyn Error>> {
    Ok(recover(dir)?.open()?)
}

fn report(what: &str, journal: &mut SegmentJournal, groups: u32) -> Result<(), Box<dyn Error>> {
    let parts: Vec<&[u8]> = (0..GROUP).map(|_| EVENT.as_slice()).collect();
    let (mut latencies, started) = (Vec::new(), Instant::now());
    let mut room = std::time::Duration::ZERO;
    for group in 0..groups {
        let first_seq = journal.durable_seq() + 1;
        let time = u64::from(group);
        let begun = Instant::now();
        journal.append(&FrameInput { first_seq, count: GROUP, time_min: time, time_max: time, parts: &parts })?;
        latencies.push(begun.elapsed());
        let begun = Instant::now();
        if let Some(task) = journal.room_task().filter(|_| what.contains("disk")) {
            let done = task();
            journal.room_done(done);
            room += begun.elapsed();
        }
    }
    let seconds = started.elapsed().saturating_sub(room).as_secs_f64();
    latencies.sort();
    let events = f64::from(groups) * f64::from(GROUP);
    println!(
        "{what}: {:.2} M events/s, group of {GROUP}: median {:?}, p99 {:?}; spare segments took {:?} in all",
        events / 1e6 / seconds,
        latencies[latencies.len() / 2],
        latencies[latencies.len() * 99 / 100],
        room
    );
    Ok(())
}

/// A device whose files take writes and syncs and keep nothing in segments; names and small files live in memory.
struct NowhereDevice {
    memory: MemoryDevice,
}

struct NowhereFile;

impl Device for NowhereDevice {
    fn open(&self, path: &str, mode: OpenMode) -> io::Result<Arc<dyn DeviceFile>> {
        let file = self.memory.open(path, mode)?;
        Ok(if path.starts_with("journal/") { Arc::new(NowhereFile) } else { file })
    }
    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        self.memory.rename(from, to)
    }
    fn remove(&self, path: &str) -> io::Result<()> {
        self.memory.remove(path)
    }
    fn list(&self, dir: &str) -> io::Result<Vec<String>> {
        self.memory.list(dir)
    }
    fn create_dir(&self, dir: &str) -> io::Result<()> {
        self.memory.create_dir(dir)
    }
    fn sync_dir(&self, dir: &str) -> io::Result<()> {
        self.memory.sync_dir(dir)
    }
    fn lock_exclusive(&self, path: &str) -> io::Result<Option<Box<dyn Send + Sync>>> {
        self.memory.lock_exclusive(path)
    }
    fn lock_is_held(&self, path: &str) -> io::Result<bool> {
        self.memory.lock_is_held(path)
    }
    fn display(&self, path: &str) -> String {
        self.memory.display(path)
    }
}

impl DeviceFile for NowhereFile {
    fn read_at(&self, _buffer: &mut [u8], _offset: u64) -> io::Result<usize> {
        Ok(0)
    }
    fn write_all_at(&self, _bytes: &[u8], _offset: u64) -> io::Result<()> {
        Ok(())
    }
    fn size(&self) -> io::Result<u64> {
        Ok(JournalOptions::default().segment_bytes)
    }
    fn allocate(&self, _len: u64) -> io::Result<()> {
        Ok(())
    }
    fn sync_data(&self) -> io::Result<()> {
        Ok(())
    }
    fn sync_all(&self) -> io::Result<()> {
        Ok(())
    }
    fn forget_cache(&self) -> io::Result<()> {
        Ok(())
    }
}
