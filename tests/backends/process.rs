//! What the system says of a process.

use std::fs;
use std::process::Child;
use std::time::Duration;

/// A running process, by its number.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Process(u32);

impl Process {
    pub(crate) fn of(child: &Child) -> Process {
        Process(child.id())
    }

    /// The time that it has spent on processors.
    pub(crate) fn cpu_time(self) -> Duration {
        let stat = self.read("stat");
        // What follows the name, which may hold anything, begins with the third field.
        let (_, fields) = stat.rsplit_once(") ").expect("a name in parentheses");
        let ticks: u64 = fields
            .split(' ')
            .skip(11)
            .take(2)
            .map(|field| field.parse::<u64>().expect("utime and stime are numbers"))
            .sum();
        Duration::from_secs(ticks) / u32::try_from(rustix::param::clock_ticks_per_second()).expect("some 100")
    }

    /// How many descriptors it has.
    pub(crate) fn descriptors(self) -> usize {
        self.count("fd")
    }

    /// How many threads it has.
    pub(crate) fn threads(self) -> usize {
        self.count("task")
    }

    /// Bytes of memory that are its own at present.
    pub(crate) fn memory(self) -> u64 {
        let status = self.read("status");
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).expect("it runs");
        let kib: u64 = line.trim().trim_end_matches(" kB").parse().expect("a number of KiB");
        kib * 1024
    }

    fn read(self, what: &str) -> String {
        fs::read_to_string(format!("/proc/{}/{what}", self.0)).expect("it runs")
    }

    fn count(self, what: &str) -> usize {
        fs::read_dir(format!("/proc/{}/{what}", self.0)).expect("it runs").count()
    }
}
