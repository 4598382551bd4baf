//! The address of a socket.

use std::fmt;
use std::net::SocketAddr;
use std::path::PathBuf;

use socket2::SockAddr;

/// Whether `text` has the form `HOST:PORT`. An IPv6 address is in brackets.
pub(crate) fn is_host_and_port(text: &str) -> bool {
    let is_name = |host: &str| !host.is_empty() && !host.contains(['[', ']', ':', '/', ' ']);
    let is_port = |(host, port): (&str, &str)| is_name(host) && port.parse::<u16>().is_ok();
    text.parse::<SocketAddr>().is_ok() || text.rsplit_once(':').is_some_and(is_port)
}

/// The address of a TCP or Unix socket.
///
/// ```
/// # extern crate gearshift_core as gearshift;
/// use gearshift::Endpoint;
///
/// let tcp = Endpoint::Tcp(([127, 0, 0, 1], 8000).into());
/// assert_eq!(tcp.to_string(), "http://127.0.0.1:8000");
/// assert_eq!(Endpoint::Unix("/run/app.sock".into()).to_string(), "unix:/run/app.sock");
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Endpoint {
    /// An IP address and a port.
    Tcp(SocketAddr),
    /// The path of a Unix socket.
    Unix(PathBuf),
}

impl Endpoint {
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
