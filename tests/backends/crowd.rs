//! Many connections at once: idle, silent, slow and greedy peers delay no other.

use std::convert::Infallible;
use std::io::{Read, Write};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, mpsc};
use std::thread;
use std::time::{Duration, Instant};

use futures_lite::stream;
use gearshift::{Backend, Body, Bytes, Config, Handler, Response, Router, Runtime, WriteQueue, sync};
use test_support::backend::few_workers;
use test_support::server::Running;
use test_support::suite::Area;
use test_support::{PATIENCE, wait_until};

pub(crate) const AREA: Area = (
    "crowd",
    &[
        ("idle_connections_hold_up_nothing", idle),
        ("silent_connections_hold_up_nothing", silent),
        ("half_sent_heads_hold_up_nothing", half_sent),
        ("a_peer_that_sends_without_a_pause_starves_nobody", greedy),
        ("a_peer_that_does_not_read_holds_up_nobody", deaf),
        ("many_connections_are_all_answered", many),
        ("peers_of_large_responses_take_turns", |backend| in_turns(backend, "/large")),
        ("peers_of_large_streams_take_turns", |backend| in_turns(backend, "/stream")),
    ],
);

/// An upper bound on the time of a request that nothing delays. Whatever could delay it here lasts far longer.
const AT_ONCE: Duration = Duration::from_secs(5);

fn patient(backend: Backend) -> Config {
    let mut config = few_workers(backend);
    config.keep_alive = Duration::from_secs(600);
    config.header_timeout = Duration::from_secs(600);
    (config.write_timeout, config.min_rate) = (Duration::from_secs(600), 0);
    config
}

fn expect_answer_at_once(server: &Running) {
    let began = Instant::now();
    assert_eq!(server.get("/plaintext").text(), "Hello, World!");
    assert!(began.elapsed() < AT_ONCE, "it took {:?}", began.elapsed());
}

fn idle(backend: Backend) {
    let server = Running::start(backend, patient(backend), |_| demo::app());
    let mut crowd: Vec<_> = (0..200).map(|_| server.client()).collect();
    for client in &mut crowd {
        assert_eq!(client.get("/plaintext").status, 200);
    }
    expect_answer_at_once(&server);
    for client in &mut crowd {
        assert_eq!(client.get("/async").status, 200, "the connection is still open");
    }
}

fn silent(backend: Backend) {
    let server = Running::start(backend, patient(backend), |_| demo::app());
    let mut crowd: Vec<_> = (0..50).map(|_| server.client()).collect();
    expect_answer_at_once(&server);
    for client in &mut crowd {
        assert_eq!(client.get("/plaintext").status, 200, "the connection is still open");
    }
}

fn half_sent(backend: Backend) {
    let server = Running::start(backend, patient(backend), |_| demo::app());
    let mut crowd: Vec<_> = (0..50).map(|_| server.client()).collect();
    for client in &mut crowd {
        client.send("GET /plaintext HTTP/1.1\r\nHost:");
    }
    expect_answer_at_once(&server);
    for client in &mut crowd {
        client.send(" test\r\n\r\n");
        assert_eq!(client.answer().status, 200);
    }
}

fn greedy(backend: Backend) {
    let mut config = few_workers(backend);
    if config.threads.is_some() {
        config.threads = Some(1);
    }
    let server = Running::start(backend, config, |_| demo::app());
    let stop = Arc::new(AtomicBool::new(false));
    let taken = Arc::new(AtomicUsize::new(0));
    let (greedy, stopped, took) = (server.client().socket, stop.clone(), taken.clone());
    let reader = greedy.try_clone().expect("a socket can be shared");
    let asking = std::thread::spawn(move || {
        let batch = "GET /plaintext HTTP/1.1\r\nHost: test\r\n\r\n".repeat(256);
        let mut greedy = greedy;
        while !stopped.load(Ordering::Relaxed) && greedy.write_all(batch.as_bytes()).is_ok() {}
        let _ = greedy.shutdown(std::net::Shutdown::Both);
    });
    let reading = std::thread::spawn(move || {
        let (mut reader, mut room) = (reader, vec![0; 64 * 1024]);
        while let Ok(n @ 1..) = reader.read(&mut room) {
            took.fetch_add(n, Ordering::Relaxed);
        }
    });
    wait_until("the greedy peer is being served", || taken.load(Ordering::Relaxed) > 100_000);
    let mut other = server.client();
    for _ in 0..20 {
        let (began, before) = (Instant::now(), taken.load(Ordering::Relaxed));
        assert_eq!(other.get("/plaintext").status, 200);
        assert!(began.elapsed() < AT_ONCE, "it took {:?}", began.elapsed());
        wait_until("the greedy peer is served as well", || taken.load(Ordering::Relaxed) > before);
    }
    expect_answer_at_once(&server);
    stop.store(true, Ordering::Relaxed);
    asking.join().expect("the thread does not panic");
    reading.join().expect("the thread does not panic");
}

fn deaf(backend: Backend) {
    let server = Running::start(backend, few_workers(backend), |_| demo::app());
    let mut deaf = server.client();
    deaf.send_get("/stream/100000");
    deaf.send_get("/stream/100000");
    deaf.send_get("/stream/100000");
    deaf.send_get("/stream/100000");
    expect_answer_at_once(&server);
    for _ in 0..4 {
        let answer = deaf.answer();
        assert_eq!(answer.status, 200);
        assert!(answer.body.ends_with(b"chunk 99999\n"));
    }
}

fn many(backend: Backend) {
    let server = Running::start(backend, few_workers(backend), |_| demo::app());
    let mut crowd: Vec<_> = (0..100).map(|_| server.client()).collect();
    for _ in 0..3 {
        crowd.iter_mut().for_each(|client| client.send_get("/plaintext"));
        crowd.iter_mut().for_each(|client| client.send_get("/async"));
        for client in &mut crowd {
            assert_eq!(client.answer().text(), "Hello, World!");
            assert_eq!(client.answer().text(), "Hello, World!");
        }
    }
}

/// The size of a response in bytes: more than the system takes at once.
const LARGE: usize = 4 << 20;
/// The size of the pieces of a streamed response.
const PIECE: usize = 64 << 10;
/// Peers of large responses.
const READERS: usize = 8;
/// The most that a connection writes in one turn: it ends the turn after one such write at the latest, unless that is
/// shorter.
const MAX_TURN: usize = 2 * WriteQueue::MAX_WRITE;

/// Holds threads of the server in its handlers.
#[derive(Clone)]
struct Gate {
    begun: mpsc::Sender<()>,
    is_open: Arc<AtomicBool>,
}

impl Gate {
    fn new() -> (Gate, mpsc::Receiver<()>) {
        let (begun, begins) = mpsc::channel();
        (Gate { begun, is_open: Arc::default() }, begins)
    }

    fn open(&self) {
        self.is_open.store(true, Ordering::Release);
    }

    fn handler(&self) -> impl Handler {
        let gate = self.clone();
        sync(move |_| {
            gate.begun.send(()).expect("the test waits");
            while !gate.is_open.load(Ordering::Acquire) {
                thread::sleep(Duration::from_millis(1));
            }
        })
    }
}

/// Counts the bytes that are written to peers of large responses before a request is answered that came after theirs.
/// One thread serves them all. A handler holds it until all requests have arrived.
fn in_turns(backend: Backend, path: &str) {
    let mut config = patient(backend);
    if config.threads.is_some() {
        config.threads = Some(1);
    }
    let ((last, last_begins), (others, other_begins)) = (Gate::new(), Gate::new());
    let (holds_last, holds_others) = (last.handler(), others.handler());
    let (tell, told) = mpsc::channel();
    let server = Running::start(backend, config, move |runtime: Runtime| {
        tell.send(runtime.clone()).expect("the test waits");
        let large = Bytes::from(vec![b'x'; LARGE]);
        let piece = large.slice(..PIECE);
        let stream = move |_| {
            let pieces = stream::repeat(Ok::<_, Infallible>(piece.clone()));
            Body::from_stream(stream::StreamExt::take(pieces, LARGE / PIECE))
        };
        Router::new()
            .get("/large", sync(move |_| Response::new(large.clone())))
            .get("/stream", sync(stream))
            .get("/sent", sync(move |_| runtime.stats().bytes_sent.to_string()))
            .get("/others", holds_others)
            .get("/last", holds_last)
    });
    let runtime = told.recv().expect("the application has started");
    let mut clients: Vec<_> = (0..READERS + 3).map(|_| server.client()).collect();
    clients.iter_mut().for_each(|client| assert_eq!(client.get("/sent").status, 200));
    let [asks, rings, holds] = clients.split_off(READERS).try_into().expect("there are three");
    let (mut asks, mut rings, mut holds) = (asks, rings, holds);
    // A backend whose number of threads is not a setting keeps one thread.
    let mut held: Vec<_> = (1..runtime.stats().workers).map(|_| server.client()).collect();
    for client in &mut held {
        client.send_get("/others");
        other_begins.recv_timeout(PATIENCE).expect("a thread is free");
    }
    holds.send_get("/last");
    last_begins.recv_timeout(PATIENCE).expect("the last thread is free");
    let before = runtime.stats().bytes_sent;
    clients.iter_mut().for_each(|client| client.send_get(path));
    asks.send_get("/sent");
    // A reactor with a thread of its own tells the server of all requests before the first is served. Other reactors
    // make no turns now.
    let turns = runtime.stats().loop_turns;
    for byte in "GET /".bytes().chain([b'x'; 50]) {
        if runtime.stats().loop_turns >= turns + 2 {
            break;
        }
        rings.send([byte]);
        thread::sleep(Duration::from_millis(1));
    }
    last.open();
    let sent: u64 = asks.answer().text().parse().expect("a number");
    let sent = usize::try_from(sent - before).expect("it fits into the memory");
    assert!(sent <= READERS * MAX_TURN, "{} bytes were sent to each reader first", sent / READERS);
    for client in &mut clients {
        let answer = client.answer();
        assert_eq!((answer.status, answer.body.len()), (200, LARGE));
    }
    others.open();
}
