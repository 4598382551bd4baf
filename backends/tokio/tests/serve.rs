//! The tokio backend in both shapes: starting, serving, a handler that blocks, stopping.

use std::collections::HashMap;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::os::unix::net::UnixStream;
use std::sync::{Arc, Mutex, mpsc};
use std::thread::{self, JoinHandle, ThreadId};
use std::time::{Duration, Instant};

use gearshift_core::{
    App, Backend, Bind, Config, Endpoint, Report, Request, Router, ServeError, Server, Shutdown, sync,
};
use gearshift_tokio::Tokio;

const SHAPES: [(Tokio, usize); 4] = [
    (Tokio::work_stealing(), 1),
    (Tokio::work_stealing(), 2),
    (Tokio::per_core(), 1),
    (Tokio::per_core(), 3),
];

/// A server on a separate thread.
struct Running {
    addr: SocketAddr,
    shutdown: Shutdown,
    thread: JoinHandle<Result<Report, ServeError>>,
}

impl Running {
    fn start((backend, workers): (Tokio, usize), app: App) -> Running {
        Running::with((backend, workers), app, |_| {})
    }

    fn with((backend, workers): (Tokio, usize), app: App, set: impl FnOnce(&mut Config)) -> Running {
        let mut config = Config::default();
        config.workers = Some(workers);
        set(&mut config);
        let server =
            Server::bind(&["127.0.0.1:0".parse().expect("an address")], config).expect("a free port");
        let addr = match server.endpoints().next() {
            Some(Endpoint::Tcp(addr)) => *addr,
            other => panic!("not a TCP listener: {other:?}"),
        };
        let shutdown = server.shutdown();
        Running { addr, shutdown, thread: thread::spawn(move || backend.serve(server, app)) }
    }

    fn connect(&self) -> TcpStream {
        TcpStream::connect(self.addr).expect("the server listens")
    }

    fn ended(self) -> Result<Report, ServeError> {
        self.thread.join().expect("the backend does not panic")
    }

    fn stop(self) -> Report {
        self.shutdown.graceful();
        self.ended().expect("the server has run")
    }
}

/// Sends a request and reads its response, whose body is `ok`.
fn request(peer: &mut (impl Read + Write), path: &str) {
    send(peer, path);
    expect_ok(peer);
}

fn send(peer: &mut impl Write, path: &str) {
    let request = format!("GET {path} HTTP/1.1\r\nHost: test\r\n\r\n");
    peer.write_all(request.as_bytes()).expect("the server reads");
}

/// Reads a response with the body `ok`.
fn expect_ok(peer: &mut impl Read) {
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
fn many_connections_are_served_and_closed_by_a_stop() {
    for shape in SHAPES {
        let app = App::new(|_| Router::new().get("/", sync(|_| "ok")).get("/later", async |_| "ok"));
        let server = Running::start(shape, app);
        let addr = server.addr;
        let mut peers: Vec<_> = (0..16).map(|_| server.connect()).collect();
        for peer in &mut peers {
            request(peer, "/");
            request(peer, "/later");
        }
        assert_eq!(server.stop(), Report::default(), "{shape:?}");
        for peer in &mut peers {
            assert_eq!(peer.read(&mut [0]).expect("the connection is closed"), 0);
        }
        assert!(TcpStream::connect(addr).is_err(), "the listener is closed");
    }
}

#[test]
fn a_request_in_flight_is_answered_during_a_stop_and_cut_at_the_end_of_the_grace_period() {
    for (shape, ends) in SHAPES.into_iter().flat_map(|shape| [(shape, true), (shape, false)]) {
        let (arrive, arrived) = mpsc::channel();
        let app = App::new(move |runtime| {
            Router::new().get("/", move |_: Request| {
                arrive.send(()).expect("the test waits");
                let sleep = runtime.sleep(Duration::from_millis(50));
                async move {
                    sleep.await;
                    if !ends {
                        std::future::pending::<()>().await;
                    }
                    "ok"
                }
            })
        });
        let server = Running::with(shape, app, |config| {
            if !ends {
                config.graceful_timeout = Duration::from_millis(20);
            }
        });
        let mut peer = server.connect();
        send(&mut peer, "/");
        arrived.recv().expect("the handler is called");
        server.shutdown.graceful();
        if ends {
            expect_ok(&mut peer);
        }
        let report = server.ended().expect("the server has run");
        assert_eq!((report.finished, report.cut), (u64::from(ends), u64::from(!ends)), "{shape:?}");
    }
}

#[test]
fn an_application_that_fails_or_panics_during_its_start_is_reported() {
    for shape in SHAPES {
        let fails = App::start(|_| async { Err::<Router, _>("no database".into()) });
        let error = Running::start(shape, fails).ended().expect_err("the application fails");
        assert!(matches!(&error, ServeError::Start(why) if why.to_string() == "no database"), "{error}");
        let panics = App::new(|_| -> Router { panic!("a bad route") });
        assert!(matches!(Running::start(shape, panics).ended(), Err(ServeError::Start(_))));
    }
}

#[test]
fn a_stop_waits_for_tasks_and_runs_on_stop() {
    for shape in SHAPES {
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
        let server = Running::start(shape, app);
        drop(server.connect());
        // The task reports only after the start, so the stop cannot come before it.
        let first = told.recv().expect("the task ends");
        server.stop();
        assert_eq!((first, told.recv()), ("task", Ok("stop")), "{shape:?}");
    }
}

#[test]
fn no_connection_is_accepted_beyond_the_maximum() {
    for shape in [(Tokio::work_stealing(), 1), (Tokio::work_stealing(), 2)] {
        let app = App::new(|_| Router::new().get("/", sync(|_| "ok")));
        let server = Running::with(shape, app, |config| config.max_connections = 1);
        let mut first = server.connect();
        request(&mut first, "/");
        // The kernel queues the second connection.
        let mut second = server.connect();
        send(&mut second, "/");
        request(&mut first, "/");
        second.set_nonblocking(true).expect("the socket works");
        assert!(second.read(&mut [0]).is_err(), "the second connection waits");
        second.set_nonblocking(false).expect("the socket works");
        drop(first);
        expect_ok(&mut second);
        server.stop();
    }
}

#[test]
fn a_connection_survives_a_handler_that_blocks_its_thread_beyond_keep_alive() {
    let (release, held) = mpsc::channel::<()>();
    let (arrive, arrived) = mpsc::channel();
    let held = Mutex::new(held);
    let hold = sync(move |_| {
        arrive.send(()).expect("the test waits");
        held.lock().expect("one handler runs at a time").recv().expect("the test releases it");
        "ok"
    });
    let app = App::new(move |_| Router::new().get("/", sync(|_| "ok")).get("/hold", hold));
    let server =
        Running::with((Tokio::default(), 1), app, |config| config.keep_alive = Duration::from_secs(1));
    let mut peer = server.connect();
    request(&mut peer, "/");
    let mut holder = server.connect();
    send(&mut holder, "/hold");
    arrived.recv().expect("the handler is called");
    send(&mut peer, "/");
    // The keep-alive deadline of the first connection passes while its second request is unread.
    thread::sleep(Duration::from_millis(1100));
    release.send(()).expect("the handler waits");
    expect_ok(&mut holder);
    expect_ok(&mut peer);
    request(&mut peer, "/");
    server.stop();
}

#[test]
fn a_runtime_works_on_threads_that_the_backend_does_not_own() {
    for shape in SHAPES {
        let (give, given) = mpsc::channel();
        let app = App::new(move |runtime| {
            give.send(runtime).expect("the test waits");
            Router::new().get("/", sync(|_| "ok"))
        });
        let server = Running::start(shape, app);
        let (runtime, addr) = (given.recv().expect("the application starts"), server.addr);
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
        server.stop();
    }
}

#[test]
fn connections_of_a_unix_socket_go_to_all_runtimes_and_to_idle_ones_first() {
    const WORKERS: usize = 3;
    const ROUNDS: usize = 4;
    const MANY: usize = 50;
    let path = std::env::temp_dir().join(format!("gearshift-tokio-{}", std::process::id()));
    let (hold, held) = mpsc::channel();
    let (release, released) = mpsc::channel::<()>();
    let released = Mutex::new(released);
    let threads = Arc::new(Mutex::new(Vec::new()));
    let record = threads.clone();
    let app = App::new(move |_| {
        let here = sync(move |_| {
            record.lock().expect("no panic").push(thread::current().id());
            "ok"
        });
        let held = sync(move |_| {
            hold.send(()).expect("the test waits");
            released.lock().expect("no panic").recv().expect("the test releases the thread");
            "ok"
        });
        Router::new().get("/", here).get("/held", held)
    });
    let mut config = Config::default();
    config.workers = Some(WORKERS);
    let server = Server::bind(&[Bind::Unix(path.clone())], config).expect("the path is free");
    let shutdown = server.shutdown();
    let thread = thread::spawn(move || Tokio::per_core().serve(server, app));
    let connect = || UnixStream::connect(&path).expect("the server listens");

    let counts = || {
        let mut counts = HashMap::<ThreadId, usize>::new();
        threads.lock().expect("no panic").iter().for_each(|thread| *counts.entry(*thread).or_default() += 1);
        counts
    };
    let end = Instant::now() + Duration::from_secs(10);
    while counts().len() < WORKERS || counts().values().any(|count| *count < ROUNDS) {
        assert!(Instant::now() < end, "not all runtimes serve connections: {:?}", counts());
        request(&mut connect(), "/");
    }

    threads.lock().expect("no panic").clear();
    let mut holding = connect();
    send(&mut holding, "/held");
    held.recv().expect("the handler runs");
    // The one that is held may get one connection while the others are not idle yet.
    let mut late = Vec::new();
    for _ in 0..MANY {
        let mut peer = connect();
        peer.set_read_timeout(Some(Duration::from_secs(3))).expect("a socket has a timeout");
        send(&mut peer, "/");
        match peer.read_exact(&mut [0]) {
            Ok(()) => {}
            Err(error) => late.push((peer, error)),
        }
    }
    assert!(late.len() <= 1, "{late:?}");
    assert_eq!(counts().len(), WORKERS - 1);
    release.send(()).expect("the handler waits");
    late.iter_mut().for_each(|(peer, _)| expect_ok(peer));
    expect_ok(&mut holding);
    shutdown.graceful();
    thread.join().expect("the backend does not panic").expect("the server has run");
    assert!(!path.exists());
}
