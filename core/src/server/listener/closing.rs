//! The end of a listener: no connection that the kernel has established is lost.
//!
//! Closing a listening socket resets the connections in its queue, and those whose handshake is not complete. An
//! acceptor therefore ends in three steps: [`Listener::close_to_new`] makes the kernel begin no more connections, its
//! future waits for the handshakes under way, and then the acceptor empties the queue and drops the listener.
//!
//! | listener | no more connections begin | wait |
//! | --- | --- | --- |
//! | TCP | a socket filter drops `SYN` packets; the peer repeats a `SYN` after 1 s, which is then refused, or reaches the next server on the port | until no handshake is under way on the port, at most [`HANDSHAKES`] |
//! | Unix | the socket file is removed, then the receiving side is shut down: `connect` fails | none, because `connect` is one step |
//! | inherited | not changed, because other processes may accept from the socket | none |
//!
//! A process that has bound a socket and passes it on to others, as the supervisor of `--processes` does, closes it
//! to new connections with [`Listener::close_all_to_new`], before the others stop: each of them empties the queue.

use std::future::Future;
use std::net::{Shutdown, SocketAddr};
use std::thread;
use std::time::{Duration, Instant};

use crate::runtime::endpoint::Endpoint;
use crate::runtime::handle::Runtime;
use crate::server::listener::{Listener, Origin, handshakes};

/// Maximum time of the wait for handshakes. It is less than the second after which a peer repeats a `SYN`.
const HANDSHAKES: Duration = Duration::from_millis(500);
/// Time before the first look for handshakes. Each further pause is twice as long.
const FIRST_LOOK: Duration = Duration::from_millis(2);

impl Listener {
    /// Makes the kernel begin no more connections. Returns a future that is ready when no handshake is under way: the
    /// queue then holds all connections that there will be.
    ///
    /// On a system without socket filters the kernel still begins connections.
    pub fn close_to_new(&mut self, runtime: &Runtime) -> impl Future<Output = ()> + Send + use<> {
        let (listener, runtime) = (self.begin_no_more(), runtime.clone());
        async move {
            if let Some(listener) = listener {
                let _ = runtime.timeout(HANDSHAKES, no_handshake(&runtime, listener)).await;
            }
        }
    }

    /// Does the same with several listeners, on a thread that drives no connections, such as that of a process that has
    /// passed the sockets on to others. When this returns, the queues hold all connections that there will be.
    ///
    /// ```
    /// use gearshift_core::{Config, Listener};
    ///
    /// let mut listeners = Listener::bind(&["127.0.0.1:0".parse()?], &Config::default())?;
    /// Listener::close_all_to_new(&mut listeners);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn close_all_to_new(listeners: &mut [Listener]) {
        let mut waiting: Vec<_> = listeners.iter_mut().filter_map(Listener::begin_no_more).collect();
        let end = Instant::now() + HANDSHAKES;
        let mut pause = FIRST_LOOK;
        while !waiting.is_empty() && Instant::now() < end {
            thread::sleep(pause);
            waiting.retain(|listener| !matches!(handshakes::are_under_way(*listener), Ok(false)));
            pause = (2 * pause).min(end.saturating_duration_since(Instant::now()));
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

    /// Makes the kernel begin no more connections. Returns the address on which handshakes may be under way.
    fn begin_no_more(&mut self) -> Option<SocketAddr> {
        match (&self.local, &mut self.origin) {
            (Endpoint::Tcp(address), Origin::Tcp) => {
                handshakes::begin_no_more(&self.socket).ok().map(|()| *address)
            }
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

/// Waits until no handshake is under way. If the system does not tell, this waits without end.
async fn no_handshake(runtime: &Runtime, listener: SocketAddr) {
    let mut pause = FIRST_LOOK;
    loop {
        runtime.sleep(pause).await;
        if matches!(handshakes::are_under_way(listener), Ok(false)) {
            return;
        }
        pause *= 2;
    }
}

#[cfg(test)]
mod tests {
    use std::net::TcpStream;
    use std::os::unix::net::UnixStream;
    use std::path::PathBuf;
    use std::{fs, io};

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
        assert_eq!(listener.begin_no_more(), Some(address));
        // The system repeats the packet later than this.
        let late = TcpStream::connect_timeout(&address, Duration::from_millis(50));
        assert_eq!(late.unwrap_err().kind(), io::ErrorKind::TimedOut);
        let (_, peer) = listener.accept().unwrap();
        assert_eq!(peer, queued.local_addr().ok());
        assert!(would_block(&listener));
    }

    #[test]
    fn a_process_that_has_passed_its_listeners_on_closes_them_all() {
        let path = std::env::temp_dir().join(format!("gearshift-closing-{}-all", std::process::id()));
        let mut listeners = [listener(Bind::Tcp("127.0.0.1:0".into())), listener(Bind::Unix(path.clone()))];
        let Endpoint::Tcp(address) = listeners[0].local().clone() else { unreachable!("it is bound to TCP") };
        let _queued = (TcpStream::connect(address).unwrap(), UnixStream::connect(&path).unwrap());
        Listener::close_all_to_new(&mut listeners);
        let late = TcpStream::connect_timeout(&address, Duration::from_millis(50));
        assert_eq!(late.unwrap_err().kind(), io::ErrorKind::TimedOut);
        assert!(UnixStream::connect(&path).is_err());
        for listener in &listeners {
            listener.accept().unwrap();
            assert!(would_block(listener));
        }
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
}
