//! Peers that request more than they read: a byte now and then of a response that is large or never ends.
//!
//! Their cost is bounded. Each takes `limits.output` of memory and a piece or two of the body, until the kernel has
//! accepted no bytes for `write_timeout`: a peer that reads single bytes opens no TCP window. They delay no other
//! request, because a connection that waits for its peer holds no thread. While the kernel still accepts bytes, they
//! take turns.

use std::io::{ErrorKind, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::thread;
use std::time::{Duration, Instant};

use gearshift::backend::WriteQueue;
use gearshift::{Backend, Limits};
use test_support::backend::concurrency;
use test_support::client::Client;
use test_support::program::Program;
use test_support::routes::LARGE;
use test_support::suite::Area;
use test_support::{PATIENCE, wait_until};

use crate::leave::connect_narrow;

pub(crate) const AREA: Area = (
    "readers",
    &[
        ("slow_readers_of_a_stream_hold_up_nobody", |backend| hold_up_nobody(backend, "/test/endless")),
        ("slow_readers_of_a_large_response_hold_up_nobody", |backend| hold_up_nobody(backend, "/test/large")),
        ("slow_readers_of_a_stream_are_cut", |backend| are_cut(backend, "/test/endless")),
        ("slow_readers_of_a_large_response_are_cut", |backend| are_cut(backend, "/test/large")),
        ("readers_of_a_stream_take_turns", |backend| take_turns(backend, "/test/pieces")),
        ("readers_of_a_large_response_take_turns", |backend| take_turns(backend, "/test/large")),
    ],
);

/// The number of slow readers: more than any server here has threads.
const PEERS: usize = 100;
/// Bytes of the pieces in which a body is read from a `Read`: one is queued while the next one is read.
const PIECES: u64 = 2 * 64 * 1024;
/// How many bytes a process may grow by for other reasons: a pool makes a thread for each body that is read at the same
/// time, and the allocator keeps a heap for each thread.
const SLACK: u64 = 64 << 20;

/// Timeouts that no test reaches.
const PATIENT: [&str; 8] =
    ["--write-timeout", "1h", "--min-rate", "0", "--keep-alive", "1h", "--header-timeout", "1h"];

fn hold_up_nobody(backend: Backend, path: &str) {
    const REQUESTS: usize = 10;
    let server = Program::start(backend, &PATIENT);
    let mut readers: Vec<_> = (0..PEERS).map(|_| Reader::begin(&server, path)).collect();
    for _ in 0..REQUESTS {
        readers.iter_mut().for_each(Reader::take_a_byte);
        // A client waits for a limited time only.
        assert_eq!(server.client().get("/plaintext").status, 200);
    }
    wait_until("every response has begun", || {
        readers.iter_mut().for_each(Reader::take_a_byte);
        readers.iter().all(|reader| reader.taken > 0)
    });
    assert_eq!(server.client().get("/plaintext").status, 200);
    assert!(readers.iter().all(|reader| reader.is_open), "the requests were answered beside the peers");
}

fn are_cut(backend: Backend, path: &str) {
    const TIMEOUT: Duration = Duration::from_secs(2);
    let mut server = Program::start(backend, &["--write-timeout", "2s"]);
    server.expect_alive();
    let (descriptors, before) = (server.stats().descriptors(), server.stats().memory());
    let began = Instant::now();
    let mut readers: Vec<_> = (0..PEERS).map(|_| Reader::begin(&server, path)).collect();
    let mut peak = 0;
    // A response without a timeout takes far longer.
    while readers.iter().any(|reader| reader.taken == 0) || server.stats().descriptors() > descriptors {
        assert!(began.elapsed() < 6 * PATIENCE, "the peers are not cut");
        readers.iter_mut().for_each(Reader::take_a_byte);
        peak = peak.max(server.stats().memory());
        thread::sleep(Duration::from_millis(20));
    }
    assert!(began.elapsed() > TIMEOUT, "the peers were cut after {:?}", began.elapsed());
    let allowed = PEERS as u64 * (Limits::default().output as u64 + PIECES) + SLACK;
    assert!(peak.saturating_sub(before) < allowed, "{before} bytes of memory before, {peak} at the peak");
    server.expect_alive();
}

struct Reader {
    socket: TcpStream,
    taken: usize,
    is_open: bool,
}

impl Reader {
    fn begin(server: &Program, path: &str) -> Reader {
        let mut socket = connect_narrow(server.addr());
        write!(socket, "GET {path} HTTP/1.1\r\nHost: test\r\n\r\n").expect("the server reads");
        socket.set_nonblocking(true).expect("a socket can be nonblocking");
        Reader { socket, taken: 0, is_open: true }
    }

    fn take_a_byte(&mut self) {
        match self.socket.read(&mut [0]) {
            Ok(1) => self.taken += 1,
            Err(error) if error.kind() == ErrorKind::WouldBlock => {}
            _ => self.is_open = false,
        }
    }
}

/// Counts the bytes that were written to the readers of large responses when a request is served that came after
/// theirs. One thread serves them all, and is held until all requests have arrived.
fn take_turns(backend: Backend, path: &str) {
    const READERS: usize = 8;
    // The last write of a turn may begin below the limit of the turn.
    const MAX_TURN: usize = 2 * WriteQueue::MAX_WRITE;
    // The response with the first count, and that of the handler that was held.
    const OTHERS: usize = 16 * 1024;
    let server = Program::start(backend, &PATIENT);
    let mut asks = server.client();
    let mut readers: Vec<_> = (0..READERS).map(|_| server.client()).collect();
    readers.iter_mut().for_each(|reader| assert_eq!(reader.get("/plaintext").status, 200));
    let others = concurrency(backend).unwrap_or(1) - 1;
    let others: Vec<_> = (0..others).map(|_| Hold::begin(&server)).collect();
    let before = sent(&mut asks);
    let last = Hold::begin(&server);
    readers.iter_mut().for_each(|reader| reader.send_get(path));
    asks.send_get("/metrics");
    // A reactor with a thread of its own knows all requests before the first one is served.
    wait_until("the server has noticed all requests", || {
        readers.iter().chain([&asks]).all(Client::is_delivered) && server.stats().is_asleep()
    });
    last.end();
    let sent = sent_bytes(&asks.answer().text()) - before;
    assert!(
        sent <= READERS * MAX_TURN + OTHERS,
        "{} bytes were written to each reader first",
        sent / READERS
    );
    for reader in &mut readers {
        let answer = reader.answer();
        assert_eq!((answer.status, answer.body.len()), (200, LARGE));
    }
    others.into_iter().for_each(Hold::end);
}

/// A handler that holds its thread.
struct Hold {
    client: Client,
    /// The connection of the handler to the test, which it waits for.
    handler: TcpStream,
}

impl Hold {
    fn begin(server: &Program) -> Hold {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        listener.set_nonblocking(true).expect("a listener can be nonblocking");
        let port = listener.local_addr().expect("the listener is bound").port();
        let mut client = server.client();
        client.send_get(&format!("/test/held-by/{port}"));
        let mut handler = None;
        wait_until("the handler has begun", || {
            handler = listener.accept().ok();
            handler.is_some()
        });
        Hold { client, handler: handler.expect("it was waited for").0 }
    }

    fn end(mut self) {
        drop(self.handler);
        assert_eq!(self.client.answer().text(), "released");
    }
}

/// The number of bytes that the server has sent.
fn sent(client: &mut Client) -> usize {
    sent_bytes(&client.get("/metrics").text())
}

fn sent_bytes(metrics: &str) -> usize {
    let line = metrics.lines().find_map(|line| line.strip_prefix("gearshift_sent_bytes_total "));
    line.and_then(|number| number.parse().ok()).expect("the number of bytes is in the metrics")
}
