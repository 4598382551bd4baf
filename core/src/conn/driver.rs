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

mod blocking;
mod handling;
mod step;
mod transfer;

use std::any::Any;
use std::fmt;
use std::future::Future;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use crate::conn::cancel::Cancel;
use crate::conn::context::{self, Peer};
use crate::conn::deadlines::Deadlines;
use crate::conn::driver::step::{Flow, Step, Then};
use crate::conn::exchange::panicked;
use crate::conn::io::Io;
use crate::conn::lease::{IoOwner, Lease};
use crate::conn::service::{ConnectionGuard, Service};
use crate::conn::tally::Tally;
use crate::conn::transport::Transport;
use crate::proto::connection::{Connection, Event};
use crate::proto::error::Error;
use crate::proto::request::Request;
use crate::runtime::clock::{Clock, CoarseInstant};
use crate::runtime::park::EventLoopRole;
use crate::runtime::shutdown::Phase;
use crate::runtime::stall::RouteName;

/// Bytes that are read and dropped before closing. Time bounds most of it, because a peer that does not read while it
/// sends sees nothing until everything is sent.
const LINGER: u64 = 64 << 20;

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
        io: IoOwner::Own(Io::new(transport, connection, Deadlines::accepted(service))),
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

impl<T> Unpin for Driving<T> {}

/// The time in seconds since the Unix epoch, once it was asked for in this turn.
struct TurnClock(Option<u64>);

impl TurnClock {
    /// A handler that must not block has not moved the clock since the turn began.
    #[inline]
    fn seconds(&mut self, clock: &Clock, threads_block: bool) -> u64 {
        match self.0 {
            Some(seconds) if !threads_block => seconds,
            _ => *self.0.insert(clock.unix_seconds()),
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
        let response = panicked(panic);
        if !std::mem::take(&mut self.is_calling) && !self.is_handling() {
            return Flow::Close;
        }
        self.step = Step::Next;
        if !self.io.with(|io| io.connection.is_body_pending()) {
            self.take_back();
        }
        self.answer(response, None);
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
            Step::AwaitProbe(..) => return self.poll_await_probe(cx),
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
    #[inline]
    fn receive(&mut self, request: Request) {
        match self.service.threads_block() {
            true => self.receive_for_thread(request),
            false => self.begin(request),
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
