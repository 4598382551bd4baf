//! Request bodies that are read beside the handler: by tasks, jobs and threads. The request ends before the body does.

use std::future::poll_fn;
use std::io::Read;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{self, Receiver, Sender};
use std::thread;
use std::time::Duration;

use futures_lite::{StreamExt, future, stream};
use gearshift::{
    Backend, Body, BoxError, Bytes, Config, OnDisconnect, Request, Response, Router, Runtime, on_disconnect,
    sync,
};
use socket2::SockRef;
use test_support::app::ON_PURPOSE;
use test_support::backend::begins_with_head;
use test_support::client::Client;
use test_support::server::{Launched, Running};
use test_support::suite::Area;
use test_support::{PATIENCE, wait_until};

pub(crate) const AREA: Area = (
    "bodies",
    &[
        ("a_reader_is_told_when_a_sync_handler_has_answered", |backend| {
            told(backend, "/sync", expect_answer, &[GONE]);
        }),
        ("a_reader_is_told_when_an_async_handler_has_answered", |backend| {
            told(backend, "/async", expect_answer, &[GONE]);
        }),
        ("a_reader_is_told_when_a_stream_has_ended", |backend| {
            told(backend, "/stream", expect_answer, &[GONE]);
        }),
        ("a_reader_is_told_when_a_handler_panics", |backend| {
            told(backend, "/panic", expect_500, &[GONE]);
        }),
        ("a_reader_is_told_when_its_peer_resets", |backend| {
            told(backend, "/never", reset, &[GONE, RESET]);
        }),
        ("a_reader_is_told_when_its_peer_closes", |backend| {
            told(backend, "/never", close, &[GONE, CUT]);
        }),
        ("a_reader_of_a_detached_handler_is_told_when_its_peer_resets", |backend| {
            told(backend, "/detached", reset, &[GONE, RESET]);
        }),
        ("a_reader_is_told_when_the_server_is_stopped_by_force", forced),
        ("a_reader_that_begins_after_the_end_is_told", late),
        ("a_reader_that_begins_after_a_late_handler_is_told", late_handler),
    ],
);

const GONE: &str = "the response was sent, or the connection was closed, before the body was read";
const RESET: &str = "the connection failed: Connection reset by peer (os error 104)";
const CUT: &str = "the body was cut short";

/// The progress of one reader.
#[derive(Clone)]
struct Watch {
    is_waiting: Arc<AtomicBool>,
    outcome: Sender<String>,
}

impl Watch {
    fn new() -> (Watch, Receiver<String>) {
        let (outcome, outcomes) = mpsc::channel();
        (Watch { is_waiting: Arc::default(), outcome }, outcomes)
    }

    fn waits(&self) {
        self.is_waiting.store(true, Ordering::SeqCst);
    }

    async fn read<E: Into<BoxError>>(self, mut body: impl stream::Stream<Item = Result<Bytes, E>> + Unpin) {
        let outcome = loop {
            let next = poll_fn(|cx| {
                let polled = Pin::new(&mut body).poll_next(cx);
                if polled.is_pending() {
                    self.waits();
                }
                polled
            });
            match next.await {
                Some(Ok(_)) => {}
                Some(Err(error)) => break error.into().to_string(),
                None => break "the end".to_owned(),
            }
        };
        let _ = self.outcome.send(outcome);
    }

    fn read_blocking(self, body: Body) {
        let mut reader = body.reader();
        let outcome = loop {
            match reader.read(&mut [0; 100]) {
                Ok(0) => break "the end".to_owned(),
                // The next read waits.
                Ok(_) => self.waits(),
                Err(error) => break error.to_string(),
            }
        };
        let _ = self.outcome.send(outcome);
    }
}

/// The ways to read a body beside the handler.
const READERS: [(&str, fn(&Runtime, Body, Watch)); 7] = [
    ("a task", |runtime, body, watch| runtime.spawn(watch.read(body)).detach()),
    ("a task through http_body", |runtime, body, watch| {
        let frames = http_body_util::BodyExt::into_data_stream(body);
        runtime.spawn(watch.read(Box::pin(frames))).detach();
    }),
    ("a task in a scope", |runtime, body, watch| {
        let mut scope = runtime.scope();
        scope.spawn(watch.read(body)).detach();
        runtime.spawn(scope.join()).detach();
    }),
    ("a task that also waits for others", |runtime, body, watch| {
        let waits = runtime.clone();
        let ticks = async move {
            loop {
                waits.sleep(Duration::from_millis(5)).await;
            }
        };
        runtime.spawn(future::or(watch.read(body), ticks)).detach();
    }),
    ("a blocking job", |runtime, body, watch| {
        let job = runtime.blocking(move || watch.read_blocking(body));
        runtime.spawn(job).detach();
    }),
    ("a compute job", |runtime, body, watch| {
        let job = runtime.compute(move || watch.read_blocking(body));
        runtime.spawn(job).detach();
    }),
    ("a thread", |_, body, watch| {
        thread::spawn(move || watch.read_blocking(body));
    }),
];

/// A reader, its number in [`READERS`], and its watch: what the next request gets.
type Next = Arc<std::sync::Mutex<Option<(usize, Watch)>>>;

/// The routes. Each gives the body of its request to the reader in `next`.
fn app(runtime: Runtime, next: &Next) -> Router {
    let next = next.clone();
    let begin = move |runtime: &Runtime, request: Request| {
        let (nth, watch) = next.lock().expect("no panic").take().expect("one request for each reader");
        let is_waiting = watch.is_waiting.clone();
        READERS[nth].1(runtime, request.into_body(), watch);
        let runtime = runtime.clone();
        async move {
            while !is_waiting.load(Ordering::SeqCst) {
                runtime.sleep(Duration::from_millis(1)).await;
            }
        }
    };
    let begin = Arc::new(begin);
    let [a, b, c, d, e, f] = std::array::from_fn(|_| {
        let (begin, runtime) = (begin.clone(), runtime.clone());
        move |request: Request| begin(&runtime, request)
    });
    Router::new()
        .post(
            "/sync",
            sync(move |request| {
                drop(a(request));
                "answered"
            }),
        )
        .post("/async", move |request| {
            let waits = b(request);
            async move {
                waits.await;
                "answered"
            }
        })
        .post("/stream", move |request| {
            let waits = c(request);
            let pieces = stream::once(Ok::<_, BoxError>(Bytes::from_static(b"answ"))).chain(
                stream::once_future(async move {
                    waits.await;
                    Ok(Bytes::from_static(b"ered"))
                }),
            );
            async { Response::new(Body::from_stream(Box::pin(pieces))) }
        })
        .post("/panic", move |request| {
            let waits = d(request);
            async move {
                waits.await;
                panics()
            }
        })
        .post("/never", move |request| {
            let waits = e(request);
            async move {
                waits.await;
                future::pending::<()>().await;
            }
        })
        .post(
            "/detached",
            on_disconnect(OnDisconnect::Detach, move |request| {
                let waits = f(request);
                let runtime = runtime.clone();
                async move {
                    waits.await;
                    runtime.sleep(Duration::from_millis(300)).await;
                }
            }),
        )
}

#[expect(clippy::panic)]
fn panics() {
    panic!("a handler panics, {ON_PURPOSE}")
}

/// Settings under which a body may pause for longer than a test takes.
fn patient(backend: Backend) -> Config {
    let mut config = begins_with_head(backend);
    (config.body_timeout, config.min_rate) = (100 * PATIENCE, 0);
    config
}

fn send_part(client: &mut Client, path: &str) {
    client.send(format!("POST {path} HTTP/1.1\r\nHost: test\r\nContent-Length: 1000\r\n\r\nx"));
}

fn expect_answer(client: &mut Client, _: &Watch) {
    assert_eq!(client.answer().said(), (200, "answered".into()));
}

fn expect_500(client: &mut Client, _: &Watch) {
    assert_eq!(client.answer().status, 500);
}

fn reset(client: &mut Client, watch: &Watch) {
    wait_until("the reader waits", || watch.is_waiting.load(Ordering::SeqCst));
    SockRef::from(&client.socket).set_linger(Some(Duration::ZERO)).expect("a socket can be reset");
    close(client, watch);
}

fn close(client: &mut Client, watch: &Watch) {
    wait_until("the reader waits", || watch.is_waiting.load(Ordering::SeqCst));
    let (other, _) = std::os::unix::net::UnixStream::pair().expect("a pair of sockets");
    let socket = std::net::TcpStream::from(std::os::fd::OwnedFd::from(other));
    drop(std::mem::replace(&mut client.socket, socket));
}

/// For each reader, sends a part of a request and calls `end`. Expects that the reader gets one of `errors`.
fn told(backend: Backend, path: &str, end: fn(&mut Client, &Watch), errors: &[&str]) {
    let next = Next::default();
    let given = next.clone();
    let server = Running::start(backend, patient(backend), move |runtime| app(runtime, &given));
    for (nth, (reader, _)) in READERS.iter().enumerate() {
        let (watch, outcomes) = Watch::new();
        *next.lock().expect("no panic") = Some((nth, watch.clone()));
        let mut client = server.client();
        send_part(&mut client, path);
        end(&mut client, &watch);
        drop(watch);
        expect_outcome(reader, &outcomes, errors);
    }
}

fn expect_outcome(reader: &str, outcomes: &Receiver<String>, errors: &[&str]) {
    match outcomes.recv_timeout(PATIENCE) {
        Ok(outcome) => assert!(errors.contains(&outcome.as_str()), "{reader} got: {outcome}"),
        Err(error) => panic!("{reader} was not told: {error}"),
    }
}

fn forced(backend: Backend) {
    for (nth, (reader, _)) in READERS.iter().enumerate() {
        let (watch, outcomes) = Watch::new();
        let next = Next::new(Some((nth, watch.clone())).into());
        let server = Launched::start(backend, patient(backend), move |runtime| app(runtime, &next));
        let mut client = server.client();
        send_part(&mut client, "/never");
        wait_until("the reader waits", || watch.is_waiting.load(Ordering::SeqCst));
        drop(watch);
        server.shutdown().force();
        server.ended().expect("the server ends without an error");
        match outcomes.recv_timeout(PATIENCE) {
            Ok(outcome) => assert_eq!(outcome, GONE, "{reader}"),
            // The server drops its tasks.
            Err(error) => assert_eq!(error, mpsc::RecvTimeoutError::Disconnected, "{reader} was not told"),
        }
    }
}

/// A server whose task reads the body once the gate is open. The handler answers at once, or never.
fn reads_late(backend: Backend, answers: bool, end: fn(&mut Client)) {
    let mut config = patient(backend);
    config.handler_timeout = Duration::from_millis(100);
    let (watch, outcomes) = Watch::new();
    let gate = Arc::new(AtomicBool::new(false));
    let opened = gate.clone();
    let server = Running::start(backend, config, move |runtime| {
        Router::new().post("/", move |request: Request| {
            let (waits, watch, gate) = (runtime.clone(), watch.clone(), gate.clone());
            let reads = async move {
                while !gate.load(Ordering::SeqCst) {
                    waits.sleep(Duration::from_millis(1)).await;
                }
                watch.read(request.into_body()).await;
            };
            runtime.spawn(reads).detach();
            async move {
                if !answers {
                    future::pending::<()>().await;
                }
            }
        })
    });
    let mut client = server.client();
    send_part(&mut client, "/");
    end(&mut client);
    opened.store(true, Ordering::SeqCst);
    expect_outcome("the task", &outcomes, &[GONE]);
}

fn late(backend: Backend) {
    reads_late(backend, true, |client| assert_eq!(client.answer().status, 200));
}

fn late_handler(backend: Backend) {
    reads_late(backend, false, |client| assert_eq!(client.answer().status, 503));
}
