//! The driver: joins the sans-IO connection, a transport and a handler; written once, for every backend.
//!
//! [`drive()`] is a hand-written future rather than an `async fn`, so that an idle connection costs no more memory
//! than its state needs: what only some requests need is in `exchange.rs`, boxed when it happens.
//!
//! It owns what must be the same everywhere: pipelining (responses leave together once nothing complete is left to
//! answer), deadlines, panics, peers that leave, the lingering close, shutdown, and the turn of the others.

use std::any::Any;
use std::fmt;
use std::future::Future;
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant};

use crate::access::AccessLine;
use crate::cancel::Cancel;
use crate::clock::{Clock, CoarseInstant};
use crate::event_loop::EventLoop;
use crate::exchange::{Hold, exchange, give_up, late, panicked};
use crate::h1::{Connection, Error, Event};
use crate::io::{Io, Verdict};
use crate::lease::Lease;
use crate::message::BodyInner;
use crate::net::Peer;
use crate::service::{Presence, Service};
use crate::shutdown::Phase;
use crate::stall::RouteName;
use crate::tally::Tally;
use crate::transport::Transport;
use crate::{Answer, Body, BoxFuture, OnDisconnect, Request, Response};

/// Bytes that are read and dropped before closing. It is time that bounds most of it, as those who do not listen while
/// they send are told nothing until all of it is sent.
const LINGER: u64 = 64 << 20;
/// How much of that before other connections have their turn.
const LINGER_A_TURN: u64 = 256 << 10;

/// One connection: a transport, what HTTP/1.1 knows of it, and its place among the connections of its server.
pub struct Wire<T> {
    io: Io<T>,
    seat: Seat,
}

/// What the driver knows of a connection beside its bytes.
struct Seat {
    peer: Peer,
    presence: Presence,
    /// Tells the handlers that nobody wants their responses.
    cancel: Arc<Cancel>,
    /// Requests that were begun.
    served: u64,
    /// When the connection is too old for another request, in seconds since the Unix epoch.
    expires: u64,
    /// Whether there was room for it. It is refused otherwise.
    has_room: bool,
    /// Until when the head must be there that has begun, or the first one.
    head_by: Option<Instant>,
    /// Until when the wait at hand may last.
    until: Option<Instant>,
    /// How many more bytes are read and dropped before closing, if that is what it has come to.
    linger: Option<u64>,
    /// Whether there is more to do than a turn allows.
    yielded: bool,
    /// Whether its turn came so late that the peer may have left.
    late_turn: bool,
}

/// A wait for a turn after which a peer is looked at before its request is begun.
const LONG_WAIT: Duration = Duration::from_millis(100);
/// How long such a peer, if it has ended its side, is given to be found gone.
const PROBE_PATIENCE: Duration = Duration::from_millis(10);

impl<T: Transport> Wire<T> {
    /// A connection that was just accepted. It counts as open from now until it is dropped.
    pub fn new(transport: T, peer: Peer, service: &Arc<Service>) -> Wire<T> {
        let config = &service.config;
        let connection = Connection::new(service.limits.clone(), config.server_header, config.date_header);
        let (presence, has_room) = service.enter();
        let seat = Seat {
            peer,
            presence,
            cancel: Arc::new(Cancel::new(service.shutdown.clone(), transport.lookout())),
            served: 0,
            expires: service.clock.unix_seconds().saturating_add(config.max_age.as_secs()),
            has_room,
            head_by: Some(service.clock.now() + config.header_timeout),
            until: None,
            linger: None,
            yielded: false,
            late_turn: false,
        };
        Wire { io: Io::new(transport, connection), seat }
    }

    /// Its transport.
    pub fn transport(&self) -> &T {
        &self.io.transport
    }

    /// Until when a parked connection may wait for bytes; then it is to be resumed all the same.
    pub fn deadline(&self) -> Option<Instant> {
        self.seat.until.or(self.seat.head_by)
    }

    /// Tells a blocking transport's connection, before it is driven, for how long it had been waiting for its turn
    /// with something to be read: after a long wait the peer may have left.
    pub fn waited(&mut self, waited: Duration) {
        self.seat.late_turn = waited >= LONG_WAIT;
    }

    /// Whether a parked connection is to be resumed without waiting for bytes, after the others had their turn.
    pub fn is_ready(&self) -> bool {
        self.seat.yielded || !self.io.connection.inbox().is_drained()
    }
}

impl<T> fmt::Debug for Wire<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Wire").field("peer", &self.seat.peer).finish_non_exhaustive()
    }
}

/// How far [`drive()`] came with a connection.
#[derive(Debug)]
#[expect(clippy::large_enum_variant, reason = "it is made once a turn and taken apart at once")]
pub enum Drive<T> {
    /// It has ended.
    Closed,
    /// Only on [`Transport::BLOCKING`] transports: nothing is left to do until bytes arrive. It is to be resumed, by
    /// driving it again, when it is readable, when [`Wire::deadline`] has passed, when shutdown was asked for,
    /// or at once if [`Wire::is_ready`].
    Parked(Wire<T>),
}

/// Serves a connection to its end, or until it is to be parked.
///
/// On a [`Transport::BLOCKING`] transport the future waits for handlers only: it is ready when first polled if
/// those are.
pub fn drive<T: Transport>(wire: Wire<T>, service: Arc<Service>) -> Driving<T> {
    let Wire { io, mut seat } = wire;
    seat.yielded = false;
    let step = match (seat.linger, seat.has_room) {
        (Some(_), _) => Step::Linger,
        (None, true) => Step::Next,
        (None, false) => Step::Refuse,
    };
    Driving {
        io: Some(io),
        seat: Some(seat),
        service,
        step,
        turn: Tally::default(),
        route: RouteName::NONE,
        now: TurnClock(None),
        since: CoarseInstant::now(),
        calling: false,
        read: false,
    }
}

/// The future of [`drive()`].
#[must_use = "a connection is served while this is polled"]
pub struct Driving<T> {
    /// `None` while an exchange has it, and at the end.
    io: Option<Io<T>>,
    /// `None` at the end.
    seat: Option<Seat>,
    service: Arc<Service>,
    step: Step<T>,
    /// Requests answered in this turn.
    turn: Tally,
    /// Whose handler it is that waits.
    route: RouteName,
    now: TurnClock,
    /// Since when nobody but this connection, or its handler, has had the thread.
    since: CoarseInstant,
    /// Whether a handler is being called. A panic is then the handler's.
    calling: bool,
    /// Whether a blocking transport was read from since it was resumed.
    read: bool,
}

enum Step<T> {
    /// Say that there is no room.
    Refuse,
    /// See what follows from the bytes that are here.
    Next,
    /// Send what waits, then go on.
    Flush(Then),
    /// Wait for bytes.
    Read,
    /// A handler is at work, with nothing else to look after.
    Handle(BoxFuture<Response>, OnDisconnect, Option<AccessLine>),
    /// A handler is at work, or a response being streamed.
    Exchange(BoxFuture<Option<Io<T>>>),
    /// Read and drop until the peer has seen why.
    Linger,
}

#[derive(Clone, Copy)]
enum Then {
    Next,
    /// The others have their turn first.
    Yield,
    Read,
    Close,
}

/// What a step came to.
enum Flow {
    Go,
    /// A blocking transport has to be waited for.
    Park,
    Close,
}

impl<T> Unpin for Driving<T> {}

/// The time in seconds since the Unix epoch, once it was asked for in this turn.
struct TurnClock(Option<u64>);

impl TurnClock {
    /// A handler that must not block has not moved the clock since the turn began.
    #[inline]
    fn seconds<T: Transport>(&mut self, clock: &Clock) -> u64 {
        match self.0 {
            Some(seconds) if !T::BLOCKING => seconds,
            _ => *self.0.insert(clock.unix_seconds()),
        }
    }
}

impl<T: Transport> Future for Driving<T> {
    type Output = Drive<T>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Drive<T>> {
        let this = &mut *self;
        let waits = matches!(this.step, Step::Handle(..) | Step::Exchange(_));
        if let Some(seat) = &mut this.seat {
            // A task wakes the same way for life; a blocking thread, each time it waits.
            if !T::BLOCKING {
                seat.presence.runs_as(cx);
            } else if waits {
                seat.presence.waits_as(cx);
            }
        }
        let phase = this.service.shutdown.phase();
        if phase == Phase::Forced {
            if matches!(this.step, Step::Handle(..)) {
                this.service.was_cut();
            }
            if !matches!(this.step, Step::Exchange(_)) {
                return Poll::Ready(this.end());
            }
        }
        this.now = TurnClock(None);
        if !T::BLOCKING {
            this.since = CoarseInstant::now();
        }
        let _here = EventLoop::enter::<T>();
        loop {
            // Once for all the requests of a turn.
            let flow = match catch_unwind(AssertUnwindSafe(|| this.run(cx))) {
                Ok(Poll::Ready(flow)) => flow,
                Ok(Poll::Pending) => {
                    if T::BLOCKING && !waits {
                        this.begin_wait(cx, phase);
                    }
                    return Poll::Pending;
                }
                Err(panic) => this.recover(&*panic),
            };
            match flow {
                Flow::Go => {}
                Flow::Close => return Poll::Ready(this.end()),
                Flow::Park => {
                    let parts = (this.io.take(), this.seat.take());
                    let (Some(io), Some(seat)) = parts else { return Poll::Ready(Drive::Closed) };
                    return Poll::Ready(Drive::Parked(Wire { io, seat }));
                }
            }
        }
    }
}

impl<T: Transport> Driving<T> {
    /// A handler that was called in this turn waits: it is woken when shutdown goes on, or already has since `phase`.
    #[cold]
    fn begin_wait(&mut self, cx: &mut Context<'_>, phase: Phase) {
        if let Some(seat) = &mut self.seat {
            seat.presence.waits_as(cx);
        }
        if self.service.shutdown.phase() != phase {
            cx.waker().wake_by_ref();
        }
    }

    fn run(&mut self, cx: &mut Context<'_>) -> Poll<Flow> {
        loop {
            match ready!(self.step(cx)) {
                Flow::Go => {}
                flow => return Poll::Ready(flow),
            }
        }
    }

    /// Goes on after a panic: a handler's is answered, and costs nothing else.
    #[cold]
    fn recover(&mut self, panic: &(dyn Any + Send)) -> Flow {
        let handling = matches!(self.step, Step::Handle(..));
        let response = panicked(panic);
        if !std::mem::take(&mut self.calling) && !handling {
            return Flow::Close;
        }
        self.step = Step::Next;
        self.answer(response, None);
        Flow::Go
    }

    #[inline]
    fn step(&mut self, cx: &mut Context<'_>) -> Poll<Flow> {
        if let Step::Exchange(exchange) = &mut self.step {
            let polled = exchange.as_mut().poll(cx);
            self.handler_paused(1);
            self.io = ready!(polled);
            self.step = Step::Next;
            if let Some(io) = &mut self.io {
                io.exchange_ended();
                self.turn.responded();
                self.count();
            }
        }
        let (Some(io), Some(seat)) = (&mut self.io, &mut self.seat) else { return Poll::Ready(Flow::Close) };
        let service = &self.service;
        match &mut self.step {
            Step::Refuse => {
                service.was_refused();
                io.refuse(Error::Overload, service);
                self.step = Step::Flush(Then::Close);
            }
            Step::Next => match io.connection.next_event() {
                Event::Request(request) => self.begin(request),
                Event::NeedBytes => self.step = Step::Flush(Then::Read),
                Event::Refused(error) => {
                    io.refuse(error, service);
                    self.step = Step::Flush(Then::Close);
                }
                Event::Finished | Event::AwaitResponse => self.step = Step::Flush(Then::Close),
            },
            Step::Flush(then) => {
                let then = *then;
                if !T::BLOCKING && self.turn.len() != 0 {
                    self.since =
                        service.runtime.stalls().polled(self.since, RouteName::current(), self.turn.len());
                }
                if ready!(io.poll_flush(cx, service)).is_err() {
                    return Poll::Ready(Flow::Close);
                }
                self.turn.settle(service.counters());
                match then {
                    Then::Next => self.step = Step::Next,
                    Then::Read => self.step = Step::Read,
                    Then::Yield if T::BLOCKING => {
                        seat.yielded = true;
                        return Poll::Ready(Flow::Park);
                    }
                    Then::Yield => {
                        self.step = Step::Next;
                        cx.waker().wake_by_ref();
                        return Poll::Pending;
                    }
                    Then::Close if io.must_linger(service) => {
                        if !matches!(io.transport.poll_shutdown(cx), Poll::Ready(Ok(()))) {
                            return Poll::Ready(Flow::Close);
                        }
                        seat.linger = Some(LINGER);
                        seat.until = Some(service.clock.now() + service.config.linger);
                        io.transport.set_deadline(seat.until);
                        self.step = Step::Linger;
                    }
                    Then::Close => return Poll::Ready(Flow::Close),
                }
            }
            Step::Read => return self.poll_read(cx),
            Step::Linger => return self.poll_linger(cx),
            Step::Handle(future, policy, line) => {
                let policy = *policy;
                let polled = future.as_mut().poll(cx);
                if !T::BLOCKING {
                    self.since = service.runtime.stalls().polled(self.since, self.route, 1);
                }
                let response = match polled {
                    Poll::Ready(response) => response,
                    Poll::Pending => match ready!(io.poll_watch(cx, service, policy)) {
                        Verdict::Late => {
                            seat.cancel.set();
                            late()
                        }
                        Verdict::Gone => {
                            let handling = std::mem::replace(&mut self.step, Step::Next);
                            if let Step::Handle(future, ..) = handling {
                                give_up(future, policy, service);
                            }
                            service.gave_up();
                            return Poll::Ready(Flow::Close);
                        }
                    },
                };
                // Its time is not the response's.
                io.handler_ends();
                let line = line.take();
                self.step = Step::Next;
                self.answer(response, line);
            }
            Step::Exchange(_) => unreachable!("polled above"),
        }
        Poll::Ready(Flow::Go)
    }

    /// Calls the handler.
    #[inline]
    fn begin(&mut self, mut request: Request) {
        let (Some(io), Some(seat)) = (&mut self.io, &mut self.seat) else { return };
        let service = &self.service;
        if T::BLOCKING && std::mem::take(&mut seat.late_turn) {
            let may_probe = io.connection.may_probe() && io.connection.outbox().is_empty();
            if seat.cancel.has_left(may_probe, PROBE_PATIENCE) {
                io.connection.close();
                self.step = Step::Flush(Then::Close);
                return;
            }
        }
        seat.served += 1;
        seat.head_by = None;
        seat.until = None;
        let inner = request.inner_mut();
        (inner.peer, inner.cancel) = (seat.peer, Some(seat.cancel.clone()));
        // Between two responses nothing may come.
        inner.may_probe = T::BLOCKING && io.connection.may_probe() && io.connection.outbox().is_empty();
        if service.config.max_requests.is_some_and(|most| seat.served >= most) {
            io.connection.close_after_this();
        }
        let line = service.config.access_log.then(|| AccessLine::new(seat.peer, &request));
        io.handler_begins();
        self.turn.begin(service.counters());
        if io.connection.is_body_pending() {
            return self.begin_with_body(request, line);
        }
        self.calling = true;
        let answer = service.handler.call(request);
        self.calling = false;
        if T::BLOCKING {
            seat.cancel.forbid_probing();
        }
        match answer {
            Answer::Ready(response) => self.answer(response, line),
            Answer::Later(future) => self.wait(future, self.service.config.on_disconnect, line),
            Answer::Kept(future, policy) => self.wait(future, policy, line),
        }
    }

    /// Calls the handler with a body that is still on the wire.
    #[inline(never)]
    fn begin_with_body(&mut self, mut request: Request, line: Option<AccessLine>) {
        let Some(mut io) = self.io.take() else { return };
        let service = &self.service;
        if self.seat.as_ref().is_some_and(|seat| service.clock.unix_seconds() >= seat.expires) {
            io.connection.close_after_this();
        }
        let lease = Arc::new(Lease::new(io, service.clone()));
        request.inner_mut().body = Body::lease(lease.clone());
        let answer = match catch_unwind(AssertUnwindSafe(|| service.handler.call(request))) {
            Ok(answer) => answer,
            Err(panic) => Answer::Ready(panicked(&*panic)),
        };
        if let Some(seat) = self.seat.as_ref().filter(|_| T::BLOCKING) {
            seat.cancel.forbid_probing();
        }
        let exchange = exchange(Hold::Lent(lease), service.clone(), answer, line);
        self.step = Step::Exchange(Box::pin(exchange));
        self.handler_called();
    }

    /// Waits for a handler's future.
    #[inline]
    fn wait(&mut self, future: BoxFuture<Response>, policy: OnDisconnect, line: Option<AccessLine>) {
        self.step = Step::Handle(future, policy, line);
        self.handler_called();
    }

    /// A handler was called that has not answered yet. Those that have are timed together, when all are.
    #[inline]
    fn handler_called(&mut self) {
        self.route = RouteName::current();
        self.handler_paused(self.turn.len() + 1);
    }

    /// Handlers have come back, or the future of one. If they have had the thread for too long, that is said.
    #[inline]
    fn handler_paused(&mut self, handlers: u32) {
        if !T::BLOCKING {
            self.since = self.service.runtime.stalls().polled(self.since, self.route, handlers);
        }
    }

    /// Queues a response, or begins to stream it. The step is `Next` before, and is left so if that is all.
    #[inline]
    fn answer(&mut self, response: Response, line: Option<AccessLine>) {
        let service = &self.service;
        let seconds = self.now.seconds::<T>(&service.clock);
        if let (Some(io), Some(seat)) = (&mut self.io, &self.seat)
            && seconds >= seat.expires
        {
            io.connection.close_after_this();
        }
        let at_hand = matches!(response.body.0, BodyInner::Empty | BodyInner::Full(_));
        if !at_hand || response.extra.is_some() {
            let Some(io) = self.io.take() else { return };
            let exchange = exchange(Hold::Own(io), service.clone(), Answer::Ready(response), line);
            self.step = Step::Exchange(Box::pin(exchange));
            return;
        }
        let Some(io) = &mut self.io else { return };
        if service.shutdown.is_requested() {
            io.close_unless_more_came(service);
            service.answered();
        }
        self.turn.responds(response.status, service.counters());
        if let Some(line) = line {
            line.log(response.status);
        }
        io.connection.respond_whole(response, seconds);
        self.count();
    }

    /// One more request was answered: sees to the turn of the others, and to the limit of what waits to be sent.
    #[inline]
    fn count(&mut self) {
        let (Some(io), service) = (&self.io, &self.service) else { return };
        if self.turn.answered() as usize >= service.limits.pipeline {
            self.step = Step::Flush(Then::Yield);
        } else if io.connection.outbox().len() >= service.limits.output {
            self.step = Step::Flush(Then::Next);
        }
    }

    /// Waits for bytes, of a head as a rule. Nothing waits to be sent.
    fn poll_read(&mut self, cx: &mut Context<'_>) -> Poll<Flow> {
        let (Some(io), Some(seat)) = (&mut self.io, &mut self.seat) else { return Poll::Ready(Flow::Close) };
        let service = &self.service;
        if service.shutdown.is_requested() {
            // What has arrived is still answered; what has not never will be.
            return Poll::Ready(match io.try_read(service) {
                Ok(n) if n > 0 => {
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
        let read = if !T::BLOCKING {
            match io.poll_read(cx, service) {
                Poll::Pending if seat.until.is_none() => {
                    // The first look found nothing: a wait begins, and has an end.
                    let until = seat.wait_until(&io.connection, service);
                    io.release();
                    io.transport.set_deadline(Some(until));
                    ready!(io.poll_read(cx, service))
                }
                read => ready!(read),
            }
        } else if self.read && io.connection.inbox().is_drained() {
            seat.wait_until(&io.connection, service);
            io.release();
            return Poll::Ready(Flow::Park);
        } else {
            self.read = true;
            match io.try_read(service) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    if seat.wait_until(&io.connection, service) > service.clock.now() {
                        io.connection.inbox_mut().set_drained();
                        io.release();
                        return Poll::Ready(Flow::Park);
                    }
                    Err(io::ErrorKind::TimedOut.into())
                }
                read => read,
            }
        };
        if seat.until.take().is_some() {
            // The wait is over: its end must not befall the next one, after a handler that took long.
            io.transport.set_deadline(None);
        }
        match read {
            Ok(0) => io.connection.received_end(),
            Ok(_) => {}
            Err(error) if error.kind() == io::ErrorKind::TimedOut && io.connection.is_head_begun() => {
                // Half a head; a peer that sent nothing is not told anything it could take for an answer.
                io.refuse(Error::HeadTimeout, service);
                self.step = Step::Flush(Then::Close);
                return Poll::Ready(Flow::Go);
            }
            Err(_) => return Poll::Ready(Flow::Close),
        }
        self.step = Step::Next;
        Poll::Ready(Flow::Go)
    }

    /// Reads and drops what a peer sends that was told to stop, so that closing does not destroy what it was told.
    fn poll_linger(&mut self, cx: &mut Context<'_>) -> Poll<Flow> {
        let (Some(io), Some(seat)) = (&mut self.io, &mut self.seat) else { return Poll::Ready(Flow::Close) };
        let left = seat.linger.get_or_insert(0);
        let pause = left.saturating_sub(LINGER_A_TURN);
        loop {
            if *left < pause {
                if seat.until.is_some_and(|until| until <= self.service.clock.now()) {
                    return Poll::Ready(Flow::Close);
                }
                if T::BLOCKING {
                    seat.yielded = true;
                    return Poll::Ready(Flow::Park);
                }
                cx.waker().wake_by_ref();
                return Poll::Pending;
            }
            let inbox = io.connection.inbox_mut();
            inbox.discard(inbox.len());
            let read = if !T::BLOCKING {
                ready!(io.poll_read(cx, &self.service))
            } else {
                match io.try_read(&self.service) {
                    Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                        if seat.until.is_some_and(|until| until > self.service.clock.now()) {
                            io.connection.inbox_mut().set_drained();
                            io.release();
                            return Poll::Ready(Flow::Park);
                        }
                        return Poll::Ready(Flow::Close);
                    }
                    read => read,
                }
            };
            match read {
                Ok(n) if n > 0 && *left > n as u64 => *left -= n as u64,
                _ => return Poll::Ready(Flow::Close),
            }
        }
    }

    fn end(&mut self) -> Drive<T> {
        self.step = Step::Next;
        // Before the connection is seen to end.
        self.turn.settle(self.service.counters());
        self.io = None;
        self.seat = None;
        Drive::Closed
    }
}

impl<T> Drop for Driving<T> {
    fn drop(&mut self) {
        self.turn.settle(self.service.counters());
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        self.cancel.set();
    }
}

impl Seat {
    /// Until when the wait that begins, or goes on, may last.
    fn wait_until(&mut self, connection: &Connection, service: &Service) -> Instant {
        if let Some(until) = self.until {
            return until;
        }
        let config = &service.config;
        let now = service.clock.now();
        let until = if connection.is_body_pending() {
            now + config.body_timeout
        } else if connection.is_idle() && self.head_by.is_none() {
            now + config.keep_alive
        } else {
            *self.head_by.get_or_insert(now + config.header_timeout)
        };
        *self.until.insert(until)
    }
}
