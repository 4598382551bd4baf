//! Every deadline of a connection.
//!
//! A transport has one deadline, and a connection may wait for several things at once: for bytes of a body, for a peer
//! to take a response, for a handler. The transport is given the earliest. If it reports that time is up and that was
//! not the deadline of the wait in question, the wait continues.
//!
//! | wait | setting | what follows |
//! | --- | --- | --- |
//! | the first head, and a head of which a part has arrived | `header_timeout` | 408, or nothing if no byte came |
//! | the next head, before its first byte | `keep_alive` | the connection closes |
//! | bytes of a body | `body_timeout`, `min_rate` | the body fails with `BodyError::TimedOut` |
//! | the rest of a body that its handler left unread | `body_timeout` | the connection closes |
//! | the peer takes bytes of a response | `write_timeout`, `min_rate` | the connection closes |
//! | the handler's response begins | `handler_timeout` | 503 |
//! | the lingering close | `linger` | the connection closes |

use std::io;
use std::time::{Duration, Instant};

use crate::conn::io::Io;
use crate::conn::min_rate::MinRate;
use crate::conn::service::Service;
use crate::conn::transport::Transport;
use crate::proto::connection::Connection;

/// See the [module](self). A deadline beyond what the clock can hold is `None`: never.
#[derive(Debug, Default)]
pub(crate) struct Deadlines {
    /// Of the request head being received, or of the first one.
    head: Option<Instant>,
    /// Of the wait for bytes that goes on: for a head, for an unread body, or in the lingering close.
    bytes: Option<Instant>,
    /// Whether such a wait goes on.
    is_waiting: bool,
    /// Whether the handler has waited.
    pub(crate) is_handler_waiting: bool,
    /// Of the handler's response, once the handler has waited.
    handler: Option<Instant>,
    /// Boxed, because an idle connection does without.
    rates: Option<Box<Rates>>,
}

/// The waits for the peer in the exchange that goes on.
#[derive(Debug, Default)]
struct Rates {
    /// The flush that goes on.
    writing: MinRate,
    /// The request's body.
    reading: MinRate,
}

impl Deadlines {
    /// The deadlines of a connection that was accepted now.
    pub(crate) fn accepted(service: &Service) -> Deadlines {
        let head = after(service, service.config.header_timeout);
        Deadlines { head, ..Deadlines::default() }
    }

    fn earliest(&self) -> Option<Instant> {
        [self.bytes, self.handler, self.writing(), self.reading()].into_iter().flatten().min()
    }

    /// Of the wait for the peer to take bytes.
    #[inline]
    fn writing(&self) -> Option<Instant> {
        self.rates.as_ref()?.writing.deadline()
    }

    /// Of the wait for bytes of a body.
    #[inline]
    fn reading(&self) -> Option<Instant> {
        self.rates.as_ref()?.reading.deadline()
    }

    fn rates(&mut self) -> &mut Rates {
        self.rates.get_or_insert_default()
    }

    /// Gives back the memory that an idle connection does not need.
    pub(crate) fn release(&mut self) {
        self.rates = None;
    }

    /// A request begins: its head is complete.
    #[inline]
    pub(crate) fn request_begins(&mut self) {
        self.head = None;
    }

    /// Whether a wait for bytes has an end already.
    pub(crate) fn is_waiting_for_bytes(&self) -> bool {
        self.is_waiting
    }

    /// Whether the lingering close has taken as long as it may.
    pub(crate) fn is_linger_over(&self, service: &Service) -> bool {
        self.bytes.is_some_and(|until| until <= service.clock.now())
    }

    fn begin_wait_for_bytes(&mut self, connection: &Connection, service: &Service) {
        let config = &service.config;
        self.is_waiting = true;
        self.bytes = if connection.is_body_pending() {
            after(service, config.body_timeout)
        } else if connection.is_idle() && self.head.is_none() {
            after(service, config.keep_alive)
        } else {
            self.head = self.head.or_else(|| after(service, config.header_timeout));
            self.head
        };
    }
}

fn after(service: &Service, patience: Duration) -> Option<Instant> {
    service.clock.now().checked_add(patience)
}

impl<T: Transport> Io<T> {
    /// Gives the transport the earliest deadline.
    fn arm(&mut self) {
        self.transport.set_deadline(self.deadlines.earliest());
    }

    /// Whether time was up for another wait than the one that ends at `deadline`. That wait then continues.
    pub(crate) fn is_early(
        &mut self,
        error: &io::Error,
        deadline: Option<Instant>,
        service: &Service,
    ) -> bool {
        let early =
            error.kind() == io::ErrorKind::TimedOut && deadline.is_none_or(|at| at > service.clock.now());
        if early {
            self.transport.set_deadline(deadline);
        }
        early
    }

    /// A wait for a head, or for the rest of an unread body, begins.
    pub(crate) fn wait_for_bytes(&mut self, service: &Service) {
        self.deadlines.begin_wait_for_bytes(&self.connection, service);
        self.arm();
    }

    /// The lingering close begins.
    pub(crate) fn begin_linger(&mut self, service: &Service) {
        self.deadlines.is_waiting = true;
        self.deadlines.bytes = after(service, service.config.linger);
        self.arm();
    }

    /// Bytes have come, or will not: the wait for them is over, and its deadline does not end a later wait.
    pub(crate) fn end_wait_for_bytes(&mut self) {
        if std::mem::take(&mut self.deadlines.is_waiting) {
            self.deadlines.bytes = None;
            self.arm();
        }
    }

    /// A wait for the peer to take bytes begins, or goes on.
    pub(crate) fn wait_to_write(&mut self, service: &Service) {
        if self.deadlines.writing().is_none() {
            let config = &service.config;
            self.deadlines.rates().writing.wait(
                || service.clock.now(),
                config.write_timeout,
                config.min_rate,
            );
            self.arm();
        }
    }

    /// Whether a flush waits for the peer.
    #[inline]
    pub(crate) fn is_waiting_to_write(&self) -> bool {
        self.deadlines.writing().is_some()
    }

    /// The deadline of the wait for the peer to take bytes.
    pub(crate) fn write_deadline(&self) -> Option<Instant> {
        self.deadlines.writing()
    }

    /// The peer has taken bytes. The next wait has a deadline of its own.
    pub(crate) fn wrote(&mut self, bytes: usize, service: &Service) {
        self.deadlines.rates().writing.moved(|| service.woken_at(), bytes);
    }

    /// The peer has taken everything.
    pub(crate) fn flushed(&mut self) {
        self.deadlines.rates().writing = MinRate::default();
        self.arm();
    }

    /// A wait for bytes of a body begins, or goes on.
    pub(crate) fn wait_for_body(&mut self, service: &Service) {
        if self.deadlines.reading().is_none() {
            let config = &service.config;
            self.deadlines.rates().reading.wait(|| service.clock.now(), config.body_timeout, config.min_rate);
            self.arm();
        }
    }

    /// The deadline of the wait for bytes of a body.
    pub(crate) fn body_deadline(&self) -> Option<Instant> {
        self.deadlines.reading()
    }

    /// Bytes of a body have come. The handler's own time begins again.
    pub(crate) fn read_body(&mut self, bytes: usize, service: &Service) {
        self.deadlines.rates().reading.moved(|| service.woken_at(), bytes);
        if self.deadlines.handler.is_some() {
            self.deadlines.handler = after(service, service.config.handler_timeout);
        }
        self.arm();
    }

    /// Nothing waits for the request's body any more.
    pub(crate) fn stop_waiting_for_body(&mut self) {
        if self.deadlines.reading().is_some() {
            self.deadlines.rates().reading = MinRate::default();
            self.arm();
        }
    }

    /// A handler begins, which has not waited yet. Nothing of its body has been read.
    #[inline(always)]
    pub(crate) fn handler_begins(&mut self) {
        if let Some(rates) = &mut self.deadlines.rates {
            rates.reading = MinRate::default();
        }
        // A look remains after a streamed response, and the state of a wait after a panic.
        if self.deadlines.is_handler_waiting || self.look.is_some() {
            self.handler_ends();
        }
    }

    /// The handler waits for the first time.
    pub(crate) fn handler_waits(&mut self, service: &Service) {
        if !std::mem::replace(&mut self.deadlines.is_handler_waiting, true) {
            self.deadlines.handler = after(service, service.config.handler_timeout);
            self.arm();
        }
    }

    /// Whether the handler has waited for as long as it may. While it waits for the request's body, its time stands
    /// still: the body's deadline holds instead.
    pub(crate) fn is_handler_late(&mut self, service: &Service) -> bool {
        if self.deadlines.reading().is_some() {
            if self.deadlines.handler.is_some() {
                self.deadlines.handler = after(service, service.config.handler_timeout);
            }
            return false;
        }
        self.deadlines.handler.is_some_and(|late| late <= service.clock.now())
    }

    /// The deadline of the handler's response.
    pub(crate) fn handler_deadline(&self) -> Option<Instant> {
        self.deadlines.handler
    }

    /// The handler has given its response, or its peer has left: its deadline is over, and so are looks at the peer.
    pub(crate) fn handler_ends(&mut self) {
        self.look = None;
        if std::mem::take(&mut self.deadlines.is_handler_waiting) {
            self.deadlines.handler = None;
            self.arm();
        }
    }
}
