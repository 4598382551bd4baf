//! A request body that is still on the wire: a lease on its connection.
//!
//! While a handler may read such a body, the transport and the connection's state are behind a lock that the body
//! and the driver share. The driver takes them out again when the exchange is over; a body that is kept beyond it
//! finds nothing there.

use std::io;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, ready};

use bytes::Bytes;

use crate::h1::Piece;
use crate::io::Io;
use crate::message::{BodyError, BodySource};
use crate::service::Service;
use crate::task::lock;
use crate::transport::Transport;

/// A connection that a body may read from. Never locked across a poll of anything but the transport.
pub(crate) struct Lease<T> {
    io: Mutex<Option<Io<T>>>,
    service: Arc<Service>,
}

impl<T: Transport> Lease<T> {
    pub(crate) fn new(io: Io<T>, service: Arc<Service>) -> Lease<T> {
        Lease { io: Mutex::new(Some(io)), service }
    }

    /// Does something with the connection; `None` once it was taken back.
    pub(crate) fn with<R>(&self, act: impl FnOnce(&mut Io<T>) -> R) -> Option<R> {
        lock(&self.io).as_mut().map(act)
    }

    /// Ends the lease.
    pub(crate) fn take_back(&self) -> Option<Io<T>> {
        lock(&self.io).take()
    }
}

impl<T: Transport> BodySource for Lease<T> {
    fn poll_chunk(&self, cx: &mut Context<'_>) -> Poll<Option<Result<Bytes, BodyError>>> {
        match self.with(|io| poll_piece(io, cx, &self.service)) {
            Some(piece) => piece,
            None => Poll::Ready(Some(Err(BodyError::Gone))),
        }
    }

    fn remaining(&self) -> Option<u64> {
        self.with(|io| io.connection.body_remaining()).unwrap_or(None)
    }
}

fn poll_piece<T: Transport>(
    io: &mut Io<T>,
    cx: &mut Context<'_>,
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
        let read = match io.poll_flush(cx, service) {
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
