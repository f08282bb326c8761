//! What the machine tells of itself, for the report.
//!
//! Owns reading `/proc` and asking the file system; refuses to record names of hosts, users or directories.

use std::path::Path;

use crate::report::Machine;

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
