//! Puts load on a server and counts the responses.
//!
//! In a closed loop each connection sends its next request when it has a response. A slow server therefore receives
//! fewer requests. In an open loop requests are due at a fixed rate, whether or not earlier ones were answered, like
//! requests from independent clients. Latency counts from when a request was *due*, not from when a connection was free
//! to send it. Otherwise a server that stalls for a second would be charged with one slow request instead of all that
//! were due in that second ("coordinated omission", Gil Tene). For the same reason, requests without a response at the
//! end of the measurement are part of the latencies, with the time waited so far, and are counted as unanswered.

pub mod abandoned;
pub mod burst;
mod clients;
mod generator;
pub mod idle;
pub mod response;
mod tally;
mod timer;
pub mod wrk;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};
use std::{io, thread};

pub use tally::{Tally, at};

use crate::proc::{Usage, UsageDelta};

/// An HTTP request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Request {
    /// The method.
    pub method: &'static str,
    /// The request target.
    pub path: String,
    /// The body; empty if there is none.
    pub body: Arc<[u8]>,
}

impl Request {
    /// A GET request.
    pub fn get(path: impl Into<String>) -> Request {
        Request { method: "GET", path: path.into(), body: Arc::default() }
    }

    /// A POST request.
    pub fn post(path: impl Into<String>, body: impl Into<Arc<[u8]>>) -> Request {
        Request { method: "POST", path: path.into(), body: body.into() }
    }

    /// The request in wire format. Without `keep` it has `Connection: close`.
    pub fn bytes(&self, to: SocketAddr, keep: bool) -> Vec<u8> {
        let Request { method, path, body } = self;
        let close = if keep { "" } else { "Connection: close\r\n" };
        let length = match (*method, body.len()) {
            ("GET", 0) => String::new(),
            (_, length) => format!("Content-Length: {length}\r\n"),
        };
        let mut bytes = format!("{method} {path} HTTP/1.1\r\nHost: {to}\r\n{close}{length}\r\n").into_bytes();
        bytes.extend_from_slice(body);
        bytes
    }
}

/// When requests are sent.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Pacing {
    /// Closed loop: each connection sends its next request when it has a response.
    Closed,
    /// Open loop: this many requests per second are due.
    Open(f64),
    /// Open loop: requests are due at this share of the slowest server's capacity.
    CapacityShare(f64),
}

/// Clients that behave alike.
#[derive(Clone, Debug, PartialEq)]
pub struct Traffic {
    /// Number of connections.
    pub connections: usize,
    /// The requests with their weights.
    pub mix: Vec<(u32, Request)>,
    /// When requests are sent.
    pub pacing: Pacing,
    /// Whether connections are kept, or each request uses a new one.
    pub keep: bool,
}

impl Traffic {
    /// Clients with persistent connections and a single request.
    pub fn new(connections: usize, request: Request, pacing: Pacing) -> Traffic {
        Traffic { connections, mix: vec![(1, request)], pacing, keep: true }
    }

    /// The share of generator `index` among `of` generators.
    fn part(&self, index: usize, of: usize) -> Traffic {
        let connections = self.connections / of + usize::from(index < self.connections % of);
        let share = connections as f64 / self.connections.max(1) as f64;
        let pacing = match self.pacing {
            Pacing::Open(rate) => Pacing::Open(rate * share),
            other => other,
        };
        Traffic { connections, pacing, ..self.clone() }
    }
}

/// The phases of a measurement.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Times {
    /// Time before the window.
    pub warm_up: Duration,
    /// Time in which responses are counted.
    pub window: Duration,
    /// Longest time after the window in which outstanding responses are received.
    pub drain: Duration,
}

/// The outcome of one measurement.
#[derive(Clone, Debug)]
pub struct Outcome {
    /// One tally per traffic.
    pub tallies: Vec<Tally>,
    /// Length of the window, in seconds.
    pub seconds: f64,
    /// Resources used by the server, per second.
    pub spent: UsageDelta,
    /// The server's resource usage at the end.
    pub usage: Usage,
    /// Share of the window in which the busiest generator worked.
    pub busy: f64,
}

/// The limits of the phases.
#[derive(Clone, Copy, Debug)]
struct Timeline {
    window_start: Instant,
    window_end: Instant,
    end: Instant,
}

/// The threads that generate a load.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Generators {
    /// Highest number of threads.
    pub threads: usize,
    /// Whether a thread polls instead of sleeping while it waits for responses. A sleeping thread has to be woken when
    /// a response arrives. The kernel adds that time to the server: up to 20 µs on a virtual machine. It depends on
    /// whether responses come one by one or in bursts. A thread that polls holds a whole core.
    pub poll: bool,
}

impl Generators {
    /// Up to `threads` threads that sleep while they wait.
    pub fn new(threads: usize) -> Generators {
        Generators { threads, poll: false }
    }
}

/// Puts load on a server. `usage` reads the server's resource usage.
///
/// # Errors
/// If a system call fails that is not about a connection.
pub fn put(
    on: SocketAddr,
    traffics: &[Traffic],
    times: Times,
    generators: Generators,
    usage: impl Fn() -> Usage,
) -> io::Result<Outcome> {
    let Generators { threads, poll } = generators;
    let threads = threads.min(traffics.iter().map(|traffic| traffic.connections).max().unwrap_or(1)).max(1);
    let window_start = Instant::now() + times.warm_up;
    let window_end = window_start + times.window;
    let timeline = Timeline { window_start, window_end, end: window_end + times.drain };
    thread::scope(|scope| {
        let generators: Vec<_> = (0..threads)
            .map(|index| {
                let part = traffics.iter().map(|traffic| traffic.part(index, threads)).collect();
                scope.spawn(move || generator::run(on, part, timeline, poll))
            })
            .collect();
        thread::sleep(window_start.saturating_duration_since(Instant::now()));
        let (before, began) = (usage(), Instant::now());
        thread::sleep(window_end.saturating_duration_since(Instant::now()));
        let (after, took) = (usage(), began.elapsed());
        let mut tallies = vec![Tally::default(); traffics.len()];
        let mut busy: f64 = 0.0;
        for generator in generators {
            let made = generator.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))?;
            tallies.iter_mut().zip(made.tallies).for_each(|(all, one)| all.add(&one));
            busy = busy.max(made.busy);
        }
        let spent = after.since(&before).per(took.as_secs_f64());
        Ok(Outcome { tallies, seconds: times.window.as_secs_f64(), spent, usage: after, busy })
    })
}

impl UsageDelta {
    /// Divides everything but the ticks.
    pub fn per(self, what: f64) -> UsageDelta {
        UsageDelta {
            user: self.user / what,
            system: self.system / what,
            switches: self.switches / what,
            others: self.others / what,
            ticks: self.ticks,
        }
    }
}

#[cfg(test)]
mod tests;
