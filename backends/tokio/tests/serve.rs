//! The tokio backend in both shapes: starting, serving, a handler that blocks, stopping.

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

/// Runs a server on a separate thread. Returns its address, its shutdown handle and the thread.
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

/// Sends a request and reads its response, whose body is `ok`.
fn request(peer: &mut TcpStream, path: &str) {
    send(peer, path);
    expect_ok(peer);
}

fn send(peer: &mut TcpStream, path: &str) {
    let request = format!("GET {path} HTTP/1.1\r\nHost: test\r\n\r\n");
    peer.write_all(request.as_bytes()).expect("the server reads");
}

/// Reads a response with the body `ok`.
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
fn a_number_of_threads_is_refused() {
    let mut config = Config::default();
    assert!(Tokio::default().check(&config).is_ok());
    config.threads = Some(1);
    assert!(matches!(Tokio::default().check(&config), Err(ServeError::Setting { backend: "tokio", .. })));
}

#[test]
fn many_connections_are_served_and_closed_by_a_stop() {
    for (backend, workers) in SHAPES {
        let app = App::new(|_| Router::new().get("/", sync(|_| "ok")).get("/later", async |_| "ok"));
        let (addr, shutdown, server) = serve(backend, config(workers), app);
        let mut peers: Vec<_> =
            (0..16).map(|_| TcpStream::connect(addr).expect("the server listens")).collect();
        for peer in &mut peers {
            request(peer, "/");
            request(peer, "/later");
        }
        shutdown.graceful();
        assert_eq!(outcome(server).expect("the server has run"), Report::default(), "{backend:?}");
        for peer in &mut peers {
            assert_eq!(peer.read(&mut [0]).expect("the connection is closed"), 0);
        }
        assert!(TcpStream::connect(addr).is_err(), "the listener is closed");
    }
}

#[test]
fn a_request_in_flight_is_answered_during_a_stop() {
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
        let mut peer = TcpStream::connect(addr).expect("the server listens");
        send(&mut peer, "/");
        arrived.recv().expect("the handler is called");
        shutdown.graceful();
        expect_ok(&mut peer);
        let report = outcome(server).expect("the server has run");
        assert_eq!((report.finished, report.cut), (1, 0), "{backend:?}");
    }
}

#[test]
fn a_request_in_flight_is_cut_at_the_end_of_the_grace_period() {
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
        let mut peer = TcpStream::connect(addr).expect("the server listens");
        send(&mut peer, "/");
        arrived.recv().expect("the handler is called");
        shutdown.graceful();
        let report = outcome(server).expect("the server has run");
        assert_eq!((report.finished, report.cut), (0, 1), "{backend:?}");
    }
}

#[test]
fn an_application_that_fails_to_start_is_reported() {
    for (backend, workers) in SHAPES {
        let app = App::start(|_| async { Err::<Router, _>("no database".into()) });
        let (_, _, server) = serve(backend, config(workers), app);
        let error = outcome(server).expect_err("the application fails");
        assert!(matches!(&error, ServeError::Start(why) if why.to_string() == "no database"), "{error}");
    }
}

#[test]
fn an_application_that_panics_during_its_start_is_reported() {
    let app = App::new(|_| -> Router { panic!("a bad route") });
    let (_, _, server) = serve(Tokio::default(), config(1), app);
    assert!(matches!(outcome(server), Err(ServeError::Start(_))));
}

#[test]
fn a_stop_ends_the_start_of_an_application_after_the_grace_period() {
    let app = App::start(|_| std::future::pending::<Result<Router, gearshift_core::BoxError>>());
    let mut config = config(1);
    config.graceful_timeout = Duration::from_millis(20);
    let (_, shutdown, server) = serve(Tokio::default(), config, app);
    shutdown.graceful();
    assert_eq!(outcome(server).expect("the server was stopped"), Report::default());
}

#[test]
fn a_stop_waits_for_tasks_and_runs_on_stop() {
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
        drop(TcpStream::connect(addr).expect("the server listens"));
        // The task reports only after the start, so the stop cannot come before it.
        let first = told.recv().expect("the task ends");
        shutdown.graceful();
        outcome(server).expect("the server has run");
        assert_eq!((first, told.recv()), ("task", Ok("stop")), "{backend:?}");
    }
}

#[test]
fn no_connection_is_accepted_beyond_the_maximum() {
    for (backend, workers) in [(Tokio::work_stealing(), 1), (Tokio::work_stealing(), 2)] {
        let mut config = config(workers);
        config.max_connections = 1;
        let (addr, shutdown, server) =
            serve(backend, config, App::new(|_| Router::new().get("/", sync(|_| "ok"))));
        let mut first = TcpStream::connect(addr).expect("the server listens");
        request(&mut first, "/");
        let mut second = TcpStream::connect(addr).expect("the kernel queues it");
        send(&mut second, "/");
        request(&mut first, "/");
        second.set_nonblocking(true).expect("the socket works");
        assert!(second.read(&mut [0]).is_err(), "the second connection waits");
        second.set_nonblocking(false).expect("the socket works");
        drop(first);
        expect_ok(&mut second);
        shutdown.graceful();
        outcome(server).expect("the server has run");
    }
}

#[test]
fn a_connection_survives_a_handler_that_blocks_its_thread_beyond_keep_alive() {
    let (release, held) = mpsc::channel::<()>();
    let (arrive, arrived) = mpsc::channel();
    let held = Mutex::new(held);
    let app = App::new(move |_| {
        Router::new().get("/", sync(|_| "ok")).get(
            "/hold",
            sync(move |_| {
                arrive.send(()).expect("the test waits");
                held.lock().expect("one handler runs at a time").recv().expect("the test releases it");
                "ok"
            }),
        )
    });
    let mut config = config(1);
    config.keep_alive = Duration::from_secs(1);
    let (addr, shutdown, server) = serve(Tokio::default(), config, app);
    let mut peer = TcpStream::connect(addr).expect("the server listens");
    request(&mut peer, "/");
    let mut holder = TcpStream::connect(addr).expect("the server listens");
    send(&mut holder, "/hold");
    arrived.recv().expect("the handler is called");
    send(&mut peer, "/");
    // The keep-alive deadline of the first connection passes while its second request is unread.
    std::thread::sleep(Duration::from_millis(1100));
    release.send(()).expect("the handler waits");
    expect_ok(&mut holder);
    expect_ok(&mut peer);
    request(&mut peer, "/");
    shutdown.graceful();
    outcome(server).expect("the server has run");
}

#[test]
fn a_runtime_works_on_threads_that_the_backend_does_not_own() {
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
                + inner.spawn(async { 5 }).await.expect("the task ends");
            let stream = inner.connect(&addr.to_string()).await.expect("the server listens");
            (sum, format!("{stream:?}").is_empty())
        });
        assert_eq!(answered, (10, false));
        shutdown.graceful();
        outcome(server).expect("the server has run");
    }
}
