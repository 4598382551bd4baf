//! The steps that only blocking backends have: `AwaitProbe` and `BufferBody`.
//!
//! On a blocking backend a request holds its thread from the call of the handler until the response. These steps run
//! before the call and hold no thread.

use std::io;
use std::task::{Context, Poll, ready};

use crate::conn::driver::Driving;
use crate::conn::driver::step::{AfterFlush, Flow, Step};
use crate::conn::lease::IoOwner;
use crate::conn::transport::Transport;
use crate::proto::connection::Buffered;
use crate::proto::request::Request;

impl<T: Transport> Driving<T> {
    /// Handles a request whose head has arrived. If the peer may have left while the request waited for a thread, the
    /// peer is probed first.
    pub(super) fn receive_for_thread(&mut self, request: Request) {
        let IoOwner::Own(io) = &mut self.io else { return };
        match io.probe_after_long_wait(&self.service) {
            Ok(None) => self.buffer_or_begin(request),
            Ok(Some(timer)) => self.step = Step::AwaitProbe(request, timer),
            Err(_) => {
                io.connection.close();
                self.step = Step::Flush(AfterFlush::Close);
            }
        }
    }

    /// Waits for the time in which the system of a closed peer answers the probe with a reset.
    pub(super) fn poll_await_probe(&mut self, cx: &mut Context<'_>) -> Poll<Flow> {
        let (IoOwner::Own(io), Step::AwaitProbe(_, timer)) = (&mut self.io, &mut self.step) else {
            return Poll::Ready(Flow::Close);
        };
        if matches!(io.poll_flush(cx, &self.service), Poll::Ready(Err(_))) {
            return Poll::Ready(Flow::Close);
        }
        ready!(timer.as_mut().poll(cx));
        if io.has_left() {
            return Poll::Ready(Flow::Close);
        }
        if let Step::AwaitProbe(request, _) = std::mem::replace(&mut self.step, Step::Next) {
            self.buffer_or_begin(request);
        }
        Poll::Ready(Flow::Go)
    }

    /// Buffers the body if it is small, otherwise calls the handler. The body of a request with `Expect: 100-continue`
    /// is not buffered, because the peer waits for the decision of the handler.
    fn buffer_or_begin(&mut self, request: Request) {
        let IoOwner::Own(io) = &mut self.io else { return };
        let (connection, limit) = (&io.connection, self.service.config.body_buffer);
        let is_small = connection.body_remaining().is_none_or(|len| len <= limit as u64);
        if limit > 0 && connection.is_body_pending() && is_small && !connection.awaits_continue() {
            self.turn.settle(self.service.counters());
            self.step = Step::BufferBody(request);
        } else {
            self.begin(request);
        }
    }

    /// Reads a small body up to `Config::body_buffer`. A body that fails is delivered to the handler with its error.
    pub(super) fn poll_buffer_body(&mut self, cx: &mut Context<'_>) -> Poll<Flow> {
        let (IoOwner::Own(io), Step::BufferBody(request)) = (&mut self.io, &mut self.step) else {
            return Poll::Ready(Flow::Close);
        };
        let service = &self.service;
        loop {
            match io.connection.buffer_body(service.config.body_buffer) {
                Buffered::Whole(body) => {
                    request.inner_mut().body = body;
                    break;
                }
                Buffered::Partial => break,
                Buffered::NeedBytes => {}
            }
            // The peer may wait for responses to earlier requests before it sends the body.
            if matches!(io.poll_flush(cx, service), Poll::Ready(Err(_))) {
                return Poll::Ready(Flow::Close);
            }
            match ready!(io.poll_read_body(cx, service)) {
                Ok(_) => {}
                Err(error) if error.kind() == io::ErrorKind::TimedOut => {
                    io.connection.time_out_body();
                    break;
                }
                Err(_) => return Poll::Ready(Flow::Close),
            }
        }
        io.stop_waiting_for_body();
        if let Step::BufferBody(request) = std::mem::replace(&mut self.step, Step::Next) {
            self.begin(request);
        }
        Poll::Ready(Flow::Go)
    }
}
