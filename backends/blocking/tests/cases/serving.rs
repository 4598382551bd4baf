//! The cases that hold on every blocking backend, and what they need; the tests of each say what `BACKEND` is.

use std::io::{Read, Write};
use std::net::{Shutdown as Half, SocketAddr, TcpStream};
use std::sync::mpsc;
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use gearshift_core::{
    App, Backend, Bind, Config, Endpoint, Handler, Report, Request, Router, Runtime, ServeError, Server,
    Shutdown, sync,
};

use super::{BACKEND, settings};

/// How long anything may take that should happen.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);
/// The request that is sent when any will do.
pub(crate) const GET: &[u8] = b"GET / HTTP/1.1\r\nHost: test\r\n\r\n";

/// A server on a thread of its own.
pub(crate) struct Running {
    address: SocketAddr,
    pub(crate) shutdown: Shutdown,
    thread: Option<JoinHandle<Result<Report, ServeError>>>,
}

impl Running {
    pub(crate) fn with<H: Handler>(
        config: Config,
        app: impl FnOnce(Runtime) -> H + Send + 'static,
    ) -> Running {
        let server = Server::bind(&[Bind::Tcp("127.0.0.1:0".into())], config).unwrap();
        let address = match server.endpoints().next() {
            Some(Endpoint::Tcp(address)) => *address,
            other => panic!("bound to {other:?}"),
        };
        let shutdown = server.shutdown();
        let thread = Some(thread::spawn(move || BACKEND.serve(server, App::new(app))));
        Running { address, shutdown, thread }
    }

    fn hello(config: Config) -> Running {
        Running::with(config, |_| Router::new().get("/", sync(|_| "hi")))
    }

    pub(crate) fn client(&self) -> TcpStream {
        let client = TcpStream::connect(self.address).unwrap();
        client.set_read_timeout(Some(PATIENCE)).unwrap();
        client
    }

    pub(crate) fn ended(mut self) -> Result<Report, ServeError> {
        self.thread.take().unwrap().join().unwrap()
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.shutdown.force();
        if let Some(thread) = self.thread.take() {
            let ended = thread.join();
            assert!(thread::panicking() || ended.unwrap().is_ok());
        }
    }
}

/// Reads one response with a length: its status and its body.
pub(crate) fn response(client: &mut TcpStream) -> (u16, String) {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        let mut byte = [0];
        assert_eq!(client.read(&mut byte).unwrap(), 1, "the connection ended after {head:?}");
        head.push(byte[0]);
    }
    let head = String::from_utf8(head).unwrap().to_lowercase();
    let length = head.split("content-length: ").nth(1).unwrap().split("\r\n").next().unwrap();
    let mut body = vec![0; length.parse().unwrap()];
    client.read_exact(&mut body).unwrap();
    (head[9..12].parse().unwrap(), String::from_utf8(body).unwrap())
}

fn get(client: &mut TcpStream) -> (u16, String) {
    client.write_all(GET).unwrap();
    response(client)
}

fn rest(client: &mut TcpStream) -> String {
    let mut rest = String::new();
    client.read_to_string(&mut rest).unwrap();
    rest
}

#[test]
fn a_connection_is_used_again() {
    let server = Running::hello(settings());
    let mut client = server.client();
    for _ in 0..100 {
        assert_eq!(get(&mut client), (200, "hi".into()));
    }
}

#[test]
fn idle_and_silent_connections_hold_up_nobody() {
    let server = Running::hello(settings());
    let _silent: Vec<_> = (0..200).map(|_| server.client()).collect();
    let mut idle: Vec<_> = (0..200).map(|_| server.client()).collect();
    idle.iter_mut().for_each(|client| assert_eq!(get(client).0, 200));
    assert_eq!(get(&mut server.client()), (200, "hi".into()));
    idle.iter_mut().for_each(|client| assert_eq!(get(client).0, 200));
}

#[test]
fn half_a_head_holds_up_nobody() {
    let server = Running::hello(settings());
    let mut slow: Vec<_> = (0..8).map(|_| server.client()).collect();
    slow.iter_mut().for_each(|client| client.write_all(&GET[..9]).unwrap());
    assert_eq!(get(&mut server.client()).0, 200);
    slow.iter_mut().for_each(|client| client.write_all(&GET[9..]).unwrap());
    slow.iter_mut().for_each(|client| assert_eq!(response(client).0, 200));
}

#[test]
fn more_pipelined_requests_than_a_turn_allows_are_all_answered() {
    let server = Running::hello(settings());
    let mut client = server.client();
    let mut writer = client.try_clone().unwrap();
    let writing = thread::spawn(move || writer.write_all(&GET.repeat(2000)).unwrap());
    (0..2000).for_each(|_| assert_eq!(response(&mut client).0, 200));
    writing.join().unwrap();
    assert_eq!(get(&mut client).0, 200);
}

#[test]
fn a_peer_that_is_done_sending_is_answered_and_let_go_at_once() {
    let mut config = settings();
    config.keep_alive = 10 * PATIENCE;
    config.header_timeout = 10 * PATIENCE;
    let server = Running::hello(config);
    // Enough of them that the request and the end arrive before the server looks, for some.
    let mut clients: Vec<_> = (0..50).map(|_| server.client()).collect();
    for client in &mut clients {
        client.write_all(GET).unwrap();
        client.shutdown(Half::Write).unwrap();
    }
    for client in &mut clients {
        assert_eq!(response(client).0, 200);
        assert_eq!(rest(client), "");
    }
}

#[test]
fn an_idle_connection_is_closed_in_time() {
    let mut config = settings();
    config.keep_alive = Duration::from_millis(50);
    let server = Running::hello(config);
    let mut client = server.client();
    let began = Instant::now();
    assert_eq!(get(&mut client).0, 200);
    assert_eq!(rest(&mut client), "");
    assert!(began.elapsed() >= Duration::from_millis(50));
}

#[test]
fn half_a_head_is_answered_in_time() {
    let mut config = settings();
    config.header_timeout = Duration::from_millis(50);
    let server = Running::hello(config);
    let mut client = server.client();
    client.write_all(&GET[..9]).unwrap();
    assert_eq!(response(&mut client).0, 408);
    assert_eq!(rest(&mut client), "");
}

#[test]
fn at_most_as_many_connections_as_allowed_and_the_next_when_one_closes() {
    let mut config = settings();
    config.max_connections = 2;
    config.keep_alive = 10 * PATIENCE;
    let server = Running::hello(config);
    let (mut first, mut second, mut third) = (server.client(), server.client(), server.client());
    assert_eq!(get(&mut first).0, 200);
    assert_eq!(get(&mut second).0, 200);
    third.write_all(GET).unwrap();
    third.set_read_timeout(Some(Duration::from_millis(50))).unwrap();
    assert!(third.read(&mut [0]).is_err());
    third.set_read_timeout(Some(PATIENCE)).unwrap();
    drop(first);
    assert_eq!(response(&mut third).0, 200);
}

#[test]
fn the_waits_of_an_async_handler_overlap() {
    let server = Running::with(settings(), |runtime| {
        Router::new().get("/", move |_: Request| {
            let sleeps: Vec<_> = (0..10).map(|_| runtime.sleep(Duration::from_millis(100))).collect();
            let began = Instant::now();
            async move {
                for sleep in sleeps {
                    sleep.await;
                }
                (began.elapsed() < Duration::from_millis(900)).to_string()
            }
        })
    });
    assert_eq!(get(&mut server.client()), (200, "true".into()));
}

#[test]
fn a_sync_handler_reads_an_upload_as_it_comes() {
    let server = Running::with(settings(), |_| {
        Router::new().post(
            "/",
            sync(|request: Request| {
                let mut all = Vec::new();
                request
                    .into_body()
                    .reader()
                    .read_to_end(&mut all)
                    .map(|n| n.to_string())
                    .unwrap_or_else(|e| e.to_string())
            }),
        )
    });
    let mut client = server.client();
    let size = 1 << 20;
    write!(client, "POST / HTTP/1.1\r\nHost: test\r\nContent-Length: {size}\r\n\r\n").unwrap();
    for _ in 0..16 {
        client.write_all(&vec![b'x'; size / 16]).unwrap();
    }
    assert_eq!(response(&mut client), (200, size.to_string()));
}

#[test]
fn a_panic_in_a_handler_costs_its_own_connection() {
    let server = Running::with(settings(), |_| {
        Router::new()
            .get("/", sync(|_| "hi"))
            .get("/panic", sync(|_| -> &'static str { panic!("on purpose") }))
    });
    for _ in 0..4 {
        let mut client = server.client();
        client.write_all(b"GET /panic HTTP/1.1\r\nHost: test\r\n\r\n").unwrap();
        assert_eq!(response(&mut client).0, 500);
    }
    assert_eq!(get(&mut server.client()).0, 200);
}

#[test]
fn a_graceful_stop_lets_go_of_who_is_idle_and_finishes_what_is_in_flight() {
    let (begin, begun) = mpsc::channel();
    let server = Running::with(settings(), move |runtime| {
        Router::new().get("/", sync(|_| "hi")).get("/slow", move |_: Request| {
            let (begin, runtime) = (begin.clone(), runtime.clone());
            async move {
                begin.send(()).unwrap();
                runtime.sleep(Duration::from_millis(100)).await;
                "done"
            }
        })
    });
    let _silent = server.client();
    let mut idle = server.client();
    assert_eq!(get(&mut idle).0, 200);
    let mut slow = server.client();
    slow.write_all(b"GET /slow HTTP/1.1\r\nHost: test\r\n\r\n").unwrap();
    begun.recv_timeout(PATIENCE).unwrap();
    server.shutdown.graceful();
    assert_eq!(response(&mut slow), (200, "done".into()));
    assert_eq!(rest(&mut slow), "");
    assert_eq!(rest(&mut idle), "");
    let report = server.ended().unwrap();
    assert_eq!((report.finished, report.cut), (1, 0));
}

#[test]
fn what_outlasts_the_grace_period_is_cut() {
    let (begin, begun) = mpsc::channel();
    let mut config = settings();
    config.graceful_timeout = Duration::from_millis(50);
    let server = Running::with(config, move |_| {
        Router::new().get("/", move |_: Request| {
            begin.send(()).unwrap();
            std::future::pending::<&str>()
        })
    });
    let mut client = server.client();
    client.write_all(GET).unwrap();
    begun.recv_timeout(PATIENCE).unwrap();
    server.shutdown.graceful();
    assert_eq!(rest(&mut client), "");
    assert_eq!(server.ended().unwrap().cut, 1);
}

#[test]
fn forcing_ends_a_wait_for_a_body() {
    let (begin, begun) = mpsc::channel();
    let server = Running::with(settings(), move |_| {
        sync(move |request: Request| {
            begin.send(()).unwrap();
            let _ = request.into_body().reader().read_to_end(&mut Vec::new());
            "never sent"
        })
    });
    let mut client = server.client();
    client.write_all(b"POST / HTTP/1.1\r\nHost: test\r\nContent-Length: 10\r\n\r\n").unwrap();
    begun.recv_timeout(PATIENCE).unwrap();
    let began = Instant::now();
    server.shutdown.force();
    server.ended().unwrap();
    assert!(began.elapsed() < PATIENCE / 2);
}

#[test]
fn background_tasks_are_waited_for_and_then_dropped() {
    for (task, expected) in [(Duration::from_millis(100), true), (10 * PATIENCE, false)] {
        let (say, said) = mpsc::channel();
        let mut config = settings();
        config.graceful_timeout = Duration::from_millis(500);
        let server = Running::with(config, move |runtime| {
            let sleep = runtime.sleep(task);
            runtime
                .spawn(async move {
                    sleep.await;
                    say.send(()).unwrap();
                })
                .detach();
            sync(|_| "hi")
        });
        assert_eq!(get(&mut server.client()).0, 200);
        server.shutdown.graceful();
        server.ended().unwrap();
        assert_eq!(said.recv_timeout(PATIENCE).is_ok(), expected);
    }
}

#[test]
fn an_application_that_does_not_start_is_an_error() {
    let server = Server::bind(&[Bind::Tcp("127.0.0.1:0".into())], settings()).unwrap();
    let app = App::start(async |_| Err::<Router, _>("no database".into()));
    assert!(
        matches!(BACKEND.serve(server, app), Err(ServeError::Start(error)) if error.to_string() == "no database")
    );
}
