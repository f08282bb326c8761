//! The machine that a run was made on, in a line for people; and what else went on there.
//!
//! What is known of it, and how it is found out, is the load generator's.

use tp_loadgen::report::Machine;

/// In one line, for people.
pub fn line(machine: &Machine) -> String {
    let known = |text: &str| if text.is_empty() { "unknown".to_owned() } else { text.to_owned() };
    let Machine { cpu, cores, memory_bytes, os, file_system } = machine;
    let gib = memory_bytes >> 30;
    format!("{}, {cores} cores, {gib} GiB, {}, {}", known(cpu), known(os), known(file_system))
}

/// The run queue's average length over the last minute: what else went on. `None`: the system does not say.
pub fn load_average() -> Option<f64> {
    std::fs::read_to_string("/proc/loadavg").ok()?.split(' ').next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_known_is_said_so() {
        assert_eq!(line(&Machine::default()), "unknown, 0 cores, 0 GiB, unknown, unknown");
    }

    #[test]
    fn a_machine_of_an_older_record_is_read() {
        let record = serde_json::json!({"cpu": "A B", "cores": 2, "kernel": "Linux 6", "more": 1});
        let machine: Machine = serde_json::from_value(record).expect("a machine");
        assert_eq!((machine.cores, machine.os.as_str(), machine.file_system.as_str()), (2, "Linux 6", ""));
    }
}
