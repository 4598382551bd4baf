//! Runs `wrk` where it is installed.
//!
//! wrk only has closed loops on one path and whole seconds, and ignores requests without a response at the end. It is
//! therefore used for loads that saturate a core. wrk adds latencies that it did not measure, to correct for omissions,
//! so its upper percentiles only serve to compare servers with each other.

use std::ffi::OsString;
use std::fs::File;
use std::io::{self, Read, Write};
use std::net::SocketAddr;
use std::os::fd::AsRawFd;
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use rustix::fs::{MemfdFlags, memfd_create};
use serde::Deserialize;

use super::Request;
use crate::guard::GuardedChild;
use crate::proc::{Usage, UsageDelta};

/// The shortest run.
const SHORTEST: Duration = Duration::from_secs(1);
/// Share of the run at its beginning and its end in which the server's resources are not counted.
const EDGE: f64 = 0.1;

/// Makes wrk print its results as JSON.
const SCRIPT: &str = r#"
done = function(summary, latency, requests)
   local points = {}
   for i, p in ipairs({1, 10, 25, 50, 75, 90, 95, 98, 99, 99.5, 99.9, 99.95, 99.99, 100}) do
      local us = p == 100 and latency.max or latency:percentile(p)
      points[i] = string.format("[%g,%.3f]", p, us)
   end
   local e = summary.errors
   io.write(string.format('\n{"requests":%d,"micros":%d,"errors":%d,"curve":[%s]}\n', summary.requests,
      summary.duration, e.connect + e.read + e.write + e.status + e.timeout, table.concat(points, ",")))
end
"#;

/// The results that wrk prints.
#[derive(Clone, Debug, Deserialize, PartialEq)]
pub struct Report {
    /// Number of responses.
    pub requests: u64,
    /// Length of the run, in µs.
    pub micros: u64,
    /// Number of errors of any kind.
    pub errors: u64,
    /// Pairs of percentile and latency in µs.
    pub curve: Vec<(f64, f64)>,
}

/// The outcome of a run.
#[derive(Clone, Debug)]
pub struct Outcome {
    /// The results of wrk.
    pub report: Report,
    /// Resources used by the server, per second.
    pub spent: UsageDelta,
    /// The server's resource usage at the end.
    pub usage: Usage,
    /// Share of the time in which wrk's threads worked.
    pub busy: f64,
    /// Number of wrk's threads.
    pub threads: usize,
}

/// Name and version of wrk; `None` if it is not installed.
pub fn version() -> Option<String> {
    let output = Command::new("wrk").arg("-v").stdin(Stdio::null()).output().ok()?;
    let output = [output.stdout, output.stderr].concat();
    parse_version(&String::from_utf8_lossy(&output))
}

/// Parses "wrk 4.1.0 [epoll] Copyright ..." or "wrk debian/4.1.0-3+b2 [epoll] ...".
fn parse_version(output: &str) -> Option<String> {
    let mut words = output.lines().find(|line| line.starts_with("wrk "))?.split(' ');
    let version = words.nth(1)?;
    Some(format!("wrk {}", version.rsplit('/').next().unwrap_or(version)))
}

/// The length of a run for a window of `time`.
pub fn takes(time: Duration) -> Duration {
    Duration::from_secs(time.max(SHORTEST).as_secs())
}

/// Runs wrk for the whole seconds in `time`.
pub fn run(
    on: SocketAddr,
    connections: usize,
    request: &Request,
    time: Duration,
    cores: &[usize],
    usage: impl Fn() -> Usage,
) -> io::Result<Outcome> {
    // An anonymous file needs no cleanup.
    let mut script = File::from(memfd_create("compare.lua", MemfdFlags::CLOEXEC)?);
    script.write_all(SCRIPT.as_bytes())?;
    let name = format!("/proc/{}/fd/{}", std::process::id(), script.as_raw_fd());
    let seconds = takes(time).as_secs();
    let threads = cores.len().min(connections).max(1);
    let mut command: Vec<OsString> = ["wrk", "--timeout", "30s", "-s"].map(OsString::from).into();
    command.push(name.into());
    let options = [format!("-t{threads}"), format!("-c{connections}"), format!("-d{seconds}s")];
    command.extend(options.map(OsString::from));
    command.push(format!("http://{on}{}", request.path).into());

    let mut wrk = GuardedChild::start(&command, cores, Stdio::piped())?;
    let own = |wrk: &GuardedChild| Usage::of_group(wrk.group()).cpu_seconds();
    let edge = Duration::from_secs_f64(seconds as f64 * EDGE);
    thread::sleep(edge);
    let (before, began, busy) = (usage(), Instant::now(), own(&wrk));
    thread::sleep(Duration::from_secs(seconds) - 2 * edge);
    let (after, took, busy) = (usage(), began.elapsed().as_secs_f64(), own(&wrk) - busy);

    let mut output = String::new();
    if let Some(mut stdout) = wrk.take_output() {
        stdout.read_to_string(&mut output)?;
    }
    let report = parse(&output)?;
    let spent = after.since(&before).per(took);
    Ok(Outcome { report, spent, usage: after, busy: busy / took / threads as f64, threads })
}

/// Parses the line that the script prints.
fn parse(output: &str) -> io::Result<Report> {
    let line = output.lines().rev().find(|line| line.starts_with('{'));
    let line = line.ok_or_else(|| io::Error::other("cannot parse the output of wrk"))?;
    serde_json::from_str(line).map_err(|error| io::Error::other(format!("wrk: {error}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_what_the_script_prints() {
        let output = "Running 1s test\n  2 threads\n\n{\"requests\":12,\"micros\":1000001,\"errors\":1,\
                    \"curve\":[[50,81.000],[99.9,2400.500]]}\n";
        let curve = vec![(50.0, 81.0), (99.9, 2400.5)];
        assert_eq!(parse(output).ok(), Some(Report { requests: 12, micros: 1_000_001, errors: 1, curve }));
        assert!(parse("unable to connect").is_err());
    }

    #[test]
    fn reads_the_version_however_it_was_packaged() {
        let version = |output| parse_version(output);
        assert_eq!(version("wrk 4.2.0 [epoll] Copyright\n").as_deref(), Some("wrk 4.2.0"));
        assert_eq!(version("wrk debian/4.1.0-3+b2 [epoll] C").as_deref(), Some("wrk 4.1.0-3+b2"));
        assert_eq!(version("sh: wrk: not report"), None);
    }
}
