//! Running out of file descriptors with peers at the door: nobody is lost, and nothing spins.

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
        ("those_who_find_none_left_are_served_when_some_come_free", served_in_the_end),
        ("those_who_find_none_left_are_told_so_where_that_is_the_setting", refused),
        ("a_stop_meanwhile_serves_them_and_ends", stopped),
    ],
);

/// Descriptors that the server may have.
const MOST: u64 = 64;
/// Within what time a server ends whose requests take no time.
const AT_ONCE: Duration = Duration::from_secs(6);
/// Connections that it is to have, which is more.
const CONNECTIONS: usize = 200;

/// A server without descriptors, a client that it has answered, and others that wait, most of them at the door.
fn crowded(backend: Backend) -> (Program, Client, Vec<Client>) {
    let server = Program::start_limited(backend, &["--keep-alive", "60s"], MOST);
    let mut first = server.client();
    assert_eq!(first.get("/plaintext").status, 200);
    let mut others: Vec<_> = (0..CONNECTIONS).map(|_| server.client()).collect();
    others.iter_mut().for_each(|client| client.send_get("/plaintext"));
    wait_until("the server has taken as many connections as it can", || {
        server.stats().descriptors() as u64 >= MOST - 2
    });
    (server, first, others)
}

fn served_in_the_end(backend: Backend) {
    let (mut server, mut first, others) = crowded(backend);

    let (cpu, began) = (server.stats().cpu_time(), Instant::now());
    // What is looked at is how it spends its time, so some has to pass; it goes on serving meanwhile.
    while began.elapsed() < Duration::from_secs(1) {
        assert_eq!(first.get("/plaintext").status, 200, "a connection it has is served");
        std::thread::sleep(Duration::from_millis(100));
    }
    let share = (server.stats().cpu_time() - cpu).as_secs_f64() / began.elapsed().as_secs_f64();
    assert!(share < 0.1, "it spent {:.0}% of a core", share * 100.0);

    // Each that is answered leaves, and so makes room for another.
    for mut client in others {
        assert_eq!(client.answer().said(), (200, "Hello, World!".into()));
    }
    assert_eq!(first.get("/plaintext").status, 200);
    server.expect_alive();
    drop(Client::connect(server.addr()));
    server.expect_alive();
}

fn refused(backend: Backend) {
    let flags = ["--keep-alive", "60s", "--overload", "refuse"];
    let mut server = Program::start_limited(backend, &flags, MOST);
    let mut first = server.client();
    assert_eq!(first.get("/plaintext").status, 200);
    let mut others: Vec<_> = (0..CONNECTIONS).map(|_| server.client()).collect();
    others.iter_mut().for_each(|client| client.send_get("/plaintext"));
    let (mut served, mut told) = (0, 0);
    for client in &mut others {
        match client.answer().status {
            200 => served += 1,
            503 => told += 1,
            other => panic!("an answer of {other}"),
        }
    }
    assert!(served > 0 && told > CONNECTIONS / 3, "{served} were served and {told} were told");
    assert_eq!(first.get("/plaintext").status, 200, "a connection it has is served");
    drop(others);
    let began = Instant::now();
    while server.client().get("/plaintext").status != 200 {
        assert!(began.elapsed() < AT_ONCE, "there are descriptors now");
    }
    server.expect_alive();
}

/// All that is idle leaves, which makes room, and so on.
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
