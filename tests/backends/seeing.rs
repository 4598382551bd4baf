//! The state of a server for its operators: probes, metrics on a separate listener, and histograms. Also the delay of a
//! drain.

use std::io;
use std::net::SocketAddr;
use std::sync::mpsc;
use std::time::{Duration, Instant};

use futures_lite::stream;
use gearshift::{
    Backend, Body, Bytes, Config, Phase, Request, Response, RouteStats, Router, Runtime, Server, healthz,
    readyz, sync,
};
use rustix::process::Signal;
use test_support::app::ON_PURPOSE;
use test_support::backend::{blocks, few_workers};
use test_support::client::Client;
use test_support::program::{self, Program};
use test_support::server::{Launched, Running, any_port};
use test_support::suite::Area;
use test_support::wait_until;

pub(crate) const AREA: Area = (
    "seeing",
    &[
        ("readiness_ends_with_the_request_to_stop_and_the_server_serves_on", leaving),
        ("a_drain_begins_when_its_delay_is_over", delayed),
        ("without_a_delay_a_stop_ends_readiness", at_once),
        ("a_second_signal_during_the_delay_stops_at_once", second),
        ("a_stop_before_the_application_has_started_has_no_delay", during_the_start),
        ("the_listener_of_metrics_answers_while_the_server_is_full", full),
        ("the_listener_of_metrics_answers_while_the_server_drains", draining),
        ("the_listener_of_metrics_answers_before_the_application_has_started", starting),
        ("an_address_of_metrics_that_is_taken_prevents_the_start", taken),
        ("each_route_has_a_histogram", histograms),
        ("a_histogram_has_the_time_of_the_whole_request", latency),
        ("routes_beyond_the_limit_share_a_histogram", bounded),
        ("a_request_without_a_response_is_in_no_histogram", given_up),
        ("a_server_without_histograms_counts_no_latency", no_histograms),
    ],
);

/// Longer than any test.
const LONG: Duration = Duration::from_secs(600);

fn app() -> Router {
    Router::new().get("/", sync(|_| "hi")).get("/healthz", healthz()).get("/readyz", readyz())
}

fn with_delay(backend: Backend, delay: Duration) -> Config {
    let mut config = few_workers(backend);
    (config.drain_delay, config.keep_alive, config.header_timeout) = (delay, LONG, LONG);
    config
}

fn leaving(backend: Backend) {
    let server = Launched::start(backend, with_delay(backend, LONG), |_| app());
    let mut old = server.client();
    let ready = old.get("/readyz");
    assert_eq!(ready.said(), (200, "ready".into()));
    assert_eq!(ready.field("Cache-Control"), Some("no-store"));
    server.shutdown().graceful();
    assert_eq!(old.get("/readyz").said(), (503, "stopping".into()));
    assert_eq!(old.get("/healthz").said(), (200, "ok".into()));
    for mut client in [old, server.client(), server.client()] {
        for _ in 0..3 {
            let answer = client.get("/");
            assert_eq!(answer.said(), (200, "hi".into()));
            assert_eq!(answer.field("Connection"), None);
        }
    }
    assert_eq!(server.shutdown().phase(), Phase::Running);
    server.shutdown().drain();
    assert_eq!(server.ended_gracefully().cut, 0);
}

fn delayed(backend: Backend) {
    const DELAY: Duration = Duration::from_millis(100);
    let server = Launched::start(backend, with_delay(backend, DELAY), |_| app());
    assert_eq!(server.client().get("/").status, 200);
    let asked = Instant::now();
    server.shutdown().graceful();
    server.ended_gracefully();
    assert!(asked.elapsed() >= DELAY);
}

fn at_once(backend: Backend) {
    let mut config = with_delay(backend, Duration::ZERO);
    config.graceful_timeout = LONG;
    let server = Launched::start(backend, config, |_| app());
    // A connection without a request is answered once.
    let mut client = server.client();
    server.shutdown().graceful();
    assert_eq!(server.shutdown().phase(), Phase::Graceful);
    let answer = client.get("/readyz");
    assert_eq!(answer.said(), (503, "stopping".into()));
    assert_eq!(answer.field("Connection"), Some("close"));
    server.ended_gracefully();
}

/// The address of the listener of metrics, which the log has.
fn metrics_of(program: &Program) -> SocketAddr {
    let (_, url) = program.start_log.split_once("metrics at http://").expect("the log has the address");
    url.split('/').next().expect("a split has a first part").parse().expect("an address")
}

fn start(backend: Backend, flags: &[&str]) -> (Program, SocketAddr) {
    let program = Program::start(backend, &[flags, &["--metrics-bind", "127.0.0.1:0"]].concat());
    let metrics = metrics_of(&program);
    (program, metrics)
}

fn ask(metrics: SocketAddr, path: &str) -> (u16, String) {
    Client::connect(metrics).get(path).said()
}

fn expect_metric(metrics: SocketAddr, expected: &str) {
    wait_until(expected, || {
        let (status, text) = ask(metrics, "/metrics");
        status == 200 && text.lines().any(|line| line == expected)
    });
}

fn second(backend: Backend) {
    let (mut program, metrics) = start(backend, &["--drain-delay", "600"]);
    wait_until("the server is ready", || ask(metrics, "/readyz") == (200, "ready".into()));
    program.signal(Signal::TERM);
    wait_until("readiness ends", || ask(metrics, "/readyz") == (503, "stopping".into()));
    program.expect_alive();
    program.signal(Signal::TERM);
    assert_eq!(program.status(), Some(0), "{}", program.log());
    assert!(program.log().contains("begins to drain in 600s"), "{}", program.log());
}

fn during_the_start(backend: Backend) {
    let mut program = Program::start_held(backend, &["--drain-delay", "600"]);
    program.signal(Signal::TERM);
    wait_until("the stop has begun", || program.log().contains("finishing"));
    program.release();
    assert_eq!(program.status(), Some(0), "{}", program.log());
}

fn full(backend: Backend) {
    let (program, metrics) = start(backend, &["--max-connections", "1", "--keep-alive", "600"]);
    let mut first = program.client();
    assert_eq!(first.get("/plaintext").status, 200);
    // This one waits in the queue of the kernel.
    let _waiting = program.client();
    expect_metric(metrics, "gearshift_connections_open 1");
    expect_metric(metrics, "gearshift_requests_total 1");
    expect_metric(metrics, &format!("gearshift_info{{backend=\"{backend}\"}} 1"));
    assert_eq!(ask(metrics, "/healthz"), (200, "ok".into()));
    assert_eq!(ask(metrics, "/readyz"), (200, "ready".into()));
    assert_eq!(ask(metrics, "/plaintext").0, 404);
}

fn draining(backend: Backend) {
    let (mut program, metrics) = start(backend, &[]);
    let mut client = program.client();
    client.send_get("/test/wait/600000");
    expect_metric(metrics, "gearshift_requests_in_flight 1");
    program.signal(Signal::TERM);
    wait_until("readiness ends", || ask(metrics, "/readyz") == (503, "stopping".into()));
    expect_metric(metrics, "gearshift_requests_in_flight 1");
    assert_eq!(ask(metrics, "/healthz"), (200, "ok".into()));
    program.signal(Signal::TERM);
    assert_eq!(program.status(), Some(1), "{}", program.log());
}

fn starting(backend: Backend) {
    let mut program = Program::start_held(backend, &["--metrics-bind", "127.0.0.1:0"]);
    let metrics = metrics_of(&program);
    assert_eq!(ask(metrics, "/healthz"), (200, "ok".into()));
    assert_eq!(ask(metrics, "/readyz"), (503, "starting".into()));
    assert_eq!(ask(metrics, "/metrics"), (503, "starting".into()));
    program.release();
    wait_until("the server is ready", || ask(metrics, "/readyz") == (200, "ready".into()));
}

fn taken(backend: Backend) {
    let other = Running::serve(backend, |_| app());
    let address = other.addr().to_string();
    let (status, log) = program::run(backend, &["--metrics-bind", &address]);
    assert_eq!(status, Some(3), "{log}");
    assert!(log.contains(&format!("error: cannot listen on {address}")), "{log}");
}

/// An application with a route of each kind.
fn routes() -> Router {
    let pieces = || stream::iter(["a", "b"].map(|piece| Ok::<_, io::Error>(piece.into())));
    Router::new()
        .get("/sync", sync(|_| "ok"))
        .get("/async/{id}", async |request: Request| {
            request.runtime().sleep(Duration::from_millis(1)).await;
            "ok"
        })
        .get("/wait/{ms}", async |request: Request| {
            let ms = request.param("ms").and_then(|ms| ms.parse().ok()).unwrap_or(0);
            request.runtime().sleep(Duration::from_millis(ms)).await;
            "ok"
        })
        .get("/stream", sync(move |_| Response::new(Body::from_stream(pieces()))))
        .post("/echo", sync(|request: Request| Response::new(request.into_body())))
        .get("/panic", sync(|_| -> &'static str { panic!("{ON_PURPOSE}") }))
        .get(
            "/cut",
            sync(|_| {
                let pieces = [Ok(Bytes::from_static(b"begun")), Err(io::Error::other(ON_PURPOSE))];
                Response::new(Body::from_stream(stream::iter(pieces)))
            }),
        )
}

/// A server with histograms, and its runtime.
fn counting(backend: Backend, change: fn(&mut Config)) -> (Running, Runtime) {
    let mut config = few_workers(backend);
    config.route_histograms = 100;
    change(&mut config);
    let (tell, told) = mpsc::channel();
    let server = Running::start(backend, config, move |runtime: Runtime| {
        tell.send(runtime).expect("the test waits");
        routes()
    });
    (server, told.recv().expect("the application has started"))
}

/// The number of requests in each histogram, in the order of their names.
fn counts(runtime: &Runtime) -> Vec<(&'static str, u64)> {
    let mut counts: Vec<_> =
        runtime.stats().routes.iter().map(|route| (route.route, route.count())).collect();
    counts.sort();
    counts
}

fn histograms(backend: Backend) {
    let (server, runtime) = counting(backend, |_| {});
    let mut client = server.client();
    // Pipelined, so that handlers of several routes are called in one turn.
    let paths = ["/sync", "/async/1", "/sync", "/stream", "/async/2", "/nowhere", "/stream", "/sync"];
    client.send(paths.map(|path| format!("GET {path} HTTP/1.1\r\nHost: a\r\n\r\n")).concat());
    for path in paths {
        assert_eq!(client.answer().status, if path == "/nowhere" { 404 } else { 200 });
    }
    // The body of the request is a part of the response, piece by piece.
    client.send("POST /echo HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\na");
    let mut other = server.client();
    if !blocks(backend) {
        // The thread works for another route before the response begins.
        assert_eq!(other.get("/sync").status, 200);
    }
    client.send("b");
    assert_eq!(client.answer().text(), "ab");
    assert_eq!(other.get("/panic").status, 500);
    let mut refused = server.client();
    refused.send("GET /sync HTTP/1.1\r\nHost: a\r\n\r\nGET  / HTTP/1.1\r\n\r\n");
    assert_eq!((refused.answer().status, refused.answer().status), (200, 400));
    let sync = if blocks(backend) { 4 } else { 5 };
    let expected =
        [("(none)", 2), ("/async/{id}", 2), ("/echo", 1), ("/panic", 1), ("/stream", 2), ("/sync", sync)];
    wait_until("all requests are counted", || {
        counts(&runtime).iter().map(|(_, count)| count).sum::<u64>() == 8 + sync
    });
    assert_eq!(counts(&runtime), expected);
    let text = runtime.stats().to_string();
    assert!(text.contains("\ngearshift_request_duration_seconds_count{route=\"/async/{id}\"} 2\n"), "{text}");
}

/// The latency is that of the request itself, as far as a clock can tell on a busy machine.
fn latency(backend: Backend) {
    let (server, runtime) = counting(backend, |_| {});
    let began = Instant::now();
    assert_eq!(server.get("/wait/60").status, 200);
    wait_until("the request is counted", || counts(&runtime) == [("/wait/{ms}", 1)]);
    let longest = began.elapsed();
    let route = &runtime.stats().routes[0];
    assert!(route.sum >= Duration::from_millis(60) && route.sum <= longest, "{:?} of {longest:?}", route.sum);
    let bucket = RouteStats::BOUNDS.iter().position(|bound| route.sum <= *bound).expect("a bucket");
    assert_eq!(route.buckets[bucket], 1);
    assert!(RouteStats::BOUNDS[bucket] >= Duration::from_millis(100));
}

fn bounded(backend: Backend) {
    let (server, runtime) = counting(backend, |config| config.route_histograms = 2);
    let mut client = server.client();
    for path in ["/sync", "/stream", "/async/1", "/wait/0", "/sync"] {
        assert_eq!(client.get(path).status, 200);
    }
    let expected = [("(other)", 2), ("/stream", 1), ("/sync", 2)];
    wait_until("all requests are counted", || counts(&runtime) == expected);
    let mut config = few_workers(backend);
    config.route_histograms = Config::MAX_ROUTE_HISTOGRAMS + 1;
    let error = Server::bind(&[any_port()], config).expect_err("a number that is too large");
    assert_eq!(error.to_string(), "the setting route_histograms is more than 65536");
}

/// A response that is cut counts, and a request without a response does not.
fn given_up(backend: Backend) {
    let (server, runtime) = counting(backend, |_| {});
    let mut client = server.client();
    client.send_get("/wait/600000");
    wait_until("the handler waits", || runtime.stats().requests_in_flight == 1);
    drop(client);
    wait_until("the handler is dropped", || runtime.stats().connections_open == 0);
    let mut cut = server.client();
    cut.send_get("/cut");
    assert!(cut.try_answer(false).is_err());
    assert_eq!(server.get("/sync").status, 200);
    wait_until("the requests are counted", || counts(&runtime) == [("/cut", 1), ("/sync", 1)]);
}

fn no_histograms(backend: Backend) {
    let (server, runtime) = counting(backend, |config| config.route_histograms = 0);
    assert_eq!(server.get("/sync").status, 200);
    wait_until("the request is counted", || runtime.stats().requests_served == 1);
    assert_eq!(runtime.stats().routes, []);
    assert!(!runtime.stats().to_string().contains("duration"));
}
