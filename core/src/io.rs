//! A transport and what HTTP/1.1 knows of it, kept together: reading and writing with their deadlines.

use std::io;
use std::task::{Context, Poll};

use crate::h1::Connection;
use crate::service::Service;
use crate::transport::Transport;

/// Bytes that are read ahead while a handler is at work.
const READ_AHEAD: usize = 4 * 1024;

/// One connection's two halves.
pub(crate) struct Io<T> {
    pub(crate) transport: T,
    pub(crate) connection: Connection,
    /// Whether a flush is waiting, so that its deadline is set.
    write_waits: bool,
    /// Whether a read of a body is waiting, so that its deadline is set.
    body_waits: bool,
    /// Whether the peer was looked at since the handler began to wait.
    watched: bool,
}

impl<T: Transport> Io<T> {
    pub(crate) fn new(transport: T, connection: Connection) -> Io<T> {
        Io { transport, connection, write_waits: false, body_waits: false, watched: false }
    }

    /// Writes until nothing waits.
    #[inline]
    pub(crate) fn poll_flush(&mut self, cx: &mut Context<'_>, service: &Service) -> Poll<io::Result<()>> {
        if self.connection.outbox().is_empty() {
            return Poll::Ready(Ok(()));
        }
        // Most writes are done at once, and need no deadline unless they wait inside.
        if T::BLOCKING || self.write_waits {
            return self.poll_flush_by_deadline(cx, service);
        }
        match self.transport.poll_write(cx, self.connection.outbox_mut()) {
            Poll::Pending => self.poll_flush_by_deadline(cx, service),
            done => done,
        }
    }

    fn poll_flush_by_deadline(&mut self, cx: &mut Context<'_>, service: &Service) -> Poll<io::Result<()>> {
        if !self.write_waits {
            self.write_waits = true;
            self.transport.set_deadline(Some(service.clock.now() + service.config.write_timeout));
        }
        let written = self.transport.poll_write(cx, self.connection.outbox_mut());
        if written.is_ready() {
            self.write_waits = false;
            self.transport.set_deadline(None);
        }
        written
    }

    /// Reads more of a body, with the patience that a body gets. `Ok(false)` is the peer's end.
    pub(crate) fn poll_read_body(
        &mut self,
        cx: &mut Context<'_>,
        service: &Service,
    ) -> Poll<io::Result<bool>> {
        if !self.body_waits {
            self.body_waits = true;
            self.transport.set_deadline(Some(service.clock.now() + service.config.body_timeout));
        }
        let read = self.transport.poll_read(cx, self.connection.inbox_mut());
        if read.is_ready() {
            self.body_waits = false;
            self.transport.set_deadline(None);
        }
        read.map_ok(|n| {
            if n == 0 {
                self.connection.received_end();
            }
            n > 0
        })
    }

    /// A handler begins: the peer has not been looked at since.
    #[inline]
    pub(crate) fn handler_begins(&mut self) {
        self.watched = false;
    }

    /// To be polled while a handler waits: sends what is queued before its response, and is ready once the peer is
    /// gone, so that nobody wants the response any more.
    ///
    /// A peer that has ended its side by the first look has sent all it has to say and waits for the answer; one
    /// that ends it later has given up. On blocking transports only a failed write tells.
    pub(crate) fn poll_gone(&mut self, cx: &mut Context<'_>, service: &Service) -> Poll<()> {
        let first_look = !std::mem::replace(&mut self.watched, true);
        if first_look && !self.write_waits && !self.body_waits {
            self.transport.set_deadline(None);
        }
        if let Poll::Ready(Err(_)) = self.poll_flush(cx, service) {
            return Poll::Ready(());
        }
        if T::BLOCKING || self.connection.is_body_pending() {
            return Poll::Pending;
        }
        while !self.connection.has_ended() && self.connection.inbox().len() < READ_AHEAD {
            match self.transport.poll_read(cx, self.connection.inbox_mut()) {
                Poll::Pending => return Poll::Pending,
                Poll::Ready(Ok(0)) if first_look => self.connection.received_end(),
                Poll::Ready(Ok(0) | Err(_)) => return Poll::Ready(()),
                Poll::Ready(Ok(_)) => {}
            }
        }
        Poll::Pending
    }

    /// Makes the response at hand the last, unless another request has arrived: while shutting down, all that has
    /// arrived is answered.
    pub(crate) fn close_unless_more_came(&mut self) {
        if self.connection.is_body_pending() {
            return;
        }
        let inbox = self.connection.inbox_mut();
        if inbox.is_empty() && !matches!(self.transport.try_read(inbox), Ok(n) if n > 0) {
            self.connection.close_after_this();
        }
    }

    /// Whether closing now might destroy what was sent. That the last read left nothing does not say that nothing has
    /// arrived while the response was written, so it is asked once more.
    pub(crate) fn must_linger(&mut self) -> bool {
        if self.connection.must_linger() || self.connection.has_ended() {
            return self.connection.must_linger();
        }
        matches!(self.transport.try_read(self.connection.inbox_mut()), Ok(n) if n > 0)
    }

    /// Gives back the memory that an idle connection does not need.
    pub(crate) fn release(&mut self) {
        self.connection.inbox_mut().release();
        self.connection.outbox_mut().release();
    }
}
