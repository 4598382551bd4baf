//! The end of a listener: no connection that the kernel has established is lost.
//!
//! Closing a listening socket resets the connections in its queue, and those whose handshake is not complete. An
//! acceptor therefore ends in three steps: [`Listener::close_to_new`] makes the kernel begin no more connections, its
//! future waits for the handshakes under way, and then the acceptor empties the queue and drops the listener.
//!
//! | listener | no more connections begin | wait |
//! | --- | --- | --- |
//! | TCP | a socket filter drops `SYN` packets; the peer repeats a `SYN` after 1 s, which is then refused, or reaches the next server on the port | until the system lists no handshake on the port, at most [`HANDSHAKES`] |
//! | Unix | the socket file is removed, then the receiving side is shut down: `connect` fails | none, because `connect` is one step |
//! | inherited | not changed, because other processes may accept from the socket | none |

use std::fs::File;
use std::future::Future;
use std::io::{self, BufRead, BufReader};
use std::net::Shutdown;
use std::time::Duration;

use socket2::Socket;

use super::{Listener, Origin};
use crate::runtime::endpoint::Endpoint;
use crate::runtime::handle::Runtime;

/// Maximum time of the wait for handshakes. It is less than the second after which a peer repeats a `SYN`.
const HANDSHAKES: Duration = Duration::from_millis(500);
/// Time before the first look for handshakes. Each further pause is twice as long.
const FIRST_LOOK: Duration = Duration::from_millis(2);
/// The tables of the system with all TCP sockets, see proc(5).
const SOCKETS: [&str; 2] = ["/proc/net/tcp", "/proc/net/tcp6"];
/// The state of a handshake in these tables.
const SYN_RECEIVED: &str = "03";

impl Listener {
    /// Makes the kernel begin no more connections. Returns a future that is ready when no handshake is under way: the
    /// queue then holds all connections that there will be.
    ///
    /// On a system without socket filters the kernel still begins connections.
    pub fn close_to_new(&mut self, runtime: &Runtime) -> impl Future<Output = ()> + Send + use<> {
        let (port, runtime) = (self.begin_no_more(), runtime.clone());
        async move {
            if let Some(port) = port {
                let _ = runtime.timeout(HANDSHAKES, no_handshake(&runtime, port)).await;
            }
        }
    }

    /// Makes the kernel begin no more connections, and closes those in the queue. Returns their number. The queue of an
    /// inherited socket is left to the other processes that have the socket.
    pub(crate) fn discard(mut self) -> u64 {
        self.begin_no_more();
        let mut discarded = 0;
        while !matches!(self.origin, Origin::Other) && self.accept().is_ok() {
            discarded += 1;
        }
        discarded
    }

    /// Makes the kernel begin no more connections. Returns the port on which handshakes may be under way.
    fn begin_no_more(&mut self) -> Option<u16> {
        match (&self.local, &mut self.origin) {
            (Endpoint::Tcp(address), Origin::Tcp) => drop_syn(&self.socket).ok().map(|()| address.port()),
            (_, Origin::Unix { file }) => {
                drop(file.take());
                // The call can only fail for a socket that does not listen.
                let _ = self.socket.shutdown(Shutdown::Read);
                None
            }
            _ => None,
        }
    }
}

/// Waits until the system lists no handshake on `port`.
async fn no_handshake(runtime: &Runtime, port: u16) {
    let mut pause = FIRST_LOOK;
    loop {
        runtime.sleep(pause).await;
        // The tables of a large server are long, so they are not read on the thread of an event loop.
        if !runtime.blocking(move || has_handshakes(port)).await {
            return;
        }
        pause *= 2;
    }
}

/// Whether a handshake is under way on `port`. True if the system does not tell.
fn has_handshakes(port: u16) -> bool {
    SOCKETS.iter().any(|table| match File::open(table) {
        Ok(table) => has_handshake(BufReader::new(table), port).unwrap_or(true),
        // A system without IPv6 has no table of it.
        Err(error) => error.kind() != io::ErrorKind::NotFound || *table == SOCKETS[0],
    })
}

/// Whether a table of sockets has a handshake on the local `port`.
fn has_handshake(mut table: impl BufRead, port: u16) -> io::Result<bool> {
    let port = format!(":{port:04X}");
    let mut line = String::new();
    while table.read_line(&mut line)? > 0 {
        let mut columns = line.split_ascii_whitespace().skip(1);
        let (local, state) = (columns.next(), columns.nth(1));
        if state == Some(SYN_RECEIVED) && local.is_some_and(|local| local.ends_with(&port)) {
            return Ok(true);
        }
        line.clear();
    }
    Ok(false)
}

/// Makes a listening socket drop the packets that begin a connection, and no others.
#[cfg(target_os = "linux")]
fn drop_syn(socket: &Socket) -> io::Result<()> {
    use socket2::SockFilter;
    /// Loads the byte at an offset from the start of the TCP header: `BPF_LD | BPF_B | BPF_ABS`.
    const LOAD_BYTE: u16 = 0x30;
    /// `BPF_ALU | BPF_AND | BPF_K`.
    const AND: u16 = 0x54;
    /// `BPF_JMP | BPF_JEQ | BPF_K`.
    const JUMP_IF_EQUAL: u16 = 0x15;
    /// `BPF_RET | BPF_K`: the number of bytes of the packet to keep.
    const RETURN: u16 = 0x06;
    /// The place of the flags in a TCP header, and two of the flags (RFC 9293, 3.1).
    const FLAGS: u32 = 13;
    const SYN: u32 = 0x02;
    const ACK: u32 = 0x10;
    socket.attach_filter(&[
        SockFilter::new(LOAD_BYTE, 0, 0, FLAGS),
        SockFilter::new(AND, 0, 0, SYN | ACK),
        SockFilter::new(JUMP_IF_EQUAL, 0, 1, SYN),
        SockFilter::new(RETURN, 0, 0, 0),
        SockFilter::new(RETURN, 0, 0, u32::MAX),
    ])
}

/// There are no socket filters.
#[cfg(not(target_os = "linux"))]
fn drop_syn(_: &Socket) -> io::Result<()> {
    Err(io::ErrorKind::Unsupported.into())
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::net::TcpStream;
    use std::os::unix::net::UnixStream;
    use std::path::PathBuf;

    use super::*;
    use crate::runtime::config::Config;
    use crate::server::listener::Bind;

    fn listener(bind: Bind) -> Listener {
        Listener::bind(&[bind], &Config::default()).unwrap().pop().unwrap()
    }

    fn would_block(listener: &Listener) -> bool {
        matches!(listener.accept(), Err(error) if error.kind() == io::ErrorKind::WouldBlock)
    }

    #[test]
    fn a_tcp_listener_that_is_closed_to_new_connections_keeps_its_queue() {
        let mut listener = listener(Bind::Tcp("127.0.0.1:0".into()));
        let Endpoint::Tcp(address) = listener.local().clone() else { unreachable!("it is bound to TCP") };
        let queued = TcpStream::connect(address).unwrap();
        assert_eq!(listener.begin_no_more(), Some(address.port()));
        // The system repeats the packet later than this.
        let late = TcpStream::connect_timeout(&address, Duration::from_millis(50));
        assert_eq!(late.unwrap_err().kind(), io::ErrorKind::TimedOut);
        let (_, peer) = listener.accept().unwrap();
        assert_eq!(peer, queued.local_addr().ok());
        assert!(would_block(&listener));
    }

    #[test]
    fn a_unix_listener_that_is_closed_to_new_connections_keeps_its_queue() {
        let path = |suffix| -> PathBuf {
            std::env::temp_dir().join(format!("gearshift-closing-{}{suffix}", std::process::id()))
        };
        let (path, other) = (path(""), path("-link"));
        let mut listener = listener(Bind::Unix(path.clone()));
        fs::hard_link(&path, &other).unwrap();
        let queued = UnixStream::connect(&path).unwrap();
        assert_eq!(listener.begin_no_more(), None);
        // A peer may have found the socket by its file before the file was removed.
        let late = UnixStream::connect(&other).map(drop).map_err(|error| error.kind());
        fs::remove_file(other).unwrap();
        assert_eq!(late, Err(io::ErrorKind::ConnectionRefused));
        assert!(!path.exists());
        listener.accept().unwrap();
        assert!(would_block(&listener));
        drop(queued);
    }

    #[test]
    fn the_connections_in_the_queue_are_discarded_unless_another_process_may_accept_them() {
        let mut listener = listener(Bind::Tcp("127.0.0.1:0".into()));
        let Endpoint::Tcp(address) = listener.local().clone() else { unreachable!("it is bound to TCP") };
        let _queued: Vec<_> = (0..3).map(|_| TcpStream::connect(address).unwrap()).collect();
        listener.origin = Origin::Other;
        let shared = Listener::new(listener.socket.try_clone().unwrap(), 1, Origin::Tcp).unwrap();
        assert_eq!(listener.discard(), 0);
        assert_eq!(shared.discard(), 3);
    }

    const TABLE: &str = "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode
   0: 0100007F:1F90 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 17112 1 ff 100 0 0 10 0
   1: 0100007F:1F90 0100007F:C350 03 00000000:00000000 01:00000063 00000000     0        0 0 1 ff
   2: 0100007F:1F91 0100007F:C351 01 00000000:00000000 00:00000000 00000000     0        0 17113 1 ff 20 4 30 10 -1
";

    #[test]
    fn a_handshake_is_found_by_the_port_of_the_server() {
        for (port, is_found) in [(0x1f90, true), (0x1f91, false), (0xc350, false), (0, false)] {
            assert_eq!(has_handshake(TABLE.as_bytes(), port).unwrap(), is_found, "{port}");
        }
    }
}
