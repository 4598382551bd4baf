//! Connections that the application itself makes.

use std::future::poll_fn;
use std::io;
use std::net::TcpStream;
use std::os::unix::net::UnixStream;

use gearshift_core::{Endpoint, Stream};
use socket2::Socket;

use crate::handle::Handle;
use crate::slot::Direction;
use crate::transport::{Plain, ReactorTransport};

impl Handle {
    /// Connects to `to`, without blocking.
    ///
    /// # Errors
    /// Whatever the system says; for a Unix socket whose queue is full that is `WouldBlock`.
    pub async fn connect(self, to: Endpoint) -> io::Result<Stream> {
        let socket = match to {
            Endpoint::Tcp(address) => {
                let socket = Socket::from(TcpStream::from(mio::net::TcpStream::connect(address)?));
                socket.set_tcp_nodelay(true)?;
                socket
            }
            Endpoint::Unix(path) => Socket::from(UnixStream::from(mio::net::UnixStream::connect(path)?)),
        };
        // Registered only now, because a socket that does not connect yet counts as closed. What has happened until
        // then is reported first.
        let transport = ReactorTransport::with_readiness(&self, socket, 0)?;
        poll_fn(|cx| transport.poll_ready(Direction::Write, cx)).await?;
        match transport.socket().take_error()? {
            Some(error) => Err(error),
            None => Ok(Stream::new(Plain(transport))),
        }
    }
}
