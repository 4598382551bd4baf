//! The clients of one traffic: which request comes next, and when it is due.

use std::net::SocketAddr;
use std::ops::Range;
use std::time::{Duration, Instant};

use super::{Pacing, Traffic};

/// Repetitions of the weights in a deck, so that the deck has no short period.
const REPEATS: usize = 16;

/// The clients of one traffic.
pub(super) struct Clients {
    /// Indices of `requests` in the order of sending, repeated without end. Each occurs in proportion to its weight.
    deck: Vec<usize>,
    next: usize,
    /// The requests in wire format.
    pub(super) requests: Vec<Vec<u8>>,
    /// Whether connections are kept.
    pub(super) keep: bool,
    /// When requests are due; `None` in a closed loop.
    pub(super) schedule: Option<Schedule>,
    /// Connections without a request.
    pub(super) idle: Vec<usize>,
}

/// When the requests of an open loop are due.
pub(super) struct Schedule {
    begin: Instant,
    rate: f64,
    sent: u64,
}

impl Schedule {
    pub(super) fn due(&self) -> Instant {
        self.begin + Duration::from_secs_f64(self.sent as f64 / self.rate)
    }

    /// Takes the next request if it is due before `before`, and returns when it was due.
    pub(super) fn take(&mut self, before: Instant) -> Option<Instant> {
        let due = self.due();
        (due < before).then(|| {
            self.sent += 1;
            due
        })
    }
}

impl Clients {
    /// The clients of a traffic on the given connections, all of them idle.
    pub(super) fn new(traffic: &Traffic, on: SocketAddr, connections: Range<usize>) -> Clients {
        let schedule = match traffic.pacing {
            Pacing::Open(rate) if rate > 0.0 => Some(Schedule { begin: Instant::now(), rate, sent: 0 }),
            _ => None,
        };
        Clients {
            deck: shuffled(traffic),
            requests: traffic.mix.iter().map(|(_, request)| request.bytes(on, traffic.keep)).collect(),
            next: 0,
            keep: traffic.keep,
            schedule,
            idle: connections.rev().collect(),
        }
    }

    pub(super) fn draw(&mut self) -> usize {
        self.next = (self.next + 1) % self.deck.len();
        self.deck[self.next]
    }

    /// Takes the next request if it is due and a connection is idle.
    pub(super) fn take_due(&mut self, now: Instant) -> Option<(usize, Instant)> {
        let schedule = self.schedule.as_mut()?;
        if self.idle.is_empty() {
            return None;
        }
        let due = schedule.take(now)?;
        self.idle.pop().map(|connection| (connection, due))
    }
}

/// Requests in proportion to their weights, in a pseudorandom order that is always the same.
fn shuffled(traffic: &Traffic) -> Vec<usize> {
    let each = traffic.mix.iter().enumerate();
    let mut deck: Vec<usize> =
        each.flat_map(|(which, (weight, _))| vec![which; *weight as usize * REPEATS]).collect();
    fastrand::Rng::with_seed(1).shuffle(&mut deck);
    deck
}
