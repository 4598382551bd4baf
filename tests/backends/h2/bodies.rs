//! Bodies of requests and of responses, their windows and their trailers.

use std::future::poll_fn;
use std::sync::atomic::Ordering;

use gearshift::http::Method;
use gearshift::{Backend, Bytes, HeaderMap, HeaderValue, StatusCode};
use h2::Reason;
use h2::client::Builder;

use super::app::{LARGE, PIECE, serve, start};
use super::peer::{Peer, answer, read_all, request, run, send_all, with};
use super::raw::{
    DATA, END_HEADERS, END_STREAM, GOAWAY, HEADERS, INITIAL_WINDOW_SIZE, RST_STREAM, Raw, frame, get,
    section, window_update,
};

pub(super) fn upload(backend: Backend) {
    const WINDOW: usize = 100_000;
    let (server, seen) = start(backend, |config| config.http2.stream_window = WINDOW as u32);
    run(async {
        let mut peer = Peer::connect(server.addr()).await;
        let (response, mut body) = peer.begin(request(Method::POST, "/held")).await;
        // The window of the server admits so much, and no more while the handler does not read.
        let mut sent = 0;
        wait_for_settings(&mut peer).await;
        body.reserve_capacity(LARGE);
        while sent < WINDOW {
            let room = match body.capacity() {
                0 => poll_fn(|cx| body.poll_capacity(cx)).await.expect("open").expect("room"),
                room => room,
            };
            sent += room;
            body.send_data(vec![0; room].into(), false).expect("the window has room");
            body.reserve_capacity(LARGE);
        }
        assert_eq!(sent, WINDOW);
        seen.expect_begun(1);
        assert_eq!(peer.get("/").await.text(), "hello", "another request is not delayed");
        assert_eq!(body.capacity(), 0);
        seen.is_open.store(true, Ordering::SeqCst);
        send_all(&mut body, vec![0; LARGE - WINDOW].into(), true).await.expect("the server reads");
        assert_eq!(answer(response).await.expect("a response").text(), LARGE.to_string());
    });
}

/// Waits until the settings of the server have arrived: they precede every response.
async fn wait_for_settings(peer: &mut Peer) {
    assert_eq!(peer.get("/").await.status, 200);
}

pub(super) fn download(backend: Backend) {
    const WINDOW: u32 = 70_000;
    let (server, seen) = serve(backend);
    run(async {
        let mut builder = Builder::new();
        builder.initial_window_size(WINDOW).initial_connection_window_size(1 << 20);
        let mut peer = Peer::connect_with(server.addr(), &builder).await;
        let response = peer.send(request(Method::GET, "/pieces")).await.await.expect("a response");
        let mut body = response.into_body();
        let mut received = 0;
        while received < WINDOW as usize {
            received += body.data().await.expect("a piece").expect("it arrives").len();
        }
        assert_eq!(received, WINDOW as usize);
        // The other request has been answered after all that the window admits.
        assert_eq!(peer.get("/").await.text(), "hello");
        let produced = seen.produced.load(Ordering::SeqCst);
        let most = u64::from(WINDOW) + 64 * 1024 + 2 * PIECE as u64;
        assert!(produced <= most, "{produced} of {most} bytes were produced");
        body.flow_control().release_capacity(received).expect("the bytes were received");
        let (rest, _) = read_all(body).await.expect("the rest");
        assert_eq!(received + rest.len(), LARGE);
    });
}

pub(super) fn extreme_settings(backend: Backend) {
    use gearshift::Http2;
    for (window, streams, buffer) in
        [(Http2::FRAME, 1, Http2::FRAME), (Http2::MAX_WINDOW, u32::MAX, Http2::MAX_WINDOW)]
    {
        let (server, _) = start(backend, |config| {
            let http2 = &mut config.http2;
            (http2.stream_window, http2.max_streams, http2.send_buffer) = (window, streams, buffer as usize);
            http2.connection_window = window.max(Http2::MIN_CONNECTION_WINDOW);
            http2.max_resets = streams;
        });
        run(async {
            let mut peer = Peer::connect(server.addr()).await;
            assert_eq!(peer.get("/").await.text(), "hello");
            let body = vec![b'x'; 200_000];
            let (response, mut stream) = peer.begin(request(Method::POST, "/echo")).await;
            let sent = body.clone();
            let sending = tokio::spawn(async move { send_all(&mut stream, sent.into(), true).await });
            let echo = answer(response).await.expect("a response");
            sending.await.expect("a task").expect("the server reads");
            assert!(echo.status == 200 && echo.body == body, "{window}");
        });
    }
}

/// Bodies that no handler reads fill the window of the connection several times.
pub(super) fn unread(backend: Backend) {
    let (server, _) = serve(backend);
    run(async {
        let mut peer = Peer::connect(server.addr()).await;
        wait_for_settings(&mut peer).await;
        for _ in 0..20 {
            let (response, mut body) = peer.begin(request(Method::POST, "/unread")).await;
            // The server may reset the stream after its response, before it has the whole body.
            let _ = send_all(&mut body, vec![0; 200_000].into(), true).await;
            assert_eq!(response.await.expect("a response").status(), 200);
        }
        assert_eq!(peer.post("/length", vec![0; LARGE]).await.text(), LARGE.to_string());
    });
}

pub(super) fn echo(backend: Backend) {
    let (server, _) = serve(backend);
    run(async {
        let mut peer = Peer::connect(server.addr()).await;
        for path in ["/echo", "/held-echo"] {
            let (response, mut body) = peer.begin(request(Method::POST, path)).await;
            send_all(&mut body, Bytes::from_static(b"first"), false).await.expect("the server reads");
            let mut echo = response.await.expect("a response").into_body();
            assert_eq!(echo.data().await.expect("a piece").expect("it arrives"), "first");
            let sending = tokio::spawn(async move { send_all(&mut body, vec![7; LARGE].into(), true).await });
            let (rest, _) = read_all(echo).await.expect("the rest");
            assert!(rest.len() == LARGE && rest.iter().all(|byte| *byte == 7), "{path}");
            sending.await.expect("a task").expect("the server reads");
        }
    });
}

pub(super) fn trailers(backend: Backend) {
    let (server, _) = serve(backend);
    run(async {
        let mut peer = Peer::connect(server.addr()).await;
        for (has_trailers, expected) in [(true, "7"), (false, "-")] {
            let (response, mut body) = peer.begin(request(Method::POST, "/trailers")).await;
            send_all(&mut body, Bytes::from_static(b"data"), !has_trailers).await.expect("the server reads");
            if has_trailers {
                let mut fields = HeaderMap::new();
                fields.insert("x-sum", HeaderValue::from_static("7"));
                body.send_trailers(fields).expect("the server reads");
            }
            let answer = answer(response).await.expect("a response");
            assert_eq!((answer.said(), answer.field("content-length")), ((200, "data"), None));
            let trailers = answer.trailers.expect("trailers");
            assert_eq!(trailers.get("x-sum").map(HeaderValue::as_bytes), Some(expected.as_bytes()));
            assert_eq!(trailers.len(), 1, "{trailers:?}");
        }
        // A field that is no trailer.
        let (response, mut body) = peer.begin(request(Method::POST, "/trailers")).await;
        let mut fields = HeaderMap::new();
        fields.insert("authorization", HeaderValue::from_static("x"));
        body.send_trailers(fields).expect("the server reads");
        let refused = answer(response).await.expect("a response");
        assert_eq!(refused.said(), (400, "a trailer field is not allowed as such"));
    });
}

pub(super) fn refused_bodies(backend: Backend) {
    let (server, _) = start(backend, |config| config.limits.body = 1000);
    run(async {
        let mut peer = Peer::connect(server.addr()).await;
        let announced = with(request(Method::POST, "/length"), "content-length", "1001");
        let (response, _body) = peer.begin(announced).await;
        assert_eq!(answer(response).await.expect("a response").said(), (413, "the body is too large"));
        let (response, mut body) = peer.begin(request(Method::POST, "/length")).await;
        send_all(&mut body, vec![0; 1001].into(), false).await.expect("the server reads");
        assert_eq!(answer(response).await.expect("a response").said(), (413, "the body is too large"));
        assert_eq!(peer.post("/length", vec![0; 1000]).await.said(), (200, "1000"));
    });
}

pub(super) fn wrong_length(backend: Backend) {
    let (server, seen) = serve(backend);
    for (n, body) in ["too short", "much too long"].into_iter().enumerate() {
        let mut raw = Raw::connect(server.addr(), &[]);
        let head = section("POST", "/read", &[("content-length", "11")]);
        raw.send(frame(HEADERS, END_HEADERS, 1, &head));
        raw.send(frame(DATA, END_STREAM, 1, body.as_bytes()));
        let reset = raw.expect(body, |frame| frame.stream == 1);
        assert_eq!((reset.kind, reset.code()), (RST_STREAM, Reason::PROTOCOL_ERROR.into()), "{body}");
        seen.expect_no_body(n + 1);
        raw.send(get(3, "/"));
        assert_eq!(raw.expect("another response", |frame| frame.kind == DATA).payload, b"hello");
    }
}

pub(super) fn malformed_trailers(backend: Backend) {
    let (server, seen) = serve(backend);
    let mut raw = Raw::connect(server.addr(), &[]);
    raw.send(frame(HEADERS, END_HEADERS, 1, &section("POST", "/read", &[])));
    raw.send(frame(DATA, 0, 1, b"data"));
    seen.expect_begun(1);
    let capital = [&[0, 1][..], b"X", &[1], b"y"].concat();
    raw.send(frame(HEADERS, END_STREAM | END_HEADERS, 1, &capital));
    let reset = raw.expect("a reset", |frame| matches!(frame.kind, RST_STREAM | GOAWAY));
    assert_eq!(reset.code(), u32::from(Reason::PROTOCOL_ERROR));
    seen.expect_no_body(1);
}

pub(super) fn wrong_response(backend: Backend) {
    let (server, _) = serve(backend);
    run(async {
        let mut peer = Peer::connect(server.addr()).await;
        let response = peer.send(request(Method::GET, "/wrong")).await;
        let error = answer(response).await.expect_err("the body is too short");
        assert_eq!(error.reason(), Some(Reason::INTERNAL_ERROR));
        assert_eq!(peer.get("/").await.text(), "hello");
    });
}

pub(super) fn expectation(backend: Backend) {
    let (server, seen) = serve(backend);
    run(async {
        let mut peer = Peer::connect(server.addr()).await;
        let expecting =
            |path| with(with(request(Method::POST, path), "expect", "100-continue"), "content-length", "4");
        let (mut response, mut body) = peer.begin(expecting("/held")).await;
        seen.expect_begun(1);
        assert_eq!(peer.get("/").await.text(), "hello");
        let early = poll_fn(|cx| std::task::Poll::Ready(response.poll_informational(cx))).await;
        assert!(early.is_pending(), "the body is not asked for yet");
        seen.is_open.store(true, Ordering::SeqCst);
        let interim = poll_fn(|cx| response.poll_informational(cx)).await.expect("an interim response");
        assert_eq!(interim.expect("it arrives").status(), StatusCode::CONTINUE);
        send_all(&mut body, Bytes::from_static(b"body"), true).await.expect("the server reads");
        assert_eq!(answer(response).await.expect("a response").text(), "4");
        // A handler that does not read the body.
        let (response, _body) = peer.begin(expecting("/unread")).await;
        assert_eq!(answer(response).await.expect("a response").text(), "unread");
        let (mut response, mut body) = peer.begin(expecting("/echo")).await;
        let interim = poll_fn(|cx| response.poll_informational(cx)).await.expect("an interim response");
        assert_eq!(interim.expect("it arrives").status(), StatusCode::CONTINUE);
        send_all(&mut body, Bytes::from_static(b"echo"), true).await.expect("the server reads");
        assert_eq!(answer(response).await.expect("a response").text(), "echo");
    });
}

/// Pieces of one byte cost much more memory than a byte each.
pub(super) fn crumbs(backend: Backend) {
    const STREAMS: u32 = 20;
    /// The buffers of the system have room for less than half as many, as frames. Without a limit, the server holds
    /// more than that many beside them: 64 Ki for each response.
    const MOST: u64 = 1_000_000;
    let (server, seen) = serve(backend);
    let mut raw = Raw::connect(server.addr(), &[(INITIAL_WINDOW_SIZE, (1 << 31) - 1)]);
    raw.send(window_update(0, (1 << 31) - 65_536));
    for n in 0..STREAMS {
        raw.send(get(2 * n + 1, "/crumbs"));
    }
    raw.send(get(2 * STREAMS + 1, "/gate"));
    seen.expect_begun(1);
    let produced = seen.produced.load(Ordering::SeqCst);
    assert!(produced < MOST, "{produced} pieces");
    // All responses go on as the peer reads.
    let mut streams: Vec<_> = (0..STREAMS).map(|n| 2 * n + 1).collect();
    while !streams.is_empty() {
        let data = raw.expect("a piece", |frame| frame.kind == DATA);
        assert_eq!(data.payload, b"x");
        streams.retain(|stream| *stream != data.stream);
    }
    while seen.produced.load(Ordering::SeqCst) <= produced {
        raw.expect("a piece", |frame| frame.kind == DATA);
    }
}
