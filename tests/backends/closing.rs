//! A close after a response is announced by `Connection: close` (RFC 9112, 9.6): a client that reuses connections loses
//! no request.
//!
//! The server cannot announce a close whose reason occurs after the head of the response: a body that is cut, an idle
//! connection at its timeout or at a stop, and an unread body that turns out to be malformed, late, or, if it is
//! chunked, too large to drain.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use gearshift::{Backend, Config, Overload};
use test_support::backend::{blocks, few_workers};
use test_support::client::Client;
use test_support::routes::{self, Waits};
use test_support::server::Running;
use test_support::suite::Area;
use test_support::wait_until;

pub(crate) const AREA: Area = (
    "closing",
    &[
        ("every_close_after_a_response_is_announced", announced),
        ("a_stop_is_announced", stop),
        ("a_pool_of_connections_loses_no_request_without_keep_alive", pool),
        ("pipelined_requests_are_answered_without_keep_alive", pipelined),
        ("a_request_that_arrived_in_part_is_answered_without_keep_alive", in_part),
        ("empty_lines_are_no_request_without_keep_alive", empty_lines),
    ],
);

/// A server whose timeouts are long, except for those that `change` sets.
fn server(backend: Backend, change: fn(&mut Config)) -> Running {
    let long = Duration::from_secs(600);
    let mut config = few_workers(backend);
    (config.keep_alive, config.header_timeout, config.body_timeout) = (long, long, long);
    change(&mut config);
    Running::start(backend, config, |_| routes::app())
}

fn without_keep_alive(config: &mut Config) {
    config.keep_alive = Duration::ZERO;
}

const GET: &str = "GET /plaintext HTTP/1.1\r\nHost: test\r\n\r\n";

/// What a server sends first on a connection, and why it then closes the connection.
struct Close {
    /// The reason for the close, and the settings that it needs.
    because: &'static str,
    set: fn(&mut Config),
    /// A request, or a part of one.
    send: &'static str,
    status: u16,
}

const CLOSES: &[Close] = &[
    Close { because: "there is no keep-alive", set: without_keep_alive, send: GET, status: 200 },
    Close {
        because: "there is no keep-alive: async",
        set: without_keep_alive,
        send: "GET /async HTTP/1.1\r\nHost: test\r\n\r\n",
        status: 200,
    },
    Close {
        because: "there is no keep-alive: streamed",
        set: without_keep_alive,
        send: "GET /stream/3 HTTP/1.1\r\nHost: test\r\n\r\n",
        status: 200,
    },
    Close {
        because: "there is no keep-alive: no content",
        set: without_keep_alive,
        send: "GET /test/nothing HTTP/1.1\r\nHost: test\r\n\r\n",
        status: 204,
    },
    Close {
        because: "there is no keep-alive: with a body",
        set: without_keep_alive,
        send: "POST /test/read HTTP/1.1\r\nHost: test\r\nContent-Length: 3\r\n\r\nabc",
        status: 200,
    },
    Close {
        because: "there is no keep-alive: HTTP/1.0",
        set: without_keep_alive,
        send: "GET /plaintext HTTP/1.0\r\nConnection: keep-alive\r\n\r\n",
        status: 200,
    },
    Close { because: "max_requests", set: |config| config.max_requests = Some(1), send: GET, status: 200 },
    Close { because: "max_age", set: |config| config.max_age = Duration::ZERO, send: GET, status: 200 },
    Close {
        because: "max_age: with an unread body",
        set: |config| (config.max_age, config.body_buffer) = (Duration::ZERO, 0),
        send: "POST /test/ignore HTTP/1.1\r\nHost: test\r\nContent-Length: 3\r\n\r\n",
        status: 200,
    },
    Close {
        because: "max_age: streamed",
        set: |config| config.max_age = Duration::ZERO,
        send: "GET /stream/3 HTTP/1.1\r\nHost: test\r\n\r\n",
        status: 200,
    },
    Close {
        because: "the peer has asked for it",
        set: |_| {},
        send: "GET /plaintext HTTP/1.1\r\nHost: test\r\nConnection: close\r\n\r\n",
        status: 200,
    },
    Close { because: "HTTP/1.0", set: |_| {}, send: "GET /plaintext HTTP/1.0\r\n\r\n", status: 200 },
    Close {
        because: "HTTP/1.0: the close ends the body",
        set: |_| {},
        send: "GET /stream/3 HTTP/1.0\r\nConnection: keep-alive\r\n\r\n",
        status: 200,
    },
    Close {
        because: "the handler has asked for it",
        set: |_| {},
        send: "GET /test/close HTTP/1.1\r\nHost: test\r\n\r\n",
        status: 200,
    },
    Close {
        because: "the handler has panicked",
        set: |_| {},
        send: "GET /panic HTTP/1.1\r\nHost: test\r\n\r\n",
        status: 500,
    },
    Close {
        because: "the handler has panicked after a wait",
        set: |_| {},
        send: "GET /test/panic-later HTTP/1.1\r\nHost: test\r\n\r\n",
        status: 500,
    },
    Close {
        because: "handler_timeout",
        set: |config| config.handler_timeout = Duration::from_millis(50),
        send: "GET /test/wait/600000 HTTP/1.1\r\nHost: test\r\n\r\n",
        status: 503,
    },
    Close {
        because: "header_timeout",
        set: |config| config.header_timeout = Duration::from_millis(50),
        send: "GET /plaintext HTTP/1.1\r\nHost:",
        status: 408,
    },
    Close {
        because: "body_timeout",
        set: |config| config.body_timeout = Duration::from_millis(50),
        send: "POST /test/read HTTP/1.1\r\nHost: test\r\nContent-Length: 3\r\n\r\n",
        status: 408,
    },
    Close {
        because: "the rest of the body is more than is drained",
        set: |config| (config.limits.drain, config.body_buffer) = (1000, 0),
        send: "POST /test/ignore HTTP/1.1\r\nHost: test\r\nContent-Length: 5000\r\n\r\nhead",
        status: 200,
    },
    Close {
        because: "the rest of the body is more than is drained: async",
        set: |config| (config.limits.drain, config.body_buffer) = (1000, 0),
        send: "POST /test/ignore-async HTTP/1.1\r\nHost: test\r\nContent-Length: 5000\r\n\r\nhead",
        status: 200,
    },
    Close {
        because: "the rest of the body is more than is drained: streamed",
        set: |config| (config.limits.drain, config.body_buffer) = (1000, 0),
        send: "POST /test/answer/200/stream HTTP/1.1\r\nHost: test\r\nContent-Length: 5000\r\n\r\nhead",
        status: 200,
    },
    Close {
        because: "the peer may still send a body that it was not asked for",
        set: |_| {},
        send: "POST /test/ignore HTTP/1.1\r\nHost: test\r\nContent-Length: 3\r\nExpect: 100-continue\r\n\r\n",
        status: 200,
    },
    Close {
        because: "the body is malformed",
        set: |_| {},
        send: "POST /test/read HTTP/1.1\r\nHost: test\r\nTransfer-Encoding: chunked\r\n\r\nx\r\n",
        status: 400,
    },
    Close { because: "the request is malformed", set: |_| {}, send: "GET  / HTTP/1.1\r\n\r\n", status: 400 },
    Close {
        because: "the body is too large",
        set: |config| config.limits.body = 10,
        send: "POST /test/read HTTP/1.1\r\nHost: test\r\nContent-Length: 11\r\n\r\n",
        status: 413,
    },
    Close {
        because: "a CONNECT was refused",
        set: |_| {},
        send: "CONNECT refused.test:80 HTTP/1.1\r\nHost: test\r\n\r\n",
        status: 403,
    },
];

fn announced(backend: Backend) {
    for Close { because, set, send, status } in CLOSES {
        let server = server(backend, *set);
        expect_announced(&server, because, send, *status);
    }
    if blocks(backend) {
        // These backends wait for a small body before they call the handler, which answers without reading it.
        let set = |config: &mut Config| config.body_timeout = Duration::from_millis(50);
        let ignores = "POST /test/ignore HTTP/1.1\r\nHost: test\r\nContent-Length: 3\r\n\r\n";
        expect_announced(&server(backend, set), "the body is late", ignores, 200);
    }
    let set = |config: &mut Config| (config.max_connections, config.overload) = (1, Overload::Refuse);
    let full = server(backend, set);
    let mut first = full.client();
    assert!(!first.get("/plaintext").closes());
    expect_announced(&full, "there are too many connections", "", 503);
    // The control: with all reasons absent the connection stays open, and no response says otherwise.
    let server = server(backend, |_| {});
    let mut client = server.client();
    for path in ["/plaintext", "/async", "/stream/3", "/nowhere", "/test/nothing", "/plaintext"] {
        assert!(!client.get(path).closes(), "{path}");
    }
}

fn expect_announced(server: &Running, because: &str, send: &str, status: u16) {
    let mut client = server.client();
    client.send(send);
    let answer = client.answer();
    assert_eq!(answer.status, status, "{because}");
    assert!(answer.closes(), "{because}: {answer:?}");
    client.try_end().unwrap_or_else(|why| panic!("{because}: no clean end: {why}"));
}

fn stop(backend: Backend) {
    let waits = Arc::new(Waits::default());
    let counted = waits.clone();
    let server = Running::start(backend, few_workers(backend), |_| routes::with_waits(counted));
    let mut client = server.client();
    client.send_get("/test/wait/300");
    wait_until("the handler waits", || waits.begun.load(Ordering::SeqCst) == 1);
    server.shutdown().graceful();
    let answer = client.answer();
    assert_eq!(answer.said(), (200, "waited".into()));
    assert!(answer.closes(), "{answer:?}");
    client.expect_end();
}

fn pool(backend: Backend) {
    let server = server(backend, without_keep_alive);
    let mut kept: Option<Client> = None;
    for nth in 0..30 {
        let mut client = kept.take().unwrap_or_else(|| server.client());
        client.send_get("/plaintext");
        let answer = client.try_answer(false).unwrap_or_else(|why| panic!("request {nth} is lost: {why}"));
        assert_eq!(answer.said(), (200, "Hello, World!".into()));
        // The client keeps each connection of which the server did not say that it closes.
        kept = (!answer.closes()).then_some(client);
    }
}

fn pipelined(backend: Backend) {
    let server = server(backend, without_keep_alive);
    let requests = ["/plaintext", "/async", "/stream/3", "/test/nothing", "/plaintext"];
    let mut client = server.client();
    client.send(requests.map(|path| format!("GET {path} HTTP/1.1\r\nHost: test\r\n\r\n")).concat());
    for (nth, path) in requests.iter().enumerate() {
        assert_eq!(client.answer().closes(), nth + 1 == requests.len(), "{nth}: {path}");
    }
    client.expect_end();
}

fn in_part(backend: Backend) {
    let server = server(backend, without_keep_alive);
    let (begin, rest) = GET.split_at(20);
    let mut client = server.client();
    client.send(format!("{GET}{begin}"));
    assert!(!client.answer().closes());
    client.send(rest);
    assert!(client.answer().closes());
    client.expect_end();
}

fn empty_lines(backend: Backend) {
    let server = server(backend, without_keep_alive);
    let mut client = server.client();
    client.send(format!("{GET}\r\n"));
    assert!(client.answer().closes());
    client.expect_end();
}
