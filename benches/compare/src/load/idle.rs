//! Connections that are idle: the memory that each takes in the server.

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::thread;
use std::time::Duration;

use super::Request;
use super::response::{Response, ResponseReader};
use crate::proc::{Usage, UsageDelta};

/// Connections opened and closed before the measurement, so that one-time allocations of the server are not counted.
const WARM_UP_CONNECTIONS: usize = 64;
/// Deadline for connecting and for each read and write.
const TIMEOUT: Duration = Duration::from_secs(5);

/// The cost of idle connections.
#[derive(Clone, Debug)]
pub struct IdleCost {
    /// Memory per connection, in bytes.
    pub bytes: f64,
    /// The server's resource usage at the end.
    pub usage: Usage,
    /// Resources used by the server while the connections were idle, per second.
    pub spent: UsageDelta,
}

/// Opens connections, sends one request on each, and leaves them idle for `time`.
///
/// # Errors
/// If a connection cannot be opened or gets no response.
pub fn hold(
    on: SocketAddr,
    connections: usize,
    request: &Request,
    time: Duration,
    usage: impl Fn() -> Usage,
) -> io::Result<IdleCost> {
    drop(open(on, WARM_UP_CONNECTIONS.min(connections), request)?);
    let before = usage();
    let held = open(on, connections, request)?;
    let begin = usage();
    thread::sleep(time);
    let end = usage();
    let spent = end.since(&begin).per(time.as_secs_f64().max(1e-9));
    drop(held);
    let grown = end.anonymous_kib.saturating_sub(before.anonymous_kib) as f64 * 1024.0;
    Ok(IdleCost { bytes: grown / connections.max(1) as f64, usage: end, spent })
}

fn open(on: SocketAddr, connections: usize, request: &Request) -> io::Result<Vec<TcpStream>> {
    (0..connections).map(|_| exchange(on, request).map(|(stream, _)| stream)).collect()
}

/// Sends one request on a new connection.
pub fn exchange(on: SocketAddr, request: &Request) -> io::Result<(TcpStream, Response)> {
    exchange_on(connect(on)?, on, request)
}

/// Opens a connection with deadlines.
pub fn connect(on: SocketAddr) -> io::Result<TcpStream> {
    let stream = TcpStream::connect_timeout(&on, TIMEOUT)?;
    stream.set_nodelay(true)?;
    stream.set_read_timeout(Some(TIMEOUT))?;
    stream.set_write_timeout(Some(TIMEOUT))?;
    Ok(stream)
}

/// Sends one request on a connection.
pub fn exchange_on(
    mut stream: TcpStream,
    on: SocketAddr,
    request: &Request,
) -> io::Result<(TcpStream, Response)> {
    stream.write_all(&request.bytes(on, true))?;
    let (mut reader, mut part) = (ResponseReader::default(), [0; 4096]);
    loop {
        let n = stream.read(&mut part)?;
        let response = match n {
            0 => Some(reader.end().ok_or(io::ErrorKind::UnexpectedEof)?),
            n => reader.feed(&part[..n]).map_err(|_| io::ErrorKind::InvalidData)?,
        };
        if let Some(response) = response {
            return Ok((stream, response));
        }
    }
}
