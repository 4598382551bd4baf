//! Slow loris: a thousand peers that send their heads a byte at a time.
//!
//! The bound is the same on every backend, also on one thread: a head that is not complete holds no worker, so that
//! whoever asks properly waits for no more than the bytes that have arrived, and each dribbler is told 408, and ends,
//! once its head has taken `header_timeout`.

use std::time::Duration;

use gearshift::Backend;
use test_support::dribble::{Dribblers, Plan};
use test_support::program::Program;
use test_support::suite::Area;
use test_support::wait_until;

use crate::neighbours::ask_while;

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
/// The server's `header_timeout`, longer than anybody waits who is not held up by it.
const TIMEOUT: Duration = Duration::from_secs(3);
/// How much later than that a dribbler may see its end, of a thousand at the same time.
const LATE: Duration = Duration::from_secs(3);

fn dribbled(backend: Backend, before: &[u8]) {
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
    let seen = ask_while(server.addr(), || dribblers.open() > 0);
    seen.expect_within(Duration::ZERO);
    assert!(seen.asked > 50, "they were asked steadily: {seen:?}");
    wait_until("all have ended", || dribblers.open() == 0);
    for fate in dribblers.stop() {
        assert!(fate.lasted > TIMEOUT && fate.lasted < TIMEOUT + LATE, "{fate:?}");
        let answers: Vec<_> = fate.answer.matches("HTTP/1.1 ").collect();
        assert_eq!(answers.len(), if before.is_empty() { 1 } else { 2 }, "{fate:?}");
        assert!(fate.answer.contains("HTTP/1.1 408 ") && fate.in_order, "{fate:?}");
    }
    server.expect_alive();
    server.expect_descriptors(descriptors);
}
