//! The address of a socket.

use std::fmt;
use std::io;
use std::net::{SocketAddr, ToSocketAddrs};
use std::path::PathBuf;

use socket2::SockAddr;

/// The address of a TCP or Unix socket.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Endpoint {
    /// An IP address and a port.
    Tcp(SocketAddr),
    /// The path of a Unix socket.
    Unix(PathBuf),
}

impl Endpoint {
    /// Parses `IP:PORT` or `unix:PATH`. Returns `None` for other text, which may contain a host name.
    pub fn parse(text: &str) -> Option<Endpoint> {
        match text.strip_prefix("unix:") {
            Some(path) => Some(Endpoint::Unix(path.into())),
            None => text.parse().ok().map(Endpoint::Tcp),
        }
    }

    /// Parses `IP:PORT` or `unix:PATH`, or looks up the addresses of `HOST:PORT`. The lookup blocks the thread.
    ///
    /// # Errors
    /// `InvalidInput` if there is no port, or the error of the resolver.
    pub fn resolve(text: &str) -> io::Result<Vec<Endpoint>> {
        match Endpoint::parse(text) {
            Some(endpoint) => Ok(vec![endpoint]),
            None => Ok(text.to_socket_addrs()?.map(Endpoint::Tcp).collect()),
        }
    }

    /// The address as a [`SockAddr`].
    ///
    /// # Errors
    /// `InvalidInput` if the path is too long for a Unix socket.
    pub fn to_sockaddr(&self) -> io::Result<SockAddr> {
        match self {
            Endpoint::Tcp(address) => Ok(SockAddr::from(*address)),
            Endpoint::Unix(path) => SockAddr::unix(path),
        }
    }

    /// The endpoint of `address`. A Unix socket without a path has an empty path.
    pub(crate) fn from_sockaddr(address: &SockAddr) -> Endpoint {
        match address.as_socket() {
            Some(address) => Endpoint::Tcp(address),
            None => Endpoint::Unix(address.as_pathname().map(PathBuf::from).unwrap_or_default()),
        }
    }
}

/// Formats a TCP address as a URL, `http://IP:PORT`, and a Unix socket as `unix:PATH`.
impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Endpoint::Tcp(address) => write!(f, "http://{address}"),
            Endpoint::Unix(path) => write!(f, "unix:{}", path.display()),
        }
    }
}
