//! Connections that leave HTTP: another protocol after 101, and a tunnel after CONNECT.

use std::io;
use std::net::TcpListener;
use std::thread;

use futures_lite::{AsyncReadExt, AsyncWriteExt, future, io as async_io};
use gearshift::{Backend, HeaderValue, Method, Request, Response, Router, Runtime, StatusCode, Stream, sync};
use test_support::PATIENCE;
use test_support::backend::few_workers;
use test_support::server::{Launched, Running};
use test_support::suite::Area;

pub(crate) const AREA: Area = (
    "upgrade",
    &[
        ("hands_the_connection_over", hands_over),
        ("hands_early_bytes_over_too", early_bytes),
        ("answers_earlier_requests_first", pipelined),
        ("is_refused_without_an_offer", not_offered),
        ("tunnels_a_connect", tunnel),
        ("serves_others_at_the_same_time", serves_others),
        ("goes_on_within_the_grace_period", within_grace),
    ],
);

const UPGRADE: &str = "GET /loud HTTP/1.1\r\nHost: test\r\nConnection: upgrade\r\nUpgrade: loud\r\n\r\n";

fn app(runtime: Runtime) -> Router {
    Router::new()
        .get("/", sync(|_| "fine"))
        .get("/loud", sync(|_| Response::upgrade(HeaderValue::from_static("loud"), loud)))
        .fallback(move |request: Request| {
            let runtime = runtime.clone();
            async move {
                match *request.method() {
                    Method::CONNECT => open_tunnel(&runtime, request.target()).await,
                    _ => Response::status_only(StatusCode::NOT_FOUND),
                }
            }
        })
}

/// A protocol that echoes all bytes in capitals.
async fn loud(mut stream: Stream) {
    let mut room = [0; 1000];
    while let Ok(n @ 1..) = stream.read(&mut room).await {
        room[..n].make_ascii_uppercase();
        if stream.write_all(&room[..n]).await.is_err() {
            return;
        }
    }
    let _ = stream.close().await;
}

async fn open_tunnel(runtime: &Runtime, target: &str) -> Response {
    match runtime.connect(target).await {
        Ok(there) => Response::tunnel(async move |here| {
            let (from_here, to_here) = async_io::split(here);
            let (from_there, to_there) = async_io::split(there);
            future::zip(carry(from_here, to_there), carry(from_there, to_here)).await;
        }),
        Err(_) => Response::status_only(StatusCode::BAD_GATEWAY),
    }
}

async fn carry(from: async_io::ReadHalf<Stream>, mut to: async_io::WriteHalf<Stream>) {
    let _ = async_io::copy(from, &mut to).await;
    let _ = to.close().await;
}

fn start(backend: Backend) -> Running {
    Running::start(backend, few_workers(backend), app)
}

fn hands_over(backend: Backend) {
    let server = start(backend);
    let mut client = server.client();
    client.send(UPGRADE);
    let answer = client.try_answer(true).expect("an answer");
    assert_eq!(answer.status, 101);
    assert_eq!((answer.field("Connection"), answer.field("Upgrade")), (Some("upgrade"), Some("loud")));
    assert!(answer.field("Content-Length").or(answer.field("Transfer-Encoding")).is_none(), "{answer:?}");
    for said in ["hello", "GET / HTTP/1.1\r\n\r\n", "bye"] {
        client.send(said);
        assert_eq!(client.exactly(said.len()).expect("an echo"), said.to_ascii_uppercase().as_bytes());
    }
    let long = vec![b'x'; 300_000];
    let mut sender = client.socket.try_clone().expect("a socket can be shared");
    let sending = thread::spawn(move || io::Write::write_all(&mut sender, &long));
    assert!(client.exactly(300_000).expect("an echo").iter().all(|&byte| byte == b'X'));
    sending.join().expect("the sender does not panic").expect("the server reads");
    client.half_close();
    client.expect_end();
}

fn early_bytes(backend: Backend) {
    let server = start(backend);
    let mut client = server.client();
    client.send(format!("{UPGRADE}early"));
    assert_eq!(client.try_answer(true).expect("an answer").status, 101);
    assert_eq!(client.exactly(5).expect("an echo"), b"EARLY");
    client.send(" late");
    assert_eq!(client.exactly(5).expect("an echo"), b" LATE");
}

fn pipelined(backend: Backend) {
    let server = start(backend);
    let mut client = server.client();
    client.send(format!("GET / HTTP/1.1\r\nHost: test\r\n\r\n{UPGRADE}early"));
    assert_eq!(client.answer().text(), "fine");
    assert_eq!(client.try_answer(true).expect("an answer").status, 101);
    assert_eq!(client.exactly(5).expect("an echo"), b"EARLY");
}

fn not_offered(backend: Backend) {
    let server = start(backend);
    let mut client = server.client();
    for fields in ["", "Upgrade: loud\r\n", "Connection: upgrade\r\n"] {
        client.send(format!("GET /loud HTTP/1.1\r\nHost: test\r\n{fields}\r\n"));
        let answer = client.answer();
        assert_eq!((answer.status, answer.field("Upgrade")), (426, Some("loud")), "{fields}");
    }
    client.send("GET /loud HTTP/1.0\r\nConnection: upgrade\r\nUpgrade: loud\r\n\r\n");
    assert_eq!(client.answer().status, 426, "HTTP/1.0 has no upgrades");
    client.expect_end();
}

fn tunnel(backend: Backend) {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let target = listener.local_addr().expect("the listener is bound").to_string();
    thread::spawn(move || {
        while let Ok((peer, _)) = listener.accept() {
            thread::spawn(move || io::copy(&mut &peer, &mut &peer));
        }
    });
    let server = start(backend);
    let mut client = server.client();
    client.send(format!("CONNECT {target} HTTP/1.1\r\nHost: {target}\r\n\r\nearly"));
    let answer = client.try_answer(true).expect("an answer");
    assert_eq!(answer.status, 200);
    assert!(answer.field("Content-Length").or(answer.field("Transfer-Encoding")).is_none(), "{answer:?}");
    assert_eq!(client.exactly(5).expect("an echo"), b"early");
    client.send("late");
    assert_eq!(client.exactly(4).expect("an echo"), b"late");
    client.half_close();
    client.expect_end();

    let mut client = server.client();
    client.send("CONNECT 127.0.0.1:1 HTTP/1.1\r\nHost: test\r\n\r\n");
    assert_eq!(client.answer().status, 502, "nothing listens at the target");
}

fn serves_others(backend: Backend) {
    let server = start(backend);
    let mut upgraded: Vec<_> = (0..8).map(|_| server.client()).collect();
    for client in &mut upgraded {
        client.send(UPGRADE);
        assert_eq!(client.try_answer(true).expect("an answer").status, 101);
    }
    assert_eq!(server.get("/").text(), "fine");
    for client in &mut upgraded {
        client.send("hello");
        assert_eq!(client.exactly(5).expect("an echo"), b"HELLO");
    }
}

fn within_grace(backend: Backend) {
    let mut config = few_workers(backend);
    config.graceful_timeout = PATIENCE;
    let server = Launched::start(backend, config, app);
    let mut upgraded: Vec<_> = (0..8).map(|_| server.client()).collect();
    for client in &mut upgraded {
        client.send(format!("{UPGRADE}early"));
        assert_eq!(client.try_answer(true).expect("an answer").status, 101);
    }
    assert_eq!(server.client().get("/").status, 200);
    server.shutdown().graceful();
    for client in &mut upgraded {
        client.send(" and late");
        client.half_close();
        assert_eq!(client.rest(), b"EARLY AND LATE");
    }
    server.ended_gracefully();
}
