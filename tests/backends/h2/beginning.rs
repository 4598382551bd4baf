//! How a connection begins: by the preface, and by the negotiation of TLS.

use std::sync::Arc;

use gearshift::{Backend, Config, Request, TlsConfig, sync};
use test_support::server::Running;
use test_support::wait_until;

use super::app::{app, patient, serve, start};
use super::peer::{Peer, run};
use super::raw::{ACK, DATA, END_STREAM, HEADERS, PREFACE, Raw, SETTINGS, frame, get, settings};
use crate::tls::peer::{connect as connect_tls, shake_hands};
use crate::tls::pki::{Authority, Certified};

pub(super) fn prior_knowledge(backend: Backend) {
    let (server, _) = serve(backend);
    run(async {
        let mut peer = Peer::connect(server.addr()).await;
        let hello = peer.get("/").await;
        assert_eq!(hello.said(), (200, "hello"));
        assert_eq!(hello.field("content-length"), Some("5"));
        assert_eq!(hello.field("content-type"), Some("text/plain; charset=utf-8"));
        assert_eq!(hello.field("server"), Some("gearshift"));
        assert!(hello.field("date").is_some() && hello.field("connection").is_none());
        assert_eq!(peer.get("/who").await.text(), "HTTP/2.0 http test Some(127.0.0.1)");
        assert_eq!(peer.get("/missing").await.status, 404);
        assert_eq!(peer.post("/text", "posted").await.said(), (200, "posted"));
        peer.ended().await.expect("an end in order");
    });
    assert_eq!(server.get("/").text(), "hello", "HTTP/1.1 is spoken at the same address");
}

pub(super) fn chopped_preface(backend: Backend) {
    let (server, _) = serve(backend);
    let mut raw = Raw(server.client());
    for byte in [PREFACE, &settings(&[]), &get(1, "/")].concat() {
        raw.send([byte]);
    }
    let head = raw.expect("a response", |frame| frame.kind == HEADERS);
    assert_eq!(head.stream, 1);
    let body = raw.expect("its body", |frame| frame.kind == DATA);
    assert_eq!((body.payload.as_slice(), body.flags), (&b"hello"[..], END_STREAM));
}

/// A server with TLS, and the settings of clients that offer these protocols.
pub(super) fn with_tls(
    backend: Backend,
    change: impl FnOnce(&mut Config),
) -> (Running, impl Fn(&[&[u8]]) -> Arc<gearshift::rustls::ClientConfig>) {
    let authority = Authority::new();
    let Certified { pem, key_pem, .. } = authority.issue(&["localhost"]);
    let tls = TlsConfig::from_pem(pem, key_pem).expect("a certificate and its key");
    let mut config = patient(backend);
    config.tls = Some(tls);
    change(&mut config);
    let server = Running::start(backend, config, |_| {
        app(&Arc::default()).get(
            "/alpn",
            sync(|request: Request| {
                let alpn = request.tls().and_then(|tls| tls.alpn()).unwrap_or(b"-");
                format!("{:?} {}", request.version(), String::from_utf8_lossy(alpn))
            }),
        )
    });
    let client = move |protocols: &[&[u8]]| {
        let mut client =
            Arc::unwrap_or_clone(crate::tls::peer::client(&authority, crate::tls::peer::VERSIONS[1], None));
        client.alpn_protocols = protocols.iter().map(|protocol| protocol.to_vec()).collect();
        Arc::new(client)
    };
    (server, client)
}

/// The protocol that a server negotiates.
fn negotiate(server: &Running, client: &Arc<gearshift::rustls::ClientConfig>) -> Option<Vec<u8>> {
    let mut peer = connect_tls(server.addr(), client, "localhost");
    shake_hands(&mut peer).expect("a handshake");
    peer.socket.conn.alpn_protocol().map(<[u8]>::to_vec)
}

pub(super) fn negotiated(backend: Backend) {
    let (server, client) = with_tls(backend, |_| {});
    assert_eq!(negotiate(&server, &client(&[b"http/1.1", b"h2"])).as_deref(), Some(&b"h2"[..]));
    assert_eq!(negotiate(&server, &client(&[b"http/1.1"])).as_deref(), Some(&b"http/1.1"[..]));
    let mut old = connect_tls(server.addr(), &client(&[b"http/1.1"]), "localhost");
    assert_eq!(old.get("/alpn").text(), "HTTP/1.1 http/1.1");
    // The frames over TLS, and the end of the session.
    let mut new = connect_tls(server.addr(), &client(&[b"h2"]), "localhost");
    new.send([PREFACE, &settings(&[]), &get(1, "/alpn")].concat());
    let mut received = Vec::new();
    wait_until("the response", || {
        received.extend(new.exactly(1).expect("a byte"));
        received.ends_with(b"HTTP/2.0 h2")
    });
    server.shutdown().graceful();
    new.send(frame(SETTINGS, ACK, 0, &[]));
    // The connection ends with GOAWAY and `close_notify`, although the peer does not reply to the PING.
    let rest = crate::tls::peer::read_to_end(&mut new);
    assert!(rest.1, "the session is ended in order");
}

pub(super) fn not_negotiated(backend: Backend) {
    let (server, client) = with_tls(backend, |_| {});
    for protocols in [&[][..], &[&b"http/1.1"[..]]] {
        let mut peer = connect_tls(server.addr(), &client(protocols), "localhost");
        peer.send(PREFACE);
        assert_eq!(peer.answer().status, 505);
    }
}

pub(super) fn switched_off(backend: Backend) {
    let off = |config: &mut Config| config.http2.enabled = false;
    let (server, client) = with_tls(backend, off);
    assert_eq!(negotiate(&server, &client(&[b"h2", b"http/1.1"])).as_deref(), Some(&b"http/1.1"[..]));
    let (server, _) = start(backend, off);
    let mut peer = server.client();
    peer.send(PREFACE);
    assert_eq!(peer.answer().said(), (505, "the version is not supported".to_owned()));
}

pub(super) fn late_preface(backend: Backend) {
    let (server, _) = serve(backend);
    let mut peer = server.client();
    assert_eq!(peer.get("/").status, 200);
    peer.send(PREFACE);
    assert_eq!(peer.answer().status, 505);
}

pub(super) fn proxy_header(backend: Backend) {
    let (server, _) =
        start(backend, |config| config.proxy_protocol_from = "127.0.0.1".parse().expect("a network"));
    let mut raw = Raw(server.client());
    let header = b"PROXY TCP4 192.0.2.7 192.0.2.1 4711 80\r\n";
    raw.send([header, PREFACE, &settings(&[]), &get(1, "/who")].concat());
    let body = raw.expect("a response", |frame| frame.kind == DATA);
    assert_eq!(String::from_utf8_lossy(&body.payload), "HTTP/2.0 http test Some(192.0.2.7)");
}

pub(super) fn refused_preface(backend: Backend) {
    let (server, _) = serve(backend);
    let mut peer = server.client();
    peer.send([PREFACE, &settings(&[])].concat());
    let refused = peer.answer();
    assert_eq!(refused.said(), (505, "the version is not supported".to_owned()));
    assert!(refused.closes());
}

pub(super) fn only_http1(backend: Backend) {
    let (server, client) = with_tls(backend, |_| {});
    assert_eq!(negotiate(&server, &client(&[b"h2", b"http/1.1"])).as_deref(), Some(&b"http/1.1"[..]));
    let mut peer = connect_tls(server.addr(), &client(&[b"h2"]), "localhost");
    assert!(shake_hands(&mut peer).is_err(), "no protocol is common");
}
