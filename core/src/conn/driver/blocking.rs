//! The step that only blocking backends have: `Prepare`.
//!
//! On a blocking backend a request holds its thread from the call of the handler until the response. This step runs
//! before the call and holds no thread.

use std::io;
use std::task::{Context, Poll, ready};

use crate::conn::driver::Driving;
use crate::conn::driver::step::Step;
use crate::conn::io::Closed;
use crate::conn::lease::IoOwner;
use crate::conn::transport::Transport;
use crate::proto::connection::{Buffered, Connection};
use crate::proto::request::Request;

/// Whether the body has at most `limit` bytes and is incomplete. The body of a request with `Expect: 100-continue` is
/// not buffered, because the peer waits for the decision of the handler.
fn must_buffer(connection: &Connection, limit: usize) -> bool {
    limit > 0
        && connection.is_body_pending()
        && connection.body_remaining().is_none_or(|len| len <= limit as u64)
        && !connection.awaits_continue()
}

impl<T: Transport> Driving<T> {
    /// Handles a request whose head has arrived. If the peer may have left while the request waited for a thread, the
    /// peer is probed first. A small body is buffered. Then the handler is called.
    pub(super) fn receive_for_thread(&mut self, request: Request) -> Result<(), Closed> {
        let (IoOwner::Own(io), service) = (&mut self.io, &self.service) else { return Err(Closed) };
        let probe = io.probe_after_long_wait(service)?;
        if probe.is_some() || must_buffer(&io.connection, service.config.body_buffer) {
            self.turn.settle(service.counters());
            io.forget_body_waits();
            self.step = Step::Prepare(request, probe);
        } else {
            self.begin(request);
        }
        Ok(())
    }

    /// Waits for the reply to a probe, then reads a small body. A body that fails is delivered to the handler with its
    /// error.
    pub(super) fn poll_prepare(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Closed>> {
        let (IoOwner::Own(io), Step::Prepare(request, probe)) = (&mut self.io, &mut self.step) else {
            return Poll::Ready(Err(Closed));
        };
        let (service, limit) = (&self.service, self.service.config.body_buffer);
        if let Some(timer) = probe {
            let _ = io.poll_flush(cx, service)?;
            ready!(timer.as_mut().poll(cx));
            if io.has_left() {
                return Poll::Ready(Err(Closed));
            }
            *probe = None;
        }
        while must_buffer(&io.connection, limit) {
            match io.connection.buffer_body(limit) {
                Buffered::Whole(body) => {
                    request.inner_mut().body = body;
                    break;
                }
                Buffered::Partial => break,
                Buffered::NeedBytes => {}
            }
            // The peer may wait for responses to earlier requests before it sends the body.
            let _ = io.poll_flush(cx, service)?;
            match ready!(io.poll_read_body(cx, service)) {
                Err(error) if error.kind() == io::ErrorKind::TimedOut => {
                    io.connection.time_out_body();
                    break;
                }
                read => read?,
            }
        }
        io.stop_waiting_for_body();
        if let Step::Prepare(request, _) = std::mem::replace(&mut self.step, Step::Next) {
            self.begin(request);
        }
        Poll::Ready(Ok(()))
    }
}
