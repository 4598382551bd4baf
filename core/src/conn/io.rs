//! The transport, the HTTP/1.1 state and the deadlines of one connection.
//!
//! [`Io`] keeps the three together, so that the driver can lend all of them to a request body. Its methods read and
//! write within the [`deadlines`](super::deadlines), count the bytes, and queue responses with their records for the
//! access log. They end the turn of a connection that moves many bytes, so that the other connections of the thread
//! run.

use std::io;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http::{HeaderMap, StatusCode};

use crate::conn::access::AccessLog;
use crate::conn::after::After;
use crate::conn::client::Origin;
use crate::conn::deadlines::Deadlines;
use crate::conn::liveness::PeerCheck;
use crate::conn::service::Service;
use crate::conn::transport::Transport;
use crate::proto::connection::{Connection, WrongLength};
use crate::proto::error::Error;
use crate::proto::response::Response;
use crate::runtime::stall::RouteName;

/// The number of bytes after which a connection ends its turn, so that other connections run: bytes that it writes, and
/// bytes of a body or of a lingering close that it reads. The last write or read of a turn may exceed the number. The
/// stream of an upgraded connection has the same number in each direction.
pub(crate) const MAX_PER_TURN: usize = 512 << 10;

/// The connection has ended, or must be closed without a flush.
pub(crate) struct Closed;

impl From<io::Error> for Closed {
    fn from(_: io::Error) -> Closed {
        Closed
    }
}

/// Whether a read or a write with this error ends the connection.
fn is_failure(error: &io::Error) -> bool {
    use io::ErrorKind::{Interrupted, TimedOut, WouldBlock};
    !matches!(error.kind(), Interrupted | TimedOut | WouldBlock) && refusal(error).is_none()
}

/// The reason to refuse the peer, which the transport has found.
pub(crate) fn refusal(error: &io::Error) -> Option<Error> {
    error.get_ref()?.downcast_ref().copied()
}

/// See the [module](self).
pub(crate) struct Io<T> {
    pub(crate) transport: T,
    pub(crate) connection: Connection,
    pub(crate) deadlines: Deadlines,
    /// Whether a handler that may read the body was called and has not responded.
    pub(crate) has_body_reader: bool,
    /// Whether the body of the response that is sent holds the thread of this connection, if threads block.
    pub(crate) body_holds_thread: bool,
    /// Whether a read or a write has failed, the deadline of a write has passed, or the system has recorded an error:
    /// the peer has left, or counts as having left. The system reports an error once, to a task that reads the body, to
    /// a cancel token or to a flush; the others learn it here.
    pub(crate) has_failed: bool,
    /// Whether a response was cut short.
    pub(crate) is_cut: bool,
    /// The timer of the next liveness check, while a handler or a streamed body is pending.
    pub(crate) peer_check: Option<Box<PeerCheck>>,
    /// Tasks that begin once the write queue is empty.
    after: Option<Box<After>>,
    /// The records of the requests, if the settings ask for an access log or histograms.
    pub(crate) access: Option<Box<AccessLog>>,
    /// The number of bytes that were written since the last turn ended, or since the connection last waited for a head.
    written: usize,
    /// The number of bytes that [`Io::poll_read_on`] has read since then.
    read: usize,
    /// Whether the last flush is pending because of [`MAX_PER_TURN`].
    pub(crate) has_yielded: bool,
}

impl<T: Transport> Io<T> {
    /// Creates the state of a connection that was accepted now.
    pub(crate) fn new(transport: T, origin: &Origin, service: &Service) -> Io<T> {
        Io {
            transport,
            connection: service.new_connection(),
            deadlines: Deadlines::accepted(service),
            has_body_reader: false,
            body_holds_thread: false,
            has_failed: false,
            is_cut: false,
            peer_check: None,
            after: None,
            access: AccessLog::new(origin, service),
            written: 0,
            read: 0,
            has_yielded: false,
        }
    }

    /// Begins the tasks of `after` once the write queue is empty.
    pub(crate) fn spawn_after_flush(&mut self, mut after: After) {
        match &mut self.after {
            Some(before) => before.tasks.append(&mut after.tasks),
            None if after.tasks.is_empty() => {}
            None => self.after = Some(Box::new(after)),
        }
    }

    /// Reads into the read buffer, see [`Transport::poll_read`].
    #[inline]
    pub(crate) fn poll_read(&mut self, cx: &mut Context<'_>, service: &Service) -> Poll<io::Result<usize>> {
        let read = self.transport.poll_read(cx, &mut self.connection.read_buffer);
        read.map(|read| self.received(read, service))
    }

    /// Reads into the read buffer without a wait, see [`Transport::try_read`].
    pub(crate) fn try_read(&mut self, service: &Service) -> io::Result<usize> {
        let read = self.transport.try_read(&mut self.connection.read_buffer);
        self.received(read, service)
    }

    /// Records the result of a read.
    #[inline]
    fn received(&mut self, read: io::Result<usize>, service: &Service) -> io::Result<usize> {
        match read {
            Ok(0) => self.connection.received_end(),
            Ok(n) => service.counters().here().received(n),
            Err(ref error) => self.has_failed |= is_failure(error),
        }
        read
    }

    /// Writes until the write queue is empty, within the deadline of a write, then begins the tasks that were added by
    /// [`Io::spawn_after_flush`]. Nothing is written after an error, also that of the deadline. The flush is also
    /// pending at the end of a turn, see [`Io::has_yielded`].
    #[inline]
    pub(crate) fn poll_flush(&mut self, cx: &mut Context<'_>, service: &Service) -> Poll<io::Result<()>> {
        self.has_yielded = false;
        if self.has_failed && !self.connection.write_queue.is_empty() {
            return Poll::Ready(Err(io::ErrorKind::BrokenPipe.into()));
        }
        while !self.connection.write_queue.is_empty() {
            if self.written >= MAX_PER_TURN {
                self.written = 0;
                self.has_yielded = true;
                cx.waker().wake_by_ref();
                return Poll::Pending;
            }
            match self.transport.poll_write(cx, &mut self.connection.write_queue) {
                Poll::Ready(Ok(n)) => {
                    self.written += n;
                    service.counters().here().sent(n);
                    if let Some(access) = &mut self.access {
                        access.sent(n);
                    }
                    self.wrote(n, service);
                }
                // Most writes succeed at once and need no deadline.
                Poll::Pending if self.deadlines.writing().is_none() => self.wait_to_write(service),
                Poll::Pending if self.deadlines.is_writing_used_up() => {
                    self.has_failed = true;
                    return Poll::Ready(Err(io::ErrorKind::TimedOut.into()));
                }
                Poll::Pending => return Poll::Pending,
                Poll::Ready(Err(error)) if self.is_early(&error, self.deadlines.writing(), service) => {
                    self.wait_to_write(service);
                }
                Poll::Ready(Err(error)) => {
                    self.has_failed = true;
                    return Poll::Ready(Err(error));
                }
            }
        }
        self.flushed();
        self.after = None;
        Poll::Ready(Ok(()))
    }

    /// Reads like [`Io::poll_read`], for reads that a peer which sends without a pause could continue without end. The
    /// read is pending at the end of a turn.
    pub(crate) fn poll_read_on(
        &mut self,
        cx: &mut Context<'_>,
        service: &Service,
    ) -> Poll<io::Result<usize>> {
        if self.read >= MAX_PER_TURN {
            self.read = 0;
            cx.waker().wake_by_ref();
            return Poll::Pending;
        }
        let read = self.poll_read(cx, service);
        if let Poll::Ready(Ok(n)) = &read {
            self.read += n;
        }
        read
    }

    /// Reads more of a body, within the deadline of a body.
    pub(crate) fn poll_read_body(&mut self, cx: &mut Context<'_>, service: &Service) -> Poll<io::Result<()>> {
        loop {
            self.wait_for_body(service);
            let read = match self.poll_read_on(cx, service) {
                Poll::Pending if self.deadlines.is_reading_used_up() => Err(io::ErrorKind::TimedOut.into()),
                read => ready!(read),
            };
            if matches!(&read, Err(error) if self.is_early(error, self.deadlines.reading(), service)) {
                continue;
            }
            self.read_body(*read.as_ref().unwrap_or(&0), service);
            return Poll::Ready(read.map(drop));
        }
    }

    /// Makes the current response the last of the connection, unless bytes of another request have arrived. A server
    /// that stops, or keeps no idle connection, answers the requests that have arrived. It does not wait for the rest
    /// of an unread body.
    pub(crate) fn close_unless_more_came(&mut self, service: &Service) {
        let has_more = self.connection.has_more()
            || (!self.connection.is_body_pending()
                && matches!(self.try_read(service), Ok(n) if n > 0)
                && self.connection.has_more());
        if !has_more {
            self.connection.close_after_this();
        }
    }

    /// Returns whether the connection needs a lingering close (RFC 9112, 9.6). Bytes may have arrived while the
    /// response was written, so this reads once more.
    pub(crate) fn must_linger(&mut self, service: &Service) -> bool {
        self.connection.must_linger()
            || (!self.connection.has_ended() && matches!(self.try_read(service), Ok(n) if n > 0))
    }

    /// Tells the peer that the connection ends in order, see [`Transport::announce_end`], if all responses were sent as
    /// a whole.
    pub(crate) fn announce_end(&mut self, cx: &mut Context<'_>) {
        let is_whole =
            !self.is_cut && self.connection.write_queue.is_empty() && !self.connection.is_response_begun();
        if is_whole && !self.has_failed {
            self.transport.announce_end(cx);
        }
    }

    /// Frees the memory that a connection without an exchange does not need, because it waits for bytes.
    pub(crate) fn release(&mut self) {
        self.release_buffers();
        self.deadlines.release();
        (self.written, self.read) = (0, 0);
    }

    /// Returns the empty buffers to the pool of the thread.
    pub(crate) fn release_buffers(&mut self) {
        self.connection.read_buffer.release();
        self.connection.write_queue.release();
    }
}

/// The responses, each with its record for the access log. Nothing else queues a response.
impl<T> Io<T> {
    /// Queues a complete response, see [`Connection::respond_whole`].
    #[inline(always)]
    pub(crate) fn respond_whole(&mut self, response: &mut Response, seconds: u64) {
        match self.access {
            None => _ = self.connection.respond_whole(response, seconds),
            Some(_) => self.respond_whole_recorded(response, seconds),
        }
    }

    #[cold]
    fn respond_whole_recorded(&mut self, response: &mut Response, seconds: u64) {
        let before = self.connection.write_queue.len();
        let body = self.connection.respond_whole(response, seconds);
        self.record(response.status, before, Some(body));
    }

    /// Queues the head of a response, see [`Connection::respond`]. `length` is the length of the body, if it is known.
    pub(crate) fn respond(&mut self, response: &Response, length: Option<u64>, seconds: u64) -> bool {
        let before = self.connection.write_queue.len();
        let expects_body = self.connection.respond(response.status, &response.fields, length, seconds);
        self.record(response.status, before, None);
        expects_body
    }

    /// Queues a piece of the response body, see [`Connection::send`].
    pub(crate) fn send(&mut self, piece: Bytes) -> Result<(), WrongLength> {
        let len = piece.len() as u64;
        self.connection.send(piece)?;
        if let Some(access) = &mut self.access {
            let is_whole = self.connection.is_response_whole();
            access.queued(len, self.connection.write_queue.len(), is_whole);
        }
        Ok(())
    }

    /// Ends the response, see [`Connection::finish`].
    pub(crate) fn finish(&mut self) -> Result<(), WrongLength> {
        self.connection.finish()?;
        self.finished();
        Ok(())
    }

    /// Ends the response with trailers, see [`Connection::finish_with_trailers`].
    pub(crate) fn finish_with_trailers(&mut self, trailers: &HeaderMap) -> Result<(), WrongLength> {
        self.connection.finish_with_trailers(trailers)?;
        self.finished();
        Ok(())
    }

    fn finished(&mut self) {
        if let Some(access) = &mut self.access {
            access.queued(0, self.connection.write_queue.len(), true);
            // The end of a body may be found after its last byte was sent.
            access.sent(0);
        }
    }

    /// Queues the head of an upgrade, see [`Connection::switch`].
    pub(crate) fn switch(&mut self, response: &Response, seconds: u64) {
        let before = self.connection.write_queue.len();
        self.connection.switch(response.status, &response.fields, seconds);
        self.record(response.status, before, Some(0));
    }

    /// Queues the response to a request that is refused before the application sees it.
    pub(crate) fn refuse(&mut self, error: Error, service: &Service) {
        service.counters().rejected(error.status());
        if let Some(access) = &mut self.access {
            access.begin(self.connection.rejected_request());
            RouteName::NONE.enter();
        }
        let before = self.connection.write_queue.len();
        if let Some(body) = self.connection.refuse(error, service.clock.unix_seconds()) {
            self.record(error.status(), before, Some(body));
        }
    }

    /// Records a response whose head was queued. `before` is the length of the write queue before that. `body` is the
    /// number of bytes of its body, if the response is complete.
    fn record(&mut self, status: StatusCode, before: usize, body: Option<u64>) {
        let Some(access) = &mut self.access else { return };
        access.responds(status, before);
        if let Some(body) = body {
            access.queued(body, self.connection.write_queue.len(), true);
        }
    }
}
