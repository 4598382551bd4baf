//! How a peer leaves, and one that takes little.

use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use rustix::net::sockopt;
use test_support::PATIENCE;

/// How a connection is closed.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Manner {
    /// With a reset, that tells of itself and takes the port with it.
    Reset,
    /// In order: the peer hears of the end of what is sent.
    Close,
}

/// Leaves.
pub(crate) fn leave(socket: TcpStream, manner: Manner) {
    if let Manner::Reset = manner {
        sockopt::set_socket_linger(&socket, Some(Duration::ZERO)).expect("a TCP socket lingers");
    }
    drop(socket);
}

/// Leaves with a reset.
pub(crate) fn reset(socket: TcpStream) {
    leave(socket, Manner::Reset);
}

/// A connection whose receiving side holds next to nothing, so that it is its reader who decides how much is sent.
pub(crate) fn connect_narrow(to: SocketAddr) -> TcpStream {
    let socket = TcpStream::connect_timeout(&to, PATIENCE).expect("the server listens");
    sockopt::set_socket_recv_buffer_size(&socket, 2048).expect("a TCP socket has a buffer");
    socket.set_read_timeout(Some(PATIENCE)).expect("a socket has timeouts");
    socket
}
