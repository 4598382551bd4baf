//! A program that serves on a command line, in a process of its own: this very one, told by its environment to be
//! what `apps/demo` is, with a few more routes.

use std::env;
use std::io::{BufRead, BufReader, Read};
use std::net::SocketAddr;
use std::process::{self, ChildStderr, ChildStdin, Command, ExitCode, Stdio};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;

use gearshift::{Backend, cli};
use rustix::process::{Pid, Resource, Rlimit, Signal, getrlimit, kill_process, setrlimit};

use crate::app;
use crate::client::{Client, wait_until};
use crate::process::Process;
use crate::routes;

/// Asks this program to serve, with as many descriptors as it says, or as many as there are if it says none.
const DESCRIPTORS: &str = "GEARSHIFT_FAULT_DESCRIPTORS";
/// What async-std takes its number of workers from.
const ASYNC_STD_THREADS: &str = "ASYNC_STD_THREAD_COUNT";
/// Bytes of its log that are kept.
const LOG: usize = 64 * 1024;

/// How many threads the pool of [`Program::start`] has.
pub(crate) const THREADS: u32 = 4;

/// A running process that serves. It ends when this is dropped.
pub(crate) struct Program {
    process: process::Child,
    /// The process ends when this does.
    _stdin: Option<ChildStdin>,
    addr: SocketAddr,
    log: Arc<Mutex<String>>,
}

impl Program {
    /// Starts one with these flags: one event loop, or [`THREADS`] threads, so that what hogs one is felt.
    pub(crate) fn start(backend: Backend, flags: &[&str]) -> Program {
        Program::start_with(backend, flags, None)
    }

    /// Starts one that may have no more than so many descriptors.
    pub(crate) fn start_with(backend: Backend, flags: &[&str], descriptors: Option<u64>) -> Program {
        let threads = THREADS.to_string();
        let size = match backend.name() {
            "threadpool" => ["--threads", &threads],
            _ => ["--workers", "1"],
        };
        let mut process = Command::new(env::current_exe().expect("this program has a path"))
            .args(["--backend", backend.name(), "--bind", "127.0.0.1:0"])
            .args(size)
            .args(flags)
            .env(DESCRIPTORS, descriptors.map_or_else(String::new, |most| most.to_string()))
            .env(ASYNC_STD_THREADS, "1")
            .env_remove("WEB_CONCURRENCY")
            .stdin(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("this program can be started");
        let mut stderr = BufReader::new(process.stderr.take().expect("it is piped"));
        let addr = address(&mut stderr);
        let log = Arc::new(Mutex::new(String::new()));
        let kept = log.clone();
        thread::spawn(move || keep(stderr, &kept));
        let stdin = process.stdin.take();
        Program { process, _stdin: stdin, addr, log }
    }

    pub(crate) fn addr(&self) -> SocketAddr {
        self.addr
    }

    pub(crate) fn client(&self) -> Client {
        Client::connect(self.addr)
    }

    /// What the system says of it.
    pub(crate) fn stats(&self) -> Process {
        Process::of(&self.process)
    }

    /// Checks that it runs, and answers somebody new, whose descriptor it has given back when this returns.
    pub(crate) fn expect_alive(&mut self) {
        assert!(self.process.try_wait().expect("it is ours").is_none(), "it has ended: {}", self.log());
        let mut client = self.client();
        client.send("GET /plaintext HTTP/1.1\r\nHost: test\r\nConnection: close\r\n\r\n");
        assert_eq!(client.answer().said(), (200, "Hello, World!".into()));
        client.expect_end();
    }

    /// Waits until it has as many descriptors as it had, which says that all connections of others are gone.
    pub(crate) fn expect_descriptors(&self, as_before: usize) {
        wait_until("it has as many descriptors as before", || self.stats().descriptors() <= as_before);
    }

    pub(crate) fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.process), signal).expect("it is ours");
    }

    /// Waits for its end, and gives its status.
    pub(crate) fn status(&mut self) -> Option<i32> {
        let mut status = None;
        wait_until("it ends", || {
            status = self.process.try_wait().expect("it is ours");
            status.is_some()
        });
        status.and_then(|status| status.code())
    }

    /// What it has said on standard error since it listens.
    pub(crate) fn log(&self) -> String {
        self.log.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// Reads its log up to where it says where it listens.
fn address(log: &mut BufReader<ChildStderr>) -> SocketAddr {
    let mut said = String::new();
    loop {
        let mut line = String::new();
        assert_ne!(log.read_line(&mut line).expect("a log in UTF-8"), 0, "it does not listen: {said}");
        if let Some((_, url)) = line.split_once("listening at http://") {
            let addr = url.split(' ').next().expect("a split has a first part");
            return addr.trim().parse().expect("an address");
        }
        said.push_str(&line);
    }
}

fn keep(log: BufReader<ChildStderr>, kept: &Mutex<String>) {
    for line in log.lines().map_while(Result::ok) {
        let mut kept = kept.lock().unwrap_or_else(PoisonError::into_inner);
        if kept.len() < LOG {
            kept.push_str(&line);
            kept.push('\n');
        }
    }
}

/// Serves as the command line says, until a signal or the end of standard input, if the environment says so.
pub(crate) fn run_if_asked_to() -> Option<ExitCode> {
    let descriptors = env::var(DESCRIPTORS).ok()?;
    if let Ok(most) = descriptors.parse() {
        let limit = Rlimit { current: Some(most), maximum: Some(most) };
        setrlimit(Resource::Nofile, limit).expect("a limit can be lowered");
    }
    app::silence_panics_on_purpose();
    thread::spawn(|| {
        let _ = std::io::stdin().read_to_end(&mut Vec::new());
        process::exit(0);
    });
    Some(cli::run(routes::app))
}

/// Raises the limit of this process as far as it goes.
pub(crate) fn allow_many_descriptors() {
    let limit = getrlimit(Resource::Nofile);
    let raised = Rlimit { current: limit.maximum, maximum: limit.maximum };
    // Where that is not allowed, what there is has to do.
    let _ = setrlimit(Resource::Nofile, raised);
}
