//! Stops of a program while new connections arrive all the time. A connection is lost if its `connect` succeeds and it
//! gets no complete answer. A connection that is refused is not lost.
//!
//! `GEARSHIFT_FAULT_ROUNDS=1000 cargo test --test faults -- newcomers::` stops 1,000 programs in each test.

use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::fd::AsRawFd;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use gearshift::Backend;
use rustix::process::Signal;
use test_support::PATIENCE;
use test_support::client::Client;
use test_support::program::Program;
use test_support::suite::Area;
use test_support::wait_until;

use crate::leave::reset;
use crate::stops::{Random, rounds};

pub(crate) const AREA: Area = (
    "newcomers",
    &[
        ("no_connection_is_lost_by_a_stop", |backend| tcp(Program::start_on_all_cores, backend)),
        ("no_connection_is_lost_by_a_stop_of_few_workers", |backend| tcp(Program::start, backend)),
        ("no_connection_to_a_unix_socket_is_lost_by_a_stop", unix),
        ("no_connection_to_an_inherited_socket_is_lost_or_refused_by_a_restart", inherited),
    ],
);

const CLIENTS: usize = 16;
/// The answers before a stop are fewer than this number.
const MAX_ANSWERS: u64 = 200;
/// Time after which a client gives up its `connect`. The system repeats it after a second only.
const CONNECT: Duration = Duration::from_millis(300);
/// Pause of a client that was refused, and between two parts of a request.
const PAUSE: Duration = Duration::from_millis(1);
const REQUEST: &str = "GET /plaintext HTTP/1.1\r\nHost: test\r\n\r\n";

fn tcp(start: fn(Backend, &[&str]) -> Program, backend: Backend) {
    let mut random = Random::default();
    for round in 0..rounds() {
        let program = start(backend, &[]);
        let newcomers = Newcomers::start(Address::Tcp(program.addr()));
        stop(program, newcomers, random.below(MAX_ANSWERS), &format!("round {round}"));
    }
}

fn unix(backend: Backend) {
    let mut random = Random::default();
    for round in 0..rounds() {
        let path = std::env::temp_dir().join(format!("gearshift-newcomers-{}-{backend}", std::process::id()));
        let program = Program::start(backend, &["--bind", &format!("unix:{}", path.display())]);
        let newcomers = Newcomers::start(Address::Unix(path.clone()));
        stop(program, newcomers, random.below(MAX_ANSWERS), &format!("round {round}"));
        assert!(!path.exists(), "the socket is removed");
    }
}

/// Stops a program after a number of answers, and checks that its clients have lost nothing.
fn stop(mut program: Program, newcomers: Newcomers, answers: u64, at: &str) {
    newcomers.expect_more(answers);
    program.signal(Signal::TERM);
    assert_eq!(program.status(), Some(0), "{at}: {}", program.log());
    let (lost, _) = newcomers.outcome();
    assert!(lost.is_empty(), "{at}, after {answers} answers, {} lost: {lost:#?}", lost.len());
    program.expect_cut(0);
}

/// The next program serves the connections that the one before has left in the queue.
fn inherited(backend: Backend) {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let addr = listener.local_addr().expect("the listener is bound");
    // The duplicate stays open in a child.
    let passed = rustix::io::dup(&listener).expect("a free descriptor");
    let bind = format!("fd://{}", passed.as_raw_fd());
    let newcomers = Newcomers::start(Address::Tcp(addr));
    let mut random = Random::default();
    for _ in 0..rounds() {
        let mut program = Program::start(backend, &["--bind", &bind]);
        newcomers.expect_more(random.below(MAX_ANSWERS));
        program.signal(Signal::TERM);
        assert_eq!(program.status(), Some(0), "{}", program.log());
    }
    let _last = Program::start(backend, &["--bind", &bind]);
    newcomers.expect_more(1);
    let (lost, refused) = newcomers.outcome();
    assert!(lost.is_empty() && refused == 0, "{refused} refused, {} lost: {lost:#?}", lost.len());
}

#[derive(Clone)]
enum Address {
    Tcp(SocketAddr),
    Unix(PathBuf),
}

/// Clients that make a connection for each request, until they are told to stop.
struct Newcomers {
    clients: Vec<JoinHandle<Vec<String>>>,
    answered: Arc<AtomicUsize>,
    refused: Arc<AtomicUsize>,
    is_over: Arc<AtomicBool>,
}

impl Newcomers {
    fn start(to: Address) -> Newcomers {
        let (answered, refused) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
        let is_over = Arc::new(AtomicBool::new(false));
        let client = |n| {
            let (to, answered, refused, is_over) =
                (to.clone(), answered.clone(), refused.clone(), is_over.clone());
            thread::spawn(move || {
                let mut lost = Vec::new();
                while !is_over.load(Ordering::SeqCst) {
                    match ask_at(&to, n) {
                        Some(Ok(())) => _ = answered.fetch_add(1, Ordering::SeqCst),
                        Some(Err(why)) => lost.push(format!("client {n}: {why}")),
                        None => {
                            refused.fetch_add(1, Ordering::SeqCst);
                            thread::sleep(PAUSE);
                        }
                    }
                }
                lost
            })
        };
        let clients = (0..CLIENTS).map(client).collect();
        Newcomers { clients, answered, refused, is_over }
    }

    /// Waits until there are more than `answers` further answers.
    fn expect_more(&self, answers: u64) {
        let before = self.answered.load(Ordering::SeqCst);
        wait_until("clients are answered", || {
            (self.answered.load(Ordering::SeqCst) - before) as u64 > answers
        });
    }

    /// Returns the losses, and how often a client was refused.
    fn outcome(self) -> (Vec<String>, usize) {
        self.is_over.store(true, Ordering::SeqCst);
        let lost =
            self.clients.into_iter().flat_map(|client| client.join().expect("a client does not panic"));
        (lost.collect(), self.refused.load(Ordering::SeqCst))
    }
}

/// Makes a connection and a request. Returns `None` if the connection was refused.
fn ask_at(to: &Address, n: usize) -> Option<Result<(), String>> {
    match to {
        Address::Tcp(to) => {
            let socket = TcpStream::connect_timeout(to, CONNECT).ok()?;
            let _ = socket.set_nodelay(true);
            let _ = socket.set_read_timeout(Some(PATIENCE));
            let mut client = Client::new(socket);
            let answered = ask(&mut client, n);
            reset(client.socket);
            Some(answered)
        }
        Address::Unix(path) => {
            let socket = UnixStream::connect(Path::new(path)).ok()?;
            let _ = socket.set_read_timeout(Some(PATIENCE));
            Some(ask(&mut Client::new(socket), n))
        }
    }
}

/// Sends a request: at once, after a pause, or in two parts, as the number of the client says. Reads the answer.
fn ask<S: std::io::Read + std::io::Write>(client: &mut Client<S>, n: usize) -> Result<(), String> {
    let parts = match n % 4 {
        0 | 1 => vec![REQUEST],
        2 => vec!["", REQUEST],
        _ => vec![&REQUEST[..20], &REQUEST[20..]],
    };
    for (at, part) in parts.into_iter().enumerate() {
        if at > 0 {
            thread::sleep(PAUSE);
        }
        client.socket.write_all(part.as_bytes()).map_err(|error| format!("part {at} not sent: {error}"))?;
    }
    match client.try_answer(false)?.said() {
        (200, body) if body == "Hello, World!" => Ok(()),
        said => Err(format!("{said:?}")),
    }
}
