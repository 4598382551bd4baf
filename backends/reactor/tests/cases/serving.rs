//! Whole servers over loopback, on each backend whose connections are on a reactor. Each gives its `BACKEND`.

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::os::unix::net::UnixStream;
use std::sync::mpsc;
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use gearshift_core::{
    App, Backend, Bind, Config, Endpoint, Report, Request, Response, Router, ServeError, Server, Shutdown,
    blocking, compute, sync,
};

use crate::BACKEND;

/// Long enough never to be reached, short enough to end a test that hangs.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);

pub(crate) struct Running {
    endpoint: Endpoint,
    shutdown: Shutdown,
    server: JoinHandle<Result<Report, ServeError>>,
    /// One message for each request that has begun and takes its time.
    pub(crate) begun: mpsc::Receiver<()>,
}

pub(crate) fn start(bind: &str, adjust: impl FnOnce(&mut Config)) -> Running {
    let mut config = Config::default();
    config.graceful_timeout = PATIENCE;
    adjust(&mut config);
    let server = Server::bind(&[bind.parse::<Bind>().unwrap()], config).unwrap();
    let endpoint = server.endpoints().next().unwrap().clone();
    let shutdown = server.shutdown();
    let (began, begun) = mpsc::channel();
    let app = App::new(move |runtime| {
        let (sleeper, endless, blocked) = (runtime.clone(), began.clone(), began.clone());
        Router::new()
            .get("/", sync(|_: Request| "hello"))
            .get("/big", sync(|_: Request| vec![b'x'; 8 << 20]))
            .get("/blocking", blocking(&runtime, |_: Request| "blocked"))
            .get("/compute", compute(&runtime, |_: Request| "computed"))
            .get("/slow", move |_: Request| {
                let (runtime, began) = (sleeper.clone(), began.clone());
                async move {
                    began.send(()).unwrap();
                    runtime.sleep(Duration::from_millis(100)).await;
                    "slow"
                }
            })
            .get("/endless", move |_: Request| {
                endless.send(()).unwrap();
                std::future::pending::<Response>()
            })
            .get(
                "/stuck",
                sync(move |_: Request| {
                    blocked.send(()).unwrap();
                    thread::sleep(PATIENCE);
                }),
            )
            .post("/length", async |request: Request| {
                let body = request.into_body().bytes(64 << 20).await.unwrap();
                assert!(body.iter().all(|byte| *byte == b'y'));
                body.len().to_string()
            })
    });
    let server = thread::spawn(move || BACKEND.serve(server, app));
    Running { endpoint, shutdown, server, begun }
}

impl Running {
    fn address(&self) -> SocketAddr {
        match &self.endpoint {
            Endpoint::Tcp(address) => *address,
            Endpoint::Unix(_) => panic!("not on a port"),
        }
    }

    pub(crate) fn connect(&self) -> TcpStream {
        let socket = TcpStream::connect(self.address()).unwrap();
        socket.set_read_timeout(Some(PATIENCE)).unwrap();
        socket
    }

    fn end(self) -> Report {
        self.server.join().unwrap().unwrap()
    }

    pub(crate) fn stop(self) -> Report {
        self.shutdown.graceful();
        self.end()
    }
}

pub(crate) fn ask(socket: &mut impl Write, path: &str) {
    write!(socket, "GET {path} HTTP/1.1\r\nhost: test\r\n\r\n").unwrap();
}

/// One response: its head in lower case, and its body.
fn answer(socket: &mut impl Read) -> io::Result<(String, Vec<u8>)> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        let mut byte = [0];
        socket.read_exact(&mut byte)?;
        head.push(byte[0]);
    }
    let head = String::from_utf8(head).unwrap().to_lowercase();
    let (_, length) = head.split_once("content-length: ").expect("these responses have a length");
    let mut body = vec![0; length.split("\r\n").next().unwrap().parse().unwrap()];
    socket.read_exact(&mut body)?;
    Ok((head, body))
}

fn body(socket: &mut (impl Read + Write), path: &str) -> Vec<u8> {
    ask(socket, path);
    let (head, body) = answer(socket).unwrap();
    assert!(head.starts_with("http/1.1 200 "), "{head}");
    body
}

fn is_closed(socket: &mut impl Read) -> bool {
    match socket.read(&mut [0]) {
        Ok(n) => n == 0,
        Err(error) => error.kind() == io::ErrorKind::ConnectionReset,
    }
}

#[test]
fn answers_many_requests_on_many_connections() {
    let running = start("127.0.0.1:0", |_| {});
    let clients: Vec<_> = (0..16)
        .map(|_| {
            let mut socket = running.connect();
            thread::spawn(move || {
                for path in ["/", "/blocking", "/", "/compute", "/", "/slow", "/", "/"] {
                    let expected = match path {
                        "/blocking" => "blocked",
                        "/compute" => "computed",
                        "/slow" => "slow",
                        _ => "hello",
                    };
                    assert_eq!(body(&mut socket, path), expected.as_bytes());
                }
            })
        })
        .collect();
    clients.into_iter().for_each(|client| client.join().unwrap());
    running.stop();
}

#[test]
fn answers_on_a_unix_socket() {
    let path = std::env::temp_dir().join(format!("gearshift-test-{}.sock", std::process::id()));
    let running = start(&format!("unix:{}", path.display()), |_| {});
    let mut socket = UnixStream::connect(&path).unwrap();
    assert_eq!(body(&mut socket, "/"), b"hello");
    assert_eq!(body(&mut socket, "/"), b"hello");
    running.stop();
    assert!(!path.exists());
}

#[test]
fn large_bodies_pass_both_ways() {
    let running = start("127.0.0.1:0", |_| {});
    let mut socket = running.connect();
    assert_eq!(body(&mut socket, "/big").len(), 8 << 20);
    let upload = vec![b'y'; 8 << 20];
    write!(socket, "POST /length HTTP/1.1\r\nhost: test\r\ncontent-length: {}\r\n\r\n", upload.len())
        .unwrap();
    socket.write_all(&upload).unwrap();
    assert_eq!(answer(&mut socket).unwrap().1, upload.len().to_string().as_bytes());
    assert_eq!(body(&mut socket, "/"), b"hello");
    running.stop();
}

#[test]
fn closes_connections_that_stay_idle_or_never_speak() {
    let short = Duration::from_millis(60);
    let running = start("127.0.0.1:0", |config| {
        config.keep_alive = short;
        config.header_timeout = short;
    });
    let begun = Instant::now();
    let (mut silent, mut idle) = (running.connect(), running.connect());
    assert_eq!(body(&mut idle, "/"), b"hello");
    assert!(is_closed(&mut silent));
    assert!(is_closed(&mut idle));
    assert!(begun.elapsed() >= short);
    running.stop();
}

#[test]
fn has_others_wait_while_there_is_no_room() {
    let running = start("127.0.0.1:0", |config| config.max_connections = 1);
    let mut first = running.connect();
    assert_eq!(body(&mut first, "/"), b"hello");
    let mut second = running.connect();
    ask(&mut second, "/");
    second.set_read_timeout(Some(Duration::from_millis(100))).unwrap();
    assert!(answer(&mut second).is_err(), "there was no room");
    second.set_read_timeout(Some(PATIENCE)).unwrap();
    drop(first);
    assert_eq!(answer(&mut second).unwrap().1, b"hello");
    running.stop();
}

#[test]
fn finishes_what_is_in_flight_and_who_waits_to_be_accepted() {
    let running = start("127.0.0.1:0", |config| config.max_connections = 2);
    let (mut busy, mut idle) = (running.connect(), running.connect());
    assert_eq!(body(&mut idle, "/"), b"hello");
    ask(&mut busy, "/slow");
    running.begun.recv_timeout(PATIENCE).unwrap();
    let mut queued = running.connect();
    ask(&mut queued, "/");
    running.shutdown.graceful();
    assert!(is_closed(&mut idle));
    let (head, answered) = answer(&mut queued).unwrap();
    assert!(head.contains("connection: close") && answered == b"hello", "{head}");
    let (head, answered) = answer(&mut busy).unwrap();
    assert!(head.contains("connection: close") && answered == b"slow", "{head}");
    let address = running.address();
    let report = running.end();
    assert_eq!((report.finished, report.cut), (2, 0));
    assert!(TcpStream::connect(address).is_err());
}

#[test]
fn cuts_what_does_not_end_in_time() {
    let grace = Duration::from_millis(50);
    let running = start("127.0.0.1:0", |config| config.graceful_timeout = grace);
    let mut socket = running.connect();
    ask(&mut socket, "/endless");
    running.begun.recv_timeout(PATIENCE).unwrap();
    let asked = Instant::now();
    let report = running.stop();
    assert!(asked.elapsed() >= grace);
    assert_eq!((report.finished, report.cut), (0, 1));
    assert!(is_closed(&mut socket));
}

#[test]
fn ends_at_once_when_forced() {
    let running = start("127.0.0.1:0", |_| {});
    let mut socket = running.connect();
    ask(&mut socket, "/endless");
    running.begun.recv_timeout(PATIENCE).unwrap();
    let asked = Instant::now();
    running.shutdown.force();
    assert_eq!(running.end().cut, 1);
    assert!(asked.elapsed() < PATIENCE / 2);
}

#[test]
fn says_why_the_application_did_not_start() {
    let server = Server::bind(&["127.0.0.1:0".parse().unwrap()], Config::default()).unwrap();
    let app = App::start(async |_| Err::<Router, _>("no database".into()));
    let Err(ServeError::Start(error)) = BACKEND.serve(server, app) else { panic!("it started") };
    assert_eq!(error.to_string(), "no database");
}

#[test]
fn the_application_stops_after_its_connections() {
    let server = Server::bind(&["127.0.0.1:0".parse().unwrap()], Config::default()).unwrap();
    let shutdown = server.shutdown();
    let (tell, told) = mpsc::channel();
    let app = App::new(|_| Router::new()).on_stop(async move || tell.send(()).unwrap());
    shutdown.graceful();
    BACKEND.serve(server, app).unwrap();
    told.try_recv().unwrap();
}

#[test]
fn refuses_a_setting_it_cannot_honour() {
    let mut config = Config::default();
    config.threads = Some(3);
    assert!(matches!(BACKEND.check(&config), Err(ServeError::Setting { .. })));
}
