//! One server process: started on a free port, asked until it answers, and killed when it goes out of scope.

use std::io::{BufRead, BufReader, Read};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::process::{ChildStderr, Stdio};
use std::sync::{Arc, Mutex, PoisonError, mpsc};
use std::thread;
use std::time::{Duration, Instant};

use crate::failure::Failure;
use crate::guard::Guarded;
use crate::load::{Ask, idle};
use crate::proc::Usage;
use crate::serve::Served;
use crate::subject::Subject;

/// How long a server may take to listen.
const PATIENCE: Duration = Duration::from_secs(10);
/// How often it is looked whether it does.
const LOOK: Duration = Duration::from_millis(2);
/// Below the ports that systems give to clients, so that no connection of a generator takes one meanwhile.
const PORTS: std::ops::Range<u16> = 15_000..32_000;
/// How many ports are tried.
const TRIES: usize = 64;
/// How often a server is started that ends at once, each time on another port.
const STARTS: usize = 3;
/// How long what a server said before it ended may take to be read.
const LAST_WORDS: Duration = Duration::from_secs(1);
/// The longest line of a server's that is kept.
const LONGEST_LINE: u64 = 1024;

/// A server that runs.
#[derive(Debug)]
pub struct Server {
    process: Guarded,
    addr: SocketAddr,
    name: String,
    said: Option<Said>,
}

impl Server {
    /// Starts one, and has it answer some requests.
    ///
    /// # Errors
    /// [`Failure::Server`] if it does not listen in time, [`Failure::Path`] if it answers with an error.
    pub fn start(
        subject: &Subject,
        app: Served,
        upstream: Option<SocketAddr>,
        cores: &[usize],
        asks: &[&Ask],
    ) -> Result<Server, Failure> {
        let mut starts = 0;
        loop {
            let addr = SocketAddr::from((Ipv4Addr::LOCALHOST, free_port()?));
            let mut server = Server::spawn(addr, subject, app, upstream, cores)?;
            if server.listens()? {
                asks.iter().try_for_each(|ask| server.check(ask))?;
                // Unless it was another program that listened, and answered.
                if server.process.ended()?.is_none() {
                    return Ok(server);
                }
            }
            starts += 1;
            if starts == STARTS {
                return Err(server.failure("does not start"));
            }
        }
    }

    fn spawn(
        addr: SocketAddr,
        subject: &Subject,
        app: Served,
        upstream: Option<SocketAddr>,
        cores: &[usize],
    ) -> Result<Server, Failure> {
        let mut process = Guarded::start(&subject.command(app, addr.port(), upstream), cores, Stdio::null())?;
        let said = process.take_errors().map(Said::on);
        Ok(Server { process, addr, name: subject.name.clone(), said })
    }

    /// Where it listens.
    pub fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// What it has used, and everybody of these processors.
    pub fn usage(&self, cores: &[usize]) -> Usage {
        Usage::of_group(self.process.group()).on(cores)
    }

    /// Says that it is still there.
    ///
    /// # Errors
    /// [`Failure::Server`] if it is not.
    pub fn check_alive(&mut self) -> Result<(), Failure> {
        match self.process.ended()? {
            None => Ok(()),
            Some(_) => Err(self.failure("is gone")),
        }
    }

    /// Waits until it listens; says whether it does, or has ended instead: perhaps another program was quicker to take
    /// the port.
    fn listens(&mut self) -> Result<bool, Failure> {
        let end = Instant::now() + PATIENCE;
        while TcpStream::connect(self.addr).is_err() {
            if self.process.ended()?.is_some() {
                return Ok(false);
            }
            if Instant::now() >= end {
                let seconds = PATIENCE.as_secs();
                return Err(self.failure(&format!("does not listen on its port within {seconds} s")));
            }
            thread::sleep(LOOK);
        }
        Ok(true)
    }

    fn check(&mut self, ask: &Ask) -> Result<(), Failure> {
        match idle::exchange(self.addr, ask) {
            Ok((_, answer)) if answer.is_success() => Ok(()),
            Ok((_, answer)) => Err(Failure::Path {
                subject: self.name.clone(),
                path: ask.path.clone(),
                answer: answer.status.to_string(),
            }),
            Err(error) => Err(self.failure(&format!("does not answer {}: {error}", ask.path))),
        }
    }

    fn failure(&mut self, why: &str) -> Failure {
        let ended = matches!(self.process.ended(), Ok(Some(_)));
        let said = self.said.as_ref().map(|said| said.last(ended)).unwrap_or_default();
        let why = if said.is_empty() { why.into() } else { format!("{why}: {said}") };
        Failure::Server { subject: self.name.clone(), why }
    }
}

/// A port that nobody listens on.
fn free_port() -> Result<u16, Failure> {
    let mut random = fastrand::Rng::new();
    let free = |port: &u16| TcpListener::bind((Ipv4Addr::LOCALHOST, *port)).is_ok();
    let port = std::iter::repeat_with(|| random.u16(PORTS)).take(TRIES).find(free);
    port.ok_or_else(|| Failure::System(std::io::Error::other("there is no free port")))
}

/// What a server says on standard error.
#[derive(Debug)]
struct Said {
    line: Arc<Mutex<String>>,
    /// Disconnected when there is nothing more to come.
    end: mpsc::Receiver<()>,
}

impl Said {
    fn on(errors: ChildStderr) -> Said {
        let line = Arc::new(Mutex::new(String::new()));
        let (ends, end) = mpsc::channel::<()>();
        let here = line.clone();
        thread::spawn(move || {
            let _ends = ends;
            let (mut errors, mut line) = (BufReader::new(errors), Vec::new());
            while (&mut errors).take(LONGEST_LINE).read_until(b'\n', &mut line).is_ok_and(|n| n > 0) {
                let text = String::from_utf8_lossy(&line);
                if !text.trim().is_empty() {
                    text.trim()
                        .trim_start_matches("error: ")
                        .clone_into(&mut here.lock().unwrap_or_else(PoisonError::into_inner));
                }
                line.clear();
            }
        });
        Said { line, end }
    }

    /// The last line; of a server that has ended, the last of all, unless something that it left behind keeps quiet.
    fn last(&self, ended: bool) -> String {
        if ended {
            let _ = self.end.recv_timeout(LAST_WORDS);
        }
        self.line.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}
