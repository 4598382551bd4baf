//! The log names handlers that block an event loop, and no others.

use std::sync::{Mutex, PoisonError, mpsc};
use std::thread;
use std::time::Duration;

use gearshift::{Backend, Config, Request, Response, Router, Runtime, sync};
use log::{LevelFilter, Log, Metadata, Record};
use test_support::backend::{blocks, few_workers};
use test_support::server::Running;
use test_support::suite::Area;
use test_support::{PATIENCE, wait_until};

pub(crate) const AREA: Area = (
    "stalls",
    &[
        ("a_sync_handler_that_blocks_is_named", blocking_sync),
        ("an_async_handler_that_blocks_is_named", blocking_async),
        ("a_handler_that_blocks_with_its_body_on_the_wire_is_named", blocking_upload),
        ("a_background_task_that_blocks_is_named", blocking_task),
        ("requests_of_one_turn_are_counted_together", pipelined),
        ("a_handler_that_waits_or_offloads_is_not_named", well_behaved),
    ],
);

/// The log lines about stalls, of all servers of this process.
static LINES: Mutex<Vec<String>> = Mutex::new(Vec::new());

/// A logger that keeps the lines about stalls and drops all others.
struct StallLog;

impl Log for StallLog {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        metadata.target() == "gearshift::stall"
    }

    fn log(&self, record: &Record<'_>) {
        if self.enabled(record.metadata()) {
            LINES.lock().unwrap_or_else(PoisonError::into_inner).push(record.args().to_string());
        }
    }

    fn flush(&self) {}
}

/// Makes [`StallLog`] the logger of the process.
pub(crate) fn listen() {
    static LOG: StallLog = StallLog;
    log::set_logger(&LOG).expect("the process has no other logger");
    log::set_max_level(LevelFilter::Warn);
}

fn lines_about(what: &str) -> Vec<String> {
    let said = LINES.lock().unwrap_or_else(PoisonError::into_inner);
    said.iter().filter(|line| line.contains(what)).cloned().collect()
}

const LONG: Duration = Duration::from_millis(200);

/// How long a handler takes that does not block its event loop.
const LONGER: Duration = Duration::from_secs(2);

fn block() -> &'static str {
    thread::sleep(LONG);
    "blocked"
}

fn start(backend: Backend) -> (Running, Runtime) {
    start_with(backend, few_workers(backend))
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
            .get(&path("pipelined"), sync(|_| thread::sleep(Duration::from_millis(30))))
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
    expect(backend, &runtime, &format!("one of 4 requests, the last for /{backend}/pipelined,"), 120);
}

fn well_behaved(backend: Backend) {
    let mut config = few_workers(backend);
    // A busy machine delays a thread by less than this. The handlers take longer.
    config.stall_threshold = LONGER - Duration::from_millis(500);
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
