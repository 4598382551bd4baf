//! Clients that leave before their response, and one that comes after them.

use std::io::{self, Write};
use std::net::{SocketAddr, TcpStream};
use std::thread;
use std::time::{Duration, Instant};

use super::{Request, idle};

/// How long the clients wait before they leave. The server has read their requests by then.
const PATIENCE: Duration = Duration::from_millis(100);

/// Sends `request` on each of `clients` connections, closes them without reading, and returns the latency of `then` on
/// a new connection. It counts from when the clients left.
///
/// # Errors
/// If a connection cannot be opened, or `then` gets no response within 5 s.
pub fn run(on: SocketAddr, clients: usize, request: &Request, then: &Request) -> io::Result<Duration> {
    let streams: Vec<TcpStream> = (0..clients).map(|_| idle::connect(on)).collect::<io::Result<_>>()?;
    let bytes = request.bytes(on, true);
    for mut stream in &streams {
        stream.write_all(&bytes)?;
    }
    thread::sleep(PATIENCE);
    drop(streams);
    let left = Instant::now();
    idle::exchange(on, then)?;
    Ok(left.elapsed())
}
