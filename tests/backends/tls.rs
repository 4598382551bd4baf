//! TLS. The peer is the client of rustls and, where they are installed, curl and OpenSSL.

mod certificates;
mod ends;
pub(crate) mod peer;
pub(crate) mod pki;
pub(crate) mod programs;
mod server;

use std::io::{self, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::sync::{Arc, mpsc};
use std::time::Duration;

use gearshift::rustls::pki_types::ServerName;
use gearshift::rustls::{self, ClientConnection, StreamOwned};
use gearshift::{Backend, Overload, Request, Runtime, TestServer, TlsConfig};
use test_support::backend::few_workers;
use test_support::client::Client;
use test_support::server::{Launched, Running};
use test_support::suite::Area;
use test_support::wait_until;

use peer::{NEVER, Peer, VERSIONS, alert, close_notify, connect, raw_rest, read_to_end, shake_hands};
use pki::{Authority, Certified};
use server::{Fixture, LARGE, app, localhost};

pub(crate) const AREA: Area = (
    "tls",
    &[
        ("answers_requests_in_both_versions", answers),
        ("moves_large_bodies_both_ways", large_bodies),
        ("answers_pipelined_requests_in_order", pipelined),
        ("takes_the_bytes_of_a_peer_one_by_one", dribbled),
        ("holds_no_thread_for_a_handshake", slow_handshakes),
        ("ends_a_slow_handshake_at_the_header_timeout", late_handshake),
        ("fails_a_body_that_the_peer_cuts", ends::cut_body),
        ("says_that_a_connection_ends", ends::close_notifies),
        ("does_not_say_that_a_cut_response_has_ended", ends::cut_response),
        ("answers_a_peer_that_has_stopped_sending", ends::half_closed),
        ("refuses_plain_http_with_400", plain_http),
        ("sends_an_alert_before_it_closes", alerts),
        ("chooses_the_certificate_by_name", certificates::names),
        ("chooses_the_certificate_by_key", certificates::keys),
        ("reloads_its_certificates", certificates::reloads),
        ("asks_for_certificates_of_clients", certificates::client_certificates),
        ("resumes_sessions", certificates::resumption),
        ("takes_settings_of_rustls", certificates::from_rustls),
        ("upgrades_connections", upgrades),
        ("upgrades_to_websockets", websocket),
        ("waits_for_a_handshake_during_a_stop", stop_during_handshake),
        ("waits_for_a_slow_reader", slow_reader),
        ("cuts_a_peer_that_does_not_read", no_reader),
        ("refuses_a_connection_beyond_the_limit_with_503", overload),
        ("survives_garbage", garbage),
        ("begins_after_the_header_of_a_proxy", proxy_header),
        ("serves_curl", programs::curl),
        ("serves_openssl", programs::openssl),
        ("reloads_its_certificates_at_a_hangup", programs::hangup),
        ("tells_systemd_that_it_reloads_its_certificates", programs::notified_hangup),
        ("has_new_certificates_when_all_processes_are_replaced", programs::replaced),
        ("has_flags", programs::flags),
        ("is_spoken_by_the_client_of_a_test_server", test_server),
    ],
);

fn answers(backend: Backend) {
    let fixture = Fixture::start(backend);
    for (version, name) in VERSIONS.into_iter().zip(["TLSv1.2", "TLSv1.3"]) {
        let client = peer::client(&fixture.authority, version, None);
        let mut peer = connect(fixture.server.addr(), &client, "localhost");
        for _ in 0..3 {
            assert_eq!(peer.get("/").said(), (200, "hello".into()));
        }
        assert_eq!(peer.get("/tls").text(), format!("{name} localhost http/1.1 0"));
        let mut peer = connect(fixture.server.addr(), &client, "127.0.0.1");
        assert_eq!(peer.get("/tls").text(), format!("{name} - http/1.1 0"));
    }
}

/// The body of `POST /echo`.
fn echo(body: &[u8]) -> Vec<u8> {
    let head = format!("POST /echo HTTP/1.1\r\nHost: test\r\nContent-Length: {}\r\n\r\n", body.len());
    [head.as_bytes(), body].concat()
}

fn large_bodies(backend: Backend) {
    let fixture = Fixture::start(backend);
    for version in VERSIONS {
        let client = peer::client(&fixture.authority, version, None);
        let mut peer = connect(fixture.server.addr(), &client, "localhost");
        for len in [1, 16_383, 16_384, 16_385, 65_536, 1 << 20] {
            let body: Vec<u8> = (0..len).map(|n| (n * 7 + n / 251) as u8).collect();
            peer.send(echo(&body));
            let answer = peer.answer();
            assert_eq!(answer.status, 200);
            assert!(answer.body == body, "{len} bytes");
        }
    }
}

fn pipelined(backend: Backend) {
    let fixture = Fixture::start(backend);
    let mut peer = fixture.connect();
    peer.send([echo(b"one"), echo(b"two"), echo(&[b'x'; 40_000]), echo(b"three")].concat());
    let bodies: Vec<_> = (0..4).map(|_| peer.answer().body).collect();
    assert_eq!(bodies, [b"one".to_vec(), b"two".to_vec(), vec![b'x'; 40_000], b"three".to_vec()]);
}

/// A socket that sends and receives single bytes.
struct Dribble(TcpStream);

impl Read for Dribble {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let len = into.len().min(1);
        self.0.read(&mut into[..len])
    }
}

impl Write for Dribble {
    fn write(&mut self, from: &[u8]) -> io::Result<usize> {
        self.0.write(&from[..from.len().min(1)])
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn dribbled(backend: Backend) {
    let fixture = Fixture::start(backend);
    for version in VERSIONS {
        let config = peer::client(&fixture.authority, version, None);
        let name = ServerName::try_from("localhost").expect("a name");
        let session = ClientConnection::new(config, name).expect("valid settings");
        let socket = Dribble(peer::socket(fixture.server.addr()));
        let mut peer = Client::new(StreamOwned::new(session, socket));
        assert_eq!(peer.get("/").said(), (200, "hello".into()));
        peer.send(echo(b"some bytes"));
        assert_eq!(peer.answer().body, b"some bytes");
    }
}

fn slow_handshakes(backend: Backend) {
    let mut config = few_workers(backend);
    config.header_timeout = NEVER;
    let fixture = Fixture::with(backend, config);
    let hello = peer::hello(&fixture.client());
    // More than any backend has threads. Each handshake is at another byte.
    let begun: Vec<_> = (0..40)
        .map(|n| {
            let mut socket = peer::socket(fixture.server.addr());
            socket.write_all(&hello[..hello.len() * n / 40]).expect("the server reads");
            socket
        })
        .collect();
    assert_eq!(fixture.connect().get("/").said(), (200, "hello".into()));
    drop(begun);
}

fn late_handshake(backend: Backend) {
    let mut config = few_workers(backend);
    config.header_timeout = Duration::from_millis(300);
    let fixture = Fixture::with(backend, config);
    let hello = peer::hello(&fixture.client());
    for len in [0, 1, hello.len() - 1, hello.len()] {
        let mut socket = peer::socket(fixture.server.addr());
        socket.write_all(&hello[..len]).expect("the server reads");
        let rest = raw_rest(&mut socket);
        // The server answers the whole message with its own flight, and sends nothing otherwise.
        assert_eq!(rest.is_empty(), len < hello.len(), "{len} bytes");
    }
}

fn plain_http(backend: Backend) {
    let fixture = Fixture::start(backend);
    for request in
        ["GET / HTTP/1.1\r\nHost: test\r\n\r\n", "POST / HTTP/1.1\r\nContent-Length: 9999\r\n\r\nabc"]
    {
        let mut client = fixture.server.client();
        client.send(request);
        let answer = client.answer();
        assert_eq!(answer.said(), (400, "this port speaks TLS: the URL begins with https".into()));
        assert!(answer.closes());
        client.expect_end();
    }
    assert_eq!(fixture.connect().get("/").status, 200);
}

fn alerts(backend: Backend) {
    let fixture = Fixture::start(backend);
    // A first message without any content.
    let mut socket = peer::socket(fixture.server.addr());
    socket.write_all(&[22, 3, 1, 0, 4, 1, 0, 0, 0]).expect("the server reads");
    socket.shutdown(Shutdown::Write).expect("the connection is open");
    let rest = raw_rest(&mut socket);
    assert!(matches!(rest[..], [21, 3, _, 0, 2, 2, _]), "not a fatal alert: {rest:?}");
    // A protocol that the server does not speak.
    let mut client = Arc::unwrap_or_clone(fixture.client());
    client.alpn_protocols = vec![b"smtp".to_vec()];
    let mut peer = connect(fixture.server.addr(), &Arc::new(client), "localhost");
    let error = shake_hands(&mut peer).expect_err("no protocol is left");
    assert_eq!(alert(&error), Some(rustls::AlertDescription::NoApplicationProtocol));
}

/// Opens a connection and upgrades it to `protocol`.
fn upgraded(fixture: &Fixture, protocol: &str) -> Peer {
    let mut peer = fixture.connect();
    peer.send(format!(
        "GET /{protocol} HTTP/1.1\r\nHost: test\r\nConnection: upgrade\r\nUpgrade: {protocol}\r\n\r\n"
    ));
    assert_eq!(peer.try_answer(true).expect("an answer").status, 101);
    peer
}

fn upgrades(backend: Backend) {
    let fixture = Fixture::start(backend);
    let mut peer = upgraded(&fixture, "loud");
    for word in ["shout", "again"] {
        peer.send(word);
        assert_eq!(peer.exactly(5).expect("an echo"), word.to_uppercase().as_bytes());
    }
    // The function sees the end of the peer, and closes the stream.
    peer.send("last");
    close_notify(&mut peer);
    assert_eq!(read_to_end(&mut peer), (b"LAST".to_vec(), true));

    // An end without `close_notify` is an error, so the function does not close the stream.
    let mut peer = upgraded(&fixture, "loud");
    peer.socket.sock.shutdown(Shutdown::Write).expect("the connection is open");
    assert!(!read_to_end(&mut peer).1);

    // Neither side waits for the other, although more is sent than buffers hold.
    let mut peer = upgraded(&fixture, "flood");
    peer.send(vec![b'x'; LARGE]);
    let (bytes, has_notify) = read_to_end(&mut peer);
    assert!(has_notify && bytes.len() == LARGE && bytes.iter().all(|byte| *byte == b'f'));
}

fn websocket(backend: Backend) {
    let fixture = Fixture::start(backend);
    let stream = fixture.connect().socket;
    let (mut socket, _) = tungstenite::client("ws://localhost/ws", stream).expect("the server upgrades");
    for len in [0, 1, 1000, 100_000] {
        let message = tungstenite::Message::Binary(vec![b'm'; len].into());
        socket.send(message.clone()).expect("the server reads");
        assert!(socket.read().expect("an echo") == message, "{len} bytes");
    }
    socket.close(None).expect("the server reads");
    assert!(matches!(socket.read(), Ok(tungstenite::Message::Close(_))));
    assert!(matches!(socket.read(), Err(tungstenite::Error::ConnectionClosed)));
    let mut bytes = Vec::new();
    socket.get_mut().read_to_end(&mut bytes).expect("`close_notify` at the end");
    assert!(bytes.is_empty());
}

fn stop_during_handshake(backend: Backend) {
    let authority = Authority::new();
    let mut config = few_workers(backend);
    (config.graceful_timeout, config.header_timeout) = (NEVER, NEVER);
    config.tls = Some(localhost(&authority));
    let client = peer::client(&authority, VERSIONS[1], None);

    let server = Launched::start(backend, config.clone(), app);
    // Another connection shows that the first one was accepted.
    let mut begun = connect(server.addr(), &client, "localhost");
    let mut hello = Vec::new();
    begun.socket.conn.write_tls(&mut hello).expect("memory takes all");
    begun.socket.sock.write_all(&hello[..20]).expect("the server reads");
    assert_eq!(connect(server.addr(), &client, "localhost").get("/").status, 200);
    server.shutdown().graceful();
    begun.socket.sock.write_all(&hello[20..]).expect("the server reads");
    let answer = begun.get("/");
    assert_eq!((answer.status, answer.closes()), (200, true));
    server.ended_gracefully();

    let server = Launched::start(backend, config, app);
    let mut socket = peer::socket(server.addr());
    socket.write_all(&hello[..20]).expect("the server reads");
    assert_eq!(connect(server.addr(), &client, "localhost").get("/").status, 200);
    server.shutdown().force();
    assert_eq!(raw_rest(&mut socket), b"");
    server.ended().expect("the server ends without an error");
}

fn slow_reader(backend: Backend) {
    let mut config = few_workers(backend);
    config.write_timeout = NEVER;
    let fixture = Fixture::with(backend, config);
    // More than any backend has threads.
    let mut slow: Vec<_> = (0..6).map(|_| fixture.connect()).collect();
    slow.iter_mut().for_each(|peer| peer.send_get("/large"));
    assert_eq!(fixture.connect().get("/").said(), (200, "hello".into()));
    for peer in &mut slow {
        let body = peer.answer().body;
        assert!(body.len() == LARGE && body.iter().all(|byte| *byte == b'x'));
        assert_eq!(peer.get("/").status, 200);
    }
}

fn no_reader(backend: Backend) {
    let (tell, told) = mpsc::channel();
    let authority = Authority::new();
    let mut config = few_workers(backend);
    (config.write_timeout, config.min_rate) = (Duration::from_millis(300), 0);
    config.tls = Some(localhost(&authority));
    let server = Running::start(backend, config, move |runtime: Runtime| {
        tell.send(runtime.clone()).expect("the test waits");
        app(runtime)
    });
    let runtime = told.recv().expect("the application has started");
    let client = peer::client(&authority, VERSIONS[1], None);
    let mut peer = connect(server.addr(), &client, "localhost");
    peer.send_get("/large");
    wait_until("the request is answered", || runtime.stats().requests_served == 1);
    wait_until("the connection is cut", || runtime.stats().connections_open == 0);
    let mut bytes = Vec::new();
    let end = peer.socket.read_to_end(&mut bytes);
    assert!(end.is_err() && bytes.len() < LARGE, "{end:?}, {} bytes", bytes.len());
}

fn overload(backend: Backend) {
    let mut config = few_workers(backend);
    (config.max_connections, config.overload, config.keep_alive) = (1, Overload::Refuse, NEVER);
    let fixture = Fixture::with(backend, config);
    let mut first = fixture.connect();
    assert_eq!(first.get("/").status, 200);
    let mut second = fixture.connect();
    // The refusal may come before the request.
    let _ = second.socket.write_all(b"GET / HTTP/1.1\r\nHost: test\r\n\r\n");
    assert_eq!(second.answer().status, 503);
    assert_eq!(first.get("/").status, 200);
}

/// Numbers that look random, and are the same each time.
struct Random(u64);

impl Random {
    fn below(&mut self, end: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 % end as u64) as usize
    }
}

fn garbage(backend: Backend) {
    let fixture = Fixture::start(backend);
    let mut random = Random(0x9e37_79b9_7f4a_7c15);
    let hellos = VERSIONS.map(|version| peer::hello(&peer::client(&fixture.authority, version, None)));
    for round in 0..300 {
        let mut bytes = match round % 3 {
            // Random bytes, after a type of record.
            0 => (0..1 + random.below(600)).map(|_| random.below(256) as u8).collect(),
            // A message in which some bytes are wrong.
            1 => hellos[random.below(2)].clone(),
            // A message that is repeated, or cut.
            _ => hellos[random.below(2)].repeat(2),
        };
        match round % 3 {
            0 => bytes[0] = [20, 21, 22, 23, 24, bytes[0]][random.below(6)],
            1 => (0..1 + random.below(8)).for_each(|_| {
                let at = random.below(bytes.len());
                bytes[at] = random.below(256) as u8;
            }),
            _ => bytes.truncate(1 + random.below(bytes.len())),
        }
        let mut socket = peer::socket(fixture.server.addr());
        // The server may have closed the connection by then.
        let _ = socket.write_all(&bytes);
        let _ = socket.shutdown(Shutdown::Write);
        raw_rest(&mut socket);
    }
    assert_eq!(fixture.connect().get("/").said(), (200, "hello".into()));
    fixture.server.stop();
}

/// The header comes alone, and in one piece with the beginning of the handshake.
fn proxy_header(backend: Backend) {
    const HEADER: &[u8] = b"PROXY TCP4 192.0.2.7 192.0.2.1 4711 443\r\n";
    const SEEN: &str = "https Some(192.0.2.7) Some(192.0.2.7:4711)";
    let mut config = few_workers(backend);
    config.proxy_protocol_from = "127.0.0.1".parse().expect("a network");
    let fixture = Fixture::with(backend, config);

    let mut alone = fixture.connect();
    alone.socket.sock.write_all(HEADER).expect("the server reads");
    assert_eq!(alone.get("/client").text(), SEEN);
    assert_eq!(alone.get("/client").text(), SEEN);

    let mut joined = fixture.connect();
    let mut first = HEADER.to_vec();
    joined.socket.conn.write_tls(&mut first).expect("memory takes all");
    joined.socket.sock.write_all(&first).expect("the server reads");
    assert_eq!(joined.get("/client").text(), SEEN);

    let mut plain = fixture.server.client();
    plain.socket.write_all(HEADER).expect("the server reads");
    assert_eq!(plain.get("/").status, 400);

    let mut without = fixture.connect();
    assert!(shake_hands(&mut without).is_err(), "a connection without the header is closed");
}

fn test_server(backend: Backend) {
    let authority = Authority::new();
    let mut config = few_workers(backend);
    // The client trusts the chain that the server shows.
    let Certified { pem, key_pem, .. } = authority.issue(&["localhost", "127.0.0.1"]);
    config.tls = Some(TlsConfig::from_pem(pem + &authority.pem, key_pem).expect("a chain and its key"));
    let server = TestServer::with_config(backend, config, app).expect("the server starts");
    assert_eq!(server.url(), format!("https://{}", server.addr()));
    assert_eq!(server.get("/").text(), "hello");
    let response = server.send(Request::post("/echo").with_body("some bytes"));
    assert_eq!(response.text(), "some bytes");
    server.stop().expect("the server ends without an error");
}
