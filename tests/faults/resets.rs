//! Peers that reset their connection, at each stage of a request: the server keeps nothing of them.

use std::io::{Read, Write};
use std::net::TcpStream;

use gearshift::Backend;
use test_support::backend::concurrency;
use test_support::client::Client;
use test_support::program::Program;
use test_support::suite::Area;
use test_support::{PATIENCE, wait_until};

use crate::leave::{connect_narrow, reset};

pub(crate) const AREA: Area = (
    "resets",
    &[
        ("after_connecting", |backend| many(backend, PEERS, |_, _| {})),
        ("in_a_head", |backend| many(backend, PEERS, |_, peers| say(peers, "GET /plaintext HTTP/1.1\r\nHo"))),
        ("in_a_body_that_is_echoed", |backend| many(backend, PEERS, |_, peers| in_body(peers, "/echo"))),
        ("in_a_body_that_is_collected", |backend| {
            many(backend, PEERS, |_, peers| in_body(peers, "/test/read"))
        }),
        ("in_a_body_that_is_read_by_a_thread", |backend| {
            many(backend, PEERS, |_, peers| in_body(peers, "/test/read-sync"));
        }),
        ("while_a_handler_waits", |backend| many(backend, while_one_is_left(backend), waiting)),
        ("in_a_response", |backend| many(backend, workers(backend), responding)),
        ("after_a_request", |backend| {
            many(backend, PEERS, |_, peers| say(peers, "GET /plaintext HTTP/1.1\r\nHost: test\r\n\r\n"));
        }),
    ],
);

/// The number of peers at each stage.
const PEERS: usize = 200;
/// The server's `max_connections`. A server that still counted closed connections would soon reach it.
const MAX_CONNECTIONS: usize = 220;

/// Has [`PEERS`] peers connect, reach a stage and reset, `at_once` of them at the same time.
fn many(backend: Backend, at_once: usize, stage: fn(&Program, &mut [TcpStream])) {
    let mut server = Program::start(backend, &["--max-connections", &MAX_CONNECTIONS.to_string()]);
    server.expect_alive();
    // A runtime opens its own descriptors at the first wait.
    assert_eq!(server.client().get("/sleep/1").status, 200);
    let before = server.stats().descriptors();
    for _ in 0..PEERS / at_once {
        let mut peers: Vec<_> = (0..at_once).map(|_| connect_narrow(server.addr())).collect();
        stage(&server, &mut peers);
        peers.into_iter().for_each(reset);
        server.expect_alive();
    }
    server.expect_descriptors(before);
    let mut all: Vec<_> = (0..MAX_CONNECTIONS).map(|_| server.client()).collect();
    for client in &mut all {
        assert_eq!(
            client.get("/plaintext").status,
            200,
            "the server has room for as many connections as before"
        );
    }
    drop(all);
    server.expect_descriptors(before);
}

/// The number of peers whose requests run at the same time.
fn workers(backend: Backend) -> usize {
    concurrency(backend).unwrap_or(PEERS)
}

/// The number of peers whose requests leave a thread for others, if there is more than one thread.
fn while_one_is_left(backend: Backend) -> usize {
    match concurrency(backend) {
        Some(threads) => threads.div_ceil(2),
        None => PEERS,
    }
}

fn say(peers: &mut [TcpStream], what: &str) {
    for peer in peers {
        peer.write_all(what.as_bytes()).expect("the server reads");
    }
}

fn in_body(peers: &mut [TcpStream], path: &str) {
    let head = format!("POST {path} HTTP/1.1\r\nHost: test\r\nContent-Length: 100000\r\n\r\n");
    say(peers, &(head + &"x".repeat(1000)));
}

/// A server with one thread cannot report that its handler waits, so the reset may arrive before the handler begins.
fn waiting(server: &Program, peers: &mut [TcpStream]) {
    if peers.len() == 1 {
        return say(peers, "GET /test/wait/5 HTTP/1.1\r\nHost: test\r\n\r\n");
    }
    let mut other = server.client();
    let begun = |other: &mut Client| other.get("/test/waits").text().parse::<usize>().expect("a number");
    let before = begun(&mut other);
    say(peers, "GET /test/wait/100 HTTP/1.1\r\nHost: test\r\n\r\n");
    wait_until("the handlers wait", || begun(&mut other) == before + peers.len());
}

fn responding(_: &Program, peers: &mut [TcpStream]) {
    say(peers, "GET /test/endless HTTP/1.1\r\nHost: test\r\n\r\n");
    for peer in peers {
        peer.set_read_timeout(Some(PATIENCE)).expect("a socket has a read timeout");
        peer.read_exact(&mut [0; 2000]).expect("the response has begun");
    }
}
