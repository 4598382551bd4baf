//! What the operating system reports about a process.

use std::ffi::OsStr;
use std::fs;
use std::path::Path;
use std::process::Child;
use std::thread;
use std::time::Duration;

/// A running process, identified by its number.
#[derive(Clone, Copy, Debug)]
pub struct Process(u32);

impl Process {
    /// The process of a child that has not been waited for.
    pub fn of(child: &Child) -> Process {
        Process(child.id())
    }

    /// Whether a signal has stopped it.
    pub fn is_stopped(self) -> bool {
        self.stat().starts_with('T')
    }

    /// Whether all its threads wait, and have done so for 20 ms. A thread that was woken and has not run yet does not.
    /// A single look is not enough: the thread of async-io pauses for up to 10 ms before it waits for events again.
    pub fn is_asleep(self) -> bool {
        const PAUSE: Duration = Duration::from_millis(20);
        let before = self.waits();
        thread::sleep(PAUSE);
        let threads = fs::read_dir(format!("/proc/{}/task", self.0)).expect("the process runs");
        let is_asleep = threads.flatten().all(|thread| {
            // A thread may have ended since.
            let stat = fs::read_to_string(thread.path().join("stat")).unwrap_or_default();
            stat.rsplit_once(") ").is_none_or(|(_, fields)| fields.starts_with('S'))
        });
        is_asleep && self.waits() == before
    }

    /// The CPU time that it has used, in user and in kernel mode.
    pub fn cpu_time(self) -> Duration {
        let fields = self.stat();
        let ticks: u64 = fields
            .split(' ')
            .skip(11)
            .take(2)
            .map(|field| field.parse::<u64>().expect("utime and stime are numbers"))
            .sum();
        let hertz = u32::try_from(rustix::param::clock_ticks_per_second()).expect("a small number");
        Duration::from_secs(ticks) / hertz
    }

    /// The number of times at which a thread of it began to wait. Threads that have ended do not count.
    pub fn waits(self) -> u64 {
        let threads = fs::read_dir(format!("/proc/{}/task", self.0)).expect("the process runs");
        let statuses =
            threads.flatten().filter_map(|thread| fs::read_to_string(thread.path().join("status")).ok());
        let waits = |status: String| {
            let line = status.lines().find_map(|line| line.strip_prefix("voluntary_ctxt_switches:"))?;
            line.trim().parse::<u64>().ok()
        };
        statuses.filter_map(waits).sum()
    }

    /// The number of its open file descriptors.
    pub fn descriptors(self) -> usize {
        self.count("fd")
    }

    /// The number of its sockets that a process which it starts would inherit.
    pub fn inheritable_sockets(self) -> usize {
        const CLOSE_ON_EXEC: u32 = 0o2_000_000;
        let folder = format!("/proc/{}", self.0);
        let numbers = fs::read_dir(format!("{folder}/fd")).expect("the process runs");
        let is_inheritable = |number: &OsStr| {
            let (fd, info) =
                (Path::new(&folder).join("fd").join(number), Path::new(&folder).join("fdinfo").join(number));
            // A descriptor may have been closed since.
            let target = fs::read_link(fd).unwrap_or_default();
            let info = fs::read_to_string(info).unwrap_or_default();
            let flags = info.lines().find_map(|line| line.strip_prefix("flags:"));
            let flags = flags.and_then(|flags| u32::from_str_radix(flags.trim(), 8).ok());
            target.to_string_lossy().starts_with("socket:")
                && flags.is_some_and(|flags| flags & CLOSE_ON_EXEC == 0)
        };
        numbers.filter(|entry| entry.as_ref().is_ok_and(|entry| is_inheritable(&entry.file_name()))).count()
    }

    /// The soft and the hard limit of its file descriptors.
    pub fn descriptor_limits(self) -> (u64, u64) {
        let limits = self.read("limits");
        let line = limits.lines().find_map(|line| line.strip_prefix("Max open files")).expect("a limit");
        let mut numbers = line.split_whitespace().map_while(|number| number.parse().ok());
        let mut next = || numbers.next().expect("the limits are numbers");
        (next(), next())
    }

    /// The number of its threads.
    pub fn threads(self) -> usize {
        self.count("task")
    }

    /// Its resident memory in bytes.
    pub fn memory(self) -> u64 {
        let status = self.read("status");
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).expect("the process runs");
        let kib: u64 = line.trim().trim_end_matches(" kB").parse().expect("a number of KiB");
        kib * 1024
    }

    /// The fields of its status from the third one on, which is its state.
    fn stat(self) -> String {
        let stat = self.read("stat");
        // The second field is the name in parentheses, which may contain any character.
        let (_, fields) = stat.rsplit_once(") ").expect("a name in parentheses");
        fields.to_owned()
    }

    fn read(self, file: &str) -> String {
        fs::read_to_string(format!("/proc/{}/{file}", self.0)).expect("the process runs")
    }

    fn count(self, folder: &str) -> usize {
        fs::read_dir(format!("/proc/{}/{folder}", self.0)).expect("the process runs").count()
    }
}
