//! What a thousand peers that dribble their heads cost the others: the 99th percentile of `/plaintext`, with and
//! without them.
//!
//! `cargo bench --bench loris --all-features`, or `-- mio smol` for some backends.
//!
//! Each server is a process with one event loop, or four threads. Eight connections ask it as fast as it answers;
//! each dribbler sends a byte a second, and begins again when it is told 408. Backends and cases take turns, and what
//! is shown are medians of the turns. The ratio is what counts; the figures are this machine's.

use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::process::ExitCode;
use std::time::{Duration, Instant};

use gearshift::Backend;
use rustix::event::{PollFd, PollFlags, poll};
use test_support::dribble::{Dribblers, Plan};
use test_support::program::{self, Program};
use test_support::wait_until;

const CONNECTIONS: usize = 8;
const DRIBBLERS: usize = 1000;
const TURNS: usize = 5;
const TURN: Duration = Duration::from_secs(1);
const REQUEST: &[u8] = b"GET /plaintext HTTP/1.1\r\nHost: a\r\n\r\n";

fn main() -> ExitCode {
    if let Some(status) = program::run_if_asked_to() {
        return status;
    }
    program::allow_many_descriptors();
    let named: Vec<_> = std::env::args().skip(1).filter(|name| !name.starts_with('-')).collect();
    let wanted = |backend: &&Backend| named.is_empty() || named.iter().any(|name| name == backend.name());
    let mut rows: Vec<_> =
        Backend::available().iter().filter(wanted).map(|backend| Row::new(*backend)).collect();
    for turn in 0..TURNS {
        for row in &mut rows {
            // Neither case is always the first.
            for crowded in [turn % 2 == 0, turn % 2 != 0] {
                row.measure(crowded);
            }
        }
    }
    println!(
        "{:12} {:>10} {:>9} {:>9} {:>9} {:>10} {:>7}",
        "backend", "requests/s", "p50", "p99", "p99 with", "slowest", "ratio"
    );
    for row in rows {
        row.print();
    }
    ExitCode::SUCCESS
}

/// What one backend has shown.
struct Row {
    backend: Backend,
    server: Program,
    /// Descriptors that it has when nobody is there.
    idle: usize,
    alone: Vec<Sample>,
    crowded: Vec<Sample>,
}

/// What one turn has shown.
struct Sample {
    a_second: f64,
    half: Duration,
    most: Duration,
    slowest: Duration,
}

impl Row {
    fn new(backend: Backend) -> Row {
        let mut server = Program::start(backend, &[]);
        server.expect_alive();
        let idle = server.stats().descriptors();
        Row { backend, server, idle, alone: Vec::new(), crowded: Vec::new() }
    }

    fn measure(&mut self, crowded: bool) {
        wait_until("nobody is there", || self.server.stats().descriptors() <= self.idle);
        if !crowded {
            return self.alone.push(ask(self.server.addr()));
        }
        let dribblers = Dribblers::start(
            self.server.addr(),
            Plan {
                peers: DRIBBLERS,
                opening: Vec::new(),
                drops: [&b"GET /plaintext HTTP/1.1\r\nHost: test\r\nX: "[..], &[b'x'; 1000]].concat(),
                pace: Duration::from_secs(1),
                again: true,
            },
        );
        wait_until("all are there", || self.server.stats().descriptors() >= self.idle + DRIBBLERS);
        self.crowded.push(ask(self.server.addr()));
        dribblers.stop();
    }

    fn print(&self) {
        let (alone, crowded) = (median(&self.alone, |s| s.most), median(&self.crowded, |s| s.most));
        println!(
            "{:12} {:>10.0} {:>7}us {:>7}us {:>7}us {:>8}us {:>7.2}",
            self.backend.name(),
            median(&self.alone, |s| s.a_second),
            median(&self.alone, |s| s.half).as_micros(),
            alone.as_micros(),
            crowded.as_micros(),
            median(&self.crowded, |s| s.slowest).as_micros(),
            crowded.as_secs_f64() / alone.as_secs_f64(),
        );
    }
}

fn median<T: PartialOrd>(samples: &[Sample], of: impl Fn(&Sample) -> T) -> T {
    let mut values: Vec<_> = samples.iter().map(of).collect();
    values.sort_by(|a, b| a.partial_cmp(b).expect("no figure is NaN"));
    values.swap_remove(values.len() / 2)
}

/// Has all connections ask for a turn, each again as soon as it is answered.
fn ask(to: SocketAddr) -> Sample {
    let mut askers: Vec<_> = (0..CONNECTIONS).map(|_| Asker::connect(to)).collect();
    let mut latencies = Vec::new();
    let began = Instant::now();
    askers.iter_mut().for_each(Asker::ask);
    while began.elapsed() < TURN {
        let ready: Vec<_> = {
            let mut watched: Vec<_> =
                askers.iter().map(|asker| PollFd::new(&asker.socket, PollFlags::IN)).collect();
            poll(&mut watched, None).expect("sockets can be watched");
            watched.iter().map(|fd| !fd.revents().is_empty()).collect()
        };
        for (asker, _) in askers.iter_mut().zip(ready).filter(|(_, ready)| *ready) {
            if let Some(latency) = asker.hear() {
                latencies.push(latency);
                asker.ask();
            }
        }
    }
    let a_second = latencies.len() as f64 / began.elapsed().as_secs_f64();
    latencies.sort_unstable();
    let at = |share: f64| latencies[(latencies.len() as f64 * share) as usize];
    Sample { a_second, half: at(0.5), most: at(0.99), slowest: *latencies.last().expect("it was answered") }
}

/// A connection that asks for the same thing again and again.
struct Asker {
    socket: TcpStream,
    /// How long an answer is.
    length: usize,
    received: usize,
    asked: Instant,
}

impl Asker {
    fn connect(to: SocketAddr) -> Asker {
        let mut socket = TcpStream::connect(to).expect("the server listens");
        socket.set_nodelay(true).expect("TCP can do without delay");
        socket.write_all(REQUEST).expect("the server reads");
        let mut answer = [0; 4096];
        let length = socket.read(&mut answer).expect("the server answers");
        assert!(answer[..length].ends_with(b"Hello, World!"), "an answer came whole");
        socket.set_nonblocking(true).expect("a socket");
        Asker { socket, length, received: 0, asked: Instant::now() }
    }

    fn ask(&mut self) {
        (self.received, self.asked) = (0, Instant::now());
        self.socket.write_all(REQUEST).expect("there is room for a request");
    }

    /// Takes what has come; once an answer is there, says how long that took.
    fn hear(&mut self) -> Option<Duration> {
        match self.socket.read(&mut [0; 4096]) {
            Ok(0) => panic!("the server closed"),
            Ok(n) => self.received += n,
            Err(error) => assert_eq!(error.kind(), ErrorKind::WouldBlock, "{error}"),
        }
        (self.received == self.length).then(|| self.asked.elapsed())
    }
}
