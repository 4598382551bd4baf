//! Stopping: idle connections close at once, requests in flight and first requests are answered, and what exceeds the
//! grace period is cut.

use std::convert::Infallible;
use std::net::TcpStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{self, Receiver};
use std::time::{Duration, Instant};

use futures_lite::{AsyncWriteExt, future, stream};
use gearshift::{
    App, Backend, Body, Bytes, Config, HeaderValue, Report, Request, Response, Router, Runtime, Stream,
    TestServer, blocking, sync,
};
use test_support::PATIENCE;
use test_support::backend::few_workers;
use test_support::client::Client;
use test_support::server::Running;
use test_support::suite::Area;
use test_support::wait_until;

pub(crate) const AREA: Area = (
    "shutdown",
    &[
        ("idle_connections_close_at_once", idle),
        ("idle_connections_wait_for_one_more_request_if_they_are_to", patient_idle),
        ("idle_connections_that_wait_end_with_their_keep_alive", impatient_idle),
        ("idle_connections_that_wait_are_closed_by_a_second_stop", patient_idle_forced),
        ("a_first_request_that_arrives_after_it_is_answered", first_request),
        ("a_head_that_has_begun_is_completed", half_a_head),
        ("it_waits_for_heads_until_their_deadline", late_heads),
        ("an_async_request_in_flight_is_answered_with_close", |backend| in_flight(backend, "/wait")),
        ("a_blocking_request_in_flight_is_answered_with_close", |backend| in_flight(backend, "/block")),
        ("a_body_in_flight_is_read_to_its_end", body_in_flight),
        ("requests_that_have_arrived_are_answered", arrived),
        ("no_connection_is_accepted_after_it", not_accepted),
        ("what_outlasts_the_grace_period_is_cut", grace_ends),
        ("force_cuts_what_is_in_flight", forced),
        ("force_cuts_a_request_whose_body_is_on_its_way", forced_during_a_body),
        ("on_stop_runs_at_the_end", on_stop),
        ("a_handler_is_told_when_it_begins", |backend| told(backend, &["/handler"])),
        ("a_stream_is_told_when_it_begins", |backend| told(backend, &["/stream"])),
        ("an_upgraded_connection_is_told_when_it_begins", |backend| told(backend, &["/upgraded"])),
        ("a_task_is_told_when_it_begins", |backend| told(backend, &["/task"])),
        ("all_of_these_are_told_when_it_begins", |backend| {
            told(backend, &["/stream", "/upgraded", "/task", "/stream", "/handler"]);
        }),
    ],
);

/// An upper bound on the time of a stop that waits for nothing. It is far below the grace periods of these tests.
const AT_ONCE: Duration = Duration::from_secs(5);

/// An application that reports when a request has begun. The handlers of `/wait` and `/block` end once the server has
/// been asked to stop.
fn app(runtime: Runtime, arrive: mpsc::Sender<()>, asked: Arc<AtomicBool>) -> Router {
    let (blocks, arrives, asks) = (arrive.clone(), arrive.clone(), asked.clone());
    let (forever, waits) = (runtime.clone(), runtime);
    Router::new()
        .get("/", sync(|_| "fine"))
        .get("/wait", move |_: Request| {
            arrive.send(()).expect("the test waits");
            let (waits, asked) = (waits.clone(), asked.clone());
            async move {
                while !asked.load(Ordering::SeqCst) {
                    waits.sleep(POLL).await;
                }
                "waited"
            }
        })
        .get(
            "/block",
            blocking(move |_| {
                blocks.send(()).expect("the test waits");
                while !asks.load(Ordering::SeqCst) {
                    std::thread::sleep(POLL);
                }
                "waited"
            }),
        )
        .get("/forever", move |_: Request| {
            arrives.send(()).expect("the test waits");
            let wait = forever.sleep(Duration::from_secs(600));
            async move {
                wait.await;
                "forever"
            }
        })
        .post("/echo", sync(|request: Request| request.into_body()))
}

/// How often a handler checks whether the server has been asked to stop.
const POLL: Duration = Duration::from_millis(2);

/// A running server, and what its handlers report and wait for.
struct Started {
    server: Running,
    arrived: Receiver<()>,
    /// Set once the server has been asked to stop.
    asked: Arc<AtomicBool>,
}

impl Started {
    /// Waits until a handler has begun, and asks the server to stop.
    fn stop_in_flight(&self) {
        self.arrived.recv().expect("the handler is called");
        self.server.shutdown().graceful();
        self.asked.store(true, Ordering::SeqCst);
    }
}

fn start(backend: Backend, config: Config) -> Started {
    let ((arrive, arrived), asked) = (mpsc::channel(), Arc::<AtomicBool>::default());
    let asks = asked.clone();
    let server = Running::start(backend, config, move |runtime| app(runtime, arrive, asks));
    Started { server, arrived, asked }
}

/// Stops the server, and checks that this waits for nothing.
fn stop_at_once(server: Running) -> Report {
    let began = Instant::now();
    let report = server.stop();
    assert!(began.elapsed() < AT_ONCE, "it took {:?}", began.elapsed());
    report
}

fn patient(backend: Backend) -> Config {
    let mut config = few_workers(backend);
    (config.keep_alive, config.header_timeout) = (Duration::from_secs(600), Duration::from_secs(600));
    config.graceful_timeout = Duration::from_secs(15);
    config
}

fn idle(backend: Backend) {
    let Started { server, .. } = start(backend, patient(backend));
    let mut idle: Vec<_> = (0..20).map(|_| server.client()).collect();
    for client in &mut idle {
        assert_eq!(client.get("/").text(), "fine");
    }
    let report = stop_at_once(server);
    assert_eq!((report.finished, report.cut), (0, 0));
    idle.iter_mut().for_each(Client::expect_end);
}

fn patient_idle(backend: Backend) {
    let mut config = patient(backend);
    config.drain_idle = true;
    let Started { server, .. } = start(backend, config);
    let mut idle: Vec<_> = (0..20).map(|_| server.client()).collect();
    for client in &mut idle {
        assert!(!client.get("/").closes());
    }
    server.shutdown().graceful();
    for client in &mut idle {
        let answer = client.get("/");
        assert!(answer.text() == "fine" && answer.closes(), "{answer:?}");
        client.expect_end();
    }
    let report = stop_at_once(server);
    assert_eq!((report.finished, report.cut), (20, 0));
}

fn impatient_idle(backend: Backend) {
    let mut config = patient(backend);
    (config.drain_idle, config.keep_alive) = (true, Duration::from_millis(50));
    let Started { server, .. } = start(backend, config);
    let mut client = server.client();
    assert_eq!(client.get("/").text(), "fine");
    let report = stop_at_once(server);
    assert_eq!((report.finished, report.cut), (0, 0));
    client.expect_end();
}

fn patient_idle_forced(backend: Backend) {
    let mut config = patient(backend);
    config.drain_idle = true;
    let Started { server, .. } = start(backend, config);
    let mut client = server.client();
    assert_eq!(client.get("/").text(), "fine");
    let shutdown = server.shutdown();
    shutdown.graceful();
    shutdown.force();
    let report = stop_at_once(server);
    assert_eq!((report.finished, report.cut), (0, 0));
    assert_eq!(client.rest(), b"");
}

fn first_request(backend: Backend) {
    let Started { server, .. } = start(backend, patient(backend));
    let mut silent: Vec<_> = (0..5).map(|_| server.client()).collect();
    // The server accepts in order, so it has accepted all of them when it answers a later connection.
    assert_eq!(server.get("/").text(), "fine");
    server.shutdown().graceful();
    for client in &mut silent {
        let answer = client.get("/");
        assert!(answer.text() == "fine" && answer.closes(), "{answer:?}");
        client.expect_end();
    }
    assert_eq!(stop_at_once(server).finished, 5);
}

fn half_a_head(backend: Backend) {
    let Started { server, .. } = start(backend, patient(backend));
    let (mut first, mut next) = (server.client(), server.client());
    assert_eq!(next.get("/").text(), "fine");
    for client in [&mut first, &mut next] {
        client.send("GET / HTTP/1.1\r\nHo");
    }
    assert_eq!(server.get("/").text(), "fine");
    server.shutdown().graceful();
    for client in [&mut first, &mut next] {
        client.send("st: test\r\n\r\n");
        let answer = client.answer();
        assert!(answer.text() == "fine" && answer.closes(), "{answer:?}");
        client.expect_end();
    }
    assert_eq!(stop_at_once(server).finished, 2);
}

fn late_heads(backend: Backend) {
    let mut config = patient(backend);
    config.header_timeout = Duration::from_millis(500);
    let Started { server, .. } = start(backend, config);
    let (mut silent, mut half) = (server.client(), server.client());
    half.send("GET / HTTP/1.1\r\nHo");
    assert_eq!(server.get("/").text(), "fine");
    let report = stop_at_once(server);
    assert_eq!((report.finished, report.cut, report.refused), (0, 0, 1));
    assert_eq!(silent.rest(), b"");
    assert_eq!(half.answer().status, 408);
}

fn in_flight(backend: Backend, path: &str) {
    let started = start(backend, patient(backend));
    let mut client = started.server.client();
    client.send_get(path);
    started.stop_in_flight();
    let answer = client.answer();
    assert_eq!(answer.said(), (200, "waited".into()));
    assert!(answer.closes(), "{answer:?}");
    client.expect_end();
    let report = stop_at_once(started.server);
    assert_eq!((report.finished, report.cut), (1, 0));
}

fn body_in_flight(backend: Backend) {
    let mut config = patient(backend);
    config.body_buffer = 0;
    let Started { server, .. } = start(backend, config);
    let mut client = server.client();
    client.send("POST /echo HTTP/1.1\r\nHost: test\r\nContent-Length: 10\r\n\r\n12345");
    // The head of the answer is sent before the stop, so it does not announce it.
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n12345") {
        head.extend(client.exactly(1).expect("the answer begins"));
    }
    server.shutdown().graceful();
    client.send("67890");
    assert_eq!(client.exactly(5).expect("the answer goes on"), b"67890");
    client.expect_end();
    stop_at_once(server);
}

fn arrived(backend: Backend) {
    let started = start(backend, patient(backend));
    let mut client = started.server.client();
    client.send("GET /wait HTTP/1.1\r\nHost: test\r\n\r\nGET / HTTP/1.1\r\nHost: test\r\n\r\n");
    started.stop_in_flight();
    assert_eq!(client.answer().said(), (200, "waited".into()));
    let last = client.answer();
    assert_eq!(last.said(), (200, "fine".into()));
    assert!(last.closes());
    client.expect_end();
    stop_at_once(started.server);
}

fn not_accepted(backend: Backend) {
    let Started { server, .. } = start(backend, patient(backend));
    let address = server.addr();
    assert_eq!(server.get("/").text(), "fine");
    stop_at_once(server);
    assert!(TcpStream::connect(address).is_err(), "the listener is closed");
}

fn grace_ends(backend: Backend) {
    let mut config = patient(backend);
    config.graceful_timeout = Duration::from_millis(200);
    let Started { server, arrived, .. } = start(backend, config);
    let mut client = server.client();
    client.send_get("/forever");
    arrived.recv().expect("the handler is called");
    let began = Instant::now();
    let report = stop_at_once(server);
    assert!(began.elapsed() >= Duration::from_millis(200), "it took {:?}", began.elapsed());
    assert_eq!((report.finished, report.cut), (0, 1));
    assert_eq!(client.rest(), b"");
}

fn forced(backend: Backend) {
    let Started { server, arrived, .. } = start(backend, patient(backend));
    let mut client = server.client();
    client.send_get("/forever");
    arrived.recv().expect("the handler is called");
    server.shutdown().force();
    let report = stop_at_once(server);
    assert_eq!((report.finished, report.cut), (0, 1));
    assert_eq!(client.rest(), b"");
}

fn forced_during_a_body(backend: Backend) {
    const PART: &str = "POST / HTTP/1.1\r\nHost: test\r\nContent-Length: 10\r\n\r\n12345";
    let (keep, runtimes) = mpsc::channel();
    let server = Running::start(backend, patient(backend), move |runtime| {
        keep.send(runtime).expect("the test waits");
        let read = async |request: Request| match request.into_body().bytes(10).await {
            Ok(body) => body.len().to_string(),
            Err(error) => error.to_string(),
        };
        Router::new().post("/", read)
    });
    let runtime = runtimes.recv().expect("the application has started");
    let mut client = server.client();
    client.send(PART);
    wait_until("the part has arrived", || runtime.stats().bytes_received == PART.len() as u64);
    // The event loop that has counted the bytes passes them on in the same turn.
    std::thread::sleep(Duration::from_millis(20));
    server.shutdown().force();
    let report = stop_at_once(server);
    assert_eq!((report.finished, report.cut, report.refused), (0, 1, 0));
    assert_eq!(client.rest(), b"");
}

fn on_stop(backend: Backend) {
    let told = Arc::new(AtomicBool::new(false));
    let tell = told.clone();
    let app = App::new(|_| Router::new().get("/", sync(|_| "fine"))).on_stop(move || async move {
        tell.store(true, Ordering::SeqCst);
    });
    let server = TestServer::with_config(backend, few_workers(backend), app).expect("the server starts");
    assert_eq!(Client::connect(server.addr()).get("/").text(), "fine");
    assert!(!told.load(Ordering::SeqCst));
    server.stop().expect("the server ends without an error");
    assert!(told.load(Ordering::SeqCst));
}

/// Waits until the server begins to stop, which it must not have done at first.
fn until_stop(runtime: &Runtime, begin: &mpsc::Sender<()>) -> impl Future<Output = ()> + Send + use<> {
    let (mut stopping, begin) = (Box::pin(runtime.stopping()), begin.clone());
    async move {
        assert!(future::poll_once(&mut stopping).await.is_none(), "nobody has asked for a stop");
        begin.send(()).expect("the test waits");
        stopping.await;
    }
}

/// An application in which everything lasts until the server begins to stop.
fn told_app(runtime: Runtime, begin: mpsc::Sender<()>) -> Router {
    let tasks = runtime.clone();
    let stop = move || until_stop(&runtime, &begin);
    let (handler, streamed, upgraded) = (stop.clone(), stop.clone(), stop.clone());
    let upgraded = move |mut stream: Stream| {
        let stop = upgraded();
        async move {
            stop.await;
            let _ = stream.write_all(b"told").await;
            let _ = stream.close().await;
        }
    };
    let streamed = move |_| {
        let stop = streamed();
        Body::from_stream(stream::once_future(async move {
            stop.await;
            Ok::<_, Infallible>(Bytes::from_static(b"told"))
        }))
    };
    Router::new()
        .get("/handler", move |_: Request| {
            let stop = handler();
            async move {
                stop.await;
                "told"
            }
        })
        .get("/stream", sync(streamed))
        .get("/upgraded", sync(move |_| Response::upgrade(HeaderValue::from_static("x"), upgraded.clone())))
        .get("/task", move |_: Request| {
            tasks.spawn(stop()).detach();
            async { "told" }
        })
}

/// Checks that what `paths` begin ends when the server begins to stop, and that the stop then waits for nothing.
fn told(backend: Backend, paths: &[&str]) {
    let (begin, begun) = mpsc::channel();
    let server = Running::start(backend, patient(backend), move |runtime| told_app(runtime, begin));
    let begin = |path: &&str| {
        let mut client = server.client();
        client
            .send(format!("GET {path} HTTP/1.1\r\nHost: test\r\nConnection: upgrade\r\nUpgrade: x\r\n\r\n"));
        begun.recv_timeout(PATIENCE).expect("it begins");
        client
    };
    let clients: Vec<_> = paths.iter().map(begin).collect();
    stop_at_once(server);
    for (mut client, path) in clients.into_iter().zip(paths) {
        match *path {
            "/upgraded" => {
                assert_eq!(client.try_answer(true).expect("an answer").status, 101);
                assert_eq!(client.exactly(4).expect("the last bytes"), b"told");
            }
            _ => assert_eq!(client.answer().said(), (200, "told".into()), "{path}"),
        }
        client.expect_end();
    }
}
