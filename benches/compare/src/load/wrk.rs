//! `wrk`, where it is installed: the generator that most figures of others were made with.
//!
//! It knows closed loops on one path only, in whole seconds, and forgets requests that have no answer at its end, so
//! it is used where answers come at once and the processor is the limit. For what it takes for omissions it adds
//! latencies that it did not measure; its upper percentiles are for comparing backends with each other.

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

use super::Ask;
use crate::guard::Guarded;
use crate::proc::{Spent, Usage};

/// The shortest time it can run.
const SHORTEST: Duration = Duration::from_secs(1);
/// The part of its time that is left out at the begin and at the end when the server is looked at.
const EDGE: f64 = 0.1;

/// Has wrk print what it found, as JSON.
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

/// What wrk found.
#[derive(Clone, Debug, Deserialize, PartialEq)]
pub struct Found {
    /// Requests that were answered.
    pub requests: u64,
    /// How long it ran, in µs.
    pub micros: u64,
    /// Everything that went wrong.
    pub errors: u64,
    /// Pairs of percentile and µs.
    pub curve: Vec<(f64, f64)>,
}

/// What came of it.
#[derive(Clone, Debug)]
pub struct Made {
    /// What wrk found.
    pub found: Found,
    /// What the server used, per second.
    pub spent: Spent,
    /// The server, as it was at the end.
    pub usage: Usage,
    /// How busy its threads were, 1 being all the time.
    pub busy: f64,
    /// Its threads.
    pub threads: usize,
}

/// Its name and version, if it is installed.
pub fn version() -> Option<String> {
    let output = Command::new("wrk").arg("-v").stdin(Stdio::null()).output().ok()?;
    let said = [output.stdout, output.stderr].concat();
    parse_version(&String::from_utf8_lossy(&said))
}

/// From "wrk 4.1.0 [epoll] Copyright ...", or "wrk debian/4.1.0-3+b2 [epoll] ...".
fn parse_version(said: &str) -> Option<String> {
    let mut words = said.lines().find(|line| line.starts_with("wrk "))?.split(' ');
    let version = words.nth(1)?;
    Some(format!("wrk {}", version.rsplit('/').next().unwrap_or(version)))
}

/// How long it runs if it is to run for so long.
pub fn takes(time: Duration) -> Duration {
    Duration::from_secs(time.max(SHORTEST).as_secs())
}

/// Has it run for so long, in whole seconds.
pub fn run(
    on: SocketAddr,
    connections: usize,
    ask: &Ask,
    time: Duration,
    cores: &[usize],
    usage: impl Fn() -> Usage,
) -> io::Result<Made> {
    // A file without a name, which cannot be left behind.
    let mut script = File::from(memfd_create("compare.lua", MemfdFlags::CLOEXEC)?);
    script.write_all(SCRIPT.as_bytes())?;
    let name = format!("/proc/{}/fd/{}", std::process::id(), script.as_raw_fd());
    let seconds = takes(time).as_secs();
    let threads = cores.len().min(connections).max(1);
    let mut command: Vec<OsString> = ["wrk", "--timeout", "30s", "-s"].map(OsString::from).into();
    command.push(name.into());
    let options = [format!("-t{threads}"), format!("-c{connections}"), format!("-d{seconds}s")];
    command.extend(options.map(OsString::from));
    command.push(format!("http://{on}{}", ask.path).into());

    let mut wrk = Guarded::start(&command, cores, Stdio::piped())?;
    let own = |wrk: &Guarded| Usage::of_group(wrk.group()).cpu_seconds();
    let edge = Duration::from_secs_f64(seconds as f64 * EDGE);
    thread::sleep(edge);
    let (before, began, busy) = (usage(), Instant::now(), own(&wrk));
    thread::sleep(Duration::from_secs(seconds) - 2 * edge);
    let (after, took, busy) = (usage(), began.elapsed().as_secs_f64(), own(&wrk) - busy);

    let mut said = String::new();
    if let Some(mut output) = wrk.take_output() {
        output.read_to_string(&mut said)?;
    }
    let found = parse(&said)?;
    let spent = after.since(&before).per(took);
    Ok(Made { found, spent, usage: after, busy: busy / took / threads as f64, threads })
}

/// The line of the script.
fn parse(said: &str) -> io::Result<Found> {
    let line = said.lines().rev().find(|line| line.starts_with('{'));
    let line = line.ok_or_else(|| io::Error::other("wrk has said nothing that is understood"))?;
    serde_json::from_str(line).map_err(|error| io::Error::other(format!("wrk: {error}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_what_the_script_prints() {
        let said = "Running 1s test\n  2 threads\n\n{\"requests\":12,\"micros\":1000001,\"errors\":1,\
                    \"curve\":[[50,81.000],[99.9,2400.500]]}\n";
        let curve = vec![(50.0, 81.0), (99.9, 2400.5)];
        assert_eq!(parse(said).ok(), Some(Found { requests: 12, micros: 1_000_001, errors: 1, curve }));
        assert!(parse("unable to connect").is_err());
    }

    #[test]
    fn reads_the_version_however_it_was_packaged() {
        let version = |said| parse_version(said);
        assert_eq!(version("wrk 4.2.0 [epoll] Copyright\n").as_deref(), Some("wrk 4.2.0"));
        assert_eq!(version("wrk debian/4.1.0-3+b2 [epoll] C").as_deref(), Some("wrk 4.1.0-3+b2"));
        assert_eq!(version("sh: wrk: not found"), None);
    }
}
