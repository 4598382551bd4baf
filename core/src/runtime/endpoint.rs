//! The address of one socket.

use std::fmt;
use std::io;
use std::net::{SocketAddr, ToSocketAddrs};
use std::path::PathBuf;

use socket2::SockAddr;

/// Where one socket is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Endpoint {
    /// An IP address and a port.
    Tcp(SocketAddr),
    /// A socket file.
    Unix(PathBuf),
}

impl Endpoint {
    /// Reads `IP:PORT` or `unix:PATH`; `None` if it is neither, so that it may be a name to look up.
    pub fn parse(text: &str) -> Option<Endpoint> {
        match text.strip_prefix("unix:") {
            Some(path) => Some(Endpoint::Unix(path.into())),
            None => text.parse().ok().map(Endpoint::Tcp),
        }
    }

    /// Looks up `HOST:PORT`. This blocks.
    ///
    /// # Errors
    /// `InvalidInput` if there is no port, or whatever the resolver says.
    pub fn resolve(text: &str) -> io::Result<Vec<Endpoint>> {
        match Endpoint::parse(text) {
            Some(endpoint) => Ok(vec![endpoint]),
            None => Ok(text.to_socket_addrs()?.map(Endpoint::Tcp).collect()),
        }
    }

    /// The same address as sockets take it.
    ///
    /// # Errors
    /// `InvalidInput` if a path is too long for a socket.
    pub fn to_sockaddr(&self) -> io::Result<SockAddr> {
        match self {
            Endpoint::Tcp(address) => Ok(SockAddr::from(*address)),
            Endpoint::Unix(path) => SockAddr::unix(path),
        }
    }

    pub(crate) fn from_sockaddr(address: &SockAddr) -> Endpoint {
        match address.as_socket() {
            Some(address) => Endpoint::Tcp(address),
            None => Endpoint::Unix(address.as_pathname().map(PathBuf::from).unwrap_or_default()),
        }
    }
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Endpoint::Tcp(address) => write!(f, "http://{address}"),
            Endpoint::Unix(path) => write!(f, "unix:{}", path.display()),
        }
    }
}
