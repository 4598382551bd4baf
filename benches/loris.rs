//! The effect of a thousand slow peers on other clients: the 99th percentile of the latency of `/plaintext`, with and
//! without them.
//!
//! `cargo bench --bench loris --all-features`; `-- mio smol` selects backends.
//!
//! Each server is a process with one event loop or four threads. Eight connections send requests in a closed loop. Each
//! slow peer sends one byte of its head per second, and starts again after a 408. Backends and cases take turns, and
//! the figures are medians of the turns. Only the ratio can be compared between machines.

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
            // The order of the cases alternates.
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

/// The samples of one backend.
struct Row {
    backend: Backend,
    server: Program,
    /// Number of descriptors without connections.
    idle: usize,
    alone: Vec<Sample>,
    crowded: Vec<Sample>,
}

/// The figures of one turn.
struct Sample {
    rate: f64,
    p50: Duration,
    p99: Duration,
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
        wait_until("all connections are closed", || self.server.stats().descriptors() <= self.idle);
        if !crowded {
            return self.alone.push(run_turn(self.server.addr()));
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
        wait_until("all slow peers are connected", || {
            self.server.stats().descriptors() >= self.idle + DRIBBLERS
        });
        self.crowded.push(run_turn(self.server.addr()));
        dribblers.stop();
    }

    fn print(&self) {
        let (alone, crowded) = (median(&self.alone, |s| s.p99), median(&self.crowded, |s| s.p99));
        println!(
            "{:12} {:>10.0} {:>7}us {:>7}us {:>7}us {:>8}us {:>7.2}",
            self.backend.name(),
            median(&self.alone, |s| s.rate),
            median(&self.alone, |s| s.p50).as_micros(),
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

/// Sends requests on all connections in a closed loop for one turn.
fn run_turn(to: SocketAddr) -> Sample {
    let mut requesters: Vec<_> = (0..CONNECTIONS).map(|_| Requester::connect(to)).collect();
    let mut latencies = Vec::new();
    let began = Instant::now();
    requesters.iter_mut().for_each(Requester::send);
    while began.elapsed() < TURN {
        let ready: Vec<_> = {
            let mut watched: Vec<_> =
                requesters.iter().map(|requester| PollFd::new(&requester.socket, PollFlags::IN)).collect();
            poll(&mut watched, None).expect("sockets can be watched");
            watched.iter().map(|fd| !fd.revents().is_empty()).collect()
        };
        for (requester, _) in requesters.iter_mut().zip(ready).filter(|(_, ready)| *ready) {
            if let Some(latency) = requester.read() {
                latencies.push(latency);
                requester.send();
            }
        }
    }
    let rate = latencies.len() as f64 / began.elapsed().as_secs_f64();
    latencies.sort_unstable();
    let at = |share: f64| latencies[(latencies.len() as f64 * share) as usize];
    Sample { rate, p50: at(0.5), p99: at(0.99), slowest: *latencies.last().expect("a response") }
}

/// A connection that repeats one request.
struct Requester {
    socket: TcpStream,
    /// Length of a response.
    length: usize,
    received: usize,
    sent: Instant,
}

impl Requester {
    fn connect(to: SocketAddr) -> Requester {
        let mut socket = TcpStream::connect(to).expect("the server listens");
        socket.set_nodelay(true).expect("a socket");
        socket.write_all(REQUEST).expect("the server reads");
        let mut response = [0; 4096];
        let length = socket.read(&mut response).expect("the server answers");
        assert!(response[..length].ends_with(b"Hello, World!"), "the response is complete");
        socket.set_nonblocking(true).expect("a socket");
        Requester { socket, length, received: 0, sent: Instant::now() }
    }

    fn send(&mut self) {
        (self.received, self.sent) = (0, Instant::now());
        self.socket.write_all(REQUEST).expect("there is room for a request");
    }

    /// Reads. Returns the latency once the response is complete.
    fn read(&mut self) -> Option<Duration> {
        match self.socket.read(&mut [0; 4096]) {
            Ok(0) => panic!("the server closed"),
            Ok(n) => self.received += n,
            Err(error) => assert_eq!(error.kind(), ErrorKind::WouldBlock, "{error}"),
        }
        (self.received == self.length).then(|| self.sent.elapsed())
    }
}
