//! The addresses and the listening sockets of a server.
//!
//! A server binds its sockets before its backend runs. The port that replaces port 0 is therefore known, and errors
//! are reported, before any thread starts.

use std::fmt;
use std::io;
use std::net::{SocketAddr, ToSocketAddrs};
use std::os::fd::{AsFd, BorrowedFd};
use std::path::PathBuf;
use std::str::FromStr;

use rustix::net::SocketFlags;
use socket2::{Domain, SockAddr, Socket, Type};

use crate::conn::context::Peer;
use crate::runtime::config::Config;
use crate::runtime::endpoint::Endpoint;
#[cfg(doc)]
use crate::server::accept::AcceptPause;
use crate::server::unix_socket::{self, SocketFile};

/// The address on which a server listens, as configured.
///
/// The text forms are `HOST:PORT`, `unix:PATH`, and `fd://N` for an inherited listening socket. Port 0 stands for a
/// free port.
///
/// ```
/// use gearshift_core::Bind;
///
/// assert_eq!("127.0.0.1:0".parse::<Bind>().unwrap(), Bind::Tcp("127.0.0.1:0".to_owned()));
/// assert_eq!("fd://3".parse::<Bind>().unwrap(), Bind::Fd(3));
/// assert!("127.0.0.1".parse::<Bind>().is_err());
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Bind {
    /// A host name or IP address, and a port: `HOST:PORT`.
    Tcp(String),
    /// The path of a Unix socket, which the server creates and removes. The server replaces a socket on which no process
    /// listens, and no other file. [`Config::unix_mode`], [`Config::unix_user`] and [`Config::unix_group`] are its
    /// permissions.
    Unix(PathBuf),
    /// The number of a file descriptor inherited from the parent process, on which it listens.
    Fd(u16),
}

impl FromStr for Bind {
    type Err = io::Error;

    fn from_str(text: &str) -> io::Result<Bind> {
        let invalid = |why: &str| io::Error::new(io::ErrorKind::InvalidInput, format!("{why}: '{text}'"));
        if let Some(path) = text.strip_prefix("unix:") {
            if path.is_empty() {
                return Err(invalid("no path after unix:"));
            }
            Ok(Bind::Unix(path.into()))
        } else if let Some(number) = text.strip_prefix("fd://") {
            number.parse().map(Bind::Fd).map_err(|_| invalid("not a file descriptor"))
        } else {
            match text.rsplit_once(':') {
                Some((host, port)) if !host.is_empty() && port.parse::<u16>().is_ok() => {
                    Ok(Bind::Tcp(text.into()))
                }
                _ => Err(invalid("not HOST:PORT, unix:PATH or fd://N")),
            }
        }
    }
}

impl fmt::Display for Bind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Bind::Tcp(address) => f.write_str(address),
            Bind::Unix(path) => write!(f, "unix:{}", path.display()),
            Bind::Fd(number) => write!(f, "fd://{number}"),
        }
    }
}

/// A non-blocking listening socket.
///
/// Accepted sockets are non-blocking and, on Linux, have `TCP_NODELAY` set.
#[derive(Debug)]
pub struct Listener {
    /// The first field, because the socket file has to be dropped before the socket.
    origin: Origin,
    socket: Socket,
    local: Endpoint,
    backlog: u16,
}

/// How a listening socket was made.
#[derive(Debug)]
enum Origin {
    /// The server has bound it to a TCP address, to which `sibling` binds more sockets with `SO_REUSEPORT`.
    Tcp,
    /// The server has created its socket file, which is removed when the listener is dropped.
    Unix { _file: SocketFile },
    /// It was inherited, or is a sibling of another listener.
    Other,
}

impl Listener {
    /// Binds a socket and listens. `config` has the backlog, and the permissions of a Unix socket. A host name is looked
    /// up, which blocks; the first of its addresses that can be bound is used.
    ///
    /// # Errors
    /// `AddrInUse` if a process listens on the address, including this one; `AlreadyExists` if the path of a Unix socket
    /// names a file that is not a socket; `InvalidInput` if an inherited descriptor does not listen; or another error of
    /// the operating system.
    pub fn bind(bind: &Bind, config: &Config) -> io::Result<Listener> {
        let backlog = config.backlog;
        match bind {
            Bind::Tcp(address) => bind_tcp(address, backlog),
            Bind::Unix(path) => {
                let (socket, file) = unix_socket::bind(path, config)?;
                Listener::new(socket, backlog, Origin::Unix { _file: file })
            }
            Bind::Fd(number) => inherit(*number, backlog),
        }
    }

    /// The address of the socket, with its actual port.
    pub fn local(&self) -> &Endpoint {
        &self.local
    }

    /// Creates listeners for `n` threads, at least 1: for each thread one listener for each address of `listeners`. The
    /// kernel distributes new connections among TCP listeners. Unix and inherited listeners share one queue.
    ///
    /// # Errors
    /// An error of the operating system.
    pub fn share(listeners: Vec<Listener>, n: usize) -> io::Result<Vec<Vec<Listener>>> {
        let mut shares = vec![listeners];
        for _ in 1..n {
            let siblings: io::Result<Vec<Listener>> = shares[0].iter().map(Listener::sibling).collect();
            shares.push(siblings?);
        }
        Ok(shares)
    }

    /// Accepts the next connection, with one system call. Returns its socket and the address of its peer.
    ///
    /// # Errors
    /// `WouldBlock` if no connection waits. [`AcceptPause`] handles other errors.
    pub fn accept(&self) -> io::Result<(Socket, Peer)> {
        let (fd, address) =
            rustix::net::acceptfrom_with(&self.socket, SocketFlags::NONBLOCK | SocketFlags::CLOEXEC)?;
        let peer = address.and_then(|address| SocketAddr::try_from(address).ok());
        Ok((Socket::from(fd), peer))
    }

    /// Creates a listener from a socket that listens.
    fn new(socket: Socket, backlog: u16, origin: Origin) -> io::Result<Listener> {
        let local = Endpoint::from_sockaddr(&socket.local_addr()?);
        Ok(Listener { origin, socket, local, backlog })
    }

    /// Creates one more listener for the same address.
    fn sibling(&self) -> io::Result<Listener> {
        let socket = match (&self.local, &self.origin) {
            (Endpoint::Tcp(address), Origin::Tcp) => {
                let socket = tcp_socket(*address)?;
                socket.set_reuse_port(true)?;
                socket.bind(&SockAddr::from(*address))?;
                socket.listen(self.backlog.into())?;
                socket
            }
            _ => self.socket.try_clone()?,
        };
        Listener::new(socket, self.backlog, Origin::Other)
    }
}

impl AsFd for Listener {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

/// Creates a TCP socket that is not bound.
fn tcp_socket(address: SocketAddr) -> io::Result<Socket> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, None)?;
    socket.set_nonblocking(true)?;
    socket.set_reuse_address(true)?;
    // On Linux, accepted sockets inherit the option, which saves a system call for each.
    socket.set_tcp_nodelay(true)?;
    if address.is_ipv6() {
        socket.set_only_v6(true)?;
    }
    Ok(socket)
}

/// Binds a TCP socket. It is bound without `SO_REUSEPORT`, so that binding a port in use fails. The option is set
/// afterwards, so that `Listener::sibling` can bind more sockets.
fn bind_tcp(address: &str, backlog: u16) -> io::Result<Listener> {
    let mut failure = io::Error::new(io::ErrorKind::NotFound, format!("{address} has no address"));
    for address in address.to_socket_addrs()? {
        let bound = tcp_socket(address).and_then(|socket| {
            socket.bind(&SockAddr::from(address))?;
            socket.set_reuse_port(true)?;
            socket.listen(backlog.into())?;
            Ok(socket)
        });
        match bound {
            Ok(socket) => return Listener::new(socket, backlog, Origin::Tcp),
            Err(error) => failure = error,
        }
    }
    Err(failure)
}

/// Duplicates an inherited descriptor by its number. Taking ownership of the number itself would need unsafe code.
fn inherit(number: u16, backlog: u16) -> io::Result<Listener> {
    use rustix::process::{PidfdFlags, PidfdGetfdFlags, getpid, pidfd_getfd, pidfd_open};
    let this = pidfd_open(getpid(), PidfdFlags::empty())?;
    let socket = Socket::from(pidfd_getfd(this, number.into(), PidfdGetfdFlags::empty())?);
    if !socket.is_listener()? {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, format!("fd://{number} does not listen")));
    }
    socket.set_nonblocking(true)?;
    Listener::new(socket, backlog, Origin::Other)
}
