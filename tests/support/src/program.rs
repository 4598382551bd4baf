//! A server in a separate process, for tests of a whole process: its memory, its descriptors, its exit status.
//!
//! The process runs the executable of the test itself. The environment tells it to serve the application of
//! [`routes`] with the command line of [`gearshift::cli`]. A test or bench that uses [`Program`] therefore calls
//! [`run_if_asked_to`] first in its `main`.

use std::env;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::process::{self, ChildStderr, ChildStdin, Command, ExitCode, Stdio};
use std::sync::{Arc, Mutex, PoisonError, mpsc};
use std::thread;
use std::time::{Duration, Instant};

use gearshift::{App, Backend, Runtime, cli};
use rustix::process::{Pid, Resource, Rlimit, Signal, getrlimit, kill_process, setrlimit};

use crate::PATIENCE;
use crate::app;
use crate::backend::few_workers;
use crate::client::Client;
use crate::process::Process;
use crate::routes;
use crate::wait::wait_until;

/// Tells this executable to serve. The value is the limit of its file descriptors, or the soft and the hard limit as in
/// `256:1024`. Without a value, the limits of this process hold.
const DESCRIPTORS: &str = "GEARSHIFT_TEST_DESCRIPTORS";
/// Tells this executable that its application starts once a byte was read from standard input.
const HELD_START: &str = "GEARSHIFT_TEST_HELD_START";
/// The variable that async-std takes its number of workers from.
const ASYNC_STD_THREADS: &str = "ASYNC_STD_THREAD_COUNT";
/// How many bytes of the log are kept.
const LOG: usize = 64 * 1024;

/// A running server process. It is killed when this is dropped.
#[derive(Debug)]
pub struct Program {
    process: process::Child,
    /// The process ends when the other side of its standard input is closed.
    stdin: Option<ChildStdin>,
    addr: SocketAddr,
    /// What it has written to standard error before it began to listen.
    pub start_log: String,
    log: Arc<Mutex<String>>,
}

impl Program {
    /// Starts a server with these flags and the size of [`few_workers`].
    ///
    /// # Panics
    /// If it does not start.
    pub fn start(backend: Backend, flags: &[&str]) -> Program {
        Program::launch(small(backend).args(flags), "")
    }

    /// Starts a server as [`Program::start`] does, with a variable in its environment.
    ///
    /// # Panics
    /// If it does not start.
    pub fn start_with_variable(backend: Backend, flags: &[&str], name: &str, value: &str) -> Program {
        Program::launch(small(backend).args(flags).env(name, value), "")
    }

    /// Starts a server as [`Program::start`] does, whose application starts at [`Program::release`]. Connections wait
    /// in the queue of the kernel until then.
    ///
    /// # Panics
    /// If it does not listen.
    pub fn start_held(backend: Backend, flags: &[&str]) -> Program {
        Program::launch(small(backend).args(flags).env(HELD_START, ""), "")
    }

    /// Lets the application of [`Program::start_held`] start.
    ///
    /// # Panics
    /// If the process has ended.
    pub fn release(&mut self) {
        let stdin = self.stdin.as_mut().expect("standard input is piped");
        stdin.write_all(b"\n").expect("the process reads");
    }

    /// Starts a server with these flags and the default size, which has an event loop on each core where the backend
    /// has several.
    ///
    /// # Panics
    /// If it does not start.
    pub fn start_on_all_cores(backend: Backend, flags: &[&str]) -> Program {
        Program::launch(default_size(backend).args(flags), "")
    }

    /// Starts a server as [`Program::start`] does, whose file descriptors are limited.
    ///
    /// # Panics
    /// If it does not start.
    pub fn start_limited(backend: Backend, flags: &[&str], descriptors: u64) -> Program {
        Program::launch(small(backend).args(flags), &descriptors.to_string())
    }

    /// Starts a server as [`Program::start`] does, which inherits `descriptor` as number 3.
    ///
    /// # Panics
    /// If it does not start.
    pub fn start_inheriting(backend: Backend, flags: &[&str], descriptor: OwnedFd) -> Program {
        Program::launch(&mut inheriting(small(backend).args(flags), descriptor), "")
    }

    /// Starts a server as [`Program::start`] does, with a soft and a hard limit of file descriptors.
    ///
    /// # Panics
    /// If it does not start.
    pub fn start_with_limits(backend: Backend, flags: &[&str], soft: u64, hard: u64) -> Program {
        Program::launch(small(backend).args(flags), &format!("{soft}:{hard}"))
    }

    /// Starts a server of the default size, whose file descriptors are limited.
    ///
    /// # Panics
    /// If it does not start.
    pub fn start_default_size(backend: Backend, descriptors: u64) -> Program {
        Program::launch(&mut default_size(backend), &descriptors.to_string())
    }

    /// Starts a server as [`Program::start`] does, whose log only the caller reads.
    ///
    /// # Panics
    /// If it does not start.
    pub fn start_unread(backend: Backend, flags: &[&str]) -> (Program, BufReader<ChildStderr>) {
        Program::spawn(small(backend).args(flags), "")
    }

    fn launch(command: &mut Command, descriptors: &str) -> Program {
        let (program, stderr) = Program::spawn(command, descriptors);
        let kept = program.log.clone();
        thread::spawn(move || keep(stderr, &kept));
        program
    }

    /// Starts a server, and returns its log after the line with its address.
    fn spawn(command: &mut Command, descriptors: &str) -> (Program, BufReader<ChildStderr>) {
        let mut process = command
            .env(DESCRIPTORS, descriptors)
            .stdin(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("the executable of the test can be started");
        let mut stderr = BufReader::new(process.stderr.take().expect("standard error is piped"));
        let (start_log, addr) = address(&mut stderr);
        let stdin = process.stdin.take();
        (Program { process, stdin, addr, start_log, log: Arc::default() }, stderr)
    }

    /// The address that it listens on.
    pub fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// Opens a connection to it.
    pub fn client(&self) -> Client {
        Client::connect(self.addr)
    }

    /// What the operating system reports about the process.
    pub fn stats(&self) -> Process {
        Process::of(&self.process)
    }

    /// Whether the process has not ended.
    ///
    /// # Panics
    /// If the operating system does not tell.
    pub fn is_running(&mut self) -> bool {
        self.process.try_wait().expect("the process is a child of this one").is_none()
    }

    /// Checks that the process runs and answers a new connection. The server has closed that connection when this
    /// returns.
    ///
    /// # Panics
    /// If the process has ended or does not answer.
    pub fn expect_alive(&mut self) {
        assert!(self.is_running(), "the process has ended: {}", self.log());
        let mut client = self.client();
        client.send("GET /plaintext HTTP/1.1\r\nHost: test\r\nConnection: close\r\n\r\n");
        assert_eq!(client.answer().said(), (200, "Hello, World!".into()));
        client.expect_end();
    }

    /// Waits until it has at most `before` file descriptors, which shows that the connections since then are closed.
    ///
    /// # Panics
    /// If it keeps more.
    pub fn expect_descriptors(&self, before: usize) {
        wait_until("the server has no more descriptors than before", || self.stats().descriptors() <= before);
    }

    /// Sends a signal to the process.
    ///
    /// # Panics
    /// If the process has been waited for.
    pub fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.process), signal).expect("the process is a child of this one");
    }

    /// Waits for the end of the process. Returns its exit status, or `None` if a signal ended it.
    ///
    /// # Panics
    /// If the process does not end.
    pub fn status(&mut self) -> Option<i32> {
        let mut status = None;
        wait_until("the process ends", || {
            status = self.process.try_wait().expect("the process is a child of this one");
            status.is_some()
        });
        status.and_then(|status| status.code())
    }

    /// What it has written to standard error since it began to listen.
    pub fn log(&self) -> String {
        self.log.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Waits until the last line of the log says that `n` requests and upgraded connections were cut.
    ///
    /// # Panics
    /// The log does not say so within the patience of a test.
    pub fn expect_cut(&self, n: usize) {
        let said = format!(" {n} requests and upgraded connections were cut");
        wait_until("the log counts what was cut", || self.log().contains(&said));
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// Runs a server that does not start, with these flags and the size of [`few_workers`]. Returns its exit status and
/// what it has written to standard error.
///
/// # Panics
/// If the process cannot be started, or does not end.
pub fn run(backend: Backend, flags: &[&str]) -> (Option<i32>, String) {
    run_to_its_end(small(backend).args(flags))
}

/// Does the same for a server that inherits `descriptor` as number 3.
///
/// # Panics
/// As [`run`].
pub fn run_inheriting(backend: Backend, flags: &[&str], descriptor: OwnedFd) -> (Option<i32>, String) {
    run_to_its_end(&mut inheriting(small(backend).args(flags), descriptor))
}

/// The same command with `descriptor` as the inherited descriptor 3. A shell moves it there from standard output.
pub fn inheriting(command: &Command, descriptor: OwnedFd) -> Command {
    let mut shell = Command::new("sh");
    shell
        .args(["-c", r#"exec "$@" 3>&1 1>/dev/null"#, "sh"])
        .arg(command.get_program())
        .args(command.get_args());
    for (name, value) in command.get_envs() {
        match value {
            Some(value) => shell.env(name, value),
            None => shell.env_remove(name),
        };
    }
    shell.stdout(descriptor);
    shell
}

fn run_to_its_end(command: &mut Command) -> (Option<i32>, String) {
    let mut process = command
        .env(DESCRIPTORS, "")
        .stdin(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("the executable of the test can be started");
    let ended = Instant::now() + PATIENCE;
    let status = loop {
        match process.try_wait().expect("the process is a child of this one") {
            None if Instant::now() < ended => thread::sleep(Duration::from_millis(2)),
            status => break status,
        }
    };
    let _ = process.kill();
    let mut log = String::new();
    let mut stderr = process.stderr.take().expect("standard error is piped");
    stderr.read_to_string(&mut log).expect("the log is UTF-8");
    (status.expect("the server does not start").code(), log)
}

/// The command that starts this executable as a server with the default number of workers and threads.
fn default_size(backend: Backend) -> Command {
    let executable = env::current_exe().expect("the path of this executable is known");
    let mut command = Command::new(executable);
    command.args(["--backend", backend.name(), "--bind", "127.0.0.1:0"]).env_remove("WEB_CONCURRENCY");
    command
}

/// The same command with the number of workers and threads of [`few_workers`].
fn small(backend: Backend) -> Command {
    let mut command = default_size(backend);
    match few_workers(backend).threads {
        Some(threads) => command.args(["--threads", &threads.to_string()]),
        None => command.args(["--workers", "1"]).env(ASYNC_STD_THREADS, "1"),
    };
    command
}

/// Reads the log up to the line with the address that the server listens on. Returns the lines before it and the
/// address.
fn address(log: &mut BufReader<ChildStderr>) -> (String, SocketAddr) {
    let mut read = String::new();
    loop {
        let mut line = String::new();
        assert_ne!(
            log.read_line(&mut line).expect("the log is UTF-8"),
            0,
            "the server does not listen: {read}"
        );
        if let Some((_, url)) = line.split_once("listening at ").and_then(|(_, url)| url.split_once("://")) {
            let addr = url.split(' ').next().expect("a split has a first part");
            return (read, addr.trim().parse().expect("an address"));
        }
        read.push_str(&line);
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

/// Serves as the command line says, if the environment asks this process to. The server runs until a signal or until
/// standard input is closed.
///
/// Returns `None` in the process of the test.
///
/// # Panics
/// If the limit of file descriptors cannot be set.
pub fn run_if_asked_to() -> Option<ExitCode> {
    let descriptors = env::var(DESCRIPTORS).ok()?;
    let (soft, hard) = descriptors.split_once(':').unwrap_or((&descriptors, &descriptors));
    if let (Ok(soft), Ok(hard)) = (soft.parse(), hard.parse()) {
        let limit = Rlimit { current: Some(soft), maximum: Some(hard) };
        setrlimit(Resource::Nofile, limit).expect("a limit can be lowered");
    }
    app::silence_panics_on_purpose();
    let (release, released) = mpsc::channel();
    thread::spawn(move || {
        while matches!(std::io::stdin().read(&mut [0]), Ok(1..)) {
            let _ = release.send(());
        }
        process::exit(0);
    });
    let app = App::start(async |runtime: Runtime| {
        if env::var(HELD_START).is_ok() {
            runtime.blocking(move || released.recv()).await?;
        }
        Ok(routes::app())
    });
    Some(cli::run(app))
}

/// Raises the limit of file descriptors of this process to its maximum. Both sides of all connections of a test count
/// against it.
pub fn allow_many_descriptors() {
    let limit = getrlimit(Resource::Nofile);
    let raised = Rlimit { current: limit.maximum, maximum: limit.maximum };
    // Where raising is not allowed, the tests run with the limit that there is.
    let _ = setrlimit(Resource::Nofile, raised);
}
