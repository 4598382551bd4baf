//! Connections that do nothing: what each costs the server in memory.

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::thread;
use std::time::Duration;

use super::Ask;
use super::response::{Answer, Reader};
use crate::proc::{Spent, Usage};

/// Connections that come and go before, so that what a server sets up once is not charged to those that stay.
const BEFORE: usize = 64;
/// How long an answer may take.
const PATIENCE: Duration = Duration::from_secs(5);

/// What came of it.
#[derive(Clone, Debug)]
pub struct Held {
    /// Bytes that the server took for each.
    pub bytes: f64,
    /// The server, at the end.
    pub usage: Usage,
    /// What it used meanwhile, per second.
    pub spent: Spent,
}

/// Opens connections, asks once on each, and leaves them alone for a time.
///
/// # Errors
/// A connection that has no answer: the server does not bear so many.
pub fn hold(
    on: SocketAddr,
    connections: usize,
    ask: &Ask,
    time: Duration,
    usage: impl Fn() -> Usage,
) -> io::Result<Held> {
    drop(open(on, BEFORE.min(connections), ask)?);
    let before = usage();
    let held = open(on, connections, ask)?;
    let begin = usage();
    thread::sleep(time);
    let end = usage();
    let spent = end.since(&begin).per(time.as_secs_f64().max(1e-9));
    drop(held);
    let grown = end.anonymous_kib.saturating_sub(before.anonymous_kib) as f64 * 1024.0;
    Ok(Held { bytes: grown / connections.max(1) as f64, usage: end, spent })
}

fn open(on: SocketAddr, connections: usize, ask: &Ask) -> io::Result<Vec<TcpStream>> {
    (0..connections).map(|_| exchange(on, ask).map(|(stream, _)| stream)).collect()
}

/// Asks once, on a connection of its own.
pub fn exchange(on: SocketAddr, ask: &Ask) -> io::Result<(TcpStream, Answer)> {
    ask_on(connect(on)?, on, ask)
}

/// A connection on which nothing takes for ever.
pub fn connect(on: SocketAddr) -> io::Result<TcpStream> {
    let stream = TcpStream::connect_timeout(&on, PATIENCE)?;
    stream.set_nodelay(true)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(PATIENCE))?;
    Ok(stream)
}

/// Asks once, on this connection.
pub fn ask_on(mut stream: TcpStream, on: SocketAddr, ask: &Ask) -> io::Result<(TcpStream, Answer)> {
    stream.write_all(&ask.bytes(on, true))?;
    let (mut reader, mut part) = (Reader::default(), [0; 4096]);
    loop {
        let n = stream.read(&mut part)?;
        let answer = match n {
            0 => Some(reader.end().ok_or(io::ErrorKind::UnexpectedEof)?),
            n => reader.take(&part[..n]).map_err(|_| io::ErrorKind::InvalidData)?,
        };
        if let Some(answer) = answer {
            return Ok((stream, answer));
        }
    }
}
