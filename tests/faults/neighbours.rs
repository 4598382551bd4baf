//! Those who ask properly meanwhile, and how long they wait.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use gearshift::Backend;
use test_support::backend::concurrency;
use test_support::client::Client;

/// Within what time a neighbour is answered that nothing holds up, on a machine that has other things to do.
/// Whatever would hold it up in these tests lasts longer.
pub(crate) const PROMPTLY: Duration = Duration::from_millis(1500);

/// What neighbours have seen.
#[derive(Debug, Default)]
pub(crate) struct Seen {
    pub(crate) asked: usize,
    pub(crate) slowest: Duration,
}

/// How long anything lasts that neighbours watch.
const LONGEST: Duration = Duration::from_secs(30);

/// Asks, on a fresh connection and on one that is kept, for as long as `holds`, and once at least.
pub(crate) fn ask_while(addr: SocketAddr, mut holds: impl FnMut() -> bool) -> Seen {
    let began = Instant::now();
    let mut kept = Client::connect(addr);
    let mut seen = Seen::default();
    loop {
        seen.ask_fresh(addr);
        seen.ask(|| kept.get("/plaintext").status);
        if !holds() {
            return seen;
        }
        assert!(began.elapsed() < LONGEST, "what was to end lasts: {seen:?}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

impl Seen {
    /// Asks on a fresh connection.
    pub(crate) fn ask_fresh(&mut self, addr: SocketAddr) {
        self.ask(|| Client::connect(addr).get("/plaintext").status);
    }

    fn ask(&mut self, ask: impl FnOnce() -> u16) {
        let began = Instant::now();
        assert_eq!(ask(), 200);
        self.asked += 1;
        self.slowest = self.slowest.max(began.elapsed());
    }

    /// Checks that nobody waited longer than that, and the time that is anybody's.
    pub(crate) fn expect_within(&self, held_up: Duration) {
        assert!(self.slowest < held_up + PROMPTLY, "held up for {held_up:?} at most, but: {self:?}");
    }
}

/// How many peers that each take a worker for `each` hold up whoever comes next, and for how long: an event loop not
/// at all; a pool while all its workers are taken, in turns; one thread for the time of all of them.
pub(crate) fn bound(backend: Backend, peers: usize, each: Duration) -> Duration {
    let turns = concurrency(backend).map_or(0, |threads| peers / threads);
    each * u32::try_from(turns).expect("a few")
}
