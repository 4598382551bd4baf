//! Servers behind proxies: the fields and headers by which proxies tell for whom they forward.

use std::convert::Infallible;
use std::future::{Ready, ready};
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU16, Ordering};
use std::task::{Context, Poll};
use std::thread;

use gearshift::tower::service;
use gearshift::{
    Backend, Bind, Body, Client as Origin, Config, Request, RequestContext, Router, Server, http, sync,
};
use test_support::backend::few_workers;
use test_support::client::Client;
use test_support::server::Running;
use test_support::suite::Area;
use test_support::{logs, wait_until};

use crate::listen::{free_path, unix_client};

pub(crate) const AREA: Area = (
    "proxies",
    &[
        ("a_client_behind_a_trusted_proxy_is_known", forwarded),
        ("what_other_peers_tell_about_clients_is_ignored", not_trusted),
        ("a_proxy_on_a_unix_socket_may_be_trusted", on_unix_socket),
        ("the_access_log_names_the_client_that_a_trusted_proxy_tells", logged),
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

/// Tells the client at `/` and `/service`, and the peer at `/peer`.
fn app() -> Router {
    Router::new()
        .get("/", sync(|request: Request| shown(request.client())))
        .get("/later", async |request: Request| {
            request.runtime().sleep(std::time::Duration::from_millis(1)).await;
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
        (
            "Forwarded: for=\"[2001:db8::1]:99\";proto=https;host=example.com\r\nX-Forwarded-For: 192.0.2.1\r\n",
            "2001:db8::1 99 https example.com",
        ),
        ("Forwarded: for=unknown\r\n", "- - http test"),
        ("Forwarded: for=\"\r\nX-Forwarded-For: 192.0.2.1\r\n", direct.as_str()),
        ("X-Forwarded-For: nonsense\r\nX-Forwarded-Host: a b\r\nX-Forwarded-Proto: x\r\n", direct.as_str()),
    ] {
        for path in ["/", "/later", "/service"] {
            assert_eq!(ask(&mut client, path, fields), expected, "{path}: {fields}");
        }
        assert_eq!(ask(&mut client, "/peer", fields), local(&client).to_string());
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
    ask(&mut client, "/", &format!("Forwarded: for=\"{address}:99\"\r\n"));
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
