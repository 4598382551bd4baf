//! Shared by the benches over loopback: a server in its own process, and connections that send requests to it.
//!
//! The server is this program, started with an environment variable. Its threads and CPU time are therefore separate
//! from the client's. It is configured for one core: one event loop or 16 threads.

use std::cell::LazyCell;
use std::env;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::process::{self, ChildStdin, Command, Stdio};
use std::thread;
use std::time::Duration;

use criterion::measurement::WallTime;
use criterion::{BenchmarkGroup, Criterion, SamplingMode};
use gearshift::{App, Backend, Bind, Config, Endpoint, Router, Runtime, Server};
use socket2::SockRef;
use test_support::client::Client;
use test_support::process::Process;

/// Environment variable with the name of the backend to serve with.
const BACKEND: &str = "GEARSHIFT_BENCH_BACKEND";
/// Environment variable with the number of async-std's workers.
const ASYNC_STD_THREADS: &str = "ASYNC_STD_THREAD_COUNT";
/// Number of threads of the thread pool.
const THREADS: usize = 16;
/// A whole request fits into the socket buffer. Writing to all connections before reading therefore cannot deadlock.
const SEND_BUFFER: usize = 256 * 1024;

/// Runs the benches, or serves `app` if this process was started as a server.
pub(crate) fn run(app: fn(Runtime) -> Router, benches: &[fn(&mut Criterion)]) {
    if let Ok(backend) = env::var(BACKEND) {
        return serve(&backend, app);
    }
    let mut criterion = Criterion::default()
        .warm_up_time(Duration::from_millis(200))
        .measurement_time(Duration::from_millis(600))
        .sample_size(20)
        .nresamples(2000)
        .configure_from_args();
    for bench in benches {
        bench(&mut criterion);
    }
    criterion.final_summary();
}

/// Serves until standard input ends, which happens when the parent process ends.
fn serve(backend: &str, app: fn(Runtime) -> Router) {
    let backend: Backend = backend.parse().expect("a backend that is compiled in");
    let mut config = Config::default();
    config.threads = Some(THREADS);
    if backend.check(&config).is_err() {
        (config.threads, config.workers) = (None, Some(1));
    }
    if backend.check(&config).is_err() {
        config.workers = None;
    }
    config.max_requests = None;
    let server = Server::bind(&[Bind::Tcp("127.0.0.1:0".into())], config).expect("a free port");
    match server.endpoints().next() {
        Some(Endpoint::Tcp(addr)) => println!("{addr}"),
        other => panic!("bound to {other:?}"),
    }
    let shutdown = server.shutdown();
    thread::spawn(move || {
        let _ = std::io::stdin().read_to_end(&mut Vec::new());
        shutdown.force();
    });
    backend.serve(server, App::new(app)).expect("the server runs");
}

/// A server in its own process, which is killed on drop.
pub(crate) struct Served {
    process: process::Child,
    /// The server stops when this is dropped.
    _stdin: Option<ChildStdin>,
    addr: SocketAddr,
}

impl Served {
    pub(crate) fn start(backend: Backend) -> Served {
        let mut process = Command::new(env::current_exe().expect("this program has a path"))
            .env(BACKEND, backend.name())
            .env(ASYNC_STD_THREADS, "1")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("this program can be started");
        let mut line = String::new();
        let stdout = process.stdout.take().expect("stdout is piped");
        BufReader::new(stdout).read_line(&mut line).expect("the server prints its address");
        let addr = line.trim().parse().expect("an address");
        let stdin = process.stdin.take();
        Served { process, _stdin: stdin, addr }
    }

    /// CPU time used so far.
    fn cpu_time(&self) -> Duration {
        Process::of(&self.process).cpu_time()
    }
}

impl Drop for Served {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// A request and the expected body of the response.
pub(crate) struct Work {
    pub(crate) request: Vec<u8>,
    pub(crate) body: Vec<u8>,
}

/// Measures rounds of requests as `name`, and prints the server's CPU time per request below. The server is started on
/// first use, so that servers of benches that are filtered out do not start.
pub(crate) fn measure(
    group: &mut BenchmarkGroup<'_, WallTime>,
    name: &str,
    server: &LazyCell<Served, impl FnOnce() -> Served>,
    work: &Work,
    connections: usize,
) {
    let mut run = None;
    group.sampling_mode(SamplingMode::Flat).bench_function(name, |bencher| {
        let (requester, requests, _) = run.get_or_insert_with(|| {
            let requester = Requester::connect(server, connections, &work.request, &work.body);
            (requester, 0, server.cpu_time())
        });
        bencher.iter(|| *requests += requester.round());
    });
    if let Some((_, requests, before)) = run {
        let spent = server.cpu_time().saturating_sub(before).as_secs_f64();
        let each = spent / requests.max(1) as f64 * 1e6;
        println!("{:24}cpu:    {each:.1} µs per request in the server, {requests} requests", "");
    }
}

/// Keep-alive connections that repeat one request.
struct Requester {
    connections: Vec<TcpStream>,
    request: Vec<u8>,
    /// The first response. All responses have its length and its body; only the date differs.
    response: Vec<u8>,
    /// Offset of the body.
    body: usize,
    received: Vec<u8>,
}

impl Requester {
    /// Connects, and checks that the response is 200 with the given body.
    fn connect(to: &Served, connections: usize, request: &[u8], body: &[u8]) -> Requester {
        let connect = |_| {
            let client = Client::connect(to.addr);
            SockRef::from(&client.socket).set_send_buffer_size(SEND_BUFFER).expect("a socket");
            client
        };
        let mut clients: Vec<_> = (0..connections).map(connect).collect();
        clients[0].send(request);
        let answer = clients[0].answer();
        assert_eq!(answer.status, 200, "{}", answer.text());
        assert!(answer.body == body, "{} bytes for {}", answer.body.len(), body.len());
        let end = answer.raw.windows(4).position(|bytes| bytes == b"\r\n\r\n").expect("a head ends");
        let mut requester = Requester {
            connections: clients.into_iter().map(|client| client.socket).collect(),
            request: request.to_vec(),
            received: vec![0; answer.raw.len()],
            response: answer.raw,
            body: end + 4,
        };
        requester.round();
        requester
    }

    /// Sends one request on each connection, then reads the responses. Returns the number of requests.
    fn round(&mut self) -> u64 {
        for socket in &mut self.connections {
            socket.write_all(&self.request).expect("the server reads");
        }
        for socket in &mut self.connections {
            socket.read_exact(&mut self.received).expect("the server answers");
            assert!(self.received.starts_with(b"HTTP/1.1 200 OK\r\n"));
            assert!(self.received[self.body..] == self.response[self.body..], "another body");
        }
        self.connections.len() as u64
    }
}
