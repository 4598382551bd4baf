//! The transport, the HTTP/1.1 state and the deadlines of one connection.
//!
//! [`Io`] keeps the three together, so that the driver can lend all of them to a request body. Its methods read and
//! write within the deadlines of [`deadlines`](super::deadlines), and count the bytes.

use std::io;
use std::task::{Context, Poll, ready};

use crate::conn::after::After;
use crate::conn::deadlines::Deadlines;
use crate::conn::liveness::PeerCheck;
use crate::conn::service::Service;
use crate::conn::transport::Transport;
use crate::proto::connection::Connection;
use crate::proto::error::Error;

/// See the [module](self).
pub(crate) struct Io<T> {
    pub(crate) transport: T,
    pub(crate) connection: Connection,
    pub(crate) deadlines: Deadlines,
    /// Whether a handler that may read the body is called. On a blocking backend the handler holds its thread, so the
    /// connection is woken at once.
    pub(crate) has_body_reader: bool,
    /// The timer of the next liveness check, while a handler or a streamed body is pending.
    pub(crate) peer_check: Option<Box<PeerCheck>>,
    /// Tasks that begin once the write queue is empty.
    after: Option<Box<After>>,
}

impl<T: Transport> Io<T> {
    pub(crate) fn new(transport: T, connection: Connection, deadlines: Deadlines) -> Io<T> {
        Io { transport, connection, deadlines, has_body_reader: false, peer_check: None, after: None }
    }

    /// Begins the tasks of `after` once the write queue is empty.
    pub(crate) fn spawn_after_flush(&mut self, after: After) {
        match &mut self.after {
            Some(before) => before.append(after),
            None => self.after = Some(Box::new(after)),
        }
    }

    /// Reads into the read buffer, see [`Transport::poll_read`].
    #[inline]
    pub(crate) fn poll_read(&mut self, cx: &mut Context<'_>, service: &Service) -> Poll<io::Result<usize>> {
        let read = self.transport.poll_read(cx, &mut self.connection.read_buffer);
        if let Poll::Ready(Ok(n)) = read {
            service.counters().here().received(n);
        }
        read
    }

    /// Reads into the read buffer without a wait, see [`Transport::try_read`].
    pub(crate) fn try_read(&mut self, service: &Service) -> io::Result<usize> {
        let read = self.transport.try_read(&mut self.connection.read_buffer);
        if let Ok(n) = read {
            service.counters().here().received(n);
        }
        read
    }

    /// Writes from the write queue, see [`Transport::poll_write`]. Also returns the number of bytes written.
    #[inline]
    fn poll_write(&mut self, cx: &mut Context<'_>, service: &Service) -> (usize, Poll<io::Result<()>>) {
        let before = self.connection.write_queue.len();
        let written = self.transport.poll_write(cx, &mut self.connection.write_queue);
        let moved = before - self.connection.write_queue.len();
        service.counters().here().sent(moved);
        (moved, written)
    }

    /// Writes until the write queue is empty, then begins the tasks that were added by [`Io::spawn_after_flush`].
    #[inline]
    pub(crate) fn poll_flush(&mut self, cx: &mut Context<'_>, service: &Service) -> Poll<io::Result<()>> {
        let flushed = self.poll_write_queue(cx, service);
        if self.after.is_some() && matches!(flushed, Poll::Ready(Ok(()))) {
            self.after = None;
        }
        flushed
    }

    #[inline]
    fn poll_write_queue(&mut self, cx: &mut Context<'_>, service: &Service) -> Poll<io::Result<()>> {
        if self.connection.write_queue.is_empty() {
            return Poll::Ready(Ok(()));
        }
        // Most writes succeed at once and need no deadline.
        if self.is_waiting_to_write() {
            return self.poll_flush_by_deadline(cx, service);
        }
        match self.poll_write(cx, service).1 {
            Poll::Pending => self.poll_flush_by_deadline(cx, service),
            done => done,
        }
    }

    /// Writes until the queue is empty, within the deadline of a write.
    fn poll_flush_by_deadline(&mut self, cx: &mut Context<'_>, service: &Service) -> Poll<io::Result<()>> {
        loop {
            self.wait_to_write(service);
            let (moved, written) = self.poll_write(cx, service);
            if moved > 0 {
                self.wrote(moved, service);
            }
            match written {
                Poll::Ready(Ok(())) => {
                    self.flushed();
                    return Poll::Ready(Ok(()));
                }
                Poll::Pending if moved > 0 => {}
                Poll::Pending => return Poll::Pending,
                Poll::Ready(Err(error)) if self.is_early(&error, self.write_deadline(), service) => {}
                Poll::Ready(Err(error)) => return Poll::Ready(Err(error)),
            }
        }
    }

    /// Reads more of a body, within the deadline of a body. Returns `false` if the peer has ended its sending side.
    pub(crate) fn poll_read_body(
        &mut self,
        cx: &mut Context<'_>,
        service: &Service,
    ) -> Poll<io::Result<bool>> {
        loop {
            self.wait_for_body(service);
            let read = ready!(self.poll_read(cx, service));
            if matches!(&read, Err(error) if self.is_early(error, self.body_deadline(), service)) {
                continue;
            }
            self.read_body(*read.as_ref().unwrap_or(&0), service);
            return Poll::Ready(read.map(|n| {
                if n == 0 {
                    self.connection.received_end();
                }
                n > 0
            }));
        }
    }

    /// Makes the current response the last of the connection, unless bytes of another request have arrived. A server
    /// that stops answers the requests that have arrived.
    pub(crate) fn close_unless_more_came(&mut self, service: &Service) {
        if self.connection.is_body_pending() {
            return;
        }
        if self.connection.read_buffer.is_empty() && !matches!(self.try_read(service), Ok(n) if n > 0) {
            self.connection.close_after_this();
        }
    }

    /// Returns whether the connection needs a lingering close (RFC 9112, 9.6). Bytes may have arrived while the
    /// response was written, so this reads once more.
    pub(crate) fn must_linger(&mut self, service: &Service) -> bool {
        if self.connection.must_linger() || self.connection.has_ended() {
            return self.connection.must_linger();
        }
        matches!(self.try_read(service), Ok(n) if n > 0)
    }

    /// Queues the response to a request that is refused before the application sees it.
    pub(crate) fn refuse(&mut self, error: Error, service: &Service) {
        service.counters().rejected(error.status());
        self.connection.refuse(error, service.clock.unix_seconds());
    }

    /// Frees the buffers, which an idle connection does not need.
    pub(crate) fn release(&mut self) {
        self.connection.read_buffer.release();
        self.connection.write_queue.release();
        self.deadlines.release();
    }
}
