//! What the operating system knows of this process. Owns the reading of `/proc`; says nothing where there is none.

use std::fs;

/// Clock ticks a second in `/proc`: 100 on every Linux that this runs on (`USER_HZ` is part of the kernel's interface).
const TICKS_PER_SECOND: u64 = 100;

/// What could be read; the rest is `None`.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct ProcessStatus {
    /// Resident memory.
    pub(crate) resident_bytes: Option<u64>,
    /// Open file descriptors.
    pub(crate) open_fds: Option<u64>,
    /// As many may be open.
    pub(crate) max_fds: Option<u64>,
    /// Start, ms since 1970.
    pub(crate) start_ms: Option<u64>,
    /// Processor time of all threads, ms.
    pub(crate) cpu_ms: Option<u64>,
}

impl ProcessStatus {
    pub(crate) fn read() -> Self {
        let file = |path: &str| fs::read_to_string(path).unwrap_or_default();
        let stat = file("/proc/self/stat");
        let ticks_ms = |ticks: u64| ticks * 1000 / TICKS_PER_SECOND;
        let boot = number_after(&file("/proc/stat"), "btime ");
        Self {
            resident_bytes: number_after(&file("/proc/self/status"), "VmRSS:").map(|kib| kib * 1024),
            open_fds: fs::read_dir("/proc/self/fd").ok().map(|entries| entries.count() as u64),
            max_fds: number_after(&file("/proc/self/limits"), "Max open files"),
            start_ms: boot.zip(stat_field(&stat, 22)).map(|(boot, ticks)| boot * 1000 + ticks_ms(ticks)),
            cpu_ms: stat_field(&stat, 14).zip(stat_field(&stat, 15)).map(|(user, system)| ticks_ms(user + system)),
        }
    }
}

/// The first number behind a line's beginning.
fn number_after(text: &str, beginning: &str) -> Option<u64> {
    let line = text.lines().find_map(|line| line.strip_prefix(beginning))?;
    line.split_whitespace().next()?.parse().ok()
}

/// A field of `/proc/self/stat`, counted from 1 as in its manual page. The second, the name, may hold spaces and parentheses.
fn stat_field(stat: &str, field: usize) -> Option<u64> {
    let (_, rest) = stat.rsplit_once(')')?;
    rest.split_whitespace().nth(field.checked_sub(3)?)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_with_spaces_and_parentheses_does_not_shift_the_fields() {
        let stat = "7 (a ) 1 (b) S 1 7 7 0 -1 4194560 1 2 3 4 55 66 0 0 20 0 3 0 12345 0";
        assert_eq!(
            (stat_field(stat, 14), stat_field(stat, 15), stat_field(stat, 22)),
            (Some(55), Some(66), Some(12345))
        );
        assert_eq!(stat_field("", 14), None);
    }

    #[test]
    fn what_is_not_there_is_nothing() {
        assert_eq!(number_after("VmRSS:\t  4242 kB\n", "VmRSS:"), Some(4242));
        assert_eq!(number_after("Max open files            unlimited  x", "Max open files"), None);
        assert_eq!(number_after("", "btime "), None);
    }
}
