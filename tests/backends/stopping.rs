//! Stops that race with something: the start, clients that arrive or leave, handlers and applications that never end.

use std::io::Read;
use std::net::TcpStream;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError, mpsc};
use std::thread;
use std::time::{Duration, Instant};

use gearshift::{App, Backend, Config, Report, Request, Router, Runtime, ServeError, Server, blocking, sync};
use test_support::app::ON_PURPOSE;
use test_support::backend::few_workers;
use test_support::client::Client;
use test_support::server::{Launched, any_port, hello, one};
use test_support::suite::Area;
use test_support::{PATIENCE, wait_until};

pub(crate) const AREA: Area = (
    "stopping",
    &[
        ("a_stop_without_clients_ends_at_once", no_clients),
        ("a_stop_right_after_the_start_or_before_it_ends_at_once", right_after_the_start),
        ("a_stop_right_after_a_handler_that_waited_ends_at_once", right_after_a_wait),
        ("a_stop_closes_idle_connections_and_waits_for_first_requests", idle_and_silent),
        ("a_stop_ends_while_clients_leave", clients_leave),
        ("a_stop_under_load_cuts_no_response", under_load),
        ("the_backlog_is_served_beyond_max_connections", backlog),
        ("a_blocking_request_does_not_delay_the_backlog", backlog_at_once),
        ("a_request_in_flight_and_the_backlog_are_finished", in_flight_and_backlog),
        ("a_response_beside_an_unread_body_announces_the_close", unread_body),
        ("a_handler_that_never_ends_is_cut", never_ends),
        ("a_handler_that_does_not_return_is_abandoned", does_not_return),
        ("force_ends_a_wait_for_a_body", waits_for_a_body),
        ("background_tasks_are_awaited_and_then_dropped", background_tasks),
        ("the_threads_of_the_server_end", threads_end),
        ("on_stop_runs_after_the_connections", on_stop),
        ("on_stop_runs_in_a_server_that_is_stopped_before_it_starts", on_stop_before_the_start),
        ("on_stop_may_panic_or_never_end", on_stop_fails),
        ("an_application_that_never_starts_can_be_stopped", never_starts),
        ("an_application_that_starts_within_the_grace_period_serves_its_clients", starts_late),
        ("an_application_that_does_not_start_is_an_error", start_fails),
    ],
);

/// How often a stop is repeated whose races do not occur each time.
const ROUNDS: usize = 30;
const GET: &[u8] = b"GET / HTTP/1.1\r\nHost: test\r\n\r\n";
const GET_SLOW: &[u8] = b"GET /slow HTTP/1.1\r\nHost: test\r\n\r\n";
/// A grace period that is over soon.
const SHORT: Duration = Duration::from_millis(50);

/// Settings with a grace period that no test uses up.
fn patient(backend: Backend) -> Config {
    let mut config = few_workers(backend);
    config.graceful_timeout = PATIENCE;
    config
}

fn with_grace(backend: Backend, grace: Duration) -> Config {
    let mut config = few_workers(backend);
    config.graceful_timeout = grace;
    config
}

/// A handler's side of a [`Hold`].
#[derive(Clone)]
struct Held(Arc<(mpsc::Sender<()>, Mutex<mpsc::Receiver<()>>)>);

impl Held {
    /// Reports that a handler has begun, and blocks its thread until the test releases it.
    fn wait(&self) {
        let (begun, released) = &*self.0;
        let _ = begun.send(());
        let _ = released.lock().unwrap_or_else(PoisonError::into_inner).recv();
    }
}

/// Holds handlers back until a test releases them.
struct Hold {
    begun: mpsc::Receiver<()>,
    release: mpsc::Sender<()>,
}

impl Hold {
    fn new() -> (Hold, Held) {
        let (begin, begun) = mpsc::channel();
        let (release, released) = mpsc::channel();
        (Hold { begun, release }, Held(Arc::new((begin, Mutex::new(released)))))
    }

    fn expect_begun(&self) {
        self.begun.recv_timeout(PATIENCE).expect("a handler begins");
    }

    fn release(&self) {
        self.release.send(()).expect("a handler waits");
    }
}

/// `GET /` answers at once, `GET /slow` answers when its handler is released.
fn held_app(runtime: Runtime, held: Held) -> Router {
    let slow = move |_: Request| {
        held.wait();
        "done"
    };
    hello(runtime).get("/slow", blocking(slow))
}

fn no_clients(backend: Backend) {
    for _ in 0..ROUNDS {
        let server = Launched::hello(backend, patient(backend));
        // In some of the rounds the server has begun to wait.
        drop(server.client());
        server.stop();
    }
}

fn right_after_the_start(backend: Backend) {
    for _ in 0..ROUNDS {
        Launched::hello(backend, patient(backend)).stop();

        let server = Server::bind(&[any_port()], patient(backend)).expect("a free port");
        server.shutdown().graceful();
        let began = Instant::now();
        let report = backend.serve(server, App::new(hello)).expect("the server ends without an error");
        assert_eq!(report, Report::default());
        assert!(began.elapsed() < PATIENCE, "the grace period was used up");
    }
}

/// On a pool of one thread, the background thread waits for the events while the handler waits, and the thread of the
/// pool from then on. The stop meets the change.
fn right_after_a_wait(backend: Backend) {
    for round in 0..ROUNDS {
        let mut config = patient(backend);
        config.threads = config.threads.map(|_| 1);
        config.keep_alive = 2 * PATIENCE;
        let wait = async |request: Request| {
            request.runtime().sleep(Duration::from_millis(1)).await;
            "waited"
        };
        let server = Launched::start(backend, config, move |_| one(wait));
        let mut client = server.client();
        assert_eq!(client.get("/").text(), "waited");
        thread::sleep(Duration::from_micros(500) * u32::try_from(round % 10).unwrap_or(0));
        server.stop();
    }
}

fn idle_and_silent(backend: Backend) {
    for _ in 0..ROUNDS {
        let server = Launched::hello(backend, patient(backend));
        let mut idle: Vec<_> = (0..5).map(|_| server.client()).collect();
        let mut silent: Vec<_> = (0..5).map(|_| server.client()).collect();
        idle.iter_mut().for_each(|client| assert_eq!(client.get("/").status, 200));
        server.shutdown().graceful();
        idle.iter_mut().for_each(Client::expect_end);
        silent.iter_mut().for_each(expect_last_answer);
        let report = server.ended_gracefully();
        assert_eq!((report.finished, report.cut), (5, 0));
    }
}

/// Sends the first request of a connection during a stop, and expects its answer.
fn expect_last_answer(client: &mut Client) {
    client.send(GET);
    let answer = client.answer();
    assert_eq!(answer.said(), (200, "hi".into()));
    assert!(answer.closes(), "{answer:?}");
    client.expect_end();
}

fn clients_leave(backend: Backend) {
    for _ in 0..ROUNDS {
        let server = Launched::hello(backend, patient(backend));
        let mut clients: Vec<_> = (0..10).map(|_| server.client()).collect();
        clients.iter_mut().for_each(|client| assert_eq!(client.get("/").status, 200));
        let leaving = thread::spawn(move || drop(clients));
        server.stop();
        leaving.join().expect("sockets can be closed");
    }
}

fn under_load(backend: Backend) {
    for _ in 0..ROUNDS {
        let server = Launched::hello(backend, patient(backend));
        let (answered, answers) = mpsc::channel();
        let loads: Vec<_> = (0..4)
            .map(|_| {
                let (mut client, answered) = (server.client(), answered.clone());
                thread::spawn(move || {
                    while is_answered(&mut client) {
                        let _ = answered.send(());
                    }
                })
            })
            .collect();
        for _ in 0..100 {
            answers.recv_timeout(PATIENCE).expect("requests are answered");
        }
        server.stop();
        loads.into_iter().for_each(|load| load.join().expect("no answer is cut"));
    }
}

/// Sends a request. Returns whether it is answered, and panics if the answer is not complete.
fn is_answered(client: &mut Client) -> bool {
    use std::io::Write;
    if client.socket.write_all(GET).is_err() || !matches!(client.socket.peek(&mut [0]), Ok(1)) {
        return false;
    }
    assert_eq!(client.answer().said(), (200, "hi".into()));
    true
}

fn backlog(backend: Backend) {
    let (hold, held) = Hold::new();
    let mut config = patient(backend);
    config.max_connections = 1;
    config.header_timeout = 10 * PATIENCE;
    let server = Launched::start(backend, config, |runtime| held_app(runtime, held));
    let mut slow = server.client();
    slow.send(GET_SLOW);
    hold.expect_begun();
    // There are more than the server accepts in a turn.
    let mut waiting: Vec<_> = (0..200).map(|_| server.client()).collect();
    waiting.iter_mut().for_each(|client| client.send(GET));
    let mut silent: Vec<_> = (0..100).map(|_| server.client()).collect();
    server.shutdown().graceful();
    hold.release();
    assert_eq!(slow.answer().said(), (200, "done".into()));
    for client in &mut waiting {
        assert_eq!(client.answer().said(), (200, "hi".into()));
        client.expect_end();
    }
    wait_until("the listener is closed", || TcpStream::connect(server.addr()).is_err());
    silent.iter_mut().for_each(expect_last_answer);
    let report = server.ended_gracefully();
    assert_eq!((report.finished, report.cut), (301, 0));
}

fn backlog_at_once(backend: Backend) {
    let (hold, held) = Hold::new();
    let mut config = patient(backend);
    config.max_connections = 1;
    let server = Launched::start(backend, config, |runtime| held_app(runtime, held));
    let mut slow = server.client();
    slow.send(GET_SLOW);
    hold.expect_begun();
    let mut waiting: Vec<_> = (0..10).map(|_| server.client()).collect();
    waiting.iter_mut().for_each(|client| client.send(GET));
    server.shutdown().graceful();
    waiting.iter_mut().for_each(|client| assert_eq!(client.answer().status, 200));
    wait_until("the listener is closed", || TcpStream::connect(server.addr()).is_err());
    hold.release();
    assert_eq!(slow.answer().status, 200);
    server.ended_gracefully();
}

fn in_flight_and_backlog(backend: Backend) {
    let (begin, begun) = mpsc::channel();
    let asked = Arc::new(AtomicBool::new(false));
    let stops = asked.clone();
    let mut config = patient(backend);
    config.max_connections = 2;
    let server = Launched::start(backend, config, move |runtime| {
        hello(runtime.clone()).get("/slow", move |_: Request| {
            let (begin, runtime, stops) = (begin.clone(), runtime.clone(), stops.clone());
            async move {
                let _ = begin.send(());
                while !stops.load(Ordering::SeqCst) {
                    runtime.sleep(Duration::from_millis(2)).await;
                }
                "slow"
            }
        })
    });
    let (mut busy, mut idle) = (server.client(), server.client());
    assert_eq!(idle.get("/").text(), "hi");
    busy.send(GET_SLOW);
    begun.recv_timeout(PATIENCE).expect("the handler begins");
    let mut queued = server.client();
    queued.send(GET);
    server.shutdown().graceful();
    asked.store(true, Ordering::SeqCst);
    idle.expect_end();
    for (client, text) in [(&mut queued, "hi"), (&mut busy, "slow")] {
        let answer = client.answer();
        assert_eq!(answer.said(), (200, text.into()));
        assert!(answer.closes(), "{answer:?}");
        client.expect_end();
    }
    let addr = server.addr();
    let report = server.ended().expect("the server ends without an error");
    assert_eq!((report.finished, report.cut), (2, 0));
    assert!(TcpStream::connect(addr).is_err(), "the listener is closed");
}

/// The rest of the body arrives after the response. A reset of the connection could destroy the response.
fn unread_body(backend: Backend) {
    const BODY: usize = 200_000;
    let (hold, held) = Hold::new();
    let server = Launched::start(backend, patient(backend), move |_| {
        let handler = move |_: Request| {
            held.wait();
            "done"
        };
        Router::new().post("/", blocking(handler))
    });
    let mut client = server.client();
    client.send(format!("POST / HTTP/1.1\r\nHost: test\r\nContent-Length: {BODY}\r\n\r\n"));
    client.send(vec![b'x'; BODY / 2]);
    hold.expect_begun();
    server.shutdown().graceful();
    hold.release();
    let answer = client.answer();
    assert!(answer.text() == "done" && answer.closes());
    client.send(vec![b'x'; BODY / 2]);
    client.half_close();
    client.expect_end();
    server.stop();
}

fn never_ends(backend: Backend) {
    for force in [false, true] {
        let (begin, begun) = mpsc::channel();
        let config = if force { patient(backend) } else { with_grace(backend, SHORT) };
        let server = Launched::start(backend, config, move |_| {
            one(move |_: Request| {
                let _ = begin.send(());
                std::future::pending::<&str>()
            })
        });
        let mut client = server.client();
        client.send(GET);
        begun.recv_timeout(PATIENCE).expect("the handler begins");
        let asked = Instant::now();
        if force {
            server.shutdown().force()
        } else {
            server.shutdown().graceful()
        }
        assert_eq!(client.rest(), b"");
        let report = server.ended().expect("the server ends without an error");
        assert_eq!((report.finished, report.cut), (0, 1));
        assert!(asked.elapsed() < PATIENCE / 2, "it took {:?}", asked.elapsed());
        assert!(force || asked.elapsed() >= SHORT, "it took only {:?}", asked.elapsed());
    }
}

fn does_not_return(backend: Backend) {
    let (hold, held) = Hold::new();
    let mut config = with_grace(backend, SHORT);
    // With a second event loop, the server has one that is not held up.
    if config.threads.is_none() {
        config.workers = Some(2);
    }
    if backend.check(&config).is_err() {
        config.workers = None;
    }
    let server = Launched::start(backend, config, move |_| one(sync(move |_| held.wait())));
    let mut client = server.client();
    client.send(GET);
    hold.expect_begun();
    let asked = Instant::now();
    server.shutdown().graceful();
    let report = server.ended().expect("the server ends without an error");
    assert_eq!(report.cut, 1, "the request was not answered");
    assert!(asked.elapsed() < PATIENCE / 2, "it took {:?}", asked.elapsed());
    hold.release();
}

fn waits_for_a_body(backend: Backend) {
    let (begin, begun) = mpsc::channel();
    let mut config = patient(backend);
    config.body_buffer = 0;
    let server = Launched::start(backend, config, move |_| {
        let read = move |request: Request| {
            let _ = begin.send(());
            let _ = request.into_body().reader().read_to_end(&mut Vec::new());
            "never sent"
        };
        Router::new().post("/", blocking(read))
    });
    let mut client = server.client();
    client.send("POST / HTTP/1.1\r\nHost: test\r\nContent-Length: 10\r\n\r\n");
    begun.recv_timeout(PATIENCE).expect("the handler begins");
    let began = Instant::now();
    server.shutdown().force();
    server.ended().expect("the server ends without an error");
    assert!(began.elapsed() < PATIENCE / 2, "it took {:?}", began.elapsed());
}

fn background_tasks(backend: Backend) {
    for (ends, grace) in [(true, PATIENCE), (false, Duration::from_millis(500))] {
        let (end, ended) = mpsc::channel();
        let server = Launched::start(backend, with_grace(backend, grace), move |runtime| {
            let sleep = runtime.sleep(if ends { Duration::from_millis(100) } else { 10 * PATIENCE });
            let task = async move {
                sleep.await;
                let _ = end.send(());
            };
            runtime.spawn(task).detach();
            hello(runtime)
        });
        assert_eq!(server.client().get("/").status, 200);
        server.shutdown().graceful();
        server.ended().expect("the server ends without an error");
        assert_eq!(ended.recv_timeout(PATIENCE).is_ok(), ends);
    }
}

/// A thread that ends drops its tasks. Neither a client nor a timer ends its wait instead of the stop.
fn threads_end(backend: Backend) {
    let mut config = patient(backend);
    config.keep_alive = 100 * PATIENCE;
    let (end, ended) = mpsc::channel::<()>();
    let server = Launched::start(backend, config, move |runtime| {
        let task = async move {
            std::future::pending::<()>().await;
            drop(end);
        };
        runtime.spawn(task).detach();
        hello(runtime)
    });
    assert_eq!(server.client().get("/").status, 200);
    server.shutdown().force();
    server.ended().expect("the server ends without an error");
    assert_eq!(ended.recv_timeout(PATIENCE), Err(mpsc::RecvTimeoutError::Disconnected));
}

fn on_stop(backend: Backend) {
    let stopped = Arc::new(AtomicBool::new(false));
    let stops = stopped.clone();
    let app = App::new(hello).on_stop(async move || stops.store(true, Ordering::SeqCst));
    let server = Launched::app(backend, patient(backend), app);
    let mut client = server.client();
    assert_eq!(client.get("/").status, 200);
    assert!(!stopped.load(Ordering::SeqCst));
    server.stop();
    assert!(stopped.load(Ordering::SeqCst));
}

fn on_stop_before_the_start(backend: Backend) {
    let server = Server::bind(&[any_port()], patient(backend)).expect("a free port");
    let (stop, stopped) = mpsc::channel();
    let app = App::new(hello).on_stop(async move || _ = stop.send(()));
    server.shutdown().graceful();
    backend.serve(server, app).expect("the server ends without an error");
    stopped.try_recv().expect("on_stop has run");
}

#[expect(clippy::panic)]
fn on_stop_fails(backend: Backend) {
    let panics = App::new(hello).on_stop(async || panic!("on_stop panics, {ON_PURPOSE}"));
    Launched::app(backend, patient(backend), panics).stop();

    let hangs = || App::new(hello).on_stop(std::future::pending);
    let server = Launched::app(backend, with_grace(backend, Duration::from_secs(2)), hangs());
    assert_eq!(server.client().get("/").status, 200);
    server.stop();

    let server = Launched::app(backend, patient(backend), hangs());
    server.shutdown().graceful();
    server.shutdown().force();
    let began = Instant::now();
    server.ended().expect("the server ends without an error");
    assert!(began.elapsed() < PATIENCE / 2, "it took {:?}", began.elapsed());
}

fn never_starts(backend: Backend) {
    for force in [false, true] {
        let config = if force { patient(backend) } else { with_grace(backend, SHORT) };
        let stops = Arc::new(AtomicUsize::new(0));
        let counted = stops.clone();
        let app = App::start(|_| std::future::pending::<Result<Router, _>>()).on_stop(async move || {
            counted.fetch_add(1, Ordering::SeqCst);
        });
        let server = Launched::app(backend, config, app);
        if force {
            server.shutdown().force()
        } else {
            server.shutdown().graceful()
        }
        let began = Instant::now();
        assert_eq!(server.ended().expect("the server ends without an error"), Report::default());
        assert!(began.elapsed() < PATIENCE / 2, "it took {:?}", began.elapsed());
        assert_eq!(stops.load(Ordering::SeqCst), 0, "an application that never started has nothing to stop");
    }
}

fn starts_late(backend: Backend) {
    let (release, released) = mpsc::channel::<()>();
    let app = App::start(async move |runtime: Runtime| {
        runtime.blocking(move || released.recv()).await?;
        Ok(hello(runtime))
    });
    let server = Launched::app(backend, patient(backend), app);
    let mut client = server.client();
    client.send(GET);
    server.shutdown().graceful();
    release.send(()).expect("the application waits");
    assert_eq!(client.answer().said(), (200, "hi".into()));
    client.expect_end();
    server.ended_gracefully();
}

fn start_fails(backend: Backend) {
    let app = App::start(async |_| Err::<Router, _>("no database".into()));
    match Launched::app(backend, patient(backend), app).ended() {
        Err(ServeError::Start(error)) => assert_eq!(error.to_string(), "no database"),
        other => panic!("the application did not start, but the server ended with {other:?}"),
    }
}
