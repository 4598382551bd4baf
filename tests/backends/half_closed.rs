//! Peers that end their sending side. They may want their responses: nothing but these is sent to them, and they slow
//! nobody. Or they have left: a response that has nothing to write ends.

use std::convert::Infallible;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, mpsc};
use std::time::{Duration, Instant};

use futures_lite::{StreamExt, stream};
use gearshift::backend::{Latch, latch};
use gearshift::{Backend, Body, Bytes, CancelToken, Config, Request, Router, Runtime, blocking, sync};
use test_support::backend::{blocks, few_workers};
use test_support::client::Client;
use test_support::server::Running;
use test_support::suite::Area;
use test_support::{PATIENCE, wait_until};

pub(crate) const AREA: Area = (
    "half_closed",
    &[
        ("a_stream_has_nothing_but_its_chunks", stream_alone),
        ("a_stream_that_polls_its_token_has_nothing_but_its_chunks", stream_with_token),
        ("a_response_after_a_polled_token_is_whole", |backend| after_token(backend, "/whole")),
        ("a_stream_after_a_polled_token_is_whole", |backend| after_token(backend, "/streamed")),
        ("an_idle_stream_ends_when_its_peer_has_closed", |backend| ends(backend, GET, drop)),
        ("an_idle_stream_ends_after_a_half_close", |backend| ends(backend, GET, expect_cut)),
        ("an_idle_stream_of_an_http_1_0_peer_ends_too", |backend| {
            ends(backend, "GET / HTTP/1.0\r\n\r\n", drop)
        }),
        ("an_idle_stream_ends_behind_an_unread_body", |backend| ends(backend, UNREAD, drop)),
        ("an_idle_stream_ends_behind_pipelined_requests", |backend| {
            ends(backend, &GET.repeat(1000), expect_cut);
        }),
        ("an_idle_stream_lives_on_if_the_setting_says_so", lives_on),
        ("idle_streams_of_peers_that_have_closed_hold_no_thread", holds_no_thread),
        ("a_crowd_of_peers_slows_down_no_request_afterwards", |backend| after_a_crowd(backend, requests)),
        ("a_crowd_of_peers_slows_down_no_crowd_afterwards", |backend| after_a_crowd(backend, half_closing)),
    ],
);

/// Longer than a peer that has ended its side is left without a question.
const LONG: Duration = Duration::from_millis(350);
/// A pause between two looks at a token.
const STEP: Duration = Duration::from_millis(10);

/// A stream of two pieces. Before each of them it waits for [`LONG`], and looks at `token` while it waits.
fn pieces(runtime: Runtime, token: Option<CancelToken>) -> Body {
    Body::from_stream(stream::unfold(0, move |n| {
        let (runtime, token) = (runtime.clone(), token.clone());
        async move {
            let began = Instant::now();
            while n < 2 && began.elapsed() < LONG {
                runtime.sleep(STEP).await;
                if token.as_ref().is_some_and(CancelToken::is_cancelled) {
                    return None;
                }
            }
            (n < 2).then(|| (Ok::<_, Infallible>(Bytes::from_static(b"piece ")), n + 1))
        }
    }))
}

/// Sends a request and ends its side.
fn ask(server: &Running, path: &str) -> Client {
    let mut client = server.client();
    client.send_get(path);
    client.half_close();
    client
}

fn expect_chunks(backend: Backend, has_token: bool) {
    let server = Running::start(backend, few_workers(backend), move |runtime| {
        let stream = move |request: Request| {
            let token = has_token.then(|| request.cancel_token());
            pieces(runtime.clone(), token)
        };
        Router::new().get("/", sync(stream))
    });
    let mut client = ask(&server, "/");
    // The client takes no byte that is not part of the head or of a chunk.
    assert_eq!(client.answer().said(), (200, "piece piece ".into()));
    client.expect_end();
}

fn stream_alone(backend: Backend) {
    expect_chunks(backend, false);
}

fn stream_with_token(backend: Backend) {
    expect_chunks(backend, true);
}

const GET: &str = "GET / HTTP/1.1\r\nHost: test\r\n\r\n";
/// A request whose body has not arrived completely.
const UNREAD: &str = "POST / HTTP/1.1\r\nHost: test\r\nContent-Length: 10\r\n\r\nabc";
/// The time of a next piece that is short in these tests.
const SHORT: Duration = Duration::from_millis(300);

/// A server with streams that have one piece, and wait for a second one until [`Idle::release`].
struct Idle {
    server: Running,
    /// The number of bodies that were not dropped.
    bodies: Arc<AtomicUsize>,
    guard: Option<latch::Guard>,
}

impl Idle {
    fn start(backend: Backend, half_closed_timeout: Duration) -> Idle {
        assert_eq!(Config::default().half_closed_timeout, Duration::from_secs(5));
        let (mut config, latch, bodies) = (few_workers(backend), Latch::new(), Arc::new(AtomicUsize::new(0)));
        (config.half_closed_timeout, config.body_buffer) = (half_closed_timeout, 0);
        let (guard, counted) = (latch.guard(), bodies.clone());
        let server = Running::start(backend, config, move |_| {
            let stream = move |_| {
                let (body, latch) = (Counted::new(&counted), latch.clone());
                let first = stream::once(Ok::<_, Infallible>(Bytes::from_static(b"first ")));
                let second = stream::once_future(async move {
                    let _body = body;
                    latch.released().await;
                    Ok(Bytes::from_static(b"second"))
                });
                Body::from_stream(first.chain(second))
            };
            Router::new().any("/", sync(stream)).get("/fresh", sync(|_| "fresh"))
        });
        Idle { server, bodies, guard: Some(guard) }
    }

    /// Sends `request`, reads the head and the first piece, and ends the sending side.
    fn ask(&self, request: &str) -> Client {
        let mut client = self.server.client();
        client.send(request);
        let mut seen = Vec::new();
        while !seen.windows(6).any(|bytes| bytes == b"first ") {
            seen.extend(client.exactly(1).expect("the response begins"));
        }
        client.half_close();
        client
    }

    fn release(&mut self) {
        self.guard = None;
    }

    fn expect_bodies(&self, bodies: usize) {
        wait_until("bodies are dropped", || self.bodies.load(Ordering::SeqCst) == bodies);
    }
}

/// A value that is counted until it is dropped.
struct Counted(Arc<AtomicUsize>);

impl Counted {
    fn new(count: &Arc<AtomicUsize>) -> Counted {
        count.fetch_add(1, Ordering::SeqCst);
        Counted(count.clone())
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::SeqCst);
    }
}

/// Expects the end of a stream that is not complete.
fn expect_cut(mut client: Client) {
    assert!(!client.rest().ends_with(b"0\r\n\r\n"), "the response looks complete");
}

fn ends(backend: Backend, request: &str, leave: fn(Client)) {
    let idle = Idle::start(backend, SHORT);
    let began = Instant::now();
    let client = idle.ask(request);
    assert_eq!(idle.bodies.load(Ordering::SeqCst), 1);
    leave(client);
    idle.expect_bodies(0);
    assert!(began.elapsed() >= SHORT, "it took only {:?}", began.elapsed());
}

fn lives_on(backend: Backend) {
    let (short, mut never) = (Idle::start(backend, SHORT), Idle::start(backend, Duration::MAX));
    let mut lives = never.ask(GET);
    drop(short.ask(GET));
    short.expect_bodies(0);
    assert_eq!(never.bodies.load(Ordering::SeqCst), 1);
    never.release();
    assert!(lives.rest().ends_with(b"6\r\nsecond\r\n0\r\n\r\n"), "the response is complete");
}

fn holds_no_thread(backend: Backend) {
    const STREAMS: usize = 20;
    let mut idle = Idle::start(backend, Duration::MAX);
    (0..STREAMS).for_each(|_| drop(idle.ask(GET)));
    assert_eq!(idle.bodies.load(Ordering::SeqCst), STREAMS);
    assert_eq!(idle.server.get("/fresh").text(), "fresh");
    idle.release();
    idle.expect_bodies(0);
}

/// Looks at a token for [`LONG`].
fn poll(token: &CancelToken) -> bool {
    let began = Instant::now();
    while began.elapsed() < LONG {
        if token.is_cancelled() {
            return true;
        }
        std::thread::sleep(STEP);
    }
    false
}

fn after_token(backend: Backend, path: &str) {
    let server = Running::start(backend, few_workers(backend), move |runtime| {
        let whole = |request: Request| poll(&request.cancel_token()).to_string();
        let streamed = move |request: Request| {
            let token = request.cancel_token();
            poll(&token);
            pieces(runtime.clone(), Some(token))
        };
        // An event loop that a handler blocks cannot look at the peer.
        match blocks(backend) {
            true => Router::new().get("/whole", sync(whole)).get("/streamed", sync(streamed)),
            false => Router::new().get("/whole", blocking(whole)).get("/streamed", blocking(streamed)),
        }
    });
    let mut client = ask(&server, path);
    let expected = if path == "/whole" { "false" } else { "piece piece " };
    assert_eq!(client.final_answer().said(), (200, expected.into()));
    client.expect_end();
}

/// Clients that end their side while a request holds a thread.
const CROWD: usize = 60;
/// How often the two servers are measured in turn.
const ROUNDS: usize = 9;
/// How many times as long a round may take as on the server without a disturbance.
const FACTOR: u32 = 8;

fn app(runtime: Runtime, begin: mpsc::Sender<()>) -> Router {
    Router::new().get("/", sync(|_| "fine")).get("/slow", move |_: Request| {
        begin.send(()).expect("the test waits");
        let sleep = runtime.sleep(Duration::from_millis(300));
        async move {
            sleep.await;
            "slow"
        }
    })
}

/// Requests on one connection.
fn requests(server: &Running) {
    let mut client = server.client();
    for _ in 0..200 {
        assert_eq!(client.get("/").text(), "fine");
    }
}

/// Requests of peers that end their side.
fn half_closing(server: &Running) {
    for _ in 0..3 {
        let mut crowd: Vec<_> = (0..CROWD).map(|_| ask(server, "/")).collect();
        crowd.iter_mut().for_each(expect_fine);
    }
}

/// Reads the answer to the last request of a connection.
fn expect_fine(client: &mut Client) {
    assert_eq!(client.final_answer().text(), "fine");
    client.expect_end();
}

/// Lets a crowd end its side while a request holds a thread, and compares the time of `round` after that with the same
/// on a server that had neither.
fn after_a_crowd(backend: Backend, round: fn(&Running)) {
    let mut config = few_workers(backend);
    if config.threads.is_some() {
        config.threads = Some(1);
    }
    let (begin, begun) = mpsc::channel();
    let start = || {
        let (config, begin) = (config.clone(), begin.clone());
        Running::start(backend, config, |runtime| app(runtime, begin))
    };
    let servers = [start(), start()];
    let mut slow = servers[1].client();
    slow.send_get("/slow");
    begun.recv_timeout(PATIENCE).expect("the slow request begins");
    let mut crowd: Vec<_> = (0..CROWD).map(|_| ask(&servers[1], "/")).collect();
    assert_eq!(slow.answer().text(), "slow");
    let mut took = [Vec::new(), Vec::new()];
    for _ in 0..ROUNDS {
        for (server, took) in servers.iter().zip(&mut took) {
            let began = Instant::now();
            round(server);
            took.push(began.elapsed());
        }
    }
    took.iter_mut().for_each(|rounds| rounds.sort());
    let [alone, after] = took.map(|rounds| rounds[ROUNDS / 2]);
    assert!(after < FACTOR * alone, "a round takes {after:?}, without the crowd {alone:?}");
    crowd.iter_mut().for_each(expect_fine);
}
