//! Load, as it is put on a server, and what comes of it.
//!
//! Closed loop: each connection asks again when it has its answer. So few ask while the server is slow, and what they
//! see is what so many clients see that wait for each other's turn: no more. Open loop: requests are due at a fixed
//! rate whatever became of those before, as with the strangers of the Internet, and latency is counted from when a
//! request was *due*, not from when there was at last a connection to send it on. Otherwise a server that stops for a
//! second would be charged with one slow request instead of all that were due meanwhile ("coordinated omission", Gil
//! Tene). For the same reason requests that have no answer when the measurement ends count, with the time they have
//! waited by then, and are told apart as unanswered.

mod alarm;
pub mod burst;
mod clients;
mod generator;
pub mod idle;
pub mod response;
mod tally;
pub mod wrk;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};
use std::{io, thread};

pub use tally::{Tally, at};

use crate::proc::{Spent, Usage};

/// A request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ask {
    /// Its method.
    pub method: &'static str,
    /// Its target.
    pub path: String,
    /// Its body.
    pub body: Arc<[u8]>,
}

impl Ask {
    /// For a path.
    pub fn get(path: impl Into<String>) -> Ask {
        Ask { method: "GET", path: path.into(), body: Arc::default() }
    }

    /// With a body.
    pub fn post(path: impl Into<String>, body: impl Into<Arc<[u8]>>) -> Ask {
        Ask { method: "POST", path: path.into(), body: body.into() }
    }

    /// Its bytes. A connection that is not to be kept says so.
    pub fn bytes(&self, to: SocketAddr, keep: bool) -> Vec<u8> {
        let Ask { method, path, body } = self;
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
pub enum Pace {
    /// Each connection asks again when it has its answer.
    Closed,
    /// So many a second are due.
    Open(f64),
    /// So much of what the slowest server of all can do is due: a part of its rate at `/plaintext`.
    Share(f64),
}

/// Clients that do the same.
#[derive(Clone, Debug, PartialEq)]
pub struct Traffic {
    /// Their connections.
    pub connections: usize,
    /// What they ask for, each with its weight.
    pub mix: Vec<(u32, Ask)>,
    /// When they ask.
    pub pace: Pace,
    /// Whether a connection is kept, or made anew for each request.
    pub keep: bool,
}

impl Traffic {
    /// Clients on connections that are kept, which ask for one thing.
    pub fn new(connections: usize, ask: Ask, pace: Pace) -> Traffic {
        Traffic { connections, mix: vec![(1, ask)], pace, keep: true }
    }

    /// The part of one of several generators.
    fn part(&self, index: usize, of: usize) -> Traffic {
        let connections = self.connections / of + usize::from(index < self.connections % of);
        let share = connections as f64 / self.connections.max(1) as f64;
        let pace = match self.pace {
            Pace::Open(rate) => Pace::Open(rate * share),
            other => other,
        };
        Traffic { connections, pace, ..self.clone() }
    }
}

/// How long each part of a measurement takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Times {
    /// Before anything counts.
    pub warm_up: Duration,
    /// What counts.
    pub window: Duration,
    /// For answers that are missing then.
    pub drain: Duration,
}

/// What came of one measurement.
#[derive(Clone, Debug)]
pub struct Outcome {
    /// One for each traffic.
    pub tallies: Vec<Tally>,
    /// How long it was counted, in seconds.
    pub seconds: f64,
    /// What the server used, per second.
    pub spent: Spent,
    /// The server, as it was at the end.
    pub usage: Usage,
    /// How busy the busiest generator was, 1 being all the time.
    pub busy: f64,
}

/// The instants between the parts of a measurement.
#[derive(Clone, Copy, Debug)]
struct Marks {
    from: Instant,
    to: Instant,
    end: Instant,
}

/// Puts load on a server, from as many threads as there are processors for them. `usage` looks at the server.
pub fn put(
    on: SocketAddr,
    traffics: &[Traffic],
    times: Times,
    threads: usize,
    usage: impl Fn() -> Usage,
) -> io::Result<Outcome> {
    let threads = threads.min(traffics.iter().map(|traffic| traffic.connections).max().unwrap_or(1)).max(1);
    let from = Instant::now() + times.warm_up;
    let to = from + times.window;
    let marks = Marks { from, to, end: to + times.drain };
    thread::scope(|scope| {
        let generators: Vec<_> = (0..threads)
            .map(|index| {
                let part = traffics.iter().map(|traffic| traffic.part(index, threads)).collect();
                scope.spawn(move || generator::run(on, part, marks))
            })
            .collect();
        thread::sleep(from.saturating_duration_since(Instant::now()));
        let (before, began) = (usage(), Instant::now());
        thread::sleep(to.saturating_duration_since(Instant::now()));
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

impl Spent {
    /// Divided by something, but for the ticks.
    pub fn per(self, what: f64) -> Spent {
        Spent {
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
