//! What a handler may ask, on each backend whose connections are on a reactor. Each gives its `BACKEND`.

use std::io::{Read, Write};
use std::net::TcpListener;
use std::sync::mpsc;
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use futures_lite::future::poll_once;
use futures_lite::{AsyncReadExt, AsyncWriteExt};
use gearshift_core::{
    App, Backend, Config, Elapsed, Report, Response, Runtime, ServeError, Server, Shutdown, StatusCode,
    TaskError,
};

use super::BACKEND;

/// A server that runs for the sake of its runtime.
struct Rig {
    runtime: Runtime,
    shutdown: Shutdown,
    server: JoinHandle<Result<Report, ServeError>>,
}

fn rig() -> Rig {
    let server = Server::bind(&[], Config::default()).unwrap();
    let shutdown = server.shutdown();
    let (send, receive) = mpsc::channel();
    let app = App::new(move |runtime| {
        send.send(runtime).unwrap();
        async |_| Response::status_only(StatusCode::OK)
    });
    let server = thread::spawn(move || BACKEND.serve(server, app));
    Rig { runtime: receive.recv().unwrap(), shutdown, server }
}

impl Rig {
    /// What `task` gives, as a background task.
    fn run<T: Send + 'static>(&self, task: impl Future<Output = T> + Send + 'static) -> T {
        let task = self.runtime.spawn(task);
        self.runtime.block_on(task).unwrap()
    }

    fn stop(self) {
        self.shutdown.graceful();
        assert_eq!(self.server.join().unwrap().unwrap(), Report::default());
    }
}

#[test]
fn sleeps_at_least_as_long_as_asked_on_any_thread() {
    let rig = rig();
    let least = Duration::from_millis(20);
    let runtime = rig.runtime.clone();
    let begun = Instant::now();
    rig.run(async move { runtime.sleep(least).await });
    assert!(begun.elapsed() >= least);
    let begun = Instant::now();
    rig.runtime.block_on(rig.runtime.sleep(least));
    assert!(begun.elapsed() >= least);
    rig.stop();
}

#[test]
fn waits_overlap_and_a_dropped_one_delays_nothing() {
    let rig = rig();
    let runtime = rig.runtime.clone();
    let begun = Instant::now();
    rig.run(async move {
        let mut forgotten = runtime.sleep(Duration::from_secs(3600));
        assert!(poll_once(&mut forgotten).await.is_none());
        let waits: Vec<_> =
            (0..10).map(|_| runtime.spawn(runtime.sleep(Duration::from_millis(100)))).collect();
        for wait in waits {
            wait.await.unwrap();
        }
    });
    assert!(begun.elapsed() < Duration::from_millis(900));
    rig.stop();
}

#[test]
fn a_timeout_ends_what_never_would() {
    let rig = rig();
    let (runtime, most) = (rig.runtime.clone(), Duration::from_millis(10));
    assert_eq!(
        rig.run(async move { runtime.timeout(most, std::future::pending::<()>()).await }),
        Err(Elapsed(most))
    );
    rig.stop();
}

#[test]
fn connects_in_a_task_and_on_a_thread() {
    let rig = rig();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let echo = thread::spawn(move || {
        for _ in 0..2 {
            let mut got = [0; 5];
            let (mut peer, _) = listener.accept().unwrap();
            peer.read_exact(&mut got).unwrap();
            peer.write_all(&got).unwrap();
        }
    });
    let (runtime, to) = (rig.runtime.clone(), address.clone());
    assert_eq!(&rig.run(async move { echoed(&runtime, &to).await }), b"hello");
    assert_eq!(&rig.runtime.block_on(echoed(&rig.runtime, &address)), b"hello");
    echo.join().unwrap();
    let refused = rig.runtime.block_on(rig.runtime.connect(&address));
    assert_eq!(refused.unwrap_err().kind(), std::io::ErrorKind::ConnectionRefused);
    rig.stop();
}

async fn echoed(runtime: &Runtime, to: &str) -> [u8; 5] {
    let mut stream = runtime.connect(to).await.unwrap();
    stream.write_all(b"hello").await.unwrap();
    let mut got = [0; 5];
    stream.read_exact(&mut got).await.unwrap();
    got
}

#[test]
fn offloaded_work_runs_elsewhere() {
    let rig = rig();
    let runtime = rig.runtime.clone();
    let (here, blocking, compute) = rig.run(async move {
        let here = thread::current().id();
        let blocking = runtime.blocking(|| thread::current().id()).await;
        let compute = runtime.compute(|| thread::current().id()).await;
        (here, blocking, compute)
    });
    assert!(here != blocking && here != compute && blocking != compute);
    rig.stop();
}

#[test]
fn blocking_code_may_wait_for_async_code() {
    let rig = rig();
    let runtime = rig.runtime.clone();
    let waited = rig.run(async move {
        let inner = runtime.clone();
        runtime.blocking(move || inner.block_on(async { inner.sleep(Duration::from_millis(1)).await })).await;
        true
    });
    assert!(waited);
    rig.stop();
}

#[test]
fn tasks_are_told_how_they_ended() {
    let rig = rig();
    let panics = rig.runtime.spawn(async { panic!("expected by this test") });
    assert_eq!(rig.runtime.block_on(panics), Err(TaskError::Panicked));
    let waits = rig.runtime.spawn(std::future::pending::<()>());
    waits.cancel();
    assert_eq!(rig.runtime.block_on(waits), Err(TaskError::Cancelled));
    rig.stop();
}

#[test]
fn a_task_that_outlives_its_server_is_cancelled() {
    let server = Server::bind(&[], {
        let mut config = Config::default();
        config.graceful_timeout = Duration::from_millis(10);
        config
    });
    let server = server.unwrap();
    let shutdown = server.shutdown();
    let (send, receive) = mpsc::channel();
    let app = App::new(move |runtime| {
        send.send(runtime.spawn(std::future::pending::<()>())).unwrap();
        async |_| Response::status_only(StatusCode::OK)
    });
    shutdown.graceful();
    BACKEND.serve(server, app).unwrap();
    let task = receive.recv().unwrap();
    assert_eq!(futures_lite::future::block_on(task), Err(TaskError::Cancelled));
}
