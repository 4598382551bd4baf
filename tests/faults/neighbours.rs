//! Clients that behave, beside peers that do not: how long they wait for their answers.

use std::net::SocketAddr;
use std::thread;
use std::time::{Duration, Instant};

use gearshift::Backend;
use test_support::backend::concurrency;
use test_support::client::Client;

/// How long a request may take that nothing delays, on a machine that is idle. Whatever delays a request in these tests
/// lasts longer.
const PROMPT: Duration = Duration::from_millis(1500);
/// How much longer a request may take on a busy machine, as a multiple of the slowest request to the control server.
const BUSY: u32 = 3;
/// An upper bound on the time for which neighbours ask.
const LONGEST: Duration = Duration::from_secs(30);

/// Clients of a server with misbehaving peers, and of a control server of the same kind without them.
///
/// The two servers are asked in turn, so that a machine that is busy with other work slows both.
#[derive(Debug)]
pub(crate) struct Neighbours {
    server: SocketAddr,
    control: SocketAddr,
    /// The number of requests to the server.
    pub(crate) asked: usize,
    slowest: Duration,
    slowest_of_control: Duration,
}

impl Neighbours {
    /// Neighbours that have not asked yet.
    pub(crate) fn new(server: SocketAddr, control: SocketAddr) -> Neighbours {
        let slowest = Duration::ZERO;
        Neighbours { server, control, asked: 0, slowest, slowest_of_control: slowest }
    }

    /// Sends a request on a new connection to each server.
    pub(crate) fn ask(&mut self) {
        let server = self.server;
        self.measure(|| Client::connect(server).get("/plaintext").status);
        let began = Instant::now();
        assert_eq!(Client::connect(self.control).get("/plaintext").status, 200);
        self.slowest_of_control = self.slowest_of_control.max(began.elapsed());
    }

    /// Asks for as long as `holds` returns true, and once at least, on new connections and on one that is kept.
    pub(crate) fn ask_while(&mut self, mut holds: impl FnMut() -> bool) {
        let began = Instant::now();
        let mut kept = Client::connect(self.server);
        loop {
            self.ask();
            self.measure(|| kept.get("/plaintext").status);
            if !holds() {
                return;
            }
            assert!(began.elapsed() < LONGEST, "the peers are not done: {self:?}");
            thread::sleep(Duration::from_millis(5));
        }
    }

    fn measure(&mut self, ask: impl FnOnce() -> u16) {
        let began = Instant::now();
        assert_eq!(ask(), 200);
        self.asked += 1;
        self.slowest = self.slowest.max(began.elapsed());
    }

    /// Checks that the peers delayed no request by more than `limit`.
    pub(crate) fn expect_delay_within(&self, limit: Duration) {
        let allowed = limit + PROMPT + BUSY * self.slowest_of_control;
        assert!(self.slowest < allowed, "a request may be delayed by {limit:?}, but: {self:?}");
    }
}

/// How long `peers` may delay a request if each of them takes a thread for `each`.
///
/// An event loop delays none. A pool delays a request while all its threads are taken, so the peers take turns on its
/// threads. One thread delays it for the time of all peers.
pub(crate) fn bound(backend: Backend, peers: usize, each: Duration) -> Duration {
    let turns = concurrency(backend).map_or(0, |threads| peers / threads);
    each * u32::try_from(turns).expect("there are few peers")
}
