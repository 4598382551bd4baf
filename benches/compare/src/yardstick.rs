//! The yardstick, a reference server that never changes: one thread, one poller, one response. The cost of a request to
//! it depends only on the machine and the kernel at that moment.
//!
//! It is an event loop under the same load as the servers under comparison, because a slow machine is not equally slow
//! at everything: threads that wake each other suffer more from other programs than a loop does.

use std::io::{self, ErrorKind, Read, Write};
use std::net::SocketAddr;

use mio::net::{TcpListener, TcpStream};
use mio::{Events, Interest, Poll, Token};

use crate::load::{Request, Traffic};
use crate::serve::Application;
use crate::trial::{Trial, Workload};

const RESPONSE: &[u8] =
    b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: 13\r\n\r\nHello, World!";
const END_OF_HEAD: &[u8] = b"\r\n\r\n";
const CLOSE: &[u8] = b"Connection: close";
const LISTENER: Token = Token(usize::MAX);
/// Longest request head, in bytes. The generator's heads are much shorter.
const MAX_HEAD: usize = 4096;

/// The trial for the yardstick under the load of `of`; `None` if the load does not measure CPU time.
pub(crate) fn trial(of: &Trial) -> Option<Trial> {
    let Workload::Load(traffics) = &of.workload else { return None };
    let first = Traffic { mix: vec![(1, Request::get("/"))], ..traffics.first()?.clone() };
    Some(Trial {
        app: Application::Yardstick,
        workload: Workload::Load(vec![first]),
        saturates: of.saturates,
    })
}

/// Serves until the process is killed.
pub(crate) fn serve(address: SocketAddr) -> io::Result<()> {
    let mut listener = TcpListener::bind(address)?;
    let mut poll = Poll::new()?;
    poll.registry().register(&mut listener, LISTENER, Interest::READABLE)?;
    let mut events = Events::with_capacity(1024);
    let mut peers: Vec<Option<Peer>> = Vec::new();
    loop {
        poll.poll(&mut events, None)?;
        for event in &events {
            if event.token() == LISTENER {
                while let Ok((mut stream, _)) = listener.accept() {
                    let free = peers.iter().position(Option::is_none).unwrap_or(peers.len());
                    stream.set_nodelay(true)?;
                    poll.registry().register(&mut stream, Token(free), Interest::READABLE)?;
                    peers.resize_with(peers.len().max(free + 1), || None);
                    peers[free] = Some(Peer { stream, head: Vec::new() });
                }
            } else if let Some(place) = peers.get_mut(event.token().0) {
                // A peer that fails or closes is removed.
                if !place.as_mut().is_some_and(|peer| peer.answer().unwrap_or(false)) {
                    *place = None;
                }
            }
        }
    }
}

struct Peer {
    stream: TcpStream,
    /// The received part of the next head.
    head: Vec<u8>,
}

impl Peer {
    /// Answers the complete heads that were received. Returns false if the connection is to be closed.
    fn answer(&mut self) -> io::Result<bool> {
        let mut part = [0; MAX_HEAD];
        loop {
            match self.stream.read(&mut part) {
                Ok(0) => return Ok(false),
                Ok(n) => self.head.extend_from_slice(&part[..n]),
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(true),
                Err(error) => return Err(error),
            }
            if self.head.ends_with(END_OF_HEAD) {
                self.stream.write_all(RESPONSE)?;
                let last = self.head.windows(CLOSE.len()).any(|window| window == CLOSE);
                self.head.clear();
                if last {
                    return Ok(false);
                }
            } else if self.head.len() > MAX_HEAD {
                return Ok(false);
            }
        }
    }
}
