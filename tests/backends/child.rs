//! A server in a process of its own, for what concerns a whole process. The process is this very program, told by
//! its environment to serve.

use std::env;
use std::io::{BufRead, BufReader, Read};
use std::net::SocketAddr;
use std::process::{self, ChildStdin, Command, ExitCode, Stdio};
use std::thread;

use gearshift::{App, Backend, Bind, Config, Endpoint, Server};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use crate::process::Process;

/// Names the backend to serve with.
const BACKEND: &str = "GEARSHIFT_TEST_BACKEND";
/// Says how many descriptors the process may have.
const DESCRIPTORS: &str = "GEARSHIFT_TEST_DESCRIPTORS";

/// A running process that serves the demo. It ends when this is dropped.
pub(crate) struct Child {
    process: process::Child,
    /// The process ends when this does.
    _stdin: Option<ChildStdin>,
    addr: SocketAddr,
}

impl Child {
    /// Starts one that may have so many descriptors.
    pub(crate) fn serve(backend: Backend, descriptors: u64) -> Child {
        let mut process = Command::new(env::current_exe().expect("this program has a path"))
            .env(BACKEND, backend.name())
            .env(DESCRIPTORS, descriptors.to_string())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("this program can be started");
        let mut line = String::new();
        let stdout = process.stdout.take().expect("it is piped");
        BufReader::new(stdout).read_line(&mut line).expect("it says where it listens");
        let addr = line.trim().parse().expect("an address");
        let stdin = process.stdin.take();
        Child { process, _stdin: stdin, addr }
    }

    pub(crate) fn addr(&self) -> SocketAddr {
        self.addr
    }

    pub(crate) fn is_running(&mut self) -> bool {
        self.process.try_wait().expect("it is ours").is_none()
    }

    /// What the system says of it.
    pub(crate) fn stats(&self) -> Process {
        Process::of(&self.process)
    }
}

impl Drop for Child {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// Serves the demo until standard input ends, if the environment says so.
pub(crate) fn serve_if_asked_to() -> Option<ExitCode> {
    let backend: Backend = env::var(BACKEND).ok()?.parse().expect("a backend that is compiled in");
    let descriptors = env::var(DESCRIPTORS).expect("a number of descriptors");
    let descriptors = Some(descriptors.parse().expect("a number"));
    let limit = Rlimit { current: descriptors, maximum: descriptors };
    setrlimit(Resource::Nofile, limit).expect("a limit can be lowered");

    let bind = Bind::Tcp("127.0.0.1:0".into());
    let server = Server::bind(&[bind], Config::default()).expect("a free port");
    match server.endpoints().next() {
        Some(Endpoint::Tcp(addr)) => println!("{addr}"),
        other => panic!("bound to {other:?}"),
    }
    thread::spawn(|| {
        let _ = std::io::stdin().read_to_end(&mut Vec::new());
        process::exit(0);
    });
    let served = backend.serve(server, App::new(demo::app));
    eprintln!("{backend} ended: {served:?}");
    Some(ExitCode::FAILURE)
}

/// Raises the limit of this process as far as it goes: both sides of all connections are in it.
pub(crate) fn allow_many_descriptors() {
    let limit = getrlimit(Resource::Nofile);
    let raised = Rlimit { current: limit.maximum, maximum: limit.maximum };
    // Where that is not allowed, what there is has to do.
    let _ = setrlimit(Resource::Nofile, raised);
}
