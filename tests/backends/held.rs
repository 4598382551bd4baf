//! What holds a thread, and what does not. All servers here have one event loop, or a pool of two threads.

use std::cell::Cell;
use std::convert::Infallible;
use std::io::{self, Read, Write};
use std::net::TcpListener;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

use futures_lite::{AsyncReadExt, AsyncWriteExt, stream};
use gearshift::backend::{Latch, latch};
use gearshift::{
    Backend, Body, Bytes, CancelToken, Config, Handler, HeaderValue, Request, Response, Router, Runtime,
    Stream, blocking, sync,
};
use test_support::backend::{concurrency, few_workers};
use test_support::client::Client;
use test_support::server::Running;
use test_support::suite::Area;
use test_support::wait_until;

pub(crate) const AREA: Area = (
    "held",
    &[
        ("no_thread_by_a_peer_that_is_slow_to_read", slow_readers),
        ("no_thread_by_a_peer_that_is_slow_to_read_a_stream", slow_readers_of_a_stream),
        ("no_thread_by_a_small_body_that_dribbles_in", dribbled_bodies),
        ("no_thread_by_a_stream_without_a_next_piece", idle_streams),
        ("no_thread_by_a_stream_whose_reader_blocks", blocked_streams),
        ("no_thread_by_an_upgraded_connection", upgraded),
        ("no_thread_by_a_lingering_close", lingering),
        ("handlers_do_not_overlap_on_a_thread_while_one_waits", no_overlap),
        ("the_timers_of_all_held_threads_fire", timers),
        ("background_tasks_go_on_while_all_threads_are_held", background),
        ("the_bodies_of_all_held_threads_arrive", |backend| bodies(backend, "/wait")),
        ("the_bodies_that_all_held_threads_read_in_place_arrive", |backend| bodies(backend, "/read")),
        ("all_held_threads_can_connect", connections),
        ("a_connection_is_served_when_the_first_held_thread_is_free", next_connection),
    ],
);

/// Threads of a pool in these tests.
const THREADS: usize = 2;
/// More connections than any server here has threads.
const CROWD: usize = 2 * THREADS + 1;
/// A time limit that no test reaches. A thread that is held until such a limit fails the test.
const NEVER: Duration = Duration::from_secs(600);

fn small(backend: Backend) -> Config {
    let mut config = few_workers(backend);
    if config.threads.is_some() {
        config.threads = Some(THREADS);
    }
    (config.keep_alive, config.header_timeout) = (NEVER, NEVER);
    (config.body_timeout, config.write_timeout) = (NEVER, NEVER);
    config.half_closed_timeout = Duration::from_millis(300);
    config.min_rate = 0;
    config
}

/// The number of handlers that hold all threads; on an event loop, so many handlers that wait at once.
fn all_threads(backend: Backend) -> usize {
    concurrency(backend).map_or(THREADS, |threads| threads.min(THREADS))
}

fn start(backend: Backend, app: impl FnOnce(Runtime) -> Router + Send + 'static) -> Running {
    Running::start(backend, small(backend), |runtime| app(runtime).get("/fresh", sync(|_| "fresh")))
}

/// Checks that a new connection is served.
fn expect_fresh(server: &Running) {
    assert_eq!(server.get("/fresh").said(), (200, "fresh".into()));
}

/// Connections that have each sent a GET request.
fn ask(server: &Running, clients: usize, path: &str) -> Vec<Client> {
    let ask = |_| {
        let mut client = server.client();
        client.send_get(path);
        client
    };
    (0..clients).map(ask).collect()
}

fn answered(clients: &mut [Client], text: &str) {
    for client in clients {
        assert_eq!(client.answer().said(), (200, text.into()));
    }
}

/// More bytes than the buffers of two sockets hold.
const LARGE: usize = 8 << 20;

fn expect_large(clients: &mut [Client]) {
    for client in clients {
        let answer = client.answer();
        assert_eq!((answer.status, answer.body.len()), (200, LARGE));
    }
}

fn slow_readers(backend: Backend) {
    let large = Bytes::from(vec![b'x'; LARGE]);
    let server = start(backend, move |_| Router::new().get("/", sync(move |_| Response::new(large.clone()))));
    let mut slow = ask(&server, CROWD, "/");
    expect_fresh(&server);
    expect_large(&mut slow);
}

fn slow_readers_of_a_stream(backend: Backend) {
    const PIECE: usize = 64 * 1024;
    let server = start(backend, |_| {
        let piece = Bytes::from(vec![b'x'; PIECE]);
        let pieces = move |_| {
            let pieces = stream::repeat(Ok::<_, Infallible>(piece.clone()));
            Body::from_stream(stream::StreamExt::take(pieces, LARGE / PIECE))
        };
        Router::new().get("/", sync(pieces))
    });
    let mut slow = ask(&server, CROWD, "/");
    expect_fresh(&server);
    expect_large(&mut slow);
}

/// Answers with the number of bytes in the body.
async fn length(request: Request, limit: usize) -> String {
    let body = request.into_body().bytes(limit).await;
    body.map_or_else(|error| error.to_string(), |bytes| bytes.len().to_string())
}

fn dribbled_bodies(backend: Backend) {
    const LEN: usize = 60_000;
    let server = start(backend, |_| Router::new().post("/", |request| length(request, LEN)));
    let mut slow: Vec<_> = (0..CROWD).map(|_| server.client()).collect();
    for client in &mut slow {
        client.send(format!("POST / HTTP/1.1\r\nHost: test\r\nContent-Length: {LEN}\r\n\r\nx"));
    }
    for _ in 0..3 {
        expect_fresh(&server);
        slow.iter_mut().for_each(|client| client.send("x"));
    }
    slow.iter_mut().for_each(|client| client.send(vec![b'x'; LEN - 4]));
    answered(&mut slow, &LEN.to_string());
}

fn idle_streams(backend: Backend) {
    const STREAMS: usize = 100;
    let latch = Latch::new();
    let guard = latch.guard();
    let server = start(backend, move |_| {
        let pieces = move |_| {
            let last = latch.released();
            let first = stream::once(Ok::<_, Infallible>(Bytes::from_static(b"first ")));
            let last = stream::once_future(async move {
                last.await;
                Ok(Bytes::from_static(b"last"))
            });
            Body::from_stream(stream::StreamExt::chain(first, last))
        };
        Router::new().get("/", sync(pieces))
    });
    let mut idle = ask(&server, STREAMS, "/");
    for client in &mut idle {
        let mut seen = Vec::new();
        while !seen.ends_with(b"first \r\n") {
            seen.extend(client.exactly(1).expect("the first piece"));
        }
    }
    expect_fresh(&server);
    drop(guard);
    for client in &mut idle {
        assert_eq!(client.exactly(14).expect("the last piece"), b"4\r\nlast\r\n0\r\n\r\n");
    }
    expect_fresh(&server);
}

/// A reader that has one piece, and then blocks its thread until its request is cancelled.
struct Blocked {
    piece: &'static [u8],
    token: CancelToken,
    /// The number of readers that block.
    blocked: Arc<AtomicUsize>,
}

impl Read for Blocked {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        if self.piece.is_empty() {
            self.blocked.fetch_add(1, Ordering::SeqCst);
            while !self.token.is_cancelled() {
                thread::sleep(Duration::from_millis(1));
            }
            self.blocked.fetch_sub(1, Ordering::SeqCst);
        }
        Read::read(&mut self.piece, into)
    }
}

fn blocked_streams(backend: Backend) {
    let blocked = Arc::new(AtomicUsize::new(0));
    let counts = blocked.clone();
    let server = start(backend, move |_| {
        let stream = move |request: Request| {
            let (piece, token) = (&b"first "[..], request.cancel_token());
            let reader = Blocked { piece, token, blocked: counts.clone() };
            Body::from_reader(request.runtime(), None, reader)
        };
        Router::new().get("/", sync(stream))
    });
    let mut clients = ask(&server, CROWD, "/");
    for client in &mut clients {
        let mut seen = Vec::new();
        while !seen.ends_with(b"first \r\n") {
            seen.extend(client.exactly(1).expect("the first piece"));
        }
    }
    wait_until("the readers block", || blocked.load(Ordering::SeqCst) == CROWD);
    expect_fresh(&server);
    drop(clients);
    wait_until("the requests are cancelled", || blocked.load(Ordering::SeqCst) == 0);
}

fn upgraded(backend: Backend) {
    async fn echo(mut stream: Stream) {
        let mut byte = [0];
        while let Ok(()) = stream.read_exact(&mut byte).await {
            let _ = stream.write_all(&byte).await;
        }
    }
    let server = start(backend, |_| {
        Router::new().get("/", sync(|_| Response::upgrade(HeaderValue::from_static("echo"), echo)))
    });
    let mut upgraded: Vec<_> = (0..CROWD).map(|_| server.client()).collect();
    for client in &mut upgraded {
        client.send("GET / HTTP/1.1\r\nHost: test\r\nConnection: upgrade\r\nUpgrade: echo\r\n\r\n");
        assert_eq!(client.try_answer(true).expect("an answer").status, 101);
    }
    expect_fresh(&server);
    for client in &mut upgraded {
        client.send("x");
        assert_eq!(client.exactly(1).expect("an echo"), b"x");
    }
}

fn lingering(backend: Backend) {
    // One linger ends by itself after a time. So many, one after another, take longer than a test waits.
    const LINGERING: usize = 100;
    let server = start(backend, |_| Router::new());
    let mut refused: Vec<_> = (0..LINGERING).map(|_| server.client()).collect();
    for client in &mut refused {
        client.send("GET / HTTP/9.9\r\nHost: test\r\n\r\n");
    }
    // The connections are accepted in their order, so these come before the new one.
    expect_fresh(&server);
    for client in &mut refused {
        assert_eq!(client.answer().status, 505);
    }
}

thread_local! {
    /// Handlers that have begun on this thread and have not ended.
    static RUNNING: Cell<usize> = const { Cell::new(0) };
}

fn no_overlap(backend: Backend) {
    let server = start(backend, |runtime| {
        Router::new().get("/", move |_: Request| {
            let runtime = runtime.clone();
            async move {
                let (others, thread) = (RUNNING.replace(1), thread::current().id());
                for _ in 0..3 {
                    runtime.sleep(Duration::from_millis(1)).await;
                }
                let is_there = thread::current().id() == thread;
                RUNNING.set(0);
                format!("{others} {is_there}")
            }
        })
    });
    // The handlers of some connections wait while others become ready.
    for _ in 0..3 {
        let mut clients = ask(&server, 20, "/");
        answered(&mut clients, "0 true");
    }
}

/// The handlers' side of a [`Hold`].
#[derive(Clone)]
struct Held {
    begun: Arc<AtomicUsize>,
    latch: Latch,
}

impl Held {
    fn begin(&self) {
        self.begun.fetch_add(1, Ordering::SeqCst);
    }

    /// Waits for the test, with no timer and no socket.
    async fn wait(&self) {
        self.begin();
        self.latch.released().await;
    }
}

/// Holds handlers back until the test releases them.
struct Hold {
    held: Held,
    guard: latch::Guard,
}

impl Hold {
    fn new() -> (Hold, Held) {
        let held = Held { begun: Arc::default(), latch: Latch::new() };
        (Hold { held: held.clone(), guard: held.latch.guard() }, held)
    }

    fn expect_begun(&self, handlers: usize) {
        let begun = || self.held.begun.load(Ordering::SeqCst);
        wait_until("the handlers have begun", || begun() == handlers);
    }

    fn release(self) {
        drop(self.guard);
    }
}

/// A handler that is held, and answers `done`.
fn done(held: Held) -> impl Handler {
    move |_: Request| {
        let held = held.clone();
        async move {
            held.wait().await;
            "done"
        }
    }
}

fn timers(backend: Backend) {
    let (hold, held) = Hold::new();
    let server = start(backend, |runtime| {
        Router::new().get("/", move |_: Request| {
            let (held, runtime) = (held.clone(), runtime.clone());
            async move {
                held.begin();
                while held.latch.guards() > 0 {
                    runtime.sleep(Duration::from_millis(1)).await;
                }
                "done"
            }
        })
    });
    let handlers = all_threads(backend);
    let mut clients = ask(&server, handlers, "/");
    hold.expect_begun(handlers);
    hold.release();
    answered(&mut clients, "done");
}

fn background(backend: Backend) {
    let (hold, held) = Hold::new();
    let turns = Arc::new(AtomicUsize::new(0));
    let counted = turns.clone();
    let server = start(backend, move |runtime| {
        let waits = runtime.clone();
        let task = async move {
            loop {
                waits.sleep(Duration::from_millis(1)).await;
                counted.fetch_add(1, Ordering::SeqCst);
            }
        };
        runtime.spawn(task).detach();
        Router::new().get("/", done(held))
    });
    let handlers = all_threads(backend);
    let mut clients = ask(&server, handlers, "/");
    hold.expect_begun(handlers);
    let before = turns.load(Ordering::SeqCst);
    wait_until("the task goes on", || turns.load(Ordering::SeqCst) >= before + 20);
    hold.release();
    answered(&mut clients, "done");
}

fn bodies(backend: Backend, path: &str) {
    const LEN: usize = 300_000;
    let (hold, held) = Hold::new();
    let server = start(backend, |_| {
        let reads = held.clone();
        let read = move |request: Request| {
            reads.begin();
            let mut body = Vec::new();
            request.into_body().reader().read_to_end(&mut body).map(|len| len.to_string())
        };
        let wait = move |request: Request| {
            held.begin();
            length(request, LEN)
        };
        Router::new().post("/wait", wait).post("/read", blocking(read))
    });
    let handlers = all_threads(backend);
    let mut clients: Vec<_> = (0..handlers).map(|_| server.client()).collect();
    for client in &mut clients {
        client.send(format!("POST {path} HTTP/1.1\r\nHost: test\r\nContent-Length: {LEN}\r\n\r\nx"));
    }
    hold.expect_begun(handlers);
    for sent in [LEN / 2, LEN - LEN / 2 - 1] {
        clients.iter_mut().for_each(|client| client.send(vec![b'x'; sent]));
    }
    answered(&mut clients, &LEN.to_string());
}

fn connections(backend: Backend) {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let address = listener.local_addr().expect("the listener is bound").to_string();
    let (hold, held) = Hold::new();
    let server = start(backend, move |runtime| {
        Router::new().get("/", move |_: Request| {
            let (held, runtime, address) = (held.clone(), runtime.clone(), address.clone());
            async move {
                held.wait().await;
                let mut heard = String::new();
                runtime.connect(&address).await?.read_to_string(&mut heard).await?;
                Ok::<_, std::io::Error>(heard)
            }
        })
    });
    let handlers = all_threads(backend);
    let mut clients = ask(&server, handlers, "/");
    hold.expect_begun(handlers);
    hold.release();
    // All handlers have connected before a peer sends.
    let peers: Vec<_> = (0..handlers).map(|_| listener.accept().expect("a handler connects").0).collect();
    for mut peer in peers {
        peer.write_all(b"heard").expect("the handler reads");
    }
    answered(&mut clients, "heard");
}

fn next_connection(backend: Backend) {
    let ((first, one), (others, other)) = (Hold::new(), Hold::new());
    let server = start(backend, move |_| Router::new().get("/first", done(one)).get("/other", done(other)));
    let handlers = all_threads(backend);
    let mut held = ask(&server, 1, "/first");
    held.extend(ask(&server, handlers - 1, "/other"));
    first.expect_begun(1);
    others.expect_begun(handlers - 1);
    let mut fresh = ask(&server, 1, "/fresh");
    first.release();
    answered(&mut fresh, "fresh");
    others.release();
    answered(&mut held, "done");
}
