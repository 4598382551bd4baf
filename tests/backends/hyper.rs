//! The adapters for hyper: hyper-util's pooled client in a handler, on every backend.

use std::collections::HashSet;
use std::error::Error as _;
use std::future::Future;
use std::io::{ErrorKind, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use futures_util::future::join_all;
use gearshift::http::{Method, Request as HttpRequest, Response as HttpResponse, Uri, header};
use gearshift::hyper::{ConnectionInfo, Connector, Executor, Io, Timer};
use gearshift::{Backend, BoxError, Bytes, Refusal, Request, Response, Router, Runtime, TestServer, sync};
use http_body_util::{BodyExt, Full, Limited};
use hyper::client::conn::http1;
use hyper::rt::{Executor as _, Timer as _};
use hyper_util::client::legacy::{Client, Error};
use tower_service::Service;

use test_support::PATIENCE;
use test_support::backend::few_workers;
use test_support::server::{Running, one};
use test_support::suite::Area;

pub(crate) const AREA: Area = (
    "hyper",
    &[
        ("requests_beyond_the_connections_take_turns", requests_take_turns),
        ("requests_one_after_another_share_a_connection_at_the_limit", requests_share_a_connection),
        ("the_limit_of_connections_can_be_raised", the_limit_can_be_raised),
        ("a_request_arrives_as_it_was_made", a_request_arrives_as_it_was_made),
        ("a_large_body_goes_both_ways", a_large_body_goes_both_ways),
        ("the_rest_of_a_body_is_not_the_next_response", the_rest_of_a_body_is_not_the_next_response),
        ("a_failed_request_tells_whether_its_connection_was_reused", a_failed_request_tells_of_reuse),
        ("a_dropped_request_frees_its_connection", a_dropped_request_frees_its_connection),
        ("an_idle_connection_is_closed_in_time", an_idle_connection_is_closed_in_time),
        ("an_idle_connection_is_no_task_that_a_stop_waits_for", an_idle_connection_is_no_task),
        ("a_connection_that_cannot_be_had_is_an_error", a_connection_that_cannot_be_had_is_an_error),
        ("a_timer_takes_its_time", a_timer_takes_its_time),
    ],
);

type Pooled = Client<Connector, Full<Bytes>>;

fn requests_take_turns(backend: Backend) {
    let (service, peers) = service_that_counts_peers();
    let url = service.url();
    in_handler(backend, async move |runtime| {
        let client = pooled(&runtime, Connector::new(&runtime).max_connections(3));
        for response in join_all((0..10).map(|_| client.get(uri(&url, "/")))).await {
            assert_eq!(response?.status(), 200);
        }
        Ok(())
    });
    assert_eq!(lock(&peers).len(), 3);
}

fn requests_share_a_connection(backend: Backend) {
    let (service, peers) = service_that_counts_peers();
    let url = service.url();
    in_handler(backend, async move |runtime| {
        let client = pooled(&runtime, Connector::new(&runtime).max_connections(1));
        for _ in 0..10 {
            assert_eq!(body(client.get(uri(&url, "/")).await?).await?, "ok");
        }
        Ok(())
    });
    assert_eq!(lock(&peers).len(), 1);
}

fn the_limit_can_be_raised(backend: Backend) {
    let (service, peers) = service_that_counts_peers();
    let url = service.url();
    in_handler(backend, async move |runtime| {
        let connector = Connector::new(&runtime).max_connections(1);
        let client = pooled(&runtime, connector.clone());
        connector.add_connections(2);
        for response in join_all((0..10).map(|_| client.get(uri(&url, "/")))).await {
            assert_eq!(response?.status(), 200);
        }
        Ok(())
    });
    assert_eq!(lock(&peers).len(), 3);
}

fn a_request_arrives_as_it_was_made(backend: Backend) {
    let service = service(|_| {
        Router::new().put("/echo/{name}", async |request: Request| {
            let host = request.header(header::HOST).unwrap_or_default().to_owned();
            let name = request.param("name").unwrap_or_default().into_owned();
            let body = request.into_body().bytes(100).await?;
            Ok::<_, Refusal>(format!("{host} {name} {}", String::from_utf8_lossy(&body)))
        })
    });
    let (url, authority) = (service.url(), service.addr().to_string());
    in_handler(backend, async move |runtime| {
        let client = pooled(&runtime, Connector::new(&runtime));
        for (host, expected) in [(None, &*authority), (Some("other"), "other")] {
            let mut request = HttpRequest::put(uri(&url, "/echo/a?b"));
            if let Some(host) = host {
                request = request.header(header::HOST, host);
            }
            let response = client.request(request.body(Full::from("body"))?).await?;
            assert_eq!(body(response).await?, format!("{expected} a body"));
        }
        Ok(())
    });
}

/// Without the pool, and with reads that are larger than the buffer of a thread.
fn a_large_body_goes_both_ways(backend: Backend) {
    let service = service(|_| demo::app());
    let authority = service.addr().to_string();
    in_handler(backend, async move |runtime| {
        let stream = runtime.connect(&authority).await?;
        let (mut sender, connection) = http1::handshake(Io::new(stream)).await?;
        Executor::new(&runtime).execute(connection);
        let sent: Bytes = (0..=255).cycle().take(1 << 20).collect::<Vec<u8>>().into();
        let request =
            HttpRequest::post("/echo").header(header::HOST, "test").body(Full::new(sent.clone()))?;
        let response = sender.send_request(request).await?;
        assert!(response.into_body().collect().await?.to_bytes() == sent);
        Ok(())
    });
}

fn the_rest_of_a_body_is_not_the_next_response(backend: Backend) {
    let service = service(|_| {
        Router::new().get("/{n}", sync(|request: Request| "x".repeat(request.parse_param("n").unwrap_or(0))))
    });
    let url = service.url();
    in_handler(backend, async move |runtime| {
        let client = pooled(&runtime, Connector::new(&runtime).max_connections(1));
        for (n, fits) in [(100, true), (101, false), (1 << 20, false), (99, true)] {
            let response = client.get(uri(&url, &format!("/{n}"))).await?;
            match Limited::new(response.into_body(), 100).collect().await {
                Ok(body) => assert!(fits && body.to_bytes().len() == n, "{n}"),
                Err(error) => assert!(!fits && error.to_string() == "length limit exceeded", "{n}: {error}"),
            }
        }
        Ok(())
    });
}

/// The service answers the first request of each connection but the third, and closes the connection at the next
/// request.
fn a_failed_request_tells_of_reuse(backend: Backend) {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let url = format!("http://{}", listener.local_addr().expect("a bound address"));
    let service = thread::spawn(move || {
        let mut methods = Vec::new();
        for answers in [1, 1, 0] {
            let mut peer = accept(&listener);
            for _ in 0..answers {
                methods.push(read_head(&mut peer));
                peer.write_all(b"HTTP/1.1 204 No Content\r\n\r\n").expect("the client reads");
            }
            methods.push(read_head(&mut peer));
        }
        methods.join(" ")
    });
    in_handler(backend, async move |runtime| {
        let client = pooled(&runtime, Connector::new(&runtime).max_connections(1));
        for (method, reused) in [
            (Method::GET, None),
            (Method::PUT, Some(true)),
            (Method::GET, None),
            (Method::POST, Some(true)),
            (Method::GET, Some(false)),
        ] {
            let request = HttpRequest::builder().method(&method).uri(uri(&url, "/")).body(Full::default())?;
            let outcome = client.request(request).await;
            assert_eq!(outcome.as_ref().err().and_then(ConnectionInfo::of).map(|c| c.has_received()), reused);
            if let Ok(response) = outcome {
                let info = response.extensions().get::<ConnectionInfo>();
                assert!(info.is_some_and(ConnectionInfo::has_received));
            }
        }
        Ok(())
    });
    // No request was sent twice.
    assert_eq!(service.join().expect("three connections came"), "GET PUT GET POST GET");
}

fn a_dropped_request_frees_its_connection(backend: Backend) {
    let never = async |_: Request| std::future::pending::<Response>().await;
    let service = service(move |_| Router::new().get("/never", never).get("/", sync(|_| "ok")));
    let url = service.url();
    in_handler(backend, async move |runtime| {
        let client = pooled(&runtime, Connector::new(&runtime).max_connections(1));
        for _ in 0..3 {
            let late = runtime.timeout(Duration::from_millis(20), client.get(uri(&url, "/never"))).await;
            assert!(late.is_err(), "a response to a request that is never answered");
        }
        assert_eq!(body(client.get(uri(&url, "/")).await?).await?, "ok");
        Ok(())
    });
}

fn an_idle_connection_is_closed_in_time(backend: Backend) {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let url = format!("http://{}", listener.local_addr().expect("a bound address"));
    let service = thread::spawn(move || {
        let mut peer = accept(&listener);
        read_head(&mut peer);
        peer.write_all(b"HTTP/1.1 204 No Content\r\n\r\n").expect("the client reads");
        peer.read(&mut [0]).expect("the client closes the connection")
    });
    let server = Running::start(backend, few_workers(backend), move |runtime| {
        let client = Client::builder(Executor::new(&runtime))
            .pool_timer(Timer::new(&runtime))
            .pool_idle_timeout(Duration::from_millis(1))
            .build::<_, Full<Bytes>>(Connector::new(&runtime));
        one(move |_: Request| {
            let response = client.get(uri(&url, "/"));
            async move { response.await.map(|response| response.status()).map_err(refusal) }
        })
    });
    assert_eq!(server.get("/").status, 204);
    assert_eq!(service.join().expect("the client closes the connection"), 0);
}

fn an_idle_connection_is_no_task(backend: Backend) {
    let service = service(|_| one(sync(|_| "ok")));
    let url = service.url();
    in_handler(backend, async move |runtime| {
        let client = pooled(&runtime, Connector::new(&runtime));
        assert_eq!(body(client.get(uri(&url, "/")).await?).await?, "ok");
        assert_eq!(runtime.tasks(), 0);
        drop(client);
        Ok(())
    });
}

fn a_connection_that_cannot_be_had_is_an_error(backend: Backend) {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let url = format!("http://{}", listener.local_addr().expect("a bound address"));
    in_handler(backend, async move |runtime| {
        let connector = Connector::new(&runtime).max_connections(1);
        let refused = pooled(&runtime, connector.clone()).get(uri("http://127.0.0.1:1", "/")).await;
        assert_eq!(
            io_error(&refused.expect_err("no service listens there")),
            Some(ErrorKind::ConnectionRefused)
        );
        let secure = pooled(&runtime, connector.clone()).get(uri("https://127.0.0.1:1", "/")).await;
        assert_eq!(io_error(&secure.expect_err("there is no TLS")), Some(ErrorKind::InvalidInput));

        let mut patient = connector.clone().connect_timeout(PATIENCE);
        let mut hasty = connector.connect_timeout(Duration::from_millis(20));
        let only = patient.call(uri(&url, "/")).await?;
        let second = hasty.call(uri(&url, "/")).await;
        assert_eq!(second.expect_err("the only connection is taken").kind(), ErrorKind::TimedOut);
        drop(only);
        patient.call(uri(&url, "/")).await?;
        Ok(())
    });
}

fn a_timer_takes_its_time(backend: Backend) {
    in_handler(backend, async move |runtime| {
        let (timer, pause) = (Timer::new(&runtime), Duration::from_millis(20));
        let began = Instant::now();
        timer.sleep(pause).await;
        assert!(began.elapsed() >= pause);
        let until = timer.now() + pause;
        let mut sleep = timer.sleep_until(timer.now() + PATIENCE);
        timer.reset(&mut sleep, until);
        sleep.await;
        assert!((until..until + PATIENCE).contains(&timer.now()));
        Ok(())
    });
}

/// Runs `work` in a handler on `backend`, whose server then has to stop with nothing cut.
fn in_handler<F>(backend: Backend, work: impl FnOnce(Runtime) -> F + Send + 'static)
where
    F: Future<Output = Result<(), BoxError>> + Send + 'static,
{
    let server = Running::start(backend, few_workers(backend), move |runtime| {
        let work = Mutex::new(Some(work));
        one(move |_: Request| {
            let work = lock(&work).take().expect("one request comes")(runtime.clone());
            async move { work.await.map(|()| "ok").map_err(refusal) }
        })
    });
    assert_eq!(server.get("/").said(), (200, "ok".into()));
    assert_eq!(server.stop().cut, 0);
}

fn refusal(error: impl ToString) -> Refusal {
    Refusal::new(gearshift::StatusCode::BAD_GATEWAY, error.to_string())
}

fn pooled(runtime: &Runtime, connector: Connector) -> Pooled {
    Client::builder(Executor::new(runtime)).pool_timer(Timer::new(runtime)).build(connector)
}

fn uri(url: &str, path: &str) -> Uri {
    format!("{url}{path}").parse().expect("a URI")
}

async fn body(response: HttpResponse<hyper::body::Incoming>) -> Result<Bytes, hyper::Error> {
    Ok(response.into_body().collect().await?.to_bytes())
}

/// The kind of the I/O error for which there is no connection.
fn io_error(error: &Error) -> Option<ErrorKind> {
    assert!(error.is_connect(), "{error:?}");
    error.source()?.downcast_ref::<std::io::Error>().map(std::io::Error::kind)
}

/// A service, and the addresses from which requests came to it.
fn service_that_counts_peers() -> (TestServer, Arc<Mutex<HashSet<String>>>) {
    let peers = Arc::new(Mutex::new(HashSet::new()));
    let seen = peers.clone();
    let service = service(move |runtime| {
        one(move |request: Request| {
            lock(&seen).insert(format!("{:?}", request.peer()));
            let runtime = runtime.clone();
            async move {
                runtime.sleep(Duration::from_millis(5)).await;
                "ok"
            }
        })
    });
    (service, peers)
}

/// A server for the client to call, on a backend that runs several handlers at once.
fn service(app: impl FnOnce(Runtime) -> Router + Send + 'static) -> TestServer {
    let mut backends = Backend::available().iter();
    let backend = backends.find(|backend| !backend.threads_block()).expect("one is compiled in");
    TestServer::start(*backend, app).expect("the service starts")
}

fn accept(listener: &TcpListener) -> TcpStream {
    let (peer, _) = listener.accept().expect("a connection comes");
    peer.set_read_timeout(Some(PATIENCE)).expect("a socket has timeouts");
    peer
}

/// Reads the head of a request, and returns its method.
fn read_head(peer: &mut TcpStream) -> String {
    let mut head = Vec::new();
    let mut byte = [0];
    while !head.ends_with(b"\r\n\r\n") {
        peer.read_exact(&mut byte).expect("a whole head comes");
        head.push(byte[0]);
    }
    String::from_utf8_lossy(&head).split(' ').next().unwrap_or_default().to_owned()
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
