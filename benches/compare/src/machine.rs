//! Describes the machine for the report.

use std::fs;

use crate::cores::Cores;
use crate::results::Machine;

/// This machine, with the given core assignment.
pub fn this(cores: &Cores) -> Machine {
    let read = |file| fs::read_to_string(file).unwrap_or_default();
    let (info, memory) = (read("/proc/cpuinfo"), read("/proc/meminfo"));
    let system = rustix::system::uname();
    let part = |text: &std::ffi::CStr| text.to_string_lossy().into_owned();
    let apart = |list: &[usize]| if cores.are_separate() { list.to_vec() } else { Vec::new() };
    let all =
        if cores.are_separate() { cores.server.len() + cores.generator.len() } else { cores.server.len() };
    Machine {
        cpu: value(&info, "model name").unwrap_or_default().to_owned(),
        cores: all,
        memory_kib: value(&memory, "MemTotal")
            .and_then(|text| text.split(' ').next()?.parse().ok())
            .unwrap_or(0),
        kernel: format!("{} {}", part(system.sysname()), part(system.release())),
        server_cores: apart(&cores.server),
        generator_cores: apart(&cores.generator),
    }
}

/// The value of the first line `name : value`.
fn value<'a>(text: &'a str, name: &str) -> Option<&'a str> {
    let of_name = |line: &'a str| line.split_once(':').filter(|(key, _)| key.trim() == name);
    text.lines().find_map(of_name).map(|(_, value)| value.trim())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn takes_the_first_value_of_a_name() {
        let text = "processor\t: 0\nmodel name\t: A CPU: fast\nmodel name\t: B\nMemTotal:       10 kB\n";
        assert_eq!(value(text, "model name"), Some("A CPU: fast"));
        assert_eq!(value(text, "MemTotal"), Some("10 kB"));
        assert_eq!(value(text, "flags"), None);
    }
}
