//! The ends of connections, of requests and of responses: in order, by `close_notify`, or cut.

use std::net::Shutdown;
use std::sync::mpsc;
use std::time::Duration;

use gearshift::{Backend, BodyError, Request, Router};
use test_support::PATIENCE;
use test_support::backend::few_workers;
use test_support::server::Running;

use super::echo;
use super::peer::{self, NEVER, VERSIONS, close_notify, connect, read_to_end};
use super::pki::Authority;
use super::server::{Fixture, LARGE, localhost};

pub(super) fn cut_body(backend: Backend) {
    let (tell, told) = mpsc::channel();
    let authority = Authority::new();
    let mut config = few_workers(backend);
    config.tls = Some(localhost(&authority));
    let server = Running::start(backend, config, move |_| {
        Router::new().post("/", move |request: Request| {
            let tell = tell.clone();
            async move {
                let outcome = request.into_body().bytes(LARGE).await;
                let is_incomplete = matches!(outcome, Err(BodyError::Incomplete));
                tell.send(is_incomplete).expect("the test waits");
                outcome
            }
        })
    });
    let client = peer::client(&authority, VERSIONS[1], None);
    for (head, body) in [("Content-Length: 10", "some"), ("Transfer-Encoding: chunked", "4\r\nsome\r\n")] {
        for has_notify in [true, false] {
            let mut peer = connect(server.addr(), &client, "localhost");
            peer.send(format!("POST / HTTP/1.1\r\nHost: test\r\n{head}\r\n\r\n{body}"));
            if has_notify {
                close_notify(&mut peer);
            }
            peer.socket.sock.shutdown(Shutdown::Write).expect("the connection is open");
            assert!(told.recv_timeout(PATIENCE).expect("the handler ends"), "{head}, {has_notify}");
        }
    }
}

pub(super) fn close_notifies(backend: Backend) {
    let mut config = few_workers(backend);
    config.keep_alive = Duration::from_millis(200);
    let fixture = Fixture::with(backend, config);
    for version in VERSIONS {
        let client = peer::client(&fixture.authority, version, None);
        // After the last response.
        let mut peer = connect(fixture.server.addr(), &client, "localhost");
        peer.send("GET / HTTP/1.1\r\nHost: test\r\nConnection: close\r\n\r\n");
        let (answer, has_notify) = read_to_end(&mut peer);
        assert!(answer.ends_with(b"hello") && has_notify, "{version:?}");
        // After the end of an idle connection.
        let mut peer = connect(fixture.server.addr(), &client, "localhost");
        assert_eq!(peer.get("/").status, 200);
        assert_eq!(read_to_end(&mut peer), (Vec::new(), true), "{version:?}");
        // After a response to a request that was refused.
        let mut peer = connect(fixture.server.addr(), &client, "localhost");
        peer.send("nonsense\r\n\r\n");
        let (answer, has_notify) = read_to_end(&mut peer);
        assert!(answer.starts_with(b"HTTP/1.1 400") && has_notify, "{version:?}");
    }
    let mut idle = fixture.connect();
    assert_eq!(idle.get("/").status, 200);
    fixture.server.shutdown().graceful();
    assert_eq!(read_to_end(&mut idle), (Vec::new(), true));
}

pub(super) fn cut_response(backend: Backend) {
    let fixture = Fixture::start(backend);
    // The end of the connection is the end of the body, so only `close_notify` tells a whole body from a part. The rest
    // of a request that nobody reads must not reset the connection, because that would destroy the part.
    let unread = "Content-Length: 1000000\r\n\r\n".to_owned() + &"x".repeat(200_000);
    for rest in ["\r\n", &unread] {
        let mut peer = fixture.connect();
        peer.send(format!("GET /cut HTTP/1.0\r\n{rest}"));
        let (answer, has_notify) = read_to_end(&mut peer);
        assert!(answer.ends_with(b"begun"), "{:?}", String::from_utf8_lossy(&answer));
        assert!(!has_notify);
    }
}

pub(super) fn half_closed(backend: Backend) {
    let mut config = few_workers(backend);
    (config.keep_alive, config.header_timeout) = (NEVER, NEVER);
    let fixture = Fixture::with(backend, config);
    for (version, has_notify) in [(0, true), (0, false), (1, true), (1, false)] {
        let client = peer::client(&fixture.authority, VERSIONS[version], None);
        let mut peer = connect(fixture.server.addr(), &client, "localhost");
        peer.send(echo(&[b'x'; 100_000]));
        if has_notify {
            close_notify(&mut peer);
        } else {
            peer.socket.sock.shutdown(Shutdown::Write).expect("the connection is open");
        }
        assert_eq!(peer.answer().body.len(), 100_000);
        assert_eq!(read_to_end(&mut peer), (Vec::new(), true));
    }
}
