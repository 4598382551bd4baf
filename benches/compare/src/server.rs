//! One server process: started on a free port, polled until it responds, and killed on drop.

use std::io::{BufRead, BufReader, ErrorKind, Read};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::process::{ChildStderr, Stdio};
use std::sync::{Arc, Mutex, PoisonError, mpsc};
use std::thread;
use std::time::{Duration, Instant};

use crate::failure::Failure;
use crate::guard::GuardedChild;
use crate::load::{Request, idle};
use crate::proc::Usage;
use crate::serve::Application;
use crate::subject::Subject;

/// Deadline for the server to listen, and for its first response if it listens before it is ready.
const START_TIMEOUT: Duration = Duration::from_secs(10);
/// Interval between attempts to connect.
const POLL_INTERVAL: Duration = Duration::from_millis(2);
/// Ports to choose from. They lie below the ephemeral range, so no generator connection can take the chosen port.
const PORTS: std::ops::Range<u16> = 15_000..32_000;
/// Number of ports to try.
const PORT_ATTEMPTS: usize = 64;
/// Number of starts, each on another port, if the server exits at once.
const START_ATTEMPTS: usize = 3;
/// Deadline for reading the remaining stderr of a server that has exited.
const STDERR_TIMEOUT: Duration = Duration::from_secs(1);
/// Longest line of stderr that is kept, in bytes.
const MAX_LINE: u64 = 1024;

/// A running server.
#[derive(Debug)]
pub struct Server {
    process: GuardedChild,
    addr: SocketAddr,
    name: String,
    stderr: Option<StderrTail>,
}

impl Server {
    /// Starts a server and checks that it answers each of `requests`.
    ///
    /// # Errors
    /// [`Failure::Server`] if it does not listen in time, [`Failure::Path`] if a response is not successful.
    pub fn start(
        subject: &Subject,
        app: Application,
        upstream: Option<SocketAddr>,
        cores: &[usize],
        requests: &[&Request],
    ) -> Result<Server, Failure> {
        let mut starts = 0;
        loop {
            let end = Instant::now() + START_TIMEOUT;
            let addr = SocketAddr::from((Ipv4Addr::LOCALHOST, free_port()?));
            let mut server = Server::spawn(addr, subject, app, upstream, cores)?;
            if server.listens(end)? {
                requests.iter().try_for_each(|request| server.check(request, end))?;
                // If the process has exited, another program answered on this port.
                if server.process.ended()?.is_none() {
                    return Ok(server);
                }
            }
            starts += 1;
            if starts == START_ATTEMPTS {
                return Err(server.failure("does not start"));
            }
        }
    }

    fn spawn(
        addr: SocketAddr,
        subject: &Subject,
        app: Application,
        upstream: Option<SocketAddr>,
        cores: &[usize],
    ) -> Result<Server, Failure> {
        let mut process =
            GuardedChild::start(&subject.command(app, addr.port(), upstream), cores, Stdio::null())?;
        let stderr = process.take_errors().map(StderrTail::on);
        Ok(Server { process, addr, name: subject.name.clone(), stderr })
    }

    /// The address that the server listens on.
    pub fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// Resources used by the server so far, and by all programs on `cores`.
    pub fn usage(&self, cores: &[usize]) -> Usage {
        Usage::of_group(self.process.group()).on(cores)
    }

    /// Checks that the server still runs.
    ///
    /// # Errors
    /// [`Failure::Server`] if it has exited.
    pub fn check_alive(&mut self) -> Result<(), Failure> {
        match self.process.ended()? {
            None => Ok(()),
            Some(_) => Err(self.failure("has exited")),
        }
    }

    /// Waits until the server listens. Returns false if it exits first, for example because another program took the
    /// port.
    fn listens(&mut self, end: Instant) -> Result<bool, Failure> {
        while TcpStream::connect(self.addr).is_err() {
            if self.process.ended()?.is_some() {
                return Ok(false);
            }
            if Instant::now() >= end {
                let seconds = START_TIMEOUT.as_secs();
                return Err(self.failure(&format!("does not listen on its port within {seconds} s")));
            }
            thread::sleep(POLL_INTERVAL);
        }
        Ok(true)
    }

    /// Checks that a request is answered. Repeats it if there is no response in time, until `end`.
    fn check(&mut self, request: &Request, end: Instant) -> Result<(), Failure> {
        match idle::exchange(self.addr, request) {
            Err(error) if is_timeout(&error) && Instant::now() < end => self.check(request, end),
            Ok((_, response)) if response.is_success() => Ok(()),
            Ok((_, response)) => Err(Failure::Path {
                subject: self.name.clone(),
                path: request.path.clone(),
                status: response.status,
            }),
            Err(error) => Err(self.failure(&format!("no response to {}: {error}", request.path))),
        }
    }

    fn failure(&mut self, why: &str) -> Failure {
        let ended = matches!(self.process.ended(), Ok(Some(_)));
        let stderr = self.stderr.as_ref().map(|stderr| stderr.last(ended)).unwrap_or_default();
        let why = if stderr.is_empty() { why.into() } else { format!("{why}: {stderr}") };
        Failure::Server { subject: self.name.clone(), why }
    }
}

fn is_timeout(error: &std::io::Error) -> bool {
    matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut)
}

/// A port with no listener.
fn free_port() -> Result<u16, Failure> {
    let mut random = fastrand::Rng::new();
    let free = |port: &u16| TcpListener::bind((Ipv4Addr::LOCALHOST, *port)).is_ok();
    let port = std::iter::repeat_with(|| random.u16(PORTS)).take(PORT_ATTEMPTS).find(free);
    port.ok_or_else(|| Failure::System(std::io::Error::other("no free port found")))
}

/// The last line that a server wrote to stderr, read by a thread.
#[derive(Debug)]
struct StderrTail {
    line: Arc<Mutex<String>>,
    /// Disconnected at the end of stderr.
    end: mpsc::Receiver<()>,
}

impl StderrTail {
    fn on(errors: ChildStderr) -> StderrTail {
        let line = Arc::new(Mutex::new(String::new()));
        let (ends, end) = mpsc::channel::<()>();
        let here = line.clone();
        thread::spawn(move || {
            let _ends = ends;
            let (mut errors, mut line) = (BufReader::new(errors), Vec::new());
            while (&mut errors).take(MAX_LINE).read_until(b'\n', &mut line).is_ok_and(|n| n > 0) {
                let text = String::from_utf8_lossy(&line);
                if !text.trim().is_empty() {
                    text.trim()
                        .trim_start_matches("error: ")
                        .clone_into(&mut here.lock().unwrap_or_else(PoisonError::into_inner));
                }
                line.clear();
            }
        });
        StderrTail { line, end }
    }

    /// The last line. If the server has exited, waits for the end of stderr, which a child of the server may keep open.
    fn last(&self, ended: bool) -> String {
        if ended {
            let _ = self.end.recv_timeout(STDERR_TIMEOUT);
        }
        self.line.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}
