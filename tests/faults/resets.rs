//! Peers that leave with a reset, at each stage of a request, many of them: nothing of them is left.

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

/// Peers at each stage.
const PEERS: usize = 200;
/// The server's `max_connections`: one that kept the places of those who left would have none soon.
const MOST: usize = 220;

/// Has peers connect, come to a stage and leave there, so many at once, until [`PEERS`] have.
fn many(backend: Backend, at_once: usize, stage: fn(&Program, &mut [TcpStream])) {
    let mut server = Program::start(backend, &["--max-connections", &MOST.to_string()]);
    server.expect_alive();
    let before = server.stats().descriptors();
    for _ in 0..PEERS / at_once {
        let mut peers: Vec<_> = (0..at_once).map(|_| connect_narrow(server.addr())).collect();
        stage(&server, &mut peers);
        peers.into_iter().for_each(reset);
        server.expect_alive();
    }
    server.expect_descriptors(before);
    let mut all: Vec<_> = (0..MOST).map(|_| server.client()).collect();
    for client in &mut all {
        assert_eq!(client.get("/plaintext").status, 200, "there is room for as many as before");
    }
    drop(all);
    server.expect_descriptors(before);
}

/// How many peers can be answered at once that each take a worker.
fn workers(backend: Backend) -> usize {
    concurrency(backend).unwrap_or(PEERS)
}

/// The same, with a worker left to answer others meanwhile, if there is another one.
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

/// One thread cannot tell of its handler while it waits, so that there the reset may come before it.
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
        peer.set_read_timeout(Some(PATIENCE)).expect("a socket has timeouts");
        peer.read_exact(&mut [0; 2000]).expect("the response has begun");
    }
}
