//! The log names handlers that block an event loop, and no others.

use std::io;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, mpsc};
use std::thread;
use std::time::Duration;

use futures_lite::{StreamExt, stream};
use gearshift::{
    Answer, Backend, Body, Bytes, Config, Handler, IntoResponse, OnDisconnect, Request, Response, Router,
    Runtime, on_disconnect, sync,
};
use test_support::backend::{blocks, few_workers};
use test_support::server::Running;
use test_support::suite::Area;
use test_support::{PATIENCE, logs, wait_until};

pub(crate) const AREA: Area = (
    "stalls",
    &[
        ("a_sync_handler_that_blocks_is_named", blocking_sync),
        ("an_async_handler_that_blocks_is_named", blocking_async),
        ("a_handler_that_blocks_with_its_body_on_the_wire_is_named", blocking_upload),
        ("a_background_task_that_blocks_is_named", blocking_task),
        ("requests_of_one_turn_are_counted_together", pipelined),
        ("a_streamed_response_that_blocks_is_named", blocking_stream),
        ("a_stream_is_not_charged_for_the_handlers_before_it", stream_after_handler),
        ("a_handler_without_a_route_is_not_named_by_an_earlier_route", without_route),
        ("a_route_that_is_found_late_is_named", late_route),
        ("a_handler_that_blocks_after_its_peer_has_left_is_named", detached),
        ("a_handler_that_waits_or_offloads_is_not_named", well_behaved),
    ],
);

fn lines_about(what: &str) -> Vec<String> {
    logs::lines(logs::STALL, what)
}

/// How long a handler takes that blocks its event loop.
const LONG: Duration = Duration::from_millis(400);

/// The time that counts as a stall. A busy machine delays a thread by less.
const THRESHOLD: Duration = Duration::from_millis(300);

/// How long a handler takes that does not block its event loop.
const LONGER: Duration = Duration::from_secs(2);

fn block() -> &'static str {
    thread::sleep(LONG);
    "blocked"
}

fn settings(backend: Backend) -> Config {
    let mut config = few_workers(backend);
    config.stall_threshold = THRESHOLD;
    config
}

fn start(backend: Backend) -> (Running, Runtime) {
    start_with(backend, settings(backend))
}

fn start_with(backend: Backend, config: Config) -> (Running, Runtime) {
    let (tell, told) = mpsc::channel();
    let server = Running::start(backend, config, move |runtime: Runtime| {
        tell.send(runtime.clone()).expect("the test waits");
        // The log does not name the server, so the routes carry the name of the backend.
        let path = |what: &str| format!("/{}/{what}", runtime.backend());
        let (waits, offloads, burns, spawns) =
            (runtime.clone(), runtime.clone(), runtime.clone(), runtime.clone());
        Router::new()
            .get("/", sync(|_| "fine"))
            .get(&path("sync/{n}"), sync(|_| block()))
            .get(&path("async"), async |_: Request| block())
            .get(&path("quick"), async |_: Request| "quick")
            .get(&path("stream"), sync(|_| Response::new(blocking_body())))
            .get(
                &path("quick-stream"),
                sync(|_| {
                    Response::new(Body::from_stream(stream::once(Ok::<_, io::Error>(Bytes::from("quick")))))
                }),
            )
            .get(&path("pipelined"), sync(|_| thread::sleep(LONG / 4)))
            .post(&path("upload"), async |request: Request| {
                let body = request.into_body().bytes(100).await;
                block();
                body
            })
            .get(&path("spawn"), move |_: Request| {
                let task = spawns.spawn(async { block() });
                async { task.await.unwrap_or_default() }
            })
            .get(&path("after"), sync(|_| Response::text("at once").after(async { _ = block() })))
            .get(&path("good/wait"), move |_: Request| waits.sleep(LONGER))
            .get(&path("good/offload"), move |_: Request| offloads.blocking(|| thread::sleep(LONGER)))
            .get(&path("good/compute"), move |_: Request| burns.compute(|| thread::sleep(LONGER)))
    });
    (server, told.recv().expect("the application has started"))
}

/// Checks that the log has exactly one line about `what`, with its duration and backend, and that one stall is counted.
/// A backend whose threads may block logs and counts none.
fn expect(backend: Backend, runtime: &Runtime, what: &str, least: u128) {
    if blocks(backend) {
        assert_eq!((lines_about(what).len(), runtime.stats().stalls), (0, 0));
        return;
    }
    wait_until("the stall is logged", || !lines_about(what).is_empty());
    let said = lines_about(what);
    assert_eq!((said.len(), runtime.stats().stalls), (1, 1), "{said:?}");
    let millis = said[0].rsplit(" for ").next().and_then(|rest| rest.split(' ').next()?.parse::<u128>().ok());
    // The server measures with a coarse clock.
    assert!(
        millis.is_some_and(|millis| (least - 20..least + PATIENCE.as_millis()).contains(&millis)),
        "{said:?}"
    );
    assert!(said[0].contains(&format!("({backend})")), "{said:?}");
}

fn blocking_sync(backend: Backend) {
    let (server, runtime) = start(backend);
    assert_eq!(server.get(&format!("/{backend}/sync/7")).text(), "blocked");
    expect(backend, &runtime, &format!("/{backend}/sync/{{n}} "), LONG.as_millis());
}

fn blocking_async(backend: Backend) {
    let (server, runtime) = start(backend);
    assert_eq!(server.get(&format!("/{backend}/async")).text(), "blocked");
    expect(backend, &runtime, &format!("/{backend}/async "), LONG.as_millis());
}

fn blocking_upload(backend: Backend) {
    let (server, runtime) = start(backend);
    let mut client = server.client();
    client.send(format!("POST /{backend}/upload HTTP/1.1\r\nHost: a\r\nContent-Length: 4\r\n\r\n"));
    thread::sleep(Duration::from_millis(20));
    client.send("body");
    assert_eq!(client.answer().text(), "body");
    expect(backend, &runtime, &format!("/{backend}/upload "), LONG.as_millis());
}

fn blocking_task(backend: Backend) {
    let (server, runtime) = start(backend);
    // Background tasks share a loop on a blocking backend as well.
    for (stalls, path, text) in [(1, "spawn", "blocked"), (2, "after", "at once")] {
        assert_eq!(server.get(&format!("/{backend}/{path}")).text(), text);
        wait_until("the task is named", || {
            let said = lines_about(&format!("({backend})"));
            let named =
                said.iter().filter(|line| line.starts_with("the background task of tests/backends/stalls"));
            named.count() as u64 == stalls
        });
        assert_eq!(runtime.stats().stalls, stalls);
    }
}

fn pipelined(backend: Backend) {
    let (server, runtime) = start(backend);
    let mut client = server.client();
    client.send(format!("GET /{backend}/pipelined HTTP/1.1\r\nHost: a\r\n\r\n").repeat(4));
    for _ in 0..4 {
        assert_eq!(client.answer().status, 200);
    }
    let said = format!("one of 4 requests, the last for /{backend}/pipelined,");
    expect(backend, &runtime, &said, LONG.as_millis());
}

/// A body that blocks its thread before its only piece.
fn blocking_body() -> Body {
    Body::from_stream(stream::once(()).map(|()| Ok::<_, io::Error>(Bytes::from(block()))))
}

fn blocking_stream(backend: Backend) {
    let (server, runtime) = start(backend);
    let mut client = server.client();
    assert_eq!(client.get(&format!("/{backend}/quick")).text(), "quick");
    assert_eq!(client.get(&format!("/{backend}/stream")).text(), "blocked");
    expect(backend, &runtime, &format!("/{backend}/stream "), LONG.as_millis());
    assert_eq!(lines_about(&format!("/{backend}/quick ")), Vec::<String>::new());
}

fn stream_after_handler(backend: Backend) {
    let (server, runtime) = start(backend);
    let mut client = server.client();
    let paths = [format!("/{backend}/sync/7"), format!("/{backend}/quick-stream")];
    client.send(paths.map(|path| format!("GET {path} HTTP/1.1\r\nHost: a\r\n\r\n")).concat());
    assert_eq!(client.answer().text(), "blocked");
    assert_eq!(client.answer().text(), "quick");
    let said = format!("one of 2 requests, the last for /{backend}/quick-stream,");
    expect(backend, &runtime, &said, LONG.as_millis());
}

/// Starts a server whose handler blocks at `/block`, and calls a router for all other paths: at once, or in its future.
fn start_around_a_router(backend: Backend) -> (Running, Runtime) {
    let (tell, told) = mpsc::channel();
    let server = Running::start(backend, settings(backend), move |runtime: Runtime| {
        tell.send(runtime).expect("the test waits");
        let router = Router::new()
            .get(&format!("/{backend}/inner"), sync(|_| "inner"))
            .get(&format!("/{backend}/late"), sync(|_| block()));
        Around(Arc::new(router))
    });
    (server, told.recv().expect("the application has started"))
}

/// See [`start_around_a_router`].
struct Around(Arc<Router>);

impl Handler for Around {
    fn call(&self, request: Request) -> Answer {
        if request.path() == "/block" {
            return Answer::Ready(block().into_response());
        }
        if !request.path().ends_with("/late") {
            return self.0.call(request);
        }
        let (router, wait) = (self.0.clone(), request.runtime().sleep(Duration::from_millis(1)));
        let routed = async move {
            wait.await;
            router.call(request).response().await
        };
        Answer::later(routed)
    }
}

fn without_route(backend: Backend) {
    let (server, runtime) = start_around_a_router(backend);
    let mut client = server.client();
    assert_eq!(client.get(&format!("/{backend}/inner")).text(), "inner");
    assert_eq!(client.get("/block").text(), "blocked");
    wait_until("the stall is counted", || blocks(backend) || runtime.stats().stalls == 1);
    assert_eq!(lines_about(&format!("/{backend}/inner")), Vec::<String>::new());
}

fn late_route(backend: Backend) {
    let (server, runtime) = start_around_a_router(backend);
    let mut client = server.client();
    assert_eq!(client.get(&format!("/{backend}/inner")).text(), "inner");
    assert_eq!(client.get(&format!("/{backend}/late")).text(), "blocked");
    expect(backend, &runtime, &format!("/{backend}/late "), LONG.as_millis());
}

fn detached(backend: Backend) {
    let (tell, told) = mpsc::channel();
    let may_block = Arc::new(AtomicBool::new(false));
    let blocks_now = may_block.clone();
    let server = Running::start(backend, settings(backend), move |runtime: Runtime| {
        tell.send(runtime.clone()).expect("the test waits");
        let handler = move |_: Request| {
            let (runtime, may_block) = (runtime.clone(), blocks_now.clone());
            async move {
                while !may_block.load(Ordering::SeqCst) {
                    runtime.sleep(Duration::from_millis(2)).await;
                }
                block()
            }
        };
        Router::new().get(&format!("/{backend}/detached"), on_disconnect(OnDisconnect::Detach, handler))
    });
    let runtime = told.recv().expect("the application has started");
    let mut client = server.client();
    client.send_get(&format!("/{backend}/detached"));
    wait_until("the handler has begun", || runtime.stats().requests_in_flight == 1);
    drop(client);
    wait_until("the handler is detached", || runtime.stats().tasks_running == 1);
    may_block.store(true, Ordering::SeqCst);
    wait_until("the handler has ended", || runtime.stats().tasks_running == 0);
    // On a blocking backend the handler blocks its own thread.
    let stalls = if blocks(backend) { 0 } else { 1 };
    assert_eq!(lines_about(&format!("/{backend}/detached ")).len(), stalls);
    assert_eq!(runtime.stats().stalls, stalls as u64);
}

fn well_behaved(backend: Backend) {
    let mut config = few_workers(backend);
    // A busy machine delays a thread by less than this. The handlers take longer.
    config.stall_threshold = LONGER - Duration::from_millis(500);
    // A client waits for the handlers of the others before it sends again.
    config.keep_alive = Duration::from_secs(600);
    let (server, runtime) = start_with(backend, config);
    let mut clients: Vec<_> = (0..12).map(|_| server.client()).collect();
    for _ in 0..2 {
        for (n, client) in clients.iter_mut().enumerate() {
            client.send_get(&match n {
                0 => format!("/{backend}/good/wait"),
                1 => format!("/{backend}/good/offload"),
                2 => format!("/{backend}/good/compute"),
                _ => "/".to_owned(),
            });
        }
        for client in &mut clients {
            assert_eq!(client.answer().status, 200);
        }
    }
    assert_eq!(runtime.stats().stalls, 0);
    assert_eq!(lines_about(&format!("/{backend}/good/")), Vec::<String>::new());
}
