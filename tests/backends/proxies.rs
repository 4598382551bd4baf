//! Servers behind proxies: the fields and headers in which proxies name their clients.

use std::convert::Infallible;
use std::future::{Ready, ready};
use std::io::{ErrorKind, Read};
use std::net::{SocketAddr, TcpStream};
use std::sync::atomic::{AtomicU16, Ordering};
use std::task::{Context, Poll};
use std::thread;
use std::time::{Duration, Instant};

use gearshift::tower::service;
use gearshift::{
    Backend, Bind, Body, Client as Origin, Config, ForwardedField, Networks, Request, RequestContext, Router,
    Server, http, sync,
};
use socket2::{Domain, Socket, Type};
use test_support::backend::few_workers;
use test_support::client::Client;
use test_support::program::Program;
use test_support::server::Running;
use test_support::suite::Area;
use test_support::{PATIENCE, logs, wait_until};

use crate::listen::{free_path, unix_client};

pub(crate) const AREA: Area = (
    "proxies",
    &[
        ("a_client_behind_a_trusted_proxy_is_known", forwarded),
        ("fields_that_the_proxies_do_not_set_are_ignored", spoofed),
        ("fields_of_other_peers_are_ignored", not_trusted),
        ("a_proxy_on_a_unix_socket_may_be_trusted", on_unix_socket),
        ("the_access_log_names_the_client_of_a_trusted_proxy", logged),
        ("a_proxy_header_names_the_peer", proxy_headers),
        ("a_proxy_header_arrives_in_any_pieces", chopped),
        ("a_proxy_header_on_a_unix_socket_names_the_peer", proxy_header_on_unix_socket),
        ("a_proxy_that_sends_no_header_is_disconnected", no_header),
        ("a_proxy_header_of_another_peer_is_a_bad_request", foreign_header),
        ("a_proxy_header_and_the_first_head_have_one_deadline", late_header),
        ("proxy_headers_that_have_not_arrived_hold_no_thread", held_headers),
        ("the_peer_of_a_proxy_header_may_be_a_trusted_proxy", both),
        ("the_access_log_names_the_peer_of_a_proxy_header", logged_peer),
        ("proxies_without_headers_are_logged_once_a_second_at_most", log_lines),
    ],
);

/// A service that tells the client of its requests.
#[derive(Clone)]
struct Tells;

impl tower_service::Service<http::Request<Body>> for Tells {
    type Response = http::Response<Body>;
    type Error = Infallible;
    type Future = Ready<Result<Self::Response, Infallible>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: http::Request<Body>) -> Self::Future {
        let context = RequestContext::of(request.extensions()).expect("a request of a server");
        let client = shown(context.client(request.uri(), request.headers()));
        ready(Ok(http::Response::new(Body::from(client))))
    }
}

/// The client as `ADDRESS PORT SCHEME HOST`.
fn shown(client: Origin<'_>) -> String {
    let or_dash = |text: Option<String>| text.unwrap_or("-".to_owned());
    let address = or_dash(client.address().map(|address| address.to_string()));
    let port = or_dash(client.port().map(|port| port.to_string()));
    format!("{address} {port} {} {}", client.scheme(), client.host().unwrap_or("-"))
}

/// Tells the client at `/` and `/service`, and the peer at `/peer`. A check of a proxy asks for `/readyz`.
pub(crate) fn app() -> Router {
    Router::new()
        .get("/readyz", sync(|_| "ready"))
        .get("/", sync(|request: Request| shown(request.client())))
        .get("/later", async |request: Request| {
            request.runtime().sleep(Duration::from_millis(1)).await;
            shown(request.client())
        })
        .get("/service", service(Tells))
        .get("/peer", sync(|request: Request| request.peer().map(|peer| peer.to_string())))
        .post("/", async |request: Request| request.text().await)
}

fn server(backend: Backend, change: impl FnOnce(&mut Config)) -> Running {
    let mut config = few_workers(backend);
    change(&mut config);
    Running::start(backend, config, |_| app())
}

fn trusting(backend: Backend, networks: &str) -> Running {
    server(backend, |config| config.forwarded_from = networks.parse().expect("networks"))
}

/// Asks for the client of a request with these fields.
fn ask(client: &mut Client, path: &str, fields: &str) -> String {
    client.send(format!("GET {path} HTTP/1.1\r\nHost: test\r\n{fields}\r\n"));
    let answer = client.answer();
    assert_eq!(answer.status, 200, "{fields}");
    answer.text()
}

fn local(client: &Client) -> SocketAddr {
    client.socket.local_addr().expect("a connected socket has an address")
}

fn forwarded(backend: Backend) {
    let server = trusting(backend, "127.0.0.1,10.0.0.0/8");
    let mut client = server.client();
    let direct = format!("127.0.0.1 {} http test", local(&client).port());
    for (fields, expected) in [
        ("", direct.as_str()),
        ("X-Forwarded-For: 192.0.2.1\r\n", "192.0.2.1 - http test"),
        ("X-Forwarded-For: 192.0.2.9, 192.0.2.1, 10.1.1.1\r\n", "192.0.2.1 - http test"),
        ("X-Forwarded-For: 192.0.2.9\r\nX-Forwarded-For: 192.0.2.1\r\n", "192.0.2.1 - http test"),
        (
            "X-Forwarded-For: 192.0.2.1\r\nX-Forwarded-Proto: https\r\nX-Forwarded-Host: example.com:8443\r\n",
            "192.0.2.1 - https example.com:8443",
        ),
        ("X-Forwarded-For: unknown\r\n", "- - http test"),
        ("X-Forwarded-For: nonsense\r\nX-Forwarded-Host: a b\r\nX-Forwarded-Proto: x\r\n", direct.as_str()),
    ] {
        for path in ["/", "/later", "/service"] {
            assert_eq!(ask(&mut client, path, fields), expected, "{path}: {fields}");
        }
        assert_eq!(ask(&mut client, "/peer", fields), local(&client).to_string());
    }
}

/// A client sends both kinds of fields through a proxy that sets one kind.
fn spoofed(backend: Backend) {
    let made_up = "for=198.51.100.9;proto=https;host=evil";
    let x_made_up = "X-Forwarded-For: 198.51.100.9\r\nX-Forwarded-Proto: https\r\nX-Forwarded-Host: evil\r\n";
    let direct = |client: &Client| format!("127.0.0.1 {} http test", local(client).port());
    let by = |field| {
        server(backend, |config| {
            config.forwarded_from = "127.0.0.1".parse().expect("networks");
            config.forwarded_field = field;
        })
    };
    let server = by(ForwardedField::XForwarded);
    let mut client = server.client();
    let none = direct(&client);
    for (fields, expected) in [
        (format!("Forwarded: {made_up}\r\n"), none.as_str()),
        (format!("Forwarded: {made_up}\r\nX-Forwarded-For: 192.0.2.1\r\n"), "192.0.2.1 - http test"),
        ("Forwarded: for=\"\r\nX-Forwarded-For: 192.0.2.1\r\n".to_owned(), "192.0.2.1 - http test"),
    ] {
        for path in ["/", "/later", "/service"] {
            assert_eq!(ask(&mut client, path, &fields), expected, "{path}: {fields}");
        }
    }
    drop(client);
    let server = by(ForwardedField::Forwarded);
    let mut client = server.client();
    let none = direct(&client);
    for (fields, expected) in [
        (x_made_up.to_owned(), none.as_str()),
        (format!("{x_made_up}Forwarded: for=192.0.2.1\r\n"), "192.0.2.1 - http test"),
        (
            format!("{x_made_up}Forwarded: {made_up}, for=\"[2001:db8::1]:99\";proto=https;host=outer\r\n"),
            "2001:db8::1 99 https outer",
        ),
        (format!("{x_made_up}Forwarded: for=unknown\r\n"), "- - http test"),
        (format!("{x_made_up}Forwarded: for=\"\r\n"), none.as_str()),
    ] {
        for path in ["/", "/later", "/service"] {
            assert_eq!(ask(&mut client, path, &fields), expected, "{path}: {fields}");
        }
    }
}

fn not_trusted(backend: Backend) {
    let fields = "X-Forwarded-For: 192.0.2.1\r\nX-Forwarded-Proto: https\r\nX-Forwarded-Host: a\r\n\
                  Forwarded: for=192.0.2.1;proto=https;host=a\r\n";
    for server in [server(backend, |_| {}), trusting(backend, "unix,127.0.0.2,10.0.0.0/8")] {
        let mut client = server.client();
        for path in ["/", "/later", "/service"] {
            let expected = format!("127.0.0.1 {} http test", local(&client).port());
            assert_eq!(ask(&mut client, path, fields), expected, "{path}");
        }
    }
}

fn on_unix_socket(backend: Backend) {
    for (networks, expected) in [("unix", "192.0.2.1 - http test"), ("127.0.0.1", "- - http test")] {
        let path = free_path();
        let mut config = few_workers(backend);
        config.forwarded_from = networks.parse().expect("networks");
        let server = Server::bind(&[Bind::Unix(path.clone())], config).expect("the path is free");
        let shutdown = server.shutdown();
        let thread = thread::spawn(move || backend.serve(server, app()));
        let mut client = unix_client(&path);
        client.send("GET / HTTP/1.1\r\nHost: test\r\nX-Forwarded-For: 192.0.2.1\r\n\r\n");
        assert_eq!(client.answer().text(), expected);
        shutdown.force();
        thread.join().expect("the server does not panic").expect("the server ends without an error");
    }
}

/// An address that no other client of this process has.
fn unused_address() -> String {
    static CLIENTS: AtomicU16 = AtomicU16::new(0);
    let [high, low] = CLIENTS.fetch_add(1, Ordering::Relaxed).to_be_bytes();
    format!("198.18.{high}.{low}")
}

fn logged(backend: Backend) {
    let server = server(backend, |config| {
        config.access_log = true;
        config.forwarded_from = "127.0.0.0/8".parse().expect("networks");
    });
    let mut client = server.client();
    let address = unused_address();
    ask(&mut client, "/", &format!("X-Forwarded-For: {address}\r\n"));
    ask(&mut client, "/", &format!("X-Forwarded-For: {address}:99\r\n"));
    // The client of a request is that of its own fields.
    ask(&mut client, "/peer", "");
    let lines = |of: &str| logs::lines(logs::ACCESS, &format!("{of} - - ["));
    let (one, other, direct) = (address.clone(), format!("{address}:99"), local(&client).to_string());
    for of in [&one, &other, &direct] {
        wait_until("the line is logged", || lines(of).len() == 1);
        assert!(lines(of)[0].starts_with(&format!("{of} - - [")), "{:?}", lines(of));
    }
    assert!(lines(&direct)[0].contains("\"GET /peer HTTP/1.1\" 200 "));
}

/// The start of a header of version 2, with a command and a family for an IPv4 client.
fn v2(values: &[u8]) -> Vec<u8> {
    let addresses = [192, 0, 2, 1, 10, 0, 0, 1, 0x12, 0x67, 0, 80];
    let len = u16::try_from(addresses.len() + values.len()).expect("a short header").to_be_bytes();
    [&b"\r\n\r\n\0\r\nQUIT\n"[..], &[0x21, 0x11], &len, &addresses, values].concat()
}

/// The value of version 2 that says that the client speaks TLS.
const TLS: [u8; 8] = [0x20, 0, 5, 1, 0, 0, 0, 0];
const V1: &[u8] = b"PROXY TCP4 192.0.2.1 10.0.0.1 4711 80\r\n";
const GET: &str = "GET / HTTP/1.1\r\nHost: test\r\n\r\n";
const GET_PEER: &str = "GET /peer HTTP/1.1\r\nHost: test\r\n\r\n";

fn behind(backend: Backend, networks: &str) -> Running {
    server(backend, |config| config.proxy_protocol_from = networks.parse().expect("networks"))
}

fn proxy_headers(backend: Backend) {
    let server = behind(backend, "127.0.0.1");
    for (header, peer, scheme) in [
        (V1.to_vec(), "192.0.2.1:4711", "http"),
        (b"PROXY TCP6 2001:db8::1 ::1 4711 80\r\n".to_vec(), "[2001:db8::1]:4711", "http"),
        (b"PROXY UNKNOWN\r\n".to_vec(), "", "http"),
        (v2(&[]), "192.0.2.1:4711", "http"),
        (v2(&TLS), "192.0.2.1:4711", "https"),
        (b"\r\n\r\n\0\r\nQUIT\n\x20\0\0\0".to_vec(), "", "http"),
    ] {
        let mut client = server.client();
        // A header without an address keeps the address of the proxy.
        let own = local(&client).to_string();
        let peer = if peer.is_empty() { own } else { peer.to_owned() };
        let address: SocketAddr = peer.parse().expect("an address");
        let told = format!("{} {} {scheme} test", address.ip(), address.port());
        client.send([&header, GET.as_bytes(), GET_PEER.as_bytes()].concat());
        assert_eq!(client.answer().said(), (200, told.clone()));
        assert_eq!(client.answer().said(), (200, peer.clone()));
        // The header is that of the connection.
        assert_eq!(ask(&mut client, "/peer", ""), peer);
        assert_eq!(ask(&mut client, "/service", ""), told);
        client.send("POST / HTTP/1.1\r\nHost: test\r\nContent-Length: 3\r\n\r\n");
        client.send("abc");
        assert_eq!(client.answer().said(), (200, "abc".into()));
    }
}

fn chopped(backend: Backend) {
    let server = behind(backend, "127.0.0.1");
    for header in [V1.to_vec(), v2(&TLS)] {
        for size in [1, 5] {
            let mut client = server.client();
            for piece in [&header, GET_PEER.as_bytes()].concat().chunks(size) {
                client.send(piece);
            }
            assert_eq!(client.answer().said(), (200, "192.0.2.1:4711".into()));
        }
    }
}

fn proxy_header_on_unix_socket(backend: Backend) {
    let path = free_path();
    let mut config = few_workers(backend);
    config.proxy_protocol_from = "unix".parse().expect("networks");
    let server = Server::bind(&[Bind::Unix(path.clone())], config).expect("the path is free");
    let shutdown = server.shutdown();
    let thread = thread::spawn(move || backend.serve(server, app()));
    let mut client = unix_client(&path);
    client.send([V1, GET_PEER.as_bytes()].concat());
    assert_eq!(client.answer().said(), (200, "192.0.2.1:4711".into()));
    shutdown.force();
    thread.join().expect("the server does not panic").expect("the server ends without an error");
}

/// Checks that the connection ends without a byte. It may be reset, because the server has not read everything.
fn expect_nothing(mut client: Client) {
    let mut received = Vec::new();
    if let Err(error) = client.socket.read_to_end(&mut received) {
        assert_eq!(error.kind(), ErrorKind::ConnectionReset);
    }
    assert!(received.is_empty(), "{:?}", String::from_utf8_lossy(&received));
}

fn no_header(backend: Backend) {
    let server = behind(backend, "127.0.0.1");
    for bytes in [
        GET.as_bytes(),
        b"PROXY TCP4 192.0.2.1 10.0.0.1 4711\r\n",
        b"\r\n\r\n\0\r\nQUIT\n\x31",
        b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x0b",
        &[b'P'; 200],
    ] {
        let mut client = server.client();
        client.send(bytes);
        expect_nothing(client);
    }
    // The end arrives within the header. Without a byte it was a check of the address.
    for bytes in ["", "PROXY TCP4 192"] {
        let mut client = server.client();
        client.send(bytes);
        client.half_close();
        expect_nothing(client);
    }
    assert_eq!(server.stop().refused, 6);
}

fn foreign_header(backend: Backend) {
    for server in [server(backend, |_| {}), behind(backend, "unix,127.0.0.2")] {
        for header in [V1.to_vec(), v2(&[])] {
            let mut client = server.client();
            client.send([&header, GET.as_bytes()].concat());
            assert_eq!(client.answer().status, 400);
            client.expect_end();
        }
    }
}

fn late_header(backend: Backend) {
    let server = server(backend, |config| {
        config.proxy_protocol_from = Networks::all();
        config.header_timeout = Duration::from_millis(50);
    });
    for header in ["", "PROXY TCP4 192"] {
        let mut client = server.client();
        client.send(header);
        expect_nothing(client);
    }
    let mut client = server.client();
    client.send(V1);
    // An idle connection is closed without a response, and one with a part of a head gets one.
    expect_nothing(client);
    let mut client = server.client();
    client.send([V1, b"GET / HTTP/1.1\r\n"].concat());
    assert_eq!(client.answer().status, 408);
}

fn held_headers(backend: Backend) {
    let server = server(backend, |config| {
        config.proxy_protocol_from = "127.0.0.3".parse().expect("networks");
        config.header_timeout = Duration::MAX;
    });
    let proxy = || {
        let socket = Socket::new(Domain::IPV4, Type::STREAM, None).expect("a socket");
        socket
            .bind(&SocketAddr::from(([127, 0, 0, 3], 0)).into())
            .expect("an address of the loopback network");
        socket.connect(&server.addr().into()).expect("the server listens");
        socket.set_read_timeout(Some(PATIENCE)).expect("a socket has a read timeout");
        Client::new(TcpStream::from(socket))
    };
    let mut waiting: Vec<_> = (0..20).map(|_| proxy()).collect();
    for client in &mut waiting {
        client.send("PROXY TCP4 192.");
    }
    assert_eq!(server.get("/").status, 200);
    for mut client in waiting {
        client.send(format!("0.2.1 10.0.0.1 4711 80\r\n{GET_PEER}"));
        assert_eq!(client.answer().said(), (200, "192.0.2.1:4711".into()));
    }
}

fn both(backend: Backend) {
    for (networks, expected) in [
        ("192.0.2.0/24", "198.51.100.1 - https test"),
        // The proxy that sends the header is not the peer.
        ("127.0.0.1", "192.0.2.1 4711 http test"),
    ] {
        let server = server(backend, |config| {
            config.proxy_protocol_from = "127.0.0.1".parse().expect("networks");
            config.forwarded_from = networks.parse().expect("networks");
        });
        let mut client = server.client();
        client.send(V1);
        let fields = "X-Forwarded-For: 198.51.100.1\r\nX-Forwarded-Proto: https\r\n";
        assert_eq!(ask(&mut client, "/", fields), expected);
    }
}

fn logged_peer(backend: Backend) {
    let server = server(backend, |config| {
        config.access_log = true;
        config.proxy_protocol_from = "127.0.0.1".parse().expect("networks");
    });
    let address = unused_address();
    let mut client = server.client();
    client.send(format!("PROXY TCP4 {address} 10.0.0.1 4711 80\r\n{GET}"));
    assert_eq!(client.answer().status, 200);
    let start = format!("{address}:4711 - - [");
    wait_until("the line is logged", || logs::lines(logs::ACCESS, &start).len() == 1);
}

fn log_lines(backend: Backend) {
    let begin = Instant::now();
    let server = Program::start(backend, &["--proxy-protocol-from", "127.0.0.1"]);
    for _ in 0..50 {
        let mut client = server.client();
        client.send(GET);
        expect_nothing(client);
    }
    let lines = || server.log().matches("sends no PROXY header, although it is a proxy").count();
    wait_until("a line is logged", || lines() > 0);
    assert!(lines() as u64 <= begin.elapsed().as_secs() + 1, "{}", server.log());
}
