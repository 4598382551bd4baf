//! Bodies that arrive a byte at a time, or stop.
//!
//! On an event loop they delay no other request. A blocking backend gives such a body a thread for as long as it takes,
//! so the bound depends on the number of peers: fewer peers than threads delay nobody, and `d` peers on `w` threads
//! delay a request for `d / w` times as long as one body takes. A body that stops takes `body_timeout`.

use std::time::{Duration, Instant};

use gearshift::Backend;
use test_support::backend::concurrency;
use test_support::dribble::{Dribblers, Fate, Plan};
use test_support::program::Program;
use test_support::suite::Area;
use test_support::wait_until;

use crate::neighbours::{Neighbours, bound};

pub(crate) const AREA: Area = (
    "bodies",
    &[
        ("fewer_dribbled_bodies_than_workers_hold_up_nobody", fewer),
        ("more_dribbled_bodies_hold_up_others_for_their_turns", more),
        ("bodies_that_stop_hold_up_others_for_the_timeout", stopped),
    ],
);

const BODY: &[u8] = b"0123456789abcdef";
/// The pause between two bytes of a body.
const PACE: Duration = Duration::from_millis(50);
/// The number of peers on an event loop, which delay nobody.
const MANY: usize = 300;

fn plan(peers: usize, path: &str, drops: &[u8]) -> Plan {
    let length = BODY.len();
    let head = format!(
        "POST {path} HTTP/1.1\r\nHost: test\r\nConnection: close\r\nContent-Length: {length}\r\n\r\n"
    );
    Plan { peers, opening: head.into(), drops: drops.to_vec(), pace: PACE, again: false }
}

/// Has neighbours ask while peers send `drops` to `path`. No request may be delayed by more than `limit`.
fn watch(servers: &Servers, peers: usize, path: &str, drops: &[u8], limit: Duration) -> Vec<Fate> {
    let addr = servers.server.addr();
    let dribblers = Dribblers::start(addr, plan(peers, path, drops));
    let mut neighbours = Neighbours::new(addr, servers.control.addr());
    neighbours.ask_while(|| dribblers.open() > 0);
    neighbours.expect_delay_within(limit);
    let fates = dribblers.stop();
    assert_eq!(fates.len(), peers);
    fates
}

/// A server for the peers, and one without them.
struct Servers {
    server: Program,
    control: Program,
}

impl Servers {
    fn start(backend: Backend, flags: &[&str]) -> Servers {
        Servers { server: Program::start(backend, flags), control: Program::start(backend, &[]) }
    }
}

fn expect_echoed(backend: Backend, peers: usize) {
    let servers = Servers::start(backend, &[]);
    for path in ["/echo", "/test/read", "/test/read-sync"] {
        let limit = bound(backend, peers, PACE * BODY.len() as u32);
        for fate in watch(&servers, peers, path, BODY, limit) {
            assert!(fate.answer.starts_with("HTTP/1.1 200 ") && fate.in_order, "{path}: {fate:?}");
            assert!(fate.answer.ends_with("0123456789abcdef"), "{path}: {fate:?}");
        }
    }
}

fn fewer(backend: Backend) {
    expect_echoed(backend, concurrency(backend).map_or(MANY, |threads| threads - 1));
}

fn more(backend: Backend) {
    let threads = concurrency(backend).expect("this backend blocks");
    expect_echoed(backend, 2 * threads);
}

fn stopped(backend: Backend) {
    const TIMEOUT: Duration = Duration::from_millis(500);
    let mut servers = Servers::start(backend, &["--body-timeout", "500ms"]);
    servers.server.expect_alive();
    let descriptors = servers.server.stats().descriptors();
    let peers = concurrency(backend).map_or(MANY, |threads| 2 * threads);
    let began = Instant::now();
    // Each byte that arrives restarts the timeout.
    let each = PACE * 4 + TIMEOUT;
    let fates = watch(&servers, peers, "/test/read", b"0123", bound(backend, peers, each));
    assert!(began.elapsed() > TIMEOUT);
    for fate in fates {
        assert!(fate.answer.starts_with("HTTP/1.1 408 ") && fate.in_order, "{fate:?}");
    }
    wait_until("all connections are closed", || servers.server.stats().descriptors() <= descriptors);
    servers.server.expect_alive();
}
