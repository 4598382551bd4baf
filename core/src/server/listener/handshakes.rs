//! The handshakes of a TCP listener, which Linux makes before a connection joins the queue: it can be told to begin no
//! more of them, and asked whether one is under way.

use std::io;
use std::net::SocketAddr;

use socket2::Socket;

/// Makes a listening socket drop the packets that begin a connection, and no others.
///
/// # Errors
/// The system has no socket filters.
#[cfg(target_os = "linux")]
pub(super) fn begin_no_more(socket: &Socket) -> io::Result<()> {
    keep(socket, 0, u32::MAX)
}

/// Sets how many bytes of a packet a listening socket keeps: of one that begins a connection, and of each other one.
#[cfg(target_os = "linux")]
fn keep(socket: &Socket, of_first: u32, of_others: u32) -> io::Result<()> {
    use socket2::SockFilter;
    /// `BPF_LD | BPF_B | BPF_ABS`: loads the byte at this offset from the start of the TCP header.
    const LOAD_BYTE: u16 = 0x30;
    /// `BPF_ALU | BPF_AND | BPF_K`.
    const AND: u16 = 0x54;
    /// `BPF_JMP | BPF_JEQ | BPF_K`.
    const JUMP_IF_EQUAL: u16 = 0x15;
    /// `BPF_RET | BPF_K`.
    const RETURN: u16 = 0x06;
    /// The place of the flags in a TCP header, and two of the flags (RFC 9293, 3.1).
    const FLAGS: u32 = 13;
    const SYN: u32 = 0x02;
    const ACK: u32 = 0x10;
    socket.attach_filter(&[
        SockFilter::new(LOAD_BYTE, 0, 0, FLAGS),
        SockFilter::new(AND, 0, 0, SYN | ACK),
        SockFilter::new(JUMP_IF_EQUAL, 0, 1, SYN),
        SockFilter::new(RETURN, 0, 0, of_first),
        SockFilter::new(RETURN, 0, 0, of_others),
    ])
}

/// Whether a handshake is under way on the port of a listener. The system looks at all of its TCP sockets, which takes
/// about a millisecond.
///
/// # Errors
/// The system does not tell.
#[cfg(target_os = "linux")]
pub(super) fn are_under_way(listener: SocketAddr) -> io::Result<bool> {
    use rustix::net::{AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType, ipproto, netlink};
    /// The types of messages, see netlink(7) and sock_diag(7).
    const SOCK_DIAG_BY_FAMILY: u16 = 20;
    const DONE: u16 = 3;
    /// `NLM_F_REQUEST | NLM_F_DUMP`: all sockets that the request describes.
    const DUMP: u16 = 0x301;
    /// The state `TCP_SYN_RECV`.
    const SYN_RECEIVED: u32 = 3;
    const HEADER: usize = 16;
    const REQUEST: usize = 72;

    let family = if listener.is_ipv4() { AddressFamily::INET } else { AddressFamily::INET6 };
    // The structures `nlmsghdr` and `inet_diag_req_v2`. Fields that are 0 restrict nothing.
    let mut request = [0; REQUEST];
    let mut set = |at: usize, value: &[u8]| request[at..at + value.len()].copy_from_slice(value);
    set(0, &(REQUEST as u32).to_ne_bytes());
    set(4, &SOCK_DIAG_BY_FAMILY.to_ne_bytes());
    set(6, &DUMP.to_ne_bytes());
    set(HEADER, &[family.as_raw() as u8, ipproto::TCP.as_raw().get() as u8]);
    set(HEADER + 4, &(1_u32 << SYN_RECEIVED).to_ne_bytes());
    set(HEADER + 8, &listener.port().to_be_bytes());

    let protocol = Some(netlink::SOCK_DIAG);
    let netlink =
        rustix::net::socket_with(AddressFamily::NETLINK, SocketType::DGRAM, SocketFlags::CLOEXEC, protocol)?;
    rustix::net::send(&netlink, &request, SendFlags::empty())?;
    // The type of the first message tells whether there is a socket. The answer is there when the request was sent.
    let mut header = [0; HEADER];
    rustix::net::recv(&netlink, &mut header, RecvFlags::DONTWAIT)?;
    match u16::from_ne_bytes([header[4], header[5]]) {
        SOCK_DIAG_BY_FAMILY => Ok(true),
        DONE => Ok(false),
        _ => Err(io::ErrorKind::Unsupported.into()),
    }
}

#[cfg(not(target_os = "linux"))]
pub(super) fn begin_no_more(_: &Socket) -> io::Result<()> {
    Err(io::ErrorKind::Unsupported.into())
}

#[cfg(not(target_os = "linux"))]
pub(super) fn are_under_way(_: SocketAddr) -> io::Result<bool> {
    Err(io::ErrorKind::Unsupported.into())
}

#[cfg(test)]
#[cfg(target_os = "linux")]
mod tests {
    use std::io::{Read, Write};
    use std::net::{TcpListener, TcpStream};
    use std::time::Duration;

    use super::*;

    #[test]
    fn a_handshake_under_way_becomes_complete() {
        for address in ["127.0.0.1:0", "[::1]:0"] {
            // A machine may have no IPv6.
            let Ok(listener) = TcpListener::bind(address) else { continue };
            let address = listener.local_addr().unwrap();
            assert!(!are_under_way(address).unwrap(), "{address}");
            let socket = Socket::from(listener.try_clone().unwrap());
            // Without the last packet of the handshake, only the peer is connected.
            keep(&socket, u32::MAX, 0).unwrap();
            let mut peer = TcpStream::connect(address).unwrap();
            assert!(are_under_way(address).unwrap(), "{address}");
            begin_no_more(&socket).unwrap();
            peer.write_all(b"hello").unwrap();
            let (mut accepted, _) = listener.accept().unwrap();
            accepted.read_exact(&mut [0; 5]).unwrap();
            assert!(!are_under_way(address).unwrap(), "{address}");
        }
    }

    #[test]
    fn a_listener_begins_no_more_connections_on_either_family() {
        let Ok(listener) = TcpListener::bind("[::]:0") else { return };
        let port = listener.local_addr().unwrap().port();
        let queued = ["127.0.0.1", "::1"].map(|host| TcpStream::connect((host, port)).unwrap());
        begin_no_more(&Socket::from(listener.try_clone().unwrap())).unwrap();
        for host in ["127.0.0.1", "::1"] {
            let address = SocketAddr::new(host.parse().unwrap(), port);
            // The system repeats the packet later than this.
            let late = TcpStream::connect_timeout(&address, Duration::from_millis(50));
            assert_eq!(late.unwrap_err().kind(), io::ErrorKind::TimedOut);
        }
        queued.iter().for_each(|_| _ = listener.accept().unwrap());
    }
}
