//! Requests whose clients have left before the answer: the server neither works for them nor waits because of them.
//!
//! On an event loop, a handler that waits is dropped as soon as its client leaves. On a blocking backend, the handlers
//! that have begun run to their end and no other begins, so the next client waits for one handler at most.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use gearshift::Backend;
use test_support::backend::{blocks, concurrency, few_workers};
use test_support::routes::{self, Waits};
use test_support::server::Running;
use test_support::suite::Area;
use test_support::wait_until;

use crate::leave::{Manner, leave};
use crate::neighbours::Neighbours;

pub(crate) const AREA: Area = (
    "abandoned",
    &[
        ("by_a_reset_they_hold_up_nobody", |backend| abandon(backend, Manner::Reset)),
        ("by_closing_they_hold_up_nobody", |backend| abandon(backend, Manner::Close)),
    ],
);

/// How long a handler waits on an event loop, where it is dropped, and on a blocking backend, where it is not.
const LONG: Duration = Duration::from_secs(30);
const SHORT: Duration = Duration::from_secs(1);

fn abandon(backend: Backend, manner: Manner) {
    let (peers, at_once, each) = match concurrency(backend) {
        Some(threads) => (16 * threads, threads, SHORT),
        None => (256, 256, LONG),
    };
    let waits = Arc::new(Waits::default());
    let counted = waits.clone();
    let control = Running::start(backend, few_workers(backend), |_| routes::app());
    let server = Running::start(backend, few_workers(backend), |_| routes::with_waits(counted));
    let route = if blocks(backend) { "hold" } else { "wait" };
    let ask = |_| {
        let mut client = server.client();
        client.send_get(&format!("/test/{route}/{}", each.as_millis()));
        client
    };
    // A blocking backend has accepted some of the connections before its threads are taken, and others wait to be.
    let before = at_once.max(peers / 2);
    let mut clients: Vec<_> = (0..before).map(ask).collect();
    wait_until("the handlers wait", || waits.at_once.load(Ordering::SeqCst) == at_once);
    clients.extend((before..peers).map(ask));
    clients.into_iter().for_each(|client| leave(client.socket, manner));

    let left = Instant::now();
    let mut neighbours = Neighbours::new(server.addr(), control.addr());
    neighbours.ask();
    let begun = waits.begun.load(Ordering::SeqCst);
    neighbours.expect_delay_within(if at_once < peers { each } else { Duration::ZERO });
    assert_eq!(begun, at_once, "a handler began whose client had left");
    wait_until("no handler is left", || waits.at_once.load(Ordering::SeqCst) == 0);
    assert!(left.elapsed() < LONG / 2, "it took {:?}", left.elapsed());
    assert_eq!(waits.begun.load(Ordering::SeqCst), at_once, "a handler began whose client had left");
}
