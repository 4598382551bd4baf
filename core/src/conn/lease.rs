//! A lease of a connection, through which a request body reads its bytes.
//!
//! While a handler may read the body, the [`Io`] of the connection is behind a lock that the body and the driver share.
//! The driver takes the `Io` back when the exchange has ended. A body that the application keeps for longer fails with
//! [`BodyError::Gone`].
//!
//! A blocking backend lends the connection during every call of a handler, because the call may hold the driver's
//! thread. The cancel tokens of the request check the peer through the lease.

use std::io;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Waker, ready};
use std::time::Instant;

use crate::conn::cancel::CheckPeer;
use crate::conn::io::Io;
use crate::conn::service::Service;
use crate::conn::transport::Transport;
use crate::proto::body::{BodyError, BodySource, Part};
use crate::proto::connection::Piece;
use crate::runtime::shutdown::Phase;
use crate::runtime::task::lock;

/// A connection that a body may read from. The lock is held for at most one poll of the transport.
pub(crate) struct Lease<T> {
    state: Mutex<State<T>>,
    service: Arc<Service>,
}

struct State<T> {
    /// The connection; `None` once the lease has ended.
    io: Option<Box<Io<T>>>,
    /// The waker of the task that waits for a piece of the body.
    reader: Option<Waker>,
    /// The time of the last probe that a cancel token has caused. Before the first one: the time when a token saw the
    /// end of the peer's sending side.
    probed: Option<Instant>,
    /// The waker of the driver's task, once the driver has polled the connection during the lease. It is woken when the
    /// body has ended or failed, and by the writes that a reader begins.
    driver: Option<Waker>,
}

impl<T> State<T> {
    fn new(io: Box<Io<T>>) -> State<T> {
        State { io: Some(io), reader: None, probed: None, driver: None }
    }
}

impl<T> Lease<T> {
    pub(crate) fn new(io: Box<Io<T>>, service: Arc<Service>) -> Lease<T> {
        Lease { state: Mutex::new(State::new(io)), service }
    }

    /// Begins a new lease in the allocation of one that has ended.
    pub(crate) fn lend(&self, io: Box<Io<T>>) {
        *lock(&self.state) = State::new(io);
    }

    /// Calls `act` with the connection. Returns `None` if the lease has ended. `driver` is the waker of the driver's
    /// task, to be remembered.
    fn with<R>(&self, driver: Option<&Waker>, act: impl FnOnce(&mut Io<T>) -> R) -> Option<R> {
        let mut state = lock(&self.state);
        if let Some(driver) = driver
            && !state.driver.as_ref().is_some_and(|known| known.will_wake(driver))
        {
            state.driver = Some(driver.clone());
        }
        state.io.as_deref_mut().map(act)
    }

    /// Ends the lease and returns the connection. A task that waits for the body is woken and gets [`BodyError::Gone`].
    pub(crate) fn take_back(&self) -> Option<Box<Io<T>>> {
        let mut state = lock(&self.state);
        let (io, reader, driver) = (state.io.take(), state.reader.take(), state.driver.take());
        drop(state);
        drop(driver);
        reader.into_iter().for_each(Waker::wake);
        io
    }
}

/// The driver's side of a lease. Dropping it ends the lease and closes the connection, even if the application keeps
/// the body.
pub(crate) struct Lender<T>(pub(crate) Arc<Lease<T>>);

impl<T> Drop for Lender<T> {
    fn drop(&mut self) {
        drop(self.0.take_back());
    }
}

/// The owner of a connection's [`Io`], which is boxed because it moves at every lease.
pub(crate) enum IoOwner<T> {
    /// The driver.
    Own(Box<Io<T>>),
    /// The driver together with the body of the request.
    Lent(Lender<T>),
    /// An exchange. Or there is no `Io`, because the connection has ended.
    Gone,
}

impl<T> IoOwner<T> {
    /// Calls `act` with the connection.
    ///
    /// # Panics
    /// If the owner is `Gone`.
    #[inline]
    pub(crate) fn with<R>(&mut self, act: impl FnOnce(&mut Io<T>) -> R) -> R {
        self.with_driver(None, act)
    }

    /// Calls `act` with the connection for the driver's task. If another task reads the body, the transport still wakes
    /// the driver's task when it can write.
    #[inline]
    pub(crate) fn poll_with<R>(
        &mut self,
        cx: &mut Context<'_>,
        act: impl FnOnce(&mut Io<T>, &mut Context<'_>) -> R,
    ) -> R {
        self.with_driver(Some(cx.waker()), |io| act(io, cx))
    }

    #[inline]
    fn with_driver<R>(&mut self, driver: Option<&Waker>, act: impl FnOnce(&mut Io<T>) -> R) -> R {
        let result = match self {
            IoOwner::Own(io) => Some(act(io)),
            IoOwner::Lent(lender) => lender.0.with(driver, act),
            IoOwner::Gone => None,
        };
        result.expect("the connection is gone")
    }

    /// Whether nothing but the driver can read the rest of the request's body.
    pub(crate) fn is_unread(&self) -> bool {
        match self {
            IoOwner::Lent(lender) => Arc::strong_count(&lender.0) == 1,
            IoOwner::Own(_) | IoOwner::Gone => true,
        }
    }

    /// Replaces the owner by `Gone` and returns it.
    pub(crate) fn take(&mut self) -> IoOwner<T> {
        std::mem::replace(self, IoOwner::Gone)
    }

    /// Ends the lease, if there is one: the connection is then owned by the driver again. Returns the ended lease, for
    /// [`Lease::lend`].
    pub(crate) fn take_back(&mut self) -> Option<Arc<Lease<T>>> {
        let IoOwner::Lent(lender) = self else { return None };
        let lease = lender.0.clone();
        *self = lease.take_back().map_or(IoOwner::Gone, IoOwner::Own);
        Some(lease)
    }
}

impl<T: Transport> CheckPeer for Lease<T> {
    fn has_left(&self) -> bool {
        let mut state = lock(&self.state);
        let State { io, probed, driver, .. } = &mut *state;
        let waker = driver.as_ref().unwrap_or(Waker::noop());
        io.as_mut()
            .is_some_and(|io| io.check_from_handler(probed, &mut Context::from_waker(waker), &self.service))
    }
}

impl<T: Transport> BodySource for Lease<T> {
    fn poll_part(&self, cx: &mut Context<'_>) -> Poll<Option<Result<Part, BodyError>>> {
        if self.service.shutdown.phase() == Phase::Forced {
            return Poll::Ready(Some(Err(BodyError::Gone)));
        }
        let mut state = lock(&self.state);
        let State { io: Some(io), driver, .. } = &mut *state else {
            return Poll::Ready(Some(Err(BodyError::Gone)));
        };
        let piece = poll_piece(io, cx, driver.as_ref().unwrap_or(cx.waker()), &self.service);
        let is_over = !io.connection.is_body_pending() || matches!(piece, Poll::Ready(Some(Err(_))));
        let driver = driver.as_ref().filter(|driver| is_over && !driver.will_wake(cx.waker())).cloned();
        let reader = piece.is_pending().then(|| cx.waker().clone());
        let previous = std::mem::replace(&mut state.reader, reader);
        drop(state);
        // Dropping a waker may run code of a runtime, so the lock is released first.
        drop(previous);
        // The transport wakes the last task that has read. After the body this has to be the driver's.
        driver.into_iter().for_each(Waker::wake);
        piece
    }

    fn remaining(&self) -> Option<u64> {
        self.with(None, |io| io.connection.body_remaining()).flatten()
    }
}

/// Reads until a piece of the body is complete. `driver` is the waker of the driver's task.
pub(crate) fn poll_piece<T: Transport>(
    io: &mut Io<T>,
    cx: &mut Context<'_>,
    driver: &Waker,
    service: &Service,
) -> Poll<Option<Result<Part, BodyError>>> {
    loop {
        match io.connection.next_piece() {
            Ok(Piece::Data(data)) => return Poll::Ready(Some(Ok(Part::Data(data)))),
            Ok(Piece::Trailers(trailers)) => return Poll::Ready(Some(Ok(Part::Trailers(trailers)))),
            Ok(Piece::End) => return Poll::Ready(None),
            Ok(Piece::NeedBytes) => {}
            Err(error) => return Poll::Ready(Some(Err(error))),
        }
        // Before it sends the body, the peer may wait for 100 Continue or for responses to earlier requests.
        io.connection.send_continue();
        // The reader may not poll again once it has its piece, so a pending write wakes the driver's task.
        let read = match io.poll_flush(&mut Context::from_waker(driver), service) {
            Poll::Ready(Err(error)) => Err(error),
            _ => ready!(io.poll_read_body(cx, service)),
        };
        if let Err(error) = read {
            let error = match error.kind() {
                io::ErrorKind::TimedOut => BodyError::TimedOut,
                _ => BodyError::Io(error),
            };
            return Poll::Ready(Some(Err(io.connection.break_body(error))));
        }
    }
}
