//! The steps that move bytes: `Flush`, `Read` and `Linger`.

use std::io;
use std::task::{Context, Poll, ready};

use crate::conn::driver::Driving;
use crate::conn::driver::step::{Flow, Step, Then};
use crate::conn::lease::IoOwner;
use crate::conn::transport::Transport;
use crate::proto::error::Error;
use crate::runtime::stall::RouteName;

/// How much of that is read before other connections have their turn.
const LINGER_A_TURN: u64 = 256 << 10;

impl<T: Transport> Driving<T> {
    #[inline]
    pub(super) fn poll_flush(&mut self, cx: &mut Context<'_>, then: Then) -> Poll<Flow> {
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
            Then::Next => self.step = Step::Next,
            Then::Read => self.step = Step::Read,
            Then::Yield => {
                self.step = Step::Next;
                cx.waker().wake_by_ref();
                return Poll::Pending;
            }
            Then::Close if io.must_linger(service) => {
                if !matches!(io.transport.poll_shutdown(cx), Poll::Ready(Ok(()))) {
                    return Poll::Ready(Flow::Close);
                }
                io.begin_linger(service);
                self.step = Step::Linger;
            }
            Then::Close => return Poll::Ready(Flow::Close),
        }
        Poll::Ready(Flow::Go)
    }

    /// Waits for bytes, mostly those of a head. Nothing waits to be sent.
    pub(super) fn poll_read(&mut self, cx: &mut Context<'_>) -> Poll<Flow> {
        let IoOwner::Own(io) = &mut self.io else { return Poll::Ready(Flow::Close) };
        let service = &self.service;
        if service.shutdown.is_requested() {
            // What has arrived is still answered. What has not arrived is not waited for.
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
                // The first read found nothing: a wait begins, and gets a deadline.
                io.release();
                self.lease = None;
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
                // Part of a head has arrived. A peer that sent nothing is not sent what it could take for an answer.
                io.refuse(Error::HeadTimeout, service);
                self.step = Step::Flush(Then::Close);
                return Poll::Ready(Flow::Go);
            }
            Err(_) => return Poll::Ready(Flow::Close),
        }
        self.step = Step::Next;
        Poll::Ready(Flow::Go)
    }

    /// Reads and drops what a refused peer still sends, so that closing does not destroy the refusal (RFC 9112, 9.6).
    pub(super) fn poll_linger(&mut self, cx: &mut Context<'_>) -> Poll<Flow> {
        let (IoOwner::Own(io), Some(state)) = (&mut self.io, &mut self.state) else {
            return Poll::Ready(Flow::Close);
        };
        let pause = state.linger.saturating_sub(LINGER_A_TURN);
        loop {
            if state.linger < pause {
                if io.deadlines.is_linger_over(&self.service) {
                    return Poll::Ready(Flow::Close);
                }
                cx.waker().wake_by_ref();
                return Poll::Pending;
            }
            let read_buffer = io.connection.read_buffer_mut();
            read_buffer.discard(read_buffer.len());
            match ready!(io.poll_read(cx, &self.service)) {
                Ok(n) if n > 0 && state.linger > n as u64 => state.linger -= n as u64,
                _ => return Poll::Ready(Flow::Close),
            }
        }
    }
}
