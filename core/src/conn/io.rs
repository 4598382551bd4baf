//! A transport and what HTTP/1.1 knows of it, kept together: reading and writing, within the deadlines of
//! [`deadlines`](super::deadlines).

use std::io;
use std::task::{Context, Poll, ready};

use crate::conn::after::After;
use crate::conn::deadlines::Deadlines;
use crate::conn::liveness::Look;
use crate::conn::service::Service;
use crate::conn::transport::Transport;
use crate::proto::connection::Connection;
use crate::proto::error::Error;

/// One connection's two halves.
pub(crate) struct Io<T> {
    pub(crate) transport: T,
    pub(crate) connection: Connection,
    pub(crate) deadlines: Deadlines,
    /// The next look at a peer of which the socket does not tell that it leaves.
    pub(crate) look: Option<Box<Look>>,
    /// Work that begins once everything queued is on the wire.
    after: Option<Box<After>>,
}

impl<T: Transport> Io<T> {
    pub(crate) fn new(transport: T, connection: Connection, deadlines: Deadlines) -> Io<T> {
        Io { transport, connection, deadlines, look: None, after: None }
    }

    /// Begins `after` once everything queued is on the wire.
    pub(crate) fn then(&mut self, after: After) {
        match &mut self.after {
            Some(before) => before.append(after),
            None => self.after = Some(Box::new(after)),
        }
    }

    /// Reads what has arrived, and counts it.
    #[inline]
    pub(crate) fn poll_read(&mut self, cx: &mut Context<'_>, service: &Service) -> Poll<io::Result<usize>> {
        let read = self.transport.poll_read(cx, self.connection.read_buffer_mut());
        if let Poll::Ready(Ok(n)) = read {
            service.counters().here().received(n);
        }
        read
    }

    /// Reads what has arrived without waiting, and counts it.
    pub(crate) fn try_read(&mut self, service: &Service) -> io::Result<usize> {
        let read = self.transport.try_read(self.connection.read_buffer_mut());
        if let Ok(n) = read {
            service.counters().here().received(n);
        }
        read
    }

    /// Writes what is queued, and counts it. Returns the number of bytes that the kernel took.
    #[inline]
    fn poll_write(&mut self, cx: &mut Context<'_>, service: &Service) -> (usize, Poll<io::Result<()>>) {
        let before = self.connection.write_queue().len();
        let written = self.transport.poll_write(cx, self.connection.write_queue_mut());
        let moved = before - self.connection.write_queue().len();
        service.counters().here().sent(moved);
        (moved, written)
    }

    /// Writes until the queue is empty, then begins the work that waited for this.
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
        if self.connection.write_queue().is_empty() {
            return Poll::Ready(Ok(()));
        }
        // Most writes are done at once and need no deadline.
        if self.is_waiting_to_write() {
            return self.poll_flush_by_deadline(cx, service);
        }
        match self.poll_write(cx, service).1 {
            Poll::Pending => self.poll_flush_by_deadline(cx, service),
            done => done,
        }
    }

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

    /// Reads more of a body, within the deadline of a body. `Ok(false)` is the end of the peer's side.
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

    /// Makes the current response the last, unless another request has arrived: a server that stops answers
    /// everything that has arrived.
    pub(crate) fn close_unless_more_came(&mut self, service: &Service) {
        if self.connection.is_body_pending() {
            return;
        }
        if self.connection.read_buffer().is_empty() && !matches!(self.try_read(service), Ok(n) if n > 0) {
            self.connection.close_after_this();
        }
    }

    /// Whether closing now might destroy what was sent. The last read may have found nothing because the peer sent more
    /// only while the response was written, so the system is asked once more.
    pub(crate) fn must_linger(&mut self, service: &Service) -> bool {
        if self.connection.must_linger() || self.connection.has_ended() {
            return self.connection.must_linger();
        }
        matches!(self.try_read(service), Ok(n) if n > 0)
    }

    /// Queues the answer that the connection gives in the application's place, and counts it.
    pub(crate) fn refuse(&mut self, error: Error, service: &Service) {
        service.counters().rejected(error.status());
        self.connection.refuse(error, service.clock.unix_seconds());
    }

    /// Gives back the memory that an idle connection does not need.
    pub(crate) fn release(&mut self) {
        self.connection.read_buffer_mut().release();
        self.connection.write_queue_mut().release();
        self.deadlines.release();
    }
}
