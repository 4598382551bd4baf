//! Bodies that come a byte at a time, or stop.
//!
//! On an event loop they hold up nobody. A blocking backend gives such a body a worker for as long as it takes, so
//! that there the bound is a matter of numbers: fewer of them than workers hold up nobody; `d` of them on `w` workers,
//! who come first, hold up others for `d / w` times as long as one body takes. One that stops takes `body_timeout`.
//! (One that never stops, at a byte now and then, takes its length times that.)

use std::time::{Duration, Instant};

use gearshift::Backend;
use test_support::backend::concurrency;
use test_support::dribble::{Dribblers, Fate, Plan};
use test_support::program::Program;
use test_support::suite::Area;
use test_support::wait_until;

use crate::neighbours::{Seen, ask_while, bound};

pub(crate) const AREA: Area = (
    "bodies",
    &[
        ("fewer_dribbled_bodies_than_workers_hold_up_nobody", fewer),
        ("more_dribbled_bodies_hold_up_others_for_their_turns", more),
        ("bodies_that_stop_hold_up_others_for_the_timeout", stopped),
    ],
);

const BODY: &[u8] = b"0123456789abcdef";
const PACE: Duration = Duration::from_millis(50);

/// The number of peers on an event loop, where it makes no difference to others.
const MANY: usize = 300;

fn plan(peers: usize, path: &str, drops: &[u8]) -> Plan {
    let length = BODY.len();
    let head = format!(
        "POST {path} HTTP/1.1\r\nHost: test\r\nConnection: close\r\nContent-Length: {length}\r\n\r\n"
    );
    Plan { peers, opening: head.into(), drops: drops.to_vec(), pace: PACE, again: false }
}

/// Has neighbours ask while peers send to `path`.
fn watch(server: &Program, peers: usize, path: &str, drops: &[u8]) -> (Seen, Vec<Fate>) {
    let dribblers = Dribblers::start(server.addr(), plan(peers, path, drops));
    let seen = ask_while(server.addr(), || dribblers.open() > 0);
    (seen, dribblers.stop())
}

fn expect_echoed(backend: Backend, peers: usize) {
    let server = Program::start(backend, &[]);
    for path in ["/echo", "/test/read", "/test/read-sync"] {
        let (seen, fates) = watch(&server, peers, path, BODY);
        seen.expect_within(bound(backend, peers, PACE * BODY.len() as u32));
        assert_eq!(fates.len(), peers);
        for fate in fates {
            assert!(fate.answer.starts_with("HTTP/1.1 200 ") && fate.in_order, "{path}: {fate:?}");
            assert!(fate.answer.ends_with("0123456789abcdef"), "{path}: {fate:?}");
        }
    }
}

fn fewer(backend: Backend) {
    expect_echoed(backend, concurrency(backend).map_or(MANY, |threads| threads - 1));
}

fn more(backend: Backend) {
    // An event loop has no such number.
    if let Some(threads) = concurrency(backend) {
        expect_echoed(backend, 2 * threads);
    }
}

fn stopped(backend: Backend) {
    const TIMEOUT: Duration = Duration::from_millis(500);
    let mut server = Program::start(backend, &["--body-timeout", "500ms"]);
    server.expect_alive();
    let descriptors = server.stats().descriptors();
    let peers = concurrency(backend).map_or(MANY, |threads| 2 * threads);
    let began = Instant::now();
    let (seen, fates) = watch(&server, peers, "/test/read", b"0123");
    // What comes in pieces begins the time anew.
    let each = PACE * 4 + TIMEOUT;
    seen.expect_within(bound(backend, peers, each));
    assert!(began.elapsed() > TIMEOUT);
    assert_eq!(fates.len(), peers);
    for fate in fates {
        assert!(fate.answer.starts_with("HTTP/1.1 408 ") && fate.in_order, "{fate:?}");
    }
    wait_until("all are gone", || server.stats().descriptors() <= descriptors);
    server.expect_alive();
}
