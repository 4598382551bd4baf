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
        ("one_during_the_start_waits_for_it_and_answers_what_is_queued", during_the_start),
        ("the_end_of_the_grace_period_ends_a_start_and_cuts_what_is_queued", never_started),
        ("the_end_of_the_grace_period_ends_a_server_whose_handlers_block", held),
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
        program.expect_cut(0);
    }
}

/// A thread may be about to wait, or about to wake up, when the server stops.
fn idle(backend: Backend) {
    for _ in 0..ROUNDS {
        let mut program = Program::start(backend, &[]);
        assert_eq!(program.client().get("/plaintext").status, 200);
        program.signal(Signal::TERM);
        assert_eq!(program.status(), Some(0), "{}", program.log());
        program.expect_cut(0);
        assert!(!program.log().contains("left behind"), "{}", program.log());
    }
}

fn during_the_start(backend: Backend) {
    for queued in [0, 1, 50] {
        let mut program = Program::start_held(backend, &[]);
        let mut clients: Vec<_> = (0..queued).map(|_| program.client()).collect();
        clients.iter_mut().for_each(|client| client.send_get("/plaintext"));
        program.signal(Signal::TERM);
        wait_until("the log says that the server stops", || program.log().contains("finishing"));
        program.release();
        for client in &mut clients {
            let answer = client.answer();
            assert!(answer.status == 200 && answer.closes(), "{answer:?}");
            client.expect_end();
        }
        // The grace period is longer than the time for which the test waits.
        assert_eq!(program.status(), Some(0), "{}", program.log());
        program.expect_cut(0);
        let said = format!(" {queued} requests were answered,");
        assert!(program.log().contains(&said), "{}", program.log());
    }
}

fn never_started(backend: Backend) {
    for queued in [0, 3] {
        let mut program = Program::start_held(backend, &["--graceful-timeout", "200ms"]);
        let mut clients: Vec<_> = (0..queued).map(|_| program.client()).collect();
        clients.iter_mut().for_each(|client| client.send_get("/plaintext"));
        program.signal(Signal::TERM);
        assert_eq!(program.status(), Some(i32::from(queued > 0)), "{}", program.log());
        program.expect_cut(queued);
        assert!(program.log().contains("stopped before the application had started"), "{}", program.log());
        clients.iter_mut().for_each(|client| assert_eq!(client.rest(), b""));
    }
}

/// The application has no background tasks and no `on_stop`, so the log reports only the handler and its thread.
fn held(backend: Backend) {
    let mut program = Program::start(backend, &["--graceful-timeout", "200ms"]);
    let mut client = program.client();
    client.send_get("/test/log/block/60000");
    wait_until("a handler has begun", || program.log().contains(BEGUN));
    program.signal(Signal::TERM);
    assert_eq!(program.status(), Some(1), "{}", program.log());
    program.expect_cut(1);
    for wrong in ["background tasks", "the application did not stop"] {
        assert!(!program.log().contains(wrong), "{}", program.log());
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
