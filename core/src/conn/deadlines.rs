//! The deadlines of a connection.
//!
//! A connection may wait for several things at once: for bytes of a body, for the peer to receive a response, for a
//! handler. A transport has only one deadline, so it is given the earliest of them. If the transport reports `TimedOut`
//! to a wait whose own deadline is later, the wait continues.
//!
//! | wait | setting | after the deadline |
//! | --- | --- | --- |
//! | the first head, and a head of which a part has arrived | `header_timeout` | 408, or no response if no byte has arrived; the connection closes |
//! | the next head, before its first byte | `keep_alive` | the connection closes |
//! | bytes of a body | `body_timeout`, `min_rate` | the body fails with `BodyError::TimedOut`, which is a 408 if the handler returns it |
//! | the rest of a body before an upgrade | `body_timeout`, `min_rate` | 408; the connection closes |
//! | the rest of a body that its handler left unread | `body_timeout` | the connection closes |
//! | the peer receives bytes of a response | `write_timeout`, `min_rate` | the connection closes |
//! | the handler's response begins | `handler_timeout` | 503; the connection closes. A handler that was detached is dropped |
//! | the lingering close | `linger` | the connection closes |
//!
//! A process that was stopped notices deadlines late. Bytes that have arrived by then are read, and room to write is used,
//! before a deadline is judged: see [`Transport`]. A handler gets the time for which the process did not run again.

use std::io;
use std::time::{Duration, Instant};

use crate::conn::io::Io;
use crate::conn::min_rate::MinRate;
use crate::conn::service::Service;
use crate::conn::transport::Transport;
use crate::runtime::clock::after;

/// If a deadline is noticed this late, the process did not run when it passed: the process was stopped, or an event loop
/// was stalled. The sweeps of the reactor are less late.
const DID_NOT_RUN: Duration = Duration::from_secs(1);

/// See the [module](self). The deadline of a wait that has not begun is `None`.
#[derive(Debug, Default)]
pub(crate) struct Deadlines {
    /// Deadline of the head that the connection waits for: of the first one since the accept, of a later one since its
    /// first byte.
    head: Option<Instant>,
    /// Deadline of the current wait for bytes: of a head, of an unread body, or during the lingering close.
    pub(crate) bytes: Option<Instant>,
    /// Deadline of the handler's response, once the handler's future was pending.
    pub(crate) handler: Option<Instant>,
    /// The waits for the peer in the current exchange. Boxed, because an idle connection has none.
    rates: Option<Box<Rates>>,
}

/// The waits for the peer in one exchange.
#[derive(Debug, Default)]
struct Rates {
    /// The waits of the current flush.
    writing: MinRate,
    /// The waits for the request's body.
    reading: MinRate,
}

impl Deadlines {
    /// Creates the deadlines of a connection that was accepted now.
    pub(crate) fn accepted(service: &Service) -> Deadlines {
        let head = Some(deadline_in(service, service.config.header_timeout));
        Deadlines { head, ..Deadlines::default() }
    }

    /// Returns the deadline for the transport.
    fn earliest(&self) -> Option<Instant> {
        [self.bytes, self.handler, self.writing(), self.reading()].into_iter().flatten().min()
    }

    /// Deadline of the wait for the peer to receive bytes.
    #[inline]
    pub(crate) fn writing(&self) -> Option<Instant> {
        self.rates.as_ref()?.writing.deadline()
    }

    /// Deadline of the wait for bytes of a body.
    #[inline]
    pub(crate) fn reading(&self) -> Option<Instant> {
        self.rates.as_ref()?.reading.deadline()
    }

    fn rates(&mut self) -> &mut Rates {
        self.rates.get_or_insert_default()
    }

    /// Frees the memory that an idle connection does not need.
    pub(crate) fn release(&mut self) {
        self.rates = None;
    }
}

/// Returns the time after `timeout` from now.
fn deadline_in(service: &Service, timeout: Duration) -> Instant {
    after(service.clock.now(), timeout)
}

/// Whether there is a deadline, and it has passed.
pub(crate) fn is_over(deadline: Option<Instant>, service: &Service) -> bool {
    deadline.is_some_and(|at| at <= service.clock.now())
}

impl<T: Transport> Io<T> {
    /// Passes the earliest deadline to the transport.
    fn arm(&mut self) {
        self.transport.set_deadline(self.deadlines.earliest());
    }

    /// Returns whether `error` reports another deadline than `at`, which is later or absent. The transport then gets
    /// the deadline `at`, so that the caller can continue its wait.
    pub(crate) fn is_early(&mut self, error: &io::Error, at: Option<Instant>, service: &Service) -> bool {
        let early = error.kind() == io::ErrorKind::TimedOut && !is_over(at, service);
        if early {
            self.transport.set_deadline(at);
        }
        early
    }

    /// Begins a wait for a head or for the rest of an unread body.
    pub(crate) fn wait_for_bytes(&mut self, service: &Service) {
        let (config, deadlines) = (&service.config, &mut self.deadlines);
        deadlines.bytes = Some(if self.connection.is_body_pending() {
            deadline_in(service, config.body_timeout)
        } else if self.connection.is_idle() && deadlines.head.is_none() {
            deadline_in(service, config.keep_alive)
        } else {
            *deadlines.head.get_or_insert_with(|| deadline_in(service, config.header_timeout))
        });
        self.arm();
    }

    /// Begins the lingering close.
    pub(crate) fn begin_linger(&mut self, service: &Service) {
        self.deadlines.bytes = Some(deadline_in(service, service.config.linger));
        self.arm();
    }

    /// Ends the current wait for bytes, if there is one.
    pub(crate) fn end_wait_for_bytes(&mut self) {
        if self.deadlines.bytes.take().is_some() {
            self.arm();
        }
    }

    /// Begins a wait for the peer to receive bytes, unless there is one.
    pub(crate) fn wait_to_write(&mut self, service: &Service) {
        if self.deadlines.writing().is_none() {
            let (config, now) = (&service.config, service.clock.now());
            self.deadlines.rates().writing.wait(now, config.write_timeout, config.min_rate);
            self.arm();
        }
    }

    /// Whether a handler holds the thread of this connection, if threads block.
    fn holds_thread(&self) -> bool {
        self.deadlines.handler.is_some() || self.has_body_reader
    }

    /// Records that `bytes` bytes were written, which ends the wait of the flush.
    pub(crate) fn wrote(&mut self, bytes: usize, service: &Service) {
        let end = service.moved_at(self.holds_thread());
        self.deadlines.rates().writing.moved(end, bytes);
    }

    /// Ends the flush: the write queue is empty.
    pub(crate) fn flushed(&mut self) {
        self.deadlines.rates().writing = MinRate::default();
        self.arm();
    }

    /// Begins a wait for bytes of a body, unless there is one.
    pub(crate) fn wait_for_body(&mut self, service: &Service) {
        if self.deadlines.reading().is_none() {
            let (config, now) = (&service.config, service.clock.now());
            self.deadlines.rates().reading.wait(now, config.body_timeout, config.min_rate);
            self.arm();
        }
    }

    /// Records that `bytes` bytes of a body were read, which ends the wait. The handler's time starts again.
    pub(crate) fn read_body(&mut self, bytes: usize, service: &Service) {
        let end = service.moved_at(self.holds_thread());
        self.deadlines.rates().reading.moved(end, bytes);
        self.restart_handler(service);
        self.arm();
    }

    /// Ends the wait for the request's body, if there is one.
    pub(crate) fn stop_waiting_for_body(&mut self) {
        if self.deadlines.reading().is_some() {
            self.deadlines.rates().reading = MinRate::default();
            self.arm();
        }
    }

    /// Resets the deadlines for a handler that is about to be called: the head is complete.
    #[inline(always)]
    pub(crate) fn handler_begins(&mut self) {
        self.deadlines.head = None;
        if let Some(rates) = &mut self.deadlines.rates {
            rates.reading = MinRate::default();
        }
        // A streamed response leaves its liveness check, and a handler that panicked leaves its deadline.
        if self.deadlines.handler.is_some() || self.peer_check.is_some() {
            self.handler_ends();
        }
    }

    /// Records that the handler's future is pending. The first call starts the handler's time.
    pub(crate) fn handler_waits(&mut self, service: &Service) {
        if self.deadlines.handler.is_none() {
            self.deadlines.handler = Some(deadline_in(service, service.config.handler_timeout));
            self.arm();
        }
    }

    /// Starts the handler's time again, if there is a handler.
    fn restart_handler(&mut self, service: &Service) {
        if let Some(handler) = &mut self.deadlines.handler {
            *handler = deadline_in(service, service.config.handler_timeout);
        }
    }

    /// Whether the handler's deadline has passed. While the handler waits for the request's body, only the deadline of
    /// the body applies, and the handler's time starts again. The wait ends with that deadline, because a handler that
    /// has given it up does not read any more. If the process did not run at the deadline, the handler
    /// did not run either, and gets that time again.
    pub(crate) fn is_handler_late(&mut self, service: &Service) -> bool {
        let reading = self.deadlines.reading();
        if reading.is_some() && !is_over(reading, service) {
            self.restart_handler(service);
            return false;
        }
        let (Some(deadline), now) = (self.deadlines.handler, service.clock.now()) else { return false };
        let lost = now.saturating_duration_since(deadline);
        if lost < DID_NOT_RUN {
            return deadline <= now;
        }
        self.deadlines.handler = Some(now + lost.min(service.config.handler_timeout));
        self.arm();
        false
    }

    /// Ends the handler's deadline and the liveness checks: the handler has returned its response, or is abandoned.
    pub(crate) fn handler_ends(&mut self) {
        self.peer_check = None;
        if self.deadlines.handler.take().is_some() {
            self.arm();
        }
    }
}
