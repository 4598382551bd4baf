//! Thousands of connections that send no complete request: the server keeps neither memory nor descriptors for them.

use std::io::Write;

use gearshift::Backend;
use test_support::program::Program;
use test_support::suite::Area;

use crate::leave::{Manner, connect_narrow, leave};

pub(crate) const AREA: Area = (
    "storms",
    &[
        ("twenty_thousand_silent_connections_leave_nothing", |backend| {
            storm(backend, 20_000, &[Manner::Reset], b"");
        }),
        ("five_thousand_half_heads_leave_nothing", |backend| {
            storm(backend, 5_000, &[Manner::Reset, Manner::Close], b"GET /plaintext HTTP/1.1\r\nHost: te");
        }),
    ],
);

/// The number of simultaneous connections, which is below the backlog of the listener.
const AT_ONCE: usize = 500;
/// A process that grows by so many bytes in each of [`STORMS`] equal storms after the first keeps something of them.
const GROWTH: u64 = 2 << 20;
/// Each thread of a pool keeps a few buffers, so a process grows until all threads have had their share.
const STORMS: usize = 6;

fn storm(backend: Backend, peers: usize, manners: &[Manner], said: &[u8]) {
    let mut server = Program::start(backend, &[]);
    server.expect_alive();
    let descriptors = server.stats().descriptors();
    blow(&mut server, peers, manners, said);
    server.expect_descriptors(descriptors);
    let stays = (0..STORMS).any(|_| {
        let memory = server.stats().memory();
        blow(&mut server, peers, manners, said);
        server.expect_descriptors(descriptors);
        server.stats().memory() < memory + GROWTH
    });
    assert!(
        stays,
        "{} bytes after {STORMS} storms, and each has added more than {GROWTH}",
        server.stats().memory()
    );
    server.expect_alive();
}

fn blow(server: &mut Program, peers: usize, manners: &[Manner], said: &[u8]) {
    for _ in 0..peers / AT_ONCE {
        let crowd: Vec<_> = (0..AT_ONCE)
            .map(|_| {
                let mut socket = connect_narrow(server.addr());
                socket.write_all(said).expect("the server reads");
                socket
            })
            .collect();
        for (socket, manner) in crowd.into_iter().zip(manners.iter().cycle()) {
            leave(socket, *manner);
        }
        server.expect_alive();
    }
}
