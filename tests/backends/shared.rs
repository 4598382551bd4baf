//! A listener whose queue all event loops share: a Unix socket, or an inherited one.

use std::collections::HashMap;
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, mpsc};
use std::thread::{self, JoinHandle, ThreadId};
use std::time::Duration;

use gearshift::{App, Backend, Bind, Config, Router, Runtime, Server, Shutdown, sync};
use test_support::backend::few_workers;
use test_support::client::Client;
use test_support::program::Program;
use test_support::server::any_port;
use test_support::suite::Area;
use test_support::wait_until;

use crate::listen::{free_path, unix_client};

pub(crate) const AREA: Area = (
    "shared",
    &[
        ("a_connection_to_a_shared_listener_wakes_few_threads", wakes),
        ("connections_to_a_shared_listener_go_to_all_loops", spread),
        ("a_loop_that_is_held_delays_no_connection_to_a_shared_listener", held),
        ("a_loop_that_is_held_delays_no_connection_that_waits_for_room", held_while_full),
    ],
);

/// The time in which a loop that waits notices a connection. A test that does not see the moment waits for so long.
const TO_NOTICE: Duration = Duration::from_millis(100);

/// Settings with `workers` event loops, or with those of the backend.
fn with_workers(backend: Backend, workers: usize) -> Config {
    let mut config = Config::default();
    config.workers = Some(workers);
    if backend.check(&config).is_ok() { config } else { few_workers(backend) }
}

/// A server with a Unix socket, on a separate thread.
struct Running {
    path: PathBuf,
    shutdown: Shutdown,
    thread: JoinHandle<()>,
}

impl Running {
    fn start(
        backend: Backend,
        config: Config,
        app: impl FnOnce(Runtime) -> Router + Send + 'static,
    ) -> Running {
        let path = free_path();
        let server = Server::bind(&[Bind::Unix(path.clone()), any_port()], config).expect("the path is free");
        let shutdown = server.shutdown();
        let thread = thread::spawn(move || {
            backend.serve(server, App::new(app)).expect("the server ends without an error");
        });
        Running { path, shutdown, thread }
    }

    /// Sends a request on a new connection, and returns the body of the response.
    fn get(&self, path: &str) -> String {
        unix_client(&self.path).get(path).text()
    }

    fn stop(self) {
        self.shutdown.force();
        self.thread.join().expect("the server does not panic");
    }
}

fn wakes(backend: Backend) {
    const LOOPS: u64 = 16;
    const CONNECTIONS: u64 = 50;
    let path = free_path();
    let (address, loops) = (format!("unix:{}", path.display()), LOOPS.to_string());
    let mut flags = vec!["--bind", &address];
    if with_workers(backend, 16).workers == Some(16) {
        flags.extend(["--workers", &loops]);
    }
    let server = Program::start_on_all_cores(backend, &flags);
    // The threads that wait during a number of connections: to begin, for a request, and for the end of each.
    let waits = |connect: &dyn Fn()| {
        let is_asleep = || wait_until("all threads wait", || server.stats().is_asleep());
        is_asleep();
        let before = server.stats().waits();
        for _ in 0..CONNECTIONS {
            connect();
            is_asleep();
        }
        server.stats().waits() - before
    };
    let tcp = waits(&|| assert_eq!(server.client().get("/plaintext").status, 200));
    let unix = waits(&|| assert_eq!(unix_client(&path).get("/plaintext").status, 200));
    // A connection of TCP wakes the loop whose listener it has.
    assert!(unix < tcp + CONNECTIONS * (LOOPS / 2), "{unix} waits of threads, and {tcp} with TCP");
}

fn spread(backend: Backend) {
    const LOOPS: usize = 4;
    const CONNECTIONS_PER_LOOP: usize = 25;
    let counts = Arc::new(Mutex::new(HashMap::<ThreadId, usize>::new()));
    let counting = counts.clone();
    let app = move |_| {
        Router::new().get(
            "/",
            sync(move |_| {
                *counting.lock().expect("no panic").entry(thread::current().id()).or_default() += 1;
            }),
        )
    };
    let server = Running::start(backend, with_workers(backend, LOOPS), app);
    // A loop begins late on a busy machine, and may miss its turn.
    wait_until("all loops serve connections", || {
        server.get("/");
        let counts = counts.lock().expect("no panic");
        assert!(counts.len() <= LOOPS, "{counts:?}");
        counts.len() == LOOPS && counts.values().all(|count| *count >= CONNECTIONS_PER_LOOP)
    });
    server.stop();
}

/// A server with two loops, whose route `/` names its thread, and whose route `/held` holds its loop.
struct Holding {
    server: Running,
    held: mpsc::Receiver<()>,
    release: mpsc::Sender<()>,
}

impl Holding {
    fn start(backend: Backend, set: impl FnOnce(&mut Config)) -> Holding {
        let (hold, held) = mpsc::channel();
        let (release, released) = mpsc::channel();
        let released = Mutex::new(released);
        let app = move |_| {
            Router::new().get("/", sync(|_| format!("{:?}", thread::current().id()))).get(
                "/held",
                sync(move |_| {
                    hold.send(()).expect("the test waits");
                    released.lock().expect("no panic").recv().expect("the test releases the loop");
                    "released"
                }),
            )
        };
        let mut config = with_workers(backend, 2);
        set(&mut config);
        Holding { server: Running::start(backend, config, app), held, release }
    }

    /// Holds the loop of a connection.
    fn hold(&self, connection: &mut Client<UnixStream>) {
        connection.send_get("/held");
        self.held.recv().expect("the handler runs");
    }

    /// Releases the loop of a connection.
    fn release(&self, mut connection: Client<UnixStream>) {
        self.release.send(()).expect("the handler waits");
        assert_eq!(connection.answer().text(), "released");
    }
}

fn held(backend: Backend) {
    let holding = Holding::start(backend, |_| {});
    let mut connection = unix_client(&holding.server.path);
    holding.hold(&mut connection);
    for _ in 0..20 {
        holding.server.get("/");
    }
    holding.release(connection);
    holding.server.stop();
}

fn held_while_full(backend: Backend) {
    const FULL: usize = 16;
    // Which of the loops learns of the connection that waits cannot be seen.
    for is_first_held in [true, false] {
        let holding = Holding::start(backend, |config| config.max_connections = FULL);
        let connect = || unix_client(&holding.server.path);
        let mut first = connect();
        let loop_of_first = first.get("/").text();
        let mut other = connect();
        // A loop begins late on a busy machine, and may miss its turn.
        wait_until("the other loop accepts a connection", || {
            let is_other = other.get("/").text() != loop_of_first;
            if !is_other {
                other = connect();
            }
            is_other
        });
        // One after the other, so that both loops wait for a connection again.
        let served = |_| {
            let mut connection = connect();
            assert_eq!(connection.get("/").status, 200);
            connection
        };
        let _rest: Vec<_> = (2..FULL).map(served).collect();
        let (mut held, closed) = if is_first_held { (first, other) } else { (other, first) };
        let mut waits = connect();
        waits.send_get("/");
        thread::sleep(TO_NOTICE);
        holding.hold(&mut held);
        drop(closed);
        assert_eq!(waits.answer().status, 200);
        holding.release(held);
        holding.server.stop();
    }
}
