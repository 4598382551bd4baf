//! Signals to a program under load, and the status that it ends with.

use std::time::{Duration, Instant};

use gearshift::Backend;
use rustix::process::Signal;
use test_support::program::Program;
use test_support::suite::Area;
use test_support::wait_until;

use crate::load::Load;

pub(crate) const AREA: Area = (
    "signals",
    &[
        ("the_first_finishes_what_has_arrived_and_the_status_is_0", first),
        ("the_second_ends_what_takes_long_and_the_status_is_1", second),
        ("the_second_ends_handlers_that_block_and_the_status_is_1", blocked),
    ],
);

const CLIENTS: usize = 16;
/// Within what time a program ends that has little to wait for: less than its grace period, and than any request.
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
        wait_until("it says that nothing was cut", || program.log().contains(" 0 were cut"));
    }
}

fn second(backend: Backend) {
    ends_at_once(backend, "/sleep/60000");
}

fn blocked(backend: Backend) {
    ends_at_once(backend, "/block/60000");
}

fn ends_at_once(backend: Backend, path: &str) {
    let mut program = Program::start(backend, &[]);
    let mut clients: Vec<_> = (0..4).map(|_| program.client()).collect();
    for client in &mut clients {
        assert_eq!(client.get("/plaintext").status, 200);
    }
    // What has arrived is in flight.
    clients.iter_mut().for_each(|client| client.send_get(path));
    program.signal(Signal::TERM);
    wait_until("it says that it stops", || program.log().contains("finishing"));
    let began = Instant::now();
    program.signal(Signal::INT);
    assert_eq!(program.status(), Some(1), "{}", program.log());
    assert!(began.elapsed() < AT_ONCE, "it took {:?}", began.elapsed());
    for client in &mut clients {
        assert_eq!(client.rest(), b"");
    }
}
