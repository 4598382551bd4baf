//! Repeated stops under load, at random moments: every request that had arrived is answered, and so is the first
//! request of each connection that had begun.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use gearshift::{Backend, Config};
use test_support::backend::{concurrency, few_workers};
use test_support::client::Client;
use test_support::routes::{self, Waits};
use test_support::server::Running;
use test_support::suite::Area;
use test_support::wait_until;

use crate::load::Load;

pub(crate) const AREA: Area = (
    "stops",
    &[
        ("no_request_that_had_arrived_is_lost", |backend| repeated(backend, Config::default())),
        ("no_request_that_had_arrived_is_lost_by_few_workers", |backend| {
            repeated(backend, few_workers(backend))
        }),
        ("a_second_stop_ends_it_at_once", second),
    ],
);

/// The environment variable that sets another number of rounds than [`ROUNDS`].
const MORE_ROUNDS: &str = "GEARSHIFT_FAULT_ROUNDS";
const ROUNDS: u64 = 10;
const CLIENTS: usize = 32;
/// The grace period, and a far shorter bound for a server whose requests take milliseconds.
const GRACE: Duration = Duration::from_secs(30);
const WELL_WITHIN: Duration = Duration::from_secs(5);

/// The number of stops of a test of stops under load.
pub(crate) fn rounds() -> u64 {
    std::env::var(MORE_ROUNDS).ok().and_then(|n| n.parse().ok()).unwrap_or(ROUNDS)
}

fn repeated(backend: Backend, mut config: Config) {
    config.graceful_timeout = GRACE;
    let mut random = Random::default();
    for round in 0..rounds() {
        let server = Running::start(backend, config.clone(), |_| routes::app());
        let load = Load::start(server.addr(), CLIENTS);
        let mut halves: Vec<_> = (0..4).map(|_| server.client()).collect();
        halves.iter_mut().for_each(|client| client.send("GET /plaintext HTTP/1.1\r\nHo"));
        let mut silent: Vec<_> = (0..4).map(|_| server.client()).collect();
        let moment = Duration::from_micros(random.below(20_000));
        std::thread::sleep(moment);
        load.stops_now();
        let began = Instant::now();
        server.shutdown().graceful();
        halves.iter_mut().for_each(|client| client.send("st: test\r\n\r\n"));
        silent.iter_mut().for_each(|client| client.send("GET /plaintext HTTP/1.1\r\nHost: test\r\n\r\n"));
        for client in halves.iter_mut().chain(&mut silent) {
            let answer = client.answer();
            assert!(answer.status == 200 && answer.closes(), "{answer:?}");
            client.expect_end();
        }
        let report = server.stop();
        let took = began.elapsed();
        let (answered, lost) = load.outcome();
        let at = format!("round {round}, after {moment:?} and {answered} answers");
        assert!(lost.is_empty(), "{at}: {} lost: {lost:#?}", lost.len());
        assert_eq!(report.cut, 0, "{at}: {report:?}");
        assert!(took < WELL_WITHIN, "{at}: it took {took:?}");
    }
}

fn second(backend: Backend) {
    let waits = Arc::new(Waits::default());
    let counted = waits.clone();
    let server = Running::start(backend, few_workers(backend), |_| routes::with_waits(counted));
    let mut clients: Vec<_> = (0..8).map(|_| server.client()).collect();
    clients.iter_mut().for_each(|client| client.send_get("/test/wait/60000"));
    let at_once = concurrency(backend).unwrap_or(8);
    wait_until("handlers wait", || waits.at_once.load(Ordering::SeqCst) == at_once);
    let shutdown = server.shutdown();
    shutdown.graceful();
    let began = Instant::now();
    shutdown.force();
    let report = server.stop();
    assert!(began.elapsed() < WELL_WITHIN, "it took {:?}", began.elapsed());
    assert_eq!((report.finished, report.cut), (0, at_once as u64));
    assert_eq!(waits.at_once.load(Ordering::SeqCst), 0, "no handler is left");
    assert_eq!(waits.begun.load(Ordering::SeqCst), at_once, "no handler has begun since");
    for client in &mut clients {
        assert_eq!(Client::rest(client), b"");
    }
}

/// Marsaglia's xorshift, which yields the same numbers in every run.
pub(crate) struct Random(pub(crate) u64);

impl Default for Random {
    fn default() -> Random {
        Random(0x9e37_79b9_7f4a_7c15)
    }
}

impl Random {
    /// A number below `most`.
    pub(crate) fn below(&mut self, most: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % most
    }
}
