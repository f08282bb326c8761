//! A device whose syncs take the time that a pace says: slow and stalling disks on demand.
//!
//! Owns the counting of what a sync has to bring to the medium, and [`Throttle`], the pace of real time. Refuses to change
//! anything else: every call reaches the device below, in its order. A sync is held *before* it is handed down, so that nothing is
//! durable below while it waits (DUR-1 is tested against exactly this).
//!
//! ```text
//!  write ------------------------------> device below        past the cache: after Pace::transfer(bytes)
//!  sync --> Pace::wait(bytes written) --> device below
//! ```
//!
//! Space that is allocated ahead costs nothing here, though it is written on real disks.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use parking_lot::Mutex;

use crate::device::{Device, DeviceFile, OpenMode};

/// Says how long a sync takes.
pub trait Pace: Send + Sync {
    /// Returns when a medium would have taken `bytes`: what was written to that file since its last sync.
    fn wait(&self, bytes: u64);

    /// Returns when a medium would have taken `bytes` that are written past the page cache. By default at once.
    fn transfer(&self, bytes: u64) {
        let _ = bytes;
    }
}

/// Another device, at a pace.
pub struct PacedDevice {
    below: Arc<dyn Device>,
    pace: Arc<dyn Pace>,
}

impl PacedDevice {
    /// Holds every sync of `below` for as long as `pace` says.
    pub fn new(below: Arc<dyn Device>, pace: Arc<dyn Pace>) -> Self {
        Self { below, pace }
    }
}

impl Device for PacedDevice {
    fn open(&self, path: &str, mode: OpenMode) -> io::Result<Arc<dyn DeviceFile>> {
        let below = self.below.open(path, mode)?;
        let pace = Arc::clone(&self.pace);
        Ok(Arc::new(PacedFile { below, pace, unsynced_bytes: AtomicU64::new(0), passes_cache: AtomicBool::new(false) }))
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        self.below.rename(from, to)
    }

    fn remove(&self, path: &str) -> io::Result<()> {
        self.below.remove(path)
    }

    fn list(&self, dir: &str) -> io::Result<Vec<String>> {
        self.below.list(dir)
    }

    fn create_dir(&self, dir: &str) -> io::Result<()> {
        self.below.create_dir(dir)
    }

    fn sync_dir(&self, dir: &str) -> io::Result<()> {
        self.pace.wait(0);
        self.below.sync_dir(dir)
    }

    fn lock_exclusive(&self, path: &str) -> io::Result<Option<Box<dyn Send + Sync>>> {
        self.below.lock_exclusive(path)
    }

    fn lock_is_held(&self, path: &str) -> io::Result<bool> {
        self.below.lock_is_held(path)
    }

    fn display(&self, path: &str) -> String {
        self.below.display(path)
    }
}

struct PacedFile {
    below: Arc<dyn DeviceFile>,
    pace: Arc<dyn Pace>,
    unsynced_bytes: AtomicU64,
    passes_cache: AtomicBool,
}

impl PacedFile {
    fn wait(&self) {
        self.pace.wait(self.unsynced_bytes.swap(0, Ordering::AcqRel));
    }
}

impl DeviceFile for PacedFile {
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        self.below.read_at(buffer, offset)
    }

    fn write_all_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        if self.passes_cache.load(Ordering::Acquire) {
            self.pace.transfer(bytes.len() as u64);
        } else {
            self.unsynced_bytes.fetch_add(bytes.len() as u64, Ordering::AcqRel);
        }
        self.below.write_all_at(bytes, offset)
    }

    fn size(&self) -> io::Result<u64> {
        self.below.size()
    }

    fn allocate(&self, len: u64) -> io::Result<()> {
        self.below.allocate(len)
    }

    fn sync_data(&self) -> io::Result<()> {
        self.wait();
        self.below.sync_data()
    }

    fn sync_all(&self) -> io::Result<()> {
        self.wait();
        self.below.sync_all()
    }

    fn give_back(&self, offset: u64, bytes: u64) -> io::Result<()> {
        self.below.give_back(offset, bytes)
    }

    fn shrink(&self, len: u64) -> io::Result<()> {
        self.below.shrink(len)
    }

    fn pass_cache(&self) {
        self.passes_cache.store(true, Ordering::Release);
        self.below.pass_cache();
    }

    fn forget_cache(&self) -> io::Result<()> {
        self.below.forget_cache()
    }
}

/// The pace of a slower disk in real time: syncs of several files wait side by side for the latency, and share the bandwidth.
#[derive(Debug)]
pub struct Throttle {
    latency: Duration,
    bytes_per_second: Option<u64>,
    /// When all that was written is through.
    free_at: Mutex<Instant>,
}

impl Throttle {
    /// Each sync takes `latency` more, and its bytes at most so many a second; `None`: as fast as the device below.
    pub fn new(latency: Duration, bytes_per_second: Option<u64>) -> Self {
        Self { latency, bytes_per_second, free_at: Mutex::new(Instant::now()) }
    }

    /// When so many bytes that come at `now` are through.
    fn end(&self, now: Instant, bytes: u64) -> Instant {
        let Some(rate) = self.bytes_per_second else { return now };
        let nanos = u128::from(bytes) * 1_000_000_000 / u128::from(rate.max(1));
        let transfer = Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX));
        let mut free_at = self.free_at.lock();
        *free_at = (*free_at).max(now) + transfer;
        *free_at
    }
}

impl Pace for Throttle {
    fn wait(&self, bytes: u64) {
        let now = Instant::now();
        std::thread::sleep(self.end(now, bytes) + self.latency - now);
    }

    fn transfer(&self, bytes: u64) {
        let now = Instant::now();
        std::thread::sleep(self.end(now, bytes) - now);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::device_memory::MemoryDevice;
    use crate::device_memory_state::CrashMode;

    /// Notes what it was asked, and whether the bytes were durable below by then.
    struct Asked {
        below: MemoryDevice,
        seen: Mutex<Vec<(u64, Option<Vec<u8>>)>>,
    }

    impl Pace for Asked {
        fn wait(&self, bytes: u64) {
            let left = self.below.crash(CrashMode::DropUnsynced).contents("file");
            self.seen.lock().push((bytes, left));
        }
    }

    #[test]
    fn a_sync_is_held_before_anything_is_durable_and_told_what_it_brings() {
        let below = MemoryDevice::new();
        below.create_dir("").expect("no fault");
        let asked = Arc::new(Asked { below: below.clone(), seen: Mutex::default() });
        let device = PacedDevice::new(Arc::new(below), Arc::clone(&asked) as Arc<dyn Pace>);
        let file = device.open("file", OpenMode::CreateNew).expect("no fault");
        device.sync_dir("").expect("no fault");
        file.write_all_at(b"abc", 0).expect("no fault");
        file.write_all_at(b"de", 3).expect("no fault");
        file.sync_data().expect("no fault");
        file.sync_all().expect("no fault");
        file.pass_cache();
        file.write_all_at(b"fg", 5).expect("no fault");
        file.sync_data().expect("no fault");
        let durable = |text: &str| Some(text.as_bytes().to_vec());
        assert_eq!(
            *asked.seen.lock(),
            [(0, None), (5, durable("")), (0, durable("abcde")), (0, durable("abcde"))],
            "transfers are told apart"
        );
    }

    #[test]
    fn bandwidth_is_shared() {
        let throttle = Throttle::new(Duration::ZERO, Some(1_000));
        let now = Instant::now() + Duration::from_secs(1);
        let ends: Vec<_> = [500, 500, 0].iter().map(|bytes| throttle.end(now, *bytes) - now).collect();
        assert_eq!(ends, [500, 1_000, 1_000].map(Duration::from_millis));
        assert_eq!(Throttle::new(Duration::ZERO, None).end(now, u64::MAX), now);
    }
}
