//! The gateway over sockets, on every backend that is compiled in, in front of services that each test defines.

use std::collections::HashSet;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::process::ExitCode;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use async_lock::Barrier;
use gearshift::{Backend, Config, Request, Response, Router, Runtime, StatusCode, TestServer, sync};
use libtest_mimic::{Arguments, Trial};
use serde_json::{Value, json};

/// A limit for every wait. Only a test that hangs reaches it.
const PATIENCE: Duration = Duration::from_secs(10);
/// The deadline of calls to services that never respond.
const SOON: Duration = Duration::from_millis(100);
/// An address on which no service listens.
const NOWHERE: &str = "127.0.0.1:1";

const CASES: [(&str, fn(Backend)); 13] = [
    ("calls_of_a_fan_are_all_there_at_once", calls_of_a_fan_are_all_there_at_once),
    ("calls_of_a_chain_follow_each_other_on_one_connection", calls_of_a_chain_follow_each_other),
    ("calls_beyond_the_connections_take_turns", calls_beyond_the_connections_take_turns),
    ("a_request_makes_a_limited_number_of_calls", a_request_makes_a_limited_number_of_calls),
    ("puts_parts_together", puts_parts_together),
    ("a_part_that_is_down_is_missing", a_part_that_is_down_is_missing),
    ("a_part_that_is_late_is_missing", a_part_that_is_late_is_missing),
    ("a_part_that_is_no_json_is_missing", a_part_that_is_no_json_is_missing),
    ("no_part_at_all_is_502", no_part_at_all_is_502),
    ("a_service_that_fails_is_502", a_service_that_fails_is_502),
    ("a_service_that_is_late_is_504", a_service_that_is_late_is_504),
    ("a_stale_connection_is_replaced_once", a_stale_connection_is_replaced_once),
    ("idle_connections_do_not_hold_up_a_stop", idle_connections_do_not_hold_up_a_stop),
];

fn main() -> ExitCode {
    let trials = Backend::available().iter().flat_map(|backend| {
        CASES.map(|(name, case)| {
            Trial::test(format!("{backend}::{name}"), move || {
                case(*backend);
                Ok(())
            })
        })
    });
    libtest_mimic::run(&Arguments::from_args(), trials.collect()).exit_code()
}

fn calls_of_a_fan_are_all_there_at_once(backend: Backend) {
    // No call is answered before the tenth has arrived.
    let all = Arc::new(Barrier::new(10));
    let peers = Arc::new(Mutex::new(HashSet::new()));
    let seen = peers.clone();
    let service = service(move |_| {
        Router::new().get("/wait/50", move |request: Request| {
            lock(&seen).insert(format!("{:?}", request.peer()));
            let all = all.clone();
            async move {
                all.wait().await;
                "ok"
            }
        })
    });
    let gateway = gateway(backend, &[&service.addr().to_string()], PATIENCE);
    for _ in 0..2 {
        assert_eq!(get(&gateway, "/fan/10/50"), (200, "10 calls at once\n".into()));
    }
    assert_eq!(lock(&peers).len(), 10);
}

fn calls_of_a_chain_follow_each_other(backend: Backend) {
    let peers = Arc::new(Mutex::new((0, HashSet::new())));
    let seen = peers.clone();
    let in_flight = Arc::new(AtomicUsize::new(0));
    let service = service(move |runtime: Runtime| {
        Router::new().get("/wait/1", move |request: Request| {
            let (runtime, in_flight, seen) = (runtime.clone(), in_flight.clone(), seen.clone());
            async move {
                let others = in_flight.fetch_add(1, SeqCst);
                runtime.sleep(Duration::from_millis(1)).await;
                in_flight.fetch_sub(1, SeqCst);
                let mut seen = lock(&seen);
                seen.0 += 1;
                seen.1.insert(format!("{:?}", request.peer()));
                if others == 0 { StatusCode::OK } else { StatusCode::CONFLICT }
            }
        })
    });
    let gateway = gateway(backend, &[&service.addr().to_string()], PATIENCE);
    assert_eq!(get(&gateway, "/chain/10/1"), (200, "10 calls in a row\n".into()));
    let seen = lock(&peers);
    assert_eq!((seen.0, seen.1.len()), (10, 1), "{:?}", seen.1);
}

fn calls_beyond_the_connections_take_turns(backend: Backend) {
    let peers = Arc::new(Mutex::new(HashSet::new()));
    let seen = peers.clone();
    let service = service(move |runtime: Runtime| {
        Router::new().get("/wait/5", move |request: Request| {
            lock(&seen).insert(format!("{:?}", request.peer()));
            let runtime = runtime.clone();
            async move { runtime.sleep(Duration::from_millis(5)).await }
        })
    });
    let gateway = gateway(backend, &[&service.addr().to_string()], PATIENCE);
    let addr = gateway.addr();
    thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(move || assert_eq!(get_from(addr, "/fan/32/5").0, 200));
        }
    });
    let connections = lock(&peers).len();
    assert!((32..=64).contains(&connections), "{connections}");
}

fn a_request_makes_a_limited_number_of_calls(backend: Backend) {
    let gateway = gateway(backend, &[NOWHERE], PATIENCE);
    assert_eq!(get(&gateway, "/fan/0/1"), (200, "0 calls at once\n".into()));
    for path in ["/fan/33/1", "/chain/33/1"] {
        assert_eq!(get(&gateway, path), (400, "n is at most 32".into()), "{path}");
    }
    for path in ["/fan/x/1", "/fan/-1/1", "/chain/1/x", "/chain/1/99999999999", "/fan/1"] {
        assert_eq!(get(&gateway, path).0, 404, "{path}");
    }
}

fn puts_parts_together(backend: Backend) {
    let service = service(|_| gateway::service());
    let gateway = gateway(backend, &[&service.addr().to_string()], PATIENCE);
    let parts = json!({ "users": named("users"), "orders": named("orders"), "prices": named("prices") });
    assert_eq!(aggregate(&gateway), (200, json!({ "partial": false, "parts": parts, "missing": {} })));
}

fn a_part_that_is_down_is_missing(backend: Backend) {
    let service = service(|_| gateway::service());
    misses_orders(backend, &service, NOWHERE, PATIENCE, NOWHERE);
}

fn a_part_that_is_late_is_missing(backend: Backend) {
    let service = service(|_| gateway::service());
    let late = never();
    misses_orders(backend, &service, &late.addr().to_string(), Duration::from_secs(1), "not ready within 1s");
}

fn a_part_that_is_no_json_is_missing(backend: Backend) {
    let service = service(|_| gateway::service());
    let text = self::service(|_| Router::new().get("/json/{name}", sync(|_| "text")));
    misses_orders(backend, &service, &text.addr().to_string(), PATIENCE, "expected");
}

fn misses_orders(backend: Backend, service: &TestServer, orders: &str, deadline: Duration, why: &str) {
    let good = service.addr().to_string();
    let gateway = gateway(backend, &[&good, orders, &good], deadline);
    let (status, whole) = aggregate(&gateway);
    let missing = whole["missing"]["orders"].as_str().expect("why orders are missing");
    assert!(missing.contains(why), "{missing}");
    let parts = json!({ "users": named("users"), "prices": named("prices") });
    let expected = json!({ "partial": true, "parts": parts, "missing": { "orders": missing } });
    assert_eq!((status, whole), (200, expected));
}

fn no_part_at_all_is_502(backend: Backend) {
    let (status, whole) = aggregate(&gateway(backend, &[NOWHERE], PATIENCE));
    assert_eq!((status, &whole["partial"], &whole["parts"]), (502, &json!(true), &json!({})));
}

fn a_service_that_fails_is_502(backend: Backend) {
    let failing = service(|_| Router::new().get("/wait/1", sync(|_| StatusCode::IM_A_TEAPOT)));
    let huge = service(|_| Router::new().get("/wait/1", sync(|_| "x".repeat((1 << 20) + 1))));
    let (closing, answerer) = answering([0]);
    for (to, why) in [
        (failing.addr().to_string(), "418"),
        (huge.addr().to_string(), "length limit"),
        (NOWHERE.into(), NOWHERE),
        (closing.clone(), &*closing),
    ] {
        let gateway = gateway(backend, &[&to], PATIENCE);
        let (status, said) = get(&gateway, "/chain/1/1");
        assert!(status == 502 && said.contains(why), "{status} {said}, not {why}");
    }
    answerer.join().expect("one connection came");
}

fn a_service_that_is_late_is_504(backend: Backend) {
    let late = never();
    let gateway = gateway(backend, &[&late.addr().to_string()], SOON);
    for path in ["/fan/10/1", "/chain/10/1"] {
        assert_eq!(get(&gateway, path), (504, "not ready within 100ms".into()), "{path}");
    }
}

fn a_stale_connection_is_replaced_once(backend: Backend) {
    // The connection closes at the moment of the second request, which is sent again on a new connection. The fourth
    // request fails on that connection and then on a new one: the second failure is final.
    let (service, answerer) = answering([1, 2, 0]);
    let gateway = gateway(backend, &[&service], PATIENCE);
    for status in [200, 200, 200, 502] {
        assert_eq!(get(&gateway, "/chain/1/1").0, status);
    }
    answerer.join().expect("three connections came");
}

fn idle_connections_do_not_hold_up_a_stop(backend: Backend) {
    // The service keeps connections open for longer than the gateway may take to stop.
    let mut config = Config::default();
    config.keep_alive = 10 * PATIENCE;
    let service = TestServer::with_config(concurrent(), config, gateway::service()).expect("it starts");
    let gateway = gateway(backend, &[&service.addr().to_string()], PATIENCE);
    assert_eq!(get(&gateway, "/fan/10/1").0, 200);
    let began = Instant::now();
    let report = gateway.stop().expect("it stops");
    assert!(report.cut == 0 && began.elapsed() < PATIENCE / 2, "{report:?} {:?}", began.elapsed());
}

fn gateway(backend: Backend, services: &[&str], deadline: Duration) -> TestServer {
    let services = services.iter().map(ToString::to_string).collect();
    let mut config = Config::default();
    config.graceful_timeout = PATIENCE;
    TestServer::with_config(backend, config, gateway::app(services, deadline)).expect("the gateway starts")
}

fn service(app: impl FnOnce(Runtime) -> Router + Send + 'static) -> TestServer {
    TestServer::start(concurrent(), app).expect("the service starts")
}

/// A backend that runs several handlers at once.
fn concurrent() -> Backend {
    let mut backends = Backend::available().iter();
    *backends.find(|backend| !backend.threads_block()).expect("one is compiled in")
}

fn never() -> TestServer {
    let handler = async |_: Request| std::future::pending::<Response>().await;
    service(move |_| Router::new().get("/wait/1", handler).get("/json/{name}", handler))
}

/// A service that accepts one connection for each number in `answers`. It answers that number of requests on the
/// connection, and closes the connection at the next request. Later connections stay in the queue of the listener.
fn answering<const N: usize>(answers: [usize; N]) -> (String, JoinHandle<TcpListener>) {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let address = listener.local_addr().expect("a bound address").to_string();
    let answerer = thread::spawn(move || {
        for answers in answers {
            let (socket, _) = listener.accept().expect("it listens");
            socket.set_read_timeout(Some(PATIENCE)).expect("a socket has timeouts");
            let mut peer = BufReader::new(socket);
            for _ in 0..answers {
                read_head(&mut peer);
                let answer = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";
                peer.get_mut().write_all(answer).expect("the gateway reads");
            }
            read_head(&mut peer);
        }
        listener
    });
    (address, answerer)
}

fn read_head(peer: &mut impl BufRead) {
    let mut line = String::new();
    while line != "\r\n" {
        line.clear();
        assert_ne!(
            peer.read_line(&mut line).expect("a request arrives"),
            0,
            "the head of a request is complete"
        );
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn named(name: &str) -> Value {
    json!({ "name": name })
}

fn aggregate(gateway: &TestServer) -> (u16, Value) {
    let (status, body) = get(gateway, "/aggregate");
    (status, serde_json::from_str(&body).expect("a JSON document"))
}

fn get(server: &TestServer, path: &str) -> (u16, String) {
    get_from(server.addr(), path)
}

fn get_from(server: SocketAddr, path: &str) -> (u16, String) {
    let mut peer = TcpStream::connect(server).expect("the server listens");
    peer.set_read_timeout(Some(3 * PATIENCE)).expect("a socket has timeouts");
    write!(peer, "GET {path} HTTP/1.1\r\nHost: test\r\nConnection: close\r\n\r\n").expect("the server reads");
    let mut answer = String::new();
    peer.read_to_string(&mut answer).expect("an answer in UTF-8");
    let (head, body) = answer.split_once("\r\n\r\n").expect("a whole head");
    let status = head.split(' ').nth(1).and_then(|status| status.parse().ok()).expect("a status line");
    (status, body.to_owned())
}
