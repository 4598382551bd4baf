//! A server that never changes: one thread, one poll, and the same answer to everything. What a request costs here is
//! what the system and the machine take for it at that moment, and nothing of what is compared.
//!
//! It is an event loop, and is put under the same load as those it stands beside, because a machine that is slow is not
//! equally slow at everything: threads that wake each other suffer more from a busy neighbour than a loop does.

use std::io::{self, ErrorKind, Read, Write};
use std::net::SocketAddr;

use mio::net::{TcpListener, TcpStream};
use mio::{Events, Interest, Poll, Token};

use crate::load::{Ask, Traffic};
use crate::serve::Served;
use crate::trial::{Trial, Work};

const ANSWER: &[u8] =
    b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: 13\r\n\r\nHello, World!";
const END_OF_HEAD: &[u8] = b"\r\n\r\n";
const CLOSE: &[u8] = b"Connection: close";
const LISTENER: Token = Token(usize::MAX);
/// The longest head; the generator's are much shorter.
const MOST_HEAD: usize = 4096;

/// The same load, as the yardstick can bear it; `None` if it says nothing of CPU time.
pub(crate) fn trial(of: &Trial) -> Option<Trial> {
    let Work::Load(traffics) = &of.work else { return None };
    let first = Traffic { mix: vec![(1, Ask::get("/"))], ..traffics.first()?.clone() };
    Some(Trial { app: Served::Yardstick, work: Work::Load(vec![first]), saturates: of.saturates })
}

/// Serves until it is killed.
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
                // Whoever leaves, for whatever reason, is gone.
                if !place.as_mut().is_some_and(|peer| peer.answer().unwrap_or(false)) {
                    *place = None;
                }
            }
        }
    }
}

struct Peer {
    stream: TcpStream,
    /// What has come of the next head.
    head: Vec<u8>,
}

impl Peer {
    /// Answers what has come; says whether the peer is still there.
    fn answer(&mut self) -> io::Result<bool> {
        let mut part = [0; MOST_HEAD];
        loop {
            match self.stream.read(&mut part) {
                Ok(0) => return Ok(false),
                Ok(n) => self.head.extend_from_slice(&part[..n]),
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(true),
                Err(error) => return Err(error),
            }
            if self.head.ends_with(END_OF_HEAD) {
                self.stream.write_all(ANSWER)?;
                let last = self.head.windows(CLOSE.len()).any(|window| window == CLOSE);
                self.head.clear();
                if last {
                    return Ok(false);
                }
            } else if self.head.len() > MOST_HEAD {
                return Ok(false);
            }
        }
    }
}
