//! The steps that only move bytes: `Flush`, `Read` and `Linger`.

use std::io;
use std::task::{Context, Poll, ready};

use crate::conn::driver::Driving;
use crate::conn::driver::step::{AfterFlush, Flow, Step};
use crate::conn::lease::IoOwner;
use crate::conn::transport::Transport;
use crate::proto::error::Error;
use crate::runtime::stall::RouteName;

/// Bytes that the lingering close reads in one turn, before other connections run.
const MAX_LINGER_PER_TURN: u64 = 256 << 10;

impl<T: Transport> Driving<T> {
    /// Writes everything that is queued, then continues with `then`.
    #[inline]
    pub(super) fn poll_flush(&mut self, cx: &mut Context<'_>, then: AfterFlush) -> Poll<Flow> {
        let IoOwner::Own(io) = &mut self.io else { return Poll::Ready(Flow::Close) };
        let service = &self.service;
        if !service.threads_block() && self.turn.len() != 0 {
            self.since = service.runtime.stalls().polled(self.since, RouteName::current(), self.turn.len());
        }
        if ready!(io.poll_flush(cx, service)).is_err() {
            return Poll::Ready(Flow::Close);
        }
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
                if !matches!(io.transport.poll_shutdown(cx), Poll::Ready(Ok(()))) {
                    return Poll::Ready(Flow::Close);
                }
                io.begin_linger(service);
                self.step = Step::Linger;
            }
            AfterFlush::Close => return Poll::Ready(Flow::Close),
        }
        Poll::Ready(Flow::Go)
    }

    /// Reads bytes of a head or of an unread body. The write queue is empty. During a shutdown the step reads only the
    /// bytes that have arrived already.
    pub(super) fn poll_read(&mut self, cx: &mut Context<'_>) -> Poll<Flow> {
        let IoOwner::Own(io) = &mut self.io else { return Poll::Ready(Flow::Close) };
        let service = &self.service;
        if service.shutdown.is_requested() {
            return Poll::Ready(match io.try_read(service) {
                Ok(n) if n > 0 => {
                    io.end_wait_for_bytes();
                    self.step = Step::Next;
                    Flow::Go
                }
                _ => {
                    if io.connection.is_head_begun() {
                        service.was_refused();
                    }
                    Flow::Close
                }
            });
        }
        let read = match io.poll_read(cx, service) {
            Poll::Pending if !io.deadlines.is_waiting_for_bytes() => {
                // Only a connection that waits needs a deadline. It also releases its buffers.
                io.release();
                self.lease = None;
                if let Some(state) = self.state.as_ref().filter(|_| service.threads_block()) {
                    state.context.cancel.stop_peer_checks();
                }
                io.wait_for_bytes(service);
                ready!(io.poll_read(cx, service))
            }
            read => ready!(read),
        };
        io.end_wait_for_bytes();
        match read {
            Ok(0) => io.connection.received_end(),
            Ok(_) => {}
            Err(error) if error.kind() == io::ErrorKind::TimedOut && io.connection.is_head_begun() => {
                // A peer that has sent part of a head gets 408. A silent peer gets nothing, because it could take a
                // 408 for the response to its next request.
                io.refuse(Error::HeadTimeout, service);
                self.step = Step::Flush(AfterFlush::Close);
                return Poll::Ready(Flow::Go);
            }
            Err(_) => return Poll::Ready(Flow::Close),
        }
        self.step = Step::Next;
        Poll::Ready(Flow::Go)
    }

    /// Reads and drops what the peer still sends. Closing with unread bytes would reset the connection, and a reset can
    /// destroy the response before the peer has read it (RFC 9112, 9.6).
    pub(super) fn poll_linger(&mut self, cx: &mut Context<'_>) -> Poll<Flow> {
        let (IoOwner::Own(io), Some(state)) = (&mut self.io, &mut self.state) else {
            return Poll::Ready(Flow::Close);
        };
        let end_of_turn = state.linger.saturating_sub(MAX_LINGER_PER_TURN);
        loop {
            if state.linger < end_of_turn {
                if io.deadlines.is_linger_over(&self.service) {
                    return Poll::Ready(Flow::Close);
                }
                cx.waker().wake_by_ref();
                return Poll::Pending;
            }
            let read_buffer = &mut io.connection.read_buffer;
            read_buffer.discard(read_buffer.len());
            match ready!(io.poll_read(cx, &self.service)) {
                Ok(n) if n > 0 && state.linger > n as u64 => state.linger -= n as u64,
                _ => return Poll::Ready(Flow::Close),
            }
        }
    }
}
