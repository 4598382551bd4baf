//! Peers that ask for more than they take: a byte now and then of a response that never ends.
//!
//! What they cost is bounded: `limits.output` of memory each and a piece or two of the body, until the kernel has
//! taken nothing for `write_timeout`, as taking bytes one by one makes no room that TCP would tell of. On an event loop they hold up nobody; on a blocking backend each holds a worker, so
//! that `r` of them on `w` workers hold up others for `r / w` times `write_timeout`.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use gearshift::{Backend, Limits};
use test_support::backend::concurrency;
use test_support::program::Program;
use test_support::suite::Area;
use test_support::{PATIENCE, wait_until};

use crate::leave::connect_narrow;
use crate::neighbours::{Seen, bound};

pub(crate) const AREA: Area = (
    "readers",
    &[
        ("fewer_slow_readers_than_workers_hold_up_nobody", |backend| few(backend, "/test/endless")),
        ("slow_readers_of_a_large_response_do_neither", |backend| few(backend, "/test/large")),
        ("more_slow_readers_hold_up_others_for_their_turns", more),
    ],
);

/// The server's `write_timeout`, longer than anybody waits who is not held up by it.
const TIMEOUT: Duration = Duration::from_secs(2);
/// The pieces in which a body is read from a `Read`: one that is queued, and one that is being read.
const PIECES: u64 = 2 * 64 * 1024;
/// What a process may grow by for other reasons: pools make a thread for each body that is read at the same time, and
/// the allocator keeps a heap for each of them.
const SLACK: u64 = 64 << 20;

fn few(backend: Backend, path: &str) {
    match concurrency(backend) {
        Some(1) => {}
        Some(threads) => watch(backend, path, threads - 1),
        None => watch(backend, path, 100),
    }
}

fn more(backend: Backend) {
    if let Some(threads) = concurrency(backend) {
        watch(backend, "/test/endless", 2 * threads);
    }
}

fn watch(backend: Backend, path: &str, peers: usize) {
    let mut server = Program::start(backend, &["--write-timeout", "2s"]);
    server.expect_alive();
    let (descriptors, memory) = (server.stats().descriptors(), server.stats().memory());
    let began = Instant::now();
    let mut readers: Vec<_> = (0..peers).map(|_| Reader::begin(&server, path)).collect();
    let (mut seen, mut most) = (Seen::default(), 0);
    loop {
        assert!(began.elapsed() < PATIENCE, "they are still there: {seen:?}");
        seen.ask_fresh(server.addr());
        readers.iter_mut().for_each(Reader::take_a_byte);
        most = most.max(server.stats().memory());
        if server.stats().descriptors() <= descriptors {
            break;
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    assert!(began.elapsed() > TIMEOUT, "nobody waited for them: {:?}", began.elapsed());
    seen.expect_within(bound(backend, peers, TIMEOUT));
    let allowed = peers as u64 * (Limits::default().output as u64 + PIECES) + SLACK;
    assert!(most - memory.min(most) < allowed, "{memory} bytes before, {most} meanwhile");
    let begun = readers.iter().filter(|reader| reader.taken > 0).count();
    assert_eq!(begun, peers, "all were answered");
    wait_until("others are served", || server.client().get("/plaintext").status == 200);
    server.expect_alive();
}

struct Reader {
    socket: TcpStream,
    taken: usize,
}

impl Reader {
    fn begin(server: &Program, path: &str) -> Reader {
        let mut socket = connect_narrow(server.addr());
        write!(socket, "GET {path} HTTP/1.1\r\nHost: test\r\n\r\n").expect("the server reads");
        socket.set_nonblocking(true).expect("a socket");
        Reader { socket, taken: 0 }
    }

    fn take_a_byte(&mut self) {
        self.taken += self.socket.read(&mut [0]).unwrap_or(0);
    }
}
