//! The steps that only move bytes: `Flush`, `Read` and `Linger`.

use std::io;
use std::task::{Context, Poll, ready};

use crate::conn::deadlines::is_over;
use crate::conn::driver::Driving;
use crate::conn::driver::step::{AfterFlush, Step};
use crate::conn::io::{Closed, refusal};
use crate::conn::lease::IoOwner;
use crate::conn::transport::Transport;
use crate::proto::error::Error;
use crate::runtime::stall::RouteName;

/// Maximum number of bytes that the lingering close reads and drops. The limit is high because some peers read the
/// response only after they have sent everything. `Config::linger` limits the time.
const MAX_LINGER: u64 = 64 << 20;

impl<T: Transport> Driving<T> {
    /// Writes everything that is queued, then continues with `then`.
    #[inline]
    pub(super) fn poll_flush(&mut self, cx: &mut Context<'_>, then: AfterFlush) -> Poll<Result<(), Closed>> {
        let IoOwner::Own(io) = &mut self.io else { return Poll::Ready(Err(Closed)) };
        let service = &self.service;
        // Only sync handlers, which were called in this turn, are not timed yet.
        if !service.threads_block() && self.turn.answered > self.turn.timed {
            let handlers = self.turn.answered - self.turn.timed;
            self.turn.timed = self.turn.answered;
            let (now, route) = (service.clock.coarse(), RouteName::current());
            self.since = service.runtime.stalls().polled(self.since, now, route, handlers);
        }
        ready!(io.poll_flush(cx, service))?;
        self.turn.settle(service.counters());
        match then {
            AfterFlush::Next => self.step = Step::Next,
            AfterFlush::Read => self.step = Step::Read,
            AfterFlush::Yield => {
                self.step = Step::Next;
                cx.waker().wake_by_ref();
                return Poll::Pending;
            }
            AfterFlush::Close if io.must_linger(service) => {
                io.announce_end(cx);
                if !matches!(io.transport.poll_shutdown(cx), Poll::Ready(Ok(()))) {
                    return Poll::Ready(Err(Closed));
                }
                io.begin_linger(service);
                self.step = Step::Linger(MAX_LINGER);
            }
            AfterFlush::Close => return Poll::Ready(Err(Closed)),
        }
        Poll::Ready(Ok(()))
    }

    /// Reads bytes of a head, or of a body that its handler left unread. The write queue is empty.
    ///
    /// During a shutdown a connection that was served reads only the bytes that have arrived, unless
    /// [`Config::drain_idle`](crate::Config::drain_idle) lets it wait. A connection still waits for the rest of a head,
    /// and a new connection for its first head, because its peer has no response yet.
    pub(super) fn poll_read(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Closed>> {
        let (IoOwner::Own(io), Some(state)) = (&mut self.io, &self.state) else {
            return Poll::Ready(Err(Closed));
        };
        let service = &self.service;
        if service.closes_idle() && state.served > 0 && !io.connection.is_head_begun() {
            if !matches!(io.try_read(service), Ok(n) if n > 0) {
                if !io.connection.is_body_pending() {
                    return Poll::Ready(Err(Closed));
                }
                // The peer still sends the body, so the close lingers.
                io.connection.close_after_this();
            }
            io.end_wait_for_bytes();
            self.step = Step::Next;
            return Poll::Ready(Ok(()));
        }
        if io.connection.is_body_pending() {
            io.begin_drain();
            let read = io.poll_read_body(cx, service);
            if read.is_pending() {
                io.release_buffers();
            }
            self.step = match ready!(read) {
                // The peer may still be sending, and may not have read the response, so the close lingers.
                Err(error) if error.kind() == io::ErrorKind::TimedOut => {
                    io.connection.close_after_this();
                    Step::Next
                }
                read => read.map(|()| Step::Next)?,
            };
            return Poll::Ready(Ok(()));
        }
        let read = match io.poll_read(cx, service) {
            Poll::Pending if io.deadlines.bytes.is_none() => {
                // Only a connection that waits needs a deadline. It also releases its buffers.
                io.release();
                self.lease = None;
                if service.threads_block() {
                    state.context.cancel.check_peer_by(None);
                }
                io.wait_for_head(service);
                ready!(io.poll_read(cx, service))
            }
            read => ready!(read),
        };
        io.end_wait_for_bytes();
        self.step = match read {
            // A peer that has sent part of a head gets 408. A silent peer gets nothing, because it could take a 408 for
            // the response to its next request.
            Err(error) if error.kind() == io::ErrorKind::TimedOut && io.connection.is_head_begun() => {
                if service.shutdown.is_requested() {
                    service.was_refused();
                }
                io.refuse(Error::HeadTimeout, service);
                Step::Flush(AfterFlush::Close)
            }
            Err(error) if error.kind() == io::ErrorKind::InvalidData => {
                match refusal(&error) {
                    Some(refusal) => io.refuse(refusal, service),
                    None => io.connection.close_unread(),
                }
                Step::Flush(AfterFlush::Close)
            }
            read => read.map(|_| Step::Next)?,
        };
        Poll::Ready(Ok(()))
    }

    /// Reads and drops what the peer still sends. Closing with unread bytes would reset the connection, and a reset can
    /// destroy the response before the peer has read it (RFC 9112, 9.6).
    pub(super) fn poll_linger(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Closed>> {
        let (IoOwner::Own(io), Step::Linger(left)) = (&mut self.io, &mut self.step) else {
            return Poll::Ready(Err(Closed));
        };
        loop {
            let read_buffer = &mut io.connection.read_buffer;
            read_buffer.discard(read_buffer.len());
            match io.poll_read_on(cx, &self.service) {
                // At the end of a turn, the transport has not judged the deadline.
                Poll::Pending if !is_over(io.deadlines.bytes, &self.service) => return Poll::Pending,
                Poll::Ready(Ok(n)) if n > 0 && *left > n as u64 => *left -= n as u64,
                _ => return Poll::Ready(Err(Closed)),
            }
        }
    }
}
