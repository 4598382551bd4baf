//! Running out of file descriptors: the server pauses accepting, and goes on when descriptors are free.

use std::time::{Duration, Instant};

use gearshift::Backend;
use test_support::client::Client;
use test_support::program::Program;
use test_support::suite::Area;
use test_support::wait_until;

pub(crate) const AREA: Area =
    ("descriptors", &[("a_server_that_is_out_of_them_waits_and_goes_on", waits_and_goes_on)]);

/// The limit of the server's descriptors.
const MAX_DESCRIPTORS: u64 = 64;
/// The number of connections, which is above the limit.
const CONNECTIONS: usize = 120;

fn waits_and_goes_on(backend: Backend) {
    let mut server = Program::start_default_size(backend, MAX_DESCRIPTORS);
    let mut first = Client::connect(server.addr());
    assert_eq!(first.get("/plaintext").status, 200);
    let others: Vec<_> = (0..CONNECTIONS).map(|_| Client::connect(server.addr())).collect();
    wait_until("the server has taken as many connections as it can", || {
        server.stats().descriptors() as u64 >= MAX_DESCRIPTORS - 2
    });

    let (cpu, began) = (server.stats().cpu_time(), Instant::now());
    // The test measures CPU time, so some time has to pass. The server goes on serving its connections.
    let mut asked = 0;
    while began.elapsed() < Duration::from_secs(1) {
        assert_eq!(first.get("/plaintext").status, 200, "an accepted connection is served");
        asked += 1;
        std::thread::sleep(Duration::from_millis(100));
    }
    let share = (server.stats().cpu_time() - cpu).as_secs_f64() / began.elapsed().as_secs_f64();
    assert!(share < 0.3, "it spent {:.0}% of a core on {asked} requests", share * 100.0);
    assert!(server.is_running());

    drop(others);
    let mut fresh = Client::connect(server.addr());
    assert_eq!(fresh.get("/plaintext").status, 200, "the server accepts again");
    assert_eq!(first.get("/plaintext").status, 200);
    assert!(server.is_running());
}
