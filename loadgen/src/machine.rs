//! What the machine tells of itself, for the report.
//!
//! Owns reading `/proc` and asking the file system; refuses to record names of hosts, users or directories.

use std::io::Write as _;
use std::path::Path;
use std::time::{Duration, Instant};

use crate::report::{CpuProbe, DiskProbe, Machine};

fn read(path: &str) -> String {
    std::fs::read_to_string(path).unwrap_or_default()
}

/// The value of a line `name : value` or `name:   value kB`.
fn field<'a>(text: &'a str, name: &str) -> Option<&'a str> {
    text.lines().find_map(|line| line.split_once(':').filter(|(left, _)| left.trim() == name)).map(|(_, v)| v.trim())
}

fn kilobytes(text: &str, name: &str) -> u64 {
    let value = field(text, name).and_then(|value| value.strip_suffix("kB")).and_then(|n| n.trim().parse::<u64>().ok());
    value.unwrap_or(0) * 1024
}

/// The machine, with the file system that holds `path`.
pub fn describe(path: &Path) -> Machine {
    Machine {
        cpu: field(&read("/proc/cpuinfo"), "model name").unwrap_or("unknown").to_owned(),
        cores: std::thread::available_parallelism().map_or(1, usize::from),
        memory_bytes: kilobytes(&read("/proc/meminfo"), "MemTotal"),
        os: format!("{} {}", read("/proc/sys/kernel/ostype").trim(), read("/proc/sys/kernel/osrelease").trim()),
        file_system: file_system(path, &read("/proc/self/mounts")),
    }
}

/// The type of the mount that `path` lies on: the one with the longest matching directory.
fn file_system(path: &Path, mounts: &str) -> String {
    let path = path.canonicalize().unwrap_or_else(|_| path.to_owned());
    let matching = mounts.lines().filter_map(|line| {
        let mut fields = line.split(' ');
        let (directory, kind) = (fields.nth(1)?, fields.next()?);
        path.starts_with(directory).then_some((directory.len(), kind))
    });
    matching.max_by_key(|(length, _)| *length).map_or("unknown", |(_, kind)| kind).to_owned()
}

/// At most so many appends of the probe, in at most that time.
const PROBE_APPENDS: usize = 2_000;
const PROBE_TIME: Duration = Duration::from_secs(2);

/// What an append of 4 KiB with its `fdatasync` takes in a folder. The file is removed again.
///
/// # Errors
/// What the system reports.
pub fn probe_disk(folder: &Path) -> std::io::Result<DiskProbe> {
    let path = folder.join("tp-loadgen-probe.tmp");
    let measured = std::fs::File::create(&path).and_then(|mut file| {
        let (mut took_ns, began) = (Vec::with_capacity(PROBE_APPENDS), Instant::now());
        while took_ns.is_empty() || took_ns.len() < PROBE_APPENDS && began.elapsed() < PROBE_TIME {
            let start = Instant::now();
            file.write_all(&[1; 4096])?;
            file.sync_data()?;
            took_ns.push(u64::try_from(start.elapsed().as_nanos()).unwrap_or(u64::MAX));
        }
        took_ns.sort_unstable();
        let [p50_ns, p99_ns] = [50, 99].map(|percent| took_ns[(took_ns.len() - 1) * percent / 100]);
        Ok(DiskProbe { appends: took_ns.len() as u64, p50_ns, p99_ns })
    });
    let removed = std::fs::remove_file(&path);
    measured.and_then(|probe| removed.map(|()| probe))
}

/// How long the probe of the cores looks, and what it takes for a pause.
const PROBE_CPU: Duration = Duration::from_secs(3);
const PAUSE: Duration = Duration::from_millis(1);

/// The pauses between looks at a clock that says how long it has been running.
fn pauses(mut clock: impl FnMut() -> Duration) -> CpuProbe {
    let (mut probe, mut last) = (CpuProbe::default(), Duration::ZERO);
    while last < PROBE_CPU {
        let now = clock();
        let took = now.saturating_sub(last);
        if took >= PAUSE {
            let took_ns = u64::try_from(took.as_nanos()).unwrap_or(u64::MAX);
            (probe.pauses, probe.paused_ns) = (probe.pauses + 1, probe.paused_ns + took_ns);
            probe.longest_ns = probe.longest_ns.max(took_ns);
        }
        last = now;
    }
    probe
}

/// How often, and how long, a thread on each core that only looks at the clock is not run.
pub fn probe_cpu() -> CpuProbe {
    let looks = || {
        let began = Instant::now();
        pauses(|| began.elapsed())
    };
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let each: Vec<CpuProbe> = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..cores).map(|_| scope.spawn(looks)).collect();
        threads.into_iter().filter_map(|thread| thread.join().ok()).collect()
    });
    CpuProbe {
        looked_ms: u64::try_from(PROBE_CPU.as_millis()).unwrap_or(u64::MAX),
        pauses: each.iter().map(|probe| probe.pauses).sum(),
        paused_ns: each.iter().map(|probe| probe.paused_ns).sum(),
        longest_ns: each.iter().map(|probe| probe.longest_ns).max().unwrap_or(0),
    }
}

/// Resident memory of this process, bytes; 0: not known.
pub fn resident_bytes() -> u64 {
    kilobytes(&read("/proc/self/status"), "VmRSS")
}

/// Memory that can still be had, bytes; `None`: not known.
pub fn available_memory_bytes() -> Option<u64> {
    Some(kilobytes(&read("/proc/meminfo"), "MemAvailable")).filter(|bytes| *bytes > 0)
}

/// Space that can still be had where `path` is, bytes.
///
/// # Errors
/// What the system reports.
pub fn available_space_bytes(path: &Path) -> std::io::Result<u64> {
    let stat = rustix::fs::statvfs(path)?;
    Ok(stat.f_bavail.saturating_mul(stat.f_frsize))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_probe_leaves_nothing_behind_and_says_where_it_could_not_write() {
        let folder = tempfile::tempdir().expect("a place to write");
        let probe = probe_disk(folder.path()).expect("a disk");
        assert!(
            (1..=PROBE_APPENDS as u64).contains(&probe.appends) && probe.p50_ns > 0 && probe.p99_ns >= probe.p50_ns
        );
        assert_eq!(std::fs::read_dir(folder.path()).expect("it is there").count(), 0);
        assert!(probe_disk(&folder.path().join("missing")).is_err());
    }

    #[test]
    fn pauses_from_one_millisecond_on_count_with_what_they_come_to() {
        let mut looks =
            [10, 1_009, 2_009, 2_500, 9_500, 10_000, 3_000_000, 3_000_001].into_iter().map(Duration::from_micros);
        let probe = pauses(|| looks.next().expect("it stops after 3 s"));
        let (longest_ns, paused_ns) = (2_990_000_000, 1_000_000 + 7_000_000 + 2_990_000_000);
        assert_eq!(probe, CpuProbe { looked_ms: 0, pauses: 3, paused_ns, longest_ns });
        assert_eq!(looks.count(), 1, "the look after that is not made");
    }

    #[test]
    fn the_longest_mount_counts() {
        let mounts = "/dev/a / ext4 rw 0 0\ntmpfs /tmp tmpfs rw 0 0\nproc /proc proc rw 0 0\n";
        assert_eq!(file_system(Path::new("/tmp"), mounts), "tmpfs");
        assert_eq!(file_system(Path::new("/"), mounts), "ext4");
        assert_eq!(file_system(Path::new("/"), ""), "unknown");
    }

    #[test]
    fn fields_are_found_by_their_whole_name() {
        let text = "MemTotal:       1000 kB\nVmRSS:\t 12 kB\nmodel name\t: A B\n";
        assert_eq!(
            (kilobytes(text, "MemTotal"), kilobytes(text, "VmRSS"), kilobytes(text, "Mem")),
            (1_024_000, 12_288, 0)
        );
        assert_eq!(field(text, "model name"), Some("A B"));
    }

    #[test]
    fn a_directory_has_space_and_a_process_memory() {
        assert!(available_space_bytes(Path::new("/")).is_ok_and(|bytes| bytes > 0) && resident_bytes() > 0);
    }
}
