//! The deadlines of a connection.
//!
//! A connection may wait for several things at once: for bytes of a body, for the peer to receive a response, for a
//! handler. A transport has only one deadline, so it is given the earliest of them. If the transport reports `TimedOut`
//! to a wait whose own deadline is later, the wait continues.
//!
//! | wait | setting | after the deadline |
//! | --- | --- | --- |
//! | the first head with the PROXY header before it, and a head of which a part has arrived | `header_timeout` | 408, or no response if no byte of a head has arrived; the connection closes |
//! | the next head, before its first byte | `keep_alive` | the connection closes |
//! | bytes of a body | `body_timeout`, `min_rate` | the body fails with `BodyError::TimedOut`, which is a 408 if the handler returns it |
//! | the rest of a body before an upgrade | `body_timeout`, `min_rate`, `limits.drain` | 408; the connection closes |
//! | the rest of a body that its handler left unread | `body_timeout`, `min_rate`, `limits.drain` | the connection closes, after a lingering close |
//! | the peer receives bytes of a response | `write_timeout`, `min_rate` | the connection closes |
//! | the handler's response begins | `handler_timeout` | 503; the connection closes. A handler that was detached is dropped |
//! | the next piece of a streamed response, once the peer has ended its sending side | `half_closed_timeout` | the connection closes |
//! | the lingering close | `linger` | the connection closes |
//!
//! No single byte renews a wait for the peer. The waits for bytes of a body, also of an unread one, and for the peer to
//! receive a response obey [`MinRate`]: a byte extends them by the time that it takes at `min_rate`. With a `min_rate`
//! of 0, only `limits.drain` bounds them all together: an unread body is read for one `body_timeout`. All other waits
//! for the peer have one deadline from their beginning to their end.
//!
//! A process that was stopped notices deadlines late. Bytes that have arrived by then are read, and room to write is
//! used, before a deadline is judged: see [`Transport`]. A handler, or the next piece of a response, may be late
//! because its tasks did not run either. So it gets the time between the deadline and the notice again, once. Threads
//! that are held all the time notice every deadline late, and must not extend a wait without end.

use std::io;
use std::time::{Duration, Instant};

use crate::conn::io::Io;
use crate::conn::min_rate::{MinRate, WaitLimits};
use crate::conn::service::Service;
use crate::conn::transport::Transport;
use crate::runtime::clock::after;

/// See the [module](self). The deadline of a wait that has not begun is `None`.
#[derive(Debug, Default)]
pub(crate) struct Deadlines {
    /// Deadline of the head that the connection waits for: of the first one since the accept, of a later one since its
    /// first byte.
    pub(crate) head: Option<Instant>,
    /// Deadline of the current wait for bytes: of a head, or during the lingering close.
    pub(crate) bytes: Option<Instant>,
    /// Deadline of the handler's response, once the handler's future was pending.
    handler: Option<Extendable>,
    /// The longest wait of the handler, if its route asks for another one than `Config::handler_timeout`.
    pub(crate) handler_timeout: Option<Duration>,
    /// The waits of the current exchange. Boxed, because an idle connection has none.
    waits: Option<Box<Waits>>,
}

/// The waits of one exchange, except for the handler.
#[derive(Debug, Default)]
struct Waits {
    /// The waits of the current flush.
    writing: MinRate,
    /// The waits for the request's body.
    reading: MinRate,
    /// Whether `reading` has the waits for the rest of a body that its handler left unread.
    is_draining: bool,
    /// Deadline of the next piece of a streamed response, once the peer has ended its sending side. The liveness check
    /// waits for it, and not the transport: a read would find the end again at once.
    piece: Option<Extendable>,
}

/// A deadline of the application. If it is noticed late, the tasks of the application may not have run either, so it is
/// extended once.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Extendable {
    pub(crate) at: Instant,
    is_extended: bool,
}

impl Extendable {
    pub(crate) fn new(at: Instant) -> Extendable {
        Extendable { at, is_extended: false }
    }

    /// Whether the deadline has passed. If it passed before `now`, the first call extends it by the time since then, by
    /// `max` at most, and returns false.
    pub(crate) fn has_passed(&mut self, now: Instant, max: Duration) -> bool {
        if now <= self.at || self.is_extended {
            return self.at <= now;
        }
        *self = Extendable { at: now + (now - self.at).min(max), is_extended: true };
        false
    }
}

impl Deadlines {
    /// Creates the deadlines of a connection that was accepted now.
    pub(crate) fn accepted(service: &Service) -> Deadlines {
        let head = Some(deadline_in(service, service.config.header_timeout));
        Deadlines { head, ..Deadlines::default() }
    }

    /// Returns the deadline for the transport.
    fn earliest(&self) -> Option<Instant> {
        [self.bytes, self.handler(), self.writing(), self.reading()].into_iter().flatten().min()
    }

    /// Deadline of the handler's response.
    #[inline]
    pub(crate) fn handler(&self) -> Option<Instant> {
        self.handler.map(|deadline| deadline.at)
    }

    /// The longest time for which the handler waits.
    fn handler_timeout(&self, service: &Service) -> Duration {
        self.handler_timeout.unwrap_or(service.config.handler_timeout)
    }

    /// Deadline of the next piece of the response.
    pub(crate) fn piece(&self) -> Option<Instant> {
        self.waits.as_ref()?.piece.map(|deadline| deadline.at)
    }

    /// Deadline of the wait for the peer to receive bytes.
    #[inline]
    pub(crate) fn writing(&self) -> Option<Instant> {
        self.waits.as_ref()?.writing.deadline()
    }

    /// Deadline of the wait for bytes of a body.
    #[inline]
    pub(crate) fn reading(&self) -> Option<Instant> {
        self.waits.as_ref()?.reading.deadline()
    }

    /// Whether the peer has used up the time in which it has to receive bytes.
    pub(crate) fn is_writing_used_up(&self) -> bool {
        self.waits.as_ref().is_some_and(|waits| waits.writing.is_used_up())
    }

    /// Whether the peer has used up the time in which it has to send a body.
    pub(crate) fn is_reading_used_up(&self) -> bool {
        self.waits.as_ref().is_some_and(|waits| waits.reading.is_used_up())
    }

    /// Whether the current flush has waited for the peer.
    #[inline]
    fn has_waited_to_write(&self) -> bool {
        self.waits.as_ref().is_some_and(|waits| waits.writing.is_begun())
    }

    fn waits(&mut self) -> &mut Waits {
        self.waits.get_or_insert_default()
    }

    /// Frees the memory that an idle connection does not need.
    pub(crate) fn release(&mut self) {
        self.waits = None;
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

    /// Begins a wait for a head.
    pub(crate) fn wait_for_head(&mut self, service: &Service) {
        let (config, deadlines) = (&service.config, &mut self.deadlines);
        deadlines.bytes = Some(if self.connection.is_idle() && deadlines.head.is_none() {
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
            let limits = WaitLimits::new(service.config.write_timeout, service.config.min_rate);
            self.deadlines.waits().writing.wait(service.clock.now(), limits);
            self.arm();
        }
    }

    /// Whether a handler or the body of a response holds the thread of this connection, if threads block.
    fn holds_thread(&self) -> bool {
        self.deadlines.handler.is_some() || self.has_body_reader || self.body_holds_thread
    }

    /// Records that `bytes` bytes were written. If the flush has waited, this ends its wait. The time of the next piece
    /// of the response starts again.
    #[inline]
    pub(crate) fn wrote(&mut self, bytes: usize, service: &Service) {
        self.piece_ends();
        if self.deadlines.has_waited_to_write() {
            let end = service.moved_at(self.holds_thread());
            self.deadlines.waits().writing.moved(end, bytes);
        }
    }

    /// Ends the time of the next piece of the response.
    #[inline]
    fn piece_ends(&mut self) {
        if let Some(waits) = &mut self.deadlines.waits {
            waits.piece = None;
        }
    }

    /// Ends the flush: the write queue is empty.
    #[inline]
    pub(crate) fn flushed(&mut self) {
        if self.deadlines.has_waited_to_write() {
            self.deadlines.waits().writing = MinRate::default();
            self.arm();
        }
    }

    /// Begins the waits for the rest of a body that its handler left unread, unless they have begun.
    pub(crate) fn begin_drain(&mut self) {
        let waits = self.deadlines.waits();
        if !waits.is_draining {
            (waits.reading, waits.is_draining) = (MinRate::default(), true);
        }
    }

    /// Begins a wait for bytes of a body, unless there is one.
    pub(crate) fn wait_for_body(&mut self, service: &Service) {
        let config = &service.config;
        let limits = WaitLimits::new(config.body_timeout, config.min_rate);
        let waits = self.deadlines.waits();
        if waits.reading.deadline().is_none() {
            let limits = if waits.is_draining { limits.of_at_most(config.limits.drain) } else { limits };
            waits.reading.wait(service.clock.now(), limits);
            self.arm();
        }
    }

    /// Records that `bytes` bytes of a body were read, which ends the wait. The time of the handler or of the next
    /// piece of the response starts again.
    pub(crate) fn read_body(&mut self, bytes: usize, service: &Service) {
        let end = service.moved_at(self.holds_thread());
        self.deadlines.waits().reading.moved(end, bytes);
        self.piece_ends();
        self.restart_handler(service);
        self.arm();
    }

    /// Ends the wait for the request's body, if there is one.
    pub(crate) fn stop_waiting_for_body(&mut self) {
        if self.deadlines.reading().is_some() {
            self.deadlines.waits().reading = MinRate::default();
            self.arm();
        }
    }

    /// Forgets the waits for the body of the request before, which do not count for the next body.
    #[inline(always)]
    pub(crate) fn forget_body_waits(&mut self) {
        if let Some(waits) = &mut self.deadlines.waits {
            (waits.reading, waits.is_draining) = (MinRate::default(), false);
        }
    }

    /// Resets the deadlines for a handler that is about to be called: the head is complete.
    #[inline(always)]
    pub(crate) fn handler_begins(&mut self) {
        (self.deadlines.head, self.deadlines.handler_timeout) = (None, None);
        self.forget_body_waits();
        // A streamed response leaves its liveness check, and a handler that panicked leaves its deadline.
        if self.deadlines.handler.is_some() || self.peer_check.is_some() {
            self.handler_ends();
        }
    }

    /// Records that the handler's future is pending. The first call starts the handler's time.
    pub(crate) fn handler_waits(&mut self, service: &Service) {
        if self.deadlines.handler.is_none() {
            let at = deadline_in(service, self.deadlines.handler_timeout(service));
            self.deadlines.handler = Some(Extendable::new(at));
            self.arm();
        }
    }

    /// Starts the handler's time again, if there is a handler.
    fn restart_handler(&mut self, service: &Service) {
        let at = deadline_in(service, self.deadlines.handler_timeout(service));
        if let Some(handler) = &mut self.deadlines.handler {
            *handler = Extendable::new(at);
        }
    }

    /// Whether the handler's deadline has passed. While the handler waits for the request's body, only the deadline of
    /// the body applies, and the handler's time starts again. The wait ends with that deadline, because a handler that
    /// has given it up does not read any more. A deadline that is noticed late is extended once.
    pub(crate) fn is_handler_late(&mut self, service: &Service) -> bool {
        let reading = self.deadlines.reading();
        if reading.is_some() && !is_over(reading, service) {
            self.restart_handler(service);
            return false;
        }
        let timeout = self.deadlines.handler_timeout(service);
        let Some(handler) = &mut self.deadlines.handler else { return false };
        let before = handler.at;
        let is_late = handler.has_passed(service.clock.now(), timeout);
        if handler.at != before {
            self.arm();
        }
        is_late
    }

    /// Begins the time of the next piece of a streamed response whose peer has ended its sending side, unless it has
    /// begun.
    pub(crate) fn wait_for_piece(&mut self, service: &Service) {
        if self.deadlines.piece().is_none() {
            let at = deadline_in(service, service.config.half_closed_timeout);
            self.deadlines.waits().piece = Some(Extendable::new(at));
            // The timer of the checks may be set to a later time.
            self.peer_check = None;
        }
    }

    /// Whether the deadline of the next piece has passed. A deadline that is noticed late is extended once.
    pub(crate) fn is_piece_late(&mut self, service: &Service) -> bool {
        let piece = self.deadlines.waits.as_mut().and_then(|waits| waits.piece.as_mut());
        piece.is_some_and(|piece| piece.has_passed(service.clock.now(), service.config.half_closed_timeout))
    }

    /// Ends the handler's deadline and the liveness checks: the handler has returned its response, or is abandoned.
    pub(crate) fn handler_ends(&mut self) {
        self.peer_check = None;
        self.piece_ends();
        if self.deadlines.handler.take().is_some() {
            self.arm();
        }
    }
}
