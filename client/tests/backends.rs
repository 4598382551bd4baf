//! The client within a server on every backend, before a service that counts what comes to it.

use std::collections::HashSet;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::process::ExitCode;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::Duration;

use futures_util::future::join_all;
use gearshift::http::{Request as HttpRequest, header};
use gearshift::{App, Backend, Bytes, Config, Refusal, Request, Response, Router, Runtime, TestServer, sync};
use gearshift_client::{Client, ErrorKind};
use libtest_mimic::{Arguments, Trial};

/// Longer than anything takes that is not stuck.
const PATIENCE: Duration = Duration::from_secs(10);

const CASES: [(&str, fn(Backend)); 5] = [
    ("more_requests_than_connections_take_turns", more_requests_than_connections_take_turns),
    ("sends_what_it_is_given_and_says_whom_it_asks", sends_what_it_is_given_and_says_whom_it_asks),
    ("an_answer_has_so_many_bytes_at_most", an_answer_has_so_many_bytes_at_most),
    ("only_what_may_be_repeated_is_sent_again", only_what_may_be_repeated_is_sent_again),
    ("a_dropped_request_gives_its_turn_back", a_dropped_request_gives_its_turn_back),
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

fn more_requests_than_connections_take_turns(backend: Backend) {
    let peers = Arc::new(Mutex::new(HashSet::new()));
    let seen = peers.clone();
    let service = service(move |runtime| {
        Router::new().get("/", move |request: Request| {
            seen.lock().unwrap_or_else(PoisonError::into_inner).insert(format!("{:?}", request.peer()));
            let runtime = runtime.clone();
            async move { runtime.sleep(Duration::from_millis(5)).await }
        })
    });
    let client = Client::new(service.addr().to_string()).connections(3);
    let said = ask(backend, client, |runtime, client| async move {
        let answers = join_all((0..10).map(|_| client.get(&runtime, "/"))).await;
        answers.into_iter().map(|answer| answer.expect("an answer").status().as_str().to_owned()).collect()
    });
    assert_eq!(said, "200".repeat(10));
    assert_eq!(peers.lock().unwrap_or_else(PoisonError::into_inner).len(), 3);
}

fn sends_what_it_is_given_and_says_whom_it_asks(backend: Backend) {
    let service = service(|_| {
        Router::new().put("/echo/{name}", async |request: Request| {
            let host = request.header(header::HOST).unwrap_or_default().to_owned();
            let name = request.param("name").unwrap_or_default().into_owned();
            let body = request.into_body().bytes(100).await?;
            Ok::<_, Refusal>(format!("{host} {name} {}", String::from_utf8_lossy(&body)))
        })
    });
    let authority = service.addr().to_string();
    let said = ask(backend, Client::new(authority.clone()), |runtime, client| async move {
        let mut said = Vec::new();
        for host in [None, Some("other")] {
            let mut request = HttpRequest::put("/echo/a?b");
            if let Some(host) = host {
                request = request.header(header::HOST, host);
            }
            let request = request.body(Bytes::from_static(b"body")).expect("a request");
            let answer = client.send(&runtime, request).await.expect("an answer").into_body();
            said.push(String::from_utf8_lossy(&answer).into_owned());
        }
        said.join("|")
    });
    assert_eq!(said, format!("{authority} a body|other a body"));
}

fn an_answer_has_so_many_bytes_at_most(backend: Backend) {
    let service = service(|_| {
        Router::new().get("/{n}", sync(|request: Request| "x".repeat(request.parse_param("n").unwrap_or(0))))
    });
    let client = Client::new(service.addr().to_string()).most_bytes(100);
    let said = ask(backend, client, |runtime, client| async move {
        assert_eq!(client.get(&runtime, "/100").await.expect("it fits").body().len(), 100);
        let error = client.get(&runtime, "/101").await.expect_err("it does not fit");
        assert!(matches!(error.kind(), ErrorKind::Body(_)), "{error:?}");
        // What is left of it is not taken for the next answer.
        assert_eq!(client.get(&runtime, "/99").await.expect("it fits").body().len(), 99);
        error.to_string()
    });
    assert_eq!(said, format!("{}: length limit exceeded", service.addr()));
}

/// Each connection is answered once, and closed at its second request.
fn only_what_may_be_repeated_is_sent_again(backend: Backend) {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let authority = listener.local_addr().expect("a bound address").to_string();
    let service = thread::spawn(move || {
        for _ in 0..2 {
            let (mut peer, _) = listener.accept().expect("it listens");
            peer.set_read_timeout(Some(PATIENCE)).expect("a socket has time-outs");
            read_head(&mut peer);
            peer.write_all(b"HTTP/1.1 204 No Content\r\n\r\n").expect("the client reads");
            read_head(&mut peer);
        }
    });
    let said = ask(backend, Client::new(authority), |runtime, client| async move {
        let mut said = Vec::new();
        for method in ["GET", "PUT", "POST"] {
            let request = HttpRequest::builder().method(method).uri("/").body(Bytes::new());
            match client.send(&runtime, request.expect("a request")).await {
                Ok(answer) => said.push(format!("{method} {}", answer.status().as_u16())),
                Err(error) => {
                    assert!(matches!(error.kind(), ErrorKind::Exchange(_)), "{error:?}");
                    said.push(format!("{method} failed"));
                }
            }
        }
        said.join(", ")
    });
    assert_eq!(said, "GET 204, PUT 204, POST failed");
    service.join().expect("two connections came");
}

fn a_dropped_request_gives_its_turn_back(backend: Backend) {
    let never = async |_: Request| std::future::pending::<Response>().await;
    let service = service(move |_| Router::new().get("/never", never).get("/", sync(|_| "here")));
    let client = Client::new(service.addr().to_string()).connections(1);
    let said = ask(backend, client, |runtime, client| async move {
        for _ in 0..3 {
            let late = runtime.timeout(Duration::from_millis(20), client.get(&runtime, "/never")).await;
            assert!(late.is_err(), "it never answers");
        }
        let answer = client.get(&runtime, "/").await.expect("an answer");
        String::from_utf8_lossy(answer.body()).into_owned()
    });
    assert_eq!(said, "here");
}

/// What `work` says when it is done by a handler on `backend`.
fn ask<F, R>(backend: Backend, client: Client, work: F) -> String
where
    F: Fn(Runtime, Arc<Client>) -> R + Send + Sync + 'static,
    R: Future<Output = String> + Send + 'static,
{
    let client = Arc::new(client);
    let closing = client.clone();
    let start = move |runtime: Runtime| {
        Router::new().get("/", move |_: Request| work(runtime.clone(), client.clone()))
    };
    let app = App::new(start).on_stop(async move || closing.close());
    let mut config = Config::default();
    config.graceful_timeout = PATIENCE;
    let server = TestServer::with_app(backend, config, app).expect("the server starts");
    let mut peer = TcpStream::connect(server.addr()).expect("it listens");
    peer.set_read_timeout(Some(PATIENCE)).expect("a socket has time-outs");
    peer.write_all(b"GET / HTTP/1.1\r\nHost: test\r\nConnection: close\r\n\r\n").expect("it reads");
    let mut answer = String::new();
    peer.read_to_string(&mut answer).expect("an answer in UTF-8");
    assert_eq!(server.stop().expect("it stops").cut, 0);
    let (head, body) = answer.split_once("\r\n\r\n").expect("a whole head");
    assert!(head.starts_with("HTTP/1.1 200"), "{answer}");
    body.to_owned()
}

fn service(app: impl FnOnce(Runtime) -> Router + Send + 'static) -> TestServer {
    let mut backends = Backend::available().iter();
    let backend = backends.find(|backend| backend.name() != "sequential").expect("one is compiled in");
    TestServer::start(*backend, app).expect("the service starts")
}

fn read_head(peer: &mut TcpStream) {
    let mut head = Vec::new();
    let mut byte = [0];
    while !head.ends_with(b"\r\n\r\n") {
        peer.read_exact(&mut byte).expect("a request comes whole");
        head.push(byte[0]);
    }
}
