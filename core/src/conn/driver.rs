//! The driver: joins the sans-IO connection, a transport and a handler; written once, for every backend.
//!
//! [`Driving`] is a hand-written future rather than an `async fn`, so that an idle connection costs no more memory than
//! its state needs. What only some requests need is in [`exchange`](super::exchange), boxed when it happens.
//!
//! The driver owns what must be the same on every backend: pipelining (responses leave together once no complete request
//! is left to answer), panics, the lingering close, shutdown, and the turns of the other connections. Deadlines are in
//! [`deadlines`](super::deadlines), peers that leave in [`liveness`](super::liveness).
//!
//! A backend polls the future like any other. What makes a backend a blocking one is that its thread stays with a
//! connection while [`Driving::is_handling`] holds.
//!
//! | step | waits for | next |
//! | --- | --- | --- |
//! | `Next` | nothing: asks the connection for its next event | `Handle`, `Flush`, `BufferBody` or `AwaitAnswer` |
//! | `BufferBody` | the rest of a small body, on blocking backends | `Handle` |
//! | `AwaitAnswer` | a peer that may have left while its request waited for a thread | `Handle`, or the end |
//! | `Handle` | the handler's future | `Next`, or `Exchange` |
//! | `Exchange` | pieces of a streamed response, and the peer that takes them | `Next`, or the end |
//! | `Flush` | the peer to take what is queued | `Next`, `Read`, `Linger`, or the end |
//! | `Read` | bytes | `Next`, or the end |
//! | `Linger` | the peer to see the last response | the end |

use std::any::Any;
use std::fmt;
use std::future::Future;
use std::io;
use std::num::NonZeroU64;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::sync::{Arc, Weak};
use std::task::{Context, Poll, ready};

use crate::conn::access::AccessLine;
use crate::conn::cancel::{Cancel, LookForPeer};
use crate::conn::context::{self, Peer};
use crate::conn::deadlines::Deadlines;
use crate::conn::exchange::{exchange, give_up, late, panicked};
use crate::conn::handler::Answer;
use crate::conn::io::Io;
use crate::conn::lease::{IoOwner, Lease, Lender};
use crate::conn::liveness::Verdict;
use crate::conn::service::{ConnectionGuard, Service};
use crate::conn::tally::Tally;
use crate::conn::transport::Transport;
use crate::proto::BoxFuture;
use crate::proto::body::{Body, BodyError, Inner as BodyInner};
use crate::proto::connection::{Buffered, Connection, Event};
use crate::proto::error::Error;
use crate::proto::request::Request;
use crate::proto::response::Response;
use crate::runtime::clock::{Clock, CoarseInstant};
use crate::runtime::config::OnDisconnect;
use crate::runtime::park::EventLoopRole;
use crate::runtime::shutdown::Phase;
use crate::runtime::stall::RouteName;

/// Bytes that are read and dropped before closing. Time bounds most of it, because a peer that does not read while it
/// sends sees nothing until everything is sent.
const LINGER: u64 = 64 << 20;
/// How much of that is read before other connections have their turn.
const LINGER_A_TURN: u64 = 256 << 10;

/// Serves a connection that was just accepted to its end. It counts as open until the future is dropped.
pub fn drive<T: Transport>(transport: T, peer: Peer, service: &Arc<Service>) -> Driving<T> {
    let config = &service.config;
    let connection = Connection::new(service.limits.clone(), config.server_header, config.date_header);
    let (guard, has_room) = service.enter();
    let cancel = Cancel::new(service.shutdown.clone());
    let state = ConnectionState {
        guard,
        context: Arc::new(context::Context { peer, runtime: service.runtime.clone(), cancel }),
        served: 0,
        expires: service.clock.unix_seconds().saturating_add(config.max_age.as_secs()),
        linger: LINGER,
    };
    Driving {
        io: IoOwner::Own(Box::new(Io::new(transport, connection, Deadlines::accepted(service)))),
        state: Some(state),
        service: service.clone(),
        lease: None,
        step: if has_room { Step::Next } else { Step::Refuse },
        turn: Tally::default(),
        route: RouteName::NONE,
        now: TurnClock(None),
        since: CoarseInstant::now(),
        is_calling: false,
    }
}

/// The future of [`drive()`]: one connection, from its acceptance to its end.
#[must_use = "a connection is served while this is polled"]
pub struct Driving<T> {
    io: IoOwner<T>,
    /// The last lease, to be used again.
    lease: Option<Arc<Lease<T>>>,
    /// `None` at the end.
    state: Option<ConnectionState>,
    service: Arc<Service>,
    step: Step<T>,
    /// Requests answered in this turn.
    turn: Tally,
    /// The route of the handler that waits.
    route: RouteName,
    now: TurnClock,
    /// Since when this connection, or its handler, has had the thread.
    since: CoarseInstant,
    /// Whether a handler is being called. A panic is then the handler's.
    is_calling: bool,
}

/// What the driver knows of a connection beside its bytes.
struct ConnectionState {
    guard: ConnectionGuard,
    /// What the connection shares with its requests.
    context: Arc<context::Context>,
    /// Requests that were begun.
    served: u64,
    /// When the connection is too old for another request, in seconds since the Unix epoch.
    expires: u64,
    /// How many more bytes are read and dropped before closing.
    linger: u64,
}

impl Drop for ConnectionState {
    fn drop(&mut self) {
        self.context.cancel.set();
    }
}

/// See the table at the top of this file.
enum Step<T> {
    /// There is no room for the connection, and the peer is to be told.
    Refuse,
    Next,
    Flush(Then),
    Read,
    BufferBody(Request),
    AwaitAnswer(Request, BoxFuture<()>),
    Handle(BoxFuture<Response>, OnDisconnect, Option<AccessLine>),
    Exchange(BoxFuture<Option<Box<Io<T>>>>),
    Linger,
}

/// What follows a flush.
#[derive(Clone, Copy)]
enum Then {
    Next,
    /// Other connections have their turn first.
    Yield,
    Read,
    Close,
}

/// What a step came to.
enum Flow {
    Go,
    Close,
}

impl<T> Unpin for Driving<T> {}

/// The time in seconds since the Unix epoch, once it was asked for in this turn.
struct TurnClock(Option<NonZeroU64>);

impl TurnClock {
    /// A handler that must not block has not moved the clock since the turn began.
    #[inline(always)]
    fn seconds(&mut self, clock: &Clock, threads_block: bool) -> u64 {
        match self.0 {
            Some(seconds) if !threads_block => seconds.get(),
            _ => {
                let seconds = clock.unix_seconds();
                self.0 = NonZeroU64::new(seconds);
                seconds
            }
        }
    }
}

impl<T: Transport> Future for Driving<T> {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let this = &mut *self;
        let Some(state) = &mut this.state else { return Poll::Ready(()) };
        state.guard.runs_as(cx);
        if this.service.shutdown.phase() == Phase::Forced {
            if this.is_handling() {
                this.service.was_cut();
            }
            if !matches!(this.step, Step::Exchange(_)) {
                return Poll::Ready(this.end());
            }
        }
        this.now = TurnClock(None);
        let threads_block = this.service.threads_block();
        if !threads_block {
            this.since = CoarseInstant::now();
        }
        let _role = EventLoopRole::enter(!threads_block);
        loop {
            // Once for all the requests of a turn.
            let flow = match catch_unwind(AssertUnwindSafe(|| this.run(cx))) {
                Ok(Poll::Ready(flow)) => flow,
                Ok(Poll::Pending) => return Poll::Pending,
                Err(panic) => this.recover(&*panic),
            };
            match flow {
                Flow::Go => {}
                Flow::Close => return Poll::Ready(this.end()),
            }
        }
    }
}

impl<T> Driving<T> {
    /// Whether a handler is at work: on a blocking backend the connection then keeps its thread while it is pending.
    #[inline]
    pub fn is_handling(&self) -> bool {
        matches!(self.step, Step::Handle(..))
    }
}

impl<T: Transport> Driving<T> {
    fn run(&mut self, cx: &mut Context<'_>) -> Poll<Flow> {
        loop {
            match ready!(self.step(cx)) {
                Flow::Go => {}
                flow => return Poll::Ready(flow),
            }
        }
    }

    /// Goes on after a panic. A handler's panic is answered, and costs nothing else.
    #[cold]
    fn recover(&mut self, panic: &(dyn Any + Send)) -> Flow {
        let mut response = panicked(panic);
        if !std::mem::take(&mut self.is_calling) && !self.is_handling() {
            return Flow::Close;
        }
        self.step = Step::Next;
        if !self.io.with(|io| io.connection.is_body_pending()) {
            self.take_back();
        }
        self.answer(&mut response, None);
        Flow::Go
    }

    #[inline]
    fn step(&mut self, cx: &mut Context<'_>) -> Poll<Flow> {
        let service = &self.service;
        match &mut self.step {
            Step::Next => {
                let IoOwner::Own(io) = &mut self.io else { return Poll::Ready(Flow::Close) };
                match io.connection.next_event() {
                    Event::Request(request) => self.receive(request),
                    Event::NeedBytes => self.step = Step::Flush(Then::Read),
                    Event::Refused(error) => {
                        io.refuse(error, service);
                        self.step = Step::Flush(Then::Close);
                    }
                    Event::Finished | Event::AwaitResponse => self.step = Step::Flush(Then::Close),
                }
            }
            Step::Flush(then) => {
                let then = *then;
                return self.poll_flush(cx, then);
            }
            Step::Read => return self.poll_read(cx),
            Step::Handle(..) => return self.poll_handler(cx),
            Step::Exchange(exchange) => {
                let polled = exchange.as_mut().poll(cx);
                self.handler_paused(1);
                let Some(mut io) = ready!(polled) else { return Poll::Ready(Flow::Close) };
                io.stop_waiting_for_body();
                self.io = IoOwner::Own(io);
                self.step = Step::Next;
                self.turn.responded();
                self.count();
            }
            Step::BufferBody(_) => return self.poll_buffer_body(cx),
            Step::AwaitAnswer(..) => return self.poll_await_answer(cx),
            Step::Linger => return self.poll_linger(cx),
            Step::Refuse => {
                service.was_refused();
                self.io.with(|io| io.refuse(Error::Overload, service));
                self.step = Step::Flush(Then::Close);
            }
        }
        Poll::Ready(Flow::Go)
    }

    /// A request has arrived.
    #[inline(always)]
    fn receive(&mut self, request: Request) {
        match self.service.threads_block() {
            true => self.receive_for_thread(request),
            false => self.begin(request),
        }
    }

    /// On a blocking backend a request holds its thread until its response. A peer that may have left while the request
    /// waited for the thread is asked before that.
    fn receive_for_thread(&mut self, request: Request) {
        let IoOwner::Own(io) = &mut self.io else { return };
        match io.ask_after_long_wait(&self.service) {
            Ok(None) => self.buffer_or_begin(request),
            Ok(Some(timer)) => self.step = Step::AwaitAnswer(request, timer),
            Err(_) => {
                io.connection.close();
                self.step = Step::Flush(Then::Close);
            }
        }
    }

    fn poll_await_answer(&mut self, cx: &mut Context<'_>) -> Poll<Flow> {
        let (IoOwner::Own(io), Step::AwaitAnswer(_, timer)) = (&mut self.io, &mut self.step) else {
            return Poll::Ready(Flow::Close);
        };
        if matches!(io.poll_flush(cx, &self.service), Poll::Ready(Err(_))) {
            return Poll::Ready(Flow::Close);
        }
        ready!(timer.as_mut().poll(cx));
        if io.has_left() {
            return Poll::Ready(Flow::Close);
        }
        if let Step::AwaitAnswer(request, _) = std::mem::replace(&mut self.step, Step::Next) {
            self.buffer_or_begin(request);
        }
        Poll::Ready(Flow::Go)
    }

    /// A small body is awaited before its request begins. A peer that expects `100 Continue` waits for the handler's
    /// decision, so its body is not awaited.
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

    fn poll_buffer_body(&mut self, cx: &mut Context<'_>) -> Poll<Flow> {
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
            // The peer may be waiting for responses to earlier requests.
            if matches!(io.poll_flush(cx, service), Poll::Ready(Err(_))) {
                return Poll::Ready(Flow::Close);
            }
            match ready!(io.poll_read_body(cx, service)) {
                Ok(_) => {}
                Err(error) if error.kind() == io::ErrorKind::TimedOut => {
                    io.connection.fail_body(BodyError::TimedOut);
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

    /// Calls the handler.
    #[inline(always)]
    fn begin(&mut self, mut request: Request) {
        let (IoOwner::Own(io), Some(state)) = (&mut self.io, &mut self.state) else { return };
        let service = &self.service;
        state.served += 1;
        io.deadlines.request_begins();
        request.inner_mut().context = Some(state.context.clone());
        if service.config.max_requests.is_some_and(|max| state.served >= max) {
            io.connection.close_after_this();
        }
        let line = service.config.access_log.then(|| AccessLine::new(state.context.peer, &request));
        io.handler_begins();
        self.turn.begin(service.counters());
        let has_pending_body = io.connection.is_body_pending();
        if has_pending_body || self.service.threads_block() {
            self.lend(has_pending_body.then_some(&mut request));
        }
        self.is_calling = true;
        let mut answer = self.service.handler.call(request);
        self.is_calling = false;
        if !has_pending_body && self.service.threads_block() {
            self.take_back();
        }
        match answer {
            Answer::Ready(ref mut response) => self.answer(response, line),
            Answer::Later(future, policy) => {
                let policy = policy.unwrap_or(self.service.config.on_disconnect);
                self.step = Step::Handle(future, policy, line);
                self.route = RouteName::current();
                self.handler_paused(self.turn.len() + 1);
            }
        }
    }

    /// Shares the connection with a request whose body is still on the wire, or with the tokens of a handler that holds
    /// this thread.
    #[inline(never)]
    fn lend(&mut self, request: Option<&mut Request>) {
        let (service, IoOwner::Own(mut io)) = (&self.service, self.io.take()) else { return };
        let Some(state) = &self.state else { return };
        if request.is_some() && service.clock.unix_seconds() >= state.expires {
            io.connection.close_after_this();
        }
        let lease = match self.lease.take().filter(|lease| Arc::strong_count(lease) == 1) {
            Some(lease) => {
                lease.lend(io);
                lease
            }
            // The body of an earlier request is kept somewhere, and must not find the body of this one.
            None => {
                let lease = Arc::new(Lease::new(io, service.clone()));
                if service.threads_block() {
                    let peer: Weak<dyn LookForPeer> = Arc::<Lease<T>>::downgrade(&lease);
                    state.context.cancel.look_by(peer);
                }
                lease
            }
        };
        if let Some(request) = request {
            request.inner_mut().body = Body::lease(lease.clone());
        }
        self.io = IoOwner::Lent(Lender::new(lease));
    }

    /// Ends the lease of a handler that was called without a body on the wire.
    fn take_back(&mut self) {
        match self.io.take() {
            IoOwner::Lent(lender) => {
                let (io, lease) = lender.end();
                self.lease = Some(lease);
                self.io = io.map_or(IoOwner::Gone, IoOwner::Own);
            }
            owner => self.io = owner,
        }
    }

    fn poll_handler(&mut self, cx: &mut Context<'_>) -> Poll<Flow> {
        let Step::Handle(future, policy, line) = &mut self.step else { return Poll::Ready(Flow::Go) };
        let (service, policy) = (&self.service, *policy);
        let polled = future.as_mut().poll(cx);
        if !service.threads_block() {
            self.since = service.runtime.stalls().polled(self.since, self.route, 1);
        }
        let mut response = match polled {
            Poll::Ready(response) => response,
            Poll::Pending => match ready!(self.io.poll_with(cx, |io, cx| io.poll_watch(cx, service, policy)))
            {
                Verdict::Late => {
                    if let Some(state) = &self.state {
                        state.context.cancel.set();
                    }
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
        let line = line.take();
        // The handler's deadline is not the response's.
        self.io.with(Io::handler_ends);
        self.step = Step::Next;
        self.answer(&mut response, line);
        Poll::Ready(Flow::Go)
    }

    /// Handlers have returned, or the future of one. A handler that had the thread for too long is logged.
    #[inline]
    fn handler_paused(&mut self, handlers: u32) {
        if !self.service.threads_block() {
            self.since = self.service.runtime.stalls().polled(self.since, self.route, handlers);
        }
    }

    /// Queues a response, or begins to stream it. The step is `Next` before, and stays so if that is all. What is left
    /// of `response` is of no use. It is not moved, because that would copy the inline memory of its fields.
    #[inline(always)]
    fn answer(&mut self, response: &mut Response, line: Option<AccessLine>) {
        let service = &self.service;
        let seconds = self.now.seconds(&service.clock, service.threads_block());
        let is_expired = self.state.as_ref().is_some_and(|state| seconds >= state.expires);
        let is_at_hand = matches!(response.body.0, BodyInner::Empty | BodyInner::Full(_));
        let IoOwner::Own(io) = &mut self.io else { return self.exchange(response, line) };
        if is_expired {
            io.connection.close_after_this();
        }
        if !is_at_hand || response.extra.is_some() {
            return self.exchange(response, line);
        }
        if service.shutdown.is_requested() {
            io.close_unless_more_came(service);
            service.answered();
        }
        self.turn.responds(response.status, service.counters());
        if let Some(line) = line {
            line.log(response.status);
        }
        io.connection.respond_in_place(response, seconds);
        self.count();
    }

    /// Begins to send a response that takes more than a call.
    #[inline(never)]
    fn exchange(&mut self, response: &mut Response, line: Option<AccessLine>) {
        if self.service.shutdown.phase() == Phase::Forced {
            // A forced stop ended the waits of the handler. What the handler says of that is not for the peer.
            self.service.was_cut();
            self.io = IoOwner::Gone;
            return;
        }
        let response = std::mem::replace(response, Response::new(Body::empty()));
        let exchange = exchange(self.io.take(), self.service.clone(), response, line);
        self.step = Step::Exchange(Box::pin(exchange));
    }

    /// Counts an answered request: ends the turn, or sends what is queued, if that is enough of it.
    #[inline(always)]
    fn count(&mut self) {
        let (IoOwner::Own(io), service) = (&self.io, &self.service) else { return };
        if self.turn.answered() as usize >= service.limits.pipeline {
            self.step = Step::Flush(Then::Yield);
        } else if io.connection.write_queue().len() >= service.limits.output {
            self.step = Step::Flush(Then::Next);
        }
    }

    #[inline]
    fn poll_flush(&mut self, cx: &mut Context<'_>, then: Then) -> Poll<Flow> {
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
    fn poll_read(&mut self, cx: &mut Context<'_>) -> Poll<Flow> {
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
                if let Some(state) = self.state.as_ref().filter(|_| service.threads_block()) {
                    state.context.cancel.stop_looking();
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
    fn poll_linger(&mut self, cx: &mut Context<'_>) -> Poll<Flow> {
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

    fn end(&mut self) {
        // A handler that waits is dropped before its connection.
        self.step = Step::Next;
        // Before the connection counts as closed.
        self.turn.settle(self.service.counters());
        self.io = IoOwner::Gone;
        self.state = None;
    }
}

impl<T> Drop for Driving<T> {
    fn drop(&mut self) {
        self.turn.settle(self.service.counters());
    }
}

impl<T> fmt::Debug for Driving<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Driving").field("is_handling", &self.is_handling()).finish_non_exhaustive()
    }
}
