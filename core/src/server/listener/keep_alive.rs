//! TCP keep-alive: the system probes a peer that sends nothing, so that a connection whose peer has vanished ends.
//!
//! The driver has a deadline for every wait for the peer but one: a streamed response whose next piece is pending waits
//! for the application and writes nothing. An upgraded connection has no deadline at all. Only a probe notices there
//! that the peer has vanished without a packet that closes the connection.
//!
//! On Linux, accepted sockets inherit the options of the listening socket, which saves a system call for each.

use std::io;
use std::time::Duration;

use socket2::{Socket, TcpKeepalive};

use crate::runtime::clock::MAX_WAIT;

/// The pause between two probes without an answer.
pub(super) const INTERVAL: Duration = Duration::from_secs(15);
/// The number of probes without an answer after which the connection ends.
pub(super) const PROBES: u32 = 4;
/// The range of the time without a packet that Linux accepts (`TCP_KEEPIDLE`).
const IDLE: [Duration; 2] = [Duration::from_secs(1), Duration::from_secs(32_767)];

/// Sets the options of a TCP socket. `idle` is the time without a packet before the first probe. With a time
/// of more than [`MAX_WAIT`], the system sends no probes.
///
/// # Errors
/// Errors of the system.
pub(super) fn set(socket: &Socket, idle: Duration) -> io::Result<()> {
    if idle > MAX_WAIT {
        return socket.set_keepalive(false);
    }
    let idle = idle.clamp(IDLE[0], IDLE[1]);
    let options = TcpKeepalive::new().with_time(idle).with_interval(INTERVAL).with_retries(PROBES);
    socket.set_tcp_keepalive(&options)
}

/// Sets the options of `from` for `to`, which is a new socket.
///
/// # Errors
/// Errors of the system.
pub(super) fn copy(from: &Socket, to: &Socket) -> io::Result<()> {
    match from.keepalive()? {
        true => set(to, from.tcp_keepalive_time()?),
        false => Ok(()),
    }
}
