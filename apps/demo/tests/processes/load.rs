//! Clients under load that try nothing twice: each request that is not answered has failed.

use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use test_support::client::Client;
use test_support::{PATIENCE, wait_until};

/// Requests, and the bodies of their answers.
const REQUESTS: [(&str, &str); 4] = [
    ("GET /plaintext HTTP/1.1\r\nHost: test\r\n", "Hello, World!"),
    ("POST /echo HTTP/1.1\r\nHost: test\r\nContent-Length: 0\r\n", ""),
    ("GET /sleep/2 HTTP/1.1\r\nHost: test\r\n", "ok"),
    ("GET /stream/3 HTTP/1.1\r\nHost: test\r\n", "chunk 0\nchunk 1\nchunk 2\n"),
];

/// What a client does between two requests.
#[derive(Clone, Copy, Debug)]
enum Kind {
    /// It connects for each request, and asks the server to close.
    New,
    /// It keeps its connection until the server announces the end.
    Kept,
    /// The same, with a pause between two requests.
    Idle(Duration),
}

/// The clients. The pauses are far below the time for which a server keeps an idle connection.
const KINDS: [Kind; 10] = [
    Kind::New,
    Kind::New,
    Kind::New,
    Kind::New,
    Kind::Kept,
    Kind::Kept,
    Kind::Kept,
    Kind::Kept,
    Kind::Idle(Duration::from_millis(5)),
    Kind::Idle(Duration::from_millis(50)),
];

/// Running clients.
pub(crate) struct Load {
    clients: Vec<JoinHandle<Vec<String>>>,
    sent: Arc<AtomicUsize>,
    ends: Arc<AtomicBool>,
}

impl Load {
    /// Starts the clients, and waits until some requests were answered.
    pub(crate) fn start(to: SocketAddr) -> Load {
        let (sent, ends) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicBool::new(false)));
        let clients = KINDS.map(|kind| {
            let (sent, ends) = (sent.clone(), ends.clone());
            thread::spawn(move || ask(to, kind, &sent, &ends))
        });
        let load = Load { clients: clients.into(), sent, ends };
        wait_until("the clients are answered", || load.sent.load(Ordering::Relaxed) > 10 * KINDS.len());
        load
    }

    /// Ends the clients. Returns the number of requests, and a description of each failure.
    pub(crate) fn stop(self) -> (usize, Vec<String>) {
        self.ends.store(true, Ordering::Relaxed);
        let failed =
            self.clients.into_iter().flat_map(|client| client.join().expect("a client does not panic"));
        let failed = failed.collect();
        (self.sent.load(Ordering::Relaxed), failed)
    }
}

fn ask(to: SocketAddr, kind: Kind, sent: &AtomicUsize, ends: &AtomicBool) -> Vec<String> {
    let (mut failed, mut connection) = (Vec::new(), None);
    for (request, expected) in REQUESTS.into_iter().cycle() {
        if ends.load(Ordering::Relaxed) {
            break;
        }
        sent.fetch_add(1, Ordering::Relaxed);
        let was_used = connection.is_some();
        match once(to, kind, connection.take(), request, expected) {
            Ok(kept) => connection = kept,
            Err(why) => failed.push(format!("{kind:?}, used {was_used}, {}: {why}", &request[..12])),
        }
        if let Kind::Idle(pause) = kind {
            thread::sleep(pause);
        }
    }
    failed
}

/// Sends a request. Returns the connection, unless the answer says that it ends.
fn once(
    to: SocketAddr,
    kind: Kind,
    connection: Option<Client>,
    request: &str,
    expected: &str,
) -> Result<Option<Client>, String> {
    let closes = matches!(kind, Kind::New);
    let mut client = match connection {
        Some(client) => client,
        None => connect(to).map_err(|error| format!("no connection: {error}"))?,
    };
    let end = if closes { "Connection: close\r\n\r\n" } else { "\r\n" };
    std::io::Write::write_all(&mut client.socket, format!("{request}{end}").as_bytes())
        .map_err(|error| format!("not sent: {error}"))?;
    let answer = client.try_answer(false)?;
    match answer.said() {
        (200, body) if body == expected => Ok((!answer.closes()).then_some(client)),
        said => Err(format!("{said:?}")),
    }
}

fn connect(to: SocketAddr) -> std::io::Result<Client> {
    let socket = TcpStream::connect_timeout(&to, PATIENCE)?;
    socket.set_nodelay(true)?;
    socket.set_read_timeout(Some(PATIENCE))?;
    socket.set_write_timeout(Some(PATIENCE))?;
    Ok(Client::new(socket))
}
