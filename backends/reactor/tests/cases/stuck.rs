//! A handler that holds its event loop when the server stops.

use std::time::{Duration, Instant};

use crate::serving::{PATIENCE, ask, start};

#[test]
fn leaves_a_stuck_loop_behind() {
    let running = start("127.0.0.1:0", |config| {
        config.workers = Some(2);
        config.graceful_timeout = Duration::from_millis(50);
    });
    let mut socket = running.connect();
    ask(&mut socket, "/stuck");
    running.begun.recv_timeout(PATIENCE).unwrap();
    let asked = Instant::now();
    assert_eq!(running.stop().cut, 1, "what is left behind was not answered");
    assert!(asked.elapsed() < PATIENCE / 2);
}
