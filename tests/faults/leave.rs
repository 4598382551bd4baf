//! Peers that leave, and peers that receive little.

use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use rustix::net::sockopt;
use test_support::PATIENCE;

/// How a connection is closed.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Manner {
    /// With a reset, which the server notices at once and which leaves no socket in TIME-WAIT.
    Reset,
    /// In order: the server reads the end of the stream.
    Close,
}

/// Closes a connection.
pub(crate) fn leave(socket: TcpStream, manner: Manner) {
    if let Manner::Reset = manner {
        sockopt::set_socket_linger(&socket, Some(Duration::ZERO)).expect("a TCP socket lingers");
    }
    drop(socket);
}

/// Closes a connection with a reset.
pub(crate) fn reset(socket: TcpStream) {
    leave(socket, Manner::Reset);
}

/// Connects with a tiny receive buffer, so that the server can send little more than what the test reads.
pub(crate) fn connect_narrow(to: SocketAddr) -> TcpStream {
    let socket = TcpStream::connect_timeout(&to, PATIENCE).expect("the server listens");
    sockopt::set_socket_recv_buffer_size(&socket, 2048).expect("a TCP socket has a buffer");
    socket.set_read_timeout(Some(PATIENCE)).expect("a socket has a read timeout");
    socket
}
