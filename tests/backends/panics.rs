//! A handler that panics is answered with 500, and affects no other request.

use std::io::Read;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, mpsc};
use std::time::Duration;

use gearshift::{Backend, Body, Bytes, Request, Response, Router, Runtime, blocking, compute, sync};
use test_support::app::ON_PURPOSE;
use test_support::backend::{begins_with_head, few_workers};
use test_support::server::{Launched, Running, one};
use test_support::suite::Area;
use test_support::{PATIENCE, wait_until};

pub(crate) const AREA: Area = (
    "panics",
    &[
        ("a_sync_handler_that_panics_is_a_500", |backend| is_a_500(backend, "/sync")),
        ("an_async_handler_that_panics_at_once_is_a_500", |backend| is_a_500(backend, "/async")),
        ("an_async_handler_that_panics_later_is_a_500", |backend| is_a_500(backend, "/later")),
        ("a_blocking_handler_that_panics_is_a_500", |backend| is_a_500(backend, "/blocking")),
        ("a_compute_handler_that_panics_is_a_500", |backend| is_a_500(backend, "/compute")),
        ("a_handler_that_panics_with_a_body_on_the_wire_is_a_500", with_body),
        ("answers_before_a_panic_are_sent", earlier_answers),
        ("a_streamed_body_that_panics_is_cut", in_body),
        ("a_panic_outside_a_handler_ends_its_own_connection", outside),
        ("a_job_that_panics_when_it_is_dropped_affects_no_other", dropped_jobs),
        ("a_task_that_panics_when_it_is_dropped_ends_alone", dropped_tasks),
    ],
);

#[expect(clippy::panic)]
fn panics<T>() -> T {
    panic!("a handler panics, {ON_PURPOSE}")
}

fn app(runtime: Runtime) -> Router {
    let waits = runtime;
    Router::new()
        .get("/", sync(|_| "fine"))
        .get("/sync", sync(|_| panics::<Response>()))
        .get("/async", async |_| panics::<Response>())
        .get("/later", move |_: Request| {
            let wait = waits.sleep(std::time::Duration::from_millis(5));
            async move {
                wait.await;
                panics::<Response>()
            }
        })
        .get("/blocking", blocking(|_| panics::<Response>()))
        .get("/compute", compute(|_| panics::<Response>()))
        .post("/sync", sync(|_| panics::<Response>()))
        .post("/read", async |mut request: Request| {
            let _ = request.body_mut().chunk().await;
            panics::<Response>()
        })
        .get("/body", sync(|_| Response::new(broken_body())))
}

/// A body that panics after its first chunk.
fn broken_body() -> Body {
    Body::from_stream(futures_lite::stream::unfold(0, |nth| async move {
        futures_lite::future::yield_now().await;
        match nth {
            0 => Some((Ok::<_, std::io::Error>(Bytes::from_static(b"a chunk")), 1)),
            _ => panics(),
        }
    }))
}

fn start(backend: Backend) -> Running {
    Running::start(backend, begins_with_head(backend), app)
}

fn is_a_500(backend: Backend, path: &str) {
    let server = start(backend);
    let mut neighbour = server.client();
    assert_eq!(neighbour.get("/").text(), "fine");
    // There are more panics than threads, so a thread that ended with its handler would be missed.
    for _ in 0..6 {
        let mut client = server.client();
        let answer = client.get(path);
        assert_eq!(answer.said(), (500, "Internal Server Error".into()));
        assert!(answer.closes(), "{answer:?}");
        client.expect_end();
        assert_eq!(server.get("/").text(), "fine");
    }
    assert_eq!(neighbour.get("/").text(), "fine", "another connection goes on");
}

fn with_body(backend: Backend) {
    let server = start(backend);
    for path in ["/sync", "/read"] {
        let mut client = server.client();
        client.send(format!("POST {path} HTTP/1.1\r\nHost: test\r\nContent-Length: 100\r\n\r\nsome of it"));
        let answer = client.answer();
        assert_eq!(answer.status, 500, "{path}");
        assert!(answer.closes());
        client.expect_end();
        assert_eq!(server.get("/").text(), "fine");
    }
}

fn earlier_answers(backend: Backend) {
    let server = start(backend);
    let mut client = server.client();
    let (fine, broken) = ("GET / HTTP/1.1\r\nHost: test\r\n\r\n", "GET /sync HTTP/1.1\r\nHost: test\r\n\r\n");
    client.send(format!("{fine}{fine}{broken}{fine}"));
    assert_eq!(client.answer().text(), "fine");
    assert_eq!(client.answer().text(), "fine");
    assert_eq!(client.answer().status, 500);
    client.expect_end();
}

fn in_body(backend: Backend) {
    let server = start(backend);
    let mut neighbour = server.client();
    assert_eq!(neighbour.get("/").text(), "fine");
    for _ in 0..6 {
        let mut client = server.client();
        client.send_get("/body");
        let seen = client.rest();
        let seen = String::from_utf8_lossy(&seen);
        assert!(!seen.ends_with("0\r\n\r\n"), "a response that was cut looks complete: {seen}");
        assert_eq!(server.get("/").text(), "fine");
    }
    assert_eq!(neighbour.get("/").text(), "fine", "another connection goes on");
}

/// A value that counts its drop and then panics.
struct Bomb {
    bytes: Vec<u8>,
    freed: Arc<AtomicUsize>,
}

impl AsRef<[u8]> for Bomb {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

impl Drop for Bomb {
    fn drop(&mut self) {
        self.freed.fetch_add(1, Ordering::SeqCst);
        panics()
    }
}

fn outside(backend: Backend) {
    const SIZE: usize = 32 << 20;
    const PEERS: usize = 6;
    let freed = Arc::new(AtomicUsize::new(0));
    let counted = freed.clone();
    let mut config = few_workers(backend);
    config.write_timeout = Duration::from_millis(20);
    config.graceful_timeout = PATIENCE;
    let server = Launched::start(backend, config, move |_| {
        let bomb = move |_| {
            let (bytes, freed) = (vec![0; SIZE], counted.clone());
            Response::new(Bytes::from_owner(Bomb { bytes, freed }))
        };
        Router::new().get("/", sync(|_| "fine")).get("/bomb", sync(bomb))
    });
    let mut clients: Vec<_> = (0..PEERS).map(|_| server.client()).collect();
    clients.iter_mut().for_each(|client| client.send_get("/bomb"));
    // The clients do not read, so each write fails in the end, and the body is dropped with its connection.
    wait_until("every body is freed", || freed.load(Ordering::SeqCst) == PEERS);
    assert_eq!(server.client().get("/").text(), "fine");
    for client in &mut clients {
        let mut received = Vec::new();
        let _ = client.socket.read_to_end(&mut received);
        assert!(received.len() < SIZE, "the response is complete");
    }
    assert_eq!(server.client().get("/").text(), "fine");
    server.stop();
}

fn dropped_jobs(backend: Backend) {
    let mut config = few_workers(backend);
    config.blocking_threads = 1;
    let freed = Arc::new(AtomicUsize::new(0));
    let counted = freed.clone();
    let server = Running::start(backend, config, move |runtime| {
        one(move |_: Request| {
            let task = runtime.spawn(drop_jobs(runtime.clone(), counted.clone()));
            async move { format!("{:?}", task.await) }
        })
    });
    assert_eq!(server.get("/").said(), (200, "Ok(7)".into()));
    assert_eq!(freed.load(Ordering::SeqCst), 2);
}

/// Drops a job in the queue of a pool of one thread, then one whose output the thread drops. Returns the output of a
/// third job.
async fn drop_jobs(runtime: Runtime, freed: Arc<AtomicUsize>) -> i32 {
    const SOON: Duration = Duration::from_millis(1);
    let [output, input] = [(); 2].map(|()| Bomb { bytes: Vec::new(), freed: freed.clone() });
    let (begin, begun) = mpsc::channel();
    let (end, ended) = mpsc::channel::<()>();
    let mut running = Box::pin(runtime.blocking(move || {
        let _ = begin.send(());
        let _ = ended.recv();
        output
    }));
    while begun.try_recv().is_err() {
        let _ = runtime.timeout(SOON, running.as_mut()).await;
    }
    let _ = runtime.timeout(SOON, runtime.blocking(move || drop(input))).await;
    drop(running);
    drop(end);
    runtime.blocking(|| 7).await
}

fn dropped_tasks(backend: Backend) {
    let freed = Arc::new(AtomicUsize::new(0));
    let counted = freed.clone();
    let mut config = few_workers(backend);
    config.graceful_timeout = PATIENCE;
    let server = Launched::start(backend, config, move |runtime| {
        one(move |_: Request| {
            let [cancelled, left] = [(); 2].map(|()| {
                let bomb = Bomb { bytes: Vec::new(), freed: counted.clone() };
                runtime.spawn(async move {
                    std::future::pending::<()>().await;
                    drop(bomb);
                })
            });
            left.detach();
            let begins = runtime.sleep(Duration::from_millis(5));
            async move {
                begins.await;
                cancelled.cancel();
                format!("{:?}", cancelled.await)
            }
        })
    });
    for _ in 0..2 {
        assert_eq!(server.client().get("/").said(), (200, "Err(Cancelled)".into()));
    }
    server.shutdown().force();
    server.ended().expect("the server ends without an error");
    wait_until("every task is dropped", || freed.load(Ordering::SeqCst) == 4);
}
