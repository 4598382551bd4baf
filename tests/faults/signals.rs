//! Signals to a program under load, and its exit status.

use std::time::{Duration, Instant};

use gearshift::Backend;
use rustix::process::Signal;
use test_support::program::Program;
use test_support::routes::BEGUN;
use test_support::suite::Area;
use test_support::wait_until;

use crate::load::Load;

pub(crate) const AREA: Area = (
    "signals",
    &[
        ("the_first_finishes_requests_that_have_arrived_and_the_status_is_0", first),
        ("no_thread_is_left_behind_by_the_first", idle),
        ("the_second_ends_long_requests_and_the_status_is_1", second),
        ("the_second_ends_handlers_that_block_and_the_status_is_1", blocked),
    ],
);

const CLIENTS: usize = 16;
/// Number of stops without load.
const ROUNDS: usize = 20;
/// An upper bound on the time of a stop that waits for short requests only. The grace period and long requests exceed
/// it.
const AT_ONCE: Duration = Duration::from_secs(6);

fn first(backend: Backend) {
    for signal in [Signal::TERM, Signal::INT] {
        let mut program = Program::start(backend, &[]);
        let load = Load::start(program.addr(), CLIENTS);
        load.stops_now();
        let began = Instant::now();
        program.signal(signal);
        assert_eq!(program.status(), Some(0), "{}", program.log());
        assert!(began.elapsed() < AT_ONCE, "it took {:?}", began.elapsed());
        let (answered, lost) = load.outcome();
        assert!(lost.is_empty(), "after {answered} answers {} were lost: {lost:#?}", lost.len());
        wait_until("the log says that nothing was cut", || program.log().contains(" 0 were cut"));
    }
}

/// A thread may be about to wait, or about to wake up, when the server stops.
fn idle(backend: Backend) {
    for _ in 0..ROUNDS {
        let mut program = Program::start(backend, &[]);
        assert_eq!(program.client().get("/plaintext").status, 200);
        program.signal(Signal::TERM);
        assert_eq!(program.status(), Some(0), "{}", program.log());
        wait_until("the log says that the server has stopped", || program.log().contains(" 0 were cut"));
        assert!(!program.log().contains("left behind"), "{}", program.log());
    }
}

fn second(backend: Backend) {
    ends_at_once(backend, "/test/log/wait/60000");
}

fn blocked(backend: Backend) {
    ends_at_once(backend, "/test/log/block/60000");
}

fn ends_at_once(backend: Backend, path: &str) {
    let mut program = Program::start(backend, &[]);
    let mut clients: Vec<_> = (0..4).map(|_| program.client()).collect();
    for client in &mut clients {
        assert_eq!(client.get("/plaintext").status, 200);
    }
    clients.iter_mut().for_each(|client| client.send_get(path));
    wait_until("a handler has begun", || program.log().contains(BEGUN));
    program.signal(Signal::TERM);
    wait_until("the log says that the server stops", || program.log().contains("finishing"));
    let began = Instant::now();
    program.signal(Signal::INT);
    assert_eq!(program.status(), Some(1), "{}", program.log());
    assert!(began.elapsed() < AT_ONCE, "it took {:?}", began.elapsed());
    for client in &mut clients {
        assert_eq!(client.rest(), b"");
    }
}
