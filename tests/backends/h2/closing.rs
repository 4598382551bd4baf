//! The end of a connection: without requests, at a limit, and at a stop.

use std::future::poll_fn;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use gearshift::http::Method;
use gearshift::{Backend, Phase};
use h2::Reason;
use test_support::client::Client;
use test_support::{PATIENCE, wait_until};

use super::app::{LARGE, launch, serve, start};
use super::floods::CALM;
use super::peer::{Peer, answer, request, run, send_all};
use super::raw::{DATA, GOAWAY, PREFACE, RST_STREAM, Raw, get, last_goaway, settings};

pub(super) fn idle(backend: Backend) {
    let (server, seen) = start(backend, |config| config.keep_alive = Duration::from_millis(50));
    run(async {
        let mut peer = Peer::connect(server.addr()).await;
        let waiting = peer.send(request(Method::GET, "/gate")).await;
        seen.expect_begun(1);
        // Another connection is idle for as long, and ends.
        let mut other = Peer::connect(server.addr()).await;
        assert_eq!(other.get("/").await.text(), "hello");
        other.closed().await.expect("an end in order");
        seen.is_open.store(true, Ordering::SeqCst);
        assert_eq!(answer(waiting).await.expect("a response").text(), "waited");
        peer.closed().await.expect("an end in order");
    });
}

pub(super) fn silent(backend: Backend) {
    let (server, _) = start(backend, |config| config.header_timeout = Duration::from_millis(50));
    // Nothing behind the preface; no request; a part of a request.
    for bytes in [
        PREFACE[..20].to_vec(),
        PREFACE.to_vec(),
        [PREFACE, &settings(&[])].concat(),
        [PREFACE, &settings(&[]), &get(1, "/")[..12]].concat(),
    ] {
        // A busy machine may send the preface after the timeout. The connection then ends without a frame.
        wait_until("the connection ends with GOAWAY, if its preface was complete", || {
            let mut raw = Raw(server.client());
            raw.send(&bytes);
            let code = last_goaway(&raw.rest());
            assert!(matches!(code, None | Some(0)), "{code:?}");
            code.is_some() || bytes.len() <= PREFACE.len()
        });
    }
}

pub(super) fn age(backend: Backend) {
    let (server, _) = start(backend, |config| config.max_age = Duration::from_millis(50));
    run(async {
        let mut peer = Peer::connect(server.addr()).await;
        assert_eq!(peer.get("/").await.text(), "hello");
        peer.closed().await.expect("an end in order");
    });
}

pub(super) fn last_request(backend: Backend) {
    let (server, _) = start(backend, |config| config.max_requests = Some(2));
    run(async {
        let mut peer = Peer::connect(server.addr()).await;
        for _ in 0..2 {
            assert_eq!(peer.get("/large").await.body.len(), LARGE);
        }
        peer.closed().await.expect("an end in order");
    });
}

/// A peer that does not reply to the `PING` behind `GOAWAY`, and sends further requests.
pub(super) fn deaf_to_goaway(backend: Backend) {
    let (server, seen) = start(backend, |config| {
        (config.max_requests, config.linger) = (Some(2), Duration::from_millis(50));
        config.http2.max_resets = 3;
    });
    let mut raw = Raw::connect(server.addr(), &[]);
    // The connection is never without a request.
    raw.send([get(1, "/gate"), get(3, "/")].concat());
    let deadline = Instant::now() + PATIENCE;
    let mut refused = 0;
    let mut next = (5..).step_by(2);
    let end = loop {
        assert!(Instant::now() < deadline, "the connection takes requests without end");
        // The replies pace the peer.
        let frame = raw.try_frame_of(&[DATA, RST_STREAM, GOAWAY]).expect("a reply");
        match frame.kind {
            RST_STREAM => {
                assert_eq!(frame.code(), u32::from(Reason::REFUSED_STREAM));
                refused += 1;
            }
            GOAWAY if frame.code() == 0 => continue,
            GOAWAY => break frame,
            _ => assert_eq!(refused, 0, "a request is answered after another was refused"),
        }
        raw.send(get(next.next().expect("a stream"), "/"));
    };
    assert_eq!((Some(end.code()), refused), (CALM, 3));
    seen.expect_dropped(1);
}

pub(super) fn close(backend: Backend) {
    let (server, seen) = serve(backend);
    run(async {
        let mut peer = Peer::connect(server.addr()).await;
        let waiting = peer.send(request(Method::GET, "/gate")).await;
        seen.expect_begun(1);
        let last = peer.get("/close").await;
        assert_eq!((last.said(), last.field("connection")), ((200, "last"), None));
        seen.is_open.store(true, Ordering::SeqCst);
        assert_eq!(answer(waiting).await.expect("a response").text(), "waited");
        peer.closed().await.expect("an end in order");
    });
}

pub(super) fn stop(backend: Backend) {
    let (server, seen) = launch(backend);
    run(async {
        let mut peer = Peer::connect(server.addr()).await;
        let mut idle = Peer::connect(server.addr()).await;
        assert_eq!(idle.get("/").await.text(), "hello");
        let waiting = peer.send(request(Method::GET, "/gate")).await;
        let (length, mut body) = peer.begin(request(Method::POST, "/length")).await;
        seen.expect_begun(1);
        assert_eq!(peer.get("/").await.text(), "hello");
        server.shutdown().graceful();
        idle.closed().await.expect("an end in order");
        send_all(&mut body, vec![0; LARGE].into(), true).await.expect("the server reads");
        assert_eq!(answer(length).await.expect("a response").text(), LARGE.to_string());
        seen.is_open.store(true, Ordering::SeqCst);
        assert_eq!(answer(waiting).await.expect("a response").text(), "waited");
        peer.closed().await.expect("an end in order");
    });
    let report = server.ended_gracefully();
    assert_eq!((report.finished, report.cut), (2, 0));
}

pub(super) fn stop_before_the_first(backend: Backend) {
    let (server, _) = launch(backend);
    run(async {
        let mut peer = Peer::connect(server.addr()).await;
        // The connection is accepted, and its settings were exchanged.
        poll_fn(|cx| peer.send.poll_ready(cx)).await.expect("open");
        wait_until("the connection is accepted", || {
            Client::connect(server.addr()).get("/stats").status == 200
        });
        server.shutdown().graceful();
        assert_eq!(peer.get("/").await.text(), "hello");
        peer.closed().await.expect("an end in order");
    });
    server.ended_gracefully();
}

pub(super) fn forced_stop(backend: Backend) {
    let (server, seen) = launch(backend);
    run(async {
        let mut peer = Peer::connect(server.addr()).await;
        let _waiting = [
            peer.send(request(Method::GET, "/gate")).await,
            peer.send(request(Method::GET, "/gate")).await,
            peer.send(request(Method::GET, "/begun")).await,
        ];
        seen.expect_begun(3);
        server.shutdown().force();
        seen.expect_dropped(3);
        drop(peer.closed().await);
    });
    assert_eq!(server.shutdown().phase(), Phase::Forced);
    let report = server.ended().expect("the server ends without an error");
    assert_eq!((report.finished, report.cut), (0, 3));
}
