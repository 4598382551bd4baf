//! Connections that leave HTTP: another protocol after 101, and a tunnel after CONNECT.

use std::future::{Future, pending, poll_fn};
use std::io::{self, Write};
use std::net::TcpListener;
use std::pin::pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, mpsc};
use std::task::Poll;
use std::thread;
use std::time::Duration;

use futures_lite::{AsyncReadExt, AsyncWriteExt, future, io as async_io};
use gearshift::{
    Backend, BoxFuture, Config, Handler, HeaderValue, Method, Overload, Request, Response, Router, Runtime,
    StatusCode, Stream, sync,
};
use test_support::app::ON_PURPOSE;
use test_support::backend::{begins_with_head, few_workers};
use test_support::client::Client;
use test_support::server::{Launched, Running};
use test_support::suite::Area;
use test_support::{PATIENCE, wait_until};

pub(crate) const AREA: Area = (
    "upgrade",
    &[
        ("hands_the_connection_over", hands_over),
        ("hands_early_bytes_over_too", early_bytes),
        ("may_be_used_by_a_thread_of_the_application", on_a_thread),
        ("answers_earlier_requests_first", pipelined),
        ("is_refused_without_an_offer", not_offered),
        ("tunnels_a_connect", tunnel),
        ("serves_others_at_the_same_time", serves_others),
        ("goes_on_within_the_grace_period", within_grace),
        ("holds_its_place_until_it_closes", places),
        ("keeps_further_connections_waiting_while_it_holds_the_last_place", full),
        ("gives_its_place_back_if_its_function_panics", |backend| {
            place_is_free_after(backend, upgrade(panics))
        }),
        ("gives_its_place_back_if_its_function_drops_it", |backend| {
            place_is_free_after(backend, upgrade(drops))
        }),
        ("counts_as_cut_if_it_outlasts_the_grace_period", cut),
        ("fails_a_read_at_a_forced_stop", |backend| forced(backend, reads)),
        ("fails_a_write_at_a_forced_stop", |backend| forced(backend, writes)),
        ("fails_in_another_task_at_a_forced_stop", |backend| forced(backend, reads_elsewhere)),
        ("ends_at_a_forced_stop_although_its_function_waits_for_something_else", forced_elsewhere),
        ("leaves_a_background_task_if_its_function_continues_without_it", rest),
        ("cancels_its_request_when_it_closes", cancelled),
        ("begins_after_a_body_that_comes_after_its_head", body_after_head),
        ("waits_for_a_body_within_the_time_limit_of_a_body", late_body),
        ("is_an_ordinary_response_with_another_status", other_status),
        ("lets_others_run_although_its_peer_is_quick", turns),
    ],
);

/// A function that reads without end takes turns with the other connections.
fn turns(backend: Backend) {
    const FEW: usize = 1 << 20;
    let may_read = Arc::new(AtomicBool::new(false));
    let gone = may_read.clone();
    let (tell, told) = mpsc::channel();
    let server = Running::start(backend, few_workers(backend), move |runtime: Runtime| {
        let handler = move |_| {
            let (gone, tell, runtime) = (gone.clone(), tell.clone(), runtime.clone());
            Response::upgrade(HeaderValue::from_static("loud"), async move |mut stream: Stream| {
                while !gone.load(Ordering::SeqCst) {
                    runtime.sleep(Duration::from_millis(1)).await;
                }
                let (mut all, mut room) = (0, vec![0; 64 << 10]);
                // The bytes of all reads that succeed in one poll, until the end.
                loop {
                    let mut at_once = 0;
                    let ended = poll_fn(|cx| {
                        at_once = 0;
                        loop {
                            match pin!(stream.read(&mut room)).poll(cx) {
                                Poll::Ready(Ok(n @ 1..)) => at_once += n,
                                Poll::Ready(_) => return Poll::Ready(true),
                                Poll::Pending if at_once == 0 => return Poll::Pending,
                                Poll::Pending => return Poll::Ready(false),
                            }
                        }
                    })
                    .await;
                    all += at_once;
                    let _ = tell.send((at_once, all));
                    if ended {
                        return;
                    }
                }
            })
        };
        Router::new().get("/loud", sync(handler))
    });
    let mut client = server.client();
    client.send(UPGRADE);
    assert_eq!(client.try_answer(true).expect("an answer").status, 101);
    // As many bytes as the systems keep for a function that does not read.
    client.socket.set_write_timeout(Some(Duration::from_millis(200))).expect("a socket");
    let (piece, mut sent) = (vec![b'x'; 64 << 10], 0);
    while sent < 16 << 20 {
        match client.socket.write(&piece) {
            Ok(n) => sent += n,
            Err(_) => break,
        }
    }
    assert!(sent > 2 * FEW, "{sent} bytes are too few for this test");
    may_read.store(true, Ordering::SeqCst);
    client.half_close();
    let mut most = 0;
    while let Ok((at_once, all)) = told.recv_timeout(PATIENCE) {
        most = most.max(at_once);
        if all == sent {
            break;
        }
    }
    assert!((1..FEW).contains(&most), "{most} bytes in one turn");
}

const UPGRADE: &str = "GET /loud HTTP/1.1\r\nHost: test\r\nConnection: upgrade\r\nUpgrade: loud\r\n\r\n";

fn app(runtime: Runtime) -> Router {
    Router::new()
        .get("/", sync(|_| "fine"))
        .get("/loud", sync(|_| Response::upgrade(HeaderValue::from_static("loud"), loud)))
        .fallback(move |request: Request| {
            let runtime = runtime.clone();
            async move {
                match *request.method() {
                    Method::CONNECT => open_tunnel(&runtime, request.target()).await,
                    _ => Response::status_only(StatusCode::NOT_FOUND),
                }
            }
        })
}

/// A protocol that echoes all bytes in capitals.
async fn loud(mut stream: Stream) {
    let mut room = [0; 1000];
    while let Ok(n @ 1..) = stream.read(&mut room).await {
        room[..n].make_ascii_uppercase();
        if stream.write_all(&room[..n]).await.is_err() {
            return;
        }
    }
    let _ = stream.close().await;
}

async fn open_tunnel(runtime: &Runtime, target: &str) -> Response {
    match runtime.connect(target).await {
        Ok(there) => Response::tunnel(async move |here| {
            let (from_here, to_here) = async_io::split(here);
            let (from_there, to_there) = async_io::split(there);
            future::zip(carry(from_here, to_there), carry(from_there, to_here)).await;
        }),
        Err(_) => Response::status_only(StatusCode::BAD_GATEWAY),
    }
}

async fn carry(from: async_io::ReadHalf<Stream>, mut to: async_io::WriteHalf<Stream>) {
    let _ = async_io::copy(from, &mut to).await;
    let _ = to.close().await;
}

fn start(backend: Backend) -> Running {
    Running::start(backend, few_workers(backend), app)
}

/// Starts a server, and returns the runtime of its application as well.
fn start_with(
    backend: Backend,
    config: Config,
    app: impl FnOnce(Runtime) -> Router + Send + 'static,
) -> (Running, Runtime) {
    let (tell, told) = mpsc::channel();
    let server = Running::start(backend, config, move |runtime: Runtime| {
        tell.send(runtime.clone()).expect("the test waits");
        app(runtime)
    });
    (server, told.recv().expect("the application has started"))
}

/// A handler that upgrades to `loud` and calls `then` with the stream.
fn upgrade<F, U>(then: F) -> impl Handler
where
    F: Fn(Stream) -> U + Clone + Send + Sync + 'static,
    U: Future<Output = ()> + Send + 'static,
{
    sync(move |_| Response::upgrade(HeaderValue::from_static("loud"), then.clone()))
}

/// Sends an upgrade to `/loud` and returns the status of the response.
fn status_of_upgrade(client: &mut Client) -> u16 {
    client.send(UPGRADE);
    client.try_answer(true).expect("an answer").status
}

/// Opens a connection and upgrades it.
fn upgraded(server: &Running) -> Client {
    let mut client = server.client();
    assert_eq!(status_of_upgrade(&mut client), 101);
    client
}

fn hands_over(backend: Backend) {
    let server = start(backend);
    let mut client = server.client();
    client.send(UPGRADE);
    let answer = client.try_answer(true).expect("an answer");
    assert_eq!(answer.status, 101);
    assert_eq!((answer.field("Connection"), answer.field("Upgrade")), (Some("upgrade"), Some("loud")));
    assert!(answer.field("Content-Length").or(answer.field("Transfer-Encoding")).is_none(), "{answer:?}");
    for said in ["hello", "GET / HTTP/1.1\r\n\r\n", "bye"] {
        client.send(said);
        assert_eq!(client.exactly(said.len()).expect("an echo"), said.to_ascii_uppercase().as_bytes());
    }
    let long = vec![b'x'; 300_000];
    let mut sender = client.socket.try_clone().expect("a socket can be shared");
    let sending = thread::spawn(move || io::Write::write_all(&mut sender, &long));
    assert!(client.exactly(300_000).expect("an echo").iter().all(|&byte| byte == b'X'));
    sending.join().expect("the sender does not panic").expect("the server reads");
    client.half_close();
    client.expect_end();
}

fn on_a_thread(backend: Backend) {
    let server = Running::start(backend, few_workers(backend), |_| {
        let upgrade = async |stream: Stream| {
            thread::spawn(move || future::block_on(loud(stream)));
        };
        Router::new()
            .get("/loud", sync(move |_| Response::upgrade(HeaderValue::from_static("loud"), upgrade)))
    });
    let mut client = server.client();
    client.send(UPGRADE);
    assert_eq!(client.answer().status, 101);
    for said in ["hello", "bye"] {
        client.send(said);
        assert_eq!(client.exactly(said.len()).expect("an echo"), said.to_ascii_uppercase().as_bytes());
    }
    client.half_close();
    client.expect_end();
}

fn early_bytes(backend: Backend) {
    let server = start(backend);
    let mut client = server.client();
    client.send(format!("{UPGRADE}early"));
    assert_eq!(client.try_answer(true).expect("an answer").status, 101);
    assert_eq!(client.exactly(5).expect("an echo"), b"EARLY");
    client.send(" late");
    assert_eq!(client.exactly(5).expect("an echo"), b" LATE");
}

fn pipelined(backend: Backend) {
    let server = start(backend);
    let mut client = server.client();
    client.send(format!("GET / HTTP/1.1\r\nHost: test\r\n\r\n{UPGRADE}early"));
    assert_eq!(client.answer().text(), "fine");
    assert_eq!(client.try_answer(true).expect("an answer").status, 101);
    assert_eq!(client.exactly(5).expect("an echo"), b"EARLY");
}

fn not_offered(backend: Backend) {
    let server = start(backend);
    let mut client = server.client();
    for fields in ["", "Upgrade: loud\r\n", "Connection: upgrade\r\n"] {
        client.send(format!("GET /loud HTTP/1.1\r\nHost: test\r\n{fields}\r\n"));
        let answer = client.answer();
        assert_eq!((answer.status, answer.field("Upgrade")), (426, Some("loud")), "{fields}");
    }
    client.send("GET /loud HTTP/1.0\r\nConnection: upgrade\r\nUpgrade: loud\r\n\r\n");
    assert_eq!(client.answer().status, 426, "HTTP/1.0 has no upgrades");
    client.expect_end();
}

fn tunnel(backend: Backend) {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let target = listener.local_addr().expect("the listener is bound").to_string();
    thread::spawn(move || {
        while let Ok((peer, _)) = listener.accept() {
            thread::spawn(move || io::copy(&mut &peer, &mut &peer));
        }
    });
    let server = start(backend);
    let mut client = server.client();
    client.send(format!("CONNECT {target} HTTP/1.1\r\nHost: {target}\r\n\r\nearly"));
    let answer = client.try_answer(true).expect("an answer");
    assert_eq!(answer.status, 200);
    assert!(answer.field("Content-Length").or(answer.field("Transfer-Encoding")).is_none(), "{answer:?}");
    assert_eq!(client.exactly(5).expect("an echo"), b"early");
    client.send("late");
    assert_eq!(client.exactly(4).expect("an echo"), b"late");
    client.half_close();
    client.expect_end();

    let mut client = server.client();
    client.send("CONNECT 127.0.0.1:1 HTTP/1.1\r\nHost: test\r\n\r\n");
    assert_eq!(client.answer().status, 502, "nothing listens at the target");
}

fn serves_others(backend: Backend) {
    let server = start(backend);
    let mut upgraded: Vec<_> = (0..8).map(|_| server.client()).collect();
    for client in &mut upgraded {
        client.send(UPGRADE);
        assert_eq!(client.try_answer(true).expect("an answer").status, 101);
    }
    assert_eq!(server.get("/").text(), "fine");
    for client in &mut upgraded {
        client.send("hello");
        assert_eq!(client.exactly(5).expect("an echo"), b"HELLO");
    }
}

fn within_grace(backend: Backend) {
    let mut config = few_workers(backend);
    config.graceful_timeout = PATIENCE;
    let server = Launched::start(backend, config, app);
    let mut upgraded: Vec<_> = (0..8).map(|_| server.client()).collect();
    for client in &mut upgraded {
        client.send(format!("{UPGRADE}early"));
        assert_eq!(client.try_answer(true).expect("an answer").status, 101);
    }
    assert_eq!(server.client().get("/").status, 200);
    server.shutdown().graceful();
    for client in &mut upgraded {
        client.send(" and late");
        client.half_close();
        assert_eq!(client.rest(), b"EARLY AND LATE");
    }
    server.ended_gracefully();
}

fn places(backend: Backend) {
    const PLACES: usize = 5;
    let mut config = few_workers(backend);
    (config.max_connections, config.overload) = (PLACES, Overload::Refuse);
    let (server, runtime) = start_with(backend, config, app);
    let mut clients: Vec<_> = (0..40).map(|_| server.client()).collect();
    clients.retain_mut(|client| match status_of_upgrade(client) {
        101 => true,
        status => {
            assert_eq!(status, 503);
            false
        }
    });
    assert_eq!(clients.len(), PLACES);
    wait_until("the refused connections are closed", || runtime.stats().connections_open <= PLACES);
    let stats = runtime.stats();
    assert_eq!((stats.connections_open, stats.connections_upgraded), (PLACES, PLACES));
    assert_eq!((stats.tasks_running, stats.tasks_started), (0, 0), "the application spawns no task");
    drop(clients);
    wait_until("the places are free", || runtime.stats().connections_open == 0);
    upgraded(&server);
}

fn full(backend: Backend) {
    let mut config = few_workers(backend);
    config.max_connections = 2;
    let (server, runtime) = start_with(backend, config, app);
    let mut clients = [upgraded(&server), upgraded(&server)];
    let mut third = server.client();
    third.send_get("/");
    // Each echo is a turn in which the server could accept the third connection.
    for _ in 0..20 {
        for client in &mut clients {
            client.send("hello");
            assert_eq!(client.exactly(5).expect("an echo"), b"HELLO");
        }
    }
    assert_eq!(runtime.stats().connections_accepted, 2);
    clients[0].half_close();
    clients[0].expect_end();
    assert_eq!(third.answer().text(), "fine");
}

async fn panics(_stream: Stream) {
    panic!("{ON_PURPOSE}");
}

/// Drops the stream and never ends.
async fn drops(stream: Stream) {
    drop(stream);
    pending().await
}

fn place_is_free_after(backend: Backend, handler: impl Handler) {
    let mut config = few_workers(backend);
    config.max_connections = 1;
    let (server, runtime) = start_with(backend, config, |_| Router::new().get("/loud", handler));
    for _ in 0..3 {
        upgraded(&server).expect_end();
    }
    wait_until("the place is free", || runtime.stats().connections_open == 0);
}

fn cut(backend: Backend) {
    let mut config = few_workers(backend);
    config.graceful_timeout = Duration::from_millis(200);
    let server = Running::start(backend, config, app);
    let mut clients: Vec<_> = (0..3).map(|_| upgraded(&server)).collect();
    let report = server.stop();
    assert_eq!((report.finished, report.cut), (0, 3));
    for client in &mut clients {
        assert_eq!(client.rest(), b"");
    }
}

/// Reports `None` once an operation is pending, and then the kind of the error with which it ends.
type Tell = mpsc::Sender<Option<io::ErrorKind>>;

async fn report<R>(operation: impl Future<Output = io::Result<R>>, tell: Tell) {
    let mut operation = pin!(operation);
    assert!(future::poll_once(&mut operation).await.is_none(), "the operation waits for the peer");
    tell.send(None).expect("the test waits");
    tell.send(operation.await.err().map(|error| error.kind())).expect("the test waits");
}

fn reads(mut stream: Stream, _: Runtime, tell: Tell) -> BoxFuture<()> {
    Box::pin(async move { report(stream.read(&mut [0]), tell).await })
}

/// Writes more than the system buffers for a socket.
fn writes(mut stream: Stream, _: Runtime, tell: Tell) -> BoxFuture<()> {
    Box::pin(async move { report(stream.write_all(&vec![0; 64 << 20]), tell).await })
}

fn reads_elsewhere(stream: Stream, runtime: Runtime, tell: Tell) -> BoxFuture<()> {
    Box::pin(async move { runtime.spawn(reads(stream, runtime.clone(), tell)).detach() })
}

fn forced(backend: Backend, then: fn(Stream, Runtime, Tell) -> BoxFuture<()>) {
    let (tell, told) = mpsc::channel();
    let server = Running::start(backend, few_workers(backend), move |runtime: Runtime| {
        Router::new().get("/loud", upgrade(move |stream| then(stream, runtime.clone(), tell.clone())))
    });
    let mut client = upgraded(&server);
    assert_eq!(told.recv_timeout(PATIENCE).expect("the operation begins"), None);
    server.shutdown().force();
    let error = told.recv_timeout(PATIENCE).expect("the operation ends");
    assert_eq!(error, Some(io::ErrorKind::ConnectionAborted));
    assert_eq!(server.stop().cut, 1);
    client.rest();
}

/// Reports its creation and its drop.
struct Life(mpsc::Sender<&'static str>);

impl Life {
    fn new(tell: mpsc::Sender<&'static str>) -> Life {
        tell.send("created").expect("the test waits");
        Life(tell)
    }
}

impl Drop for Life {
    fn drop(&mut self) {
        let _ = self.0.send("dropped");
    }
}

fn forced_elsewhere(backend: Backend) {
    let (tell, told) = mpsc::channel();
    let server = Running::start(backend, few_workers(backend), move |_| {
        let then = move |stream: Stream| {
            let life = Life::new(tell.clone());
            async move {
                let _held = (stream, life);
                pending().await
            }
        };
        Router::new().get("/loud", upgrade(then))
    });
    let mut client = upgraded(&server);
    assert_eq!(told.recv_timeout(PATIENCE), Ok("created"));
    server.shutdown().force();
    assert_eq!(told.recv_timeout(PATIENCE), Ok("dropped"));
    assert_eq!(server.stop().cut, 1);
    client.rest();
}

fn rest(backend: Backend) {
    let (tell, told) = mpsc::channel();
    let is_done = Arc::<AtomicBool>::default();
    let done = is_done.clone();
    let mut config = few_workers(backend);
    config.graceful_timeout = PATIENCE;
    let (server, runtime) = start_with(backend, config, move |runtime| {
        let then = move |stream: Stream| {
            let (runtime, tell, done) = (runtime.clone(), tell.clone(), done.clone());
            async move {
                drop(stream);
                tell.send(()).expect("the test waits");
                runtime.stopping().await;
                runtime.sleep(Duration::from_millis(50)).await;
                done.store(true, Ordering::SeqCst);
            }
        };
        Router::new().get("/loud", upgrade(then))
    });
    let mut client = upgraded(&server);
    client.expect_end();
    told.recv_timeout(PATIENCE).expect("the function has dropped the stream");
    let stats = runtime.stats();
    assert_eq!((stats.connections_open, stats.connections_upgraded, stats.tasks_running), (0, 0, 1));
    assert_eq!(server.stop().cut, 0);
    assert!(is_done.load(Ordering::SeqCst), "the stop waits for the function");
}

fn cancelled(backend: Backend) {
    let (tell, told) = mpsc::channel();
    let (server, runtime) = start_with(backend, few_workers(backend), move |_| {
        let upgrade = move |request: Request| {
            let (token, tell) = (request.cancel_token(), tell.clone());
            Response::upgrade(HeaderValue::from_static("loud"), async move |mut stream: Stream| {
                stream.read_exact(&mut [0]).await.expect("a byte");
                tell.send(token.is_cancelled()).expect("the test waits");
                drop(stream);
                token.cancelled().await;
                tell.send(token.is_cancelled()).expect("the test waits");
            })
        };
        Router::new().get("/loud", sync(upgrade))
    });
    let mut client = upgraded(&server);
    wait_until("the request is answered", || runtime.stats().requests_in_flight == 0);
    client.send("x");
    assert_eq!(told.recv_timeout(PATIENCE), Ok(false));
    assert_eq!(told.recv_timeout(PATIENCE), Ok(true));
}

/// An upgrade with a body of five bytes.
fn upgrade_with_body() -> String {
    UPGRADE.replace("GET", "POST").replace("Host", "Content-Length: 5\r\nHost")
}

fn body_after_head(backend: Backend) {
    let (tell, told) = mpsc::channel();
    let (server, _) = start_with(backend, begins_with_head(backend), move |_| {
        let upgrade = move |_| {
            tell.send(()).expect("the test waits");
            Response::upgrade(HeaderValue::from_static("loud"), loud)
        };
        Router::new().post("/loud", sync(upgrade))
    });
    let mut client = server.client();
    client.send(upgrade_with_body());
    told.recv_timeout(PATIENCE).expect("the handler is called");
    client.send("he");
    client.send("lloearly");
    assert_eq!(client.try_answer(true).expect("an answer").status, 101);
    assert_eq!(client.exactly(5).expect("an echo"), b"EARLY");
}

fn late_body(backend: Backend) {
    let mut config = few_workers(backend);
    config.body_timeout = Duration::from_millis(100);
    let (server, _) = start_with(backend, config, |_| Router::new().any("/loud", upgrade(loud)));
    let mut client = server.client();
    client.send(upgrade_with_body() + "hell");
    let answer = client.answer();
    assert_eq!(answer.said(), (408, "the body came too slowly".into()));
    assert!(answer.closes(), "{answer:?}");
    client.expect_end();
}

fn other_status(backend: Backend) {
    let (server, _) = start_with(backend, few_workers(backend), |_| {
        let denied =
            Response::upgrade(HeaderValue::from_static("loud"), loud).with_status(StatusCode::FORBIDDEN);
        let denied = std::sync::Mutex::new(Some(denied));
        Router::new()
            .get("/loud", sync(move |_| denied.lock().expect("no panic").take().expect("one request")))
            .get("/tunnel", sync(|_| Response::tunnel(loud)))
            .get(
                "/no",
                sync(|_| {
                    Response::upgrade(HeaderValue::from_static("loud"), loud).with_status(StatusCode::OK)
                }),
            )
            .fallback(sync(|request: Request| match request.target() {
                "denied:1" => Response::tunnel(loud).with_status(StatusCode::FORBIDDEN),
                _ => Response::upgrade(HeaderValue::from_static("loud"), loud),
            }))
    });
    let mut client = server.client();
    client.send(UPGRADE);
    assert_eq!(client.answer().said(), (403, "".into()));
    client.send(UPGRADE.replace("/loud", "/no"));
    assert_eq!(client.answer().said(), (200, "".into()));
    // Only CONNECT opens a tunnel, and CONNECT opens nothing else.
    client.send(UPGRADE.replace("/loud", "/tunnel"));
    assert_eq!(client.answer().status, 500);
    for (target, status) in [("denied:1", 403), ("other:1", 426)] {
        let mut client = server.client();
        let host = format!("Host: {target}\r\nConnection: upgrade\r\nUpgrade: loud\r\n\r\n");
        client.send(format!("CONNECT {target} HTTP/1.1\r\n{host}"));
        assert_eq!(client.answer().status, status);
        client.expect_end();
    }
}
