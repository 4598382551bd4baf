//! Several requests at once, and requests that their peers give up.

use std::sync::atomic::Ordering;

use gearshift::http::Method;
use gearshift::{Backend, Bytes};
use h2::Reason;
use test_support::client::Client;

use super::app::{LARGE, MEDIUM, Seen, serve, start};
use super::peer::{Peer, answer, request, run, send_all, with};
use super::raw::{DATA, RST_STREAM, Raw, SETTINGS, get, reset};

pub(super) fn interleaved(backend: Backend) {
    let (server, seen) = serve(backend);
    run(async {
        let mut peer = Peer::connect(server.addr()).await;
        let slow = peer.send(request(Method::GET, "/gate")).await;
        let (held, mut body) = peer.begin(request(Method::POST, "/held")).await;
        send_all(&mut body, Bytes::from_static(b"half "), false).await.expect("the server reads");
        seen.expect_begun(2);
        assert_eq!(peer.get("/").await.text(), "hello");
        assert_eq!(peer.get("/large").await.body.len(), LARGE);
        send_all(&mut body, Bytes::from_static(b"done"), true).await.expect("the server reads");
        assert_eq!(Seen::count(&seen.done), 0);
        seen.is_open.store(true, Ordering::SeqCst);
        assert_eq!(answer(slow).await.expect("a response").text(), "waited");
        assert_eq!(answer(held).await.expect("a response").text(), "9");
    });
}

pub(super) fn many(backend: Backend) {
    let (server, _) = serve(backend);
    run(async {
        let mut peer = Peer::connect(server.addr()).await;
        let mut responses = Vec::new();
        for n in 0..300_usize {
            let path = ["/", "/medium", "/field/x-n"][n % 3];
            let head = with(request(Method::GET, path), "x-n", "n");
            responses.push((path, tokio::spawn(answer(peer.send(head).await))));
        }
        for (path, response) in responses {
            let answer = response.await.expect("a task").expect("a response");
            let expected = if path == "/medium" { MEDIUM } else { answer.text().len() };
            assert_eq!((answer.status.as_u16(), answer.body.len()), (200, expected), "{path}");
        }
    });
}

pub(super) fn too_many_streams(backend: Backend) {
    let (server, seen) = start(backend, |config| config.http2.max_streams = 2);
    let mut raw = Raw::connect(server.addr(), &[]);
    let first = raw.expect("settings", |frame| frame.kind == SETTINGS);
    assert!(first.payload.windows(6).any(|setting| setting == [0, 3, 0, 0, 0, 2]), "{first:?}");
    raw.send([get(1, "/gate"), get(3, "/gate"), get(5, "/gate")].concat());
    let refused = raw.expect("the refusal", |frame| frame.kind == RST_STREAM);
    assert_eq!((refused.stream, refused.code()), (5, Reason::REFUSED_STREAM.into()));
    seen.expect_begun(2);
    seen.is_open.store(true, Ordering::SeqCst);
    let mut ended = Vec::new();
    while ended.len() < 2 {
        ended.push(raw.expect("a response", |frame| frame.kind == DATA).stream);
    }
    raw.send(get(7, "/"));
    assert_eq!(raw.expect("a response", |frame| frame.kind == DATA).stream, 7);
}

pub(super) fn reset_handler(backend: Backend) {
    let (server, seen) = serve(backend);
    run(async {
        let mut peer = Peer::connect(server.addr()).await;
        let kept = peer.send(request(Method::GET, "/gate")).await;
        let (given_up, mut body) = peer.begin(request(Method::GET, "/gate")).await;
        seen.expect_begun(2);
        body.send_reset(Reason::CANCEL);
        seen.expect_dropped(1);
        seen.expect("the token is cancelled", &seen.cancelled, 1);
        assert_eq!(Seen::count(&seen.done), 0);
        drop(given_up);
        assert_eq!(peer.get("/").await.text(), "hello");
        seen.is_open.store(true, Ordering::SeqCst);
        assert_eq!(answer(kept).await.expect("a response").text(), "waited");
    });
}

pub(super) fn lost_handler(backend: Backend) {
    let (server, seen) = serve(backend);
    for close in [|client: Client| drop(client), |client: Client| client.half_close()] {
        let before = Seen::count(&seen.begun);
        let mut raw = Raw::connect(server.addr(), &[]);
        raw.send([get(1, "/gate"), get(3, "/begun")].concat());
        raw.expect("a piece", |frame| frame.kind == DATA && frame.payload == b"begun");
        seen.expect_begun(before + 2);
        close(raw.0);
        seen.expect_dropped(before + 2);
    }
}

pub(super) fn ignored(backend: Backend) {
    let (server, seen) = serve(backend);
    let mut raw = Raw::connect(server.addr(), &[]);
    raw.send(get(1, "/ignore"));
    seen.expect_begun(1);
    drop(raw);
    // A connection that began later is served, and the handler still waits.
    run(async { assert_eq!(Peer::connect(server.addr()).await.get("/").await.text(), "hello") });
    assert_eq!((Seen::count(&seen.dropped), Seen::count(&seen.done)), (0, 0));
    seen.is_open.store(true, Ordering::SeqCst);
    seen.expect("the handler is done", &seen.done, 1);
}

pub(super) fn detached(backend: Backend) {
    let (server, seen) = serve(backend);
    let mut raw = Raw::connect(server.addr(), &[]);
    raw.send([get(1, "/detach"), get(3, "/gate")].concat());
    seen.expect_begun(2);
    raw.send([reset(1), reset(3)].concat());
    seen.expect_dropped(1);
    seen.expect("the tokens are cancelled", &seen.cancelled, 2);
    drop(raw);
    seen.is_open.store(true, Ordering::SeqCst);
    seen.expect("the handler is done", &seen.done, 1);
}

pub(super) fn reset_response(backend: Backend) {
    let (server, seen) = serve(backend);
    let mut raw = Raw::connect(server.addr(), &[]);
    raw.send(get(1, "/begun"));
    raw.expect("a piece", |frame| frame.kind == DATA);
    raw.send(reset(1));
    seen.expect_dropped(1);
    raw.send(get(3, "/"));
    assert_eq!(raw.expect("another response", |frame| frame.kind == DATA).payload, b"hello");
}

pub(super) fn panics(backend: Backend) {
    let (server, seen) = serve(backend);
    run(async {
        let mut peer = Peer::connect(server.addr()).await;
        let kept = peer.send(request(Method::GET, "/gate")).await;
        for path in ["/panic", "/panic-later"] {
            assert_eq!(peer.get(path).await.status, 500);
        }
        seen.is_open.store(true, Ordering::SeqCst);
        assert_eq!(answer(kept).await.expect("a response").text(), "waited");
        assert_eq!(peer.get("/").await.text(), "hello", "the connection stays open");
    });
}
