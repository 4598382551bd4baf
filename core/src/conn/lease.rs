//! A request body that is still on the wire: a lease on its connection.
//!
//! While a handler may read such a body, the transport and the connection's state are behind a lock that the body
//! and the driver share. The driver takes them out again when the exchange is over; a body that is kept beyond it
//! finds nothing there.
//!
//! On a blocking backend every handler that is called gets such a lease, because it may hold the thread of the driver:
//! the tokens of its request then look for the peer through the lease.

use std::io;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Waker, ready};
use std::time::Instant;

use bytes::Bytes;

use crate::conn::cancel::LookForPeer;
use crate::conn::io::Io;
use crate::conn::service::Service;
use crate::conn::transport::Transport;
use crate::proto::body::{BodyError, BodySource};
use crate::proto::connection::Piece;
use crate::runtime::shutdown::Phase;
use crate::runtime::task::lock;

/// A connection that a body may read from. The lock is held for no longer than a poll of the transport.
pub(crate) struct Lease<T> {
    lent: Mutex<Lent<T>>,
    service: Arc<Service>,
}

struct Lent<T> {
    /// `None` once the lease has ended.
    io: Option<Box<Io<T>>>,
    /// The task that waits for a piece of the body.
    reader: Option<Waker>,
    /// When the peer was last asked whether it is there.
    asked: Option<Instant>,
    /// The driver's task, once it has polled the connection that it lends.
    driver: Option<Waker>,
}

impl<T> Lease<T> {
    pub(crate) fn new(io: Box<Io<T>>, service: Arc<Service>) -> Lease<T> {
        let lent = Lent { io: Some(io), reader: None, asked: None, driver: None };
        Lease { lent: Mutex::new(lent), service }
    }

    /// Begins another lease, after the earlier one has ended.
    pub(crate) fn lend(&self, io: Box<Io<T>>) {
        *lock(&self.lent) = Lent { io: Some(io), reader: None, asked: None, driver: None };
    }

    /// Does something with the connection; `None` once it was taken back.
    pub(crate) fn with<R>(&self, act: impl FnOnce(&mut Io<T>) -> R) -> Option<R> {
        lock(&self.lent).io.as_deref_mut().map(act)
    }

    /// Does something with the connection for the driver's task; `None` once it was taken back.
    fn poll_with<R>(
        &self,
        cx: &mut Context<'_>,
        act: impl FnOnce(&mut Io<T>, &mut Context<'_>) -> R,
    ) -> Option<R> {
        let mut lent = lock(&self.lent);
        if !lent.driver.as_ref().is_some_and(|driver| driver.will_wake(cx.waker())) {
            lent.driver = Some(cx.waker().clone());
        }
        lent.io.as_deref_mut().map(|io| act(io, cx))
    }

    /// Ends the lease. A task that waits for the body is woken, and finds [`BodyError::Gone`].
    pub(crate) fn take_back(&self) -> Option<Box<Io<T>>> {
        let mut lent = lock(&self.lent);
        let (io, reader, driver) = (lent.io.take(), lent.reader.take(), lent.driver.take());
        drop(lent);
        drop(driver);
        reader.into_iter().for_each(Waker::wake);
        io
    }
}

/// The driver's side of a lease, which ends with it: a body that is kept elsewhere does not keep the connection.
pub(crate) struct Lender<T>(Arc<Lease<T>>);

impl<T> Lender<T> {
    pub(crate) fn new(lease: Arc<Lease<T>>) -> Lender<T> {
        Lender(lease)
    }

    /// Ends the lease. Returns the connection, and the lease to be used again.
    pub(crate) fn end(self) -> (Option<Box<Io<T>>>, Arc<Lease<T>>) {
        (self.0.take_back(), self.0.clone())
    }
}

impl<T> Drop for Lender<T> {
    fn drop(&mut self) {
        drop(self.0.take_back());
    }
}

/// Where the two halves of a connection are. They are boxed, because they move at every lease.
pub(crate) enum IoOwner<T> {
    /// With the driver alone.
    Own(Box<Io<T>>),
    /// Shared with the body of the request.
    Lent(Lender<T>),
    /// With an exchange, or at the end of the connection: nowhere.
    Gone,
}

impl<T: Transport> IoOwner<T> {
    /// Does something with the connection.
    ///
    /// # Panics
    /// If the connection is gone.
    #[inline]
    pub(crate) fn with<R>(&mut self, act: impl FnOnce(&mut Io<T>) -> R) -> R {
        match self {
            IoOwner::Own(io) => act(io),
            IoOwner::Lent(lender) => lender.0.with(act).expect("a lease is taken back by its owner alone"),
            IoOwner::Gone => panic!("the connection is gone"),
        }
    }

    /// The same for the driver's task, which the transport is to wake when there is room to write, whichever task reads
    /// the body.
    ///
    /// # Panics
    /// If the connection is gone.
    #[inline]
    pub(crate) fn poll_with<R>(
        &mut self,
        cx: &mut Context<'_>,
        act: impl FnOnce(&mut Io<T>, &mut Context<'_>) -> R,
    ) -> R {
        match self {
            IoOwner::Lent(lender) => {
                lender.0.poll_with(cx, act).expect("a lease is taken back by its owner alone")
            }
            owner => owner.with(|io| act(io, cx)),
        }
    }

    /// Takes the owner out, and leaves `Gone`.
    pub(crate) fn take(&mut self) -> IoOwner<T> {
        std::mem::replace(self, IoOwner::Gone)
    }

    /// The connection, with any lease ended.
    ///
    /// # Panics
    /// If the connection is gone.
    pub(crate) fn take_back(self) -> Box<Io<T>> {
        match self {
            IoOwner::Own(io) => io,
            IoOwner::Lent(lender) => lender.0.take_back().expect("a lease is taken back by its owner alone"),
            IoOwner::Gone => panic!("the connection is gone"),
        }
    }
}

impl<T: Transport> LookForPeer for Lease<T> {
    fn has_left(&self) -> bool {
        let mut lent = lock(&self.lent);
        let Lent { io, asked, .. } = &mut *lent;
        io.as_mut().is_some_and(|io| io.look_from_handler(asked, &self.service))
    }
}

impl<T: Transport> BodySource for Lease<T> {
    fn poll_chunk(&self, cx: &mut Context<'_>) -> Poll<Option<Result<Bytes, BodyError>>> {
        if self.service.shutdown.phase() == Phase::Forced {
            return Poll::Ready(Some(Err(BodyError::Gone)));
        }
        let mut lent = lock(&self.lent);
        let Lent { io: Some(io), driver, .. } = &mut *lent else {
            return Poll::Ready(Some(Err(BodyError::Gone)));
        };
        let piece = poll_piece(io, cx, driver.as_ref(), &self.service);
        let reader = piece.is_pending().then(|| cx.waker().clone());
        let before = std::mem::replace(&mut lent.reader, reader);
        drop(lent);
        // Dropping a waker may run code of a runtime: not under the lock.
        drop(before);
        piece
    }

    fn remaining(&self) -> Option<u64> {
        self.with(|io| io.connection.body_remaining()).unwrap_or(None)
    }
}

fn poll_piece<T: Transport>(
    io: &mut Io<T>,
    cx: &mut Context<'_>,
    driver: Option<&Waker>,
    service: &Service,
) -> Poll<Option<Result<Bytes, BodyError>>> {
    loop {
        match io.connection.next_piece() {
            Ok(Piece::Data(data)) => return Poll::Ready(Some(Ok(data))),
            Ok(Piece::End) => return Poll::Ready(None),
            Ok(Piece::NeedBytes) => {}
            Err(error) => return Poll::Ready(Some(Err(error))),
        }
        // The peer may be waiting for what waits here: 100 Continue, or responses to earlier requests.
        io.connection.send_continue();
        // A reader that has got its piece does not come back to write the rest. The driver does.
        let flushed = match driver {
            Some(driver) => io.poll_flush(&mut Context::from_waker(driver), service),
            None => io.poll_flush(cx, service),
        };
        let read = match flushed {
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
