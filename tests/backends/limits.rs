//! The limits and timeouts of `Config`: each has the effect that its documentation states.

use std::io::{self, Read};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use gearshift::{Backend, Body, Bytes, Config, Overload, Response, sync};
use socket2::SockRef;
use test_support::app::app;
use test_support::backend::few_workers;
use test_support::client::Client;
use test_support::server::{Running, one};
use test_support::suite::Area;
use test_support::{PATIENCE, wait_until};

pub(crate) const AREA: Area = (
    "limits",
    &[
        ("max_requests_closes_the_connection", max_requests),
        ("keep_alive_closes_an_idle_connection", keep_alive),
        ("header_timeout_answers_half_a_head_with_408", half_a_head),
        ("header_timeout_applies_to_later_requests", half_a_later_head),
        ("header_timeout_is_not_extended_by_single_bytes", dripping),
        ("header_timeout_closes_a_silent_connection_without_an_answer", silent),
        ("body_timeout_answers_a_pause_with_408", |backend| body_timeout(backend, "/test/read")),
        ("body_timeout_answers_a_pause_with_408_to_a_blocking_reader", |backend| {
            body_timeout(backend, "/test/read-sync");
        }),
        ("body_timeout_applies_to_later_pauses", later_pause),
        ("body_timeout_cuts_an_echo", echo_pause),
        ("min_rate_ends_a_body_that_is_sent_too_slowly", dribbling_body),
        ("min_rate_ends_an_unread_body_that_is_sent_too_slowly", |backend| dribbling_unread(backend, 1000)),
        ("an_unread_body_has_a_limit_without_a_min_rate", |backend| dribbling_unread(backend, 0)),
        ("write_timeout_cuts_a_peer_that_does_not_read", write_timeout),
        ("write_timeout_does_not_cut_a_slow_but_steady_reader", slow_reader),
        ("min_rate_cuts_a_peer_that_reads_too_slowly", dribbling_reader),
        ("max_age_closes_the_connection", max_age),
        ("overload_may_be_answered_503", overload),
        ("max_connections_pauses_accepting", max_connections),
        ("a_body_beyond_drain_closes_the_connection", beyond_drain),
        ("a_refusal_reaches_a_peer_that_is_still_sending", refusal_while_sending),
        ("a_refusal_reaches_a_peer_that_sends_megabytes_before_it_reads", refusal_of_megabytes),
        ("an_early_answer_reaches_a_peer_that_is_still_sending", answer_while_sending),
        ("date_and_server_can_be_left_out", no_date),
        ("no_timeout_ends_a_peer_that_keeps_to_all_of_them", in_time),
    ],
);

/// The timeout under test.
const SHORT: Duration = Duration::from_millis(200);
/// An upper bound on what a short timeout takes on a busy machine. All other timeouts of a test are longer.
const SOON: Duration = Duration::from_secs(6);

/// A server whose timeouts are long, except for those that `change` sets.
fn server(backend: Backend, change: impl FnOnce(&mut Config)) -> Running {
    let long = Duration::from_secs(600);
    let mut config = few_workers(backend);
    (config.keep_alive, config.header_timeout, config.body_timeout) = (long, long, long);
    config.write_timeout = long;
    change(&mut config);
    Running::start(backend, config, |_| app())
}

/// Checks that the time since `began` is about a short timeout.
fn expect_short(began: Instant) {
    let took = began.elapsed();
    assert!(took >= SHORT && took < SOON, "it took {took:?}");
}

fn max_requests(backend: Backend) {
    let server = server(backend, |config| config.max_requests = Some(3));
    let mut client = server.client();
    assert!(!client.get("/plaintext").closes());
    assert!(!client.get("/async").closes());
    let last = client.get("/plaintext");
    assert_eq!(last.said(), (200, "Hello, World!".into()));
    assert!(last.closes());
    client.expect_end();
    // The same with pipelined requests: those beyond the last are not answered.
    let mut client = server.client();
    client.send("GET /plaintext HTTP/1.1\r\nHost: test\r\n\r\n".repeat(5));
    for nth in 1..=3 {
        assert_eq!(client.answer().closes(), nth == 3);
    }
    client.expect_end();
}

fn keep_alive(backend: Backend) {
    let server = server(backend, |config| config.keep_alive = SHORT);
    let mut client = server.client();
    let mut began = Instant::now();
    for _ in 0..3 {
        assert_eq!(client.get("/plaintext").status, 200);
        began = Instant::now() - Duration::from_millis(5);
    }
    client.expect_end();
    expect_short(began);
}

fn half_a_head(backend: Backend) {
    let server = server(backend, |config| config.header_timeout = SHORT);
    let began = Instant::now();
    let mut client = server.client();
    client.send("GET / HTTP/1.1\r\nHost:");
    let answer = client.answer();
    assert_eq!(answer.said(), (408, "the request took too long".into()));
    assert!(answer.closes());
    client.expect_end();
    expect_short(began);
}

fn half_a_later_head(backend: Backend) {
    let server = server(backend, |config| config.header_timeout = SHORT);
    let mut client = server.client();
    assert_eq!(client.get("/plaintext").status, 200);
    let began = Instant::now();
    client.send("G");
    assert_eq!(client.answer().status, 408);
    client.expect_end();
    expect_short(began);
}

fn dripping(backend: Backend) {
    let server = server(backend, |config| config.header_timeout = SHORT);
    let began = Instant::now();
    let mut client = server.client();
    client.send("GET / HTTP/1.1\r\nHost: test\r\nX: ");
    client.socket.set_read_timeout(Some(Duration::from_millis(20))).expect("a socket has a read timeout");
    while began.elapsed() < SOON && client.socket.peek(&mut [0]).is_err() {
        client.send("x");
    }
    client.socket.set_read_timeout(Some(SOON)).expect("a socket has a read timeout");
    assert_eq!(client.answer().status, 408);
    expect_short(began);
}

fn silent(backend: Backend) {
    let server = server(backend, |config| config.header_timeout = SHORT);
    let began = Instant::now();
    let mut client = server.client();
    client.expect_end();
    expect_short(began);
}

fn body_timeout(backend: Backend, path: &str) {
    let server = server(backend, |config| config.body_timeout = SHORT);
    for body in ["Content-Length: 10\r\n\r\n123", "Transfer-Encoding: chunked\r\n\r\n3\r\n123\r\n"] {
        let began = Instant::now();
        let mut client = server.client();
        client.send(format!("POST {path} HTTP/1.1\r\nHost: test\r\n{body}"));
        expect_body_timeout(&mut client);
        expect_short(began);
    }
}

fn expect_body_timeout(client: &mut Client) {
    let answer = client.answer();
    assert_eq!(answer.said(), (408, "the body came too slowly".into()));
    assert!(answer.closes());
    client.expect_end();
}

fn later_pause(backend: Backend) {
    let server = server(backend, |config| config.body_timeout = SHORT * 5);
    let mut client = server.client();
    client.send("POST /test/read HTTP/1.1\r\nHost: test\r\nContent-Length: 10\r\n\r\n");
    for piece in ["1", "2", "3", "4"] {
        std::thread::sleep(SHORT / 4);
        client.send(piece);
    }
    expect_body_timeout(&mut client);
}

fn echo_pause(backend: Backend) {
    let server = server(backend, |config| config.body_timeout = SHORT);
    let began = Instant::now();
    let mut client = server.client();
    client.send("POST /echo HTTP/1.1\r\nHost: test\r\nContent-Length: 10\r\n\r\n123");
    assert!(client.rest().ends_with(b"123"), "the bytes before the pause are echoed");
    expect_short(began);
}

/// A body that never ends and sets a flag when it is dropped.
struct Endless(Arc<AtomicBool>);

impl Read for Endless {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        into.fill(b'x');
        Ok(into.len())
    }
}

impl Drop for Endless {
    fn drop(&mut self) {
        self.0.store(true, Ordering::SeqCst);
    }
}

fn write_timeout(backend: Backend) {
    let dropped = Arc::new(AtomicBool::new(false));
    let drops = dropped.clone();
    let mut config = few_workers(backend);
    config.write_timeout = SHORT;
    let server = Running::start(backend, config, |runtime| {
        one(sync(move |_| Response::new(Body::from_reader(&runtime, None, Endless(drops.clone())))))
    });
    let mut client = server.client();
    client.send_get("/");
    let mut first = [0; 12];
    client.socket.read_exact(&mut first).expect("the answer begins");
    assert_eq!(&first, b"HTTP/1.1 200");
    let began = Instant::now();
    wait_until("the response is dropped", || dropped.load(Ordering::SeqCst));
    assert!(began.elapsed() < SOON, "it took {:?}", began.elapsed());
}

fn dribbling_body(backend: Backend) {
    for path in ["/test/read", "/test/read-sync"] {
        let server = server(backend, |config| (config.body_timeout, config.min_rate) = (SHORT * 2, 1000));
        let began = Instant::now();
        let mut client = server.client();
        client.send(format!("POST {path} HTTP/1.1\r\nHost: test\r\nContent-Length: 10000\r\n\r\n"));
        client.socket.set_read_timeout(Some(SHORT / 10)).expect("a socket has a read timeout");
        while began.elapsed() < SOON && client.socket.peek(&mut [0]).is_err() {
            client.send("x");
        }
        client.socket.set_read_timeout(Some(SOON)).expect("a socket has a read timeout");
        expect_body_timeout(&mut client);
        expect_short(began);
    }
}

/// Sends single bytes of a body that no handler reads, until the server closes.
fn dribbling_unread(backend: Backend, min_rate: u32) {
    for framing in ["Content-Length: 200000", "Transfer-Encoding: chunked"] {
        let server = server(backend, |config| {
            (config.body_timeout, config.min_rate, config.body_buffer) = (SHORT * 2, min_rate, 0);
        });
        let began = Instant::now();
        let mut client = server.client();
        client.send(format!("POST /nowhere HTTP/1.1\r\nHost: test\r\n{framing}\r\n\r\n"));
        assert_eq!(client.answer().status, 404);
        client.socket.set_read_timeout(Some(SHORT / 10)).expect("a socket has a read timeout");
        while began.elapsed() < PATIENCE && client.socket.peek(&mut [0]).is_err() {
            // As a chunk size, the zeros have no end.
            client.send("0");
        }
        assert!(began.elapsed() >= SHORT * 2, "it took only {:?}", began.elapsed());
        client.expect_end();
    }
}

/// The number of bytes that a slow reader takes at once.
const PIECE: usize = 64 << 10;

/// Requests `all` bytes and reads [`PIECE`] bytes in each `pause`. A busy machine can delay single reads; the client
/// then makes up for them. Returns whether it received everything. The client has a small receive buffer, because the
/// system would take the whole response into a large one.
fn takes_slowly(backend: Backend, config: impl FnOnce(&mut Config), all: usize, pause: Duration) -> bool {
    let server = {
        let long = Duration::from_secs(600);
        let mut settings = few_workers(backend);
        (settings.keep_alive, settings.header_timeout, settings.body_timeout) = (long, long, long);
        config(&mut settings);
        Running::start(backend, settings, move |_| one(sync(move |_| Bytes::from(vec![b'x'; all]))))
    };
    let mut client = server.client();
    SockRef::from(&client.socket).set_recv_buffer_size(PIECE).expect("a socket has a receive buffer");
    client.send("GET / HTTP/1.1\r\nHost: test\r\nConnection: close\r\n\r\n");
    let (mut room, mut got) = (vec![0; PIECE], 0);
    let began = Instant::now();
    while began.elapsed() < SOON * 2 {
        match client.socket.read(&mut room) {
            Ok(n) if n > 0 => got += n,
            _ => break,
        }
        let due = pause.mul_f64(got as f64 / PIECE as f64);
        std::thread::sleep(due.saturating_sub(began.elapsed()));
    }
    got > all
}

fn slow_reader(backend: Backend) {
    // The whole takes longer than the timeout, no piece does.
    let config = |config: &mut Config| config.write_timeout = SHORT * 20;
    let began = Instant::now();
    assert!(takes_slowly(backend, config, 8 << 20, SHORT / 4));
    assert!(began.elapsed() > SHORT * 20);
}

fn dribbling_reader(backend: Backend) {
    // The client never stops reading, so only the minimum rate can end the response.
    let config = |config: &mut Config| (config.write_timeout, config.min_rate) = (SHORT * 2, 100_000_000);
    // The client would need 6 s, and the system takes some megabytes on its behalf.
    assert!(!takes_slowly(backend, config, 64 << 20, SHORT / 32));
}

fn max_age(backend: Backend) {
    let age = SHORT * 2;
    let server = server(backend, |config| config.max_age = age);
    for path in ["/plaintext", "/async", "/stream/3"] {
        let began = Instant::now();
        let mut client = server.client();
        let mut answer = client.get(path);
        while !answer.closes() {
            assert!(began.elapsed() < SOON);
            std::thread::sleep(SHORT / 4);
            answer = client.get(path);
        }
        // The clock of the server may lag by some milliseconds.
        assert!(began.elapsed() > age / 2, "the connection closes early");
        assert_eq!(answer.status, 200);
        client.expect_end();
    }
}

fn overload(backend: Backend) {
    let server = server(backend, |config| {
        (config.max_connections, config.overload) = (3, Overload::Refuse);
    });
    let mut taken: Vec<_> = (0..3).map(|_| server.client()).collect();
    for client in &mut taken {
        assert_eq!(client.get("/plaintext").status, 200);
    }
    for _ in 0..10 {
        let mut refused = server.client();
        refused.send_get("/plaintext");
        let answer = refused.answer();
        assert_eq!(answer.said(), (503, "there are too many connections".into()));
        assert_eq!(answer.field("Retry-After"), Some("1"));
        assert!(answer.closes());
        refused.expect_end();
    }
    assert_eq!(taken[0].get("/plaintext").status, 200, "accepted connections are served");
    drop(taken.pop());
    let began = Instant::now();
    while server.get("/plaintext").status != 200 {
        assert!(began.elapsed() < SOON, "the server has room");
    }
    drop(taken);
    assert!(server.stop().refused >= 10);
}

fn max_connections(backend: Backend) {
    let server = server(backend, |config| config.max_connections = 3);
    let mut taken: Vec<_> = (0..3).map(|_| server.client()).collect();
    for client in &mut taken {
        assert_eq!(client.get("/plaintext").status, 200);
    }
    let mut next = server.client();
    next.send_get("/plaintext");
    next.socket.set_read_timeout(Some(Duration::from_millis(150))).expect("a socket has a read timeout");
    let early = next.socket.peek(&mut [0]);
    assert!(early.is_err(), "a fourth connection is not served");
    next.socket.set_read_timeout(Some(SOON)).expect("a socket has a read timeout");
    assert_eq!(taken[0].get("/plaintext").status, 200, "accepted connections are served");
    drop(taken.pop());
    assert_eq!(next.answer().status, 200, "the server has room");
    drop(next);
    drop(taken);
    for _ in 0..10 {
        assert_eq!(server.get("/plaintext").status, 200);
    }
}

fn beyond_drain(backend: Backend) {
    let server = server(backend, |config| (config.limits.drain, config.body_buffer) = (1000, 0));
    for (len, stays_open) in [(900, true), (5000, false)] {
        for path in ["/test/ignore", "/test/ignore-async"] {
            let mut client = server.client();
            client.send(format!("POST {path} HTTP/1.1\r\nHost: test\r\nContent-Length: {len}\r\n\r\nhead"));
            assert_eq!(client.answer().text(), "ignored");
            match stays_open {
                true => {
                    client.send(vec![b'x'; len - 4]);
                    assert_eq!(client.get("/plaintext").status, 200);
                }
                false => client.expect_end(),
            }
        }
    }
}

fn refusal_while_sending(backend: Backend) {
    let server = server(backend, |config| config.limits.body = 1000);
    for fields in ["Content-Length: 200000", "Content-Length: 5\r\nTransfer-Encoding: chunked"] {
        for piece in [200_000, 20_000] {
            let mut client = server.client();
            client.send(format!("POST /echo HTTP/1.1\r\nHost: test\r\n{fields}\r\n\r\n"));
            for _ in 0..200_000 / piece {
                client.send(vec![b'x'; piece]);
            }
            let answer = client.answer();
            assert!([400, 413].contains(&answer.status), "{answer:?}");
            assert!(answer.closes());
            client.expect_end();
        }
    }
}

fn refusal_of_megabytes(backend: Backend) {
    let server = server(backend, |config| config.limits.body = 1000);
    for head in ["Host: a b\r\nContent-Length: 12000000", "Host: test\r\nContent-Length: 12000000"] {
        let mut client = server.client();
        client.send(format!("POST /echo HTTP/1.1\r\n{head}\r\n\r\n"));
        client.send(vec![b'x'; 12_000_000]);
        assert!([400, 413].contains(&client.answer().status));
        client.expect_end();
    }
}

fn answer_while_sending(backend: Backend) {
    let server = server(backend, |config| config.limits.body = 1 << 30);
    let mut client = server.client();
    client.send("POST /test/ignore HTTP/1.1\r\nHost: test\r\nContent-Length: 1000000\r\n\r\n");
    client.send(vec![b'x'; 200_000]);
    assert_eq!(client.answer().text(), "ignored");
    client.expect_end();
}

fn no_date(backend: Backend) {
    let server = server(backend, |config| (config.date_header, config.server_header) = (false, false));
    let mut client = server.client();
    let answers = [client.get("/plaintext"), client.get("/nowhere"), client.get("/stream/1"), {
        client.send("\0");
        client.answer()
    }];
    for answer in answers {
        assert_eq!((answer.field("Date"), answer.field("Server")), (None, None), "{answer:?}");
    }
}

fn in_time(backend: Backend) {
    let server = server(backend, |config| {
        // Each timeout is shorter than the whole test, and longer than any pause.
        (config.keep_alive, config.header_timeout) = (SHORT * 20, SHORT * 20);
        (config.body_timeout, config.write_timeout, config.min_rate) = (SHORT * 20, SHORT * 20, 1);
    });
    let mut client = server.client();
    let pause = SHORT;
    let began = Instant::now();
    while began.elapsed() < SHORT * 24 {
        assert_eq!(client.get("/sleep/150").status, 200);
        client.send("POST /test/read HTTP/1.1\r\nHost: test\r\nContent-Length: 6\r\n\r\n1");
        for piece in ["2", "3", "4", "5", "6"] {
            std::thread::sleep(pause);
            client.send(piece);
        }
        assert_eq!(client.answer().text(), "123456");
        std::thread::sleep(pause);
    }
    let bytes = Bytes::from_static(b"end");
    client.send(format!("POST /echo HTTP/1.1\r\nHost: test\r\nContent-Length: {}\r\n\r\n", bytes.len()));
    client.send(bytes);
    assert_eq!(Client::answer(&mut client).text(), "end");
}
