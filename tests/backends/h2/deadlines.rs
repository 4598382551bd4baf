//! Handlers, bodies and peers that are late.

use std::sync::atomic::Ordering;
use std::time::Duration;

use gearshift::http::Method;
use gearshift::{Backend, Bytes};
use h2::Reason;

use super::app::{LARGE, serve, start};
use super::peer::{Peer, answer, request, run, send_all};
use super::raw::{DATA, INITIAL_WINDOW_SIZE, RST_STREAM, Raw, get, window_update};

pub(super) fn late_handler(backend: Backend) {
    let (server, seen) = serve(backend);
    run(async {
        let mut peer = Peer::connect(server.addr()).await;
        let kept = peer.send(request(Method::GET, "/gate")).await;
        assert_eq!(peer.get("/short").await.status, 503);
        seen.expect_dropped(1);
        seen.expect("the token is cancelled", &seen.cancelled, 1);
        seen.is_open.store(true, Ordering::SeqCst);
        assert_eq!(answer(kept).await.expect("a response").text(), "waited");
        assert_eq!(peer.get("/").await.text(), "hello", "the connection stays open");
    });
}

pub(super) fn late_body(backend: Backend) {
    let (server, seen) = start(backend, |config| config.body_timeout = Duration::from_millis(50));
    run(async {
        let mut peer = Peer::connect(server.addr()).await;
        let kept = peer.send(request(Method::GET, "/gate")).await;
        let (response, mut body) = peer.begin(request(Method::POST, "/length")).await;
        send_all(&mut body, Bytes::from_static(b"begun"), false).await.expect("the server reads");
        let late = answer(response).await.expect("a response");
        assert_eq!(late.said(), (408, "the body came too slowly"));
        seen.is_open.store(true, Ordering::SeqCst);
        assert_eq!(answer(kept).await.expect("a response").text(), "waited");
    });
}

/// The wait for the body lasts longer than the handler may take.
pub(super) fn slow_body(backend: Backend) {
    let (server, _) = start(backend, |config| config.handler_timeout = Duration::from_millis(100));
    run(async {
        let mut peer = Peer::connect(server.addr()).await;
        let (response, mut body) = peer.begin(request(Method::POST, "/length")).await;
        for _ in 0..4 {
            // Each pause ends with the timeout of another handler, which began at the same time.
            assert_eq!(peer.get("/gate").await.status, 503);
            send_all(&mut body, Bytes::from_static(b"x"), false).await.expect("the server reads");
        }
        body.send_data(Bytes::new(), true).expect("the server reads");
        assert_eq!(answer(response).await.expect("a response").said(), (200, "4"));
    });
}

/// The peer admits a byte at a time, faster than the timeout, and slower than the minimum rate.
pub(super) fn slow_reader(backend: Backend) {
    let (server, _) = start(backend, |config| {
        config.write_timeout = Duration::from_millis(100);
        config.min_rate = 1_000_000;
    });
    let mut raw = Raw::connect(server.addr(), &[(INITIAL_WINDOW_SIZE, 1)]);
    raw.send(get(1, "/large"));
    let mut received = 0;
    let reset = loop {
        let frame = raw.expect("the end of the stream", |frame| matches!(frame.kind, DATA | RST_STREAM));
        if frame.kind == RST_STREAM {
            break frame;
        }
        received += frame.payload.len();
        raw.send(window_update(1, 1));
    };
    assert_eq!((reset.stream, reset.code()), (1, Reason::INTERNAL_ERROR.into()));
    assert!(received < LARGE);
    // A peer that takes the whole response is not late.
    run(async { assert_eq!(Peer::connect(server.addr()).await.get("/large").await.body.len(), LARGE) });
}

pub(super) fn no_reader(backend: Backend) {
    let (server, seen) = start(backend, |config| config.write_timeout = Duration::from_millis(100));
    const MAX: u32 = (1 << 31) - 1;
    let mut raw = Raw::connect(server.addr(), &[(INITIAL_WINDOW_SIZE, MAX)]);
    raw.send(window_update(0, MAX - 65_535));
    for stream in 0..10 {
        raw.send(get(2 * stream + 1, "/large"));
    }
    raw.send(get(21, "/begun"));
    seen.expect_begun(1);
    // The socket of the peer takes what the system has room for.
    seen.expect_dropped(1);
    run(async { assert_eq!(Peer::connect(server.addr()).await.get("/").await.text(), "hello") });
    drop(raw);
}
