//! A running supervisor, whose log tells of its processes.

use std::fs;
use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::panic::{self, AssertUnwindSafe};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use gearshift::Backend;
use rustix::process::{Pid, Signal, kill_process};
use test_support::client::Client;
use test_support::{PATIENCE, wait_until};

/// A running supervisor. It is killed when this is dropped, and its processes end with it.
pub(crate) struct Supervisor {
    child: Child,
    log: Arc<Mutex<String>>,
}

impl Supervisor {
    pub(crate) fn start(backend: Backend, flags: &[&str]) -> Supervisor {
        Supervisor::start_program(Path::new(env!("CARGO_BIN_EXE_demo")), backend, flags)
    }

    pub(crate) fn start_program(program: &Path, backend: Backend, flags: &[&str]) -> Supervisor {
        Supervisor::spawn(Command::new(program), backend, flags)
    }

    /// Starts a supervisor and waits until it listens.
    pub(crate) fn spawn(mut command: Command, backend: Backend, flags: &[&str]) -> Supervisor {
        command.args(["--backend", backend.name()]).args(flags).env_remove("WEB_CONCURRENCY");
        if !flags.contains(&"--bind") {
            command.args(["--bind", "127.0.0.1:0"]);
        }
        let mut child = command.stderr(Stdio::piped()).spawn().expect("the program starts");
        let stderr = BufReader::new(child.stderr.take().expect("it is piped"));
        let log = Arc::new(Mutex::new(String::new()));
        let kept = log.clone();
        thread::spawn(move || {
            for line in stderr.lines() {
                let line = line.expect("a log in UTF-8");
                kept.lock().expect("no thread has panicked").push_str(&format!("{line}\n"));
            }
        });
        let supervisor = Supervisor { child, log };
        supervisor.expect_line("listening at", 1);
        supervisor
    }

    pub(crate) fn id(&self) -> u32 {
        self.child.id()
    }

    pub(crate) fn log(&self) -> String {
        self.log.lock().expect("no thread has panicked").clone()
    }

    /// Waits until `holds` returns true. Otherwise the test fails with the log.
    fn expect(&self, what: &str, holds: impl Fn() -> bool) {
        let wait = AssertUnwindSafe(|| wait_until(what, holds));
        if panic::catch_unwind(wait).is_err() {
            panic!("{what}: not in time, with {} processes:\n{}", self.children(), self.log());
        }
    }

    /// Waits until the log has `what` as often as `times`.
    pub(crate) fn expect_line(&self, what: &str, times: usize) {
        let has_line = || self.log().matches(what).count() >= times;
        self.expect(&format!("'{what}' is {times} times in the log"), has_line);
    }

    /// The address that it listens on.
    pub(crate) fn addr(&self) -> SocketAddr {
        let log = self.log();
        let address = log.split_once("listening at http://").expect("the address is logged").1;
        address.split(' ').next().expect("a split has a first part").parse().expect("an address")
    }

    pub(crate) fn client(&self) -> Client {
        Client::connect(self.addr())
    }

    /// The processes that serve and were not told to stop, in the order in which they began.
    pub(crate) fn serving(&self) -> Vec<u32> {
        let log = self.log();
        let mut serving: Vec<u32> = Vec::new();
        for line in log.lines() {
            if let Some((id, _)) =
                line.split_once("] process ").and_then(|(_, rest)| rest.split_once(" serves"))
            {
                serving.push(id.parse().expect("a number"));
            }
            let ended = [" has ", " is told to stop"]
                .into_iter()
                .filter_map(|what| line.split_once("] process ").and_then(|(_, rest)| rest.split_once(what)));
            for (id, _) in ended {
                serving.retain(|serving| serving.to_string() != id);
            }
        }
        serving
    }

    /// Waits until this number of processes serves, and the ones that do not have ended.
    pub(crate) fn expect_serving(&self, n: usize) {
        let serves = || self.serving().len() == n && self.children() == n;
        self.expect(&format!("{n} processes serve"), serves);
    }

    /// The number of processes that have this one as their parent.
    fn children(&self) -> usize {
        let id = self.id();
        let children = fs::read_to_string(format!("/proc/{id}/task/{id}/children")).unwrap_or_default();
        children.split_whitespace().count()
    }

    pub(crate) fn parent_of(&self, id: u32) -> Option<u32> {
        let status = fs::read_to_string(format!("/proc/{id}/status")).ok()?;
        status.lines().find_map(|line| line.strip_prefix("PPid:"))?.trim().parse().ok()
    }

    /// Waits until a process does not run any more.
    pub(crate) fn expect_gone(&self, id: u32) {
        let is_gone = || {
            let status = fs::read_to_string(format!("/proc/{id}/status"));
            status.map_or(true, |status| status.contains("State:\tZ"))
        };
        wait_until("the process is gone", is_gone);
    }

    pub(crate) fn signal(&self, signal: Signal) {
        self.signal_process(self.id(), signal);
    }

    /// Sends a signal to the supervisor, or to one of its processes.
    pub(crate) fn signal_process(&self, id: u32, signal: Signal) {
        let id = i32::try_from(id).ok().and_then(Pid::from_raw).expect("the number of a process");
        // A process may have ended by itself.
        let _ = kill_process(id, signal);
    }

    pub(crate) fn kill(&self, id: u32) {
        self.signal_process(id, Signal::KILL);
    }

    pub(crate) fn terminate(&self, id: u32) {
        self.signal_process(id, Signal::TERM);
    }

    /// Waits for the end of the supervisor. Returns its exit status, or `None` if a signal has ended it.
    pub(crate) fn status(&mut self) -> Option<i32> {
        let patient = Instant::now() + PATIENCE;
        self.status_before(patient)
    }

    /// Does the same, and waits as long as idle connections may.
    pub(crate) fn status_within_grace(&mut self) -> Option<i32> {
        // A server with the default settings.
        let grace = gearshift::Config::default().graceful_timeout;
        self.status_before(Instant::now() + grace + PATIENCE)
    }

    fn status_before(&mut self, deadline: Instant) -> Option<i32> {
        loop {
            if let Some(status) = self.child.try_wait().expect("it is a child of this process") {
                return status.code();
            }
            assert!(Instant::now() < deadline, "the program does not end:\n{}", self.log());
            thread::sleep(Duration::from_millis(2));
        }
    }
}

impl Drop for Supervisor {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
