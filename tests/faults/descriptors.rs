//! Running out of file descriptors while peers connect: no connection is lost, and the server does not spin.

use std::time::{Duration, Instant};

use gearshift::Backend;
use rustix::process::Signal;
use test_support::client::Client;
use test_support::program::Program;
use test_support::suite::Area;
use test_support::wait_until;

pub(crate) const AREA: Area = (
    "descriptors",
    &[
        ("connections_wait_until_descriptors_are_free", served_in_the_end),
        ("connections_are_refused_where_that_is_the_setting", refused),
        ("a_stop_serves_the_waiting_connections", stopped),
        ("running_out_is_logged_once_a_second_at_most", logged),
        ("a_soft_limit_below_the_connections_is_raised", raised),
        ("a_limit_that_cannot_be_raised_is_reported_once", reported),
    ],
);

/// The limit of the server's descriptors.
const MAX_DESCRIPTORS: u64 = 64;
/// An upper bound on the time of a stop whose requests take no time.
const AT_ONCE: Duration = Duration::from_secs(6);
/// The number of connections, which is above the limit.
const CONNECTIONS: usize = 200;

/// A server that has run out of descriptors, a client that it has answered, and clients that wait, most of them in the
/// backlog.
fn crowded(backend: Backend) -> (Program, Client, Vec<Client>) {
    let server = Program::start_limited(backend, &["--keep-alive", "60s"], MAX_DESCRIPTORS);
    let mut first = server.client();
    assert_eq!(first.get("/plaintext").status, 200);
    let mut others: Vec<_> = (0..CONNECTIONS).map(|_| server.client()).collect();
    others.iter_mut().for_each(|client| client.send_get("/plaintext"));
    wait_until("the server has taken as many connections as it can", || {
        server.stats().descriptors() as u64 >= MAX_DESCRIPTORS - 2
    });
    (server, first, others)
}

fn served_in_the_end(backend: Backend) {
    let (mut server, mut first, others) = crowded(backend);

    let (cpu, began) = (server.stats().cpu_time(), Instant::now());
    // The test measures CPU time, so some time has to pass. The server goes on serving its connections.
    while began.elapsed() < Duration::from_secs(1) {
        assert_eq!(first.get("/plaintext").status, 200, "an accepted connection is served");
        std::thread::sleep(Duration::from_millis(100));
    }
    let share = (server.stats().cpu_time() - cpu).as_secs_f64() / began.elapsed().as_secs_f64();
    assert!(share < 0.1, "it spent {:.0}% of a core", share * 100.0);

    // Each client that is answered leaves, and its descriptor serves another one.
    for mut client in others {
        assert_eq!(client.answer().said(), (200, "Hello, World!".into()));
    }
    assert_eq!(first.get("/plaintext").status, 200);
    server.expect_alive();
    drop(Client::connect(server.addr()));
    server.expect_alive();
}

fn logged(backend: Backend) {
    let (mut server, _first, others) = crowded(backend);
    let began = Instant::now();
    // Each of these connections closes and releases its descriptor, and the server runs out of descriptors again.
    for mut client in others {
        assert_eq!(client.answer().status, 200);
        std::thread::sleep(Duration::from_millis(10));
    }
    server.expect_alive();
    let lines = server.log().lines().filter(|line| line.contains("accepting pauses")).count() as u64;
    assert!(lines > 0, "{}", server.log());
    // One more for the time before, and one for the second that has begun.
    assert!(lines <= began.elapsed().as_secs() + 2, "{lines} lines");
}

fn raised(backend: Backend) {
    let server = Program::start_with_limits(backend, &["--max-connections", "2000"], 256, 4096);
    let (soft, hard) = server.stats().descriptor_limits();
    assert!(soft > 2000 && hard == 4096, "{soft} and {hard}");
    assert!(!server.start_log.contains("WARN"), "{}", server.start_log);
}

fn reported(backend: Backend) {
    let flags = ["--max-connections", "2000"];
    let server = Program::start_with_limits(backend, &flags, 256, 512);
    assert_eq!(server.stats().descriptor_limits(), (512, 512));
    let warnings: Vec<_> = server.start_log.lines().filter(|line| line.starts_with("WARN")).collect();
    assert_eq!(warnings.len(), 1, "{}", server.start_log);
    assert!(warnings[0].contains("512") && warnings[0].contains("2000"), "{}", warnings[0]);
    // Enough for the connections, and not for the server itself.
    let server = Program::start_with_limits(backend, &["--max-connections", "510"], 256, 512);
    assert!(server.start_log.contains("510 for max_connections, about "), "{}", server.start_log);
    let server = Program::start_with_limits(backend, &["--max-connections", "100"], 256, 512);
    assert!(!server.start_log.contains("WARN"), "{}", server.start_log);
}

fn refused(backend: Backend) {
    let flags = ["--keep-alive", "60s", "--overload", "refuse", "--access-log"];
    let mut server = Program::start_limited(backend, &flags, MAX_DESCRIPTORS);
    let mut first = server.client();
    assert_eq!(first.get("/plaintext").status, 200);
    let mut others: Vec<_> = (0..CONNECTIONS).map(|_| server.client()).collect();
    others.iter_mut().for_each(|client| client.send_get("/plaintext"));
    let (mut served, mut refused) = (0, 0);
    for client in &mut others {
        match client.answer().status {
            200 => served += 1,
            503 => refused += 1,
            other => panic!("an answer of {other}"),
        }
    }
    assert!(served > 0 && refused > CONNECTIONS / 3, "{served} were served and {refused} were refused");
    wait_until("each refusal is in the access log", || {
        server.log().matches("] \"-\" 503 30 ").count() == refused
    });
    assert_eq!(first.get("/plaintext").status, 200, "an accepted connection is served");
    drop(others);
    let began = Instant::now();
    while server.client().get("/plaintext").status != 200 {
        assert!(began.elapsed() < AT_ONCE, "the server has descriptors again");
    }
    server.expect_alive();
}

/// The stop closes idle connections, and their descriptors serve the backlog.
fn stopped(backend: Backend) {
    let (mut server, mut first, others) = crowded(backend);
    let began = Instant::now();
    server.signal(Signal::TERM);
    let ends: Vec<_> = others.into_iter().map(|mut client| client.try_answer(false)).collect();
    let lost: Vec<_> = ends.iter().filter_map(|end| end.as_ref().err()).collect();
    assert!(lost.is_empty(), "{} of {CONNECTIONS} were lost: {:?}", lost.len(), lost[0]);
    assert_eq!(server.status(), Some(0), "{}", server.log());
    assert!(began.elapsed() < AT_ONCE, "it took {:?}", began.elapsed());
    first.expect_end();
}
