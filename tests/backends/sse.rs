//! Server-sent events.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use futures_lite::{StreamExt, future, stream};
use gearshift::backend::Latch;
use gearshift::sse::{Event, Sse};
use gearshift::{Backend, Request, Router, sync};
use test_support::backend::few_workers;
use test_support::client::Client;
use test_support::server::{Launched, Running};
use test_support::suite::Area;
use test_support::{PATIENCE, wait_until};

pub(crate) const AREA: Area = (
    "sse",
    &[
        ("sends_each_event_when_it_happens", sends),
        ("continues_after_the_last_event_of_the_peer", continues),
        ("sends_comments_while_it_is_silent", keeps_alive),
        ("is_silent_without_an_interval", silent),
        ("ends_when_the_server_begins_to_stop", stopped),
        ("may_say_last_words_at_a_stop", last_words),
        ("is_cut_by_an_error", error),
        ("drops_its_stream_when_the_peer_has_left", left),
        ("holds_no_thread_while_it_waits", held),
    ],
);

/// A time limit that no test reaches.
const NEVER: Duration = Duration::from_secs(600);

/// An event stream at `/`, and `GET /plain`.
fn router(events: impl Fn(Request) -> Sse + Send + Sync + 'static) -> Router {
    Router::new().get("/", sync(events)).get("/plain", sync(|_| "plain"))
}

fn serve(backend: Backend, events: impl Fn(Request) -> Sse + Send + Sync + 'static) -> Running {
    Running::start(backend, few_workers(backend), move |_| router(events))
}

/// Asks for the events, and reads the head of the answer.
fn subscribe(mut client: Client) -> Client {
    client.send_get("/");
    client.expect_head();
    client
}

fn sends(backend: Backend) {
    let latch = Latch::new();
    let guard = latch.guard();
    let server = serve(backend, move |request| {
        let second = latch.released();
        let first = stream::once(Event::new("one\ntwo").event("greeting").id("7"));
        let second = stream::once_future(async move {
            second.await;
            Event::new("three").retry(Duration::from_millis(1500))
        });
        Sse::new(request.runtime(), first.chain(second))
    });
    let mut client = server.client();
    client.send_get("/");
    let head = client.expect_head();
    assert_eq!(head.status, 200);
    for (name, value) in [
        ("Content-Type", "text/event-stream"),
        ("Cache-Control", "no-cache"),
        ("X-Accel-Buffering", "no"),
        ("Transfer-Encoding", "chunked"),
    ] {
        assert_eq!(head.field(name), Some(value), "{name}");
    }
    assert_eq!(client.chunk(), "event: greeting\nid: 7\ndata: one\ndata: two\n\n");
    drop(guard);
    assert_eq!(client.chunk(), "retry: 1500\ndata: three\n\n");
    assert_eq!(client.chunk(), "", "the stream ends");
    assert_eq!(client.get("/plain").text(), "plain");
}

fn continues(backend: Backend) {
    let server = serve(backend, |request| {
        let id = request.last_event_id().unwrap_or("none").to_owned();
        Sse::new(request.runtime(), stream::once(id))
    });
    let mut client = subscribe(server.client());
    assert_eq!((client.chunk(), client.chunk()), ("data: none\n\n".into(), "".into()));
    client.send("GET / HTTP/1.1\r\nHost: test\r\nLast-Event-ID: 41\r\n\r\n");
    client.expect_head();
    assert_eq!((client.chunk(), client.chunk()), ("data: 41\n\n".into(), "".into()));
}

fn keeps_alive(backend: Backend) {
    let server = serve(backend, |request| {
        let events = stream::once(Event::new("one")).chain(stream::pending());
        Sse::new(request.runtime(), events).keep_alive(Some(Duration::from_millis(50)))
    });
    let mut client = subscribe(server.client());
    assert_eq!(client.chunk(), "data: one\n\n");
    for _ in 0..3 {
        assert_eq!(client.chunk(), ":\n\n");
    }
}

fn silent(backend: Backend) {
    let server = serve(backend, |request| {
        let later = request.runtime().sleep(Duration::from_millis(300));
        let events = stream::once_future(async move {
            later.await;
            "late"
        });
        let interval = (request.query_str() == Some("often")).then(|| Duration::from_millis(20));
        Sse::new(request.runtime(), events).keep_alive(interval)
    });
    let mut client = subscribe(server.client());
    let mut control = server.client();
    control.send_get("/?often");
    control.expect_head();
    assert_eq!(control.chunk(), ":\n\n");
    assert_eq!(client.chunk(), "data: late\n\n");
}

fn launched(backend: Backend, events: impl Fn(Request) -> Sse + Send + Sync + 'static) -> Launched {
    let mut config = few_workers(backend);
    config.graceful_timeout = NEVER;
    Launched::start(backend, config, move |_| router(events))
}

fn stopped(backend: Backend) {
    let server = launched(backend, |request| {
        Sse::new(request.runtime(), stream::once("one").chain(stream::pending()))
    });
    let mut clients: Vec<_> = (0..10).map(|_| subscribe(server.client())).collect();
    for client in &mut clients {
        assert_eq!(client.chunk(), "data: one\n\n");
    }
    server.shutdown().graceful();
    for client in &mut clients {
        assert_eq!(client.chunk(), "", "the response is complete");
        client.expect_end();
    }
    server.ended_gracefully();
}

fn last_words(backend: Backend) {
    let server = launched(backend, |request| {
        let stopping = request.runtime().stopping();
        let last = stream::once_future(async move {
            stopping.await;
            "bye"
        });
        Sse::new(request.runtime(), stream::once("hello").chain(last)).end_on_stop(false)
    });
    let mut client = subscribe(server.client());
    assert_eq!(client.chunk(), "data: hello\n\n");
    server.shutdown().graceful();
    assert_eq!((client.chunk(), client.chunk()), ("data: bye\n\n".into(), "".into()));
    client.expect_end();
    server.ended_gracefully();
}

fn error(backend: Backend) {
    let server = serve(backend, |request| {
        Sse::new(request.runtime(), stream::iter([Ok("one"), Err("the source of the events has failed")]))
    });
    let mut client = subscribe(server.client());
    assert_eq!(client.chunk(), "data: one\n\n");
    assert_eq!(client.rest(), b"", "the end of the chunked coding is missing");
}

/// Counts a stream until it is dropped.
struct Counted(Arc<AtomicUsize>);

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::SeqCst);
    }
}

fn left(backend: Backend) {
    let streams = Arc::new(AtomicUsize::new(0));
    let counts = streams.clone();
    let server = serve(backend, move |request| {
        counts.fetch_add(1, Ordering::SeqCst);
        let counted = Counted(counts.clone());
        let never = stream::once_future(async move {
            let _counted = counted;
            future::pending::<&str>().await
        });
        // A comment is what finds out that the peer has left.
        Sse::new(request.runtime(), never).keep_alive(Some(Duration::from_millis(20)))
    });
    let clients: Vec<_> = (0..5).map(|_| subscribe(server.client())).collect();
    assert_eq!(streams.load(Ordering::SeqCst), 5);
    drop(clients);
    wait_until("the streams are dropped", || streams.load(Ordering::SeqCst) == 0);
}

fn held(backend: Backend) {
    const CLIENTS: usize = 60;
    let server = serve(backend, |request| {
        let events = stream::once("one").chain(stream::pending());
        Sse::new(request.runtime(), events).keep_alive(Some(PATIENCE / 2))
    });
    let mut clients: Vec<_> = (0..CLIENTS).map(|_| subscribe(server.client())).collect();
    let mut other = server.client();
    for client in &mut clients {
        assert_eq!(client.chunk(), "data: one\n\n");
        assert_eq!(other.get("/plain").text(), "plain");
    }
    assert_eq!(server.get("/plain").text(), "plain");
}
