//! A runtime without a request: background tasks, and threads of the program.

use std::io::{ErrorKind, Read, Write};
use std::net::TcpListener;
use std::sync::mpsc;
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use futures_lite::future::poll_once;
use futures_lite::{AsyncReadExt, AsyncWriteExt};
use gearshift::{
    App, Backend, Config, Elapsed, Report, Response, Runtime, ServeError, Server, Shutdown, StatusCode,
    TaskError,
};
use test_support::app::ON_PURPOSE;
use test_support::backend::blocks;
use test_support::suite::Area;

use crate::waits::{EACH, SLEEPS};

pub(crate) const AREA: Area = (
    "runtime",
    &[
        ("sleep_takes_its_time_in_a_task_and_on_a_thread", sleep),
        ("sleeps_overlap_and_a_dropped_one_delays_nothing", overlap),
        ("timeout_ends_a_future_that_never_would", timeout),
        ("connect_works_in_a_task_and_on_a_thread", connect),
        ("offloaded_work_runs_on_other_threads", offload),
        ("blocking_work_may_wait_for_async_work", block_on),
        ("a_task_reports_a_panic_and_a_cancellation", outcomes),
        ("a_task_that_outlives_its_server_is_cancelled", outlives),
    ],
);

/// A server without a listener, which runs for its runtime alone.
struct Host {
    runtime: Runtime,
    shutdown: Shutdown,
    server: JoinHandle<Result<Report, ServeError>>,
}

impl Host {
    fn start(backend: Backend) -> Host {
        let server = Server::bind(&[], Config::default()).expect("there is nothing to bind");
        let shutdown = server.shutdown();
        let (send, receive) = mpsc::channel();
        let app = App::new(move |runtime| {
            send.send(runtime).expect("the test waits");
            async |_| Response::status_only(StatusCode::OK)
        });
        let server = thread::spawn(move || backend.serve(server, app));
        Host { runtime: receive.recv().expect("the application starts"), shutdown, server }
    }

    /// Runs a future as a background task and returns its output.
    fn run<T: Send + 'static>(&self, task: impl Future<Output = T> + Send + 'static) -> T {
        let task = self.runtime.spawn(task);
        self.runtime.block_on(task).expect("the task ends")
    }

    fn stop(self) {
        self.shutdown.graceful();
        let report = self.server.join().expect("the server does not panic");
        assert_eq!(report.expect("the server ends without an error"), Report::default());
    }
}

fn sleep(backend: Backend) {
    let host = Host::start(backend);
    let least = Duration::from_millis(20);
    let runtime = host.runtime.clone();
    let began = Instant::now();
    host.run(async move { runtime.sleep(least).await });
    assert!(began.elapsed() >= least);
    let began = Instant::now();
    host.runtime.block_on(host.runtime.sleep(least));
    assert!(began.elapsed() >= least);
    host.stop();
}

fn overlap(backend: Backend) {
    let host = Host::start(backend);
    let runtime = host.runtime.clone();
    let began = Instant::now();
    host.run(async move {
        let mut dropped = runtime.sleep(Duration::from_secs(3600));
        assert!(poll_once(&mut dropped).await.is_none());
        let tasks: Vec<_> = (0..SLEEPS).map(|_| runtime.spawn(runtime.sleep(EACH))).collect();
        for task in tasks {
            task.await.expect("the task ends");
        }
    });
    assert!(began.elapsed() < SLEEPS * EACH / 2, "the sleeps took {:?}", began.elapsed());
    host.stop();
}

fn timeout(backend: Backend) {
    let host = Host::start(backend);
    let (runtime, limit) = (host.runtime.clone(), Duration::from_millis(10));
    let outcome = host.run(async move { runtime.timeout(limit, std::future::pending::<()>()).await });
    assert_eq!(outcome, Err(Elapsed(limit)));
    host.stop();
}

fn connect(backend: Backend) {
    let host = Host::start(backend);
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let address = listener.local_addr().expect("the listener is bound").to_string();
    let echo = thread::spawn(move || {
        for _ in 0..2 {
            let mut received = [0; 5];
            let (mut peer, _) = listener.accept().expect("a connection");
            peer.read_exact(&mut received).expect("five bytes");
            peer.write_all(&received).expect("the peer reads");
        }
    });
    let (runtime, to) = (host.runtime.clone(), address.clone());
    assert_eq!(&host.run(async move { echoed(&runtime, &to).await }), b"hello");
    assert_eq!(&host.runtime.block_on(echoed(&host.runtime, &address)), b"hello");
    echo.join().expect("the echo does not panic");
    let refused = host.runtime.block_on(host.runtime.connect(&address));
    assert_eq!(refused.expect_err("the listener is closed").kind(), ErrorKind::ConnectionRefused);
    host.stop();
}

async fn echoed(runtime: &Runtime, to: &str) -> [u8; 5] {
    let mut stream = runtime.connect(to).await.expect("the listener accepts");
    stream.write_all(b"hello").await.expect("the peer reads");
    let mut received = [0; 5];
    stream.read_exact(&mut received).await.expect("the peer answers");
    received
}

fn offload(backend: Backend) {
    let host = Host::start(backend);
    let runtime = host.runtime.clone();
    let (here, blocking, compute) = host.run(async move {
        let here = thread::current().id();
        let blocking = runtime.blocking(|| thread::current().id()).await;
        let compute = runtime.compute(|| thread::current().id()).await;
        (here, blocking, compute)
    });
    assert!(here != blocking && here != compute);
    // On a backend that blocks, tasks offload both kinds of work to the threads of one pool.
    assert!(blocks(backend) || blocking != compute);
    host.stop();
}

fn block_on(backend: Backend) {
    let host = Host::start(backend);
    let runtime = host.runtime.clone();
    let waited = host.run(async move {
        let inner = runtime.clone();
        runtime.blocking(move || inner.block_on(async { inner.sleep(Duration::from_millis(1)).await })).await;
        true
    });
    assert!(waited);
    host.stop();
}

#[expect(clippy::panic)]
fn outcomes(backend: Backend) {
    let host = Host::start(backend);
    let panics = host.runtime.spawn(async { panic!("a task panics, {ON_PURPOSE}") });
    assert_eq!(host.runtime.block_on(panics), Err::<(), _>(TaskError::Panicked));
    let waits = host.runtime.spawn(std::future::pending::<()>());
    waits.cancel();
    assert_eq!(host.runtime.block_on(waits), Err(TaskError::Cancelled));
    host.stop();
}

fn outlives(backend: Backend) {
    let mut config = Config::default();
    config.graceful_timeout = Duration::from_millis(10);
    let server = Server::bind(&[], config).expect("there is nothing to bind");
    let shutdown = server.shutdown();
    let (send, receive) = mpsc::channel();
    let app = App::new(move |runtime: Runtime| {
        send.send(runtime.spawn(std::future::pending::<()>())).expect("the test waits");
        async |_| Response::status_only(StatusCode::OK)
    });
    shutdown.graceful();
    backend.serve(server, app).expect("the server ends without an error");
    let task = receive.recv().expect("the application has started");
    assert_eq!(futures_lite::future::block_on(task), Err(TaskError::Cancelled));
}
