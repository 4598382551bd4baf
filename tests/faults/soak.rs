//! A soak: good and bad peers, upgrades, streams, resets and restarts, all at once. A server under it keeps no memory,
//! no descriptor, no thread and no task.
//!
//! The variable `GEARSHIFT_SOAK_SECONDS` sets how long it lasts; the default is some seconds. The test prints a table
//! of what the process had at each stage.

use std::fmt;
use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use gearshift::Backend;
use rustix::net::sockopt;
use rustix::process::Signal;
use test_support::client::Client;
use test_support::program::Program;
use test_support::suite::Area;
use test_support::wait_until;

use crate::leave::reset;
use crate::stops::Random;

pub(crate) const AREA: Area = ("soak", &[("nothing_is_left_of_mixed_peers", soak)]);

/// The environment variable that sets another duration, in seconds, than [`SECONDS`].
const LONGER: &str = "GEARSHIFT_SOAK_SECONDS";
const SECONDS: u64 = 3;
/// The number of processes, one after the other. Each is stopped under load.
const STARTS: u64 = 2;
/// The smallest number of stages of a process. After each, the peers pause and the process is measured.
const STAGES: u64 = 3;
/// The longest duration of a stage, in seconds.
const STAGE: u64 = 60;
/// The growth of memory, in bytes, that is no leak: between the second stage and the last one, buffers of threads and
/// arenas of the allocator may still be added.
const GROWTH: u64 = 8 << 20;
/// Short limits, so that bad peers reach them.
const FLAGS: [&str; 14] = [
    "--header-timeout",
    "500ms",
    "--body-timeout",
    "500ms",
    "--write-timeout",
    "500ms",
    "--keep-alive",
    "300ms",
    "--linger",
    "200ms",
    "--max-connections",
    "100",
    "--graceful-timeout",
    "10s",
];

/// The behaviour of a peer on one connection. It returns an error if a good server would not have let it happen.
type Manner = fn(SocketAddr, &mut Random) -> Result<(), String>;

/// All manners. Each has a thread of its own.
const MANNERS: [(&str, Manner); 10] = [
    ("keeps its connection", keeps),
    ("makes a connection for each request", fresh),
    ("sends garbage", garbage),
    ("leaves in a head", |to, random| leaves(to, random, "GET /plaintext HTTP/1.1\r\nHo")),
    ("leaves in a body", |to, random| {
        leaves(to, random, "POST /echo HTTP/1.1\r\nHost: test\r\nContent-Length: 100000\r\n\r\nbody")
    }),
    ("leaves while a handler waits", |to, random| {
        leaves(to, random, "GET /sleep/200 HTTP/1.1\r\nHost: test\r\n\r\n")
    }),
    ("leaves in a stream", |to, random| {
        leaves(to, random, "GET /stream/100000 HTTP/1.1\r\nHost: test\r\n\r\n")
    }),
    ("leaves a large response", |to, random| {
        leaves(to, random, "GET /test/large HTTP/1.1\r\nHost: test\r\n\r\n")
    }),
    ("falls silent", silent),
    ("upgrades", upgrades),
];

/// What a process has between two stages.
struct Measured {
    requests: u64,
    memory: u64,
    descriptors: usize,
    threads: usize,
    tasks: u64,
    connections: u64,
}

impl fmt::Display for Measured {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Measured { requests, memory, descriptors, threads, tasks, connections } = self;
        write!(
            f,
            "{requests:>10} {:>9} {descriptors:>5} {threads:>8} {tasks:>6} {connections:>6}",
            memory >> 10
        )
    }
}

fn soak(backend: Backend) {
    let seconds = std::env::var(LONGER).ok().and_then(|n| n.parse().ok()).unwrap_or(SECONDS);
    let stages = STAGES.max(seconds / STARTS / STAGE);
    let stage = Duration::from_millis(seconds * 1000 / STARTS / stages);
    println!(
        "{backend}, {seconds} s: start, stage, answers, KiB of memory, descriptors, threads, tasks, connections"
    );
    for start in 1..=STARTS {
        let mut server = Program::start(backend, &FLAGS);
        let peers = Peers::start(server.addr());
        peers.play(stage);
        let mut all = vec![measure(&mut server, &peers)];
        for _ in 1..stages {
            peers.play(stage);
            all.push(measure(&mut server, &peers));
        }
        for (stage, measured) in all.iter().enumerate() {
            println!("{start:>3} {:>3} {measured}", stage + 1);
        }
        let (first, early, last) = (&all[0], &all[1], &all[all.len() - 1]);
        assert!(last.memory < early.memory + GROWTH, "memory: {} to {}", early.memory, last.memory);
        // The last connections of the measuring may not be closed yet.
        server.expect_descriptors(first.descriptors);
        assert_eq!((last.tasks, last.connections), (0, 1), "tasks, and the connection that asks");

        // The stop comes while the peers play.
        peers.pause.store(false, Ordering::SeqCst);
        peers.ends.store(true, Ordering::SeqCst);
        server.signal(Signal::TERM);
        assert_eq!(server.status(), Some(0), "{}", server.log());
        peers.join();
    }
}

/// Waits until nothing is open but the connection that asks, then measures.
fn measure(server: &mut Program, peers: &Peers) -> Measured {
    let mut seen = (u64::MAX, u64::MAX);
    let addr = server.addr();
    wait_until("the server has closed all connections and ended all tasks", || {
        let text = Client::connect(addr).get("/metrics").text();
        seen = (gauge(&text, "gearshift_tasks_running"), gauge(&text, "gearshift_connections_open"));
        seen == (0, 1)
    });
    server.expect_alive();
    let stats = server.stats();
    Measured {
        requests: peers.rounds.load(Ordering::SeqCst),
        memory: stats.memory(),
        descriptors: stats.descriptors(),
        threads: stats.threads(),
        tasks: seen.0,
        connections: seen.1,
    }
}

/// The value of a metric without labels.
fn gauge(text: &str, name: &str) -> u64 {
    let value = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
    value.and_then(|value| value.parse().ok()).unwrap_or_else(|| panic!("no {name} in {text}"))
}

/// A thread for each of [`MANNERS`].
struct Peers {
    threads: Vec<JoinHandle<()>>,
    pause: Arc<AtomicBool>,
    /// The server may end at any time from now on.
    ends: Arc<AtomicBool>,
    /// The number of connections that were used to their end.
    rounds: Arc<AtomicU64>,
    /// The number of threads that pause.
    paused: Arc<AtomicU64>,
}

impl Peers {
    fn start(to: SocketAddr) -> Peers {
        let (pause, ends) = (Arc::new(AtomicBool::new(true)), Arc::new(AtomicBool::new(false)));
        let (rounds, paused) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicU64::new(0)));
        let threads = MANNERS.into_iter().zip(1..).map(|((name, manner), seed)| {
            let (pause, ends, rounds, paused) = (pause.clone(), ends.clone(), rounds.clone(), paused.clone());
            thread::spawn(move || {
                let mut random = Random(seed);
                loop {
                    if pause.load(Ordering::SeqCst) {
                        paused.fetch_add(1, Ordering::SeqCst);
                        while pause.load(Ordering::SeqCst) {
                            thread::sleep(Duration::from_millis(1));
                        }
                        paused.fetch_sub(1, Ordering::SeqCst);
                    }
                    match manner(to, &mut random) {
                        Err(_) if ends.load(Ordering::SeqCst) => return,
                        Err(why) => panic!("a peer that {name}: {why}"),
                        Ok(()) => rounds.fetch_add(1, Ordering::SeqCst),
                    };
                }
            })
        });
        let threads = threads.collect();
        Peers { threads, pause, ends, rounds, paused }
    }

    /// Lets the peers play for `time`, then waits until all of them pause.
    fn play(&self, time: Duration) {
        let began = Instant::now();
        self.pause.store(false, Ordering::SeqCst);
        while began.elapsed() < time {
            assert!(!self.threads.iter().any(JoinHandle::is_finished), "a peer has failed");
            thread::sleep(Duration::from_millis(5));
        }
        self.pause.store(true, Ordering::SeqCst);
        wait_until("all peers pause", || self.paused.load(Ordering::SeqCst) == MANNERS.len() as u64);
    }

    fn join(self) {
        for thread in self.threads {
            thread.join().expect("a peer does not panic");
        }
    }
}

/// Requests and the status of their responses.
const REQUESTS: [(&str, u16); 9] = [
    ("GET /plaintext HTTP/1.1\r\nHost: test\r\n\r\n", 200),
    ("GET /async HTTP/1.1\r\nHost: test\r\n\r\n", 200),
    ("GET /sleep/2 HTTP/1.1\r\nHost: test\r\n\r\n", 200),
    ("POST /echo HTTP/1.1\r\nHost: test\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n", 200),
    ("GET /stream/30 HTTP/1.1\r\nHost: test\r\n\r\n", 200),
    ("GET /offload/1 HTTP/1.1\r\nHost: test\r\n\r\n", 200),
    ("GET /compute/10 HTTP/1.1\r\nHost: test\r\n\r\n", 200),
    ("POST /later/3 HTTP/1.1\r\nHost: test\r\n\r\n", 202),
    ("GET /none HTTP/1.1\r\nHost: test\r\n\r\n", 404),
];

fn connect(to: SocketAddr) -> Result<Client, String> {
    let socket = TcpStream::connect(to).map_err(|error| error.to_string())?;
    socket.set_nodelay(true).map_err(|error| error.to_string())?;
    socket.set_read_timeout(Some(test_support::PATIENCE)).map_err(|error| error.to_string())?;
    Ok(Client::new(socket))
}

fn ask(client: &mut Client, request: &str, status: u16) -> Result<(), String> {
    client.socket.write_all(request.as_bytes()).map_err(|error| format!("{request}: {error}"))?;
    let answer = client.try_answer(false).map_err(|why| format!("{request}: {why}"))?;
    match answer.status == status {
        true => Ok(()),
        false => Err(format!("{request}: {answer:?}")),
    }
}

fn keeps(to: SocketAddr, random: &mut Random) -> Result<(), String> {
    let mut client = connect(to)?;
    for _ in 0..random.below(50) {
        let (request, status) = REQUESTS[random.below(REQUESTS.len() as u64) as usize];
        ask(&mut client, request, status)?;
    }
    Ok(())
}

fn fresh(to: SocketAddr, random: &mut Random) -> Result<(), String> {
    let (request, status) = REQUESTS[random.below(REQUESTS.len() as u64) as usize];
    ask(&mut connect(to)?, request, status)?;
    // A handler that panics closes the connection.
    ask(&mut connect(to)?, "GET /panic HTTP/1.1\r\nHost: test\r\n\r\n", 500)
}

fn garbage(to: SocketAddr, random: &mut Random) -> Result<(), String> {
    const GARBAGE: [(&str, u16); 4] = [
        ("GET / HTTP/1.1\r\n\r\n", 400),
        ("GET / HTTP/9.9\r\nHost: test\r\n\r\n", 505),
        ("\u{16}\u{3}\u{1}\0\u{1}\r\n\r\n", 400),
        ("POST /echo HTTP/1.1\r\nHost: test\r\nTransfer-Encoding: chunked\r\n\r\nxyz\r\n", 400),
    ];
    let (request, status) = GARBAGE[random.below(GARBAGE.len() as u64) as usize];
    let mut client = connect(to)?;
    ask(&mut client, request, status)?;
    client.try_end()
}

/// Sends the begin of an exchange, receives some of the answer, and leaves in one of three ways.
fn leaves(to: SocketAddr, random: &mut Random, said: &str) -> Result<(), String> {
    let mut socket = connect(to)?.socket;
    sockopt::set_socket_recv_buffer_size(&socket, 2048).map_err(|error| error.to_string())?;
    socket.write_all(said.as_bytes()).map_err(|error| error.to_string())?;
    socket.set_nonblocking(true).map_err(|error| error.to_string())?;
    thread::sleep(Duration::from_micros(random.below(3_000)));
    let _ = socket.read(&mut [0; 100]);
    match random.below(3) {
        0 => reset(socket),
        1 => drop(socket),
        _ => {
            let _ = socket.shutdown(Shutdown::Write);
            thread::sleep(Duration::from_micros(random.below(3_000)));
        }
    }
    Ok(())
}

/// Connects and sends nothing, or a part of a head, until the server gives up.
fn silent(to: SocketAddr, random: &mut Random) -> Result<(), String> {
    let mut client = connect(to)?;
    if random.below(2) == 0 {
        client.send("GET /plaintext HTTP/1.1\r\n");
        return match client.try_answer(false) {
            Ok(answer) if answer.status == 408 => client.try_end(),
            other => Err(format!("{other:?}")),
        };
    }
    client.try_end()
}

fn upgrades(to: SocketAddr, random: &mut Random) -> Result<(), String> {
    let mut client = connect(to)?;
    ask(
        &mut client,
        "GET /test/upgrade HTTP/1.1\r\nHost: test\r\nConnection: upgrade\r\nUpgrade: echo\r\n\r\n",
        101,
    )?;
    for _ in 0..random.below(10) {
        client.socket.write_all(b"hello").map_err(|error| error.to_string())?;
        if client.exactly(5)? != b"hello" {
            return Err("another echo".to_owned());
        }
    }
    match random.below(2) {
        0 => reset(client.socket),
        _ => drop(client),
    }
    Ok(())
}
