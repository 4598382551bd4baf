//! A listener on a reactor, and the task that accepts from it.

use std::future::{Future, poll_fn};
use std::io;
use std::os::fd::AsFd;
use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Instant;

use gearshift_core::{AcceptPause, Driving, Latch, Listener, Peer, Phase, Service, drive};
use socket2::Socket;

use crate::handle::Handle;
use crate::slot::{CLOSED, Direction, READABLE, Slot};
use crate::transport::ReactorTransport;
use crate::yield_now;

/// A future that accepts from `listener` until the server stops, and holds a guard of `accepting` until then. It hands
/// each connection, as a future to be driven, to `begin`.
///
/// # Errors
/// An error of the system.
pub fn accept(
    handle: &Handle,
    listener: Listener,
    service: &Arc<Service>,
    accepting: &Latch,
    mut begin: impl FnMut(Driving<ReactorTransport>) + Send + 'static,
) -> io::Result<impl Future<Output = ()> + Send + 'static> {
    let acceptor = Acceptor::new(handle, listener)?;
    let (service, guard) = (service.clone(), accepting.guard());
    Ok(async move {
        let _guard = guard;
        let connections = service.clone();
        acceptor.run(service, move |transport, peer| begin(drive(transport, peer, &connections))).await;
    })
}

/// Connections accepted in a row before those that are open have their turn.
const IN_A_ROW: usize = 64;

/// A listener whose readiness a [`Reactor`](crate::Reactor) keeps.
pub struct Acceptor {
    handle: Handle,
    slot: Arc<Slot>,
    listener: Listener,
    pause: AcceptPause,
    /// Whether accepting has failed and is left alone until the slot's deadline.
    is_paused: bool,
}

impl Acceptor {
    /// Registers a listener.
    ///
    /// # Errors
    /// Whatever the system says.
    pub fn new(handle: &Handle, listener: Listener) -> io::Result<Acceptor> {
        let slot = handle.register(listener.as_fd(), READABLE)?;
        let pause = AcceptPause::new();
        Ok(Acceptor { handle: handle.clone(), slot, listener, pause, is_paused: false })
    }

    /// Accepts as long as the server runs, and hands each connection, registered, to `begin`. While the server has
    /// no room, and for a while after the system had no descriptors, connections wait in the system's queue. Once
    /// shutdown was asked for, those that are in the queue are accepted, then the listener is closed.
    pub async fn run(mut self, service: Arc<Service>, mut begin: impl FnMut(ReactorTransport, Peer)) {
        let slot = self.slot.clone();
        let _subscription =
            service.shutdown().subscribe(move |_| slot.announce(READABLE, |waker| waker.wake()));
        loop {
            for _ in 0..IN_A_ROW {
                match poll_fn(|cx| self.poll_next(cx, &service)).await {
                    Some((socket, peer)) => match ReactorTransport::new(&self.handle, socket) {
                        Ok(transport) => begin(transport, peer),
                        Err(error) => self.failed(&error, &service),
                    },
                    None => return,
                }
            }
            yield_now().await;
        }
    }

    /// The next connection; none if there will be no more.
    fn poll_next(&mut self, cx: &mut Context<'_>, service: &Service) -> Poll<Option<(Socket, Peer)>> {
        loop {
            let phase = service.shutdown().phase();
            if phase == Phase::Forced {
                return Poll::Ready(None);
            }
            // Woken through the slot by readiness, by the deadline that ends a pause, and by shutdown.
            self.slot.leave_waker(Direction::Read, cx.waker());
            if self.is_paused && !self.slot.is_due(self.handle.swept()) {
                return Poll::Pending;
            }
            if phase == Phase::Running {
                if !self.is_paused {
                    ready!(self.slot.poll(Direction::Read, cx, || 0)).expect("no deadline is set");
                }
                // Asked first, because waiting for room is to be woken by every connection that closes.
                if !service.has_room() {
                    ready!(pin!(service.connections_until(|n| n < service.max_connections())).poll(cx));
                }
            }
            self.is_paused = false;
            self.handle.set_deadline(&self.slot, None);
            // Cleared before the attempt, and set again unless the attempt finds the queue empty.
            self.slot.take(READABLE | CLOSED);
            match self.listener.accept() {
                Ok(accepted) => {
                    self.slot.restore(READABLE);
                    self.pause.accepted();
                    return Poll::Ready(Some(accepted));
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock && phase == Phase::Running => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Poll::Ready(None),
                Err(error) => {
                    self.slot.restore(READABLE);
                    self.failed(&error, service);
                    // What is open gives its descriptors back as it closes.
                    if self.is_paused && phase != Phase::Running && service.connections() == 0 {
                        return Poll::Ready(None);
                    }
                }
            }
        }
    }

    /// Begins a pause, unless the failure was the peer's.
    fn failed(&mut self, error: &io::Error, service: &Service) {
        if let Some(pause) = self.pause.failed(error, &self.listener, service) {
            self.is_paused = true;
            self.handle.set_deadline(&self.slot, Some(Instant::now() + pause));
        }
    }
}

impl Drop for Acceptor {
    fn drop(&mut self) {
        self.handle.forget(&self.slot);
    }
}
