//! Slow loris: a thousand peers that send their heads a byte at a time.
//!
//! The bound is the same on every backend, also on one thread. A head that is not complete holds no worker, so other
//! requests wait for no more than the bytes that have arrived. Each dribbling peer gets a 408, and its connection ends,
//! once its head has taken `header_timeout`.

use std::time::Duration;

use gearshift::Backend;
use test_support::dribble::{Dribblers, Plan};
use test_support::program::Program;
use test_support::suite::Area;
use test_support::{PATIENCE, wait_until};

use crate::neighbours::Neighbours;

pub(crate) const AREA: Area = (
    "heads",
    &[
        ("a_thousand_dribbled_heads_hold_up_nobody_and_end_in_time", |backend| dribbled(backend, b"")),
        ("dribbled_heads_behind_a_whole_request_do_neither", |backend| {
            dribbled(backend, b"GET /plaintext HTTP/1.1\r\nHost: test\r\n\r\n");
        }),
    ],
);

const PEERS: usize = 1000;
/// The server's `header_timeout`, longer than a request takes that nothing delays.
const TIMEOUT: Duration = Duration::from_secs(3);
/// How much later than the timeout a peer may notice its end. A head that has no timeout takes far longer.
const LATE: Duration = PATIENCE;

fn dribbled(backend: Backend, before: &[u8]) {
    let control = Program::start(backend, &[]);
    let mut server = Program::start(backend, &["--header-timeout", "3s", "--keep-alive", "60s"]);
    server.expect_alive();
    let descriptors = server.stats().descriptors();
    let dribblers = Dribblers::start(
        server.addr(),
        Plan {
            peers: PEERS,
            opening: before.to_vec(),
            drops: [&b"GET /plaintext HTTP/1.1\r\nHost: test\r\nX: "[..], &[b'x'; 1000]].concat(),
            pace: Duration::from_millis(100),
            again: false,
        },
    );
    let mut neighbours = Neighbours::new(server.addr(), control.addr());
    neighbours.ask_while(|| dribblers.open() > 0);
    neighbours.expect_delay_within(Duration::ZERO);
    assert!(neighbours.asked > 50, "the neighbours asked too seldom: {neighbours:?}");
    wait_until("all peers have ended", || dribblers.open() == 0);
    for fate in dribblers.stop() {
        assert!(fate.lasted > TIMEOUT && fate.lasted < TIMEOUT + LATE, "{fate:?}");
        let answers: Vec<_> = fate.answer.matches("HTTP/1.1 ").collect();
        assert_eq!(answers.len(), if before.is_empty() { 1 } else { 2 }, "{fate:?}");
        assert!(fate.answer.contains("HTTP/1.1 408 ") && fate.in_order, "{fate:?}");
    }
    server.expect_alive();
    server.expect_descriptors(descriptors);
}
