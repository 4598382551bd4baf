//! Resource usage of a server from `/proc`; see proc(5) and the kernel's Documentation/scheduler/sched-stats.rst.
//!
//! `schedstat` counts the CPU time of running threads in ns. `stat` counts in ticks of mostly 10 ms, too coarse for
//! half a second. But only `stat` separates user from kernel time, and it includes threads that have exited.

use std::fs;
use std::path::Path;

use rustix::param::clock_ticks_per_second;
use rustix::time::{ClockId, clock_gettime};

/// Resource usage of a process group at one moment.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Usage {
    /// CPU time of the running threads, in ns.
    cpu: u64,
    /// CPU time of all threads including exited ones, in ticks: user, kernel.
    ticks: (u64, u64),
    /// Context switches of the running threads.
    switches: u64,
    /// Number of threads.
    pub threads: usize,
    /// Peak resident memory, in KiB.
    pub peak_kib: u64,
    /// Anonymous resident memory, in KiB.
    pub anonymous_kib: u64,
    /// CPU time of all programs on the observed cores, in seconds.
    machine: f64,
    /// CPU time of this process, in seconds.
    own: f64,
}

/// Resources used between two moments.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct UsageDelta {
    /// CPU time in user mode, in µs.
    pub user: f64,
    /// CPU time in the kernel, in µs.
    pub system: f64,
    /// Number of context switches.
    pub switches: f64,
    /// Number of ticks behind the split into user and kernel time. `per` does not divide it.
    pub ticks: u64,
    /// CPU time of programs other than the server and this process, in µs.
    pub others: f64,
}

impl Usage {
    /// The usage of a process group without its leader, which is the guard.
    pub fn of_group(group: u32) -> Usage {
        Usage::of_members(group, |pid| pid != group)
    }

    /// The usage of a process group.
    pub fn of_group_with_leader(group: u32) -> Usage {
        Usage::of_members(group, |_| true)
    }

    fn of_members(group: u32, is_counted: impl Fn(u32) -> bool) -> Usage {
        let mut usage = Usage::default();
        for pid in numbers("/proc").filter(|pid| is_counted(*pid)) {
            let directory = format!("/proc/{pid}");
            let stat = fs::read_to_string(format!("{directory}/stat")).unwrap_or_default();
            if let Some((of, user, system)) = parse_stat(&stat)
                && of == group
            {
                usage.ticks.0 += user;
                usage.ticks.1 += system;
                usage.add_process(&directory);
            }
        }
        usage
    }

    /// Adds the CPU time of all programs on `cores`, so that `since` can compute the share of other programs.
    pub fn on(mut self, cores: &[usize]) -> Usage {
        let stat = fs::read_to_string("/proc/stat").unwrap_or_default();
        let ticks: u64 = cores.iter().map(|core| busy_ticks(&stat, *core)).sum();
        self.machine = ticks as f64 / clock_ticks_per_second() as f64;
        let own = clock_gettime(ClockId::ProcessCPUTime);
        self.own = own.tv_sec as f64 + own.tv_nsec as f64 / 1e9;
        self
    }

    fn add_process(&mut self, directory: &str) {
        let status = fs::read_to_string(format!("{directory}/status")).unwrap_or_default();
        self.peak_kib += field(&status, "VmHWM:");
        self.anonymous_kib += field(&status, "RssAnon:");
        let tasks = format!("{directory}/task");
        for task in numbers(&tasks) {
            let schedstat = fs::read_to_string(format!("{tasks}/{task}/schedstat")).unwrap_or_default();
            self.cpu += schedstat.split(' ').next().and_then(|ns| ns.parse().ok()).unwrap_or(0);
            let status = fs::read_to_string(format!("{tasks}/{task}/status")).unwrap_or_default();
            self.switches +=
                field(&status, "voluntary_ctxt_switches:") + field(&status, "nonvoluntary_ctxt_switches:");
            self.threads += 1;
        }
    }

    /// The resources used since `before`.
    pub fn since(&self, before: &Usage) -> UsageDelta {
        self.since_with(before, 1e6 / clock_ticks_per_second() as f64)
    }

    fn since_with(&self, before: &Usage, tick: f64) -> UsageDelta {
        let ticks =
            (self.ticks.0.saturating_sub(before.ticks.0), self.ticks.1.saturating_sub(before.ticks.1));
        let (user, system) = (ticks.0 as f64 * tick, ticks.1 as f64 * tick);
        let running = self.cpu.saturating_sub(before.cpu) as f64 / 1e3;
        // Threads that exited in between are only in the ticks. Otherwise the time in ns is more accurate.
        let total = if user + system > running + 3.0 * tick { user + system } else { running };
        let in_user = if user + system > 0.0 { user / (user + system) } else { 0.0 };
        let switches = self.switches.saturating_sub(before.switches) as f64;
        let others = (self.machine - before.machine - (self.own - before.own)) * 1e6 - total;
        let ticks = ticks.0 + ticks.1;
        UsageDelta { user: total * in_user, system: total * (1.0 - in_user), switches, ticks, others }
    }

    /// CPU time of the running threads, in seconds.
    pub fn cpu_seconds(&self) -> f64 {
        self.cpu as f64 / 1e9
    }
}

/// The directory entries that are numbers.
fn numbers(directory: impl AsRef<Path>) -> impl Iterator<Item = u32> {
    let entries = fs::read_dir(directory).into_iter().flatten().flatten();
    entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok())
}

/// The process group and the ticks in user and kernel mode. The second field may contain spaces and parentheses.
fn parse_stat(stat: &str) -> Option<(u32, u64, u64)> {
    let (_, fields) = stat.rsplit_once(") ")?;
    let mut fields = fields.split(' ');
    let group = fields.nth(2)?.parse().ok()?;
    Some((group, fields.nth(8)?.parse().ok()?, fields.next()?.parse().ok()?))
}

/// Ticks in which a core was not idle, including time stolen by the hypervisor.
fn busy_ticks(stat: &str, core: usize) -> u64 {
    let name = format!("cpu{core}");
    let line = stat.lines().find(|line| line.split(' ').next() == Some(&name)).unwrap_or_default();
    let ticks: Vec<u64> = line.split(' ').skip(1).filter_map(|ticks| ticks.parse().ok()).collect();
    // user nice system idle iowait irq softirq steal; guest time is part of the first two.
    [0, 1, 2, 5, 6, 7].iter().filter_map(|field: &usize| ticks.get(*field)).sum()
}

/// The number after a name at the start of a line.
fn field(status: &str, name: &str) -> u64 {
    let value = status.lines().find_map(|line| line.strip_prefix(name));
    value.and_then(|value| value.split_whitespace().next()?.parse().ok()).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_a_stat_whose_name_has_spaces_and_parentheses() {
        let stat = "42 (a) b (c) S 1 41 40 0 -1 4194304 1 2 3 4 55 66 7 8 20 0 3 0";
        assert_eq!(parse_stat(stat), Some((41, 55, 66)));
        assert_eq!(parse_stat("42 (cut short) S 1"), None);
    }

    #[test]
    fn reads_the_field_that_was_asked_for() {
        let status = "VmHWM:\t    1744 kB\nvoluntary_ctxt_switches:\t3\nnonvoluntary_ctxt_switches:\t4\n";
        assert_eq!(field(status, "VmHWM:"), 1744);
        assert_eq!(field(status, "voluntary_ctxt_switches:"), 3);
        assert_eq!(field(status, "nonvoluntary_ctxt_switches:"), 4);
        assert_eq!(field(status, "RssAnon:"), 0);
    }

    #[test]
    fn the_fine_figure_is_split_by_the_coarse_one() {
        let after = Usage { cpu: 100_000_000, ticks: (3, 9), switches: 7, ..Usage::default() };
        let spent = after.since_with(&Usage::default(), 10_000.0);
        assert_eq!((spent.user, spent.system, spent.switches), (25_000.0, 75_000.0, 7.0));
        assert_eq!(spent.per(2.0).ticks, 12, "ticks are not divided");
    }

    #[test]
    fn threads_that_ended_count() {
        let before = Usage { cpu: 50_000_000, ticks: (5, 0), ..Usage::default() };
        let after = Usage { cpu: 10_000_000, ticks: (15, 10), ..Usage::default() };
        let spent = after.since_with(&before, 10_000.0);
        assert_eq!((spent.user, spent.system), (100_000.0, 100_000.0));
    }

    #[test]
    fn what_others_had_is_what_neither_of_us_had() {
        let after = Usage { cpu: 400_000_000, machine: 1.5, own: 0.9, ..Usage::default() };
        let others = after.since_with(&Usage::default(), 10_000.0).others;
        assert!((others - 200_000.0).abs() < 1.0, "{others}");
    }

    #[test]
    fn a_processor_is_busy_unless_it_is_idle_or_waits_for_a_disk() {
        let stat = "cpu  9 9 9 9 9 9 9 9 0 0\ncpu1 1 2 4 1000 1000 8 16 32 0 0\ncpu11 1 0 0 0 0 0 0 0 0 0\n";
        assert_eq!([busy_ticks(stat, 1), busy_ticks(stat, 11), busy_ticks(stat, 2)], [63, 1, 0]);
    }

    #[test]
    fn finds_this_very_process() {
        let group = rustix::process::getpgrp().as_raw_nonzero().get() as u32;
        // The leader of the group is left out.
        let usage = Usage::of_group(group);
        let leads = group == std::process::id();
        assert!(leads || usage.threads > 0);
    }
}
