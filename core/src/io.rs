//! A transport and what HTTP/1.1 knows of it, kept together: reading and writing with their deadlines.

use std::io;
use std::task::{Context, Poll};
use std::time::Instant;

use crate::h1::Connection;
use crate::service::Service;
use crate::transport::Transport;

/// Bytes that are read ahead while a handler is at work.
const READ_AHEAD: usize = 4 * 1024;

/// One connection's two halves.
pub(crate) struct Io<T> {
    pub(crate) transport: T,
    pub(crate) connection: Connection,
    /// Until when a flush that waits has to get further.
    write_by: Option<Instant>,
    /// Until when a read of a body that waits has to bring something.
    body_by: Option<Instant>,
    /// Whether the peer was looked at since the handler began to wait with the whole request behind.
    watched: bool,
}

impl<T: Transport> Io<T> {
    pub(crate) fn new(transport: T, connection: Connection) -> Io<T> {
        Io { transport, connection, write_by: None, body_by: None, watched: false }
    }

    /// Writes until nothing waits.
    #[inline]
    pub(crate) fn poll_flush(&mut self, cx: &mut Context<'_>, service: &Service) -> Poll<io::Result<()>> {
        if self.connection.outbox().is_empty() {
            return Poll::Ready(Ok(()));
        }
        // Most writes are done at once, and need no deadline unless they wait inside.
        if T::BLOCKING || self.write_by.is_some() {
            return self.poll_flush_by_deadline(cx, service);
        }
        match self.transport.poll_write(cx, self.connection.outbox_mut()) {
            Poll::Pending => self.poll_flush_by_deadline(cx, service),
            done => done,
        }
    }

    /// A transport has one deadline, and a body may be waited for meanwhile: the earlier of the two is set.
    fn poll_flush_by_deadline(&mut self, cx: &mut Context<'_>, service: &Service) -> Poll<io::Result<()>> {
        let timeout = service.config.write_timeout;
        if self.write_by.is_none() {
            self.write_by = Some(service.clock.now() + timeout);
            self.set_deadline();
        }
        let before = self.connection.outbox().len();
        let mut written = self.transport.poll_write(cx, self.connection.outbox_mut());
        if is_timed_out(&written) && self.body_by.is_some() && self.write_by > Some(service.clock.now()) {
            // It was the body's time that is over, which is for its reader to find.
            self.transport.set_deadline(self.write_by);
            written = self.transport.poll_write(cx, self.connection.outbox_mut());
        }
        if is_timed_out(&written) {
            // The peer gets no more time from whoever writes next.
        } else if written.is_ready() {
            self.write_by = None;
            self.set_deadline();
        } else if self.connection.outbox().len() < before {
            self.write_by = Some(service.clock.now() + timeout);
            self.set_deadline();
        }
        written
    }

    fn set_deadline(&mut self) {
        let first = match (self.write_by, self.body_by) {
            (Some(write_by), Some(body_by)) => Some(write_by.min(body_by)),
            (write_by, body_by) => write_by.or(body_by),
        };
        self.transport.set_deadline(first);
    }

    /// Reads more of a body, with the patience that a body gets. `Ok(false)` is the peer's end.
    pub(crate) fn poll_read_body(
        &mut self,
        cx: &mut Context<'_>,
        service: &Service,
    ) -> Poll<io::Result<bool>> {
        if self.body_by.is_none() {
            self.body_by = Some(service.clock.now() + service.config.body_timeout);
        }
        self.set_deadline();
        let read = self.transport.poll_read(cx, self.connection.inbox_mut());
        if read.is_ready() {
            self.body_by = None;
            self.set_deadline();
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

    /// An exchange has ended: nobody waits for its request's body any more.
    pub(crate) fn exchange_ended(&mut self) {
        if self.body_by.take().is_some() {
            self.set_deadline();
        }
    }

    /// To be polled while a handler waits: sends what is queued before its response, and is ready once the peer is
    /// gone, so that nobody wants the response any more.
    ///
    /// A peer that has ended its side by the first look has sent all it has to say and waits for the answer; one
    /// that ends it later has given up. A body that is on the wire is something it has to say, so that the first
    /// look is after it. On blocking transports only a failed write tells.
    pub(crate) fn poll_gone(&mut self, cx: &mut Context<'_>, service: &Service) -> Poll<()> {
        let first_look = !self.watched;
        if first_look && self.write_by.is_none() && self.body_by.is_none() {
            self.transport.set_deadline(None);
        }
        if let Poll::Ready(Err(_)) = self.poll_flush(cx, service) {
            return Poll::Ready(());
        }
        if T::BLOCKING || self.connection.is_body_pending() {
            return Poll::Pending;
        }
        self.watched = true;
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

fn is_timed_out(written: &Poll<io::Result<()>>) -> bool {
    matches!(written, Poll::Ready(Err(error)) if error.kind() == io::ErrorKind::TimedOut)
}
