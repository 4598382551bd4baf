//! A listener on a reactor, and the task that accepts from it.

use std::future::{Future, poll_fn};
use std::io;
use std::os::fd::AsFd;
use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Instant;

use futures_lite::future::yield_now;
use gearshift_core::{AcceptPause, BoxFuture, Driving, Latch, Listener, Peer, Phase, Service, drive, latch};
use socket2::Socket;

use crate::handle::Handle;
use crate::slot::{CLOSED, Direction, READABLE, Slot, WRITABLE};
use crate::transport::ReactorTransport;

/// The number of connections accepted in a row before other tasks run.
const IN_A_ROW: usize = 64;

/// A future that accepts from `listener` until the server stops, and holds a guard of `accepting` until then. It
/// registers each connection, and hands it to `begin` as a future to be driven.
///
/// While the server is full, and for a while after the system ran out of descriptors, connections wait in the system's
/// queue. When the shutdown begins, the system begins no more connections ([`Listener::close_to_new`]). Those that it
/// has begun are accepted, and then the listener is closed.
///
/// # Errors
/// An error of the system.
pub fn accept(
    handle: &Handle,
    listener: Listener,
    service: &Arc<Service>,
    accepting: &Latch,
    begin: impl FnMut(Driving<ReactorTransport>) + Send + 'static,
) -> io::Result<impl Future<Output = ()> + Send + 'static> {
    let slot = match listener.is_shared() {
        true => handle.slot(READABLE),
        false => handle.register(listener.as_fd(), READABLE)?,
    };
    let passed = slot.clone();
    // An acceptor whose bit is set tries to accept in any case.
    listener.on_passed(move || {
        if !passed.is(READABLE) {
            passed.announce(READABLE, |waker| waker.wake());
        }
    });
    let (handle, service, pause) = (handle.clone(), service.clone(), AcceptPause::new());
    let _accepting = accepting.guard();
    let acceptor = Acceptor {
        is_registered: !listener.is_shared(),
        handle,
        slot,
        listener,
        service,
        pause,
        paused: None,
        handshakes: None,
        is_queue_complete: false,
        _accepting,
    };
    Ok(acceptor.run(begin))
}

/// The acceptor of a listener.
///
/// A listener that shares its queue with no other listener is registered with the reactor until the acceptor ends. A
/// shared listener is registered only while its acceptor waits for a connection. The system wakes one acceptor: of the
/// acceptors whose threads wait, the one that has waited longest. So connections go to all threads in turn, and a
/// thread that a handler holds gets none. An acceptor that was woken and cannot accept, because the server is full or
/// pauses, makes the others wait for the same as well. Otherwise the connection would depend on its thread alone.
struct Acceptor {
    handle: Handle,
    slot: Arc<Slot>,
    listener: Listener,
    service: Arc<Service>,
    pause: AcceptPause,
    is_registered: bool,
    /// Ready when the pause after a failure is over.
    paused: Option<BoxFuture<()>>,
    /// The wait for the handshakes that were under way when a stop was requested; `None` before the stop.
    handshakes: Option<BoxFuture<()>>,
    /// Whether no more connections will join the queue.
    is_queue_complete: bool,
    _accepting: latch::Guard,
}

impl Acceptor {
    async fn run(mut self, mut begin: impl FnMut(Driving<ReactorTransport>)) {
        let slot = self.slot.clone();
        let _subscription =
            self.service.shutdown().subscribe(move || slot.announce(READABLE, |waker| waker.wake()));
        loop {
            for _ in 0..IN_A_ROW {
                match poll_fn(|cx| self.poll_next(cx)).await {
                    // The first bytes have mostly arrived with the connection, so it counts as ready.
                    Some((socket, peer)) => {
                        let open = self.service.connections();
                        match ReactorTransport::new(&self.handle, socket, READABLE | WRITABLE) {
                            Ok(transport) => {
                                if self.service.may_have_waited_long() {
                                    transport.find_end();
                                }
                                begin(drive(transport, peer, &self.service));
                            }
                            Err(error) => self.failed(&error, open),
                        }
                    }
                    None => return,
                }
            }
            yield_now().await;
        }
    }

    /// The next connection, or `None` if there will be no other.
    fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Option<(Socket, Peer)>> {
        loop {
            let service = &self.service;
            let phase = service.shutdown().phase();
            if phase == Phase::Forced {
                return Poll::Ready(None);
            }
            // The slot wakes the task for readiness and for a shutdown.
            self.slot.leave_waker(Direction::Read, cx.waker());
            if phase == Phase::Graceful && !self.is_queue_complete {
                let listener = &mut self.listener;
                let handshakes =
                    self.handshakes.get_or_insert_with(|| Box::pin(listener.close_to_new(service.runtime())));
                self.is_queue_complete = handshakes.as_mut().poll(cx).is_ready();
            }
            if let Some(paused) = &mut self.paused {
                ready!(paused.as_mut().poll(cx));
                self.paused = None;
            }
            if phase == Phase::Running {
                // Before the room, because a task that waits for room is woken by every connection that closes.
                if let Err(error) = ready!(self.poll_readable(cx)) {
                    self.failed(&error, self.service.connections());
                    continue;
                }
                let service = &self.service;
                if !service.has_room() {
                    self.listener.pass_on();
                    ready!(pin!(service.connections_until(|_| service.has_room())).poll(cx));
                }
            }
            // The bits are cleared before the attempt, and set again unless the attempt finds the queue empty.
            self.slot.take(READABLE | CLOSED);
            // Before the attempt: a connection that closes after it releases the descriptor for the next attempt.
            let open = self.service.connections();
            match self.listener.accept() {
                Ok(accepted) => {
                    // The next registration of a shared listener tells whether there are more connections.
                    if !self.listener.is_shared() {
                        self.slot.restore(READABLE);
                    }
                    self.pause.accepted();
                    return Poll::Ready(Some(accepted));
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock && phase == Phase::Running => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock && self.is_queue_complete => {
                    return Poll::Ready(None);
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Poll::Pending,
                Err(error) => {
                    self.slot.restore(READABLE);
                    self.failed(&error, open);
                    // Descriptors become free only when open connections close, and there was none.
                    if self.paused.is_some() && phase != Phase::Running && open == 0 {
                        return Poll::Ready(None);
                    }
                }
            }
        }
    }

    /// Ready when there may be a connection in the queue, or with the error of a registration.
    fn poll_readable(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if !self.is_registered && !self.slot.is(READABLE | CLOSED) {
            self.handle.register_shared(&self.slot, self.listener.as_fd())?;
            self.is_registered = true;
        }
        ready!(self.slot.poll(Direction::Read, cx, || 0))?;
        self.end_shared_registration();
        Poll::Ready(Ok(()))
    }

    /// Ends the registration of a shared listener. Closing the descriptor does not, because others have the same
    /// socket.
    fn end_shared_registration(&mut self) {
        if self.listener.is_shared()
            && std::mem::take(&mut self.is_registered)
            && let Err(error) = self.handle.deregister_shared(self.listener.as_fd())
        {
            log::error!("a listener is still registered: {error}");
        }
    }

    /// Begins a pause, unless the peer caused the failure. `open` connections were open before the attempt that failed.
    fn failed(&mut self, error: &io::Error, open: usize) {
        if let Some(pause) = self.pause.failed(error, &self.listener, &self.service) {
            self.listener.pass_on();
            let timer = self.handle.sleep(Instant::now() + pause);
            self.paused = Some(Box::pin(AcceptPause::over(&self.service, open, timer)));
        }
    }
}

impl Drop for Acceptor {
    fn drop(&mut self) {
        self.end_shared_registration();
        self.handle.forget(&self.slot);
    }
}
