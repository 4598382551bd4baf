//! The policy for failures of `accept`: pause, and refuse waiting connections if configured.

use std::fs::File;
use std::future::Future;
use std::io::{self, Read, Write};
use std::net::Shutdown;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use rustix::io::Errno;

use crate::conn::service::Service;
use crate::runtime::config::Overload;
use crate::runtime::handle::before;
use crate::server::listener::Listener;

/// The pause after a failure of [`Listener::accept`].
///
/// A server without free file descriptors or memory neither ends nor spins: it pauses accepting, each time for twice as
/// long or until a connection closes, and connections wait in the queue of the kernel. Under [`Overload::Refuse`],
/// waiting connections are refused one after the other with a file descriptor that was reserved for this purpose.
///
/// ```
/// use std::io;
/// use std::time::Duration;
///
/// use gearshift_core::{AcceptPause, Listener, Peer, Service};
///
/// /// Accepts a connection. The error is how long to wait before the next attempt; `None` is until the listener is
/// /// readable.
/// fn accept(
///     listener: &Listener,
///     service: &Service,
///     pause: &mut AcceptPause,
///     begin: fn(socket2::Socket, Peer),
/// ) -> Result<(), Option<Duration>> {
///     match listener.accept() {
///         Ok((socket, peer)) => {
///             pause.accepted();
///             begin(socket, peer);
///             Ok(())
///         }
///         Err(error) if error.kind() == io::ErrorKind::WouldBlock => Err(None),
///         Err(error) => Err(pause.failed(&error, listener, service)),
///     }
/// }
/// # let _ = accept;
/// ```
#[derive(Debug)]
pub struct AcceptPause {
    /// The length of the next pause.
    next: Duration,
    /// The reserved file descriptor.
    reserve: Option<File>,
}

impl AcceptPause {
    /// The first pause.
    pub const SHORTEST: Duration = Duration::from_millis(10);
    /// The longest pause.
    pub const LONGEST: Duration = Duration::from_secs(1);
    /// The time for which a server logs no pause after it has logged one. Each of its acceptors pauses separately, and
    /// soon again after each connection that closes.
    pub const LOG_PERIOD: Duration = Duration::from_secs(1);
    /// The largest number of connections refused in one pause.
    const REFUSALS: usize = 64;

    /// Creates a policy without failures. It reserves a file descriptor.
    pub fn new() -> AcceptPause {
        AcceptPause { next: AcceptPause::SHORTEST, reserve: reserve() }
    }

    /// Records that a connection was accepted: the next pause is the shortest.
    #[inline]
    pub fn accepted(&mut self) {
        self.next = AcceptPause::SHORTEST;
    }

    /// Returns the pause after `error`, a failure of [`Listener::accept`] other than `WouldBlock`. `None` means no
    /// pause: the peer has left, or a signal has interrupted the call.
    ///
    /// Without free file descriptors, and under [`Overload::Refuse`], the call also refuses waiting connections.
    pub fn failed(&mut self, error: &io::Error, listener: &Listener, service: &Service) -> Option<Duration> {
        use io::ErrorKind::{ConnectionAborted, ConnectionReset, Interrupted};
        if matches!(error.kind(), ConnectionAborted | ConnectionReset | Interrupted) {
            return None;
        }
        let pause = self.next;
        if service.may_log_pause(AcceptPause::LOG_PERIOD) {
            log::warn!("accepting pauses: {error}");
        }
        self.next = (pause * 2).min(AcceptPause::LONGEST);
        let exhausted = matches!(Errno::from_io_error(error), Some(Errno::MFILE | Errno::NFILE));
        if exhausted && service.config().overload == Overload::Refuse {
            self.refuse(listener, service);
        }
        Some(pause)
    }

    /// Waits until a pause is over: `timer` is ready, or fewer connections are open than `open`, which is their number
    /// before the attempt that failed. A connection that closes releases its file descriptor.
    pub fn over<T>(service: &Arc<Service>, open: usize, timer: T) -> impl Future<Output = ()> + Send + use<T>
    where
        T: Future<Output = ()> + Send,
    {
        let service = service.clone();
        async move {
            let closes = service.connections_until(|now| now < open);
            before(pin!(closes), timer).await;
        }
    }

    /// Refuses connections in the queue of the kernel, each on the reserved file descriptor. The connections are
    /// closed without lingering, so that a peer that is still sending may lose the response.
    fn refuse(&mut self, listener: &Listener, service: &Service) {
        for _ in 0..AcceptPause::REFUSALS {
            if self.reserve.take().is_none() {
                break;
            }
            let refused = listener.accept().and_then(|(mut socket, peer)| {
                // Closing a socket with unread input resets the connection, which destroys the response.
                let _ = socket.read(&mut [0; 4096]);
                socket.write_all(&service.refusal())?;
                socket.shutdown(Shutdown::Write)?;
                Ok(peer)
            });
            self.reserve = reserve();
            match refused {
                Ok(peer) => service.was_refused_with(peer),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                Err(_) => {}
            }
        }
        self.reserve = self.reserve.take().or_else(reserve);
    }
}

/// Opens a file whose descriptor can be given up.
fn reserve() -> Option<File> {
    File::open("/dev/null").ok()
}

impl Default for AcceptPause {
    fn default() -> AcceptPause {
        AcceptPause::new()
    }
}
