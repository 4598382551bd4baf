//! The statistics of a server, which are the same on every backend.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, mpsc};
use std::thread;
use std::time::Duration;

use futures_lite::StreamExt;
use gearshift::{Backend, Config, Request, Response, Router, Runtime, Stats, StatusCode, metrics, sync};
use test_support::backend::few_workers;
use test_support::server::Running;
use test_support::suite::Area;
use test_support::wait_until;

pub(crate) const AREA: Area = (
    "stats",
    &[
        ("responses_are_counted_by_class", responses),
        ("bytes_are_those_on_the_wire", bytes),
        ("connections_are_counted_open_and_accepted", connections),
        ("a_request_is_in_flight_while_its_handler_waits", in_flight),
        ("a_request_is_in_flight_while_its_handler_blocks", held),
        ("background_tasks_are_counted", tasks),
        ("metrics_are_prometheus_text", prometheus),
    ],
);

/// How often a handler checks whether it may end.
const POLL: Duration = Duration::from_millis(2);

fn start(backend: Backend, config: Config) -> (Running, Runtime) {
    start_with(backend, config, &Arc::default())
}

/// Starts a server whose handlers of `/wait` and `/hold` end once `open` is set.
fn start_with(backend: Backend, config: Config, open: &Arc<AtomicBool>) -> (Running, Runtime) {
    let (opens, holds) = (open.clone(), open.clone());
    let (tell, told) = mpsc::channel();
    let server = Running::start(backend, config, move |runtime: Runtime| {
        tell.send(runtime.clone()).expect("the test waits");
        let (waits, numbers) = (runtime, metrics());
        Router::new()
            .get("/", sync(|_| "ok"))
            .post("/", async |request: Request| request.into_body().bytes(1 << 20).await)
            .get("/nothing", sync(|_| StatusCode::NO_CONTENT))
            .get("/other", sync(|_| Response::status_only(StatusCode::FOUND)))
            .get("/wrong", sync(|_| StatusCode::INTERNAL_SERVER_ERROR))
            .get("/stream", async |_: Request| {
                let pieces =
                    futures_lite::stream::iter(["a", "b"]).map(|piece| Ok::<_, std::io::Error>(piece.into()));
                Response::new(gearshift::Body::from_stream(pieces))
            })
            .get("/wait", move |_: Request| {
                let (runtime, open) = (waits.clone(), opens.clone());
                async move {
                    while !open.load(Ordering::SeqCst) {
                        runtime.sleep(POLL).await;
                    }
                    "waited"
                }
            })
            .get(
                "/hold",
                sync(move |_| {
                    while !holds.load(Ordering::SeqCst) {
                        thread::sleep(POLL)
                    }
                }),
            )
            .get("/metrics", numbers)
    });
    (server, told.recv().expect("the application has started"))
}

/// Waits until the statistics have a property. Some are counted once a turn, which may be after the response.
fn wait_for(runtime: &Runtime, what: &str, holds: impl Fn(&Stats) -> bool) {
    wait_until(what, || holds(&runtime.stats()));
}

fn responses(backend: Backend) {
    let (server, runtime) = start(backend, Config::default());
    let mut client = server.client();
    for path in ["/", "/", "/nothing", "/other", "/missing", "/wrong", "/stream"] {
        client.get(path);
    }
    client.send("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 4\r\n\r\n");
    client.send("body");
    assert_eq!(client.answer().text(), "body");
    client.send("NO SENSE\r\n\r\n");
    assert_eq!(client.answer().status, 400);
    wait_for(&runtime, "all responses are counted", |stats| stats.responses == [0, 5, 1, 2, 1]);
    let stats = runtime.stats();
    assert_eq!((stats.requests_served, stats.requests_rejected), (8, 1));
    assert_eq!((stats.backend, stats.requests_in_flight), (backend.name(), 0));
    assert!(stats.workers >= 1 && stats.loop_turns >= 1, "{stats:?}");
}

fn bytes(backend: Backend) {
    let (server, runtime) = start(backend, Config::default());
    let mut client = server.client();
    let head = "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 100000\r\n\r\n";
    client.send(head);
    client.send(vec![b'x'; 100_000]);
    let answer = client.answer();
    assert_eq!(answer.body.len(), 100_000);
    let (received, sent) = (head.len() + 100_000, answer.raw.len());
    wait_for(&runtime, "every byte is counted", |stats| {
        (stats.bytes_received, stats.bytes_sent) == (received as u64, sent as u64)
    });
}

fn connections(backend: Backend) {
    let (server, runtime) = start(backend, Config::default());
    let mut clients: Vec<_> = (0..5).map(|_| server.client()).collect();
    clients.iter_mut().for_each(|client| assert_eq!(client.get("/").status, 200));
    let stats = runtime.stats();
    assert_eq!((stats.connections_open, stats.connections_accepted, stats.connections_refused), (5, 5, 0));
    drop(clients);
    wait_for(&runtime, "the connections are closed", |stats| {
        (stats.connections_open, stats.connections_accepted) == (0, 5)
    });
}

fn in_flight(backend: Backend) {
    let open = Arc::default();
    let (server, runtime) = start_with(backend, few_workers(backend), &open);
    let mut client = server.client();
    client.send_get("/wait");
    wait_for(&runtime, "the request has begun", |stats| stats.requests_in_flight == 1);
    open.store(true, Ordering::SeqCst);
    assert_eq!(client.answer().text(), "waited");
    wait_for(&runtime, "the request has ended", |stats| stats.requests_in_flight == 0);
}

fn held(backend: Backend) {
    let open = Arc::default();
    let (server, runtime) = start_with(backend, few_workers(backend), &open);
    let mut client = server.client();
    client.send_get("/hold");
    wait_for(&runtime, "the request has begun", |stats| stats.requests_in_flight == 1);
    open.store(true, Ordering::SeqCst);
    assert_eq!(client.answer().status, 200);
    wait_for(&runtime, "the request has ended", |stats| stats.requests_in_flight == 0);
    // A request whose peer leaves is in flight until its handler is dropped.
    open.store(false, Ordering::SeqCst);
    let mut leaver = server.client();
    leaver.send_get("/wait");
    wait_for(&runtime, "the request has begun", |stats| stats.requests_in_flight == 1);
    drop(leaver);
    wait_for(&runtime, "the handler is dropped", |stats| stats.requests_in_flight == 0);
}

fn tasks(backend: Backend) {
    let (_server, runtime) = start(backend, Config::default());
    // The start of the application is none of its tasks.
    let counts = |stats: Stats| (stats.tasks_running, stats.tasks_started);
    assert_eq!(counts(runtime.stats()), (0, 0));
    let tasks: Vec<_> = (0..3).map(|_| runtime.spawn(std::future::pending::<()>())).collect();
    assert_eq!(counts(runtime.stats()), (3, 3));
    tasks.iter().for_each(|task| task.cancel());
    wait_for(&runtime, "the tasks are cancelled", |stats| stats.tasks_running == 0);
}

fn prometheus(backend: Backend) {
    let (server, _runtime) = start(backend, Config::default());
    let mut client = server.client();
    client.get("/");
    let answer = client.get("/metrics");
    assert_eq!(answer.field("Content-Type"), Some("text/plain; version=0.0.4"));
    let text = answer.text();
    let info = format!("gearshift_info{{backend=\"{backend}\"}} 1");
    for line in [info.as_str(), "gearshift_connections_open 1", "gearshift_responses_total{class=\"2xx\"} 1"]
    {
        assert!(text.lines().any(|found| found == line), "no {line} in\n{text}");
    }
}
