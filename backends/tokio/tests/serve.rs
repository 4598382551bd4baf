//! Tokio as a backend, in both shapes: starting, serving, being held up, stopping.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::{Mutex, mpsc};
use std::thread::JoinHandle;
use std::time::Duration;

use gearshift_core::{
    App, Backend, Config, Endpoint, Report, Request, Router, ServeError, Server, Shutdown, sync,
};
use gearshift_tokio::Tokio;

const SHAPES: [(Tokio, usize); 4] = [
    (Tokio::work_stealing(), 1),
    (Tokio::work_stealing(), 2),
    (Tokio::per_core(), 1),
    (Tokio::per_core(), 3),
];

type Outcome = Result<Report, ServeError>;

fn config(workers: usize) -> Config {
    let mut config = Config::default();
    config.workers = Some(workers);
    config
}

/// Runs a server on a thread.
fn serve(backend: Tokio, config: Config, app: App) -> (SocketAddr, Shutdown, JoinHandle<Outcome>) {
    let server = Server::bind(&["127.0.0.1:0".parse().expect("an address")], config).expect("a free port");
    let addr = match server.endpoints().next() {
        Some(Endpoint::Tcp(addr)) => *addr,
        other => panic!("not a TCP listener: {other:?}"),
    };
    let shutdown = server.shutdown();
    (addr, shutdown, std::thread::spawn(move || backend.serve(server, app)))
}

fn outcome(server: JoinHandle<Outcome>) -> Outcome {
    server.join().expect("the backend does not panic")
}

/// Sends a request and reads the whole answer, whose body is `ok`.
fn ask(peer: &mut TcpStream, path: &str) {
    send(peer, path);
    expect_ok(peer);
}

fn send(peer: &mut TcpStream, path: &str) {
    let request = format!("GET {path} HTTP/1.1\r\nHost: test\r\n\r\n");
    peer.write_all(request.as_bytes()).expect("the server reads");
}

fn expect_ok(peer: &mut TcpStream) {
    let mut answer = Vec::new();
    while !answer.ends_with(b"\r\n\r\nok") {
        let mut byte = [0];
        let n = peer.read(&mut byte).expect("the server answers");
        assert_ne!(n, 0, "closed after {:?}", String::from_utf8_lossy(&answer));
        answer.push(byte[0]);
    }
    assert!(answer.starts_with(b"HTTP/1.1 200 "), "{}", String::from_utf8_lossy(&answer));
}

#[test]
fn refuses_a_number_of_threads() {
    let mut config = Config::default();
    assert!(Tokio::default().check(&config).is_ok());
    config.threads = Some(1);
    assert!(matches!(Tokio::default().check(&config), Err(ServeError::Setting { backend: "tokio", .. })));
}

#[test]
fn serves_many_connections_and_stops() {
    for (backend, workers) in SHAPES {
        let app = App::new(|_| Router::new().get("/", sync(|_| "ok")).get("/later", async |_| "ok"));
        let (addr, shutdown, server) = serve(backend, config(workers), app);
        let mut peers: Vec<_> = (0..16).map(|_| TcpStream::connect(addr).expect("it listens")).collect();
        for peer in &mut peers {
            ask(peer, "/");
            ask(peer, "/later");
        }
        shutdown.graceful();
        assert_eq!(outcome(server).expect("it ran"), Report::default(), "{backend:?}");
        for peer in &mut peers {
            assert_eq!(peer.read(&mut [0]).expect("an end"), 0);
        }
        assert!(TcpStream::connect(addr).is_err(), "the listener is closed");
    }
}

#[test]
fn answers_what_is_in_flight_when_it_stops() {
    for (backend, workers) in SHAPES {
        let (arrive, arrived) = mpsc::channel();
        let app = App::new(move |runtime| {
            Router::new().get("/", move |_: Request| {
                arrive.send(()).expect("the test waits");
                let sleep = runtime.sleep(Duration::from_millis(50));
                async move {
                    sleep.await;
                    "ok"
                }
            })
        });
        let (addr, shutdown, server) = serve(backend, config(workers), app);
        let mut peer = TcpStream::connect(addr).expect("it listens");
        send(&mut peer, "/");
        arrived.recv().expect("the handler is called");
        shutdown.graceful();
        expect_ok(&mut peer);
        let report = outcome(server).expect("it ran");
        assert_eq!((report.finished, report.cut), (1, 0), "{backend:?}");
    }
}

#[test]
fn cuts_what_is_in_flight_when_its_time_is_over() {
    for (backend, workers) in SHAPES {
        let (arrive, arrived) = mpsc::channel();
        let app = App::new(move |_| {
            Router::new().get("/", move |_: Request| {
                arrive.send(()).expect("the test waits");
                std::future::pending::<&'static str>()
            })
        });
        let mut config = config(workers);
        config.graceful_timeout = Duration::from_millis(20);
        let (addr, shutdown, server) = serve(backend, config, app);
        let mut peer = TcpStream::connect(addr).expect("it listens");
        send(&mut peer, "/");
        arrived.recv().expect("the handler is called");
        shutdown.graceful();
        let report = outcome(server).expect("it ran");
        assert_eq!((report.finished, report.cut), (0, 1), "{backend:?}");
    }
}

#[test]
fn reports_an_application_that_does_not_start() {
    for (backend, workers) in SHAPES {
        let app = App::start(|_| async { Err::<Router, _>("no database".into()) });
        let (_, _, server) = serve(backend, config(workers), app);
        let error = outcome(server).expect_err("it cannot start");
        assert!(matches!(&error, ServeError::Start(why) if why.to_string() == "no database"), "{error}");
    }
}

#[test]
fn reports_an_application_that_panics_while_it_starts() {
    let app = App::new(|_| -> Router { panic!("a bad route") });
    let (_, _, server) = serve(Tokio::default(), config(1), app);
    assert!(matches!(outcome(server), Err(ServeError::Start(_))));
}

#[test]
fn stops_while_the_application_starts() {
    let app = App::start(|_| std::future::pending::<Result<Router, gearshift_core::BoxError>>());
    let (_, shutdown, server) = serve(Tokio::default(), config(1), app);
    shutdown.graceful();
    assert_eq!(outcome(server).expect("it was stopped"), Report::default());
}

#[test]
fn runs_what_is_to_be_done_at_the_end_and_waits_for_tasks() {
    for (backend, workers) in SHAPES {
        let (tell, told) = mpsc::channel();
        let (task, stop) = (tell.clone(), tell);
        let app = App::new(move |runtime| {
            let sleep = runtime.sleep(Duration::from_millis(20));
            let ending = async move {
                sleep.await;
                task.send("task").expect("the test listens");
            };
            runtime.spawn(ending).detach();
            Router::new()
        });
        let app = app.on_stop(move || async move { stop.send("stop").expect("the test listens") });
        let (addr, shutdown, server) = serve(backend, config(workers), app);
        drop(TcpStream::connect(addr).expect("it listens"));
        // A stop before the application has started would find nothing to do.
        let first = told.recv().expect("the task ends");
        shutdown.graceful();
        outcome(server).expect("it ran");
        assert_eq!((first, told.recv()), ("task", Ok("stop")), "{backend:?}");
    }
}

#[test]
fn accepts_no_more_than_it_has_room_for() {
    for (backend, workers) in [(Tokio::work_stealing(), 1), (Tokio::work_stealing(), 2)] {
        let mut config = config(workers);
        config.max_connections = 1;
        let (addr, shutdown, server) =
            serve(backend, config, App::new(|_| Router::new().get("/", sync(|_| "ok"))));
        let mut first = TcpStream::connect(addr).expect("it listens");
        ask(&mut first, "/");
        let mut second = TcpStream::connect(addr).expect("the kernel queues it");
        send(&mut second, "/");
        ask(&mut first, "/");
        second.set_nonblocking(true).expect("a socket");
        assert!(second.read(&mut [0]).is_err(), "the second one has to wait");
        second.set_nonblocking(false).expect("a socket");
        drop(first);
        expect_ok(&mut second);
        shutdown.graceful();
        outcome(server).expect("it ran");
    }
}

#[test]
fn a_connection_outlives_a_handler_that_held_up_its_thread() {
    let (release, held) = mpsc::channel::<()>();
    let (arrive, arrived) = mpsc::channel();
    let held = Mutex::new(held);
    let app = App::new(move |_| {
        Router::new().get("/", sync(|_| "ok")).get(
            "/hold",
            sync(move |_| {
                arrive.send(()).expect("the test waits");
                held.lock().expect("one at a time").recv().expect("the test releases it");
                "ok"
            }),
        )
    });
    let mut config = config(1);
    config.keep_alive = Duration::from_secs(1);
    let (addr, shutdown, server) = serve(Tokio::default(), config, app);
    let mut peer = TcpStream::connect(addr).expect("it listens");
    ask(&mut peer, "/");
    let mut holder = TcpStream::connect(addr).expect("it listens");
    send(&mut holder, "/hold");
    arrived.recv().expect("the handler is called");
    send(&mut peer, "/");
    // Longer than keep-alive: the deadline of the wait that was answered passes while nobody looks.
    std::thread::sleep(Duration::from_millis(1100));
    release.send(()).expect("the handler waits");
    expect_ok(&mut holder);
    expect_ok(&mut peer);
    ask(&mut peer, "/");
    shutdown.graceful();
    outcome(server).expect("it ran");
}

#[test]
fn a_runtime_can_be_asked_from_threads_of_the_program() {
    for (backend, workers) in SHAPES {
        let (give, given) = mpsc::channel();
        let app = App::new(move |runtime| {
            give.send(runtime).expect("the test waits");
            Router::new().get("/", sync(|_| "ok"))
        });
        let (addr, shutdown, server) = serve(backend, config(workers), app);
        let runtime = given.recv().expect("the application starts");
        let inner = runtime.clone();
        let answered = runtime.block_on(async move {
            inner.sleep(Duration::from_millis(1)).await;
            let sum = inner.compute(|| 2).await
                + inner.blocking(|| 3).await
                + inner.spawn(async { 5 }).await.expect("it ends");
            let stream = inner.connect(&addr.to_string()).await.expect("it listens");
            (sum, format!("{stream:?}").is_empty())
        });
        assert_eq!(answered, (10, false));
        shutdown.graceful();
        outcome(server).expect("it ran");
    }
}
