//! A transport and what HTTP/1.1 knows of it, kept together: reading and writing with their deadlines, and looking
//! after the peer while a handler waits.
//!
//! A transport has one deadline, and up to three are wanted: for a body that is read, for a response that is
//! written, for a handler that waits. It is given the earliest; who is told that time is up, and finds that it was
//! not his, waits on.

use std::io;
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant};

use crate::after::After;
use crate::cancel::PROBE_AFTER;
use crate::h1::{Connection, Error};
use crate::pace::Pace;
use crate::service::Service;
use crate::transport::Transport;
use crate::{BoxFuture, OnDisconnect};

/// Bytes that are read ahead while a handler is at work.
const READ_AHEAD: usize = 4 * 1024;
/// The longest time between two looks at a peer that can only be looked at now and then.
const LONGEST_LOOK: Duration = Duration::from_secs(4);

/// One connection's two halves.
pub(crate) struct Io<T> {
    pub(crate) transport: T,
    pub(crate) connection: Connection,
    /// The flush at hand.
    writing: Pace,
    /// The request's body.
    reading: Pace,
    /// What is known of the handler at work, once it has waited.
    handling: Option<Handling>,
    /// What is to be done once all that is queued is on the wire.
    after: Option<Box<After>>,
}

/// A handler that waits.
struct Handling {
    /// When it is late.
    late: Option<Instant>,
    /// The next look at the peer, where nothing tells of it.
    look: Option<Box<Look>>,
}

struct Look {
    timer: BoxFuture<()>,
    /// The pause before the one after it.
    pause: Duration,
}

/// Why a handler's response is not waited for any longer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// The peer has left.
    Gone,
    /// The handler's time is over.
    Late,
}

impl<T: Transport> Io<T> {
    pub(crate) fn new(transport: T, connection: Connection) -> Io<T> {
        Io {
            transport,
            connection,
            writing: Pace::default(),
            reading: Pace::default(),
            handling: None,
            after: None,
        }
    }

    /// Has something done once all that is queued is on the wire.
    pub(crate) fn then(&mut self, after: After) {
        match &mut self.after {
            Some(before) => before.append(after),
            None => self.after = Some(Box::new(after)),
        }
    }

    /// Reads what has arrived, and counts it.
    #[inline]
    pub(crate) fn poll_read(&mut self, cx: &mut Context<'_>, service: &Service) -> Poll<io::Result<usize>> {
        let read = self.transport.poll_read(cx, self.connection.inbox_mut());
        if let Poll::Ready(Ok(n)) = read {
            service.counters().here().received(n);
        }
        read
    }

    /// Reads what has arrived without waiting, and counts it.
    pub(crate) fn try_read(&mut self, service: &Service) -> io::Result<usize> {
        let read = self.transport.try_read(self.connection.inbox_mut());
        if let Ok(n) = read {
            service.counters().here().received(n);
        }
        read
    }

    /// Writes what is queued, and counts it: how much there was, and how much is left.
    #[inline]
    fn poll_write(&mut self, cx: &mut Context<'_>, service: &Service) -> (usize, Poll<io::Result<()>>) {
        let before = self.connection.outbox().len();
        let written = self.transport.poll_write(cx, self.connection.outbox_mut());
        let moved = before - self.connection.outbox().len();
        service.counters().here().sent(moved);
        (moved, written)
    }

    /// Writes until nothing waits, then starts what was to be done afterwards.
    #[inline]
    pub(crate) fn poll_flush(&mut self, cx: &mut Context<'_>, service: &Service) -> Poll<io::Result<()>> {
        let flushed = self.poll_outbox(cx, service);
        if self.after.is_some() && matches!(flushed, Poll::Ready(Ok(()))) {
            self.after = None;
        }
        flushed
    }

    #[inline]
    fn poll_outbox(&mut self, cx: &mut Context<'_>, service: &Service) -> Poll<io::Result<()>> {
        if self.connection.outbox().is_empty() {
            return Poll::Ready(Ok(()));
        }
        // Most writes are done at once, and need no deadline unless they wait inside.
        if T::BLOCKING || self.writing.until().is_some() {
            return self.poll_flush_by_deadline(cx, service);
        }
        match self.poll_write(cx, service).1 {
            Poll::Pending => self.poll_flush_by_deadline(cx, service),
            done => done,
        }
    }

    fn poll_flush_by_deadline(&mut self, cx: &mut Context<'_>, service: &Service) -> Poll<io::Result<()>> {
        let (now, config) = (|| service.clock.now(), &service.config);
        loop {
            if self.writing.until().is_none() {
                self.writing.wait(now, config.write_timeout, config.min_rate);
                self.set_deadline();
            }
            let (moved, written) = self.poll_write(cx, service);
            if moved > 0 {
                // The next wait has an end of its own.
                self.writing.moved(now, moved);
            }
            match written {
                Poll::Ready(Ok(())) if self.connection.outbox().is_empty() => {
                    self.writing = Pace::default();
                    self.set_deadline();
                    return Poll::Ready(Ok(()));
                }
                Poll::Ready(Ok(())) => {}
                Poll::Pending if moved > 0 => {}
                Poll::Pending => return Poll::Pending,
                Poll::Ready(Err(error)) if self.is_early(&error, self.writing.until(), service) => {}
                Poll::Ready(Err(error)) => return Poll::Ready(Err(error)),
            }
        }
    }

    /// Reads more of a body, with the patience that a body gets. `Ok(false)` is the peer's end.
    pub(crate) fn poll_read_body(
        &mut self,
        cx: &mut Context<'_>,
        service: &Service,
    ) -> Poll<io::Result<bool>> {
        let (now, config) = (|| service.clock.now(), &service.config);
        loop {
            if self.reading.until().is_none() {
                self.reading.wait(now, config.body_timeout, config.min_rate);
                self.set_deadline();
            }
            let read = ready!(self.poll_read(cx, service));
            if matches!(&read, Err(error) if self.is_early(error, self.reading.until(), service)) {
                continue;
            }
            self.reading.moved(now, *read.as_ref().unwrap_or(&0));
            if let Some(late) = self.handling.as_mut().and_then(|handling| handling.late.as_mut()) {
                // The handler's own time begins anew.
                *late = now() + config.handler_timeout;
            }
            self.set_deadline();
            return Poll::Ready(read.map(|n| {
                if n == 0 {
                    self.connection.received_end();
                }
                n > 0
            }));
        }
    }

    /// Gives the transport the earliest deadline.
    fn set_deadline(&mut self) {
        let late = self.handling.as_ref().and_then(|handling| handling.late);
        let all = [self.writing.until(), self.reading.until(), late];
        self.transport.set_deadline(all.into_iter().flatten().min());
    }

    /// Whether time was up for another wait than the one that lasts until `until`, which then goes on.
    fn is_early(&mut self, error: &io::Error, until: Option<Instant>, service: &Service) -> bool {
        let early =
            error.kind() == io::ErrorKind::TimedOut && until.is_none_or(|at| at > service.clock.now());
        if early {
            self.transport.set_deadline(until);
        }
        early
    }

    /// A handler begins, which has not waited yet, nor has its body been read.
    #[inline]
    pub(crate) fn handler_begins(&mut self) {
        self.handling = None;
        self.reading = Pace::default();
    }

    /// To be polled while a handler waits: sends what is queued before its response, and is ready once that is not
    /// wanted any more.
    ///
    /// On an event loop the socket tells that a peer has left, by an error. One that has ended its side is asked, see
    /// [`OnDisconnect`](crate::OnDisconnect). Where nothing tells, the peer is looked at now and then.
    ///
    /// Under [`OnDisconnect::Ignore`] a peer that has left changes nothing.
    pub(crate) fn poll_watch(
        &mut self,
        cx: &mut Context<'_>,
        service: &Service,
        policy: OnDisconnect,
    ) -> Poll<Verdict> {
        if self.handling.is_none() {
            let late = service.clock.now() + service.config.handler_timeout;
            self.handling = Some(Handling { late: Some(late), look: None });
            self.set_deadline();
        }
        if policy == OnDisconnect::Ignore {
            let _ = self.poll_flush(cx, service);
            return self.poll_timer(cx, service, false);
        }
        self.poll_peer(cx, service)
    }

    /// The same while a response is being streamed and its body waits, which may take any time.
    pub(crate) fn poll_left(&mut self, cx: &mut Context<'_>, service: &Service) -> Poll<()> {
        if self.handling.as_ref().is_none_or(|handling| handling.late.is_some()) {
            self.handling = Some(Handling { late: None, look: None });
            self.set_deadline();
        }
        self.poll_peer(cx, service).map(drop)
    }

    fn poll_peer(&mut self, cx: &mut Context<'_>, service: &Service) -> Poll<Verdict> {
        if let Poll::Ready(Err(_)) = self.poll_flush(cx, service) {
            return Poll::Ready(Verdict::Gone);
        }
        // Whoever reads the body is the one to be woken by it.
        while !T::BLOCKING && !self.connection.is_body_pending() && self.wants_more() {
            match self.poll_read(cx, service) {
                Poll::Pending => return Poll::Pending,
                Poll::Ready(Ok(0)) => self.connection.received_end(),
                Poll::Ready(Ok(_)) => {}
                Poll::Ready(Err(error)) if error.kind() != io::ErrorKind::TimedOut => {
                    return Poll::Ready(Verdict::Gone);
                }
                Poll::Ready(Err(error)) => {
                    let late = self.handling.as_ref().and_then(|handling| handling.late);
                    if !self.is_early(&error, late, service) {
                        return Poll::Ready(Verdict::Late);
                    }
                }
            }
        }
        self.poll_timer(cx, service, true)
    }

    /// Waits for the handler's time to be over, and looks at the peer meanwhile if told to.
    fn poll_timer(&mut self, cx: &mut Context<'_>, service: &Service, looks: bool) -> Poll<Verdict> {
        loop {
            let now = service.clock.now();
            let Some(handling) = &mut self.handling else { return Poll::Pending };
            if self.reading.until().is_some() {
                // It waits for the body, which is the peer's time.
                handling.late = handling.late.map(|_| now + service.config.handler_timeout);
            } else if handling.late.is_some_and(|late| late <= now) {
                return Poll::Ready(Verdict::Late);
            }
            let late = handling.late;
            let timer = |pause| {
                let at = now + pause;
                service.runtime.sleep_until(late.map_or(at, |late| late.min(at)))
            };
            let look = handling.look.get_or_insert_with(|| {
                let pause = PROBE_AFTER;
                Box::new(Look { timer: timer(pause), pause })
            });
            ready!(look.timer.as_mut().poll(cx));
            look.pause = (look.pause * 2).min(LONGEST_LOOK);
            look.timer = timer(look.pause);
            if looks && self.look(cx, service) {
                return Poll::Ready(Verdict::Gone);
            }
        }
    }

    /// Looks at a peer of which nothing else tells, and asks it whether it is there if it has ended its side.
    fn look(&mut self, cx: &mut Context<'_>, service: &Service) -> bool {
        if T::BLOCKING && !self.connection.is_body_pending() && self.wants_more() {
            match self.try_read(service) {
                Ok(0) => self.connection.received_end(),
                Ok(_) => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(_) => return true,
            }
        }
        if !matches!(self.transport.take_error(), Ok(None)) {
            return true;
        }
        if self.connection.has_ended() && self.connection.may_probe() && self.connection.outbox().is_empty() {
            self.connection.send_probe();
        }
        matches!(self.poll_flush(cx, service), Poll::Ready(Err(_)))
    }

    /// Whether the peer may be read ahead of its response.
    fn wants_more(&self) -> bool {
        !self.connection.has_ended() && self.connection.inbox().len() < READ_AHEAD
    }

    /// An exchange has ended: nobody waits for its request's body any more.
    pub(crate) fn exchange_ended(&mut self) {
        if self.reading.until().is_some() {
            self.reading = Pace::default();
            self.set_deadline();
        }
    }

    /// The response begins: what befalls the handler's wait is over.
    pub(crate) fn handler_ends(&mut self) {
        if self.handling.take().is_some() {
            self.set_deadline();
        }
    }

    /// Makes the response at hand the last, unless another request has arrived: while shutting down, all that has
    /// arrived is answered.
    pub(crate) fn close_unless_more_came(&mut self, service: &Service) {
        if self.connection.is_body_pending() {
            return;
        }
        if self.connection.inbox().is_empty() && !matches!(self.try_read(service), Ok(n) if n > 0) {
            self.connection.close_after_this();
        }
    }

    /// Whether closing now might destroy what was sent. That the last read left nothing does not say that nothing has
    /// arrived while the response was written, so it is asked once more.
    pub(crate) fn must_linger(&mut self, service: &Service) -> bool {
        if self.connection.must_linger() || self.connection.has_ended() {
            return self.connection.must_linger();
        }
        matches!(self.try_read(service), Ok(n) if n > 0)
    }

    /// Queues what the connection answers in the application's place, and counts it.
    pub(crate) fn refuse(&mut self, error: Error, service: &Service) {
        service.counters().rejected(error.status());
        self.connection.refuse(error, service.clock.unix_seconds());
    }

    /// Gives back the memory that an idle connection does not need.
    pub(crate) fn release(&mut self) {
        self.connection.inbox_mut().release();
        self.connection.outbox_mut().release();
    }
}
