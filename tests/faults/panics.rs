//! Handlers that panic one after another: each request gets a 500, and nothing leaks.

use std::thread;

use gearshift::Backend;
use test_support::client::Client;
use test_support::program::Program;
use test_support::suite::Area;
use test_support::wait_until;

pub(crate) const AREA: Area = (
    "panics",
    &[
        ("a_thousand_in_handlers_are_500_each", |backend| a_thousand(backend, "/panic", 0)),
        ("a_thousand_in_handlers_that_waited_are_500_each", |backend| {
            a_thousand(backend, "/test/panic-later", 0)
        }),
        ("a_thousand_in_blocking_handlers_are_500_each", |backend| {
            a_thousand(backend, "/test/panic-blocking", POOLED);
        }),
    ],
);

const CLIENTS: usize = 8;
const EACH: usize = 125;
/// The number of threads that a pool may add for the clients and keep. There are far more panics than this.
const POOLED: usize = 50;

fn a_thousand(backend: Backend, path: &'static str, pooled: usize) {
    // The neighbour is idle for as long as the panics take.
    let mut server = Program::start(backend, &["--keep-alive", "600s"]);
    // This creates the threads that are created on demand.
    ask(&server, path, 1);
    server.expect_alive();
    let mut neighbour = server.client();
    assert_eq!(neighbour.get("/plaintext").status, 200);
    let (descriptors, threads) = (server.stats().descriptors(), server.stats().threads());
    ask(&server, path, EACH);
    assert_eq!(neighbour.get("/plaintext").status, 200, "another connection goes on");
    server.expect_alive();
    server.expect_descriptors(descriptors);
    wait_until("the server has no more threads than before", || server.stats().threads() <= threads + pooled);
}

fn ask(server: &Program, path: &'static str, each: usize) {
    let addr = server.addr();
    let clients = (0..CLIENTS).map(|_| {
        thread::spawn(move || {
            for _ in 0..each {
                let mut client = Client::connect(addr);
                let answer = client.get(path);
                assert_eq!(answer.said(), (500, "Internal Server Error".into()));
                assert!(answer.closes());
                client.expect_end();
            }
        })
    });
    let clients: Vec<_> = clients.collect();
    clients.into_iter().for_each(|client| client.join().expect("each is a 500"));
}
