//! Heads of requests and of responses.

use gearshift::http::Method;
use gearshift::{Backend, http};
use h2::Reason;
use h2::client::Builder;

use super::app::{serve, start};
use super::peer::{Peer, answer, request, run, with};
use super::raw::{DATA, END_HEADERS, END_STREAM, HEADERS, RST_STREAM, Raw, frame, get, is_goaway, section};

/// The head needs several frames.
pub(super) fn large_head(backend: Backend) {
    let (server, _) = serve(backend);
    run(async {
        let mut builder = Builder::new();
        let builder = builder.max_header_list_size(1 << 20);
        let mut peer = Peer::connect_with(server.addr(), builder).await;
        let answer = peer.get("/large-head").await;
        assert_eq!((answer.said(), answer.fields.get_all("x-large").iter().count()), ((200, "large"), 100));
        assert_eq!(peer.get("/").await.text(), "hello");
    });
}

pub(super) fn bodiless(backend: Backend) {
    let (server, _) = serve(backend);
    run(async {
        let mut peer = Peer::connect(server.addr()).await;
        for (method, path, status, length) in [
            (Method::HEAD, "/", 200, Some("5")),
            (Method::HEAD, "/large", 200, Some("8388608")),
            (Method::HEAD, "/pieces", 200, None),
            (Method::GET, "/status/204", 204, None),
            (Method::GET, "/status/205", 205, Some("0")),
            (Method::GET, "/status/304", 304, None),
            (Method::OPTIONS, "/", 204, None),
        ] {
            let response = peer.send(request(method.clone(), path)).await.await.expect("a response");
            let is_end = response.body().is_end_stream();
            assert_eq!(response.status(), status, "{method} {path}");
            let given = response.headers().get("content-length").map(|value| value.to_str().unwrap_or("?"));
            assert_eq!((given, is_end), (length, true), "{method} {path}");
        }
    });
}

pub(super) fn fields_of_a_connection(backend: Backend) {
    let (server, _) = serve(backend);
    run(async {
        let mut peer = Peer::connect(server.addr()).await;
        let answer = peer.get("/fields").await;
        assert_eq!((answer.said(), answer.field("x-kept")), ((200, "fields"), Some("yes")));
        for name in ["connection", "keep-alive", "transfer-encoding", "upgrade"] {
            assert_eq!(answer.field(name), None);
        }
    });
    for (name, value) in
        [("connection", "close"), ("transfer-encoding", "chunked"), ("te", "gzip"), ("X", "y")]
    {
        let mut raw = Raw::connect(server.addr(), &[]);
        let head = section("GET", "/", &[(name, value)]);
        raw.send(frame(HEADERS, END_STREAM | END_HEADERS, 1, &head));
        let refused = raw.expect(name, |frame| frame.stream == 1 || is_goaway(frame));
        assert_eq!(refused.code(), u32::from(Reason::PROTOCOL_ERROR), "{name}: {refused:?}");
    }
}

pub(super) fn cookies(backend: Backend) {
    let (server, _) = serve(backend);
    run(async {
        let mut peer = Peer::connect(server.addr()).await;
        let mut head = request(Method::GET, "/field/cookie");
        for crumb in ["a=1", "b=2"] {
            head = with(head, "cookie", crumb);
        }
        let response = peer.send(head).await;
        assert_eq!(answer(response).await.expect("a response").text(), "a=1; b=2");
        let head = with(request(Method::GET, "/field/host"), "host", "test");
        let response = peer.send(head).await;
        assert_eq!(answer(response).await.expect("a response").text(), "test");
    });
}

pub(super) fn refused_heads(backend: Backend) {
    let (server, _) = start(backend, |config| {
        let limits = &mut config.limits;
        (limits.request_line, limits.field_line, limits.fields, limits.head) = (100, 200, 10, 480);
    });
    let long = "x".repeat(120);
    let many: Vec<_> = ["a", "b", "c", "d", "e", "f", "g", "h", "i", "j"].map(|name| (name, "")).into();
    for (method, path, fields, status, text) in [
        ("GET", "/%zz", vec![], 400, "the request target is not valid for its method"),
        ("GET", "*", vec![], 400, "the request target is not valid for its method"),
        ("GET", &format!("/{}", &long[..100]), vec![], 414, "the request line is too long"),
        ("GET", "/", many, 431, "there are too many header fields"),
        (
            "GET",
            "/",
            vec![("a", &long[..]), ("b", &long), ("c", &long), ("d", &long)],
            431,
            "the header fields are too large",
        ),
        ("GET", "/", vec![("expect", "tea")], 417, "the expectation cannot be met"),
        ("HEAD", "/", vec![("expect", "tea")], 417, ""),
        ("GET", "/", vec![("host", "test")], 200, "hello"),
    ] {
        let mut raw = Raw::connect(server.addr(), &[]);
        raw.send(frame(HEADERS, END_STREAM | END_HEADERS, 1, &section(method, path, &fields)));
        let head = raw.expect(text, |frame| frame.kind == HEADERS);
        let shown = format!("{method} {path} {fields:?}");
        assert_eq!(head.flags & END_STREAM != 0, text.is_empty(), "{shown}");
        if !text.is_empty() {
            let body = raw.expect(text, |frame| frame.kind == DATA);
            assert_eq!(String::from_utf8_lossy(&body.payload), text, "{shown}");
        }
        // The status is a literal, or one of the static table of HPACK.
        let in_table = [(200, 0x88), (400, 0x8c)].into_iter().find(|(known, _)| *known == status);
        match in_table {
            Some((_, index)) => assert_eq!(head.payload[0], index, "{shown}"),
            None => assert_ne!(head.payload[0] & 0x80, 0x80, "{shown}"),
        }
        raw.send(get(3, "/"));
        assert_eq!(raw.expect("another response", |frame| frame.kind == DATA).payload, b"hello");
    }
}

pub(super) fn malformed(backend: Backend) {
    let (server, seen) = serve(backend);
    let connect =
        [0, 7, b':', b'm', b'e', b't', b'h', b'o', b'd', 7, b'C', b'O', b'N', b'N', b'E', b'C', b'T'];
    for (head, what) in [
        (section("GET", "/gate", &[("host", "other")]), "two hosts"),
        (section("GET", "/gate", &[("x", " a")]), "a space before a value"),
        (section("GET", "/gate", &[("x", "a\t")]), "a tab behind a value"),
        (section("GET", "", &[]), "no path"),
        (section("GET", "/gate", &[(":path", "/")]), "two paths"),
        (section("GET", "/gate", &[(":status", "200")]), "a field of responses"),
        (connect.to_vec(), "a CONNECT without an authority"),
    ] {
        let mut raw = Raw::connect(server.addr(), &[]);
        raw.send(frame(HEADERS, END_STREAM | END_HEADERS, 1, &head));
        let reset = raw.expect(what, |frame| frame.kind == RST_STREAM);
        assert_eq!((reset.stream, reset.code()), (1, Reason::PROTOCOL_ERROR.into()), "{what}");
        raw.send(get(3, "/"));
        assert_eq!(raw.expect("another response", |frame| frame.kind == DATA).payload, b"hello");
    }
    seen.expect_begun(0);
}

pub(super) fn upgrades(backend: Backend) {
    let (server, _) = serve(backend);
    run(async {
        let mut peer = Peer::connect(server.addr()).await;
        let refused = peer.get("/upgrade").await;
        assert_eq!((refused.status.as_u16(), refused.field("upgrade")), (426, None));
        let connect = http::Request::builder().method(Method::CONNECT).uri("test:80");
        let response = peer.send(connect.body(()).expect("a valid request")).await;
        let refused = answer(response).await.expect("a response");
        assert_eq!(refused.said(), (501, "a tunnel needs HTTP/1.1"));
        assert_eq!(peer.get("/status/101").await.status, 500, "no interim response of a handler");
    });
}
