//! The journal: building frames and their checksums, and durable appends by group size and kind of journal.
//!
//! One iteration is one group, of 1 to 512 events of 144 bytes each (what an authorization takes).
//!
//! - `checksum`: CRC-32C alone over the blocks that such a group fills: the floor of what building a frame can cost.
//! - `frame`: an append to the segment journal on a device that takes writes and syncs and keeps nothing: layout, copy,
//!   checksums, book-keeping. (Building a frame is not public by itself.)
//! - `append`: a real append, to its `fdatasync` (segment, sled), below `TPCORE_BENCH_DIR` or the temporary directory: **look at
//!   the file system**, a temporary directory in memory syncs nothing. Spare segments are made outside the timed part, as
//!   another thread makes them in the engine. Journals are made anew after 512 MiB.
//!
//! Verified: every append returns the group's last number, and the groups of each sample's end are read back byte for byte.

mod common;

use std::hint::black_box;
use std::io;
use std::sync::Arc;
use std::time::{Duration, Instant};

use criterion::{BenchmarkId, Criterion, SamplingMode, Throughput};
use tempfile::TempDir;
use tp_benches::make::Random;
use tp_benches::place::{self, is_smoke, scale};
use tp_storage::{
    DataDirectory, Device, DeviceFile, DiskDevice, Floor, FrameInput, Identity, Journal, JournalOptions, MemoryDevice,
    MemoryJournal, OpenMode, SegmentJournal, SledJournal,
};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

const GROUPS: [usize; 4] = [1, 16, 128, 512];
const EVENT_BYTES: usize = 144;
const BLOCK_BYTES: usize = tp_storage::BLOCK_BYTES;
/// Bytes of a journal after which it is made anew.
const BYTES_MAX: u64 = 512 << 20;
/// So many groups of the end of a sample are read back.
const READ_BACK: u64 = 16;

fn main() {
    let mut criterion = common::criterion(Duration::from_millis(1500), 20);
    let events = events();
    checksum(&mut criterion, &events);
    appends(&mut criterion, "frame", &[("segment", nowhere)], &events);
    let kinds: [(&str, Make); 3] = [("segment", segment), ("sled", sled), ("memory", memory)];
    appends(&mut criterion, "append", &kinds, &events);
    criterion.final_summary();
}

/// As many different events as the largest group has: bytes without a pattern.
fn events() -> Vec<[u8; EVENT_BYTES]> {
    let mut random = Random(3);
    let most = GROUPS.into_iter().max().unwrap_or(1);
    (0..most).map(|_| std::array::from_fn(|_| random.draw().to_le_bytes()[0])).collect()
}

fn checksum(criterion: &mut Criterion, events: &[[u8; EVENT_BYTES]]) {
    let mut group = criterion.benchmark_group("checksum");
    for size in GROUPS {
        let mut bytes: Vec<u8> = events[..size].concat();
        bytes.resize(bytes.len().next_multiple_of(BLOCK_BYTES), 0);
        let whole = crc32c::crc32c(&bytes);
        group.throughput(Throughput::Bytes(bytes.len() as u64));
        group.bench_function(BenchmarkId::new("blocks", size), |b| {
            b.iter(|| bytes.chunks(BLOCK_BYTES).map(|block| crc32c::crc32c(black_box(block))).fold(0, |a, b| a ^ b));
            let chained = bytes.chunks(BLOCK_BYTES).fold(0, crc32c::crc32c_append);
            assert_eq!(chained, whole, "block by block as in one");
        });
    }
    group.finish();
}

// --- journals ---

/// A journal, and where its bytes lie.
struct Place {
    journal: Box<dyn Journal>,
    /// Whether it keeps what it is given.
    keeps: bool,
    appended_bytes: u64,
    _held: (Option<DataDirectory>, Option<TempDir>),
}

type Make = fn() -> Place;

fn options() -> JournalOptions {
    JournalOptions::with_segment_bytes(if is_smoke() { 1 << 20 } else { 64 << 20 })
}

fn place(journal: impl Journal + 'static, dir: Option<DataDirectory>, temporary: Option<TempDir>) -> Place {
    Place { journal: Box::new(journal), keeps: true, appended_bytes: 0, _held: (dir, temporary) }
}

fn segment_on(device: Arc<dyn Device>) -> (SegmentJournal, DataDirectory) {
    let identity = || Identity { engine_id: 1, parameters: Vec::new() };
    let dir = DataDirectory::create_or_open(device, identity).expect("a directory of our own");
    let recovered = SegmentJournal::recover(&dir, options(), Floor::default(), 0).expect("an empty journal");
    (recovered.open().expect("space for a segment"), dir)
}

fn segment() -> Place {
    let temporary = place::directory().expect("a place to write");
    let (journal, dir) = segment_on(Arc::new(DiskDevice::new(temporary.path())));
    place(journal, Some(dir), Some(temporary))
}

fn nowhere() -> Place {
    let (journal, dir) = segment_on(Arc::new(NowhereDevice { memory: MemoryDevice::new() }));
    Place { keeps: false, ..place(journal, Some(dir), None) }
}

fn sled() -> Place {
    let temporary = place::directory().expect("a place to write");
    let journal = SledJournal::open(temporary.path().join("journal"), 1, &Floor::default()).expect("an empty journal");
    place(journal, None, Some(temporary))
}

fn memory() -> Place {
    place(MemoryJournal::new(), None, None)
}

fn appends(criterion: &mut Criterion, name: &str, kinds: &[(&str, Make)], events: &[[u8; EVENT_BYTES]]) {
    let mut group = criterion.benchmark_group(name);
    group.sampling_mode(SamplingMode::Flat);
    for (kind, make) in kinds {
        for size in GROUPS {
            let parts: Vec<&[u8]> = events[..size].iter().map(<[u8; EVENT_BYTES]>::as_slice).collect();
            let mut kept = None;
            group.throughput(Throughput::Elements(size as u64));
            group.bench_function(BenchmarkId::new(*kind, size), |b| {
                grown_anew(&mut kept, *make);
                b.iter_custom(|iters| measure(&mut kept, *make, &parts, iters));
            });
        }
    }
    group.finish();
}

/// The journal kept, unless it has grown too large. Also called before criterion's clock runs: making a journal takes as long as
/// many appends, and criterion plans its samples by the first ones.
fn grown_anew(kept: &mut Option<Place>, make: Make) -> &mut Place {
    if kept.as_ref().is_none_or(|place| place.appended_bytes >= BYTES_MAX) {
        *kept = None; // its directory goes first
    }
    kept.get_or_insert_with(make)
}

/// The time that so many appends take.
fn measure(kept: &mut Option<Place>, make: Make, parts: &[&[u8]], iters: u64) -> Duration {
    let count = u32::try_from(parts.len()).expect("a group is small");
    let group_bytes = (parts.len() * EVENT_BYTES) as u64;
    let mut took = Duration::ZERO;
    for _ in 0..iters.max(scale(0, 3)) {
        let place = grown_anew(kept, make);
        let journal = &mut place.journal;
        if let Some(task) = journal.room_task() {
            journal.room_done(task());
        }
        let first_seq = journal.durable_seq() + 1;
        let frame = FrameInput { first_seq, count, time_min: first_seq, time_max: first_seq, parts };
        let start = Instant::now();
        let durable = journal.append(&frame);
        took += start.elapsed();
        let last = first_seq + u64::from(count) - 1;
        assert_eq!(durable.expect("the disk takes it"), last, "DUR-1: all of the group is durable");
        assert_eq!(journal.durable_seq(), last);
        place.appended_bytes += group_bytes.next_multiple_of(BLOCK_BYTES as u64);
    }
    kept.iter().filter(|place| place.keeps).for_each(|place| read_back(place, parts));
    took
}

/// The last groups are what was appended.
fn read_back(place: &Place, parts: &[&[u8]]) {
    let (last, size) = (place.journal.durable_seq(), parts.len() as u64);
    let groups = (last / size).min(READ_BACK);
    let mut reader = place.journal.source().read_from(last + 1 - groups * size).expect("the journal is readable");
    let expected = parts.concat();
    for _ in 0..groups {
        let frame = reader.next(last).expect("the journal is readable").expect("it is durable");
        assert_eq!(frame.payload(), expected, "the bytes that were appended");
    }
    assert!(reader.next(last).expect("the journal is readable").is_none(), "and nothing else");
}

// --- a device that keeps nothing ---

/// Takes writes and syncs of segments and keeps nothing; names and small files live in memory.
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
    fn write_all_at(&self, bytes: &[u8], _offset: u64) -> io::Result<()> {
        black_box(bytes);
        Ok(())
    }
    fn size(&self) -> io::Result<u64> {
        Ok(options().segment_bytes)
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
