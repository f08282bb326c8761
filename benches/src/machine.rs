//! The machine that a run was made on: what bears on its figures and nothing that tells whose it is.

use std::path::Path;

use serde_json::{Value, json};

use crate::place;

/// Processor, cores, memory, kernel, file system. Text is empty and numbers are 0 where the system does not say.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Machine {
    /// The processor's model.
    pub cpu: String,
    /// Cores that this process may use.
    pub cores: u64,
    /// Memory, bytes.
    pub memory_bytes: u64,
    /// The kernel's name and release.
    pub kernel: String,
    /// The type of the file system written on.
    pub file_system: String,
}

impl Machine {
    /// This one; the file system is that of `written`.
    pub fn this(written: &Path) -> Self {
        let read = |path: &str| std::fs::read_to_string(path).unwrap_or_default();
        let release = read("/proc/sys/kernel/osrelease");
        Self {
            cpu: field(&read("/proc/cpuinfo"), "model name").unwrap_or_default(),
            cores: std::thread::available_parallelism().map_or(0, |cores| cores.get() as u64),
            memory_bytes: memory(&read("/proc/meminfo")).unwrap_or(0),
            kernel: format!("{} {}", read("/proc/sys/kernel/ostype").trim(), release.trim()).trim().to_owned(),
            file_system: place::file_system(written).unwrap_or_default(),
        }
    }

    /// As JSON.
    pub fn to_json(&self) -> Value {
        json!({
            "cpu": self.cpu,
            "cores": self.cores,
            "memory_bytes": self.memory_bytes,
            "kernel": self.kernel,
            "file_system": self.file_system,
        })
    }

    /// From [`Machine::to_json`]; what is missing stays empty.
    pub fn from_json(value: &Value) -> Self {
        let text = |name: &str| value[name].as_str().unwrap_or_default().to_owned();
        let number = |name: &str| value[name].as_u64().unwrap_or_default();
        let (cpu, kernel, file_system) = (text("cpu"), text("kernel"), text("file_system"));
        Self { cpu, cores: number("cores"), memory_bytes: number("memory_bytes"), kernel, file_system }
    }

    /// In one line, for people.
    pub fn line(&self) -> String {
        let known = |text: &str| if text.is_empty() { "unknown".to_owned() } else { text.to_owned() };
        let Self { cpu, cores, memory_bytes, kernel, file_system } = self;
        let gib = memory_bytes >> 30;
        format!("{}, {cores} cores, {gib} GiB, {}, {}", known(cpu), known(kernel), known(file_system))
    }
}

/// The run queue's average length over the last minute: what else went on. `None`: the system does not say.
pub fn load_average() -> Option<f64> {
    std::fs::read_to_string("/proc/loadavg").ok()?.split(' ').next()?.parse().ok()
}

fn field(text: &str, name: &str) -> Option<String> {
    let line = text.lines().find(|line| line.starts_with(name))?;
    Some(line.split_once(':')?.1.trim().to_owned())
}

fn memory(text: &str) -> Option<u64> {
    field(text, "MemTotal")?.strip_suffix(" kB")?.trim().parse::<u64>().ok()?.checked_mul(1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_system_files_are_read() {
        assert_eq!(
            field("a\t: 1\nmodel name\t: Some CPU @ 2 GHz\n", "model name").as_deref(),
            Some("Some CPU @ 2 GHz")
        );
        assert_eq!(memory("MemTotal:       16 kB\nMemFree: 1 kB\n"), Some(16 * 1024));
        assert_eq!((memory("MemTotal: many\n"), field("", "model name")), (None, None));
    }

    #[test]
    fn a_machine_survives_its_json() {
        let machine = Machine { cores: 2, memory_bytes: 24 << 30, ..Machine::this(Path::new(".")) };
        assert_eq!(Machine::from_json(&machine.to_json()), machine);
        assert_eq!(Machine::from_json(&Value::Null), Machine::default());
        assert!(Machine::default().line().starts_with("unknown, 0 cores"));
    }
}
