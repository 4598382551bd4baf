//! A constant response to any bytes that end in an empty line. It is the lower bound for an event loop on epoll, with
//! which the other servers are compared: one `read`, one `write`, no parsing, no routes.
//!
//! `cargo run --release -p peer-floor -- 8005`
//!
//! Each core has a thread with its own listener, poller and connections. It is deliberately incorrect: requests that
//! are received together get one response, bodies are not supported, there are no limits or deadlines, and the date is
//! constant. It is therefore only suitable for `/plaintext` without pipelining.

use std::io::{self, ErrorKind, Read, Write};
use std::net::{Ipv4Addr, SocketAddr};
use std::thread;

use mio::event::Event;
use mio::net::{TcpListener, TcpStream};
use mio::{Events, Interest, Poll, Token};
use slab::Slab;
use socket2::{Domain, Socket, Type};

/// The same fields as the responses of the other servers.
const RESPONSE: &[u8] = b"HTTP/1.1 200 OK\r\nContent-Type: text/plain; charset=utf-8\r\nServer: floor\r\n\
    Date: Thu, 01 Jan 1970 00:00:00 GMT\r\nContent-Length: 13\r\n\r\nHello, World!";
const LISTENER: Token = Token(usize::MAX);
const BACKLOG: i32 = 2048;

fn main() -> io::Result<()> {
    let port: u16 = std::env::args().nth(1).and_then(|port| port.parse().ok()).expect("usage: floor PORT");
    let threads: Vec<_> = (0..thread::available_parallelism()?.get())
        .map(|_| listen(port).map(|listener| thread::spawn(move || serve(listener))))
        .collect::<io::Result<_>>()?;
    threads.into_iter().try_for_each(|thread| thread.join().expect("no loop panics"))
}

/// One of several listeners on the same port. The kernel distributes connections among them.
fn listen(port: u16) -> io::Result<TcpListener> {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None)?;
    socket.set_reuse_address(true)?;
    socket.set_reuse_port(true)?;
    socket.set_nonblocking(true)?;
    socket.bind(&SocketAddr::from((Ipv4Addr::LOCALHOST, port)).into())?;
    socket.listen(BACKLOG)?;
    Ok(TcpListener::from_std(socket.into()))
}

fn serve(mut listener: TcpListener) -> io::Result<()> {
    let mut poll = Poll::new()?;
    let mut events = Events::with_capacity(1024);
    let mut connections = Slab::new();
    poll.registry().register(&mut listener, LISTENER, Interest::READABLE)?;
    loop {
        match poll.poll(&mut events, None) {
            Err(error) if error.kind() != ErrorKind::Interrupted => return Err(error),
            _ => {}
        }
        for event in &events {
            if event.token() == LISTENER {
                accept(&listener, &poll, &mut connections)?;
            } else {
                respond(event, &mut connections);
            }
        }
    }
}

fn accept(listener: &TcpListener, poll: &Poll, connections: &mut Slab<TcpStream>) -> io::Result<()> {
    loop {
        match listener.accept() {
            Ok((mut socket, _)) => {
                socket.set_nodelay(true)?;
                let free = connections.vacant_entry();
                poll.registry().register(&mut socket, Token(free.key()), Interest::READABLE)?;
                free.insert(socket);
            }
            Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
            Err(error) => return Err(error),
        }
    }
}

/// Reads until a read does not fill the buffer, so that no further read is needed to see that there is no more.
fn respond(event: &Event, connections: &mut Slab<TcpStream>) {
    let key = event.token().0;
    let mut received = [0; 4096];
    let stays = loop {
        let Some(socket) = connections.get_mut(key) else { return };
        match socket.read(&mut received) {
            Ok(0) => break false,
            Ok(n) if received[..n].ends_with(b"\r\n\r\n") && socket.write_all(RESPONSE).is_err() => {
                break false;
            }
            Ok(n) if n == received.len() => {}
            Ok(_) => break !event.is_read_closed(),
            Err(error) => break error.kind() == ErrorKind::WouldBlock,
        }
    };
    if !stays {
        // Closing the socket also removes it from the poller.
        connections.remove(key);
    }
}
