//! Code that needs tokio, through `async-compat`: the application `apps/tokio-only`, and the properties it relies on.

use std::io::Read;
use std::net::TcpListener;
use std::sync::mpsc;
use std::time::{Duration, Instant};

use async_compat::CompatExt;
use futures_lite::future;
use gearshift::{Backend, Body, BoxFuture, Bytes, Request, Response, Router, sync};
use test_support::backend::{few_workers, runs_in_tokio};
use test_support::server::{Running, one};
use test_support::suite::Area;
use test_support::{PATIENCE, wait_until};
use tokio::runtime::Handle;

use crate::waits::{EACH, SLEEPS, all};

pub(crate) const AREA: Area = (
    "tokio_only",
    &[
        ("reqwest_fetches", |backend| fetches(backend, "/fetch")),
        ("reqwest_fetches_where_a_thread_may_block", |backend| fetches(backend, "/fetch-blocking")),
        ("reqwest_streams", streams),
        ("a_stream_that_breaks_is_cut", breaks),
        ("tokio_timers_overlap", overlap),
        ("the_upstream_connection_closes_when_the_peer_leaves", leaves),
        ("compat_tasks_are_awaited_by_a_stop", tasks),
        ("compat_uses_the_runtime_of_the_backend_if_there_is_one", same_runtime),
    ],
);

/// The application on a backend, with an upstream.
fn example(backend: Backend, upstream: String) -> Running {
    Running::start(backend, few_workers(backend), move |_| ::tokio_only::app(upstream))
}

fn url(upstream: &Running) -> String {
    format!("http://{}/", upstream.addr())
}

fn fetches(backend: Backend, path: &str) {
    let upstream = Running::serve(backend, |_| one(sync(|_| "from upstream")));
    let server = example(backend, url(&upstream));
    let mut client = server.client();
    for _ in 0..3 {
        assert_eq!(client.get(path).said(), (200, "from upstream".into()));
    }
    // A second connection, which another thread may serve, uses the same pool of reqwest.
    assert_eq!(server.get(path).said(), (200, "from upstream".into()));
    upstream.stop();
    assert_eq!(server.get(path).status, 502);
}

/// The number and size of the pieces, which together exceed the buffers of the sockets and of reqwest.
const PIECES: u32 = 200;
const PIECE: usize = 10_000;

fn pieces(until: u32, runtime: gearshift::Runtime) -> Response {
    let pieces = futures_lite::stream::try_unfold(0_u32, move |n| {
        let pause = runtime.sleep(Duration::from_millis(u64::from(n.is_multiple_of(20))));
        async move {
            pause.await;
            match n {
                PIECES => Ok(None),
                n if n == until => Err(std::io::Error::other("the source broke")),
                _ => Ok(Some((Bytes::from(vec![n as u8; PIECE]), n + 1))),
            }
        }
    });
    Response::new(Body::from_stream(pieces))
}

fn sends_until(backend: Backend, until: u32) -> Running {
    Running::serve(backend, move |runtime| one(sync(move |_| pieces(until, runtime.clone()))))
}

fn streams(backend: Backend) {
    let upstream = sends_until(backend, PIECES);
    let server = example(backend, url(&upstream));
    let expected: Vec<u8> = (0..PIECES).flat_map(|n| [n as u8; PIECE]).collect();
    let mut client = server.client();
    for _ in 0..2 {
        let answer = client.get("/relay");
        assert_eq!(answer.field("Transfer-Encoding"), Some("chunked"));
        assert!(answer.body == expected, "{} bytes", answer.body.len());
    }
}

fn breaks(backend: Backend) {
    let upstream = sends_until(backend, PIECES / 2);
    let server = example(backend, url(&upstream));
    let mut client = server.client();
    client.send_get("/relay");
    client.try_answer(false).expect_err("a part is not the whole");
}

fn overlap(backend: Backend) {
    let server = Running::start(backend, few_workers(backend), |_| {
        one(async |_: Request| {
            let sleeps = async {
                all((0..SLEEPS).map(|_| Box::pin(tokio::time::sleep(EACH)) as BoxFuture<()>).collect()).await;
            };
            sleeps.compat().await;
            "ok"
        })
    });
    let began = Instant::now();
    assert_eq!(server.get("/").said(), (200, "ok".into()));
    let took = began.elapsed();
    assert!(took >= EACH, "{took:?}");
    assert!(took < SLEEPS * EACH / 2, "the sleeps took {took:?}");
}

fn leaves(backend: Backend) {
    let upstream = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let address = upstream.local_addr().expect("the listener is bound");
    let server = example(backend, format!("http://{address}/"));
    let mut client = server.client();
    client.send_get("/fetch");
    let mut asked = None;
    upstream.set_nonblocking(true).expect("a listener can be nonblocking");
    wait_until("the upstream gets a connection", || {
        asked = upstream.accept().ok();
        asked.is_some()
    });
    let (mut asked, _) = asked.expect("the upstream has a connection");
    asked.set_nonblocking(false).expect("a socket can be blocking");
    asked.set_read_timeout(Some(PATIENCE)).expect("a socket has a read timeout");
    let mut request = [0; 1024];
    let n = asked.read(&mut request).expect("a request");
    assert!(request[..n].starts_with(b"GET / HTTP/1.1\r\n"));
    // The upstream does not answer, and the client leaves.
    let left = Instant::now();
    drop(client);
    assert_eq!(asked.read(&mut request).expect("the connection is closed in time"), 0);
    // The timeout of the application's client is as long as PATIENCE.
    assert!(left.elapsed() < PATIENCE / 2, "{:?}", left.elapsed());
}

fn tasks(backend: Backend) {
    let (tell, told) = mpsc::channel();
    let server = Running::start(backend, few_workers(backend), move |runtime| {
        one(move |_: Request| {
            let tell = tell.clone();
            let late = async move {
                tokio::time::sleep(Duration::from_millis(100)).await;
                let _ = tell.send(());
            };
            runtime.spawn(late.compat()).detach();
            async { "ok" }
        })
    });
    assert_eq!(server.get("/").said(), (200, "ok".into()));
    server.stop();
    told.try_recv().expect("the stop waited for the task");
}

fn same_runtime(backend: Backend) {
    let server = Running::start(backend, few_workers(backend), |_| {
        Router::new().get("/", async |_: Request| {
            let outside = Handle::try_current().ok().map(|handle| handle.id());
            let inside = async { Handle::current().id() }.compat().await;
            future::yield_now().await;
            format!("{:?}", outside.map(|outside| outside == inside))
        })
    });
    let expected = if runs_in_tokio(backend) { "Some(true)" } else { "None" };
    assert_eq!(server.get("/").text(), expected);
}
