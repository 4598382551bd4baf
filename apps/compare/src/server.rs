//! One server process: started on a free port, asked until it answers, and killed when it goes out of scope.

use std::io::{BufRead, BufReader, Read};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::process::{ChildStderr, Stdio};
use std::sync::{Arc, Mutex, PoisonError};
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
/// How often a server is started, if its port is taken meanwhile.
const STARTS: usize = 3;
/// The longest line of a server's that is kept.
const LONGEST_LINE: u64 = 1024;

/// A server that runs.
#[derive(Debug)]
pub struct Server {
    process: Guarded,
    addr: SocketAddr,
    name: String,
    said: Arc<Mutex<String>>,
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
        for _ in 1..STARTS {
            let addr = SocketAddr::from((Ipv4Addr::LOCALHOST, free_port()?));
            match Server::start_on(addr, subject, app, upstream, cores) {
                // Another program was quicker to take the port.
                Err(Failure::Server { .. }) if TcpStream::connect(addr).is_ok() => {}
                outcome => return outcome?.checked(asks),
            }
        }
        let addr = SocketAddr::from((Ipv4Addr::LOCALHOST, free_port()?));
        Server::start_on(addr, subject, app, upstream, cores)?.checked(asks)
    }

    fn start_on(
        addr: SocketAddr,
        subject: &Subject,
        app: Served,
        upstream: Option<SocketAddr>,
        cores: &[usize],
    ) -> Result<Server, Failure> {
        let mut process = Guarded::start(&subject.command(app, addr.port(), upstream), cores, Stdio::null())?;
        let said = process.take_errors().map(last_line).unwrap_or_default();
        let mut server = Server { process, addr, name: subject.name.clone(), said };
        server.wait_until_it_listens()?;
        Ok(server)
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

    fn wait_until_it_listens(&mut self) -> Result<(), Failure> {
        let end = Instant::now() + PATIENCE;
        while TcpStream::connect(self.addr).is_err() {
            if self.process.ended()?.is_some() {
                return Err(self.failure("does not start"));
            }
            if Instant::now() >= end {
                let seconds = PATIENCE.as_secs();
                return Err(self.failure(&format!("does not listen on its port within {seconds} s")));
            }
            thread::sleep(LOOK);
        }
        Ok(())
    }

    fn checked(mut self, asks: &[&Ask]) -> Result<Server, Failure> {
        asks.iter().try_for_each(|ask| self.check(ask))?;
        Ok(self)
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

    fn failure(&self, why: &str) -> Failure {
        let said = self.said.lock().unwrap_or_else(PoisonError::into_inner);
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

/// The last line that was said, now and from then on.
fn last_line(errors: ChildStderr) -> Arc<Mutex<String>> {
    let said = Arc::new(Mutex::new(String::new()));
    let here = said.clone();
    thread::spawn(move || {
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
    said
}
