//! The addresses and the listening sockets of a server.
//!
//! A server binds its sockets before its backend runs. The port that replaces port 0 is therefore known, and errors
//! are reported, before any thread starts.

mod closing;
mod handshakes;
mod keep_alive;

use std::fmt;
use std::io;
use std::net::{SocketAddr, ToSocketAddrs};
use std::os::fd::{AsFd, BorrowedFd, RawFd};
use std::path::PathBuf;
use std::str::FromStr;
use std::sync::Arc;

use rustix::io::Errno;
use rustix::net::SocketFlags;
use socket2::{Domain, SockAddr, Socket, Type};

use crate::conn::context::Peer;
use crate::runtime::config::Config;
use crate::runtime::endpoint::{Endpoint, is_host_and_port};
use crate::runtime::sync::{Mutex, lock};
#[cfg(doc)]
use crate::server::accept::AcceptPause;
use crate::server::backend::ServeError;
use crate::server::inherited;
use crate::server::unix_socket::{self, SocketFile};

/// The largest number of ports that are tried for an address with port 0 that has several IP addresses.
const PORT_ATTEMPTS: u32 = 16;

/// The address on which a server listens, as configured.
///
/// The text forms are `HOST:PORT`, `unix:PATH`, `fd://N` for an inherited listening socket, and `systemd` or
/// `systemd:NAME` for those that systemd passes on.
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
    ///
    /// The server listens on each address of a name. It passes over an address that the system does not have, such as
    /// one of IPv6 where that is off, unless there is no other. Port 0 stands for a free port, which is the same for
    /// all addresses of a name.
    ///
    /// The address `[::]` stands for all addresses of IPv6 and of IPv4, where the system allows that. It stands for
    /// those of IPv6 alone if the server also has an IPv4 address with the same port, such as `0.0.0.0`.
    Tcp(String),
    /// The path of a Unix socket, which the server creates and removes. The server replaces a socket on which no
    /// process listens, and no other file. [`Config::unix_mode`], [`Config::unix_user`] and [`Config::unix_group`] are
    /// its permissions.
    Unix(PathBuf),
    /// The number of an inherited file descriptor, on which the parent process listens. The server takes it over: it
    /// closes the number and keeps a duplicate that its own child processes do not inherit. A descriptor that this
    /// process has opened, with close-on-exec, stays open.
    Fd(u16),
    /// The listening sockets that systemd passes on (`LISTEN_FDS`), or the ones with this `FileDescriptorName=`. The
    /// server takes them over as that of [`Bind::Fd`]. The text form is `systemd` or `systemd:NAME`.
    Systemd(Option<String>),
}

impl FromStr for Bind {
    type Err = io::Error;

    fn from_str(text: &str) -> io::Result<Bind> {
        if text == "systemd" {
            return Ok(Bind::Systemd(None));
        }
        let why = if let Some(name) = text.strip_prefix("systemd:") {
            match name.is_empty() {
                true => "there is no name after systemd:".to_owned(),
                false => return Ok(Bind::Systemd(Some(name.to_owned()))),
            }
        } else if let Some(path) = text.strip_prefix("unix:") {
            match path.is_empty() {
                true => "there is no path after unix:".to_owned(),
                false => return Ok(Bind::Unix(path.into())),
            }
        } else if let Some(number) = text.strip_prefix("fd://") {
            match number.parse() {
                Ok(number) => return Ok(Bind::Fd(number)),
                Err(_) => format!("'{number}' is not the number of a file descriptor"),
            }
        } else {
            match text.rsplit_once(':') {
                Some(("fd", number)) if number.parse::<u16>().is_ok() => {
                    format!("'{text}' is written fd://{number}")
                }
                _ if is_host_and_port(text) => return Ok(Bind::Tcp(text.into())),
                Some((_, port)) if port.parse::<u64>().is_ok_and(|port| port > u16::MAX.into()) => {
                    format!("the port {port} is larger than {}", u16::MAX)
                }
                _ => format!("'{text}' is not HOST:PORT, unix:PATH, fd://N or systemd"),
            }
        };
        Err(io::Error::new(io::ErrorKind::InvalidInput, why))
    }
}

impl Bind {
    /// Whether systemd passes sockets on to this process.
    ///
    /// ```
    /// assert!(!gearshift_core::Bind::has_systemd(), "an example is no service");
    /// ```
    pub fn has_systemd() -> bool {
        inherited::of_systemd(None).is_ok()
    }

    /// The addresses of a name, without duplicates. Looking a name up blocks. Other sockets have none.
    fn addresses(&self) -> io::Result<Vec<SocketAddr>> {
        let mut addresses = Vec::new();
        if let Bind::Tcp(name) = self {
            for address in name.to_socket_addrs()? {
                if !addresses.contains(&address) {
                    addresses.push(address);
                }
            }
        }
        Ok(addresses)
    }
}

impl fmt::Display for Bind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Bind::Tcp(address) => f.write_str(address),
            Bind::Unix(path) => write!(f, "unix:{}", path.display()),
            Bind::Fd(number) => write!(f, "fd://{number}"),
            Bind::Systemd(None) => f.write_str("systemd"),
            Bind::Systemd(Some(name)) => write!(f, "systemd:{name}"),
        }
    }
}

/// A non-blocking listening socket.
///
/// Accepted sockets are non-blocking. On Linux, those of TCP have `TCP_NODELAY` set, and the keep-alive options of
/// [`Config::tcp_keepalive`].
///
/// ```
/// use gearshift_core::{Config, Listener};
///
/// let listeners = Listener::bind(&["127.0.0.1:0".parse()?], &Config::default())?;
/// println!("listening at {}", listeners[0].local());
/// // A listening socket does not block: no peer has connected.
/// assert!(listeners[0].accept().is_err());
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
pub struct Listener {
    /// The first field, because the socket file has to be dropped before the socket.
    origin: Origin,
    socket: Socket,
    local: Endpoint,
    backlog: u16,
    /// Of a listener that shares its socket with others of the server.
    siblings: Option<Arc<Siblings>>,
}

/// What the listeners with one queue call when one of them passes a connection on.
#[derive(Default)]
struct Siblings(Mutex<Vec<Box<dyn Fn() + Send + Sync>>>);

impl fmt::Debug for Siblings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Siblings")
    }
}

/// How a listening socket was made.
#[derive(Debug)]
enum Origin {
    /// The server has bound it to a TCP address, to which `sibling` binds more sockets with `SO_REUSEPORT`. No other
    /// process has the socket.
    Tcp,
    /// The server has created its socket file, which is removed before the socket refuses connections or is closed.
    Unix { file: Option<SocketFile> },
    /// It was inherited, or shares the socket of another listener.
    Other,
}

impl Listener {
    /// Binds sockets to all of `binds` and listens. `config` has the backlog, the keep-alive of TCP sockets, and the
    /// permissions of Unix sockets. Host names are looked up, which blocks.
    ///
    /// # Errors
    /// [`ServeError::Bind`] for the first address that cannot be bound. The kind of its source is `AddrInUse` if a
    /// process listens on the address, including this one; `AlreadyExists` if the path of a Unix socket names a file
    /// that is not a socket; `InvalidInput` if an inherited descriptor does not listen; `NotFound` if systemd passes no
    /// such socket on; or another error of the operating system.
    pub fn bind(binds: &[Bind], config: &Config) -> Result<Vec<Listener>, ServeError> {
        let failed = |bind: &Bind, source| ServeError::Bind { address: bind.to_string(), source };
        // All names are looked up first, because the meaning of one address depends on the others.
        let mut ports_of_ipv4 = Vec::new();
        let mut resolved = Vec::new();
        for bind in binds {
            let addresses = bind.addresses().map_err(|source| failed(bind, source))?;
            ports_of_ipv4.extend(addresses.iter().filter(|address| address.is_ipv4()).map(SocketAddr::port));
            resolved.push((bind, addresses));
        }
        let only_v6 = |address: SocketAddr| !is_dual_stack(address, &ports_of_ipv4);
        let mut listeners = Vec::new();
        for (bind, addresses) in resolved {
            let bound = match bind {
                Bind::Tcp(_) => bind_tcp(&addresses, only_v6, config.backlog),
                Bind::Unix(path) => unix_socket::bind(path, config).and_then(|(socket, file)| {
                    Ok(vec![Listener::new(socket, config.backlog, Origin::Unix { file: Some(file) })?])
                }),
                Bind::Fd(number) => Listener::inherit(&[(*number).into()], config),
                Bind::Systemd(name) => inherited::of_systemd(name.as_deref())
                    .and_then(|numbers| Listener::inherit(&numbers, config)),
            };
            for listener in bound.map_err(|source| failed(bind, source))? {
                if let Endpoint::Tcp(_) = listener.local {
                    keep_alive::set(&listener.socket, config.tcp_keepalive)
                        .map_err(|source| failed(bind, source))?;
                }
                listeners.push(listener);
            }
        }
        Ok(listeners)
    }

    /// The address of the socket, with its actual port.
    pub fn local(&self) -> &Endpoint {
        &self.local
    }

    /// Whether other listeners of the server take connections from the same queue: [`Listener::share`] has made
    /// several listeners of one Unix or inherited socket. A poller should wake one of the threads that wait for such a
    /// listener, and not all of them.
    pub fn is_shared(&self) -> bool {
        self.siblings.is_some()
    }

    /// Wakes the acceptors of the other listeners with the same queue, if there are any. An acceptor calls it when a
    /// connection waits that it cannot accept now: the poller has woken it alone, and one of the others may be able to
    /// accept earlier.
    pub fn pass_on(&self) {
        if let Some(siblings) = &self.siblings {
            lock(&siblings.0).iter().for_each(|wake| wake());
        }
    }

    /// Makes [`Listener::pass_on`] of every listener with the same queue call `wake`, also that of this one. A listener
    /// that is not shared drops `wake`.
    pub fn on_passed(&self, wake: impl Fn() + Send + Sync + 'static) {
        if let Some(siblings) = &self.siblings {
            lock(&siblings.0).push(Box::new(wake));
        }
    }

    /// Creates listeners for `n` threads, at least 1: for each thread one listener for each address of `listeners`. The
    /// kernel distributes new connections among TCP listeners. Unix and inherited listeners share one queue
    /// ([`Listener::is_shared`]).
    ///
    /// # Errors
    /// An error of the operating system.
    pub fn share(mut listeners: Vec<Listener>, n: usize) -> io::Result<Vec<Vec<Listener>>> {
        for listener in &mut listeners {
            let is_shared = n > 1 && !matches!(listener.origin, Origin::Tcp);
            listener.siblings = is_shared.then(Arc::default);
        }
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

    /// Takes over inherited sockets.
    fn inherit(numbers: &[RawFd], config: &Config) -> io::Result<Vec<Listener>> {
        let listener = |number: &RawFd| {
            Listener::new(inherited::listening_socket(*number)?, config.backlog, Origin::Other)
        };
        numbers.iter().map(listener).collect()
    }

    /// Creates a listener from a socket that listens.
    fn new(socket: Socket, backlog: u16, origin: Origin) -> io::Result<Listener> {
        let local = Endpoint::from_sockaddr(&socket.local_addr()?);
        Ok(Listener { origin, socket, local, backlog, siblings: None })
    }

    /// Creates one more listener for the same address.
    fn sibling(&self) -> io::Result<Listener> {
        match (&self.local, &self.origin) {
            (Endpoint::Tcp(address), Origin::Tcp) => {
                let only_v6 = address.is_ipv6() && self.socket.only_v6()?;
                let socket = tcp_socket(*address, only_v6)?;
                keep_alive::copy(&self.socket, &socket)?;
                socket.set_reuse_port(true)?;
                socket.bind(&SockAddr::from(*address))?;
                socket.listen(self.backlog.into())?;
                Listener::new(socket, self.backlog, Origin::Tcp)
            }
            _ => {
                let sibling = Listener::new(self.socket.try_clone()?, self.backlog, Origin::Other)?;
                Ok(Listener { siblings: self.siblings.clone(), ..sibling })
            }
        }
    }
}

impl AsFd for Listener {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

/// Creates a TCP socket that is not bound. `only_v6` is for a socket of IPv6: whether it refuses peers of IPv4.
fn tcp_socket(address: SocketAddr, only_v6: bool) -> io::Result<Socket> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, None)?;
    socket.set_nonblocking(true)?;
    socket.set_reuse_address(true)?;
    // On Linux, accepted sockets inherit the option, which saves a system call for each.
    socket.set_tcp_nodelay(true)?;
    if address.is_ipv6()
        && let Err(error) = socket.set_only_v6(only_v6)
        && only_v6
    {
        return Err(error);
    }
    Ok(socket)
}

/// Whether a socket that is bound to `address` accepts peers of IPv4 and of IPv6. `ports_of_ipv4` are those of the IPv4
/// addresses of the same server, which have their own sockets.
fn is_dual_stack(address: SocketAddr, ports_of_ipv4: &[u16]) -> bool {
    let is_taken = address.port() != 0 && ports_of_ipv4.contains(&address.port());
    address.is_ipv6() && address.ip().is_unspecified() && !is_taken
}

/// Binds a TCP socket to each address of a name. Port 0 stands for a port that is free at all of them.
fn bind_tcp(
    addresses: &[SocketAddr],
    only_v6: impl Fn(SocketAddr) -> bool,
    backlog: u16,
) -> io::Result<Vec<Listener>> {
    let mut attempts = 1..PORT_ATTEMPTS;
    loop {
        let bound = bind_each(addresses, &only_v6, backlog);
        let is_taken = |error: &io::Error| error.kind() == io::ErrorKind::AddrInUse;
        let is_chosen = addresses.iter().any(|address| address.port() == 0);
        if !(is_chosen && bound.as_ref().is_err_and(is_taken) && attempts.next().is_some()) {
            return bound;
        }
    }
}

/// Does the same for one choice of the port, which may be taken at the second address.
fn bind_each(
    addresses: &[SocketAddr],
    only_v6: impl Fn(SocketAddr) -> bool,
    backlog: u16,
) -> io::Result<Vec<Listener>> {
    let mut listeners: Vec<Listener> = Vec::new();
    let mut missing = Vec::new();
    for &(mut address) in addresses {
        if let (0, Some(Endpoint::Tcp(first))) = (address.port(), listeners.first().map(Listener::local)) {
            address.set_port(first.port());
        }
        match listen(address, only_v6(address), backlog) {
            Ok(socket) => listeners.push(Listener::new(socket, backlog, Origin::Tcp)?),
            Err(error) if is_missing(&error) => missing.push((address, error)),
            Err(error) => return Err(error),
        }
    }
    if listeners.is_empty() {
        let none = || io::Error::new(io::ErrorKind::NotFound, "the name has no address");
        return Err(missing.pop().map_or_else(none, |(_, error)| error));
    }
    for (address, error) in missing {
        log::warn!("not listening at {address}, an address that this system does not have: {error}");
    }
    Ok(listeners)
}

/// Whether the system does not have the address that was to be bound, or the family of the address.
fn is_missing(error: &io::Error) -> bool {
    matches!(Errno::from_io_error(error), Some(Errno::ADDRNOTAVAIL | Errno::AFNOSUPPORT))
}

/// Binds a TCP socket. It is bound without `SO_REUSEPORT`, so that binding a port in use fails. The option is set
/// afterwards, so that `Listener::sibling` can bind more sockets.
fn listen(address: SocketAddr, only_v6: bool, backlog: u16) -> io::Result<Socket> {
    let socket = tcp_socket(address, only_v6)?;
    socket.bind(&SockAddr::from(address))?;
    socket.set_reuse_port(true)?;
    socket.listen(backlog.into())?;
    Ok(socket)
}

#[cfg(test)]
mod tests {
    use std::net::{TcpListener, TcpStream};
    use std::os::fd::AsRawFd;
    use std::thread;
    use std::time::Duration;

    use super::*;

    fn address(text: &str) -> SocketAddr {
        text.parse().expect("an address")
    }

    fn bound(addresses: &[&str]) -> io::Result<Vec<SocketAddr>> {
        let addresses: Vec<_> = addresses.iter().map(|text| address(text)).collect();
        let listeners = bind_tcp(&addresses, |_| true, 16)?;
        let local = |listener: &Listener| {
            listener.socket.local_addr()?.as_socket().ok_or(io::ErrorKind::Other.into())
        };
        listeners.iter().map(local).collect()
    }

    #[test]
    fn the_text_of_an_address_is_checked_before_a_name_is_looked_up() {
        for text in ["localhost:80", "127.0.0.1:0", "[::1]:65535", "[fe80::1%2]:80", "a_name.example:1"] {
            assert_eq!(text.parse::<Bind>().ok(), Some(Bind::Tcp(text.into())));
        }
        for (text, why) in [
            ("", "'' is not HOST:PORT, unix:PATH, fd://N or systemd"),
            (":80", "':80' is not HOST:PORT, unix:PATH, fd://N or systemd"),
            ("[::1", "'[::1' is not HOST:PORT, unix:PATH, fd://N or systemd"),
            ("::1:80", "'::1:80' is not HOST:PORT, unix:PATH, fd://N or systemd"),
            ("[zz]:80", "'[zz]:80' is not HOST:PORT, unix:PATH, fd://N or systemd"),
            ("http://localhost:80", "'http://localhost:80' is not HOST:PORT, unix:PATH, fd://N or systemd"),
            ("localhost:65536", "the port 65536 is larger than 65535"),
            ("unix:", "there is no path after unix:"),
            ("fd:3", "'fd:3' is written fd://3"),
            ("fd:x", "'fd:x' is not HOST:PORT, unix:PATH, fd://N or systemd"),
            ("fd://x", "'x' is not the number of a file descriptor"),
        ] {
            let error = text.parse::<Bind>().expect_err(text);
            assert_eq!((error.kind(), error.to_string()), (io::ErrorKind::InvalidInput, why.to_owned()));
        }
    }

    #[test]
    fn all_addresses_of_a_name_have_the_same_port() {
        let addresses = bound(&["127.0.0.1:0", "127.0.0.2:0", "127.0.0.3:0"]).expect("a port is free");
        let port = addresses[0].port();
        assert_ne!(port, 0);
        let expected = [1, 2, 3].map(|last| address(&format!("127.0.0.{last}:{port}")));
        assert_eq!(addresses, expected);
    }

    #[test]
    fn an_address_in_use_is_an_error_beside_free_ones() {
        let taken = TcpListener::bind("127.0.0.2:0").expect("a free port");
        let port = taken.local_addr().expect("it is bound").port();
        let error = bound(&[&format!("127.0.0.1:{port}"), &format!("127.0.0.2:{port}")]);
        assert_eq!(error.expect_err("the second is taken").kind(), io::ErrorKind::AddrInUse);
    }

    #[test]
    fn an_address_of_another_system_is_passed_over_beside_others() {
        // This address is for documentation (RFC 5737).
        let addresses = bound(&["192.0.2.1:0", "127.0.0.1:0"]).expect("a port is free");
        assert_eq!(addresses.len(), 1, "{addresses:?}");
        let error = bound(&["192.0.2.1:0"]).expect_err("there is no other address");
        assert_eq!(error.kind(), io::ErrorKind::AddrNotAvailable);
        assert_eq!(bound(&[]).expect_err("there is no address").kind(), io::ErrorKind::NotFound);
    }

    /// The keep-alive options of a socket, if it has the keep-alive: the time before the first probe, the pause between
    /// two probes, and their number.
    fn keep_alive_of(socket: &Socket) -> io::Result<Option<(Duration, Duration, u32)>> {
        let options = || {
            let (idle, interval) = (socket.tcp_keepalive_time()?, socket.tcp_keepalive_interval()?);
            Ok((idle, interval, socket.tcp_keepalive_retries()?))
        };
        if socket.keepalive()? { options().map(Some) } else { Ok(None) }
    }

    /// Connects to a listener that has its port alone, and accepts the connection.
    fn accepted(listener: &Listener) -> Socket {
        let Endpoint::Tcp(address) = listener.local else { panic!("a listener for TCP") };
        let _peer = TcpStream::connect(address).expect("the listener listens");
        loop {
            match listener.accept() {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => thread::yield_now(),
                accepted => return accepted.expect("a connection waits").0,
            }
        }
    }

    #[test]
    fn accepted_sockets_have_the_keep_alive_of_the_settings() {
        const SECOND: Duration = Duration::from_secs(1);
        let mut config = Config::default();
        assert_eq!(config.tcp_keepalive, 60 * SECOND);
        for (setting, idle) in [
            (60 * SECOND, Some(60 * SECOND)),
            (Duration::from_millis(1), Some(SECOND)),
            (100_000 * SECOND, Some(32_767 * SECOND)),
            (Duration::MAX, None),
        ] {
            config.tcp_keepalive = setting;
            let expected = idle.map(|idle| (idle, keep_alive::INTERVAL, keep_alive::PROBES));
            let inherited = TcpListener::bind("127.0.0.1:0").expect("a free port");
            let number = inherited.as_raw_fd().try_into().expect("a small number");
            let binds = [Bind::Tcp("127.0.0.1:0".into()), Bind::Tcp("localhost:0".into()), Bind::Fd(number)];
            let listeners = Listener::bind(&binds, &config).expect("the ports are free");
            assert!(listeners.len() >= binds.len());
            for listener in &listeners {
                assert_eq!(keep_alive_of(&accepted(listener)).ok(), Some(expected), "{setting:?}");
            }
            for listener in Listener::share(listeners, 2).expect("it can be shared").iter().flatten() {
                assert_eq!(keep_alive_of(&listener.socket).ok(), Some(expected), "{setting:?}");
            }
        }
    }

    #[test]
    fn all_addresses_of_ipv6_include_those_of_ipv4_unless_these_have_a_socket() {
        for (text, ports_of_ipv4, expected) in [
            ("[::]:80", &[][..], true),
            ("[::]:80", &[8080][..], true),
            ("[::]:80", &[8080, 80][..], false),
            ("[::]:0", &[0][..], true),
            ("[::1]:80", &[][..], false),
            ("0.0.0.0:80", &[80][..], false),
        ] {
            assert_eq!(is_dual_stack(address(text), ports_of_ipv4), expected, "{text} {ports_of_ipv4:?}");
        }
    }
}
