//! The acceptor: a task for each listener, which spawns a task for each connection.

use std::future::Future;
use std::io;
use std::os::fd::AsFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use futures_lite::future;
use gearshift_core::{AcceptPause, Endpoint, Latch, Listener, Peer, Phase, Service, drive, latch};
use tokio::net::{TcpListener, UnixListener};
use tokio::runtime::Handle;

use crate::socket::TokioSocket;
use crate::transport::TokioTransport;

/// One of several runtimes that get the connections of an acceptor.
#[derive(Clone)]
pub(crate) struct Target {
    pub(crate) handle: Handle,
    pub(crate) load: Load,
}

/// The connections that wait for a runtime, and one if its thread is busy.
#[derive(Clone, Default)]
pub(crate) struct Load(Arc<AtomicUsize>);

impl Load {
    pub(crate) fn add(&self) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn remove(&self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }

    fn get(&self) -> usize {
        self.0.load(Ordering::Relaxed)
    }
}

/// A future that accepts from `listener` until the server stops, and holds a guard of `accepting` until then. It spawns
/// a task for each connection: on the least loaded of `targets`, or on the current runtime if there is none. The
/// listener is registered with the current runtime.
///
/// # Errors
/// The reactor refuses the socket.
pub(crate) fn accept(
    listener: Listener,
    targets: Vec<Target>,
    service: &Arc<Service>,
    accepting: &Latch,
) -> io::Result<impl Future<Output = ()> + Send + use<>> {
    let (socket, service) = (ListenerSocket::of(&listener)?, service.clone());
    Ok(Acceptor { listener, socket, targets, next: 0, service, _accepting: accepting.guard() }.run())
}

/// A listener, registered with the reactor of a runtime.
struct Acceptor {
    listener: Listener,
    socket: ListenerSocket,
    /// The other runtimes that drive the connections.
    targets: Vec<Target>,
    /// The index of the target that gets the next connection, if all have the same load.
    next: usize,
    service: Arc<Service>,
    _accepting: latch::Guard,
}

impl Acceptor {
    /// Accepts connections until a stop is requested. Then accepts the connections that the kernel has begun, because
    /// their peers are connected or about to be, and closes the listener.
    async fn run(mut self) {
        let (service, mut pause) = (self.service.clone(), AcceptPause::new());
        let shutdown = service.shutdown();
        future::or(shutdown.reached(Phase::Graceful), self.accept_with_room(&mut pause)).await;
        let handshakes = self.listener.close_to_new(self.service.runtime());
        let is_complete = future::or(handshakes, shutdown.reached(Phase::Forced));
        future::or(is_complete, self.accept_all(&mut pause)).await;
        // `Listener::accept` calls the kernel directly, because the reactor may not know the newest connections yet.
        while shutdown.phase() == Phase::Graceful {
            // Before the attempt: a connection that closes after it releases the descriptor for the next attempt.
            let open = self.service.connections();
            match self.listener.accept() {
                Ok((socket, peer)) => {
                    pause.accepted();
                    self.serve(TokioSocket::accepted(socket, peer), peer);
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return,
                Err(error) => match pause.failed(&error, &self.listener, &self.service) {
                    // Descriptors become free only when open connections close, and there was none.
                    Some(_) if open == 0 => return,
                    Some(pause) => self.pause(pause, open).await,
                    None => {}
                },
            }
            tokio::task::yield_now().await;
        }
    }

    /// Accepts connections while there is room for them.
    async fn accept_with_room(&mut self, pause: &mut AcceptPause) {
        loop {
            if !self.service.has_room() {
                self.service.connections_until(|_| self.service.has_room()).await;
            }
            self.accept_next(pause).await;
        }
    }

    /// Accepts all connections.
    async fn accept_all(&mut self, pause: &mut AcceptPause) {
        loop {
            self.accept_next(pause).await;
        }
    }

    /// Accepts a connection, or pauses after a failure.
    async fn accept_next(&mut self, pause: &mut AcceptPause) {
        // Of the last attempt, before it: a connection that closes after it releases the descriptor for the next.
        let mut open = 0;
        let accepted = future::poll_fn(|cx| {
            open = self.service.connections();
            self.socket.poll_accept(cx)
        });
        match accepted.await {
            Ok((socket, peer)) => {
                pause.accepted();
                self.serve(Ok(socket), peer);
            }
            Err(error) => {
                if let Some(pause) = pause.failed(&error, &self.listener, &self.service) {
                    self.pause(pause, open).await;
                }
            }
        }
    }

    /// Waits until a pause is over. `open` connections were open before the attempt that failed.
    async fn pause(&self, pause: Duration, open: usize) {
        AcceptPause::over(&self.service, open, tokio::time::sleep(pause)).await;
    }

    /// Spawns the task of a connection.
    fn serve(&mut self, socket: io::Result<TokioSocket>, peer: Peer) {
        let Some(target) = self.least_loaded() else {
            return match socket {
                Ok(socket) => drop(tokio::spawn(drive(TokioTransport::new(socket), peer, &self.service))),
                Err(error) => refused(&error),
            };
        };
        let _entered = target.handle.enter();
        match socket.and_then(TokioSocket::register_again) {
            Ok(socket) => {
                let driving = drive(TokioTransport::new(socket), peer, &self.service);
                target.load.add();
                tokio::spawn(async move {
                    target.load.remove();
                    driving.await;
                });
            }
            Err(error) => refused(&error),
        }
    }

    /// The target with the least load. Of several, the first one after the target that was returned last.
    fn least_loaded(&mut self) -> Option<Target> {
        let n = self.targets.len();
        let in_turn = (self.next..self.next + n).map(|index| index % n);
        let index = in_turn.min_by_key(|&index| self.targets[index].load.get())?;
        self.next = index + 1;
        Some(self.targets[index].clone())
    }
}

fn refused(error: &io::Error) {
    log::warn!("a connection was refused by the reactor: {error}");
}

/// The socket of a [`Listener`], registered with tokio under a separate descriptor.
enum ListenerSocket {
    Tcp(TcpListener),
    Unix(UnixListener),
}

impl ListenerSocket {
    fn of(listener: &Listener) -> io::Result<ListenerSocket> {
        let socket = listener.as_fd().try_clone_to_owned()?;
        match listener.local() {
            Endpoint::Tcp(_) => TcpListener::from_std(socket.into()).map(ListenerSocket::Tcp),
            Endpoint::Unix(_) => UnixListener::from_std(socket.into()).map(ListenerSocket::Unix),
        }
    }

    /// Accepts the next connection, with one system call. Tokio makes the task yield after many connections.
    fn poll_accept(&self, cx: &mut Context<'_>) -> Poll<io::Result<(TokioSocket, Peer)>> {
        match self {
            ListenerSocket::Tcp(listener) => {
                listener.poll_accept(cx).map_ok(|(stream, peer)| (TokioSocket::Tcp(stream), Some(peer)))
            }
            ListenerSocket::Unix(listener) => {
                listener.poll_accept(cx).map_ok(|(stream, _)| (TokioSocket::Unix(stream), None))
            }
        }
    }
}
