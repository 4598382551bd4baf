//! Clients under load, which know of each request whether it had arrived when the server was asked to stop.
//!
//! A request has arrived if the write of its last byte returned before the stop was asked for: over loopback, the bytes
//! are then in the buffer of the server's socket. The server may close without answering a later request.

use std::io::Write;
use std::net::{SocketAddr, TcpStream};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use test_support::client::Client;
use test_support::{PATIENCE, wait_until};

/// Requests that a client sends before it reads, with the expected bodies.
type Batch = &'static [(&'static str, &'static str)];

const PLAINTEXT: (&str, &str) = ("GET /plaintext HTTP/1.1\r\nHost: test\r\n\r\n", "Hello, World!");
const ASYNC: (&str, &str) = ("GET /async HTTP/1.1\r\nHost: test\r\n\r\n", "Hello, World!");
const SLEEP: (&str, &str) = ("GET /sleep/5 HTTP/1.1\r\nHost: test\r\n\r\n", "ok");
const ECHO: (&str, &str) = (
    "POST /echo HTTP/1.1\r\nHost: test\r\nContent-Length: 26\r\n\r\nabcdefghijklmnopqrstuvwxyz",
    "abcdefghijklmnopqrstuvwxyz",
);
const STREAM: (&str, &str) = ("GET /stream/3 HTTP/1.1\r\nHost: test\r\n\r\n", "chunk 0\nchunk 1\nchunk 2\n");

/// The batches. Client `n` sends batch `n` modulo their number.
const BATCHES: [Batch; 8] = [
    &[PLAINTEXT],
    &[ASYNC],
    &[SLEEP],
    &[ECHO],
    &[PLAINTEXT, PLAINTEXT, PLAINTEXT, PLAINTEXT],
    &[ECHO, SLEEP, PLAINTEXT],
    &[STREAM, ECHO, ASYNC, STREAM],
    &[SLEEP, PLAINTEXT, PLAINTEXT],
];

/// The pause between requests of a batch that are not sent at once: a handler of the batch begins and does not end.
const PAUSE: Duration = Duration::from_millis(1);

/// Running clients of one server.
pub(crate) struct Load {
    clients: Vec<JoinHandle<Option<Loss>>>,
    stop: Arc<OnceLock<Instant>>,
    answered: Arc<AtomicUsize>,
}

/// A request that was not answered as expected.
#[derive(Debug)]
pub(crate) struct Loss {
    written: Option<Instant>,
    #[expect(dead_code, reason = "it is shown")]
    why: String,
}

impl Load {
    /// Starts clients and waits until each has been answered.
    ///
    /// Every eighth client makes a connection for each batch. Half of the clients send a batch at once, and the others
    /// send it request by request, so that some requests arrive while the handler of an earlier one runs.
    pub(crate) fn start(to: SocketAddr, clients: usize) -> Load {
        let stop = Arc::new(OnceLock::new());
        let answered = Arc::new(AtomicUsize::new(0));
        let begun = Arc::new(AtomicUsize::new(0));
        let threads = (0..clients)
            .map(|n| {
                let asker = Asker {
                    to,
                    batch: BATCHES[n % BATCHES.len()],
                    fresh: n / BATCHES.len() % BATCHES.len() == n % BATCHES.len(),
                    at_once: (n / BATCHES.len()).is_multiple_of(2),
                    stop: stop.clone(),
                    answered: answered.clone(),
                };
                let begun = begun.clone();
                thread::spawn(move || asker.ask(&begun))
            })
            .collect();
        wait_until("every client is answered", || begun.load(Ordering::SeqCst) == clients);
        Load { clients: threads, stop, answered }
    }

    /// Takes the time of the stop. The caller asks for the stop directly afterwards.
    pub(crate) fn stops_now(&self) {
        self.stop.set(Instant::now()).expect("a server stops once");
    }

    /// Waits for the end of all clients. Returns the number of answered requests, and the requests that had arrived and
    /// were lost.
    pub(crate) fn outcome(self) -> (usize, Vec<Loss>) {
        let stopped = *self.stop.get().expect("the server was asked to stop");
        let ends: Vec<_> =
            self.clients.into_iter().map(|client| client.join().expect("a client does not panic")).collect();
        let lost = ends.into_iter().flatten().filter(|loss| loss.written.is_none_or(|at| at < stopped));
        (self.answered.load(Ordering::SeqCst), lost.collect())
    }
}

struct Asker {
    to: SocketAddr,
    batch: Batch,
    /// Whether each batch has its own connection.
    fresh: bool,
    /// Whether each batch is written at once.
    at_once: bool,
    stop: Arc<OnceLock<Instant>>,
    answered: Arc<AtomicUsize>,
}

impl Asker {
    /// Sends requests until the server closes. Returns a request that was not answered.
    fn ask(self, begun: &AtomicUsize) -> Option<Loss> {
        let mut connection = None;
        for round in 0.. {
            let Some(mut client) = connection.take().or_else(|| self.connect()) else {
                return self.refused();
            };
            let written = self.write(&mut client);
            // Only a server that stops closes a connection.
            let mut open = written.len() == self.batch.len();
            for (at, (request, expected)) in written.into_iter().zip(self.batch) {
                match client.try_answer(false) {
                    Ok(answer) if answer.said() == (200, (*expected).to_owned()) => open &= !answer.closes(),
                    Ok(answer) => return Some(Loss { written: None, why: format!("{request}: {answer:?}") }),
                    Err(why) => return Some(Loss { written: Some(at), why: format!("{request}: {why}") }),
                }
                self.answered.fetch_add(1, Ordering::SeqCst);
            }
            if round == 0 {
                begun.fetch_add(1, Ordering::SeqCst);
            }
            if !open {
                return self.refused();
            }
            connection = (!self.fresh).then_some(client);
        }
        None
    }

    /// Writes a batch. Returns the time at which each request was written, up to the first error.
    fn write(&self, client: &mut Client) -> Vec<Instant> {
        let requests = self.batch.len();
        let mut written = Vec::with_capacity(requests);
        for batch in self.batch.chunks(if self.at_once { requests } else { 1 }) {
            if !written.is_empty() {
                thread::sleep(PAUSE);
            }
            let bytes: String = batch.iter().map(|(request, _)| *request).collect();
            if client.socket.write_all(bytes.as_bytes()).is_err() {
                break;
            }
            written.extend(std::iter::repeat_n(Instant::now(), batch.len()));
        }
        written
    }

    fn connect(&self) -> Option<Client> {
        let socket = TcpStream::connect_timeout(&self.to, PATIENCE).ok()?;
        socket.set_nodelay(true).ok()?;
        socket.set_read_timeout(Some(PATIENCE)).ok()?;
        socket.set_write_timeout(Some(PATIENCE)).ok()?;
        Some(Client::new(socket))
    }

    /// Handles a refused connection, which is a loss unless the server has been asked to stop.
    fn refused(&self) -> Option<Loss> {
        match self.stop.get() {
            Some(_) => None,
            None => Some(Loss { written: None, why: "refused by a server that runs".into() }),
        }
    }
}
