//! Responses that hold the thread of their request (`Body::holding_thread`).

use std::convert::Infallible;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::Poll;
use std::thread::{self, ThreadId};
use std::time::Duration;

use futures_lite::stream::{self, Stream};
use gearshift::backend::{Latch, latch};
use gearshift::{Backend, Body, Bytes, Request, Response, Router, Runtime, sync};
use socket2::SockRef;
use test_support::backend::{blocks, concurrency, few_workers};
use test_support::client::Client;
use test_support::server::{Launched, Running};
use test_support::suite::Area;
use test_support::{PATIENCE, wait_until};

pub(crate) const AREA: Area = (
    "holding",
    &[
        ("the_body_is_polled_on_the_thread_of_its_handler", threads),
        ("no_other_request_begins_on_the_thread", exclusive),
        ("each_piece_is_received_before_the_next_one_is_polled", stepwise),
        ("a_large_body_is_echoed_as_it_arrives", echo),
        ("a_body_that_blocks_reads_a_large_request", blocking_echo),
        ("work_that_the_body_offloads_runs_in_place", offloads),
        ("a_body_whose_peer_leaves_is_dropped_on_its_thread", leaves),
        ("the_token_of_a_body_that_blocks_sees_the_peer_leave", token),
        ("a_graceful_stop_waits_for_the_body", graceful),
        ("a_forced_stop_drops_the_body", forced),
    ],
);

/// What a test knows about the bodies of a server.
#[derive(Clone, Default)]
struct Seen {
    /// The bodies that were dropped.
    dropped: Arc<AtomicUsize>,
    /// The polls and drops of a body that were not on the thread of its handler.
    elsewhere: Arc<AtomicUsize>,
    /// The names of events in their order.
    events: Arc<Mutex<Vec<&'static str>>>,
}

impl Seen {
    fn event(&self, name: &'static str) {
        self.events.lock().unwrap_or_else(PoisonError::into_inner).push(name);
    }

    fn events(&self) -> Vec<&'static str> {
        self.events.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn dropped(&self) -> usize {
        self.dropped.load(Ordering::SeqCst)
    }

    fn elsewhere(&self) -> usize {
        self.elsewhere.load(Ordering::SeqCst)
    }
}

/// The thread on which a handler was called. It is a part of the body, so that it sees the drop of the body.
struct Home {
    thread: ThreadId,
    seen: Seen,
}

impl Home {
    fn new(seen: &Seen) -> Home {
        Home { thread: thread::current().id(), seen: seen.clone() }
    }

    fn check(&self) {
        let is_elsewhere = thread::current().id() != self.thread;
        self.seen.elsewhere.fetch_add(is_elsewhere.into(), Ordering::SeqCst);
    }
}

impl Drop for Home {
    fn drop(&mut self) {
        self.check();
        self.seen.event("end");
        self.seen.dropped.fetch_add(1, Ordering::SeqCst);
    }
}

fn held(pieces: impl Stream<Item = Result<Bytes, Infallible>> + Send + 'static) -> Response {
    Response::new(Body::from_stream(pieces).holding_thread())
}

const PIECES: u32 = 5;

/// Waits before each of its pieces.
fn paused(seen: &Seen, runtime: &Runtime) -> Response {
    let (home, runtime) = (Home::new(seen), runtime.clone());
    held(stream::unfold((home, 0), move |(home, n)| {
        let pause = runtime.sleep(Duration::from_millis(1));
        async move {
            home.check();
            pause.await;
            home.check();
            (n < PIECES).then(|| (Ok(Bytes::from(format!("{n} "))), (home, n + 1)))
        }
    }))
}

/// Has one piece, and then waits for the test.
fn endless(seen: &Seen, latch: &Latch) -> Response {
    let (home, latch) = (Home::new(seen), latch.clone());
    held(stream::unfold((home, 0), move |(home, n)| {
        let released = latch.released();
        async move {
            if n > 0 {
                released.await;
                home.check();
                return None;
            }
            Some((Ok(Bytes::from("first")), (home, 1)))
        }
    }))
}

/// The routes `/paused`, `/endless` and `/fresh`.
fn app(seen: &Seen) -> (latch::Guard, impl FnOnce(Runtime) -> Router + Send + 'static) {
    let (latch, seen) = (Latch::new(), seen.clone());
    let guard = latch.guard();
    let app = move |_| {
        let (of_paused, of_endless) = (seen.clone(), seen.clone());
        Router::new()
            .get("/paused", sync(move |request: Request| paused(&of_paused, request.runtime())))
            .get("/endless", sync(move |_| endless(&of_endless, &latch)))
            .get(
                "/fresh",
                sync(move |_| {
                    seen.event("fresh");
                    "fresh"
                }),
            )
    };
    (guard, app)
}

/// A client that has received the first piece of `/endless`.
fn begun(mut client: Client) -> Client {
    client.send_get("/endless");
    assert_eq!(client.expect_head().status, 200);
    assert_eq!(client.chunk(), "first");
    client
}

fn threads(backend: Backend) {
    const CLIENTS: usize = 12;
    let seen = Seen::default();
    let (_guard, app) = app(&seen);
    let server = Running::start(backend, few_workers(backend), app);
    for _ in 0..3 {
        let mut clients: Vec<_> = (0..CLIENTS).map(|_| server.client()).collect();
        clients.iter_mut().for_each(|client| client.send_get("/paused"));
        for client in &mut clients {
            assert_eq!(client.answer().said(), (200, "0 1 2 3 4 ".into()));
        }
    }
    wait_until("the bodies are dropped", || seen.dropped() == 3 * CLIENTS);
    assert_eq!(seen.elsewhere(), 0);
}

fn exclusive(backend: Backend) {
    let seen = Seen::default();
    let (guard, app) = app(&seen);
    let (send, receive) = mpsc::channel::<Runtime>();
    let server = Running::start(backend, few_workers(backend), move |runtime| {
        send.send(runtime.clone()).expect("the test waits");
        app(runtime)
    });
    let runtime = receive.recv().expect("the application starts");
    let mut other = server.client();
    assert_eq!(other.get("/fresh").status, 200);
    let holders = concurrency(backend).unwrap_or(1);
    let mut clients: Vec<_> = (0..holders).map(|_| begun(server.client())).collect();
    other.send_get("/fresh");
    if blocks(backend) {
        wait_until("the request waits for a thread", || runtime.stats().waiting_for_worker > 0);
        assert_eq!(seen.events(), ["fresh"]);
        drop(guard);
        assert_eq!(other.answer().said(), (200, "fresh".into()));
        assert_eq!(seen.events()[..2], ["fresh", "end"]);
    } else {
        assert_eq!(other.answer().said(), (200, "fresh".into()));
        assert_eq!(seen.events(), ["fresh", "fresh"]);
        drop(guard);
    }
    for client in &mut clients {
        assert_eq!(client.chunk(), "");
        assert_eq!(client.get("/fresh").said(), (200, "fresh".into()), "the connection is kept");
    }
}

/// The poll blocks until the peer says that it has received the piece before. All pieces are ready, so nothing but the
/// kind of the body makes the server send them one by one.
fn stepwise(backend: Backend) {
    let (send, receive) = mpsc::channel::<()>();
    let received = Mutex::new(Some(receive));
    let handler = sync(move |_: Request| {
        let received = received.lock().unwrap_or_else(PoisonError::into_inner).take().expect("one request");
        let mut n = 0;
        held(stream::poll_fn(move |_| {
            if n > 0 {
                received.recv_timeout(PATIENCE).expect("the peer has received the piece");
            }
            n += 1;
            Poll::Ready((n <= PIECES).then(|| Ok(Bytes::from(format!("piece {n}")))))
        }))
    });
    let server = Running::start(backend, few_workers(backend), |_| Router::new().get("/", handler));
    let mut client = server.client();
    client.send_get("/");
    assert_eq!(client.expect_head().status, 200);
    for n in 1..=PIECES {
        assert_eq!(client.chunk(), format!("piece {n}"));
        send.send(()).expect("the body waits");
    }
    assert_eq!(client.chunk(), "");
}

const LARGE: usize = 1 << 20;
const STEP: usize = 64 << 10;

/// Sends a large body, and receives it in the same steps.
fn echoes(mut client: Client, mut receive: impl FnMut(&mut Client)) {
    client.send(format!("POST / HTTP/1.1\r\nHost: test\r\nContent-Length: {LARGE}\r\n\r\n"));
    for n in 0..LARGE / STEP {
        client.send(vec![b'x'; STEP]);
        if n == 0 {
            assert_eq!(client.expect_head().status, 200);
        }
        receive(&mut client);
    }
}

fn echo(backend: Backend) {
    let echo = sync(|request: Request| Response::new(request.into_body().holding_thread()));
    let server = Running::start(backend, few_workers(backend), |_| Router::new().post("/", echo));
    echoes(server.client(), |client| {
        assert_eq!(client.exactly(STEP).expect("an echo"), vec![b'x'; STEP]);
    });
}

fn blocking_echo(backend: Backend) {
    let seen = Seen::default();
    let given = seen.clone();
    let echo = sync(move |request: Request| {
        let (home, runtime, mut body) = (Home::new(&given), request.runtime().clone(), request.into_body());
        Response::new(
            Body::from_stream(stream::poll_fn(move |_| {
                home.check();
                Poll::Ready(runtime.block_on(body.chunk()))
            }))
            .holding_thread(),
        )
    });
    let server = Running::start(backend, few_workers(backend), |_| Router::new().post("/", echo));
    // As many at once as there are threads, and the threads serve others afterwards.
    for _ in 0..2 {
        thread::scope(|scope| {
            for _ in 0..concurrency(backend).unwrap_or(1) {
                let client = server.client();
                scope.spawn(|| {
                    echoes(client, |client| {
                        let mut left = STEP;
                        while left > 0 {
                            left -= client.chunk().len();
                        }
                    });
                });
            }
        });
    }
    wait_until("the bodies have ended", || seen.dropped() == 2 * concurrency(backend).unwrap_or(1));
    assert_eq!(seen.elsewhere(), 0);
}

fn offloads(backend: Backend) {
    let handler = sync(|request: Request| {
        let (here, runtime) = (thread::current().id(), request.runtime().clone());
        held(stream::once_future(async move {
            let blocking = runtime.blocking(|| thread::current().id()).await;
            let compute = runtime.compute(|| thread::current().id()).await;
            Ok(Bytes::from(format!("{} {}", blocking == here, compute == here)))
        }))
    });
    let server = Running::start(backend, few_workers(backend), |_| Router::new().get("/", handler));
    assert_eq!(server.get("/").said(), (200, "true true".into()));
}

fn reset(client: Client) {
    SockRef::from(&client.socket).set_linger(Some(Duration::ZERO)).expect("a socket can be reset");
}

fn leaves(backend: Backend) {
    let seen = Seen::default();
    let (_guard, app) = app(&seen);
    let server = Running::start(backend, few_workers(backend), app);
    for n in 1..=3 {
        reset(begun(server.client()));
        wait_until("the body is dropped", || seen.dropped() == n);
        assert_eq!(server.get("/fresh").status, 200);
    }
    assert!(!blocks(backend) || seen.elsewhere() == 0);
}

fn token(backend: Backend) {
    let seen = Seen::default();
    let given = seen.clone();
    let handler = sync(move |request: Request| {
        let (home, token) = (Home::new(&given), request.cancel_token());
        let mut is_begun = false;
        held(stream::poll_fn(move |_| {
            if !std::mem::replace(&mut is_begun, true) {
                return Poll::Ready(Some(Ok(Bytes::from("first"))));
            }
            while !token.is_cancelled() {
                thread::sleep(Duration::from_millis(1));
            }
            home.check();
            Poll::Ready(None)
        }))
    });
    let server = Running::start(backend, few_workers(backend), |_| Router::new().get("/endless", handler));
    for n in 1..=3 {
        reset(begun(server.client()));
        wait_until("the body has ended", || seen.dropped() == n);
    }
    assert_eq!(seen.elsewhere(), 0);
}

fn graceful(backend: Backend) {
    let seen = Seen::default();
    let (guard, app) = app(&seen);
    let server = Launched::start(backend, few_workers(backend), app);
    let mut client = begun(server.client());
    server.shutdown().graceful();
    assert_eq!(seen.dropped(), 0);
    drop(guard);
    assert_eq!(client.chunk(), "");
    client.expect_end();
    let report = server.ended_gracefully();
    assert_eq!((report.finished, report.cut), (1, 0));
    assert!(!blocks(backend) || seen.elsewhere() == 0);
}

fn forced(backend: Backend) {
    let seen = Seen::default();
    let (_guard, app) = app(&seen);
    let server = Launched::start(backend, few_workers(backend), app);
    let mut client = begun(server.client());
    server.shutdown().force();
    let report = server.ended().expect("the server ends without an error");
    assert_eq!((report.finished, report.cut), (0, 1));
    assert_eq!(client.rest(), b"", "the body has no last chunk");
    assert_eq!(seen.dropped(), 1);
    assert!(!blocks(backend) || seen.elsewhere() == 0);
}
