//! What benches over loopback share: a server in a process of its own, and connections that ask it.
//!
//! The server is this very program, told by its environment to serve, so that its threads and its CPU time are not the
//! client's. Each is as for one core: one event loop, or 16 threads.

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

/// Names the backend to serve with.
const BACKEND: &str = "GEARSHIFT_BENCH_BACKEND";
/// What async-std takes its number of workers from.
const ASYNC_STD_THREADS: &str = "ASYNC_STD_THREAD_COUNT";
/// Threads of the pool.
const THREADS: usize = 16;
/// A whole request fits into a socket, so that writing to all connections before any is read cannot lock up.
const SEND_BUFFER: usize = 256 * 1024;

/// Runs a bench, or serves `app` if that is what this process was started for.
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

/// Serves until standard input ends, which it does with the process that holds its other side.
fn serve(backend: &str, app: fn(Runtime) -> Router) {
    let backend: Backend = backend.parse().expect("a backend that is compiled in");
    let mut config = Config::default();
    match backend.name() {
        "threadpool" => config.threads = Some(THREADS),
        "async-std" => {}
        _ => config.workers = Some(1),
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
    backend.serve(server, App::new(app)).expect("it serves");
}

/// A server in a process of its own, which ends when this is dropped.
pub(crate) struct Served {
    process: process::Child,
    /// The process ends when this does.
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
        let stdout = process.stdout.take().expect("it is piped");
        BufReader::new(stdout).read_line(&mut line).expect("it says where it listens");
        let addr = line.trim().parse().expect("an address");
        let stdin = process.stdin.take();
        Served { process, _stdin: stdin, addr }
    }

    /// The time that it has spent on processors.
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

/// What is asked for, and the body that has to come of it.
pub(crate) struct Work {
    pub(crate) request: Vec<u8>,
    pub(crate) body: Vec<u8>,
}

/// Measures rounds of requests, under `name`, and prints the server's CPU time for each request below. The server is
/// started here if it was not, so that those that the command line leaves out are not.
pub(crate) fn measure(
    group: &mut BenchmarkGroup<'_, WallTime>,
    name: &str,
    server: &LazyCell<Served, impl FnOnce() -> Served>,
    work: &Work,
    connections: usize,
) {
    let mut run = None;
    group.sampling_mode(SamplingMode::Flat).bench_function(name, |bencher| {
        let (asker, requests, _) = run.get_or_insert_with(|| {
            let asker = Asker::connect(server, connections, &work.request, &work.body);
            (asker, 0, server.cpu_time())
        });
        bencher.iter(|| *requests += asker.round());
    });
    if let Some((_, requests, before)) = run {
        let spent = server.cpu_time().saturating_sub(before).as_secs_f64();
        let each = spent / requests.max(1) as f64 * 1e6;
        println!("{:24}cpu:    {each:.1} µs a request of the server's, over {requests}", "");
    }
}

/// Keep-alive connections that ask for the same thing again and again.
struct Asker {
    connections: Vec<TcpStream>,
    request: Vec<u8>,
    /// What the first connection was told, but for the date; each response is as long and ends as this does.
    response: Vec<u8>,
    /// Where its body begins.
    body: usize,
    received: Vec<u8>,
}

impl Asker {
    /// Connects, and checks that the answer is 200 with this body.
    fn connect(to: &Served, connections: usize, request: &[u8], body: &[u8]) -> Asker {
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
        let mut asker = Asker {
            connections: clients.into_iter().map(|client| client.socket).collect(),
            request: request.to_vec(),
            received: vec![0; answer.raw.len()],
            response: answer.raw,
            body: end + 4,
        };
        asker.round();
        asker
    }

    /// One request on each connection: all are sent, then all are answered. Gives how many that were.
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
