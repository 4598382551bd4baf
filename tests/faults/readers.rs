//! Peers that request more than they read: a byte now and then of a response that is large or never ends.
//!
//! Their cost is bounded. Each takes `limits.output` of memory and a piece or two of the body, until the kernel has
//! accepted no bytes for `write_timeout`: a peer that reads single bytes opens no TCP window. On an event loop they
//! delay no other request. On a blocking backend each holds a thread, so `r` peers on `w` threads delay a request for
//! `r / w` times `write_timeout`.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::thread;
use std::time::{Duration, Instant};

use gearshift::{Backend, Limits};
use test_support::backend::concurrency;
use test_support::program::Program;
use test_support::suite::Area;
use test_support::wait_until;

use crate::leave::connect_narrow;
use crate::neighbours::{Neighbours, bound};

pub(crate) const AREA: Area = (
    "readers",
    &[
        ("fewer_slow_readers_than_workers_hold_up_nobody", |backend| few(backend, "/test/endless")),
        ("slow_readers_of_a_large_response_do_neither", |backend| few(backend, "/test/large")),
        ("more_slow_readers_hold_up_others_for_their_turns", more),
    ],
);

/// The server's `write_timeout`, longer than a request takes that nothing delays.
const TIMEOUT: Duration = Duration::from_secs(2);
/// An upper bound on the time that the peers take. A response that has no timeout takes far longer.
const LONGEST: Duration = Duration::from_secs(30);
/// Bytes of the pieces in which a body is read from a `Read`: one is queued while the next one is read.
const PIECES: u64 = 2 * 64 * 1024;
/// How many bytes a process may grow by for other reasons: a pool makes a thread for each body that is read at the same
/// time, and the allocator keeps a heap for each thread.
const SLACK: u64 = 64 << 20;

fn few(backend: Backend, path: &str) {
    watch(backend, path, concurrency(backend).map_or(100, |threads| threads - 1));
}

fn more(backend: Backend) {
    let threads = concurrency(backend).expect("this backend blocks");
    watch(backend, "/test/endless", 2 * threads);
}

fn watch(backend: Backend, path: &str, peers: usize) {
    let control = Program::start(backend, &[]);
    let mut server = Program::start(backend, &["--write-timeout", "2s"]);
    server.expect_alive();
    let (descriptors, before) = (server.stats().descriptors(), server.stats().memory());
    let began = Instant::now();
    let mut readers: Vec<_> = (0..peers).map(|_| Reader::begin(&server, path)).collect();
    let limit = bound(backend, peers, TIMEOUT);
    if limit.is_zero() {
        expect_quiet(&server, &mut readers);
    }
    let (mut neighbours, mut peak) = (Neighbours::new(server.addr(), control.addr()), 0);
    loop {
        assert!(began.elapsed() < LONGEST, "the peers are not cut: {neighbours:?}");
        neighbours.ask();
        readers.iter_mut().for_each(Reader::take_a_byte);
        peak = peak.max(server.stats().memory());
        if server.stats().descriptors() <= descriptors {
            break;
        }
        thread::sleep(Duration::from_millis(20));
    }
    assert!(began.elapsed() > TIMEOUT, "the peers were cut after {:?}", began.elapsed());
    neighbours.expect_delay_within(limit);
    let allowed = peers as u64 * (Limits::default().output as u64 + PIECES) + SLACK;
    assert!(peak.saturating_sub(before) < allowed, "{before} bytes of memory before, {peak} at the peak");
    let begun = readers.iter().filter(|reader| reader.taken > 0).count();
    assert_eq!(begun, peers, "every peer has received a byte");
    wait_until("other requests are answered", || server.client().get("/plaintext").status == 200);
    server.expect_alive();
}

/// Waits until every response has begun and the server has filled the buffers of the kernel. That takes CPU time from
/// all requests, and is not what delays a request while the peers read slowly.
fn expect_quiet(server: &Program, readers: &mut [Reader]) {
    const LOOK: Duration = Duration::from_millis(50);
    const LOOKS: u32 = 4;
    let (mut quiet, mut before) = (0, server.stats().cpu_time());
    wait_until("every response has begun, and the server is quiet", || {
        readers.iter_mut().for_each(Reader::take_a_byte);
        thread::sleep(LOOK);
        let now = server.stats().cpu_time();
        quiet = if now - before <= LOOK / 5 { quiet + 1 } else { 0 };
        before = now;
        quiet >= LOOKS && readers.iter().all(|reader| reader.taken > 0)
    });
}

struct Reader {
    socket: TcpStream,
    taken: usize,
}

impl Reader {
    fn begin(server: &Program, path: &str) -> Reader {
        let mut socket = connect_narrow(server.addr());
        write!(socket, "GET {path} HTTP/1.1\r\nHost: test\r\n\r\n").expect("the server reads");
        socket.set_nonblocking(true).expect("a socket can be nonblocking");
        Reader { socket, taken: 0 }
    }

    fn take_a_byte(&mut self) {
        self.taken += self.socket.read(&mut [0]).unwrap_or(0);
    }
}
