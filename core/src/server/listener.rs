//! Addresses, and the listening sockets of a server: bound before any backend runs, so that port 0 works and
//! errors come before any thread.

use std::fmt;
use std::io;
use std::net::{SocketAddr, ToSocketAddrs};
use std::os::fd::{AsFd, BorrowedFd};
use std::path::PathBuf;
use std::str::FromStr;

use rustix::net::SocketFlags;
use socket2::{Domain, SockAddr, Socket, Type};

use crate::conn::context::Peer;
use crate::runtime::endpoint::Endpoint;
#[cfg(doc)]
use crate::server::accept::AcceptPause;

/// Where a server should listen: `HOST:PORT` (port 0 takes a free one), `unix:PATH`, or `fd://N` for a listening
/// socket that the process was started with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Bind {
    /// A host name or address, and a port.
    Tcp(String),
    /// A socket file, made by the server. A file left by a dead server is replaced, a living one is not.
    Unix(PathBuf),
    /// A file descriptor inherited from the parent process.
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

/// A listening socket, non-blocking.
///
/// Sockets accepted from it are non-blocking too, and send small writes at once (`TCP_NODELAY`).
#[derive(Debug)]
pub struct Listener {
    socket: Socket,
    local: Endpoint,
    backlog: u16,
    /// Whether others of our own may be bound to the same address.
    shares_port: bool,
    /// The file to remove when the listener is closed.
    _owned: Option<OwnedPath>,
}

impl Listener {
    /// Binds and listens.
    ///
    /// # Errors
    /// `AddrInUse` if anyone listens there, this program included, or whatever the system says.
    pub fn bind(bind: &Bind, backlog: u16) -> io::Result<Listener> {
        match bind {
            Bind::Tcp(address) => bind_tcp(address, backlog),
            Bind::Unix(path) => bind_unix(path, backlog),
            Bind::Fd(number) => inherit(*number, backlog),
        }
    }

    /// Where it listens.
    pub fn local(&self) -> &Endpoint {
        &self.local
    }

    /// This listener and `n - 1` more for the same address, among which the kernel spreads new connections; they
    /// share one queue where the kernel cannot.
    ///
    /// # Errors
    /// Whatever the system says.
    pub fn split(self, n: usize) -> io::Result<Vec<Listener>> {
        let mut all = vec![self];
        for _ in 1..n {
            let first = &all[0];
            let socket = match (&first.local, first.shares_port) {
                (Endpoint::Tcp(address), true) => {
                    let socket = tcp_socket(*address)?;
                    socket.set_reuse_port(true)?;
                    socket.bind(&SockAddr::from(*address))?;
                    socket.listen(first.backlog.into())?;
                    socket
                }
                _ => first.socket.try_clone()?,
            };
            let (local, backlog) = (first.local.clone(), first.backlog);
            all.push(Listener { socket, local, backlog, shares_port: false, _owned: None });
        }
        Ok(all)
    }

    /// A listener of each address for each of `n` threads, as [`Listener::split`] makes them.
    ///
    /// # Errors
    /// An error of the system.
    pub fn share(listeners: Vec<Listener>, n: usize) -> io::Result<Vec<Vec<Listener>>> {
        let mut shares: Vec<Vec<Listener>> = (0..n).map(|_| Vec::new()).collect();
        for listener in listeners {
            for (share, sibling) in shares.iter_mut().zip(listener.split(n)?) {
                share.push(sibling);
            }
        }
        Ok(shares)
    }

    /// Takes the next connection, with one system call.
    ///
    /// # Errors
    /// `WouldBlock` if there is none; what else can happen is for [`AcceptPause`] to judge.
    pub fn accept(&self) -> io::Result<(Socket, Peer)> {
        let (fd, address) =
            rustix::net::acceptfrom_with(&self.socket, SocketFlags::NONBLOCK | SocketFlags::CLOEXEC)?;
        let peer = address.and_then(|address| SocketAddr::try_from(address).ok());
        Ok((Socket::from(fd), peer))
    }
}

impl AsFd for Listener {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

fn tcp_socket(address: SocketAddr) -> io::Result<Socket> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, None)?;
    socket.set_nonblocking(true)?;
    socket.set_reuse_address(true)?;
    // Accepted sockets inherit this on Linux, which saves a system call for each.
    socket.set_tcp_nodelay(true)?;
    if address.is_ipv6() {
        socket.set_only_v6(true)?;
    }
    Ok(socket)
}

/// Binds without `SO_REUSEPORT`, so that a port on which anyone listens is refused, and sets it only then, so
/// that sockets for our own workers can join.
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
            Ok(socket) => {
                let local = Endpoint::from_sockaddr(&socket.local_addr()?);
                return Ok(Listener { socket, local, backlog, shares_port: true, _owned: None });
            }
            Err(error) => failure = error,
        }
    }
    Err(failure)
}

fn bind_unix(path: &PathBuf, backlog: u16) -> io::Result<Listener> {
    let address = SockAddr::unix(path)?;
    let socket = Socket::new(Domain::UNIX, Type::STREAM, None)?;
    socket.set_nonblocking(true)?;
    if let Err(error) = socket.bind(&address) {
        let alive = || Socket::new(Domain::UNIX, Type::STREAM, None)?.connect(&address);
        let is_dead_socket =
            matches!(alive(), Err(refused) if refused.kind() == io::ErrorKind::ConnectionRefused);
        if error.kind() != io::ErrorKind::AddrInUse || !is_dead_socket {
            return Err(error);
        }
        std::fs::remove_file(path)?;
        socket.bind(&address)?;
    }
    socket.listen(backlog.into())?;
    Ok(Listener {
        socket,
        local: Endpoint::Unix(path.clone()),
        backlog,
        shares_port: false,
        _owned: Some(OwnedPath(path.clone())),
    })
}

/// Duplicates a descriptor of this process by its number, which is safe where adopting it would not be.
fn inherit(number: u16, backlog: u16) -> io::Result<Listener> {
    use rustix::process::{PidfdFlags, PidfdGetfdFlags, getpid, pidfd_getfd, pidfd_open};
    let this = pidfd_open(getpid(), PidfdFlags::empty())?;
    let socket = Socket::from(pidfd_getfd(this, number.into(), PidfdGetfdFlags::empty())?);
    if !socket.is_listener()? {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, format!("fd://{number} does not listen")));
    }
    socket.set_nonblocking(true)?;
    let local = Endpoint::from_sockaddr(&socket.local_addr()?);
    Ok(Listener { socket, local, backlog, shares_port: false, _owned: None })
}

/// A socket file that goes away with its listener.
#[derive(Debug)]
struct OwnedPath(PathBuf);

impl Drop for OwnedPath {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.0);
    }
}
